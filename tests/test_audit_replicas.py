"""Replicas are compared, and what lies in their folders is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hwmark.checkers.audit import AuditReport, Finding
from log_directories import ABORT, COMMIT, Broker, batch, marker, only, record, report

THREE = batch(0, [b"a", b"b"]), batch(2), batch(3, [b"d", b"e"])


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


def test_a_record_that_another_producer_wrote(tmp_path: Path) -> None:
    other = keyed(2, b"a", b"c", producer=(5, 0, 0))
    found = compacted(tmp_path, [thinned(0, (1, b"b"), of=2), *FULL[1:]], [thinned(0, (1, b"b"), of=2), other, FULL[2]])
    assert [(finding.kind, finding.offsets) for finding in found] == [("replicas-differ", (2, 3))]


def test_the_broker_s_timestamps_are_those_of_the_batch(tmp_path: Path) -> None:
    """Where a topic has LogAppendTime, the records keep the producer's until the cleaner writes them anew."""
    own = record(0, b"a", b"A", time=-5) + record(1, b"b", b"B", time=-3)
    fresh = batch(0, [b"A", b"B"], content=own, attributes=8)
    assert (
        compacted(
            tmp_path,
            [fresh, batch(2, keys=[b"a"])],
            [batch(0, [b"B"], keys=[b"b"], deltas=[1], attributes=8, last_delta=1), batch(2, keys=[b"a"])],
            mark=3,
        )
        == []
    )


def in_transaction(*markers: bytes) -> list[bytes]:
    """A record that stays, and one of a transaction."""
    first = thinned(0, (1, b"b"), of=2)
    return [first, keyed(2, b"c", producer=(7, 0, -1), transactional=True), *markers]


@pytest.mark.parametrize(
    ("log", "differs"),
    [
        (in_transaction(marker(3, 7, 0, COMMIT)), False),
        (in_transaction(marker(3, 7, 0, ABORT)), True),
        (in_transaction(keyed(3, b"z")), True),
        ([thinned(0, (1, b"b"), of=2), thinned(2, of=1)], False),
    ],
    ids=["same", "aborted", "open", "gone"],
)
def test_a_transaction_of_cleaned_replicas_ends_alike(tmp_path: Path, log: list[bytes], differs: bool) -> None:
    committed = [*in_transaction(marker(3, 7, 0, COMMIT)), keyed(4, b"c")]
    found = compacted(tmp_path, committed, [*log, keyed(4, b"c")])
    assert [finding.sentence for finding in found if "did not end in both" in finding.sentence] == [
        finding.sentence for finding in found if differs and finding.offsets == (2, 2)
    ]
    assert any(finding.offsets == (2, 2) for finding in found) == differs


def test_a_marker_is_missing_though_the_next_one_is_alike(tmp_path: Path) -> None:
    more = keyed(4, b"d", producer=(7, 0, -1), transactional=True), marker(5, 7, 0, COMMIT)
    log = [*in_transaction(marker(3, 7, 0, COMMIT)), *more]
    found = compacted(tmp_path, log, [*in_transaction(), *more], mark=6)
    assert [(finding.kind, finding.offsets) for finding in found] == [("replicas-differ", (2, 2))]


def test_a_marker_above_the_high_watermark_may_be_missing(tmp_path: Path) -> None:
    log = in_transaction(marker(3, 7, 0, COMMIT))
    assert compacted(tmp_path, log, log[:2], mark=3) == []


def test_what_a_cleaned_replica_lost_at_its_end_is_told_once(tmp_path: Path) -> None:
    found = compacted(tmp_path, [thinned(0, (1, b"b"), of=2), *FULL[1:]], [thinned(0, (1, b"b"), of=2), FULL[1]])
    assert [finding.kind for finding in found] == ["checkpoint-beyond-log"]


def test_what_was_aborted_supersedes_nothing(tmp_path: Path) -> None:
    """The last record of a key is missing in one; only one that was aborted has the key too."""
    aborted = keyed(2, b"a", producer=(7, 0, -1), transactional=True), marker(3, 7, 0, ABORT), keyed(4, b"b")
    full, lacking = [keyed(0, b"a", b"b"), *aborted], [thinned(0, (1, b"b"), of=2), *aborted]
    found = compacted(tmp_path, full, lacking)
    assert ("replicas-differ", (0, 0)) in {(finding.kind, finding.offsets) for finding in found}


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
