"""`hwmark record` on real brokers: its own cluster, and one that dies under it."""

from __future__ import annotations

import json
import signal
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hwmark.checkers.cli import main
from hwmark.checkers.cluster.cluster import create, strays
from hwmark.checkers.cluster.distribution import resolve
from hwmark.traces.history import Closing, read_history

pytestmark = pytest.mark.cluster
NEWEST = "4.3.1"


def answer(capsys: pytest.CaptureFixture[str], *options: object) -> tuple[int, dict[str, Any]]:
    status = main(["record", *map(str, options), "--json"])
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return status, told


@pytest.mark.parametrize("version", ["3.9.2", NEWEST])
def test_it_just_works(version: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Clients of all kinds, on a cluster that comes and goes."""
    file = tmp_path / "h.jsonl"
    status, told = answer(capsys, "--version", version, "--seconds", 3, "--seed", 1, "-o", file, "--churn", 1)
    assert (status, told["valid"], told["linearizable"], told["seed"]) == (0, True, "linearizable", 1)
    history = read_history(file)
    assert history.incomplete is None and history.configuration["ver"] == version
    assert set(history.operations.closing.tolist()) == {Closing.NONE, Closing.READ_COMMITTED, Closing.READ_UNCOMMITTED}
    done = Counter((record["f"], record["type"]) for record in map(json.loads, file.read_text().splitlines()))
    for f in ("send", "txn", "poll", "assign", "subscribe"):
        assert done[f, "ok"] > 0, f
    assert len(history.group_offsets.offset) > 0 and len(history.rebalanced.key) > 0
    assert not [process for process in strays() if str(tmp_path) in " ".join(process.cmdline())]


def test_a_cluster_that_dies_leaves_a_history_that_is_unknown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    short = ("closing.FENCE_TIMEOUT", "closing.SYNC_TIMEOUT", "closing.SETTLE_TIMEOUT", "topics.DELETE_TIMEOUT")
    for name in (*short, "recorder.END_SLACK"):
        monkeypatch.setattr(f"hwmark.checkers.record.{name}", 1.0)
    with create(tmp_path / "cluster", resolve(NEWEST), brokers=1) as dying:
        dying.start()
        killer = threading.Timer(4.0, lambda: dying.stop(signal.SIGKILL))
        killer.start()
        options = ("--seconds", 6, "-o", tmp_path / "h.jsonl", "--transaction-timeout", 2000, "--prefix", "p")
        status, told = answer(capsys, "--bootstrap-servers", dying.bootstrap_servers, *options)
        killer.join()
    assert (status, told["valid"]) == (3, None) and told["incomplete"]
    assert sum(told["acknowledged"].values()) > 0
    assert main(["history", str(tmp_path / "h.jsonl")]) == 3
