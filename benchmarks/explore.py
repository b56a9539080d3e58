"""How fast the exhaustive engine is, beside a hand-written C++ search and the plain twin.

usage: python benchmarks/explore.py [--rounds N] [--large]

One table from one run. The contestants of a row group take turns, so that a noisy machine is noisy to all; each figure
is the median of its rounds, and the ratio is to the C++ search of the same protocol and bounds. Searches are warm: the
time to compile a model (about a second at most, its own column) is not in them. `--large` adds the 39,919,804 states of
max epoch 3, in a process of its own, with its peak memory.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import cpp
from hwmark.checkers.compiler import compile_instance
from hwmark.checkers.explore.engine import Search, memory_limit_default
from hwmark.checkers.explore.plain import explore_plainly
from hwmark.spec.catalogue import find
from rich.console import Console
from rich.table import Table

LARGE = dict(replicas=3, log_size=2, records=2, max_epoch=3)


@dataclass
class Contestant:
    """Something that searches: `run` gives its distinct states and seconds; `bytes` is what it holds per state."""

    name: str
    run: Callable[[], tuple[int, float]]
    compiled: float | None = None
    memory: Callable[[], float] = lambda: float("nan")
    seconds: list[float] = field(default_factory=list)
    distinct: int = 0


def engine(family: str, variant: str, bounds: dict[str, int], workers: int, symmetry: bool) -> Contestant:
    """The exhaustive engine on one instance."""
    instance = find(family, variant).at(**bounds)
    started = time.perf_counter()
    compiled = compile_instance(instance, [], symmetry=symmetry)
    compile_seconds = time.perf_counter() - started
    held = [float("nan")]

    def run() -> tuple[int, float]:
        search = Search(compiled, workers, memory_limit_default())
        search.run()
        seconds = search.seconds
        held[0] = instance.row_size + 8 * search.table_size / search.distinct
        return search.distinct, seconds

    name = f"hwmark, {workers} worker{'s' * (workers > 1)}"
    return Contestant(name, run, compile_seconds, lambda: held[0])


def hand_written(variant: str, bounds: dict[str, int], symmetry: bool) -> Contestant | None:
    """The C++ search, where there is a compiler."""
    if cpp.build() is None:
        return None

    def run() -> tuple[int, float]:
        found = cpp.search(variant, **bounds, symmetry=symmetry)
        return found.distinct, found.seconds

    return Contestant("C++, hand-written", run)


def plain(family: str, variant: str, bounds: dict[str, int]) -> Contestant:
    """The plain twin."""
    instance = find(family, variant).at(**bounds)

    def run() -> tuple[int, float]:
        started = time.perf_counter()
        found = explore_plainly(instance, [])
        return found.distinct, time.perf_counter() - started

    return Contestant("plain twin", run)


def contest(contestants: list[Contestant], rounds: int) -> None:
    """Every contestant in turn, `rounds` times; the plain twin once."""
    for number in range(rounds):
        for each in contestants:
            if each.name != "plain twin" or number == 0:
                each.distinct, seconds = each.run()
                each.seconds.append(seconds)


def rows(table: Table, title: str, contestants: list[Contestant], rounds: int) -> None:
    """One group of rows."""
    contest(contestants, rounds)
    base = next((each for each in contestants if each.name.startswith("C++")), None)
    base_rate = base.distinct / statistics.median(base.seconds) if base else None
    for each in contestants:
        median = statistics.median(each.seconds)
        rate = each.distinct / median
        table.add_row(
            title,
            each.name,
            f"{each.distinct:,}",
            f"{median:.3f}",
            f"{min(each.seconds):.3f}",
            f"{rate / 1e6:.3f}",
            f"{rate / base_rate:.2f}" if base_rate else "-",
            f"{each.compiled:.2f}" if each.compiled is not None else "-",
            f"{each.memory():.1f}" if each.compiled is not None else "-",
        )
        title = ""
    table.add_section()


def large(workers: int) -> str:
    """Max epoch 3 in a process of its own: its counts, seconds and peak memory."""
    code = (
        "import resource, sys; sys.path.insert(0, sys.argv[1]); import explore as b;"
        f"c = b.engine('replication', 'truncate-to-hw', b.LARGE, {workers}, False); n, s = c.run();"
        "print(f'{n:,} states, {s:.1f} s, {n / s / 1e6:.2f} million a second, {c.memory():.1f} bytes a state, "
        "peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB')"
    )
    folder = __file__.rsplit("/", 1)[0]
    return subprocess.run(
        [sys.executable, "-c", code, folder], capture_output=True, text=True, check=True
    ).stdout.strip()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--large", action="store_true")
    arguments = parser.parse_args()
    columns = ("search", "by", "states", "median s", "best s", "M states/s", "x C++", "compile s", "bytes/state")
    table = Table(*columns, title=f"exhaustive search, median of {arguments.rounds} rounds")
    bounds = dict(replicas=3, log_size=2, records=2, max_epoch=2)
    if cpp.build() is None:
        print("no C++ compiler here: the hand-written search is left out", file=sys.stderr)
    for symmetry in (False, True):
        contestants = [
            hand_written("truncate-to-hw", bounds, symmetry),
            *(engine("replication", "truncate-to-hw", bounds, workers, symmetry) for workers in (1, 2)),
        ]
        title = "truncate-to-hw 3/2/2/2" + " symmetry" * symmetry
        rows(table, title, [each for each in contestants if each], arguments.rounds)
    small = dict(replicas=2, log_size=2, records=2, max_epoch=2)
    contestants = [
        hand_written("truncate-to-hw", small, False),
        engine("replication", "truncate-to-hw", small, 1, False),
        plain("replication", "truncate-to-hw", small),
    ]
    rows(table, "truncate-to-hw 2/2/2/2", [each for each in contestants if each], arguments.rounds)
    managers = dict(resource_managers=8)
    two_phase = [engine("two-phase-commit", "two-phase-commit", managers, workers, False) for workers in (1, 2)]
    rows(table, "two-phase commit, 8", two_phase, arguments.rounds)
    Console(width=140).print(table)
    if arguments.large:
        for workers in (1, 2):
            print(f"truncate-to-hw 3/2/2/3, {workers} worker{'s' * (workers > 1)}: {large(workers)}")


if __name__ == "__main__":
    main()
