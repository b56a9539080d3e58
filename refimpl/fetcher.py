"""Where a consumer reads: the positions of its partitions, and the requests that find, validate and move them.

Each position has one request under way at most, and holds what was fetched until a Poll takes it; an answer that is not
to the position's last request comes too late and is dropped, so nothing fetched before a seek or a rebalance returns.
Not modelled: reading from followers, pausing partitions. Source: SubscriptionState, Fetcher, CompletedFetch and
OffsetFetcher of Kafka's clients; KIP-98 (read_committed), KIP-207, KIP-320 (truncation).
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hwmark.refimpl import requests as rpc
from hwmark.refimpl.batches import ABORT, Record, TopicPartition
from hwmark.refimpl.client import Client
from hwmark.refimpl.errors import Error
from hwmark.refimpl.leader_epochs import EpochEndOffset
from hwmark.refimpl.machine import Asked

INITIALIZING, FETCHING = "INITIALIZING", "FETCHING"
AWAIT_RESET, AWAIT_VALIDATION = "AWAIT_RESET", "AWAIT_VALIDATION"
EARLIEST, LATEST, NONE = "earliest", "latest", "none"

ConsumerRecord = tuple[TopicPartition, int, Hashable, Hashable]  # offset, key, value


class ConsumerConfig(NamedTuple):
    """A consumer's settings by Kafka's names; times in ms, `fetch_max_records` stands for bytes."""

    group_id: str | None = None
    assignors: tuple[str, ...] = ("range",)
    is_read_committed: bool = False
    auto_commit_interval: int | None = None  # None: the application commits
    auto_offset_reset: str = EARLIEST
    session_timeout: int = 45_000
    heartbeat_interval: int = 3_000
    max_poll_interval: int = 300_000
    max_poll_records: int = 500
    instance: str | None = None
    rack: str | None = None
    fetch_max_wait: int = 500
    fetch_max_records: int = 2**31
    api_timeout: int = 60_000  # of CommitSync and Close


class InvalidOffset(NamedTuple):
    """A position that is out of range, truncated (with the end of the common log, if known) or not there (-1)."""

    topic_partition: TopicPartition
    offset: int
    diverging: EpochEndOffset | None = None


@dataclass(slots=True)
class Position:
    """The offset to read next, the epoch of the record before it, and the leader epoch that it was checked against."""

    state: str = INITIALIZING
    offset: int = -1
    offset_epoch: int = -1
    leader_epoch: int = -1
    awaits: int = 0  # correlation id of the request that is under way
    retry_at: int = 0
    fetched: list[tuple[Record, int]] = field(default_factory=list)  # visible records, with their leader epochs
    end: tuple[int, int] | None = None  # where the fetched batches end, and their last leader epoch
    invalid: tuple[int, EpochEndOffset | None] | None = None  # offset and divergence that a Poll has to tell

    def seek(self, state: str, offset: int = -1, offset_epoch: int = -1) -> None:
        """Go there; what was asked for and fetched elsewhere is void."""
        self.state, self.offset, self.offset_epoch = state, offset, offset_epoch
        self.awaits, self.retry_at, self.fetched, self.end, self.invalid = 0, 0, [], None, None

    def seek_unvalidated(self, offset: int, offset_epoch: int) -> None:
        """Go there; whether the leader's log has that epoch there is checked before the first fetch."""
        self.seek(FETCHING, offset, offset_epoch)
        self.leader_epoch = -1

    def reset(self, policy: str, retry_at: int, diverging: EpochEndOffset | None = None) -> None:
        """Begin anew as auto.offset.reset says; with "none" the application is told, and may seek."""
        if policy == NONE:
            self.invalid, self.retry_at = (self.offset, diverging), retry_at
        else:
            self.seek(AWAIT_RESET)

    def take(self, limit: int) -> list[Record]:
        """The next records; the position moves behind them, and over all that is hidden once none is left."""
        taken, self.fetched = self.fetched[:limit], self.fetched[limit:]
        if not self.fetched and self.end is not None:
            (self.offset, self.offset_epoch), self.end = self.end, None
        elif taken:
            self.offset, self.offset_epoch = taken[-1][0].offset + 1, taken[-1][1]
        return [record for record, _ in taken]


Positions = dict[TopicPartition, Position]


def visible_records(response: rpc.FetchResponse, offset: int) -> list[tuple[Record, int]]:
    """The records from the offset on: no markers, and none of the transactions that read_committed is told to leave."""
    coming = sorted(response.aborted or (), key=lambda aborted: aborted[1], reverse=True)
    aborting: set[int] = set()
    records: list[tuple[Record, int]] = []
    for batch in response.batches:
        while coming and coming[-1][1] <= batch.last_offset:
            aborting.add(coming.pop()[0])
        is_aborted = batch.is_transactional and batch.producer_id in aborting
        if batch.control == ABORT:
            aborting.discard(batch.producer_id)
        elif batch.control is None and not is_aborted:
            records += [(record, batch.leader_epoch) for record in batch.records if record.offset >= offset]
    return records


@dataclass(slots=True)
class Fetcher:
    """Moves the positions: validates, resets and fetches."""

    client: Client
    config: ConsumerConfig
    positions: Positions

    def poll(self, now: int) -> tuple[ConsumerRecord, ...]:
        """Take what has been fetched, in turn, and ask for what is missing."""
        records: list[ConsumerRecord] = []
        for partition, position in [*self.positions.items()]:
            leader = self.client.leader(partition, now)
            position.retry_at = position.retry_at if now < position.retry_at else 0
            if leader is not None and leader.leader_epoch != position.leader_epoch:
                self._follow(position, leader.leader_epoch)
            if position.end is not None and (limit := self.config.max_poll_records - len(records)):
                records += [(partition, *record) for record in position.take(limit)]
                self.positions[partition] = self.positions.pop(partition)
            if leader is not None and not position.awaits and position.end is None and not position.retry_at:
                self._ask(partition, position, leader, now)
        return tuple(records)

    def take_invalid(self) -> tuple[InvalidOffset, ...]:
        """The positions that only the application can mend, each told once per attempt."""
        invalid = tuple(InvalidOffset(of, *p.invalid) for of, p in self.positions.items() if p.invalid)
        for partition, *_ in invalid:
            self.positions[partition].invalid = None
        return invalid

    def deadline(self) -> int | None:
        """When a position tries again."""
        return min((position.retry_at for position in self.positions.values() if position.retry_at), default=None)

    def _follow(self, position: Position, leader_epoch: int) -> None:
        """There is another leader: its log may lack what was read (KIP-320)."""
        position.leader_epoch = leader_epoch
        is_known = position.state in (FETCHING, AWAIT_VALIDATION) and position.offset_epoch >= 0
        if is_known and self.client.config.kip_320:
            position.seek(AWAIT_VALIDATION, position.offset, position.offset_epoch)

    def _ask(self, partition: TopicPartition, position: Position, leader: rpc.PartitionMetadata, now: int) -> None:
        config, epoch = self.config, leader.leader_epoch if self.client.config.kip_320 else -1
        if position.state == INITIALIZING:
            if config.group_id is not None:
                return  # the group's coordinator is asked
            position.reset(config.auto_offset_reset, now + self.client.config.retry_backoff)
        request: rpc.FollowerRequest
        if position.state == FETCHING:
            read = -1, config.fetch_max_records, config.is_read_committed, config.fetch_max_wait
            request = rpc.FetchRequest(partition, position.offset, epoch, -1, rpc.CONSUMER, *read)
        elif position.state == AWAIT_VALIDATION:
            request = rpc.OffsetsForLeaderEpochRequest(partition, position.offset_epoch, epoch)
        elif position.state == AWAIT_RESET:
            at = rpc.EARLIEST if config.auto_offset_reset == EARLIEST else rpc.LATEST
            request = rpc.ListOffsetsRequest(partition, at, epoch, rpc.CONSUMER, config.is_read_committed)
        else:
            return
        position.awaits = self.client.outbox.last + 1
        self.client.ask(leader.leader, request, position.awaits, now)

    def handle(self, asked: Asked, response: Any, now: int) -> None:
        """The answer to a position's request, None if there was none; what can be tried again is, after a while."""
        position = self.positions.get(asked.body.topic_partition)
        if position is None or position.awaits != asked.context:
            return
        position.awaits, retry_at = 0, now + self.client.config.retry_backoff
        error = response.error if response is not None else Error.REQUEST_TIMED_OUT
        if error is Error.OFFSET_OUT_OF_RANGE:
            position.reset(self.config.auto_offset_reset, retry_at)
        elif error is not Error.NONE:
            position.retry_at = retry_at
            self.client.refresh(now)
        elif isinstance(response, rpc.OffsetsForLeaderEpochResponse):
            self._validate(position, response.end_offset, retry_at)
        elif isinstance(response, rpc.ListOffsetsResponse):
            position.seek(FETCHING, response.offset)
        elif response.batches:
            position.fetched = visible_records(response, position.offset)
            position.end = response.batches[-1].next_offset, response.batches[-1].leader_epoch

    def _validate(self, position: Position, leaders: EpochEndOffset, retry_at: int) -> None:
        """The leader's log has what was read, or else the position goes back to where the logs part."""
        is_known = leaders.epoch >= 0 and leaders.end_offset >= 0
        if is_known and leaders.end_offset >= position.offset:
            position.state = FETCHING
        elif is_known and self.config.auto_offset_reset != NONE:
            position.seek(FETCHING, leaders.end_offset, leaders.epoch)
        else:
            position.reset(self.config.auto_offset_reset, retry_at, leaders if is_known else None)
