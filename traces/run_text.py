"""A run as aligned text: a line for every step, and below it what it changed, returned, sent and lost."""

from __future__ import annotations

from collections.abc import Iterator

from hwmark.traces.run import Event, Flight, Run
from hwmark.traces.run_changes import Appended, Item, Log, LogRecord, Note, object_at
from hwmark.traces.run_words import broken_sentence, plain_text
from hwmark.traces.trace import Trace

SIGNS = {"received": "<-", "sent": "->", "lost": "x "}


def run_text(trace: Trace, file: str = "trace") -> str:
    """The run for people; what a message says stands where it arrives or gets lost."""
    run = Run.of(trace, file)
    return "\n".join([*_header(trace), "", *_steps(run), *_end(trace)]) + "\n"


def _header(trace: Trace) -> Iterator[str]:
    told = {"hwmark": trace.hwmark, "model": trace.model, "seed": trace.seed, "property": trace.property}
    setup = object_at(trace.initial, "setup")
    for name, value in {**told, **setup}.items():
        if value is not None:
            yield f"{name:<9} {plain_text(value)}"


def _steps(run: Run) -> Iterator[str]:
    numbers, width = len(str(len(run.events))), max(map(len, run.machines), default=0)
    times = max((len(f"{event.at}") for event in run.events), default=0)
    for event in run.events:
        at = "" if event.at is None else str(event.at)
        yield f"{event.number:<{numbers}}  {at:>{times}}  {', '.join(event.machines):<{width}}  {_what(event)}".rstrip()
        for line in _details(event):
            yield f"{'':{numbers + times + width + 8}}{line}"


def _what(event: Event) -> str:
    """What the step was."""
    if event.received is not None:
        return f"{SIGNS['received']} {event.received.name} from {event.received.source}: {event.received.text}"
    return event.fault or event.call or event.action.replace("_", " ")


def _details(event: Event) -> Iterator[str]:
    for flight in event.lost:
        yield f"{SIGNS['lost']} {flight.name} from {flight.source} to {flight.destination}: {flight.text}"
    for name, items in event.changes.items():
        owner = "" if name in event.machines else f"{name}: "
        for line in _lines(items):
            yield owner + line
    for outcome in event.returns:
        yield outcome.text
    for flight in event.sent:
        yield f"{SIGNS['sent']} {_sent(event, flight)}"


def _sent(event: Event, flight: Flight) -> str:
    source = "" if flight.source in event.machines else f" from {flight.source}"
    return f"{flight.name}{source} to {flight.destination}"


def _lines(items: tuple[Item, ...]) -> Iterator[str]:
    """A line for each partition, and one for each other change."""
    parts: list[str] = []
    for item in items:
        if isinstance(item, Note) and item.is_heading:
            if parts:
                yield ", ".join(parts)
            parts = [f"{item.text}: {{}}"]
        elif not parts:
            yield _item(item)
        else:
            parts = [parts[0].replace("{}", _item(item))] if parts[0].endswith("{}") else [*parts, _item(item)]
    if parts:
        yield ", ".join(parts)


def _item(item: Item) -> str:
    if isinstance(item, Note):
        return item.text
    sign = "" if isinstance(item, Log) else "+ " if isinstance(item, Appended) else "- "
    return sign + " ".join(map(_record, item.records))


def _record(record: LogRecord) -> str:
    return f"{record.value}@{record.offset}/{record.epoch}"


def _end(trace: Trace) -> Iterator[str]:
    sentence = broken_sentence(trace)
    if sentence is not None:
        yield sentence
