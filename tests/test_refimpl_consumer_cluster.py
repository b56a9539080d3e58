"""Consumers in a real cluster: what was written is read though brokers crash, and once by who keeps its place."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hwmark.checkers.simulation.cluster import Cluster, ClusterSetup, Crash, Restart
from hwmark.checkers.simulation.schedule import NetworkConfig, TimedSchedule
from hwmark.refimpl.config import OFFSETS_TOPIC, ClusterConfig, Topic
from hwmark.refimpl.consumer import Assign, Close, CommitSync, ConsumerConfig, Poll, Subscribe
from hwmark.refimpl.errors import Error
from hwmark.refimpl.producer import ProducerConfig, Send

TOPICS = (Topic("x", ((1, 2, 3), (2, 3, 1))), Topic(OFFSETS_TOPIC, ((3, 1, 2),), is_compacted=True))
CONFIG = ClusterConfig(
    topics=TOPICS, request_timeout=500, retry_backoff=50, zookeeper_session_timeout=600, replica_lag_time_max=400
)
MEMBER = ConsumerConfig("group", session_timeout=6_000, heartbeat_interval=300, max_poll_interval=4_000)


class Driver:
    """A cluster with one producer, and calls that wait for their outcome."""

    def __init__(self, *consumers: ConsumerConfig, drop: float = 0.0) -> None:
        setup = ClusterSetup(CONFIG, (ProducerConfig(),), consumers)
        self.schedule = TimedSchedule(Cluster(setup), Random(1), NetworkConfig(drop=drop))
        self.sent = 0
        self.commits: list[Error] = []

    def call(self, name: str, operation: Any, patience: int = 60_000) -> Any:
        number = self.schedule.invoke(name, operation)
        self.schedule.run_until(lambda: self.outcomes(name, number) != [], time=self.schedule.cluster.now + patience)
        (outcome,) = self.outcomes(name, number)
        return outcome

    def outcomes(self, name: str, number: int) -> list[Any]:
        return [one.outcome for one in self.schedule.returned if (one.machine, one.number) == (name, number)]

    def send(self, count: int) -> list[int]:
        values = [*range(self.sent, self.sent + count)]
        self.sent += count
        for value in values:
            assert self.call("producer-1", Send("x", None, value, value % 2)).error is Error.NONE
        return values

    def read(self, *names: str, polls: int = 20) -> list[int]:
        """What the members read in turn; each commits what it got, if it still may."""
        values = []
        for _ in range(polls):
            for name in names:
                outcome = self.call(name, Poll(100))
                assert outcome.error is Error.NONE
                values += [value for *_, value in outcome.value.records]
                if outcome.value.records:
                    self.commits.append(self.call(name, CommitSync()).error)
        return values


def test_members_read_all_that_was_written_once():
    driver = Driver(MEMBER, MEMBER)
    for name in ("consumer-1", "consumer-2"):
        driver.call(name, Subscribe(("x",)))
    driver.read("consumer-1", "consumer-2")
    values = driver.send(10)
    assert sorted(driver.read("consumer-1", "consumer-2", polls=5)) == values
    values = driver.send(4)
    driver.call("consumer-1", Close())
    assert sorted(driver.read("consumer-2")) == values
    assert {*driver.commits} == {Error.NONE}


@pytest.mark.parametrize("broker", ["broker-1", "broker-2", "broker-3"])
def test_a_broker_that_crashes_takes_nothing_along(broker: str):
    driver = Driver(MEMBER, MEMBER._replace(assignors=("range", "cooperative-sticky")))
    for name in ("consumer-1", "consumer-2"):
        driver.call(name, Subscribe(("x",)))
    values = driver.send(6)
    read = driver.read("consumer-1", "consumer-2")
    driver.schedule.apply(Crash(broker, False, driver.schedule.cluster.now))
    values += driver.send(6)
    read += driver.read("consumer-1", "consumer-2", polls=40)
    driver.schedule.apply(Restart(broker, driver.schedule.cluster.now))
    values += driver.send(6)
    read += driver.read("consumer-1", "consumer-2", polls=40)
    assert sorted({*read}) == values
    assert Error.NONE in driver.commits and len(read) < 2 * len(values)


def test_lost_messages_delay_but_lose_nothing():
    driver = Driver(ConsumerConfig(is_read_committed=True), drop=0.05)
    assert driver.call("consumer-1", Assign((("x", 0), ("x", 1)))).error is Error.NONE
    values = driver.send(30)
    read: list[int] = []
    while len(read) < len(values):
        read += [value for *_, value in driver.call("consumer-1", Poll(1_000)).value.records]
    assert sorted(read) == values
    assert [value for value in read if value % 2] == values[1::2]
