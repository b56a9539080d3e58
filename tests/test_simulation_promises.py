"""Is each promise looked at? A cluster that keeps all of them is changed by hand, so that it breaks just one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest
from hwmark.checkers.simulation import promises as of
from hwmark.checkers.simulation.cluster import ADMIN, Crash, Deliver, Returned, Tick
from hwmark.checkers.simulation.hosts import Host
from hwmark.checkers.simulation.promises import BrokenPromiseError, Promises
from hwmark.checkers.simulation.scenarios import X, small
from hwmark.checkers.simulation.schedule import TimedSchedule
from hwmark.checkers.simulation.small_cluster import check_host, check_state
from hwmark.checkers.simulation.stage import ObservedCluster
from hwmark.checkers.simulation.values import copy_of
from hwmark.refimpl.batches import Batch
from hwmark.refimpl.broker import Broker
from hwmark.refimpl.consumer import ConsumerConfig, PollResult
from hwmark.refimpl.group_coordinator import ConsumerGroupMetadata
from hwmark.refimpl.machine import address
from hwmark.refimpl.producer import ProducerConfig, Send
from hwmark.refimpl.replica import Replica
from hwmark.refimpl.requests import Response

MEMBER = ConsumerConfig(group_id="g")
SETUP = small(3, clients=(ProducerConfig(), MEMBER, MEMBER), min_insync_replicas=2)


@dataclass
class World:
    """A cluster whose first broker leads x-0, with three records that all replicas have."""

    cluster: ObservedCluster
    promises: Promises

    def replica(self, broker: int) -> Replica:
        return self.broker(broker).replicas[X]

    def broker(self, broker: int) -> Broker:
        machine = self.cluster.machines[address(broker)]
        assert isinstance(machine, Broker)
        return machine

    def look(self, broker: int) -> None:
        """Look at a broker as if for the first time."""
        for key in [key for key in self.promises.seen if key[0] == address(broker)]:
            del self.promises.seen[key]
        self.see(address(broker))

    def see(self, machine: str) -> None:
        self.cluster.stepped = machine
        self.promises.observe(Tick(machine, self.cluster.now), [])

    def tell(self, machine: str, number: int, value: Any) -> None:
        """A call returns."""
        self.cluster.stepped = None
        self.promises.observe(Deliver(1, self.cluster.now), [Returned(machine, number, Response(value=value))])

    def replace(self, broker: int, place: int, **changes: Any) -> None:
        """Change a batch of a log."""
        batches = self.replica(broker).log.batches
        batches[place] = batches[place]._replace(**changes)

    def forget(self) -> None:
        """What was committed is committed now, for the first time."""
        self.promises.committed.clear()


@pytest.fixture
def world() -> World:
    cluster = ObservedCluster(SETUP)
    cluster.promises = Promises(cluster, SETUP)
    schedule = TimedSchedule(cluster, Random(0))
    schedule.run_until(time=1_000)
    for value in (1, 2, 3):
        schedule.invoke("producer-1", Send("x", None, value, 0))
        schedule.run_until(time=cluster.now + 1_000)
    found = World(cluster, cluster.promises)
    assert found.replica(1).is_leader and [found.replica(i).log.high_watermark for i in (1, 2, 3)] == [3, 3, 3]
    assert len(found.replica(1).log.batches) == 3
    for broker in (1, 2, 3):
        found.look(broker)
    return found


def other_value(world: World) -> None:
    [record] = world.replica(2).log.batches[1].records
    world.replace(2, 1, records=(record._replace(value=99),))
    world.look(2)


def gap(world: World) -> None:
    del world.replica(2).log.batches[1]
    world.look(2)


def early_end(world: World) -> None:
    del world.replica(2).log.batches[2]
    world.look(2)


def incomplete_leader(world: World) -> None:
    log = world.replica(2).log
    log.batches, log.log_end_offset, log.high_watermark = log.batches[:2], 2, 2
    lead(world, 2, world.replica(1).leader_epoch + 1)


def lead(world: World, broker: int, epoch: int) -> None:
    replica = world.replica(broker)
    replica.leader_epoch, replica.is_leader, replica.isr = epoch, True, (broker,)
    world.look(broker)


def second_leader(world: World) -> None:
    lead(world, 2, world.replica(1).leader_epoch)


def second_controller(world: World) -> None:
    [active] = [one for one in map(world.broker, (1, 2, 3)) if one.controller.is_active]
    other = world.broker(active.broker_id % 3 + 1)
    other.controller.is_active, other.controller.controller_epoch = (
        active.controller.is_active,
        active.controller.controller_epoch,
    )
    world.see(address(other.broker_id))


def high_watermark_back(world: World) -> None:
    world.replica(1).log.high_watermark -= 1
    world.see("broker-1")


def short_member_of_the_isr(world: World) -> None:
    world.forget()
    world.replica(3).log.log_end_offset = 2
    world.look(1)


def gap_in_sequences(world: World) -> None:
    world.forget()
    world.replace(1, 1, base_sequence=2)
    world.look(1)


def older_epoch(world: World) -> None:
    world.forget()
    batch = world.replica(1).log.batches[0]
    world.replace(1, 0, producer_epoch=batch.producer_epoch + 1)
    world.look(1)


def acknowledged_elsewhere(world: World) -> None:
    world.promises.sends["producer-1", 99] = Send("x", None, 3, 0)
    world.tell("producer-1", 99, (X, 1))


def acknowledged_nowhere(world: World) -> None:
    world.promises.sends["producer-1", 99] = Send("x", None, 3, 0)
    world.tell("producer-1", 99, (X, 7))


def acknowledged_alone(world: World) -> None:
    world.promises.committed[X].reached = {"broker-1": 3, "broker-2": 2}
    world.promises.sends["producer-1", 99] = Send("x", None, 3, 0)
    world.tell("producer-1", 99, (X, 2))


def read_what_is_not(world: World) -> None:
    world.tell("consumer-1", 1, PollResult(((X, 0, None, 1), (X, 1, None, 99)), ()))


def own(world: World, member: int, *partitions: Any) -> None:
    consumer: Any = world.cluster.machines[f"consumer-{member}"]
    consumer.group_metadata = ConsumerGroupMetadata("g", 5, f"m-{member}")
    consumer.positions = dict.fromkeys(partitions)
    world.see(f"consumer-{member}")


def two_owners(world: World) -> None:
    own(world, 1, X)
    own(world, 2, X)


def given_up_too_late(world: World) -> None:
    own(world, 1, X)
    world.promises.owners["g", 5, X] = "consumer-2"
    own(world, 1)


BREAKERS: tuple[tuple[Callable[[World], None], str], ...] = (
    (other_value, of.LOGS_AGREE),
    (gap, of.LOGS_AGREE),
    (early_end, of.LOGS_AGREE),
    (incomplete_leader, of.LEADER_COMPLETE),
    (second_leader, of.ONE_LEADER),
    (second_controller, of.ONE_CONTROLLER),
    (high_watermark_back, of.HIGH_WATERMARK_RISES),
    (short_member_of_the_isr, of.ISR_COMPLETE),
    (gap_in_sequences, of.SEQUENCES),
    (older_epoch, of.SEQUENCES),
    (acknowledged_elsewhere, of.ACKNOWLEDGED),
    (acknowledged_nowhere, of.ACKNOWLEDGED),
    (acknowledged_alone, of.ENOUGH_COPIES),
    (read_what_is_not, of.READS_COMMITTED),
    (two_owners, of.ONE_OWNER),
    (given_up_too_late, of.GIVEN_UP_FIRST),
)


@pytest.mark.parametrize(("breaks", "promise"), BREAKERS, ids=lambda one: getattr(one, "__name__", ""))
def test_a_broken_promise_is_seen(world: World, breaks: Callable[[World], None], promise: str) -> None:
    with pytest.raises(BrokenPromiseError) as broken:
        breaks(world)
    assert broken.value.promise == promise and broken.value.witness["machine"]


def test_every_promise_is_broken_here() -> None:
    """Machines that fail have a test of their own, below."""
    sentences = {
        value for name, value in vars(of).items() if name.isupper() and isinstance(value, str) and " " in value
    }
    assert sentences == {promise for _, promise in BREAKERS} | {of.NO_MACHINE_FAILS}


def test_a_machine_that_fails_breaks_a_promise(world: World) -> None:
    world.broker(1).replicas = None  # type: ignore[assignment]
    with pytest.raises(BrokenPromiseError, match=of.NO_MACHINE_FAILS):
        world.cluster.apply(Tick("broker-1", world.cluster.now + 60_000))


def test_a_crash_that_keeps_what_was_written_excuses_nothing(world: World) -> None:
    world.cluster.apply(Crash("broker-3", True, world.cluster.now))
    assert not world.promises.may_lose
    world.cluster.apply(Crash("broker-2", False, world.cluster.now))
    assert world.promises.may_lose


# ------------------------------------------------------------ states of small clusters, each by itself


def hosts_of(world: World) -> dict[str, Host]:
    return {name: Host(machine) for name, machine in world.cluster.machines.items()} | {ADMIN: Host()}


def twice(world: World) -> None:
    batches = world.replica(2).log.batches
    batches.append(Batch(*batches[2])._replace(base_offset=3, last_offset=3))


STATES: tuple[tuple[Callable[[World], None], str], ...] = (
    (second_leader, of.ONE_LEADER),
    (other_value, of.LOGS_AGREE),
    (gap, of.LOGS_AGREE),
    (twice, of.SEQUENCES),
    (two_owners, of.ONE_OWNER),
)


@pytest.mark.parametrize(("breaks", "promise"), STATES, ids=lambda one: getattr(one, "__name__", ""))
def test_a_state_that_breaks_a_promise_is_seen(
    world: World, breaks: Callable[[World], None], promise: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert check_state(hosts_of(world)) is None
    monkeypatch.setattr(Promises, "observe", lambda *_: None)  # the state alone is judged
    breaks(world)
    why = check_state(hosts_of(world))
    assert why is not None and why.startswith(promise)


@pytest.mark.parametrize(
    ("client", "value", "promise"),
    [
        ("producer-1", (X, 2), None),
        ("producer-1", (X, 3), of.ACKNOWLEDGED),
        ("consumer-1", PollResult(((X, 2, None, 3),), ()), None),
        ("consumer-1", PollResult(((X, 2, None, 99),), ()), of.READS_COMMITTED),
    ],
)
def test_what_clients_were_told_is_held_against_the_leader(
    world: World, client: str, value: Any, promise: str | None
) -> None:
    hosts = hosts_of(world)
    hosts[client].outcomes = (Response(value=value),)
    why = check_state(hosts)
    assert why is None if promise is None else why is not None and why.startswith(promise)


def test_a_high_watermark_that_goes_back_is_seen_between_two_states_of_a_host(world: World) -> None:
    before, after = Host(world.broker(1)), Host(copy_of(world.broker(1)))
    assert check_host(before, after) is None
    after.machine.replicas[X].log.high_watermark -= 1  # type: ignore[union-attr]
    why = check_host(before, after)
    assert why is not None and why.startswith(of.HIGH_WATERMARK_RISES)
