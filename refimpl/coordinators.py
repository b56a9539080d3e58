"""The coordinators that a broker hosts: of transactions and of groups, for the internal partitions that it leads.

They decide; this component gives them their logs, their clients and their time. The Broker hands in what happened and
does the effects that come back:

    Reply       answer a request
    AppendTo    append to the own replica with acks=all and the origin COORDINATOR, and call `on_appended` once, when
                the high watermark passed it or it failed: NOT_LEADER_OR_FOLLOWER if the replica does not lead in that
                leader epoch (any more). With a `transactional_id` it is a client's, to be verified first (KIP-890)
    AskBroker   send a request to a broker, itself perhaps, and call `on_response` once

Outcomes of appends come in the order of the log, and before `on_high_watermark` of the same step. `send_markers` ends
every step that called anything here or changed the metadata; a marker that has no leader waits for one there. Markers
to be written, also those in __consumer_offsets, are the Broker's (WriteTxnMarkers), and so is FindCoordinator.

Both coordinators load a partition when the high watermark covers what its log held at the election, for what a new
leader has may yet be lost; until then they are loading. Kafka loads up to the log end offset at once.

Source: KafkaApis, TransactionMarkerChannelManager, TransactionStateManager, GroupMetadataManager, RPCProducerIdManager.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from hwmark.refimpl import requests as rpc
from hwmark.refimpl.batches import NO_PRODUCER_ID, NO_SEQUENCE, Batch, Record, TopicPartition
from hwmark.refimpl.config import OFFSETS_TOPIC, TRANSACTIONS_TOPIC, ClusterConfig
from hwmark.refimpl.coordinator import LOADING, Append, Respond
from hwmark.refimpl.errors import Error, KafkaError
from hwmark.refimpl.group_coordinator import GroupCoordinator
from hwmark.refimpl.log import HIGH_WATERMARK, Log
from hwmark.refimpl.machine import Address, Message, earliest
from hwmark.refimpl.partition_change import NO_LEADER, PartitionRegistration
from hwmark.refimpl.requests import Response
from hwmark.refimpl.transaction_coordinator import SendMarkers, TransactionCoordinator

CLEANUP_INTERVAL = 600_000  # ms between looks for expired offsets and transactional ids
GROUP_REQUESTS = {
    rpc.JoinGroupRequest: "join_group",
    rpc.SyncGroupRequest: "sync_group",
    rpc.HeartbeatRequest: "heartbeat",
    rpc.LeaveGroupRequest: "leave_group",
    rpc.OffsetCommitRequest: "offset_commit",
    rpc.OffsetFetchRequest: "offset_fetch",
}
# What a loading group coordinator tells members: to stay, and to join again, since it has lost the rebalance.
LOADING_ANSWERS = {rpc.HeartbeatRequest: Error.NONE, rpc.SyncGroupRequest: Error.REBALANCE_IN_PROGRESS}


class Reply(NamedTuple):
    """Effect: answer the request of that correlation id."""

    destination: Address
    correlation: int
    body: Response


class AppendTo(NamedTuple):
    """Effect: append a batch as the leader of that epoch; its offsets count from 0."""

    topic_partition: TopicPartition
    leader_epoch: int
    batch: Batch
    context: Append
    transactional_id: str | None = None


class AskBroker(NamedTuple):
    """Effect: send a request to a broker."""

    broker_id: int
    body: rpc.WriteTxnMarkersRequest
    context: SendMarkers


Effects = list[Reply | AppendTo | AskBroker]
Decisions = Iterable[Respond | Append | SendMarkers]
Caller = tuple[Address, int]  # and the correlation id


@dataclass(slots=True)
class Coordinators:
    """The coordinators of one broker, in memory only: a restarted broker loads them from its logs.

    `needs_producer_ids`: ask the controller for a block, and give it to `give_producer_ids`. `loading` has the leader
    epochs and ends of logs that are led, but not read before the high watermark is there; `completed` says up to where
    the markers of a partition of __consumer_offsets have been taken into account. `timers` say when to do what.
    """

    config: ClusterConfig
    transactions: TransactionCoordinator = field(init=False)
    groups: GroupCoordinator = field(init=False)
    needs_producer_ids: bool = field(default=False, init=False)
    loading: dict[TopicPartition, tuple[int, int]] = field(default_factory=dict, init=False)
    completed: dict[TopicPartition, int] = field(default_factory=dict, init=False)
    markers: list[SendMarkers] = field(default_factory=list, init=False)
    timers: dict[str, int | None] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        """Both coordinators of the cluster's version, without a partition yet."""
        self.transactions, self.groups = TransactionCoordinator(self.config), GroupCoordinator(self.config)

    def coordinator(self, topic: str) -> TransactionCoordinator | GroupCoordinator | None:
        """The coordinator whose state a topic keeps, if it keeps one's."""
        if topic == TRANSACTIONS_TOPIC:
            return self.transactions
        return self.groups if topic == OFFSETS_TOPIC else None

    def coordinator_partition(self, key: str, is_transaction: bool) -> TopicPartition:
        """The partition whose leader coordinates a transactional id, or a group (FindCoordinator)."""
        coordinator = self.transactions if is_transaction else self.groups
        return coordinator.topic, coordinator.partition(key)

    def give_producer_ids(self, block: tuple[int, int]) -> None:
        """Producer ids from the controller: (first, end)."""
        self.transactions.producer_ids, self.needs_producer_ids = block, False

    def handle(self, message: Message, now: int) -> Effects:
        """A request of a client; of a broker, AddPartitionsToTxn with `verify_only`. It is answered once, or parked."""
        to, body = (message.source, message.correlation), message.body
        try:
            decisions = self._ask(to, body, now)
        except KafkaError as refusal:
            (following, end), error = self.transactions.producer_ids, refusal.error
            if error is Error.COORDINATOR_LOAD_IN_PROGRESS:
                self.needs_producer_ids |= following == end
                error = LOADING_ANSWERS.get(type(body), error)
            decisions = [Respond(to, error)]
        is_commit = isinstance(body, rpc.TxnOffsetCommitRequest)
        return self._effects(decisions, now, body.producer.transactional_id if is_commit else None)

    def _ask(self, to: Caller, body: Any, now: int) -> Decisions:
        transactions, groups = self.transactions, self.groups
        match body:
            case rpc.InitProducerIdRequest():
                return transactions.init_producer_id(to, *body, now)
            case rpc.AddPartitionsToTxnRequest(producer, partitions, verify_only=True):
                errors: Any = transactions.verify_partitions(producer, partitions)
                return [Respond(to, Error.NONE, errors)]
            case rpc.AddPartitionsToTxnRequest(producer, partitions):
                return transactions.add_partitions(to, producer, partitions, now)
            case rpc.AddOffsetsToTxnRequest(producer, group_id):
                return transactions.add_partitions(to, producer, (self.coordinator_partition(group_id, False),), now)
            case rpc.EndTxnRequest():
                return transactions.end_txn(to, *body, now)
            case rpc.TxnOffsetCommitRequest(who, commits, producer):
                return groups.offset_commit(to, now, who, commits, *producer[1:])
        decisions: Decisions = getattr(groups, GROUP_REQUESTS[type(body)])(to, now, *body)
        return decisions

    def on_leader(self, topic_partition: TopicPartition, log: Log, leader_epoch: int, now: int) -> Effects:
        """The broker leads a partition in a new epoch; nothing happens unless the partition is an internal one.

        Who led it before goes on with its groups, but begins anew with its transactions, as their epoch is another.
        """
        topic, partition = topic_partition
        coordinator = self.coordinator(topic)
        if coordinator is self.groups and self.groups.epochs.get(partition, LOADING) != LOADING:
            self.groups.load(partition, (), leader_epoch, now)
        elif coordinator:
            self.loading[topic_partition] = leader_epoch, log.log_end_offset
            coordinator.unload(partition)
            coordinator.epochs[partition] = LOADING
        return self.on_high_watermark(topic_partition, log, now)

    def on_follower(self, topic_partition: TopicPartition, now: int) -> Effects:
        """The broker does not lead the partition (any more); what waited is refused."""
        topic, partition = topic_partition
        self.loading.pop(topic_partition, None)
        self.completed.pop(topic_partition, None)
        coordinator = self.coordinator(topic)
        return self._effects(coordinator.unload(partition), now) if coordinator else []

    def on_high_watermark(self, topic_partition: TopicPartition, log: Log, now: int) -> Effects:
        """The high watermark of a partition that the broker leads has moved: load it, or complete transactions."""
        if topic_partition in self.loading and log.high_watermark >= self.loading[topic_partition][1]:
            return self._load(topic_partition, log, self.loading.pop(topic_partition)[0], now)
        if topic_partition in self.completed:
            first, self.completed[topic_partition] = self.completed[topic_partition], log.high_watermark
            for batch in log.batches[log.index_of(first) : log.index_of(log.high_watermark)]:
                if batch.control is not None:
                    self.groups.complete_transaction(topic_partition[1], batch.producer_id, batch.control)
        return []

    def _load(self, topic_partition: TopicPartition, log: Log, leader_epoch: int, now: int) -> Effects:
        topic, partition = topic_partition
        batches = log.read(log.log_start_offset, HIGH_WATERMARK).batches
        if topic == TRANSACTIONS_TOPIC:
            return self._effects(self.transactions.load(partition, batches, leader_epoch, now), now)
        self.completed[topic_partition] = log.high_watermark
        return self._effects(self.groups.load(partition, batches, leader_epoch, now), now)

    def on_appended(self, context: Append, error: Error, base_offset: int, now: int) -> Effects:
        """An AppendTo is replicated (NONE) at that offset, or has failed (offset -1)."""
        coordinator = self.transactions if context.topic_partition[0] == TRANSACTIONS_TOPIC else self.groups
        return self._effects(coordinator.on_appended(context, error, base_offset, now), now)

    def on_response(self, context: Any, response: Response | None, now: int) -> Effects:
        """An AskBroker is answered, or nobody did in time (None)."""
        (here,), error = context.topic_partitions, response.error if response else Error.REQUEST_TIMED_OUT
        return self._effects(self.transactions.on_markers(context, {here: error}, now), now)

    def send_markers(self, partitions: Mapping[TopicPartition, PartitionRegistration]) -> Effects:
        """WriteTxnMarkers to the leaders, as far as the broker's metadata (UpdateMetadata) knows them."""
        effects = Effects()
        markers, self.markers = self.markers, []
        for one in markers:
            if self.transactions.current(one.producer.transactional_id, one.coordinator_epoch) is None:
                continue
            for here in one.topic_partitions:
                context = one._replace(topic_partitions=(here,))
                leader = partitions[here].leader if here in partitions else NO_LEADER
                if leader == NO_LEADER:
                    self.markers.append(context)
                else:
                    body = rpc.WriteTxnMarkersRequest(here, *one.producer[1:], one.coordinator_epoch, one.result)
                    effects.append(AskBroker(leader, body, context))
        return effects

    def tick(self, now: int) -> Effects:
        """Do what is due; harmless before."""
        due = [name for name, time in self.timers.items() if time is not None and time <= now]
        decisions: list[Respond | Append | SendMarkers] = []
        for name in due:
            del self.timers[name]
            if name == "groups":
                decisions += self.groups.tick(now)
            elif name == "cleanup":
                decisions += [*self.groups.expire_offsets(now), *self.transactions.remove_expired(now)]
            else:
                decisions += self.transactions.tick(now)
        return self._effects(decisions, now) if due else []

    def deadline(self) -> int | None:
        """When to tick."""
        return earliest(*self.timers.values())

    def _effects(self, decisions: Decisions, now: int, transactional_id: str | None = None) -> Effects:
        """What the Broker has to do for what the coordinators decided; what is to be done later gets its time."""
        effects = Effects()
        for decision in decisions:
            match decision:
                case Respond(to, error, body):
                    effects.append(Reply(*cast(Caller, to), Response(error, body)))
                case SendMarkers():
                    self.markers.append(decision)
                case Append(here, epoch):
                    effects.append(AppendTo(here, epoch, _batch(decision, now), decision, transactional_id))
        known, timers = self.transactions.transactions, self.timers
        timers["groups"] = self.groups.next_deadline()
        if self.transactions.retries:
            timers.setdefault("retry", now + self.config.retry_backoff)
        if any(one.current.state == "Ongoing" for one in known.values()):  # and may last too long
            timers.setdefault("check", now + self.config.transaction_check_interval)
        if known or self.groups.groups:
            timers.setdefault("cleanup", now + CLEANUP_INTERVAL)
        return effects


def _batch(append: Append, now: int) -> Batch:
    """A batch without offsets yet; with a producer id it is a transaction's."""
    records = tuple([Record(offset, key, value) for offset, (key, value) in enumerate(append.records)])
    producer = append.producer_id, append.producer_epoch, NO_SEQUENCE, append.producer_id != NO_PRODUCER_ID
    return Batch(0, len(records) - 1, append.leader_epoch, records, *producer, timestamp=now)
