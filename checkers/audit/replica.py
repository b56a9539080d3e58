"""A partition as one broker has it: all of its segments and small files, read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
from hwmark.checkers.audit import quick
from hwmark.checkers.audit.batches import Batches
from hwmark.checkers.audit.checkpoints import (
    LARGEST,
    LEADER_EPOCHS,
    PARTITION_METADATA,
    BadFileError,
    Epoch,
    Partition,
    ProducerSnapshot,
    read_aborted,
    read_epochs,
    read_snapshot,
    read_topic_id,
)
from hwmark.checkers.audit.directories import LogDirectory
from hwmark.checkers.audit.findings import (
    BAD_FILE,
    BAD_SNAPSHOT,
    INDEX_BEHIND,
    LEFT_OUT,
    SWAP,
    UNREADABLE,
    UNREADABLE_FILE,
    Finding,
)
from hwmark.checkers.audit.records import Record, UnreadableError, read_records
from hwmark.checkers.audit.segments import Damage, Segment, next_offset, read_segment
from numpy.typing import NDArray

DELETED_SUFFIX = ".deleted"
INDEX_SUFFIXES = ("index", "timeindex", "txnindex")
LOG_SUFFIXES = (".log", ".log.swap")
Content = TypeVar("Content")


@dataclass(frozen=True)
class Replica:
    """A partition as one broker has it.

    `batches` are those of all segments in order, `damages` the stretches that are none. `epochs` is None where the
    checkpoint cannot be read, `topic_id` and the checkpointed offsets where there are none. `found` is what was
    noticed while reading.
    """

    directory: LogDirectory
    partition: Partition
    path: Path
    segments: list[Segment]
    batches: Batches
    damages: list[Damage]
    epochs: list[Epoch] | None
    topic_id: str | None
    aborted: list[NDArray[np.void] | None]
    snapshots: list[ProducerSnapshot]
    found: list[Finding]

    @property
    def broker(self) -> str:
        """Whose it is."""
        return self.directory.broker

    @property
    def high_watermark(self) -> int | None:
        """What the broker last wrote down as committed."""
        return self.directory.high_watermarks.get(self.partition)

    @cached_property
    def log_start(self) -> int:
        """The first offset that still counts."""
        first = self.segments[0].base_offset if self.segments else 0
        return max(first, self.directory.log_starts.get(self.partition, 0))

    @cached_property
    def log_end(self) -> int:
        """The offset after the last sound batch."""
        last = self.segments[-1].base_offset if self.segments else 0
        return max(last, int(next_offset(self.batches[-1]))) if len(self.batches) else last

    @cached_property
    def last_epoch(self) -> int:
        """The leader epoch of the last batch, -1 if there is none."""
        return int(self.batches["leader_epoch"][-1]) if len(self.batches) else -1

    @cached_property
    def is_cleaned(self) -> bool:
        """Whether the log cleaner has been here: it says so, or batches have fewer records than offsets."""
        if self.partition in self.directory.cleaned:
            return True
        return bool(self.suspicions & quick.THINNED)

    def is_rebuilt(self, number: int) -> bool:
        """Whether a broker reads a segment again at its start and writes its indexes anew: after a kill, the last ones.

        Which ones follows from the recovery point.
        """
        if self.directory.clean:
            return False
        flushed = self.directory.recovery_points.get(self.partition, 0)
        return number == len(self.segments) - 1 or self.segments[number + 1].base_offset > flushed

    @cached_property
    def suspicions(self) -> int:
        """Which checks of the batches may find something (bits of `quick`)."""
        batches = self.batches
        bases = np.array([segment.base_offset for segment in self.segments], dtype=np.int64)
        of_log = [batches[name] for name in ("base_offset", "last_offset_delta", "record_count", "segment")]
        more = [batches[name] for name in ("leader_epoch", "fault", "attributes")]
        names = ("producer_id", "producer_epoch", "base_sequence", "last_offset_delta", "attributes")
        of_producers = quick.producer_suspicions(*(batches[name] for name in names))
        return int(quick.suspicions(*of_log, bases, *more)) | int(of_producers)

    def finding(self, kind: str, sentence: str, **more: object) -> Finding:
        """A finding about this replica."""
        topic, number = self.partition
        return Finding(kind, sentence, self.broker, topic, number, **more)  # type: ignore[arg-type]

    def at(self, row: int) -> dict[str, object]:
        """The fields of a finding that say where a batch lies."""
        batch = self.batches[row]
        offsets = int(batch["base_offset"]), int(next_offset(batch)) - 1
        path = self.segments[int(batch["segment"])].path
        return {"offsets": offsets, "file": path, "position": int(batch["position"])}


def records_of(replica: Replica, chosen: NDArray[np.bool_]) -> Iterator[tuple[int, list[Record] | Finding]]:
    """The rows of chosen batches, each with its records; with a finding where they cannot be read. Raises OSError."""
    rows = np.flatnonzero(chosen & (replica.batches["record_count"] > 0))
    number_of = replica.batches["segment"][rows]
    for number, segment in enumerate(replica.segments):
        of_segment = rows[number_of == number].tolist()
        if not of_segment:
            continue
        with segment.path.open("rb", buffering=0) as file:
            for row in of_segment:
                try:
                    yield row, read_records(file.fileno(), replica.batches[row])
                except UnreadableError as error:
                    yield row, replica.finding(UNREADABLE, str(error), **replica.at(row))


def read_replica(directory: LogDirectory, partition: Partition, read: Callable[[int], None]) -> Replica:
    """Read a partition; `read` is told how many bytes were done. Files that cannot be read are findings."""
    reader = _Reader(directory, partition, read)
    segments, number = [], 0
    for path, base_offset in reader.segment_files():
        segment = reader.segment(path, number, base_offset)
        if segment is not None:
            segments.append(segment)
            number += 1
    batches = Batches.of((number, piece) for number, segment in enumerate(segments) for piece in segment.pieces)
    for segment in segments:
        segment.let_go()
    return Replica(
        directory,
        partition,
        reader.path,
        segments,
        batches,
        [damage for segment in segments for damage in segment.damages],
        reader.small(LEADER_EPOCHS, read_epochs) if LEADER_EPOCHS in reader.names else None,
        reader.small(PARTITION_METADATA, read_topic_id),
        reader.aborted(segments),
        reader.snapshots(),
        reader.found,
    )


class _Reader:
    """Reads the files of a partition and keeps what it finds about them."""

    def __init__(self, directory: LogDirectory, partition: Partition, read: Callable[[int], None]) -> None:
        self.directory, self.partition, self.read = directory, partition, read
        self.path = directory.partitions[partition]
        self.found: list[Finding] = []
        self.names = sorted(child.name for child in self.path.iterdir() if child.is_file())

    def note(self, kind: str, sentence: str, name: str) -> None:
        """Keep a finding about a file."""
        topic, number = self.partition
        self.found.append(Finding(kind, sentence, self.directory.broker, topic, number, file=self.path / name))

    def segment_files(self) -> list[tuple[Path, int]]:
        """The segments' files with their first offsets, as a broker would take them at its start.

        A .swap file is a cleaned segment whose originals need not have been deleted yet.
        """
        logs: dict[int, Path] = {}
        swaps: dict[int, Path] = {}
        for name in self.names:
            stem, _, kind = name.partition(".")
            if f".{kind}" in LOG_SUFFIXES and stem.isdecimal() and int(stem) <= LARGEST:
                (swaps if kind.endswith("swap") else logs)[int(stem)] = self.path / name
        left_out = [
            name for name in self.names if ".log" in name and self.path / name not in {*logs.values(), *swaps.values()}
        ]
        if left_out:
            files = "1 file is" if len(left_out) == 1 else f"{len(left_out):,} files are"
            why = "deleted" if all(name.endswith(DELETED_SUFFIX) for name in left_out) else "no segments, or not yet"
            self.note(LEFT_OUT, f"{files} not read, {why}; this one first", left_out[0])
        self.note_orphans({*logs, *swaps})
        if swaps:
            read = [self.segment(path, 0, base) for base, path in swaps.items()]
            first, end = min(swaps), max((segment.next_offset for segment in read if segment), default=0)
            logs = {base: path for base, path in logs.items() if not first <= base < end} | swaps
            for path in swaps.values():
                self.note(SWAP, "the cleaner was about to put it into place, and it counts as if it had", path.name)
        return [(logs[base], base) for base in sorted(logs)]

    def note_orphans(self, bases: set[int]) -> None:
        """Tell of indexes whose log is gone; a kill may leave such behind, as a segment's files are removed in turn."""
        kind = BAD_FILE if self.directory.clean else LEFT_OUT
        for name in self.names:
            stem, _, suffix = name.partition(".")
            if suffix in INDEX_SUFFIXES and stem.isdecimal() and int(stem) not in bases:
                self.note(kind, f"the log that it is an index of is missing: {stem}.log", name)

    def segment(self, path: Path, number: int, base_offset: int) -> Segment | None:
        """A segment, None if its file cannot be read."""
        try:
            return read_segment(path, number, base_offset, self.read)
        except OSError as error:
            self.note(UNREADABLE_FILE, f"it cannot be read: {(error.strerror or str(error)).lower()}", path.name)
            return None

    def small(self, name: str, read: Callable[[Path], Content]) -> Content | None:
        """What a small file says, None if that is not to be had."""
        try:
            return read(self.path / name)
        except BadFileError as error:
            self.note(BAD_FILE, str(error), name)
        except OSError as error:
            self.note(UNREADABLE_FILE, f"it cannot be read: {(error.strerror or str(error)).lower()}", name)
        return None

    def aborted(self, segments: list[Segment]) -> list[NDArray[np.void] | None]:
        """The .txnindex of each segment, None where it cannot be understood."""
        found: list[NDArray[np.void] | None] = []
        for segment in segments:
            name = segment.path.name.replace(".log", ".txnindex", 1)
            before = len(self.found)
            found.append(self.small(name, read_aborted))
            is_being_written = segment is segments[-1] and not self.directory.clean
            if len(self.found) > before and is_being_written and "the last entry has" in self.found[-1].sentence:
                self.note(INDEX_BEHIND, self.found.pop().sentence, name)
        return found

    def snapshots(self) -> list[ProducerSnapshot]:
        """The snapshots of producers that can be read."""
        found = []
        for name in self.names:
            stem, _, kind = name.partition(".")
            if kind == "snapshot" and stem.isdecimal() and int(stem) <= LARGEST:
                try:
                    found.append(read_snapshot(self.path / name))
                except BadFileError as error:
                    self.note(BAD_SNAPSHOT, str(error), name)
                except OSError as error:
                    self.note(UNREADABLE_FILE, f"it cannot be read: {(error.strerror or str(error)).lower()}", name)
        return found
