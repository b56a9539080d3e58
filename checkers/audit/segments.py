"""The batches of a segment file as rows, and the stretches of it that are none.

A file is read in pieces, not mapped: a disk that cannot be read then is an error that is told, and so is a file that
somebody shortens meanwhile. After a stretch that is no batch the walk goes on at the next sound one; a broker would
end its log there.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from hwmark.checkers.audit.batches import Columns, empty_columns, first_rows, rows_at_most
from hwmark.checkers.audit.layout import BEFORE_LENGTH, HEADER_BYTES, LENGTH, Stop
from hwmark.checkers.audit.walk import next_sound, walk
from numpy.typing import NDArray

PIECE_BYTES = 1 << 22
ROWS = 1 << 14
LARGEST = 2**63 - 1
OFFSETS_OF_SEGMENT = 2**31
"""How far a segment's offsets may lie from its first."""
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Damage:
    """A stretch [position, end) of a file that holds no sound batch.

    `reason` is why the first bytes are none; `is_tail` says that no sound batch follows, `zeros_from` where the zeros
    begin with which the file ends; `offset` is the base offset that its first bytes claim, `size` what they claim to be
    long, None where too few are left to tell.
    """

    segment: int
    position: int
    end: int
    reason: Stop
    is_tail: bool
    zeros_from: int
    offset: int | None
    size: int | None


@dataclass(frozen=True)
class Segment:
    """A segment file, read: its first offset as the file's name has it, its batches and damages."""

    path: Path
    base_offset: int
    size: int
    pieces: list[Columns]
    damages: list[Damage]

    @cached_property
    def count(self) -> int:
        """How many batches there are."""
        return sum(len(piece.size) for piece in self.pieces)

    @property
    def next_offset(self) -> int:
        """The offset after the last batch, the segment's own if there is none."""
        return _after(self.pieces, self.base_offset)

    def let_go(self) -> None:
        """Forget the batches, which somebody else holds by now, but not how many there were."""
        assert self.count >= 0
        self.pieces.clear()


class _Reader:
    """A file's bytes from `position` on, as far as they are held."""

    def __init__(self, file: FileIO, size: int) -> None:
        self.file, self.size, self.position = file, size, 0
        self._buffer, self._held = np.empty(min(PIECE_BYTES, size), dtype=np.uint8), 0

    @property
    def data(self) -> Bytes:
        """What is held."""
        return self._buffer[: self._held]

    @property
    def is_all(self) -> bool:
        """Whether what is held is all that is left."""
        return self.position + self._held >= self.size

    def move(self, used: int) -> None:
        """Let go of the first bytes."""
        rest = self._held - used
        self._buffer[:rest] = self._buffer[used : self._held].copy()
        self._held, self.position = rest, self.position + used

    def fill(self, needed: int = 0) -> None:
        """Hold a piece, or as many bytes as needed, or all there are. Raises OSError if the file has become shorter."""
        wanted = min(max(needed, PIECE_BYTES), self.size - self.position)
        if wanted > len(self._buffer):
            larger = np.empty(wanted, dtype=np.uint8)
            larger[: self._held] = self.data
            self._buffer = larger
        while self._held < wanted:
            self.file.seek(self.position + self._held)
            got = self.file.readinto(self._buffer[self._held : wanted].data)
            if not got:
                raise OSError(errno.EIO, "became shorter while it was read", self.file.name)
            self._held += got


def read_segment(path: Path, number: int, base_offset: int, read: Callable[[int], None]) -> Segment:
    """Read and check a segment file; `read` is told how many bytes were done. Raises OSError."""
    found: list[Columns] = []
    damages: list[Damage] = []
    with path.open("rb", buffering=0) as file:
        reader = _Reader(file, file.seek(0, 2))
        while reader.position < reader.size:
            reader.fill()
            used, stop = _walk_all(reader.data, reader.position, found)
            needed = _size_claimed(reader.data[used:])
            reader.move(used)
            if stop == Stop.END and (needed or 0) <= reader.size - reader.position and not reader.is_all:
                reader.fill(max(needed or 0, HEADER_BYTES))
            elif reader.position < reader.size:
                lowest = min(_after(found, base_offset), LARGEST)
                highest = min(base_offset + OFFSETS_OF_SEGMENT, LARGEST)
                damages.append(_damage(reader, stop, number, lowest, highest))
                used += damages[-1].end - damages[-1].position
            read(used)
        return Segment(path, base_offset, reader.size, found, damages)


def _after(pieces: list[Columns], base_offset: int) -> int:
    """The offset after the last batch of several pieces, the base offset if there is none."""
    if not pieces:
        return base_offset
    return int(pieces[-1].base_offset[-1]) + int(pieces[-1].last_offset_delta[-1]) + 1


def next_offset(batches: Any) -> Any:
    """The offset that follows a batch, or each of several."""
    return batches["base_offset"] + batches["last_offset_delta"] + 1


def _walk_all(data: Bytes, position: int, found: list[Columns]) -> tuple[int, Stop]:
    """Walk over as much as there is: where it ended, and why."""
    used = 0
    while True:
        rows = empty_columns(min(ROWS, rows_at_most(len(data))))
        filled, ended, stop = walk(data[used:], len(data) - used, rows, position + used)
        if filled:
            found.append(first_rows(rows, filled))
        used += ended
        if stop != Stop.FULL:
            return used, Stop(stop)


def _size_claimed(data: Bytes) -> int | None:
    """How long the batch that begins here says it is, None if too little of it is there."""
    if len(data) < BEFORE_LENGTH:
        return None
    return BEFORE_LENGTH + int.from_bytes(data[LENGTH:BEFORE_LENGTH].tobytes(), "big", signed=True)


def _damage(reader: _Reader, stop: Stop, number: int, lowest: int, highest: int) -> Damage:
    """What lies before the next sound batch, where the reader goes on."""
    position, size = reader.position, _size_claimed(reader.data)
    offset = int.from_bytes(reader.data[:LENGTH].tobytes(), "big", signed=True) if len(reader.data) >= LENGTH else None
    following = -1
    while following < 0:
        following = int(next_sound(reader.data, 1, len(reader.data), lowest, highest))
        if reader.is_all:
            break
        reader.fill(2 * len(reader.data))
    filled = np.flatnonzero(reader.data if following < 0 else reader.data[:0])
    zeros_from = position + (int(filled[-1]) + 1 if len(filled) else 0)
    reader.move(following if following >= 0 else len(reader.data))
    is_tail = following < 0
    return Damage(number, position, reader.position, stop, is_tail, zeros_from, offset, size)
