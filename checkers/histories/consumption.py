"""How often the consumers of groups were handed each message: more than once is normal, and costs."""

from __future__ import annotations

from typing import Any

import numpy as np
from hwmark.checkers.histories.evidence import Evidence, Mask
from hwmark.checkers.histories.numbering import Numbering
from hwmark.traces.history import Function, Outcome


def consume_counts(evidence: Evidence) -> dict[str, Any]:
    """How often acknowledged operations of each process that ever subscribed read each message.

    {distribution, repeated}: `distribution` maps a number of times to how many pairs of a process and a message had it,
    `repeated` lists those with more than one as {process, key, value, count}.
    """
    operation, history = evidence.history.micro.operation, evidence.history
    rows = np.flatnonzero(evidence.is_ok_read & _subscribes(evidence)[operation])
    processes = Numbering(np.zeros(len(history.operations), np.int8), history.operations.process, 1)
    pairs = Numbering(processes.of[operation[rows]], evidence.message[rows].astype(np.int64), len(processes))
    counts = np.bincount(pairs.of, minlength=len(pairs))
    distribution = np.bincount(counts)
    again = np.flatnonzero(counts > 1)
    process, message = processes.number[pairs.group[again]].tolist(), pairs.number[again].tolist()
    return {
        "distribution": {str(times): int(distribution[times]) for times in np.flatnonzero(distribution)},
        "repeated": [
            {"process": p, "key": evidence.key_of(m), "value": evidence.value_of(m), "count": count}
            for p, m, count in zip(process, message, counts[again].tolist(), strict=True)
        ],
    }


def _subscribes(evidence: Evidence) -> Mask:
    """Operations of processes with an acknowledged subscribe."""
    operations = evidence.history.operations
    subscribes = (operations.function == Function.SUBSCRIBE) & (operations.outcome == Outcome.OK)
    return np.isin(operations.process, operations.process[subscribes])
