"""Messages that were promised and cannot be found: lost-write, missing-from-final-read and unseen."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from hwmark.checkers.histories.evidence import NOWHERE, Evidence, Mask, Rows, changes
from hwmark.checkers.histories.kinds import Anomaly
from hwmark.checkers.histories.showing import ClosingPolls, Showing, span
from hwmark.traces.history import NO_OFFSET, NO_TIME, Closing, Function, Outcome, Value


def lost_writes(evidence: Evidence) -> list[Anomaly]:
    """Committed messages that nobody read although readers got past them.

    One entry per message: {key, value, index, max-read-index, writer, max-read}, its offset, process and time, and the
    operations that show it.

    Past them: their last place in the version order lies before, or at, the first place of some message that was read.
    """
    bound = np.full(len(evidence.history.keys), NOWHERE, dtype=np.int64)
    np.maximum.at(bound, evidence.message_key[evidence.read], evidence.first_index[evidence.read])
    must_be_read = (evidence.last_index != NOWHERE) & (evidence.last_index <= bound[evidence.message_key])
    is_committed = (evidence.writer != NOWHERE) & evidence.committed[evidence.writer]
    lost = must_be_read & ~evidence.read & is_committed
    if not lost.any():
        return []
    at_bound = _reads_at(evidence, bound)
    showing = _LostShowing(evidence, lost, at_bound)
    index, operation = evidence.history.operations.index, evidence.history.micro.operation
    found = []
    for message in _in_log_order(evidence, lost):
        key = int(evidence.message_key[message])
        known = {
            "index": int(evidence.first_index[message]),
            "max-read-index": int(bound[key]),
            "max-read": int(index[operation[at_bound[key]]]),
            "operations": _indices(evidence, showing.of(message)),
        }
        found.append(_promise(evidence, message) | known)
    return found


def _reads_at(evidence: Evidence, bound: Rows) -> dict[int, int]:
    """For each key the first acknowledged read (a micro-operation) of a message at the bound; one that says where, if
    there is any."""
    micro = evidence.history.micro
    first = evidence.first_index[evidence.message]
    rows = np.flatnonzero(evidence.is_ok_read & (first != NOWHERE) & (first == bound[micro.key]))
    rows = rows[np.lexsort((micro.offset[rows] == NO_OFFSET, micro.key[rows]))]
    best = rows[changes(micro.key[rows])]
    return dict(zip(micro.key[best].tolist(), best.tolist(), strict=True))


class _LostShowing:
    """Which operations show that a message was lost: it was committed, it lies there, and that was read past it."""

    def __init__(self, evidence: Evidence, lost: Mask, at_bound: dict[int, int]) -> None:
        order = evidence.version_order
        self.evidence, self.at_bound = evidence, at_bound
        self.first_offset = np.full(len(evidence), NO_OFFSET, dtype=np.int64)
        self.first_offset[order.message[::-1]] = order.offset[::-1]
        self.last_offset = np.full(len(evidence), NO_OFFSET, dtype=np.int64)
        self.last_offset[order.message] = order.offset
        concerned = lost.copy()
        concerned[evidence.message[list(at_bound.values())]] = True
        self.showing = Showing(evidence, concerned)
        self.of_bound = {key: self._reads_past(row) for key, row in at_bound.items()}

    def _reads_past(self, row: int) -> set[int]:
        """That somebody read the message at the bound, and where it lies."""
        message = int(self.evidence.message[row])
        reader = int(self.evidence.history.micro.operation[row])
        first = int(self.first_offset[message])
        is_shown = int(self.evidence.history.micro.offset[row]) == first
        return {reader} | (set() if is_shown else self.showing.of_places([(message, first)]))

    def of(self, message: int) -> set[int]:
        """The operations that show that this message was lost."""
        writer, last = int(self.evidence.writer[message]), int(self.last_offset[message])
        found = self.showing.of_commit(writer) | self.of_bound[int(self.evidence.message_key[message])]
        return found if self._is_told(writer, message, last) else found | self.showing.of_places([(message, last)])

    def _is_told(self, writer: int, message: int, offset: int) -> bool:
        """Whether the writer itself knows the offset."""
        low, high = span(self.evidence.history.micro.operation, writer)
        sent = self.evidence.is_send[low:high] & (self.evidence.message[low:high] == message)
        return bool((sent & (self.evidence.history.micro.offset[low:high] == offset)).any())


def has_closing_read(evidence: Evidence) -> bool:
    """Whether the history ends with a complete `read_committed` read: there is one, and its last poll was answered."""
    operations = evidence.history.operations
    is_poll = (operations.function == Function.POLL) | (operations.function == Function.TXN)
    polls = np.flatnonzero(is_poll & (operations.closing == Closing.READ_COMMITTED))
    if not len(polls):
        return False
    last = polls[np.argmax(operations.invoked[polls])]
    return bool(operations.outcome[last] == Outcome.OK)


def missing_from_closing_read(evidence: Evidence) -> list[Anomaly]:
    """Acknowledged messages that the closing `read_committed` read lacks: {key, value, offset, writer, process, time}.

    `closing` are the polls of that read between which the message would have to be. Ask `has_closing_read` first.
    Stronger than lost-write, which says nothing of a message once read that vanished later.
    """
    polls = ClosingPolls(evidence)
    found = []
    missing = evidence.acknowledged & ~in_closing_read(evidence) & completely_read(evidence)[evidence.message_key]
    for message in _in_log_order(evidence, missing):
        found.append(_promise(evidence, message) | {"closing": _indices(evidence, polls.lacking(message))})
    return found


def completely_read(evidence: Evidence) -> Mask:
    """Keys that the closing `read_committed` read covers: those its consumers were assigned, all if that is unknown."""
    history = evidence.history
    rows = history.operations.closing[history.assigned.operation] == Closing.READ_COMMITTED
    found = np.full(len(history.keys), not rows.any())
    found[history.assigned.key[rows]] = True
    return found


def in_closing_read(evidence: Evidence) -> Mask:
    """Messages that the closing `read_committed` read returned."""
    found = np.zeros(len(evidence), dtype=bool)
    found[evidence.message[evidence.is_ok_read & (evidence.closing == Closing.READ_COMMITTED)]] = True
    return found


def unseen(evidence: Evidence, also: Mask | bool = False) -> list[Anomaly]:
    """Acknowledged messages that no acknowledged operation read: one entry {time, count, unseen, messages, writers}.

    `unseen` counts them per key, `writers` has for each message of a key the operation to which it was acknowledged;
    those that shall `also` count may have none.
    """
    messages: dict[str, list[Value]] = defaultdict(list)
    writers: dict[str, list[int]] = defaultdict(list)
    acknowledged_to = _acknowledged_to(evidence)
    for message in _in_log_order(evidence, (evidence.acknowledged & ~evidence.read) | also):
        key = str(evidence.key_of(message))
        messages[key].append(evidence.value_of(message))
        if acknowledged_to[message] != NOWHERE:
            writers[key].append(int(acknowledged_to[message]))
    if not messages:
        return []
    counts = {key: len(values) for key, values in messages.items()}
    known = {"unseen": counts, "messages": dict(messages), "writers": dict(writers)}
    shown_by = sorted({writer for listed in writers.values() for writer in listed})
    return [{"time": _last_ok_time(evidence), "count": sum(counts.values())} | known | {"operations": shown_by}]


def _acknowledged_to(evidence: Evidence) -> Rows:
    """The index of the last operation to which each message was acknowledged."""
    rows = np.flatnonzero(evidence.is_send & (evidence.outcome == Outcome.OK))
    index = np.full(len(evidence), NOWHERE, dtype=np.int64)
    index[evidence.message[rows]] = evidence.history.operations.index[evidence.history.micro.operation[rows]]
    return index


def _last_ok_time(evidence: Evidence) -> int:
    """When the last acknowledged send, poll or transaction completed."""
    operations = evidence.history.operations
    judged = (operations.outcome == Outcome.OK) & (operations.function <= Function.TXN)
    return int(operations.completed_at[judged].max())


def _in_log_order(evidence: Evidence, messages: Mask) -> list[int]:
    """The messages of a mask by key, offset and acknowledgement."""
    rows = np.flatnonzero(messages)
    if not len(rows):  # before asking for every message's offset
        return []
    order = np.lexsort((evidence.writer[rows], evidence.offset[rows], evidence.message_key[rows]))
    return rows[order].tolist()  # type: ignore[no-any-return]


def _indices(evidence: Evidence, operations: set[int]) -> list[int]:
    """The indices of operations, in order."""
    return sorted(int(evidence.history.operations.index[row]) for row in operations)


def _promise(evidence: Evidence, message: int) -> Anomaly:
    """Who was promised a message, when, and at which offset: {key, value, offset, writer, process, time}."""
    operations, writer = evidence.history.operations, int(evidence.writer[message])
    offset, time = int(evidence.offset[message]), int(operations.completed_at[writer])
    return {
        "key": evidence.key_of(message),
        "value": evidence.value_of(message),
        "offset": offset if offset != NO_OFFSET else None,
        "writer": int(operations.index[writer]),
        "process": int(operations.process[writer]),
        "time": time if time != NO_TIME else None,
    }
