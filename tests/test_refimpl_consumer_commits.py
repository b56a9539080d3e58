"""What a consumer commits and where it begins: offsets of its group, automatic, asked for, refused, undecided."""

from __future__ import annotations

import pytest
from consumer_world import BROKER, TOPIC, World, join, members
from hwmark.refimpl import requests as rpc
from hwmark.refimpl.batches import Producer, TopicPartition
from hwmark.refimpl.config import ClusterConfig
from hwmark.refimpl.consumer import Assign, Close, CommitAsync, CommitSync, ConsumerConfig, Poll
from hwmark.refimpl.errors import Error
from hwmark.refimpl.group_coordinator import OffsetAndMetadata

PARTITION, OTHER = (TOPIC, 0), (TOPIC, 1)
GROUP = "group"


def committed(world: World) -> dict[TopicPartition, int]:
    return {of: commit.offset for of, commit in world.groups.groups[GROUP].offsets.items()}


def test_the_next_member_begins_at_what_was_committed():
    world = members(1)
    world.poll_all()
    world.write("a", "b")
    world.write("c", partition=1)
    assert sorted(world.values("c1") + world.values("c1")) == ["a", "b", "c"]
    assert world.ask("c1", CommitSync(((PARTITION, OffsetAndMetadata(1)),))).error is Error.NONE
    assert committed(world) == {PARTITION: 1}
    assert world.ask("c1", CommitAsync()).error is Error.NONE
    assert committed(world) == {PARTITION: 2, OTHER: 1}
    assert world.groups.groups[GROUP].offsets[PARTITION].leader_epoch == 0
    world.ask("c1", CommitSync(((PARTITION, OffsetAndMetadata(1, 0)),)))
    world.ask("c1", Close())
    del world.consumers["c1"]
    again = join(world)
    assert [value for _ in range(8) for value in world.values(again, 500)] == ["b"]


def test_commits_are_automatic_by_the_interval_before_a_rebalance_and_at_the_end():
    world = members(1, auto_commit_interval=5_000)
    world.poll_all()
    world.write("a", "b")
    assert world.values("c1") == ["a", "b"]
    world.wait(20_000)
    assert committed(world) == {}  # not without a Poll
    world.ask("c1", Poll(0))
    assert committed(world) == {PARTITION: 2, OTHER: 0}
    world.write("c")
    world.values("c1")
    join(world)
    world.poll_all(40)
    assert committed(world)[PARTITION] == 3
    world.write("d")
    world.values("c1")
    assert world.kinds().count("OffsetCommit") < 10
    world.ask("c1", Close())
    assert committed(world)[PARTITION] == 4
    assert world.kinds() == ["OffsetCommit", "LeaveGroup"]


def test_the_interval_passes_also_for_who_polls_all_the_time():
    world = members(1, auto_commit_interval=1_000)
    world.poll_all()
    world.kinds()
    world.poll_all(50)
    assert world.kinds().count("OffsetCommit") in (4, 5)


def test_a_position_that_is_not_known_is_not_committed():
    world = members(1)
    world.silent.add(rpc.ListOffsetsRequest)
    world.poll_all()
    assert world.ask("c1", CommitSync()).error is Error.NONE
    assert committed(world) == {}


def test_a_former_generation_can_commit_before_it_gives_up_but_not_after_the_next_one_began():
    world = members(1)
    world.poll_all()
    world.write("a")
    assert world.values("c1") == ["a"]
    join(world)
    world.call("c2", Poll(60_000))
    world.wait(4_000)
    assert world.ask("c1", CommitSync()).error is Error.NONE
    assert committed(world)[PARTITION] == 1
    world.ask("c1", Poll(0))
    while world.consumers["c1"].who.generation < 2:
        world.wait(100)
    assert world.consumers["c1"].group_metadata.generation == 1
    commits = ((PARTITION, OffsetAndMetadata(7)),)
    assert world.ask("c1", CommitSync(commits)).error is Error.ILLEGAL_GENERATION
    assert world.consumers["c1"].who.generation == 2
    assert committed(world)[PARTITION] == 1


def test_a_sync_commit_is_tried_again_and_an_async_one_is_not():
    world = members(1)
    world.poll_all()
    retriable = [rpc.Response(Error.COORDINATOR_LOAD_IN_PROGRESS), rpc.Response(Error.NOT_COORDINATOR)]
    world.scripted[rpc.OffsetCommitRequest] = [*retriable]
    number = world.call("c1", CommitSync())
    poll = world.call("c1", Poll(0))
    assert ("c1", number) not in world.outcomes and ("c1", poll) not in world.outcomes
    world.wait(1_000)
    assert world.outcomes["c1", number].error is world.outcomes["c1", poll].error is Error.NONE
    world.scripted[rpc.OffsetCommitRequest] = [*retriable]
    assert world.ask("c1", CommitAsync()).error is Error.COORDINATOR_LOAD_IN_PROGRESS
    world.silent.add(rpc.OffsetCommitRequest)
    world.scripted.clear()
    number = world.call("c1", CommitSync())
    world.wait(world.cluster.request_timeout - 1)
    assert ("c1", number) not in world.outcomes
    world.silent.clear()
    world.wait(1_000)
    assert world.outcomes["c1", number].error is Error.NONE


@pytest.mark.parametrize("operation", [CommitSync(), CommitAsync()])
def test_a_commit_waits_until_the_coordinator_is_known(operation: CommitSync | CommitAsync):
    world = World(ConsumerConfig(GROUP))
    world.silent.add(rpc.FindCoordinatorRequest)
    number = world.call("c1", operation)
    world.wait(1_000)
    assert ("c1", number) not in world.outcomes
    world.silent.clear()
    world.wait(world.cluster.request_timeout)
    assert world.outcomes["c1", number].error is Error.NONE


@pytest.mark.parametrize("error", [Error.ILLEGAL_GENERATION, Error.UNKNOWN_MEMBER_ID, Error.FENCED_INSTANCE_ID])
def test_a_commit_that_is_fenced_ends_the_membership(error: Error):
    world = members(1)
    world.poll_all()
    world.scripted[rpc.OffsetCommitRequest] = [rpc.Response(error)]
    assert world.ask("c1", CommitSync()).error is error
    assert world.consumers["c1"].rejoin_needed
    assert world.consumers["c1"].fatal is (error if error is Error.FENCED_INSTANCE_ID else None)
    world.groups.groups[GROUP].members.clear()
    assert world.ask("c1", CommitSync()).error in (Error.FENCED_INSTANCE_ID, Error.UNKNOWN_MEMBER_ID)


def test_a_commit_that_learns_of_a_rebalance_joins_again():
    world = members(1)
    world.poll_all()
    world.scripted[rpc.OffsetCommitRequest] = [rpc.Response(Error.REBALANCE_IN_PROGRESS)]
    assert world.ask("c1", CommitSync()).error is Error.REBALANCE_IN_PROGRESS
    assert world.poll_all()[0] == ("c1", "revoked", (0, 1))


def test_without_a_subscription_a_commit_is_of_no_generation():
    world = World(ConsumerConfig(GROUP, instance="i"))
    world.ask("c1", Assign((PARTITION,)))
    world.write("a", "b")
    assert world.values("c1") == ["a", "b"]
    world.kinds()
    assert world.ask("c1", CommitSync()).error is Error.NONE
    assert world.asked[0].who == rpc.ConsumerGroupMetadata(GROUP, instance="i")
    world.ask("c1", Assign(()))
    world.ask("c1", Assign((PARTITION,)))
    world.write("c")
    assert world.values("c1") == ["c"]


@pytest.mark.parametrize(
    ("is_read_committed", "kip_447", "first"), [(True, True, "b"), (False, True, "a"), (True, False, "a")]
)
def test_undecided_offsets_are_awaited_by_who_reads_committed(is_read_committed: bool, kip_447: bool, first: str):
    cluster = ClusterConfig(brokers=(BROKER,), kip_447=kip_447)
    world = members(1, cluster=cluster, is_read_committed=is_read_committed)
    world.write("a", "b")
    commits = ((PARTITION, OffsetAndMetadata(1)),)
    world.do(world.groups.offset_commit(("c0", 1), 0, rpc.ConsumerGroupMetadata(GROUP), commits, Producer("t", 7, 0)))
    world.network.clear()
    world.poll_all(5)
    world.poll("c1", 300)
    world.groups.complete_transaction(0, 7, "COMMIT")
    fetches = [body for body in world.asked if isinstance(body, rpc.OffsetFetchRequest)]
    assert {fetch.require_stable for fetch in fetches} == {is_read_committed and kip_447}
    assert (len(fetches) > 2) == (first == "b")
    world.values("c1", 500)
    results = [outcome.value for outcome in world.outcomes.values() if outcome.value]
    assert next(value for result in results for *_, value in result.records) == first


def test_a_committed_epoch_detects_a_truncation():
    world = members(1)
    world.write("a", "b")
    world.elect(1, 1)
    world.write("c", "d")
    commits = ((PARTITION, OffsetAndMetadata(2, 0)),)
    world.do(world.groups.offset_commit(("c0", 1), 0, rpc.ConsumerGroupMetadata(GROUP), commits))
    world.network.clear()
    values = [value for _ in range(10) for value in world.values("c1", 100)]
    assert values == ["c", "d"]
    fetches = [body for body in world.asked if isinstance(body, rpc.FetchRequest)]
    assert (2, 0) in [(fetch.fetch_offset, fetch.last_fetched_epoch) for fetch in fetches]
