"""A cluster: the machines, and everything that they have not themselves: time, network, disks and faults.

A schedule chooses the actions; the same actions on the same setup give the same run, bit for bit. Time is that of the
actions, in ms; a machine's clock is this plus what StepClock added. Messages are in flight under ids that count from 1.

Crash loses the machine's memory and the messages on their way to it. Those that it sent before stay on their way (a
schedule may Drop them); to a machine that is down they vanish when they are delivered. Who restarts is a new machine:
it gets no answer to what the former one asked, but requests sent meanwhile may reach it (KIP-380 is about these).
A paused machine gets nothing: no message, no Tick, no call.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, Protocol

from hwmark.checkers.simulation.values import copy_of, freeze
from hwmark.refimpl.broker import Broker, Disk
from hwmark.refimpl.config import ClusterConfig
from hwmark.refimpl.consumer import Consumer, ConsumerConfig
from hwmark.refimpl.machine import ZOOKEEPER, Address, Call, Event, Machine, Message, Return, address
from hwmark.refimpl.machine import Tick as Ticked
from hwmark.refimpl.producer import Producer, ProducerConfig
from hwmark.refimpl.producer_state import BATCHES_TO_RETAIN
from hwmark.refimpl.zookeeper import ZooKeeper

ADMIN: Address = "admin"
INCARNATION_BITS = 32  # of the correlation ids on the wire: above them is the asking machine's incarnation


class Start(NamedTuple):
    """Every machine gets its first Tick, in the order of their names in the setup; nothing happens before."""

    at: int = 0


class Deliver(NamedTuple):
    """The message arrives; at a machine that is down, or at one that is not the one that asked, it vanishes."""

    message: int
    at: int


class Drop(NamedTuple):
    """The message is lost: its connection broke."""

    message: int
    at: int


class Duplicate(NamedTuple):
    """The message is sent once more: the copy gets the next id."""

    message: int
    at: int


class Tick(NamedTuple):
    """The machine's deadline has come, or it is woken up for nothing."""

    machine: Address
    at: int


class Invoke(NamedTuple):
    """The application calls its client; of another machine it is a request, sent as a message from the admin."""

    machine: Address
    number: int
    operation: Any
    at: int


class Crash(NamedTuple):
    """The machine stops; a broker's disk keeps what was flushed, and the rest if only the process dies."""

    machine: Address
    keeps_unflushed: bool
    at: int


class Restart(NamedTuple):
    """A machine that is down starts anew, a broker with its disk, and gets its first Tick."""

    machine: Address
    at: int


class Pause(NamedTuple):
    """The machine stands still (a long garbage collection, SIGSTOP)."""

    machine: Address
    at: int


class Resume(NamedTuple):
    """A paused machine goes on."""

    machine: Address
    at: int


class WipeDisk(NamedTuple):
    """A broker that is down loses its disk."""

    machine: Address
    at: int


class StepClock(NamedTuple):
    """The machine's clock jumps by some ms, back if negative."""

    machine: Address
    by: int
    at: int


Action = (
    Start | Deliver | Drop | Duplicate | Tick | Invoke | Crash | Restart | Pause | Resume | WipeDisk | StepClock
)  # fmt: skip


class Returned(NamedTuple):
    """A call's outcome, or a response to the admin's request."""

    machine: Address
    number: int
    outcome: Any


class NotEnabledError(ValueError):
    """The action is impossible in the cluster's present state."""


class Setup(Protocol):
    """What a cluster is built from."""

    @property
    def servers(self) -> tuple[Address, ...]:
        """The machines that get requests."""

    @property
    def clients(self) -> tuple[Address, ...]:
        """The machines that get calls."""

    def machine(self, name: Address, disk: Any) -> Machine:
        """A new machine; `disk` is a former incarnation's, None for an empty one."""


def number_of(name: Address) -> int:
    """The number that ends a machine's name: of brokers their id."""
    return int(name.rsplit("-", 1)[1])


class ClusterSetup(NamedTuple):
    """ZooKeeper, the brokers of the config, and clients by their configs: producer-1, ..., consumer-1, ..."""

    config: ClusterConfig = ClusterConfig()
    producers: tuple[ProducerConfig, ...] = ()
    consumers: tuple[ConsumerConfig, ...] = ()

    @property
    def servers(self) -> tuple[Address, ...]:
        """ZooKeeper and the brokers."""
        return (ZOOKEEPER, *map(address, self.config.brokers))

    @property
    def clients(self) -> tuple[Address, ...]:
        """Producers, then consumers."""
        kinds = (("producer", self.producers), ("consumer", self.consumers))
        return tuple([f"{kind}-{i}" for kind, configs in kinds for i in range(1, len(configs) + 1)])

    def machine(self, name: Address, disk: Any) -> Machine:
        """The machine of this name; ValueError for a producer's configuration that Kafka refuses."""
        if name == ZOOKEEPER:
            return ZooKeeper(self.config)
        if name in self.servers:
            return Broker(number_of(name), self.config, disk or Disk())
        if name.startswith("consumer"):
            return Consumer(name, self.config, self.consumer(name))
        config = self.producer(name)
        is_safe = config.acks == -1 and 1 <= config.max_in_flight <= BATCHES_TO_RETAIN
        if config.enable_idempotence > is_safe or (config.transactional_id and not config.enable_idempotence):
            raise ValueError("transactions take idempotence, that takes acks=all and at most five in flight")
        return Producer(name, self.config, config)

    def producer(self, name: Address) -> ProducerConfig:
        """How a producer is configured."""
        return self.producers[number_of(name) - 1]

    def consumer(self, name: Address) -> ConsumerConfig:
        """How a consumer is configured."""
        return self.consumers[number_of(name) - 1]


class Cluster:
    """A cluster in its present state.

    `machines` has those that are up; `disks` those of brokers that are down, recovered already. `in_flight` goes by
    increasing ids, up to `last_id`. Of the last action, `lost` names the messages that vanished and `stepped` the
    machine that made a step (None if none or, at the start, all).
    """

    __slots__ = (
        "_frozen", "_shared", "clients", "clock_offsets", "disks", "in_flight", "incarnations", "last_id", "lost",
        "machines", "now", "paused", "setup", "stepped",
    )  # fmt: skip

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.now = self.last_id = 0
        self.clients = frozenset(setup.clients)
        self.machines = {name: setup.machine(name, None) for name in (*setup.servers, *setup.clients)}
        self.clock_offsets = dict.fromkeys(self.machines, 0)
        self.incarnations: dict[Address, int] = {}  # of the machines that were restarted
        self.disks: dict[Address, Any] = {}
        self.paused: frozenset[Address] = frozenset()
        self.in_flight: dict[int, Message] = {}
        self.lost: tuple[int, ...] = ()
        self.stepped: Address | None = None
        self._shared: set[Address] = set()  # machines that another cluster has, too
        self._frozen: dict[Address, Hashable] = {}

    def apply(self, action: Action) -> list[Returned]:
        """Let an action happen; what calls returned by it. NotEnabledError, before anything changed, if it cannot."""
        if action.at < self.now:
            raise NotEnabledError(f"{action}: it is {self.now} already")
        returned = _APPLY[type(action)](self, action)
        self.now = action.at
        return returned

    def clock(self, name: Address) -> int:
        """What time it is for a machine."""
        return self.now + self.clock_offsets[name]

    def deadline(self, name: Address) -> int | None:
        """When a machine that is up wants its next Tick, in the cluster's time; it may be past."""
        deadline = self.machines[name].deadline()
        return None if deadline is None else deadline - self.clock_offsets[name]

    def heads(self) -> list[int]:
        """The messages that can be delivered next if every connection keeps its order."""
        first: dict[tuple[Address, Address], int] = {}
        for id, message in self.in_flight.items():
            first.setdefault((message.source, message.destination), id)
        return list(first.values())

    def fork(self) -> Cluster:
        """Another cluster in the same state; a machine is copied when one of the two lets it step."""
        other = Cluster.__new__(Cluster)
        other.setup, other.now, other.last_id = self.setup, self.now, self.last_id
        other.clients, other.paused, other.lost, other.stepped = self.clients, self.paused, self.lost, self.stepped
        other.machines, other.in_flight = self.machines.copy(), self.in_flight.copy()
        other.clock_offsets, other.incarnations = self.clock_offsets.copy(), self.incarnations.copy()
        other.disks, other._frozen = self.disks.copy(), self._frozen.copy()
        self._shared, other._shared = set(self.machines), set(self.machines)
        return other

    def frozen(self) -> Hashable:
        """The whole state as a value: equal for clusters that differ in the ids of messages alone."""
        machines, cache = [], self._frozen
        for name, machine in self.machines.items():
            if name not in cache:
                cache[name] = freeze(machine)
            machines.append((name, cache[name]))
        channels: dict[tuple[Address, Address], list[Hashable]] = {}
        for message in self.in_flight.values():
            channels.setdefault((message.source, message.destination), []).append(freeze(message))
        network = frozenset([(channel, tuple(messages)) for channel, messages in channels.items()])
        rest = freeze((self.clock_offsets, self.incarnations, self.disks))
        return self.now, frozenset(machines), network, self.paused, rest

    def _step(self, name: Address, event: Event, at: int) -> list[Returned]:
        if name in self._shared:
            self._shared.remove(name)
            self.machines[name] = copy_of(self.machines[name])
        if self._frozen:
            self._frozen.pop(name, None)
        self.lost, self.stepped, returned = (), name, []
        for effect in self.machines[name].step(event, at + self.clock_offsets[name]):
            if type(effect) is Message:
                self._send(effect)
            elif type(effect) is Return:
                returned.append(Returned(name, *effect))
            else:
                raise TypeError(f"{name} answers {event} with {effect}, which is no effect")
        return returned

    def _send(self, message: Message) -> None:
        if self.incarnations:
            message = by_incarnation(message, self.incarnations.get(message.source, 0))
        self.last_id += 1
        self.in_flight[self.last_id] = message

    def _start(self, action: Start) -> list[Returned]:
        returned = [one for name in self.machines for one in self._step(name, Ticked(), action.at)]
        self.stepped = None
        return returned

    def _deliver(self, action: Deliver) -> list[Returned]:
        message = self._message(action.message)
        name = message.destination
        self._check_awake(name)
        del self.in_flight[action.message]
        if name in self.machines:
            if self.incarnations:
                received = for_incarnation(message, self.incarnations.get(name, 0))
                if received is None:
                    return self._lose(action.message)
                message = received
            return self._step(name, message, action.at)
        if name == ADMIN:
            self._lose()
            return [Returned(ADMIN, message.correlation, message.body)]
        return self._lose(action.message)

    def _drop(self, action: Drop) -> list[Returned]:
        self._message(action.message)
        del self.in_flight[action.message]
        return self._lose(action.message)

    def _duplicate(self, action: Duplicate) -> list[Returned]:
        message = self._message(action.message)
        self.last_id += 1
        self.in_flight[self.last_id] = message
        return self._lose()

    def _tick(self, action: Tick) -> list[Returned]:
        self._check_up(action.machine)
        self._check_awake(action.machine)
        return self._step(action.machine, Ticked(), action.at)

    def _invoke(self, action: Invoke) -> list[Returned]:
        name = action.machine
        if name in self.clients:
            self._check_up(name)
            self._check_awake(name)
            return self._step(name, Call(action.number, action.operation), action.at)
        if name not in self.clock_offsets:
            raise NotEnabledError(f"there is no machine {name}")
        self._send(Message(ADMIN, name, action.number, action.operation))
        return self._lose()

    def _crash(self, action: Crash) -> list[Returned]:
        name = action.machine
        self._check_up(name)
        if name == ZOOKEEPER:
            raise NotEnabledError("ZooKeeper is an ensemble that does not crash; pause it")
        machine = self.machines.pop(name)
        disk = getattr(machine, "disk", None)
        if disk is not None:
            self.disks[name] = copy_of(disk) if name in self._shared else disk
            recover(self.disks[name], action.keeps_unflushed)
        self._shared.discard(name)
        self._frozen.pop(name, None)
        self.paused -= {name}
        lost = [id for id, message in self.in_flight.items() if message.destination == name]
        for id in lost:
            del self.in_flight[id]
        return self._lose(*lost)

    def _restart(self, action: Restart) -> list[Returned]:
        name = self._check_down(action.machine)
        self.machines[name] = self.setup.machine(name, copy_of(self.disks.pop(name, None)))
        self.incarnations[name] = self.incarnations.get(name, 0) + 1
        return self._step(name, Ticked(), action.at)

    def _pause(self, action: Pause) -> list[Returned]:
        self._check_up(action.machine)
        self._check_awake(action.machine)
        self.paused |= {action.machine}
        return self._lose()

    def _resume(self, action: Resume) -> list[Returned]:
        if action.machine not in self.paused:
            raise NotEnabledError(f"{action.machine} is not paused")
        self.paused -= {action.machine}
        return self._lose()

    def _wipe_disk(self, action: WipeDisk) -> list[Returned]:
        self.disks.pop(self._check_down(action.machine), None)
        return self._lose()

    def _step_clock(self, action: StepClock) -> list[Returned]:
        self._check_up(action.machine)
        self.clock_offsets[action.machine] += action.by
        return self._lose()

    def _lose(self, *messages: int) -> list[Returned]:
        self.lost, self.stepped = messages, None
        return []

    def _message(self, id: int) -> Message:
        message = self.in_flight.get(id)
        if message is None:
            raise NotEnabledError(f"no message {id} is in flight")
        return message

    def _check_up(self, name: Address) -> None:
        if name not in self.machines:
            raise NotEnabledError(f"{name} is {'down' if name in self.clock_offsets else 'no machine'}")

    def _check_awake(self, name: Address) -> None:
        if name in self.paused:
            raise NotEnabledError(f"{name} is paused")

    def _check_down(self, name: Address) -> Address:
        if name in self.machines or name not in self.clock_offsets:
            raise NotEnabledError(f"{name} is {'up' if name in self.machines else 'no machine'}")
        return name


_APPLY: dict[type, Callable[[Cluster, Any], list[Returned]]] = {
    Start: Cluster._start,
    Deliver: Cluster._deliver,
    Drop: Cluster._drop,
    Duplicate: Cluster._duplicate,
    Tick: Cluster._tick,
    Invoke: Cluster._invoke,
    Crash: Cluster._crash,
    Restart: Cluster._restart,
    Pause: Cluster._pause,
    Resume: Cluster._resume,
    WipeDisk: Cluster._wipe_disk,
    StepClock: Cluster._step_clock,
}
ACTIONS: dict[str, type] = {kind.__name__: kind for kind in _APPLY}
"""The actions by the names that they have in a trace."""


def recover(disk: Disk, keeps_unflushed: bool) -> None:
    """Leave on the disk of a broker that has crashed what the next one finds."""
    for topic_partition, log in disk.logs.items():
        log.recover(disk.high_watermarks.get(topic_partition, 0), keeps_unflushed)


def is_response(message: Message) -> bool:
    """Whether the message answers one of its destination's requests."""
    return type(message.body).__name__.endswith("Response")


def by_incarnation(message: Message, incarnation: int) -> Message:
    """What an incarnation of the source sends, as it is on the wire: a request's id tells the incarnation, too."""
    if not incarnation or is_response(message):
        return message
    return message._replace(correlation=message.correlation + (incarnation << INCARNATION_BITS))


def for_incarnation(message: Message, incarnation: int) -> Message | None:
    """What an incarnation of the destination gets; None if it answers another one.

    A response with id 0 answers no request (ZooKeeper's events), and says itself for whom it is.
    """
    if not message.correlation or not is_response(message):
        return message
    asker, correlation = divmod(message.correlation, 1 << INCARNATION_BITS)
    return message._replace(correlation=correlation) if asker == incarnation else None
