"""The producer, step by step: what it sends, in which order, with which numbers, and what it tells its application."""

import pickle

import pytest
from hwmark.checkers.simulation.values import copy_of, freeze
from hwmark.refimpl import requests as rpc
from hwmark.refimpl.batches import SEQUENCE_MAX
from hwmark.refimpl.config import ClusterConfig
from hwmark.refimpl.errors import Error
from hwmark.refimpl.producer import ProducerConfig
from hwmark.refimpl.requests import Response
from producer_driver import CLUSTER, X0, X1, X2, Driver, singles


def test_records_go_to_their_partition_or_to_that_of_their_key():
    driver = Driver(singles())
    driver.send("a", partition=2)
    driver.send("b", key="abc", partition=None)
    by_key = "x", 0x352441C2 % 3  # what CRC-32 is
    assert [one.body.topic_partition for one in driver.produce_messages()] == [X2, by_key]
    assert [one.destination for one in driver.produce_messages()] == ["broker-3", "broker-1"]


def test_records_without_key_stick_to_a_partition_until_its_batch_is_sent():
    driver = Driver(ProducerConfig(batch_records=2, linger=10))
    driver.send("a", "b", "c", partition=None)
    driver.wait(10)
    driver.send("d", partition=None)
    driver.wait(10)
    batches = [(m.body.topic_partition, [r.value for r in m.body.batch.records]) for m in driver.produce_messages()]
    assert batches == [(X0, ["a", "b"]), (X1, ["c"]), (X2, ["d"])]


def test_a_batch_lingers_until_it_is_full():
    driver = Driver(ProducerConfig(batch_records=3, linger=10))
    driver.send("a")
    driver.wait(9)
    driver.send("b")
    assert driver.numbers() == []
    driver.wait(1)
    assert driver.numbers() == [("ab", 0, 0)]
    driver.produced(base_offset=0)
    driver.send("c", "d", "e", "f")
    assert driver.numbers() == [("cde", 0, 2)]
    driver.wait(10)
    assert driver.numbers()[1:] == [("f", 0, 5)]
    for base_offset in (2, 5):
        driver.produced(base_offset=base_offset)
    assert [driver.returned[number].value for number in range(1, 7)] == [(X0, offset) for offset in range(6)]


def test_without_acks_a_record_is_answered_at_once_and_its_offset_never_known():
    driver = Driver(singles(acks=0, enable_idempotence=False))
    (number,) = driver.send("a")
    assert driver.returned[number] == Response(Error.NONE, (X0, -1))
    driver.wait(100)
    assert driver.producer.deadline() is None
    assert driver.batches()[0][4:7] == (-1, -1, -1)


@pytest.mark.parametrize("in_flight", [1, 3, 5])
def test_so_many_batches_of_a_partition_are_in_flight_and_no_more(in_flight):
    driver = Driver(singles(max_in_flight=in_flight)).known()
    driver.send(*"abcdefg")
    driver.send("z", partition=1)
    values = [values for values, _, _ in driver.numbers()]
    assert values == [*"abcdefg"[:in_flight], "z"]
    driver.produced(base_offset=1)
    assert len(driver.produce_messages()) == in_flight + 1


def test_no_more_batches_follow_one_without_answer_than_a_leader_remembers():
    driver = Driver(singles()).known()
    driver.send(*"abcdefg")
    for offset in range(2, 6):
        driver.produced(base_offset=offset, place=1)
    assert driver.numbers() == [("a", 0, 1)]
    driver.produced(base_offset=1)
    assert driver.numbers() == [("f", 0, 6), ("g", 0, 7)]


def test_nothing_follows_the_first_batch_of_an_epoch_before_the_leader_knows_it():
    driver = Driver(singles())
    driver.send("a", "b", "c")
    assert driver.numbers() == [("a", 0, 0)]
    driver.produced(base_offset=0)
    assert driver.numbers() == [("b", 0, 1), ("c", 0, 2)]


def test_what_failed_is_sent_again_in_order_to_the_new_leader():
    driver = Driver(singles()).known()
    driver.send("a", "b", "c")
    driver.send("z", partition=1)
    driver.wait(100)
    driver.leaders, driver.leader_epoch = {0: 3, 1: 2, 2: 3}, 1
    driver.produced(Error.OUT_OF_ORDER_SEQUENCE_NUMBER, place=2)
    driver.produced(Error.OUT_OF_ORDER_SEQUENCE_NUMBER, place=1)
    driver.automatic = ()
    driver.produced(Error.NOT_LEADER_OR_FOLLOWER)
    driver.send("d")
    driver.wait(99)
    assert driver.numbers() == [("z", 0, 0)], "the leader is looked up"
    (lookup,) = [one for one in driver.sent if isinstance(one.body, rpc.MetadataRequest)]
    driver.respond(lookup, driver.usual(lookup.body))
    assert driver.numbers() == [("z", 0, 0), ("a", 0, 1)]
    assert driver.produce_messages()[1].destination == "broker-3"
    driver.produced(base_offset=1, place=1)
    assert driver.numbers()[1:] == [("b", 0, 2)]
    driver.produced(base_offset=2, place=1)
    assert driver.numbers()[1:] == [("c", 0, 3)], "the last one to repeat"
    driver.produced(base_offset=3, place=1)
    assert driver.numbers()[1:] == [("d", 0, 4)], "and what was never sent"
    assert driver.returned[4].value == (X0, 3)


def test_one_request_in_flight_keeps_the_order_without_idempotence():
    driver = Driver(singles(acks=1, enable_idempotence=False, max_in_flight=1))
    driver.send("a", "b")
    driver.produced(Error.NOT_LEADER_OR_FOLLOWER)
    assert driver.numbers() == []
    driver.wait(100)
    assert driver.numbers() == [("a", -1, -1)]


def test_more_requests_in_flight_do_not():
    driver = Driver(singles(acks=1, enable_idempotence=False, max_in_flight=2))
    driver.send("a", "b")
    driver.produced(Error.NOT_LEADER_OR_FOLLOWER)
    driver.produced(base_offset=0)
    driver.wait(100)
    assert driver.numbers() == [("a", -1, -1)]


@pytest.mark.parametrize("error, is_maybe_written", [(None, True), (Error.NOT_LEADER_OR_FOLLOWER, True),
    (Error.NOT_ENOUGH_REPLICAS_AFTER_APPEND, True), (Error.NOT_ENOUGH_REPLICAS, False)])  # fmt: skip
def test_a_record_expires_and_its_call_says_whether_it_may_have_been_written(error, is_maybe_written):
    driver = Driver(singles())
    driver.send("a")
    for _ in range(3):
        driver.lose() if error is None else driver.produced(error)
        driver.wait(30_100 if error is None else 100)
    if is_maybe_written:
        driver.lose()
    else:
        driver.leaders = {0: -1}
        driver.produced(error)
    driver.wait(120_000)
    assert driver.returned[1] == Response(Error.REQUEST_TIMED_OUT, is_maybe_written)


def test_a_record_that_was_never_sent_expires_as_not_written():
    driver = Driver(singles())
    driver.leaders = {0: -1}
    driver.send("a")
    driver.wait(119_999)
    assert driver.returned == {}
    driver.wait(1)
    assert driver.returned == {1: Response(Error.REQUEST_TIMED_OUT, False)}
    assert driver.seen[rpc.MetadataRequest] > 1000
    driver.wait(200)
    assert driver.producer.deadline() is None


def gap(cluster: ClusterConfig, **changes) -> Driver:
    """Batches a and b under way, and the broker has a gap before a, while nothing that came before is unclear."""
    driver = Driver(singles(**changes), cluster)
    driver.send("a")
    driver.produced(base_offset=0)
    driver.send("b", "c")
    driver.produced(Error.OUT_OF_ORDER_SEQUENCE_NUMBER)
    return driver


def test_a_gap_bumps_the_epoch_of_an_idempotent_producer():
    driver = gap(CLUSTER)
    assert driver.returned[2] == Response(Error.OUT_OF_ORDER_SEQUENCE_NUMBER, False)
    driver.send("d", "e")
    assert driver.numbers() == [("c", 0, 2)], "what is under way is answered first"
    driver.produced(Error.OUT_OF_ORDER_SEQUENCE_NUMBER)
    assert driver.returned[3] == Response(Error.OUT_OF_ORDER_SEQUENCE_NUMBER, False)
    assert driver.numbers() == [("d", 1, 0)], "and bumps it no more"
    driver.produced(base_offset=1)
    assert driver.numbers() == [("e", 1, 1)]
    assert driver.seen[rpc.InitProducerIdRequest] == 1


def test_before_kip_360_a_gap_fails_what_was_under_way_and_takes_a_new_producer_id():
    driver = gap(CLUSTER._replace(kip_360=False))
    assert driver.returned[2] == Response(Error.OUT_OF_ORDER_SEQUENCE_NUMBER, False)
    driver.send("d")
    driver.produced(Error.OUT_OF_ORDER_SEQUENCE_NUMBER)
    assert driver.returned[3] == Response(Error.OUT_OF_ORDER_SEQUENCE_NUMBER, False)
    driver.wait(100)
    assert [(one.producer_id, one.base_sequence) for one in driver.batches()] == [(8, 0)]


def test_other_partitions_stay_in_their_epoch_until_what_is_under_way_is_answered():
    driver = Driver(singles()).known(1)
    driver.send("a", "b", partition=1)
    driver.send("w", "x", partition=0)
    driver.produced(Error.OUT_OF_ORDER_SEQUENCE_NUMBER, place=2)
    assert driver.numbers() == [("a", 0, 1), ("b", 0, 2), ("x", 1, 0)]
    driver.send("c", partition=1)
    driver.produced(Error.NOT_ENOUGH_REPLICAS)
    driver.wait(100)
    assert driver.numbers() == [("b", 0, 2), ("x", 1, 0), ("a", 0, 1)]
    driver.produced(base_offset=1, place=2)
    assert len(driver.numbers()) == 2
    driver.produced(base_offset=2)
    assert driver.numbers() == [("x", 1, 0), ("c", 1, 0)]


@pytest.mark.parametrize("kip_360", [True, False])
def test_a_batch_that_expires_ends_the_epoch_but_what_is_under_way_is_sent_again_in_it(kip_360):
    driver = Driver(singles(), CLUSTER._replace(kip_360=kip_360)).known()
    driver.send("a")
    driver.wait(100_000)
    driver.send("b")
    driver.wait(19_999)
    driver.lose()
    driver.wait(1)
    assert driver.returned[2] == Response(Error.REQUEST_TIMED_OUT, True)
    driver.send("c")
    driver.wait(30_100)
    assert driver.numbers() == [("b", 0, 2)]
    driver.wait(69_899)
    driver.lose()
    assert 3 not in driver.returned
    driver.wait(1)
    assert driver.returned[3] == Response(Error.REQUEST_TIMED_OUT, True)
    (batch,) = driver.batches()
    assert (batch.producer_id, batch.producer_epoch, batch.base_sequence) == ((7, 1, 0) if kip_360 else (8, 0, 0))


def test_before_kip_360_what_is_under_way_under_the_old_id_fails_once_for_all():
    driver = Driver(singles(), CLUSTER._replace(kip_360=False)).known(0, 1)
    driver.send("a", "b", partition=1)
    driver.send("x")
    driver.produced(Error.OUT_OF_ORDER_SEQUENCE_NUMBER, place=2)
    for call in (3, 4):
        driver.produced(Error.OUT_OF_ORDER_SEQUENCE_NUMBER)
        assert driver.returned[call] == Response(Error.OUT_OF_ORDER_SEQUENCE_NUMBER, False)
    driver.send("c", partition=1)
    driver.wait(100)
    assert [(one.producer_id, one.base_sequence) for one in driver.batches()] == [(8, 0)]
    assert driver.seen[rpc.InitProducerIdRequest] == 2


def test_an_answer_that_comes_after_the_batch_was_given_up_changes_nothing():
    driver = Driver(singles(delivery_timeout=1_000)).known()
    driver.send("a")
    driver.wait(1_000)
    assert driver.returned[2] == Response(Error.REQUEST_TIMED_OUT, True)
    driver.produced(Error.OUT_OF_ORDER_SEQUENCE_NUMBER)
    driver.send("b")
    assert driver.numbers() == [("b", 1, 0)]


def test_nobody_is_asked_for_a_producer_id_before_the_backoff_is_over():
    driver = Driver(singles())
    driver.automatic = (rpc.MetadataRequest,)
    driver.send("a")
    driver.answer(rpc.InitProducerIdRequest, Error.COORDINATOR_LOAD_IN_PROGRESS)
    driver.wait(99)
    assert driver.sent == []
    driver.wait(1)
    driver.answer(rpc.InitProducerIdRequest, value=(7, 0))
    assert driver.numbers() == [("a", 0, 0)]


@pytest.mark.parametrize("kip_360", [True, False])
def test_the_numbers_of_a_refused_batch_are_in_an_epoch_that_is_over(kip_360):
    driver = Driver(singles(), CLUSTER._replace(kip_360=kip_360)).known()
    driver.send("a", "b")
    driver.produced(Error.INVALID_REQUEST)
    driver.send("c")
    driver.produced(base_offset=1)
    assert driver.returned[2] == Response(Error.INVALID_REQUEST, False)
    assert driver.returned[3] == Response(Error.NONE, (X0, 1))
    driver.wait(100)
    assert driver.numbers() == [("c", int(kip_360), 0)]
    assert driver.producer.identity == ((7, 1) if kip_360 else (8, 0))


def test_sequence_numbers_wrap():
    driver = Driver(ProducerConfig(batch_records=2, linger=9))
    driver.send("a", "b")
    driver.produced(base_offset=0)
    driver.producer.queues[X0].next_sequence = SEQUENCE_MAX
    driver.send("c", "d", "e", "f")
    assert driver.numbers() == [("cd", 0, SEQUENCE_MAX), ("ef", 0, 1)]


def test_a_producer_may_be_copied_and_pickled_in_the_middle():
    driver = Driver(singles())
    driver.send("a", "b")
    message = driver.produce_messages()[0]
    answer = message._replace(source="broker-1", destination="producer-1", body=rpc.Response(value=4))
    copies = copy_of(driver.producer), pickle.loads(pickle.dumps(driver.producer))
    assert [freeze(one) for one in copies] == [freeze(driver.producer)] * 2
    assert [one.step(answer, 0) for one in copies] == [driver.producer.step(answer, 0)] * 2
    assert [freeze(one) for one in copies] == [freeze(driver.producer)] * 2
