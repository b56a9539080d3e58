"""What producers and consumers have in common: requests that expire, who leads which partition, who coordinates.

    answers = client.receive(event, now)      the owner's requests that are done: the response, None if given up
    client.ask(client.leader(...).leader, ..., now)
    return client.take(now)                   the messages of this step, and what was returned to the application

Whatever is unknown is looked up from one broker after the other (all of `bootstrap.servers`, dead or alive), at most
once per retry backoff, until somebody knows. After an error the owner forgets whom it has asked: the lookup that this
causes is also what the next attempt waits for. Not modelled: connections, metadata.max.age.ms, exponential backoff.
Source: NetworkClient, Metadata, AbstractCoordinator; KIP-320.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

from hwmark.refimpl import requests as rpc
from hwmark.refimpl.batches import TopicPartition
from hwmark.refimpl.config import ClusterConfig
from hwmark.refimpl.errors import Error
from hwmark.refimpl.machine import Asked, Effects, Event, Message, Outbox, Return, address, earliest
from hwmark.refimpl.partition_change import NO_LEADER, PartitionRegistration

Lookup = rpc.MetadataRequest | rpc.FindCoordinatorRequest
ALL_TOPICS = rpc.MetadataRequest()
LOOKED_UP = None  # context of the client's own requests


@dataclass(slots=True)
class Client:
    """The part of a producer or consumer that talks to brokers: `Client(config, Outbox(name, config.request_timeout))`.

    `wanted` has the time from which a lookup is sent, or sent again.
    """

    config: ClusterConfig
    outbox: Outbox
    partitions: dict[TopicPartition, PartitionRegistration] = field(default_factory=dict)
    coordinators: dict[rpc.FindCoordinatorRequest, int] = field(default_factory=dict)
    wanted: dict[Lookup, int] = field(default_factory=dict)
    not_before: dict[Lookup, int] = field(default_factory=dict)
    turn: int = 0  # whom to ask next
    effects: Effects = field(default_factory=list)

    def receive(self, event: Event, now: int) -> list[tuple[Asked, Any]]:
        """The owner's requests that this event ends, with their responses; None: nobody answered in time."""
        if isinstance(event, Message):
            asked = self.outbox.answered(event)
            done: list[tuple[Asked, Any]] = [(asked, event.body)] if asked else []
        else:
            done = [(asked, None) for asked in self.outbox.expire(now)]
        for asked, response in done:
            if asked.context is LOOKED_UP:
                self._looked_up(asked.body, response, now)
        return [one for one in done if one[0].context is not LOOKED_UP]

    def ask(self, broker_id: int, body: Any, context: Any, now: int) -> None:
        """Send a request; `context` is anything but None."""
        self.effects.append(self.outbox.ask(address(broker_id), body, context, now))

    def tell(self, broker_id: int, body: Any) -> None:
        """Send what nobody answers (acks=0)."""
        self.outbox.last += 1
        self.effects.append(Message(self.outbox.source, address(broker_id), self.outbox.last, body))

    def answer(self, number: int, error: Error, value: Hashable = None) -> None:
        """Return a call to the application."""
        self.effects.append(Return(number, rpc.Response(error, value)))

    def take(self, now: int) -> Effects:
        """What is to be done now, with the lookups that are due."""
        for lookup, at in self.wanted.items():
            if at <= now:
                self.wanted[lookup] = now + self.outbox.timeout
                self.ask(self.any_broker(), lookup, LOOKED_UP, now)
        effects, self.effects = self.effects, []
        return effects

    def deadline(self) -> int | None:
        """When a request expires or a lookup may be sent."""
        return earliest(self.outbox.deadline(), *self.wanted.values())

    def any_broker(self) -> int:
        """One broker after the other."""
        self.turn += 1
        return self.config.brokers[(self.turn - 1) % len(self.config.brokers)]

    def leader(self, partition: TopicPartition, now: int) -> PartitionRegistration | None:
        """Leader and leader epoch as far as is known; None while that is being looked up."""
        known = self.partitions.get(partition)
        if known is None or known.leader == NO_LEADER:
            self.refresh(now)
            return None
        return known

    def forget_leader(self, partition: TopicPartition) -> None:
        """It did not do what was asked; its epoch stays known."""
        self.partitions[partition] = self.partitions[partition]._replace(leader=NO_LEADER)

    def partitions_of(self, topic: str, now: int) -> tuple[TopicPartition, ...]:
        """A topic's partitions, sorted; none while they are being looked up."""
        known = tuple(sorted(one for one in self.partitions if one[0] == topic))
        if not known:
            self.refresh(now)
        return known

    def refresh(self, now: int) -> None:
        """The metadata may be old."""
        self._want(ALL_TOPICS, now)

    def coordinator(self, key: str, is_transaction: bool, now: int) -> int | None:
        """The broker that coordinates a group or a transactional id; None while it is being looked up."""
        lookup = rpc.FindCoordinatorRequest(key, is_transaction)
        if lookup not in self.coordinators:
            self._want(lookup, now)
        return self.coordinators.get(lookup)

    def forget_coordinator(self, key: str, is_transaction: bool) -> None:
        """It did not do what was asked."""
        self.coordinators.pop(rpc.FindCoordinatorRequest(key, is_transaction), None)

    def _want(self, lookup: Lookup, now: int) -> None:
        """Look up, unless that is under way or waits for its backoff."""
        self.wanted.setdefault(lookup, max(now, self.not_before.get(lookup, now)))

    def _looked_up(self, lookup: Lookup, response: Any, now: int) -> None:
        self.wanted[lookup] = self.not_before[lookup] = now + self.config.retry_backoff
        if response is None or response.error is not Error.NONE:
            return
        del self.wanted[lookup]
        if isinstance(lookup, rpc.FindCoordinatorRequest):
            self.coordinators[lookup] = response.value
            return
        for here, news in response.value:
            known = self.partitions.get(here, news)
            if news.leader_epoch >= known.leader_epoch or not self.config.kip_320:
                self.partitions[here] = news
