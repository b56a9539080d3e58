"""The .index and .timeindex files held against the log: does each entry lead a reader to where it has to begin?

A broker looks into them for the place where a reader begins, and checks them nowhere: those of a clean shutdown, and
after a kill those below the recovery point, it takes as they are. From an entry that leads too far a reader misses
records, and nobody is told. An entry that leads to too early a place only costs time; a missing file is written anew.
Source: Kafka's `OffsetIndex`, `TimeIndex`, `LogSegment`, `LogLoader`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from hwmark.checkers.audit.batches import Batches
from hwmark.checkers.audit.checkpoints import LARGEST
from hwmark.checkers.audit.findings import INDEX_MISLEADS, UNREADABLE_FILE, Finding
from hwmark.checkers.audit.replica import Replica
from hwmark.checkers.audit.segments import next_offset
from numpy.typing import NDArray

OFFSETS = np.dtype([("offset", ">i4"), ("position", ">i4")])
"""An entry of an .index file: an offset of the batches that were appended together, and where the first begins."""
TIMES = np.dtype([("timestamp", ">i8"), ("offset", ">i4")])
"""An entry of a .timeindex file: the largest timestamp so far, and an offset of the batch that has it."""
Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]
Judgement = tuple[Mask, str]
"""For each entry whether it is wrong, and what is wrong then."""
NO_TIMESTAMP = -1


def indexes(replica: Replica) -> Iterator[Finding]:
    """In sound segments' indexes, the first entry that leads too far, or that a broker could not append behind."""
    rows = np.searchsorted(replica.batches["segment"], np.arange(len(replica.segments) + 1))
    damaged = {damage.segment for damage in replica.damages}
    for number, segment in enumerate(replica.segments):
        if number not in damaged and not replica.is_rebuilt(number):
            batches = replica.batches[int(rows[number]) : int(rows[number + 1])]
            for suffix, kind, judge in ((".index", OFFSETS, _offsets), (".timeindex", TIMES, _times)):
                file = segment.path.with_name(segment.path.name.replace(".log", suffix, 1))
                try:
                    content = file.read_bytes()
                except FileNotFoundError:
                    continue
                except OSError as error:
                    reason = (error.strerror or str(error)).lower()
                    yield replica.finding(UNREADABLE_FILE, f"it cannot be read: {reason}", file=file)
                    continue
                entries = np.frombuffer(content, dtype=kind, count=len(content) // kind.itemsize)
                for wrong, sentence in judge(entries, batches, segment.base_offset):
                    if wrong.any():
                        place = int(np.argmax(wrong)) * kind.itemsize
                        yield replica.finding(INDEX_MISLEADS, sentence, file=file, position=place)


def _offsets(entries: NDArray[np.void], batches: Batches, base_offset: int) -> Iterator[Judgement]:
    """An offset is to be found from its position on."""
    offset, position = base_offset + entries["offset"].astype(np.int64), entries["position"].astype(np.int64)
    # Behind the last batch stands one that no entry can mean.
    begins, firsts = np.append(batches["position"], LARGEST), np.append(batches["base_offset"], LARGEST)
    at = np.searchsorted(begins, position)
    yield begins[at] != position, "no batch begins at the position of this entry"
    yield (
        (begins[at] == position) & (firsts[at] > offset),
        "its position lies behind its offset, so that readers miss some",
    )
    yield _falls(offset, 1), "its offset is not above that of the entry before it"
    yield offset >= _end(batches, base_offset), "its offset is beyond the end of the segment"


def _times(entries: NDArray[np.void], batches: Batches, base_offset: int) -> Iterator[Judgement]:
    """A timestamp is the largest up to its offset."""
    timestamp, offset = entries["timestamp"].astype(np.int64), base_offset + entries["offset"].astype(np.int64)
    highest = np.maximum.accumulate(np.append(NO_TIMESTAMP, batches["max_timestamp"]))
    at = np.searchsorted(next_offset(batches), offset, side="right")
    yield highest[at] > timestamp, "records before its offset have a later timestamp, so that readers by time miss some"
    yield timestamp > highest[np.minimum(at + 1, len(batches))], "no record up to its offset has so late a timestamp"
    yield _falls(timestamp, 1) | _falls(offset, 0), "it goes back behind the entry before it"
    yield offset >= _end(batches, base_offset), "its offset is beyond the end of the segment"


def _falls(column: Rows, step: int) -> Mask:
    """For each entry whether it does not rise by a step above the one before it."""
    return np.append(False, np.diff(column) < step)[: len(column)]


def _end(batches: Batches, base_offset: int) -> int:
    """The offset after a segment's last batch."""
    return int(next_offset(batches[-1])) if len(batches) else base_offset
