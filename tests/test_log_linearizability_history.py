"""Recorded histories turned into partition logs: what may be claimed from them, and what may not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from hwmark.checkers.linearizability.judgement import Judgement
from hwmark.checkers.linearizability.log_history import check_history, partition_logs
from hwmark.checkers.verdict import Holds, Unknown, Violated
from hwmark.traces.history import History, read_history
from hwmark.traces.history_records import parse_lines

RECORDED = Path(__file__).parents[1] / "traces" / "recorded"
Event = tuple[Any, ...]


def history_of(*events: Event, acks: str = "all") -> History:
    """A history of (process, type, f, value) records, and `final` marks; times count the records."""
    records: list[dict[str, Any]] = [
        {"process": "nemesis", "type": "info", "f": "config", "value": {"acks": acks}, "time": 0, "index": 0}
    ]
    for time, (process, kind, f, value, *final) in enumerate(events, 1):
        record = {"process": process, "type": kind, "f": f, "value": value, "time": time, "index": time}
        records.append(record | ({"final": final[0]} if final else {}))
    return parse_lines([orjson.dumps(record) + b"\n" for record in records], "history")


def judge(*events: Event, acks: str = "all") -> Judgement:
    """The judgement on key 0."""
    return check_history(history_of(*events, acks=acks))[0]


def send(value: int, offset: int | None, process: int = 0, kind: str = "ok") -> list[Event]:
    return [(process, "invoke", "send", [["send", 0, value]]), (process, kind, "send", [["send", 0, [offset, value]]])]


def txn(values: dict[int, int], kind: str, process: int = 1) -> list[Event]:
    """A transaction that sent values, each to its offset."""
    invoked = [["send", 0, value] for value in values]
    completed = [["send", 0, [offset, value]] for value, offset in values.items()]
    return [(process, "invoke", "txn", invoked), (process, kind, "txn", completed)]


def poll(read: list[list[int | None]], *final: str, process: int = 2) -> list[Event]:
    invoked = (process, "invoke", "poll", [["poll"]], *final)
    return [invoked, (process, "ok", "poll", [["poll", {"0": read}]], *final)]


def test_a_quiet_log_holds_with_an_order_of_rows() -> None:
    judgement = judge(*send(7, 0), *poll([[0, 7]]), *poll([[0, 7]], "read_committed"))
    assert isinstance(judgement.verdict, Holds) and judgement.order == (0, 1, 2)


def test_a_history_without_messages_has_no_logs() -> None:
    assert check_history(history_of((2, "invoke", "poll", [["poll"]]), (2, "ok", "poll", [["poll", {}]]))) == {}


def test_what_a_closing_read_lacks_is_lost() -> None:
    judgement = judge(*send(7, 0), *send(8, 1), *poll([[0, 7]], "read_committed"))
    assert isinstance(judgement.verdict, Violated) and judgement.verdict.name == "real-time"
    assert judgement.verdict.witness.operations == (1, 2)
    hole = judge(*send(7, 0), *send(8, 1), *poll([[1, 8]], "read_committed"))
    assert isinstance(hole.verdict, Violated) and hole.verdict.name == "fetch-shape"


def test_an_ordinary_poll_may_be_old_but_knows_no_future() -> None:
    assert isinstance(judge(*send(7, 0), *send(8, 1), *poll([[0, 7]])).verdict, Holds)
    future = judge(*poll([[0, 7]]), *send(7, 0))
    assert isinstance(future.verdict, Violated) and future.verdict.name == "real-time"


def test_a_send_of_unknown_outcome_may_have_happened_or_not() -> None:
    unknown = [(0, "invoke", "send", [["send", 0, 7]]), (0, "info", "send", [["send", 0, 7]])]
    assert isinstance(judge(*unknown, *poll([], "read_committed"), *poll([[0, 7]])).verdict, Holds), "it came late"
    assert isinstance(judge(*unknown, *poll([[0, 7]]), *poll([], "read_committed")).verdict, Violated)
    assert isinstance(judge(*unknown, *poll([[0, 7]]), *poll([[0, 7]], "read_committed")).verdict, Holds)
    assert isinstance(judge(*unknown, *send(8, 0, 3), *poll([[0, 8]], "read_committed")).verdict, Holds)


def test_a_failed_send_is_never_seen() -> None:
    judgement = judge(*send(7, None, kind="fail"), *poll([[0, 7]]))
    assert isinstance(judgement.verdict, Violated) and judgement.verdict.name == "no-phantom"


def test_two_values_at_one_offset_diverge() -> None:
    judgement = judge(*send(7, 0), *send(8, 0))
    assert isinstance(judgement.verdict, Violated) and judgement.verdict.name == "agreement"


def test_acks_of_one_promise_nothing() -> None:
    lost = [*send(7, 0), *send(8, 0), *poll([[0, 8]], "read_committed")]
    assert isinstance(judge(*lost, acks="1").verdict, Holds)
    assert isinstance(judge(*lost, acks="all").verdict, Violated)
    counted = check_history(history_of(*lost, acks="1"), every_acknowledgement_counts=True)[0]
    assert isinstance(counted.verdict, Violated)
    assert isinstance(judge(*send(7, 0), *poll([[0, 7], [1, 7]]), acks="1").verdict, Holds), "copies may follow"
    assert isinstance(judge(*send(7, 0), *poll([[0, 7], [1, 7]]), acks="all").verdict, Violated)


def test_gaps_claim_nothing() -> None:
    assert isinstance(judge(*send(7, 30_000_000), *poll([[30_000_000, 7]], "read_committed")).verdict, Holds)
    assert isinstance(judge(*send(7, 0), *send(8, 5), *poll([[0, 7], [5, 8]])).verdict, Holds)


def test_committed_data_are_seen_and_aborted_data_are_not() -> None:
    closing = [*poll([[0, 7], [2, 9]], "read_committed"), *poll([[0, 7], [2, 9], [3, 8]], "read_uncommitted")]
    good = [*txn({7: 0}, "ok"), *send(9, 2), *txn({8: 3}, "fail")]
    assert isinstance(judge(*good, *closing).verdict, Holds)
    raw_first = [*closing[2:], *closing[:2]]
    assert isinstance(judge(*good, *raw_first).verdict, Holds), "aborted data at the end hide nothing"
    aborted = judge(*good, *poll([[3, 8]]), *closing)
    assert isinstance(aborted.verdict, Violated) and aborted.verdict.name == "transaction"
    torn = judge(*txn({7: 0, 8: 1}, "ok"), *poll([[0, 7]], "read_committed"))
    assert isinstance(torn.verdict, Violated)


def test_a_transaction_of_unknown_outcome_committed_if_a_client_saw_it() -> None:
    raw = poll([[0, 7], [2, 9]], "read_uncommitted")
    data = [*txn({7: 0}, "info"), *send(9, 2)]
    assert isinstance(judge(*data, *poll([[0, 7], [2, 9]], "read_committed"), *raw).verdict, Holds)
    assert isinstance(judge(*data, *poll([[2, 9]], "read_committed"), *raw).verdict, Holds)
    both = judge(*data, *poll([[0, 7]]), *poll([[2, 9]], "read_committed"), *raw)
    assert isinstance(both.verdict, Violated)


def test_only_what_fails_wherever_markers_stand_is_violated() -> None:
    """The one gap is behind 9, which a client read before it was sent; the transaction's marker may be elsewhere."""
    events = [
        (1, "invoke", "txn", [["send", 0, 7]]),
        *poll([[0, 7]]),
        *send(9, 1),
        (1, "ok", "txn", [["send", 0, [0, 7]]]),
    ]
    judgement = judge(*events)
    assert isinstance(judgement.verdict, Unknown) and "control records" in judgement.verdict.why


def test_moved_partitions_excuse_a_skip() -> None:
    skip = [*send(7, 0), *send(8, 1), *send(9, 2), (2, "invoke", "poll", [["poll"]])]
    answer = (2, "ok", "poll", [["poll", {"0": [[0, 7], [2, 9]]}]])
    assert isinstance(judge(*skip, answer).verdict, Violated)
    history = history_of(*skip, answer)
    records = [{"process": "nemesis", "type": "info", "f": "config", "value": {"acks": "all"}, "time": 0, "index": 0}]
    for time, (process, kind, f, value) in enumerate([*skip, answer], 1):
        records.append({"process": process, "type": kind, "f": f, "value": value, "time": time, "index": time})
    records[-1]["rebalance-log"] = [{"keys": [0]}]
    moved = parse_lines([orjson.dumps(record) + b"\n" for record in records], "history")
    assert isinstance(check_history(moved)[0].verdict, Holds) and len(history.operations) == len(moved.operations)


@pytest.mark.parametrize("path", sorted(RECORDED.glob("*.jsonl")), ids=lambda path: path.stem)
def test_orders_name_every_acknowledged_append_of_a_recording(path: Path) -> None:
    history = read_history(path)
    judgements = check_history(history)
    for recorded in partition_logs(history):
        order, appends = judgements[recorded.key].order, recorded.log.appends
        if order is not None:
            placed = set(recorded.row[appends.operation[appends.offset >= 0]].tolist())
            assert placed <= set(order)


def test_a_closing_read_ends_behind_what_it_had_to_leave_out() -> None:
    """Two aborted records and their marker at the end: the log is longer than what the closing read returned."""
    aborted = [*send(7, 0), *txn({8: 1, 9: 2}, "fail"), *poll([[0, 7]], "read_committed")]
    seen = poll([[0, 7], [1, 8], [2, 9]], "read_uncommitted", process=4)
    assert isinstance(judge(*aborted, *seen).verdict, Holds)
    assert isinstance(judge(*aborted, *seen, *send(10, 4)).verdict, Holds)
    lost = judge(*send(7, 0), *txn({8: 1, 9: 2}, "fail"), *send(10, 4), *poll([[0, 7]], "read_committed"), *seen)
    assert isinstance(lost.verdict, Violated)


def test_a_read_without_an_offset_may_not_return_what_never_happened() -> None:
    for reads, holds in (([[None, 7]], True), ([[None, 8]], False), ([[None, 9]], False), ([[None, 10]], True)):
        events = [*send(7, 0), *txn({8: 1}, "fail"), (3, "invoke", "send", [["send", 0, 10]]), *poll(reads)]
        assert isinstance(judge(*events).verdict, Holds if holds else Violated)
    aborted = [*send(7, 0), *txn({8: 1}, "fail"), *poll([[0, 7], [None, 8]], "read_uncommitted")]
    assert isinstance(judge(*aborted).verdict, Holds)
    verdict = judge(*send(7, 0), *txn({8: 1}, "fail"), *poll([[None, 8]])).verdict
    assert isinstance(verdict, Violated) and verdict.witness.operations == (1, 2)
