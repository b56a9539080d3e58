"""Recordings of real clusters, made by `hwmark record` in this process, and what they say without a checker."""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from hwmark.checkers.cli import main
from hwmark.checkers.cluster.strays import strays
from hwmark.checkers.verdict import EXIT_VIOLATED

ATTEMPTS = 3
Value = tuple[str, int]
"""A value with its key."""


class Recording:
    """A recording: the command's exit status, the JSON that it told, and the records of the history."""

    def __init__(self, status: int, told: dict[str, Any], file: Path, logs: Path) -> None:
        self.status, self.told, self.file, self.logs = status, told, file, logs
        self.records: list[dict[str, Any]] = [json.loads(line) for line in file.read_text().splitlines()]

    @property
    def lost(self) -> int:
        """How many acknowledged values the checker misses."""
        return len(self.told["anomalies"].get("missing-from-final-read", []))

    @property
    def is_complete(self) -> bool:
        """Whether both closing reads came to the end of every partition."""
        (note,) = [record["value"] for record in self.records if record["f"] == "closing-reads"]
        return bool(note["complete"]) and self.told["incomplete"] is None

    @property
    def faults(self) -> Counter[str]:
        """What the nemesis did, by kind."""
        return Counter(note["f"] for note in self._notes if not _has_failed(note))

    @property
    def undone(self) -> list[dict[str, Any]]:
        """What the nemesis could not do, or waited for in vain where the next fault needs it."""
        return [note for note in self._notes if _has_failed(note)]

    @property
    def _notes(self) -> list[dict[str, Any]]:
        return [record for record in self.records if record["process"] == "nemesis" and record["f"] != "config"]

    @cached_property
    def acknowledged(self) -> dict[Value, dict[str, Any]]:
        """Every acknowledged value, with the record that says so."""
        return {
            (part[1], part[2][1] if isinstance(part[2], list) else part[2]): record
            for record in self._done("send", "txn")
            for part in record["value"]
            if part[0] == "send"
        }

    @cached_property
    def final(self) -> Counter[Value]:
        """How often the committed closing read has each value."""
        polls = [record for record in self._done("poll") if record.get("final") == "read_committed"]
        return Counter(read for record in polls for read, _ in _reads(record))

    @cached_property
    def gone(self) -> set[Value]:
        """What was acknowledged and is not in the closing read: the checker's losses, found plainly."""
        return {value for value in self.acknowledged if value not in self.final}

    @cached_property
    def processed(self) -> Counter[Value]:
        """How often the committed transactions of the group have processed each value."""
        times: Counter[Value] = Counter()
        for record in self._done("txn"):
            until = {
                key: offset for part in record["value"] if part[0] == "send_offsets" for key, offset in part[2].items()
            }
            times.update(value for value, offset in _reads(record) if offset < until.get(value[0], 0))
        return times

    @cached_property
    def members(self) -> set[int]:
        """The processes that were members of the group that transforms, one after the other or at once."""
        done = self._done("txn")
        return {record["process"] for record in done if any(part[0] == "send_offsets" for part in record["value"])}

    @property
    def moves(self) -> int:
        """How often partitions came to a member that got something done, or went from it."""
        return sum(len(each.get("rebalance-log", ())) for each in self.records if each["process"] in self.members)

    def leader_epochs(self) -> dict[str, int]:
        """Under how many leader epochs each partition of the workload was written, as the brokers' checkpoints say."""
        epochs: defaultdict[str, int] = defaultdict(int)
        for file in self.logs.glob("broker-*/data/hwmark-*/leader-epoch-checkpoint"):
            epochs[file.parent.name] = max(epochs[file.parent.name], len(file.read_text().splitlines()) - 2)
        return dict(epochs)

    def _done(self, *functions: str) -> list[dict[str, Any]]:
        return [record for record in self.records if record["type"] == "ok" and record["f"] in functions]


def _has_failed(note: dict[str, Any]) -> bool:
    value = note["value"] or {}
    return "failed" in value or (note["f"] == "await" and value["condition"] in ("ahead", "alone", "moved"))


def _reads(record: dict[str, Any]) -> list[tuple[Value, int]]:
    """What an operation read: values and offsets."""
    polls = [part[1] for part in record["value"] if part[0] == "poll" and len(part) > 1]
    return [((key, value), offset) for poll in polls for key, reads in poll.items() for offset, value in reads]


def record(
    capsys: pytest.CaptureFixture[str],
    folder: Path,
    *options: object,
    seconds: float,
    enough: Callable[[Recording], bool] = lambda recording: True,
) -> Recording:
    """Record, and again if that says nothing: a fault could not be done, or not enough happened.

    Each time lasts twice as long, for machines that are slow. What broke a promise is never thrown away.
    """
    for attempt in range(ATTEMPTS):
        place = folder / f"attempt-{attempt}"
        place.mkdir()
        recording = _record(capsys, place, "--seconds", str(seconds * 2**attempt), *map(str, options))
        if recording.status == EXIT_VIOLATED or (not recording.undone and enough(recording)):
            return recording
    pytest.fail(f"{ATTEMPTS} recordings say nothing; the last one could not do {recording.undone or 'enough'}")


def _record(capsys: pytest.CaptureFixture[str], folder: Path, *options: str) -> Recording:
    """One recording; nothing of its cluster may live on."""
    file, logs = folder / "history.jsonl", folder / "logs"
    prefix = f"{folder.parent.name}-{folder.name}"  # on a cluster that others record on too
    where = ["--prefix", prefix] if "--bootstrap-servers" in options else ["--dir", str(logs)]
    status = main(["record", "-o", str(file), *where, *options, "--json"])
    printed = capsys.readouterr()
    print(printed.err, file=sys.stderr)  # with the seed, for whoever has to look at a failure
    assert not strays(logs)
    return Recording(status, json.loads(printed.out), file, logs)
