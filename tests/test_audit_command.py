"""`hwmark audit` as scripts and people see it: exit status, one JSON object, text on standard error, bad input."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hwmark.checkers.audit import KINDS
from hwmark.checkers.cli import main
from log_directories import Broker, batch

SOUND = batch(0, [b"a", b"b"]), batch(2)
FIELDS = {
    "directories",
    "brokers",
    "controllers",
    "verdict",
    "valid",
    "findings",
    "kinds",
    "partitions",
    "bytes",
    "batches",
    "records",
}
OF_FINDING = {"kind", "weight", "sentence", "broker", "topic", "partition", "offsets", "file", "position"}


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    """Two brokers that agree."""
    for node in (1, 2):
        Broker(tmp_path / "cluster", node).partition(SOUND, high_watermark=3)
    return tmp_path / "cluster"


def answer(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, Any], str]:
    status = main(["audit", *map(str, arguments), "--json"])
    out, err = capsys.readouterr()
    assert out.endswith("\n") and out.count("\n") == 1
    return status, json.loads(out), err


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line by which the arguments are refused."""
    try:
        status = main(["audit", *map(str, arguments)])
    except SystemExit as exit_:
        status = int(str(exit_.code))
    out, err = capsys.readouterr()
    assert status == 2 and out == "" and err.count("\n") == 1 and err.startswith("hwmark")
    return err


def damage(cluster: Path, node: int = 2) -> Path:
    path: Path = cluster / f"broker-{node}" / "t-0" / f"{0:020}.log"
    content = bytearray(path.read_bytes())
    content[70] ^= 1
    path.write_bytes(content)
    return path


def test_a_controller_is_none_of_the_brokers(cluster: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It has the cluster's metadata alone; so has a broker that has just joined, but with its checkpoints."""
    Broker(cluster, 101).partition(SOUND, topic="__cluster_metadata")
    Broker(cluster, 3).checkpoint("replication-offset-checkpoint", "t", 0, 0)
    (cluster / "broker-3" / "__cluster_metadata-0").mkdir()
    status, report, _ = answer(capsys, cluster)
    assert status == 0
    assert (report["brokers"], report["controllers"]) == (["broker 1", "broker 2", "broker 3"], ["controller 101"])
    assert main(["audit", str(cluster)]) == 0
    assert "3 brokers, 1 controller, 2 partitions" in capsys.readouterr().err


def test_json_of_a_sound_cluster(cluster: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, report, err = answer(capsys, cluster)
    assert status == 0 and err == "" and report.keys() >= FIELDS | {"seconds"}
    assert report["verdict"] == "holds" and report["valid"] is True and report["findings"] == []
    assert (report["brokers"], report["controllers"]) == (["broker 1", "broker 2"], [])
    assert len(report["directories"]) == 2
    assert (report["batches"], report["records"], report["bytes"]) == (4, 6, 2 * sum(map(len, SOUND)))
    (partition,) = report["partitions"]
    assert (partition["topic"], partition["partition"], partition["compared_below"]) == ("t", 0, 3)
    assert [(one["log_start"], one["log_end"]) for one in partition["replicas"]] == [(0, 3)] * 2


def test_json_of_damage(cluster: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = damage(cluster)
    status, report, _ = answer(capsys, cluster)
    assert status == 1 and report["verdict"] == "violated" and report["valid"] is False
    (finding,) = report["findings"]
    assert finding.keys() == OF_FINDING and finding["kind"] == "corrupt-batch" and finding["weight"] == "violation"
    assert (finding["broker"], finding["offsets"], finding["position"]) == ("broker 2", [0, 1], 0)
    assert finding["file"] == str(path) and report["kinds"] == {"corrupt-batch": 1}


def test_text(cluster: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", str(cluster)]) == 0
    out, err = capsys.readouterr()
    assert out == "" and "2 brokers, 1 partition, 2 replicas: 4 batches, 6 records" in err and "no violation" in err
    path = damage(cluster)
    assert main(["audit", str(cluster)]) == 1
    out, err = capsys.readouterr()
    assert out == "" and f"[{path}:0]" in err and "violated: corrupt-batch 1" in err


def test_many_findings_are_not_all_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Broker(tmp_path).partition([batch(0), *(batch(2 * i) for i in range(1, 40))])
    assert main(["audit", str(tmp_path)]) == 1
    err = capsys.readouterr().err
    assert err.count("offset-gap: broker") == 10 and "offset-gap: more of them" in err and "offset-gap 39" in err


def test_what_was_not_compared_is_told(cluster: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", str(cluster)]) == 0
    assert "not compared" not in capsys.readouterr().err
    (cluster / "broker-1" / "replication-offset-checkpoint").unlink()
    assert main(["audit", str(cluster)]) == 0
    assert "the replicas of 1 partition were not compared" in capsys.readouterr().err


def test_a_remark_is_no_violation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Broker(tmp_path, clean=False).partition([*SOUND, batch(3)[:40]])
    status, report, _ = answer(capsys, tmp_path)
    assert status == 0 and report["valid"] is True and report["kinds"] == {"torn-batch": 1}


def test_what_is_not_supported_is_unknown(
    cluster: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hwmark.checkers.audit import checks

    monkeypatch.setattr(checks, "is_old_message", lambda *_: True)
    path = damage(cluster)
    content = bytearray(path.read_bytes())
    content[16] = 1
    path.write_bytes(content)
    status, report, _ = answer(capsys, cluster)
    assert status == 3 and report["verdict"] == "unknown" and report["valid"] is None and str(path) in report["why"]


def test_where_the_directories_are(cluster: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ways: list[tuple[Path, ...]] = [
        (cluster,),
        (tmp_path,),
        (cluster / "broker-1", cluster / "broker-2"),
        (cluster / "broker-1" / "t-0", cluster / "broker-2" / "t-0"),
        (cluster / "broker-1", cluster / "broker-2" / "t-0"),
    ]
    for way in ways:
        status, report, _ = answer(capsys, *way)
        assert status == 0 and len(report["partitions"][0]["replicas"]) == 2, way
        assert report["partitions"][0]["compared_below"] == 3


def test_several_log_directories_of_one_broker(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Broker(tmp_path / "a").partition(SOUND)
    Broker(tmp_path / "b").partition(SOUND, number=1)
    status, report, _ = answer(capsys, tmp_path / "a", tmp_path / "b")
    assert status == 0 and report["brokers"] == ["broker 1"] and len(report["partitions"]) == 2


def test_a_lone_partition_without_anything_beside_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "mine" / "t-0"
    folder.mkdir(parents=True)
    (folder / f"{0:020}.log").write_bytes(b"".join(SOUND))
    for given in (folder, folder.parent):
        status, report, _ = answer(capsys, given)
        assert status == 0 and report["brokers"] == ["broker in mine"] and report["batches"] == 2


def test_an_empty_log_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Broker(tmp_path)
    status, report, _ = answer(capsys, tmp_path)
    assert status == 0 and report["partitions"] == [] and report["batches"] == 0


def test_folders_that_are_none(cluster: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "there is no such folder" in refused(capsys, tmp_path / "nowhere")
    assert "this is no folder" in refused(capsys, cluster / "broker-1" / "meta.properties")
    assert "expected a folder with meta.properties" in refused(capsys, empty)


def test_copies_and_mixtures(cluster: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "given twice" in refused(capsys, cluster, cluster / "broker-1")
    assert "given twice" in refused(capsys, cluster / "broker-1" / "t-0", cluster / "broker-1" / "t-0")
    other = Broker(tmp_path / "copy", 1)
    other.partition(SOUND)
    assert "broker 1 has t-0 here and in" in refused(capsys, cluster, tmp_path / "copy")
    (other.folder / "meta.properties").write_text("node.id=9\ncluster.id=another\n")
    assert "expected one cluster" in refused(capsys, cluster, tmp_path / "copy")


HOLD = """
import fcntl, sys
file = open(sys.argv[1], "w")
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_directory_that_a_broker_holds(cluster: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = cluster / "broker-2" / ".lock"
    lock.touch()
    assert main(["audit", str(cluster)]) == 0  # the file alone says nothing
    capsys.readouterr()
    with subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdin=-1, stdout=-1) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        line = refused(capsys, cluster)
        assert "running broker" in line and f"process {holder.pid}" in line and str(lock.parent) in line
        assert main(["audit", str(cluster), "--running"]) == 0
        assert holder.stdin is not None
        holder.stdin.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read(cluster: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (cluster / "broker-1").chmod(0)
    try:
        assert "permission denied" in refused(capsys, cluster)
    finally:
        (cluster / "broker-1").chmod(0o700)


def test_bad_options(cluster: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "expected --history too" in refused(capsys, cluster, "--topic", "t")
    assert "No such file" in refused(capsys, cluster, "--history", tmp_path / "none.jsonl")
    assert "whole number" in refused(capsys, cluster, "--workers", "0")
    history = tmp_path / "history.jsonl"
    history.write_text("{}\n")
    assert f"{history}:1:" in refused(capsys, cluster, "--history", history)


def test_a_history_that_misses_nothing(cluster: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = tmp_path / "history.jsonl"
    sent = {"process": 0, "f": "send", "time": 1}
    lines = [sent | {"type": "invoke", "value": [["send", 0, 1]]}, sent | {"type": "fail", "value": [["send", 0, 1]]}]
    history.write_text("".join(json.dumps(line) + "\n" for line in lines))
    status, report, _ = answer(capsys, cluster, "--history", history)
    assert status == 0 and report["located"] == []


def test_threads_say_the_same(cluster: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage(cluster)
    reports = [answer(capsys, cluster, "--workers", workers)[1] for workers in (1, 2, 5)]
    for report in reports:
        del report["seconds"]
    assert reports[0] == reports[1] == reports[2]


def test_kinds_are_explained() -> None:
    for name, kind in KINDS.items():
        assert name == name.lower() and " " not in name and kind.meaning and not kind.meaning.endswith(".")


def test_the_lock_of_this_process_is_not_in_the_way(cluster: Path) -> None:
    with (cluster / "broker-1" / ".lock").open("w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)  # such locks are of processes: nobody else holds it
        assert main(["audit", str(cluster)]) == 0
