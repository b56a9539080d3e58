"""Kafka's ProducerStateManagerTest and the idempotent appends of UnifiedLogTest, asked of producers' state."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

from hwmark.refimpl.batches import Batch, Record
from hwmark.refimpl.errors import Error, KafkaError
from hwmark.refimpl.log import Log
from hwmark.refimpl.producer_state import CompletedTxn, ProducerStateEntry

TRANSACTION_TIMEOUT_MAX = LATE = 300_000  # in Kafka's tests
NOT_STRAY = "a snapshot is taken only where a segment begins, so that there are no stray ones to remove"
NO_SEQUENCE_ASKED = "a transaction of an unknown producer begins with sequence 0, whichever was asked about first"
DISAGREES = {
    "testRemoveStraySnapshotsKeepCleanShutdownSnapshot.2": NOT_STRAY,
    "testRemoveAllStraySnapshots.1": NOT_STRAY,
    "testVerificationStateEntryExpiration.2": "the coordinator's answer ends a verification, however late",
    **{f"testSequenceAndEpochInVerificationEntry.{number}": NO_SEQUENCE_ASKED for number in (1, 2, 3)},
}
EXCEPTIONS = {
    Error.TRANSACTION_COORDINATOR_FENCED: "TransactionCoordinatorFencedException",
    Error.INVALID_PRODUCER_EPOCH: "InvalidProducerEpochException",
    Error.OUT_OF_ORDER_SEQUENCE_NUMBER: "OutOfOrderSequenceException",
    Error.INVALID_TXN_STATE: "InvalidTxnStateException",
}
FIELDS: dict[str, Callable[[ProducerStateEntry], int | None]] = {
    "epoch": lambda entry: entry.producer_epoch,
    "producerId": lambda entry: entry.producer_id,
    "firstSeq": lambda entry: batches(entry)[0].base_sequence,
    "lastSeq": lambda entry: batches(entry)[-1].last_sequence,
    "firstDataOffset": lambda entry: batches(entry)[0].base_offset,
    "lastDataOffset": lambda entry: batches(entry)[-1].last_offset,
    "currentTxnFirstOffset": lambda entry: entry.current_txn_first_offset,
    "coordinatorEpoch": lambda entry: entry.coordinator_epoch,
}


def batches(entry: ProducerStateEntry) -> list[Batch]:
    """Those of the producer's epoch; older ones are remembered, too, and nobody asks for them."""
    return [one for one in entry.batches if one.producer_epoch == entry.producer_epoch] or [Batch(-1, -1, -1, ())]


def snake_case(name: str) -> str:
    """The method that answers what a table calls by this name."""
    return re.sub(r"(?=[A-Z])", "_", name).lower()


def run(row: dict[str, Any], table: list[dict[str, Any]]) -> None:
    """Apply the row's operations to an empty manager and ask its question; only the fields given are asserted."""
    manager = Manager()
    for name, *arguments in row["ops"]:
        getattr(manager, snake_case(name))(*arguments)
    name, *arguments = row["query"]
    try:
        answer = getattr(manager, snake_case(name))(*arguments)
    except KafkaError as error:
        answer = EXCEPTIONS[error.error]
    except ValueError:
        answer = "IllegalArgumentException"
    assert_answers(answer, row["expect"])


def assert_answers(answer: Any, expect: Any) -> None:
    """Compare as the table says: `ok` is any answer but an exception, an object names the fields that count."""
    if expect == "ok":
        assert not isinstance(answer, str)
    elif isinstance(expect, dict):
        assert isinstance(answer, dict)
        for name, value in expect.items():
            assert answer[name] is not None if value == "present" else answer[name] == value
    else:
        assert answer == expect


def fields(entry: ProducerStateEntry | None) -> dict[str, Any] | None:
    return None if entry is None else {name: value_of(entry) for name, value_of in FIELDS.items()}


def completed_fields(completed: CompletedTxn | None) -> dict[str, Any]:
    names = "producerId", "firstOffset", "lastOffset", "aborted"
    told = (*completed[:3], completed.is_aborted) if completed else ()
    return {"completed": dict(zip(names, told, strict=True)) if completed else None}


class Manager:
    """The operations and queries on the producers of one log, with the clock and the append that is being prepared.

    Where a segment begins, the log keeps a snapshot. Rows have batches where they like, so that the log gets none.
    """

    def __init__(self) -> None:
        self.now = 1_000_000
        self.log = Log()
        self.guards: dict[int, int] = {}
        self.prepared = Log()  # a copy with what is not put to use yet
        self.producer_id, self.origin = -1, ""

    def append(self, producer_id: int, *batch: Any) -> None:
        *numbers, origin = batch
        self.prepare(producer_id, origin)
        self.batch(*numbers)
        self.update()

    def marker(self, producer_id: int, epoch: int, control: str, offset: int, coordinator_epoch: int) -> None:
        self.prepare(producer_id, "coordinator")
        self.prepare_append(self.marker_batch(control, epoch, offset, coordinator_epoch))
        self.update()

    def empty_control_batch(self, producer_id: int, offset: int) -> None:
        self.prepare(producer_id, "client")
        self.prepare_append(self.marker_batch("COMMIT", 0, offset, 0)._replace(records=()))
        self.update()

    def prepare(self, producer_id: int, origin: str) -> None:
        self.prepared, self.producer_id, self.origin = copy.deepcopy(self.log), producer_id, origin

    def batch(self, epoch: int, first_sequence: int, last_sequence: int, first: int, last: int, is_txn: bool) -> None:
        batch = Batch(first, last, 0, (), self.producer_id, epoch, first_sequence, is_txn, timestamp=self.now)
        self.prepare_append(batch)

    def prepare_append(self, batch: Batch) -> CompletedTxn | None:
        """A replica takes what its leader has validated."""
        if self.origin != "replication":
            self.prepared.producer(batch.producer_id).check(batch)
        known, self.prepared.log_end_offset = len(self.prepared.completed), batch.next_offset
        self.prepared.update_producer(batch)
        return self.prepared.completed[-1] if len(self.prepared.completed) > known else None

    def end(self, control: str, epoch: int, offset: int, coordinator_epoch: int) -> dict[str, Any]:
        marker = self.marker_batch(control, epoch, offset, coordinator_epoch)
        return completed_fields(self.prepare_append(marker))

    def marker_batch(self, control: str, epoch: int, offset: int, coordinator_epoch: int) -> Batch:
        record, producer = Record(offset, control, coordinator_epoch), (self.producer_id, epoch, -1, True)
        return Batch(offset, offset, 0, (record,), *producer, control, coordinator_epoch, self.now)

    def update(self) -> None:
        self.log = self.prepared

    def complete_txn(self, producer_id: int, first_offset: int, last_offset: int, is_aborted: bool) -> None:
        """The update of a marker that was prepared has completed its transaction already."""
        entry = self.log.producer(producer_id)
        if entry.current_txn_first_offset == first_offset:
            control = "ABORT" if is_aborted else "COMMIT"
            self.marker(producer_id, entry.producer_epoch, control, last_offset, entry.coordinator_epoch)

    def high_watermark(self, offset: int) -> None:
        self.log.update_high_watermark(offset)

    def snapshot(self) -> None:
        self.log.roll()

    def new_manager(self) -> None:
        self.log = Log(segments=self.log.segments, log_end_offset=self.log.log_end_offset)
        self.log.recover(keeps_unflushed=True)

    def truncate_and_reload(self, log_start_offset: int, log_end_offset: int) -> None:
        """A log starts no higher than its high watermark."""
        self.log.update_high_watermark(max(log_start_offset, self.log.high_watermark))
        self.log.maybe_increment_log_start_offset(log_start_offset)
        self.log.truncate_to(log_end_offset)

    def truncate_fully_and_start_at(self, offset: int) -> None:
        self.log.truncate_fully_and_start_at(offset)

    def delete_snapshots_before(self, offset: int) -> None:
        """They go as the log start offset passes them; where it is, none is of use."""
        self.truncate_and_reload(offset - 1, self.log.log_end_offset)

    def create_snapshot_files(self, offsets: list[int]) -> None:
        self.log.segments.update({offset: {} for offset in offsets})

    def remove_stray_snapshots(self, segments: list[int]) -> None:
        """What never has to be done."""

    def corrupt_snapshot(self, offset: int, _: str) -> None:
        """A file that cannot be read is no snapshot."""
        del self.log.segments[offset]

    def sleep(self, ms: int) -> None:
        self.now += ms

    def expire(self) -> None:
        """Nothing does."""

    def verification(self, producer_id: int, sequence: int, epoch: int) -> None:
        batch = Batch(0, 0, 0, (), producer_id, epoch, sequence, is_transactional=True)
        entry = self.log.producer(producer_id)
        assert entry.is_verified(batch, entry.guard)
        self.guards.setdefault(producer_id, entry.guard)

    def disable_verification(self) -> None:
        """The appends of these rows are not held up anyway."""

    def log_append(self, producer_id: int, epoch: int, sequence: int, count: int) -> dict[str, Any]:
        records = tuple(Record(i, None, i) for i in range(count))
        batch = Batch(0, count - 1, -1, records, producer_id, epoch, sequence, timestamp=self.now)
        end = self.log.log_end_offset
        written = self.log.append_as_leader(batch, 0)
        answer = {"firstOffset": written.base_offset, "lastOffset": written.last_offset}
        return answer | {"duplicate": self.log.log_end_offset == end}

    def last_entry(self, producer_id: int) -> dict[str, Any] | None:
        return fields(self.log.producers.get(producer_id))

    def prepared_entry(self) -> dict[str, Any] | None:
        known, prepared = self.log.producers[self.producer_id], self.prepared.producers[self.producer_id]
        new = tuple(batch for batch in prepared.batches if batch not in known.batches)
        entry = fields(prepared._replace(batches=new))
        assert entry is not None
        return entry | {"startedTransactions": self.started_transactions()}

    def started_transactions(self) -> list[list[int]]:
        entries = self.prepared.producers.values()
        begun = [(entry.producer_id, entry.current_txn_first_offset) for entry in entries]
        return [[id, first] for id, first in begun if first is not None and first not in self.log.ongoing]

    def has_entry(self, producer_id: int) -> bool:
        return producer_id in self.log.producers

    def first_unstable_offset(self) -> int | None:
        return min(self.log.unstable, default=None)

    def first_undecided_offset(self) -> int | None:
        return min(self.log.ongoing, default=None)

    def has_late_transaction(self) -> bool:
        """Kafka's metric: whether the oldest open transaction has outlasted every timeout, and some."""
        first, entries = min(self.log.ongoing, default=None), self.log.producers.values()
        idle = [self.now - entry.batches[-1].timestamp for entry in entries if entry.current_txn_first_offset == first]
        return first is not None and max(idle) > TRANSACTION_TIMEOUT_MAX + LATE

    def last_stable_offset_if_completed(self, *completed: Any) -> int:
        self.complete_txn(*completed)
        return self.log.completed[-1].last_stable_offset

    def active_producer_count(self) -> int:
        return len(self.log.producers)

    def map_end_offset(self) -> int:
        return self.log.log_end_offset

    def snapshot_offsets(self) -> list[int]:
        return sorted(self.log.segments)

    def oldest_snapshot_offset(self) -> int | None:
        return min(self.log.segments, default=None)

    def latest_snapshot_offset(self) -> int | None:
        return max(self.log.segments, default=None)

    def snapshot_exists(self, offset: int) -> bool:
        return offset in self.log.segments

    def verification_entry(self, producer_id: int) -> dict[str, Any] | None:
        """A question has a guard, and no memory of its sequence and epoch."""
        unchanged = self.verification_entry_unchanged(producer_id)
        return {"lowestSequence": None, "epoch": None, "guardUnchanged": unchanged}

    def verification_guard_unchanged(self, producer_id: int) -> bool:
        return self.log.producer(producer_id).guard == self.guards[producer_id]

    def verification_entry_unchanged(self, producer_id: int) -> bool:
        return self.verification_guard_unchanged(producer_id)

    def verification_entry_unchanged_after_failure(self, producer_id: int) -> bool:
        """The failure is the append of the test: sequence 4, where 0 is awaited."""
        try:
            self.append(producer_id, 0, 4, 4, 0, 0, True, "client")
        except KafkaError as error:
            assert error.error is Error.OUT_OF_ORDER_SEQUENCE_NUMBER
            return self.verification_entry_unchanged(producer_id)
        return False
