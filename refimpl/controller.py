"""The controller, a part of every broker and active on one, and all that a broker has to do with ZooKeeper.

A broker registers, wins the race for /controller or watches who has and, before KIP-497, writes the ISRs of the
partitions that it leads. It knows what it has read of ZooKeeper (the active controller: all of /brokers), and reads it
again after every change, its own included. From that alone follows what to write next, on condition that nobody else
has written meanwhile, and that the controller epoch is still its own (KAFKA-6082): so there is nothing to go on with
after an answer or its loss. A request is answered when it leaves nothing to write. What a broker is to be told is the
difference to what it was told before, in order, and again until it acknowledges.

All that a controller changes of its own accord begins a leader epoch, by which the replicas know that there is news
for them; the ISR that a leader asks for does not. A broker that registers anew has failed and come back (KIP-380).

Differs from Kafka: assignment and state of a partition are one node, and watched, so that nothing has to say that a
leader has written an ISR. A restarted broker deletes its old registration; Kafka has it wait until the old session
ends. /brokers/epochs keeps the registrations that a controller has dealt with, so that the next one knows who restarted
meanwhile; Kafka's goes on with a leader that did.

Not modelled: KIP-704's recovery, KIP-903's broker epochs in AlterPartition, creating and deleting topics, clean
shutdowns: whoever registers may have lost what it had not flushed. Who asks for what is so already, or for an election
that finds nobody, is told no error.

Source: kafka.controller (KafkaController, ControllerChannelManager, PartitionStateMachine,
ControllerBrokerRequestBatch), kafka.zk.KafkaZkClient, ReplicationControlManager; KIP-237, KIP-380, KIP-455, KIP-497,
KIP-966.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hwmark.refimpl import partition_change as changing
from hwmark.refimpl import requests as rpc
from hwmark.refimpl import zookeeper as zk
from hwmark.refimpl.batches import TopicPartition
from hwmark.refimpl.config import ClusterConfig
from hwmark.refimpl.errors import Error, KafkaError
from hwmark.refimpl.machine import ZOOKEEPER, Message, address, earliest
from hwmark.refimpl.partition_change import ONLINE, RECOVERED, UNCLEAN, PartitionRegistration
from hwmark.refimpl.zookeeper import CHECK, CREATE, DELETE, SET, Nodes, Op, ZooKeeperRequest, ZooKeeperResponse

REQUESTS = rpc.AlterPartitionRequest, rpc.AlterPartitionReassignmentsRequest, rpc.ElectLeadersRequest

Partitions = dict[TopicPartition, PartitionRegistration]


@dataclass(slots=True)
class Channel:
    """What a registered broker is told: it knows `told` when it has acknowledged the request, if there is one."""

    broker_epoch: int
    told: Partitions = field(default_factory=dict)
    request: rpc.LeaderAndIsrRequest | None = None
    correlation: int = 0  # of the request under way
    deadline: int = 0  # when to send it (again)


@dataclass(slots=True)
class Controller:
    """One broker's. `broker_epoch` is -1 before it is registered, `controller_epoch` without a term of its own.

    `nodes` were read last, of the paths that it `watches`: none, if something has changed since. `partitions` is what
    they say, and `live` the registrations of the brokers that live as far as the partitions know. `requests` are
    decided on, one after the other; `asked` is under way to ZooKeeper. `messages` is empty between steps.
    """

    broker_id: int
    config: ClusterConfig
    broker_epoch: int = -1
    controller_epoch: int = -1
    is_active: bool = False
    session: int = 0
    watches: tuple[str, ...] = ()
    nodes: Nodes = field(default_factory=dict)
    partitions: Partitions = field(default_factory=dict)
    live: dict[int, int] = field(default_factory=dict)
    asked: Message | None = None
    ask_at: int = 0  # when to ask again, or to ping
    requests: list[Message] = field(default_factory=list)
    channels: dict[int, Channel] = field(default_factory=dict)
    correlation: int = -1  # of a message to whomever, always odd
    messages: list[Message] = field(default_factory=list)

    def step(self, message: Message | None, now: int) -> list[Message]:
        """Take what ZooKeeper says, a request to the controller, a broker's answer to it, or a tick (None)."""
        if message and isinstance(message.body, ZooKeeperResponse):
            self._on_zookeeper(message.correlation, message.body)
        elif message and isinstance(message.body, REQUESTS):
            self.requests.append(message)
        elif message:
            self._on_acknowledged(message, now)
        self._ask_zookeeper(now)
        self._tell(now)
        messages, self.messages = self.messages, []
        return messages

    def deadline(self) -> int | None:
        """When to tick."""
        return earliest(self.ask_at, *[one.deadline for one in self.channels.values() if one.request])

    # ZooKeeper

    def _on_zookeeper(self, correlation: int, response: ZooKeeperResponse) -> None:
        """Take an answer, or see that a watch has fired; a former session says nothing any more."""
        if self.asked and self.asked.correlation == correlation:
            self.session, self.asked = response.session, None
            self._on_read(response.nodes or {})
        elif response.session == self.session:
            self.watches = ()

    def _on_read(self, nodes: Nodes) -> None:
        """See whether the broker is registered, and elected, in this session, and what there is.

        The version of /controller_epoch is the controller's epoch.
        """
        mine, elected = [nodes.get(path, zk.NO_NODE) for path in (zk.id_path(self.broker_id), zk.CONTROLLER)]
        self.broker_epoch = mine.czxid if mine.owner == self.session else -1
        self.controller_epoch = nodes[zk.CONTROLLER_EPOCH].version if elected.owner == self.session else -1
        self.is_active = self.controller_epoch >= 0 and zk.BROKER_EPOCHS in nodes
        self.nodes = nodes
        if zk.BROKER_EPOCHS in nodes:
            self.partitions = {tp: nodes[zk.state_path(tp)].value for tp in self.config.assignment()}
            self.live = dict(nodes[zk.BROKER_EPOCHS].value)
        live = self.live if self.is_active else {}
        known = {id: channel for id, channel in self.channels.items() if live.get(id) == channel.broker_epoch}
        self.channels = {id: known.get(id) or Channel(epoch) for id, epoch in live.items()}

    def _ask_zookeeper(self, now: int) -> None:
        """Write what follows from what was read, and read what may have changed; in time ask again, or ping."""
        if self.asked is None:
            knows_all = self.controller_epoch >= 0 or not self.config.kip_497
            paths = zk.CONTROLLER, zk.BROKERS if knows_all else zk.id_path(self.broker_id)
            ops = self._ops()
            if ops or paths != self.watches or self.ask_at <= now:
                self.correlation += 2
                request = ZooKeeperRequest(self.session, paths, tuple(ops))
                self.asked = Message(address(self.broker_id), ZOOKEEPER, self.correlation, request)
                self.watches, self.ask_at = paths, now
        if self.asked and self.ask_at <= now:
            self.ask_at = now + self.config.zookeeper_session_timeout // 3
            self.messages.append(self.asked)

    def _ops(self) -> list[Op]:
        """What is to be written: the first thing that is wanting."""
        nodes, mine = self.nodes, zk.id_path(self.broker_id)
        if self.broker_epoch < 0:
            version = nodes.get(mine, zk.NO_NODE).version
            return [Op(CREATE if version == zk.ABSENT else DELETE, mine, version)]
        if zk.CONTROLLER not in nodes:
            epoch = nodes[zk.CONTROLLER_EPOCH].version
            return [Op(CREATE, zk.CONTROLLER, value=self.broker_id), Op(SET, zk.CONTROLLER_EPOCH, epoch, epoch + 1)]
        ops = self._see_to_brokers() if self.is_active else []
        return ops or self._set(self._see_to_requests())

    def _set(self, changes: Partitions) -> list[Op]:
        """Write what is to change, if this is the controller still."""
        old = self.partitions
        ops = [Op(SET, zk.state_path(tp), old[tp].partition_epoch, new) for tp, new in changes.items()]
        return [Op(CHECK, zk.CONTROLLER_EPOCH, self.controller_epoch), *ops] if ops and self.is_active else ops

    # Decisions: the partitions as they are to be

    def _see_to_brokers(self) -> list[Op]:
        """Take note of the brokers that failed or came, and make leaders and ISRs live, if anybody is.

        All live replicas are a partition's first ISR. Who has just come may have lost what it had not flushed.
        """
        here = [(id, self.nodes[zk.id_path(id)].czxid) for id in self.config.brokers if zk.id_path(id) in self.nodes]
        live = {id: czxid if self.config.kip_380 else -1 for id, czxid in here}
        back = tuple([id for id, epoch in live.items() if self.live.get(id) != epoch])
        changes = Partitions()
        for tp, old in self.partitions.items():
            candidates = changing.without(old.isr, back) if old.leader_epoch >= 0 else old.replicas
            target = old._replace(isr=tuple([id for id in candidates if id in live]))
            new = self._change(old, target, may_lead=live.__contains__, unclean_shutdown=back)
            changes |= {tp: new} if new != old else {}
        if not changes and live == self.live:
            return []
        version = self.nodes[zk.BROKER_EPOCHS].version
        return [*self._set(changes), Op(SET, zk.BROKER_EPOCHS, version, tuple(live.items()))]

    def _see_to_requests(self) -> Partitions:
        """What the first request has left to write; if that is nothing, answer it and go on with the next."""
        while self.requests:
            here = self.requests[0].body.topic_partition
            try:
                new = self._decide(self.requests[0])
                if new != self.partitions[here]:
                    return {here: new}
                response = rpc.Response(Error.NONE, (new.partition_epoch, new.isr))
            except KafkaError as refusal:
                response = rpc.Response(refusal.error)
            request = self.requests.pop(0)
            self.messages.append(Message(request.destination, request.source, request.correlation, response))
        return {}

    def _decide(self, message: Message) -> PartitionRegistration:
        """Do what is asked of the controller; before KIP-497 leaders write the ISRs of their partitions themselves."""
        request, is_own = message.body, message.source == message.destination and not self.config.kip_497
        refuse_if(not self.is_active and not is_own, Error.NOT_CONTROLLER)
        refuse_if(request.topic_partition not in self.partitions, Error.UNKNOWN_TOPIC_OR_PARTITION)
        old = self.partitions[request.topic_partition]
        if isinstance(request, rpc.AlterPartitionRequest):
            return self._alter_partition(old, request)
        if isinstance(request, rpc.ElectLeadersRequest):
            return self._change(old, old, election=request.election)
        return self._reassign(old, request.replicas)

    def _alter_partition(self, old: PartitionRegistration, request: rpc.AlterPartitionRequest) -> PartitionRegistration:
        """A leader wants another ISR; if it is so already, that was written. Before KIP-497 it writes it itself."""
        _, leader, leader_epoch, partition_epoch, isr = request
        is_later = leader_epoch > old.leader_epoch or partition_epoch > old.partition_epoch
        refuse_if(is_later, Error.NOT_CONTROLLER)  # the leader knows of another one
        refuse_if(leader_epoch < old.leader_epoch, Error.FENCED_LEADER_EPOCH)
        if sorted(isr) == sorted(old.isr):
            return old
        refuse_if(partition_epoch < old.partition_epoch, Error.INVALID_UPDATE_VERSION)
        refuse_if(leader != old.leader or not {leader} <= {*isr} <= {*old.replicas}, Error.INVALID_REQUEST)
        if not self.config.kip_497:
            return old._replace(isr=isr, partition_epoch=partition_epoch + 1)
        refuse_if(not {*isr} <= {*self.live}, Error.INELIGIBLE_REPLICA)
        return self._change(old, old._replace(isr=isr), always_bump=False)

    def _reassign(self, old: PartitionRegistration, replicas: tuple[int, ...] | None) -> PartitionRegistration:
        """Move a partition to other replicas, or (None) back."""
        if replicas is None:
            target, is_unclean = changing.revert_reassignment(old)
            refuse_if(is_unclean and not self.config.unclean_leader_election, Error.INVALID_REPLICA_ASSIGNMENT)
            return self._change(old, target)
        refuse_if(not replicas or not {*replicas} <= {*old.replicas, *self.live}, Error.INVALID_REPLICA_ASSIGNMENT)
        return self._change(old, changing.start_reassignment(old, replicas))

    def _change(self, old: PartitionRegistration, target: PartitionRegistration, **rules: Any) -> PartitionRegistration:
        """What comes of the target; who has not asked for that learns it by a leader epoch."""
        config = self.config
        election = UNCLEAN if config.unclean_leader_election else ONLINE
        usual = self.live.__contains__, config.min_insync_replicas, election, config.kip_966
        builder = changing.PartitionChangeBuilder(old, *usual, unclean_recovery=RECOVERED, always_bump=True)
        return builder._replace(**rules).build(target)

    # Brokers

    def _tell(self, now: int) -> None:
        """Tell all brokers what is new to them, once they have acknowledged what was new before."""
        for id, channel in self.channels.items():
            if channel.request is None and channel.told != self.partitions:
                news = tuple([(tp, is_so) for tp, is_so in self.partitions.items() if is_so != channel.told.get(tp)])
                head = self.broker_id, self.controller_epoch, channel.broker_epoch
                channel.request, channel.told = rpc.LeaderAndIsrRequest(*head, news), self.partitions
            if channel.request and channel.deadline <= now:
                self.correlation += 2
                channel.correlation, channel.deadline = self.correlation, now + self.config.request_timeout
                self.messages.append(Message(address(self.broker_id), address(id), self.correlation, channel.request))

    def _on_acknowledged(self, response: Message, now: int) -> None:
        """Go on with what the broker is told; if it did not take it, ask it once more a little later."""
        for channel in self.channels.values():
            if channel.request and channel.correlation == response.correlation:
                is_done = response.body.error is Error.NONE
                channel.request = None if is_done else channel.request
                channel.deadline = now if is_done else now + self.config.retry_backoff


def refuse_if(applies: bool, error: Error) -> None:
    """Refuse a request for a reason."""
    if applies:
        raise KafkaError(error)
