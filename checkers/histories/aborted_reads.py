"""G1a: a client read what a failed operation had sent, although the system had said that it never happened."""

from __future__ import annotations

import numpy as np
from hwmark.checkers.histories.evidence import Evidence
from hwmark.checkers.histories.report import Anomaly


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


def _offset(offset: int) -> int | None:
    """An offset for a report, None if unknown."""
    return offset if offset >= 0 else None
