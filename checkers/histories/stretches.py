"""What each process did with each key, in order: the sequences that skips and steps back are found in.

A *thread* is a process and a key. A *stretch* is messages of one key that follow each other without a break in one
operation: almost always all that the operation read of the key. There are many fewer stretches than messages, and only
they are ever sorted, by counting.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hwmark.checkers.histories.evidence import NOWHERE, Evidence, Mask, Rows, changes
from hwmark.checkers.histories.numbering import Numbering
from hwmark.traces.history import NO_TIME, Closing, Function, History, OperationKeys, Outcome
from numpy.typing import NDArray

DIGIT = 16


class Threads:
    """Numbers for threads, and for moments: operations as each thread, or each process, lived them.

    `process` numbers each operation's process from 0.
    """

    def __init__(self, history: History) -> None:
        processes = Numbering(np.zeros(len(history.operations), np.int8), history.operations.process, 1)
        self.process: NDArray[np.int32] = processes.of
        self.keys = len(history.keys)
        self.operations = len(history.operations)
        self.count = len(processes) * self.keys

    def of(self, operation: NDArray[Any], key: NDArray[Any]) -> Rows:
        """The threads of operations and keys."""
        threads: Rows = self.process[operation] * np.int64(self.keys) + key
        return threads

    def moment(self, whose: NDArray[Any], operation: NDArray[Any] | int) -> Rows:
        """Numbers that sort operations first by their process or thread and then by when they ended."""
        moments: Rows = np.asarray(whose, dtype=np.int64) * self.operations + operation
        return moments

    def order(self, thread: Rows, operation: NDArray[Any]) -> Rows:
        """The order by thread and then operation, equal ones as they come."""
        by_operation = np.argsort(operation, kind="stable")
        order: Rows = by_operation[stable_order(thread[by_operation], self.count)]
        return order


@dataclass(frozen=True)
class Stretches:
    """One row per stretch, in the order of threads and operations.

    `first` and `last` are rows of `history.micro`, NOWHERE where the operation read an empty list of the key and no
    message of it. `continues` says that the stretch before is of the same thread and operation. `follows` are the rows
    of `history.micro` that follow the row before them in one stretch.
    """

    thread: Rows
    operation: NDArray[np.int32]
    first: NDArray[np.int32]
    last: NDArray[np.int32]
    continues: Mask
    follows: Mask

    def __len__(self) -> int:
        return len(self.thread)


def read_stretches(evidence: Evidence, threads: Threads) -> Stretches:
    """What clients read, however their operations ended, empty lists included."""
    empty = evidence.history.empty_reads
    of_clients = evidence.history.operations.closing[empty.operation] != Closing.READ_UNCOMMITTED
    empty = OperationKeys(empty.operation[of_clients], empty.key[of_clients])
    return _stretches(evidence, threads, evidence.is_read, empty)


def sent_stretches(evidence: Evidence, threads: Threads) -> Stretches:
    """What was sent, except by operations that never completed."""
    completed = evidence.history.operations.completed_at != NO_TIME
    of = evidence.is_send & completed[evidence.history.micro.operation]
    nothing = np.zeros(0, dtype=np.int32)
    return _stretches(evidence, threads, of, OperationKeys(nothing, nothing))


def _stretches(evidence: Evidence, threads: Threads, of: Mask, empty: OperationKeys) -> Stretches:
    """The stretches of the given micro-operations and of operations that read empty lists."""
    micro = evidence.history.micro
    first, last = runs(of, micro.operation, micro.key)
    follows = of.copy()
    follows[first] = False
    operation = np.concatenate([micro.operation[first], empty.operation])
    thread = threads.of(operation, np.concatenate([micro.key[first], empty.key]))
    nowhere = np.full(len(empty), NOWHERE, dtype=np.int32)
    order = threads.order(thread, operation)
    thread, operation = thread[order], operation[order]
    first, last = np.concatenate([first, nowhere])[order], np.concatenate([last, nowhere])[order]
    continues = ~changes(thread, operation)
    # An empty list beside messages of the same key says nothing; it comes after them.
    kept = (first != NOWHERE) | ~continues
    return Stretches(thread[kept], operation[kept], first[kept], last[kept], continues[kept], follows)


def runs(of: Mask, *columns: NDArray[Any]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The first and the last rows of the runs of equal rows among the given ones."""
    starts = np.flatnonzero(changes(of, *columns)).astype(np.int32)
    ends = np.append(starts[1:], np.int32(len(of))) - np.int32(1)
    chosen = of[starts]
    return starts[chosen], ends[chosen]


def stable_order(number: NDArray[Any], below: int) -> Rows:
    """The order that sorts numbers from 0 to a bound, equal ones as they come: a radix sort, linear, 16 bits a time."""
    order = np.argsort(_digit(number, 0), kind="stable")
    shift = DIGIT
    while max(0, below - 1) >> shift:
        order = order[np.argsort(_digit(number, shift)[order], kind="stable")]
        shift += DIGIT
    return order


def _digit(number: NDArray[Any], shift: int) -> NDArray[np.uint16]:
    """16 bits of each number."""
    return ((number >> shift) & ((1 << DIGIT) - 1)).astype(np.uint16)


class Assignments:
    """Which keys processes gave up, and when: those that a completed assign or subscribe of theirs did not name.

    An assign or subscribe that failed changes nothing.
    """

    def __init__(self, history: History, threads: Threads) -> None:
        operations, assigned = history.operations, history.assigned
        counts = (operations.function == Function.ASSIGN) | (operations.function == Function.SUBSCRIBE)
        counts &= (operations.outcome != Outcome.FAIL) & (operations.completed_at != NO_TIME)
        all_of_them = np.flatnonzero(counts)
        named = counts[assigned.operation]
        thread = threads.of(assigned.operation[named], assigned.key[named])
        self._threads = threads
        self._all = np.sort(threads.moment(threads.process[all_of_them], all_of_them))
        self._naming = np.unique(threads.moment(thread, assigned.operation[named]))

    def given_up(self, thread: Rows, operation: NDArray[Any]) -> Rows:
        """How often a thread's key was given up before an operation, counted from some start of each thread."""
        if not len(self._all):
            return np.zeros(len(thread), dtype=np.int64)
        process = self._threads.process[operation]
        count = np.searchsorted(self._all, self._threads.moment(process, operation))
        return count - np.searchsorted(self._naming, self._threads.moment(thread, operation))
