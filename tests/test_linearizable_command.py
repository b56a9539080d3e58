"""`hwmark linearizable` as scripts and people see it: exit status, one JSON object, text on standard error."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from hwmark.checkers.cli import main

HEADER = '{"name": "run", "model": "register", "init": 0}'
WRITE = '{"process": 0, "f": "write", "input": 1, "output": "ok", "call": 0, "return": 1}'
READ = '{"process": 1, "f": "read", "input": null, "output": %s, "call": 2, "return": 3}'
FIELDS = {"file", "model", "verdict", "operations", "seconds", "order", "counterexample", "why", "expected"}
COUNTER = """
from hwmark.checkers.linearizability.models import Model

class Counter(Model):
    def initial(self, init, part):
        return init or 0

    def step(self, state, operation):
        if operation.f == "write":
            return [state + operation.input]
        return [state] if operation.output == state else []
"""


@pytest.fixture
def good(tmp_path: Path) -> str:
    return write(tmp_path / "good.jsonl", HEADER, WRITE, READ % 1)


@pytest.fixture
def bad(tmp_path: Path) -> str:
    return write(tmp_path / "bad.jsonl", HEADER, WRITE, READ % 0)


def write(file: Path, *lines: str) -> str:
    file.write_text("".join(line + "\n" for line in lines))
    return str(file)


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any], str]:
    """The exit status, the JSON object and the text of a run with --json."""
    status = main(["linearizable", *arguments, "--json"])
    out, err = capsys.readouterr()
    assert out.endswith("\n") and out.count("\n") == 1
    return status, json.loads(out), err


def test_json_of_a_linearizable_history(capsys: pytest.CaptureFixture[str], good: str) -> None:
    status, report, err = answer(capsys, good)
    assert status == 0 and err == "" and report.keys() >= FIELDS and report["seconds"] >= 0
    assert (report["file"], report["model"], report["verdict"], report["operations"]) == (
        good,
        "register",
        "linearizable",
        2,
    )
    assert report["order"] == [0, 1] and report["counterexample"] is None


def test_json_of_a_history_that_is_not(capsys: pytest.CaptureFixture[str], bad: str) -> None:
    status, report, err = answer(capsys, bad)
    assert status == 1 and err == "" and report["verdict"] == "not-linearizable" and report["order"] is None
    shown = report["counterexample"]
    assert [operation["line"] for operation in shown["operations"]] == [2, 3]
    assert shown["operations"][1] | {"f": "read", "output": 0, "call": 2, "return": 3} == shown["operations"][1]
    assert shown["window"] == [0, 3] and shown["longest_partials"] == [[0]]
    assert shown["sentence"].startswith("These 2 operations have no legal order: process 0: write 1")


def test_text_for_people(capsys: pytest.CaptureFixture[str], good: str, bad: str) -> None:
    assert main(["linearizable", good, bad]) == 1
    out, err = capsys.readouterr()
    assert out == "" and f"{good}: linearizable (register, 2 operations)\n" in err
    assert f"{bad}: not-linearizable" in err and '  line 2: process 0: write 1 -> "ok" (0 to 1)\n' in err


def test_several_files_give_the_worst_status(
    capsys: pytest.CaptureFixture[str], good: str, bad: str, tmp_path: Path
) -> None:
    status, report, _ = answer(capsys, good, bad)
    assert status == 1 and [file["verdict"] for file in report["files"]] == ["linearizable", "not-linearizable"]
    status, report, err = answer(capsys, bad, str(tmp_path / "absent"), good)
    assert status == 2 and [file["verdict"] for file in report["files"]] == ["not-linearizable", None, "linearizable"]
    assert err.count("\n") == 1 and report["files"][1]["error"] in err


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ((HEADER, WRITE[:-9]), ":2: the line is cut off or not JSON"),
        ((WRITE,), ":1: no header"),
        ((HEADER, WRITE, HEADER), ":3: a second header"),
        ((HEADER, WRITE.replace('"write"', '"inc"')), ":2: unknown f 'inc'"),
    ],
)
def test_unusable_input_gets_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, lines: tuple[str, ...], reason: str
) -> None:
    assert main(["linearizable", write(tmp_path / "run.jsonl", *lines)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("hwmark: ") and reason in err


def test_another_model_than_the_header_names(capsys: pytest.CaptureFixture[str], good: str) -> None:
    status, report, _ = answer(capsys, good, "--model", "cas-register")
    assert status == 0 and report["model"] == "cas-register"
    assert main(["linearizable", good, "--model", "stack"]) == 2
    assert "--model: unknown model 'stack'; expected one of register, cas-register" in capsys.readouterr().err


def test_a_model_of_ones_own(capsys: pytest.CaptureFixture[str], good: str, bad: str, tmp_path: Path) -> None:
    model = write(tmp_path / "counter.py", COUNTER)
    assert answer(capsys, good, "--model", model)[:1] == (0,)
    status, report, _ = answer(capsys, bad, "--model", model)
    assert status == 1 and report["model"] == "Counter"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("x = (", ":1: SyntaxError"),
        ("x = 1", ": subclasses of Model: none; expected exactly one"),
        (COUNTER.replace("return [state + operation.input]", "return 1 / 0"), ":10: ZeroDivisionError"),
        (COUNTER.replace("return init or 0", "return []"), "unhashable type: 'list'; expected hashable states"),
    ],
)
def test_a_broken_model_of_ones_own_gets_one_line(
    capsys: pytest.CaptureFixture[str], good: str, tmp_path: Path, source: str, reason: str
) -> None:
    model = write(tmp_path / "counter.py", source)
    assert main(["linearizable", good, "--model", model]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"hwmark: {model}") and reason in err and err.count("\n") == 1


def test_out_of_time_is_unknown(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    writes = [
        WRITE.replace('"process": 0', f'"process": {i}').replace('"input": 1', f'"input": {i}') for i in range(40)
    ]
    file = write(tmp_path / "hard.jsonl", HEADER, *writes, READ.replace('"call": 2', '"call": 1') % 99)
    status, report, _ = answer(capsys, file, "--timeout", "0.000001")
    assert status == 3 and report["verdict"] == "unknown" and "time limit" in report["why"]
    assert main(["linearizable", file, "--timeout", "0.000001"]) == 3
    assert "unknown (register, 41 operations): the time limit" in capsys.readouterr().err


@pytest.mark.parametrize("seconds", ["0", "-1", "soon", "inf", "nan"])
def test_a_time_limit_that_is_none(capsys: pytest.CaptureFixture[str], good: str, seconds: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["linearizable", good, f"--timeout={seconds}"])
    assert stopped.value.code == 2 and "expected a number of seconds above 0" in capsys.readouterr().err


def test_standard_input_and_no_compiler_for_a_small_history(good: str) -> None:
    program = (
        "import sys; from hwmark.checkers.cli import main; status = main(['linearizable', '-', '--json']); "
        "sys.exit(status or 9 * ('numba' in sys.modules))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], input=Path(good).read_bytes(), capture_output=True, check=False
    )
    assert run.returncode == 0 and json.loads(run.stdout)["verdict"] == "linearizable" and run.stderr == b""


RECORDED = Path(__file__).parents[1] / "traces" / "recorded"


def test_a_recorded_history_is_judged_partition_by_partition(capsys: pytest.CaptureFixture[str]) -> None:
    valid, lossy = (str(RECORDED / f"{name}.jsonl") for name in ("valid-k4-shorttimeout", "lossy-k4-powerfail-acksall"))
    status, report, _ = answer(capsys, valid, lossy)
    assert status == 1 and [file["model"] for file in report["files"]] == ["partition-log"] * 2
    assert [file["verdict"] for file in report["files"]] == ["linearizable", "not-linearizable"]
    linearizable, violated = (file["partitions"] for file in report["files"])
    assert all(partition["verdict"] == "linearizable" and partition["order"] for partition in linearizable)
    assert sum(partition["operations"] for partition in linearizable) == report["files"][0]["operations"]
    shown = violated[0]["counterexample"]
    assert shown["sentence"].startswith("offset ") and all(operation["line"] > 0 for operation in shown["operations"])
    assert main(["linearizable", lossy]) == 1
    err = capsys.readouterr().err
    assert f"{lossy}: not-linearizable (3 partitions, " in err and "partition 0: not-linearizable: offset" in err


def test_a_recorded_history_is_known_in_any_layout(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """As one list, on one line or many; and with a first line longer than what is looked at."""
    lines = (RECORDED / "valid-k4-laststand-elr-acksall.jsonl").read_bytes().splitlines()
    records = [orjson.loads(line) for line in lines]
    long = orjson.dumps(records[0] | {"more": "x" * 100_000})
    layouts = [
        orjson.dumps(records),
        orjson.dumps(records, option=orjson.OPT_INDENT_2),
        b"\n".join([long, *lines[1:]]),
    ]
    file = tmp_path / "recording"
    for layout in layouts:
        for content in (layout, gzip.compress(layout)):
            file.write_bytes(content)
            status, report, _ = answer(capsys, str(file))
            assert status == 0 and report["operations"] == 487


def test_a_recorded_history_has_one_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["linearizable", str(RECORDED / "valid-k4-shorttimeout.jsonl"), "--model", "register"]) == 2
    assert "judged as partition-log; expected no other --model" in capsys.readouterr().err


def test_a_partition_log_of_operations(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    header = '{"name": "log", "model": "partition-log"}'
    append = '{"process": 0, "f": "append", "input": {"value": 7, "txn": null}, "output": {"offset": 0}, %s}'
    latest = '{"process": 1, "f": "list-offsets", "input": {"isolation": "read_uncommitted"}, "output": %d, %s}'
    lines = [header, append % '"call": 0, "return": 1', latest % (1, '"call": 2, "return": 3')]
    status, report, _ = answer(capsys, write(tmp_path / "log.jsonl", *lines))
    assert (status, report["model"], report["order"]) == (0, "partition-log", [0, 1])
    lines[2] = latest % (0, '"call": 2, "return": 3')
    status, report, _ = answer(capsys, write(tmp_path / "log.jsonl", *lines))
    assert status == 1 and len(report["counterexample"]["operations"]) == 2


def test_standard_input_twice_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["linearizable", "-", "-"]) == 2
    assert "standard input is given twice" in capsys.readouterr().err


LOSSY = str(Path(__file__).parents[1] / "traces" / "recorded" / "lossy-k4-ack1-part.jsonl")


def test_acknowledgements_of_acks_1_are_no_promises_unless_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["linearizable", LOSSY]) == 0
    assert "acks=1" in capsys.readouterr().err
    for mode in ("linearizable", "sessions", "sequential"):
        status, report, _ = answer(capsys, LOSSY, "--every-acknowledgement", "--mode", mode)
        assert status == 1 and report["verdict"] == "not-linearizable"


LOG = '{"name": "log", "model": "partition-log"}'
APPENDED = '{"process": 0, "f": "append", "input": {"value": 1}, "output": {"offset": 0}, "call": 10, "return": 11}'
EARLIER = (
    '{"process": 1, "f": "fetch", "input": {"from": 0, "isolation": "read_uncommitted"}, '
    '"output": {"next": 1, "hw": 1, "records": [[0, 1]]}, "call": 0, "return": 5}'
)


def test_modes_and_clocks_of_a_partition_log(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A read that ended before the append began: no order in real time, unless clocks are wrong by enough."""
    file = write(tmp_path / "log.jsonl", LOG, APPENDED, EARLIER)
    expected = {
        (): 1,
        ("--mode", "sequential"): 0,
        ("--mode", "sessions"): 0,
        ("--clock-uncertainty", "2"): 1,
        ("--clock-uncertainty", "3"): 0,
    }
    assert {options: answer(capsys, file, *options)[0] for options in expected} == expected


def test_modes_are_for_partition_logs(capsys: pytest.CaptureFixture[str], good: str) -> None:
    assert main(["linearizable", good, "--mode", "sessions"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(SystemExit) as refused:
        main(["linearizable", good, "--clock-uncertainty", "-1"])
    assert refused.value.code == 2
