"""The consumer by itself: positions, fetches, what read_committed hides, resets and truncation."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from consumer_world import BROKER, TOPIC, World
from hwmark.refimpl import requests as rpc
from hwmark.refimpl.config import ClusterConfig
from hwmark.refimpl.consumer import Assign, Close, CommitSync, ConsumerConfig, Poll, Seek, Subscribe
from hwmark.refimpl.errors import Error
from hwmark.refimpl.machine import Message, Tick

PARTITION, OTHER = (TOPIC, 0), (TOPIC, 1)
POLICIES = {"earliest": rpc.EARLIEST, "latest": rpc.LATEST}


def reading(*partitions: tuple[str, int], cluster: ClusterConfig | None = None, **config: Any) -> World:
    """One consumer that is assigned the partitions by hand."""
    world = World(ConsumerConfig(**config), cluster=cluster)
    assert world.ask("c1", Assign(partitions or (PARTITION,))).error is Error.NONE
    return world


def position(world: World) -> tuple[int, int]:
    at = world.consumers["c1"].positions[PARTITION]
    return at.offset, at.offset_epoch


def test_a_poll_returns_what_has_been_fetched():
    world = reading(PARTITION, OTHER, fetch_max_records=2)
    for value in "abc":
        world.write(value)
    world.write("d", partition=1)
    assert sorted(world.values("c1") + world.values("c1") + world.values("c1", 100)) == ["a", "b", "c", "d"]
    assert position(world) == (3, 0)
    fetches = [body for body in world.asked if isinstance(body, rpc.FetchRequest)]
    assert {fetch.max_records for fetch in fetches} == {2}


def test_a_poll_parks_until_there_are_records():
    world = reading()
    number = world.call("c1", Poll(10_000))
    world.wait(2_000)
    assert ("c1", number) not in world.outcomes
    world.write("late")
    records = world.outcomes["c1", number].value.records
    assert records == ((PARTITION, 0, None, "late"),)
    assert world.now == 2_000


def test_a_poll_ends_at_its_timeout():
    world = reading()
    assert world.values("c1", timeout=1_200) == []
    assert world.now == 1_200
    assert world.values("c1", timeout=0) == []


def test_one_fetch_per_partition_is_in_flight_and_none_while_records_wait():
    world = reading(fetch_max_records=1)
    for value in "abc":
        world.write(value)
    assert world.values("c1") == ["a"]  # b has been fetched ahead
    world.kinds()
    world.wait(1_000)
    assert world.kinds() == []
    assert [world.values("c1") for _ in "bc"] == [["b"], ["c"]]
    world.call("c1", Poll(0))
    world.call("c1", Poll(0))
    assert world.kinds().count("Fetch") == 2


def test_without_a_poll_nothing_is_fetched():
    world = reading()
    world.write("a")
    world.values("c1")
    world.wait(1_000)  # the fetch that was sent ahead ends
    world.kinds()
    world.wait(10_000)
    assert world.kinds() == []


@pytest.mark.parametrize(("policy", "values"), [("earliest", ["old", "new"]), ("latest", ["new"])])
def test_a_position_begins_where_the_policy_says(policy: str, values: list[str]):
    world = reading(auto_offset_reset=POLICIES[policy])
    world.write("old")
    first = world.values("c1", 100)
    world.write("new")
    assert first + world.values("c1") == values


def test_the_end_of_the_log_is_asked_for_until_a_new_leader_knows_it():
    world = reading(auto_offset_reset=rpc.LATEST)
    world.scripted[rpc.ListOffsetsRequest] = [rpc.Response(Error.OFFSET_NOT_AVAILABLE)] * 3
    world.write("old")
    assert world.values("c1", 1_000) == []
    assert world.kinds().count("ListOffsets") == 4
    assert position(world) == (1, -1)


@pytest.mark.parametrize(("is_read_committed", "offset"), [(True, 1), (False, 3)])
def test_the_end_is_where_the_isolation_level_ends(is_read_committed: bool, offset: int):
    world = reading(auto_offset_reset=rpc.LATEST, is_read_committed=is_read_committed)
    world.write("old")
    world.write_txn(1, 0, "open", "open")
    assert world.values("c1", 300) == []
    assert position(world)[0] == offset


@pytest.mark.parametrize(("policy", "values"), [("earliest", ["b", "c"]), ("latest", [])])
def test_out_of_range_is_reset(policy: str, values: list[str]):
    world = reading(auto_offset_reset=POLICIES[policy])
    world.write("a", "b", "c")
    world.replicas[PARTITION].delete_records(1)
    world.ask("c1", Seek(PARTITION, 0))
    assert world.values("c1", 1_000) == values
    assert position(world)[0] == 3


# ---------------------------------------------------------------- isolation


def write_transactions(world: World) -> None:
    """Offsets: 0 aborted, 1 plain, 2 committed, 3 abort, 4 commit, 5 committed, 6 commit, 7 open."""
    world.write_txn(1, 0, "aborted")
    world.write("plain")
    world.write_txn(2, 0, "committed")
    world.end_txn(1, is_commit=False)
    world.end_txn(2, is_commit=True)
    world.write_txn(1, 1, "later")
    world.end_txn(1, is_commit=True)
    world.write_txn(2, 1, "open")


def test_read_committed_leaves_out_what_was_aborted_or_is_open():
    world = reading(is_read_committed=True)
    write_transactions(world)
    assert world.values("c1") == ["plain", "committed", "later"]
    assert position(world) == (7, 0)


def test_each_aborted_transaction_is_hidden_from_its_beginning_to_its_marker():
    world = reading(is_read_committed=True)
    for producer in (1, 2):
        world.write_txn(producer, 0, "aborted")
    world.end_txn(2, is_commit=False)
    world.write_txn(1, 1, "aborted")
    world.write_txn(2, 1, "committed")
    world.end_txn(1, is_commit=False)
    world.end_txn(2, is_commit=True)
    assert world.values("c1") == ["committed"]


def test_read_uncommitted_leaves_out_the_markers_alone():
    world = reading()
    write_transactions(world)
    assert world.values("c1") == ["aborted", "plain", "committed", "later", "open"]
    assert position(world)[0] == 8


def test_a_fetch_from_the_middle_hides_the_rest_of_an_aborted_transaction():
    world = reading(is_read_committed=True)
    world.write_txn(1, 0, "aborted", "aborted too")
    world.write_txn(1, 2, "aborted as well")
    world.end_txn(1, is_commit=False)
    world.write("plain")
    world.ask("c1", Seek(PARTITION, 1))
    assert world.values("c1") == ["plain"]


def test_the_position_moves_over_what_is_hidden_when_a_poll_gets_there():
    world = reading(is_read_committed=True)
    world.write_txn(1, 0, "aborted")
    world.end_txn(1, is_commit=False)
    assert world.values("c1", 100) == []
    assert position(world) == (2, 0)


# ---------------------------------------------------------------- answers that come too late


def test_what_was_fetched_before_a_seek_is_not_returned():
    world = reading(fetch_max_records=1)
    for value in "abcd":
        world.write(value)
    assert world.values("c1") == ["a"]  # b is there
    world.ask("c1", Seek(PARTITION, 3))
    assert world.values("c1") == ["d"]
    world.ask("c1", Seek(PARTITION, 0))
    assert world.values("c1") == ["a"]


def test_the_answer_to_a_fetch_before_a_seek_or_an_assignment_is_dropped():
    for change in (lambda world: world.ask("c1", Seek(PARTITION, 1)), reassign):
        world = reading()
        world.values("c1", 500)
        world.wait(600)
        world.silent.add(rpc.FetchRequest)
        world.call("c1", Poll(0))
        ((correlation, asked),) = world.consumers["c1"].client.outbox.asked.items()
        assert isinstance(asked.body, rpc.FetchRequest)
        world.write("a", "b")
        stale = world.data(asked.body)
        change(world)
        world.step("c1", Message(f"broker-{BROKER}", "c1", correlation, stale))
        assert world.consumers["c1"].positions[PARTITION].fetched is None
        world.silent.clear()
        assert world.values("c1")[-1] == "b"


def reassign(world: World) -> None:
    world.ask("c1", Assign(()))
    world.ask("c1", Assign((PARTITION,)))


def test_partitions_that_stay_assigned_keep_their_positions():
    world = reading()
    world.write("a")
    world.values("c1")
    world.ask("c1", Assign((PARTITION, OTHER)))
    world.write("b")
    assert world.values("c1") == ["b"]


# ---------------------------------------------------------------- leader epochs (KIP-320)


def read_then_elect(policy: str, truncate_to: int | None, cluster: ClusterConfig | None = None) -> World:
    """A consumer read five records of epochs 0, 0, 0, 1, 1; the leader of epoch 2 may have less."""
    world = reading(auto_offset_reset=POLICIES[policy], cluster=cluster)
    world.ask("c1", Seek(PARTITION, 0))
    world.write(0, 1, 2)
    world.elect(1)
    world.write(3, 4)
    values = []
    while len(values) < 5:
        values += world.values("c1")
    world.wait(1_000)
    world.elect(2, truncate_to)
    world.write("new", "newer")
    world.kinds()
    return world


def test_a_new_leader_that_has_all_is_read_on():
    world = read_then_elect("earliest", None)
    assert world.values("c1") == ["new", "newer"]
    assert world.kinds() == ["Fetch", "Metadata", "Fetch", "Fetch"]


def test_a_truncation_sends_the_position_back_to_where_the_logs_part():
    world = read_then_elect("earliest", 3)
    assert world.values("c1") == ["new", "newer"]
    assert position(world) == (5, 2)
    world = read_then_elect("earliest", 4)
    assert world.values("c1") == ["new", "newer"]
    assert position(world) == (6, 2)


def test_an_epoch_that_the_leader_does_not_know_is_a_truncation():
    world = read_then_elect("earliest", None)
    world.scripted[rpc.FetchRequest] = [rpc.FetchResponse(Error.OFFSET_OUT_OF_RANGE)]
    assert world.values("c1") == [0, 1, 2, 3, 4, "new", "newer"]


def test_where_the_logs_part_is_the_end_of_the_epoch_that_both_have():
    world = read_then_elect("earliest", 3)
    world.ask("c1", Poll(0))
    fetches = [body for body in world.asked if isinstance(body, rpc.FetchRequest)]
    assert [(fetch.fetch_offset, fetch.last_fetched_epoch) for fetch in fetches] == [(5, 1)]
    world.values("c1")
    fetches = [body for body in world.asked if isinstance(body, rpc.FetchRequest)]
    assert [(fetch.fetch_offset, fetch.last_fetched_epoch) for fetch in fetches[-2:]] == [(3, 0), (5, 2)]


def test_an_epoch_that_the_leader_lacks_beyond_the_position_is_forgotten():
    world = reading()
    world.write("a", "b")
    world.elect(2)
    world.write("c")
    world.ask("c1", Seek(PARTITION, 1, 1))
    assert world.values("c1") == ["b", "c"]


def test_before_kip_320_nobody_notices_a_truncation():
    world = read_then_elect("earliest", 3, ClusterConfig(brokers=(BROKER,), kip_320=False))
    world.consumers["c1"].client.look_up(rpc.MetadataRequest(), world.now)
    assert world.values("c1", 1_000) == []
    world.write("newest")
    assert world.values("c1", 1_000) == ["newest"]
    fetches = [body for body in world.asked if isinstance(body, rpc.FetchRequest)]
    assert {(fetch.current_leader_epoch, fetch.last_fetched_epoch) for fetch in fetches} == {(-1, -1)}


@pytest.mark.parametrize("error", [Error.UNKNOWN_LEADER_EPOCH, Error.FENCED_LEADER_EPOCH, Error.NOT_LEADER_OR_FOLLOWER])
def test_a_leader_in_another_epoch_is_looked_up_with_backoff(error: Error):
    world = reading()
    world.write("a")
    world.scripted[rpc.FetchRequest] = [rpc.FetchResponse(error)] * 3
    assert world.values("c1") == ["a"]
    assert world.now == 300
    assert world.kinds()[-3:] == ["Metadata", "Fetch", "Fetch"]


# ---------------------------------------------------------------- what a machine has to be


def test_a_lost_answer_is_asked_for_again():
    world = reading()
    world.write("a")
    for kind in (rpc.MetadataRequest, rpc.ListOffsetsRequest, rpc.FetchRequest):
        world.silent.add(kind)
        assert world.values("c1", 5_000) == []
        world.silent.clear()
    assert world.values("c1", 120_000) == ["a"]


def test_calls_that_make_no_sense_are_refused():
    world = reading()
    assert world.ask("c1", Subscribe((TOPIC,))).error is Error.INVALID_GROUP_ID
    assert world.ask("c1", Seek(OTHER, 0)).error is Error.INVALID_REQUEST
    assert world.ask("c1", CommitSync()).error is Error.INVALID_GROUP_ID
    assert world.ask("c1", Close()).error is Error.NONE
    assert world.ask("c1", Poll(0)).error is Error.INVALID_REQUEST
    world.wait(world.cluster.request_timeout)
    assert world.consumers["c1"].deadline() is None


def test_a_copy_goes_on_as_the_original_does():
    world = reading()
    world.write("a", "b")
    world.call("c1", Poll(1_000))
    consumer = world.consumers["c1"]
    for other in (copy.deepcopy(consumer), pickle.loads(pickle.dumps(consumer))):
        assert other == consumer
        assert other.step(Tick(), 100_000) == copy.deepcopy(consumer).step(Tick(), 100_000)
        assert other != consumer


def test_calls_are_served_in_turn():
    world = reading()
    first, second = world.call("c1", Poll(1_000)), world.call("c1", Seek(PARTITION, 1))
    assert ("c1", second) not in world.outcomes
    world.write("a", "b")
    assert [value for *_, value in world.outcomes["c1", first].value.records] == ["a", "b"]
    assert world.outcomes["c1", second].error is Error.NONE
    assert world.values("c1") == ["b"]
