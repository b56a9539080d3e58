"""The table transaction_transitions: states, prepared transitions, and requests to a coordinator whose log answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hwmark.refimpl.batches import Producer
from hwmark.refimpl.config import ClusterConfig
from hwmark.refimpl.coordinator import APPEND_ERRORS, LOADING, Append, Respond
from hwmark.refimpl.errors import Error, KafkaError
from hwmark.refimpl.transaction_coordinator import (
    EXPIRABLE,
    VALID_PREVIOUS_STATES,
    Effects,
    Transaction,
    TransactionCoordinator,
)

A_FENCE = "a fence bumps the epoch when the log has it; one that fails is appended again"
FAILED_FENCE = "shouldNotRepeatedlyBumpEpochDueToInitPidDuringOngoingTxnIfAppendToLogFails"
DISAGREES = {
    "testDescribeTransactionsWithExpiringTransactionalId.1": "an id is gone with its tombstone: none is dead",
} | {f"{FAILED_FENCE}.{call}": A_FENCE for call in (1, 2, 3)}

NOW = 1_000_000
ABORT_INTERVAL = 10_000
PARTITION, COORDINATOR_EPOCH = 0, 5
THROWN = {"IllegalStateException": ValueError, "IllegalArgumentException": ValueError}
FIELDS = {
    "producerId": "producer_id",
    "prevProducerId": "previous_producer_id",
    "nextProducerId": "next_producer_id",
    "epoch": "producer_epoch",
    "lastEpoch": "last_producer_epoch",
    "timeoutMs": "timeout_ms",
    "state": "state",
    "partitions": "topic_partitions",
    "txnVersion": "transaction_version",
    "txnStart": "start_timestamp",
    "lastUpdate": "last_update_timestamp",
}

Row = dict[str, Any]


def run(row: Row, table: list[Row]) -> None:
    {"transition": run_transition, "state": run_state, "metadata": run_metadata, "request": run_request}[row["kind"]](
        row
    )


# Values of the table


def value_of(field: str, value: Any) -> Any:
    """A value of the table as refimpl writes it."""
    if field == "partitions":
        return tuple(sorted((topic, int(number)) for topic, _, number in (one.rpartition("-") for one in value)))
    if isinstance(value, str) and value.startswith("now"):
        return NOW + int(value.removeprefix("now") or 0)
    return value


def assert_value(actual: Any, field: str, expected: Any) -> None:
    """An expected value, or "not 1 and not 2"."""
    if isinstance(expected, str) and expected.startswith("not "):
        assert str(actual) not in [one.removeprefix("not ") for one in expected.split(" and ")], field
    else:
        assert actual == value_of(field, expected), field


def assert_fields(actual: Transaction | None, expected: Row) -> None:
    for field, value in expected.items():
        if field == "hasFailedEpochFence":
            assert value is False, field
        else:
            holder = actual.producer if actual and FIELDS[field] in Producer._fields else actual
            assert_value(getattr(holder, FIELDS[field]), field, value)


def transaction_of(transactional_id: str, row: Row, start: int) -> Transaction:
    fields = {FIELDS[field]: value_of(field, value) for field, value in row.items() if field in FIELDS}
    producer = Producer(transactional_id, fields.pop("producer_id"), fields.pop("producer_epoch"))
    return Transaction(**{"producer": producer, "start_timestamp": start, "last_update_timestamp": NOW} | fields)


# States and transitions


def run_state(row: Row) -> None:
    expect, state = row["expect"], row["state"]
    assert list(VALID_PREVIOUS_STATES)[expect["id"]] == state == expect["name"]
    assert (state in EXPIRABLE) == expect["expirationAllowed"]


def prepare(known: Transaction, state: str) -> Transaction:
    """What prepares a transition to a state."""
    if state in ("PrepareCommit", "PrepareAbort"):
        return known.decide(NOW, state)
    preparations: dict[str, Callable[[], Transaction]] = {
        "Empty": lambda: known.initialize(NOW, 1, False),
        "Ongoing": lambda: known.add_partitions(NOW, [("topic", 0)]),
        "CompleteCommit": lambda: known.complete(NOW),
        "CompleteAbort": lambda: known.complete(NOW),
        "Dead": lambda: known.become("Dead", NOW),
        "PrepareEpochFence": lambda: known.fence(NOW),
    }
    return preparations[state]()


def run_transition(row: Row) -> None:
    known = Transaction(Producer("known", 10, 0), 1, state=row["from"])
    try:
        is_valid = prepare(known, row["to"]).state == row["to"]
    except ValueError:
        is_valid = False
    assert is_valid == (row["from"] in VALID_PREVIOUS_STATES[row["to"]]) == row["expect"]["valid"]


# Metadata


def apply(known: Transaction, op: list[Any]) -> Transaction:
    """What an operation of the table makes of a transaction."""
    name, *args = op
    args, timeout = [value_of("", one) for one in args], known.timeout_ms
    if name == "incrementEpoch":
        named = None if args[0] is None else (known.producer.producer_id, args[0])
        return known if known.is_retry(named) else known.initialize([*args, NOW][1], timeout, named is not None)
    if name == "rotateProducerId":
        return known.initialize(args[1], timeout, args[2:] != ["noRecordLastEpoch"], args[0])
    if name == "addPartitions":
        return known.add_partitions(args[1], value_of("partitions", args[0]))
    if name == "abortOrCommit":
        state, version, next_id, now = args
        return known.decide(now, state, version, next_id)
    if name == "prepareComplete":
        return known.complete(args[0])
    assert name == "fenceEpoch", name
    return known.fence(NOW)


def run_metadata(row: Row) -> None:
    known, expect = transaction_of("known", row["metadata"], -1), dict(row["expect"])
    prepared = known
    if "epochExhaustedBefore" in expect:
        assert known.is_exhausted == expect.pop("epochExhaustedBefore")

    def apply_all() -> None:
        nonlocal known, prepared
        for op in row["ops"]:
            if op == ["complete"]:
                known = prepared
            else:
                prepared = apply(known, op)

    if "throws" in expect:
        with pytest.raises(THROWN[expect.pop("throws")]):
            apply_all()
    elif "error" in expect:
        with pytest.raises(KafkaError) as refusal:
            apply_all()
        assert refusal.value.error.name == expect.pop("error")
    else:
        apply_all()
    assert_fields(prepared, expect.pop("prepared", {}))
    assert prepared.state == expect.pop("pendingState", prepared.state)
    assert_fields(known, expect)


# Requests


class ChangedOnSecondRead(dict[str, Transaction]):
    """A store that answers otherwise from the second lookup on."""

    def __init__(self, first: Transaction, later: Transaction) -> None:
        super().__init__({first.producer.transactional_id: later})
        self.first: Transaction | None = first

    def get(self, key: str, default: Any = None) -> Any:
        first, self.first = self.first, None
        return first or super().get(key, default)


def coordinator_of(row: Row, transactional_id: str | None) -> TransactionCoordinator:
    """A coordinator with the metadata of a row."""
    metadata, first_id = row["metadata"], row.get("nextGeneratedProducerId", 0)
    coordinator = TransactionCoordinator(ClusterConfig(), broker_epoch=0, producer_id_count=first_id - 1)
    error = (metadata or {}).get("coordinatorError")
    if error == "COORDINATOR_LOAD_IN_PROGRESS":
        coordinator.epochs[PARTITION] = LOADING
        return coordinator
    assert error in (None, "NOT_COORDINATOR")
    if error is None:
        coordinator.load(PARTITION, [], COORDINATOR_EPOCH, NOW)
    if error is None and metadata is not None and transactional_id:
        known = transaction_of(transactional_id, metadata, NOW)
        coordinator.transactions[transactional_id] = known
        coordinator.pending |= {transactional_id} if "pendingState" in metadata else set()
        if "metadataOnSecondRead" in row:
            later = transaction_of(transactional_id, row["metadataOnSecondRead"], NOW)
            coordinator.transactions = ChangedOnSecondRead(known, later)
    return coordinator


def request(coordinator: TransactionCoordinator, row: Row, transactional_id: Any) -> Effects:
    """Send the request of a row."""
    args, kind = row["args"], row["request"]
    if kind == "InitProducerId":
        expected = (args["expectedProducerId"], args["expectedEpoch"])
        named = None if expected[0] is None else expected
        return coordinator.init_producer_id("client", NOW, transactional_id, args["timeoutMs"], named)
    if kind == "AbortTimedOut" and "timedOutProducerId" not in args:
        return coordinator.tick(NOW + ABORT_INTERVAL)
    if kind == "AbortTimedOut":
        slow = Producer(transactional_id, args["timedOutProducerId"], args["timedOutEpoch"])
        return coordinator.fence(NOW + ABORT_INTERVAL, slow)
    producer = Producer(transactional_id, args["producerId"], args["epoch"])
    if kind == "EndTxn":
        return coordinator.end_txn("client", NOW, producer, args["result"], args["clientTxnVersion"])
    partitions = value_of("partitions", args["partitions"])
    assert kind == "AddPartitions", kind
    return coordinator.add_partitions("client", NOW, producer, partitions)


def run_request(row: Row) -> None:
    transactional_id, expect = row["args"].get("transactionalId", "known"), dict(row["expect"])
    coordinator = coordinator_of(row, transactional_id)
    if row["request"] == "DescribeTransactions":
        assert_described(coordinator, transactional_id, expect)
        return
    if row["request"] == "VerifyPartitions":
        assert_verified(coordinator, row)
        return
    try:
        effects = request(coordinator, row, transactional_id)
    except KafkaError as refusal:
        effects = [Respond("client", refusal.error)]
    appended = [one for one in effects if isinstance(one, Append)]
    assert len(appended) <= 1
    # The table's log answers with what its error means to a client or, where the test forgot it, with the error itself.
    for one in appended:
        effects = effects + coordinator.on_appended(one, Error[row.get("logAppendResult", "NONE")], -1, NOW)
    assert_appended(appended, expect)
    if "metadata" in expect:
        assert_fields(coordinator.transactions[transactional_id], expect.pop("metadata"))
    if expect:
        (response,) = (one for one in effects if isinstance(one, Respond))
        assert_response(response, expect)


def assert_appended(appended: list[Append], expect: Row) -> None:
    if "appendedToLog" in expect:
        assert bool(appended) == expect.pop("appendedToLog")
    if "appended" in expect:
        assert [one.topic_partition[1] for one in appended] == [PARTITION]
        assert_fields(appended[0].records[0][1], expect.pop("appended"))


def assert_response(response: Respond, expect: Row) -> None:
    if "error" in expect:
        error = Error[expect.pop("error")]
        assert response.error is APPEND_ERRORS.get(error, error)
    producer_id, epoch = response.body if isinstance(response.body, tuple) else (-1, -1)
    for field, value in {"producerId": producer_id, "epoch": epoch}.items():
        assert_value(value, field, expect.pop(field, value))
    assert not expect


def assert_verified(coordinator: TransactionCoordinator, row: Row) -> None:
    args, expect = row["args"], dict(row["expect"])
    producer = Producer(args.get("transactionalId", "known"), args["producerId"], args["epoch"])
    answered = {}
    for topic, number in value_of("partitions", args["partitions"]):
        try:
            (answer,) = coordinator.add_partitions("leader", NOW, producer, [(topic, number)], verify_only=True)
            assert isinstance(answer, Respond)
            answered[f"{topic}-{number}"] = answer.error.name
        except KafkaError as refusal:
            answered[f"{topic}-{number}"] = refusal.error.name
    assert answered == expect.pop("errors", answered)
    assert set(answered.values()) == {expect.pop("error")} if expect else True
    assert not expect


def assert_described(coordinator: TransactionCoordinator, transactional_id: str, expect: Row) -> None:
    try:
        described = coordinator.find(transactional_id)
        error = "NONE" if described is not None else "TRANSACTIONAL_ID_NOT_FOUND"
    except KafkaError as refusal:
        described, error = None, refusal.error.name
    assert error == expect.pop("error")
    assert transactional_id == expect.pop("transactionalId", transactional_id)
    assert_fields(described, expect)
