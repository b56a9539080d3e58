"""Rows on disk: files without a name, sorted runs in them, and the difference of runs, which is what finds duplicates.

The difference is computed slice by slice of the range of hashes, each slice small enough for memory whatever the length
of the runs, and slices side by side. Blocks of a run that can hold none of the rows asked for are not read.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from hwmark.checkers.explore import merging

Rows = npt.NDArray[np.uint8]
Hashes = npt.NDArray[np.uint64]

READ_BLOCKS = 16
"""Blocks of a run that are read at once."""

HASH_SPACE = 1 << 64


class RowFile:
    """A file of rows that has no name, so that the operating system removes it with the process, however that ends."""

    def __init__(self, directory: Path, row_bytes: int) -> None:
        self._file = tempfile.TemporaryFile(dir=directory, prefix="hwmark-", buffering=0)  # noqa: SIM115
        self.row_bytes = row_bytes
        self.count = 0

    def append(self, rows: Rows) -> None:
        """Write rows at the end. Raises OSError when the disk is full."""
        rest = rows.reshape(-1).data
        while rest:
            rest = rest[self._file.write(rest) :]
        self.count += len(rows)

    def read(self, start: int, stop: int, into: Rows | None = None) -> Rows:
        """The rows [start, stop)."""
        rows = np.empty((stop - start, self.row_bytes), np.uint8) if into is None else into
        rest, offset = rows.reshape(-1).data, start * self.row_bytes
        while rest:
            done = os.preadv(self._file.fileno(), [rest], offset)
            if not done:
                raise EOFError("a file of states is shorter than what was written to it")
            rest, offset = rest[done:], offset + done
        return rows

    def clear(self) -> None:
        """Forget all rows and give their space back."""
        self._file.truncate(0)
        self._file.seek(0)
        self.count = 0


@dataclass(frozen=True)
class Run:
    """Sorted rows, each once: `count` rows of a file from `start` on, and the hash of the first row of each block."""

    file: RowFile
    start: int
    count: int
    block_rows: int
    firsts: Hashes

    def read(self, start: int, stop: int) -> Rows:
        """The rows [start, stop) of the run."""
        return self.file.read(self.start + start, self.start + min(stop, self.count))

    def position(self, value: int) -> int:
        """How many rows have a smaller hash."""
        block = int(np.searchsorted(self.firsts, np.uint64(value), "left")) - 1
        if block < 0:
            return 0
        start = block * self.block_rows
        hashes = hashes_of(self.read(start, start + self.block_rows))
        return start + int(np.searchsorted(hashes, np.uint64(value), "left"))

    def between(self, low: int, high: int) -> tuple[int, int]:
        """The rows [start, stop) whose hashes are in [low, high)."""
        return self.position(low), self.count if high == HASH_SPACE else self.position(high)

    def strike(self, rows: Rows, hashes: Hashes, fresh: npt.NDArray[np.bool_]) -> None:
        """Mark those of these sorted rows that the run has as not fresh."""
        if not len(rows):
            return
        begin = max(int(np.searchsorted(self.firsts, hashes[0], "left")) - 1, 0)
        firsts = self.firsts[begin : int(np.searchsorted(self.firsts, hashes[-1], "right"))]
        lows = np.searchsorted(hashes, firsts, "left")
        highs = np.append(np.searchsorted(hashes, firsts[1:], "right"), len(hashes))
        for first, last in stretches(np.flatnonzero(highs > lows)):
            seen = self.read((begin + first) * self.block_rows, (begin + last + 1) * self.block_rows)
            merging.strike(
                rows.ctypes.data, hashes, int(lows[first]), int(highs[last]), seen.ctypes.data, len(seen),
                rows.shape[1], fresh,
            )  # fmt: skip


def stretches(numbers: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Ascending numbers as stretches [first, last] without a gap, none longer than `READ_BLOCKS`."""
    for piece in np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1):
        for start in range(0, len(piece), READ_BLOCKS):
            part = piece[start : start + READ_BLOCKS]
            yield int(part[0]), int(part[-1])


def hashes_of(rows: Rows, first: int = 0, step: int = 1) -> Hashes:
    """The hashes of rows first, first + step, ..."""
    hashes = np.empty(max(-(-(len(rows) - first) // step), 0), np.uint64)
    merging.hash_rows(rows.ctypes.data + first * rows.shape[1], step, rows.shape[1], hashes)
    return hashes


class RunWriter:
    """Appends sorted rows to a file and gives the run that they are."""

    def __init__(self, file: RowFile, block_rows: int) -> None:
        self.file, self.block_rows, self.start = file, block_rows, file.count
        self._firsts: list[Hashes] = []

    def append(self, rows: Rows) -> None:
        """Write rows that come after all rows so far."""
        behind = self.file.count - self.start
        self._firsts.append(hashes_of(rows, -behind % self.block_rows, self.block_rows))
        self.file.append(rows)

    def finish(self) -> Run:
        """The run of all rows written."""
        firsts = np.concatenate([np.zeros(0, np.uint64), *self._firsts])
        return Run(self.file, self.start, self.file.count - self.start, self.block_rows, firsts)


@dataclass(frozen=True)
class Difference:
    """The rows of some runs, each once, that none of some other runs has."""

    runs: Sequence[Run]
    without: Sequence[Run]

    def slice(self, low: int, high: int) -> Rows:
        """Those whose hashes are in [low, high), sorted."""
        rows, hashes = self._united([(run, *run.between(low, high)) for run in self.runs])
        fresh = np.ones(len(rows), np.bool_)
        for run in self.without:
            run.strike(rows, hashes, fresh)
        return rows[fresh]

    def _united(self, parts: list[tuple[Run, int, int]]) -> tuple[Rows, Hashes]:
        pieces = [run.read(start, stop) for run, start, stop in parts if start < stop]
        if len(pieces) == 1:
            return pieces[0], hashes_of(pieces[0])
        stops = np.cumsum([len(piece) for piece in pieces], dtype=np.int64)
        starts = np.concatenate([np.zeros(1, np.int64), stops[:-1]])[: len(stops)]
        rows = np.concatenate([np.zeros((0, self.runs[0].file.row_bytes), np.uint8), *pieces])
        united, hashes = np.empty_like(rows), np.empty(len(rows), np.uint64)
        del pieces
        count = merging.unite(rows.ctypes.data, starts, stops, rows.shape[1], united.ctypes.data, hashes)
        return united[:count], hashes[:count]

    def write(self, writer: RunWriter, slice_rows: int, workers: int, tell: Callable[[], None] = lambda: None) -> Run:
        """Write them all, slices of about so many rows of the runs at a time, by this many threads; `tell` of each."""
        slices = -(-sum(run.count for run in self.runs) // slice_rows)
        bounds = [number * HASH_SPACE // max(slices, 1) for number in range(slices + 1)]
        with ThreadPoolExecutor(workers) as pool:
            waiting: deque[Future[Rows]] = deque()
            for low, high in itertools.pairwise(bounds):
                waiting.append(pool.submit(self.slice, low, high))
                if len(waiting) > workers:
                    writer.append(waiting.popleft().result())
                    tell()
            while waiting:
                writer.append(waiting.popleft().result())
        return writer.finish()


@dataclass
class Visited:
    """All states of the complete levels, as few runs: a run is merged with those before it that are not much longer."""

    directory: Path
    slice_rows: int
    workers: int
    tell: Callable[[], None] = lambda: None
    runs: list[Run] = field(default_factory=list)

    def add(self, run: Run) -> None:
        """Add the run of a level, which has no state in common with the levels before."""
        if not run.count:
            return
        self.runs.append(run)
        total, first = run.count, len(self.runs) - 1
        while first > 0 and self.runs[first - 1].count <= 2 * total:
            first -= 1
            total += self.runs[first].count
        if first < len(self.runs) - 1:
            self.runs[first:] = [self._merged(self.runs[first:])]

    def _merged(self, runs: Sequence[Run]) -> Run:
        writer = RunWriter(RowFile(self.directory, runs[0].file.row_bytes), runs[0].block_rows)
        return Difference(runs, ()).write(writer, self.slice_rows, self.workers, self.tell)
