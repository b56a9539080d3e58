"""Values of the specification's types: a Number for a scalar, a tuple of values for anything else.

A struct is the tuple of its fields, an array of its elements, a sequence the pair of its length and of the tuple of as
many elements as it has room for; what lies beyond the length has its least value, as in a row. Values never change: a
write gives a new one that shares what stayed the same, so a snapshot costs nothing and merging looks at what differs
only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hwmark.checkers.prove.numbers import (
    Number,
    Truth,
    arithmetic,
    both,
    choose,
    clamp,
    constant,
    either,
    equal,
    less,
    variable,
)
from hwmark.spec.layout import Record, Scalar, Sequence, Table, Type

Value = Number | tuple["Value", ...]
Step = int | Number
"""One step of a path into a value: a fixed position, or an index that Z3 knows."""
Path = tuple[Step, ...]


def build(kind: Type, leaf: Callable[[Scalar], Number]) -> Value:
    """A value of a type whose scalars `leaf` gives, called in the order of `layout.leaves`."""
    match kind:
        case Scalar():
            return leaf(kind)
        case Record():
            return tuple([build(field.type, leaf) for field in kind.fields])
        case Table():
            return tuple([build(kind.element, leaf) for _ in range(kind.count)])
        case Sequence():
            length = leaf(kind.length)
            return length, tuple([build(kind.element, leaf) for _ in range(kind.capacity)])


def least(kind: Type) -> Value:
    """The value that a row of zeros stands for."""
    return build(kind, lambda scalar: constant(scalar.low))


def variables(kind: Type, name: str) -> Value:
    """A value that Z3 chooses."""
    count = iter(range(1 << 30))
    return build(kind, lambda scalar: variable(f"{name}.{next(count)}", scalar.low, scalar.high))


def of_numbers(kind: Type, numbers: list[Number]) -> Value:
    """The value whose scalars are these, in the order of `layout.leaves`."""
    given = iter(numbers)
    return build(kind, lambda _: next(given))


def scalars(value: Value) -> Iterator[Number]:
    """The scalars of a value, in the order of `layout.leaves`."""
    if isinstance(value, Number):
        yield value
    else:
        for each in value:
            yield from scalars(each)


def merge(test: Truth, then: Value, other: Value) -> Value:
    """`then if test else other`."""
    if then is other or test is True:
        return then
    if test is False:
        return other
    if isinstance(then, Number):
        assert isinstance(other, Number)
        return choose(test, then, other)
    assert isinstance(other, tuple)
    return tuple([merge(test, mine, yours) for mine, yours in zip(then, other, strict=True)])


def same(left: Value, right: Value) -> Truth:
    """Whether two values of one type are equal."""
    if left is right:
        return True
    if isinstance(left, Number):
        assert isinstance(right, Number)
        return equal(left, right)
    assert isinstance(right, tuple)
    alike: Truth = True
    for mine, yours in zip(left, right, strict=True):
        alike = both(alike, same(mine, yours))
        if alike is False:
            return False
    return alike


def precedes(left: Value, right: Value) -> Truth:
    """Whether one message sorts before another."""
    before: Truth = False
    for mine, yours in reversed([*zip(scalars(left), scalars(right), strict=True)]):
        before = either(less(mine, yours), both(equal(mine, yours), before))
    return before


def _candidates(index: Number, count: int) -> range:
    return range(max(0, index.low), min(index.high, count - 1) + 1)


def read(value: Value, path: Path) -> Value:
    """What lies at a path; an index outside an array reads any of its elements."""
    if not path:
        return value
    assert isinstance(value, tuple)
    step, rest = path[0], path[1:]
    if isinstance(step, int):
        return read(value[step], rest)
    *others, last = _candidates(step, len(value))
    found = read(value[last], rest)
    for position in reversed(others):
        found = merge(step.equals(position), read(value[position], rest), found)
    return found


def write(value: Value, path: Path, new: Value) -> Value:
    """The value with what lies at a path replaced; an index outside an array writes nothing."""
    if not path:
        return new
    assert isinstance(value, tuple)
    step, rest = path[0], path[1:]
    if isinstance(step, int):
        return (*value[:step], write(value[step], rest, new), *value[step + 1 :])
    items = list(value)
    for position in _candidates(step, len(value)):
        items[position] = merge(step.equals(position), write(items[position], rest, new), items[position])
    return tuple(items)


# -------------------------------------------------------------------------------- sequences, bags and sets of messages


def _parts(sequence: Value) -> tuple[Number, tuple[Value, ...]]:
    assert isinstance(sequence, tuple)
    length, items = sequence
    assert isinstance(length, Number) and isinstance(items, tuple)
    return length, items


def _resized(length: Number, by: int, capacity: int) -> Number:
    return clamp(arithmetic("+", length, constant(by)), 0, capacity)


def appended(sequence: Value, element: Value) -> Value:
    """The sequence, which has room, with an element more."""
    length, items = _parts(sequence)
    grown = [merge(length.equals(position), element, item) for position, item in enumerate(items)]
    return _resized(length, 1, len(items)), tuple(grown)


def truncated(sequence: Value, length: Number, empty: Value) -> Value:
    """The sequence cut to a length that is at most its own; `empty` is an element's least value."""
    _, items = _parts(sequence)
    kept = [merge(less(constant(position), length), item, empty) for position, item in enumerate(items)]
    return clamp(length, 0, len(items)), tuple(kept)


def has(messages: Value, message: Value) -> Truth:
    """Whether such a message is there."""
    length, items = _parts(messages)
    found: Truth = False
    for position, item in enumerate(items):
        found = either(found, both(less(constant(position), length), same(item, message)))
    return found


def sent(messages: Value, message: Value) -> Value:
    """The messages, which have room, with one more in its sorted place."""
    length, items = _parts(messages)
    before = [both(less(constant(position), length), precedes(item, message)) for position, item in enumerate(items)]
    moved = [
        merge(before[at], item, message if at == 0 else merge(before[at - 1], message, items[at - 1]))
        for at, item in enumerate(items)
    ]
    return _resized(length, 1, len(items)), tuple(moved)


def discarded(messages: Value, index: Number, empty: Value) -> Value:
    """The messages without the one at an index that is below their number."""
    length, items = _parts(messages)
    moved = [
        merge(less(constant(at), index), item, items[at + 1] if at + 1 < len(items) else empty)
        for at, item in enumerate(items)
    ]
    return _resized(length, -1, len(items)), tuple(moved)
