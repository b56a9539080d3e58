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

from collections.abc import Hashable, Iterable, Mapping
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
    rpc.TxnOffsetCommitRequest: "offset_commit",
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
    context: Hashable
    transactional_id: str | None = None


class AskBroker(NamedTuple):
    """Effect: send a request to a broker."""

    broker_id: int
    body: Any
    context: Hashable


class Loading(NamedTuple):
    """An internal partition that is led from now on, but read only when the high watermark is there."""

    leader_epoch: int
    end_offset: int


Effects = list[Reply | AppendTo | AskBroker]
Decisions = Iterable[Respond | Append | SendMarkers]
Caller = tuple[Address, int]  # and the correlation id


@dataclass(slots=True)
class Coordinators:
    """The coordinators of one broker, in memory only: a restarted broker loads them from its logs.

    `needs_producer_ids`: ask the controller for a block, and give it to `give_producer_ids`. `completed` says up to
    where the markers of a partition of __consumer_offsets have been taken into account. The others are times.
    """

    config: ClusterConfig
    transactions: TransactionCoordinator = field(init=False)
    groups: GroupCoordinator = field(init=False)
    needs_producer_ids: bool = field(default=False, init=False)
    loading: dict[TopicPartition, Loading] = field(default_factory=dict, init=False)
    completed: dict[TopicPartition, int] = field(default_factory=dict, init=False)
    markers: list[SendMarkers] = field(default_factory=list, init=False)
    retry_at: int | None = field(default=None, init=False)
    check_at: int | None = field(default=None, init=False)  # for transactions that last too long
    groups_at: int | None = field(default=None, init=False)
    cleanup_at: int | None = field(default=None, init=False)

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
        transactional_id = body.producer.transactional_id if type(body) is rpc.TxnOffsetCommitRequest else None
        try:
            ask = self._ask_groups if type(body) in GROUP_REQUESTS else self._ask_transactions
            decisions = ask(to, body, now)
        except KafkaError as refusal:
            following, end = self.transactions.producer_ids
            is_loading, error = refusal.error is Error.COORDINATOR_LOAD_IN_PROGRESS, refusal.error
            self.needs_producer_ids |= following == end and is_loading
            decisions = [Respond(to, LOADING_ANSWERS.get(type(body), error) if is_loading else error)]
        return self._effects(decisions, now, transactional_id)

    def _ask_groups(self, to: Hashable, body: Any, now: int) -> Decisions:
        arguments = (*body[:2], *body.producer[1:]) if type(body) is rpc.TxnOffsetCommitRequest else body
        return cast(Decisions, getattr(self.groups, GROUP_REQUESTS[type(body)])(to, now, *arguments))

    def _ask_transactions(self, to: Hashable, body: Any, now: int) -> Decisions:
        transactions = self.transactions
        match body:
            case rpc.InitProducerIdRequest():
                return transactions.init_producer_id(to, *body, now)
            case rpc.AddPartitionsToTxnRequest(producer, partitions, is_question):
                if is_question:
                    return [Respond(to, Error.NONE, cast(Any, transactions.verify_partitions(producer, partitions)))]
                return transactions.add_partitions(to, producer, partitions, now)
            case rpc.AddOffsetsToTxnRequest(producer, group_id):
                return transactions.add_partitions(to, producer, (self.coordinator_partition(group_id, False),), now)
            case rpc.EndTxnRequest():
                return transactions.end_txn(to, *body, now)
        raise TypeError(f"{body} is not for a coordinator")

    def on_leader(self, topic_partition: TopicPartition, log: Log, leader_epoch: int, now: int) -> Effects:
        """The broker leads a partition in a new epoch; nothing happens unless the partition is an internal one.

        Who led it before goes on with its groups, but begins anew with its transactions, as their epoch is another.
        """
        topic, partition = topic_partition
        coordinator = self.coordinator(topic)
        if coordinator is self.groups and self.groups.epochs.get(partition, LOADING) != LOADING:
            self.groups.load(partition, (), leader_epoch, now)
        elif coordinator:
            self.loading[topic_partition] = Loading(leader_epoch, log.log_end_offset)
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
        loading = self.loading.get(topic_partition)
        if loading is not None and log.high_watermark >= loading.end_offset:
            del self.loading[topic_partition]
            return self._load(topic_partition, log, loading.leader_epoch, now)
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

    def on_appended(self, context: Hashable, error: Error, base_offset: int, now: int) -> Effects:
        """An AppendTo is replicated (NONE) at that offset, or has failed (offset -1)."""
        append = cast(Append, context)
        if error is Error.NETWORK_EXCEPTION:  # nobody verified the transaction
            error = Error.COORDINATOR_LOAD_IN_PROGRESS
        coordinator = self.transactions if append.topic_partition[0] == TRANSACTIONS_TOPIC else self.groups
        return self._effects(coordinator.on_appended(append, error, base_offset, now), now)

    def on_response(self, context: Hashable, response: Response | None, now: int) -> Effects:
        """An AskBroker is answered, or nobody did in time (None)."""
        asked, (error, value) = cast(SendMarkers, context), response or Response(Error.REQUEST_TIMED_OUT)
        errors = {one: value[one] if error is Error.NONE else error for one in asked.topic_partitions}
        return self._effects(self.transactions.on_markers(asked, errors, now), now)

    def send_markers(self, partitions: Mapping[TopicPartition, PartitionRegistration]) -> Effects:
        """WriteTxnMarkers to the leaders, as far as the broker's metadata (UpdateMetadata) knows them."""
        effects: Effects = []
        markers, self.markers = self.markers, []
        for one in markers:
            if self.transactions.current(one.producer.transactional_id, one.coordinator_epoch) is None:
                continue
            by_leader: dict[int, list[TopicPartition]] = {}
            for each in one.topic_partitions:
                by_leader.setdefault(partitions[each].leader if each in partitions else NO_LEADER, []).append(each)
            for leader, led in by_leader.items():
                context = one._replace(topic_partitions=tuple(led))
                identity = *one.producer[1:], one.coordinator_epoch, one.result
                if leader == NO_LEADER:
                    self.markers.append(context)
                else:
                    body = rpc.WriteTxnMarkersRequest(*identity, context.topic_partitions)
                    effects.append(AskBroker(leader, body, context))
        return effects

    def tick(self, now: int) -> Effects:
        """Do what is due; harmless before."""
        effects: Effects = []
        if _is_due(self.retry_at, now) or _is_due(self.check_at, now):
            self.retry_at = self.check_at = None
            effects += self._effects(self.transactions.tick(now), now)
        if _is_due(self.groups_at, now):
            effects += self._effects(self.groups.tick(now), now)
        if _is_due(self.cleanup_at, now):
            self.cleanup_at = None
            effects += self._effects([*self.groups.expire_offsets(now), *self.transactions.remove_expired(now)], now)
        return effects

    def deadline(self) -> int | None:
        """When to tick."""
        return earliest(self.retry_at, self.check_at, self.groups_at, self.cleanup_at)

    def _effects(self, decisions: Decisions, now: int, transactional_id: str | None = None) -> Effects:
        """What the Broker has to do for what the coordinators decided; what is to be done later gets its time."""
        config, transactions = self.config, self.transactions
        effects: Effects = []
        for decision in decisions:
            match decision:
                case Respond(to, error, body):
                    effects.append(Reply(*cast(Caller, to), Response(error, body)))
                case SendMarkers():
                    self.markers.append(decision)
                case Append(here, epoch):
                    effects.append(AppendTo(here, epoch, _batch(decision, now), decision, transactional_id))
        self.groups_at = self.groups.next_deadline()
        if self.retry_at is None and transactions.retries:
            self.retry_at = now + config.retry_backoff
        if self.check_at is None and any(one.current.state == "Ongoing" for one in transactions.transactions.values()):
            self.check_at = now + config.transaction_check_interval
        if self.cleanup_at is None and (transactions.transactions or self.groups.groups):
            self.cleanup_at = now + CLEANUP_INTERVAL
        return effects


def _is_due(deadline: int | None, now: int) -> bool:
    return deadline is not None and deadline <= now


def _batch(append: Append, now: int) -> Batch:
    """A batch without offsets yet; with a producer id it is a transaction's."""
    records = tuple([Record(offset, key, value) for offset, (key, value) in enumerate(append.records)])
    producer = append.producer_id, append.producer_epoch, NO_SEQUENCE, append.producer_id != NO_PRODUCER_ID
    return Batch(0, len(records) - 1, append.leader_epoch, records, *producer, timestamp=now)
