"""The story of a loss: the most telling rows of one partition, in order of time, and the faults between them.

A row is a message whose sender was told something: when, at which offset, and what stands at that offset in the
closing read. The rows lie around the longest run of damaged messages of the worst partition; what is left out is
counted where it would stand.

Not told: reads before the closing one, other partitions, and messages without a known time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from hwmark.traces.history import CLOSING_READS, NO_OFFSET, NO_TIME, Closing, Fault, History, Key, Outcome, Value
from numpy.typing import NDArray

RUN_HEAD, RUN_TAIL, CONTEXT, REPLACERS, RARE = 5, 2, 2, 3, 2

LOSSES = {
    "missing-from-final-read": "missing at the end",
    "lost-write": "lost",
    "unseen": "never seen by a reader",
}
RARE_DAMAGE = {"G1a": "read, though it failed", "duplicate": "at several offsets"}
CONFLICT = {"inconsistent-offsets": "shares its offset"}


CONTROLLERS = 100  # brokers have smaller ids


@dataclass(frozen=True)
class Promise:
    """A message of the drawn partition and what its sender was told, and when (nanoseconds)."""

    time: int
    offset: int | None
    value: Value
    process: int
    outcome: Outcome
    damage: str | None


@dataclass(frozen=True)
class LeftOut:
    """What stands between two drawn rows: messages kept and damaged, and faults."""

    kept: int
    damaged: int
    faults: int


@dataclass(frozen=True)
class Found:
    """What stands at each offset in the end; `closing_at` is when the closing read ended, None if there was none."""

    at: dict[int, Value]
    closing_at: int | None


Row = Promise | Fault | LeftOut


@dataclass(frozen=True)
class Story:
    """The rows to draw of one partition, and what was found there in the end."""

    key: Key
    rows: list[Row]
    found: Found


def story_of(history: History, report: Mapping[str, Any]) -> Story:
    """The story of the partition with the most damage; `report` is a judged history as plain data."""
    if not history.keys:
        return Story("none", list(history.faults), Found({}, None))
    damage = _damage(report)
    position = _worst_key(history, damage)
    key = history.keys[position]
    promises = _promises(history, position, damage.get(str(key), {}))
    return Story(key, _with_faults(promises, history.faults), _found(history, position))


def _damage(report: Mapping[str, Any]) -> dict[str, dict[Value, str]]:
    """Per key the damaged values, each with its damage in words; conflicts count only where nothing is lost."""
    anomalies: Mapping[str, list[dict[str, Any]]] = report["anomalies"]
    kinds = LOSSES | RARE_DAMAGE
    damage: dict[str, dict[Value, str]] = {}
    for name, words in kinds.items() if any(kind in anomalies for kind in kinds) else CONFLICT.items():
        for instance in anomalies.get(name, []):
            for key, values in _concerned(instance):
                for value in values:
                    damage.setdefault(key, {}).setdefault(value, words)
    return damage


def _concerned(instance: Mapping[str, Any]) -> Iterable[tuple[str, list[Value]]]:
    """The values that an anomaly concerns, per key."""
    if "messages" in instance:
        yield from instance["messages"].items()
    else:
        yield str(instance["key"]), instance["values"] if "values" in instance else [instance["value"]]


def _worst_key(history: History, damage: Mapping[str, Mapping[Value, str]]) -> int:
    """The position of the key with the most damage; without any, of the one with the most messages."""
    messages = Counter(history.micro.key.tolist())
    positions = range(len(history.keys))
    return max(positions, key=lambda p: (len(damage.get(str(history.keys[p]), ())), messages[p], -p))


def _promises(history: History, key: int, damage: Mapping[Value, str]) -> list[Promise]:
    """Every message of the key whose sender was acknowledged, or that is damaged, in order of time."""
    micro, operations = history.micro, history.operations
    offsets = _seen_offsets(history, key)
    promises = {}
    for row in np.flatnonzero(micro.is_send & (micro.key == key)):
        operation, value = int(micro.operation[row]), history.value(int(micro.value[row]))
        outcome, time = Outcome(int(operations.outcome[operation])), int(operations.completed_at[operation])
        if time != NO_TIME and (outcome is Outcome.OK or value in damage):
            offset = int(micro.offset[row]) if micro.offset[row] != NO_OFFSET else offsets.get(value)
            process = int(operations.process[operation])
            promises[value] = Promise(time, offset, value, process, outcome, damage.get(value))
    return sorted(promises.values(), key=lambda p: (p.time, -1 if p.offset is None else p.offset))


def _seen_offsets(history: History, key: int) -> dict[Value, int]:
    """Where each value of the key was seen by a reader."""
    micro = history.micro
    rows = np.flatnonzero(~micro.is_send & (micro.key == key) & (micro.offset != NO_OFFSET))
    return _offset_by_value(history, rows)


def _offset_by_value(history: History, rows: NDArray[np.int64]) -> dict[Value, int]:
    """The last offset of each value, a value read often looked at once."""
    values, last = np.unique(history.micro.value[rows[::-1]], return_index=True)
    offsets = history.micro.offset[rows[::-1][last]].tolist()
    return {history.value(number): offset for number, offset in zip(values.tolist(), offsets, strict=True)}


def _found(history: History, key: int) -> Found:
    """The partition as the closing read has it; without one, as all readers together saw it."""
    micro, operations = history.micro, history.operations
    closing = (operations.closing == Closing.READ_COMMITTED) & (operations.outcome == Outcome.OK)
    has_closing = bool(closing.any())
    reader = closing if has_closing else operations.outcome == Outcome.OK
    rows = np.flatnonzero(~micro.is_send & (micro.key == key) & reader[micro.operation])
    at = {int(micro.offset[row]): history.value(int(micro.value[row])) for row in rows}
    return Found(at, int(operations.completed_at[closing].max()) if has_closing else None)


def _with_faults(promises: list[Promise], faults: list[Fault]) -> list[Row]:
    """The drawn rows in order of time, with what is left out between them counted."""
    chosen = _chosen(promises)
    drawn = {id(promises[i]) for i in chosen} | {id(fault) for fault in _relevant(faults, promises, chosen)}
    rows: list[Row] = []
    skipped: list[Promise | Fault] = []
    events: list[Promise | Fault] = sorted([*faults, *promises], key=lambda event: event.time)
    for event in events:
        if id(event) in drawn:
            rows += [*_left_out(skipped), event]
            skipped = []
        else:
            skipped.append(event)
    return rows + _left_out(skipped)


def _chosen(promises: list[Promise]) -> list[int]:
    """The most telling promises: around the longest damaged run, what took its place, and rare damage."""
    start, end = _longest_run([promise.damage is not None for promise in promises])
    if start == end:
        return list(range(max(0, len(promises) - RUN_HEAD), len(promises)))
    run = range(start, end)
    chosen = {*run[:RUN_HEAD], *run[-RUN_TAIL:]}
    offsets = {promises[i].offset for i in chosen}
    replacers = [i for i in range(end, len(promises)) if promises[i].offset in offsets and not promises[i].damage]
    rare = [i for i, promise in enumerate(promises) if promise.damage in RARE_DAMAGE.values()]
    before = [i for i in range(start) if not promises[i].damage][-CONTEXT:]
    after = [i for i in range(end, len(promises)) if not promises[i].damage][:CONTEXT]
    return sorted(chosen | {*before, *after, *replacers[:REPLACERS], *rare[:RARE]})


def _longest_run(flags: list[bool]) -> tuple[int, int]:
    """Start and end (exclusive) of the longest run of True; (0, 0) if there is none."""
    best, start = (0, 0), 0
    for position, flag in enumerate([*flags, False]):
        if not flag:
            best = max(best, (start, position), key=lambda run: run[1] - run[0])
            start = position + 1
    return best


def _relevant(faults: list[Fault], promises: list[Promise], chosen: list[int]) -> list[Fault]:
    """The faults between the drawn promises, and the last one before them."""
    if not chosen:
        return faults[-RUN_HEAD:]
    first, last = promises[chosen[0]].time, promises[chosen[-1]].time
    before = [fault for fault in faults if fault.time < first]
    return before[-1:] + [fault for fault in faults if first <= fault.time <= last]


def _left_out(skipped: list[Promise | Fault]) -> list[Row]:
    """One row that counts the skipped events, none if there are none."""
    kinds = Counter("fault" if isinstance(e, Fault) else "damaged" if e.damage else "kept" for e in skipped)
    return [LeftOut(kinds["kept"], kinds["damaged"], kinds["fault"])] if skipped else []


def verdict_of(report: Mapping[str, Any]) -> str:
    """A report's verdict as a title has it."""
    return {True: "valid", None: "unknown"}.get(report["valid"], "INVALID")


def is_note(fault: Fault) -> bool:
    """Whether it is something noticed, not something done."""
    return fault.what in ("isr", CLOSING_READS)


def fault_in_words(fault: Fault, key: object) -> str:
    """A fault as a sentence; one that this module has no words for as it was recorded."""
    words = _FAULTS.get(fault.what)
    text = words(fault.value, key) if words else f"{fault.what} {fault.value if fault.value is not None else ''}"
    return text.strip()


def _brokers(value: Any) -> str:
    """The nodes that a fault names, as a list or as `nodes` of what is told of it; controllers count from 101."""
    value = value.get("nodes") if isinstance(value, dict) else value
    ids = value if isinstance(value, list) else [value]
    kind = "broker" if not any(isinstance(id, int) and id > CONTROLLERS for id in ids) else "node"
    return f"{kind}{'' if len(ids) == 1 else 's'} {', '.join(map(str, ids))}"


def _in_sync(value: Any, key: object) -> str:
    """Who leads the partition and who is in sync with the leader, from `[[leader, [replicas]], ...]`."""
    try:
        leader, replicas = value[key]
        who = "no leader" if leader == -1 else f"leader: broker {leader}"
        return f"partition {key}: {who}; in-sync replicas: {', '.join(map(str, replicas)) or 'none'}"
    except (TypeError, IndexError, ValueError):
        return f"in-sync replicas: {value}"


def _closing_reads(value: Any, key: object) -> str:
    is_complete = isinstance(value, dict) and value.get("complete") is True
    return "all has been read" if is_complete else "the closing reads are not complete"


_FAULTS: dict[str, Callable[[Any, object], str]] = {
    "kill": lambda value, key: f"{_brokers(value)} killed",
    "start": lambda value, key: f"{_brokers(value)} started again",
    "clean-stop": lambda value, key: f"{_brokers(value)} stopped cleanly",
    "truncate-log": lambda value, key: f"{_brokers(value)}: the unflushed end of the log is gone",
    "isolate-from-peers": lambda value, key: f"{_brokers(value)} cut off from the other brokers",
    "terminate": lambda value, key: f"{_brokers(value)} stopped cleanly",
    "pause": lambda value, key: f"{_brokers(value)} paused",
    "resume": lambda value, key: f"{_brokers(value)} resumed",
    "restart": lambda value, key: f"{_brokers(value)} started again",
    "isolate": lambda value, key: f"{_brokers(value)} cut off from the other nodes",
    "partition": lambda value, key: f"{_brokers(value)} cut off from some others",
    "one-way": lambda value, key: f"{_brokers(value)}: what they send is lost",
    "unplug": lambda value, key: f"{_brokers(value)} unplugged",
    "lose-unflushed": lambda value, key: f"{_brokers(value)}: the unflushed end of the log is gone",
    "truncate": lambda value, key: f"{_brokers(value)}: the end of the log is gone",
    "wipe": lambda value, key: f"{_brokers(value)}: the disk is empty",
    "restore": lambda value, key: "all faults are undone",
    "heal": lambda value, key: "the network is whole again",
    "final-heal": lambda value, key: "all faults are over",
    "isr": _in_sync,
    CLOSING_READS: _closing_reads,
}


def left_out_in_words(row: LeftOut) -> str:
    """What a left-out row stands for."""
    counts = [(row.damaged, "broken promise"), (row.kept, "kept promise"), (row.faults, "fault")]
    return "... " + ", ".join(f"{n:,} more {noun}{'s' if n > 1 else ''}" for n, noun in counts if n) + " ..."
