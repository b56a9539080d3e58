"""Transactions in a log: where each begins and ends, what of it readers may see, and the last stable offset.

The last stable offset (LSO) is the offset of the first data of a transaction that has no marker yet, else the length.
It is turned into a question about the length alone: LSO >= k iff length >= M(k), with M(k) the greater of k and of the
ends of the markers of all transactions that begin below k. (M of an undecided transaction's first offset is infinite.)

Condition C7: a transaction's data stand before its one marker, which is of the kind that a definite answer to EndTxn
promised.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from hwmark.checkers.linearizability.log_columns import NEVER, NONE, Column, Flags, PartitionLog
from hwmark.checkers.linearizability.log_content import FIRST_MARKER, Content
from hwmark.checkers.linearizability.log_words import ContradictionError, describe


@dataclass(frozen=True)
class Transactions:
    """Per transaction: the row of its marker in `Markers` (NONE: undecided), and where its data begin and end."""

    content: Content
    marker: Column
    first: Column
    last: Column

    @cached_property
    def marker_offset(self) -> Column:
        """Per transaction the offset of its marker, NEVER where there is none."""
        offset = self.content.log.markers.offset
        return np.where(self.marker == NONE, NEVER, offset[self.marker] if len(offset) else NEVER)

    @cached_property
    def committed(self) -> Flags:
        """Per transaction: whether its marker commits."""
        commits = self.content.log.markers.commits
        committed: Flags = (self.marker != NONE) & (commits[self.marker] if len(commits) else False)
        return committed

    @cached_property
    def stable_length(self) -> Column:
        """M(k) for k = 0..N + 1: the least length at which the LSO is at least k, beyond N + 1 if there is none."""
        content = self.content
        length = content.batch_end.copy()
        length[-1] = NEVER
        begun = np.flatnonzero(self.first != NONE)
        if not len(begun):
            return length
        needed = np.zeros(len(length), dtype=np.int64)
        end = np.where(self.marker_offset == NEVER, NEVER, self.marker_offset + (self.marker_offset != NEVER))
        needed[self.first[begun] + 1] = end[begun]
        stable: Column = np.maximum(length, np.maximum.accumulate(needed))
        return stable

    @cached_property
    def hidden(self) -> Flags:
        """Per offset: whether a read_committed fetch leaves it out: markers, and data of what is not committed."""
        content = self.content
        hidden: Flags = content.at <= FIRST_MARKER
        transaction = content.log.appends.transaction
        if transaction is not None:
            data = np.flatnonzero(content.at >= 0)
            of = transaction[content.records.append_of(content.at[data])]
            hidden[data] = (of != NONE) & ~self.committed[of]
        return hidden


def read_transactions(content: Content) -> Transactions:
    """Find every transaction's data and marker; raises ContradictionError where C7 fails."""
    log = content.log
    count = log.transaction_count()
    marker = _markers(log, count)
    first, last = np.full(count, NONE), np.full(count, NONE)
    if log.appends.transaction is not None:
        of = log.appends.transaction[content.append]
        inside = np.flatnonzero(of != NONE)
        of, start, append = of[inside], content.start[inside], content.append[inside]
        last[of] = start + content.records.size[append] - 1
        first[of[::-1]] = start[::-1]
    transactions = Transactions(content, marker, first, last)
    _refuse_data_after_marker(transactions)
    _refuse_other_ending(log, marker)
    return transactions


def _markers(log: PartitionLog, count: int) -> Column:
    """Each transaction's marker; a second one contradicts."""
    marker = np.full(count, NONE)
    rows = np.flatnonzero(log.markers.offset != NONE)
    marker[log.markers.transaction[rows]] = rows
    other = rows[marker[log.markers.transaction[rows]] != rows]
    if len(other):
        pair = log.markers.operation[[other[0], marker[log.markers.transaction[other[0]]]]].tolist()
        raise ContradictionError(
            "transaction", f"{describe(log, pair[0])} and {describe(log, pair[1])}: a transaction ends once", pair
        )
    return marker


def _refuse_data_after_marker(transactions: Transactions) -> None:
    """No data of a transaction follow its marker."""
    log = transactions.content.log
    late = np.flatnonzero(transactions.last > transactions.marker_offset)
    if not len(late):
        return
    x, content = int(late[0]), transactions.content
    row = int(np.searchsorted(content.start, transactions.last[x], side="right")) - 1
    writer = int(log.appends.operation[content.append[row]])
    ender = int(log.markers.operation[transactions.marker[x]])
    raise ContradictionError(
        "transaction",
        f"{describe(log, writer)} stands at offset {log.shown(content.start[row])}, after the end of its transaction: "
        f"{describe(log, ender)}",
        (ender, writer),
    )


def _refuse_other_ending(log: PartitionLog, marker: Column) -> None:
    """A marker is of the kind that EndTxn was told; what failed for certain, and nobody else asked, has no marker."""
    ends = log.end_txns
    at = marker[ends.transaction]
    there = np.flatnonzero(at != NONE)
    if not len(there):
        return
    same = np.zeros(len(ends), dtype=bool)
    same[there] = log.markers.commits[at[there]] == ends.commits[there]
    asked = np.zeros(len(marker), dtype=bool)
    asked[ends.transaction[same & ~ends.failed]] = True
    promised_other = ~same & ~ends.failed & (ends.returned != NEVER)
    failed_alone = same & ends.failed & ends.commits & ~asked[ends.transaction]
    for row in there[(promised_other | failed_alone)[there]][:1]:
        pair = (int(ends.operation[row]), int(log.markers.operation[at[row]]))
        answer = "failed" if ends.failed[row] else "was answered"
        raise ContradictionError(
            "transaction", f"{describe(log, pair[0])} {answer}, yet the log has the {describe(log, pair[1])}", pair
        )
