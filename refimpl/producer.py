"""The producer: records are put into batches, batches are sent to leaders, and sent again until they are answered.

A record's call is answered with Response(NONE, (partition, offset)), offset -1 if it is not known (acks=0), or with
(error, whether it may have been written). A refusal is taken to prove that this attempt was not written, which it does
not in a network that duplicates requests of producers without idempotence.

Not modelled: max.block.ms (a call waits for metadata as long as it takes, and the calls after it), buffer.memory,
batches split for their size, adaptive partitioning; murmur2 (keys have librdkafka's hash, CRC-32); flush() and close()
(who waits for his calls has flushed). Source: KafkaProducer, Sender, BuiltInPartitioner; KIP-91, KIP-480.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import NamedTuple
from zlib import crc32

from hwmark.refimpl import requests as rpc
from hwmark.refimpl.accumulator import NEVER_SENT, PartitionQueue, ProducerBatch
from hwmark.refimpl.batches import TopicPartition
from hwmark.refimpl.client import Client
from hwmark.refimpl.config import ClusterConfig
from hwmark.refimpl.errors import Error
from hwmark.refimpl.machine import Address, Call, Effects, Event, Outbox, earliest
from hwmark.refimpl.producer_state import BATCHES_TO_RETAIN
from hwmark.refimpl.transaction_manager import AWAITING, SENDING, TAKING_RECORDS, TransactionManager

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


@dataclass(slots=True)
class Producer:
    """A Machine; ValueError for a configuration that Kafka refuses."""

    name: Address
    cluster: ClusterConfig
    config: ProducerConfig
    client: Client = field(init=False)
    manager: TransactionManager = field(init=False)
    queues: dict[TopicPartition, PartitionQueue] = field(default_factory=dict)
    sticky: int = 0  # how often records without key have gone to another partition
    calls: list[Call] = field(default_factory=list)  # not yet taken
    wake_at: int | None = None

    def __post_init__(self) -> None:
        config = self.config
        if config.enable_idempotence and (config.acks != -1 or not 1 <= config.max_in_flight <= BATCHES_TO_RETAIN):
            raise ValueError("idempotence takes acks=all and at most five batches in flight")
        if config.transactional_id is not None and not config.enable_idempotence:
            raise ValueError("transactions take idempotence")
        self.client = Client(self.cluster, Outbox(self.name, self.cluster.request_timeout))
        state = "NOT_TRANSACTIONAL" if config.transactional_id is None else "UNINITIALIZED"
        self.manager = TransactionManager(self.client, config.transactional_id, config.transaction_timeout, state)

    def deadline(self) -> int | None:
        """When to send, send again or give up."""
        return earliest(self.client.deadline(), self.wake_at)

    def step(self, event: Event, now: int) -> Effects:
        """Take answers and calls, then give up and send what is to be."""
        for asked, response in self.client.receive(event, now):
            if isinstance(asked.context, ProducerBatch):
                self._produced(asked.context, response or rpc.Response(Error.REQUEST_TIMED_OUT))
            else:
                self.manager.handle(asked.body, response or rpc.Response(Error.REQUEST_TIMED_OUT), now)
        if isinstance(event, Call):
            self.calls.append(event)
        while self.calls and self._take(self.calls[0], now):
            self.calls.pop(0)
        self._give_up(now)
        if self.config.enable_idempotence:
            self.manager.ask(self.queues, now)
        for queue in self.queues.values():
            while self._drain(queue, now):
                pass
        self.wake_at = self._next_wake(now)
        return self.client.take(now)

    def _take(self, call: Call, now: int) -> bool:
        """Whether the call was taken: a record has to wait until it is known how many partitions there are."""
        send, error = call.operation, self.manager.refusal(TAKING_RECORDS)
        if not isinstance(send, Send):
            self.manager.operate(call)
        elif error is not Error.NONE:
            self.client.answer(call.number, error, False)
        elif partition := self._partition(send, now):
            queue = self.queues.setdefault(partition, PartitionQueue(partition))
            queue.append((call.number, send.key, send.value), now, self.config.linger, self.config.batch_records)
        else:
            return False
        return True

    def _partition(self, send: Send, now: int) -> TopicPartition | None:
        """A record without key goes where the last one went, until that would begin another batch (KIP-480)."""
        if send.partition is not None:
            return send.topic, send.partition
        partitions = self.client.partitions_of(send.topic, now)
        if not partitions:
            return None
        if send.key is not None:
            return partitions[crc32(str(send.key).encode()) % len(partitions)]
        queue = self.queues.get(partitions[self.sticky % len(partitions)])
        self.sticky += queue is not None and not queue.has_open_batch(self.config.batch_records)
        return partitions[self.sticky % len(partitions)]

    def _produced(self, batch: ProducerBatch, response: rpc.Response) -> None:
        """A batch is written, to be sent again, or fails, unless it was given up before.

        One that is out of order may follow one without answer; if it is the first of all, there is a gap.
        """
        queue, error = self.queues[batch.topic_partition], response.error
        if error.is_retriable:
            self.client.forget_leader(batch.topic_partition)
        if batch not in queue.batches:
            return
        is_early = error is Error.OUT_OF_ORDER_SEQUENCE_NUMBER and batch is not queue.batches[0]
        batch.is_in_flight = False
        batch.doubts -= error not in MAYBE_WRITTEN
        if error is Error.NONE:
            queue.acknowledged = batch.producer
            self._complete(batch, Error.NONE, response.value)
        elif not (is_early or error.is_retriable):
            self._fail(batch, error)

    def _fail(self, batch: ProducerBatch, error: Error) -> None:
        self._complete(batch, error)
        self.manager.batch_failed(batch.producer, error)

    def _complete(self, batch: ProducerBatch, error: Error, base_offset: int = -1) -> None:
        """A batch has come to its end, good or bad: answer its calls."""
        self.queues[batch.topic_partition].batches.remove(batch)
        for place, (number, _, _) in enumerate(batch.records):
            written_at = batch.topic_partition, base_offset + place if base_offset >= 0 else -1
            self.client.answer(number, error, written_at if error is Error.NONE else batch.doubts > 0)

    def _give_up(self, now: int) -> None:
        """Complete what is too old, what was never sent of a transaction that is aborted, and all if that failed."""
        for batch in [batch for queue in self.queues.values() for batch in queue.batches]:
            error = self.manager.refusal(SENDING if batch.place == NEVER_SENT else AWAITING)
            if batch.created_at + self.config.delivery_timeout <= now:
                self._fail(batch, Error.REQUEST_TIMED_OUT)
            elif error is not Error.NONE:
                self._complete(batch, error)

    def _drain(self, queue: PartitionQueue, now: int) -> bool:
        """Send the next batch of a partition; whether there was one that could be sent."""
        batch, config, producer = queue.first_waiting(), self.config, self.manager.producer
        if batch is None or not queue.may_send(batch, producer, config.max_in_flight):
            return False
        if config.enable_idempotence and not self.manager.may_send(queue.topic_partition):
            return False
        is_new, is_ending = batch.place == NEVER_SENT, self.manager.state == "COMMITTING_TRANSACTION"
        is_ready = batch.ready_at <= now or (is_new and is_ending)
        leader = self.client.leader(queue.topic_partition, now) if is_ready else None
        if leader is None:
            return False
        if is_new:
            queue.number(batch, producer)
        encoded = batch.encode(config.transactional_id is not None)
        request = rpc.ProduceRequest(batch.topic_partition, encoded, config.acks, config.transactional_id)
        if config.acks == 0:
            self.client.tell(leader.leader, request)
            self._complete(batch, Error.NONE)
        else:
            batch.is_in_flight, batch.doubts = True, batch.doubts + 1
            self.client.ask(leader.leader, request, batch, now)
        return True

    def _next_wake(self, now: int) -> int | None:
        """When something begins to be due; what is due already waits for something else."""
        times = [self.manager.ask_at or 0]
        for queue in self.queues.values():
            times += [batch.created_at + self.config.delivery_timeout for batch in queue.batches[:1]]
            times += [batch.ready_at for batch in [queue.first_waiting()] if batch is not None]
        return min((at for at in times if at > now), default=None)
