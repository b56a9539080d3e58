"""Cycles: the fast search, its plain twin and the reference agree, every witness is one, and the effort is linear."""

from __future__ import annotations

import gzip
import json
import random
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import pytest
from hwmark.checkers.histories import components, plain_cycles, witnesses
from hwmark.checkers.histories.components import Effort
from hwmark.checkers.histories.cycles import CYCLE_TYPES, EMPTY, LEVELS, CycleSearch, cycles
from hwmark.checkers.histories.dependencies import Dependencies
from hwmark.checkers.histories.evidence import Evidence
from hwmark.checkers.histories.kinds import KINDS
from hwmark.checkers.histories.plain_cycles import check_plain_cycles, relations
from hwmark.checkers.histories.report import Options
from hwmark.traces.history import History
from hwmark.traces.history_records import parse_lines
from hypothesis import given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).parents[1]
RECORDED = sorted((ROOT / "traces" / "recorded").glob("*.jsonl"))
DATA = Path(__file__).parent / "data" / "histories"
REFERENCE_CASES = sorted((ROOT.parent / "shared" / "data" / "third-party" / "jepsen").glob("*.json"))

Record = dict[str, Any]
WW = pytest.mark.parametrize("ww_deps", [False, True], ids=["wr", "ww"])


def read(records: list[Record]) -> History:
    return parse_lines([orjson.dumps(record) + b"\n" for record in records], "history")


def found(records: list[Record], ww_deps: bool) -> dict[str, Any]:
    return cycles(Evidence(read(records)), Options(ww_deps=ww_deps))


def facts(anomalies: dict[str, Any]) -> plain_cycles.Facts:
    """What was found in the words of the twin."""
    return {
        name: sorted(tuple(a["scc"]) if "scc" in a else (len(a["cycle"]) - 1,) if "cycle" in a else () for a in all_of)
        for name, all_of in anomalies.items()
    }


def assert_agree(records: list[Record], ww_deps: bool) -> dict[str, Any]:
    anomalies = found(records, ww_deps)
    expected = check_plain_cycles(records, ww_deps=ww_deps)
    assert facts(anomalies) == {name: sorted(all_of) for name, all_of in expected.items()}
    assert_witnesses(anomalies, records, ww_deps)
    return anomalies


def assert_witnesses(anomalies: dict[str, Any], records: list[Record], ww_deps: bool) -> None:
    """Every step holds, by relations that are the type's own, and a cycle runs through distinct operations."""
    graph = relations(records, ww_deps=ww_deps)
    for level in LEVELS:
        assert len(anomalies.get(level.exists, [])) == len(anomalies.get(level.witness, []))
        for exists, witness in zip(anomalies.get(level.exists, []), anomalies.get(level.witness, []), strict=True):
            cycle, kinds = witness["cycle"], [step["type"] for step in witness["steps"]]
            assert exists["cycle"] == cycle and exists["scc-size"] == len(exists["scc"])
            assert cycle[0] == cycle[-1] == min(cycle) and len(set(cycle)) == len(cycle) - 1 == len(kinds)
            assert ("wr" in kinds) == level.reads and ("realtime" in kinds) == level.realtime
            assert kinds.count("realtime") <= 1
            for a, b, step in zip(cycle, cycle[1:], witness["steps"], strict=False):
                message = tuple(str(v) if k == "key" else v for k, v in step.items() if k != "type")
                assert message in graph.edges[a, b, step["type"]]["messages"]
                assert step["type"] != "wr" or not graph.has_edge(a, b, "ww")
            assert KINDS[level.witness].operations(witness) == sorted(set(cycle))
            assert KINDS[level.witness].sentence(witness) == witness["story"]


@st.composite
def histories(draw: st.DrawFn) -> list[Record]:
    """Histories of few processes, in which reads see any message: of the past, of the future, or of themselves."""
    records: list[Record] = []
    pending: dict[int, Record] = {}
    offset = st.one_of(st.none(), st.integers(0, 7), st.integers(0, 7))
    outcome = st.sampled_from(["ok", "ok", "ok", "ok", "fail", "info"])
    message = st.tuples(st.integers(0, 1), st.integers(0, 3))
    unsent = [[k, v] for k in range(2) for v in range(4)]
    unsent = draw(st.permutations(unsent)) * 2 if draw(st.integers(0, 3)) == 0 else draw(st.permutations(unsent))
    for process in draw(st.lists(st.integers(0, 3), min_size=2, max_size=24)):
        if process in pending:
            records.append(pending.pop(process) | {"type": draw(outcome)})
            continue
        function = draw(st.sampled_from(["send", "poll", "txn", "txn"]))
        sent = [unsent.pop() for _ in range(draw(st.integers(1, 2))) if unsent and function != "poll"]
        polled = draw(st.lists(message, min_size=1, max_size=3)) if function != "send" else []
        common: Record = {"process": process, "f": function}
        if function == "poll" and draw(st.integers(0, 5)) == 0:
            common["final"] = draw(st.sampled_from(["read_committed", "read_uncommitted"]))
        sends = [["send", k, v] for k, v in sent]
        done = [["send", k, draw(st.sampled_from([v, [draw(offset), v], [draw(offset), v]]))] for k, v in sent]
        if function != "send":
            sends.append(["poll"])
            by_key = {str(k): [[draw(offset), v] for key, v in polled if key == k] for k, _ in polled}
            done.append(["poll", by_key])
        records.append(common | {"type": "invoke", "value": sends})
        pending[process] = common | {"value": done}
    return [record | {"index": i, "time": i} for i, record in enumerate(records)]


@WW
@given(records=histories())
def test_twins_agree_on_random_histories(ww_deps: bool, records: list[Record]) -> None:
    assert_agree(records, ww_deps)


def test_random_histories_reach_every_type() -> None:
    reached: set[str] = set()

    @settings(derandomize=True)
    @given(records=histories())
    def collect(records: list[Record]) -> None:
        reached.update(check_plain_cycles(records, ww_deps=True))

    collect()
    assert reached == set(CYCLE_TYPES)


def lively(seed: int, operations: int = 120, disorder: float = 0.02, slow: int = 0) -> list[Record]:
    """Processes, some slow, send to a log and poll what is there, now and then at a wrong offset or from the future."""
    chance = random.Random(seed)
    log: list[list[int]] = [[], [], []]
    records: list[Record] = []
    pending: dict[int, tuple[Record, list[list[int]], int]] = {}
    value = 0
    while len(records) < 2 * operations:
        process = chance.randrange(6)
        if process in pending and process < slow and chance.random() < 0.9:
            continue
        if process not in pending:
            sends = [[chance.randrange(3), value + i] for i in range(chance.randrange(3))]
            value += len(sends)
            record = {"process": process, "f": "txn", "value": [*(["send", k, v] for k, v in sends), ["poll"]]}
            records.append(record | {"type": "invoke"})
            pending[process] = record, sends, chance.randrange(3)
            continue
        record, sends, key = pending.pop(process)
        done: list[Any] = []
        for k, v in sends:
            log[k].append(v)
            offset = len(log[k]) - 1 if chance.random() > disorder else max(0, len(log[k]) - chance.randrange(9))
            done.append(["send", k, [offset, v]])
        first = max(0, len(log[key]) - chance.randrange(1, 5))
        seen = [[first + i, v] for i, v in enumerate(log[key][first:])]
        if chance.random() < disorder:
            seen.append([len(log[key]) + 3, value + chance.randrange(9)])
        kind = chance.choices(["ok", "info", "fail"], [20, 1, 1])[0]
        records.append(record | {"type": kind, "value": [*done, ["poll", {str(key): seen}]]})
    return [record | {"index": i, "time": i} for i, record in enumerate(records)]


@WW
@pytest.mark.parametrize("compiled_from", [0, 10**9], ids=["compiled", "plain"])
@pytest.mark.parametrize("seed", range(8))
def test_twins_agree_on_longer_histories(
    seed: int, compiled_from: int, ww_deps: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(components, "COMPILED_FROM", compiled_from)
    assert_agree(lively(seed, disorder=[0.0, 0.03, 0.1, 0.2][seed % 4], slow=seed // 2), ww_deps)


def test_longer_histories_reach_every_type_and_longer_cycles() -> None:
    reached, lengths = set(), set()
    for seed in range(8):
        for name, all_of in check_plain_cycles(lively(seed, disorder=0.1, slow=seed // 2), ww_deps=True).items():
            reached.add(name)
            lengths |= {a[0] for a in all_of if name in {level.witness for level in LEVELS}}
    assert reached == set(CYCLE_TYPES) - {EMPTY} and {2, 3, 4} <= lengths


@WW
@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_recordings(path: Path, ww_deps: bool) -> None:
    """Kafka never lets a read run ahead of its write; concurrent transactions interleave their writes."""
    records = [json.loads(line) for line in path.read_text().splitlines()]
    if not ww_deps:
        assert found(records, ww_deps) == {}
    elif len(records) < 700:
        assert_agree(records, ww_deps)
    assert set(found(records, ww_deps)) <= {"G0", "G0-realtime", "PL-1-cycle-exists", "strong-PL-1-cycle-exists"}


def assert_as_the_reference(anomalies: dict[str, Any], errors: dict[str, Any]) -> None:
    """The same types and components, and witnesses at most as long: the reference's are not always shortest."""
    assert set(anomalies) == {name for name in errors if name in CYCLE_TYPES}
    for level in LEVELS:
        ours, theirs = anomalies.get(level.exists, []), errors.get(level.exists, [])
        assert sorted(a["scc"] for a in ours) == sorted(sorted(a["scc"]) for a in theirs)
        ours, theirs = anomalies.get(level.witness, []), errors.get(level.witness, [])
        lengths = (sorted(len(a["cycle"]) for a in all_of) for all_of in (ours, theirs))
        assert all(a <= b for a, b in zip(*lengths, strict=True))


@pytest.mark.skipif(not REFERENCE_CASES, reason="the reference's own cases are not at hand")
def test_agrees_with_the_reference_on_its_own_cases() -> None:
    reached: set[str] = set()
    for path in REFERENCE_CASES:
        case = json.loads(path.read_text())
        if "by-config" not in case or not case["history"]:
            continue
        records = [{"process": 0, "time": i} | record for i, record in enumerate(case["history"])]
        for configuration, outcome in case["by-config"].items():
            anomalies = assert_agree(records, ww_deps=configuration.endswith("+ww"))
            assert_as_the_reference(anomalies, outcome["errors"])
            reached.update(anomalies)
    assert reached >= {"G0", "G1c", EMPTY}


def test_agrees_with_the_reference_on_random_histories() -> None:
    with gzip.open(DATA / "random-500.jsonl.gz", "rt") as lines:
        cases = [json.loads(line) for line in lines]
    for case in cases:
        for ww_deps, outcome in ((False, case["jepsen"]["no-ww"]), (True, case["jepsen"]["ww"])):
            anomalies = assert_agree(case["history"], ww_deps)
            if case["unique-writes"] and not case["ambiguous-log"] and not case["throws"]:
                assert_as_the_reference(anomalies, outcome["errors"])


@pytest.mark.parametrize("path", sorted((DATA / "edge").glob("*.json")), ids=lambda path: path.stem)
def test_corner_cases(path: Path) -> None:
    case = json.loads(path.read_text())
    if case["history"]:
        anomalies = assert_agree(case["history"], ww_deps=False)
        if "throws" not in case["expected"]:
            assert_as_the_reference(anomalies, case["expected"]["errors"])


def planted(length: int, kind: str) -> list[Record]:
    """One cycle of so many operations, and a send and a poll of no concern.

    All begin before any ends, but for realtime the last of the chain: it ends before the first begins.
    """
    chain = range(length)
    last = length - 1
    invoked = [{"process": i, "f": "txn", "type": "invoke", "value": [["poll"], ["send", i, i]]} for i in chain]
    completed = []
    for i in chain:
        before = (i - 1) % length
        reads = {} if i == 0 and kind == "G1c-realtime" else {str(before): [[0, before]]}
        completed.append(invoked[i] | {"type": "ok", "value": [["poll", reads], ["send", i, [0, i]]]})
    order = [*invoked, *completed]
    if kind == "G1c-realtime":
        order = [*invoked[1:], completed[last], invoked[0], *(completed[i] for i in chain if i != last)]
    idle: list[Record] = [
        {"process": 1000, "f": "send", "type": "invoke", "value": [["send", "idle", 0]]},
        {"process": 1000, "f": "send", "type": "ok", "value": [["send", "idle", [0, 0]]]},
    ]
    return [record | {"index": i, "time": i} for i, record in enumerate([*idle, *order])]


@pytest.mark.parametrize("kind", ["G1c", "G1c-realtime"])
@pytest.mark.parametrize("length", [2, 3, 4, 7, 40])
def test_cycles_of_any_length_are_found_whole(length: int, kind: str) -> None:
    anomalies = assert_agree(planted(length, kind), ww_deps=False)
    (witness,) = anomalies[kind]
    assert len(witness["cycle"]) == length + 1 and witness["shortest"]
    assert ("and so on over" in witness["story"]) == (length > 10)


@pytest.mark.parametrize("kind", ["G1c", "G1c-realtime"])
def test_a_search_that_gives_up_still_shows_a_cycle_and_says_so(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(witnesses, "ROUNDS_MAX", 2)
    monkeypatch.setattr(witnesses, "VISITS_MIN", 0)
    monkeypatch.setattr(witnesses, "VISITS_PER_EDGE", 0)
    records = planted(9, kind)
    anomalies = found(records, ww_deps=False)
    assert_witnesses(anomalies, records, ww_deps=False)
    (witness,) = anomalies[kind]
    assert not witness["shortest"] and witness["story"].endswith("(there may be a shorter cycle)")


@WW
@pytest.mark.parametrize("seed", range(4))
def test_searches_that_give_up_find_the_same_types(seed: int, ww_deps: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    records = lively(seed, disorder=0.2, slow=3)
    expected = check_plain_cycles(records, ww_deps=ww_deps)
    monkeypatch.setattr(witnesses, "ROUNDS_MAX", 0)
    monkeypatch.setattr(witnesses, "VISITS_MIN", 0)
    monkeypatch.setattr(witnesses, "VISITS_PER_EDGE", 0)
    anomalies = found(records, ww_deps)
    assert_witnesses(anomalies, records, ww_deps)
    assert {name: len(all_of) for name, all_of in anomalies.items()} == {k: len(v) for k, v in expected.items()}


def test_sentences() -> None:
    """A read of the future in plain words, and the operations that show it."""
    case = json.loads((DATA / "edge" / "edge-realtime-stale-read.json").read_text())
    anomalies = found(case["history"], ww_deps=False)
    (witness,), (exists,) = anomalies["G1c-realtime"], anomalies["strong-PL-2-cycle-exists"]
    assert witness["story"] == (
        "operation 1 read value 5 of key 1, which operation 3 sent; "
        "but operation 1 had completed before operation 3 was invoked"
    )
    assert KINDS["strong-PL-2-cycle-exists"].sentence(exists) == (
        "2 operations depend on each other in a circle, which strong-read-committed rules out; for example [1, 3, 1]"
    )
    case = json.loads((DATA / "edge" / "edge-aborted-writer-cycle.json").read_text())
    assert found(case["history"], ww_deps=False)["G1c"][0]["story"] == (
        "operation 3 read value 0 of key 1, which operation 2 sent; "
        "and operation 2 read value 0 of key 2, which operation 3 sent"
    )


def test_a_write_cycle_in_words() -> None:
    def txn(process: int, offsets: tuple[int, int]) -> tuple[Record, Record]:
        sends = [["send", key, process] for key in range(2)]
        done = [["send", key, [offset, process]] for key, offset in enumerate(offsets)]
        common = {"process": process, "f": "txn"}
        return common | {"type": "invoke", "value": sends}, common | {"type": "ok", "value": done}

    (begin_0, end_0), (begin_1, end_1) = txn(0, (0, 1)), txn(1, (1, 0))
    records = [r | {"index": i, "time": i} for i, r in enumerate([begin_0, begin_1, end_0, end_1])]
    assert assert_agree(records, ww_deps=True)["G0"][0]["story"] == (
        "operation 3 wrote value 1 of key 0 right behind value 0, which operation 2 sent; "
        "and operation 2 wrote value 0 of key 1 right behind value 1, which operation 3 sent"
    )
    assert set(assert_agree(records, ww_deps=False)) == {EMPTY}


def test_the_closing_raw_read_is_nobodys_read() -> None:
    poll = {"process": 0, "f": "poll", "value": [["poll"]], "final": "read_uncommitted"}
    send = {"process": 1, "f": "send", "value": [["send", 1, 5]]}
    records = [
        poll | {"type": "invoke"},
        poll | {"type": "ok", "value": [["poll", {"1": [[0, 5]]}]]},
        send | {"type": "invoke"},
        send | {"type": "ok"},
    ]
    records = [record | {"index": i, "time": i} for i, record in enumerate(records)]
    assert set(assert_agree(records, ww_deps=False)) == {EMPTY}
    for record in records:
        record.pop("final", None)
    assert set(assert_agree(records, ww_deps=False)) == {"G1c-realtime", "strong-PL-2-cycle-exists"}


@cache
def effort_on(operations: int, broken_until: float | None) -> tuple[int, int]:
    """How many edges the search looks at in a valid log, or in one with a read of the future; without ww and with.

    The read is an early one, of a message sent after that part of the history: all between is one component.
    """
    records = lively(1, operations, disorder=0.0)
    if broken_until is not None:
        sends = [r for r in records if r["type"] == "ok" and r["value"][0][0] == "send"]
        _, key, (offset, value) = sends[int(len(sends) * broken_until)]["value"][0]
        reader = next(r for r in records if r["type"] == "ok")
        reader["value"][-1][1].setdefault(str(key), []).append([offset, value])
    evidence, efforts = Evidence(read(records)), (Effort(), Effort())
    for ww_deps, effort in zip((False, True), efforts, strict=True):
        anomalies = CycleSearch(Dependencies(evidence, ww_deps), effort).anomalies()
        assert bool(anomalies) == (broken_until is not None)
    return efforts[0].visits, efforts[1].visits


SIZES = [pytest.param(1_000, 10_000, id="10,000"), pytest.param(10_000, 100_000, id="100,000", marks=pytest.mark.deep)]


@pytest.mark.parametrize("broken_until", [None, 0.1, 0.9])
@pytest.mark.parametrize(("few", "many"), SIZES)
def test_effort_grows_linearly(few: int, many: int, broken_until: float | None) -> None:
    for less, more in zip(effort_on(few, broken_until), effort_on(many, broken_until), strict=True):
        assert 0 < more < 20 * less  # quadratic would be a hundred times


def test_only_the_last_sender_of_a_message_wrote_it() -> None:
    """Operation 0 sends 1 too, but a later one did it last: 1 lies right behind 0 for that one alone."""
    values: list[tuple[list[Any], list[Any]]] = [
        ([["send", 0, 1], ["send", 1, 7]], [["send", 0, 1], ["send", 1, [0, 7]]]),
        ([["send", 0, 0], ["poll"]], [["send", 0, [0, 0]], ["poll", {"1": [[0, 7]]}]]),
        ([["send", 0, 1]], [["send", 0, [1, 1]]]),
    ]
    begun = [{"process": i, "f": "txn", "type": "invoke", "value": v} for i, (v, _) in enumerate(values)]
    ended = [{"process": i, "f": "txn", "type": "ok", "value": v} for i, (_, v) in enumerate(values)]
    assert assert_agree([r | {"index": i, "time": i} for i, r in enumerate([*begun, *ended])], ww_deps=True) == {}


def test_a_longer_cycle_found_later_does_not_replace_a_shorter_one() -> None:
    """Four operations in a circle through the first, and five through later ones, joined by the second."""
    edges = [(0, 1), (1, 2), (2, 3), (3, 0), (1, 4), (4, 5), (5, 6), (6, 7), (7, 1)]
    begun = [{"process": i, "f": "txn", "type": "invoke", "value": [["send", i, i], ["poll"]]} for i in range(8)]
    polls = [{str(a): [[0, a]] for a, b in edges if b == i} for i in range(8)]
    ended = [r | {"type": "ok", "value": [["send", i, [0, i]], ["poll", polls[i]]]} for i, r in enumerate(begun)]
    anomalies = assert_agree([r | {"index": i, "time": i} for i, r in enumerate([*begun, *ended])], ww_deps=False)
    assert anomalies["G1c"][0]["cycle"] == [8, 9, 10, 11, 8]
