"""The group coordinator of a broker: it answers for the groups whose partition of __consumer_offsets the broker leads.

Each method takes a request, or what happened, and returns effects: `Respond`, at once or when a parked request is due,
and `Append` to its own replicated log. The owner appends with acks=all and calls `on_appended` in the order of the log,
`complete_transaction` when a marker is replicated, `tick` when `next_deadline` has come, `expire_offsets` now and then,
`load` and `unload` when it begins and ceases to lead. The assignment, eager or cooperative, is the leader's affair.

Not modelled: the initial rebalance delay (KIP-134), deleting groups, time spent loading. Unlike Kafka's, a static
member's return is not undone if the log refuses it, and who is removed while its SyncGroup is parked gets an answer.

A request that is refused at once raises KafkaError.

Source: GroupCoordinator, GroupMetadataManager; KIP-62 (timeouts), KIP-98, KIP-345, KIP-394, KIP-447, KIP-814.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from hwmark.refimpl import group_metadata as states
from hwmark.refimpl.batches import COMMIT, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, Batch, TopicPartition
from hwmark.refimpl.coordinator import APPEND_ERRORS
from hwmark.refimpl.coordinator import partition_for as partition_for
from hwmark.refimpl.errors import Error, KafkaError
from hwmark.refimpl.group_metadata import GroupMetadata, JoinGroupResponse, Member, OffsetAndMetadata, Respond

Commits = tuple[tuple[TopicPartition, OffsetAndMetadata], ...]
Partitions = tuple[TopicPartition, ...]
Assignments = tuple[tuple[str, Hashable], ...]  # by member id


class GroupConfig(NamedTuple):
    """Settings of a broker, and the protocol changes that it knows; times in ms."""

    partitions: int = 50
    session_timeout_min: int = 6_000
    session_timeout_max: int = 1_800_000
    new_member_join_timeout: int = 300_000
    offsets_retention: int = 604_800_000
    kip_345: bool = True  # static membership
    kip_394: bool = True  # a new member has to join with the id that it is given
    kip_447: bool = True  # transactional commits are fenced by generation, undecided offsets not fetched


class ConsumerGroupMetadata(NamedTuple):
    """Who asks: a member of a group's generation; without member id a new member, or none."""

    group_id: str
    generation: int = -1
    member_id: str = states.UNKNOWN_MEMBER
    instance: str | None = None


class GroupKey(NamedTuple):
    """A record's key in the log: for a partition's OffsetAndMetadata, or without one for the GroupValue."""

    group_id: str
    partition: TopicPartition | None = None


Records = tuple[tuple[GroupKey, Hashable], ...]


class Append(NamedTuple):
    """Effect: append a batch to a partition of __consumer_offsets; without a token nobody waits for it."""

    partition: int
    records: Records
    token: int | None = None
    producer_id: int = NO_PRODUCER_ID
    producer_epoch: int = NO_PRODUCER_EPOCH


class Pending(NamedTuple):
    """What goes on after an append: the method `then` with the details; `to` is who waits for nothing else."""

    group_id: str
    then: str
    details: tuple[Any, ...]
    to: Hashable | None = None


DEFAULTS = GroupConfig()
Who = ConsumerGroupMetadata
Protocols = states.Protocols
Effects = list[Respond | Append]


@dataclass(slots=True)
class GroupCoordinator:
    """The groups of the partitions that a broker leads; `to` is whatever tells the owner whom to answer."""

    config: GroupConfig = DEFAULTS
    epochs: dict[int, int] = field(default_factory=dict)  # leader epochs of the partitions that are led
    groups: dict[str, GroupMetadata] = field(default_factory=dict)
    pending: dict[int, Pending] = field(default_factory=dict)  # appends by token
    last_token: int = 0
    last_member: int = 0

    # ------------------------------------------------------------ members

    def join_group(
        self, to: Hashable, now: int, who: Who, protocols: Protocols, session_timeout: int, rebalance_timeout: int
    ) -> Effects:
        """JoinGroup: parked until all members have joined or the rebalance timeout is over (JoinGroupResponse)."""
        if not self.config.session_timeout_min <= session_timeout <= self.config.session_timeout_max:
            raise KafkaError(Error.INVALID_SESSION_TIMEOUT, str(session_timeout))
        group = self.group(who, now, unknown=Error.UNKNOWN_MEMBER_ID if who.member_id else None)
        if not group.supports_protocols(states.CONSUMER, [name for name, _ in protocols]):
            raise KafkaError(Error.INCONSISTENT_GROUP_PROTOCOL)
        instance = who.instance if self.config.kip_345 else None
        joining = Member(who.member_id, instance, session_timeout, rebalance_timeout, states.CONSUMER, protocols, to)
        if not who.member_id:
            return self.join_first(to, group, joining, now)
        if who.member_id in group.pending_members:
            return self.add_member(group, joining, now)
        return self.join_again(to, group, group.validate_member(who.member_id, instance), joining, now)

    def join_first(self, to: Hashable, group: GroupMetadata, joining: Member, now: int) -> Effects:
        """Gives the member an id that no other has had: it counts within the coordinator's epoch."""
        self.last_member += 1
        epoch = self.epochs[self.partition(group.group_id)]
        joining.member_id = f"{joining.instance or 'member'}-{epoch}-{self.last_member}"
        if joining.instance in group.static_members:
            return self.restart_static_member(group, joining, now)
        if joining.instance is not None or not self.config.kip_394:
            return self.add_member(group, joining, now)
        group.pending_members[joining.member_id] = now + joining.session_timeout
        return [Respond(to, Error.MEMBER_ID_REQUIRED, JoinGroupResponse(joining.member_id))]

    def add_member(self, group: GroupMetadata, joining: Member, now: int) -> Effects:
        """A new member; it has no session before its first join is answered."""
        joining.is_new, joining.heartbeat_deadline = True, now + self.config.new_member_join_timeout
        group.add(joining)
        return self.rebalance(group, now)

    def join_again(self, to: Hashable, group: GroupMetadata, member: Member, joining: Member, now: int) -> Effects:
        """A member missed its answer, or asks for a rebalance: as the leader, or with other metadata."""
        is_follower = group.state == states.STABLE and group.leader != member.member_id
        if (is_follower or group.state == states.COMPLETING_REBALANCE) and member.protocols == joining.protocols:
            return [Respond(to, Error.NONE, group.join_response(member.member_id))]
        member.update(joining)
        return self.rebalance(group, now)

    def restart_static_member(self, group: GroupMetadata, joining: Member, now: int) -> Effects:
        """An instance is back: no rebalance while the group is stable and its protocol stays (KIP-345)."""
        old_id = group.static_members[joining.instance]
        effects: Effects = [*group.replace_static_member(joining.instance, old_id, joining.member_id)]
        member = group.members[joining.member_id]
        member.update(joining)
        member.heartbeat(now)
        if group.state == states.STABLE and group.select_protocol() == group.protocol:
            assignments = {other.member_id: other.assignment for other in group.members.values()}
            return effects + self.store_group(group, assignments, "on_static_member_stored", member.member_id)
        return effects + self.rebalance(group, now)

    def on_static_member_stored(
        self, group: GroupMetadata, error: Error, now: int, batch_offset: int, generation: int, member_id: str
    ) -> Effects:
        """The instance goes on with its assignment, and leads if it led (KIP-814); else a rebalance will answer it."""
        member = group.members.get(member_id)
        is_waiting = group.state == states.STABLE and group.generation == generation
        if not is_waiting or member is None or member.awaiting_join is None:
            return []
        to, member.awaiting_join = member.awaiting_join, None
        response = group.join_response(member_id)
        return [Respond(to, error, response._replace(skip_assignment=group.leader == member_id))]

    def leave_group(self, to: Hashable, now: int, who: Who) -> Effects:
        """LeaveGroup; an administrator names the instance alone."""
        group = self.group(who, now)
        member_id = who.member_id or group.static_members.get(who.instance, states.UNKNOWN_MEMBER)
        if member_id not in group.pending_members:
            group.validate_member(member_id, who.instance)
        return [*self.remove_member(group, member_id, now), Respond(to)]

    def remove_member(self, group: GroupMetadata, member_id: str, now: int) -> Effects:
        """A member, or a pending one, is gone: the others share its partitions."""
        is_ignored = member_id in group.pending_members and group.state != states.PREPARING_REBALANCE
        effects: Effects = [*group.remove(member_id)]
        return effects if is_ignored else effects + self.rebalance(group, now)

    def heartbeat(self, to: Hashable, now: int, who: Who) -> Effects:
        """Heartbeat: the member is alive, and learns that it has to join again."""
        group = self.group(who, now)
        group.validate_member(who.member_id, who.instance, who.generation).heartbeat(now)
        return [Respond(to, Error.REBALANCE_IN_PROGRESS if group.state == states.PREPARING_REBALANCE else Error.NONE)]

    # ------------------------------------------------------------ rebalances

    def rebalance(self, group: GroupMetadata, now: int) -> Effects:
        """A rebalance begins, unless there is one; once everybody has joined, the next generation does.

        Who waits for an assignment has to join again.
        """
        effects: Effects = []
        if group.state == states.COMPLETING_REBALANCE:
            effects += group.propagate_assignment({}, Error.REBALANCE_IN_PROGRESS, now)
        if group.state in states.VALID_PREVIOUS_STATES[states.PREPARING_REBALANCE]:
            group.rebalance_deadline = now + group.rebalance_timeout()
            group.transition_to(states.PREPARING_REBALANCE, now)
        return effects + self.complete_join(group, now) if group.has_all_members_joined() else effects

    def complete_join(self, group: GroupMetadata, now: int) -> Effects:
        """Who has joined, and static members, are the new generation: joins are answered, SyncGroups expected."""
        for member in [*group.members.values()]:
            if member.instance is None and member.awaiting_join is None:
                group.remove(member.member_id)
        group.rebalance_deadline = now + group.rebalance_timeout()
        if not group.maybe_elect_new_joined_leader() and group.members:
            return []
        group.init_next_generation(now)
        if not group.members:
            return [Append(self.partition(group.group_id), ((GroupKey(group.group_id), group.stored({})),))]
        return [*group.answer_joins(now)]

    def sync_group(self, to: Hashable, now: int, who: Who, assignments: Assignments = ()) -> Effects:
        """SyncGroup: the answer is the assignment, once the leader has sent everybody's and the log has it."""
        group = self.group(who, now)
        member = group.validate_member(who.member_id, who.instance, who.generation)
        if group.state == states.PREPARING_REBALANCE:
            raise KafkaError(Error.REBALANCE_IN_PROGRESS)
        group.pending_sync_members.pop(who.member_id, None)
        if group.state == states.STABLE:
            member.heartbeat(now)
            return [Respond(to, Error.NONE, member.assignment)]
        member.awaiting_sync = to
        if group.leader != who.member_id:
            return []
        return self.store_group(group, dict(assignments), "on_assignment_stored", assignments)

    def on_assignment_stored(
        self, group: GroupMetadata, error: Error, now: int, batch_offset: int, generation: int, assignments: Assignments
    ) -> Effects:
        """The assignment is replicated: whoever waits gets its own; if the log refused it, a rebalance follows."""
        if group.state != states.COMPLETING_REBALANCE or group.generation != generation:
            return []
        if error is not Error.NONE:
            error = Error.REBALANCE_IN_PROGRESS if error is Error.REQUEST_TIMED_OUT else error
            return [*group.propagate_assignment({}, error, now), *self.rebalance(group, now)]
        group.transition_to(states.STABLE, now)
        return [*group.propagate_assignment(dict(assignments), error, now)]

    def next_deadline(self) -> int | None:
        """The time at which `tick` has something to do, if nothing happens before."""
        return min((deadline for group in self.groups.values() for deadline in group.deadlines()), default=None)

    def tick(self, now: int) -> Effects:
        """Sessions expire, and rebalances go on without those that are late."""
        effects: Effects = []
        for group in [*self.groups.values()]:
            for member_id, deadline in group.session_deadlines().items():
                if now >= deadline and (member_id in group.members or member_id in group.pending_members):
                    effects += self.remove_member(group, member_id, now)
            if not group.is_rebalancing() or now < group.rebalance_deadline:
                continue
            if group.state == states.PREPARING_REBALANCE:
                effects += self.complete_join(group, now)
            else:
                for member_id in [*group.pending_sync_members]:
                    effects += group.remove(member_id)
                effects += self.rebalance(group, now)
        return effects

    # ------------------------------------------------------------ offsets

    def offset_commit(self, to: Hashable, now: int, who: Who, commits: Commits) -> Effects:
        """OffsetCommit: answered, with one error for all partitions, when the offsets are in the log."""
        group = self.group(who, now, unknown=None if who.generation < 0 else Error.ILLEGAL_GENERATION)
        group.validate_offset_commit(who.member_id, who.instance, who.generation, is_txn=False)
        if who.member_id in group.members:
            group.members[who.member_id].heartbeat(now)
        return self.store_offsets(to, now, group, commits, NO_PRODUCER_ID, NO_PRODUCER_EPOCH)

    def txn_offset_commit(self, to: Hashable, now: int, who: Who, commits: Commits, *producer: int) -> Effects:
        """TxnOffsetCommit: answered when the offsets are in the log; they count with the transaction's marker."""
        group = self.group(who, now, unknown=None)
        if self.config.kip_447:
            group.validate_offset_commit(who.member_id, who.instance, who.generation, is_txn=True)
        return self.store_offsets(to, now, group, commits, *producer)

    def store_offsets(
        self, to: Hashable, now: int, group: GroupMetadata, commits: Commits, producer_id: int, epoch: int
    ) -> Effects:
        """The offsets are pending while they are being replicated."""
        commits = tuple((partition, position._replace(commit_timestamp=now)) for partition, position in commits)
        for partition, position in commits:
            group.prepare_offset(producer_id, partition, position)
        records = tuple((GroupKey(group.group_id, partition), position) for partition, position in commits)
        pending = Pending(group.group_id, "on_offsets_stored", (producer_id, commits), to)
        return self.append(records, pending, producer_id, epoch)

    def on_offsets_stored(
        self, group: GroupMetadata, error: Error, now: int, batch_offset: int, producer_id: int, commits: Commits
    ) -> Effects:
        """The offsets count, or await their transaction's marker, or were refused by the log."""
        for partition, position in commits:
            if error is Error.NONE:
                group.on_offset_append(producer_id, partition, states.CommitRecord(batch_offset, position))
            else:
                group.fail_pending_offset(producer_id, partition, position)
        return []

    def complete_transaction(self, partition: int, producer_id: int, marker: str) -> None:
        """A marker, COMMIT or ABORT, is replicated in a partition of __consumer_offsets."""
        for group in self.groups_of(partition):
            group.complete_pending_txn_offsets(producer_id, marker == COMMIT)

    def offset_fetch(self, to: Hashable, now: int, who: Who, partitions: Partitions, require_stable: bool) -> Effects:
        """OffsetFetch: (partition, error, position) of each; offset -1 for none; undecided ones can be refused."""
        self.partition(who.group_id)
        group = self.groups.get(who.group_id) or GroupMetadata(who.group_id, now)
        is_strict = require_stable and self.config.kip_447
        return [Respond(to, Error.NONE, tuple(group.fetch_offset(partition, is_strict) for partition in partitions))]

    def expire_offsets(self, now: int) -> Effects:
        """Forgets, with tombstones, offsets whose retention is over, and groups of which nothing is left."""
        effects: Effects = []
        for group in [*self.groups.values()]:
            expired = group.remove_expired_offsets(now, self.config.offsets_retention)
            keys = [GroupKey(group.group_id, partition) for partition in expired]
            if group.may_delete() and not group.has_offsets():
                group.transition_to(states.DEAD, now)
                effects += self.forget(group)
                keys += [GroupKey(group.group_id)] if group.generation > 0 else []
            if keys:
                effects.append(Append(self.partition(group.group_id), tuple((key, None) for key in keys)))
        return effects

    # ------------------------------------------------------------ the log

    def store_group(self, group: GroupMetadata, assignments: dict[str, Hashable], then: str, *details: Any) -> Effects:
        """The generation is appended; `then` it goes on."""
        record = GroupKey(group.group_id), group.stored(assignments)
        return self.append((record,), Pending(group.group_id, then, (group.generation, *details)))

    def append(self, records: Records, pending: Pending, *producer: int) -> Effects:
        """What is pending goes on when the owner tells, by the token, that the append is done."""
        self.last_token += 1
        self.pending[self.last_token] = pending
        return [Append(self.partition(pending.group_id), records, self.last_token, *producer)]

    def on_appended(self, token: int, error: Error, now: int, batch_offset: int = -1) -> Effects:
        """An append is replicated at its base offset, or has failed; after `unload` nothing waits for it."""
        if (pending := self.pending.pop(token, None)) is None:
            return []
        group, error = self.groups[pending.group_id], APPEND_ERRORS.get(error, error)
        effects: Effects = getattr(self, pending.then)(group, error, now, batch_offset, *pending.details)
        return effects + ([Respond(pending.to, error)] if pending.to is not None else [])

    def load(self, partition: int, batches: Iterable[Batch], leader_epoch: int, now: int) -> None:
        """The broker begins to lead a partition, whose groups are what the log says up to its end, or leads on."""
        self.epochs[partition] = leader_epoch
        for batch in batches:
            if batch.control is not None:
                self.complete_transaction(partition, batch.producer_id, batch.control)
            else:
                self.replay(batch, now)
        for group in self.groups_of(partition):
            if group.generation == 0 and not group.has_offsets() and not group.pending_members:
                del self.groups[group.group_id]

    def replay(self, batch: Batch, now: int) -> None:
        """A batch of the log, once more: of offsets, or of a generation."""
        for _, (group_id, partition), value in cast(Iterable[tuple[int, GroupKey, Any]], batch.records):
            group = self.groups.setdefault(group_id, GroupMetadata(group_id, now))
            if partition is None:
                group.restore(value or states.GroupValue(), now)
            elif value is None:
                group.offsets.pop(partition, None)
            else:
                group.prepare_offset(batch.producer_id, partition, value)
                group.on_offset_append(batch.producer_id, partition, states.CommitRecord(batch.base_offset, value))

    def unload(self, partition: int) -> Effects:
        """The broker leads the partition no longer: whoever waits is to ask the new coordinator."""
        self.epochs.pop(partition, None)
        return [effect for group in self.groups_of(partition) for effect in self.forget(group)]

    def forget(self, group: GroupMetadata) -> Effects:
        """The group is not, or no longer, kept here."""
        del self.groups[group.group_id]
        effects: Effects = [e for member in group.members.values() for e in member.refuse_parked(Error.NOT_COORDINATOR)]
        tokens = [token for token, pending in self.pending.items() if pending.group_id == group.group_id]
        waiting = [self.pending.pop(token).to for token in tokens]
        return effects + [Respond(to, Error.NOT_COORDINATOR) for to in waiting if to is not None]

    def groups_of(self, partition: int) -> list[GroupMetadata]:
        """The groups that a partition keeps."""
        partitions = self.config.partitions
        return [group for name, group in self.groups.items() if partition_for(name, partitions) == partition]

    def partition(self, group_id: str) -> int:
        """The group's partition, which the broker has to lead."""
        partition = partition_for(group_id, self.config.partitions)
        if partition not in self.epochs:
            raise KafkaError(Error.NOT_COORDINATOR, f"of partition {partition}")
        return partition

    def group(self, who: Who, now: int, unknown: Error | None = Error.UNKNOWN_MEMBER_ID) -> GroupMetadata:
        """The group that is asked for; if it is unknown, it is created or refused with the error `unknown`."""
        self.partition(who.group_id)
        if who.group_id not in self.groups:
            if unknown is not None:
                raise KafkaError(unknown, f"group {who.group_id} is unknown")
            self.groups[who.group_id] = GroupMetadata(who.group_id, now)
        return self.groups[who.group_id]
