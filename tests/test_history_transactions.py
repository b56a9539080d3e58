"""Torn transactions, aborted values that somebody was handed, and what consumer groups processed."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import orjson
import pytest
from hwmark.checkers.histories import HistoryReport, check
from hwmark.checkers.histories.kinds import KINDS
from hwmark.traces.history import read_history
from hwmark.traces.history_records import parse_lines
from hypothesis import given
from hypothesis import strategies as st

RECORDED = Path(__file__).parents[1] / "traces" / "recorded"
GROUP_TYPES = ("processed-twice", "processed-never", "group-offset-back")

Record = dict[str, Any]


def judge(records: list[Record]) -> HistoryReport:
    return check(parse_lines([orjson.dumps(record) + b"\n" for record in records], "history"))


def found(records: list[Record]) -> dict[str, int]:
    return {name: len(instances) for name, instances in judge(records).anomalies.items()}


def invoked(micro: list[Any]) -> list[Any]:
    """A micro-operation before its answer."""
    if micro[0] == "poll":
        return ["poll"]
    if micro[0] == "send":
        return ["send", micro[1], micro[2][1] if isinstance(micro[2], list) else micro[2]]
    return [*micro[:2], {}]


class Recording:
    """Writes records, one operation after the other unless told otherwise."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def write(self, process: int, kind: str, function: str, value: Any, **more: Any) -> None:
        index = len(self.records)
        record = {"process": process, "type": kind, "f": function, "value": value}
        self.records.append(record | {"index": index, "time": index} | more)

    def run(self, process: int, kind: str, function: str, *micro: Any, **more: Any) -> int:
        """An operation of which nothing overlaps; the index of its completion."""
        self.write(process, "invoke", function, [invoked(m) for m in micro], **more)
        self.write(process, kind, function, list(micro))
        return len(self.records) - 1

    def close(self, answer: dict[str, Any], keys: list[int] | None = None) -> None:
        if keys is not None:
            self.write(90, "invoke", "assign", keys, final="read_committed")
            self.write(90, "ok", "assign", keys, final="read_committed")
        self.run(90, "ok", "poll", ["poll", answer], final="read_committed")


# Torn transactions.


@pytest.mark.parametrize(
    ("name", "torn"), [("lossy-k3-unclean", 1), ("lossy-k4-powerfail-acksall", 3), ("lossy-k4-ack1-part", 0)]
)
def test_torn_transactions_of_real_clusters(name: str, torn: int) -> None:
    report = check(read_history(RECORDED / f"{name}.jsonl"))
    instances = report.anomalies.get("torn-transaction", [])
    assert len(instances) == torn
    missing = {(a["key"], a["value"]) for a in report.anomalies["missing-from-final-read"]}
    for instance in instances:
        assert instance["outcome"] == "ok" and instance["present"]
        assert {(m["key"], m["value"]) for m in instance["lost"]} <= missing


def two_sends(kind: str, *, abort: bool = False, answer: dict[str, Any], keys: list[int] | None = None) -> Recording:
    recording = Recording()
    marks = {"abort": True} if abort else {}
    recording.run(0, kind, "txn", ["send", 0, [0, 1]], ["send", 1, [0, 2]], ["send", 1, [1, 3]], **marks)
    recording.close(answer, keys)
    return recording


HALF = {"0": [[0, 1]], "1": [[1, 3]]}


def test_torn_transaction_says_what_is_there_and_what_is_lost() -> None:
    report = judge(two_sends("ok", answer=HALF).records)
    (torn,) = report.anomalies["torn-transaction"]
    assert torn["writer"] == 1 and torn["closing"] == [3]
    assert torn["present"] == [{"key": 0, "value": 1, "offset": 0}, {"key": 1, "value": 3, "offset": 1}]
    assert torn["lost"] == [{"key": 1, "value": 2, "offset": 0}]
    assert KINDS["torn-transaction"].sentence(torn) == (
        "the closing read has value 1 of key 0 and lacks value 2 of key 1, which operation 1 sent in one transaction"
    )


@pytest.mark.parametrize("kind", ["ok", "info"])
def test_transaction_is_torn_whatever_its_client_was_told(kind: str) -> None:
    assert found(two_sends(kind, answer=HALF).records)["torn-transaction"] == 1


def test_failed_transaction_of_which_something_is_visible_is_an_aborted_read() -> None:
    assert found(two_sends("fail", answer=HALF).records) == {"G1a": 2}


@pytest.mark.parametrize("answer", [{}, {"0": [[0, 1]], "1": [[0, 2], [1, 3]]}])
def test_whole_transactions_are_not_torn(answer: dict[str, Any]) -> None:
    for kind in ("ok", "info"):
        assert "torn-transaction" not in found(two_sends(kind, answer=answer).records)


def test_partition_that_the_closing_read_did_not_cover_tears_nothing() -> None:
    answer = {"0": [[0, 1]]}
    assert "torn-transaction" not in found(two_sends("info", answer=answer, keys=[0]).records)
    assert found(two_sends("ok", answer=answer, keys=[0]).records).keys() == {"unseen"}
    assert found(two_sends("info", answer=answer, keys=[0, 1]).records)["torn-transaction"] == 1


def test_without_a_closing_read_nobody_says_torn() -> None:
    recording = Recording()
    recording.run(0, "ok", "txn", ["send", 0, [0, 1]], ["send", 1, [0, 2]])
    recording.run(1, "ok", "poll", ["poll", {"0": [[0, 1]]}])
    report = judge(recording.records)
    assert "torn-transaction" not in report.anomalies and "closing read" in report.not_checked["torn-transaction"]


# Aborted values.


@pytest.mark.parametrize(
    ("writer", "abort", "reader", "expected"),
    [
        ("fail", False, "ok", {"G1a"}),
        ("fail", True, "ok", {"G1a"}),
        ("fail", False, "fail", {"aborted-visible"}),
        ("fail", False, "info", {"aborted-visible"}),
        ("info", True, "ok", {"aborted-visible"}),
        ("info", True, "fail", {"aborted-visible"}),
        ("info", False, "ok", set()),
        ("ok", True, "ok", set()),
    ],
)
def test_each_read_of_an_aborted_value_is_told_once(writer: str, abort: bool, reader: str, expected: set[str]) -> None:
    recording = Recording()
    recording.run(0, writer, "txn", ["send", 0, 1], **({"abort": True} if abort else {}))
    recording.run(1, reader, "poll", ["poll", {"0": [[0, 1]]}])
    told = judge(recording.records).anomalies
    assert told.keys() & {"G1a", "aborted-visible"} == expected
    for instance in told.get("aborted-visible", []):
        assert (instance["writer"], instance["reader"], instance["reads"]) == (1, 3, 1)


def test_closing_read_is_a_reader_of_aborted_values_and_the_raw_one_is_not() -> None:
    for final, expected in (("read_committed", {"aborted-visible"}), ("read_uncommitted", set())):
        recording = Recording()
        recording.run(0, "info", "txn", ["send", 0, 1], abort=True)
        recording.run(1, "ok", "poll", ["poll", {"0": [[0, 1]]}], final=final)
        assert found(recording.records).keys() & {"aborted-visible"} == expected


def test_power_failure_needs_no_second_name_for_its_aborted_value() -> None:
    report = check(read_history(RECORDED / "lossy-k4-powerfail-acksall.jsonl"))
    assert len(report.anomalies["G1a"]) == 3 and "aborted-visible" not in report.anomalies


# Consumer groups: the plain twin.


def operations_of(records: list[Record]) -> list[Record]:
    """Completed operations and, last, those left open; each knows when it began and ended."""
    opened: dict[int, Record] = {}
    done: list[Record] = []
    for place, record in enumerate(records):
        if record["type"] == "invoke":
            opened[record["process"]] = record | {"began": place}
        else:
            done.append(record | {"began": opened.pop(record["process"])["began"], "ended": place})
    return done + [r | {"type": "info", "ended": float("inf")} for r in opened.values()]


def sends(op: Record) -> list[tuple[str, Any]]:
    return [(str(m[1]), m[2][1] if isinstance(m[2], list) else m[2]) for m in op["value"] if m[0] == "send"]


def reads(op: Record) -> list[tuple[str, int, Any]]:
    """What an operation polled: key, offset, value."""
    polls = [m[1] for m in op["value"] if m[0] == "poll" and len(m) == 2]
    return [(key, offset, value) for poll in polls for key, ms in poll.items() for offset, value in ms]


def commits(op: Record) -> dict[tuple[str, str], int]:
    """The offsets that an operation commits: group and key to offset."""
    return {(m[1], str(k)): n for m in op["value"] if m[0] == "send_offsets" for k, n in m[2].items()}


def plain(records: list[Record]) -> dict[str, set[tuple[Any, ...]]]:
    """The three types by their definitions, one group, key, record and commit at a time."""
    ops = operations_of(records)
    ok_read = {(k, v) for op in ops if op["type"] == "ok" for k, _, v in reads(op)}
    certain = [op for op in ops if op["type"] == "ok" or (op["type"] == "info" and set(sends(op)) & ok_read)]
    maybe = [op for op in ops if op["type"] != "fail"]
    visible = {(k, o, v) for op in ops if op["type"] == "ok" for k, o, v in reads(op)}
    twice, never, back = set(), set(), set()
    for group, key in {gk for op in certain for gk in commits(op)}:
        mine = [op for op in certain if (group, key) in commits(op)]
        offset = {op["index"]: commits(op)[group, key] for op in mine}
        done = defaultdict(set)
        for op in mine:
            for k, o, v in reads(op):
                if k == key and o < offset[op["index"]]:
                    done[o, v].add(op["index"])
        twice |= {(group, key, o, v, tuple(sorted(by))) for (o, v), by in done.items() if len(by) > 1}
        for op in mine:
            before = [offset[b["index"]] for b in mine if b["type"] == "ok" and b["ended"] < op["began"]]
            if before and max(before) > offset[op["index"]]:
                back.add((group, key, op["index"], max(before)))
            start = min(before + [o for k, o, _ in reads(op) if k == key], default=10**9)
            for _, o, v in [
                record for record in visible if record[0] == key and start <= record[1] < offset[op["index"]]
            ]:
                if not any(may_process(other, group, (key, v), op, ops) for other in maybe):
                    never.add((group, key, o, v))
    return {"processed-twice": twice, "processed-never": never, "group-offset-back": back}


def may_process(op: Record, group: str, message: tuple[str, Any], past: Record, ops: list[Record]) -> bool:
    """Whether an operation that may have committed may have processed a message before it was passed over."""
    polled = message in {(k, v) for k, _, v in reads(op)}
    of_group, of_any = group in {g for g, _ in commits(op)}, bool(commits(op))
    if op["type"] == "ok":
        return polled and of_group
    if op["f"] != "txn" or (of_any and not of_group):
        return False
    is_blind = not any(micro[0] == "poll" and micro[1:] not in ([], [{}]) for micro in op["value"])
    existed = min(o["began"] for o in ops if message in sends(o)) < op["ended"]
    return polled or (is_blind and existed and op["began"] < past["ended"])


def columns(records: list[Record]) -> dict[str, set[tuple[Any, ...]]]:
    """The report in the words of the twin."""
    told = judge(records).anomalies
    place = ("group", "key", "offset", "value")

    def words(name: str, *fields: str) -> set[tuple[Any, ...]]:
        facts = [tuple(str(a[f]) if f == "key" else a[f] for f in fields) for a in told.get(name, [])]
        assert len(set(map(repr, facts))) == len(facts)
        return {tuple(tuple(f) if isinstance(f, list) else f for f in fact) for fact in facts}

    return {
        "processed-twice": words("processed-twice", *place, "processed_by"),
        "processed-never": words("processed-never", *place),
        "group-offset-back": words("group-offset-back", "group", "key", "writer", "previous"),
    }


# Consumer groups: a simulation of producers, and of consumers that transform and produce in transactions.


class Simulation:
    """Two partitions with gaps; members of a group that take turns, with or without faults of their own."""

    def __init__(self, seed: int, damage: str = "") -> None:
        self.random, self.recording, self.damage = Random(seed), Recording(), damage
        self.log: dict[int, list[tuple[int, int]]] = {0: [], 1: []}
        self.end = {0: self.random.randrange(5), 1: 0}
        self.value = 0
        self.committed: dict[int, int] = {}
        self.process = 10

    def run(self, turns: int = 25) -> list[Record]:
        for _ in range(turns):
            self.produce() if self.random.random() < 0.5 else self.consume()
        everything = {str(key): [list(m) for m in log] for key, log in self.log.items()}
        self.recording.run(90, "ok", "poll", ["poll", everything], final="read_committed")
        return self.recording.records

    def produce(self) -> None:
        key, self.value = self.random.randrange(2), self.value + 1
        kind = self.random.choice(["ok", "ok", "fail", "info"])
        offset = self.end[key]
        self.end[key] += self.random.choice([1, 1, 2, 3])
        if kind == "ok" or (kind == "info" and self.random.random() < 0.5):
            self.log[key].append((offset, self.value))
        micro = ["send", key, [offset, self.value] if kind == "ok" else self.value]
        self.recording.run(self.random.randrange(3), kind, self.random.choice(["send", "txn"]), micro)

    def consume(self) -> None:
        """One transaction: poll from the committed offset, produce, commit; in the end it did commit, or did not."""
        key = self.random.randrange(2)
        start = self.committed.get(key, self.end[key] if self.random.random() < 0.3 else 0)
        start = self.damaged(start)
        polled = [m for m in self.log[key] if m[0] >= start][: self.random.randrange(1, 4)]
        after = polled[-1][0] + 1 if polled else start
        kind = self.random.choice(["ok", "ok", "ok", "fail", "info"])
        commits = kind == "ok" or (kind == "info" and self.random.random() < 0.5)
        self.value += 1
        output = 1 - key
        offset, self.end[output] = self.end[output], self.end[output] + 2
        micro = [
            ["poll", {str(key): [list(m) for m in polled]}],
            ["send", output, [offset, self.value] if kind == "ok" else self.value],
            ["send_offsets", "g", {str(key): after}],
        ]
        if kind == "info" and self.random.random() < 0.3:
            micro = [["poll"], micro[1]]
        self.recording.run(self.process, kind, "txn", *micro)
        if kind == "info":
            self.process += 10
        if commits:
            self.committed[key] = after
            self.log[output].append((offset, self.value))

    def damaged(self, start: int) -> int:
        """Where a broken member begins."""
        if self.random.random() < 0.7 or not self.damage:
            return start
        return max(0, start + {"rewinds": -2, "skips": 3, "wanders": self.random.randrange(-4, 5)}[self.damage])


@given(st.integers(0, 10**9))
def test_sound_members_of_a_group_are_never_accused(seed: int) -> None:
    assert not judge(Simulation(seed).run()).anomalies.keys() & set(GROUP_TYPES)


def overlapping(records: list[Record], swaps: int, random: Random) -> list[Record]:
    """The records with neighbours of different processes changing places; some operations are left open."""
    records = list(records)
    for at in [random.randrange(len(records) - 1) for _ in range(swaps)]:
        if records[at]["process"] != records[at + 1]["process"]:
            records[at], records[at + 1] = records[at + 1], records[at]
    last = {record["process"]: at for at, record in enumerate(records)}
    left_open = {at for at in last.values() if random.random() < 0.3}
    kept = [record for at, record in enumerate(records) if at not in left_open]
    return [record | {"index": at, "time": at} for at, record in enumerate(kept)]


@given(st.integers(0, 10**9), st.sampled_from(["rewinds", "skips", "wanders"]), st.sampled_from([0, 0, 30, 300]))
def test_columns_agree_with_the_plain_twin(seed: int, damage: str, swaps: int) -> None:
    records = overlapping(Simulation(seed, damage).run(), swaps, Random(seed))
    assert columns(records) == plain(records)


def test_few_operations_show_what_a_group_did(shown: ModuleType) -> None:
    seen: Counter[str] = Counter()
    for seed in range(120):
        records = Simulation(seed, ["rewinds", "skips", "wanders"][seed % 3]).run()
        seen += shown.assert_shown(records, GROUP_TYPES)
    assert seen.keys() == set(GROUP_TYPES) and min(seen.values()) > 10


def test_few_operations_show_a_torn_and_a_visible_transaction(shown: ModuleType) -> None:
    torn = two_sends("info", answer=HALF, keys=[0, 1])
    torn.run(3, "info", "txn", ["send", 0, 9], abort=True)
    torn.run(4, "ok", "poll", ["poll", {"0": [[7, 9]]}])
    assert shown.assert_shown(torn.records, ("torn-transaction", "aborted-visible")).total() == 2


def test_damage_is_called_by_its_names() -> None:
    names: dict[str, Counter[str]] = defaultdict(Counter)
    for damage in ("rewinds", "skips"):
        for seed in range(60):
            names[damage].update(judge(Simulation(seed, damage).run()).anomalies.keys() & set(GROUP_TYPES))
    assert names["rewinds"]["processed-twice"] > 10 and names["skips"]["processed-never"] > 10
    assert names["rewinds"]["group-offset-back"] > 0 and not names["skips"]["processed-twice"]


def test_the_last_offset_that_a_transaction_names_is_the_one_it_commits() -> None:
    recording = Recording()
    recording.run(0, "ok", "send", ["send", 0, [0, 1]], ["send", 0, [1, 2]])
    for process, offsets in ((1, (1, 2)), (2, (2,))):
        read = [[0, 1], [1, 2]] if process == 1 else [[1, 2]]
        commits = [["send_offsets", "g", {"0": offset}] for offset in offsets]
        recording.run(process, "ok", "txn", ["poll", {"0": read}], ["send", 1, [process, process]], *commits)
    (twice,) = judge(recording.records).anomalies["processed-twice"]
    assert twice["value"] == 2
    first = judge([*recording.records[:3], swapped(recording.records[3]), *recording.records[4:]])
    assert "processed-twice" not in first.anomalies


def swapped(record: Record) -> Record:
    """A transaction that names its last two offsets the other way round."""
    *rest, last, before = record["value"]
    return record | {"value": [*rest, before, last]}
