"""Lost values, looked for in the logs: which replica still holds what a history's checker misses.

A history says which values were acknowledged and are gone, or lie where another lies too. Its keys are partitions: a
number is that partition of one topic, a text `TOPIC-PARTITION` names both. A value is found as a message's value, as
text or as JSON writes it, or, if it is a number, as eight bytes, big-endian (Java's `LongSerializer`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from hwmark.checkers.audit.checkpoints import Partition
from hwmark.checkers.audit.directories import PARTITION_NAME
from hwmark.checkers.audit.findings import Finding
from hwmark.checkers.audit.layout import NOT_CONTROL
from hwmark.checkers.audit.producers import aborted
from hwmark.checkers.audit.replica import Replica, records_of
from hwmark.checkers.histories.kinds import DUPLICATE, INCONSISTENT_OFFSETS, LOST_WRITE, MISSING, UNSEEN
from hwmark.traces.errors import BadInputError
from hwmark.traces.history import History, Key, Value

MARKS = {True: ", below its high watermark", False: ", above its high watermark", None: ""}
LONG = range(-(2**63), 2**63)


class Wanted:
    """The values to look for, and where they were found."""

    def __init__(self, file: str, partitions: Mapping[Key, Partition]) -> None:
        self.file, self._partitions = file, partitions
        self._of: dict[Partition, dict[bytes, dict[str, Any]]] = defaultdict(dict)
        self.values: list[dict[str, Any]] = []

    @classmethod
    def of_history(
        cls, history: History, anomalies: Mapping[str, list[dict[str, Any]]], topic: str | None, there: set[Partition]
    ) -> Wanted:
        """What the anomalies of a history miss. Raises BadInputError if it is not clear which partitions are meant."""
        concerned = {key: key for name, entries in anomalies.items() for key in _keys(name, entries)}
        known = {str(key): key for key in history.keys}
        wanted = cls(history.file, _partitions(history, [known.get(str(k), k) for k in concerned], topic, there))
        for name, entries in anomalies.items():
            for entry in entries:
                for key, value, offset in _missed(name, entry):
                    wanted.add(known.get(str(key), key), value, offset, name)
        return wanted

    def add(self, key: Key, value: Value, offset: int | None, why: str) -> None:
        """Want one value more; `offset` is where it was acknowledged, if that is known."""
        partition = self._partitions[key]
        held = self._of[partition].get(_spellings(value)[0])
        if held is None:
            topic, number = partition
            held = {
                "key": key,
                "value": value,
                "topic": topic,
                "partition": number,
                "why": [],
                "offset": None,
                "held": [],
            }
            self.values.append(held)
            for spelled in _spellings(value):
                self._of[partition][spelled] = held
        held["why"] = sorted({*held["why"], why})
        held["offset"] = offset if held["offset"] is None else held["offset"]

    def look(self, replica: Replica) -> list[Finding]:
        """Look through a replica; what cannot be read is told."""
        values = self._of.get(replica.partition)
        if not values:
            return []
        found: list[Finding] = []
        gone = aborted(replica)
        for row, records in records_of(replica, replica.batches["control_type"] == NOT_CONTROL):
            if isinstance(records, Finding):
                found.append(records)
                continue
            for record in records:
                if record.value is not None and record.value in values:
                    values[record.value]["held"].append(_place(replica, row, record.offset, bool(gone[row])))
        return found

    def sentences(self) -> list[str]:
        """What became of each value."""
        return [_sentence(value) for value in self.values]


def _missed(name: str, entry: dict[str, Any]) -> Iterable[tuple[Key, Value, int | None]]:
    """The values that an anomaly misses, each with its key and offset."""
    if name in (MISSING, LOST_WRITE):
        yield entry["key"], entry["value"], entry.get("offset")
    elif name == INCONSISTENT_OFFSETS:
        for value in entry["values"]:
            yield entry["key"], value, entry["offset"]
    elif name == DUPLICATE:
        yield entry["key"], entry["value"], None
    elif name == UNSEEN:
        for key, values in entry["messages"].items():
            for value in values:
                yield key, value, None


def _keys(name: str, entries: list[dict[str, Any]]) -> set[Key]:
    return {key for entry in entries for key, _, _ in _missed(name, entry)}


def _partitions(history: History, keys: list[Key], topic: str | None, there: set[Partition]) -> dict[Key, Partition]:
    """The partition that each key means."""
    named = topic or history.configuration.get("topic")
    users = {name for name, _ in there if not name.startswith("__")}
    if named is None and len(users) == 1:
        (named,) = users
    found: dict[Key, Partition] = {}
    for key in keys:
        match = PARTITION_NAME.fullmatch(str(key))
        if match and (match[1], int(match[2])) in there:
            found[key] = match[1], int(match[2])
        elif named is None:
            known = ", ".join(sorted(users))
            reason = f"it does not say which topic its key {key!r} is in; expected --topic, one of {known}"
            raise BadInputError(history.file, None, reason)
        elif not str(key).isdecimal() or (named, int(key)) not in there:
            raise BadInputError(history.file, None, f"its key {key!r} is no partition of {named} in the directories")
        else:
            found[key] = named, int(key)
    return found


def _spellings(value: Value) -> list[bytes]:
    """The bytes by which a message may hold a value."""
    spelled = [str(value).encode(), orjson.dumps(value)]
    if isinstance(value, int) and not isinstance(value, bool) and value in LONG:
        spelled.append(value.to_bytes(8, "big", signed=True))
    return spelled


def _place(replica: Replica, row: int, offset: int, is_aborted: bool) -> dict[str, Any]:
    """One place where a value lies."""
    mark = replica.high_watermark
    return {
        "broker": replica.broker,
        "offset": offset,
        "leader_epoch": int(replica.batches["leader_epoch"][row]),
        "below_high_watermark": None if mark is None else offset < mark,
        "aborted": is_aborted,
        "file": str(replica.segments[int(replica.batches["segment"][row])].path),
        "position": int(replica.batches["position"][row]),
    }


def _sentence(value: dict[str, Any]) -> str:
    """What became of a value."""
    at = f" of offset {value['offset']:,}" if value["offset"] is not None else ""
    what = f"value {value['value']!r}{at} in {value['topic']}-{value['partition']} ({', '.join(value['why'])})"
    if not value["held"]:
        return f"{what}: no replica holds it"
    places = [
        f"{place['broker']} at offset {place['offset']:,}, epoch {place['leader_epoch']}"
        + MARKS[place["below_high_watermark"]]
        + (", aborted" if place["aborted"] else "")
        for place in value["held"]
    ]
    return f"{what}: held by " + "; ".join(places)
