"""The reference, Jepsen's Kafka workload checker, and hwmark agree: types, counts, details and verdict.

With `compat` exactly; without it, but for the reference's quirks. Compared are histories in which no two values are
seen at one offset of a key; where the reference throws, the plain twin says what must be reported.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import orjson
import pytest
from hwmark.checkers.histories import HistoryReport, check
from hwmark.checkers.histories.compat import ADDED
from hwmark.checkers.histories.cycles import CYCLE_TYPES, EMPTY
from hwmark.checkers.histories.evidence import Evidence
from hwmark.checkers.histories.plain import Facts, check_plain
from hwmark.checkers.histories.plain_lag import plain_lags
from hwmark.checkers.histories.plain_words import WORDS, facts, unseen_facts
from hwmark.checkers.histories.realtime_lag import RealtimeLag
from hwmark.checkers.histories.report import Options
from hwmark.checkers.histories.unseen_series import unseen_series
from hwmark.traces.errors import BadInputError
from hwmark.traces.history import History
from hwmark.traces.history_records import parse_lines

DATA = Path(__file__).parent / "data" / "histories"
CASES = sorted((Path(__file__).parents[2] / "shared" / "data" / "third-party" / "jepsen").glob("*.json"))
NO_CASES = pytest.mark.skipif(not CASES, reason="the reference's own cases are not at hand")

# With write-write dependencies the reference may call a cycle through real time by relations that happen to hold along
# it; in this one of all the random histories it does.
LABELS, LABELLED_OTHERWISE = {"G0-realtime", "G1c-realtime"}, "fuzz-42-0214"

Record = dict[str, Any]
Errors = dict[str, Any]


def read(records: list[Record]) -> History:
    return parse_lines([orjson.dumps(record) + b"\n" for record in records], "history")


@dataclass(frozen=True)
class Outcome:
    """What the reference said of a history, under some options."""

    name: str
    records: list[Record]
    options: dict[str, Any]
    errors: Errors
    valid: bool
    worst_lag: dict[str, Any] | None = None

    def __str__(self) -> str:
        return f"{self.name} {self.options}"


def own_cases() -> Iterator[Outcome]:
    """The cases of the reference's own test suite, in four configurations."""
    for path in CASES:
        case = json.loads(path.read_text())
        for name, outcome in case.get("by-config", {}).items():
            via, _, ww = name.partition("+")
            records = [{"process": 0, "time": i} | record for i, record in enumerate(case["history"])]
            options = {"via": via, "ww_deps": ww == "ww"}
            worst = case["expected"]["worst-realtime-lag"]
            yield Outcome(path.stem, records, options, outcome["errors"], outcome["valid"], worst)


def random_cases() -> list[dict[str, Any]]:
    with gzip.open(DATA / "random-500.jsonl.gz", "rt") as lines:
        return [json.loads(line) for line in lines]


def random_outcomes() -> Iterator[Outcome]:
    for case in random_cases():
        if not case["ambiguous-log"] and not case["throws"]:
            for ww_deps, via in product((False, True), ("assign", "subscribe")):
                said = case["jepsen"]["ww" if ww_deps else "no-ww"]
                options = {"via": via, "ww_deps": ww_deps}
                valid, worst = said["valid"][via], said["worst-realtime-lag"]
                yield Outcome(case["name"], case["history"], options, said["errors"], valid, worst)


def edge_outcomes() -> Iterator[Outcome]:
    for path in sorted((DATA / "edge").glob("*.json")):
        case = json.loads(path.read_text())
        if "errors" in case["expected"]:
            errors, worst = case["expected"]["errors"], case["expected"]["worst-realtime-lag"]
            valid = set(errors) <= Options().allowed()
            yield Outcome(path.stem, case["history"], {}, errors, valid, worst)


def all_outcomes() -> Iterator[Outcome]:
    yield from own_cases()
    yield from random_outcomes()
    yield from edge_outcomes()


def told(errors: Errors) -> Facts:
    """Errors, hwmark's or the reference's, as facts; of what is free only what is not."""
    exact = set(WORDS) & set(errors) - {"poll-skip", "precommitted-read"}
    found = {name: [WORDS[name](error) for error in errors[name]] for name in exact}
    # The reference's poll-skip lacks the two values; which of several own messages a precommitted-read names is free.
    found["poll-skip"] = [(str(e["key"]), e["delta"], *e["skipped"], *e["ops"]) for e in errors.get("poll-skip", [])]
    found["precommitted-read"] = [(error["op"],) for error in errors.get("precommitted-read", [])]
    found |= {
        name: [(tuple(sorted(error.get("scc", ()))),) for error in errors[name]]
        for name in CYCLE_TYPES
        if name in errors and name != EMPTY
    }
    unseen = errors.get("unseen", [])
    entries = unseen if isinstance(unseen, list) else [unseen]
    found["unseen"] = [(entry["time"], *fact) for entry in entries for fact in unseen_facts(entry)]
    return {name: sorted(of_type, key=repr) for name, of_type in found.items() if of_type}


def without_quirk(outcome: Outcome) -> Errors:
    """The reference's errors, but for values that count as unseen although nobody was promised them."""
    acknowledged = {
        (str(micro[1]), micro[2][1] if isinstance(micro[2], list) else micro[2])
        for record in outcome.records
        if record["type"] == "ok" and record["f"] in ("send", "txn")
        for micro in record["value"]
        if micro[0] == "send"
    }
    errors = dict(outcome.errors)
    entry = errors.pop("unseen", {"messages": {}})
    messages = {k: [v for v in vs if (k, v) in acknowledged] for k, vs in entry["messages"].items()}
    return errors | ({"unseen": entry | {"messages": messages}} if any(messages.values()) else {})


def assert_agree(report: HistoryReport, outcome: Outcome, errors: Errors) -> None:
    """Types, number of each, details, and what counts against the history."""
    free = set(ADDED) | (LABELS if outcome.name == LABELLED_OTHERWISE and outcome.options["ww_deps"] else set())
    found = {name: instances for name, instances in report.anomalies.items() if name not in free}
    errors = {name: of_type for name, of_type in errors.items() if name not in free}
    assert set(found) == set(errors), outcome
    assert told(found) == told(errors), outcome
    allowed = Options(**outcome.options).allowed()
    assert [name for name in report.bad_error_types if name not in free] == sorted(set(errors) - allowed), outcome


def assert_agree_exactly(report: HistoryReport, outcome: Outcome) -> None:
    """As the reference, quirks included, and the worst lag too."""
    assert_agree(report, outcome, outcome.errors)
    assert report.valid == outcome.valid, outcome
    assert not report.anomalies.keys() & set(ADDED)
    if outcome.worst_lag is not None:
        found, worst = report.worst_realtime_lag or {"time": 0, "lag": 0}, outcome.worst_lag
        # Of several keys with the same lag any may stand.
        fields = ("time", "process", "lag")
        assert [found.get(f) for f in fields] == [worst.get(f) for f in fields], outcome
        if "process" in worst:
            lags = plain_lags(outcome.records, compat=True)
            assert (worst["time"], worst["process"], str(worst["key"]), worst["lag"]) in lags, outcome


def assert_precommitted_reads_are_some(outcome: Outcome) -> None:
    """The message that the reference names is one that the operation sent and read."""
    by_index = {record["index"]: record for record in outcome.records}
    for error in outcome.errors.get("precommitted-read", []):
        value = by_index[error["op"]]["value"]
        sent = [(str(m[1]), m[2][1] if isinstance(m[2], list) else m[2]) for m in value if m[0] == "send"]
        read_too = [(k, v) for m in value if m[0] == "poll" and m[1:] for k, pairs in m[1].items() for _, v in pairs]
        assert (str(error["key"]), error["value"]) in set(sent) & set(read_too)


@NO_CASES
def test_agrees_on_the_reference_s_own_cases() -> None:
    outcomes = list(own_cases())
    assert len(outcomes) == 4 * 37
    for outcome in outcomes:
        assert_agree_exactly(check(read(outcome.records), compat=True, **outcome.options), outcome)
        assert_agree(check(read(outcome.records), **outcome.options), outcome, without_quirk(outcome))


def test_agrees_on_random_histories() -> None:
    outcomes = list(random_outcomes())
    assert len(outcomes) == 4 * 404
    differing = set()
    for assigned, subscribed in zip(outcomes[::2], outcomes[1::2], strict=True):
        history = read(assigned.records)
        report = check(history, compat=True, **assigned.options)
        assert_agree_exactly(report, assigned)
        assert_agree_exactly(replace(report, allowed=Options(**subscribed.options).allowed()), subscribed)
        assert_precommitted_reads_are_some(assigned)
        errors = without_quirk(assigned)
        assert_agree(check(history, **assigned.options), assigned, errors)
        differing |= {assigned.name} if errors != assigned.errors else set()
    assert differing, "no history shows the quirk: compat is not tested"


@NO_CASES
def test_what_is_compared_reaches_every_type_of_the_reference() -> None:
    reached = {name for outcome in all_outcomes() for name in outcome.errors}
    assert reached == set(WORDS) - set(ADDED) | {"unseen"} | set(CYCLE_TYPES)


def test_agrees_on_corner_cases() -> None:
    outcomes = list(edge_outcomes())
    assert len(outcomes) == 8
    for outcome in outcomes:
        assert_agree_exactly(check(read(outcome.records), compat=True, **outcome.options), outcome)
        assert_agree(check(read(outcome.records)), outcome, without_quirk(outcome))
        assert facts(check(read(outcome.records)).anomalies) == check_plain(outcome.records)


def test_conflicts_of_ambiguous_random_histories_are_found() -> None:
    """Which of the values it takes is the reference's whim; that there are several is not."""
    ambiguous = [case for case in random_cases() if case["ambiguous-log"] and not case["throws"]]
    assert len(ambiguous) == 67
    for case in ambiguous:
        expected = "inconsistent-offsets" in case["jepsen"]["no-ww"]["error-types"]
        assert ("inconsistent-offsets" in check(read(case["history"])).anomalies) == expected, case["name"]


def test_incomparable_random_histories_are_judged_as_by_the_twin() -> None:
    incomparable = [case for case in random_cases() if case["throws"] or case["ambiguous-log"]]
    assert len(incomparable) == 500 - 404
    for case in incomparable:
        assert facts(check(read(case["history"])).anomalies) == check_plain(case["history"]), case["name"]


def test_values_nobody_sent_are_reported_where_the_reference_throws() -> None:
    for case in random_cases():
        if case["throws"]:
            nobody = "no-writer-of-value" in case["jepsen"]["no-ww"]["throws"]
            assert nobody <= ("no-writer-of-value" in check(read(case["history"])).anomalies), case["name"]


BREAKS_THE_REFERENCE: dict[str, Facts] = {
    "edge-polled-value-never-sent": {"no-writer-of-value": [("1", 7, 1)]},
    "edge-empty-poll-list-only": {},
    "edge-empty-poll-list-plus-data": {},
    "edge-nil-offset-poll-only": {},
    "edge-polled-value-sent-by-open-invoke-only": {},
    "edge-mixed-type-values-conflict": {
        "inconsistent-offsets": [("1", 0, 0, frozenset({0, "a"}))],
        "unseen": [("1", "a"), ("1", 0)],
    },
}


@pytest.mark.parametrize("name", BREAKS_THE_REFERENCE)
def test_corner_cases_that_break_the_reference(name: str) -> None:
    case = json.loads((DATA / "edge" / f"{name}.json").read_text())
    assert "throws" in case["expected"]
    found = facts(check(read(case["history"])).anomalies)
    assert found == BREAKS_THE_REFERENCE[name] == check_plain(case["history"])


def test_empty_history_is_refused() -> None:
    with pytest.raises(BadInputError, match="is empty"):
        read(json.loads((DATA / "edge" / "edge-empty.json").read_text())["history"])


def completed(*values: list[Any], kind: str = "ok") -> list[Record]:
    """Transactions one after the other, each of its own process."""
    records: list[Record] = []
    for process, value in enumerate(values):
        asked = [["poll"] if m[0] == "poll" else ["send", m[1], m[2][1]] for m in value]
        for of_type, said in (("invoke", asked), (kind, value)):
            records.append({"process": process, "type": of_type, "f": "txn", "value": said, "time": len(records)})
    return records


def log_of(evidence: Evidence, key: str) -> list[list[str] | None]:
    """The values seen at each offset of a key, as texts; None where there are none."""
    log: dict[int, list[str]] = {}
    order = evidence.version_order
    for number, offset, message in zip(order.key, order.offset.tolist(), order.message, strict=True):
        if str(evidence.history.keys[number]) == key:
            log.setdefault(offset, []).append(str(evidence.value_of(message)))
    return [sorted(log[offset]) if offset in log else None for offset in range(max(log, default=-1) + 1)]


def index_of(evidence: Evidence, indices: Any) -> dict[str, dict[str, int]]:
    """Key and value, as texts, to an index; without those that have none."""
    found: dict[str, dict[str, int]] = {}
    for message, index in enumerate(indices.tolist()):
        if index >= 0:
            found.setdefault(str(evidence.key_of(message)), {})[str(evidence.value_of(message))] = index
    return found


@NO_CASES
def test_version_orders_are_the_reference_s() -> None:
    for path in CASES:
        case = json.loads(path.read_text())
        if "version-orders" in case.get("expected", ()):
            evidence = Evidence(read([{"process": 0, "time": i} | r for i, r in enumerate(case["history"])]))
            for key, expected in case["expected"]["version-orders"].items():
                log = [sorted(map(str, values)) if values else None for values in expected["log"]]
                assert log_of(evidence, key) == log, path.stem
                if all(len(values) == 1 for values in log if values):
                    assert index_of(evidence, evidence.position)[key] == expected["by-value"], path.stem


def unit(name: str) -> dict[str, Any]:
    table: dict[str, Any] = json.loads(next(path for path in CASES if path.stem == name).read_text())
    return table


@NO_CASES
def test_unit_table_of_version_orders() -> None:
    """One message that was read proves a transaction of unknown outcome; at a conflict either message may be chosen."""
    expected = unit("unit-version-orders-01")["expected"]
    ok, info = (op["value"] for op in unit("unit-version-orders-01")["history"])
    records = completed(ok) + [r | {"process": 9, "time": 9} for r in completed(info, kind="info")]
    evidence = Evidence(read(records))
    assert log_of(evidence, "x") == [sorted(values) if values else None for values in expected["log"]["x"]]
    positions = index_of(evidence, evidence.position)["x"]
    assert positions == {value: i for value, i in expected["by_value"]["x"].items() if value != "c"}
    (conflict,) = check(read(records)).anomalies["inconsistent-offsets"]
    assert [{k: conflict[k] for k in ("key", "index", "offset", "values")}] == expected["errors"]


@NO_CASES
def test_unit_table_of_conflicting_sends() -> None:
    case = unit("unit-version-orders-02")
    found = check(read(case["history"])).anomalies["inconsistent-offsets"]
    assert [{k: a[k] for k in ("key", "index", "offset", "values")} for a in found] == case["expected"]["errors"]


@NO_CASES
def test_unit_table_of_helpers() -> None:
    case = unit("unit-helpers")
    read_all = [[offset, v] for offset, values in enumerate(case["log"]) for v in values or []]
    evidence = Evidence(read(completed([["poll", {"x": read_all}]])))
    assert index_of(evidence, evidence.first_index)["x"] == case["value->first-index"]
    last: list[list[str] | None] = [None] * len(case["last-index->values"])
    for value, index in sorted(index_of(evidence, evidence.last_index)["x"].items()):
        last[index] = [*(last[index] or []), value]
    assert last == case["last-index->values"]
    told_of = completed(case["max-offsets"]["op"]["value"])
    told_of[0]["value"] = [["poll"], ["send", "y", 0], ["send", "y", 1]]
    told_of[1]["value"][1:] = [
        ["send", key, [offset, i]] for i, (_, key, (offset, _)) in enumerate(told_of[1]["value"][1:])
    ]
    told_of[1]["value"][0] = [
        "poll",
        {"x": [[offset, i] for i, (offset, _) in enumerate(told_of[1]["value"][0][1]["x"])]},
    ]
    # Whoever tracks both keys lags behind exactly what that operation told of.
    for key, largest in case["max-offsets"]["expected"].items():
        for known, lag in ((largest - 1, True), (largest, False)):
            poll = [["poll", {key: [[known, 77]]}]]
            late = [r | {"process": 5, "time": 10 + i} for i, r in enumerate(completed(poll))]
            worst = RealtimeLag(Evidence(read(told_of + late))).worst()
            assert worst is not None and (worst["lag"] > 0) == lag


@NO_CASES
def test_lags_are_the_reference_s() -> None:
    for path in CASES:
        case = json.loads(path.read_text())
        if "realtime-lag" in case.get("expected", ()) and case["history"]:
            history = read([{"process": 0, "time": i} | r for i, r in enumerate(case["history"])])
            series = RealtimeLag(Evidence(history), compat=True).series()
            keys = [history.keys[key] for key in series.key.tolist()]
            columns = (series.time.tolist(), series.process.tolist(), keys, series.lag.tolist())
            found = [
                dict(zip(("time", "process", "key", "lag"), row, strict=True)) for row in zip(*columns, strict=True)
            ]
            expected = case["expected"]["realtime-lag"]
            assert sorted(map(repr, map(sorted, map(dict.items, found)))) == sorted(
                map(repr, map(sorted, map(dict.items, expected)))
            ), path.stem


@NO_CASES
def test_unseen_messages_over_time_are_the_reference_s() -> None:
    """But for its quirk: what was not promised by then is not unseen here."""
    for path in CASES:
        case = json.loads(path.read_text())
        if "by-config" in case:
            expected = case["expected"]["unseen"] or []
            evidence = Evidence(read([{"process": 0, "time": i} | r for i, r in enumerate(case["history"])]))
            series = unseen_series(evidence)
            keys = [str(evidence.history.keys[key]) for key in series.key.tolist()]
            rows = list(zip(series.operation.tolist(), series.time.tolist(), keys, series.count.tolist(), strict=True))
            for step in expected:
                now: dict[str, int] = {}
                for _, time, key, count in sorted(rows):
                    now |= {key: count} if time <= step["time"] else {}
                promised = {key: count for key, count in step["unseen"].items() if count and key in now}
                assert {key: count for key, count in now.items() if count} == promised, path.stem
