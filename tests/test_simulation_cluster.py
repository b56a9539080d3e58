"""The cluster around the machines, with toys in it: an echo that remembers, and whoever asks it."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

import pytest
from hwmark.checkers.simulation.cluster import (
    ADMIN,
    Action,
    Cluster,
    Crash,
    Deliver,
    Drop,
    Duplicate,
    Invoke,
    NotEnabledError,
    Pause,
    Restart,
    Resume,
    Returned,
    Start,
    StepClock,
    Tick,
    WipeDisk,
    for_incarnation,
)
from hwmark.checkers.simulation.schedule import NetworkConfig, TimedSchedule
from hwmark.checkers.simulation.values import plain_freeze
from hwmark.refimpl import machine as machines
from hwmark.refimpl.batches import Batch, Record
from hwmark.refimpl.log import Log
from hwmark.refimpl.machine import Call, Effects, Event, Message, Outbox, Return

LOG = ("x", 0)


class EchoRequest(NamedTuple):
    text: str


class EchoResponse(NamedTuple):
    text: str


@dataclass(slots=True)
class EchoDisk:
    logs: dict[Any, Log] = field(default_factory=lambda: {LOG: Log()})
    high_watermarks: dict[Any, int] = field(default_factory=dict)


@dataclass(slots=True)
class Echo:
    """Answers what it is asked, and writes it down; flushes when it ticks."""

    name: str
    disk: EchoDisk
    ticks: list[int] = field(default_factory=list)

    def step(self, event: Event, now: int) -> Effects:
        log = self.disk.logs[LOG]
        if isinstance(event, machines.Tick):
            self.ticks.append(now)
            log.flush()
            return []
        assert isinstance(event, Message)
        log.append_as_leader(Batch(0, 0, 0, (Record(0, None, event.body.text),)), 0)
        return [Message(self.name, event.source, event.correlation, EchoResponse(event.body.text))]

    def deadline(self) -> int | None:
        return None


@dataclass(slots=True)
class Asker:
    """Asks the echo what it is told to ask, and asks again when nobody answers in 100 ms."""

    name: str
    outbox: Outbox

    def step(self, event: Event, now: int) -> Effects:
        if isinstance(event, Call):
            return [self.outbox.ask("echo", EchoRequest(event.operation), event.number, now)]
        if isinstance(event, machines.Tick):
            return [self.outbox.ask("echo", late.body, late.context, now) for late in self.outbox.expire(now)]
        asked = self.outbox.answered(event)
        return [Return(asked.context, event.body.text)] if asked else []

    def deadline(self) -> int | None:
        return self.outbox.deadline()


class Toys(NamedTuple):
    clients: tuple[str, ...] = ("asker",)
    servers: tuple[str, ...] = ("echo",)

    def machine(self, name: str, disk: Any) -> Any:
        return Echo(name, disk or EchoDisk()) if name == "echo" else Asker(name, Outbox(name, 100))


def run(*actions: Action) -> tuple[Cluster, list[Returned]]:
    cluster = Cluster(Toys())
    return cluster, [one for action in (Start(), *actions) for one in cluster.apply(action)]


def values(cluster: Cluster) -> list[Any]:
    disk = cluster.machines["echo"].disk if "echo" in cluster.machines else cluster.disks["echo"]
    return [record.value for batch in disk.logs[LOG].batches for record in batch.records]


def test_a_call_goes_there_and_back() -> None:
    cluster, returned = run(Invoke("asker", 7, "a", 1), Deliver(1, 2), Deliver(2, 5))
    assert returned == [Returned("asker", 7, "a")]
    assert (cluster.now, cluster.in_flight, values(cluster)) == (5, {}, ["a"])


def test_the_admin_asks_servers() -> None:
    _, returned = run(Invoke("echo", 9, EchoRequest("a"), 1), Deliver(1, 2), Deliver(2, 5))
    assert returned == [Returned(ADMIN, 9, EchoResponse("a"))]


def test_a_dropped_message_does_not_arrive() -> None:
    cluster, _ = run(Invoke("asker", 1, "a", 1), Drop(1, 2))
    assert not cluster.in_flight and cluster.lost == (1,)


def test_a_duplicate_arrives_too_and_only_the_first_answer_counts() -> None:
    cluster, returned = run(
        Invoke("asker", 1, "a", 1), Duplicate(1, 1), Deliver(1, 2), Deliver(2, 2), Deliver(3, 3), Deliver(4, 3)
    )
    assert values(cluster) == ["a", "a"] and len(returned) == 1


def test_time_does_not_go_back() -> None:
    cluster, _ = run(Invoke("asker", 1, "a", 5))
    with pytest.raises(NotEnabledError, match="it is 5 already"):
        cluster.apply(Deliver(1, 4))
    assert list(cluster.in_flight) == [1]


def test_a_machine_goes_by_its_own_clock() -> None:
    cluster, _ = run(
        StepClock("echo", -3, 10), Tick("echo", 10), StepClock("asker", 40, 10), Invoke("asker", 1, "a", 20)
    )
    assert cluster.machines["echo"].ticks == [0, 7]
    assert cluster.deadline("asker") == 120 and cluster.machines["asker"].deadline() == 160


def test_a_power_cut_loses_what_was_not_flushed() -> None:
    asked = (Invoke("asker", 1, "a", 1), Deliver(1, 1), Tick("echo", 1), Invoke("asker", 2, "b", 1), Deliver(3, 1))
    for keeps_unflushed, kept in ((False, ["a"]), (True, ["a", "b"])):
        cluster, _ = run(*asked, Crash("echo", keeps_unflushed, 2))
        assert values(cluster) == kept
        cluster.apply(Restart("echo", 3))
        assert values(cluster) == kept and cluster.machines["echo"].ticks == [3]


def test_a_wiped_disk_is_empty() -> None:
    cluster, _ = run(Invoke("asker", 1, "a", 1), Deliver(1, 1), Crash("echo", True, 2), WipeDisk("echo", 2))
    cluster.apply(Restart("echo", 3))
    assert values(cluster) == []


def test_a_crash_loses_what_is_on_its_way_to_the_machine() -> None:
    cluster, _ = run(Invoke("asker", 1, "a", 1), Deliver(1, 1), Invoke("asker", 2, "b", 1), Crash("echo", True, 2))
    assert cluster.lost == (3,) and list(cluster.in_flight) == [2]


def test_what_arrives_at_a_machine_that_is_down_vanishes() -> None:
    cluster, _ = run(Crash("echo", True, 2), Invoke("asker", 1, "a", 3), Deliver(1, 4))
    assert cluster.lost == (1,) and not cluster.in_flight


def test_a_request_that_was_sent_meanwhile_reaches_the_restarted_machine() -> None:
    cluster, returned = run(
        Crash("echo", True, 2), Invoke("asker", 1, "a", 3), Restart("echo", 4), Deliver(1, 5), Deliver(2, 5)
    )
    assert values(cluster) == ["a"] and returned == [Returned("asker", 1, "a")]


def test_nobody_gets_an_answer_to_what_a_former_incarnation_asked() -> None:
    cluster, returned = run(
        Invoke("asker", 1, "a", 1),
        Crash("asker", False, 2),
        Restart("asker", 2),
        Invoke("asker", 2, "b", 3),
        *(Deliver(id, 4) for id in (1, 2, 3, 4)),
    )
    assert values(cluster) == ["a", "b"] and returned == [Returned("asker", 2, "b")]


def test_what_answers_no_request_reaches_any_incarnation() -> None:
    pushed, answer = Message("echo", "asker", 0, EchoResponse("a")), Message("echo", "asker", 3, EchoResponse("a"))
    assert for_incarnation(pushed, 2) == pushed and for_incarnation(answer, 2) is None


def test_a_paused_machine_gets_nothing_until_it_goes_on() -> None:
    cluster, _ = run(Invoke("asker", 1, "a", 1), Pause("echo", 1))
    for action in (Deliver(1, 2), Tick("echo", 2), Pause("echo", 2)):
        with pytest.raises(NotEnabledError, match="echo is paused"):
            cluster.apply(action)
    cluster.apply(Resume("echo", 3))
    cluster.apply(Deliver(1, 3))
    assert values(cluster) == ["a"]


@pytest.mark.parametrize(
    ("action", "why"),
    [
        (Deliver(1, 1), "no message 1"),
        (Tick("nobody", 1), "no machine"),
        (Restart("echo", 1), "echo is up"),
        (WipeDisk("echo", 1), "echo is up"),
        (Resume("echo", 1), "not paused"),
        (Invoke("nobody", 1, "a", 1), "no machine nobody"),
        (Crash("nobody", True, 1), "no machine"),
        (Restart("nobody", 1), "no machine"),
    ],
)
def test_what_is_impossible_changes_nothing(action: Action, why: str) -> None:
    cluster, _ = run()
    before = cluster.frozen()
    with pytest.raises(NotEnabledError, match=why):
        cluster.apply(action)
    assert cluster.frozen() == before and cluster.now == 0


def test_a_fork_goes_its_own_way() -> None:
    cluster, _ = run(Invoke("asker", 1, "a", 1))
    before, fork = plain_freeze(cluster.machines), cluster.fork()
    frozen = cluster.frozen()
    fork.apply(Deliver(1, 2))
    fork.apply(Crash("echo", False, 3))
    assert plain_freeze(cluster.machines) == before and cluster.frozen() == frozen != fork.frozen()
    cluster.apply(Deliver(1, 2))
    assert values(cluster) == ["a"] and values(fork) == []


def test_a_crash_in_one_fork_keeps_the_disk_of_the_other() -> None:
    cluster, _ = run(Invoke("asker", 1, "a", 1), Deliver(1, 2))
    fork = cluster.fork()
    fork.apply(Crash("echo", False, 3))
    assert (values(cluster), values(fork)) == (["a"], [])
    forks = fork.fork()
    forks.apply(Restart("echo", 4))
    forks.apply(Invoke("echo", 1, EchoRequest("b"), 4))
    forks.apply(Deliver(3, 4))
    assert (values(forks), values(fork)) == (["b"], [])


def test_equal_states_are_equal_whatever_the_ids_of_their_messages() -> None:
    one, _ = run(Invoke("asker", 1, "a", 1))
    other, _ = run(Invoke("asker", 1, "a", 1), Duplicate(1, 1), Drop(1, 1))
    assert one.frozen() == other.frozen() and hash(one.frozen()) == hash(other.frozen())
    other.apply(Duplicate(2, 1))
    assert one.frozen() != other.frozen()


def drive(seed: int, network: NetworkConfig, count: int = 50) -> TimedSchedule:
    """An asker with so many calls, one after the other."""
    schedule = TimedSchedule(Cluster(Toys()), Random(seed), network)

    def ask_next(returned: Returned) -> None:
        schedule.returned.append(returned)
        if len(schedule.returned) < count:
            schedule.invoke("asker", str(len(schedule.returned)))

    schedule.on_return = ask_next
    schedule.invoke("asker", "0")
    assert schedule.run_until(lambda: len(schedule.returned) == count, steps=10_000)
    return schedule


FAULTY = NetworkConfig(1, 30, drop=0.2, duplicate=0.2, reorder=0.2)


def test_one_seed_is_one_run_and_its_actions_are_the_run() -> None:
    one, same, other = drive(1, FAULTY), drive(1, FAULTY), drive(2, FAULTY)
    assert one.actions == same.actions != other.actions
    replayed = Cluster(Toys())
    for action in one.actions or []:
        replayed.apply(action)
    assert replayed.frozen() == one.cluster.frozen()


def test_every_fault_of_the_network_happens() -> None:
    kinds = {type(action) for action in drive(3, FAULTY).actions or []}
    assert kinds == {Start, Invoke, Deliver, Drop, Duplicate, Tick}


def test_a_connection_keeps_its_order_unless_messages_are_reordered() -> None:
    for network, is_sorted in ((NetworkConfig(1, 50), True), (NetworkConfig(1, 50, reorder=0.5), False)):
        schedule = TimedSchedule(Cluster(Toys()), Random(4), network)
        for number in range(30):
            schedule.invoke("asker", f"{number:02}")
        schedule.run_until(time=99)
        written = values(schedule.cluster)
        assert len(written) == 30 and (written == sorted(written)) is is_sorted


def test_a_partition_loses_messages_or_holds_them() -> None:
    for holds in (False, True):
        schedule = TimedSchedule(Cluster(Toys()), Random(5), NetworkConfig(holds_partitioned=holds))
        schedule.isolate("echo")
        schedule.invoke("asker", "a")
        schedule.run_until(time=90)
        assert not schedule.returned
        schedule.heal()
        schedule.run_until(time=95)
        assert len(schedule.returned) == (1 if holds else 0)


def test_one_way_only() -> None:
    schedule = TimedSchedule(Cluster(Toys()), Random(5))
    schedule.block("echo", "asker")
    schedule.invoke("asker", "a")
    schedule.run_until(time=90)
    assert values(schedule.cluster) == ["a"] and not schedule.returned


def test_deadlines_are_by_the_machines_clock() -> None:
    schedule = TimedSchedule(Cluster(Toys()), Random(5))
    schedule.partition(["echo"], ["asker"])
    schedule.invoke("asker", "a")
    schedule.apply(StepClock("asker", 60, 0))
    schedule.run_until(time=1000)
    assert [action.at for action in schedule.actions or [] if isinstance(action, Tick)][:2] == [40, 140]


def test_messages_and_ticks_wait_for_a_paused_machine() -> None:
    schedule = TimedSchedule(Cluster(Toys()), Random(5))
    schedule.apply(Pause("echo", 0))
    schedule.invoke("asker", "a")
    schedule.run_until(time=50)
    schedule.apply(Resume("echo", 50))
    assert schedule.run_until(lambda: bool(schedule.returned), time=60)
    schedule.invoke("asker", "b")
    schedule.apply(Pause("asker", schedule.cluster.now))
    schedule.run_until(time=500)
    schedule.apply(Resume("asker", 500))
    assert schedule.run_until(lambda: len(schedule.returned) == 2, time=500)


def test_nothing_happens_in_a_cluster_that_is_quiet() -> None:
    schedule = drive(6, FAULTY)
    schedule.run_until(time=schedule.cluster.now + 1_000)
    steps = schedule.steps
    schedule.run_until(time=100_000)
    assert schedule.steps == steps and schedule.cluster.now == 100_000


def test_plans_are_done_at_their_time() -> None:
    schedule = TimedSchedule(Cluster(Toys()), Random(5))
    schedule.plan(70, lambda: schedule.apply(Crash("echo", True, schedule.cluster.now)))
    schedule.run_until(time=69)
    assert "echo" in schedule.cluster.machines
    schedule.run_until(time=70)
    assert schedule.actions is not None and schedule.actions[-1] == Crash("echo", True, 70)
