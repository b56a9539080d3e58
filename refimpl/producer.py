"""The producer: records are put into batches, batches are sent to leaders, and sent again until they are answered.

A record's call is answered with Response(NONE, (partition, offset)), offset -1 if it is not known (acks=0), or with
(error, whether it may have been written). A refusal is taken to prove that this attempt was not written, which it does
not in a network that duplicates requests of producers without idempotence. A call about transactions is answered with
(error, state): after FATAL_ERROR only another producer can go on. A call that does not fit is refused with (error,
False): the error that the transaction failed with, or OPERATION_NOT_ATTEMPTED (an IllegalStateException).

Transactions: one request to a coordinator at a time. Where Kafka queues them by priority (producer id, partitions,
offsets, end), the state says here which one is next; it is asked until it is answered. A refusal of offsets aborts the
transaction (by Kafka only one for the group's sake), any other is fatal. Going on after an error takes a new epoch:
with the end of the transaction (KIP-890) or by InitProducerId (KIP-360); before, a batch that failed was the end of a
transactional producer (of Kafka's, only if nobody knew whether it was written). An idempotent producer bumps its epoch
by itself, before KIP-360 it took a new id.

Not modelled: a topic that gets more partitions (how many there are the producer knows from the start, not who leads
them), max.block.ms, buffer.memory, batches split for their size, adaptive partitioning; murmur2 (keys have librdkafka's
hash, CRC-32); flush() and close() (who waits for his calls has flushed); the refusal of settings that do not fit.
Authorization; transactions without AddPartitionsToTxn (KIP-890's second part); several partitions in one
AddPartitionsToTxn; UNKNOWN_PRODUCER_ID, which leaders do not answer any more; coordinators that have forgotten a
transactional id; epochs that run out; INVALID_PRODUCER_EPOCH told as PRODUCER_FENCED; the TxnOffsetCommit without a
member of the time before KIP-447. Where Kafka's idempotent producer sends in the new epoch again what the old one had
no place for, that fails here; and where a batch that has expired is known by the next one to be written, Kafka keeps
the epoch. As long as a batch has to be sent again, no other one of its partition is sent.
Source: KafkaProducer, Sender, BuiltInPartitioner, TransactionManager; KIP-91, KIP-98, KIP-360, KIP-480, KIP-588.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from zlib import crc32

from hwmark.refimpl import requests as rpc
from hwmark.refimpl.batches import ABORT, COMMIT, NO_SEQUENCE, NOBODY, SEQUENCE_MAX, Batch, Record, TopicPartition
from hwmark.refimpl.batches import Producer as Identity
from hwmark.refimpl.client import Client
from hwmark.refimpl.config import ClusterConfig
from hwmark.refimpl.errors import Error
from hwmark.refimpl.group_coordinator import Commits, ConsumerGroupMetadata
from hwmark.refimpl.machine import Address, Call, Effects, Event, Outbox, earliest
from hwmark.refimpl.transaction_coordinator import VERSION_2

NO_PRODUCER: tuple[int, int] = NOBODY[1:]
NEW, IN_FLIGHT, RETRY, DONE = "NEW", "IN_FLIGHT", "RETRY", "DONE"


class ProducerConfig(NamedTuple):
    """Kafka's settings; times in ms, `batch_records` stands for batch.size.

    Idempotence takes acks=all and at most five batches in flight, a transactional id takes idempotence.
    """

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


class InitTransactions(NamedTuple):
    """Get the producer id and fence whoever had the transactional id."""


class BeginTransaction(NamedTuple):
    """Begin; nothing is sent yet."""


class SendOffsets(NamedTuple):
    """The group's positions become part of the transaction."""

    commits: Commits
    who: ConsumerGroupMetadata


class CommitTransaction(NamedTuple):
    """Wait for all batches, then commit."""


class AbortTransaction(NamedTuple):
    """Drop what was never sent, wait for the rest, then abort."""


TRANSITIONS = {  # the states in which an operation may be called, the one that it takes, and that in which it ends
    Send: (("NOT_TRANSACTIONAL", "IN_TRANSACTION"), "", ""),
    InitTransactions: (("UNINITIALIZED",), "INITIALIZING", "READY"),
    BeginTransaction: (("READY",), "IN_TRANSACTION", "IN_TRANSACTION"),
    SendOffsets: (("IN_TRANSACTION",), "IN_TRANSACTION", "IN_TRANSACTION"),
    CommitTransaction: (("IN_TRANSACTION",), "COMMITTING_TRANSACTION", "READY"),
    AbortTransaction: (("IN_TRANSACTION", "ABORTABLE_ERROR"), "ABORTING_TRANSACTION", "READY"),
}
SENDING = "NOT_TRANSACTIONAL", "IN_TRANSACTION", "COMMITTING_TRANSACTION"  # batches are sent for the first time


@dataclass(slots=True, eq=False)
class ProducerBatch:
    """Records that are sent together, as the calls of the application.

    `doubts` counts the attempts that may have been written for all one knows.
    """

    topic_partition: TopicPartition
    created_at: int
    calls: list[Call] = field(default_factory=list)
    state: str = NEW
    producer: tuple[int, int] = NO_PRODUCER
    base_sequence: int = NO_SEQUENCE
    doubts: int = 0


@dataclass(slots=True)
class PartitionQueue:
    """One partition's batches, the epoch that its leader knows, and the sequence number of the next record in that."""

    batches: list[ProducerBatch] = field(default_factory=list)
    acknowledged: tuple[int, int] = NO_PRODUCER
    next_sequence: int = 0


@dataclass(slots=True)
class Producer:
    """A Machine: `state`, `calls` and what follows are about transactions."""

    name: Address
    cluster: ClusterConfig
    config: ProducerConfig
    client: Client = field(init=False)
    queues: dict[TopicPartition, PartitionQueue] = field(default_factory=dict)
    sticky: int = -1  # counts the batches of records without key: each goes to the next partition
    wake_at: int | None = None
    state: str = field(init=False)
    last_error: Error | None = None
    identity: tuple[int, int] = NO_PRODUCER
    calls: list[Call] = field(default_factory=list)  # that wait
    added: tuple[Any, ...] = ()  # what takes part in the transaction: (partition,), a group or its offsets
    request: Any = None  # to a coordinator, that has no answer

    def __post_init__(self) -> None:
        self.state = "UNINITIALIZED" if self.config.transactional_id else "NOT_TRANSACTIONAL"
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
                self._coordinated(asked.body, response)
        if isinstance(event, Call):
            self._take(event, now)
        if self.queues and self.config.enable_idempotence and self.identity == NO_PRODUCER:
            self.identity = self.client.look_up(rpc.InitProducerIdRequest(None), now) or NO_PRODUCER
        for queue in self.queues.values():
            self._give_up(queue, now)
            self._drain(queue, now)
        if self.config.transactional_id:
            self._ask_coordinator(self.config.transactional_id, now)
        delays = self.config.linger, self.config.delivery_timeout
        due = [one.created_at + delay for queue in self.queues.values() for one in queue.batches for delay in delays]
        self.wake_at = min((at for at in due if at > now), default=None)  # what is due waits for something else
        return self.client.take(now)

    def _take(self, call: Call, now: int) -> None:
        """Do what the application calls for, if it may now; if not, that has (error, False) for an answer."""
        sources, target, _ = TRANSITIONS[type(call.operation)]
        if error := self._refusal(sources):
            return self.client.answer(call.number, error, False)
        if isinstance(call.operation, Send):
            return self._append(call, now)
        if isinstance(call.operation, AbortTransaction):
            self._answer(Error.OPERATION_NOT_ATTEMPTED)
        self.state = target
        self.calls.append(call)

    def _refusal(self, states: tuple[str, ...]) -> Error | None:
        """Why not to do what may be done in some states; None in these."""
        return None if self.state in states else self.last_error or Error.OPERATION_NOT_ATTEMPTED

    # ------------------------------------------------------------ records

    def _append(self, call: Call, now: int) -> None:
        """Put a record into the last batch of its partition, or a new one."""
        partition = call.operation.topic, self._partition(call.operation)
        if not self._has_room(partition):
            self.queues[partition].batches.append(ProducerBatch(partition, now))
        self.queues[partition].batches[-1].calls.append(call)

    def _partition(self, send: Send) -> int:
        """A record without key goes where the last one went, until that would begin another batch (KIP-480)."""
        if send.partition is not None:
            return send.partition
        count = self.cluster.partition_count(send.topic)
        if send.key is not None:
            return crc32(str(send.key).encode()) % count
        self.sticky += not self._has_room((send.topic, self.sticky % count))
        return self.sticky % count

    def _has_room(self, partition: TopicPartition) -> bool:
        """Whether the next record joins the last batch of a partition."""
        last = self.queues.setdefault(partition, PartitionQueue()).batches[-1:]
        return any(batch.state == NEW and len(batch.calls) < self.config.batch_records for batch in last)

    def _drain(self, queue: PartitionQueue, now: int) -> None:
        """Send what waits of a partition, in a window: of so many batches leaders remember the numbers.

        What is sent again is sent alone, to keep the order. So is the first batch of an epoch: a leader that does not
        know the epoch takes any number for its first, and the former epoch has to be over.
        """
        is_alone = queue.acknowledged != self.identity or any(batch.state == RETRY for batch in queue.batches)
        limit = self.config.max_in_flight if self.config.acks else len(queue.batches)
        for batch in queue.batches[: 1 if is_alone else limit]:
            is_full = len(batch.calls) >= self.config.batch_records or self.state == "COMMITTING_TRANSACTION"
            is_ready = is_full or batch.created_at + self.config.linger <= now
            if is_ready and self._may_send(batch) and (leader := self.client.leader(batch.topic_partition, now)):
                self._send(queue, batch, leader.leader, now)

    def _may_send(self, batch: ProducerBatch) -> bool:
        """Whether a batch waits, its producer has an id if it needs one, and its partition is in the transaction."""
        is_identified = self.identity != NO_PRODUCER or not self.config.enable_idempotence
        is_added = self.state == "NOT_TRANSACTIONAL" or (batch.topic_partition,) in self.added
        return batch.state in (NEW, RETRY) and is_identified and is_added

    def _send(self, queue: PartitionQueue, batch: ProducerBatch, leader: int, now: int) -> None:
        """Send a batch; the first time it gets its number, in a new epoch 0."""
        config, is_known = self.config, queue.acknowledged == self.identity
        if batch.state == NEW and config.enable_idempotence:
            batch.producer, batch.base_sequence = self.identity, queue.next_sequence if is_known else 0
            queue.next_sequence = (batch.base_sequence + len(batch.calls)) % (SEQUENCE_MAX + 1)
        records = tuple([Record(i, call.operation.key, call.operation.value) for i, call in enumerate(batch.calls)])
        identity = *batch.producer, batch.base_sequence, config.transactional_id is not None
        encoded = Batch(0, len(records) - 1, -1, records, *identity, timestamp=batch.created_at)
        request = rpc.ProduceRequest(batch.topic_partition, encoded, config.acks, config.transactional_id)
        batch.state, batch.doubts = IN_FLIGHT, batch.doubts + 1
        self.client.ask(leader, request, batch, now)
        if config.acks == 0:
            self.client.outbox.asked.popitem()  # nobody answers
            self._complete(batch, Error.NONE)

    def _produced(self, batch: ProducerBatch, response: rpc.Response) -> None:
        """A batch is written, to be sent again, or fails, unless it was given up before.

        One that is out of order may follow one without answer; if it is the first of all, there is a gap. Of an error
        that is retriable only NOT_ENOUGH_REPLICAS says that nothing was written.
        """
        queue, error = self.queues[batch.topic_partition], response.error
        if batch.state == DONE:
            return
        batch.doubts -= not error.is_retriable or error is Error.NOT_ENOUGH_REPLICAS
        is_early = error is Error.OUT_OF_ORDER_SEQUENCE_NUMBER and batch is not queue.batches[0]
        if error is Error.NONE:
            queue.acknowledged = batch.producer
            self._complete(batch, error, response.value)
        elif is_early or error.is_retriable:
            batch.state = RETRY
            self.client.forget_leader(batch.topic_partition)
        else:
            self._fail_batch(batch, error)

    def _complete(self, batch: ProducerBatch, error: Error, base_offset: int = -1) -> None:
        """A batch has come to its end, good or bad; it keeps its place until those before it have."""
        batch.state, queued = DONE, self.queues[batch.topic_partition].batches
        while queued and queued[0].state == DONE:
            queued.pop(0)
        for place, call in enumerate(batch.calls):
            written_at = batch.topic_partition, base_offset + place if base_offset >= 0 else -1
            self.client.answer(call.number, error, written_at if error is Error.NONE else batch.doubts > 0)

    def _fail_batch(self, batch: ProducerBatch, error: Error) -> None:
        """A batch was refused or given up: whatever has a higher number in its epoch may be refused for that."""
        self._complete(batch, error)
        if self.state != "NOT_TRANSACTIONAL":
            self._fail(error, self.cluster.kip_360)
        elif batch.producer == self.identity != NO_PRODUCER:
            self.client.coordinators.clear()
            self.identity = (self.identity[0], self.identity[1] + 1) if self.cluster.kip_360 else NO_PRODUCER

    def _give_up(self, queue: PartitionQueue, now: int) -> None:
        """Complete what is too old, what was never sent of a transaction that is aborted, and all if that failed."""
        for batch in [one for one in queue.batches if one.state != DONE]:
            if batch.created_at + self.config.delivery_timeout <= now:
                self._fail_batch(batch, Error.REQUEST_TIMED_OUT)
            elif (batch.state == NEW or self.state == "FATAL_ERROR") and (error := self._refusal(SENDING)):
                self._complete(batch, error)

    # ------------------------------------------------------------ transactions

    def _ask_coordinator(self, transactional_id: str, now: int) -> None:
        """Ask what is to be asked next, unless an answer is awaited."""
        is_under_way = self.request in [asked.body for asked in self.client.outbox.asked.values()]
        self.request = self.request or self._next_request(transactional_id)
        lookup = rpc.FindCoordinatorRequest(transactional_id, is_transaction=True)
        if isinstance(self.request, rpc.TxnOffsetCommitRequest):
            lookup = rpc.FindCoordinatorRequest(self.request.who.group_id)
        broker_id = self.client.look_up(lookup, now) if self.request and not is_under_way else None
        if broker_id is not None:
            self.client.ask(broker_id, self.request, self.request, now)

    def _next_request(self, transactional_id: str) -> Any:
        """What is left to do, None if nothing; the end of a transaction waits for the partitions' batches."""
        operation = self.calls[0].operation if self.calls else None
        producer = Identity(transactional_id, *self.identity)
        for partition, queue in self.queues.items():
            if queue.batches and (partition,) not in self.added:
                return rpc.AddPartitionsToTxnRequest(producer, (partition,))
        if isinstance(operation, SendOffsets):
            if operation.who.group_id not in self.added:
                return rpc.AddOffsetsToTxnRequest(producer, operation.who.group_id)
            return rpc.TxnOffsetCommitRequest(operation.who, operation.commits, producer)
        if operation is None or any(queue.batches for queue in self.queues.values()):
            return None
        if self.added:
            result = COMMIT if isinstance(operation, CommitTransaction) else ABORT
            return rpc.EndTxnRequest(producer, result, VERSION_2 if self.cluster.kip_890 else 0)
        if self.identity == NO_PRODUCER or (self.last_error and self.cluster.kip_360):
            expected = self.identity if self.last_error else None
            return rpc.InitProducerIdRequest(transactional_id, self.config.transaction_timeout, expected)
        self.state, self.last_error = TRANSITIONS[type(operation)][2], None
        return self._answer(Error.NONE)

    def _coordinated(self, request: Any, response: rpc.Response) -> None:
        """Go on by a coordinator's answer."""
        if response.error.is_retriable:
            return self.client.coordinators.clear()
        self.request = None
        if response.error is not Error.NONE:
            self._fail(response.error, is_abortable=isinstance(request, rpc.TxnOffsetCommitRequest))
        elif isinstance(request, rpc.EndTxnRequest | rpc.InitProducerIdRequest):
            self.added = ()
            if response.value != self.identity:
                self.identity, self.last_error = response.value, None
        elif isinstance(request, rpc.TxnOffsetCommitRequest) and self.state in SENDING:
            self.client.answer(self.calls.pop(0).number, Error.NONE, self.state)
        else:
            self.added += (request[1],)

    def _fail(self, error: Error, is_abortable: bool) -> None:
        """All that is left is to abort, or nothing."""
        if self.state != "FATAL_ERROR":
            self.last_error = error
            if not is_abortable or self.state != "ABORTING_TRANSACTION":
                self.state = "ABORTABLE_ERROR" if is_abortable else "FATAL_ERROR"
                self._answer(error)

    def _answer(self, error: Error) -> None:
        """Answer whoever waits."""
        while self.calls:
            self.client.answer(self.calls.pop(0).number, error, self.state)
