"""A world around consumers: one broker made of real replicas and a real group coordinator, and a network that obeys."""

from __future__ import annotations

from collections import deque
from typing import Any

from hwmark.refimpl import requests as rpc
from hwmark.refimpl.batches import ABORT, COMMIT, Batch, Record
from hwmark.refimpl.broker import COORDINATED
from hwmark.refimpl.config import ClusterConfig, Topic
from hwmark.refimpl.consumer import Consumer, ConsumerConfig, Poll, Subscribe
from hwmark.refimpl.coordinator import Append
from hwmark.refimpl.errors import Error, KafkaError
from hwmark.refimpl.group_coordinator import GroupCoordinator
from hwmark.refimpl.machine import Call, Message, Return, Tick
from hwmark.refimpl.partition_change import PartitionRegistration
from hwmark.refimpl.replica import Replica

BROKER, TOPIC, ELSE = 1, "topic", "else"
DATA_REQUESTS = {
    rpc.FetchRequest: ("fetch", rpc.FetchResponse),
    rpc.ListOffsetsRequest: ("list_offsets", rpc.Response),
    rpc.OffsetsForLeaderEpochRequest: ("offsets_for_leader_epoch", rpc.Response),
}


class World:
    """Consumers c1, c2, ... of `partitions` partitions; messages are delivered at once, in the order of sending.

    `scripted` has answers to give instead of the right one, `silent` kinds of requests that get none at all, `asked`
    all requests. `outcomes` has what calls returned, by (consumer, number).
    """

    def __init__(self, *configs: ConsumerConfig, partitions: int = 2, cluster: ClusterConfig | None = None) -> None:
        topics = (Topic(TOPIC, ((BROKER,),) * partitions), Topic(ELSE, ((BROKER,),)))
        self.cluster = (cluster or ClusterConfig())._replace(brokers=(BROKER,), topics=topics)
        self.now = self.number = self.added = 0
        self.consumers: dict[str, Consumer] = {}
        self.replicas = {(TOPIC, i): Replica(BROKER, (TOPIC, i), self.cluster) for i in range(partitions)}
        for replica in self.replicas.values():
            replica.become(PartitionRegistration((BROKER,), (BROKER,), BROKER), 0)
        self.groups = GroupCoordinator(self.cluster)
        self.groups.load(0, [], 0, 0)
        self.next_offset = 0
        self.network: deque[Message] = deque()
        self.parked: list[tuple[int, Message]] = []
        self.scripted: dict[type, list[Any]] = {}
        self.silent: set[type] = set()
        self.asked: list[Any] = []
        self.outcomes: dict[tuple[str, int], Any] = {}
        for config in configs:
            self.add(config)

    def add(self, config: ConsumerConfig) -> str:
        self.added += 1
        name = f"c{self.added}"
        self.consumers[name] = Consumer(name, self.cluster, config)
        self.step(name, Tick())
        return name

    # ------------------------------------------------------------ the application

    def call(self, name: str, operation: Any) -> int:
        self.number += 1
        self.step(name, Call(self.number, operation))
        self.deliver()
        return self.number

    def ask(self, name: str, operation: Any) -> Any:
        """The outcome of a call that returns without time passing."""
        return self.outcomes[name, self.call(name, operation)]

    def poll(self, name: str, timeout: int = 10_000) -> Any:
        """The outcome of a Poll, whatever time it takes."""
        number = self.call(name, Poll(timeout))
        end = self.now + timeout
        while (name, number) not in self.outcomes:
            self.advance(end)
        return self.outcomes[name, number]

    def values(self, name: str, timeout: int = 10_000) -> list[Any]:
        """The values of the records that a Poll returns."""
        outcome = self.poll(name, timeout)
        assert outcome.error is Error.NONE, outcome
        return [value for _, _, _, value in outcome.value.records]

    def poll_all(self, rounds: int = 6) -> list[tuple[str, str, tuple[int, ...]]]:
        """All poll in turn; what happened to their assignments."""
        news = []
        for _ in range(rounds):
            for name in self.consumers:
                number = self.call(name, Poll(0))
                rebalances = getattr(self.outcomes[name, number].value, "rebalances", ())
                news += [(name, how, tuple(i for _, i in partitions)) for how, partitions in rebalances]
                self.wait(100)
        return news

    # ------------------------------------------------------------ time and network

    def step(self, name: str, event: Any) -> None:
        for effect in self.consumers[name].step(event, self.now):
            if isinstance(effect, Return):
                assert (name, effect.number) not in self.outcomes, "a call returned twice"
                self.outcomes[name, effect.number] = effect.outcome
            else:
                self.network.append(effect)

    def deliver(self) -> None:
        """Until nothing is on its way; a cluster in which no time passes has to be quiet."""
        for _ in range(1000):
            if not self.network:
                return
            message = self.network.popleft()
            if message.destination in self.consumers:
                self.step(message.destination, message)
            elif message.destination.startswith("broker"):
                self.asked.append(message.body)
                self.serve(message)
        raise AssertionError(f"messages for ever: {self.network}")

    def advance(self, end: int) -> None:
        """To the next deadline, at most to the end."""
        deadlines = [consumer.deadline() for consumer in self.consumers.values()]
        times = [time for time in (*deadlines, self.groups.next_deadline(), *[at for at, _ in self.parked]) if time]
        assert min(times, default=end) > self.now - 1, "a deadline is past"
        before, self.now = self.now, max(self.now, min([end, *times]))
        assert self.now > before or self.now == end, f"no time passes: {deadlines}"
        self.tick()

    def tick(self) -> None:
        due = [message for at, message in self.parked if at <= self.now]
        self.parked = [(at, message) for at, message in self.parked if at > self.now]
        for message in due:
            self.answer(message, self.data(message.body))
        self.do(self.groups.tick(self.now))
        for name in [*self.consumers]:
            self.step(name, Tick())
        self.deliver()

    def wait(self, ms: int) -> None:
        end = self.now + ms
        while self.now < end:
            self.advance(end)

    def kinds(self) -> list[str]:
        """The requests since the last time, by name."""
        kinds = [type(body).__name__.removesuffix("Request") for body in self.asked]
        self.asked.clear()
        return kinds

    # ------------------------------------------------------------ the broker

    def serve(self, message: Message) -> None:
        body = message.body
        if self.scripted.get(type(body)):
            self.answer(message, self.scripted[type(body)].pop(0))
        elif type(body) in self.silent:
            return
        elif isinstance(body, rpc.MetadataRequest):
            self.answer(message, rpc.Response(value=tuple((of, self.metadata(of)) for of in self.replicas)))
        elif isinstance(body, rpc.FindCoordinatorRequest):
            self.answer(message, rpc.Response(Error.NONE, BROKER))
        elif type(body) in COORDINATED:
            to = message.source, message.correlation
            try:
                self.do(COORDINATED[type(body)](self.groups, to, self.now, *body))
            except KafkaError as refusal:
                self.answer(message, rpc.Response(refusal.error))
        else:
            response = self.data(body)
            is_empty = isinstance(body, rpc.FetchRequest) and response.error is Error.NONE and not response.batches
            if is_empty and body.max_wait:
                self.parked.append((self.now + body.max_wait, message))
            else:
                self.answer(message, response)

    def metadata(self, of: tuple[str, int]) -> PartitionRegistration:
        return PartitionRegistration((BROKER,), (BROKER,), BROKER, self.replicas[of].leader_epoch)

    def data(self, body: Any) -> Any:
        name, kind = DATA_REQUESTS[type(body)]
        try:
            replica = self.replicas[body.topic_partition]
            return replica.fetch(body, self.now) if name == "fetch" else getattr(replica, name)(body)
        except KafkaError as refusal:
            return kind(refusal.error)

    def answer(self, message: Message, response: Any) -> None:
        self.network.append(Message(message.destination, message.source, message.correlation, response))

    def do(self, effects: Any) -> None:
        for effect in effects:
            if isinstance(effect, Append):
                self.next_offset += 1
                self.do(self.groups.on_appended(effect, Error.NONE, self.next_offset, self.now))
            else:
                (name, correlation), error, value = effect
                response = rpc.Response(error, value)
                self.network.append(Message(f"broker-{BROKER}", name, correlation, response))

    # ------------------------------------------------------------ the log

    def write(self, *values: Any, partition: int = 0, **batch: Any) -> None:
        """Append a batch; who waits for it gets it."""
        records = tuple(Record(i, None, value) for i, value in enumerate(values))
        self.append(Batch(0, max(len(records) - 1, 0), -1, records, **batch), partition)

    def write_txn(self, producer_id: int, sequence: int, *values: Any, partition: int = 0) -> None:
        txn = {"producer_id": producer_id, "producer_epoch": 0, "base_sequence": sequence, "is_transactional": True}
        self.write(*values, partition=partition, **txn)

    def end_txn(self, producer_id: int, is_commit: bool, partition: int = 0) -> None:
        marker = COMMIT if is_commit else ABORT
        batch = Batch(
            0,
            0,
            -1,
            (Record(0, marker, 0),),
            producer_id,
            0,
            is_transactional=True,
            control=marker,
            coordinator_epoch=0,
        )
        self.append(batch, partition)

    def append(self, batch: Batch, partition: int) -> None:
        replica = self.replicas[TOPIC, partition]
        replica.produce(batch, 1)
        replica.maybe_increment_high_watermark(self.now)
        waiting, self.parked = self.parked, []
        for _, message in waiting:
            self.serve(message)
        self.deliver()

    def elect(self, epoch: int, truncate_to: int | None = None, partition: int = 0) -> None:
        """A new leader epoch, of a leader whose log ended there."""
        replica = self.replicas[TOPIC, partition]
        if truncate_to is not None:
            replica.log.high_watermark = truncate_to
            replica.log.truncate_to(truncate_to)
        replica.become(PartitionRegistration((BROKER,), (BROKER,), BROKER, epoch, epoch), self.now)
        replica.maybe_increment_high_watermark(self.now)


def members(count: int, partitions: int = 2, cluster: ClusterConfig | None = None, **config: Any) -> World:
    """Some consumers that have subscribed; nobody has polled yet."""
    world = World(*[ConsumerConfig("group", **config)] * count, partitions=partitions, cluster=cluster)
    for name in world.consumers:
        assert world.ask(name, Subscribe((TOPIC,))).error is Error.NONE
    return world


def join(world: World, **config: Any) -> str:
    """One more."""
    name = world.add(ConsumerConfig("group", **config))
    world.ask(name, Subscribe((TOPIC,)))
    return name


def owned(world: World, name: str) -> list[int]:
    """The partitions that a member has."""
    return sorted(i for _, i in world.consumers[name].positions)
