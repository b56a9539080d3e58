"""The columns of a history while it is being read; they grow in place and become NumPy arrays without a copy.

Keys and values are scalars of any type. Kafka's partitions are numbers, and a JSON object writes its keys as text: the
text "3" and the number 3 are one key, while 1, 1.0, true and "1" are four values. Values that are integers of 64 bits,
which is nearly all there are, stand in the column themselves and cost no Python object.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
from hwmark.traces.history import (
    GroupOffsets,
    Key,
    MicroOperations,
    OperationKeys,
    Operations,
    Value,
)
from numpy.typing import NDArray

INT64_MAX = 2**63 - 1

OPERATION_COLUMNS = {
    "index": "q",
    "line": "q",
    "invoked": "q",
    "completed": "q",
    "process": "q",
    "function": "b",
    "outcome": "b",
    "closing": "b",
    "means_to_abort": "b",
    "error": "i",
    "invoked_at": "q",
    "completed_at": "q",
}
MESSAGE_COLUMNS = {"operation": "i", "is_send": "b", "key": "i", "value": "q", "offset": "q"}
KEY_TABLES = ("assigned", "rebalanced", "empty_reads")


@dataclass
class Evidence:
    """What one operation adds beside its own row: messages, and keys for the small tables, in their order."""

    messages: list[tuple[bool, Key, int, Value]] = field(default_factory=list)
    keys: list[tuple[str, Key]] = field(default_factory=list)
    group_offsets: list[tuple[str, Key, int]] = field(default_factory=list)


class Columns:
    """One growing column per field of `hwmark.traces.history`, and the numbers of keys, values, groups and errors."""

    def __init__(self) -> None:
        self.operations = {name: array(kind) for name, kind in OPERATION_COLUMNS.items()}
        self.messages = {name: array(kind) for name, kind in MESSAGE_COLUMNS.items()}
        self.tables = {name: (array("i"), array("i")) for name in KEY_TABLES}
        self.group_offsets = array("i"), array("i"), array("i"), array("q")
        self.key_ids = KeyIds()
        self.value_ids: dict[tuple[type, Value], int] | None = None
        self.group_ids: dict[str, int] = {}
        self.error_ids: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.operations["index"])

    def add(self, operation: dict[str, int], evidence: Evidence) -> None:
        """Add the row of an operation, and what came with it."""
        row = len(self)
        for name, entry in operation.items():
            self.operations[name].append(entry)
        for is_send, key, offset, value in evidence.messages:
            entries = row, is_send, self.key_ids[key], self.number(value), offset
            for column, entry in zip(self.messages.values(), entries, strict=True):
                column.append(entry)
        self.add_evidence(row, evidence)

    def add_evidence(self, row: int, evidence: Evidence) -> None:
        """Add what the small tables have of an operation."""
        for table, key in evidence.keys:
            self.add_key(table, row, key)
        for group, key, offset in evidence.group_offsets:
            self.add_group_offset(row, group, key, offset)

    def add_key(self, table: str, row: int, key: Key) -> None:
        """Add one key of an operation to a table."""
        operations, keys = self.tables[table]
        operations.append(row)
        keys.append(self.key_ids[key])

    def add_group_offset(self, row: int, group: str, key: Key, offset: int) -> None:
        """Add one offset that an operation committed for a consumer group."""
        entries = row, self.group_ids.setdefault(group, len(self.group_ids)), self.key_ids[key], offset
        for column, entry in zip(self.group_offsets, entries, strict=True):
            column.append(entry)

    def number(self, value: Value) -> int:
        """What the column of values has for a value."""
        if self.value_ids is None and value.__class__ is int and -INT64_MAX <= value <= INT64_MAX:
            return value
        ids = self.value_numbers()
        return ids.setdefault((value.__class__, value), len(ids))

    def value_numbers(self) -> dict[tuple[type, Value], int]:
        """The numbers of the values, from now on if they have stood for themselves up to now."""
        if self.value_ids is None:
            self.value_ids = self._number_all()
        return self.value_ids

    def _number_all(self) -> dict[tuple[type, Value], int]:
        """Replace the integers in the column of values by numbers, counted through as they first appear."""
        column = as_array(self.messages["value"])
        distinct, first, which = np.unique(column, return_index=True, return_inverse=True)
        order = np.argsort(first)
        rank = np.empty(len(order), dtype=np.int64)
        rank[order] = np.arange(len(order))
        self.messages["value"] = array("q", rank[which].tobytes())
        return {(int, value): number for number, value in enumerate(distinct[order].tolist())}

    def error(self, error: str) -> int:
        """The position of an error's text."""
        return self.error_ids.setdefault(error, len(self.error_ids))

    def finished(self) -> dict[str, Any]:
        """The fields of `History` that come from columns; the keys in their order, numbers before text."""
        keys, position = self.key_ids.in_order()
        messages = {name: as_array(column) for name, column in self.messages.items()}
        messages["is_send"] = messages["is_send"].view(np.bool_)
        np.take(position, messages["key"], out=messages["key"], mode="clip")
        group_operation, group, group_key, offset = map(as_array, self.group_offsets)
        return {
            "operations": Operations(**{name: as_array(column) for name, column in self.operations.items()}),
            "micro": MicroOperations(**messages),
            "group_offsets": GroupOffsets(group_operation, group, position[group_key], offset),
            "keys": keys,
            "values": None if self.value_ids is None else [value for _, value in self.value_ids],
            "groups": list(self.group_ids),
            "errors": list(self.error_ids),
        } | {
            name: OperationKeys(as_array(operation), position[as_array(key)])
            for name, (operation, key) in self.tables.items()
        }


def as_array(grown: array[int]) -> NDArray[Any]:
    """An array over the memory of a grown column."""
    return np.frombuffer(grown, dtype=grown.typecode) if grown else np.empty(0, dtype=grown.typecode)


def extend(column: array[int], entries: NDArray[Any]) -> None:
    """Append an array to a column."""
    column.frombytes(np.ascontiguousarray(entries, dtype=column.typecode).view(np.uint8).data)


class KeyIds(dict[Key, int]):
    """Numbers of keys, in the order in which they were met; the text of an integer is that integer."""

    def __init__(self) -> None:
        self.names: list[Key] = []

    def __missing__(self, key: Key) -> int:
        name = plain_key(key)
        if name not in self:
            self[name] = len(self.names)
            self.names.append(name)
        self[key] = self[name]
        return self[name]

    def in_order(self) -> tuple[list[Key], NDArray[np.int32]]:
        """All keys in order, integers before text, and the position of each number in that."""
        order = sorted(range(len(self.names)), key=lambda number: _order(self.names[number]))
        position = np.empty(len(order), dtype=np.int32)
        position[order] = np.arange(len(order), dtype=np.int32)
        return [self.names[number] for number in order], position


def plain_key(key: Any) -> Key:
    """The name of a key, the same for a send and for the object that a poll returns: the text of an integer is it."""
    return int(key) if isinstance(key, str) and _is_integer(key) else key_name(key)


def key_name(key: Any) -> Key:
    """A key as text or as an integer of 64 bits; a boolean, a fraction or a larger integer becomes its text.

    That is how the object that a poll returns has to write it.
    """
    if key.__class__ is str or (key.__class__ is int and -INT64_MAX <= key <= INT64_MAX):
        return key
    return str(key) if key.__class__ is int else orjson.dumps(key).decode()


def _is_integer(text: str) -> bool:
    """Whether a string is how JSON writes an integer of 64 bits."""
    digits = text.removeprefix("-")
    is_number = digits.isascii() and digits.isdigit() and len(digits) < 20
    return is_number and str(int(text)) == text and abs(int(text)) <= INT64_MAX


def _order(key: Key) -> tuple[bool, int, str]:
    return (True, 0, key) if isinstance(key, str) else (False, key, "")
