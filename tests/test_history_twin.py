"""The columnar history checker and its plain twin agree, on recordings and on random histories."""

from __future__ import annotations

import json
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hwmark.checkers.histories import HistoryReport, check
from hwmark.checkers.histories.evidence import Evidence
from hwmark.checkers.histories.plain import check_plain
from hwmark.checkers.histories.plain_lag import plain_consume_counts, plain_lags
from hwmark.checkers.histories.plain_words import WORDS, facts
from hwmark.checkers.histories.realtime_lag import RealtimeLag
from hwmark.checkers.histories.sequences import SKIPPED_MAX
from hwmark.checkers.histories.stretches import stable_order
from hwmark.checkers.histories.text import describe
from hwmark.traces.history import History
from hwmark.traces.history_picture import draw_history
from hwmark.traces.history_records import parse_lines
from hypothesis import given, settings
from hypothesis import strategies as st

RECORDED = sorted((Path(__file__).parents[1] / "traces" / "recorded").glob("*.jsonl"))

Record = dict[str, Any]


def read(records: list[Record]) -> History:
    return parse_lines([orjson.dumps(record) + b"\n" for record in records], "history")


def judge(records: list[Record]) -> HistoryReport:
    return check(read(records))


def assert_agree(records: list[Record]) -> None:
    report = judge(records)
    assert facts(report.anomalies) == check_plain(records)
    assert_lags_agree(records)
    expected = plain_consume_counts(records)
    distribution = {str(times): number for times, number in Counter(expected.values()).items()}
    repeated = {(a["process"], str(a["key"]), a["value"]): a["count"] for a in report.consume_counts["repeated"]}
    assert report.consume_counts["distribution"] == distribution
    assert repeated == {pair: count for pair, count in expected.items() if count > 1}
    assert report.info_txn_causes == sorted({told(r["error"]) for r in records if is_doubtful(r) and "error" in r})


def is_doubtful(record: Record) -> bool:
    return record["type"] == "info" and record["f"] in ("send", "poll", "txn")


def told(error: Any) -> str:
    return error if isinstance(error, str) else json.dumps(error, separators=(",", ":"))


def assert_lags_agree(records: list[Record]) -> None:
    for compat in (False, True):
        expected = plain_lags(records, compat=compat)
        history = read(records)
        lags = RealtimeLag(Evidence(history), compat=compat)
        series = lags.series()
        columns = (series.time.tolist(), series.process.tolist(), series.key.tolist(), series.lag.tolist())
        found = [(time, process, str(history.keys[key]), lag) for time, process, key, lag in zip(*columns, strict=True)]
        assert sorted(found) == sorted(expected)
        worst = lags.worst()
        assert (worst is None) == (not expected)
        if worst is not None:
            first = max(expected, key=lambda lag: lag[3])
            assert (worst["time"], worst["process"], worst["lag"]) == (first[0], first[1], first[3])
            assert (worst["time"], worst["process"], str(worst["key"]), worst["lag"]) in expected


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_twins_agree_on_recordings(path: Path) -> None:
    assert_agree([json.loads(line) for line in path.read_text().splitlines()])


keys = st.integers(0, 1)
values = st.integers(0, 5)


@st.composite
def messages(draw: st.DrawFn) -> list[Any]:
    """A value with its offset: mostly one that belongs to the value, so that the log is no mere chaos."""
    value = draw(values)
    return [draw(st.sampled_from([value, value, value, 6 - value, None, 30_000_000])), value]


# Stretches of the log as it should be, besides anything at all.
reads = st.one_of(
    st.lists(messages(), max_size=4),
    st.tuples(values, st.integers(1, 3)).map(lambda run: [[v, v] for v in range(run[0], run[0] + run[1])]),
)


@st.composite
def micro_operations(draw: st.DrawFn, function: str) -> tuple[list[Any], list[Any]]:
    """The micro-operations of one operation as invoked and as completed."""
    invoked: list[Any] = []
    completed: list[Any] = []
    kinds = {"send": st.just(True), "poll": st.just(False), "txn": st.booleans()}[function]
    for is_send in draw(st.lists(kinds, min_size=1, max_size=3)):
        if is_send:
            key, message = draw(keys), draw(messages())
            invoked.append(["send", key, message[1]])
            completed.append(["send", key, draw(st.sampled_from([message, message[1]]))])
        else:
            invoked.append(["poll"])
            read = {str(k): draw(reads) for k in draw(st.lists(keys, unique=True, max_size=2))}
            completed.append(draw(st.sampled_from([["poll", read], ["poll", read], ["poll", read], ["poll"]])))
    return invoked, completed


@st.composite
def data_operations(draw: st.DrawFn) -> tuple[Record, list[Any], Record]:
    """What both records of a data operation share, what was asked, and what its completion adds."""
    function = draw(st.sampled_from(["txn", "send", "poll", "poll"]))
    invoked, completed = draw(micro_operations(function))
    common: Record = {"f": function}
    if function == "poll":
        mark = draw(st.sampled_from([None, None, "read_committed", "read_uncommitted"]))
        common |= {"final": mark} if mark else {}
    answer: Record = {"value": completed}
    if draw(st.integers(0, 4)) == 0:
        answer["rebalance-log"] = [{"keys": [key]} for key in draw(st.lists(keys, max_size=2))]
    return common, invoked, answer


@st.composite
def histories(draw: st.DrawFn) -> list[Record]:
    """Small histories with overlapping operations of all kinds and ends; every value is sent by somebody."""
    sends = [["send", k, v] for k in range(2) for v in range(9)]
    records: list[Record] = [{"process": 9, "f": "send", "type": "invoke", "value": sends}]
    pending: dict[int, Record] = {}
    ends = st.sampled_from(["ok", "ok", "ok", "ok", "fail", "info"])
    for process in draw(st.lists(st.sampled_from([0, 0, 0, 0, 1]), min_size=16, max_size=32)):
        if process in pending:
            end: Record = {"type": draw(ends)}
            if end["type"] != "ok":
                end["error"] = draw(st.sampled_from(["timeout", ["fenced", 7]]))
            records.append(pending.pop(process) | end)
            continue
        if draw(st.integers(0, 5)) == 0:
            named = draw(st.lists(keys, max_size=2))
            common: Record = {"f": draw(st.sampled_from(["assign", "subscribe"])), "value": named}
            asked, answer = named, common
        else:
            common, asked, answer = draw(data_operations())
        records.append({"process": process, "type": "invoke"} | common | {"value": asked})
        pending[process] = {"process": process} | common | answer
    times = sorted(draw(st.lists(st.integers(0, 40), min_size=len(records), max_size=len(records))))
    return [record | {"index": i, "time": times[i]} for i, record in enumerate(records)]


@given(histories())
def test_twins_agree_on_random_histories(records: list[Record]) -> None:
    assert_agree(records)


@given(histories())
def test_any_history_can_be_told_and_drawn(records: list[Record]) -> None:
    history = read(records)
    report = check(history)
    text, picture = describe(history, report), draw_history(history, report.to_json())
    assert all(name in text for name in report.error_types)
    assert ("INVALID" in text) == ("INVALID" in picture) == (not report.valid)
    orjson.dumps(report.to_json())


def test_random_histories_reach_every_anomaly() -> None:
    reached: set[str] = set()

    @settings(derandomize=True)
    @given(histories())
    def collect(records: list[Record]) -> None:
        reached.update(check_plain(records))
        lags = plain_lags(records)
        reached.update({"lag"} if any(lag[3] for lag in lags) else set())
        reached.update({"quirk of the lag"} if lags != plain_lags(records, compat=True) else set())
        reached.update({"repeated"} if max(plain_consume_counts(records).values(), default=0) > 1 else set())

    collect()
    # The generator has somebody send every value; the reference's cases and its corner cases reach the other.
    assert reached == {*WORDS, "unseen", "lag", "quirk of the lag", "repeated"} - {"no-writer-of-value"}


def completed(process: int, function: str, asked: list[Any], answer: list[Any]) -> list[Record]:
    return [
        {"process": process, "type": kind, "f": function, "value": value, "time": 0}
        for kind, value in (("invoke", asked), ("ok", answer))
    ]


def test_long_skips_are_listed_up_to_a_limit_and_counted_in_full() -> None:
    sent = [["send", 0, [value, value]] for value in range(300)]
    answer = [["poll", {"0": [[0, 0], [299, 299]]}]]
    records = completed(0, "send", [["send", 0, v] for v in range(300)], sent) + completed(
        1, "poll", [["poll"]], answer
    )
    (skip,) = judge(records).anomalies["int-poll-skip"]
    assert skip["delta"] == 299 and skip["skipped"] == list(range(1, 1 + SKIPPED_MAX))


def test_offsets_far_apart_cost_nothing() -> None:
    far = 2**62
    sent = [["send", 0, [offset, offset]] for offset in (0, 30_000_000, far)]
    answer = [["poll", {"0": [[0, 0], [far, far]]}]]
    asked = [["send", 0, message[2][1]] for message in sent]
    records = completed(0, "send", asked, sent) + completed(1, "poll", [["poll"]], answer)
    history = read(records)
    tracemalloc.start()
    report = check(history)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000
    assert [a["skipped"] for a in report.anomalies["int-poll-skip"]] == [[30_000_000]]
    assert report.worst_realtime_lag == {"time": 0, "process": 1, "key": 0, "lag": 0}


@given(st.sampled_from([1, 2**16, 2**16 + 1, 2**33]), st.data())
def test_stable_order_is_a_stable_sort(below: int, data: st.DataObject) -> None:
    """Many processes and keys make more threads than one digit has."""
    near = st.sampled_from([0, 2**16 - 1, 2**16, 2**16 + 1, 2**32, below - 1]).filter(lambda n: n < below)
    numbers = np.array(data.draw(st.lists(near | st.integers(0, below - 1), max_size=40)), dtype=np.int64)
    assert stable_order(numbers, below).tolist() == np.argsort(numbers, kind="stable").tolist()


def test_of_equal_lags_the_first_is_told() -> None:
    """Also if its process polls again within the same nanosecond, after somebody else."""
    known = completed(9, "send", [["send", 0, 0], ["send", 0, 1]], [["send", 0, [0, 0]], ["send", 0, [1, 1]]])
    polls = [
        record | {"time": 5}
        for process, read in ((1, {"0": [[0, 0]]}), (2, {"0": [[0, 0]]}), (1, {}))
        for record in completed(process, "poll", [["poll"]], [["poll", read]])
    ]
    assert judge(known + polls).worst_realtime_lag == {"time": 5, "process": 1, "key": 0, "lag": 5}
    assert_lags_agree(known + polls)


def test_whether_the_closing_read_ended_is_a_matter_of_order_where_clocks_stand_still() -> None:
    send = {"process": 1, "f": "txn", "value": [["send", 0, [0, 7]]]}
    poll = {"process": 0, "f": "poll", "value": [["poll", {}]], "final": "read_committed"}
    types = (send, "invoke"), (poll, "invoke"), (poll, "ok"), (send, "ok"), (poll, "invoke"), (poll, "fail")
    records = [{**record, "type": type, "index": i, "time": 0} for i, (record, type) in enumerate(types)]
    for record in records:
        if record["type"] == "invoke":
            record["value"] = [["send", 0, 7]] if record["f"] == "txn" else [["poll"]]
    assert_agree(records)
    assert "missing-from-final-read" in judge(records).not_checked
