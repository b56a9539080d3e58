"""The rows of a run's sequence diagram: the steps that matter, and between them how many quiet ones there were.

A quiet step only keeps the cluster going: an idle fetch, a ping, a heartbeat, a look-up of metadata. It befell nobody,
returned nothing to an application, changed no view, and neither received nor sent any other message.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from hwmark.traces.run import Event, Fate, Flight, Run

QUIET_KINDS = ("Fetch", "Ping", "Heartbeat", "Metadata", "UpdateMetadata", "FindCoordinator", "ListOffsets", "GetData")
"""Messages that come all the time and that, by themselves, nobody wants to see."""

FOLD_FROM, KINDS_MAX = 3, 5
"""How many quiet steps in succession are folded, and how many kinds of them are named."""


@dataclass(frozen=True)
class Fold:
    """Quiet steps, one after the other."""

    events: tuple[Event, ...]

    @property
    def words(self) -> str:
        """How many steps, and of what kinds: `7 steps: 4 Fetch, 2 ticks, 1 FetchResponse`."""
        kinds = Counter(event.received.name if event.received else event.action for event in self.events)
        told = [f"{count:,} {kind}" for kind, count in kinds.most_common(KINDS_MAX)]
        more = kinds.total() - sum(count for _, count in kinds.most_common(KINDS_MAX))
        steps = f"{len(self.events):,} step{'s' * (len(self.events) != 1)}"
        return f"{steps}: {', '.join([*told, *([f'{more:,} others'] if more else [])])}"


Row = Event | Fold


@dataclass(frozen=True)
class Arrow:
    """A message from the row that sent it (None: before the first) to the row that ended it (None: still under way)."""

    flight: Flight
    from_row: int | None
    to_row: int | None


def rows_of(run: Run, *, everything: bool = False) -> list[Row]:
    """A row for each step that matters, or for each step if `everything` is wanted."""
    if everything:
        return list(run.events)
    last = len(run.events)
    return [row for quiet, events in groupby(run.events, is_quiet) for row in _rows(quiet, tuple(events), last)]


def arrows_of(run: Run, rows: list[Row]) -> Iterator[Arrow]:
    """The messages that ended in a step that is drawn; and those that such a step sent and that are still under way."""
    places = {event.number: place for place, row in enumerate(rows) for event in _events(row)}
    for flight in run.flights:
        start = places.get(flight.sent)
        if flight.fate is Fate.UNDER_WAY:
            if start is not None and isinstance(rows[start], Event) and flight.kind not in QUIET_KINDS:
                yield Arrow(flight, start, None)
        elif flight.ended is not None and isinstance(rows[places[flight.ended]], Event):
            yield Arrow(flight, start, places[flight.ended])


def is_quiet(event: Event) -> bool:
    """Whether a step shows nothing that anybody asks about."""
    if event.fault or event.call or event.returns or event.changes or event.lost:
        return False
    received = () if event.received is None else (event.received,)
    return all(flight.kind in QUIET_KINDS for flight in (*received, *event.sent))


def folded(rows: list[Row]) -> int:
    """How many steps are folded."""
    return sum(len(row.events) for row in rows if isinstance(row, Fold))


def _rows(quiet: bool, events: tuple[Event, ...], last: int) -> list[Row]:
    """Quiet steps are folded if they are many; the last step of a run is always drawn."""
    ending = tuple(event for event in events if event.number == last)
    folding = events[: len(events) - len(ending)]
    return [Fold(folding), *ending] if quiet and len(folding) >= FOLD_FROM else list(events)


def _events(row: Row) -> tuple[Event, ...]:
    return row.events if isinstance(row, Fold) else (row,)
