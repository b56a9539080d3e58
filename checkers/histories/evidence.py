"""What a history proves about each message, as columns: who sent it, who read it, and where in the log it was seen.

A message is a pair (key, value), unique by the recorder's promise; a key is a topic partition. Two views of a
partition's log are kept apart. The *log* holds every place at which a message was ever seen, the closing
`read_uncommitted` read included: raw evidence that two records competed for an offset. The *version order*, the log
that clients could see, leaves that read out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from hwmark.checkers.histories.numbering import Numbering
from hwmark.traces.history import NO_OFFSET, Closing, History, Key, Outcome, Value
from numpy.typing import NDArray

Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]
NOWHERE = -1


@dataclass(frozen=True)
class Places:
    """Distinct places (key, offset, message), sorted so; `index` counts a key's distinct offsets from 0."""

    key: NDArray[np.int32]
    offset: Rows
    message: Rows
    index: Rows

    def __len__(self) -> int:
        return len(self.key)


class Evidence:
    """The derived structures of a history, computed when first asked for.

    Micro-operations are rows of `history.micro`; messages are numbered from 0 in order of key and value position.
    """

    def __init__(self, history: History) -> None:
        self.history = history
        micro, operations = history.micro, history.operations
        messages = Numbering(micro.key, micro.value, len(history.keys))
        self.message: NDArray[np.int32] = messages.of
        self.message_key: NDArray[np.int32] = messages.group
        self.message_value: Rows = messages.number
        self.is_send: Mask = micro.is_send
        self.closing: NDArray[np.int8] = operations.closing[micro.operation]
        self.outcome: NDArray[np.int8] = operations.outcome[micro.operation]
        self.is_raw_read: Mask = ~self.is_send & (self.closing == Closing.READ_UNCOMMITTED)
        self.is_read: Mask = ~self.is_send & ~self.is_raw_read
        self.is_ok_read: Mask = self.is_read & (self.outcome == Outcome.OK)

    def __len__(self) -> int:
        return len(self.message_key)

    def _messages(self, of: Mask) -> Mask:
        """Which messages occur in the given micro-operations."""
        found = np.zeros(len(self), dtype=bool)
        found[self.message[of]] = True
        return found

    @cached_property
    def read(self) -> Mask:
        """Messages that some acknowledged poll or transaction read."""
        return self._messages(self.is_ok_read)

    @cached_property
    def acknowledged(self) -> Mask:
        """Messages whose send, or whose transaction's commit, was acknowledged."""
        return self._messages(self.is_send & (self.outcome == Outcome.OK))

    @cached_property
    def failed(self) -> Mask:
        """Messages that some failed operation sent."""
        return self._messages(self.is_send & (self.outcome == Outcome.FAIL))

    @cached_property
    def writer(self) -> Rows:
        """Each message's operation: the last to complete of its senders; one left open only if nobody else sent it."""
        sends = np.flatnonzero(self.is_send)
        completed = self.history.operations.completed_at[self.history.micro.operation[sends]] >= 0
        writer = np.full(len(self), NOWHERE, dtype=np.int64)
        for rows in (sends[~completed], sends[completed]):
            writer[self.message[rows]] = self.history.micro.operation[rows]
        return writer

    @cached_property
    def committed(self) -> Mask:
        """Operations that committed: acknowledged, or of unknown outcome with a message that was read (atomicity)."""
        outcome = self.history.operations.outcome
        proof = self.is_send & self.read[self.message]
        proven = np.zeros(len(outcome), dtype=bool)
        proven[self.history.micro.operation[proof]] = True
        committed: Mask = (outcome == Outcome.OK) | ((outcome == Outcome.INFO) & proven)
        return committed

    @cached_property
    def _is_seen_by_clients(self) -> Mask:
        """Micro-operations that prove a place of the log: any read, and the sends of committed operations."""
        offset, operation = self.history.micro.offset, self.history.micro.operation
        seen: Mask = (offset != NO_OFFSET) & ~self.is_raw_read & (~self.is_send | self.committed[operation])
        return seen

    @cached_property
    def version_order(self) -> Places:
        """The log as clients could see it."""
        seen = self._is_seen_by_clients
        return self._places(self.message[seen], self.history.micro.offset[seen])

    @cached_property
    def log(self) -> Places:
        """The log as anything ever saw it."""
        raw = np.flatnonzero(self.is_raw_read & (self.history.micro.offset != NO_OFFSET))
        order = self.version_order
        if not len(raw):
            return order
        message = np.concatenate((order.message, self.message[raw]))
        return self._places(message, np.concatenate((order.offset, self.history.micro.offset[raw])))

    def _places(self, message: NDArray[Any], offset: Rows) -> Places:
        """The distinct places of messages that were seen at offsets.

        Almost every message has one place, however often it is read: only those few that were seen elsewhere are
        compared with each other.
        """
        somewhere = np.full(len(self), NO_OFFSET, dtype=np.int64)
        somewhere[message] = offset
        elsewhere = np.flatnonzero(offset != somewhere[message])
        placed = np.flatnonzero(somewhere != NO_OFFSET)
        message = np.concatenate((placed, message[elsewhere]))
        at = np.concatenate((somewhere[placed], offset[elsewhere]))
        places = Numbering(self.message_key[message], at, len(self.history.keys))
        pair: Rows = places.of.astype(np.int64) * len(self) + message
        pair.sort(kind="stable")
        place, message = np.divmod(pair[changes(pair)], max(1, len(self)))
        key = places.group[place]
        start = np.searchsorted(places.group, np.arange(len(self.history.keys)))
        return Places(key, places.number[place], message, place - start[key])

    @cached_property
    def first_index(self) -> Rows:
        """Each message's first position in its key's version order, NOWHERE if its offset is unknown."""
        order = self.version_order
        first = np.full(len(self), NOWHERE, dtype=np.int64)
        first[order.message[::-1]] = order.index[::-1]
        return first

    @cached_property
    def last_index(self) -> Rows:
        """Each message's last position in its key's version order, NOWHERE if its offset is unknown."""
        last = np.full(len(self), NOWHERE, dtype=np.int64)
        last[self.version_order.message] = self.version_order.index
        return last

    @cached_property
    def chosen(self) -> Rows:
        """The message that stands for each position of the version order, the keys one after the other.

        Where several were seen, the one with the smallest value number: any choice would do, this one is deterministic.
        """
        order = self.version_order
        return order.message[changes(order.key, order.index)]

    @cached_property
    def position(self) -> Rows:
        """Each message's last position in its key's version order for which it is chosen, else NOWHERE."""
        order = self.version_order
        of_place = order.index[changes(order.key, order.index)]
        position = np.full(len(self), NOWHERE, dtype=np.int64)
        position[self.chosen] = of_place
        return position

    @cached_property
    def offset(self) -> Rows:
        """Each message's offset: the one its writer was told, else the last at which it was seen, else NO_OFFSET."""
        micro = self.history.micro
        is_known = micro.offset != NO_OFFSET
        offset = np.full(len(self), NO_OFFSET, dtype=np.int64)
        for rows in (is_known & ~self.is_send, is_known & self.is_send & (self.outcome != Outcome.FAIL)):
            offset[self.message[rows]] = micro.offset[rows]
        return offset

    def key_of(self, message: int) -> Key:
        """The key of a message, as recorded."""
        return self.history.keys[int(self.message_key[message])]

    def value_of(self, message: int) -> Value:
        """The value of a message, as recorded."""
        return self.history.value(int(self.message_value[message]))


def changes(*columns: NDArray[Any]) -> Mask:
    """Where a row differs from the row before in any of the columns; the first row always does."""
    changed = np.zeros(len(columns[0]), dtype=bool)
    changed[:1] = True
    for column in columns:
        changed[1:] |= column[1:] != column[:-1]
    return changed
