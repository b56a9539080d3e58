"""What the commands that look for violations have in common: the trace that is kept, and how the answer is told."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwmark.checkers.verdict import Unknown, Violated, verdict_name
from hwmark.spec.errors import SpecError
from hwmark.traces.errors import BadInputError

if TYPE_CHECKING:
    from hwmark.checkers.verdict import Holds
    from hwmark.spec.instance import Instance
    from hwmark.traces.trace import Trace


def configure_answer(parser: argparse.ArgumentParser) -> None:
    """Declare --trace and --json."""
    parser.add_argument(
        "--trace", metavar="FILE", help="write the counterexample here, for `hwmark replay` and `hwmark draw`"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object on standard output instead of text")


def at_least_one(text: str) -> int:
    """The type of an argument that counts something."""
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 on, not {text!r}")
    return value


def require_folder(option: str, path: str | Path | None) -> None:
    """Refuse, before a long search, a path that nothing can be written under."""
    if path is not None and not Path(path).is_dir():
        raise SpecError(f"{option}: there is no folder {path}")


def require_standard_input_once(files: list[str]) -> None:
    """Refuse to read "-", the standard input, a second time."""
    if files.count("-") > 1:
        raise BadInputError("-", None, "standard input is given twice; expected it once")


def keep(file: str | None, trace: Trace | None) -> None:
    """Write the trace, if there is one and a file for it."""
    if file is None or trace is None:
        return
    from hwmark.traces.trace import write_trace

    try:
        write_trace(file, trace)
    except OSError as error:
        raise SpecError(f"--trace {file}: {(error.strerror or str(error)).lower()}") from None


def answer(
    instance: Instance, verdict: Holds | Violated[Trace] | Unknown, error: str | None, **more: Any
) -> dict[str, Any]:
    """The JSON object; the list of a trace begins with the initial state, so that its length counts states."""
    from hwmark.spec.catalogue import spelled
    from hwmark.traces.trace import states_of

    violated = verdict if isinstance(verdict, Violated) else None
    return {
        "model": instance.model.family,
        "variant": instance.model.variant,
        "bounds": instance.bounds,
        "verdict": verdict_name(verdict),
        "violated": spelled(violated.name) if violated else None,
        "why": verdict.why if isinstance(verdict, Unknown) else None,
        "error": error,
        "trace": states_of(violated.witness) if violated else None,
        "witness": violated.witness.witness if violated else None,
        **more,
    }


def print_json(report: dict[str, Any]) -> None:
    """One JSON object on standard output."""
    import orjson

    sys.stdout.write(orjson.dumps(report).decode() + "\n")


def print_text(lines: list[str], trace: Trace | None, file: str | None) -> None:
    """What people read, on standard error; the counterexample in full on standard output."""
    from hwmark.traces.text import trace_text

    if trace is not None:
        sys.stdout.write(trace_text(trace))
        sys.stdout.flush()
        lines = [*lines, f"trace: {file}" if file else "add --trace FILE to keep the counterexample"]
    print("\n".join(lines), file=sys.stderr)
