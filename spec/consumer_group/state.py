"""What the clients and the group coordinator of the KIP-848 protocol know, and the heartbeats between them.

Numbers that the protocol lets grow are bounded by what the bounds allow: a client joins once, and again after each
perturbation, and so makes a connection and gets a member id; a perturbation bumps the group epoch at most twice, by
the member that it costs and by the one that joins instead.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Final

from hwmark.spec.lang import (
    Array,
    Bound,
    Capacity,
    Domain,
    Messages,
    Optional,
    Range,
    SetOf,
    Size,
    Struct,
)

clients = Bound("clients", 2, why="consumers that join the group")
topics = Bound("topics", 1, why="topics that a client may subscribe to")
partitions = Bound("partitions", 1, why="partitions of each topic")
perturbations = Bound("perturbations", 1, least=0, why="crashes, departures, expiries and changes of subscription")

partition_count: Final = topics * partitions
member_count: Final = clients + perturbations
connection_count: Final = clients + perturbations
message_count: Final = clients + perturbations
group_epoch_max: Final = clients + 2 * perturbations
assignment_count: Final = Size(lambda bounds: member_count.at(bounds) ** partition_count.at(bounds))

ClientId = Annotated[int, Domain("client", clients, symmetric=True)]
MemberId = Annotated[int, Domain("member", member_count)]
ConnectionId = Annotated[int, Domain("connection", connection_count)]
TopicId = Annotated[int, Domain("topic", topics)]
PartitionId = Annotated[int, Domain("partition", partition_count)]
MessageIndex = Annotated[int, Range(0, message_count - 1)]

Topics = SetOf[TopicId]
Partitions = SetOf[PartitionId]
AssignmentChoice = Annotated[int, Range(0, assignment_count - 1)]
"""One of the assignor's choices: the digit of each partition, in base `member_count`, is the member that gets it."""

JOIN_GROUP_MEMBER_EPOCH: Final = 0
LEAVE_GROUP_MEMBER_EPOCH: Final = -1
NOT_OWNED: Final = 0
"""The epoch of a partition that no member owns or has yet to revoke."""

Epoch = Annotated[int, Range(0, group_epoch_max)]
MemberEpoch = Annotated[int, Range(LEAVE_GROUP_MEMBER_EPOCH, group_epoch_max)]


class ClientStatus(IntEnum):
    """The member's state as the client sees it. A fenced client joins again in the same step, and nothing is fatal."""

    JOINING = 0
    RECONCILING = 1
    ACKNOWLEDGING = 2
    STABLE = 3
    PREPARE_LEAVING = 4
    LEAVING = 5
    UNSUBSCRIBED = 6


class MemberStatus(IntEnum):
    """The member's state as the coordinator sees it."""

    STABLE = 0
    UNREVOKED_PARTITIONS = 1
    UNRELEASED_PARTITIONS = 2


class GroupStatus(IntEnum):
    """The state of the group."""

    EMPTY = 0
    ASSIGNING = 1
    RECONCILING = 2
    STABLE = 3


class Error(IntEnum):
    """The error of a heartbeat response."""

    NONE = 0
    FENCED_MEMBER_EPOCH = 1
    UNKNOWN_MEMBER_ID = 2


class Client(Struct):
    """A consumer.

    `assignment` is what it has; `topic_partitions_sent` is the last assignment that it told the coordinator. A
    reconciliation brings it to the assignment `reconciling_to`, unless its member epoch has moved on from
    `reconciling_epoch`. `leaving_with` is what it had when it began to leave.
    """

    status: ClientStatus
    connection_id: Optional[ConnectionId]
    heartbeat_in_flight: bool
    member_id: Optional[MemberId]
    member_epoch: MemberEpoch
    subscribed: Topics
    assignment: Partitions
    target_assignment: Partitions
    topic_partitions_sent: Optional[Partitions]
    reconciling_to: Optional[Partitions]
    reconciling_epoch: Epoch
    leaving_with: Optional[Partitions]


class Member(Struct):
    """The coordinator's record of a member; that of an id which is not in the group is blank.

    `topic_partitions` is what the member said last that it has.
    """

    client: Optional[ClientId]
    status: MemberStatus
    member_epoch: Epoch
    target_epoch: Epoch
    subscribed: Topics
    assigned: Partitions
    pending_revocation: Partitions
    pending_assignment: Partitions
    topic_partitions: Optional[Partitions]


class TargetAssignment(Struct):
    """What the assignor made of the members of an epoch; somebody who left since keeps a place in it."""

    epoch: Epoch
    members: SetOf[MemberId]
    partitions: Array[MemberId, Partitions]


class HeartbeatRequest(Struct):
    """ConsumerGroupHeartbeatRequest; topic partitions are left out where they are as last sent."""

    client: ClientId
    connection_id: ConnectionId
    member_id: Optional[MemberId]
    member_epoch: MemberEpoch
    subscribed: Topics
    topic_partitions: Optional[Partitions]


class HeartbeatResponse(Struct):
    """ConsumerGroupHeartbeatResponse; the assignment is left out where it is as last sent."""

    client: ClientId
    connection_id: ConnectionId
    error: Error
    member_id: Optional[MemberId]
    member_epoch: MemberEpoch
    assignment: Optional[Partitions]


class Group(Struct):
    """Everybody's state and the messages in flight.

    Messages are neither lost nor duplicated, but overtake each other. `request_discarded` and `response_discarded`
    hold the message that the last step with messages took out, if it did: nothing reads them, yet the published
    specification has them and its counts depend on them. `next_member_id` and `next_connection_id` are the least
    unused ones, `perturbed` counts perturbations.
    """

    clients: Array[ClientId, Client]
    group_epoch: Epoch
    group_status: GroupStatus
    member_ids: SetOf[MemberId]
    members: Array[MemberId, Member]
    target: TargetAssignment
    partition_epochs: Array[PartitionId, Epoch]
    requests: Annotated[Messages[HeartbeatRequest], Capacity(message_count)]
    responses: Annotated[Messages[HeartbeatResponse], Capacity(message_count)]
    request_discarded: Annotated[Messages[HeartbeatRequest], Capacity(1)]
    response_discarded: Annotated[Messages[HeartbeatResponse], Capacity(1)]
    next_member_id: Annotated[int, Range(0, member_count)]
    next_connection_id: Annotated[int, Range(0, connection_count)]
    perturbed: Annotated[int, Range(0, perturbations)]
