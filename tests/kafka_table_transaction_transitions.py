"""The table transaction_transitions: states, prepared transitions, and requests to a coordinator whose log answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hwmark.refimpl.config import ClusterConfig
from hwmark.refimpl.coordinator import APPEND_ERRORS, LOADING, Append, Respond
from hwmark.refimpl.errors import Error, KafkaError
from hwmark.refimpl.transaction_coordinator import Effects, TransactionCoordinator
from hwmark.refimpl.transaction_metadata import (
    EXPIRABLE,
    VALID_PREVIOUS_STATES,
    IllegalTransitionError,
    Producer,
    Transaction,
    TransactionMetadata,
)

DISAGREES = {"testDescribeTransactionsWithExpiringTransactionalId.1": "an id is gone with its tombstone: none is dead"}

NOW = 1_000_000
ABORT_INTERVAL = 10_000
PARTITION, COORDINATOR_EPOCH = 0, 5
THROWN = {"IllegalStateException": IllegalTransitionError, "IllegalArgumentException": ValueError}
FIELDS = {
    "producerId": "producer_id",
    "prevProducerId": "previous_producer_id",
    "nextProducerId": "next_producer_id",
    "epoch": "producer_epoch",
    "lastEpoch": "last_producer_epoch",
    "timeoutMs": "timeout_ms",
    "state": "state",
    "pendingState": "pending",
    "partitions": "topic_partitions",
    "txnVersion": "transaction_version",
    "txnStart": "start_timestamp",
    "lastUpdate": "last_update_timestamp",
    "hasFailedEpochFence": "has_failed_epoch_fence",
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


def assert_fields(actual: object, expected: Row) -> None:
    for field, value in expected.items():
        holder = actual
        if isinstance(actual, TransactionMetadata) and FIELDS[field] in Transaction._fields:
            holder = actual.current
        found = getattr(holder, FIELDS[field])
        assert_value(found.state if field == "pendingState" and found else found, field, value)


def metadata_of(transactional_id: str, row: Row, start: int) -> TransactionMetadata:
    fields = {FIELDS[field]: value_of(field, value) for field, value in row.items()}
    has_failed, pending = fields.pop("has_failed_epoch_fence", False), fields.pop("pending", None)
    current = Transaction(**{"start_timestamp": start, "last_update_timestamp": NOW} | fields)
    metadata = TransactionMetadata(transactional_id, current, has_failed_epoch_fence=has_failed)
    metadata.pending = None if pending is None else current._replace(state=pending)
    return metadata


# States and transitions


def run_state(row: Row) -> None:
    expect, state = row["expect"], row["state"]
    assert list(VALID_PREVIOUS_STATES)[expect["id"]] == state == expect["name"]
    assert (state in EXPIRABLE) == expect["expirationAllowed"]


def prepare(metadata: TransactionMetadata, state: str) -> Transaction:
    """What prepares a transition to a state."""
    if state in ("PrepareCommit", "PrepareAbort"):
        return metadata.prepare_end(state, 0, -1, NOW)
    preparations: dict[str, Callable[[], Transaction]] = {
        "Empty": lambda: metadata.prepare_increment(1, None, NOW),
        "Ongoing": lambda: metadata.prepare_add_partitions([("topic", 0)], NOW),
        "CompleteCommit": lambda: metadata.prepare_complete(NOW),
        "CompleteAbort": lambda: metadata.prepare_complete(NOW),
        "Dead": lambda: metadata.prepare("Dead"),
        "PrepareEpochFence": metadata.prepare_fence,
    }
    return preparations[state]()


def run_transition(row: Row) -> None:
    metadata = TransactionMetadata("known", Transaction(10, 1, producer_epoch=0, state=row["from"]))
    try:
        is_valid = prepare(metadata, row["to"]).state == row["to"]
    except ValueError:
        is_valid = False
    assert is_valid == (row["from"] in VALID_PREVIOUS_STATES[row["to"]]) == row["expect"]["valid"]


# Metadata


def apply(metadata: TransactionMetadata, op: list[Any]) -> None:
    """Do an operation of the table."""
    name, *args = op
    args, timeout = [value_of("", one) for one in args], metadata.current.timeout_ms
    if name == "incrementEpoch":
        metadata.prepare_increment(timeout, args[0], [*args, NOW][1])
    elif name == "rotateProducerId":
        metadata.prepare_rotation(args[0], timeout, args[2:] != ["noRecordLastEpoch"], args[1])
    elif name == "addPartitions":
        metadata.prepare_add_partitions(value_of("partitions", args[0]), args[1])
    elif name == "abortOrCommit":
        metadata.prepare_end(*args)
    elif name == "prepareComplete":
        metadata.prepare_complete(args[0])
    elif name == "fenceEpoch":
        metadata.prepare_fence()
    else:
        assert name == "complete", name
        metadata.complete()


def run_metadata(row: Row) -> None:
    metadata, expect = metadata_of("known", row["metadata"], -1), dict(row["expect"])
    if "epochExhaustedBefore" in expect:
        assert metadata.current.is_exhausted == expect.pop("epochExhaustedBefore")

    def apply_all() -> None:
        for op in row["ops"]:
            apply(metadata, op)

    if "throws" in expect:
        with pytest.raises(THROWN[expect.pop("throws")]):
            apply_all()
    elif "error" in expect:
        with pytest.raises(KafkaError) as refusal:
            apply_all()
        assert refusal.value.error.name == expect.pop("error")
    else:
        apply_all()
    assert_fields(metadata.pending, expect.pop("prepared", {}))
    assert_fields(metadata, expect)


# Requests


class ChangedOnSecondRead(dict[str, TransactionMetadata]):
    """A store that answers otherwise from the second lookup on."""

    def __init__(self, first: TransactionMetadata, later: TransactionMetadata) -> None:
        super().__init__({first.transactional_id: later})
        self.first: TransactionMetadata | None = first

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
        known = metadata_of(transactional_id, metadata, NOW)
        coordinator.transactions[transactional_id] = known
        if "metadataOnSecondRead" in row:
            later = metadata_of(transactional_id, row["metadataOnSecondRead"], NOW)
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
        return coordinator.abort_timed_out(NOW + ABORT_INTERVAL)
    if kind == "AbortTimedOut":
        slow = Producer(transactional_id, args["timedOutProducerId"], args["timedOutEpoch"])
        return coordinator.fence("client", NOW + ABORT_INTERVAL, slow)
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
    partitions = value_of("partitions", args["partitions"])
    try:
        errors = coordinator.verify_partitions(producer, partitions)
    except KafkaError as refusal:
        errors = dict.fromkeys(partitions, refusal.error)
    answered = {f"{topic}-{number}": error.name for (topic, number), error in errors.items()}
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
