"""The reference implementation under whatever may happen: by programs that Hypothesis draws, and by runs of seeds.

Every trial is watched for the promises of `hwmark.checkers.simulation.promises`, and its recorded history is judged by
the checkers for histories and for linearizability. In depth they run in two processes, and what never occurred fails.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hwmark.checkers.simulation.campaigns import Campaigns, failure_of_seed
from hwmark.checkers.simulation.coverage import NEVER_ANSWERED, SESSION
from hwmark.checkers.simulation.state_machine import ClusterMachine, examine
from hwmark.checkers.simulation.state_machines import MACHINES

QUICK_SEEDS = range(20)
DEEP_SEEDS = {f"seeds from {first}": range(first, first + 50) for first in range(1_000, 1_600, 50)}
STEPS_MIN = 5_000_000


@pytest.fixture(scope="session")
def campaigns(pytestconfig: pytest.Config) -> Iterator[Campaigns | None]:
    """In depth, the jobs of two processes."""
    profile = pytestconfig.getoption("--hypothesis-profile")
    jobs = Campaigns(profile, DEEP_SEEDS) if profile == "deep" else None
    yield jobs
    if jobs is not None:
        jobs.stop()


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.__name__)
def test_no_program_breaks_a_promise(machine: type[ClusterMachine], campaigns: Campaigns | None) -> None:
    if campaigns is None:
        examine(machine)
    else:
        fail_of(campaigns.failures(machine.__name__))


@pytest.mark.parametrize("seed", QUICK_SEEDS)
def test_no_run_of_a_seed_breaks_a_promise(seed: int) -> None:
    failure = failure_of_seed(seed)
    fail_of((failure,) if failure else ())


@pytest.mark.deep
@pytest.mark.parametrize("name", DEEP_SEEDS)
def test_no_run_of_many_seeds_breaks_a_promise(name: str, campaigns: Campaigns) -> None:
    fail_of(campaigns.failures(name))


@pytest.mark.deep
def test_whatever_can_occur_has_occurred(campaigns: Campaigns) -> None:
    """A promise that nothing happened to is none: every request, every error, every action, every rule."""
    campaigns.wait()
    rules = {f"{machine.__name__}.{rule.function.__name__}" for machine in MACHINES for rule in machine().rules}
    assert SESSION.missing() == []
    assert sorted(rules - SESSION.rules.keys()) == []
    assert SESSION.steps >= STEPS_MIN


def test_what_is_said_never_to_be_answered_never_is(campaigns: Campaigns | None) -> None:
    if campaigns is not None:
        campaigns.wait()
    answered = {error.name: count for error, count in SESSION.errors.items() if error in NEVER_ANSWERED and count}
    assert answered == {}


def fail_of(failures: tuple[str, ...]) -> None:
    """Say what was found, as those say it who found it."""
    if failures:
        pytest.fail("\n\n".join(failures), pytrace=False)
