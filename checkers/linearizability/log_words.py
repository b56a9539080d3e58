"""What is wrong with a log, in words: each operation with what it showed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hwmark.checkers.linearizability.log_columns import NEVER, NONE, PartitionLog


class ContradictionError(Exception):
    """No order of the operations explains them: which condition fails, a sentence, and the operations that show it."""

    def __init__(self, condition: str, sentence: str, operations: Sequence[int]) -> None:
        self.condition, self.sentence = condition, sentence
        self.operations = tuple(dict.fromkeys(int(o) for o in operations if o >= 0))
        super().__init__(sentence)


def describe(log: PartitionLog, operation: int) -> str:
    """An operation in words: its number, what it asked and what it was answered."""
    finders = (_append, _fetch, _list_offsets, _marker, _end_txn, _init_producer_id)
    for table, words in zip(log.tables(), finders, strict=True):
        rows = np.flatnonzero(table.operation == operation)
        if len(rows):
            return f"operation {log.number(operation)} ({words(log, int(rows[0]))})"
    return f"operation {log.number(operation)}"


def _append(log: PartitionLog, row: int) -> str:
    """An append."""
    appends = log.appends
    first, end = (row, row + 1) if appends.first is None else appends.first[row : row + 2].tolist()
    values = ", ".join(repr(log.label(v)) for v in appends.value[first : min(end, first + 4)])
    if appends.failed is not None and appends.failed[row]:
        return f"append of {values}, failed"
    if appends.offset[row] == NONE:
        return f"append of {values}, " + ("outcome unknown" if appends.returned[row] == NEVER else "no offset answered")
    return f"append of {values} at offset {log.shown(appends.offset[row])}"


def _isolation(read_committed: bool) -> str:
    """The isolation level's name."""
    return "read_committed" if read_committed else "read_uncommitted"


def _fetch(log: PartitionLog, row: int) -> str:
    """A fetch."""
    fetches = log.fetches
    count = int(fetches.first[row + 1] - fetches.first[row])
    watermark = int(fetches.high_watermark[row])
    known = f", high watermark {log.shown_length(watermark)}" if watermark != NONE else ""
    start, end = log.shown(fetches.start[row]), log.shown_length(fetches.next[row])
    what = f"{_isolation(bool(fetches.read_committed[row]))} fetch from {start} to {end}"
    return f"{what}, {count} record{'' if count == 1 else 's'}{known}"


def _list_offsets(log: PartitionLog, row: int) -> str:
    """A question for the latest offset."""
    isolation = _isolation(bool(log.list_offsets.read_committed[row]))
    return f"{isolation} list-offsets, answered {log.shown_length(log.list_offsets.result[row])}"


def _ending(commits: bool) -> str:
    """How a transaction ends."""
    return "commit" if commits else "abort"


def _marker(log: PartitionLog, row: int) -> str:
    """A control record."""
    markers = log.markers
    where = f" at offset {log.shown(markers.offset[row])}" if markers.offset[row] != NONE else ""
    return f"{_ending(bool(markers.commits[row]))} marker of transaction {markers.transaction[row]}{where}"


def _end_txn(log: PartitionLog, row: int) -> str:
    """A request to end a transaction."""
    return f"{_ending(bool(log.end_txns.commits[row]))} of transaction {log.end_txns.transaction[row]}"


def _init_producer_id(log: PartitionLog, row: int) -> str:
    """A new epoch of a transactional id."""
    return f"init-producer-id of {log.init_producer_ids.producer[row]}"
