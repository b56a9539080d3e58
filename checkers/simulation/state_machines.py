"""The themes of what Hypothesis does to clusters: replication, transactions, groups and the controller.

Each has the faults of ClusterMachine, and of the rest only what belongs together, so that programs are found earlier
and are shorter.
"""

from __future__ import annotations

from itertools import count
from typing import Any, ClassVar

from hwmark.checkers.simulation.cluster import ClusterSetup, Crash, WipeDisk, number_of
from hwmark.checkers.simulation.odd_requests import CONTROLLER, GROUPS, REPLICATION, TRANSACTIONS, Maker, odd_requests
from hwmark.checkers.simulation.operations import Transaction
from hwmark.checkers.simulation.plan import INPUT, OUTPUT, Plan
from hwmark.checkers.simulation.schedule import NetworkConfig
from hwmark.checkers.simulation.stage import Script
from hwmark.checkers.simulation.state_machine import Choice, ClusterMachine, act
from hwmark.checkers.simulation.trial import LOSSES
from hwmark.refimpl import requests as rpc
from hwmark.refimpl.batches import TopicPartition
from hwmark.refimpl.config import ClusterConfig
from hwmark.refimpl.consumer import Assign, Close, CommitAsync, CommitSync, ConsumerConfig, Seek, Subscribe
from hwmark.refimpl.group_coordinator import ConsumerGroupMetadata, OffsetAndMetadata
from hwmark.refimpl.machine import ZOOKEEPER, Address
from hwmark.refimpl.partition_change import PREFERRED, UNCLEAN
from hwmark.refimpl.producer import ProducerConfig, SendOffsets
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, consumes, multiple

SENDER = ProducerConfig(batch_records=2, delivery_timeout=3_000)
READER = ConsumerConfig(fetch_max_wait=200)
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
        return [*self.trial.plan.all_partitions]

    def ask_controller(self, request: Any) -> None:
        """Send it to the active controllers: there may be two that believe it."""
        for broker in self.trial.brokers():
            if broker.controller.is_active:
                self.trial.schedule.invoke(broker.name, request)

    @act(
        partition=Choice(all_partitions),
        replicas=Choice(lambda self: [self.ids()[i:] + self.ids()[:i] for i in range(len(self.ids()))]),
        copies=st.integers(1, 3),
    )
    def reassign(self, partition: TopicPartition, replicas: tuple[int, ...], copies: int) -> None:
        """Other replicas for a partition: the first so many."""
        self.ask_controller(rpc.AlterPartitionReassignmentsRequest(partition, replicas[:copies]))

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
        reset = rpc.LATEST if clients == 1 else rpc.EARLIEST
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
        self.elect_anybody(partition)

    def elect_anybody(self, partition: TopicPartition) -> None:
        """Ask for it, whatever is lost."""
        self.trial.promises.may_lose = True
        self.ask_controller(rpc.ElectLeadersRequest(partition, UNCLEAN))

    @act(partition=Choice(Administration.all_partitions), broker=Choice(ClusterMachine.up))
    def elect_the_dead(self, partition: TopicPartition, broker: Address) -> None:
        """A partition moves to one broker, which dies: then there is nobody to elect, not even uncleanly."""
        self.ask_controller(rpc.AlterPartitionReassignmentsRequest(partition, (number_of(broker),)))
        self.pass_time(500)
        if broker in self.up():
            self.fault(Crash(broker, True, self.trial.stage.now))
            self.pass_time(2_000)
        self.elect_anybody(partition)

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
        self.trial.forgives += LOSSES
        for broker in self.trial.brokers():
            if partition in broker.replicas:
                self.trial.schedule.invoke(broker.name, rpc.DeleteRecordsRequest(partition, offset))


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
        """The reader has its partitions."""
        partitions = self.trial.plan.partitions
        self.start(
            self.reader, self.trial.applications.subscribe(self.reader, "assign", Assign(partitions), partitions)
        )

    def ready(self) -> list[Address]:
        """Who can begin a transaction, perhaps as a new process."""
        names, paused = self.trial.plan.transactors, self.trial.cluster.paused
        return [name for name in names if name not in self.open and name not in paused and self.is_idle(name)]

    def is_open(self, transaction: Transaction) -> bool:
        """Whether something can be done in the transaction."""
        return self.open.get(transaction.producer) is transaction

    @act(target=transactions, producer=Choice(ready), sends=st.integers(0, 3))
    def begin_transaction(self, producer: Address, sends: int) -> Transaction:
        """A transaction begins, and sends so many records, to one partition after the other."""
        self.open[producer] = transaction = Transaction(producer)
        self.start(producer, self.trial.applications.begin(transaction))
        for i in range(sends):
            self.send_in(transaction, self.partitions()[i % len(self.partitions())])
        return transaction

    def send_in(self, transaction: Transaction, partition: TopicPartition) -> None:
        """A record more."""
        self.trial.stage.start(self.trial.applications.send_in(transaction, partition))

    @act(transaction=transactions, partition=Choice(ClusterMachine.partitions))
    def send_more(self, transaction: Transaction, partition: TopicPartition) -> None:
        """Send a record in a transaction."""
        if self.is_open(transaction):
            self.send_in(transaction, partition)

    @act(transaction=transactions, group=st.sampled_from(("others", "more")))
    def send_offsets(self, transaction: Transaction, group: str) -> None:
        """Offsets of a group that has no members become part of a transaction; somebody asks for them meanwhile."""
        if self.is_open(transaction):
            who, partitions = ConsumerGroupMetadata(group), tuple(self.partitions())
            offsets = SendOffsets(tuple([(one, OffsetAndMetadata(1)) for one in partitions]), who)
            self.trial.stage.start(self.trial.applications.send_offsets_in(transaction, offsets))
            self.ask_again_and_again(rpc.OffsetFetchRequest(who, partitions, require_stable=True), 500)

    @act(transaction=consumes(transactions), commits=st.booleans())
    def end(self, transaction: Transaction, commits: bool) -> None:
        """Commit or abort."""
        if self.is_open(transaction):
            del self.open[transaction.producer]
            self.start(transaction.producer, self.trial.applications.end(transaction, commits=commits))

    @act(producer=Choice(lambda self: [*self.trial.plan.transactors]), broker=Choice(ClusterMachine.up))
    def fence(self, producer: Address, broker: Address) -> None:
        """Somebody else takes the transactional id."""
        config = self.trial.plan.setup.producer(producer)
        self.trial.schedule.invoke(broker, rpc.InitProducerIdRequest(config.transactional_id, 2_000))

    def readers(self) -> list[Address]:
        """The reader, if it is there and does nothing."""
        return [self.reader] if self.is_idle(self.reader) and self.reader in self.awake() else []

    @act(consumer=Choice(readers))
    def poll(self, consumer: Address) -> None:
        """Read what is committed."""
        self.start(consumer, self.trial.applications.poll(consumer, 100))


class Groups(ClusterMachine):
    """Groups: one that consumes, transforms and produces exactly once, and one that only reads."""

    odd: ClassVar[dict[str, Maker]] = GROUPS
    members = Bundle("members")

    def __init__(self) -> None:
        super().__init__()
        self.joined: dict[Address, int] = {}  # the incarnations that have subscribed
        self.aborts = 4  # of four turns of a transformer, the one that it aborts

    def plan(self, seed: int, config: ClusterConfig, network: NetworkConfig, clients: int) -> Plan:
        """A sender, two pairs of member and transactional producer, and two readers."""
        assignor = ("range", "roundrobin", "sticky", "cooperative-sticky" if config.kip_429 else "range")[clients & 3]

        def member(group: str, i: int, **fields: Any) -> ConsumerConfig:
            instance = f"{group}-{i}" if clients & 4 else None
            times: Any = {"session_timeout": 1_000, "heartbeat_interval": 300, "max_poll_interval": 2_000}
            return READER._replace(group_id=group, assignors=(assignor,), instance=instance, **times, **fields)

        transforming = [member("transform", i, is_read_committed=True, fetch_max_records=3) for i in range(2)]
        reading = [member("read", i, auto_commit_interval=(None, 400)[i]) for i in range(2)]
        producers = [SENDER._replace(transactional_id=f"transform-{i}", transaction_timeout=2_000) for i in range(2)]
        roles: Any = {"transactors": (), "transformers": (("consumer-1", "producer-2"), ("consumer-2", "producer-3"))}
        roles["readers"] = ("consumer-3", "consumer-4")
        return plan_of(seed, config, network, (SENDER, *producers), (*transforming, *reading), **roles)

    def inputs(self) -> list[TopicPartition]:
        """Nobody else writes results."""
        return [partition for partition in self.partitions() if partition[0] == INPUT]

    def is_member(self, consumer: Address) -> bool:
        """Whether the consumer has subscribed and can go on."""
        cluster = self.trial.cluster
        machine: Any = cluster.machines.get(consumer)
        is_usable = machine is not None and machine.fatal is None and not self.is_over
        return is_usable and self.joined.get(consumer) == cluster.incarnations.get(consumer, 0)

    def readers(self) -> list[Address]:
        """Members of the group that only reads."""
        return [name for name in self.trial.plan.readers if self.is_member(name)]

    def outsiders(self) -> list[Address]:
        """Consumers that can subscribe, perhaps as new processes."""
        names = [name for name in self.trial.cluster.clients if name.startswith("consumer")]
        names = sorted({*names}.difference(self.trial.plan.closers, self.trial.cluster.paused))
        return [name for name in names if self.is_idle(name) and not self.is_member(name)]

    @act(target=members, consumers=Choice(lambda self: [self.outsiders()[i:] for i in range(len(self.outsiders()))]))
    def subscribe(self, consumers: list[Address]) -> Any:
        """Become members, or again: they read, and transform what they read, until they die or leave."""
        for consumer in consumers:
            machine: Any = self.trial.cluster.machines.get(consumer)
            if machine is not None and machine.fatal is not None:
                self.kill(consumer)
            self.revive(consumer)
            self.joined[consumer] = self.trial.cluster.incarnations.get(consumer, 0)
            self.start(consumer, self._consume(consumer))
        return multiple(*consumers)

    def _consume(self, consumer: Address) -> Script:
        applications, output, partitions = self.trial.applications, [(OUTPUT, 0)], self.inputs()
        yield from applications.subscribe(consumer, "subscribe", Subscribe((INPUT,)), partitions)
        producer = dict(self.trial.plan.transformers).get(consumer)
        for turn in count():
            if not self.is_member(consumer):
                return
            if producer is None:
                yield from applications.poll_unrecorded(consumer, 100)
            else:
                commits = turn % 4 != self.aborts
                yield from applications.transform(consumer, producer, output, timeout=100, commits=commits)
            yield 20

    @act(turn=st.integers(0, 4))
    def abort(self, turn: int) -> None:
        """From now on transformers abort one turn in four, or none."""
        self.aborts = turn

    @act(reader=Choice(readers), how=st.sampled_from((CommitSync, CommitAsync)), back=st.sampled_from((None, 0, 1)))
    def commit(self, reader: Address, how: Any, back: int | None) -> None:
        """A reader commits: its positions, or so many records before them."""
        machine: Any = self.trial.cluster.machines[reader]
        known = {
            partition: position.offset for partition, position in machine.positions.items() if position.offset >= 0
        }
        before = [(one, OffsetAndMetadata(max(0, offset - (back or 0)))) for one, offset in known.items()]
        call = how(None if back is None else tuple(before))
        self.trial.stage.start(self.trial.applications.call(reader, call))

    @act(reader=Choice(readers), partition=Choice(inputs), offset=st.sampled_from((0, 1_000)))
    def seek(self, reader: Address, partition: TopicPartition, offset: int) -> None:
        """A reader reads again from the beginning, or where nothing is; perhaps it does not own the partition."""
        self.trial.stage.start(self.trial.applications.call(reader, Seek(partition, offset)))

    @act(member=consumes(members))
    def leave(self, member: Address) -> None:
        """Close."""
        if self.is_member(member):
            self.trial.stage.start(self.trial.applications.call(member, Close()))


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

    @act(partition=Choice(ClusterMachine.partitions))
    def monitor(self, partition: TopicPartition) -> None:
        """Somebody asks all brokers for a second how far a partition goes."""
        self.ask_again_and_again(rpc.ListOffsetsRequest(partition, rpc.LATEST), 1_000)

    @act(partition=Choice(ClusterMachine.partitions), after=st.sampled_from((2, 3, 5, 60, 100)))
    def crash_leader(self, partition: TopicPartition, after: int) -> None:
        """Send a record, and soon the leader crashes; then see what the next one knows."""
        self.revive("producer-1")
        self.send_one("producer-1", partition, "to the partition", 0)
        self.pass_time(after)
        for broker in self.trial.brokers():
            if partition in broker.replicas and broker.replicas[partition].is_leader and broker.name in self.up():
                self.fault(Crash(broker.name, True, self.trial.stage.now))
        self.ask_again_and_again(rpc.ListOffsetsRequest(partition, rpc.LATEST), 1_000)

    @act(broker=Choice(controllers))
    def crash_controller(self, broker: Address) -> None:
        """The controller's process dies."""
        self.fault(Crash(broker, True, self.trial.stage.now))

    @act(broker=Choice(ClusterMachine.up))
    def cut_off(self, broker: Address) -> None:
        """A broker loses ZooKeeper alone."""
        self.trial.schedule.partition([broker], [ZOOKEEPER])


MACHINES = (Replication, Transactions, Groups, Controlling)
