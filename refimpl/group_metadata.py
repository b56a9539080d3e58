"""One classic group: its five states, members, leader, protocol and generation, and the offsets it has committed.

A commit is pending until its record is replicated, a transaction's until the marker is; of two the later record wins.
A member's metadata for a protocol is any value; its field `topics`, if it has one, names what it subscribes to.

Source: GroupMetadata, MemberMetadata and ClassicGroup; KIP-98 (transactional offsets), KIP-211 (expiry), KIP-345.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

from hwmark.refimpl.batches import NO_PRODUCER_ID, TopicPartition
from hwmark.refimpl.coordinator import Respond
from hwmark.refimpl.errors import Error, KafkaError

EMPTY, PREPARING_REBALANCE, COMPLETING_REBALANCE = "Empty", "PreparingRebalance", "CompletingRebalance"
STABLE, DEAD = "Stable", "Dead"
VALID_PREVIOUS_STATES = {
    EMPTY: (PREPARING_REBALANCE,),
    PREPARING_REBALANCE: (STABLE, COMPLETING_REBALANCE, EMPTY),
    COMPLETING_REBALANCE: (PREPARING_REBALANCE,),
    STABLE: (COMPLETING_REBALANCE,),
    DEAD: (STABLE, PREPARING_REBALANCE, COMPLETING_REBALANCE, EMPTY, DEAD),
}
CONSUMER, UNKNOWN_MEMBER, NOT_REPLICATED = "consumer", "", -1

Protocols = tuple[tuple[str, Hashable], ...]  # a member's, preferred first: (name, metadata)


class IllegalStateError(ValueError):
    """The group is asked for what its state does not allow."""


class ConsumerGroupMetadata(NamedTuple):
    """Who asks: a member of a group's generation; without member id a new member, or none."""

    group_id: str
    generation: int = -1
    member_id: str = UNKNOWN_MEMBER
    instance: str | None = None


class JoinGroupResponse(NamedTuple):
    """A member's place in the generation; only its leader learns the members, as (member id, metadata)."""

    member_id: str
    generation: int = -1
    protocol: str | None = None
    leader: str | None = None
    members: tuple[tuple[str, Hashable], ...] = ()


class OffsetAndMetadata(NamedTuple):
    """A committed position."""

    offset: int
    leader_epoch: int = -1
    metadata: str = ""
    commit_timestamp: int = -1


class CommitRecord(NamedTuple):
    """A committed position, and the base offset of its batch in the log."""

    batch_offset: int
    position: OffsetAndMetadata


NO_COMMIT = CommitRecord(NOT_REPLICATED, OffsetAndMetadata(-1))
FetchedOffset = tuple[TopicPartition, Error, OffsetAndMetadata]


@dataclass(slots=True, unsafe_hash=True)  # the log's copies may be hashed
class Member:
    """A member; the request that it has `parked` is its JoinGroup in a rebalance, and its SyncGroup after it.

    In a stable group it is the JoinGroup of an instance that is back.
    """

    member_id: str
    instance: str | None
    session_timeout: int
    rebalance_timeout: int
    protocol_type: str
    protocols: Protocols
    parked: Hashable | None = None
    assignment: Hashable = ()
    heartbeat_deadline: int = 0

    def heartbeat(self, now: int) -> None:
        """The member is alive: its session begins anew."""
        self.heartbeat_deadline = now + self.session_timeout

    def update(self, joining: Member) -> None:
        """The member joins again, perhaps with other protocols and timeouts."""
        self.protocols, self.parked = joining.protocols, joining.parked
        self.session_timeout, self.rebalance_timeout = joining.session_timeout, joining.rebalance_timeout

    def answer(self, error: Error, body: Hashable = None, now: int = 0) -> list[Respond]:
        """Answers the parked request, if there is one; the session begins anew."""
        if self.parked is None:
            return []
        to, self.parked = self.parked, None
        self.heartbeat(now)
        return [Respond(to, error, body)]


class GroupValue(NamedTuple):
    """A generation as the log keeps it."""

    generation: int = 0
    protocol_type: str | None = None
    protocol: str | None = None
    leader: str | None = None
    state_timestamp: int = -1
    members: tuple[Member, ...] = ()


@dataclass(slots=True)
class GroupMetadata:
    """A group; times and deadlines in ms. What its state forbids raises IllegalStateError."""

    group_id: str
    state_timestamp: int
    state: str = EMPTY
    generation: int = 0
    protocol_type: str | None = None
    protocol: str | None = None
    leader: str | None = None
    members: dict[str, Member] = field(default_factory=dict)  # in the order of joining
    pending_members: dict[str, int] = field(default_factory=dict)  # expected to join with this id: until when
    pending_sync_members: dict[str, None] = field(default_factory=dict)  # a set: expected to send SyncGroup
    rebalance_deadline: int = 0  # for JoinGroup in a rebalance, for SyncGroup after it
    offsets: dict[TopicPartition, CommitRecord] = field(default_factory=dict)
    pending_offsets: dict[tuple[int, TopicPartition], CommitRecord] = field(default_factory=dict)  # by producer id

    # ------------------------------------------------------------ states and generations

    def transition_to(self, state: str, now: int) -> None:
        """Goes to another state."""
        if self.state not in VALID_PREVIOUS_STATES[state]:
            raise IllegalStateError(f"group {self.group_id} is {self.state} and may not become {state}")
        self.state, self.state_timestamp = state, now

    def init_next_generation(self, now: int) -> None:
        """The members that there are make up a new generation, which awaits its assignment."""
        self.generation += 1
        self.protocol = self.select_protocol() if self.members else None
        self.transition_to(COMPLETING_REBALANCE if self.members else EMPTY, now)
        self.pending_sync_members = {}

    def select_protocol(self) -> str:
        """The protocol with the most votes: each member votes for the first of its own that all support."""
        ballots = [[name for name, _ in member.protocols] for member in self.members.values()]
        votes = [next(filter(self.is_supported_by_all, names)) for names in ballots]
        return max(votes, key=votes.count)

    def is_supported_by_all(self, protocol: str) -> bool:
        """Whether every member has the protocol."""
        return all(protocol in dict(member.protocols) for member in self.members.values())

    def supports_protocols(self, protocol_type: str, protocols: list[str]) -> bool:
        """Whether a member with these protocols may be in the group."""
        if self.state == EMPTY:
            return bool(protocol_type and protocols)
        return self.protocol_type == protocol_type and any(map(self.is_supported_by_all, protocols))

    @property
    def subscribed_topics(self) -> set[str] | None:
        """The topics that the members subscribe to, if they are consumers and name them."""
        named = [getattr(dict(m.protocols).get(str(self.protocol)), "topics", None) for m in self.members.values()]
        if self.protocol_type != CONSUMER or None in named:
            return None
        return {topic for topics in named for topic in topics or ()}

    def join_response(self, member_id: str) -> JoinGroupResponse:
        """What the member learns of the generation."""
        members = [(id, dict(other.protocols)[str(self.protocol)]) for id, other in self.members.items()]
        known = tuple(members) if self.leader == member_id else ()
        return JoinGroupResponse(member_id, self.generation, self.protocol, self.leader, known)

    def answer_joins(self, member_ids: Iterable[str], error: Error, now: int) -> list[Respond]:
        """Answers the parked JoinGroups of some members."""
        joined = [self.members[member_id] for member_id in member_ids if member_id in self.members]
        return [answer for one in joined for answer in one.answer(error, self.join_response(one.member_id), now)]

    def propagate_assignment(self, assignments: dict[str, Hashable], error: Error, now: int) -> list[Respond]:
        """Gives members their assignments; answers the parked SyncGroups."""
        for member in self.members.values():
            member.assignment = assignments.get(member.member_id, ())
        return [answer for one in self.members.values() for answer in one.answer(error, one.assignment, now)]

    def stored(self, assignments: dict[str, Hashable]) -> GroupValue:
        """The generation for the log, with the members' assignments."""
        at_rest = partial(replace, parked=None, heartbeat_deadline=0)
        members = tuple([at_rest(m, assignment=assignments.get(id, ())) for id, m in self.members.items()])
        chosen = self.protocol_type, self.protocol, self.leader
        return GroupValue(self.generation, *chosen, self.state_timestamp, members)

    def restore(self, value: GroupValue, now: int) -> None:
        """Goes on with a generation from the log; the sessions of its members begin anew."""
        self.generation, self.protocol_type, self.protocol, self.leader, self.state_timestamp, members = value
        self.state = STABLE if members else EMPTY
        self.members = {m.member_id: replace(m, heartbeat_deadline=now + m.session_timeout) for m in members}

    # ------------------------------------------------------------ members

    @property
    def static_members(self) -> dict[str | None, str]:
        """The members with an instance, by that."""
        return {member.instance: id for id, member in self.members.items() if member.instance is not None}

    def join(self, joining: Member) -> None:
        """A member joins, the first one as the leader, or joins again."""
        if not self.members:
            self.protocol_type, self.leader = joining.protocol_type, joining.member_id
        self.pending_members.pop(joining.member_id, None)
        self.members.setdefault(joining.member_id, joining).update(joining)

    def remove(self, member_id: str) -> list[Respond]:
        """A member, perhaps a pending one, is gone; if it led, the one that joined first of the others does."""
        self.pending_members.pop(member_id, None)
        self.pending_sync_members.pop(member_id, None)
        if (member := self.members.pop(member_id, None)) is None:
            return []
        if self.leader == member_id:
            self.leader = next(iter(self.members), None)
        return member.answer(Error.UNKNOWN_MEMBER_ID)

    def replace_static_member(self, old_id: str, new_id: str) -> list[Respond]:
        """A restarted instance takes the place of its former self, whose requests are fenced; KeyError if none."""
        fenced = self.members[old_id].answer(Error.FENCED_INSTANCE_ID)
        self.members[old_id].member_id = new_id
        self.members = {member.member_id: member for member in self.members.values()}
        self.leader = new_id if self.leader == old_id else self.leader
        return fenced

    def maybe_elect_new_joined_leader(self) -> bool:
        """Whether the leader has joined, or else a member that has: it leads from now on."""
        joined = [member_id for member_id, member in self.members.items() if member.parked is not None]
        if joined and self.leader not in joined:
            self.leader = joined[0]
        return bool(joined)

    def has_all_members_joined(self) -> bool:
        """Whether nobody is missing in the rebalance."""
        return not self.pending_members and all(m.parked is not None for m in self.members.values())

    def rebalance_timeout(self) -> int:
        """The longest time that a member takes to join again."""
        return max((member.rebalance_timeout for member in self.members.values()), default=0)

    def deadlines(self) -> list[tuple[int, str]]:
        """Until when members have to be heard of, unless they wait; without member id, when the rebalance goes on."""
        sessions = [(one.heartbeat_deadline, id) for id, one in self.members.items() if one.parked is None]
        joins = [(deadline, member_id) for member_id, deadline in self.pending_members.items()]
        expected = (UNKNOWN_MEMBER,) if self.state == PREPARING_REBALANCE else self.pending_sync_members
        return [*sessions, *joins, *[(self.rebalance_deadline, member_id) for member_id in expected]]

    def validate_member(self, who: ConsumerGroupMetadata, knows_generation: bool = True) -> Member:
        """The member that asks; it has to be the current one of its instance and to know the current generation."""
        static_members = self.static_members
        if static_members.get(who.instance, who.member_id) != who.member_id:
            raise KafkaError(Error.FENCED_INSTANCE_ID, f"{who.instance} is another member now")
        if who.member_id not in self.members or (who.instance is not None and who.instance not in static_members):
            raise KafkaError(Error.UNKNOWN_MEMBER_ID, who.member_id)
        if knows_generation and who.generation != self.generation:
            raise KafkaError(Error.ILLEGAL_GENERATION, f"{who.generation} instead of {self.generation}")
        return self.members[who.member_id]

    # ------------------------------------------------------------ offsets

    def validate_offset_commit(self, who: ConsumerGroupMetadata, is_txn: bool) -> None:
        """Refuses a commit by who is no member of this generation; anybody may commit while the group is empty.

        A transaction's producer may be nobody at all.
        """
        if who.generation < 0 and self.state == EMPTY:
            return
        if not is_txn or who != ConsumerGroupMetadata(who.group_id):
            self.validate_member(who)
        if not is_txn and self.state == COMPLETING_REBALANCE:
            raise KafkaError(Error.REBALANCE_IN_PROGRESS)

    def prepare_offset(self, producer_id: int, partition: TopicPartition, position: OffsetAndMetadata) -> None:
        """A commit, of a transaction if there is a producer id, is on its way to the log."""
        pending = self.pending_offsets.get((producer_id, partition), NO_COMMIT)
        if pending.batch_offset == NOT_REPLICATED:  # the log may refuse the newer one
            self.pending_offsets[producer_id, partition] = CommitRecord(NOT_REPLICATED, position)

    def on_offset_append(self, producer_id: int, partition: TopicPartition, commit: CommitRecord) -> None:
        """The commit is replicated: it counts, or awaits the marker if it is a transaction's; or the log refused it.

        It is pending no longer then, but a later one of the partition still is.
        """
        key = producer_id, partition
        if producer_id == NO_PRODUCER_ID or commit.batch_offset == NOT_REPLICATED:
            self.put_offset(partition, commit)
            if self.pending_offsets.get(key) == CommitRecord(NOT_REPLICATED, commit.position):
                del self.pending_offsets[key]
        elif key in self.pending_offsets:
            self.pending_offsets[key] = commit

    def complete_pending_txn_offsets(self, producer_id: int, is_commit: bool) -> None:
        """The marker is replicated: the transaction's commits count, or are forgotten; what is late is behind it."""
        for key in [key for key in self.pending_offsets if key[0] == producer_id]:
            commit = self.pending_offsets.pop(key)
            self.put_offset(key[1], commit if is_commit else NO_COMMIT)

    def put_offset(self, partition: TopicPartition, commit: CommitRecord) -> None:
        """The commit counts if it is replicated, and no later record does."""
        if self.offsets.get(partition, NO_COMMIT).batch_offset < commit.batch_offset:
            self.offsets[partition] = commit

    def has_pending_offset(self, partition: TopicPartition) -> bool:
        """Whether a commit of the partition, transactional or not, is undecided."""
        return any(partition == pending for _, pending in self.pending_offsets)

    def has_offsets(self) -> bool:
        """Whether there is any commit, decided or not."""
        return bool(self.offsets or self.pending_offsets)

    def fetch_offset(self, partition: TopicPartition, require_stable: bool) -> FetchedOffset:
        """The committed position, offset -1 if there is none; an undecided one can be refused (KIP-447)."""
        if require_stable and self.has_pending_offset(partition):
            return partition, Error.UNSTABLE_OFFSET_COMMIT, NO_COMMIT.position
        return partition, Error.NONE, self.offsets.get(partition, NO_COMMIT).position

    def may_delete(self, offsets_only: bool = False) -> bool:
        """Whether nobody needs the group; offsets alone may go if subscriptions tell which of them are needed."""
        return self.state == EMPTY or (offsets_only and self.state != DEAD and self.protocol_type == CONSUMER)

    def is_subscribed_to(self, topic: str) -> bool:
        """Whether a member needs the offsets of a topic, as far as is known."""
        topics = self.subscribed_topics
        return self.protocol_type == CONSUMER if topics is None else topic in topics

    def expiration_base(self, position: OffsetAndMetadata) -> int | None:
        """The time from which an offset's retention counts: the commit, or since the group is empty; None: never."""
        if self.protocol_type is None or (self.state == STABLE and self.subscribed_topics is not None):
            return position.commit_timestamp
        return self.state_timestamp if self.state == EMPTY else None

    def remove_expired_offsets(self, now: int, retention: int) -> list[TopicPartition]:
        """Forgets the offsets whose retention is over and that nobody needs."""
        bases = {partition: self.expiration_base(commit.position) for partition, commit in self.offsets.items()}
        old = [partition for partition, base in bases.items() if base is not None and now - base >= retention]
        expired = [tp for tp in old if not self.is_subscribed_to(tp[0]) and not self.has_pending_offset(tp)]
        for partition in expired:
            del self.offsets[partition]
        return expired
