"""What a step of a run changed in the views of the machines, as the few lines and records that people want to see.

A broker's view has its `state`, whether it is the `controller`, and its `partitions`; of a log, which is a list of
`[offset, leader epoch, value]`, only the records that came and went are told. Any other field is `name: old -> new`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from hwmark.traces.changes import Json
from hwmark.traces.run_words import path_text, plain_text
from hwmark.traces.words import is_none, value_text

View = Mapping[str, Json]

DOWN, SHORT = "down", 24

QUIET_FIELDS = ("clock", "in_flight", "records", "sessions")
"""Fields that are not told, since faults and messages tell of them."""

_SHORT = {"log_start_offset": "start", "log_end_offset": "end", "high_watermark": "HW", "last_stable_offset": "LSO"}


NO_EPOCH = -1
"""The epoch of a record that is not there."""


class LogRecord(NamedTuple):
    """A record in a log, with its value in words."""

    offset: int
    epoch: int
    value: str


@dataclass(frozen=True)
class Note:
    """A line of text; a heading names the partition that the items after it are about; progress is that of offsets."""

    text: str
    is_heading: bool = False
    is_strong: bool = False
    is_progress: bool = False


@dataclass(frozen=True)
class Appended:
    """Records that a log got."""

    records: tuple[LogRecord, ...]


@dataclass(frozen=True)
class Truncated:
    """Records that a log lost from its end."""

    records: tuple[LogRecord, ...]


@dataclass(frozen=True)
class Log:
    """Records that stand in a log, the last of them at its end; `mark` is its high watermark."""

    records: tuple[LogRecord, ...]
    mark: int | None


Item = Note | Appended | Truncated | Log


class Views:
    """The machines as they were last seen. What a broker does not show while it is down is remembered."""

    def __init__(self, machines: View) -> None:
        self.machines = dict(machines)
        self.partitions = {name: dict(object_at(machines, name, "partitions")) for name in machines}

    def changes(self, machines: View) -> dict[str, tuple[Item, ...]]:
        """What became different, by machine; a machine of which nothing is to be told is not there."""
        told = {name: tuple(self._changes(name, view)) for name, view in machines.items() if self._is_new(name, view)}
        self.machines = dict(machines)
        return {name: items for name, items in told.items() if items}

    def _is_new(self, name: str, view: Json) -> bool:
        return self.machines.get(name) is not view  # a step shares with the state before it all that it left alone

    def _changes(self, name: str, view: Json) -> Iterator[Item]:
        before, after = object_at(self.machines, name), as_object(view, name)
        known = self.partitions.setdefault(name, {})
        yield from _field_changes(before, after)
        for partition, replica in as_object(after.get("partitions", {}), f"{name}: partitions").items():
            old = known.get(partition)
            if old is not replica:
                new = as_object(replica, f"{name}: {partition}")
                items = list(_replica_changes(_as_object(old), new, is_up=after.get("state") != DOWN))
                yield from [Note(partition, is_heading=True), *items] if items else []
                known[partition] = replica


def is_replication(items: tuple[Item, ...]) -> bool:
    """Whether all that changed is how far replicas of internal topics are."""
    headings = [item for item in items if isinstance(item, Note) and item.is_heading]
    others = [item for item in items if item not in headings]
    return all(is_internal(item.text) for item in headings) and all(
        isinstance(item, Appended) or (isinstance(item, Note) and item.is_progress) for item in others
    )


def is_internal(partition: str) -> bool:
    """Whether a partition is of one of the coordinators' topics."""
    return partition.startswith("__")


def object_at(state: View, *path: str) -> View:
    """The object at these fields; an empty one if there is none."""
    for name in path:
        state = _as_object(state.get(name))
    return state


def log_of(replica: View) -> list[LogRecord]:
    """The records of a partition's view; ValueError if they are none."""
    log = replica.get("log", [])
    if not isinstance(log, list):
        raise ValueError("log: expected a list")
    return [_record(row) for row in log]


def _record(row: Json) -> LogRecord:
    match row:
        case [int(offset), int(epoch), value]:
            return LogRecord(offset, epoch, plain_text(value))
    raise ValueError(f"log: expected rows of offset, leader epoch and value, not {value_text(row)}")


def as_object(value: Json, what: str) -> View:
    """A value that has to be an object; ValueError if it is none."""
    if not isinstance(value, dict):
        raise ValueError(f"{what}: expected an object, not {value_text(value)}")
    return value


def isr_text(isr: Json) -> str:
    """An ISR as people write it: `ISR {1,2}`."""
    return f"ISR {{{','.join(map(value_text, isr))}}}" if isinstance(isr, list) else f"ISR {value_text(isr)}"


def role_text(replica: View) -> str:
    """The role and since which leader epoch: `LEADER, epoch 2`."""
    role = value_text(replica.get("role"))
    epoch = replica.get("leader_epoch")
    return (role.upper() if role == "leader" else role) + ("" if is_none(epoch) else f", epoch {value_text(epoch)}")


def _as_object(value: Json) -> View:
    return value if isinstance(value, dict) else {}


def _field_changes(before: View, after: View) -> Iterator[Item]:
    """What changed apart from partitions; that a machine went down or came up is told by the fault itself."""
    if before.get("controller") != after.get("controller"):
        yield Note("becomes the CONTROLLER" if after.get("controller") else "no longer controller", is_strong=True)
    old, new = dict(_fields(before)), dict(_fields(after))
    for name, text in new.items():
        if name not in old or old[name] != text:
            is_short = old.get(name, "") != "" and max(len(old[name]), len(text)) <= SHORT
            yield Note(f"{name}: {old[name]} → {text}" if is_short else f"{name}: {text}")
    for name in old:
        if name not in new:
            yield Note(f"{name}: gone")


def _fields(view: View) -> Iterator[tuple[str, str]]:
    """The fields that have no form of their own; those of a table by their keys alone."""
    for name, value in view.items():
        if name in ("state", "controller", "partitions", *QUIET_FIELDS):
            continue
        if isinstance(value, dict):
            yield from (
                (path_text(key) if key.startswith("/") else f"{name} {key}", _short_text(each))
                for key, each in value.items()
            )
        else:
            yield name, plain_text(value)


def _short_text(value: Json) -> str:
    """The values of an object alone: `FETCHING 3`."""
    return " ".join(map(plain_text, value.values())) if isinstance(value, dict) else plain_text(value)


def _replica_changes(before: View, after: View, *, is_up: bool) -> Iterator[Item]:
    """Role, ISR, records and offsets of one partition, each only if it changed; of one that is down only its disk."""
    if is_up and any(before.get(name) != after.get(name) for name in ("role", "leader_epoch")):
        yield Note(role_text(after), is_strong=after.get("role") == "leader")
    if is_up and before.get("isr") != after.get("isr") and after.get("isr"):
        yield Note(isr_text(after["isr"]))
    yield from _log_changes(before, after)
    moved = [text for name, short in _SHORT.items() if (text := _moved(short, before.get(name, 0), after.get(name, 0)))]
    if moved and moved[-1].startswith("LSO") and _is_last_stable_clear(before) and _is_last_stable_clear(after):
        moved.pop()
    if moved:
        yield Note(", ".join(moved), is_progress=True)


def _moved(name: str, old: Json, new: Json) -> str:
    return "" if old == new else f"{name} {value_text(old)}→{value_text(new)}"


def _is_last_stable_clear(replica: View) -> bool:
    """Whether the last stable offset tells no more than the high watermark: no transaction is open."""
    return replica.get("last_stable_offset", 0) == replica.get("high_watermark", 0)


def _log_changes(before: View, after: View) -> Iterator[Item]:
    if before.get("log") is after.get("log"):
        return
    old, new = dict.fromkeys(log_of(before)), dict.fromkeys(log_of(after))
    start = after.get("log_start_offset")
    truncated = [record for record in old if record not in new and not _is_before(record, start)]
    appended = [record for record in new if record not in old]
    if truncated:
        yield Truncated(tuple(truncated))
    if appended:
        yield Appended(tuple(appended))


def _is_before(record: LogRecord, start: Json) -> bool:
    """Whether a record is gone because the log begins after it, not because its end was cut off."""
    return isinstance(start, int) and record.offset < start
