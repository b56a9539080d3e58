"""`hwmark history`: judge recorded histories, one report per file and the worst exit status of all."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hwmark.checkers.commands.answers import require_standard_input_once
from hwmark.checkers.verdict import EXIT_BAD_INPUT, exit_status
from hwmark.traces.errors import BadInputError

if TYPE_CHECKING:
    from hwmark.checkers.histories import HistoryReport
    from hwmark.traces.history import History


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="a history in the format of Jepsen's Kafka workload, as JSON lines or EDN, gzip or not; - reads standard "
        "input",
    )
    parser.add_argument(
        "--via",
        choices=("assign", "subscribe"),
        help="how its consumers got their partitions; subscribe excuses poll-skip and nonmonotonic-poll, which a "
        "rebalance explains (default: as the recording says, else assign)",
    )
    parser.add_argument(
        "--ww-deps",
        action="store_true",
        help="count in cycles that one write came before another; excuses G1c and its kin, because Kafka does not "
        "isolate writes",
    )
    parser.add_argument(
        "--allow",
        nargs="+",
        action="extend",
        default=[],
        metavar="ANOMALY",
        help="report these anomalies, but do not call a history invalid for them (give the files first)",
    )
    parser.add_argument(
        "--lenient", action="store_true", help="leave out lines that are no part of a history, and say which"
    )
    parser.add_argument(
        "--compat",
        action="store_true",
        help="judge as Jepsen's checker does, quirks included, and look for nothing more",
    )
    parser.add_argument(
        "--explain",
        action="store_true",
        help="ask Z3 for the fewest operations that cannot be explained together, and what became of operations of "
        "unknown outcome",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object on standard output instead of text")


def run(arguments: argparse.Namespace) -> int:
    """Judge every file; an unusable one does not keep the others from being judged."""
    _refuse_unknown(arguments.allow)
    require_standard_input_once(arguments.files)
    started = time.perf_counter()
    alone = len(arguments.files) == 1
    judged = (_judge(file, arguments, alone) for file in arguments.files)
    tell = _tell_json if arguments.json else _tell_text
    return max(tell(judged, alone, started))


def _refuse_unknown(allow: list[str]) -> None:
    """Raise BadInputError for a name that is no anomaly."""
    from hwmark.checkers.histories.kinds import KNOWN

    for name in allow:
        if name not in KNOWN:
            raise BadInputError("--allow", None, f"unknown anomaly {name!r}; known are {', '.join(sorted(KNOWN))}")


@dataclass(frozen=True)
class Judged:
    """One file's history with its report and what JSON adds to it; of an unusable file only why."""

    file: str
    status: int
    read: tuple[History, HistoryReport] | None
    more: dict[str, Any]


def _judge(file: str, arguments: argparse.Namespace, alone: bool) -> Judged:
    """Judge one file; raises BadInputError if it is unusable and the only one."""
    from hwmark.checkers.histories import check
    from hwmark.traces.history import read_history

    started = time.perf_counter()
    try:
        history = read_history(file, lenient=arguments.lenient)
    except BadInputError as error:
        if alone:
            raise
        return Judged(file, EXIT_BAD_INPUT, None, {"error": str(error)})
    report = check(
        history, allow=arguments.allow, via=arguments.via, ww_deps=arguments.ww_deps, compat=arguments.compat
    )
    dropped = [{"line": line, "reason": reason} for line, reason in history.dropped]
    more: dict[str, Any] = {"dropped": dropped}
    if arguments.explain:
        from hwmark.checkers.histories.explain import explain

        more["explanation"] = explain(history, report, arguments.via or history.via)
    more["seconds"] = round(time.perf_counter() - started, 6)
    return Judged(file, exit_status(report.verdict()), (history, report), more)


def _tell_text(judged: Iterable[Judged], alone: bool, started: float) -> Iterator[int]:
    """The reports for people, on standard error; yields the exit statuses."""
    from hwmark.checkers.histories.text import describe

    for one in judged:
        if one.read is None:
            print(f"hwmark: {one.more['error']}", file=sys.stderr)
        else:
            print(describe(*one.read), file=sys.stderr)
            if "explanation" in one.more:
                from hwmark.checkers.histories.explain_text import describe_explanation

                print("\n" + describe_explanation(one.more["explanation"]), file=sys.stderr)
            if not alone:
                print(file=sys.stderr)
        yield one.status


def _tell_json(judged: Iterable[Judged], alone: bool, started: float) -> Iterator[int]:
    """One JSON object on standard output, written file by file and piece by piece; yields the exit statuses."""
    import orjson
    from hwmark.checkers.histories.stream import report_pieces

    out = sys.stdout.write
    for number, one in enumerate(judged):
        if not alone:
            out(", " if number else '{"files": [')
        if one.read is None:
            print(f"hwmark: {one.more['error']}", file=sys.stderr)
            out(orjson.dumps({"file": one.file, "valid": None} | one.more).decode())
        else:
            for piece in report_pieces(one.read[1], one.more):
                out(piece.decode())
        yield one.status
    out("\n" if alone else f'], "seconds": {time.perf_counter() - started:.6f}}}\n')
