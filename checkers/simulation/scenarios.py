"""The scenarios that are searched exhaustively: small clusters, few calls, few faults."""

from __future__ import annotations

from typing import Any

from hwmark.checkers.simulation.cluster import ADMIN, ClusterSetup
from hwmark.checkers.simulation.exhaustive import CRASH, POWER_CUT, RESTART, Scenario
from hwmark.checkers.simulation.promises import ACKNOWLEDGED
from hwmark.refimpl import requests as rpc
from hwmark.refimpl.batches import TopicPartition
from hwmark.refimpl.config import OFFSETS_TOPIC, TRANSACTIONS_TOPIC, ClusterConfig, Topic
from hwmark.refimpl.consumer import Assign, ConsumerConfig, Poll, Subscribe
from hwmark.refimpl.machine import ZOOKEEPER, Address, address
from hwmark.refimpl.producer import BeginTransaction, CommitTransaction, InitTransactions, ProducerConfig, Send

X: TopicPartition = ("x", 0)


def small(brokers: int = 2, *, clients: tuple[Any, ...] = (ProducerConfig(),), **config: Any) -> ClusterSetup:
    """A cluster with one partition, replicated everywhere, and no internal topics."""
    ids = tuple(range(1, brokers + 1))
    producers = tuple([one for one in clients if isinstance(one, ProducerConfig)])
    consumers = tuple([one for one in clients if isinstance(one, ConsumerConfig)])
    return ClusterSetup(ClusterConfig(brokers=ids, topics=(Topic("x", (ids,)),), **config), producers, consumers)


def scenario(
    name: str,
    setup: ClusterSetup,
    scripts: dict[Address, tuple[Any, ...]],
    *faults: tuple[str, int],
    ticks: dict[Address, int] | None = None,
    warm_up: tuple[tuple[Address, Any], ...] = (("producer-1", Send("x", None, 0, 0)),),
    drops: int = 0,
) -> Scenario:
    """A scenario; faults are (what, broker id)."""
    happening = tuple([(what, address(broker)) for what, broker in faults])
    return Scenario(name, setup, warm_up, tuple(scripts.items()), tuple((ticks or {}).items()), happening, drops)


def _with_topics(setup: ClusterSetup, *names: str) -> ClusterSetup:
    """With internal topics, of one partition each."""
    topics = [Topic(name, (setup.config.brokers,), is_compacted=True) for name in names]
    return setup._replace(config=setup.config._replace(topics=(*setup.config.topics, *topics)))


def _two_leaders(name: str, **config: Any) -> Scenario:
    """The first leader dies, then the second, whoever follows (KIP-101)."""
    faults = (CRASH, 1), (CRASH, 2)
    return scenario(name, small(3, **config), {"producer-1": (ONE,)}, *faults, ticks={ZOOKEEPER: 2})


ONE, TWO = Send("x", None, 1, 0), Send("x", None, 2, 0)
PRODUCER, CONSUMER = "producer-1", "consumer-1"
TRANSACTIONAL = _with_topics(small(clients=(ProducerConfig(transactional_id="t"),)), TRANSACTIONS_TOPIC)
GROUP = _with_topics(small(clients=(ConsumerConfig(group_id="g"), ConsumerConfig(group_id="g"))), OFFSETS_TOPIC)
READING = small(clients=(ProducerConfig(), ConsumerConfig()))
ASSIGNED = ((PRODUCER, Send("x", None, 0, 0)), (CONSUMER, Assign((X,))), (CONSUMER, Poll(1_000)))
MOVE = "broker-1", rpc.AlterPartitionReassignmentsRequest(X, (2,))

SCENARIOS = {
    each.name: each
    for each in (
        scenario("one record", small(), {PRODUCER: (ONE,)}, ticks={"broker-1": 1, "broker-2": 1}),
        scenario("two records, lost messages", small(), {PRODUCER: (ONE, TWO)}, ticks={PRODUCER: 1}, drops=2),
        scenario("the leader restarts", small(), {PRODUCER: (ONE,)}, (CRASH, 1), (RESTART, 1)),
        scenario("the leader dies", small(), {PRODUCER: (ONE,)}, (CRASH, 1), ticks={ZOOKEEPER: 1, PRODUCER: 1}),
        scenario("the leader's session expires", small(), {PRODUCER: (ONE,)}, ticks={ZOOKEEPER: 1, PRODUCER: 1}),
        scenario(
            "the leader loses its power and comes back",
            small(flushes_every_append=True),
            {PRODUCER: (ONE,)},
            (POWER_CUT, 1),
            (RESTART, 1),
            ticks={PRODUCER: 2},
        ),
        scenario(
            "a follower leaves the ISR",
            small(replica_lag_time_max=1_000),
            {PRODUCER: (ONE,)},
            ticks={"broker-1": 2, "broker-2": 1},
            drops=1,
        ),
        scenario("the partition moves", small(), {PRODUCER: (ONE,), ADMIN: (MOVE,)}, ticks={PRODUCER: 1}),
        scenario(
            "the partition moves and the leader dies",
            small(),
            {PRODUCER: (ONE,), ADMIN: (MOVE,)},
            (CRASH, 1),
        ),
        scenario(
            "the leader of three replicas dies",
            small(3),
            {PRODUCER: (ONE,)},
            (CRASH, 1),
            ticks={ZOOKEEPER: 1, PRODUCER: 1},
        ),
        scenario(
            "a consumer reads while the leader dies",
            READING,
            {PRODUCER: (ONE,), CONSUMER: (Poll(1_000),)},
            (CRASH, 1),
            ticks={ZOOKEEPER: 1},
            warm_up=ASSIGNED,
        ),
        scenario(
            "a transaction while its coordinator dies",
            TRANSACTIONAL,
            {PRODUCER: (BeginTransaction(), ONE, CommitTransaction())},
            (CRASH, 1),
            ticks={ZOOKEEPER: 1},
            warm_up=((PRODUCER, InitTransactions()),),
        ),
        scenario(
            "two members join a group",
            GROUP,
            {CONSUMER: (Subscribe(("x",)), Poll(100)), "consumer-2": (Subscribe(("x",)), Poll(100))},
            ticks={CONSUMER: 2, "consumer-2": 2},
            warm_up=(),
        ),
    )
}
"""What every interleaving of keeps its promises."""

LARGE = {
    f"{name}, with more time": SCENARIOS[name]._replace(
        name=f"{name}, with more time", ticks=((ZOOKEEPER, 1), (PRODUCER, ticks))
    )
    for name, ticks in (
        ("the leader dies", 2),
        ("a consumer reads while the leader dies", 1),
        ("a transaction while its coordinator dies", 1),
    )
}
"""The same, of hundreds of thousands of states."""

BROKEN = {
    _two_leaders("two leaders die, before KIP-101", kip_101=False, kip_595=False): ACKNOWLEDGED,
}
"""What breaks a promise in some interleaving, and which."""
