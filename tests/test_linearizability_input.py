"""Operation files: what is read, and the one line that every unusable one gets."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any

import orjson
import pytest
from hwmark.checkers.linearizability.search import check_operations
from hwmark.traces.errors import BadInputError
from hwmark.traces.operations import OperationHistory, parse_operations, read_operations

HEADER = {"name": "run", "model": "register", "init": 0}
READ = {"process": 0, "f": "read", "input": None, "output": 0, "call": 0, "return": 5}


def lines(*records: Any) -> bytes:
    return b"".join(orjson.dumps(record) + b"\n" for record in records)


def parse(*records: Any) -> OperationHistory:
    return parse_operations(lines(*records), "run.jsonl")


def test_columns_and_header() -> None:
    write = {"process": "a", "f": "write", "input": 1, "output": None, "call": -3, "return": None}
    history = parse(HEADER | {"expected": "linearizable", "fetch": "fresh"}, READ, write)
    assert (history.model, history.expected, len(history)) == ("register", "linearizable", 2)
    assert (history.process, history.f, history.input) == ([0, "a"], ["read", "write"], [None, 1])
    assert (history.output, history.call, history.returned) == ([0, None], [0, -3], [5, None])
    assert history.header["fetch"] == "fresh"
    assert str(history.bad(1, "wrong")) == "run.jsonl:3: wrong" and str(history.bad(None, "no")) == "run.jsonl:1: no"


def test_plain_gzip_and_standard_input_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = lines(HEADER, READ)
    (tmp_path / "plain.jsonl").write_bytes(data)
    (tmp_path / "packed.gz").write_bytes(gzip.compress(data))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    for file in (tmp_path / "plain.jsonl", tmp_path / "packed.gz", "-"):
        assert read_operations(file).call == [0]


def test_a_process_goes_on_after_an_unknown_outcome_and_at_the_moment_of_a_return() -> None:
    crashed = READ | {"output": None, "return": None}
    assert len(parse(HEADER, crashed, READ | {"call": 1}, READ | {"call": 5, "return": 5})) == 3


UNUSABLE: dict[str, tuple[bytes, int | None, str]] = {
    "empty": (b"", 1, "the file is empty; expected a header"),
    "empty line": (lines(HEADER) + b"\n" + lines(READ), 2, "the line is empty; expected a JSON object"),
    "no header": (lines(READ), 1, "no header"),
    "a list for a header": (lines([HEADER]), 1, "no header"),
    "model that is no name": (lines({"model": 7}), 1, "model 7; expected a name"),
    "unheard-of verdict": (lines(HEADER | {"expected": "maybe"}), 1, 'expected "maybe"; expected one of'),
    "two histories": (lines(HEADER, READ, HEADER), 3, "a second header: several histories in one file"),
    "cut off": (lines(HEADER, READ, READ)[:-20], 3, "the line is cut off or not JSON"),
    "no JSON": (lines(HEADER) + b'{"process": nil}\n', 2, "not JSON (column 13)"),
    "no object": (lines(HEADER, [1]), 2, "[1] instead of an operation"),
    "a name for an operation": (lines(HEADER, "read"), 2, '"read" instead of an operation'),
    "missing field": (lines(HEADER, {k: v for k, v in READ.items() if k != "call"}), 2, "the field 'call' is missing"),
    "unknown field": (lines(HEADER, READ | {"extra": 1}), 2, "unknown field 'extra'"),
    "process without a name": (lines(HEADER, READ | {"process": None}), 2, "process null; expected a whole number"),
    "f that is no name": (lines(HEADER, READ | {"f": 1}), 2, "f 1; expected a name"),
    "fractional time": (lines(HEADER, READ | {"return": 5.5}), 2, "return 5.5; expected a whole number, or null"),
    "truth for a time": (lines(HEADER, READ | {"call": True}), 2, "call true; expected a whole number"),
    "return before call": (lines(HEADER, READ | {"call": 6}), 2, "return 5 is before call 6; expected it at or after"),
    "time too large": (lines(HEADER, READ | {"return": 2**63}), 2, "expected times within 64 bits"),
    "overlap": (
        lines(HEADER, READ, READ | {"call": 4}),
        3,
        "process 0 calls at 4 while its operation in line 2 lasts until 5; expected one operation of a process at",
    ),
    "overlap out of order": (lines(HEADER, READ | {"call": 4}, READ), 3, "lasts until 5"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_unusable_file_gets_one_line(name: str) -> None:
    data, line, reason = UNUSABLE[name]
    with pytest.raises(BadInputError) as refused:
        parse_operations(data, "run.jsonl")
    assert refused.value.line == line and reason in refused.value.reason
    assert "\n" not in str(refused.value) and "expected" in refused.value.reason


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "no such file"), (gzip.compress(lines(HEADER, READ))[:-9], "cannot be read")],
    ids=["absent", "truncated gzip"],
)
def test_unreadable_file_gets_one_line(content: bytes | None, reason: str, tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl.gz"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(BadInputError, match=reason):
        read_operations(file)


UNKNOWN_TO_THE_MODEL: dict[str, tuple[str, dict[str, Any], str]] = {
    "f": ("register", {"f": "cas"}, "unknown f 'cas'; expected read or write for model register"),
    "input": ("register", {"input": 3}, "read with input 3; expected null"),
    "output": ("register", {"f": "write", "input": 3, "output": "done"}, "write with output 'done'; expected \"ok\""),
    "cas": ("cas-register", {"f": "cas", "input": [1], "output": "ok"}, "expected [old, new]"),
    "nested value": ("register", {"output": {"a": 1}}, "expected one value"),
    "output of nobody knows what": ("register", {"return": None}, "an output without a return; expected null"),
    "kv": ("kv", {"f": "get", "input": "x"}, "expected [key]"),
    "kv-append": ("kv-append", {"f": "append", "input": ["x", 1], "output": "ok"}, "expected [key, text]"),
    "set": ("set", {"output": 3}, "expected a list of values"),
    "queue": ("queue", {"f": "enqueue", "input": None, "output": "ok"}, "expected one value, not null"),
    "mutex": ("mutex", {"f": "acquire", "output": True}, 'expected "ok" or "fail"'),
    "transaction": ("multi-register", {"f": "txn", "input": [["inc", "x", 1]], "output": []}, "[read or write, key"),
    "answer to another transaction": (
        "multi-register",
        {"f": "txn", "input": [["read", "x", None]], "output": [["read", "y", 0]]},
        "expected the micro-operations of the input",
    ),
}


@pytest.mark.parametrize("name", UNKNOWN_TO_THE_MODEL)
def test_what_the_model_does_not_know_is_refused(name: str) -> None:
    model, change, reason = UNKNOWN_TO_THE_MODEL[name]
    with pytest.raises(BadInputError) as refused:
        check_operations(parse({"model": model}, READ | change))
    assert refused.value.line == 2 and reason in refused.value.reason


@pytest.mark.parametrize(
    ("model", "init"),
    [
        ("register", [1]),
        ("mutex", 1),
        ("kv", 3),
        ("kv-append", 1),
        ("set", 3),
        ("queue", [None]),
        ("multi-register", 1),
    ],
)
def test_a_first_state_that_is_none_is_refused(model: str, init: Any) -> None:
    with pytest.raises(BadInputError, match="expected") as refused:
        check_operations(parse({"model": model, "init": init}))
    assert refused.value.line == 1


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(BadInputError, match="unknown model 'stack'; expected one of register, cas-register"):
        check_operations(parse({"model": "stack"}, READ))
