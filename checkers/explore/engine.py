"""The exhaustive engine: levels, workers, limits, and what is said at the end.

The search is breadth-first by whole levels, so that everything it reports but the time is the same whatever the number
of workers: the counts, the level of the first violation, and the trace, which is chosen afterwards (`path`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from hwmark.checkers.compiler import Compiled
from hwmark.checkers.explore import loop
from hwmark.checkers.explore.memory import Reserved, available
from hwmark.checkers.replay import DEADLOCK, OUT_OF_RANGE

Longs = npt.NDArray[np.int64]

LOAD_MAX, GROWTH = 0.75, 1.75
MOVED_SLOTS = 1 << 17
ROWS_MAX = (1 << 32) - (1 << 20)
MEMORY_SHARE = 0.8
"""Of the memory that is available, how much a search may use unless told otherwise."""

TABLE_BYTES_PER_STATE = 8 / LOAD_MAX * GROWTH
"""What the table takes at its emptiest."""


@dataclass(frozen=True)
class Sizes:
    """How much is done at once; only tests have a reason to choose other sizes.

    A worker claims `block_rows` states to expand and `chunk_rows` rows for new ones at a time, and inserts successors
    when they fill `batch_bytes`. The table starts with `table_slots`. On disk, runs are indexed by blocks of
    `run_block_bytes`, and merged by slices of at most `slice_bytes`.
    """

    block_rows: int = 64
    chunk_rows: int = 1024
    batch_bytes: int = 1 << 18
    table_slots: int = 1 << 19
    run_block_bytes: int = 1 << 16
    slice_bytes: int = 1 << 24


@dataclass(frozen=True)
class Progress:
    """Where a running search stands. `queue` counts the states found but not yet expanded."""

    distinct: int
    generated: int
    depth: int
    queue: int
    seconds: float


@dataclass
class Level:
    """The segments [start, stop) of the arena that hold one level's rows."""

    starts: Longs
    stops: Longs

    @staticmethod
    def of(start: int, stop: int) -> Level:
        """The level of one segment."""
        return Level(np.array([start]), np.array([stop]))

    @property
    def count(self) -> int:
        """States in this level."""
        return int((self.stops - self.starts).sum())

    def blocks(self, block_rows: int) -> tuple[Longs, Longs]:
        """The segments cut into blocks of at most `block_rows` rows."""
        pieces = -(-(self.stops - self.starts) // block_rows)
        first = np.repeat(np.cumsum(pieces) - pieces, pieces)
        starts = np.repeat(self.starts, pieces) + (np.arange(len(first)) - first) * block_rows
        return starts, np.minimum(starts + block_rows, np.repeat(self.stops, pieces))


@dataclass(frozen=True)
class Finding:
    """The first thing wrong: its name, the least row that shows it, and how many levels lie before that row."""

    name: str
    row: bytes
    before: int


@dataclass
class Worker:
    """One thread's buffers and counters."""

    plan: Longs
    own: Longs
    tags: npt.NDArray[np.uint64]
    slots: Longs
    segments: Longs
    batch: Reserved
    worst: npt.NDArray[np.uint8]
    coverage: Longs
    fault: Longs

    @staticmethod
    def of(plan: Longs, actions: int, rows_max: int) -> Worker:
        """A worker with buffers for this plan and an arena of `rows_max` rows."""
        row_bytes, batch_rows = int(plan[loop.ROW_BYTES]), int(plan[loop.BATCH_ROWS])
        own = np.zeros(loop.OWN_SIZE, np.int64)
        own[loop.VIOLATED] = -1
        return Worker(
            plan.copy(), own, np.zeros(batch_rows, np.uint64), np.zeros(batch_rows, np.int64),
            np.zeros((rows_max // int(plan[loop.CHUNK_ROWS]) + 2, 2), np.int64), Reserved((batch_rows + 1) * row_bytes),
            np.zeros(loop.WORST_ROWS * row_bytes, np.uint8), np.zeros(actions, np.int64), np.zeros(1, np.int64),
        )  # fmt: skip

    def work(self, starts: Longs, stops: Longs, shared: Longs) -> None:
        """Expand blocks until the counter runs out or the search stops."""
        loop.work(
            self.plan, self.own, starts, stops, self.tags, self.slots, self.segments, self.batch.address,
            self.worst.ctypes.data, self.coverage.ctypes.data, shared.ctypes.data, self.fault.ctypes.data,
        )  # fmt: skip

    def kept(self, place: int) -> bytes:
        """One of the rows that the worker keeps."""
        row_bytes = int(self.plan[loop.ROW_BYTES])
        return self.worst[place * row_bytes : (place + 1) * row_bytes].tobytes()


class OutOfMemoryError(Exception):
    """The next level does not fit into the memory that the search may use."""


@dataclass
class Search:
    """One search in memory: the arena of rows, the table, the workers, and the levels so far."""

    compiled: Compiled
    workers: int
    memory_limit: int
    max_states: int | None = None
    deadlock: bool = False
    progress: Callable[[Progress], None] | None = None
    sizes: Sizes = Sizes()
    levels: list[Level] = field(default_factory=list)
    stopped: str | None = None

    def __post_init__(self) -> None:
        instance = self.compiled.instance
        self.row_bytes = instance.row_size
        self.shared = np.zeros(loop.SHARED_SIZE, np.int64)
        self.initial_count = self.expanded = 0
        per_row = self.row_bytes + TABLE_BYTES_PER_STATE
        self.rows_max = min(int(self.memory_limit / per_row), ROWS_MAX)
        self.arena = Reserved(self.rows_max * self.row_bytes)
        self.table_size = self.sizes.table_slots
        self.table = Reserved(8 * (self.table_size + loop.SLACK))
        self.plan = self._plan()
        self.team = [Worker.of(self.plan, len(instance.actions), self.rows_max) for _ in range(self.workers)]
        claimed = self.workers * (
            self.sizes.block_rows * self.compiled.successors_max + int(self.plan[loop.BATCH_ROWS])
        )
        self.reserve = claimed + self.workers * self.sizes.chunk_rows
        self._tell_workers()
        self._load_loop()
        self.started = time.perf_counter()

    def _load_loop(self) -> None:
        """Have the loop compiled, or loaded from Numba's cache, before the clock starts: a worker stops at once."""
        none = np.zeros(0, np.int64)
        self.shared[loop.STOP] = 1
        self.team[0].work(none, none, self.shared)
        loop.move_slots(self.table.address, 0, 0, self.table.address, self.table_size)
        self.shared[loop.STOP] = 0

    def _plan(self) -> Longs:
        compiled, plan = self.compiled, np.zeros(loop.PLAN_SIZE, np.int64)
        instance = compiled.instance
        plan[loop.EXPAND], plan[loop.VIOLATES], plan[loop.REACHES] = (
            compiled.expand,
            compiled.violated,
            compiled.reached,
        )
        plan[loop.WITHIN] = compiled.within if instance.model.constraint else 0
        plan[loop.CANONICAL] = compiled.canonical
        plan[loop.ROW_BYTES], plan[loop.SUCCESSORS_MAX] = self.row_bytes, compiled.successors_max
        plan[loop.BATCH_ROWS] = max(self.sizes.batch_bytes // self.row_bytes, 2 * compiled.successors_max + 1)
        plan[loop.WANTED] = (1 << len(instance.model.sometimes)) - 1
        plan[loop.FIND_DEADLOCK], plan[loop.INVARIANTS] = self.deadlock, len(compiled.invariants)
        plan[loop.CHUNK_ROWS] = self.sizes.chunk_rows
        return plan

    # ------------------------------------------------------------------------------------------- counts

    @property
    def inserted(self) -> int:
        """Rows that the table names."""
        return int(self.shared[loop.DISTINCT])

    @property
    def distinct(self) -> int:
        """States found so far."""
        return self.inserted

    @property
    def inserted_max(self) -> int:
        """Rows in the table at which the workers stop to look whether that is enough."""
        return ROWS_MAX if self.max_states is None else self.max_states - 1

    @property
    def generated(self) -> int:
        """Successors computed so far, and the initial states."""
        return self.initial_count + sum(int(worker.own[loop.GENERATED]) for worker in self.team)

    @property
    def coverage(self) -> dict[str, int]:
        """How often each action was enabled."""
        counts = np.sum([worker.coverage for worker in self.team], axis=0)
        return {action.name: int(counts[number]) for number, action in enumerate(self.compiled.instance.actions)}

    @property
    def reached(self) -> frozenset[str]:
        """The `sometimes` properties that were true of some state."""
        seen = int(np.bitwise_or.reduce([worker.own[loop.SEEN] for worker in self.team]))
        return frozenset(
            name for number, name in enumerate(self.compiled.instance.model.sometimes) if seen >> number & 1
        )

    @property
    def seconds(self) -> float:
        """Seconds since the search was set up."""
        return time.perf_counter() - self.started

    # ------------------------------------------------------------------------------------------- search

    def run(self) -> Finding | None:
        """Search level by level; the first finding, or None. `stopped` says why the search ended early, if it did."""
        finding = None
        with ThreadPoolExecutor(self.workers) as pool:
            try:
                finding = self._begin(pool)
                while finding is None and self.stopped is None and self.levels[-1].count:
                    finding = self._advance(pool)
            except KeyboardInterrupt:
                self.shared[loop.STOP] = 1
                self.stopped = "stopped by the user"
        if self.stopped is not None:
            finding = self._finding(len(self.levels) - 1)
        if self.levels and not self.levels[-1].count:
            self.levels.pop()
        return finding

    def _begin(self, pool: ThreadPoolExecutor) -> Finding | None:
        initial = self.compiled.instance.initial()
        self.initial_count = len(initial)
        worker, batch_rows = self.team[0], int(self.plan[loop.BATCH_ROWS])
        none = np.zeros(0, np.int64)
        for start in range(0, len(initial), batch_rows):
            rows = initial[start : start + batch_rows]
            worker.batch.rows(self.row_bytes, 0, len(rows))[:] = np.frombuffer(b"".join(rows), np.uint8).reshape(
                len(rows), -1
            )
            worker.own[loop.FILLED] = len(rows)
            self._run_blocks(pool, none, none)
        self._close_level()
        return self._finding(-1)

    def _advance(self, pool: ThreadPoolExecutor) -> Finding | None:
        expanded = len(self.levels) - 1
        for part in self._parts(self.levels[expanded], self.expanded):
            self._run_blocks(pool, *part.blocks(self.sizes.block_rows))
            if self.stopped is not None:
                return None
            self.expanded += part.count
        self._close_level()
        return self._finding(expanded)

    def _parts(self, level: Level, skip: int = 0) -> Iterator[Level]:
        """A level but for its first rows, as levels whose rows are in the arena while they are asked for."""
        yield level

    def _run_blocks(self, pool: ThreadPoolExecutor, starts: Longs, stops: Longs) -> None:
        """Let the workers loose on the blocks, making room as often as it takes."""
        self.shared[loop.CURSOR], self.shared[loop.BLOCKS] = 0, len(starts)
        while True:
            self._make_room()
            if self.stopped is not None:
                return
            futures = [pool.submit(worker.work, starts, stops, self.shared) for worker in self.team]
            while wait(futures, timeout=0.25).not_done:
                self._tell()
            for future in futures:
                future.result()
            if self.shared[loop.CURSOR] >= len(starts):
                return

    def _make_room(self) -> None:
        """See to it that another block of every worker fits; grow the table, or stop at a limit."""
        if self.max_states is not None and self.distinct >= self.max_states:
            self.stopped = f"--max-states {self.max_states:,} reached"
            return
        if int(self.shared[loop.NEXT_ROW]) + self.reserve > self.rows_max:
            raise OutOfMemoryError
        while self.inserted + self.reserve > self.table_size * LOAD_MAX:
            self._grow()
        room = min(int(self.table_size * LOAD_MAX), self.rows_max - (int(self.shared[loop.NEXT_ROW]) - self.inserted))
        self.shared[loop.ROOM] = min(room - self.reserve, self.inserted_max)

    def _grow(self) -> None:
        """Move every slot into a larger table, giving the old one's memory back on the way."""
        size, old, last = int(self.table_size * GROWTH), self.table, self.table_size + loop.SLACK
        new = Reserved(8 * (size + loop.SLACK))

        def move(first: int) -> None:
            stop = min(first + MOVED_SLOTS, last)
            loop.move_slots(old.address, first, stop, new.address, size)
            old.release(8 * first, 8 * stop)

        with ThreadPoolExecutor(self.workers) as pool:
            list(pool.map(move, range(0, last, MOVED_SLOTS)))
        self.table, self.table_size = new, size
        self._tell_workers()

    def _tell_workers(self) -> None:
        """Write where the arena and the table are into every plan."""
        for plan in (self.plan, *(worker.plan for worker in self.team)):
            plan[loop.ARENA], plan[loop.TABLE], plan[loop.TABLE_SIZE] = (
                self.arena.address,
                self.table.address,
                self.table_size,
            )

    def _close_level(self) -> None:
        """The rows written since the last level are the next one."""
        self.levels.append(self._new_rows())
        self.expanded = 0
        self._want_less()

    def _want_less(self) -> None:
        """Ask no more for what was reached; not sooner, so that who asks a state does not depend on the workers."""
        seen = int(np.bitwise_or.reduce([worker.own[loop.SEEN] for worker in self.team]))
        for worker in self.team:
            worker.plan[loop.WANTED] &= ~seen

    def _new_rows(self) -> Level:
        """The segments that were written since this was last asked."""
        pieces = []
        for worker in self.team:
            loop.close_segment(worker.own, worker.segments)
            pieces.append(worker.segments[: worker.own[loop.SEGMENTS]].copy())
            worker.own[loop.SEGMENTS] = 0
        segments = np.concatenate(pieces)
        return Level(segments[:, 0].copy(), segments[:, 1].copy())

    def _finding(self, expanded: int) -> Finding | None:
        """The worst that the workers have noted while they expanded a level: a fault, a deadlock, a failed property."""
        for noted, place, name in (
            (loop.FAULT, loop.FAULT_ROW, OUT_OF_RANGE),
            (loop.DEADLOCK, loop.DEADLOCK_ROW, DEADLOCK),
        ):
            rows = [worker.kept(place) for worker in self.team if worker.own[noted]]
            if rows:
                return Finding(name, min(rows, key=words), expanded)
        failed = [
            (int(worker.own[loop.VIOLATED]), worker.kept(0)) for worker in self.team if worker.own[loop.VIOLATED] >= 0
        ]
        if not failed:
            return None
        number, row = min(failed, key=lambda each: (each[0], words(each[1])))
        return Finding((*self.compiled.invariants, OUT_OF_RANGE)[number], row, expanded + 1)

    def _tell(self) -> None:
        if self.progress is not None:
            blocks = int(min(self.shared[loop.CURSOR], self.shared[loop.BLOCKS]))
            expanded = self.expanded + blocks * self.sizes.block_rows
            before = sum(level.count for level in self.levels[:-1]) if self.levels else 0
            queue = max(self.distinct - before - expanded, 0)
            self.progress(Progress(self.distinct, self.generated, len(self.levels) + 1, queue, self.seconds))

    # -------------------------------------------------------------------------------------------- rows

    def row(self, number: int) -> bytes:
        """One row of the arena."""
        return self.arena.rows(self.row_bytes, number, number + 1).tobytes()

    def least_predecessor(self, level: Level, target: bytes) -> bytes:
        """The least row of a level that the target succeeds."""
        worker, found = self.team[0], []
        wanted = np.frombuffer(target, np.uint8).copy()
        for part in self._parts(level):
            number = loop.least_predecessor(
                worker.plan, part.starts, part.stops, wanted.ctypes.data, worker.batch.address,
                worker.worst.ctypes.data, np.zeros_like(worker.coverage).ctypes.data, worker.fault.ctypes.data,
            )  # fmt: skip
            if number >= 0:
                found.append(self.arena.rows(self.row_bytes, number, number + 1).tobytes())
        assert found, "a state of a level has a predecessor in the level before"
        return min(found, key=words)

    def sample(self, count: int) -> Iterator[bytes]:
        """Up to `count` rows from all over the search."""
        if not self.levels:
            return
        stops = np.concatenate([level.stops for level in self.levels])
        ends = np.cumsum(stops - np.concatenate([level.starts for level in self.levels]))
        for position in range(0, int(ends[-1]), max(int(ends[-1]) // count, 1))[:count]:
            segment = int(np.searchsorted(ends, position, "right"))
            yield self.row(int(stops[segment] - (ends[segment] - position)))


def words(row: bytes) -> tuple[int, ...]:
    """A row as the words that order it."""
    return tuple(np.frombuffer(row, np.uint64).tolist())


def memory_limit_default() -> int:
    """Bytes that a search may use unless told otherwise."""
    return int(available() * MEMORY_SHARE)
