"""The log of one partition as a correct broker keeps it, for the generator of histories.

Records, those of aborted transactions included, and transaction markers occupy offsets. Consumers are `read_committed`:
they see the committed records below the last stable offset, the offset of the first record whose transaction is
undecided. Of what all consumers have passed only eight bytes per offset are kept, for the closing reads.
"""

from __future__ import annotations

from array import array
from collections import deque
from enum import IntEnum

import numpy as np
from hwmark.traces.generator_notation import Notation
from numpy.typing import NDArray

Messages = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Offsets and values of some records of a partition, in order."""
NO_RECORD = -1
KEPT_MIN = 8
"""How many of the last visible records are kept although every consumer has passed them."""


class Fate(IntEnum):
    """What became of a batch's transaction; batches outside of transactions are committed at once."""

    OPEN = 0
    COMMITTED = 1
    ABORTED = 2


class Batch:
    """Records that one operation appended at one instant: from the offset `first` on, as texts."""

    __slots__ = ("fate", "first", "records")

    def __init__(self, first: int) -> None:
        self.first = first
        self.records: list[str] = []
        self.fate = Fate.OPEN


class PartitionLog:
    """One partition's log.

    `end` is the log end offset. `visible` are the texts of the committed records below the last stable offset and
    `offsets` their offsets, without those that every consumer has passed; a consumer's position counts in it.
    """

    def __init__(self, key: int, notation: Notation) -> None:
        self.key, self.notation = key, notation
        self.end = 0
        self.visible: list[str] = []
        self.offsets = array("q")
        self._undecided: deque[Batch] = deque()
        self._values = array("q")
        self._committed = bytearray()
        self._vanished: set[int] = set()
        self._competing: dict[int, int] = {}

    def is_stable(self) -> bool:
        """Whether no transaction is undecided: the last stable offset is the log end offset."""
        return not self._undecided

    def open_batch(self) -> Batch:
        """An empty batch at the end of the log."""
        batch = Batch(self.end)
        self._undecided.append(batch)
        return batch

    def append(self, batch: Batch, value: int) -> str:
        """Append to the batch that is last in the log; the record as text."""
        record = self.notation.record(self.end, value)
        batch.records.append(record)
        self._occupy(value)
        return record

    def append_alone(self, value: int) -> str:
        """Append a record outside of any transaction; it is committed at once."""
        batch = self.open_batch()
        record = self.append(batch, value)
        self._decide(batch, Fate.COMMITTED)
        return record

    def mark(self, batch: Batch, fate: Fate) -> None:
        """Write the marker of the batch's transaction."""
        self._decide(batch, fate)
        self._occupy(NO_RECORD)

    def _occupy(self, value: int) -> None:
        self._values.append(value)
        self._committed.append(0)
        self.end += 1

    def _decide(self, batch: Batch, fate: Fate) -> None:
        """Decide a batch, and advance the last stable offset."""
        batch.fate = fate
        if fate is Fate.COMMITTED:
            self._committed[batch.first : batch.first + len(batch.records)] = b"\1" * len(batch.records)
        undecided = self._undecided
        while undecided and undecided[0].fate is not Fate.OPEN:
            stable = undecided.popleft()
            if stable.fate is Fate.COMMITTED:
                self.visible += stable.records
                self.offsets.extend(range(stable.first, stable.first + len(stable.records)))

    def forget(self, position: int) -> int:
        """Forget visible records before a position, but for the last few; how many positions shift."""
        passed = max(0, min(position, len(self.visible) - KEPT_MIN))
        del self.visible[:passed]
        del self.offsets[:passed]
        return passed

    def lose(self) -> int:
        """Occupy an offset whose record nobody will ever find; the offset."""
        self._occupy(NO_RECORD)
        return self.end - 1

    def append_copy(self, value: int) -> int:
        """Append a further copy of a value that only read_uncommitted can see; its offset."""
        self._occupy(value)
        return self.end - 1

    def vanish(self, offset: int) -> None:
        """From now on no read_committed reader finds this record; those who read it already did."""
        self._vanished.add(offset)

    def compete(self, offset: int, value: int) -> None:
        """At the end read_uncommitted finds this value at an offset where consumers found another."""
        self._competing[offset] = value

    def closing_committed(self) -> list[Messages]:
        """Offsets and values that a complete read_committed read finds, cut where records vanished."""
        values = np.frombuffer(self._values, dtype=np.int64)
        offsets = np.flatnonzero(np.frombuffer(self._committed, dtype=np.bool_))
        cuts = np.searchsorted(offsets, sorted(self._vanished))
        kept = [part[i > 0 :] for i, part in enumerate(np.split(offsets, cuts))]
        return [(part, values[part]) for part in kept]

    def closing_raw(self) -> Messages:
        """Offsets and values that a complete read_uncommitted read finds."""
        values = np.array(self._values, dtype=np.int64)
        for offset, value in self._competing.items():
            values[offset] = value
        offsets = np.flatnonzero(values != NO_RECORD)
        return offsets, values[offsets]
