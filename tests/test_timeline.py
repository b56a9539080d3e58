"""Does the timeline of an anomaly show what happened, legibly, and count what it leaves out?"""

from __future__ import annotations

import html
import itertools
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from hwmark.checkers.cli import main
from hwmark.checkers.histories import check
from hwmark.traces import timeline_layout
from hwmark.traces.errors import BadInputError
from hwmark.traces.history import History, Outcome, read_history
from hwmark.traces.history_records import parse_lines
from hwmark.traces.render import render
from hwmark.traces.timeline import Relation, neighbourhood, row_at, witness_of
from hwmark.traces.timeline_layout import Layout, lay_out
from hwmark.traces.timeline_log import log_window
from hwmark.traces.timeline_picture import WITNESS_THICKNESS, draw_timeline, is_for_timeline
from hwmark.traces.timeline_words import content

TRACES = Path(__file__).parents[1] / "traces"
RECORDED = sorted((TRACES / "recorded").glob("*.jsonl"))
LOSSY = [path for path in RECORDED if path.stem.startswith("lossy")]
POWERFAIL = TRACES / "recorded" / "lossy-k4-powerfail-acksall.jsonl"
PIXELS_MAX = 1500

Box = tuple[float, float, float, float]
Report = dict[str, Any]


def judged(path: Path) -> tuple[History, Report]:
    history = read_history(path)
    return history, check(history).to_json()


def history_of(*records: dict[str, Any]) -> tuple[History, Report]:
    timed = [{"time": time} | record for time, record in enumerate(records)]
    history = parse_lines([json.dumps(record).encode() + b"\n" for record in timed], "made-up.jsonl")
    return history, check(history).to_json()


def operation(process: int, f: str, asked: Any, answer: Any, kind: str = "ok", **more: Any) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = [{"process": process, "type": "invoke", "f": f, "value": asked} | more]
    return [*records, {"process": process, "type": kind, "f": f, "value": answer}]


def sent(process: int, key: Any, value: Any, offset: int | None, kind: str = "ok") -> list[dict[str, Any]]:
    answer = ["send", key, [offset, value]] if offset is not None else ["send", key, value]
    return operation(process, "send", [["send", key, value]], [answer], kind)


def polled(process: int, key: Any, *messages: tuple[int, Any], **more: Any) -> list[dict[str, Any]]:
    return operation(process, "poll", [["poll"]], [["poll", {str(key): [list(m) for m in messages]}]], **more)


def layout_of(history: History, report: Report, around: str | None = None) -> Layout:
    return lay_out(history, neighbourhood(history, witness_of(history, report, around)))


def nodes(dot: str) -> list[tuple[dict[str, str], Box]]:
    """The nodes of a picture in the order of drawing: attributes, and left, top, right and bottom in points."""
    found = []
    for line in dot.splitlines():
        attribute = {k: v.strip('"') for k, v in re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|[^\s\]]+)', line)}
        if "pos" in attribute and attribute.get("style") != "invis":
            x, y = map(float, attribute["pos"].split(","))
            width, height = 72 * float(attribute["width"]), 72 * float(attribute["height"])
            found.append((attribute, (x - width / 2, -y - height / 2, x + width / 2, -y + height / 2)))
    return found


def texts(dot: str) -> list[str]:
    return [attribute["label"] for attribute, _ in nodes(dot) if attribute.get("shape") == "plaintext"]


def overlap(a: Box, b: Box) -> bool:
    return a[0] + 0.5 < b[2] - 0.5 and b[0] + 0.5 < a[2] - 0.5 and a[1] + 0.5 < b[3] - 0.5 and b[1] + 0.5 < a[3] - 0.5


def assert_legible(dot: str) -> None:
    """No text lies over another or under a box, none is tiny, and the whole fits a screen."""
    drawn = nodes(dot)
    is_text = [attribute.get("shape") == "plaintext" for attribute, _ in drawn]
    for (first, (one, a)), (second, (other, b)) in itertools.combinations(enumerate(drawn), 2):
        if is_text[first] and (is_text[second] or other.get("fillcolor", "none") != "none"):
            assert not overlap(a, b), f"{one['label']!r} lies under {other.get('label')!r} {second}"
    for (attribute, _), is_one in zip(drawn, is_text, strict=True):
        assert not is_one or float(attribute["fontsize"]) >= 8.5
    assert max(box[2] for _, box in drawn) * 96 / 72 <= PIXELS_MAX


# ---------------------------------------------------------------------------------------------- legible


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_every_kind_of_anomaly_is_drawn_legibly(path: Path) -> None:
    history, report = judged(path)
    assert_legible(draw_timeline(history, report))
    for name, found in report["anomalies"].items():
        for number in {0, len(found) // 2, len(found) - 1}:
            dot = draw_timeline(history, report, f"{name}/{number}")
            assert_legible(dot)
            shown = " ".join(texts(dot)[:4])
            assert f"{name} ({number + 1:,} of {len(found):,})" in shown


LONG = {"x": "x" * 300, "W": "W " * 80, "日": "日本語" * 30, "<b>": '<b>&amp;"\\n</b>'}


@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
def test_names_and_values_of_any_length_are_drawn_legibly(text: str) -> None:
    history, report = history_of(
        {"process": "nemesis", "type": "info", "f": text, "value": text},
        *sent(123456789012345, text, text, 2**53 + 1, "ok"),
        *sent(0, text, f"{text} failed", None, "fail"),
        *polled(1, text, (0, f"{text} failed"), (2**53 + 1, text)),
    )
    dot = draw_timeline(history, report)
    assert_legible(dot)
    assert "G1a" in " ".join(texts(dot)[:4])


def test_forty_processes_are_drawn_legibly() -> None:
    opened = [{"process": p, "type": "invoke", "f": "send", "value": [["send", 0, p]]} for p in range(40)]
    closed = [
        {"process": p, "type": "fail" if p == 7 else "ok", "f": "send", "value": [["send", 0, [39 - p, p]]]}
        for p in reversed(range(40))
    ]
    history, report = history_of(*opened, *closed, *polled(99, 0, *((39 - p, p) for p in reversed(range(40)))))
    dot = draw_timeline(history, report)
    assert_legible(dot)
    assert {"process 7", "process 99"} <= set(texts(dot))


def test_a_history_of_next_to_nothing_is_drawn() -> None:
    history, report = history_of(*operation(0, "assign", [0], [0]))
    dot = draw_timeline(history, report)
    assert_legible(dot)
    assert "#1 assign, ok" in texts(dot)


# ---------------------------------------------------------------------------------------------- true


@pytest.mark.parametrize("path", LOSSY, ids=lambda path: path.stem)
def test_the_witness_is_drawn_and_stands_out(path: Path) -> None:
    history, report = judged(path)
    for name, found in report["anomalies"].items():
        dot = draw_timeline(history, report, name)
        thick = [box for a, box in nodes(dot) if a.get("penwidth") == f"{WITNESS_THICKNESS:g}"][:-1]  # but the legend
        shown = [witness for witness in found[0]["operations"] if f"#{witness} " in " ".join(texts(dot))]
        assert len(thick) == len(shown) >= min(1, len(found[0]["operations"])), name
        for box in thick:
            within = [a["label"] for a, b in nodes(dot) if a.get("shape") == "plaintext" and overlap(a=b, b=box)]
            assert re.match(r"[A-Z]  ?#(\d+) ", within[0]) and int(within[0].split("#")[1].split()[0]) in shown


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_what_is_drawn_and_what_is_cut_add_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeline_layout, "CUT_FROM", 1)
    history, report = judged(path)
    for name in [*report["anomalies"], None]:
        layout = layout_of(history, report, name)
        never = sum(1 for bar in layout.bars if history.operations.completed_at[bar.row] < 0)
        never_completed = int((history.operations.completed_at < 0).sum())
        cut = sum(cut.operations for cut in layout.cuts)
        assert len(layout.bars) + cut in range(
            len(history.operations) - never_completed + never, len(history.operations) + 1
        )


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_bars_stand_in_the_order_of_the_records(path: Path) -> None:
    history, report = judged(path)
    operations = history.operations
    for name in [*report["anomalies"], None]:
        bars = layout_of(history, report, name).bars
        for a, b in itertools.permutations(bars, 2):
            assert (a.left < b.left) == (operations.invoked[a.row] < operations.invoked[b.row])
            if operations.completed[a.row] < operations.invoked[b.row]:
                assert a.right < b.left
            assert operations.completed[a.row] > operations.invoked[b.row] or a.process != b.process or a.right < b.left


def test_an_unknown_outcome_has_an_open_end_until_its_process_goes_on() -> None:
    records = [
        *sent(0, 0, 1, 0, "info"),
        *sent(1, 0, 2, 1),
        *polled(2, 0, (0, 1)),
        *sent(0, 0, 3, 2),
        *sent(3, 0, 4, None, "fail"),
    ]
    history, report = history_of(*records, {"process": 5, "type": "invoke", "f": "send", "value": [["send", 0, 9]]})
    layout = layout_of(history, report)
    bars = {bar.heading[0].split("#")[1]: bar for bar in layout.bars}
    unknown, later = bars["1 send, unknown"], bars["7 send, ok"]
    assert unknown.outcome is Outcome.INFO and unknown.end is not None and unknown.right < unknown.end < later.left
    assert bars["10 send, unknown"].end == layout.width
    assert all(bar.end is None for bar in layout.bars if bar.outcome is not Outcome.INFO)
    dot = draw_timeline(history, report)
    styles = {a["style"].split(",")[-1] for a, _ in nodes(dot) if a.get("fillcolor", "").startswith("#")}
    assert {"solid", "dashed", "dotted"} <= styles  # told apart without colours


def test_faults_stand_between_the_records_that_they_struck_between() -> None:
    history, report = judged(POWERFAIL)
    layout = layout_of(history, report)
    (band,) = layout.bands
    killed = next(fault for fault in history.faults if fault.what == "kill")
    assert killed in band.faults
    before = max(x for x, time in layout.times if time < killed.time)
    assert before < band.middle < min(x for x, time in layout.times if time > killed.time)
    assert "(1) 5.009 s: brokers 1, 2, 3 killed" in texts(draw_timeline(history, report))


def test_arrows_lead_from_who_sent_to_who_read() -> None:
    history, report = judged(POWERFAIL)
    near = neighbourhood(history, witness_of(history, report, "G1a/0"))
    anomaly = report["anomalies"]["G1a"][0]
    writer, reader = row_at(history, anomaly["writer"]), row_at(history, anomaly["reader"])
    assert (near.relations[0].source, near.relations[0].target) == (writer, reader)
    assert {relation.source for relation in near.relations} == {writer}
    lines = POWERFAIL.read_text().splitlines()
    for relation in near.relations:
        read = json.loads(lines[int(history.operations.line[relation.target]) - 1])
        assert read["type"] == "ok" and 90 in [value for _, value in read["value"][0][1]["0"]]
    dot = draw_timeline(history, report, "G1a/0")
    told = next(text for text in texts(dot) if text.startswith(("A  sent", "A sent")))
    assert re.fullmatch(r"A +sent 90 to k0, which B( and C)? read", told)
    drawn = [relation for relation in near.relations if f"#{history.operations.index[relation.target]} " in dot]
    assert dot.count("arrowhead=normal") == len(drawn) + 1 > 1  # and the legend's


def test_a_skip_leads_from_the_poll_before() -> None:
    history, report = judged(TRACES / "recorded" / "lossy-k4-ack1-part.jsonl")
    (first, second) = report["anomalies"]["poll-skip"][0]["ops"]
    relation = neighbourhood(history, witness_of(history, report, "poll-skip")).relations[0]
    assert (relation.source, relation.target) == (row_at(history, first), row_at(history, second))
    assert relation.kind == "process"


def test_the_steps_of_a_cycle_are_told() -> None:
    history, report = history_of(
        {"process": 0, "type": "invoke", "f": "txn", "value": [["send", "x", 1], ["poll"]]},
        {"process": 1, "type": "invoke", "f": "txn", "value": [["send", "y", 2], ["poll"]]},
        {"process": 0, "type": "ok", "f": "txn", "value": [["send", "x", [0, 1]], ["poll", {"y": [[0, 2]]}]]},
        {"process": 1, "type": "ok", "f": "txn", "value": [["send", "y", [0, 2]], ["poll", {"x": [[0, 1]]}]]},
    )
    steps = [{"type": "wr", "key": "x", "value": 1}, {"type": "realtime"}]
    cycle = {"cycle": [2, 3, 2], "steps": steps, "operations": [2, 3], "sentence": "a cycle"}
    report |= {"anomalies": {"G1c-realtime": [cycle]}, "bad_error_types": ["G1c-realtime"], "valid": False}
    assert witness_of(history, report).relations == (
        Relation(0, 1, "wr", "sent 1 to x, which {target} read"),
        Relation(1, 0, "realtime", "had ended before {target} began"),
    )
    drawn = [text.replace("  ", " ") for text in texts(draw_timeline(history, report))]
    assert {"A sent 1 to x, which B read", "B had ended before A began", "ended before"} <= set(drawn)


def test_operations_in_few_words() -> None:
    history, _ = history_of(
        *operation(
            0, "txn", [["send", 0, 7], ["poll"]], [["send", 0, [42, 7]], ["poll", {"1": [[0, 12], [1, 13], [2, 14]]}]]
        ),
        *polled(1, 0, *((n, 2 * n) for n in range(50))),
        *polled(2, 0),
        *sent(3, 0, 99, None, "fail"),
    )
    assert content(history, 0, ()) == ["send k0: 7 @ 42", "poll k1: 12-14 @ 0-2"]
    assert content(history, 1, {(0, 44)}) == ["poll k0: 50 values, 0 to 98 @ 0-49 (with 44)"]
    assert content(history, 2, ()) == ["nothing"]
    assert content(history, 3, ()) == ["send k0: 99"]


# ---------------------------------------------------------------------------------------------- the log beside it


@pytest.mark.parametrize("path", LOSSY, ids=lambda path: path.stem)
def test_the_log_marks_what_the_report_found(path: Path) -> None:
    history, report = judged(path)
    lost = {(a["key"], a["value"]) for a in report["anomalies"]["missing-from-final-read"]}
    contested = {(a["key"], a["offset"]): a["values"] for a in report["anomalies"].get("inconsistent-offsets", [])}
    failed = {(a["key"], a["value"]) for a in report["anomalies"].get("G1a", [])}
    seen = 0
    for name in ("missing-from-final-read", "inconsistent-offsets", "G1a"):
        for number in range(min(5, len(report["anomalies"].get(name, ())))):
            messages = witness_of(history, report, f"{name}/{number}").messages
            for entry in (window := log_window(history, messages[0][0], messages)).entries:
                key = history.keys[window.key]
                assert entry.seen == len(contested.get((key, entry.offset), [0]))
                for value in entry.values:
                    seen += 1
                    assert ("contested" in value.marks) == ((key, entry.offset) in contested)
                    assert ("not in the closing read" in value.marks) == ((key, value.value) in lost)
                    assert ("its send failed" in value.marks) == ((key, value.value) in failed)
    assert seen > 20


def test_a_valid_recording_has_nothing_marked() -> None:
    for path in RECORDED:
        if path.stem.startswith("valid"):
            history, _ = judged(path)
            for key in range(len(history.keys)):
                number = int(history.micro.value[history.micro.key == key][100])
                entries = log_window(history, key, ((key, number),)).entries
                assert entries and not any(value.marks for entry in entries for value in entry.values)


# ---------------------------------------------------------------------------------------------- the command


def drawn_texts(svg: bytes) -> list[str]:
    found = re.findall(r"<text[^>]*>([^<]*)</text>", svg.decode())
    return [html.unescape(text).replace("\xa0", " ") for text in found]


def test_draw_chooses_the_picture(tmp_path: Path) -> None:
    made = [*sent(0, 0, 1, None, "fail"), *polled(1, 0, (0, 1))]
    aborted = tmp_path / "aborted.jsonl"
    aborted.write_text("".join(json.dumps({"time": time} | record) + "\n" for time, record in enumerate(made)))
    picture = tmp_path / "p.svg"

    def drawn(file: Path, *options: str) -> str:
        assert main(["draw", str(file), "-o", str(picture), *options]) == 0
        return " ".join(drawn_texts(picture.read_bytes()))

    assert "found at this offset" in drawn(POWERFAIL)
    assert "process 13" in drawn(POWERFAIL, "--as", "timeline")
    assert "G1a (3 of 3)" in drawn(POWERFAIL, "--around", "G1a/2")
    assert "Operation 234 and what happened around it." in drawn(POWERFAIL, "--around", "234")
    assert "G1a (1 of 1)" in drawn(aborted)
    ack1 = POWERFAIL.with_stem("lossy-k4-ack1-part")
    assert "poll-skip" in judged(ack1)[1]["bad_error_types"]
    assert "G0" not in drawn(ack1) and "G0" in drawn(ack1, "--ww-deps")
    assert "found at this offset" in drawn(aborted, "--as", "story")
    assert not is_for_timeline(judged(POWERFAIL)[1]) and is_for_timeline(judged(aborted)[1])


def test_timelines_need_no_dot_binary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    for path in RECORDED:
        history, report = judged(path)
        for name in [*report["anomalies"], None]:
            svg = render(draw_timeline(history, report, name), "svg")
            assert f"{path.stem}: {'valid' if report['valid'] else 'INVALID'}" in drawn_texts(svg)


@pytest.mark.parametrize("around", ["G1a/3", "G1a/x", "G2", "G1a/", "1000000", "-1", ""])
def test_what_is_not_there_cannot_be_looked_at(around: str) -> None:
    history, report = judged(POWERFAIL)
    if around == "G1a/":
        assert witness_of(history, report, around).name == "G1a/0"
        return
    with pytest.raises(BadInputError, match="--around: no "):
        witness_of(history, report, around)


def test_only_a_history_has_a_timeline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = str(TRACES / "known" / "replication-kip-101.ndjson")
    for options in (["--as", "timeline"], ["--around", "1"]):
        assert main(["draw", trace, "-o", str(tmp_path / "p.svg"), *options]) == 2
        assert "is a trace; expected a history" in capsys.readouterr().err
    assert main(["draw", str(POWERFAIL), "-o", str(tmp_path / "p.svg"), "--as", "story", "--around", "1"]) == 2
    assert "expected --as timeline" in capsys.readouterr().err
    assert not (tmp_path / "p.svg").exists()
