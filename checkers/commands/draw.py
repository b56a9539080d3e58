"""`hwmark draw`: the picture of a trace or of a history."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hwmark.checkers.verdict import EXIT_HOLDS
from hwmark.traces.errors import BadInputError

SUFFIXES = (".svg", ".dot", ".html", ".png")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("file", metavar="TRACE|HISTORY", help="a trace that `hwmark check` wrote, or a history")
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="FILE",
        help=f"the picture; its suffix says in which form: {', '.join(SUFFIXES)} (.png needs a rasteriser)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Draw the file; a trace is told from a history by its first line."""
    suffix = Path(arguments.output).suffix
    if suffix not in SUFFIXES:
        raise BadInputError(arguments.output, None, f"unknown suffix {suffix!r}; known are {', '.join(SUFFIXES)}")
    picture = _picture(_dot(arguments.file), suffix, title=Path(arguments.file).name)
    try:
        Path(arguments.output).write_bytes(picture)
    except OSError as error:
        raise BadInputError(arguments.output, None, (error.strerror or str(error)).lower()) from error
    print(f"drew {arguments.output}", file=sys.stderr)
    return EXIT_HOLDS


def _picture(dot: str, suffix: str, title: str) -> bytes:
    from hwmark.traces.render import html_page, render

    return html_page(title, render(dot, "svg")) if suffix == ".html" else render(dot, suffix[1:])


def _dot(file: str) -> str:
    """The DOT source of the file's picture."""
    from hwmark.traces.diagram import trace_dot
    from hwmark.traces.trace import is_trace, read_trace

    return trace_dot(read_trace(file)) if is_trace(file) else _history_dot(file)


def _history_dot(file: str) -> str:
    from hwmark.checkers.histories import check
    from hwmark.traces.history import read_history
    from hwmark.traces.history_picture import draw_history

    history = read_history(file)
    return draw_history(history, check(history).to_json())
