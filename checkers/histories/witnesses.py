"""Shortest cycles: for each component the fewest operations that show it.

A shortest cycle through real time has exactly one realtime step. If every stretch of dependencies on a cycle ended with
an operation acknowledged after the stretch's first one was invoked, time would pass from each stretch to the next and
the cycle could not close; so some stretch ends before it began, and its end and its beginning are a realtime step that
closes it alone. What is sought is therefore the shortest path of dependencies to an operation that was acknowledged
before the path's first one was invoked.

The effort is bounded, by rounds or by visits and not by time; where the bound is reached there may be a shorter cycle,
and the witness says so.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
from hwmark.checkers.histories.components import Components, Effort
from hwmark.checkers.histories.dependencies import Edges, Moments
from hwmark.checkers.histories.evidence import NOWHERE, Rows, changes
from numpy.typing import NDArray

# Steps up to which cycles through real time are certainly shortest.
ROUNDS_MAX = 64
# Visits up to which cycles of dependencies are certainly shortest.
VISITS_MIN = 100_000
VISITS_PER_EDGE = 16

Incoming = dict[int, list[int]]
Wave = tuple[Rows, Rows]


@dataclass(frozen=True)
class Cycle:
    """Operations each of which leads to the next and the last to the first; `is_shortest` if no cycle has fewer.

    Through real time, if at all, leads the last step alone.
    """

    operations: list[int]
    is_shortest: bool = True


def dependency_cycles(edges: Edges, group: Rows, effort: Effort) -> dict[int, Cycle]:
    """A shortest cycle of each group of operations that has edges; every edge is on some cycle."""
    cycles = _mutual(edges, group)
    effort.visits += len(edges)
    rest = edges.where(~np.isin(group[edges.target], list(cycles)))
    for number, incoming in _incoming_by_group(rest, group).items():
        cycles[number] = _shortest(incoming, effort)
    return cycles


def _mutual(edges: Edges, group: Rows) -> dict[int, Cycle]:
    """The earliest pair of each group of which each operation depends on the other."""
    there, back = (_pairs(a, b, len(group)) for a, b in ((edges.source, edges.target), (edges.target, edges.source)))
    first, second = np.divmod(np.intersect1d(there, back), len(group))
    _, earliest = np.unique(group[first], return_index=True)
    return {int(group[first[i]]): Cycle([int(first[i]), int(second[i])]) for i in earliest}


def _pairs(source: NDArray[Any], target: NDArray[Any], operations: int) -> Rows:
    """Edges as single numbers."""
    pairs: Rows = source.astype(np.int64) * operations + target
    return pairs


def _incoming_by_group(edges: Edges, group: Rows) -> dict[int, Incoming]:
    """For each group: the distinct sources of each of its operations, in order."""
    incoming: dict[int, Incoming] = defaultdict(lambda: defaultdict(list))
    target, source = np.divmod(np.unique(_pairs(edges.target, edges.source, len(group))), len(group))
    for number, after, before in zip(group[target].tolist(), target.tolist(), source.tolist(), strict=True):
        incoming[number][after].append(before)
    return incoming


def _shortest(incoming: Incoming, effort: Effort) -> Cycle:
    """The shortest cycle, searched for through each operation in turn, back along the edges."""
    start = effort.visits
    visits_max = VISITS_MIN + VISITS_PER_EDGE * sum(map(len, incoming.values()))
    best: list[int] = []
    for root in sorted(incoming):
        best = _cycle_through(root, incoming, len(best), effort) or best
        # No two operations depend on each other.
        if len(best) == 3:
            break
        if effort.visits - start > visits_max:
            return Cycle(best, is_shortest=False)
    return Cycle(best)


def _cycle_through(root: int, incoming: Incoming, length: int, effort: Effort) -> list[int]:
    """A shortest cycle through an operation and later ones, if there is one of less than `length` (0: of any)."""
    following = {root: root}
    wave, steps = [root], 0
    while wave and (not length or steps + 1 < length):
        steps += 1
        earlier = []
        for operation in wave:
            for before in incoming[operation]:
                effort.visits += 1
                if before == root:
                    return _walk(root, operation, following)
                if before > root and before not in following:
                    following[before] = operation
                    earlier.append(before)
        wave = earlier
    return []


def _walk(root: int, second: int, following: dict[int, int]) -> list[int]:
    """The way from one operation over another and on, until it returns."""
    cycle = [root]
    while second != root:
        cycle.append(second)
        second = following[second]
    return cycle


def realtime_cycles(
    edges: Edges, circles: Components, group: Rows, moments: Moments, effort: Effort
) -> dict[int, Cycle]:
    """A shortest cycle through real time for each group of operations that has one.

    `circles` are the components of the edges and real time. In each round, every operation learns of the latest
    invocation that it depends on over one more edge; the first to learn of one after its own acknowledgement end the
    shortest paths.
    """
    latest, rest, waves = moments.invoked.copy(), edges, list[Wave]()
    cycles: dict[int, Cycle] = {}
    while len(waves) < ROUNDS_MAX:
        effort.visits += len(rest)
        wave = _raise(latest, rest)
        if not len(wave[0]):
            return cycles
        waves.append(wave)
        ends = wave[0][moments.acknowledged[wave[0]] < latest[wave[0]]]
        for number, end in _first_of_each(ends, group).items():
            cycles[number] = Cycle(_path_back(end, waves))
        rest = rest.where(~np.isin(group[rest.target], list(cycles))) if len(ends) else rest
    return cycles | _any_realtime_cycles(rest, circles, group, moments, effort)


def _raise(latest: Rows, edges: Edges) -> Wave:
    """Raise the latest invocation of targets to that of their sources; returns who was raised, and through whom."""
    rising = edges.where(latest[edges.source] > latest[edges.target])
    if not len(rising):
        return rising.target.astype(np.int64), rising.source.astype(np.int64)
    starts = np.flatnonzero(changes(rising.target))
    reached = np.maximum.reduceat(latest[rising.source], starts)
    through = rising.where(latest[rising.source] == np.repeat(reached, np.diff(starts, append=len(rising))))
    first = changes(through.target)
    raised, sources = through.target[first].astype(np.int64), through.source[first].astype(np.int64)
    latest[raised] = reached
    return raised, sources


def _first_of_each(operations: NDArray[Any], group: Rows) -> dict[int, int]:
    """The first of the operations of each group."""
    numbers, first = np.unique(group[operations], return_index=True)
    return dict(zip(numbers.tolist(), operations[first].tolist(), strict=True))


def _path_back(end: int, waves: list[Wave]) -> list[int]:
    """The path along which an operation was raised in the last wave, from its beginning on."""
    path = [end]
    for raised, sources in reversed(waves):
        path.append(int(sources[np.searchsorted(raised, path[-1])]))
    return path[::-1]


def _any_realtime_cycles(
    edges: Edges, circles: Components, group: Rows, moments: Moments, effort: Effort
) -> dict[int, Cycle]:
    """A cycle through real time for each group with edges, not necessarily a shortest one."""
    candidates = np.unique(edges.target)
    ends = candidates[moments.acknowledged[candidates] < circles.cause[candidates]]
    by_invocation = {int(moments.invoked[row]): int(row) for row in np.flatnonzero(circles.of != NOWHERE)}
    incoming = _incoming_by_group(edges, group)
    return {
        number: Cycle(_path(by_invocation[int(circles.cause[end])], end, incoming[number], effort), is_shortest=False)
        for number, end in _first_of_each(ends, group).items()
    }


def _path(start: int, end: int, incoming: Incoming, effort: Effort) -> list[int]:
    """A shortest path from one operation to another."""
    following, wave = {end: end}, [end]
    while start not in following:
        earlier = []
        for operation in wave:
            for before in incoming[operation]:
                effort.visits += 1
                if before not in following:
                    following[before] = operation
                    earlier.append(before)
        wave = earlier
    return [*_walk(end, start, following)[1:], end]
