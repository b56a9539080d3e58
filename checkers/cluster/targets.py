"""Who is meant by a fault: names such as "leader:orders-0" become nodes at the moment at which it happens."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from random import Random
from typing import TYPE_CHECKING

from hwmark.checkers.cluster.errors import ClusterError
from hwmark.checkers.cluster.logs import METADATA
from hwmark.checkers.cluster.node import DOWN, PAUSED, UP, Node
from hwmark.checkers.cluster.views import Seen, agreed, of_topics, partition_name, views

if TYPE_CHECKING:
    from hwmark.checkers.cluster.cluster import Cluster

GROUPS: dict[str, Callable[[Cluster], list[Node]]] = {
    "brokers": lambda cluster: cluster.brokers,
    "controllers": lambda cluster: cluster.controllers,
    "down": lambda cluster: [node for node in cluster.nodes if node.state() == DOWN],
    "paused": lambda cluster: [node for node in cluster.nodes if node.state() == PAUSED],
    "struck": lambda cluster: [node for node in cluster.nodes if node.id in cluster.struck],
    "rest": lambda cluster: [node for node in cluster.brokers if node.id not in cluster.struck],
}
ROLES = "leader", "follower", "followers", "isr-last"
KNOWN = (
    "a node's id, any, controller, leader[:TOPIC-0], follower[:TOPIC-0], followers[:TOPIC-0], isr-last[:TOPIC-0], "
    + ", ".join(GROUPS)
)


def resolve(cluster: Cluster, targets: Iterable[str], rng: Random, topics: list[str]) -> list[Node]:
    """The nodes that are meant, each once.

    `struck` are those that the last kill, terminate, pause or cut hit, `rest` the other brokers; `any` is a broker
    that is up, by the rng. A role without a partition is that of the first partition of the first topic. ClusterError
    if a name is unknown, or fits nobody now; groups may be empty.
    """
    found: list[Node] = []
    for target in targets:
        meant = _meant(cluster, target, rng, topics, found)
        found += [node for node in meant if node not in found]
    return found


def partition_of(target: str) -> str | None:
    """The partition that a target names."""
    role, _, name = target.partition(":")
    return partition_name(name) if role in ROLES and name else None


def _meant(cluster: Cluster, target: str, rng: Random, topics: list[str], taken: list[Node]) -> list[Node]:
    if target.isdecimal():
        return [cluster.node(int(target))]
    if target in GROUPS:
        return GROUPS[target](cluster)
    if target == "any":
        return [_any(cluster, rng, taken)]
    if target == "controller":
        return [active_controller(cluster)]
    role = target.partition(":")[0]
    if role not in ROLES:
        raise ClusterError(f"{target!r} names no node; known are {KNOWN}")
    return _in_role(cluster, role, partition_of(target), rng, topics)


def _any(cluster: Cluster, rng: Random, taken: list[Node]) -> Node:
    free = [broker for broker in cluster.brokers if broker.state() == UP and broker not in taken]
    if not free:
        raise ClusterError("no broker is up that could be drawn")
    return rng.choice(free)


def _in_role(cluster: Cluster, role: str, partition: str | None, rng: Random, topics: list[str]) -> list[Node]:
    name, seen = _partition(cluster, partition, topics)
    if role == "isr-last":
        if len(seen.isr) != 1:
            raise ClusterError(f"{name} has no last replica in sync: its ISR is {list(seen.isr)}")
        return [cluster.node(seen.isr[0])]
    if seen.leader is None:
        raise ClusterError(f"{name} has no leader")
    if role == "leader":
        return [cluster.node(seen.leader)]
    followers = [cluster.node(id) for id in seen.replicas if id != seen.leader]
    living = [node for node in followers if node.state() != DOWN]
    if not living:
        raise ClusterError(f"{name} has no follower that is up")
    return living if role == "followers" else [rng.choice(living)]


def _partition(cluster: Cluster, name: str | None, topics: list[str]) -> tuple[str, Seen]:
    told = views(cluster)
    if not told:
        raise ClusterError("no broker answers that could say who leads")
    view = agreed(told)
    if name is None:
        known = sorted(of_topics(view, topics[:1]))
        if not known:
            raise ClusterError("there is no topic yet whose leader or followers could be meant")
        name = known[0]
    if name not in view:
        raise ClusterError(f"there is no partition {name}")
    return name, view[name]


def active_controller(cluster: Cluster) -> Node:
    """The controller that leads the quorum, as the nodes that are up last noted on disk. ClusterError if none did."""
    if len(cluster.controllers) == 1:
        return cluster.controllers[0]
    known = [state for node in cluster.nodes if node.state() == UP and (state := _quorum_state(node))]
    if not known:
        raise ClusterError("no node knows which controller is active")
    return cluster.node(max(known)[1])


def _quorum_state(node: Node) -> tuple[int, int] | None:
    """The leader epoch and the leader that a node knows of."""
    try:
        state = json.loads((node.log_directory / f"{METADATA}-0" / "quorum-state").read_text())
        epoch, leader = int(state["leaderEpoch"]), int(state["leaderId"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not there yet, or just being written
    return (epoch, leader) if leader >= 0 else None
