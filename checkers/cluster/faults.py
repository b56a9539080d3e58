"""What a cluster is made to suffer, and what undoes it: processes, links and disks of its nodes.

A fault is data: a kind, whom it hits, and how much. `apply` makes it happen, and answers what was done, for the
history. Besides the faults there are two kinds for schedules: `await` waits for a condition, `restore` undoes all.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Sequence
from random import Random
from threading import Event
from typing import TYPE_CHECKING, Any, NamedTuple

from hwmark.checkers.cluster import disks
from hwmark.checkers.cluster import network as links
from hwmark.checkers.cluster.conditions import CONDITIONS, hold
from hwmark.checkers.cluster.errors import ClusterError
from hwmark.checkers.cluster.logs import Cut
from hwmark.checkers.cluster.node import BROKER, DOWN, PAUSED, UP, Node
from hwmark.checkers.cluster.ports import listens
from hwmark.checkers.cluster.targets import KNOWN, partition_of, resolve
from hwmark.checkers.cluster.views import partition_name

if TYPE_CHECKING:
    from hwmark.checkers.cluster.cluster import Cluster

SERVE_TIMEOUT, WAIT_TIMEOUT, RESTORE_TIMEOUT = 20.0, 20.0, 40.0  # s
POLL = 0.05  # s between looks


class Fault(NamedTuple):
    """What is to happen.

    `targets` are resolved when it happens (see `targets.resolve`); for `await` they are one of `CONDITIONS`. `others`
    is the far side of a cut (all other nodes if empty), or, for the disk, the partitions ("TOPIC-0"; all if empty).
    `amount` is the share of the unflushed batches that is lost (0 to 1), the records that are cut off, or the seconds
    that are waited at most. With `torn` a disk keeps a part of the first batch that goes.
    """

    kind: str
    targets: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    amount: float | None = None
    torn: bool = False


class Asked(NamedTuple):
    """A fault that happens now, and whom it hits."""

    cluster: Cluster
    fault: Fault
    nodes: list[Node]
    rng: Random
    topics: list[str]
    stop: Event | None


def apply(
    cluster: Cluster, fault: Fault, rng: Random, topics: Sequence[str] = (), stop: Event | None = None
) -> dict[str, Any]:
    """Make a fault happen. What was done: `fault`, `nodes` by id, and more by kind.

    `topics` are those that roles without a partition and conditions mean: all but Kafka's own if there are none.
    Once `stop` is set nothing is waited for any longer. ClusterError if it cannot be done; before anything was, unless
    the machine failed.
    """
    refuse(fault)
    if reason := why_not(cluster, fault.kind):
        raise ClusterError(reason)
    kind = KINDS[fault.kind]
    known = list(topics)
    targets = () if fault.kind == "await" else fault.targets or kind.default
    nodes = resolve(cluster, targets, rng, known)
    for node in nodes:
        if node.state() not in kind.states:
            raise ClusterError(f"{fault.kind}: {node.name} is {node.state()}")
        if kind.on_disk and node.role != BROKER:
            raise ClusterError(f"{fault.kind}: {node.name} is no broker, and only those hold partitions")
    try:
        more = kind.act(Asked(cluster, fault, nodes, rng, known, stop))
    except OSError as error:
        raise ClusterError(f"{fault.kind}: {error.filename}: {(error.strerror or str(error)).lower()}") from None
    if kind.strikes:
        cluster.struck = [node.id for node in nodes]
        cluster.save()
    return {"fault": fault.kind, "nodes": [node.id for node in nodes], **more}


def refuse(fault: Fault) -> None:
    """ClusterError for a fault that is not well said, whatever the cluster."""
    kind = KINDS.get(fault.kind)
    if kind is None:
        raise ClusterError(f"{fault.kind!r} is no fault; known are {', '.join(KINDS)}")
    if fault.kind == "restore" and fault.targets:
        raise ClusterError("restore takes no targets: it is for all nodes")
    if fault.kind == "await" and (len(fault.targets) != 1 or fault.targets[0] not in CONDITIONS):
        raise ClusterError(f"await: expected one of {', '.join(CONDITIONS)}")
    if not fault.targets and not kind.default and fault.kind != "restore":
        raise ClusterError(f"{fault.kind}: say whom it is to hit; known are {KNOWN}")
    if fault.others and not kind.takes_others:
        raise ClusterError(f"{fault.kind} takes no others")
    if fault.torn and not (kind.on_disk and kind.amount):
        raise ClusterError(f"{fault.kind} tears no batch")
    if fault.amount is not None and kind.amount is None:
        raise ClusterError(f"{fault.kind} takes no amount")
    if fault.amount is not None and kind.amount and not (math.isfinite(fault.amount) and kind.amount(fault.amount)):
        raise ClusterError(f"{fault.kind}: expected {kind.unit}, not {fault.amount:g}")


def why_not(cluster: Cluster, kind: str) -> str | None:
    """What keeps a kind of fault from being done in this cluster; None if nothing does."""
    if kind not in KINDS or not KINDS[kind].on_links or cluster.network is not None:
        return None
    reason = links.why_not()
    return f"{kind}: the cluster has no network of its own" + (
        f", and cannot: {reason}" if reason else "; start it with --network"
    )


def restore(cluster: Cluster, stop: Event | None = None) -> dict[str, Any]:
    """Undo what can be undone: links joined, nodes resumed or started again, replicas in sync.

    ClusterError if a node cannot be started. Whether all were in sync in the end, and who was resumed and restarted.
    """
    if cluster.network is not None:
        cluster.network.heal(node.id for node in cluster.nodes)
    paused = resolve(cluster, ["paused"], Random(0), [])
    for node in paused:
        node.resume()
    down = resolve(cluster, ["down"], Random(0), [])
    _start(cluster, down, stop)
    met = hold(cluster, "in-sync", [], RESTORE_TIMEOUT, stop)
    return {"resumed": [node.id for node in paused], "restarted": [node.id for node in down], "met": met}


# ------------------------------------------------------------ processes


def _kill(asked: Asked) -> dict[str, Any]:
    asked.cluster.stop_nodes(asked.nodes, signal.SIGKILL)
    return {}


def _terminate(asked: Asked) -> dict[str, Any]:
    return {"killed": asked.cluster.stop_nodes(asked.nodes)}


def _pause(asked: Asked) -> dict[str, Any]:
    for node in asked.nodes:
        node.pause()
    return {}


def _resume(asked: Asked) -> dict[str, Any]:
    for node in asked.nodes:
        node.resume()
    return {}


def _restart(asked: Asked) -> dict[str, Any]:
    asked.cluster.stop_nodes([node for node in asked.nodes if node.state() != DOWN])
    return {"serving": _start(asked.cluster, asked.nodes, asked.stop)}


def _start(cluster: Cluster, nodes: list[Node], stop: Event | None) -> bool:
    """Start nodes, controllers first, and wait for the brokers; whether they serve. ClusterError if one ends."""
    for node in sorted(nodes, key=lambda node: node.role == BROKER):
        cluster.start_node(node)
    brokers, deadline = [node for node in nodes if node.role == BROKER], time.monotonic() + SERVE_TIMEOUT
    while not (all(listens(node.host, node.port) for node in nodes) and cluster.serve(brokers)):
        cluster.check_alive(nodes)
        if time.monotonic() > deadline or (stop is not None and stop.is_set()):
            return False
        time.sleep(POLL)
    return True


# ------------------------------------------------------------ links


def _partition(asked: Asked) -> dict[str, Any]:
    others = _others(asked)
    _network(asked).partition(_ids(asked.nodes), others)
    return {"others": others}


def _cut_one_way(asked: Asked) -> dict[str, Any]:
    others = _others(asked)
    _network(asked).cut(_ids(asked.nodes), others)
    return {"others": others}


def _isolate(asked: Asked) -> dict[str, Any]:
    """Each for itself: two that are isolated do not reach each other either."""
    others = _others(asked)
    for id in _ids(asked.nodes):
        _network(asked).partition([id], [*others, *(other for other in _ids(asked.nodes) if other != id)])
    return {"others": others}


def _unplug(asked: Asked) -> dict[str, Any]:
    for id in _ids(asked.nodes):
        _network(asked).unplug(id)
    return {}


def _heal(asked: Asked) -> dict[str, Any]:
    _network(asked).heal(_ids(asked.nodes))
    return {}


def _others(asked: Asked) -> list[int]:
    """The far side of a cut."""
    hit = _ids(asked.nodes)
    if not asked.fault.others:
        others = [node.id for node in asked.cluster.nodes if node.id not in hit]
    else:
        others = _ids(resolve(asked.cluster, asked.fault.others, asked.rng, asked.topics))
        if both := sorted(set(others) & set(hit)):
            raise ClusterError(f"{asked.fault.kind}: node {both[0]} is on both sides")
    if not hit or not others:
        raise ClusterError(f"{asked.fault.kind}: there is nobody on one of the sides")
    return others


def _network(asked: Asked) -> links.Network:
    assert asked.cluster.network is not None  # why_not was asked
    return asked.cluster.network


def _ids(nodes: list[Node]) -> list[int]:
    return [node.id for node in nodes]


# ------------------------------------------------------------ disks


def _lose_unflushed(asked: Asked) -> dict[str, Any]:
    fault, names = asked.fault, _partitions(asked)
    cuts = {
        node.id: disks.lose_unflushed(
            node.log_directory, asked.rng, share=fault.amount, partitions=names, torn=fault.torn
        )
        for node in asked.nodes
    }
    return {"lost": _told(cuts)}


def _truncate(asked: Asked) -> dict[str, Any]:
    fault, names = asked.fault, _partitions(asked)
    records = None if fault.amount is None else int(fault.amount)
    cuts = {
        node.id: disks.truncate(node.log_directory, asked.rng, records=records, partitions=names, torn=fault.torn)
        for node in asked.nodes
    }
    return {"lost": _told(cuts)}


def _wipe(asked: Asked) -> dict[str, Any]:
    """A new disk, formatted as an operator would before the broker starts again."""
    wiped = {}
    for node in asked.nodes:
        wiped[node.id] = disks.wipe(node.log_directory)
        asked.cluster.format(node)
    return {"wiped": [{"node": id, "partitions": names} for id, names in wiped.items()]}


def _partitions(asked: Asked) -> list[str] | None:
    """The partitions that are meant: named as others, or with a role. None for all."""
    named = [partition_name(text) for text in asked.fault.others]
    named += [name for target in asked.fault.targets if (name := partition_of(target))]
    return sorted(set(named)) or None


def _told(cuts: dict[int, list[Cut]]) -> list[dict[str, Any]]:
    return [{"node": id, **one._asdict()} for id, of_node in cuts.items() for one in of_node]


# ------------------------------------------------------------ waiting, and the end


def _await(asked: Asked) -> dict[str, Any]:
    (condition,), amount = asked.fault.targets, asked.fault.amount
    started = time.monotonic()
    met = hold(asked.cluster, condition, asked.topics, WAIT_TIMEOUT if amount is None else amount, asked.stop)
    return {"condition": condition, "met": met, "seconds": round(time.monotonic() - started, 3)}


def _restore(asked: Asked) -> dict[str, Any]:
    return restore(asked.cluster, asked.stop)


class Kind(NamedTuple):
    """How a kind of fault is done, and to whom it can be done."""

    act: Callable[[Asked], dict[str, Any]]
    states: tuple[str, ...] = (UP, PAUSED, DOWN)
    default: tuple[str, ...] = ()
    on_links: bool = False
    on_disk: bool = False
    takes_others: bool = False
    strikes: bool = False
    amount: Callable[[float], bool] | None = None
    unit: str = ""


KINDS: dict[str, Kind] = {
    "kill": Kind(_kill, (UP, PAUSED), strikes=True),
    "terminate": Kind(_terminate, (UP, PAUSED), strikes=True),
    "pause": Kind(_pause, (UP,), strikes=True),
    "resume": Kind(_resume, (UP, PAUSED), ("paused",)),
    "restart": Kind(_restart, default=("down",)),
    "partition": Kind(_partition, on_links=True, takes_others=True, strikes=True),
    "one-way": Kind(_cut_one_way, on_links=True, takes_others=True, strikes=True),
    "isolate": Kind(_isolate, on_links=True, takes_others=True, strikes=True),
    "unplug": Kind(_unplug, on_links=True, strikes=True),
    "heal": Kind(_heal, default=("brokers", "controllers"), on_links=True),
    "lose-unflushed": Kind(
        _lose_unflushed,
        (DOWN,),
        on_disk=True,
        takes_others=True,
        amount=lambda x: 0 < x <= 1,
        unit="a share above 0 and up to 1",
    ),
    "truncate": Kind(
        _truncate,
        (DOWN,),
        on_disk=True,
        takes_others=True,
        amount=lambda x: x >= 1 and x == int(x),
        unit="a whole number of records from 1 on",
    ),
    "wipe": Kind(_wipe, (DOWN,), on_disk=True),
    "await": Kind(_await, amount=lambda x: x > 0, unit="seconds above 0"),
    "restore": Kind(_restore),
}
