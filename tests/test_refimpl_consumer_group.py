"""The consumer as a member of a group: rebalances, commits, fencing, and who may return which records."""

from __future__ import annotations

from typing import Any

import pytest
from consumer_world import BROKER, TOPIC, join, members, owned
from hwmark.refimpl import requests as rpc
from hwmark.refimpl.assignors import Subscription
from hwmark.refimpl.config import ClusterConfig
from hwmark.refimpl.consumer import Close, CommitAsync, CommitSync, Poll, Subscribe
from hwmark.refimpl.errors import Error
from hwmark.refimpl.machine import Message

PARTITION, OTHER = (TOPIC, 0), (TOPIC, 1)
COOPERATIVE = ("cooperative-sticky",)
GROUP = "group"


# ---------------------------------------------------------------- rebalances


def test_two_members_share_the_partitions():
    world = members(2)
    assert sorted(world.poll_all()) == [("c1", "assigned", (0,)), ("c2", "assigned", (1,))]
    assert {consumer.group_metadata.generation for consumer in world.consumers.values()} == {1}


@pytest.mark.parametrize("config", [{}, {"assignors": ("sticky",)}, {"assignors": ("roundrobin", "range")}])
def test_the_eager_protocol_gives_up_all_before_it_joins(config: dict[str, Any]):
    world = members(1, **config)
    assert world.poll_all() == [("c1", "assigned", (0, 1))]
    join(world, **config)
    news = world.poll_all(40)
    assert news[0] == ("c1", "revoked", (0, 1))
    assert sorted(news[1:]) == [("c1", "assigned", (0,)), ("c2", "assigned", (1,))]


def test_the_cooperative_protocol_gives_up_what_moves_and_joins_again():
    world = members(1, assignors=COOPERATIVE)
    world.poll_all()
    world.write("kept")
    assert world.values("c1") == ["kept"]
    join(world, assignors=COOPERATIVE)
    news = [each for each in world.poll_all(80) if each[2]]
    assert news == [("c1", "revoked", (1,)), ("c2", "assigned", (1,))]
    assert world.consumers["c1"].positions[PARTITION].offset == 1
    assert world.consumers["c1"].group_metadata.generation == 3


def test_before_kip_429_all_is_given_up():
    cluster = ClusterConfig(brokers=(BROKER,), kip_429=False)
    world = members(1, assignors=COOPERATIVE, cluster=cluster)
    world.poll_all()
    join(world, assignors=COOPERATIVE)
    assert world.poll_all(40)[0] == ("c1", "revoked", (0, 1))


def test_a_member_reads_on_while_a_cooperative_rebalance_goes_on():
    world = members(1, assignors=COOPERATIVE)
    world.poll_all()
    world.silent.add(rpc.JoinGroupRequest)
    world.consumers["c1"].rejoin_needed = True
    world.write("meanwhile")
    assert world.values("c1") == ["meanwhile"]


def test_it_reads_on_even_while_it_commits_before_that():
    world = members(1, assignors=COOPERATIVE, auto_commit_interval=1_000_000)
    world.poll_all()
    world.silent.add(rpc.OffsetCommitRequest)
    world.consumers["c1"].rejoin_needed = True
    world.write("meanwhile")
    assert world.values("c1") == ["meanwhile"]


def test_nobody_joins_again_at_once_after_an_error_that_nobody_expects():
    world = members(1)
    world.scripted[rpc.JoinGroupRequest] = [rpc.Response(Error.UNKNOWN_SERVER_ERROR)] * 3
    assert world.poll("c1").value.rebalances == (("assigned", (PARTITION, OTHER)),)
    assert world.now == 300


def test_sticky_remembers_what_it_gave_although_it_was_given_up():
    world = members(2, partitions=4, assignors=("sticky",))
    world.poll_all()
    before = [owned(world, name) for name in world.consumers]
    join(world, assignors=("sticky",))
    world.poll_all(40)
    assert [set(owned(world, name)) <= set(one) for name, one in zip(("c1", "c2"), before, strict=True)] == [True] * 2
    assert sorted(map(len, [owned(world, name) for name in world.consumers])) == [1, 1, 2]


def test_only_a_poll_takes_part_in_a_rebalance():
    world = members(1)
    world.poll_all()
    join(world)
    world.call("c2", Poll(60_000))
    world.wait(10_000)
    assert owned(world, "c1") == [0, 1]
    world.ask("c1", Poll(0))
    assert owned(world, "c1") == []


def test_another_subscription_joins_again():
    world = members(1)
    world.poll_all()
    world.replicas["else", 0] = world.replicas.pop(OTHER)
    world.consumers["c1"].client.look_up(rpc.MetadataRequest(), world.now)
    world.ask("c1", Subscribe(("else",)))
    world.consumers["c1"].client.partitions.clear()
    assert world.poll_all() == [("c1", "revoked", (0, 1)), ("c1", "assigned", (0,))]
    assert [*world.consumers["c1"].positions] == [("else", 0)]


def test_a_topic_that_is_not_read_any_more_is_given_up_before_the_group_is_joined():
    world = members(1, assignors=COOPERATIVE)
    world.poll_all()
    world.silent.add(rpc.JoinGroupRequest)
    world.replicas["else", 0] = world.replicas[OTHER]
    world.consumers["c1"].client.look_up(rpc.MetadataRequest(), world.now)
    world.tick()
    world.ask("c1", Subscribe(("else",)))
    assert world.ask("c1", Poll(0)).value.rebalances == (("revoked", (PARTITION, OTHER)),)


def test_an_assignment_of_a_former_subscription_is_given_up_at_once():
    world = members(1)
    while world.consumers["c1"].assignment is None:
        assert world.poll_all(1) == []
    world.ask("c1", Subscribe(("else",)))
    assert world.poll_all(1) == [("c1", "assigned", (0, 1)), ("c1", "revoked", (0, 1))]
    assert owned(world, "c1") == []


def test_the_leader_is_told_what_a_member_has_and_who_it_is():
    world = members(1, instance="i", assignors=COOPERATIVE)
    world.poll_all()
    world.kinds()
    world.consumers["c1"].rejoin_needed = True
    world.ask("c1", Poll(0))
    (request,) = [body for body in world.asked if isinstance(body, rpc.JoinGroupRequest)]
    assert request.protocols == ((*COOPERATIVE, Subscription((TOPIC,), (PARTITION, OTHER), 1, "i")),)


def test_heartbeats_keep_a_member_that_polls_seldom():
    world = members(2, session_timeout=6_000, heartbeat_interval=2_000)
    world.poll_all()
    world.kinds()
    world.wait(30_000)
    assert len(world.groups.groups[GROUP].members) == 2
    assert world.kinds() == ["Heartbeat"] * 30


def test_a_member_whose_coordinator_moved_finds_it_again():
    world = members(1)
    world.poll_all()
    world.scripted[rpc.HeartbeatRequest] = [rpc.Response(Error.NOT_COORDINATOR)]
    world.kinds()
    world.wait(10_000)
    assert world.kinds() == ["Heartbeat", "FindCoordinator", "Heartbeat"]
    assert world.consumers["c1"].rejoin_needed is False


@pytest.mark.parametrize("kind", [rpc.JoinGroupRequest, rpc.SyncGroupRequest, rpc.OffsetFetchRequest])
@pytest.mark.parametrize("error", [Error.NOT_COORDINATOR, Error.COORDINATOR_LOAD_IN_PROGRESS, None])
def test_joining_goes_on_after_errors_and_lost_answers(kind: type, error: Error | None):
    world = members(2)
    if error is None:
        world.silent.add(kind)
        world.poll_all(20)
        world.silent.clear()
        world.wait(world.cluster.request_timeout)
    else:
        world.scripted[kind] = [rpc.Response(error)] * 3
    world.poll_all(60)
    assert not world.scripted.get(kind)
    world.write("a")
    values = [value for _ in range(20) for name in world.consumers for value in world.values(name, 100)]
    assert values == ["a"]
    assert [*map(len, (owned(world, name) for name in world.consumers))] == [1, 1]


# ---------------------------------------------------------------- losing the membership


@pytest.mark.parametrize("error", [Error.UNKNOWN_MEMBER_ID, Error.ILLEGAL_GENERATION])
def test_a_member_that_the_group_does_not_know_loses_all_and_joins_again(error: Error):
    world = members(1)
    world.poll_all()
    who = world.consumers["c1"].who
    world.scripted[rpc.HeartbeatRequest] = [rpc.Response(error)]
    world.wait(3_000)
    now = world.consumers["c1"].who
    assert (now.generation, now.member_id) == (-1, who.member_id if error is Error.ILLEGAL_GENERATION else "")
    assert world.consumers["c1"].group_metadata == who
    assert world.poll_all(120 if error is Error.UNKNOWN_MEMBER_ID else 6)[0] == ("c1", "lost", (0, 1))
    if error is Error.ILLEGAL_GENERATION:
        assert owned(world, "c1") == [0, 1]


def test_a_cooperative_member_that_the_group_does_not_know_loses_all_as_well():
    world = members(1, assignors=COOPERATIVE)
    world.poll_all()
    world.scripted[rpc.HeartbeatRequest] = [rpc.Response(Error.UNKNOWN_MEMBER_ID)]
    world.wait(3_000)
    assert world.ask("c1", Poll(0)).value.rebalances == (("lost", (PARTITION, OTHER)),)


def test_a_member_that_joins_already_need_not_hear_that_it_has_to():
    world = members(1)
    world.poll_all()
    world.silent |= {rpc.HeartbeatRequest, rpc.JoinGroupRequest}
    world.wait(3_100)
    (correlation,) = world.consumers["c1"].client.outbox.asked
    world.consumers["c1"].rejoin_needed = True
    world.ask("c1", Poll(0))
    world.kinds()
    world.step("c1", Message(f"broker-{BROKER}", "c1", correlation, rpc.Response(Error.REBALANCE_IN_PROGRESS)))
    world.ask("c1", Poll(0))
    assert "JoinGroup" not in world.kinds()


def test_an_answer_to_a_former_generation_says_nothing():
    world = members(1)
    world.poll_all()
    world.silent.add(rpc.HeartbeatRequest)
    world.wait(3_100)
    (correlation,) = world.consumers["c1"].client.outbox.asked
    world.silent.clear()
    join(world)
    world.consumers["c1"].rejoin_needed = True
    world.poll_all(40)
    world.step("c1", Message(f"broker-{BROKER}", "c1", correlation, rpc.Response(Error.UNKNOWN_MEMBER_ID)))
    assert world.consumers["c1"].rejoin_needed is False


def test_a_fenced_instance_is_of_no_use_any_more():
    world = members(1, instance="i")
    world.poll_all()
    twin = join(world, instance="i")
    world.poll_all(3)
    world.wait(3_100)
    assert world.consumers["c1"].fatal is Error.FENCED_INSTANCE_ID
    assert [world.ask("c1", call).error for call in (Poll(0), CommitSync(), CommitAsync())] == [
        Error.FENCED_INSTANCE_ID
    ] * 3
    assert world.ask("c1", Close()).error is Error.FENCED_INSTANCE_ID
    del world.consumers["c1"]
    world.poll_all()
    assert owned(world, twin) == [0, 1]


def test_a_static_member_that_comes_back_finds_its_partitions_without_a_rebalance():
    world = members(1, instance="i")
    join(world, instance="j")
    world.poll_all(40)
    world.wait(600)
    world.kinds()
    assert world.ask("c2", Close()).error is Error.NONE
    assert owned(world, "c2") == []
    assert world.kinds() == []
    del world.consumers["c2"]
    again = join(world, instance="j")
    assert world.poll_all(40) == [(again, "assigned", (1,))]
    assert world.consumers["c1"].group_metadata.generation == world.consumers[again].group_metadata.generation


def test_a_static_leader_that_comes_back_lets_all_keep_what_they_have():
    world = members(1, instance="i")
    join(world, instance="j")
    world.poll_all(40)
    world.ask("c1", Close())
    del world.consumers["c1"]
    again = join(world, instance="i")
    assert world.poll_all(40) == [(again, "assigned", (0,))]


def test_closing_leaves_the_group():
    world = members(2)
    world.poll_all()
    assert world.ask("c1", Close()).error is Error.NONE
    assert owned(world, "c1") == []
    assert world.kinds()[-1] == "LeaveGroup"
    del world.consumers["c1"]
    world.poll_all(40)
    assert owned(world, "c2") == [0, 1]


def test_an_asynchronous_commit_holds_up_no_call():
    world = members(1)
    world.poll_all()
    world.silent.add(rpc.OffsetCommitRequest)
    commit = world.call("c1", CommitAsync())
    assert world.ask("c1", Poll(0)).error is Error.NONE
    assert world.ask("c1", Close()).error is Error.NONE
    assert ("c1", commit) not in world.outcomes
    world.wait(world.cluster.request_timeout)
    assert world.outcomes["c1", commit].error is Error.REQUEST_TIMED_OUT


# ---------------------------------------------------------------- stale records


@pytest.mark.parametrize("assignors", [("range",), COOPERATIVE])
def test_what_was_buffered_before_a_partition_was_lost_is_never_returned(assignors: tuple[str, ...]):
    world = members(1, assignors=assignors, fetch_max_records=1)
    world.poll_all()
    for value in "abc":
        world.write(value, partition=1)
    assert world.values("c1") == ["a"]
    world.ask("c1", CommitSync())
    join(world, assignors=assignors, fetch_max_records=1)
    world.call("c2", Poll(4_000))
    world.wait(4_000)  # c1 has been told, and b is in its buffer
    read: dict[str, list[str]] = {"c1": [], "c2": []}
    for _ in range(80):
        for name in read:
            result = world.poll(name, 100).value
            assert all(partition in world.consumers[name].positions for partition, *_ in result.records)
            read[name] += [value for *_, value in result.records]
    assert (owned(world, "c1"), owned(world, "c2")) == ([0], [1])
    assert read == {"c1": ["b"] if assignors == COOPERATIVE else [], "c2": ["b", "c"]}


def test_the_answer_to_a_fetch_of_a_former_assignment_is_dropped():
    world = members(1)
    world.poll_all()
    world.wait(600)
    world.silent.add(rpc.FetchRequest)
    world.ask("c1", Poll(0))
    fetches = world.consumers["c1"].client.outbox.asked.copy()
    assert len(fetches) == 2
    world.write("a")
    stale = {id: world.data(asked.body) for id, asked in fetches.items()}
    world.scripted[rpc.HeartbeatRequest] = [rpc.Response(Error.ILLEGAL_GENERATION)]
    world.wait(3_000)
    assert [world.ask("c1", Poll(0)).value.rebalances[0][0] for _ in "12"] == ["lost", "assigned"]
    assert owned(world, "c1") == [0, 1]
    for id, response in stale.items():
        world.step("c1", Message(f"broker-{BROKER}", "c1", id, response))
    assert [position.fetched for position in world.consumers["c1"].positions.values()] == [None, None]
