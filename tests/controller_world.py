"""ZooKeeper and the controllers of some brokers, in one thread; the brokers themselves do as they are told."""

from __future__ import annotations

from typing import Any

from hwmark.refimpl import requests as rpc
from hwmark.refimpl import zookeeper as zk
from hwmark.refimpl.config import ClusterConfig, Topic
from hwmark.refimpl.controller import Controller
from hwmark.refimpl.errors import Error
from hwmark.refimpl.machine import ZOOKEEPER, Message, Tick, address
from hwmark.refimpl.partition_change import PartitionRegistration

X = "x", 0
SESSION = 18_000
FROM_CONTROLLER = rpc.LeaderAndIsrRequest
REFUSED = rpc.Response


class World:
    """ZooKeeper, and the controllers of some brokers; `told` has what each broker's incarnation was asked."""

    def __init__(self, *replicas: int, **flags: Any) -> None:
        self.config = ClusterConfig(topics=(Topic("x", (replicas or (1, 2, 3),)),), **flags)
        self.zookeeper, self.now, self.correlation = zk.ZooKeeper(self.config), 0, 0
        self.brokers: dict[int, Controller] = {}
        self.told: dict[int, list[Any]] = {}
        self.messages: list[Message] = []
        self.answers: dict[int, Any] = {}
        self.answer = Error.NONE  # of the brokers to the controller
        self.is_mute = False  # what it says to them is lost
        for id in self.config.brokers:
            self.start(id)
        self.settle()

    def start(self, id: int) -> None:
        self.brokers[id], self.told[id] = Controller(id, self.config), []
        self.messages += self.brokers[id].step(None, self.now)

    def crash(self, id: int) -> None:
        del self.brokers[id]
        self.messages = [one for one in self.messages if address(id) not in (one.source, one.destination)]

    def deliver(self, message: Message) -> None:
        ids = {address(id): id for id in self.brokers}
        if message.destination == ZOOKEEPER:
            self.messages += self.zookeeper.step(message, self.now)  # type: ignore[arg-type]
        elif message.destination == "admin" or self.is_answer(message):
            self.answers[message.correlation] = message.body
        elif isinstance(message.body, FROM_CONTROLLER) and (self.is_mute or message.destination not in ids):
            pass
        elif isinstance(message.body, FROM_CONTROLLER):
            answer = rpc.Response(self.tell(ids[message.destination], message.body))
            self.messages.append(Message(message.destination, message.source, message.correlation, answer))
        elif message.destination in ids:
            self.messages += self.brokers[ids[message.destination]].step(message, self.now)

    def is_answer(self, message: Message) -> bool:
        """Whether a broker's leader asked, not its controller: that has odd ids."""
        return isinstance(message.body, rpc.Response) and message.correlation % 2 == 0

    def tell(self, id: int, body: Any) -> Error:
        """What a broker does with a request of a controller's."""
        if any(body.controller_epoch < told.controller_epoch for told in self.told[id]):
            return Error.STALE_CONTROLLER_EPOCH
        if self.config.kip_380 and body.broker_epoch < self.brokers[id].broker_epoch:
            return Error.STALE_BROKER_EPOCH
        self.told[id].append(body)
        return self.answer

    def settle(self) -> None:
        for _ in range(1000):
            if not self.messages:
                return
            self.deliver(self.messages.pop(0))
        raise AssertionError("never quiet")

    def sleep(self, duration: int) -> None:
        """Let time pass, whoever has something to do doing it."""
        end = self.now + duration
        while self.now < end:
            self.now = min(self.now + SESSION // 6, end)
            for broker in list(self.brokers.values()):
                self.messages += broker.step(None, self.now)
                self.settle()
            self.messages += self.zookeeper.step(Tick(), self.now)  # type: ignore[arg-type]
            self.settle()

    @property
    def active(self) -> Controller:
        (active,) = [one for one in self.brokers.values() if one.is_active]
        return active

    @property
    def state(self) -> PartitionRegistration:
        state = self.zookeeper.nodes[zk.state_path(X)].value
        assert isinstance(state, PartitionRegistration)
        assert state.partition_epoch == self.zookeeper.nodes[zk.state_path(X)].version
        return state

    def ask(self, body: Any, of: Controller | None = None, source: str = "admin") -> Any:
        self.correlation += 2  # as a broker's
        destination = address((of or self.active).broker_id)
        self.messages.append(Message(source, destination, self.correlation, body))
        self.settle()
        return self.answers.get(self.correlation)

    def alter(self, *isr: int, **others: int) -> Any:
        """The leader proposes an ISR."""
        at = {"leader_epoch": self.state.leader_epoch, "partition_epoch": self.state.partition_epoch}
        request = {"topic_partition": X, "broker_id": self.state.leader, "isr": isr, **at, **others}
        return self.ask(rpc.AlterPartitionRequest(**request))

    def move(self, *replicas: int) -> Any:
        return self.ask(rpc.AlterPartitionReassignmentsRequest(X, replicas or None)).error

    def elect(self, election: str) -> Any:
        return self.ask(rpc.ElectLeadersRequest(X, election)).error

    def last(self, id: int) -> Any:
        return self.told[id][-1]

    def forget(self) -> None:
        for told in self.told.values():
            told.clear()

    def check_told(self) -> None:
        """Everybody who lives has the last word of the controller."""
        state = self.state
        for id, broker in self.brokers.items():
            epoch = broker.broker_epoch if self.config.kip_380 else -1
            told = [one for one in self.told[id] if one.broker_epoch == epoch]
            assert told[-1][:2] == (self.active.broker_id, self.active.controller_epoch)
            assert [one.partitions for one in told if one.partitions][-1] == ((X, state),)


def leads(world: World) -> tuple[int, int, tuple[int, ...]]:
    return world.state.leader, world.state.leader_epoch, world.state.isr
