"""The picture of a loss: one partition's log as clients were promised it, beside what was found there in the end.

Time runs downwards; faults lie across the table where they struck. `hwmark.traces.history_story` chooses the rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hwmark.traces.canvas import INK, Align, Canvas, Ink, text_height, wrapped
from hwmark.traces.history import Fault, History, Outcome
from hwmark.traces.history_story import (
    LeftOut,
    Promise,
    Row,
    Story,
    fault_in_words,
    is_note,
    left_out_in_words,
    story_of,
    verdict_of,
)

RED, GREEN, GREY = "#b3261e", "#1e6b34", "#5f6b76"
LOST_FILL, KEPT_FILL, FAULT_FILL, LEFT_OUT_FILL, HEAD_FILL = "#fbdcd9", "#ffffff", "#ffeeba", "#f1f3f5", "#dfe7f1"
BORDER = Ink("#9aa5b1")
TITLE, TEXT, PADDING = 19.0, 12.0, 7.0
COLUMNS: list[tuple[str, float, Align]] = [
    ("time", 66, "right"),
    ("offset", 70, "right"),
    ("value", 110, "left"),
    ("what its sender was told", 205, "left"),
    ("found at this offset", 175, "left"),
    ("judgement", 165, "left"),
]
WIDTH = sum(width for _, width, _ in COLUMNS)
SETUP = {
    "ver": "",
    "acks": "acks=",
    "min_isr": "min.insync.replicas=",
    "unclean": "unclean election ",
    "nemesis": "faults: ",
}
TOLD = {
    Outcome.OK: "acknowledged to",
    Outcome.FAIL: "reported as failed to",
    Outcome.INFO: "outcome unknown to",
}

Cell = tuple[str, str, bool]
"""A cell's text, its colour, and whether it is bold."""


def draw_history(history: History, report: Mapping[str, Any]) -> str:
    """The DOT source of the picture; `report` is a judged history as plain data (`HistoryReport.to_json`)."""
    return _Picture(history, report).draw()


class _Picture:
    """The drawing of each part; `self.y` is how far down the picture has come, in points."""

    def __init__(self, history: History, report: Mapping[str, Any]) -> None:
        self.history, self.report = history, report
        self.story: Story = story_of(history, report)
        self.canvas, self.y = Canvas(), 0.0

    def draw(self) -> str:
        """The whole picture from top to bottom."""
        self._title()
        self._cells([(name, INK, True) for name, _, _ in COLUMNS], HEAD_FILL)
        for row in self.story.rows:
            self._row(row)
        self._closing()
        self._legend()
        return self.canvas.source()

    def _title(self) -> None:
        """The verdict, the numbers, the setup, and which part of it all is drawn."""
        valid = self.report["valid"]
        name = f"{Path(self.history.file).stem}: {verdict_of(self.report)}"
        self._line(name, size=TITLE, colour=GREEN if valid else RED, bold=True)
        for sentence in summary_lines(self.report):
            self._line(sentence, bold=True)
        self._line(setup_text(self.history))
        self._line(_what_is_drawn(self.story), colour=GREY)
        self.y += PADDING

    def _line(self, text: str, *, size: float = TEXT, colour: str = INK, bold: bool = False) -> None:
        """A line of text over the whole width; none for no text."""
        if text:
            self.y += self.canvas.text(0, self.y, WIDTH, text, size=size, colour=colour, bold=bold) + 3

    def _row(self, row: Row) -> None:
        """A message, a fault, or a count of what is left out."""
        match row:
            case Fault():
                self._banner(_seconds(row.time), fault_in_words(row, self.story.key), FAULT_FILL, bold=not is_note(row))
            case LeftOut():
                self._banner("", left_out_in_words(row), LEFT_OUT_FILL, colour=GREY)
            case Promise():
                fill = LOST_FILL if row.damage else KEPT_FILL
                self._cells(_promise_cells(row, self.story), fill)

    def _cells(self, cells: list[Cell], fill: str) -> None:
        """A row of the table, as high as its highest cell."""
        columns = list(zip(cells, COLUMNS, strict=True))
        lines = max(len(wrapped(t, width - 2 * PADDING, TEXT, bold=b)) for (t, _, b), (_, width, _) in columns)
        height = text_height(lines, TEXT) + PADDING
        x = 0.0
        for (text, colour, bold), (_, width, align) in columns:
            self.canvas.box(x, self.y, width, height, fill=fill, ink=BORDER)
            inner = width - 2 * PADDING
            top = self.y + PADDING / 2
            self.canvas.text(x + PADDING, top, inner, text, size=TEXT, colour=colour, bold=bold, align=align)
            x += width
        self.y += height

    def _banner(self, time: str, text: str, fill: str, *, colour: str = INK, bold: bool = False) -> None:
        """A row whose text lies across all columns but the first."""
        first, inner = COLUMNS[0][1], WIDTH - COLUMNS[0][1] - 2 * PADDING
        height = text_height(len(wrapped(text, inner, TEXT, bold=bold)), TEXT) + PADDING
        self.canvas.box(0, self.y, first, height, fill=fill, ink=BORDER)
        self.canvas.box(first, self.y, WIDTH - first, height, fill=fill, ink=BORDER)
        top = self.y + PADDING / 2
        if time:  # a label without any text breaks the WebAssembly build of Graphviz
            self.canvas.text(PADDING, top, first - 2 * PADDING, time, size=TEXT, colour=colour, align="right")
        self.canvas.text(first + PADDING, top, inner, text, size=TEXT, colour=colour, bold=bold)
        self.y += height

    def _closing(self) -> None:
        """When the closing read ended, the last line of the story."""
        ended = self.story.found.closing_at
        if ended is None:
            self._banner("", "no closing read: what was found is what all readers together saw", HEAD_FILL)
        else:
            self._banner(_seconds(ended), "the closing read (read_committed) has reached the end", HEAD_FILL)

    def _legend(self) -> None:
        """What the colours mean."""
        self.y += 2 * PADDING
        meanings = {
            "promise broken": LOST_FILL,
            "promise kept": KEPT_FILL,
            "fault or note": FAULT_FILL,
            "left out": LEFT_OUT_FILL,
        }
        for place, (meaning, fill) in enumerate(meanings.items()):
            x = place * WIDTH / len(meanings)
            self.canvas.box(x, self.y, 22, text_height(1, TEXT), fill=fill, ink=BORDER)
            self.canvas.text(x + 22 + PADDING, self.y, WIDTH / len(meanings) - 22 - PADDING, meaning, size=TEXT)


def _promise_cells(promise: Promise, story: Story) -> list[Cell]:
    """A message: when, where, what was promised, what is there, and whether that is right."""
    offset = "unknown" if promise.offset is None else str(promise.offset)
    return [
        (_seconds(promise.time), INK, False),
        (offset, INK, False),
        (_shown(promise.value), INK, True),
        (f"{TOLD[promise.outcome]} process {promise.process}", INK, False),
        _there(promise, story),
        _judgement(promise, story),
    ]


def _there(promise: Promise, story: Story) -> Cell:
    """What stands at the promise's offset."""
    at = story.found.at
    if promise.offset is None:
        return "not looked up", GREY, False
    if promise.offset not in at:
        return "nothing", RED, False
    value = at[promise.offset]
    return (_shown(value), INK, False) if value == promise.value else (f"{_shown(value)} instead", RED, False)


def _judgement(promise: Promise, story: Story) -> Cell:
    """Kept, or how it is damaged."""
    if promise.damage:
        return promise.damage, RED, True
    kept = promise.offset is not None and story.found.at.get(promise.offset) == promise.value
    return ("kept", GREEN, False) if kept else ("not read back", GREY, False)


def _what_is_drawn(story: Story) -> str:
    """Which part of the recording the table shows, and how to read it."""
    broken = any(isinstance(row, Promise) and row.damage for row in story.rows)
    where = "around its longest run of broken promises" if broken else "at its end"
    return (
        f"Partition {_shown(story.key)} {where}, in order of time. "
        "To acknowledge a value is to promise that it stays in the log, at its offset."
    )


def summary_lines(report: Mapping[str, Any]) -> list[str]:
    """What happened to the acknowledged values."""
    missing, total = report["anomalies"].get("missing-from-final-read", []), sum(report["acknowledged"].values())
    others = [name for name in report["error_types"] if name != "missing-from-final-read"]
    if missing:
        per_key = Counter(_shown(anomaly["key"]) for anomaly in missing)
        where = ", ".join(f"partition {key}: {count}" for key, count in sorted(per_key.items()))
        are = "is" if len(missing) == 1 else "are"
        lost = f"{len(missing):,} of {total:,} acknowledged values {are} missing from the closing read ({where})."
        return [lost, *([f"Also found: {', '.join(others)}."] if others else [])]
    found = f"Found: {', '.join(others)}." if others else "None of the anomalies looked for was found."
    return [f"{total:,} values were acknowledged. {found}"]


def setup_text(history: History) -> str:
    """What the recorder noted of the cluster's configuration."""
    noted = history.configuration
    return ", ".join(
        f"{words}{_shown(noted[name])}" for name, words in SETUP.items() if noted.get(name) not in (None, "")
    )


def _seconds(nanoseconds: int) -> str:
    """A time since the start."""
    return f"{nanoseconds / 1e9:.2f} s"


def _shown(value: object, width: int = 24) -> str:
    """A value or key, cut to what fits; one without a visible letter in quotes."""
    text = str(value) if str(value).strip() else f'"{value}"'
    return text if len(text) <= width else text[: width - 3] + "..."
