"""The producer: records are put into batches, batches are sent to leaders, and sent again until they are answered.

A record's call is answered with Response(NONE, (partition, offset)), offset -1 if it is not known (acks=0), or with
(error, whether it may have been written). A refusal is taken to prove that this attempt was not written, which it does
not in a network that duplicates requests of producers without idempotence.

Not modelled: max.block.ms (a call waits for metadata as long as it takes, and the calls after it), buffer.memory,
batches split for their size, adaptive partitioning. Source: KafkaProducer, Sender, RecordAccumulator; KIP-91, KIP-480.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hwmark.refimpl import requests as rpc
from hwmark.refimpl.accumulator import PartitionQueue, ProducerBatch, murmur2
from hwmark.refimpl.batches import NO_SEQUENCE, TopicPartition
from hwmark.refimpl.client import Client
from hwmark.refimpl.config import ClusterConfig
from hwmark.refimpl.errors import Error
from hwmark.refimpl.machine import Address, Call, Effects, Event, Outbox, Return, address, earliest
from hwmark.refimpl.transaction_manager import COMPLETING, AbortTransaction, TransactionManager

TRANSACTIONAL = "transactional"  # context of the requests to coordinators
STALE_METADATA = Error.NOT_LEADER_OR_FOLLOWER, Error.UNKNOWN_TOPIC_OR_PARTITION
MAYBE_WRITTEN = *STALE_METADATA, Error.REQUEST_TIMED_OUT, Error.NOT_ENOUGH_REPLICAS_AFTER_APPEND  # said of appends too
LOST_COORDINATOR = Error.NOT_COORDINATOR, Error.COORDINATOR_NOT_AVAILABLE, Error.REQUEST_TIMED_OUT


class ProducerConfig(NamedTuple):
    """Kafka's settings; times in ms, `batch_records` stands for batch.size."""

    acks: int = -1
    enable_idempotence: bool = True
    transactional_id: str | None = None
    linger: int = 0
    batch_records: int = 100
    max_in_flight: int = 5  # requests per broker
    delivery_timeout: int = 120_000
    transaction_timeout: int = 60_000


class Send(NamedTuple):
    """Send a record: to a partition, or to that of its key, or to any."""

    topic: str
    key: Hashable
    value: Hashable
    partition: int | None = None


class Flush(NamedTuple):
    """Do not linger; answered when no batch is incomplete."""


class Close(NamedTuple):
    """Take no more calls, wait for all batches, abort an open transaction."""


@dataclass(slots=True)
class Producer:
    """A Machine; ValueError for a configuration that Kafka refuses."""

    name: Address
    cluster: ClusterConfig
    config: ProducerConfig
    client: Client = field(init=False)
    manager: TransactionManager = field(init=False)
    queues: dict[TopicPartition, PartitionQueue] = field(default_factory=dict)
    sticky: dict[str, int] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)  # not yet taken
    flushes: list[int] = field(default_factory=list)
    closing: int | None = None  # the call that waits
    is_closed: bool = False
    wake_at: int | None = None
    returns: list[Return] = field(default_factory=list)

    def __post_init__(self) -> None:
        config = self.config
        if config.enable_idempotence and (config.acks != -1 or not 1 <= config.max_in_flight <= 5):
            raise ValueError("idempotence takes acks=all and at most five requests in flight")
        if config.transactional_id is not None and not config.enable_idempotence:
            raise ValueError("transactions take idempotence")
        self.client = Client(self.cluster, Outbox(self.name, self.cluster.request_timeout))
        self.manager = TransactionManager(self.cluster, config.transactional_id, config.transaction_timeout)

    def deadline(self) -> int | None:
        """When to send, send again or give up."""
        return earliest(self.client.deadline(), self.wake_at)

    def step(self, event: Event, now: int) -> Effects:
        """Take calls and answers, then send what can be sent."""
        if isinstance(event, Call):
            self.calls.append(event)
        for asked, response in self.client.receive(event, now):
            if isinstance(asked.context, ProducerBatch):
                self._handle_produce(asked.context, response or rpc.ProduceResponse(Error.REQUEST_TIMED_OUT), now)
            else:
                self._handle_coordinator(asked.body, response, now)
        while self.calls and self._take(self.calls[0], now):
            self.calls.pop(0)
        self._expire(now)
        self._abort_batches()
        self._complete_calls()
        self._ask_coordinator(now)
        while self._drain(now):
            pass
        self.wake_at = self._next_wake(now)
        returns, self.returns, self.manager.returns = self.manager.returns + self.returns, [], []
        return [*returns, *self.client.take(now)]

    def _take(self, call: Call, now: int) -> bool:
        """Whether the call was taken: a record has to wait until it is known how many partitions there are."""
        operation = call.operation
        if self.is_closed:
            self._return(call.number, Error.INVALID_REQUEST)
        elif isinstance(operation, Send):
            return self._append(call.number, operation, now)
        elif isinstance(operation, Flush):
            self.flushes.append(call.number)
        elif isinstance(operation, Close):
            self.closing, self.is_closed = call.number, True
        else:
            self.manager.operate(call.number, operation)
        return True

    def _append(self, number: int, send: Send, now: int) -> bool:
        partition = self._partition(send, now)
        if partition is None:
            return False
        error = self.manager.add_partition(partition)
        if error is not Error.NONE:
            self._return(number, error, False)
            return True
        if partition not in self.queues:
            self.queues = dict(sorted([*self.queues.items(), (partition, PartitionQueue(partition))]))
        self.queues[partition].append(
            (number, send.key, send.value), now, self.config.linger, self.config.batch_records
        )
        return True

    def _partition(self, send: Send, now: int) -> TopicPartition | None:
        """A record without key goes where the last one went, until that would begin another batch (KIP-480)."""
        if send.partition is not None:
            return send.topic, send.partition
        partitions = self.client.partitions_of(send.topic, now)
        if not partitions:
            return None
        if send.key is not None:
            return partitions[murmur2(send.key) % 2**31 % len(partitions)]
        turn = self.sticky.setdefault(send.topic, 0)
        queue = self.queues.get(partitions[turn % len(partitions)])
        if queue is not None and not queue.has_open_batch(self.config.batch_records):
            turn = self.sticky[send.topic] = turn + 1
        return partitions[turn % len(partitions)]

    def _handle_produce(self, batch: ProducerBatch, response: rpc.ProduceResponse, now: int) -> None:
        queue, error = self.queues[batch.topic_partition], response.error
        batch.is_in_flight = False
        batch.doubts -= error not in MAYBE_WRITTEN
        if error in STALE_METADATA:
            self.client.refresh(now)
        if error in (Error.NONE, Error.DUPLICATE_SEQUENCE_NUMBER):
            queue.acknowledge(batch, response.base_offset)
            self._finish(queue, batch, Error.NONE, response.base_offset)
        elif batch in queue.batches and self._may_retry(queue, batch, response):
            batch.ready_at = now + self.cluster.retry_backoff
        else:
            self._fail(queue, batch, error)

    def _may_retry(self, queue: PartitionQueue, batch: ProducerBatch, response: rpc.ProduceResponse) -> bool:
        is_idempotent = self.config.enable_idempotence
        return self.manager.may_retry(queue, batch, response) if is_idempotent else response.error.is_retriable

    def _finish(self, queue: PartitionQueue, batch: ProducerBatch, error: Error, base_offset: int = -1) -> None:
        """Answer the calls of a batch, unless it was given up before."""
        if batch not in queue.batches:
            return
        queue.batches.remove(batch)
        for place, (number, _, _) in enumerate(batch.records):
            written_at = queue.topic_partition, base_offset + place if base_offset >= 0 else -1
            self._return(number, error, written_at if error is Error.NONE else batch.doubts > 0)

    def _fail(self, queue: PartitionQueue, batch: ProducerBatch, error: Error) -> None:
        if batch not in queue.batches:
            return
        place = queue.batches.index(batch)
        self._finish(queue, batch, error)
        if self.config.enable_idempotence:
            self.manager.batch_failed(queue, batch, error, place)

    def _expire(self, now: int) -> None:
        """Give up what is too old, and see what that means for what comes after it."""
        for queue in self.queues.values():
            while queue.batches and queue.batches[0].created_at + self.config.delivery_timeout <= now:
                self._fail(queue, queue.batches[0], Error.REQUEST_TIMED_OUT)
            self.manager.resolve(queue)

    def _abort_batches(self) -> None:
        """A transaction that is to be aborted sends nothing new; after a fatal error nothing is awaited either."""
        state, error = self.manager.state, self.manager.last_error
        if state not in ("FATAL_ERROR", "ABORTABLE_ERROR", "ABORTING_TRANSACTION"):
            return
        for queue in self.queues.values():
            for batch in [one for one in queue.batches if state == "FATAL_ERROR" or not one.is_tracked]:
                self._finish(queue, batch, error if error is not Error.NONE else Error.OPERATION_NOT_ATTEMPTED)

    def _complete_calls(self) -> None:
        """Answer Flush, and Close once there is no transaction any more."""
        if self._has_incomplete():
            return
        for number in self.flushes:
            self._return(number, Error.NONE)
        self.flushes = []
        if self.closing is not None and self.manager.state not in COMPLETING:
            number, self.closing = self.closing, None
            if self.manager.state in ("IN_TRANSACTION", "ABORTABLE_ERROR"):
                self.manager.operate(number, AbortTransaction())
            else:
                self._return(number, Error.NONE)

    def _has_incomplete(self) -> bool:
        return any(queue.batches for queue in self.queues.values())

    def _ask_coordinator(self, now: int) -> None:
        manager = self.manager
        if manager.is_asking or now < manager.retry_at or not self.config.enable_idempotence:
            return
        request = manager.next_request(self._has_incomplete())
        broker_id = None if request is None else self._coordinator(request, now)
        if broker_id is not None:
            self.client.ask(broker_id, request, TRANSACTIONAL, now)
            manager.is_asking = True

    def _coordinator(self, request: Any, now: int) -> int | None:
        if isinstance(request, rpc.TxnOffsetCommitRequest):
            return self.client.coordinator(request.who.group_id, False, now)
        if self.config.transactional_id is not None:
            return self.client.coordinator(self.config.transactional_id, True, now)
        self.client.turn += 1
        return self.cluster.brokers[self.client.turn % len(self.cluster.brokers)]

    def _handle_coordinator(self, request: Any, response: rpc.Response | None, now: int) -> None:
        if response is not None and response.error in LOST_COORDINATOR:
            is_group = isinstance(request, rpc.TxnOffsetCommitRequest)
            key = request.who.group_id if is_group else self.config.transactional_id or ""
            self.client.forget_coordinator(key, not is_group)
        self.manager.handle(request, response, now)

    def _drain(self, now: int) -> bool:
        """Send one batch of every partition that has one to send; whether there was any."""
        is_urgent = bool(self.flushes) or self.is_closed or self.manager.state in COMPLETING
        sent = False
        for queue in self.queues.values():
            batch = queue.first()
            if batch is None or not (batch.ready_at <= now or (is_urgent and not batch.attempts)):
                continue
            leader = self.client.leader(queue.topic_partition, now) if self._may_send(queue, batch) else None
            if leader is not None and self._in_flight(leader.leader) < self.config.max_in_flight:
                self._send(queue, batch, leader.leader, now)
                sent = True
        return sent

    def _may_send(self, queue: PartitionQueue, batch: ProducerBatch) -> bool:
        if self.config.max_in_flight == 1 and batch is not queue.batches[0]:
            return False
        if not self.config.enable_idempotence:
            return True
        return self.manager.may_send(queue.topic_partition) and queue.may_send(batch, self.manager.producer)

    def _in_flight(self, broker_id: int) -> int:
        return sum(asked.destination == address(broker_id) for asked in self.client.outbox.asked.values())

    def _send(self, queue: PartitionQueue, batch: ProducerBatch, broker_id: int, now: int) -> None:
        if self.config.enable_idempotence and batch.base_sequence == NO_SEQUENCE:
            queue.assign_sequence(batch, self.manager.producer)
        batch.attempts += 1
        transactional_id, acks = self.config.transactional_id, self.config.acks
        encoded = batch.encode(transactional_id is not None)
        request = rpc.ProduceRequest(batch.topic_partition, encoded, acks, transactional_id)
        if acks == 0:
            self.client.tell(broker_id, request)
            self._finish(queue, batch, Error.NONE)
        else:
            batch.is_in_flight, batch.doubts = True, batch.doubts + 1
            self.client.ask(broker_id, request, batch, now)

    def _next_wake(self, now: int) -> int | None:
        """When something begins to be due; what is due already waits for something else."""
        queues = [queue for queue in self.queues.values() if queue.batches]
        times = [queue.batches[0].created_at + self.config.delivery_timeout for queue in queues]
        times += [batch.ready_at for batch in [queue.first() for queue in queues] if batch is not None]
        return min((at for at in [*times, self.manager.retry_at] if at > now), default=None)

    def _return(self, number: int, error: Error, value: Any = None) -> None:
        self.returns.append(Return(number, rpc.Response(error, value)))
