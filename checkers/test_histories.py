"""Real clusters judged: eight recordings of Apache Kafka under faults, and the user's own with `--history FILE`.

A loss is expected in exactly the lossy recordings, with exactly these counts; the valid ones must show nothing at all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
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
    """What a recording must show: acknowledged values, and how many instances of which anomalies, all others none.

    Unseen values are counted one by one. `unacknowledged_present` are values of the closing read that nobody was
    promised.
    """

    acknowledged: int
    anomalies: dict[str, int] = field(default_factory=dict)
    unacknowledged_present: int = 0


def lost(missing: int, conflicts: int, **others: int) -> dict[str, int]:
    """The anomalies of every loss, and others."""
    named = {name.replace("_", "-"): count for name, count in others.items()}
    return {"missing-from-final-read": missing, "inconsistent-offsets": conflicts} | named


VERDICTS = {
    "valid-k4-kill-acksall": Expected(2582),
    "valid-k4-shorttimeout": Expected(1317, unacknowledged_present=4),
    "valid-k4-laststand-elr-acksall": Expected(269, unacknowledged_present=1),
    "lossy-k4-laststand-noelr-acksall": Expected(348, lost(88, 88)),
    "lossy-k3-laststand-acksall": Expected(299, lost(84, 84)),
    "lossy-k4-ack1-part": Expected(1204, lost(96, 59, lost_write=96, unseen=96, int_poll_skip=14, poll_skip=1)),
    "lossy-k3-unclean": Expected(567, lost(99, 99, lost_write=71, unseen=71, torn_transaction=1)),
    # The skips: values written after the logs were cut lie at offsets that markers and aborted values had before.
    "lossy-k4-powerfail-acksall": Expected(
        201,
        lost(99, 16, lost_write=11, unseen=11, G1a=3, int_poll_skip=8, poll_skip=8, torn_transaction=3),
        unacknowledged_present=1,
    ),
}


@pytest.mark.parametrize("name", VERDICTS)
def test_recording_is_judged(name: str) -> None:
    report = check(read_history(RECORDED / f"{name}.jsonl"))
    counts = {kind: len(found) for kind, found in report.anomalies.items()}
    if "unseen" in counts:
        counts["unseen"] = sum(sum(entry["unseen"].values()) for entry in report.anomalies["unseen"])
    found = Expected(sum(report.acknowledged.values()), counts, report.unacknowledged_present)
    assert found == VERDICTS[name]
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
