"""A trace: the run of a model from its initial state, as data and as a file.

The file is NDJSON: a header line, then a line per step with the action, its arguments and what changed:

    {"format": "hwmark-trace", "version": 1, "model": "replication", "variant": "kip-101", "initial": {...}, ...}
    {"step": 1, "action": "leader_write", "arguments": {"leader": 0}, "changes": {"next_record": 1, ...}}

A state is JSON: a struct is an object; an array or a sequence a list; a set a sorted list; an absent optional null; an
enum's value its name. What changed is described in `hwmark.traces.changes`. Every step is checked as it is read, so
whoever holds a Trace can walk through its states without meeting a path that leads nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson
from hwmark.traces.changes import Json, apply_changes, changes_between
from hwmark.traces.errors import BadInputError

FORMAT, VERSION = "hwmark-trace", 1

State = dict[str, Json]

_HEADER_TYPES: dict[str, tuple[type, ...]] = {
    "hwmark": (str,),
    "model": (str,),
    "variant": (str, type(None)),
    "bounds": (dict,),
    "property": (str, type(None)),
    "witness": (dict, type(None)),
    "seed": (int, type(None)),
    "engine": (str, type(None)),
    "lanes": (dict, type(None)),
    "initial": (dict,),
}
_OPTIONAL_IN_HEADER = ("variant", "property", "witness", "seed", "engine", "lanes")
_STEP_TYPES: dict[str, tuple[type, ...]] = {"step": (int,), "action": (str,), "arguments": (dict,), "changes": (dict,)}
_TYPE_NAMES = {str: "a string", int: "an integer", dict: "an object", list: "a list", type(None): "null"}


@dataclass(frozen=True)
class Lanes:
    """How a picture splits the state: `arrays` are the fields indexed by the `count` things called `name`.

    `arguments` are the arguments, of actions and of the property, that name one of them; None if nobody said.
    """

    name: str
    count: int
    arrays: tuple[str, ...]
    arguments: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Step:
    """One action with its arguments, by name, and what it changed: path -> new value."""

    action: str
    arguments: dict[str, Json]
    changes: dict[str, Json]


@dataclass(frozen=True, kw_only=True)
class Trace:
    """A run of `model` from `initial`; with a `property`, a counterexample of it.

    `witness` names the parameters for which the property, read as "for all parameters", fails in the last state.
    """

    model: str
    variant: str | None
    bounds: dict[str, int]
    initial: State
    steps: tuple[Step, ...]
    property: str | None = None
    witness: dict[str, Json] | None = None
    seed: int | None = None
    engine: str | None = None
    lanes: Lanes | None = None
    hwmark: str = field(default_factory=lambda: version("hwmark"))

    def states(self) -> Iterator[State]:
        """Every state of the run, the initial one included: len(steps) + 1 of them."""
        state: Json = self.initial
        yield self.initial
        for step in self.steps:
            state = apply_changes(state, step.changes)
            assert isinstance(state, dict)
            yield state


def step_between(before: State, after: State, action: str, arguments: dict[str, Json]) -> Step:
    """The step by which an action with these arguments leads from one state to the other."""
    return Step(action, arguments, changes_between(before, after))


def header_of(trace: Trace) -> dict[str, Any]:
    """The header line of a trace's file as an object."""
    lanes = trace.lanes and {
        name: list(value) if isinstance(value, tuple) else value for name, value in asdict(trace.lanes).items()
    }
    values = {name: getattr(trace, name) for name in _HEADER_TYPES}
    return {"format": FORMAT, "version": VERSION, **values, "lanes": lanes}


def steps_of(trace: Trace) -> list[dict[str, Any]]:
    """The step lines of a trace's file as objects, numbered from 1."""
    return [
        {"step": number, **{item.name: getattr(step, item.name) for item in fields(Step)}}
        for number, step in enumerate(trace.steps, 1)
    ]


def states_of(trace: Trace) -> list[dict[str, Any]]:
    """A line for every state of a trace: the initial one as step 0, then the steps as in the file."""
    return [{"step": 0, "action": "init", "arguments": {}, "state": trace.initial}, *steps_of(trace)]


def write_trace(path: str | Path, trace: Trace) -> None:
    """Write the trace's file; OSError where that is impossible."""
    lines = [header_of(trace), *steps_of(trace)]
    Path(path).write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))


def read_trace(path: str | Path) -> Trace:
    """The trace in a file; a file that is none raises BadInputError with the line and what was expected there."""
    lines = _lines(str(path))
    header = _record(str(path), 1, lines[0])
    _require_trace(str(path), header)
    header = {name: header.get(name) if name in _OPTIONAL_IN_HEADER else header[name] for name in _HEADER_TYPES}
    state: Json = header["initial"]
    steps = []
    for number, line in enumerate(lines[1:], 1):
        step = _step(str(path), number, _record(str(path), number + 1, line))
        state = _next_state(str(path), number, state, step)
        steps.append(step)
    header["lanes"] = _lanes(str(path), header["lanes"], header["initial"])
    return Trace(**header, steps=tuple(steps))


def is_trace(path: str | Path) -> bool:
    """Whether the file's first line is the header of a trace; a file that cannot be read raises BadInputError."""
    if Path(path).is_fifo():
        raise BadInputError(str(path), None, "a pipe can be read only once; expected a file")
    try:
        with open(path, "rb") as file:
            header = orjson.loads(file.readline())
    except OSError as error:
        raise _unreadable(str(path), error) from error
    except orjson.JSONDecodeError:
        return False
    return isinstance(header, dict) and header.get("format") == FORMAT


def _unreadable(file: str, error: OSError) -> BadInputError:
    return BadInputError(file, None, (error.strerror or str(error)).lower())


def _lines(file: str) -> list[bytes]:
    try:
        content = Path(file).read_bytes()
    except OSError as error:
        raise _unreadable(file, error) from error
    if not content.strip():
        raise BadInputError(file, 1, "the file is empty")
    return content.removesuffix(b"\n").split(b"\n")


def _record(file: str, line: int, text: bytes) -> dict[str, Any]:
    try:
        record = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadInputError(file, line, f"not JSON: {error.msg} (column {error.colno})") from error
    if not isinstance(record, dict):
        raise BadInputError(file, line, "expected a JSON object")
    return record


def _require_trace(file: str, header: dict[str, Any]) -> None:
    if header.get("format") != FORMAT:
        raise BadInputError(file, 1, f'not a trace: expected a header with "format": "{FORMAT}"')
    if header.get("version") != VERSION:
        raise BadInputError(file, 1, f"trace version {header.get('version')!r}: only {VERSION} is known")
    values = {name: value for name, value in header.items() if name not in ("format", "version")}
    _require_fields(file, 1, values, _HEADER_TYPES, _OPTIONAL_IN_HEADER)
    for name, bound in header["bounds"].items():
        _require_type(file, 1, f"bounds.{name}", bound, (int,))


def _require_fields(
    file: str, line: int, record: dict[str, Any], types: dict[str, tuple[type, ...]], optional: tuple[str, ...] = ()
) -> None:
    for name in record:
        if name not in types:
            raise BadInputError(file, line, f"unknown field {name!r}, expected {', '.join(types)}")
    for name, expected in types.items():
        if name in record:
            _require_type(file, line, name, record[name], expected)
        elif name not in optional:
            raise BadInputError(file, line, f"the field {name!r} is missing")


def _require_type(file: str, line: int, name: str, value: object, expected: tuple[type, ...]) -> None:
    if type(value) not in expected:  # isinstance would take true for an integer
        names = " or ".join(_TYPE_NAMES[kind] for kind in expected)
        raise BadInputError(file, line, f"the field {name!r} must be {names}")


def _step(file: str, number: int, record: dict[str, Any]) -> Step:
    _require_fields(file, number + 1, record, _STEP_TYPES)
    if record["step"] != number:
        raise BadInputError(file, number + 1, f"step {record['step']} where step {number} was expected")
    return Step(record["action"], record["arguments"], record["changes"])


def _next_state(file: str, number: int, state: Json, step: Step) -> Json:
    try:
        state = apply_changes(state, step.changes)
    except LookupError as error:
        raise BadInputError(file, number + 1, f"the changes of step {number} do not fit the state: {error}") from error
    if not isinstance(state, dict):
        raise BadInputError(file, number + 1, f"after step {number} the state is no object")
    return state


def _lanes(file: str, lanes: dict[str, Any] | None, initial: State) -> Lanes | None:
    if lanes is None:
        return None
    types = {"name": (str,), "count": (int,), "arrays": (list,), "arguments": (list, type(None))}
    _require_fields(file, 1, lanes, types, optional=("arguments",))
    arguments = lanes.get("arguments")
    if arguments is not None and not all(isinstance(name, str) for name in arguments):
        raise BadInputError(file, 1, "lanes: the arguments must be names")
    for name in lanes["arrays"]:
        array = initial.get(name) if isinstance(name, str) else None
        if not isinstance(array, list) or len(array) != lanes["count"]:
            raise BadInputError(file, 1, f"lanes: the state has no array {name!r} of {lanes['count']} elements")
    return Lanes(lanes["name"], lanes["count"], tuple(lanes["arrays"]), None if arguments is None else tuple(arguments))
