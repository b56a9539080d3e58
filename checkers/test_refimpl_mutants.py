"""Does the suite find the faults that the reference implementation can be given?"""

from __future__ import annotations

import pytest
from hwmark.checkers.simulation.all_mutants import MUTANTS
from hwmark.checkers.simulation.hunting import CRASH, Found, hunt_all

QUICK_EXAMPLES, DEEP_EXAMPLES, WORKERS = 4, 1_000, 2
CRASHES_MAX = 4
"""So many mutants may show by a machine that fails: the others have to be judged by what the protocol promises."""


def test_nine_in_ten_mutants_are_found_at_once() -> None:
    """Beginning with what has found them before."""
    found = hunt_all(MUTANTS.values(), QUICK_EXAMPLES, WORKERS, remembers=True)
    missed = [name for name, one in found.items() if one is None]
    assert len(missed) <= len(MUTANTS) // 10, f"not found: {', '.join(missed)}"


@pytest.mark.deep
def test_every_mutant_is_found() -> None:
    """From nothing but the seeds 0, 1, ..."""
    found = hunt_all(MUTANTS.values(), DEEP_EXAMPLES, WORKERS)
    print("\n" + "\n".join(_row(name, one) for name, one in found.items()))
    assert [name for name, one in found.items() if one is None] == []
    assert sum(one is not None and one.checker == CRASH for one in found.values()) <= CRASHES_MAX


def _row(name: str, found: Found | None) -> str:
    told = f"{found.checker:<15} {found.examples:>4} {found.steps:>7,}  {found.promise}" if found else "not found"
    return f"{name:<40} {told}"
