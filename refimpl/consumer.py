"""The consumer: its calls are served one after the other, for one thread of an application as in Kafka.

A Poll parks until there are records or news of a rebalance, and drives both; it fails with the positions that are
invalid (OFFSET_OUT_OF_RANGE), if nothing resets them. CommitAsync alone lets later calls overtake its Return. After an
error in `fatal` the application has to begin with a new consumer.

Source: ClassicKafkaConsumer of Kafka's clients.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hwmark.refimpl import requests as rpc
from hwmark.refimpl.batches import TopicPartition
from hwmark.refimpl.client import Client
from hwmark.refimpl.errors import Error
from hwmark.refimpl.fetcher import FETCHING, ConsumerRecord, Position
from hwmark.refimpl.fetcher import ConsumerConfig as ConsumerConfig
from hwmark.refimpl.group_coordinator import Commits, ConsumerGroupMetadata
from hwmark.refimpl.machine import Call, Effects, Event, Outbox, Return, earliest
from hwmark.refimpl.membership import FINAL, ConsumerCoordinator, Rebalance


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
    """Commit these offsets, or else all positions, and wait until that is done; it is tried again where it may be."""

    offsets: Commits | None = None


class CommitAsync(NamedTuple):
    """Commit, once; the Return stands for the callback."""

    offsets: Commits | None = None


class Close(NamedTuple):
    """Commit if commits are automatic, and leave the group."""


class PollResult(NamedTuple):
    """What a Poll, or Close, gives: first what happened to the assignment, then records of what is assigned now."""

    records: tuple[ConsumerRecord, ...] = ()
    rebalances: tuple[Rebalance, ...] = ()


@dataclass(slots=True)
class Consumer(ConsumerCoordinator):
    """A consumer of a cluster."""

    calls: list[Call] = field(default_factory=list)
    return_by: int | None = None  # while a Poll is parked
    is_closed: bool = False

    def __post_init__(self) -> None:
        self.client = Client(self.cluster, Outbox(self.name, self.cluster.request_timeout))
        self.who = ConsumerGroupMetadata(self.config.group_id or "", instance=self.config.instance)
        self.group_metadata = self.who

    def deadline(self) -> int | None:
        """When to Tick."""
        if self.is_closed:
            return None
        next_auto_commit = (self.return_by and self.next_auto_commit) or None
        return earliest(self.client.deadline(), self.next_heartbeat, self.return_by, next_auto_commit)

    def step(self, event: Event, now: int) -> Effects:
        """React to an answer, a call of the application, or the time."""
        if isinstance(event, Call):
            self.calls.append(event)
        for asked, response in self.client.receive(event, now):
            error = response.error if response is not None else Error.REQUEST_TIMED_OUT
            if isinstance(asked.body, rpc.FollowerRequest | rpc.OffsetFetchRequest):
                self.handle_position(asked, response, error)
            else:
                self.handle_group(asked, response, error, now)
        if not self.is_closed:
            self.heartbeat(now)
        returns = self._serve(now)
        return [*self.client.take(now), *returns]

    def _serve(self, now: int) -> list[Return]:
        """The outcomes of the calls whose turn it is."""
        returns: list[Return] = []
        for call in [*self.calls]:
            outcome = self._outcome(call.number, call.operation, now)
            if outcome is not None:
                self.calls.remove(call)
                returns.append(Return(call.number, outcome))
            elif not isinstance(call.operation, CommitAsync):
                break
        return returns

    def _outcome(self, number: int, operation: Any, now: int) -> rpc.Response | None:
        """The answer to a call; None while it has to wait."""
        if self.is_closed:
            return rpc.Response(Error.INVALID_REQUEST)
        if isinstance(operation, Close):
            return self._close(number, now)
        if self.fatal:
            self.return_by = None
            return rpc.Response(self.fatal)
        if isinstance(operation, CommitSync | CommitAsync):
            offsets = self.consumed() if operation.offsets is None else operation.offsets
            timeout = self.config.api_timeout if isinstance(operation, CommitSync) else 0
            error = self.commit(number, offsets, now, timeout)
            return error and rpc.Response(error)
        if isinstance(operation, Poll):
            return self._poll(operation, now)
        return rpc.Response(self._change(operation, now))

    def _change(self, operation: Subscribe | Assign | Seek, now: int) -> Error:
        """By topic or by hand, not both; what stays assigned by hand keeps its position."""
        if isinstance(operation, Seek):
            if operation.topic_partition not in self.positions:
                return Error.INVALID_REQUEST
            self.positions[operation.topic_partition] = Position(FETCHING, operation.offset, operation.offset_epoch)
        elif isinstance(operation, Subscribe):
            if self.config.group_id is None or (self.positions and not self.topics):
                return Error.INVALID_REQUEST if self.config.group_id else Error.INVALID_GROUP_ID
            if self.topics != operation.topics:
                self.quit_group(now)
            self.topics = operation.topics
        elif self.topics:
            return Error.INVALID_REQUEST
        else:
            kept = {partition: self.positions.get(partition) or Position() for partition in operation.partitions}
            self.positions.clear()
            self.positions.update(kept)
        return Error.NONE

    def _poll(self, operation: Poll, now: int) -> rpc.Response | None:
        if self.return_by is None:
            self.return_by = now + operation.timeout
        self.poll_group(now)
        records = () if FINAL in self.commits else self.fetch(now)  # nothing is read after the last commit
        rebalances, self.rebalances = tuple(self.rebalances), []
        invalid = self.invalid_offsets()
        if not (records or rebalances or invalid or now >= self.return_by):
            return None
        self.return_by = None
        if invalid and not (records or rebalances):
            return rpc.Response(Error.OFFSET_OUT_OF_RANGE, invalid)
        return rpc.Response(Error.NONE, PollResult(records, rebalances))

    def _close(self, number: int, now: int) -> rpc.Response | None:
        if self.calls[0].number != number or not self.commit_finally(number, now):
            return None
        self.quit_group(now)
        self.is_closed = True
        return rpc.Response(Error.NONE, PollResult((), tuple(self.rebalances)))
