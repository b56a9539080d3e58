"""Real clusters judged by what each partition's log must look like in time, not by anomalies: recordings under faults.

The logs of the valid recordings are linearizable, and so are those of the one in which producers asked for acks=1: what
it lost had been promised to nobody, and no client saw it. Taken for promises, its acknowledgements are violated.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hwmark.checkers.linearizability.log_history import check_history
from hwmark.checkers.linearizability.log_rule import Mode
from hwmark.checkers.verdict import Holds, Violated
from hwmark.traces.history import read_history

RECORDED = Path(__file__).parents[1] / "traces" / "recorded"
HOLDS = {"valid-k4-kill-acksall", "valid-k4-shorttimeout", "valid-k4-laststand-elr-acksall", "lossy-k4-ack1-part"}
RECORDINGS = sorted(path.stem for path in RECORDED.glob("*.jsonl"))


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("name", RECORDINGS)
def test_partition_logs_of_a_recording_are_judged(name: str, mode: Mode) -> None:
    history = read_history(RECORDED / f"{name}.jsonl")
    judgements = check_history(history, mode)
    assert set(judgements) == set(history.keys)
    expected = Holds if name in HOLDS else Violated
    assert {type(judgement.verdict) for judgement in judgements.values()} == {expected}


@pytest.mark.parametrize("name", RECORDINGS)
def test_every_acknowledgement_taken_for_a_promise(name: str) -> None:
    judgements = check_history(read_history(RECORDED / f"{name}.jsonl"), every_acknowledgement_counts=True)
    expected = Holds if name.startswith("valid") else Violated
    assert expected in {type(judgement.verdict) for judgement in judgements.values()}
    if expected is Holds:
        assert all(isinstance(judgement.verdict, Holds) for judgement in judgements.values())


def test_a_witness_names_operations_of_the_recording() -> None:
    history = read_history(RECORDED / "lossy-k3-laststand-acksall.jsonl")
    verdict = check_history(history)[0].verdict
    assert isinstance(verdict, Violated) and verdict.name == "agreement"
    told, read = "append of 101 at offset 25", "offset 25 holds 174"
    assert told in verdict.witness.sentence and read in verdict.witness.sentence
    assert all(0 <= row < len(history.operations) for row in verdict.witness.operations)
    assert len(verdict.witness.operations) == 2
