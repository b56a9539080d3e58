"""ZooKeeper as Kafka uses it: one reliable, linearizable machine, and the session that a broker has with it.

Sessions own ephemeral nodes, which are deleted when a session expires, and one-shot watches on all nodes whose paths
begin with a prefix. A client has one request under way; it sends it again, under the same number, until it is answered,
and a request that was carried out already is answered from memory: that stands for the real client's reconnecting. A
watch that has fired is repeated in every response until its prefix is read again: a lost message loses none, as the
real client's setWatches sees to, and one too many costs a Read.

Not modelled: ZooKeeper's own replication (ZAB), ACLs, sequential nodes. A request in a session that has expired opens
the next one; the real client has to begin anew for that.

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

OK, NO_NODE, NODE_EXISTS, BAD_VERSION = "OK", "NONODE", "NODEEXISTS", "BADVERSION"
CHECK, CREATE, CREATE_EPHEMERAL, SET, DELETE = "CHECK", "CREATE", "CREATE_EPHEMERAL", "SET", "DELETE"
BROKERS, IDS, BROKER_EPOCHS = "/brokers", "/brokers/ids", "/brokers/epochs"
CONTROLLER, CONTROLLER_EPOCH, PRODUCER_IDS = "/controller", "/controller_epoch", "/latest_producer_id_block"
NEW = -1  # the epochs of a partition that was never led, and its node's version: it goes along with partition_epoch


def state_path(topic_partition: TopicPartition) -> str:
    """The node of a partition's registration."""
    return f"/brokers/topics/{topic_partition[0]}/partitions/{topic_partition[1]}/state"


class Node(NamedTuple):
    """What is at a path: `czxid` is the transaction that created it, `owner` the session it goes with (0: none)."""

    value: Any
    version: int = 0
    czxid: int = 0
    owner: int = 0


class Op(NamedTuple):
    """Part of a transaction: CHECK a node's version (None: that it exists), CREATE(_EPHEMERAL), SET or DELETE."""

    kind: str
    path: str
    value: Any = None
    version: int | None = None


class Read(NamedTuple):
    """All nodes whose paths begin with a prefix, as ((path, Node), ...); `watch`: and again after the next change."""

    prefix: str
    watch: bool = False


class Multi(NamedTuple):
    """All of the operations, the value is the transaction's zxid, or none: the value is the path of the refusal."""

    ops: tuple[Op, ...]


class ZooKeeperRequest(NamedTuple):
    """An operation in a session, None to keep it; session 0 opens one."""

    session: int
    number: int
    operation: Read | Multi | None


class ZooKeeperResponse(NamedTuple):
    """The answer to a request by its number, or to none (0); `fired` are the prefixes of watches."""

    session: int
    number: int = 0
    error: str = OK
    value: Any = None
    fired: tuple[str, ...] = ()


@dataclass(slots=True)
class Session:
    """What the server keeps of a client: the last request's number and answer, and the watches that have not fired."""

    client: Address
    number: int
    deadline: int = 0
    answer: tuple[str, Any] = (OK, None)
    watches: tuple[str, ...] = ()
    fired: tuple[str, ...] = ()


@dataclass(slots=True)
class ZooKeeper:
    """The server; at first there are the topics' assignments, and no broker."""

    config: ClusterConfig
    name: Address = ZOOKEEPER
    zxid: int = 0
    nodes: dict[str, Node] = field(default_factory=dict)
    sessions: dict[int, Session] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.nodes = {CONTROLLER_EPOCH: Node(0), PRODUCER_IDS: Node(0), BROKER_EPOCHS: Node(())}
        for topic in self.config.topics:
            for index, replicas in enumerate(topic.assignment):
                state = PartitionRegistration(replicas, (), NO_LEADER, NEW, NEW)
                self.nodes[state_path((topic.name, index))] = Node(state, NEW)

    def step(self, event: Event, now: int) -> Effects:
        """Answer a request, or expire sessions."""
        if isinstance(event, Message):
            return self._handle(event, event.body, now)
        expired = [id for id, session in self.sessions.items() if session.deadline <= now]
        for id in expired:
            del self.sessions[id]
        return self._multi([Op(DELETE, path) for path, node in self.nodes.items() if node.owner in expired], 0)[1]

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
        if request.number > session.number and operation:
            if isinstance(operation, Multi):
                session.answer, pushes = self._multi(operation.ops, id)
            else:
                session.answer = OK, self._read(operation, session)
        session.number = max(session.number, request.number)
        response = ZooKeeperResponse(id, request.number, *session.answer, session.fired)
        return [*pushes, Message(self.name, message.source, message.correlation, response)]

    def _read(self, read: Read, session: Session) -> tuple[tuple[str, Node], ...]:
        if read.watch:
            session.fired = tuple([prefix for prefix in session.fired if prefix != read.prefix])
            session.watches += (read.prefix,) * (read.prefix not in session.watches)
        return tuple([(path, node) for path, node in self.nodes.items() if path.startswith(read.prefix)])

    def _multi(self, ops: Sequence[Op], by: int) -> tuple[tuple[str, Any], Effects]:
        nodes = dict(self.nodes)
        for op in ops:
            node, creates = nodes.get(op.path), op.kind in (CREATE, CREATE_EPHEMERAL)
            if creates == (node is not None):
                return (NODE_EXISTS if creates else NO_NODE, op.path), []
            if node is None:
                nodes[op.path] = Node(op.value, 0, self.zxid + 1, by if op.kind == CREATE_EPHEMERAL else 0)
            elif op.version not in (None, node.version):
                return (BAD_VERSION, op.path), []
            elif op.kind == SET:
                nodes[op.path] = node._replace(value=op.value, version=node.version + 1)
            elif op.kind == DELETE:
                del nodes[op.path]
        self.nodes, self.zxid = nodes, self.zxid + 1
        return (OK, self.zxid), self._fire([op.path for op in ops if op.kind != CHECK], by)

    def _fire(self, paths: list[str], by: int) -> Effects:
        """Fire the watches on the paths, and tell all but the session that hears it in its answer."""
        pushes = Effects()
        for id, session in self.sessions.items():
            fired = tuple([prefix for prefix in session.watches if any(path.startswith(prefix) for path in paths)])
            session.watches = tuple([prefix for prefix in session.watches if prefix not in fired])
            session.fired += fired
            if fired and id != by:
                pushes.append(Message(self.name, session.client, 0, ZooKeeperResponse(id, fired=session.fired)))
        return pushes


CONNECTED = ("connected",)
PING = None, ()


@dataclass(slots=True)
class ZooKeeperClient:
    """A broker's session: carries out operations one after the other; `session` is 0 while it never had one.

    A request's number is its correlation id too, one less than a multiple of four: the controller has others.
    """

    name: Address
    timeout: int
    session: int = 0
    number: int = -1
    queue: list[tuple[Read | Multi | None, tuple[Any, ...]]] = field(default_factory=list)
    watching: dict[str, tuple[Any, ...]] = field(default_factory=dict)  # the contexts by prefix
    is_asking: bool = False  # the first in the queue is under way
    deadline: int = 0  # when to ask again, or to ping

    def submit(self, operation: Read | Multi, *context: Any) -> None:
        """Carry out an operation after those submitted before; `receive` gives the context back.

        What is read with a watch is read again after each change. In a new session all is forgotten.
        """
        self.queue.append((operation, context))
        if isinstance(operation, Read) and operation.watch:
            self.watching[operation.prefix] = context

    def send(self, now: int) -> list[Message]:
        """What to send: what is next, if nothing is under way; at the deadline what is, or else a ping."""
        if now < self.deadline and (self.is_asking or not self.queue):
            return []
        self.queue = self.queue or [PING]
        self.number += 0 if self.is_asking else 4
        self.is_asking, self.deadline = True, now + self.timeout // 3
        return [
            Message(self.name, ZOOKEEPER, self.number, ZooKeeperRequest(self.session, self.number, self.queue[0][0]))
        ]

    def receive(self, response: ZooKeeperResponse) -> tuple[tuple[Any, ...], str, Any] | None:
        """What a response is the answer to, by context, with error and value; or that a session is CONNECTED.

        What is read again, since a watch has fired, is submitted before.
        """
        is_answer, is_new = self.is_asking and response.number == self.number, response.session != self.session
        if not is_answer and is_new:
            return None
        context, self.is_asking = self.queue.pop(0)[1] if is_answer else (), self.is_asking and not is_answer
        if is_new:
            self.session = response.session
            self.queue.clear()
            return CONNECTED, OK, None
        again = [(Read(prefix, True), self.watching[prefix]) for prefix in response.fired]
        self.queue += [one for one in again if one not in self.queue]
        return (context, response.error, response.value) if context else None
