"""The known counterexamples in `traces/known/`: one for each published variant that breaks its promise.

`python -m hwmark.checkers.known FOLDER` finds them again and writes their traces and pictures.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from hwmark.checkers.explore import explore
from hwmark.spec.catalogue import find
from hwmark.traces.diagram import trace_dot
from hwmark.traces.render import render
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


KNOWN = (
    Known("truncate-to-hw", _bounds(2, 1, 1, 1), "strong_isr", 10),
    Known("kip-101", _bounds(2, 2, 2, 2), "strong_isr", 12),
    Known("kip-279", _bounds(3, 1, 1, 2), "strong_isr", 11),
    Known("kip-320-first-try", _bounds(3, 1, 1, 2), "strong_isr", 13),
)


def main(folder: Path) -> None:
    """Write the traces and their pictures."""
    for known in KNOWN:
        trace = known.find()
        write_trace(folder / f"{known.name}.ndjson", trace)
        (folder / f"{known.name}.svg").write_bytes(render(trace_dot(trace), "svg"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
