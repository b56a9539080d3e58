"""What a timeline shows of a history: one anomaly's operations, what bears on them, and the faults in between.

A recording has more operations than a picture has room for. Drawn are those that show the anomaly (the *witness*),
those that tell of its messages (who sent them, who read them first, what took their place, the closing read that should
have them), and a few neighbours; the rest is counted. Columns are searched, not walked: only what is drawn becomes
objects.

Rows are positions in `History.operations`; anomalies are plain data, as a judged history reports them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any

import numpy as np
from hwmark.traces.errors import BadInputError
from hwmark.traces.history import NO_OFFSET, Closing, Function, History, Key, Outcome, Value
from hwmark.traces.history_story import is_note
from numpy.typing import NDArray

Report = Mapping[str, Any]
Message = tuple[int, int]
"""A key's position in `History.keys` and a value's number in `MicroOperations.value`."""

WITNESS_MAX, MESSAGES_MAX, NUMBERED_MAX, SHOWN_PER_MESSAGE, NEIGHBOURS = 8, 4, 64, 2, 2
DATA = (Function.SEND, Function.POLL, Function.TXN)
NO_ANOMALY = "None of the anomalies looked for was found."


@dataclass(frozen=True)
class Relation:
    """Why one operation comes before another: `kind` is ww, wr, realtime or process; the words follow "A -> B"."""

    source: int
    target: int
    kind: str
    words: str


@dataclass(frozen=True)
class Witness:
    """One instance of an anomaly, or one operation that somebody asks about: what shall be looked at.

    `name` is the anomaly's type and number in the report (None for an operation and for a valid history), `rows` are
    the operations that show it and `messages` those that it is about.
    """

    name: str | None
    sentence: str
    rows: tuple[int, ...]
    messages: tuple[Message, ...]
    relations: tuple[Relation, ...]


@dataclass(frozen=True)
class Neighbourhood:
    """What is drawn around a witness: rows that bear on it, and further ones as far as there is room, nearest first."""

    witness: Witness
    evidence: tuple[int, ...]
    context: tuple[int, ...]
    relations: tuple[Relation, ...]


def witness_of(history: History, report: Report, around: str | None = None) -> Witness:
    """What to look at: the first anomaly that counts, or `around`: a type, `type/number`, or an operation's index.

    Raises BadInputError if there is no such anomaly or operation.
    """
    if around is not None and around.isdecimal():
        return _of_operation(history, int(around))
    found: Mapping[str, list[dict[str, Any]]] = report["anomalies"]
    if around is None and not found:
        return Witness(None, NO_ANOMALY, (), (), ())
    if around is None:
        around = next((name for name in found if name in report["bad_error_types"]), next(iter(found)))
    name, _, number = around.partition("/")
    if name not in found or not (number or "0").isdecimal() or int(number or 0) >= len(found[name]):
        there = ", ".join(f"{name}/0 to {name}/{len(found[name]) - 1}" for name in found) or "none"
        raise BadInputError("--around", None, f"no anomaly {around!r} in this history; there are: {there}")
    return _of_anomaly(history, f"{name}/{number or 0}", found[name][int(number or 0)])


def neighbourhood(history: History, witness: Witness) -> Neighbourhood:
    """What bears on the witness, and what happened around it."""
    evidence = _unique(row for message in witness.messages[:MESSAGES_MAX] for row in _told_of(history, message))
    seeds = witness.rows or evidence[:1]
    context = [row for seed in seeds for row in _around(history, seed, witness)] if seeds else _anywhere(history)
    shown = {*witness.rows, *evidence}
    return Neighbourhood(
        witness,
        tuple(row for row in evidence if row not in witness.rows),
        tuple(row for row in _unique(context) if row not in shown),
        _relations(history, witness, evidence),
    )


def messages_of(history: History, row: int) -> slice:
    """The micro-operations of an operation."""
    first, last = np.searchsorted(history.micro.operation, [row, row + 1])
    return slice(int(first), int(last))


def row_at(history: History, index: int) -> int | None:
    """The operation whose completion (or, left open, invocation) has this index in the history."""
    found = np.flatnonzero(history.operations.index == index)
    return int(found[0]) if len(found) else None


# ------------------------------------------------------------------------------------------------ the witness


def _of_operation(history: History, index: int) -> Witness:
    row = row_at(history, index)
    if row is None:
        raise BadInputError(
            "--around", None, f"no operation has index {index}; expected that of a completion, or of an open invocation"
        )
    micro, at = history.micro, messages_of(history, row)
    messages = tuple(_unique(zip(micro.key[at].tolist(), micro.value[at].tolist(), strict=True)))
    return Witness(None, f"Operation {index} and what happened around it.", (row,), messages[:MESSAGES_MAX], ())


def _of_anomaly(history: History, name: str, anomaly: dict[str, Any]) -> Witness:
    """An anomaly's operations are those that the report says show it; without any, the senders of its messages."""
    messages = tuple(_unique(_numbered(history, anomaly)))
    rows = [row for row in (row_at(history, index) for index in anomaly.get("operations", ())) if row is not None]
    rows = rows or _unique(row for message in messages[:MESSAGES_MAX] for row in _told_of(history, message)[:1])
    relations = steps_of(history, anomaly) or in_one_process(history, anomaly)
    return Witness(name, sentence_of(anomaly, name), tuple(rows[:WITNESS_MAX]), messages, relations)


def sentence_of(anomaly: Mapping[str, Any], name: str) -> str:
    """What happened, as a sentence."""
    text = str(anomaly.get("sentence") or name)
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def concerned(anomaly: Mapping[str, Any]) -> Iterator[tuple[Key, Value]]:
    """The messages that an anomaly is about as keys and values, the most telling first."""
    for key, values in anomaly.get("messages", {}).items():
        yield from ((key, value) for value in values)
    if "key" in anomaly:
        values = [anomaly["value"]] if "value" in anomaly else []
        for value in (*values, *anomaly.get("values", []), *anomaly.get("skipped", [])):
            yield anomaly["key"], value
    for message in (*anomaly.get("lost", []), *anomaly.get("present", [])):
        yield message["key"], message["value"]
    for step in anomaly.get("steps", []):
        if "key" in step:
            yield from ((step["key"], step[name]) for name in ("value", "value'") if name in step)


def _numbered(history: History, anomaly: Mapping[str, Any]) -> Iterator[Message]:
    """The first messages that an anomaly is about as the columns know them; what the history lacks is left out."""
    positions = {str(name): position for position, name in enumerate(history.keys)}
    for key, value in islice(concerned(anomaly), NUMBERED_MAX):
        number = _number(history, value)
        if number is not None and str(key) in positions:
            yield positions[str(key)], number


def _number(history: History, value: Value) -> int | None:
    """A value's number in the column of values."""
    if history.values is None:
        return value if isinstance(value, int) else None
    return next((n for n, v in enumerate(history.values) if v == value and v.__class__ is value.__class__), None)


# ------------------------------------------------------------------------------------------------ relations


def _relations(history: History, witness: Witness, evidence: list[int]) -> tuple[Relation, ...]:
    """The steps of a cycle; else how the witness's operations follow each other, and whom they had messages from."""
    if any(relation.kind != "process" for relation in witness.relations):
        return witness.relations
    rows = [*witness.rows, *(row for row in evidence if row not in witness.rows)]
    handed_over = _handed_over(history, witness.messages, rows)
    return (*witness.relations, *(r for r in handed_over if {r.source, r.target} & {*witness.rows}))


def steps_of(history: History, anomaly: Mapping[str, Any]) -> tuple[Relation, ...]:
    """The steps of a cycle; none of any other anomaly."""
    return tuple(_steps(history, anomaly))


def in_one_process(history: History, anomaly: Mapping[str, Any]) -> tuple[Relation, ...]:
    """From each of an anomaly's `ops` to the next, which the same process did."""
    return tuple(_in_one_process(history, anomaly))


def _steps(history: History, anomaly: Mapping[str, Any]) -> Iterator[Relation]:
    cycle = anomaly.get("cycle", [])
    for indices, step in zip(pairwise(cycle), anomaly.get("steps", []), strict=False):
        source, target = (row_at(history, index) for index in indices)
        if source is not None and target is not None:
            yield Relation(source, target, str(step["type"]), _step_in_words(step))


def _step_in_words(step: Mapping[str, Any]) -> str:
    match step["type"]:
        case "wr":
            return f"sent {shown(step['value'])} to {key_name(step['key'])}, which {{target}} read"
        case "ww":
            then = f" {shown(step[name])}" if (name := "value'") in step else ""
            return f"sent {shown(step['value'])} to {key_name(step['key'])}, where {{target}} then wrote{then}"
        case "realtime":
            return "had ended before {target} began"
        case kind:
            return f"comes before {{target}} ({kind})"


def _handed_over(history: History, messages: Iterable[Message], rows: Iterable[int]) -> Iterator[Relation]:
    """From whoever sent one of the messages to whoever read it, among the given operations."""
    drawn = list(rows)
    for key, value in messages:
        at = _micro_rows(history, key, value)
        at = at[np.isin(history.micro.operation[at], drawn)]
        senders = _unique(history.micro.operation[at[history.micro.is_send[at]]].tolist())
        readers = _unique(history.micro.operation[at[~history.micro.is_send[at]]].tolist())
        words = f"sent {shown(history.value(value))} to {key_name(history.keys[key])}, which {{target}} read"
        yield from (Relation(a, b, "wr", words) for a in senders for b in readers if a != b)


def _in_one_process(history: History, anomaly: Mapping[str, Any]) -> Iterator[Relation]:
    ops = [row_at(history, index) for index in anomaly.get("ops", ())]
    for source, target in pairwise(ops):
        if source is not None and target is not None:
            key = f" that concerns {key_name(anomaly['key'])}" if "key" in anomaly else ""
            yield Relation(source, target, "process", f"was followed by {{target}}, its process's next{key}")


# ------------------------------------------------------------------------------------------------ what is drawn


def _micro_rows(history: History, key: int, value: int) -> NDArray[np.int64]:
    return np.flatnonzero((history.micro.value == value) & (history.micro.key == key))


def _told_of(history: History, message: Message) -> list[int]:
    """Who sent a message, who read it first, what was seen at its offset instead, and which closing read went past."""
    micro, (key, value) = history.micro, message
    at = _micro_rows(history, key, value)
    offsets = np.unique(micro.offset[at[micro.offset[at] != NO_OFFSET]])
    instead = np.flatnonzero(np.isin(micro.offset, offsets) & (micro.key == key) & (micro.value != value))
    past = _closing_past(history, key, int(offsets[0])) if len(offsets) else []
    seen = [rows[micro.is_send[rows] == is_send][:SHOWN_PER_MESSAGE] for rows in (at, instead) for is_send in (1, 0)]
    return _unique([*(int(micro.operation[row]) for rows in seen for row in rows), *past])


def _closing_past(history: History, key: int, offset: int) -> list[int]:
    """The first closing read (read_committed) of something at the offset or behind it."""
    micro, operations = history.micro, history.operations
    is_closing = (operations.closing == Closing.READ_COMMITTED) & (operations.outcome == Outcome.OK)
    if not is_closing.any():
        return []
    first = int(np.searchsorted(micro.operation, int(np.argmax(is_closing))))
    at = slice(first, None)
    past = (micro.key[at] == key) & (micro.offset[at] >= offset) & ~micro.is_send[at] & is_closing[micro.operation[at]]
    return [int(micro.operation[first + int(np.argmax(past))])] if past.any() else []


def _around(history: History, row: int, witness: Witness) -> list[int]:
    """The operations just before and after one: of its process, and those that touch the witness's partition."""
    operations, micro = history.operations, history.micro
    same = np.flatnonzero((operations.process == operations.process[row]) & np.isin(operations.function, DATA))
    key = witness.messages[0][0] if witness.messages else None
    touching = np.unique(micro.operation[micro.key == key]) if key is not None else same[:0]
    of_partition = [_beside(touching, row, step) for step in (-1, 1, -2, 2)[: 2 * NEIGHBOURS]]
    return [row for row in (_beside(same, row, -1), *of_partition, _beside(same, row, 1)) if row is not None]


def _beside(rows: NDArray[Any], row: int, step: int) -> int | None:
    """The row so many steps before or after one in a sorted column."""
    at = int(np.searchsorted(rows, row)) + step
    if step > 0 and (at - step >= len(rows) or rows[at - step] != row):
        at -= 1
    return int(rows[at]) if 0 <= at < len(rows) else None


def _anywhere(history: History) -> list[int]:
    """Where nothing is wrong, the operations around the first fault, or the first ones."""
    operations = history.operations
    data = np.flatnonzero(np.isin(operations.function, DATA))
    data = data if len(data) else np.arange(len(operations))
    struck = next((fault.time for fault in history.faults if not is_note(fault)), None)
    middle = int(np.searchsorted(operations.invoked_at[data], struck)) if struck is not None else 0
    nearest = sorted(range(max(0, middle - 8), min(len(data), middle + 8)), key=lambda at: abs(at - middle))
    return [int(data[at]) for at in nearest]


def _unique(items: Iterable[Any]) -> list[Any]:
    """The items in order, each once."""
    return list(dict.fromkeys(items))


# ------------------------------------------------------------------------------------------------ names


def key_name(key: object) -> str:
    """A partition's short name: k0 for the number 0, else its own, cut."""
    return f"k{key}" if isinstance(key, int) else shown(key, 14)


def shown(value: object, width: int = 16) -> str:
    """A value cut to what fits; one without a visible letter in quotes."""
    text = " ".join(str(value).split()) if str(value).strip() else f'"{value}"'
    return text if len(text) <= width else text[: width - 3] + "..."
