"""What a picture shows of one state: of every lane its log, its leader and the rest; of what they share, the rest.

Nothing here belongs to one model. A log is a sequence of records with an `epoch`; a struct with a `high_watermark`, a
`leader`, a `leader_epoch` or an `isr` is drawn with those; any other field is a line `name value`.
Counters named `next_...` are left out: they only keep names fresh.
"""

from __future__ import annotations

from dataclasses import dataclass

from hwmark.traces.changes import Json, leaves, parse_path
from hwmark.traces.trace import Lanes, State, Step, Trace
from hwmark.traces.words import is_none, member, members, value_text

Record = dict[str, Json]

IN_FLIGHT = "in flight"

_DRAWN = ("leader", "leader_epoch", "isr")
"""Fields of a struct with a leader that have a form of their own in the picture."""


@dataclass(frozen=True)
class Role:
    """What a lane takes itself for: the leader or somebody's follower, and since which epoch."""

    is_leader: bool
    words: str


@dataclass(frozen=True)
class LaneView:
    """What one lane holds in one state; None where the model has no such thing."""

    log: list[Record] | None
    high_watermark: int | None
    role: Role | None
    isr: str | None
    others: Record


@dataclass(frozen=True)
class Scene:
    """Everything a picture of a trace needs: its states, its lanes, and which fields are logs, requests or messages."""

    states: tuple[State, ...]
    steps: tuple[Step, ...]
    lanes: Lanes
    logs: tuple[str, ...]
    requests: tuple[str, ...]
    messages: tuple[str, ...]

    @classmethod
    def of(cls, trace: Trace) -> Scene:
        """The scene of a trace."""
        states, lanes = tuple(trace.states()), lanes_of(trace)
        logs, requests = log_arrays(states, lanes), request_fields(states, lanes)
        return cls(states, trace.steps, lanes, logs, requests, message_fields(states, lanes))

    def view(self, number: int, index: int) -> LaneView:
        """Lane `index` after step `number`."""
        return lane_view(self.states[number], self.lanes, index, self.logs)


def lanes_of(trace: Trace) -> Lanes:
    """The lanes that the trace names; else one per replica where there are `replicas`, else none."""
    if trace.lanes is not None:
        return trace.lanes
    replicas = trace.initial.get("replicas")
    if not isinstance(replicas, list):
        return Lanes("", 0, ())
    arrays = [name for name, value in trace.initial.items() if isinstance(value, list) and len(value) == len(replicas)]
    return Lanes("replica", len(replicas), tuple(arrays))


def log_arrays(states: tuple[State, ...], lanes: Lanes) -> tuple[str, ...]:
    """The arrays that hold logs: an empty log alone looks like an empty set, so every state is asked.

    Where nothing is ever written, a high watermark tells that the empty lists beside it are logs.
    """
    written = [name for name in lanes.arrays if any(_holds_records(state[name]) for state in states)]
    has_marks = any(_has_marks(states[0][name]) for name in lanes.arrays)
    empty = [name for name in lanes.arrays if has_marks and all(_is_all_empty(state[name]) for state in states)]
    return tuple(written or empty)


def lane_view(state: State, lanes: Lanes, index: int, logs: tuple[str, ...]) -> LaneView:
    """One lane of a state."""
    values = {name: _element(state[name], index) for name in lanes.arrays}
    structs = [value for value in values.values() if isinstance(value, dict)]
    led = next((struct for struct in structs if "leader" in struct), None)
    mark = next((struct["high_watermark"] for struct in structs if "high_watermark" in struct), None)
    return LaneView(
        log=next((_records(values[name]) for name in logs), None),
        high_watermark=mark if isinstance(mark, int) and logs else None,
        role=_role(led, lanes, index) if led else None,
        isr=_isr(led, lanes) if led else None,
        others=_others(values, logs),
    )


def leader_epochs(state: State, lanes: Lanes) -> dict[int, Json]:
    """The leader epoch that each lane knows of."""
    elements = [(index, _element(state[name], index)) for name in lanes.arrays for index in range(lanes.count)]
    known = [(index, struct) for index, struct in elements if isinstance(struct, dict) and "leader_epoch" in struct]
    return {index: struct["leader_epoch"] for index, struct in known}


def shared_fields(scene: Scene, number: int) -> Record:
    """What belongs to no lane after a step: path -> value, a quorum in one piece, each message by itself.

    Requests are drawn as arrows, from the step that sent them to the one that takes them, and not as text.
    """
    fields: Record = {}
    for name, value in scene.states[number].items():
        if name in scene.lanes.arrays or name in scene.requests or name.startswith("next_"):
            continue
        if isinstance(value, dict) and "leader" in value:
            fields[name] = value
        elif name in scene.messages and isinstance(value, list):
            fields |= {f"{name}: {value_text(message)}": IN_FLIGHT for message in value}
        else:
            fields |= dict(leaves(value, (name,)))
    return fields


def shared_lines(path: str, value: Json, lanes: Lanes) -> list[str]:
    """The lines that show one of the shared fields."""
    if value == IN_FLIGHT:
        return [f"+ {path}"]
    if isinstance(value, dict) and "leader" in value:
        return _quorum_lines(value, lanes)
    return [field_line(path, value)]


def field_line(path: str, value: Json) -> str:
    """One field as a line."""
    return f"{path}: {value_text(value)}"


def message_fields(states: tuple[State, ...], lanes: Lanes) -> tuple[str, ...]:
    """The fields that hold messages: lists of structs whose length changes."""
    names = [name for name, value in states[0].items() if name not in lanes.arrays and isinstance(value, list)]
    return tuple(name for name in names if _is_message_box([state[name] for state in states]))


def request_fields(states: tuple[State, ...], lanes: Lanes) -> tuple[str, ...]:
    """The fields that hold requests to take a leader and an ISR: like logs, only a state that has some tells."""
    names = [name for name in states[0] if name not in lanes.arrays]
    return tuple(name for name in names if any(_holds_requests(state[name]) for state in states))


def changed_lanes(changes: dict[str, Json], lanes: Lanes) -> set[int]:
    """The lanes that a step's changes touch."""
    touched: set[str | int] = set()
    for path in map(parse_path, changes):
        if path and path[0] in lanes.arrays:
            touched |= {path[1]} if len(path) > 1 else set(range(lanes.count))
    return {index for index in touched if isinstance(index, int)}


def _element(array: Json, index: int) -> Json:
    return array[index] if isinstance(array, list) and index < len(array) else None


def _holds_records(array: Json) -> bool:
    return isinstance(array, list) and any(isinstance(log, list) and log and all(map(_is_record, log)) for log in array)


def _has_marks(array: Json) -> bool:
    structs = [element for element in array if isinstance(element, dict)] if isinstance(array, list) else []
    return any("high_watermark" in struct for struct in structs)


def _is_all_empty(array: Json) -> bool:
    return isinstance(array, list) and all(element == [] for element in array)


def _is_record(value: Json) -> bool:
    return isinstance(value, dict) and "epoch" in value


def _holds_requests(value: Json) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_request, value))


def _is_request(value: Json) -> bool:
    return isinstance(value, dict) and "leader" in value and "isr" in value


def _records(log: Json) -> list[Record]:
    return [record for record in log if isinstance(record, dict)] if isinstance(log, list) else []


def _role(struct: Record, lanes: Lanes, index: int) -> Role:
    leader, epoch = struct["leader"], struct.get("leader_epoch")
    since = "" if is_none(epoch) else f" epoch {value_text(epoch)}"
    if leader == index:
        return Role(True, f"LEADER{since}")
    return Role(False, f"follows {member(lanes, leader)}{since}" if not is_none(leader) else f"no leader{since}")


def _quorum_lines(struct: Record, lanes: Lanes) -> list[str]:
    epoch, isr = struct.get("leader_epoch"), _isr(struct, lanes)
    leader = member(lanes, struct["leader"]) + ("" if is_none(epoch) else f", epoch {value_text(epoch)}")
    rest = {name: value for name, value in struct.items() if name not in _DRAWN}
    return [
        f"leader {leader}",
        *([f"ISR {isr}"] if isr else []),
        *(field_line(*field) for field in leaves(rest) if rest),
    ]


def _isr(struct: Record, lanes: Lanes) -> str | None:
    isr = struct.get("isr")
    return members(lanes, isr) if isinstance(isr, list) else None


def _others(values: dict[str, Json], logs: tuple[str, ...]) -> Record:
    others: Record = {}
    for name, value in values.items():
        if name in logs:
            continue
        if not isinstance(value, dict):
            others |= dict(leaves(value, (name,)))
        else:
            drawn = (*(_DRAWN if "leader" in value else ()), *(["high_watermark"] if logs else []))
            rest = {field: inner for field, inner in value.items() if field not in drawn}
            others |= dict(leaves(rest)) if rest else {}
    return others


def _is_message_box(values: list[Json]) -> bool:
    boxes = [value for value in values if isinstance(value, list)]
    return len({len(box) for box in boxes}) > 1 and all(isinstance(message, dict) for box in boxes for message in box)
