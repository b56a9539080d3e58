"""Messages that were promised and cannot be found: lost-write, missing-from-final-read and unseen."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from hwmark.checkers.histories.evidence import NOWHERE, Evidence, Mask, Rows
from hwmark.checkers.histories.kinds import Anomaly
from hwmark.traces.history import NO_OFFSET, NO_TIME, Closing, Function, Outcome, Value


def lost_writes(evidence: Evidence) -> list[Anomaly]:
    """Committed messages that nobody read although readers got past them.

    One entry per message: {key, value, index, max-read-index, writer, max-read}, and its offset, process and time.

    Past them: their last place in the version order lies before, or at, the first place of some message that was read.
    """
    bound = np.full(len(evidence.history.keys), NOWHERE, dtype=np.int64)
    np.maximum.at(bound, evidence.message_key[evidence.read], evidence.first_index[evidence.read])
    must_be_read = (evidence.last_index != NOWHERE) & (evidence.last_index <= bound[evidence.message_key])
    is_committed = (evidence.writer != NOWHERE) & evidence.committed[evidence.writer]
    lost = must_be_read & ~evidence.read & is_committed
    if not lost.any():
        return []
    reader_at_bound = _readers_at(evidence, bound)
    index = evidence.history.operations.index
    found = []
    for message in _in_log_order(evidence, lost):
        key = int(evidence.message_key[message])
        known = {
            "index": int(evidence.first_index[message]),
            "max-read-index": int(bound[key]),
            "max-read": int(index[reader_at_bound[key]]),
        }
        found.append(_promise(evidence, message) | known)
    return found


def _readers_at(evidence: Evidence, bound: Rows) -> dict[int, int]:
    """For each key an operation that read a message at the bound."""
    first = evidence.first_index[evidence.message]
    at_bound = evidence.is_ok_read & (first != NOWHERE) & (first == bound[evidence.history.micro.key])
    readers: dict[int, int] = {}
    for row in np.flatnonzero(at_bound):
        readers.setdefault(int(evidence.history.micro.key[row]), int(evidence.history.micro.operation[row]))
    return readers


def has_closing_read(evidence: Evidence) -> bool:
    """Whether the history ends with a complete `read_committed` read: there is one, and its last poll was answered."""
    operations = evidence.history.operations
    is_poll = (operations.function == Function.POLL) | (operations.function == Function.TXN)
    polls = np.flatnonzero(is_poll & (operations.closing == Closing.READ_COMMITTED))
    if not len(polls):
        return False
    last = polls[np.argmax(operations.invoked_at[polls])]
    return bool(operations.outcome[last] == Outcome.OK)


def missing_from_closing_read(evidence: Evidence) -> list[Anomaly]:
    """Acknowledged messages that the closing `read_committed` read lacks: {key, value, offset, writer, process, time}.

    Ask `has_closing_read` first. Stronger than lost-write, which says nothing of a message once read that vanished
    later.
    """
    missing = evidence.acknowledged & ~in_closing_read(evidence)
    return [_promise(evidence, message) for message in _in_log_order(evidence, missing)]


def in_closing_read(evidence: Evidence) -> Mask:
    """Messages that the closing `read_committed` read returned."""
    found = np.zeros(len(evidence), dtype=bool)
    found[evidence.message[evidence.is_ok_read & (evidence.closing == Closing.READ_COMMITTED)]] = True
    return found


def unseen(evidence: Evidence) -> list[Anomaly]:
    """Acknowledged messages that no acknowledged operation ever read, in one entry: {time, unseen, messages}."""
    messages: dict[str, list[Value]] = defaultdict(list)
    for message in _in_log_order(evidence, evidence.acknowledged & ~evidence.read):
        messages[str(evidence.key_of(message))].append(evidence.value_of(message))
    if not messages:
        return []
    counts = {key: len(values) for key, values in messages.items()}
    return [{"time": _last_ok_time(evidence), "unseen": counts, "messages": dict(messages)}]


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
