"""Is what clients saw of one partition's log linearizable? Decided in linear time, because offsets fix the order.

Let T(k) be the moment at which the log's length reaches k. T grows with k, and nothing else is free: every operation
bounds one T(k) from below by its call (a release R) or from above by its return (a deadline D). Such a T exists iff no
release of a length j comes after a deadline of a length k >= j: one cumulative maximum. What fails for two operations
is then said in a sentence: x returned before y was called, and yet y shows a state before x.

Everything else that can be wrong is no matter of time, see `log_content` (C1 to C3), `log_bounds` (C4),
`log_sequences` (C5), `log_gaps` (C6) and `log_transactions` (C7, the last stable offset). Where outcomes are open that
are no matter of matching (transactional appends and markers that nobody saw, batches in gaps), all are tried, up to a
limit: `log_completions`.

Two weaker questions ignore real time. `SESSIONS`: do each process's reads go forward, and see its own acknowledged
appends? `SEQUENTIAL`: is there one order in which every process's operations stand in its own order? (Of one partition;
sequential consistency is not local, so it must not be claimed for several together.)

Source: Herlihy and Wing, Linearizability (1990); KIP-98, KIP-101, KIP-207, KIP-392 for what Kafka promises.
"""

from __future__ import annotations

from enum import Enum

import numpy as np
from hwmark.checkers.linearizability.judgement import Counterexample, Judgement
from hwmark.checkers.linearizability.log_bounds import read_bounds
from hwmark.checkers.linearizability.log_columns import NONE, Column, PartitionLog, column_or
from hwmark.checkers.linearizability.log_completions import (
    answered_without_offset,
    further_completions,
    is_beyond_cure,
)
from hwmark.checkers.linearizability.log_content import Content, LimitReachedError, read_content
from hwmark.checkers.linearizability.log_gaps import COPY, UnfilledGapError, UnplacedAppendError, fill, fill_freely
from hwmark.checkers.linearizability.log_order import order_of
from hwmark.checkers.linearizability.log_real_time import RealTime
from hwmark.checkers.linearizability.log_sequences import (
    Candidate,
    Sequences,
    candidates_in_sequence,
    read_sequences,
)
from hwmark.checkers.linearizability.log_sessions import ProgramOrder
from hwmark.checkers.linearizability.log_transactions import read_transactions
from hwmark.checkers.linearizability.log_words import ContradictionError, describe
from hwmark.checkers.linearizability.log_writers import Batches, acknowledgements
from hwmark.checkers.verdict import Holds, Unknown, Violated


class Mode(Enum):
    """Which order of the operations is asked for."""

    LINEARIZABLE = "linearizable"
    SESSIONS = "sessions"
    SEQUENTIAL = "sequential"


def check_log(
    log: PartitionLog,
    mode: Mode = Mode.LINEARIZABLE,
    *,
    clock_uncertainty: int = 0,
    with_order: bool = True,
) -> Judgement:
    """Decide whether an order of the operations explains them.

    `clock_uncertainty` is by how much, in the unit of the times, a recorded time may be wrong. `with_order=False` saves
    the sorting that writing down an order takes. The order has each operation once, in the place where it takes effect,
    and an append once for each copy of it; operations of unknown outcome that left no trace are left out.

    Raises ValueError for a log that is none: two batches with one value, sessions without processes.
    """
    log = log.widened(clock_uncertainty)
    try:
        content = read_content(log)
        order = _any_order(content, mode, with_order)
    except ContradictionError as contradiction:
        witness = Counterexample(contradiction.sentence, contradiction.operations)
        return Judgement(Violated(contradiction.condition, witness), log.operations)
    except LimitReachedError as limit:
        return Judgement(Unknown(str(limit)), log.operations)
    why = _why_undetermined(content)
    return Judgement(Unknown(why) if why else Holds(), log.operations, None if why else order)


def _any_order(content: Content, mode: Mode, with_order: bool) -> tuple[int, ...] | None:
    """An order, whatever the open outcomes may have been; raises the first ContradictionError if there is none."""
    first = None
    try:
        if not len(answered_without_offset(content)):
            return _explain(content, mode, with_order)
    except ContradictionError as contradiction:
        if is_beyond_cure(content, contradiction):
            raise
        first = contradiction
    for completion in further_completions(content):
        try:
            return _explain(read_content(completion), mode, with_order)
        except ContradictionError as contradiction:
            first = first or contradiction
    assert first is not None
    raise first


def _why_undetermined(content: Content) -> str | None:
    """Why a log that can be explained may yet be wrong: what read_committed showed depends on markers nobody knows."""
    log = content.log
    unknown = log.unknown_transactions()
    matters = log.fetches.read_committed.any() or log.list_offsets.read_committed.any() or len(log.init_producer_ids)
    if not unknown or not (matters or len(content.gaps)):
        return None
    return (
        f"nobody recorded how {len(unknown)} transaction{'' if len(unknown) == 1 else 's'} ended in this log, on which "
        "the last stable offset depends; a final read_uncommitted read with its control records would tell"
    )


def _explain(content: Content, mode: Mode, with_order: bool) -> tuple[int, ...] | None:
    """An order that explains the history; raises ContradictionError if there is none."""
    sequences = read_sequences(content)
    readers = read_bounds(read_transactions(content))
    readers.append(acknowledgements(content, everybody=mode is not Mode.LINEARIZABLE))
    timing: RealTime | ProgramOrder = (
        RealTime(content, readers)
        if mode is Mode.LINEARIZABLE
        else ProgramOrder(content, readers, writes_too=mode is Mode.SEQUENTIAL)
    )
    batches = Batches(content.start, content.append).with_fillers(*_fillers(content, sequences, timing))
    writer, moment = timing.settle(batches)
    return order_of(timing, batches, writer, moment) if with_order else None


def _fillers(content: Content, sequences: Sequences | None, timing: RealTime | ProgramOrder) -> tuple[Column, Column]:
    """The gaps, and the append that fills each; raises ContradictionError (C5, C6)."""
    unseen = _unseen(content)
    low = timing.low(unseen)
    numbered = np.zeros(len(unseen), dtype=bool)
    candidates: list[Candidate] = []
    if sequences is not None:
        numbered = column_or(content.log.appends.sequence, len(content.log.appends))[unseen] != NONE
        candidates = candidates_in_sequence(content, sequences, unseen[numbered], low[numbered])
    gaps = content.gaps
    if not len(gaps) and not candidates:
        return gaps, gaps
    copies_from, copied = _copies_from(content, timing)
    free, free_low = unseen[~numbered], low[~numbered]
    try:
        if not candidates:
            filler = fill_freely(gaps, free, free_low, copies_from)
        else:
            others = zip(free.tolist(), free_low.tolist(), strict=True)
            candidates += [Candidate(append, least, content.length) for append, least in others]
            filler = fill(gaps.tolist(), candidates, copies_from)
    except UnfilledGapError as unfilled:
        raise _unfilled(content, timing, unfilled.offset, len(unseen)) from None
    except UnplacedAppendError as unplaced:
        operation = int(content.log.appends.operation[unplaced.append])
        sentence = (
            f"{describe(content.log, operation)} is in the log, as later sequence numbers are, but finds no offset"
        )
        raise ContradictionError("gap", sentence, (operation,)) from None
    return gaps, np.where(filler == COPY, copied, filler)


def _unseen(content: Content) -> Column:
    """Appends of unknown outcome that nobody saw, and that a matching may place."""
    log, records, rows = content.log, content.records, np.arange(len(content.log.appends))
    if not len(content.gaps) and log.appends.sequence is None:
        return rows[:0]
    free = ~content.is_placed & ~records.failed & (records.size == 1)
    free &= column_or(log.appends.transaction, len(rows)) == NONE
    return np.flatnonzero(free & (records.group_of(rows) == rows))


def _copies_from(content: Content, timing: RealTime | ProgramOrder) -> tuple[int, int]:
    """From which offset on a further copy of an append may stand, and of which."""
    repeatable = np.flatnonzero(content.records.may_repeat & (content.records.size == 1))
    if not len(repeatable) or not len(content.gaps):
        return content.length, COPY
    low = timing.low(repeatable)
    return int(low.min()), int(repeatable[np.argmin(low)])


def _unfilled(
    content: Content, timing: RealTime | ProgramOrder, gap: int, candidates: int
) -> ContradictionError | LimitReachedError:
    """An offset below the length that was shown, and nothing that could stand there."""
    log = content.log
    if (content.records.may_repeat & (content.records.size > 1)).any():
        return LimitReachedError(
            f"whether copies of batches of several records fill offset {log.shown(gap)} was not looked at"
        )
    shower = _first_beyond(content, timing, gap)
    many = f"none of the {candidates} appends of unknown outcome that nobody saw" if candidates else "no append"
    sentence = (
        f"{describe(log, shower)} shows that the log got past offset {log.shown(gap)}, but {many} can stand there"
    )
    return ContradictionError("gap", sentence, (shower,))


def _first_beyond(content: Content, timing: RealTime | ProgramOrder, gap: int) -> int:
    """The operation that returned first of those that show the log beyond an offset; else what stands there next."""
    found = []
    for bounds in timing.readers:
        if bounds.at_least is not None:
            rows = np.flatnonzero(bounds.at_least > gap)
            found += [
                (int(bounds.returned[r]), int(bounds.operation[r])) for r in rows[np.argsort(bounds.returned[rows])[:1]]
            ]
    row = int(np.searchsorted(content.start, gap))
    if found or row == len(content.start):
        return min(found)[1]
    return int(content.log.appends.operation[content.append[row]])
