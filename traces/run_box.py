"""What one machine did in a row of a run's picture: marks for faults, calls and outcomes, and a box of what changed."""

from __future__ import annotations

from dataclasses import dataclass

from hwmark.traces.canvas import INK, RED, Canvas, Ink, text_height, text_width, wrapped
from hwmark.traces.lane_box import CHANGED, HIGH_WATERMARK, PADDING, SMALL, epoch_colour
from hwmark.traces.run import Event
from hwmark.traces.run_changes import NO_EPOCH, Appended, Item, Log, LogRecord, Note, Truncated

BOX_WIDTH, CELL_WIDTH, CELL_HEIGHT, CELL_GAP = 170.0, 36.0, 24.0, 4.0
RECORDS_MAX = 8
"""So many records of a change are drawn, the first and the last of them; the others are counted."""

FAULT, CALL = ("#ffe08a", "#8a6d00"), ("#dbe9fb", "#0b57a4")
OUTCOME, FAILURE = ("#e6f2e8", "#1e6b34"), ("#fbdcd9", "#b3261e")
"""Fill and border of each kind of mark."""

_SIGN_WIDTH, _TINY = 14.0, 8.5
_INNER = BOX_WIDTH - 2 * PADDING
_PER_LINE = int((_INNER - _SIGN_WIDTH) // CELL_WIDTH)


@dataclass(frozen=True)
class Mark:
    """A fault, a call or an outcome."""

    text: str
    colours: tuple[str, str]

    @property
    def height(self) -> float:
        """Its height with the gap below it."""
        return text_height(len(self._lines()), SMALL) + 6 + CELL_GAP

    def draw(self, canvas: Canvas, x: float, y: float) -> None:
        """Draw it with the top in the middle at (x, y)."""
        fill, border = self.colours
        lines = self._lines()
        wide = max(text_width(line, SMALL, bold=True) for line in lines) + 2 * PADDING
        height = text_height(len(lines), SMALL) + 6
        canvas.box(x - wide / 2, y, wide, height, fill=fill, ink=Ink(border, 1.2), rounded=True)
        for number, line in enumerate(lines):
            top = y + 3 + text_height(number, SMALL)
            canvas.text(x - wide / 2, top, wide, line, size=SMALL, bold=True, align="centre")

    def _lines(self) -> list[str]:
        return wrapped(self.text, _INNER, SMALL, bold=True)


@dataclass(frozen=True)
class Box:
    """What changed in a machine's view; `broken` are the offsets of its logs to be marked in red."""

    items: tuple[Item, ...]
    broken: frozenset[tuple[str, int]] = frozenset()
    is_witness: bool = False

    @property
    def height(self) -> float:
        """Its height with the gap below it."""
        return sum(_height(item) for item in self.items) + 2 * PADDING + CELL_GAP

    def draw(self, canvas: Canvas, x: float, y: float) -> None:
        """Draw it with the top in the middle at (x, y)."""
        ink = Ink(RED, 2) if self.is_witness else CHANGED
        canvas.box(x - BOX_WIDTH / 2, y, BOX_WIDTH, self.height - CELL_GAP, fill="white", ink=ink, rounded=True)
        left, y, partition = x - BOX_WIDTH / 2 + PADDING, y + PADDING, ""
        for item in self.items:
            if isinstance(item, Note):
                partition = item.text if item.is_heading else partition
                _draw_note(canvas, left, y, item)
            else:
                _draw_records(canvas, left, y, item, {o for name, o in self.broken if name == partition})
            y += _height(item)


def parts_of(event: Event) -> dict[str, list[Mark | Box]]:
    """What is drawn on each lane for a step, from above."""
    parts: dict[str, list[Mark | Box]] = {}
    for name in event.machines:
        marks = [(event.fault, FAULT), (event.call, CALL)]
        parts[name] = [Mark(text, colours) for text, colours in marks if text]
    for name, items in event.changes.items():
        parts.setdefault(name, []).append(Box(items))
    for outcome in event.returns:
        colours = FAILURE if outcome.is_failure else OUTCOME
        parts.setdefault(outcome.machine, []).append(Mark(outcome.text, colours))
    return parts


def _height(item: Item) -> float:
    if isinstance(item, Note):
        return text_height(len(_lines_of(item)), SMALL) + 2
    lines = -(-len(_shown(item.records)) // _PER_LINE)
    return lines * (CELL_HEIGHT + CELL_GAP) + CELL_GAP if lines else 0


def _lines_of(note: Note) -> list[str]:
    return wrapped(note.text, _INNER, SMALL, bold=note.is_heading or note.is_strong)


def _shown(records: tuple[LogRecord, ...]) -> tuple[LogRecord | int, ...]:
    """The records to draw, and how many are left out between them."""
    if len(records) <= RECORDS_MAX:
        return records
    tail = RECORDS_MAX // 2
    head = RECORDS_MAX - 1 - tail
    return (*records[:head], len(records) - head - tail, *records[-tail:])


def _draw_note(canvas: Canvas, x: float, y: float, note: Note) -> None:
    bold, colour = note.is_heading or note.is_strong, "white" if note.is_strong else INK
    if note.is_strong:
        wide = max(text_width(line, SMALL, bold=True) for line in _lines_of(note)) + 8
        canvas.box(x - 2, y - 1, wide, _height(note), fill=INK, rounded=True)
    canvas.text(x + 2 * note.is_strong, y, _INNER, note.text, size=SMALL, colour=colour, bold=bold)


def _draw_records(canvas: Canvas, x: float, y: float, item: Appended | Truncated | Log, broken: set[int]) -> None:
    sign = {Appended: "+", Truncated: "\u2212"}.get(type(item), "")
    gone = isinstance(item, Truncated)
    canvas.text(x, y + 4, _SIGN_WIDTH, sign, size=12, bold=True, colour=RED if gone else INK)
    mark = item.mark if isinstance(item, Log) else None
    for place, record in enumerate(_shown(item.records)):
        left = x + _SIGN_WIDTH + place % _PER_LINE * CELL_WIDTH
        top = y + CELL_GAP / 2 + place // _PER_LINE * (CELL_HEIGHT + CELL_GAP)
        if isinstance(record, int):
            canvas.text(left, top + 6, CELL_WIDTH, f"{record:,} more", size=_TINY, align="centre")
            continue
        _draw_cell(canvas, left, top, record, is_gone=gone, is_broken=record.offset in broken)
        if mark == record.offset:
            canvas.box(left - 1.5, top - 3, 3, CELL_HEIGHT + 6, fill=HIGH_WATERMARK)
        elif mark == record.offset + 1:
            canvas.box(left + CELL_WIDTH - 1.5, top - 3, 3, CELL_HEIGHT + 6, fill=HIGH_WATERMARK)


def _draw_cell(canvas: Canvas, x: float, y: float, record: LogRecord, *, is_gone: bool, is_broken: bool) -> None:
    """A record: its value, and its offset below; the colour is its epoch's."""
    is_there = not is_gone and record.epoch != NO_EPOCH
    ink = Ink(RED, 2.5 if is_broken else 1.2, "solid" if is_there else "dashed")
    fill = epoch_colour(record.epoch) if is_there else "white"
    canvas.box(x + 1.5, y, CELL_WIDTH - 3, CELL_HEIGHT, fill=fill, ink=ink if is_broken or is_gone else Ink(INK, 0.8))
    canvas.text(x, y + 1, CELL_WIDTH, _fitting(record.value), size=_TINY, bold=True, align="centre")
    canvas.text(x, y + 12, CELL_WIDTH, f"@{record.offset}", size=_TINY, align="centre")


def _fitting(value: str) -> str:
    """A value, cut to the width of a cell."""
    while text_width(value, _TINY, bold=True) > CELL_WIDTH - 6:
        value = value.removesuffix("…")[:-1] + "…"
    return value
