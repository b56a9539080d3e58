"""Recorded histories: what clients asked of a cluster, what it answered, and which faults struck in between.

A history is JSON or EDN, usually one record per line, in the format of Jepsen's Kafka workload (jepsen 0.3,
`jepsen.tests.kafka`): a client operation is an `invoke` and one completion (`ok`, `fail` or `info`) of the same
process, or an invocation alone if the recording ended first, which counts as `info`. Records of processes that are no
integers (the nemesis) are faults, kept for the story they tell. Extensions: polls marked `"final"` are complete closing
reads, `"abort": true` marks a transaction that meant to abort, and the micro-operation `["send_offsets", group, {key:
offset}]` of a transaction commits the offsets up to which a consumer group has processed.

Everything is columns: one array per field of the operations, one per field of their micro-operations (a sent or a read
message), and one small table for each thing that few operations have. Nothing is ever sized by a raw offset or a raw
value.

Not kept: which of an operation's micro-operations a message belongs to (their order is), and debugging output.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Key = int | str
Value = int | float | str | bool

NO_OFFSET = -1
NO_TIME = -1
NO_ERROR = -1
NOT_COMPLETED = 2**62

CLOSING_READS = "closing-reads"
"""What a recorder calls the record in which it says whether its closing reads are complete."""


class Outcome(IntEnum):
    """How an operation ended: committed, certainly not committed, or nobody knows."""

    OK = 0
    FAIL = 1
    INFO = 2


class Function(IntEnum):
    """What an operation is."""

    SEND = 0
    POLL = 1
    TXN = 2
    ASSIGN = 3
    SUBSCRIBE = 4
    CRASH = 5
    DEBUG = 6


class Closing(IntEnum):
    """Whether an operation belongs to a complete closing read, and at which isolation level."""

    NONE = 0
    READ_COMMITTED = 1
    READ_UNCOMMITTED = 2


@dataclass(frozen=True)
class Operations:
    """One row per client operation, in order of completion; those that never completed come last.

    `index` is the record's index in the history (of the completion, or of the invocation if there is none), `line` its
    line in the file (from 1). `invoked` and `completed` are the places of its two records among all client records of
    the history: what precedes what. `invoked_at` and `completed_at` are nanoseconds. `error` is a position in
    `History.errors`. An operation left open has NOT_COMPLETED, NO_TIME and, as any without an error, NO_ERROR.
    """

    index: NDArray[np.int64]
    line: NDArray[np.int64]
    invoked: NDArray[np.int64]
    completed: NDArray[np.int64]
    process: NDArray[np.int64]
    function: NDArray[np.int8]
    outcome: NDArray[np.int8]
    closing: NDArray[np.int8]
    means_to_abort: NDArray[np.int8]
    error: NDArray[np.int32]
    invoked_at: NDArray[np.int64]
    completed_at: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.index)


@dataclass(frozen=True)
class MicroOperations:
    """One row per message sent or read, in the order of the operations and within each.

    `operation` is a row of `Operations`, `key` a position in `History.keys`, `value` what `History.value` takes;
    `offset` is NO_OFFSET where it was not recorded.
    """

    operation: NDArray[np.int32]
    is_send: NDArray[np.bool_]
    key: NDArray[np.int32]
    value: NDArray[np.int64]
    offset: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.operation)


@dataclass(frozen=True)
class OperationKeys:
    """One row per operation and key, in the order of the operations: an operation may have several keys or none."""

    operation: NDArray[np.int32]
    key: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.operation)


@dataclass(frozen=True)
class GroupOffsets:
    """One row per offset that an operation committed for a consumer group: the next one the group will read.

    `group` is a position in `History.groups`.
    """

    operation: NDArray[np.int32]
    group: NDArray[np.int32]
    key: NDArray[np.int32]
    offset: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.operation)


@dataclass(frozen=True)
class Fault:
    """What the nemesis did or noticed: `what` (kill, heal, isr ...) to whom, `time` nanoseconds after the start."""

    time: int
    what: str
    value: Any


@dataclass(frozen=True)
class History:
    """A recording: its operations and messages as columns, its faults, and the configuration its recorder noted.

    `assigned` has the keys of completed assigns and subscribes, `rebalanced` those that a data operation's rebalance
    log names, `empty_reads` those of which a poll returned an empty list. `values` are the distinct values that
    `MicroOperations.value` counts through, or None where all are integers of 64 bits, which then stand for themselves.
    `dropped` are the lines that a lenient reader left out, each with the reason.
    """

    file: str
    operations: Operations
    micro: MicroOperations
    assigned: OperationKeys
    rebalanced: OperationKeys
    empty_reads: OperationKeys
    group_offsets: GroupOffsets
    keys: list[Key]
    values: list[Value] | None
    groups: list[str]
    errors: list[str]
    faults: list[Fault]
    configuration: dict[str, Any]
    lines: int
    dropped: list[tuple[int, str]]

    @property
    def via(self) -> str:
        """How its consumers got their partitions, as far as its recorder said: assign or subscribe."""
        return "subscribe" if self.configuration.get("via") == "subscribe" else "assign"

    @property
    def incomplete(self) -> str | None:
        """Why the closing reads that its recorder promised are not complete; None if they are, or none were promised.

        A promise is `closing_reads` in the configuration; `{"complete": true}` of a fact `closing-reads` keeps it.
        """
        if not self.configuration.get("closing_reads"):
            return None
        told = [fault.value for fault in self.faults if fault.what == CLOSING_READS and isinstance(fault.value, dict)]
        if told and told[-1].get("complete") is True:
            return None
        why = told[-1].get("why") if told else None
        return str(why or "the recording ended before them")

    def value(self, number: int) -> Value:
        """The value that a number of the column `micro.value` stands for."""
        return int(number) if self.values is None else self.values[number]

    def counts(self) -> dict[str, int]:
        """How many client operations were invoked and how they ended; one left open counts as info."""
        ended = Counter(self.operations.outcome.tolist())
        return {"invoke": len(self.operations)} | {o.name.lower(): ended[o] for o in Outcome}


def read_history(path: str | Path, *, lenient: bool = False) -> History:
    """Read the history in a file, or on standard input if `path` is "-".

    JSON lines, a JSON array or EDN (Jepsen's `history.edn`), each also compressed with gzip; which one it is shows in
    the content. Raises BadInputError, with file and line, for a file that cannot be read or is not a history.
    If `lenient`, what is wrong is left out instead and told in `History.dropped`; a file of which nothing remains is
    refused all the same.
    """
    from hwmark.traces.history_files import read

    return read(str(path), lenient=lenient)
