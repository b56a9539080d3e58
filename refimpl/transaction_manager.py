"""A producer's identity and its transactions: one request at a time, derived from what is left to do.

Where Kafka queues requests by priority (producer id, partitions, offsets, end), the state says here which one is next;
it is asked until it is answered. A refusal of offsets aborts the transaction (by Kafka only one for the group's sake),
any other is fatal. Going on after an error takes a new epoch: with the end of the transaction (KIP-890) or by
InitProducerId (KIP-360); before, a batch that failed was the end of a transactional producer (of Kafka's, only if
nobody knew whether it was written). An idempotent producer bumps its epoch by itself, before KIP-360 it took a new id.

Not modelled: authorization; transactions without AddPartitionsToTxn (KIP-890's second part); several partitions in one
AddPartitionsToTxn; UNKNOWN_PRODUCER_ID, which leaders do not answer any more; coordinators that have forgotten a
transactional id; epochs that run out; INVALID_PRODUCER_EPOCH told as PRODUCER_FENCED. Where Kafka's idempotent producer
sends in the new epoch again what the old one had no place for, that fails here; and where a batch that has expired is
known by the next one to be written, Kafka keeps the epoch.
Source: org.apache.kafka.clients.producer.internals.TransactionManager; KIP-98, KIP-360, KIP-588.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from hwmark.refimpl import requests as rpc
from hwmark.refimpl.batches import ABORT, COMMIT, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, Producer, TopicPartition
from hwmark.refimpl.client import Client
from hwmark.refimpl.config import ClusterConfig
from hwmark.refimpl.errors import Error
from hwmark.refimpl.group_coordinator import ConsumerGroupMetadata, OffsetAndMetadata
from hwmark.refimpl.machine import Address, Call
from hwmark.refimpl.transaction_coordinator import VERSION_2

if TYPE_CHECKING:
    from hwmark.refimpl.producer import ProducerConfig

ProducerIdAndEpoch = tuple[int, int]
NO_PRODUCER: ProducerIdAndEpoch = (NO_PRODUCER_ID, NO_PRODUCER_EPOCH)


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


TRANSITIONS = {  # the states in which an operation may be called, and that after it
    InitTransactions: (("UNINITIALIZED",), "INITIALIZING"),
    BeginTransaction: (("READY",), "IN_TRANSACTION"),
    SendOffsets: (("IN_TRANSACTION",), "IN_TRANSACTION"),
    CommitTransaction: (("IN_TRANSACTION",), "COMMITTING_TRANSACTION"),
    AbortTransaction: (("IN_TRANSACTION", "ABORTABLE_ERROR"), "ABORTING_TRANSACTION"),
}
COORDINATED = "INITIALIZING", "IN_TRANSACTION", "COMMITTING_TRANSACTION", "ABORTING_TRANSACTION"
TAKING_RECORDS = "NOT_TRANSACTIONAL", "IN_TRANSACTION"  # states in which an application may send
SENDING = *TAKING_RECORDS, "COMMITTING_TRANSACTION"  # in which batches are sent for the first time


@dataclass(slots=True)
class TransactionManager:
    """The part of a producer that gets its identity, and with a transactional id its transactions.

    Calls are answered with (error, state): after FATAL_ERROR only another producer can go on.
    OPERATION_NOT_ATTEMPTED: the call does not fit (an IllegalStateException), or was dropped by an abort.
    """

    name: Address
    cluster: ClusterConfig
    config: ProducerConfig
    client: Client = field(init=False)
    state: str = "UNINITIALIZED"
    last_error: Error | None = None
    identity: ProducerIdAndEpoch = NO_PRODUCER
    added: tuple[Any, ...] = ()  # what the coordinator knows to take part: (partition,) or a group
    calls: list[Call] = field(default_factory=list)  # that wait
    request: Any = None  # that has no answer
    ask_at: int | None = 0  # when to send it, or the next one; None while it is under way

    def operate(self, call: Call) -> None:
        """Take a call of the application."""
        sources, target = TRANSITIONS[type(call.operation)]
        if error := self.refusal(sources):
            return self.client.answer(call.number, error, self.state)
        self.state = target
        if isinstance(call.operation, AbortTransaction):
            self._answer(Error.OPERATION_NOT_ATTEMPTED)
        self.calls.append(call)
        if isinstance(call.operation, BeginTransaction):
            self._answer(Error.NONE)

    def refusal(self, states: tuple[str, ...]) -> Error | None:
        """Why not to do what may be done in some states; None in these."""
        return None if self.state in states else self.last_error or Error.OPERATION_NOT_ATTEMPTED

    def may_send(self, partition: TopicPartition) -> bool:
        """Whether batches of a partition can go."""
        is_added = self.state == "NOT_TRANSACTIONAL" or (partition,) in self.added
        return not self.config.enable_idempotence or (self.identity != NO_PRODUCER and is_added)

    def ask(self, unfinished: list[TopicPartition], now: int) -> None:
        """Ask what is to be asked next, unless that is under way or waits for its backoff."""
        if self.ask_at is None or now < self.ask_at or self.state == "FATAL_ERROR":
            return
        self.request = self.request or self._next_request(unfinished)
        broker_id = self._whom_to_ask(now) if self.request else None
        if broker_id is not None:
            self.client.ask(broker_id, self.request, self.request, now)
            self.ask_at = None

    def handle(self, request: Any, response: rpc.Response, now: int) -> None:
        """Go on by the answer to a request."""
        if response.error.is_retriable:
            self.client.coordinators.clear()
            self.ask_at = now + self.cluster.retry_backoff
            return
        self.ask_at, self.request = 0, None
        if response.error is not Error.NONE:
            self._fail(response.error, is_abortable=isinstance(request, rpc.TxnOffsetCommitRequest))
        elif isinstance(request, rpc.AddPartitionsToTxnRequest | rpc.AddOffsetsToTxnRequest):
            self.added += (request[1],)
        elif isinstance(request, rpc.TxnOffsetCommitRequest):
            if self.calls and isinstance(self.calls[0].operation, SendOffsets):
                self.client.answer(self.calls.pop(0).number, Error.NONE, self.state)
        else:
            self.added = ()
            if isinstance(request, rpc.InitProducerIdRequest) or request.version:
                self.identity, self.last_error = response.value, None

    def batch_failed(self, numbered: ProducerIdAndEpoch, error: Error) -> None:
        """A batch was refused or given up: whatever has a higher number in its epoch may be refused for that."""
        kip_360, is_gap = self.cluster.kip_360, numbered == self.identity != NO_PRODUCER
        if self.state != "NOT_TRANSACTIONAL":
            if is_gap or self.state in SENDING:
                self._fail(error, kip_360)
        elif is_gap:
            self.identity = (self.identity[0], self.identity[1] + 1) if kip_360 else NO_PRODUCER

    def _next_request(self, unfinished: list[TopicPartition]) -> Any:
        """What is left to do, None if nothing; the end of a transaction waits for unfinished partitions."""
        config, operation = self.config, self.calls[0].operation if self.calls else None
        producer = Producer(config.transactional_id or "", *self.identity)
        if self.identity == NO_PRODUCER and (unfinished or self.state == "INITIALIZING"):
            return rpc.InitProducerIdRequest(config.transactional_id, config.transaction_timeout)
        if self.state not in COORDINATED:
            return None
        for partition in unfinished:
            if (partition,) not in self.added:
                return rpc.AddPartitionsToTxnRequest(producer, (partition,))
        if isinstance(operation, SendOffsets):
            who = operation.who if self.cluster.kip_447 else ConsumerGroupMetadata(operation.who.group_id)
            if who.group_id not in self.added:
                return rpc.AddOffsetsToTxnRequest(producer, who.group_id)
            commits = tuple([(partition, OffsetAndMetadata(offset)) for partition, offset in operation.offsets])
            return rpc.TxnOffsetCommitRequest(who, commits, producer)
        if unfinished or self.state == "IN_TRANSACTION":
            return None
        if self.added:
            result = COMMIT if self.state == "COMMITTING_TRANSACTION" else ABORT
            return rpc.EndTxnRequest(producer, result, VERSION_2 if self.cluster.kip_890 else 0)
        if self.last_error and self.cluster.kip_360:
            return rpc.InitProducerIdRequest(config.transactional_id, config.transaction_timeout, self.identity)
        self.state, self.last_error = "READY", None
        return self._answer(Error.NONE)

    def _whom_to_ask(self, now: int) -> int | None:
        """The coordinator of the group or else of the transactional id; for an idempotent producer any broker."""
        if isinstance(self.request, rpc.TxnOffsetCommitRequest):
            return self.client.coordinator(self.request.who.group_id, False, now)
        name = self.config.transactional_id
        return self.client.any_broker() if name is None else self.client.coordinator(name, True, now)

    def _fail(self, error: Error, is_abortable: bool) -> None:
        """All that is left is to abort, or nothing."""
        if self.state != "FATAL_ERROR":
            self.last_error = error
            if not is_abortable or self.state != "ABORTING_TRANSACTION":
                self.state = "ABORTABLE_ERROR" if is_abortable else "FATAL_ERROR"
                self._answer(error)

    def _answer(self, error: Error) -> None:
        """Whoever waits."""
        for call in self.calls:
            self.client.answer(call.number, error, self.state)
        self.calls = []
