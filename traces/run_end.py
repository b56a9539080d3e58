"""How a run ends: the logs of the brokers, and in them the machines and offsets of a broken promise's witness."""

from __future__ import annotations

from collections.abc import Container, Iterator

from hwmark.traces.changes import Json
from hwmark.traces.run import Run
from hwmark.traces.run_box import Box
from hwmark.traces.run_changes import (
    DOWN,
    NO_EPOCH,
    Item,
    Log,
    LogRecord,
    Note,
    View,
    is_internal,
    isr_text,
    log_of,
    object_at,
    role_text,
)
from hwmark.traces.words import value_text

PARTITIONS_MAX, RECORDS_MAX = 3, 8


def witnesses(run: Run) -> set[str]:
    """The machines that the witness names."""
    return {name for name in run.machines if name in set(_scalars(run.trace.witness))}


def end_boxes(run: Run) -> dict[str, Box]:
    """The last state of each broker's logs: of partitions that the witness names, else of the first with records."""
    named = set(_scalars(run.trace.witness))
    brokers = {name: view for name, view in run.replicas.items() if view}
    partitions = _partitions(brokers, named)
    broken = frozenset((partition, offset) for partition in partitions for offset in _offsets(run.trace.witness))
    boxes = {}
    for name, replicas in brokers.items():
        state = object_at(run.last, "machines", name).get("state")
        items = [item for partition in partitions for item in _replica(partition, replicas, broken)]
        if items:
            down = [Note("DOWN; on its disk:", is_strong=True)] if state == DOWN else []
            boxes[name] = Box((*down, *items), broken, is_witness=name in named)
    return boxes


def _partitions(brokers: dict[str, View], named: Container[Json]) -> list[str]:
    """The partitions to show; internal topics only if they are named."""
    found = {partition: None for view in brokers.values() for partition in view}
    told = [partition for partition in found if partition in named]
    full = [p for p in found if not is_internal(p) and any(log_of(object_at(v, p)) for v in brokers.values())]
    return (told or full)[:PARTITIONS_MAX]


def _replica(partition: str, replicas: View, broken: frozenset[tuple[str, int]]) -> Iterator[Item]:
    replica = object_at(replicas, partition)
    if not replica:
        return
    offsets = [offset for name, offset in broken if name == partition]
    mark, end = replica.get("high_watermark"), replica.get("log_end_offset")
    yield Note(partition, is_heading=True)
    yield Note(role_text(replica), is_strong=replica.get("role") == "leader")
    if replica.get("isr"):
        yield Note(isr_text(replica["isr"]))
    yield Log(_window(log_of(replica), offsets), mark if isinstance(mark, int) else None)
    yield Note(f"end {value_text(end)}, HW {value_text(mark)}")


def _window(records: list[LogRecord], offsets: list[int]) -> tuple[LogRecord, ...]:
    """The records around the offsets in question, one that is missing there told as such; else the last ones."""
    there = {record.offset for record in records}
    missing = [LogRecord(offset, NO_EPOCH, "none") for offset in offsets if offset not in there]
    records = sorted([*records, *missing])
    last = next((place for place, record in enumerate(records) if record.offset in offsets), len(records))
    end = max(min(last + RECORDS_MAX // 2, len(records)), RECORDS_MAX)
    return tuple(records[max(0, end - RECORDS_MAX) : end])


def _offsets(witness: Json) -> Iterator[int]:
    """The offsets that a witness names."""
    for name, value in witness.items() if isinstance(witness, dict) else ():
        if name.startswith("offset"):
            yield from (item for item in _scalars(value) if type(item) is int)
        elif isinstance(value, dict):
            yield from _offsets(value)


def _scalars(value: Json) -> Iterator[bool | int | float | str | None]:
    match value:
        case dict():
            for inner in value.values():
                yield from _scalars(inner)
        case list():
            for inner in value:
                yield from _scalars(inner)
        case _:
            yield value
