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
from hwmark.traces.history_blocks import take_lines
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
def test_blocks_read_recordings_as_the_plain_reader_does(path: Path) -> None:
    records = [json.loads(line) for line in path.read_text().splitlines()]
    expected = plain(records)
    for size in (2, 50, 1000):
        assert_same(in_blocks(records, size), expected)


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_recordings_take_the_fast_way(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Parser, "take_line", None)
    assert len(read_history(path).operations)


def test_blocks_read_known_cases_as_the_plain_reader_does() -> None:
    for path in EDGES + REFERENCE_CASES:
        records = json.loads(path.read_text()).get("history", [])
        for size in BLOCKS:
            assert_same(in_blocks(records, size), plain(records))


def test_blocks_read_the_reference_s_random_histories_as_the_plain_reader_does() -> None:
    for line in gzip.decompress(RANDOM.read_bytes()).splitlines():
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
    fast: list[int] = []
    commit = history_blocks._Block.commit

    def counting_commit(block: Any) -> None:
        fast.append(len(block.completions))
        commit(block)

    monkeypatch.setattr(history_blocks._Block, "commit", counting_commit)

    @given(histories())
    def read(records: list[Record]) -> None:
        in_blocks(records, 3)

    read()
    assert sum(fast) > 20


def edn(value: Any, comma: str = ",", is_key: bool = False) -> str:
    """A JSON value as Clojure prints it; names that could be keywords are keywords, keys that are integers integers."""
    if isinstance(value, dict):
        items = (f"{edn(k, comma, True)} {edn(v, comma)}" for k, v in value.items())
        return "{" + f"{comma} ".join(items) + "}"
    if isinstance(value, list):
        return "[" + " ".join(edn(member, comma) for member in value) + "]"
    if isinstance(value, str) and value in WORDS:
        return f":{value}"
    if is_key and isinstance(value, str) and value.removeprefix("-").isdecimal() and str(int(value)) == value:
        return value
    return "nil" if value is None else json.dumps(value, ensure_ascii=False)


WORDS = {"process", "type", "f", "value", "time", "index", "error", "final", "abort", "rebalance-log", "keys", "unseen"}
WORDS |= {"invoke", "ok", "fail", "info", "send", "poll", "txn", "assign", "subscribe", "crash", "nemesis", "kill"}
WORDS |= {"send_offsets", "read_committed", "read_uncommitted", "timeout", "x", "config"}
LAYOUTS = ["{}", "#jepsen.history.Op{}", "#jepsen.history.Op {}", "{} ; the rest is silence", " {} "]


def read_bytes(content: bytes, lenient: bool = False) -> History:
    return read_stream(io.BytesIO(content), "history", lenient=lenient)


@given(histories(), st.sampled_from(LAYOUTS), st.sampled_from([",", ""]))
def test_edn_reads_as_json_does(records: list[Record], layout: str, comma: str) -> None:
    texts = [layout.replace("{}", edn(record, comma)) for record in records]
    for record, text in zip(records, texts, strict=True):
        exact = json.loads(json.dumps(record))
        assert repr(decode_by_library(text.encode())) == repr(exact)
        assert repr(decode_edn(text.encode())) == repr(exact)


@given(histories(), st.sampled_from([",", ""]))
def test_every_layout_reads_the_same(records: list[Record], comma: str) -> None:
    if isinstance(plain(records), str):
        return
    expected = repr(without_lines(plain(records)))
    texts = [edn(record, comma) for record in records]
    layouts = [
        json.dumps(records),
        json.dumps(records, indent=1),
        "\n [\n" + ",\n".join(map(json.dumps, records)) + "]\n\n",
        "\n".join(texts),
        "; a comment\n" + "\n\n".join(f"#jepsen.history.Op{text}" for text in texts) + "\n; the end",
        "[" + "\n".join(texts) + "]",
        "; a comment [\n(" + " ;{\n".join(f"#jepsen.history.Op {text}" for text in texts) + "\n)\n",
    ]
    for layout in layouts:
        if any("index" in record for record in records) or layout.count("\n") == len(records) - 1:
            assert repr(without_lines(read_bytes(layout.encode()))) == expected
            assert repr(without_lines(read_bytes(gzip.compress(layout.encode())))) == expected


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (
            '{:error [:timeout #{1} "x" \\a 3N 1/2 1.5M nil]}',
            {"error": ["timeout", [1], "x", "a", 3, "1/2", 1.5, None]},
        ),
        ('{:a #inst "2020-01-01T00:00:00Z", :b #foo/bar {:c 1}}', {"a": "2020-01-01T00:00:00+00:00", "b": {"c": 1}}),
        ("{:a [:nil nil :true true]}", {"a": ["nil", None, "true", True]}),
        ("{:type :type, :f :f, :value :value}", {"type": "type", "f": "f", "value": "value"}),
        ("{:a 12345678901234567890123 :b 9999999999999999999}", {"a": 12345678901234567890123, "b": 10**19 - 1}),
        ("{:a (1 2) :b sym :c :x/y}", {"a": [1, 2], "b": "sym", "c": "x/y"}),
        ('{:a "\\ud83d\\ude00 é \\"q\\" {:b 1, :c 2}"}', {"a": '\U0001f600 é "q" {:b 1, :c 2}'}),
        ("{:a #_{:b 1} 2} ; :c", {"a": 2}),
        ("{:value [[:poll {3 [[0 1]] 4 []}] [:poll {:x [[1 2]], :y [[2 3]]}]]}", None),
        (
            '{:value [[:poll {"a b" [[0 "c"]], "d" [[1 :e]]}]]}',
            {"value": [["poll", {"a b": [[0, "c"]], "d": [[1, "e"]]}]]},
        ),
        ("{:a:b 1}", {"a:b": 1}),
        ("{:a null}", {"a": "null"}),
        ("{:a 1,:b [1,2] :c\t3}", {"a": 1, "b": [1, 2], "c": 3}),
        ("{1.5 2, true 3, -4 5}", {"1.5": 2, "true": 3, "-4": 5}),
    ],
)
def test_edn_value(text: str, value: Any) -> None:
    if value is None:
        value = {"value": [["poll", {"3": [[0, 1]], "4": []}], ["poll", {"x": [[1, 2]], "y": [[2, 3]]}]]}
    assert repr(decode_edn(text.encode())) == repr(value) == repr(decode_by_library(text.encode()))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{:a 1", "the EDN is cut off"),
        ("{:a 1}}", "not EDN"),
        ("{:a 1 :b}", "not EDN"),
        ("{:a 1} {:b 2}", "2 EDN forms"),
        ("#_{:a 1}", "0 EDN forms"),
        ('{:a "\\ud800"}', "half a character"),
        ('{1 2 "1" 3}', "two keys of the same text"),
        ('{:value [[:poll {1 [[0 1]] "1" [[0 2]]}]]}', "two keys of the same text"),
        ("{:a 1 : 2}", "not EDN"),
    ],
)
def test_bad_edn(text: str, reason: str) -> None:
    with pytest.raises(MalformedError, match=reason):
        decode_edn(text.encode())


def test_common_edn_needs_no_library() -> None:
    """Jepsen's own lines, errors with text included, are rewritten as JSON."""
    for path in RECORDED:
        for line in path.read_text().splitlines()[:200]:
            record = json.loads(line)
            for comma in (",", "") if record["process"] != "nemesis" else ():
                rewritten = as_json(edn(record, comma).encode())
                assert rewritten is not None and orjson.loads(rewritten) == record


WRITTEN: dict[str, bytes] = {
    "json": b'[{"process": 0, "type": "invoke", "f": "send", "value": [["send", 0, 1]], "time": 1},\n\n'
    b'{"process": 0, "type": "ok", "f": "send", "value": [["send", 0, [0, 1]]], "time": 2}\n]\n',
    "edn": b"[{:process 0, :type :invoke, :f :send, :value [[:send 0 1]], :time 1}\n\n"
    b"{:process 0, :type :ok, :f :send, :value [[:send 0 [0 1]]], :time 2}\n]\n",
    "lines": b'{"process": 0, "type": "invoke", "f": "send", "value": [["send", 0, 1]], "time": 1}\n'
    b'{"process": 0, "type": "ok", "f": "send", "value": [["send", 0, [0, 1]]], "time": 2}\n',
}


@pytest.mark.parametrize(
    ("layout", "old", "new", "line", "reason"),
    [
        ("json", b"},\n", b"}\n", 1, "no comma after this record"),
        ("json", b"}\n]", b"},\n]", 4, "',' in the list; expected nothing but records in one list"),
        ("json", b"]\n", b"] 7\n", 4, "'7' after the list"),
        ("json", b"\n]\n", b"\n", 3, "the list of records is cut off"),
        ("json", b'"ok"', b"ok", 3, "not JSON"),
        ("json", b'"ok"', b'"maybe"', 3, "unknown type 'maybe'"),
        ("edn", b":ok", b":maybe", 3, "unknown type 'maybe'"),
        ("edn", b":time 2", b":time", 3, "not EDN"),
        ("edn", b"\n]\n", b"\n", 3, "the list of records is cut off"),
        ("edn", b"\n]\n", b"\n] :more\n", 4, "':more' after the list"),
        ("edn", b"\n]\n", b" 8 ]\n", 3, "'8' in the list"),
    ],
)
def test_bad_list(layout: str, old: bytes, new: bytes, line: int, reason: str) -> None:
    assert old in WRITTEN[layout] and len(read_bytes(WRITTEN[layout]).operations) == 1
    with pytest.raises(BadInputError) as refused:
        read_bytes(WRITTEN[layout].replace(old, new))
    assert refused.value.line == line and reason in str(refused.value)


def test_line_of_a_record_in_a_list() -> None:
    for layout in ("json", "edn"):
        assert read_bytes(WRITTEN[layout]).operations.line.tolist() == [3]


@pytest.mark.parametrize("layout", WRITTEN)
def test_gzip_cut_anywhere_is_refused(layout: str) -> None:
    packed = gzip.compress(WRITTEN[layout])
    for cut in range(2, len(packed)):
        with pytest.raises(BadInputError, match="gzip data is cut off"):
            read_bytes(packed[:cut])


def test_lenient_reader_keeps_what_a_cut_gzip_holds() -> None:
    content = RECORDED[0].read_bytes()
    packed = gzip.compress(content)
    history = read_bytes(packed[: len(packed) // 2], lenient=True)
    assert len(history.operations) > 100
    assert history.dropped == [(history.lines, "the gzip data is cut off here; expected a complete file")]


def test_damaged_gzip_is_refused() -> None:
    packed = bytearray(gzip.compress(RECORDED[0].read_bytes()))
    packed[len(packed) // 2] ^= 255
    with pytest.raises(BadInputError, match=r"gzip data is (damaged|cut off)|not JSON|not UTF-8"):
        read_bytes(bytes(packed))


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    content = RECORDED[0].read_bytes()
    for sent in (content, gzip.compress(content)):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(sent))))  # type: ignore[type-var]
        history = read_history("-")
        assert history.file == "standard input"
        assert repr(without_lines(history)) == repr(without_lines(read_history(RECORDED[0])))


BIG = 2**64 + 1


@pytest.mark.parametrize(
    "record",
    [
        {"process": "nemesis", "type": "info", "f": "kill", "value": {"at": [BIG]}},
        {"process": "nemesis", "type": "info", "f": "config", "value": {"at": BIG}},
        {"process": 0, "type": "invoke", "f": "send", "value": [["send", 0, BIG]]},
        {"process": 0, "type": "invoke", "f": "send", "value": [["send", BIG, 1]]},
        {"process": 0, "type": "invoke", "f": "poll", "value": [["poll"]], "error": ["no", BIG]},
        {"process": 0, "type": "invoke", "f": "txn", "value": [["send_offsets", "g", {"0": BIG}]]},
        {"process": 9, "type": "info", "f": "send", "value": [["send", 0, BIG]]},
        {"process": 9, "type": "info", "f": "send", "value": [["send", BIG, [BIG, 1]]]},
        {"process": 9, "type": "info", "f": "send", "value": None, "error": {"a": BIG}},
        {"process": 9, "type": "info", "f": "send", "value": [["send", 0, 1]], "time": BIG},
        {"process": 9, "type": "info", "f": "send", "value": None, "rebalance-log": [{"keys": [BIG]}]},
        {"process": 8, "type": "ok", "f": "assign", "value": [BIG, 1]},
        {"process": BIG, "type": "info", "f": "send", "value": [["send", 0, 1]]},
    ],
)
def test_integers_beyond_64_bits_are_exact_everywhere(record: Record) -> None:
    first: list[Record] = [
        {"process": 9, "type": "invoke", "f": "send", "value": [["send", 0, 1]], "time": 0},
        {"process": 8, "type": "invoke", "f": "assign", "value": [1], "time": 0},
    ]
    records = [*first, {"time": 1} | record]
    for size in (1, 2, 3):
        assert_same(in_blocks(records, size), plain(records))
    assert str(BIG) in str(plain(records))


def test_values_of_different_types_are_different() -> None:
    values = [1, 1.0, True, "1", 2**64, 2**64 + 1, 1.5, "é"]
    sends = [["send", 0, [offset, value]] for offset, value in enumerate(values)]
    invoked = [["send", 0, value] for value in values]
    record: Record = {"process": 0, "type": "invoke", "f": "send", "value": invoked, "time": 1}
    for size in (1, 2):
        history = in_blocks([record, record | {"type": "ok", "value": sends}], size)
        assert isinstance(history, History)
        read = [history.value(number) for number in history.micro.value]
        assert repr(read) == repr(values) and len(set(history.micro.value.tolist())) == len(values)


def test_keys_are_equal_by_their_text_and_in_order() -> None:
    keys = ["x", 10, "9", 2, 2**64, str(2**64), True, "true", 1.5, "1.5", "10"]
    invoked = [["send", key, n] for n, key in enumerate(keys)]
    record: Record = {"process": 0, "type": "invoke", "f": "send", "value": invoked, "time": 1}
    for size in (1, 2):
        history = in_blocks([record, record | {"type": "ok"}], size)
        assert isinstance(history, History)
        assert history.keys == [2, 9, 10, "1.5", str(2**64), "true", "x"]
        names = [history.keys[key] for key in history.micro.key]
        assert list(map(str, names)) == [as_text(key) for key in keys]
