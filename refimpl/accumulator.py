"""A producer's batches, by partition: what is to be sent, what is under way, and the sequence numbers in them.

A queue has all batches that are incomplete in the order of their records. Each gets its sequence number when it is
sent first and keeps its place when it is sent again, so order needs no sorting. Where Kafka rewrites the numbers of
batches under way, they are forgotten here until these are answered: the order in the log is the same.
Source: RecordAccumulator, ProducerBatch, TxnPartitionEntry, BuiltInPartitioner; KIP-98, KIP-480.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import cache

from hwmark.refimpl.batches import (
    NO_PRODUCER_EPOCH,
    NO_PRODUCER_ID,
    NO_SEQUENCE,
    SEQUENCE_MAX,
    Batch,
    Record,
    TopicPartition,
)
from hwmark.refimpl.producer_state import BATCHES_TO_RETAIN

ProducerIdAndEpoch = tuple[int, int]
NO_PRODUCER: ProducerIdAndEpoch = (NO_PRODUCER_ID, NO_PRODUCER_EPOCH)


@cache
def murmur2(key: Hashable) -> int:
    """Kafka's hash of a key, unsigned: of bytes, or of the UTF-8 of anything else's text."""
    data, m = key if isinstance(key, bytes) else str(key).encode(), 0x5BD1E995
    whole, h = len(data) // 4 * 4, 0x9747B28C ^ len(data)
    for start in range(0, whole, 4):
        k = int.from_bytes(data[start : start + 4], "little") * m % 2**32
        h = h * m % 2**32 ^ (k ^ k >> 24) * m % 2**32
    if data[whole:]:
        h = (h ^ int.from_bytes(data[whole:], "little")) * m % 2**32
    h = (h ^ h >> 13) * m % 2**32
    return h ^ h >> 15


@dataclass(slots=True, eq=False)
class ProducerBatch:
    """Records that are sent together: of each the number of its call, its key and its value.

    It may be sent (again) at `ready_at`; `doubts` counts the attempts that may have been written for all one knows.
    """

    topic_partition: TopicPartition
    created_at: int
    ready_at: int
    records: list[tuple[int, Hashable, Hashable]] = field(default_factory=list)
    producer: ProducerIdAndEpoch = NO_PRODUCER
    base_sequence: int = NO_SEQUENCE
    place: int = 0  # of its numbering among all of its partition
    attempts: int = 0
    doubts: int = 0
    is_in_flight: bool = False

    @property
    def next_sequence(self) -> int:
        """The sequence number after the last record's."""
        return (self.base_sequence + len(self.records)) % (SEQUENCE_MAX + 1)

    @property
    def is_tracked(self) -> bool:
        """Whether it was drained, so that its outcome matters to what comes next."""
        return self.is_in_flight or self.base_sequence != NO_SEQUENCE

    def encode(self, is_transactional: bool) -> Batch:
        """What to send."""
        records = tuple([Record(place, key, value) for place, (_, key, value) in enumerate(self.records)])
        identity = *self.producer, self.base_sequence, is_transactional
        return Batch(0, len(records) - 1, -1, records, *identity, timestamp=self.created_at)


@dataclass(slots=True)
class PartitionQueue:
    """One partition's incomplete batches and the state of its sequence numbers.

    `unresolved` is what would come after a batch that was given up without knowing whether it was written.
    """

    topic_partition: TopicPartition
    batches: list[ProducerBatch] = field(default_factory=list)
    producer: ProducerIdAndEpoch = NO_PRODUCER
    numbered: int = 0  # batches, ever
    next_sequence: int = 0
    next_acked_sequence: int = 0
    last_acked_offset: int = -1
    unresolved: int | None = None

    def has_open_batch(self, batch_records: int) -> bool:
        """Whether the next record joins the last batch."""
        last = self.batches[-1] if self.batches else None
        return last is not None and not last.attempts and len(last.records) < batch_records

    def append(self, record: tuple[int, Hashable, Hashable], now: int, linger: int, batch_records: int) -> None:
        """Put a record into the last batch or a new one; a full one does not linger."""
        if not self.has_open_batch(batch_records):
            self.batches.append(ProducerBatch(self.topic_partition, now, now + linger))
        self.batches[-1].records.append(record)
        if len(self.batches[-1].records) >= batch_records:
            self.batches[-1].ready_at = now

    def first(self) -> ProducerBatch | None:
        """The first batch that is not in flight."""
        return next((batch for batch in self.batches if not batch.is_in_flight), None)

    def may_send(self, batch: ProducerBatch, producer: ProducerIdAndEpoch) -> bool:
        """Whether order allows it: again only the first of all; a new one not while numbers before it are unclear.

        From the first that is not answered on, no more are sent than a leader remembers, and no second one before the
        leader knows the epoch: it would take any number for the first. Kafka counts requests in flight to a broker
        instead, which comes to the same while connections keep the order, and until another broker leads.
        """
        if batch.base_sequence != NO_SEQUENCE:
            return batch is self.batches[0]
        oldest = next((one for one in self.batches if one.is_tracked), None)
        window = BATCHES_TO_RETAIN if self.next_acked_sequence else 1
        if oldest is not None and self.numbered - oldest.place >= window:
            return False
        is_unclear = (
            one.is_in_flight if one.base_sequence == NO_SEQUENCE else one.producer != producer for one in self.batches
        )
        return self.unresolved is None and not any(is_unclear)

    def assign_sequence(self, batch: ProducerBatch, producer: ProducerIdAndEpoch) -> None:
        """Number a batch that has no number, from 0 in a new epoch."""
        if self.producer != producer:
            self.restart(producer)
        batch.producer, batch.base_sequence = producer, self.next_sequence
        self.next_sequence = batch.next_sequence
        batch.place, self.numbered = self.numbered, self.numbered + 1

    def restart(self, producer: ProducerIdAndEpoch) -> None:
        """Begin again at 0."""
        self.producer, self.next_acked_sequence, self.unresolved = producer, 0, None
        self.forget_sequences(0, 0)

    def forget_sequences(self, place: int, next_sequence: int) -> None:
        """The batches from a place on will get new numbers."""
        self.next_sequence = next_sequence
        for batch in self.batches[place:]:
            batch.base_sequence = NO_SEQUENCE

    def acknowledge(self, batch: ProducerBatch, base_offset: int) -> None:
        """The batch is in the log."""
        if batch.base_sequence != NO_SEQUENCE and batch.producer == self.producer:
            self.next_acked_sequence = max(self.next_acked_sequence, batch.next_sequence)
        self.last_acked_offset = max(self.last_acked_offset, base_offset + len(batch.records) - 1)
