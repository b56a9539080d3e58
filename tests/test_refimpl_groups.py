"""The group coordinator over a trivial log: life cycles of groups, and random ones held to what is promised."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import pytest
from hwmark.refimpl.batches import ABORT, COMMIT, Batch, Producer, Record
from hwmark.refimpl.config import ClusterConfig
from hwmark.refimpl.coordinator import Append, Respond, partition_for
from hwmark.refimpl.errors import Error, KafkaError
from hwmark.refimpl.group_coordinator import (
    ConsumerGroupMetadata,
    Effects,
    GroupCoordinator,
    OffsetAndMetadata,
)
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

SESSION, REBALANCE, GROUP = 10_000, 30_000, "group"
PARTITIONS = (("topic", 0), ("topic", 1), ("topic", 2))
SEVENTH = Producer("t", 7, 0)
RANGE = (("range", b""),)
ONE_PARTITION = ClusterConfig(offsets_retention=100_000)


class Way(NamedTuple):
    """Something on its way to the replicas: an append, or a marker."""

    append: Append | None
    error: Error
    batch: Batch


class Owner:
    """A broker with one partition of __consumer_offsets: its log, and the answers given."""

    def __init__(self, config: ClusterConfig = ONE_PARTITION) -> None:
        self.config, self.now, self.epoch = config, 0, 0
        self.log: list[Batch] = []
        self.way: list[Way] = []
        self.answers: dict[int, Respond] = {}
        self.asked = 0
        self.append_error = Error.NONE
        self.coordinator = GroupCoordinator(config)
        self.coordinator.load(0, [], 0, 0)

    def ask(self, request: str, *arguments: Any, **options: Any) -> int:
        """Sends a request; its number, by which its answer is found."""
        self.asked += 1
        number = self.asked
        try:
            self.apply(getattr(self.coordinator, request)(number, self.now, *arguments, **options))
        except KafkaError as refusal:
            self.apply([Respond(number, refusal.error)])
        return number

    def apply(self, effects: Effects) -> None:
        for effect in effects:
            if isinstance(effect, Append):
                self.append(effect)
            else:
                assert effect.to not in self.answers, f"answered twice: {effect}"
                assert isinstance(effect.to, int)
                self.answers[effect.to] = effect

    def append(self, effect: Append) -> None:
        base = self.log[-1].next_offset if self.log else 0
        records = tuple(Record(base + index, key, value) for index, (key, value) in enumerate(effect.records))
        last_offset = base + len(records) - 1
        batch = effect.batch(self.now)._replace(base_offset=base, last_offset=last_offset, records=records)
        self.way.append(Way(effect, self.append_error, batch))
        self.log += [batch] if self.append_error is Error.NONE else []

    def write_marker(self, producer_id: int, marker: str) -> None:
        base = self.log[-1].next_offset if self.log else 0
        self.log.append(Batch(base, base, self.epoch, (), producer_id, 0, is_transactional=True, control=marker))
        self.way.append(Way(None, Error.NONE, self.log[-1]))

    def replicate(self) -> None:
        """The high watermark reaches the end of the log."""
        while self.way:
            way = self.way.pop(0)
            if way.batch.control is not None:
                self.coordinator.complete_transaction(0, way.batch.producer_id, way.batch.control)
            elif way.append is not None:
                base_offset = way.batch.base_offset if way.error is Error.NONE else -1
                self.apply(self.coordinator.on_appended(way.append, way.error, base_offset, self.now))

    def fail_over(self, with_unreplicated: bool = True) -> None:
        """Another broker takes over, with or without the end of the log that is not replicated yet."""
        lost = [way.batch.base_offset for way in self.way if way.error is Error.NONE]
        if lost and not with_unreplicated:
            self.log = [batch for batch in self.log if batch.base_offset < lost[0]]
        self.apply(self.coordinator.unload(0))
        for way in self.way:
            if way.append is not None:
                self.apply(self.coordinator.on_appended(way.append, Error.NOT_LEADER_OR_FOLLOWER, -1, self.now))
        self.way.clear()
        self.epoch += 1
        self.coordinator = GroupCoordinator(self.config)
        self.coordinator.load(0, self.log, self.epoch, self.now)

    def sleep(self, duration: int) -> None:
        """Time passes, with a tick at each deadline."""
        until = self.now + duration
        while (deadline := self.coordinator.next_deadline()) is not None and deadline <= until:
            self.now = max(self.now, deadline)
            self.apply(self.coordinator.tick(self.now))
        self.now = until

    # ------------------------------------------------------------ what clients do

    def join(self, member_id: str = "", instance: str | None = None, protocols: Any = RANGE) -> int:
        who = ConsumerGroupMetadata(GROUP, member_id=member_id, instance=instance)
        number = self.ask("join_group", who, protocols, SESSION, REBALANCE)
        if number in self.answers and self.answers[number].error is Error.MEMBER_ID_REQUIRED:
            return self.join(self.answers[number].body.member_id, instance, protocols)
        return number

    def joined(self, number: int, instance: str | None = None) -> ConsumerGroupMetadata:
        """Who one is after a join."""
        answer = self.answers[number]
        assert answer.error is Error.NONE
        return ConsumerGroupMetadata(GROUP, answer.body.generation, answer.body.member_id, instance)

    def error(self, number: int) -> Error:
        return self.answers[number].error

    def fetch(self, require_stable: bool = True) -> dict[Any, Any]:
        number = self.ask("offset_fetch", ConsumerGroupMetadata(GROUP), PARTITIONS[:1], require_stable)
        return {tp: error if error is not Error.NONE else at.offset for tp, error, at in self.answers[number].body}

    def state(self) -> str:
        return self.coordinator.groups[GROUP].state


def commits(offset: int) -> Any:
    return ((PARTITIONS[0], OffsetAndMetadata(offset)),)


def stable_pair(owner: Owner) -> tuple[ConsumerGroupMetadata, ConsumerGroupMetadata]:
    """Two members of a stable group, the leader first."""
    alone = owner.joined(owner.join())
    other = owner.join()
    leader = owner.joined(owner.join(alone.member_id))
    follower = owner.joined(other)
    waiting = owner.ask("sync_group", follower)
    leading = owner.ask("sync_group", leader, ((leader.member_id, "a"), (follower.member_id, "b")))
    assert waiting not in owner.answers and leading not in owner.answers
    owner.replicate()
    assert (owner.answers[waiting].body, owner.answers[leading].body) == ("b", "a")
    return leader, follower


# ---------------------------------------------------------------- life cycles


@pytest.mark.parametrize(
    ("group", "code"), [("", 0), ("group", 98629247), ("polygenelubricants", -(2**31)), ("é", 233)]
)
def test_partition_is_by_java_hash(group: str, code: int) -> None:
    assert partition_for(group, 50) == (0 if code == -(2**31) else abs(code)) % 50


def test_two_members_join_and_get_what_the_leader_assigns() -> None:
    owner = Owner()
    leader, follower = stable_pair(owner)
    assert leader.generation == follower.generation == 2
    assert owner.state() == "Stable"
    assert owner.error(owner.ask("heartbeat", follower)) is Error.NONE


def test_only_the_leader_learns_the_members() -> None:
    owner = Owner()
    alone = owner.join()
    other = owner.join()
    again = owner.join(owner.joined(alone).member_id)
    assert [owner.answers[number].body.leader for number in (again, other)] == [owner.joined(alone).member_id] * 2
    assert len(owner.answers[again].body.members) == 2 and owner.answers[other].body.members == ()


def test_a_third_member_makes_the_others_join_again() -> None:
    owner = Owner()
    leader, follower = stable_pair(owner)
    third = owner.join()
    assert owner.error(owner.ask("heartbeat", leader)) is Error.REBALANCE_IN_PROGRESS
    assert owner.error(owner.ask("sync_group", follower)) is Error.REBALANCE_IN_PROGRESS
    parked = owner.join(leader.member_id)
    assert third not in owner.answers and parked not in owner.answers
    last = owner.join(follower.member_id)
    assert {owner.joined(number).generation for number in (third, parked, last)} == {3}


def test_who_does_not_join_again_is_out() -> None:
    owner = Owner()
    leader, follower = stable_pair(owner)
    third, parked = owner.join(), owner.join(leader.member_id)
    for _ in range(REBALANCE // 5000):
        owner.ask("heartbeat", follower)
        owner.sleep(5_000)
    assert owner.joined(third).generation == owner.joined(parked).generation == 3
    assert owner.error(owner.ask("heartbeat", follower)) is Error.UNKNOWN_MEMBER_ID


def test_a_joined_member_leads_if_the_leader_is_late() -> None:
    owner = Owner()
    _, follower = stable_pair(owner)
    third, parked = owner.join(), owner.join(follower.member_id)
    owner.sleep(REBALANCE)
    assert owner.answers[parked].body.leader == owner.joined(third).member_id
    assert len(owner.answers[third].body.members) == 2


def stay(owner: Owner, duration: int, *members: ConsumerGroupMetadata) -> None:
    """Time passes, and the members' heartbeats go on."""
    for _ in range(duration // 5_000):
        for who in members:
            owner.ask("heartbeat", who)
        owner.sleep(5_000)


def test_a_stable_group_stays_stable_and_gives_its_next_rebalance_time() -> None:
    owner = Owner()
    pair = stable_pair(owner)
    stay(owner, 2 * REBALANCE, *pair)
    assert owner.error(owner.ask("heartbeat", pair[1])) is Error.NONE and owner.state() == "Stable"
    third = owner.join()
    owner.sleep(1)
    assert third not in owner.answers


def test_a_session_begins_anew_with_the_assignment() -> None:
    owner = Owner()
    alone = owner.joined(owner.join())
    owner.sleep(SESSION - 1)
    owner.ask("sync_group", alone)
    owner.sleep(SESSION)
    owner.replicate()
    owner.sleep(SESSION - 1)
    assert owner.error(owner.ask("heartbeat", alone)) is Error.NONE


def test_commits_are_heartbeats() -> None:
    owner = Owner()
    leader, _ = stable_pair(owner)
    for _ in range(3):
        owner.sleep(SESSION - 1)
        owner.ask("offset_commit", leader, commits(5))
    assert owner.error(owner.ask("heartbeat", leader)) is Error.REBALANCE_IN_PROGRESS  # the other one is out


@pytest.mark.parametrize("protocols", [RANGE, (("range", b"other"),)])
def test_a_follower_that_joins_again_makes_the_others_join_again(protocols: Any) -> None:
    owner = Owner()
    leader, follower = stable_pair(owner)
    parked = owner.join(follower.member_id, protocols=protocols)
    assert parked not in owner.answers and owner.state() == "PreparingRebalance"
    assert owner.error(owner.ask("heartbeat", leader)) is Error.REBALANCE_IN_PROGRESS


def test_an_assignment_that_is_stored_too_late_is_not_given() -> None:
    owner = Owner()
    alone = owner.joined(owner.join())
    stale = owner.ask("sync_group", alone, ((alone.member_id, "all"),))
    other = owner.join()
    again = owner.join(alone.member_id)
    fresh = owner.ask("sync_group", owner.joined(other))
    owner.replicate()
    assert owner.error(stale) is Error.REBALANCE_IN_PROGRESS and owner.joined(again).generation == 2
    assert fresh not in owner.answers and owner.state() == "CompletingRebalance"


def test_an_append_outlives_the_group_that_it_was_for() -> None:
    owner = Owner()
    alone = owner.joined(owner.join())
    owner.ask("sync_group", alone, ((alone.member_id, "all"),))
    owner.ask("leave_group", alone)
    owner.apply(owner.coordinator.expire_offsets(owner.now))
    assert owner.coordinator.groups == {}
    owner.replicate()
    assert owner.coordinator.groups == {}


def test_the_leader_leaves_and_the_next_one_leads() -> None:
    owner = Owner()
    leader, follower = stable_pair(owner)
    assert owner.error(owner.ask("leave_group", leader)) is Error.NONE
    assert owner.error(owner.ask("heartbeat", follower)) is Error.REBALANCE_IN_PROGRESS
    assert owner.answers[owner.join(follower.member_id)].body.leader == follower.member_id


def test_the_last_member_leaves_an_empty_group_in_the_log() -> None:
    owner = Owner()
    for who in stable_pair(owner):
        owner.ask("leave_group", who)
    assert owner.state() == "Empty"
    value = owner.log[-1].records[0].value
    assert (value.generation, value.members) == (3, ())


def test_a_session_expires_without_heartbeats() -> None:
    owner = Owner()
    leader, follower = stable_pair(owner)
    owner.sleep(SESSION - 1)
    assert owner.error(owner.ask("heartbeat", leader)) is Error.NONE
    owner.sleep(1)
    assert owner.error(owner.ask("heartbeat", follower)) is Error.UNKNOWN_MEMBER_ID
    assert owner.error(owner.ask("heartbeat", leader)) is Error.REBALANCE_IN_PROGRESS


def test_a_member_id_that_nobody_joins_with_expires() -> None:
    owner = Owner()
    number = owner.ask("join_group", ConsumerGroupMetadata(GROUP), RANGE, SESSION, REBALANCE)
    member_id = owner.answers[number].body.member_id
    owner.sleep(SESSION)
    assert owner.error(owner.join(member_id)) is Error.UNKNOWN_MEMBER_ID


def test_a_rebalance_waits_for_those_who_were_given_an_id() -> None:
    owner = Owner()
    owner.ask("join_group", ConsumerGroupMetadata(GROUP), RANGE, SESSION, REBALANCE)
    other = owner.join()
    assert other not in owner.answers
    owner.sleep(SESSION)
    assert owner.joined(other).generation == 1


def test_the_leader_that_never_syncs_is_out() -> None:
    owner = Owner()
    alone = owner.joined(owner.join())
    for _ in range(REBALANCE // 5000):
        owner.ask("heartbeat", alone)
        owner.sleep(5_000)
    assert owner.error(owner.ask("heartbeat", alone)) is Error.UNKNOWN_MEMBER_ID
    assert owner.state() == "Empty"


def test_a_rebalance_ends_the_wait_for_an_assignment() -> None:
    owner = Owner()
    alone = owner.joined(owner.join())
    other = owner.join()
    owner.join(alone.member_id)
    parked = owner.ask("sync_group", owner.joined(other))
    owner.join()
    assert owner.error(parked) is Error.REBALANCE_IN_PROGRESS


def test_an_assignment_that_the_log_refuses_is_not_given() -> None:
    owner = Owner()
    alone = owner.joined(owner.join())
    owner.append_error = Error.NOT_ENOUGH_REPLICAS
    number = owner.ask("sync_group", alone, ((alone.member_id, "all"),))
    owner.replicate()
    assert owner.error(number) is Error.COORDINATOR_NOT_AVAILABLE
    assert owner.error(owner.ask("heartbeat", alone)) is Error.REBALANCE_IN_PROGRESS


def test_protocols_that_not_all_have_are_refused() -> None:
    owner = Owner()
    owner.join()
    assert owner.error(owner.join(protocols=(("sticky", b""),))) is Error.INCONSISTENT_GROUP_PROTOCOL


def stable_static(owner: Owner) -> ConsumerGroupMetadata:
    """A static member of a stable group."""
    static = owner.joined(owner.join(instance="i"), "i")
    owner.ask("sync_group", static, ((static.member_id, "all"),))
    owner.replicate()
    return static


def test_a_static_member_restarts_without_a_rebalance() -> None:
    owner = Owner()
    static = stable_static(owner)
    parked = owner.join(instance="i")
    assert parked not in owner.answers
    owner.replicate()
    restarted = owner.joined(parked, "i")
    assert restarted.generation == static.generation
    assert owner.answers[owner.ask("sync_group", restarted)].body == "all"
    for request in ("heartbeat", "sync_group"):
        assert owner.error(owner.ask(request, static)) is Error.FENCED_INSTANCE_ID
    assert owner.error(owner.ask("offset_commit", static, commits(5))) is Error.FENCED_INSTANCE_ID


def test_a_restarted_instance_has_its_whole_session() -> None:
    owner = Owner()
    stable_static(owner)
    owner.sleep(SESSION - 1)
    parked = owner.join(instance="i")
    owner.replicate()
    owner.sleep(SESSION - 1)
    assert owner.error(owner.ask("heartbeat", owner.joined(parked, "i"))) is Error.NONE


def test_an_instance_that_restarts_with_another_protocol_makes_the_group_rebalance() -> None:
    owner = Owner()
    static = stable_static(owner)
    restarted = owner.join(instance="i", protocols=(("sticky", b""), *RANGE))
    assert owner.joined(restarted).generation == static.generation + 1
    assert owner.answers[restarted].body.protocol == "sticky"


def test_an_instance_that_restarts_as_a_rebalance_begins_waits_for_it() -> None:
    owner = Owner()
    static = stable_static(owner)
    other = owner.join()
    leading = owner.joined(owner.join(static.member_id, "i"), "i")
    owner.ask("sync_group", leading)
    owner.replicate()
    parked, third = owner.join(instance="i"), owner.join()
    owner.replicate()
    assert parked not in owner.answers and third not in owner.answers
    owner.join(owner.joined(other).member_id)
    assert owner.joined(parked).generation == owner.joined(third).generation == 3


def test_static_members_that_are_late_stay() -> None:
    owner = Owner()
    static = stable_static(owner)
    third = owner.join()
    stay(owner, REBALANCE, static)
    assert [member_id for member_id, _ in owner.answers[third].body.members] == [
        static.member_id,
        owner.joined(third).member_id,
    ]


def test_without_anybody_who_joins_the_rebalance_goes_on() -> None:
    owner = Owner()
    static = stable_static(owner)
    other = owner.join()
    owner.join(static.member_id, "i")
    owner.ask("leave_group", owner.joined(other))
    stay(owner, 2 * REBALANCE, static._replace(generation=2))
    assert owner.state() == "PreparingRebalance" and owner.coordinator.groups[GROUP].generation == 2


def test_an_instance_leaves() -> None:
    owner = Owner()
    static = stable_static(owner)
    for who, error in (
        (static._replace(instance="x"), Error.UNKNOWN_MEMBER_ID),
        (static._replace(member_id="former"), Error.FENCED_INSTANCE_ID),
        (static, Error.NONE),
    ):
        assert owner.error(owner.ask("leave_group", who)) is error
    assert owner.error(owner.ask("heartbeat", static)) is Error.UNKNOWN_MEMBER_ID


def test_who_is_removed_while_it_waits_gets_an_answer() -> None:
    owner = Owner()
    alone = owner.joined(owner.join())
    other = owner.join(instance="i")
    owner.join(alone.member_id)
    parked = owner.ask("sync_group", owner.joined(other, "i"))
    owner.ask("leave_group", owner.joined(other, "i"))
    assert owner.error(parked) is Error.UNKNOWN_MEMBER_ID


# ---------------------------------------------------------------- offsets


def test_a_former_generation_is_fenced() -> None:
    owner = Owner()
    _, follower = stable_pair(owner)
    former = follower._replace(generation=1)
    assert owner.error(owner.ask("offset_commit", former, commits(5))) is Error.ILLEGAL_GENERATION
    assert owner.error(owner.ask("offset_commit", former, commits(5), SEVENTH)) is Error.ILLEGAL_GENERATION
    assert owner.error(owner.ask("heartbeat", former)) is Error.ILLEGAL_GENERATION
    assert owner.fetch() == {PARTITIONS[0]: -1}


def test_without_kip_447_a_transaction_is_not_fenced_by_generation() -> None:
    owner = Owner(ONE_PARTITION._replace(kip_447=False))
    _, follower = stable_pair(owner)
    number = owner.ask("offset_commit", follower._replace(generation=1), commits(5), SEVENTH)
    assert owner.fetch() == {PARTITIONS[0]: -1}
    owner.replicate()
    assert owner.error(number) is Error.NONE


def test_offsets_may_be_committed_while_a_rebalance_prepares_but_not_while_it_completes() -> None:
    owner = Owner()
    leader, follower = stable_pair(owner)
    third = owner.join()
    number = owner.ask("offset_commit", follower, commits(5))
    owner.replicate()
    assert owner.error(number) is Error.NONE and owner.fetch() == {PARTITIONS[0]: 5}
    owner.join(leader.member_id)
    owner.join(follower.member_id)
    assert owner.error(owner.ask("offset_commit", owner.joined(third), commits(6))) is Error.REBALANCE_IN_PROGRESS


def test_a_commit_counts_when_it_is_replicated() -> None:
    owner = Owner()
    number = owner.ask("offset_commit", ConsumerGroupMetadata(GROUP), commits(5))
    assert number not in owner.answers
    assert owner.fetch() == {PARTITIONS[0]: Error.UNSTABLE_OFFSET_COMMIT}
    assert owner.fetch(require_stable=False) == {PARTITIONS[0]: -1}
    owner.replicate()
    assert owner.error(number) is Error.NONE and owner.fetch() == {PARTITIONS[0]: 5}


def test_a_commit_of_nothing_is_answered_at_once() -> None:
    owner = Owner()
    assert owner.error(owner.ask("offset_commit", ConsumerGroupMetadata(GROUP), ())) is Error.NONE
    assert owner.log == []


def test_what_the_log_refused_takes_no_later_commit_along() -> None:
    owner = Owner()
    owner.append_error = Error.NOT_ENOUGH_REPLICAS
    owner.ask("offset_commit", ConsumerGroupMetadata(GROUP), commits(5))
    owner.append_error = Error.NONE
    owner.sleep(1)
    owner.ask("offset_commit", ConsumerGroupMetadata(GROUP), commits(6))
    owner.replicate()
    assert owner.fetch() == {PARTITIONS[0]: 6}


def test_a_commit_that_the_log_refuses_leaves_nothing() -> None:
    owner = Owner()
    owner.append_error = Error.NOT_LEADER_OR_FOLLOWER
    number = owner.ask("offset_commit", ConsumerGroupMetadata(GROUP), commits(5))
    owner.replicate()
    assert owner.error(number) is Error.NOT_COORDINATOR and owner.fetch() == {PARTITIONS[0]: -1}


@pytest.mark.parametrize(("marker", "offset"), [(COMMIT, 9), (ABORT, 5)])
@pytest.mark.parametrize("fails_over", [False, True])
def test_a_transaction_decides_its_offsets(marker: str, offset: int, fails_over: bool) -> None:
    owner = Owner()
    owner.ask("offset_commit", ConsumerGroupMetadata(GROUP), commits(5))
    number = owner.ask("offset_commit", ConsumerGroupMetadata(GROUP), commits(9), SEVENTH)
    owner.replicate()
    assert owner.error(number) is Error.NONE
    assert owner.fetch() == {PARTITIONS[0]: Error.UNSTABLE_OFFSET_COMMIT}
    assert owner.fetch(require_stable=False) == {PARTITIONS[0]: 5}
    if fails_over:
        owner.fail_over()
        assert owner.fetch() == {PARTITIONS[0]: Error.UNSTABLE_OFFSET_COMMIT}
    owner.write_marker(7, marker)
    if fails_over:
        owner.fail_over()
    owner.replicate()
    assert owner.fetch() == {PARTITIONS[0]: offset}


def test_the_later_record_wins_though_its_rival_is_decided_later() -> None:
    owner = Owner()
    owner.ask("offset_commit", ConsumerGroupMetadata(GROUP), commits(9), SEVENTH)
    owner.ask("offset_commit", ConsumerGroupMetadata(GROUP), commits(5))
    owner.write_marker(7, COMMIT)
    owner.replicate()
    assert owner.fetch() == {PARTITIONS[0]: 5}


def test_offsets_do_not_expire_while_a_commit_is_undecided() -> None:
    owner = Owner()
    owner.ask("offset_commit", ConsumerGroupMetadata(GROUP), commits(5))
    owner.ask("offset_commit", ConsumerGroupMetadata(GROUP), commits(9), SEVENTH)
    owner.replicate()
    owner.sleep(ONE_PARTITION.offsets_retention)
    owner.apply(owner.coordinator.expire_offsets(owner.now))
    assert owner.fetch(require_stable=False) == {PARTITIONS[0]: 5}
    owner.write_marker(7, ABORT)
    owner.replicate()
    owner.apply(owner.coordinator.expire_offsets(owner.now))
    owner.replicate()
    assert owner.fetch() == {PARTITIONS[0]: -1}


def test_offsets_expire_once_the_group_is_empty_for_long() -> None:
    owner = Owner()
    leader, follower = stable_pair(owner)
    owner.ask("offset_commit", leader, commits(5))
    owner.replicate()
    retention = ONE_PARTITION.offsets_retention
    for who in (leader, follower):
        owner.ask("leave_group", who)
    owner.sleep(retention - 1)
    owner.apply(owner.coordinator.expire_offsets(owner.now))
    assert owner.fetch() == {PARTITIONS[0]: 5}
    owner.sleep(1)
    owner.apply(owner.coordinator.expire_offsets(owner.now))
    assert owner.fetch() == {PARTITIONS[0]: 5}
    owner.replicate()
    assert owner.fetch() == {PARTITIONS[0]: -1}
    assert [(record.key, record.value) for record in owner.log[-1].records] == [((GROUP, PARTITIONS[0]), None)]
    owner.apply(owner.coordinator.expire_offsets(owner.now))
    assert owner.coordinator.groups == {}
    owner.fail_over()
    assert owner.fetch() == {PARTITIONS[0]: -1} and owner.state() == "Empty"


def test_a_commit_behind_the_tombstone_stays() -> None:
    owner = Owner()
    owner.ask("offset_commit", ConsumerGroupMetadata(GROUP), commits(5))
    owner.replicate()
    owner.sleep(ONE_PARTITION.offsets_retention)
    owner.apply(owner.coordinator.expire_offsets(owner.now))
    owner.ask("offset_commit", ConsumerGroupMetadata(GROUP), commits(6))
    owner.replicate()
    assert owner.fetch() == {PARTITIONS[0]: 6}
    owner.fail_over()
    assert owner.fetch() == {PARTITIONS[0]: 6}


# ---------------------------------------------------------------- failover


def test_the_next_coordinator_knows_group_and_offsets() -> None:
    owner = Owner()
    leader, follower = stable_pair(owner)
    owner.ask("offset_commit", leader, commits(5))
    owner.replicate()
    owner.fail_over()
    assert owner.error(owner.ask("heartbeat", follower)) is Error.NONE
    assert owner.answers[owner.ask("sync_group", follower)].body == "b"
    assert owner.fetch() == {PARTITIONS[0]: 5}
    owner.sleep(SESSION)
    assert owner.error(owner.ask("heartbeat", leader)) is Error.UNKNOWN_MEMBER_ID


def test_who_waits_is_told_to_look_for_the_next_coordinator() -> None:
    owner = Owner()
    leader, _ = stable_pair(owner)
    commit = owner.ask("offset_commit", leader, commits(5))
    parked = owner.join()
    owner.apply(owner.coordinator.unload(0))
    owner.replicate()
    assert owner.error(commit) is owner.error(parked) is Error.NOT_COORDINATOR
    assert owner.error(owner.ask("heartbeat", leader)) is Error.NOT_COORDINATOR


def test_member_ids_do_not_come_back_with_the_next_coordinator() -> None:
    owner = Owner()
    first = owner.join()
    owner.fail_over()
    assert owner.joined(first).member_id != owner.joined(owner.join()).member_id


def test_a_coordinator_is_data_and_can_be_copied() -> None:
    owner = Owner()
    leader, follower = stable_pair(owner)
    twin = copy.deepcopy(owner)
    assert twin.coordinator == owner.coordinator
    twin.ask("leave_group", leader)
    assert owner.error(owner.ask("heartbeat", follower)) is Error.NONE


# ---------------------------------------------------------------- random lives


@dataclass
class Client:
    """A consumer as the coordinator sees it: one request at a time, and what it was told last."""

    instance: str | None
    who: ConsumerGroupMetadata | None = None
    parked: int | None = None
    then: Callable[[Respond], None] | None = None
    members: list[str] = field(default_factory=list)
    has_to_join: bool = False
    has_synced: bool = False


class GroupLives(RuleBasedStateMachine):
    """Four consumers, two of them static, and two producers on one coordinator after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.owner = Owner()
        self.clients = [Client(None), Client(None), Client("i"), Client("j")]
        self.life = 0  # of the group
        self.leaders: dict[tuple[int, int, int], set[str]] = {}  # of (epoch, life, generation)
        self.owners: dict[tuple[int, int, str], set[str]] = {}  # who has been given (life, generation, part)
        self.joined_generation: dict[tuple[int, int], int] = {}  # by epoch and life
        self.given_up: set[int] = set()
        self.open: set[int] = set()
        self.has_to_abort: set[int] = set()

    client = st.integers(0, 3)

    # ------------------------------------------------------------ rules

    @rule(which=client)
    def join(self, which: int) -> None:
        client = self.clients[which]
        if client.parked is None:
            who = client.who or ConsumerGroupMetadata(GROUP, instance=client.instance)
            life = (self.owner.epoch, self.life)
            then = partial(self.on_join, client, life=life)
            self.send(client, "join_group", who, RANGE, SESSION, REBALANCE, then=then)

    def on_join(self, client: Client, answer: Respond, life: tuple[int, int]) -> None:
        if answer.error in (Error.UNKNOWN_MEMBER_ID, Error.FENCED_INSTANCE_ID):
            client.who = None
        body: Any = answer.body
        if answer.error is Error.MEMBER_ID_REQUIRED:
            client.who = ConsumerGroupMetadata(GROUP, -1, body.member_id, client.instance)
        if answer.error is not Error.NONE:
            return
        client.who = ConsumerGroupMetadata(GROUP, body.generation, body.member_id, client.instance)
        client.members = [member_id for member_id, _ in body.members]
        client.has_to_join = client.has_synced = False
        leader = body.leader[0] if body.leader[0] in "ij" else body.leader  # an instance restarts with another id
        self.leaders.setdefault((*life, body.generation), set()).add(leader)
        assert body.generation >= self.joined_generation.get(life, 0), "generations rise"
        self.joined_generation[life] = body.generation

    @rule(which=client)
    def sync(self, which: int) -> None:
        client = self.clients[which]
        if client.parked is None and client.who is not None and client.who.generation > 0:
            parts = tuple((member_id, f"part {index}") for index, member_id in enumerate(client.members))
            self.send(client, "sync_group", client.who, parts, then=lambda answer: self.on_sync(client, answer))

    def on_sync(self, client: Client, answer: Respond) -> None:
        assert client.who is not None
        if answer.error is Error.NONE and answer.body != ():
            identity = client.instance or client.who.member_id
            client.has_synced = True
            self.owners.setdefault((self.life, client.who.generation, str(answer.body)), set()).add(identity)
        elif answer.error in (Error.UNKNOWN_MEMBER_ID, Error.FENCED_INSTANCE_ID):
            client.who = None
        client.has_to_join = client.has_to_join or answer.error is not Error.NONE

    @rule(which=client)
    def heartbeat(self, which: int) -> None:
        client = self.clients[which]
        if client.who is None:
            return
        error = self.owner.error(self.owner.ask("heartbeat", client.who))
        if error in (Error.UNKNOWN_MEMBER_ID, Error.FENCED_INSTANCE_ID):
            client.who = None
        client.has_to_join = client.has_to_join or error not in (Error.NONE, Error.NOT_COORDINATOR)

    @initialize(rounds=st.integers(0, 6))
    def begin(self, rounds: int) -> None:
        self.poll([0, 1, 2, 3], rounds)

    @rule(order=st.permutations([0, 1, 2, 3]), rounds=st.integers(1, 6))
    def poll(self, order: list[int], rounds: int) -> None:
        """The consumers do what consumers do, as the log goes on."""
        for which in order * rounds:
            client = self.clients[which]
            if client.who is None or client.who.generation < 0 or client.has_to_join:
                self.join(which)
            elif not client.has_synced:
                self.sync(which)
            else:
                self.heartbeat(which)
            self.replicate()

    @rule(which=client, offset=st.integers(0, 99))
    def commit(self, which: int, offset: int) -> None:
        client = self.clients[which]
        if client.who is not None:
            self.owner.ask("offset_commit", client.who, commits(offset))

    @rule(offset=st.integers(0, 99))
    def commit_as_nobody(self, offset: int) -> None:
        self.owner.ask("offset_commit", ConsumerGroupMetadata(GROUP), commits(offset))

    @rule(which=client, producer_id=st.integers(7, 8), offset=st.integers(0, 99))
    def commit_in_transaction(self, which: int, producer_id: int, offset: int) -> None:
        if any(way.batch.control is not None and way.batch.producer_id == producer_id for way in self.owner.way):
            return  # the next transaction begins when the markers of the last one are replicated
        if self.owner.append_error is not Error.NONE:
            self.has_to_abort.add(producer_id)
        who = self.clients[which].who or ConsumerGroupMetadata(GROUP)
        self.owner.ask("offset_commit", who, commits(offset), Producer("t", producer_id, 0))

    @rule(producer_id=st.integers(7, 8), marker=st.sampled_from([COMMIT, ABORT]))
    def end_transaction(self, producer_id: int, marker: str) -> None:
        """A producer does not commit after an error: a refused commit takes the former ones of its partition along."""
        self.owner.write_marker(producer_id, ABORT if producer_id in self.has_to_abort else marker)
        self.has_to_abort.discard(producer_id)

    @rule(which=client)
    def leave(self, which: int) -> None:
        client = self.clients[which]
        if client.parked is None and client.who is not None:
            self.owner.ask("leave_group", client.who)
            client.who = None
            self.hear()

    @rule(which=client)
    def crash(self, which: int) -> None:
        """The client forgets who it was and hears no more answers."""
        client = self.clients[which]
        if client.parked is not None:
            self.given_up.add(client.parked)
        client.parked = client.who = None
        client.has_to_join = client.has_synced = False

    @rule()
    def replicate(self) -> None:
        self.owner.replicate()
        self.hear()

    @rule(error=st.sampled_from([Error.NONE, Error.NONE, Error.NOT_ENOUGH_REPLICAS, Error.REQUEST_TIMED_OUT]))
    def log_answers_with(self, error: Error) -> None:
        self.owner.append_error = error

    @rule(duration=st.sampled_from([1, 3_000, SESSION, REBALANCE]))
    def sleep(self, duration: int) -> None:
        self.owner.sleep(duration)
        self.hear()

    @rule()
    def expire(self) -> None:
        self.owner.append_error = Error.NONE
        self.owner.apply(self.owner.coordinator.expire_offsets(self.owner.now))
        self.replicate()
        self.begin_life()

    @precondition(lambda self: len(self.owner.log) > 0)
    @rule(with_unreplicated=st.booleans())
    def fail_over(self, with_unreplicated: bool) -> None:
        self.owner.append_error = Error.NONE
        self.owner.fail_over(with_unreplicated)
        self.begin_life()
        self.hear()

    # ------------------------------------------------------------ the machinery

    def send(self, client: Client, request: str, *arguments: Any, then: Callable[[Respond], None]) -> None:
        client.then = then
        client.parked = self.owner.asked + 1
        self.open.add(client.parked)
        self.owner.ask(request, *arguments)
        self.hear()

    def hear(self) -> None:
        """Clients get the answers that are there."""
        parked = {client.parked: client for client in self.clients}
        for number in [number for number in self.owner.answers if number in parked]:
            client = parked[number]
            client.parked = None
            assert client.then is not None
            client.then(self.owner.answers[number])

    def begin_life(self) -> None:
        """A group of which nothing is left begins again with generation 0."""
        self.life += GROUP not in self.owner.coordinator.groups

    # ------------------------------------------------------------ what holds

    @invariant()
    def there_is_one_leader(self) -> None:
        assert all(len(leaders) == 1 for leaders in self.leaders.values()), self.leaders

    @invariant()
    def each_part_has_one_owner_per_generation(self) -> None:
        assert all(len(owners) == 1 for owners in self.owners.values()), self.owners

    @invariant()
    def offsets_are_those_of_the_replicated_log(self) -> None:
        """The last commit of the log wins that is not a transaction's, or one's whose next marker says COMMIT."""
        expected, open_offsets = None, dict[int, Record]()
        on_the_way = [way.batch.base_offset for way in self.owner.way if way.error is Error.NONE]
        for batch in self.owner.log:
            if on_the_way and batch.base_offset >= on_the_way[0]:
                break
            if batch.control is not None:
                committed = open_offsets.pop(batch.producer_id, None)
                if batch.control == COMMIT and committed is not None:
                    expected = max(committed, expected or committed, key=lambda record: record.offset)
            for record in batch.records:
                if record.key == (GROUP, PARTITIONS[0]):
                    if batch.is_transactional:
                        open_offsets[batch.producer_id] = record
                    else:
                        expected = record
        number = self.owner.ask("offset_fetch", ConsumerGroupMetadata(GROUP), PARTITIONS[:1], False)
        body: Any = self.owner.answers[number].body
        known: Any = expected.value if expected is not None else None
        assert body[0][2].offset == (-1 if known is None else known.offset)

    def teardown(self) -> None:
        """Every parked request is answered in the end, though nobody is heard of any more."""
        self.owner.append_error = Error.NONE
        for _ in range(10):
            self.owner.replicate()
            self.owner.sleep(400_000)
        assert self.open - self.given_up <= set(self.owner.answers)


TestGroupLives = GroupLives.TestCase
