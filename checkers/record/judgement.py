"""The verdict on a recording, as `hwmark history` and `hwmark linearizable` judge it, and pictures if it is invalid."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hwmark.checkers.histories import HistoryReport, check
from hwmark.checkers.histories.stream import report_pieces
from hwmark.checkers.histories.text import describe
from hwmark.checkers.linearizability.judgement import VERDICT_WORDS, Judgement
from hwmark.checkers.linearizability.log_history import acknowledgements_are_promises, check_history
from hwmark.checkers.verdict import EXIT_VIOLATED, Holds, Unknown, Violated, exit_status, verdict_name
from hwmark.traces.history import History, Key, read_history
from hwmark.traces.history_picture import draw_history
from hwmark.traces.render import render
from hwmark.traces.timeline_page import timeline_page
from hwmark.traces.timeline_picture import draw_timeline, is_for_timeline

PAGE_MAX = 200_000
"""Operations of which a page is made: it holds them all."""


class Judged(NamedTuple):
    """A recording's verdict: the worse of two exit statuses, the report, whether its logs are linearizable."""

    status: int
    report: HistoryReport
    linearizable: str
    text: str
    pictures: list[Path]
    not_drawn: str | None  # why there are not all pictures

    def print_json(self, more: Mapping[str, Any]) -> None:
        """The report and more fields as one JSON object on standard output."""
        for piece in report_pieces(self.report, more):
            sys.stdout.write(piece.decode())
        sys.stdout.write("\n")


def judge(file: Path) -> Judged:
    """Judge a history; pictures are drawn beside it. BadInputError if it cannot be read, or has no operations."""
    history = read_history(file)
    report = check(history)
    logs = check_history(history)
    word, words = _of_logs(history, logs)
    statuses = exit_status(report.verdict()), *(exit_status(judgement.verdict) for judgement in logs.values())
    status = EXIT_VIOLATED if EXIT_VIOLATED in statuses else max(statuses)
    pictures, not_drawn = _draw(history, report, file) if report.bad_error_types else ([], None)
    return Judged(status, report, word, "\n".join([describe(history, report), "", *words]), pictures, not_drawn)


def _of_logs(history: History, logs: Mapping[Key, Judgement]) -> tuple[str, list[str]]:
    """Whether all of them are linearizable, as a word and as lines of text."""
    verdicts = [judgement.verdict for judgement in logs.values()]
    worst = next((v for kind in (Violated, Unknown) for v in verdicts if isinstance(v, kind)), Holds())
    word = VERDICT_WORDS[verdict_name(worst)]
    lines = [f"its {len(logs)} logs: {word}"]
    if not acknowledgements_are_promises(history):
        lines[0] += f" (with acks={history.configuration['acks']} an acknowledgement is no promise)"
    for key, judgement in logs.items():
        match judgement.verdict:
            case Violated(witness=witness):
                lines.append(f"  {key}: {witness.sentence}")
            case Unknown(why=why):
                lines.append(f"  {key}: unknown: {why}")
    return word, lines


def _draw(history: History, report: HistoryReport, file: Path) -> tuple[list[Path], str | None]:
    """The picture that tells most, and a page with everything in it if that is not too much; why not all of it."""
    told = report.to_json()
    dot = draw_timeline(history, told) if is_for_timeline(told) else draw_history(history, told)
    drawn = {".svg": render(dot, "svg")}
    if len(history.operations) <= PAGE_MAX:
        from hwmark.checkers.histories.kinds import KINDS

        drawn[".html"] = timeline_page(history, told, None, {name: kind.meaning for name, kind in KINDS.items()})
    written: list[Path] = []
    for suffix, picture in drawn.items():
        try:
            file.with_suffix(suffix).write_bytes(picture)
        except OSError as error:  # such as the full disk that ended the recording
            file.with_suffix(suffix).unlink(missing_ok=True)
            return written, f"{file.with_suffix(suffix)}: {(error.strerror or str(error)).lower()}"
        written.append(file.with_suffix(suffix))
    return written, None
