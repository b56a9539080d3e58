"""The slow twin of realtime lag and of consume counts: operation after operation, over dictionaries."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from hwmark.checkers.histories.plain import Record, _is_raw, _operations, _reads, _sends, _values_read

Lag = tuple[int, int, str, int]


def plain_lags(records: Iterable[Record], *, compat: bool = False) -> list[Lag]:
    """Every lag, in order: time of invocation, process, key, lag."""
    records = list(records)
    invoked_at = {record.get("index", i): record["time"] for i, record in enumerate(records)}
    ops = [op for op in _operations(records) if not op.get("open") and not _is_raw(op)]
    known: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for op in ops:
        for key, offset in _largest(op, compat).items() if op["type"] != "fail" else ():
            known[key].append((offset, op["time"]))
    places: dict[int, dict[str, int]] = defaultdict(dict)
    lags: list[Lag] = []
    for op in ops:
        if op["type"] == "ok":
            place = places[op["process"]]
            if op["f"] == "assign":
                places[op["process"]] = {str(key): place.get(str(key), -1) for key in op["value"]}
            elif op["f"] == "subscribe":
                places[op["process"]] = {}
            elif op["f"] in ("poll", "txn"):
                for key, offset in _largest(op, compat).items():
                    place[key] = max(offset, place.get(key, -1))
                now = invoked_at[op["invoked"]]
                for key, at in place.items():
                    since = min((time for offset, time in known[key] if offset > at), default=now)
                    lags.append((now, op["process"], key, max(0, now - since)))
    return lags


def _largest(op: Record, compat: bool) -> dict[str, int]:
    """The largest offset of each key that an operation tells of; -1 where it read the key and learnt none."""
    largest = dict.fromkeys(_values_read(op), -1)
    sends = _sends(op)
    if compat:
        unknown = [i for i, (_, offset) in enumerate(sends) if offset is None]
        sends = sends[max(unknown, default=-1) + 1 :]
    for (key, _), offset in _reads(op) + sends:
        if offset is not None:
            largest[key] = max(offset, largest.get(key, -1))
    return largest


def plain_consume_counts(records: Iterable[Record]) -> Counter[tuple[int, str, Any]]:
    """How often each process that ever subscribed read each message: process, key and value to a number."""
    ops = [op for op in _operations(records) if op["type"] == "ok"]
    subscribers = {op["process"] for op in ops if op["f"] == "subscribe"}
    readers = [op for op in ops if op["process"] in subscribers and not _is_raw(op)]
    return Counter((op["process"], *message) for op in readers for message, _ in _reads(op))
