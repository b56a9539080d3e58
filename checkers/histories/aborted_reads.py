"""Reads of what never happened: sent by a failed operation (G1a), or by nobody at all."""

from __future__ import annotations

import numpy as np
from hwmark.checkers.histories.evidence import NOWHERE, Evidence
from hwmark.checkers.histories.kinds import Anomaly


def aborted_reads(evidence: Evidence) -> list[Anomaly]:
    """Reads of failed messages by acknowledged operations, one per occurrence: {key, value, writer, reader}."""
    operations, operation = evidence.history.operations, evidence.history.micro.operation
    found = []
    for row in np.flatnonzero(evidence.is_ok_read & evidence.failed[evidence.message]):
        message = evidence.message[row]
        found.append(
            {
                "key": evidence.key_of(message),
                "value": evidence.value_of(message),
                "writer": int(operations.index[evidence.writer[message]]),
                "reader": int(operations.index[operation[row]]),
                "offset": _offset(int(evidence.history.micro.offset[row])),
                "time": int(operations.completed_at[operation[row]]),
            }
        )
    return found


def values_nobody_sent(evidence: Evidence) -> list[Anomaly]:
    """Reads, by any operation, of messages that nobody is recorded as sending: {key, value, reader, offset, time}.

    One entry per message, for the first operation that read it. Either the recording lacks an operation, or the cluster
    made a message up.
    """
    history, is_unsent = evidence.history, evidence.writer == NOWHERE
    if not is_unsent.any():
        return []
    rows = np.flatnonzero(is_unsent[evidence.message])
    _, first = np.unique(evidence.message[rows], return_index=True)
    found = []
    for row in rows[first]:
        message, operation = evidence.message[row], history.micro.operation[row]
        found.append(
            {
                "key": evidence.key_of(message),
                "value": evidence.value_of(message),
                "reader": int(history.operations.index[operation]),
                "offset": _offset(int(history.micro.offset[row])),
                "time": int(history.operations.completed_at[operation]),
            }
        )
    return found


def _offset(offset: int) -> int | None:
    """An offset for a report, None if unknown."""
    return offset if offset >= 0 else None
