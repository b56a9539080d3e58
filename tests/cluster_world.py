"""A cluster without Kafka: real processes that only sleep, for what needs no broker."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from hwmark.checkers.cluster.cluster import FIRST_CONTROLLER, Cluster
from hwmark.checkers.cluster.distribution import Distribution, _digest
from hwmark.checkers.cluster.java import Java
from hwmark.checkers.cluster.node import BROKER, CONTROLLER, Node
from hwmark.checkers.cluster.strays import MARK
from hwmark.checkers.cluster.views import Seen

SLEEPS = "import time; print('asleep', flush=True); time.sleep(600)"


def cluster(folder: Path, brokers: int = 3, controllers: int = 1) -> Cluster:
    """Nodes that are down, with formatted log directories."""
    cache = folder.parent / "cache"
    template = cache / f"formatted-{_digest()}"
    template.mkdir(parents=True, exist_ok=True)
    (template / "bootstrap.checkpoint").touch()
    roles = [(id, BROKER) for id in range(1, brokers + 1)]
    roles += [(id, CONTROLLER) for id in range(FIRST_CONTROLLER, FIRST_CONTROLLER + controllers)]
    folder.mkdir(parents=True)
    nodes = [Node(id, role, "127.0.0.1", 9, folder / f"{role}-{id}") for id, role in roles]
    made = Cluster(folder, Distribution("4.3.1", cache / "libs", cache), Java("java", 17), nodes)
    for node in nodes:
        made.format(node)
    made.save()
    return made


def start(cluster: Cluster, *ids: int) -> None:
    """Let nodes run, all or some."""
    for node in cluster.nodes:
        if not ids or node.id in ids:
            node.start([sys.executable, "-c", SLEEPS, f"{MARK}{cluster.folder}"])
    for node in cluster.nodes:
        while node.process() is not None and not node.output.read_text():
            time.sleep(0.01)
    cluster.save()


def seen(leader: int | None, *isr: int) -> Seen:
    """A partition of three replicas."""
    return Seen(leader, isr, (1, 2, 3))
