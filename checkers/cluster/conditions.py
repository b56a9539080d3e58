"""What the next fault may have to wait for, so that a recipe does not depend on how fast the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event
from typing import TYPE_CHECKING

from hwmark.checkers.cluster.errors import ClusterError
from hwmark.checkers.cluster.logs import last_batches, partition_folders
from hwmark.checkers.cluster.node import UP
from hwmark.checkers.cluster.views import agreed, is_meant, of_topics, views

if TYPE_CHECKING:
    from hwmark.checkers.cluster.cluster import Cluster

POLL = 0.1  # s between looks
GROWING, AHEAD = 0.3, 10  # s, and batches in them: what an answer to a fetch that is under way carries came before


def is_moved(cluster: Cluster, topics: list[str]) -> bool:
    """Every partition has a leader that the last fault did not strike, as one of the others knows."""
    told = [of_topics(view, topics) for id, view in views(cluster).items() if id not in cluster.struck]
    return any(view and all(_leads_elsewhere(cluster, seen.leader) for seen in view.values()) for view in told)


def is_alone(cluster: Cluster, topics: list[str]) -> bool:
    """The ISR of every partition has shrunk to one replica."""
    view = of_topics(agreed(views(cluster)), topics)
    return bool(view) and all(len(seen.isr) == 1 for seen in view.values())


def is_ahead(cluster: Cluster, topics: list[str]) -> bool:
    """Some partition's longest log goes on growing while none of its other replicas does."""
    before = _logs(cluster, topics)
    time.sleep(GROWING)
    after = _logs(cluster, topics)
    return any(
        _behind(before[name]) == _behind(logs) and _beyond(logs, before[name]) >= AHEAD
        for name, logs in after.items()
        if name in before and len(logs) > 1
    )


def is_in_sync(cluster: Cluster, topics: list[str]) -> bool:
    """All nodes are up, and all brokers agree that every partition has a leader and all its replicas in the ISR."""
    told = views(cluster)
    if any(node.state() != UP for node in cluster.nodes) or len(told) < len(cluster.brokers):
        return False
    view, *others = told.values()
    whole = all(seen.leader is not None and seen.isr == seen.replicas for seen in view.values())
    return whole and all(other == view for other in others)


CONDITIONS: dict[str, Callable[[Cluster, list[str]], bool]] = {
    "moved": is_moved,
    "alone": is_alone,
    "ahead": is_ahead,
    "in-sync": is_in_sync,
}


def hold(cluster: Cluster, condition: str, topics: list[str], timeout: float, stop: Event | None = None) -> bool:
    """Wait until a condition holds; False if it does not within so many seconds, or until `stop` is set.

    ClusterError if it is unknown.
    """
    if condition not in CONDITIONS:
        raise ClusterError(f"{condition!r} is nothing to wait for; known are {', '.join(CONDITIONS)}")
    deadline = time.monotonic() + timeout
    while not CONDITIONS[condition](cluster, topics):
        if time.monotonic() > deadline or (stop is not None and stop.is_set()):
            return False
        time.sleep(POLL)
    return True


def _leads_elsewhere(cluster: Cluster, leader: int | None) -> bool:
    return leader is not None and leader not in cluster.struck


Ends = list[list[int]]
"""The logs of a partition, the longest last, each by where the batches of its newest segment end."""


def _logs(cluster: Cluster, topics: list[str]) -> dict[str, Ends]:
    logs: dict[str, Ends] = {}
    for broker in cluster.brokers:
        for name, folder in partition_folders(broker.log_directory).items():
            if is_meant(name, topics):
                logs.setdefault(name, []).append([batch.end for batch in last_batches(folder)])
    return {name: sorted(ends, key=_end) for name, ends in logs.items()}


def _end(ends: list[int]) -> int:
    return ends[-1] if ends else 0


def _behind(logs: Ends) -> list[int]:
    """Where all but the longest end."""
    return [_end(ends) for ends in logs[:-1]]


def _beyond(logs: Ends, before: Ends) -> int:
    """How many batches the longest has that were not there before."""
    return sum(end > _end(before[-1]) for end in logs[-1])
