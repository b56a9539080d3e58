"""Types resolved at fixed bounds, and where each value lies in a state's bytes.

A state is one row of bytes. A scalar is stored as the unsigned number `value - low` in 1, 2, 4 or 8 bytes, so that a
row of zero bytes is the state in which every field has its least value (`NONE` for an optional, empty for a sequence),
and so that equal states are equal bytes: what lies beyond the end of a sequence is zero.
"""

from __future__ import annotations

import enum
import inspect
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args, get_origin

from hwmark.spec import lang
from hwmark.spec.errors import SpecError
from hwmark.spec.lang import Array, Bag, Capacity, Domain, Messages, Range, Seq, Struct, size_at

Json = Any
MASK_BITS_MAX = 62
"""The most elements that a set may have."""

SCALAR_MAX = 2**62
"""No range reaches further from zero."""


@dataclass(frozen=True)
class Scalar:
    """An integer from low to high; what it stands for decides how it is shown."""

    low: int
    high: int
    kind: Literal["int", "bool", "enum", "set"] = "int"
    optional: bool = False
    names: tuple[str, ...] = ()
    domain: Domain | None = None

    @property
    def size(self) -> int:
        """Bytes that hold `value - low`."""
        span = self.high - self.low
        return next(width for width in (1, 2, 4, 8) if span < 1 << (8 * width))

    @property
    def align(self) -> int:
        """Alignment in bytes."""
        return self.size

    def show(self, value: int) -> Json:
        """The value as JSON: null, a name, true or false, a sorted list, or the number."""
        if self.optional and value == lang.NONE:
            return None
        match self.kind:
            case "bool":
                return bool(value)
            case "enum":
                return self.names[value]
            case "set":
                return [element for element in range(value.bit_length()) if value >> element & 1]
            case _:
                return value

    def read(self, shown: Json) -> int:
        """The value that `show` shows so; the inverse of `show`."""
        if shown is None:
            return lang.NONE
        if self.kind == "enum":
            return self.names.index(shown)
        if self.kind == "set":
            return sum(1 << element for element in shown)
        return int(shown)


@dataclass(frozen=True)
class Field:
    """A struct's field: its name, type, and offset in bytes from the struct's start."""

    name: str
    type: Type
    offset: int


@dataclass(frozen=True)
class Record:
    """A struct's layout."""

    name: str
    fields: tuple[Field, ...]
    size: int
    align: int

    def __getitem__(self, name: str) -> Field:
        for each in self.fields:
            if each.name == name:
                return each
        raise KeyError(name)


@dataclass(frozen=True)
class Table:
    """An array's layout: `count` elements, `stride` bytes apart, indexed by a scalar that starts at 0."""

    index: Scalar
    element: Type
    count: int

    @property
    def stride(self) -> int:
        """Bytes from one element to the next."""
        return self.element.size

    @property
    def size(self) -> int:
        """Bytes in all."""
        return self.stride * self.count

    @property
    def align(self) -> int:
        """Alignment in bytes."""
        return self.element.align


@dataclass(frozen=True)
class Sequence:
    """A bounded sequence's layout: its length, then room for `capacity` elements. A bag or a set is kept sorted."""

    element: Type
    capacity: int
    kind: Literal["seq", "bag", "messages"]
    length: Scalar = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "length", Scalar(0, self.capacity))

    @property
    def align(self) -> int:
        """Alignment in bytes."""
        return max(self.length.align, self.element.align)

    @property
    def items_offset(self) -> int:
        """Bytes from the start to the first element."""
        return _round_up(self.length.size, self.element.align)

    @property
    def stride(self) -> int:
        """Bytes from one element to the next."""
        return self.element.size

    @property
    def size(self) -> int:
        """Bytes in all."""
        return _round_up(self.items_offset + self.stride * self.capacity, self.align)


Type = Scalar | Record | Table | Sequence

BOOL = Scalar(0, 1, "bool")


def _round_up(size: int, align: int) -> int:
    return -(-size // align) * align


def resolve(annotation: Any, bounds: Mapping[str, int], where: str) -> Type:
    """The layout of an annotated type at the given bounds.

    Raises SpecError, beginning with `where`, for an annotation that declares no type of the language.
    """
    metadata: tuple[Any, ...] = ()
    if get_origin(annotation) is Annotated:
        annotation, *rest = get_args(annotation)
        metadata = tuple(rest)
    if annotation is bool:
        return BOOL
    if inspect.isclass(annotation) and issubclass(annotation, enum.IntEnum):
        return _scalar(_enumeration(annotation, where), metadata, bounds, where)
    if annotation is int:
        return _scalar(None, metadata, bounds, where)
    if inspect.isclass(annotation) and issubclass(annotation, Struct):
        return record(annotation, bounds)
    return _container(annotation, metadata, bounds, where)


def _container(annotation: Any, metadata: tuple[Any, ...], bounds: Mapping[str, int], where: str) -> Type:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Array:
        index = resolve(arguments[0], bounds, where)
        if not isinstance(index, Scalar) or index.low != 0 or index.kind in ("set", "bool"):
            raise SpecError(f"{where}: an Array is indexed by a scalar that starts at 0")
        return Table(index, resolve(arguments[1], bounds, where), index.high + 1)
    kinds: dict[Any, Literal["seq", "bag", "messages"]] = {Seq: "seq", Bag: "bag", Messages: "messages"}
    if origin in kinds:
        capacity = next((mark.count for mark in metadata if isinstance(mark, Capacity)), None)
        if capacity is None:
            raise SpecError(f"{where}: a {origin.__name__} needs Annotated[..., Capacity(n)]")
        element, room = resolve(arguments[0], bounds, where), size_at(capacity, bounds)
        if room < 1:
            raise SpecError(f"{where}: a capacity is at least 1, not {room}")
        if origin is not Seq and not isinstance(element, Record):
            raise SpecError(f"{where}: the elements of a {origin.__name__} are structs")
        return Sequence(element, room, kinds[origin])
    raise SpecError(f"{where}: {annotation!r} is not a type of the specification language")


def _enumeration(names: type[enum.IntEnum], where: str) -> Scalar:
    if [int(member) for member in names] != list(range(len(names))):
        raise SpecError(f"{where}: the members of {names.__name__} must count up from 0")
    return Scalar(0, len(names) - 1, "enum", names=tuple(member.name for member in names))


def _scalar(scalar: Scalar | None, metadata: tuple[Any, ...], bounds: Mapping[str, int], where: str) -> Scalar:
    for mark in metadata:
        match mark:
            case Range(low, high):
                scalar = Scalar(size_at(low, bounds), size_at(high, bounds))
            case Domain(_, count):
                scalar = Scalar(0, size_at(count, bounds) - 1, domain=mark)
            case lang.OPTIONAL if scalar is not None and scalar.low == 0:
                scalar = Scalar(lang.NONE, scalar.high, scalar.kind, True, scalar.names, scalar.domain)
            case lang.SET if scalar is not None and scalar.low == 0 and scalar.kind != "set":
                if scalar.high >= MASK_BITS_MAX:
                    raise SpecError(f"{where}: a set has at most {MASK_BITS_MAX} elements, not {scalar.high + 1}")
                scalar = Scalar(0, (1 << (scalar.high + 1)) - 1, "set", domain=scalar.domain)
            case _:
                raise SpecError(f"{where}: {mark!r} applies to a scalar that starts at 0, not to {scalar!r}")
    if scalar is None:
        raise SpecError(f"{where}: a bare int has no range: use Annotated[int, Range(low, high)]")
    if scalar.high < scalar.low:
        raise SpecError(f"{where}: the range {scalar.low}..{scalar.high} is empty")
    if scalar.low < -SCALAR_MAX or scalar.high > SCALAR_MAX:
        raise SpecError(f"{where}: the range {scalar.low}..{scalar.high} does not fit 62 bits")
    return scalar


def record(struct: type[Struct], bounds: Mapping[str, int]) -> Record:
    """The layout of a struct at the given bounds; fields in the order of their declaration, each aligned."""
    hints = typing.get_type_hints(struct, include_extras=True)
    fields, end, align = [], 0, 1
    for name, annotation in hints.items():
        kind = resolve(annotation, bounds, f"{struct.__module__}.{struct.__name__}.{name}")
        offset = _round_up(end, kind.align)
        fields.append(Field(name, kind, offset))
        end, align = offset + kind.size, max(align, kind.align)
    if not fields:
        raise SpecError(f"{struct.__module__}.{struct.__name__} declares no field")
    return Record(struct.__name__, tuple(fields), _round_up(end, align), align)


def row_size(state: Record) -> int:
    """Bytes of one state's row: the state's size, padded to whole 8-byte words."""
    return _round_up(state.size, 8)


def leaves(kind: Type, offset: int = 0) -> Iterator[tuple[int, Scalar]]:
    """Every scalar of a type with its offset in bytes, in the order that sorts messages; lengths come first."""
    match kind:
        case Scalar():
            yield offset, kind
        case Record():
            for each in kind.fields:
                yield from leaves(each.type, offset + each.offset)
        case Table():
            for index in range(kind.count):
                yield from leaves(kind.element, offset + index * kind.stride)
        case Sequence():
            yield offset, kind.length
            for index in range(kind.capacity):
                yield from leaves(kind.element, offset + kind.items_offset + index * kind.stride)
