"""`explore`: the exhaustive check of an instance, and everything there is to say about it afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hwmark.checkers.compiler import Compiled, compile_instance
from hwmark.checkers.explore.engine import Finding, OutOfMemoryError, Progress, Search, memory_limit_default
from hwmark.checkers.replay import DEADLOCK, OUT_OF_RANGE, first_range_error, trace_of
from hwmark.checkers.verdict import Holds, Unknown, Violated
from hwmark.spec.errors import RangeError
from hwmark.spec.instance import Instance, Step
from hwmark.traces.trace import Trace

if TYPE_CHECKING:
    from pathlib import Path

SYMMETRY_SAMPLE = 40
"""States on which a declared symmetry is tried."""


@dataclass(frozen=True)
class Exploration:
    """What an exhaustive search found. Counts and depth count states, the initial ones included.

    `depth` is that of the whole space, or the length of the shortest counterexample. `coverage` says how often each
    action was enabled, `reached` which `sometimes` properties were true somewhere; both are final only where the search
    was complete.
    """

    instance: Instance
    invariants: tuple[str, ...]
    symmetry: bool
    verdict: Holds | Violated[Trace] | Unknown
    distinct: int
    generated: int
    depth: int
    coverage: dict[str, int]
    reached: frozenset[str]
    warnings: tuple[str, ...]
    seconds: float
    error: str | None = None

    @property
    def trace(self) -> Trace | None:
        """The shortest counterexample, if there is one."""
        return self.verdict.witness if isinstance(self.verdict, Violated) else None

    @property
    def never_fired(self) -> tuple[str, ...]:
        """Actions that were enabled in no state that was found."""
        return tuple(name for name, count in self.coverage.items() if count == 0)

    @property
    def never_true(self) -> tuple[str, ...]:
        """`sometimes` properties that no state that was found has."""
        return tuple(name for name in self.instance.model.sometimes if name not in self.reached)

    @property
    def states_per_second(self) -> float:
        """Distinct states a second, compilation left out."""
        return self.distinct / max(self.seconds, 1e-9)


def explore(
    instance: Instance,
    invariants: Sequence[str] | None = None,
    *,
    symmetry: bool = False,
    deadlock: bool = False,
    workers: int = 1,
    max_states: int | None = None,
    memory_limit: int | None = None,
    directory: Path | None = None,
    progress: Callable[[Progress], None] | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Exploration:
    """Check every reachable state of an instance against the invariants, by default the standing ones.

    Breadth-first and exact: whole states are compared, a counterexample is a shortest one, and neither counts nor
    traces depend on the number of workers. Beyond `memory_limit` bytes the search goes on in `directory`, which `tell`
    is told of. A limit that was reached, or an interrupt, gives Unknown with what was found until then.
    """
    compiled = compile_instance(instance, invariants, symmetry=symmetry)
    search = Search(compiled, workers, memory_limit or memory_limit_default(), max_states, deadlock, progress)
    try:
        finding = search.run()
    except OutOfMemoryError:
        from hwmark.checkers.explore.disk import DiskSearch, forecast

        tell(forecast(search, directory))
        search = DiskSearch.of(search, directory)
        finding = search.run()
    seconds = search.seconds
    warnings = _warnings(compiled, search) if symmetry else ()
    try:
        error, trace = (None, None) if finding is None else _counterexample(compiled, search, finding)
    except NotSymmetricError as mismatch:
        error, trace, warnings = None, None, (*warnings, str(mismatch))
    return Exploration(
        instance=instance,
        invariants=compiled.invariants,
        symmetry=symmetry,
        verdict=_verdict(finding, trace, search.stopped, warnings),
        distinct=search.distinct,
        generated=search.generated,
        depth=len(search.levels) if trace is None else len(trace.steps) + 1,
        coverage=search.coverage,
        reached=search.reached,
        warnings=warnings,
        seconds=seconds,
        error=error,
    )


def _verdict(
    finding: Finding | None, trace: Trace | None, stopped: str | None, warnings: tuple[str, ...]
) -> Holds | Violated[Trace] | Unknown:
    if finding is not None and trace is not None:
        return Violated(finding.name, trace)
    if finding is not None:
        return Unknown(warnings[-1])
    if stopped is not None:
        return Unknown(stopped)
    return Unknown(warnings[0]) if warnings else Holds()


# ----------------------------------------------------------------------------------------- counterexamples


def _counterexample(compiled: Compiled, search: Search, finding: Finding) -> tuple[str | None, Trace]:
    """The trace to a finding, and for a failed range check what exactly was out of range."""
    instance = compiled.instance
    path = [finding.row]
    for level in reversed(search.levels[: finding.before]):
        path.append(search.least_predecessor(level, path[-1]))
    initial, steps = _steps_along(compiled, path[::-1])
    last = steps[-1].row if steps else initial
    error, witness = None, None
    if finding.name == OUT_OF_RANGE:
        found_error = first_range_error(instance, last, compiled.invariants)
        require_like_called(compiled, found_error is not None, "a failed range check")
        error, witness = found_error or (None, None)
    elif finding.name == DEADLOCK:
        require_like_called(compiled, not list(instance.successors(last)), DEADLOCK)
    else:
        found = instance.witness(finding.name, last)
        require_like_called(compiled, found is not None, finding.name)
        witness = instance.properties[finding.name].show(found or {})
    return error, trace_of(instance, initial, steps, engine="explore", violated=finding.name, witness=witness)


def _steps_along(compiled: Compiled, path: list[bytes]) -> tuple[bytes, list[Step]]:
    """An initial state, and steps that lead through these rows, or under symmetry through renamings of them."""
    instance = compiled.instance
    initial = next(row for row in instance.initial() if compiled.representative(row) == path[0])
    row, steps = initial, []
    for target in path[1:]:
        step = next((step for step in instance.successors(row) if compiled.representative(step.row) == target), None)
        require_like_called(compiled, step is not None, "a step")
        assert step is not None
        steps.append(step)
        row = step.row
    return initial, steps


class NotSymmetricError(Exception):
    """A counterexample that only a renaming of its states has: the model tells apart what it declares symmetric."""


def require_like_called(compiled: Compiled, agrees: bool, what: str) -> None:
    """What the search found must be so when the model is called; with symmetry, the model may break its own promise."""
    if agrees:
        return
    if compiled.canonical:
        names = ", ".join(name for name, _, _ in compiled.renamings)
        raise NotSymmetricError(
            f"the model breaks the symmetry of {names}: {what} that was found is only some renaming's"
        )
    raise AssertionError(f"the compiled model has {what} that the called one has not")


# ---------------------------------------------------------------------------------------------- symmetry


def _warnings(compiled: Compiled, search: Search) -> tuple[str, ...]:
    """What shows that the model is not symmetric after all: a state and a renaming of it that behave differently."""
    for number, (name, count, _) in enumerate(compiled.renamings):
        for row in search.sample(SYMMETRY_SAMPLE):
            for renaming in range(1, min(count, 6)):
                broken = _difference(compiled, row, compiled.renamed(row, number, renaming))
                if broken is not None:
                    return (f"the model breaks the symmetry of {name}: {broken} tells one from another",)
    return ()


def _difference(compiled: Compiled, row: bytes, renamed: bytes) -> str | None:
    """The action or property that tells a state from a renaming of it."""
    instance = compiled.instance
    try:
        left, right = (_behaviour(compiled, each) for each in (row, renamed))
        for action in instance.actions:
            if left.get(action.name) != right.get(action.name):
                return action.name
        for name in instance.properties:
            if (instance.witness(name, row) is None) != (instance.witness(name, renamed) is None):
                return name
    except RangeError:
        pass
    return None


def _behaviour(compiled: Compiled, row: bytes) -> dict[str, set[bytes]]:
    """Where each action leads, up to renaming."""
    reached: dict[str, set[bytes]] = {}
    for step in compiled.instance.successors(row):
        reached.setdefault(step.action, set()).add(compiled.representative(step.row))
    return reached
