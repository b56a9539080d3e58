"""The neighbourhood of a few messages: what is enough to show why a history cannot be explained.

Whatever contradicts itself in a part of a history does so in the whole. So only a slice is looked at: the messages in
question, their neighbours in the log, what the unknown operations among their senders sent besides, and the operations
that sent or read any of these. What a slice allows, the whole may still rule out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from hwmark.checkers.histories.evidence import Evidence
from hwmark.traces.history import Outcome

NEIGHBOURS = 2
READERS_MAX = 4
MESSAGES_MAX = 48


@dataclass(frozen=True)
class Slice:
    """Messages, and the micro-operations (rows) that sent or read them, of each operation and message the first."""

    messages: list[int]
    sends: list[int]
    reads: list[int]


def slice_around(
    evidence: Evidence, focus: Sequence[int], operations: Iterable[int] = (), neighbours: int = NEIGHBOURS
) -> Slice:
    """The slice around some messages; all that these operations (rows) read of it stays in."""
    messages = dict.fromkeys(focus)
    messages |= dict.fromkeys(_neighbours(evidence, list(messages), neighbours))
    messages |= dict.fromkeys(_sent_together(evidence, list(messages)))
    kept = sorted(list(messages)[:MESSAGES_MAX])
    sends, reads = _rows(evidence, kept, set(operations))
    return Slice(kept, sends, reads)


def _neighbours(evidence: Evidence, messages: list[int], distance: int) -> list[int]:
    """The messages at the nearest places of the log, of the same key."""
    log = evidence.log
    wanted = np.zeros(len(evidence), dtype=bool)
    wanted[messages] = True
    at = np.flatnonzero(wanted[log.message])
    near = (at[:, None] + np.argsort(np.abs(np.arange(-distance, distance + 1)), kind="stable") - distance).T
    found = []
    for step in near:
        inside = (step >= 0) & (step < len(log))
        same = log.key[step[inside]] == log.key[at[inside]]
        found += log.message[step[inside][same]].tolist()
    return found


def _sent_together(evidence: Evidence, messages: list[int]) -> list[int]:
    """What the operations of unknown outcome sent that sent any of these."""
    outcome, micro = evidence.history.operations.outcome, evidence.history.micro
    writers = np.unique(evidence.writer[messages])
    found: list[int] = []
    for writer in writers[writers >= 0].tolist():
        if outcome[writer] == Outcome.INFO:
            low, high = np.searchsorted(micro.operation, [writer, writer + 1])
            found += evidence.message[low:high][evidence.is_send[low:high]].tolist()
    return found


def _rows(evidence: Evidence, messages: list[int], operations: set[int]) -> tuple[list[int], list[int]]:
    """The sends of the messages; of their reads those of the given operations, the closing ones and a few others."""
    wanted = np.zeros(len(evidence), dtype=bool)
    wanted[messages] = True
    rows = np.flatnonzero(wanted[evidence.message])
    reads: dict[tuple[int, int, int], int] = {}
    others: dict[int, set[int]] = defaultdict(set)
    for row in rows[~evidence.is_send[rows]].tolist():
        message, operation = int(evidence.message[row]), int(evidence.history.micro.operation[row])
        if not evidence.closing[row] and operation not in operations:
            if len(others[message] | {operation}) > READERS_MAX:
                continue
            others[message].add(operation)
        reads.setdefault((message, operation, int(evidence.history.micro.offset[row])), row)
    return rows[evidence.is_send[rows]].tolist(), sorted(reads.values())
