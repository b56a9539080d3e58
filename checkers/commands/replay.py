"""`hwmark replay`: a trace step by step as text, and whether the model can take these very steps."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, Any

from hwmark.checkers.commands.answers import print_json
from hwmark.checkers.verdict import EXIT_HOLDS, EXIT_VIOLATED

if TYPE_CHECKING:
    from hwmark.traces.trace import Trace


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("trace", metavar="TRACE", help="a trace, as `hwmark check --trace FILE` writes it")
    parser.add_argument("--no-verify", action="store_true", help="print the trace without asking the model about it")
    parser.add_argument("--spec", metavar="FILE.py", help="the model is in this file, as in `hwmark check FILE.py`")
    parser.add_argument("--json", action="store_true", help="print one JSON object on standard output instead of text")


def run(arguments: argparse.Namespace) -> int:
    """Print the trace; unless told otherwise, take every step in the model too and compare."""
    from hwmark.traces.run import is_run
    from hwmark.traces.text import trace_text
    from hwmark.traces.trace import read_trace

    started = time.perf_counter()
    trace = read_trace(arguments.trace)
    if not arguments.json:
        sys.stdout.write(trace_text(trace))
    mismatch = None if arguments.no_verify else _mismatch(trace, arguments)
    if arguments.json:
        verified = None if arguments.no_verify else mismatch is None
        _print_json(arguments.trace, trace, verified, mismatch, time.perf_counter() - started)
    elif not arguments.no_verify:
        what = "the cluster" if is_run(trace) else "the model"
        words = f"{what} takes the same steps" if mismatch is None else f"not a run of {what}: {mismatch}"
        print(words, file=sys.stderr)
    return EXIT_HOLDS if mismatch is None else EXIT_VIOLATED


def _mismatch(trace: Trace, arguments: argparse.Namespace) -> str | None:
    """Where the model, or the cluster, leaves the trace; None if it never does."""
    from hwmark.checkers.commands.instances import find_in_file
    from hwmark.checkers.replay import verify, verify_run
    from hwmark.traces.run import is_run

    if arguments.spec is not None:
        return verify_run(find_in_file(arguments.spec, trace.variant).at(**trace.bounds), trace)
    if is_run(trace):
        from hwmark.checkers.simulation import export

        return export.verify_run(trace, arguments.trace)
    return verify(trace)


def _print_json(file: str, trace: Trace, verified: bool | None, mismatch: str | None, seconds: float) -> None:
    """One JSON object on standard output: the trace as in its file, and whether the model agrees."""
    from hwmark.traces.trace import header_of, steps_of

    report: dict[str, Any] = {"file": file, **header_of(trace), "steps": steps_of(trace)}
    report |= {"verified": verified, "mismatch": mismatch, "seconds": round(seconds, 6)}
    print_json(report)
