"""Which operations show a fact about the log: few, from which the same follows.

A message lies at an offset because a read says so, or the send of an operation that committed. One that was
acknowledged shows that alone; one of unknown outcome needs, beside it, an acknowledged read of one of its messages.
What the closing read lacks is shown by its polls on either side of the gap: the last before and the first after, or, at
the end of a partition, the poll that ended the closing read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
from hwmark.checkers.histories.evidence import NOWHERE, Evidence, Mask, Rows
from hwmark.traces.history import NO_OFFSET, Closing, Function, Outcome
from numpy.typing import NDArray

Operations = set[int]
Place = tuple[int, int]
WAYS_MAX = 16


def span(column: NDArray[Any], number: int) -> tuple[int, int]:
    """Where a sorted column has a number: from, and up to but not including."""
    # Numbers of another type than the column's would have NumPy convert the whole column, each time.
    low, high = np.searchsorted(column, np.array([number, number + 1], dtype=column.dtype))
    return int(low), int(high)


class Showing:
    """Finds operations (rows of `history.operations`) that show something of the given messages (a mask)."""

    def __init__(self, evidence: Evidence, messages: Mask) -> None:
        self.evidence = evidence
        self.messages = messages

    def of_places(self, places: Sequence[Place]) -> Operations:
        """That the messages lie at these offsets; the log must have them there."""
        ways = [self._ways(place) for place in places]
        alone = set.intersection(*({op for way in of_place if len(way) == 1 for op in way} for of_place in ways))
        if alone:
            return {min(alone)}
        few = product(*(of_place[:WAYS_MAX] for of_place in ways))
        return min((set[int]().union(*chosen) for chosen in few), key=len)

    def _ways(self, place: Place) -> list[Operations]:
        """The sets of operations that show a place: one that read it there or was told, or a sender and a reader."""
        history = self.evidence.history
        found: list[Operations] = []
        for row in self._rows_of_place[place]:
            operation = int(history.micro.operation[row])
            is_known = not self.evidence.is_send[row] or history.operations.outcome[operation] == Outcome.OK
            found += [{operation}] if is_known else [{operation, reader} for reader in self._readers(operation)]
        return sorted(found, key=len)

    def of_commit(self, operation: int) -> Operations:
        """That the operation committed: itself and, if its outcome is unknown, who read one of its messages."""
        if self.evidence.history.operations.outcome[operation] != Outcome.INFO:
            return {operation}
        return {operation, *self._readers(operation)[:1]}

    def _readers(self, operation: int) -> list[int]:
        """For each message that the operation sent, the first acknowledged operation that read it, if any did."""
        low, high = span(self.evidence.history.micro.operation, operation)
        sent = self.evidence.message[low:high][self.evidence.is_send[low:high]]
        return [int(reader) for reader in self._first_reader[sent] if reader != NOWHERE]

    def first_reader(self, message: int) -> int:
        """The first acknowledged operation that read a message, NOWHERE if none did."""
        return int(self._first_reader[message])

    @cached_property
    def _first_reader(self) -> Rows:
        """For each message the first acknowledged operation that read it, NOWHERE if none did."""
        rows = np.flatnonzero(self.evidence.is_ok_read)[::-1]
        reader = np.full(len(self.evidence), NOWHERE, dtype=np.int64)
        reader[self.evidence.message[rows]] = self.evidence.history.micro.operation[rows]
        return reader

    @cached_property
    def _rows_of_place(self) -> dict[Place, list[int]]:
        """The micro-operations that prove each place of the messages, in order."""
        evidence, micro = self.evidence, self.evidence.history.micro
        proves = ~evidence.is_send | evidence.committed[micro.operation]
        rows = np.flatnonzero(self.messages[evidence.message] & (micro.offset != NO_OFFSET) & proves)
        columns = evidence.message[rows].tolist(), micro.offset[rows].tolist(), rows.tolist()
        found: dict[Place, list[int]] = defaultdict(list)
        for message, offset, row in zip(*columns, strict=True):
            found[message, offset].append(row)
        return found


class ClosingPolls:
    """The polls of the closing `read_committed` read that show what it has and what it lacks."""

    def __init__(self, evidence: Evidence) -> None:
        micro, operations = evidence.history.micro, evidence.history.operations
        rows = np.flatnonzero(evidence.is_ok_read & (evidence.closing == Closing.READ_COMMITTED))
        self.evidence = evidence
        self._reader = np.full(len(evidence), NOWHERE, dtype=np.int64)
        self._reader[evidence.message[rows]] = micro.operation[rows]
        rows = rows[np.lexsort((micro.offset[rows], micro.key[rows]))]
        self._key, self._offset, self._operation = micro.key[rows], micro.offset[rows], micro.operation[rows]
        polls = (operations.function == Function.POLL) | (operations.function == Function.TXN)
        closing = np.flatnonzero(polls & (operations.closing == Closing.READ_COMMITTED))
        self.last = int(closing[np.argmax(operations.invoked_at[closing])]) if len(closing) else NOWHERE

    def reading(self, message: int) -> Operations:
        """The poll that returned a message."""
        return {int(self._reader[message])}

    def end(self, key: int) -> int:
        """The last offset of a key that was returned, NO_OFFSET if none was."""
        low, high = span(self._key, key)
        return int(self._offset[high - 1]) if high > low else NO_OFFSET

    def lacking(self, message: int) -> Operations:
        """The polls that returned the nearest offsets below and above, and the last poll if there are none above."""
        offset, key = int(self.evidence.offset[message]), int(self.evidence.message_key[message])
        low, high = span(self._key, key)
        at = low + int(np.searchsorted(self._offset[low:high], offset)) if offset != NO_OFFSET else high
        before = {int(self._operation[at - 1])} if at > low else set()
        return before | {int(self._operation[at]) if at < high else self.last}
