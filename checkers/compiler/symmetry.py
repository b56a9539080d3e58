"""One representative for all states that differ only by a renaming inside symmetric domains.

The representative is the least row over all renamings that sort the elements of each domain by a signature: what the
state says about an element without naming any other. Equal signatures leave a tie, and only ties are permuted, so most
states need one renaming. The choice is exact, since a signature does not depend on names.
"""

from __future__ import annotations

import itertools
import math
import struct
from dataclasses import dataclass

from hwmark.checkers.compiler.bodies import Functions
from hwmark.checkers.compiler.emit import BYTE, LONG, POINTER, VOID, Emitter, Unit, Value, long
from hwmark.spec.errors import SpecError
from hwmark.spec.lang import Domain
from hwmark.spec.layout import Record, Scalar, Sequence, Table, Type

PERMUTATIONS_MAX = 5040


@dataclass(frozen=True)
class Renamed:
    """A symmetric domain, and its renamings as tables in the compiled module."""

    domain: Domain
    count: int
    renamings: tuple[tuple[int, ...], ...]
    names: Value
    orders: Value
    masks: Value

    @property
    def mask_stride(self) -> int:
        """Bytes of one renaming's table of masks."""
        return 8 << self.count


@dataclass(frozen=True)
class _LeastSearch:
    """The least renamed row while it is looked for: `best` so far, `trial` beside it, `found` once there is a best.

    `renamers` and `marks` have one function and one array of signatures for each domain.
    """

    body: Emitter
    row: Value
    best: Value
    trial: Value
    found: Value
    renamers: list[Value]
    marks: list[Value]


def symmetric_domains(kind: Type) -> dict[Domain, int]:
    """The domains declared symmetric that a type mentions, with the number of their elements."""
    match kind:
        case Scalar(domain=Domain() as domain) if domain.symmetric:
            return {domain: kind.high.bit_length() if kind.kind == "set" else kind.high + 1}
        case Scalar():
            return {}
        case Record():
            parts = [symmetric_domains(each.type) for each in kind.fields]
        case Table():
            parts = [symmetric_domains(kind.index), symmetric_domains(kind.element)]
        case Sequence():
            parts = [symmetric_domains(kind.element)]
    return {domain: count for part in parts for domain, count in part.items()}


def mentions(kind: Type, domain: Domain) -> bool:
    """Whether a type has an element's name, a set of names, or an array by names in it."""
    return domain in symmetric_domains(kind)


class Symmetry:
    """Emits `canonical(row, scratch)`, which replaces a row by its representative."""

    def __init__(self, unit: Unit, functions: Functions, state: Record, size: int, title: str) -> None:
        self.unit, self.functions, self.state, self.size = unit, functions, state, size
        domains = symmetric_domains(state)
        if not domains:
            raise SpecError(f"{title}: no domain of this model is declared symmetric")
        if math.prod(math.factorial(count) for count in domains.values()) > PERMUTATIONS_MAX:
            raise SpecError(
                f"{title}: symmetry over {' x '.join(map(str, domains.values()))} elements has too many renamings"
            )
        self.domains = [self._renamed(number, *item) for number, item in enumerate(domains.items())]

    def _renamed(self, number: int, domain: Domain, count: int) -> Renamed:
        renamings = tuple(itertools.permutations(range(count)))
        names = bytes(name for renaming in renamings for name in renaming)
        masks = b"".join(
            struct.pack("<q", sum(1 << renaming[element] for element in range(count) if mask >> element & 1))
            for renaming in renamings
            for mask in range(1 << count)
        )
        orders = bytes(old for renaming in renamings for old in sorted(range(count), key=renaming.__getitem__))
        tables = {"names": names, "orders": orders, "masks": masks}
        return Renamed(
            domain, count, renamings, *(self.unit.table(f"{name}.{number}", table) for name, table in tables.items())
        )

    # ------------------------------------------------------------------------------------------- renaming

    def emit_canonical(self) -> Value:
        """`canonical(row, scratch)`; scratch has room for two rows."""
        function = self.unit.function("canonical", VOID, [POINTER, POINTER], exported=True)
        renamers = [self._emit_rename(renamed, number) for number, renamed in enumerate(self.domains)]
        self._emit_choice(function, renamers)
        return function

    def _emit_choice(self, function: Value, renamers: list[Value]) -> None:
        body = Emitter(self.unit, function, None)
        row, scratch = function.args
        trial = body.offset(scratch, self.size)
        marks = [self._signatures(body, row, renamed) for renamed in self.domains]
        search = _LeastSearch(body, row, scratch, trial, body.variable(long(0)), renamers, marks)
        self._choose(search, [])
        body.copy_apart(row, search.best, self.size)
        body.at.ret_void()
        body.finish()

    def _choose(self, search: _LeastSearch, chosen: list[Value]) -> None:
        """Nested loops over the renamings of each domain that sort its marks; inside, keep the least renamed row."""
        if len(chosen) == len(self.domains):
            self._keep_least(search, chosen)
            return
        body, renamed, mark = search.body, self.domains[len(chosen)], search.marks[len(chosen)]
        number, position, unsorted = body.variable(), body.variable(), body.variable()
        with body.loop(number, long(0), long(len(renamed.renamings))):
            body.set(unsorted, long(0))
            order = body.offset(renamed.orders, body.at.mul(body.get(number), long(renamed.count)))
            with body.loop(position, long(1), long(renamed.count)) as after:
                here = body.offset(order, body.get(position))
                falls = body.at.icmp_unsigned(
                    ">", self._mark_at(body, mark, body.offset(here, -1)), self._mark_at(body, mark, here)
                )
                stop, go_on = body.block("unsorted"), body.block("sorted")
                body.at.cbranch(falls, stop, go_on)
                body.at.position_at_end(stop)
                body.set(unsorted, long(1))
                body.at.branch(after)
                body.at.position_at_end(go_on)
            with body.when(body.at.icmp_signed("==", body.get(unsorted), long(0))):
                self._choose(search, [*chosen, body.get(number)])

    def _mark_at(self, body: Emitter, marks: Value, element: Value) -> Value:
        """The mark of the element whose number is stored at an address."""
        index = body.at.zext(body.at.load(element, typ=BYTE), LONG)
        return body.at.load(body.offset(marks, body.at.shl(index, long(3))), typ=LONG)

    def _keep_least(self, search: _LeastSearch, chosen: list[Value]) -> None:
        body = search.body
        first = body.at.icmp_signed("==", body.get(search.found), long(0))
        target = body.at.select(first, search.best, search.trial)
        source = search.row
        for renamer, number in zip(search.renamers, chosen, strict=True):
            if source is not search.row:
                middle = body.scratch(self.size)
                body.copy_apart(middle, target, self.size)
                source = middle
            body.at.call(renamer, [source, target, number])
            source = target
        words = [(offset, 8) for offset in range(0, self.size, 8)]
        with body.when(body.at.not_(first)), body.when(body.less(search.trial, search.best, words)):
            body.copy_apart(search.best, search.trial, self.size)
        body.set(search.found, long(1))

    def _emit_rename(self, renamed: Renamed, number: int) -> Value:
        """`rename(row, target, renaming)`: the row with every name of one domain replaced."""
        function = self.unit.function(f"rename.{number}", VOID, [POINTER, POINTER, LONG], exported=True)
        body = Emitter(self.unit, function, None)
        row, target, choice = function.args
        body.copy_apart(target, row, self.size)
        self._rename(body, renamed, choice, self.state, row, target)
        body.at.ret_void()
        body.finish()
        return function

    def _new_name(self, body: Emitter, renamed: Renamed, choice: Value, name: Value) -> Value:
        index = body.at.add(body.at.mul(choice, long(renamed.count)), name)
        return body.at.zext(body.at.load(body.offset(renamed.names, index), typ=BYTE), LONG)

    def _new_members(self, body: Emitter, renamed: Renamed, choice: Value, members: Value) -> Value:
        index = body.at.add(body.at.mul(choice, long(renamed.mask_stride)), body.at.shl(members, long(3)))
        return body.at.load(body.offset(renamed.masks, index), typ=LONG)

    def _rename(self, body: Emitter, renamed: Renamed, choice: Value, kind: Type, row: Value, target: Value) -> None:
        """Rename one part of a row, already copied to the target."""
        if not mentions(kind, renamed.domain):
            return
        match kind:
            case Scalar():
                self._rename_scalar(body, renamed, choice, kind, row, target)
            case Record():
                for field in kind.fields:
                    places = (body.offset(row, field.offset), body.offset(target, field.offset))
                    self._rename(body, renamed, choice, field.type, *places)
            case Table():
                for index in range(kind.count):
                    moved: Value = long(index)
                    if kind.index.domain == renamed.domain:
                        moved = self._new_name(body, renamed, choice, moved)
                    source = body.offset(row, index * kind.stride)
                    place = body.offset(target, body.at.mul(moved, long(kind.stride)))
                    body.copy_apart(place, source, kind.stride)
                    self._rename(body, renamed, choice, kind.element, source, place)
            case Sequence():
                self._rename_sequence(body, renamed, choice, kind, row, target)

    def _rename_scalar(
        self, body: Emitter, renamed: Renamed, choice: Value, kind: Scalar, row: Value, target: Value
    ) -> None:
        value = body.load(kind, row)
        new = self._new_members if kind.kind == "set" else self._new_name
        if not kind.optional:
            body.store(kind, target, new(body, renamed, choice, value))
            return
        with body.when(body.at.icmp_signed(">=", value, long(0))):
            body.store(kind, target, new(body, renamed, choice, value))

    def _rename_sequence(
        self, body: Emitter, renamed: Renamed, choice: Value, kind: Sequence, row: Value, target: Value
    ) -> None:
        """Sequences keep their order; bags and sets of messages are sorted anew."""
        counter, message = body.variable(), body.scratch(kind.stride)
        length = body.load(kind.length, row)
        if kind.kind != "seq":
            body.fill(target, long(kind.size))
        with body.loop(counter, long(0), length):
            offset = body.at.mul(body.get(counter), long(kind.stride))
            source = body.offset(body.offset(row, kind.items_offset), offset)
            place = body.offset(body.offset(target, kind.items_offset), offset) if kind.kind == "seq" else message
            body.copy_apart(place, source, kind.stride)
            self._rename(body, renamed, choice, kind.element, source, place)
            if kind.kind != "seq":
                body.at.call(self.functions.helper("send", kind), [target, message])

    # ------------------------------------------------------------------------------------------ signature

    def _signatures(self, body: Emitter, row: Value, renamed: Renamed) -> Value:
        """An array of one number for each element of a domain, the same whatever the elements are called."""
        marks = body.scratch(8 * renamed.count)
        for element in range(renamed.count):
            mark = body.variable(long(0))
            self._mark(body, renamed, element, self.state, row, mark)
            body.at.store(body.get(mark), body.offset(marks, 8 * element))
        return marks

    def _mix(self, body: Emitter, mark: Value, value: Value) -> None:
        mixed = body.at.mul(body.at.add(body.get(mark), value), long(0x9E3779B97F4A7C15 - (1 << 64)))
        body.set(mark, body.at.xor(mixed, body.at.lshr(mixed, long(29))))

    def _mark(self, body: Emitter, renamed: Renamed, element: int, kind: Type, place: Value, mark: Value) -> None:
        """Mix into the mark what one part of the state says about an element."""
        if not mentions(kind, renamed.domain) or isinstance(kind, Sequence):
            return
        match kind:
            case Scalar():
                self._mix(body, mark, self._says(body, element, kind, place))
            case Record():
                for field in kind.fields:
                    self._mark(body, renamed, element, field.type, body.offset(place, field.offset), mark)
            case Table() if kind.index.domain == renamed.domain:
                self._describe(body, renamed, element, kind.element, body.offset(place, element * kind.stride), mark)
            case Table(index=Scalar(domain=Domain(symmetric=True))):
                return  # the order of another symmetric domain means nothing
            case Table():
                for index in range(kind.count):
                    self._mark(body, renamed, element, kind.element, body.offset(place, index * kind.stride), mark)

    def _describe(self, body: Emitter, renamed: Renamed, element: int, kind: Type, place: Value, mark: Value) -> None:
        """Mix in all of an element's own part of the state, names replaced by whether they are its own."""
        match kind:
            case Scalar() if mentions(kind, renamed.domain):
                self._mix(body, mark, self._says(body, element, kind, place))
            case Scalar(domain=Domain(symmetric=True)):
                return  # another symmetric domain's names are not this signature's to look at
            case Scalar():
                self._mix(body, mark, body.load(kind, place))
            case Record():
                for field in kind.fields:
                    self._describe(body, renamed, element, field.type, body.offset(place, field.offset), mark)
            case Table() if not symmetric_domains(kind):
                for index in range(kind.count):
                    self._describe(body, renamed, element, kind.element, body.offset(place, index * kind.stride), mark)
            case Sequence(kind="seq") if not symmetric_domains(kind):
                self._mix(body, mark, body.load(kind.length, place))
                items = body.offset(place, kind.items_offset)
                for index in range(kind.capacity):
                    self._describe(body, renamed, element, kind.element, body.offset(items, index * kind.stride), mark)

    def _says(self, body: Emitter, element: int, kind: Scalar, place: Value) -> Value:
        """What a name says of an element (absent, another, itself), or a set of names (its size, whether a member)."""
        value = body.load(kind, place)
        if kind.kind == "set":
            member = body.at.and_(body.at.lshr(value, long(element)), long(1))
            size = body.at.call(self.unit.memory["popcount"], [value])
            return body.at.add(body.at.shl(size, long(1)), member)
        own = body.at.zext(body.at.icmp_signed("==", value, long(element)), LONG)
        absent = body.at.zext(body.at.icmp_signed("<", value, long(0)), LONG)
        return body.at.add(own, body.at.shl(absent, long(1)))
