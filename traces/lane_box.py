"""One lane in one row: who leads, the ISR, the log as a row of cells with the high watermark between them, the rest."""

from __future__ import annotations

from collections.abc import Iterator

from hwmark.traces.canvas import INK, RED, Canvas, Ink, text_height, text_width, wrapped
from hwmark.traces.changes import Json
from hwmark.traces.lanes import LaneView, Record, field_line
from hwmark.traces.promise import BrokenPromise, record_at
from hwmark.traces.words import value_text

EPOCH_COLOURS = ("#9ecae9", "#ffbf79", "#a8d8a0", "#d6b4e8", "#f2e394", "#9fd9d6", "#e3c9a8", "#c7ccd1")
"""Fills of records by epoch, from the ninth epoch on again from the front; none is red, which marks what broke."""

HIGH_WATERMARK = "#0b3c6f"
BORDER, CHANGED, PALE = Ink("#b8c2cc"), Ink("#52606d", 1.4), Ink("#aab4be", 1, "dotted")

PADDING, INDENT, SMALL = 7.0, 12.0, 9.5
CELL_WIDTH, CELL_HEIGHT, MARK_HEIGHT = 46.0, 28.0, 13.0


def epoch_colour(epoch: Json) -> str:
    """The fill of the records of an epoch."""
    return EPOCH_COLOURS[epoch % len(EPOCH_COLOURS)] if isinstance(epoch, int) else "white"


class LaneBox:
    """The box of a lane: how high it is, and how it is drawn."""

    def __init__(self, view: LaneView, slots: int, width: float) -> None:
        self.view, self.width = view, width
        self.slots = slots
        self.cell = min(CELL_WIDTH, (width - 2 * (PADDING + INDENT)) / slots)

    @property
    def height(self) -> float:
        """The height of everything in the box, in points."""
        others = text_height(len(self._other_lines()), SMALL)
        return 2 * PADDING + (self.role_height + self.log_height + others or text_height(1, SMALL))

    @property
    def role_height(self) -> float:
        """The height of leader and ISR, on one line where both fit; 0 if there are none."""
        return text_height(1 + self._is_isr_apart(), SMALL) + 5 if self.view.role else 0

    @property
    def log_height(self) -> float:
        """The height of the log and the mark under it; 0 if there is none."""
        return CELL_HEIGHT + MARK_HEIGHT + 4 if self.view.log is not None else 0

    def draw(self, canvas: Canvas, x: float, y: float, *, is_changed: bool, broken: BrokenPromise | None) -> None:
        """Draw the box with its top left corner at (x, y); in red the place where a promise broke in it."""
        broken_offset = broken.offset if broken else None
        ink = Ink(RED, 2) if broken and broken_offset is None else CHANGED if is_changed else BORDER
        canvas.box(x, y, self.width, self.height, fill="white", ink=ink, rounded=True)
        x, y = x + PADDING, y + PADDING
        self._draw_role(canvas, x, y)
        y += self.role_height
        if self.view.log is not None:
            self._draw_log(canvas, x + INDENT, y + 3, self.view.log, broken_offset)
        y += self.log_height
        for line in self._other_lines():
            y += canvas.text(x, y, self.width - 2 * PADDING, line, size=SMALL)

    def _role_width(self) -> float:
        role = self.view.role
        return text_width(role.words, SMALL, bold=role.is_leader) + 10 if role else 0

    def _is_isr_apart(self) -> bool:
        """Whether the ISR needs a line of its own."""
        width = self._role_width() + text_width(f"ISR {self.view.isr}", SMALL)
        return self.view.isr is not None and width > self.width - 2 * PADDING

    def _draw_role(self, canvas: Canvas, x: float, y: float) -> None:
        if self.view.role is None:
            return
        words, width = self.view.role.words, self._role_width()
        if self.view.role.is_leader:
            canvas.box(x, y - 2, width, text_height(1, SMALL) + 4, fill=INK, rounded=True)
            canvas.text(x, y, width, words, size=SMALL, colour="white", bold=True, align="centre")
        else:
            canvas.text(x, y, width, words, size=SMALL)
        if self.view.isr is not None:
            y += text_height(1, SMALL) + 2 if self._is_isr_apart() else 0
            canvas.text(x, y, self.width - 2 * PADDING, f"ISR {self.view.isr}", size=SMALL, align="right")

    def _draw_log(self, canvas: Canvas, x: float, y: float, log: list[Record], broken_offset: int | None) -> None:
        for offset in range(max(self.slots, len(log))):
            self._draw_place(canvas, x + offset * self.cell, y, record_at(log, offset), offset == broken_offset)
        if self.view.high_watermark is not None:
            self._draw_mark(canvas, x + self.view.high_watermark * self.cell, y, self.view.high_watermark)

    def _draw_place(self, canvas: Canvas, x: float, y: float, record: Record | None, is_broken: bool) -> None:
        place, ink = (x + 1.5, y, self.cell - 3, CELL_HEIGHT), Ink(RED, 2.5, "solid" if record else "dashed")
        if record is None:
            canvas.box(*place, ink=ink if is_broken else PALE)
            if is_broken:
                canvas.text(x, y + 8, self.cell, "none", size=SMALL, colour=RED, bold=True, align="centre")
            return
        canvas.box(*place, fill=epoch_colour(record.get("epoch")), ink=ink if is_broken else Ink(INK, 0.8))
        for line, (text, size) in enumerate(_record_lines(record)):
            canvas.text(x, y + 1 + 13 * line, self.cell, text, size=size, bold=line == 0, align="centre")

    def _draw_mark(self, canvas: Canvas, x: float, y: float, high_watermark: int) -> None:
        canvas.box(x - 1.5, y - 4, 3, CELL_HEIGHT + 8, fill=HIGH_WATERMARK)
        text, y = f"HW {high_watermark}", y + CELL_HEIGHT + 3
        canvas.text(x - 20, y, 40, text, size=SMALL, colour=HIGH_WATERMARK, bold=True, align="centre")

    def _other_lines(self) -> list[str]:
        return [
            line
            for field in self.view.others.items()
            for line in wrapped(field_line(*field), self.width - 2 * PADDING, SMALL)
        ]


def _record_lines(record: Record) -> Iterator[tuple[str, float]]:
    """What stands in a record's cell: its id and its epoch."""
    yield f"#{value_text(record['id'])}" if "id" in record else "", 10.5
    yield f"epoch {value_text(record.get('epoch'))}", 8.5
