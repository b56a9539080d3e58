"""Many trials in several processes: state machines, and runs of seeds, each a job whose findings come back as text."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any, NamedTuple

from hwmark.checkers import profiles as profiles  # a process that is spawned has to know them
from hwmark.checkers.simulation import coverage
from hwmark.checkers.simulation.coverage import Coverage
from hwmark.checkers.simulation.plan import draw_plan
from hwmark.checkers.simulation.processes import processes
from hwmark.checkers.simulation.run import Run
from hwmark.checkers.simulation.state_machine import examine
from hwmark.checkers.simulation.state_machines import MACHINES
from hwmark.checkers.simulation.trial import FOLDER
from hypothesis import settings


class Findings(NamedTuple):
    """What a job found, and what its clusters have been through."""

    failures: tuple[str, ...]
    coverage: Coverage


def examine_machine(name: str, profile: str) -> Findings:
    """Hypothesis's search, with a state machine's name, in a process of its own."""
    settings.load_profile(profile)
    machine = next(machine for machine in MACHINES if machine.__name__ == name)
    return _find(lambda: _failure_of(machine))


def run_seeds(seeds: Iterable[int]) -> Findings:
    """The runs of some seeds, in a process of its own."""
    return _find(lambda: tuple(filter(None, map(failure_of_seed, seeds))))


def failure_of_seed(seed: int) -> str | None:
    """What the run of a seed breaks."""
    run = Run(draw_plan(seed))
    failure = run.go()
    return None if failure is None else f"run_seed({seed}): {failure}\n{run.save(failure, FOLDER, f'seed-{seed}')}"


def _failure_of(machine: Any) -> tuple[str, ...]:
    try:
        examine(machine)
    except Exception as failure:  # whatever a rule or a machine raises is what was looked for
        return ("".join(traceback.format_exception(failure)),)
    return ()


def _find(look: Callable[[], tuple[str, ...]]) -> Findings:
    """The coverage of this job alone."""
    coverage.SESSION.clear()
    return Findings(look(), coverage.SESSION)


class Campaigns:
    """Jobs by name, started all at once; what they have been through is counted here as if it had happened here."""

    def __init__(self, profile: str, seeds: dict[str, range]) -> None:
        self._pool = processes(2)
        self._jobs: dict[str, Future[Findings]] = {}
        for machine in MACHINES:
            self._jobs[machine.__name__] = self._pool.submit(examine_machine, machine.__name__, profile)
        for name, some in seeds.items():
            self._jobs[name] = self._pool.submit(run_seeds, some)
        self._done: dict[str, tuple[str, ...]] = {}

    def failures(self, name: str) -> tuple[str, ...]:
        """What a job found; waits for it."""
        if name not in self._done:
            findings = self._jobs[name].result()
            coverage.SESSION.add(findings.coverage)
            self._done[name] = findings.failures
        return self._done[name]

    def wait(self) -> None:
        """Until all jobs are over."""
        for name in self._jobs:
            self.failures(name)

    def stop(self) -> None:
        """Nobody wants to know the rest."""
        self._pool.shutdown(cancel_futures=True)
