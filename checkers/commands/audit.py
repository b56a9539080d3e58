"""`hwmark audit`: the log directories of stopped brokers, and what they say about lost or damaged data."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from hwmark.checkers.commands.answers import at_least_one, print_json
from hwmark.checkers.verdict import exit_status
from hwmark.traces.errors import BadInputError

if TYPE_CHECKING:
    from hwmark.checkers.audit import AuditReport, Wanted
    from hwmark.checkers.audit.directories import LogDirectory

MILLISECONDS = 1000
DAY_SECONDS = 86_400


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "directories",
        nargs="+",
        metavar="DIR",
        help="a broker's log directory (log.dirs), a folder with several of them, or the folder of one partition",
    )
    parser.add_argument(
        "--history", metavar="FILE", help="a recorded history: say which replica still holds the values that it misses"
    )
    parser.add_argument(
        "--topic", metavar="NAME", help="the topic whose partitions the history's keys are (default: as it says)"
    )
    parser.add_argument(
        "--records", action="store_true", help="take the records of compressed batches apart too, which takes longer"
    )
    parser.add_argument(
        "--producer-expiration",
        type=at_least_one,
        default=DAY_SECONDS,
        metavar="SECONDS",
        help="after which pause brokers forget a producer, so that its sequence may break: the cluster's "
        "producer.id.expiration.ms (default: a day)",
    )
    parser.add_argument(
        "--running",
        action="store_true",
        help="read directories that a running broker holds; what it writes meanwhile may look torn",
    )
    parser.add_argument("--workers", type=at_least_one, metavar="N", help="threads that read (default: the processors)")
    parser.add_argument("--json", action="store_true", help="print one JSON object on standard output instead of text")


def run(arguments: argparse.Namespace) -> int:
    """Audit the directories."""
    if arguments.topic and not arguments.history:
        raise BadInputError("--topic", None, "it is for the keys of a history; expected --history too")
    from hwmark.checkers.audit import find_log_directories

    started = time.perf_counter()
    directories = find_log_directories(arguments.directories, running=arguments.running)
    wanted = _wanted(arguments, directories) if arguments.history else None
    reading = time.perf_counter()
    report = _audit(arguments, directories, wanted)
    ended = time.perf_counter()
    if arguments.json:
        print_json(report.to_json() | {"seconds": round(ended - started, 6)})
    else:
        print("\n".join(report.text(ended - reading)), file=sys.stderr)
    return exit_status(report.verdict())


def _wanted(arguments: argparse.Namespace, directories: list[LogDirectory]) -> Wanted:
    """The values that the history misses."""
    from hwmark.checkers.audit import Wanted
    from hwmark.checkers.histories import check
    from hwmark.traces.history import read_history

    history = read_history(arguments.history)
    there = {partition for directory in directories for partition in directory.partitions}
    return Wanted.of_history(history, check(history).anomalies, arguments.topic, there)


def _audit(arguments: argparse.Namespace, directories: list[LogDirectory], wanted: Wanted | None) -> AuditReport:
    """Audit with progress on standard error."""
    from hwmark.checkers.audit import audit, bytes_of
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=bytes_of(directories))
        return audit(
            directories,
            wanted=wanted,
            every_record=arguments.records,
            expiration_ms=arguments.producer_expiration * MILLISECONDS,
            workers=arguments.workers,
            read=lambda count: progress.advance(task, count),
        )
