"""The places and the expressions of the specification language over values that Z3 chooses.

Evaluating one can fail as it can in CPython, and, where it calls functions, write; what is evaluated under a condition
only (`and`, `or`, `if`, `any`, `all`) fails and writes under that condition only.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import partial

from hwmark.checkers.prove import values
from hwmark.checkers.prove.flow import Condition, Flow, Reference
from hwmark.checkers.prove.numbers import (
    Number,
    Truth,
    arithmetic,
    both,
    choose,
    clamp,
    compare,
    constant,
    contains,
    count,
    either,
    fits,
    less,
    number_of,
    only,
    opposite,
)
from hwmark.checkers.prove.values import Value
from hwmark.spec import terms
from hwmark.spec.errors import SpecError
from hwmark.spec.instance import Instance
from hwmark.spec.layout import Record, Scalar, Sequence, Table, Type

TURNS_MAX = 4096
"""Turns that a loop may be unrolled to."""


@dataclass(frozen=True)
class Error:
    """A RangeError of CPython, and the condition under which it happens."""

    condition: Truth
    function: str
    file: str
    line: int
    what: str


class Machine:
    """What all calls of one execution share."""

    def __init__(self, instance: Instance) -> None:
        self.title, self.functions = instance.model.title, instance.program.functions
        self.errors: list[Error] = []
        self.fresh = itertools.count()

    def owner(self, name: str) -> str:
        """A name for an owner that no other has."""
        return f"{name}#{next(self.fresh)}"


class Evaluator:
    """Evaluates in one call of a function. `entry` is when the call happens; a flow's condition is relative to it."""

    def __init__(self, machine: Machine, function: terms.Function, entry: Condition) -> None:
        self.machine, self.function, self.entry = machine, function, entry

    def call(self, flow: Flow, call: terms.Call) -> Number | None:
        """Execute another function; its value, if it has one."""
        raise NotImplementedError

    def where(self, line: int) -> str:
        """The beginning of a message about a line of the function."""
        return f"{self.machine.title}: {self.function.file}:{line}: in {self.function.name}"

    def fail(self, flow: Flow, violation: Truth, line: int, what: str) -> None:
        """Record an error."""
        if violation is False or flow.condition.is_never or self.entry.is_never:
            return
        condition = both(self.entry.truth, both(flow.condition.truth, violation))
        self.machine.errors.append(Error(condition, self.function.name, self.function.file, line, what))

    def inside(self, flow: Flow, index: Number, length: Number, line: int) -> None:
        """An index must be that of an element."""
        outside = opposite(both(opposite(less(index, constant(0))), less(index, length)))
        self.fail(flow, outside, line, "an index outside the sequence")

    def countable(self, turns: range, line: int) -> None:
        """Refuse a loop that nobody can unroll."""
        if len(turns) > TURNS_MAX:
            raise SpecError(f"{self.where(line)}: a loop of up to {len(turns)} turns is too long for Z3")

    # -------------------------------------------------------------------------------------------- places

    def temporary(self, flow: Flow, value: Value) -> Reference:
        """A record without a name."""
        owner = self.machine.owner("")
        flow.memory = {**flow.memory, owner: value}
        return Reference(owner, ())

    def place(self, flow: Flow, place: terms.Place) -> Reference:
        """Where a place is now: its indices are evaluated and checked."""
        match place:
            case terms.Root(name):
                found = flow.places[name]
                if found is None:
                    why = f"Z3 cannot tell which record {name} stands for; give each record a name of its own"
                    raise SpecError(f"{self.where(self.function.line)}: {why}")
                return found
            case terms.Member(of, member):
                base = self.place(flow, of)
                assert isinstance(of.type, Record)
                position = next(at for at, each in enumerate(of.type.fields) if each.name == member.name)
                return Reference(base.owner, (*base.path, position))
            case terms.Item(of, index, kind, line):
                return self.item(flow, self.place(flow, of), of.type, self.number(flow, index), kind, line)

    def item(self, flow: Flow, base: Reference, of: Type, index: Number, kind: Type, line: int) -> Reference:
        """An element of an array or a sequence."""
        assert isinstance(of, Table | Sequence)
        if isinstance(of, Table):
            room, path = of.count, base.path
            self.inside(flow, index, constant(room), line)
        else:
            room, path = of.capacity, (*base.path, 1)
            self.inside(flow, index, self.length(flow, base), line)
        if index.high < 0 or index.low >= room:
            return self.temporary(flow, values.least(kind))
        within = clamp(index, 0, room - 1)
        return Reference(base.owner, (*path, within if within.value is None else within.value))

    def read(self, flow: Flow, reference: Reference) -> Value:
        """What lies at a place."""
        return values.read(flow.memory[reference.owner], reference.path)

    def write(self, flow: Flow, reference: Reference, value: Value) -> None:
        """Replace what lies at a place."""
        owner = reference.owner
        flow.memory = {**flow.memory, owner: values.write(flow.memory[owner], reference.path, value)}

    def length(self, flow: Flow, sequence: Reference) -> Number:
        """How many elements a sequence has."""
        found = self.read(flow, Reference(sequence.owner, (*sequence.path, 0)))
        assert isinstance(found, Number)
        return found

    def source(self, flow: Flow, source: terms.Source) -> Value:
        """The content of a record or container."""
        if not isinstance(source, terms.Fresh):
            return self.read(flow, self.place(flow, source))
        kinds = [field.type for field in source.type.fields]
        contents = [self.content(flow, part) for part in source.values]
        return tuple([self.fitting(flow, *each, source.line) for each in zip(kinds, contents, strict=True)])

    def content(self, flow: Flow, given: terms.Expr | terms.Source) -> Value:
        """The value of an expression, or the content of a record or container."""
        if isinstance(given, terms.Source):
            return self.source(flow, given)
        return self.number(flow, given)

    def fitting(self, flow: Flow, kind: Type, value: Value, line: int) -> Value:
        """A value to be stored where the type is this one: a number must be inside its range."""
        if isinstance(value, Number):
            assert isinstance(kind, Scalar)
            outside = opposite(fits(value, kind.low, kind.high))
            self.fail(flow, outside, line, f"a value outside {kind.low}..{kind.high}")
            return clamp(value, kind.low, kind.high)
        return value

    # --------------------------------------------------------------------------------------- expressions

    def truth(self, flow: Flow, expr: terms.Expr) -> Truth:
        """Whether an expression is not zero."""
        return self.number(flow, expr).truth

    def number(self, flow: Flow, expr: terms.Expr) -> Number:
        """The value of an expression."""
        match expr:
            case terms.Const(value):
                return constant(value)
            case terms.Local(name):
                return flow.scalars[name]
            case terms.Load(place):
                return self.load(flow, place)
            case terms.Length(place):
                return self.length(flow, self.place(flow, place))
            case terms.Binary(operator, left, right):
                one = self.number(flow, left)
                return arithmetic(operator, one, self.number(flow, right))
            case terms.Choose(test, then, other):
                return self.conditional(flow, self.truth(flow, test), then, other)
            case terms.Bit(element, line):
                member = self.number(flow, element)
                self.fail(flow, less(member, constant(0)), line, "an element below 0")
                return only(member)
            case terms.Count(members):
                return count(self.number(flow, members))
            case terms.Over("sum"):
                return self.total(flow, expr)
            case terms.Call():
                returned = self.call(flow, expr)
                return constant(0) if returned is None else returned
        return number_of(self.question(flow, expr))

    def question(self, flow: Flow, expr: terms.Expr) -> Truth:
        """The value of an expression that asks something."""
        match expr:
            case terms.Compare(operator, left, right):
                one = self.number(flow, left)
                return compare(operator, one, self.number(flow, right))
            case terms.Junction(operator, parts):
                return self.junction(flow, operator == "and", parts)
            case terms.Not(part):
                return opposite(self.truth(flow, part))
            case terms.Contains(members, element):
                one = self.number(flow, members)
                return contains(one, self.number(flow, element))
            case terms.Same(left, right):
                mine = self.read(flow, self.place(flow, left))
                return values.same(mine, self.source(flow, right))
            case terms.Has(place, _, message):
                messages = self.place(flow, place)
                return values.has(self.read(flow, messages), self.source(flow, message))
            case terms.Over():
                return self.quantified(flow, expr)
        raise AssertionError(expr)

    def load(self, flow: Flow, place: terms.Place) -> Number:
        """The scalar at a place."""
        found = self.read(flow, self.place(flow, place))
        assert isinstance(found, Number)
        return found

    def conditional(self, flow: Flow, test: Truth, then: terms.Expr, other: terms.Expr) -> Number:
        """`then if test else other`: only one of them is evaluated."""
        if isinstance(test, bool):
            return self.number(flow, then if test else other)
        one = flow.only_if(test, lambda: self.number(flow, then))
        return choose(test, one, flow.only_if(opposite(test), lambda: self.number(flow, other)))

    def junction(self, flow: Flow, conjunction: bool, parts: tuple[terms.Expr, ...]) -> Truth:
        """`and` or `or`: a part is evaluated where the parts before it leave the question open."""
        decided: Truth = False
        for part in parts:
            if decided is True:
                break
            found = flow.only_if(opposite(decided), partial(self.number, flow, part)).truth
            decided = either(decided, opposite(found) if conjunction else found)
        return opposite(decided) if conjunction else decided

    def quantified(self, flow: Flow, over: terms.Over) -> Truth:
        """`any` or `all`: an element is looked at where those before it leave the question open."""
        decided: Truth = False
        for now, turning in self.turns(flow, over):
            if decided is True:
                break
            found = self.element(flow, over, now, both(opposite(decided), turning))
            decided = either(decided, found)
        return opposite(decided) if over.operator == "all" else decided

    def element(self, flow: Flow, over: terms.Over, now: Number, looked_at: Truth) -> Truth:
        """Whether this element decides the question."""
        with_name = dict(flow.scalars)
        with_name[over.name] = now
        outer, flow.scalars = flow.scalars, with_name
        test = flow.only_if(looked_at, lambda: self.number(flow, over.test)).truth
        counts = both(looked_at, test)
        found: Truth = False
        if counts is not False:
            found = flow.only_if(counts, lambda: self.number(flow, over.body)).truth
        flow.scalars = outer
        return both(counts, opposite(found) if over.operator == "all" else found)

    def total(self, flow: Flow, over: terms.Over) -> Number:
        """`sum`."""
        total = constant(0)
        for now, turning in self.turns(flow, over):
            outer, flow.scalars = flow.scalars, {**flow.scalars, over.name: now}
            test = flow.only_if(turning, lambda: self.number(flow, over.test)).truth
            counts = both(turning, test)
            if counts is not False:
                term = flow.only_if(counts, lambda: self.number(flow, over.body))
                total = arithmetic("+", total, choose(counts, term, constant(0)))
            flow.scalars = outer
        return total

    def turns(self, flow: Flow, over: terms.Over) -> list[tuple[Number, Truth]]:
        """The elements of a range, and whether it has them."""
        start, stop = self.number(flow, over.start), self.number(flow, over.stop)
        turns = range(start.low, stop.high)
        self.countable(turns, self.function.line)
        found = [(now, both(opposite(less(now, start)), less(now, stop))) for now in map(constant, turns)]
        return [(now, turning) for now, turning in found if turning is not False]
