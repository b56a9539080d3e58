"""Skips and steps back: places where what a process read or sent does not follow the log.

Two messages of a key that a process read, or sent, one after the other should lie one after the other in the version
order. Within one operation both matter for reads and sends; from one operation of a process to its next a skip between
sends says nothing, since others send in between. The version order lacks messages whose offset nobody knows: a pair
with one of them is not judged.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from hwmark.checkers.histories.evidence import NOWHERE, Evidence, Mask, Rows
from hwmark.checkers.histories.kinds import Anomaly
from hwmark.checkers.histories.report import Options
from hwmark.checkers.histories.stretches import Assignments, Stretches, Threads, read_stretches, sent_stretches
from hwmark.traces.history import Outcome, Value
from numpy.typing import NDArray

SEQUENCE_TYPES = (
    "int-poll-skip",
    "int-nonmonotonic-poll",
    "int-send-skip",
    "int-nonmonotonic-send",
    "poll-skip",
    "nonmonotonic-poll",
    "nonmonotonic-send",
)
SKIPPED_MAX = 100
CHUNK = 1 << 20


@dataclass(frozen=True)
class Pairs:
    """Pairs of messages that should be neighbours in the log, by rows of `history.micro`, and how far apart they are.

    `delta` is the difference of their positions, never 1.
    """

    before: NDArray[Any]
    after: NDArray[Any]
    delta: Rows

    def where(self, chosen: Mask | Rows) -> Pairs:
        """Some of the pairs."""
        return Pairs(self.before[chosen], self.after[chosen], self.delta[chosen])


def out_of_sequence(evidence: Evidence, options: Options) -> dict[str, list[Anomaly]]:
    """All skips and steps back.

    Each is {key, values, delta} with the two messages' values and the distance of their positions (1 is right, less a
    step back), and `op`, or `ops` if they are of two operations. A skip has `skipped` too: the values between them, of
    which there are `delta` - 1 and the first SKIPPED_MAX are listed.
    """
    threads = Threads(evidence.history)
    reads = read_stretches(evidence, threads)
    within_reads = _not_rebalanced(evidence, _within_operations(evidence, reads))
    assignments = Assignments(evidence.history, threads)
    between_reads = _between_polls(evidence, assignments, reads)
    sends = sent_stretches(evidence, threads)
    within_sends = _within_operations(evidence, sends)
    between_sends = _between_sends(evidence, assignments, sends)
    return {
        "int-poll-skip": _skips(evidence, within_reads),
        "int-nonmonotonic-poll": _steps_back(evidence, within_reads),
        "int-send-skip": _skips(evidence, within_sends),
        "int-nonmonotonic-send": _steps_back(evidence, within_sends),
        "poll-skip": _skips(evidence, between_reads),
        "nonmonotonic-poll": _steps_back(evidence, between_reads),
        "nonmonotonic-send": _steps_back(evidence, between_sends),
    }


def _within_operations(evidence: Evidence, stretches: Stretches) -> Pairs:
    """The wrong pairs of one operation: inside its stretches, and from one to its next of the same key."""
    found = [_wrong(evidence, np.zeros(0, np.int64), np.zeros(0, np.int64))]
    for start in range(0, len(stretches.follows), CHUNK):
        after = np.flatnonzero(stretches.follows[start : start + CHUNK]) + start
        found.append(_wrong(evidence, after - 1, after))
    next_ones = np.flatnonzero(stretches.continues)
    found.append(_wrong(evidence, stretches.last[next_ones - 1], stretches.first[next_ones]))
    before, after, delta = (np.concatenate([getattr(p, f.name) for p in found]) for f in fields(Pairs))
    return Pairs(before, after, delta).where(np.argsort(after, kind="stable"))


def _between_polls(evidence: Evidence, assignments: Assignments, reads: Stretches) -> Pairs:
    """The wrong pairs of an acknowledged operation's last read of a key and the process' next one's first.

    Only acknowledged operations move a consumer on: after any other it is to read the same again.
    """
    is_ok = evidence.history.operations.outcome[reads.operation] == Outcome.OK
    return _between_operations(evidence, assignments, reads, is_ok, reads.first != NOWHERE)


def _between_sends(evidence: Evidence, assignments: Assignments, sends: Stretches) -> Pairs:
    """The wrong pairs of an operation's last send to a key and the process' next one's first, failed ones left out."""
    may_be = evidence.history.operations.outcome[sends.operation] != Outcome.FAIL
    return _between_operations(evidence, assignments, sends, may_be, may_be)


def _between_operations(
    evidence: Evidence, assignments: Assignments, stretches: Stretches, moves: Mask, judged: Mask
) -> Pairs:
    """The wrong pairs from the last stretch that moved its thread on to the next operation's first.

    There is none across an assign or subscribe that gave the key up.
    """
    number = np.arange(len(stretches))
    last_moved = np.maximum.accumulate(np.where(moves, number, NOWHERE)) if len(stretches) else number
    after = np.flatnonzero(judged & ~stretches.continues & (number > 0))
    before = last_moved[after - 1]
    given_up = assignments.given_up(stretches.thread, stretches.operation)
    linked = (before != NOWHERE) & (stretches.thread[before] == stretches.thread[after])
    linked &= (given_up[before] == given_up[after]) & (stretches.last[before] != NOWHERE)
    wrong = _wrong(evidence, stretches.last[before[linked]], stretches.first[after[linked]])
    return wrong.where(np.argsort(wrong.after, kind="stable"))


def _wrong(evidence: Evidence, before: NDArray[Any], after: NDArray[Any]) -> Pairs:
    """Those pairs of rows whose messages have known positions that are not neighbours."""
    origin = evidence.position[evidence.message[before]]
    delta = evidence.position[evidence.message[after]] - origin
    wrong = (delta != 1) & (origin != NOWHERE) & (delta + origin != NOWHERE)
    return Pairs(before[wrong], after[wrong], delta[wrong])


def _not_rebalanced(evidence: Evidence, pairs: Pairs) -> Pairs:
    """The pairs without those of keys that were reassigned or revoked while their operation ran."""
    micro, moved = evidence.history.micro, evidence.history.rebalanced
    keys = np.int64(len(evidence.history.keys))
    known = moved.operation * keys + moved.key
    return pairs.where(~np.isin(micro.operation[pairs.after] * keys + micro.key[pairs.after], known))


def _skips(evidence: Evidence, pairs: Pairs) -> list[Anomaly]:
    """The pairs between which others lie, and those others."""
    pairs = pairs.where(pairs.delta > 1)
    found = _described(evidence, pairs)
    chosen, before = evidence.chosen, evidence.message[pairs.before]
    start_of_key = np.searchsorted(evidence.message_key[chosen], np.arange(len(evidence.history.keys)))
    low = start_of_key[evidence.message_key[before]] + evidence.position[before] + 1
    high = low + np.minimum(pairs.delta - 1, SKIPPED_MAX)
    for anomaly, start, end in zip(found, low.tolist(), high.tolist(), strict=True):
        anomaly["skipped"] = _values(evidence, chosen[start:end])
    return found


def _steps_back(evidence: Evidence, pairs: Pairs) -> list[Anomaly]:
    """The pairs that go back, or stand still."""
    return _described(evidence, pairs.where(pairs.delta < 1))


def _described(evidence: Evidence, pairs: Pairs) -> list[Anomaly]:
    """The pairs as plain data, in the order in which the later message was read or sent."""
    micro, index = evidence.history.micro, evidence.history.operations.index
    keys = [evidence.history.keys[key] for key in micro.key[pairs.after].tolist()]
    values = zip(*(_values(evidence, evidence.message[rows]) for rows in (pairs.before, pairs.after)), strict=True)
    ops = (index[micro.operation[rows]].tolist() for rows in (pairs.before, pairs.after))
    return [
        {"key": key, "values": list(pair), "delta": delta} | ({"op": one} if one == other else {"ops": [one, other]})
        for key, pair, delta, one, other in zip(keys, values, pairs.delta.tolist(), *ops, strict=True)
    ]


def _values(evidence: Evidence, messages: NDArray[Any]) -> list[Value]:
    """The values of messages, as recorded."""
    return [evidence.history.value(number) for number in evidence.message_value[messages].tolist()]
