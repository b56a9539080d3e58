"""A broker's coordinators, driven by hand: logs, markers, producer ids and times."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from coordinators_by_hand import Coordinators, Marker
from hwmark.refimpl import requests as rpc
from hwmark.refimpl.batches import ABORT, COMMIT, Batch, Producer, Record, TopicPartition
from hwmark.refimpl.config import OFFSETS_TOPIC, TRANSACTIONS_TOPIC, ClusterConfig, Topic
from hwmark.refimpl.coordinator import Append, Respond
from hwmark.refimpl.errors import Error
from hwmark.refimpl.group_coordinator import CLEANUP_INTERVAL, ConsumerGroupMetadata, OffsetAndMetadata
from hwmark.refimpl.log import Log
from hwmark.refimpl.machine import Message
from hwmark.refimpl.partition_change import NO_LEADER, PartitionRegistration
from hwmark.refimpl.requests import Response
from hwmark.refimpl.transaction_coordinator import PRODUCER_IDS_PER_EPOCH

OFFSETS, TRANSACTIONS = (OFFSETS_TOPIC, 0), (TRANSACTIONS_TOPIC, 0)
X0, X1, X2 = ("x", 0), ("x", 1), ("x", 2)
TOPICS = tuple(Topic(name, ((1,),)) for name in (OFFSETS_TOPIC, TRANSACTIONS_TOPIC))
GROUP = ConsumerGroupMetadata("g")
PROTOCOLS = (("range", ()),)


def led_by(leader: int) -> PartitionRegistration:
    return PartitionRegistration((1, 2), (1, 2), leader)


class Host:
    """A broker around its coordinators: it appends and, unless told otherwise, replicates at once."""

    def __init__(self, epoch: int = 5, **config: Any) -> None:
        self.coordinators = Coordinators(ClusterConfig(**{"topics": TOPICS} | config))
        self.logs = {OFFSETS: Log(), TRANSACTIONS: Log()}
        self.replies: list[Response] = []
        self.asked: list[Any] = []
        self.appended: list[Append] = []
        self.metadata = self.coordinators.partitions
        self.metadata |= {X0: led_by(1), X1: led_by(2), X2: led_by(1), OFFSETS: led_by(1)}
        self.correlation, self.now, self.replicates = 0, 0, True
        self.coordinators.transactions.broker_epoch, self.coordinators.transactions.producer_id_count = 0, 69
        for partition, log in self.logs.items():
            self.do(self.coordinators.on_leader(partition, log, epoch, 0))

    def do(self, effects: list[Any]) -> None:
        for effect in effects:
            if isinstance(effect, Respond):
                self.replies.append(Response(effect.error, effect.body))
            elif isinstance(effect, Marker):
                self.asked.append(effect)
            else:
                self.appended.append(effect)
                if self.replicates:
                    self.append(effect)

    def append(self, effect: Append) -> None:
        base = self.write(effect.topic_partition, effect.batch(self.now))
        self.do(self.coordinators.on_appended(effect, Error.NONE, base, self.now))
        self.do(self.coordinators.on_high_watermark(effect.topic_partition, self.now))

    def write(self, partition: TopicPartition, batch: Batch) -> int:
        log = self.logs[partition]
        base = log.append_as_leader(batch, 5).base_offset
        log.update_high_watermark(log.log_end_offset)
        return base

    def ask(self, body: Any) -> Response | None:
        """The answer to a request, None if it is parked."""
        count, self.correlation = len(self.replies), self.correlation + 1
        message = Message("client", "broker-1", self.correlation, body)
        self.do(self.coordinators.handle(message, self.now))
        assert len(self.replies) <= count + 1
        return self.replies[count] if len(self.replies) > count else None

    def tick(self) -> None:
        """Time passes up to the deadline, and not less is enough."""
        deadline = self.coordinators.deadline()
        assert deadline is not None
        assert self.coordinators.time_passes(deadline - 1) == []
        self.now = deadline
        self.do(self.coordinators.time_passes(deadline))

    def answer(self, *errors: Error | None) -> None:
        """What the leaders say to markers; None: nothing."""
        asked, self.asked = self.asked, []
        for one, error in zip(asked, errors, strict=True):
            self.do(self.coordinators.on_response(one, Response(error) if error else None, self.now))

    def state(self) -> str:
        return self.coordinators.transactions.transactions["t"].state

    def begin(self, *partitions: TopicPartition) -> Producer:
        """A transaction with some partitions."""
        response = self.ask(rpc.InitProducerIdRequest("t"))
        assert response is not None and response.error is Error.NONE
        producer = Producer("t", *response.value)
        added = self.ask(rpc.AddPartitionsToTxnRequest(producer, partitions))
        assert added is not None and added.error is Error.NONE
        return producer


def marker(producer: Producer, result: str) -> Batch:
    record = Record(0, "marker", result)
    identity = producer.producer_id, producer.producer_epoch
    return Batch(0, 0, -1, (record,), *identity, is_transactional=True, control=result, coordinator_epoch=5)


def commits(offset: int) -> tuple[tuple[TopicPartition, OffsetAndMetadata], ...]:
    return ((X0, OffsetAndMetadata(offset)),)


def fetched(host: Host, require_stable: bool = True) -> tuple[Error, int]:
    response = host.ask(rpc.OffsetFetchRequest(GROUP, (X0,), require_stable))
    assert response is not None and response.error is Error.NONE
    ((_, error, position),) = response.value
    return error, position.offset


# ------------------------------------------------------------ leading

REQUESTS = [
    rpc.InitProducerIdRequest("t"),
    rpc.AddPartitionsToTxnRequest(Producer("t", 0, 0), (X0,)),
    rpc.AddPartitionsToTxnRequest(Producer("t", 0, 0), (X0,), verify_only=True),
    rpc.AddOffsetsToTxnRequest(Producer("t", 0, 0), "g"),
    rpc.EndTxnRequest(Producer("t", 0, 0), COMMIT, 2),
    rpc.TxnOffsetCommitRequest(GROUP, commits(1), Producer("t", 0, 0)),
    rpc.JoinGroupRequest(GROUP, PROTOCOLS),
    rpc.SyncGroupRequest(GROUP),
    rpc.HeartbeatRequest(GROUP),
    rpc.LeaveGroupRequest(GROUP),
    rpc.OffsetCommitRequest(GROUP, commits(1)),
    rpc.OffsetFetchRequest(GROUP, (X0,)),
]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: type(request).__name__)
def test_a_broker_coordinates_only_what_it_leads_and_has_loaded(request_: Any) -> None:
    host = Host()
    for partition in host.logs:
        host.do(host.coordinators.on_follower(partition, 0))
    assert host.ask(request_) == Response(Error.NOT_COORDINATOR)
    for partition, log in host.logs.items():
        log.append_as_leader(Batch(0, 0, -1, (Record(0, "?", None),)), 5)  # not replicated
        host.do(host.coordinators.on_leader(partition, log, 6, 0))
    assert host.ask(request_) == Response(Error.COORDINATOR_LOAD_IN_PROGRESS)
    for partition in host.logs:
        host.do(host.coordinators.on_follower(partition, 0))
    assert host.ask(request_) == Response(Error.NOT_COORDINATOR)


def test_a_partition_is_loaded_with_what_was_replicated_since_the_election() -> None:
    first = Host()
    first.ask(rpc.OffsetCommitRequest(GROUP, commits(7)))
    first.begin(X0)
    second, log = Host(), first.logs[OFFSETS]
    log.append_as_leader(first.appended[0].batch(0), 5)
    for partition, led in first.logs.items():
        second.do(second.coordinators.on_follower(partition, 0))
        second.do(second.coordinators.on_leader(partition, led, 6, 0))
    assert second.ask(rpc.OffsetFetchRequest(GROUP, (X0,))) == Response(Error.COORDINATOR_LOAD_IN_PROGRESS)
    assert second.state() == "Ongoing"  # that log was replicated
    log.update_high_watermark(log.log_end_offset)
    second.do(second.coordinators.on_high_watermark(OFFSETS, 0))
    assert fetched(second) == (Error.NONE, 7)


def test_who_leads_on_reads_its_logs_again() -> None:
    host = Host()
    joined = host.ask(rpc.JoinGroupRequest(GROUP, PROTOCOLS))
    assert joined is not None and joined.error is Error.MEMBER_ID_REQUIRED
    again = rpc.JoinGroupRequest(GROUP._replace(member_id=joined.value.member_id), PROTOCOLS)
    host.ask(rpc.JoinGroupRequest(GROUP, PROTOCOLS))
    assert host.ask(again) is None
    host.begin(X0)
    known = host.coordinators.transactions.transactions["t"]
    for partition, log in host.logs.items():
        host.do(host.coordinators.on_leader(partition, log, 9, 0))
    assert host.replies[-1] == Response(Error.NOT_COORDINATOR)
    assert host.coordinators.groups.epochs == host.coordinators.transactions.epochs == {0: 9}
    assert host.coordinators.groups.groups == {}
    assert host.state() == "Ongoing" and host.coordinators.transactions.transactions["t"] == known
    host.ask(rpc.JoinGroupRequest(ConsumerGroupMetadata("i", instance="1"), PROTOCOLS))
    assert host.coordinators.groups.groups["i"].leader == "1-9-4"


def commit_in_transaction(host: Host, producer: Producer, offset: int) -> None:
    assert host.ask(rpc.TxnOffsetCommitRequest(GROUP, commits(offset), producer)) == Response(Error.NONE)


def replicate(host: Host) -> None:
    log = host.logs[OFFSETS]
    log.update_high_watermark(log.log_end_offset)
    host.do(host.coordinators.on_high_watermark(OFFSETS, host.now))


def test_who_leads_on_misses_no_marker() -> None:
    host = Host()
    producer = host.begin(OFFSETS)
    commit_in_transaction(host, producer, 7)
    log = host.logs[OFFSETS]
    log.append_as_leader(marker(producer, COMMIT), 5)
    host.do(host.coordinators.on_leader(OFFSETS, log, 9, 0))
    assert host.ask(rpc.OffsetFetchRequest(GROUP, (X0,))) == Response(Error.COORDINATOR_LOAD_IN_PROGRESS)
    replicate(host)
    assert fetched(host) == (Error.NONE, 7)


def test_a_marker_that_was_written_while_the_log_was_loaded_is_not_missed() -> None:
    first, second = Host(), Host()
    producer = first.begin(OFFSETS)
    commit_in_transaction(first, producer, 7)
    log = first.logs[OFFSETS]
    second.logs[OFFSETS] = log
    second.do(second.coordinators.on_follower(OFFSETS, 0))
    assert second.coordinators.groups.epochs == {}
    log.append_as_leader(Batch(0, 0, -1, (Record(0, ("h", X0), None),)), 6)
    second.do(second.coordinators.on_leader(OFFSETS, log, 6, 0))
    log.append_as_leader(marker(producer, COMMIT), 6)
    log.update_high_watermark(log.log_end_offset - 1)
    second.do(second.coordinators.on_high_watermark(OFFSETS, 0))
    assert fetched(second) == (Error.UNSTABLE_OFFSET_COMMIT, -1)
    replicate(second)
    assert fetched(second) == (Error.NONE, 7)


def test_a_marker_ends_only_the_transaction_before_it() -> None:
    host = Host(kip_890=False)
    producer = host.begin(OFFSETS)
    commit_in_transaction(host, producer, 7)
    host.logs[OFFSETS].append_as_leader(marker(producer, COMMIT), 5)
    replicate(host)
    commit_in_transaction(host, producer, 8)  # of the next transaction
    host.ask(rpc.OffsetCommitRequest(GROUP, ((X1, OffsetAndMetadata(1)),)))
    assert fetched(host) == (Error.UNSTABLE_OFFSET_COMMIT, -1) and fetched(host, False) == (Error.NONE, 7)


@pytest.mark.parametrize(
    ("is_before_marker", "error"),
    [(True, Error.NONE), (True, Error.INVALID_PRODUCER_EPOCH), (False, Error.INVALID_PRODUCER_EPOCH)],
)
@pytest.mark.parametrize(("result", "offset"), [(COMMIT, 7), (ABORT, -1)])
def test_a_late_copy_of_a_commit_changes_nothing(
    result: str, offset: int, is_before_marker: bool, error: Error
) -> None:
    host = Host()
    producer = host.begin(OFFSETS)
    commit_in_transaction(host, producer, 7)
    host.replicates, host.now = False, 9
    assert host.ask(rpc.TxnOffsetCommitRequest(GROUP, commits(7), producer)) is None
    late, log = host.appended[-1], host.logs[OFFSETS]
    log.append_as_leader(marker(producer, result), 5)
    base = 0 if is_before_marker else log.log_end_offset
    outcome = late, error, base if error is Error.NONE else -1, host.now
    if is_before_marker:
        host.do(host.coordinators.on_appended(*outcome))
    replicate(host)
    if not is_before_marker:
        host.do(host.coordinators.on_appended(*outcome))
    assert fetched(host) == (Error.NONE, offset)


def test_a_late_copy_that_nobody_verified_awaits_another_marker() -> None:
    host = Host(kip_890=False)
    producer = host.begin(OFFSETS)
    commit_in_transaction(host, producer, 7)
    host.logs[OFFSETS].append_as_leader(marker(producer, COMMIT), 5)
    replicate(host)
    commit_in_transaction(host, producer, 7)
    for _ in range(2):
        assert fetched(host) == (Error.UNSTABLE_OFFSET_COMMIT, -1) and fetched(host, False) == (Error.NONE, 7)
        host.do(host.coordinators.on_leader(OFFSETS, host.logs[OFFSETS], 9, 0))


def test_of_two_commits_in_a_transaction_the_later_counts() -> None:
    host = Host()
    producer = host.begin(OFFSETS)
    commit_in_transaction(host, producer, 7)
    commit_in_transaction(host, producer, 8)
    host.logs[OFFSETS].append_as_leader(marker(producer, COMMIT), 5)
    replicate(host)
    assert fetched(host) == (Error.NONE, 8)


def test_ceasing_to_lead_refuses_who_waits() -> None:
    host = Host()
    host.replicates = False
    assert host.ask(rpc.OffsetCommitRequest(GROUP, commits(1))) is None
    assert host.ask(rpc.InitProducerIdRequest("t")) is None
    for number, (partition, append) in enumerate(zip((OFFSETS, TRANSACTIONS), host.appended, strict=True), 1):
        host.do(host.coordinators.on_follower(partition, 0))
        host.do(host.coordinators.on_appended(append, Error.NOT_LEADER_OR_FOLLOWER, -1, 0))
        assert host.replies == [Response(Error.NOT_COORDINATOR)] * number


def test_a_key_belongs_to_the_partition_of_its_hash() -> None:
    topics = tuple(Topic(name, ((1,),) * count) for name, count in ((OFFSETS_TOPIC, 50), (TRANSACTIONS_TOPIC, 10)))
    coordinators = Coordinators(ClusterConfig(topics=topics))
    assert coordinators.groups.partition("my-group") == 12
    assert coordinators.transactions.partition("my-group") == 2


# ------------------------------------------------------------ transactions


def test_producer_ids_come_from_the_broker_epoch() -> None:
    host, ids = Host(), []
    for epoch in (3, 3, 7):
        host.coordinators.transactions.broker_epoch = epoch
        ids.append(host.ask(rpc.InitProducerIdRequest(None)).value[0])
    assert [id // PRODUCER_IDS_PER_EPOCH for id in ids] == [3, 3, 7] and len(set(ids)) == 3


def test_before_the_broker_is_registered_there_are_no_producer_ids() -> None:
    host = Host()
    host.coordinators.transactions.broker_epoch = -1
    for transactional_id in (None, "t"):
        assert host.ask(rpc.InitProducerIdRequest(transactional_id)) == Response(Error.COORDINATOR_LOAD_IN_PROGRESS)


def test_records_of_transactions_are_appended_in_the_leader_epoch() -> None:
    host = Host()
    host.now = 44
    host.begin(X0)
    _, added = host.appended
    assert [one.topic_partition for one in host.appended] == [TRANSACTIONS] * 2
    assert added.leader_epoch == added.batch(44).leader_epoch == 5 and added.batch(44).timestamp == 44
    ((offset, key, value),) = added.batch(host.now).records
    assert (offset, key, value.topic_partitions) == (0, "t", (X0,))  # type: ignore[attr-defined]
    assert added.batch(44).producer_id == -1 and not added.batch(44).is_transactional
    assert added.producer.transactional_id == ""


def test_offsets_join_the_transaction_and_leaders_may_ask() -> None:
    host = Host()
    producer = host.begin(X0)
    assert host.ask(rpc.AddOffsetsToTxnRequest(producer, "g")) == Response(Error.NONE, producer[1:])
    for here, error in ((X0, Error.NONE), (X1, Error.TRANSACTION_ABORTABLE), (OFFSETS, Error.NONE)):
        question = rpc.AddPartitionsToTxnRequest(producer, (here,), verify_only=True)
        assert host.ask(question) == Response(error)
    late = question._replace(producer=producer._replace(producer_epoch=9))
    assert host.ask(late) == Response(Error.PRODUCER_FENCED)


@pytest.mark.parametrize(("kip_890", "epoch"), [(True, 1), (False, 0)])
def test_markers_go_to_the_leaders_and_then_the_transaction_is_complete(kip_890: bool, epoch: int) -> None:
    host = Host(kip_890=kip_890)
    producer = host.begin(X0, X1, X2)
    assert host.ask(rpc.EndTxnRequest(producer, COMMIT, 2 if kip_890 else 0)) == Response(Error.NONE, (70, epoch))
    assert [(one.leader, one.request) for one in host.asked] == [
        (leader, rpc.WriteTxnMarkersRequest(here, 70, epoch, 5, COMMIT)) for here, leader in ((X0, 1), (X1, 2), (X2, 1))
    ]
    host.answer(Error.NONE, Error.NONE, Error.NONE)
    assert host.state() == "CompleteCommit" and host.asked == []


def test_a_marker_waits_for_a_leader() -> None:
    host = Host()
    producer = host.begin(X0, X1)
    host.metadata[X1] = led_by(NO_LEADER)
    del host.metadata[X0]
    host.ask(rpc.EndTxnRequest(producer, ABORT, 2))
    assert host.asked == []
    host.metadata[X0] = led_by(2)
    host.tick()
    assert [(one.leader, one.request.topic_partition) for one in host.asked] == [(2, X0)]
    host.metadata[X1] = led_by(1)
    host.tick()
    assert [(one.leader, one.request.topic_partition) for one in host.asked[1:]] == [(1, X1)]
    host.answer(Error.NONE, Error.NONE)
    assert host.state() == "CompleteAbort"


@pytest.mark.parametrize("error", [None, Error.NOT_LEADER_OR_FOLLOWER, Error.UNKNOWN_TOPIC_OR_PARTITION])
def test_a_marker_is_sent_again_a_little_later_to_who_leads_then(error: Error | None) -> None:
    host = Host(retry_backoff=123)
    producer = host.begin(X0, X1)
    host.now = 1_000
    host.ask(rpc.EndTxnRequest(producer, COMMIT, 2))
    host.answer(Error.NONE, error)
    assert host.asked == [] and host.state() == "PrepareCommit"
    host.metadata[X1] = led_by(3)
    host.tick()
    assert host.now == 1_123
    assert [(one.leader, one.request.topic_partition) for one in host.asked] == [(3, X1)]
    host.answer(Error.NONE)
    assert host.state() == "CompleteCommit"


def test_a_superseded_coordinator_gives_up() -> None:
    host = Host()
    host.ask(rpc.EndTxnRequest(host.begin(X0), COMMIT, 2))
    host.answer(Error.TRANSACTION_COORDINATOR_FENCED)
    assert host.coordinators.transactions.next_deadline() is None and host.state() == "PrepareCommit"


def test_nobody_repeats_markers_for_a_partition_that_it_does_not_lead_any_more() -> None:
    host = Host()
    host.metadata.clear()
    host.ask(rpc.EndTxnRequest(host.begin(X0), COMMIT, 2))
    assert len(host.coordinators.transactions.retries) == 1
    host.do(host.coordinators.on_follower(TRANSACTIONS, 0))
    host.metadata[X0] = led_by(1)
    host.tick()
    host.answer(Error.NOT_LEADER_OR_FOLLOWER)  # what was waiting is sent once more, in the former epoch
    assert host.asked == host.coordinators.transactions.retries == []


def test_a_new_coordinator_sends_the_markers_of_what_was_decided() -> None:
    first, second = Host(), Host()
    first.ask(rpc.EndTxnRequest(first.begin(X0), COMMIT, 2))
    second.do(second.coordinators.on_leader(TRANSACTIONS, first.logs[TRANSACTIONS], 8, 0))
    assert [one.request for one in second.asked] == [rpc.WriteTxnMarkersRequest(X0, 70, 1, 8, COMMIT)]


def test_a_completion_that_the_log_refused_is_tried_again() -> None:
    host = Host()
    host.ask(rpc.EndTxnRequest(host.begin(X0), COMMIT, 2))
    host.replicates = False
    host.answer(Error.NONE)
    refused = host.appended[-1]
    host.do(host.coordinators.on_appended(refused, Error.NOT_ENOUGH_REPLICAS, -1, 0))
    assert host.state() == "PrepareCommit" and host.appended[-1] is refused
    host.replicates = True
    host.tick()
    assert host.now == 100 and host.appended[-1].batch(host.now).records == refused.batch(host.now).records
    assert host.state() == "CompleteCommit" and host.coordinators.transactions.next_deadline() is None


def test_a_transaction_that_lasts_too_long_is_aborted() -> None:
    host = Host()
    host.ask(rpc.InitProducerIdRequest("t", transaction_timeout=25_000))
    assert host.coordinators.deadline() is None
    host.now = 7
    host.ask(rpc.AddPartitionsToTxnRequest(Producer("t", 70, 0), (X0,)))
    host.tick()
    assert host.now == 25_008
    assert [one.request for one in host.asked] == [rpc.WriteTxnMarkersRequest(X0, 70, 1, 5, ABORT)]
    host.answer(Error.NONE)
    assert host.state() == "CompleteAbort"
    assert host.coordinators.deadline() is None


def test_a_loaded_transaction_is_looked_at_too() -> None:
    first, second = Host(), Host()
    first.begin(X0)
    second.do(second.coordinators.on_leader(TRANSACTIONS, first.logs[TRANSACTIONS], 8, 0))
    assert second.coordinators.transactions.next_deadline() == 60_001


def test_nothing_puts_off_what_is_due() -> None:
    host = Host()
    host.ask(rpc.EndTxnRequest(host.begin(X0, X1), COMMIT, 2))
    first, second = host.asked
    host.do(host.coordinators.on_response(first, None, 0))
    host.do(host.coordinators.on_response(second, None, 50))
    assert host.coordinators.transactions.next_deadline() == 100
    for host.now in (0, 5_000):
        host.ask(rpc.OffsetCommitRequest(GROUP, commits(1)))
    assert host.coordinators.groups.next_deadline() == CLEANUP_INTERVAL
    other = Host()
    other.begin(X0)
    other.coordinators.time_passes(0)
    other.now = 5_000
    other.ask(rpc.OffsetCommitRequest(GROUP, commits(1)))
    assert other.coordinators.transactions.next_deadline() == 60_001


def test_transactions_go_by_the_configuration() -> None:
    assert Host(transaction_timeout_max=9).ask(rpc.InitProducerIdRequest("t", 10)) == Response(
        Error.INVALID_TRANSACTION_TIMEOUT
    )
    for kip_360, error in ((True, Error.PRODUCER_FENCED), (False, Error.NONE)):
        host = Host(kip_360=kip_360)
        host.begin()
        response = host.ask(rpc.InitProducerIdRequest("u", expected=None))
        assert response is not None
        again = host.ask(rpc.InitProducerIdRequest("u", expected=(response.value[0] + 1, 0)))
        assert again is not None and again.error is error


# ------------------------------------------------------------ groups


def join(host: Host) -> ConsumerGroupMetadata:
    """The only member of a group, with its assignment."""
    first = host.ask(rpc.JoinGroupRequest(GROUP, PROTOCOLS))
    assert first is not None
    second = host.ask(rpc.JoinGroupRequest(GROUP._replace(member_id=first.value.member_id), PROTOCOLS))
    assert second is not None and second.error is Error.NONE
    who = GROUP._replace(member_id=first.value.member_id, generation=second.value.generation)
    assert host.ask(rpc.SyncGroupRequest(who, ((who.member_id, (X0,)),))) == Response(Error.NONE, (X0,))
    return who


def test_members_live_by_their_heartbeats() -> None:
    host = Host()
    who = join(host)
    host.now = 40_000
    assert host.ask(rpc.HeartbeatRequest(who)) == Response(Error.NONE)
    host.tick()
    assert host.now == 85_000
    assert host.ask(rpc.HeartbeatRequest(who)) == Response(Error.UNKNOWN_MEMBER_ID)
    again = join(host)
    assert host.ask(rpc.LeaveGroupRequest(again)) == Response(Error.NONE)
    assert host.ask(rpc.LeaveGroupRequest(again)) == Response(Error.UNKNOWN_MEMBER_ID)


def test_offsets_are_forgotten_when_their_retention_is_over() -> None:
    host = Host(offsets_retention=2 * CLEANUP_INTERVAL + 1)
    host.ask(rpc.OffsetCommitRequest(GROUP, commits(7)))
    for _ in range(2):
        host.tick()
        assert fetched(host) == (Error.NONE, 7)
    host.tick()
    assert host.now == 3 * CLEANUP_INTERVAL
    assert fetched(host) == (Error.NONE, -1)
    assert [record.value for record in host.appended[-1].batch(host.now).records] == [None]
    host.tick()
    assert host.coordinators.groups.groups == {} and host.coordinators.deadline() is None


@pytest.mark.parametrize("kip_447", [True, False])
def test_transactional_offsets_are_fenced_by_generation(kip_447: bool) -> None:
    host = Host(kip_447=kip_447)
    who, producer = join(host), host.begin(OFFSETS)
    old = rpc.TxnOffsetCommitRequest(who._replace(generation=0), commits(7), producer)
    expected = Error.ILLEGAL_GENERATION if kip_447 else Error.NONE
    assert host.ask(old) == Response(expected)
    assert host.ask(old._replace(who=who)) == Response(Error.NONE)
    assert fetched(host) == ((Error.UNSTABLE_OFFSET_COMMIT, -1) if kip_447 else (Error.NONE, -1))


@pytest.mark.parametrize(("result", "offset"), [(COMMIT, 7), (ABORT, 3)])
def test_transactional_offsets_count_with_the_replicated_marker(result: str, offset: int) -> None:
    host = Host()
    host.ask(rpc.OffsetCommitRequest(GROUP, commits(3)))
    producer = host.begin(OFFSETS)
    host.ask(rpc.TxnOffsetCommitRequest(GROUP, commits(7), producer))
    written = host.appended[-1]
    assert written.producer.transactional_id == "t" and written.topic_partition == OFFSETS
    assert written.batch(0).is_transactional and written.batch(0)[4:6] == producer[1:]
    log = host.logs[OFFSETS]
    log.append_as_leader(marker(producer, result), 5)
    host.do(host.coordinators.on_high_watermark(OFFSETS, 0))
    assert fetched(host) == (Error.UNSTABLE_OFFSET_COMMIT, -1) and fetched(host, False) == (Error.NONE, 3)
    log.update_high_watermark(log.log_end_offset)
    host.do(host.coordinators.on_high_watermark(OFFSETS, 0))
    assert fetched(host) == (Error.NONE, offset)
    new = Host()
    new.do(new.coordinators.on_follower(OFFSETS, 0))
    new.do(new.coordinators.on_leader(OFFSETS, log, 6, 0))
    assert fetched(new) == (Error.NONE, offset)


APPEND_ERRORS = [
    (Error.NOT_ENOUGH_REPLICAS, Error.COORDINATOR_NOT_AVAILABLE),
    (Error.NOT_LEADER_OR_FOLLOWER, Error.NOT_COORDINATOR),
    (Error.INVALID_PRODUCER_EPOCH, Error.INVALID_PRODUCER_EPOCH),
    (Error.TRANSACTION_ABORTABLE, Error.TRANSACTION_ABORTABLE),
]


@pytest.mark.parametrize(("refusal", "error"), APPEND_ERRORS)
def test_offsets_that_the_log_refused_are_not_pending(refusal: Error, error: Error) -> None:
    host = Host()
    host.replicates = False
    assert host.ask(rpc.TxnOffsetCommitRequest(GROUP, commits(7), Producer("t", 1, 0))) is None
    host.do(host.coordinators.on_appended(host.appended[-1], refusal, -1, 0))
    assert host.replies[-1] == Response(error)
    assert fetched(host) == (Error.NONE, -1)


def test_the_coordinators_can_be_copied() -> None:
    host = Host()
    join(host)
    host.metadata.clear()
    host.ask(rpc.EndTxnRequest(host.begin(X0), COMMIT, 2))
    state = host.coordinators.groups, host.coordinators.transactions
    assert copy.deepcopy(state) == pickle.loads(pickle.dumps(state)) == state
