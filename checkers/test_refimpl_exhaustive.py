"""Every interleaving of small clusters of the reference implementation keeps the promises."""

from __future__ import annotations

from functools import partial

import pytest
from hwmark.checkers.simulation.exhaustive import Scenario
from hwmark.checkers.simulation.export import export_run, verify_run
from hwmark.checkers.simulation.processes import processes
from hwmark.checkers.simulation.scenarios import BROKEN, LARGE, SCENARIOS
from hwmark.checkers.simulation.small_cluster import cluster_actions, explore, schedules_of

STATES_MAX = 2_000_000  # a search that has to stop there fails
SCHEDULES = 200_000  # at least so many interleavings are covered by the deep profile


def test_every_interleaving_keeps_the_promises() -> None:
    """All scenarios, reduced, in parallel processes."""
    with processes(2) as pool:
        for result in pool.map(partial(explore, max_states=STATES_MAX), SCENARIOS.values()):
            assert result.broken is None, result
            assert result.is_complete


@pytest.mark.parametrize("scenario", BROKEN, ids=lambda scenario: scenario.name)
def test_what_was_broken_is_found_with_its_shortest_interleaving(scenario: Scenario) -> None:
    """A version without the fix breaks the promise, and the run can be taken again."""
    result = explore(scenario)
    assert result.broken is not None
    why, events = result.broken
    assert why.startswith(BROKEN[scenario])
    trace = export_run(scenario.setup, cluster_actions(scenario, events), violated=BROKEN[scenario])
    assert verify_run(trace) is None


@pytest.mark.deep
def test_the_reduced_search_agrees_with_the_full_one(capsys: pytest.CaptureFixture[str]) -> None:
    """The same states, ends and verdicts, from fewer transitions; how many interleavings that are is counted."""
    scenarios = [*SCENARIOS.values(), *LARGE.values()]
    with processes(2) as pool:
        reduced = [*pool.map(partial(explore, max_states=STATES_MAX), scenarios)]
        full = [*pool.map(partial(explore, max_states=STATES_MAX, is_reduced=False), scenarios)]
        counts = [*pool.map(schedules_of, scenarios)]
    total = 0
    with capsys.disabled():
        print(f"\n{'scenario':55} {'states':>9} {'full':>9} {'reduced':>9} {'interleavings':>14}")
        for one, other, schedules in zip(reduced, full, counts, strict=True):
            row = f"{one.states:9,} {other.transitions:9,} {one.transitions:9,} {schedules:14.3g}"
            print(f"{one.scenario:55} {row}")
            assert one.broken is None
            assert one.is_complete
            assert (one.states, one.ends, one.broken) == (other.states, other.ends, other.broken)
            assert one.transitions <= other.transitions
            total += schedules
    assert total >= SCHEDULES
