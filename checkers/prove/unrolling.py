"""A model unrolled from its initial states, a step at a time, into the assertions of one solver.

State 1 is initial. The scalars of each later state are variables of their own, as narrow as what can be in them after
so many steps; what cannot have changed yet stays a constant.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import z3
from hwmark.checkers.prove import values
from hwmark.checkers.prove.numbers import Number, Truth, both, constant, either, in_domain, opposite, variable, z3_truth
from hwmark.checkers.prove.reordering import Swap
from hwmark.checkers.prove.symmetry import introduced, introduced_by
from hwmark.checkers.prove.transition import Choice, Question, ask, choices, holds_always
from hwmark.checkers.prove.values import Value
from hwmark.spec.instance import Instance
from hwmark.spec.lang import Domain


@dataclass(frozen=True)
class Frame:
    """One state of the run, the property asked of it, and the action taken in it if it is inside the constraint."""

    state: Value
    asked: Question
    choice: Choice
    explored: Truth
    constraint_error: Truth

    @property
    def error(self) -> Truth:
        """That the constraint, the property or the action taken leaves a range."""
        return either(either(self.constraint_error, self.asked.goes_wrong), both(self.explored, self.choice.error))

    @property
    def bad(self) -> Truth:
        """That the property fails here, or something leaves a range."""
        return either(self.asked.is_false, self.error)


class Unrolling:
    """A run of growing length through a model, chosen by a solver."""

    def __init__(self, instance: Instance, solver: z3.Solver, invariant: str, symmetric: Sequence[Domain]) -> None:
        self.instance, self.solver, self.invariant = instance, solver, invariant
        self.init = ask(instance, instance.init, values.least(instance.state), "init")
        self.known: dict[Domain, Number] = {}
        for domain in symmetric:
            in_order, self.known[domain] = introduced(self.init, constant(0), domain)
            self.require(in_order)
        self.require(self.init.domain)
        self.swaps: tuple[Swap, ...] = ()
        self.frames: list[Frame] = []

    def require(self, truth: Truth) -> None:
        """Assert what holds of the run."""
        if truth is not True:
            self.solver.add(z3_truth(truth))

    def begin(self) -> None:
        """The first state, once nothing can go wrong in finding it."""
        self.require(self.init.outcome.truth)
        self._frame(self.init.outcome.state)

    def advance(self) -> None:
        """Take the step out of the last state."""
        frame, tag = self.frames[-1], f"{len(self.frames) + 1}"
        self.require(frame.explored)
        self.require(frame.choice.enabled)
        self._keep_order(len(self.frames) - 2)
        for domain, known in self.known.items():
            in_order, after = introduced_by(frame.choice, known, domain)
            self.require(in_order)
            self.known[domain] = self._named(f"known {domain.name}@{tag}", after)
        numbers = enumerate(values.scalars(frame.choice.after))
        named = [self._named(f"state.{position}@{tag}", number) for position, number in numbers]
        self._frame(values.of_numbers(self.instance.state, named))

    def use_order(self, found: Iterable[Swap]) -> None:
        """Leave out the orders of steps that these make superfluous, from the beginning of the run on."""
        self.swaps = tuple(found)
        for number in range(len(self.frames) - 2):
            self._keep_order(number)

    def _keep_order(self, number: int) -> None:
        """Leave out orders of the step out of a frame and the one after it, both of which are taken."""
        if number < 0:
            return
        before, after = self.frames[number].choice, self.frames[number + 1].choice
        for swap in self.swaps:
            self.require(opposite(swap.left_out(before, after)))

    def _frame(self, state: Value) -> None:
        instance, tag = self.instance, str(len(self.frames) + 1)
        constraint = instance.model.constraint
        explored, error = (
            holds_always(instance, instance.properties[constraint], state) if constraint else (True, False)
        )
        asked = ask(instance, instance.properties[self.invariant], state, f"witness@{tag}")
        choice = choices(instance, state, tag)
        self.require(in_domain(choice.taken))
        self.frames.append(Frame(state, asked, choice, explored, error))

    def _named(self, name: str, number: Number) -> Number:
        """A variable that equals a number, so that the solver sees the state and not its whole history."""
        if number.value is not None:
            return number
        named = variable(name, number.low, number.high)
        same = named.truth == z3_truth(number.truth) if named.is_truth else named.bits == number.bits
        self.solver.add(same)
        return named
