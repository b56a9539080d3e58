"""What the group coordinator does: heartbeats of every kind, the target assignment, and expiring members.

A heartbeat is handled in one step: the group epoch, the target assignment and the member's current assignment are all
up to date with the response. Not modelled: the assignor running on its own, the coordinator's log and its failover,
changes of topic metadata, and rebalance time-outs other than by expiring a member.

Source: KIP-848, and in Kafka's group coordinator `GroupMetadataManager.consumerGroupHeartbeat` and
`CurrentAssignmentBuilder`.
"""

from __future__ import annotations

from hwmark.spec.consumer_group.network import answer
from hwmark.spec.consumer_group.state import (
    LEAVE_GROUP_MEMBER_EPOCH,
    NOT_OWNED,
    AssignmentChoice,
    ClientStatus,
    Error,
    Group,
    GroupStatus,
    HeartbeatRequest,
    HeartbeatResponse,
    Member,
    MemberId,
    MemberStatus,
    MessageIndex,
    Partitions,
    member_count,
    partition_count,
    partitions,
    perturbations,
)
from hwmark.spec.lang import EMPTY, NONE, contains, copy, difference, insert, intersection, remove, union

# ------------------------------------------------------------------------------------------ which heartbeat it is


def is_unknown(s: Group, request: HeartbeatRequest) -> bool:
    """Whether the heartbeat names a member that the group does not have."""
    return request.member_id != NONE and not contains(s.member_ids, request.member_id)


def is_leaving(s: Group, request: HeartbeatRequest) -> bool:
    """Whether a member says that it leaves."""
    return contains(s.member_ids, request.member_id) and request.member_epoch == LEAVE_GROUP_MEMBER_EPOCH


def should_fence(s: Group, request: HeartbeatRequest) -> bool:
    """Whether a member heartbeats with another epoch than the coordinator gave it."""
    return (
        contains(s.member_ids, request.member_id)
        and request.member_epoch != LEAVE_GROUP_MEMBER_EPOCH
        and request.member_epoch != s.members[request.member_id].member_epoch
    )


# -------------------------------------------------------------------------------------------- members that go


def coordinator_reject_heartbeat(s: Group, index: MessageIndex) -> bool:
    """A heartbeat from a stranger is refused, and one with a wrong member epoch costs its sender the membership.

    Not modelled: the member epoch before the last, which Kafka also accepts of a member that owns no more than it was
    given, since its response may have been lost; no response is lost here.
    """
    if index >= len(s.requests):
        return False
    request = s.requests[index]
    if is_unknown(s, request):
        answer_error(s, index, Error.UNKNOWN_MEMBER_ID)
        return True
    if should_fence(s, request):
        fence_member(s, request.member_id)
        answer_error(s, index, Error.FENCED_MEMBER_EPOCH)
        return True
    return False


def answer_error(s: Group, index: MessageIndex, error: Error) -> None:
    """Refuse a heartbeat."""
    answer(
        s,
        index,
        HeartbeatResponse(
            client=s.requests[index].client,
            connection_id=s.requests[index].connection_id,
            error=error,
            member_id=NONE,
            member_epoch=0,
            assignment=NONE,
        ),
    )


def coordinator_receive_leave(s: Group, index: MessageIndex) -> bool:
    """A member says that it leaves, and is taken out of the group."""
    if index >= len(s.requests) or not is_leaving(s, s.requests[index]):
        return False
    request = s.requests[index]
    fence_member(s, request.member_id)
    answer(
        s,
        index,
        HeartbeatResponse(
            client=request.client,
            connection_id=request.connection_id,
            error=Error.NONE,
            member_id=request.member_id,
            member_epoch=LEAVE_GROUP_MEMBER_EPOCH,
            assignment=NONE,
        ),
    )
    return True


def coordinator_expire_dead_member(s: Group, member_id: MemberId) -> bool:
    """The session of a member expires whose client has a new membership by now.

    Not modelled: its expiry before that, other than as `coordinator_expire_live_member`.
    """
    if not contains(s.member_ids, member_id):
        return False
    client = s.clients[s.members[member_id].client]
    if client.member_id == member_id or client.member_id == NONE or client.status == ClientStatus.JOINING:
        return False
    fence_member(s, member_id)
    return True


def coordinator_expire_live_member(s: Group, member_id: MemberId) -> bool:
    """The session of any member expires; that is a perturbation."""
    if s.perturbed == perturbations or not contains(s.member_ids, member_id):
        return False
    fence_member(s, member_id)
    s.perturbed += 1
    return True


def fence_member(s: Group, member_id: MemberId) -> None:
    """A member is taken out; its partitions have no owner, and the next heartbeat brings a new assignment."""
    member = s.members[member_id]
    set_partition_epochs(s, union(member.assigned, member.pending_revocation), EMPTY, NOT_OWNED)
    s.member_ids = remove(s.member_ids, member_id)
    s.members[member_id] = Member(
        client=NONE,
        status=MemberStatus.STABLE,
        member_epoch=0,
        target_epoch=0,
        subscribed=EMPTY,
        assigned=EMPTY,
        pending_revocation=EMPTY,
        pending_assignment=EMPTY,
        topic_partitions=NONE,
    )
    s.group_epoch += 1
    s.group_status = GroupStatus.EMPTY if s.member_ids == EMPTY else GroupStatus.ASSIGNING


def set_partition_epochs(s: Group, before: Partitions, after: Partitions, member_epoch: int) -> None:
    """Partitions that a member owns or has yet to revoke bear its epoch, those that it has released bear none."""
    for partition in range(partition_count):
        if contains(after, partition):
            s.partition_epochs[partition] = member_epoch
        elif contains(before, partition):
            s.partition_epochs[partition] = NOT_OWNED


# --------------------------------------------------------------------------------------- members that come and stay


def coordinator_receive_heartbeat(s: Group, index: MessageIndex, choice: AssignmentChoice) -> bool:
    """A member joins or heartbeats, and is told its epoch and, if there is news, its assignment.

    A new member or subscription bumps the group epoch, and a target assignment older than the group epoch is replaced:
    `choice` says by which. It is 0 where none is due.
    """
    if index >= len(s.requests):
        return False
    request = s.requests[index]
    if is_unknown(s, request) or should_fence(s, request) or is_leaving(s, request):
        return False
    member_id = admit_member(s, request)
    if not is_legal_choice(s, choice):
        return False
    if s.group_epoch > s.target.epoch:
        assign(s, choice)
    member = s.members[member_id]
    before = copy(member)
    update_current_assignment(s, member_id)
    is_news = request.topic_partitions != NONE or request.member_epoch == 0 or member != before
    answer(
        s,
        index,
        HeartbeatResponse(
            client=request.client,
            connection_id=request.connection_id,
            error=Error.NONE,
            member_id=member_id,
            member_epoch=member.member_epoch,
            assignment=member.assigned if is_news else NONE,
        ),
    )
    return True


def admit_member(s: Group, request: HeartbeatRequest) -> int:
    """The id of the member that heartbeats, with what it says about itself written down; a new one gets an id."""
    if request.member_id == NONE:
        member_id = s.next_member_id
        s.next_member_id += 1
        s.member_ids = insert(s.member_ids, member_id)
        s.members[member_id].client = request.client
        s.group_epoch += 1
    else:
        member_id = request.member_id
        if request.topic_partitions != NONE:
            s.members[member_id].topic_partitions = request.topic_partitions
        if s.members[member_id].subscribed != request.subscribed:
            s.group_epoch += 1
    s.members[member_id].subscribed = request.subscribed
    return member_id


# --------------------------------------------------------------------------------------------- target assignment


def is_legal_choice(s: Group, choice: AssignmentChoice) -> bool:
    """Whether the assignor may choose so: every partition goes to a member that subscribes to its topic.

    Where a topic has no subscriber there is no such choice, and the group waits for one.
    """
    if s.group_epoch == s.target.epoch:
        return choice == 0
    rest = choice
    for partition in range(partition_count):
        member_id = rest % member_count
        rest = rest // member_count
        if not contains(s.member_ids, member_id):
            return False
        if not contains(s.members[member_id].subscribed, partition // partitions):
            return False
    return True


def assign(s: Group, choice: AssignmentChoice) -> None:
    """The target assignment of the group epoch is made of the assignor's choice, which can be any legal one."""
    s.target.epoch = s.group_epoch
    s.target.members = s.member_ids
    for member_id in range(member_count):
        s.target.partitions[member_id] = EMPTY
    rest = choice
    for partition in range(partition_count):
        chosen = rest % member_count
        rest = rest // member_count
        s.target.partitions[chosen] = insert(s.target.partitions[chosen], partition)


# -------------------------------------------------------------------------------------------- current assignment


def update_current_assignment(s: Group, member_id: MemberId) -> None:
    """Move a member towards its target as far as it goes now; partition epochs and the group's status follow."""
    member = s.members[member_id]
    before = union(member.assigned, member.pending_revocation)
    if member.target_epoch != s.group_epoch:
        take_new_target(s, member, s.target.partitions[member_id])
    elif member.status == MemberStatus.UNREVOKED_PARTITIONS:
        if has_revoked(member):
            advance_member(s, member)
    elif free_partitions(s, member.pending_assignment) != EMPTY:
        advance_member(s, member)
    set_partition_epochs(s, before, union(member.assigned, member.pending_revocation), member.member_epoch)
    update_group_status(s)


def take_new_target(s: Group, member: Member, target: Partitions) -> None:
    """A member with partitions to revoke keeps its epoch until it has; any other gets the new epoch at once."""
    owned = union(member.assigned, member.pending_revocation)
    member.target_epoch = s.group_epoch
    member.assigned = intersection(owned, target)
    member.pending_revocation = difference(owned, target)
    member.pending_assignment = difference(target, owned)
    if member.pending_revocation == EMPTY:
        advance_member(s, member)
    else:
        member.status = MemberStatus.UNREVOKED_PARTITIONS


def has_revoked(member: Member) -> bool:
    """Whether the member has said that it has the partitions which it keeps, and no more."""
    return member.topic_partitions == member.assigned


def advance_member(s: Group, member: Member) -> None:
    """A member that has nothing to revoke gets the target epoch, and of its pending partitions those that are free."""
    free = free_partitions(s, member.pending_assignment)
    member.member_epoch = s.group_epoch
    member.assigned = union(member.assigned, free)
    member.pending_revocation = EMPTY
    member.pending_assignment = difference(member.pending_assignment, free)
    if member.pending_assignment == EMPTY:
        member.status = MemberStatus.STABLE
    else:
        member.status = MemberStatus.UNRELEASED_PARTITIONS


def free_partitions(s: Group, wanted: Partitions) -> Partitions:
    """Those of the partitions that no member owns or has yet to revoke."""
    free = EMPTY
    for partition in range(partition_count):
        if contains(wanted, partition) and s.partition_epochs[partition] == NOT_OWNED:
            free = insert(free, partition)
    return free


def update_group_status(s: Group) -> None:
    """The group is stable once every member is, in the group's epoch."""
    is_reconciled = all(
        not contains(s.member_ids, member_id) or is_reconciled_member(s, s.members[member_id])
        for member_id in range(member_count)
    )
    s.group_status = GroupStatus.STABLE if is_reconciled else GroupStatus.RECONCILING


def is_reconciled_member(s: Group, member: Member) -> bool:
    """Whether a member has all of the newest target assignment and nothing else."""
    return member.status == MemberStatus.STABLE and member.target_epoch == s.group_epoch
