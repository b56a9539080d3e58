"""The order of real time: releases and deadlines on the moments at which the log's length is reached."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from hwmark.checkers.linearizability.log_bounds import Bounds
from hwmark.checkers.linearizability.log_columns import LONG_AGO, NEVER, Column
from hwmark.checkers.linearizability.log_content import Content
from hwmark.checkers.linearizability.log_words import ContradictionError, describe
from hwmark.checkers.linearizability.log_writers import Batches, least_of_group


class RealTime:
    """All deadlines of a log; `readers` are the bounds of everything but the batches, control records included."""

    def __init__(self, content: Content, readers: list[Bounds]) -> None:
        self.content, self.readers = content, readers
        self.call, self.owner = least_of_group(content, content.log.appends.call)
        self.deadline = np.full(content.length + 2, NEVER)
        for bounds in readers:
            if bounds.at_least is not None and len(bounds):
                np.minimum.at(self.deadline, bounds.at_least, bounds.returned)

    def low(self, appends: Column) -> Column:
        """The least offset at which each append may stand: no deadline of a greater length is before its call."""
        latest = np.minimum.accumulate(self.deadline[::-1])[::-1]
        return np.searchsorted(latest[1:-1], self.call[appends])

    def settle(self, batches: Batches) -> tuple[Column, Column]:
        """The operation that wrote each batch, and the moments T(0..N + 1); raises ContradictionError."""
        row = batches.append if self.owner is None else self.owner[batches.append]
        operation, call = self.content.log.appends.operation[row], self.call[batches.append]
        ends = self.content.whole(batches.start + 1)
        release = np.full(self.content.length + 2, LONG_AGO)
        release[ends] = call
        for bounds in self.readers:
            if bounds.below is not None and len(bounds):
                _raise_to(release, bounds.below, bounds.call)
        moment = np.maximum.accumulate(release)
        late = moment > self.deadline
        if late.any():
            writers = Bounds(operation, None, call, call, None, ends)
            self._refuse(release, int(np.argmax(late)), [writers, *self.readers])
        return operation, moment if self.content.records.single else moment[self.content.batch_end]

    def _refuse(self, release: Column, length: int, bounds: list[Bounds]) -> None:
        """Name the two operations that contradict each other."""
        log = self.content.log
        before = int(np.argmax(release[: length + 1]))
        returned, call = int(self.deadline[length]), int(release[before])
        x = _who(bounds, length, returned, is_deadline=True)
        y = _who(bounds, before, call, is_deadline=False)
        raise ContradictionError(
            "real-time",
            f"{describe(log, x)} returned at {returned}, before {describe(log, y)} was called at {call}; yet the first "
            f"shows that the log had reached length {log.shown_length(length)}, and the second that it had not reached "
            f"length {log.shown_length(before)} yet",
            (x, y),
        )


def _raise_to(release: Column, below: Column, call: Column) -> None:
    """Raise releases to the calls of operations; lengths beyond the log are never reached."""
    inside = below < len(release)
    if not inside.all():
        below, call = below[inside], call[inside]
    np.maximum.at(release, below, call)


def _who(bounds: Iterable[Bounds], length: int, time: int, *, is_deadline: bool) -> int:
    """The operation that a release or deadline comes from."""
    for some in bounds:
        lengths, times = (some.at_least, some.returned) if is_deadline else (some.below, some.call)
        if lengths is not None:
            rows = np.flatnonzero((lengths == length) & (times == time))
            if len(rows):
                return int(some.operation[rows[0]])
    raise AssertionError("a bound without an operation")
