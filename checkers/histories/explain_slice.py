"""The neighbourhood of a few messages: what is enough to show why a history cannot be explained.

Whatever contradicts itself in a part of a history does so in the whole. So only a slice is looked at: the messages in
question, their neighbours in the log, what the unknown operations among their senders sent besides, and the operations
that sent or read any of these. What a slice allows, the whole may still rule out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from hwmark.checkers.histories.evidence import Evidence, Mask, Rows
from hwmark.checkers.histories.losses import completely_read, has_closing_read, in_closing_read
from hwmark.checkers.histories.showing import ClosingPolls, span
from hwmark.traces.history import Outcome
from numpy.typing import NDArray

NEIGHBOURS = 2
READERS_MAX = 2
MESSAGES_MAX = 48


@dataclass(frozen=True)
class Slice:
    """Messages, and the micro-operations (rows) that sent or read them, of each operation and message the first."""

    messages: list[int]
    sends: list[int]
    reads: list[int]


class Surroundings:
    """Where everything is that slices ask for, found once for a whole history."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence, self.history = evidence, evidence.history

    @cached_property
    def _rows(self) -> tuple[Rows, Rows]:
        """The micro-operations by message, and where each message's begin."""
        return _by(self.evidence.message, len(self.evidence))

    @cached_property
    def _places(self) -> tuple[Rows, Rows]:
        """The places of the log by message, and where each message's begin."""
        return _by(self.evidence.log.message, len(self.evidence))

    @cached_property
    def _operations(self) -> tuple[Rows, dict[int, slice]]:
        """The operations by process and invocation, and where each process's are."""
        operations = self.history.operations
        order = np.lexsort((operations.invoked, operations.process))
        processes, starts = np.unique(operations.process[order], return_index=True)
        ends = np.append(starts, len(order))[1:]
        parts = [slice(start, end) for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
        return order, dict(zip(processes.tolist(), parts, strict=True))

    @cached_property
    def closing(self) -> ClosingPolls | None:
        """The polls of the closing read, None if there is no complete one."""
        return ClosingPolls(self.evidence) if has_closing_read(self.evidence) else None

    @cached_property
    def _is_closed_over(self) -> Mask:
        """Messages that the complete closing read lacks."""
        covered = completely_read(self.evidence)[self.evidence.message_key]
        lacks: Mask = covered & ~in_closing_read(self.evidence)
        return lacks

    def lacks(self, message: int) -> bool:
        """Whether the complete closing read lacks a message."""
        return self.closing is not None and bool(self._is_closed_over[message])

    def rows(self, message: int) -> list[int]:
        """The micro-operations of a message, in order."""
        rows, starts = self._rows
        found: list[int] = rows[starts[message] : starts[message + 1]].tolist()
        return found

    def places(self, message: int) -> list[int]:
        """The places of a message in the log."""
        places, starts = self._places
        found: list[int] = places[starts[message] : starts[message + 1]].tolist()
        return found

    def before(self, operation: int, count: int) -> list[int]:
        """The operations of the same process before one, the latest first, at most so many."""
        order, parts = self._operations
        operations = self.history.operations
        own = order[parts[int(operations.process[operation])]]
        at = int(np.searchsorted(operations.invoked[own], operations.invoked[operation]))
        found: list[int] = own[max(0, at - count) : at][::-1].tolist()
        return found


def _by(message: NDArray[Any], messages: int) -> tuple[Rows, Rows]:
    """Rows by message, and where each message's begin."""
    order = np.argsort(message, kind="stable")
    return order, np.searchsorted(message[order], np.arange(messages + 1))


def slice_around(
    surroundings: Surroundings, focus: Iterable[int], operations: Iterable[int] = (), neighbours: int = NEIGHBOURS
) -> Slice:
    """The slice around some messages; all that these operations (rows) read of it stays in."""
    messages = dict.fromkeys(focus)
    messages |= dict.fromkeys(_neighbours(surroundings, list(messages), neighbours))
    messages |= dict.fromkeys(_sent_together(surroundings.evidence, list(messages)))
    kept = sorted(list(messages)[:MESSAGES_MAX])
    sends, reads = _rows(surroundings, kept, set(operations))
    return Slice(kept, sends, reads)


def _neighbours(surroundings: Surroundings, messages: list[int], distance: int) -> list[int]:
    """The messages at the nearest places of the log, of the same key."""
    log = surroundings.evidence.log
    found = []
    for step in sorted(range(-distance, distance + 1), key=abs):
        for place in (place for message in messages for place in surroundings.places(message)):
            at = place + step
            if 0 <= at < len(log) and log.key[at] == log.key[place]:
                found.append(int(log.message[at]))
    return found


def _sent_together(evidence: Evidence, messages: list[int]) -> list[int]:
    """What the operations of unknown outcome sent that sent any of these."""
    outcome, micro = evidence.history.operations.outcome, evidence.history.micro
    writers = np.unique(evidence.writer[messages])
    found: list[int] = []
    for writer in writers[writers >= 0].tolist():
        if outcome[writer] == Outcome.INFO:
            low, high = span(micro.operation, writer)
            found += evidence.message[low:high][evidence.is_send[low:high]].tolist()
    return found


def _rows(surroundings: Surroundings, messages: list[int], operations: set[int]) -> tuple[list[int], list[int]]:
    """The sends of the messages; of their reads those of the given operations, the closing ones and a few others."""
    evidence, micro = surroundings.evidence, surroundings.history.micro
    sends: list[int] = []
    reads: dict[tuple[int, int, int], int] = {}
    for message in messages:
        others: set[int] = set()
        for row in surroundings.rows(message):
            operation = int(micro.operation[row])
            if evidence.is_send[row]:
                sends.append(row)
                continue
            if not evidence.closing[row] and operation not in operations:
                others.add(operation)
            if len(others) <= READERS_MAX or operation not in others:
                reads.setdefault((message, operation, int(micro.offset[row])), row)
    return sorted(sends), sorted(reads.values())
