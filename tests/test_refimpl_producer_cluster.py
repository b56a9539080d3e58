"""Producers in a cluster of real brokers that crash, on a network that loses, doubles and reorders messages."""

from random import Random

import pytest
from hwmark.checkers.simulation.cluster import Cluster, ClusterSetup, Crash, Restart
from hwmark.checkers.simulation.schedule import NetworkConfig, TimedSchedule
from hwmark.refimpl import producer as txn
from hwmark.refimpl.batches import COMMIT
from hwmark.refimpl.config import ClusterConfig, Topic
from hwmark.refimpl.errors import Error
from hwmark.refimpl.group_coordinator import ConsumerGroupMetadata, OffsetAndMetadata
from hwmark.refimpl.producer import ProducerConfig, Send

TOPICS = (
    Topic("x", ((1, 2, 3), (2, 3, 1))),
    Topic("__consumer_offsets", ((3, 1, 2),)),
    Topic("__transaction_state", ((2, 3, 1),)),
)
OFFSETS = txn.SendOffsets(((("x", 0), OffsetAndMetadata(5)),), ConsumerGroupMetadata("g"))


class Run:
    """A cluster with producers; values are sent once, and `outcomes` has what their calls returned."""

    def __init__(self, seed: int, *producers: ProducerConfig, **flags) -> None:
        self.rng = Random(seed)
        choose = self.rng.choice
        network = NetworkConfig(drop=choose((0, 0.02)), duplicate=choose((0, 0.02)), reorder=choose((0, 0.02)))
        config = ClusterConfig(topics=TOPICS, kip_360=choose((True, False)), kip_890=choose((True, False)))
        cluster = Cluster(ClusterSetup(config._replace(**flags), producers))
        self.schedule = TimedSchedule(cluster, self.rng, network, keeps_actions=False)
        self.down, self.values, self.calls = None, 0, {}

    def send(self, producer: str) -> int:
        """Send the next value; it."""
        send = Send("x", None, self.values, self.rng.choice((0, 1, None)))
        self.calls[self.values] = self.schedule.invoke(producer, send)
        self.values += 1
        return self.values - 1

    def pass_time(self, ms: int) -> None:
        self.schedule.run_until(time=self.schedule.cluster.now + ms)

    def disturb(self, probability: float) -> None:
        """Crash a broker perhaps, or restart the one that is down; never its disk is lost."""
        if self.rng.random() >= probability:
            return
        now, broker = self.schedule.cluster.now, self.down or f"broker-{self.rng.randrange(1, 4)}"
        self.schedule.apply(Restart(broker, now) if self.down else Crash(broker, True, now))
        self.down = None if self.down else broker

    def outcome(self, number: int):
        """What a call returns, and what happens until then."""
        while True:
            for one in self.schedule.returned:
                if one.number == number:
                    return one.outcome
            assert self.schedule.cluster.now < 3_000_000, f"call {number} never returns"
            self.disturb(0.05)
            self.pass_time(200)

    def state(self, producer: str) -> str:
        return self.schedule.cluster.machines[producer].state

    def call(self, producer: str, operation):
        return self.outcome(self.schedule.invoke(producer, operation))

    def finish(self) -> None:
        """All brokers are up again, and nobody has anything left to do."""
        self.disturb(1.0 if self.down else 0.0)
        self.pass_time(100_000)

    def log(self, partition: int):
        machines = self.schedule.cluster.machines.values()
        replicas = [
            one.replicas["x", partition] for one in machines if ("x", partition) in getattr(one, "replicas", ())
        ]
        return max((one for one in replicas if one.is_leader), key=lambda one: one.leader_epoch).log

    def check_sequences(self) -> None:
        """Every epoch of a producer begins with 0, and has no gap and no repetition."""
        for partition in (0, 1):
            following: dict[tuple[int, int], int] = {}
            for batch in self.log(partition).batches:
                if batch.control is None:
                    producer = batch.producer_id, batch.producer_epoch
                    assert batch.base_sequence == following.get(producer, 0), batch
                    following[producer] = batch.base_sequence + len(batch.records)


def test_a_configuration_that_kafka_refuses_is_refused():
    unsafe = ProducerConfig(transactional_id="t", enable_idempotence=False)
    for refused in (ProducerConfig(acks=1), ProducerConfig(max_in_flight=6), unsafe):
        with pytest.raises(ValueError, match="take"):
            Cluster(ClusterSetup(ClusterConfig(topics=TOPICS), (refused,)))


@pytest.mark.parametrize("seed", range(12))
def test_an_idempotent_producer_writes_what_it_acknowledges_in_order_and_once_per_epoch(seed):
    config = ProducerConfig(
        linger=seed % 2 * 5, batch_records=1 + seed % 3, delivery_timeout=(120_000, 45_000)[seed % 2]
    )
    run = Run(seed, config)
    for _ in range(80):
        run.send("producer-1")
        run.disturb(0.02)
        run.pass_time(run.rng.choice((0, 5, 300)))
    outcomes = {value: run.outcome(number) for value, number in run.calls.items()}
    run.finish()
    run.check_sequences()
    for partition in (0, 1):
        at = {record.offset: record.value for batch in run.log(partition).batches for record in batch.records}
        epochs = {(batch.producer_id, batch.producer_epoch) for batch in run.log(partition).batches}
        assert len(epochs) > 1 or len(set(at.values())) == len(at)
        for value, (error, what) in outcomes.items():
            if error is not Error.NONE:
                assert what is True or value not in at.values(), "it was said not to be written"
            elif what[0] == ("x", partition):
                assert value in at.values() if what[1] == -1 else at[what[1]] == value
    assert seed % 2 or Error.NONE in {outcome.error for outcome in outcomes.values()}


@pytest.mark.parametrize("seed", range(16))
def test_transactions_are_atomic_and_end_as_they_were_said_to(seed):
    timeout = ProducerConfig(
        delivery_timeout=(120_000, 35_000)[seed % 2], transaction_timeout=(60_000, 20_000)[seed % 3 % 2]
    )
    config = timeout._replace(transactional_id="t", batch_records=1 + seed % 3)
    run = Run(seed, config, config._replace(transactional_id="u" if seed % 4 else "t"))
    alive, fates = ["producer-1", "producer-2"], {}
    for producer in alive:
        assert run.call(producer, txn.InitTransactions()).error is Error.NONE
    for _ in range(10):
        producer = run.rng.choice(alive)
        begun = run.call(producer, txn.BeginTransaction())
        fate = begun.error is Error.NONE and transact(run, producer, fates)
        if fate == "unknown" or run.state(producer) == "FATAL_ERROR":
            alive.remove(producer)
        if not alive:
            break
    run.finish()
    run.check_sequences()
    decided = {value: fate for partition in (0, 1) for value, fate in read(run.log(partition)).items()}
    for value, fate in fates.items():
        assert decided.get(value, "aborted") == fate or fate == "unknown", value
    assert "unknown" not in fates.values() or len(alive) < 2
    if seed % 4 == 0:
        assert "producer-1" not in alive or not fates, "who has its transactional id fences it"


def transact(run: Run, producer: str, fates: dict[int, str]) -> str:
    """One transaction; how it ended."""
    values = [run.send(producer) for _ in range(run.rng.randrange(6))]
    run.pass_time(run.rng.choice((0, 10, 2_000)))
    if run.rng.random() < 0.4:
        run.schedule.invoke(producer, OFFSETS)
    ending = run.rng.choice((txn.CommitTransaction(), txn.CommitTransaction(), txn.AbortTransaction()))
    error, state = run.call(producer, ending)
    fate = "committed" if isinstance(ending, txn.CommitTransaction) else "aborted"
    if error is not Error.NONE and state == "ABORTABLE_ERROR":
        fate, (error, state) = "aborted", run.call(producer, txn.AbortTransaction())
    fate = fate if error is Error.NONE else "unknown"
    fates.update(dict.fromkeys(values, fate))
    return fate


def read(log) -> dict[int, str]:
    """What became of each value in the log."""
    fates: dict[int, str] = {}
    ongoing: dict[int, list[int]] = {}
    for batch in log.batches:
        if batch.control is None:
            ongoing.setdefault(batch.producer_id, []).extend(record.value for record in batch.records)
            continue
        for value in ongoing.pop(batch.producer_id, []):
            assert value not in fates, "a value is written once"
            fates[value] = "committed" if batch.control == COMMIT else "aborted"
    assert ongoing == {}, "every transaction is over"
    return fates
