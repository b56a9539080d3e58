"""The search on disk finds what the search in memory finds, whenever it leaves memory; and what a disk can do to it."""

from __future__ import annotations

import errno
import functools
import re
import resource
import signal
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from hwmark.checkers.compiler import Compiled, compile_instance
from hwmark.checkers.explore import disk, explore, loop, merging
from hwmark.checkers.explore.disk import DiskSearch, forecast, spill_directory
from hwmark.checkers.explore.engine import TABLE_BYTES_PER_STATE, Finding, OutOfMemoryError, Progress, Search, Sizes
from hwmark.checkers.explore.plain import OUT_OF_RANGE, explore_plainly
from hwmark.checkers.explore.runs import Difference, RowFile, Rows, Run, RunWriter, Visited, hashes_of
from hwmark.checkers.verdict import Unknown
from hwmark.spec.async_isr import async_isr, current_isr_only
from hwmark.spec.catalogue import find
from hwmark.spec.instance import Instance
from hwmark.spec.lang import Array, Bound, Domain, Range, Struct
from hwmark.spec.model import Model
from hwmark.spec.two_phase_commit import two_phase_commit
from hwmark.traces.errors import BadInputError

SMALL = Sizes(block_rows=2, chunk_rows=4, batch_bytes=1, table_slots=16, run_block_bytes=200, slice_bytes=2000)
"""Sizes at which small models have many blocks, batches, slices and merges."""

# --------------------------------------------------------------------- a model for what the protocols never do

nodes = Bound("nodes", 3, least=1, why="nodes that count")
NodeId = Annotated[int, Domain("node", nodes, symmetric=True)]


class Counts(Struct):
    counted: Array[NodeId, Annotated[int, Range(0, 9)]]


def init(s: Counts) -> None:
    """All counts are zero."""


def count(s: Counts, node: NodeId) -> bool:
    s.counted[node] += 1
    return True


def count_to_the_end(s: Counts, node: NodeId) -> bool:
    if s.counted[node] == 9:
        return False
    s.counted[node] += 1
    return True


def the_sum_is_small(s: Counts) -> bool:
    return sum(s.counted[node] for node in range(nodes)) < 15


def is_explored(s: Counts) -> bool:
    return the_sum_is_small(s)


COUNTING: dict[str, Any] = {"why": "to leave a range", "state": Counts, "bounds": (nodes,), "init": init}
overflowing = Model.of("counting", "overflowing", actions=(count,), **COUNTING)
ending = Model.of("counting", "ending", actions=(count_to_the_end,), **COUNTING)
constrained = Model.of(
    "counting", "constrained", actions=(count_to_the_end,), invariants=(the_sum_is_small,),
    constraint=is_explored, **COUNTING,
)  # fmt: skip


def one_of_three(index: Annotated[int, Range(0, 12)]) -> int:
    return index % 3


def the_sum_is_twelve(s: Counts) -> bool:
    """Out of range in every state after the level in which it is true, where it is not asked any more."""
    return one_of_three(sum(s.counted[node] for node in range(nodes))) == 0 and all(
        s.counted[node] == 4 for node in range(nodes)
    )


asked_once = Model.of("counting", "asked-once", actions=(count_to_the_end,), sometimes=(the_sum_is_twelve,), **COUNTING)

# -------------------------------------------------------------------------------------------- the searches


@dataclass(frozen=True)
class Case:
    """What is searched for what."""

    name: str
    instance: Instance
    invariants: tuple[str, ...] = ()
    symmetry: bool = False
    deadlock: bool = False


def replication(variant: str, *invariants: str, symmetry: bool = False, **bounds: int) -> Case:
    bounds = {"replicas": 2, "log_size": 2, "records": 2, "max_epoch": 1, **bounds}
    name = "-".join([variant, *map(str, bounds.values()), *invariants, *["symmetric"] * symmetry])
    return Case(name, find("replication", variant).at(**bounds), invariants, symmetry)


CASES = [
    Case("two-phase-commit", two_phase_commit.at(resource_managers=5)),
    Case("two-phase-commit-symmetric", two_phase_commit.at(resource_managers=7), symmetry=True),
    replication("truncate-to-hw", max_epoch=2),
    replication("truncate-to-hw", "weak_isr", max_epoch=2),
    replication("truncate-to-hw", "strong_isr", "weak_isr", replicas=3, symmetry=True),
    replication("kip-101", "weak_isr", max_epoch=2),
    replication("kip-279", "weak_isr", replicas=3, symmetry=True),
    replication("kip-320-first-try", "weak_isr", replicas=3, symmetry=True),
    replication("kip-320", "weak_isr", "strong_isr", replicas=3, symmetry=True),
    Case("async-isr", async_isr.at(replicas=3, max_version=2, max_offset=2), ("valid_high_watermark",)),
    Case("async-isr-violated", current_isr_only.at(replicas=3, max_version=2, max_offset=2), ("valid_high_watermark",)),
    Case("out-of-range", overflowing.at()),
    Case("out-of-range-symmetric", overflowing.at(), symmetry=True),
    Case("deadlock", ending.at(), deadlock=True),
    Case("deadlock-symmetric", ending.at(nodes=5), symmetry=True, deadlock=True),
    Case("asked-once", asked_once.at()),
    Case("outside-the-constraint", constrained.at(), ("the_sum_is_small",)),
    Case("outside-the-constraint-symmetric", constrained.at(nodes=4), ("the_sum_is_small",), symmetry=True),
]


SMALL_CASES = (
    "truncate-to-hw-2-2-2-2-weak_isr", "async-isr-violated", "out-of-range", "deadlock", "asked-once",
    "outside-the-constraint",
)  # fmt: skip
"""Those that do not take the plain twin long."""


@dataclass(frozen=True)
class Answer:
    """All that a search says, but for the time."""

    finding: Finding | None
    path: tuple[bytes, ...]
    distinct: int
    generated: int
    levels: tuple[int, ...]
    coverage: dict[str, int]
    reached: frozenset[str]


def answer(search: Search) -> Answer:
    finding = search.run()
    path = [] if finding is None else [finding.row]
    for level in reversed(search.levels[: finding.before] if finding else []):
        path.append(search.least_predecessor(level, path[-1]))
    return Answer(
        finding, tuple(reversed(path)), search.distinct, search.generated,
        tuple(level.count for level in search.levels), search.coverage, search.reached,
    )  # fmt: skip


@functools.cache
def compiled(name: str) -> tuple[Compiled, Answer]:
    """A case compiled, and what the search in memory says about it."""
    case = next(each for each in CASES if each.name == name)
    code = compile_instance(case.instance, case.invariants, symmetry=case.symmetry)
    return code, answer(Search(code, 1, 1 << 28, deadlock=case.deadlock))


def leaving_memory(code: Compiled, rows: int, directory: Path, workers: int = 1, **options: Any) -> DiskSearch:
    """A search that left memory, which has room for so many rows; beyond the least possible, that is."""
    row_bytes = code.instance.row_size
    search = Search(code, workers, int(rows * (row_bytes + TABLE_BYTES_PER_STATE)), sizes=SMALL, **options)
    with pytest.raises(OutOfMemoryError):
        search.run()
    return DiskSearch.of(search, directory)


@pytest.mark.parametrize(("share", "workers"), [(0.05, 1), (0.4, 2), (0.8, 1), (0.95, 2)])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_search_says_the_same_whenever_it_leaves_memory(
    case: Case, share: float, workers: int, tmp_path: Path
) -> None:
    code, expected = compiled(case.name)
    search = leaving_memory(code, int(expected.distinct * share), tmp_path, workers, deadlock=case.deadlock)
    assert answer(search) == expected
    assert search.stopped is None


@pytest.mark.parametrize("case", [case for case in CASES if case.name in SMALL_CASES], ids=lambda case: case.name)
def test_a_search_on_disk_agrees_with_its_plain_twin(case: Case, tmp_path: Path) -> None:
    code, _ = compiled(case.name)
    twin = explore_plainly(case.instance, case.invariants, deadlock=case.deadlock)
    found = answer(leaving_memory(code, 1, tmp_path, deadlock=case.deadlock))
    violated = found.finding and found.finding.name
    assert (violated, found.distinct, len(found.path)) == (twin.violated, twin.distinct, len(twin.path))
    if violated != OUT_OF_RANGE:
        assert (found.generated, found.coverage) == (twin.generated, twin.coverage)


def test_initial_states_too_many_for_memory_are_written_too(tmp_path: Path) -> None:
    model = Model.of("counting", "anywhere", actions=(count_to_the_end,), **{**COUNTING, "init": anywhere})
    code = compile_instance(model.at(), [])
    search = leaving_memory(code, 60, tmp_path)
    assert not search.levels
    assert answer(search) == answer(Search(code, 1, 1 << 26))


def anywhere(s: Counts, first: Annotated[int, Range(0, 9)], second: Annotated[int, Range(0, 9)]) -> None:
    s.counted[0] = first
    s.counted[1] = second


@pytest.mark.deep
def test_two_million_states_are_counted_within_sixty_megabytes(tmp_path: Path) -> None:
    instance = find("replication", "truncate-to-hw").at(replicas=3, log_size=2, records=2, max_epoch=2)
    found = explore(instance, [], workers=2, memory_limit=60_000_000, directory=tmp_path)
    assert (found.distinct, found.generated, found.depth) == (1_988_158, 7_491_589, 28)


def test_explore_tells_that_it_goes_on_on_disk(tmp_path: Path) -> None:
    told: list[str] = []
    instance = find("replication", "truncate-to-hw").at(replicas=3, log_size=2, records=2, max_epoch=1)
    found = explore(instance, [], memory_limit=2_000_000, directory=tmp_path, tell=told.append)
    assert (found.distinct, found.generated, found.depth) == (67_807, 222_712, 21)
    (line,) = told
    assert "going on on disk" in line


@pytest.mark.parametrize("symmetry", [False, True])
@pytest.mark.parametrize("variant", ["truncate-to-hw", "kip-101", "kip-279", "kip-320-first-try"])
def test_explore_gives_the_same_trace_on_disk(variant: str, symmetry: bool, tmp_path: Path) -> None:
    instance, told = find("replication", variant).at(replicas=3, log_size=2, records=2, max_epoch=2), list[str]()
    options: dict[str, Any] = {"symmetry": symmetry, "max_states": 2_000_000}
    found = explore(instance, ["weak_isr"], memory_limit=700_000, directory=tmp_path, tell=told.append, **options)
    expected = explore(instance, ["weak_isr"], workers=2, **options)
    assert (found.trace, found.distinct, found.coverage) == (expected.trace, expected.distinct, expected.coverage)
    assert found.trace is not None and told


# ----------------------------------------------------------------------------------------- limits and failures


def searching(tmp_path: Path, **options: Any) -> DiskSearch:
    return leaving_memory(compiled("two-phase-commit")[0], 2000, tmp_path, **options)


def test_the_forecast_says_what_memory_holds_and_where_the_search_goes_on(tmp_path: Path) -> None:
    search = searching(tmp_path)
    line = forecast(search, tmp_path)
    counts = [level.count for level in search.levels]
    assert f"memory holds {search.rows_max:,} states of {search.row_bytes} bytes; {len(counts)} levels so far" in line
    assert f"the last {counts[-1] / counts[-2]:.1f} times the one before: going on on disk in {tmp_path}, " in line
    assert re.search(r" GB free, enough for about [\d,]+( million)?$", line)


def test_states_are_not_written_to_a_file_system_that_is_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(disk.tempfile, "gettempdir", lambda: "/proc/self")
    assert spill_directory() == Path("/proc/self").resolve()
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/vda / ext4 rw 0 0\ntmpfs {tmp_path} tmpfs rw 0 0\n")
    monkeypatch.setattr(disk, "MOUNTS", mounts)
    monkeypatch.setattr(disk.tempfile, "gettempdir", lambda: str(tmp_path / "below"))
    assert spill_directory() == Path("/var/tmp")


def test_a_directory_that_cannot_be_written_to_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="nowhere: no states can be written there: No such file or directory"):
        searching(tmp_path / "nowhere")


def test_files_have_no_name_that_could_be_left_behind(tmp_path: Path) -> None:
    listed: list[list[Path]] = []

    class Watched(DiskSearch):
        def _close_level(self) -> None:
            super()._close_level()
            listed.append(list(tmp_path.iterdir()))

    search = searching(tmp_path)
    search.__class__ = Watched
    search.run()
    assert search.store.count > 8000
    assert listed and not any(listed)
    assert search.batches.count == 0 and search.batches._file.seek(0, 2) == 0


def test_the_limit_of_states_holds_on_disk(tmp_path: Path) -> None:
    search = searching(tmp_path, max_states=4000)
    assert search.run() is None
    assert search.stopped == "--max-states 4,000 reached"
    assert 4000 <= search.distinct < 8832


@pytest.mark.parametrize("writes", [0, 1, 7, 30, 100, 300])
def test_a_full_disk_ends_the_search_with_a_reason(
    writes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, append, left = searching(tmp_path), RowFile.append, [writes]

    def append_until_full(self: RowFile, rows: Rows) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        append(self, rows)

    monkeypatch.setattr(RowFile, "append", append_until_full)
    assert search.run() is None
    assert search.stopped == f"the disk is full after {search.distinct:,} states"
    assert 0 < sum(level.count for level in search.levels) <= search.distinct < 8832
    assert all(search.compiled.instance.within(row) for row in search.sample(5))
    first, second = search.levels[:2]
    assert search.row(int(first.starts[0])) == search.least_predecessor(first, search.row(int(second.starts[0])))


def test_a_violation_found_before_the_disk_was_full_has_its_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, expected = compiled("out-of-range")
    search = leaving_memory(code, 1, tmp_path)
    original = Visited.add

    def add(self: Visited, run: Run) -> None:
        if any(worker.own[loop.FAULT] for worker in search.team):
            raise OSError(errno.ENOSPC, "No space left on device")
        original(self, run)

    monkeypatch.setattr(Visited, "add", add)
    found = answer(search)
    assert search.stopped is not None and "the disk is full" in search.stopped
    assert (found.finding, found.path) == (expected.finding, expected.path)


def test_a_full_disk_is_an_unknown_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: RowFile, rows: Rows) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RowFile, "append", full)
    instance = find("replication", "truncate-to-hw").at(replicas=3, log_size=2, records=2, max_epoch=1)
    found = explore(instance, [], memory_limit=2_000_000, directory=tmp_path)
    assert found.verdict == Unknown(f"the disk is full after {found.distinct:,} states")
    assert 0 < found.distinct < 67_807


def test_a_file_that_may_not_grow_ends_the_search_with_a_reason(tmp_path: Path) -> None:
    search, before = searching(tmp_path), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_001, before[1]))
    try:
        assert search.run() is None
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert search.stopped == f"a file may not grow further after {search.distinct:,} states"
    assert 0 < search.distinct < 8832


def test_any_other_failure_of_the_disk_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: RowFile, rows: Rows) -> None:
        raise OSError(errno.EIO, "Input/output error")

    search = searching(tmp_path)
    monkeypatch.setattr(RowFile, "append", fail)
    with pytest.raises(OSError, match="Input/output error"):
        search.run()


def test_a_file_that_was_cut_is_noticed(tmp_path: Path) -> None:
    file = RowFile(tmp_path, 8)
    file.append(np.zeros((3, 8), np.uint8))
    file._file.truncate(20)
    with pytest.raises(EOFError):
        file.read(0, 3)


def test_an_interrupt_while_runs_are_merged_ends_the_search_with_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    search = searching(tmp_path)
    monkeypatch.setattr(Difference, "slice", interrupted)
    assert search.run() is None
    assert search.stopped == "stopped by the user"
    assert 0 < search.distinct < 8832


def test_an_interrupt_while_states_are_expanded_ends_the_search_with_what_it_has(tmp_path: Path) -> None:
    search = leaving_memory(compiled("two-phase-commit-symmetric")[0], 10, tmp_path)
    original, calls = search._close_level, [0]

    def close_level() -> None:
        original()
        calls[0] += 1
        if calls[0] == 3:
            signal.raise_signal(signal.SIGINT)

    search._close_level = close_level  # type: ignore[method-assign]
    assert search.run() is None
    assert search.stopped == "stopped by the user"
    assert search.distinct == sum(level.count for level in search.levels) > 0


def test_progress_goes_on(tmp_path: Path) -> None:
    told: list[Progress] = []
    search = searching(tmp_path, progress=told.append)
    search.run()
    counts = [(each.depth, each.distinct, each.generated) for each in told]
    assert counts == sorted(counts)
    assert len({each.depth for each in told}) > 3
    assert told[0].distinct < told[-1].distinct <= search.distinct == 8832


# ------------------------------------------------------------------------------------------------ runs of rows


def rows_of(words: list[tuple[int, int]]) -> Rows:
    return np.array(words, np.uint64).reshape(-1, 2).view(np.uint8)


def in_order(words: set[tuple[int, int]]) -> list[tuple[int, int]]:
    """Rows of two words in the order of runs."""
    plain = sorted(words)
    keys = hashes_of(rows_of(plain)).tolist()
    return [row for _, row in sorted(zip(keys, plain, strict=True))]


def colliding(first: int, other: int, second: int) -> tuple[int, int]:
    """A row that begins with `other` and has the hash of (first, second): the last word undoes the difference."""
    return other, mixed(first) ^ mixed(other) ^ second


def mixed(word: int) -> int:
    value = (0x9E3779B97F4A7C15 ^ word) * 0xD6E8FEB86659FD93 % (1 << 64)
    return value ^ value >> 32


def some_rows(seed: int, count: int) -> set[tuple[int, int]]:
    """Few different words, so that sets drawn so overlap; a third of the rows collide with others."""
    draw = np.random.default_rng(seed)
    plain = {(int(a), int(b)) for a, b in draw.integers(0, 40, (count, 2))}
    return plain | {colliding(a, b, b) for a, b in list(plain)[::3]}


def run_of(words: set[tuple[int, int]], directory: Path, block_rows: int = 4) -> Run:
    writer = RunWriter(RowFile(directory, 16), block_rows)
    rows = rows_of(in_order(words))
    for start in range(0, len(rows), 7):
        writer.append(rows[start : start + 7])
    return writer.finish()


def words_in(run: Run) -> list[tuple[int, ...]]:
    return [tuple(row) for row in run.read(0, run.count).view(np.uint64).tolist()]


def test_rows_that_collide_are_different_rows() -> None:
    a, b = (3, 5), colliding(3, 8, 5)
    hashes = hashes_of(rows_of([a, b]))
    assert a != b and hashes[0] == hashes[1]


def test_the_table_in_memory_takes_no_two_colliding_rows_for_one() -> None:
    search = Search(compiled("two-phase-commit")[0], 1, 1 << 24, sizes=SMALL)
    worker, words = search.team[0], search.row_bytes // 8
    rows = np.zeros((3, words), np.uint64)
    rows[:, :2] = (3, 5), colliding(3, 8, 5), (3, 5)
    assert words >= 2 and len(set(hashes_of(rows.view(np.uint8)).tolist())) == 1
    worker.plan[loop.WANTED] = 0  # these rows are no states
    worker.batch.rows(search.row_bytes, 0, 3)[:] = rows.view(np.uint8)
    worker.own[loop.FILLED] = 3
    worker.work(np.zeros(0, np.int64), np.zeros(0, np.int64), search.shared)
    assert search.distinct == 2


@pytest.mark.parametrize("slice_rows", [1, 10, 100_000])
@pytest.mark.parametrize("seed", range(8))
def test_a_difference_of_runs_is_that_of_sets(seed: int, slice_rows: int, tmp_path: Path) -> None:
    kept = [some_rows(10 * seed + number, 60 * number) for number in range(1 + seed % 4)]
    gone = [some_rows(1000 + 10 * seed + number, 80) for number in range(seed % 3)]
    difference = Difference([run_of(each, tmp_path) for each in kept], [run_of(each, tmp_path) for each in gone])
    written = difference.write(RunWriter(RowFile(tmp_path, 16), 4), slice_rows, 2)
    assert words_in(written) == in_order(set().union(*kept) - set().union(*gone))
    firsts = hashes_of(written.read(0, written.count), 0, 4)
    assert written.firsts.tolist() == firsts.tolist()


def test_few_rows_read_few_blocks_of_a_long_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = {(number, 0) for number in range(4000)}
    run, read = run_of(long, tmp_path), Counter[str]()
    original = RowFile.read

    def counted(self: RowFile, start: int, stop: int, into: Rows | None = None) -> Rows:
        read["rows"] += stop - start
        return original(self, start, stop, into)

    monkeypatch.setattr(RowFile, "read", counted)
    rows = rows_of(in_order({(7, 0), (7, 1), (3000, 0)}))
    fresh = np.ones(3, np.bool_)
    run.strike(rows, hashes_of(rows), fresh)
    assert sorted(tuple(row) for row in rows[fresh].view(np.uint64).tolist()) == [(7, 1)]
    assert read["rows"] <= 3 * 2 * 4


def test_visited_runs_stay_few_and_keep_every_row(tmp_path: Path) -> None:
    visited, everything = Visited(tmp_path, 50, 1), set[tuple[int, int]]()
    for level in range(40):
        rows = {(level, number) for number in range(1 + (level * 7) % 23)}
        everything |= rows
        visited.add(run_of(rows, tmp_path))
    assert len(visited.runs) <= 9
    assert sorted(word for run in visited.runs for word in words_in(run)) == sorted(everything)


@pytest.mark.parametrize("seed", range(5))
def test_a_table_is_sorted_in_place(seed: int) -> None:
    words = list(some_rows(seed, 300))
    rows, size = rows_of(words), 2 * len(words)
    table = np.zeros(size + 64, np.uint64)
    for number, value in enumerate(hashes_of(rows).tolist()):
        slot = (value >> 32) * size >> 32
        while table[slot]:
            slot += 1
        table[slot] = value >> 32 << 32 | number + 1
    used = merging.sort_table(table.ctypes.data, len(table), rows.ctypes.data, 16)
    target = np.empty_like(rows)
    merging.gather(table[:used], rows.ctypes.data, 16, target.ctypes.data)
    assert [tuple(row) for row in target.view(np.uint64).tolist()] == in_order(set(words))


def test_every_state_may_be_a_segment_of_its_own() -> None:
    case = next(each for each in CASES if each.name == "two-phase-commit")
    code, expected = compiled(case.name)
    assert answer(Search(code, 2, 1 << 24, sizes=replace(SMALL, chunk_rows=1))) == expected
