"""The published repairs of replication, each as what it changed in the one before.

`kip-101` and `kip-279` look for a better offset to truncate to, `kip-320` asks for the current leader epoch wherever a
leader and a follower meet. `kip-320-first-try` is an idea that its authors gave up, kept with the promise it breaks.

Source: Jason Gustafson, kafka-specification (2018), modules Kip101, Kip279, Kip320FirstTry and Kip320.
"""

from __future__ import annotations

from hwmark.spec.lang import contains, remove
from hwmark.spec.replication.base import (
    EndOffset,
    Epoch,
    Partition,
    ReplicaId,
    have_same_record,
    is_caught_up,
    is_following,
    is_told_to_follow,
    is_true_leader,
    presumes_leadership,
    set_isr,
    take_request,
    truncate_to,
    truncate_to_hw,
)

# ------------------------------------------------------------------------------------------------- KIP-101


def end_offset_for_leader_epoch(s: Partition, leader: ReplicaId, follower: ReplicaId) -> int:
    """OffsetForLeaderEpoch: where the leader's log leaves the epoch of the follower's last record.

    A leader that knows nothing of the epoch, or of later ones, cannot say, and the follower falls back to its high
    watermark: the hole that KIP-279 closes.
    """
    length = len(s.logs[leader])
    if len(s.logs[follower]) == 0:
        return 0
    if length == 0:
        return s.replicas[follower].high_watermark
    epoch = s.logs[follower][len(s.logs[follower]) - 1].epoch
    if s.logs[leader][length - 1].epoch == epoch:
        return length
    for offset in range(length):
        if s.logs[leader][offset].epoch > epoch:
            return offset
    return s.replicas[follower].high_watermark


kip_101 = truncate_to_hw.derive(
    "kip-101",
    why="records carry the leader's epoch, and a new follower asks the leader where the epoch of its last record ended",
    truncation_offset=end_offset_for_leader_epoch,
)

# ------------------------------------------------------------------------------------------------- KIP-279


def end_of_last_match(s: Partition, leader: ReplicaId, follower: ReplicaId) -> int:
    """One more than the last offset at which both logs hold the same record, or 0."""
    for offset in range(min(len(s.logs[leader]), len(s.logs[follower])) - 1, -1, -1):
        if have_same_record(s, leader, follower, offset):
            return offset + 1
    return 0


def replica_become_follower_with_empty_log(s: Partition, replica: ReplicaId, epoch: Epoch) -> bool:
    """A replica with nothing to truncate takes a request that makes another one the leader.

    The published model has this as a case of its own beside the general one, which makes the very same step.
    """
    if not is_told_to_follow(s, replica, epoch) or len(s.logs[replica]) > 0:
        return False
    take_request(s, replica, epoch)
    return True


kip_279 = kip_101.derive(
    "kip-279",
    why="a new follower goes back through the epochs until both logs agree, instead of giving up after the first",
    truncation_offset=end_of_last_match,
    adds=(replica_become_follower_with_empty_log,),
)

# ----------------------------------------------------------------------------------------- KIP-320, first try


def log_end_offset(s: Partition, leader: ReplicaId, follower: ReplicaId) -> int:
    """The end of the follower's own log: nothing is truncated."""
    return len(s.logs[follower])


def agrees_up_to(s: Partition, leader: ReplicaId, follower: ReplicaId, end_offset: EndOffset) -> bool:
    """Whether a follower's record just below an offset has the epoch of the leader's there.

    Which leader epoch each of them is in nobody asks.
    """
    if not presumes_leadership(s, leader) or not is_following(s, leader, follower):
        return False
    if end_offset > len(s.logs[leader]) or end_offset > len(s.logs[follower]):
        return False
    return end_offset == 0 or s.logs[leader][end_offset - 1].epoch == s.logs[follower][end_offset - 1].epoch


def agrees_with_leader(s: Partition, leader: ReplicaId, follower: ReplicaId) -> bool:
    """Whether the epoch that a follower expects, that of its last record, is the one that the leader has there."""
    return is_caught_up(s, leader, follower, len(s.logs[follower]))


def has_reached_leader_epoch(s: Partition, leader: ReplicaId) -> bool:
    """Whether the leader's high watermark has reached the first record of its own epoch, or the end of its log.

    Below, it does not know how much the leader before it had committed (KAFKA-7128).
    """
    offset = s.replicas[leader].high_watermark
    return offset == len(s.logs[leader]) or s.logs[leader][offset].epoch == s.replicas[leader].leader_epoch


def is_caught_up_with_leader_epoch(s: Partition, leader: ReplicaId, follower: ReplicaId) -> bool:
    """Whether a follower has caught up with a high watermark that covers what earlier leaders may have committed."""
    return is_caught_up(s, leader, follower, s.replicas[leader].high_watermark) and has_reached_leader_epoch(s, leader)


def follower_truncate(s: Partition, follower: ReplicaId, leader: ReplicaId) -> bool:
    """A follower whose log went another way than the leader's truncates to where they agree, whatever the epochs.

    The fetch that finds it out and the leader's answer are not modelled.
    """
    if s.replicas[follower].leader != leader or not presumes_leadership(s, leader):
        return False
    if not has_diverged(s, leader, follower):
        return False
    truncate_to(s, follower, end_of_last_match(s, leader, follower))
    return True


def has_diverged(s: Partition, leader: ReplicaId, follower: ReplicaId) -> bool:
    """Whether a follower's log is longer than the leader's, or the leader has another epoch where it ends."""
    end = len(s.logs[follower])
    if end > len(s.logs[leader]):
        return True
    return end > 0 and s.logs[leader][end - 1].epoch != s.logs[follower][end - 1].epoch


kip_320_first_try = kip_279.derive(
    "kip-320-first-try",
    why="a fetch carries the epoch of the follower's last record, and it truncates when told; it breaks StrongIsr, "
    "for nobody asks whether both are in the same leader epoch",
    drops=("replica_become_follower_with_empty_log",),
    adds=(follower_truncate,),
    truncation_offset=log_end_offset,
    is_caught_up=agrees_up_to,
    may_fetch=agrees_with_leader,
    may_join_isr=is_caught_up_with_leader_epoch,
)

# ------------------------------------------------------------------------------------------------- KIP-320


def is_following_in_epoch(s: Partition, leader: ReplicaId, follower: ReplicaId) -> bool:
    """Whether a replica believes in this presumed leader in the leader's own epoch."""
    return (
        s.replicas[follower].leader == leader
        and presumes_leadership(s, leader)
        and s.replicas[follower].leader_epoch == s.replicas[leader].leader_epoch
    )


def leads_in_epoch(s: Partition, leader: ReplicaId, epoch: Epoch) -> bool:
    """Whether the leader itself has taken the request of this epoch: only then its log no longer changes under it."""
    return presumes_leadership(s, leader) and s.replicas[leader].leader_epoch == epoch


def is_not_following(s: Partition, leader: ReplicaId, follower: ReplicaId) -> bool:
    """Whether a member of the ISR is not, or not yet, in the leader's epoch."""
    return not is_following(s, leader, follower)


def leader_shrink_isr_of_shorter_log(s: Partition, leader: ReplicaId, follower: ReplicaId) -> bool:
    """The true leader takes a follower whose log is shorter than its own out of the ISR.

    The published model gives this reason beside that of `leader_shrink_isr`; where both apply, the step is the same.
    """
    if not is_true_leader(s, leader) or len(s.logs[follower]) >= len(s.logs[leader]):
        return False
    if not contains(s.replicas[leader].isr, follower):
        return False
    set_isr(s, leader, remove(s.replicas[leader].isr, follower))
    return True


kip_320 = kip_279.derive(
    "kip-320",
    why="followers fetch, count and join the ISR only in the leader's own epoch, and only in it ask where to truncate",
    drops=("replica_become_follower_with_empty_log",),
    adds=(leader_shrink_isr_of_shorter_log,),
    is_following=is_following_in_epoch,
    may_become_follower=leads_in_epoch,
    may_join_isr=is_caught_up_with_leader_epoch,
    may_leave_isr=is_not_following,
)
