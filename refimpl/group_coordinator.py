"""The group coordinator of a broker: it answers for the groups whose partition of __consumer_offsets the broker leads.

Each method takes a request, or what happened, and returns effects: `Respond`, at once or when a parked request is due,
and `Append` to its own replicated log. The owner calls `on_appended` in the order of the log, `complete_transaction`
when a marker is replicated, `tick` when `next_deadline` has come, `load` and `unload` when it begins and ceases to
lead. The assignment, eager or cooperative, is the leader's affair. A request that is refused at once raises KafkaError.

A group waits for each member until its deadline, or has a request of it parked, and then for as long as it takes.
A member's metadata for a protocol is any value; its field `topics`, if it has one, names what it subscribes to.

Not modelled: the initial rebalance delay (KIP-134), the limit of a new member's first wait, bounds of session timeouts,
protocol types other than "consumer", metadata of offsets, tombstones of groups (an empty one may come back with its
generation), LeaveGroup by instance alone, that who comes back as a leader is told not to assign (KIP-814; what it
assigns is ignored). Unlike Kafka's, a group is there as soon as it is asked for; who joins again always begins a
rebalance; every valid request is a heartbeat, but who owes its SyncGroup has only its session for that; the retention
of an empty group's offsets begins anew with the next coordinator; a static member's return is not undone if the log
refuses it; who is removed while its request is parked gets an answer.

Source: GroupCoordinator, GroupMetadataManager, GroupMetadata, ClassicGroup; KIP-62 (timeouts), KIP-98 (transactional
offsets), KIP-211 (expiry), KIP-345 (static members), KIP-394 (member ids), KIP-447 (fencing by generation), KIP-814.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from hwmark.refimpl.batches import COMMIT, NO_PRODUCER_ID, NOBODY, Batch, Producer, TopicPartition
from hwmark.refimpl.config import OFFSETS_TOPIC
from hwmark.refimpl.coordinator import APPEND_ERRORS, Append, Coordinator, Respond
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
CLEANUP_INTERVAL = 600_000  # ms between looks for expired offsets
NOT_REPLICATED = -1

Protocols = tuple[tuple[str, Hashable], ...]  # a member's, preferred first: (name, metadata)
Assignments = tuple[tuple[str, Hashable], ...]  # by member id
Partitions = tuple[TopicPartition, ...]
Effects = list[Respond | Append]


class ConsumerGroupMetadata(NamedTuple):
    """Who asks: a member of a group's generation; without member id a new member, or none."""

    group_id: str
    generation: int = -1
    member_id: str = ""
    instance: str | None = None


class JoinGroupResponse(NamedTuple):
    """A member's place in the generation; only its leader learns the members, as (member id, metadata)."""

    member_id: str
    generation: int = -1
    protocol: str | None = None
    leader: str | None = None
    members: tuple[tuple[str, Hashable], ...] = ()


class OffsetAndMetadata(NamedTuple):
    """A committed position; the coordinator adds when it was committed, and the base offset of its batch in the log."""

    offset: int
    leader_epoch: int = -1
    commit_timestamp: int = -1
    record_offset: int = NOT_REPLICATED


NO_OFFSET = OffsetAndMetadata(-1)
Who = ConsumerGroupMetadata
Commits = tuple[tuple[TopicPartition, OffsetAndMetadata], ...]


class Member(NamedTuple):
    """A member, in memory and in the log."""

    member_id: str
    instance: str | None
    session_timeout: int
    rebalance_timeout: int
    protocols: Protocols
    assignment: Hashable = ()


class GroupValue(NamedTuple):
    """A generation as the log keeps it."""

    generation: int
    protocol: str | None
    leader: str | None
    members: tuple[Member, ...]


@dataclass(slots=True)
class GroupMetadata:
    """A group, with a leader once it has had a member; times and deadlines in ms.

    What is `parked` is a member's JoinGroup in a rebalance, its SyncGroup after it, and in a stable group the JoinGroup
    of an instance that is back. There are deadlines of members without it, and of who was given an id to join with.
    Commits are in flight on their way to the log, and then pending until the transaction's marker, by producer id.
    """

    group_id: str
    state_timestamp: int
    state: str = EMPTY
    generation: int = 0
    protocol: str | None = None
    leader: str | None = None
    members: dict[str, Member] = field(default_factory=dict)
    parked: dict[str, Any] = field(default_factory=dict)
    deadlines: dict[str, int] = field(default_factory=dict)
    in_flight: list[Append] = field(default_factory=list)
    pending_offsets: dict[tuple[int, TopicPartition], OffsetAndMetadata] = field(default_factory=dict)
    offsets: dict[TopicPartition, OffsetAndMetadata] = field(default_factory=dict)

    # ------------------------------------------------------------ states and generations

    def transition_to(self, state: str, now: int) -> None:
        """Goes to another state; ValueError if it may not."""
        if self.state not in VALID_PREVIOUS_STATES[state]:
            raise ValueError(f"group {self.group_id} is {self.state} and may not become {state}")
        self.state, self.state_timestamp = state, now

    def prepare_rebalance(self, now: int) -> list[Respond]:
        """A rebalance begins, unless there is one: who waits for its assignment has to join again."""
        answers = self.answer(Error.REBALANCE_IN_PROGRESS, now) if self.state == COMPLETING_REBALANCE else []
        if self.state != PREPARING_REBALANCE:
            self.transition_to(PREPARING_REBALANCE, now)
        return answers

    def rebalance_deadline(self) -> int:
        """Until when a rebalance waits: as long as the slowest member may take to join again."""
        return self.state_timestamp + max((member.rebalance_timeout for member in self.members.values()), default=0)

    def init_next_generation(self, now: int) -> None:
        """The members that there are make up a new generation, which awaits its assignment."""
        self.generation += 1
        self.protocol = self.select_protocol() if self.members else None
        self.transition_to(COMPLETING_REBALANCE if self.members else EMPTY, now)

    def select_protocol(self) -> str:
        """The protocol with the most votes: each member votes for the first of its own that all support."""
        votes = [next(filter(self.is_supported_by_all, dict(one.protocols))) for one in self.members.values()]
        return max(votes, key=votes.count)

    def is_supported_by_all(self, protocol: str) -> bool:
        """Whether every member has the protocol."""
        return all(protocol in dict(member.protocols) for member in self.members.values())

    def join_response(self, member_id: str) -> JoinGroupResponse:
        """What the member learns of the generation."""
        members = [(id, dict(other.protocols)[str(self.protocol)]) for id, other in self.members.items()]
        known = members if self.leader == member_id else []
        return JoinGroupResponse(member_id, self.generation, self.protocol, self.leader, tuple(known))

    def stored(self) -> GroupValue:
        """The generation for the log."""
        return GroupValue(self.generation, self.protocol, self.leader, tuple(self.members.values()))

    def restore(self, value: GroupValue, now: int) -> None:
        """Goes on with a generation from the log; the sessions of its members begin anew."""
        self.generation, self.protocol, self.leader, members = value
        self.state = STABLE if members else EMPTY
        self.members = {member.member_id: member for member in members}
        self.deadlines = {member.member_id: now + member.session_timeout for member in members}

    # ------------------------------------------------------------ members

    def static_members(self) -> dict[str | None, str]:
        """The members with an instance, by that."""
        return {member.instance: id for id, member in self.members.items() if member.instance is not None}

    def join(self, joining: Member, to: Any) -> None:
        """A member joins, the first one as the leader, or joins again."""
        if not self.members:
            self.leader = joining.member_id
        self.members[joining.member_id] = joining
        self.park(joining.member_id, to)

    def park(self, member_id: str, to: Any) -> None:
        """A member's request waits, and its session cannot expire."""
        self.parked[member_id] = to
        self.deadlines.pop(member_id, None)

    def answer(self, error: Error, now: int, body: Callable[[str], Hashable] = lambda _: None) -> list[Respond]:
        """Answers all that is parked, with a body by member id; the sessions begin anew."""
        parked, self.parked = self.parked, {}
        self.deadlines |= {member_id: now + self.members[member_id].session_timeout for member_id in parked}
        return [Respond(to, error, body(member_id)) for member_id, to in parked.items()]

    def remove(self, member_id: str, error: Error = Error.UNKNOWN_MEMBER_ID) -> list[Respond]:
        """A member, perhaps one that was only given an id, is gone, and is told so if it waits."""
        self.members.pop(member_id, None)
        self.deadlines.pop(member_id, None)
        return [Respond(self.parked.pop(member_id), error)] if member_id in self.parked else []

    def replace_static_member(self, old_id: str, joining: Member) -> list[Respond]:
        """A restarted instance takes the place of its former self, which is fenced; KeyError if there is none."""
        assignment = self.members[old_id].assignment
        fenced = self.remove(old_id, Error.FENCED_INSTANCE_ID)
        self.members[joining.member_id] = joining._replace(assignment=assignment)
        self.leader = joining.member_id if self.leader == old_id else self.leader
        return fenced

    def maybe_elect_new_joined_leader(self) -> bool:
        """Whether the leader has joined, or else a member that has: it leads from now on."""
        if self.parked and self.leader not in self.parked:
            self.leader = next(iter(self.parked))
        return bool(self.parked)

    def validate_member(self, who: Who, now: int, knows_generation: bool = True) -> None:
        """Who asks has to be the current member of its instance and generation; its session begins anew.

        Not so while it owes its SyncGroup.
        """
        member_id = who.member_id if who.instance is None else self.static_members().get(who.instance)
        if member_id not in self.members:
            raise KafkaError(Error.UNKNOWN_MEMBER_ID, who.member_id)
        if member_id != who.member_id:
            raise KafkaError(Error.FENCED_INSTANCE_ID, f"{who.instance} is another member now")
        if knows_generation and who.generation != self.generation:
            raise KafkaError(Error.ILLEGAL_GENERATION, f"{who.generation} instead of {self.generation}")
        if member_id in self.deadlines and self.state != COMPLETING_REBALANCE:
            self.deadlines[member_id] = now + self.members[member_id].session_timeout

    # ------------------------------------------------------------ offsets

    def validate_offset_commit(self, who: Who, is_txn: bool, now: int) -> None:
        """Refuses a commit by who is no member of this generation; anybody may commit while the group is empty.

        A transaction's producer may be nobody at all.
        """
        if who.generation < 0 and self.state == EMPTY:
            return
        if not is_txn or who != ConsumerGroupMetadata(who.group_id):
            self.validate_member(who, now)
        if not is_txn and self.state == COMPLETING_REBALANCE:
            raise KafkaError(Error.REBALANCE_IN_PROGRESS)

    def put_offset(self, producer_id: int, partition: TopicPartition, commit: OffsetAndMetadata | None) -> None:
        """A commit is replicated: it counts, or awaits the marker if it is a transaction's; None is a tombstone."""
        if commit is None:
            self.offsets.pop(partition, None)
        elif producer_id == NO_PRODUCER_ID:
            self.offsets[partition] = commit
        else:
            self.pending_offsets[producer_id, partition] = commit

    def complete_pending_txn_offsets(self, producer_id: int, is_commit: bool) -> None:
        """The marker is replicated: the transaction's commits, or later records, count; or they are forgotten."""
        for _, partition in [key for key in self.pending_offsets if key[0] == producer_id]:
            commit = self.pending_offsets.pop((producer_id, partition))
            if is_commit and self.offsets.get(partition, NO_OFFSET).record_offset < commit.record_offset:
                self.offsets[partition] = commit

    def has_pending_offset(self, partition: TopicPartition) -> bool:
        """Whether a commit of the partition, transactional or not, is undecided."""
        in_flight = [key for append in self.in_flight for key, _ in append.records]
        return any(partition == pending for _, pending in [*in_flight, *self.pending_offsets])

    def has_offsets(self) -> bool:
        """Whether there is any commit, decided or not."""
        return bool(self.offsets or self.pending_offsets or self.in_flight)

    def fetch_offset(self, of: TopicPartition, require_stable: bool) -> tuple[TopicPartition, Error, OffsetAndMetadata]:
        """The committed position, offset -1 if there is none; an undecided one can be refused (KIP-447)."""
        if require_stable and self.has_pending_offset(of):
            return of, Error.UNSTABLE_OFFSET_COMMIT, NO_OFFSET
        return of, Error.NONE, self.offsets.get(of, NO_OFFSET)

    def subscribed_topics(self) -> set[str] | None:
        """The topics that the members subscribe to, if all of them name theirs."""
        named = [getattr(dict(m.protocols).get(str(self.protocol)), "topics", None) for m in self.members.values()]
        return None if self.leader is None or None in named else {topic for topics in named for topic in topics or ()}

    def may_delete(self, offsets_only: bool = False) -> bool:
        """Whether nobody needs the group; offsets alone may go if subscriptions tell which of them are needed."""
        return self.state == EMPTY or (offsets_only and self.state != DEAD and self.leader is not None)

    def expiration_base(self, position: OffsetAndMetadata) -> int | None:
        """The time from which an offset's retention counts: the commit, or since the group is empty; None: never."""
        if self.leader is None or (self.state == STABLE and self.subscribed_topics() is not None):
            return position.commit_timestamp
        return self.state_timestamp if self.state == EMPTY else None

    def expired_offsets(self, now: int, retention: int) -> list[TopicPartition]:
        """The offsets whose retention is over, and that no member subscribes to."""
        needed = self.subscribed_topics() or ()
        bases = {partition: self.expiration_base(commit) for partition, commit in self.offsets.items()}
        old = [partition for partition, base in bases.items() if base is not None and now - base >= retention]
        return [partition for partition in old if partition[0] not in needed and not self.has_pending_offset(partition)]


@dataclass(slots=True)
class GroupCoordinator(Coordinator):
    """The groups of the partitions that a broker leads; `to` is whatever tells the owner whom to answer."""

    topic: ClassVar[str] = OFFSETS_TOPIC
    groups: dict[str, GroupMetadata] = field(default_factory=dict, init=False)
    last_member: int = field(default=0, init=False)
    cleanup_at: int = field(default=CLEANUP_INTERVAL, init=False)

    # ------------------------------------------------------------ members

    def join_group(self, to: Any, now: int, who: Who, protocols: Protocols, session: int, rebalance: int) -> Effects:
        """JoinGroup: parked until all members have joined or the rebalance timeout is over (JoinGroupResponse).

        Who is new has to come back with the id that it is given (KIP-394), but for an instance.
        """
        group = self.group(who, now)
        if not any(group.is_supported_by_all(name) for name, _ in protocols):
            raise KafkaError(Error.INCONSISTENT_GROUP_PROTOCOL)
        if who.member_id and who.member_id not in group.deadlines:
            group.validate_member(who, now, knows_generation=False)
        self.last_member += 1
        new_id = f"{who.instance or 'member'}-{self.epochs[self.partition(who.group_id)]}-{self.last_member}"
        joining = Member(who.member_id or new_id, who.instance, session, rebalance, protocols)
        if not who.member_id and who.instance in group.static_members():
            return self.restart_static_member(group, joining, to, now)
        if not who.member_id and who.instance is None:
            group.deadlines[new_id] = now + session
            return [Respond(to, Error.MEMBER_ID_REQUIRED, JoinGroupResponse(new_id))]
        return self.join(group, joining, to, now)

    def restart_static_member(self, group: GroupMetadata, joining: Member, to: Any, now: int) -> Effects:
        """An instance is back: no rebalance while the group is stable and its protocol stays (KIP-345)."""
        fenced = group.replace_static_member(group.static_members()[joining.instance], joining)
        if group.state != STABLE or group.select_protocol() != group.protocol:
            return [*fenced, *self.join(group, joining, to, now)]
        group.park(joining.member_id, to)
        return [*fenced, self.store_group(group)]

    def leave_group(self, to: Any, now: int, who: Who) -> Effects:
        """LeaveGroup: the others share the member's partitions."""
        group = self.group(who, now)
        group.validate_member(who, now, knows_generation=False)
        return [*self.remove_member(group, who.member_id, now), Respond(to)]

    def remove_member(self, group: GroupMetadata, member_id: str, now: int) -> Effects:
        """A member is gone, which begins a rebalance, or somebody who had not joined yet."""
        had_joined = member_id in group.members
        effects: Effects = [*group.remove(member_id), *(group.prepare_rebalance(now) if had_joined else ())]
        return effects + self.maybe_complete_join(group, now)

    def heartbeat(self, to: Any, now: int, who: Who) -> Effects:
        """Heartbeat: the member is alive, and learns that it has to join again."""
        group = self.group(who, now)
        group.validate_member(who, now)
        return [Respond(to, Error.REBALANCE_IN_PROGRESS if group.state == PREPARING_REBALANCE else Error.NONE)]

    # ------------------------------------------------------------ rebalances

    def join(self, group: GroupMetadata, joining: Member, to: Any, now: int) -> Effects:
        """A member joins a rebalance, which begins with it unless there is one."""
        effects: Effects = [*group.prepare_rebalance(now)]
        group.join(joining, to)
        return effects + self.maybe_complete_join(group, now)

    def maybe_complete_join(self, group: GroupMetadata, now: int) -> Effects:
        """Once everybody has joined or is late, who has joined and static members are the new generation."""
        if group.state != PREPARING_REBALANCE or (group.deadlines and now < group.rebalance_deadline()):
            return []
        for member in [*group.members.values()]:
            if member.instance is None and member.member_id not in group.parked:
                group.remove(member.member_id)
        if not group.maybe_elect_new_joined_leader() and group.members:
            group.state_timestamp = now
            return []
        group.init_next_generation(now)
        return [*group.answer(Error.NONE, now, group.join_response)] or [self.store_group(group)]

    def sync_group(self, to: Any, now: int, who: Who, assignments: Assignments = ()) -> Effects:
        """SyncGroup: the answer is the assignment, once the leader has sent everybody's and the log has it."""
        group = self.group(who, now)
        group.validate_member(who, now)
        if group.state == PREPARING_REBALANCE:
            raise KafkaError(Error.REBALANCE_IN_PROGRESS)
        if group.state == STABLE:
            return [Respond(to, Error.NONE, group.members[who.member_id].assignment)]
        group.park(who.member_id, to)
        if group.leader != who.member_id:
            return []
        assigned = dict(assignments)
        group.members = {id: one._replace(assignment=assigned.get(id, ())) for id, one in group.members.items()}
        return [self.store_group(group)]

    def next_deadline(self) -> int | None:
        """The time at which `tick` has something to do, if nothing happens before."""
        sessions = [deadline for group in self.groups.values() for deadline in group.deadlines.values()]
        rebalances = [one.rebalance_deadline() for one in self.groups.values() if one.state == PREPARING_REBALANCE]
        return min([*sessions, *rebalances, self.cleanup_at]) if self.groups else None

    def tick(self, now: int) -> Effects:
        """Sessions and offsets expire, and rebalances go on without those that are late."""
        effects = self.expire_offsets(now) if self.cleanup_at <= now else []
        for group in self.groups.values():
            for member_id in [member_id for member_id, deadline in group.deadlines.items() if deadline <= now]:
                effects += self.remove_member(group, member_id, now)
            effects += self.maybe_complete_join(group, now)
        return effects

    # ------------------------------------------------------------ offsets

    def offset_commit(self, to: Any, now: int, who: Who, commits: Commits, producer: Producer = NOBODY) -> Effects:
        """OffsetCommit: answered, with one error for all partitions, when the offsets are in the log.

        With a producer it is a TxnOffsetCommit, whose offsets count with the transaction's marker.
        """
        group, is_txn = self.group(who, now), producer != NOBODY
        if self.config.kip_447 or not is_txn:
            group.validate_offset_commit(who, is_txn, now)
        if not commits:
            return [Respond(to)]
        records = tuple([((who.group_id, of), position._replace(commit_timestamp=now)) for of, position in commits])
        append = self.append(who.group_id, records, to, producer)
        group.in_flight.append(append)
        return [append]

    def complete_transaction(self, partition: int, producer_id: int, marker: str) -> None:
        """A marker, COMMIT or ABORT, is replicated in a partition of __consumer_offsets."""
        for group_id, group in self.groups.items():
            if self.partition(group_id) == partition:
                group.complete_pending_txn_offsets(producer_id, marker == COMMIT)

    def offset_fetch(self, to: Any, now: int, who: Who, partitions: Partitions, require_stable: bool) -> Effects:
        """OffsetFetch: (partition, error, position) of each; offset -1 for none; undecided ones can be refused."""
        group, is_strict = self.group(who, now), require_stable and self.config.kip_447
        return [Respond(to, Error.NONE, tuple([group.fetch_offset(partition, is_strict) for partition in partitions]))]

    def expire_offsets(self, now: int) -> Effects:
        """Forgets groups of which nothing is left, and, with tombstones, offsets whose retention is over."""
        self.cleanup_at = now + CLEANUP_INTERVAL
        self.groups = {id: one for id, one in self.groups.items() if one.has_offsets() or not one.may_delete()}
        expired = {id: one.expired_offsets(now, self.config.offsets_retention) for id, one in self.groups.items()}
        return [self.append(id, tuple([((id, of), None) for of in some])) for id, some in expired.items() if some]

    # ------------------------------------------------------------ the log

    def store_group(self, group: GroupMetadata) -> Append:
        """Append the generation with its members' assignments."""
        return self.append(group.group_id, (((group.group_id, None), group.stored()),))

    def on_appended(self, append: Append, error: Error, base_offset: int, now: int) -> Effects:
        """An append is replicated at its base offset, or has failed (-1); after `unload` only its request waits."""
        (group_id, partition), value = append.records[0]
        group, error = self.groups.get(group_id), APPEND_ERRORS.get(error, error)
        if group is None or self.epochs.get(append.topic_partition[1]) != append.leader_epoch:
            return [*append.answer(Error.NOT_COORDINATOR)]
        if partition is None:
            return self.on_group_stored(group, value, error, now)
        group.in_flight = [other for other in group.in_flight if other != append]
        if error is Error.NONE:
            self.replay(append.records, append.producer.producer_id, base_offset, now)
        return [*append.answer(error)]

    def on_group_stored(self, group: GroupMetadata, value: GroupValue, error: Error, now: int) -> Effects:
        """Whoever waits for the assignment gets its own; if the log refused it, a rebalance follows.

        In a stable group it was for an instance that is back: it goes on, and leads if it led (KIP-814).
        """
        if group.state not in (COMPLETING_REBALANCE, STABLE) or group.stored() != value:
            return []  # it has changed since
        if error is not Error.NONE:
            return [*group.answer(error, now), *group.prepare_rebalance(now)]
        if group.state == STABLE:
            return [*group.answer(error, now, group.join_response)]
        group.transition_to(STABLE, now)
        return [*group.answer(error, now, lambda member_id: group.members[member_id].assignment)]

    def load(self, partition: int, batches: Iterable[Batch], leader_epoch: int, now: int) -> Effects:
        """The broker begins to lead a partition, whose groups are what the log says up to its end."""
        self.epochs[partition] = leader_epoch
        for batch in batches:
            if batch.control is not None:
                self.complete_transaction(partition, batch.producer_id, batch.control)
            else:
                self.replay([(one.key, one.value) for one in batch.records], batch.producer_id, batch.base_offset, now)
        return []

    def replay(self, records: Iterable[tuple[Any, Any]], producer_id: int, base_offset: int, now: int) -> None:
        """Records of a batch in the log, by (group, partition) of an offset or (group, None) of a generation."""
        for (group_id, partition), value in records:
            group = self.groups.setdefault(group_id, GroupMetadata(group_id, now))
            if partition is None:
                group.restore(value, now)
            else:
                group.put_offset(producer_id, partition, value and value._replace(record_offset=base_offset))

    def unload(self, partition: int) -> Effects:
        """The broker leads the partition no longer: whoever waits is to ask the new coordinator."""
        self.epochs.pop(partition, None)
        lost = [self.groups.pop(group_id) for group_id in [*self.groups] if self.partition(group_id) == partition]
        return [answer for group in lost for answer in group.answer(Error.NOT_COORDINATOR, 0)]

    def group(self, who: Who, now: int) -> GroupMetadata:
        """The group that is asked for, a new one if there is none."""
        self.check_coordinator(who.group_id)
        return self.groups.setdefault(who.group_id, GroupMetadata(who.group_id, now))
