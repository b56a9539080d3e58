"""A producer by itself: a test sees what it sends, and answers."""

from collections import Counter

from hwmark.refimpl import requests as rpc
from hwmark.refimpl.config import ClusterConfig, Topic
from hwmark.refimpl.errors import Error
from hwmark.refimpl.group_coordinator import ConsumerGroupMetadata
from hwmark.refimpl.machine import Call, Return, Tick
from hwmark.refimpl.partition_change import PartitionRegistration
from hwmark.refimpl.producer import Producer, ProducerConfig, Send
from hwmark.refimpl.requests import Response

X0, X1, X2 = ("x", 0), ("x", 1), ("x", 2)
CLUSTER = ClusterConfig(topics=(Topic("x", ((1, 2, 3), (2, 3, 1), (3, 1, 2))),))
TRANSACTIONAL = ProducerConfig(transactional_id="t", batch_records=1)
GROUP = ConsumerGroupMetadata("g", 3, "member")
AUTOMATIC = rpc.MetadataRequest, rpc.FindCoordinatorRequest, rpc.InitProducerIdRequest


class Driver:
    """A producer whose requests stay in `sent` until the test answers them; the usual look-ups answer themselves."""

    def __init__(self, config: ProducerConfig, cluster: ClusterConfig = CLUSTER) -> None:
        self.producer, self.now, self.calls = Producer("producer-1", cluster, config), 0, 0
        self.sent, self.returned, self.seen = [], {}, Counter()
        self.leaders, self.leader_epoch, self.coordinator, self.ids = {0: 1, 1: 2, 2: 3}, 0, 2, iter(range(7, 99))
        self.automatic = AUTOMATIC

    def step(self, event) -> None:
        for effect in self.producer.step(event, self.now):
            if isinstance(effect, Return):
                assert effect.number not in self.returned, "a call is answered once"
                self.returned[effect.number] = effect.outcome
            else:
                self.seen[type(effect.body)] += 1
                self.sent.append(effect)
        for message in [one for one in self.sent if isinstance(one.body, self.automatic)]:
            self.respond(message, self.usual(message.body))

    def usual(self, body):
        if isinstance(body, rpc.MetadataRequest):
            partitions = [
                (("x", partition), PartitionRegistration((1, 2, 3), (1, 2, 3), leader, self.leader_epoch))
                for partition, leader in self.leaders.items()
            ]
            return Response(value=tuple(partitions))
        if isinstance(body, rpc.FindCoordinatorRequest):
            return Response(value=self.coordinator)
        expected = body.expected
        return Response(value=(expected[0], expected[1] + 1) if expected else (next(self.ids), 0))

    def respond(self, message, body) -> None:
        self.sent.remove(message)
        self.step(message._replace(source=message.destination, destination=message.source, body=body))

    def call(self, operation) -> int:
        self.calls += 1
        self.step(Call(self.calls, operation))
        return self.calls

    def send(self, *values, partition: int | None = 0, key=None) -> list[int]:
        return [self.call(Send("x", key, value, partition)) for value in values]

    def wait(self, ms: int) -> None:
        """Let time pass, with every deadline on the way."""
        end, ticks = self.now + ms, 0
        while (deadline := self.producer.deadline()) is not None and deadline <= end:
            self.now, ticks = max(self.now, deadline), ticks + 1
            assert ticks < 10_000, "it never rests"
            self.step(Tick())
        self.now = end

    def answer(self, kind, error=Error.NONE, value=None) -> object:
        """Answer the oldest request of a kind; the request."""
        message = next(one for one in self.sent if isinstance(one.body, kind))
        self.respond(message, Response(error, value))
        return message.body

    def produced(self, error=Error.NONE, base_offset=-1, log_start_offset=0, place=0) -> rpc.ProduceRequest:
        message = self.produce_messages()[place]
        self.respond(message, rpc.Response(error, base_offset))
        return message.body

    def produce_messages(self):
        return [one for one in self.sent if isinstance(one.body, rpc.ProduceRequest)]

    def lose(self) -> None:
        """Nobody gets what is on its way."""
        self.sent.clear()

    def batches(self):
        return [one.body.batch for one in self.produce_messages()]

    def numbers(self):
        """Of the batches under way: values, producer epoch, base sequence."""
        return [("".join(r.value for r in b.records), b.producer_epoch, b.base_sequence) for b in self.batches()]

    def known(self, *partitions: int):
        """Let leaders know the producer by one record each: the driver."""
        for partition in partitions or (0,):
            self.send("0", partition=partition)
            self.produced(base_offset=0)
        return self

    @property
    def state(self) -> str:
        return self.producer.state


def singles(**changes) -> ProducerConfig:
    """Batches of one record."""
    return ProducerConfig(batch_records=1)._replace(**changes)
