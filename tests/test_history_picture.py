"""The picture of a loss tells the truth: what is drawn and what is counted as left out add up to the recording."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import orjson
import pytest
from hwmark.checkers.histories import check
from hwmark.traces.history import Fault, History, read_history
from hwmark.traces.history_picture import draw_history
from hwmark.traces.history_records import parse_lines
from hwmark.traces.history_story import LeftOut, Promise, fault_in_words, story_of
from hwmark.traces.render import render

TRACES = Path(__file__).parents[1] / "traces"
RECORDED = sorted((TRACES / "recorded").glob("*.jsonl"))
DRAWN = sorted((TRACES / "known").glob("lossy-*.svg"))


def judged(path: Path) -> tuple[History, dict[str, Any]]:
    history = read_history(path)
    return history, check(history).to_json()


def drawn_texts(svg: str) -> list[str]:
    """The texts of a picture, line by line and in order."""
    return [html.unescape(text) for text in re.findall(r"<text[^>]*>([^<]*)</text>", svg)]


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_everything_is_drawn_or_counted(path: Path) -> None:
    history, report = judged(path)
    story = story_of(history, report)
    promises = [row for row in story.rows if isinstance(row, Promise)]
    left_out = [row for row in story.rows if isinstance(row, LeftOut)]
    missing = [a for a in report["anomalies"].get("missing-from-final-read", []) if a["key"] == story.key]
    failed = {a["value"] for a in report["anomalies"].get("G1a", []) if a["key"] == story.key}
    broken = sum(row.damaged for row in left_out) + sum(1 for row in promises if row.damage)
    kept = sum(row.kept for row in left_out) + sum(1 for row in promises if not row.damage)
    assert broken == len(missing) + len(failed)
    assert kept == report["acknowledged"][str(story.key)] - len(missing)
    faults = sum(row.faults for row in left_out) + sum(1 for row in story.rows if isinstance(row, Fault))
    assert faults == len(history.faults)
    assert len(promises) <= 16


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_rows_are_in_order_of_time_and_kept_ones_are_there(path: Path) -> None:
    history, report = judged(path)
    story = story_of(history, report)
    times = [row.time for row in story.rows if not isinstance(row, LeftOut)]
    assert times == sorted(times)
    for row in story.rows:
        if isinstance(row, Promise) and row.offset is not None and row.damage in (None, "missing at the end"):
            assert (story.found.at.get(row.offset) == row.value) == (row.damage is None)


def test_loss_is_drawn_with_the_fault_before_it_and_the_value_in_its_place() -> None:
    history, report = judged(TRACES / "recorded" / "lossy-k4-ack1-part.jsonl")
    rows = story_of(history, report).rows
    fault = next(i for i, row in enumerate(rows) if isinstance(row, Fault))
    lost = next(i for i, row in enumerate(rows) if isinstance(row, Promise) and row.damage)
    assert fault < lost
    assert rows[fault] == Fault(5_023_532_958, "isolate-from-peers", 3)
    first = rows[lost]
    assert isinstance(first, Promise) and (first.offset, first.value, first.process) == (93, 219, 1)
    assert any(isinstance(row, Promise) and (row.offset, row.value, row.damage) == (93, 311, None) for row in rows)


@pytest.mark.parametrize("path", DRAWN, ids=lambda path: path.stem)
def test_known_picture_is_current(path: Path) -> None:
    dot = draw_history(*judged(TRACES / "recorded" / f"{path.stem}.jsonl"))
    assert drawn_texts(path.read_text()) == drawn_texts(render(dot, "svg").decode())


def test_known_pictures_exist() -> None:
    assert len(DRAWN) >= 3


def one_value(value: str, key: str, fault: Any) -> History:
    records = [
        {"process": "nemesis", "type": "info", "f": fault, "value": {"at": '<b>"\\'}, "time": 0},
        {"process": 0, "type": "invoke", "f": "send", "value": [["send", key, value]], "time": 1},
        {"process": 0, "type": "ok", "f": "send", "value": [["send", key, [0, value]]], "time": 2},
        {"process": 1, "type": "invoke", "f": "poll", "value": [["poll"]], "time": 3, "final": "read_committed"},
        {"process": 1, "type": "ok", "f": "poll", "value": [["poll", {key: []}]], "time": 4},
    ]
    return parse_lines([orjson.dumps(record) + b"\n" for record in records], "one.jsonl")


@pytest.mark.parametrize("text", ['<b>&amp;"quoted"</b>', "back\\slash\\n", "long " * 30, "日本語", ""])
def test_any_name_is_drawn_as_it_is(text: str) -> None:
    history = one_value(text, text, text)
    svg = render(draw_history(history, check(history).to_json()), "svg").decode()
    joined = "".join(drawn_texts(svg)).replace("\xa0", " ")
    assert text[:20].split("  ")[0] in joined
    assert "missing at the end" in joined


def test_pictures_need_no_dot_binary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    for path in RECORDED:
        texts = drawn_texts(render(draw_history(*judged(path)), "svg").decode())
        assert f"{path.stem}: {'valid' if path.stem.startswith('valid') else 'INVALID'}" in texts


def test_history_without_messages_is_drawn() -> None:
    records = [
        {"process": 0, "type": kind, "f": "assign", "value": [0], "time": time}
        for time, kind in enumerate(["invoke", "ok"])
    ]
    history = parse_lines([orjson.dumps(record) + b"\n" for record in records], "none.jsonl")
    assert "0 values were acknowledged" in draw_history(history, check(history).to_json())


def test_history_without_closing_read_says_so() -> None:
    history, _ = judged(RECORDED[0])
    lines = [line for line in RECORDED[0].read_bytes().splitlines(keepends=True) if b'"final"' not in line]
    history = parse_lines(lines, "open.jsonl")
    assert "no closing read" in draw_history(history, check(history).to_json())


def test_faults_are_told_in_words() -> None:
    assert fault_in_words(Fault(0, "kill", [1, 2]), 0) == "brokers 1, 2 killed"
    assert fault_in_words(Fault(0, "isr", [[1, [1]], [-1, []]]), 1) == "partition 1: no leader; in-sync replicas: none"
    assert fault_in_words(Fault(0, "isr", [3, [3]]), 1) == "in-sync replicas: [3, [3]]"
    assert fault_in_words(Fault(0, "set-on-fire", {"broker": 1}), 0) == "set-on-fire {'broker': 1}"
