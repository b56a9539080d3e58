"""Log directories of real clusters: healthy ones show nothing, and each bit that is flipped in them shows.

Recorded from Apache Kafka 4.3.1 (`healthy-k4`) and 3.9.2: three brokers, plain, idempotent and transactional producers,
all compressions, a compacted topic, groups, brokers killed with -9 and started again while they were written to.
`healthy-java-k4`: Java's clients, which raise the producer epoch with each transaction; all brokers were killed
at the end.
`healthy-compacted-k3`: transactions, some aborted, in compacted topics, one with retention too; all were killed.
`last-replica-k3`: the last in-sync replica lost half of its log to a cut, as with a loss of power, and led on.
`unclean-k3`: an election of a replica that was not in sync; the old leader stayed away.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import log_directories
import pytest
from hwmark.checkers.audit import AuditReport, audit, find_log_directories, plain
from hwmark.checkers.audit.findings import Weight
from hwmark.checkers.audit.segments import read_segment
from hwmark.checkers.cli import main
from hypothesis import given
from hypothesis import strategies as st

HEALTHY = ("healthy-k3", "healthy-k4")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("recorded")
    names = (*HEALTHY, "healthy-java-k4", "healthy-compacted-k3", "last-replica-k3", "unclean-k3")
    return {name: log_directories.unpacked(name, folder) for name in names}


def report(*folders: Path, **options: Any) -> AuditReport:
    return audit(find_log_directories(map(str, folders)), workers=1, **options)


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_cluster_shows_no_violation(unpacked: dict[str, Path], name: str) -> None:
    found = report(unpacked[name], every_record=True)
    assert found.of_weight(Weight.VIOLATION) == found.of_weight(Weight.UNKNOWN) == []
    assert {partition["topic"] for partition in found.partitions} > {
        "gzip",
        "snappy",
        "lz4",
        "zstd",
        "txn",
        "compacted",
    }
    assert found.records > 10_000 and {one.broker for one in found.directories} == {"broker 1", "broker 2", "broker 3"}


def test_java_clients_under_kills_show_no_violation(unpacked: dict[str, Path]) -> None:
    found = report(unpacked["healthy-java-k4"], every_record=True)
    assert found.of_weight(Weight.VIOLATION) == [] and found.records > 100_000


def test_transactions_in_cleaned_logs_show_no_violation(unpacked: dict[str, Path]) -> None:
    found = report(unpacked["healthy-compacted-k3"], every_record=True)
    assert found.of_weight(Weight.VIOLATION) == []
    assert {partition["topic"] for partition in found.partitions if partition["cleaned"]} > {"comp", "both"}


def test_a_marker_that_all_replicas_lost_is_missed(unpacked: dict[str, Path], tmp_path: Path) -> None:
    """The logs end before the last marker; their coordinator says that the transaction is complete."""
    folder = tmp_path / "cluster"
    shutil.copytree(unpacked["healthy-k4"], folder)
    for path in folder.glob("broker-*/txn-0/*.log"):
        piece = read_segment(path, 0, int(path.stem), lambda _: None).pieces[0]
        last = int((piece.control_type >= 0).nonzero()[0][-1])
        with path.open("r+b") as file:
            file.truncate(int(piece.position[last]))
    kinds = Counter(finding.kind for finding in report(folder).of_weight(Weight.VIOLATION))
    assert kinds["transaction-without-marker"] == 1 and kinds["checkpoint-beyond-log"] >= 3


@pytest.mark.parametrize("name", HEALTHY)
@pytest.mark.parametrize("brokers", [[1], [2, 3], [3, 1]])
def test_nor_do_some_of_its_brokers(unpacked: dict[str, Path], name: str, brokers: list[int]) -> None:
    found = report(*(unpacked[name] / f"broker-{node}" for node in brokers))
    assert found.of_weight(Weight.VIOLATION) == []


@pytest.mark.parametrize("name", HEALTHY)
def test_the_walk_agrees_with_the_twin_on_real_segments(unpacked: dict[str, Path], name: str) -> None:
    for path in sorted(unpacked[name].glob("broker-2/*/*.log")):
        data = path.read_bytes()[:30_000]
        size = sum(row["size"] for row in plain.walk(data, int(path.stem))[0])
        segment = read_segment(path, 0, int(path.stem), lambda _: None)
        rows, _ = plain.walk(data[:size], int(path.stem))
        assert [row["crc"] for row in rows] == (segment.pieces[0].crc[: len(rows)].tolist() if rows else [])
        assert all(row["is_sound"] for row in rows)


def test_the_last_replica_lost_its_tail(unpacked: dict[str, Path]) -> None:
    (finding,) = report(unpacked["last-replica-k3"]).of_weight(Weight.VIOLATION)
    assert (finding.kind, finding.broker, finding.offsets) == ("replicas-differ", "broker 3", (30, 39))
    assert (finding.topic, finding.partition) == ("t", 0)


def test_an_unclean_leader_overwrote_what_was_committed(unpacked: dict[str, Path]) -> None:
    (finding,) = report(unpacked["unclean-k3"]).of_weight(Weight.VIOLATION)
    assert (finding.kind, finding.broker, finding.offsets) == ("replicas-differ", "broker 2", (40, 59))


def located(capsys: pytest.CaptureFixture[str], folder: Path, *more: str) -> dict[str, Any]:
    status = main(["audit", str(folder), "--history", str(folder / "history.jsonl"), "--json", *more])
    out, _ = capsys.readouterr()
    assert status == 1
    answer: dict[str, Any] = json.loads(out)
    return answer


def test_lost_values_are_found_where_they_still_are(
    unpacked: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    values = located(capsys, unpacked["unclean-k3"])["located"]
    missing = {value["value"]: value for value in values if "missing-from-final-read" in value["why"]}
    assert sorted(missing) == list(range(41, 71))
    for value in missing.values():
        assert [(place["broker"], place["offset"]) for place in value["held"]] == [("broker 2", value["offset"])]
        assert value["held"][0]["below_high_watermark"] and not value["held"][0]["aborted"]


def test_lost_values_that_nobody_holds_are_told(unpacked: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    folder = unpacked["last-replica-k3"]
    values = located(capsys, folder, "--topic", "t")["located"]
    assert {bool(value["held"]) for value in values} == {True}
    main(["audit", str(folder / "broker-1"), "--history", str(folder / "history.jsonl")])
    _, err = capsys.readouterr()
    assert "no replica holds it" in err


def test_which_topic_a_history_means(
    unpacked: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = unpacked["unclean-k3"]
    lines = (folder / "history.jsonl").read_text().replace('"topic": "t", ', "").splitlines(keepends=True)
    history = tmp_path / "history.jsonl"
    history.write_text("".join(lines))
    assert main(["audit", str(folder), "--history", str(history)]) == 2
    assert "expected --topic, one of idem, t" in capsys.readouterr().err
    assert main(["audit", str(folder), "--history", str(history), "--topic", "other"]) == 2
    assert "is no partition of other" in capsys.readouterr().err


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory, unpacked: dict[str, Path]) -> dict[str, Path]:
    """Folders of single partitions, each a log directory of its own, to be broken."""
    folder = tmp_path_factory.mktemp("copies")
    found = {}
    for name in ("txn-0", "zstd-0", "plain-0", "idem-1", "out-0"):
        directory = folder / name
        shutil.copytree(unpacked["healthy-k4"] / "broker-2" / name, directory / name)
        for file in (unpacked["healthy-k4"] / "broker-2").iterdir():
            if file.is_file():
                shutil.copy(file, directory)
        found[name] = directory
    return found


@given(
    name=st.sampled_from(["txn-0", "zstd-0", "plain-0", "idem-1", "out-0"]), at=st.integers(0), bit=st.integers(0, 7)
)
def test_any_flipped_bit_is_a_violation(copy: dict[str, Path], name: str, at: int, bit: int) -> None:
    """The brokers were stopped in order, so that even in the last batch nothing may be torn."""
    path = max((copy[name] / name).glob("*.log"), key=lambda file: file.stat().st_size)
    content = path.read_bytes()
    broken = bytearray(content)
    broken[at % len(content)] ^= 1 << bit
    path.write_bytes(broken)
    try:
        found = report(copy[name])
        assert found.of_weight(Weight.VIOLATION), f"byte {at % len(content)}, bit {bit}"
    finally:
        path.write_bytes(content)
    assert report(copy[name]).of_weight(Weight.VIOLATION) == []


@given(name=st.sampled_from(["txn-0", "out-0"]), at=st.integers(0), bit=st.integers(0, 7))
def test_any_flipped_bit_of_a_small_file_is_found(copy: dict[str, Path], name: str, at: int, bit: int) -> None:
    """Indexes of aborted transactions (but for the last stable offset in them) and snapshots of producers."""
    files = [path for kind in ("txnindex", "snapshot") for path in sorted((copy[name] / name).glob(f"*.{kind}"))]
    path = files[at % len(files)]
    content = path.read_bytes()
    place = at // len(files) % max(len(content), 1)
    if not content or (path.suffix == ".txnindex" and place % 34 >= 26):
        return
    broken = bytearray(content)
    broken[place] ^= 1 << bit
    path.write_bytes(broken)
    try:
        assert report(copy[name]).findings, f"{path.name}: byte {place}, bit {bit}"
    finally:
        path.write_bytes(content)


@given(name=st.sampled_from(["txn-0", "zstd-0", "plain-0"]), cut=st.integers(0), clean=st.booleans())
def test_any_cut_is_found(copy: dict[str, Path], name: str, cut: int, clean: bool) -> None:
    """A log that ends too early: its high watermark is beyond the end."""
    path = max((copy[name] / name).glob("*.log"), key=lambda file: file.stat().st_size)
    marker = copy[name] / ".kafka_cleanshutdown"
    content = path.read_bytes()
    path.write_bytes(content[: cut % len(content)])
    if not clean:
        marker.unlink()
    try:
        kinds = Counter(finding.kind for finding in report(copy[name]).of_weight(Weight.VIOLATION))
        assert kinds["checkpoint-beyond-log"]
    finally:
        path.write_bytes(content)
        marker.write_text("{}")


@given(at=st.integers(0), node=st.integers(1, 3))
def test_any_batch_written_anew_in_one_replica_is_found(unpacked: dict[str, Path], at: int, node: int) -> None:
    """A record is changed and the CRC made right: only the other replicas tell."""
    path = next((unpacked["healthy-k4"] / f"broker-{node}" / "plain-1").glob("*.log"))
    content = path.read_bytes()
    piece = read_segment(path, 0, int(path.stem), lambda _: None).pieces[0]
    row = at % len(piece.size)
    start, end = int(piece.position[row]), int(piece.position[row] + piece.size[row])
    one = bytearray(content[start:end])
    one[35 + at % 8] ^= 1  # the largest timestamp
    path.write_bytes(content[:start] + log_directories.resealed(bytes(one)) + content[end:])
    folders = [unpacked["healthy-k4"] / f"broker-{number}" for number in (1, 2, 3)]
    try:
        found = audit(find_log_directories([str(folder / "plain-1") for folder in folders]), workers=1)
        marks = sorted(replica["high_watermark"] for replica in found.partitions[0]["replicas"])
        expected = "replicas-differ" if piece.base_offset[row] < marks[0] else "uncommitted-tails-differ"
        assert expected in {finding.kind for finding in found.findings}
    finally:
        path.write_bytes(content)
