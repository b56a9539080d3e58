"""What consumer groups processed, by the offsets that their transactions committed: exactly once, or not.

A transaction that commits offset n of a partition for a group claims that the group is done with everything below n.
A record is *processed* by a committed transaction that polled it and committed an offset past it. Three promises:

- *processed-twice*: no two committed transactions of a group process the same record. The same record is the same
  message at the same offset; reads without an offset are left out.
- *processed-never*: nothing that read_committed readers can see lies below a committed offset and was polled by no
  transaction of the group. How far down a commit answers for the records below it: to the least offset that the group
  had committed before (acknowledged before this transaction began), or to the first record that it polled itself. A
  group may start in the middle of a partition, and what lies below its start is nobody's. Offsets without a record
  (transaction markers, aborted records) are never asked for, nor are offsets at which several messages were seen: what
  a group should have processed there is not defined, and inconsistent-offsets says so.
- *group-offset-back*: no offset is committed below one whose commit had been acknowledged before.

Outcomes. A failed transaction commits nothing, whatever it polled. One of unknown outcome commits for certain only if
a message of it was read; otherwise it accuses nobody, but excuses: what it polled may have been processed. So may
anything that already existed when it ended, if what it polled was not recorded. Polls outside of transactions (`poll`)
by a process that commits offsets excuse as well, since the record may have been processed in its next transaction.
Offsets reset by hand are not part of a recording, and are taken for what they look like.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from hwmark.checkers.histories.evidence import NOWHERE, Evidence, Mask, Places, Rows, changes
from hwmark.checkers.histories.kinds import GROUP_OFFSET_BACK, PROCESSED_NEVER, PROCESSED_TWICE, Anomaly
from hwmark.checkers.histories.showing import Showing, span
from hwmark.traces.history import NO_OFFSET, Closing, Function, Outcome
from numpy.typing import NDArray

GROUP_TYPES = (PROCESSED_TWICE, PROCESSED_NEVER, GROUP_OFFSET_BACK)
FAR = np.iinfo(np.int64).max


def group_anomalies(evidence: Evidence) -> dict[str, list[Anomaly]]:
    """All three types, in order of group, key and offset or operation."""
    if not len(evidence.history.group_offsets.operation):
        return {}
    groups = Groups(evidence)
    return {
        PROCESSED_TWICE: _processed_twice(groups),
        PROCESSED_NEVER: [anomaly for commits in groups.commits for anomaly in _processed_never(groups, commits)],
        GROUP_OFFSET_BACK: [anomaly for commits in groups.commits for anomaly in _offsets_back(groups, commits)],
    }


@dataclass(frozen=True)
class Commits:
    """The offsets that certainly were committed for one group and key, one per transaction, in order of completion.

    `first_polled` is the least offset of the key that the transaction polled, FAR if none is known. `least` and
    `greatest` are the offsets acknowledged before the transaction began, FAR and NO_OFFSET if none were, and `least_by`
    and `greatest_by` the operations that committed them.
    """

    group: int
    key: int
    operation: Rows
    offset: Rows
    first_polled: Rows
    least: Rows
    least_by: Rows
    greatest: Rows
    greatest_by: Rows

    @cached_property
    def start(self) -> Rows:
        """From where on each commit answers for the records below its offset."""
        return np.minimum(self.least, self.first_polled)


class Groups:
    """The polls and commits of consumer groups; operations are rows of `history.operations`."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence, self.history = evidence, evidence.history
        table, operations = self.history.group_offsets, self.history.operations
        order = np.lexsort((table.operation, table.key, table.group))
        # A transaction's last offset for a group and key is the one that it commits.
        rows = order[np.roll(changes(table.operation[order], table.key[order], table.group[order]), -1)]
        self.operation = table.operation[rows].astype(np.int64)
        self.group, self.key, self.offset = table.group[rows].astype(np.int64), table.key[rows], table.offset[rows]
        self.is_certain: Mask = (evidence.committed & ~_meant_to_abort(evidence))[self.operation]
        self.reads = np.flatnonzero(
            evidence.is_read & (operations.closing[self.history.micro.operation] == Closing.NONE)
        )

    @cached_property
    def polled(self) -> tuple[Rows, Rows]:
        """Pairs of a message that a transaction polled and an offset of its key that the transaction committed."""
        keys, micro = np.int64(len(self.history.keys)), self.history.micro
        read = micro.operation[self.reads] * keys + micro.key[self.reads]
        at, by = _joined(read, self.operation * keys + self.key)
        return self.reads[at], by

    @cached_property
    def commits(self) -> list[Commits]:
        """The certain commits of each group and key."""
        rows, by = self.polled
        offset = self.history.micro.offset[rows]
        first_polled = np.full(len(self.operation), FAR)
        np.minimum.at(first_polled, by[offset != NO_OFFSET], offset[offset != NO_OFFSET])
        certain = np.flatnonzero(self.is_certain)
        starts = np.flatnonzero(changes(self.group[certain], self.key[certain]))
        return [self._commits(part, first_polled[part]) for part in np.split(certain, starts[1:]) if len(part)]

    def _commits(self, rows: Rows, first_polled: Rows) -> Commits:
        """The commits of one group and key."""
        operation, offset, operations = self.operation[rows], self.offset[rows], self.history.operations
        acknowledged = np.flatnonzero(operations.outcome[operation] == Outcome.OK)
        before = np.searchsorted(operations.completed[operation[acknowledged]], operations.invoked[operation])
        known = offset[acknowledged], operation[acknowledged], before
        least, greatest = _so_far(np.minimum, FAR, *known), _so_far(np.maximum, NO_OFFSET, *known)
        return Commits(
            int(self.group[rows[0]]), int(self.key[rows[0]]), operation, offset, first_polled, *least, *greatest
        )

    @cached_property
    def _maybe_polled(self) -> Rows:
        """Codes, sorted, of group and message for what a transaction of a group polled and may have committed."""
        micro = self.history.micro
        may = self.history.operations.outcome[self.operation] != Outcome.FAIL
        at, by = _joined(micro.operation[self.reads].astype(np.int64), self.operation[may])
        return np.unique(self._code(self.group[may][by], self.evidence.message[self.reads[at]]))

    def _code(self, group: Rows | int, message: NDArray[Any]) -> Rows:
        """One number for a group and a message."""
        return group * np.int64(len(self.evidence)) + message

    @cached_property
    def _polled_by_others(self) -> Mask:
        """Messages polled where nobody knows for which group: outside of transactions, or by one of unknown outcome."""
        operations, operation = self.history.operations, self.history.micro.operation[self.reads]
        commits = np.isin(operations.process, operations.process[self.operation])
        outside = (operations.function == Function.POLL) & commits
        unknown = (operations.function == Function.TXN) & (operations.outcome == Outcome.INFO)
        unknown[self.operation] = False
        found = np.zeros(len(self.evidence), dtype=bool)
        found[self.evidence.message[self.reads[(outside | unknown)[operation]]]] = True
        return found

    @cached_property
    def showing(self) -> Showing:
        """Who shows that an operation committed, and that a message was read."""
        return Showing(self.evidence, np.zeros(len(self.evidence), dtype=bool))

    def indices(self, *operations: int, committed: Iterable[int] = ()) -> list[int]:
        """The indices of operations, with what shows that some of them committed."""
        rows = {*operations, *(row for one in committed for row in self.showing.of_commit(int(one)))}
        return sorted(int(self.history.operations.index[row]) for row in rows)

    def may_have_processed(self, group: int, message: Rows) -> Mask:
        """Which messages some transaction of a group polled and may have committed."""
        code = self._code(group, message)
        at = np.searchsorted(self._maybe_polled, code)
        by_group = np.append(self._maybe_polled, -1)[at] == code
        may: Mask = by_group | self._polled_by_others[message]
        return may

    def unseen_until(self, group: int) -> tuple[Rows, Rows]:
        """Transactions of the group, or maybe of it, that may have committed and whose polls were not recorded.

        When each was invoked, in order, and the last completion up to it: places among the records.
        """
        operations = self.history.operations
        blind = (operations.function == Function.TXN) & (operations.outcome == Outcome.INFO)
        blind[self.history.micro.operation[self.reads]] = False
        blind[self.history.empty_reads.operation] = False
        others = self.operation[self.group != group]
        own = self.operation[self.group == group]
        blind[np.setdiff1d(others, own)] = False
        rows = np.flatnonzero(blind)
        rows = rows[np.argsort(operations.invoked[rows])]
        return operations.invoked[rows], np.maximum.accumulate(operations.completed[rows])

    @cached_property
    def visible(self) -> Places:
        """The places, one message each, that acknowledged read_committed readers saw and should have seen."""
        order, log = self.evidence.version_order, self.evidence.log
        aborted = self.evidence.failed.copy()
        aborted[
            self.evidence.message[self.evidence.is_send & _meant_to_abort(self.evidence)[self.history.micro.operation]]
        ] = True
        several = ~changes(log.key, log.offset)
        several |= np.roll(several, -1)
        conflicts = set(zip(log.key[several].tolist(), log.offset[several].tolist(), strict=True))
        fine = self.evidence.read[order.message] & ~aborted[order.message]
        if conflicts:
            fine &= [place not in conflicts for place in zip(order.key.tolist(), order.offset.tolist(), strict=True)]
        return Places(order.key[fine], order.offset[fine], order.message[fine], order.index[fine])


def _meant_to_abort(evidence: Evidence) -> Mask:
    """Operations of unknown outcome that meant to abort."""
    operations = evidence.history.operations
    aborting: Mask = (operations.means_to_abort == 1) & (operations.outcome == Outcome.INFO)
    return aborting


def _joined(left: Rows, right: Rows) -> tuple[Rows, Rows]:
    """The positions of all pairs of equal numbers."""
    order = np.argsort(right, kind="stable")
    low, high = (np.searchsorted(right[order], left, side=side) for side in ("left", "right"))
    count = high - low
    nth = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    return np.repeat(np.arange(len(left)), count), order[np.repeat(low, count) + nth]


def _so_far(best: np.ufunc, none: int, offset: Rows, operation: Rows, count: Rows) -> tuple[Rows, Rows]:
    """The best of the first `count` offsets and who committed it, for each count; `none` and NOWHERE of no offsets."""
    so_far = best.accumulate(offset)
    first = np.maximum.accumulate(np.where(changes(so_far), np.arange(len(offset)), 0))
    return np.append(so_far, none)[count - 1], np.append(operation[first], NOWHERE)[count - 1]


def _processed_twice(groups: Groups) -> list[Anomaly]:
    """Records that several committed transactions of a group processed.

    One entry each: {group, key, value, offset, processed_by, operations}; `operations` show the first two.
    """
    history, (rows, by) = groups.history, groups.polled
    offset = history.micro.offset[rows]
    done = groups.is_certain[by] & (offset != NO_OFFSET) & (offset < groups.offset[by])
    rows, by, offset = rows[done], by[done], offset[done]
    message, group, operation = groups.evidence.message[rows], groups.group[by], groups.operation[by]
    order = np.lexsort((operation, message, offset, history.micro.key[rows], group))
    order = order[changes(group[order], message[order], offset[order], operation[order])]
    starts = np.flatnonzero(changes(group[order], message[order], offset[order]))
    ends = np.append(starts, len(order))[1:]
    several = ends - starts > 1
    return [
        {
            "group": history.groups[int(group[order[start]])],
            "key": groups.evidence.key_of(message[order[start]]),
            "value": groups.evidence.value_of(message[order[start]]),
            "offset": int(offset[order[start]]),
            "processed_by": history.operations.index[operation[order[start:end]]].tolist(),
            "operations": groups.indices(committed=operation[order[start : start + 2]]),
        }
        for start, end in zip(starts[several].tolist(), ends[several].tolist(), strict=True)
    ]


def _processed_never(groups: Groups, commits: Commits) -> list[Anomaly]:
    """Records below a committed offset that no transaction of the group can have processed.

    One entry each: {group, key, value, offset, writer, committed, previous, reader, operations}; `writer` is the first
    transaction that committed past it, `previous` an offset at or below it that the group had committed before, null if
    only what the transaction itself polled shows where it began.
    """
    visible = groups.visible
    part = slice(*span(visible.key, commits.key))
    offset, message = visible.offset[part], visible.message[part]
    skipped = _is_covered(offset, commits) & ~groups.may_have_processed(commits.group, message)
    offset, message = offset[skipped], message[skipped]
    by = np.array([_first_past(commits, o) for o in offset.tolist()], dtype=np.int64)
    accused = ~_is_excused(groups, commits, message, by)
    told = zip(offset[accused].tolist(), message[accused].tolist(), by[accused].tolist(), strict=True)
    return [_never(groups, commits, *one) for one in told]


def _is_covered(offset: Rows, commits: Commits) -> Mask:
    """Which offsets some commit answers for."""
    order = np.argsort(commits.start)
    ends = np.append(np.maximum.accumulate(commits.offset[order]), NO_OFFSET)
    covered: Mask = ends[np.searchsorted(commits.start[order], offset, side="right") - 1] > offset
    return covered


def _first_past(commits: Commits, offset: int) -> int:
    """The first commit that answers for an offset; there is one."""
    start = int(np.searchsorted(np.maximum.accumulate(commits.offset), offset, side="right"))
    return start + int(np.argmax((commits.start[start:] <= offset) & (commits.offset[start:] > offset)))


def _is_excused(groups: Groups, commits: Commits, message: Rows, by: Rows) -> Mask:
    """Whether a transaction whose polls nobody knows may have processed a message before it was passed over."""
    operations, writer = groups.history.operations, groups.evidence.writer[message]
    invoked, completed = groups.unseen_until(commits.group)
    existed = np.where(writer == NOWHERE, -1, operations.invoked[writer])
    begun = np.searchsorted(invoked, operations.completed[commits.operation[by]])
    excused: Mask = np.append(completed, -1)[begun - 1] > existed
    return excused


def _never(groups: Groups, commits: Commits, offset: int, message: int, by: int) -> Anomaly:
    """The entry of a record that a commit passed over."""
    history = groups.history
    index = history.operations.index
    has_previous = commits.least[by] <= offset
    writer, reader = int(commits.operation[by]), groups.showing.first_reader(message)
    others = [reader, *([int(commits.least_by[by])] if has_previous else [])]
    return {
        "group": history.groups[commits.group],
        "key": groups.evidence.key_of(message),
        "value": groups.evidence.value_of(message),
        "offset": offset,
        "writer": int(index[writer]),
        "committed": int(commits.offset[by]),
        "previous": int(commits.least[by]) if has_previous else None,
        "reader": int(index[reader]),
        "operations": groups.indices(*others, committed=[writer]),
    }


def _offsets_back(groups: Groups, commits: Commits) -> list[Anomaly]:
    """Commits below an offset acknowledged before: {group, key, writer, committed, before, previous, operations}."""
    index = groups.history.operations.index
    return [
        {
            "group": groups.history.groups[commits.group],
            "key": groups.history.keys[commits.key],
            "writer": int(index[commits.operation[at]]),
            "committed": int(commits.offset[at]),
            "before": int(index[commits.greatest_by[at]]),
            "previous": int(commits.greatest[at]),
            "operations": groups.indices(int(commits.greatest_by[at]), committed=[commits.operation[at]]),
        }
        for at in np.flatnonzero(commits.greatest > commits.offset)
    ]
