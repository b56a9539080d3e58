"""The KIP-848 consumer group protocol: what it promises, what every one of its rules is for.

Counts are distinct and generated states and depth. Those marked as ours were counted here first; all others, without
symmetry, are published.
"""

from __future__ import annotations

import pytest
from hwmark.checkers.explore import Exploration, explore
from hwmark.checkers.verdict import Holds, Violated
from hwmark.spec.consumer_group import MUTANTS, kip_848
from hwmark.spec.consumer_group.state import Group, HeartbeatRequest
from hwmark.spec.model import Model

Bounds = tuple[int, int, int, int]
"""Clients, topics, partitions of each, perturbations."""


def run(model: Model, bounds: Bounds, invariants: list[str] | None = None, symmetry: bool = False) -> Exploration:
    names = [bound.name for bound in model.bounds]
    return explore(model.at(**dict(zip(names, bounds, strict=True))), invariants=invariants, symmetry=symmetry)


@pytest.mark.parametrize(
    ("bounds", "counts"),
    [
        ((1, 1, 1, 0), (17, 22, 9)),
        ((1, 1, 1, 1), (388, 708, 20)),
        ((2, 1, 1, 0), (4009, 9511, 26)),
        ((2, 1, 2, 0), (7673, 17983, 26)),  # ours
        ((2, 2, 1, 0), (7673, 17983, 26)),  # ours
        ((1, 2, 1, 2), (38299, 108002, 30)),  # ours
        pytest.param((2, 1, 1, 1), (1109619, 3353191, 52), marks=pytest.mark.deep),  # ours
        pytest.param((1, 1, 1, 3), (532858, 1696862, 40), marks=pytest.mark.deep),  # ours
    ],
)
def test_kip_848_keeps_its_promises(bounds: Bounds, counts: tuple[int, int, int]) -> None:
    found = run(kip_848, bounds)
    assert found.verdict == Holds()
    assert (found.distinct, found.generated, found.depth) == counts


@pytest.mark.parametrize(
    ("bounds", "counts"),
    [
        ((2, 1, 1, 0), (2005, 4757, 26)),
        ((2, 2, 1, 0), (3837, 8993, 26)),
        pytest.param((2, 1, 1, 1), (554810, 1676597, 52), marks=pytest.mark.deep),
        pytest.param((2, 2, 1, 1), (4815148, 15071201, 56), marks=pytest.mark.deep),  # the published configuration
        pytest.param((3, 1, 1, 0), (609342, 2179978, 45), marks=pytest.mark.deep),
    ],
)
def test_clients_are_interchangeable(bounds: Bounds, counts: tuple[int, int, int]) -> None:
    found = run(kip_848, bounds, symmetry=True)
    assert found.verdict == Holds()
    assert (found.distinct, found.generated, found.depth) == counts


def test_every_action_fires_and_everything_desired_can_happen() -> None:
    found = run(kip_848, (1, 1, 1, 2))
    assert min(found.coverage.values()) > 0
    assert set(found.reached) == set(kip_848.sometimes)


VIOLATIONS = [
    ("kip-848-ignores-partition-epochs", "no_double_assignment", (2, 1, 1, 0), 9),
    ("kip-848-ignores-partition-epochs", "valid_partition_epoch", (2, 1, 1, 1), 6),
    ("kip-848-ignores-topic-partitions", "no_double_assignment", (2, 1, 1, 0), 17),
    ("kip-848-ignores-topic-partitions", "valid_member_epoch", (2, 1, 1, 0), 13),
    ("kip-848-acknowledges-before-revoking", "no_double_assignment", (2, 1, 1, 0), 17),
    ("kip-848-acknowledges-before-revoking", "valid_member_epoch", (2, 1, 1, 0), 13),
    ("kip-848-fenced-keeps-partitions", "no_double_assignment", (2, 1, 1, 1), 16),
    ("kip-848-fenced-keeps-partitions", "valid_member_epoch", (2, 1, 1, 1), 14),
]


@pytest.mark.parametrize(("variant", "invariant", "bounds", "length"), VIOLATIONS)
def test_a_mutant_breaks_a_promise(variant: str, invariant: str, bounds: Bounds, length: int) -> None:
    model = next(mutant for mutant in MUTANTS if mutant.variant == variant)
    found = run(model, bounds, [invariant])
    assert isinstance(found.verdict, Violated)
    assert (found.verdict.name, len(list(found.verdict.witness.states()))) == (invariant, length)


def test_every_mutant_is_in_the_table() -> None:
    assert {variant for variant, *_ in VIOLATIONS} == {mutant.variant for mutant in MUTANTS}


def never(s: Group, request: HeartbeatRequest) -> bool:
    """No member epoch is wrong."""
    return False


@pytest.mark.deep
def test_nothing_published_is_lost_without_fencing_by_member_epoch() -> None:
    """What `mutants` says of the one rule that none of its mutants takes out."""
    unfenced = kip_848.derive("kip-848-accepts-any-epoch", why="no member epoch is wrong", should_fence=never)
    assert run(unfenced, (2, 1, 1, 1), symmetry=True).verdict == Holds()
