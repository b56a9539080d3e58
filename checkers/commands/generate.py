"""`hwmark generate`: histories of a simulated, correct Kafka, with anomalies planted where wanted."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from hwmark.checkers.commands.answers import at_least_one
from hwmark.checkers.verdict import EXIT_HOLDS

if TYPE_CHECKING:
    from hwmark.traces.generator import Generated


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare what there is to generate, and the arguments of each."""
    things = parser.add_subparsers(dest="thing", required=True, metavar="THING")
    what = "a history: valid, but for the anomalies that are planted"
    history = things.add_parser("history", help=what, description=f"Generate {what}.")
    history.add_argument("--lines", type=at_least_one, required=True, metavar="N", help="its length in lines")
    history.add_argument("--txn", action="store_true", help="transactions of up to four sends and polls each")
    history.add_argument(
        "--anomaly",
        nargs="+",
        action="extend",
        default=[],
        metavar="A",
        help="plant one anomaly of this type, in the middle; may be repeated",
    )
    history.add_argument("--seed", type=int, default=0, help="equal seeds give equal files (default: 0)")
    history.add_argument("--partitions", type=at_least_one, default=3, metavar="N", help="(default: 3)")
    history.add_argument("--processes", type=at_least_one, default=5, metavar="N", help="(default: 5)")
    history.add_argument("--group", metavar="G", help="let one process consume, transform and produce for this group")
    history.add_argument("--format", choices=("jsonl", "edn"), default="jsonl", help="(default: jsonl)")
    history.add_argument(
        "-o", "--output", required=True, metavar="FILE", help="the file; .gz compresses it, - is standard output"
    )


def run(arguments: argparse.Namespace) -> int:
    """Generate the history, and say on standard error what was planted."""
    from hwmark.traces.generator import Shape, write_generated

    shape = Shape(
        lines=arguments.lines,
        transactional=arguments.txn,
        anomalies=tuple(arguments.anomaly),
        seed=arguments.seed,
        partitions=arguments.partitions,
        processes=arguments.processes,
        group=arguments.group,
        notation=arguments.format,
    )
    print(_told(write_generated(arguments.output, shape), arguments.output), file=sys.stderr)
    return EXIT_HOLDS


def _told(generated: Generated, output: str) -> str:
    """What was written and planted, a line each."""
    name = "standard output" if output == "-" else output
    lines = [f"wrote {generated.lines} lines to {name}"]
    for planted in generated.planted:
        keys = " and ".join(map(str, planted.keys))
        operations = ", ".join(map(str, planted.operations))
        lines.append(f"planted {planted.name}: operations {operations}, key{'s' * (len(planted.keys) > 1)} {keys}")
    return "\n".join(lines)
