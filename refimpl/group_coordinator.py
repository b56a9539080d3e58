"""The group coordinator of a broker: it answers for the groups whose partition of __consumer_offsets the broker leads.

Each method takes a request, or what happened, and returns effects: `Respond`, at once or when a parked request is due,
and `Append` to its own replicated log. The owner calls `on_appended` in the order of the log, `complete_transaction`
when a marker is replicated, `tick` when `next_deadline` has come, `expire_offsets` now and then, `load` and `unload`
when it begins and ceases to lead. The assignment, eager or cooperative, is the leader's affair.

Not modelled: the initial rebalance delay (KIP-134), the limit of a new member's first wait, deleting groups, time spent
loading, that who comes back as a leader is told not to assign (KIP-814; what it assigns is ignored). Unlike Kafka's, a
static member's return is not undone if the log refuses it, and who is removed while its SyncGroup is parked gets an
answer.

A request that is refused at once raises KafkaError.

Source: GroupCoordinator, GroupMetadataManager; KIP-62 (timeouts), KIP-98, KIP-345, KIP-394, KIP-447, KIP-814.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, cast

from hwmark.refimpl import group_metadata as states
from hwmark.refimpl.batches import COMMIT, NOBODY, Batch, Producer, TopicPartition
from hwmark.refimpl.config import OFFSETS_TOPIC
from hwmark.refimpl.coordinator import APPEND_ERRORS, Append, Coordinator, Respond
from hwmark.refimpl.errors import Error, KafkaError
from hwmark.refimpl.group_metadata import COMPLETING_REBALANCE, PREPARING_REBALANCE, STABLE, GroupMetadata, GroupValue

ConsumerGroupMetadata = states.ConsumerGroupMetadata
Commits = tuple[tuple[TopicPartition, states.OffsetAndMetadata], ...]
Partitions = tuple[TopicPartition, ...]
Assignments = tuple[tuple[str, Hashable], ...]  # by member id
CLEANUP_INTERVAL = 600_000  # ms between looks for expired offsets
SESSION_TIMEOUT_MAX = 1_800_000  # group.max.session.timeout.ms


class GroupKey(NamedTuple):
    """A record's key in the log: for a partition's OffsetAndMetadata, or without one for the GroupValue."""

    group_id: str
    partition: TopicPartition | None = None


Who = ConsumerGroupMetadata
Effects = list[Respond | Append]


@dataclass(slots=True)
class GroupCoordinator(Coordinator):
    """The groups of the partitions that a broker leads; `to` is whatever tells the owner whom to answer."""

    topic: ClassVar[str] = OFFSETS_TOPIC
    groups: dict[str, GroupMetadata] = field(default_factory=dict, init=False)
    last_member: int = field(default=0, init=False)
    cleanup_at: int = field(default=CLEANUP_INTERVAL, init=False)

    # ------------------------------------------------------------ members

    def join_group(
        self, to: Hashable, now: int, who: Who, protocols: states.Protocols, session: int, rebalance: int
    ) -> Effects:
        """JoinGroup: parked until all members have joined or the rebalance timeout is over (JoinGroupResponse).

        Who is new has to come back with the id that it is given (KIP-394), but for an instance.
        """
        if not self.config.group_session_timeout_min <= session <= SESSION_TIMEOUT_MAX:
            raise KafkaError(Error.INVALID_SESSION_TIMEOUT, str(session))
        group = self.group(who, now, unknown=Error.UNKNOWN_MEMBER_ID if who.member_id else None)
        if not group.supports_protocols(states.CONSUMER, [name for name, _ in protocols]):
            raise KafkaError(Error.INCONSISTENT_GROUP_PROTOCOL)
        member_id = who.member_id or self.new_member_id(who)
        joining = states.Member(member_id, who.instance, session, rebalance, states.CONSUMER, protocols, to)
        if who.member_id and who.member_id not in group.pending_members:
            return self.join_again(group, group.validate_member(who, knows_generation=False), joining, now)
        if not who.member_id and who.instance in group.static_members:
            return self.restart_static_member(group, joining, now)
        if not who.member_id and who.instance is None:
            group.pending_members[member_id] = now + session
            return [Respond(to, Error.MEMBER_ID_REQUIRED, states.JoinGroupResponse(member_id))]
        return self.rebalance(group, now, joining)

    def new_member_id(self, who: Who) -> str:
        """An id that no other has had: it counts within the coordinator's epoch."""
        self.last_member += 1
        return f"{who.instance or 'member'}-{self.epochs[self.partition(who.group_id)]}-{self.last_member}"

    def join_again(self, group: GroupMetadata, member: states.Member, joining: states.Member, now: int) -> Effects:
        """A member missed its answer, or asks for a rebalance: as the leader, or with other metadata."""
        is_follower = group.state == STABLE and group.leader != member.member_id
        if (is_follower or group.state == COMPLETING_REBALANCE) and member.protocols == joining.protocols:
            return [*joining.answer(Error.NONE, group.join_response(member.member_id))]
        return self.rebalance(group, now, joining)

    def restart_static_member(self, group: GroupMetadata, joining: states.Member, now: int) -> Effects:
        """An instance is back: no rebalance while the group is stable and its protocol stays (KIP-345)."""
        effects: Effects = [*group.replace_static_member(group.static_members[joining.instance], joining.member_id)]
        if group.state == STABLE:
            group.join(joining)
        if group.state != STABLE or group.select_protocol() != group.protocol:
            return effects + self.rebalance(group, now, joining)
        return [*effects, self.store_group(group, {id: one.assignment for id, one in group.members.items()})]

    def leave_group(self, to: Hashable, now: int, who: Who) -> Effects:
        """LeaveGroup; an administrator names the instance alone."""
        group = self.group(who, now)
        who = who._replace(member_id=who.member_id or group.static_members.get(who.instance, states.UNKNOWN_MEMBER))
        if who.member_id not in group.pending_members:
            group.validate_member(who, knows_generation=False)
        return [*self.remove_members(group, [who.member_id], now), Respond(to)]

    def remove_members(self, group: GroupMetadata, member_ids: list[str], now: int) -> Effects:
        """Some are gone, and the others share their partitions; who had not joined yet had none."""
        is_ignored = group.state != PREPARING_REBALANCE and group.pending_members.keys() >= {*member_ids}
        effects: Effects = [effect for member_id in member_ids for effect in group.remove(member_id)]
        return effects if is_ignored else effects + self.rebalance(group, now)

    def heartbeat(self, to: Hashable, now: int, who: Who) -> Effects:
        """Heartbeat: the member is alive, and learns that it has to join again."""
        group = self.group(who, now)
        group.validate_member(who).heartbeat(now)
        return [Respond(to, Error.REBALANCE_IN_PROGRESS if group.state == PREPARING_REBALANCE else Error.NONE)]

    # ------------------------------------------------------------ rebalances

    def rebalance(self, group: GroupMetadata, now: int, joining: states.Member | None = None) -> Effects:
        """A rebalance begins, unless there is one; once everybody has joined, the next generation does.

        Who waits for an assignment has to join again.
        """
        effects: Effects = []
        if group.state == COMPLETING_REBALANCE:
            effects += group.propagate_assignment({}, Error.REBALANCE_IN_PROGRESS, now)
        if joining is not None:
            group.join(joining)
        if group.state in states.VALID_PREVIOUS_STATES[PREPARING_REBALANCE]:
            group.rebalance_deadline = now + group.rebalance_timeout()
            group.transition_to(PREPARING_REBALANCE, now)
        return effects + self.complete_join(group, now) if group.has_all_members_joined() else effects

    def complete_join(self, group: GroupMetadata, now: int) -> Effects:
        """Who has joined, and static members, are the new generation: joins are answered, SyncGroups expected."""
        for member in [*group.members.values()]:
            if member.instance is None and member.parked is None:
                group.remove(member.member_id)
        group.rebalance_deadline = now + group.rebalance_timeout()
        if not group.maybe_elect_new_joined_leader() and group.members:
            return []
        group.init_next_generation(now)
        group.pending_sync_members = dict.fromkeys(group.members)
        return [*group.answer_joins(group.members, Error.NONE, now)] or [self.store_group(group, {})]

    def sync_group(self, to: Hashable, now: int, who: Who, assignments: Assignments = ()) -> Effects:
        """SyncGroup: the answer is the assignment, once the leader has sent everybody's and the log has it."""
        group = self.group(who, now)
        member = group.validate_member(who)
        if group.state == PREPARING_REBALANCE:
            raise KafkaError(Error.REBALANCE_IN_PROGRESS)
        group.pending_sync_members.pop(who.member_id, None)
        if group.state == STABLE:
            member.heartbeat(now)
            return [Respond(to, Error.NONE, member.assignment)]
        member.parked = to
        return [self.store_group(group, dict(assignments))] if group.leader == who.member_id else []

    def next_deadline(self) -> int | None:
        """The time at which `tick` has something to do, if nothing happens before."""
        deadlines = [deadline for group in self.groups.values() for deadline, _ in group.deadlines()]
        return min([self.cleanup_at, *deadlines]) if self.groups else None

    def tick(self, now: int) -> Effects:
        """Sessions expire, and rebalances go on without those that are late; old offsets are forgotten."""
        effects: Effects = []
        if self.cleanup_at <= now:
            self.cleanup_at = now + CLEANUP_INTERVAL
            effects += self.expire_offsets(now)
        for group in [*self.groups.values()]:
            late = [member_id for deadline, member_id in group.deadlines() if deadline <= now and member_id]
            if late:
                effects += self.remove_members(group, late, now)
            if group.state == PREPARING_REBALANCE and group.rebalance_deadline <= now:
                effects += self.complete_join(group, now)
        return effects

    # ------------------------------------------------------------ offsets

    def offset_commit(self, to: Hashable, now: int, who: Who, commits: Commits, producer: Producer = NOBODY) -> Effects:
        """OffsetCommit: answered, with one error for all partitions, when the offsets are in the log.

        With a producer it is a TxnOffsetCommit, whose offsets count with the transaction's marker.
        """
        is_txn = producer != NOBODY
        group = self.group(who, now, unknown=None if is_txn or who.generation < 0 else Error.ILLEGAL_GENERATION)
        if self.config.kip_447 or not is_txn:
            group.validate_offset_commit(who, is_txn)
        if who.member_id in group.members and not is_txn:
            group.members[who.member_id].heartbeat(now)
        if not commits:
            return [Respond(to)]
        commits = tuple((partition, position._replace(commit_timestamp=now)) for partition, position in commits)
        for partition, position in commits:
            group.prepare_offset(producer.producer_id, partition, position)
        records = tuple((GroupKey(group.group_id, partition), position) for partition, position in commits)
        return [self.append(group.group_id, records, to, producer)]

    def complete_transaction(self, partition: int, producer_id: int, marker: str) -> None:
        """A marker, COMMIT or ABORT, is replicated in a partition of __consumer_offsets."""
        for group in self.groups_of(partition):
            group.complete_pending_txn_offsets(producer_id, marker == COMMIT)

    def offset_fetch(self, to: Hashable, now: int, who: Who, partitions: Partitions, require_stable: bool) -> Effects:
        """OffsetFetch: (partition, error, position) of each; offset -1 for none; undecided ones can be refused."""
        self.check_coordinator(who.group_id)
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
                del self.groups[group.group_id]
                keys += [GroupKey(group.group_id)] if group.generation > 0 else []
            if keys:
                effects.append(self.append(group.group_id, tuple((key, None) for key in keys)))
        return effects

    # ------------------------------------------------------------ the log

    def store_group(self, group: GroupMetadata, assignments: dict[str, Hashable]) -> Append:
        """Append the generation with its members' assignments."""
        return self.append(group.group_id, ((GroupKey(group.group_id), group.stored(assignments)),))

    def on_appended(self, append: Append, error: Error, base_offset: int, now: int) -> Effects:
        """An append is replicated at its base offset, or has failed (-1); after `unload` only its request waits."""
        key, value = append.records[0]
        group, error = self.groups.get(key.group_id), APPEND_ERRORS.get(error, error)
        if group is None or self.epochs.get(append.topic_partition[1]) != append.leader_epoch:
            return [*append.answer(Error.NOT_COORDINATOR)]
        if isinstance(value, GroupValue) and value.generation == group.generation:
            return self.on_group_stored(group, value, error, now)
        for (_, partition), position in append.records if isinstance(value, states.OffsetAndMetadata) else ():
            group.on_offset_append(append.producer.producer_id, partition, states.CommitRecord(base_offset, position))
        return [*append.answer(error)]

    def on_group_stored(self, group: GroupMetadata, value: GroupValue, error: Error, now: int) -> Effects:
        """Whoever waits for the assignment gets its own; if the log refused it, a rebalance follows.

        In a stable group it was for an instance that is back: it goes on, and leads if it led (KIP-814).
        """
        if group.state == STABLE:
            return [*group.answer_joins([member.member_id for member in value.members], error, now)]
        if group.state != COMPLETING_REBALANCE:
            return []
        if error is not Error.NONE:
            return [*group.propagate_assignment({}, error, now), *self.rebalance(group, now)]
        group.transition_to(STABLE, now)
        return [*group.propagate_assignment({m.member_id: m.assignment for m in value.members}, error, now)]

    def load(self, partition: int, batches: Iterable[Batch], leader_epoch: int, now: int) -> Effects:
        """The broker begins to lead a partition, whose groups are what the log says up to its end."""
        self.epochs[partition] = leader_epoch
        for batch in batches:
            if batch.control is not None:
                self.complete_transaction(partition, batch.producer_id, batch.control)
            else:
                self.replay(batch, now)
        return []

    def replay(self, batch: Batch, now: int) -> None:
        """A batch of the log, once more: of offsets, or of a generation."""
        for _, (group_id, partition), value in cast(Iterable[tuple[int, GroupKey, Any]], batch.records):
            group = self.groups.setdefault(group_id, GroupMetadata(group_id, now))
            if partition is None and value is None:
                del self.groups[group_id]
            elif partition is None:
                group.restore(value, now)
            elif value is None:
                group.offsets.pop(partition, None)
            else:
                group.prepare_offset(batch.producer_id, partition, value)
                group.on_offset_append(batch.producer_id, partition, states.CommitRecord(batch.base_offset, value))

    def unload(self, partition: int) -> Effects:
        """The broker leads the partition no longer: whoever waits is to ask the new coordinator."""
        self.epochs.pop(partition, None)
        members = [one for group in self.groups_of(partition) for one in group.members.values()]
        self.groups = {id: group for id, group in self.groups.items() if self.partition(id) != partition}
        return [effect for one in members for effect in one.answer(Error.NOT_COORDINATOR)]

    def groups_of(self, partition: int) -> list[GroupMetadata]:
        """The groups that a partition keeps."""
        return [group for group_id, group in self.groups.items() if self.partition(group_id) == partition]

    def group(self, who: Who, now: int, unknown: Error | None = Error.UNKNOWN_MEMBER_ID) -> GroupMetadata:
        """The group that is asked for; if it is unknown, it is created or refused with the error `unknown`."""
        self.check_coordinator(who.group_id)
        if who.group_id not in self.groups and unknown is not None:
            raise KafkaError(unknown, f"group {who.group_id} is unknown")
        return self.groups.setdefault(who.group_id, GroupMetadata(who.group_id, now))
