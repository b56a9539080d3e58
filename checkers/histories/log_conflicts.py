"""Anomalies of the log itself: an offset with two messages, and a message at two offsets."""

from __future__ import annotations

from typing import Any

import numpy as np
from hwmark.checkers.histories.evidence import Evidence, Places, Rows, changes
from hwmark.checkers.histories.kinds import Anomaly
from hwmark.traces.history import Value
from numpy.typing import NDArray


def inconsistent_offsets(evidence: Evidence) -> list[Anomaly]:
    """Offsets at which different messages were seen: {key, offset, index, values}.

    `index` is the offset's position in the version order, null if only the closing read_uncommitted read saw the
    offset.
    """
    log = evidence.log
    starts, ends = _groups(log.key, log.offset)
    found = []
    for start, end in _longer_than_one(starts, ends):
        messages = log.message[start:end]
        found.append(
            {
                "key": evidence.key_of(messages[0]),
                "offset": int(log.offset[start]),
                "index": _index_of(evidence.version_order, int(log.key[start]), int(log.offset[start])),
                "values": _sorted_values(evidence, messages),
            }
        )
    return found


def duplicates(evidence: Evidence) -> list[Anomaly]:
    """Messages seen at several offsets: {key, value, count, offsets}."""
    log = evidence.log
    order = np.lexsort((log.offset, log.message))
    message, offset = log.message[order], log.offset[order]
    found = []
    for start, end in _longer_than_one(*_groups(message)):
        found.append(
            {
                "key": evidence.key_of(message[start]),
                "value": evidence.value_of(message[start]),
                "count": int(end - start),
                "offsets": offset[start:end].tolist(),
            }
        )
    return found


def _groups(*columns: NDArray[Any]) -> tuple[Rows, Rows]:
    """Starts and ends (exclusive) of the runs of equal rows."""
    starts = np.flatnonzero(changes(*columns))
    return starts, np.append(starts[1:], len(columns[0]))


def _longer_than_one(starts: Rows, ends: Rows) -> list[tuple[int, int]]:
    """The runs of at least two rows."""
    several = ends - starts > 1
    return list(zip(starts[several].tolist(), ends[several].tolist(), strict=True))


def _index_of(order: Places, key: int, offset: int) -> int | None:
    """The dense index of an offset, None if the version order lacks it."""
    low, high = np.searchsorted(order.key, [key, key + 1])
    at = low + int(np.searchsorted(order.offset[low:high], offset))
    return int(order.index[at]) if at < high and order.offset[at] == offset else None


def _sorted_values(evidence: Evidence, messages: Rows) -> list[Value]:
    """The messages' values, numbers before texts."""
    return sorted((evidence.value_of(m) for m in messages), key=lambda v: (isinstance(v, str), v))
