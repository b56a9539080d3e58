"""The transactions of a log that were aborted: what a read_committed consumer has to leave out (KIP-98).

Source: org.apache.kafka.storage.internals.log.TransactionIndex. Kafka has one per segment, a log here has one in all.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from operator import attrgetter
from typing import NamedTuple

_last_offset = attrgetter("last_offset")


class AbortedTxn(NamedTuple):
    """An aborted transaction, from its first record to its marker, and the last stable offset once it was decided."""

    producer_id: int
    first_offset: int
    last_offset: int
    last_stable_offset: int


class CorruptIndexError(ValueError):
    """The index lists a transaction that ended before the index starts."""


@dataclass(slots=True)
class TransactionIndex:
    """Aborted transactions by the offsets of their markers, which increase strictly."""

    start_offset: int = 0
    aborted: list[AbortedTxn] = field(default_factory=list)

    def append(self, txn: AbortedTxn) -> None:
        """Add a transaction whose marker was written; ValueError if a later one is there already."""
        if self.aborted and self.aborted[-1].last_offset >= txn.last_offset:
            raise ValueError(f"{txn} does not end after {self.aborted[-1]}")
        self.aborted.append(txn)

    def collect(self, fetch_offset: int, upper_bound_offset: int) -> tuple[list[AbortedTxn], bool]:
        """The transactions with records in [fetch_offset, upper_bound_offset); whether later ones cannot have any."""
        found: list[AbortedTxn] = []
        for txn in self.aborted[bisect_left(self.aborted, fetch_offset, key=_last_offset) :]:
            if txn.first_offset < upper_bound_offset:
                found.append(txn)
            if txn.last_stable_offset >= upper_bound_offset:
                return found, True
        return found, False

    def truncate_to(self, offset: int) -> None:
        """Drop the transactions whose markers are at the offset or later."""
        del self.aborted[bisect_left(self.aborted, offset, key=_last_offset) :]

    def sanity_check(self) -> None:
        """CorruptIndexError if a transaction ended before the index starts."""
        for txn in self.aborted:
            if txn.last_offset < self.start_offset:
                raise CorruptIndexError(f"{txn} ends before the index starts at {self.start_offset}")
