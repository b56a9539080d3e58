"""The rows of a run's sequence diagram: the steps that matter, and between them how many quiet ones there were.

A quiet step only keeps the cluster going: an idle fetch, a ping, a heartbeat, a look-up of metadata. It befell no
machine, returned nothing to an application, changed no view, and neither received, sent nor lost any other message.
Steps that only repeat what was done before, as a client that tries again in vain, are quiet as well, and so is the
replication of internal topics.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from hwmark.traces.run import DROP, DUPLICATE, Event, Fate, Flight, Run
from hwmark.traces.run_changes import is_replication

FETCH = "Fetch"
QUIET_KINDS = (FETCH, "Heartbeat", "Metadata", "FindCoordinator", "ListOffsets", "Ping", "Read")
"""Messages that come all the time and that, by themselves, nobody wants to see; Ping and Read are ZooKeeper's."""

_RECORDS = re.compile(r"batches=\[[^]]")

KINDS_MAX = 5
"""How many kinds of folded steps are named."""


@dataclass(frozen=True)
class Fold:
    """Quiet steps, one after the other."""

    events: tuple[Event, ...]

    @property
    def words(self) -> str:
        """How many steps, and of what kinds: `7 steps: 4 Fetch, 2 ticks, 1 FetchResponse`."""
        kinds = Counter(map(_kind, self.events))
        told = [
            f"{count:,} {kind}{'s' * (kind == 'tick' and count > 1)}" for kind, count in kinds.most_common(KINDS_MAX)
        ]
        more = kinds.total() - sum(count for _, count in kinds.most_common(KINDS_MAX))
        steps = f"{len(self.events):,} step{'s' * (len(self.events) != 1)}"
        return f"{steps}: {', '.join([*told, *([f'{more:,} more'] if more else [])])}"


Row = Event | Fold


@dataclass(frozen=True)
class Arrow:
    """A message from the row that sent it (None: before the first) to the row that ended it (None: still under way)."""

    flight: Flight
    from_row: int | None
    to_row: int | None


@dataclass(frozen=True)
class Choice:
    """Which steps are drawn: from `first` to `last` (None: the end), with `everything` the quiet ones too."""

    everything: bool = False
    first: int = 1
    last: int | None = None

    def drawn(self, events: tuple[Event, ...]) -> set[int]:
        """The numbers of the steps that are drawn in any case."""
        last = len(events) if self.last is None else self.last
        within = {event.number for event in events if self.everything or not is_quiet(event)}
        within -= set() if self.everything else repeated(events)
        return {number for number in within if self.first <= number <= last} | ({last} if self.last is None else set())


EVERY_STEP_THAT_MATTERS = Choice()


def rows_of(run: Run, choice: Choice = EVERY_STEP_THAT_MATTERS) -> list[Row]:
    """A row for each step that matters and that was chosen, and one for those between them."""
    drawn = choice.drawn(run.events)
    groups = groupby(run.events, lambda event: event.number in drawn)
    return [row for is_drawn, events in groups for row in _rows(is_drawn, tuple(events))]


def arrows_of(run: Run, rows: list[Row]) -> Iterator[Arrow]:
    """The messages that ended in a step that is drawn; and those that such a step sent and that are still under way."""
    places = {event.number: place for place, row in enumerate(rows) for event in _events(row)}
    for flight in run.flights:
        start = places.get(flight.sent)
        end = None if flight.ended is None else places[flight.ended]
        place = start if end is None else end
        row = None if place is None else rows[place]
        if isinstance(row, Event) and not _is_idle(flight, row):
            yield Arrow(flight, start, end)


def is_quiet(event: Event) -> bool:
    """Whether a step shows nothing that anybody asks about."""
    return not has_news(event) and all(map(is_background, _messages(event)))


def has_news(event: Event) -> bool:
    """Whether a step is a call or a fault, returned something, changed a view, or lost records on their way."""
    if event.call or event.returns or (event.fault and event.action not in (DROP, DUPLICATE)):
        return True
    if any(_RECORDS.search(flight.text) for flight in event.lost):
        return True
    is_fetch = event.received is not None and event.received.kind == FETCH
    return bool(event.changes) and not (is_fetch and all(map(is_replication, event.changes.values())))


def repeated(events: tuple[Event, ...]) -> set[int]:
    """The steps that did what was done before, with messages alike, though nothing new happened to anybody in them.

    That is a client that tries again in vain, for instance.
    """
    done: dict[tuple[tuple[str, ...], ...], int] = {}
    news: dict[str, int] = {}
    found = set()
    for event in events:
        messages = _messages(event)
        ends = {*event.machines, *(end for flight in messages for end in (flight.source, flight.destination))}
        if has_news(event):
            news |= dict.fromkeys(ends, event.number)
            continue
        what = (event.machines, *((f.source, f.destination, f.name, f.text) for f in messages))
        if what in done and done[what] > max((news.get(end, 0) for end in ends), default=0):
            found.add(event.number)
        done[what] = event.number
    return found


def is_background(flight: Flight) -> bool:
    """Whether a message is of those that come all the time; not what says that a write failed."""
    if flight.kind == "Multi":
        return flight.is_response and "error=" not in flight.text
    return flight.kind in QUIET_KINDS


def folded(rows: list[Row]) -> int:
    """How many steps are folded."""
    return sum(len(row.events) for row in rows if isinstance(row, Fold))


def _rows(is_drawn: bool, events: tuple[Event, ...]) -> list[Row]:
    """Steps in succession; a single message takes no more room than the line that would tell of it."""
    is_single = len(events) == 1 and (events[0].received is not None or events[0].lost)
    return list(events) if is_drawn or is_single else [Fold(events)]


def _messages(event: Event) -> tuple[Flight, ...]:
    """All messages that a step is about."""
    return (*(() if event.received is None else (event.received,)), *event.sent, *event.lost)


def _is_idle(flight: Flight, row: Event) -> bool:
    """Whether a message that never arrived is one of those that nobody asks about, unless its loss is the step."""
    return flight.fate is not Fate.DELIVERED and is_background(flight) and row.action != DROP


def _kind(event: Event) -> str:
    """What a quiet step was: the message that arrived, one that was lost, or else the action."""
    if event.received is not None:
        return event.received.name
    return f"lost {event.lost[0].name}" if event.lost else event.action


def _events(row: Row) -> tuple[Event, ...]:
    return row.events if isinstance(row, Fold) else (row,)
