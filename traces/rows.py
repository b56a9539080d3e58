"""The rows of a space-time diagram: per state what happened, in words, and which lanes show what; and who told whom."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from hwmark.traces.changes import Json
from hwmark.traces.lanes import LaneView, Record, Scene, changed_lanes, leader_epochs, shared_fields, shared_lines
from hwmark.traces.words import action_words, lane_arguments, record_text

SHARED, OTHERS_MAX = -1, 4
"""The column of what belongs to no lane (lanes count from 0), and how many fields a lane shows every time."""


@dataclass(frozen=True)
class Row:
    """One state: words for the step that led there, the lanes drawn, of them those that changed, and shared lines."""

    words: str
    views: dict[int, LaneView]
    changed: frozenset[int]
    shared: tuple[str, ...]


@dataclass(frozen=True)
class Arrow:
    """Something told by one column in one row to another column in the same or a later row."""

    from_row: int
    from_column: int
    to_row: int
    to_column: int


def rows_of(scene: Scene) -> list[Row]:
    """A row per state. The first shows everything, the last every lane, the others what changed."""
    everybody = range(scene.lanes.count)
    first = Row("initially", {i: _view(scene, 0, i, False) for i in everybody}, frozenset(), _shared(scene, 0))
    return [first, *(_row(scene, number) for number in range(1, len(scene.states)))]


def arrows_of(scene: Scene, rows: list[Row]) -> list[Arrow]:
    """Within a step from who was read to who changed; and from the row of a request to the row that takes it."""
    numbers = range(1, len(rows))
    return [arrow for number in numbers for arrow in _taken(scene, number) or _within(scene, number, rows[number])]


def _row(scene: Scene, number: int) -> Row:
    changed = frozenset(changed_lanes(scene.steps[number - 1].changes, scene.lanes))
    drawn = range(scene.lanes.count) if number == len(scene.steps) else sorted(changed)
    views = {index: _view(scene, number, index, index in changed) for index in drawn}
    return Row(_words(scene, number, sorted(changed)), views, changed, _shared(scene, number))


def _view(scene: Scene, number: int, index: int, is_changed: bool) -> LaneView:
    """A lane, of whose many fields only those that changed or that hold something are shown."""
    view = scene.view(number, index)
    if len(view.others) <= OTHERS_MAX:
        return view
    before = scene.view(number - 1, index).others if is_changed else None
    return replace(view, others=_telling(view.others, before))


def _telling(fields: Record, before: Record | None) -> Record:
    """Of these fields those that changed; at first, where nothing was before, those that hold something."""
    if before is None:
        return {path: value for path, value in fields.items() if value}
    return {path: value for path, value in fields.items() if path not in before or before[path] != value}


def _shared(scene: Scene, number: int) -> tuple[str, ...]:
    after = shared_fields(scene, number)
    before = shared_fields(scene, number - 1) if number else {}
    shown = _telling(after, before if number or len(after) <= OTHERS_MAX else None)
    gone = [f"- {path}" for path in before if path not in after]
    return (*gone, *(line for path, value in shown.items() for line in shared_lines(path, value, scene.lanes)))


def _words(scene: Scene, number: int, changed: list[int]) -> str:
    written: list[Record] = []
    dropped: list[Record] = []
    for index in changed:
        old, new = scene.view(number - 1, index).log or [], scene.view(number, index).log or []
        same = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
        written, dropped = written + new[same:], dropped + old[same:]
    sentence = action_words(scene.steps[number - 1], scene.lanes, ", ".join(map(record_text, written)))
    return f"{sentence}, dropping {', '.join(map(record_text, dropped))}" if dropped else sentence


def _taken(scene: Scene, number: int) -> list[Arrow]:
    """Arrows to the lanes that, in this step, took the leader epoch of a request sent in an earlier one."""
    before = leader_epochs(scene.states[number - 1], scene.lanes)
    after = leader_epochs(scene.states[number], scene.lanes)
    sent = {epoch: row for row in range(number - 1, 0, -1) for epoch in _sent(scene, row)}
    takers = [(index, epoch) for index, epoch in after.items() if before.get(index) != epoch and epoch in sent]
    return [Arrow(sent[epoch], SHARED, number, index) for index, epoch in takers]


def _within(scene: Scene, number: int, row: Row) -> Iterator[Arrow]:
    """The arrow between the columns that a step connects, from the one that stayed the same to the one that changed."""
    lanes = list(dict.fromkeys(lane_arguments(scene.steps[number - 1].arguments, scene.lanes).values()))
    if len(lanes) >= 2:
        source, target = lanes[:2] if lanes[1] in row.changed or lanes[0] not in row.changed else lanes[1::-1]
        yield Arrow(number, source, number, target)
    if lanes and row.shared and not set(_sent(scene, number)):
        yield Arrow(number, next((i for i in lanes if i in row.changed), lanes[0]), number, SHARED)


def _sent(scene: Scene, number: int) -> Iterator[Json]:
    """The leader epochs of the requests that a step sent; a request that names none is that of its place's epoch."""
    for name in scene.requests:
        earlier, requests = scene.states[number - 1][name], scene.states[number][name]
        if isinstance(earlier, list) and isinstance(requests, list):
            for place, request in enumerate(requests):
                is_new = place >= len(earlier) or request != earlier[place]
                if is_new and isinstance(request, dict) and not ("leader_epoch" in request and request in earlier):
                    yield request.get("leader_epoch", place)
