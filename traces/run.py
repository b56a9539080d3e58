"""A run of a cluster of machines, read out of its trace: who did what when, and what became of every message.

Such a trace has the model `refimpl`. Its state has `machines`, a view of each by its name, and `network`, the messages
under way by their ids: `{"from", "to", "kind", "is_response", "correlation", "text"}`. A message appears there in the
step that sends it and is gone after the step that delivers or loses it. An action has `at`, the time in ms, and names
the `message` or the `machine` it is about. The state's `returned` is what calls returned in the last step, if anybody
recorded it: a list of `{"machine", "number", "outcome"}`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from itertools import islice
from typing import TypeVar

from hwmark.traces.changes import Json
from hwmark.traces.errors import BadInputError
from hwmark.traces.run_changes import DOWN, Item, View, Views, as_object, object_at
from hwmark.traces.run_words import Outcome, call_text, fault_text, outcomes, snake_case
from hwmark.traces.trace import State, Step, Trace

T = TypeVar("T")

RUN_MODEL = "refimpl"

DELIVER, DROP, DUPLICATE, INVOKE = "deliver", "drop", "duplicate", "invoke"
ZOOKEEPER, WATCH_EVENT = "ZooKeeper", "WatchEvent"
"""The kind of a message from ZooKeeper that answers nothing, and its name."""

ORDINARY = ("start", DELIVER, "tick", INVOKE)
"""Actions that are no fault."""


class Fate(Enum):
    """What became of a message."""

    DELIVERED = "delivered"
    LOST = "lost"
    UNDER_WAY = "under way"


@dataclass
class Flight:
    """A message on its way: the step that sent it, or made a copy of it, and the step that ended it."""

    source: str
    destination: str
    kind: str
    is_response: bool
    text: str
    sent: int
    is_copy: bool = False
    ended: int | None = None
    fate: Fate = Fate.UNDER_WAY

    @property
    def name(self) -> str:
        """The message's name in Kafka: `Fetch`, and `FetchResponse` for its answer."""
        return WATCH_EVENT if self.kind == ZOOKEEPER else self.kind + "Response" * self.is_response


@dataclass(frozen=True)
class Event:
    """One step: its machine, what it received, sent and lost, its fault or call, the outcomes and what changed."""

    number: int
    at: int | None
    action: str
    machines: tuple[str, ...]
    received: Flight | None = None
    sent: tuple[Flight, ...] = ()
    lost: tuple[Flight, ...] = ()
    fault: str | None = None
    call: str | None = None
    returns: tuple[Outcome, ...] = ()
    changes: dict[str, tuple[Item, ...]] = field(default_factory=dict)

    @property
    def machine(self) -> str | None:
        """The machine that the step is about; None if it is about none or about several."""
        return self.machines[0] if len(self.machines) == 1 else None


@dataclass(frozen=True)
class Run:
    """The events of a run, one per step, the flights of its messages, and the views of the machines at its end."""

    trace: Trace
    machines: tuple[str, ...]
    events: tuple[Event, ...]
    flights: tuple[Flight, ...]
    last: State
    replicas: dict[str, View]

    @classmethod
    def of(cls, trace: Trace, file: str = "trace") -> Run:
        """The run in a trace of the model `refimpl`. BadInputError, with the line of `file`, for what is none."""
        reader = _Reader(trace, file)
        events, flights = tuple(reader.events()), tuple(reader.flights)
        names = [*object_at(trace.initial, "machines"), *(end for f in flights for end in (f.source, f.destination))]
        names += [
            name for e in events for name in (*e.machines, *e.changes, *(outcome.machine for outcome in e.returns))
        ]
        return cls(trace, _in_order(names), events, flights, reader.last, dict(reader.views.partitions))


def is_run(trace: Trace) -> bool:
    """Whether a trace is the run of a cluster of machines, not of a formal model."""
    return trace.model == RUN_MODEL and isinstance(trace.initial.get("machines"), dict)


def _in_order(names: list[str]) -> tuple[str, ...]:
    """Machines by what they are: ZooKeeper, brokers, producers, consumers, others."""
    kinds = ("zookeeper", "broker", "producer", "consumer")
    ranks = {kind: rank for rank, kind in enumerate(kinds)}
    return tuple(sorted(dict.fromkeys(names), key=lambda name: ranks.get(name.partition("-")[0], len(kinds))))


class _Reader:
    """Walks through the states; remembers the messages under way and what each machine was last seen with."""

    def __init__(self, trace: Trace, file: str) -> None:
        self.trace, self.file, self.last = trace, file, trace.initial
        self.flights: list[Flight] = []
        self.under_way: dict[str, Flight] = {}
        self.asked: dict[tuple[str, str, str], str] = {}
        self.views = Views({})

    def events(self) -> Iterator[Event]:
        """One event per step."""
        states = self.trace.states()
        self._checked(0, self._begin)
        for number, (step, after) in enumerate(zip(self.trace.steps, islice(states, 1, None), strict=True), 1):
            yield self._checked(number, partial(self._event, number, step, self.last, after))
            self.last = after

    def _checked(self, number: int, read: Callable[[], T]) -> T:
        """What was read of a step, whose line follows the header's and those of the steps before it."""
        try:
            return read()
        except ValueError as error:
            raise BadInputError(self.file, number + 1, f"no run of a cluster: {error}") from error

    def _begin(self) -> None:
        """The initial state, of which nothing has changed."""
        self.views.changes(as_object(self.trace.initial.get("machines"), "machines"))
        for id, message in as_object(self.trace.initial.get("network", {}), "network").items():
            self._send(id, message, 0)

    def _event(self, number: int, step: Step, before: State, after: State) -> Event:
        action, arguments = snake_case(step.action), step.arguments
        message = self.under_way.get(str(arguments.get("message")))
        machines = tuple(name for name in [arguments.get("machine")] if isinstance(name, str))
        if message is not None:
            machines = {DELIVER: (message.destination,), DUPLICATE: (message.source,)}.get(action, ())
        is_received = action == DELIVER and message is not None and not _is_down(before, message.destination)
        gone = self._end(number, after, message if is_received else None)
        sent = tuple(self._sent(number, after, is_copy=action == DUPLICATE))
        if action == INVOKE and any(flight.source not in machines for flight in sent):
            machines = (sent[0].source,)  # of a machine that has no application somebody else asks
        at = arguments.get("at", after.get("now"))
        return Event(
            number=number,
            at=at if isinstance(at, int) else None,
            action=action,
            machines=machines,
            received=message if is_received else None,
            sent=sent,
            lost=tuple(flight for flight in gone if flight.fate is Fate.LOST),
            fault=None if action in ORDINARY else fault_text(action, arguments),
            call=call_text(arguments) if action == INVOKE else None,
            returns=outcomes(after.get("returned")),
            changes=self.views.changes(as_object(after.get("machines"), "machines")),
        )

    def _end(self, number: int, after: State, delivered: Flight | None) -> list[Flight]:
        """The messages that are gone after this step."""
        network = as_object(after.get("network", {}), "network")
        gone = [self.under_way.pop(id) for id in [id for id in self.under_way if id not in network]]
        for flight in gone:
            flight.ended, flight.fate = number, Fate.DELIVERED if flight is delivered else Fate.LOST
        return gone

    def _sent(self, number: int, after: State, *, is_copy: bool) -> Iterator[Flight]:
        for id, message in object_at(after, "network").items():
            if id not in self.under_way:
                yield self._send(id, message, number, is_copy)

    def _send(self, id: str, message: Json, number: int, is_copy: bool = False) -> Flight:
        fields = as_object(message, f"message {id}")
        source, destination, kind, text = (_text(fields, name, id) for name in ("from", "to", "kind", "text"))
        is_response, correlation = fields.get("is_response") is True, str(fields.get("correlation"))
        if is_response:  # a response that many requests have is called by the request's name
            kind = self.asked.get((destination, source, correlation), kind)
        else:
            self.asked[source, destination, correlation] = kind
        flight = Flight(source, destination, kind, is_response, text, number, is_copy)
        self.under_way[id] = flight
        self.flights.append(flight)
        return flight


def _text(message: View, name: str, id: str) -> str:
    text = message.get(name)
    if not isinstance(text, str):
        raise ValueError(f"message {id}: expected a text as {name!r}")
    return text


def _is_down(state: State, machine: str) -> bool:
    return object_at(object_at(state, "machines"), machine).get("state") == DOWN
