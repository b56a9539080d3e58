"""The interpretation of specification functions over values that Z3 chooses.

`run` executes one function of a model on a symbolic state: all of its paths at once (see `flow`), places by reference,
loops unrolled as far as the intervals of their ranges go, calls executed in place. What CPython would report as a
RangeError becomes an Error with the condition under which it happens. `hwmark.spec.views` is the reference for what
each term means.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from hwmark.checkers.prove import values
from hwmark.checkers.prove.expressions import Error, Evaluator, Machine
from hwmark.checkers.prove.flow import ALWAYS, NEVER, Condition, Flow, Places, Reference, merge_memory
from hwmark.checkers.prove.numbers import Number, Truth, both, choose, constant, either, fits, less, opposite
from hwmark.checkers.prove.values import Value
from hwmark.spec import terms
from hwmark.spec.instance import Instance
from hwmark.spec.layout import Sequence

STATE = "state"


@dataclass(frozen=True)
class Outcome:
    """What a function returns (None if nothing), the state that it leaves behind, and what can go wrong in it."""

    value: Number | None
    state: Value
    errors: tuple[Error, ...]

    @property
    def truth(self) -> Truth:
        """Whether an action was enabled or a property holds; nothing returned counts as true."""
        return self.value is None or self.value.truth

    @property
    def happens(self) -> Truth:
        """Whether an action is enabled and nothing goes wrong in it."""
        return both(self.truth, opposite(self.error))

    @property
    def error(self) -> Truth:
        """Whether anything goes wrong."""
        found: Truth = False
        for each in self.errors:
            found = either(found, each.condition)
        return found


def run(instance: Instance, name: str, state: Value, arguments: Mapping[str, Number]) -> Outcome:
    """Execute the function that a name of the model is bound to.

    Of an action that returns False as a constant the state is not kept: a disabled action has none.
    Raises SpecError for a body that cannot be unrolled.
    """
    function = instance.terms(name)
    machine = Machine(instance)
    call = Call(machine, function, ALWAYS, name in instance.model.actions)
    flow = Flow(ALWAYS, {STATE: state}, dict(arguments), {function.parameters[0].name: Reference(STATE, ())})
    value, memory = call.execute(flow)
    return Outcome(value, memory[STATE], tuple(machine.errors))


@dataclass
class Exit:
    """A return: where from, with what value, and what memory looks like then."""

    condition: Truth
    value: Number | None
    memory: dict[str, Value]


class Call(Evaluator):
    """One call of a function in progress."""

    def __init__(self, machine: Machine, function: terms.Function, entry: Condition, is_action: bool = False) -> None:
        super().__init__(machine, function, entry)
        self.is_action = is_action
        self.exits: list[Exit] = []
        self.own: dict[str, str] = {}

    def execute(self, flow: Flow) -> tuple[Number | None, dict[str, Value]]:
        """Run the body; the value returned, and the memory that the caller goes on with."""
        known = flow.memory
        self.block(flow, self.function.body)
        if not flow.condition.is_never:
            self.leave(flow, None)
        value, memory = self.value_returned(), self.memory_left()
        return value, {owner: memory[owner] for owner in known}

    def leave(self, flow: Flow, value: Number | None) -> None:
        """Return: these paths end here."""
        self.exits.append(Exit(flow.condition.truth, value, flow.memory))
        flow.condition = NEVER

    def value_returned(self) -> Number | None:
        """The values of all returns merged."""
        *earlier, last = self.exits
        value = last.value
        for leaving in reversed(earlier):
            if value is not None and leaving.value is not None:
                value = choose(leaving.condition, leaving.value, value)
        return value

    def memory_left(self) -> dict[str, Value]:
        """What all returns leave behind merged; what a disabled action wrote nobody looks at."""
        kept = [each for each in self.exits if not self.is_disabled(each)] or self.exits[-1:]
        memory = kept[-1].memory
        for leaving in reversed(kept[:-1]):
            memory = merge_memory(leaving.condition, leaving.memory, memory)
        return memory

    def is_disabled(self, leaving: Exit) -> bool:
        """Whether this return says that an action is disabled."""
        return self.is_action and leaving.value is not None and leaving.value.value == 0

    # ---------------------------------------------------------------------------------------- statements

    def block(self, flow: Flow, body: tuple[terms.Statement, ...]) -> None:
        """Statements in order, as long as any path runs."""
        for statement in body:
            if flow.condition.is_never:
                return
            self.statement(flow, statement)

    def statement(self, flow: Flow, statement: terms.Statement) -> None:
        """One statement."""
        match statement:
            case terms.SetLocal(name, value):
                flow.scalars[name] = self.number(flow, value)
            case terms.Bind(name, place):
                flow.places[name] = self.place(flow, place)
            case terms.New(name, _, source):
                self.new(flow, name, self.source(flow, source))
            case terms.Store(place, kind, value, line):
                stored = self.number(flow, value)
                self.write(flow, self.place(flow, place), self.fitting(flow, kind, stored, line))
            case terms.Copy(place, source):
                copied = self.source(flow, source)
                self.write(flow, self.place(flow, place), copied)
            case terms.If(test, then, other):
                truth = self.truth(flow, test)
                flow.branch(truth, lambda side: self.block(side, then), lambda side: self.block(side, other))
            case terms.For():
                self.loop(flow, statement)
            case terms.Return(value):
                returned = None if value is None else self.number(flow, value)
                self.leave(flow, returned)
            case terms.Do(call):
                self.call(flow, call)
            case _:
                self.change(flow, statement)

    def change(self, flow: Flow, statement: terms.Append | terms.Truncate | terms.Send | terms.Discard) -> None:
        """A statement that changes a sequence, a bag or a set of messages."""
        place, kind = self.place(flow, statement.place), statement.type
        match statement:
            case terms.Append(_, _, element, line):
                added = self.fitting(flow, kind.element, self.content(flow, element), line)
                self.room(flow, place, kind, True, line)
                changed = values.appended(self.read(flow, place), added)
            case terms.Truncate(_, _, length, line):
                wanted = self.number(flow, length)
                too_long = opposite(
                    both(fits(wanted, 0, kind.capacity), opposite(less(self.length(flow, place), wanted)))
                )
                self.fail(flow, too_long, line, "a sequence cannot be truncated to more than its length")
                changed = values.truncated(self.read(flow, place), wanted, values.least(kind.element))
            case terms.Send(_, _, message, line):
                added = self.source(flow, message)
                before = self.read(flow, place)
                new = True if kind.kind == "bag" else opposite(values.has(before, added))
                self.room(flow, place, kind, new, line)
                changed = values.merge(new, values.sent(before, added), before)
            case terms.Discard(_, _, index, line):
                position = self.number(flow, index)
                self.inside(flow, position, self.length(flow, place), line)
                changed = values.discarded(self.read(flow, place), position, values.least(kind.element))
        self.write(flow, place, changed)

    def room(self, flow: Flow, place: Reference, kind: Sequence, needed: Truth, line: int) -> None:
        """An element more must fit."""
        full = self.length(flow, place).equals(kind.capacity)
        self.fail(flow, both(needed, full), line, f"more than {kind.capacity} elements")

    def loop(self, flow: Flow, loop: terms.For) -> None:
        """Every turn that the interval of the range allows, guarded."""
        start, stop = self.number(flow, loop.start), self.number(flow, loop.stop)
        turns = range(start.low, stop.high) if loop.step == 1 else range(start.high, stop.low, -1)
        self.countable(turns, self.function.line)
        for turn in turns:
            if flow.condition.is_never:
                return
            now = constant(turn)
            begun = opposite(less(now, start) if loop.step == 1 else less(start, now))
            turning = both(begun, less(now, stop) if loop.step == 1 else less(stop, now))
            flow.branch(turning, partial(self.turn, loop=loop, now=now), lambda side: None)

    def turn(self, flow: Flow, loop: terms.For, now: Number) -> None:
        """One turn of a loop."""
        flow.scalars[loop.name] = now
        self.block(flow, loop.body)

    def new(self, flow: Flow, name: str, value: Value) -> None:
        """A local record; what other names stand for in an earlier one of the same name is lost."""
        owner = self.own.setdefault(name, self.machine.owner(name))
        for other, reference in flow.places.items():
            if reference is not None and reference.owner == owner:
                flow.places[other] = None
        flow.memory = {**flow.memory, owner: value}
        flow.places[name] = Reference(owner, ())

    # --------------------------------------------------------------------------------------------- calls

    def call(self, flow: Flow, call: terms.Call) -> Number | None:
        """Execute another function: scalars by value, everything else by reference."""
        function = self.machine.functions[call.function]
        scalars: dict[str, Number] = {}
        places: Places = {}
        for parameter, argument in zip(function.parameters, call.arguments, strict=True):
            if isinstance(argument, terms.Fresh):
                places[parameter.name] = self.temporary(flow, self.source(flow, argument))
            elif isinstance(argument, terms.Place):
                places[parameter.name] = self.place(flow, argument)
            else:
                scalars[parameter.name] = self.number(flow, argument)
        for parameter in function.parameters:
            if parameter.name in scalars:
                fitted = self.fitting(flow, parameter.type, scalars[parameter.name], call.line)
                assert isinstance(fitted, Number)
                scalars[parameter.name] = fitted
        entry = Condition(self.entry, flow.condition.truth)
        called = Call(self.machine, function, entry)
        value, flow.memory = called.execute(Flow(ALWAYS, flow.memory, scalars, places))
        return value
