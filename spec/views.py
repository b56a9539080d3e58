"""States as CPython sees them: objects that read and write a row of bytes in place, checking every range.

This is the plain interpretation of a specification: the functions of a model are called with these views, for replaying
a trace, for debugging, for the plain search, and as the reference that the two translations are tested against.
"""

from __future__ import annotations

from typing import Any

from hwmark.spec.errors import RangeError
from hwmark.spec.layout import Json, Record, Scalar, Sequence, Table, Type, leaves


def read_scalar(kind: Scalar, buffer: bytearray, offset: int) -> int:
    """The scalar at this offset."""
    return int.from_bytes(buffer[offset : offset + kind.size], "little") + kind.low


def write_scalar(kind: Scalar, buffer: bytearray, offset: int, value: Any, name: str) -> None:
    """Write a scalar; RangeError where the value is outside its range."""
    value = int(value)
    if not kind.low <= value <= kind.high:
        raise RangeError(f"{name} = {value} is outside {kind.low}..{kind.high}")
    buffer[offset : offset + kind.size] = (value - kind.low).to_bytes(kind.size, "little")


def view(kind: Type, buffer: bytearray, offset: int) -> Any:
    """What a body sees at this offset: an int or a bool for a scalar, else a view."""
    match kind:
        case Scalar():
            value = read_scalar(kind, buffer, offset)
            return bool(value) if kind.kind == "bool" and not kind.optional else value
        case Record():
            return StructView(kind, buffer, offset)
        case Table():
            return ArrayView(kind, buffer, offset)
        case Sequence():
            return SequenceView(kind, buffer, offset)


def store(kind: Type, buffer: bytearray, offset: int, value: Any, name: str) -> None:
    """Write a scalar, or copy the bytes of a view of the same type."""
    if isinstance(kind, Scalar):
        write_scalar(kind, buffer, offset, value, name)
    elif isinstance(value, View) and value._type == kind:
        buffer[offset : offset + kind.size] = value._bytes()
    else:
        raise RangeError(f"{name} takes a {_name(kind)}, not {value!r}")


def _name(kind: Type) -> str:
    return kind.name if isinstance(kind, Record) else type(kind).__name__.lower()


class View:
    """A typed window on a buffer."""

    __slots__ = ("_buffer", "_offset", "_type")
    _buffer: bytearray
    _offset: int
    _type: Any

    def __init__(self, kind: Any, buffer: bytearray, offset: int) -> None:
        object.__setattr__(self, "_type", kind)
        object.__setattr__(self, "_buffer", buffer)
        object.__setattr__(self, "_offset", offset)

    def _bytes(self) -> bytes:
        return bytes(self._buffer[self._offset : self._offset + self._type.size])

    def copy(self) -> View:
        """See `lang.copy`: the same content in a buffer of its own."""
        return type(self)(self._type, bytearray(self._bytes()), 0)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, View) and self._type == other._type and self._bytes() == other._bytes()

    __hash__ = None  # type: ignore[assignment]  # a view changes under whoever would keep it as a key

    def __repr__(self) -> str:
        return f"{_name(self._type)}({to_json(self._type, self._buffer, self._offset)})"


class StructView(View):
    """A struct in place."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        try:
            field = self._type[name]
        except KeyError:
            raise AttributeError(f"{self._type.name} has no field {name}") from None
        return view(field.type, self._buffer, self._offset + field.offset)

    def __setattr__(self, name: str, value: Any) -> None:
        field = self._type[name]
        store(field.type, self._buffer, self._offset + field.offset, value, f"{self._type.name}.{name}")


def build(kind: Record, fields: dict[str, Any]) -> StructView:
    """A new struct with all of its fields given, in a buffer of its own."""
    if set(fields) != {field.name for field in kind.fields}:
        raise TypeError(f"{kind.name} takes exactly the fields {', '.join(field.name for field in kind.fields)}")
    built = StructView(kind, bytearray(kind.size), 0)
    for name, value in fields.items():
        setattr(built, name, value)
    return built


class ArrayView(View):
    """An array in place; an index outside it is a RangeError, negative ones included."""

    __slots__ = ()

    def _at(self, index: int) -> int:
        if not 0 <= index < self._type.count:
            raise RangeError(f"index {index} is outside 0..{self._type.count - 1}")
        return int(self._offset + index * self._type.stride)

    def __getitem__(self, index: int) -> Any:
        return view(self._type.element, self._buffer, self._at(index))

    def __setitem__(self, index: int, value: Any) -> None:
        store(self._type.element, self._buffer, self._at(index), value, f"element {index}")


class SequenceView(View):
    """A sequence, a bag or a set of messages in place; an index at or beyond its length is a RangeError."""

    __slots__ = ()

    def __len__(self) -> int:
        return read_scalar(self._type.length, self._buffer, self._offset)

    def _resize(self, length: int) -> None:
        write_scalar(self._type.length, self._buffer, self._offset, length, f"length of a {_name(self._type)}")

    def _slot(self, index: int) -> int:
        return int(self._offset + self._type.items_offset + index * self._type.stride)

    def _at(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise RangeError(f"index {index} is outside a sequence of {len(self)}")
        return self._slot(index)

    def __getitem__(self, index: int) -> Any:
        return view(self._type.element, self._buffer, self._at(index))

    def __setitem__(self, index: int, value: Any) -> None:
        store(self._type.element, self._buffer, self._at(index), value, f"element {index}")

    def append(self, value: Any) -> None:
        """See `lang.append`."""
        self._resize(len(self) + 1)
        self[len(self) - 1] = value

    def truncate(self, length: int) -> None:
        """See `lang.truncate`."""
        if not 0 <= length <= len(self):
            raise RangeError(f"cannot truncate a sequence of {len(self)} to {length}")
        start, end = self._slot(length), self._slot(len(self))
        self._buffer[start:end] = bytes(end - start)
        self._resize(length)

    def _key(self, value: Any) -> tuple[int, ...]:
        return tuple(read_scalar(leaf, value._buffer, value._offset + at) for at, leaf in leaves(self._type.element))

    def has(self, message: Any) -> bool:
        """See `lang.has_message`."""
        return any(self[index] == message for index in range(len(self)))

    def send(self, message: Any) -> None:
        """See `lang.send`: insertion keeps the order."""
        if self._type.kind == "messages" and self.has(message):
            return
        key, count = self._key(message), len(self)
        index = sum(self._key(self[other]) < key for other in range(count))
        self._resize(count + 1)
        start, end = self._slot(index), self._slot(count)
        self._buffer[start + self._type.stride : end + self._type.stride] = self._buffer[start:end]
        self[index] = message

    def discard(self, index: int) -> None:
        """See `lang.discard`: what follows moves up."""
        start, end, stride = self._at(index), self._slot(len(self)), self._type.stride
        self._buffer[start:end] = self._buffer[start + stride : end] + bytes(stride)
        self._resize(len(self) - 1)


def to_json(kind: Type, buffer: bytearray | bytes, offset: int = 0) -> Json:
    """A value as JSON: objects, lists, sorted lists for sets, null for absent, names for enumerations."""
    match kind:
        case Scalar():
            return kind.show(int.from_bytes(buffer[offset : offset + kind.size], "little") + kind.low)
        case Record():
            return {each.name: to_json(each.type, buffer, offset + each.offset) for each in kind.fields}
        case Table():
            return [to_json(kind.element, buffer, offset + index * kind.stride) for index in range(kind.count)]
        case Sequence():
            count = int.from_bytes(buffer[offset : offset + kind.length.size], "little")
            items = offset + kind.items_offset
            return [to_json(kind.element, buffer, items + index * kind.stride) for index in range(count)]


def from_json(kind: Type, value: Json, buffer: bytearray, offset: int = 0) -> None:
    """Write a JSON value of the shape that `to_json` gives; RangeError where it does not fit."""
    match kind:
        case Scalar():
            write_scalar(kind, buffer, offset, kind.read(value), f"{value!r}")
        case Record():
            for each in kind.fields:
                from_json(each.type, value[each.name], buffer, offset + each.offset)
        case Table():
            for index in range(kind.count):
                from_json(kind.element, value[index], buffer, offset + index * kind.stride)
        case Sequence():
            write_scalar(kind.length, buffer, offset, len(value), "length")
            for index, item in enumerate(value):
                from_json(kind.element, item, buffer, offset + kind.items_offset + index * kind.stride)
