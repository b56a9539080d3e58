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
from hwmark.refimpl.config import ClusterConfig
from hwmark.refimpl.errors import Error
from hwmark.refimpl.fetcher import ConsumerConfig as ConsumerConfig
from hwmark.refimpl.fetcher import ConsumerRecord, Fetcher, Position, Positions
from hwmark.refimpl.group_coordinator import Commits, ConsumerGroupMetadata
from hwmark.refimpl.machine import Call, Effects, Event, Outbox, Return, earliest
from hwmark.refimpl.membership import ASYNC, FINAL, SYNC, ConsumerCoordinator, Membership, Rebalance


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
class Consumer:
    """A consumer of a cluster."""

    name: str
    cluster: ClusterConfig
    config: ConsumerConfig
    client: Client = field(init=False)
    positions: Positions = field(default_factory=dict)
    fetcher: Fetcher = field(init=False)
    coordinator: ConsumerCoordinator = field(init=False)
    calls: list[Call] = field(default_factory=list)
    return_by: int | None = None  # while a Poll is parked
    is_closing: bool = False
    is_closed: bool = False

    def __post_init__(self) -> None:
        self.client = Client(self.cluster, Outbox(self.name, self.cluster.request_timeout))
        self.fetcher = Fetcher(self.client, self.config, self.positions)
        who = ConsumerGroupMetadata(self.config.group_id or "", instance=self.config.instance)
        self.coordinator = ConsumerCoordinator(self.client, self.config, self.positions, who, who)

    @property
    def group_metadata(self) -> ConsumerGroupMetadata:
        """With which a transactional producer commits this consumer's offsets."""
        return self.coordinator.group_metadata

    @property
    def membership(self) -> Membership | None:
        """What the group has given it last; None before."""
        return self.coordinator.membership

    @property
    def fatal(self) -> Error | None:
        """The error after which this consumer is of no use."""
        return self.coordinator.fatal

    def deadline(self) -> int | None:
        """When to Tick."""
        if self.is_closed:
            return None
        is_polling = self.return_by is not None
        parked = (
            (self.return_by, None if self.coordinator.is_revoking else self.fetcher.deadline()) if is_polling else ()
        )
        return earliest(self.client.deadline(), self.coordinator.deadline(is_polling), *parked)

    def step(self, event: Event, now: int) -> Effects:
        """React to an answer, a call of the application, or the time."""
        if isinstance(event, Call):
            self.calls.append(event)
        for asked, response in self.client.receive(event, now):
            handler = self.fetcher if isinstance(asked.body, rpc.FollowerRequest) else self.coordinator
            handler.handle(asked, response, now)
        if not self.is_closed:
            self.coordinator.step(now)
        returns = self._serve(now)
        done, self.coordinator.returns = self.coordinator.returns, []
        return [*self.client.take(now), *done, *returns]

    def _serve(self, now: int) -> list[Return]:
        """The outcomes of the calls whose turn it is."""
        returns: list[Return] = []
        while self.calls and not self.coordinator.is_blocked:
            number, operation = self.calls[0]
            if isinstance(operation, CommitSync | CommitAsync) and not self.is_closed:
                offsets = self.coordinator.consumed() if operation.offsets is None else operation.offsets
                self.coordinator.commit(SYNC if isinstance(operation, CommitSync) else ASYNC, offsets, now, number)
            elif (outcome := self._outcome(operation, now)) is not None:
                returns.append(Return(number, outcome))
            else:
                break
            del self.calls[0]
        return returns

    def _outcome(self, operation: Any, now: int) -> rpc.Response | None:
        """The answer to a call; None while it has to wait."""
        if self.is_closed:
            return rpc.Response(Error.INVALID_REQUEST)
        if isinstance(operation, Close):
            return self._close(now)
        if self.fatal:
            self.return_by = None
            return rpc.Response(self.fatal)
        if isinstance(operation, Poll):
            return self._poll(operation, now)
        if isinstance(operation, Seek):
            return self._seek(operation)
        return self._subscribe(operation)

    def _subscribe(self, operation: Subscribe | Assign) -> rpc.Response:
        """By topic or by hand, not both; what stays assigned by hand keeps its position."""
        if isinstance(operation, Subscribe) and self.config.group_id is None:
            return rpc.Response(Error.INVALID_GROUP_ID)
        if self.coordinator.topics if isinstance(operation, Assign) else self.positions and not self.coordinator.topics:
            return rpc.Response(Error.INVALID_REQUEST)
        if isinstance(operation, Subscribe):
            self.coordinator.topics = operation.topics
        else:
            kept = {partition: self.positions.get(partition) or Position() for partition in operation.partitions}
            self.positions.clear()
            self.positions.update(kept)
        return rpc.Response()

    def _seek(self, operation: Seek) -> rpc.Response:
        if (position := self.positions.get(operation.topic_partition)) is None:
            return rpc.Response(Error.INVALID_REQUEST)
        position.seek_unvalidated(operation.offset, operation.offset_epoch)
        return rpc.Response()

    def _poll(self, operation: Poll, now: int) -> rpc.Response | None:
        if self.return_by is None:
            self.return_by = now + operation.timeout
        self.coordinator.poll(now)
        records = () if self.coordinator.is_revoking else self.fetcher.poll(now)
        rebalances, self.coordinator.rebalances = tuple(self.coordinator.rebalances), []
        if not (records or rebalances or (invalid := self.fetcher.take_invalid()) or now >= self.return_by):
            return None
        self.return_by = None
        if not (records or rebalances) and invalid:
            return rpc.Response(Error.OFFSET_OUT_OF_RANGE, invalid)
        return rpc.Response(Error.NONE, PollResult(records, rebalances))

    def _close(self, now: int) -> rpc.Response | None:
        if not self.is_closing and self.config.auto_commit_interval is not None:
            self.coordinator.commit(FINAL, self.coordinator.consumed(), now)
        self.is_closing = True
        if self.coordinator.open_commits:
            return None
        self.coordinator.close(now)
        self.is_closed = True
        return rpc.Response(Error.NONE, PollResult((), tuple(self.coordinator.rebalances)))
