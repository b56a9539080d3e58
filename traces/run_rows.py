"""The rows of a run's sequence diagram: the steps that matter, and between them how many quiet ones there were.

A quiet step only keeps the cluster going: an idle fetch, a ping, a heartbeat, a look-up of metadata. It befell no
machine, returned nothing to an application, changed no view, and neither received, sent nor lost any other message.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from hwmark.traces.run import DROP, Event, Fate, Flight, Run

QUIET_KINDS = ("Fetch", "Heartbeat", "Metadata", "UpdateMetadata", "FindCoordinator", "ListOffsets", "Ping", "Read")
"""Messages that come all the time and that, by themselves, nobody wants to see; Ping and Read are ZooKeeper's."""

_RECORDS = re.compile(r"batches=\[[^]]")

FOLD_FROM, KINDS_MAX = 3, 5
"""How many quiet steps in succession are folded, and how many kinds of them are named."""


@dataclass(frozen=True)
class Fold:
    """Quiet steps, one after the other."""

    events: tuple[Event, ...]

    @property
    def words(self) -> str:
        """How many steps, and of what kinds: `7 steps: 4 Fetch, 2 ticks, 1 FetchResponse`."""
        kinds = Counter(map(_kind, self.events))
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


@dataclass(frozen=True)
class Choice:
    """Which steps are drawn: from `first` to `last` (None: the end), with `everything` the quiet ones too."""

    everything: bool = False
    first: int = 1
    last: int | None = None

    def is_folded(self, event: Event) -> bool:
        """Whether a step is folded, if it is not alone."""
        is_within = self.first <= event.number and (self.last is None or event.number <= self.last)
        return not is_within or (not self.everything and is_quiet(event))


EVERY_STEP_THAT_MATTERS = Choice()


def rows_of(run: Run, choice: Choice = EVERY_STEP_THAT_MATTERS) -> list[Row]:
    """A row for each step that matters and that was chosen, and one for those between them."""
    rows = [row for folded, events in groupby(run.events, choice.is_folded) for row in _rows(folded, tuple(events))]
    if choice.last is None and rows and isinstance(rows[-1], Fold):  # the last step is where a counterexample breaks
        *quiet, last = rows.pop().events
        rows += [Fold(tuple(quiet)), last]
    return rows


def arrows_of(run: Run, rows: list[Row]) -> Iterator[Arrow]:
    """The messages that ended in a step that is drawn; and those that such a step sent and that are still under way."""
    places = {event.number: place for place, row in enumerate(rows) for event in _events(row)}
    for flight in run.flights:
        start = places.get(flight.sent)
        if flight.fate is Fate.UNDER_WAY:
            if start is not None and isinstance(rows[start], Event) and not is_background(flight):
                yield Arrow(flight, start, None)
        elif flight.ended is not None and isinstance(rows[places[flight.ended]], Event):
            yield Arrow(flight, start, places[flight.ended])


def is_quiet(event: Event) -> bool:
    """Whether a step shows nothing that anybody asks about."""
    if event.call or event.returns or event.changes or (event.fault and not (event.action == DROP and event.lost)):
        return False
    received = () if event.received is None else (event.received,)
    return all(map(is_background, (*received, *event.sent, *event.lost)))


def is_background(flight: Flight) -> bool:
    """Whether a message is of those that come all the time, and brings no records."""
    return flight.kind in QUIET_KINDS and not _RECORDS.search(flight.text)


def folded(rows: list[Row]) -> int:
    """How many steps are folded."""
    return sum(len(row.events) for row in rows if isinstance(row, Fold))


def _rows(is_folded: bool, events: tuple[Event, ...]) -> list[Row]:
    """Steps in succession; a few quiet ones take no more room than the line that would tell of them."""
    return [Fold(events)] if is_folded and len(events) >= FOLD_FROM else list(events)


def _kind(event: Event) -> str:
    """What a quiet step was: the message that arrived, one that was lost, or else the action."""
    if event.received is not None:
        return event.received.name
    return f"lost {event.lost[0].name}" if event.lost else event.action


def _events(row: Row) -> tuple[Event, ...]:
    return row.events if isinstance(row, Fold) else (row,)
