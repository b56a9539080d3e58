"""Consume counts: how often the consumers of groups were handed each message. More than once is normal, and costly."""

from __future__ import annotations

from typing import Any

import numpy as np
from hwmark.checkers.histories.evidence import Evidence, Mask, Rows, changes
from hwmark.traces.history import Function, Outcome


def consume_counts(evidence: Evidence) -> dict[str, Any]:
    """How often acknowledged operations of each process that ever subscribed read each message.

    {distribution, repeated}: `distribution` maps a number of times to how many pairs of a process and a message had it,
    `repeated` lists those with more than one as {process, key, value, count}.
    """
    operation = evidence.history.micro.operation
    rows = np.flatnonzero(evidence.is_ok_read & _subscribes(evidence)[operation])
    # Few messages are read twice at all: only those are sorted.
    once = np.bincount(evidence.message[rows], minlength=len(evidence)) == 1
    several = rows[~once[evidence.message[rows]]]
    pairs, counts = _counted(evidence, several)
    distribution = np.bincount(counts, minlength=2)
    distribution[1] += len(rows) - len(several)
    again = counts > 1
    return {
        "distribution": {str(times): int(distribution[times]) for times in np.flatnonzero(distribution)},
        "repeated": [_told(evidence, row, count) for row, count in zip(pairs[again], counts[again], strict=True)],
    }


def _subscribes(evidence: Evidence) -> Mask:
    """Operations of processes with an acknowledged subscribe."""
    operations = evidence.history.operations
    subscribes = (operations.function == Function.SUBSCRIBE) & (operations.outcome == Outcome.OK)
    return np.isin(operations.process, operations.process[subscribes])


def _counted(evidence: Evidence, rows: Rows) -> tuple[Rows, Rows]:
    """The distinct pairs of a process and a message of some reads, by a row that has each, and how often each is."""
    process = evidence.history.operations.process[evidence.history.micro.operation[rows]]
    message = evidence.message[rows]
    order = np.lexsort((message, process))
    starts = np.flatnonzero(changes(process[order], message[order]))
    return rows[order[starts]], np.diff(np.append(starts, len(rows)))


def _told(evidence: Evidence, row: int, count: int) -> dict[str, Any]:
    """How often a process read a message, as plain data."""
    message, operation = evidence.message[row], evidence.history.micro.operation[row]
    return {
        "process": int(evidence.history.operations.process[operation]),
        "key": evidence.key_of(message),
        "value": evidence.value_of(message),
        "count": int(count),
    }
