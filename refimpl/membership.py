"""A consumer's place in its group: joining, heartbeats, rebalances and commits.

As in Kafka, the application's Polls drive a rebalance, and only in a Poll partitions come and go; heartbeats, and
leaving the group when no Poll came for max.poll.interval.ms, go on without. A partition's owner gives it up before it
joins again (eager), or only once it learns that it moves (cooperative, KIP-429), and then joins once more.

`who` the member is, by id and generation, tells it apart from what it was: answers to that no longer count.
Unlike in Kafka, whoever subscribes to other topics leaves first, a cooperative member commits nothing before a
rebalance, and after an error that nobody expects the coordinator is looked up again, which is the backoff.
Not modelled: patterns, racks, the session timer (a lost coordinator is noticed when a request expires), JoinGroup's own
timeout. Source: AbstractCoordinator, ConsumerCoordinator; KIP-62, KIP-320, KIP-345, KIP-394, KIP-447.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from hwmark.refimpl import requests as rpc
from hwmark.refimpl.assignors import ASSIGNORS, Assignment, Subscription
from hwmark.refimpl.batches import TopicPartition
from hwmark.refimpl.errors import Error
from hwmark.refimpl.fetcher import FETCHING, Fetcher, Position
from hwmark.refimpl.group_coordinator import Commits, ConsumerGroupMetadata
from hwmark.refimpl.group_metadata import UNKNOWN_MEMBER, JoinGroupResponse, OffsetAndMetadata
from hwmark.refimpl.machine import Asked

REJOIN_NEEDED, PREPARING, COMPLETING = "REJOIN_NEEDED", "PREPARING_REBALANCE", "COMPLETING_REBALANCE"
STABLE = "STABLE"
ASSIGNED, REVOKED, LOST = "assigned", "revoked", "lost"
STICKY, COOPERATIVE_STICKY = "sticky", "cooperative-sticky"
AUTO, FINAL, MEMBER = "auto", "final", "member"  # what asks: a commit by the interval, or before a rebalance

NO_MEMBER = Error.UNKNOWN_MEMBER_ID, Error.ILLEGAL_GENERATION, Error.FENCED_INSTANCE_ID
FATAL = Error.FENCED_INSTANCE_ID, Error.INCONSISTENT_GROUP_PROTOCOL, Error.INVALID_SESSION_TIMEOUT
EXPECTED = Error.NONE, Error.MEMBER_ID_REQUIRED, Error.REBALANCE_IN_PROGRESS, *NO_MEMBER

Rebalance = tuple[str, tuple[TopicPartition, ...]]


@dataclass(slots=True)
class ConsumerCoordinator(Fetcher):
    """The part that is a member; `group_metadata` is what the application knows of `who`, since its last assignment.

    With it a transactional producer commits. After an error in `fatal` the consumer is of no use.
    """

    group_metadata: ConsumerGroupMetadata = field(init=False)
    state: str = REJOIN_NEEDED
    topics: tuple[str, ...] = ()  # subscribed to; none: partitions are assigned by hand
    shared: int | None = None  # as the leader: how many partitions there were to assign
    assignment: tuple[TopicPartition, ...] | None = None  # from SyncGroup, for the next Poll to take
    assigned: tuple[TopicPartition, ...] = ()  # what was taken last
    rebalances: list[Rebalance] = field(default_factory=list)  # for the next Poll to tell
    next_heartbeat: int | None = None  # none while a JoinGroup is parked
    poll_by: int = 0
    next_auto_commit: int = 0
    commits: dict[int | str, tuple[int, Error | None]] = field(default_factory=dict)  # until when, last outcome
    fatal: Error | None = None

    # ------------------------------------------------------------ what calls it

    def heartbeat(self, now: int) -> None:
        """What goes on without a Poll: heartbeats, until no Poll came for too long."""
        if self.next_heartbeat is not None and now >= self.next_heartbeat:
            if now >= self.poll_by:
                self.leave(now)
            elif self._ask(rpc.HeartbeatRequest(self.who), now):
                self.next_heartbeat = min(now + self.config.heartbeat_interval, self.poll_by)
            else:
                self.next_heartbeat = now + self.cluster.retry_backoff

    def poll_group(self, now: int) -> None:
        """What needs a Poll: to take an assignment, to join, to commit by the interval."""
        self.poll_by = now + self.config.max_poll_interval
        if self.assignment is not None:
            self._complete(self.assignment)
        if self.state == STABLE and self.shared not in (None, len(self.client.partitions)):
            self.state = REJOIN_NEEDED
        if self.topics and self.state == REJOIN_NEEDED and self._prepare(now):
            self._join(now)
        interval = self.config.auto_commit_interval
        if interval is not None and (AUTO in self.commits or now >= self.next_auto_commit):
            self.commit(AUTO, self.consumed(), now, interval)
            self.next_auto_commit = now + interval

    def commit(self, number: int | str, offsets: Commits, now: int, timeout: int = 0) -> Error | None:
        """Commit, and for so many ms again where that may help; the outcome, None as long as there is none."""
        until, error = self.commits.get(number) or (now + timeout, self._send_commit(number, offsets, now))
        if error is not None and error.is_retriable and now < until:
            error = self._send_commit(number, offsets, now)
        self.commits[number] = until, error
        if error is None or (error.is_retriable and now < until):
            return None
        del self.commits[number]
        return error

    def commit_finally(self, number: int | str, now: int) -> bool:
        """Commit all, if commits are automatic, before it is too late; whether that is done."""
        is_automatic, timeout = self.config.auto_commit_interval is not None, self.config.api_timeout
        return not is_automatic or self.commit(number, self.consumed(), now, timeout) is not None

    def consumed(self) -> Commits:
        """The positions that may be committed."""
        fetching = [(of, p) for of, p in sorted(self.positions.items()) if p.state == FETCHING]
        return tuple([(of, OffsetAndMetadata(p.offset, p.offset_epoch)) for of, p in fetching])

    def leave(self, now: int) -> None:
        """LeaveGroup, unless the instance is expected back."""
        if self.who.instance is None and self.who.member_id != UNKNOWN_MEMBER:
            self._ask(rpc.LeaveGroupRequest(self.who), now)
        self._reset(UNKNOWN_MEMBER)

    def quit_group(self, now: int) -> None:
        """Give up all partitions, and leave; for another subscription the group is joined anew."""
        if self.topics:
            self._give_up(self.positions)
        self.leave(now)

    def handle_group(self, asked: Asked, response: Any, error: Error, now: int) -> None:
        """The coordinator's answer; if it says so, the generation, the membership or the consumer is at an end."""
        if asked.context in self.commits:
            self.commits[asked.context] = self.commits[asked.context][0], error
        if error not in EXPECTED:
            self.client.coordinators.clear()
            self.next_heartbeat = self.next_heartbeat and now
        if asked.body.who != self.who:
            return
        is_joining = isinstance(asked.body, rpc.JoinGroupRequest | rpc.SyncGroupRequest)
        if error in NO_MEMBER or error in FATAL:
            self.fatal = error if error in FATAL else self.fatal
            self._reset(self.who.member_id if error is Error.ILLEGAL_GENERATION else UNKNOWN_MEMBER)
        elif isinstance(asked.body, rpc.JoinGroupRequest) and error in (Error.NONE, Error.MEMBER_ID_REQUIRED):
            self._joined(response.value, now)
        elif isinstance(asked.body, rpc.SyncGroupRequest) and error is Error.NONE:
            self.state, self.assignment = STABLE, response.value
        elif is_joining or (error is Error.REBALANCE_IN_PROGRESS and self.state == STABLE):
            self.state = REJOIN_NEEDED

    # ------------------------------------------------------------ rebalances

    def _ask(self, body: Any, now: int, context: int | str = MEMBER) -> bool:
        """Ask the coordinator, if it is known."""
        broker_id = self.client.coordinator(self.who.group_id, False, now)
        if broker_id is not None:
            self.client.ask(broker_id, body, context, now)
        return broker_id is not None

    def _reset(self, member_id: str) -> None:
        """The generation is lost, and the member id with it unless only the generation is wrong."""
        self.who = self.who._replace(generation=-1, member_id=member_id)
        self.state, self.assignment, self.next_heartbeat = REJOIN_NEEDED, None, None

    def _prepare(self, now: int) -> bool:
        """Before the group is joined: commit, then give up what others may get; whether that is done."""
        is_cooperative = self.cluster.kip_429 and {*self.config.assignors} == {COOPERATIVE_STICKY}
        if is_cooperative and self.who.generation >= 0:
            return True
        if is_done := self.commit_finally(FINAL, now):
            self._give_up(self.positions)
        return is_done

    def _give_up(self, partitions: Iterable[TopicPartition]) -> None:
        """They are lost already unless this is a member still."""
        if given_up := tuple(sorted(partitions)):
            self.rebalances.append((REVOKED if self.who.generation >= 0 else LOST, given_up))
        for partition in given_up:
            del self.positions[partition]

    def _join(self, now: int) -> None:
        """JoinGroup; the sticky assignor remembers what it gave, though it is given up by now."""
        if not all(self.client.partitions_of(topic, now) for topic in self.topics):
            return
        owned, generation = tuple(sorted(self.positions)), self.group_metadata.generation
        protocols = tuple(
            (name, Subscription(self.topics, self.assigned if name == STICKY else owned, generation, self.who.instance))
            for name in self.config.assignors
        )
        timeouts = self.config.session_timeout, self.config.max_poll_interval
        if self._ask(rpc.JoinGroupRequest(self.who, protocols, *timeouts), now):
            self.state, self.next_heartbeat = PREPARING, None

    def _joined(self, joined: JoinGroupResponse, now: int) -> None:
        """The group has a new generation, or the member an id to join with (KIP-394); the leader shares the partitions.

        Of a static leader that is back nobody takes that (KIP-814).
        """
        self.who = self.who._replace(generation=joined.generation, member_id=joined.member_id)
        self.state, self.shared, assignments = REJOIN_NEEDED, None, Assignment()
        if joined.generation < 0:
            return
        self.next_heartbeat = now + self.config.heartbeat_interval
        if joined.leader == joined.member_id:
            self.shared = len(self.client.partitions)
            topics, members = Counter(topic for topic, _ in self.client.partitions), dict[str, Any](joined.members)
            assignments = ASSIGNORS[str(joined.protocol)](topics, members)
        by_member = tuple((member, tuple(sorted(partitions))) for member, partitions in assignments.items())
        if self._ask(rpc.SyncGroupRequest(self.who, by_member), now):
            self.state = COMPLETING

    def _complete(self, assigned: tuple[TopicPartition, ...]) -> None:
        """Take the assignment; what it no longer has is given up for the next one."""
        self.assignment, self.assigned, self.group_metadata = None, assigned, self.who
        if revoked := self.positions.keys() - {*assigned}:
            self.state = REJOIN_NEEDED
        self._give_up(revoked)
        added = tuple(partition for partition in assigned if partition not in self.positions)
        self.positions.update((partition, Position()) for partition in added)
        self.rebalances.append((ASSIGNED, added))

    def _send_commit(self, number: int | str, offsets: Commits, now: int) -> Error | None:
        """The outcome, if there is no need or no way to ask: only a member of a stable generation may, or no member."""
        if self.fatal or self.config.group_id is None:
            return self.fatal or Error.INVALID_GROUP_ID
        if self.topics and self.who.generation < 0:
            return Error.UNKNOWN_MEMBER_ID
        if self.topics and self.state in (PREPARING, COMPLETING):
            return Error.REBALANCE_IN_PROGRESS
        if not offsets:
            return Error.NONE
        is_sent = self._ask(rpc.OffsetCommitRequest(self.who, offsets), now, number)
        return None if is_sent else Error.COORDINATOR_NOT_AVAILABLE
