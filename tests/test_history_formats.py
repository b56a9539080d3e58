"""A history reads the same in blocks and record by record, as JSON lines, JSON array and EDN, compressed or not."""

from __future__ import annotations

import copy
import gzip
import io
import json
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hwmark.traces import history_blocks
from hwmark.traces.errors import BadInputError
from hwmark.traces.history import History, read_history
from hwmark.traces.history_blocks import take_lines, take_records
from hwmark.traces.history_edn import as_json, decode_by_library, decode_edn
from hwmark.traces.history_files import read_stream
from hwmark.traces.history_lines import MalformedError
from hwmark.traces.history_records import Parser, parse_lines
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).parents[1]
RECORDED = sorted((ROOT / "traces" / "recorded").glob("*.jsonl"))
EDGES = sorted((Path(__file__).parent / "data" / "histories" / "edge").glob("*.json"))
RANDOM = Path(__file__).parent / "data" / "histories" / "random-500.jsonl.gz"
REFERENCE_CASES = sorted((ROOT.parent / "shared" / "data" / "third-party" / "jepsen").glob("*.json"))
BLOCKS = (1, 2, 3, 1000)

Record = dict[str, Any]


def as_lines(records: list[Any]) -> list[bytes]:
    return [json.dumps(record).encode() + b"\n" for record in records]


def plain(records: list[Any], lenient: bool = False) -> History | str:
    """What the plain reader reads, or its error."""
    try:
        return parse_lines(as_lines(records), "history", lenient=lenient)
    except BadInputError as error:
        return str(error)


def in_blocks(records: list[Any], size: int, lenient: bool = False) -> History | str:
    """What the fast reader reads from blocks of this many lines, or its error."""
    parser, lines = Parser("history", lenient=lenient), as_lines(records)
    try:
        for start in range(0, len(lines), size):
            block = lines[start : start + size]
            take_lines(parser, block, range(start + 1, start + 1 + len(block)))
        return parser.history(len(lines))
    except BadInputError as error:
        return str(error)


def assert_same(one: Any, other: Any) -> None:
    """Require the same columns, of the same types, and the same words."""
    assert type(one) is type(other), (one, other)
    if isinstance(one, np.ndarray):
        assert one.dtype == other.dtype and one.tolist() == other.tolist()
    elif is_dataclass(one):
        for field in fields(one):
            assert_same(getattr(one, field.name), getattr(other, field.name))
    else:
        assert repr(one) == repr(other)


def without_lines(history: Any) -> Any:
    """A history but for the layout of its file."""
    history = copy.deepcopy(history)
    history.operations.line[:] = 0
    return [getattr(history, field.name) for field in fields(history) if field.name not in ("file", "lines")]


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
@pytest.mark.parametrize("size", [*BLOCKS, 50])
def test_blocks_read_recordings_as_the_plain_reader_does(path: Path, size: int) -> None:
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert_same(in_blocks(records, size), plain(records))


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_recordings_take_the_fast_way(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Parser, "take_line", None)
    assert len(read_history(path).operations)


@pytest.mark.parametrize("path", EDGES + REFERENCE_CASES, ids=lambda path: path.stem)
@pytest.mark.parametrize("size", BLOCKS)
def test_blocks_read_known_cases_as_the_plain_reader_does(path: Path, size: int) -> None:
    records = json.loads(path.read_text()).get("history", [])
    assert_same(in_blocks(records, size), plain(records))


def test_blocks_read_the_reference_s_random_histories_as_the_plain_reader_does() -> None:
    for line in gzip.open(RANDOM):
        records = orjson.loads(line)["history"]
        for size in (3, 1000):
            assert_same(in_blocks(records, size), plain(records))


big = st.sampled_from([2**63 - 1, 2**63, -(2**63) + 1, -(2**63), 2**64, 10**19, 10**19 + 1, 123456789012345678901])
scalars = st.one_of(st.integers(-3, 3), st.booleans(), st.sampled_from([1.0, 0.5, -0.0]), st.text(max_size=3), big)
values = st.one_of(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), scalars)
keys = st.one_of(st.integers(0, 2), st.sampled_from(["0", "x", "01", True, 1.5, -1, 10**19]))
offsets = st.one_of(st.integers(0, 9), st.none(), st.just(30_000_000))
MARKS: list[Record] = [{"final": "read_committed"}, {"final": "read_uncommitted"}, {"error": "timeout"}]
MARKS += [{"error": ["a", 1]}, {"rebalance-log": [{"keys": [0, "x"]}, {}]}, {"unseen": 3}]


def as_text(key: Any) -> str:
    return key if isinstance(key, str) else json.dumps(key)


@st.composite
def micro_operation(draw: st.DrawFn, function: str) -> tuple[list[Any], list[Any]]:
    """A micro-operation as invoked and as completed."""
    kinds = {"send": ["send"], "poll": ["poll"], "txn": ["send", "poll", "send", "poll", "send_offsets"]}
    kind = draw(st.sampled_from(kinds[function]))
    if kind == "send":
        key, value, offset = draw(keys), draw(values), draw(st.one_of(offsets, st.just(-1)))
        return ["send", key, value], ["send", key, draw(st.sampled_from([value, [offset, value], [offset, value]]))]
    if kind == "send_offsets":
        micro = ["send_offsets", draw(st.sampled_from("gh")), {as_text(draw(keys)): draw(st.integers(0, 9))}]
        return micro, micro
    messages = st.lists(st.tuples(offsets, values).map(list), max_size=3)
    read = draw(st.dictionaries(keys.map(as_text), messages, max_size=2))
    return ["poll"], draw(st.sampled_from([["poll"], ["poll", read], ["poll", read]]))


@st.composite
def completion(draw: st.DrawFn, function: str, invoked: list[list[Any]], completed: list[list[Any]]) -> Record:
    kind = draw(st.sampled_from(["ok", "ok", "fail", "info"]))
    unknown: list[Any] = [None, invoked] if kind != "ok" else []
    return {"type": kind, "value": draw(st.sampled_from([completed, completed, *unknown]))}


@st.composite
def histories(draw: st.DrawFn) -> list[Record]:
    """Small histories of everything that the format knows."""
    records: list[Record] = []
    pending: dict[int, tuple[Record, Record]] = {}
    has_index = draw(st.booleans())
    for process in draw(st.lists(st.sampled_from([0, 1, 2, "nemesis"]), min_size=1, max_size=24)):
        if isinstance(process, str):
            records.append({"process": process, "type": "info", "f": draw(st.sampled_from(["kill", "config"]))})
            records[-1]["value"] = draw(st.sampled_from([None, {"acks": "all"}, "n1"]))
            continue
        if process in pending:
            records.append({"process": process} | pending.pop(process)[1])
            continue
        function = draw(st.sampled_from(["txn", "txn", "send", "poll", "assign", "subscribe", "crash"]))
        common: Record = {"process": process, "f": function} | draw(st.sampled_from([{}, {}, {}, *MARKS]))
        if function in ("send", "poll", "txn"):
            micros = draw(st.lists(micro_operation(function), max_size=3))
            invoked, completed = [m[0] for m in micros], [m[1] for m in micros]
            ending = draw(completion(function, invoked, completed))
        else:
            invoked = draw(st.lists(keys, max_size=3)) if function != "crash" else None  # type: ignore[assignment]
            ending = {"type": draw(st.sampled_from(["ok", "info"])), "value": invoked}
        abort = draw(st.sampled_from([{}, {}, {"abort": True}]))
        records.append(common | abort | {"type": "invoke", "value": invoked})
        pending[process] = common, common | ending
    step = draw(st.sampled_from([0, 1]))
    return [r | {"time": i * step} | ({"index": i} if has_index else {}) for i, r in enumerate(records)]


MISTAKES: list[Any] = [{"f": "flush"}, {"type": "maybe"}, {"time": -1}, {"time": 0}, {"time": 1.5}, {"index": 0}]
MISTAKES += [{"process": 0}, {"process": True}, {"process": None}, {"process": 2**63}, {"process": -(2**63)}]
MISTAKES += [{"value": None}, {"value": 3}, {"value": [[]]}, {"value": [3]}, {"value": [["poll", {"0": [[-2, 1]]}]]}]
MISTAKES += [{"value": [["poll", {"0": [[1]]}]]}, {"value": [["poll", {"0": [[1, 2, 3]]}]]}, {"value": [["poll", [1]]]}]
MISTAKES += [{"value": [["send", 0, [True, 1]]]}, {"value": [["send", 0, [1, None]]]}, {"value": [["send", 0, {}]]}]
MISTAKES += [{"value": [["send", None, 1]]}, {"value": [["poll", {"0": 1}]]}, {"value": [["read"]]}, {"value": [[[]]]}]
MISTAKES += [{"value": [["poll", {}, 3]]}, {"value": [["send", 0]]}, {"value": [["send_offsets", 0, {}]]}]
MISTAKES += [{"value": [["send_offsets", "g", {"0": -1}]]}, {"value": [["poll", {"0": [[1.5, 1]]}]]}]
MISTAKES += [{"final": "maybe"}, {"abort": 1}, {"rebalance-log": [3]}, {"f": None}, {"f": "poll"}, {"f": "send"}]
MISTAKES += [{"type": "invoke"}, {"type": "ok"}, {"value": [["poll", {"0": [[1, [2]]]}]]}, 7, [], None]


@st.composite
def broken_histories(draw: st.DrawFn) -> list[Any]:
    """Histories with mistakes in some places."""
    records: list[Any] = draw(histories())
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(records) - 1))
        mistake = draw(st.sampled_from([*MISTAKES, "drop", "twice", "less", "restart"]))
        if isinstance(mistake, dict) and isinstance(records[place], dict):
            records[place] = records[place] | mistake
        elif mistake == "drop" and len(records) > 1:
            del records[place]
        elif mistake == "twice":
            records.insert(place, records[place])
        elif mistake == "less" and isinstance(records[place], dict):
            name = draw(st.sampled_from(["process", "type", "f", "time", "value", "index"]))
            records[place] = {k: v for k, v in records[place].items() if k != name}
        elif mistake == "restart":
            records += copy.deepcopy(records)
        elif not isinstance(mistake, str | dict):
            records[place] = mistake
    return records


@given(histories(), st.sampled_from(BLOCKS))
def test_blocks_read_random_histories_as_the_plain_reader_does(records: list[Record], size: int) -> None:
    assert_same(in_blocks(records, size), plain(records))


@given(broken_histories(), st.sampled_from(BLOCKS), st.booleans())
def test_blocks_refuse_mistakes_in_the_same_words(records: list[Any], size: int, lenient: bool) -> None:
    assert_same(in_blocks(records, size, lenient), plain(records, lenient))


@given(broken_histories())
def test_what_a_lenient_reader_keeps_is_a_history(records: list[Any]) -> None:
    history = plain(records, lenient=True)
    if isinstance(history, str):
        assert "no operation of any client" in history
        return
    operations = history.operations
    assert len(set(operations.line.tolist())) == len(operations)
    assert (operations.invoked < operations.completed).all()
    strict = plain(records)
    if not history.dropped:
        assert_same(history, strict)
    else:
        assert isinstance(strict, str)


def test_random_histories_take_the_fast_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """The agreement is one of two readers, not of one with itself."""
    taken = {"fast": 0, "plain": 0}
    commit, take = history_blocks._Block.commit, Parser.take

    def counting_commit(block: Any) -> None:
        taken["fast"] += 1
        commit(block)

    def counting_take(parser: Parser, record: Any, line: int) -> None:
        taken["plain"] += 1
        take(parser, record, line)

    monkeypatch.setattr(history_blocks._Block, "commit", counting_commit)
    monkeypatch.setattr(Parser, "take", counting_take)

    @given(histories())
    def read(records: list[Record]) -> None:
        in_blocks(records, 3)

    read()
    assert taken["fast"] > 20 and taken["plain"] > 20
