"""A producer's identity and its transactions: one request at a time, derived from what is left to do.

Where Kafka queues requests by priority (producer id, partitions, offsets, end), the state says here which one is next;
a request that failed for a while is thus derived again. Errors are retried, abort the transaction, or are fatal. Going
on after an error takes a new epoch: by InitProducerId (KIP-360), or with the end of the transaction (KIP-890); before,
the next transaction kept the epoch. An idempotent producer bumps its epoch by itself, before KIP-360 it took a new id.

Not modelled: authorization, transactions without AddPartitionsToTxn (KIP-890's second part). Where Kafka would wait for
ever, since an abort was refused but not for good, a new epoch is taken here.
Source: org.apache.kafka.clients.producer.internals.TransactionManager; KIP-98, KIP-360, KIP-588.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hwmark.refimpl import requests as rpc
from hwmark.refimpl.accumulator import NO_PRODUCER, PartitionQueue, ProducerBatch, ProducerIdAndEpoch
from hwmark.refimpl.batches import ABORT, COMMIT, NO_SEQUENCE, TopicPartition
from hwmark.refimpl.config import ClusterConfig
from hwmark.refimpl.errors import Error
from hwmark.refimpl.group_coordinator import ConsumerGroupMetadata
from hwmark.refimpl.group_metadata import OffsetAndMetadata
from hwmark.refimpl.machine import Return
from hwmark.refimpl.transaction_metadata import PRODUCER_EPOCH_MAX, VERSION_2, Producer

NEW, PENDING, ADDED = "new", "pending", "added"  # partitions of the transaction
FENCED = Error.PRODUCER_FENCED, Error.INVALID_PRODUCER_EPOCH
LOST_ID = Error.UNKNOWN_PRODUCER_ID, Error.INVALID_PRODUCER_ID_MAPPING
ABORTABLE = Error.TRANSACTION_ABORTABLE, Error.FENCED_INSTANCE_ID, Error.UNKNOWN_MEMBER_ID, Error.ILLEGAL_GENERATION


class InitTransactions(NamedTuple):
    """Get the producer id and fence whoever had the transactional id."""


class BeginTransaction(NamedTuple):
    """Begin; nothing is sent yet."""


class SendOffsets(NamedTuple):
    """The group's positions, (partition, next offset), become part of the transaction."""

    offsets: tuple[tuple[TopicPartition, int], ...]
    who: ConsumerGroupMetadata


class CommitTransaction(NamedTuple):
    """Wait for all batches, then commit."""


class AbortTransaction(NamedTuple):
    """Drop what was never sent, wait for the rest, then abort."""


Operation = InitTransactions | BeginTransaction | SendOffsets | CommitTransaction | AbortTransaction
TRANSITIONS = {  # the states in which an operation may be called, and that after it
    InitTransactions: (("UNINITIALIZED",), "INITIALIZING"),
    BeginTransaction: (("READY",), "IN_TRANSACTION"),
    SendOffsets: (("IN_TRANSACTION",), "IN_TRANSACTION"),
    CommitTransaction: (("IN_TRANSACTION",), "COMMITTING_TRANSACTION"),
    AbortTransaction: (("IN_TRANSACTION", "ABORTABLE_ERROR"), "ABORTING_TRANSACTION"),
}
COMPLETING = "COMMITTING_TRANSACTION", "ABORTING_TRANSACTION"


@dataclass(slots=True)
class TransactionManager:
    """An idempotent producer's, or with a transactional id a transactional one's.

    Calls are answered with (error, state): after FATAL_ERROR only another producer can go on. INVALID_REQUEST is an
    IllegalStateException.
    """

    config: ClusterConfig
    transactional_id: str | None
    transaction_timeout: int
    state: str = "UNINITIALIZED"
    last_error: Error = Error.NONE
    producer: ProducerIdAndEpoch = NO_PRODUCER
    partitions: dict[TopicPartition, str] = field(default_factory=dict)
    offsets: list[tuple[int, SendOffsets]] = field(default_factory=list)  # with the numbers of their calls
    are_offsets_added: bool = False  # the group of the first ones is in the transaction
    is_started: bool = False  # the coordinator knows of the transaction
    is_bump_required: bool = False
    is_asking: bool = False
    retry_at: int = 0
    call: int | None = None
    returns: list[Return] = field(default_factory=list)

    def operate(self, number: int, operation: Operation) -> None:
        """Take a call of the application."""
        sources, target = TRANSITIONS[type(operation)]
        if self.transactional_id is None or self.state not in sources:
            return self._return(number, self.last_error if self.last_error is not Error.NONE else Error.INVALID_REQUEST)
        self.state = target
        if isinstance(operation, BeginTransaction) or (isinstance(operation, SendOffsets) and not operation.offsets):
            return self._return(number, Error.NONE)
        if isinstance(operation, SendOffsets):
            self.offsets.append((number, operation))
            return None
        if isinstance(operation, AbortTransaction):
            self.partitions = {one: status for one, status in self.partitions.items() if status != NEW}
        self.call = number
        return None

    def add_partition(self, partition: TopicPartition) -> Error:
        """A record is about to be sent: may it?"""
        if self.state in ("ABORTABLE_ERROR", "FATAL_ERROR"):
            return self.last_error
        if self.transactional_id is not None and self.state != "IN_TRANSACTION":
            return Error.INVALID_REQUEST
        self.partitions.setdefault(partition, NEW)
        return Error.NONE

    def may_send(self, partition: TopicPartition) -> bool:
        """Whether batches of a partition can go."""
        is_allowed = self.transactional_id is None or self.partitions.get(partition) == ADDED
        return is_allowed and self.producer != NO_PRODUCER and self.state != "FATAL_ERROR"

    def next_request(self, has_incomplete: bool) -> Any:
        """What to ask the coordinator next, None if nothing; the end of a transaction waits for all batches."""
        producer = Producer(self.transactional_id or "", *self.producer)
        if self.transactional_id is None and self.state == "UNINITIALIZED" and has_incomplete:
            self.state = "INITIALIZING"
        if self.state == "INITIALIZING":
            expected = self.producer if self.producer != NO_PRODUCER else None
            return rpc.InitProducerIdRequest(self.transactional_id, self.transaction_timeout, expected)
        if self.transactional_id is None or self.state not in ("IN_TRANSACTION", *COMPLETING):
            return None
        missing = tuple(sorted([one for one, status in self.partitions.items() if status != ADDED]))
        if missing:
            self.partitions.update(dict.fromkeys(missing, PENDING))
            return rpc.AddPartitionsToTxnRequest(producer, missing)
        if self.offsets:
            return self._offsets_request(producer)
        if self.state == "IN_TRANSACTION" or has_incomplete:
            return None
        if self.is_started and self.last_error is not Error.INVALID_PRODUCER_ID_MAPPING:
            result = COMMIT if self.state == "COMMITTING_TRANSACTION" else ABORT
            return rpc.EndTxnRequest(producer, result, VERSION_2 if self.config.kip_890 else 0)
        self._complete()
        return self.next_request(False)

    def handle(self, request: Any, response: rpc.Response | None, now: int) -> None:
        """Go on by the answer to a request; None: there is none."""
        self.is_asking = False
        if self.state == "FATAL_ERROR":
            return
        if response is None or response.error.is_retriable:
            self.retry_at = now + self.config.retry_backoff
        elif response.error is Error.NONE:
            self._done(request, response.value)
        elif response.error in ABORTABLE or (response.error in LOST_ID and self.config.kip_360):
            self._abortable(response.error)
            if self.state == "ABORTING_TRANSACTION" and isinstance(request, rpc.EndTxnRequest):
                self.is_bump_required = True
                self._complete()
        else:
            self._error("FATAL_ERROR", Error.PRODUCER_FENCED if response.error in FENCED else response.error)

    def may_retry(self, queue: PartitionQueue, batch: ProducerBatch, response: rpc.ProduceResponse) -> bool:
        """Whether a refused batch is to be sent again, in a new epoch if its number is the problem."""
        is_idempotent, error = self.transactional_id is None, response.error
        bumps = is_idempotent and self.config.kip_360
        if is_idempotent and not bumps and batch.producer != self.producer:
            return False
        if error is Error.UNKNOWN_PRODUCER_ID:
            is_retried = response.log_start_offset == -1 or batch.base_sequence == NO_SEQUENCE
            is_deleted = queue.last_acked_offset < response.log_start_offset
            if bumps and not is_retried:
                self._bump(queue)
            elif is_deleted and not is_retried:
                queue.restart(self.producer)
            return is_retried or is_deleted or bumps
        if error is Error.OUT_OF_ORDER_SEQUENCE_NUMBER:
            is_early = queue.unresolved is None and batch.base_sequence != queue.next_acked_sequence
            if bumps and not is_early and queue.unresolved in (None, batch.base_sequence):
                self._bump(queue)
            return is_early or bumps
        return error.is_retriable

    def batch_failed(self, queue: PartitionQueue, batch: ProducerBatch, error: Error, place: int) -> None:
        """A batch, taken out at a place, was refused or (REQUEST_TIMED_OUT) has expired; what becomes of the others."""
        kip_360, is_expired = self.config.kip_360, error is Error.REQUEST_TIMED_OUT
        if error is Error.PRODUCER_FENCED or (error is Error.INVALID_PRODUCER_EPOCH and not kip_360):
            return self._error("FATAL_ERROR", Error.PRODUCER_FENCED)
        if self.transactional_id is not None:
            self._abortable(error)
        if batch.base_sequence == NO_SEQUENCE or (batch.producer != self.producer and not kip_360):
            return None  # nobody counts on its number
        if is_expired:
            queue.unresolved = max(queue.unresolved or 0, batch.next_sequence)
        elif self.transactional_id is None and (kip_360 or error is Error.OUT_OF_ORDER_SEQUENCE_NUMBER):
            self._bump(queue)
        elif error is Error.UNKNOWN_PRODUCER_ID:
            queue.restart(self.producer)
        else:
            queue.forget_sequences(place, batch.base_sequence)
        return None

    def resolve(self, queue: PartitionQueue) -> None:
        """Once all is answered around a batch that was given up: either it was written, or there is a gap."""
        if queue.unresolved is None or any(batch.is_tracked for batch in queue.batches):
            return
        queue.unresolved = None
        if queue.next_sequence == queue.next_acked_sequence or self.state == "FATAL_ERROR":
            return
        if self.transactional_id is None:
            self._bump(queue)
        elif not self.config.kip_360:  # after it, the new epoch of the next transaction does not care
            self._error("FATAL_ERROR", Error.REQUEST_TIMED_OUT)

    def _offsets_request(self, producer: Producer) -> Any:
        _, (offsets, who) = self.offsets[0]
        if not self.are_offsets_added:
            return rpc.AddOffsetsToTxnRequest(producer, who.group_id)
        who = who if self.config.kip_447 else ConsumerGroupMetadata(who.group_id)
        commits = tuple([(partition, OffsetAndMetadata(offset)) for partition, offset in offsets])
        return rpc.TxnOffsetCommitRequest(who, commits, producer)

    def _done(self, request: Any, value: Any) -> None:
        if isinstance(request, rpc.InitProducerIdRequest):
            self.producer = value
            self._ready()
        elif isinstance(request, rpc.AddPartitionsToTxnRequest):
            self.is_started = True
            self.partitions.update(dict.fromkeys(request.topic_partitions, ADDED))
        elif isinstance(request, rpc.AddOffsetsToTxnRequest):
            self.is_started, self.are_offsets_added = True, bool(self.offsets)
        elif isinstance(request, rpc.TxnOffsetCommitRequest) and self.offsets:
            self._return(self.offsets.pop(0)[0], Error.NONE)
            self.are_offsets_added = False
        elif isinstance(request, rpc.EndTxnRequest):
            self.producer = value if request.version >= VERSION_2 else self.producer
            self._complete()

    def _complete(self) -> None:
        """The transaction is over, but for a new epoch if one is required."""
        self.partitions, self.is_started = {}, False
        if self.is_bump_required:
            self.state = "INITIALIZING"
        else:
            self._ready()
        self.is_bump_required = False

    def _ready(self) -> None:
        self.state, self.last_error = "READY", Error.NONE
        self._answer(Error.NONE)

    def _abortable(self, error: Error) -> None:
        """All that is left is to abort, and to go on in a new epoch."""
        with_end = self.config.kip_890 and error is not Error.INVALID_PRODUCER_ID_MAPPING
        self.is_bump_required |= self.config.kip_360 and not with_end
        if self.state in ("ABORTING_TRANSACTION", "FATAL_ERROR"):
            self._give_up(error)
        else:
            self._error("ABORTABLE_ERROR", error)

    def _error(self, state: str, error: Error) -> None:
        self.state, self.last_error = state, error
        self._answer(error)
        self._give_up(error)

    def _give_up(self, error: Error) -> None:
        """What has not been added to the transaction, never will be."""
        self.partitions = {one: status for one, status in self.partitions.items() if status == ADDED}
        for number, _ in self.offsets:
            self._return(number, error)
        self.offsets, self.are_offsets_added = [], False

    def _bump(self, queue: PartitionQueue) -> None:
        """An idempotent producer goes on in a new epoch or, before KIP-360 or after the last epoch, with a new id."""
        producer_id, epoch = self.producer
        if self.config.kip_360 and epoch < PRODUCER_EPOCH_MAX:
            self.producer = producer_id, epoch + 1
        else:
            self.producer, self.state = NO_PRODUCER, "UNINITIALIZED"
        queue.restart(self.producer)

    def _answer(self, error: Error) -> None:
        """The call that waits, if one does."""
        if self.call is not None:
            self._return(self.call, error)
        self.call = None

    def _return(self, number: int, error: Error) -> None:
        self.returns.append(Return(number, rpc.Response(error, self.state)))
