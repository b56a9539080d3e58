"""The consumer: where it reads in its partitions, and its place in the group that shares them.

Its calls are served one after the other, for one thread of an application as in Kafka. A Poll parks until there are
records or news of a rebalance; a commit is served once its request is under way, whose answer answers the call.

Each position has one request under way at most: its offset says which. To go elsewhere is to begin with a new Position,
so nothing that was asked for or fetched before a seek or a rebalance returns: an answer counts only for the position
that awaits it.

As in Kafka, the application's Polls drive a rebalance, and only in a Poll partitions come and go; heartbeats go on
without. A partition's owner gives it up before it joins again (eager), or only once it learns that it moves
(cooperative, KIP-429), and then joins once more. `who` the member is, by id and generation, tells it apart from what it
was: answers to that no longer count. What the application commits is of `group_metadata`, the generation of the last
assignment, and the coordinator judges it.

Unlike in Kafka, truncation is not detected by an OffsetsForLeaderEpoch after an election, but by each fetch, which says
the epoch of the record before it, as followers' fetches do (KIP-595); the leader answers alike. A Poll returns all that
has been fetched. A CommitAsync too holds up later calls while the coordinator is not known. Automatic commits are sent
once and not awaited. After an error that nobody expects, whom to ask is looked up again, which is the backoff. Only
FENCED_INSTANCE_ID is fatal, and after other refusals it goes on trying to join.
Not modelled: reading from followers, pausing partitions, auto.offset.reset=none, max.poll.records; patterns, racks of
members, partitions that are added; the session timer (a lost coordinator is noticed when a request expires), leaving
the group for want of Polls (only a rebalance notices that); the refusal to mix Subscribe and Assign; the time limit of
CommitSync; that Close waits for commits and tells what it gives up.

Source: ClassicKafkaConsumer, SubscriptionState, Fetcher, OffsetFetcher, AbstractCoordinator and ConsumerCoordinator of
Kafka's clients; KIP-62, KIP-98 (read_committed), KIP-207, KIP-320 (truncation), KIP-345, KIP-394, KIP-447.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hwmark.refimpl import requests as rpc
from hwmark.refimpl.assignors import ASSIGNORS, Subscription
from hwmark.refimpl.batches import ABORT, Record, TopicPartition
from hwmark.refimpl.client import Client
from hwmark.refimpl.config import ClusterConfig
from hwmark.refimpl.errors import Error
from hwmark.refimpl.group_coordinator import Commits, ConsumerGroupMetadata, JoinGroupResponse, OffsetAndMetadata
from hwmark.refimpl.machine import Asked, Call, Effects, Event, Outbox, earliest

COMMITTED = -3  # a position, as rpc.EARLIEST and rpc.LATEST are: where the group was
NO_MEMBER = Error.UNKNOWN_MEMBER_ID, Error.ILLEGAL_GENERATION, Error.FENCED_INSTANCE_ID
EXPECTED = Error.NONE, Error.MEMBER_ID_REQUIRED, Error.REBALANCE_IN_PROGRESS, *NO_MEMBER
JOINING = rpc.JoinGroupRequest, rpc.SyncGroupRequest

ConsumerRecord = tuple[TopicPartition, int, Hashable, Hashable]  # offset, key, value
Rebalance = tuple[str, tuple[TopicPartition, ...]]  # assigned, revoked, or lost: others may have them


class ConsumerConfig(NamedTuple):
    """A consumer's settings by Kafka's names; times in ms, `fetch_max_records` stands for bytes."""

    group_id: str | None = None
    assignors: tuple[str, ...] = ("range",)
    is_read_committed: bool = False
    auto_commit_interval: int | None = None  # None: the application commits
    auto_offset_reset: int = rpc.EARLIEST
    session_timeout: int = 45_000
    heartbeat_interval: int = 3_000
    max_poll_interval: int = 300_000  # so long a rebalance waits for a member
    instance: str | None = None
    fetch_max_wait: int = 500
    fetch_max_records: int = 2**31


class Subscribe(NamedTuple):
    """Read the topics as a member of the group."""

    topics: tuple[str, ...]


class Assign(NamedTuple):
    """Read these partitions."""

    partitions: tuple[TopicPartition, ...]


class Seek(NamedTuple):
    """Read on from an offset; with the epoch of the record before it, a truncation is detected (KIP-320)."""

    topic_partition: TopicPartition
    offset: int
    offset_epoch: int = -1


class Poll(NamedTuple):
    """Wait for records, for so many ms at most."""

    timeout: int


class CommitSync(NamedTuple):
    """Commit these offsets, or else all positions; it is tried again where it may help."""

    offsets: Commits | None = None


class CommitAsync(NamedTuple):
    """Commit, once; the Return stands for the callback."""

    offsets: Commits | None = None


class Close(NamedTuple):
    """Commit if commits are automatic, and leave the group."""


class PollResult(NamedTuple):
    """What a Poll gives: first what happened to the assignment, then records of what is assigned now."""

    records: tuple[ConsumerRecord, ...] = ()
    rebalances: tuple[Rebalance, ...] = ()


@dataclass(slots=True)
class Position:
    """The offset to read next, or how to find it out, and the epoch of the record before it."""

    offset: int = COMMITTED
    offset_epoch: int = -1
    is_asked: bool = False  # a request is under way
    fetched: rpc.FetchResponse | None = None  # for the next Poll


def visible_records(response: rpc.FetchResponse, offset: int) -> list[Record]:
    """The records from the offset on: no markers, and none of the transactions that read_committed is told to leave."""
    aborted, records = [*(response.aborted or ())], list[Record]()
    for batch in response.batches:
        begun = [one for one in aborted if one[0] == batch.producer_id and one[1] <= batch.base_offset]
        if batch.control == ABORT:
            aborted = [one for one in aborted if one not in begun]
        elif batch.control is None and not (begun and batch.is_transactional):
            records += [record for record in batch.records if record.offset >= offset]
    return records


@dataclass(slots=True)
class Consumer:
    """A consumer of a cluster. With an error in `fatal` it is of no use, or closed: the application needs a new one."""

    name: str
    cluster: ClusterConfig
    config: ConsumerConfig
    client: Client = field(init=False)
    who: ConsumerGroupMetadata = field(init=False)  # that talks to the coordinator
    group_metadata: ConsumerGroupMetadata = field(init=False)  # a transactional producer commits with it too
    topics: tuple[str, ...] = ()  # subscribed to; none: partitions are assigned by hand
    positions: dict[TopicPartition, Position] = field(default_factory=dict)
    rebalances: tuple[Rebalance, ...] = ()  # for the next Poll to tell
    rejoin_needed: bool = True  # at the next Poll
    assignment: tuple[TopicPartition, ...] | None = None  # from SyncGroup, for the next Poll to take
    next_heartbeat: int | None = None  # none while a JoinGroup is parked
    next_auto_commit: int = 0
    calls: list[tuple[Call, int]] = field(default_factory=list)  # those that wait, and since when
    fatal: Error | None = None

    def __post_init__(self) -> None:
        self.client = Client(self.cluster, Outbox(self.name, self.cluster.request_timeout))
        self.who = ConsumerGroupMetadata(self.config.group_id or "", instance=self.config.instance)
        self.group_metadata = self.who

    def deadline(self) -> int | None:
        """When to Tick."""
        polls = [since + call.operation.timeout for call, since in self.calls[:1] if isinstance(call.operation, Poll)]
        return earliest(self.client.deadline(), self.next_heartbeat, *polls)

    def step(self, event: Event, now: int) -> Effects:
        """React to an answer, a call of the application, or the time."""
        if isinstance(event, Call):
            self.calls.append((event, now))
        for asked, response in self.client.receive(event, now):
            if isinstance(asked.body, rpc.FetchRequest | rpc.ListOffsetsRequest | rpc.OffsetFetchRequest):
                self._handle_position(asked, response)
            else:
                self._handle_group(asked, response, now)
        if self.next_heartbeat is not None and now >= self.next_heartbeat:
            self._ask(rpc.HeartbeatRequest(self.who), now)
            self.next_heartbeat = now + self.config.heartbeat_interval
        while self.calls and self._serve(*self.calls[0], now):
            self.calls.pop(0)
        return self.client.take(now)

    # ------------------------------------------------------------ calls

    def _serve(self, call: Call, since: int, now: int) -> bool:
        """Whether a call need not wait here any more: it is answered, or its commit is under way."""
        if self.fatal is not None:
            self.client.answer(call.number, self.fatal)
        elif self.config.group_id is None and isinstance(call.operation, Subscribe | CommitSync | CommitAsync):
            self.client.answer(call.number, Error.INVALID_GROUP_ID)
        elif isinstance(call.operation, CommitSync | CommitAsync):
            return self._commit(call.operation.offsets, now, call)
        elif isinstance(call.operation, Poll):
            result = self._poll(now)
            if not any(result) and now < since + call.operation.timeout:
                return False
            self.client.answer(call.number, Error.NONE, result)
        else:
            self.client.answer(call.number, self._change(call.operation, now))
        return True

    def _change(self, operation: Subscribe | Assign | Seek | Close, now: int) -> Error:
        """Read by topic, by hand, from another offset, or no more; what stays assigned by hand keeps its position."""
        if isinstance(operation, Subscribe):
            self.topics, self.rejoin_needed = operation.topics, True
        elif isinstance(operation, Assign):
            start = self.config.auto_offset_reset if self.config.group_id is None else COMMITTED
            self.positions = {one: self.positions.get(one) or Position(start) for one in operation.partitions}
        elif isinstance(operation, Close):
            self._commit_automatically(now)
            if self.who.generation >= 0 and self.who.instance is None:
                self._ask(rpc.LeaveGroupRequest(self.who), now)
            self.fatal, self.next_heartbeat, self.positions = Error.INVALID_REQUEST, None, {}
        elif operation.topic_partition not in self.positions:
            return Error.INVALID_REQUEST
        else:
            self.positions[operation.topic_partition] = Position(operation.offset, operation.offset_epoch)
        return Error.NONE

    def _poll(self, now: int) -> PollResult:
        """What is there by now; go on with a rebalance, commit by the interval and fetch."""
        if self.assignment is not None:
            self._take(self.assignment)
            self.group_metadata, self.assignment = self.who, None
        if self.topics and self.rejoin_needed:
            self._join(now)
        if now >= self.next_auto_commit:
            self._commit_automatically(now)
        records, rebalances, self.rebalances = self._fetch(now), self.rebalances, ()
        return PollResult(records, rebalances)

    def _commit_automatically(self, now: int) -> None:
        """Commit what was read, if the application does not."""
        if self.config.auto_commit_interval is not None and self.positions:
            self.next_auto_commit = now + self.config.auto_commit_interval
            self._commit(None, now)

    def _commit(self, offsets: Commits | None, now: int, call: Call | None = None) -> bool:
        """Ask for a commit of these offsets, or of all positions that are known."""
        if offsets is None:
            known = [(one, at) for one, at in sorted(self.positions.items()) if at.offset >= 0]
            offsets = tuple([(one, OffsetAndMetadata(at.offset, at.offset_epoch)) for one, at in known])
        return self._ask(rpc.OffsetCommitRequest(self.group_metadata, offsets), now, call)

    # ------------------------------------------------------------ the group

    def _ask(self, body: Any, now: int, context: Any = None) -> bool:
        """Ask the coordinator, if it is known."""
        broker_id = self.client.look_up(rpc.FindCoordinatorRequest(self.who.group_id), now)
        if broker_id is not None:
            self.client.ask(broker_id, body, context or body, now)
        return broker_id is not None

    def _handle_group(self, asked: Asked, response: Any, now: int) -> None:
        """The coordinator's answer: it ends a commit, or has it tried again, and says what becomes of the member."""
        call, error = asked.context, response.error
        if error not in EXPECTED:
            self.client.coordinators.clear()
        if isinstance(call, Call) and isinstance(call.operation, CommitSync) and error.is_retriable:
            self.calls.insert(0, (call, now))
        elif isinstance(call, Call):
            self.client.answer(call.number, error)
        if asked.body.who != self.who or self.fatal:
            return
        if error in NO_MEMBER:
            self.fatal = error if error is Error.FENCED_INSTANCE_ID else None
            member_id = self.who.member_id if error is Error.ILLEGAL_GENERATION else ""
            self.who = self.who._replace(generation=-1, member_id=member_id)
            self.rejoin_needed, self.next_heartbeat, self.assignment = True, None, None
        elif isinstance(asked.body, rpc.JoinGroupRequest) and error in (Error.NONE, Error.MEMBER_ID_REQUIRED):
            self._joined(response.value, now)
        elif isinstance(asked.body, rpc.SyncGroupRequest) and error is Error.NONE:
            self.assignment = response.value
        elif isinstance(asked.body, JOINING) or (error is Error.REBALANCE_IN_PROGRESS and self.next_heartbeat):
            self.rejoin_needed = True

    def _join(self, now: int) -> None:
        """JoinGroup, and give up what others may get; the eager sticky assignor is told of that nevertheless."""
        config, owned, generation = self.config, tuple(sorted(self.positions)), self.group_metadata.generation
        self._commit_automatically(now)
        may_keep = self.cluster.kip_429 and {*config.assignors} == {"cooperative-sticky"} and self.who.generation >= 0
        self._take(tuple(partition for partition in owned if may_keep and partition[0] in self.topics))
        subscription = Subscription(self.topics, tuple(self.positions), generation, self.who.instance)
        sticky = subscription._replace(owned=owned)
        protocols = tuple((name, sticky if name == "sticky" else subscription) for name in config.assignors)
        join = rpc.JoinGroupRequest(self.who, protocols, config.session_timeout, config.max_poll_interval)
        self.rejoin_needed, self.next_heartbeat = not self._ask(join, now), None

    def _joined(self, joined: JoinGroupResponse, now: int) -> None:
        """The group has a new generation, or the member an id to join with (KIP-394); the leader shares the partitions.

        Who does not lead learns of no members. Of a static leader that is back nobody takes that (KIP-814).
        """
        self.who = self.who._replace(generation=joined.generation, member_id=joined.member_id)
        if joined.generation < 0:
            self.rejoin_needed = True
            return
        self.next_heartbeat = now + self.config.heartbeat_interval
        topics, members = {one.name: len(one.assignment) for one in self.cluster.topics}, dict[str, Any](joined.members)
        assignments = ASSIGNORS[str(joined.protocol)](topics, members)
        by_member = tuple((member, tuple(sorted(partitions))) for member, partitions in assignments.items())
        self.rejoin_needed |= not self._ask(rpc.SyncGroupRequest(self.who, by_member), now)

    def _take(self, assigned: tuple[TopicPartition, ...]) -> None:
        """Read these partitions alone; who is a member lets others have the rest by joining again."""
        given_up = tuple(sorted(self.positions.keys() - {*assigned}))
        added = tuple(partition for partition in assigned if partition not in self.positions)
        self.positions = {one: self.positions.get(one) or Position() for one in assigned}
        news = ("revoked" if self.who.generation >= 0 else "lost", given_up), ("assigned", added)
        self.rebalances += tuple((how, partitions) for how, partitions in news if partitions)
        self.rejoin_needed |= bool(given_up)

    # ------------------------------------------------------------ positions

    def _fetch(self, now: int) -> tuple[ConsumerRecord, ...]:
        """Take what has been fetched, and ask for what is missing."""
        records: list[ConsumerRecord] = []
        for partition, position in self.positions.items():
            if position.fetched is not None:
                records += [(partition, *record) for record in visible_records(position.fetched, position.offset)]
                last, position.fetched = [*position.fetched.batches][-1], None
                position.offset, position.offset_epoch = last.next_offset, last.leader_epoch
            leader = self.client.leader(partition, now)
            if leader is not None and not position.is_asked:
                self._ask_for(partition, leader.leader, leader.leader_epoch, now)
        return tuple(records)

    def _ask_for(self, partition: TopicPartition, leader: int, leader_epoch: int, now: int) -> None:
        """Send the request that the position calls for, if it is known to whom."""
        position, config, kips = self.positions[partition], self.config, self.cluster
        if position.offset == COMMITTED:
            request: Any = rpc.OffsetFetchRequest(self.who, (partition,), kips.kip_447 and config.is_read_committed)
            position.is_asked = self._ask(request, now, (partition, position))
            return
        epoch, since = (leader_epoch, position.offset_epoch) if kips.kip_320 else (-1, -1)
        request = rpc.ListOffsetsRequest(partition, position.offset, epoch, -1, config.is_read_committed)
        if position.offset >= 0:
            limits = config.fetch_max_records, config.is_read_committed, config.fetch_max_wait
            request = rpc.FetchRequest(partition, position.offset, epoch, since, rpc.CONSUMER, *limits)
        position.is_asked = True
        self.client.ask(leader, request, (partition, position), now)

    def _handle_position(self, asked: Asked, response: Any) -> None:
        """The answer to a position's request; after an error, whom to ask is looked up again, and takes a backoff."""
        (partition, position), error = asked.context, response.error
        is_current, reset = self.positions.get(partition) is position, Position(self.config.auto_offset_reset)
        if not is_current:
            return
        position.is_asked = False
        if position.offset == COMMITTED and error is Error.NONE:
            ((_, error, committed),) = response.value
        if error is Error.OFFSET_OUT_OF_RANGE:
            self.positions[partition] = reset
        elif error is not Error.NONE and position.offset == COMMITTED:
            self.client.coordinators.clear()
        elif error is not Error.NONE:
            self.client.forget_leader(partition)
        elif position.offset == COMMITTED:
            self.positions[partition] = Position(*committed[:2]) if committed.offset >= 0 else reset
        elif position.offset < 0:
            self.positions[partition] = Position(response.value)
        elif response.diverging_epoch is not None:
            epoch, end = response.diverging_epoch
            self.positions[partition] = Position(min(position.offset, end), epoch)
        elif response.batches:
            position.fetched = response
