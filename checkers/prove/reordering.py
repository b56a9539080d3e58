"""Steps that can change places: of all orders of independent steps only one is looked at.

Where Z3 proves, in any state, that a step followed by another can be replaced by the other followed by the one - both
enabled, nothing out of range, the same state in the end - the first order is left out if the model lists the other's
action first. Every run can be brought into the order that is left, step by step, without getting longer, and renaming a
run keeps its order, so that symmetry can be used besides.

Source: Lipton, Reduction (1975), for movers; Wang et al., Peephole partial order reduction (2008), for the encoding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import z3
from hwmark.checkers.prove import values
from hwmark.checkers.prove.numbers import Truth, both, equal, in_domain, opposite, z3_truth
from hwmark.checkers.prove.symbolic import run
from hwmark.checkers.prove.transition import Choice, Question, ask
from hwmark.spec.instance import Action, Instance

PROOF_MILLISECONDS = 250
"""Time for each proof; steps for which it is not enough keep both orders."""


@dataclass(frozen=True)
class Swap:
    """Actions, by number, of which the first needs never come right before the second.

    With `apart` that is so only where no argument of the one names the same thing as one of the other's.
    """

    first: int
    second: int
    apart: bool

    def left_out(self, before: Choice, after: Choice) -> Truth:
        """That two choices, one after the other, are the order that is left out."""
        taken = both(before.taken.equals(self.first), after.taken.equals(self.second))
        if not self.apart:
            return taken
        return both(taken, _apart(before.questions[self.first], after.questions[self.second]))


def swaps(instance: Instance) -> Iterator[Swap]:
    """What Z3 proves; nothing for a model with a constraint, whose states on the way matter."""
    if instance.model.constraint is not None:
        return
    for first, one in enumerate(instance.actions):
        for second, other in enumerate(instance.actions[:first]):
            apart = _swap(instance, one, other)
            if apart is not None:
                yield Swap(first, second, apart)


def _swap(instance: Instance, one: Action, other: Action) -> bool | None:
    """False if two actions can always change places, True if only where they are apart, None if nothing is proved."""
    state = values.variables(instance.state, "s")
    first = ask(instance, one, state, "first")
    second = ask(instance, other, first.outcome.state, "second")
    early = run(instance, other.name, state, second.arguments)
    late = run(instance, one.name, early.state, first.arguments)
    solver = z3.SolverFor("QF_FD")
    solver.set("timeout", PROOF_MILLISECONDS)
    solver.add(*(z3_truth(in_domain(each)) for each in values.scalars(state)))
    solver.add(*(z3_truth(both(each.domain, each.outcome.happens)) for each in (first, second)))
    swapped = both(both(early.happens, late.happens), values.same(late.state, second.outcome.state))
    solver.add(z3_truth(opposite(swapped)))
    if solver.check() == z3.unsat:
        return False
    apart = _apart(first, second)
    solver.add(z3_truth(apart))
    return True if apart is not True and solver.check() == z3.unsat else None


def _apart(one: Question, other: Question) -> Truth:
    """That no argument of one question names the same thing as one of the other's."""
    apart: Truth = True
    for name, kind in one.action.domain:
        for other_name, other_kind in other.action.domain:
            if kind.domain is not None and kind.domain == other_kind.domain:
                apart = both(apart, opposite(equal(one.arguments[name], other.arguments[other_name])))
    return apart
