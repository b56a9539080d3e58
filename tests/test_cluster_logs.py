"""Logs cut as a crash cuts them: real layouts of record batches, indexes, snapshots and checkpoints, made here."""

from __future__ import annotations

import struct
from pathlib import Path
from random import Random

import pytest
from hwmark.checkers.cluster import disks
from hwmark.checkers.cluster.errors import ClusterError
from hwmark.checkers.cluster.logs import batches, cut, last_batches, partition_folders, recovery_points, segments

PAYLOAD = 20  # bytes of records in each batch


def batch(base: int, records: int = 1, magic: int = 2) -> bytes:
    """A record batch; its records and its CRC are of no interest here."""
    head = struct.pack(">iBIhiqqqhii", 0, magic, 0, 0, records - 1, 0, 0, -1, -1, -1, records)
    return struct.pack(">qi", base, len(head) + PAYLOAD) + head + b"r" * PAYLOAD


def write_log(folder: Path, *starts: list[int], records: int = 1) -> Path:
    """A log of a segment for each list of base offsets, with the files that go with segments."""
    folder.mkdir(parents=True)
    for bases in starts:
        stem = f"{bases[0]:020}"
        (folder / f"{stem}.log").write_bytes(b"".join(batch(base, records) for base in bases))
        for suffix in ("index", "timeindex", "txnindex"):
            (folder / f"{stem}.{suffix}").write_bytes(b"i")
        (folder / f"{stem}.snapshot").write_bytes(b"s")
    (folder / "leader-epoch-checkpoint").write_text("0\n1\n0 0\n")
    return folder


def end_offset(folder: Path) -> int:
    """The offset that the next record will have."""
    found = last_batches(folder)
    return found[-1].end if found else 0


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Offsets 0 to 9 in segments from 0, 4 and 8 on."""
    return write_log(tmp_path / "data" / "orders-0", [0, 1, 2, 3], [4, 5, 6, 7], [8, 9])


@pytest.mark.parametrize("keep", range(10))
def test_cut_leaves_the_first_batches_and_nothing_that_speaks_of_the_others(log: Path, keep: int) -> None:
    was = {segment: batches(segment) for segment in segments(log)}
    done = cut(log, keep)
    assert (done.end, done.was, done.batches, done.torn) == (keep, 10, 10 - keep, 0)
    left = [batch for segment in segments(log) for batch in batches(segment)]
    assert left == [batch for found in was.values() for batch in found][:keep]
    cut_segment = f"{max(base for base in (0, 4, 8) if base <= keep):020}"
    assert max(segments(log)).stem == cut_segment
    assert not any(name.endswith("index") and name >= cut_segment for name in names(log))
    assert all(int(name[:20]) <= keep for name in names(log) if name.endswith(".snapshot"))
    assert "leader-epoch-checkpoint" in names(log)


def test_cut_keeps_what_goes_with_the_segments_before(log: Path) -> None:
    cut(log, 5)
    kept = {f"{0:020}.{suffix}" for suffix in ("log", "index", "timeindex", "txnindex", "snapshot")}
    assert names(log) == kept | {f"{4:020}.log", f"{4:020}.snapshot", "leader-epoch-checkpoint"}


def test_cut_at_a_segment_leaves_it_empty(log: Path) -> None:
    cut(log, 4)
    assert (log / f"{4:020}.log").stat().st_size == 0
    assert end_offset(log) == 4
    assert (log / f"{4:020}.snapshot").exists(), "it is of what was before 4"


def test_cut_tears_a_batch(log: Path) -> None:
    assert cut(log, 6, torn=17).torn == 17
    segment = log / f"{4:020}.log"
    whole = batches(segment)
    assert [batch.base for batch in whole] == [4, 5]
    assert segment.stat().st_size == whole[-1].position + whole[-1].size + 17


def test_batches_end_where_the_next_one_is_not_whole_or_not_written(tmp_path: Path) -> None:
    segment = tmp_path / f"{7:020}.log"
    for rest in (b"", batch(9)[:-1], batch(9)[:60], b"\0" * 200):
        segment.write_bytes(batch(7, records=2) + rest)
        assert [(found.base, found.end) for found in batches(segment)] == [(7, 9)]


@pytest.mark.parametrize("bad", [batch(1, magic=1), b"\xff" * 80, batch(1, records=0)])
def test_batches_refuse_what_is_none(tmp_path: Path, bad: bytes) -> None:
    segment = tmp_path / f"{0:020}.log"
    segment.write_bytes(batch(0) + bad)
    with pytest.raises(ClusterError, match=rf"{segment}: there is no record batch at byte {len(batch(0))}"):
        batches(segment)


def test_partitions_are_told_from_other_folders(tmp_path: Path) -> None:
    for name in ("a-b-12", "__consumer_offsets-0", "__cluster_metadata-0", "orders-1.abc-delete", "orders"):
        (tmp_path / name).mkdir()
    (tmp_path / "log-start-offset-checkpoint").touch()
    assert list(partition_folders(tmp_path)) == ["__consumer_offsets-0", "a-b-12"]


def test_recovery_points_are_read(tmp_path: Path) -> None:
    assert recovery_points(tmp_path) == {}
    file = tmp_path / "recovery-point-offset-checkpoint"
    file.write_text("0\n2\norders 0 7\nwith-dash 1 8\n")
    assert recovery_points(tmp_path) == {"orders-0": 7, "with-dash-1": 8}
    file.write_text("0\n1\norders\n")
    with pytest.raises(ClusterError, match="is not what Kafka writes"):
        recovery_points(tmp_path)


# ------------------------------------------------------------ disks


def checkpoint(data: Path, offset: int) -> None:
    (data / "recovery-point-offset-checkpoint").write_text(f"0\n1\norders 0 {offset}\n")


@pytest.mark.parametrize("seed", range(20))
def test_what_is_flushed_is_not_lost(log: Path, seed: int) -> None:
    checkpoint(log.parent, 6)
    for done in disks.lose_unflushed(log.parent, Random(seed)):
        assert 6 <= done.end < done.was == 10
    assert end_offset(log) >= 6


def test_every_tail_down_to_the_recovery_point_may_be_lost(tmp_path: Path) -> None:
    ends = set()
    for seed in range(100):
        log = write_log(tmp_path / str(seed) / "orders-0", list(range(6)))
        checkpoint(log.parent, 2)
        disks.lose_unflushed(log.parent, Random(seed))
        ends.add(end_offset(log))
    assert ends == {2, 3, 4, 5, 6}


@pytest.mark.parametrize(("share", "end"), [(0.5, 5), (1.0, 0), (0.01, 9)])
def test_a_share_is_lost(log: Path, share: float, end: int) -> None:
    (done,) = disks.lose_unflushed(log.parent, Random(0), share=share)
    assert (done.end, end_offset(log)) == (end, end)


def test_a_broker_that_stopped_properly_loses_nothing(log: Path) -> None:
    checkpoint(log.parent, 10)
    (log.parent / ".kafka_cleanshutdown").touch()
    before = names(log)
    assert disks.lose_unflushed(log.parent, Random(0), share=1.0) == []
    assert names(log) == before and (log.parent / ".kafka_cleanshutdown").exists()


def test_a_cut_log_needs_recovery(log: Path) -> None:
    checkpoint(log.parent, 10)
    (log.parent / ".kafka_cleanshutdown").touch()
    disks.truncate(log.parent, Random(0), records=3)
    assert not (log.parent / ".kafka_cleanshutdown").exists()
    assert recovery_points(log.parent) == {"orders-0": 10}, "checkpoints may say more than the log holds"


@pytest.mark.parametrize(("records", "end"), [(1, 6), (2, 6), (3, 6), (4, 3), (9, 0), (100, 0)])
def test_truncation_takes_whole_batches(tmp_path: Path, records: int, end: int) -> None:
    log = write_log(tmp_path / "orders-0", [0, 3, 6], records=3)
    (done,) = disks.truncate(tmp_path, Random(0), records=records)
    assert (done.end, done.was, end_offset(log)) == (end, 9, end)


def test_truncation_is_drawn_by_the_seed(tmp_path: Path) -> None:
    def drawn(name: str, seed: int) -> int:
        write_log(tmp_path / name / "orders-0", list(range(50)))
        (done,) = disks.truncate(tmp_path / name, Random(seed), torn=True)
        assert 1 <= done.torn < len(batch(0))
        return done.end

    ends = [drawn(f"{seed}", seed) for seed in range(10)]
    assert len(set(ends)) > 5
    assert drawn("again", 3) == ends[3]


def test_only_the_partitions_that_are_meant_are_cut(log: Path) -> None:
    other = write_log(log.parent / "orders-1", [0, 1])
    disks.lose_unflushed(log.parent, Random(0), share=1.0, partitions=["orders-1"])
    assert (end_offset(log), end_offset(other)) == (10, 0)


def test_partitions_that_are_not_there_are_refused(log: Path) -> None:
    for lose in (disks.lose_unflushed, disks.truncate):
        with pytest.raises(ClusterError, match="there is no partition orders-7"):
            lose(log.parent, Random(0), partitions=["orders-7"])
    assert end_offset(log) == 10


def test_nothing_is_cut_from_an_empty_log(tmp_path: Path) -> None:
    (tmp_path / "orders-0").mkdir()
    (tmp_path / "orders-0" / f"{0:020}.log").touch()
    (tmp_path / ".kafka_cleanshutdown").touch()
    assert disks.truncate(tmp_path, Random(0), records=1) == []
    assert (tmp_path / ".kafka_cleanshutdown").exists()


def test_a_wiped_disk_is_gone(log: Path) -> None:
    assert disks.wipe(log.parent) == ["orders-0"]
    assert not log.parent.exists()
