"""A producer's batches, by partition: what is to be sent, what is under way, and the sequence numbers in them.

A queue has all batches that are incomplete in the order of their records. Each gets its sequence number when it is
sent first, and keeps that and its place when it is sent again: order needs no sorting. What is in flight is counted per
partition, by Kafka per broker: it is the leader of a partition that remembers no more than five batches.
Source: RecordAccumulator, ProducerBatch, TxnPartitionEntry; KIP-98, KIP-480.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from hwmark.refimpl import batches
from hwmark.refimpl.batches import Batch, Record, TopicPartition

ProducerIdAndEpoch = tuple[int, int]
NO_PRODUCER: ProducerIdAndEpoch = (batches.NO_PRODUCER_ID, batches.NO_PRODUCER_EPOCH)
NEVER_SENT = -1


@dataclass(slots=True, eq=False)
class ProducerBatch:
    """Records that are sent together: of each the number of its call, its key and its value.

    It may be sent (again) at `ready_at`; `doubts` counts the attempts that may have been written for all one knows.
    """

    topic_partition: TopicPartition
    created_at: int
    ready_at: int
    records: list[tuple[int, Hashable, Hashable]] = field(default_factory=list)
    place: int = NEVER_SENT  # among all batches of its partition that were ever sent
    producer: ProducerIdAndEpoch = NO_PRODUCER
    base_sequence: int = batches.NO_SEQUENCE
    is_in_flight: bool = False
    doubts: int = 0

    def encode(self, is_transactional: bool) -> Batch:
        """What to send."""
        records = tuple([Record(place, key, value) for place, (_, key, value) in enumerate(self.records)])
        identity = *self.producer, self.base_sequence, is_transactional
        return Batch(0, len(records) - 1, -1, records, *identity, timestamp=self.created_at)


@dataclass(slots=True)
class PartitionQueue:
    """One partition's incomplete batches, and the sequence number of the next record in an epoch of the producer."""

    topic_partition: TopicPartition
    batches: list[ProducerBatch] = field(default_factory=list)
    sent: int = 0  # batches, ever
    producer: ProducerIdAndEpoch = NO_PRODUCER
    next_sequence: int = 0
    acknowledged: ProducerIdAndEpoch = NO_PRODUCER  # the leader knows this one

    def has_open_batch(self, batch_records: int) -> bool:
        """Whether the next record joins the last batch."""
        last = self.batches[-1] if self.batches else None
        return last is not None and last.place == NEVER_SENT and len(last.records) < batch_records

    def append(self, record: tuple[int, Hashable, Hashable], now: int, linger: int, batch_records: int) -> None:
        """Put a record into the last batch or a new one; a full one does not linger."""
        if not self.has_open_batch(batch_records):
            self.batches.append(ProducerBatch(self.topic_partition, now, now + linger))
        self.batches[-1].records.append(record)
        if len(self.batches[-1].records) >= batch_records:
            self.batches[-1].ready_at = now

    def first_waiting(self) -> ProducerBatch | None:
        """The first batch that is not in flight."""
        return next((batch for batch in self.batches if not batch.is_in_flight), None)

    def may_send(self, batch: ProducerBatch, producer: ProducerIdAndEpoch, max_in_flight: int) -> bool:
        """Whether order allows to send the first that waits: again, if it is the first of all; or else in a window.

        That is from the first without answer as many as the leader remembers, but no second one before the leader knows
        the epoch: it takes any number for the first, and the former epoch has to be over.
        """
        first, window = self.batches[0], max_in_flight if self.acknowledged == producer else 1
        return batch is first or (batch.place == NEVER_SENT and self.sent - first.place < window)

    def number(self, batch: ProducerBatch, producer: ProducerIdAndEpoch) -> None:
        """Give a batch that is sent first its place and, of a producer with an id, its sequence number, 0 at first."""
        batch.place, self.sent = self.sent, self.sent + 1
        if self.producer != producer:
            self.producer, self.next_sequence = producer, 0
        if producer != NO_PRODUCER:
            batch.producer, batch.base_sequence = producer, self.next_sequence
            self.next_sequence = (batch.base_sequence + len(batch.records)) % (batches.SEQUENCE_MAX + 1)
