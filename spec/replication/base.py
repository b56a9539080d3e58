"""Kafka's replication of one partition, as it was before leader epochs: followers truncate to their high watermark.

The state, the actions and the promises that all published variants share. A variant changes decision points, the
small functions that actions ask: `is_following`, `is_caught_up`, `has_acknowledged`, `may_fetch`, `may_join_isr`,
`may_leave_isr`, `may_become_follower`, `truncation_offset`. The controller keeps no state of its own: it writes the
quorum state (ZooKeeper's, or the metadata log's) and sends LeaderAndIsr requests, which replicas take late or never.

Not modelled:
1. Crashes. A failed replica is one that takes no steps, so a zombie and a dead broker are the same thing.
2. Lost disks and unflushed data: what a replica appended stays until it truncates.
3. Messages between replicas: a fetch reads the leader's present log, and its response arrives at once.
4. How the leader learns of the quorum state: an ISR change succeeds exactly if the leader is the true one.

Source: Jason Gustafson, kafka-specification (2018), modules KafkaReplication and KafkaTruncateToHighWatermark.
"""

from __future__ import annotations

from typing import Annotated

from hwmark.spec.lang import (
    NONE,
    Array,
    Bound,
    Capacity,
    Domain,
    Optional,
    Range,
    Seq,
    SetOf,
    Struct,
    append,
    contains,
    everything,
    insert,
    is_subset,
    only,
    remove,
    truncate,
)
from hwmark.spec.model import Model

replicas = Bound("replicas", 3, why="replicas of the partition")
log_size = Bound("log_size", 2, why="records that a replica's log can hold")
records = Bound("records", 2, why="records that producers write, each once")
max_epoch = Bound("max_epoch", 1, least=0, why="the last leader epoch; the first is 0")

ReplicaId = Annotated[int, Domain("replica", replicas, symmetric=True)]
Epoch = Annotated[int, Range(0, max_epoch)]
Offset = Annotated[int, Range(0, log_size - 1)]
EndOffset = Annotated[int, Range(0, log_size)]


class Record(Struct):
    """A record: its id tells it from all others, its epoch is that of the leader that appended it."""

    id: Annotated[int, Range(0, records - 1)]
    epoch: Epoch


Log = Annotated[Seq[Record], Capacity(log_size)]


class Replica(Struct):
    """What a replica believes. It is a presumed leader if it believes in itself."""

    high_watermark: EndOffset
    leader_epoch: Optional[Epoch]
    leader: Optional[ReplicaId]
    isr: SetOf[ReplicaId]


class Quorum(Struct):
    """The agreed state of the partition, from which leaders are elected."""

    leader_epoch: Optional[Epoch]
    leader: Optional[ReplicaId]
    isr: SetOf[ReplicaId]


class LeaderAndIsrRequest(Struct):
    """What the controller tells every replica once an epoch begins. Without a leader, nobody acts on it."""

    leader: Optional[ReplicaId]
    isr: SetOf[ReplicaId]


class Partition(Struct):
    """The whole system; `requests` has the request of each epoch, and those not sent yet have no leader."""

    next_leader_epoch: Annotated[int, Range(0, max_epoch + 1)]
    next_record: Annotated[int, Range(0, records)]
    logs: Array[ReplicaId, Log]
    replicas: Array[ReplicaId, Replica]
    quorum: Quorum
    requests: Array[Epoch, LeaderAndIsrRequest]


def init(s: Partition) -> None:
    """Every replica is in the ISR with an empty log, and there is no leader yet."""
    s.quorum.isr = everything(replicas)


# ---------------------------------------------------------------------------------------------- controller


def begin_epoch(s: Partition, leader: Optional[ReplicaId], isr: SetOf[ReplicaId]) -> None:
    """Write the quorum state and send the LeaderAndIsr request of the next epoch."""
    epoch = s.next_leader_epoch
    s.quorum = Quorum(leader_epoch=epoch, leader=leader, isr=isr)
    s.requests[epoch] = LeaderAndIsrRequest(leader=leader, isr=isr)
    s.next_leader_epoch = epoch + 1


def controller_elect_leader(s: Partition, leader: ReplicaId) -> bool:
    """The controller makes another member of the ISR the leader.

    A broker failed, or leadership is balanced: the reason is not modelled, so this may depose a leader that is well.
    Only clean elections: with an empty ISR there is none.
    """
    if s.next_leader_epoch > max_epoch or s.quorum.leader == leader or not contains(s.quorum.isr, leader):
        return False
    begin_epoch(s, leader, s.quorum.isr)
    return True


def controller_shrink_isr(s: Partition, replica: ReplicaId) -> bool:
    """The controller takes a replica for failed, and out of the ISR; a leader loses its leadership too.

    The failure itself is not modelled: the replica may go on as a zombie. A leader that is alone in the ISR stays in
    it, but without a leader the last member of the ISR can be taken out, and then nobody can ever be elected.
    """
    if s.next_leader_epoch > max_epoch:
        return False
    if s.quorum.leader == replica:
        begin_epoch(s, NONE, s.quorum.isr if s.quorum.isr == only(replica) else remove(s.quorum.isr, replica))
        return True
    if not contains(s.quorum.isr, replica):
        return False
    begin_epoch(s, s.quorum.leader, remove(s.quorum.isr, replica))
    return True


# -------------------------------------------------------------------------------------------------- leader


def presumes_leadership(s: Partition, replica: ReplicaId) -> bool:
    """Whether a replica takes itself for the leader; several may at once."""
    return s.replicas[replica].leader == replica


def is_true_leader(s: Partition, leader: ReplicaId) -> bool:
    """Whether the quorum state has this leader in the very epoch that it knows."""
    return (
        s.quorum.leader == leader
        and presumes_leadership(s, leader)
        and s.replicas[leader].leader_epoch == s.quorum.leader_epoch
    )


def take_request(s: Partition, replica: ReplicaId, epoch: Epoch) -> None:
    """Believe the request of an epoch; the high watermark stays."""
    state = s.replicas[replica]
    state.leader_epoch = epoch
    state.leader = s.requests[epoch].leader
    state.isr = s.requests[epoch].isr


def replica_become_leader(s: Partition, replica: ReplicaId, epoch: Epoch) -> bool:
    """A replica takes a request that makes it the leader, of any epoch later than it knows.

    Its high watermark is usually behind that of the leader before it. Requests may be taken late: the epoch can be
    over already, and nothing tells the replica.
    """
    if s.requests[epoch].leader != replica or s.replicas[replica].leader_epoch >= epoch:
        return False
    take_request(s, replica, epoch)
    return True


def leader_write(s: Partition, leader: ReplicaId) -> bool:
    """A presumed leader appends the next record; nobody has to agree yet.

    A producer's request is not modelled, nor its acknowledgement: a record counts as promised once it lies below a
    presumed leader's high watermark.
    """
    if s.next_record >= records or not presumes_leadership(s, leader) or len(s.logs[leader]) >= log_size:
        return False
    append(s.logs[leader], Record(id=s.next_record, epoch=s.replicas[leader].leader_epoch))
    s.next_record += 1
    return True


def set_isr(s: Partition, leader: ReplicaId, isr: SetOf[ReplicaId]) -> None:
    """The true leader changes the ISR, in the quorum state and its own at once; the epoch stays, no request is sent."""
    s.quorum.isr = isr
    s.replicas[leader].isr = isr


def leader_shrink_isr(s: Partition, leader: ReplicaId, follower: ReplicaId) -> bool:
    """The true leader takes a follower that has fallen behind out of the ISR.

    Time is not modelled (replica.lag.time.max.ms): it may do so at once, later or never.
    """
    if not is_true_leader(s, leader) or leader == follower or not contains(s.replicas[leader].isr, follower):
        return False
    if not may_leave_isr(s, leader, follower):
        return False
    set_isr(s, leader, remove(s.replicas[leader].isr, follower))
    return True


def leader_expand_isr(s: Partition, leader: ReplicaId, follower: ReplicaId) -> bool:
    """The true leader lets a follower that has caught up into the ISR.

    How the leader proves to the quorum that it is the true one (the version of the partition's state) is not modelled;
    `async-isr` models that.
    """
    if not is_true_leader(s, leader) or contains(s.replicas[leader].isr, follower):
        return False
    if not may_join_isr(s, leader, follower):
        return False
    set_isr(s, leader, insert(s.replicas[leader].isr, follower))
    return True


def leader_increment_high_watermark(s: Partition, leader: ReplicaId) -> bool:
    """A presumed leader commits its next record once everybody in the ISR that it knows of has replicated it.

    The fetches by which followers acknowledge are not modelled: that they could have sent them is enough.
    """
    state = s.replicas[leader]
    if not presumes_leadership(s, leader) or state.high_watermark >= len(s.logs[leader]):
        return False
    for follower in range(replicas):
        if contains(state.isr, follower) and not has_acknowledged(s, leader, follower, state.high_watermark):
            return False
    state.high_watermark += 1
    return True


# ------------------------------------------------------------------------------------------------ follower


def follower_replicate(s: Partition, follower: ReplicaId, leader: ReplicaId) -> bool:
    """A follower fetches the next record, and the leader's high watermark with it, which may take its own back.

    A fetch brings one record. That the leader and the follower agree on the epoch is not asked: the hole that KIP-320
    closes.
    """
    if s.replicas[follower].leader != leader or not presumes_leadership(s, leader):
        return False
    offset = len(s.logs[follower])
    if offset >= len(s.logs[leader]) or not may_fetch(s, leader, follower):
        return False
    append(s.logs[follower], s.logs[leader][offset])
    s.replicas[follower].high_watermark = min(s.replicas[leader].high_watermark, offset + 1)
    return True


def replica_become_follower(s: Partition, replica: ReplicaId, epoch: Epoch) -> bool:
    """A replica takes a request that makes another one the leader, and truncates its log to what it believes is safe.

    The offset is found from the present log of that leader, whatever the leader believes in. As published, a replica
    whose log ends before the offset found does nothing; in Kafka it would keep its whole log.
    """
    if not is_told_to_follow(s, replica, epoch):
        return False
    leader = s.requests[epoch].leader
    if not may_become_follower(s, leader, epoch):
        return False
    offset = truncation_offset(s, leader, replica)
    if offset > len(s.logs[replica]):
        return False
    truncate_to(s, replica, offset)
    take_request(s, replica, epoch)
    return True


def is_told_to_follow(s: Partition, replica: ReplicaId, epoch: Epoch) -> bool:
    """Whether the request of an epoch later than a replica knows makes another one the leader."""
    leader = s.requests[epoch].leader
    return leader != NONE and leader != replica and s.replicas[replica].leader_epoch < epoch


def truncate_to(s: Partition, replica: ReplicaId, offset: EndOffset) -> None:
    """Drop the log from this offset on; no high watermark lies beyond a log's end."""
    truncate(s.logs[replica], offset)
    s.replicas[replica].high_watermark = min(offset, s.replicas[replica].high_watermark)


# ------------------------------------------------------------------------------------------ decision points


def is_following(s: Partition, leader: ReplicaId, follower: ReplicaId) -> bool:
    """Whether a replica believes in this leader, in whatever epoch."""
    return s.replicas[follower].leader == leader


def is_caught_up(s: Partition, leader: ReplicaId, follower: ReplicaId, end_offset: EndOffset) -> bool:
    """Whether a follower has everything below an offset, judged by the lengths of the logs alone."""
    return (
        is_following(s, leader, follower) and end_offset <= len(s.logs[follower]) and end_offset <= len(s.logs[leader])
    )


def has_acknowledged(s: Partition, leader: ReplicaId, follower: ReplicaId, offset: Offset) -> bool:
    """Whether a member of the ISR counts as having the record at this offset."""
    return is_caught_up(s, leader, follower, offset + 1)


def may_fetch(s: Partition, leader: ReplicaId, follower: ReplicaId) -> bool:
    """Whether a leader answers this follower's fetch."""
    return is_following(s, leader, follower)


def may_join_isr(s: Partition, leader: ReplicaId, follower: ReplicaId) -> bool:
    """Whether a follower has caught up with the leader's high watermark."""
    return is_caught_up(s, leader, follower, s.replicas[leader].high_watermark)


def may_leave_isr(s: Partition, leader: ReplicaId, follower: ReplicaId) -> bool:
    """Whether a member of the ISR lacks something of the leader's log."""
    return not is_caught_up(s, leader, follower, len(s.logs[leader]))


def may_become_follower(s: Partition, leader: ReplicaId, epoch: Epoch) -> bool:
    """Whether a replica may begin to follow: at once, even before the leader knows of its own epoch."""
    return True


def truncation_offset(s: Partition, leader: ReplicaId, follower: ReplicaId) -> int:
    """Where a new follower's log may differ from the leader's: from its high watermark on, which lags."""
    return s.replicas[follower].high_watermark


# ----------------------------------------------------------------------------------------------- properties


def have_same_record(s: Partition, one: ReplicaId, other: ReplicaId, offset: Offset) -> bool:
    """Whether both logs hold the same record at this offset."""
    return offset < len(s.logs[one]) and offset < len(s.logs[other]) and s.logs[one][offset] == s.logs[other][offset]


def weak_isr(s: Partition, leader: ReplicaId, follower: ReplicaId, offset: Offset) -> bool:
    """WeakIsr: what a presumed leader committed is with everybody in the ISR that it knows of."""
    return (
        offset >= s.replicas[leader].high_watermark
        or not presumes_leadership(s, leader)
        or not contains(s.replicas[leader].isr, follower)
        or have_same_record(s, leader, follower, offset)
    )


def strong_isr(s: Partition, leader: ReplicaId, follower: ReplicaId, offset: Offset) -> bool:
    """StrongIsr: what a presumed leader committed is with everybody in the true ISR: no clean election loses it."""
    return (
        offset >= s.replicas[leader].high_watermark
        or not presumes_leadership(s, leader)
        or not contains(s.quorum.isr, follower)
        or have_same_record(s, leader, follower, offset)
    )


def prefix(s: Partition, leader: ReplicaId, follower: ReplicaId, offset: Offset) -> bool:
    """Prefix: a follower in the leader's own epoch agrees with it at every offset that both have.

    Not promised by protocols that truncate only when they fetch (`kip-320-first-try`, Kafka since 2.7).
    """
    return (
        offset >= len(s.logs[follower])
        or offset >= len(s.logs[leader])
        or not presumes_leadership(s, leader)
        or s.replicas[follower].leader != leader
        or s.replicas[follower].leader_epoch != s.replicas[leader].leader_epoch
        or have_same_record(s, leader, follower, offset)
    )


def hw_match(s: Partition, one: ReplicaId, other: ReplicaId, offset: Offset) -> bool:
    """HWMatch: any two replicas agree below the lesser of their high watermarks."""
    return (
        offset >= s.replicas[one].high_watermark
        or offset >= s.replicas[other].high_watermark
        or have_same_record(s, one, other, offset)
    )


def a_record_is_committed(s: Partition, leader: ReplicaId) -> bool:
    """A presumed leader's high watermark moves at all."""
    return presumes_leadership(s, leader) and s.replicas[leader].high_watermark > 0


def a_follower_learns_of_a_commit(s: Partition, follower: ReplicaId) -> bool:
    """A replica that presumes no leadership has a high watermark, too."""
    return not presumes_leadership(s, follower) and s.replicas[follower].high_watermark > 0


def a_record_is_dropped(s: Partition) -> bool:
    """A record that was written is in no log any more: the last copy fell to a truncation."""
    held = 0
    for replica in range(replicas):
        for offset in range(len(s.logs[replica])):
            held = insert(held, s.logs[replica][offset].id)
    return held != everything(records) and s.next_record == records


def a_replica_rejoins_the_isr(s: Partition) -> bool:
    """The ISR has a member that it had not when the epoch began."""
    return s.quorum.leader_epoch != NONE and not is_subset(s.quorum.isr, s.requests[s.quorum.leader_epoch].isr)


def two_replicas_presume_leadership(s: Partition, one: ReplicaId, other: ReplicaId) -> bool:
    """A deposed leader goes on for a while."""
    return one != other and presumes_leadership(s, one) and presumes_leadership(s, other)


truncate_to_hw = Model.of(
    "replication",
    "truncate-to-hw",
    why="before KIP-101 a new follower truncated to its own high watermark, which lags: it may drop what was committed",
    state=Partition,
    bounds=(replicas, log_size, records, max_epoch),
    init=init,
    actions=(
        controller_elect_leader,
        controller_shrink_isr,
        replica_become_leader,
        leader_expand_isr,
        leader_shrink_isr,
        leader_write,
        leader_increment_high_watermark,
        replica_become_follower,
        follower_replicate,
    ),
    invariants=(weak_isr, strong_isr),
    also=(prefix, hw_match),
    sometimes=(
        a_record_is_committed,
        a_follower_learns_of_a_commit,
        a_record_is_dropped,
        a_replica_rejoins_the_isr,
        two_replicas_presume_leadership,
    ),
    lanes="replica",
)
