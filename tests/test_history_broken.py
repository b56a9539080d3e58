"""Valid recordings broken on purpose: each kind of damage is called by its name, and by no other.

What is damaged is out of sequence too, for everybody who read past it: such skips and steps back must all name it.
"""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from hwmark.checkers.histories import HistoryReport, check
from hwmark.checkers.histories.sequences import SEQUENCE_TYPES
from hwmark.traces.history_records import parse_lines
from hypothesis import given
from hypothesis import strategies as st

RECORDED = Path(__file__).parents[1] / "traces" / "recorded"
VALID = sorted(path.stem for path in RECORDED.glob("valid-*.jsonl"))
DAMAGED = ["valid-k4-laststand-elr-acksall", "valid-k4-shorttimeout"]

Record = dict[str, Any]
Message = tuple[str, int]


@functools.cache
def recording(name: str) -> bytes:
    """A recording as one JSON list."""
    return b"[" + b",".join((RECORDED / f"{name}.jsonl").read_bytes().splitlines()) + b"]"


def fresh(name: str) -> list[Record]:
    """The records of a recording, to be damaged."""
    return orjson.loads(recording(name))  # type: ignore[no-any-return]


def judge(records: list[Record]) -> HistoryReport:
    return check(parse_lines([orjson.dumps(record) + b"\n" for record in records], "broken"))


def found(records: list[Record]) -> dict[str, int]:
    return {name: len(instances) for name, instances in judge(records).anomalies.items()}


def found_besides(report: HistoryReport, damaged: int) -> dict[str, int]:
    """What was found, but for what must follow: skips and steps back that name a value, and its torn transaction."""
    counts = {
        name: sum(damaged not in follows(name, anomaly) for anomaly in anomalies)
        for name, anomalies in report.anomalies.items()
    }
    return {name: count for name, count in counts.items() if count}


def follows(name: str, anomaly: dict[str, Any]) -> list[int]:
    """The values of an anomaly that follows from others."""
    if name == "torn-transaction":
        return [message["value"] for message in anomaly["lost"]]
    return anomaly["values"] + anomaly.get("skipped", []) if name in SEQUENCE_TYPES else []


def polls(records: list[Record], final: str | None = "any") -> Iterator[dict[str, list[list[int]]]]:
    """The answers of the completed polls, all or those with this mark."""
    for record in records:
        if record["f"] == "poll" and record["type"] == "ok" and final in ("any", record.get("final")):
            yield record["value"][0][1]


def sends(records: list[Record], kind: str) -> Iterator[list[Any]]:
    """The completed sends of the operations that ended so."""
    for record in records:
        if record["type"] == kind and record["f"] in ("send", "txn"):
            yield from record["value"]


def drop(answers: Iterator[dict[str, list[list[int]]]], key: str, value: int) -> int:
    """Take a value out of the answers; how often it was there."""
    dropped = 0
    for answer in answers:
        kept = [message for message in answer.get(key, []) if message[1] != value]
        dropped += len(answer.get(key, [])) - len(kept)
        if key in answer:
            answer[key] = kept
    return dropped


def reads(records: list[Record]) -> Counter[Message]:
    """How often each message was read by ordinary clients."""
    return Counter((key, m[1]) for answer in polls(records, None) for key, ms in answer.items() for m in ms)


def acknowledged(records: list[Record]) -> list[tuple[str, int, int]]:
    """Key, offset and value of the acknowledged sends."""
    return [(str(key), *payload) for _, key, payload in sends(records, "ok")]


def without_closing_read(records: list[Record]) -> list[Record]:
    return [record for record in records if "final" not in record]


@pytest.mark.parametrize("name", VALID)
def test_undamaged_recording_is_valid(name: str) -> None:
    assert found(fresh(name)) == {}


@given(st.sampled_from(DAMAGED), st.data())
def test_value_gone_from_the_closing_read(name: str, data: st.DataObject) -> None:
    records = fresh(name)
    seen = reads(records)
    key, offset, value = data.draw(st.sampled_from([m for m in acknowledged(records) if seen[m[0], m[2]]]))
    assert drop(polls(records, "read_committed"), key, value) == 1
    report = judge(records)
    assert found_besides(report, value) == {"missing-from-final-read": 1}
    missing = report.anomalies["missing-from-final-read"][0]
    assert (str(missing["key"]), missing["offset"], missing["value"]) == (key, offset, value)


@given(st.sampled_from(DAMAGED), st.data())
def test_value_never_read_by_anybody(name: str, data: st.DataObject) -> None:
    records = fresh(name)
    last = {key: offset for key, offset, _ in sorted(acknowledged(records))}
    key, _, value = data.draw(st.sampled_from([m for m in acknowledged(records) if m[1] < last[m[0]]]))
    drop(polls(records), key, value)
    report = judge(records)
    assert found_besides(report, value) == {"missing-from-final-read": 1, "lost-write": 1, "unseen": 1}


@given(st.sampled_from(DAMAGED))
def test_last_value_of_a_partition_never_read(name: str) -> None:
    records = without_closing_read(fresh(name))
    seen = [(key, m) for answer in polls(records) for key, messages in answer.items() for m in messages]
    unread = {(key, value) for key, _, value in acknowledged(records)} - {(key, m[1]) for key, m in seen}
    assert found(records) == ({"unseen": 1} if unread else {})
    key, (_, value) = max(seen, key=lambda message: message[1][0])
    drop(polls(records), key, value)
    report = judge(records)
    assert set(report.anomalies) == {"unseen"} and value in report.anomalies["unseen"][0]["messages"][key]
    assert "missing-from-final-read" in report.not_checked


@given(st.sampled_from(DAMAGED), st.data())
def test_value_at_a_second_offset(name: str, data: st.DataObject) -> None:
    records = fresh(name)
    key, offset, value = data.draw(st.sampled_from(acknowledged(records)))
    far = data.draw(st.sampled_from([30_000_000, 2**62]))
    next(polls(records, "read_committed")).setdefault(key, []).append([far, value])
    report = judge(records)
    assert found_besides(report, value) == {"duplicate": 1}
    assert report.anomalies["duplicate"][0]["offsets"] == [offset, far]


@given(st.sampled_from(DAMAGED), st.data())
def test_value_moved_onto_its_neighbour(name: str, data: st.DataObject) -> None:
    records = fresh(name)
    messages = sorted(acknowledged(records))
    pairs = [(a, b) for a, b in itertools.pairwise(messages) if a[0] == b[0]]
    (key, taken, _), (_, _, value) = data.draw(st.sampled_from(pairs))
    for answer in polls(records):
        for message in answer.get(key, []):
            message[0] = taken if message[1] == value else message[0]
    for _, sent_key, payload in sends(records, "ok"):
        if str(sent_key) == key and payload[1] == value:
            payload[0] = taken
    assert found(records) == {"inconsistent-offsets": 1}


@given(st.sampled_from(DAMAGED), st.data())
def test_offset_disagrees_with_the_acknowledged_one(name: str, data: st.DataObject) -> None:
    records = fresh(name)
    key, _, value = data.draw(st.sampled_from(acknowledged(records)))
    for answer in polls(records, "read_uncommitted"):
        for message in answer.get(key, []):
            message[0] = 30_000_000 if message[1] == value else message[0]
    assert found(records) == {"duplicate": 1}


@given(st.just("valid-k4-shorttimeout"), st.data())
def test_aborted_value_read(name: str, data: st.DataObject) -> None:
    records = fresh(name)
    raw = {(k, m[1]): m[0] for answer in polls(records, "read_uncommitted") for k, ms in answer.items() for m in ms}
    failed = [(str(m[1]), m[2][1] if isinstance(m[2], list) else m[2]) for m in sends(records, "fail")]
    key, value = data.draw(st.sampled_from([message for message in failed if message in raw]))
    sent = next(i for i, record in enumerate(records) if ["send", int(key), value] in sends([record], "fail"))
    next(polls(records[sent:], None)).setdefault(key, []).append([raw[key, value], value])
    assert found_besides(judge(records), value) == {"G1a": 1}


@given(st.sampled_from(DAMAGED), st.data())
def test_value_passed_over(name: str, data: st.DataObject) -> None:
    """Somebody was not handed a value between others, and somebody else was."""
    records = fresh(name)
    answers = [
        (key, messages) for answer in polls(records, None) for key, messages in answer.items() if len(messages) > 2
    ]
    key, messages = data.draw(st.sampled_from(answers))
    (_, before), (_, value), (_, after) = messages[:3]
    del messages[1]
    (skip,) = judge(records).anomalies["int-poll-skip"]
    assert (str(skip["key"]), skip["values"], skip["skipped"]) == (key, [before, after], [value])
    assert found(records) == {"int-poll-skip": 1}


@given(st.sampled_from(DAMAGED), st.data())
def test_value_handed_out_twice(name: str, data: st.DataObject) -> None:
    records = fresh(name)
    answers = [(key, messages) for answer in polls(records, None) for key, messages in answer.items() if messages]
    key, messages = data.draw(st.sampled_from(answers))
    messages.insert(0, messages[0])
    (again,) = judge(records).anomalies["int-nonmonotonic-poll"]
    assert (str(again["key"]), again["values"], again["delta"]) == (key, 2 * [messages[0][1]], 0)
    assert found(records) == {"int-nonmonotonic-poll": 1}


@given(st.sampled_from(DAMAGED), st.data())
def test_consumer_set_back(name: str, data: st.DataObject) -> None:
    """A poll returns what the same process' poll before had returned: it stood still, or went back."""
    records = fresh(name)
    done = [r for r in records if r["f"] == "poll" and r["type"] == "ok" and "final" not in r]
    pairs = [
        (a, b, key)
        for process in {r["process"] for r in done}
        for a, b in itertools.pairwise([r for r in done if r["process"] == process])
        for key in a["value"][0][1].keys() & b["value"][0][1].keys()
        if a["value"][0][1][key] and b["value"][0][1][key]
    ]
    earlier, later, key = data.draw(st.sampled_from(pairs))
    later["value"][0][1][key] = [list(message) for message in earlier["value"][0][1][key]]
    report = judge(records)
    steps = [a for a in report.anomalies["nonmonotonic-poll"] if a["ops"] == [earlier["index"], later["index"]]]
    assert [str(step["key"]) for step in steps] == [key]
    assert set(report.anomalies) <= {"nonmonotonic-poll", "poll-skip"}


def send(index: int, kind: str, *micro: Any, process: int = 0) -> Record:
    return {"process": process, "type": kind, "f": "txn", "value": list(micro), "time": index, "index": index}


def test_half_a_transaction_of_unknown_outcome_is_lost() -> None:
    """Nobody was promised anything, but one half that was read proves that the other was committed."""
    records = [
        send(0, "invoke", ["send", 0, 1], ["send", 0, 2]),
        send(1, "info", ["send", 0, [0, 1]], ["send", 0, [1, 2]]),
        send(2, "invoke", ["poll"], process=1),
        send(3, "ok", ["poll", {"0": [[1, 2]]}], process=1),
    ]
    assert found(records) == {"lost-write": 1}


def reader_of(kind: str) -> Callable[[dict[str, list[list[int]]]], list[Record]]:
    return lambda answer: [send(4, "invoke", ["poll"], process=1), send(5, kind, ["poll", answer], process=1)]


def test_reads_of_failed_operations_prove_offsets_only() -> None:
    """A failed transaction still was handed those messages, but its reads are no client's success."""
    written = [send(0, "invoke", ["send", 0, 1]), send(1, "fail", ["send", 0, 1])]
    other = [send(2, "invoke", ["send", 0, 2]), send(3, "ok", ["send", 0, [0, 2]])]
    answer = {"0": [[0, 1]]}
    assert found(written + other + reader_of("fail")(answer)) == {
        "inconsistent-offsets": 1,
        "unseen": 1,
        "aborted-visible": 1,
    }
    assert found(written + other + reader_of("ok")(answer)) == {
        "inconsistent-offsets": 1,
        "unseen": 1,
        "lost-write": 1,
        "G1a": 1,
    }


def test_unfinished_closing_read_is_not_held_against_the_recording() -> None:
    """A recorder that was stopped in the middle of its closing read proves no loss."""
    records = fresh("valid-k4-laststand-elr-acksall")
    first = next(i for i, r in enumerate(records) if r.get("final") == "read_committed" and r["f"] == "poll")
    report = judge(records[: first + 1])
    assert set(report.anomalies) <= {"unseen"}
    assert "closing read" in report.not_checked["missing-from-final-read"]


def test_closing_read_that_lost_a_whole_partition() -> None:
    records = fresh("valid-k4-laststand-elr-acksall")
    for answer in polls(records, "read_committed"):
        answer.pop("1", None)
    report = judge(records)
    assert set(report.anomalies) == {"missing-from-final-read"}
    assert len(report.anomalies["missing-from-final-read"]) == report.acknowledged["1"] > 0
