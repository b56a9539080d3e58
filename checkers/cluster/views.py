"""What the brokers say about partitions, each asked by itself: a broker that is cut off knows only what was."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

from hwmark.checkers.cluster.errors import ClusterError
from hwmark.checkers.cluster.logs import PARTITION
from hwmark.checkers.cluster.node import UP, Node

if TYPE_CHECKING:
    from hwmark.checkers.cluster.cluster import Cluster

TIMEOUT = 1.5  # s, for one broker's answer
INTERNAL = "__"  # what the names of Kafka's own topics begin with


class Seen(NamedTuple):
    """A partition as a broker sees it; `isr` and `replicas` are sorted."""

    leader: int | None
    isr: tuple[int, ...]
    replicas: tuple[int, ...]


View = dict[str, Seen]
"""Partitions by name: "TOPIC-0"."""


def view_of(broker: Node) -> View | None:
    """What a broker says of all partitions; None if it does not answer."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    # A client of its own each time: one that is kept asks whichever broker it likes.
    admin = AdminClient({"bootstrap.servers": broker.address, "log_level": 0})
    try:
        told = admin.list_topics(timeout=TIMEOUT)
    except KafkaException:
        return None
    if told.orig_broker_id != broker.id:
        return None
    return {
        f"{name}-{id}": _seen(one)
        for name, topic in sorted(told.topics.items())
        for id, one in sorted(topic.partitions.items())
    }


def views(cluster: Cluster) -> dict[int, View]:
    """What each broker that is up says, by its id."""
    asked = [broker for broker in cluster.brokers if broker.state() == UP]
    if not asked:
        return {}
    with ThreadPoolExecutor(len(asked)) as pool:
        told = zip(asked, pool.map(view_of, asked), strict=True)
        return {broker.id: view for broker, view in told if view is not None}


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
