"""Each kind of finding is found in a log that is broken so, and in no healthy log that looks alike."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest
from hwmark.checkers.audit import KINDS
from hwmark.checkers.audit.findings import Weight
from log_directories import ABORT, TIMESTAMP, Broker, batch, data, kinds, marker, only, producing, record, report

THREE = batch(0, [b"a", b"b"]), batch(2), batch(3, [b"d", b"e"])


def test_a_sound_log(tmp_path: Path) -> None:
    Broker(tmp_path).partition(THREE, high_watermark=5)
    found = report(tmp_path)
    assert found.findings == [] and (found.batches, found.records, found.bytes) == (3, 5, sum(map(len, THREE)))


# Damage.


def test_a_corrupt_batch_in_the_middle(tmp_path: Path) -> None:
    broken = bytearray(THREE[1])
    broken[-1] ^= 1
    Broker(tmp_path, clean=False).partition([THREE[0], broken, THREE[2]])
    finding = only(tmp_path, "corrupt-batch")
    assert finding.offsets == (2, 2) and finding.position == len(THREE[0])


@pytest.mark.parametrize("kept", [1, 11, 12, 16, 17, 60, 61, 70])
def test_a_torn_last_batch_is_a_remark_after_a_kill_only(tmp_path: Path, kept: int) -> None:
    torn = [*THREE[:2], THREE[2][:kept]]
    Broker(tmp_path / "killed", clean=False).partition(torn)
    assert only(tmp_path / "killed", "torn-batch").position == len(THREE[0]) + len(THREE[1])
    Broker(tmp_path / "stopped", clean=True).partition(torn)
    assert kinds(tmp_path / "stopped") == {"corrupt-batch"}


def test_a_torn_batch_that_was_committed_is_a_violation(tmp_path: Path) -> None:
    Broker(tmp_path, clean=False).partition([*THREE[:2], THREE[2][:30]], high_watermark=5)
    assert kinds(tmp_path) == {"corrupt-batch", "checkpoint-beyond-log"}


def test_a_torn_batch_in_an_older_segment_is_a_violation(tmp_path: Path) -> None:
    Broker(tmp_path, clean=False).partition({0: THREE[0] + THREE[1][:40], 3: THREE[2]})
    assert kinds(tmp_path) == {"corrupt-batch"}


def test_zeros_at_the_end(tmp_path: Path) -> None:
    Broker(tmp_path / "killed", clean=False).partition([*THREE, bytes(500)])
    assert "500 zeros" in only(tmp_path / "killed", "torn-batch").sentence
    half = THREE[2][:70] + bytes(len(THREE[2]) - 70 + 20)
    Broker(tmp_path / "half", clean=False).partition([*THREE[:2], half])
    assert only(tmp_path / "half", "torn-batch").offsets == (3, 3)
    Broker(tmp_path / "stopped", clean=True).partition([*THREE, bytes(500)])
    assert "only zeros" in only(tmp_path / "stopped", "corrupt-batch").sentence


def test_a_length_that_leads_beyond_the_file_hides_nothing(tmp_path: Path) -> None:
    long = bytearray(THREE[1])
    long[8] = 0x70
    Broker(tmp_path, clean=False).partition([THREE[0], long, THREE[2]])
    finding = only(tmp_path, "corrupt-batch")
    assert finding.offsets == (2, 2) and report(tmp_path).batches == 2


def test_an_old_message_format_is_unknown(tmp_path: Path) -> None:
    content = bytes([1, 0]) + TIMESTAMP.to_bytes(8, "big") + b"\xff\xff\xff\xff" + b"\0\0\0\1v"
    old = struct.pack(">qiI", 5, 4 + len(content), zlib.crc32(content)) + content
    Broker(tmp_path).partition([*THREE, old])
    assert only(tmp_path, "old-message-format").weight == Weight.UNKNOWN


def test_a_magic_that_only_looks_old_is_damage(tmp_path: Path) -> None:
    broken = bytearray(THREE[1])
    broken[16] = 0
    Broker(tmp_path).partition([THREE[0], broken, THREE[2]])
    only(tmp_path, "corrupt-batch")


# Offsets and records.


def test_offsets_that_go_back(tmp_path: Path) -> None:
    Broker(tmp_path).partition([THREE[0], batch(1), batch(2)])
    assert only(tmp_path, "offset-goes-back").offsets == (1, 1)


def test_a_segment_that_begins_before_its_name(tmp_path: Path) -> None:
    Broker(tmp_path).partition({0: THREE[0], 2: batch(2), 5: batch(3) + batch(4)})
    assert kinds(tmp_path) == {"offset-goes-back"}


def test_a_gap(tmp_path: Path) -> None:
    Broker(tmp_path).partition([THREE[0], THREE[2]])
    assert only(tmp_path, "offset-gap").offsets == (2, 2)


def test_a_gap_between_segments(tmp_path: Path) -> None:
    Broker(tmp_path / "named").partition({0: THREE[0], 3: THREE[2]})
    assert only(tmp_path / "named", "offset-gap").offsets == (2, 2)
    Broker(tmp_path / "first").partition({0: b"", 1: b"", 2: b"".join(THREE[1:])}, epochs=[(0, 0)])
    assert only(tmp_path / "first", "offset-gap").offsets == (0, 1)
    Broker(tmp_path / "empty").partition({0: THREE[0], 7: b""})
    assert only(tmp_path / "empty", "offset-gap").offsets == (2, 6)


def test_retention_takes_whole_segments(tmp_path: Path) -> None:
    Broker(tmp_path).partition({2: THREE[1], 3: THREE[2]}, epochs=[(0, 2)], high_watermark=5)
    assert kinds(tmp_path) == set()


def test_gaps_of_the_cleaner(tmp_path: Path) -> None:
    thinned = batch(0, [b"b"], keys=[b"k"], deltas=[1], last_delta=1)
    Broker(tmp_path / "thinned").partition([thinned, batch(7)])
    assert kinds(tmp_path / "thinned") == set()
    broker = Broker(tmp_path / "checkpoint")
    broker.partition([THREE[0], batch(7)])
    broker.checkpoint("cleaner-offset-checkpoint", "t", 0, 2)
    assert kinds(tmp_path / "checkpoint") == set()
    broker.partition([THREE[0], batch(7)], number=1)
    assert kinds(tmp_path / "checkpoint") == set()  # compaction is of a topic


def test_of_share_groups_state_whole_segments_are_deleted(tmp_path: Path) -> None:
    Broker(tmp_path).partition([THREE[0], THREE[2]], topic="__share_group_state")
    assert kinds(tmp_path) == {"offset-gap"}


def test_more_records_than_offsets(tmp_path: Path) -> None:
    content = b"".join(record(0, None, b"v") for _ in range(2))
    Broker(tmp_path).partition([batch(0, [b"v"], content=content, count=2)])
    assert kinds(tmp_path) == {"record-count-disagrees", "unreadable-record"}


@pytest.mark.parametrize("compression", range(5))
def test_unreadable_records(tmp_path: Path, compression: int) -> None:
    Broker(tmp_path).partition([batch(0, [b"v"], compression=compression, content=b"\x55" * 9)])
    assert (kinds(tmp_path) == {"unreadable-record"}) == (compression == 0)
    assert kinds(tmp_path, every_record=True) == {"unreadable-record"}


# Leader epochs and checkpoints.


def test_epochs_that_go_back(tmp_path: Path) -> None:
    log = [batch(0, epoch=1), batch(1, epoch=3), batch(2, epoch=2)]
    Broker(tmp_path).partition(log, epochs=[(1, 0), (3, 1), (4, 3)])
    found = report(tmp_path).findings
    assert [(f.kind, f.offsets) for f in found] == [
        ("epoch-goes-back", (2, 2)),
        ("epoch-disagrees-with-checkpoint", (2, 2)),
    ]


@pytest.mark.parametrize(
    "epochs", [[], [(0, 0), (1, 1)], [(0, 0)], [(0, 0), (2, 2)], [(1, 0), (2, 1)], [(0, 0), (1, 3)]]
)
def test_epochs_that_disagree_with_the_checkpoint(tmp_path: Path, epochs: list[tuple[int, int]]) -> None:
    Broker(tmp_path).partition([batch(0), batch(1), batch(2, epoch=1)], epochs=epochs)
    assert kinds(tmp_path) == {"epoch-disagrees-with-checkpoint"}


def test_a_batch_without_an_epoch(tmp_path: Path) -> None:
    Broker(tmp_path).partition([batch(0), batch(1, epoch=-1)], epochs=[(0, 0)])
    assert kinds(tmp_path) == {"epoch-goes-back", "epoch-disagrees-with-checkpoint"}


def test_a_checkpoint_of_epochs_that_goes_back(tmp_path: Path) -> None:
    Broker(tmp_path).partition([batch(0)], epochs=[(1, 0), (0, 1)])
    assert "follows epoch 1" in only(tmp_path, "epoch-disagrees-with-checkpoint").sentence


def test_a_new_leader_that_has_written_nothing(tmp_path: Path) -> None:
    Broker(tmp_path).partition([batch(0)], epochs=[(0, 0), (3, 1)])
    assert kinds(tmp_path) == set()


def test_epochs_below_the_start_of_the_log(tmp_path: Path) -> None:
    log = [batch(0), batch(1, epoch=1), batch(2, epoch=1)]
    Broker(tmp_path / "deleted").partition(log, epochs=[(1, 2)], **{"log-start-offset-checkpoint": 2})
    assert kinds(tmp_path / "deleted") == set()
    Broker(tmp_path / "not-yet", clean=False).partition(log, epochs=[(1, 2)])
    assert kinds(tmp_path / "not-yet") == set()
    Broker(tmp_path / "lost").partition(log, epochs=[(1, 2)])
    assert kinds(tmp_path / "lost") == {"epoch-disagrees-with-checkpoint"}


def test_epochs_beyond_the_end_of_the_log(tmp_path: Path) -> None:
    Broker(tmp_path, clean=False).partition([batch(0)], epochs=[(0, 0), (1, 5)])
    only(tmp_path, "epoch-checkpoint-ahead")


NAMES = ["replication-offset-checkpoint", "recovery-point-offset-checkpoint", "log-start-offset-checkpoint"]


@pytest.mark.parametrize("name", NAMES)
def test_checkpoints_beyond_the_log(tmp_path: Path, name: str) -> None:
    Broker(tmp_path / "at").partition(THREE, **{name: 5})
    assert kinds(tmp_path / "at") == set()
    Broker(tmp_path / "beyond").partition(THREE, **{name: 6})
    assert kinds(tmp_path / "beyond") == {"checkpoint-beyond-log"}


@pytest.mark.parametrize("content", [b"1\n0\n", b"0\n2\n0 0\n", b"0\n1\nx 0\n", b"0\n1\n0\n", b"\xff\xfe", b"0\nx\n"])
def test_checkpoints_that_cannot_be_understood(tmp_path: Path, content: bytes) -> None:
    broker = Broker(tmp_path)
    (broker.partition(THREE) / "leader-epoch-checkpoint").write_bytes(content)
    assert only(tmp_path, "bad-file").file is not None
    (broker.folder / "replication-offset-checkpoint").write_bytes(content)
    assert [finding.kind for finding in report(tmp_path).findings] == ["bad-file"] * 2


def test_a_log_without_a_checkpoint_of_epochs(tmp_path: Path) -> None:
    Broker(tmp_path).partition(THREE, epochs=None)
    only(tmp_path, "no-epoch-checkpoint")


def test_an_empty_checkpoint_was_never_written(tmp_path: Path) -> None:
    folder = Broker(tmp_path).partition([b""], epochs=None)
    (folder / "leader-epoch-checkpoint").write_bytes(b"")
    assert kinds(tmp_path) == set()


# Producers.


DAY = 86_400_000


def test_sequences_in_order(tmp_path: Path) -> None:
    assert (
        producing(tmp_path, data(0, 0, n=3), data(3, 3), data(4, 4), data(5, 0, epoch=1), data(6, 1, epoch=1)) == set()
    )


def test_sequences_wrap_around(tmp_path: Path) -> None:
    Broker(tmp_path).partition({5: data(5, 2**31 - 2, n=3) + data(8, 1)}, epochs=[(0, 5)])
    assert kinds(tmp_path) == set()


def test_a_gap_in_a_sequence(tmp_path: Path) -> None:
    assert producing(tmp_path / "same", data(0, 0), data(1, 2)) == {"sequence-gap"}
    assert producing(tmp_path / "new", data(0, 0), data(1, 1, epoch=1)) == {"sequence-gap"}


def test_a_repeated_sequence(tmp_path: Path) -> None:
    assert producing(tmp_path, data(0, 0), data(1, 1), data(2, 1)) == {"sequence-repeat"}


def test_a_gap_of_the_cleaner_is_none_and_a_repeat_is_one(tmp_path: Path) -> None:
    thinned = data(0, 0, n=1, deltas=[1], last_delta=1)
    assert producing(tmp_path / "gap", thinned, data(7, 9)) == set()
    assert producing(tmp_path / "repeat", thinned, data(7, 1)) == {"sequence-repeat"}


def test_a_gap_over_damage_is_told_once(tmp_path: Path) -> None:
    broken = bytearray(data(1, 1))
    broken[-1] ^= 1
    assert producing(tmp_path, data(0, 0), bytes(broken), data(2, 2)) == {"corrupt-batch"}


def test_a_forgotten_producer(tmp_path: Path) -> None:
    late = TIMESTAMP + DAY + 1
    assert producing(tmp_path / "day", data(0, 0), data(1, 5, timestamp=late)) == {"producer-forgotten"}
    hour = TIMESTAMP + 3_600_001
    assert producing(tmp_path / "hour", data(0, 0), data(1, 5, timestamp=hour)) == {"sequence-gap"}
    assert kinds(tmp_path / "hour", expiration_ms=3_600_000) == {"producer-forgotten"}


def test_a_first_sequence_that_is_late(tmp_path: Path) -> None:
    assert producing(tmp_path / "whole", data(0, 4)) == {"sequence-starts-late"}
    Broker(tmp_path / "cut").partition({9: data(9, 4)}, epochs=[(0, 9)])
    assert kinds(tmp_path / "cut") == set()


def test_a_fenced_producer_that_writes_on(tmp_path: Path) -> None:
    assert producing(tmp_path / "data", data(0, 0, epoch=1), data(1, 0)) == {"producer-epoch-goes-back"}
    fenced = data(0, 0, transactional=True), marker(1, 7, 1, ABORT), data(2, 1, transactional=True)
    assert "producer-epoch-goes-back" in producing(tmp_path / "marker", *fenced)


def test_coordinators_are_in_no_sequence(tmp_path: Path) -> None:
    Broker(tmp_path).partition([data(0, 0), data(1, 0)], topic="__consumer_offsets")
    assert "sequence-repeat" not in kinds(tmp_path)


def test_every_kind_is_tested() -> None:
    text = "".join(path.read_text() for path in sorted(Path(__file__).parent.glob("test_audit_*.py")))
    assert [kind for kind in KINDS if f'"{kind}"' not in text] == []
