"""A broker by itself: everybody else is played by the test."""

from __future__ import annotations

from typing import Any

import pytest
from hwmark.refimpl import requests as rpc
from hwmark.refimpl.batches import ABORT, COMMIT, Batch, Producer, Record
from hwmark.refimpl.broker import Broker, Disk
from hwmark.refimpl.config import ClusterConfig
from hwmark.refimpl.errors import Error
from hwmark.refimpl.group_coordinator import ConsumerGroupMetadata, OffsetAndMetadata
from hwmark.refimpl.log import Log
from hwmark.refimpl.machine import ZOOKEEPER, Message, Outbox, Tick
from hwmark.refimpl.partition_change import PartitionRegistration
from three_replicas import ALL, HERE, OFFSETS, THERE, TOPICS, TRANSACTIONS, batch, values


def transactional(sequence: int = 0) -> Batch:
    return batch("t", producer_id=7, producer_epoch=0, base_sequence=sequence, is_transactional=True)


class Alone:
    """Broker 1 and what it has sent, but for its words with ZooKeeper; everybody else is played by the test."""

    def __init__(self, disk: Disk | None = None, **config: Any) -> None:
        self.broker = Broker(1, ClusterConfig(topics=TOPICS, **config), disk or Disk())
        self.now, self.asked = 0, 0
        self.sent: list[Message] = []
        self.tick()
        self.broker.controller.broker_epoch = 5

    def tick(self, now: int = 0) -> list[Message]:
        self.now = max(now, self.now)
        return self._keep(self.broker.step(Tick(), self.now))

    def tell(self, message: Message) -> list[Message]:
        return self._keep(self.broker.step(message, self.now))

    def ask(self, body: Any, source: str = "client") -> int:
        """Send a request; its number."""
        self.asked += 1
        self.tell(Message(source, "broker-1", self.asked, body))
        return self.asked

    def answer(self, number: int) -> Any:
        """The answer to a request, None if there is none yet."""
        bodies = [one.body for one in self.sent if one.correlation == number and "Response" in type(one.body).__name__]
        assert len(bodies) <= 1
        return bodies[0] if bodies else None

    def wants(self, kind: type) -> list[Message]:
        """The requests of a kind that the broker has sent since this was asked last."""
        wanted = [message for message in self.sent if isinstance(message.body, kind)]
        self.sent = [message for message in self.sent if not isinstance(message.body, kind)]
        return wanted

    def respond(self, question: Message, body: Any) -> None:
        self.tell(Message(question.destination, question.source, question.correlation, body))

    def become(
        self, leader: int = 1, epoch: int = 0, isr: tuple[int, ...] = ALL, here: Any = HERE, **epochs: int
    ) -> Any:
        """What the controller, broker 9, says of a partition, and the answer."""
        partition = PartitionRegistration(ALL, isr, leader, epoch, epochs.get("partition_epoch", epoch))
        head = 9, epochs.get("controller_epoch", 1), epochs.get("broker_epoch", 5)
        return self.answer(self.ask(rpc.LeaderAndIsrRequest(*head, ((here, partition),))))

    def move_away(self, here: Any = HERE) -> Any:
        """The controller says that the broker is no replica any more."""
        partition = PartitionRegistration((2, 3), (2, 3), 2, 9, 9)
        return self.answer(self.ask(rpc.LeaderAndIsrRequest(9, 1, 5, ((here, partition),))))

    def fetch(self, follower: int, offset: int, max_wait: int = 500, here: Any = HERE) -> int:
        epoch = self.broker.replicas[here].leader_epoch
        return self.ask(rpc.FetchRequest(here, offset, epoch, -1, follower, max_wait=max_wait))

    def _keep(self, effects: list[Any]) -> list[Message]:
        new = [effect for effect in effects if effect.destination != ZOOKEEPER]
        self.sent += new
        return new


def leading(isr: tuple[int, ...] = ALL, **config: Any) -> Alone:
    alone = Alone(**config)
    alone.become(isr=isr)
    return alone


# Produce


def test_a_producer_waits_for_what_it_asks_for() -> None:
    alone = leading()
    first = alone.ask(rpc.ProduceRequest(HERE, batch("a"), acks=0))
    second = alone.ask(rpc.ProduceRequest(HERE, batch("b", "c"), acks=1))
    third = alone.ask(rpc.ProduceRequest(HERE, batch("d"), acks=-1))
    assert alone.answer(first) is None and alone.answer(second) == rpc.Response(Error.NONE, 1)
    for follower, has in ((2, 4), (3, 3), (2, 4)):
        alone.fetch(follower, has)
        assert alone.answer(third) is None
    alone.fetch(3, 4)
    assert alone.answer(third) == rpc.Response(Error.NONE, 3) and values(alone.broker) == list("abcd")


def test_a_producer_is_answered_in_time() -> None:
    alone = leading(request_timeout=100)
    asked = alone.ask(rpc.ProduceRequest(HERE, batch("a")))
    assert alone.broker.deadline() == 100
    alone.tick(99)
    assert alone.answer(asked) is None
    alone.tick(100)
    assert alone.answer(asked).error is Error.REQUEST_TIMED_OUT and values(alone.broker) == ["a"]
    for follower in (2, 3):
        alone.fetch(follower, 1)  # nobody waits any more


def test_too_few_replicas_refuse_before_and_after_the_append() -> None:
    alone = leading(min_insync_replicas=2)
    asked = alone.ask(rpc.ProduceRequest(HERE, batch("a")))
    alone.become(isr=(1,), partition_epoch=1)
    alone.tick(30_001)
    assert alone.answer(asked) == rpc.Response(Error.NOT_ENOUGH_REPLICAS_AFTER_APPEND)
    refused = alone.ask(rpc.ProduceRequest(HERE, batch("b")))
    assert alone.answer(refused) == rpc.Response(Error.NOT_ENOUGH_REPLICAS)
    assert values(alone.broker) == ["a"]


def test_who_does_not_lead_says_whether_it_knows_the_partition() -> None:
    alone = Alone()
    alone.ask(rpc.LeaderAndIsrRequest(9, 1, 5, ((THERE, PartitionRegistration((2,), (2,), 2)),)))
    for here, error in ((HERE, Error.UNKNOWN_TOPIC_OR_PARTITION), (THERE, Error.NOT_LEADER_OR_FOLLOWER)):
        assert alone.answer(alone.ask(rpc.ProduceRequest(here, batch("a")))) == rpc.Response(error)
        assert alone.answer(alone.ask(rpc.FetchRequest(here, 0))) == rpc.FetchResponse(error)
        assert alone.answer(alone.ask(rpc.ListOffsetsRequest(here, rpc.LATEST))) == rpc.Response(error)


@pytest.mark.parametrize("is_stopped", [False, True])
def test_who_waits_is_told_that_the_broker_leads_no_more(is_stopped: bool) -> None:
    alone = leading()
    asked = [alone.ask(rpc.ProduceRequest(HERE, batch("a"))), alone.ask(rpc.FetchRequest(HERE, 0, max_wait=500))]
    asked.append(alone.fetch(2, 1))
    assert [alone.answer(number) for number in asked] == [None] * 3
    if is_stopped:
        alone.move_away()
        assert HERE not in alone.broker.replicas and HERE not in alone.broker.disk.logs
    else:
        alone.become(2, 1)
    errors = [Error.NOT_LEADER_OR_FOLLOWER] * 2 + [Error.FENCED_LEADER_EPOCH]  # the one that named its leader's epoch
    assert [alone.answer(number).error for number in asked] == errors
    assert alone.broker.deadline() == 5_000


# Fetch


def test_a_consumer_waits_for_the_high_watermark_or_its_time() -> None:
    alone = leading()
    asked = alone.ask(rpc.FetchRequest(HERE, 0, max_wait=500))
    alone.ask(rpc.ProduceRequest(HERE, batch("a"), acks=1))
    alone.fetch(2, 1)
    assert alone.answer(asked) is None and alone.answer(alone.ask(rpc.FetchRequest(HERE, 0))).batches == []
    alone.fetch(3, 1)
    assert [record.value for record in alone.answer(asked).batches[0].records] == ["a"]
    asked = alone.ask(rpc.FetchRequest(HERE, 1, max_wait=500))
    alone.tick(499)
    assert alone.answer(asked) is None
    alone.tick(500)
    assert alone.answer(asked) == rpc.FetchResponse(Error.NONE, [], 1, 1, 0)
    alone.become(1, 1)
    assert alone.answer(alone.ask(rpc.FetchRequest(HERE, 1, 0, max_wait=500))).error is Error.FENCED_LEADER_EPOCH


def test_a_consumer_of_committed_transactions_waits_for_the_last_stable_offset() -> None:
    alone = leading(isr=(1,), kip_890=False)
    alone.tick(30_001)
    asked = alone.ask(rpc.FetchRequest(HERE, 0, is_read_committed=True, max_wait=500))
    alone.ask(rpc.ProduceRequest(HERE, transactional(), transactional_id="t"))
    assert alone.answer(asked) is None and alone.broker.replicas[HERE].log.high_watermark == 1
    alone.ask(rpc.WriteTxnMarkersRequest(HERE, 7, 0, 0, ABORT))
    assert alone.answer(asked).aborted == ((7, 0),)


def test_a_follower_waits_for_records() -> None:
    alone = leading()
    asked = alone.fetch(2, 0)
    assert alone.answer(asked) is None
    alone.ask(rpc.ProduceRequest(HERE, batch("a")))
    assert len(alone.answer(asked).batches) == 1
    asked = alone.fetch(2, 1)
    alone.tick(499)
    assert alone.answer(asked) is None
    alone.tick(500)
    assert alone.answer(asked) == rpc.FetchResponse(Error.NONE, [], 0, 0, 0)


def test_records_are_deleted_as_far_as_they_are_replicated() -> None:
    alone = leading()
    alone.ask(rpc.ProduceRequest(HERE, batch("a", "b"), acks=1))
    assert alone.answer(alone.ask(rpc.DeleteRecordsRequest(HERE, 1))).error is Error.OFFSET_OUT_OF_RANGE
    for follower in (2, 3):
        alone.fetch(follower, 2)
    assert alone.answer(alone.ask(rpc.DeleteRecordsRequest(HERE, -1))) == rpc.Response(Error.NONE, 2)
    assert alone.answer(alone.ask(rpc.ListOffsetsRequest(HERE, rpc.EARLIEST))).value == 2


# Transactions


def verifying(**config: Any) -> tuple[Alone, int]:
    """Broker 1 leads, broker 2 coordinates; the number of a transactional Produce."""
    alone = leading(isr=(1,), **config)
    alone.tick(30_001)
    alone.become(2, here=TRANSACTIONS)
    return alone, alone.ask(rpc.ProduceRequest(HERE, transactional(), transactional_id="t"))


def test_a_transaction_is_verified_before_its_first_batch() -> None:
    """KIP-890."""
    alone, asked = verifying()
    (question,) = alone.wants(rpc.AddPartitionsToTxnRequest)
    assert question.destination == "broker-2" and alone.answer(asked) is None and values(alone.broker) == []
    assert question.body == rpc.AddPartitionsToTxnRequest(Producer("t", 7, 0), (HERE,), True)
    for _ in range(2):
        alone.respond(question, rpc.Response())
        assert alone.answer(asked) == rpc.Response(Error.NONE, 0)
    asked = alone.ask(rpc.ProduceRequest(HERE, transactional(1), transactional_id="t"))
    assert alone.answer(asked).value == 1 and not alone.wants(rpc.AddPartitionsToTxnRequest)
    alone, asked = verifying(kip_890=False)
    assert alone.answer(asked) == rpc.Response(Error.NONE, 0)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (rpc.Response(Error.TRANSACTION_ABORTABLE), Error.TRANSACTION_ABORTABLE),
        (rpc.Response(Error.INVALID_PRODUCER_ID_MAPPING), Error.INVALID_PRODUCER_ID_MAPPING),
        (rpc.Response(Error.COORDINATOR_LOAD_IN_PROGRESS), Error.NOT_ENOUGH_REPLICAS),
        (None, Error.NOT_ENOUGH_REPLICAS),
    ],
)
def test_a_transaction_that_is_not_verified_has_no_batch(answer: rpc.Response | None, error: Error) -> None:
    alone, asked = verifying()
    (question,) = alone.wants(rpc.AddPartitionsToTxnRequest)
    if answer is not None:
        alone.respond(question, answer)
    else:
        alone.tick(alone.now + 30_000)
    assert alone.answer(asked).error is error and values(alone.broker) == []


def test_offsets_of_a_transaction_are_verified_too_and_appended_in_the_coordinators_epoch_only() -> None:
    alone = leading(isr=(1,))
    alone.tick(30_001)
    for here, leader in ((OFFSETS, 1), (TRANSACTIONS, 2)):
        alone.become(leader, isr=(1,), here=here)
    commits = ((HERE, OffsetAndMetadata(1)),)
    request = rpc.TxnOffsetCommitRequest(ConsumerGroupMetadata("g"), commits, Producer("t", 7, 0))
    for epoch in (0, 1):
        asked = alone.ask(request)
        (question,) = alone.wants(rpc.AddPartitionsToTxnRequest)
        alone.become(1, epoch, (1,), OFFSETS)
        alone.respond(question, rpc.Response())
        assert alone.answer(asked).error is (Error.NONE if epoch == 0 else Error.NOT_COORDINATOR)
        if epoch == 0:
            assert alone.answer(alone.ask(request)).error is Error.NONE  # no sequence numbers
            alone.ask(rpc.WriteTxnMarkersRequest(OFFSETS, 7, 0, 0, COMMIT))
    assert len(alone.broker.replicas[OFFSETS].log.batches) == 3


def test_without_a_coordinator_nothing_is_verified() -> None:
    alone = leading()
    alone.asked = 50
    asked = alone.ask(rpc.ProduceRequest(HERE, transactional(), transactional_id="t"))
    (question,) = alone.wants(rpc.AddPartitionsToTxnRequest)
    assert question.destination == "broker-1"
    (answer,) = alone.tell(question)
    alone.tell(answer)
    assert alone.answer(asked).error is Error.NOT_ENOUGH_REPLICAS


def test_a_marker_is_answered_when_it_is_replicated_or_refused() -> None:
    alone = leading(kip_890=False)
    alone.ask(rpc.ProduceRequest(HERE, transactional(), acks=1))
    asked, refused = [alone.ask(rpc.WriteTxnMarkersRequest(here, 7, 0, 3, COMMIT)) for here in (HERE, THERE)]
    assert alone.answer(refused) == rpc.Response(Error.UNKNOWN_TOPIC_OR_PARTITION)
    alone.fetch(2, 2)
    assert alone.answer(asked) is None
    alone.fetch(3, 2)
    assert alone.answer(asked) == rpc.Response(Error.NONE, 1)
    assert alone.broker.replicas[HERE].log.last_stable_offset == 2
    fenced = alone.ask(rpc.WriteTxnMarkersRequest(HERE, 7, 0, 2, COMMIT))
    assert alone.answer(fenced).error is Error.TRANSACTION_COORDINATOR_FENCED


# The controller's word


def test_controllers_that_were_replaced_are_refused() -> None:
    alone = leading()
    assert alone.become(1, 1, controller_epoch=2) == rpc.Response()
    assert alone.become(2, 2, controller_epoch=1) == rpc.Response(Error.STALE_CONTROLLER_EPOCH)
    assert alone.broker.replicas[HERE].is_leader and alone.broker.partitions[HERE].leader == 1


@pytest.mark.parametrize("kip_380", [False, True])
def test_what_is_meant_for_a_former_incarnation_is_refused(kip_380: bool) -> None:
    alone = leading(kip_380=kip_380)
    alone.broker.controller.broker_epoch = 6
    assert alone.become(2, 1, broker_epoch=6) == rpc.Response()
    error = Error.STALE_BROKER_EPOCH if kip_380 else Error.NONE
    assert alone.become(1, 2, broker_epoch=5) == rpc.Response(error)
    assert alone.broker.replicas[HERE].is_leader == (not kip_380)
    assert alone.move_away().error is error and (HERE in alone.broker.replicas) == kip_380


@pytest.mark.parametrize("kip_380", [False, True])
def test_nothing_is_meant_for_a_broker_that_is_not_registered(kip_380: bool) -> None:
    alone = Alone(kip_380=kip_380)
    alone.broker.controller.broker_epoch = -1
    assert alone.become(1, 1).error is (Error.STALE_BROKER_EPOCH if kip_380 else Error.NONE)
    assert (HERE in alone.broker.replicas) == (HERE in alone.broker.partitions) == (not kip_380)


def test_late_copies_of_what_a_controller_said_are_acknowledged_only() -> None:
    alone = leading()
    assert alone.become(2, 1) == alone.become(1, 0) == rpc.Response()
    assert not alone.broker.replicas[HERE].is_leader and alone.broker.partitions[HERE].leader == 2
    assert alone.move_away() == alone.become(1, 1) == rpc.Response()
    assert HERE not in alone.broker.replicas and HERE not in alone.broker.disk.logs


@pytest.mark.parametrize("is_stopped", [False, True])
def test_groups_are_loaded_when_all_is_committed_and_given_up_with_the_partition(is_stopped: bool) -> None:
    log = Log()
    log.append_as_follower([Batch(0, 0, 0, (Record(0, ("other", HERE), None),))])
    alone = Alone(Disk({OFFSETS: log}))
    alone.become(here=OFFSETS)
    heartbeat = rpc.HeartbeatRequest(ConsumerGroupMetadata("g", 1, "m"))
    assert alone.answer(alone.ask(heartbeat)).error is Error.COORDINATOR_LOAD_IN_PROGRESS
    for follower in (2, 3):
        alone.fetch(follower, 1, here=OFFSETS)
    assert alone.answer(alone.ask(heartbeat)).error is Error.UNKNOWN_MEMBER_ID
    if is_stopped:
        alone.move_away(OFFSETS)
    else:
        alone.become(2, 1, here=OFFSETS)
    assert alone.answer(alone.ask(heartbeat)).error is Error.NOT_COORDINATOR


def test_clients_find_leaders_and_coordinators() -> None:
    alone = leading()
    alone.become(3, 4, (3,), OFFSETS)
    found = alone.answer(alone.ask(rpc.MetadataRequest()))
    assert found.value[1] == (OFFSETS, PartitionRegistration(ALL, (3,), 3, 4, 4))
    assert len(alone.answer(alone.ask(rpc.MetadataRequest(("x",)))).value) == 1
    assert alone.answer(alone.ask(rpc.FindCoordinatorRequest("g"))) == rpc.Response(Error.NONE, 3)
    unavailable = rpc.Response(Error.NONE, 1)  # who refuses
    assert alone.answer(alone.ask(rpc.FindCoordinatorRequest("t", True))) == unavailable
    alone.become(-1, 5, (3,), OFFSETS)
    assert alone.answer(alone.ask(rpc.FindCoordinatorRequest("g"))) == unavailable


# A follower


def test_a_follower_asks_one_thing_at_a_time_and_again_after_errors() -> None:
    alone = Alone()
    alone.become(2)
    (asked,) = alone.wants(rpc.FetchRequest)
    assert asked.destination == "broker-2" and asked.body.max_wait == 500
    alone.become(2, 0, (2,), partition_epoch=1)
    assert not alone.wants(rpc.FetchRequest)
    alone.respond(asked, rpc.FetchResponse(Error.NOT_LEADER_OR_FOLLOWER))
    alone.tick(99)
    assert not alone.wants(rpc.FetchRequest)
    alone.tick(100)
    (asked,) = alone.wants(rpc.FetchRequest)
    alone.tick(30_099)
    assert not alone.wants(rpc.FetchRequest)
    alone.tick(30_100)
    alone.tick(30_200)
    (asked,) = alone.wants(rpc.FetchRequest)
    record = Batch(0, 0, 0, (Record(0, None, "a"),))
    alone.respond(asked, rpc.FetchResponse(Error.NONE, [record], 1, 1, 0))
    assert values(alone.broker) == ["a"] and alone.broker.replicas[HERE].log.high_watermark == 1
    (asked,) = alone.wants(rpc.FetchRequest)
    assert asked.body.fetch_offset == 1


def test_a_new_leader_is_asked_at_once_and_the_former_ones_answer_comes_too_late() -> None:
    alone = Alone()
    alone.become(2)
    (old,) = alone.wants(rpc.FetchRequest)
    alone.become(3, 1)
    (new,) = alone.wants(rpc.FetchRequest)
    alone.respond(old, rpc.FetchResponse(Error.NONE, [Batch(0, 0, 0, (Record(0, None, "a"),))], 1, 1, 0))
    assert new.destination == "broker-3" and values(alone.broker) == [] and not alone.wants(rpc.FetchRequest)
    alone.respond(new, rpc.FetchResponse(Error.FENCED_LEADER_EPOCH))
    alone.tick(60_000)
    assert not alone.wants(rpc.FetchRequest)


# The ISR, and what happens from time to time


def test_who_lags_is_looked_for_at_half_the_lag_time() -> None:
    alone = leading()
    alone.ask(rpc.ProduceRequest(HERE, batch("a"), acks=1))
    for now in (15_000, 30_000):
        alone.tick(now)
        alone.fetch(3, 1)
        assert not alone.wants(rpc.AlterPartitionRequest)
    alone.tick(45_000)
    (asked,) = alone.wants(rpc.AlterPartitionRequest)
    assert asked.destination == "broker-9" and asked.body == rpc.AlterPartitionRequest(HERE, 1, 0, 0, (1, 3))
    alone.respond(asked, rpc.Response(Error.NOT_CONTROLLER))
    alone.become(isr=ALL, here=THERE, controller_epoch=2)
    alone.tick(45_100)
    (asked,) = alone.wants(rpc.AlterPartitionRequest)
    alone.respond(asked, rpc.Response(Error.NONE, (1, (1, 3))))
    assert alone.broker.replicas[HERE].isr == (1, 3) and alone.broker.replicas[HERE].log.high_watermark == 1


def test_a_proposal_of_another_epoch_waits_for_the_controllers_word() -> None:
    alone = leading(isr=(1,))
    alone.fetch(2, 0)
    (asked,) = alone.wants(rpc.AlterPartitionRequest)
    alone.respond(asked, rpc.Response(Error.INVALID_UPDATE_VERSION))
    assert not alone.wants(rpc.AlterPartitionRequest)
    alone.tick(100)
    (again,) = alone.wants(rpc.AlterPartitionRequest)
    assert again.body == asked.body
    alone.respond(again, rpc.Response(Error.FENCED_LEADER_EPOCH))
    alone.tick(60_000)
    alone.fetch(2, 0)
    assert not alone.wants(rpc.AlterPartitionRequest) and alone.broker.replicas[HERE].maximal_isr == (1, 2)
    alone.become(isr=(1,), partition_epoch=1)
    alone.fetch(2, 0)
    (asked,) = alone.wants(rpc.AlterPartitionRequest)
    alone.respond(asked, rpc.Response(Error.INELIGIBLE_REPLICA))
    alone.fetch(2, 0)
    assert len(alone.wants(rpc.AlterPartitionRequest)) == 1


def test_what_is_flushed_and_checkpointed_is_found_again() -> None:
    alone = leading(isr=(1,))
    alone.tick(30_001)
    log = alone.broker.disk.logs[HERE]
    alone.ask(rpc.ProduceRequest(HERE, batch("a")))
    assert (log.recovery_point, alone.broker.disk.high_watermarks[HERE]) == (0, 0)
    alone.tick(35_001)
    assert (log.recovery_point, alone.broker.disk.high_watermarks[HERE]) == (1, 1)
    alone.ask(rpc.ProduceRequest(HERE, batch("b")))
    log.recover(1)
    again = Alone(alone.broker.disk)
    again.become(1, 1)
    assert values(again.broker) == ["a"] and again.broker.replicas[HERE].log.high_watermark == 1
    assert leading(flushes_every_append=True).broker.disk.logs[HERE].recovery_point == 0
    alone = leading(flushes_every_append=True)
    alone.ask(rpc.ProduceRequest(HERE, batch("a"), acks=1))
    assert alone.broker.disk.logs[HERE].recovery_point == 1


def test_logs_roll_and_compacted_topics_are_cleaned() -> None:
    alone = leading(isr=(1,), segment_records=2)
    alone.become(isr=(1,), here=OFFSETS)
    alone.tick(30_001)
    for here in (HERE, OFFSETS):
        for value in "aaaa":
            alone.ask(rpc.ProduceRequest(here, batch(value)))
    assert values(alone.broker) == list("aaaa") and values(alone.broker, OFFSETS) == ["a"]
    log = alone.broker.disk.logs[HERE]
    assert list(log.segments) == [2, 4] and log.recovery_point == 4
    alone.ask(rpc.DeleteRecordsRequest(HERE, 3))
    alone.tick(alone.now + 5_000)
    assert list(log.segments) == [4] and values(alone.broker) == ["a"]


def test_requests_expire_in_order_though_the_clock_goes_back() -> None:
    outbox = Outbox("broker-1", 100)
    assert outbox.deadline() is None and outbox.expire(1_000) == []
    for number, now in enumerate((50, 20, 60, 70)):
        outbox.ask("broker-2", number, None, now)
    outbox.asked.pop(3)  # answered
    assert outbox.deadline() == 120 and outbox.expire(119) == []
    assert [late.body for late in outbox.expire(150)] == [0, 1] and outbox.deadline() == 170
