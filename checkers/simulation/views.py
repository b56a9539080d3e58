"""What a picture or a person sees of a cluster: of every machine, and of every message, as JSON.

A machine: {"state": "up" | "down" | "paused", "clock": ms ahead of the cluster's time, ...}. A broker has its
partitions, and whether it is the controller; clients what their applications know. A message: from, to, kind, text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

from hwmark.checkers.simulation.cluster import Cluster, is_response
from hwmark.checkers.simulation.values import is_named_tuple
from hwmark.refimpl.batches import Batch, TopicPartition
from hwmark.refimpl.broker import Broker, Disk
from hwmark.refimpl.consumer import Consumer
from hwmark.refimpl.log import Log
from hwmark.refimpl.machine import Address, Message
from hwmark.refimpl.partition_change import NO_LEADER
from hwmark.refimpl.producer import Producer
from hwmark.refimpl.replica import Replica
from hwmark.refimpl.zookeeper import ZooKeeper, ZooKeeperRequest
from hwmark.traces.changes import Json

View = dict[str, Json]
TEXT_MAX = 160  # characters; longer texts end in an ellipsis


def machine_view(cluster: Cluster, name: Address) -> View:
    """One machine, up or down."""
    machine = cluster.machines.get(name)
    state = "down" if machine is None else "paused" if name in cluster.paused else "up"
    view: View = {"state": state, "clock": cluster.clock_offsets[name]}
    if machine is not None:
        return view | VIEWERS[type(machine)](machine)
    disk = cluster.disks.get(name)
    return view if disk is None else view | disk_view(disk)


def network_view(cluster: Cluster) -> View:
    """All messages in flight, by their ids."""
    return {str(id): message_view(message) for id, message in cluster.in_flight.items()}


def message_view(message: Message) -> View:
    """A message; its kind is the request's name, for a response too, and ZooKeeper's operation."""
    body = message.body
    kind, told = type(body).__name__.removesuffix("Response").removesuffix("Request"), body
    if isinstance(body, ZooKeeperRequest):
        told = body.ops or body.paths
        kind = "Multi" if body.ops else "Read"
        kind = kind if body.session else "Connect"
    return {
        "from": message.source,
        "to": message.destination,
        "kind": kind,
        "is_response": is_response(message),
        "correlation": message.correlation,
        "text": text_of(told) if told else "",
    }


def broker_view(broker: Broker) -> View:
    """A broker that is up."""
    partitions: View = {partition_name(one): replica_view(replica) for one, replica in sorted(broker.replicas.items())}
    return {"controller": broker.controller.is_active, "partitions": partitions}


def disk_view(disk: Disk) -> View:
    """A broker that is down: the logs on its disk."""
    partitions: View = {
        partition_name(one): {"role": "offline", "leader_epoch": -1, "isr": [], **log_view(log)}
        for one, log in sorted(disk.logs.items())
    }
    return {"controller": False, "partitions": partitions}


def replica_view(replica: Replica) -> View:
    """A replica: its role, and its log."""
    role = "leader" if replica.is_leader else "offline" if replica.leader == NO_LEADER else "follower"
    return {"role": role, "leader_epoch": replica.leader_epoch, "isr": list(replica.isr), **log_view(replica.log)}


def log_view(log: Log) -> View:
    """A log: its limits, and a row (offset, leader epoch, value or marker) for each record."""
    return {
        "log_start_offset": log.log_start_offset,
        "high_watermark": log.high_watermark,
        "last_stable_offset": log.last_stable_offset,
        "log_end_offset": log.log_end_offset,
        "log": [row for batch in log.batches for row in batch_rows(batch)],
    }


def batch_rows(batch: Batch) -> list[Json]:
    """The records of a batch."""
    return [[record.offset, batch.leader_epoch, batch.control or value_view(record.value)] for record in batch.records]


def value_view(value: Any) -> Json:
    """A value as itself if JSON has it, else as text."""
    return value if type(value) in (str, int, bool, type(None)) else text_of(value)


def partition_name(topic_partition: TopicPartition) -> str:
    """As Kafka names it: x-0."""
    return f"{topic_partition[0]}-{topic_partition[1]}"


def text_of(value: Any) -> str:
    """A value in one short line for people: fields by name, without those that have their default."""
    text = _text(value)
    return text if len(text) <= TEXT_MAX else text[: TEXT_MAX - 1] + "…"


def _text(value: Any) -> str:
    if isinstance(value, Enum):
        return value.name
    if is_named_tuple(type(value)):
        defaults = value._field_defaults
        told = [(name, getattr(value, name)) for name in value._fields]
        return " ".join([_field(name, each) for name, each in told if name not in defaults or each != defaults[name]])
    if _is_topic_partition(value):
        return partition_name(value)
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_inner, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_inner(key)}: {_inner(each)}' for key, each in value.items())}}}"
    return str(value)


def _field(name: str, value: Any) -> str:
    return _text(value) if name == "topic_partition" else f"{name}={_inner(value)}"


def _inner(value: Any) -> str:
    """A value within another one: what has fields gets parentheses."""
    return f"({_text(value)})" if is_named_tuple(type(value)) else _text(value)


def _is_topic_partition(value: Any) -> bool:
    return type(value) is tuple and len(value) == 2 and type(value[0]) is str and type(value[1]) is int


def zookeeper_view(zookeeper: ZooKeeper) -> View:
    """ZooKeeper: its nodes, and whose sessions it holds."""
    nodes: View = {path: text_of(node.value) for path, node in sorted(zookeeper.nodes.items())}
    return {"sessions": [session.client for session in zookeeper.sessions.values()], "nodes": nodes}


def producer_view(producer: Producer) -> View:
    """A producer: its transaction, and how much it has in hand."""
    batches = [batch for queue in producer.queues.values() for batch in queue.batches]
    return {
        "transaction": producer.state,
        "producer": list(producer.identity),
        "records": sum(len(batch.calls) for batch in batches),
        "in_flight": len(producer.client.outbox.asked),
    }


def consumer_view(consumer: Consumer) -> View:
    """A consumer: where it reads on, and as which member of its group."""
    positions: View = {
        partition_name(one): {"offset": position.offset} for one, position in sorted(consumer.positions.items())
    }
    return {
        "positions": positions,
        "member": consumer.group_metadata.member_id,
        "generation": consumer.group_metadata.generation,
        "in_flight": len(consumer.client.outbox.asked),
    }


VIEWERS: dict[type, Callable[[Any], View]] = {
    Broker: broker_view,
    ZooKeeper: zookeeper_view,
    Producer: producer_view,
    Consumer: consumer_view,
}
