"""Schedules: the same for the same seed, well said, and complete: all is restored in the end."""

from __future__ import annotations

from random import Random
from threading import Event
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hwmark.checkers.cluster.cluster import Cluster
from hwmark.checkers.cluster.faults import KINDS, Fault, refuse
from hwmark.checkers.cluster.recipes import HOLD, LINKS, PROCESSES, RECIPES, Recipe
from hwmark.checkers.record import nemesis
from hwmark.checkers.record.run import Run

EACH = pytest.mark.parametrize("recipe", RECIPES.values(), ids=list(RECIPES))
SECONDS = (1.0, 8.0, 20.0, 60.0)


def test_the_recipes_are_the_ones_promised() -> None:
    promised = {"ack1-partition", "ack1-kill", "unclean", "last-replica", "power-fail", "rolling", "mixed"}
    assert promised | {"kills"} == set(RECIPES)
    assert {name for name, recipe in RECIPES.items() if recipe.loses} == promised - {"rolling", "mixed"}


@EACH
def test_the_same_seed_asks_for_the_same_faults(recipe: Recipe) -> None:
    assert recipe.schedule(Random(7), 60.0) == recipe.schedule(Random(7), 60.0)
    assert len({tuple(recipe.schedule(Random(seed), 60.0)) for seed in range(5)}) == 5


@EACH
@pytest.mark.parametrize("seconds", SECONDS)
def test_steps_come_in_order_and_the_last_restores_all(recipe: Recipe, seconds: float) -> None:
    for seed in range(20):
        steps = recipe.schedule(Random(seed), seconds)
        assert [step.at for step in steps] == sorted(step.at for step in steps)
        assert steps[0].at >= 0 and len(steps) > 1
        assert [step.fault.kind for step in steps].count("restore") == 1
        assert steps[-1].fault == Fault("restore")
        assert steps[-1].at >= seconds
        for step in steps:
            refuse(step.fault)


@EACH
def test_one_round_fits_into_the_seconds_that_a_recipe_asks_for(recipe: Recipe) -> None:
    for seed in range(20):
        *steps, end = recipe.schedule(Random(seed), recipe.seconds)
        assert end.at == recipe.seconds
        assert all(step.at < end.at for step in steps)


@EACH
def test_links_are_only_cut_where_a_network_is_asked_for(recipe: Recipe) -> None:
    kinds = {step.fault.kind for seed in range(50) for step in recipe.schedule(Random(seed), 60.0)}
    assert any(KINDS[kind].on_links for kind in kinds) == recipe.needs_network


@pytest.mark.parametrize(("name", "choices"), [("mixed", [*PROCESSES, *LINKS]), ("kills", PROCESSES)])
def test_whatever_may_be_drawn_is_drawn(name: str, choices: list[tuple[Fault, Fault]]) -> None:
    steps = [step.fault for seed in range(50) for step in RECIPES[name].schedule(Random(seed), 60.0)]
    assert {fault for fault, _ in choices} <= set(steps)


@pytest.mark.parametrize(("name", "choices"), [("mixed", [*PROCESSES, *LINKS]), ("kills", PROCESSES)])
def test_nothing_comes_again_before_all_have_come(name: str, choices: list[tuple[Fault, Fault]]) -> None:
    for seed in range(20):
        faults = [step.fault for step in RECIPES[name].schedule(Random(seed), 200.0)][:-1:3]
        assert len(set(faults[: len(choices)])) == len(choices)


@pytest.mark.parametrize("name", ["mixed", "kills"])
def test_drawn_faults_are_undone_before_the_next(name: str) -> None:
    for seed in range(50):
        faults = [step.fault for step in RECIPES[name].schedule(Random(seed), 60.0)][:-1]
        for fault, undo, wait in zip(faults[::3], faults[1::3], faults[2::3], strict=True):
            assert (fault, undo) in [*PROCESSES, *LINKS]
            assert wait.kind == "await"


@pytest.mark.parametrize("name", ["mixed", "kills"])
def test_faults_are_held_however_late_they_come(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes 5 s, of which the plan knows nothing."""
    run = SimpleNamespace(elapsed=0.0, stop=Event(), workload=SimpleNamespace(input_topics=[]))
    run.writer = SimpleNamespace(faults=0, note=lambda *told: None)
    done: list[tuple[float, float]] = []

    def wait(run: Any, seconds: float) -> None:
        run.elapsed += max(0.0, seconds)

    def take(*_: object) -> dict[str, Any]:
        done.append((run.elapsed, run.elapsed + 5))
        run.elapsed += 5
        return {"fault": "kill", "nodes": []}

    monkeypatch.setattr(nemesis, "pause", wait)
    steps = RECIPES[name].schedule(Random(3), 60.0)
    nemesis.Nemesis(cast(Cluster, None), steps, 3, take).run(cast(Run, run))
    assert len(done) == len(steps)
    for (_, fault_done), (undone, _), step in zip(done[:-1:3], done[1::3], steps[1::3], strict=True):
        assert undone - fault_done >= HOLD[0]
        assert undone - fault_done == pytest.approx(max(step.after, step.at - fault_done))


def test_longer_runs_have_more_rounds() -> None:
    kills = [len([s for s in RECIPES["power-fail"].schedule(Random(1), t) if s.fault.kind == "kill"]) for t in SECONDS]
    assert kills == [1, 1, 1, 3]
