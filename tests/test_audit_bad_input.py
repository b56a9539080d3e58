"""Whatever lies in a log directory, an audit ends with one of its exit statuses, and never with a traceback."""

from __future__ import annotations

import shutil
import struct
import warnings
from pathlib import Path

import pytest
from hwmark.checkers.cli import main
from hypothesis import given
from hypothesis import strategies as st
from log_directories import Broker, batch, marker, plain, resealed

KEY = struct.pack(">hh", 0, 1) + b"x"
STATE = struct.pack(">hqhibiqq", 0, 7, 0, 60_000, 1, -1, 0, 0)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two brokers with one file of each kind."""
    folder = tmp_path_factory.mktemp("cluster")
    for node in (1, 2):
        broker = Broker(folder, node)
        log = batch(0, [b"a", b"b"], producer=(7, 0, 0), transactional=True), marker(2, 7, 0, 0), batch(3, epoch=1)
        partition = broker.partition({0: b"".join(log), 4: batch(4, epoch=1)}, aborted={0: [(7, 0, 2)]}, topic_id="id")
        content = struct.pack(">i", 1) + struct.pack(">qhiqiqiq", 7, 0, 1, 1, 1, 0, -1, -1)
        sealed = struct.pack(">hI", 1, plain.crc32c(content)) + content
        (partition / f"{4:020}.snapshot").write_bytes(sealed)
        broker.partition([batch(0, [STATE], keys=[KEY])], topic="__transaction_state")
        broker.partition([batch(0, [b"v"], keys=[b"k"], deltas=[1], last_delta=1)], topic="compacted")
        broker.checkpoint("replication-offset-checkpoint", "t", 0, 5)
        for name in ("replication-offset-checkpoint", "log-start-offset-checkpoint", "cleaner-offset-checkpoint"):
            broker.checkpoint(name, "compacted", 0, 1)
    return folder


FILES = [
    "meta.properties",
    "replication-offset-checkpoint",
    "cleaner-offset-checkpoint",
    "t-0/leader-epoch-checkpoint",
    "t-0/partition.metadata",
    f"t-0/{0:020}.log",
    f"t-0/{4:020}.log",
    f"t-0/{0:020}.txnindex",
    f"t-0/{4:020}.snapshot",
    f"__transaction_state-0/{0:020}.log",
    f"compacted-0/{0:020}.log",
]
NUMBERS = st.integers(-(2**70), 2**70).map(lambda number: b"%d" % number)


@st.composite
def contents(draw: st.DrawFn, before: bytes) -> bytes:
    """What a file is made into."""
    place = draw(st.integers(0, len(before)))
    sort = draw(st.integers(0, 4))
    if sort == 0:
        return draw(st.binary(max_size=200))
    if sort == 1:
        return before[:place]
    if sort == 2:
        return before[:place] + draw(st.binary(max_size=20)) + before[place + draw(st.integers(0, 20)) :]
    if sort == 3:  # the numbers of text files, made as large as they get
        words = before.split(b" ")
        words[draw(st.integers(0, len(words) - 1))] = draw(NUMBERS)
        return b" ".join(words)
    broken = bytearray(before)
    for _ in range(draw(st.integers(1, 3))):
        if len(broken) >= 61:  # within the header, the CRC made right
            broken[draw(st.integers(0, 60))] ^= 1 << draw(st.integers(0, 7))
            broken = bytearray(resealed(bytes(broken)))
    return bytes(broken)


@given(st.data())
def test_any_file_may_be_broken(cluster: Path, data: st.DataObject) -> None:
    path = cluster / "broker-1" / data.draw(st.sampled_from(FILES))
    before = path.read_bytes()
    try:
        path.write_bytes(data.draw(contents(before)))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for more in ([], ["--records"]):
                assert main(["audit", str(cluster), "--json", *more]) in (0, 1, 2, 3)
    finally:
        path.write_bytes(before)


@pytest.mark.parametrize("name", FILES)
def test_any_file_may_be_missing(cluster: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(cluster, tmp_path / "cluster")
    (tmp_path / "cluster" / "broker-1" / name).unlink()
    assert main(["audit", str(tmp_path / "cluster"), "--records"]) in (0, 1)


@pytest.mark.parametrize("name", FILES)
def test_any_file_may_be_a_folder(cluster: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(cluster, tmp_path / "cluster")
    path = tmp_path / "cluster" / "broker-1" / name
    path.unlink()
    path.mkdir()
    assert main(["audit", str(tmp_path / "cluster"), "--records"]) in (0, 1, 2, 3)


@pytest.mark.parametrize(
    "name", [f"{2**63}.log", "x.log", f"{0:020}.log.cleaned", f"{2**63}.snapshot", ".log", "-1.log"]
)
def test_odd_names_of_files(cluster: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(cluster, tmp_path / "cluster")
    (tmp_path / "cluster" / "broker-1" / "t-0" / name).write_bytes(batch(0))
    assert main(["audit", str(tmp_path / "cluster")]) == 0


@pytest.mark.parametrize("name", ["t-99999999999999999999", "-0", "t-", "t-1-", "ü-0", "t 1-0"])
def test_odd_names_of_folders(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    broker = Broker(tmp_path)
    broker.partition([batch(0)])
    (broker.folder / "t-0").rename(broker.folder / name)
    assert main(["audit", str(tmp_path), "--json"]) == 0
    assert ('"left-out":1' in capsys.readouterr().out) == (name not in ("ü-0", "t 1-0"))
