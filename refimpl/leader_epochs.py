"""Which leader epoch began at which offset: how replicas find out where their logs parted (KIP-101, KIP-279).

Source: org.apache.kafka.storage.internals.epoch.LeaderEpochFileCache. Its file is not modelled: an assigned epoch is on
disk at once, and `truncate_from_end` takes off what a crash left beyond the end of the log.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from operator import attrgetter
from typing import NamedTuple


class EpochEntry(NamedTuple):
    """The first offset that was written in a leader epoch."""

    epoch: int
    start_offset: int


class EpochEndOffset(NamedTuple):
    """The offset after the last one of a leader epoch."""

    epoch: int
    end_offset: int


UNDEFINED = EpochEndOffset(-1, -1)
_epoch, _start_offset = attrgetter("epoch"), attrgetter("start_offset")


@dataclass(slots=True)
class LeaderEpochCache:
    """The epochs of one log; epochs and start offsets both increase strictly."""

    entries: list[EpochEntry] = field(default_factory=list)

    @property
    def latest_epoch(self) -> int | None:
        """The epoch of the newest record, or of a leader that has not written yet."""
        return self.entries[-1].epoch if self.entries else None

    def assign(self, epoch: int, start_offset: int) -> None:
        """Begin an epoch, unless it has begun; entries that contradict the new one go. ValueError if negative."""
        entries = self.entries
        if entries and entries[-1].epoch == epoch and entries[-1].start_offset <= start_offset:
            return
        if epoch < 0 or start_offset < 0:
            raise ValueError(f"leader epoch {epoch} cannot start at offset {start_offset}")
        while entries and (entries[-1].epoch >= epoch or entries[-1].start_offset >= start_offset):
            entries.pop()
        entries.append(EpochEntry(epoch, start_offset))

    def end_offset_for(self, epoch: int, log_end_offset: int) -> EpochEndOffset:
        """The largest epoch up to the requested one, and where the next larger one begins (KIP-279); else UNDEFINED.

        Below the first epoch known, the answer is where that one begins: what came before has been deleted.
        """
        if epoch >= 0 and epoch == self.latest_epoch:
            return EpochEndOffset(epoch, log_end_offset)
        higher = bisect_right(self.entries, epoch, key=_epoch)
        if epoch < 0 or higher == len(self.entries):
            return UNDEFINED
        return EpochEndOffset(self.entries[higher - 1].epoch if higher else epoch, self.entries[higher].start_offset)

    def truncate_from_end(self, end_offset: int) -> None:
        """Forget the epochs that begin at the offset or later; a negative offset forgets none."""
        while end_offset >= 0 and self.entries and self.entries[-1].start_offset >= end_offset:
            self.entries.pop()

    def truncate_from_start(self, start_offset: int) -> None:
        """Forget the epochs that ended before the offset; the one it lies in begins there now."""
        index = bisect_right(self.entries, start_offset, key=_start_offset)
        if index:
            self.entries[:index] = [EpochEntry(self.entries[index - 1].epoch, start_offset)]
