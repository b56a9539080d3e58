"""Where a consumer reads: the positions of its partitions, and the requests that find, validate and move them.

Each position has one request under way at most: its state says which. To go elsewhere is to begin with a new Position,
so nothing that was asked for or fetched before a seek or a rebalance returns: an answer counts only for the position
that awaits it.
Not modelled: reading from followers, pausing partitions. Source: SubscriptionState, Fetcher, CompletedFetch and
OffsetFetcher of Kafka's clients; KIP-98 (read_committed), KIP-207, KIP-320 (truncation), KIP-447.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hwmark.refimpl import requests as rpc
from hwmark.refimpl.batches import ABORT, Record, TopicPartition
from hwmark.refimpl.client import Client
from hwmark.refimpl.config import ClusterConfig
from hwmark.refimpl.errors import Error
from hwmark.refimpl.group_coordinator import ConsumerGroupMetadata
from hwmark.refimpl.leader_epochs import UNDEFINED, EpochEndOffset
from hwmark.refimpl.machine import Asked
from hwmark.refimpl.partition_change import NO_LEADER, PartitionRegistration

INITIALIZING, AWAIT_RESET, AWAIT_VALIDATION = "INITIALIZING", "AWAIT_RESET", "AWAIT_VALIDATION"
FETCHING, INVALID = "FETCHING", "INVALID"
EARLIEST, LATEST, NONE = "earliest", "latest", "none"

ConsumerRecord = tuple[TopicPartition, int, Hashable, Hashable]  # offset, key, value
InvalidOffset = tuple[
    TopicPartition, int, EpochEndOffset
]  # the position; if it is truncated, where the common log ends


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
    fetch_max_wait: int = 500
    fetch_max_records: int = 2**31
    api_timeout: int = 60_000  # of CommitSync and Close


@dataclass(slots=True)
class Position:
    """The offset to read next, the epoch of the record before it, and the leader epoch that it was checked against."""

    state: str = INITIALIZING
    offset: int = -1
    offset_epoch: int = -1
    leader_epoch: int = -1
    diverging: EpochEndOffset = UNDEFINED  # why it is INVALID, if the log is truncated
    awaits: int = 0  # correlation id of the request that is under way
    fetched: list[tuple[Record, int]] = field(default_factory=list)  # visible records, with their leader epochs


def visible_records(response: rpc.FetchResponse, offset: int) -> list[tuple[Record, int]]:
    """The records from the offset on: no markers, and none of the transactions that read_committed is told to leave."""
    aborted, records = [*(response.aborted or ())], list[tuple[Record, int]]()
    for batch in response.batches:
        begun = [one for one in aborted if one[0] == batch.producer_id and one[1] <= batch.base_offset]
        if batch.control == ABORT:
            aborted = [one for one in aborted if one not in begun]
        elif batch.control is None and not (begun and batch.is_transactional):
            records += [(record, batch.leader_epoch) for record in batch.records if record.offset >= offset]
    return records


@dataclass(slots=True)
class Fetcher:
    """The part of a consumer that moves its positions: it finds where the group was, resets, validates and fetches."""

    name: str
    cluster: ClusterConfig
    config: ConsumerConfig
    client: Client = field(init=False)
    who: ConsumerGroupMetadata = field(init=False)  # `membership` changes it
    positions: dict[TopicPartition, Position] = field(default_factory=dict)

    def fetch(self, now: int) -> tuple[ConsumerRecord, ...]:
        """Take what has been fetched, in turn, and ask for what is missing."""
        records: list[ConsumerRecord] = []
        for partition in [*self.positions]:
            if self.positions[partition].state == INITIALIZING and self.config.group_id is None:
                self._found(partition)
            leader = self.client.leader(partition, now)
            if leader is not None:
                self._follow(partition, leader.leader_epoch)
            position, limit = self.positions[partition], self.config.max_poll_records - len(records)
            if position.fetched and limit:
                records += [(partition, *record) for record, _ in position.fetched[:limit]]
                last, position.offset_epoch = position.fetched[:limit][-1]
                position.offset, position.fetched = last.offset + 1, position.fetched[limit:]
                self.positions[partition] = self.positions.pop(partition)
            if leader is not None and not (position.awaits or position.fetched):
                self._send_request(partition, leader, now)
        return tuple(records)

    def invalid_offsets(self) -> tuple[InvalidOffset, ...]:
        """The positions that only the application can mend, by a seek: out of range, truncated or not there (-1)."""
        return tuple([(of, p.offset, p.diverging) for of, p in self.positions.items() if p.state == INVALID])

    def _follow(self, partition: TopicPartition, leader_epoch: int) -> None:
        """If there is another leader, its log may lack what was read (KIP-320), which it can tell since KIP-279.

        Kafka's consumers validate nothing either if a broker's version of OffsetsForLeaderEpoch is too old.
        """
        position, cluster = self.positions[partition], self.cluster
        if leader_epoch != position.leader_epoch:
            position.leader_epoch = leader_epoch
            is_known = position.state in (FETCHING, AWAIT_VALIDATION) and position.offset_epoch >= 0
            if is_known and cluster.kip_320 and cluster.kip_279:
                read = position.offset, position.offset_epoch
                self.positions[partition] = Position(AWAIT_VALIDATION, *read, leader_epoch)

    def _send_request(self, partition: TopicPartition, leader: PartitionRegistration, now: int) -> None:
        """Send the request that the position's state calls for, if there is one and somebody to ask."""
        position, config, kips = self.positions[partition], self.config, self.cluster
        epoch = leader.leader_epoch if kips.kip_320 else -1
        broker_id: int | None = leader.leader
        request: Any = None
        if position.state == FETCHING:
            read = config.fetch_max_records, config.is_read_committed, config.fetch_max_wait
            request = rpc.FetchRequest(partition, position.offset, epoch, -1, rpc.CONSUMER, *read)
        elif position.state == AWAIT_VALIDATION:
            request = rpc.OffsetsForLeaderEpochRequest(partition, position.offset_epoch, epoch)
        elif position.state == AWAIT_RESET:
            at = rpc.EARLIEST if config.auto_offset_reset == EARLIEST else rpc.LATEST
            request = rpc.ListOffsetsRequest(partition, at, epoch, rpc.CONSUMER, config.is_read_committed)
        elif position.state == INITIALIZING:
            broker_id = self.client.coordinator(self.who.group_id, False, now)
            is_stable = kips.kip_447 and config.is_read_committed
            request = rpc.OffsetFetchRequest(self.who, (partition,), is_stable)
        if request is not None and broker_id is not None:
            position.awaits = self.client.outbox.last + 1
            self.client.ask(broker_id, request, (partition, position.awaits), now)

    def handle_position(self, asked: Asked, response: Any, error: Error) -> None:
        """The answer to a position's request; after an error, whom to ask is looked up again, and takes a backoff."""
        partition, correlation = asked.context
        position = self.positions.get(partition)
        if position is None or position.awaits != correlation:
            return
        position.awaits = 0
        if isinstance(asked.body, rpc.OffsetFetchRequest) and error is Error.NONE:
            ((_, error, committed),) = response.value
        if error is Error.OFFSET_OUT_OF_RANGE:
            self._found(partition)
        elif error is not Error.NONE and position.state == INITIALIZING:
            self.client.forget_coordinator(self.who.group_id, False)
        elif error is not Error.NONE:
            self.client.partitions[partition] = self.client.partitions[partition]._replace(leader=NO_LEADER)
        elif isinstance(asked.body, rpc.FetchRequest):
            position.fetched = visible_records(response, position.offset)
            if response.batches and not position.fetched:
                last = response.batches[-1]
                position.offset, position.offset_epoch = last.next_offset, last.leader_epoch
        elif isinstance(asked.body, rpc.OffsetsForLeaderEpochRequest):
            self._found(partition, response.value)
        elif isinstance(asked.body, rpc.ListOffsetsRequest):
            self._found(partition, EpochEndOffset(-1, response.value))
        else:
            self._found(partition, EpochEndOffset(committed.leader_epoch, committed.offset))

    def _found(self, partition: TopicPartition, found: EpochEndOffset = UNDEFINED) -> None:
        """Read on there; a position that is nowhere begins anew as auto.offset.reset says, or awaits a seek.

        A validation finds where the leader's log ends or parts from what was read.
        """
        position, may_reset = self.positions[partition], self.config.auto_offset_reset != NONE
        is_validation = position.state == AWAIT_VALIDATION
        if is_validation and found.end_offset >= position.offset:
            position.state = FETCHING
        elif found.end_offset >= 0 and (may_reset or not is_validation):
            self.positions[partition] = Position(FETCHING, found.end_offset, found.epoch)
        elif may_reset:
            self.positions[partition] = Position(AWAIT_RESET)
        else:
            self.positions[partition] = Position(INVALID, position.offset, diverging=found)
