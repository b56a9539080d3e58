"""A legal order of the operations of a log that was explained: what a test replays."""

from __future__ import annotations

import numpy as np
from hwmark.checkers.linearizability.log_bounds import Bounds
from hwmark.checkers.linearizability.log_columns import NEVER, NONE, Column
from hwmark.checkers.linearizability.log_real_time import RealTime
from hwmark.checkers.linearizability.log_sessions import ProgramOrder
from hwmark.checkers.linearizability.log_writers import Batches


def order_of(
    timing: RealTime | ProgramOrder, batches: Batches, writer: Column, moment: Column | None
) -> tuple[int, ...]:
    """Operations by the length at which they take effect; at each length its readers, then what is written there.

    A batch that stands in several copies comes as often.
    """
    content, markers = timing.content, timing.content.log.markers
    entries = [_written(batches.start, writer)]
    control = np.flatnonzero((markers.offset != NONE) & (markers.operation >= 0))
    entries.append(_written(markers.offset[control], markers.operation[control]))
    is_written = np.zeros(content.log.operations, dtype=bool)
    is_written[writer] = True
    is_written[markers.operation[markers.operation >= 0]] = True
    for bounds in timing.readers:
        rows = np.flatnonzero(bounds.operation >= 0)
        rows = rows[(bounds.returned[rows] != NEVER) & ~is_written[bounds.operation[rows]]]
        at, when = _placed(timing, bounds, rows, moment)
        entries.append((at, np.zeros(len(rows), dtype=np.int64), when, bounds.operation[rows]))
    length, kind, when, operation = (np.concatenate(columns) for columns in zip(*entries, strict=True))
    return tuple(operation[np.lexsort((when, kind, length))].tolist())


def _written(offset: Column, operation: Column) -> tuple[Column, Column, Column, Column]:
    """What is written at an offset comes last of what happens at that length."""
    return offset, np.ones(len(offset), dtype=np.int64), offset, operation


def _placed(
    timing: RealTime | ProgramOrder, bounds: Bounds, rows: Column, moment: Column | None
) -> tuple[Column, Column]:
    """The length at which each reader takes effect, and what orders those of one length.

    In real time that is as early as it may be: at its call, or when the log is long enough. Else it is the least length
    that it and its process need.
    """
    at_least = np.zeros(len(rows), dtype=np.int64) if bounds.at_least is None else bounds.at_least[rows]
    if isinstance(timing, ProgramOrder) or moment is None:
        assert isinstance(timing, ProgramOrder)
        operation = bounds.operation[rows]
        is_bound = timing.writes_too or bounds.are_reads
        return np.maximum(at_least, timing.shown[operation]) if is_bound else at_least, timing.rank[operation]
    when = np.maximum(moment[at_least], bounds.call[rows])
    at = np.searchsorted(moment[1:-1], when, side="right")
    if bounds.below is not None:
        highest = np.minimum(bounds.below[rows], len(moment) - 1) - 1
        at = np.minimum(at, timing.content.batch_start[highest])
    return at, when
