"""A whole transaction with offsets through two brokers' coordinators and real logs, with a failover at every step.

The two brokers share one log per partition, which stands for its replicas; a failover loses what is above the high
watermark, or keeps it. The former leader may go on for long in the belief that it leads.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any, NamedTuple

import pytest
from coordinators_by_hand import Coordinators, Marker
from hwmark.refimpl import requests as rpc
from hwmark.refimpl.batches import ABORT, COMMIT, Batch, Producer, Record, TopicPartition
from hwmark.refimpl.config import OFFSETS_TOPIC, TRANSACTIONS_TOPIC, ClusterConfig, Topic
from hwmark.refimpl.coordinator import Append, Respond
from hwmark.refimpl.errors import Error, KafkaError
from hwmark.refimpl.group_coordinator import ConsumerGroupMetadata, OffsetAndMetadata
from hwmark.refimpl.log import Log
from hwmark.refimpl.machine import Message
from hwmark.refimpl.partition_change import PartitionRegistration
from hwmark.refimpl.requests import Response

OFFSETS, TRANSACTIONS, X = (OFFSETS_TOPIC, 0), (TRANSACTIONS_TOPIC, 0), ("x", 0)
TOPICS = tuple(Topic(name, ((1, 2),)) for name in (OFFSETS_TOPIC, TRANSACTIONS_TOPIC, "x"))
GROUP = ConsumerGroupMetadata("g")
CONSUMED, POSITION = ("input", 0), OffsetAndMetadata(7)


class Waiting(NamedTuple):
    """A batch that is not replicated yet; `then` takes its outcome."""

    partition: TopicPartition
    base_offset: int
    then: Callable[[Error, int], None]


class Cluster:
    """Two brokers and a client that runs one transaction; each `step` is one thing that happens."""

    def __init__(self, result: str, **config: Any) -> None:
        self.config = ClusterConfig(topics=TOPICS, **config)
        self.brokers = {id: Coordinators(self.config) for id in (1, 2)}
        self.logs = {partition: Log() for partition in (OFFSETS, TRANSACTIONS, X)}
        self.metadata = {partition: PartitionRegistration((1, 2), (1, 2), 1) for partition in self.logs}
        self.messages: list[Callable[[bool], None]] = []  # called with whether they arrive
        self.waiting: list[Waiting] = []
        self.now, self.result, self.correlation = 0, result, 0
        self.verified = Response()
        self.stages = self.transaction()
        self.producer = Producer("t", -1, -1)
        self.request: Any = next(self.stages)
        self.is_waiting = self.is_done = False
        for id, broker in self.brokers.items():
            broker.partitions = self.metadata
            broker.transactions.broker_epoch = id
        for partition, log in self.logs.items():
            self.do(1, self.brokers[1].on_leader(partition, log, 0, 0))

    # ------------------------------------------------------------ the client

    def transaction(self) -> Iterator[Any]:
        """The client's requests, each until it succeeds; None writes a record."""
        yield rpc.InitProducerIdRequest("t")
        yield rpc.AddPartitionsToTxnRequest(self.producer, (X,))
        yield None
        yield rpc.AddOffsetsToTxnRequest(self.producer, "g")
        yield rpc.TxnOffsetCommitRequest(GROUP, ((CONSUMED, POSITION),), self.producer)
        yield rpc.EndTxnRequest(self.producer, self.result, 2 if self.config.kip_890 else 0)

    def send(self) -> None:
        """Send the request, perhaps once more, to who coordinates now."""
        self.is_waiting, self.correlation = True, self.correlation + 1
        if self.request is None:
            self.produce(self.correlation)
            return
        is_group = isinstance(self.request, rpc.TxnOffsetCommitRequest)
        leader = self.metadata[OFFSETS if is_group else TRANSACTIONS].leader
        message = Message("client", f"broker-{leader}", self.correlation, self.request)
        self.do(leader, self.brokers[leader].handle(message, self.now))

    def produce(self, correlation: int) -> None:
        batch = Batch(0, 0, -1, (Record(0, None, "value"),), *self.producer[1:], 0, is_transactional=True)
        self.write(X, batch, lambda error, offset: self.on_answer(correlation, Response(error)))

    def on_answer(self, correlation: int, response: Response) -> None:
        if correlation != self.correlation or not self.is_waiting:
            return
        self.is_waiting = False
        if response.error is not Error.NONE:
            assert response.error.is_retriable, f"{self.request}: {response.error}"
            self.now += self.config.retry_backoff
            return
        if isinstance(self.request, rpc.InitProducerIdRequest):
            self.producer = Producer("t", *response.value)
        self.request = next(self.stages, self)
        self.is_done = self.request is self

    # ------------------------------------------------------------ the brokers

    def do(self, id: int, effects: list[Any]) -> None:
        for effect in effects:
            if isinstance(effect, Append):
                self.append(id, effect)
            elif isinstance(effect, Marker):
                self.messages.append(self.markers(id, effect))
            else:
                self.on_reply(effect)

    def on_reply(self, effect: Respond) -> None:
        destination, correlation = effect.to  # type: ignore[misc]
        response = Response(effect.error, effect.body)
        if destination == "client":
            self.on_answer(correlation, response)
        else:
            self.verified = response

    def append(self, id: int, effect: Append) -> None:
        partition, registration = effect.topic_partition, self.metadata[effect.topic_partition]

        def then(error: Error, offset: int) -> None:
            self.do(id, self.brokers[id].on_appended(effect, error, offset, self.now))

        if effect.producer.transactional_id and self.config.kip_890:
            error = self.verify(id, effect)
            if error is not Error.NONE:
                return then(error, -1)
        if (registration.leader, registration.leader_epoch) != (id, effect.leader_epoch):
            return then(Error.NOT_LEADER_OR_FOLLOWER, -1)
        return self.write(partition, effect.batch(self.now), then)

    def verify(self, id: int, effect: Append) -> Error:
        """What the transaction's coordinator says about an append for it (KIP-890)."""
        producer = effect.producer
        leader = self.metadata[TRANSACTIONS].leader
        question = rpc.AddPartitionsToTxnRequest(producer, (effect.topic_partition,), verify_only=True)
        self.do(leader, self.brokers[leader].handle(Message(f"broker-{id}", f"broker-{leader}", 0, question), self.now))
        return self.verified.error

    def write(self, partition: TopicPartition, batch: Batch, then: Callable[[Error, int], None]) -> None:
        log = self.logs[partition]
        try:
            written = log.append_as_leader(batch, self.metadata[partition].leader_epoch)
        except KafkaError as refusal:
            return then(refusal.error, -1)
        self.waiting.append(Waiting(partition, written.base_offset, then))
        return None if log.high_watermark < log.log_end_offset else self.replicate(partition)

    def markers(self, id: int, asked: Any) -> Callable[[bool], None]:
        """WriteTxnMarkers on its way to a leader, and then its answer on the way back."""
        leader = self.metadata[asked.request.topic_partition].leader

        def answer(error: Error | None) -> None:
            response = None if error is None else Response(error)
            self.do(id, self.brokers[id].on_response(asked, response, self.now))

        def written(error: Error, _: int) -> None:
            self.messages.append(lambda arrives: answer(error if arrives else None))

        def deliver(arrives: bool) -> None:
            here, *producer, epoch, result = asked.request
            if not arrives:
                return answer(None)
            if self.metadata[here].leader != leader:
                return written(Error.NOT_LEADER_OR_FOLLOWER, -1)
            batch = Batch(0, 0, -1, (Record(0, "marker", result),), *producer, is_transactional=True)
            return self.write(here, batch._replace(control=result, coordinator_epoch=epoch), written)

        return deliver

    def replicate(self, partition: TopicPartition) -> None:
        """The high watermark reaches the end of a log."""
        log = self.logs[partition]
        log.update_high_watermark(log.log_end_offset)
        self.settle(partition, Error.NONE)
        leader = self.metadata[partition].leader
        self.do(leader, self.brokers[leader].on_high_watermark(partition, self.now))

    def settle(self, partition: TopicPartition, error: Error) -> None:
        settled = [one for one in self.waiting if one.partition == partition]
        self.waiting = [one for one in self.waiting if one.partition != partition]
        for one in settled:
            one.then(error, one.base_offset if error is Error.NONE else -1)

    def fail_over(self, partition: TopicPartition, keeps_tail: bool, tells: bool) -> None:
        """The other broker leads, which has followed; `tells`: the former leader learns it before it follows."""
        log, old = self.logs[partition], self.metadata[partition]
        if not keeps_tail:
            log.truncate_to(log.high_watermark)
        new = old._replace(leader=3 - old.leader, leader_epoch=old.leader_epoch + 1)
        self.metadata[partition] = new
        if tells:
            self.do(old.leader, self.brokers[old.leader].on_follower(partition, self.now))
        self.settle(partition, Error.NOT_LEADER_OR_FOLLOWER)
        self.do(new.leader, self.brokers[new.leader].on_follower(partition, self.now))
        self.do(new.leader, self.brokers[new.leader].on_leader(partition, log, new.leader_epoch, self.now))

    # ------------------------------------------------------------ steps

    def step(self, draw: random.Random | None = None) -> bool:
        """One thing happens, the first that can or one drawn; whether anything could, time apart."""
        self.tick_due()
        lagging = [partition for partition, log in self.logs.items() if log.high_watermark < log.log_end_offset]
        can_send = not self.is_done and not (self.is_waiting and (self.messages or lagging))
        events: list[Callable[[], None]] = [lambda i=i: self.deliver(i, draw) for i in range(len(self.messages))]  # type: ignore[misc]
        events += [lambda partition=partition: self.replicate(partition) for partition in lagging]  # type: ignore[misc]
        events += [self.send] * can_send
        if not events:
            return False
        (draw.choice(events) if draw else events[0])()
        self.check()
        return True

    def deliver(self, index: int, draw: random.Random | None) -> None:
        self.messages.pop(index)(draw is None or draw.random() < 0.8)

    def tick(self) -> None:
        """Time passes."""
        deadlines = {id: broker.deadline() for id, broker in self.brokers.items()}
        self.now = max(self.now, min(one for one in deadlines.values() if one is not None))
        self.tick_due()

    def tick_due(self) -> None:
        """What time asks for by now."""
        for id, broker in self.brokers.items():
            deadline = broker.deadline()
            if deadline is not None and deadline <= self.now:
                self.do(id, broker.time_passes(self.now))

    def transaction_state(self) -> str | None:
        known = self.brokers[self.metadata[TRANSACTIONS].leader].transactions.transactions.get("t")
        return known and known.state

    def run(self, draw: random.Random | None = None) -> None:
        """Until the transaction is complete and nothing is on its way."""
        for _ in range(100):
            while self.step(draw):
                pass
            if self.is_done and self.transaction_state() in ("CompleteCommit", "CompleteAbort"):
                return
            self.tick()
        raise AssertionError(f"{self.request}, {self.transaction_state()}: no end")

    def committed(self, require_stable: bool) -> tuple[Error, int] | Error:
        leader = self.metadata[OFFSETS].leader
        request = rpc.OffsetFetchRequest(GROUP, (CONSUMED,), require_stable)
        (reply,) = self.brokers[leader].handle(Message("reader", "", 0, request), self.now)
        assert isinstance(reply, Respond)
        if reply.error is not Error.NONE:
            return reply.error
        ((_, error, position),) = reply.body
        return error, position.offset

    def check(self) -> None:
        """Offsets count when, and only when, the marker is replicated; no log has markers of both kinds."""
        replicated = self.logs[OFFSETS].read(0, self.logs[OFFSETS].high_watermark)
        is_decided = any(batch.control == COMMIT for batch in replicated)
        assert self.committed(False) in (Error.COORDINATOR_LOAD_IN_PROGRESS, (Error.NONE, 7 if is_decided else -1))
        for log in self.logs.values():
            assert {batch.control for batch in log.batches} <= {None, self.result}

    def check_end(self) -> None:
        """Both partitions have the same outcome, and nothing is undecided."""
        log, is_commit = self.logs[X], self.result == COMMIT
        assert self.committed(True) == (Error.NONE, 7 if is_commit else -1)
        for one in (X, OFFSETS):
            assert self.logs[one].last_stable_offset == self.logs[one].log_end_offset
        batches = log.read(0, log.last_stable_offset)
        assert [batch.records[0].value for batch in batches if batch.control is None] == ["value"]
        assert bool(log.aborted_in(0, log.last_stable_offset)) != is_commit


VERSIONS = ({}, {"kip_890": False}, {"kip_890": False, "kip_447": False, "kip_360": False})
FAILOVERS = [
    *product(
        ((TRANSACTIONS,), (OFFSETS,), (X,), (TRANSACTIONS, OFFSETS), (OFFSETS, TRANSACTIONS)), *[(False, True)] * 2
    )
]


def run_until(cluster: Cluster, steps: int, draw: random.Random | None = None) -> bool:
    """Whether that many steps happened."""
    for _ in range(steps):
        if not cluster.step(draw):
            if cluster.is_done:
                return False
            cluster.tick()
    return True


@pytest.mark.parametrize("result", [COMMIT, ABORT])
@pytest.mark.parametrize("version", VERSIONS, ids=str)
def test_a_transaction_ends_once_whenever_a_coordinator_fails_over(version: dict[str, bool], result: str) -> None:
    undisturbed = Cluster(result, **version)
    undisturbed.run()
    undisturbed.check_end()
    for partitions, keeps_tail, tells in FAILOVERS:
        steps, goes_on = 0, True
        while goes_on:
            cluster, steps = Cluster(result, **version), steps + 1
            goes_on = run_until(cluster, steps)
            for partition in partitions:
                cluster.fail_over(partition, keeps_tail, tells)
            cluster.run()
            cluster.check_end()
        assert steps > 15


@pytest.mark.parametrize("seed", range(100))
def test_a_transaction_ends_once_among_many_failovers(seed: int) -> None:
    draw = random.Random(seed)
    cluster = Cluster(draw.choice((COMMIT, ABORT)), **draw.choice(VERSIONS))
    for _ in range(draw.randrange(1, 6)):
        run_until(cluster, draw.randrange(12), draw)
        cluster.fail_over(draw.choice((TRANSACTIONS, OFFSETS, X)), draw.random() < 0.5, draw.random() < 0.7)
    cluster.run(draw)
    cluster.check_end()
