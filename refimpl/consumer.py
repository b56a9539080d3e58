"""The consumer: its calls are served one after the other, for one thread of an application as in Kafka.

A Poll parks until there are records or news of a rebalance, and drives both. CommitAsync alone lets later calls
overtake its Return. After an error in `fatal` the application has to begin with a new consumer.
Not modelled: the refusal to mix Subscribe and Assign, the time limit of CommitSync.

Source: ClassicKafkaConsumer of Kafka's clients.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from hwmark.refimpl import requests as rpc
from hwmark.refimpl.batches import TopicPartition
from hwmark.refimpl.client import Client
from hwmark.refimpl.errors import Error
from hwmark.refimpl.fetcher import COMMITTED, ConsumerRecord, Position
from hwmark.refimpl.fetcher import ConsumerConfig as ConsumerConfig
from hwmark.refimpl.group_coordinator import Commits, ConsumerGroupMetadata
from hwmark.refimpl.machine import Call, Effects, Event, Outbox, earliest
from hwmark.refimpl.membership import ConsumerCoordinator, Rebalance


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
    """Commit these offsets, or else all positions, and wait until that is done; it is tried again where it may help."""

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

    def __post_init__(self) -> None:
        self.client = Client(self.cluster, Outbox(self.name, self.cluster.request_timeout))
        member = ConsumerGroupMetadata(self.config.group_id or "", instance=self.config.instance)
        self.who = self.group_metadata = member

    def deadline(self) -> int | None:
        """When to Tick."""
        return earliest(self.client.deadline(), self.next_heartbeat, self.return_by)

    def step(self, event: Event, now: int) -> Effects:
        """React to an answer, a call of the application, or the time."""
        if isinstance(event, Call):
            self.calls.append(event)
        for asked, response in self.client.receive(event, now):
            error = response.error if response is not None else Error.REQUEST_TIMED_OUT
            if isinstance(asked.body, rpc.FetchRequest | rpc.ListOffsetsRequest | rpc.OffsetFetchRequest):
                self.handle_position(asked, response, error)
            else:
                self.handle_group(asked, response, error, now)
        self.heartbeat(now)
        self._serve(now)
        return self.client.take(now)

    def _serve(self, now: int) -> None:
        """Answer the calls whose turn it is, as far as there is an outcome."""
        for call in [*self.calls]:
            outcome = self._outcome(call, now)
            if outcome is not None:
                self.calls.remove(call)
                self.client.answer(call.number, *outcome)
            elif not isinstance(call.operation, CommitAsync):
                break

    def _outcome(self, call: Call, now: int) -> rpc.Response | None:
        """The answer to a call; None while it has to wait."""
        operation = call.operation
        if isinstance(operation, Close):
            return self._close(now) if self.calls[0] == call else None
        if self.fatal is not None:
            self.return_by = None
            return rpc.Response(self.fatal)
        if isinstance(operation, Poll):
            return self._poll(operation, now)
        if self.config.group_id is None and isinstance(operation, Subscribe | CommitSync | CommitAsync):
            return rpc.Response(Error.INVALID_GROUP_ID)
        if isinstance(operation, CommitSync | CommitAsync):
            offsets = self.consumed() if operation.offsets is None else operation.offsets
            error = self.commit(call.number, offsets, isinstance(operation, CommitSync), now)
            return error and rpc.Response(error)
        return rpc.Response(self._change(operation, now))

    def _change(self, operation: Subscribe | Assign | Seek, now: int) -> Error:
        """Read by topic, by hand, or from another offset; what stays assigned by hand keeps its position."""
        if isinstance(operation, Subscribe):
            self.leave(now)
            self.topics = operation.topics
        elif isinstance(operation, Assign):
            start = self.config.auto_offset_reset if self.config.group_id is None else COMMITTED
            self.positions = {one: self.positions.get(one) or Position(start) for one in operation.partitions}
        elif operation.topic_partition not in self.positions:
            return Error.INVALID_REQUEST
        else:
            self.positions[operation.topic_partition] = Position(operation.offset, operation.offset_epoch)
        return Error.NONE

    def _poll(self, operation: Poll, now: int) -> rpc.Response | None:
        if self.return_by is None:
            self.return_by = now + operation.timeout
        self.poll_group(now)
        records, rebalances = self.fetch(now), tuple(self.rebalances)
        if not (records or rebalances or now >= self.return_by):
            return None
        self.return_by, self.rebalances = None, []
        return rpc.Response(Error.NONE, PollResult(records, rebalances))

    def _close(self, now: int) -> rpc.Response:
        self.commit_automatically(now)
        self.leave(now)
        self.fatal = Error.INVALID_REQUEST
        return rpc.Response(Error.NONE, PollResult((), tuple(self.rebalances)))
