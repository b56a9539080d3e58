"""Where a consumer reads: the positions of its partitions, and the requests that find and move them.

Each position has one request under way at most: its offset says which. To go elsewhere is to begin with a new Position,
so nothing that was asked for or fetched before a seek or a rebalance returns: an answer counts only for the position
that awaits it.
Unlike in Kafka, truncation is not detected by an OffsetsForLeaderEpoch after an election, but by each fetch, which says
the epoch of the record before it, as followers' fetches do (KIP-595); the leader answers alike. A Poll returns all that
has been fetched. Not modelled: reading from followers, pausing partitions, auto.offset.reset=none, max.poll.records.
Source: SubscriptionState, Fetcher, CompletedFetch and OffsetFetcher of Kafka's clients; KIP-98 (read_committed),
KIP-207, KIP-320 (truncation), KIP-447.
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
from hwmark.refimpl.machine import Asked

COMMITTED = -3  # a position, as rpc.EARLIEST and rpc.LATEST are: where the group was

ConsumerRecord = tuple[TopicPartition, int, Hashable, Hashable]  # offset, key, value


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


@dataclass(slots=True)
class Position:
    """The offset to read next, or how to find it out, and the epoch of the record before it."""

    offset: int = COMMITTED
    offset_epoch: int = -1
    awaits: int = 0  # correlation id of the request that is under way
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
class Fetcher:
    """The part of a consumer that moves its positions: it finds where the group was, resets and fetches."""

    name: str
    cluster: ClusterConfig
    config: ConsumerConfig
    client: Client = field(init=False)
    who: ConsumerGroupMetadata = field(init=False)  # `membership` changes it
    positions: dict[TopicPartition, Position] = field(default_factory=dict)

    def fetch(self, now: int) -> tuple[ConsumerRecord, ...]:
        """Take what has been fetched, and ask for what is missing."""
        records: list[ConsumerRecord] = []
        for partition, position in self.positions.items():
            if position.fetched is not None:
                records += [(partition, *record) for record in visible_records(position.fetched, position.offset)]
                last, position.fetched = [*position.fetched.batches][-1], None
                position.offset, position.offset_epoch = last.next_offset, last.leader_epoch
            leader = self.client.leader(partition, now)
            if leader is not None and not position.awaits:
                self._send_request(partition, leader.leader, leader.leader_epoch, now)
        return tuple(records)

    def _send_request(self, partition: TopicPartition, leader: int, leader_epoch: int, now: int) -> None:
        """Send the request that the position calls for, if there is somebody to ask."""
        position, config, kips = self.positions[partition], self.config, self.cluster
        epoch, since = (leader_epoch, position.offset_epoch) if kips.kip_320 else (-1, -1)
        to: int | None = leader
        request: Any = rpc.ListOffsetsRequest(partition, position.offset, epoch, -1, config.is_read_committed)
        if position.offset == COMMITTED:
            to = self.client.look_up(rpc.FindCoordinatorRequest(self.who.group_id), now)
            request = rpc.OffsetFetchRequest(self.who, (partition,), kips.kip_447 and config.is_read_committed)
        elif position.offset >= 0:
            limits = config.fetch_max_records, config.is_read_committed, config.fetch_max_wait
            request = rpc.FetchRequest(partition, position.offset, epoch, since, rpc.CONSUMER, *limits)
        if to is not None:
            position.awaits = self.client.outbox.last + 1
            self.client.ask(to, request, (partition, position.awaits), now)

    def handle_position(self, asked: Asked, response: Any, error: Error) -> None:
        """The answer to a position's request; after an error, whom to ask is looked up again, and takes a backoff."""
        partition, correlation = asked.context
        position, reset = self.positions.get(partition), Position(self.config.auto_offset_reset)
        if position is None or position.awaits != correlation:
            return
        position.awaits = 0
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
