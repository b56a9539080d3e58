"""The orders that each process sees, without real time: sessions, and sequential consistency of one partition.

Per process, in program order, the greatest length that anything before has shown must not be too much for the next
operation. In sessions only reads are asked (monotonic reads, read your writes); in a sequential order appends and
control records are too: at base offset o the length is o before and o + k after. An append of unknown outcome comes
after what its process did before; what the process did then need not have seen it.
"""

from __future__ import annotations

import numpy as np
from hwmark.checkers.linearizability.log_bounds import Bounds
from hwmark.checkers.linearizability.log_columns import NEVER, Column
from hwmark.checkers.linearizability.log_content import Content
from hwmark.checkers.linearizability.log_words import ContradictionError, describe
from hwmark.checkers.linearizability.log_writers import Batches, least_of_group


class ProgramOrder:
    """All operations in the order of their processes; `writes_too` asks for a sequential order.

    `shown[i]` is the greatest length that the process of operation i had been shown before it.
    """

    def __init__(self, content: Content, readers: list[Bounds], writes_too: bool) -> None:
        self.content, self.readers, self.writes_too = content, readers, writes_too
        self.shown, self.rank = _shown_before(content, readers)
        self._check(readers)
        shown = self.shown[content.log.appends.operation]
        self.least, self.owner = least_of_group(content, shown)

    def _check(self, readers: list[Bounds]) -> None:
        """No reader, and in a sequential order nobody, is older than what its process knows."""
        for bounds in readers:
            if bounds.below is not None and len(bounds) and (self.writes_too or bounds.are_reads):
                somebody = bounds.operation >= 0
                self._refuse_old(bounds.operation[somebody], bounds.below[somebody])

    def _refuse_old(self, operation: Column, below: Column) -> None:
        """Operations that were shown too much before."""
        old = np.flatnonzero(self.shown[operation] >= below)
        if not len(old):
            return
        y, shown = int(operation[old[0]]), int(self.shown[operation[old[0]]])
        x = self._who_showed(y, shown)
        log = self.content.log
        raise ContradictionError(
            "sequential" if self.writes_too else "sessions",
            f"{describe(log, x)} showed its process that the log had reached length {log.shown_length(shown)}, and "
            f"{describe(log, y)} of the same process, after it, is from before length "
            f"{log.shown_length(int(below[old[0]]))} was reached",
            (x, y),
        )

    def _who_showed(self, operation: int, length: int) -> int:
        """The operation of the same process that showed it this length before."""
        process: dict[int, int] = {}
        for bounds in self.readers:
            if bounds.process is not None:
                process |= dict(zip(bounds.operation.tolist(), bounds.process.tolist(), strict=True))
        for bounds in self.readers:
            if bounds.at_least is None:
                continue
            for row in np.flatnonzero(bounds.at_least == length).tolist():
                other = int(bounds.operation[row])
                same = process.get(other) == process[operation]
                if same and self.rank[other] < self.rank[operation] and bounds.returned[row] != NEVER:
                    return other
        raise AssertionError("a length that nobody showed")

    def low(self, appends: Column) -> Column:
        """The least offset at which each append may stand."""
        return self.least[appends] if self.writes_too else np.zeros(len(appends), dtype=np.int64)

    def settle(self, batches: Batches) -> tuple[Column, None]:
        """The operation that wrote each batch; raises ContradictionError if its process knew more before."""
        row = batches.append if self.owner is None else self.owner[batches.append]
        operation = self.content.log.appends.operation[row]
        if self.writes_too:
            self._refuse_old(operation, batches.start + 1)
        return operation, None


def _shown_before(content: Content, readers: list[Bounds]) -> tuple[Column, Column]:
    """Per operation the greatest length shown to its process before it, and its place in the order of processes."""
    rows = [bounds for bounds in readers if len(bounds)]
    shown = np.zeros(content.log.operations, dtype=np.int64)
    rank = np.zeros(content.log.operations, dtype=np.int64)
    if not rows:
        return shown, rank
    operation = np.concatenate([bounds.operation for bounds in rows])
    process = np.concatenate([_process(bounds) for bounds in rows])
    call = np.concatenate([bounds.call for bounds in rows])
    returned = np.concatenate([bounds.returned for bounds in rows])
    at_least = np.concatenate([bounds.at_least for bounds in rows if bounds.at_least is not None])
    order = np.lexsort((operation, returned, call, process))
    order = order[operation[order] >= 0]
    if not len(order):
        return shown, rank
    is_new = np.diff(process[order], prepend=process[order[0]]) != 0
    base = np.cumsum(is_new) * (content.length + 2)
    answered = np.where(returned != NEVER, at_least, 0)[order]
    after = np.maximum.accumulate(base + answered)
    before = np.concatenate([[0], after[:-1]])
    shown[operation[order]] = np.maximum(before, base) - base
    rank[operation[order]] = np.arange(len(order))
    return shown, rank


def _process(bounds: Bounds) -> Column:
    """The processes of operations; raises ValueError where nobody recorded them."""
    if bounds.process is None:
        raise ValueError("sessions need to know the process of each operation; expected a column `process`")
    return bounds.process
