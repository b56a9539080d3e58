"""Are mutants switched on where they say, and off again, and is each find the mutant's doing?"""

from __future__ import annotations

import pytest
from hwmark.checkers.simulation import all_mutants, hunting
from hwmark.checkers.simulation.hunting import Found, hunt, hunt_all
from hwmark.checkers.simulation.mutants import Mutant, StaleMutantError, function_at, switched_on
from hwmark.checkers.simulation.plan import EVERYTHING, draw_plan
from hwmark.checkers.simulation.promises import NO_MACHINE_FAILS
from hwmark.checkers.simulation.trial import Failure
from hwmark.refimpl.batches import Batch
from hwmark.refimpl.config import ClusterConfig
from hwmark.refimpl.log import Log
from hwmark.refimpl.partition_change import without

MUTANTS = all_mutants.MUTANTS
OVERLAP = Mutant("overlap", "", where="log.Log.append_as_follower", old="< self.log_end_offset:", new="< 0:")
ACKS = MUTANTS["acks-all-is-acks-one"]


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS)
def test_each_mutant_changes_the_code_or_the_configuration(mutant: Mutant) -> None:
    if mutant.where:
        function = function_at(mutant.where)
        code = function.__code__
        with switched_on(mutant):
            assert (
                function.__code__.co_code != code.co_code
                or function.__code__.co_consts != code.co_consts
                or (function.__code__.co_names != code.co_names or function.__code__.co_varnames != code.co_varnames)
            )
        assert function.__code__ is code
    else:
        assert ClusterConfig()._replace(**mutant.changes) != ClusterConfig()
    assert mutant.why.endswith(".")


def test_there_are_enough_mutants_of_every_part() -> None:
    parts = {mutant.where.split(".")[0] for mutant in MUTANTS.values()}
    assert len(MUTANTS) == len({*map(_key, MUTANTS.values())}) >= 45
    assert {"log", "producer_state", "replica", "broker", "controller", "zookeeper"} <= parts
    assert {"transaction_coordinator", "group_coordinator", "assignors", "producer"} <= parts
    assert sum(bool(mutant.source) for mutant in MUTANTS.values()) >= 15


def _key(mutant: Mutant) -> object:
    return mutant.where, mutant.old, mutant.new, *mutant.changes


def test_a_mutant_is_off_again_after_an_error() -> None:
    overlapping = [Batch(0, 0, 0, ())]
    with pytest.raises(KeyError), switched_on(OVERLAP):
        Log(log_end_offset=1).append_as_follower(overlapping)
        raise KeyError
    with pytest.raises(ValueError, match="less than the end"):
        Log(log_end_offset=1).append_as_follower(overlapping)


def test_who_has_imported_a_function_has_the_mutant_too() -> None:
    mutant = Mutant("with", "", where="partition_change.without", old="not in", new="in")
    with switched_on(mutant):
        assert without((1, 2), (2, 3)) == (2,)
    assert without((1, 2), (2, 3)) == (1,)


def test_a_property_can_be_mutated() -> None:
    batch = Batch(0, 4, 0, ())
    with switched_on(Mutant("next", "", where="batches.Batch.next_offset", old=" + 1", new="")):
        assert batch.next_offset == 4
    assert batch.next_offset == 5


@pytest.mark.parametrize(
    ("where", "old", "why"),
    [
        ("replica.Replica.no_such", "x", "no function replica.Replica.no_such"),
        ("replica.Replica", "x", "no function replica.Replica"),
        ("replica.Replica.fetch", "no such text", "'no such text' 0 times"),
        ("replica.Replica.fetch", "now", "'now' [0-9]+ times"),
    ],
)
def test_a_stale_mutant_is_refused(where: str, old: str, why: str) -> None:
    with pytest.raises(StaleMutantError, match=why), switched_on(Mutant("stale", "", where=where, old=old)):
        pass


def test_a_hunt_finds_the_same_each_time_and_in_each_process() -> None:
    found = hunt(ACKS, 5)
    assert found is not None and found.promise == "what is acknowledged by all is committed"
    assert found.examples == 1 and found.steps > 0
    assert hunt_all([ACKS, OVERLAP], 1, workers=2) == hunt_all([ACKS, OVERLAP], 1, workers=1)
    assert hunt_all([ACKS, OVERLAP], 1, workers=2) == {ACKS.name: hunt(ACKS, 1), "overlap": None}


def test_what_breaks_without_the_mutant_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    failures = [Failure("history", "duplicate", "", {})] * 2 + [Failure("promises", NO_MACHINE_FAILS, "", {}), None]
    monkeypatch.setattr(hunting, "_go", lambda plan: (failures.pop(0), 7))
    monkeypatch.setattr(hunting, "_breaks_by_itself", hunting._breaks_by_itself.__wrapped__)
    assert hunt(OVERLAP, 5) == Found("crash", NO_MACHINE_FAILS, "", 2, 7)
    failures += [Failure("history", "duplicate", "", {})] * 4
    assert hunt(OVERLAP, 2) is None


def test_without_a_focus_a_seed_keeps_its_plan() -> None:
    assert draw_plan(5) == draw_plan(5, EVERYTHING)
    assert draw_plan(5, EVERYTHING._replace(nemeses=3))._replace(nemeses=1) == draw_plan(5)
