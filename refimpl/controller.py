"""The controller, a part of every broker and active on one, and all that a broker has to do with ZooKeeper.

A broker registers, wins the race for /controller or watches who has and, before KIP-497, writes the ISRs of the
partitions that it leads. It knows what it has read of ZooKeeper (the active controller: all of /brokers), and reads it
again after every change, its own included. From that alone follows what to write next, on condition that nobody else
has written meanwhile: so there is nothing to go on with after an answer or its loss. A `ClusterImage` says what becomes
of partitions, if the controller epoch is still its own (KAFKA-6082), and what a broker is to be told: the difference to
what it was told before, in order, and again until it acknowledges.

All that a controller changes of its own accord begins a leader epoch, by which the replicas know that there is news
for them; the ISR that a leader asks for does not. A broker that registers anew has failed and come back (KIP-380).

Differs from Kafka: assignment and state of a partition are one node, and watched, so that nothing has to say that a
leader has written an ISR. A restarted broker deletes its old registration; Kafka has it wait until the old session
ends. /brokers/epochs keeps the registrations that a controller has dealt with, so that the next one knows who restarted
meanwhile; Kafka's goes on with a leader that did.

Not modelled: KIP-704's recovery, KIP-903's broker epochs in AlterPartition, creating and deleting topics, clean
shutdowns: whoever registers may have lost what it had not flushed.

Source: kafka.controller (KafkaController, ControllerChannelManager), kafka.zk.KafkaZkClient, ReplicationControlManager;
KIP-237, KIP-380, KIP-455, KIP-497, KIP-966.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hwmark.refimpl import requests as rpc
from hwmark.refimpl import zookeeper as zk
from hwmark.refimpl.cluster_image import ClusterImage, Partitions
from hwmark.refimpl.config import ClusterConfig
from hwmark.refimpl.errors import Error, KafkaError
from hwmark.refimpl.machine import ZOOKEEPER, Address, Message, address, earliest
from hwmark.refimpl.partition_change import PartitionRegistration
from hwmark.refimpl.zookeeper import CHECK, CREATE, DELETE, SET, Multi, Nodes, Op, Read

REQUESTS = rpc.AlterPartitionRequest, rpc.AlterPartitionReassignmentsRequest, rpc.ElectLeadersRequest


@dataclass(slots=True)
class Channel:
    """What a registered broker is told: it knows `told` when it has acknowledged the requests, one after the other."""

    broker_epoch: int
    told: ClusterImage
    requests: list[Any] = field(default_factory=list)
    correlation: int = 0  # of the request under way
    deadline: int = 0  # when to send it (again)


@dataclass(slots=True)
class Controller:
    """One broker's. `broker_epoch` is -1 before it is registered, `controller_epoch` without a term of its own.

    `image` is what there is, if all of it was read: `requests` are decided on by it, one after the other. `messages`
    are to be sent, and empty between steps.
    """

    broker_id: int
    config: ClusterConfig
    name: Address = field(init=False)
    broker_epoch: int = -1
    controller_epoch: int = -1
    image: ClusterImage | None = None
    requests: list[Message] = field(default_factory=list)
    channels: dict[int, Channel] = field(default_factory=dict)
    correlation: int = -3
    messages: list[Message] = field(default_factory=list)
    zookeeper: zk.ZooKeeperClient = field(init=False)

    def __post_init__(self) -> None:
        self.name = address(self.broker_id)
        self.zookeeper = zk.ZooKeeperClient(self.name, self.config.zookeeper_session_timeout)

    @property
    def is_active(self) -> bool:
        """Whether it was elected and has read what there is."""
        return self.controller_epoch >= 0 and self.image is not None

    def step(self, message: Message | None, now: int) -> list[Message]:
        """Take what ZooKeeper says, a request to the controller, a broker's answer to it, or a tick (None).

        Before KIP-497 the own broker's AlterPartitionRequest is for ZooKeeper.
        """
        if message is None:
            pass
        elif message.source == ZOOKEEPER:
            self._on_zookeeper(self.zookeeper.receive(message.body))
        elif not isinstance(message.body, REQUESTS):
            self._on_acknowledged(message, now)
        elif self.is_active or (message.source == self.name and not self.config.kip_497):
            self.requests.append(message)
        else:
            self._reply(message, Error.NOT_CONTROLLER)
        return self._send(now)

    def deadline(self) -> int | None:
        """When to tick."""
        return earliest(self.zookeeper.deadline, *[one.deadline for one in self.channels.values() if one.requests])

    def _send(self, now: int) -> list[Message]:
        """Ask ZooKeeper for what is next, unless it has to answer yet; tell what is new; send what is to be sent."""
        operation = self._next() if self.zookeeper.session and not self.zookeeper.is_asking else None
        if self.image:
            self._tell(self.image, now)
        messages, self.messages = self.messages + self.zookeeper.send(operation, now), []
        return messages

    def _reply(self, message: Message, error: Error, at: PartitionRegistration | None = None) -> None:
        """Answer; a leader learns its ISR from what was written, unless it is none any more."""
        value = None
        if at and isinstance(message.body, rpc.AlterPartitionRequest):
            is_leader = at.leader == message.body.broker_id
            error, value = (error, (at.partition_epoch, at.isr)) if is_leader else (Error.NEW_LEADER_ELECTED, None)
        self.messages.append(Message(self.name, message.source, message.correlation, rpc.Response(error, value)))

    # What ZooKeeper says.

    def _on_zookeeper(self, news: str | Read | Multi | None) -> None:
        if news == zk.CONNECTED:
            self._resign()
        elif isinstance(news, Read):
            self._on_read(self.zookeeper.nodes)
        elif isinstance(news, Multi):
            self._on_written({op.path: op.value for op in news.ops})

    def _resign(self) -> None:
        """Begin anew in another session."""
        self.broker_epoch = self.controller_epoch = -1
        self.image, self.channels = None, {}
        while self.requests:
            self._reply(self.requests.pop(0), Error.NOT_CONTROLLER)

    def _on_read(self, nodes: Nodes) -> None:
        """See whether the broker is registered, and elected, in this session; a version is the controller's epoch."""
        mine, elected = [nodes.get(path, zk.NO_NODE) for path in (zk.id_path(self.broker_id), zk.CONTROLLER)]
        if mine.owner == self.zookeeper.session:
            self.broker_epoch = mine.czxid
        if elected.owner == self.zookeeper.session:
            self.controller_epoch = nodes[zk.CONTROLLER_EPOCH].version
        self.image = ClusterImage.of(self.config, nodes) if zk.BROKER_EPOCHS in nodes else None
        if self.image and self.controller_epoch >= 0:
            live, nothing = self.image.live, ClusterImage(self.config, {}, {})
            known = {id: channel for id, channel in self.channels.items() if live.get(id) == channel.broker_epoch}
            self.channels = {id: known.get(id) or Channel(epoch, nothing) for id, epoch in live.items()}

    def _on_written(self, written: dict[str, Any]) -> None:
        """Answer the request."""
        is_request = bool(self.requests) and zk.BROKER_EPOCHS not in written
        if is_request and (at := written.get(zk.state_path(self.requests[0].body.topic_partition))):
            self._reply(self.requests.pop(0), Error.NONE, at)

    # What it asks ZooKeeper for.

    def _next(self) -> Read | Multi | None:
        """Read what may have changed; write what follows from it."""
        wanted = [zk.CONTROLLER, zk.id_path(self.broker_id)]
        if self.controller_epoch >= 0 or self.requests:
            wanted.append(zk.BROKERS)
        if not set(wanted) <= set(self.zookeeper.watches):
            return Read(tuple(wanted))
        ops = self._writes(self.zookeeper.nodes)
        return Multi(tuple(ops)) if ops else None

    def _writes(self, nodes: Nodes) -> list[Op]:
        """What is to be written: the first thing that is wanting."""
        if self.broker_epoch < 0:
            version = nodes.get(zk.id_path(self.broker_id), zk.NO_NODE).version
            return [Op(CREATE if version == zk.ABSENT else DELETE, zk.id_path(self.broker_id), version)]
        if zk.CONTROLLER not in nodes:
            epoch = nodes[zk.CONTROLLER_EPOCH].version
            return [Op(CREATE, zk.CONTROLLER, value=self.broker_id), Op(SET, zk.CONTROLLER_EPOCH, epoch, epoch + 1)]
        ops = self._see_to_brokers(self.image, nodes) if self.image and self.controller_epoch >= 0 else []
        while self.image and self.requests and not ops:
            ops = self._decide(self.image, self.requests[0])
        return ops

    # The active controller, and leaders that write their ISRs.

    def _see_to_brokers(self, image: ClusterImage, nodes: Nodes) -> list[Op]:
        """Take note of the brokers that failed, and then of those that came."""
        here = [(id, nodes[zk.id_path(id)].czxid) for id in self.config.brokers if zk.id_path(id) in nodes]
        registered = {id: czxid if self.config.kip_380 else -1 for id, czxid in here}
        remaining = {id: epoch for id, epoch in image.live.items() if registered.get(id) == epoch}
        live = remaining if remaining != image.live else registered
        changes, version = image.change_brokers(live), nodes[zk.BROKER_EPOCHS].version
        if not changes and live == image.live:
            return []
        return [*self._set(image, changes), Op(SET, zk.BROKER_EPOCHS, version, tuple(live.items()))]

    def _decide(self, image: ClusterImage, message: Message) -> list[Op]:
        """What a request has written; it is answered at once if that is nothing."""
        changes, error = Partitions(), Error.NONE
        try:
            changes = image.decide(message.body)
        except KafkaError as refusal:
            error = refusal.error
        if changes:
            return self._set(image, changes)
        at = image.partitions[message.body.topic_partition] if error is Error.NONE else None
        self._reply(self.requests.pop(0), error, at)
        return []

    def _set(self, image: ClusterImage, changes: Partitions) -> list[Op]:
        """Write what is to change, if this is the controller still."""
        old = image.partitions
        ops = [Op(SET, zk.state_path(tp), old[tp].partition_epoch, new) for tp, new in changes.items()]
        return [Op(CHECK, zk.CONTROLLER_EPOCH, self.controller_epoch), *ops] if self.controller_epoch >= 0 else ops

    def _tell(self, image: ClusterImage, now: int) -> None:
        """Tell all brokers what is new to them, once they have acknowledged what was new before."""
        for id, channel in self.channels.items():
            if not channel.requests and channel.told != image:
                head = self.broker_id, self.controller_epoch, channel.broker_epoch
                channel.requests, channel.told = image.news(channel.told, id, head), image
            if channel.requests and channel.deadline <= now:
                self.correlation += 4
                channel.correlation, channel.deadline = self.correlation, now + self.config.request_timeout
                self.messages.append(Message(self.name, address(id), self.correlation, channel.requests[0]))

    def _on_acknowledged(self, response: Message, now: int) -> None:
        """Go on with what the broker is told; if it did not take it, ask it once more a little later."""
        for channel in self.channels.values():
            if channel.requests and channel.correlation == response.correlation:
                is_done = response.body.error is Error.NONE
                del channel.requests[:is_done]
                channel.deadline = now if is_done else now + self.config.retry_backoff
