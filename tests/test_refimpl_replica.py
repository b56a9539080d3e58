"""Replicas of one partition, driven by hand: what leaders promise, and the losses that each KIP put an end to."""

from __future__ import annotations

from typing import Any

import pytest
from hwmark.refimpl import requests as rpc
from hwmark.refimpl.batches import Batch, EpochEndOffset, Record
from hwmark.refimpl.config import ClusterConfig
from hwmark.refimpl.errors import Error, KafkaError
from hwmark.refimpl.partition_change import PartitionRegistration
from hwmark.refimpl.replica import Replica

HERE = ("topic", 0)
LAG_MAX = 30_000


def replicas(count: int, **config: int) -> list[Replica]:
    return [Replica(id, HERE, ClusterConfig(**config)) for id in range(count)]


def state(leader: int, epoch: int, isr: tuple[int, ...], count: int, partition_epoch: int = 0) -> PartitionRegistration:
    return PartitionRegistration(tuple(range(count)), isr, leader, epoch, partition_epoch)


def produce(leader: Replica, value: str, acks: int = -1, now: int = 0) -> int:
    """Append one record; its offset."""
    offset = leader.produce(Batch(0, 0, -1, (Record(0, None, value),)), acks).last_offset
    leader.maybe_increment_high_watermark(now)
    return offset


def acknowledgement(leader: Replica, offset: int) -> Error | None:
    """What a producer that awaits an offset is told; None: to wait."""
    try:
        answer = leader.acknowledged(Batch(offset, offset, 0, ()))
        return answer.error if answer else None
    except KafkaError as refusal:
        return refusal.error


def ask(follower: Replica, leader: Replica, now: int = 0) -> Error:
    """One request of a follower and its answer."""
    request = follower.request
    assert request is not None
    answer: Any
    try:
        if isinstance(request, rpc.FetchRequest):
            answer = leader.fetch(request, now)
        elif isinstance(request, rpc.ListOffsetsRequest):
            answer = leader.list_offsets(request)
        else:
            answer = leader.offsets_for_leader_epoch(request)
    except KafkaError as refusal:
        answer = rpc.FetchResponse(refusal.error)
    follower.handle_response(request, answer, now)
    leader.maybe_increment_high_watermark(now)
    return answer.error


def grant(leader: Replica, now: int = 0) -> None:
    """The controller does what the leader asks it for."""
    asked = leader.request
    assert asked is not None
    leader.handle_response(asked, rpc.Response(Error.NONE, (asked.partition_epoch + 1, asked.isr)), now)
    leader.maybe_increment_high_watermark(now)


def values(replica: Replica, limit: int | None = None) -> str:
    records = [record for batch in replica.log.read(0, replica.log.log_end_offset) for record in batch.records]
    return "".join(str(record.value) for record in records[:limit])


def refused(error: Error, leader: Replica, request: rpc.FetchRequest) -> None:
    with pytest.raises(KafkaError) as refusal:
        leader.fetch(request, 0)
    assert refusal.value.error is error


def led(count: int = 3, **config: int) -> list[Replica]:
    """Replicas that all are in the ISR, led by the first in epoch 0."""
    group = replicas(count, **config)
    for replica in group:
        replica.become(state(0, 0, tuple(range(count)), count), 0)
    return group


# The known losses


def truncate_to_hw_loses(**config: int) -> bool:
    """traces/known/replication-truncate-to-hw: committed by both, and gone from one that is in the ISR."""
    leader, follower = replicas(2, **config)
    leader.become(state(0, 1, (0,), 2), 0)
    follower.become(state(0, 0, (0, 1), 2), 0)
    ask(follower, leader)
    if leader.request is not None:
        grant(leader)
    produce(leader, "a", acks=1)
    for _ in range(2):
        if follower.request is not None:
            ask(follower, leader)
    committed = values(leader, leader.log.high_watermark)
    follower.become(state(0, 1, (0,), 2), 0)
    return leader.isr == (0, 1) and committed != "" and not values(follower).startswith(committed)


@pytest.mark.parametrize("kip_320", [False, True])
def test_a_follower_that_truncates_to_its_high_watermark_loses_what_is_committed(kip_320: bool) -> None:
    assert truncate_to_hw_loses(kip_101=False, kip_320=False)
    assert not truncate_to_hw_loses(kip_101=True, kip_320=kip_320)


def failover_loses(**config: int) -> bool:
    """KIP-101, first scenario: the follower restarts before it learns of the high watermark, and is elected."""
    leader, follower = led(2, **config)
    produce(leader, "a")
    ask(follower, leader)
    leader.fetch(rpc.FetchRequest(HERE, 1, 0, -1, 1), 0)  # the answer, with the new high watermark, is lost
    leader.maybe_increment_high_watermark(0)
    assert acknowledgement(leader, 0) is Error.NONE and follower.log.high_watermark == 0
    follower.become(state(0, 1, (0, 1), 2, 1), 0)
    follower.become(state(1, 2, (0, 1), 2, 2), 0)
    leader.become(state(1, 2, (0, 1), 2, 2), 0)
    return values(follower) != "a"


def test_an_acknowledged_record_survives_a_restart_and_a_failover() -> None:
    assert failover_loses(kip_101=False)
    assert not failover_loses(kip_595=False)
    assert not failover_loses()


def fast_failovers(is_written: bool = True, **config: int) -> tuple[str, str]:
    """KAFKA-6361: two leaders wrote other records at the same offsets; then there is a third epoch."""
    one, other = led(2, **config)
    for value in "ab":
        produce(one, value)
        ask(other, one)
        ask(other, one)
    produce(one, "c")
    produce(one, "d")
    one.become(state(1, 1, (1,), 2, 1), 0)
    for replica in (other, one):
        replica.become(state(1, 1, (1,), 2, 1), 0)
    produce(other, "x")
    other.become(state(0, 2, (0,), 2, 2), 0)
    one.become(state(0, 2, (0,), 2, 2), 0)
    if is_written:
        produce(one, "e")
    for _ in range(6):
        ask(other, one)
    return values(one), values(other)


def test_a_follower_goes_back_through_the_epochs_until_the_logs_agree() -> None:
    assert fast_failovers(kip_279=False, kip_595=False) == ("abcde", "abxde")
    assert fast_failovers(kip_595=False) == ("abcde", "abcde")
    assert fast_failovers() == ("abcde", "abcde")
    for kip_595 in (False, True):
        assert fast_failovers(is_written=False, kip_595=kip_595) == ("abcd", "abcd")


def zombie_commits(**config: int) -> bool:
    """traces/known/replication-kip-279: a follower of an old epoch counts for a leader of a later one."""
    follower, _, leader = replicas(3, **config)
    follower.become(state(2, 0, (0, 1, 2), 3), 0)
    leader.become(state(2, 2, (0, 2), 3), 0)
    produce(leader, "a", acks=1)
    for _ in range(3):
        if follower.request is not None:
            ask(follower, leader)
    leader.maybe_increment_high_watermark(LAG_MAX + 1)
    return leader.log.high_watermark == 1


def test_only_followers_in_the_leaders_epoch_count() -> None:
    config = {"kip_595": False}
    assert zombie_commits(kip_320=False, **config)
    assert not zombie_commits(**config)


# Leaders


def test_the_high_watermark_is_what_all_in_the_isr_have() -> None:
    leader, *followers = led()
    offset = produce(leader, "a")
    for follower in followers:
        assert leader.log.high_watermark == 0 and acknowledgement(leader, offset) is None
        assert ask(follower, leader) is Error.NONE and values(follower) == "a"
        ask(follower, leader)
    assert leader.log.high_watermark == 1 and acknowledgement(leader, offset) is Error.NONE
    assert followers[0].log.high_watermark == 0
    ask(followers[0], leader)
    assert followers[0].log.high_watermark == 1


def test_who_lags_leaves_the_isr_when_the_controller_says_so() -> None:
    leader, one, _ = led()
    produce(leader, "a")
    ask(one, leader, LAG_MAX)
    ask(one, leader, LAG_MAX)
    leader.maybe_shrink_isr(LAG_MAX)
    assert leader.request is None
    leader.maybe_shrink_isr(LAG_MAX + 1)
    assert leader.request is not None and leader.request.isr == (0, 1)
    assert leader.isr == leader.maximal_isr == (0, 1, 2)
    leader.maybe_increment_high_watermark(LAG_MAX + 1)
    assert leader.log.high_watermark == 0
    grant(leader, LAG_MAX + 1)
    assert leader.isr == (0, 1) and leader.log.high_watermark == 1 and leader.partition_epoch == 1


def test_who_fetched_at_the_end_had_caught_up_then() -> None:
    leader, one, _ = led()
    ask(one, leader, LAG_MAX)
    produce(leader, "a", acks=1, now=LAG_MAX)
    leader.maybe_shrink_isr(2 * LAG_MAX)
    assert leader.request is not None and leader.request.isr == (0, 1)


def test_a_leader_that_is_elected_again_counts_its_followers_anew() -> None:
    leader, one, _ = led()
    produce(leader, "a")
    ask(one, leader)
    ask(one, leader)
    for replica in (leader, one):
        replica.become(state(0, 1, (0, 1), 3, 1), 2 * LAG_MAX)
    assert leader.log.high_watermark == 0
    ask(one, leader, 2 * LAG_MAX)
    assert leader.log.high_watermark == 1


def test_below_the_log_start_nothing_is_said_of_where_logs_diverged() -> None:
    (leader,) = led(1)
    produce(leader, "a")
    produce(leader, "b")
    leader.become(state(0, 3, (0,), 1, 1), 0)
    produce(leader, "c")
    leader.delete_records(1)
    refused(Error.OFFSET_OUT_OF_RANGE, leader, rpc.FetchRequest(HERE, 0, 3, 2))
    assert leader.fetch(rpc.FetchRequest(HERE, 1, 3, 2), 0).diverging_epoch == EpochEndOffset(0, 2)


def test_the_high_watermark_waits_for_who_may_be_in_the_isr() -> None:
    leader, one, _ = replicas(3)
    for replica in (leader, one):
        replica.become(state(0, 0, (0,), 3), 0)
    produce(leader, "a", now=0)
    assert leader.log.high_watermark == 1
    ask(one, leader)
    assert leader.request is None
    ask(one, leader)
    assert leader.request is not None and leader.request.isr == (0, 1)
    assert leader.isr == (0,) and leader.maximal_isr == (0, 1)
    produce(leader, "b", now=2 * LAG_MAX)
    assert leader.log.high_watermark == 1
    pending = leader.request
    leader.handle_response(pending, rpc.Response(Error.INVALID_UPDATE_VERSION), 2 * LAG_MAX)
    assert leader.request is pending
    leader.handle_response(pending, rpc.Response(Error.INELIGIBLE_REPLICA), 2 * LAG_MAX)
    leader.maybe_increment_high_watermark(2 * LAG_MAX)
    assert leader.request is None and leader.log.high_watermark == 2


def test_an_answer_about_the_isr_is_ignored_after_a_new_leader_and_isr() -> None:
    leader, one, _ = led()
    leader.become(state(0, 1, (0, 2), 3, 1), 0)
    one.become(state(0, 1, (0, 2), 3, 1), 0)
    ask(one, leader)
    asked = leader.request
    assert asked is not None and asked.isr == (0, 2, 1) and (asked.leader_epoch, asked.partition_epoch) == (1, 1)
    leader.become(state(0, 1, (0,), 3, 2), 0)
    leader.handle_response(asked, rpc.Response(Error.NONE, (2, asked.isr)), 0)
    assert leader.isr == (0,) and leader.partition_epoch == 2


def test_a_follower_joins_the_isr_once_it_reaches_the_leader_epochs_start() -> None:
    """KAFKA-7128."""
    for kip_320 in (True, False):
        leader, one, two = led(kip_320=kip_320)
        produce(leader, "a")
        ask(one, leader)
        for replica in (leader, one, two):
            replica.become(state(1, 1, (0, 1), 3, 1), 0)
        assert one.log.high_watermark == 0 and one.leader_epoch_start_offset == 1
        ask(two, one)
        assert (one.request is None) == kip_320
        ask(two, one)
        assert one.request is not None and one.request.isr == (0, 1, 2)


def test_producers_are_refused_below_min_isr_before_and_after_the_append() -> None:
    leader, one, _ = led(min_insync_replicas=2)
    offset = produce(leader, "a")
    ask(one, leader)
    leader.become(state(0, 0, (0,), 3, 1), 2 * LAG_MAX)
    leader.maybe_increment_high_watermark(2 * LAG_MAX)
    assert acknowledgement(leader, offset) is Error.NOT_ENOUGH_REPLICAS_AFTER_APPEND
    with pytest.raises(KafkaError) as refusal:
        produce(leader, "b")
    assert refusal.value.error is Error.NOT_ENOUGH_REPLICAS and values(leader) == "a"
    produce(leader, "c", acks=1)
    leader.become(state(1, 1, (1,), 3, 2), 0)
    assert acknowledgement(leader, offset) is Error.NOT_LEADER_OR_FOLLOWER
    with pytest.raises(KafkaError) as refusal:
        produce(leader, "d")
    assert refusal.value.error is Error.NOT_LEADER_OR_FOLLOWER


def test_min_isr_is_at_most_the_number_of_replicas() -> None:
    (leader,) = led(1, min_insync_replicas=2)
    assert acknowledgement(leader, produce(leader, "a")) is Error.NONE


@pytest.mark.parametrize("kip_966", [False, True])
def test_nothing_is_committed_below_min_isr_since_kip_966(kip_966: bool) -> None:
    leader, *_ = replicas(3, kip_966=kip_966, min_insync_replicas=2)
    leader.become(state(0, 0, (0,), 3), 0)
    produce(leader, "a", acks=1)
    assert leader.log.high_watermark == (0 if kip_966 else 1)


def test_leaders_serve_their_own_epoch_and_replicas_only() -> None:
    leader, follower, _ = replicas(3)
    for replica in (leader, follower):
        replica.become(state(0, 3, (0,), 2), 0)
    produce(leader, "a")
    refused(Error.FENCED_LEADER_EPOCH, leader, rpc.FetchRequest(HERE, 0, 2))
    refused(Error.UNKNOWN_LEADER_EPOCH, leader, rpc.FetchRequest(HERE, 0, 4))
    refused(Error.NOT_LEADER_OR_FOLLOWER, follower, rpc.FetchRequest(HERE, 0, 3))
    refused(Error.OFFSET_OUT_OF_RANGE, leader, rpc.FetchRequest(HERE, 2, 3))
    refused(Error.OFFSET_OUT_OF_RANGE, leader, rpc.FetchRequest(HERE, 1, 3, 4))
    assert leader.fetch(rpc.FetchRequest(HERE, 1, 3, 2), 0).diverging_epoch == EpochEndOffset(2, 0)


def test_consumers_read_below_the_high_watermark() -> None:
    leader, *_ = led(min_insync_replicas=1)
    produce(leader, "a")
    assert leader.fetch(rpc.FetchRequest(HERE, 0), 0).batches == []
    read = leader.fetch(rpc.FetchRequest(HERE, 0, replica_id=1), 0)
    assert len(read.batches) == 1 and read.high_watermark == 0


def test_where_the_log_ends_is_not_said_before_it_is_known() -> None:
    """KIP-207."""
    leader, one, _ = led()
    produce(leader, "a")
    ask(one, leader)
    one.become(state(1, 1, (0, 1), 3, 1), 0)
    with pytest.raises(KafkaError) as refusal:
        one.list_offsets(rpc.ListOffsetsRequest(HERE, rpc.LATEST, 1))
    assert refusal.value.error is Error.OFFSET_NOT_AVAILABLE
    assert one.list_offsets(rpc.ListOffsetsRequest(HERE, rpc.EARLIEST, 1)).value == 0
    assert one.list_offsets(rpc.ListOffsetsRequest(HERE, rpc.LATEST, 1, replica_id=2)).value == 1


def test_records_are_deleted_on_every_replica() -> None:
    leader, one, two = led()
    produce(leader, "a")
    for follower in (one, two, one, two):
        ask(follower, leader)
    assert leader.delete_records(-1) == rpc.Response(Error.NONE, 1)
    for follower in (one, two):
        ask(follower, leader)
    assert leader.log.log_start_offset == one.log.log_start_offset == two.log.log_start_offset == 1
    assert leader.delete_records(0) == rpc.Response(Error.NONE, 1)


# Followers


def test_late_answers_change_nothing() -> None:
    leader, one, _ = led()
    ask(one, leader)
    asked = one.request
    assert isinstance(asked, rpc.FetchRequest)
    produce(leader, "a")
    answer = leader.fetch(asked, 0)
    one.become(state(2, 1, (0, 1), 3, 1), 0)
    one.handle_response(asked, answer, 0)
    assert values(one) == ""


def test_what_is_older_is_ignored() -> None:
    leader, *_ = led()
    leader.become(state(0, 1, (0,), 3, 4), 0)
    leader.become(state(1, 0, (1,), 3, 5), 0)
    assert leader.is_leader and leader.isr == (0,) and leader.leader_epoch == 1


def test_a_follower_begins_anew_within_the_leaders_first_batch() -> None:
    leader, one, _ = led()
    leader.produce(Batch(0, 2, -1, tuple(Record(i, None, "abc"[i]) for i in range(3))), 1)
    leader.become(state(0, 1, (0,), 3, 1), 0)
    leader.maybe_increment_high_watermark(2 * LAG_MAX)
    leader.delete_records(1)
    one.become(state(0, 1, (0,), 3, 1), 0)
    for _ in range(5):
        ask(one, leader)
    assert (one.log.log_start_offset, one.log.log_end_offset) == (1, 3) and one.log.batches == leader.log.batches


def test_after_an_unclean_election_a_longer_log_goes_back_to_the_leaders() -> None:
    for config in ({}, {"kip_595": False}, {"kip_101": False}):
        leader, one, _ = led(**config)
        for value in "abc":
            produce(leader, value, acks=1)
        one.become(state(1, 1, (1,), 3, 1), 0)
        leader.log.update_high_watermark(3)
        leader.become(state(1, 1, (1,), 3, 1), 0)
        for _ in range(5):
            ask(leader, one)
        assert values(leader) == values(one) == "" and isinstance(leader.request, rpc.FetchRequest)


def test_who_has_everything_stays_in_the_isr_however_long_ago_it_fetched() -> None:
    leader, *_ = followers = led()
    for follower in followers[1:]:
        ask(follower, leader)
    leader.maybe_shrink_isr(10 * LAG_MAX)
    assert leader.request is None


def test_the_high_watermark_waits_for_who_is_about_to_join_while_another_is_pending() -> None:
    leader, one, two = replicas(3)
    for replica in (leader, one, two):
        replica.become(state(0, 0, (0,), 3), 0)
    ask(one, leader)
    ask(two, leader)
    assert leader.request is not None and leader.request.isr == (0, 1)
    produce(leader, "a", acks=1)
    ask(one, leader)
    ask(one, leader)
    assert leader.log.high_watermark == 0
    ask(two, leader)
    ask(two, leader)
    assert leader.log.high_watermark == 1


def test_what_the_controller_says_again_takes_nothing_back() -> None:
    """The controller may have granted what is pending: another proposal would let the high watermark pass a member."""
    leader, follower, _ = group = replicas(3)
    for replica in group:
        replica.become(state(0, 0, (0,), 3), 0)
    ask(follower, leader)
    pending = leader.request
    assert pending is not None and leader.maximal_isr == (0, 1)
    leader.become(state(0, 0, (0,), 3), 0)
    assert leader.request is pending and leader.maximal_isr == (0, 1)
    leader.become(state(0, 0, (0, 1), 3, partition_epoch=1), 0)
    assert leader.request is None and leader.isr == (0, 1)
