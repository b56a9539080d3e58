"""The controller among brokers that do as they are told: elections, failover, ISRs, reassignments, lost messages."""

from __future__ import annotations

import random
from typing import Any

import pytest
from controller_world import REFUSED, SESSION, World, X, leads
from hwmark.refimpl import requests as rpc
from hwmark.refimpl import zookeeper as zk
from hwmark.refimpl.errors import Error
from hwmark.refimpl.machine import ZOOKEEPER, Message, Tick, address
from hwmark.refimpl.partition_change import NO_LEADER, PREFERRED, RECOVERED, UNCLEAN, PartitionRegistration
from hypothesis import given
from hypothesis import strategies as st


def test_one_broker_wins_and_elects_the_preferred_leaders_with_all_in_the_isr() -> None:
    world = World()
    assert world.active.controller_epoch == 1
    assert world.state == PartitionRegistration((1, 2, 3), (1, 2, 3), 1)
    assert sorted(one.broker_epoch for one in world.brokers.values()) == [4, 5, 6]
    world.check_told()
    count = sum(map(len, world.told.values()))
    world.sleep(SESSION)
    assert sum(map(len, world.told.values())) == count


def test_brokers_that_die_leave_the_isr_and_leadership_moves_on() -> None:
    world = World()
    for died, left in ((3, (1, (1, 2))), (2, (1, (1,))), (1, (NO_LEADER, (1,)))):
        epoch = world.state.leader_epoch
        if died == 1:
            world.crash(1)
            world.start(3)  # it is not in the ISR
            world.sleep(2 * SESSION)
            assert leads(world) == (NO_LEADER, epoch + 1, (1,))
            break
        world.crash(died)
        world.sleep(2 * SESSION)
        assert leads(world) == (left[0], epoch + 1, left[1])
        world.check_told()
    epoch = world.state.leader_epoch
    world.start(1)
    world.settle()
    assert leads(world) == (1, epoch + 1, (1,))
    world.check_told()


def test_an_unclean_election_takes_who_is_there_if_the_configuration_says_so() -> None:
    world = World(1, 2, unclean_leader_election=True)
    assert world.alter(1).value[1] == (1,)
    world.crash(1)
    world.sleep(2 * SESSION)
    assert leads(world) == (2, 1, (2,)) and world.state.recovery == RECOVERED


@pytest.mark.parametrize(("kip_380", "is_slow"), [(True, False), (True, True), (False, False), (False, True)])
def test_a_broker_that_is_back_before_its_session_expires_has_died_nevertheless(kip_380: bool, is_slow: bool) -> None:
    world = World(3, 2, kip_380=kip_380)
    epoch = world.brokers[3].broker_epoch
    world.crash(3)
    world.start(3)
    held: list[Message] = []
    while is_slow and world.messages:
        message = world.messages.pop(0)
        if (message.source, message.destination) == (ZOOKEEPER, "broker-1"):
            held.append(message)
        else:
            world.deliver(message)
    assert len(held) == is_slow
    world.messages = held + world.messages
    world.settle()
    assert world.brokers[3].broker_epoch > epoch
    if kip_380 or not is_slow:
        assert leads(world)[:1] + leads(world)[2:] == (2, (2,))
        world.check_told()
    else:
        assert leads(world) == (3, 0, (3, 2)) and world.told[3] == []  # KAFKA-1120
    world.sleep(2 * SESSION)  # the former session expires, the new registration stays
    assert sorted(world.active.channels) == [1, 2, 3]


def test_a_new_controller_takes_over_with_the_next_epoch_and_tells_all_again() -> None:
    world = World(1, 2, 3)
    former = world.active
    world.forget()
    world.crash(former.broker_id)
    world.sleep(2 * SESSION)
    assert world.active.controller_epoch == 2 and leads(world) == (2, 1, (2, 3))
    world.check_told()
    assert world.alter(2).value[1] == (2,)
    other = next(one for one in world.brokers.values() if not one.is_active)
    assert world.ask(rpc.ElectLeadersRequest(X, PREFERRED), other).error is Error.NOT_CONTROLLER


@pytest.mark.parametrize("kip_380", [True, False])
def test_a_new_controller_knows_who_restarted_while_there_was_none(kip_380: bool) -> None:
    world = World(1, 2, 3, kip_380=kip_380)
    assert world.active.broker_id == world.state.leader == 1
    world.crash(1)
    world.start(1)
    world.sleep(2 * SESSION)
    assert world.active.controller_epoch == 2
    assert leads(world) == ((2, 1, (2, 3)) if kip_380 else (1, 0, (1, 2, 3)))
    world.check_told()


def test_a_paused_controller_is_replaced_and_does_nothing_more_when_it_goes_on() -> None:
    world = World(2, 3)
    zombie = world.brokers.pop(1)
    world.sleep(2 * SESSION)
    assert world.active.controller_epoch == 2
    world.brokers[1] = zombie
    world.messages.append(Message("admin", "broker-1", 99, rpc.ElectLeadersRequest(X, UNCLEAN)))
    request = rpc.AlterPartitionRequest(X, 2, 0, 0, (2,))
    world.messages.append(Message("admin", "broker-1", 98, request))
    world.settle()
    assert world.state.isr == (2, 3)
    assert world.answers == {99: rpc.Response(Error.NONE, (0, (2, 3))), 98: REFUSED(Error.NOT_CONTROLLER)}
    assert not zombie.is_active and sorted(world.active.channels) == [1, 2, 3]
    world.check_told()


def test_what_zookeeper_is_asked_is_sent_again_until_it_is_answered() -> None:
    world = World()
    broker, now = world.brokers[3], world.now + SESSION
    (ping,) = broker.step(None, now)
    assert ping.destination == ZOOKEEPER and ping.body.ops == ()
    assert broker.step(None, now + 1) == []
    assert broker.step(None, now + SESSION // 3) == [ping]
    assert broker.deadline() == now + 2 * (SESSION // 3)


def test_a_watch_that_fires_before_an_answer_has_the_broker_read_again() -> None:
    world = World()
    broker = world.brokers[3]
    (ping,) = broker.step(None, world.now + SESSION // 3)
    (answer,) = world.zookeeper.step(ping, world.now)
    fired = Message(ZOOKEEPER, "broker-3", 0, zk.ZooKeeperResponse(broker.session))
    assert broker.step(fired, world.now) == []
    (read,) = broker.step(answer, world.now)
    assert read.body.paths == ping.body.paths and read.correlation > ping.correlation
    assert broker.step(fired._replace(body=zk.ZooKeeperResponse(999)), world.now) == []  # a former session's
    (answer,) = world.zookeeper.step(read, world.now)
    assert broker.step(answer, world.now) == []


def test_a_write_of_a_controller_whose_epoch_has_passed_is_refused() -> None:
    world = World()
    version = world.zookeeper.nodes[zk.CONTROLLER_EPOCH].version
    message = Message("broker-1", "broker-1", 8, rpc.AlterPartitionRequest(X, 1, 0, 0, (1, 2)))
    (write,) = world.active.step(message, world.now)
    world.zookeeper.nodes[zk.CONTROLLER_EPOCH] = zk.Node(version + 1, version + 1)
    world.zookeeper.step(write, world.now)
    assert leads(world) == (1, 0, (1, 2, 3))


@pytest.mark.parametrize(
    ("isr", "others", "error"),
    [
        ((1, 2), {}, Error.NONE),
        ((1, 2), {"leader_epoch": 9}, Error.NOT_CONTROLLER),
        ((1, 2), {"partition_epoch": 9}, Error.NOT_CONTROLLER),
        ((1, 2), {"leader_epoch": 0}, Error.FENCED_LEADER_EPOCH),
        ((1, 2), {"broker_id": 2}, Error.INVALID_REQUEST),
        ((3, 1), {"partition_epoch": 0}, Error.NONE),  # it is so already
        ((1, 2), {"partition_epoch": 0}, Error.INVALID_UPDATE_VERSION),
        ((3,), {}, Error.INVALID_REQUEST),
        ((1, 4), {}, Error.INVALID_REQUEST),
        ((), {}, Error.INVALID_REQUEST),
        ((1, 2, 3), {}, Error.NONE),
        ((1, 2, 3), {"topic_partition": ("y", 0)}, Error.UNKNOWN_TOPIC_OR_PARTITION),
    ],
)
def test_a_leader_changes_the_isr_if_it_knows_the_partition_as_it_is(isr: Any, others: Any, error: Error) -> None:
    world = World()
    world.crash(2)
    world.start(2)
    world.settle()
    assert leads(world) == (1, 1, (1, 3))
    world.alter(1)
    world.alter(1, 3)
    before = world.state
    world.forget()
    answer = world.alter(*isr, **others)
    assert answer.error is error
    if error is not Error.NONE or sorted(isr) == sorted(before.isr):
        assert world.state == before and not any(world.told.values())
    else:
        assert world.state == before._replace(isr=isr, partition_epoch=before.partition_epoch + 1)
        assert all(len(told) == 1 for told in world.told.values())
    if error is Error.NONE:
        assert answer == rpc.Response(Error.NONE, (world.state.partition_epoch, world.state.isr))


def test_who_is_not_there_is_not_eligible_for_the_isr() -> None:
    world = World()
    world.crash(3)
    world.sleep(2 * SESSION)
    assert world.alter(1, 2, 3) == REFUSED(Error.INELIGIBLE_REPLICA)


def test_a_reassignment_ends_when_the_new_replicas_are_in_the_isr() -> None:
    world = World(1, 2, brokers=(1, 2, 3, 4))
    world.forget()
    assert world.move(3, 4) is Error.NONE
    assert world.state[:3] == ((3, 4, 1, 2), (1, 2), 1) and world.state[5:7] == ((3, 4), (1, 2))
    world.check_told()
    assert world.alter(1, 2, 3).error is Error.NONE
    assert world.alter(1, 2, 3, 4) == REFUSED(Error.FENCED_LEADER_EPOCH)  # the reassignment has begun another
    assert world.state[:4] == ((3, 4), (3, 4), 3, 2) and world.state[5:7] == ((), ())
    world.check_told()
    for id in world.brokers:
        assert (id in world.last(id).partitions[0][1].replicas) == (id not in (1, 2))


def test_who_comes_back_is_told_to_delete_what_it_has_no_more() -> None:
    world = World(1, 2)
    world.crash(3)
    world.start(3)
    world.settle()
    assert 3 not in world.last(3).partitions[0][1].replicas


def test_a_reassignment_can_be_taken_back() -> None:
    world = World(1, 2)
    assert world.move() is Error.NONE and leads(world)[1] == 0  # there is nothing to take back
    assert world.move(2, 3) is Error.NONE
    assert world.move() is Error.NONE
    assert world.state == PartitionRegistration((2, 1), (1, 2), 1, 2, 2)
    world.check_told()
    assert 3 not in world.last(3).partitions[0][1].replicas


@pytest.mark.parametrize("is_unclean", [True, False])
def test_a_reassignment_with_only_new_replicas_in_the_isr_is_taken_back_uncleanly(is_unclean: bool) -> None:
    world = World(1, 2, unclean_leader_election=is_unclean)
    world.move(3, 2)
    world.alter(1, 2)
    world.crash(2)
    world.sleep(2 * SESSION)
    world.alter(1, 3)
    world.crash(1)
    world.sleep(2 * SESSION)
    world.start(2)
    world.settle()
    assert leads(world)[::2] == (3, (3,))
    assert world.move() is (Error.NONE if is_unclean else Error.INVALID_REPLICA_ASSIGNMENT)
    assert leads(world)[::2] == ((2, (2,)) if is_unclean else (3, (3,)))


@pytest.mark.parametrize("replicas", [(1, 4), (4,)])
def test_a_reassignment_names_brokers_that_are_there(replicas: tuple[int, ...]) -> None:
    world = World(1, 2)
    assert world.move(*replicas) is Error.INVALID_REPLICA_ASSIGNMENT
    assert world.ask(rpc.AlterPartitionReassignmentsRequest(X, ())).error is Error.INVALID_REPLICA_ASSIGNMENT
    assert world.state == PartitionRegistration((1, 2), (1, 2), 1)


def test_elections_that_are_asked_for() -> None:
    world = World(2, 3)
    assert world.elect(PREFERRED) is world.elect(UNCLEAN) is Error.NONE and leads(world)[1] == 0  # it is so already
    world.crash(2)
    world.sleep(2 * SESSION)
    assert world.elect(PREFERRED) is Error.NONE and leads(world) == (3, 1, (3,))  # it is not there
    world.start(2)
    world.settle()
    assert world.elect(PREFERRED) is Error.NONE and leads(world) == (3, 1, (3,))  # it is not in the ISR
    world.alter(3, 2)
    assert world.elect(PREFERRED) is Error.NONE and leads(world) == (2, 2, (3, 2))
    world.check_told()
    world.alter(2)
    world.crash(2)
    world.sleep(2 * SESSION)
    assert leads(world)[::2] == (NO_LEADER, (2,))
    assert world.elect(UNCLEAN) is Error.NONE and leads(world)[::2] == (3, (3,))
    world.alter(3)
    world.crash(3)
    world.sleep(2 * SESSION)
    assert world.elect(UNCLEAN) is Error.NONE and leads(world)[::2] == (NO_LEADER, (3,))


def test_who_left_an_isr_below_its_minimum_may_lead_unless_it_lost_its_tail() -> None:
    world = World(2, 3, kip_966=True, min_insync_replicas=2)
    assert world.alter(2).error is Error.NONE
    assert (world.state.isr, world.state.elr) == ((2,), (3,))
    world.crash(2)
    world.crash(3)
    world.sleep(2 * SESSION)
    assert (world.state.leader, world.state.isr, world.state.elr) == (NO_LEADER, (), (2, 3))
    world.start(3)
    world.settle()
    assert world.state[1:3] == ((), NO_LEADER) and world.state.elr == (2,)
    world.start(2)
    world.settle()
    assert world.state.leader == 2  # nobody else is left to wait for, and it led last
    world.check_told()


def test_who_left_an_isr_below_its_minimum_leads_if_it_lived_on() -> None:
    world = World(2, 3, kip_966=True, min_insync_replicas=2)
    assert world.alter(2).error is Error.NONE
    world.crash(2)
    world.sleep(2 * SESSION)
    assert (world.state.leader, world.state.isr, world.state.elr) == (3, (3,), (2,))
    world.check_told()


def test_who_is_no_replica_any_more_is_not_eligible() -> None:
    world = World(1, 2, brokers=(1, 2), kip_966=True, min_insync_replicas=2)
    assert world.move(2) is Error.NONE
    assert (world.state.replicas, world.state.isr, world.state.elr) == ((2,), (2,), ())
    world.crash(2)
    world.start(2)
    world.settle()
    assert leads(world) == (2, 3, (2,))  # the last known leader: nobody else has the partition
    world.check_told()


def test_a_lost_tail_is_counted_once() -> None:
    world = World(2, 3, kip_966=True, min_insync_replicas=2)
    world.crash(3)
    world.start(3)
    world.settle()
    assert (world.state.isr, world.state.elr) == ((2,), ())
    world.alter(2, 3)
    world.alter(2)
    assert world.state.elr == (3,)
    world.crash(1)
    world.sleep(2 * SESSION)
    assert world.active.controller_epoch == 2 and world.state.elr == (3,)


def test_before_the_controller_was_asked_leaders_wrote_isrs_to_zookeeper() -> None:
    world = World(kip_497=False)
    world.forget()
    request = rpc.AlterPartitionRequest(X, 1, 0, 0, (1, 2))
    for isr, version, error in (
        ((1, 2), 0, Error.NONE),
        ((1,), 0, Error.INVALID_UPDATE_VERSION),
        ((1,), 1, Error.NONE),
    ):
        request = request._replace(isr=isr, partition_epoch=version)
        answer = REFUSED(error) if error is not Error.NONE else REFUSED(error, (version + 1, isr))
        assert world.ask(request, world.brokers[1], address(1)) == answer
    assert leads(world) == (1, 0, (1,))
    for told in world.told.values():
        assert {type(one) for one in told} == {rpc.LeaderAndIsrRequest}
    assert [one.partitions[0][1].isr for one in world.told[2] if one.partitions] == [(1, 2), (1,)]


def test_a_leader_that_did_not_hear_that_its_isr_is_in_zookeeper_hears_it_once_more() -> None:
    world = World(kip_497=False)
    request = rpc.AlterPartitionRequest(X, 1, 0, 0, (1, 2))
    for _ in range(2):
        assert world.ask(request, world.brokers[1], address(1)) == REFUSED(Error.NONE, (1, (1, 2)))
    assert world.state.partition_epoch == 1


def test_nobody_else_writes_an_isr_of_a_leader_to_zookeeper() -> None:
    world = World(kip_497=False)
    leader = next(one for one in world.brokers.values() if not one.is_active)
    assert world.ask(rpc.AlterPartitionRequest(X, 1, 0, 0, (1,)), leader) == REFUSED(Error.NOT_CONTROLLER)
    assert leads(world) == (1, 0, (1, 2, 3))


def test_a_reassignment_ends_too_if_the_leader_wrote_the_isr_to_zookeeper() -> None:
    world = World(1, 2, kip_497=False)
    assert world.move(3, 1) is Error.NONE
    request = rpc.AlterPartitionRequest(X, 1, 1, world.state.partition_epoch, (1, 2, 3))
    assert world.ask(request, world.brokers[1], address(1)).error is Error.FENCED_LEADER_EPOCH
    assert world.state == PartitionRegistration((3, 1), (1, 3), 1, 2, 3)
    world.check_told()
    assert 2 not in world.last(2).partitions[0][1].replicas


def test_a_controller_decides_again_if_a_leader_was_faster() -> None:
    world = World(2, 3, kip_497=False)
    controller, leader = world.active, world.brokers[2]
    request = rpc.AlterPartitionRequest(X, 2, 0, 0, (2,))
    (write,) = leader.step(Message(address(2), address(2), 8, request), world.now)
    world.deliver(write)  # the controller does not know yet
    move = rpc.AlterPartitionReassignmentsRequest(X, (2, 1))
    world.messages += controller.step(Message("admin", address(controller.broker_id), 9, move), world.now)
    world.settle()
    assert world.answers[9].error is Error.NONE
    assert (world.state.replicas, world.state.isr, world.state.adding) == ((2, 1, 3), (2,), (1,))
    world.check_told()


def test_brokers_are_told_in_order_and_again_until_they_have_acknowledged() -> None:
    world = World()
    world.forget()
    world.answer = Error.STALE_BROKER_EPOCH
    world.move(3, 2, 1)
    world.alter(1, 2)
    assert [type(one) for one in world.told[2]] == [rpc.LeaderAndIsrRequest]
    world.answer = Error.NONE
    world.sleep(1_000)
    assert len(world.told[2]) == 3 and world.told[2][0] == world.told[2][1] != world.told[2][2]
    world.check_told()


def test_who_heard_nothing_is_told_again_and_then_only_what_is_so_now() -> None:
    world = World(3, 2, 1)
    world.forget()
    world.is_mute = True
    for isr in ((3,), (3, 1), (3,), (3, 1, 2)):
        world.alter(*isr)
    world.is_mute = False
    world.sleep(world.config.request_timeout + SESSION)
    assert [one.partitions[0][1].isr for one in world.told[2]] == [(3,), (3, 1, 2)]


@given(st.integers(0, 2**32), st.booleans(), st.booleans())
def test_whatever_is_lost_repeated_or_restarted_all_agree_in_the_end(seed: int, kip_497: bool, kip_966: bool) -> None:
    draw = random.Random(seed)
    world = World(1, 2, 3, kip_497=kip_497, kip_966=kip_966, min_insync_replicas=2)
    epochs: dict[int, int] = {}
    for _ in range(300):
        before, action = world.state, draw.random()
        if world.messages and action < 0.8:
            pair = draw.choice(world.messages)[:2]
            message = next(one for one in world.messages if one[:2] == pair)
            if action > 0.05:
                world.deliver(message)
            if action < 0.75 and message in world.messages:
                world.messages.remove(message)  # or else it comes twice
        elif action < 0.88:
            _propose(world, draw)
        elif action < 0.97:
            world.now += draw.choice((0, 100, SESSION // 3, SESSION))
            for broker in world.brokers.values():
                world.messages += broker.step(None, world.now)
            world.messages += world.zookeeper.step(Tick(), world.now) if draw.random() < 0.5 else []  # type: ignore
        else:
            world.crash(id := draw.choice(tuple(world.brokers)))
            world.start(id)
        assert world.state >= before or world.state.partition_epoch > before.partition_epoch
        assert world.state.leader_epoch >= before.leader_epoch
        for id, broker in world.brokers.items():
            if broker.is_active:
                assert epochs.setdefault(broker.controller_epoch, id) == id
    world.settle()
    world.sleep(4 * SESSION + 2 * world.config.request_timeout)
    assert world.state.leader in world.state.isr or world.state.leader == NO_LEADER
    world.check_told()


def _propose(world: Any, draw: random.Random) -> None:
    """A leader, as it sees itself, proposes an ISR; to the controllers, or by itself."""
    id = draw.choice(tuple(world.brokers))
    told = [one.partitions[0][1] for one in world.told[id] if isinstance(one, rpc.LeaderAndIsrRequest)]
    if not told or told[-1].leader != id:
        return
    isr = tuple(one for one in (1, 2, 3) if one == id or draw.random() < 0.5)
    request = rpc.AlterPartitionRequest(X, id, told[-1].leader_epoch, told[-1].partition_epoch, isr)
    if not world.config.kip_497:
        world.messages.append(Message(address(id), address(id), 2 * id, request))
    else:
        world.messages += [Message("admin", address(one), id, request) for one in world.brokers]
