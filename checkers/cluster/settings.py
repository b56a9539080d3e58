"""The properties that nodes are started with: small, and quick to notice a failure."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from hwmark.checkers.cluster.node import CONTROLLER, Node

# Failures are noticed within two seconds; internal topics are small and replicated.
DEFAULTS = {
    "offsets.topic.num.partitions": "3",
    "transaction.state.log.num.partitions": "3",
    "replica.lag.time.max.ms": "2000",
    "broker.heartbeat.interval.ms": "300",
    "broker.session.timeout.ms": "1500",
    "controller.quorum.election.timeout.ms": "500",
    "controller.quorum.fetch.timeout.ms": "1000",
    "group.initial.rebalance.delay.ms": "0",
    "log.cleaner.dedupe.buffer.size": "4194304",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "auto.create.topics.enable": "false",
}


def properties(node: Node, nodes: Sequence[Node], settings: Mapping[str, str]) -> dict[str, str]:
    """The properties of a node; what the user has set counts most."""
    controllers = [other for other in nodes if other.role == CONTROLLER]
    brokers = len(nodes) - len(controllers)
    replicas = str(min(3, brokers))
    own = {
        "process.roles": node.role,
        "node.id": str(node.id),
        "controller.quorum.voters": ",".join(f"{other.id}@{other.address}" for other in controllers),
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "listeners": f"{'CONTROLLER' if node.role == CONTROLLER else 'PLAINTEXT'}://{node.address}",
        "log.dirs": str(node.log_directory),
        "offsets.topic.replication.factor": replicas,
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": str(min(2, brokers)),
        "default.replication.factor": replicas,
    }
    if node.role != CONTROLLER:
        own["advertised.listeners"] = own["listeners"]
    return {**DEFAULTS, **own, **settings}


def write_properties(file: Path, values: Mapping[str, str]) -> None:
    """A properties file as Java reads it."""
    file.write_text("".join(f"{name}={_escaped(value)}\n" for name, value in values.items()), encoding="latin-1")


def random_id() -> str:
    """An id as Kafka's Uuid writes it: 22 characters of URL-safe base64."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").encode("ascii", "backslashreplace").decode()
