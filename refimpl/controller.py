"""The controller, a part of every broker and active on one, and all that a broker has to do with ZooKeeper.

A broker registers, wins the race for /controller or watches who has, obtains blocks of producer ids and, before
KIP-497, writes the ISRs of the partitions that it leads. The active controller takes one event after the other, as
Kafka's event thread does: it decides by `partition_change`, writes to ZooKeeper on condition that the controller epoch
is its own (KAFKA-6082), and then tells the brokers. What is asked of a broker is asked in order, and again until it is
acknowledged or the broker's registration gone. A broker that registers anew has failed and come back (KIP-380).

Differs from Kafka: assignment and state of a partition are one node. A restarted broker deletes its old registration;
Kafka has it wait until the old session ends. /brokers/epochs keeps the registrations that a controller has dealt with,
so that the next one knows who restarted meanwhile; Kafka's goes on with a leader that did. A reassignment bumps the
leader epoch when it ends, as in KRaft, not when it starts.

Not modelled: KIP-704's recovery, KIP-903's broker epochs in AlterPartition, creating and deleting topics.

Source: kafka.controller (KafkaController, ControllerChannelManager), kafka.zk.KafkaZkClient, ReplicationControlManager;
KIP-237, KIP-380, KIP-455, KIP-497, KIP-966.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hwmark.refimpl import partition_change as changing
from hwmark.refimpl import requests as rpc
from hwmark.refimpl import zookeeper as zk
from hwmark.refimpl.batches import TopicPartition
from hwmark.refimpl.config import ClusterConfig
from hwmark.refimpl.errors import Error, KafkaError
from hwmark.refimpl.machine import ZOOKEEPER, Message, Outbox, address, earliest
from hwmark.refimpl.partition_change import NO_LEADER, ONLINE, PREFERRED, UNCLEAN, BrokerIds
from hwmark.refimpl.partition_change import PartitionRegistration as Partition
from hwmark.refimpl.zookeeper import CHECK, CREATE, CREATE_EPHEMERAL, DELETE, SET, Multi, Node, Op, Read

PRODUCER_IDS_BLOCK = 1000
REQUESTS = rpc.AlterPartitionRequest, rpc.AlterPartitionReassignmentsRequest, rpc.ElectLeadersRequest
READERS = {zk.CONTROLLER: "elected", zk.IDS: "brokers", zk.ISR_CHANGES: "isr_changes", zk.BROKERS: "states"}

Nodes = tuple[tuple[str, Node], ...]
Partitions = dict[TopicPartition, Partition]


class Brokers(NamedTuple):
    """Event: these brokers are registered, with these epochs; `lost_tail` may have lost what they had not flushed."""

    epochs: dict[int, int]
    lost_tail: BrokerIds = ()


@dataclass(slots=True)
class Controller:
    """One broker's. `broker_lost_tail`: this incarnation follows an unclean shutdown, it registers as such (KIP-966).

    `controller_epoch` is -1 without a term of its own; `live` are the brokers of the last event, `registered` those of
    the last one that waits; `channels` has what each broker is still to be told, the first of it is under way.
    """

    broker_id: int
    config: ClusterConfig
    broker_lost_tail: bool = False
    broker_epoch: int = -1
    controller_epoch: int = -1
    is_active: bool = False
    producer_ids: tuple[int, int] = (0, 0)
    wants_producer_ids: bool = False
    isr_outcomes: list[tuple[rpc.AlterPartitionRequest, rpc.AlterPartitionResponse]] = field(default_factory=list)
    partitions: Partitions = field(default_factory=dict)
    live: dict[int, int] = field(default_factory=dict)
    registered: dict[int, int] = field(default_factory=dict)
    channels: dict[int, list[Any]] = field(default_factory=dict)
    events: list[Brokers | Message] = field(default_factory=list)
    replies: list[Message] = field(default_factory=list)
    zookeeper: zk.ZooKeeperClient = field(init=False)
    outbox: Outbox = field(init=False)

    def __post_init__(self) -> None:
        name = address(self.broker_id)
        self.zookeeper = zk.ZooKeeperClient(name, self.config.zookeeper_session_timeout)
        self.outbox = Outbox(name, self.config.request_timeout, -3, 4)

    def step(self, message: Message | None, now: int) -> list[Message]:
        """Take what ZooKeeper says, a request to the controller, a broker's answer to it, or a tick (None)."""
        if message is None:
            self.outbox.expire(now)
        elif message.source == ZOOKEEPER:
            for context, *outcome in self.zookeeper.receive(message.body):
                getattr(self, f"_on_{context[0]}")(*context[1:], *outcome)
        elif not isinstance(message.body, REQUESTS):
            self._on_acknowledged(message, now)
        elif self.is_active:
            self.events.append(message)
        else:
            self._reply(message, Error.NOT_CONTROLLER)
        return self._send(now)

    def deadline(self) -> int | None:
        """When to tick."""
        return earliest(self.zookeeper.deadline, self.outbox.deadline())

    def want_producer_ids(self, now: int) -> list[Message]:
        """Obtain another block of producer ids: (next, end), in `producer_ids` as soon as `wants_producer_ids` ends."""
        if not self.wants_producer_ids:
            self.wants_producer_ids = True
            self.zookeeper.submit(Read(zk.PRODUCER_IDS), "producer_ids_read")
        return self._send(now)

    def alter_isr(self, request: rpc.AlterPartitionRequest, now: int) -> list[Message]:
        """Write an ISR as its leader; the outcome comes in `isr_outcomes`, unless the session expires meanwhile."""
        self.zookeeper.submit(Read(zk.state_path(request.topic_partition)), "isr_read", request)
        return self._send(now)

    def _send(self, now: int) -> list[Message]:
        """Go on with the events, and send what is to be sent."""
        while self.events and not self.zookeeper.queue:
            self._begin(self.events[0])
        messages, self.replies = self.replies + self.zookeeper.send(now), []
        under_way = [asked.destination for asked in self.outbox.asked.values()]
        for id, queue in self.channels.items():
            if queue and address(id) not in under_way:
                messages.append(self.outbox.ask(address(id), queue[0], id, now))
        return messages

    # The session.

    def _on_connected(self, error: str, value: None) -> None:
        self._register()
        self._on_watched(zk.OK, zk.CONTROLLER)

    def _register(self, *_: Any) -> None:
        path = f"{zk.IDS}/{self.broker_id}"
        self.zookeeper.submit(Multi((Op(CREATE_EPHEMERAL, path, self.broker_lost_tail),)), "registered", path)

    def _on_registered(self, path: str, error: str, value: int) -> None:
        if error == zk.OK:
            self.broker_epoch = value
        else:
            self.zookeeper.submit(Multi((Op(DELETE, path),)), "deregistered")

    _on_deregistered = _register

    def _on_expired(self, error: str, value: None) -> None:
        self.broker_epoch = -1
        self._resign()
        if self.wants_producer_ids:
            self.zookeeper.submit(Read(zk.PRODUCER_IDS), "producer_ids_read")

    def _on_watched(self, error: str, prefix: str) -> None:
        self.zookeeper.submit(Read(prefix, True), READERS[prefix])

    def _on_producer_ids_read(self, error: str, nodes: Nodes) -> None:
        node = nodes[0][1]
        block = node.value, node.value + PRODUCER_IDS_BLOCK
        self.zookeeper.submit(Multi((Op(SET, zk.PRODUCER_IDS, block[1], node.version),)), "producer_ids", block)

    def _on_producer_ids(self, block: tuple[int, int], error: str, value: Any) -> None:
        if error == zk.OK:
            self.producer_ids, self.wants_producer_ids = block, False
        else:
            self.zookeeper.submit(Read(zk.PRODUCER_IDS), "producer_ids_read")

    def _on_isr_read(self, request: rpc.AlterPartitionRequest, error: str, nodes: Nodes) -> None:
        (path, node), version = nodes[0], request.partition_epoch
        state = node.value._replace(isr=request.isr, partition_epoch=version + 1)
        notification = Op(CREATE, f"{zk.ISR_CHANGES}/{path}/{version}", None)
        operation = Multi((Op(SET, path, state, version), notification))
        self.zookeeper.submit(operation, "isr_written", request)

    def _on_isr_written(self, request: rpc.AlterPartitionRequest, error: str, value: Any) -> None:
        response = rpc.AlterPartitionResponse(Error.INVALID_UPDATE_VERSION)
        if error == zk.OK:
            response = rpc.AlterPartitionResponse(Error.NONE, request.partition_epoch + 1, request.isr)
        self.isr_outcomes.append((request, response))

    # The race for the controller, and what it reads.

    def _on_elected(self, error: str, nodes: Nodes) -> None:
        if not nodes:
            self.zookeeper.submit(Read(zk.CONTROLLER_EPOCH), "race")

    def _on_race(self, error: str, nodes: Nodes) -> None:
        epoch, version = nodes[0][1][:2]
        create = Op(CREATE_EPHEMERAL, zk.CONTROLLER, self.broker_id)
        self.zookeeper.submit(Multi((create, Op(SET, zk.CONTROLLER_EPOCH, epoch + 1, version))), "raced", epoch + 1)

    def _on_raced(self, epoch: int, error: str, value: Any) -> None:
        if error == zk.OK:  # or else the watch tells when to race again
            self.controller_epoch = epoch
            self.zookeeper.submit(Read(zk.BROKERS), "states")
            self._on_watched(zk.OK, zk.IDS)
            if not self.config.kip_497:
                self._on_watched(zk.OK, zk.ISR_CHANGES)

    def _resign(self) -> None:
        self.controller_epoch, self.is_active, waiting, self.events = -1, False, self.events, []
        for event in waiting:
            if isinstance(event, Message):
                self._reply(event, Error.NOT_CONTROLLER)
        for state in (self.partitions, self.live, self.registered, self.channels, self.outbox.asked):
            state.clear()

    def _on_states(self, error: str, nodes: Nodes) -> None:
        """Read all partitions; what leaders changed is told to all."""
        before, paths = self.partitions, [(path.split("/"), node.value) for path, node in nodes]
        self.partitions = {(path[3], int(path[5])): value for path, value in paths if path[2] == "topics"}
        if self.is_active:
            changed = {tp: old for tp, old in before.items() if old != self.partitions[tp]}
            if changed:
                self._announce(changed, is_isr_only=True)
            self.events.append(Brokers(self.registered))
        else:
            self.registered = dict(next(node.value for path, node in nodes if path == zk.BROKER_EPOCHS))

    def _on_brokers(self, error: str, nodes: Nodes) -> None:
        """Read who is registered: who is gone, or there anew, has failed first of all."""
        if self.controller_epoch < 0:  # resigned, but the watch stays
            return
        ids = {int(path.removeprefix(f"{zk.IDS}/")): node for path, node in nodes}
        epochs = {id: node.czxid if self.config.kip_380 else -1 for id, node in sorted(ids.items())}
        remaining = {id: epoch for id, epoch in epochs.items() if self.registered.get(id) == epoch}
        lost_tail = tuple([id for id in epochs if ids[id].value and id not in remaining])
        self.events += [Brokers(remaining)] if remaining != self.registered else []
        self.events += [Brokers(epochs, lost_tail)] if epochs != remaining or not self.is_active else []
        self.registered, self.is_active = epochs, True

    def _on_isr_changes(self, error: str, nodes: Nodes) -> None:
        if nodes and self.controller_epoch >= 0:
            self.zookeeper.submit(Multi(tuple([Op(DELETE, path) for path, _ in nodes])), "isr_changed")

    def _on_isr_changed(self, *_: Any) -> None:
        self.zookeeper.submit(Read(zk.BROKERS), "states")

    # The active controller's events.

    def _begin(self, event: Brokers | Message) -> None:
        """Decide and write, or end the event at once."""
        try:
            changes = self._decide_brokers(event) if isinstance(event, Brokers) else self._decide(event.body)
        except KafkaError as refusal:
            self._end({}, refusal.error)
            return
        ops = [Op(SET, zk.state_path(tp), changes[tp], self.partitions[tp].partition_epoch) for tp in changes]
        if isinstance(event, Brokers):
            ops.append(Op(SET, zk.BROKER_EPOCHS, tuple(event.epochs.items())))
        if ops:
            check = Op(CHECK, zk.CONTROLLER_EPOCH, version=self.controller_epoch)
            self.zookeeper.submit(Multi((check, *ops)), "written", changes)
        else:
            self._end({})

    def _on_written(self, changes: Partitions, error: str, value: Any) -> None:
        if error == zk.OK:
            self._end(changes)
        elif value == zk.CONTROLLER_EPOCH:
            self._resign()
        else:  # a leader has written an ISR: decide again
            self._on_isr_changed()

    def _end(self, changes: Partitions, error: Error = Error.NONE) -> None:
        """Tell of the changes that were written, first of all the brokers."""
        event, before = self.events.pop(0), {tp: self.partitions[tp] for tp in changes}
        self.partitions.update(changes)
        if before or isinstance(event, Brokers):
            self._announce(before, isinstance(event, Message) and isinstance(event.body, rpc.AlterPartitionRequest))
        if isinstance(event, Message):
            self._reply(event, error)

    def _reply(self, message: Message, error: Error) -> None:
        response: Any = rpc.Response(error)
        if isinstance(message.body, rpc.AlterPartitionRequest):
            at = self.partitions.get(message.body.topic_partition)
            if at and error is Error.NONE and at.leader != message.body.broker_id:
                error = Error.NEW_LEADER_ELECTED
            isr = (at.partition_epoch, at.isr) if at and error is Error.NONE else ()
            response = rpc.AlterPartitionResponse(error, *isr)
        self.replies.append(Message(self.outbox.source, message.source, message.correlation, response))

    def _announce(self, before: Partitions, is_isr_only: bool) -> None:
        """Tell the brokers what changed, and all to those who came; a leader knows already what ISR it asked for."""
        at, live = self.partitions, tuple(self.live)
        same = [tp for tp, was in before.items() if was.leader_epoch == at[tp].leader_epoch] if is_isr_only else []
        for id, epoch in self.live.items():
            is_new, head = id not in self.channels, (self.broker_id, self.controller_epoch, epoch)
            states = tuple([(tp, at[tp]) for tp in (at if is_new else before) if at[tp].leader_epoch >= 0])
            led = tuple([(tp, now) for tp, now in states if id in now.replicas and (is_new or tp not in same)])
            gone = tuple([tp for tp, now in states if id not in now.replicas and (is_new or id in before[tp].replicas)])
            queue = self.channels.setdefault(id, [])
            queue += [rpc.LeaderAndIsrRequest(*head, led)] if led else []
            queue.append(rpc.UpdateMetadataRequest(*head, states, live))
            queue += [rpc.StopReplicaRequest(*head, gone)] if gone else []

    def _on_acknowledged(self, response: Message, now: int) -> None:
        """Go on with the queue of the broker, or ask it once more later, until its registration is another."""
        asked = self.outbox.asked.get(response.correlation)
        if asked and response.body.error in (Error.NONE, Error.STALE_CONTROLLER_EPOCH):
            self.outbox.answered(response)
            self.channels[asked.context].pop(0)
        elif asked:
            self.outbox.asked[response.correlation] = asked._replace(deadline=now + self.config.retry_backoff)

    # What the controller decides.

    def _decide(self, request: Any) -> Partitions:
        """The changes that a request asks for; it may be decided again after others wrote."""
        old = self.partitions.get(request.topic_partition)
        if old is None:
            raise KafkaError(Error.UNKNOWN_TOPIC_OR_PARTITION)
        if isinstance(request, rpc.AlterPartitionRequest):
            new = self._decide_isr(old, request)
        elif isinstance(request, rpc.ElectLeadersRequest):
            new = self._decide_leader(old, request.election)
        else:
            new = self._decide_replicas(old, request.replicas)
        return {request.topic_partition: new} if new != old else {}

    def _decide_brokers(self, event: Brokers) -> Partitions:
        """Leaders and ISRs are live, if anybody is; all live replicas are a partition's first ISR."""
        changes: Partitions = {}
        self.live = event.epochs
        for id in [id for id in self.channels if id not in self.live]:
            del self.channels[id]
            self.outbox.asked = {n: asked for n, asked in self.outbox.asked.items() if asked.context != id}
        for tp, old in self.partitions.items():
            isr = tuple([id for id in (old.isr if old.leader_epoch >= 0 else old.replicas) if id in self.live])
            new = self._change(old, old._replace(isr=isr), lost=event.lost_tail)
            changes |= {tp: new} if new != old else {}
        return changes

    def _decide_isr(self, old: Partition, request: rpc.AlterPartitionRequest) -> Partition:
        is_newer = request.leader_epoch > old.leader_epoch or request.partition_epoch > old.partition_epoch
        is_valid = len(set(request.isr)) == len(request.isr) and {old.leader} <= set(request.isr) <= set(old.replicas)
        answers = (
            (is_newer, Error.NOT_CONTROLLER),  # the leader knows of another one
            (request.leader_epoch < old.leader_epoch, Error.FENCED_LEADER_EPOCH),
            (request.broker_id != old.leader, Error.INVALID_REQUEST),
            (sorted(request.isr) == sorted(old.isr), Error.NONE),  # asked again, as the answer was lost
            (request.partition_epoch < old.partition_epoch, Error.INVALID_UPDATE_VERSION),
            (not is_valid, Error.INVALID_REQUEST),
            (not set(request.isr) <= set(self.live), Error.INELIGIBLE_REPLICA),
        )
        answer = next((error for applies, error in answers if applies), None)
        if answer not in (None, Error.NONE):
            raise KafkaError(answer)
        return old if answer else self._change(old, old._replace(isr=request.isr), bumps=False)

    def _decide_leader(self, old: Partition, election: str) -> Partition:
        is_preferred = election == PREFERRED
        if (old.leader == old.replicas[0]) if is_preferred else (old.leader != NO_LEADER):
            raise KafkaError(Error.ELECTION_NOT_NEEDED)
        new = self._change(old, old, election)
        if new.leader == old.leader:
            unavailable = Error.ELIGIBLE_LEADERS_NOT_AVAILABLE, Error.PREFERRED_LEADER_NOT_AVAILABLE
            raise KafkaError(unavailable[is_preferred])
        return new

    def _decide_replicas(self, old: Partition, replicas: BrokerIds | None) -> Partition:
        if replicas is not None:
            added = changing.without(replicas, old.replicas)
            if not replicas or len(set(replicas)) < len(replicas) or not set(added) <= set(self.live):
                raise KafkaError(Error.INVALID_REPLICA_ASSIGNMENT, "none, one twice, or one added that is not live")
            return self._change(old, changing.start_reassignment(old, replicas))
        if not old.adding and not old.removing:
            raise KafkaError(Error.NO_REASSIGNMENT_IN_PROGRESS)
        target, is_unclean = changing.revert_reassignment(old)
        if is_unclean and not self.config.unclean_leader_election:
            raise KafkaError(Error.INVALID_REPLICA_ASSIGNMENT, "all in the ISR are being added")
        return self._change(old, target)

    def _change(
        self, old: Partition, target: Partition, election: str = ONLINE, lost: BrokerIds = (), bumps: bool = True
    ) -> Partition:
        """The partition on its target, itself if nothing changes; `bumps`: the epoch rises with a smaller ISR."""
        if election == ONLINE and self.config.unclean_leader_election:
            election = UNCLEAN
        min_isr, may_lead = min(self.config.min_insync_replicas, len(target.replicas)), self.live.__contains__
        rules = changing.PartitionChangeBuilder(old, may_lead, min_isr, election, lost, self.config.kip_966)
        builder = rules._replace(leader_recovery=False, bump_on_isr_shrink=bumps)
        change = builder.build(target)
        return old.merge(change) if change else old
