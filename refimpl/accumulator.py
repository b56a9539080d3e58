"""A producer's batches, by partition: what is to be sent, what is under way, and the sequence numbers in them.

A queue has batches in the order of their records, from the first without answer on: a batch's place in it is how many
the leader has to remember. Each gets its sequence number when it is sent first, and keeps that when it is sent again:
order needs no sorting. What is in flight is counted per partition, by Kafka per broker.
Source: RecordAccumulator, ProducerBatch, TxnPartitionEntry; KIP-98, KIP-480.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from hwmark.refimpl.batches import NO_SEQUENCE, SEQUENCE_MAX, Batch, Record, TopicPartition
from hwmark.refimpl.transaction_manager import NO_PRODUCER, ProducerIdAndEpoch

OPEN, FULL, IN_FLIGHT, RETRY, DONE = "OPEN", "FULL", "IN_FLIGHT", "RETRY", "DONE"
NEVER_SENT = OPEN, FULL


@dataclass(slots=True, eq=False)
class ProducerBatch:
    """Records that are sent together: of each the number of its call, its key and its value.

    `doubts` counts the attempts that may have been written for all one knows.
    """

    topic_partition: TopicPartition
    created_at: int
    records: list[tuple[int, Hashable, Hashable]] = field(default_factory=list)
    state: str = OPEN
    producer: ProducerIdAndEpoch = NO_PRODUCER
    base_sequence: int = NO_SEQUENCE
    doubts: int = 0

    def encode(self, is_transactional: bool) -> Batch:
        """What to send."""
        records = tuple([Record(place, key, value) for place, (_, key, value) in enumerate(self.records)])
        identity = *self.producer, self.base_sequence, is_transactional
        return Batch(0, len(records) - 1, -1, records, *identity, timestamp=self.created_at)


@dataclass(slots=True)
class PartitionQueue:
    """One partition's batches, and the sequence number of the next record in an epoch of the producer."""

    topic_partition: TopicPartition
    batches: list[ProducerBatch] = field(default_factory=list)
    producer: ProducerIdAndEpoch = NO_PRODUCER
    next_sequence: int = 0
    acknowledged: ProducerIdAndEpoch = NO_PRODUCER  # the leader knows this one

    def has_open_batch(self) -> bool:
        """Whether the next record joins the last batch."""
        return bool(self.batches) and self.batches[-1].state == OPEN

    def append(self, record: tuple[int, Hashable, Hashable], now: int, batch_records: int) -> None:
        """Put a record into the last batch or a new one."""
        if not self.has_open_batch():
            self.batches.append(ProducerBatch(self.topic_partition, now))
        self.batches[-1].records.append(record)
        if len(self.batches[-1].records) >= batch_records:
            self.batches[-1].state = FULL

    def next_batch(self, producer: ProducerIdAndEpoch, max_in_flight: int) -> ProducerBatch | None:
        """The first batch that waits, in a window; to be sent again it has to be the first of all.

        The window is what the leader remembers, but no second one before the leader knows the epoch: it takes any
        number for the first, and the former epoch has to be over.
        """
        window = max_in_flight if self.acknowledged == producer else 1
        waiting = [one for one in self.batches[:window] if one.state not in (IN_FLIGHT, DONE)]
        return waiting[0] if waiting and (waiting[0].state != RETRY or waiting[0] is self.batches[0]) else None

    def number(self, batch: ProducerBatch, producer: ProducerIdAndEpoch) -> None:
        """Give a batch of a producer with an id its sequence number, 0 at first."""
        if self.producer != producer:
            self.producer, self.next_sequence = producer, 0
        if producer != NO_PRODUCER:
            batch.producer, batch.base_sequence = producer, self.next_sequence
            self.next_sequence = (batch.base_sequence + len(batch.records)) % (SEQUENCE_MAX + 1)

    def complete(self, batch: ProducerBatch) -> None:
        """A batch has come to its end, good or bad; it keeps its place until those before it have."""
        batch.state = DONE
        while self.batches and self.batches[0].state == DONE:
            self.batches.pop(0)
