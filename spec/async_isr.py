"""KIP-497 (AlterPartition, once AlterIsr): the leader asks the controller to change the ISR, and does not wait.

Until it hears, the leader does not know which ISR elections are made from: the one it has, or one that it asked for. So
a record counts as committed only once everybody in either has it. There is one leader throughout, replica 0.

Not modelled:
1. Elections: the promise is that whoever could be elected has all that the leader takes for committed.
2. What is in the logs: an end offset says how far a replica has replicated.
3. That messages arrive at all, and in order: the controller and the leader take any message ever sent, or none.
4. That a leader waits for the answer to one request before it sends the next.

Source: Jason Gustafson, kafka-specification (2019), module AsyncIsr, which has no bounds: `max_version` and
`max_offset` end the exploration.
"""

from __future__ import annotations

from typing import Annotated

from hwmark.spec.lang import (
    EMPTY,
    NONE,
    Array,
    Bound,
    Capacity,
    Domain,
    Messages,
    Optional,
    Range,
    SetOf,
    Struct,
    contains,
    difference,
    everything,
    insert,
    remove,
    send,
    union,
)
from hwmark.spec.model import Model

replicas = Bound("replicas", 3, why="replicas of the partition; replica 0 leads")
max_version = Bound("max_version", 2, why="versions of the ISR that are explored; the first is 0")
max_offset = Bound("max_offset", 2, why="records that are explored")

LEADER = 0

requests_max = (replicas - 1) * (max_version + 1)
"""At each version the leader knows one ISR, and can ask to add or to remove each of the others."""

ReplicaId = Annotated[int, Domain("replica", replicas)]
Version = Annotated[int, Range(0, max_version + 1)]
EndOffset = Annotated[int, Range(0, max_offset + 1)]


class Change(Struct):
    """A message: of the leader, an ISR wanted and the version it knows; of the controller, the ISR of a new version."""

    version: Version
    isr: SetOf[ReplicaId]


class Controller(Struct):
    """The true ISR, from which leaders are elected, and its version."""

    isr: SetOf[ReplicaId]
    version: Version


class Leader(Struct):
    """What the leader knows: its ISR, members of those it asked for since, and how far each replica has replicated."""

    isr: SetOf[ReplicaId]
    version: Version
    pending_isr: SetOf[ReplicaId]
    pending_version: Optional[Version]
    end_offsets: Array[ReplicaId, EndOffset]


class Partition(Struct):
    """The controller, the leader, and all messages ever sent from one to the other."""

    controller: Controller
    leader: Leader
    requests: Annotated[Messages[Change], Capacity(requests_max)]
    updates: Annotated[Messages[Change], Capacity(max_version + 1)]


RequestIndex = Annotated[int, Range(0, requests_max - 1)]
UpdateIndex = Annotated[int, Range(0, max_version)]


def init(s: Partition) -> None:
    """Everybody is in the ISR, and nothing was written or sent."""
    s.controller.isr = everything(replicas)
    s.leader.isr = everything(replicas)
    s.leader.pending_version = NONE


def effective_isr(s: Partition) -> int:
    """The maximal ISR: who the leader knows to be in the ISR, and who may be by now because it asked."""
    return union(s.leader.isr, s.leader.pending_isr)


def high_watermark(s: Partition) -> int:
    """How far everybody has replicated whose acknowledgement the leader waits for."""
    members = effective_isr(s)
    least: int = max_offset + 1
    for replica in range(replicas):
        if contains(members, replica):
            least = min(least, s.leader.end_offsets[replica])
    return least


def write_isr(s: Partition, isr: SetOf[ReplicaId]) -> None:
    """The controller makes this the ISR of the next version, and tells the leader."""
    version = s.controller.version + 1
    s.controller.isr = isr
    s.controller.version = version
    send(s.updates, Change(version=version, isr=isr))


def controller_shrink_isr(s: Partition, replica: ReplicaId) -> bool:
    """The controller takes a follower for failed, and out of the ISR, without being asked."""
    if replica == LEADER or not contains(s.controller.isr, replica):
        return False
    write_isr(s, remove(s.controller.isr, replica))
    return True


def controller_handle_request(s: Partition, request: RequestIndex) -> bool:
    """The controller does what the leader asked for, if the leader knew the present version then."""
    if request >= len(s.requests) or s.requests[request].version != s.controller.version:
        return False
    write_isr(s, s.requests[request].isr)
    return True


def request_isr(s: Partition, isr: SetOf[ReplicaId]) -> None:
    """The leader asks for an ISR, and counts its members from now on. What else it asked for stays pending."""
    send(s.requests, Change(version=s.leader.version, isr=isr))
    s.leader.pending_isr = union(s.leader.pending_isr, isr)
    s.leader.pending_version = s.leader.version


def leader_request_shrink_isr(s: Partition, replica: ReplicaId) -> bool:
    """The leader asks to take a follower out of the ISR, for any reason; until it hears, it still waits for it."""
    if replica == LEADER or not contains(s.leader.isr, replica):
        return False
    request_isr(s, remove(s.leader.isr, replica))
    return True


def leader_request_expand_isr(s: Partition, replica: ReplicaId) -> bool:
    """The leader asks to take a replica that has reached the high watermark into the ISR."""
    if contains(s.leader.isr, replica) or s.leader.end_offsets[replica] < high_watermark(s):
        return False
    request_isr(s, insert(s.leader.isr, replica))
    return True


def leader_write(s: Partition) -> bool:
    """The leader appends a record."""
    s.leader.end_offsets[LEADER] += 1
    return True


def leader_handle_update(s: Partition, update: UpdateIndex) -> bool:
    """The leader learns of a version later than it knows, and takes whatever it asked for as done or refused."""
    if update >= len(s.updates) or s.updates[update].version <= s.leader.version:
        return False
    s.leader.isr = s.updates[update].isr
    s.leader.version = s.updates[update].version
    s.leader.pending_isr = EMPTY
    s.leader.pending_version = NONE
    return True


def follower_replicate(s: Partition, follower: ReplicaId) -> bool:
    """A follower fetches the next record, in the ISR or not."""
    if follower == LEADER or s.leader.end_offsets[follower] >= s.leader.end_offsets[LEADER]:
        return False
    s.leader.end_offsets[follower] += 1
    return True


def valid_high_watermark(s: Partition, replica: ReplicaId) -> bool:
    """ValidHighWatermark: whoever can be elected has everything that the leader takes for committed."""
    return not contains(s.controller.isr, replica) or s.leader.end_offsets[replica] >= high_watermark(s)


def is_within_bounds(s: Partition) -> bool:
    """The published model has no end; this is as far as it is explored."""
    return s.controller.version <= max_version and s.leader.end_offsets[LEADER] <= max_offset


def a_record_is_committed(s: Partition) -> bool:
    """The high watermark moves at all."""
    return high_watermark(s) > 0


def a_request_is_outdated(s: Partition, request: RequestIndex) -> bool:
    """The controller gets a request that it must refuse, for the ISR has changed since."""
    return request < len(s.requests) and s.requests[request].version < s.controller.version


def the_isr_is_in_doubt(s: Partition) -> bool:
    """A replica is in the true ISR that the leader only asked for."""
    return difference(s.controller.isr, s.leader.isr) != EMPTY


async_isr = Model.of(
    "async-isr",
    "kip-497",
    why="the leader goes on while it asks for an ISR, and waits for everybody who is in the old one or the new one",
    state=Partition,
    bounds=(replicas, max_version, max_offset),
    init=init,
    actions=(
        controller_shrink_isr,
        controller_handle_request,
        leader_request_shrink_isr,
        leader_request_expand_isr,
        leader_write,
        leader_handle_update,
        follower_replicate,
    ),
    invariants=(valid_high_watermark,),
    sometimes=(a_record_is_committed, a_request_is_outdated, the_isr_is_in_doubt),
    constraint=is_within_bounds,
)


def known_isr(s: Partition) -> int:
    """The ISR that the leader knows of, whatever it asked for."""
    return s.leader.isr


current_isr_only = async_isr.derive(
    "current-isr-only",
    why="KAFKA-8836: the leader commits with the ISR it knows, while one that it asked for may be in force already",
    effective_isr=known_isr,
)
