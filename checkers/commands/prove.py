"""`hwmark prove`: what Z3 can say about a model that is too large to explore."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwmark.checkers.commands.instances import configure_instance, instance_of
from hwmark.checkers.verdict import Holds, Unknown, exit_status, verdict_name
from hwmark.spec.errors import SpecError

if TYPE_CHECKING:
    from hwmark.checkers.prove.bmc import Proof


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    configure_instance(parser)
    parser.add_argument("--invariant", required=True, metavar="NAME", help="the invariant to look for a violation of")
    parser.add_argument(
        "--method",
        choices=("bmc", "induction"),
        default="bmc",
        help="bmc: the shortest run that violates it, by bounded model checking (default); induction: comes later",
    )
    parser.add_argument(
        "--depth", type=_at_least_one, metavar="N", help="look at runs of at most N states (default: 20)"
    )
    parser.add_argument(
        "--timeout", type=_seconds, metavar="SECONDS", help="stop after so many seconds: verdict unknown"
    )
    parser.add_argument(
        "--trace", metavar="FILE", help="write the counterexample here, for `hwmark replay` and `hwmark draw`"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object on standard output instead of text")


def _at_least_one(text: str) -> int:
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 on, not {text!r}")
    return value


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of seconds above 0, not {text!r}")
    return value


def run(arguments: argparse.Namespace) -> int:
    """Look, report, and write the trace if there is one and a file for it."""
    if arguments.method == "induction":
        raise SpecError("--method induction comes later; --method bmc looks for violations")
    if arguments.trace and not Path(arguments.trace).parent.is_dir():
        raise SpecError(f"--trace {arguments.trace}: there is no folder {Path(arguments.trace).parent}")
    proof = _prove(arguments)
    if arguments.trace and proof.trace is not None:
        _write(arguments.trace, proof)
    if arguments.json:
        import orjson

        sys.stdout.write(orjson.dumps(report(proof)).decode() + "\n")
    else:
        _print(proof, arguments.trace)
    return exit_status(proof.verdict)


def _prove(arguments: argparse.Namespace) -> Proof:
    from hwmark.checkers.prove.bmc import DEPTH_DEFAULT, bounded_model_check
    from hwmark.spec.catalogue import find_properties

    instance = instance_of(arguments)
    (invariant,) = find_properties(instance.model, [arguments.invariant])
    depth_max = arguments.depth or DEPTH_DEFAULT
    if not sys.stderr.isatty():
        return bounded_model_check(instance, invariant, depth_max=depth_max, seconds_max=arguments.timeout)
    from rich.console import Console

    with Console(stderr=True).status("translating") as status:
        return bounded_model_check(
            instance,
            invariant,
            depth_max=depth_max,
            seconds_max=arguments.timeout,
            progress=lambda depth, seconds: status.update(f"runs of {depth} states ({seconds:.1f} s until here)"),
        )


def _write(file: str, proof: Proof) -> None:
    from hwmark.traces.trace import write_trace

    assert proof.trace is not None
    try:
        write_trace(file, proof.trace)
    except OSError as error:
        raise SpecError(f"--trace {file}: {(error.strerror or str(error)).lower()}") from None


def report(proof: Proof) -> dict[str, Any]:
    """The JSON object; the list of a trace begins with the initial state, so that its length counts states."""
    from hwmark.spec.catalogue import spelled
    from hwmark.traces.trace import states_of

    return {
        "model": proof.instance.model.family,
        "variant": proof.instance.model.variant,
        "bounds": proof.instance.bounds,
        "invariant": spelled(proof.invariant),
        "method": proof.method,
        "verdict": verdict_name(proof.verdict),
        "violated": spelled(proof.verdict.name) if proof.trace else None,  # type: ignore[union-attr]
        "why": proof.verdict.why if isinstance(proof.verdict, Unknown) else None,
        "error": proof.error,
        "depth": proof.depth,
        "trace": states_of(proof.trace) if proof.trace else None,
        "witness": proof.trace.witness if proof.trace else None,
        "symmetry": list(proof.symmetric),
        "seconds": round(proof.seconds, 6),
    }


def _print(proof: Proof, file: str | None) -> None:
    """What people read, on standard error; the counterexample in full on standard output."""
    from hwmark.traces.text import trace_text

    lines = [_headline(proof)]
    if proof.trace is not None:
        sys.stdout.write(trace_text(proof.trace))
        lines.append(f"trace: {file}" if file else "add --trace FILE to keep the counterexample")
    print("\n".join(lines), file=sys.stderr)


def _headline(proof: Proof) -> str:
    from hwmark.spec.catalogue import spelled

    match proof.verdict:
        case Holds():
            verdict = f"{spelled(proof.invariant)}: holds; no run is longer than {proof.depth} states"
        case Unknown(why):
            verdict = f"{spelled(proof.invariant)}: unknown ({why})"
        case violated:
            verdict = f"{spelled(violated.name)}: VIOLATED after {proof.depth} states"
    names = ", ".join(proof.symmetric)
    symmetry = f", symmetry of {names} proved and used" if names else ""
    return f"{proof.instance}: {verdict}; {proof.seconds:.2f} s{symmetry}" + (f"\n{proof.error}" if proof.error else "")
