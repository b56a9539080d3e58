"""`hwmark check`: every reachable state of a model against its invariants."""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
import time
from collections.abc import Callable
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

if TYPE_CHECKING:
    from hwmark.checkers.explore import Exploration
    from hwmark.checkers.explore.engine import Progress
    from hwmark.spec.instance import Instance

UNITS = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    configure_instance(parser)
    parser.add_argument(
        "--invariant",
        action="append",
        metavar="NAME",
        help="check this invariant (may be repeated; default: the model's standing ones; `none` explores only)",
    )
    parser.add_argument(
        "--symmetry", action=argparse.BooleanOptionalAction, default=False, help="one state of each orbit"
    )
    parser.add_argument("--deadlock", action="store_true", help="a state in which nothing is enabled is a violation")
    parser.add_argument(
        "--workers", type=at_least_one, default=_processors(), metavar="N", help="threads (default: all)"
    )
    parser.add_argument(
        "--max-states", type=at_least_one, metavar="N", help="stop after about N states: verdict unknown"
    )
    parser.add_argument(
        "--memory", type=_bytes, metavar="SIZE", help="go on on disk beyond this (2G; default: 80 %% of what is free)"
    )
    parser.add_argument(
        "--disk", type=Path, metavar="DIR", help="where to go on (default: the system's temporary folder)"
    )
    configure_answer(parser)


def _processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _bytes(text: str) -> int:
    number, unit = (text[:-1], text[-1].lower()) if text[-1:].isalpha() else (text, "")
    try:
        value = int(float(number) * UNITS[unit]) if unit else int(number)
    except (ValueError, KeyError):
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a size such as 500M or 2G, not {text!r}")
    return value


def run(arguments: argparse.Namespace) -> int:
    """Explore, report, and write the trace if there is one and a file for it."""
    started = time.perf_counter()
    instance = instance_of(arguments)
    invariants = _invariants(instance, arguments.invariant)
    require_folder("--trace", arguments.trace and Path(arguments.trace).parent)
    require_folder("--disk", arguments.disk)
    found = _explore(instance, invariants, arguments)
    keep(arguments.trace, found.trace)
    if arguments.json:
        print_json(report(found, time.perf_counter() - started))
    else:
        print_text(_lines(found), found.trace, arguments.trace)
    return exit_status(found.verdict)


def _invariants(instance: Instance, names: list[str] | None) -> tuple[str, ...] | None:
    from hwmark.spec.catalogue import find_properties

    if names is None:
        return None
    return () if names == ["none"] else find_properties(instance.model, names)


def _explore(instance: Instance, invariants: tuple[str, ...] | None, arguments: argparse.Namespace) -> Exploration:
    from hwmark.checkers.explore import explore

    progress, finish = _progress()
    try:
        return explore(
            instance,
            invariants,
            symmetry=arguments.symmetry,
            deadlock=arguments.deadlock,
            workers=arguments.workers,
            max_states=arguments.max_states,
            memory_limit=arguments.memory,
            directory=arguments.disk,
            progress=progress,
            tell=lambda text: print(text, file=sys.stderr),
        )
    finally:
        finish()


def _progress() -> tuple[Callable[[Progress], None] | None, Callable[[], None]]:
    """What shows the progress on a terminal, and what takes it away; nothing elsewhere."""
    if not sys.stderr.isatty():
        return None, lambda: None
    from rich.console import Console

    status = Console(stderr=True).status("compiling")
    status.start()

    def show(progress: Progress) -> None:
        rate = progress.distinct / max(progress.seconds, 1e-9)
        status.update(
            f"level {progress.depth}: {progress.distinct:,} states, {progress.queue:,} waiting, {rate:,.0f} states/s"
        )

    return show, status.stop


def report(found: Exploration, seconds: float) -> dict[str, Any]:
    """The JSON object."""
    from hwmark.spec.catalogue import spelled

    return answer(
        found.instance,
        found.verdict,
        found.error,
        symmetry=found.symmetry,
        invariants=[spelled(name) for name in found.invariants],
        distinct=found.distinct,
        generated=found.generated,
        depth=found.depth,
        coverage=found.coverage,
        never_fired=list(found.never_fired),
        never_true=list(found.never_true),
        warnings=list(found.warnings),
        states_per_second=round(found.states_per_second),
        seconds=round(seconds, 6),
    )


# -------------------------------------------------------------------------------------------------- text


def _lines(found: Exploration) -> list[str]:
    warnings = (f"warning: {text}" for text in found.warnings)
    return [_headline(found), _counts(found), _coverage(found), *_absences(found), *warnings]


def _headline(found: Exploration) -> str:
    from hwmark.spec.catalogue import spelled

    names = ", ".join(spelled(name) for name in found.invariants) or "no invariant"
    match found.verdict:
        case Holds():
            verdict = f"explored, {names} asked" if not found.invariants else f"{names}: holds in every reachable state"
        case Unknown(why):
            verdict = f"{names}: unknown ({why}); no violation among the states found"
        case violated:
            verdict = f"{spelled(violated.name)}: VIOLATED after {found.depth} states"
    return f"{found.instance}: {verdict}" + (f"\n{found.error}" if found.error else "")


def _counts(found: Exploration) -> str:
    return (
        f"{found.distinct:,} distinct states{' (one of each orbit)' * found.symmetry}, {found.generated:,} generated, "
        f"depth {found.depth}, {found.seconds:.2f} s, {found.states_per_second:,.0f} states/s"
    )


def _coverage(found: Exploration) -> str:
    """How often each action was enabled."""
    counts = ", ".join(f"{name} {count:,}" for name, count in found.coverage.items() if count)
    return textwrap.fill(f"enabled: {counts or 'nothing'}", 116, subsequent_indent="  ", break_long_words=False)


def _absences(found: Exploration) -> list[str]:
    """What never happened, which is what a pass may hide; only a complete search can tell."""
    from hwmark.spec.catalogue import spelled

    where = "in no reachable state" if isinstance(found.verdict, Holds) else "in no state found"
    lines = [f"enabled {where}: {name}" for name in found.never_fired]
    return lines + [f"true {where}: {spelled(name)}" for name in found.never_true]
