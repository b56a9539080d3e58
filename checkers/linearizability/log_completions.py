"""Open outcomes that no matching decides: each way to settle them is tried, up to a limit.

- A transactional append that nobody saw may fill a gap, which moves the begin of its transaction and with it the last
  stable offset; one of several records needs several gaps in a row; a producer with unseen appends of several epochs
  may have them in an order that times forbid.
- An append that was answered without an offset is somewhere, if only behind everything that was seen; where copies are
  allowed, perhaps before the place where it was seen.
- A marker of unknown offset, and any marker of a transaction of which nothing is known, may be anywhere or nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from hwmark.checkers.linearizability.log_columns import (
    LONG_AGO,
    NEVER,
    NONE,
    Column,
    Flags,
    Markers,
    PartitionLog,
    column_or,
)
from hwmark.checkers.linearizability.log_content import UNSEEN, Content, LimitReachedError
from hwmark.checkers.linearizability.log_words import ContradictionError

COMPLETIONS_MAX = 4096
CHOICES_MAX = 100


@dataclass(frozen=True)
class _Choice:
    """One open outcome: a row of `Appends`, or of `Markers` (a further row if nothing is known of the transaction).

    `options` are offsets, NONE for nowhere; of an unknown transaction NONE or (offset, whether it commits).
    """

    row: int
    is_marker: bool
    size: int
    options: list[tuple[int, bool]]


def further_completions(content: Content) -> Iterator[PartitionLog]:
    """The log with its open outcomes settled, in every way but the one in which nothing was appended or written.

    Raises LimitReachedError if there are more than COMPLETIONS_MAX ways, or CHOICES_MAX open outcomes.
    """
    log = _with_unknown_markers(content.log)
    choices = _choices(content, log)
    too_many = LimitReachedError(
        f"{len(choices)} appends and markers of unknown outcome may be at {len(content.gaps)} offsets that nobody saw; "
        "a final read_uncommitted read with its control records would tell"
    )
    if len(choices) > CHOICES_MAX:
        raise too_many
    for number, settled in enumerate(_settlements(content, choices, frozenset())):
        if number > COMPLETIONS_MAX:
            raise too_many
        if any(offset != NONE for offset, _ in settled):
            yield _settled(log, choices, settled)


def _settlements(content: Content, choices: list[_Choice], taken: frozenset[int]) -> Iterator[list[tuple[int, bool]]]:
    """Every way to give each open outcome one of its options, no two at one offset."""
    if not choices:
        yield []
        return
    for option in choices[0].options:
        place = range(option[0], option[0] + choices[0].size) if option[0] != NONE else range(0)
        if taken.isdisjoint(place) and (content.at[place.start : place.stop] == UNSEEN).all():
            for rest in _settlements(content, choices[1:], taken.union(place)):
                yield [option, *rest]


def _choices(content: Content, log: PartitionLog) -> list[_Choice]:
    """Every open outcome with its options."""
    records = content.records
    gaps = [(gap, False) for gap in content.gaps.tolist()]
    required = answered_without_offset(content)
    lost = [row for row in open_appends(content) if records.group_of(row) not in records.group_of(required)]
    numbered = _unseen(content) & (column_or(log.appends.sequence, len(log.appends)) != NONE)
    markers = np.flatnonzero(log.markers.offset == NONE)
    before = int(records.size[numbered].sum()) if len(required) else 0
    room = int(records.size[required].sum()) + before + len(markers)
    behind = [(content.length + i, False) for i in range(room)]
    nowhere = [(NONE, False)]
    size = records.size
    choices = [_Choice(int(r), False, int(size[r]), nowhere + gaps + (behind if numbered[r] else [])) for r in lost]
    choices += [_Choice(int(r), False, int(size[r]), nowhere + gaps) for r in perhaps_earlier(content)]
    choices += [_Choice(int(r), False, int(size[r]), gaps + behind) for r in required]
    for row in markers.tolist():
        options = [(offset, bool(log.markers.commits[row])) for offset, _ in gaps + behind]
        if log.markers.operation[row] == NONE:
            options += [(offset, not commits) for offset, commits in options]
        choices.append(_Choice(row, True, 1, nowhere + options))
    return [choice for choice in choices if choice.options != nowhere]


def _unseen(content: Content) -> Flags:
    """Per append: whether it may have happened, and nobody knows where."""
    unseen: Flags = ~content.is_placed & (content.log.appends.offset == NONE)
    if content.log.appends.failed is not None:
        unseen &= ~content.log.appends.failed
    return unseen


def open_appends(content: Content) -> Column:
    """Rows of the unseen appends that only trying places: transactional, of several records, of several epochs."""
    log, records = content.log, content.records
    rows = np.arange(len(log.appends))
    unseen = _unseen(content)
    hard = (column_or(log.appends.transaction, len(rows)) != NONE) | (records.size > 1)
    if log.appends.sequence is not None and log.appends.epoch is not None and log.appends.producer is not None:
        numbered = np.flatnonzero(unseen & (log.appends.sequence != NONE))
        pairs = np.unique(np.stack([log.appends.producer[numbered], log.appends.epoch[numbered]]), axis=1)
        several, count = np.unique(pairs[0], return_counts=True)
        hard |= (log.appends.sequence != NONE) & np.isin(log.appends.producer, several[count > 1])
    return _one_of_each(content, np.flatnonzero(unseen & hard))


def answered_without_offset(content: Content) -> Column:
    """Rows of the appends that were answered, but nobody knows where they are."""
    answered = _unseen(content) & (content.log.appends.returned != NEVER)
    return _one_of_each(content, np.flatnonzero(answered))


def perhaps_earlier(content: Content) -> Column:
    """Rows of the appends that were answered without an offset and seen, but may have been in a gap before."""
    if not content.log.duplicates:
        return np.empty(0, dtype=np.int64)
    appends = content.log.appends
    answered = (appends.returned != NEVER) & (appends.offset == NONE)
    return np.flatnonzero(answered & content.is_placed & content.records.may_repeat)


def _one_of_each(content: Content, rows: Column) -> Column:
    """Of each append and its retries only the first."""
    return rows[np.unique(content.records.group_of(rows), return_index=True)[1]]


def _with_unknown_markers(log: PartitionLog) -> PartitionLog:
    """The log with a marker at an unknown offset for each transaction of which nothing is known."""
    unknown = log.unknown_transactions()
    if not unknown:
        return log
    old, count = log.markers, len(unknown)
    process = None if old.process is None else np.append(old.process, np.full(count, NONE))
    markers = Markers(
        operation=np.append(old.operation, np.full(count, NONE)),
        call=np.append(old.call, np.full(count, LONG_AGO)),
        returned=np.append(old.returned, np.full(count, NEVER)),
        process=process,
        transaction=np.append(old.transaction, np.array(unknown)),
        commits=np.append(old.commits, np.zeros(count, dtype=bool)),
        offset=np.append(old.offset, np.full(count, NONE)),
    )
    return replace(log, markers=markers)


def _settled(log: PartitionLog, choices: list[_Choice], settled: list[tuple[int, bool]]) -> PartitionLog:
    """The log with each choice made."""
    at, marker_at, commits = log.appends.offset.copy(), log.markers.offset.copy(), log.markers.commits.copy()
    for choice, (offset, is_commit) in zip(choices, settled, strict=True):
        if choice.is_marker:
            marker_at[choice.row] = offset
            commits[choice.row] = is_commit
        else:
            at[choice.row] = offset
    appends, markers = replace(log.appends, offset=at), replace(log.markers, offset=marker_at, commits=commits)
    return replace(log, appends=appends, markers=markers)


def is_beyond_cure(content: Content, contradiction: ContradictionError) -> bool:
    """Whether a contradiction stays, whatever the open outcomes are: it is not about what they change."""
    log = content.log
    if contradiction.condition in ("agreement", "no-phantom", "no-duplicate"):
        return True
    if len(perhaps_earlier(content)):
        return False
    reads = [table.operation[table.read_committed] for table in (log.fetches, log.list_offsets)]
    timing = ("real-time", "sessions", "sequential")
    return contradiction.condition in timing and not np.isin(contradiction.operations, np.concatenate(reads)).any()
