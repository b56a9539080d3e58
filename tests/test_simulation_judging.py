"""Is what a trial recorded judged? Runs that were fine, changed by hand; and outcomes reach the scripts that wait."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
from hwmark.checkers.simulation import trial
from hwmark.checkers.simulation.cluster import Pause, Resume
from hwmark.checkers.simulation.plan import Focus, draw_plan
from hwmark.checkers.simulation.promises import BrokenPromiseError
from hwmark.checkers.simulation.run import Run
from hwmark.checkers.simulation.scenarios import small
from hwmark.checkers.simulation.schedule import TimedSchedule
from hwmark.checkers.simulation.stage import Ask, ObservedCluster, Script, Stage
from hwmark.refimpl.producer import Send

QUIET = Focus(durations=(800,), acks=(-1,), idempotent=1.0, transactions=1.0, transforms=1.0, zombies=0.0,
              kip_890=1.0, faults=(), unreliable=0.0)  # fmt: skip


@pytest.fixture
def run() -> Run:
    found = Run(draw_plan(4, QUIET))
    assert found.go() is None and found.forgives == () and found.judge() is None
    return found


def sends(run: Run) -> list[dict[str, Any]]:
    return [one for one in run.recorder.records if (one["type"], one["f"]) == ("ok", "send")]


def test_a_record_at_the_offset_of_another_is_found_in_the_history(run: Run) -> None:
    one, other = sends(run)[:2]
    one["value"][0][2][0] = other["value"][0][2][0] + 1
    failure = run.judge()
    assert failure is not None and failure.checker == "history"


def test_a_record_that_was_read_before_it_was_sent_is_found_by_linearizability(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the history's anomalies are not looked for."""
    one = sends(run)[0]
    one["value"][0][2][0] += 1
    monkeypatch.setattr(trial, "check", lambda *_, **__: type("Report", (), {"bad_error_types": ()}))
    failure = run.judge()
    assert failure is not None and failure.checker == "linearizability"


def test_two_results_of_one_input_are_found(run: Run) -> None:
    origins, read = run.applications.origins, run.applications.closing["read_committed"]
    one, other = [value for value in read if value in origins][:2]
    origins[other] = origins[one]
    failure = run.judge()
    assert failure is not None and failure.promise == trial.EXACTLY_ONCE


def test_a_cluster_that_does_not_recover_is_found(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    [replica, *_] = [one for broker in run.brokers() for one in broker.replicas.values() if one.is_leader]
    assert run._undecided() is None
    replica.log.log_end_offset += 1
    assert "is replicated up to" in str(run._undecided())
    monkeypatch.setattr(run, "_undecided", lambda: "it hangs")
    with pytest.raises(BrokenPromiseError, match="it hangs, 60000 ms after all faults ended"):
        run.recover()


def test_a_history_is_written_whole(run: Run, tmp_path: Path) -> None:
    run.recorder.write(str(tmp_path / "history.jsonl"))
    assert len((tmp_path / "history.jsonl").read_text().splitlines()) == len(run.recorder.records)


def test_after_info_a_user_acts_under_another_number(run: Run) -> None:
    recorder = run.recorder
    numbers = [recorder.process("a new user")]
    for outcome in ("ok", "fail", "info"):
        recorder.invoke(0, "a new user", "poll", [["poll"]])
        recorder.complete(0, "a new user", outcome, "poll", [["poll"]])
        numbers.append(recorder.process("a new user"))
    assert numbers[0] == numbers[1] == numbers[2] < numbers[3]


def test_each_outcome_comes_to_whoever_waits_for_it_in_order() -> None:
    """Of calls that are made at once, and of calls of a client that stood still meanwhile."""
    schedule = TimedSchedule(ObservedCluster(small()), Random(0))
    stage, offsets = Stage(schedule), list[Any]()
    schedule.run_until(time=1_000)

    def script() -> Script:
        outcomes = yield [Ask("producer-1", Send("x", None, value, 0)) for value in (1, 2, 3)]
        offsets.extend(outcome.value[1] for outcome in outcomes)

    for begun in (0, 3):
        if begun:
            schedule.apply(Pause("producer-1", stage.now))
        stage.start(script())
        schedule.run_until(time=stage.now + 2_000)
        assert len(offsets) == 3
        if begun:
            schedule.apply(Resume("producer-1", stage.now))
            schedule.run_until(time=stage.now + 2_000)
    assert offsets == [*range(6)]
