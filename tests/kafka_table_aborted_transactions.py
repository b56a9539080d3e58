"""Kafka's TransactionIndexTest and the transactional part of UnifiedLogTest, asked of the index and of the log."""

from __future__ import annotations

import re
from typing import Any

from hwmark.refimpl.batches import Batch, Record
from hwmark.refimpl.errors import Error, KafkaError
from hwmark.refimpl.log import Log
from hwmark.refimpl.producer_state import CompletedTxn

DISAGREES = {
    "testSanityCheck.1": "the index is no file that could be another segment's, so there is nothing to check",
    "testLastOffsetMustIncrease.1": "only markers enter the index, as they are appended: there is nothing to refuse",
}
END = 1_000
EXCEPTIONS = {
    Error.TRANSACTION_COORDINATOR_FENCED: "TransactionCoordinatorFencedException",
    Error.INVALID_PRODUCER_EPOCH: "InvalidProducerEpochException",
    Error.OUT_OF_ORDER_SEQUENCE_NUMBER: "OutOfOrderSequenceException",
    Error.INVALID_TXN_STATE: "InvalidTxnStateException",
    Error.OFFSET_OUT_OF_RANGE: "OffsetOutOfRangeException",
}


def exception_name(error: Exception) -> str:
    """Kafka's exception for what was raised."""
    if isinstance(error, KafkaError):
        return EXCEPTIONS[error.error]
    return "IllegalArgumentException"


def snake_case(name: str) -> str:
    """The method that answers what a table calls by this name."""
    return re.sub(r"(?=[A-Z])", "_", name).lower()


def run(row: dict[str, Any], table: list[dict[str, Any]]) -> None:
    """Apply the row's operations to an empty index or an empty log, and ask its question."""
    subject: IndexRow | LogRow = IndexRow() if is_about_index(row) else LogRow(row.get("append_as", "leader"))
    for name, *arguments in row["ops"]:
        getattr(subject, snake_case(name))(*arguments)
    name, *arguments = row["query"]
    try:
        answer = getattr(subject, snake_case(name))(*arguments)
    except (KafkaError, ValueError) as error:
        answer = exception_name(error)
    if isinstance(row["expect"], dict):
        answer = {key: answer[key] for key in row["expect"]}
    assert answer == ("ok" if answer is None and row["expect"] == "ok" else row["expect"])


def is_about_index(row: dict[str, Any]) -> bool:
    return row["source"].endswith("TransactionIndexTest.java")


def all_aborted(log: Log) -> list[list[int]]:
    """The index of the aborted transactions, as the table writes it."""
    return [list(txn[:4]) for txn in log.completed if txn.is_aborted]


class IndexRow:
    """The operations and queries on the index of one log, which has no records."""

    def __init__(self) -> None:
        self.log = Log(log_end_offset=END)

    def index_append(self, txn: list[int]) -> None:
        self.log.completed.append(CompletedTxn(*txn, is_aborted=True))

    def truncate_to(self, offset: int) -> None:
        """Where the producers are known, so that no marker is read again."""
        self.log.segments[offset] = {}
        self.log.truncate_to(offset)

    def reset(self) -> None:
        self.log.truncate_fully_and_start_at(0)

    def rename(self) -> None:
        """A file's matter."""

    def reopen(self, start_offset: int) -> None:
        """A file's matter."""

    def sanity_check(self) -> None:
        """A file's matter."""

    def all_aborted(self) -> list[list[int]]:
        return all_aborted(self.log)

    def collect_aborted(self, fetch_offset: int, upper_bound_offset: int) -> dict[str, Any]:
        """It is complete once no later marker can be that of a transaction in the range."""
        found = self.log.aborted_in(fetch_offset, upper_bound_offset)
        not_before = self.log.aborted_in(fetch_offset, END)
        is_complete = any(txn.last_stable_offset >= upper_bound_offset for txn in not_before)
        return {"aborted": [list(txn[:4]) for txn in found], "complete": is_complete}

    def round_trip(self, txn: list[int]) -> list[int]:
        self.index_append(txn)
        return self.all_aborted()[-1]


class LogRow:
    """The operations and queries on one log; the producers count their sequence numbers per epoch."""

    def __init__(self, append_as: str) -> None:
        self.log = Log()
        self.append_as = append_as
        self.sequences: dict[tuple[int, int], int] = {}

    def append(self, batch: Batch) -> None:
        if self.append_as == "leader":
            self.log.append_as_leader(batch, 0)
            return
        base = self.log.log_end_offset
        records = tuple(Record(base + i, key, value) for i, (_, key, value) in enumerate(batch.records))
        moved = batch._replace(base_offset=base, last_offset=base + batch.last_offset, leader_epoch=0, records=records)
        self.log.append_as_follower([moved])

    def data(self, count: int, **producer: Any) -> None:
        records = tuple(Record(i, None, i) for i in range(count))
        self.append(Batch(0, count - 1, -1, records, timestamp=1, **producer))

    def txn(self, producer_id: int, count: int, producer_epoch: int) -> None:
        producer = producer_id, producer_epoch
        sequence = self.sequences.get(producer, 0)
        self.sequences[producer] = sequence + count
        self.data(
            count,
            producer_id=producer_id,
            producer_epoch=producer_epoch,
            base_sequence=sequence,
            is_transactional=True,
        )

    def plain(self, count: int) -> None:
        self.data(count)

    def marker(self, producer_id: int, control: str, producer_epoch: int, coordinator_epoch: int) -> None:
        record = Record(0, control, coordinator_epoch)
        marker = Batch(0, 0, -1, (record,), producer_id, producer_epoch, -1, True, control, coordinator_epoch, 1)
        self.append(marker)

    def high_watermark(self, offset: int) -> None:
        self.log.update_high_watermark(offset)

    def log_start_offset(self, *offset: int) -> int:
        if offset:
            self.log.maybe_increment_log_start_offset(*offset)
        return self.log.log_start_offset

    def roll(self) -> None:
        self.log.roll()

    def delete_old_segments(self) -> None:
        """They went as the log start offset passed them."""

    def reopen(self) -> None:
        self.log.flush()
        self.log.recover()

    def truncate_to(self, offset: int) -> None:
        self.log.truncate_to(offset)

    def truncate_fully_and_start_at(self, offset: int, log_start_offset: int | None = None) -> None:
        """The first batch that a follower appends may come after the log start offset."""
        self.log.truncate_fully_and_start_at(offset if log_start_offset is None else log_start_offset)

    def all_aborted(self) -> list[list[int]]:
        return all_aborted(self.log)

    def first_unstable_offset(self) -> int | None:
        unstable = min(self.log.unstable, default=None)
        return None if unstable is None else max(unstable, self.log.log_start_offset)

    def last_stable_offset(self) -> int:
        return self.log.last_stable_offset

    def log_end_offset(self) -> int:
        return self.log.log_end_offset

    def active_producers(self) -> list[int]:
        return sorted(self.log.producers)

    def read_committed_from(self, offset: int) -> dict[str, Any]:
        batches = self.log.read(offset, self.log.last_stable_offset)
        aborted = self.log.aborted_in(offset, batches[-1].next_offset)
        return {"aborted": [{"producerId": txn.producer_id, "firstOffset": txn.first_offset} for txn in aborted]}

    def read_committed(self, _: str) -> bool:
        """Every offset below the last stable one has something to read, and none from there on."""
        log = self.log
        return all(
            bool(log.read(offset, log.last_stable_offset)) == (offset < log.last_stable_offset)
            for offset in range(log.log_start_offset, log.log_end_offset + 1)
        )
