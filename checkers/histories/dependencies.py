"""Which operation depends on which: who read what another sent (wr), and who wrote right behind another (ww).

Edges are not kept but gathered from the messages, in pieces, whenever they are asked for: of a hundred million messages
few matter to a cycle. Edges of a read run of one writer's messages are one edge. The closing `read_uncommitted` read is
nobody's read, and a message that nobody is recorded as sending has no edges. There are no rw edges and no process
edges, as in the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from hwmark.checkers.histories.evidence import NOWHERE, Evidence, Mask, Rows, changes
from hwmark.traces.history import NOT_COMPLETED, Closing, Function, Outcome
from numpy.typing import NDArray

Keep = Callable[[NDArray[Any], NDArray[Any]], Mask]
PIECE = 1 << 20
NEVER = NOT_COMPLETED
BEFORE_ALL = -1


@dataclass(frozen=True)
class Edges:
    """Dependencies, in order of the target: operation `target` depends on `source`; by a ww if `is_ww`, else by a wr.

    Operations are rows of `history.operations`. An edge may occur more than once.
    """

    source: NDArray[np.int32]
    target: NDArray[np.int32]
    is_ww: Mask

    def __len__(self) -> int:
        return len(self.source)

    def where(self, mask: Mask | Rows) -> Edges:
        """Some of the edges, by mask or by position."""
        return Edges(self.source[mask], self.target[mask], self.is_ww[mask])

    def within(self, component: NDArray[Any]) -> Edges:
        """The edges between operations of one component."""
        inside = component[self.source]
        return self.where((inside != NOWHERE) & (inside == component[self.target]))


@dataclass(frozen=True)
class Moments:
    """When each operation was invoked and when it was acknowledged, as places in the history.

    Real time orders a before b if a was acknowledged before b was invoked. One that was never acknowledged precedes
    nothing (NEVER); what is no operation on data takes no part (invoked BEFORE_ALL, and NEVER acknowledged).
    """

    invoked: Rows
    acknowledged: Rows


class Dependencies:
    """The operations of a history as nodes of a graph."""

    def __init__(self, evidence: Evidence, ww_deps: bool) -> None:
        self.evidence = evidence
        self.ww_deps = ww_deps

    @cached_property
    def is_node(self) -> Mask:
        """Sends, polls and transactions, the closing raw read aside."""
        operations = self.evidence.history.operations
        is_raw: Mask = operations.closing == Closing.READ_UNCOMMITTED
        return (operations.function <= Function.TXN) & ~is_raw

    @cached_property
    def moments(self) -> Moments:
        """When operations began and ended."""
        operations = self.evidence.history.operations
        is_acknowledged = self.is_node & (operations.outcome == Outcome.OK)
        return Moments(
            np.where(self.is_node, operations.invoked, BEFORE_ALL),
            np.where(is_acknowledged, operations.completed, NEVER),
        )

    @cached_property
    def previous(self) -> Rows:
        """Each message's predecessor in its key's version order, NOWHERE without one."""
        order = self.evidence.version_order
        index, chosen = order.index[changes(order.key, order.index)], self.evidence.chosen
        follows = np.flatnonzero((index > 0) & (self.evidence.position[chosen] == index))
        previous = np.full(len(self.evidence), NOWHERE, dtype=np.int64)
        previous[chosen[follows]] = chosen[follows - 1]
        return previous

    @cached_property
    def _writer_before(self) -> Rows:
        """Who sent each message's predecessor."""
        return np.where(self.previous == NOWHERE, NOWHERE, self.evidence.writer[self.previous])

    def edges(self, keep: Keep) -> Edges:
        """All edges (source, target) that `keep` wants, given both as columns."""
        pieces = list(self._pieces(keep)) or [_NO_EDGES]
        return Edges(*(np.concatenate(column) for column in zip(*pieces, strict=True)))

    def _pieces(self, keep: Keep) -> Iterator[tuple[NDArray[Any], ...]]:
        """The edges of so many messages at a time."""
        for start in range(0, len(self.evidence.history.micro), PIECE):
            rows = slice(start, start + PIECE)
            source, target = self._sources(rows), self.evidence.history.micro.operation[rows]
            is_ww = self.evidence.is_send[rows]
            edges = np.flatnonzero((source != NOWHERE) & (source != target) & changes(source, target, is_ww))
            source, target, is_ww = source[edges], target[edges], is_ww[edges]
            kept = keep(source, target)
            yield source[kept].astype(np.int32), target[kept], is_ww[kept]

    def _sources(self, rows: slice) -> Rows:
        """For each of these micro-operations the operation that its own one depends on for it, or NOWHERE."""
        evidence, message = self.evidence, self.evidence.message[rows]
        writer = evidence.writer[message]
        sources = np.where(evidence.is_read[rows], writer, NOWHERE)
        if self.ww_deps:
            writes = evidence.is_send[rows] & (writer == evidence.history.micro.operation[rows])
            sources[writes] = self._writer_before[message[writes]]
        return sources

    def concurrent(self) -> Edges:
        """Those that real time does not already imply: the target was invoked before the source was acknowledged."""
        moments = self.moments
        return self.edges(lambda source, target: moments.acknowledged[source] > moments.invoked[target])

    def are_empty(self) -> bool:
        """Whether no two operations are related at all; one left open counts only for what was read of it."""
        completed = self.is_node & (self.evidence.history.operations.completed != NOT_COMPLETED)
        last_invoked = self.moments.invoked.max(where=completed, initial=BEFORE_ALL)
        if self.moments.acknowledged.min(initial=NEVER) < last_invoked:
            return False
        return len(self.edges(lambda source, target: np.ones(len(source), dtype=bool))) == 0

    def read_by(self, writer: int, reader: int) -> int | None:
        """The first message that one operation sent and the other read."""
        evidence, rows = self.evidence, self._rows(reader)
        message = evidence.message[rows]
        found = message[evidence.is_read[rows] & (evidence.writer[message] == writer)]
        return int(found[0]) if len(found) else None

    def written_behind(self, before: int, writer: int) -> int | None:
        """The first message that an operation wrote right behind one of another."""
        if not self.ww_deps:
            return None
        evidence, rows = self.evidence, self._rows(writer)
        message = evidence.message[rows]
        is_own = evidence.is_send[rows] & (evidence.writer[message] == writer)
        found = message[is_own & (self._writer_before[message] == before)]
        return int(found[0]) if len(found) else None

    def _rows(self, operation: int) -> slice:
        """The micro-operations of an operation."""
        column = self.evidence.history.micro.operation
        # Of the column's own type, lest all of it be converted for one look.
        start, stop = np.searchsorted(column, np.array([operation, operation + 1], dtype=column.dtype))
        return slice(int(start), int(stop))


_NO_EDGES = np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, bool)
