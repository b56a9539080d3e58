"""What every machine is: a deterministic step from an event and the time to effects. Nothing else happens in it.

A machine has a `name` (its address: "zookeeper", "broker-1", "producer-1", ...), and may be copied at any time: its
state is slotted dataclasses, tuples, dicts, lists, strings and numbers, and never depends on the order of a set.

    step(event, now) -> effects     `now` is the machine's own clock, in ms
    deadline() -> ms or None        the time at which a Tick has something to do, if nothing happens before
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

Address = str
ZOOKEEPER: Address = "zookeeper"


class Message(NamedTuple):
    """What the network carries, as event and as effect; a response has the correlation id of its request.

    Ids count per sender from 1. They are never used twice by one incarnation of a machine.
    """

    source: Address
    destination: Address
    correlation: int
    body: Any  # a ...Request or ...Response of `requests` or `zookeeper`


class Tick(NamedTuple):
    """Event: the deadline has come, or the machine was started."""


class Call(NamedTuple):
    """Event: the application calls its client; a Return with this number answers, sooner or later."""

    number: int
    operation: Any  # one of the operations of `producer` or `consumer`


class Return(NamedTuple):
    """Effect: a call's outcome."""

    number: int
    outcome: Hashable


Event = Message | Tick | Call
Effects = list[Message | Return]


class Machine(Protocol):
    """A broker, ZooKeeper or a client."""

    name: Address

    def step(self, event: Event, now: int) -> Effects:
        """React to what happened; time may stand still between steps, and with a stepped clock go back."""

    def deadline(self) -> int | None:
        """When to Tick."""


def address(broker_id: int) -> Address:
    """A broker's address."""
    return f"broker-{broker_id}"


class Asked(NamedTuple):
    """A request that has not been answered; `context` says what to do with its answer."""

    destination: Address
    body: Any
    context: Any
    deadline: int


@dataclass(slots=True)
class Outbox:
    """The requests of a machine, or of a part of one, by their correlation ids.

    Parts of one machine number in strides, from different starts, so that a response says by its id whose it is.
    """

    source: Address
    timeout: int
    last: int = 0
    stride: int = 1
    asked: dict[int, Asked] = field(default_factory=dict)

    def ask(self, destination: Address, body: Any, context: Any, now: int) -> Message:
        """The request to send; its answer, or its expiry, gives the context back."""
        self.last += self.stride
        self.asked[self.last] = Asked(destination, body, context, now + self.timeout)
        return Message(self.source, destination, self.last, body)

    def answered(self, response: Message) -> Asked | None:
        """The request that a response is to; None if it came too late, or a second time."""
        return self.asked.pop(response.correlation, None)

    def expire(self, now: int) -> list[Asked]:
        """The requests that nobody has answered in time, the oldest first; they are given up."""
        late = [id for id, asked in self.asked.items() if asked.deadline <= now]
        return [self.asked.pop(id) for id in late]

    def deadline(self) -> int | None:
        """When the next request expires; if the clock went back, it may be another than the oldest."""
        return min([asked.deadline for asked in self.asked.values()], default=None)


def earliest(*deadlines: int | None) -> int | None:
    """The first of some deadlines."""
    known = [deadline for deadline in deadlines if deadline is not None]
    return min(known) if known else None  # twice as fast as with a default
