"""ZooKeeper as Kafka uses it: one reliable, linearizable machine.

Sessions own ephemeral nodes, which are deleted when a session expires. A request carries out operations, all or none,
each on condition that a node has a version still, reads all nodes below some paths, and leaves a one-shot watch there.
So there is nothing that a client has to remember of a request: what is so now is in the next answer. A client has one
request under way, and sends it again until it is answered; a copy only reads. That stands for the real client's
reconnecting. If the message is lost that a watch has fired, the client's next ping, a request without operations, reads
what has changed.

Not modelled: ZooKeeper's own replication (ZAB), ACLs, sequential nodes, nodes of clients that stay, writes without
condition, reads without watch. A request in a session that has expired opens the next one; the real client has to begin
anew for that.

Source: org.apache.zookeeper (ZooKeeper, ClientCnxn, DataTree), kafka.zookeeper.ZooKeeperClient, kafka.zk.ZkData.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hwmark.refimpl.batches import TopicPartition
from hwmark.refimpl.config import ClusterConfig
from hwmark.refimpl.machine import ZOOKEEPER, Address, Effects, Event, Message
from hwmark.refimpl.partition_change import NO_LEADER, PartitionRegistration

CHECK, CREATE, SET, DELETE = "CHECK", "CREATE", "SET", "DELETE"
BROKERS, BROKER_EPOCHS, CONTROLLER, CONTROLLER_EPOCH = "/brokers", "/brokers/epochs", "/controller", "/controller_epoch"
NEW = -1  # the epochs of a partition that was never led, and its node's version: it goes along with partition_epoch
ABSENT = -2  # the version of no node


def state_path(topic_partition: TopicPartition) -> str:
    """The node of a partition's registration."""
    return f"/brokers/topics/{topic_partition[0]}/partitions/{topic_partition[1]}/state"


def id_path(broker_id: int) -> str:
    """The node of a broker's registration."""
    return f"/brokers/ids/{broker_id}"


class Node(NamedTuple):
    """What is at a path: `czxid` is the transaction that created it, `owner` the session it goes with (0: none)."""

    value: Any = None
    version: int = 0
    czxid: int = 0
    owner: int = 0


NO_NODE = Node(version=ABSENT)
Nodes = dict[str, Node]


class Op(NamedTuple):
    """Part of a transaction, on condition that a node has a version: CHECK that, CREATE (ephemeral), SET or DELETE."""

    kind: str
    path: str
    version: int = ABSENT
    value: Any = None


class ZooKeeperRequest(NamedTuple):
    """Write all of the operations, or nothing; then read the nodes whose paths begin so. Session 0 opens one."""

    session: int
    paths: tuple[str, ...]
    ops: Sequence[Op] = ()


class ZooKeeperResponse(NamedTuple):
    """What a request has read; or, under the correlation id 0, that this has changed since."""

    session: int
    nodes: Nodes | None = None


@dataclass(slots=True)
class Session:
    """What the server keeps of a client: the number of its last request, and what it watches."""

    client: Address
    number: int
    deadline: int = 0
    watches: tuple[str, ...] = ()


@dataclass(slots=True)
class ZooKeeper:
    """The server; at first there are the topics' assignments, and no broker."""

    config: ClusterConfig
    name: Address = ZOOKEEPER
    zxid: int = 0
    nodes: Nodes = field(default_factory=dict)
    sessions: dict[int, Session] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.nodes = {CONTROLLER_EPOCH: Node(0), BROKER_EPOCHS: Node(())}
        for tp, replicas in self.config.assignment().items():
            self.nodes[state_path(tp)] = Node(PartitionRegistration(replicas, (), NO_LEADER, NEW, NEW), NEW)

    def step(self, event: Event, now: int) -> Effects:
        """Answer a request, or expire sessions."""
        if isinstance(event, Message):
            return self._handle(event, event.body, now)
        expired = [id for id, session in self.sessions.items() if session.deadline <= now]
        for id in expired:
            del self.sessions[id]
        gone = [(path, node.version) for path, node in self.nodes.items() if node.owner in expired]
        return self._write([Op(DELETE, *one) for one in gone])

    def deadline(self) -> int | None:
        """When the next session expires."""
        return min((session.deadline for session in self.sessions.values()), default=None)

    def _handle(self, message: Message, request: ZooKeeperRequest, now: int) -> Effects:
        """Write, read and watch; a copy only reads, and one that comes after a later request is of no interest."""
        id, paths, ops = request
        if id not in self.sessions:
            self.zxid = id = self.zxid + 1
            self.sessions[id] = Session(message.source, message.correlation)
        session = self.sessions[id]
        if message.correlation < session.number:
            return []
        session.deadline, session.watches = now + self.config.zookeeper_session_timeout, ()
        pushes = self._write(ops, id) if ops and message.correlation > session.number else []
        session.number, session.watches = message.correlation, paths
        nodes = {path: node for path, node in self.nodes.items() if path.startswith(paths)}
        return [*pushes, Message(self.name, message.source, message.correlation, ZooKeeperResponse(id, nodes))]

    def _write(self, ops: Sequence[Op], session: int = 0) -> Effects:
        """Carry out a transaction, if all its conditions hold, and tell who watches."""
        nodes = self.nodes.copy()
        for kind, path, version, value in ops:
            if nodes.get(path, NO_NODE).version != version:
                return []
            if kind == CREATE:
                nodes[path] = Node(value, 0, self.zxid + 1, session)
            elif kind == SET:
                nodes[path] = nodes[path]._replace(value=value, version=version + 1)
            elif kind == DELETE:
                del nodes[path]
        self.nodes, self.zxid = nodes, self.zxid + 1
        return self._fire([op.path for op in ops if op.kind != CHECK])

    def _fire(self, paths: list[str]) -> Effects:
        """A watch fires once."""
        fired = [id for id, one in self.sessions.items() if any(path.startswith(one.watches) for path in paths)]
        for id in fired:
            self.sessions[id].watches = ()
        return [Message(self.name, self.sessions[id].client, 0, ZooKeeperResponse(id)) for id in fired]
