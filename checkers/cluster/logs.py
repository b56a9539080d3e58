"""The tail of a partition's log as it lies on disk: where its batches begin and end, and how a crash cuts it.

Only the heads of the batches are read, so that a log may be looked at while its broker appends to it: what is not yet
whole at the end is not counted.

Source: Kafka's DefaultRecordBatch for the head of a batch; LogLoader, LogSegment.recover and ProducerStateManager for
what a broker makes of the files that it finds after a crash: indexes that are missing it builds anew, producer
snapshots above the end of the log it would trust.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import NamedTuple

from hwmark.checkers.cluster.errors import ClusterError

SEGMENT = re.compile(r"\d{20}\.log")
PARTITION = re.compile(r"(?P<topic>.+)-(?P<id>\d+)")
HEAD = struct.Struct(
    ">qi4xb6xi"
)  # base offset, length of what follows, (leader epoch), magic, (crc, attributes), delta
LENGTH_AT = 12  # a batch's length counts from here
SHORTEST = 61  # a batch without records
MAGIC = 2
METADATA = "__cluster_metadata"
RECOVERY_POINTS = "recovery-point-offset-checkpoint"
CLEAN_SHUTDOWN = ".kafka_cleanshutdown"


class Batch(NamedTuple):
    """A record batch: its file, the bytes from `position` on that it takes, and its offsets; `end` is exclusive."""

    segment: Path
    position: int
    size: int
    base: int
    end: int


class Cut(NamedTuple):
    """What a cut took from a log: the offsets from `end` up to `was`, exclusive; `torn` bytes of it are left over."""

    partition: str
    end: int
    was: int
    batches: int
    torn: int


def partition_folders(log_directory: Path) -> dict[str, Path]:
    """The logs in a log directory by the names of their partitions, sorted; the metadata log is none of them."""
    found = (folder for folder in sorted(log_directory.glob("*-*")) if PARTITION.fullmatch(folder.name))
    return {folder.name: folder for folder in found if folder.is_dir() and not folder.name.startswith(METADATA)}


def segments(folder: Path) -> list[Path]:
    """The segments of a log, the oldest first."""
    return sorted(file for file in folder.glob("*.log") if SEGMENT.fullmatch(file.name))


def batches(segment: Path) -> list[Batch]:
    """The batches of a segment that are whole. ClusterError, with the byte, for what is none."""
    content, found, position = segment.read_bytes(), [], 0
    while position + SHORTEST <= len(content):
        base, length, magic, delta = HEAD.unpack_from(content, position)
        if not base and not length:
            break  # allocated, and not yet written
        if magic != MAGIC or length < SHORTEST - LENGTH_AT or delta < 0:
            raise ClusterError(f"{segment}: there is no record batch at byte {position}")
        if position + LENGTH_AT + length > len(content):
            break
        found.append(Batch(segment, position, LENGTH_AT + length, base, base + delta + 1))
        position += LENGTH_AT + length
    return found


def last_batches(folder: Path) -> list[Batch]:
    """The batches of the newest segment that has any."""
    for segment in reversed(segments(folder)):
        if found := batches(segment):
            return found
    return []


def recovery_points(log_directory: Path) -> dict[str, int]:
    """Up to which offset the broker knows each log to be on disk; a log that is not named may not be there at all."""
    file = log_directory / RECOVERY_POINTS
    lines = file.read_text().splitlines()[2:] if file.exists() else []
    try:
        entries = [line.rsplit(" ", 2) for line in lines if line]
        return {f"{topic}-{id}": int(offset) for topic, id, offset in entries}
    except ValueError:
        raise ClusterError(f"{file}: is not what Kafka writes: a topic, a partition and an offset in a line") from None


def cut(folder: Path, keep: int, torn: int = 0) -> Cut:
    """Take all but the first `keep` batches from a log, but for so many bytes of the first batch that goes.

    The files are left as a crash leaves them: later segments gone, the cut one's indexes too, and the producer
    snapshots above the new end. Checkpoints may say more than the log then holds.
    """
    whole = [batch for segment in segments(folder) for batch in batches(segment)]
    first, was = whole[keep], whole[-1].end
    for segment in segments(folder):
        if segment >= first.segment:
            for file in folder.glob(f"{segment.stem}.*index"):
                file.unlink()
        if segment > first.segment:
            segment.unlink()
    with first.segment.open("r+b") as file_of:
        file_of.truncate(first.position + torn)
    end = whole[keep - 1].end if keep else first.base
    for snapshot in folder.glob("*.snapshot"):
        if snapshot.stem.isdecimal() and int(snapshot.stem) > end:
            snapshot.unlink()
    return Cut(folder.name, end, was, len(whole) - keep, torn)
