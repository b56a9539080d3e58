"""Clusters driven by Hypothesis: rules are what applications and administrators do, and what befalls the machines.

A rule takes no time by itself: `wait` says how many ms pass after it. The promises are looked at after each action of
the cluster, so they are invariants without being written as such. At the end all faults end, everybody waits, all is
read, and the recorded history is judged. Whatever is random within a program comes from the seed that it begins with.

Source: Hypothesis's stateful testing; QuickCheck's state machines (Hughes); Jepsen's nemeses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from hwmark.checkers.simulation.cluster import Crash, Deliver, Drop, Duplicate, Pause, Restart, Resume, StepClock
from hwmark.checkers.simulation.coverage import SESSION
from hwmark.checkers.simulation.odd_requests import Maker
from hwmark.checkers.simulation.operations import Transaction
from hwmark.checkers.simulation.plan import INPUT, OUTPUT, Plan, config_of
from hwmark.checkers.simulation.promises import BrokenPromiseError
from hwmark.checkers.simulation.schedule import NetworkConfig
from hwmark.checkers.simulation.stage import Script
from hwmark.checkers.simulation.trial import FOLDER, Failure, Trial
from hwmark.refimpl.batches import TopicPartition
from hwmark.refimpl.config import OFFSETS_TOPIC, TRANSACTIONS_TOPIC, ClusterConfig
from hwmark.refimpl.machine import ZOOKEEPER, Address
from hypothesis import HealthCheck, Phase, currently_in_test_context, settings, target
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

WAITS = st.sampled_from((0, 5, 30, 100, 300))
LATENCIES = st.sampled_from((1, 10, 60))
Function = Callable[..., Any]


class Choice(NamedTuple):
    """An argument that is chosen from what there is now; without any the rule cannot be applied."""

    of: Callable[[Any], Sequence[Any]]

    def strategy(self) -> st.SearchStrategy[Any]:
        """A strategy for rules."""
        return st.runner().flatmap(lambda machine: st.sampled_from(self.of(machine)))


def act(**arguments: Any) -> Callable[[Function], Any]:
    """A rule that is counted, and after which some time passes; what it breaks ends the trial."""
    choices = [one.of for one in arguments.values() if isinstance(one, Choice)]
    strategies: Any = {name: one.strategy() if isinstance(one, Choice) else one for name, one in arguments.items()}

    def decorate(function: Function) -> Any:
        @wraps(function)
        def counted(self: ClusterMachine, wait: int, **values: Any) -> Any:
            SESSION.rules[f"{type(self).__name__}.{function.__name__}"] += 1
            return self.watch(lambda: self.pass_time(wait, function(self, **values)))

        make: Any = rule
        applied = make(wait=WAITS, **strategies)(counted)
        return precondition(lambda self: all(of(self) for of in choices))(applied) if choices else applied

    return decorate


class ClusterMachine(RuleBasedStateMachine):
    """What all themes have: a cluster that is drawn, the network's faults, and the end.

    `failed` is the machine that broke a promise last: of what Hypothesis has shrunk, the shrunk one.
    """

    records = Bundle("records")
    failed: ClassVar[ClusterMachine | None] = None
    odd: ClassVar[dict[str, Maker]] = {}

    def __init__(self) -> None:
        super().__init__()
        self.busy: set[str] = set()  # users with an operation under way
        self.open: dict[Address, Transaction] = {}
        self.is_over = False
        self.failure: Failure | None = None
        self.trial: Trial

    # ------------------------------------------------------------ the beginning

    @initialize(
        seed=st.integers(0, 2**32 - 1),
        brokers=st.sampled_from((3, 2, 4)),
        partitions=st.integers(1, 2),
        without=st.sets(st.sampled_from(("kip_429", "kip_497", "kip_595", "kip_890"))),
        settings=st.fixed_dictionaries(
            {},
            optional={
                "kip_966": st.just(True),
                "min_insync_replicas": st.just(2),
                "flushes_every_append": st.just(True),
                "replica_fetch_max_records": st.just(1),
                "segment_records": st.sampled_from((5, 20)),
                "unclean_leader_election": st.just(True),
            },
        ),
        latency=LATENCIES,
        drop=st.sampled_from((0.0, 0.005, 0.02)),
        clients=st.integers(0, 7),
    )
    def begin(
        self,
        seed: int,
        brokers: int,
        partitions: int,
        without: set[str],
        settings: dict[str, Any],
        latency: int,
        drop: float,
        clients: int,
    ) -> None:
        """The cluster starts, and elects its first leaders; `clients` says how its clients are configured."""
        sizes = {INPUT: partitions, OUTPUT: 1, OFFSETS_TOPIC: 1, TRANSACTIONS_TOPIC: 1}
        config = config_of(brokers, sizes, **self.restrict(settings), **dict.fromkeys(sorted(without), False))
        self.trial = Trial(self.plan(seed, config, NetworkConfig(latency_max=latency, drop=drop), clients))
        self.watch(self.trial.await_leaders)
        self.prepare()

    def restrict(self, settings: dict[str, Any]) -> dict[str, Any]:
        """The settings that a theme allows; an unclean election would end most of what others look at."""
        return {name: value for name, value in settings.items() if name != "unclean_leader_election"}

    def plan(self, seed: int, config: ClusterConfig, network: NetworkConfig, clients: int) -> Plan:
        """The cluster's setup, and which clients do what."""
        raise NotImplementedError

    def prepare(self) -> None:
        """What the theme's clients have done before the first rule."""

    # ------------------------------------------------------------ what rules choose from

    def up(self) -> list[Address]:
        """Brokers that take part."""
        return self.trial.up()

    def down(self) -> list[Address]:
        """Brokers that have crashed."""
        return [name for name in self.trial.plan.setup.servers if name not in self.trial.cluster.machines]

    def awake(self) -> list[Address]:
        """Brokers and clients that can be paused."""
        cluster = self.trial.cluster
        closers = self.trial.plan.closers
        return [name for name in cluster.machines if name not in (ZOOKEEPER, *closers) and name not in cluster.paused]

    def awake_clients(self) -> list[Address]:
        """Clients that are up."""
        return [name for name in self.awake() if name in self.trial.cluster.clients]

    def paused(self) -> list[Address]:
        """Machines that stand still."""
        return sorted(self.trial.cluster.paused)

    def in_flight(self) -> list[int]:
        """Messages on their way, to machines that take part."""
        cluster = self.trial.cluster
        return [id for id, message in cluster.in_flight.items() if message.destination not in cluster.paused]

    def partitions(self) -> list[TopicPartition]:
        """The applications' partitions."""
        return [*self.trial.plan.partitions]

    def inputs(self) -> list[TopicPartition]:
        """The partitions that are sent to without transactions."""
        return self.partitions()

    def senders(self) -> list[Address]:
        """Producers without transactions that take part, or are to be started again."""
        return [name for name in self.trial.plan.senders if name not in self.trial.cluster.paused]

    # ------------------------------------------------------------ how rules act

    def watch(self, what: Callable[[], Any]) -> Any:
        """Do something; whatever it raises ends the trial."""
        try:
            return what()
        except BrokenPromiseError as broken:
            self.failure, type(self).failed = Failure.of(broken), self
            raise
        finally:
            self.is_over = self.is_over or self.failure is not None

    def pass_time(self, duration: int, result: Any = None) -> Any:
        """Let what is scheduled happen for so many ms."""
        schedule = self.trial.schedule
        schedule.run_until(time=schedule.cluster.now + duration)
        return result

    def start(self, user: str, script: Script) -> None:
        """Begin a script for a user who has nothing under way; a user does one thing at a time."""
        self.busy.add(user)
        self.trial.stage.start(self._as(user, script))

    def _as(self, user: str, script: Script) -> Script:
        yield from script
        self.busy.discard(user)

    def is_idle(self, user: str) -> bool:
        """Whether the user has no operation under way."""
        return user not in self.busy

    def revive(self, client: Address) -> None:
        """Start a client that died, or that had a fatal error."""
        cluster = self.trial.cluster
        machine: Any = cluster.machines.get(client)
        if machine is not None and getattr(machine, "fatal", None) and client not in cluster.paused:
            self.kill(client)
        if client not in cluster.machines:
            self.trial.schedule.apply(Restart(client, cluster.now))

    def kill(self, client: Address) -> None:
        """A client's process dies, and with it what it had begun."""
        self.trial.stage.crash_client(client)
        if (transaction := self.open.pop(client, None)) is not None:
            self.trial.applications.lose(transaction)

    def fault(self, action: Any) -> None:
        """A fault befalls the cluster."""
        self.trial.recorder.fault(self.trial.stage.now, type(action).__name__.lower(), None)
        self.trial.schedule.apply(action)

    def ask_again_and_again(self, request: Any, duration: int) -> None:
        """Ask all brokers, every 20 ms for so many ms; what they answer is counted alone."""
        for time in range(self.trial.stage.now, self.trial.stage.now + duration, 20):
            self.trial.schedule.plan(time, lambda: self._ask_all(request))

    def _ask_all(self, request: Any) -> None:
        for broker in self.up():
            self.trial.schedule.invoke(broker, request)

    def place_of(self, value: Any) -> tuple[TopicPartition, int] | None:
        """Where a record is committed; None if it is not."""
        for partition, committed in self.trial.promises.committed.items():
            for offset, entry in committed.entries.items():
                if entry.value == value and not partition[0].startswith("__"):
                    return partition, offset
        return None

    # ------------------------------------------------------------ rules: records, time and faults

    @act(
        target=records,
        producer=Choice(senders),
        partition=Choice(lambda self: self.inputs()),
        how=st.sampled_from(("to the partition", "by key", "wherever")),
        records=st.integers(1, 5),
    )
    def send(self, producer: Address, partition: TopicPartition, how: str, records: int) -> Any:
        """Send records, each for another user; of the arguments `how` tells which count. They go by their values."""
        self.revive(producer)
        return multiple(*[self.send_one(producer, partition, how, key) for key in range(records)])

    def send_one(self, producer: Address, partition: TopicPartition, how: str, key: int) -> Any:
        """Send a record; its value."""
        user = next(name for name in map(f"{producer}, user {{}}".format, count()) if self.is_idle(name))
        applications = self.trial.applications
        if how == "wherever":
            self.start(user, applications.send_sticky(producer, user, partition))
        else:
            self.start(user, applications.send(producer, user, partition, key=key if how == "by key" else None))
        return self.trial.recorder.records[-1]["value"][0][2]

    @act(ms=st.sampled_from((100, 500, 2_000)))
    def advance(self, ms: int) -> None:
        """Time passes."""
        self.pass_time(ms)

    @act(broker=Choice(up))
    def crash(self, broker: Address) -> None:
        """A broker's process dies; its operating system goes on and writes what it was given."""
        self.fault(Crash(broker, True, self.trial.stage.now))

    @act(broker=Choice(down))
    def restart(self, broker: Address) -> None:
        """A broker starts again."""
        self.fault(Restart(broker, self.trial.stage.now))

    @act(client=Choice(awake_clients))
    def crash_client(self, client: Address) -> None:
        """A client dies."""
        self.kill(client)

    @act(machine=Choice(awake))
    def pause(self, machine: Address) -> None:
        """A machine stands still."""
        self.fault(Pause(machine, self.trial.stage.now))

    @act(machine=Choice(paused))
    def resume(self, machine: Address) -> None:
        """It goes on."""
        self.fault(Resume(machine, self.trial.stage.now))

    @act(brokers=Choice(lambda self: [self.up()[:count] for count in range(1, len(self.up()))]))
    def partition(self, brokers: list[Address]) -> None:
        """Some brokers reach nobody but each other."""
        schedule = self.trial.schedule
        schedule.partition(brokers, [name for name in self.trial.cluster.clock_offsets if name not in brokers])

    @act(machine=Choice(awake), how=st.sampled_from(("both ways", "hears nobody", "is not heard")))
    def isolate(self, machine: Address, how: str) -> None:
        """A machine is cut off."""
        for other in self.trial.cluster.clock_offsets:
            if how != "hears nobody":
                self.trial.schedule.block(machine, other)
            if how != "is not heard":
                self.trial.schedule.block(other, machine)

    @precondition(lambda self: self.trial.schedule.blocked)
    @act()
    def heal(self) -> None:
        """All reach all."""
        self.trial.schedule.heal()

    @act(message=Choice(in_flight), fate=st.sampled_from((Drop, Duplicate, Deliver)))
    def meddle(self, message: int, fate: Any) -> None:
        """A message is lost or, where the protocol does not rely on TCP, comes twice, or before others."""
        may_overtake = self.trial.plan.setup.config.kip_890
        self.trial.schedule.apply((fate if may_overtake else Drop)(message, self.trial.stage.now))

    @act(machine=Choice(lambda self: [*self.trial.cluster.machines]), by=st.sampled_from((-2_000, -300, 300, 2_000)))
    def step_clock(self, machine: Address, by: int) -> None:
        """A machine's clock jumps."""
        self.fault(StepClock(machine, by, self.trial.stage.now))

    @act(requests=st.runner().flatmap(lambda self: st.lists(st.sampled_from([*self.odd]), min_size=1, max_size=4)))
    def ask(self, requests: list[str]) -> None:
        """Send the brokers requests of the theme that no client sends; what they answer is counted alone."""
        for request in requests:
            for broker in self.up():
                machine: Any = self.trial.cluster.machines[broker]
                body = self.odd[request](machine)
                if body is not None:
                    self.trial.schedule.invoke(broker, body)
            self.pass_time(10)

    # ------------------------------------------------------------ the end

    def teardown(self) -> None:
        """All faults end, everybody gets an answer, all is read, and the history is judged."""
        if self.is_over or not hasattr(self, "trial"):
            return
        self.is_over = True
        self.watch(self._finish)
        if currently_in_test_context():  # not when the program runs by itself
            for label, depth in self.depths().items():
                target(float(depth), label=label)

    def _finish(self) -> None:
        trial = self.trial
        for transaction in self.open.values():
            trial.stage.start(trial.applications.end(transaction, commits=False))
        trial.recover()
        trial.read_all()
        failure = trial.judge()
        if failure is not None:
            self.failure, type(self).failed = failure, self
            raise AssertionError(str(failure))

    def depths(self) -> dict[str, int]:
        """How far the trial came, in what takes long to come to."""
        promises = self.trial.promises
        epochs = [epoch for committed in promises.committed.values() for epoch in committed.leaders]
        bumped = [epoch for one in promises.committed.values() for epoch, _ in one.producers.values()]
        ended = [one for one in self.trial.recorder.records if one["f"] == "txn" and one["type"] == "ok"]
        return {
            "leader epochs": len(epochs),
            "truncations": promises.truncations,
            "transactions committed": len(ended),
            "generations": max([generation for _, generation, _ in promises.owners], default=0),
            "producer epochs": max(bumped, default=0),
        }


def examine(machine: type[ClusterMachine], folder: Path = FOLDER) -> None:
    """Look for a program that breaks a promise, as the loaded profile says.

    Raises what the shortest one raises, with the program as Hypothesis prints it, and with the names of two commands
    that show its run, which is saved.
    """
    machine.failed = None
    phases = [phase for phase in Phase if phase is not Phase.explain]
    checks = [*HealthCheck]
    chosen = settings(deadline=None, suppress_health_check=checks, phases=phases, report_multiple_bugs=False)
    try:
        run_state_machine_as_test(machine, settings=chosen)
    except Exception as failure:
        if machine.failed is not None:
            assert machine.failed.failure is not None
            failure.add_note(machine.failed.trial.save(machine.failed.failure, folder, machine.__name__))
        raise
