"""What producers and consumers have in common: requests that expire, who leads which partition, who coordinates.

    answers = client.receive(event, now)      the owner's requests that are done, with their responses
    client.ask(client.leader(...).leader, ..., now)
    return client.take(now)                   the messages of this step, and what was returned to the application

Whatever is unknown is looked up from one broker after the other (all of `bootstrap.servers`, dead or alive), at most
once per retry backoff: the owner asks for it in every step until it is known. After an error the owner forgets whom it
has asked (in `partitions` or `coordinators`): the lookup that this causes is also what the next attempt waits for.
Not modelled: connections, metadata.max.age.ms, exponential backoff.
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
LOOKED_UP = None  # context of the client's own requests


@dataclass(slots=True)
class Client:
    """The part of a producer or consumer that talks to brokers: `Client(config, Outbox(name, config.request_timeout))`.

    `not_before` has the time before which a lookup is not sent again.
    """

    config: ClusterConfig
    outbox: Outbox
    partitions: dict[TopicPartition, PartitionRegistration] = field(default_factory=dict)
    coordinators: dict[Lookup, int] = field(default_factory=dict)
    not_before: dict[Lookup, int] = field(default_factory=dict)
    turn: int = 0  # whom to ask next
    effects: Effects = field(default_factory=list)

    def receive(self, event: Event, now: int) -> list[tuple[Asked, Any]]:
        """The owner's requests that this event ends, with their responses; REQUEST_TIMED_OUT: nobody answered."""
        if isinstance(event, Message):
            asked = self.outbox.answered(event)
            done = [(asked, event.body)] if asked else []
        else:
            done = [(asked, rpc.Response(Error.REQUEST_TIMED_OUT)) for asked in self.outbox.expire(now)]
        for asked, response in done:
            if asked.context is LOOKED_UP:
                self._looked_up(asked.body, response, now)
        return [one for one in done if one[0].context is not LOOKED_UP]

    def ask(self, broker_id: int, body: Any, context: Any, now: int) -> None:
        """Send a request; `context` is anything but None."""
        self.effects.append(self.outbox.ask(address(broker_id), body, context, now))

    def answer(self, number: int, error: Error, value: Hashable = None) -> None:
        """Return a call to the application."""
        self.effects.append(Return(number, rpc.Response(error, value)))

    def take(self, now: int) -> Effects:
        """What is to be done now."""
        self.not_before = {lookup: at for lookup, at in self.not_before.items() if at > now}
        effects, self.effects = self.effects, []
        return effects

    def deadline(self) -> int | None:
        """When a request expires or a lookup may be sent."""
        return earliest(self.outbox.deadline(), *self.not_before.values())

    def any_broker(self) -> int:
        """One broker after the other."""
        self.turn += 1
        return self.config.brokers[(self.turn - 1) % len(self.config.brokers)]

    def leader(self, partition: TopicPartition, now: int) -> PartitionRegistration | None:
        """Leader and leader epoch as far as is known; None while that is being looked up."""
        known = self.partitions.get(partition)
        if known is not None and known.leader != NO_LEADER:
            return known
        self.refresh(now)
        return None

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
        self._look_up(rpc.MetadataRequest(), now)

    def coordinator(self, key: str, is_transaction: bool, now: int) -> int | None:
        """The broker that coordinates a group or a transactional id; None while it is being looked up."""
        lookup = rpc.FindCoordinatorRequest(key, is_transaction)
        if lookup not in self.coordinators:
            self._look_up(lookup, now)
        return self.coordinators.get(lookup)

    def _look_up(self, lookup: Lookup, now: int) -> None:
        """Ask, unless that is under way or waits for its backoff."""
        if self.not_before.get(lookup, now) <= now:
            self.not_before[lookup] = now + self.outbox.timeout
            self.ask(self.any_broker(), lookup, LOOKED_UP, now)

    def _looked_up(self, lookup: Lookup, response: Any, now: int) -> None:
        self.not_before[lookup] = now + self.config.retry_backoff
        if response.error is Error.NONE and isinstance(lookup, rpc.FindCoordinatorRequest):
            self.coordinators[lookup] = response.value
        elif response.error is Error.NONE:
            for here, news in response.value:
                is_old = news.leader_epoch < self.partitions.get(here, news).leader_epoch
                if not (is_old and self.config.kip_320):
                    self.partitions[here] = news
