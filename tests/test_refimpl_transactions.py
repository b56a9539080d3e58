"""The transaction coordinator: whole life cycles over a trivial log, and a state machine of requests and faults."""

from __future__ import annotations

import copy
import pickle
from itertools import pairwise
from typing import Any, cast

import pytest
from hwmark.refimpl.batches import ABORT, COMMIT, Batch, Producer, Record, TopicPartition
from hwmark.refimpl.config import ClusterConfig
from hwmark.refimpl.coordinator import LOADING, Append, Respond, partition_for
from hwmark.refimpl.errors import Error, KafkaError
from hwmark.refimpl.transaction_coordinator import (
    PREPARED,
    PRODUCER_EPOCH_MAX,
    PRODUCER_IDS_PER_EPOCH,
    VALID_PREVIOUS_STATES,
    Effects,
    SendMarkers,
    Transaction,
    TransactionCoordinator,
)
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

ID = "payments"
TIMEOUT = 1_000
A0, A1, OFFSETS = ("a", 0), ("a", 1), ("__consumer_offsets", 7)
PARTITION = 0


class Owner:
    """The broker around a coordinator: a log of one partition in which all that is appended counts as committed."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.log: list[Record] = []
        self.now = 0
        self.epoch = 0
        self.broker_epoch = 0
        self.waiting: list[Append | SendMarkers] = []
        self.answers: dict[int, Respond] = {}
        self.written: set[tuple[TopicPartition, Producer, str]] = set()
        self.requests = 0
        self.fail_over()

    def fail_over(self) -> None:
        """Another broker becomes the coordinator, from the log alone."""
        self.broker_epoch += 1
        self.first_id = self.broker_epoch * PRODUCER_IDS_PER_EPOCH + 1
        self.epoch += 1
        self.waiting = []
        self.coordinator = TransactionCoordinator(ClusterConfig(**self.options), self.broker_epoch)
        self.take(self.load(self.epoch))

    def load(self, epoch: int) -> Effects:
        """The coordinator reads the log."""
        self.coordinator.unload(PARTITION)
        log = Batch(0, len(self.log) - 1, 0, tuple(self.log))
        return self.coordinator.load(PARTITION, [log], epoch, self.now)

    def take(self, effects: Effects) -> None:
        """Keep what has to be done, and the answers."""
        for effect in effects:
            if isinstance(effect, Respond):
                assert effect.to not in self.answers
                assert isinstance(effect.to, int)
                self.answers[effect.to] = effect
            else:
                assert effect[1] == self.epoch
                self.waiting.append(effect)

    def write(self, append: Append) -> None:
        """Write a record to the log, whatever its coordinator learns of it."""
        self.log.append(Record(len(self.log), *append.records[0]))

    def do(self, effect: Append | SendMarkers, error: Error = Error.NONE) -> None:
        """Do what the coordinator asked for, or fail to: an append with an error is not in the log."""
        self.waiting.remove(effect)
        if isinstance(effect, Append):
            if error is Error.NONE:
                self.write(effect)
            self.take(self.coordinator.on_appended(effect, error, -1, self.now))
            return
        if error is Error.NONE:
            self.written.add((effect.topic_partition, effect.producer, effect.result))
        self.take(self.coordinator.on_markers(effect, error, self.now))

    def pass_time(self) -> None:
        """Until something is due; then nothing is, for now."""
        deadline = self.coordinator.next_deadline()
        assert deadline is not None and self.coordinator.tick(deadline - 1) == []
        self.now = deadline
        self.take(self.coordinator.tick(self.now))
        assert (self.coordinator.next_deadline() or self.now + 1) > self.now

    def settle(self) -> None:
        """Do everything, and what follows from it."""
        while self.waiting:
            self.do(self.waiting[0])

    def ask(self, request: str, *args: Any) -> int:
        """Send a request; the number under which it will be answered."""
        self.requests += 1
        try:
            self.take(getattr(self.coordinator, request)(self.requests, self.now, *args))
        except KafkaError as refusal:
            self.take([Respond(self.requests, refusal.error)])
        return self.requests

    def call(self, request: str, *args: Any) -> Respond:
        """Send a request and wait until everything is done."""
        number = self.ask(request, *args)
        self.settle()
        return self.answers[number]

    def init(self, expected: tuple[int, int] | None = None) -> Producer:
        """A producer that has just been initialised."""
        answer = self.call("init_producer_id", ID, TIMEOUT, expected)
        assert answer.error is Error.NONE
        return Producer(ID, *cast(tuple[int, int], answer.body))

    def begun(self, *partitions: TopicPartition) -> Producer:
        """A producer with an ongoing transaction."""
        producer = self.init()
        assert self.call("add_partitions", producer, partitions).error is Error.NONE
        return producer

    def decided(self, result: str = COMMIT, version: int = 0) -> Producer:
        """A producer whose transaction, in one partition, is decided but not complete: its marker waits."""
        producer = self.begun(A0)
        self.ask("end_txn", producer, result, version)
        (append,) = self.waiting
        self.do(append)
        return producer

    @property
    def states(self) -> list[str]:
        """The states in the log."""
        return [record.value.state if isinstance(record.value, Transaction) else "-" for record in self.log]

    @property
    def transaction(self) -> Transaction:
        """What the coordinator takes for true."""
        known = self.coordinator.find(ID)
        assert known is not None
        return known


def following(answer: Respond) -> Producer:
    """Who the producer is after an answer."""
    return Producer(ID, *cast(tuple[int, int], answer.body))


@pytest.mark.parametrize("result", [COMMIT, ABORT])
def test_a_transaction_is_logged_answered_marked_and_completed(result: str) -> None:
    owner = Owner()
    producer = owner.begun(A0, A1)
    assert owner.call("add_partitions", producer, [OFFSETS]).error is Error.NONE
    answer = owner.call("end_txn", producer, result, 0)
    assert (answer.error, following(answer)) == (Error.NONE, producer)
    assert owner.written == {(one, producer, result) for one in (A0, A1, OFFSETS)}
    end = result.capitalize()
    assert owner.states == ["Empty", "Ongoing", "Ongoing", f"Prepare{end}", f"Complete{end}"]
    assert owner.transaction.topic_partitions == ()


def test_nothing_is_answered_before_it_is_in_the_log() -> None:
    owner = Owner()
    number = owner.ask("init_producer_id", ID, TIMEOUT, None)
    assert number not in owner.answers
    owner.settle()
    assert owner.answers[number].error is Error.NONE


def test_a_decided_transaction_is_answered_before_its_markers_are_written() -> None:
    owner = Owner()
    owner.decided()
    assert owner.answers[owner.requests].error is Error.NONE
    (markers,) = owner.waiting
    assert isinstance(markers, SendMarkers)


def test_nothing_new_begins_until_the_last_transaction_is_complete() -> None:
    owner = Owner()
    producer = owner.decided()
    for request in (("add_partitions", producer, [A1]), ("init_producer_id", ID, TIMEOUT, None)):
        assert owner.answers[owner.ask(*request)].error is Error.CONCURRENT_TRANSACTIONS
    owner.settle()
    assert owner.call("add_partitions", producer, [A1]).error is Error.NONE


def test_partitions_that_joined_are_not_logged_again() -> None:
    owner = Owner()
    producer = owner.begun(A0, A1)
    assert owner.call("add_partitions", producer, [A1]).error is Error.NONE
    assert owner.states == ["Empty", "Ongoing"]
    assert owner.call("add_partitions", producer, [A0], True).error is Error.NONE
    assert owner.call("add_partitions", producer, [A0, OFFSETS], True).error is Error.TRANSACTION_ABORTABLE
    assert owner.states == ["Empty", "Ongoing"]


def test_a_transaction_without_partitions_cannot_end() -> None:
    owner = Owner()
    assert owner.call("end_txn", owner.init(), COMMIT, 0).error is Error.INVALID_TXN_STATE


def test_what_is_decided_stays_decided() -> None:
    owner = Owner()
    producer = owner.decided(COMMIT)
    assert owner.answers[owner.ask("end_txn", producer, ABORT, 0)].error is Error.INVALID_TXN_STATE
    assert owner.answers[owner.ask("end_txn", producer, COMMIT, 0)].error is Error.CONCURRENT_TRANSACTIONS
    owner.settle()
    assert owner.call("end_txn", producer, ABORT, 0).error is Error.INVALID_TXN_STATE
    assert owner.call("end_txn", producer, COMMIT, 0).error is Error.NONE


# Version 2 of the protocol


def test_version_2_bumps_the_epoch_with_every_end_and_knows_a_retry() -> None:
    owner = Owner()
    producer = owner.begun(A0)
    for number in range(3):
        answer = owner.call("end_txn", producer, COMMIT, 2)
        bumped = producer._replace(producer_epoch=producer.producer_epoch + 1)
        assert following(answer) == bumped
        assert (A0, bumped, COMMIT) in owner.written
        assert following(owner.call("end_txn", producer, COMMIT, 2)) == bumped
        assert owner.call("add_partitions", producer, [A0]).error is Error.PRODUCER_FENCED
        assert owner.call("add_partitions", bumped, [A0]).error is Error.NONE, number
        producer = bumped


def near_the_last_epoch(epoch: int) -> Owner:
    """An owner whose log says that the producer was at an epoch long ago."""
    owner = Owner()
    owner.log.append(Record(0, ID, Transaction(Producer(ID, 7, epoch), TIMEOUT)))
    owner.fail_over()
    return owner


def test_version_2_goes_on_with_the_next_producer_id_when_the_epochs_are_used_up() -> None:
    owner = near_the_last_epoch(PRODUCER_EPOCH_MAX - 1)
    last = Producer(ID, 7, PRODUCER_EPOCH_MAX - 1)
    assert owner.call("add_partitions", last, [A0]).error is Error.NONE
    number = owner.ask("end_txn", last, COMMIT, 2)
    owner.do(owner.waiting[0])
    assert following(owner.answers[number]) == Producer(ID, owner.first_id, 0)
    busy = owner.ask("add_partitions", following(owner.answers[number]), [A1])
    assert owner.answers[busy].error is Error.CONCURRENT_TRANSACTIONS
    owner.settle()
    assert owner.written == {(A0, last._replace(producer_epoch=PRODUCER_EPOCH_MAX), COMMIT)}
    assert following(owner.call("end_txn", last, COMMIT, 2)) == following(owner.answers[number])
    assert owner.call("add_partitions", following(owner.answers[number]), [A1]).error is Error.NONE


# Producers


def test_a_new_producer_aborts_and_fences_the_one_before() -> None:
    owner = Owner()
    old = owner.begun(A0)
    assert owner.call("init_producer_id", ID, TIMEOUT, None).error is Error.CONCURRENT_TRANSACTIONS
    assert owner.written == {(A0, old._replace(producer_epoch=1), ABORT)}
    new = owner.init()
    assert new == old._replace(producer_epoch=2)
    for request in (("add_partitions", old, [A0]), ("add_partitions", old, [A0], True), ("end_txn", old, ABORT, 0)):
        assert owner.call(*request).error is Error.PRODUCER_FENCED
    stranger = old._replace(producer_id=99)
    assert owner.call("add_partitions", stranger, [A0]).error is Error.INVALID_PRODUCER_ID_MAPPING


@pytest.mark.parametrize("version", [0, 2])
def test_a_fence_bumps_the_epoch_once_and_the_fenced_cannot_retry_its_way_back(version: int) -> None:
    owner = Owner()
    old = owner.begun(A0)
    owner.call("init_producer_id", ID, TIMEOUT, None)
    assert owner.transaction.producer.producer_epoch == old.producer_epoch + 1
    assert owner.call("end_txn", old, ABORT, version).error is Error.PRODUCER_FENCED


def test_a_failed_fence_is_tried_again_and_bumps_the_epoch_once() -> None:
    owner = Owner()
    old = owner.begun(A0)
    number = owner.ask("init_producer_id", ID, TIMEOUT, None)
    assert owner.answers[number].error is Error.CONCURRENT_TRANSACTIONS
    for _ in range(2):
        owner.do(owner.waiting[0], Error.NOT_ENOUGH_REPLICAS)
        for request in (("init_producer_id", ID, TIMEOUT, None), ("end_txn", old, COMMIT, 0)):
            assert owner.answers[owner.ask(*request)].error is Error.CONCURRENT_TRANSACTIONS
        owner.pass_time()
    owner.settle()
    assert owner.written == {(A0, old._replace(producer_epoch=1), ABORT)}
    assert owner.call("end_txn", old, COMMIT, 0).error is Error.PRODUCER_FENCED
    assert owner.init().producer_epoch == 2


def test_a_producer_that_names_its_epoch_goes_on_and_may_retry() -> None:
    owner = Owner()
    first = owner.init()
    named = (first.producer_id, first.producer_epoch)
    second = owner.init(named)
    assert second == first._replace(producer_epoch=1)
    assert owner.init(named) == second
    owner.init()
    assert owner.call("init_producer_id", ID, TIMEOUT, named).error is Error.PRODUCER_FENCED


def test_without_kip_360_every_initialisation_is_a_new_producer() -> None:
    owner = Owner(kip_360=False)
    first = owner.init()
    named = (first.producer_id, first.producer_epoch)
    assert [owner.init(named).producer_epoch for _ in range(2)] == [1, 2]


def test_used_up_epochs_bring_a_new_producer_id() -> None:
    owner = near_the_last_epoch(PRODUCER_EPOCH_MAX - 1)
    named = (7, PRODUCER_EPOCH_MAX - 1)
    rotated = owner.init(named)
    assert rotated == Producer(ID, owner.first_id, 0)
    assert owner.init(named) == rotated


def test_the_last_epoch_is_for_fencing() -> None:
    owner = near_the_last_epoch(PRODUCER_EPOCH_MAX - 1)
    last = Producer(ID, 7, PRODUCER_EPOCH_MAX - 1)
    owner.call("add_partitions", last, [A0])
    assert owner.call("init_producer_id", ID, TIMEOUT, None).error is Error.CONCURRENT_TRANSACTIONS
    assert owner.transaction.producer.producer_epoch == PRODUCER_EPOCH_MAX
    assert owner.init() == Producer(ID, owner.first_id, 0)


def test_without_producer_ids_clients_wait_for_the_registration() -> None:
    owner = Owner()
    owner.coordinator.broker_epoch = -1
    for transactional_id in (None, ID):
        answer = owner.call("init_producer_id", transactional_id, TIMEOUT, None)
        assert answer.error is Error.COORDINATOR_LOAD_IN_PROGRESS
    owner.coordinator.broker_epoch = 1
    assert owner.init() == Producer(ID, owner.first_id, 0)


@pytest.mark.parametrize("timeout", [0, 900_001])
def test_a_timeout_has_its_limits(timeout: int) -> None:
    assert Owner().call("init_producer_id", ID, timeout, None).error is Error.INVALID_TRANSACTION_TIMEOUT


def test_two_transitions_are_never_on_their_way_at_once() -> None:
    owner = Owner()
    producer = owner.begun(A0)
    owner.ask("add_partitions", producer, [A1])
    for request in (
        ("add_partitions", producer, [OFFSETS]),
        ("end_txn", producer, COMMIT, 0),
        ("init_producer_id", ID, TIMEOUT, None),
    ):
        assert owner.answers[owner.ask(*request)].error is Error.CONCURRENT_TRANSACTIONS
    assert owner.coordinator.next_deadline() is None
    assert owner.answers[owner.ask("add_partitions", producer, [A1], True)].error is Error.TRANSACTION_ABORTABLE
    owner.settle()
    assert owner.transaction.topic_partitions == (A0, A1)


def test_there_are_transitions_that_never_happen() -> None:
    known = Transaction(Producer(ID, 7, 0), TIMEOUT)
    with pytest.raises(ValueError, match="may not become PrepareCommit"):
        known.decide(0, "PrepareCommit")


# Time


def test_a_transaction_starts_with_its_first_partition() -> None:
    owner = Owner()
    producer = owner.begun(A0)
    owner.now = TIMEOUT
    assert owner.call("add_partitions", producer, [A1]).error is Error.NONE
    assert owner.transaction.start_timestamp == 0
    owner.call("end_txn", producer, COMMIT, 0)
    owner.call("add_partitions", producer, [A1])
    assert owner.transaction.start_timestamp == TIMEOUT


def test_a_slow_transaction_is_aborted_and_its_producer_fenced() -> None:
    owner = Owner()
    producer = owner.begun(A0)
    owner.now = TIMEOUT
    assert owner.coordinator.tick(owner.now) == []
    owner.now += 1
    assert owner.coordinator.next_deadline() == owner.now
    owner.take(owner.coordinator.tick(owner.now))
    assert owner.coordinator.tick(owner.now) == [] and owner.coordinator.next_deadline() is None
    owner.settle()
    assert owner.written == {(A0, producer._replace(producer_epoch=1), ABORT)}
    assert owner.call("end_txn", producer, COMMIT, 0).error is Error.PRODUCER_FENCED


# Failures and failover


def test_a_failed_append_leaves_all_as_it_was() -> None:
    owner = Owner()
    producer = owner.begun(A0)
    number = owner.ask("end_txn", producer, COMMIT, 2)
    owner.do(owner.waiting[0], Error.NOT_ENOUGH_REPLICAS_AFTER_APPEND)
    assert owner.answers[number].error is Error.COORDINATOR_NOT_AVAILABLE
    assert following(owner.call("end_txn", producer, COMMIT, 2)) == producer._replace(producer_epoch=1)


def test_markers_and_completion_are_tried_again() -> None:
    owner = Owner()
    producer = owner.begun(A0, A1)
    owner.ask("end_txn", producer, COMMIT, 0)
    owner.do(owner.waiting[0])
    owner.do(owner.waiting[0])
    owner.do(owner.waiting[0], Error.NOT_LEADER_OR_FOLLOWER)
    assert owner.waiting == [] and owner.transaction.topic_partitions == (A1,)
    owner.pass_time()
    (again,) = owner.waiting
    assert isinstance(again, SendMarkers) and again.topic_partition == A1
    owner.do(again)
    owner.do(owner.waiting[0], Error.REQUEST_TIMED_OUT)
    assert owner.waiting == [] and owner.transaction.state == "PrepareCommit"
    owner.pass_time()
    owner.settle()
    assert owner.transaction.state == "CompleteCommit"
    assert owner.coordinator.next_deadline() is None


@pytest.mark.parametrize("error", [Error.TRANSACTION_COORDINATOR_FENCED, Error.INVALID_PRODUCER_EPOCH])
def test_a_fenced_coordinator_sends_no_more(error: Error) -> None:
    owner = Owner()
    owner.decided()
    owner.do(owner.waiting[0], error)
    assert owner.coordinator.next_deadline() is None and owner.waiting == []
    assert owner.transaction.state == "PrepareCommit"


@pytest.mark.parametrize("result", [COMMIT, ABORT])
@pytest.mark.parametrize("version", [0, 2])
def test_what_is_decided_is_completed_after_failover(result: str, version: int) -> None:
    owner = Owner()
    producer = owner.decided(result, version)
    answered = following(owner.answers[owner.requests])
    owner.fail_over()
    assert owner.answers[owner.ask("end_txn", producer, result, version)].error is Error.CONCURRENT_TRANSACTIONS
    owner.settle()
    assert owner.written == {(A0, answered, result)}
    assert owner.states[-1] == f"Complete{result.capitalize()}"
    assert following(owner.call("end_txn", producer, result, version)) == answered


def test_what_is_not_decided_goes_on_or_times_out_after_failover() -> None:
    owner = Owner()
    producer = owner.begun(A0)
    owner.ask("end_txn", producer, COMMIT, 0)
    owner.fail_over()
    assert (owner.transaction.state, owner.transaction.topic_partitions) == ("Ongoing", (A0,))
    assert owner.call("add_partitions", producer, [A1]).error is Error.NONE
    owner.now = TIMEOUT + 1
    owner.take(owner.coordinator.tick(owner.now))
    owner.settle()
    assert {result for _, _, result in owner.written} == {ABORT}


def test_an_overflow_survives_failover() -> None:
    owner = near_the_last_epoch(PRODUCER_EPOCH_MAX - 1)
    last = Producer(ID, 7, PRODUCER_EPOCH_MAX - 1)
    owner.call("add_partitions", last, [A0])
    number = owner.ask("end_txn", last, COMMIT, 2)
    owner.do(owner.waiting[0])
    owner.fail_over()
    owner.settle()
    assert owner.coordinator.transactions[ID].producer == following(owner.answers[number])


def test_what_was_asked_of_a_former_coordinator_changes_nothing() -> None:
    owner = Owner()
    producer = owner.begun(A0)
    number = owner.ask("end_txn", producer, COMMIT, 0)
    (append,) = owner.waiting
    assert isinstance(append, Append)
    owner.take(owner.load(owner.epoch + 1))
    owner.take(owner.coordinator.on_appended(append, Error.NONE, -1, owner.now))
    assert owner.answers[number].error is Error.NOT_COORDINATOR
    assert ID not in owner.coordinator.pending and owner.transaction.state == "Ongoing"


def test_markers_of_a_former_coordinator_change_nothing() -> None:
    owner = Owner()
    owner.decided()
    (markers,) = owner.waiting
    assert isinstance(markers, SendMarkers)
    owner.load(owner.epoch + 1)
    assert owner.coordinator.on_markers(markers, Error.NONE, owner.now) == []
    assert owner.transaction.topic_partitions == (A0,)


def test_a_partition_is_led_loading_or_not_led() -> None:
    owner = Owner()
    owner.begun(A0)
    owner.coordinator.epochs[PARTITION] = LOADING
    assert owner.call("init_producer_id", ID, TIMEOUT, None).error is Error.COORDINATOR_LOAD_IN_PROGRESS
    owner.coordinator.unload(PARTITION)
    assert owner.call("init_producer_id", ID, TIMEOUT, None).error is Error.NOT_COORDINATOR
    assert owner.coordinator.transactions == {}


def test_a_coordinator_is_copied_by_value() -> None:
    owner = Owner()
    owner.ask("init_producer_id", ID, TIMEOUT, None)
    for twin in (copy.deepcopy(owner.coordinator), pickle.loads(pickle.dumps(owner.coordinator))):
        assert twin == owner.coordinator
        twin.pending.clear()
        assert twin != owner.coordinator


@pytest.mark.parametrize(
    ("name", "count", "partition"),
    [
        ("abc", 50, 96354 % 50),
        ("payments", 50, 1382682413 % 50),
        ("polygenelubricants", 50, 0),
        ("😀", 50, 1772899 % 50),
    ],
)
def test_a_transactional_id_belongs_to_the_partition_of_its_java_hash(name: str, count: int, partition: int) -> None:
    assert partition_for(name, count) == partition


# Anything in any order


class Transactions(RuleBasedStateMachine):
    """Producers, several by the same name, with a coordinator whose log and leaders fail and which fails over.

    An append that fails is not in the log here. With NOT_ENOUGH_REPLICAS_AFTER_APPEND it is, in Kafka too, so that the
    log may say PrepareCommit where the coordinator goes on to abort.
    """

    ids = ("x", "y")

    @initialize(
        version=st.sampled_from([0, 2]), epoch=st.sampled_from([0, PRODUCER_EPOCH_MAX - 4, PRODUCER_EPOCH_MAX - 1])
    )
    def start(self, version: int, epoch: int) -> None:
        self.owner, self.version = Owner(), version
        for name in self.ids:
            self.owner.log.append(Record(0, name, Transaction(Producer(name, 7, epoch), TIMEOUT)))
        self.owner.fail_over()
        self.known = {name: [Producer(name, 7, epoch)] for name in self.ids}
        self.asked: dict[int, tuple[str, Producer | None, str]] = {}

    def ask(self, name: str, producer: Producer | None, request: str, *args: Any) -> None:
        self.asked[self.owner.ask(request, *args)] = (name, producer, request)

    def producer(self, name: str, age: int) -> Producer:
        """One of the producers by a name, by its age."""
        return self.known[name][-1 - age % len(self.known[name])]

    names = st.sampled_from(ids)
    ages = st.sampled_from([0, 0, 0, 1, 2, 5])
    picks = st.integers(0, 5)

    @rule(name=names, age=ages, names_epoch=st.booleans())
    def init_producer_id(self, name: str, age: int, names_epoch: bool) -> None:
        producer = self.producer(name, age) if names_epoch else None
        expected = None if producer is None else (producer.producer_id, producer.producer_epoch)
        self.ask(name, producer, "init_producer_id", name, TIMEOUT, expected)

    @rule(name=names, age=ages, partitions=st.sets(st.sampled_from([A0, A1, OFFSETS]), min_size=1))
    def add_partitions(self, name: str, age: int, partitions: set[TopicPartition]) -> None:
        producer = self.producer(name, age)
        self.ask(name, producer, "add_partitions", producer, partitions)

    @rule(name=names, age=ages, result=st.sampled_from([COMMIT, ABORT]))
    def end_txn(self, name: str, age: int, result: str) -> None:
        producer = self.producer(name, age)
        self.ask(name, producer, "end_txn", producer, result, self.version)

    @precondition(lambda self: self.owner.waiting)
    @rule(pick=picks, error=st.sampled_from([Error.NONE] * 3 + [Error.NOT_ENOUGH_REPLICAS]))
    def do_what_waits(self, pick: int, error: Error) -> None:
        self.owner.do(self.owner.waiting[pick % len(self.owner.waiting)], error)

    @rule()
    def settle(self) -> None:
        self.owner.settle()

    @rule(passed=st.sampled_from([0, TIMEOUT // 2, TIMEOUT + 1, 6 * TIMEOUT]))
    def tick(self, passed: int) -> None:
        self.owner.now += passed
        self.owner.take(self.owner.coordinator.tick(self.owner.now))

    @rule(survive=st.booleans())
    def fail_over(self, survive: bool) -> None:
        for effect in self.owner.waiting:
            if survive and isinstance(effect, Append):
                self.owner.write(effect)
        self.owner.fail_over()

    @invariant()
    def only_the_latest_producer_gets_on(self) -> None:
        """A new one is later than all before, one that goes on is not earlier; version 2 bumps at each end."""
        for number in sorted(self.asked.keys() & self.owner.answers.keys()):
            (name, producer, request), answer = self.asked.pop(number), self.owner.answers[number]
            if answer.error is not Error.NONE:
                continue
            if request == "add_partitions":
                assert producer == self.known[name][-1]
                continue
            given, latest = Producer(name, *cast(tuple[int, int], answer.body)), self.known[name][-1]
            if request == "end_txn":
                assert given == latest or producer == latest
                assert producer is not None and (given > producer if self.version == 2 else given == producer)
            else:
                assert given >= latest if producer is not None else given > latest
            if request != "add_partitions":
                self.known[name].append(given)

    @invariant()
    def the_log_has_valid_transitions_only_and_epochs_never_go_back(self) -> None:
        for name in self.ids:
            values = [record.value for record in self.owner.log if record.key == name]
            for before, after in pairwise(values):
                if isinstance(before, Transaction) and isinstance(after, Transaction):
                    assert before.state in VALID_PREVIOUS_STATES[after.state]
                    assert before.producer <= after.producer
                elif isinstance(before, Transaction):
                    assert before.state in VALID_PREVIOUS_STATES["Dead"]
                elif isinstance(after, Transaction):
                    assert after.state == "Empty"

    @invariant()
    def the_coordinator_knows_what_the_log_says(self) -> None:
        latest = {str(record.key): record.value for record in self.owner.log}
        for name, known in self.owner.coordinator.transactions.items():
            logged = latest[name]
            assert isinstance(logged, Transaction)
            assert (known.state, known.producer) == (logged.state, logged.producer)

    @invariant()
    def one_transition_at_a_time_is_on_its_way(self) -> None:
        appends = [
            str(one.records[0][0])
            for one in [*self.owner.waiting, *[effect for _, effect in self.owner.coordinator.retries]]
            if isinstance(one, Append)
        ]
        assert sorted(appends) == sorted(self.owner.coordinator.pending)

    @invariant()
    def markers_say_what_the_log_decided(self) -> None:
        for effect in self.owner.waiting:
            if isinstance(effect, SendMarkers):
                known = self.owner.coordinator.transactions[effect.producer.transactional_id]
                assert (known.state, known.producer) == (f"Prepare{effect.result.capitalize()}", effect.producer)
                assert effect.topic_partition in known.topic_partitions

    def teardown(self) -> None:
        if not hasattr(self, "owner"):
            return
        self.owner.fail_over()
        self.owner.settle()
        self.every_decided_transaction_is_complete()

    def every_decided_transaction_is_complete(self) -> None:
        """All are complete, and every partition of each has the marker of its decision."""
        for record in self.owner.log:
            if isinstance(record.value, Transaction) and record.value.state in PREPARED:
                producer = record.value.producer
                result = COMMIT if record.value.state == "PrepareCommit" else ABORT
                other = ABORT if result == COMMIT else COMMIT
                for partition in record.value.topic_partitions:
                    assert (partition, producer, result) in self.owner.written
                    if self.version == 2:
                        assert (partition, producer, other) not in self.owner.written
        assert not self.owner.coordinator.pending
        assert not any(known.state in PREPARED for known in self.owner.coordinator.transactions.values())


TestTransactions = Transactions.TestCase
