"""An unusable history is refused in one line with its file, its line, what is wrong and what was expected."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hwmark.checkers.cli import main
from hwmark.traces.errors import BadInputError
from hwmark.traces.history import Fault
from hwmark.traces.history_records import parse_lines

RECORDED = Path(__file__).parents[1] / "traces" / "recorded"


def invoke(value: Any = None, **changed: Any) -> dict[str, Any]:
    value = [["send", 0, 1]] if value is None else value
    return {"process": 0, "type": "invoke", "f": "send", "value": value, "time": 1} | changed


def ok(value: Any = None, **changed: Any) -> dict[str, Any]:
    return invoke([["send", 0, [0, 1]]] if value is None else value, type="ok", time=2) | changed


def lines(*records: Any) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def without(record: dict[str, Any], name: str) -> dict[str, Any]:
    return {k: v for k, v in record.items() if k != name}


def split(content: bytes) -> list[bytes]:
    return content.splitlines(keepends=True)


SENT = lines(invoke(), ok())
POLL = invoke([["poll"]], f="poll", process=1, time=3)


def polled(answer: Any) -> bytes:
    return SENT + lines(POLL, POLL | {"type": "ok", "value": [["poll", answer]]})


BAD = {
    "empty file": (b"", 1, "the file is empty"),
    "no newline at all": (b'{"process": 0, "type": "invo', 1, "cut off"),
    "truncated last line": (SENT + lines(invoke())[:-20], 3, "the last line is cut off; expected a JSON object"),
    "not JSON": (SENT + b"{oops}\n", 3, "not JSON"),
    "empty line": (SENT + b"\n" + SENT, 3, "the line is empty"),
    "binary": (b"\x00\xff\x08\x00\x00\n", 1, "not UTF-8"),
    "gzip without data": (b"\x1f\x8b\x08\x00\x00\n", 1, "the gzip data is cut off here; expected a complete file"),
    "UTF-16": ("{}\n".encode("utf-16"), 1, "not UTF-8"),
    "a list": (SENT + lines([1, 2]), 3, "a list instead of an operation; expected a JSON object"),
    "a number": (SENT + b"7\n", 3, "a number instead of an operation"),
    "no process": (lines(without(invoke(), "process")), 1, "'process' is missing"),
    "no type": (lines(without(invoke(), "type")), 1, "'type' is missing"),
    "no f": (lines(without(invoke(), "f")), 1, "'f' is missing"),
    "no time": (lines(without(invoke(), "time")), 1, "'time' is missing"),
    "no value": (lines(without(invoke(), "value")), 1, "the value of a send is null"),
    "unknown type": (lines(invoke(type="maybe")), 1, "unknown type 'maybe'; expected invoke, ok, fail or info"),
    "unknown f": (lines(invoke(f="flush")), 1, "unknown f 'flush'; expected send, poll, txn, assign"),
    "another history by index": (
        lines(invoke(index=0), ok(index=1), invoke(index=0, time=0)),
        3,
        "index 0 follows 1: another history begins here; expected one history in a file",
    ),
    "another history by time": (
        SENT + SENT,
        3,
        "time 1 lies before the previous 2: another history begins here; expected one history in a file",
    ),
    "type is no name": (lines(invoke(type=[1])), 1, "type [1]"),
    "f is no name": (lines(invoke(f=3)), 1, "f 3"),
    "process is a boolean": (lines(invoke(process=True)), 1, "process true; expected an integer"),
    "process too large": (lines(invoke(process=2**63)), 1, "does not fit into 64 bits"),
    "time is no integer": (lines(invoke(time="now")), 1, 'time "now"'),
    "time too large": (lines(invoke(time=2**63)), 1, "does not fit into 64 bits"),
    "time runs backwards": (lines(invoke(time=5), ok(time=4)), 2, "before the previous 5"),
    "index runs backwards": (lines(invoke(index=5), ok(index=4)), 2, "index 4 follows 5"),
    "completion without invocation": (SENT + lines(ok()), 3, "that it never invoked"),
    "two open operations": (lines(invoke(), invoke()), 2, "while its send of line 1 is open"),
    "completion of another f": (lines(invoke(), ok(f="txn")), 2, "its open operation of line 1 is a send"),
    "negative offset": (lines(invoke(), ok([["send", 0, [-7, 1]]])), 2, "offset -7; expected a number from 0"),
    "offset is text": (lines(invoke(), ok([["send", 0, ["3", 1]]])), 2, 'offset "3"; expected a number'),
    "offset is a fraction": (polled({"0": [[0.5, 1]]}), 4, "offset 0.5"),
    "offset is true": (polled({"0": [[True, 1]]}), 4, "offset true"),
    "offset too large": (polled({"0": [[2**63, 1]]}), 4, "expected a number from 0"),
    "key is null": (lines(invoke(), ok([["send", None, 1]])), 2, "key null"),
    "key of an open send is null": (SENT + lines(invoke([["send", None, 1]], time=3)), 3, "key null"),
    "send of three": (lines(invoke(), ok([["send", 0, [0, 1, 2]]])), 2, "expected a pair [offset, value]"),
    "send without value": (lines(invoke([["send", 0]])), 1, 'expected ["send", key, value]'),
    "poll in a send": (lines(invoke([["poll"]])), 1, 'micro-operation ["poll"]'),
    "poll in a completed send": (lines(invoke(), ok([["poll"]])), 2, 'micro-operation ["poll"]'),
    "send in a completed poll": (SENT + lines(POLL, POLL | {"type": "ok", "value": [["send", 0, 1]]}), 4, '["poll"]'),
    "send in a poll": (lines(invoke(f="poll")), 1, 'expected ["poll"]'),
    "unknown micro-operation": (lines(invoke([["read", 0]], f="txn")), 1, 'micro-operation ["read",0]'),
    "value is no list": (lines(invoke({"a": 1})), 1, "expected a list of micro-operations"),
    "ok without value": (lines(invoke(), ok() | {"value": None}), 2, "the value of a send is null"),
    "invocation with answer": (lines(invoke([["send", 0, [0, 1]]])), 1, "no answer yet"),
    "value is null": (lines(invoke(), ok([["send", 0, [0, None]]])), 2, "the value null; expected a number"),
    "negative offset of a poll": (polled({"0": [[-1, 1]]}), 4, "offset -1; expected a number from 0"),
    "group offset is negative": (
        lines(invoke([["send_offsets", "g", {"0": -2}]], f="txn"), ok([["send_offsets", "g", {"0": -2}]], f="txn")),
        2,
        "offset -2",
    ),
    "group without a name": (
        lines(invoke([["send_offsets", 1, {"0": 2}]], f="txn"), ok([["send_offsets", 1, {"0": 2}]], f="txn")),
        2,
        "a group's name",
    ),
    "rebalance log is text": (lines(invoke(), ok(**{"rebalance-log": "no"})), 2, "the rebalance-log is"),
    "assigned is no list": (lines(invoke(5, f="assign"), ok(5, f="assign")), 2, "expected a list of keys"),
    "poll answers a list": (polled([[0, 1]]), 4, "expected an object of key"),
    "poll of a key answers a number": (polled({"0": 5}), 4, "expected [[offset, value], ...]"),
    "polled message is a number": (polled({"0": [5]}), 4, "expected a pair [offset, value]"),
    "polled messages of one and of three": (polled({"0": [[0], [1, 2, 3]]}), 4, "expected a pair [offset, value]"),
    "unknown final": (lines(invoke(), ok(final="maybe")), 2, 'final is "maybe"; expected "read_committed"'),
    "abort is text": (lines(invoke(abort="yes")), 1, "expected true or false"),
    "first time before the start": (lines(invoke(time=-3)), 1, "time -3 lies before the start; expected nanoseconds"),
    "deeper than Python reads": (
        lines(invoke("@")).replace(b'"@"', b"[" * 990 + b"1" * 30 + b"]" * 990),
        1,
        "nested too deeply",
    ),
    "deeper than Python writes": (
        lines(invoke("@")).replace(b'"@"', b"[" * 1018 + b"]" * 1018),
        1,
        "micro-operation a deeply nested list",
    ),
    "deep EDN": (b"{:process 0 :value " + b"[" * 3000 + b"]" * 3000 + b"}\n", 1, "nested too deeply"),
    "deep EDN maps": (b"{:a " * 30_000 + b"1" + b"}" * 30_000 + b"\n", 1, "nested too deeply"),
    "faults only": (lines({"process": "nemesis", "type": "info", "f": "kill", "time": 0}), 1, "no operation of any"),
}


@pytest.mark.parametrize("name", BAD)
def test_is_refused_in_one_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, line, reason = BAD[name]
    file = tmp_path / "recording.jsonl"
    file.write_bytes(content)
    assert main(["history", str(file)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert err.startswith(f"hwmark: {file}:{line}: ") and reason in err and "expected" in err


def test_missing_file_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for unreadable in (tmp_path / "absent.jsonl", tmp_path):
        assert main(["history", str(unreadable)]) == 2
        err = capsys.readouterr().err
        assert err.startswith(f"hwmark: {unreadable}: cannot be read: ") and err.count("\n") == 1


@pytest.mark.parametrize("path", sorted(RECORDED.glob("*.jsonl")), ids=lambda path: path.stem)
def test_recording_cut_anywhere_in_its_last_line_is_refused(path: Path) -> None:
    whole = path.read_bytes().splitlines(keepends=True)
    last = whole[-1].rstrip(b"\n")
    for cut in range(1, len(last)):
        with pytest.raises(BadInputError, match="cut off") as refused:
            parse_lines([*whole[:200], last[:cut]], "recording")
        assert refused.value.line == 201


def test_last_line_needs_no_newline() -> None:
    assert len(parse_lines(split(SENT.rstrip(b"\n")), "recording").operations) == 1


def test_unfinished_send_may_be_the_writer_of_a_value_read() -> None:
    records = [invoke(), POLL, POLL | {"type": "ok", "value": [["poll", {"0": [[0, 1]]}]], "time": 3}]
    history = parse_lines(split(lines(*records)), "recording")
    assert history.counts() == {"invoke": 2, "ok": 1, "fail": 0, "info": 1}


def test_f_of_a_fault_is_any_name() -> None:
    fault = invoke("n1", process="nemesis", f="kill", time=3)
    assert parse_lines(split(SENT + lines(fault)), "recording").faults == [Fault(3, "kill", "n1")]


@pytest.mark.parametrize("depth", [102, 300, 1000])
@pytest.mark.parametrize("f", ["kill", "config"])
def test_argument_of_a_fault_is_not_nested_deeply(
    depth: int, f: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "recording.jsonl"
    fault = lines(invoke({"acks": "@"}, process="nemesis", f=f, time=3))
    file.write_bytes(SENT + fault.replace(b'"@"', b"[" * depth + b"]" * depth))
    assert main(["history", str(file)]) == 2
    err = capsys.readouterr().err
    assert err == f"hwmark: {file}:3: the value of a {f} is nested too deeply; expected at most 100 levels\n"


def test_minus_one_is_an_unknown_offset() -> None:
    history = parse_lines(split(lines(invoke(), ok([["send", 0, [-1, 1]]]))), "recording")
    assert history.micro.offset.tolist() == [-1]


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("3", 3),
        ("-3", -3),
        ("0", 0),
        ("03", "03"),
        ("-0", "-0"),
        ("x", "x"),
        ("9" * 30, "9" * 30),
        ("٣", "٣"),
        ("", ""),
    ],
)
def test_key_of_a_poll_is_the_integer_that_it_writes(name: str, key: Any) -> None:
    records = [invoke([["send", key, 1]]), ok([["send", key, [0, 1]]])]
    records += [POLL, POLL | {"type": "ok", "value": [["poll", {name: [[0, 1]]}]]}]
    assert parse_lines(split(lines(*records)), "recording").keys == [key]
