"""Symmetric domains: proved symmetric first, then used to leave out runs that differ only by who is called what.

Of all renamings of a run one introduces the elements of a domain in their order: each action's parameters name elements
known already or the next new one. Only such runs are looked at, and that loses none exactly if the model commutes with
renamings. A declaration alone is not believed: Z3 has to prove it for two neighbours changing names, in any state, of
every action and of the property asked; where it cannot, every run is looked at.
"""

from __future__ import annotations

from collections.abc import Iterable

import z3
from hwmark.checkers.prove import values
from hwmark.checkers.prove.numbers import (
    Number,
    Truth,
    arithmetic,
    both,
    choose,
    clamp,
    compare,
    constant,
    either,
    in_domain,
    mask,
    opposite,
    variable,
    width_of,
    z3_truth,
)
from hwmark.checkers.prove.symbolic import Outcome, run
from hwmark.checkers.prove.transition import Choice, Question
from hwmark.checkers.prove.values import Value
from hwmark.spec.instance import Action, Instance
from hwmark.spec.lang import Domain
from hwmark.spec.layout import Record, Scalar, Sequence, Table, Type

PROOF_MILLISECONDS = 2000
"""Time for the proof of one function; a symmetry that takes longer is not used."""


def symmetric_domains(instance: Instance) -> tuple[Domain, ...]:
    """The domains declared symmetric that actions choose from."""
    kinds = [kind for action in instance.actions for _, kind in action.domain if kind.kind == "int"]
    return tuple({kind.domain: None for kind in kinds if kind.domain is not None and kind.domain.symmetric})


def introduced(question: Question, known: Number, domain: Domain) -> tuple[Truth, Number]:
    """That the arguments name elements below `known` or the next new one, and how many are known then."""
    in_order: Truth = True
    for name, kind in question.action.domain:
        if kind.domain == domain and kind.kind == "int":
            named = question.arguments[name]
            in_order = both(in_order, compare("<=", named, known))
            known = clamp(
                arithmetic("max", known, arithmetic("+", named, constant(1))), 0, max(known.high, kind.high + 1)
            )
    return in_order, known


def introduced_by(choice: Choice, known: Number, domain: Domain) -> tuple[Truth, Number]:
    """The same for the action taken."""
    in_order, after = True, known
    for number, each in enumerate(choice.questions):
        taken = choice.taken.equals(number)
        new_in_order, then = introduced(each, known, domain)
        in_order = both(in_order, either(opposite(taken), new_in_order))
        after = choose(taken, then, after)
    return in_order, after


def proved(instance: Instance, domain: Domain, names: Iterable[str]) -> bool:
    """Whether Z3 proves that these properties, all actions and the initial states stay the same under renaming."""
    kinds = [kind for action in instance.actions for _, kind in action.domain if kind.kind == "int"]
    count = max(kind.high for kind in kinds if kind.domain == domain) + 1
    if not _can_rename(instance.state, domain):
        return False
    asked = [*instance.actions, *(instance.properties[name] for name in names)]
    state = values.variables(instance.state, "s")
    least = values.least(instance.state)
    return all(
        _commutes(instance, instance.init, least, least, domain, one)
        and all(
            _commutes(instance, each, state, _renamed(instance.state, state, domain, one), domain, one)
            for each in asked
        )
        for one in range(count - 1)
    )


def _can_rename(kind: Type, domain: Domain) -> bool:
    """Whether renaming keeps a value canonical: what is sorted must not mention the domain."""
    match kind:
        case Scalar():
            return True
        case Record():
            return all(_can_rename(field.type, domain) for field in kind.fields)
        case Table():
            return _can_rename(kind.element, domain)
        case Sequence("seq"):
            return _can_rename(kind.element, domain)
    return not _mentions(kind, domain)


def _mentions(kind: Type, domain: Domain) -> bool:
    match kind:
        case Scalar():
            return kind.domain == domain
        case Record():
            return any(_mentions(field.type, domain) for field in kind.fields)
        case Table():
            return _mentions(kind.index, domain) or _mentions(kind.element, domain)
        case Sequence():
            return _mentions(kind.element, domain)


def _renamed(kind: Type, value: Value, domain: Domain, one: int) -> Value:
    """The value with the elements `one` and `one + 1` of a domain called by each other's names."""
    match kind:
        case Scalar():
            assert isinstance(value, Number)
            return _renamed_scalar(kind, value, one) if kind.domain == domain else value
        case Record():
            assert isinstance(value, tuple)
            pairs = zip(kind.fields, value, strict=True)
            return tuple([_renamed(field.type, each, domain, one) for field, each in pairs])
        case Table():
            assert isinstance(value, tuple)
            items = [_renamed(kind.element, each, domain, one) for each in value]
            if kind.index.domain == domain:
                items[one], items[one + 1] = items[one + 1], items[one]
            return tuple(items)
        case Sequence():
            assert isinstance(value, tuple)
            length, content = value
            assert isinstance(content, tuple)
            return length, tuple([_renamed(kind.element, each, domain, one) for each in content])


def _renamed_scalar(kind: Scalar, value: Number, one: int) -> Number:
    if kind.kind == "set":
        members = [value.bit(position) for position in range(width_of(0, kind.high))]
        members[one], members[one + 1] = members[one + 1], members[one]
        return mask(members)
    swapped = choose(value.equals(one), constant(one + 1), choose(value.equals(one + 1), constant(one), value))
    return clamp(swapped, kind.low, kind.high)


def _commutes(instance: Instance, action: Action, state: Value, other: Value, domain: Domain, one: int) -> bool:
    """Whether a function does on renamed state and arguments what it does on the original ones, renamed."""
    arguments = {name: variable(name, kind.low, kind.high) for name, kind in action.domain}
    renamed = {name: _renamed(kind, arguments[name], domain, one) for name, kind in action.domain}
    mine = run(instance, action.name, state, arguments)
    yours = run(instance, action.name, other, renamed)  # type: ignore[arg-type]  # a scalar renamed is a scalar
    solver = z3.SolverFor("QF_FD")
    solver.set("timeout", PROOF_MILLISECONDS)
    solver.add(*(z3_truth(in_domain(each)) for each in [*values.scalars(state), *arguments.values()]))
    solver.add(z3_truth(_differ(instance, action, mine, yours, domain, one)))
    return bool(solver.check() == z3.unsat)


def _differ(instance: Instance, action: Action, mine: Outcome, yours: Outcome, domain: Domain, one: int) -> Truth:
    """That one fails, or answers, otherwise than the other, or that an action leads elsewhere."""
    alike = opposite(_unlike(mine.error, yours.error))
    if action.name not in instance.properties:
        same = values.same(_renamed(instance.state, mine.state, domain, one), yours.state)
        reached = both(mine.truth, opposite(mine.error))
        alike = both(alike, either(opposite(reached), same))
    return opposite(both(alike, either(mine.error, opposite(_unlike(mine.truth, yours.truth)))))


def _unlike(one: Truth, other: Truth) -> Truth:
    return either(both(one, opposite(other)), both(opposite(one), other))
