"""What Hypothesis does to clusters: a broken guard is found, shrunk, saved and shown; programs are deterministic."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hwmark.checkers.cli import main
from hwmark.checkers.simulation import coverage
from hwmark.checkers.simulation.cluster import Crash, WipeDisk
from hwmark.checkers.simulation.coverage import NEVER_ANSWERED, SESSION, Coverage
from hwmark.checkers.simulation.odd_requests import CONTROLLER, GROUPS, REPLICATION, TRANSACTIONS
from hwmark.checkers.simulation.plan import draw_plan
from hwmark.checkers.simulation.promises import ISR_COMPLETE, NO_MACHINE_FAILS, BrokenPromiseError
from hwmark.checkers.simulation.run import Run
from hwmark.checkers.simulation.state_machine import ClusterMachine, examine
from hwmark.checkers.simulation.state_machines import MACHINES, Controlling, Groups, Replication, Transactions
from hwmark.refimpl import consumer
from hwmark.refimpl.broker import Broker
from hwmark.refimpl.errors import Error
from hwmark.refimpl.replica import Replica
from hypothesis import settings

SIMPLEST: dict[str, Any] = {
    "seed": 1, "brokers": 3, "partitions": 1, "without": set(), "settings": {}, "latency": 1, "drop": 0.0, "clients": 0,
}  # fmt: skip
TO_PARTITION: dict[str, Any] = {"producer": "producer-1", "partition": ("x", 0), "how": "to the partition"}


def begun(machine: type[ClusterMachine], **changes: Any) -> Any:
    started: Any = machine()
    started.begin(**SIMPLEST | changes)
    return started


def raise_without_asking(replica: Replica, now: int) -> None:
    """A high watermark that waits for nobody."""
    if replica.is_leader:
        replica.log.update_high_watermark(replica.log.log_end_offset)


# --------------------------------------------------------------------------------------- from a fault to a picture


def test_a_broken_guard_is_found_shrunk_saved_and_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], pytestconfig: pytest.Config
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(Replica, "maybe_increment_high_watermark", raise_without_asking)
        # As many short programs as it takes, the same each time: it ends with the first that is found, shrunk.
        settings.register_profile("same", settings(), max_examples=1_000, stateful_step_count=8, derandomize=True)
        settings.load_profile("same")
        try:
            with pytest.raises(BrokenPromiseError, match=ISR_COMPLETE) as caught:
                examine(Replication, tmp_path)
        finally:
            settings.load_profile(pytestconfig.getoption("--hypothesis-profile") or "quick")
        told = "\n".join(caught.value.__notes__)
        program = re.findall(r"^(?:\w+(?:, \w+)* = )?state[. =].*", told, re.MULTILINE)
        assert 3 <= len(program) <= 6, told
        assert "state.begin(seed=0, brokers=3, partitions=1, without=set(), settings={}" in program[1]
        replay, draw = re.findall(r"^hwmark (.*)$", told, re.MULTILINE)
        assert main(replay.split()) == 0
        assert main(draw.split()) == 0
    assert "<svg" in Path(draw.split()[-1]).read_text()
    assert ISR_COMPLETE in Path(replay.split()[-1]).read_text()
    assert main(replay.split()) == 1, "without the fault it is another run"
    assert "leads to another state" in capsys.readouterr().err


def test_what_only_the_history_shows_is_found_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers that take aborted records for committed ones: no broker breaks a promise."""
    monkeypatch.setattr(consumer, "visible_records", all_records)
    machine = begun(Transactions)
    transaction = machine.begin_transaction(producer="producer-2", sends=2, wait=500)
    machine.end(transaction=transaction, commits=False, wait=500)
    with pytest.raises(AssertionError, match="history: G1a"):
        machine.teardown()
    assert Transactions.failed is machine


def all_records(response: Any, offset: int) -> list[Any]:
    batches = [batch for batch in response.batches if batch.control is None]
    return [record for batch in batches for record in batch.records if record.offset >= offset]


def test_a_machine_that_fails_breaks_a_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = begun(Controlling)
    monkeypatch.setattr(Broker, "tick", lambda self, now: 1 // 0)
    with pytest.raises(BrokenPromiseError, match=f"{NO_MACHINE_FAILS}: broker-[123]: ZeroDivisionError"):
        machine.advance(ms=2_000, wait=0)
    steps = machine.trial.steps
    machine.teardown()
    assert machine.trial.steps == steps, "it is over"


def test_a_run_that_fails_is_saved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Replica, "maybe_increment_high_watermark", raise_without_asking)
    run = Run(draw_plan(1))
    failure = run.go()
    assert failure is not None
    replay = run.save(failure, tmp_path, "seed-1").splitlines()[1]
    assert main(replay.split()[1:]) == 0


# --------------------------------------------------------------------------------------- programs


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.__name__)
def test_a_program_does_the_same_whenever_it_runs(machine: type[ClusterMachine]) -> None:
    runs = [program(machine), program(machine)]
    assert runs[0].trial.schedule.actions == runs[1].trial.schedule.actions
    assert runs[0].trial.recorder.records == runs[1].trial.recorder.records
    assert program(machine, seed=2).trial.schedule.actions != runs[0].trial.schedule.actions


def program(machine: type[ClusterMachine], **changes: Any) -> Any:
    """A little of everything."""
    state = begun(machine, latency=60, drop=0.02, **changes)
    state.send(**TO_PARTITION, records=3, wait=30)
    state.crash(broker="broker-2", wait=100)
    state.send(**TO_PARTITION | {"how": "wherever"}, records=2, wait=5)
    state.isolate(machine="broker-3", how="is not heard", wait=300)
    state.teardown()
    return state


def test_users_send_to_partitions_by_keys_and_wherever_the_producer_likes() -> None:
    state = begun(Replication, partitions=2)
    for how in ("to the partition", "by key", "wherever"):
        state.send(**TO_PARTITION | {"how": how}, records=4, wait=300)
    state.teardown()
    sent = [one["value"][0] for one in state.trial.recorder.records if one["f"] == "send" and one["type"] == "ok"]
    assert len(sent) == 12
    assert {key for _, key, _ in sent} == {"x-0", "x-1"}


def test_a_transaction_is_recorded_with_what_it_came_to_hold() -> None:
    state = begun(Transactions)
    transaction = state.begin_transaction(producer="producer-2", sends=1, wait=300)
    state.send_more(transaction=transaction, partition=("y", 0), wait=30)
    state.send_offsets(transaction=transaction, group="others", wait=0)
    state.pause(machine="producer-2", wait=100)
    state.end(transaction=transaction, commits=True, wait=100)
    state.resume(machine="producer-2", wait=300)
    state.teardown()
    invoked, completed = [one for one in state.trial.recorder.records if one["f"] == "txn"]
    assert (invoked["type"], invoked["value"]) == ("invoke", [["send", "x-0", 1], ["send", "y-0", 2]])
    assert (completed["type"], completed["value"]) == ("ok", [["send", "x-0", [0, 1]], ["send", "y-0", [0, 2]]])


def test_a_producer_that_dies_leaves_a_transaction_of_unknown_outcome() -> None:
    state = begun(Transactions)
    transaction = state.begin_transaction(producer="producer-2", sends=1, wait=300)
    state.crash_client(client="producer-2", wait=0)
    state.end(transaction=transaction, commits=True, wait=100)
    state.teardown()
    assert [one["type"] for one in state.trial.recorder.records if one["f"] == "txn"] == ["invoke", "info"]


def test_members_transform_until_they_leave() -> None:
    state = begun(Groups)
    state.send(**TO_PARTITION, records=4, wait=300)
    members = state.outsiders()
    state.subscribe(consumers=members, wait=0)
    state.advance(ms=2_000, wait=0)
    assert state.outsiders() == []
    state.leave(member=members[0], wait=300)
    assert state.outsiders() == members[:1]
    state.teardown()
    assert len(state.trial.applications.origins) >= 4
    assert state.depths()["generations"] >= 2


def test_deleted_and_wiped_records_may_be_missing() -> None:
    state = begun(Replication)
    state.send(**TO_PARTITION, records=4, wait=300)
    assert state.place_of(3) == (("x", 0), 2)
    state.delete_up_to(record=3, wait=300)
    assert {r.log.log_start_offset for b in state.trial.brokers() for p, r in b.replicas.items() if p == ("x", 0)} == {
        2
    }
    state.crash(broker="broker-1", wait=0)
    state.wipe_disk(broker="broker-1", wait=0)
    assert state.trial.promises.may_lose
    state.teardown()


# --------------------------------------------------------------------------------------- odd requests


@pytest.mark.parametrize("theme", [REPLICATION, TRANSACTIONS, GROUPS, CONTROLLER], ids=["r", "t", "g", "c"])
def test_odd_requests_leave_the_promises_as_they_are(theme: Any) -> None:
    """All of a theme, asked of all brokers, twice, of a cluster with something in it."""
    machine = {id(GROUPS): Groups, id(TRANSACTIONS): Transactions}.get(id(theme), Replication)
    state = begun(machine)
    state.send(**TO_PARTITION, records=4, wait=300)
    if machine is Groups:
        state.subscribe(consumers=state.outsiders(), wait=300)
    for name in [*theme, *theme]:
        for broker in state.up():
            body = theme[name](state.trial.cluster.machines[broker])
            if body is not None:
                state.trial.schedule.invoke(broker, body)
        state.advance(ms=100, wait=0)
    state.teardown()
    assert state.place_of("forged") is None


# --------------------------------------------------------------------------------------- coverage


def test_coverage_counts_what_happens() -> None:
    before = SESSION.steps
    state = begun(Replication)
    state.send(**TO_PARTITION, records=1, wait=300)
    state.cut_power(broker="broker-1", wait=0)
    state.teardown()
    assert SESSION.steps - before == state.trial.steps
    assert SESSION.requests["ProduceRequest"] > 0
    assert SESSION.actions[Crash] > 0
    assert SESSION.rules["Replication.cut_power"] > 0
    assert SESSION.errors[Error.NONE] > 0


def test_coverage_names_what_never_occurred(monkeypatch: pytest.MonkeyPatch) -> None:
    empty = Coverage()
    assert {"ProduceRequest", "OFFSET_OUT_OF_RANGE", "WipeDisk"} <= {*empty.missing()}
    assert not {error.name for error in NEVER_ANSWERED} & {*empty.missing()}
    empty.actions[WipeDisk] += 1
    assert "WipeDisk" not in empty.missing()
    other = Coverage()
    other.add(empty)
    assert "1 steps" in other.text() and "WipeDisk 1" in other.text()
    monkeypatch.setattr(coverage, "REQUESTS", frozenset(["NoRequest"]))
    assert "NoRequest" in empty.missing()
