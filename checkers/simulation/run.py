"""A trial of a cluster that is drawn from a seed: what the applications do, and the faults that befall the machines."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

from hwmark.checkers.simulation.cluster import Crash, Pause, Restart, Resume, StepClock, WipeDisk
from hwmark.checkers.simulation.plan import INPUT, OUTPUT, Plan, draw_plan
from hwmark.checkers.simulation.promises import BrokenPromiseError
from hwmark.checkers.simulation.stage import Script
from hwmark.checkers.simulation.trial import Failure, Trial
from hwmark.refimpl import requests as rpc
from hwmark.refimpl.batches import TopicPartition
from hwmark.refimpl.consumer import Assign, Subscribe
from hwmark.refimpl.machine import ZOOKEEPER, Address, address
from hwmark.refimpl.partition_change import PREFERRED


class Run(Trial):
    """One run. `go` lets it happen, up to the first broken promise; `failure` is what was found."""

    def __init__(self, plan: Plan, *, keeps_actions: bool = True) -> None:
        super().__init__(plan, keeps_actions=keeps_actions)
        self.rng = Random(f"faults of {plan.seed}")
        self.failure: Failure | None = None

    def go(self) -> Failure | None:
        """The whole run, and everything that is checked of it."""
        try:
            self._work()
            self.recover()
            self.read_all()
            self.failure = self.judge()
        except BrokenPromiseError as broken:
            self.failure = Failure.of(broken)
        return self.failure

    # ------------------------------------------------------------ the applications

    def _work(self) -> None:
        """Let all applications and the nemesis act until the end."""
        self.await_leaders()
        self.end = self.stage.now + self.plan.duration
        for producer in self.plan.senders:
            for user in range(self.rng.choice(self.plan.users)):
                self.stage.start(self._repeat(producer, partial(self._send, producer, f"{producer}, user {user}")))
        for producer in self.plan.transactors:
            self.stage.start(self._repeat(producer, partial(self._transact, producer)))
        for consumer, producer in self.plan.transformers:
            self.stage.start(self._consume(consumer, (INPUT,), partial(self._transform, consumer, producer)))
        for consumer in self.plan.readers:
            self.stage.start(self._consume(consumer, (INPUT, OUTPUT), partial(self._poll, consumer)))
        for _ in range(self.plan.nemeses if self.plan.faults else 0):
            self.stage.start(self._befall())
        self.schedule.run_until(time=self.end)

    def _partitions(self, *topics: str) -> list[TopicPartition]:
        return [partition for partition in self.plan.partitions if partition[0] in topics]

    def _repeat(self, client: Address, operation: Callable[[], Script]) -> Script:
        """Again and again until the end, with another client when this one is of no use any more."""
        while self.stage.now < self.end:
            self._replace(client)
            yield from operation()
            yield self.rng.choice((1, 5, 20, 100))

    def _replace(self, client: Address) -> None:
        """Start a client that died, or that had a fatal error."""
        machine: Any = self.cluster.machines.get(client)
        if machine is not None and getattr(machine, "fatal", None) and client not in self.cluster.paused:
            self.stage.crash_client(client)
        if client not in self.cluster.machines:
            self.schedule.apply(Restart(client, self.stage.now))

    def _consume(self, consumer: Address, topics: tuple[str, ...], operation: Callable[[], Script]) -> Script:
        """Subscribe, or assign, and poll; from the beginning after the process was replaced."""
        while self.stage.now < self.end:
            self._replace(consumer)
            incarnation = self.cluster.incarnations.get(consumer)
            partitions = self._partitions(*topics)
            is_member = self.plan.setup.consumer(consumer).group_id is not None
            how: tuple[str, Any] = (
                ("subscribe", Subscribe(topics)) if is_member else ("assign", Assign(tuple(partitions)))
            )
            yield from self.applications.subscribe(consumer, *how, partitions)
            while self.stage.now < self.end and self._is_usable(consumer, incarnation):
                yield from operation()
                yield self.rng.choice((1, 5, 20, 100))

    def _is_usable(self, consumer: Address, incarnation: int | None) -> bool:
        machine: Any = self.cluster.machines.get(consumer)
        return machine is not None and machine.fatal is None and self.cluster.incarnations.get(consumer) == incarnation

    def _some(self) -> list[TopicPartition]:
        """Partitions to send to; what is transformed comes from the input alone, and nobody else writes results."""
        partitions = self._partitions(INPUT) if self.plan.transformers else self.plan.partitions
        return self.rng.choices(partitions, k=self.rng.choice((1, 1, 2, 4)))

    def _send(self, producer: Address, user: str) -> Script:
        return self.applications.send(producer, user, self._some()[0])

    def _transact(self, producer: Address) -> Script:
        return self.applications.transaction(producer, self._some(), commits=self.rng.random() < 0.7)

    def _transform(self, consumer: Address, producer: Address) -> Script:
        output, commits = self._partitions(OUTPUT), self.rng.random() < 0.8
        return self.applications.transform(consumer, producer, output, timeout=200, commits=commits)

    def _poll(self, consumer: Address) -> Script:
        is_committed = self.plan.setup.consumer(consumer).is_read_committed
        poll = self.applications.poll if is_committed else self.applications.poll_unrecorded
        return poll(consumer, self.rng.choice((20, 200)))

    # ------------------------------------------------------------ the nemesis

    def _befall(self) -> Script:
        while True:
            yield self.rng.randint(1, self.plan.fault_interval)
            if self.stage.now >= self.end:
                return
            fault = self.rng.choice(self.plan.faults)
            self.recorder.fault(self.stage.now, fault, None)
            yield from NEMESES[fault](self)

    def _while(self) -> int:
        return self.rng.choice(self.plan.fault_lengths)

    def _workers(self) -> list[Address]:
        plan = self.plan
        names = [
            *plan.senders,
            *plan.transactors,
            *[name for pair in plan.transformers for name in pair],
            *plan.readers,
        ]
        return [name for name in names if name in self.cluster.machines and name not in self.cluster.paused]

    def _crash(self, *, keeps_unflushed: bool = True, keeps_disk: bool = True) -> Script:
        name = self.rng.choice(self.up() or [""])
        if name:
            self.schedule.apply(Crash(name, keeps_unflushed, self.stage.now))
            if not keeps_disk:
                self.schedule.apply(WipeDisk(name, self.stage.now))
            yield self._while()
            if name not in self.cluster.machines:
                self.schedule.apply(Restart(name, self.stage.now))

    def _power_cut(self) -> Script:
        return self._crash(keeps_unflushed=False)

    def _new_disk(self) -> Script:
        return self._crash(keeps_disk=False)

    def _client(self) -> Script:
        """A client's process dies; its application starts another one."""
        if workers := self._workers():
            self.stage.crash_client(self.rng.choice(workers))
        yield 1

    def _pause(self) -> Script:
        name = self.rng.choice([*self.up(), *self._workers()] or [""])
        if name:
            self.schedule.apply(Pause(name, self.stage.now))
            yield self._while()
            if name in self.cluster.paused:
                self.schedule.apply(Resume(name, self.stage.now))

    def _partition(self) -> Script:
        names = [name for name in self.cluster.clock_offsets if name != ZOOKEEPER]
        self.rng.shuffle(names)
        half = self.rng.randint(1, len(names) - 1)
        self.schedule.partition(names[:half], [*names[half:], ZOOKEEPER])
        yield self._while()
        self.schedule.heal()

    def _isolate(self) -> Script:
        self.schedule.isolate(self.rng.choice([*map(address, self.plan.setup.config.brokers)]))
        yield self._while()
        self.schedule.heal()

    def _one_way(self) -> Script:
        self.schedule.block(*self.rng.sample([*self.cluster.clock_offsets], 2))
        yield self._while()
        self.schedule.heal()

    def _late(self) -> Script:
        """What a client sends to a broker arrives late, when it has perhaps given it up."""
        if workers := self._workers():
            connection = self.rng.choice(workers), address(self.rng.choice(self.plan.setup.config.brokers))
            self.schedule.block(*connection)
            yield self._while()
            self.schedule.unblock(*connection)

    def _clock(self) -> Script:
        by = self.rng.choice((-2_000, -300, 300, 2_000))
        self.schedule.apply(StepClock(self.rng.choice([*self.cluster.machines]), by, self.stage.now))
        yield 1

    def _reassign(self) -> Script:
        brokers = self.plan.setup.config.brokers
        replicas = tuple(self.rng.sample(brokers, self.rng.randint(1, min(3, len(brokers)))))
        target = None if self.rng.random() < 0.2 else replicas
        return self._ask_controller(rpc.AlterPartitionReassignmentsRequest(self._any_partition(), target))

    def _elect(self) -> Script:
        return self._ask_controller(rpc.ElectLeadersRequest(self._any_partition(), PREFERRED))

    def _ask_controller(self, request: Any) -> Script:
        controllers = [broker.name for broker in self.brokers() if broker.controller.is_active]
        if controllers:
            self.schedule.invoke(self.rng.choice(controllers), request)
        yield 1

    def _any_partition(self) -> TopicPartition:
        return self.rng.choice(self.plan.all_partitions)


NEMESES: dict[str, Callable[[Run], Script]] = {
    "crash": Run._crash,
    "power cut": Run._power_cut,
    "new disk": Run._new_disk,
    "client": Run._client,
    "pause": Run._pause,
    "partition": Run._partition,
    "isolate": Run._isolate,
    "one-way": Run._one_way,
    "late requests": Run._late,
    "clock": Run._clock,
    "reassign": Run._reassign,
    "elect": Run._elect,
}


def run_seed(seed: int, **changes: Any) -> Run:
    """The run of a seed, gone through."""
    run = Run(draw_plan(seed, **changes))
    run.go()
    return run
