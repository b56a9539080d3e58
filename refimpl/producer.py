"""The producer: records are put into batches, batches are sent to leaders, and sent again until they are answered.

A record's call is answered with Response(NONE, (partition, offset)), offset -1 if it is not known (acks=0), or with
(error, whether it may have been written). A refusal is taken to prove that this attempt was not written, which it does
not in a network that duplicates requests of producers without idempotence.

Not modelled: a topic that gets more partitions (how many there are the producer knows from the start, not who leads
them), max.block.ms, buffer.memory, batches split for their size, adaptive partitioning; murmur2 (keys have librdkafka's
hash, CRC-32); flush() and close() (who waits for his calls has flushed).
Source: KafkaProducer, Sender, BuiltInPartitioner; KIP-91, KIP-480.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import NamedTuple
from zlib import crc32

from hwmark.refimpl import requests as rpc
from hwmark.refimpl import transaction_manager as txn
from hwmark.refimpl.batches import NO_SEQUENCE, SEQUENCE_MAX, Batch, Record, TopicPartition
from hwmark.refimpl.client import Client
from hwmark.refimpl.errors import Error
from hwmark.refimpl.machine import Call, Effects, Event, Outbox, earliest
from hwmark.refimpl.producer_state import BATCHES_TO_RETAIN

OPEN, FULL, IN_FLIGHT, RETRY, DONE = "OPEN", "FULL", "IN_FLIGHT", "RETRY", "DONE"
NEVER_SENT = OPEN, FULL
WAS_LEADER = Error.NOT_LEADER_OR_FOLLOWER, Error.UNKNOWN_TOPIC_OR_PARTITION
MAYBE_WRITTEN = *WAS_LEADER, Error.REQUEST_TIMED_OUT, Error.NOT_ENOUGH_REPLICAS_AFTER_APPEND  # said of appends too


class ProducerConfig(NamedTuple):
    """Kafka's settings; times in ms, `batch_records` stands for batch.size."""

    acks: int = -1
    enable_idempotence: bool = True
    transactional_id: str | None = None
    linger: int = 0
    batch_records: int = 100
    max_in_flight: int = 5  # batches per partition
    delivery_timeout: int = 120_000
    transaction_timeout: int = 60_000


class Send(NamedTuple):
    """Send a record: to a partition, or to that of its key, or to any."""

    topic: str
    key: Hashable
    value: Hashable
    partition: int | None = None


@dataclass(slots=True, eq=False)
class ProducerBatch:
    """Records that are sent together: of each the number of its call, its key and its value.

    `doubts` counts the attempts that may have been written for all one knows.
    """

    topic_partition: TopicPartition
    created_at: int
    records: list[tuple[int, Hashable, Hashable]] = field(default_factory=list)
    state: str = OPEN
    producer: txn.ProducerIdAndEpoch = txn.NO_PRODUCER
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
    producer: txn.ProducerIdAndEpoch = txn.NO_PRODUCER
    next_sequence: int = 0
    acknowledged: txn.ProducerIdAndEpoch = txn.NO_PRODUCER  # the leader knows this one

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

    def next_batch(self, producer: txn.ProducerIdAndEpoch, max_in_flight: int) -> ProducerBatch | None:
        """The first batch that waits, in a window; to be sent again it has to be the first of all.

        The window is what the leader remembers, but no second one before the leader knows the epoch: it takes any
        number for the first, and the former epoch has to be over.
        """
        window = max_in_flight if self.acknowledged == producer else 1
        waiting = [one for one in self.batches[:window] if one.state not in (IN_FLIGHT, DONE)]
        return waiting[0] if waiting and (waiting[0].state != RETRY or waiting[0] is self.batches[0]) else None

    def number(self, batch: ProducerBatch, producer: txn.ProducerIdAndEpoch) -> None:
        """Give a batch of a producer with an id its sequence number, 0 at first."""
        if self.producer != producer:
            self.producer, self.next_sequence = producer, 0
        if producer != txn.NO_PRODUCER:
            batch.producer, batch.base_sequence = producer, self.next_sequence
            self.next_sequence = (batch.base_sequence + len(batch.records)) % (SEQUENCE_MAX + 1)


@dataclass(slots=True)
class Producer(txn.TransactionManager):
    """A Machine; ValueError for a configuration that Kafka refuses."""

    queues: dict[TopicPartition, PartitionQueue] = field(default_factory=dict)
    sticky: int = 0  # how often records without key have gone to another partition
    wake_at: int | None = None

    def __post_init__(self) -> None:
        config = self.config
        is_safe = config.acks == -1 and 1 <= config.max_in_flight <= BATCHES_TO_RETAIN
        if config.enable_idempotence > is_safe or (config.transactional_id and not config.enable_idempotence):
            raise ValueError("transactions take idempotence, that takes acks=all and at most five batches in flight")
        self.state = "UNINITIALIZED" if config.transactional_id else "NOT_TRANSACTIONAL"
        self.client = Client(self.cluster, Outbox(self.name, self.cluster.request_timeout))

    def deadline(self) -> int | None:
        """When to send, send again or give up."""
        return earliest(self.client.deadline(), self.wake_at)

    def step(self, event: Event, now: int) -> Effects:
        """Take answers and calls, then give up and send what is to be."""
        for asked, response in self.client.receive(event, now):
            if isinstance(asked.context, ProducerBatch):
                self._produced(asked.context, response)
            else:
                self.handle(asked.body, response, now)
        if isinstance(event, Call):
            self._take(event, now)
        self._give_up(now)
        if self.config.enable_idempotence:
            self.ask([partition for partition, queue in self.queues.items() if queue.batches], now)
        for queue in self.queues.values():
            while self._drain(queue, now):
                pass
        self.wake_at = min((at for at in self._due() if at > now), default=None)
        return self.client.take(now)

    def _take(self, call: Call, now: int) -> None:
        """Put a record into its queue, if the application may send now; anything else is about transactions."""
        send = call.operation
        if not isinstance(send, Send):
            self.operate(call)
        elif error := self.refusal(txn.TAKING_RECORDS):
            self.client.answer(call.number, error, False)
        else:
            partition = send.topic, self._partition(send)
            queue = self.queues.setdefault(partition, PartitionQueue(partition))
            queue.append((call.number, send.key, send.value), now, self.config.batch_records)

    def _partition(self, send: Send) -> int:
        """A record without key goes where the last one went, until that would begin another batch (KIP-480)."""
        if send.partition is not None:
            return send.partition
        (count,) = [len(topic.assignment) for topic in self.cluster.topics if topic.name == send.topic]
        if send.key is not None:
            return crc32(str(send.key).encode()) % count
        queue = self.queues.get((send.topic, self.sticky % count))
        self.sticky += queue is not None and not queue.has_open_batch()
        return self.sticky % count

    def _produced(self, batch: ProducerBatch, response: rpc.Response) -> None:
        """A batch is written, to be sent again, or fails, unless it was given up before.

        One that is out of order may follow one without answer; if it is the first of all, there is a gap.
        """
        queue, error = self.queues[batch.topic_partition], response.error
        if error.is_retriable:
            self.client.partitions.pop(batch.topic_partition, None)
        if batch.state != IN_FLIGHT:
            return
        is_early = error is Error.OUT_OF_ORDER_SEQUENCE_NUMBER and batch is not queue.batches[0]
        batch.doubts -= error not in MAYBE_WRITTEN
        if error is Error.NONE:
            queue.acknowledged = batch.producer
            self._complete(batch, Error.NONE, response.value)
        elif is_early or error.is_retriable:
            batch.state = RETRY
        else:
            self._complete(batch, error)

    def _complete(self, batch: ProducerBatch, error: Error, base_offset: int = -1) -> None:
        """A batch has come to its end, good or bad; it keeps its place until those before it have."""
        batch.state, queued = DONE, self.queues[batch.topic_partition].batches
        while queued and queued[0].state == DONE:
            queued.pop(0)
        for place, (number, _, _) in enumerate(batch.records):
            written_at = batch.topic_partition, base_offset + place if base_offset >= 0 else -1
            self.client.answer(number, error, written_at if error is Error.NONE else batch.doubts > 0)
        if error is not Error.NONE:
            self.batch_failed(batch.producer, error)

    def _incomplete(self) -> list[ProducerBatch]:
        return [one for queue in self.queues.values() for one in queue.batches if one.state != DONE]

    def _give_up(self, now: int) -> None:
        """Complete what is too old, what was never sent of a transaction that is aborted, and all if that failed."""
        for batch in self._incomplete():
            is_old = batch.created_at + self.config.delivery_timeout <= now
            is_dropped = batch.state in NEVER_SENT or self.state == "FATAL_ERROR"
            error = Error.REQUEST_TIMED_OUT if is_old else self.refusal(txn.SENDING) if is_dropped else None
            if error:
                self._complete(batch, error)

    def _drain(self, queue: PartitionQueue, now: int) -> bool:
        """Send the next batch of a partition; whether there was one that could be sent."""
        config, producer = self.config, self.identity
        batch = queue.next_batch(producer, config.max_in_flight)
        if batch is None or not self.may_send(queue.topic_partition):
            return False
        is_ending = self.state == "COMMITTING_TRANSACTION"
        is_ready = batch.state != OPEN or batch.created_at + config.linger <= now or is_ending
        leader = self.client.leader(queue.topic_partition, now) if is_ready else None
        if leader is None:
            return False
        if batch.state in NEVER_SENT:
            queue.number(batch, producer)
        encoded = batch.encode(config.transactional_id is not None)
        request = rpc.ProduceRequest(batch.topic_partition, encoded, config.acks, config.transactional_id)
        batch.state, batch.doubts = IN_FLIGHT, batch.doubts + 1
        self.client.ask(leader.leader, request, batch, now)
        if config.acks == 0:
            self.client.outbox.asked.popitem()  # nobody answers
            self._complete(batch, Error.NONE)
        return True

    def _due(self) -> list[int]:
        """When something begins to be due; what is due already waits for something else."""
        delays = self.config.linger, self.config.delivery_timeout
        return [self.ask_at or 0, *[batch.created_at + delay for batch in self._incomplete() for delay in delays]]
