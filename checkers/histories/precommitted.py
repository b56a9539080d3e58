"""Transactions that read what they had themselves only just sent: precommitted-read."""

from __future__ import annotations

import numpy as np
from hwmark.checkers.histories.evidence import NOWHERE, Evidence, Rows, changes
from hwmark.checkers.histories.kinds import Anomaly


def precommitted_reads(evidence: Evidence) -> list[Anomaly]:
    """Operations, however they ended, that read a message which they sent: {op, key, value} of the first one read.

    A transaction's own messages are not committed while it runs, and Kafka hands out committed ones alone.
    """
    operation = evidence.history.micro.operation
    rows = _reads_of_own(evidence)
    found = []
    for row in rows[changes(operation[rows])]:
        message = evidence.message[row]
        found.append(
            {
                "op": int(evidence.history.operations.index[operation[row]]),
                "key": evidence.key_of(message),
                "value": evidence.value_of(message),
            }
        )
    return found


def _reads_of_own(evidence: Evidence) -> Rows:
    """The rows of reads of messages that the same operation sent."""
    operation = evidence.history.micro.operation
    sends, reads = _rows_of_mixed(evidence)
    sender = np.full(len(evidence), NOWHERE, dtype=np.int32)
    sender[evidence.message[sends]] = operation[sends]
    own = sender[evidence.message[reads]] == operation[reads]
    # A message that several operations sent has only one of them noted above.
    others = sends[sender[evidence.message[sends]] != operation[sends]]
    if len(others):
        count = np.int64(len(evidence))
        sent = operation[others] * count + evidence.message[others]
        own |= np.isin(operation[reads] * count + evidence.message[reads], sent)
    found: Rows = reads[own]
    return found


def _rows_of_mixed(evidence: Evidence) -> tuple[Rows, Rows]:
    """The rows of sends, and those of reads, of the operations that have both."""
    operation = evidence.history.micro.operation
    reading = np.zeros(len(evidence.history.operations), dtype=bool)
    reading[operation[evidence.is_read]] = True
    sends = np.flatnonzero(evidence.is_send & reading[operation])
    sending = np.zeros(len(reading), dtype=bool)
    sending[operation[sends]] = True
    return sends, np.flatnonzero(evidence.is_read & sending[operation])
