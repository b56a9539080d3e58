"""All paths through a function at once: under which condition they are still running, and what they have done.

Where control forks each side goes its own way on shared values; where the sides meet again, what differs is merged
under the fork's condition. So a body is gone through once, whatever the number of its paths.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from hwmark.checkers.prove.numbers import Number, Truth, both, choose, constant, either, opposite
from hwmark.checkers.prove.values import Path, Step, Value, merge


class Condition:
    """What holds on the paths that come here: a condition on top of another, put together when somebody asks."""

    __slots__ = ("_base", "_extra", "_truth")

    def __init__(self, base: Condition | None, extra: Truth) -> None:
        self._base, self._extra = base, extra
        self._truth: Truth = None
        if extra is False or (base is not None and base.is_never):
            self._truth = False

    @property
    def is_never(self) -> bool:
        """Whether no path comes here."""
        return self._truth is False

    @property
    def truth(self) -> Truth:
        """The condition."""
        if self._truth is None:
            self._truth = self._extra if self._base is None else both(self._base.truth, self._extra)
        return self._truth


ALWAYS, NEVER = Condition(None, True), Condition(None, False)


class Reference(NamedTuple):
    """What a name stands for: a path into the value of an owner."""

    owner: str
    path: Path


Places = dict[str, Reference | None]
"""What names stand for; None for a name whose record was replaced by a later one."""


@dataclass
class Flow:
    """The paths of one call that still run. `memory` has the value of every owner, `scalars` the local numbers."""

    condition: Condition
    memory: dict[str, Value]
    scalars: dict[str, Number] = field(default_factory=dict)
    places: Places = field(default_factory=dict)

    def fork(self, test: Truth) -> Flow:
        """The paths on which a test holds."""
        condition = self.condition if test is True else Condition(self.condition, test)
        return Flow(condition, self.memory, dict(self.scalars), dict(self.places))

    def take(self, other: Flow) -> None:
        """Go on as another flow, forked from this one."""
        self.condition, self.memory, self.scalars, self.places = (
            other.condition, other.memory, other.scalars, other.places
        )  # fmt: skip

    def branch(self, test: Truth, then: Body, other: Body) -> None:
        """`if test: then; else: other`."""
        if isinstance(test, bool):
            (then if test else other)(self)
            return
        one, two = self.fork(test), self.fork(opposite(test))
        starts = one.condition, two.condition
        then(one)
        other(two)
        if one.condition.is_never or two.condition.is_never:
            self.take(two if one.condition.is_never else one)
            return
        if (one.condition, two.condition) != starts:
            self.condition = Condition(None, either(one.condition.truth, two.condition.truth))
        self.memory = merge_memory(test, one.memory, two.memory)
        self.scalars = _merged(one.scalars, two.scalars, lambda a, b: choose(test, a, b))
        self.places = _merged(one.places, two.places, lambda a, b: _merge_references(test, a, b))

    def only_if(self, test: Truth, evaluate: Evaluation) -> Number:
        """The value of an expression that is evaluated, effects included, only where a test holds."""
        condition, memory = self.condition, self.memory
        self.condition = condition if test is True else Condition(condition, test)
        value = evaluate()
        self.condition = condition
        self.memory = merge_memory(test, self.memory, memory)
        return value


Body = Callable[[Flow], None]
Evaluation = Callable[[], Number]

T = TypeVar("T")


def merge_memory(test: Truth, then: dict[str, Value], other: dict[str, Value]) -> dict[str, Value]:
    """The values of all owners: `then` if a test holds, else `other`."""
    return _merged(then, other, lambda mine, yours: merge(test, mine, yours))


def _merged(then: dict[str, T], other: dict[str, T], merge_two: Callable[[T, T], T]) -> dict[str, T]:
    """What both know merged; what one side alone knows is read on its paths alone, so it stays as it is."""
    if then is other:
        return then
    found = {**other, **then}
    for name, mine in then.items():
        if name in other and other[name] is not mine:
            found[name] = merge_two(mine, other[name])
    return found


def _merge_references(test: Truth, then: Reference | None, other: Reference | None) -> Reference | None:
    if then is None or other is None or then.owner != other.owner or len(then.path) != len(other.path):
        return None
    return Reference(
        then.owner, tuple([_merge_steps(test, *steps) for steps in zip(then.path, other.path, strict=True)])
    )


def _merge_steps(test: Truth, then: Step, other: Step) -> Step:
    if then is other or then == other:
        return then
    return choose(test, _as_number(then), _as_number(other))


def _as_number(step: Step) -> Number:
    return constant(step) if isinstance(step, int) else step
