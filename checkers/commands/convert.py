"""`hwmark convert`: a history in another notation, Jepsen's EDN or JSON lines, or as Elle's transactions."""

from __future__ import annotations

import argparse
import sys

from hwmark.checkers.verdict import EXIT_HOLDS
from hwmark.traces.errors import BadInputError


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("file", metavar="FILE", help="a history, as `hwmark history` reads it; - reads standard input")
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="FILE",
        help="the file; its name ends in .edn or .jsonl, or either and .gz; - is standard output",
    )
    parser.add_argument(
        "--format", choices=("edn", "jsonl"), help="the notation, where the name of the output does not tell it"
    )
    parser.add_argument(
        "--elle",
        choices=("rw-register", "list-append"),
        help="write what this model of Elle can say of the history: rw-register who read whom, list-append the log "
        "that the closing read found",
    )


def run(arguments: argparse.Namespace) -> int:
    """Convert the history, and say on standard error how long it became."""
    from hwmark.traces.history_convert import convert

    output = arguments.output
    notation = arguments.format or _notation(output)
    lines = convert(arguments.file, output, notation=notation, elle=arguments.elle)
    print(f"wrote {lines} lines to {'standard output' if output == '-' else output}", file=sys.stderr)
    return EXIT_HOLDS


def _notation(output: str) -> str:
    """The notation that the name of a file promises."""
    name = output.removesuffix(".gz")
    for notation in ("edn", "jsonl"):
        if name.endswith(f".{notation}"):
            return notation
    raise BadInputError(output, None, "the name does not tell the notation; expected .edn or .jsonl, or --format")
