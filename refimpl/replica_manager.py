"""The partitions of a broker: what is appended to them, who waits at them, what they ask of leader and controller.

A step marks the partitions that it touches, and at its end they are settled: who waits there is looked at again, and
what the replica wants is asked, unless it has been: a leader's other ISR of the controller (before KIP-497, of the part
of the own broker that writes it to ZooKeeper), a follower's next request of its leader.

Source: kafka.server.ReplicaManager, AbstractFetcherManager, AlterPartitionManager, AddPartitionsToTxnManager.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hwmark.refimpl import requests as rpc
from hwmark.refimpl.batches import TopicPartition
from hwmark.refimpl.config import ClusterConfig
from hwmark.refimpl.controller import Controller
from hwmark.refimpl.coordinator import Append, Respond
from hwmark.refimpl.coordinators import Coordinators
from hwmark.refimpl.coordinators import Effects as Decided
from hwmark.refimpl.errors import Error, KafkaError
from hwmark.refimpl.log import Log
from hwmark.refimpl.log_cleaner import compact
from hwmark.refimpl.machine import Address, Effects, Message, Outbox, address
from hwmark.refimpl.partition_change import NO_LEADER, BrokerIds, PartitionRegistration
from hwmark.refimpl.producer_state import CLIENT, COORDINATOR, NO_GUARD
from hwmark.refimpl.replica import Replica
from hwmark.refimpl.transaction_coordinator import SendMarkers
from hwmark.refimpl.transaction_metadata import Producer

NEVER = 2**62


class Marker(NamedTuple):
    """Who waits for one partition of a WriteTxnMarkers; `errors` are the outcomes of all its partitions so far."""

    message: Message
    topic_partition: TopicPartition
    errors: dict[TopicPartition, Error]


Waiter = Message | Marker | Append | None  # nobody: acks=0


class Delayed(NamedTuple):
    """A request that waits: the replica's method of that name says of the argument what it is answered."""

    waiter: Waiter
    request: rpc.ProduceRequest | rpc.FetchRequest | rpc.DeleteRecordsRequest
    deadline: int
    is_done: str
    argument: Any


@dataclass(slots=True)
class Disk:
    """What a broker finds again when it starts: its logs, after `Log.recover`, and the high watermarks' checkpoint."""

    logs: dict[TopicPartition, Log] = field(default_factory=dict)
    high_watermarks: dict[TopicPartition, int] = field(default_factory=dict)


@dataclass(slots=True)
class ReplicaManager:
    """What a broker does with its partitions; `touched` and `effects` are empty between steps.

    `asked` is what a replica asked for last, and when it may ask that again. `timers` are methods with their arguments,
    and when to call them. `partitions` is what UpdateMetadata said.
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
    asked: dict[TopicPartition, tuple[Any, int]] = field(default_factory=dict)
    waiting: dict[TopicPartition, list[Delayed]] = field(default_factory=dict)
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
                case Respond((source, correlation), error, body):
                    self.effects.append(Message(self.name, source, correlation, rpc.Response(error, body)))
                case SendMarkers(producer, epoch, result, partitions, leader):
                    body = rpc.WriteTxnMarkersRequest(*producer[1:], epoch, result, partitions)
                    self.ask(leader, body, now, "on_coordinators_answered", effect)
                case Append(here, producer=producer):
                    batch, name = effect.batch(now), producer.transactional_id or None
                    self.append(rpc.ProduceRequest(here, batch, -1, name, self.config.request_timeout), effect, now)

    def on_coordinators_answered(self, _: Any, response: rpc.Response | None, markers: SendMarkers, now: int) -> None:
        """A broker has answered the coordinators, or not in time."""
        self.perform(self.coordinators.on_response(markers, response, now), now)

    def provide_producer_ids(self, now: int) -> None:
        """Give the coordinators a block of producer ids, or obtain one first."""
        controller = self.controller
        if controller.producer_ids[0] < controller.producer_ids[1]:
            self.coordinators.transactions.give_producer_ids(controller.producer_ids)
            controller.producer_ids = (0, 0)
        else:
            self.effects += controller.want_producer_ids(now)

    # Appends

    def replica(self, here: TopicPartition) -> Replica:
        """The replica of a partition; KafkaError if there is none here, or no such partition."""
        if here not in self.replicas:
            is_elsewhere = here in self.partitions
            raise KafkaError(Error.NOT_LEADER_OR_FOLLOWER if is_elsewhere else Error.UNKNOWN_TOPIC_OR_PARTITION)
        return self.replicas[here]

    def append(self, request: rpc.ProduceRequest, waiter: Waiter, now: int, guard: int = NO_GUARD) -> None:
        """Append, once the transaction is verified, and wait for the ISR if that was asked for."""
        here, batch, acks, transactional_id, timeout = request
        try:
            replica = self.replica(here)
            if isinstance(waiter, Append) and waiter.leader_epoch != replica.leader_epoch:
                raise KafkaError(Error.NOT_LEADER_OR_FOLLOWER, f"{waiter.leader_epoch} is not {replica.leader_epoch}")
            if transactional_id is not None and guard == NO_GUARD and self.config.kip_890:
                guard = replica.maybe_start_transaction_verification(batch)
                if guard != NO_GUARD:
                    return self.verify(transactional_id, request, waiter, guard, now)
            origin = COORDINATOR if isinstance(waiter, Marker | Append) else CLIENT
            info = replica.produce(batch, acks, now, origin, guard)
        except KafkaError as refusal:
            return self.answer(waiter, rpc.ProduceResponse(refusal.error), now)
        if acks == -1:
            return self.wait(Delayed(waiter, request, now + timeout, "acknowledged", info))
        self.touched[here] = None
        self.answer(waiter, rpc.ProduceResponse(Error.NONE, info.first_offset, replica.log.log_start_offset), now)

    def verify(self, name: str, request: rpc.ProduceRequest, waiter: Waiter, guard: int, now: int) -> None:
        """Ask the coordinator whether the partition is in the transaction (KIP-890)."""
        producer = Producer(name, request.batch.producer_id, request.batch.producer_epoch)
        question = rpc.AddPartitionsToTxnRequest(producer, (request.topic_partition,), verify_only=True)
        coordinator = self.coordinator(name, True)
        if coordinator == NO_LEADER:
            return self.on_verified(question, None, request, waiter, guard, now)
        self.ask(coordinator, question, now, "on_verified", request, waiter, guard)

    def on_verified(
        self, _: Any, response: rpc.Response | None, request: rpc.ProduceRequest, waiter: Waiter, guard: int, now: int
    ) -> None:
        """Append what is in the transaction; if nobody could say that, a producer has to try again."""
        error, errors = response or rpc.Response(Error.NETWORK_EXCEPTION)
        error = errors[request.topic_partition] if error is Error.NONE else error
        if error is Error.NONE:
            return self.append(request, waiter, now, guard)
        is_unknown = error.is_retriable and isinstance(waiter, Message)
        self.answer(waiter, rpc.ProduceResponse(Error.NOT_ENOUGH_REPLICAS if is_unknown else error), now)

    def coordinator(self, key: str, is_transaction: bool) -> int:
        """The broker that coordinates a group or a transactional id, NO_LEADER if none does."""
        partition = self.partitions.get(self.coordinators.coordinator_partition(key, is_transaction))
        return partition.leader if partition and partition.leader in self.live_brokers else NO_LEADER

    # Waiting

    def wait(self, delayed: Delayed) -> None:
        """Let a request wait until its partition or the time completes it, perhaps at the end of this step."""
        here = delayed.request.topic_partition
        self.waiting.setdefault(here, []).append(delayed)
        self.touched[here] = None

    def outcome(self, delayed: Delayed, now: int) -> Any:
        """What is answered, None if it has to wait."""
        request = delayed.request
        replica = self.replicas[request.topic_partition]
        try:
            answer = getattr(replica, delayed.is_done)(delayed.argument)
            if answer is not None or now < delayed.deadline:
                return answer
            if isinstance(request, rpc.FetchRequest):
                return replica.read(request)
            raise KafkaError(Error.REQUEST_TIMED_OUT)
        except KafkaError as refusal:
            return rpc.refusal(request, refusal.error)

    def answer(self, waiter: Waiter, answer: Any, now: int) -> None:
        """Tell who waits."""
        match waiter:
            case Message():
                self.reply(waiter, answer)
            case Append():
                self.perform(self.coordinators.on_appended(waiter, answer.error, answer.base_offset, now), now)
            case Marker(message, here, errors):
                errors[here] = answer.error
                if len(errors) == len(message.body.topic_partitions):
                    self.reply(message, rpc.Response(Error.NONE, errors))

    def settle(self, here: TopicPartition, now: int) -> None:
        """See to a partition that was touched."""
        replica, log = self.replicas[here], self.replicas[here].log
        if log.log_end_offset - log.segments[-1] >= self.config.segment_records:
            log.roll()
            log.flush()
            if any(topic.is_compacted for topic in self.config.topics if topic.name == here[0]):
                compact(log)
        elif self.config.flushes_every_append:
            log.flush()
        if self.waiting.get(here):
            self.complete(here, now)
        self.perform(self.coordinators.on_high_watermark(here, log, now), now)
        deadlines = [delayed.deadline for delayed in self.waiting.get(here, ())]
        self.timers["touch", here] = min([self.ask_for(replica, now), *deadlines])

    def complete(self, here: TopicPartition, now: int) -> None:
        """Answer who waits at a partition, as far as it is time to."""
        outcomes = [(delayed, self.outcome(delayed, now)) for delayed in self.waiting.pop(here)]
        self.waiting[here] = [delayed for delayed, outcome in outcomes if outcome is None]
        for delayed, outcome in outcomes:
            if outcome is not None:
                self.answer(delayed.waiter, outcome, now)

    # Asking

    def ask_for(self, replica: Replica, now: int) -> int:
        """Send what a replica wants, unless it was sent; when to send it again, if it is not answered."""
        here, request = replica.topic_partition, replica.pending if replica.is_leader else replica.request
        asked, again_at = self.asked.get(here, (None, NEVER))
        if request is None:
            return NEVER
        if request != asked or again_at <= now:
            again_at = now + self.config.request_timeout
            self.asked[here] = request, again_at
            controller_id = self.controller_id if self.config.kip_497 else self.broker_id
            self.ask(controller_id if replica.is_leader else replica.leader, request, now, "on_replica_answered")
        return again_at

    def on_replica_answered(self, request: Any, response: Any, now: int) -> None:
        """Let the replica go on; after an error that may pass it asks again, what is refused for good it does not."""
        here = request.topic_partition
        if response is None or here not in self.replicas or self.asked.get(here, (None, NEVER))[0] != request:
            return
        replica, again_at = self.replicas[here], now + self.config.retry_backoff
        if response.error is Error.FENCED_LEADER_EPOCH or not response.error.is_retriable:
            handle = replica.handle_isr if replica.is_leader else replica.handle_response
            handle(request, response, now)
            again_at = NEVER if replica.pending else now
        self.asked[here] = request, again_at
        self.touched[here] = None

    # From time to time

    def touch(self, here: TopicPartition, now: int) -> None:
        """Somebody has waited long enough."""
        self.touched[here] = None

    def shrink_isrs(self, now: int) -> None:
        """Look for followers that lag: in the ISR, or outside where the high watermark has waited for them."""
        self.timers["shrink_isrs",] = now + self.config.replica_lag_time_max // 2
        for here, replica in self.replicas.items():
            if replica.is_leader:
                replica.maybe_shrink_isr(now)
                replica.maybe_increment_high_watermark(now)
                self.touched[here] = None

    def checkpoint(self, now: int) -> None:
        """Write high watermarks and logs to the disk."""
        self.timers["checkpoint",] = now + self.config.high_watermark_checkpoint_interval
        for here, replica in self.replicas.items():
            self.disk.high_watermarks[here] = replica.log.high_watermark
            replica.log.flush()
