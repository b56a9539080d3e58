"""ZooKeeper as Kafka uses it: one reliable, linearizable machine, and the session that a broker has with it.

Sessions own ephemeral nodes, which are deleted when a session expires, and one-shot watches on all nodes below a
prefix. A client has one request under way; it sends it again, under the same number, until it is answered, and a
request that was carried out already is answered from memory: that stands for the real client's reconnecting. Watch
events are numbered, and repeated in every response until the client has acknowledged them: a lost message loses none,
as the real client's setWatches sees to.

Not modelled: ZooKeeper's own replication (ZAB), ACLs, sequential nodes (their names are given by the client).

Source: org.apache.zookeeper (ZooKeeper, ClientCnxn, DataTree), kafka.zookeeper.ZooKeeperClient, kafka.zk.ZkData.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hwmark.refimpl.batches import TopicPartition
from hwmark.refimpl.config import ClusterConfig
from hwmark.refimpl.machine import ZOOKEEPER, Address, Effects, Event, Message, Tick
from hwmark.refimpl.partition_change import NO_LEADER, PartitionRegistration

OK, NO_NODE, NODE_EXISTS, BAD_VERSION, SESSION_EXPIRED = "OK", "NONODE", "NODEEXISTS", "BADVERSION", "SESSIONEXPIRED"
CHECK, CREATE, CREATE_EPHEMERAL, SET, DELETE = "CHECK", "CREATE", "CREATE_EPHEMERAL", "SET", "DELETE"
BROKERS, IDS, BROKER_EPOCHS = "/brokers", "/brokers/ids", "/brokers/epochs"
CONTROLLER, CONTROLLER_EPOCH = "/controller", "/controller_epoch"
ISR_CHANGES, PRODUCER_IDS = "/isr_change_notification", "/latest_producer_id_block"
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
    """All nodes at and below a prefix, as ((path, Node), ...); `watch`: and say when the next of them changes."""

    prefix: str
    watch: bool = False


class Multi(NamedTuple):
    """All of the operations, the value is the transaction's zxid, or none: the value is the path of the refusal."""

    ops: tuple[Op, ...]


class ZooKeeperRequest(NamedTuple):
    """An operation in a session, None to keep it; session 0 opens one. `acknowledged` is the last event that came."""

    session: int
    number: int
    acknowledged: int
    operation: Read | Multi | None


class ZooKeeperResponse(NamedTuple):
    """The answer to a request by its number, or to none (0); `events` are (number, watched prefix)."""

    session: int
    number: int = 0
    error: str = OK
    value: Any = None
    events: tuple[tuple[int, str], ...] = ()


@dataclass(slots=True)
class Session:
    """What the server keeps of a client; `number` and `answer` are the last request's."""

    client: Address
    deadline: int
    number: int = 0
    answer: tuple[str, Any] = (OK, None)
    watches: list[str] = field(default_factory=list)
    events: list[tuple[int, str]] = field(default_factory=list)
    last_event: int = 0


@dataclass(slots=True)
class ZooKeeper:
    """The server; at first there are the topics' assignments, and no broker."""

    config: ClusterConfig
    name: Address = ZOOKEEPER
    zxid: int = 0
    nodes: dict[str, Node] = field(default_factory=dict)
    sessions: dict[int, Session] = field(default_factory=dict)

    def __post_init__(self) -> None:
        values = {CONTROLLER_EPOCH: 0, PRODUCER_IDS: 0, BROKER_EPOCHS: ()}
        self.nodes = {path: Node(value) for path, value in values.items()}
        for topic in self.config.topics:
            for index, replicas in enumerate(topic.assignment):
                state = PartitionRegistration(replicas, (), NO_LEADER, NEW, NEW)
                self.nodes[state_path((topic.name, index))] = Node(state, NEW)

    def step(self, event: Event, now: int) -> Effects:
        """Answer a request, or expire sessions."""
        if isinstance(event, Message):
            return self._handle(event, event.body, now)
        expired = [id for id, session in self.sessions.items() if session.deadline <= now]
        return [push for id in expired for push in self._expire(id)] if isinstance(event, Tick) else []

    def deadline(self) -> int | None:
        """When the next session expires."""
        return min((session.deadline for session in self.sessions.values()), default=None)

    def _handle(self, message: Message, request: ZooKeeperRequest, now: int) -> Effects:
        pushes, id = Effects(), request.session
        if not id:
            self.zxid = id = self.zxid + 1
            self.sessions[id] = Session(message.source, now)
        response, session = ZooKeeperResponse(id, request.number, SESSION_EXPIRED), self.sessions.get(id)
        if session:
            if request.number < session.number:
                return []  # the client has its answer already
            session.deadline = now + self.config.zookeeper_session_timeout
            session.events = [event for event in session.events if event[0] > request.acknowledged]
            if request.number > session.number:
                session.number, (session.answer, pushes) = request.number, self._carry_out(request.operation, id)
            response = ZooKeeperResponse(id, request.number, *session.answer, tuple(session.events))
        return [*pushes, Message(self.name, message.source, message.correlation, response)]

    def _carry_out(self, operation: Read | Multi | None, by: int) -> tuple[tuple[str, Any], Effects]:
        if isinstance(operation, Multi):
            return self._multi(operation.ops, by)
        if operation is None:
            return (OK, None), []
        watches, prefix = self.sessions[by].watches, operation.prefix
        watches += [prefix] if operation.watch and prefix not in watches else []
        return (OK, tuple([(path, node) for path, node in self.nodes.items() if is_at(path, prefix)])), []

    def _multi(self, ops: tuple[Op, ...], by: int) -> tuple[tuple[str, Any], Effects]:
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

    def _expire(self, id: int) -> Effects:
        del self.sessions[id]
        gone = [path for path, node in self.nodes.items() if node.owner == id]
        return self._multi(tuple([Op(DELETE, path) for path in gone]), id)[1]

    def _fire(self, paths: list[str], by: int) -> Effects:
        """Note the events of the watches on the paths, and tell all but the session that hears it in its answer."""
        pushes = Effects()
        for id, session in self.sessions.items():
            fired = [prefix for prefix in session.watches if any(is_at(path, prefix) for path in paths)]
            session.watches = [prefix for prefix in session.watches if prefix not in fired]
            session.events += enumerate(fired, session.last_event + 1)
            session.last_event += len(fired)
            if fired and id != by:
                response = ZooKeeperResponse(id, events=tuple(session.events))
                pushes.append(Message(self.name, session.client, 0, response))
        return pushes


def is_at(path: str, prefix: str) -> bool:
    """Whether a path is the prefix, or below it."""
    return path == prefix or path.startswith(prefix + "/")


class Outcome(NamedTuple):
    """What became of a submitted operation, by its context; or CONNECTED, EXPIRED, or WATCHED with the prefix."""

    context: tuple[Any, ...]
    error: str = OK
    value: Any = None


CONNECTED, EXPIRED, WATCHED = ("connected",), ("expired",), ("watched",)


@dataclass(slots=True)
class ZooKeeperClient:
    """A broker's session: carries out operations one after the other; `session` is 0 while it has none.

    A request's number is its correlation id too, one less than a multiple of four: an Outbox has other ids.
    """

    name: Address
    timeout: int
    session: int = 0
    number: int = -1
    acknowledged: int = 0
    queue: list[tuple[Read | Multi, tuple[Any, ...]]] = field(default_factory=list)
    asked: ZooKeeperRequest | None = None
    deadline: int = 0  # when to ask again, or to ping

    def submit(self, operation: Read | Multi, *context: Any) -> None:
        """Carry out an operation after those submitted before; its Outcome has the context. An expiry forgets it."""
        self.queue.append((operation, context))

    def send(self, now: int) -> list[Message]:
        """What to send: what is next, if nothing is under way; at the deadline what is, or else a ping."""
        if now < self.deadline and (self.asked or not self.queue):
            return []
        if self.asked is None:
            operation = self.queue[0][0] if self.session and self.queue else None
            self.number += 4
            self.asked = ZooKeeperRequest(self.session, self.number, self.acknowledged, operation)
        self.deadline = now + self.timeout // 3
        return [Message(self.name, ZOOKEEPER, self.number, self.asked)]

    def receive(self, response: ZooKeeperResponse) -> list[Outcome]:
        """What a response says that was not known; events come before the answer, as the real client has it."""
        asked = self.asked if self.asked and response.number == self.asked.number else None
        if not self.session and asked:
            self.session, self.acknowledged, self.asked = response.session, 0, None
            return [Outcome(CONNECTED)]
        if not self.session or response.session != self.session:
            return []
        if response.error == SESSION_EXPIRED:
            self.session, self.asked, self.deadline = 0, None, 0
            self.queue.clear()
            return [Outcome(EXPIRED)]
        outcomes = [Outcome(WATCHED, OK, prefix) for id, prefix in response.events if id > self.acknowledged]
        self.acknowledged += len(outcomes)
        if asked:
            self.asked = None
            outcomes += [Outcome(self.queue.pop(0)[1], response.error, response.value)] if asked.operation else []
        return outcomes
