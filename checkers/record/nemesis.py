"""The faults of a recording: steps of a schedule, each done when its time has come, and the end of all of them."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from hwmark.checkers.cluster.cluster import Cluster
from hwmark.checkers.cluster.errors import ClusterError
from hwmark.checkers.cluster.node import DOWN, PAUSED
from hwmark.checkers.record.run import Run, pause

if TYPE_CHECKING:
    from hwmark.checkers.cluster.faults import Fault
    from hwmark.checkers.cluster.recipes import Step

MENDING = ("await", "heal", "resume", "restart", "restore")
"""Kinds that break nothing."""

Apply = Callable[[Cluster, Any, random.Random, Sequence[str], threading.Event], dict[str, Any]]


class Nemesis:
    """Whoever breaks the cluster; `run` is a thread's work, `heal` mends everything after it.

    `apply` does a fault and says what it did, as `hwmark.checkers.cluster.faults.apply` does.
    """

    def __init__(self, cluster: Cluster, steps: Sequence[Step], seed: int, apply: Apply) -> None:
        self.cluster, self.steps, self.apply = cluster, steps, apply
        self.draw = random.Random(f"{seed}/faults")

    def run(self, run: Run) -> None:
        """Go through the steps, all of them unless somebody stops it; the workload goes on until the last is done."""
        done = 0.0
        try:
            for step in self.steps:
                pause(run, max(step.at, done + step.after) - run.elapsed)
                if run.stop.is_set():
                    return
                self._take(run, step.fault)
                done = run.elapsed
        finally:
            run.faults_are_due = False

    def _take(self, run: Run, fault: Fault) -> None:
        try:
            told = self.apply(self.cluster, fault, self.draw, run.workload.input_topics, run.stop)
        except ClusterError as error:
            told = {"fault": fault.kind, "failed": str(error)}
        if fault.kind != "await" or not told.get("met"):  # what was waited for, and came, is nothing that happened
            run.writer.note(fault.kind, value_of(told))
        run.writer.faults += fault.kind not in MENDING

    def heal(self, run: Run) -> None:
        """Heal links, resume and restart, and wait until all brokers serve. ClusterError if one does not."""
        cluster = self.cluster
        if cluster.network is not None:
            cluster.network.heal(node.id for node in cluster.nodes)
        for node in (*cluster.controllers, *cluster.brokers):
            state = node.state()
            if state == PAUSED:
                node.resume()
            elif state == DOWN:
                cluster.start_node(node)
        try:
            cluster.await_brokers()
        finally:
            run.writer.note("final-heal", None)


def value_of(told: dict[str, Any]) -> Any:
    """What the history has of a fault: the nodes, or all of it if there is more to tell."""
    rest = {name: value for name, value in told.items() if name != "fault"}
    return rest["nodes"] if rest.keys() == {"nodes"} else rest
