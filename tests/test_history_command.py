"""`hwmark history` as scripts and people see it: exit status, one JSON object, text on standard error."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from hwmark.checkers.cli import main
from hwmark.checkers.histories import check, stream
from hwmark.checkers.histories.kinds import KNOWN
from hwmark.checkers.histories.stream import report_pieces
from hwmark.checkers.histories.text import compact
from hwmark.traces.history import read_history

ROOT = Path(__file__).parents[1]
RECORDED = ROOT / "traces" / "recorded"
VALID, LOSSY = str(RECORDED / "valid-k4-shorttimeout.jsonl"), str(RECORDED / "lossy-k4-laststand-noelr-acksall.jsonl")
FIELDS = {"file", "valid", "error_types", "bad_error_types", "anomalies", "ops", "seconds", "checked", "not_checked"}


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any], str]:
    """The exit status, the JSON object and the text of a run with --json."""
    status = main(["history", *arguments, "--json"])
    out, err = capsys.readouterr()
    assert out.endswith("\n") and out.count("\n") == 1
    return status, json.loads(out), err


def test_json_of_a_valid_recording(capsys: pytest.CaptureFixture[str]) -> None:
    status, report, err = answer(capsys, VALID)
    assert status == 0 and err == "" and report.keys() >= FIELDS
    assert report["valid"] is True and report["file"] == VALID and report["seconds"] >= 0
    assert report["error_types"] == report["bad_error_types"] == [] and report["anomalies"] == {}
    assert report["ops"] == {"invoke": 1461, "ok": 1391, "fail": 58, "info": 12}
    assert set(report["checked"]).isdisjoint(report["not_checked"])
    assert set(report["checked"]) | set(report["not_checked"]) == set(KNOWN)


def test_json_lists_every_lost_value(capsys: pytest.CaptureFixture[str]) -> None:
    status, report, _ = answer(capsys, LOSSY)
    assert status == 1 and report["valid"] is False
    assert report["error_types"] == report["bad_error_types"] == ["inconsistent-offsets", "missing-from-final-read"]
    missing = report["anomalies"]["missing-from-final-read"]
    assert len({(a["key"], a["value"]) for a in missing}) == 88
    fields = {"key", "value", "offset", "writer", "process", "time", "closing", "sentence", "operations"}
    assert missing[0].keys() == fields


def test_several_files_give_the_worst_status(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, report, _ = answer(capsys, VALID, LOSSY)
    assert status == 1 and [f["valid"] for f in report["files"]] == [True, False] and "seconds" in report
    absent = str(tmp_path / "absent.jsonl")
    status, report, err = answer(capsys, LOSSY, absent, VALID)
    assert status == 2 and [f["valid"] for f in report["files"]] == [False, None, True]
    assert err.startswith(f"hwmark: {absent}: ") and err.count("\n") == 1 and report["files"][1]["error"] in err


def test_json_is_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    """What is written piece by piece is what pictures get whole."""
    judged = check(read_history(LOSSY)).to_json()
    report = answer(capsys, LOSSY)[1]
    assert {name: report[name] for name in judged} == json.loads(orjson.dumps(judged))
    assert report.keys() - judged.keys() == {"seconds", "dropped"} and report["dropped"] == []


def test_more_anomalies_than_one_piece_of_json_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    report = check(read_history(LOSSY))
    for piece in (1, 7, 87, 88, 89):
        monkeypatch.setattr(stream, "PIECE", piece)
        assert json.loads(b"".join(report_pieces(report, {}))) == json.loads(orjson.dumps(report.to_json()))


def test_standard_input_can_be_read_only_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", "-", VALID, "-"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err == "hwmark: -: standard input is given twice; expected it once\n"


def test_lenient_leaves_out_what_is_no_record_and_says_so(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.jsonl"
    lines = Path(VALID).read_text().splitlines()
    damaged.write_text("\n".join([*lines[:100], '{"process": 1, "ty', *lines[100:], "42"]) + "\n")
    assert main(["history", str(damaged), "--json"]) == 2
    assert capsys.readouterr().err.startswith(f"hwmark: {damaged}:101: ")
    status, report, _ = answer(capsys, str(damaged), "--lenient")
    assert status == 0 and [one["line"] for one in report["dropped"]] == [101, len(lines) + 2]
    assert all(one["reason"] for one in report["dropped"])
    assert main(["history", str(damaged), "--lenient"]) == 0
    words = " ".join(capsys.readouterr().err.split())
    assert "left out 2 lines, first line 101: " in words


def test_compat_looks_for_what_the_reference_looks_for(capsys: pytest.CaptureFixture[str]) -> None:
    status, report, _ = answer(capsys, LOSSY, "--compat")
    assert status == 1 and report["error_types"] == ["inconsistent-offsets"]
    assert "missing-from-final-read" in report["not_checked"]


def test_standard_input_is_a_file(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(Path(LOSSY).read_bytes())))
    status, report, _ = answer(capsys, "-", VALID)
    assert status == 1 and [file["valid"] for file in report["files"]] == [False, True]
    assert report["files"][0]["anomalies"] == answer(capsys, LOSSY)[1]["anomalies"]


def test_allowed_anomalies_are_reported_but_not_held_against_it(capsys: pytest.CaptureFixture[str]) -> None:
    status, report, _ = answer(capsys, LOSSY, "--allow", "inconsistent-offsets", "missing-from-final-read")
    assert status == 0 and report["valid"] is True
    assert len(report["error_types"]) == 2 and report["bad_error_types"] == []
    status, report, _ = answer(capsys, LOSSY, "--allow", "inconsistent-offsets", "--allow", "unseen")
    assert status == 1 and report["bad_error_types"] == ["missing-from-final-read"]


def test_unknown_anomaly_to_allow_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", VALID, "--allow", "lost-writes"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and "'lost-writes'" in err and "lost-write," in err


def test_options_excuse_what_they_explain(capsys: pytest.CaptureFixture[str]) -> None:
    power = str(RECORDED / "lossy-k4-powerfail-acksall.jsonl")
    plain = answer(capsys, power)[1]
    excused = {"poll-skip"}
    assert excused <= set(plain["bad_error_types"])
    subscribed = answer(capsys, power, "--via", "subscribe")[1]
    assert set(plain["bad_error_types"]) - set(subscribed["bad_error_types"]) == excused
    assert subscribed["error_types"] == plain["error_types"]
    assert answer(capsys, power, "--via", "assign")[1] | {"seconds": 0} == plain | {"seconds": 0}


def test_write_dependencies_make_cycles_and_excuse_them(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Two transactions, each of which wrote behind the other."""
    file = tmp_path / "cycle.jsonl"
    invoked = [[["send", 0, 1], ["send", 1, 2]], [["send", 0, 3], ["send", 1, 4]]]
    completed = [[["send", 0, [0, 1]], ["send", 1, [1, 2]]], [["send", 0, [1, 3]], ["send", 1, [0, 4]]]]
    read = [["poll", {"0": [[0, 1], [1, 3]], "1": [[0, 4], [1, 2]]}]]
    steps = [(0, "invoke", invoked[0]), (1, "invoke", invoked[1]), (0, "ok", completed[0]), (1, "ok", completed[1])]
    steps += [(2, "invoke", [["poll"]]), (2, "ok", read)]
    records = [{"process": p, "type": t, "f": "txn", "value": v, "time": i} for i, (p, t, v) in enumerate(steps)]
    file.write_bytes(b"".join(orjson.dumps(record) + b"\n" for record in records))
    status, report, _ = answer(capsys, str(file))
    assert status == 0 and report["error_types"] == [] and "--ww-deps" in report["not_checked"]["G0"]
    status, report, _ = answer(capsys, str(file), "--ww-deps")
    assert status == 0 and "G0" in report["error_types"] and report["bad_error_types"] == []
    assert "G0" in report["checked"]


def test_text_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", LOSSY]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    words = " ".join(err.split())
    assert "88 of 348 acknowledged values are missing at the end" in words
    assert "partition 0: 29 of 125 acknowledged values are missing" in words
    assert "7.77 s kill [1]" in words
    assert "looked for missing-from-final-read" in words and "not looked for G0-process" in words


def test_text_of_a_valid_recording_claims_only_what_was_looked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", VALID]) == 0
    words = " ".join(capsys.readouterr().err.split())
    assert "valid: no anomaly among those looked for" in words
    assert "1,391 ok, 58 failed (58 aborted on purpose), 12 of unknown outcome" in words
    assert "4 values in the closing read whose send was never acknowledged" in words


def test_runs_of_integers_are_drawn_together() -> None:
    assert compact([17, 18, 19, 20, 21, 40]) == "17-21, 40"
    assert compact([3, 1, 2, "b", "a"]) == "1-3, a, b"
    assert compact([]) == ""
    assert compact(range(0, 1000, 2)).endswith(", 78 and 460 more (--json lists all)")


def test_text_stays_short_however_much_is_broken(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Forty partitions, each with scattered losses, duplicates, conflicts, skips and steps back."""
    records: list[dict[str, Any]] = []

    def write(process: int, function: str, invoked: Any, completed: Any) -> None:
        for kind, value in (("invoke", invoked), ("ok", completed)):
            records.append({"process": process, "type": kind, "f": function, "value": value, "time": len(records)})

    for key in range(40):
        sent = [[2 * value, value] for value in range(400)]
        for offset, value in sent:
            write(key, "send", [["send", key, value]], [["send", key, [offset, value]]])
        read = [message for message in sent if message[1] % 3] + [[801 + v, v] for v in range(1, 60, 3)]
        read += [[4, 350 + v] for v in range(1, 9, 3)]
        write(key, "poll", [["poll"]], [["poll", {str(key): read}]])
        write(key, "poll", [["poll"]], [["poll", {str(key): read[::-2]}]])
    file = tmp_path / "broken.jsonl"
    file.write_bytes(b"".join(orjson.dumps(record) + b"\n" for record in records))
    assert main(["history", str(file)]) == 1
    text = capsys.readouterr().err
    report = check(read_history(file))
    assert len(report.anomalies) >= 7 and sum(map(len, report.anomalies.values())) > 10_000
    assert text.count("\n") < 150 and len(text) < 20_000
    widest = max(report.anomalies["int-poll-skip"], key=lambda a: a["delta"])
    words = " ".join(text.split())
    assert f"operation {widest['op']} read value {widest['values'][1]} of key 0 right after" in words
    assert f"and {widest['delta'] - 9} more values operation" in words
    assert all(text.count(f"\n  {name}, ") == 1 for name in report.anomalies)
    assert "and 36 more partitions (--json lists all)" in words


def test_suite_judges_the_users_own_recordings() -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        str(ROOT / "checkers" / "test_histories.py"),
    ]
    run = subprocess.run(
        [*command, "-k", "given_history", "--history", VALID, "--history", LOSSY],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1, run.stdout
    assert "1 failed, 1 passed" in run.stdout and "29 of 125 acknowledged values are missing" in run.stdout


def test_an_aborted_value_at_offset_zero_has_that_offset(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Zero is an offset as any other, and none is told where none is known."""
    file = tmp_path / "aborted.jsonl"
    for offset in (0, None):
        read = [["poll", {"0": [[offset, 1]]}]]
        steps = [("invoke", "send", [["send", 0, 1]]), ("fail", "send", [["send", 0, 1]])]
        steps += [("invoke", "poll", [["poll"]]), ("ok", "poll", read)]
        records = [{"process": 0, "type": t, "f": f, "value": v, "time": i} for i, (t, f, v) in enumerate(steps)]
        file.write_bytes(b"".join(orjson.dumps(record) + b"\n" for record in records))
        (found,) = answer(capsys, str(file))[1]["anomalies"]["G1a"]
        assert found["offset"] == offset
