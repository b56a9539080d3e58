"""What clients saw of one partition's log, as columns: the form in which its linearizability is decided.

Every kind of request is a table of arrays of one length. `operation` numbers the operations from 0 (the numbers of a
verdict), `call` and `returned` are times of any unit on one clock, `returned` is NEVER where the outcome is unknown.
Offsets count from 0, ends are exclusive; NONE stands for whatever is not there or not known. A column that no
operation needs may be None: nobody has a transaction, every batch is one record.

Operations without effect and answer (a failed read) have no row. Not modelled: retention and compaction (offsets that
were there once), and produce requests that fail for some of their records.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Column = NDArray[np.int64]
Flags = NDArray[np.bool_]

NONE = -1
NEVER = int(np.iinfo(np.int64).max)
LONG_AGO = int(np.iinfo(np.int64).min)


class Decision(IntEnum):
    """How a transaction ended in this log, as far as is known."""

    UNDECIDED = 0
    COMMITTED = 1
    ABORTED = 2
    UNKNOWN = 3


def no_rows() -> Column:
    """An empty column."""
    return np.empty(0, dtype=np.int64)


def no_flags() -> Flags:
    """An empty column of truth values."""
    return np.empty(0, dtype=bool)


@dataclass(frozen=True)
class Requests:
    """What all tables share: who asked (None: nobody knows, and sessions cannot be judged), when, and until when."""

    operation: Column = field(default_factory=no_rows)
    call: Column = field(default_factory=no_rows)
    returned: Column = field(default_factory=no_rows)
    process: Column | None = None

    def __len__(self) -> int:
        return len(self.operation)


@dataclass(frozen=True)
class Appends(Requests):
    """Produce requests, one batch each.

    `value` numbers the values appended, the batch i has value[first[i]:first[i + 1]]; `first` is None where each batch
    is one record. No value is appended twice, except by a retry with the same producer, epoch and sequence. `offset` is
    the base offset answered. `sequence` is that of the batch's first record; NONE for a producer that is not
    idempotent. `failed`: certainly never in the log.
    """

    value: Column = field(default_factory=no_rows)
    offset: Column = field(default_factory=no_rows)
    first: Column | None = None
    transaction: Column | None = None
    producer: Column | None = None
    epoch: Column | None = None
    sequence: Column | None = None
    failed: Flags | None = None


@dataclass(frozen=True)
class Markers(Requests):
    """Control records: the coordinator writes them at any time from the call of EndTxn on, `returned` is NEVER."""

    transaction: Column = field(default_factory=no_rows)
    commits: Flags = field(default_factory=no_flags)
    offset: Column = field(default_factory=no_rows)


@dataclass(frozen=True)
class Fetches(Requests):
    """Answered fetches from offset `start`: the fetch i has the records first[i]:first[i + 1] of `offset` and `value`.

    `next` is where the next fetch goes on, `high_watermark` NONE where it was not recorded. A `lagging` answer may be
    that of any shorter log: a follower's, or a new leader's before its high watermark has caught up. A `complete` one
    that is not lagging goes up to the very end of what it may see; others may be cut short, even to nothing.
    """

    start: Column = field(default_factory=no_rows)
    next: Column = field(default_factory=no_rows)
    high_watermark: Column = field(default_factory=no_rows)
    read_committed: Flags = field(default_factory=no_flags)
    lagging: Flags = field(default_factory=no_flags)
    first: Column = field(default_factory=lambda: np.zeros(1, dtype=np.int64))
    offset: Column = field(default_factory=no_rows)
    value: Column = field(default_factory=no_rows)
    complete: Flags | None = None


@dataclass(frozen=True)
class ListOffsets(Requests):
    """Answered questions for the latest offset: the high watermark, or the last stable offset if read_committed."""

    read_committed: Flags = field(default_factory=no_flags)
    result: Column = field(default_factory=no_rows)


@dataclass(frozen=True)
class EndTxns(Requests):
    """Requests to end a transaction; one that `failed` certainly ended nothing. `producer` is the transactional id."""

    transaction: Column = field(default_factory=no_rows)
    commits: Flags = field(default_factory=no_flags)
    failed: Flags = field(default_factory=no_flags)
    producer: Column = field(default_factory=no_rows)


@dataclass(frozen=True)
class InitProducerIds(Requests):
    """Answered InitProducerId requests: by then the markers of what the transactional id had ended are written."""

    producer: Column = field(default_factory=no_rows)


@dataclass(frozen=True)
class PartitionLog:
    """Everything that was asked of one partition, and what may be assumed about it.

    `duplicates`: a producer that is not idempotent may leave further copies of its batch, at any time from its call on.
    `decisions[x]` is the Decision of transaction x where no marker of it is among `markers`; transactions beyond it are
    UNKNOWN. `operations` counts the operations. For sentences: `names` has the recorded values, `offsets` the recorded
    offsets, `numbers` the recorded operations by their numbers here, where those are others.
    """

    operations: int
    appends: Appends = field(default_factory=Appends)
    fetches: Fetches = field(default_factory=Fetches)
    list_offsets: ListOffsets = field(default_factory=ListOffsets)
    markers: Markers = field(default_factory=Markers)
    end_txns: EndTxns = field(default_factory=EndTxns)
    init_producer_ids: InitProducerIds = field(default_factory=InitProducerIds)
    duplicates: bool = False
    decisions: Column = field(default_factory=no_rows)
    names: dict[int, Any] | None = None
    offsets: Column | None = None
    numbers: Column | None = None

    def label(self, value: int) -> Any:
        """A value as it was recorded."""
        return int(value) if self.names is None else self.names[int(value)]

    def shown(self, offset: int) -> int:
        """An offset as it was recorded."""
        if self.offsets is None or offset >= len(self.offsets):
            return int(offset)
        return int(self.offsets[offset])

    def shown_length(self, length: int) -> int:
        """A length, which is the offset behind the last record, as it was recorded."""
        return self.shown(length - 1) + 1 if length > 0 else 0

    def number(self, operation: int) -> int:
        """The number of an operation as it was recorded."""
        return int(operation) if self.numbers is None else int(self.numbers[operation])

    def transaction_count(self) -> int:
        """One more than the greatest number of a transaction."""
        columns = (self.appends.transaction, self.markers.transaction, self.end_txns.transaction)
        return max([len(self.decisions), *(int(c.max()) + 1 for c in columns if c is not None and len(c))])

    def unknown_transactions(self) -> list[int]:
        """Transactions of which no marker is recorded, nor that they have none."""
        count = self.transaction_count()
        decisions = np.full(count, Decision.UNKNOWN)
        decisions[: len(self.decisions)] = self.decisions[:count]
        decisions[self.markers.transaction] = Decision.UNDECIDED
        unknown: list[int] = np.flatnonzero(decisions == Decision.UNKNOWN).tolist()
        return unknown

    def tables(self) -> tuple[Requests, ...]:
        """All tables."""
        return (
            self.appends,
            self.fetches,
            self.list_offsets,
            self.markers,
            self.end_txns,
            self.init_producer_ids,
        )

    def widened(self, uncertainty: int) -> PartitionLog:
        """The same log with every interval longer by `uncertainty` on both sides: clocks that differ by up to that."""
        if not uncertainty:
            return self
        return replace(
            self,
            appends=_widened(self.appends, uncertainty),
            fetches=_widened(self.fetches, uncertainty),
            list_offsets=_widened(self.list_offsets, uncertainty),
            markers=_widened(self.markers, uncertainty),
            end_txns=_widened(self.end_txns, uncertainty),
            init_producer_ids=_widened(self.init_producer_ids, uncertainty),
        )


Table = TypeVar("Table", bound=Requests)


def _widened(requests: Table, uncertainty: int) -> Table:
    """One table with longer intervals; NEVER stays what it is."""
    returned = np.where(requests.returned == NEVER, NEVER, requests.returned + uncertainty)
    return replace(requests, call=requests.call - uncertainty, returned=returned)


def column_or(column: Column | None, rows: int, otherwise: int = NONE) -> Column:
    """A column that may be absent, without spending memory on it."""
    return column if column is not None else np.broadcast_to(np.int64(otherwise), rows)
