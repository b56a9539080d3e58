"""The coordinators that a broker hosts: of transactions and of groups, for the internal partitions that it leads.

They decide; this component gives them their logs, their clients and their time. The Broker hands in what happened and
does the effects that come back:

    Respond     answer a request, known by its source and correlation id
    Append      append to the own replica with acks=all and the origin COORDINATOR, and call `on_appended` once, when
                the high watermark passed it or it failed: NOT_LEADER_OR_FOLLOWER if the replica does not lead in that
                leader epoch (any more)
    SendMarkers send WriteTxnMarkers to that leader, itself perhaps, and call `on_response` once

Outcomes of appends come in the order of the log, and before `on_high_watermark` of the same step. `send_markers` ends
every step that called anything here or changed the metadata; a marker that has no leader waits for one there. Markers
to be written, also those in __consumer_offsets, are the Broker's (WriteTxnMarkers), and so is FindCoordinator.

Both coordinators load a partition when the high watermark covers what its log held at the election, for what a new
leader has may yet be lost; until then they are loading, and refuse heartbeats too. Kafka loads up to the log end offset
at once. Who leads on in another epoch loads again, and forgets what the log does not say.

Source: KafkaApis, TransactionMarkerChannelManager, TransactionStateManager, GroupMetadataManager, RPCProducerIdManager.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from hwmark.refimpl import requests as rpc
from hwmark.refimpl.batches import TopicPartition
from hwmark.refimpl.config import OFFSETS_TOPIC, TRANSACTIONS_TOPIC, ClusterConfig
from hwmark.refimpl.coordinator import LOADING, Append, Respond
from hwmark.refimpl.errors import Error, KafkaError
from hwmark.refimpl.group_coordinator import GroupCoordinator
from hwmark.refimpl.log import HIGH_WATERMARK, Log
from hwmark.refimpl.machine import Message, earliest
from hwmark.refimpl.partition_change import NO_LEADER, PartitionRegistration
from hwmark.refimpl.transaction_coordinator import SendMarkers, TransactionCoordinator

NOT_LED = -1, 2**62
REQUESTS = {  # the coordinator and its method, which has the request's fields as arguments
    rpc.InitProducerIdRequest: ("transactions", "init_producer_id"),
    rpc.AddPartitionsToTxnRequest: ("transactions", "add_partitions"),
    rpc.AddOffsetsToTxnRequest: ("transactions", "add_offsets"),
    rpc.EndTxnRequest: ("transactions", "end_txn"),
    rpc.TxnOffsetCommitRequest: ("groups", "offset_commit"),
    rpc.JoinGroupRequest: ("groups", "join_group"),
    rpc.SyncGroupRequest: ("groups", "sync_group"),
    rpc.HeartbeatRequest: ("groups", "heartbeat"),
    rpc.LeaveGroupRequest: ("groups", "leave_group"),
    rpc.OffsetCommitRequest: ("groups", "offset_commit"),
    rpc.OffsetFetchRequest: ("groups", "offset_fetch"),
}
Effects = list[Respond | Append | SendMarkers]


@dataclass(slots=True)
class Coordinators:
    """The coordinators of one broker, in memory only: a restarted broker loads them from its logs.

    `read` has, for each internal partition that is led, the leader epoch and an offset: a log that is loading is read
    when the high watermark is there, and one that is loaded has been read up to there. `timers` say when to do what.
    """

    config: ClusterConfig
    transactions: TransactionCoordinator = field(init=False)
    groups: GroupCoordinator = field(init=False)
    read: dict[TopicPartition, tuple[int, int]] = field(default_factory=dict, init=False)
    markers: list[SendMarkers] = field(default_factory=list, init=False)
    timers: dict[str, int | None] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        """Both coordinators of the cluster's version, without a partition yet."""
        self.transactions, self.groups = TransactionCoordinator(self.config), GroupCoordinator(self.config)

    def coordinator(self, topic: str) -> TransactionCoordinator | GroupCoordinator:
        """The coordinator whose state an internal topic keeps."""
        return self.transactions if topic == TRANSACTIONS_TOPIC else self.groups

    def coordinator_partition(self, key: str, is_transaction: bool) -> TopicPartition:
        """The partition whose leader coordinates a transactional id, or a group (FindCoordinator)."""
        coordinator = self.transactions if is_transaction else self.groups
        return coordinator.topic, coordinator.partition(key)

    def handle(self, message: Message, now: int) -> Effects:
        """A request of a client; of a broker, AddPartitionsToTxn with `verify_only`. It is answered once, or parked."""
        to, (coordinator, method) = (message.source, message.correlation), REQUESTS[type(message.body)]
        try:
            return self._effects(getattr(getattr(self, coordinator), method)(to, now, *message.body), now)
        except KafkaError as refusal:
            return self._effects([Respond(to, refusal.error)], now)

    def on_leader(self, topic_partition: TopicPartition, log: Log, leader_epoch: int, now: int) -> Effects:
        """The broker leads a partition in a new epoch; nothing happens unless the partition is an internal one."""
        topic, partition = topic_partition
        if topic not in (OFFSETS_TOPIC, TRANSACTIONS_TOPIC):
            return []
        effects = self.on_follower(topic_partition, now)
        self.coordinator(topic).epochs[partition] = LOADING
        self.read[topic_partition] = leader_epoch, log.log_end_offset
        return effects + self.on_high_watermark(topic_partition, log, now)

    def on_follower(self, topic_partition: TopicPartition, now: int) -> Effects:
        """The broker does not lead the partition (any more); what waited is refused."""
        topic, partition = topic_partition
        is_led = self.read.pop(topic_partition, None) is not None
        return self._effects(self.coordinator(topic).unload(partition), now) if is_led else []

    def on_high_watermark(self, topic_partition: TopicPartition, log: Log, now: int) -> Effects:
        """The high watermark of a partition may have moved: of an internal one load it, or look for markers."""
        topic, partition = topic_partition
        leader_epoch, offset = self.read.get(topic_partition, NOT_LED)
        if log.high_watermark < offset:
            return []
        self.read[topic_partition] = leader_epoch, log.high_watermark
        if self.coordinator(topic).epochs[partition] == LOADING:
            batches = log.read(log.log_start_offset, HIGH_WATERMARK).batches
            return self._effects(self.coordinator(topic).load(partition, batches, leader_epoch, now), now)
        for batch in log.batches[log.index_of(offset) : log.index_of(log.high_watermark)]:
            if batch.control is not None:
                self.groups.complete_transaction(partition, batch.producer_id, batch.control)
        return []

    def on_appended(self, append: Append, error: Error, base_offset: int, now: int) -> Effects:
        """An Append is replicated (NONE) at that offset, or has failed (offset -1)."""
        coordinator = self.coordinator(append.topic_partition[0])
        return self._effects(coordinator.on_appended(append, error, base_offset, now), now)

    def on_response(self, markers: SendMarkers, response: rpc.Response | None, now: int) -> Effects:
        """SendMarkers are answered, or nobody did in time (None)."""
        (here,), error = markers.topic_partitions, response.error if response else Error.REQUEST_TIMED_OUT
        return self._effects(self.transactions.on_markers(markers, {here: error}, now), now)

    def send_markers(self, partitions: Mapping[TopicPartition, PartitionRegistration]) -> Effects:
        """WriteTxnMarkers to the leaders, as far as the broker's metadata (UpdateMetadata) knows them."""
        effects = Effects()
        markers, self.markers = self.markers, []
        for one in markers:
            if self.transactions.current(one.producer.transactional_id, one.coordinator_epoch) is None:
                continue
            for here in one.topic_partitions:
                leader = partitions[here].leader if here in partitions else NO_LEADER
                queue = self.markers if leader == NO_LEADER else effects
                queue.append(one._replace(topic_partitions=(here,), leader=leader))
        return effects

    def tick(self, now: int) -> Effects:
        """Do what is due; harmless before."""
        due = [name for name, time in self.timers.items() if time is not None and time <= now]
        tasks = {"groups": self.groups.tick}
        decisions = Effects()
        for name in due:
            del self.timers[name]
            decisions += tasks.get(name, self.transactions.tick)(now)
        return self._effects(decisions, now) if due else []

    def deadline(self) -> int | None:
        """When to tick."""
        return earliest(*self.timers.values())

    def _effects(self, decisions: Iterable[Respond | Append | SendMarkers], now: int) -> Effects:
        """What the Broker has to do for what the coordinators decided; what is to be done later gets its time."""
        effects = Effects()
        for decision in decisions:
            (self.markers if isinstance(decision, SendMarkers) else effects).append(decision)  # type: ignore[arg-type]
        timers = self.timers
        timers["groups"] = self.groups.next_deadline()
        if self.transactions.retries:
            timers.setdefault("retry", now + self.config.retry_backoff)
        if self.transactions.has_ongoing():  # that may last too long
            timers.setdefault("check", now + self.config.transaction_check_interval)
        return effects
