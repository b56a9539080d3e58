"""`hwmark bugs`: faults that were put into the reference implementation, and what finds them."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hwmark.checkers.commands.answers import at_least_one, print_json
from hwmark.checkers.verdict import EXIT_HOLDS, EXIT_VIOLATED
from hwmark.spec.errors import SpecError

if TYPE_CHECKING:
    from hwmark.checkers.simulation.hunting import Found
    from hwmark.checkers.simulation.mutants import Mutant

EXAMPLES_DEFAULT = 400
NAME_WIDTH = 34


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="look for these only (default: all)")
    parser.add_argument(
        "--refimpl", action="store_true", help="the faults that can be switched on in the reference implementation"
    )
    parser.add_argument(
        "--examples",
        type=at_least_one,
        default=EXAMPLES_DEFAULT,
        metavar="N",
        help="give a mutant up after so many runs (default: %(default)s)",
    )
    parser.add_argument(
        "--workers", type=at_least_one, metavar="N", help="look in so many processes (default: as many as processors)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object on standard output instead of text")


def run(arguments: argparse.Namespace) -> int:
    """Hunt, and print what found each mutant; whether one was not found is the exit status."""
    if not arguments.refimpl:
        raise SpecError("bugs: only those of the reference implementation can be looked for so far; add --refimpl")
    started = time.perf_counter()
    mutants = _chosen(arguments.names)
    found = _hunt(mutants, arguments.examples, arguments.workers or os.cpu_count() or 1)
    lines = [_line(mutant, found[mutant.name]) for mutant in mutants]
    caught = sum(one is not None for one in found.values())
    if arguments.json:
        rows = [_row(mutant, found[mutant.name]) for mutant in mutants]
        seconds = round(time.perf_counter() - started, 6)
        print_json({"mutants": rows, "found": caught, "total": len(mutants), "seconds": seconds})
    else:
        print("\n".join(lines))
        print(f"{caught} of {len(mutants)} found, {time.perf_counter() - started:.1f} s", file=sys.stderr)
    return EXIT_HOLDS if caught == len(mutants) else EXIT_VIOLATED


def _chosen(names: Sequence[str]) -> list[Mutant]:
    """The mutants of these names, in their order; all if there is none. SpecError for a name that is unknown."""
    from hwmark.checkers.simulation.all_mutants import MUTANTS

    unknown = [name for name in names if name not in MUTANTS]
    if unknown:
        raise SpecError(f"there is no mutant {unknown[0]!r}; known are {', '.join(MUTANTS)}")
    return [MUTANTS[name] for name in dict.fromkeys(names)] or [*MUTANTS.values()]


def _hunt(mutants: list[Mutant], examples: int, workers: int) -> dict[str, Found | None]:
    """Hunt, with a bar on a terminal."""
    from hwmark.checkers.simulation.hunting import hunt_all

    workers = min(workers, len(mutants))
    if not sys.stderr.isatty():
        return hunt_all(mutants, examples, workers)
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("hunting", total=len(mutants))
        return hunt_all(mutants, examples, workers, lambda mutant: progress.update(task, advance=1))


def _row(mutant: Mutant, found: Found | None) -> dict[str, Any]:
    """A mutant in JSON; without a find there is no checker, and the counts are null."""
    report: dict[str, Any] = {"name": mutant.name, "source": mutant.source or None, "found": found is not None}
    if found is None:
        return report | dict.fromkeys(("checker", "promise", "why", "examples", "steps"))
    return report | found._asdict()


def _line(mutant: Mutant, found: Found | None) -> str:
    """A mutant as people read it."""
    name = f"{mutant.name:<{NAME_WIDTH}} "
    if found is None:
        return f"{name}NOT FOUND: {mutant.why}"
    return f"{name}{found.checker}: {found.promise} (example {found.examples}, {found.steps:,} steps)"
