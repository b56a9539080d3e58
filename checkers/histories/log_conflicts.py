"""Anomalies of the log itself: an offset with two messages, and a message at two offsets."""

from __future__ import annotations

from typing import Any

import numpy as np
from hwmark.checkers.histories.evidence import Evidence, Places, Rows, changes
from hwmark.checkers.histories.kinds import Anomaly
from hwmark.checkers.histories.showing import Showing, span
from hwmark.traces.history import Value
from numpy.typing import NDArray


def inconsistent_offsets(evidence: Evidence) -> list[Anomaly]:
    """Offsets at which different messages were seen: {key, offset, index, values, operations}.

    `index` is the offset's position in the version order, null if only the closing read_uncommitted read saw the
    offset; `operations` show the first two of the values.
    """
    log = evidence.log
    runs = _longer_than_one(*_groups(log.key, log.offset))
    showing = _showing(evidence, log.message, runs)
    found = []
    for start, end in runs:
        messages = sorted(log.message[start:end].tolist(), key=lambda m: _number_first(evidence.value_of(m)))
        offset = int(log.offset[start])
        found.append(
            {
                "key": evidence.key_of(messages[0]),
                "offset": offset,
                "index": _index_of(evidence.version_order, int(log.key[start]), offset),
                "values": [evidence.value_of(message) for message in messages],
                "operations": _shown(evidence, showing, [(message, offset) for message in messages[:2]]),
            }
        )
    return found


def duplicates(evidence: Evidence) -> list[Anomaly]:
    """Messages seen at several offsets: {key, value, count, offsets, operations}; the last show the first two."""
    log = evidence.log
    order = np.lexsort((log.offset, log.message))
    message, offset = log.message[order], log.offset[order]
    runs = _longer_than_one(*_groups(message))
    showing = _showing(evidence, message, runs)
    found = []
    for start, end in runs:
        places = [(int(message[start]), int(place)) for place in offset[start : start + 2]]
        found.append(
            {
                "key": evidence.key_of(message[start]),
                "value": evidence.value_of(message[start]),
                "count": int(end - start),
                "offsets": offset[start:end].tolist(),
                "operations": _shown(evidence, showing, places),
            }
        )
    return found


def _showing(evidence: Evidence, message: Rows, runs: list[tuple[int, int]]) -> Showing:
    """Who saw the messages of the runs."""
    concerned = np.zeros(len(evidence), dtype=bool)
    for start, end in runs:
        concerned[message[start:end]] = True
    return Showing(evidence, concerned)


def _shown(evidence: Evidence, showing: Showing, places: list[tuple[int, int]]) -> list[int]:
    """The indices of the operations that show these messages at these offsets."""
    return sorted(int(evidence.history.operations.index[row]) for row in showing.of_places(places))


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
    low, high = span(order.key, key)
    at = low + int(np.searchsorted(order.offset[low:high], offset))
    return int(order.index[at]) if at < high and order.offset[at] == offset else None


def _number_first(value: Value) -> tuple[bool, Value]:
    """Sorts numbers before texts."""
    return isinstance(value, str), value
