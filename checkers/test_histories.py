"""Real clusters judged: eight recordings of Apache Kafka under faults, and the user's own with `--history FILE`.

A loss is expected in exactly the lossy recordings, with exactly these counts; the valid ones must show nothing at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from hwmark.checkers.histories import check
from hwmark.checkers.histories.text import describe
from hwmark.checkers.verdict import Holds, Violated
from hwmark.traces.errors import BadInputError
from hwmark.traces.history import read_history

RECORDED = Path(__file__).parents[1] / "traces" / "recorded"


@dataclass(frozen=True)
class Expected:
    """What a recording must show: acknowledged values, and each anomaly with its number of instances."""

    acknowledged: int
    missing: int = 0
    conflicts: int = 0
    lost: int = 0
    unseen: int = 0
    aborted_reads: int = 0
    unacknowledged_present: int = 0


VERDICTS = {
    "valid-k4-kill-acksall": Expected(2582),
    "valid-k4-shorttimeout": Expected(1317, unacknowledged_present=4),
    "valid-k4-laststand-elr-acksall": Expected(269, unacknowledged_present=1),
    "lossy-k4-laststand-noelr-acksall": Expected(348, missing=88, conflicts=88),
    "lossy-k3-laststand-acksall": Expected(299, missing=84, conflicts=84),
    "lossy-k4-ack1-part": Expected(1204, missing=96, conflicts=59, lost=96, unseen=96),
    "lossy-k3-unclean": Expected(567, missing=99, conflicts=99, lost=71, unseen=71),
    "lossy-k4-powerfail-acksall": Expected(
        201, missing=99, conflicts=16, lost=11, unseen=11, aborted_reads=3, unacknowledged_present=1
    ),
}


@pytest.mark.parametrize("name", VERDICTS)
def test_recording_is_judged(name: str) -> None:
    report = check(read_history(RECORDED / f"{name}.jsonl"))
    unseen = [entry["unseen"] for entry in report.anomalies.get("unseen", [])]
    found = Expected(
        acknowledged=sum(report.acknowledged.values()),
        missing=len(report.anomalies.get("missing-from-final-read", [])),
        conflicts=len(report.anomalies.get("inconsistent-offsets", [])),
        lost=len(report.anomalies.get("lost-write", [])),
        unseen=sum(sum(per_key.values()) for per_key in unseen),
        aborted_reads=len(report.anomalies.get("G1a", [])),
        unacknowledged_present=report.unacknowledged_present,
    )
    assert found == VERDICTS[name]
    assert "duplicate" not in report.anomalies
    assert isinstance(report.verdict(), Holds if name.startswith("valid") else Violated)


def test_every_recording_has_a_verdict() -> None:
    assert {path.stem for path in RECORDED.glob("*.jsonl")} == set(VERDICTS)


def test_power_failure_shows_an_aborted_value_to_committed_readers() -> None:
    report = check(read_history(RECORDED / "lossy-k4-powerfail-acksall.jsonl"))
    read = {(a["key"], a["value"], a["offset"]) for a in report.anomalies["G1a"]}
    assert read == {(0, 90, 41)}


NONE_GIVEN = pytest.param(None, marks=pytest.mark.skip(reason="judges what --history FILE names"), id="none given")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "given_history" in metafunc.fixturenames:
        metafunc.parametrize("given_history", metafunc.config.getoption("--history") or [NONE_GIVEN])


def test_given_history(given_history: str) -> None:
    """A recording of the user's holds; the failure names what it breaks."""
    failure = judged(given_history)
    if failure:
        pytest.fail(failure, pytrace=False)


def judged(file: str) -> str | None:
    """What speaks against a recording, None if nothing does."""
    try:
        history = read_history(file)
    except BadInputError as unusable:
        return f"unusable input: {unusable}"
    report = check(history)
    return None if report.valid else describe(history, report)
