"""Small vocabulary over llvmlite's builder: bytes in memory, loops, branches, sites where a range check can fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hwmark.spec.layout import Scalar
from llvmlite import ir

Value = Any
"""An LLVM value (llvmlite has no types to name)."""

BIT, BYTE, INT, LONG = ir.IntType(1), ir.IntType(8), ir.IntType(32), ir.IntType(64)
POINTER, VOID = ir.PointerType(), ir.VoidType()


def long(value: int) -> Value:
    """A 64-bit constant."""
    return ir.Constant(LONG, int(value))


def bit(value: int) -> Value:
    """A truth constant."""
    return ir.Constant(BIT, int(value))


@dataclass(frozen=True)
class Site:
    """A place in a specification where a range check can fail."""

    function: str
    file: str
    line: int


class Unit:
    """One LLVM module under construction, with its fault sites."""

    def __init__(self, triple: str, layout: str) -> None:
        self.module = ir.Module("hwmark")
        self.module.triple, self.module.data_layout = triple, layout
        self.sites: list[Site] = []
        self.memory = {
            "memcmp": self._extern("memcmp", INT, POINTER, POINTER, LONG),
            "copy": self._extern("llvm.memcpy.p0.p0.i64", VOID, POINTER, POINTER, LONG, BIT),
            "move": self._extern("llvm.memmove.p0.p0.i64", VOID, POINTER, POINTER, LONG, BIT),
            "fill": self._extern("llvm.memset.p0.i64", VOID, POINTER, BYTE, LONG, BIT),
            "popcount": self._extern("llvm.ctpop.i64", LONG, LONG),
        }

    def _extern(self, name: str, result: Value, *parameters: Value) -> Value:
        return ir.Function(self.module, ir.FunctionType(result, parameters), name)

    def function(self, name: str, result: Value, parameters: list[Value], *, exported: bool = False) -> Value:
        """Declare a function; one that is not exported may be inlined away."""
        function = ir.Function(self.module, ir.FunctionType(result, parameters), name)
        function.linkage = "external" if exported else "internal"
        function.attributes.add("nounwind")
        return function

    def table(self, name: str, content: bytes) -> Value:
        """Constant bytes."""
        kind = ir.ArrayType(BYTE, len(content))
        found = ir.GlobalVariable(self.module, kind, name)
        found.linkage, found.global_constant = "internal", True
        found.initializer = ir.Constant(kind, bytearray(content))
        found.type = POINTER
        return found

    def site(self, site: Site) -> int:
        """The number of a fault site, counting from 1."""
        self.sites.append(site)
        return len(self.sites)


class Emitter:
    """A function body under construction. `fault` points to the number of the first site that failed, 0 if none."""

    def __init__(self, unit: Unit, function: Value, fault: Value | None) -> None:
        self.unit, self.function, self.fault = unit, function, fault
        self.entry = function.append_basic_block("entry")
        start = function.append_basic_block("start")
        self.at = ir.IRBuilder(start)
        self._start = start

    def finish(self) -> None:
        """Close the entry block, which holds the variables."""
        ir.IRBuilder(self.entry).branch(self._start)

    # ------------------------------------------------------------------------------------------ variables

    def variable(self, initial: Value | None = None) -> Value:
        """A 64-bit variable, 0 on entry, and set here to `initial` if that is given."""
        entry = ir.IRBuilder(self.entry)
        slot = entry.alloca(LONG)
        slot.type = POINTER
        entry.store(long(0), slot)
        if initial is not None:
            self.at.store(initial, slot)
        return slot

    def get(self, variable: Value) -> Value:
        """The value of a variable."""
        return self.at.load(variable, typ=LONG)

    def set(self, variable: Value, value: Value) -> None:
        """Assign a variable."""
        self.at.store(value, variable)

    def scratch(self, size: int) -> Value:
        """Zeroed bytes of this function's own."""
        slot = ir.IRBuilder(self.entry).alloca(ir.ArrayType(BYTE, max(size, 1)))
        slot.align, slot.type = 8, POINTER
        self.fill(slot, long(size))
        return slot

    # --------------------------------------------------------------------------------------------- memory

    def offset(self, pointer: Value, distance: Value | int) -> Value:
        """The address `distance` bytes further."""
        if isinstance(distance, int):
            if distance == 0:
                return pointer
            distance = long(distance)
        return self.at.gep(pointer, [distance], source_etype=BYTE)

    def load(self, kind: Scalar, pointer: Value) -> Value:
        """The scalar stored here."""
        raw = self.at.load(pointer, typ=ir.IntType(8 * kind.size))
        wide = raw if kind.size == 8 else self.at.zext(raw, LONG)
        return wide if kind.low == 0 else self.at.add(wide, long(kind.low))

    def store(self, kind: Scalar, pointer: Value, value: Value) -> None:
        """Store a scalar that is known to be in range."""
        raw = value if kind.low == 0 else self.at.sub(value, long(kind.low))
        self.at.store(raw if kind.size == 8 else self.at.trunc(raw, ir.IntType(8 * kind.size)), pointer)

    def copy(self, target: Value, source: Value, size: int) -> None:
        """Copy bytes; the two may be the same place."""
        self.at.call(self.unit.memory["move"], [target, source, long(size), bit(0)])

    def copy_apart(self, target: Value, source: Value, size: int) -> None:
        """Copy bytes between places that do not overlap."""
        self.at.call(self.unit.memory["copy"], [target, source, long(size), bit(0)])

    def move(self, target: Value, source: Value, size: Value) -> None:
        """Copy bytes, as many as computed."""
        self.at.call(self.unit.memory["move"], [target, source, size, bit(0)])

    def fill(self, target: Value, size: Value) -> None:
        """Set bytes to zero."""
        self.at.call(self.unit.memory["fill"], [target, ir.Constant(BYTE, 0), size, bit(0)])

    def equal(self, left: Value, right: Value, size: int) -> Value:
        """Whether bytes are equal."""
        order = self.at.call(self.unit.memory["memcmp"], [left, right, long(size)])
        return self.at.icmp_signed("==", order, ir.Constant(INT, 0))

    def less(self, left: Value, right: Value, parts: list[tuple[int, int]]) -> Value:
        """Whether the left bytes sort before the right ones: the first part (offset, size) that differs decides."""
        less: Value = bit(0)
        for offset, size in reversed(parts):
            raw = ir.IntType(8 * size)
            a, b = (self.at.load(self.offset(pointer, offset), typ=raw) for pointer in (left, right))
            tied = self.at.and_(self.at.icmp_unsigned("==", a, b), less)
            less = self.at.or_(self.at.icmp_unsigned("<", a, b), tied)
        return less

    # -------------------------------------------------------------------------------------------- control

    def block(self, name: str) -> Value:
        """A new basic block."""
        return self.function.append_basic_block(name)

    def go(self, block: Value) -> None:
        """Jump, unless control has left already."""
        if not self.at.block.is_terminated:
            self.at.branch(block)

    @contextmanager
    def when(self, truth: Value) -> Iterator[None]:
        """What is emitted inside runs only where `truth` holds."""
        then, after = self.block("then"), self.block("after")
        self.at.cbranch(truth, then, after)
        self.at.position_at_end(then)
        yield
        self.go(after)
        self.at.position_at_end(after)

    def either(self, truth: Value, then: Callable[[], Value], other: Callable[[], Value]) -> Value:
        """The 64-bit value of one of two computations, only one of which runs."""
        result = self.variable()
        yes, no, after = self.block("yes"), self.block("no"), self.block("after")
        self.at.cbranch(truth, yes, no)
        for block, compute in ((yes, then), (no, other)):
            self.at.position_at_end(block)
            self.set(result, compute())
            self.go(after)
        self.at.position_at_end(after)
        return self.get(result)

    @contextmanager
    def loop(self, counter: Value, start: Value, stop: Value, step: int = 1) -> Iterator[Value]:
        """Run what is emitted inside for each number from start up (or down) to before stop; yields the exit block."""
        self.set(counter, start)
        head, body, after = self.block("head"), self.block("body"), self.block("after")
        self.at.branch(head)
        self.at.position_at_end(head)
        self.at.cbranch(self.at.icmp_signed("<" if step > 0 else ">", self.get(counter), stop), body, after)
        self.at.position_at_end(body)
        yield after
        if not self.at.block.is_terminated:
            self.set(counter, self.at.add(self.get(counter), long(step)))
            self.at.branch(head)
        self.at.position_at_end(after)

    def require(self, truth: Value, site: Site) -> Value:
        """Record the first fault where `truth` does not hold; returns `truth`."""
        number = self.unit.site(site)
        fine, failed = self.block("fine"), self.block("failed")
        branch = self.at.cbranch(truth, fine, failed)
        branch.set_weights([1 << 20, 1])
        self.at.position_at_end(failed)
        first = self.at.icmp_signed("==", self.at.load(self.fault, typ=LONG), long(0))
        with self.when(first):
            self.at.store(long(number), self.fault)
        self.at.branch(fine)
        self.at.position_at_end(fine)
        return truth

    def clamp(self, truth: Value, value: Value, site: Site, safe: int = 0) -> Value:
        """`value` where `truth` holds; elsewhere a fault is recorded and a safe value stands in."""
        return self.at.select(self.require(truth, site), value, long(safe))
