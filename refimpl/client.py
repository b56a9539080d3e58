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

from dataclasses import dataclass, field
from typing import Any

from hwmark.refimpl import requests as rpc
from hwmark.refimpl.batches import TopicPartition
from hwmark.refimpl.config import ClusterConfig
from hwmark.refimpl.errors import Error
from hwmark.refimpl.machine import Asked, Effects, Event, Message, Outbox, Return, address, earliest
from hwmark.refimpl.partition_change import NO_LEADER, PartitionRegistration


@dataclass(slots=True)
class Client:
    """The part of a producer or consumer that talks to brokers: `Client(config, Outbox(name, config.request_timeout))`.

    `coordinators` has what was looked up, by the request (producer ids too), `not_before` when that may be sent again.
    """

    config: ClusterConfig
    outbox: Outbox
    partitions: dict[TopicPartition, PartitionRegistration] = field(default_factory=dict)
    coordinators: dict[Any, Any] = field(default_factory=dict)
    not_before: dict[Any, int] = field(default_factory=dict)
    effects: Effects = field(default_factory=list)

    def receive(self, event: Event, now: int) -> list[tuple[Asked, Any]]:
        """The owner's requests that this event ends, with their responses; REQUEST_TIMED_OUT: nobody answered."""
        done: list[tuple[Asked, Any]] = []
        if isinstance(event, Message) and (answered := self.outbox.answered(event)):
            done.append((answered, event.body))
        done += [(late, rpc.Response(Error.REQUEST_TIMED_OUT)) for late in self.outbox.expire(now)]
        for asked, response in done:
            if asked.context is None:
                self._looked_up(asked.body, response, now)
        return [one for one in done if one[0].context is not None]

    def ask(self, broker_id: int, body: Any, context: Any, now: int) -> None:
        """Send a request; `context` is anything but None, which tells lookups."""
        self.effects.append(self.outbox.ask(address(broker_id), body, context, now))

    def answer(self, number: int, error: Error, value: Any = None) -> None:
        """Return a call to the application."""
        self.effects.append(Return(number, rpc.Response(error, value)))

    def take(self, now: int) -> Effects:
        """What is to be done now."""
        self.not_before = {request: at for request, at in self.not_before.items() if at > now}
        effects, self.effects = self.effects, []
        return effects

    def deadline(self) -> int | None:
        """When a request expires or a lookup may be sent."""
        return earliest(self.outbox.deadline(), *self.not_before.values())

    def leader(self, partition: TopicPartition, now: int) -> PartitionRegistration | None:
        """Leader and leader epoch as far as is known; None while that is being looked up."""
        known = self.partitions.get(partition)
        if known is not None and known.leader != NO_LEADER:
            return known
        self.look_up(rpc.MetadataRequest(), now)
        return None

    def forget_leader(self, partition: TopicPartition) -> None:
        """It did not do what was asked; its epoch stays known."""
        self.partitions[partition] = self.partitions[partition]._replace(leader=NO_LEADER)

    def look_up(self, request: Any, now: int) -> Any:
        """What any broker answers; None as long as none has, and then it is asked unless it is too soon for that."""
        if request not in self.coordinators and self.not_before.get(request, now) <= now:
            self.not_before[request] = now + self.outbox.timeout
            self.ask(self.config.brokers[self.outbox.last % len(self.config.brokers)], request, None, now)
        return self.coordinators.get(request)

    def _looked_up(self, request: Any, response: Any, now: int) -> None:
        self.not_before[request] = now + self.config.retry_backoff
        if response.error is Error.NONE and not isinstance(request, rpc.MetadataRequest):
            self.coordinators[request] = response.value
        elif response.error is Error.NONE:
            for partition, news in response.value:
                if not self.config.kip_320 or news.leader_epoch >= self.partitions.get(partition, news).leader_epoch:
                    self.partitions[partition] = news
