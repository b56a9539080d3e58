"""Everything about a run that is drawn from its seed before it begins.

As in swarm testing (Groce et al., 2012) each run has a few kinds of faults, versions and clients only: what all runs
have in the same mixture is found by none. A Focus narrows what is drawn from.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any, NamedTuple

from hwmark.checkers.simulation.cluster import ClusterSetup
from hwmark.checkers.simulation.schedule import NetworkConfig
from hwmark.refimpl.batches import TopicPartition
from hwmark.refimpl.config import OFFSETS_TOPIC, TRANSACTIONS_TOPIC, ClusterConfig, Topic
from hwmark.refimpl.consumer import ConsumerConfig
from hwmark.refimpl.machine import Address
from hwmark.refimpl.producer import ProducerConfig

INPUT, OUTPUT = "x", "y"
NEVER_ROLLED = ClusterConfig().segment_records
FAULTS: tuple[str, ...] = (
    "crash",
    "power cut",
    "client",
    "pause",
    "partition",
    "isolate",
    "one-way",
    "clock",
    "reassign",
    "elect",
    "new disk",
)


class Focus(NamedTuple):
    """What plans are drawn from: a tuple's values, of which those that repeat are likelier, or with a probability.

    `faults` are the kinds there may be, of which a run has one of `fault_counts`; `overtaking` has the probabilities
    that a message of an unreliable network is doubled or overtaken. A `lossy` cluster elects unclean leaders, and its
    power cuts and new disks take records along.
    """

    brokers: tuple[int, ...] = (2, 3, 3, 3, 4)
    inputs: tuple[int, ...] = (1, 2, 3)  # partitions
    acks: tuple[int, ...] = (-1, -1, -1, -1, -1, 1, 0)
    idempotent: float = 0.8  # with acks=all
    batch_records: tuple[int, ...] = (1, 2, 100)
    delivery_timeouts: tuple[int, ...] = (3_000, 8_000)
    transaction_timeouts: tuple[int, ...] = (2_000, 6_000)
    max_poll_intervals: tuple[int, ...] = (1_500, 4_000)
    fetch_max_records: tuple[int, ...] = (1, 3, 500)
    senders: tuple[int, ...] = (1, 1, 2)
    users: tuple[int, ...] = (1, 2, 4)  # of each of them
    transactions: float = 0.6
    zombies: float = 0.3  # two producers with one transactional id
    transactors: tuple[int, ...] = (1, 2)
    transforms: float = 0.6  # with transactions
    transformers: tuple[int, ...] = (1, 2, 2)
    readers: tuple[int, ...] = (0, 1, 2, 3)
    read_committed: float = 0.5
    cooperative: int = 3  # as likely as so many other assignors together
    static_members: float = 0.2
    kip_429: float = 0.7
    kip_497: float = 0.8
    kip_595: float = 0.7
    kip_890: float = 0.8
    kip_966: float = 0.3
    min_insync_replicas: tuple[int, ...] = (1, 2, 2)
    replica_lag_times: tuple[int, ...] = (400, 1_000)
    zookeeper_session_timeouts: tuple[int, ...] = (600, 1_500)
    replica_fetch_max_records: tuple[int, ...] = (1, 2, 2**31)
    segment_records: tuple[int, ...] = (5, 20, NEVER_ROLLED)
    request_timeout: int = 500
    latencies: tuple[int, ...] = (2, 10, 60)
    unreliable: float = 0.5
    overtaking: tuple[float, ...] = (0.0, 0.01)
    holds_partitioned: float = 0.3
    durations: tuple[int, ...] = (2_000, 4_000, 8_000)
    faults: tuple[str, ...] = FAULTS
    fault_counts: tuple[int, ...] = (0, 1, 2, 3, 5)
    fault_intervals: tuple[int, ...] = (150, 400, 1_000)
    fault_lengths: tuple[int, ...] = (20, 300, 900, 2_500)
    nemeses: int = 1  # how many faults may last at the same time
    lossy: float = 0.0


EVERYTHING = Focus(lossy=0.1)


class Plan(NamedTuple):
    """A run: `setup` and `network`, what the applications do for `duration` ms, and the faults that befall them.

    Of the clients, `senders`, `transactors`, `transformers` (consumer, producer) and `readers` are at work; the last
    two consumers do the closing reads, uncommitted and committed.
    """

    seed: int
    setup: ClusterSetup
    network: NetworkConfig
    duration: int
    faults: tuple[str, ...]
    fault_interval: int
    fault_lengths: tuple[int, ...]
    nemeses: int
    users: tuple[int, ...]
    senders: tuple[str, ...]
    transactors: tuple[str, ...]
    transformers: tuple[tuple[str, str], ...]
    readers: tuple[str, ...]

    @property
    def partitions(self) -> tuple[TopicPartition, ...]:
        """The partitions that applications write to and read."""
        return tuple([partition for partition in self.all_partitions if not partition[0].startswith("__")])

    @property
    def all_partitions(self) -> tuple[TopicPartition, ...]:
        """The coordinators' partitions too."""
        return tuple(self.setup.config.assignment())

    @property
    def acks(self) -> int:
        """What all plain producers ask for."""
        return self.setup.producer(self.senders[0]).acks if self.senders else -1

    @property
    def closers(self) -> tuple[str, str]:
        """The consumers that do the closing reads: read_uncommitted, then read_committed."""
        count = len(self.setup.consumers)
        return f"consumer-{count - 1}", f"consumer-{count}"


def draw_plan(seed: int, focus: Focus = EVERYTHING, **changes: Any) -> Plan:
    """The plan that belongs to a seed; `changes` replace fields of its ClusterConfig, for versions that broke.

    Where logs roll, idempotent producers without transactions have one batch in flight. A snapshot of the producers
    keeps the last batch of each, so a leader that comes back from one refuses an earlier batch that is sent again, as
    out of order; the producer sends it in a new epoch then (KIP-360), and it is in the log twice: by rights, in Kafka.
    """
    rng = Random(seed)
    is_lossy = Random(f"losses of {seed}").random() < focus.lossy
    config = _draw_config(rng, focus)._replace(unclean_leader_election=is_lossy)._replace(**changes)
    clients = _Clients(rng, focus, config, acks=rng.choice(focus.acks))
    senders = tuple(clients.producer(None) for _ in range(rng.choice(focus.senders)))
    has_transactions = rng.random() < focus.transactions
    names = ["a", "a" if rng.random() < focus.zombies else "b", "c", "d", "e", "f"]
    names = names[: rng.choice(focus.transactors)] if has_transactions else []
    transactors = tuple(clients.producer(name) for name in names)
    clients.draw_protocol()
    pairs = rng.choice(focus.transformers) if has_transactions and rng.random() < focus.transforms else 0
    transformers = tuple(
        (clients.member("transform", i, is_read_committed=True), clients.producer(f"transform-{i}"))
        for i in range(pairs)
    )
    auto_commit = rng.choice((None, 400))
    readers = tuple(
        clients.member("read", i, is_read_committed=clients.reads_committed(), auto_commit_interval=auto_commit)
        for i in range(rng.choice(focus.readers))
    )
    readers += tuple(clients.consumer(is_read_committed=clients.reads_committed()) for _ in range(rng.choice((0, 1))))
    clients.consumer()
    clients.consumer(is_read_committed=True)
    return Plan(
        seed,
        ClusterSetup(config, tuple(clients.producers), tuple(clients.consumers)),
        _draw_network(rng, focus, may_overtake=config.kip_890),
        rng.choice(focus.durations),
        _draw_faults(rng, focus, config),
        rng.choice(focus.fault_intervals),
        focus.fault_lengths,
        max(focus.nemeses, 1 + is_lossy),  # one fault alone seldom loses what is committed
        focus.users,
        senders,
        transactors,
        transformers,
        readers,
    )


class _Clients:
    """The clients of a run as they are drawn, one after the other; each method answers the new client's name."""

    def __init__(self, rng: Random, focus: Focus, config: ClusterConfig, acks: int) -> None:
        self.rng, self.focus, self.config, self.acks = rng, focus, config, acks
        self.producers: list[ProducerConfig] = []
        self.consumers: list[ConsumerConfig] = []
        self.assignors: tuple[str, ...] = ()
        self.is_static = False

    def producer(self, name: str | None) -> Address:
        """A producer, with a transactional id or without."""
        rng, focus, has_snapshots = self.rng, self.focus, self.config.segment_records < NEVER_ROLLED
        idempotent = name is not None or (self.acks == -1 and rng.random() < focus.idempotent)
        several = idempotent and (name is not None or not has_snapshots)
        self.producers.append(
            ProducerConfig(
                acks=-1 if name else self.acks,
                enable_idempotence=idempotent,
                transactional_id=name,
                linger=rng.choice((0, 0, 5)),
                batch_records=rng.choice(focus.batch_records),
                max_in_flight=rng.choice((1, 5)) if several else 1,
                delivery_timeout=rng.choice(focus.delivery_timeouts),
                transaction_timeout=rng.choice(focus.transaction_timeouts),
            )
        )
        return f"producer-{len(self.producers)}"

    def consumer(self, **fields: Any) -> Address:
        """A consumer, in no group unless the fields say so."""
        self.consumers.append(ConsumerConfig(fetch_max_wait=200, **fields))
        return f"consumer-{len(self.consumers)}"

    def draw_protocol(self) -> None:
        """How the members of all groups share partitions, and whether they are static."""
        protocols = [("range",), ("roundrobin",), ("sticky",)]
        protocols += [("cooperative-sticky",)] * self.focus.cooperative * self.config.kip_429
        self.assignors, self.is_static = self.rng.choice(protocols), self.rng.random() < self.focus.static_members

    def reads_committed(self) -> bool:
        """Whether a reader does."""
        return self.rng.random() < self.focus.read_committed

    def member(self, group: str, number: int, **fields: Any) -> Address:
        """A member of a group."""
        return self.consumer(
            group_id=group,
            assignors=self.assignors,
            session_timeout=1_000,
            heartbeat_interval=300,
            max_poll_interval=self.rng.choice(self.focus.max_poll_intervals),
            fetch_max_records=self.rng.choice(self.focus.fetch_max_records),
            instance=f"{group}-{number}" if self.is_static else None,
            **fields,
        )


def config_of(brokers: int, partitions: Mapping[str, int], **settings: Any) -> ClusterConfig:
    """A cluster of so many brokers and partitions per topic, with three replicas each, and with short times."""
    ids = tuple(range(1, brokers + 1))
    topics = []
    for name, count in partitions.items():
        rows = tuple(tuple(ids[(i + j) % brokers] for j in range(min(brokers, 3))) for i in range(count))
        topics.append(Topic(name, rows, is_compacted=name in (OFFSETS_TOPIC, TRANSACTIONS_TOPIC)))
    config = ClusterConfig(
        brokers=ids,
        topics=tuple(topics),
        replica_lag_time_max=400,
        replica_fetch_wait_max=100,
        high_watermark_checkpoint_interval=500,
        zookeeper_session_timeout=600,
        request_timeout=500,
        retry_backoff=50,
    )
    return config._replace(**settings)


def _draw_config(rng: Random, focus: Focus) -> ClusterConfig:
    sizes = {INPUT: focus.inputs, OUTPUT: (1, 2), OFFSETS_TOPIC: (1, 2), TRANSACTIONS_TOPIC: (1, 2)}
    return config_of(
        rng.choice(focus.brokers),
        {name: rng.choice(counts) for name, counts in sizes.items()},
        kip_429=rng.random() < focus.kip_429,
        kip_497=rng.random() < focus.kip_497,
        kip_595=rng.random() < focus.kip_595,
        kip_890=rng.random() < focus.kip_890,
        kip_966=rng.random() < focus.kip_966,
        min_insync_replicas=rng.choice(focus.min_insync_replicas),
        flushes_every_append=rng.random() < 0.5,
        replica_lag_time_max=rng.choice(focus.replica_lag_times),
        replica_fetch_max_records=rng.choice(focus.replica_fetch_max_records),
        zookeeper_session_timeout=rng.choice(focus.zookeeper_session_timeouts),
        segment_records=rng.choice(focus.segment_records),
        request_timeout=focus.request_timeout,
    )


def _draw_network(rng: Random, focus: Focus, *, may_overtake: bool) -> NetworkConfig:
    """Messages of a connection overtake each other only where the protocol does not rely on TCP."""
    unreliable = rng.random() < focus.unreliable
    overtakes = unreliable and may_overtake
    return NetworkConfig(
        latency_min=1,
        latency_max=rng.choice(focus.latencies),
        drop=rng.choice((0.005, 0.02)) if unreliable else 0.0,
        duplicate=rng.choice(focus.overtaking) if overtakes else 0.0,
        reorder=rng.choice(focus.overtaking) if overtakes else 0.0,
        holds_partitioned=rng.random() < focus.holds_partitioned,
    )


def _draw_faults(rng: Random, focus: Focus, config: ClusterConfig) -> tuple[str, ...]:
    harmful = {"new disk", *(() if config.flushes_every_append else ("power cut",))}
    possible = [fault for fault in focus.faults if config.unclean_leader_election or fault not in harmful]
    return tuple(rng.sample(possible, min(len(possible), rng.choice(focus.fault_counts))))
