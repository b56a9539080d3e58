"""Who wrote the batches of a log, and what the producers' acknowledgements say of its length."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hwmark.checkers.linearizability.log_bounds import Bounds
from hwmark.checkers.linearizability.log_columns import NEVER, NONE, Column, Flags
from hwmark.checkers.linearizability.log_content import Content


@dataclass(frozen=True)
class Batches:
    """Batches in a log: base offset (ascending) and append of each."""

    start: Column
    append: Column

    def with_fillers(self, start: Column, append: Column) -> Batches:
        """These and others, in order of offsets."""
        if not len(start):
            return self
        both = np.concatenate([self.start, start])
        order = np.argsort(both, kind="stable")
        return Batches(both[order], np.concatenate([self.append, append])[order])


def least_of_group(content: Content, value: Column) -> tuple[Column, Column | None]:
    """Per append the least value among it and its retries that may have happened, and the row that has it.

    Only the rows that stand for a group have the answer of their group. None: each row its own, there are no retries.
    """
    if content.records.representative is None:
        return value, None
    rows, records = np.arange(len(value)), content.records
    failed = content.log.appends.failed
    possible = rows if failed is None else rows[~failed]
    possible = possible[np.lexsort((possible, value[possible]))][::-1]
    owner = rows.copy()
    owner[records.group_of(possible)] = possible
    return value[owner], owner


def acknowledgements(content: Content, everybody: bool) -> Bounds:
    """An answered append has seen the length behind its batch; `everybody`: unanswered appends too, with 0."""
    appends, size = content.log.appends, content.records.size
    offset = appends.offset
    rows: Column | slice = slice(None)
    if everybody:
        offset = np.where(_is_answered(content), offset, -size)
    elif not _is_answered(content).all():
        rows = np.flatnonzero(_is_answered(content))
    elsewhere = (offset == NONE) if not everybody else (offset == NONE) & _is_answered(content)
    if elsewhere.any():
        offset = np.where(elsewhere, _first_place(content), offset)
    process = None if appends.process is None else appends.process[rows]
    call, returned = appends.call[rows], appends.returned[rows]
    if everybody:
        returned = np.where(_is_answered(content), returned, NEVER)
    return Bounds(appends.operation[rows], process, call, returned, (offset + size)[rows], None)


def _is_answered(content: Content) -> Flags:
    """Per append: whether its answer shows a length: its own offset, or that of its batch as others saw it."""
    appends = content.log.appends
    answered: Flags = appends.returned != NEVER
    if appends.failed is not None:
        answered &= ~appends.failed
    nowhere = appends.offset == NONE
    return answered & ~(nowhere & ~content.is_placed) if nowhere.any() else answered


def _first_place(content: Content) -> Column:
    """Per append the first base offset at which it was seen, 0 where it was not."""
    first = np.zeros(len(content.log.appends), dtype=np.int64)
    first[content.append[::-1]] = content.start[::-1]
    return first[content.records.group_of(np.arange(len(first)))]
