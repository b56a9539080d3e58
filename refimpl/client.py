"""What producers and consumers have in common: requests that expire, who leads which partition, who coordinates.

    answers = client.receive(event, now)      the owner's requests that are done: the response, None if given up
    client.ask(client.leader(...).leader, ..., now)
    return client.take(now)                   the messages of this step

Whatever is unknown is looked up from one broker after the other (all of `bootstrap.servers`, dead or alive), at most
once per retry backoff, until somebody knows. A request that expires stands for a broken connection, whose other
requests are given up with it.
Not modelled: metadata.max.age.ms, exponential backoff. Source: NetworkClient, Metadata, AbstractCoordinator; KIP-320.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hwmark.refimpl import requests as rpc
from hwmark.refimpl.batches import TopicPartition
from hwmark.refimpl.config import ClusterConfig
from hwmark.refimpl.errors import Error
from hwmark.refimpl.machine import Asked, Event, Message, Outbox, Tick, address, earliest
from hwmark.refimpl.partition_change import NO_LEADER

Lookup = rpc.MetadataRequest | rpc.FindCoordinatorRequest
ALL_TOPICS = rpc.MetadataRequest()
LOOKED_UP = None  # context of the client's own requests


@dataclass(slots=True)
class Client:
    """The part of a producer or consumer that talks to brokers: `Client(config, Outbox(name, config.request_timeout))`.

    `wanted` has the time from which a lookup may be sent, None while it is under way.
    """

    config: ClusterConfig
    outbox: Outbox
    partitions: dict[TopicPartition, rpc.PartitionMetadata] = field(default_factory=dict)
    coordinators: dict[rpc.FindCoordinatorRequest, int] = field(default_factory=dict)
    wanted: dict[Lookup, int | None] = field(default_factory=dict)
    not_before: dict[Lookup, int] = field(default_factory=dict)
    turn: int = 0  # whom to ask next
    sent: list[Message] = field(default_factory=list)

    def receive(self, event: Event, now: int) -> list[tuple[Asked, Any]]:
        """The owner's requests that this event ends, with their responses; None: nobody answered in time."""
        if isinstance(event, Message):
            asked = self.outbox.answered(event)
            done = [(asked, event.body)] if asked else []
        else:
            done = [(asked, None) for asked in self._expire(now)] if isinstance(event, Tick) else []
        for asked, response in done:
            if response is None:
                self._disconnected(asked.destination, now)
            if asked.context is LOOKED_UP:
                self._looked_up(asked.body, response, now)
        return [one for one in done if one[0].context is not LOOKED_UP]

    def ask(self, broker_id: int, body: Any, context: Any, now: int) -> None:
        """Send a request; `context` is anything but None."""
        self.sent.append(self.outbox.ask(address(broker_id), body, context, now))

    def tell(self, broker_id: int, body: Any) -> None:
        """Send what nobody answers (acks=0)."""
        self.outbox.last += 1
        self.sent.append(Message(self.outbox.source, address(broker_id), self.outbox.last, body))

    def take(self, now: int) -> list[Message]:
        """What is to be sent now, the lookups that are due with it."""
        due = [lookup for lookup, at in self.wanted.items() if at is not None and at <= now]
        for lookup in sorted(due, key=str):
            self.wanted[lookup] = None
            self.ask(self.config.brokers[self.turn % len(self.config.brokers)], lookup, LOOKED_UP, now)
            self.turn += 1
        sent, self.sent = self.sent, []
        return sent

    def deadline(self) -> int | None:
        """When a request expires or a lookup may be sent."""
        return earliest(self.outbox.deadline(), *self.wanted.values())

    def leader(self, partition: TopicPartition, now: int) -> rpc.PartitionMetadata | None:
        """Leader and leader epoch as far as is known; None while that is being looked up."""
        known = self.partitions.get(partition)
        if known is not None and known.leader != NO_LEADER:
            return known
        self.want(ALL_TOPICS, now)
        return None

    def partitions_of(self, topic: str, now: int) -> tuple[TopicPartition, ...]:
        """A topic's partitions, sorted; none while they are being looked up."""
        known = tuple(sorted(one for one in self.partitions if one[0] == topic))
        if not known:
            self.want(ALL_TOPICS, now)
        return known

    def refresh(self, now: int) -> None:
        """The metadata seem to be old."""
        self.want(ALL_TOPICS, now)

    def coordinator(self, key: str, is_transaction: bool, now: int) -> int | None:
        """The broker that coordinates a group or a transactional id; None while it is being looked up."""
        lookup = rpc.FindCoordinatorRequest(key, is_transaction)
        if lookup not in self.coordinators:
            self.want(lookup, now)
        return self.coordinators.get(lookup)

    def forget_coordinator(self, key: str, is_transaction: bool) -> None:
        """It is not the coordinator (any more)."""
        self.coordinators.pop(rpc.FindCoordinatorRequest(key, is_transaction), None)

    def want(self, lookup: Lookup, now: int) -> None:
        """Look up, unless that is under way or waits for its backoff."""
        self.wanted.setdefault(lookup, max(now, self.not_before.get(lookup, now)))

    def _looked_up(self, lookup: Lookup, response: Any, now: int) -> None:
        retry_at = self.not_before[lookup] = now + self.config.retry_backoff
        if response is None or (isinstance(lookup, rpc.FindCoordinatorRequest) and response.error is not Error.NONE):
            self.wanted[lookup] = retry_at
            return
        del self.wanted[lookup]
        if isinstance(lookup, rpc.FindCoordinatorRequest):
            self.coordinators[lookup] = response.value
            return
        for news in response.partitions:
            known = self.partitions.get(news.topic_partition, news)
            if news.leader_epoch >= known.leader_epoch or not self.config.kip_320:
                self.partitions[news.topic_partition] = news

    def _expire(self, now: int) -> list[Asked]:
        """What has no answer in time; with it everything else that this broker was asked, as one connection breaks."""
        late, asked = self.outbox.expire(now), self.outbox.asked
        silent = {one.destination for one in late}
        return late + [asked.pop(id) for id in [id for id, one in asked.items() if one.destination in silent]]

    def _disconnected(self, destination: str, now: int) -> None:
        self.want(ALL_TOPICS, now)
        lost = [lookup for lookup, broker_id in self.coordinators.items() if address(broker_id) == destination]
        for lookup in lost:
            del self.coordinators[lookup]
