"""What each operation says of the log's length at the moment it took effect: at least this, and below that.

Lengths are those at which no batch is cut in two. An operation that shows a last stable offset is translated to the
length by M (see `log_transactions`). Here are also the conditions that one answer fails by itself: C4 (a fetch returns
exactly what it may see of the offsets it passed, in order) and a length that no log could have had at one time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hwmark.checkers.linearizability.log_columns import (
    NEVER,
    NONE,
    Column,
    Fetches,
    Flags,
    PartitionLog,
    Requests,
)
from hwmark.checkers.linearizability.log_content import FIRST_MARKER, UNSEEN, fetch_of
from hwmark.checkers.linearizability.log_transactions import Transactions
from hwmark.checkers.linearizability.log_words import ContradictionError, describe


@dataclass(frozen=True)
class Bounds:
    """Operations with the length that they need (`at_least`) and that is too much (`below`).

    The length reaches `at_least` before the operation returns, and `below` only after it was called. None: no such
    bound for any of them; NEVER in `below`: none for this one. `are_reads`: answers about the log itself.
    """

    operation: Column
    process: Column | None
    call: Column
    returned: Column
    at_least: Column | None
    below: Column | None
    are_reads: bool = False

    def __len__(self) -> int:
        return len(self.operation)

    def where(self, rows: Flags) -> Bounds:
        """Some of them."""
        process, at_least, below = (None if c is None else c[rows] for c in (self.process, self.at_least, self.below))
        return Bounds(
            self.operation[rows], process, self.call[rows], self.returned[rows], at_least, below, self.are_reads
        )


def read_bounds(transactions: Transactions) -> list[Bounds]:
    """What everything but the appends says; raises ContradictionError for an answer that no log could have given."""
    return [
        _list_offsets(transactions),
        _fetches(transactions),
        _markers(transactions),
        _end_txns(transactions),
        _init_producer_ids(transactions),
    ]


def _of(requests: Requests, at_least: Column | None, below: Column | None, are_reads: bool = False) -> Bounds:
    """The bounds of all rows of a table."""
    return Bounds(requests.operation, requests.process, requests.call, requests.returned, at_least, below, are_reads)


def _markers(transactions: Transactions) -> Bounds:
    """A control record is written like an append: below its offset before, behind it after."""
    markers = transactions.content.log.markers
    end = np.where(markers.offset == NONE, NEVER, markers.offset + 1)
    return _of(markers, np.where(end == NEVER, 0, end), end)


def _end_txns(transactions: Transactions) -> Bounds:
    """The first request to end a transaction, if it was answered, comes before its marker; a retry may come after."""
    ends = transactions.content.log.end_txns
    below = np.full(len(ends), NEVER)
    rows = np.flatnonzero(~ends.failed)
    rows = rows[np.lexsort((rows, ends.call[rows]))][::-1]
    first = np.full(len(transactions.marker), NONE)
    first[ends.transaction[rows]] = rows
    first = first[(first != NONE) & (transactions.marker != NONE)]
    first = first[ends.returned[first] != NEVER]
    below[first] = transactions.marker_offset[ends.transaction[first]] + 1
    return _of(ends, np.zeros(len(ends), dtype=np.int64), below).where(~ends.failed)


def _init_producer_ids(transactions: Transactions) -> Bounds:
    """An answer comes after the markers of what the transactional id had ended, by an answered request, before."""
    log = transactions.content.log
    inits, ends = log.init_producer_ids, log.end_txns
    at_least = np.zeros(len(inits), dtype=np.int64)
    if not len(inits) or not len(ends):
        return _of(inits, at_least, None)
    sure = np.flatnonzero(~ends.failed & (ends.returned != NEVER))
    sure = sure[np.lexsort((ends.returned[sure], ends.producer[sure]))]
    marker = transactions.marker_offset[ends.transaction[sure]]
    for producer in np.unique(inits.producer):
        mine = slice(*np.searchsorted(ends.producer[sure], [producer, producer + 1]))
        rows = np.flatnonzero(inits.producer == producer)
        before = np.searchsorted(ends.returned[sure][mine], inits.call[rows])
        greatest = np.concatenate([[-1], np.maximum.accumulate(marker[mine])])
        unwritten = rows[greatest[before] == NEVER]
        if len(unwritten):
            ended = int(ends.operation[sure[mine][np.argmax(marker[mine])]])
            _refuse_unwritten(log, ended, int(inits.operation[unwritten[0]]))
        at_least[rows] = greatest[before] + 1
    return _of(inits, at_least, None)


def _refuse_unwritten(log: PartitionLog, ended: int, init: int) -> None:
    """A new epoch although a transaction that had ended has no marker."""
    raise ContradictionError(
        "transaction",
        f"{describe(log, init)} was answered, but the log has no marker for {describe(log, ended)}",
        (ended, init),
    )


def _list_offsets(transactions: Transactions) -> Bounds:
    """The answer is exactly the high watermark, or the last stable offset."""
    content, lists = transactions.content, transactions.content.log.list_offsets
    at_least, below = content.whole(lists.result), content.whole(lists.result + 1)
    possible = at_least == lists.result
    if lists.read_committed.any():
        stable = transactions.stable_length
        committed = lists.read_committed
        at_least = np.where(committed, stable[lists.result], at_least)
        below = np.where(committed, stable[lists.result + 1], below)
        possible = np.where(committed, at_least < below, possible)
    if not possible.all():
        row = int(np.flatnonzero(~possible)[0])
        _refuse_length(transactions, int(lists.operation[row]), int(lists.result[row]), bool(lists.read_committed[row]))
    return _of(lists, at_least, below, are_reads=True)


def _refuse_length(transactions: Transactions, operation: int, length: int, read_committed: bool) -> None:
    """An answer that is no length, or no last stable offset, at any time."""
    log = transactions.content.log
    shown = f"{describe(log, operation)} is impossible at any time: "
    if transactions.content.batch_end[length] != length and not read_committed:
        raise ContradictionError(
            "whole-batches", f"{shown}length {log.shown_length(length)} is inside a batch", (operation,)
        )
    markers = log.markers.operation[transactions.marker[transactions.marker != NONE]].tolist()
    if int(transactions.stable_length[length]) > transactions.content.length:
        _refuse_undecided(transactions, operation, length)
    if not read_committed:
        raise ContradictionError("high-watermark", f"{shown}it does not end where the log did", (operation,))
    raise ContradictionError(
        "last-stable-offset",
        f"{shown}offset {log.shown_length(length)} is inside a finished transaction or a batch, over which the last "
        "stable offset jumps",
        (operation, *markers[:1]),
    )


def _refuse_undecided(transactions: Transactions, operation: int, length: int) -> None:
    """An answer from beyond a transaction that has no marker."""
    content = transactions.content
    log = content.log
    begun = (transactions.first != NONE) & (transactions.first < length) & (transactions.marker == NONE)
    x = int(np.flatnonzero(begun)[0])
    row = int(np.searchsorted(content.start, transactions.first[x]))
    writer = int(log.appends.operation[content.append[row]])
    raise ContradictionError(
        "last-stable-offset",
        f"{describe(log, operation)} got past offset {log.shown(transactions.first[x])}, where the undecided "
        f"transaction {x} begins: {describe(log, writer)}",
        (writer, operation),
    )


def _fetches(transactions: Transactions) -> Bounds:
    """A fetch shows that the log reaches `next`, and its high watermark; a fresh one is of exactly that log."""
    content, fetches = transactions.content, transactions.content.log.fetches
    _refuse_shape(transactions, fetches)
    at_least = content.whole(fetches.next)
    if fetches.read_committed.any():
        at_least = np.where(fetches.read_committed, transactions.stable_length[fetches.next], at_least)
    known = fetches.high_watermark != NONE
    watermark = np.where(known, fetches.high_watermark, 0)
    _refuse_watermarks(transactions, at_least, np.where(known, watermark, NEVER))
    below = np.full(len(fetches), NEVER)
    fresh = known & ~fetches.lagging
    below[fresh] = content.whole(watermark[fresh] + 1)
    at_least = np.where(known, watermark, at_least)
    _bound_complete_answers(transactions, at_least, below)
    return _of(fetches, at_least, below, are_reads=True)


def _bound_complete_answers(transactions: Transactions, at_least: Column, below: Column) -> None:
    """A complete answer goes up to the length of that log, or its last stable offset."""
    content, fetches = transactions.content, transactions.content.log.fetches
    if fetches.complete is None:
        return
    rows = np.flatnonzero(fetches.complete & ~fetches.lagging)
    end, committed = fetches.next[rows], fetches.read_committed[rows]
    beyond = np.where(committed, transactions.stable_length[end + 1], content.whole(end + 1))
    below[rows] = np.minimum(below[rows], beyond)
    impossible = (at_least[rows] >= below[rows]) | (~committed & (content.whole(end) != end))
    for row in rows[impossible][:1]:
        is_committed = bool(fetches.read_committed[row])
        _refuse_length(transactions, int(fetches.operation[row]), int(fetches.next[row]), is_committed)


def _refuse_watermarks(transactions: Transactions, at_least: Column, watermark: Column) -> None:
    """Nobody reads past the high watermark, which cuts no batch in two; nor past the last stable offset."""
    content, fetches = transactions.content, transactions.content.log.fetches
    log = content.log
    unstable = np.flatnonzero(at_least > content.length)
    if len(unstable):
        _refuse_undecided(transactions, int(fetches.operation[unstable[0]]), int(fetches.next[unstable[0]]))
    known = watermark != NEVER
    cut = np.zeros(len(known), dtype=bool)
    if not content.records.single:
        cut = known & (content.whole(np.where(known, watermark, 0)) != watermark)
    for row in np.flatnonzero(cut | (at_least > watermark))[:1]:
        operation = int(fetches.operation[row])
        why = (
            "its high watermark is inside a batch"
            if cut[row]
            else f"it needs the log up to length {log.shown_length(at_least[row])}, beyond its high watermark"
        )
        raise ContradictionError("high-watermark", f"{describe(log, operation)} is impossible: {why}", (operation,))


def _refuse_shape(transactions: Transactions, fetches: Fetches) -> None:
    """C4: a fetch returns, in order, exactly what it may see from `start` to `next`."""
    if not len(fetches):
        return
    log = transactions.content.log
    _refuse_disorder(log, fetches)
    expected = fetches.next - fetches.start
    markers = transactions.content.at <= FIRST_MARKER
    if markers.any():
        expected = _visible_between(~markers, fetches)
    if fetches.read_committed.any() and transactions.hidden.any():
        expected = np.where(fetches.read_committed, _visible_between(~transactions.hidden, fetches), expected)
        _refuse_hidden(transactions, fetches)
    wrong = np.flatnonzero(np.diff(fetches.first) != expected)
    if len(wrong):
        _refuse_hole(transactions, int(wrong[0]))


def _visible_between(visible: Flags, fetches: Fetches) -> Column:
    """How many visible offsets each fetch passed."""
    before = np.concatenate([[0], np.cumsum(visible)])
    passed: Column = before[fetches.next] - before[fetches.start]
    return passed


def _refuse_disorder(log: PartitionLog, fetches: Fetches) -> None:
    """Records come in the order of their offsets, from within [start, next)."""
    first, end, offset = fetches.first[:-1], fetches.first[1:], fetches.offset
    disorder = offset[1:] <= offset[:-1]
    inner = first[(first > 0) & (first < len(offset))]
    disorder[inner - 1] = False
    wrong = fetches.next < fetches.start
    some = np.flatnonzero(end > first)
    wrong[some] |= (offset[first[some]] < fetches.start[some]) | (offset[end[some] - 1] >= fetches.next[some])
    if disorder.any():
        operation = fetch_of(log, int(np.flatnonzero(disorder)[0]))
        raise ContradictionError("fetch-shape", f"{describe(log, operation)} is not in order of offsets", (operation,))
    if wrong.any():
        operation = int(fetches.operation[np.flatnonzero(wrong)[0]])
        sentence = f"{describe(log, operation)} returned a record from outside the offsets that it passed"
        raise ContradictionError("fetch-shape", sentence, (operation,))


def _refuse_hidden(transactions: Transactions, fetches: Fetches) -> None:
    """C7: a read_committed fetch returns nothing of a transaction that is not committed."""
    content = transactions.content
    log, committed = content.log, np.repeat(fetches.read_committed, np.diff(fetches.first))
    wrong = np.flatnonzero(committed & transactions.hidden[fetches.offset])
    if not len(wrong):
        return
    row = int(wrong[0])
    reader = fetch_of(log, row)
    append = int(content.records.append_of(content.at[fetches.offset[row : row + 1]])[0])
    x = int(log.appends.transaction[append]) if log.appends.transaction is not None else NONE
    state = "undecided" if transactions.marker[x] == NONE else "aborted"
    enders = [] if transactions.marker[x] == NONE else [int(log.markers.operation[transactions.marker[x]])]
    raise ContradictionError(
        "transaction",
        f"{describe(log, reader)} returned {log.label(int(fetches.value[row]))!r} at offset "
        f"{log.shown(fetches.offset[row])} of the {state} transaction {x}",
        (int(log.appends.operation[append]), *enders, reader),
    )


def _refuse_hole(transactions: Transactions, row: int) -> None:
    """A fetch left out something that it had to return."""
    content, fetches = transactions.content, transactions.content.log.fetches
    log = content.log
    hidden = transactions.hidden if fetches.read_committed[row] else content.at <= FIRST_MARKER
    passed = np.arange(fetches.start[row], fetches.next[row])
    returned = fetches.offset[fetches.first[row] : fetches.first[row + 1]]
    missing = int(np.setdiff1d(passed[~hidden[passed]], returned)[0])
    reader, what = int(fetches.operation[row]), int(content.at[missing])
    known = [] if what == UNSEEN else [int(log.appends.operation[content.records.append_of(np.array([what]))[0]])]
    held = f", where {describe(log, known[0])} stands" if known else ""
    sentence = f"{describe(log, reader)} left out offset {log.shown(missing)}{held}"
    raise ContradictionError("fetch-shape", sentence, (*known, reader))
