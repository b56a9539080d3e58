"""The search beyond memory: delayed duplicate detection, exact.

The engine's own loop goes on, but what it has in memory is now a batch: the arena holds a part of the level that is
being expanded and the new rows of the batch, and the table finds the duplicates among these. A full batch is written as
a sorted run. When a level has been expanded, the rows of its batches that no level before has are the next level:
sorted runs are merged and subtracted as streams (`runs`), whole rows compared.

Levels follow each other in one file, where the search for a counterexample finds them again. No file has a name, so
none is left behind. Counts, verdict and trace do not depend on when a search leaves memory.
"""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
from hwmark.checkers.explore import loop, merging
from hwmark.checkers.explore.engine import LOAD_MAX, ROWS_MAX, Finding, Level, OutOfMemoryError, Search
from hwmark.checkers.explore.memory import Reserved
from hwmark.checkers.explore.runs import Difference, Hashes, RowFile, Rows, Run, RunWriter, Visited
from hwmark.traces.errors import BadInputError

FRONTIER_SHARE = 8
"""One in so many rows of the arena is for states to be expanded; the others are for new ones."""

SLICES_SHARE = 8
"""One in so many bytes of the memory is for slices of runs that are merged; the others are for a batch."""

SLICE_COPIES = 4
"""A slice is held so many times while it is merged."""

MOUNTS = Path("/proc/mounts")
NO_MORE_ROOM = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "a file may not grow further",
}

BYTES_PER_BYTE = 4
"""What a state's bytes take on disk: in its level, among those visited, and twice on the way there."""


class DiskSearch(Search):
    """A search that left memory. `distinct` counts the complete levels, and of the next one what memory still held.

    `max_states` and a finding take effect at the end of a level, an interrupt at once.
    """

    @classmethod
    def of(cls, search: Search, directory: Path | None = None) -> DiskSearch:
        """Take over a search that raised OutOfMemoryError; `run` goes on where it stood, with files in this directory.

        Raises BadInputError where no file can be made there.
        """
        disk = cls.__new__(cls)
        vars(disk).update(vars(search))
        directory = directory or spill_directory()
        try:
            disk._open(directory)
        except OSError as error:
            raise BadInputError(str(directory), None, f"no states can be written there: {error.strerror}") from None
        return disk

    def _open(self, directory: Path) -> None:
        share = self.memory_limit // (SLICES_SHARE * SLICE_COPIES * self.workers)
        slice_bytes = min(self.sizes.slice_bytes, share)
        self.block_rows = max(self.sizes.run_block_bytes // self.row_bytes, 1)
        self.slice_rows = max(slice_bytes // self.row_bytes, 1)
        self.store, self.batches = RowFile(directory, self.row_bytes), RowFile(directory, self.row_bytes)
        self.runs: list[Run] = []
        self.visited = Visited(directory, self.slice_rows, self.workers, self._tell)
        self.on_disk, self.found_in_memory = False, 0

    # ------------------------------------------------------------------------------------------- counts

    @property
    def distinct(self) -> int:
        """States found so far, as far as they are known to be new."""
        return sum(level.count for level in self.levels) + self.found_in_memory if self.on_disk else self.inserted

    @property
    def inserted_max(self) -> int:
        """The table's rows are not known to be new: they reach no limit."""
        return ROWS_MAX

    # ------------------------------------------------------------------------------------------- search

    def run(self) -> Finding | None:
        """Search on, level by level; the first finding, or None. A full disk is one more reason to be stopped."""
        try:
            return super().run()
        except OSError as error:
            if error.errno not in NO_MORE_ROOM:
                raise
            self.stopped = f"{NO_MORE_ROOM[error.errno]} after {self.distinct:,} states"
        return self._finding(len(self.levels) - 1)

    def _begin(self, pool: ThreadPoolExecutor) -> Finding | None:
        if not self.levels:
            self.team[0].own[loop.FILLED] = 0
            self._leave_memory()
            return super()._begin(pool)
        self._spill()
        return self._advance(pool)

    def _spill(self) -> None:
        """Write all levels, the states visited, and those already found of the next level."""
        starts, stops = self.levels[-1].blocks(self.sizes.block_rows)
        expanded = int((stops - starts)[: self.shared[loop.CURSOR]].sum())
        following = self._new_rows()
        levels = [self._stored(level) for level in self.levels]
        visited = RunWriter(RowFile(self.visited.directory, self.row_bytes), self.block_rows)
        found = RunWriter(self.batches, self.block_rows)
        first_new = np.full(self.rows_max // self.sizes.chunk_rows + 2, ROWS_MAX)
        first_new[following.starts // self.sizes.chunk_rows] = following.starts
        for entries in self._sorted_entries():
            numbers = (entries & np.uint64(0xFFFFFFFF)).astype(np.int64) - 1
            new = numbers >= first_new[numbers // self.sizes.chunk_rows]
            visited.append(self._gathered(entries[~new]))
            found.append(self._gathered(entries[new]))
        self.levels, self.expanded, self.found_in_memory = levels, expanded, following.count
        self._leave_memory()
        self.runs.append(found.finish())
        self.visited.add(visited.finish())

    def _stored(self, level: Level) -> Level:
        """Write a level's rows out of the arena; where they are then."""
        start = self.store.count
        for first, last in zip(level.starts.tolist(), level.stops.tolist(), strict=True):
            self.store.append(self.arena.rows(self.row_bytes, first, last))
        return Level.of(start, self.store.count)

    def _leave_memory(self) -> None:
        """Give the memory of the arena and the table back, whoever still knows them, and use new ones for batches."""
        self.on_disk = True
        self.arena.release(0, self.arena.size)
        self.table.release(0, self.table.size)
        self.rows_max = max(self.rows_max - self.rows_max // SLICES_SHARE, 4 * self.reserve)
        self.frontier_rows = self.rows_max // FRONTIER_SHARE
        self.arena = Reserved(self.rows_max * self.row_bytes)
        for worker in self.team:
            worker.segments = np.zeros((self.rows_max // self.sizes.chunk_rows + 2, 2), np.int64)
        self._start_batch()

    def _start_batch(self) -> None:
        """Empty the table, and let the rows to come be written behind the frontier."""
        left = self.levels[-1].count - self.expanded if self.levels else 0
        rows = min(max(left, 2 * self.reserve), self.rows_max)
        self.table_size = max(int(rows / LOAD_MAX) + 1, self.sizes.table_slots)
        self.table = Reserved(8 * (self.table_size + loop.SLACK))
        self._tell_workers()
        self.shared[loop.NEXT_ROW], self.shared[loop.DISTINCT] = self.frontier_rows, 0
        for worker in self.team:
            worker.own[[loop.CHUNK_NEXT, loop.CHUNK_END, loop.SEGMENT_START, loop.SEGMENTS]] = 0

    def _parts(self, level: Level, skip: int = 0) -> Iterator[Level]:
        if not self.on_disk:
            yield from super()._parts(level, skip)
            return
        start, stop = int(level.starts[0]) + skip, int(level.stops[0])
        for first in range(start, stop, self.frontier_rows):
            last = min(first + self.frontier_rows, stop)
            self.store.read(first, last, self.arena.rows(self.row_bytes, 0, last - first))
            yield Level.of(0, last - first)

    def _make_room(self) -> None:
        try:
            super()._make_room()
        except OutOfMemoryError:
            self._flush()
            super()._make_room()

    def _flush(self) -> None:
        """Write the batch as a sorted run."""
        writer = RunWriter(self.batches, self.block_rows)
        for entries in self._sorted_entries():
            writer.append(self._gathered(entries))
        self.runs.append(writer.finish())
        self._start_batch()

    def _close_level(self) -> None:
        """The rows of the batches that no level has yet are the next level."""
        self._flush()
        self.arena.release(0, self.arena.size)
        writer = RunWriter(self.store, self.block_rows)
        run = Difference(self.runs, self.visited.runs).write(writer, self.slice_rows, self.workers, self._tell)
        self.runs = []
        self.batches.clear()
        self.visited.add(run)
        self.levels.append(Level.of(run.start, run.start + run.count))
        self.expanded = self.found_in_memory = 0
        self._want_less()

    # -------------------------------------------------------------------------------------------- rows

    def _sorted_entries(self) -> Iterator[Hashes]:
        """The table's slots in use, in the order of their rows, a piece at a time. The table is useless afterwards."""
        slots = self.table_size + loop.SLACK
        count = merging.sort_table(self.table.address, slots, self.arena.address, self.row_bytes)
        for first in range(0, count, self.slice_rows):
            yield self.table.rows(8, first, min(first + self.slice_rows, count)).reshape(-1).view(np.uint64)

    def _gathered(self, entries: npt.NDArray[np.uint64]) -> Rows:
        rows = np.empty((len(entries), self.row_bytes), np.uint8)
        merging.gather(entries, self.arena.address, self.row_bytes, rows.ctypes.data)
        return rows

    def row(self, number: int) -> bytes:
        """One row of the levels."""
        return self.store.read(number, number + 1).tobytes() if self.on_disk else super().row(number)


def forecast(search: Search, directory: Path | None = None) -> str:
    """What to expect of a search that leaves memory, in one line."""
    directory = directory or spill_directory()
    counts = [level.count for level in search.levels]
    growth = f", the last {counts[-1] / counts[-2]:.1f} times the one before" if len(counts) > 1 else ""
    free = shutil.disk_usage(directory).free
    return (
        f"memory holds {_rounded(search.rows_max)} states of {search.row_bytes} bytes; {len(counts)} levels so far"
        f"{growth}: going on on disk in {directory}, {free / 1e9:,.0f} GB free, enough for about "
        f"{_rounded(free // (BYTES_PER_BYTE * search.row_bytes))}"
    )


def _rounded(count: int) -> str:
    return f"{count / 1e6:,.0f} million" if count >= 10_000_000 else f"{count:,}"


def spill_directory() -> Path:
    """Where states are written by default: the directory for temporary files, unless that is memory itself."""
    directory = Path(tempfile.gettempdir()).resolve()
    mounts = [line.split()[1:3] for line in MOUNTS.read_text().splitlines()]
    inside = [(mount, kind) for mount, kind in mounts if directory.is_relative_to(mount)]
    _, kind = max(inside, key=lambda each: len(each[0]), default=("/", ""))
    return Path("/var/tmp") if kind in ("tmpfs", "ramfs") else directory
