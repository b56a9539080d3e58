"""The partition logs behind a recorded history, and whether each is linearizable.

A recording shows less than the protocol does, so only this is claimed of each key (a topic partition):

- An acknowledged send is an append at its offset, between invocation and completion. One of unknown outcome may happen
  at any time from its invocation on, or never; a failed one never happened. The data of a transaction that failed are
  aborted: they may stand in the log, and no client reads them. With `acks` other than all (the configuration says) an
  acknowledgement promises nothing: such sends are of unknown outcome, at an unknown offset, and may leave copies.
- A poll returned every record that it might see from its first offset to its last, unless partitions moved under it;
  it may be old, as consumers fetch ahead, but it cannot know what was not there yet. Clients read read_committed.
- The polls marked as closing reads are, together, one complete read of the end of the log: what is not there is lost.
- Offsets of which nobody knows anything are left out (the offsets are counted anew): they may hold control records or
  aborted data, be compacted or retained no more. So nothing is ever claimed from a gap.
- The marker of a transaction stands in the first gap behind its data that no earlier one has. If that explains nothing,
  the markers are put right behind the data, as early as can be, which asks least of anybody: what fails even so is
  violated, and else nobody knows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from hwmark.checkers.linearizability.judgement import Counterexample, Judgement
from hwmark.checkers.linearizability.log_columns import (
    NEVER,
    NONE,
    Appends,
    Column,
    Decision,
    Fetches,
    Flags,
    Markers,
    PartitionLog,
)
from hwmark.checkers.linearizability.log_rule import Mode, check_log
from hwmark.checkers.verdict import Unknown, Violated
from hwmark.traces.history import NO_OFFSET, NOT_COMPLETED, Closing, Function, History, Key, Operations, Outcome
from numpy.typing import NDArray

ACKS_OF_ALL = ("all", "-1", -1, None)
ABOUT_MARKERS = "whether the log is linearizable depends on where its control records stand, which nobody recorded"


@dataclass(frozen=True)
class RecordedLog:
    """The log of one key; operation i of `log` is row[i] of the history's operations, and stood at offset[i] there."""

    key: Key
    log: PartitionLog
    row: Column
    offset: Column


def check_history(
    history: History,
    mode: Mode = Mode.LINEARIZABLE,
    *,
    every_acknowledgement_counts: bool = False,
    clock_uncertainty: int = 0,
) -> dict[Key, Judgement]:
    """Judge the log of every key; the operations of a judgement are rows of `history.operations`.

    An operation that sent several messages to a key stands several times in its order. `every_acknowledgement_counts`
    takes each for a promise, even one that asked for less than acks=all; `clock_uncertainty` is in nanoseconds.
    """
    evidences = _evidence_of_keys(history, every_acknowledgement_counts)
    return {evidence.name: _check_key(evidence, mode, clock_uncertainty) for evidence in evidences}


def acknowledgements_are_promises(history: History) -> bool:
    """Whether its producers asked for acks=all, as far as the recording says."""
    return history.configuration.get("acks") in ACKS_OF_ALL


def partition_logs(history: History) -> list[RecordedLog]:
    """One log per key, the markers of transactions where they most likely stand."""
    return [_recorded_log(evidence, early=False) for evidence in _evidence_of_keys(history)]


def _check_key(evidence: _Evidence, mode: Mode, clock_uncertainty: int) -> Judgement:
    """Judge one key, with markers where gaps are, and if need be as early as can be."""
    judgement = _judged(_recorded_log(evidence, early=False), mode, clock_uncertainty)
    if not isinstance(judgement.verdict, Violated):
        phantom = _phantom(evidence)
        return judgement if phantom is None else replace(judgement, verdict=Violated("no-phantom", phantom), order=None)
    if not evidence.has_transactions:
        return judgement
    least = _judged(_recorded_log(evidence, early=True), mode, clock_uncertainty)
    return least if isinstance(least.verdict, Violated) else replace(least, verdict=Unknown(ABOUT_MARKERS), order=None)


def _phantom(evidence: _Evidence) -> Counterexample | None:
    """A client's read, at whatever offset, of a value that nobody sent or only operations that failed."""
    history, micro = evidence.history, evidence.history.micro
    raw = history.operations.closing[micro.operation[evidence.placeless]] == Closing.READ_UNCOMMITTED
    may_be = evidence.sent[history.operations.outcome[micro.operation[evidence.sent]] != Outcome.FAIL]
    read = evidence.placeless[~raw]
    phantoms = read[~np.isin(micro.value[read], micro.value[may_be])]
    if not len(phantoms):
        return None
    first = phantoms[0]
    senders = micro.operation[evidence.sent[micro.value[evidence.sent] == micro.value[first]]].tolist()
    reader, value = int(micro.operation[first]), history.value(int(micro.value[first]))
    what = f"only operation {senders[0]} sent, which failed" if senders else "nobody sent"
    return Counterexample(
        f"operation {reader} returned {value} at an unknown offset, which {what}", (*senders[:1], reader)
    )


def _judged(recorded: RecordedLog, mode: Mode, clock_uncertainty: int) -> Judgement:
    """The judgement in rows of the history."""
    try:
        judgement = check_log(recorded.log, mode, clock_uncertainty=clock_uncertainty)
    except ValueError as unusable:
        return Judgement(Unknown(str(unusable)), len(recorded.row))
    order = None if judgement.order is None else tuple(recorded.row[list(judgement.order)].tolist())
    verdict = judgement.verdict
    if isinstance(verdict, Violated):
        rows = tuple(dict.fromkeys(recorded.row[list(verdict.witness.operations)].tolist()))
        verdict = Violated(verdict.name, Counterexample(verdict.witness.sentence, rows))
    return Judgement(verdict, judgement.operations, order)


@dataclass(frozen=True)
class _Evidence:
    """The messages of one key: rows of `history.micro` sent and read, in order; and its closing reads' rows.

    `placeless` are reads of which nobody recorded the offset.
    """

    history: History
    key: int
    name: Key
    sent: Column
    read: Column
    placeless: Column
    closing: dict[Closing, Column]
    moved: NDArray[np.int32]
    acknowledges_all: bool

    @property
    def has_transactions(self) -> bool:
        """Whether any transaction sent to this key."""
        operations = self.history.operations
        return bool((operations.function[self.history.micro.operation[self.sent]] == Function.TXN).any())


def _evidence_of_keys(history: History, all_count: bool = False) -> Iterator[_Evidence]:
    """Split the messages by key."""
    micro = history.micro
    all_count = all_count or acknowledgements_are_promises(history)
    count = len(history.keys)
    messages, moves = _split(micro.key, count), _split(history.rebalanced.key, count)
    closing = {level: _closing_rows(history, level) for level in (Closing.READ_COMMITTED, Closing.READ_UNCOMMITTED)}
    covered = {level: _covered_keys(history, level) for level in closing}
    for key, (name, rows, moved) in enumerate(zip(history.keys, messages, moves, strict=True)):
        covers = {level: polls if covered[level][key] else polls[:0] for level, polls in closing.items()}
        is_send, is_placed = micro.is_send[rows], micro.offset[rows] != NO_OFFSET
        sent, read, placeless = rows[is_send], rows[~is_send & is_placed], rows[~is_send & ~is_placed]
        moved_by = history.rebalanced.operation[moved]
        yield _Evidence(history, key, name, sent, read, placeless, covers, moved_by, all_count)


def _split(keys: NDArray[np.int32], count: int) -> list[Column]:
    """The rows of each key, in order."""
    order = np.argsort(keys, kind="stable")
    return np.split(order, np.searchsorted(keys[order], np.arange(1, count + 1)))[:count]


def _covered_keys(history: History, level: Closing) -> Flags:
    """Per key: whether a closing read is of it; of all where nobody said which partitions it was assigned."""
    assigned = history.assigned
    told = assigned.key[history.operations.closing[assigned.operation] == level]
    covered = np.full(len(history.keys), not len(told))
    covered[told] = True
    return covered


def _closing_rows(history: History, level: Closing) -> Column:
    """The polls of a closing read; none if one of them was not answered: then it is not complete."""
    operations = history.operations
    rows = np.flatnonzero((operations.closing == level) & (operations.function == Function.POLL))
    return rows if (operations.outcome[rows] == Outcome.OK).all() else rows[:0]


class _Tables:
    """The operations of one key's log, as they will be numbered: sends, then polls, closing reads, and markers."""

    def __init__(self, evidence: _Evidence) -> None:
        self.evidence, self.history = evidence, evidence.history
        self.operations, self.micro = self.history.operations, self.history.micro
        self.sent_by = self.micro.operation[evidence.sent].astype(np.int64)
        self.is_transaction: Flags = self.operations.function[self.sent_by] == Function.TXN
        self.outcome = self.operations.outcome[self.sent_by]
        told = (self.outcome == Outcome.OK) & (self.is_transaction | evidence.acknowledges_all)
        self.told_offset = np.where(told, self.micro.offset[evidence.sent], NONE)
        self.is_told = told
        self.transactions, inside = np.unique(self.sent_by[self.is_transaction], return_inverse=True)
        self.transaction = np.full(len(self.sent_by), NONE)
        self.transaction[self.is_transaction] = inside.reshape(-1)

    def times(self, rows: Column) -> tuple[Column, Column]:
        """Invocation and completion of operations, NEVER for those that did not complete."""
        completed = self.operations.completed_at[rows]
        return self.operations.invoked_at[rows], np.where(
            self.operations.completed[rows] == NOT_COMPLETED, NEVER, completed
        )

    def appends(self) -> Appends:
        """Every message sent, a batch each; offsets are those of the recording."""
        call, returned = self.times(self.sent_by)
        known = self.is_told & ((self.told_offset != NONE) | self.is_read())
        return Appends(
            operation=np.arange(len(self.sent_by)),
            call=call,
            returned=np.where(known, returned, NEVER),
            process=self.operations.process[self.sent_by],
            value=self.micro.value[self.evidence.sent],
            offset=self.told_offset,
            transaction=self.transaction if len(self.transactions) else None,
            failed=(self.outcome == Outcome.FAIL) & ~self.is_transaction,
        )

    def is_read(self) -> Flags:
        """Per message sent: whether anybody read it."""
        values = self.micro.value
        read: Flags = np.isin(values[self.evidence.sent], values[self.evidence.read])
        return read

    def decisions(self) -> Column:
        """How each transaction ended; one of unknown outcome committed if a client read it, and else it aborted.

        One that left nothing is UNDECIDED: it needs no marker.
        """
        outcome = self.operations.outcome[self.transactions]
        read = self.evidence.read
        raw = self.operations.closing[self.micro.operation[read]] == Closing.READ_UNCOMMITTED
        values = self.micro.value
        by_client = np.isin(values[self.evidence.sent], values[read[~raw]])
        committed = outcome == Outcome.OK
        seen = np.zeros(len(self.transactions), dtype=bool)
        proof = self.is_transaction & by_client & (self.outcome == Outcome.INFO)
        committed[self.transaction[proof]] = True
        left = self.is_transaction & (self.is_read() | (self.told_offset != NONE))
        seen[self.transaction[left]] = True
        ended = np.where(committed, Decision.COMMITTED, Decision.ABORTED)
        return np.where(seen, ended, Decision.UNDECIDED)


class _Count:
    """Offsets counted anew: those at which somebody knows data, and one for each marker; all others are left out."""

    def __init__(self, known: Column, markers: Column) -> None:
        self.known = known
        both = np.concatenate([known, markers])
        places = np.lexsort((np.arange(len(both)) >= len(known), both))
        rank = np.empty(len(both), dtype=np.int64)
        rank[places] = np.arange(len(both))
        self.of_known, self.marker, self.total = rank[: len(known)], rank[len(known) :], len(both)
        self.recorded = both[places]

    def anew(self, offsets: Column) -> Column:
        """Offsets at which data are known, counted anew; NONE stays what it is."""
        if not len(self.known):
            return np.full(len(offsets), NONE)
        at = np.minimum(np.searchsorted(self.known, offsets), len(self.known) - 1)
        return np.where(offsets == NONE, NONE, self.of_known[at])


def _recorded_log(evidence: _Evidence, *, early: bool) -> RecordedLog:
    """The log of a key, its offsets counted anew; `early`: markers right behind the data instead of in gaps."""
    tables = _Tables(evidence)
    appends, decisions = tables.appends(), tables.decisions()
    read_at = tables.micro.offset[evidence.read]
    known = np.unique(np.concatenate([appends.offset[appends.offset != NONE], read_at]))
    ended = np.flatnonzero(decisions != Decision.UNDECIDED)
    last = _last_offsets(tables, appends)[ended]
    count = _Count(known, last if early else _gaps_behind(known, last))
    fetches, fetched_by = _fetches(tables, count, decisions, len(appends))
    rows = np.concatenate([tables.sent_by, fetched_by, tables.transactions[ended]]).astype(np.int64)
    enders = tables.transactions[ended]
    markers = Markers(
        operation=len(appends) + len(fetches) + np.arange(len(ended)),
        call=tables.operations.invoked_at[enders],
        returned=np.full(len(ended), NEVER),
        process=tables.operations.process[enders],
        transaction=ended,
        commits=decisions[ended] == Decision.COMMITTED,
        offset=count.marker,
    )
    log = PartitionLog(
        operations=len(rows),
        appends=replace(appends, offset=count.anew(appends.offset)),
        fetches=fetches,
        markers=markers,
        duplicates=not evidence.acknowledges_all,
        decisions=np.full(len(decisions), Decision.UNDECIDED),
        names=_Names(evidence.history),
        offsets=count.recorded,
        numbers=rows,
    )
    return RecordedLog(evidence.name, log, rows, count.recorded)


class _Names(dict[int, object]):
    """The recorded values by number, looked up when asked for."""

    def __init__(self, history: History) -> None:
        self.history = history

    def __missing__(self, number: int) -> object:
        return self.history.value(number)


def _last_offsets(tables: _Tables, appends: Appends) -> Column:
    """Per transaction the last offset at which anybody saw its data."""
    micro, evidence = tables.micro, tables.evidence
    last = np.full(len(tables.transactions), NONE)
    told = np.flatnonzero(tables.is_transaction & (appends.offset != NONE))
    np.maximum.at(last, tables.transaction[told], appends.offset[told])
    inside = np.flatnonzero(tables.is_transaction)
    inside = inside[np.argsort(appends.value[inside], kind="stable")]
    if len(inside):
        values = micro.value[evidence.read]
        at = np.minimum(np.searchsorted(appends.value[inside], values), len(inside) - 1)
        same = appends.value[inside][at] == values
        np.maximum.at(last, tables.transaction[inside[at[same]]], micro.offset[evidence.read][same])
    return last


def _gaps_behind(known: Column, last: Column) -> Column:
    """For each transaction, in the order of their ends, the first offset behind it that nobody else has."""
    run_end = np.append(np.flatnonzero(np.diff(known) > 1), len(known) - 1)
    place = np.empty(len(last), dtype=np.int64)
    taken = NONE
    for x in np.argsort(last, kind="stable").tolist():
        at = max(int(last[x]), taken) + 1
        row = int(np.searchsorted(known, at))
        if row < len(known) and known[row] == at:
            at = int(known[run_end[np.searchsorted(run_end, row)]]) + 1
        place[x] = taken = at
    return place


def _fetches(tables: _Tables, count: _Count, decisions: Column, first_operation: int) -> tuple[Fetches, Column]:
    """Polls and closing reads as fetches, and the row of each in the history."""
    evidence, operations = tables.evidence, tables.operations
    row = tables.micro.operation[evidence.read].astype(np.int64)
    value, at = tables.micro.value[evidence.read], count.anew(tables.micro.offset[evidence.read])
    is_closing = np.zeros(len(row), dtype=bool)
    parts = []
    for level, polls in evidence.closing.items():
        mine = np.isin(row, polls)
        is_closing |= mine
        if len(polls):
            hidden = _hidden(tables, count, decisions, level)
            parts.append(_closing_fetch(operations, polls, level, at[mine], value[mine], hidden))
    ordinary = ~is_closing
    parts.insert(0, _poll_fetches(tables, row[ordinary], at[ordinary], value[ordinary]))
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    rows = columns.pop("row")
    call, returned = columns.pop("call"), columns.pop("returned")
    first = np.concatenate([[0], np.cumsum(columns.pop("count"))]).astype(np.int64)
    numbers = first_operation + np.arange(len(rows))
    shared = {"operation": numbers, "call": call, "returned": returned, "process": operations.process[rows]}
    watermark = np.full(len(rows), NONE)
    return Fetches(**shared, **columns, first=first, high_watermark=watermark, lagging=~columns["complete"]), rows


def _poll_fetches(tables: _Tables, row: Column, at: Column, value: Column) -> dict[str, Column]:
    """One fetch per poll from its first record to its last; one per record where it did not read on in order."""
    is_new = np.ones(len(row), dtype=bool)
    is_new[1:] = row[1:] != row[:-1]
    backwards = np.zeros(len(row), dtype=bool)
    backwards[1:] = ~is_new[1:] & (at[1:] <= at[:-1])
    raw = tables.operations.closing[row] == Closing.READ_UNCOMMITTED
    is_new |= np.isin(row, np.concatenate([row[backwards], tables.evidence.moved])) | raw
    first = np.flatnonzero(is_new)
    end = np.append(first[1:], len(row)) if len(first) else first
    call, returned = tables.times(row[first])
    return {
        "row": row[first],
        "call": call,
        "returned": returned,
        "start": at[first],
        "next": at[end - 1] + 1 if len(first) else first,
        "read_committed": ~raw[first],
        "complete": np.zeros(len(first), dtype=bool),
        "count": end - first,
        "offset": at,
        "value": value,
    }


def _closing_fetch(
    operations: Operations, polls: Column, level: Closing, at: Column, value: Column, hidden: Flags
) -> dict[str, Column]:
    """All polls of a closing read as one fetch of the whole log, up to the next record that it should have returned."""
    pairs = np.unique(np.stack([at, value]), axis=1) if len(at) else np.empty((2, 0), dtype=np.int64)
    end = int(pairs[0, -1]) + 1 if len(at) else 0
    visible = np.flatnonzero(~hidden[end:])
    end = end + int(visible[0]) if len(visible) else len(hidden)
    last = polls[np.argmax(operations.completed_at[polls])]
    one = {
        "row": last,
        "call": operations.invoked_at[polls].min(),
        "returned": operations.completed_at[last],
        "start": 0,
        "next": end,
        "read_committed": level == Closing.READ_COMMITTED,
        "complete": True,
        "count": pairs.shape[1],
    }
    return {name: np.array([of]) for name, of in one.items()} | {"offset": pairs[0], "value": pairs[1]}


def _hidden(tables: _Tables, count: _Count, decisions: Column, level: Closing) -> Flags:
    """Per offset, counted anew, whether a closing read leaves it out: control records, data that did not commit."""
    hidden = np.zeros(count.total, dtype=bool)
    hidden[count.marker] = True
    if level == Closing.READ_COMMITTED and len(decisions):
        hides = tables.is_transaction & (decisions[tables.transaction] != Decision.COMMITTED)
        told = hides & (tables.told_offset != NONE)
        hidden[count.anew(tables.told_offset[told])] = True
        values = tables.micro.value
        hidden_read = np.isin(values[tables.evidence.read], values[tables.evidence.sent[hides]])
        hidden[count.anew(tables.micro.offset[tables.evidence.read[hidden_read]])] = True
    return hidden
