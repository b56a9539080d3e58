"""What brokers write to __consumer_offsets and __transaction_state, by the version that begins each key and value.

Source: Kafka's message definitions `OffsetCommitKey`, `OffsetCommitValue`, `GroupMetadataKey`, `TransactionLogKey` and
`TransactionLogValue`. Of the group records only the committed offsets are taken apart; records of other types (group
members, assignments, share and streams groups) are passed over.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from hwmark.checkers.audit.records import Record

CONSUMER_OFFSETS, TRANSACTION_STATE = "__consumer_offsets", "__transaction_state"
COMPACTED = (CONSUMER_OFFSETS, TRANSACTION_STATE)
"""Topics that are always compacted; of share groups' state whole segments are deleted."""
INTERNAL = (*COMPACTED, "__share_group_state")
"""Topics that only coordinators write to."""
METADATA_LOG = "__cluster_metadata"
OFFSET_COMMIT_KEYS = (0, 1)
OFFSET_COMMIT_VALUES = range(5)
TRANSACTION_VALUES = range(2)
FLEXIBLE_OFFSET_COMMIT, FLEXIBLE_TRANSACTION = 4, 1


class MalformedError(ValueError):
    """A key or a value that is not as its version has it; the message says what."""


class TransactionStatus(IntEnum):
    """What a transaction coordinator knows of a transactional id."""

    EMPTY = 0
    ONGOING = 1
    PREPARE_COMMIT = 2
    PREPARE_ABORT = 3
    COMPLETE_COMMIT = 4
    COMPLETE_ABORT = 5
    DEAD = 6
    PREPARE_EPOCH_FENCE = 7


class GroupOffset(NamedTuple):
    """An offset that a group committed; `offset` is None where the commit was deleted."""

    group: str
    topic: str
    partition: int
    offset: int | None
    leader_epoch: int
    timestamp: int


class TransactionState(NamedTuple):
    """A transaction as its coordinator wrote it down; `timestamp` is of the last change, in milliseconds."""

    transactional_id: str
    producer_id: int
    producer_epoch: int
    status: TransactionStatus
    partitions: frozenset[tuple[str, int]]
    timestamp: int


class _Fields:
    """The fields of a key or a value, one after the other."""

    def __init__(self, data: bytes, flexible_from: int | None = None) -> None:
        self._data, self._place = data, 0
        self.version = self.number(2)
        self.is_flexible = flexible_from is not None and self.version >= flexible_from

    def number(self, size: int) -> int:
        """A signed number of so many bytes."""
        return int.from_bytes(self._take(size), "big", signed=True)

    def text(self) -> str:
        """A string that is not null."""
        size = self._varint() - 1 if self.is_flexible else self.number(2)
        try:
            return self._take(size).decode()
        except UnicodeDecodeError:
            raise MalformedError(f"byte {self._place}: a string is not text") from None

    def count(self) -> int:
        """How many elements an array has, none for null."""
        return max((self._varint() - 1) if self.is_flexible else self.number(4), 0)

    def tags(self) -> None:
        """Skip the tagged fields."""
        for _ in range(self._varint() if self.is_flexible else 0):
            self._varint()
            self._take(self._varint())

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._take(1)[0]
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7

    def _take(self, size: int) -> bytes:
        if size < 0 or self._place + size > len(self._data):
            raise MalformedError(f"byte {self._place}: {size} bytes are expected, {len(self._data)} is the end")
        self._place += size
        return self._data[self._place - size : self._place]


def group_offset(record: Record) -> GroupOffset | None:
    """The offset that a record of __consumer_offsets commits, None if it is about something else.

    Raises MalformedError, also for versions that nobody has defined yet.
    """
    key = _Fields(record.key or b"")
    if key.version not in OFFSET_COMMIT_KEYS:
        if key.version < 0:
            raise MalformedError(f"the key's version is {key.version}")
        return None
    group, topic, partition = key.text(), key.text(), key.number(4)
    if record.value is None:
        return GroupOffset(group, topic, partition, None, -1, record.timestamp)
    value = _Fields(record.value, FLEXIBLE_OFFSET_COMMIT)
    if value.version not in OFFSET_COMMIT_VALUES:
        raise MalformedError(f"the value's version is {value.version}, known are 0 to {OFFSET_COMMIT_VALUES[-1]}")
    offset = value.number(8)
    leader_epoch = value.number(4) if value.version >= 3 else -1
    value.text()
    return GroupOffset(group, topic, partition, offset, leader_epoch, value.number(8))


def transaction_state(record: Record) -> TransactionState | None:
    """The state that a record of __transaction_state writes down, None where it forgets one. Raises MalformedError."""
    key = _Fields(record.key or b"")
    if key.version != 0:
        raise MalformedError(f"the key's version is {key.version}, known is 0")
    transactional_id = key.text()
    if record.value is None:
        return None
    value = _Fields(record.value, FLEXIBLE_TRANSACTION)
    if value.version not in TRANSACTION_VALUES:
        raise MalformedError(f"the value's version is {value.version}, known are 0 and 1")
    producer_id, producer_epoch, _, status = value.number(8), value.number(2), value.number(4), value.number(1)
    if status not in TransactionStatus.__members__.values():
        raise MalformedError(f"the status is {status}, known are 0 to {max(TransactionStatus)}")
    partitions = set()
    for _ in range(value.count()):
        topic = value.text()
        partitions |= {(topic, value.number(4)) for _ in range(value.count())}
        value.tags()
    return TransactionState(
        transactional_id,
        producer_id,
        producer_epoch,
        TransactionStatus(status),
        frozenset(partitions),
        value.number(8),
    )
