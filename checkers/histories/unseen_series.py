"""How many acknowledged messages of each key nobody had read yet, over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hwmark.checkers.histories.evidence import Evidence, Mask, Rows, changes
from hwmark.traces.history import Outcome
from numpy.typing import NDArray


@dataclass(frozen=True)
class UnseenSeries:
    """One row per operation and key whose number of unseen messages it changed, by key and in order of completion.

    `time` is when the operation completed, in ns, `key` a position in `History.keys`, `count` the number from then on.
    """

    operation: Rows
    time: Rows
    key: NDArray[np.int32]
    count: Rows


def unseen_series(evidence: Evidence) -> UnseenSeries:
    """Messages count from the first acknowledgement to the first acknowledged read, if that comes later."""
    never = np.int64(len(evidence.history.operations))
    acknowledged = _first(evidence, evidence.is_send & (evidence.outcome == Outcome.OK), never)
    read = _first(evidence, evidence.is_ok_read, never)
    waited = np.flatnonzero(acknowledged < read)
    seen = waited[read[waited] < never]
    operation = np.concatenate([acknowledged[waited], read[seen]])
    key = np.concatenate([evidence.message_key[waited], evidence.message_key[seen]])
    change = np.repeat([1, -1], [len(waited), len(seen)])
    order = np.lexsort((operation, key))
    operation, key, change = operation[order], key[order], change[order]
    return _counted(evidence, operation, key, change)


def _counted(evidence: Evidence, operation: Rows, key: NDArray[np.int32], change: NDArray[Any]) -> UnseenSeries:
    """Add up sorted changes, key by key and one row for each operation."""
    last = np.append(changes(key, operation)[1:], True) if len(key) else np.zeros(0, dtype=bool)
    total = np.cumsum(change)
    before = np.flatnonzero(changes(key))
    start = np.where(before > 0, total[before - 1], 0)
    count = total - np.repeat(start, np.diff(np.append(before, len(key))))
    time = evidence.history.operations.completed_at[operation[last]]
    return UnseenSeries(operation[last], time, key[last], count[last])


def _first(evidence: Evidence, of: Mask, never: np.int64) -> Rows:
    """The first operation with each message among the given micro-operations."""
    rows = np.flatnonzero(of)[::-1]
    first = np.full(len(evidence), never)
    first[evidence.message[rows]] = evidence.history.micro.operation[rows]
    return first
