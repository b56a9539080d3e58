"""The verdict table of the replication family: every variant, every promise, against what was published.

Counts and lengths are those of TLC and of an independent search of the published TLA+ modules. Lengths count states,
the initial one included.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hwmark.checkers.explore import Exploration, explore
from hwmark.checkers.verdict import Holds, Violated
from hwmark.spec.async_isr import async_isr, current_isr_only
from hwmark.spec.catalogue import find
from hwmark.spec.instance import Instance

PUBLISHED = json.loads((Path(__file__).parents[1] / "tests" / "data" / "replication.json").read_text())
BOUNDS = ("replicas", "log_size", "records", "max_epoch")
LARGE = (3, 2, 2, 2)
"""From these bounds on there are millions of states: for the deep profile."""

Bounds = tuple[int, int, int, int]


def instance(variant: str, bounds: Bounds) -> Instance:
    return find("replication", variant).at(**dict(zip(BOUNDS, bounds, strict=True)))


def assert_shortest_counterexample(exploration: Exploration, invariant: str, states: int) -> None:
    assert isinstance(exploration.verdict, Violated)
    assert (exploration.verdict.name, exploration.depth) == (invariant, states)
    assert exploration.trace is not None
    assert len(exploration.trace.steps) == states - 1


def case(variant: str, bounds: Bounds, *rest: Any) -> Any:
    words = [variant, *map(str, bounds), *(str(word) for word in rest if isinstance(word, str))]
    return pytest.param(variant, bounds, *rest, id="-".join(words), marks=[pytest.mark.deep] if bounds >= LARGE else [])


# ------------------------------------------------------------------------------------- the published variants


def published(table: str, *columns: str) -> list[Any]:
    return [
        case(row["variant"], tuple(row[bound] for bound in BOUNDS), *(row[column] for column in columns))
        for row in PUBLISHED[table]
    ]


@pytest.mark.parametrize(
    ("variant", "bounds", "symmetry", "distinct", "generated", "depth"),
    published("counts", "symmetry", "distinct", "generated", "depth"),
)
def test_the_state_space_is_the_published_one(
    variant: str, bounds: Bounds, symmetry: bool, distinct: int, generated: int, depth: int
) -> None:
    exploration = explore(instance(variant, bounds), [], symmetry=symmetry)
    assert exploration.verdict == Holds()
    assert (exploration.distinct, exploration.generated, exploration.depth) == (distinct, generated, depth)
    assert exploration.never_fired == ()
    assert exploration.never_true == ()


@pytest.mark.parametrize(("variant", "bounds", "invariant", "states"), published("violations", "invariant", "states"))
def test_a_broken_variant_breaks_its_promise_in_the_fewest_steps(
    variant: str, bounds: Bounds, invariant: str, states: int
) -> None:
    name = invariant.replace("-", "_")
    exploration = explore(instance(variant, bounds), [name])
    assert_shortest_counterexample(exploration, name, states)
    assert isinstance(exploration.verdict, Violated)
    assert set(exploration.verdict.witness.witness or ()) == {"leader", "follower", "offset"}


@pytest.mark.parametrize(("variant", "bounds", "invariant"), published("holds", "invariant"))
def test_a_sound_variant_keeps_its_promise(variant: str, bounds: Bounds, invariant: str) -> None:
    assert explore(instance(variant, bounds), [invariant.replace("-", "_")]).verdict == Holds()


# ------------------------------------------------------------- which promise notices which rule that is missing

GRID: tuple[Bounds, ...] = (
    (2, 1, 1, 1), (2, 1, 1, 2), (2, 2, 2, 2), (3, 1, 1, 1), (3, 1, 1, 2), (2, 2, 2, 3), (3, 2, 2, 2), (2, 2, 2, 4),
    (3, 2, 2, 3),
)  # fmt: skip
"""The bounds that were tried, in this order; the last with symmetry."""

PROMISES = ("strong_isr", "weak_isr", "prefix", "hw_match")

# For each promise the first bounds of the grid at which it is broken, and the states of the shortest counterexample.
# The five rows that end at the last bounds were measured here: earlier searches gave up before them.
FIRST_BROKEN: dict[str, tuple[tuple[Bounds, int] | None, ...]] = {
    "kip-320": (None, None, None, None),
    "kip-320-noleso": (((3, 1, 1, 1), 12), ((3, 1, 1, 2), 14), None, ((3, 2, 2, 2), 18)),
    "kip-320-truncunfenced": (((3, 2, 2, 2), 14), ((3, 2, 2, 2), 14), ((3, 2, 2, 2), 12), ((3, 2, 2, 3), 18)),
    "kip-320-hwepoch": (((3, 1, 1, 2), 13), ((3, 1, 1, 2), 13), None, ((3, 2, 2, 3), 18)),
    "kip-320-fetchepoch": (None, ((3, 1, 1, 2), 13), None, None),
    "kip-320-expandepoch": (((3, 1, 1, 2), 15), ((3, 1, 1, 2), 15), None, ((3, 2, 2, 3), 20)),
    "kip-320-expandhw": (((2, 1, 1, 1), 8), ((2, 1, 1, 1), 8), None, ((2, 2, 2, 2), 13)),
    "kip-320-unclean": (((2, 1, 1, 2), 8), ((3, 1, 1, 2), 12), None, ((2, 2, 2, 2), 11)),
    "kip-320-notrunc": (((2, 2, 2, 2), 9), ((2, 2, 2, 2), 9), ((2, 2, 2, 2), 8), ((2, 2, 2, 2), 13)),
    "kip-320-sameleader": (((3, 2, 2, 2), 15), ((3, 2, 2, 2), 15), ((3, 2, 2, 2), 13), ((3, 2, 2, 3), 19)),
    "kip-320-hwtrunc": (((2, 1, 1, 2), 11), ((2, 1, 1, 2), 11), ((2, 2, 2, 3), 15), ((2, 2, 2, 3), 16)),
    "truncate-to-hw": (((2, 1, 1, 1), 10), ((2, 1, 1, 1), 9), ((2, 2, 2, 2), 11), ((2, 2, 2, 2), 15)),
    "kip-101": (((2, 2, 2, 2), 12), ((2, 2, 2, 2), 12), ((3, 2, 2, 2), 11), ((3, 2, 2, 2), 18)),
    "kip-279": (((3, 1, 1, 1), 12), ((3, 1, 1, 2), 11), ((3, 2, 2, 2), 11), ((3, 2, 2, 2), 18)),
    "kip-320-first-try": (((3, 1, 1, 2), 13), ((3, 1, 1, 2), 12), ((2, 2, 2, 2), 8), ((3, 2, 2, 3), 18)),
}


def explore_grid(variant: str, bounds: Bounds, promises: list[str]) -> Exploration:
    return explore(instance(variant, bounds), promises, symmetry=bounds == GRID[-1])


def broken() -> Iterator[Any]:
    for variant, row in FIRST_BROKEN.items():
        for promise, found in zip(PROMISES, row, strict=True):
            if found is not None:
                yield case(variant, found[0], promise, found[1])


def kept() -> Iterator[Any]:
    """Per variant and bounds of the grid, the promises that are not broken there yet."""
    for variant, row in FIRST_BROKEN.items():
        for number, bounds in enumerate(GRID):
            names = [
                promise
                for promise, found in zip(PROMISES, row, strict=True)
                if found is None or number < GRID.index(found[0])
            ]
            if names:
                yield pytest.param(variant, bounds, names, id="-".join([variant, *map(str, bounds)]))


@pytest.mark.parametrize(("variant", "bounds", "promise", "states"), list(broken()))
def test_a_missing_rule_is_noticed_in_the_fewest_steps(variant: str, bounds: Bounds, promise: str, states: int) -> None:
    assert_shortest_counterexample(explore_grid(variant, bounds, [promise]), promise, states)


@pytest.mark.deep
@pytest.mark.parametrize(("variant", "bounds", "names"), list(kept()))
def test_a_missing_rule_is_not_noticed_before(variant: str, bounds: Bounds, names: list[str]) -> None:
    assert explore_grid(variant, bounds, names).verdict == Holds()


# --------------------------------------------------------------------------------------------------- KIP-497


@pytest.mark.parametrize(
    ("replicas", "max_version", "max_offset", "distinct", "generated", "depth"),
    [
        (2, 2, 1, 42, 148, 10),
        (2, 2, 2, 84, 307, 12),
        (2, 3, 2, 168, 577, 15),
        (3, 2, 1, 1460, 7865, 14),
        (3, 2, 2, 4088, 23153, 17),
    ],
)
def test_a_leader_that_does_not_wait_commits_with_the_old_and_the_new_isr(
    replicas: int, max_version: int, max_offset: int, distinct: int, generated: int, depth: int
) -> None:
    bounds = {"replicas": replicas, "max_version": max_version, "max_offset": max_offset}
    exploration = explore(async_isr.at(**bounds))
    assert exploration.verdict == Holds()
    assert (exploration.distinct, exploration.generated, exploration.depth) == (distinct, generated, depth)
    assert (exploration.never_fired, exploration.never_true) == ((), ())


@pytest.mark.parametrize(("replicas", "states"), [(2, 6), (3, 7)])
def test_a_leader_that_commits_with_the_isr_it_knows_is_refuted(replicas: int, states: int) -> None:
    exploration = explore(current_isr_only.at(replicas=replicas, max_version=2, max_offset=1))
    assert_shortest_counterexample(exploration, "valid_high_watermark", states)
