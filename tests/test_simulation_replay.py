"""Runs of whole clusters: recorded as traces, taken again, and refused where they were tampered with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hwmark.checkers.cli import main
from hwmark.checkers.simulation.cluster import (
    Action,
    Cluster,
    ClusterSetup,
    Crash,
    Pause,
    Restart,
    Resume,
    StepClock,
    Tick,
    WipeDisk,
)
from hwmark.checkers.simulation.export import TraceRecorder, actions_of, export_run, state_of, verify_run
from hwmark.checkers.simulation.schedule import NetworkConfig, TimedSchedule
from hwmark.refimpl.config import OFFSETS_TOPIC, ClusterConfig, Topic
from hwmark.refimpl.consumer import Assign, Consumer, ConsumerConfig, Poll, PollResult
from hwmark.refimpl.producer import ProducerConfig, Send
from hwmark.traces.changes import changes_between
from hwmark.traces.trace import Trace, read_trace, write_trace

TOPICS = (Topic("x", ((1, 2, 3),)), Topic(OFFSETS_TOPIC, ((2, 3, 1),), True))
TIMES: dict[str, Any] = {"zookeeper_session_timeout": 600, "request_timeout": 200, "replica_fetch_wait_max": 50}
SETUP = ClusterSetup(
    ClusterConfig(topics=TOPICS, **TIMES),
    (ProducerConfig(acks=1, enable_idempotence=False), ProducerConfig()),
    (ConsumerConfig(),),
)
FAULTY = NetworkConfig(1, 20, drop=0.02, duplicate=0.02, reorder=0.02)


def a_run() -> TimedSchedule:
    """A producer and a consumer, and faults of every kind meanwhile."""
    schedule = TimedSchedule(Cluster(SETUP), Random(7), FAULTY)
    cluster = schedule.cluster
    schedule.run_until(time=500)
    schedule.invoke("consumer-1", Assign((("x", 0),)))
    faults: tuple[Callable[[int], Action], ...] = (
        lambda now: Crash("broker-3", False, now),
        lambda now: WipeDisk("broker-3", now),
        lambda now: Restart("broker-3", now),
        lambda now: Pause("broker-2", now),
        lambda now: StepClock("broker-1", -30, now),
        lambda now: Resume("broker-2", now),
        lambda now: Crash("broker-1", True, now),
        lambda now: Tick("zookeeper", now),
    )
    for number, fault in enumerate(faults):
        schedule.invoke("producer-1", Send("x", None, number))
        schedule.invoke("consumer-1", Poll(200))
        schedule.run_until(time=1_000 + 300 * number)
        schedule.apply(fault(cluster.now))
    return schedule


@pytest.fixture(scope="module")
def schedule() -> TimedSchedule:
    return a_run()


@pytest.fixture(scope="module")
def trace(schedule: TimedSchedule) -> Trace:
    return export_run(SETUP, schedule.actions or [], seed=7)


def test_the_run_is_a_run(schedule: TimedSchedule) -> None:
    """Otherwise nothing below says much: records were written and read, and everything happened."""
    kinds = {type(action).__name__ for action in schedule.actions or []}
    assert kinds >= {"Start", "Deliver", "Drop", "Duplicate", "Tick", "Invoke", "Crash", "WipeDisk", "StepClock"}
    outcomes = [one.outcome for one in schedule.returned]
    written = {value for outcome in outcomes if not isinstance(value := outcome.value, PollResult)}
    read = {record[:2] for outcome in outcomes if isinstance(outcome.value, PollResult) for record in outcome.value[0]}
    assert written & read


def test_the_same_seed_is_the_same_run(schedule: TimedSchedule) -> None:
    again = a_run()
    assert again.actions == schedule.actions and again.returned == schedule.returned
    assert again.cluster.frozen() == schedule.cluster.frozen()


def test_a_trace_has_the_run_and_is_taken_again(tmp_path: Path, schedule: TimedSchedule, trace: Trace) -> None:
    write_trace(tmp_path / "run.ndjson", trace)
    read = read_trace(tmp_path / "run.ndjson")
    assert read == trace and actions_of(read) == schedule.actions and read.seed == 7
    assert verify_run(read) is None


def test_what_is_recorded_is_what_a_fresh_look_sees(trace: Trace) -> None:
    """Views are made again only of machines that a step can have changed."""
    cluster = Cluster(SETUP)
    recorder = TraceRecorder(cluster)
    for action in actions_of(trace):
        before = recorder.state
        step = recorder.apply(action)
        looked = state_of(cluster)
        assert step.changes == changes_between(before, recorder.state)
        assert {**looked, "returned": recorder.state["returned"]} == recorder.state
    assert list(trace.states())[-1] == recorder.state


def test_a_message_is_in_the_network_from_the_step_that_sends_it_to_that_which_delivers_it(trace: Trace) -> None:
    states = list(trace.states())
    for step, before, after in zip(trace.steps, states, states[1:], strict=False):
        gone = set(before["network"]) - set(after["network"])  # type: ignore[arg-type]
        if step.action in ("Deliver", "Drop"):
            assert gone == {str(step.arguments["message"])}
        elif step.action != "Crash":
            assert not gone


def test_brokers_show_their_partitions(trace: Trace) -> None:
    last = json.loads(json.dumps(list(trace.states())[-1]))["machines"]
    assert {name: view["state"] for name, view in last.items()} == {
        "zookeeper": "up",
        "broker-1": "down",
        "broker-2": "up",
        "broker-3": "up",
        "producer-1": "up",
        "producer-2": "up",
        "consumer-1": "up",
    }
    down = last["broker-1"]["partitions"]["x-0"]
    assert down["role"] == "offline" and down["log_end_offset"] == len(down["log"]) > 0
    assert last["broker-2"]["partitions"]["x-0"]["role"] == "follower" and last["broker-1"]["clock"] == -30
    assert [type(row) for row in down["log"]] == [list] * len(down["log"])


def test_a_machine_that_fails_ends_the_trace_and_fails_again(monkeypatch: Any, schedule: TimedSchedule) -> None:
    def fail(*_: Any) -> None:
        raise KeyError("lost")

    monkeypatch.setattr(Consumer, "step", fail)
    broken = export_run(
        SETUP, schedule.actions or [], violated="no-error", witness={"machine": "consumer-1", "at": (1,)}
    )
    assert len(broken.steps) == 1 and verify_run(broken) == "step 1: Start fails: KeyError('lost')"
    assert (broken.property, broken.witness) == ("no-error", {"machine": "consumer-1", "at": [1]})


def tampered(trace: Trace, path: Path, change: Callable[[list[Any]], Any]) -> str:
    """The file of the trace after a change of its lines."""
    write_trace(path, trace)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    change(lines)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def where(trace: Trace, action: str) -> int:
    """The line of the first such step that changes a machine."""
    changing = [
        number
        for number, step in enumerate(trace.steps, 1)
        if step.action == action and any(path.startswith("machines") for path in step.changes)
    ]
    return changing[0]


def test_replay_accepts_the_trace(tmp_path: Path, trace: Trace, capsys: pytest.CaptureFixture[str]) -> None:
    file = tampered(trace, tmp_path / "run.ndjson", lambda lines: None)
    assert main(["replay", file, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verified"] is True


def test_draw_accepts_the_trace(tmp_path: Path, trace: Trace) -> None:
    file = tampered(trace, tmp_path / "run.ndjson", lambda lines: lines.__delitem__(slice(300, None)))
    assert main(["draw", file, "-o", str(tmp_path / "run.dot")]) == 0
    assert "broker-1" in (tmp_path / "run.dot").read_text()


def test_a_changed_outcome_is_told_with_its_step(tmp_path: Path, trace: Trace, capsys: Any) -> None:
    number = where(trace, "Deliver")

    def change(lines: list[Any]) -> None:
        path = next(path for path in lines[number]["changes"] if path.startswith("machines"))
        lines[number]["changes"][path] = "tampered"

    assert main(["replay", tampered(trace, tmp_path / "run.ndjson", change), "--json"]) == 1
    mismatch = json.loads(capsys.readouterr().out)["mismatch"]
    assert mismatch.startswith(f"step {number}: Deliver leads to another state") and "tampered" in mismatch


def test_an_impossible_action_is_told_with_its_step(tmp_path: Path, trace: Trace) -> None:
    def change(lines: list[Any]) -> None:
        lines[4] = {**lines[4], "action": "Deliver", "arguments": {"message": 4711, "at": 500}}

    file = tampered(trace, tmp_path / "run.ndjson", change)
    assert verify_run(read_trace(file)) == "step 4: Deliver is not enabled: no message 4711 is in flight"


def test_another_initial_state_is_told(tmp_path: Path, trace: Trace) -> None:
    def change(lines: list[Any]) -> None:
        lines[0]["initial"]["machines"]["broker-1"]["controller"] = True

    mismatch = verify_run(read_trace(tampered(trace, tmp_path / "run.ndjson", change)))
    assert mismatch is not None and mismatch.startswith("it does not begin in the initial state: machines")


def set_config(lines: list[Any], **fields: Any) -> None:
    lines[0]["initial"]["setup"]["config"] |= fields


@pytest.mark.parametrize(
    ("line", "change", "why"),
    [
        (1, lambda lines: lines[0]["initial"].pop("setup"), "initial.setup: expected an object with config"),
        (1, lambda lines: set_config(lines, color=1), "config.ClusterConfig has no field 'color'"),
        (1, lambda lines: set_config(lines, topics="x"), "config.ClusterConfig.topics must be tuple"),
        (3, lambda lines: lines[2].update(action="Explode"), "there is no action 'Explode'"),
        (3, lambda lines: lines[2]["arguments"].pop("at"), "Deliver takes message, at"),
        (3, lambda lines: lines[2]["arguments"].update(message="1"), "message must be int, not '1'"),
        (3, lambda lines: lines[2]["arguments"].update(at={"is": "x.y"}), "'x.y' is none of"),
    ],
)
def test_bad_input_is_told_with_file_and_line(
    tmp_path: Path, trace: Trace, capsys: Any, line: int, change: Callable[[list[Any]], Any], why: str
) -> None:
    file = tampered(trace, tmp_path / "run.ndjson", change)
    assert main(["replay", file, "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"hwmark: {file}:{line}: ") and why in captured.err and not captured.out


def test_a_configuration_that_builds_no_cluster_is_bad_input(tmp_path: Path, trace: Trace, capsys: Any) -> None:
    def change(lines: list[Any]) -> None:
        lines[0]["initial"]["setup"]["producers"] = [{"is": "producer.ProducerConfig", "acks": 1}]

    assert main(["replay", tampered(trace, tmp_path / "run.ndjson", change), "--json"]) == 2
    assert "initial.setup: no cluster can be built from it" in capsys.readouterr().err


def test_a_fork_of_a_real_cluster_goes_its_own_way(schedule: TimedSchedule) -> None:
    actions: list[Action] = list(schedule.actions or [])
    middle = next(index for index, action in enumerate(actions) if isinstance(action, Crash))
    cluster = Cluster(SETUP)
    for action in actions[:middle]:
        cluster.apply(action)
    frozen, forks = cluster.frozen(), [cluster.fork() for _ in range(2)]
    cluster.fork().apply(Crash("broker-2", False, cluster.now))
    for fork in forks:
        for action in actions[middle:]:
            fork.apply(action)
    assert forks[0].frozen() == forks[1].frozen() == schedule.cluster.frozen() != frozen == cluster.frozen()
