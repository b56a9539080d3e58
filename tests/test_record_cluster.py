"""`hwmark record` on real brokers: its own cluster, and one that dies under it."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hwmark.checkers.cli import main
from hwmark.checkers.cluster.cluster import Cluster, create, strays
from hwmark.checkers.cluster.distribution import resolve
from hwmark.traces.history import Closing, read_history

pytestmark = pytest.mark.cluster
NEWEST = "4.3.1"


def answer(capsys: pytest.CaptureFixture[str], *options: object) -> tuple[int, dict[str, Any]]:
    status = main(["record", *map(str, options), "--json"])
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return status, told


def test_it_just_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Clients of all kinds, on a cluster that comes and goes; compaction takes nothing away."""
    file, compacted = tmp_path / "h.jsonl", ("--topic-config", "cleanup.policy=compact")
    status, told = answer(capsys, "--seconds", 4, "--seed", 1, "-o", file, "--churn", 1, *compacted)
    assert (status, told["valid"], told["linearizable"], told["seed"]) == (0, True, "linearizable", 1)
    history = read_history(file)
    assert history.incomplete is None and history.configuration["ver"] == NEWEST
    assert set(history.operations.closing.tolist()) == {Closing.NONE, Closing.READ_COMMITTED, Closing.READ_UNCOMMITTED}
    done = Counter((record["f"], record["type"]) for record in map(json.loads, file.read_text().splitlines()))
    for f in ("send", "txn", "poll", "assign", "subscribe"):
        assert done[f, "ok"] > 0, f
    assert len(history.group_offsets.offset) > 0 and len(history.rebalanced.key) > 0
    assert not [process for process in strays() if str(tmp_path) in " ".join(process.cmdline())]


def kill_when_recorded(cluster: Cluster, file: Path) -> None:
    deadline = time.monotonic() + 60
    while b'"ok"' not in (file.read_bytes() if file.exists() else b"") and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1)
    cluster.stop(signal.SIGKILL)


def test_a_cluster_that_dies_leaves_a_history_that_is_unknown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    short = ("closing.FENCE_TIMEOUT", "closing.SYNC_TIMEOUT", "closing.SETTLE_TIMEOUT", "topics.DELETE_TIMEOUT")
    for name in (*short, "recorder.END_SLACK"):
        monkeypatch.setattr(f"hwmark.checkers.record.{name}", 1.0)
    with create(tmp_path / "cluster", resolve(NEWEST), brokers=1) as dying:
        dying.start()
        killer = threading.Thread(target=kill_when_recorded, args=(dying, tmp_path / "h.jsonl"))
        killer.start()
        options = ("--seconds", 6, "-o", tmp_path / "h.jsonl", "--transaction-timeout", 2000, "--prefix", "p")
        status, told = answer(capsys, "--bootstrap-servers", dying.bootstrap_servers, *options)
        killer.join()
    assert (status, told["valid"]) == (3, None) and told["incomplete"]
    assert sum(told["acknowledged"].values()) > 0
    assert main(["history", str(tmp_path / "h.jsonl")]) == 3
