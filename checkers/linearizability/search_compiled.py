"""The compiled search from Python: its arrays, their growth, and what it answers."""

from __future__ import annotations

import numpy as np
from hwmark.checkers.linearizability import search_loop as loop
from hwmark.checkers.linearizability.encode import Encoding
from hwmark.checkers.linearizability.search_outcome import PARTIALS_MAX, Outcome, Stopwatch
from numpy.typing import NDArray

ROWS_AT_FIRST = 256
GROWTH = 4
CHUNK = 100_000


def search(encoding: Encoding, limit: int, stopwatch: Stopwatch, partials: bool = True) -> Outcome:
    """Look for a legal order of the operations; give up after `limit` configurations."""
    run = _Run(encoding)
    status = run.go_on(limit, stopwatch)
    configurations = run.register(loop.ROW_COUNT)
    if status == loop.ORDER:
        return Outcome(True, configurations, order=run.order())
    if status == loop.AT_LIMIT:
        return Outcome(None, configurations, why=stopwatch.why_not(configurations))
    stuck_at = int(encoding.return_times[run.register(loop.FURTHEST)])
    longest = tuple(_longest(encoding, run.register(loop.LONGEST))) if partials else ()
    return Outcome(False, configurations, partials=longest, stuck_at=stuck_at)


def _longest(encoding: Encoding, size: int) -> list[tuple[int, ...]]:
    """Some orders in which `size` of the operations that must happen do: the search once more, up to there."""
    run = _Run(encoding, goal=size)
    found: list[tuple[int, ...]] = []
    while len(found) < PARTIALS_MAX and run.go_on(2**62, Stopwatch(None)) == loop.AT_GOAL:
        found.append(run.order())
    return found


class _Run:
    """One search, and its arrays."""

    def __init__(self, encoding: Encoding, goal: int = -1) -> None:
        self.encoding = encoding
        operations, must = encoding.operations.copy(), len(encoding.returns)
        links = np.empty((2, must + 1), np.int64)
        slots = loop.prepare(operations, encoding.returns, encoding.groups, links)
        words = np.zeros((slots + 63) // 64, np.int64)
        edge_start, edges = _edges(encoding.program.edges)
        self.queue_max = _queue_max(encoding)
        registers = np.zeros(loop.REGISTERS, np.int64)
        registers[loop.ENTERING], registers[loop.GOAL], registers[loop.NODE_COUNT] = 1, goal, 1
        registers[loop.STATE] = encoding.program.initial
        registers[loop.PASSED] = loop.NOT_BEGUN if encoding.groups[:, loop.GROUP_IS_BEFORE].any() else 0
        registers[loop.READS_LEFT] = operations[:must, loop.IS_READ].sum()
        registers[loop.NO_WAY_BACK] = not ((operations[:, loop.KIND] == loop.MASKED) & ~_is_read(operations)).any()
        self.arrays = loop.Arrays(
            operations,
            encoding.returns,
            encoding.groups,
            np.zeros(len(encoding.groups), np.int64),
            links,
            np.zeros(must, np.int8),
            words,
            np.empty(len(operations) + ROWS_AT_FIRST, np.int64),
            np.empty((ROWS_AT_FIRST, 3), np.int64),
            np.empty((ROWS_AT_FIRST, len(words) + loop.ROW_WORDS), np.int64),
            np.full(2 * ROWS_AT_FIRST, -1, np.int32),
            edge_start,
            edges,
            np.zeros((2 + self.queue_max, 4), np.int64),  # the tail of the empty queue is empty
            np.full(_power_of_two(4 + 2 * self.queue_max), -1, np.int32),
            registers,
        )
        self._enqueue(encoding.program.queued)

    def _enqueue(self, values: list[int]) -> None:
        """Bring the first state of a queue about."""
        if not values:
            return
        while len(self.arrays.nodes) <= (len(values) + 1) ** 2:
            self._grow_nodes()
        registers, queue = self.arrays.registers, loop.EMPTY
        for value in values:
            queue, registers[loop.NODE_COUNT] = loop.enqueue(
                self.arrays.nodes, self.arrays.node_index, registers[loop.NODE_COUNT], queue, value
            )
        registers[loop.STATE] = queue

    def register(self, which: int) -> int:
        """What a register holds."""
        return int(self.arrays.registers[which])

    def order(self) -> tuple[int, ...]:
        """What happened on the way to here, by number."""
        trail = self.arrays.trail[: self.register(loop.TRAIL_SIZE)].tolist()
        return tuple(self.encoding.numbers[i] for i in trail)

    def go_on(self, limit: int, stopwatch: Stopwatch) -> int:
        """Search until there is an answer, or until the configurations or the time run out (AT_LIMIT)."""
        while True:
            chunk = limit if stopwatch.deadline is None else min(limit, self.register(loop.ROW_COUNT) + CHUNK)
            status = int(loop.run(self.arrays, chunk, self.queue_max))
            if status == loop.WANTS_ROWS:
                self._grow_rows()
            elif status == loop.WANTS_NODES:
                self._grow_nodes()
            elif status != loop.AT_LIMIT or chunk == limit:
                return status
            if stopwatch.is_over():
                return loop.AT_LIMIT

    def _grow_rows(self) -> None:
        """Room for more configurations."""
        a, count = self.arrays, self.register(loop.ROW_COUNT)
        size = GROWTH * len(a.rows)
        self.arrays = a._replace(
            rows=_longer(a.rows, size),
            frames=_longer(a.frames, size),
            trail=_longer(a.trail, len(a.operations) + size),
            index=np.full(2 * size, -1, np.int32),
        )
        loop.rebuild(self.arrays.rows, self.arrays.index, 0, count, a.rows.shape[1])

    def _grow_nodes(self) -> None:
        """Room for more queues."""
        a = self.arrays
        size = GROWTH * len(a.nodes)
        self.arrays = a._replace(
            nodes=_longer(a.nodes, size), node_index=np.full(_power_of_two(2 * size), -1, np.int32)
        )
        loop.rebuild(self.arrays.nodes, self.arrays.node_index, 1, self.register(loop.NODE_COUNT), 2)


def _longer(array: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """The array with room for `size` rows."""
    longer = np.empty((size, *array.shape[1:]), array.dtype)
    longer[: len(array)] = array
    return longer


def _is_read(operations: NDArray[np.int64]) -> NDArray[np.bool_]:
    return operations[:, loop.IS_READ].astype(np.bool_)


def _power_of_two(least: int) -> int:
    return 1 << max(1, (least - 1).bit_length())


def _queue_max(encoding: Encoding) -> int:
    """How many values a queue may come to hold; 0 where there are none."""
    enqueues = int((encoding.operations[:, loop.KIND] == loop.ENQUEUE).sum())
    return enqueues + len(encoding.program.queued) + 1 if enqueues or encoding.program.queued else 0


def _edges(edges: list[list[tuple[int, int]]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the edges of each state begin, and all of them (name, target)."""
    start = np.zeros(len(edges) + 1, np.int64)
    np.cumsum([len(each) for each in edges], out=start[1:])
    return start, np.array([edge for each in edges for edge in each], np.int64).reshape(-1, 2)
