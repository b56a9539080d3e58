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

from dataclasses import dataclass
from typing import Any

import numpy as np
from hwmark.checkers.histories.components import Column, Components, Effort, kernel_for, numbered
from hwmark.checkers.histories.dependencies import Edges, Moments
from hwmark.checkers.histories.evidence import Rows, changes
from numpy.typing import NDArray

# Steps up to which cycles through real time are certainly shortest.
ROUNDS_MAX = 64
# Visits up to which cycles of dependencies are certainly shortest.
VISITS_MIN = 100_000
VISITS_PER_EDGE = 16

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
    for number, graph in _by_group(rest, group).items():
        cycles[number] = _shortest(graph, effort)
    return cycles


def _mutual(edges: Edges, group: Rows) -> dict[int, Cycle]:
    """The earliest pair of each group of which each operation depends on the other."""
    there, back = (_pairs(a, b, len(group)) for a, b in ((edges.source, edges.target), (edges.target, edges.source)))
    both = np.sort(np.concatenate([there, back]))
    first, second = np.divmod(both[1:][both[1:] == both[:-1]], len(group))
    _, earliest = np.unique(group[first], return_index=True)
    return {int(group[first[i]]): Cycle([int(first[i]), int(second[i])]) for i in earliest}


def _pairs(source: NDArray[Any], target: NDArray[Any], operations: int) -> Rows:
    """Distinct edges as single numbers, in order. (Sorted: hashing, as np.unique does it, is slow on such numbers.)"""
    pairs: Rows = np.sort(source.astype(np.int64) * operations + target)
    return pairs[changes(pairs)]


def _by_group(edges: Edges, group: Rows) -> dict[int, Graph]:
    """The edges of each group as a graph."""
    if not len(edges):
        return {}
    order = np.argsort(group[edges.target], kind="stable")
    starts = np.flatnonzero(changes(group[edges.target[order]]))
    parts = [edges.where(rows) for rows in np.split(order, starts[1:])]
    return {int(group[part.target[0]]): Graph(part) for part in parts}


def _shortest(graph: Graph, effort: Effort) -> Cycle:
    """The shortest cycle, searched for through each operation in turn and later ones, back along the edges."""
    start, visits_max = effort.visits, VISITS_MIN + VISITS_PER_EDGE * len(graph.source)
    best: list[int] = []
    for root in range(len(graph.rows)):
        best = graph.path(root, root, root, len(best), effort) or best
        # No two operations depend on each other.
        if len(best) == 3:
            break
        if effort.visits - start > visits_max:
            return Cycle(best, is_shortest=False)
    return Cycle(best)


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
    cycles = {}
    graphs = _by_group(edges, group)
    for number, end in _first_of_each(ends, group).items():
        rows = graphs[number].rows
        start = int(np.flatnonzero(moments.invoked[rows] == circles.cause[end])[0])
        path = graphs[number].path(start, int(np.searchsorted(rows, end)), 0, 0, effort)
        cycles[number] = Cycle(path, is_shortest=False)
    return cycles


class Graph:
    """Dependencies by their targets: the sources of node i are `source[start[i]:start[i + 1]]`, and it is `rows[i]`."""

    def __init__(self, edges: Edges) -> None:
        self.rows, source, target = numbered(edges)
        self.target, self.source = np.divmod(_pairs(target, source, len(self.rows)), len(self.rows))
        self.kernel, columns = kernel_for(
            _search_back,
            len(self.source),
            np.searchsorted(self.target, np.arange(len(self.rows) + 1)),
            self.source,
            *(np.zeros(len(self.rows), dtype=np.int64) for _ in range(3)),
        )
        self.columns, self.following, self.searches = columns, columns[-1], 0

    def path(self, start: int, end: int, first: int, length: int, effort: Effort) -> list[int]:
        """A shortest path between nodes, over nodes from `first` on, as operations; a cycle if it ends where it starts.

        Empty if there is none of less than `length` edges (0: of any number).
        """
        self.searches += 1
        visits, found = self.kernel(start, end, first, length, self.searches, *self.columns)
        effort.visits += visits
        if not found:
            return []
        path = [start]
        while (node := int(self.following[path[-1]])) != end:
            path.append(node)
        rows: list[int] = self.rows[path if start == end else [*path, end]].tolist()
        return rows


def _search_back(
    goal: int,
    root: int,
    first: int,
    length: int,
    search: int,
    start: Column,
    source: Column,
    queue: Column,
    seen: Column,
    following: Column,
) -> tuple[int, bool]:
    """Search breadth first from the root back to the goal; returns the visits, and whether the goal was found."""
    queue[0], seen[root] = root, search
    head, tail, wave_end, steps, visits = 0, 1, 1, 1, 0
    while head < tail and (length == 0 or steps < length):
        node = queue[head]
        head += 1
        for edge in range(start[node], start[node + 1]):
            visits += 1
            before = source[edge]
            if before == goal:
                following[before] = node
                return visits, True
            if before >= first and seen[before] != search:
                seen[before] = search
                following[before] = node
                queue[tail] = before
                tail += 1
        if head == wave_end:
            wave_end = tail
            steps += 1
    return visits, False
