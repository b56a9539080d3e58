"""What the KIP-848 protocol promises of every state, and what has to be possible.

Not modelled: the published specification's properties of steps (member epochs only grow) and of whole runs (the group
converges in the end).
"""

from __future__ import annotations

from hwmark.spec.consumer_group.client import has_converged
from hwmark.spec.consumer_group.state import (
    NOT_OWNED,
    ClientId,
    Error,
    Group,
    GroupStatus,
    MemberId,
    MemberStatus,
    MessageIndex,
    PartitionId,
    clients,
    member_count,
)
from hwmark.spec.lang import EMPTY, contains

# -------------------------------------------------------------------------------------------------- invariants


def legal_target_assignment(s: Group, partition: PartitionId) -> bool:
    """LegalTargetAssignment: a target assignment, once there is one, gives every partition to one member."""
    owners = sum(1 for member_id in range(member_count) if contains(s.target.partitions[member_id], partition))
    return s.target.members == EMPTY or owners == 1


def no_double_assignment(s: Group, one: ClientId, other: ClientId, partition: PartitionId) -> bool:
    """NoDoubleClientAssignment: no two clients that are members both take a partition for theirs."""
    return (
        one == other
        or not contains(s.member_ids, s.clients[one].member_id)
        or not contains(s.member_ids, s.clients[other].member_id)
        or not contains(s.clients[one].assignment, partition)
        or not contains(s.clients[other].assignment, partition)
    )


def valid_partition_epoch(s: Group, member: MemberId, partition: PartitionId) -> bool:
    """ValidPartitionEpoch: a partition that a member owns or has yet to revoke bears an epoch."""
    return s.partition_epochs[partition] != NOT_OWNED or not (
        contains(s.member_ids, member)
        and (
            contains(s.members[member].assigned, partition) or contains(s.members[member].pending_revocation, partition)
        )
    )


def valid_member_epoch(s: Group, client: ClientId, partition: PartitionId) -> bool:
    """ValidMemberEpoch: a client that has reached the target epoch has nothing that is another member's in it.

    So it has committed the offsets of all that it had to give up.
    """
    return (
        s.clients[client].member_epoch != s.target.epoch
        or not contains(s.clients[client].assignment, partition)
        or not any(
            member_id != s.clients[client].member_id and contains(s.target.partitions[member_id], partition)
            for member_id in range(member_count)
        )
    )


def valid_stable_group_state(s: Group, member: MemberId) -> bool:
    """ValidStableGroupState: all members of a stable group are stable, in its epoch, with all that is theirs."""
    return (
        s.group_status != GroupStatus.STABLE
        or not contains(s.member_ids, member)
        or (
            s.members[member].status == MemberStatus.STABLE
            and s.members[member].member_epoch == s.group_epoch
            and s.members[member].pending_revocation == EMPTY
            and s.members[member].assigned == s.target.partitions[member]
        )
    )


# --------------------------------------------------------------------------------------------------- sometimes


def group_converges(s: Group) -> bool:
    """Every client is a member in the group's epoch, with all that it is assigned."""
    return has_converged(s)


def every_partition_is_consumed(s: Group) -> bool:
    """A group that has converged leaves nobody's target out: all of it is some client's."""
    return has_converged(s) and all(
        s.clients[client].assignment == s.target.partitions[s.clients[client].member_id] for client in range(clients)
    )


def a_partition_moves_between_members(s: Group, one: MemberId, other: MemberId, partition: PartitionId) -> bool:
    """A member has yet to revoke a partition that another waits for."""
    return contains(s.members[one].pending_revocation, partition) and contains(
        s.members[other].pending_assignment, partition
    )


def a_member_is_fenced(s: Group, index: MessageIndex) -> bool:
    """A member with a wrong epoch is told so."""
    return index < len(s.responses) and s.responses[index].error == Error.FENCED_MEMBER_EPOCH


def a_member_is_unknown(s: Group, index: MessageIndex) -> bool:
    """A member that was taken out of the group is told so."""
    return index < len(s.responses) and s.responses[index].error == Error.UNKNOWN_MEMBER_ID


def a_member_leaves(s: Group, index: MessageIndex) -> bool:
    """A member's departure is confirmed."""
    return index < len(s.responses) and s.responses[index].member_epoch < 0
