"""An instance of a model as machine code over rows of bytes: successors, properties, representatives."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import numpy.typing as npt
from hwmark.checkers.compiler.bodies import Functions
from hwmark.checkers.compiler.emit import LONG, POINTER, Emitter, Site, Unit, Value, long
from hwmark.checkers.compiler.machine import machine_code, target
from hwmark.checkers.compiler.symmetry import Symmetry
from hwmark.spec import terms
from hwmark.spec.instance import Action, Instance

Rows = npt.NDArray[np.uint8]
"""Rows of states, of shape (number, row size)."""


@dataclass(frozen=True)
class Compiled:
    """Addresses of the functions of one compiled instance. Every pointer is to rows of `row_size` bytes.

    - expand(row, successors, coverage, fault) -> number of successors, written one after the other; `coverage` counts
      enabled actions, one 64-bit number each. `successors` needs room for `successors_max` rows.
    - violated(row, fault) -> the index of the first invariant that fails, or -1.
    - reached(row, wanted, fault) -> which of the wanted `sometimes` properties are true, as a bit mask.
    - within(row, fault) -> whether the row is inside the constraint.
    - canonical(row, scratch) replaces the row by its representative (0 without symmetry).
    - `renamings` has, for each symmetric domain, its name, the number of its renamings, and rename(row, target,
    number). `fault` points to 64 bits that become the number of the first range check that failed, counting from 1.
    """

    instance: Instance
    invariants: tuple[str, ...]
    sites: tuple[Site, ...]
    successors_max: int
    expand: int
    violated: int
    reached: int
    within: int
    canonical: int
    renamings: tuple[tuple[str, int, int], ...]
    single: Mapping[str, int]
    engine: Any

    def run(self, name: str, row: bytes, arguments: Mapping[str, int]) -> tuple[bytes, bool, Site | None]:
        """Run one action, invariant or other property: the row after, what it answered, and the fault if there was one.

        An action that answers false is disabled, and its row after means nothing.
        """
        buffer = ctypes.create_string_buffer(row, len(row))
        fault = ctypes.c_int64(0)
        kinds = [ctypes.c_int64] * len(arguments)
        function = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, *kinds)(self.single[name])
        truth = function(ctypes.addressof(fault), ctypes.addressof(buffer), *arguments.values())
        return buffer.raw, bool(truth), self.sites[fault.value - 1] if fault.value else None

    def renamed(self, row: bytes, domain: int, renaming: int) -> bytes:
        """A row with the elements of one symmetric domain renamed."""
        source, target = ctypes.create_string_buffer(row, len(row)), ctypes.create_string_buffer(len(row))
        ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(self.renamings[domain][2])(
            ctypes.addressof(source), ctypes.addressof(target), renaming
        )
        return target.raw

    def representative(self, row: bytes) -> bytes:
        """The row that stands for all renamings of this one; the row itself without symmetry."""
        if not self.canonical:
            return row
        buffer, scratch = ctypes.create_string_buffer(row, len(row)), ctypes.create_string_buffer(2 * len(row))
        ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(self.canonical)(
            ctypes.addressof(buffer), ctypes.addressof(scratch)
        )
        return buffer.raw


def compile_instance(
    instance: Instance,
    invariants: Sequence[str] | None = None,
    *,
    symmetry: bool = False,
    single: bool = False,
) -> Compiled:
    """Compile an instance, checking these invariants (by default the standing ones).

    `single` also gives every action and property a function of its own, for `Compiled.run`.
    """
    checked = tuple(instance.model.standing if invariants is None else invariants)
    unit = Unit(llvm.get_default_triple(), str(target().target_data))
    return _Assembly(unit, instance, checked, symmetry, single).compile()


class _Assembly:
    """Emits what the search calls around the functions of a specification."""

    def __init__(
        self, unit: Unit, instance: Instance, invariants: tuple[str, ...], symmetry: bool, single: bool
    ) -> None:
        self.unit, self.instance, self.invariants = unit, instance, invariants
        self.symmetry, self.single = symmetry, single
        self.functions = Functions(unit, instance.program.functions)
        self.size = instance.row_size

    def compile(self) -> Compiled:
        """Emit everything, compile it, and look the addresses up."""
        self.expand()
        self.violated()
        self.reached()
        self.within()
        domains = []
        if self.symmetry:
            symmetry = Symmetry(self.unit, self.functions, self.instance.state, self.size, self.instance.model.title)
            symmetry.emit_canonical()
            domains = symmetry.domains
        names = [*(each.name for each in self.instance.actions), *self.instance.properties]
        if self.single:
            for name in names:
                self.one(name)
        engine = machine_code(str(self.unit.module))
        address = engine.get_function_address
        return Compiled(
            self.instance,
            self.invariants,
            tuple(self.unit.sites),
            sum(_choices(action) for action in self.instance.actions),
            address("expand"),
            address("violated"),
            address("reached"),
            address("within"),
            address("canonical") if self.symmetry else 0,
            tuple(
                (each.domain.name, len(each.renamings), address(f"rename.{number}"))
                for number, each in enumerate(domains)
            ),
            {name: address(f"one.{name}") for name in names} if self.single else {},
            engine,
        )

    def bound(self, name: str) -> terms.Function:
        """The terms of the function that a name of the model is bound to."""
        return self.instance.terms(name)

    def answer(self, body: Emitter, name: str, row: Value, fault: Value, arguments: list[Value]) -> Value:
        """Call a function of the model on a row; one that returns nothing answers true."""
        function = self.bound(name)
        called = body.at.call(self.functions[function.name], [fault, row, *arguments])
        return long(1) if function.returns is None else called

    def expand(self) -> None:
        """`expand(row, successors, coverage, fault)`."""
        function = self.unit.function("expand", LONG, [POINTER] * 4, exported=True)
        row, successors, coverage, fault = function.args
        for argument in function.args:
            argument.add_attribute("noalias")
        body = Emitter(self.unit, function, fault)
        count = body.variable(long(0))
        body.copy_apart(successors, row, self.size)
        for number, action in enumerate(self.instance.actions):
            self._expand_action(body, action, number, row, successors, coverage, count)
        body.at.ret(body.get(count))
        body.finish()

    def _expand_action(
        self, body: Emitter, action: Action, number: int, row: Value, successors: Value, coverage: Value, count: Value
    ) -> None:
        dirty = _writes_before_disabled(self.bound(action.name), self.instance.program.functions)

        def attempt(arguments: list[Value]) -> None:
            slot = body.offset(successors, body.at.mul(body.get(count), long(self.size)))
            answer = self.answer(body, action.name, slot, body.fault, arguments)
            enabled, disabled, after = body.block("enabled"), body.block("disabled"), body.block("tried")
            body.at.cbranch(body.at.icmp_signed("!=", answer, long(0)), enabled, disabled)
            body.at.position_at_end(enabled)
            body.set(count, body.at.add(body.get(count), long(1)))
            place = body.offset(coverage, 8 * number)
            body.at.store(body.at.add(body.at.load(place, typ=LONG), long(1)), place)
            body.copy_apart(body.offset(slot, self.size), row, self.size)
            body.at.branch(after)
            body.at.position_at_end(disabled)
            if dirty:
                body.copy_apart(slot, row, self.size)
            body.at.branch(after)
            body.at.position_at_end(after)

        self._over(body, action, attempt)

    def _over(self, body: Emitter, action: Action, inside: Any, arguments: list[Value] | None = None) -> None:
        """Nested loops over the domains of an action's parameters."""
        arguments = arguments or []
        if len(arguments) == len(action.domain):
            inside(arguments)
            return
        _, kind = action.domain[len(arguments)]
        counter = body.variable()
        with body.loop(counter, long(kind.low), long(kind.high + 1)):
            self._over(body, action, inside, [*arguments, body.get(counter)])

    def violated(self) -> None:
        """`violated(row, fault)`."""
        function = self.unit.function("violated", LONG, [POINTER] * 2, exported=True)
        row, fault = function.args
        body = Emitter(self.unit, function, fault)
        for number, name in enumerate(self.invariants):
            self._unless(body, name, row, fault, long(number))
        body.at.ret(long(-1))
        body.finish()

    def _unless(self, body: Emitter, name: str, row: Value, fault: Value, answer: Value) -> None:
        """Return `answer` where a property fails for some choice of its parameters."""

        def attempt(arguments: list[Value]) -> None:
            truth = self.answer(body, name, row, fault, arguments)
            fails, after = body.block("fails"), body.block("holds")
            body.at.cbranch(body.at.icmp_signed("==", truth, long(0)), fails, after)
            body.at.position_at_end(fails)
            body.at.ret(answer)
            body.at.position_at_end(after)

        self._over(body, self.instance.properties[name], attempt)

    def reached(self) -> None:
        """`reached(row, wanted, fault)`."""
        function = self.unit.function("reached", LONG, [POINTER, LONG, POINTER], exported=True)
        row, wanted, fault = function.args
        body = Emitter(self.unit, function, fault)
        found = body.variable(long(0))
        for number, name in enumerate(self.instance.model.sometimes):
            asked = body.at.icmp_signed("!=", body.at.and_(wanted, long(1 << number)), long(0))
            with body.when(asked):
                self._collect(body, name, row, fault, found, 1 << number)
        body.at.ret(body.get(found))
        body.finish()

    def _collect(self, body: Emitter, name: str, row: Value, fault: Value, found: Value, mask: int) -> None:
        def attempt(arguments: list[Value]) -> None:
            truth = self.answer(body, name, row, fault, arguments)
            with body.when(body.at.icmp_signed("!=", truth, long(0))):
                body.set(found, body.at.or_(body.get(found), long(mask)))

        self._over(body, self.instance.properties[name], attempt)

    def within(self) -> None:
        """`within(row, fault)`."""
        function = self.unit.function("within", LONG, [POINTER] * 2, exported=True)
        row, fault = function.args
        body = Emitter(self.unit, function, fault)
        if self.instance.model.constraint:
            self._unless(body, self.instance.model.constraint, row, fault, long(0))
        body.at.ret(long(1))
        body.finish()

    def one(self, name: str) -> None:
        """`one.NAME(fault, row, arguments...)`: an action or a property by itself."""
        domain = self.bound(name).domain()
        function = self.unit.function(f"one.{name}", LONG, [POINTER, POINTER, *[LONG] * len(domain)], exported=True)
        fault, row, *arguments = function.args
        body = Emitter(self.unit, function, fault)
        body.at.ret(self.answer(body, name, row, fault, arguments))
        body.finish()


def _choices(action: Action) -> int:
    count = 1
    for _, kind in action.domain:
        count *= kind.high - kind.low + 1
    return count


def _writes_before_disabled(function: terms.Function, functions: Mapping[str, terms.Function]) -> bool:
    """Whether an action can have written something when it answers that it was disabled."""
    found = False

    def scan(statements: tuple[terms.Statement, ...], written: bool) -> bool:
        nonlocal found
        for statement in statements:
            match statement:
                case terms.If(test, then, other):
                    written = written or _calls_writer(test, functions)
                    written = scan(then, written) | scan(other, written)
                case terms.For(_, start, stop, _, body):
                    written = written or _calls_writer(start, functions) or _calls_writer(stop, functions)
                    written = scan(body, written) or written
                    scan(body, written)
                case terms.Return(value):
                    sure = isinstance(value, terms.Const) and value.value != 0
                    written = written or (value is not None and _calls_writer(value, functions))
                    found = found or (written and value is not None and not sure)
                case terms.SetLocal() | terms.Bind() | terms.New():
                    written = written or _calls_writer(statement, functions)
                case _:
                    written = True
        return written

    scan(function.body, False)
    return found


def _calls_writer(expr: terms.Expr | terms.Statement, functions: Mapping[str, terms.Function]) -> bool:
    """Whether evaluating an expression can write (it calls a function that does)."""
    if isinstance(expr, terms.Call) and functions[expr.function].writes:
        return True
    parts = [getattr(expr, name) for name in getattr(expr, "__dataclass_fields__", {})]
    flat = [part for each in parts for part in (each if isinstance(each, tuple) else (each,))]
    return any(_calls_writer(part, functions) for part in flat if hasattr(part, "__dataclass_fields__"))
