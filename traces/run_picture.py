"""The sequence diagram of a run: a lane per machine, time running downward, messages as arrows between the lanes.

An arrow leads from the step that sent a message to the step that received it, and says there what it is. What happened
to a machine, what was asked of it and what changed in it stands on its lane.
"""

from __future__ import annotations

from collections.abc import Iterator

from hwmark.traces.canvas import INK, RED, Canvas, Ink, text_height, text_width, wrapped
from hwmark.traces.lane_box import HIGH_WATERMARK, SMALL, epoch_colour
from hwmark.traces.picture_parts import Swatch, draw_caption, draw_legend
from hwmark.traces.run import Event, Fate, Flight, Run
from hwmark.traces.run_box import CALL, FAULT, OUTCOME, Mark, parts_of
from hwmark.traces.run_changes import Appended
from hwmark.traces.run_end import end_boxes, witnesses
from hwmark.traces.run_rows import EVERY_STEP_THAT_MATTERS, Arrow, Choice, Fold, Row, arrows_of, folded, rows_of
from hwmark.traces.run_words import broken_sentence, message_text
from hwmark.traces.trace import Trace
from hwmark.traces.words import arguments_text

TITLE, HEADING, TEXT = 17.0, 12.5, 10.5
GUTTER, PITCH, ROW_GAP, HEADINGS_EVERY = 78.0, 204.0, 12.0, 1100.0
LABEL_MAX, LABEL_LINES_MAX = 330.0, 2

LANE_LINE, DOWN, PAUSED = Ink("#b8c2cc", 1.5), Ink("#f3b7b0", 9), Ink("#ffe08a", 9)
REQUEST, RESPONSE, LOST = Ink("#44525f", 1.3), Ink("#44525f", 1.1, "dashed"), Ink(RED, 1.4)
COPY, UNDER_WAY = Ink("#7b4bb0", 1.6), Ink("#9aa5b1", 1.2, "dotted")
QUIET_FILL, QUIET_TEXT = "#eef1f4", "#616e7c"


def run_dot(trace: Trace, choice: Choice = EVERY_STEP_THAT_MATTERS, file: str = "trace") -> str:
    """The DOT source of a run's sequence diagram; `file` is where errors are."""
    return _Picture(Run.of(trace, file), choice).draw()


class _Picture:
    """The places of lanes and rows, and the drawing of each part. `self.y` is how far down the picture has come."""

    def __init__(self, run: Run, choice: Choice) -> None:
        self.run = run
        self.rows = rows_of(run, choice)
        self.arrows = list(arrows_of(run, self.rows))
        self.parts = [{} if isinstance(row, Fold) else parts_of(row) for row in self.rows]
        self.ends, self.witnesses = end_boxes(run), witnesses(run)
        self.lanes = self._drawn_lanes()
        self.x = {name: GUTTER + PITCH * (place + 0.5) for place, name in enumerate(self.lanes)}
        self.right = max(GUTTER + PITCH * len(self.lanes), 620.0)
        self.labels = self._labels()
        self.canvas, self.y = Canvas(), 0.0
        self.headings: list[float] = []

    def draw(self) -> str:
        """The whole picture from top to bottom."""
        self._title()
        self.y = draw_legend(self.canvas, self.y, self.right, self._legend()) + 26
        top = self.y
        self._place_headings()
        self.tops, self.bottoms = self._place_rows()
        self._lane_lines(top)
        for arrow in self.arrows:
            self._arrow(arrow)
        for y in self.headings:
            self._draw_headings(y)
        for place, row in enumerate(self.rows):
            self._row(place, row)
        self._end()
        return self.canvas.source()

    # ------------------------------------------------------------------------------------------ places

    def _drawn_lanes(self) -> list[str]:
        """The machines of which anything is drawn."""
        drawn = {name for parts in self.parts for name in parts} | set(self.ends)
        drawn |= {end for arrow in self.arrows for end in (arrow.flight.source, arrow.flight.destination)}
        return [name for name in self.run.machines if name in drawn]

    def _labels(self) -> dict[int, list[tuple[Flight, list[str], float]]]:
        """By row the messages that arrive or get lost there: their words in lines, and how wide these may be."""
        labels: dict[int, list[tuple[Flight, list[str], float]]] = {}
        for arrow in self.arrows:
            if arrow.to_row is not None:
                flight = arrow.flight
                lanes = abs(self.x[flight.source] - self.x[flight.destination]) / PITCH
                width = min(max(lanes, 1) * PITCH - 14, LABEL_MAX)
                labels.setdefault(arrow.to_row, []).append((flight, _lines(_label(flight), width), width))
        return labels

    def _label_height(self, place: int) -> float:
        return sum(text_height(len(lines), SMALL) + 4 for _, lines, _ in self.labels.get(place, []))

    def _place_headings(self) -> None:
        self.headings.append(self.y)
        self.y += text_height(1, HEADING) + ROW_GAP

    def _place_rows(self) -> tuple[list[float], list[dict[str, float]]]:
        """The top of every row, and how far down each lane's marks reach in it."""
        tops, bottoms = [], []
        for place, parts in enumerate(self.parts):
            if self.y - self.headings[-1] > HEADINGS_EVERY:
                self._place_headings()
            start = self.y + self._label_height(place)
            heights = {name: sum(part.height for part in stack) for name, stack in parts.items()}
            tops.append(self.y)
            bottoms.append({name: start + height for name, height in heights.items()})
            self.y = max([start, self.y + text_height(1.2, SMALL), *bottoms[-1].values()]) + ROW_GAP
        return tops, bottoms

    # ------------------------------------------------------------------------------------------ drawing

    def _title(self) -> None:
        trace, steps = self.run.trace, len(self.run.events)
        what = f"Broken after {steps:,} steps: {trace.property}" if trace.property else f"A run of {steps:,} steps"
        self.y += self.canvas.text(0, self.y, self.right, what, size=TITLE, bold=True)
        self.y += self.canvas.text(0, self.y, self.right, self._what_is_drawn(), size=TEXT, colour=QUIET_TEXT) + 6

    def _what_is_drawn(self) -> str:
        """How the run can be had again, and how much of it is drawn."""
        trace = self.run.trace
        seed = "" if trace.seed is None else f"Seed {trace.seed}. "
        bounds = f"{arguments_text(dict(trace.bounds))}. " if trace.bounds else ""
        quiet, silent = folded(self.rows), [name for name in self.run.machines if name not in self.lanes]
        told = f"{quiet:,} steps that changed nothing to be seen are folded into grey lines. " if quiet else ""
        others = f"Nothing happened on {', '.join(silent)}. " if silent else ""
        return f"{seed}{bounds}{told}{others}On the left the number of the step, and the time in ms."

    def _legend(self) -> Iterator[tuple[Swatch | Ink, str]]:
        yield REQUEST, "request"
        yield RESPONSE, "response"
        drawn = [arrow.flight for arrow in self.arrows]
        if any(flight.fate is Fate.LOST for flight in drawn):
            yield LOST, "lost on its way, at the cross"
        if any(flight.is_copy for flight in drawn):
            yield COPY, "duplicate"
        if any(flight.fate is Fate.UNDER_WAY for flight in drawn):
            yield UNDER_WAY, "still under way at the end"
        marks = {
            part.colours for parts in self.parts for stack in parts.values() for part in stack if isinstance(part, Mark)
        }
        for colours, words in ((CALL, "call of an application"), (OUTCOME, "its outcome"), (FAULT, "fault")):
            if colours in marks:
                yield Swatch(fill=colours[0], ink=Ink(colours[1])), words
        for epoch in self._epochs():
            yield Swatch(fill=epoch_colour(epoch), ink=Ink(INK, 0.8)), f"record of epoch {epoch}"
        if self.ends:
            yield Swatch(3, fill=HIGH_WATERMARK), "high watermark"

    def _epochs(self) -> list[int]:
        changes = [
            item for row in self.rows if isinstance(row, Event) for items in row.changes.values() for item in items
        ]
        return sorted({record.epoch for item in changes if isinstance(item, Appended) for record in item.records})

    def _draw_headings(self, y: float) -> None:
        for name, x in self.x.items():
            wide, high = text_width(name, HEADING, bold=True) + 12, text_height(1, HEADING) + 4
            ink = Ink(RED, 2) if name in self.witnesses else LANE_LINE
            self.canvas.box(x - wide / 2, y - 2, wide, high, fill="white", ink=ink, rounded=True)
            self.canvas.text(x - PITCH / 2, y, PITCH, name, size=HEADING, bold=True, align="centre")

    def _lane_lines(self, top: float) -> None:
        """A line per lane; a broad band while its machine is down or paused."""
        for name, x in self.x.items():
            self.canvas.line((x, top), (x, self.y), ink=LANE_LINE)
            for start, end, ink in self._standstills(name):
                self.canvas.line((x, start), (x, end), ink=ink)

    def _standstills(self, name: str) -> Iterator[tuple[float, float, Ink]]:
        """From where to where a machine is down or paused."""
        since, ink = None, DOWN
        for place, row in enumerate(self.rows):
            if isinstance(row, Event) and name in row.machines and row.action in _STATES:
                y = self.tops[place] + self._label_height(place)
                if since is not None:
                    yield since, y, ink
                since, ink = (None, ink) if _STATES[row.action] is None else (y, _STATES[row.action] or ink)
        if since is not None:
            yield since, self.y, ink

    def _arrow(self, arrow: Arrow) -> None:
        flight = arrow.flight
        x, target = self.x[flight.source], self.x[flight.destination]
        start = (x, self._departure(arrow.from_row, flight.source))
        if arrow.to_row is None:
            way = 30.0 if target >= x else -30.0
            self.canvas.line(start, (x + way, start[1] + 10), ink=UNDER_WAY, arrow=True)
            return
        y = self._arrival(arrow.to_row, flight)
        if target == x:
            start = (x + 24, y - 9)
        ink = _ink(flight)
        if flight.fate is Fate.LOST:
            cross = (self._end_of(flight), y)
            self.canvas.line(start, cross, ink=ink)
            for slope in (1, -1):
                self.canvas.line((cross[0] - 5, y - 5 * slope), (cross[0] + 5, y + 5 * slope), ink=Ink(RED, 2.2))
        else:
            self.canvas.line(start, (target, y), ink=ink, arrow=True)

    def _end_of(self, flight: Flight) -> float:
        """How far to the right an arrow ends: at its lane, or at the cross before it."""
        x, target = self.x[flight.source], self.x[flight.destination]
        if flight.fate is not Fate.LOST:
            return target
        return x + (target - x) * 0.6 if target != x else x + 12

    def _departure(self, place: int | None, lane: str) -> float:
        if place is None:
            return self.headings[0] + text_height(1, HEADING)
        if isinstance(self.rows[place], Fold):
            return self.tops[place] + text_height(1, SMALL) + 6
        return self.bottoms[place].get(lane, self.tops[place] + self._label_height(place) + 2)

    def _arrival(self, place: int, flight: Flight) -> float:
        y = self.tops[place]
        for other, lines, _ in self.labels[place]:
            if other is flight:
                break
            y += text_height(len(lines), SMALL) + 4
        return y

    def _row(self, place: int, row: Row) -> None:
        top = self.tops[place]
        if isinstance(row, Fold):
            height = text_height(1, SMALL) + 6
            self.canvas.box(GUTTER, top, self.right - GUTTER, height, fill=QUIET_FILL)
            self.canvas.text(
                GUTTER, top + 3, self.right - GUTTER, row.words, size=SMALL, colour=QUIET_TEXT, align="centre"
            )
            return
        self._gutter(place, row)
        for flight, lines, width in self.labels.get(place, []):
            self._draw_label(flight, lines, width, self._arrival(place, flight) + 3)
        for name, stack in self.parts[place].items():
            y = top + self._label_height(place)
            for part in stack:
                part.draw(self.canvas, self.x[name], y)
                y += part.height

    def _gutter(self, place: int, row: Event) -> None:
        """The number of the step, and the time where it has gone on."""
        top = self.tops[place]
        self.canvas.text(0, top, 34, f"{row.number}", size=TEXT, bold=True, colour=QUIET_TEXT, align="right")
        earlier = next((r.at for r in reversed(self.rows[:place]) if isinstance(r, Event)), None)
        if row.at is not None and row.at != earlier:
            self.canvas.text(36, top + 1, GUTTER - 38, f"{row.at:,}", size=SMALL, colour=QUIET_TEXT, align="right")

    def _draw_label(self, flight: Flight, lines: list[str], width: float, y: float) -> None:
        is_rightward = self.x[flight.destination] > self.x[flight.source]
        colour = RED if flight.fate is Fate.LOST else COPY.colour if flight.is_copy else INK
        for line in lines:
            wide = text_width(line, SMALL)
            x = self._end_of(flight) + (20 * (1 if is_rightward else -1) if flight.fate is Fate.LOST else 0)
            left = x - 7 - wide if is_rightward else x + 7
            self.canvas.box(left - 2, y, wide + 4, text_height(1, SMALL), fill="white")
            y += self.canvas.text(left, y, wide + 20, line, size=SMALL, colour=colour)

    def _end(self) -> None:
        """How the brokers' logs stand at the end, and what is wrong with that."""
        if self.ends:
            self.canvas.text(0, self.y, GUTTER - 4, "at the end", size=TEXT, bold=True, colour=QUIET_TEXT)
            for name, box in self.ends.items():
                box.draw(self.canvas, self.x[name], self.y)
            self.y += max(box.height for box in self.ends.values()) + ROW_GAP
        sentence = broken_sentence(self.run.trace)
        if sentence is not None:
            draw_caption(self.canvas, self.y, self.right, sentence)


_STATES = {"crash": DOWN, "pause": PAUSED, "restart": None, "resume": None}


def _ink(flight: Flight) -> Ink:
    colour = RED if flight.fate is Fate.LOST else COPY.colour if flight.is_copy else REQUEST.colour
    like = RESPONSE if flight.is_response else REQUEST
    return Ink(colour, like.thickness, like.style)


def _label(flight: Flight) -> str:
    """What an arrow is: `Produce: x-0 at 3`."""
    fate = "lost: " if flight.fate is Fate.LOST else "duplicate: " if flight.is_copy else ""
    text = message_text(flight.text)
    return f"{fate}{flight.name}{': ' * bool(text)}{text}"


def _lines(text: str, width: float) -> list[str]:
    """A text in so few lines that rows stay low."""
    lines = wrapped(text, width, SMALL)
    if len(lines) <= LABEL_LINES_MAX:
        return lines
    return [*lines[: LABEL_LINES_MAX - 1], f"{lines[LABEL_LINES_MAX - 1]} …"]
