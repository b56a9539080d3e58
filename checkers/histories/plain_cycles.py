"""The slow twin of the search for cycles: all relations written out as one graph, every pair of real time included."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import permutations
from typing import Any

import networkx as nx
from hwmark.checkers.histories.plain import Record, _is_raw, _log, _operations, _reads, _writers

Facts = dict[str, list[tuple[Any, ...]]]

LEVELS = {
    ("PL-1-cycle-exists", "G0"): {"ww"},
    ("PL-2-cycle-exists", "G1c"): {"ww", "wr"},
    ("strong-PL-1-cycle-exists", "G0-realtime"): {"ww", "realtime"},
    ("strong-PL-2-cycle-exists", "G1c-realtime"): {"ww", "wr", "realtime"},
}


def check_plain_cycles(records: Iterable[Record], *, ww_deps: bool) -> Facts:
    """Every type found: of those that say that a cycle exists the smallest components, of witnesses their lengths."""
    graph = relations(records, ww_deps=ww_deps)
    if not any(graph.nodes[b]["completed"] or kind == "wr" for _, b, kind in graph.edges(keys=True)):
        return {"empty-transaction-graph": [()]}
    found: Facts = {}
    for component in _components(graph):
        shown: list[set[str]] = []
        for types, kinds in LEVELS.items():
            part = _part(graph.subgraph(component), kinds)
            circles = _components(part)
            if circles and not any(smaller <= kinds for smaller in shown):
                smallest = min(circles, key=len)
                shown.append(kinds)
                found.setdefault(types[0], []).append(tuple(smallest))
                found.setdefault(types[1], []).append((_shortest(part),))
    return found


def components(records: Iterable[Record], *, ww_deps: bool) -> list[list[int]]:
    """The operations that all relations together put into circles."""
    return _components(relations(records, ww_deps=ww_deps))


def relations(records: Iterable[Record], *, ww_deps: bool) -> nx.MultiDiGraph:
    """Operations by index, and an edge for each way in which one precedes another: its kind, and its messages."""
    ops = _operations(records)
    nodes = [op for op in ops if op["f"] in ("send", "poll", "txn") and not _is_raw(op)]
    graph = nx.MultiDiGraph()
    for op in nodes:
        graph.add_node(op["index"], completed=not op.get("open"))
    writer = _writers(ops)
    for op in nodes:
        for (key, value), _ in _reads(op):
            if (key, value) in writer:
                _relate(graph, writer[key, value], op, "wr", (key, value))
    for a, b in permutations(nodes, 2):
        if a["type"] == "ok" and a["index"] < b["invoked"]:
            _relate(graph, a, b, "realtime", ())
    for v1, v2 in _adjacent(ops) if ww_deps else ():
        if v1 in writer and v2 in writer:
            _relate(graph, writer[v1], writer[v2], "ww", (*v1, v2[1]))
    return graph


def _relate(graph: nx.MultiDiGraph, a: Record, b: Record, kind: str, message: tuple[Any, ...]) -> None:
    """Add one reason why an operation precedes another."""
    if a["index"] != b["index"]:
        if not graph.has_edge(a["index"], b["index"], kind):
            graph.add_edge(a["index"], b["index"], kind, messages=set())
        graph.edges[a["index"], b["index"], kind]["messages"].add(message)


def _adjacent(ops: list[Record]) -> Iterable[tuple[tuple[str, Any], tuple[str, Any]]]:
    """Each message, where it stands last in the version order, with the one before it."""
    for key, offsets in _log(ops, raw=False).items():
        order = [min(offsets[offset]) for offset in sorted(offsets)]
        last = {value: index for index, value in enumerate(order)}
        for value, index in last.items():
            if index > 0:
                yield (key, order[index - 1]), (key, value)


def _part(graph: nx.MultiDiGraph, kinds: set[str]) -> nx.DiGraph:
    """The graph of some relations."""
    part = nx.DiGraph()
    part.add_edges_from((a, b) for a, b, kind in graph.edges(keys=True) if kind in kinds)
    return part


def _components(graph: nx.DiGraph) -> list[list[int]]:
    """The strongly connected components of more than one operation, in order."""
    return sorted(sorted(found) for found in nx.strongly_connected_components(graph) if len(found) > 1)


def _shortest(graph: nx.DiGraph) -> int:
    """The length of a shortest cycle."""
    lengths = dict(nx.all_pairs_shortest_path_length(graph))
    return min(1 + int(lengths[b][a]) for a, b in graph.edges if a in lengths[b])
