"""A consumer's place in its group: joining, heartbeats, rebalances and commits.

As in Kafka, the application's Polls drive a rebalance, and only in a Poll partitions come and go; heartbeats, and
leaving the group when no Poll came for max.poll.interval.ms, go on without. A partition's owner gives it up before it
joins again (eager), or only once it learns that it moves (cooperative, KIP-429), and then joins once more.
Not modelled: patterns, the session timer (a lost coordinator is noticed when a request expires), JoinGroup's own
timeout. Source: AbstractCoordinator, ConsumerCoordinator; KIP-62, KIP-320, KIP-345, KIP-394, KIP-447.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hwmark.refimpl import requests as rpc
from hwmark.refimpl.assignors import ASSIGNORS, Subscription
from hwmark.refimpl.batches import TopicPartition
from hwmark.refimpl.client import Client
from hwmark.refimpl.errors import Error
from hwmark.refimpl.fetcher import FETCHING, INITIALIZING, ConsumerConfig, Position, Positions
from hwmark.refimpl.group_coordinator import Assignments, Commits, ConsumerGroupMetadata
from hwmark.refimpl.group_metadata import UNKNOWN_MEMBER, FetchedOffset, JoinGroupResponse, OffsetAndMetadata
from hwmark.refimpl.machine import Asked, Return, earliest

UNJOINED, PREPARING, COMPLETING, STABLE = "UNJOINED", "PREPARING_REBALANCE", "COMPLETING_REBALANCE", "STABLE"
NEEDED, COMMITTING, COMMITTED, DONE = "NEEDED", "COMMITTING", "COMMITTED", "DONE"  # of what precedes a JoinGroup
SYNC, ASYNC, AUTO, FINAL = "SYNC", "ASYNC", "AUTO", "FINAL"  # commits; the last before partitions are given up
ASSIGNED, REVOKED, LOST = "assigned", "revoked", "lost"
STICKY, COOPERATIVE_STICKY = "sticky", "cooperative-sticky"

NO_COORDINATOR = Error.COORDINATOR_NOT_AVAILABLE, Error.NOT_COORDINATOR, Error.REQUEST_TIMED_OUT
NO_MEMBER = Error.UNKNOWN_MEMBER_ID, Error.ILLEGAL_GENERATION, Error.FENCED_INSTANCE_ID
FATAL = Error.FENCED_INSTANCE_ID, Error.INCONSISTENT_GROUP_PROTOCOL, Error.INVALID_SESSION_TIMEOUT
NO_DELAY = Error.NONE, Error.MEMBER_ID_REQUIRED, Error.REBALANCE_IN_PROGRESS

Rebalance = tuple[str, tuple[TopicPartition, ...]]


class Commit(NamedTuple):
    """Offsets to commit, for a call of that number if there is one."""

    kind: str
    offsets: Commits
    deadline: int
    number: int = 0


class Membership(NamedTuple):
    """What the member was assigned last, and in which generation."""

    generation: int
    assignment: tuple[TopicPartition, ...]


@dataclass(slots=True)
class ConsumerCoordinator:
    """The member; `group_metadata` is what the application knows of `who`, since its last assignment."""

    client: Client
    config: ConsumerConfig
    positions: Positions
    who: ConsumerGroupMetadata
    group_metadata: ConsumerGroupMetadata
    topics: tuple[str, ...] = ()  # subscribed to; none: partitions are assigned by hand
    joined_topics: tuple[str, ...] = ()
    state: str = UNJOINED
    preparation: str = NEEDED
    wants_rejoin: bool = True
    known_partitions: int | None = None  # while leading: how many there were to assign
    awaits: int = 0  # correlation id of the JoinGroup or SyncGroup that is under way
    retry_at: int = 0  # no JoinGroup, OffsetCommit or OffsetFetch before
    assignment: tuple[TopicPartition, ...] | None = None  # from SyncGroup, for the next Poll to take
    membership: Membership | None = None
    rebalances: list[Rebalance] = field(default_factory=list)  # for the next Poll to tell
    next_heartbeat: int = 0
    poll_by: int = 0
    next_auto_commit: int | None = None
    waiting: list[Commit] = field(default_factory=list)
    open_commits: int = 0
    is_blocked: bool = False  # by a CommitSync
    returns: list[Return] = field(default_factory=list)
    fatal: Error | None = None

    # ------------------------------------------------------------ what calls it

    def step(self, now: int) -> None:
        """What goes on without a Poll: heartbeats, commits that wait for a coordinator."""
        if self.state in (COMPLETING, STABLE) and now >= min(self.next_heartbeat, self.poll_by):
            if now >= self.poll_by:
                self.leave(now)
            else:
                is_sent = self._ask(rpc.HeartbeatRequest(self.who), now)
                self.next_heartbeat = now + (self.config.heartbeat_interval if is_sent else self._backoff)
        self.retry_at = self.retry_at if now < self.retry_at else 0
        waiting, self.waiting = self.waiting, []
        for commit in waiting:
            self._send(commit, now)

    def poll(self, now: int) -> None:
        """What needs a Poll: to take an assignment, to join, to commit by the interval, to find where to begin."""
        self.poll_by = now + self.config.max_poll_interval
        if self.assignment is not None:
            self._complete(self.assignment, now)
        if self._needs_rejoin() and not self.awaits and self._prepare(now):
            self._join(now)
        if (interval := self.config.auto_commit_interval) is not None:
            if self.next_auto_commit is not None and now >= self.next_auto_commit:
                self.commit(AUTO, self.consumed(), now)
                self.next_auto_commit = None
            self.next_auto_commit = self.next_auto_commit or now + interval
        self._fetch_offsets(now)

    def deadline(self, is_polling: bool) -> int | None:
        """When something is due."""
        times = [self.retry_at or None, *[commit.deadline for commit in self.waiting]]
        if self.state in (COMPLETING, STABLE):
            times += [self.next_heartbeat, self.poll_by]
        return earliest(*times, self.next_auto_commit if is_polling else None)

    def consumed(self) -> Commits:
        """The positions that may be committed."""
        fetching = [(of, p) for of, p in sorted(self.positions.items()) if p.state == FETCHING]
        return tuple((of, OffsetAndMetadata(p.offset, p.offset_epoch)) for of, p in fetching)

    def leave(self, now: int) -> None:
        """LeaveGroup, unless the instance is expected back."""
        if self.who.instance is None and self.state != UNJOINED and self.who.member_id != UNKNOWN_MEMBER:
            self._ask(rpc.LeaveGroupRequest(self.who), now)
        self._reset(Error.UNKNOWN_MEMBER_ID)

    def close(self, now: int) -> None:
        """Give up all partitions, and leave."""
        is_member = self.who.generation >= 0 and self.state == STABLE
        if self.topics:
            self._give_up(REVOKED if is_member else LOST, tuple(sorted(self.positions)))
        self.leave(now)

    def handle(self, asked: Asked, response: Any, now: int) -> None:
        """The coordinator's answer, None if there was none."""
        error = self._error(asked, response, now)
        if isinstance(asked.body, rpc.OffsetCommitRequest):
            if error.is_retriable and asked.context.kind in (SYNC, FINAL):
                self.waiting.append(asked.context)
            else:
                self._finish(asked.context, error, now)
        elif isinstance(asked.body, rpc.OffsetFetchRequest):
            self._initialize(asked, response.value if error is Error.NONE else (), now)
        elif isinstance(asked.body, rpc.HeartbeatRequest) and error.is_retriable:
            self.next_heartbeat = now + self._backoff
        elif asked.context == self.awaits:
            self.awaits = 0
            if isinstance(asked.body, rpc.JoinGroupRequest):
                self._joined(error, response and response.value, now)
            elif error is Error.NONE:
                self.state, self.wants_rejoin, self.assignment = STABLE, False, response.value

    # ------------------------------------------------------------ membership

    @property
    def _backoff(self) -> int:
        return self.client.config.retry_backoff

    @property
    def is_cooperative(self) -> bool:
        """Whether all assignors let members keep their partitions in a rebalance."""
        return self.client.config.kip_429 and {*self.config.assignors} == {COOPERATIVE_STICKY}

    @property
    def is_revoking(self) -> bool:
        """Whether the partitions are about to be given up, so that no more may be read."""
        return self.preparation == COMMITTING and not self.is_cooperative

    def _error(self, asked: Asked, response: Any, now: int) -> Error:
        """What the answer is; if it says so, the coordinator, the membership or the consumer is at an end."""
        error: Error = response.error if response is not None else Error.REQUEST_TIMED_OUT
        if error in NO_COORDINATOR:
            self.client.forget_coordinator(asked.body.who.group_id, False)
        elif error is Error.REBALANCE_IN_PROGRESS:
            self.wants_rejoin = True
        elif error in (*NO_MEMBER, *FATAL) and asked.body.who == self.who:
            self.fatal = error if error in FATAL else self.fatal
            self._reset(error)
        if error not in NO_DELAY:
            self.retry_at = now + self._backoff
        return error

    def _ask(self, body: Any, now: int, context: Any = None) -> bool:
        """Ask the coordinator, if it is known; the context is the request's id if there is no other."""
        broker_id = self.client.coordinator(self.who.group_id, False, now)
        if broker_id is not None:
            self.client.ask(broker_id, body, context or self.client.outbox.last + 1, now)
        return broker_id is not None

    def _reset(self, error: Error) -> None:
        """The generation is lost, and the member id with it unless only the generation is wrong."""
        member_id = self.who.member_id if error is Error.ILLEGAL_GENERATION else UNKNOWN_MEMBER
        self.who = self.who._replace(generation=-1, member_id=member_id)
        self.state, self.wants_rejoin, self.awaits, self.assignment = UNJOINED, True, 0, None
        if self.preparation == DONE:
            self.preparation = NEEDED

    def _needs_rejoin(self) -> bool:
        """Whether the group has to share partitions anew: others say so, or topics or partitions are new."""
        is_new = self.known_partitions not in (None, len(self.client.partitions))
        return bool(self.topics) and (self.wants_rejoin or is_new or self.joined_topics != self.topics)

    def _prepare(self, now: int) -> bool:
        """Before the group is joined: commit, then give up what others may get; whether that is done."""
        if self.preparation == NEEDED:
            self.preparation = COMMITTING if self.config.auto_commit_interval is not None else COMMITTED
            if self.preparation == COMMITTING:
                self.commit(FINAL, self.consumed(), now)
        if self.preparation == COMMITTED:
            self.preparation, owned = DONE, tuple(sorted(self.positions))
            if self.who.generation < 0:
                self._give_up(LOST, owned)
            else:
                unwanted = tuple(partition for partition in owned if partition[0] not in self.topics)
                self._give_up(REVOKED, unwanted if self.is_cooperative else owned)
        return self.preparation == DONE

    def _give_up(self, how: str, partitions: tuple[TopicPartition, ...]) -> None:
        for partition in partitions:
            del self.positions[partition]
        if partitions:
            self.rebalances.append((how, partitions))

    def _join(self, now: int) -> None:
        known = {topic for topic, _ in self.client.partitions}
        if any(topic not in known for topic in self.topics):
            self.client.refresh(now)
        elif not self.retry_at:
            protocols = tuple((name, self._subscription(name)) for name in self.config.assignors)
            timeouts = self.config.session_timeout, self.config.max_poll_interval
            if self._ask(rpc.JoinGroupRequest(self.who, protocols, *timeouts), now):
                self.awaits, self.state, self.joined_topics = self.client.outbox.last, PREPARING, self.topics
                self.known_partitions = None

    def _subscription(self, assignor: str) -> Subscription:
        """What the leader is told; the sticky assignor remembers what it gave, though it is given up by now."""
        owned, generation = tuple(sorted(self.positions)), self.who.generation
        if assignor == STICKY and self.membership is not None:
            generation, owned = self.membership
        return Subscription(self.topics, owned, generation, self.config.instance, self.config.rack)

    def _joined(self, error: Error, joined: JoinGroupResponse | None, now: int) -> None:
        """The group has a new generation, or the member an id to join with (KIP-394)."""
        if joined is None or error not in (Error.NONE, Error.MEMBER_ID_REQUIRED):
            return
        self.who = self.who._replace(generation=joined.generation, member_id=joined.member_id)
        if error is Error.NONE:
            self.state, self.next_heartbeat = COMPLETING, now + self.config.heartbeat_interval
            assignments = self._assign(joined) if joined.leader == joined.member_id else ()
            if self._ask(rpc.SyncGroupRequest(self.who, assignments), now):
                self.awaits = self.client.outbox.last

    def _assign(self, joined: JoinGroupResponse) -> Assignments:
        """As the leader, share the partitions; of a static one that is back nobody takes that (KIP-814)."""
        self.known_partitions = len(self.client.partitions)
        members: dict[str, Any] = dict(joined.members)
        shared = ASSIGNORS[str(joined.protocol)](Counter(topic for topic, _ in self.client.partitions), members)
        return tuple((member, tuple(sorted(partitions))) for member, partitions in shared.items())

    def _complete(self, assigned: tuple[TopicPartition, ...], now: int) -> None:
        """Take the assignment; what it no longer has is given up for the next one."""
        self.assignment, self.preparation, self.group_metadata = None, NEEDED, self.who
        self.membership = Membership(self.who.generation, assigned)
        if any(topic not in self.topics for topic, _ in assigned):
            self.wants_rejoin = True
            return
        revoked = tuple(sorted(partition for partition in self.positions if partition not in assigned))
        self.wants_rejoin = self.wants_rejoin or bool(revoked)
        self._give_up(REVOKED, revoked)
        added = tuple(partition for partition in assigned if partition not in self.positions)
        self.positions.update((partition, Position()) for partition in added)
        self.rebalances.append((ASSIGNED, added))

    # ------------------------------------------------------------ offsets

    def commit(self, kind: str, offsets: Commits, now: int, number: int = 0) -> None:
        """Commit; a Return tells the caller, if there is one."""
        self.open_commits += 1
        self.is_blocked = self.is_blocked or kind == SYNC
        self._send(Commit(kind, offsets, now + self.config.api_timeout, number), now)

    def _send(self, commit: Commit, now: int) -> None:
        error = self._may_commit()
        if error is Error.NONE and now >= commit.deadline:
            error = Error.REQUEST_TIMED_OUT
        who = self.who if self.topics else ConsumerGroupMetadata(self.who.group_id)
        if error is not Error.NONE or not commit.offsets:
            self._finish(commit, error, now)
        elif self.retry_at or not self._ask(rpc.OffsetCommitRequest(who, commit.offsets), now, commit):
            self.waiting.append(commit)

    def _may_commit(self) -> Error:
        """Only a member of a stable generation may, or who needs none."""
        if self.fatal or self.config.group_id is None:
            return self.fatal or Error.INVALID_GROUP_ID
        if not self.topics or self.state == STABLE:
            return Error.NONE
        return Error.UNKNOWN_MEMBER_ID if self.state == UNJOINED else Error.REBALANCE_IN_PROGRESS

    def _finish(self, commit: Commit, error: Error, now: int) -> None:
        self.open_commits -= 1
        if commit.kind in (SYNC, ASYNC):
            self.returns.append(Return(commit.number, rpc.Response(error)))
            self.is_blocked = self.is_blocked and commit.kind != SYNC
        elif commit.kind == FINAL:
            self.preparation = COMMITTED
        elif commit.kind == AUTO and error.is_retriable:
            self.next_auto_commit = now + self._backoff

    def _fetch_offsets(self, now: int) -> None:
        """Ask where the group was, for partitions that have no position yet."""
        wanted = [of for of, p in self.positions.items() if p.state == INITIALIZING and not (p.awaits or p.retry_at)]
        is_stable = self.client.config.kip_447 and self.config.is_read_committed
        request = rpc.OffsetFetchRequest(self.who, tuple(wanted), is_stable)
        if wanted and self.config.group_id is not None and not self.retry_at and self._ask(request, now):
            for partition in wanted:
                self.positions[partition].awaits = self.client.outbox.last

    def _initialize(self, asked: Asked, found: Iterable[FetchedOffset], now: int) -> None:
        """Begin at the committed offsets; ask again for what is undecided (KIP-447), or not found at all."""
        committed = {partition: (error, offset) for partition, error, offset in found}
        for partition, position in self.positions.items():
            if position.awaits == asked.context:
                error, offset = committed.get(partition, (Error.NONE, None))
                position.awaits = 0
                if error is not Error.NONE:
                    self.retry_at = now + self._backoff
                elif offset is not None and offset.offset >= 0:
                    position.seek_unvalidated(offset.offset, offset.leader_epoch)
                elif offset is not None:
                    position.reset(self.config.auto_offset_reset, now + self._backoff)
