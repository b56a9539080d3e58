"""ZooKeeper as Kafka uses it: one reliable, linearizable machine, and the session that a broker has with it.

Sessions own ephemeral nodes, which are deleted when a session expires, and a one-shot watch on all nodes that they read
last. A client has one request under way; it sends it again, under the same number, until it is answered, and a request
that was carried out already is answered from memory: that stands for the real client's reconnecting. That a watch has
fired is repeated in every response until the session reads again: a lost message loses none, as the real client's
setWatches sees to, and one too many costs a Read.

Not modelled: ZooKeeper's own replication (ZAB), ACLs, sequential nodes, nodes of clients that stay, writes without
condition. A read is of all nodes below some paths, and always watched. A request in a session that has expired opens
the next one; the real client has to begin anew for that.

Source: org.apache.zookeeper (ZooKeeper, ClientCnxn, DataTree), kafka.zookeeper.ZooKeeperClient, kafka.zk.ZkData.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hwmark.refimpl.batches import TopicPartition
from hwmark.refimpl.config import ClusterConfig
from hwmark.refimpl.machine import ZOOKEEPER, Address, Effects, Event, Message
from hwmark.refimpl.partition_change import NO_LEADER, PartitionRegistration

CHECK, CREATE, SET, DELETE = "CHECK", "CREATE", "SET", "DELETE"
BROKERS, IDS, BROKER_EPOCHS = "/brokers", "/brokers/ids", "/brokers/epochs"
CONTROLLER, CONTROLLER_EPOCH = "/controller", "/controller_epoch"
NEW = -1  # the epochs of a partition that was never led, and its node's version: it goes along with partition_epoch
ABSENT = -2  # the version of no node


def state_path(topic_partition: TopicPartition) -> str:
    """The node of a partition's registration."""
    return f"/brokers/topics/{topic_partition[0]}/partitions/{topic_partition[1]}/state"


def id_path(broker_id: int) -> str:
    """The node of a broker's registration."""
    return f"{IDS}/{broker_id}"


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


class Read(NamedTuple):
    """All nodes whose paths begin with one of the prefixes; their next change is told."""

    prefixes: tuple[str, ...]


class Multi(NamedTuple):
    """All of the operations, or none; the answer to that is None."""

    ops: tuple[Op, ...]


class ZooKeeperRequest(NamedTuple):
    """An operation in a session, None to keep it; session 0 opens one."""

    session: int
    number: int
    operation: Read | Multi | None


class ZooKeeperResponse(NamedTuple):
    """The answer to a request by its number, or to none (0), and what the session watches: nothing, if it changed."""

    session: int
    number: int = 0
    answer: Nodes | None = None
    watches: tuple[str, ...] = ()


@dataclass(slots=True)
class Session:
    """What the server keeps of a client: the last request's number and answer, and what it watches."""

    client: Address
    number: int
    deadline: int = 0
    answer: Nodes | None = None
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
        gone = [Op(DELETE, path, node.version) for path, node in self.nodes.items() if node.owner in expired]
        return self._multi(tuple(gone), 0)[1]

    def deadline(self) -> int | None:
        """When the next session expires."""
        return min((session.deadline for session in self.sessions.values()), default=None)

    def _handle(self, message: Message, request: ZooKeeperRequest, now: int) -> Effects:
        pushes, id, operation = Effects(), request.session, request.operation
        if id not in self.sessions:
            self.zxid = id = self.zxid + 1
            self.sessions[id] = Session(message.source, request.number)
        session = self.sessions[id]
        session.deadline = now + self.config.zookeeper_session_timeout
        if request.number > session.number:
            session.number = request.number
            if isinstance(operation, Multi):
                session.answer, pushes = self._multi(operation.ops, id)
            elif operation:
                session.watches = operation.prefixes
                session.answer = {path: node for path, node in self.nodes.items() if path.startswith(session.watches)}
        response = ZooKeeperResponse(id, request.number, session.answer, session.watches)
        return [*pushes, Message(self.name, message.source, message.correlation, response)]

    def _multi(self, ops: tuple[Op, ...], by: int) -> tuple[Nodes | None, Effects]:
        nodes = self.nodes.copy()
        for op in ops:
            node = nodes.get(op.path, NO_NODE)
            if op.version != node.version:
                return None, []
            if op.kind == CREATE:
                nodes[op.path] = Node(op.value, 0, self.zxid + 1, by)
            elif op.kind == SET:
                nodes[op.path] = node._replace(value=op.value, version=node.version + 1)
            elif op.kind == DELETE:
                del nodes[op.path]
        self.nodes, self.zxid = nodes, self.zxid + 1
        return {}, self._fire([op.path for op in ops if op.kind != CHECK], by)

    def _fire(self, paths: list[str], by: int) -> Effects:
        """Fire the watches on the paths, and tell all but the session that hears it in its answer."""
        pushes = Effects()
        for id, session in self.sessions.items():
            if any(path.startswith(session.watches) for path in paths):
                session.watches = ()
                if id != by:
                    pushes.append(Message(self.name, session.client, 0, ZooKeeperResponse(id)))
        return pushes


CONNECTED = "CONNECTED"


@dataclass(slots=True)
class ZooKeeperClient:
    """A broker's session: carries out one operation after the other; `session` is 0 while it never had one.

    `nodes` is what it has read last, of the paths that it `watches`: none, if something has changed since. A request's
    number is its correlation id too, one less than a multiple of four: the controller has others.
    """

    name: Address
    timeout: int
    session: int = 0
    number: int = -1
    operation: Read | Multi | None = None
    is_asking: bool = False  # the operation is under way
    deadline: int = 0  # when to ask again, or to ping
    nodes: Nodes = field(default_factory=dict)
    watches: tuple[str, ...] = ()

    def send(self, operation: Read | Multi | None, now: int) -> list[Message]:
        """Carry out an operation, if none is under way; at the deadline send that again, or a ping if there is none."""
        if now < self.deadline and (self.is_asking or operation is None):
            return []
        if not self.is_asking:
            self.number, self.operation, self.is_asking = self.number + 4, operation, True
        self.deadline = now + self.timeout // 3
        return [Message(self.name, ZOOKEEPER, self.number, ZooKeeperRequest(self.session, self.number, self.operation))]

    def receive(self, response: ZooKeeperResponse) -> str | Read | Multi | None:
        """What a response is about: that a session is CONNECTED, what has been read or what was written, or nothing."""
        is_answer, is_new = self.is_asking and response.number == self.number, response.session != self.session
        if is_new and not is_answer:
            return None
        self.session, self.is_asking = response.session, self.is_asking and not is_answer
        if is_answer and isinstance(self.operation, Read):
            self.nodes, self.watches = response.answer or {}, response.watches
        elif not response.watches:
            self.watches = ()
        if is_new:
            return CONNECTED
        return self.operation if is_answer and response.answer is not None else None
