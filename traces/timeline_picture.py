"""The picture of an anomaly: one lane per process, its operations as bars, and the partition's log beside them.

`hwmark.traces.timeline` chooses what is drawn, `hwmark.traces.timeline_layout` where it stands.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from hwmark.traces.canvas import INK, Canvas, Ink, text_height, text_width, wrapped
from hwmark.traces.history import History, Outcome
from hwmark.traces.history_story import fault_in_words, is_note, verdict_of
from hwmark.traces.timeline import Neighbourhood, Relation, Report, messages_of, neighbourhood, shown, witness_of
from hwmark.traces.timeline_layout import GAP, PADDING, SMALL, TINY, Bar, Layout, lay_out
from hwmark.traces.timeline_log import LogEntry, LogValue, LogWindow, log_window
from hwmark.traces.timeline_words import time_text

RED, GREEN, GREY = "#b3261e", "#1e6b34", "#5f6b76"
FILLS = {Outcome.OK: "#e6f2e8", Outcome.FAIL: "#fbdcd9", Outcome.INFO: "#fff3cd"}
INKS = {
    Outcome.OK: Ink("#1e6b34"),
    Outcome.FAIL: Ink("#b3261e", 1, "dashed"),
    Outcome.INFO: Ink("#8a6d00", 1, "dotted"),
}
WITNESS_THICKNESS = 2.6
RELATIONS = {
    "wr": Ink("#0b57a4", 1.8),
    "ww": Ink("#7b3fa0", 1.8),
    "realtime": Ink("#5f6b76", 1.8, "dashed"),
    "process": Ink("#1f2933", 1.8, "dotted"),
}
RULE, CUT, BAND = Ink("#d5dbe1"), Ink("#9aa5b1", 1, "dashed"), Ink("#ffe08a", 12)
CONTESTED_FILL, CONCERNED_FILL, HEAD_FILL = "#fbdcd9", "#ffffff", "#dfe7f1"
TITLE, TEXT = 19.0, 12.0
LANE_GAP, LOG_GAP, HEADER = 10.0, 22.0, 40.0
LOG_COLUMNS = (("offset", 46.0), ("value", 92.0), ("sent by", 84.0), ("what became of it", 100.0))
LOGS_MAX, RELATIONS_MAX, ARROWS_MAX, FAULTS_MAX, SENTENCE_MAX, WORD_MAX = 2, 8, 16, 12, 500, 40
OUTCOMES = {Outcome.OK: "acknowledged", Outcome.FAIL: "failed", Outcome.INFO: "outcome unknown"}


def draw_timeline(history: History, report: Report, around: str | None = None) -> str:
    """The DOT source of the picture of one anomaly, the first that counts unless `around` says which.

    `report` is a judged history as plain data (`HistoryReport.to_json`); for `around` and its error see
    `hwmark.traces.timeline.witness_of`.
    """
    return _Picture(history, report, neighbourhood(history, witness_of(history, report, around))).draw()


class _Picture:
    """The drawing of each part; `self.y` is how far down the picture has come, in points."""

    def __init__(self, history: History, report: Report, near: Neighbourhood) -> None:
        self.history, self.report, self.near = history, report, near
        self.layout: Layout = lay_out(history, near)
        self.drawn = {bar.row: bar for bar in self.layout.bars}
        self.logs = _logs(history, near)
        self.columns = _log_columns(history, self.logs)
        self.log_width = sum(width for _, width in self.columns)
        self.labels = max((text_width(_lane(p), SMALL, bold=True) for p in self.layout.processes), default=0) + 8
        self.width = self.labels + self.layout.width + (LOG_GAP + self.log_width if self.logs else 0)
        self.canvas, self.y = Canvas(), 0.0

    def draw(self) -> str:
        """The whole picture from top to bottom."""
        self._title()
        top = self.y
        tops = self._lane_tops()
        bottom = self.y
        self._bands(top, bottom)
        self._cuts(top, bottom)
        self._times(top)
        for bar in self.layout.bars:
            self._bar(bar, tops[bar.process])
        self._arrows(tops)
        self.y = max(bottom, self._draw_logs(top)) + PADDING
        self._faults()
        self._legend()
        return self.canvas.source()

    def _title(self) -> None:
        """The verdict, the anomaly in a sentence, how its operations are related, and how much of it all is drawn."""
        valid, name = self.report["valid"], self.near.witness.name
        verdict = f"{shown(Path(self.history.file).stem, WORD_MAX)}: {verdict_of(self.report)}"
        self._line(verdict, size=TITLE, colour=GREEN if valid else RED, bold=True)
        self._line(f"{_count(name, self.report)}{_cut(self.near.witness.sentence)}", bold=True)
        for words in self._relation_words():
            self._line(words)
        self._line(self._what_is_drawn(), colour=GREY, size=10.5)
        self.y += PADDING

    def _line(self, text: str, *, size: float = TEXT, colour: str = INK, bold: bool = False) -> None:
        """A line of text over the whole width; none for no text."""
        if text:
            width = max(self.width, 620)
            self.y += self.canvas.text(0, self.y, width, text, size=size, colour=colour, bold=bold) + 3

    def _relation_words(self) -> list[str]:
        """What each arrow stands for; those that differ in the target alone share a line."""
        tags = {row: bar.tag for row, bar in self.drawn.items()}
        targets: dict[tuple[str, str], list[str]] = {}
        for relation in self.near.relations:
            if tags.get(relation.source) and tags.get(relation.target):
                targets.setdefault((tags[relation.source], relation.words), []).append(tags[relation.target])
        told = [f"{source}  {words.format(target=_listed(tags))}" for (source, words), tags in targets.items()]
        more = len(self.near.witness.relations) - sum(map(len, targets.values()))
        return told[:RELATIONS_MAX] + ([f"(relations that are not drawn: {more})"] if more > 0 else [])

    def _what_is_drawn(self) -> str:
        """How much of the recording the picture shows, and how to read it."""
        total, hidden = len(self.history.operations), [row for row in self.near.witness.rows if row not in self.drawn]
        part = f"Drawn are {len(self.drawn)} of {total:,} operations; cuts count what is left out."
        missing = f" {len(hidden)} operations of the anomaly did not fit." if hidden else ""
        return f"{part}{missing} From left to right in order, not to scale; #n is the record's index in the history."

    # ------------------------------------------------------------------------------------------ lanes

    def _lane_tops(self) -> dict[int, float]:
        """Draw the lanes' names and rules, and say where each one's bars begin."""
        tops = {}
        self.y += HEADER
        for process in self.layout.processes:
            height = max(bar.height for bar in self.layout.bars if bar.process == process)
            self.canvas.line((0, self.y), (self.labels + self.layout.width, self.y), ink=RULE)
            tops[process] = self.y + LANE_GAP
            middle = tops[process] + height / 2 - text_height(1, SMALL) / 2
            self.canvas.text(0, middle, self.labels, _lane(process), size=SMALL, bold=True)
            self.y += height + 2 * LANE_GAP
        self.canvas.line((0, self.y), (self.labels + self.layout.width, self.y), ink=RULE)
        return tops

    def _bands(self, top: float, bottom: float) -> None:
        """Faults, numbered, across all lanes."""
        for number, band in enumerate(self.layout.bands, 1):
            x = self.labels + band.middle
            self.canvas.line((x, top + HEADER - 16), (x, bottom), ink=BAND)
            self.canvas.box(x - 9, top + HEADER - 18, 18, 15, fill=BAND.colour, ink=Ink("#8a6d00"), rounded=True)
            at = top + HEADER - 17
            self.canvas.text(x - 9, at, 18, str(number), size=SMALL, bold=True, align="centre")

    def _cuts(self, top: float, bottom: float) -> None:
        """Where operations are left out, and how many."""
        for cut in self.layout.cuts:
            left, width = self.labels + cut.left, cut.width - GAP / 2
            for x in (left + width / 2 - 5, left + width / 2 + 5):
                self.canvas.line((x, top + HEADER), (x, bottom), ink=CUT)
            for line, text in enumerate(cut.words):
                y = top + HEADER - 26 + text_height(line, TINY)
                self.canvas.text(left, y, width, text, size=TINY, colour=GREY, align="centre")

    def _times(self, top: float) -> None:
        """When the drawn records happened, as far as there is room."""
        end = -GAP
        for x, time in self.layout.times:
            text = time_text(time, self.layout.times[-1][1])
            if x >= end + GAP:
                self.canvas.text(self.labels + x, top, 60, text, size=TINY, colour=GREY)
                self.canvas.line((self.labels + x, top + 11), (self.labels + x, top + 15), ink=Ink(GREY))
                end = x + text_width(text, TINY)

    def _bar(self, bar: Bar, top: float) -> None:
        """One operation; those of the anomaly have a thick border."""
        ink, x = INKS[bar.outcome], self.labels + bar.left
        if bar.row in self.near.witness.rows:
            ink = Ink(INK, WITNESS_THICKNESS, ink.style)
        if bar.end is not None:
            y = top + bar.height / 2
            self.canvas.line((x, y), (self.labels + bar.end, y), ink=Ink("#8a6d00", 1.6, "dashed"), arrow=True)
        self.canvas.box(x, top, bar.right - bar.left, bar.height, fill=FILLS[bar.outcome], ink=ink)
        y = top + 3
        for lines, bold in ((bar.heading, True), (bar.content, False)):
            for line in lines:
                self.canvas.text(x + PADDING, y, bar.right, line, size=SMALL, bold=bold)
                y += text_height(1, SMALL)

    def _arrows(self, tops: dict[int, float]) -> None:
        """From each operation to the one that it is related to."""
        for relation in self._drawn_relations():
            source, target = self.drawn[relation.source], self.drawn[relation.target]
            start, end = _arrow(source, tops[source.process], target, tops[target.process], self.labels)
            self.canvas.line(start, end, ink=RELATIONS.get(relation.kind, RELATIONS["process"]), arrow=True)

    def _drawn_relations(self) -> list[Relation]:
        """The first relations whose operations are both drawn."""
        drawn = [r for r in self.near.relations if r.source in self.drawn and r.target in self.drawn]
        return drawn[:ARROWS_MAX]

    # ------------------------------------------------------------------------------------------ the logs

    def _draw_logs(self, top: float) -> float:
        """The partitions' logs, one under the other; returns where they end."""
        x, y = self.labels + self.layout.width + LOG_GAP, top
        for log in self.logs:
            name = f"Log of partition {shown(self.history.keys[log.key], 30)}"
            y += self.canvas.text(x, y, self.log_width, name, size=TEXT, bold=True) + 3
            words = f"{sum(1 for _ in log.entries)} of {log.offsets:,} offsets at which anything was seen"
            y += self.canvas.text(x, y, self.log_width, words, size=TINY, colour=GREY) + 3
            y = self._log_row(x, y, [name for name, _ in LOG_COLUMNS], HEAD_FILL, bold=True)
            for entry in log.entries:
                y = self._entry(x, y, entry)
            y += 2 * PADDING
        return y

    def _entry(self, x: float, y: float, entry: LogEntry) -> float:
        if entry.is_cut:
            y = self._log_row(x, y, ["...", "", "", ""], "#f1f3f5")
        for number, value in enumerate(entry.values):
            offset = f"{entry.offset}" if number == 0 else ""
            fill = CONTESTED_FILL if value.marks else CONCERNED_FILL
            y = self._log_row(x, y, [offset, *_value_cells(self.history, value)], fill, bold=value.is_concerned)
        if entry.seen > len(entry.values):
            y = self._log_row(x, y, ["", f"and {entry.seen - len(entry.values)} more", "", ""], CONTESTED_FILL)
        return y

    def _log_row(self, x: float, y: float, cells: list[str], fill: str, *, bold: bool = False) -> float:
        """One row of the table; returns where the next one begins."""
        columns = list(zip(cells, self.columns, strict=True))
        inner = [wrapped(text, width - 2 * PADDING, SMALL, bold=bold) for text, (_, width) in columns]
        height = text_height(max(map(len, inner)), SMALL) + 5
        for text, (_, width) in columns:
            self.canvas.box(x, y, width, height, fill=fill, ink=Ink("#9aa5b1", 0.7))
            if text:  # a label without any text breaks the WebAssembly build of Graphviz
                self.canvas.text(x + PADDING, y + 2.5, width - 2 * PADDING, text, size=SMALL, bold=bold)
            x += width
        return y + height

    # ------------------------------------------------------------------------------------------ below

    def _faults(self) -> None:
        """What the numbered bands are."""
        key = self.history.keys[self.logs[0].key] if self.logs else 0
        lines = [
            (f"({number}) {time_text(fault.time, fault.time)}: {_cut(fault_in_words(fault, key))}", not is_note(fault))
            for number, band in enumerate(self.layout.bands, 1)
            for fault in band.faults
        ]
        for words, bold in lines[:FAULTS_MAX]:
            self._line(words, size=10.5, bold=bold)
        if len(lines) > FAULTS_MAX:
            self._line(f"... and {len(lines) - FAULTS_MAX} more faults and notes", size=10.5, colour=GREY)

    def _legend(self) -> None:
        """What colours, borders and arrows mean."""
        self.y += PADDING
        x = 0.0
        for outcome, words in OUTCOMES.items():
            x = self._legend_box(x, words, FILLS[outcome], INKS[outcome])
        x = self._legend_box(x, "part of the anomaly", "white", Ink(INK, WITNESS_THICKNESS))
        if self.layout.bands:
            x = self._legend_box(x, "fault or note", BAND.colour, Ink("#8a6d00"))
        kinds = {
            "wr": "sent, then read",
            "ww": "written after",
            "realtime": "ended before",
            "process": "next in process",
        }
        for kind in dict.fromkeys(relation.kind for relation in self._drawn_relations()):
            y = self.y + text_height(0.5, SMALL)
            self.canvas.line((x, y), (x + 24, y), ink=RELATIONS.get(kind, RELATIONS["process"]), arrow=True)
            words = kinds.get(kind, kind)
            self.canvas.text(x + 28, self.y, 100, words, size=SMALL)
            x += 28 + text_width(words, SMALL) + 16

    def _legend_box(self, x: float, words: str, fill: str, ink: Ink) -> float:
        self.canvas.box(x, self.y, 20, text_height(1, SMALL), fill=fill, ink=ink)
        self.canvas.text(x + 24, self.y, 200, words, size=SMALL)
        return x + 24 + text_width(words, SMALL) + 16


def _logs(history: History, near: Neighbourhood) -> list[LogWindow]:
    """The logs of the first partitions that the anomaly is about, or of the one that is touched most."""
    messages, micro = near.witness.messages, history.micro
    if messages:
        return [
            log_window(history, key, messages) for key in list(dict.fromkeys(key for key, _ in messages))[:LOGS_MAX]
        ]
    rows = near.witness.rows or near.context
    touched = [key for row in rows for key in micro.key[messages_of(history, row)].tolist()]
    return [log_window(history, key, (), rows) for key, _ in Counter(touched).most_common(1)]


def _log_columns(history: History, logs: list[LogWindow]) -> list[tuple[str, float]]:
    """The columns of the logs' tables, wide enough for their longest word."""
    rows = [(str(e.offset), *_value_cells(history, value)) for log in logs for e in log.entries for value in e.values]
    words = [[word for row in rows for word in row[column].split()] for column in range(len(LOG_COLUMNS))]
    return [
        (name, max([width, *(text_width(word, SMALL, bold=True) + 2 * PADDING for word in of_column)]))
        for (name, width), of_column in zip(LOG_COLUMNS, words, strict=True)
    ]


def _value_cells(history: History, value: LogValue) -> list[str]:
    """A value of the log: itself, who sent it, and what became of it."""
    if value.writer is None or value.outcome is None:
        return [shown(value.value), "nobody", ", ".join(value.marks)]
    operations = history.operations
    by = f"process {operations.process[value.writer]} (#{operations.index[value.writer]})"
    return [shown(value.value), by, ", ".join(value.marks) or OUTCOMES[value.outcome]]


def _arrow(
    source: Bar, source_top: float, target: Bar, target_top: float, x: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Where an arrow starts and ends: from side to side in one lane, else from the one's end to the other's start."""
    if source.process == target.process:
        y = source_top + source.height / 2
        return ((x + source.right, y), (x + target.left, y)) if source.left < target.left else (
            (x + source.left, y), (x + target.right, y)
        )  # fmt: skip
    is_down = source_top < target_top
    start = x + source.right - min(16, (source.right - source.left) / 3)
    end = x + target.left + min(16, (target.right - target.left) / 3)
    return (
        (start, source_top + source.height if is_down else source_top),
        (end, target_top if is_down else target_top + target.height),
    )


def _count(name: str | None, report: Report) -> str:
    """Which anomaly of how many of its type: `G1a (1 of 3): `."""
    if name is None:
        return ""
    kind, _, number = name.rpartition("/")
    return f"{kind} ({int(number) + 1:,} of {len(report['anomalies'][kind]):,}): "


def _listed(names: list[str]) -> str:
    """Names as a list in a sentence."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _cut(text: str) -> str:
    """A sentence that fits: neither it nor any of its words is very long."""
    text = " ".join(shown(word, WORD_MAX) for word in text.split())
    return text if len(text) <= SENTENCE_MAX else text[: SENTENCE_MAX - 4] + " ..."


def _lane(process: int) -> str:
    return f"process {process}"


def is_for_timeline(report: Report) -> bool:
    """Whether a timeline tells more than the story of a loss: something is wrong, and no acknowledged value is lost."""
    losses = {"missing-from-final-read", "lost-write", "unseen"}
    return bool(report["anomalies"]) and not losses & report["anomalies"].keys()
