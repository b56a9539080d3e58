"""Explanations: what Z3 says of small histories is what trying every log and every outcome says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise, product
from pathlib import Path
from random import Random
from typing import Any

import hwmark.checkers.histories.explain as explain_module
import orjson
import pytest
from hwmark.checkers.cli import main
from hwmark.checkers.histories import check
from hwmark.checkers.histories.evidence import Evidence
from hwmark.checkers.histories.explain import COMMITTED, CONTRADICTION, EITHER, NOT_COMMITTED, Puzzle, explain
from hwmark.checkers.histories.explain_facts import Facts
from hwmark.checkers.histories.explain_slice import Surroundings, slice_around
from hwmark.checkers.histories.explain_text import describe_explanation
from hwmark.traces.history import History, read_history
from hwmark.traces.history_records import parse_lines
from hypothesis import given
from hypothesis import strategies as st

RECORDED = Path(__file__).parents[1] / "traces" / "recorded"

Record = dict[str, Any]
Message = tuple[str, Any]


def history_of(records: list[Record]) -> History:
    return parse_lines([orjson.dumps(record) + b"\n" for record in records], "history")


# The plain twin: every outcome, every presence and every place.


class Plain:
    """A history of one partition as operations with what they sent and read; the closing read is one poll."""

    def __init__(self, records: list[Record]) -> None:
        opened: dict[int, tuple[int, Record]] = {}
        self.ops: dict[int, Record] = {}
        for place, record in enumerate(records):
            if record["type"] == "invoke":
                opened[record["process"]] = place, record
                continue
            began, invocation = opened.pop(record["process"])
            self.ops[record["index"]] = {"abort": False} | invocation | record | {"began": began, "ended": place}
        for began, record in opened.values():
            self.ops[record["index"]] = {"abort": False} | record | {"type": "info", "began": began, "ended": 10**9}
        for op in self.ops.values():
            op["sends"] = [_payload(m[2]) for m in op["value"] if m[0] == "send"]
            polls = [m[1] for m in op["value"] if m[0] == "poll" and len(m) == 2]
            op["reads"] = [(value, offset) for poll in polls for offset, value in poll.get("0", [])]
        self.values = sorted({v for op in self.ops.values() for v, _ in op["sends"] + op["reads"]})
        self.writers = {v: [i for i, op in self.ops.items() if v in dict(op["sends"])] for v in self.values}
        self.closing = next((i for i, op in self.ops.items() if op.get("final")), None)
        self.unknown = [i for i, op in self.ops.items() if op["type"] == "info" and op["sends"]]

    def explicable(self, active: set[int], fixed: dict[int, bool]) -> bool:
        """Whether some log agrees with what the active operations say, with these outcomes."""
        places = [self.places(value, active) for value in self.values]
        choices = [[fixed[i]] if i in fixed else [False, True] for i in self.unknown]
        for outcomes in product(*choices):
            committed = dict(zip(self.unknown, outcomes, strict=True))
            presence = [self.presences(value, active, committed) for value in self.values]
            for present in product(*presence):
                for at in product(*places):
                    log = {v: (p, o) for v, p, o in zip(self.values, present, at, strict=True)}
                    if all(self.agrees(log, op, active, committed) for op in sorted(active)) and is_log(log):
                        return True
        return False

    def places(self, value: Any, active: set[int]) -> list[int]:
        """Where a message can be: at the one offset that somebody saw, else anywhere."""
        told = {o for i in active for v, o in self.ops[i]["reads"] if v == value and o is not None}
        told |= {o for i in active if self.ops[i]["type"] == "ok" for v, o in self.ops[i]["sends"] if v == value} - {
            None
        }
        return list(range(11)) if not told else sorted(told)[:1] if len(told) == 1 else []

    def presences(self, value: Any, active: set[int], committed: dict[int, bool]) -> list[bool]:
        """Whether a message can be present, by its only sender."""
        if not self.writers[value]:
            return [False]
        (writer,) = self.writers[value]
        if writer not in active:
            return [False, True]
        return [{"ok": True, "fail": False}.get(self.ops[writer]["type"], committed.get(writer, False))]

    def agrees(
        self, log: dict[Any, tuple[bool, int]], index: int, active: set[int], committed: dict[int, bool]
    ) -> bool:
        """Whether a log is as an operation says."""
        op = self.ops[index]
        if op["type"] == "info" and op["sends"]:
            if op["abort"] and committed[index]:
                return False
            if any(log[v][0] and o is not None and log[v][1] != o for v, o in op["sends"]):
                return False
        present = {v: at for v, (is_present, at) in log.items() if is_present}
        if any(v not in present for v, _ in op["reads"]):
            return False
        polled = [v for v, _ in op["reads"]]
        before = self.before(index)
        if before is not None and before in active and polled:
            polled = [self.ops[before]["reads"][-1][0], *polled]
        for low, high in pairwise(polled):
            if not log[low][1] < log[high][1] or any(log[low][1] < at < log[high][1] for at in present.values()):
                return False
        sent = [v for v, _ in op["sends"]]
        if any(a in present and b in present and present[a] >= present[b] for a, b in pairwise(sent)):
            return False
        return self.in_time(log, index, active) and self.closed(log, index, active)

    def before(self, index: int) -> int | None:
        """The last acknowledged poll of the same process that read something."""
        mine = [i for i, op in self.ops.items() if op["process"] == self.ops[index]["process"] and i < index]
        return next(
            (i for i in sorted(mine, reverse=True) if self.ops[i]["type"] == "ok" and self.ops[i]["reads"]), None
        )

    def in_time(self, log: dict[Any, tuple[bool, int]], index: int, active: set[int]) -> bool:
        """Whether what an operation sent lies behind everything known before it began."""
        for i in active:
            if self.ops[i]["ended"] < self.ops[index]["began"]:
                known = [v for v, o in self.ops[i]["sends"] if o is not None and self.ops[i]["type"] == "ok"]
                for early, late in product(
                    known + [v for v, _ in self.ops[i]["reads"]], dict(self.ops[index]["sends"])
                ):
                    if log[early][0] and log[late][0] and log[early][1] >= log[late][1]:
                        return False
        return True

    def closed(self, log: dict[Any, tuple[bool, int]], index: int, active: set[int]) -> bool:
        """Whether the closing read lacks only what is not there, or may have come later."""
        if index != self.closing:
            return True
        end = max((o for _, o in self.ops[index]["reads"]), default=-1)
        for value, (is_present, at) in log.items():
            if is_present and value not in dict(self.ops[index]["reads"]):
                writers = [self.ops[w] for w in self.writers[value] if w in active]
                if at <= end or any(w["type"] == "ok" and w["ended"] < self.ops[index]["began"] for w in writers):
                    return False
        return True


def _payload(sent: Any) -> tuple[Any, int | None]:
    return (sent[1], sent[0]) if isinstance(sent, list) else (sent, None)


def is_log(log: dict[Any, tuple[bool, int]]) -> bool:
    """Whether every offset holds one message."""
    places = [at for is_present, at in log.values() if is_present]
    return len(set(places)) == len(places)


# Random histories: mostly what a sound cluster would answer, with a few lies.


def random_records(random: Random) -> list[Record]:
    values = iter(range(random.choice([2, 3, 3, 4])))
    log: list[tuple[int, int]] = []
    operations: list[tuple[int, str, list[Any], dict[str, Any]]] = []
    end, lies, unknown = 0, random.choice([0.0, 0.1, 0.3]), 0
    batch = [v for _, v in zip(range(random.choice([1, 2])), values, strict=False)]
    while batch:
        kind = random.choice(["ok", "fail", "info", "info"] if unknown < 3 else ["ok", "fail"])
        unknown += kind == "info"
        took_effect = kind == "ok" or (kind == "info" and random.random() < 0.6)
        told = []
        for value in batch:
            end += random.choice([0, 0, 1])
            offset = max(0, end + (random.choice([-1, 1]) if random.random() < lies else 0))
            is_known = kind == "ok" or random.random() < 0.3
            told.append(["send", 0, [offset, value] if is_known and random.random() < 0.95 else value])
            if took_effect:
                log.append((end, value))
            end += 1
        if random.random() < lies:
            told.reverse()
        abort = {"abort": True} if kind == "info" and random.random() < 0.2 else {}
        operations.append((len(operations), kind, told, abort))
        if random.random() < 0.5 and log:
            operations.append((20, random.choice(["ok", "ok", "fail"]), [polled(random, log, lies)], {}))
        batch = [v for _, v in zip(range(random.choice([1, 2])), values, strict=False)]
    if random.random() < 0.6:
        operations.append((90, "ok", [polled(random, log, lies, whole=True)], {"final": "read_committed"}))
    if random.random() < lies:
        random.shuffle(operations)
    return recorded(operations, random)


def polled(random: Random, log: list[tuple[int, int]], lies: float, *, whole: bool = False) -> list[Any]:
    start = 0 if whole else random.randrange(len(log))
    answer = [list(message) for message in log[start:]]
    if answer and random.random() < lies:
        answer.pop(random.randrange(len(answer)))
    if answer and random.random() < lies:
        random.choice(answer)[0] += 1
    return ["poll", {"0": answer}] if answer else ["poll", {}]


def recorded(operations: list[tuple[int, str, list[Any], dict[str, Any]]], random: Random) -> list[Record]:
    """The records of the operations, some of which overlap."""
    records: list[Record] = []
    for process, kind, micro, more in operations:
        asked = [["poll"] if m[0] == "poll" else ["send", 0, _payload(m[2])[0]] for m in micro]
        common = {"process": process, "f": "txn"} | more
        records += [common | {"type": "invoke", "value": asked}, common | {"type": kind, "value": micro}]
    for at in [random.randrange(len(records) - 1) for _ in range(random.choice([0, 2, 5]))]:
        if records[at]["process"] != records[at + 1]["process"]:
            records[at], records[at + 1] = records[at + 1], records[at]
    return [record | {"index": i, "time": i} for i, record in enumerate(records)]


def puzzle_of(history: History) -> Puzzle:
    """Everything at once, as facts."""
    evidence = Evidence(history)
    surroundings = Surroundings(evidence)
    everything = slice_around(surroundings, range(len(evidence)), range(len(history.operations)), 50)
    return Puzzle(Facts(surroundings, everything))


def outcomes_of(records: list[Record]) -> Iterator[str]:
    """Compare Z3 with the twin; yields what was found."""
    history, plain = history_of(records), Plain(records)
    puzzle, index = puzzle_of(history), history.operations.index
    found = puzzle.contradiction()
    assert (found is None) == plain.explicable(set(plain.ops), {}), records
    if found is not None:
        core = {int(index[row]) for row in found.operations}
        assert found.facts and not plain.explicable(core, {})
        for spared in core:
            assert plain.explicable(core - {spared}, {}), (records, core, spared)
        yield CONTRADICTION
        return
    for row in sorted(puzzle.facts.unknown):
        fate, operation = puzzle.fate(row), int(index[row])
        can = [fixed for fixed in (False, True) if plain.explicable(set(plain.ops), {operation: fixed})]
        assert fate.outcome == (EITHER if len(can) == 2 else COMMITTED if can == [True] else NOT_COMMITTED), records
        if fate.outcome != EITHER:
            core = {int(index[row]) for row in fate.operations}
            assert fate.facts and not plain.explicable(core, {operation: fate.outcome == NOT_COMMITTED})
        yield fate.outcome


@given(st.integers(0, 10**9))
def test_explanations_agree_with_trying_everything(seed: int) -> None:
    for _ in outcomes_of(random_records(Random(seed))):
        pass


def test_random_histories_have_every_answer() -> None:
    seen = {outcome for seed in range(40) for outcome in outcomes_of(random_records(Random(seed)))}
    assert seen == {CONTRADICTION, COMMITTED, NOT_COMMITTED, EITHER}


# The command's answers.


def test_forced_outcomes_of_a_real_cluster() -> None:
    history = read_history(RECORDED / "valid-k4-shorttimeout.jsonl")
    explanation = explain(history, check(history))
    assert explanation["contradictions"] == explanation["undecided"] == []
    outcomes = {one["operation"]: one for one in explanation["outcomes"]}
    assert len(outcomes) == 12 and explanation["outcomes_left_out"] == 0
    committed = [index for index, one in outcomes.items() if one["outcome"] == COMMITTED]
    assert committed == [261, 1091, 1092, 2263]
    assert outcomes[261]["operations"] == [261, 302]
    assert outcomes[261]["facts"] == [
        "operation 261, whose outcome is unknown, sent value 113 of key 0",
        "operation 302 read value 113 of key 0 at offset 48",
    ]


@pytest.mark.parametrize("name", sorted(path.stem for path in RECORDED.glob("lossy-*")))
def test_anomalies_of_real_clusters_are_contradictions(name: str) -> None:
    history = read_history(RECORDED / f"{name}.jsonl")
    report = check(history)
    explanation = explain(history, report)
    assert {one["anomaly"] for one in explanation["contradictions"]} >= {"inconsistent-offsets"}
    assert not explanation["undecided"]
    for one in explanation["contradictions"]:
        assert 1 <= len(one["operations"]) <= 4 and set(one["unknown"]) <= set(one["operations"])
        assert one["sentence"].startswith(one["facts"][0]) and one["sentence"] in " ".join(
            describe_explanation(explanation | {"contradictions": [one]}).split()
        )


def torn_by_nobody_knows_whom() -> list[Record]:
    """A transaction of unknown outcome, half of which was read, and the other half passed over."""
    steps: list[tuple[int, str, list[Any], dict[str, Any]]] = [
        (0, "info", [["send", 0, [0, 1]], ["send", 0, [1, 2]]], {}),
        (1, "ok", [["send", 0, [3, 3]]], {}),
        (2, "ok", [["poll", {"0": [[0, 1], [3, 3]]}]], {}),
    ]
    records = []
    for process, kind, micro, more in steps:
        asked = [["poll"] if m[0] == "poll" else ["send", 0, m[2][1]] for m in micro]
        common = {"process": process, "f": "txn"} | more
        records += [common | {"type": "invoke", "value": asked}, common | {"type": kind, "value": micro}]
    return [record | {"index": i, "time": i} for i, record in enumerate(records)]


def test_unknown_operations_are_named_in_the_sentence() -> None:
    history = history_of(torn_by_nobody_knows_whom())
    explanation = explain(history, check(history))
    (told,) = explanation["contradictions"]
    assert told["operations"] == [1, 5] and told["unknown"] == [1]
    assert told["sentence"] == (
        "operation 1, whose outcome is unknown, sent value 1 of key 0 and value 2 of key 0, all or nothing; "
        "operation 1 was told offset 1 for value 2 of key 0; "
        "operation 5 read value 1 of key 0 at offset 0; "
        "operation 5 read value 3 of key 0 right after value 1 of key 0: "
        "no choice of outcome for the unknown operation 1 explains this"
    )
    assert [one["outcome"] for one in explanation["outcomes"]] == [CONTRADICTION]


def small(*operations: tuple[int, str, list[Any]]) -> list[Record]:
    """Operations one after the other: process, outcome and micro-operations."""
    records: list[Record] = []
    for process, kind, micro in operations:
        asked = [["poll"] if m[0] == "poll" else ["send", 0, _payload(m[2])[0]] for m in micro]
        common = {"process": process, "f": "txn"}
        records += [common | {"type": "invoke", "value": asked}, common | {"type": kind, "value": micro}]
    return [record | {"index": i, "time": i} for i, record in enumerate(records)]


@pytest.mark.parametrize(
    ("operations", "core", "last"),
    [
        (
            [(0, "ok", [["send", 0, [4, 1]]]), (1, "ok", [["send", 0, [4, 2]]])],
            [1, 3],
            "operation 3 was acknowledged with value 2 of key 0 at offset 4",
        ),
        (
            [(0, "ok", [["send", 0, [4, 1]]]), (1, "ok", [["send", 0, [3, 2]]])],
            [1, 3],
            "operation 1 was over before operation 3 sent value 2 of key 0",
        ),
        (
            [(0, "ok", [["send", 0, [4, 1]], ["send", 0, [3, 2]]])],
            [1],
            "operation 1 sent value 2 of key 0 after value 1 of key 0",
        ),
        (
            [(1, "ok", [["poll", {"0": [[0, 1]]}]]), (0, "info", [["send", 0, 1]])],
            [1, 3],
            "operation 1 was over before operation 3 sent value 1 of key 0",
        ),
        (
            [(1, "ok", [["poll", {"0": [[0, 1]]}]])],
            [1],
            "operation 1 read value 1 of key 0 at offset 0",
        ),
        (
            [(0, "ok", [["send", 0, [4, 1]], ["poll", {"0": [[4, 1]]}]])],
            [1],
            "operation 1 read value 1 of key 0 at offset 4, which it had itself sent and not yet committed",
        ),
    ],
    ids=[
        "one offset, two messages",
        "sent later, lies earlier",
        "sent in another order",
        "read before",
        "never sent",
        "read its own",
    ],
)
def test_least_contradictions(operations: list[Any], core: list[int], last: str) -> None:
    puzzle = puzzle_of(history_of(small(*operations)))
    found = puzzle.contradiction()
    index = puzzle.facts.operations.index
    assert found is not None and [int(index[row]) for row in found.operations] == core
    assert found.facts[-1] == last


def test_out_of_steps_is_undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explain_module, "STEPS_MAX", 1)
    history = history_of(torn_by_nobody_knows_whom())
    explanation = explain(history, check(history))
    assert explanation["contradictions"] == [] and explanation["undecided"]
    assert [one["outcome"] for one in explanation["outcomes"]] == ["undecided"]
    assert "reached its limit" in " ".join(describe_explanation(explanation).split())


def test_command_adds_the_explanation(capsys: pytest.CaptureFixture[str]) -> None:
    file = str(RECORDED / "lossy-k4-powerfail-acksall.jsonl")
    assert main(["history", file, "--explain", "--json"]) == 1
    explanation = json.loads(capsys.readouterr().out)["explanation"]
    assert explanation["contradictions"] and len(explanation["outcomes"]) == 5
    assert main(["history", file, "--explain"]) == 1
    words = " ".join(capsys.readouterr().err.split())
    assert "not explicable" in words and "operation 532: cannot have committed: operation 532 meant to abort" in words
