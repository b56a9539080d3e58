"""The known counterexamples in `traces/known/`: one of each published variant that breaks its promise, and KIP-101's in
the reference implementation.

`python -m hwmark.checkers.known FOLDER` finds them again and writes their traces and pictures.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from hwmark.checkers.explore import explore
from hwmark.checkers.simulation.export import export_run
from hwmark.checkers.simulation.scenarios import BROKEN
from hwmark.checkers.simulation.small_cluster import cluster_actions
from hwmark.checkers.simulation.small_cluster import explore as explore_cluster
from hwmark.spec.catalogue import find
from hwmark.traces.diagram import trace_dot
from hwmark.traces.render import render
from hwmark.traces.run_picture import run_dot
from hwmark.traces.run_rows import Choice
from hwmark.traces.trace import Trace, write_trace


@dataclass(frozen=True)
class Known:
    """A counterexample: the smallest bounds that show it, and its length in states."""

    variant: str
    bounds: dict[str, int]
    invariant: str
    states: int

    @property
    def name(self) -> str:
        """The name of its files."""
        return f"replication-{self.variant}"

    def find(self) -> Trace:
        """Search for it."""
        trace = explore(find("replication", self.variant).at(**self.bounds), [self.invariant]).trace
        assert trace is not None, f"{self.variant} keeps its promise at {self.bounds}"
        return trace


def _bounds(replicas: int, log_size: int, records: int, max_epoch: int) -> dict[str, int]:
    return dict(replicas=replicas, log_size=log_size, records=records, max_epoch=max_epoch)


RUN = "refimpl-kip-101"
KNOWN = (
    Known("truncate-to-hw", _bounds(2, 1, 1, 1), "strong_isr", 10),
    Known("kip-101", _bounds(2, 2, 2, 2), "strong_isr", 12),
    Known("kip-279", _bounds(3, 1, 1, 2), "strong_isr", 11),
    Known("kip-320-first-try", _bounds(3, 1, 1, 2), "strong_isr", 13),
)


def find_run() -> tuple[Trace, int]:
    """A run of the reference implementation before KIP-101, and the step at which the scenario begins."""
    (scenario, promise), *_ = BROKEN.items()
    broken = explore_cluster(scenario).broken
    assert broken is not None, f"{scenario.name} keeps its promises"
    actions = cluster_actions(scenario, broken[1])
    first = len(cluster_actions(scenario, ())) + 1
    witness = {"why": broken[0].removeprefix(f"{promise}: ")}
    return export_run(scenario.setup, actions, violated=promise, witness=witness), first


def main(folder: Path) -> None:
    """Write the traces and their pictures."""
    run, first = find_run()
    write_trace(folder / f"{RUN}.ndjson", run)
    picture = run_dot(run, Choice(first=first), RUN)
    (folder / f"{RUN}.svg").write_bytes(render(picture, "svg"))
    for known in KNOWN:
        trace = known.find()
        write_trace(folder / f"{known.name}.ndjson", trace)
        (folder / f"{known.name}.svg").write_bytes(render(trace_dot(trace), "svg"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
