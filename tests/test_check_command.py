"""`hwmark check`: one JSON object, four exit statuses, one line for what is unusable, and traces that replay."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hwmark.checkers.cli import main

KEYS = {
    "model", "variant", "bounds", "symmetry", "invariants", "verdict", "violated", "distinct", "generated", "depth",
    "trace", "states_per_second", "seconds",
}  # fmt: skip
BROKEN = [
    "replication",
    "--variant",
    "truncate-to-hw",
    "--bound",
    "replicas=2",
    "--bound",
    "log_size=1",
    "--bound",
    "records=1",
]


def check(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any], str]:
    status = main(["check", *arguments, "--json"])
    captured = capsys.readouterr()
    assert captured.out.endswith("\n") and captured.out.count("\n") == 1
    report = json.loads(captured.out)
    assert report.keys() >= KEYS
    return status, report, captured.err


def test_what_holds(capsys: pytest.CaptureFixture[str]) -> None:
    status, report, _ = check(capsys, "two-phase-commit")
    assert status == 0
    assert report | {"model": "two-phase-commit", "variant": "two-phase-commit", "bounds": {"resource_managers": 3},
        "symmetry": False, "invariants": ["nobody-commits-what-another-aborts"], "verdict": "holds", "violated": None,
        "distinct": 288, "trace": None} == report  # fmt: skip
    assert report["depth"] == 11
    assert (report["never_fired"], report["never_true"], report["warnings"]) == ([], [], [])


def test_symmetry_is_off_unless_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    status, report, _ = check(capsys, "two-phase-commit", "--symmetry")
    assert (status, report["symmetry"], report["verdict"]) == (0, True, "holds")
    assert report["distinct"] < 288
    assert check(capsys, "two-phase-commit", "--no-symmetry")[1]["distinct"] == 288


@pytest.mark.parametrize("symmetry", [[], ["--symmetry"]])
def test_what_is_violated(capsys: pytest.CaptureFixture[str], symmetry: list[str]) -> None:
    reports = []
    for workers in ("1", "2"):
        status, report, _ = check(capsys, *BROKEN, "--invariant", "weak-isr", "--workers", workers, *symmetry)
        assert (status, report["verdict"], report["violated"]) == (1, "violated", "weak-isr")
        assert report["invariants"] == ["weak-isr"]
        reports.append(report)
    assert reports[0]["trace"] == reports[1]["trace"]
    assert len(reports[0]["trace"]) == reports[0]["depth"]
    assert [line["step"] for line in reports[0]["trace"]] == list(range(reports[0]["depth"]))


def test_exploring_only(capsys: pytest.CaptureFixture[str]) -> None:
    status, report, _ = check(capsys, *BROKEN, "--invariant", "none")
    assert (status, report["invariants"], report["verdict"], report["trace"]) == (0, [], "holds", None)


def test_a_limit_is_no_pass(capsys: pytest.CaptureFixture[str]) -> None:
    status, report, _ = check(capsys, "two-phase-commit", "--max-states", "50")
    assert (status, report["verdict"]) == (3, "unknown")
    assert "50" in report["why"]
    assert 50 <= report["distinct"] < 288


def test_the_trace_file_replays_and_draws(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file, picture = tmp_path / "lost.ndjson", tmp_path / "lost.svg"
    status, report, _ = check(capsys, *BROKEN, "--trace", str(file))
    assert status == 1
    assert main(["replay", str(file), "--json"]) == 0
    replayed = json.loads(capsys.readouterr().out)
    assert replayed["verified"] is True
    assert replayed["steps"] == report["trace"][1:]
    assert main(["draw", str(file), "-o", str(picture)]) == 0
    assert picture.read_text().lstrip().startswith("<")


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("arguments", {"leader": 7}, "is impossible"),
        ("arguments", {"leader": "x"}, "is impossible"),
        ("arguments", {}, "takes"),
        ("action", "unheard_of", "has no action unheard_of"),
    ],
)
def test_a_trace_that_was_tampered_with_does_not_replay(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, field: str, value: object, why: str
) -> None:
    file = tmp_path / "lost.ndjson"
    check(capsys, *BROKEN, "--trace", str(file))
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    at = next(number for number, line in enumerate(lines) if set(line.get("arguments", ())) == {"leader"})
    lines[at][field] = value
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["replay", str(file), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["verified"] is False
    assert why in report["mismatch"]


def test_a_trace_cut_short_shows_no_violation(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "lost.ndjson"
    check(capsys, *BROKEN, "--trace", str(file))
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    assert main(["replay", str(file), "--json"]) == 1
    assert "holds in the last state" in json.loads(capsys.readouterr().out)["mismatch"]


@pytest.mark.parametrize(
    ("arguments", "known"),
    [
        (["unheard-of"], ["unheard-of", "replication", "two-phase-commit"]),
        (["replication", "--variant", "kip-1"], ["kip-1", "truncate-to-hw", "kip-320-first-try"]),
        (["replication", "--bound", "epochs=1"], ["epochs", "replicas", "log_size", "max_epoch"]),
        (["replication", "--bound", "replicas=0"], ["replicas", "at least"]),
        (["replication", "--bound", "replicas"], ["NAME=INT"]),
        (["replication", "--bound", "replicas=two"], ["NAME=INT"]),
        (["replication", "--bound", "replicas=99"], ["at most 62 elements"]),
        (["replication", "--invariant", "always"], ["always", "weak-isr", "strong-isr"]),
        (["two-phase-commit", "--trace", "/nowhere/there.ndjson"], ["/nowhere"]),
        (["async-isr", "--symmetry"], ["no domain of this model is declared symmetric"]),
    ],
)
def test_bad_input_is_one_line_with_what_is_known(
    capsys: pytest.CaptureFixture[str], arguments: list[str], known: list[str]
) -> None:
    assert main(["check", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert all(word in captured.err for word in known), captured.err


@pytest.mark.parametrize(
    "arguments", [["--workers", "0"], ["--max-states", "x"], ["--memory", "lots"], ["--unheard"], ["--memory", "-1G"]]
)
def test_a_bad_option_is_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["check", "two-phase-commit", *arguments])
    assert left.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_text_says_what_json_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "two-phase-commit"]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "holds in every reachable state" in captured.err and "288 distinct states" in captured.err
    assert main(["check", *BROKEN]) == 1
    captured = capsys.readouterr()
    assert "VIOLATED" in captured.err and "leader" in captured.out


def test_an_interrupt_gives_what_was_found_until_then() -> None:
    """The large instance cannot finish before the signal, which is sent when the search, all threads, is under way."""
    options = ["--bound", "resource_managers=16", "--workers", "2", "--memory", "1G", "--json"]
    command = [sys.executable, "-m", "hwmark.checkers.cli", "check", "two-phase-commit", *options]
    alone = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=alone)
    guard = threading.Timer(120, process.kill)
    guard.start()
    looks = 0  # the threads of a search stay; those that only prepare it are soon gone
    while process.poll() is None and looks < 10:
        looks = looks + 1 if threads_of(process.pid) >= 3 else 0
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    guard.cancel()
    assert process.returncode == 3, err
    report = json.loads(out)
    assert (report["verdict"], report["why"], report["trace"]) == ("unknown", "stopped by the user", None)
    assert report["distinct"] > 0


def threads_of(process: int) -> int:
    """How many threads the process has, as far as the system says; a search has begun when its workers are there."""
    try:
        return len(os.listdir(f"/proc/{process}/task"))
    except OSError:
        return 0
