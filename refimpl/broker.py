"""A broker: it leads and follows partitions, coordinates groups and transactions, and does what controllers say.

What a request means to a partition is the Replica's affair, or a coordinator's. Here all is routed: to replicas, to the
coordinators, and to the controller, which is active on one broker only. At the end of a step the partitions that it has
touched are settled: who waits there is looked at again, and what the replica has to ask is sent, unless it has been.

The coordinators decide, and the broker does their effects:

    Respond     answer a request, known by its source and correlation id
    Append      append to the own replica with acks=all, in that leader epoch only, and call `on_appended` once, when
                the high watermark passed it or it failed; outcomes come in the order of the log
    SendMarkers send WriteTxnMarkers to the leaders, itself perhaps, and call `on_markers` once for each

A coordinator loads a partition when the high watermark covers what its log held at the election, for what a new leader
has may yet be lost; until then it refuses heartbeats too. Kafka loads up to the log end offset at once. Who leads on in
another epoch loads again, and forgets what the log does not say.

Not modelled: quotas, fetch sessions, fetching from followers, failing disks, controlled shutdown, deleted topics.
Metadata are about partitions alone: clients know the brokers, and nobody says of a leader that it is dead before there
is another. WriteTxnMarkers is about one partition. Produce does not say how long to wait, has no other acks than 0, 1
and -1, and names the transaction if it is part of one. Where no leader is known, FindCoordinator names this broker.

Source: kafka.server.KafkaApis, KafkaServer, ReplicaManager, AbstractFetcherManager, AlterPartitionManager,
AddPartitionsToTxnManager, MetadataCache, TransactionMarkerChannelManager, RPCProducerIdManager.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from hwmark.refimpl import requests as rpc
from hwmark.refimpl.batches import Batch, Producer, Record, TopicPartition
from hwmark.refimpl.config import OFFSETS_TOPIC, TRANSACTIONS_TOPIC, ClusterConfig
from hwmark.refimpl.controller import REQUESTS, Controller
from hwmark.refimpl.coordinator import LOADING, Append, Respond
from hwmark.refimpl.errors import Error, KafkaError
from hwmark.refimpl.group_coordinator import GroupCoordinator
from hwmark.refimpl.log import Log
from hwmark.refimpl.machine import ZOOKEEPER, Address, Asked, Effects, Event, Message, Outbox, address, earliest
from hwmark.refimpl.partition_change import NO_LEADER, PartitionRegistration
from hwmark.refimpl.producer_state import NO_GUARD
from hwmark.refimpl.replica import NEVER, Delayed, Replica
from hwmark.refimpl.transaction_coordinator import SendMarkers, TransactionCoordinator

RESPONSES = rpc.Response, rpc.FetchResponse  # that a broker gets
TRANSACTIONAL = rpc.InitProducerIdRequest, rpc.AddPartitionsToTxnRequest, rpc.AddOffsetsToTxnRequest, rpc.EndTxnRequest
COORDINATED: dict[type, Callable[..., Any]] = {  # the coordinator's method, which has the request's fields as arguments
    rpc.InitProducerIdRequest: TransactionCoordinator.init_producer_id,
    rpc.AddPartitionsToTxnRequest: TransactionCoordinator.add_partitions,
    rpc.AddOffsetsToTxnRequest: TransactionCoordinator.add_offsets,
    rpc.EndTxnRequest: TransactionCoordinator.end_txn,
    rpc.TxnOffsetCommitRequest: GroupCoordinator.offset_commit,
    rpc.JoinGroupRequest: GroupCoordinator.join_group,
    rpc.SyncGroupRequest: GroupCoordinator.sync_group,
    rpc.HeartbeatRequest: GroupCoordinator.heartbeat,
    rpc.LeaveGroupRequest: GroupCoordinator.leave_group,
    rpc.OffsetCommitRequest: GroupCoordinator.offset_commit,
    rpc.OffsetFetchRequest: GroupCoordinator.offset_fetch,
}

Waiter = Message | Append | None  # for an append; nobody: acks=0


@dataclass(slots=True)
class Disk:
    """What a broker finds again when it starts: its logs, after `Log.recover`, and the high watermarks' checkpoint."""

    logs: dict[TopicPartition, Log] = field(default_factory=dict)
    high_watermarks: dict[TopicPartition, int] = field(default_factory=dict)


@dataclass(slots=True)
class Broker:
    """A machine. A broker that starts again is a new one, with the disk of the former.

    `partitions` is what a controller said last, the one with that id and epoch. `touched` and `effects` are empty
    between steps.
    """

    broker_id: int
    config: ClusterConfig
    disk: Disk = field(default_factory=Disk)
    name: Address = field(init=False)
    controller: Controller = field(init=False)
    transactions: TransactionCoordinator = field(init=False)
    groups: GroupCoordinator = field(init=False)
    outbox: Outbox = field(init=False)
    controller_id: int = -1
    controller_epoch: int = -1
    partitions: dict[TopicPartition, PartitionRegistration] = field(default_factory=dict)
    replicas: dict[TopicPartition, Replica] = field(default_factory=dict)
    checkpoint_at: int = 0
    touched: dict[TopicPartition, Replica] = field(default_factory=dict)
    effects: Effects = field(default_factory=list)

    def __post_init__(self) -> None:
        """A broker that has just started leads and follows nothing before a controller says so."""
        self.name = address(self.broker_id)
        self.controller = Controller(self.broker_id, self.config)
        self.transactions, self.groups = TransactionCoordinator(self.config), GroupCoordinator(self.config)
        self.outbox = Outbox(self.name, self.config.request_timeout, stride=2)

    def step(self, event: Event, now: int) -> Effects:
        """Take a message or do what is due; then see to the partitions that this has touched."""
        if isinstance(event, Message):
            self.receive(event, now)
        else:
            self.tick(now)
        while self.touched:
            self.settle(self.touched.pop(next(iter(self.touched))), now)
        self.transactions.broker_epoch = self.controller.broker_epoch
        effects, self.effects = self.effects, []
        return effects

    def tick(self, now: int) -> None:
        """Do what is due; a partition may have something to do that nobody waits for any more."""
        self.effects += self.controller.step(None, now)
        self.perform(self.transactions.tick(now), now)
        self.perform(self.groups.tick(now), now)
        for asked in self.outbox.expire(now):
            self.on_answered(asked, rpc.Response(Error.REQUEST_TIMED_OUT), now)
        for replica in self.replicas.values():
            replica.maybe_shrink_isr(now)
        self.touched |= self.replicas
        if self.checkpoint_at <= now:
            self.checkpoint_at = now + self.config.high_watermark_checkpoint_interval
            for here, replica in self.replicas.items():
                self.disk.high_watermarks[here] = replica.log.high_watermark
                replica.log.flush()

    def deadline(self) -> int | None:
        """When something is due."""
        own = min([self.checkpoint_at, *[replica.deadline for replica in self.replicas.values()]])
        coordinators = self.transactions.next_deadline(), self.groups.next_deadline()
        return earliest(own, self.outbox.deadline(), self.controller.deadline(), *coordinators)

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
                self.handle(message, now)
            except KafkaError as refusal:
                self.answer(message, rpc.refusal(message.body, refusal.error), now)

    def handle(self, message: Message, now: int) -> None:
        """Do what a request asks for, and answer it now or later."""
        match request := message.body:
            case rpc.FetchRequest(here):
                self.replica(here).fetch(request, now)
                self.replica(here).waiting.append(Delayed(message, now + request.max_wait, request))
            case rpc.ProduceRequest():
                self.append(message if request.acks else None, request, NO_GUARD, now)
            case rpc.ListOffsetsRequest(here):
                self.answer(message, self.replica(here).list_offsets(request), now)
            case rpc.OffsetsForLeaderEpochRequest(here):
                self.answer(message, self.replica(here).offsets_for_leader_epoch(request), now)
            case rpc.DeleteRecordsRequest(here, offset):
                self.answer(message, self.replica(here).delete_records(offset), now)
            case rpc.WriteTxnMarkersRequest(here, id, id_epoch, epoch, result):
                records = (Record(0, result, epoch),)
                marker = Batch(0, 0, -1, records, id, id_epoch, -1, True, result, epoch, now)
                self.append(message, rpc.ProduceRequest(here, marker), NO_GUARD, now)
            case rpc.MetadataRequest(topics):
                known = [one for one in self.partitions.items() if topics is None or one[0][0] in topics]
                self.answer(message, rpc.Response(Error.NONE, tuple(known)), now)
            case rpc.FindCoordinatorRequest(key, is_transaction):
                self.answer(message, rpc.Response(Error.NONE, self.coordinator(key, is_transaction)), now)
            case rpc.LeaderAndIsrRequest():
                self.obey(request, now)
                self.answer(message, rpc.Response(), now)
            case _:
                coordinator = self.transactions if isinstance(request, TRANSACTIONAL) else self.groups
                to = message.source, message.correlation
                self.perform(COORDINATED[type(request)](coordinator, to, now, *request), now)

    def answer(self, waiter: Waiter, answer: Any, now: int) -> None:
        """Tell who waits; a marker that is replicated decides what becomes of the offsets of its transaction."""
        match waiter:
            case Message(source, _, correlation, request):
                self.effects.append(Message(self.name, source, correlation, answer))
                if isinstance(request, rpc.WriteTxnMarkersRequest) and answer.error is Error.NONE:
                    (topic, partition), producer_id, *_, result = request
                    if topic == OFFSETS_TOPIC:
                        self.groups.complete_transaction(partition, producer_id, result)
            case Append((topic, _)):
                coordinator = self.transactions if topic == TRANSACTIONS_TOPIC else self.groups
                base_offset = answer.value if answer.error is Error.NONE else -1
                self.perform(coordinator.on_appended(waiter, answer.error, base_offset, now), now)

    def ask(self, broker_id: int, body: Any, context: Any, now: int) -> None:
        """Send a request."""
        self.effects.append(self.outbox.ask(address(broker_id), body, context, now))

    def on_answered(self, asked: Asked, response: Any, now: int) -> None:
        """Do what follows an answer; the absence of one is an error, too."""
        match asked.body:
            case rpc.WriteTxnMarkersRequest():
                self.perform(self.transactions.on_markers(asked.context, response.error, now), now)
            case rpc.AddPartitionsToTxnRequest():
                waiter, request, guard = asked.context
                if response.error is Error.NONE:
                    return self.append(waiter, request, guard, now)
                is_unknown = response.error.is_retriable  # then the producer has to try again
                self.answer(waiter, rpc.Response(Error.NOT_ENOUGH_REPLICAS if is_unknown else response.error), now)
            case request if request.topic_partition in self.replicas:
                self.replica(request.topic_partition).handle_response(request, response, now)

    # What the controller says

    def obey(self, request: rpc.LeaderAndIsrRequest, now: int) -> None:
        """Take the controller's word on partitions, but no older one than before.

        Refuse a controller that was replaced, and what is meant for another incarnation of the broker (KIP-380).
        """
        if self.config.kip_380 and request.broker_epoch != self.controller.broker_epoch:
            raise KafkaError(Error.STALE_BROKER_EPOCH, f"{request.broker_epoch} is not {self.controller.broker_epoch}")
        if request.controller_epoch < self.controller_epoch:
            raise KafkaError(Error.STALE_CONTROLLER_EPOCH, f"{request.controller_epoch} < {self.controller_epoch}")
        self.controller_id, self.controller_epoch = request.controller_id, request.controller_epoch
        for here, partition in request.partitions:
            if here not in self.partitions or partition.partition_epoch > self.partitions[here].partition_epoch:
                self.partitions[here] = partition
                self.become(here, partition, now)

    def become(self, here: TopicPartition, partition: PartitionRegistration, now: int) -> None:
        """Lead or follow a partition; or delete its log, if the broker is no replica of it (any more)."""
        log = self.disk.logs.setdefault(here, Log())
        self.replicas.setdefault(here, Replica(self.broker_id, here, self.config, log))
        self.replica(here).become(partition, now)
        if self.broker_id not in partition.replicas:
            del self.replicas[here], self.disk.logs[here]
            self.disk.high_watermarks.pop(here, None)

    # Partitions

    def replica(self, here: TopicPartition) -> Replica:
        """The replica of a partition, which is settled after this; KafkaError if there is none here, or no such one."""
        if here not in self.replicas:
            is_elsewhere = here in self.partitions
            raise KafkaError(Error.NOT_LEADER_OR_FOLLOWER if is_elsewhere else Error.UNKNOWN_TOPIC_OR_PARTITION)
        self.touched[here] = self.replicas[here]
        return self.replicas[here]

    def append(self, waiter: Waiter, request: rpc.ProduceRequest, guard: int, now: int) -> None:
        """Append, once the transaction is verified (KIP-890), and wait for the ISR if that was asked for.

        If the log of the producer went on since its coordinator was asked, it is asked again.
        """
        here, batch, acks, transactional_id = request
        try:
            replica = self.replica(here)
            known = replica.log.producer(batch.producer_id)
            if self.config.kip_890 and transactional_id is not None and not known.is_verified(batch, guard):
                producer = Producer(transactional_id, batch.producer_id, batch.producer_epoch)
                question = rpc.AddPartitionsToTxnRequest(producer, (here,), verify_only=True)
                context = waiter, request, known.guard
                return self.ask(self.coordinator(transactional_id, True), question, context, now)
            written = replica.produce(batch, acks)
        except KafkaError as refusal:
            return self.answer(waiter, rpc.Response(refusal.error), now)
        if acks != -1:
            return self.answer(waiter, rpc.Response(Error.NONE, written.base_offset), now)
        replica.waiting.append(Delayed(waiter, now + self.config.request_timeout, written))

    def settle(self, replica: Replica, now: int) -> None:
        """See to a partition that was touched."""
        here, log = replica.topic_partition, replica.log
        replica.maybe_increment_high_watermark(now)
        if log.log_end_offset - log.active_segment >= self.config.segment_records:
            log.roll()
            log.flush()
            if any(topic.is_compacted for topic in self.config.topics if topic.name == here[0]):
                log.compact()
        elif self.config.flushes_every_append:
            log.flush()
        if here[0] in (OFFSETS_TOPIC, TRANSACTIONS_TOPIC):
            self.lead_coordinator(replica, now)
        for waiter, answer in replica.complete(now):
            self.answer(waiter, answer, now)
        if replica.ask_at <= now:
            replica.ask_at = NEVER
            controller_id = self.controller_id if self.config.kip_497 else self.broker_id
            self.ask(controller_id if replica.is_leader else replica.leader, replica.request, None, now)

    # Coordinators

    def lead_coordinator(self, replica: Replica, now: int) -> None:
        """Load what a coordinator leads in a new epoch, as soon as it is committed; forget what it leads no more."""
        topic, partition = replica.topic_partition
        coordinator = self.transactions if topic == TRANSACTIONS_TOPIC else self.groups
        if coordinator.epochs.get(partition) == (replica.leader_epoch if replica.is_leader else None):
            return
        self.perform(coordinator.unload(partition), now)
        if replica.is_leader and replica.log.high_watermark < replica.leader_epoch_start_offset:
            coordinator.epochs[partition] = LOADING
        elif replica.is_leader:
            batches = replica.log.read(replica.log.log_start_offset, replica.log.high_watermark)
            self.perform(coordinator.load(partition, batches, replica.leader_epoch, now), now)

    def coordinator(self, key: str, is_transaction: bool) -> int:
        """The broker that coordinates a group or a transactional id."""
        coordinator = self.transactions if is_transaction else self.groups
        return self.leader((coordinator.topic, coordinator.partition(key)))

    def leader(self, here: TopicPartition) -> int:
        """The leader of a partition; while none is known that is this broker, which refuses what it is asked."""
        partition = self.partitions.get(here)
        return partition.leader if partition and partition.leader != NO_LEADER else self.broker_id

    def perform(self, effects: Iterable[Respond | Append | SendMarkers], now: int) -> None:
        """Do what the coordinators want."""
        for effect in effects:
            match effect:
                case Respond((source, correlation), error, body):
                    self.effects.append(Message(self.name, source, correlation, rpc.Response(error, body)))
                case SendMarkers(producer, epoch, result, here):
                    request = rpc.WriteTxnMarkersRequest(here, *producer[1:], epoch, result)
                    self.ask(self.leader(here), request, effect, now)
                case Append(here, producer=producer):
                    batch, name = effect.batch(now), producer.transactional_id or None
                    self.append(effect, rpc.ProduceRequest(here, batch, -1, name), NO_GUARD, now)
