"""Realtime lag: how long what a consumer had still to read had been in the log when it polled.

A process tracks the keys that its last acknowledged assign named, and those that it has read since, or sent to in a
transaction; a subscribe starts it afresh. Its *place* in a key is the largest offset of the key that it got to know in
these operations. After each acknowledged poll or transaction, the lag of a tracked key is the time from which anybody
knew of an offset beyond the place to the operation's invocation; 0 if nobody did.

While a place stays the same, for a *span*, the lag only grows: the worst is found without computing all. The closing
read_uncommitted read is nobody's and left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hwmark.checkers.histories.compat import forgotten_sends
from hwmark.checkers.histories.evidence import Evidence, Rows, changes
from hwmark.checkers.histories.numbering import Numbering
from hwmark.checkers.histories.stretches import Threads, runs, stable_order
from hwmark.traces.history import NO_OFFSET, NO_TIME, Closing, Function, History, Outcome
from numpy.typing import NDArray

NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class LagSeries:
    """Every lag, one row per operation and tracked key, in their order.

    `time` is when the operation was invoked; it and `lag` are nanoseconds. `key` is a position in `History.keys`.
    """

    time: Rows
    process: Rows
    key: NDArray[np.int32]
    lag: Rows


class RealtimeLag:
    """The lags of a history's consumers."""

    def __init__(self, evidence: Evidence, *, compat: bool = False) -> None:
        self._history = evidence.history
        self._steps = _Steps(evidence.history)
        self._spans = _spans(_KnownOffsets(evidence, compat), self._steps, evidence.history)

    def worst(self) -> dict[str, Any] | None:
        """The largest lag as {time, process, key, lag}, the first of several; None if nobody tracked a key."""
        spans, operations = self._spans, self._history.operations
        spans = spans.where(spans.start < spans.end)
        if not len(spans.key):
            return None
        last = self._lag(self._steps.operation[spans.end - 1], spans.known_since)
        worst = int(last.max())
        spans = spans.where(last == worst)
        # As lags grow, the first to be as large as its span's last was invoked at the same time, unless all are 0.
        first = np.maximum(spans.start, self._steps.at_once[spans.end - 1]) if worst else spans.start
        operation = self._steps.operation[first]
        chosen = np.lexsort((spans.key, operation))[0]
        return {
            "time": int(operations.invoked_at[operation[chosen]]),
            "process": int(operations.process[operation[chosen]]),
            "key": self._history.keys[int(spans.key[chosen])],
            "lag": worst,
        }

    def series(self) -> LagSeries:
        """Every lag: as many rows as operations, times the keys that they track."""
        spans, operations = self._spans, self._history.operations
        count = np.maximum(spans.end - spans.start, 0)
        step = np.repeat(spans.start - (np.cumsum(count) - count), count) + np.arange(count.sum())
        operation, key = self._steps.operation[step], np.repeat(spans.key, count)
        lag = self._lag(operation, np.repeat(spans.known_since, count))
        order = np.lexsort((key, operation))
        operation = operation[order]
        return LagSeries(operations.invoked_at[operation], operations.process[operation], key[order], lag[order])

    def _lag(self, operation: Rows, known_since: Rows) -> Rows:
        """How long something had been known when operations were invoked."""
        invoked_at = self._history.operations.invoked_at[operation]
        lag: Rows = invoked_at - np.minimum(known_since, invoked_at)
        return lag


class _Steps:
    """Acknowledged polls and transactions, each process' in order: those after which there are lags.

    `is_one` marks them among all operations; `at_once` is for each the first of its process invoked at the same time.
    """

    def __init__(self, history: History) -> None:
        operations = history.operations
        self.threads = Threads(history)
        self.is_one = (operations.function == Function.POLL) | (operations.function == Function.TXN)
        self.is_one &= (operations.outcome == Outcome.OK) & (operations.closing != Closing.READ_UNCOMMITTED)
        steps = np.flatnonzero(self.is_one)
        process = self.threads.process[steps]
        order = stable_order(process, self.threads.count)
        self.operation: Rows = steps[order]
        self._moment = self.threads.moment(process[order], self.operation)
        first = changes(process[order], operations.invoked_at[self.operation])
        self.at_once: Rows = np.maximum.accumulate(np.where(first, np.arange(len(steps)), 0))

    def before(self, process: NDArray[np.int32], operation: NDArray[Any]) -> Rows:
        """How many steps precede, process by process, an operation of each given process."""
        return np.searchsorted(self._moment, self.threads.moment(process, operation))


@dataclass(frozen=True)
class _Spans:
    """Times in which a process' place in a key stays the same.

    They reach from the step `start` to before the step `end`; offsets beyond the place are `known_since`, or NEVER.
    """

    key: NDArray[np.int32]
    start: Rows
    end: Rows
    known_since: Rows

    def where(self, chosen: NDArray[np.bool_]) -> _Spans:
        """Some of the spans."""
        return _Spans(self.key[chosen], self.start[chosen], self.end[chosen], self.known_since[chosen])


def _spans(known: _KnownOffsets, steps: _Steps, history: History) -> _Spans:
    """The spans of all processes and keys."""
    threads = steps.threads
    operation, key, rank = _places(history, steps, known)
    thread = threads.of(operation, key)
    order = threads.order(thread, operation)
    thread, operation, key, rank = thread[order], operation[order], key[order], rank[order]
    process, is_first = threads.process[operation], changes(thread)
    until = _next_assignments(history, threads, operation)
    # Either the thread has its next place then, or the key is given up before.
    until[:-1] = np.where(is_first[1:], until[:-1], np.minimum(until[:-1], operation[1:]))
    is_first[1:] |= until[:-1] != operation[1:]
    tracked = np.cumsum(is_first) * known.ranks
    place = np.maximum.accumulate(tracked + rank) - tracked
    return _Spans(key, steps.before(process, operation), steps.before(process, until), known.since(key, place))


def _places(history: History, steps: _Steps, known: _KnownOffsets) -> tuple[NDArray[np.int32], NDArray[np.int32], Rows]:
    """Operations that track a key, the key, and the rank of the offset that they got to; 0 for none."""
    empty, assigned, operations = history.empty_reads, history.assigned, history.operations
    moved, nothing = steps.is_one[known.operation], steps.is_one[empty.operation]
    is_assign = (operations.function == Function.ASSIGN) & (operations.outcome == Outcome.OK)
    named = is_assign[assigned.operation]
    return (
        np.concatenate([known.operation[moved], empty.operation[nothing], assigned.operation[named]]),
        np.concatenate([known.key[moved], empty.key[nothing], assigned.key[named]]),
        np.concatenate([known.rank[moved], np.zeros(nothing.sum() + named.sum(), dtype=np.int64)]),
    )


def _next_assignments(history: History, threads: Threads, operation: NDArray[np.int32]) -> Rows:
    """The next acknowledged assign or subscribe of the same process after each operation, or the number of all."""
    operations = history.operations
    counts = (operations.function == Function.ASSIGN) | (operations.function == Function.SUBSCRIBE)
    assignments = np.flatnonzero(counts & (operations.outcome == Outcome.OK))
    moments = np.sort(threads.moment(threads.process[assignments], assignments))
    process = threads.process[operation]
    found = np.searchsorted(moments, threads.moment(process, operation), side="right")
    # One of a later process lies beyond all operations of this one.
    following: Rows = np.append(moments, NEVER)[found] - threads.moment(process, 0)
    return np.minimum(following, len(operations))


class _KnownOffsets:
    """Who knew of which offsets: per operation and key the largest, as a rank among all such offsets.

    Rank 0 is no offset at all. Operations that failed, or never completed, tell nothing.
    """

    def __init__(self, evidence: Evidence, compat: bool) -> None:
        micro, operations = evidence.history.micro, evidence.history.operations
        tells = (operations.outcome != Outcome.FAIL) & (operations.completed_at != NO_TIME)
        of = tells[micro.operation] & ~evidence.is_raw_read & ~(evidence.is_send & (micro.offset == NO_OFFSET))
        if compat:
            of &= ~forgotten_sends(evidence)
        first, last = runs(of, micro.operation, micro.key)
        self.operation: NDArray[np.int32] = micro.operation[first]
        self.key: NDArray[np.int32] = micro.key[first]
        largest = np.append(np.int64(NO_OFFSET), _largest(micro.offset, first, last))
        numbers = Numbering(np.zeros(len(largest), dtype=np.int8), largest, 1)
        self.rank: Rows = numbers.of[1:].astype(np.int64)
        self.ranks = np.int64(len(numbers))
        order = stable_order(self.key, len(evidence.history.keys))
        known = self.key[order] * self.ranks + self.rank[order]
        is_news = changes(np.maximum.accumulate(known)) if len(known) else np.zeros(0, dtype=bool)
        self._known: Rows = known[is_news]
        self._since: Rows = operations.completed_at[self.operation[order[is_news]]]

    def since(self, key: NDArray[np.int32], rank: Rows) -> Rows:
        """From when on an offset of a key beyond the rank was known, NEVER if none ever was."""
        found = np.searchsorted(self._known, key * self.ranks + rank, side="right")
        is_of_key = np.append(self._known, NEVER)[found] // self.ranks == key
        return np.where(is_of_key, np.append(self._since, NEVER)[found], NEVER)


def _largest(offset: Rows, first: NDArray[np.int32], last: NDArray[np.int32]) -> Rows:
    """The largest offset of each run of rows."""
    bounds = np.column_stack([first, last + np.int32(1)]).ravel()
    if not len(bounds):
        return np.zeros(0, dtype=np.int64)
    largest: Rows = np.maximum.reduceat(offset, bounds[:-1] if bounds[-1] == len(offset) else bounds)[::2]
    return largest
