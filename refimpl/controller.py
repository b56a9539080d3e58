"""The controller, a part of every broker and active on one, and all that a broker has to do with ZooKeeper.

A broker registers, wins the race for /controller or watches who has, obtains blocks of producer ids and, before
KIP-497, writes the ISRs of the partitions that it leads. The active controller knows what it has read of /brokers, and
reads it again after every change, its own included. From that alone follows what is to be done: a `ClusterImage` says
what to write, on condition that the controller epoch is still its own (KAFKA-6082), and what a broker is to be told is
the difference to what it was told before. It is told in order, and again until it acknowledges.

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
from hwmark.refimpl.zookeeper import CHECK, CREATE_EPHEMERAL, DELETE, SET, Multi, Node, Op, Read

PRODUCER_IDS_BLOCK = 1000
REQUESTS = rpc.AlterPartitionRequest, rpc.AlterPartitionReassignmentsRequest, rpc.ElectLeadersRequest

Nodes = tuple[tuple[str, Node], ...]


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

    `image` is what there is, once the broker is elected and has read it: then it is active. It decides on the first of
    the `requests` when ZooKeeper has answered everything. `messages` are to be sent, and empty between steps.
    """

    broker_id: int
    config: ClusterConfig
    name: Address = field(init=False)
    broker_epoch: int = -1
    controller_epoch: int = -1
    producer_ids: tuple[int, int] = (0, 0)
    wants_producer_ids: bool = False
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
        return self.image is not None

    def step(self, message: Message | None, now: int) -> list[Message]:
        """Take what ZooKeeper says, a request to the controller, a broker's answer to it, or a tick (None).

        Before KIP-497 the own broker's AlterPartitionRequest is for ZooKeeper.
        """
        if message is None:
            pass
        elif message.source == ZOOKEEPER:
            if outcome := self.zookeeper.receive(message.body):
                (name, *context), *answer = outcome
                getattr(self, f"_on_{name}")(*context, *answer)
        elif not isinstance(message.body, REQUESTS):
            self._on_acknowledged(message, now)
        elif message.source == self.name and not self.config.kip_497:
            self.zookeeper.submit(Read(zk.state_path(message.body.topic_partition)), "isr", message)
        elif self.image:
            self.requests.append(message)
        else:
            self._reply(message, Error.NOT_CONTROLLER)
        return self._send(now)

    def deadline(self) -> int | None:
        """When to tick."""
        return earliest(self.zookeeper.deadline, *[one.deadline for one in self.channels.values() if one.requests])

    def want_producer_ids(self, now: int) -> list[Message]:
        """Obtain a block of `producer_ids`: (next, end), unless the session expires meanwhile."""
        if not self.wants_producer_ids:
            self.wants_producer_ids = True
            self.zookeeper.submit(Read(zk.PRODUCER_IDS), "producer_ids_read")
        return self._send(now)

    def _send(self, now: int) -> list[Message]:
        """Go on with what is to be decided and told, and send what is to be sent."""
        if self.image:
            while self.requests and not self.zookeeper.queue:
                self._decide(self.image, self.requests[0])
            self._tell(self.image, now)
        messages, self.messages = self.messages + self.zookeeper.send(now), []
        return messages

    # What every broker asks of ZooKeeper.

    def _on_connected(self, error: str, value: None) -> None:
        """Begin anew in another session."""
        self._resign()
        self.broker_epoch, self.wants_producer_ids = -1, False
        self._register()
        self.zookeeper.submit(Read(zk.CONTROLLER, True), "controller")

    def _register(self) -> None:
        path = f"{zk.IDS}/{self.broker_id}"
        self.zookeeper.submit(Multi((Op(CREATE_EPHEMERAL, path),)), "registered", path)

    def _on_registered(self, path: str, error: str, value: int) -> None:
        if error == zk.OK:
            self.broker_epoch = value
        else:
            self.zookeeper.submit(Multi((Op(DELETE, path),)))
            self._register()

    def _on_producer_ids_read(self, error: str, nodes: Nodes) -> None:
        node = nodes[0][1]
        block = node.value, node.value + PRODUCER_IDS_BLOCK
        self.zookeeper.submit(Multi((Op(SET, zk.PRODUCER_IDS, block[1], node.version),)), "producer_ids", block)

    def _on_producer_ids(self, block: tuple[int, int], error: str, value: Any) -> None:
        if error == zk.OK:
            self.producer_ids, self.wants_producer_ids = block, False
        else:
            self.zookeeper.submit(Read(zk.PRODUCER_IDS), "producer_ids_read")

    def _on_isr(self, message: Message, error: str, nodes: Nodes) -> None:
        """Write an ISR as the leader, and see whether it is there; it may be already, as an answer was lost."""
        (path, node), request = nodes[0], message.body
        new = node.value._replace(isr=request.isr, partition_epoch=request.partition_epoch + 1)
        if node.version == request.partition_epoch:
            self.zookeeper.submit(Multi((Op(SET, path, new, node.version),)))
            self.zookeeper.submit(Read(path), "isr", message)
        else:
            is_there = node.value == new
            written = {request.topic_partition: new} if is_there else None
            self._reply(message, Error.NONE if is_there else Error.INVALID_UPDATE_VERSION, written)

    # The race for the controller.

    def _on_controller(self, error: str, nodes: Nodes) -> None:
        """Race whenever nobody is it; the version of /controller_epoch is the epoch."""
        (path, node), *elected = sorted(nodes)[::-1]
        if not elected:
            create, epoch = Op(CREATE_EPHEMERAL, zk.CONTROLLER, self.broker_id), node.version + 1
            self.zookeeper.submit(Multi((create, Op(SET, path, epoch, node.version))), "raced", epoch)

    def _on_raced(self, epoch: int, error: str, value: Any) -> None:
        if error == zk.OK:
            self.controller_epoch = epoch
            self.zookeeper.submit(Read(zk.BROKERS, True), "brokers")

    def _resign(self) -> None:
        self.controller_epoch, self.image, waiting, self.requests = -1, None, self.requests, []
        self.channels.clear()
        for message in waiting:
            self._reply(message, Error.NOT_CONTROLLER)

    # The active controller.

    def _on_brokers(self, error: str, nodes: Nodes) -> None:
        """Take note of what there is; see to the brokers that failed, and then to those that came."""
        if self.controller_epoch < 0:  # resigned, but the watch stays
            return
        partitions, registered, live = Partitions(), dict[int, int](), dict[int, int]()
        for path, node in nodes:
            match path.split("/")[2:]:
                case ["topics", topic, _, partition, _]:
                    partitions[topic, int(partition)] = node.value
                case ["ids", id]:
                    registered[int(id)] = node.czxid if self.config.kip_380 else -1
                case ["epochs"]:
                    live = dict(node.value)
        image = self.image = ClusterImage(self.config, partitions, live)
        known = {id: channel for id, channel in self.channels.items() if live.get(id) == channel.broker_epoch}
        nothing = ClusterImage(self.config, {}, {})
        self.channels = {id: known.get(id) or Channel(epoch, nothing) for id, epoch in live.items()}
        remaining = {id: epoch for id, epoch in live.items() if registered.get(id) == epoch}
        target = remaining if remaining != live else dict(sorted(registered.items()))
        changes = image.change_brokers(target)
        if changes or target != live:
            self._write(image, changes, Op(SET, zk.BROKER_EPOCHS, tuple(target.items())))

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

    def _decide(self, image: ClusterImage, message: Message) -> None:
        try:
            self._write(image, image.decide(message.body))
        except KafkaError as refusal:
            self._reply(self.requests.pop(0), refusal.error)

    def _write(self, image: ClusterImage, changes: Partitions, *brokers: Op) -> None:
        """Write what is to change, if this is the controller still; what has changed is watched, and will be read."""
        ops = [Op(CHECK, zk.CONTROLLER_EPOCH, version=self.controller_epoch), *brokers]
        ops += [Op(SET, zk.state_path(tp), new, image.partitions[tp].partition_epoch) for tp, new in changes.items()]
        self.zookeeper.submit(Multi(tuple(ops)), "written", image.partitions | changes, not brokers)

    def _on_written(self, partitions: Partitions, is_request: bool, error: str, value: Any) -> None:
        """Answer; if a leader has written an ISR meanwhile, decide again."""
        if value == zk.CONTROLLER_EPOCH:
            self._resign()
        elif is_request and error == zk.OK:
            self._reply(self.requests.pop(0), Error.NONE, partitions)

    def _reply(self, message: Message, error: Error, partitions: Partitions | None = None) -> None:
        """Answer; a leader learns its ISR from what was written, unless it is none any more."""
        isr: Any = None
        if isinstance(message.body, rpc.AlterPartitionRequest) and partitions:
            at = partitions[message.body.topic_partition]
            if at.leader == message.body.broker_id:
                isr = at.partition_epoch, at.isr
            else:
                error = Error.NEW_LEADER_ELECTED
        self.messages.append(Message(self.name, message.source, message.correlation, rpc.Response(error, isr)))
