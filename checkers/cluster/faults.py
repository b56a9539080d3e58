"""What a cluster is made to suffer, and what undoes it: processes, links and disks of its nodes.

A fault is data: a kind, whom it hits, and how much. `apply` makes it happen, and answers what was done, for the
history. Besides the faults there are two kinds for schedules: `await` waits for a condition, `restore` undoes all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from random import Random
from threading import Event
from typing import TYPE_CHECKING, Any, NamedTuple

from hwmark.checkers.cluster import acts
from hwmark.checkers.cluster import network as links
from hwmark.checkers.cluster.acts import Asked, Fault
from hwmark.checkers.cluster.conditions import CONDITIONS
from hwmark.checkers.cluster.errors import ClusterError
from hwmark.checkers.cluster.node import BROKER, DOWN, PAUSED, UP
from hwmark.checkers.cluster.targets import KNOWN, resolve

if TYPE_CHECKING:
    from hwmark.checkers.cluster.cluster import Cluster

__all__ = ["KINDS", "Fault", "Kind", "apply", "refuse", "why_not"]


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
    "kill": Kind(acts.kill, (UP, PAUSED), strikes=True),
    "terminate": Kind(acts.terminate, (UP, PAUSED), strikes=True),
    "pause": Kind(acts.pause, (UP,), strikes=True),
    "resume": Kind(acts.resume, (UP, PAUSED), ("paused",)),
    "restart": Kind(acts.restart, default=("down",)),
    "partition": Kind(acts.partition, on_links=True, takes_others=True, strikes=True),
    "one-way": Kind(acts.cut_one_way, on_links=True, takes_others=True, strikes=True),
    "isolate": Kind(acts.isolate, on_links=True, takes_others=True, strikes=True),
    "unplug": Kind(acts.unplug, on_links=True, strikes=True),
    "heal": Kind(acts.heal, default=("brokers", "controllers"), on_links=True),
    "lose-unflushed": Kind(
        acts.lose_unflushed,
        (DOWN,),
        on_disk=True,
        takes_others=True,
        amount=lambda x: 0 < x <= 1,
        unit="a share above 0 and up to 1",
    ),
    "truncate": Kind(
        acts.truncate,
        (DOWN,),
        on_disk=True,
        takes_others=True,
        amount=lambda x: x >= 1 and x == int(x),
        unit="a whole number of records from 1 on",
    ),
    "wipe": Kind(acts.wipe, (DOWN,), on_disk=True),
    "await": Kind(acts.wait, amount=lambda x: x > 0, unit="seconds above 0"),
    "restore": Kind(acts.restore),
}
