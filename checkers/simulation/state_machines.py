"""The themes of what Hypothesis does to clusters: replication, transactions, groups and the controller.

Each has the faults of ClusterMachine, and of the rest only what belongs together, so that programs are found earlier
and are shorter.
"""

from __future__ import annotations

from typing import Any, ClassVar

from hwmark.checkers.simulation.cluster import ClusterSetup, Crash, WipeDisk
from hwmark.checkers.simulation.odd_requests import CONTROLLER, GROUPS, REPLICATION, TRANSACTIONS, Maker, odd_requests
from hwmark.checkers.simulation.operations import Transaction
from hwmark.checkers.simulation.plan import INPUT, OUTPUT, Plan
from hwmark.checkers.simulation.schedule import NetworkConfig
from hwmark.checkers.simulation.state_machine import Choice, ClusterMachine, act
from hwmark.checkers.simulation.trial import LOSSES
from hwmark.refimpl import requests as rpc
from hwmark.refimpl.batches import TopicPartition
from hwmark.refimpl.config import ClusterConfig
from hwmark.refimpl.consumer import Assign, Close, CommitAsync, CommitSync, ConsumerConfig, Poll, Seek, Subscribe
from hwmark.refimpl.group_coordinator import ConsumerGroupMetadata
from hwmark.refimpl.group_metadata import OffsetAndMetadata
from hwmark.refimpl.machine import ZOOKEEPER, Address
from hwmark.refimpl.partition_change import PREFERRED, UNCLEAN
from hwmark.refimpl.producer import ProducerConfig
from hwmark.refimpl.transaction_manager import SendOffsets
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, consumes

SENDER = ProducerConfig(batch_records=2, delivery_timeout=3_000)
READER = ConsumerConfig(fetch_max_wait=200, api_timeout=3_000)
CLOSERS = (READER, READER._replace(is_read_committed=True))


def plan_of(
    seed: int,
    config: ClusterConfig,
    network: NetworkConfig,
    producers: tuple[ProducerConfig, ...],
    consumers: tuple[ConsumerConfig, ...],
    **roles: Any,
) -> Plan:
    """A plan whose actions others choose; without a transactional id a producer is a sender."""
    names = [(f"producer-{i}", producer) for i, producer in enumerate(producers, 1)]
    everybody = {
        "senders": tuple([name for name, producer in names if producer.transactional_id is None]),
        "transactors": tuple([name for name, producer in names if producer.transactional_id is not None]),
        "transformers": (),
        "readers": tuple([f"consumer-{i}" for i in range(1, len(consumers) + 1)]),
    }
    setup = ClusterSetup(config, producers, consumers + CLOSERS)
    nothing: Any = dict.fromkeys(Plan._fields, ())
    return Plan(**nothing | {"seed": seed, "setup": setup, "network": network} | everybody | roles)


class Administration(ClusterMachine):
    """Rules of administrators."""

    def ids(self) -> tuple[int, ...]:
        """All brokers."""
        return self.trial.plan.setup.config.brokers

    def all_partitions(self) -> list[TopicPartition]:
        """The internal ones, too."""
        topics = self.trial.plan.setup.config.topics
        return [(topic.name, i) for topic in topics for i in range(len(topic.assignment))]

    def ask_controller(self, request: Any) -> None:
        """Send it to the active controllers: there may be two that believe it."""
        for broker in self.trial.brokers():
            if broker.controller.is_active:
                self.trial.schedule.invoke(broker.name, request)

    @act(
        partition=Choice(all_partitions),
        replicas=Choice(lambda self: [self.ids()[i:] + self.ids()[:i] for i in range(len(self.ids()))]),
        count=st.integers(1, 3),
    )
    def reassign(self, partition: TopicPartition, replicas: tuple[int, ...], count: int) -> None:
        """Other replicas for a partition: the first so many."""
        self.ask_controller(rpc.AlterPartitionReassignmentsRequest(partition, replicas[:count]))

    @act(partition=Choice(all_partitions))
    def take_back(self, partition: TopicPartition) -> None:
        """A reassignment that is under way is to end where it began."""
        self.ask_controller(rpc.AlterPartitionReassignmentsRequest(partition, None))

    @act(partition=Choice(all_partitions))
    def elect(self, partition: TopicPartition) -> None:
        """The preferred leader is to lead again."""
        self.ask_controller(rpc.ElectLeadersRequest(partition, PREFERRED))


class Replication(Administration):
    """Logs: disks that fail, leaders that change, readers that go anywhere, records that are deleted."""

    odd: ClassVar[dict[str, Maker]] = REPLICATION
    rover = "consumer-1"

    def restrict(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Anything goes."""
        return settings

    def plan(self, seed: int, config: ClusterConfig, network: NetworkConfig, clients: int) -> Plan:
        """A sender with idempotence, perhaps one without, and one who reads what he likes."""
        plain = SENDER._replace(enable_idempotence=False, max_in_flight=1)
        others = {5: (plain._replace(acks=1),), 6: (plain._replace(acks=0),), 7: (plain,)}
        producers = others.get(clients, (SENDER,))
        reset = "latest" if clients == 1 else "none" if clients == 2 else "earliest"
        rover = READER._replace(auto_offset_reset=reset, fetch_max_records=2)
        return plan_of(seed, config, network, producers, (rover,))

    def prepare(self) -> None:
        """The rover is assigned all partitions."""
        self.trial.stage.start(self.trial.applications.call(self.rover, Assign(self.trial.plan.partitions)))

    def rovers(self) -> list[Address]:
        """The rover, if it is there and does nothing."""
        return [self.rover] if self.is_idle(self.rover) and self.rover in self.awake() else []

    @act(broker=Choice(ClusterMachine.up))
    def cut_power(self, broker: Address) -> None:
        """A broker loses what it has not flushed."""
        self.fault(Crash(broker, False, self.trial.stage.now))

    @act(broker=Choice(ClusterMachine.down))
    def wipe_disk(self, broker: Address) -> None:
        """A broker loses all that it had."""
        self.fault(WipeDisk(broker, self.trial.stage.now))

    @act(partition=Choice(Administration.all_partitions))
    def elect_uncleanly(self, partition: TopicPartition) -> None:
        """Anybody is to lead a partition that has no leader."""
        self.trial.promises.may_lose = True
        self.ask_controller(rpc.ElectLeadersRequest(partition, UNCLEAN))

    @act(consumer=Choice(rovers), timeout=st.sampled_from((20, 200)))
    def poll(self, consumer: Address, timeout: int) -> None:
        """Read on."""
        self.start(consumer, self.trial.applications.poll_unrecorded(consumer, timeout))

    @act(consumer=Choice(rovers), record=ClusterMachine.records)
    def seek(self, consumer: Address, record: Any) -> None:
        """Read on from a record."""
        if (place := self.place_of(record)) is not None:
            self.start(consumer, self.trial.applications.call(consumer, Seek(*place)))

    @act(consumer=Choice(rovers), partition=Choice(ClusterMachine.partitions), offset=st.sampled_from((1_000, 0)))
    def seek_offset(self, consumer: Address, partition: TopicPartition, offset: int) -> None:
        """Read on where there may be nothing."""
        self.start(consumer, self.trial.applications.call(consumer, Seek(partition, offset)))

    @act(consumer=Choice(rovers))
    def subscribe(self, consumer: Address) -> None:
        """Who is in no group cannot subscribe."""
        self.start(consumer, self.trial.applications.call(consumer, Subscribe((INPUT,))))

    @act(partition=Choice(ClusterMachine.partitions))
    def delete_all(self, partition: TopicPartition) -> None:
        """Delete what is replicated."""
        self.delete(partition, -1)

    @act(record=ClusterMachine.records)
    def delete_up_to(self, record: Any) -> None:
        """Delete what comes before a record."""
        if (place := self.place_of(record)) is not None:
            self.delete(*place)

    def delete(self, partition: TopicPartition, offset: int) -> None:
        """What is deleted is missing from the closing reads."""
        self.trial.forgives = LOSSES
        for broker in self.trial.brokers():
            if partition in broker.replicas:
                self.trial.schedule.invoke(broker.name, rpc.DeleteRecordsRequest(partition, offset, 500))


class Transactions(ClusterMachine):
    """Transactions, call by call, of two producers that perhaps have the same id, and of one without."""

    odd: ClassVar[dict[str, Maker]] = TRANSACTIONS
    transactions = Bundle("transactions")
    reader = "consumer-1"

    def plan(self, seed: int, config: ClusterConfig, network: NetworkConfig, clients: int) -> Plan:
        """Two transactional producers, a plain one and a reader."""
        first = SENDER._replace(transactional_id="a", transaction_timeout=(6_000, 2_000)[clients & 1])
        second = first._replace(transactional_id=("b", "a")[clients >> 1 & 1], linger=(0, 5)[clients >> 2])
        return plan_of(seed, config, network, (SENDER, first, second), (CLOSERS[1],))

    def prepare(self) -> None:
        """Both have their epochs, as far as one does not fence the other; the reader has its partitions."""
        applications, partitions = self.trial.applications, self.trial.plan.partitions
        subscription = applications.subscribe(self.reader, "assign", Assign(partitions), partitions)
        self.start(self.reader, subscription)
        for producer in self.trial.plan.transactors:
            self.start(producer, applications.initialize(producer))
            self.watch(lambda: self.pass_time(300))

    def state(self, producer: Address) -> str:
        """The state of a transactional producer that takes part and has no call under way; empty of others."""
        machine: Any = self.trial.cluster.machines.get(producer)
        is_there = machine is not None and producer not in self.trial.cluster.paused and self.is_idle(producer)
        return machine.manager.state if is_there else ""

    def ready(self) -> list[Address]:
        """Who can begin a transaction."""
        names = self.trial.plan.transactors
        return [name for name in names if name not in self.open and self.state(name) == "READY"]

    def unready(self) -> list[Address]:
        """Who needs an epoch first, or has died."""
        cluster, names = self.trial.cluster, self.trial.plan.transactors
        dead = [name for name in names if name not in cluster.machines and self.is_idle(name)]
        return dead + [name for name in names if self.state(name) in ("UNINITIALIZED", "FATAL_ERROR")]

    def is_open(self, transaction: Transaction) -> bool:
        """Whether something can be done in the transaction."""
        is_there = transaction.producer not in self.trial.cluster.paused and self.is_idle(transaction.producer)
        return is_there and not transaction.is_over

    @act(producer=Choice(unready))
    def initialize_producer(self, producer: Address) -> None:
        """InitTransactions, of a new process if the former cannot go on."""
        if self.state(producer) == "FATAL_ERROR":
            self.kill(producer)
        self.start(producer, self.trial.applications.initialize(producer))

    @act(target=transactions, producer=Choice(ready))
    def begin_transaction(self, producer: Address) -> Transaction:
        """A transaction begins."""
        self.open[producer] = self.trial.applications.begin(producer)
        return self.open[producer]

    @act(transaction=transactions, partition=Choice(ClusterMachine.partitions))
    def send_in(self, transaction: Transaction, partition: TopicPartition) -> None:
        """Send a record in a transaction."""
        if self.is_open(transaction):
            self.trial.stage.start(self.trial.applications.send_in(transaction, partition))

    @act(transaction=transactions, group=st.sampled_from(("others", "more")))
    def send_offsets(self, transaction: Transaction, group: str) -> None:
        """Offsets of a group that has no members become part of a transaction."""
        if self.is_open(transaction):
            offsets = SendOffsets(tuple([(one, 1) for one in self.partitions()]), ConsumerGroupMetadata(group))
            self.trial.stage.start(self.trial.applications.call(transaction.producer, offsets))

    @act(transaction=consumes(transactions), commits=st.booleans())
    def end(self, transaction: Transaction, commits: bool) -> None:
        """Commit or abort."""
        if self.is_open(transaction):
            del self.open[transaction.producer]
            self.start(transaction.producer, self.trial.applications.end(transaction, commits=commits))

    @act(producer=Choice(lambda self: [*self.trial.plan.transactors]), broker=Choice(ClusterMachine.up))
    def fence(self, producer: Address, broker: Address) -> None:
        """Somebody else takes the transactional id."""
        config = self.trial.plan.setup.producers[int(producer.rsplit("-")[-1]) - 1]
        self.trial.schedule.invoke(broker, rpc.InitProducerIdRequest(config.transactional_id, 2_000))

    @act()
    def poll(self) -> None:
        """Read what is committed."""
        if self.is_idle(self.reader) and self.reader in self.awake():
            self.start(self.reader, self.trial.applications.poll(self.reader, 100))


class Groups(ClusterMachine):
    """Groups: one that consumes, transforms and produces exactly once, and one that only reads."""

    odd: ClassVar[dict[str, Maker]] = GROUPS
    members = Bundle("members")

    def __init__(self) -> None:
        super().__init__()
        self.joined: dict[Address, int] = {}  # the incarnations that have subscribed

    def plan(self, seed: int, config: ClusterConfig, network: NetworkConfig, clients: int) -> Plan:
        """A sender, two pairs of member and transactional producer, and two readers."""
        assignor = ("range", "roundrobin", "sticky", "cooperative-sticky" if config.kip_429 else "range")[clients & 3]

        def member(group: str, i: int, **fields: Any) -> ConsumerConfig:
            instance = f"{group}-{i}" if clients & 4 else None
            times = {"session_timeout": 1_000, "heartbeat_interval": 300, "max_poll_interval": 2_000}
            return READER._replace(group_id=group, assignors=(assignor,), instance=instance, **times, **fields)

        transforming = [member("transform", i, is_read_committed=True, max_poll_records=3) for i in range(2)]
        reading = [member("read", i, auto_commit_interval=(None, 400)[i]) for i in range(2)]
        producers = [SENDER._replace(transactional_id=f"transform-{i}", transaction_timeout=2_000) for i in range(2)]
        roles = {"transactors": (), "transformers": (("consumer-1", "producer-2"), ("consumer-2", "producer-3"))}
        roles["readers"] = ("consumer-3", "consumer-4")
        return plan_of(seed, config, network, (SENDER, *producers), (*transforming, *reading), **roles)

    def inputs(self) -> list[TopicPartition]:
        """Nobody else writes results."""
        return [partition for partition in self.partitions() if partition[0] == INPUT]

    def is_member(self, consumer: Address) -> bool:
        """Whether the consumer has subscribed, can go on and does nothing."""
        cluster = self.trial.cluster
        machine: Any = cluster.machines.get(consumer)
        is_there = machine is not None and consumer not in cluster.paused and self.is_idle(consumer)
        is_usable = is_there and machine.fatal is None and not machine.is_closing
        return is_usable and self.joined.get(consumer) == cluster.incarnations.get(consumer, 0)

    def outsiders(self) -> list[Address]:
        """Consumers that can subscribe, perhaps as new processes."""
        names = [name for name in self.trial.cluster.clients if name.startswith("consumer")]
        names = sorted({*names}.difference(self.trial.plan.closers, self.trial.cluster.paused))
        return [name for name in names if self.is_idle(name) and not self.is_member(name)]

    @act(target=members, consumer=Choice(outsiders))
    def subscribe(self, consumer: Address) -> Address:
        """Become a member, or one again."""
        machine: Any = self.trial.cluster.machines.get(consumer)
        if machine is not None and machine.is_closing:
            self.kill(consumer)
        self.revive(consumer)
        self.joined[consumer] = self.trial.cluster.incarnations.get(consumer, 0)
        partitions = self.inputs()
        self.start(consumer, self.trial.applications.subscribe(consumer, "subscribe", Subscribe((INPUT,)), partitions))
        return consumer

    @act(member=members, commits=st.booleans())
    def consume(self, member: Address, commits: bool) -> None:
        """Read; a transformer transforms what it reads, and commits or aborts that."""
        producer = dict(self.trial.plan.transformers).get(member)
        if not self.is_member(member) or producer in self.trial.cluster.paused:
            return
        applications, output = self.trial.applications, [(OUTPUT, 0)]
        if producer is None:
            self.start(member, applications.poll_unrecorded(member, 100))
        else:
            self.start(member, applications.transform(member, producer, output, timeout=100, commits=commits))

    @act(member=members, how=st.sampled_from((CommitSync, CommitAsync)), back=st.sampled_from((None, 0, 1)))
    def commit(self, member: Address, how: Any, back: int | None) -> None:
        """A reader commits: its positions, or so many records before them."""
        if not self.is_member(member) or member not in self.trial.plan.readers:
            return
        positions = self.trial.cluster.machines[member].positions  # type: ignore[attr-defined]
        known = {partition: position.offset for partition, position in positions.items() if position.offset >= 0}
        before = [(one, OffsetAndMetadata(max(0, offset - (back or 0)))) for one, offset in known.items()]
        self.start(member, self.trial.applications.call(member, how(None if back is None else tuple(before))))

    @act(member=members)
    def commit_out_of_turn(self, member: Address) -> None:
        """A reader seeks to the beginning, and what it then reads is committed."""
        if self.is_member(member) and member in self.trial.plan.readers:
            partitions = [*self.trial.cluster.machines[member].positions]  # type: ignore[attr-defined]
            calls = [Seek(partition, 0) for partition in partitions] + [Poll(20), CommitAsync()]
            for call in calls:
                self.trial.stage.start(self.trial.applications.call(member, call))

    @act(member=consumes(members))
    def leave(self, member: Address) -> None:
        """Close."""
        if self.is_member(member):
            self.start(member, self.trial.applications.call(member, Close()))


class Controlling(Administration):
    """The controller: which falls, stands still, or is cut off, and what is asked of it meanwhile."""

    odd: ClassVar[dict[str, Maker]] = odd_requests(CONTROLLER, REPLICATION)

    def plan(self, seed: int, config: ClusterConfig, network: NetworkConfig, clients: int) -> Plan:
        """A sender."""
        return plan_of(seed, config, network, (SENDER,), ())

    def controllers(self) -> list[Address]:
        """Who believes to be the controller, and takes part."""
        return [
            broker.name for broker in self.trial.brokers() if broker.controller.is_active and broker.name in self.up()
        ]

    @act(broker=Choice(controllers), request=Choice(lambda self: [*CONTROLLER]))
    def ask_of_controller(self, broker: Address, request: str) -> None:
        """An odd request to whom it is for."""
        machine: Any = self.trial.cluster.machines[broker]
        body = CONTROLLER[request](machine)
        if body is not None:
            self.trial.schedule.invoke(broker, body)

    @act(broker=Choice(controllers))
    def crash_controller(self, broker: Address) -> None:
        """The controller's process dies."""
        self.fault(Crash(broker, True, self.trial.stage.now))

    @act(broker=Choice(ClusterMachine.up))
    def cut_off(self, broker: Address) -> None:
        """A broker loses ZooKeeper alone."""
        self.trial.schedule.partition([broker], [ZOOKEEPER])


MACHINES = (Replication, Transactions, Groups, Controlling)
