"""`hwmark draw`: the picture of a trace, of a cluster's run or of a history.

A run is a sequence diagram with a lane per machine. A history has two pictures: the *story* of a partition's loss as a
table, and the *timeline* of one anomaly. A page has both, and the whole recording besides.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hwmark.checkers.verdict import EXIT_HOLDS
from hwmark.traces.errors import BadInputError

if TYPE_CHECKING:
    from hwmark.traces.run_rows import Choice

SUFFIXES = (".svg", ".dot", ".html", ".png")
STORY, TIMELINE = "story", "timeline"

_HISTORY_OPTIONS = {"--as": "kind", "--around": "around"}
_RUN_OPTIONS = {"--all": "all", "--steps": "steps"}
"""Options that are for one kind of file only, with the names of their arguments."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("file", metavar="TRACE|HISTORY", help="a trace of a model or of a cluster's run, or a history")
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="FILE",
        help=f"the picture; its suffix says in which form: {', '.join(SUFFIXES)} (.png needs a rasteriser)",
    )
    parser.add_argument(
        "--as",
        dest="kind",
        choices=(STORY, TIMELINE),
        help="of a history: the story of what one partition lost as a table, or an anomaly on a timeline (default: the "
        "story if acknowledged values are lost, else the timeline; a page always has both)",
    )
    parser.add_argument(
        "--around",
        metavar="ANOMALY[/N]|INDEX",
        help="of a history: the timeline of this anomaly (as G1a, or G1a/2 for the third of its kind), or around the "
        "operation with this index (default: the first anomaly that counts)",
    )
    parser.add_argument("--via", choices=("assign", "subscribe"), help="of a history: as for `hwmark history`")
    parser.add_argument(
        "--all", action="store_true", help="of a cluster's run: every step, the quiet ones, which changed nothing, too"
    )
    parser.add_argument("--steps", metavar="FIRST-LAST", help="of a cluster's run: only these; 100- for 100 to the end")
    parser.add_argument("--ww-deps", action="store_true", help="of a history: as for `hwmark history`")


def run(arguments: argparse.Namespace) -> int:
    """Draw the file; a trace is told from a history by its first line."""
    suffix = Path(arguments.output).suffix
    if suffix not in SUFFIXES:
        raise BadInputError(arguments.output, None, f"unknown suffix {suffix!r}; known are {', '.join(SUFFIXES)}")
    picture = _picture(arguments, suffix)
    try:
        Path(arguments.output).write_bytes(picture)
    except OSError as error:
        raise BadInputError(arguments.output, None, (error.strerror or str(error)).lower()) from error
    print(f"drew {arguments.output}", file=sys.stderr)
    return EXIT_HOLDS


def _picture(arguments: argparse.Namespace, suffix: str) -> bytes:
    """The picture as the bytes of its file."""
    from hwmark.traces.trace import is_trace

    if is_trace(arguments.file):
        return _trace_picture(arguments, suffix)
    return _history_picture(arguments, suffix)


def _refuse(options: dict[str, str], arguments: argparse.Namespace, what: str) -> None:
    """Refuse options that say nothing about a file like this one."""
    for option, name in options.items():
        if getattr(arguments, name) not in (None, False):
            raise BadInputError(option, None, f"{arguments.file} is {what}")


def _choice(arguments: argparse.Namespace, count: int) -> Choice:
    """The steps of a run that were asked for, of so many."""
    from hwmark.traces.run_rows import Choice

    if arguments.steps is None:
        return Choice(arguments.all)
    first, dash, last = arguments.steps.partition("-")
    is_range = dash and first.isdecimal() and (last.isdecimal() or not last)
    if not is_range or (last and int(last) < int(first)):
        raise BadInputError(
            "--steps", None, f"{arguments.steps!r} is no range of steps; expected one as 100-200 or 100-"
        )
    if int(first) > count:
        raise BadInputError("--steps", None, f"there is no step {int(first)} in {arguments.file}, which has {count:,}")
    return Choice(arguments.all, int(first), int(last) if last else None)


def _trace_picture(arguments: argparse.Namespace, suffix: str) -> bytes:
    from hwmark.traces.diagram import trace_dot
    from hwmark.traces.render import html_page, render
    from hwmark.traces.run import is_run
    from hwmark.traces.run_picture import run_dot
    from hwmark.traces.trace import read_trace

    _refuse(_HISTORY_OPTIONS, arguments, "a trace; expected a history")
    trace = read_trace(arguments.file)
    if is_run(trace):
        dot = run_dot(trace, _choice(arguments, len(trace.steps)), arguments.file)
    else:
        _refuse(_RUN_OPTIONS, arguments, "a trace of a model; expected a cluster's run")
        dot = trace_dot(trace)
    if suffix == ".html":
        return html_page(Path(arguments.file).name, render(dot, "svg"))
    return render(dot, suffix[1:])


def _history_picture(arguments: argparse.Namespace, suffix: str) -> bytes:
    from hwmark.checkers.histories import check
    from hwmark.traces.history import read_history
    from hwmark.traces.history_picture import draw_history
    from hwmark.traces.render import render
    from hwmark.traces.timeline_picture import draw_timeline, is_for_timeline

    _refuse(_RUN_OPTIONS, arguments, "a history; expected a cluster's run")
    history = read_history(arguments.file)
    report = check(history, via=arguments.via, ww_deps=arguments.ww_deps).to_json()
    if suffix == ".html":
        from hwmark.checkers.histories.kinds import KINDS
        from hwmark.traces.timeline_page import timeline_page

        meanings = {name: kind.meaning for name, kind in KINDS.items()}
        return timeline_page(history, report, arguments.around, meanings)
    kind = arguments.kind or (TIMELINE if arguments.around or is_for_timeline(report) else STORY)
    if kind == STORY and arguments.around:
        raise BadInputError("--around", None, f"a story has no such place; expected --as {TIMELINE}")
    dot = draw_timeline(history, report, arguments.around) if kind == TIMELINE else draw_history(history, report)
    return render(dot, suffix[1:])
