"""A model's steps and properties as formulas: one state in, the next one out, the choice of the action left to Z3."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import z3
from hwmark.checkers.prove.numbers import (
    Number,
    Truth,
    both,
    choose,
    constant,
    either,
    in_domain,
    opposite,
    variable,
    z3_truth,
)
from hwmark.checkers.prove.symbolic import Outcome, run
from hwmark.checkers.prove.values import Value
from hwmark.spec.instance import Action, Arguments, Instance


@dataclass(frozen=True)
class Question:
    """A function of the model with arguments that Z3 chooses from their domains."""

    action: Action
    arguments: dict[str, Number]
    outcome: Outcome

    @property
    def domain(self) -> Truth:
        """That the arguments lie in their domains."""
        inside: Truth = True
        for each in self.arguments.values():
            inside = both(inside, in_domain(each))
        return inside

    @property
    def goes_wrong(self) -> Truth:
        """That the function leaves a range."""
        return both(self.domain, self.outcome.error)

    @property
    def is_false(self) -> Truth:
        """That it returns false."""
        return both(self.domain, opposite(self.outcome.truth))

    def decoded(self, model: z3.ModelRef) -> Arguments:
        """The arguments that Z3 chose."""
        return {name: value_of(model, each) for name, each in self.arguments.items()}


def ask(instance: Instance, action: Action, state: Value, tag: str) -> Question:
    """The function on a state. All functions asked under one tag share their arguments, range by range."""
    arguments: dict[str, Number] = {}
    for position, (name, kind) in enumerate(action.domain):
        ranges = [(each.low, each.high) for _, each in action.domain[: position + 1]]
        nth = ranges.count(ranges[-1])
        arguments[name] = variable(f"{kind.low}..{kind.high}#{nth}@{tag}", kind.low, kind.high)
    return Question(action, arguments, run(instance, action.name, state, arguments))


@dataclass(frozen=True)
class Choice:
    """Every action on one state, and which of them is taken."""

    before: Value
    taken: Number
    questions: tuple[Question, ...]

    @property
    def error(self) -> Truth:
        """That the action taken leaves a range."""
        return self._of_the_one_taken(lambda each: each.goes_wrong)

    @property
    def enabled(self) -> Truth:
        """That the action taken is enabled."""
        return self._of_the_one_taken(lambda each: both(each.domain, each.outcome.truth))

    def _of_the_one_taken(self, holds: Callable[[Question], Truth]) -> Truth:
        found: Truth = False
        for number, each in enumerate(self.questions):
            found = either(found, both(self.taken.equals(number), holds(each)))
        return found

    @property
    def after(self) -> Value:
        """The state that the action taken leads to, if it is enabled."""
        after = self.before
        for number, each in enumerate(self.questions):
            after = _changed(self.taken.equals(number), self.before, each.outcome.state, after)
        return after


def choices(instance: Instance, state: Value, tag: str) -> Choice:
    """All actions on a state."""
    taken = variable(f"action@{tag}", 0, len(instance.actions) - 1)
    return Choice(state, taken, tuple(ask(instance, action, state, tag) for action in instance.actions))


def holds_always(instance: Instance, action: Action, state: Value) -> tuple[Truth, Truth]:
    """Whether a property holds for all arguments, and whether it leaves a range for any."""
    holds, error = True, False
    for arguments in action.choices():
        outcome = run(instance, action.name, state, {name: constant(value) for name, value in arguments.items()})
        holds, error = both(holds, outcome.truth), either(error, outcome.error)
    return holds, error


def _changed(test: Truth, before: Value, then: Value, other: Value) -> Value:
    """`then` where a test holds and it changed anything, else `other`."""
    if then is before:
        return other
    if isinstance(then, Number):
        assert isinstance(other, Number)
        return choose(test, then, other)
    assert isinstance(before, tuple) and isinstance(other, tuple)
    return tuple([_changed(test, *each) for each in zip(before, then, other, strict=True)])


def value_of(model: z3.ModelRef, number: Number) -> int:
    """The value that Z3 chose for a number."""
    if number.value is not None:
        return number.value
    if number.is_truth:
        return int(z3.is_true(model.eval(z3_truth(number.truth), model_completion=True)))
    bits = model.eval(number.bits, model_completion=True)
    return int(bits.as_signed_long() if number.low < 0 else bits.as_long())
