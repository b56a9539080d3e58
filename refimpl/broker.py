"""A broker: it leads and follows partitions, answers clients and followers, and does what controllers say.

What a request means to a partition is the Replica's affair. Here all is routed: to replicas, to the coordinators, and
to the controller, which is active on one broker only. A step marks the partitions that it touches, and at its end they
are settled: who waits there is looked at again, and what the replica has to ask is sent, unless it has been.

Not modelled: quotas, fetch sessions, fetching from followers, failing disks, controlled shutdown, deleted topics.
Metadata are about partitions alone: clients know the brokers, and nobody says of a leader that it is dead before there
is another. WriteTxnMarkers is about one partition.

Source: kafka.server.KafkaApis, KafkaServer, ReplicaManager, AbstractFetcherManager, AlterPartitionManager,
AddPartitionsToTxnManager, MetadataCache.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hwmark.refimpl import requests as rpc
from hwmark.refimpl.batches import Batch, Producer, Record, TopicPartition
from hwmark.refimpl.config import ClusterConfig
from hwmark.refimpl.controller import REQUESTS, Controller
from hwmark.refimpl.coordinator import Append, Respond
from hwmark.refimpl.coordinators import Coordinators
from hwmark.refimpl.coordinators import Effects as Decided
from hwmark.refimpl.errors import Error, KafkaError
from hwmark.refimpl.log import Log
from hwmark.refimpl.machine import ZOOKEEPER, Address, Asked, Effects, Event, Message, Outbox, address, earliest
from hwmark.refimpl.partition_change import NO_LEADER, PartitionRegistration
from hwmark.refimpl.producer_state import NO_GUARD
from hwmark.refimpl.replica import NEVER, Delayed, Replica
from hwmark.refimpl.transaction_coordinator import SendMarkers

RESPONSES = rpc.Response, rpc.FetchResponse  # that a broker gets

Waiter = Message | Append | None  # for an append; nobody: acks=0


@dataclass(slots=True)
class Disk:
    """What a broker finds again when it starts: its logs, after `Log.recover`, and the high watermarks' checkpoint."""

    logs: dict[TopicPartition, Log] = field(default_factory=dict)
    high_watermarks: dict[TopicPartition, int] = field(default_factory=dict)


@dataclass(slots=True)
class Broker:
    """A machine. A broker that starts again is a new one, with the disk of the former.

    `timers` are methods, and when to call them; `partitions` is what UpdateMetadata said; `said` is the controller's
    epoch and the id of its last request. `touched` and `effects` are empty between steps.
    """

    broker_id: int
    config: ClusterConfig
    disk: Disk = field(default_factory=Disk)
    name: Address = field(init=False)
    controller: Controller = field(init=False)
    coordinators: Coordinators = field(init=False)
    outbox: Outbox = field(init=False)
    controller_id: int = -1
    said: tuple[int, int] = (-1, -1)
    partitions: dict[TopicPartition, PartitionRegistration] = field(default_factory=dict)
    replicas: dict[TopicPartition, Replica] = field(default_factory=dict)
    timers: dict[str, int] = field(default_factory=lambda: {"shrink_isrs": 0, "checkpoint": 0})
    touched: dict[TopicPartition, None] = field(default_factory=dict)
    effects: Effects = field(default_factory=list)

    def __post_init__(self) -> None:
        """A broker that has just started leads and follows nothing before a controller says so."""
        self.name = address(self.broker_id)
        self.controller = Controller(self.broker_id, self.config)
        self.coordinators = Coordinators(self.config)
        self.outbox = Outbox(self.name, self.config.request_timeout, stride=2)

    def step(self, event: Event, now: int) -> Effects:
        """Take a message or do what is due; then see to the partitions that this has touched."""
        if isinstance(event, Message):
            self.receive(event, now)
        else:
            self.tick(now)
        while self.touched:
            here = next(iter(self.touched))
            del self.touched[here]
            if here in self.replicas:
                self.settle(self.replicas[here], now)
        self.perform(self.coordinators.send_markers(self.partitions), now)
        self.coordinators.transactions.broker_epoch = self.controller.broker_epoch
        effects, self.effects = self.effects, []
        return effects

    def tick(self, now: int) -> None:
        """Do what is due; a partition may have something to do that nobody waits for any more."""
        self.effects += self.controller.step(None, now)
        self.perform(self.coordinators.tick(now), now)
        for asked in self.outbox.expire(now):
            self.on_answered(asked, None, now)
        for timer in [timer for timer, time in self.timers.items() if time <= now]:
            getattr(self, timer)(now)
        self.touched |= dict.fromkeys(self.replicas)

    def deadline(self) -> int | None:
        """When something is due."""
        own = min([*self.timers.values(), *[replica.deadline for replica in self.replicas.values()]])
        return earliest(own, self.outbox.deadline(), self.controller.deadline(), self.coordinators.deadline())

    def receive(self, message: Message, now: int) -> None:
        """Route a message: an answer with an odd id is the controller's. What is refused is answered with the error."""
        kind = type(message.body)
        if message.source == ZOOKEEPER or kind in REQUESTS or (kind in RESPONSES and message.correlation % 2):
            self.effects += self.controller.step(message, now)
        elif kind in RESPONSES:
            if asked := self.outbox.answered(message):
                self.on_answered(asked, message.body, now)
        else:
            try:
                answer = self.handle(message, now)
            except KafkaError as refusal:
                answer = rpc.refusal(message.body, refusal.error)
            self.answer(message if answer is not None else None, answer, now)

    def handle(self, message: Message, now: int) -> Any:
        """What a request is answered with; None if that comes later, or never."""
        match request := message.body:
            case rpc.FetchRequest(here):
                self.replica(here).fetch(request, now)
                self.wait(here, Delayed(message, now + request.max_wait, "fetched", request))
            case rpc.ProduceRequest(acks=-1 | 0 | 1):
                self.append(request, message if request.acks else None, now)
            case rpc.ProduceRequest():
                return rpc.Response(Error.INVALID_REQUIRED_ACKS)
            case rpc.ListOffsetsRequest(here):
                return self.replica(here).list_offsets(request)
            case rpc.OffsetsForLeaderEpochRequest(here):
                return self.replica(here).offsets_for_leader_epoch(request)
            case rpc.DeleteRecordsRequest(here, offset):
                return self.replica(here).delete_records(offset)
            case rpc.WriteTxnMarkersRequest(here, id, id_epoch, epoch, result):
                records = (Record(0, result, epoch),)
                marker = Batch(0, 0, -1, records, id, id_epoch, -1, True, result, epoch, now)
                self.append(rpc.ProduceRequest(here, marker, timeout=self.config.request_timeout), message, now)
            case rpc.MetadataRequest(topics):
                known = [one for one in self.partitions.items() if topics is None or one[0][0] in topics]
                return rpc.Response(Error.NONE, tuple(known))
            case rpc.FindCoordinatorRequest(key, is_transaction):
                return rpc.Response(Error.NONE, self.coordinator(key, is_transaction))
            case rpc.LeaderAndIsrRequest() | rpc.StopReplicaRequest() | rpc.UpdateMetadataRequest():
                if self.is_news(message):
                    self.obey(request, now)
                return rpc.Response()
            case _:
                self.perform(self.coordinators.handle(message, now), now)
        return None

    def answer(self, waiter: Waiter, answer: Any, now: int) -> None:
        """Tell who waits."""
        if isinstance(waiter, Message):
            self.effects.append(Message(self.name, waiter.source, waiter.correlation, answer))
        elif isinstance(waiter, Append):
            base_offset = answer.value if answer.error is Error.NONE else -1
            self.perform(self.coordinators.on_appended(waiter, answer.error, base_offset, now), now)

    def ask(self, broker_id: int, body: Any, context: Any, now: int) -> None:
        """Send a request."""
        self.effects.append(self.outbox.ask(address(broker_id), body, context, now))

    def on_answered(self, asked: Asked, response: Any | None, now: int) -> None:
        """Do what follows an answer, or its absence."""
        match asked.body:
            case rpc.WriteTxnMarkersRequest():
                self.perform(self.coordinators.on_response(asked.context, response, now), now)
            case rpc.AddPartitionsToTxnRequest():
                self.on_verified(response, now, *asked.context)
            case _:
                here = asked.body.topic_partition
                if here in self.replicas:
                    self.replicas[here].handle_response(asked.body, response, now)
                    self.touched[here] = None

    # What the controller says

    def is_news(self, message: Message) -> bool:
        """Whether a controller says this for the first time: a late copy is acknowledged, no more.

        Refuse one that was replaced, and what is meant for a former incarnation of the broker (KIP-380): all is, as
        long as it is not registered.
        """
        (controller_id, epoch, broker_epoch, *_), registered = message.body, self.controller.broker_epoch
        if self.config.kip_380 and (registered == -1 or broker_epoch < registered):
            raise KafkaError(Error.STALE_BROKER_EPOCH, f"{broker_epoch} < {registered}")
        if epoch < self.said[0]:
            raise KafkaError(Error.STALE_CONTROLLER_EPOCH, f"{epoch} < {self.said[0]}")
        if (epoch, message.correlation) <= self.said:
            return False
        self.controller_id, self.said = controller_id, (epoch, message.correlation)
        return True

    def obey(self, request: Any, now: int) -> None:
        """Do what a controller says."""
        match request:
            case rpc.LeaderAndIsrRequest():
                for here, partition in request.partitions:
                    if self.broker_id in partition.replicas:
                        self.become(here, partition, now)
            case rpc.StopReplicaRequest():
                for here in request.topic_partitions:
                    self.stop(here, now)
            case rpc.UpdateMetadataRequest():
                self.partitions.update(request.partitions)

    def become(self, here: TopicPartition, partition: PartitionRegistration, now: int) -> None:
        """Lead or follow a partition as its registration says."""
        if here not in self.replicas:
            self.replicas[here] = Replica(self.broker_id, here, self.config, self.disk.logs.setdefault(here, Log()))
        replica = self.replicas[here]
        epoch, self.touched[here] = replica.leader_epoch, None
        replica.become(partition, now)
        if not replica.is_leader:
            self.perform(self.coordinators.on_follower(here, now), now)
        elif replica.leader_epoch != epoch:
            self.perform(self.coordinators.on_leader(here, replica.log, replica.leader_epoch, now), now)

    def stop(self, here: TopicPartition, now: int) -> None:
        """Cease to be a replica of a partition, and delete its log."""
        if replica := self.replicas.pop(here, None):
            replica.is_leader = False
            self.perform(self.coordinators.on_follower(here, now), now)
            self.complete(replica, now)
        self.disk.logs.pop(here, None)
        self.disk.high_watermarks.pop(here, None)

    # Partitions

    def replica(self, here: TopicPartition) -> Replica:
        """The replica of a partition; KafkaError if there is none here, or no such partition."""
        if here not in self.replicas:
            is_elsewhere = here in self.partitions
            raise KafkaError(Error.NOT_LEADER_OR_FOLLOWER if is_elsewhere else Error.UNKNOWN_TOPIC_OR_PARTITION)
        return self.replicas[here]

    def wait(self, here: TopicPartition, delayed: Delayed) -> None:
        """Let a request wait until its partition or the time completes it, perhaps at the end of this step."""
        self.replicas[here].waiting.append(delayed)
        self.touched[here] = None

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
                    producer = Producer(transactional_id, batch.producer_id, batch.producer_epoch)
                    question = rpc.AddPartitionsToTxnRequest(producer, (here,), verify_only=True)
                    return self.ask(self.coordinator(transactional_id, True), question, (request, waiter, guard), now)
            written = replica.produce(batch, acks, now, guard)
        except KafkaError as refusal:
            return self.answer(waiter, rpc.Response(refusal.error), now)
        self.touched[here] = None
        if acks != -1:
            return self.answer(waiter, rpc.Response(Error.NONE, written.base_offset), now)
        self.wait(here, Delayed(waiter, now + timeout, "acknowledged", written))

    def on_verified(self, response: Any, now: int, request: rpc.ProduceRequest, waiter: Waiter, guard: int) -> None:
        """Append what is in the transaction; if nobody could say that, the producer has to try again."""
        error = response.error if response else Error.REQUEST_TIMED_OUT
        if error is Error.NONE:
            return self.append(request, waiter, now, guard)
        self.answer(waiter, rpc.Response(Error.NOT_ENOUGH_REPLICAS if error.is_retriable else error), now)

    def settle(self, replica: Replica, now: int) -> None:
        """See to a partition that was touched."""
        here, log = replica.topic_partition, replica.log
        if log.log_end_offset - log.active_segment >= self.config.segment_records:
            log.roll()
            log.flush()
            if any(topic.is_compacted for topic in self.config.topics if topic.name == here[0]):
                log.compact()
        elif self.config.flushes_every_append:
            log.flush()
        self.complete(replica, now)
        self.perform(self.coordinators.on_high_watermark(here, log, now), now)
        if replica.ask_at <= now:
            replica.ask_at = NEVER
            controller_id = self.controller_id if self.config.kip_497 else self.broker_id
            self.ask(controller_id if replica.is_leader else replica.leader, replica.request, None, now)

    def complete(self, replica: Replica, now: int) -> None:
        """Answer who waits at a partition, as far as it is time to."""
        for delayed, answer in replica.complete(now):
            self.answer(delayed.waiter, answer, now)

    def shrink_isrs(self, now: int) -> None:
        """Look for followers that lag: in the ISR, or outside where the high watermark has waited for them."""
        self.timers["shrink_isrs"] = now + self.config.replica_lag_time_max // 2
        for replica in self.replicas.values():
            replica.maybe_shrink_isr(now)

    def checkpoint(self, now: int) -> None:
        """Write high watermarks and logs to the disk."""
        self.timers["checkpoint"] = now + self.config.high_watermark_checkpoint_interval
        for here, replica in self.replicas.items():
            self.disk.high_watermarks[here] = replica.log.high_watermark
            replica.log.flush()

    # Coordinators

    def coordinator(self, key: str, is_transaction: bool) -> int:
        """The broker that coordinates a group or a transactional id; KafkaError if none does."""
        partition = self.partitions.get(self.coordinators.coordinator_partition(key, is_transaction))
        if partition is None or partition.leader == NO_LEADER:
            raise KafkaError(Error.COORDINATOR_NOT_AVAILABLE)
        return partition.leader

    def perform(self, effects: Decided, now: int) -> None:
        """Do what the coordinators want."""
        for effect in effects:
            match effect:
                case Respond((source, correlation), error, body):
                    self.effects.append(Message(self.name, source, correlation, rpc.Response(error, body)))
                case SendMarkers(producer, epoch, result, here):
                    leader = self.partitions[here].leader
                    self.ask(leader, rpc.WriteTxnMarkersRequest(here, *producer[1:], epoch, result), effect, now)
                case Append(here, producer=producer):
                    batch, name = effect.batch(now), producer.transactional_id or None
                    self.append(rpc.ProduceRequest(here, batch, -1, name, self.config.request_timeout), effect, now)
