"""The words a specification is written in: bounds, types, and the helpers that bodies may call.

A specification is plain Python: typed state (`Struct`, `Array`, `Seq`, ...) and functions over it. The same functions
are called by CPython (over `views`), compiled to machine code, and translated to Z3, so a body uses only what all three
know; `reader` refuses anything else, naming the file and the line.

Every scalar is an integer inside a declared range. `Optional` adds `NONE` (-1), a set is a bit mask, an enumeration
is an `IntEnum` counting from 0. To a type checker they are all `int`: the ranges live in `Annotated` metadata.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Generic, TypeVar

from hwmark.spec.errors import RangeError

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741  an index type

NONE: Final = -1
"""The value of an `Optional` that is absent."""

EMPTY: Final = 0
"""The empty set."""


class Size(int):
    """An integer that depends on bounds: it equals its value at their defaults, and `at` gives it at others."""

    _at: Callable[[Mapping[str, int]], int]

    def __new__(cls, at: Callable[[Mapping[str, int]], int]) -> Size:
        """A size computed by `at` from the values of the bounds."""
        size = super().__new__(cls, at({}))
        size._at = at
        return size

    def at(self, bounds: Mapping[str, int]) -> int:
        """The value at these bounds; a bound not named has its default."""
        return self._at(bounds)

    def __add__(self, other: int) -> Size:
        return Size(lambda bounds: self.at(bounds) + size_at(other, bounds))

    def __sub__(self, other: int) -> Size:
        return Size(lambda bounds: self.at(bounds) - size_at(other, bounds))

    def __mul__(self, other: int) -> Size:
        return Size(lambda bounds: self.at(bounds) * size_at(other, bounds))

    def __rsub__(self, other: int) -> Size:
        return Size(lambda bounds: size_at(other, bounds) - self.at(bounds))

    def __floordiv__(self, other: int) -> Size:
        return Size(lambda bounds: self.at(bounds) // size_at(other, bounds))

    def __mod__(self, other: int) -> Size:
        return Size(lambda bounds: self.at(bounds) % size_at(other, bounds))

    def __neg__(self) -> Size:
        return 0 - self

    __radd__ = __add__
    __rmul__ = __mul__


class Bound(Size):
    """A named bound of a model (`replicas`, `max_epoch`), with its default and the least value that makes sense."""

    name: str
    least: int
    why: str

    def __new__(cls, name: str, default: int, least: int = 1, why: str = "") -> Bound:
        """A bound; `why` says in a few words what it bounds."""
        bound = int.__new__(cls, default)
        bound.name, bound.least, bound.why = name, least, why
        bound._at = lambda bounds: bounds.get(name, default)
        return bound

    def __repr__(self) -> str:
        return f"{self.name}={int(self)}"


def size_at(size: int, bounds: Mapping[str, int]) -> int:
    """An integer or a `Size` at the given bounds."""
    return size.at(bounds) if isinstance(size, Size) else int(size)


@dataclass(
    frozen=True, eq=False
)  # typing keeps equal annotations once, but sizes equal by default differ at other bounds
class Range:
    """`Annotated[int, Range(low, high)]`: the integers low to high, both included."""

    low: int
    high: int


@dataclass(frozen=True)
class Domain:
    """`Annotated[int, Domain("replica", n)]`: n interchangeable-looking things, numbered from 0.

    `symmetric` declares that renaming them changes nothing that matters, so that a search may count one state of
    each orbit.
    """

    name: str
    count: int
    symmetric: bool = False


@dataclass(frozen=True, eq=False)
class Capacity:
    """`Annotated[Seq[T], Capacity(n)]`: the most elements a sequence, a set of messages or a bag may hold."""

    count: int


@dataclass(frozen=True)
class Mark:
    """What a scalar's metadata says besides its range."""

    word: str


OPTIONAL: Final = Mark("optional")
SET: Final = Mark("set")

Optional = Annotated[T, OPTIONAL]
"""`Optional[ReplicaId]`: a scalar or `NONE`."""

SetOf = Annotated[T, SET]
"""`SetOf[ReplicaId]`: a set of small scalars, kept as a bit mask."""


class Struct:
    """A record. Subclasses declare fields by annotations; bodies build one by naming all of its fields."""

    def __init__(self, **fields: Any) -> None:
        raise TypeError(f"{type(self).__name__} is built inside specification functions only")


class Array(Generic[I, T]):
    """`Array[ReplicaId, Replica]`: one T for each value of a domain."""

    def __getitem__(self, index: int) -> T:
        raise NotImplementedError

    def __setitem__(self, index: int, value: T) -> None:
        raise NotImplementedError


class Seq(Generic[T]):
    """`Annotated[Seq[Record], Capacity(n)]`: a sequence of at most n elements."""

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, index: int) -> T:
        raise NotImplementedError

    def __setitem__(self, index: int, value: T) -> None:
        raise NotImplementedError


class Bag(Generic[T]):
    """`Annotated[Bag[Message], Capacity(n)]`: an unordered collection, sorted so that equal bags are equal bytes."""

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, index: int) -> T:
        raise NotImplementedError


class Messages(Bag[T]):
    """`Annotated[Messages[Message], Capacity(n)]`: a set of messages; sending one that is there changes nothing."""


# ------------------------------------------------------------------------------------------- sets (bit masks)


def contains(members: int, element: int) -> bool:
    """Whether the set has the element; no set has `NONE`."""
    return element >= 0 and (members >> element) & 1 == 1


def insert(members: int, element: int) -> int:
    """The set with the element added."""
    return members | only(element)


def remove(members: int, element: int) -> int:
    """The set without the element."""
    return members & ~only(element)


def only(element: int) -> int:
    """The set of this one element, which must not be `NONE`."""
    if element < 0:
        raise RangeError(f"element {element} is outside 0..62")
    return 1 << element


def everything(count: int) -> int:
    """The set of the elements 0 to count - 1."""
    return (1 << count) - 1


def union(left: int, right: int) -> int:
    """The elements of either set."""
    return left | right


def intersection(left: int, right: int) -> int:
    """The elements of both sets."""
    return left & right


def difference(left: int, right: int) -> int:
    """The elements of the first set that the second has not."""
    return left & ~right


def is_subset(left: int, right: int) -> bool:
    """Whether every element of the first set is in the second."""
    return left & ~right == 0


def size(members: int) -> int:
    """How many elements the set has."""
    return members.bit_count()


# ---------------------------------------------------------------------- sequences, bags and sets of messages


def append(sequence: Seq[T], element: T) -> None:
    """Add an element at the end; beyond the capacity it is an error."""
    sequence.append(element)  # type: ignore[attr-defined]  # views have it; a declared type is never instantiated


def truncate(sequence: Seq[T], length: int) -> None:
    """Drop every element from the offset `length` on; a longer length than the sequence's is an error."""
    sequence.truncate(length)  # type: ignore[attr-defined]


def send(messages: Bag[T], message: T) -> None:
    """Add a message; beyond the capacity it is an error."""
    messages.send(message)  # type: ignore[attr-defined]


def discard(messages: Bag[T], index: int) -> None:
    """Take out the message at this index."""
    messages.discard(index)  # type: ignore[attr-defined]


def has_message(messages: Bag[T], message: T) -> bool:
    """Whether such a message is there."""
    return messages.has(message)  # type: ignore[attr-defined, no-any-return]


def copy(record: T) -> T:
    """A copy of a record, to be changed or compared without touching the original."""
    return record.copy()  # type: ignore[attr-defined, no-any-return]
