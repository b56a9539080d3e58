"""Small clusters that are searched exhaustively: how they begin, and what is checked of each of their states."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from random import Random
from typing import Any

from hwmark.checkers.simulation.cluster import (
    ADMIN,
    Action,
    Cluster,
    ClusterSetup,
    Crash,
    Deliver,
    Drop,
    Invoke,
    Pause,
    Restart,
    Resume,
    StepClock,
    Tick,
)
from hwmark.checkers.simulation.exhaustive import (
    CRASH,
    RESTART,
    Event,
    Result,
    Scenario,
    Space,
    count_schedules,
    search,
)
from hwmark.checkers.simulation.hosts import Host
from hwmark.checkers.simulation.promises import (
    ACKNOWLEDGED,
    HIGH_WATERMARK_RISES,
    LOGS_AGREE,
    ONE_LEADER,
    ONE_OWNER,
    READS_COMMITTED,
    SEQUENCES,
    entries_of,
)
from hwmark.checkers.simulation.schedule import TimedSchedule
from hwmark.refimpl.batches import TopicPartition
from hwmark.refimpl.broker import Broker
from hwmark.refimpl.consumer import Consumer, PollResult
from hwmark.refimpl.errors import Error
from hwmark.refimpl.log import Log
from hwmark.refimpl.machine import ZOOKEEPER, Address, address
from hwmark.refimpl.producer import Producer
from hwmark.refimpl.replica import Replica


def settled(setup: ClusterSetup, warm_up: tuple[tuple[Address, Any], ...] = ()) -> Cluster:
    """The cluster once it has its leaders, the calls of the warm-up have returned and nothing more is under way.

    The sessions of the brokers other than the first were renewed later, so that ZooKeeper's first Tick ends that of the
    first broker, who leads, alone.
    """
    return _settle(setup, warm_up).cluster


def _settle(setup: ClusterSetup, warm_up: tuple[tuple[Address, Any], ...]) -> TimedSchedule:
    cluster = Cluster(setup)
    schedule = TimedSchedule(cluster, Random(0))
    later = [name for name in setup.servers if name not in (ZOOKEEPER, address(setup.config.brokers[0]))]
    ping = setup.config.zookeeper_session_timeout // 3
    schedule.run_until(time=ping // 4)
    for client, operation in warm_up:
        number = schedule.invoke(client, operation)
        schedule.run_until(partial(_has_returned, schedule, number), time=ping // 2)
    schedule.run_until(time=ping - 10)
    for name in later:
        schedule.apply(Pause(name, cluster.now))
    schedule.run_until(time=ping + 100)
    for name in later:
        schedule.apply(Resume(name, cluster.now))
    schedule.run_until(time=ping + 200)
    schedule.run_until(lambda: not cluster.in_flight, time=60_000)
    return schedule


def _has_returned(schedule: TimedSchedule, number: int) -> bool:
    return any(returned.number == number for returned in schedule.returned)


def explore(scenario: Scenario, *, is_reduced: bool = True, max_states: int | None = None) -> Result:
    """Search a scenario from its settled cluster."""
    space = Space(scenario, settled(scenario.setup, scenario.warm_up), check_host)
    return search(space, check_state, is_reduced=is_reduced, max_states=max_states)


def schedules_of(scenario: Scenario) -> int:
    """How many maximal interleavings a scenario has."""
    return count_schedules(Space(scenario, settled(scenario.setup, scenario.warm_up), check_host))


def cluster_actions(scenario: Scenario, events: Sequence[Event]) -> list[Action]:
    """An interleaving as the actions of a cluster, from its start; hosts' clocks are stepped to where they stood."""
    schedule = _settle(scenario.setup, scenario.warm_up)
    cluster, actions = schedule.cluster, [*(schedule.actions or ())]
    clocks = {name: cluster.clock(name) for name in cluster.clock_offsets}
    calls = Counter[Address]()

    def act(action: Action) -> None:
        actions.append(action)
        cluster.apply(action)

    for host, what, detail in events:
        if what == "tick":
            clocks[host] = max(clocks[host], cluster.machines[host].deadline() or 0)
        if host in cluster.machines and clocks[host] != cluster.clock(host):
            act(StepClock(host, clocks[host] - cluster.clock(host), cluster.now))
        if what in ("deliver", "drop"):
            ends = (detail.source, detail.destination)
            ids = (id for id, one in cluster.in_flight.items() if (one.source, one.destination) == ends)
            act((Deliver if what == "deliver" else Drop)(next(ids), cluster.now))
        elif what == "call":
            calls[host] += 1
            name, operation = detail if host == ADMIN else (host, detail)
            act(Invoke(name, calls[host], operation, cluster.now))
        elif what == "tick":
            act(Tick(host, cluster.now))
        else:
            act(Restart(host, cluster.now) if what == RESTART else Crash(host, what == CRASH, cluster.now))
    return actions


def check_host(before: Host, after: Host) -> str | None:
    """A leader's high watermark does not go back within its epoch."""
    for topic_partition, old in _replicas(before):
        new = after.machine.replicas.get(topic_partition) if isinstance(after.machine, Broker) else None
        is_same = new and old.is_leader and new.is_leader and old.leader_epoch == new.leader_epoch
        if new and is_same and new.log.high_watermark < old.log.high_watermark:
            return f"{HIGH_WATERMARK_RISES}: {old.log.high_watermark} to {new.log.high_watermark}"
    return None


def check_state(hosts: dict[Address, Host]) -> str | None:
    """The promises that a state by itself can break."""
    return _check_leaders(hosts) or _check_logs(hosts) or _check_outcomes(hosts) or _check_owners(hosts)


def _replicas(host: Host) -> list[tuple[TopicPartition, Replica]]:
    return [*host.machine.replicas.items()] if isinstance(host.machine, Broker) else []


def _leaders(hosts: dict[Address, Host]) -> dict[TopicPartition, Replica]:
    """The leaders of the latest epochs."""
    leaders: dict[TopicPartition, Replica] = {}
    for host in hosts.values():
        for topic_partition, replica in _replicas(host):
            known = leaders.get(topic_partition)
            if replica.is_leader and (known is None or known.leader_epoch < replica.leader_epoch):
                leaders[topic_partition] = replica
    return leaders


def _check_leaders(hosts: dict[Address, Host]) -> str | None:
    seen: dict[tuple[TopicPartition, int], Address] = {}
    for name, host in hosts.items():
        for topic_partition, replica in _replicas(host):
            if replica.is_leader and seen.setdefault((topic_partition, replica.leader_epoch), name) != name:
                return f"{ONE_LEADER}: {seen[topic_partition, replica.leader_epoch]} and {name}"
    return None


def _logs(hosts: dict[Address, Host]) -> Iterator[tuple[Address, TopicPartition, Log]]:
    for name, host in hosts.items():
        disk = host.machine.disk if isinstance(host.machine, Broker) else host.disk
        for topic_partition, log in disk.logs.items() if disk else ():
            yield name, topic_partition, log


def _check_logs(hosts: dict[Address, Host]) -> str | None:
    """Below the least high watermark of two replicas their logs are the same, and nobody's batch is there twice."""
    first: dict[TopicPartition, tuple[Address, Log]] = {}
    for name, topic_partition, log in _logs(hosts):
        other, longer = first.setdefault(topic_partition, (name, log))
        limit = min(longer.high_watermark, log.high_watermark)
        if [*entries_of(longer, 0, limit)] != [*entries_of(log, 0, limit)]:
            return f"{LOGS_AGREE}: {other} and {name} differ below {limit}"
        if log.high_watermark > longer.high_watermark:
            first[topic_partition] = name, log
        batches = [batch[4:7] for batch in log.batches if batch.producer_id >= 0 and batch.control is None]
        if len(set(batches)) < len(batches):
            return f"{SEQUENCES}: {name} has a batch twice"
    return None


def _check_outcomes(hosts: dict[Address, Host]) -> str | None:
    """What a producer was acknowledged by all, or a consumer has read, the latest leader has."""
    leaders = _leaders(hosts)
    for name, host in hosts.items():
        for outcome in host.outcomes:
            value = getattr(outcome, "value", None)
            if getattr(outcome, "error", None) is not Error.NONE or value is None:
                continue
            if isinstance(host.machine, Producer) and host.machine.config.acks == -1 and len(value) == 2:
                if not _has(leaders, *value):
                    return f"{ACKNOWLEDGED}: offset {value[1]} is gone"
            elif isinstance(value, PollResult):
                for topic_partition, offset, _, read in value.records:
                    if not _has(leaders, topic_partition, offset, read):
                        return f"{READS_COMMITTED}: {name} has read {read!r} at {offset}"
    return None


def _has(leaders: dict[TopicPartition, Replica], topic_partition: TopicPartition, offset: int, *value: Any) -> bool:
    """Whether the leader, if there is one, has the offset (with the value)."""
    if topic_partition not in leaders:
        return True
    found = [entry.value for _, entry in entries_of(leaders[topic_partition].log, offset, offset + 1)]
    return found == [*value] if value else bool(found)


def _check_owners(hosts: dict[Address, Host]) -> str | None:
    owners: dict[tuple[str, int, TopicPartition], Address] = {}
    for name, host in hosts.items():
        if isinstance(host.machine, Consumer) and host.machine.group_metadata.generation >= 0:
            who = host.machine.group_metadata
            for partition in host.machine.positions:
                if owners.setdefault((who.group_id, who.generation, partition), name) != name:
                    return f"{ONE_OWNER}: {owners[who.group_id, who.generation, partition]} and {name} own {partition}"
    return None
