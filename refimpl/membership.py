"""A consumer's place in its group: joining, heartbeats, rebalances and commits.

As in Kafka, the application's Polls drive a rebalance, and only in a Poll partitions come and go; heartbeats go on
without. A partition's owner gives it up before it joins again (eager), or only once it learns that it moves
(cooperative, KIP-429), and then joins once more.

`who` the member is, by id and generation, tells it apart from what it was: answers to that no longer count. What the
application commits is of `group_metadata`, the generation of the last assignment, and the coordinator judges it.
Unlike in Kafka, whoever subscribes to other topics leaves first; automatic commits are sent once and not awaited, and a
cooperative member sends none before a rebalance; after an error that nobody expects the coordinator is looked up again,
which is the backoff; only FENCED_INSTANCE_ID is fatal, and after other refusals it goes on trying to join.
Not modelled: patterns, racks, the session timer (a lost coordinator is noticed when a request expires), leaving the
group for want of Polls (only a rebalance notices that), partitions that are added. Source: AbstractCoordinator,
ConsumerCoordinator; KIP-62, KIP-320, KIP-345, KIP-394, KIP-447.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from hwmark.refimpl import requests as rpc
from hwmark.refimpl.assignors import ASSIGNORS, Assignment, Subscription
from hwmark.refimpl.batches import TopicPartition
from hwmark.refimpl.errors import Error
from hwmark.refimpl.fetcher import Fetcher, Position
from hwmark.refimpl.group_coordinator import Commits, ConsumerGroupMetadata
from hwmark.refimpl.group_metadata import UNKNOWN_MEMBER, JoinGroupResponse, OffsetAndMetadata
from hwmark.refimpl.machine import Asked

REJOIN_NEEDED, JOINING, STABLE = "REJOIN_NEEDED", "JOINING", "STABLE"
ASSIGNED, REVOKED, LOST = "assigned", "revoked", "lost"
STICKY, COOPERATIVE_STICKY = "sticky", "cooperative-sticky"
MEMBER = "member"  # what asks, if it is no call

NO_MEMBER = Error.UNKNOWN_MEMBER_ID, Error.ILLEGAL_GENERATION, Error.FENCED_INSTANCE_ID
EXPECTED = Error.NONE, Error.MEMBER_ID_REQUIRED, Error.REBALANCE_IN_PROGRESS, *NO_MEMBER

Rebalance = tuple[str, tuple[TopicPartition, ...]]


@dataclass(slots=True)
class ConsumerCoordinator(Fetcher):
    """The part that is a member; `group_metadata` is what the application knows of `who`, since its last assignment.

    With it a transactional producer commits. With an error in `fatal` the consumer is of no use, or closed.
    """

    group_metadata: ConsumerGroupMetadata = field(init=False)
    state: str = REJOIN_NEEDED
    topics: tuple[str, ...] = ()  # subscribed to; none: partitions are assigned by hand
    assignment: tuple[TopicPartition, ...] | None = None  # from SyncGroup, for the next Poll to take
    rebalances: list[Rebalance] = field(default_factory=list)  # for the next Poll to tell
    next_heartbeat: int | None = None  # none while a JoinGroup is parked
    next_auto_commit: int = 0
    commits: dict[int, Error | None] = field(default_factory=dict)  # last outcome by call
    fatal: Error | None = None

    # ------------------------------------------------------------ what calls it

    def heartbeat(self, now: int) -> None:
        """What goes on without a Poll."""
        if self.next_heartbeat is not None and now >= self.next_heartbeat:
            self._ask(rpc.HeartbeatRequest(self.who), now)
            self.next_heartbeat = now + self.config.heartbeat_interval

    def poll_group(self, now: int) -> None:
        """What needs a Poll: to take an assignment, to join, to commit by the interval."""
        if self.assignment is not None:
            self._complete(self.assignment)
        if self.topics and self.state == REJOIN_NEEDED:
            self._join(now)
        if now >= self.next_auto_commit:
            self.commit_automatically(now)

    def commit(self, number: int, offsets: Commits, is_sync: bool, now: int) -> Error | None:
        """Commit, if it waits until that is done as often as may help; the outcome, None as long as there is none."""
        error = self.commits.get(number)
        if number not in self.commits or (is_sync and error is not None and error.is_retriable):
            request = rpc.OffsetCommitRequest(self.group_metadata, offsets)
            error = None if self._ask(request, now, number) else Error.COORDINATOR_NOT_AVAILABLE
        self.commits[number] = error
        if error is None or (is_sync and error.is_retriable):
            return None
        return self.commits.pop(number)

    def commit_automatically(self, now: int) -> None:
        """Commit what was read, if the application does not."""
        if self.config.auto_commit_interval is not None and (offsets := self.consumed()):
            self.next_auto_commit = now + self.config.auto_commit_interval
            self._ask(rpc.OffsetCommitRequest(self.group_metadata, offsets), now)

    def consumed(self) -> Commits:
        """The positions that may be committed."""
        known = [(of, p) for of, p in sorted(self.positions.items()) if p.offset >= 0]
        return tuple([(of, OffsetAndMetadata(p.offset, p.offset_epoch)) for of, p in known])

    def leave(self, now: int) -> None:
        """Give up everything, and LeaveGroup, unless the instance is expected back."""
        self._give_up_all_but()
        if self.who.instance is None and self.who.member_id != UNKNOWN_MEMBER:
            self._ask(rpc.LeaveGroupRequest(self.who), now)
        self._reset(UNKNOWN_MEMBER)

    def handle_group(self, asked: Asked, response: Any, error: Error, now: int) -> None:
        """The coordinator's answer; if it says so, the generation, the membership or the consumer is at an end."""
        if asked.context in self.commits:
            self.commits[asked.context] = error
        if error not in EXPECTED:
            self.client.coordinators.clear()
        if asked.body.who != self.who or self.fatal:
            return
        is_joining = isinstance(asked.body, rpc.JoinGroupRequest | rpc.SyncGroupRequest)
        if error in NO_MEMBER:
            self.fatal = error if error is Error.FENCED_INSTANCE_ID else None
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
        broker_id = self.client.look_up(rpc.FindCoordinatorRequest(self.who.group_id), now)
        if broker_id is not None:
            self.client.ask(broker_id, body, context, now)
        return broker_id is not None

    def _reset(self, member_id: str) -> None:
        """The generation is lost, and the member id with it unless only the generation is wrong."""
        self.who = self.who._replace(generation=-1, member_id=member_id)
        self.state, self.assignment, self.next_heartbeat = REJOIN_NEEDED, None, None

    def _give_up_all_but(self, kept: tuple[TopicPartition, ...] = ()) -> None:
        """What is given up others get once this member joins again; or they have it, if this is no member any more."""
        if given_up := tuple(sorted(self.positions.keys() - {*kept})):
            self.rebalances.append((REVOKED if self.who.generation >= 0 else LOST, given_up))
            self.state = REJOIN_NEEDED
        for partition in given_up:
            del self.positions[partition]

    def _join(self, now: int) -> None:
        """JoinGroup, and give up what others may get; only the sticky assignor is told of that."""
        if not {*self.topics} <= {topic for topic, _ in self.client.partitions}:
            self.client.look_up(rpc.MetadataRequest(), now)
            return
        owned, generation = tuple(sorted(self.positions)), self.group_metadata.generation
        is_cooperative = self.cluster.kip_429 and {*self.config.assignors} == {COOPERATIVE_STICKY}
        if not (is_cooperative and self.who.generation >= 0):
            self.commit_automatically(now)
            self._give_up_all_but()
        subscription = Subscription(self.topics, tuple(self.positions), generation, self.who.instance)
        sticky = subscription._replace(owned=owned)
        protocols = tuple((name, sticky if name == STICKY else subscription) for name in self.config.assignors)
        timeouts = self.config.session_timeout, self.config.max_poll_interval
        if self._ask(rpc.JoinGroupRequest(self.who, protocols, *timeouts), now):
            self.state, self.next_heartbeat = JOINING, None

    def _joined(self, joined: JoinGroupResponse, now: int) -> None:
        """The group has a new generation, or the member an id to join with (KIP-394); the leader shares the partitions.

        Of a static leader that is back nobody takes that (KIP-814).
        """
        self.who = self.who._replace(generation=joined.generation, member_id=joined.member_id)
        self.state, assignments = REJOIN_NEEDED, Assignment()
        if joined.generation < 0:
            return
        self.next_heartbeat = now + self.config.heartbeat_interval
        if joined.leader == joined.member_id:
            topics, members = Counter(topic for topic, _ in self.client.partitions), dict[str, Any](joined.members)
            assignments = ASSIGNORS[str(joined.protocol)](topics, members)
        by_member = tuple((member, tuple(sorted(partitions))) for member, partitions in assignments.items())
        if self._ask(rpc.SyncGroupRequest(self.who, by_member), now):
            self.state = JOINING

    def _complete(self, assigned: tuple[TopicPartition, ...]) -> None:
        """Take the assignment; what it no longer has is given up for the next one."""
        self.assignment, self.group_metadata = None, self.who
        self._give_up_all_but(assigned)
        added = tuple(partition for partition in assigned if partition not in self.positions)
        self.positions.update((partition, Position()) for partition in added)
        self.rebalances.append((ASSIGNED, added))
