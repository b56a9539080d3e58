"""Transactions of the producer: the requests in their order, what is retried, what aborts, what is fatal."""

import pytest
from hwmark.refimpl import producer as txn
from hwmark.refimpl import requests as rpc
from hwmark.refimpl.config import ClusterConfig
from hwmark.refimpl.errors import Error
from hwmark.refimpl.group_coordinator import OffsetAndMetadata
from hwmark.refimpl.requests import Response
from producer_driver import CLUSTER, GROUP, TRANSACTIONAL, X0, X1, X2, Driver, singles

OFFSETS = txn.SendOffsets(((X1, OffsetAndMetadata(5)),), GROUP)
NO_890 = CLUSTER._replace(kip_890=False)


def transactional(cluster: ClusterConfig = CLUSTER, **changes) -> Driver:
    """A producer in its first transaction."""
    driver = Driver(TRANSACTIONAL._replace(**changes), cluster)
    for operation in (txn.InitTransactions(), txn.BeginTransaction()):
        assert driver.returned[driver.call(operation)] == Response(Error.NONE, driver.state)
    return driver


def known(driver: Driver) -> Driver:
    """The leader of a partition of the transaction knows the producer."""
    driver.send("0")
    driver.answer(rpc.AddPartitionsToTxnRequest)
    driver.produced(base_offset=0)
    return driver


def kinds(driver: Driver) -> list[str]:
    return [type(one.body).__name__.removesuffix("Request") for one in driver.sent]


@pytest.mark.parametrize("kip_890", [True, False])
def test_a_transaction_adds_partitions_and_offsets_before_they_are_written_and_commits_when_all_is(kip_890):
    driver = transactional(CLUSTER._replace(kip_890=kip_890))
    driver.send("a")
    driver.send("b", partition=2)
    offsets = driver.call(OFFSETS)
    commit = driver.call(txn.CommitTransaction())
    assert kinds(driver) == ["AddPartitionsToTxn"]
    assert driver.answer(rpc.AddPartitionsToTxnRequest).topic_partitions == (X0,)
    assert kinds(driver) == ["AddPartitionsToTxn", "Produce"]
    assert driver.answer(rpc.AddPartitionsToTxnRequest).topic_partitions == (X2,)
    assert kinds(driver) == ["Produce", "Produce", "AddOffsetsToTxn"]
    assert {one.is_transactional for one in driver.batches()} == {True}
    assert driver.answer(rpc.AddOffsetsToTxnRequest).group_id == "g"
    driver.produced(base_offset=0)
    assert kinds(driver) == ["Produce", "TxnOffsetCommit"]
    committed = driver.answer(rpc.TxnOffsetCommitRequest)
    assert (committed.who, committed.commits[0][0], committed.commits[0][1].offset) == (GROUP, X1, 5)
    assert driver.returned[offsets].error is Error.NONE
    assert kinds(driver) == ["Produce"]
    driver.produced(base_offset=1)
    assert commit not in driver.returned
    end = driver.answer(rpc.EndTxnRequest, value=(7, int(kip_890)))
    assert (end.result, end.version) == ("COMMIT", 2 if kip_890 else 0)
    assert driver.returned[commit] == Response(Error.NONE, "READY")
    driver.call(txn.BeginTransaction())
    driver.send("c")
    driver.answer(rpc.AddPartitionsToTxnRequest)
    assert driver.numbers() == [("c", int(kip_890), 1 - kip_890)]


def test_an_empty_transaction_asks_nobody():
    driver = transactional()
    assert driver.returned[driver.call(txn.CommitTransaction())] == Response(Error.NONE, "READY")
    assert driver.returned[driver.call(txn.BeginTransaction())].error is Error.NONE
    assert driver.returned[driver.call(txn.AbortTransaction())] == Response(Error.NONE, "READY")
    assert driver.sent == []


def test_an_abort_drops_what_was_not_sent_and_waits_for_the_rest():
    driver = transactional(max_in_flight=1)
    driver.send("a", "b")
    driver.answer(rpc.AddPartitionsToTxnRequest)
    driver.send("z", partition=2)
    abort = driver.call(txn.AbortTransaction())
    assert driver.returned[5] == driver.returned[4] == Response(Error.OPERATION_NOT_ATTEMPTED, False)
    assert kinds(driver) == ["Produce", "AddPartitionsToTxn"], "what was asked is awaited"
    driver.answer(rpc.AddPartitionsToTxnRequest)
    assert kinds(driver) == ["Produce"]
    driver.produced(Error.NOT_LEADER_OR_FOLLOWER)
    driver.wait(100)
    driver.produced(base_offset=0)
    assert driver.returned[3].error is Error.NONE
    assert driver.answer(rpc.EndTxnRequest, value=(7, 1)).result == "ABORT"
    assert driver.returned[abort] == Response(Error.NONE, "READY")


def test_what_was_not_even_asked_for_is_not_asked_for_any_more_when_aborting():
    driver = transactional()
    driver.send("a")
    driver.send("b", partition=1)
    driver.call(txn.AbortTransaction())
    driver.answer(rpc.AddPartitionsToTxnRequest, Error.CONCURRENT_TRANSACTIONS)
    driver.wait(100)
    asked = driver.answer(rpc.AddPartitionsToTxnRequest)
    assert (asked.producer, asked.topic_partitions) == (("t", 7, 0), (X0,))
    assert kinds(driver) == ["EndTxn"]


def test_an_abort_that_is_refused_is_fatal():
    driver = known(transactional())
    abort = driver.call(txn.AbortTransaction())
    driver.answer(rpc.EndTxnRequest, Error.INVALID_PRODUCER_ID_MAPPING)
    assert driver.returned[abort] == Response(Error.INVALID_PRODUCER_ID_MAPPING, FATAL)


def test_offsets_that_wait_when_a_transaction_is_aborted_are_not_sent():
    driver = transactional()
    driver.send("a")
    offsets, abort = driver.call(OFFSETS), driver.call(txn.AbortTransaction())
    assert driver.returned[offsets].error is Error.OPERATION_NOT_ATTEMPTED
    driver.answer(rpc.AddPartitionsToTxnRequest)
    driver.answer(rpc.EndTxnRequest, value=(7, 1))
    assert driver.returned[abort] == Response(Error.NONE, "READY")
    assert driver.sent == []


def test_what_expires_after_a_fatal_error_does_not_make_it_less():
    driver = transactional()
    driver.send("a")
    driver.now += 120_000
    driver.answer(rpc.AddPartitionsToTxnRequest, Error.PRODUCER_FENCED)
    assert driver.returned[3].value is False
    assert driver.state == FATAL


def test_a_gap_aborts_a_transaction():
    driver = known(transactional(NO_890))
    driver.send("a")
    driver.produced(Error.OUT_OF_ORDER_SEQUENCE_NUMBER)
    assert driver.returned[4] == Response(Error.OUT_OF_ORDER_SEQUENCE_NUMBER, False)
    assert (driver.state, driver.producer.identity) == (ABORTABLE, (7, 0))


def test_what_the_coordinator_cannot_do_yet_is_asked_again_after_the_backoff():
    driver = transactional()
    driver.send("a")
    for error in (Error.CONCURRENT_TRANSACTIONS, Error.COORDINATOR_LOAD_IN_PROGRESS):
        driver.answer(rpc.AddPartitionsToTxnRequest, error)
        driver.wait(99)
        assert driver.sent == []
        driver.wait(1)
        assert driver.sent[0].destination == "broker-2"
    driver.coordinator, looked_up = 3, driver.seen[rpc.FindCoordinatorRequest]
    driver.answer(rpc.AddPartitionsToTxnRequest, Error.NOT_COORDINATOR)
    driver.wait(100)
    assert driver.sent[0].destination == "broker-3"
    driver.lose()
    driver.wait(30_100)
    assert kinds(driver) == ["AddPartitionsToTxn"], "nobody answered"
    assert driver.seen[rpc.FindCoordinatorRequest] == looked_up + 2


FATAL, ABORTABLE = "FATAL_ERROR", "ABORTABLE_ERROR"
REFUSED = [
    (rpc.AddPartitionsToTxnRequest, Error.PRODUCER_FENCED, FATAL, Error.PRODUCER_FENCED),
    (rpc.AddPartitionsToTxnRequest, Error.INVALID_PRODUCER_EPOCH, FATAL, Error.INVALID_PRODUCER_EPOCH),
    (rpc.AddPartitionsToTxnRequest, Error.INVALID_TXN_STATE, FATAL, Error.INVALID_TXN_STATE),
    (rpc.AddOffsetsToTxnRequest, Error.INVALID_PRODUCER_ID_MAPPING, FATAL, Error.INVALID_PRODUCER_ID_MAPPING),
    (rpc.TxnOffsetCommitRequest, Error.ILLEGAL_GENERATION, ABORTABLE, Error.ILLEGAL_GENERATION),
    (rpc.TxnOffsetCommitRequest, Error.FENCED_INSTANCE_ID, ABORTABLE, Error.FENCED_INSTANCE_ID),
    (rpc.TxnOffsetCommitRequest, Error.INVALID_REQUEST, ABORTABLE, Error.INVALID_REQUEST),
    (rpc.EndTxnRequest, Error.INVALID_TXN_STATE, FATAL, Error.INVALID_TXN_STATE),
    (rpc.EndTxnRequest, Error.INVALID_PRODUCER_EPOCH, FATAL, Error.INVALID_PRODUCER_EPOCH),
]


@pytest.mark.parametrize("kind, error, state, told", REFUSED, ids=lambda one: getattr(one, "__name__", str(one)))
def test_a_refusal_is_fatal_or_aborts_the_transaction(kind, error, state, told):
    driver = transactional()
    driver.send("a")
    calls = [driver.call(OFFSETS), driver.call(txn.CommitTransaction())]
    for each in (rpc.AddPartitionsToTxnRequest, rpc.AddOffsetsToTxnRequest, rpc.TxnOffsetCommitRequest):
        if each is kind:
            break
        driver.answer(each)
    if kind is rpc.EndTxnRequest:
        driver.produced(base_offset=0)
        calls = calls[1:]
    driver.answer(kind, error)
    assert driver.state == state
    assert [driver.returned[call] for call in calls] == [Response(told, state)] * len(calls)
    assert driver.returned[driver.call(txn.BeginTransaction())] == Response(told, False)
    assert driver.returned[driver.send("late")[0]] == Response(told, False)
    if kind is rpc.AddPartitionsToTxnRequest:
        assert driver.returned[3] == Response(told, False)
    assert driver.returned[driver.call(txn.InitTransactions())].error is told
    driver.call(txn.AbortTransaction())
    assert driver.state == (FATAL if state == FATAL else driver.state)


@pytest.mark.parametrize("kip_890", [False, True])
def test_a_batch_that_fails_aborts_the_transaction_and_the_next_has_another_epoch(kip_890):
    driver = known(transactional(CLUSTER._replace(kip_890=kip_890)))
    driver.send("a", "b")
    commit = driver.call(txn.CommitTransaction())
    driver.produced(Error.INVALID_TXN_STATE)
    assert driver.returned[commit] == Response(Error.INVALID_TXN_STATE, ABORTABLE)
    abort = driver.call(txn.AbortTransaction())
    assert kinds(driver) == ["Produce"], "what is under way is answered first"
    driver.produced(Error.OUT_OF_ORDER_SEQUENCE_NUMBER)
    driver.automatic = ()
    driver.answer(rpc.EndTxnRequest, value=(7, int(kip_890)))
    if not kip_890:
        assert abort not in driver.returned
        assert driver.answer(rpc.InitProducerIdRequest, value=(7, 1)).expected == (7, 0)
    assert driver.returned[abort] == Response(Error.NONE, "READY")
    driver.call(txn.BeginTransaction())
    driver.send("c")
    driver.answer(rpc.AddPartitionsToTxnRequest)
    assert driver.numbers() == [("c", 1, 0)]


def test_before_kip_360_a_batch_that_fails_is_the_end_of_the_producer():
    driver = known(transactional(NO_890._replace(kip_360=False)))
    driver.send("a")
    driver.produced(Error.INVALID_TXN_STATE)
    assert driver.state == FATAL


def test_offsets_that_are_under_way_when_the_transaction_fails_are_answered_once():
    driver = known(transactional())
    driver.send("a")
    offsets = driver.call(OFFSETS)
    driver.answer(rpc.AddOffsetsToTxnRequest)
    driver.produced(Error.INVALID_TXN_STATE)
    assert driver.returned[offsets] == Response(Error.INVALID_TXN_STATE, ABORTABLE)
    abort = driver.call(txn.AbortTransaction())
    assert kinds(driver) == ["TxnOffsetCommit"], "they are out before the transaction ends"
    driver.answer(rpc.TxnOffsetCommitRequest)
    driver.answer(rpc.EndTxnRequest, value=(7, 1))
    assert driver.returned[abort] == Response(Error.NONE, "READY")


@pytest.mark.parametrize("kip_360, state", [(True, ABORTABLE), (False, FATAL)])
def test_a_record_that_expires_aborts_the_transaction_or_is_fatal(kip_360, state):
    driver = transactional(NO_890._replace(kip_360=kip_360))
    driver.send("a")
    driver.answer(rpc.AddPartitionsToTxnRequest)
    driver.wait(120_000)
    assert driver.returned[3] == Response(Error.REQUEST_TIMED_OUT, True)
    assert driver.state == state


@pytest.mark.parametrize("kip_360, state", [(True, ABORTABLE), (False, FATAL)])
def test_a_leader_that_knows_a_newer_epoch_fences(kip_360, state):
    driver = known(transactional(NO_890._replace(kip_360=kip_360)))
    driver.send("a", "b")
    driver.produced(Error.INVALID_PRODUCER_EPOCH)
    assert driver.state == state
    assert driver.returned[4] == Response(Error.INVALID_PRODUCER_EPOCH, False)
    assert driver.returned.get(5) == (Response(Error.INVALID_PRODUCER_EPOCH, True) if state == FATAL else None)


def test_calls_that_do_not_fit_are_refused():
    driver = Driver(TRANSACTIONAL)
    for operation in (txn.BeginTransaction(), txn.CommitTransaction(), txn.AbortTransaction(), OFFSETS):
        assert driver.returned[driver.call(operation)] == Response(Error.OPERATION_NOT_ATTEMPTED, False)
    assert driver.returned[driver.send("a")[0]] == Response(Error.OPERATION_NOT_ATTEMPTED, False)
    assert driver.sent == []
    driver = Driver(singles())
    assert driver.returned[driver.call(txn.InitTransactions())].error is Error.OPERATION_NOT_ATTEMPTED


def test_a_commit_ends_the_linger():
    driver = transactional(linger=1000, batch_records=9)
    driver.send("a")
    driver.answer(rpc.AddPartitionsToTxnRequest)
    assert driver.sent == []
    commit = driver.call(txn.CommitTransaction())
    driver.produced(base_offset=0)
    assert driver.answer(rpc.EndTxnRequest, value=(7, 1)).result == "COMMIT"
    assert driver.returned[commit].error is Error.NONE
    driver.wait(1000)
    assert driver.producer.deadline() is None
