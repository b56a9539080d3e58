"""`hwmark history`: judge recorded histories, one report per file and the worst exit status of all."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from hwmark.checkers.commands.answers import print_json
from hwmark.checkers.verdict import EXIT_BAD_INPUT, exit_status
from hwmark.traces.errors import BadInputError


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="a history, JSON lines in the format of Jepsen's Kafka workload"
    )
    parser.add_argument(
        "--via",
        choices=("assign", "subscribe"),
        default="assign",
        help="how its consumers got their partitions; subscribe excuses poll-skip and nonmonotonic-poll, "
        "which are not looked for yet (default: assign)",
    )
    parser.add_argument(
        "--ww-deps",
        action="store_true",
        help="count write-write dependencies in cycles; excuses G1c and its kin, which are not looked for yet",
    )
    parser.add_argument(
        "--allow",
        nargs="+",
        action="extend",
        default=[],
        metavar="ANOMALY",
        help="report these anomalies, but do not call a history invalid for them (give the files first)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object on standard output instead of text")


def run(arguments: argparse.Namespace) -> int:
    """Judge every file; an unusable one does not keep the others from being judged."""
    _refuse_unknown(arguments.allow)
    started = time.perf_counter()
    judged = [_judge(file, arguments) for file in arguments.files]
    if arguments.json:
        reports = [report for _, report in judged]
        together = reports[0] if len(reports) == 1 else {"files": reports}
        print_json(together | {"seconds": round(time.perf_counter() - started, 6)})
    return max(status for status, _ in judged)


def _refuse_unknown(allow: list[str]) -> None:
    """Raise BadInputError for a name that is no anomaly."""
    from hwmark.checkers.histories.kinds import KNOWN

    for name in allow:
        if name not in KNOWN:
            raise BadInputError("--allow", None, f"unknown anomaly {name!r}; known are {', '.join(sorted(KNOWN))}")


def _judge(file: str, arguments: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    """The exit status and the JSON report of one file; the text for people is printed."""
    from hwmark.checkers.histories import check
    from hwmark.checkers.histories.text import describe
    from hwmark.traces.history import read_history

    started = time.perf_counter()
    try:
        history = read_history(file)
    except BadInputError as error:
        if len(arguments.files) == 1:
            raise
        print(f"hwmark: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT, {"file": file, "valid": None, "error": str(error)}
    report = check(history, allow=arguments.allow, via=arguments.via, ww_deps=arguments.ww_deps)
    if not arguments.json:
        print(describe(history, report), end="\n\n" if len(arguments.files) > 1 else "\n", file=sys.stderr)
    elapsed = round(time.perf_counter() - started, 6)
    return exit_status(report.verdict()), report.to_json() | {"seconds": elapsed}
