"""Are the replication models the published ones, told plainly, and does every part of them matter?"""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hwmark.checkers.explore import explore
from hwmark.checkers.explore.plain import explore_plainly
from hwmark.spec.async_isr import async_isr, current_isr_only
from hwmark.spec.catalogue import families, find
from hwmark.spec.instance import Instance
from hwmark.spec.model import Model
from hwmark.spec.replication import base, variants
from hwmark.spec.replication.base import truncate_to_hw
from hwmark.spec.replication.mutants import MUTANTS
from hwmark.spec.replication.variants import kip_101, kip_279, kip_320, kip_320_first_try

PUBLISHED = json.loads((Path(__file__).parent / "data" / "replication.json").read_text())
VARIANTS = (truncate_to_hw, kip_101, kip_279, kip_320_first_try, kip_320)
BOUNDS = ("replicas", "log_size", "records", "max_epoch")
SMALL = 1_300  # states, for the plain search


def instance(model: Model, *bounds: int) -> Instance:
    return model.at(**dict(zip(BOUNDS, bounds, strict=True)))


def published(table: str) -> list[Any]:
    rows = [row for row in PUBLISHED[table] if not row.get("symmetry") and row.get("distinct", 0) <= SMALL]
    return [pytest.param(row, id="-".join(str(row[key]) for key in ("variant", *BOUNDS))) for row in rows]


@pytest.mark.parametrize("row", published("counts"))
def test_counts_are_the_published_ones(row: dict[str, Any]) -> None:
    searched = instance(find("replication", row["variant"]), *(row[bound] for bound in BOUNDS))
    exploration = explore_plainly(searched, ())
    found = (exploration.distinct, exploration.generated, exploration.depth)
    assert found == (row["distinct"], row["generated"], row["depth"])


@pytest.mark.parametrize(("invariant", "states"), [("weak_isr", 9), ("strong_isr", 10)])
def test_truncating_to_the_high_watermark_loses_a_committed_record(invariant: str, states: int) -> None:
    exploration = explore_plainly(instance(truncate_to_hw, 2, 1, 1, 1), (invariant,))
    assert (exploration.violated, exploration.depth) == (invariant, states)


def test_a_state_of_the_usual_bounds_takes_40_bytes() -> None:
    assert instance(truncate_to_hw, 3, 2, 2, 2).row_size == 40


def test_the_witness_names_leader_follower_and_offset() -> None:
    searched = instance(truncate_to_hw, 2, 1, 1, 1)
    row = bytes(searched.initial()[0])
    for action, arguments in [
        ("controller_elect_leader", {"leader": 0}),
        ("replica_become_leader", {"replica": 0, "epoch": 0}),
        ("leader_write", {"leader": 0}),
        ("leader_shrink_isr", {"leader": 0, "follower": 1}),
        ("leader_increment_high_watermark", {"leader": 0}),
    ]:
        after = searched.step(action, row, arguments)
        assert after is not None, action
        row = after
    assert searched.witness("strong_isr", row) is None
    shown = searched.to_json(row)
    shown["quorum"]["isr"] = [0, 1]
    assert searched.witness("strong_isr", searched.from_json(shown)) == {"leader": 0, "follower": 1, "offset": 0}
    assert searched.witness("weak_isr", searched.from_json(shown)) is None


def test_fields_have_the_names_that_traces_and_pictures_know() -> None:
    searched = instance(truncate_to_hw, 2, 1, 1, 1)
    assert searched.to_json(searched.initial()[0]) == {
        "next_leader_epoch": 0,
        "next_record": 0,
        "logs": [[], []],
        "replicas": [{"high_watermark": 0, "leader_epoch": None, "leader": None, "isr": []}] * 2,
        "quorum": {"leader_epoch": None, "leader": None, "isr": [0, 1]},
        "requests": [{"leader": None, "isr": []}] * 2,
    }


@pytest.mark.parametrize("model", MUTANTS, ids=lambda model: model.variant)
def test_every_action_happens_and_so_does_all_that_may(model: Model) -> None:
    exploration = explore(instance(model, 2, 2, 2, 2), ())
    assert exploration.never_fired == ()
    assert exploration.never_true == (("a_record_is_dropped",) if model.variant == "kip-320-notrunc" else ())


# Each decision point of each variant, and what else it could be: none of it may be without consequence. With fewer
# records than three, a follower has no conflicting record below one that it might fetch.
OTHERWISE = [
    (truncate_to_hw, "is_following", variants.is_following_in_epoch),
    (truncate_to_hw, "is_caught_up", variants.agrees_up_to),
    (truncate_to_hw, "may_join_isr", variants.is_caught_up_with_leader_epoch),
    (truncate_to_hw, "may_leave_isr", variants.is_not_following),
    (truncate_to_hw, "may_become_follower", variants.leads_in_epoch),
    (truncate_to_hw, "truncation_offset", variants.log_end_offset),
    (kip_101, "truncation_offset", base.truncation_offset),
    (kip_279, "truncation_offset", base.truncation_offset),
    (kip_320_first_try, "is_caught_up", base.is_caught_up),
    (kip_320_first_try, "may_fetch", base.may_fetch),
    (kip_320_first_try, "may_join_isr", base.may_join_isr),
    (kip_320_first_try, "truncation_offset", variants.end_of_last_match),
    (kip_320, "is_following", base.is_following),
    (kip_320, "may_become_follower", base.may_become_follower),
    (kip_320, "may_join_isr", base.may_join_isr),
    (kip_320, "may_leave_isr", base.may_leave_isr),
    (kip_320, "truncation_offset", base.truncation_offset),
]


@pytest.mark.parametrize(
    ("model", "name", "function"), [pytest.param(*row, id=f"{row[0].variant}-{row[1]}") for row in OTHERWISE]
)
def test_a_decision_taken_otherwise_changes_the_counts(model: Model, name: str, function: Any) -> None:
    broken = model.derive("broken", why="to see whether anybody notices", **{name: function})
    published, found = (explore(instance(each, 2, 2, 3, 2), ()) for each in (model, broken))
    assert (found.distinct, found.generated) != (published.distinct, published.generated)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda model: model.variant)
def test_a_mutant_changes_one_thing_in_kip_320(mutant: Model) -> None:
    assert mutant.base is kip_320
    changed = [line for line in mutant.diff().splitlines()[1:] if re.match(r"[+-] \w+$|\w+: \w+ -> \w+$", line)]
    assert len(changed) == 1


@pytest.mark.parametrize(
    ("bounds", "distinct", "generated", "depth"),
    [((2, 2, 1), 42, 148, 10), ((2, 2, 2), 84, 307, 12), ((2, 3, 2), 168, 577, 15)],
)
def test_the_counts_of_kip_497_are_the_published_ones(
    bounds: tuple[int, int, int], distinct: int, generated: int, depth: int
) -> None:
    replicas, max_version, max_offset = bounds
    exploration = explore_plainly(async_isr.at(replicas=replicas, max_version=max_version, max_offset=max_offset))
    assert (exploration.distinct, exploration.generated, exploration.depth) == (distinct, generated, depth)
    assert exploration.violated is None
    assert exploration.reached == set(async_isr.sometimes)
    assert all(exploration.coverage.values())


def test_committing_with_the_known_isr_alone_is_refuted() -> None:
    exploration = explore_plainly(current_isr_only.at(replicas=2, max_version=2, max_offset=1))
    assert (exploration.violated, exploration.depth) == ("valid_high_watermark", 6)


def test_every_model_of_the_catalogue_is_found_by_its_name() -> None:
    for family in families().values():
        assert family.current in family.variants
        for name, model in family.variants.items():
            assert find(family.name, name) is model
    assert list(families()["replication"].variants)[:5] == [model.variant for model in VARIANTS]
    assert set(families()["replication"].variants) == {model.variant for model in (*VARIANTS, *MUTANTS)}
