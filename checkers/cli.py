"""The command `hwmark`: subcommands, exit statuses, and one line for any unusable input."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn, TextIO

from hwmark.checkers.verdict import EXIT_BAD_INPUT, EXIT_UNKNOWN, StoppedError
from hwmark.spec.errors import SpecError
from hwmark.traces.errors import BadInputError

COMMANDS = {
    "audit": "examine the log directories of stopped brokers for lost, damaged or diverging data",
    "bugs": "look for known bugs again: the faults that the reference implementation can be given",
    "check": "check every reachable state of a model against its invariants",
    "cluster": "start real brokers on this machine, look at them, fault them, stop them",
    "convert": "write a history as EDN for Jepsen or Elle, or as JSON lines",
    "draw": "draw a trace or a history as a picture",
    "generate": "generate histories of a simulated Kafka, valid or with chosen anomalies",
    "history": "judge recorded histories of real clusters",
    "linearizable": "judge whether operations on an object, or on partition logs, are linearizable",
    "models": "list what there is to check: models, variants, bounds, invariants",
    "prove": "look for the shortest violation of an invariant with Z3, where there are too many states to explore",
    "record": "record a history of a real cluster, with faults on one of its own, and judge it",
    "replay": "step through a trace, and verify it against the model",
    "simulate": "run clusters of the reference implementation under faults, everything drawn from a seed",
}


class Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Exit with status 2."""
        self.exit(EXIT_BAD_INPUT, f"{self.prog}: {message} (see {self.prog} --help)\n")


def parser() -> argparse.ArgumentParser:
    """The whole command line, every subcommand configured by its own module."""
    top = Parser(
        prog="hwmark",
        description="Verify Kafka's replication and exactly-once protocols.",
        epilog="Exit status: 0 it holds, 1 it is violated, 2 unusable input, 3 unknown (a limit was reached).",
    )
    subparsers = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, what in COMMANDS.items():
        command = importlib.import_module(f"hwmark.checkers.commands.{name}")
        subparser = subparsers.add_parser(name, help=what, description=what[0].upper() + what[1:] + ".")
        command.configure(subparser)
        subparser.set_defaults(run=command.run)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit status."""
    _open_closed_streams()
    try:
        arguments = parser().parse_args(argv)
        status: int = arguments.run(arguments)
        sys.stdout.flush()
    except (BadInputError, SpecError) as error:
        print(f"hwmark: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except BrokenPipeError:
        _silence(sys.stdout)  # whoever read our output has heard enough
        return EXIT_UNKNOWN
    except OSError as error:  # what cannot be read is bad input already
        _silence(sys.stdout)
        with suppress(OSError):
            where = error.filename or "the answer cannot be written"
            print(f"hwmark: {where}: {(error.strerror or str(error)).lower()}", file=sys.stderr)
        _silence(sys.stderr)
        return EXIT_BAD_INPUT
    except StoppedError as error:
        print(f"hwmark: stopped: {error}", file=sys.stderr)
        return EXIT_UNKNOWN
    except KeyboardInterrupt:
        print("hwmark: stopped", file=sys.stderr)
        return EXIT_UNKNOWN
    return status


def _open_closed_streams() -> None:
    """Give Python the standard streams that whoever started it had closed: nothing to read, nobody who listens."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115


def _silence(stream: TextIO) -> None:
    """Write no more; Python would complain once more when it flushes at the end."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


if __name__ == "__main__":
    sys.exit(main())
