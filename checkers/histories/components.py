"""Operations that depend on each other in a circle: strongly connected components, with and without real time.

Real time relates almost any two operations, so its edges are never written out. Instead, a time line has a node for
every place of the history; an acknowledged operation leads to the place of its acknowledgement, and a place to every
operation invoked after it. For an operation y, let

    cause(y)   be the latest invocation of any operation that y depends on (y included), and
    effect(y)  the earliest acknowledgement of any operation that depends on y (y included).

The places before cause(y) lead to y, and y leads to those from effect(y) on. So y closes a circle through real time if
effect(y) < cause(y), and then all the places in [effect(y), cause(y)) are on it; only such intervals can lead back in
time. Intervals that overlap merge. Each merged interval [start, end) is one component, and its operations are exactly
those with cause > start and effect < end: the others either cannot be reached from it or do not lead to it. Every other
component is one of the dependencies alone. Both extremes follow from the components of the dependencies, taken in
topological order, so that all of it is linear in the number of edges (Tarjan, 1972).

An edge that real time implies anyway can be left out whenever real time counts. So can, always, any edge that no circle
has room for: in the order of invocations real time leads forward, so a circle comes back by dependencies on operations
invoked later, and lies within the stretch that these cover without a break. Few histories have long ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from hwmark.checkers.histories.dependencies import NEVER, Edges, Moments
from hwmark.checkers.histories.evidence import NOWHERE, Mask, Rows

# From so many edges on, compiling pays off.
COMPILED_FROM = 150_000

Kernel = Callable[..., Any]
Column = Any


@dataclass
class Effort:
    """How many edges a search has looked at, each time counted."""

    visits: int = 0


@dataclass(frozen=True)
class Components:
    """Per operation its component, numbered in order of their first operations, or NOWHERE if it is on no cycle.

    `cause` is as above.
    """

    of: Rows
    cause: Rows

    def __len__(self) -> int:
        return int(self.of.max(initial=NOWHERE)) + 1

    def members(self) -> list[Rows]:
        """The operations of each component, in order."""
        rows = np.flatnonzero(self.of != NOWHERE)
        rows = rows[np.argsort(self.of[rows], kind="stable")]
        return np.split(rows, np.cumsum(np.bincount(self.of[rows], minlength=len(self)))[:-1]) if len(self) else []


def components(edges: Edges, moments: Moments, effort: Effort, *, realtime: bool) -> Components:
    """The components of the dependencies, or of the dependencies and real time."""
    edges = _where_anything_leads_back(edges, moments)
    if not len(edges):
        return Components(np.full(len(moments.invoked), NOWHERE, dtype=np.int64), moments.invoked)
    nodes, source, target = numbered(edges)
    circle = _tarjan(source, target, len(nodes), effort)
    sizes = np.bincount(circle, minlength=1)
    of = np.full(len(moments.invoked), NOWHERE, dtype=np.int64)
    of[nodes] = np.where(sizes[circle] > 1, circle, NOWHERE)
    if not realtime:
        return Components(_in_order(of), moments.invoked)
    cause, effect = moments.invoked.copy(), moments.acknowledged.copy()
    cause[nodes], effect[nodes] = _extremes(circle[source], circle[target], circle, cause[nodes], effect[nodes], effort)
    interval = _intervals(cause, effect)
    return Components(_in_order(np.where(interval != NOWHERE, len(nodes) + interval, of)), cause)


def _where_anything_leads_back(edges: Edges, moments: Moments) -> Edges:
    """The edges inside the stretches covered by edges that lead to an operation invoked earlier."""
    source, target = moments.invoked[edges.source], moments.invoked[edges.target]
    back = source > target
    if not back.any():
        return Edges(edges.source[:0], edges.target[:0], edges.is_ww[:0])
    places = int(source[back].max()) + 1
    covered = np.cumsum(np.bincount(target[back], minlength=places) - np.bincount(source[back], minlength=places))
    stretch = np.cumsum(covered == 0) - (covered == 0)
    stretch = np.append(stretch, NOWHERE)  # for what was invoked after the last of them
    inside = stretch[np.minimum(source, places)] == stretch[np.minimum(target, places)]
    inside &= (source < places) & (target < places)
    return Edges(edges.source[inside], edges.target[inside], edges.is_ww[inside])


def numbered(edges: Edges) -> tuple[Rows, Rows, Rows]:
    """The operations that have edges, in order, and the edges between their positions."""
    has_edges = np.zeros(int(max(edges.source.max(initial=0), edges.target.max(initial=0))) + 1, dtype=bool)
    has_edges[edges.source] = has_edges[edges.target] = True
    number = np.cumsum(has_edges) - 1
    return np.flatnonzero(has_edges), number[edges.source], number[edges.target]


def _in_order(of: Rows) -> Rows:
    """Components numbered again, in order of their first members."""
    members = np.flatnonzero(of != NOWHERE)
    _, first, number = np.unique(of[members], return_index=True, return_inverse=True)
    ordered = np.full(len(of), NOWHERE, dtype=np.int64)
    ordered[members] = np.argsort(np.argsort(first))[number.reshape(-1)]
    return ordered


def _intervals(cause: Rows, effect: Rows) -> Rows:
    """The merged interval of time that each operation belongs to, or NOWHERE."""
    leads_back = effect < cause
    start, end = _merged(effect[leads_back], cause[leads_back])
    first_later = np.searchsorted(end, effect, side="right")
    found = np.minimum(first_later, max(len(end) - 1, 0))
    inside: Mask = (first_later < len(end)) & (cause > start[found] if len(start) else False)
    return np.where(inside, found, NOWHERE)


def _merged(start: Rows, end: Rows) -> tuple[Rows, Rows]:
    """The unions of half-open intervals that overlap, in order."""
    order = np.argsort(start, kind="stable")
    start, reach = start[order], np.maximum.accumulate(end[order])
    is_first = np.ones(len(start), dtype=bool)
    is_first[1:] = start[1:] >= reach[:-1]
    is_last = np.ones(len(start), dtype=bool)
    is_last[:-1] = is_first[1:]
    return start[is_first], reach[is_last]


def _tarjan(source: Rows, target: Rows, nodes: int, effort: Effort) -> Rows:
    """The strongly connected component of each node, numbered such that no edge leads to a lower number.

    The edges are in order of their targets, and each node is visited before those that depend on it.
    """
    start = np.searchsorted(target, np.arange(nodes + 1))
    index, low, path, stack = (np.zeros(nodes, dtype=np.int64) for _ in range(4))
    component = np.full(nodes, NOWHERE, dtype=np.int64)
    visits, found = _run(_visit_all, len(source), start, source, start[:-1].copy(), index, low, path, stack, component)
    effort.visits += visits
    return np.array(found)


def _extremes(source: Rows, target: Rows, circle: Rows, cause: Rows, effect: Rows, effort: Effort) -> tuple[Rows, Rows]:
    """Cause and effect of each node, whose components and own extremes are given, by the edges between components."""
    causes, effects = np.full(len(circle), np.int64(-1)), np.full(len(circle), np.int64(NEVER))
    np.maximum.at(causes, circle, cause)
    np.minimum.at(effects, circle, effect)
    between = np.flatnonzero(source != target)
    forward = between[np.argsort(target[between], kind="stable")]
    back = between[np.argsort(-source[between], kind="stable")]
    # Effects are negated, so that both spread by the greater value.
    _, causes = _run(_spread, len(forward), source[forward], target[forward], causes)
    _, effects = _run(_spread, len(back), target[back], source[back], -effects)
    effort.visits += 2 * len(between)
    return np.array(causes)[circle], -np.array(effects)[circle]


def _run(kernel: Kernel, edges: int, *columns: Rows) -> tuple[int, Any]:
    """Run a kernel; returns its result and the last column as it left it."""
    run, given = kernel_for(kernel, edges, *columns)
    return int(run(*given)), given[-1]


def kernel_for(kernel: Kernel, edges: int, *columns: Rows) -> tuple[Kernel, list[Any]]:
    """The kernel for so many edges and the columns in the form that it takes: compiled if there is enough to do."""
    if edges >= COMPILED_FROM:
        return _compiled(kernel), list(columns)
    return kernel, [column.tolist() for column in columns]


@cache
def _compiled(kernel: Kernel) -> Kernel:
    """A kernel as machine code."""
    from numba import njit

    compiled: Kernel = njit(cache=True)(kernel)
    return compiled


# Kernels: plain loops over lists, or over arrays when compiled.


def _visit_all(
    start: Column, source: Column, cursor: Column, index: Column, low: Column, path: Column, stack: Column, out: Column
) -> int:
    """Tarjan's algorithm along incoming edges, without recursion; `out` takes the components, all else is scratch."""
    visited = found = held = 0
    for root in range(len(cursor)):
        if index[root] != 0:
            continue
        path[0], depth = root, 1
        while depth > 0:
            node = path[depth - 1]
            if index[node] == 0:
                visited += 1
                index[node] = low[node] = visited
                stack[held] = node
                held += 1
            if cursor[node] < start[node + 1]:
                before = source[cursor[node]]
                cursor[node] += 1
                if index[before] == 0:
                    path[depth] = before
                    depth += 1
                elif out[before] < 0:
                    low[node] = min(low[node], index[before])
                continue
            depth -= 1
            if depth > 0:
                low[path[depth - 1]] = min(low[path[depth - 1]], low[node])
            if low[node] == index[node]:
                while out[node] < 0:
                    held -= 1
                    out[stack[held]] = found
                found += 1
    visits = 0
    for node in range(len(cursor)):
        visits += cursor[node] - start[node]
    return visits


def _spread(source: Column, target: Column, extreme: Column) -> int:
    """Raise the extreme of each edge's target to that of its source; edges come in topological order."""
    for edge in range(len(source)):
        if extreme[source[edge]] > extreme[target[edge]]:
            extreme[target[edge]] = extreme[source[edge]]
    return 0
