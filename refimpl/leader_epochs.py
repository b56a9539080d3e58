"""Which leader epoch began at which offset: how replicas find out where their logs parted (KIP-101, KIP-279).

Source: org.apache.kafka.storage.internals.epoch.LeaderEpochFileCache. Its file is not modelled: an assigned epoch is on
disk at once, and `truncate_from_end` takes off what a crash left beyond the end of the log.
"""

from __future__ import annotations

from dataclasses import dataclass, field
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


@dataclass(slots=True)
class LeaderEpochCache:
    """The epochs of one log; epochs and start offsets both increase strictly."""

    entries: list[EpochEntry] = field(default_factory=list)

    def assign(self, epoch: int, start_offset: int) -> None:
        """Begin an epoch, unless it has begun; entries that contradict the new one go. ValueError if negative."""
        if self.entries and self.entries[-1].epoch == epoch and self.entries[-1].start_offset <= start_offset:
            return
        if epoch < 0 or start_offset < 0:
            raise ValueError(f"leader epoch {epoch} cannot start at offset {start_offset}")
        older = [entry for entry in self.entries if entry.epoch < epoch and entry.start_offset < start_offset]
        self.entries = [*older, EpochEntry(epoch, start_offset)]

    def end_offset_for(self, epoch: int, log_end_offset: int) -> EpochEndOffset:
        """The largest epoch up to the requested one, and where the next larger one begins (KIP-279); else UNDEFINED.

        Below the first epoch known, the answer is where that one begins: what came before has been deleted.
        """
        if self.entries and self.entries[-1].epoch == epoch:
            return EpochEndOffset(epoch, log_end_offset)
        known = [entry.epoch for entry in self.entries if entry.epoch <= epoch]
        later = self.entries[len(known) :]
        return EpochEndOffset(max(known, default=epoch), later[0].start_offset) if later and epoch >= 0 else UNDEFINED

    def truncate_from_end(self, end_offset: int) -> None:
        """Forget the epochs that begin at the offset or later; a negative offset forgets none."""
        self.entries = [entry for entry in self.entries if entry.start_offset < end_offset or end_offset < 0]

    def truncate_from_start(self, start_offset: int) -> None:
        """Forget the epochs that ended before the offset; the one it lies in begins there now."""
        begun = [entry.epoch for entry in self.entries if entry.start_offset <= start_offset]
        if begun:
            self.entries[: len(begun)] = [EpochEntry(begun[-1], start_offset)]
