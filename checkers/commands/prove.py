"""`hwmark prove`: what Z3 can say about a model that is too large to explore."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwmark.checkers.commands.answers import (
    answer,
    at_least_one,
    configure_answer,
    keep,
    print_json,
    print_text,
    require_folder,
)
from hwmark.checkers.commands.instances import configure_instance, instance_of
from hwmark.checkers.verdict import Holds, Unknown, exit_status
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
        "--depth", type=at_least_one, metavar="N", help="look at runs of at most N states (default: 20)"
    )
    parser.add_argument(
        "--timeout", type=_seconds, metavar="SECONDS", help="stop after so many seconds: verdict unknown"
    )
    configure_answer(parser)


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
    require_folder("--trace", arguments.trace and Path(arguments.trace).parent)
    proof = _prove(arguments)
    keep(arguments.trace, proof.trace)
    if arguments.json:
        print_json(report(proof))
    else:
        print_text([_headline(proof)], proof.trace, arguments.trace)
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


def report(proof: Proof) -> dict[str, Any]:
    """The JSON object."""
    from hwmark.spec.catalogue import spelled

    return answer(
        proof.instance,
        proof.verdict,
        proof.error,
        invariant=spelled(proof.invariant),
        method=proof.method,
        depth=proof.depth,
        symmetry=list(proof.symmetric),
        seconds=round(proof.seconds, 6),
    )


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
