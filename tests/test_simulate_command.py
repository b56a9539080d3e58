"""`hwmark simulate`: runs from seeds, their verdicts and their files."""

from __future__ import annotations

import os
from pathlib import Path

import orjson
import pytest
from hwmark.checkers import cli
from hwmark.checkers.cli import main
from hwmark.checkers.commands import simulate
from hwmark.checkers.histories import check
from hwmark.checkers.simulation.export import verify_run
from hwmark.checkers.simulation.processes import in_processes
from hwmark.checkers.verdict import StoppedError
from hwmark.refimpl.replica import Replica
from hwmark.traces.history import read_history
from hwmark.traces.trace import read_trace


def test_a_seed_is_printed_first_and_gives_the_same_run_again(capsys: pytest.CaptureFixture[str]) -> None:
    """What was drawn is what is drawn again."""
    assert main(["simulate"]) == 0
    seed = capsys.readouterr().err.splitlines()[0].removeprefix("seed ")
    reports = []
    for _ in range(2):
        assert main(["simulate", "--seed", seed, "--json"]) == 0
        reports.append(orjson.loads(capsys.readouterr().out))
    assert reports[0]["seed"] == int(seed)
    assert reports[0]["steps"] == reports[1]["steps"] > 500


def test_several_runs_say_the_same_in_one_process_and_in_two(capsys: pytest.CaptureFixture[str]) -> None:
    """Outcomes come in the order of their seeds."""
    steps = []
    for workers in ("1", "2"):
        assert main(["simulate", "--seed", "3", "--runs", "5", "--workers", workers, "--json"]) == 0
        steps.append(orjson.loads(capsys.readouterr().out)["steps"])
    assert steps[0] == steps[1]


def test_a_run_is_kept_as_trace_and_as_history(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both say what they say in memory."""
    trace, history = tmp_path / "run.ndjson", tmp_path / "run.jsonl"
    assert main(["simulate", "--seed", "16", "--trace", str(trace), "--history", str(history)]) == 0
    assert verify_run(read_trace(trace)) is None
    assert check(read_history(history), via="subscribe").valid
    assert main(["draw", str(trace), "-o", str(tmp_path / "run.svg"), "--steps", "1-50"]) == 0
    assert main(["replay", str(trace)]) == 0
    assert capsys.readouterr().err.endswith("the cluster takes the same steps\n")


def test_a_broken_promise_is_exit_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A leader that raises its high watermark at once commits what only it has."""

    def maybe_increment_high_watermark(self: Replica, now: int) -> None:
        if self.is_leader:
            self.log.update_high_watermark(self.log.log_end_offset)

    monkeypatch.setattr(Replica, "maybe_increment_high_watermark", maybe_increment_high_watermark)
    file = tmp_path / "broken.ndjson"
    arguments = ["simulate", "--seed", "0", "--runs", "4", "--workers", "1", "--json", "--trace", str(file)]
    assert main(arguments) == 1
    report = orjson.loads(capsys.readouterr().out)
    assert report["verdict"] == "violated"
    assert report["failures"][0]["checker"] == "promises"
    assert report["kept"] == report["failures"][0]["seed"]
    assert read_trace(file).property == report["failures"][0]["promise"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "kip_1=on"], "there is no 'kip_1'"),
        (["--set", "kip_101=maybe"], "expected on or off"),
        (["--set", "min_insync_replicas=two"], "expected a whole number"),
        (["--set", "request_timeout=0"], "expected a whole number from 1 on, not '0'"),
        (["--trace", "/nowhere/run.ndjson"], "--trace: there is no folder /nowhere"),
        (["--history", "/nowhere/run.jsonl"], "--history: there is no folder /nowhere"),
        (["--history", "/"], "--history /: is a directory"),
        (["--trace", "one.ndjson", "--history", "./one.ndjson"], "--history ./one.ndjson: the trace is written there"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 2, and what was wrong, before anything is run."""
    assert main(["simulate", "--seed", "3", *arguments]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert said in line


@pytest.mark.parametrize("verdict", ["unknown", "violated"])
def test_who_stops_it_learns_what_was_found_till_then(
    verdict: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 3, but for a promise that was broken already."""
    broken = {4: ("promises", "a promise", "broken")} if verdict == "violated" else {}

    def judge(seed: int, changes: object) -> simulate.Outcome:
        if seed == 6:
            raise KeyboardInterrupt
        return simulate.Outcome(seed, 10, *broken.get(seed, ()))

    monkeypatch.setattr(simulate, "_judge", judge)
    arguments = ["simulate", "--seed", "3", "--runs", "1" + "0" * 30, "--workers", "1"]
    assert main([*arguments, "--json"]) == (1 if broken else 3)
    report = orjson.loads(capsys.readouterr().out)
    assert (report["verdict"], report["runs"], report["steps"]) == (verdict, 3, 30)
    assert [failure["seed"] for failure in report["failures"]] == [*broken]
    assert main(arguments) == (1 if broken else 3)
    assert "of 3 runs broke a promise" in capsys.readouterr().err


def test_work_in_processes_is_stopped_with_whoever_wanted_it() -> None:
    """However much of it there is, what was not begun never is; and a process that dies is said to have died."""
    results = in_processes(abs, range(-5, 10**30), 2)
    assert {next(results) for _ in range(20)} <= {(item, abs(item)) for item in range(-5, 100)}
    results.close()  # type: ignore[attr-defined]
    assert sorted(in_processes(abs, range(-9, 9), 2)) == [(item, abs(item)) for item in range(-9, 9)]
    with pytest.raises(StoppedError, match="killed"):
        [*in_processes(os._exit, [7], 2)]


def test_who_stops_it_before_it_begins_learns_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Reading the command line takes a moment, too."""

    def parser() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "parser", parser)
    assert main(["simulate"]) == 3
    assert capsys.readouterr().err == "hwmark: stopped\n"


def test_a_process_that_dies_leaves_the_verdict_unknown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 3, in one line."""

    def judge(seed: int, changes: object) -> None:
        raise StoppedError("one of the processes was killed")

    monkeypatch.setattr(simulate, "_judge", judge)
    assert main(["simulate", "--seed", "3"]) == 3
    assert capsys.readouterr().err.splitlines()[1:] == ["hwmark: stopped: one of the processes was killed"]


def test_a_version_can_be_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    """The rest is drawn as before."""
    assert main(["simulate", "--seed", "3", "--set", "kip_966=on", "--set", "min_insync_replicas=2", "--json"]) == 0
    assert orjson.loads(capsys.readouterr().out)["verdict"] == "holds"
