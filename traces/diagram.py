"""The space-time diagram of a trace: a column per lane, a row per step, time running downward.

In a row stands what the action did, and the lanes that it changed: their log, high watermark, leader and ISR. A lane
that did not change goes on as a thin line. Arrows lead from the lane that was read to the one that changed, and from
the controller's request to the replica that took it, which may be many steps later: that is where protocols break.
"""

from __future__ import annotations

from collections.abc import Iterator

from hwmark.traces.canvas import GREY, INK, RED, Canvas, Ink, text_height, text_width, wrapped
from hwmark.traces.changes import Json
from hwmark.traces.lane_box import BORDER, HIGH_WATERMARK, PADDING, SMALL, LaneBox, epoch_colour
from hwmark.traces.lanes import Scene
from hwmark.traces.picture_parts import Swatch, draw_caption, draw_legend
from hwmark.traces.promise import BrokenPromise, broken_promise
from hwmark.traces.rows import SHARED, Arrow, Row, arrows_of, rows_of
from hwmark.traces.trace import Trace
from hwmark.traces.words import arguments_text, member

TEXT, HEADING, TITLE = 11.0, 12.5, 17.0
NUMBER_WIDTH, WORDS_WIDTH, LANE_WIDTH = 26.0, 205.0, 200.0
SHARED_WIDTH, SHARED_WIDTH_MAX = 140.0, 300.0
GAP, ROW_GAP = 18.0, 12.0

TELLS, LANE_LINE = Ink("#44525f", 1.3), Ink("#b8c2cc", 1.5)
REQUESTS = Ink("#7b4bb0", 1.2, "dashed")


def trace_dot(trace: Trace) -> str:
    """The DOT source of the trace's space-time diagram."""
    return _Diagram(trace).draw()


class _Diagram:
    """The places of columns and rows, and the drawing of each part. `self.y` is how far down the picture has come."""

    def __init__(self, trace: Trace) -> None:
        self.trace, self.scene, self.broken = trace, Scene.of(trace), broken_promise(trace)
        self.rows = rows_of(self.scene)
        slots = _slots(self.rows, self.broken)
        self.boxes = [{i: LaneBox(view, slots, LANE_WIDTH) for i, view in row.views.items()} for row in self.rows]
        self.shared_width = _shared_width(self.rows)
        self.x, self.right = self._place_columns()
        self.canvas, self.y = Canvas(), 0.0

    def draw(self) -> str:
        """The whole picture from top to bottom."""
        self._title()
        self._legend()
        self._headings()
        first = self.y
        tops = [self._place_row(row, boxes) for row, boxes in zip(self.rows, self.boxes, strict=True)]
        for column, x in self.x.items():
            middle = x + self._width(column) / 2
            self.canvas.line((middle, first - ROW_GAP), (middle, self.y), ink=LANE_LINE)
        for number, top in enumerate(tops):
            self._row(number, top)
        for arrow in arrows_of(self.scene, self.rows):
            self._arrow(arrow, tops)
        self._caption()
        return self.canvas.source()

    def _width(self, column: int) -> float:
        return self.shared_width if column == SHARED else LANE_WIDTH

    def _place_columns(self) -> tuple[dict[int, float], float]:
        """The left edge of every column, and the right edge of the last."""
        shared = [SHARED] if any(row.shared for row in self.rows) else []
        places, x = {}, NUMBER_WIDTH + WORDS_WIDTH + GAP
        for column in (*shared, *range(self.scene.lanes.count)):
            places[column] = x
            x += self._width(column) + GAP
        return places, x - GAP

    def _title(self) -> None:
        steps = len(self.trace.steps)
        name = ", ".join(part for part in (self.trace.model, self.trace.variant) if part)
        what = f"{self.trace.property} fails after {steps} steps" if self.trace.property else f"{steps} steps"
        bounds = arguments_text(dict(self.trace.bounds))
        self.y += self.canvas.text(0, self.y, self.right, f"{name}: {what}", size=TITLE, bold=True)
        self.y += self.canvas.text(0, self.y, self.right, bounds, size=TEXT, colour="#616e7c") + 6

    def _legend(self) -> None:
        if self.scene.logs:
            self.y = draw_legend(self.canvas, self.y, self.right, self._legend_entries()) + 26

    def _legend_entries(self) -> Iterator[tuple[Swatch | Ink, str]]:
        for epoch in _epochs(self.scene):
            yield Swatch(fill=epoch_colour(epoch), ink=Ink(INK, 0.8)), f"record of epoch {epoch}"
        yield Swatch(3, fill=HIGH_WATERMARK), "high watermark: all left of it counts as committed"
        if self.scene.requests:
            yield REQUESTS, "the controller's request, once it is taken"
        yield TELLS, "read or told in this step"
        if self.broken and self.broken.offset is not None:
            yield Swatch(ink=Ink(RED, 2.5)), "the broken promise"

    def _headings(self) -> None:
        for column, x in self.x.items():
            name = self._heading(column)
            self.canvas.text(x, self.y, self._width(column), name, size=HEADING, bold=True, align="centre")
        self.y += text_height(1, HEADING) + ROW_GAP

    def _heading(self, column: int) -> str:
        if column != SHARED:
            return f"{self.scene.lanes.name} {member(self.scene.lanes, column)}"
        return "controller" if any(_is_quorum(value) for value in self.scene.states[0].values()) else "shared"

    def _place_row(self, row: Row, boxes: dict[int, LaneBox]) -> float:
        """The top of a row; `self.y` moves on to the next."""
        top = self.y
        words = text_height(len(wrapped(row.words, WORDS_WIDTH, TEXT)), TEXT)
        heights = [words, self._shared_height(row), *(box.height for box in boxes.values())]
        self.y += max(heights) + ROW_GAP
        return top

    def _shared_height(self, row: Row) -> float:
        lines = [line for text in row.shared for line in wrapped(text, self.shared_width - 2 * PADDING, SMALL)]
        return text_height(len(lines), SMALL) + 2 * PADDING if lines else 0

    def _row(self, number: int, top: float) -> None:
        row = self.rows[number]
        self.canvas.text(0, top + PADDING, NUMBER_WIDTH, str(number), size=TEXT, bold=True, colour=GREY)
        self.canvas.text(NUMBER_WIDTH, top + PADDING, WORDS_WIDTH, row.words, size=TEXT)
        if row.shared:
            self._shared(row, top)
        is_last = number == len(self.rows) - 1
        for index, box in self.boxes[number].items():
            broken = self.broken if is_last and self.broken and index in self.broken.lanes else None
            box.draw(self.canvas, self.x[index], top, is_changed=index in row.changed, broken=broken)

    def _shared(self, row: Row, top: float) -> None:
        x, y = self.x[SHARED], top + PADDING
        self.canvas.box(x, top, self.shared_width, self._shared_height(row), fill="#f3f0f8", ink=BORDER, rounded=True)
        for text in row.shared:
            y += self.canvas.text(x + PADDING, y, self.shared_width - 2 * PADDING, text, size=SMALL)

    def _arrow(self, arrow: Arrow, tops: list[float]) -> None:
        is_rightward = self.x[arrow.to_column] > self.x[arrow.from_column]
        start = self._edge(arrow.from_row, arrow.from_column, tops, is_right=is_rightward)
        end = self._edge(arrow.to_row, arrow.to_column, tops, is_right=not is_rightward)
        if arrow.to_column == SHARED:  # below the arrow between lanes that the same step may have
            start, end = (start[0], start[1] + 8), (end[0], end[1] + 8)
        self.canvas.line(start, end, ink=TELLS if arrow.from_row == arrow.to_row else REQUESTS, arrow=True)

    def _edge(self, number: int, column: int, tops: list[float], *, is_right: bool) -> tuple[float, float]:
        """Where an arrow meets a column: at the side of its box, or on its line where it has none in that row."""
        is_drawn = bool(self.rows[number].shared) if column == SHARED else column in self.boxes[number]
        share = (1.0 if is_right else 0.0) if is_drawn else 0.5
        return self.x[column] + share * self._width(column), tops[number] + PADDING + 6

    def _caption(self) -> None:
        if self.broken is not None:
            draw_caption(self.canvas, self.y, self.right, self.broken.sentence)


def _shared_width(rows: list[Row]) -> float:
    """Wide enough for the longest line, but no wider than SHARED_WIDTH_MAX."""
    longest = max((text_width(line, SMALL) + 2 * PADDING for row in rows for line in row.shared), default=0)
    return min(max(SHARED_WIDTH, longest), SHARED_WIDTH_MAX)


def _slots(rows: list[Row], broken: BrokenPromise | None) -> int:
    """Places for records in every log: those of the longest log, and the place where the promise broke."""
    logs = [view.log for row in rows for view in row.views.values() if view.log is not None]
    return max([1, *map(len, logs), *([broken.offset + 1] if broken and broken.offset is not None else [])])


def _epochs(scene: Scene) -> list[int]:
    views = [scene.view(number, i) for number in range(len(scene.states)) for i in range(scene.lanes.count)]
    epochs = [record.get("epoch") for view in views for record in view.log or []]
    return sorted({epoch for epoch in epochs if isinstance(epoch, int)})


def _is_quorum(value: Json) -> bool:
    return isinstance(value, dict) and "leader" in value and "isr" in value
