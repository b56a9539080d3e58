"""Messages, faults, calls and outcomes of a run, and what it broke, in words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from hwmark.traces.changes import Json
from hwmark.traces.trace import Trace
from hwmark.traces.words import arguments_text, value_text

_ERROR = re.compile(r"\b(?!NONE\b)[A-Z]{3,}(_[A-Z]+)+\b")
"""How errors are spelled: NOT_LEADER_OR_FOLLOWER."""

_OPERATION = re.compile(r"kind=(\w+) path=([^\s)]+)")
_BATCH = re.compile(r"\b(?:batch=|batches=\[)\(")
_VALUE = re.compile(r"\b(?:value|control)=([^\s)\]]+)")
_PRODUCER = re.compile(r"producer_id=(\d+) producer_epoch=(\d+)(?: base_sequence=(\d+))?")
_SHORTER = (
    (re.compile(r"\bnodes=.*"), ""),
    (re.compile(r"partitions=\[\[([^,\s]+), \((.*?)[)\]]*$"), r"\1 \2"),
    (re.compile(r"\breplicas=\[[^]]*\] ?|\bbatches=\[\] ?| (czxid|owner)=\d+"), ""),
    (re.compile(r"\b(session|number|acknowledged|controller_id|broker_epoch|replica_id|max_wait|timeout)=\S+ ?"), ""),
    (re.compile(r"\b(log_start_offset|last_stable_offset|partition_epoch)=\S+ ?"), ""),
)
"""What pictures leave out of messages: what is the same in every message of its kind, or nobody asks about."""

_NAMED = ("at", "machine", "message")
"""Arguments that the picture shows by the place where it says something."""


@dataclass(frozen=True)
class Outcome:
    """What a call of the application on a machine returned."""

    machine: str
    text: str
    is_failure: bool


def snake_case(action: str) -> str:
    """The name of an action, `WipeDisk` or `wipe_disk`, as the latter."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", action).lower()


def fault_text(action: str, arguments: Mapping[str, Json]) -> str:
    """What befell a machine or a message: `CRASH, the unflushed records are lost`."""
    match action, arguments:
        case "crash", {"keeps_unflushed": False}:
            return "POWER LOSS, what was not flushed is gone"
        case "crash", _:
            return "CRASH"
        case "step_clock", {"by": int(by)}:
            return f"CLOCK STEPS {by:+,} ms"
        case "wipe_disk", _:
            return "DISK WIPED"
        case "drop", _:
            return "LOST"
        case "duplicate", _:
            return "SENT TWICE by the network"
        case "pause", _:
            return "PAUSED"
        case "resume", _:
            return "RESUMES"
        case "restart", _:
            return "RESTARTS"
    rest = {name: value for name, value in arguments.items() if name not in _NAMED}
    return f"{action.replace('_', ' ').upper()}{': ' * bool(rest)}{arguments_text(rest)}"


def call_text(arguments: Mapping[str, Json]) -> str:
    """A call of the application: `call 3: Send(topic=x, value=7)`."""
    return f"call {value_text(arguments.get('number'))}: {plain_text(arguments.get('operation'))}"


def plain_text(value: Json) -> str:
    """A value in words; `{"is": "producer.Send", "topic": "x"}` is `Send(topic=x)`, and `["x", 0]` is `x-0`."""
    match value:
        case str():
            return value
        case [str(topic), int(partition)]:
            return f"{topic}-{partition}"
        case list():
            return f"[{', '.join(map(plain_text, value))}]"
        case dict() if "is" in value:
            return _object_text(str(value["is"]), {name: each for name, each in value.items() if name != "is"})
    return value_text(value)


def _object_text(kind: str, fields: dict[str, Json]) -> str:
    """A list or a dict by its items, an enum by its name, anything else as it would be made."""
    if kind in ("list", "dict"):
        return plain_text(fields.get("items"))
    if fields.keys() == {"name"}:
        return str(fields["name"])
    return f"{kind.rpartition('.')[2]}({', '.join(f'{name}={plain_text(each)}' for name, each in fields.items())})"


def path_text(path: str) -> str:
    """A node of ZooKeeper, one that holds a partition's state by the partition's name."""
    return re.sub(r"/brokers/topics/([^\s/]+)/partitions/(\d+)/state", r"state of \1-\2", path)


def message_text(text: str) -> str:
    """What a message says, shorter: of a write to ZooKeeper which nodes it is about, of records their values."""
    operations = [f"{operation} {path_text(path)}" for operation, path in _OPERATION.findall(text)]
    if operations:
        return ", ".join(operations)
    text = _with_records(text)
    for pattern, shorter in _SHORTER:
        text = pattern.sub(shorter, text)
    return text.strip()


def _with_records(text: str) -> str:
    """The text with the values of its batches instead of the batches, and with the first one's producer."""
    begin = _BATCH.search(text)
    if begin is None:
        return text
    batches = text[begin.start() :]
    tail = "…" if text.endswith("…") else batches.rpartition(")")[2].removeprefix("]")
    producer = [f"producer {id}/{epoch} sequence {sequence}" for id, epoch, sequence in _PRODUCER.findall(batches)[:1]]
    values = [value for value in _VALUE.findall(batches) if value != "None"]
    return " ".join([f"{text[: begin.start()]}[{', '.join(values)}]", *producer, *tail.split()])


def outcomes(returned: Json) -> tuple[Outcome, ...]:
    """What a step gave back to the application: a list of `{"machine", "number", "outcome"}`; else a ValueError."""
    calls = [] if returned is None else returned
    if not isinstance(calls, list):
        raise ValueError("returned: expected a list")
    return tuple(map(_outcome, calls))


def broken_sentence(trace: Trace) -> str | None:
    """What is broken at the end, why if the witness says so, and where; None if nothing is."""
    if trace.property is None:
        return None
    places = {**(trace.witness or {})}
    why = places.pop("why", None)
    where = f"({', '.join(_named(*each) for each in places.items())})" if places else ""
    return " ".join(
        [f"Broken: {trace.property}", *([f"- {plain_text(why)}"] if why else []), *([where] if where else [])]
    )


def _outcome(call: Json) -> Outcome:
    if not isinstance(call, dict) or not isinstance(call.get("machine"), str):
        raise ValueError(f"returned: expected objects with machine, number and outcome, not {value_text(call)}")
    text = _outcome_text(call.get("outcome"))
    words = f"call {value_text(call.get('number'))}: {text}"
    return Outcome(str(call["machine"]), words, is_failure=bool(_ERROR.search(text)))


def _outcome_text(outcome: Json) -> str:
    """An outcome: `ok x-0`, or the error and what is known in spite of it."""
    if isinstance(outcome, dict) and outcome.get("is") == "requests.Response":
        error = plain_text(outcome["error"]) if "error" in outcome else "ok"
        return f"{error} {_outcome_text(outcome['value'])}" if outcome.get("value") is not None else error
    if isinstance(outcome, dict) and outcome.get("is") == "consumer.PollResult":
        return _poll_text(outcome)
    return plain_text(outcome)


def _poll_text(result: dict[str, Json]) -> str:
    """What a poll returned: `assigned x-0, x-0: 17@3, 18@4`."""
    told, polled = [], dict[str, list[str]]()
    for name in ("rebalances", "records"):
        items = result.get(name)
        for item in items if isinstance(items, list) else []:
            match item:
                case [str(what), partitions]:
                    told.append(f"{what} {plain_text(partitions)}")
                case [partition, int(offset), _, value]:
                    polled.setdefault(plain_text(partition), []).append(f"{plain_text(value)}@{offset}")
    records = [f"{partition}: {' '.join(values)}" for partition, values in polled.items()]
    return ", ".join([*told, *records]) or "nothing"


def _named(name: str, value: Json) -> str:
    return f"{name.replace('_', ' ')} {plain_text(value)}"
