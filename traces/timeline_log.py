"""A partition's log around the messages that matter: which values were seen at each offset, and what became of them.

Seen are the offsets that senders were told (unless their operation failed) and those that any reader was handed.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from hwmark.traces.history import NO_OFFSET, Closing, History, Outcome, Value
from hwmark.traces.timeline import Message
from numpy.typing import NDArray

AROUND, ROWS_MAX, VALUES_MAX = 4, 18, 4
RAW = Closing.READ_UNCOMMITTED


@dataclass(frozen=True)
class LogValue:
    """A value at an offset: who sent it (a row of the operations, None if nobody did) and what became of it.

    `marks` are words for what is wrong with it; `is_concerned` says that the drawn anomaly is about it.
    """

    value: Value
    writer: int | None
    outcome: Outcome | None
    marks: tuple[str, ...]
    is_concerned: bool


@dataclass(frozen=True)
class LogEntry:
    """An offset and the first values seen there, of how many.

    `is_cut` says that offsets between it and the entry before are left out.
    """

    offset: int
    values: tuple[LogValue, ...]
    seen: int
    is_cut: bool


@dataclass(frozen=True)
class LogWindow:
    """Part of a partition's log; `offsets` counts those at which anything was seen in all of it."""

    key: int
    entries: tuple[LogEntry, ...]
    offsets: int


def log_window(history: History, key: int, concerned: tuple[Message, ...], drawn: Collection[int] = ()) -> LogWindow:
    """The log of a partition around the messages that the anomaly is about, else around what `drawn` operations saw."""
    micro = history.micro
    failed = micro.is_send & (history.operations.outcome[micro.operation] == Outcome.FAIL)
    rows = np.flatnonzero((micro.key == key) & (micro.offset != NO_OFFSET) & ~failed)
    offsets = np.unique(micro.offset[rows])
    values = [value for position, value in concerned if position == key]
    centres = np.unique(micro.offset[rows[np.isin(micro.value[rows], values)]])
    if not len(centres):
        seen = np.unique(micro.offset[rows[np.isin(micro.operation[rows], list(drawn))]])
        centres = seen[len(seen) // 2 :][:1]
    places = _places(offsets, centres)
    rows = rows[np.isin(micro.offset[rows], offsets[places])]
    entries = []
    for number, place in enumerate(places):
        is_cut = place > 0 if number == 0 else place - places[number - 1] > 1
        at = rows[micro.offset[rows] == offsets[place]]
        numbers = list(dict.fromkeys(micro.value[at].tolist()))
        numbers.sort(key=lambda number: number not in values)
        there = tuple(_value(history, key, n, len(numbers) > 1, n in values) for n in numbers[:VALUES_MAX])
        entries.append(LogEntry(int(offsets[place]), there, len(numbers), is_cut))
    return LogWindow(key, tuple(entries), len(offsets))


def _places(offsets: NDArray[np.int64], centres: NDArray[np.int64]) -> list[int]:
    """Positions of the offsets to show: those around each centre, or the last ones."""
    if not len(centres):
        return list(range(max(0, len(offsets) - 2 * AROUND - 1), len(offsets)))
    middles = np.searchsorted(offsets, centres).tolist()
    around = {place for middle in middles for place in range(middle - AROUND, middle + AROUND + 1)}
    shown = sorted(place for place in around if 0 <= place < len(offsets))
    return sorted(sorted(shown, key=lambda place: (min(abs(place - m) for m in middles[:3]), place))[:ROWS_MAX])


def _value(history: History, key: int, number: int, is_contested: bool, is_concerned: bool) -> LogValue:
    micro, operations = history.micro, history.operations
    rows = np.flatnonzero((micro.value == number) & (micro.key == key))
    senders, readers = micro.operation[rows[micro.is_send[rows]]], micro.operation[rows[~micro.is_send[rows]]]
    writer = int(senders[-1]) if len(senders) else None
    outcome = Outcome(int(operations.outcome[writer])) if writer is not None else None
    closing = (operations.closing == Closing.READ_COMMITTED) & (operations.outcome == Outcome.OK)
    is_missing = outcome is Outcome.OK and bool(closing.any()) and not closing[readers].any()
    offsets = np.unique(micro.offset[rows[micro.offset[rows] != NO_OFFSET]])
    facts = {
        "contested": is_contested,
        "nobody sent it": writer is None,
        "its send failed": outcome is Outcome.FAIL and bool((operations.closing[readers] != RAW).any()),
        "not in the closing read": is_missing,
        "never read": outcome is Outcome.OK and not closing.any() and not len(readers),
        "at several offsets": len(offsets) > 1,
    }
    marks = tuple(words for words, is_so in facts.items() if is_so)
    return LogValue(history.value(number), writer, outcome, marks, is_concerned)
