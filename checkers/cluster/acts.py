"""What each kind of fault does to the nodes that it hits: to their processes, links and disks.

Each answers what there is to tell of it, besides whom it hit.
"""

from __future__ import annotations

import signal
import time
from random import Random
from threading import Event
from typing import TYPE_CHECKING, Any, NamedTuple

from hwmark.checkers.cluster import disks
from hwmark.checkers.cluster.conditions import hold
from hwmark.checkers.cluster.errors import ClusterError
from hwmark.checkers.cluster.logs import Cut
from hwmark.checkers.cluster.network import Network
from hwmark.checkers.cluster.node import BROKER, DOWN, Node
from hwmark.checkers.cluster.ports import listens
from hwmark.checkers.cluster.targets import partition_of, resolve
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


# ------------------------------------------------------------ processes


def kill(asked: Asked) -> dict[str, Any]:
    """Kill -9, all at once."""
    asked.cluster.stop_nodes(asked.nodes, signal.SIGKILL)
    return {}


def terminate(asked: Asked) -> dict[str, Any]:
    """Stop properly, all at once; `killed` are those that had to be killed after all."""
    return {"killed": asked.cluster.stop_nodes(asked.nodes)}


def pause(asked: Asked) -> dict[str, Any]:
    """Stop the processes where they are."""
    for node in asked.nodes:
        node.pause()
    return {}


def resume(asked: Asked) -> dict[str, Any]:
    """Let paused processes go on."""
    for node in asked.nodes:
        node.resume()
    return {}


def restart(asked: Asked) -> dict[str, Any]:
    """Start again, after a proper stop if need be; whether the brokers serve in the end."""
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


def partition(asked: Asked) -> dict[str, Any]:
    """Cut both ways."""
    others = _others(asked)
    _network(asked).partition(_ids(asked.nodes), others)
    return {"others": others}


def cut_one_way(asked: Asked) -> dict[str, Any]:
    """Cut what these send to the others."""
    others = _others(asked)
    _network(asked).cut(_ids(asked.nodes), others)
    return {"others": others}


def isolate(asked: Asked) -> dict[str, Any]:
    """Each for itself: two that are isolated do not reach each other either."""
    others = _others(asked)
    for id in _ids(asked.nodes):
        _network(asked).partition([id], [*others, *(other for other in _ids(asked.nodes) if other != id)])
    return {"others": others}


def unplug(asked: Asked) -> dict[str, Any]:
    """Cut the nodes off from everybody, clients too."""
    for id in _ids(asked.nodes):
        _network(asked).unplug(id)
    return {}


def heal(asked: Asked) -> dict[str, Any]:
    """Join all links of these nodes."""
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


def _network(asked: Asked) -> Network:
    assert asked.cluster.network is not None  # why_not was asked
    return asked.cluster.network


def _ids(nodes: list[Node]) -> list[int]:
    return [node.id for node in nodes]


# ------------------------------------------------------------ disks


def lose_unflushed(asked: Asked) -> dict[str, Any]:
    """Lose what the disks need not have yet."""
    fault, names = asked.fault, _partitions(asked)
    cuts = {
        node.id: disks.lose_unflushed(
            node.log_directory, asked.rng, share=fault.amount, partitions=names, torn=fault.torn
        )
        for node in asked.nodes
    }
    return {"lost": _told(cuts)}


def truncate(asked: Asked) -> dict[str, Any]:
    """Cut logs short. ClusterError if there is nothing in any of them."""
    fault, names = asked.fault, _partitions(asked)
    records = None if fault.amount is None else int(fault.amount)
    cuts = {
        node.id: disks.truncate(node.log_directory, asked.rng, records=records, partitions=names, torn=fault.torn)
        for node in asked.nodes
    }
    if not any(cuts.values()):
        raise ClusterError("truncate: there is no record to cut off")
    return {"lost": _told(cuts)}


def wipe(asked: Asked) -> dict[str, Any]:
    """A new disk, formatted as an operator would before the broker starts again."""
    wiped = {}
    for node in asked.nodes:
        wiped[node.id] = disks.wipe(node.log_directory)
        asked.cluster.format(node)
    return {"wiped": [{"node": id, "partitions": names} for id, names in wiped.items()]}


def _partitions(asked: Asked) -> list[str] | None:
    """The partitions that are meant: by others or with a role; None for all. ClusterError if one is missing."""
    named = [partition_name(text) for text in asked.fault.others]
    named += [name for target in asked.fault.targets if (name := partition_of(target))]
    names = sorted(set(named)) or None
    for node in asked.nodes:
        disks.chosen(node.log_directory, names)
    return names


def _told(cuts: dict[int, list[Cut]]) -> list[dict[str, Any]]:
    return [{"node": id, **one._asdict()} for id, of_node in cuts.items() for one in of_node]


# ------------------------------------------------------------ waiting, and the end


def wait(asked: Asked) -> dict[str, Any]:
    """Wait for a condition; whether it came, and how long that took."""
    (condition,), amount = asked.fault.targets, asked.fault.amount
    started = time.monotonic()
    met = hold(asked.cluster, condition, asked.topics, WAIT_TIMEOUT if amount is None else amount, asked.stop)
    return {"condition": condition, "met": met, "seconds": round(time.monotonic() - started, 3)}


def restore(asked: Asked) -> dict[str, Any]:
    """Undo what can be undone: links joined, nodes resumed or started again, replicas in sync.

    ClusterError if a node cannot be started. Whether all were in sync in the end, and who was resumed and restarted.
    """
    cluster = asked.cluster
    if cluster.network is not None:
        cluster.network.heal(_ids(cluster.nodes))
    paused = resolve(cluster, ["paused"], asked.rng, [])
    for node in paused:
        node.resume()
    down = resolve(cluster, ["down"], asked.rng, [])
    _start(cluster, down, asked.stop)
    met = hold(cluster, "in-sync", [], RESTORE_TIMEOUT, asked.stop)
    return {"resumed": _ids(paused), "restarted": _ids(down), "met": met}
