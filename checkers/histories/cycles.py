"""Operations that depend on each other in circles, with and without real time: G0, G1c and what shows that they exist.

For each component of all the relations together (write-write, write-read and real time) it is asked which relations
suffice for a cycle. Of those that suffice, the smaller hides the larger. Each one that is left is reported twice, in
the two languages of Elle: as the consistency model that it rules out (`PL-2-cycle-exists` ...) with the smallest
component of just these relations, and as a witness (`G1c` ...), a shortest cycle. There is no limit of time.

With ww_deps, the reference may name a cycle through real time by other relations that happen to hold along it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from hwmark.checkers.histories.components import Components, Effort, components
from hwmark.checkers.histories.dependencies import Dependencies, Edges
from hwmark.checkers.histories.evidence import NOWHERE, Evidence, Rows
from hwmark.checkers.histories.kinds import Anomaly
from hwmark.checkers.histories.report import Options
from hwmark.checkers.histories.witnesses import Cycle, dependency_cycles, realtime_cycles

EMPTY = "empty-transaction-graph"
TOLD_MAX = 8


@dataclass(frozen=True)
class Level:
    """Relations of which there may be cycles: write-write always, and these.

    `exists` and `witness` are the types of anomaly, `rules_out` the consistency model that such a cycle violates.
    """

    exists: str
    witness: str
    rules_out: str
    reads: bool
    realtime: bool

    def hides(self, other: Level) -> bool:
        """Whether every cycle of this level is one of the other."""
        return self.reads <= other.reads and self.realtime <= other.realtime


LEVELS = (
    Level("PL-1-cycle-exists", "G0", "read-uncommitted", reads=False, realtime=False),
    Level("PL-2-cycle-exists", "G1c", "read-committed", reads=True, realtime=False),
    Level("strong-PL-1-cycle-exists", "G0-realtime", "strong-read-uncommitted", reads=False, realtime=True),
    Level("strong-PL-2-cycle-exists", "G1c-realtime", "strong-read-committed", reads=True, realtime=True),
)
CYCLE_TYPES = (*(level.exists for level in LEVELS), *(level.witness for level in LEVELS), EMPTY)


def cycles(evidence: Evidence, options: Options) -> dict[str, list[Anomaly]]:
    """All cycles, by type.

    A `...-cycle-exists` is {type, not, scc-size, scc, cycle}, a witness {type, cycle, steps, shortest, story}; `scc`
    and `cycle` are indices of operations, the first again at the end of the cycle. A step is {type: ww | wr | realtime,
    key, value, value'}: `value'` was written right behind `value`.
    """
    return CycleSearch(Dependencies(evidence, options.ww_deps), Effort()).anomalies()


@dataclass
class CycleSearch:
    """The search for the cycles of one history."""

    dependencies: Dependencies
    effort: Effort

    def anomalies(self) -> dict[str, list[Anomaly]]:
        """What `cycles` returns."""
        if self.dependencies.are_empty():
            return {EMPTY: [{}]}
        whole = self._components(self.dependencies.concurrent(), realtime=True)
        found: dict[str, list[Anomaly]] = {}
        if len(whole):
            edges = self.dependencies.edges(lambda a, b: (whole.of[a] == whole.of[b]) & (whole.of[a] != NOWHERE))
            hidden: list[set[int]] = [set() for _ in LEVELS]
            for number, level in enumerate(LEVELS):
                for component in self._add(found, level, edges, whole, hidden[number]):
                    for other in range(number + 1, len(LEVELS)):
                        if level.hides(LEVELS[other]):
                            hidden[other].add(component)
        return found

    def _components(self, edges: Edges, *, realtime: bool) -> Components:
        return components(edges, self.dependencies.moments, self.effort, realtime=realtime)

    def _add(
        self, found: dict[str, list[Anomaly]], level: Level, edges: Edges, whole: Components, hidden: set[int]
    ) -> list[int]:
        """Add the cycles of one level; returns the components of the whole that have any."""
        shown = np.ones(len(whole), dtype=bool)
        shown[list(hidden)] = False
        edges = edges.where(shown[whole.of[edges.target]] & (level.reads | edges.is_ww))
        circles = self._components(edges, realtime=level.realtime)
        if not len(circles):
            return []
        cycles = self._cycles(level, edges.within(circles.of), circles, whole)
        smallest = self._smallest(circles, whole)
        for component in sorted(smallest):
            witness = self._witness(level, cycles[component])
            found.setdefault(level.witness, []).append(witness)
            scc = smallest[component]
            exists = {"type": level.exists, "not": level.rules_out, "scc-size": len(scc), "scc": scc}
            found.setdefault(level.exists, []).append(exists | {"cycle": witness["cycle"]})
        return list(smallest)

    def _cycles(self, level: Level, edges: Edges, circles: Components, whole: Components) -> dict[int, Cycle]:
        """A shortest cycle of each component of the whole that has cycles of a level."""
        if level.realtime:
            return realtime_cycles(edges, circles, whole.of, self.dependencies.moments, self.effort)
        return dependency_cycles(edges, whole.of, self.effort)

    def _smallest(self, circles: Components, whole: Components) -> dict[int, list[int]]:
        """The smallest of the circles in each component of the whole, the earliest of several, by index."""
        smallest: dict[int, list[int]] = {}
        for members in circles.members():
            component, circle = int(whole.of[members[0]]), sorted(self.index[members].tolist())
            if component not in smallest or (len(circle), circle) < (len(smallest[component]), smallest[component]):
                smallest[component] = circle
        return smallest

    @property
    def index(self) -> Rows:
        """The index of each operation's record."""
        return self.dependencies.evidence.history.operations.index

    def _witness(self, level: Level, cycle: Cycle) -> Anomaly:
        """A cycle as plain data, told from its first step on and listed from its earliest operation on."""
        rows = cycle.operations
        steps = [self._step(level, a, b) for a, b in pairwise(rows)]
        steps.append(_REALTIME if level.realtime else self._step(level, rows[-1], rows[0]))
        names = self.index[rows].tolist()
        first = names.index(min(names))
        return {
            "type": level.witness,
            "cycle": [*names[first:], *names[:first], names[first]],
            "steps": steps[first:] + steps[:first],
            "shortest": cycle.is_shortest,
            "story": _story(names, steps) + ("" if cycle.is_shortest else " (there may be a shorter cycle)"),
        }

    def _step(self, level: Level, before: int, after: int) -> Anomaly:
        """Why one operation depends on another."""
        evidence = self.dependencies.evidence
        message = self.dependencies.written_behind(before, after)
        if message is not None:
            previous = int(self.dependencies.previous[message])
            values = {"value": evidence.value_of(previous), "value'": evidence.value_of(message)}
            return {"type": "ww", "key": evidence.key_of(message)} | values
        message = self.dependencies.read_by(before, after)
        assert level.reads and message is not None
        return {"type": "wr", "key": evidence.key_of(message), "value": evidence.value_of(message)}


_REALTIME: Anomaly = {"type": "realtime"}


def _story(names: list[int], steps: list[Anomaly]) -> str:
    """The steps of a cycle in words; of a long one, the first and the last."""
    told = [_told(step, a, b) for step, a, b in zip(steps, names, names[1:] + names[:1], strict=True)]
    last = f"; {'but' if steps[-1] is _REALTIME else 'and'} {told.pop()}"
    more = len(told) - TOLD_MAX
    return "; ".join(told[:TOLD_MAX]) + (f"; and so on over {more:,} more" if more > 0 else "") + last


def _told(step: Anomaly, before: int, after: int) -> str:
    """One step in words."""
    if step is _REALTIME:
        return f"operation {before} had completed before operation {after} was invoked"
    if step["type"] == "wr":
        return f"operation {after} read value {step['value']} of key {step['key']}, which operation {before} sent"
    places = f"value {step[_VALUE]} of key {step['key']} right behind value {step['value']}"
    return f"operation {after} wrote {places}, which operation {before} sent"


_VALUE = "value'"
