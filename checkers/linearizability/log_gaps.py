"""Offsets of which nobody saw the content: which appends of unknown outcome fill them (condition C6).

Every gap needs one append, every forced append (see `log_sequences`) one gap, and an append may stand at the offsets of
one interval: two matchings in a convex bipartite graph. Taking the earliest deadline first finds a matching of all
gaps, and one of all forced appends, whenever there is one; by Mendelsohn and Dulmage (1958) two such matchings give one
that covers both. The thresholds that real time sets grow with the offset, so they are the lower ends of the intervals.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from heapq import heappop, heappush
from itertools import groupby, islice

import numpy as np
from hwmark.checkers.linearizability.log_columns import Column
from hwmark.checkers.linearizability.log_sequences import Candidate

COPY = -1


class UnfilledGapError(Exception):
    """No append can stand at `offset`."""

    def __init__(self, offset: int) -> None:
        self.offset = offset
        super().__init__(f"offset {offset}")


class UnplacedAppendError(Exception):
    """A forced append finds no gap."""

    def __init__(self, append: int) -> None:
        self.append = append
        super().__init__(f"append {append}")


def fill_freely(gaps: Column, append: Column, low: Column, copies_from: int) -> Column:
    """An append for each gap, where none is forced and `low` is all that binds them; COPY from `copies_from` on.

    Sorted against sorted is optimal, by exchange. Raises UnfilledGapError.
    """
    filler = np.full(len(gaps), COPY)
    needed = int(np.searchsorted(gaps, copies_from))
    order = np.argsort(low, kind="stable")[:needed]
    late = np.flatnonzero(low[order] > gaps[: len(order)])
    if len(late) or len(order) < needed:
        raise UnfilledGapError(int(gaps[late[0] if len(late) else len(order)]))
    filler[:needed] = append[order]
    return filler


def fill(gaps: Sequence[int], candidates: Sequence[Candidate], copies_from: int) -> Column:
    """An append for each gap, every forced one used; raises UnfilledGapError or UnplacedAppendError."""
    of_gap = _cover_gaps(gaps, candidates, copies_from)
    of_forced = _cover_forced(gaps, candidates)
    _combine(of_gap, of_forced, candidates)
    _order_runs(of_gap, candidates)
    return np.array([candidates[i].append if i != COPY else COPY for i in of_gap], dtype=np.int64)


def _cover_gaps(gaps: Sequence[int], candidates: Sequence[Candidate], copies_from: int) -> list[int]:
    """For each gap a candidate: of those that may stand there, the one with the earliest end."""
    waiting = sorted(range(len(candidates)), key=lambda i: candidates[i].low, reverse=True)
    ready: list[tuple[int, int]] = []
    chosen = []
    for gap in gaps:
        while waiting and candidates[waiting[-1]].low <= gap:
            i = waiting.pop()
            heappush(ready, (candidates[i].high, i))
        while ready and ready[0][0] <= gap:
            heappop(ready)
        if not ready and gap < copies_from:
            raise UnfilledGapError(gap)
        chosen.append(heappop(ready)[1] if ready else COPY)
    return chosen


def _cover_forced(gaps: Sequence[int], candidates: Sequence[Candidate]) -> dict[int, int]:
    """For each forced candidate the position of a gap."""
    forced = [i for i, candidate in enumerate(candidates) if candidate.forced]
    waiting = sorted(forced, key=lambda i: candidates[i].low, reverse=True)
    ready: list[tuple[int, int]] = []
    place: dict[int, int] = {}
    for position, gap in enumerate(gaps):
        while waiting and candidates[waiting[-1]].low <= gap:
            i = waiting.pop()
            heappush(ready, (candidates[i].high, i))
        if ready and ready[0][0] > gap:
            place[heappop(ready)[1]] = position
    for i in forced:
        if i not in place:
            raise UnplacedAppendError(candidates[i].append)
    return place


def _combine(of_gap: list[int], of_forced: dict[int, int], candidates: Sequence[Candidate]) -> None:
    """Bring every forced candidate into the matching of the gaps, along alternating paths; gaps stay covered."""
    covered = set(of_gap)
    for start in of_forced:
        if start in covered:
            continue
        moved = start
        while moved != COPY and candidates[moved].forced:
            position = of_forced[moved]
            of_gap[position], moved = moved, of_gap[position]


def _order_runs(of_gap: list[int], candidates: Sequence[Candidate]) -> None:
    """Let the candidates of each run stand in the order of epoch and sequence number, the first of each epoch first."""
    places: dict[tuple[int, int], list[int]] = defaultdict(list)
    members: dict[tuple[int, int], list[int]] = defaultdict(list)
    for i in sorted(range(len(candidates)), key=lambda i: candidates[i].rank):
        run = candidates[i].run
        if run is not None:
            members[run].append(i)
    for position, i in enumerate(of_gap):
        run = candidates[i].run if i != COPY else None
        if run is not None:
            places[run].append(position)
    for run, positions in places.items():
        used = Counter(candidates[of_gap[position]].rank[0] for position in positions)
        by_epoch = groupby(members[run], key=lambda i: candidates[i].rank[0])
        first_ones = [i for epoch, of_epoch in by_epoch for i in islice(of_epoch, used[epoch])]
        for position, i in zip(positions, first_ones, strict=True):
            of_gap[position] = i
