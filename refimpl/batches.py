"""What a log holds: batches of records, and the control batches that end a transaction (record format v2, KIP-98)."""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

NO_PRODUCER_ID = NO_PRODUCER_EPOCH = NO_SEQUENCE = NO_TIMESTAMP = -1
SEQUENCE_MAX = 2**31 - 1
COMMIT, ABORT = "COMMIT", "ABORT"

TopicPartition = tuple[str, int]


class Producer(NamedTuple):
    """Who sends a request within a transaction."""

    transactional_id: str
    producer_id: int
    producer_epoch: int


NOBODY = Producer("", NO_PRODUCER_ID, NO_PRODUCER_EPOCH)


class Record(NamedTuple):
    """One message; a value of None is a tombstone."""

    offset: int
    key: Hashable
    value: Hashable


class EpochEndOffset(NamedTuple):
    """The offset after the last one of a leader epoch."""

    epoch: int
    end_offset: int


UNDEFINED = EpochEndOffset(-1, -1)


class Batch(NamedTuple):
    """Records that were appended together, or one transaction marker (`control` COMMIT or ABORT).

    Offsets count from `base_offset`; `last_offset` stays when compaction takes records out.
    """

    base_offset: int
    last_offset: int
    leader_epoch: int
    records: tuple[Record, ...]
    producer_id: int = NO_PRODUCER_ID
    producer_epoch: int = NO_PRODUCER_EPOCH
    base_sequence: int = NO_SEQUENCE
    is_transactional: bool = False
    control: str | None = None
    coordinator_epoch: int = -1
    timestamp: int = NO_TIMESTAMP

    @property
    def next_offset(self) -> int:
        """The offset after the batch."""
        return self.last_offset + 1

    @property
    def last_sequence(self) -> int:
        """The sequence number of the last record; it wraps after SEQUENCE_MAX."""
        last = self.base_sequence + self.last_offset - self.base_offset
        return last % (SEQUENCE_MAX + 1) if self.base_sequence != NO_SEQUENCE else NO_SEQUENCE
