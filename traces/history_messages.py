"""The messages of a block of operations, taken out of their micro-operations into arrays.

Shapes: an operation has micro-operations, a micro-operation has reads of a key (a send counts as one, a poll has one
per key that it returned), a read has messages. Whatever `hwmark.traces.history_records` has more to say about is
refused here with one of SURPRISES, and left to it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from itertools import chain, compress
from operator import itemgetter, not_
from typing import Any

import numpy as np
from hwmark.traces.history import NO_OFFSET, Function, Key, Value
from hwmark.traces.history_columns import INT64_MAX, Columns, extend
from numpy.typing import NDArray

Ints = NDArray[np.int64]
SURPRISES = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)

first, second, third = itemgetter(0), itemgetter(1), itemgetter(2)


class UnusualError(ValueError):
    """Something that is left to the plain reader."""


def require(condition: Any) -> None:
    """Leave the block to the plain reader unless this holds."""
    if not condition:
        raise UnusualError


def require_types(things: Iterable[Any], *allowed: type) -> None:
    """Require that all things have one of these types, exactly."""
    require(set(map(type, things)) <= set(allowed))


def has_fraction(value: Any) -> bool:
    """Whether there is a fraction somewhere in a value, which may be an integer that orjson could not keep."""
    if isinstance(value, dict):
        return any(map(has_fraction, value.values()))
    return any(map(has_fraction, value)) if isinstance(value, list) else isinstance(value, float)


def lengths(lists: Sequence[Any]) -> Ints:
    """How long each of some lists is."""
    return np.fromiter(map(len, lists), dtype=np.int64, count=len(lists))


def check_invoked(values: list[Any], function: Function) -> None:
    """Require that these values of invocations of one function know no answer yet."""
    require_types(values, list)
    micros = list(chain.from_iterable(values))
    # What is no list is neither of these: the first of a string is a letter, an object has nothing at 0.
    sends = [micro for micro in micros if micro[0] == "send"]
    require(set(map(len, sends)) <= {3})
    require_types(map(second, sends), int, str)
    require_types(map(third, sends), int, str, bool)
    polls = micros.count(["poll"])
    require(function != Function.SEND or not polls)
    require(function != Function.POLL or not sends)
    if len(sends) + polls < len(micros):
        offsets = [micro for micro in micros if micro[0] == "send_offsets" and len(micro) == 3]
        require(function == Function.TXN and len(sends) + polls + len(offsets) == len(micros))
        require(not any(map(has_fraction, offsets)))


class Messages:
    """The messages in the values of completed data operations: found out by the constructor, added by `commit`.

    `rows` are the rows of the operations, counted from the first of the block, and `functions` what they are.
    """

    def __init__(self, values: list[Any], rows: Ints, functions: NDArray[np.int8]) -> None:
        require_types(values, list)
        micros = list(chain.from_iterable(values))
        counts = lengths(values)
        kinds = list(map(first, micros))  # what is no list has none of these
        require(set(kinds) <= {"send", "poll", "send_offsets"})
        row, function = np.repeat(rows, counts), np.repeat(functions, counts)
        sends = list(map("send".__eq__, kinds))
        is_send = np.array(sends, dtype=bool)
        require(not (is_send & (function == Function.POLL)).any())
        require(not (~is_send & (function == Function.SEND)).any())
        self._take_sends(list(compress(micros, sends)))
        self._take_polls(
            self._without_group_offsets(list(compress(micros, map(not_, sends))), row[~is_send], function[~is_send])
        )
        self._put_in_order(row, is_send)

    def _without_group_offsets(self, others: list[Any], row: Ints, function: NDArray[np.int8]) -> list[Any]:
        """Set aside what was committed for consumer groups, and put polls without a result in its place."""
        self.group_offsets: list[tuple[int, str, dict[str, Any]]] = []
        kinds = list(map(first, others))
        if "send_offsets" not in kinds:
            return others
        polls = list(others)
        for position, (micro, kind) in enumerate(zip(others, kinds, strict=True)):
            if kind == "send_offsets":
                require(len(micro) == 3 and function[position] == Function.TXN)
                self.group_offsets.append((int(row[position]), micro[1], micro[2]))
                polls[position] = ["poll"]
        return polls

    def _take_sends(self, sends: list[Any]) -> None:
        """Keys, offsets and values of what was sent."""
        require(set(map(len, sends)) <= {3})
        self.send_keys = list(map(second, sends))
        require_types(self.send_keys, int, str)
        payloads = list(map(third, sends))
        if set(map(type, payloads)) != {list}:
            payloads = [payload if payload.__class__ is list else [None, payload] for payload in payloads]
        self.send_offsets, self.send_values = _pairs(payloads, least=NO_OFFSET)

    def _take_polls(self, polls: list[Any]) -> None:
        """Keys, offsets and values of what was read; a poll may not know its result."""
        sizes = set(map(len, polls))
        require(sizes <= {1, 2})
        results = [micro[1] if len(micro) == 2 else {} for micro in polls] if 1 in sizes else list(map(second, polls))
        require_types(results, dict)
        self.reads_of_poll = lengths(results)
        self.read_keys: list[Key] = list(chain.from_iterable(results))
        reads = list(chain.from_iterable(map(dict.values, results)))
        require_types(reads, list)
        self.read_lengths = lengths(reads)
        self.read_offsets, self.read_values = _pairs(list(chain.from_iterable(reads)), least=0)

    def _put_in_order(self, row: Ints, is_send: NDArray[np.bool_]) -> None:
        """Bring sends and reads into the order of their micro-operations."""
        reads = np.ones(len(is_send), dtype=np.int64)
        reads[~is_send] = self.reads_of_poll
        self.read_row, self.read_is_send = np.repeat(row, reads), np.repeat(is_send, reads)
        messages = np.ones(len(self.read_row), dtype=np.int64)
        messages[~self.read_is_send] = self.read_lengths
        self.messages = messages
        self.is_send = np.repeat(self.read_is_send, messages)
        self.row = np.repeat(self.read_row, messages)
        self.offset = np.empty(len(self.row), dtype=np.int64)
        self.offset[self.is_send], self.offset[~self.is_send] = self.send_offsets, self.read_offsets

    def commit(self, columns: Columns, base: int) -> None:
        """Add everything to the columns; `base` is the row of the block's first operation."""
        key_ids = columns.key_ids
        key = np.empty(len(self.read_row), dtype=np.int32)
        key[self.read_is_send] = list(map(key_ids.__getitem__, self.send_keys))
        key[~self.read_is_send] = list(map(key_ids.__getitem__, self.read_keys))
        value = self._numbers(columns)
        extend(columns.messages["operation"], self.row + base)
        extend(columns.messages["is_send"], self.is_send)
        extend(columns.messages["key"], np.repeat(key, self.messages))
        extend(columns.messages["value"], value)
        extend(columns.messages["offset"], self.offset)
        empty = self.messages == 0
        if empty.any():
            operations, keys = columns.tables["empty_reads"]
            extend(operations, self.read_row[empty] + base)
            extend(keys, key[empty])

    def _numbers(self, columns: Columns) -> Ints:
        """What the column of values has for the messages."""
        is_plain = isinstance(self.send_values, np.ndarray) and isinstance(self.read_values, np.ndarray)
        if is_plain and columns.value_ids is None:
            value = np.empty(len(self.row), dtype=np.int64)
            value[self.is_send], value[~self.is_send] = self.send_values, self.read_values
            return value
        anything = np.empty(len(self.row), dtype=object)
        anything[self.is_send], anything[~self.is_send] = _objects(self.send_values), _objects(self.read_values)
        ids = columns.value_numbers()
        numbers = [ids.setdefault((value.__class__, value), len(ids)) for value in anything.tolist()]
        return np.array(numbers, dtype=np.int64)


def _pairs(pairs: list[Any], least: int) -> tuple[Ints, Ints | list[Value]]:
    """Offsets and values of messages; the values an array if all are integers of 64 bits."""
    require(set(map(len, pairs)) <= {2})
    both = list(chain.from_iterable(pairs))  # of what is no list the first is a string, and no offset
    numbers = _integers(both)
    if numbers is None:
        return _offsets(both[0::2], least), _values(both[1::2])
    offsets, values = numbers[0::2], numbers[1::2]
    require(not len(offsets) or (offsets.min() >= least and values.min() >= -INT64_MAX))
    return offsets, values


def _integers(things: list[Any]) -> Ints | None:
    """An array of things if all are integers of 64 bits."""
    try:
        numbers = np.frombuffer(array("q", things), dtype=np.int64) if things else np.empty(0, dtype=np.int64)
    except (TypeError, OverflowError):
        return None
    # A boolean passes for a number, but only for 0 or 1.
    suspects = np.flatnonzero(numbers.view(np.uint64) <= 1).tolist()
    return numbers if all(things[suspect].__class__ is int for suspect in suspects) else None


def _offsets(offsets: list[Any], least: int) -> Ints:
    """Offsets of which some may be unknown."""
    require_types(offsets, int, type(None))
    unknown = np.array([offset is None for offset in offsets], dtype=bool)
    column = np.array([NO_OFFSET if offset is None else offset for offset in offsets], dtype=np.int64)
    require((unknown | (column >= least)).all())
    return column


def _values(values: list[Any]) -> Ints | list[Value]:
    """Values of any type but fractions, which may be integers of more than 64 bits."""
    require_types(values, int, str, bool)
    numbers = _integers(values)
    return numbers if numbers is not None and numbers.min() >= -INT64_MAX else values


def _objects(values: Ints | list[Value]) -> NDArray[Any]:
    """An array of Python objects, each with its own type."""
    objects = np.empty(len(values), dtype=object)
    objects[:] = values.tolist() if isinstance(values, np.ndarray) else values
    return objects
