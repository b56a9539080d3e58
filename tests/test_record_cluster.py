"""`hwmark record` on real brokers: its own cluster, other people's, and clusters that die under it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hwmark.checkers.cli import main
from hwmark.checkers.cluster.cluster import Cluster, create, strays
from hwmark.checkers.cluster.distribution import resolve
from hwmark.checkers.cluster.node import DOWN
from hwmark.traces.history import Closing, read_history

pytestmark = pytest.mark.cluster
NEWEST = "4.3.1"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("real") / "cluster"
    with create(folder, resolve(NEWEST), settings={"min.insync.replicas": "2"}) as cluster:
        cluster.start()
        yield cluster


def answer(capsys: pytest.CaptureFixture[str], *options: object) -> tuple[int, dict[str, Any]]:
    status = main(["record", *map(str, options), "--json"])
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return status, told


def topics_of(cluster: Cluster) -> set[str]:
    return {one["topic"] for one in cluster.partitions() if not one["topic"].startswith("__")}


def await_topics(cluster: Cluster, expected: set[str]) -> None:
    """Brokers learn of a deletion one after the other."""
    deadline = time.monotonic() + 30
    while topics_of(cluster) != expected and time.monotonic() < deadline:
        time.sleep(0.1)
    assert topics_of(cluster) == expected


def test_it_just_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Clients of all kinds, on a cluster that comes and goes."""
    file = tmp_path / "h.jsonl"
    status, told = answer(capsys, "--seconds", 4, "--seed", 1, "-o", file, "--churn", 1)
    assert (status, told["valid"], told["linearizable"], told["seed"]) == (0, True, "linearizable", 1)
    history = read_history(file)
    assert history.incomplete is None and history.configuration["ver"] == NEWEST
    assert set(history.operations.closing.tolist()) == {Closing.NONE, Closing.READ_COMMITTED, Closing.READ_UNCOMMITTED}
    done = Counter((record["f"], record["type"]) for record in map(json.loads, file.read_text().splitlines()))
    for f in ("send", "txn", "poll", "assign", "subscribe"):
        assert done[f, "ok"] > 0, f
    assert len(history.group_offsets.offset) > 0 and len(history.rebalanced.key) > 0
    assert not [process for process in strays() if str(tmp_path) in " ".join(process.cmdline())]


def test_on_another_cluster_its_topics_are_its_own_and_go_again(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same seed asks for the same, as far as both recordings got."""
    there, file, again = ("--bootstrap-servers", cluster.bootstrap_servers), tmp_path / "h.jsonl", tmp_path / "a.jsonl"
    short = ("--seconds", 2, "--seed", 5)
    assert answer(capsys, *there, *short, "-o", file)[0] == 0
    await_topics(cluster, set())
    assert cluster.bootstrap_servers not in file.read_text()
    assert answer(capsys, *there, *short, "-o", again, "--keep-topics", "--prefix", "mine")[0] == 0
    await_topics(cluster, {"mine-0", "mine-out"})
    for one, other in zip(asked(file, "hwmark-5"), asked(again, "mine"), strict=True):
        both = min(len(one), len(other))
        assert both > 1 and one[:both] == other[:both]
    assert main(["record", *there, "--prefix", "mine", "-o", str(file)]) == 2
    assert "topic mine-0 exists" in capsys.readouterr().err


def asked(file: Path, prefix: str) -> list[list[Any]]:
    """What each of the producers sent, plain ones and transactional ones, and which transactions it meant to abort."""
    clients: list[list[Any]] = [[], [], []]
    for record in map(json.loads, file.read_text().replace(f"{prefix}-", "").splitlines()):
        if record["type"] == "invoke" and record["f"] in ("send", "txn") and record["value"][0][0] == "send":
            clients[record["value"][0][2] % 5].append((record["value"], record.get("abort")))
    return clients


def test_a_cluster_that_dies_leaves_a_history_that_is_unknown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FENCE_TIMEOUT", "SYNC_TIMEOUT", "SETTLE_TIMEOUT"):
        monkeypatch.setattr(f"hwmark.checkers.record.closing.{name}", 1.0)
    with create(tmp_path / "cluster", resolve(NEWEST)) as dying:
        dying.start()
        killer = threading.Timer(5.0, lambda: dying.stop(signal.SIGKILL))
        killer.start()
        options = ("--seconds", 8, "-o", tmp_path / "h.jsonl", "--transaction-timeout", 2000, "--prefix", "p")
        status, told = answer(capsys, "--bootstrap-servers", dying.bootstrap_servers, *options)
        killer.join()
    assert (status, told["valid"]) == (3, None) and told["incomplete"]
    assert sum(told["acknowledged"].values()) > 0
    assert main(["history", str(tmp_path / "h.jsonl")]) == 3


def test_an_interrupt_ends_the_workload_and_still_reads_everything(cluster: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "h.jsonl"
    command = [sys.executable, "-m", "hwmark.checkers.cli", "record", "--bootstrap-servers", cluster.bootstrap_servers]
    command += ["--seconds", "600", "-o", str(file), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ)
    while not file.exists() or file.stat().st_size < 20_000:
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate()
    told = json.loads(out)
    assert (process.returncode, told["valid"], told["stopped"]) == (0, True, True)
    assert read_history(file).incomplete is None
    await_topics(cluster, {"mine-0", "mine-out"})


def test_a_wrong_setting_of_a_topic_is_one_line(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--bootstrap-servers", cluster.bootstrap_servers, "-o", str(tmp_path / "h.jsonl")]
    assert main(["record", *options, "--topic-config", "no.such=1", "--prefix", "q"]) == 2
    assert "topic q-0 cannot be made" in capsys.readouterr().err
    assert main(["record", *options, "--replicas", "9", "--prefix", "q"]) == 2
    assert "topic q-0 cannot be made" in capsys.readouterr().err
    assert all(node.state() != DOWN for node in cluster.nodes)
