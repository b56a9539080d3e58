"""Histories written as Jepsen and Elle write them, and theirs read: nothing is lost on the way, or it is refused."""

from __future__ import annotations

import copy
import gzip
import io
import json
import tracemalloc
from dataclasses import fields
from pathlib import Path
from typing import Any

import edn_format
import pytest
from hwmark.checkers.cli import main
from hwmark.traces import history_convert, history_edn_text, history_files
from hwmark.traces.errors import BadInputError
from hwmark.traces.generator import Shape, history_chunks
from hwmark.traces.history import History
from hwmark.traces.history_convert import convert
from hwmark.traces.history_edn_text import edn_line, edn_line_by_value
from hwmark.traces.history_files import read_stream, scan_stream
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).parents[1]
RECORDED = sorted((ROOT / "traces" / "recorded").glob("*.jsonl"))

Record = dict[str, Any]
Keyword = edn_format.Keyword

text = st.text(max_size=6)
ODD_KEYS = ["orders-0", "0", "-3", "007", "-0", "é 1", 'a"b', "a,b", ":x", "a:", "]", "\1", "", True, 1.5, 10**19]
ODD_VALUES = [True, 0.5, -0.0, 1e16, 5e-324, 2**63, -(2**64), 'x",":', '"', ",", ":", "{", "nil", ":k", "[-1,", "null"]
ODD_VALUES += ["send", "\x7f\u2028", "\0\n", "\\", ""]
keys = st.one_of(st.integers(0, 3), st.sampled_from(ODD_KEYS))
values = st.one_of(st.integers(0, 9), st.integers(0, 9), st.sampled_from(ODD_VALUES), text)
offsets = st.one_of(st.integers(0, 9), st.integers(0, 9), st.none())
anything = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False), text
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
rebalance_logs = st.lists(
    st.fixed_dictionaries(
        {"keys": st.lists(keys, max_size=2)}, optional={"type": st.sampled_from(["assigned", "lost"]), "more": anything}
    ),
    max_size=2,
)
FIELDS = {"process", "type", "f", "value", "time", "index", "error", "final", "abort", "rebalance-log", "send-offsets"}
more_fields = st.fixed_dictionaries(
    {},
    optional={
        "error": anything,
        "node": st.just("n1"),
        "poll-ms": st.integers(0, 9),
        "seek-to-beginning?": st.booleans(),
        "final": st.sampled_from(["read_committed", "read_uncommitted"]),
        "rebalance-log": rebalance_logs,
    },
)
some_more = st.one_of(
    st.just({}),
    st.just({}),
    more_fields,
    st.dictionaries(text.filter(lambda name: name not in FIELDS), anything, max_size=2),
)


def as_text(key: Any) -> str:
    return key if isinstance(key, str) else json.dumps(key)


@st.composite
def micro_operation(draw: st.DrawFn, function: str) -> tuple[list[Any], list[Any]]:
    """A micro-operation as invoked and as completed."""
    kinds = {"send": ["send"], "poll": ["poll"], "txn": ["send", "send", "poll", "poll", "send_offsets"]}
    kind = draw(st.sampled_from(kinds[function]))
    if kind == "send":
        key, value = draw(keys), draw(values)
        message = [draw(st.one_of(offsets, st.just(-1))), value]
        return ["send", key, value], ["send", key, draw(st.sampled_from([value, message, message]))]
    if kind == "send_offsets":
        micro = ["send_offsets", draw(text), draw(st.dictionaries(keys.map(as_text), st.integers(0, 9), max_size=2))]
        return micro, micro
    messages = st.lists(st.tuples(offsets, values).map(list), max_size=3)
    read = draw(st.dictionaries(keys.map(as_text), messages, max_size=3))
    return ["poll"], draw(st.sampled_from([["poll"], ["poll", read], ["poll", read]]))


@st.composite
def operation(draw: st.DrawFn) -> tuple[Record, Record]:
    """The two records of an operation, but for process, time and index."""
    function = draw(st.sampled_from(["txn", "txn", "send", "poll", "poll", "assign", "subscribe", "crash"]))
    outcome = draw(st.sampled_from(["ok", "ok", "fail", "info"]))
    invoked: Any = None
    if function in ("send", "poll", "txn"):
        micros = draw(st.lists(micro_operation(function), max_size=3))
        invoked, value = [micro[0] for micro in micros], [micro[1] for micro in micros]
        value = value if outcome == "ok" else draw(st.sampled_from([value, value, None]))
    else:
        value = invoked = draw(st.lists(keys, max_size=3)) if function != "crash" else None
    invoke = {"type": "invoke", "f": function, "value": invoked} | draw(some_more)
    return invoke | draw(st.sampled_from([{}, {}, {"abort": True}])), {
        "type": outcome,
        "f": function,
        "value": value,
    } | draw(some_more)


@st.composite
def histories(draw: st.DrawFn) -> list[Record]:
    """Small histories of everything that the format knows, and of what it carries along."""
    records: list[Record] = []
    pending: dict[int, Record] = {}
    for process in [0, *draw(st.lists(st.sampled_from([0, 0, 1, 2, "nemesis", "two words"]), max_size=16))]:
        if isinstance(process, str):
            event = {"type": "info", "f": draw(st.sampled_from(["kill", "config", "heal it", "", "a/b"]))}
            records.append({"process": process} | event | {"value": draw(anything)})
        elif process in pending:
            records.append({"process": process} | pending.pop(process))
        else:
            invoke, pending[process] = draw(operation())
            records.append({"process": process} | invoke)
    step, is_indexed = draw(st.sampled_from([0, 7, 10**12])), draw(st.booleans())
    return [r | {"time": i * step} | ({"index": 2 * i} if is_indexed else {}) for i, r in enumerate(records)]


def read(content: bytes) -> History:
    return read_stream(io.BytesIO(content), "history")


def same(history: History) -> str:
    """All that a history holds but for its file."""
    history = copy.deepcopy(history)
    return repr([(f.name, getattr(history, f.name)) for f in fields(history) if f.name != "file"])


def as_json(records: list[Record]) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def as_edn(records: list[Record]) -> bytes:
    return b"".join(edn_line(record, index) for index, record in enumerate(records))


def converted(content: bytes, path: Path, notation: str, elle: str | None = None) -> bytes:
    """What a file with this content becomes."""
    source, output = path / "source", path / f"output.{notation}"
    source.write_bytes(content)
    convert(str(source), str(output), notation=notation, elle=elle)
    return output.read_bytes()


def is_refused(content: bytes) -> bool:
    try:
        read(content)
    except BadInputError:
        return True
    return False


@given(histories())
def test_a_history_is_the_same_after_edn(records: list[Record]) -> None:
    if not is_refused(as_json(records)):  # an invocation alone may have sent to no key at all
        assert same(read(as_edn(records))) == same(read(as_json(records)))


@given(histories())
def test_fields_that_are_only_carried_along_are_the_same_after_edn(records: list[Record]) -> None:
    seen: list[Record] = []
    scan_stream(io.BytesIO(as_edn(records)), "history", lambda block, lines: seen.extend(block))
    assert len(seen) == len(records)
    for index, (before, after) in enumerate(zip(records, seen, strict=True)):
        left = {"index": index} | before
        for name in left.keys() - {"value", "rebalance-log"}:
            assert repr(after[name]) == repr(left[name]), name
        assert after.keys() == left.keys()
        if isinstance(before["process"], int) and before["f"] in ("send", "poll", "txn") and before["value"]:
            assert [micro[0] for micro in after["value"]] == [micro[0] for micro in before["value"]]


@given(histories())
def test_both_writers_write_the_same(records: list[Record]) -> None:
    for index, record in enumerate(records):
        assert edn_line(record, index) == edn_line_by_value(record, index)


def test_both_writers_write_the_same_of_whatever_is_odd() -> None:
    for key in [3, -1, *ODD_KEYS]:
        for value in [7, *ODD_VALUES]:
            for micro in [
                ["send", key, value],
                *(["send", key, [offset, value]] for offset in (0, None, -1)),
                *(["poll", {"1": [[0, 1]], as_text(key): [[offset, value], [1, 2]]}] for offset in (0, None)),
                ["poll", {as_text(key): [], "x": [[0, value]], "2": []}],
            ]:
                for micros in ([micro], [["send", 0, "a,"], micro, ["poll"]]):
                    record = {"index": 0, "time": 1, "type": "ok", "process": 0, "f": "txn", "value": micros}
                    line = edn_line(record, 0)
                    assert line == edn_line_by_value(record, 0)
                    [told] = edn_format.loads_all(line.decode()) if micros[0] is micro else [None]
                    assert told is None or len(told[Keyword("value")][0]) == len(micro)


def test_recordings_are_written_the_fast_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """The agreement is one of two writers, not of one with itself."""
    slow: list[Record] = []

    def counting(record: Record, index: int) -> bytes:
        slow.append(record)
        return edn_line_by_value(record, index)

    monkeypatch.setattr(history_edn_text, "edn_line_by_value", counting)
    records = [json.loads(line) for line in RECORDED[0].read_bytes().splitlines()]
    as_edn(records)
    assert 0 < len(slow) < len(records) / 5


@given(histories())
def test_lines_are_what_another_reader_of_edn_expects(records: list[Record]) -> None:
    for index, record in enumerate(records):
        [told] = edn_format.loads_all(edn_line(record, index).decode())
        assert told[Keyword("type")] == Keyword(record["type"]) and told[Keyword("time")] == record["time"]
        if isinstance(record["process"], str):
            continue
        assert told[Keyword("process")] == record["process"] and isinstance(told[Keyword("f")], Keyword)
        if record["f"] in ("send", "poll", "txn"):
            for micro in told[Keyword("value")] or []:
                assert micro[0] in (Keyword("send"), Keyword("poll"))  # Jepsen's checker throws at any other
                for key in [micro[1]] if micro[0] == Keyword("send") else micro[1].keys() if len(micro) > 1 else []:
                    assert isinstance(key, int) or as_text_of_integer(key) is None


def as_text_of_integer(key: Any) -> int | None:
    """The integer of 64 bits that a key is written as."""
    try:
        number = int(key)
    except ValueError:
        return None
    return number if str(number) == key and abs(number) < 2**63 else None


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_recordings_are_judged_the_same(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edn = tmp_path / "history.edn"
    assert main(["convert", str(path), "-o", str(edn)]) == 0
    assert main(["convert", str(edn), "-o", str(tmp_path / "back.jsonl.gz")]) == 0
    assert main(["convert", str(tmp_path / "back.jsonl.gz"), "-o", str(tmp_path / "again.edn")]) == 0
    assert (tmp_path / "again.edn").read_bytes() == edn.read_bytes()
    capsys.readouterr()
    for options in ([], ["--compat", "--via", "subscribe", "--ww-deps"]):
        reports = []
        for file in (path, edn, tmp_path / "back.jsonl.gz"):
            status = main(["history", str(file), "--json", *options])
            report = json.loads(capsys.readouterr().out)
            reports.append((status, report | {"file": "", "seconds": 0}))
        assert reports[0] == reports[1] == reports[2]


def test_a_line_looks_as_jepsen_writes_it() -> None:
    records = [
        {
            "process": 3,
            "type": "invoke",
            "f": "txn",
            "value": [["poll"], ["send", 1, 5], ["send", "t-0", "a"]],
            "time": 9,
        },
        {
            "process": 3,
            "type": "ok",
            "f": "txn",
            "value": [
                ["poll", {"1": [[0, 4], [None, 3]], "-2": [], "t-0": [[7, "b\n"]]}],
                ["send", "1", [-1, 5]],
                ["send_offsets", "g", {"1": 1, "t-0": 8}],
                ["send", "t-0", [8, "a"]],
            ],
            "rebalance-log": [{"type": "assigned", "keys": ["1", "t-0"]}],
            "poll-ms": 10,
            "index": 17,
            "time": 10,
        },
        {
            "process": 3,
            "type": "ok",
            "f": "poll",
            "value": [["poll", {"0": [[0, 1], [2, 3]], "11": []}]],
            "index": 18,
            "time": 10,
        },
        {"process": 3, "type": "ok", "f": "poll", "value": [["poll"]], "time": 11, "final": "read_uncommitted"},
        {"process": "nemesis", "type": "info", "f": "kill", "value": {"n1": ["killed", None]}, "time": 12},
    ]
    assert as_edn(records).decode().splitlines() == [
        '{:index 0, :time 9, :type :invoke, :process 3, :f :txn, :value [[:poll] [:send 1 5] [:send "t-0" "a"]]}',
        '{:index 17, :time 10, :type :ok, :process 3, :f :txn, :value [[:poll {1 [[0 4] [nil 3]], -2 [], "t-0" [[7 '
        '"b\\n"]]}] [:send 1 [nil 5]] [:send "t-0" [8 "a"]]], :rebalance-log [{:type :assigned, :keys [1 "t-0"]}], '
        ':poll-ms 10, :send-offsets [[2 "g" {1 1, "t-0" 8}]]}',
        "{:index 18, :time 10, :type :ok, :process 3, :f :poll, :value [[:poll {0 [[0 1] [2 3]], 11 []}]]}",
        "{:index 3, :time 11, :type :ok, :process 3, :f :poll-uncommitted, :value [[:poll]], "
        ':final "read_uncommitted"}',
        '{:index 4, :time 12, :type :info, :process :nemesis, :f :kill, :value {"n1" ["killed" nil]}}',
    ]


# What runs of Jepsen's Kafka, Redpanda, Bufstream and Maelstrom workloads print: shapes of theirs, contents of ours.
THEIRS = r"""
#jepsen.history.Op{:index 0, :time 10, :type :invoke, :process 0, :f :assign, :value [0 1], :seek-to-beginning? true}
{:index 1, :time 11, :type :ok, :process 0, :f :assign, :value [0 1], :unseen {0 {:polled -1, :sent 5}}}
{:index 2, :time 12, :type :invoke, :process 0, :f :txn, :value ([:send 0 1] [:poll]), :poll-ms 1000}
{:index 3, :time 13, :type :info, :process :nemesis, :f :start-partition, :value [:isolated {"n1" #{"n3" "n2"}}]}
{:index 4, :time 14, :type :info, :process 0, :f :txn, :value ([:send 0 [nil 1]] [:poll {1 [[0 7]]}]), :rebalance-log ({:type :assigned, :keys [1]} {:type :lost, :keys []}), :end-process? true, :error {:type :abort, :abort-ok? false, :body-error "x.TimeoutException: no \"ack\""}, :exception {:via [{:type java.lang.Error, :at [a.b$f__7 invokeStatic "b.clj" 9]}], :trace [[a.B <init> nil -1]]}}
{:index 5 :time 15 :process 6 :type :invoke :f :send :value [[:send :k 1]]}
{:index 6, :time 16, :type :info, :process :nemesis, :f :check, :value #x.Record{:a 1/3, :b \a, :c #inst "2020-01-02T03:04:05Z", :d #uuid "f81d4fae-7dec-11d0-a765-00a0c91e6bf6", :e ##Inf, :g ^{:m 1} [sym], :h 5N, :i 2.5M}} ; a comment
#jepsen.history.Op {:index 7, :time 17, :type :fail, :process 6, :f :send, :value [[:send :k 1]], :error [:disconnect nil]}

{:index 8, :time 18, :type :invoke, :process 7, :f :debug-topic-partitions, :value [0]}
{:index 9, :time 19, :type :ok, :process 7, :f :debug-topic-partitions, :value {:node "n1", :partitions {0 {:epoch nil}}}}
"""  # noqa: E501
THEIRS_AS_JSON: list[Record] = [
    {"index": 0, "type": "invoke", "process": 0, "f": "assign", "value": [0, 1], "seek-to-beginning?": True},
    {
        "index": 1,
        "type": "ok",
        "process": 0,
        "f": "assign",
        "value": [0, 1],
        "unseen": {"0": {"polled": -1, "sent": 5}},
    },
    {"index": 2, "type": "invoke", "process": 0, "f": "txn", "value": [["send", 0, 1], ["poll"]], "poll-ms": 1000},
    {
        "index": 3,
        "type": "info",
        "process": "nemesis",
        "f": "start-partition",
        "value": ["isolated", {"n1": ["n2", "n3"]}],
    },
    {
        "index": 4,
        "type": "info",
        "process": 0,
        "f": "txn",
        "value": [["send", 0, [None, 1]], ["poll", {"1": [[0, 7]]}]],
        "rebalance-log": [{"type": "assigned", "keys": [1]}, {"type": "lost", "keys": []}],
        "end-process?": True,
        "error": {"type": "abort", "abort-ok?": False, "body-error": 'x.TimeoutException: no "ack"'},
        "exception": {
            "via": [{"type": "java.lang.Error", "at": ["a.b$f__7", "invokeStatic", "b.clj", 9]}],
            "trace": [["a.B", "<init>", None, -1]],
        },
    },
    {"index": 5, "type": "invoke", "process": 6, "f": "send", "value": [["send", "k", 1]]},
    {
        "index": 6,
        "type": "info",
        "process": "nemesis",
        "f": "check",
        "value": {
            "a": "1/3",
            "b": "a",
            "c": "2020-01-02T03:04:05+00:00",
            "d": "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
            "e": "inf",
            "g": ["sym"],
            "h": 5,
            "i": 2.5,
        },
    },
    {"index": 7, "type": "fail", "process": 6, "f": "send", "value": [["send", "k", 1]], "error": ["disconnect", None]},
    {"index": 8, "type": "invoke", "process": 7, "f": "debug-topic-partitions", "value": [0]},
    {
        "index": 9,
        "type": "ok",
        "process": 7,
        "f": "debug-topic-partitions",
        "value": {"node": "n1", "partitions": {"0": {"epoch": None}}},
    },
]


def test_what_jepsen_writes_is_read_whole(tmp_path: Path) -> None:
    lines = converted(THEIRS.encode(), tmp_path, "jsonl").splitlines()
    assert [json.loads(line) for line in lines] == [r | {"time": 10 + r["index"]} for r in THEIRS_AS_JSON]
    history = read(THEIRS.encode())
    assert history.keys == [0, 1, "k"] and len(history.operations) == 4 and len(history.faults) == 2
    assert len(history.rebalanced.key) == 1
    listed = "[" + ",\n".join(line.partition(" ;")[0] for line in THEIRS.split("\n") if line) + "]"
    assert converted(listed.encode(), tmp_path, "jsonl").splitlines() == lines


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (r'{:index 1 :time 1 :type :ok :process 0 :f :send :value [[:send 0 [0 1]]] :x #"re"}', "not EDN"),
        ("{:index 1 :time 1 :type :ok :process 0 :f :send :value [[:send 0 [0 1]]] :x #=(f)}", "not EDN"),
        ('{:index 1 :time 1 :type :ok :process 0 :f :send :value [[:send 0 [0 1]]] :x {1 2, "1" 3}}', "the same text"),
        ("{:index 1 :time 1 :type :ok :process 0 :f :send :value [[:append 0 1]]}", "micro-operation"),
        ("{:index 1 :time 1 :type :ok :process 0 :f :send :value [[:send 0 [0 1/2 3]]]}", "expected a pair"),
        ("{:index 1 :time 1 :type :ok :process 0 :f :write :value 3}", "unknown f"),
        ("{:index 1 :type :ok :process 0 :f :send :value [[:send 0 [0 1]]]}", "'time' is missing"),
        ("{:index 1 :time 1 :type :ok :process 0 :f :send :value [[:send 0 [0 1]]]", "cut off"),
        ('{:index 1 :time 1 :type :ok :process 0 :f :send :value [[:send 0 [0 1]]] :x "\\ud800"}', "half a character"),
    ],
)
def test_what_cannot_be_kept_is_refused(
    line: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = tmp_path / "theirs.edn", tmp_path / "ours.jsonl"
    source.write_text("{:index 0 :time 0 :type :invoke :process 0 :f :send :value [[:send 0 1]]}\n" + line + "\n")
    output.write_text("what was there before\n")
    assert main(["convert", str(source), "-o", str(output)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"hwmark: {source}:2: ") and err.count("\n") == 1 and why in err
    assert output.read_text() == "what was there before\n" and sorted(tmp_path.iterdir()) == [output, source]


def test_values_nested_too_deeply_are_refused(tmp_path: Path) -> None:
    deep: Any = 1
    for _ in range(600):
        deep = [deep]
    record = {"process": 0, "type": "invoke", "f": "crash", "value": None, "time": 0}
    content = as_json([record, {"process": 0, "type": "info", "f": "crash", "value": None, "time": 0, "x": deep}])
    with pytest.raises(BadInputError, match=r"source:2: .*nested too deeply"):
        converted(content, tmp_path, "edn")
    assert not list(tmp_path.glob("output*"))
    assert converted(content, tmp_path, "jsonl") == content.replace(b" ", b"")


def test_files_that_cannot_be_used_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = str(RECORDED[0])
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    for arguments, why in [
        ([str(tmp_path / "none"), "-o", "x.edn"], "none: cannot be read: no such file"),
        ([str(empty), "-o", str(tmp_path / "x.edn")], "empty:1: the file is empty"),
        ([good, "-o", str(tmp_path / "x.txt")], "x.txt: the name does not tell the notation"),
        ([good, "-o", "-"], "-: the name does not tell the notation"),
        ([good, "-o", str(tmp_path / "no" / "x.edn")], "x.edn: cannot be written: no such file"),
        ([good, "-o", "/dev/full", "--format", "edn"], "/dev/full: cannot be written: no space left"),
    ]:
        assert main(["convert", *arguments]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1 and why in err, err
    assert list(tmp_path.iterdir()) == [empty]


def test_a_file_becomes_its_own_conversion(tmp_path: Path) -> None:
    file = tmp_path / "history.edn.gz"
    file.write_bytes(RECORDED[0].read_bytes())
    assert main(["convert", str(file), "-o", str(file)]) == 0
    assert gzip.decompress(file.read_bytes()).startswith(b"{:index 0, ")
    assert list(tmp_path.iterdir()) == [file]


def test_standard_streams(monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(RECORDED[0].read_bytes()))
    monkeypatch.setattr("sys.stdin", stdin)
    assert main(["convert", "-", "-o", "-", "--format", "edn"]) == 0
    out, err = capsysbinary.readouterr()
    assert out == as_edn([json.loads(line) for line in RECORDED[0].read_bytes().splitlines()])
    assert err == b"wrote %d lines to standard output\n" % out.count(b"\n")


@pytest.mark.parametrize("notation", ["jsonl", "edn"])
def test_memory_does_not_grow_with_the_length(notation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_files, "BLOCK_BYTES", 1 << 14)
    peaks = []
    for lines in (2_000, 8_000):
        stream = io.BytesIO(b"".join(history_chunks(Shape(lines=lines, transactional=True, notation=notation))))
        writer = history_convert.Lines("edn")
        tracemalloc.start()
        scan_stream(stream, "generated", lambda records, numbers, writer=writer: writer.lines(records, numbers))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0], peaks


SMALL: list[Record] = [
    {"process": 0, "type": "invoke", "f": "txn", "value": [["send", 0, 1], ["send", 1, 2]]},
    {"process": 0, "type": "ok", "f": "txn", "value": [["send", 0, [0, 1]], ["send", "1", [0, 2]]]},
    {"process": 1, "type": "invoke", "f": "send", "value": [["send", 0, 3]]},
    {"process": 1, "type": "info", "f": "send", "value": None},
    {"process": "nemesis", "type": "info", "f": "kill", "value": None},
    {"process": 2, "type": "invoke", "f": "poll", "value": [["poll"]]},
    {"process": 2, "type": "ok", "f": "poll", "value": [["poll", {"0": [[0, 1], [1, 3]]}]]},
    {"process": 2, "type": "invoke", "f": "txn", "value": [["poll"], ["send", 1, 4]]},
    {"process": 2, "type": "fail", "f": "txn", "value": [["poll", {"1": [[0, 2]]}], ["send", 1, [1, 4]]]},
    {"process": 3, "type": "invoke", "f": "assign", "value": [0, 1, 2], "final": "read_committed"},
    {"process": 3, "type": "ok", "f": "assign", "value": [0, 1, 2], "final": "read_committed"},
    {"process": 3, "type": "invoke", "f": "poll", "value": [["poll"]], "final": "read_committed"},
    {"process": 3, "type": "ok", "f": "poll", "value": [["poll", {"0": [[0, 1]]}]], "final": "read_committed"},
    {"process": 3, "type": "invoke", "f": "poll", "value": [["poll"]], "final": "read_committed"},
    {"process": 3, "type": "ok", "f": "poll", "value": [["poll", {"0": [[1, 3]], "1": []}]], "final": "read_committed"},
    {"process": 4, "type": "invoke", "f": "poll", "value": [["poll"]], "final": "read_uncommitted"},
    {"process": 4, "type": "ok", "f": "poll", "value": [["poll", {"1": [[1, 4]]}]], "final": "read_uncommitted"},
]
BIG = 1 << 32


def elle(records: list[Record], path: Path, shape: str, notation: str) -> list[tuple[Any, ...]]:
    """The transactions that Elle gets: process, type, value, operation."""
    content = as_json([record | {"time": 10 * i} for i, record in enumerate(records)])
    lines = converted(content, path, notation, shape).splitlines()
    told = [json.loads(line) for line in lines] if notation == "jsonl" else [plain_edn(line) for line in lines]
    assert [record["index"] for record in told] == list(range(len(told))) and {r["f"] for r in told} == {"txn"}
    times = [record["time"] for record in told]
    assert times == sorted(times)
    return [(record["process"], record["type"], record["value"], record["operation"]) for record in told]


def plain_edn(line: bytes) -> Any:
    """What another reader of EDN reads, as JSON would have it."""

    def plain(value: Any) -> Any:
        if isinstance(value, edn_format.ImmutableDict):
            return {key.name: plain(held) for key, held in value.items()}
        if isinstance(value, Keyword):
            return value.name
        return [plain(member) for member in value] if isinstance(value, edn_format.ImmutableList) else value

    return plain(edn_format.loads(line.decode()))


@pytest.mark.parametrize("notation", ["edn", "jsonl"])
def test_a_message_is_a_register(notation: str, tmp_path: Path) -> None:
    first, second = ["w", [0, 1], 1], ["w", [1, 2], 2]
    assert elle(SMALL, tmp_path, "rw-register", notation) == [
        (0, "invoke", [first, second], 0),
        (0, "ok", [first, second], 1),
        (1, "invoke", [["w", [0, 3], 3]], 2),
        (1, "info", [["w", [0, 3], 3]], 3),
        (2, "invoke", [], 5),
        (2, "ok", [["r", [0, 1], 1], ["r", [0, 3], 3]], 6),
        (2, "invoke", [["w", [1, 4], 4]], 7),
        (2, "fail", [["w", [1, 4], 4]], 8),
        (3, "invoke", [], 11),
        (3, "ok", [["r", [0, 1], 1]], 12),
        (3, "invoke", [], 13),
        (3, "ok", [["r", [0, 3], 3]], 14),
    ]


@pytest.mark.parametrize("notation", ["edn", "jsonl"])
def test_a_partition_is_a_list(notation: str, tmp_path: Path) -> None:
    expected: list[tuple[Any, ...]] = [
        (0, "invoke", [["append", 0, 1]], 0),
        (BIG, "invoke", [["append", 1, 2]], 0),
        (0, "ok", [["append", 0, 1]], 1),
        (BIG, "ok", [["append", 1, 2]], 1),
        (1, "invoke", [["append", 0, 3]], 2),
        (1, "info", [["append", 0, 3]], 3),
        (2, "invoke", [["append", 1, 4]], 7),
        (2, "fail", [["append", 1, 4]], 8),
        (3, "invoke", [], 9),
    ]
    whole = (3, "ok", [["r", 0, [1, 3]], ["r", 1, []], ["r", 2, []]], 16)
    assert elle(SMALL, tmp_path, "list-append", notation) == [*expected, whole]
    broken = [*SMALL[:14], SMALL[14] | {"type": "info", "value": None}, *SMALL[15:]]
    assert elle(broken, tmp_path, "list-append", notation) == expected


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_closing_reads_of_recordings_are_whole(path: Path, tmp_path: Path) -> None:
    records = [json.loads(line) for line in path.read_bytes().splitlines()]
    told = elle(records, tmp_path, "list-append", "jsonl")
    expected: dict[int, list[Any]] = {}
    for record in records:
        if record.get("final") == "read_committed" and record["f"] == "poll" and record["type"] == "ok":
            for key, messages in record["value"][0][1].items():
                expected.setdefault(int(key), []).extend(value for _, value in messages)
    reads = [
        {key: read for _, key, read in value if read}
        for _, kind, value, _ in told
        if kind == "ok" and value[0][0] == "r"
    ]
    assert reads == [expected] and any(expected.values())
    appends = [value[0][1:] for _, kind, value, _ in told if kind == "ok" and value[0][0] == "append"]
    acknowledged = [
        (m[1], m[2][1])
        for r in records
        if r["type"] == "ok"
        for m in r["value"] or []
        if r["f"] in ("send", "txn")
        if m[0] == "send"
    ]
    assert [tuple(append) for append in appends] == acknowledged
