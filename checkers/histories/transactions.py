"""Transactions that were neither whole nor nothing: torn ones, and aborted ones of which something can be seen.

An operation that sends several messages is a transaction, also one that is recorded as a `send` (Jepsen's recorder does
so): without transactions every operation has one message.
"""

from __future__ import annotations

import numpy as np
from hwmark.checkers.histories.evidence import Evidence, Mask, Rows, changes
from hwmark.checkers.histories.kinds import Anomaly
from hwmark.checkers.histories.losses import completely_read, in_closing_read
from hwmark.checkers.histories.showing import ClosingPolls
from hwmark.traces.history import NO_OFFSET, NO_TIME, Outcome


def torn_transactions(evidence: Evidence) -> list[Anomaly]:
    """Committed transactions of which the closing `read_committed` read has some messages and lacks others.

    One entry per transaction: {writer, process, outcome, present, lost, closing}; the messages as {key, value, offset},
    `closing` the polls that show the first of either. Ask `has_closing_read` first.

    A transaction commits all of its messages or none, so one that is visible proves the others, whatever the client was
    told; only a transaction that was to abort proves nothing but an aborted read. Judged are the partitions that were
    read completely. A torn transaction is a promise of its own: it is told also where the message is merely one of a
    lost tail, each of which is missing from the closing read besides. Retention and compaction are no excuse here, as
    for any lost message.
    """
    operation = evidence.history.micro.operation
    rows = np.flatnonzero(evidence.is_send & _may_commit(evidence)[operation])
    message = evidence.message[rows]
    judged = completely_read(evidence)[evidence.message_key[message]] & (evidence.writer[message] == operation[rows])
    rows, message = rows[judged], message[judged]
    is_present = in_closing_read(evidence)[message]
    of = len(evidence.history.operations)
    is_torn = np.bincount(operation[rows[is_present]], minlength=of).astype(bool)
    is_torn &= np.bincount(operation[rows[~is_present]], minlength=of).astype(bool)
    parts = is_torn[operation[rows]]
    return _torn(evidence, operation[rows[parts]], message[parts], is_present[parts])


def _may_commit(evidence: Evidence) -> Mask:
    """Operations that were acknowledged, or whose outcome is unknown and that did not mean to abort."""
    outcome = evidence.history.operations.outcome
    means_to_abort = evidence.history.operations.means_to_abort == 1
    may: Mask = (outcome == Outcome.OK) | ((outcome == Outcome.INFO) & ~means_to_abort)
    return may


def _torn(evidence: Evidence, operation: Rows, message: Rows, is_present: Mask) -> list[Anomaly]:
    """The entries of torn transactions, from their messages in the order of the operations."""
    operations, polls = evidence.history.operations, ClosingPolls(evidence)
    starts = np.flatnonzero(changes(operation))
    found = []
    for start, end in zip(starts.tolist(), np.append(starts, len(operation))[1:].tolist(), strict=True):
        own = message[start:end]
        present, lost = (dict.fromkeys(own[mask].tolist()) for mask in (is_present[start:end], ~is_present[start:end]))
        shown = polls.reading(next(iter(present))) | polls.lacking(next(iter(lost)))
        found.append(
            {
                "writer": int(operations.index[operation[start]]),
                "process": int(operations.process[operation[start]]),
                "outcome": Outcome(int(operations.outcome[operation[start]])).name.lower(),
                "present": [_told(evidence, m) for m in present],
                "lost": [_told(evidence, m) for m in lost],
                "closing": sorted(int(operations.index[op]) for op in shown),
            }
        )
    return found


def _told(evidence: Evidence, message: int) -> Anomaly:
    """A message for a report."""
    offset = int(evidence.offset[message])
    known = offset if offset != NO_OFFSET else None
    return {"key": evidence.key_of(message), "value": evidence.value_of(message), "offset": known}


def aborted_visible(evidence: Evidence) -> list[Anomaly]:
    """Messages that certainly did not commit and were read all the same, where G1a does not say so already.

    One entry per message: {key, value, offset, writer, reader, reads, time}: its first reader, and how many there were.

    A failed operation certainly did not commit, nor did one of unknown outcome that was meant to abort. G1a tells every
    read of the former by an acknowledged operation; here are their reads by operations that failed or whose outcome is
    unknown (a consumer must never be handed them, inside of a transaction or not), and all reads of the latter, the
    closing read included. No read is told twice; what an operation reads of its own is precommitted-read.
    """
    operation = evidence.history.micro.operation
    reader, writer = operation, evidence.writer[evidence.message]
    is_other = evidence.is_read & (reader != writer) & ~evidence.acknowledged[evidence.message]
    beyond_g1a = evidence.failed[evidence.message] & (evidence.outcome != Outcome.OK)
    rows = np.flatnonzero(is_other & (beyond_g1a | _meant_to_abort(evidence)[evidence.message]))
    message, first, count = np.unique(evidence.message[rows], return_index=True, return_counts=True)
    return [
        _visible(evidence, int(m), int(rows[at]), int(reads))
        for m, at, reads in zip(message, first, count, strict=True)
    ]


def _meant_to_abort(evidence: Evidence) -> Mask:
    """Messages of operations of unknown outcome that meant to abort."""
    operations, operation = evidence.history.operations, evidence.history.micro.operation
    aborting = (operations.means_to_abort == 1) & (operations.outcome == Outcome.INFO)
    found = np.zeros(len(evidence), dtype=bool)
    found[evidence.message[evidence.is_send & aborting[operation]]] = True
    return found


def _visible(evidence: Evidence, message: int, row: int, reads: int) -> Anomaly:
    """The entry of a message that was read in a row first."""
    history = evidence.history
    reader = int(history.micro.operation[row])
    offset, time = int(history.micro.offset[row]), int(history.operations.completed_at[reader])
    return {
        "key": evidence.key_of(message),
        "value": evidence.value_of(message),
        "offset": offset if offset != NO_OFFSET else None,
        "writer": int(history.operations.index[evidence.writer[message]]),
        "reader": int(history.operations.index[reader]),
        "reads": reads,
        "time": time if time != NO_TIME else None,
    }
