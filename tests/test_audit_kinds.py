"""Each kind of finding is found in a log that is broken so, and in no healthy log that looks alike."""

from __future__ import annotations

import runpy
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from hwmark.checkers.audit import KINDS, AuditReport, audit, find_log_directories
from hwmark.checkers.audit.findings import Finding, Weight

LOGS = runpy.run_path(str(Path(__file__).with_name("log_directories.py")))
Broker, batch, marker, resealed = LOGS["Broker"], LOGS["batch"], LOGS["marker"], LOGS["resealed"]
ABORT, COMMIT, TIMESTAMP = LOGS["ABORT"], LOGS["COMMIT"], LOGS["TIMESTAMP"]
THREE = batch(0, [b"a", b"b"]), batch(2), batch(3, [b"d", b"e"])
DAY = 86_400_000


def report(folder: Path, **options: Any) -> AuditReport:
    return audit(find_log_directories([str(folder)]), workers=1, **options)


def kinds(folder: Path, **options: Any) -> set[str]:
    return {finding.kind for finding in report(folder, **options).findings}


def only(folder: Path, kind: str) -> Finding:
    """The one finding, of this kind."""
    (finding,) = report(folder).findings
    assert finding.kind == kind and finding.sentence and "\n" not in finding.sentence
    return finding


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


def test_more_records_than_offsets(tmp_path: Path) -> None:
    content = b"".join(LOGS["record"](0, None, b"v") for _ in range(2))
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


def data(offset: int, sequence: int, *, epoch: int = 0, n: int = 1, **more: Any) -> bytes:
    return bytes(batch(offset, [b"v"] * n, producer=(7, epoch, sequence), **more))


def producing(folder: Path, *batches: bytes, **options: Any) -> set[str]:
    Broker(folder).partition(batches)
    return kinds(folder, **options)


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


# Transactions.


def test_transactions_that_ended(tmp_path: Path) -> None:
    log = (
        data(0, 0, transactional=True),
        marker(1, 7, 0, COMMIT),
        data(2, 1, transactional=True),
        marker(3, 7, 0, ABORT),
    )
    Broker(tmp_path).partition(log, aborted={0: [(7, 2, 3)]})
    assert kinds(tmp_path) == set()


def test_a_transaction_is_open(tmp_path: Path) -> None:
    assert producing(tmp_path, data(0, 0, transactional=True)) == {"transaction-open"}


def test_a_transaction_that_was_never_ended(tmp_path: Path) -> None:
    log = data(0, 0, transactional=True), data(1, 0, epoch=1, transactional=True), marker(2, 7, 1, COMMIT)
    assert producing(tmp_path, *log) == {"transaction-without-marker"}


def coordinator(status: int, *partitions: int, epoch: int = 0, timestamp: int = TIMESTAMP + 1000) -> bytes:
    """What a coordinator wrote down about transactional id x, producer 7 (version 0)."""
    key = struct.pack(">hh", 0, 1) + b"x"
    array = struct.pack(">i", -1)
    if partitions:
        array = struct.pack(">ih", 1, 1) + b"t" + struct.pack(f">i{len(partitions)}i", len(partitions), *partitions)
    value = struct.pack(">hqhib", 0, 7, epoch, 60_000, status) + array + struct.pack(">qq", timestamp, timestamp)
    return bytes(batch(0, [value], keys=[key]))


ONGOING, PREPARE_COMMIT, COMPLETE_COMMIT, COMPLETE_ABORT = 1, 2, 4, 5


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (coordinator(ONGOING, 0), "transaction-open"),
        (coordinator(PREPARE_COMMIT, 0), "transaction-open"),
        (coordinator(COMPLETE_COMMIT), "transaction-without-marker"),
        (coordinator(COMPLETE_ABORT), "transaction-without-marker"),
        (coordinator(COMPLETE_COMMIT, timestamp=TIMESTAMP - 1), "transaction-open"),
        (coordinator(ONGOING, 1), "transaction-without-marker"),
        (coordinator(ONGOING, 1, epoch=-1), "transaction-open"),
    ],
)
def test_what_the_coordinator_says_of_an_open_transaction(tmp_path: Path, state: bytes, expected: str) -> None:
    broker = Broker(tmp_path)
    broker.partition([data(0, 0, transactional=True)])
    broker.partition([state], topic="__transaction_state")
    sentence = only(tmp_path, expected).sentence
    assert ("and this partition has no part in it" in sentence) == (state == coordinator(ONGOING, 1))


def test_only_the_best_copy_of_a_transaction_counts(tmp_path: Path) -> None:
    broker = Broker(tmp_path, 1)
    broker.partition([data(0, 0, transactional=True)], high_watermark=1)
    broker.partition([coordinator(COMPLETE_COMMIT)], topic="__transaction_state")
    Broker(tmp_path, 2).partition([data(0, 0, transactional=True), marker(1, 7, 0, COMMIT)], high_watermark=2)
    assert kinds(tmp_path) == set()


def test_an_internal_record_that_is_not_understood(tmp_path: Path) -> None:
    Broker(tmp_path).partition([batch(0, [b"\0\x09"], keys=[b"\0\0\0\1x"])], topic="__transaction_state")
    assert only(tmp_path, "unknown-internal-record").offsets == (0, 0)


def test_a_group_offset_beyond_the_log(tmp_path: Path) -> None:
    key = struct.pack(">hh", 1, 1) + b"g" + struct.pack(">h", 1) + b"t" + struct.pack(">i", 0)

    def committed(offset: int) -> bytes:
        return struct.pack(">hqihq", 3, offset, 0, 0, TIMESTAMP)

    broker = Broker(tmp_path)
    broker.partition(THREE)
    folder = broker.partition([batch(0, [committed(5)], keys=[key])], topic="__consumer_offsets")
    assert kinds(tmp_path) == set()
    (folder / f"{0:020}.log").write_bytes(batch(0, [committed(6)], keys=[key]))
    assert only(tmp_path, "group-offset-beyond-log").offsets == (5, 5)
    (folder / f"{0:020}.log").write_bytes(batch(0, [committed(6)], keys=[key]) + batch(1, [None], keys=[key]))
    assert kinds(tmp_path) == set()


ABORTED = data(0, 0, transactional=True), data(1, 1, transactional=True), marker(2, 7, 0, ABORT)


@pytest.mark.parametrize(
    "entries",
    [[], [(7, 1, 2)], [(7, 0, 1)], [(8, 0, 2)], [(7, 0, 2), (7, 0, 1)]],
    ids=["lacks", "from", "to", "whose", "more"],
)
def test_an_index_of_aborted_transactions_that_disagrees(tmp_path: Path, entries: list[tuple[int, int, int]]) -> None:
    Broker(tmp_path).partition(ABORTED, aborted={0: entries})
    assert kinds(tmp_path) == {"aborted-index-disagrees"}


def test_an_index_that_is_behind_after_a_kill(tmp_path: Path) -> None:
    Broker(tmp_path / "last", clean=False).partition(ABORTED)
    assert kinds(tmp_path / "last") == {"aborted-index-behind"}
    Broker(tmp_path / "older", clean=False).partition({0: b"".join(ABORTED), 3: batch(3)})
    assert kinds(tmp_path / "older") == {"aborted-index-disagrees"}


def test_an_index_of_a_log_whose_beginning_is_gone(tmp_path: Path) -> None:
    log = {1: b"".join(ABORTED[1:])}
    Broker(tmp_path).partition(log, epochs=[(0, 1)], aborted={1: [(7, 0, 2)]})
    assert kinds(tmp_path) == set()


@pytest.mark.parametrize("clean", [True, False])
def test_an_index_with_half_an_entry(tmp_path: Path, clean: bool) -> None:
    folder = Broker(tmp_path, clean=clean).partition(ABORTED, aborted={0: [(7, 0, 2)]})
    with (folder / f"{0:020}.txnindex").open("ab") as file:
        file.write(b"\0" * 10)
    assert "bad-file" in kinds(tmp_path) if clean else kinds(tmp_path) == {"aborted-index-behind"}


def snapshot(last_sequence: int, last_offset: int, *, producer: int = 7) -> bytes:
    entry = struct.pack(">qhiqiqiq", producer, 0, last_sequence, last_offset, 0, TIMESTAMP, -1, -1)
    content = struct.pack(">i", 1) + entry
    return struct.pack(">hI", 1, LOGS["plain"].crc32c(content)) + content


def test_snapshots_of_producers(tmp_path: Path) -> None:
    folder = Broker(tmp_path).partition([data(0, 0), data(1, 1), data(2, 2)])
    file = folder / f"{2:020}.snapshot"
    file.write_bytes(snapshot(1, 1))
    assert kinds(tmp_path) == set()
    for wrong in (snapshot(0, 1), snapshot(1, 0), snapshot(1, 1, producer=8)):
        file.write_bytes(wrong)
        assert only(tmp_path, "snapshot-disagrees").file == file
    file.write_bytes(snapshot(1, 1)[:-1])
    assert only(tmp_path, "bad-snapshot").weight == Weight.REMARK


# Replicas.


def replicas(folder: Path, *logs: Any, marks: tuple[int | None, ...] = (), **more: Any) -> AuditReport:
    for node, log in enumerate(logs, start=1):
        mark = marks[node - 1] if marks else 5
        Broker(folder, node, clean=False).partition(log, high_watermark=mark, **more)
    return report(folder)


OTHER = batch(3, [b"x", b"y"], epoch=1)


def test_replicas_that_are_the_same_or_lag(tmp_path: Path) -> None:
    assert replicas(tmp_path, THREE, THREE, THREE[:2], marks=(5, 5, 3)).findings == []


def test_replicas_that_differ(tmp_path: Path) -> None:
    (finding,) = replicas(tmp_path, THREE, THREE, [*THREE[:2], OTHER]).findings
    assert finding.kind == "replicas-differ" and finding.broker == "broker 3" and finding.offsets == (3, 4)
    assert "broker 1 and broker 2" in finding.sentence


def test_replicas_of_which_each_is_another(tmp_path: Path) -> None:
    (finding,) = replicas(tmp_path, THREE, [*THREE[:2], OTHER], [*THREE[:2], batch(3, [b"p", b"q"])]).findings
    assert finding.kind == "replicas-differ" and "from each other" in finding.sentence


@pytest.mark.parametrize("marks", [(5, 3), (3, 3), (None, 5)])
def test_tails_that_differ(tmp_path: Path, marks: tuple[int | None, ...]) -> None:
    (finding,) = replicas(tmp_path, THREE, [*THREE[:2], OTHER], marks=marks).findings
    assert finding.kind == "uncommitted-tails-differ" and finding.offsets == (3, 4)


def test_a_replica_that_lacks_the_middle(tmp_path: Path) -> None:
    found = {(f.kind, f.offsets) for f in replicas(tmp_path, THREE, [THREE[0], THREE[2]]).findings}
    assert found == {("replicas-differ", (2, 2)), ("offset-gap", (2, 2))}


def test_what_is_damaged_is_not_told_twice(tmp_path: Path) -> None:
    broken = bytearray(THREE[1])
    broken[-1] ^= 1
    assert [f.kind for f in replicas(tmp_path, THREE, [THREE[0], broken, THREE[2]]).findings] == ["corrupt-batch"]


def test_another_epoch_is_another_batch(tmp_path: Path) -> None:
    other = batch(3, [b"d", b"e"], epoch=1)
    assert other[21:] == THREE[2][21:]
    assert {f.kind for f in replicas(tmp_path, THREE, [*THREE[:2], other]).findings} == {"replicas-differ"}


def test_below_the_start_of_a_log_nothing_is_compared(tmp_path: Path) -> None:
    assert replicas(tmp_path, THREE, {3: THREE[2]}).findings == []


def test_a_topic_that_was_created_again(tmp_path: Path) -> None:
    Broker(tmp_path, 1).partition(THREE, topic_id="one", high_watermark=5)
    Broker(tmp_path, 2).partition([*THREE[:2], OTHER], topic_id="other", high_watermark=5)
    only(tmp_path, "topic-ids-differ")


def keyed(offset: int, *keys: bytes, **more: Any) -> bytes:
    return bytes(batch(offset, [key.upper() for key in keys], keys=keys, **more))


FULL = keyed(0, b"a", b"b"), keyed(2, b"a", b"c"), keyed(4, b"b")


def compacted(folder: Path, *logs: list[bytes], mark: int = 5) -> list[Finding]:
    found = replicas(folder, *logs, marks=(mark,) * len(logs)).findings
    return [finding for finding in found if finding.kind != "offset-gap"]


def thinned(offset: int, *kept: tuple[int, bytes], of: int) -> bytes:
    keys = [key for _, key in kept]
    deltas = [delta for delta, _ in kept]
    return bytes(batch(offset, [key.upper() for key in keys], keys=keys, deltas=deltas, last_delta=of - 1))


def test_cleaned_replicas_differ_as_they_may(tmp_path: Path) -> None:
    cleaned = [thinned(2, (0, b"a"), (1, b"c"), of=2), FULL[2]]
    assert compacted(tmp_path, list(FULL), cleaned, [thinned(0, (1, b"b"), of=2), *FULL[1:]]) == []


def test_a_cleaned_replica_that_lost_the_last_of_a_key(tmp_path: Path) -> None:
    (finding,) = compacted(tmp_path, list(FULL), [thinned(2, (0, b"a"), of=2), FULL[2]])
    assert (
        finding.kind == "replicas-differ" and finding.offsets == (3, 3) and "last record of a key" in finding.sentence
    )


def test_a_cleaned_replica_with_another_record(tmp_path: Path) -> None:
    other = batch(2, [b"A", b"other"], keys=[b"a", b"c"])
    (finding,) = compacted(tmp_path, [thinned(0, (1, b"b"), of=2), *FULL[1:]], [other, FULL[2]])
    assert finding.kind == "replicas-differ" and finding.offsets == (3, 3) and "are others" in finding.sentence


def test_tombstones_and_aborted_records_may_be_gone(tmp_path: Path) -> None:
    tombstone = batch(2, [None], keys=[b"z"])
    rest = [batch(3, [b"x"], keys=[b"y"], producer=(7, 0, -1), transactional=True), marker(4, 7, 0, ABORT)]
    full = [keyed(0, b"a", b"b"), tombstone, *rest]
    index = {0: [(7, 3, 4)]}
    for node, log in ((1, full), (2, [thinned(0, (0, b"a"), (1, b"b"), of=3), rest[1]])):
        Broker(tmp_path, node).partition(log, high_watermark=5, aborted=index if node == 1 else {})
    assert [f.kind for f in report(tmp_path).findings if f.kind != "offset-gap"] == []


# Files and folders.


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    folder = broker.partition(THREE)
    (folder / f"{9:020}.log.deleted").write_bytes(b"")
    leaving = broker.folder / "t-1.0123456789abcdef0123456789abcdef-delete"
    leaving.mkdir()
    (leaving / f"{0:020}.log").write_bytes(THREE[0])
    (broker.folder / "lost+found").mkdir()
    found = report(tmp_path).findings
    assert [f.kind for f in found] == ["left-out", "left-out"] and {f.file for f in found} >= {leaving}


def test_swap_files_count_as_a_broker_would_count_them(tmp_path: Path) -> None:
    folder = Broker(tmp_path, clean=False).partition({0: THREE[0], 2: THREE[1], 3: THREE[2]})
    (folder / f"{0:020}.log.swap").write_bytes(batch(0, [b"b"], keys=[b"k"], deltas=[1], last_delta=2))
    found = report(tmp_path)
    assert [f.kind for f in found.findings] == ["swap-file"] and found.records == 3


def test_a_file_that_cannot_be_read_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hwmark.checkers.audit import replica

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    Broker(tmp_path).partition(THREE)
    monkeypatch.setattr(replica, "read_segment", fail)
    assert "input/output error" in only(tmp_path, "unreadable-file").sentence


def test_every_kind_is_tested() -> None:
    text = Path(__file__).read_text()
    assert [kind for kind in KINDS if f'"{kind}"' not in text] == []
