"""Where everything of a timeline stands: bars of operations in the lanes of their processes, cuts and faults between.

From left to right is the order of the records, not the scale of time: every bar is as wide as its text needs, which is
what makes the picture legible. Where many operations are left out there is a cut that counts them.

Lengths are points, x from the left end of the lanes.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from hwmark.traces.canvas import text_height, text_width, wrapped
from hwmark.traces.history import NOT_COMPLETED, Fault, History, Outcome
from hwmark.traces.history_story import is_note
from hwmark.traces.timeline import Message, Neighbourhood
from hwmark.traces.timeline_words import content, duration_text, heading

TINY, SMALL, PADDING = 8.5, 9.5, 5.0
BAR_TEXT_MAX, NARROW_TEXT_MAX, LANES_WIDTH_MAX = 118.0, 76.0, 660.0
GAP, CUT_WIDTH, BAND_WIDTH, OPEN_END = 12.0, 54.0, 22.0, 34.0
CUT_FROM = 6
"""From so many left out operations on there is a cut."""
DRAWN_MAX = 16
GLUED = "@\ue000"


@dataclass(frozen=True)
class Bar:
    """An operation: its text, and where its box lies; an outcome that nobody knows is open to the right, to `end`."""

    row: int
    tag: str
    heading: list[str]
    content: list[str]
    process: int
    outcome: Outcome
    left: float
    right: float
    end: float | None

    @property
    def lines(self) -> int:
        """How many lines of text it has."""
        return len(self.heading) + len(self.content)

    @property
    def height(self) -> float:
        """The height of its box."""
        return text_height(self.lines, SMALL) + 2 * 3


@dataclass(frozen=True)
class Cut:
    """Where operations are left out: how many completed there, and the words for them and for how long it is."""

    left: float
    width: float
    words: tuple[str, str]
    operations: int


@dataclass(frozen=True)
class Band:
    """Faults between the same two drawn records."""

    middle: float
    faults: tuple[Fault, ...]


@dataclass(frozen=True)
class Layout:
    """All of it; `times` are the drawn records' places and times (nanoseconds), from left to right."""

    bars: tuple[Bar, ...]
    cuts: tuple[Cut, ...]
    bands: tuple[Band, ...]
    times: tuple[tuple[float, int], ...]
    width: float

    @property
    def processes(self) -> list[int]:
        """The lanes, from top to bottom."""
        return sorted({bar.process for bar in self.bars})


def lay_out(history: History, near: Neighbourhood) -> Layout:
    """The witness, what bears on it, and as much of what happened around as there is room for."""
    rows, text_max = _by_need(near), BAR_TEXT_MAX
    while True:
        layout = _Placing(history, near, sorted(rows), text_max).layout()
        if layout.width <= LANES_WIDTH_MAX or len(rows) <= 1:
            return layout
        if len(rows) > len(near.witness.rows) or text_max == NARROW_TEXT_MAX:
            rows.pop()
        else:
            text_max = NARROW_TEXT_MAX


def _by_need(near: Neighbourhood) -> list[int]:
    """The witness, then what its relations name, the other evidence, and what happened around."""
    related = [row for relation in near.relations for row in (relation.source, relation.target)]
    rows = [*near.witness.rows, *(row for row in related if row in near.evidence), *near.evidence, *near.context]
    return list(dict.fromkeys(rows))[:DRAWN_MAX]


def tags_of(near: Neighbourhood, drawn: Collection[int]) -> dict[int, str]:
    """Letters for the operations that the words above the picture name."""
    related = [row for relation in near.relations for row in (relation.source, relation.target)]
    rows = [row for row in dict.fromkeys([*near.witness.rows, *sorted(related)]) if row in drawn]
    return {row: chr(ord("A") + number) for number, row in enumerate(rows[:26])}


class _Placing:
    """Places record after record from left to right."""

    def __init__(self, history: History, near: Neighbourhood, rows: list[int], text_max: float) -> None:
        self.history, self.rows, self.text_max = history, rows, text_max
        self.focus: frozenset[Message] = frozenset(near.witness.messages)
        self.tags = tags_of(near, rows)
        self.heading = {row: self._wrapped(self._heading(row), bold=True) for row in rows}
        self.content = {
            row: [line for text in content(history, row, self.focus) for line in self._wrapped(text)] for row in rows
        }
        self.x, self.time = 0.0, 0
        self.cuts: list[Cut] = []
        self.bands: list[Band] = []

    def layout(self) -> Layout:
        """Everything at its place."""
        operations = self.history.operations
        events = [(int(operations.invoked[row]), int(operations.invoked_at[row]), row) for row in self.rows]
        events += [
            (int(operations.completed[row]), int(operations.completed_at[row]), row)
            for row in self.rows
            if operations.completed[row] != NOT_COMPLETED
        ]
        left: dict[int, float] = {}
        right: dict[int, float] = {}
        times = []
        place, time = -1, None
        for event_place, event_time, row in sorted(events):
            self._between(place, event_place, time, event_time)
            if row in left:
                self.x = right[row] = max(self.x, left[row] + self._width(row))
            else:
                left[row] = self.x
            times.append((self.x, event_time))
            place = event_place
            time = self.time = event_time
        right |= {row: left[row] + self._width(row) for row in self.rows if row not in right}
        self._after_last(place)
        width = max([self.x, *right.values()], default=0.0) + OPEN_END
        bars = tuple(self._bar(row, left, right, width) for row in self.rows)
        return Layout(bars, tuple(self.cuts), tuple(self.bands), tuple(times), width)

    def _between(self, place: int, next_place: int, time: int | None, next_time: int) -> None:
        """What lies between two drawn records: the gap, a cut, faults."""
        left_out = self._completed_between(place, next_place)
        if left_out >= CUT_FROM:
            self._cut(left_out, next_time - (0 if time is None else time))
        faults = self._faults_between(time, next_time)
        if faults:
            self.x += BAND_WIDTH / 2 + GAP / 2
            self.bands.append(Band(self.x, faults))
            self.x += BAND_WIDTH / 2 - GAP / 2
        self.x += GAP

    def _after_last(self, place: int) -> None:
        """What is left out at the end."""
        left_out = self._completed_between(place, NOT_COMPLETED + 1)
        if left_out >= CUT_FROM:
            self._cut(left_out, max(0, int(self.history.operations.completed_at.max()) - self.time))
            self.x -= OPEN_END

    def _cut(self, left_out: int, duration: int) -> None:
        words = f"{left_out:,} more", duration_text(duration)
        width = max(CUT_WIDTH, *(text_width(text, TINY) + 8 for text in words))
        self.cuts.append(Cut(self.x + GAP / 2, width, words, left_out))
        self.x += width

    def _completed_between(self, place: int, next_place: int) -> int:
        """How many operations that are not drawn completed between two records."""
        completed = self.history.operations.completed
        between = np.flatnonzero((completed > place) & (completed < next_place))
        return len(between) - sum(1 for row in self.rows if place < completed[row] < next_place)

    def _faults_between(self, time: int | None, next_time: int) -> tuple[Fault, ...]:
        """The faults between two drawn records; before the first one, the last fault and what was noticed since."""
        if time is not None:
            return tuple(fault for fault in self.history.faults if time < fault.time <= next_time)
        before = [fault for fault in self.history.faults if fault.time <= next_time]
        struck = [number for number, fault in enumerate(before) if not is_note(fault)]
        return tuple(before[struck[-1] :]) if struck else ()

    def _heading(self, row: int) -> str:
        tag = self.tags.get(row)
        return f"{tag}  {heading(self.history, row)}" if tag else heading(self.history, row)

    def _wrapped(self, text: str, *, bold: bool = False) -> list[str]:
        # An offset stays on the line of its @.
        lines = wrapped(text.replace("@ ", GLUED), self.text_max, SMALL, bold=bold)
        return [line.replace(GLUED, "@ ") for line in lines]

    def _width(self, row: int) -> float:
        widths = [text_width(line, SMALL, bold=True) for line in self.heading[row]]
        return max(widths + [text_width(line, SMALL) for line in self.content[row]]) + 2 * PADDING

    def _bar(self, row: int, left: dict[int, float], right: dict[int, float], width: float) -> Bar:
        operations = self.history.operations
        process, outcome = int(operations.process[row]), Outcome(int(operations.outcome[row]))
        following = [left[r] - 4 for r in self.rows if operations.process[r] == process and left[r] > left[row]]
        end = min([width, *following]) if outcome is Outcome.INFO else None
        return Bar(
            row=row,
            tag=self.tags.get(row, ""),
            heading=self.heading[row],
            content=self.content[row],
            process=process,
            outcome=outcome,
            left=left[row],
            right=right[row],
            end=end,
        )
