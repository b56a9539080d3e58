"""The partitions of a broker: what is appended to them, who waits at them, what they ask of leader and controller.

A step marks the partitions that it touches, and at its end they are settled: who waits there is looked at again, and
what the replica itself wants is sent, one request of a partition at a time: a follower's to its leader, a leader's for
another ISR to the controller (before KIP-497, to ZooKeeper).

Source: kafka.server.ReplicaManager, AbstractFetcherManager, AlterPartitionManager, AddPartitionsToTxnManager.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

from hwmark.refimpl import purgatory
from hwmark.refimpl import requests as rpc
from hwmark.refimpl.batches import TopicPartition
from hwmark.refimpl.config import OFFSETS_TOPIC, TRANSACTIONS_TOPIC, ClusterConfig
from hwmark.refimpl.controller import Controller
from hwmark.refimpl.coordinators import AppendTo, AskBroker, Coordinators, Reply
from hwmark.refimpl.coordinators import Effects as Decided
from hwmark.refimpl.errors import Error, KafkaError
from hwmark.refimpl.log import Log
from hwmark.refimpl.log_cleaner import compact
from hwmark.refimpl.machine import Address, Effects, Message, Outbox, address
from hwmark.refimpl.partition_change import NO_LEADER, BrokerIds, PartitionRegistration
from hwmark.refimpl.producer_state import CLIENT, COORDINATOR, NO_GUARD
from hwmark.refimpl.purgatory import DelayedProduce
from hwmark.refimpl.replica import Replica
from hwmark.refimpl.transaction_metadata import Producer


@dataclass(slots=True)
class Disk:
    """What a broker finds again when it starts: its logs, after `Log.recover`, and the high watermarks' checkpoint."""

    logs: dict[TopicPartition, Log] = field(default_factory=dict)
    high_watermarks: dict[TopicPartition, int] = field(default_factory=dict)


@dataclass(slots=True)
class ReplicaManager:
    """What a broker does with its partitions; `touched` and `effects` are empty between steps.

    `asking` has what a replica asked for, until the answer or the backoff after it. Who is `waiting` has a number;
    `timers` are methods with their arguments, and when to call them. `partitions` is what UpdateMetadata said.
    """

    broker_id: int
    config: ClusterConfig
    disk: Disk = field(default_factory=Disk)
    name: Address = field(init=False)
    controller: Controller = field(init=False)
    coordinators: Coordinators = field(init=False)
    outbox: Outbox = field(init=False)
    controller_id: int = -1
    controller_epoch: int = -1
    controller_correlation: int = -1  # of the last request of that epoch
    live_brokers: BrokerIds = ()
    partitions: dict[TopicPartition, PartitionRegistration] = field(default_factory=dict)
    replicas: dict[TopicPartition, Replica] = field(default_factory=dict)
    asking: dict[TopicPartition, Any] = field(default_factory=dict)
    waiting: dict[TopicPartition, dict[int, purgatory.Delayed]] = field(default_factory=dict)
    waits: int = 0
    timers: dict[tuple[Any, ...], int] = field(default_factory=lambda: {("shrink_isrs",): 0, ("checkpoint",): 0})
    touched: dict[TopicPartition, None] = field(default_factory=dict)
    effects: Effects = field(default_factory=list)

    def __post_init__(self) -> None:
        """A broker that has just started leads and follows nothing before a controller says so."""
        self.name = address(self.broker_id)
        self.controller = Controller(self.broker_id, self.config)
        self.coordinators = Coordinators(self.config)
        self.outbox = Outbox(self.name, self.config.request_timeout, stride=2)

    def reply(self, request: Message, body: Any) -> None:
        """Answer a request."""
        self.effects.append(Message(self.name, request.source, request.correlation, body))

    def ask(self, broker_id: int, body: Any, now: int, then: str, *arguments: Any) -> None:
        """Send a request; the method `then` takes it, its answer or None, the arguments and the time."""
        self.effects.append(self.outbox.ask(address(broker_id), body, (then, *arguments), now))

    def perform(self, effects: Decided, now: int) -> None:
        """Do what the coordinators want."""
        for effect in effects:
            match effect:
                case Reply():
                    self.effects.append(Message(self.name, *effect))
                case AskBroker(broker_id, body, context):
                    self.ask(broker_id, body, now, "on_coordinators_answered", context)
                case AppendTo(here, epoch, batch, _, transactional_id):
                    at = here, batch, self.config.request_timeout, -1, transactional_id, epoch
                    self.append(DelayedProduce(effect, *at), now)

    def on_coordinators_answered(self, _: Any, response: rpc.Response | None, context: Hashable, now: int) -> None:
        """A broker has answered the coordinators, or not in time."""
        self.perform(self.coordinators.on_response(context, response, now), now)

    # Appends

    def replica(self, here: TopicPartition) -> Replica:
        """The replica of a partition; KafkaError if there is none here, or no such partition."""
        if here not in self.replicas:
            is_elsewhere = here in self.partitions
            raise KafkaError(Error.NOT_LEADER_OR_FOLLOWER if is_elsewhere else Error.UNKNOWN_TOPIC_OR_PARTITION)
        return self.replicas[here]

    def append(self, delayed: DelayedProduce, now: int, guard: int = NO_GUARD) -> None:
        """Append, once the transaction is verified, and wait for the ISR if that was asked for."""
        here, batch = delayed.topic_partition, delayed.batch
        try:
            replica = self.replica(here)
            if delayed.leader_epoch not in (-1, replica.leader_epoch):
                raise KafkaError(Error.NOT_LEADER_OR_FOLLOWER, f"{delayed.leader_epoch} is not {replica.leader_epoch}")
            if delayed.transactional_id is not None and guard == NO_GUARD and self.config.kip_890:
                guard = replica.maybe_start_transaction_verification(batch, now)
                if guard != NO_GUARD:
                    return self.verify(delayed, guard, now)
            origin = CLIENT if isinstance(delayed.waiter, Message) else COORDINATOR
            first, last, _ = replica.produce(batch, delayed.acks, now, origin, guard)
        except KafkaError as refusal:
            return self.on_appended(delayed, refusal.error, now)
        self.touched[here] = None
        delayed = delayed._replace(base_offset=first, last_offset=last)
        if delayed.acks != -1:
            return self.on_appended(delayed, Error.NONE, now)
        self.wait(here, delayed, now + delayed.timeout)

    def provide_producer_ids(self, now: int) -> None:
        """Give the coordinators a block of producer ids, or obtain one first."""
        controller = self.controller
        if controller.producer_ids[0] < controller.producer_ids[1]:
            self.coordinators.give_producer_ids(controller.producer_ids)
            controller.producer_ids = (0, 0)
        else:
            self.effects += controller.want_producer_ids(now)

    def verify(self, delayed: DelayedProduce, guard: int, now: int) -> None:
        """Ask the coordinator whether the partition is in the transaction (KIP-890)."""
        producer = Producer(delayed.transactional_id or "", delayed.batch.producer_id, delayed.batch.producer_epoch)
        question = rpc.AddPartitionsToTxnRequest(producer, (delayed.topic_partition,), verify_only=True)
        coordinator = self.coordinator(producer.transactional_id, True)
        if coordinator == NO_LEADER:
            return self.on_verified(question, rpc.Response(Error.COORDINATOR_NOT_AVAILABLE), delayed, guard, now)
        self.ask(coordinator, question, now, "on_verified", delayed, guard)

    def on_verified(self, _: Any, response: rpc.Response | None, delayed: DelayedProduce, guard: int, now: int) -> None:
        """Append what is in the transaction; if nobody could say that, a producer has to try again."""
        error, errors = response or rpc.Response(Error.NETWORK_EXCEPTION)
        error = errors[delayed.topic_partition] if error is Error.NONE else error
        if error is Error.NONE:
            return self.append(delayed, now, guard)
        is_unknown = error.is_retriable and isinstance(delayed.waiter, Message)
        self.on_appended(delayed, Error.NOT_ENOUGH_REPLICAS if is_unknown else error, now)

    def coordinator(self, key: str, is_transaction: bool) -> int:
        """The broker that coordinates a group or a transactional id, NO_LEADER if none does."""
        partition = self.partitions.get(self.coordinators.coordinator_partition(key, is_transaction))
        return partition.leader if partition and partition.leader in self.live_brokers else NO_LEADER

    def on_appended(self, delayed: DelayedProduce, error: Error, now: int) -> None:
        """The batch is written, and replicated if that was asked for, or it is not: who waits for it is told."""
        here, waiter = delayed.topic_partition, delayed.waiter
        base_offset = delayed.base_offset if error is Error.NONE else -1
        if isinstance(waiter, AppendTo):
            self.perform(self.coordinators.on_appended(waiter.context, error, base_offset, now), now)
        elif isinstance(waiter, purgatory.Markers):
            waiter.errors[here] = error
            if len(waiter.errors) == len(waiter.message.body.topic_partitions):
                self.reply(waiter.message, rpc.Response(Error.NONE, waiter.errors))
        elif delayed.acks != 0:
            start = self.replicas[here].log.log_start_offset if here in self.replicas else -1
            self.reply(waiter, rpc.ProduceResponse(error, base_offset, start))

    # Waiting

    def wait(self, here: TopicPartition, delayed: purgatory.Delayed, deadline: int) -> None:
        """Let a request wait until its partition or the time completes it."""
        self.waits += 1
        self.waiting.setdefault(here, {})[self.waits] = delayed
        self.timers["maybe_complete", here, self.waits, True] = deadline
        self.touched[here] = None

    def maybe_complete(self, here: TopicPartition, number: int, is_late: bool, now: int) -> None:
        """Answer who waits, if it is time to."""
        delayed = self.waiting[here][number]
        outcome: Any = delayed.outcome(self.replicas[here], is_late)
        if outcome is None:
            return
        del self.waiting[here][number]
        self.timers.pop(("maybe_complete", here, number, True), None)
        if isinstance(delayed, DelayedProduce):
            self.on_appended(delayed, outcome, now)
        else:
            self.reply(delayed.waiter, outcome)

    def settle(self, here: TopicPartition, now: int) -> None:
        """See to a partition that was touched."""
        replica, log = self.replicas[here], self.replicas[here].log
        if log.log_end_offset - log.segments[-1] >= self.config.segment_records:
            self.roll(here[0], log, now)
        elif self.config.flushes_every_append:
            log.flush()
        for number in list(self.waiting.get(here, ())):
            self.maybe_complete(here, number, False, now)
        if replica.is_leader and here[0] in (OFFSETS_TOPIC, TRANSACTIONS_TOPIC):
            self.perform(self.coordinators.on_high_watermark(here, log, now), now)
        request: Any = replica.pending if replica.is_leader else replica.request
        if request is not None and self.asking.get(here) != request:
            self.ask_for(replica, request, now)

    def roll(self, topic: str, log: Log, now: int) -> None:
        """Begin a segment; what came before is flushed and perhaps cleaned."""
        log.roll()
        log.flush()
        if any(one.is_compacted for one in self.config.topics if one.name == topic):
            compact(log, now)

    # Asking

    def ask_for(self, replica: Replica, request: Any, now: int) -> None:
        """Send what a replica wants."""
        self.asking[replica.topic_partition] = request
        controller_id = self.controller_id if self.config.kip_497 else self.broker_id
        self.ask(controller_id if replica.is_leader else replica.leader, request, now, "on_replica_answered")

    def on_replica_answered(self, request: Any, response: Any, now: int) -> None:
        """Let the replica go on, unless it wants something else by now; after an error that may pass it asks again."""
        here = request.topic_partition
        replica = self.replicas.get(here)
        if replica is None:
            return
        error = Error.REQUEST_TIMED_OUT if response is None else response.error
        if error.is_retriable and error is not Error.FENCED_LEADER_EPOCH:
            self.timers["ask_again", here, request] = now + self.config.retry_backoff
            return
        if replica.is_leader:
            replica.handle_isr(request, response, now)
        else:
            replica.handle_response(request, response, now)
        if not replica.is_leader or replica.pending is None:
            self.ask_again(here, request, now)

    def ask_again(self, here: TopicPartition, request: Any, now: int) -> None:
        """Send what is wanted now, if it is still this request that was asked last."""
        if self.asking.get(here) == request:
            del self.asking[here]
            self.touched[here] = None

    # From time to time

    def shrink_isrs(self, now: int) -> None:
        """Look for followers that lag: in the ISR, or outside where the high watermark has waited for them."""
        self.timers["shrink_isrs",] = now + self.config.replica_lag_time_max // 2
        for here, replica in self.replicas.items():
            if replica.is_leader:
                replica.maybe_shrink_isr(now)
                replica.maybe_increment_high_watermark(now)
                self.touched[here] = None

    def checkpoint(self, now: int) -> None:
        """Write high watermarks and logs to the disk, and remove the segments that were deleted."""
        self.timers["checkpoint",] = now + self.config.high_watermark_checkpoint_interval
        for here, replica in self.replicas.items():
            self.disk.high_watermarks[here] = replica.log.high_watermark
            replica.log.flush()
            if replica.log.segments[1:] and replica.log.segments[1] <= replica.log.log_start_offset:
                replica.log.delete_old_segments()
