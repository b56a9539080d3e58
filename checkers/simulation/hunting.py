"""Looking for mutants: run after run, drawn from the seeds 0, 1, ... with the mutant's focus, until one is broken.

A run counts if it is broken with the mutant and not without it. The order is fixed and nothing else decides, so a hunt
finds the same each time. A hunt may begin with the example that has found the mutant before, as Hypothesis does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache, partial
from typing import NamedTuple

from hwmark.checkers.simulation.mutants import Mutant, switched_on
from hwmark.checkers.simulation.plan import Focus, Plan, draw_plan
from hwmark.checkers.simulation.processes import in_processes
from hwmark.checkers.simulation.promises import NO_MACHINE_FAILS
from hwmark.checkers.simulation.run import Run
from hwmark.checkers.simulation.trial import Failure

CRASH = "crash"
"""The checker that has found a machine that failed."""


class Found(NamedTuple):
    """What gave a mutant away: in which example, counted from 1, and after how many steps of the cluster."""

    checker: str
    promise: str
    why: str
    examples: int
    steps: int


def hunt(mutant: Mutant, examples: int, *, remembers: bool = False) -> Found | None:
    """The first of so many examples that breaks by the mutant. StaleMutantError if there is nothing to switch on."""
    seeds = [*dict.fromkeys([*([mutant.first] if remembers else []), *range(examples)])][:examples]
    for number, seed in enumerate(seeds, 1):
        plan = draw_plan(seed, mutant.focus)
        with switched_on(mutant):
            failure, steps = _go(_changed(plan, mutant))
        if failure and not _breaks_by_itself(seed, mutant.focus):
            checker = CRASH if failure.promise == NO_MACHINE_FAILS else failure.checker
            return Found(checker, failure.promise, failure.why, number, steps)
    return None


def hunt_all(
    mutants: Iterable[Mutant],
    examples: int,
    workers: int,
    progress: Callable[[Mutant], object] = lambda mutant: None,
    *,
    remembers: bool = False,
) -> dict[str, Found | None]:
    """What each mutant is given away by, found in so many processes; `progress` is told whom the hunt is over for."""
    mutants = [*mutants]
    found: dict[str, Found | None] = dict.fromkeys(mutant.name for mutant in mutants)
    for mutant, result in in_processes(partial(hunt, examples=examples, remembers=remembers), mutants, workers):
        found[mutant.name] = result
        progress(mutant)
    return found


@cache
def _breaks_by_itself(seed: int, focus: Focus) -> bool:
    """Whether a run is broken without a mutant; several mutants ask for the same one."""
    return _go(draw_plan(seed, focus))[0] is not None


def _changed(plan: Plan, mutant: Mutant) -> Plan:
    """The same plan for a cluster of the mutant's version."""
    setup = plan.setup
    return plan._replace(setup=setup._replace(config=setup.config._replace(**mutant.changes)))


def _go(plan: Plan) -> tuple[Failure | None, int]:
    run = Run(plan, keeps_actions=False)
    return run.go(), run.steps
