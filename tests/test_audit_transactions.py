"""Transactions: their markers, what their coordinators say, and the files that sum them up."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hwmark.checkers.audit.findings import Weight
from log_directories import ABORT, COMMIT, TIMESTAMP, Broker, batch, data, kinds, marker, only, plain, producing

THREE = batch(0, [b"a", b"b"]), batch(2), batch(3, [b"d", b"e"])


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


def test_the_best_copy_has_the_last_epoch_though_another_is_longer(tmp_path: Path) -> None:
    open_one = [data(0, 0, transactional=True), batch(1), batch(2)]
    ended = [data(0, 0, transactional=True), marker(1, 7, 0, COMMIT, epoch=1)]
    for node, log in ((1, open_one), (2, ended)):
        Broker(tmp_path, node).partition(log, high_watermark=1)
    assert "transaction-open" not in kinds(tmp_path)


def test_an_internal_record_that_is_not_understood(tmp_path: Path) -> None:
    Broker(tmp_path).partition([batch(0, [b"\0\x09"], keys=[b"\0\0\0\1x"])], topic="__transaction_state")
    assert only(tmp_path, "unknown-internal-record").offsets == (0, 0)


def test_an_offset_that_was_aborted_is_not_the_groups(tmp_path: Path) -> None:
    key = struct.pack(">hh", 1, 1) + b"g" + struct.pack(">h", 1) + b"t" + struct.pack(">i", 0)
    value = struct.pack(">hqihq", 3, 9, 0, 0, TIMESTAMP)
    for kind, expected in ((ABORT, set()), (COMMIT, {"group-offset-beyond-log"})):
        broker = Broker(tmp_path / str(kind), clean=False)
        broker.partition(THREE)
        log = batch(0, [value], keys=[key], producer=(7, 0, -1), transactional=True), marker(1, 7, 0, kind)
        broker.partition(log, topic="__consumer_offsets", aborted={0: [(7, 0, 1)] if kind == ABORT else []})
        assert kinds(tmp_path / str(kind)) == expected


def test_a_group_offset_beyond_the_log(tmp_path: Path) -> None:
    key = struct.pack(">hh", 1, 1) + b"g" + struct.pack(">h", 1) + b"t" + struct.pack(">i", 0)

    def committed(offset: int) -> bytes:
        return struct.pack(">hqihq", 3, offset, 0, 0, TIMESTAMP)

    Broker(tmp_path, 2).partition(THREE[:2])
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
    [[], [(7, 1, 2)], [(7, 0, 1)], [(8, 0, 2)], [(7, 0, 2), (7, 0, 1)], [(7, 0, 2, 4)], [(7, 0, 2, -1)], [(7, -1, 2)]],
    ids=["lacks", "from", "to", "whose", "more", "decided", "negative", "from-nowhere"],
)
def test_an_index_of_aborted_transactions_that_disagrees(tmp_path: Path, entries: list[tuple[int, ...]]) -> None:
    Broker(tmp_path).partition(ABORTED, aborted={0: entries})
    assert kinds(tmp_path) == {"aborted-index-disagrees"}


def test_an_index_that_is_behind_after_a_kill(tmp_path: Path) -> None:
    Broker(tmp_path / "last", clean=False).partition(ABORTED)
    assert kinds(tmp_path / "last") == {"aborted-index-behind"}
    older = {0: b"".join(ABORTED), 3: batch(3)}
    Broker(tmp_path / "older", clean=False).partition(older)
    assert kinds(tmp_path / "older") == {"aborted-index-behind"}
    Broker(tmp_path / "flushed", clean=False).partition(older, **{"recovery-point-offset-checkpoint": 3})
    assert kinds(tmp_path / "flushed") == {"aborted-index-disagrees"}


def test_an_index_that_is_ahead_after_a_loss_of_power(tmp_path: Path) -> None:
    for clean, kind in ((False, "aborted-index-ahead"), (True, "aborted-index-disagrees")):
        Broker(tmp_path / kind, clean=clean).partition(ABORTED, aborted={0: [(7, 0, 2), (7, 3, 5)]})
        assert kinds(tmp_path / kind) == {kind}


def test_a_commit_that_is_listed_as_aborted(tmp_path: Path) -> None:
    log = data(0, 0, transactional=True), marker(1, 7, 0, COMMIT), batch(2, [b"v"], deltas=[1], last_delta=1)
    Broker(tmp_path).partition({0: b"".join(log), 9: b""}, aborted={0: [(7, 0, 1)]}, epochs=[(0, 0)])
    assert "commits at offset 1" in only(tmp_path, "aborted-index-disagrees").sentence


def open_beside(offset: int) -> bytes:
    """A transaction of producer 8."""
    return bytes(batch(offset, producer=(8, 0, 0), transactional=True))


def test_how_far_all_was_decided(tmp_path: Path) -> None:
    """Producer 8 is in a transaction when 7 aborts; and where it begins one later, a follower may know that already."""
    beside = data(0, 0, transactional=True), open_beside(1), marker(2, 7, 0, ABORT), marker(3, 8, 0, COMMIT)
    later = data(0, 0, transactional=True), marker(1, 7, 0, ABORT), batch(2), open_beside(3), marker(4, 8, 0, COMMIT)
    for number, (log, entry, is_sound) in enumerate(
        [
            (beside, (7, 0, 2, 1), True),
            (beside, (7, 0, 2, 3), False),
            (beside, (7, 0, 2, 0), False),
            (later, (7, 0, 1, 2), True),
            (later, (7, 0, 1, 3), True),
            (later, (7, 0, 1, 4), False),
        ]
    ):
        Broker(tmp_path / str(number)).partition(log, aborted={0: [entry]})
        assert kinds(tmp_path / str(number)) == (set() if is_sound else {"aborted-index-disagrees"}), entry


def test_the_cleaner_leaves_the_last_segment_alone(tmp_path: Path) -> None:
    log = {
        0: batch(0, [b"v"], deltas=[1], last_delta=1),
        2: b"".join([data(2, 0, transactional=True), marker(3, 7, 0, ABORT)]),
    }
    for name, entry, expected in (("sound", (7, 2, 3), set()), ("from", (7, 3, 3), {"aborted-index-disagrees"})):
        Broker(tmp_path / name).partition(log, aborted={2: [entry]})
        assert kinds(tmp_path / name) == expected
    Broker(tmp_path / "before").partition(log, aborted={2: [(7, 1, 3)]})
    assert kinds(tmp_path / "before") == set()


def test_an_index_that_lacks_one_before_its_end(tmp_path: Path) -> None:
    log = *ABORTED, data(3, 2, transactional=True), marker(4, 7, 0, ABORT)
    Broker(tmp_path, clean=False).partition(log, aborted={0: [(7, 3, 4)]})
    assert kinds(tmp_path) == {"aborted-index-disagrees"}


def test_what_was_undecided_before_the_log_begins(tmp_path: Path) -> None:
    log = {5: data(5, 0, transactional=True) + marker(6, 7, 0, ABORT)}
    Broker(tmp_path).partition(log, epochs=[(0, 5)], aborted={5: [(7, 5, 6, 3)]})
    assert kinds(tmp_path) == set()


def test_the_longest_transaction_decides_last(tmp_path: Path) -> None:
    """The first is open all the while; the second ends before the third begins."""
    number = 8, 9, 7
    begins = [batch(at, producer=(number[i], 0, 0), transactional=True) for i, at in enumerate((0, 1, 3))]
    ends = [marker(at, number[i], 0, kind) for i, at, kind in ((1, 2, COMMIT), (2, 4, ABORT), (0, 5, COMMIT))]
    log = begins[0], begins[1], ends[0], begins[2], ends[1], ends[2]
    Broker(tmp_path).partition(log, aborted={0: [(7, 3, 4, 0)]})
    assert kinds(tmp_path) == set()


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
    return struct.pack(">hI", 1, plain.crc32c(content)) + content


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
