"""What the brokers say about partitions, each asked by itself: a broker that is cut off knows only what was."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from hwmark.checkers.cluster.errors import ClusterError
from hwmark.checkers.cluster.logs import PARTITION
from hwmark.checkers.cluster.node import UP

if TYPE_CHECKING:
    from hwmark.checkers.cluster.cluster import Cluster

TIMEOUT, ONE_TIMEOUT, BETWEEN = 1.0, 0.5, 0.005  # s: for the answers of all, of one, and between questions
INTERNAL = "__"  # what the names of Kafka's own topics begin with


class Seen(NamedTuple):
    """A partition as a broker sees it; `isr` and `replicas` are sorted."""

    leader: int | None
    isr: tuple[int, ...]
    replicas: tuple[int, ...]


View = dict[str, Seen]
"""Partitions by name: "TOPIC-0"."""


def views(cluster: Cluster) -> dict[int, View]:
    """What each broker that is up says of all partitions, by its id; those that do not answer in time are left out."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    asked = {broker.address: broker.id for broker in cluster.brokers if broker.state() == UP}
    found: dict[int, View] = {}
    if not asked:
        return found
    # The client asks one of the brokers that it is connected to, whichever: let it connect to all, and ask until each
    # has answered. It says who did: "10.0.0.1:9092/1", or "/bootstrap" as long as it does not know the id.
    admin = AdminClient({"bootstrap.servers": ",".join(asked), "enable.sparse.connections": False, "log_level": 0})
    deadline = time.monotonic() + TIMEOUT
    while len(found) < len(asked) and time.monotonic() < deadline:
        with contextlib.suppress(KafkaException):
            told = admin.list_topics(timeout=ONE_TIMEOUT)
            id = asked.get(str(told.orig_broker_name).partition("/")[0])
            if id is not None:
                found[id] = _view(told)
        time.sleep(BETWEEN)
    return found


def _view(told: Any) -> View:
    return {
        f"{name}-{id}": _seen(one)
        for name, topic in sorted(told.topics.items())
        for id, one in sorted(topic.partitions.items())
    }


def agreed(told: dict[int, View]) -> View:
    """What most brokers say of each partition: the ones cut off are outvoted. Of as many the lower id is believed."""
    names = sorted({name for view in told.values() for name in view})
    found = {}
    for name in names:
        votes = Counter(told[id][name] for id in sorted(told) if name in told[id])
        found[name] = votes.most_common(1)[0][0]
    return found


def of_topics(view: View, topics: list[str]) -> View:
    """The part of these topics; of all but Kafka's own if none is named."""
    return {name: seen for name, seen in view.items() if is_meant(name, topics)}


def is_meant(name: str, topics: list[str]) -> bool:
    """Whether a partition is one of these topics', or, if none is named, not of Kafka's own."""
    topic = name.rpartition("-")[0]
    return topic in topics if topics else not topic.startswith(INTERNAL)


def partition_name(text: str) -> str:
    """The name of a partition as it should be. ClusterError if it is none."""
    if not PARTITION.fullmatch(text):
        raise ClusterError(f"{text!r} names no partition; expected TOPIC-NUMBER")
    return text


def _seen(partition: Any) -> Seen:
    leader = None if partition.leader < 0 else int(partition.leader)
    return Seen(leader, tuple(sorted(partition.isrs)), tuple(sorted(partition.replicas)))
