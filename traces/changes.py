"""What differs between two states, as a table from paths to new values, and how it is applied again.

States are JSON: objects, lists and scalars. A path reads like the expression in the model, `replicas[0].leader_epoch`;
a field that is not an identifier is quoted, `votes["r 1"]`. The empty path is the whole state.
A change goes down to the scalar that changed. A sequence whose length changed and a set (a strictly increasing list of
integers) are given whole: "isr: [0, 1] -> [1]" says more than "isr[0] is now 1".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import TypeAlias

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Path: TypeAlias = tuple[str | int, ...]

_STEP = re.compile(r'\.?(?P<field>[^\W\d]\w*)|\[(?P<index>\d+)\]|\[(?P<quoted>"(?:[^"\\]|\\.)*")\]')


def changes_between(before: Json, after: Json) -> dict[str, Json]:
    """The paths at which `after` differs from `before`, each with its new value, in the order of the state's fields."""
    return {path_text(path): value for path, value in _differences((), before, after)}


def apply_changes(state: Json, changes: dict[str, Json]) -> Json:
    """The state after the changes; `state` itself stays as it is. A path that is not there raises LookupError."""
    for path, value in changes.items():
        state = _replaced(state, parse_path(path), value)
    return state


def value_at(state: Json, path: str) -> Json:
    """The value at a path of a state; a path that is not there raises LookupError."""
    for step in parse_path(path):
        state = _child(state, step)
    return state


def leaves(state: Json, path: Path = ()) -> Iterator[tuple[str, Json]]:
    """Every field of a state that is no struct or array of structs, with its path: a flat view of the whole state."""
    if isinstance(state, dict) and state:
        for name, value in state.items():
            yield from leaves(value, (*path, name))
    elif isinstance(state, list) and any(isinstance(value, dict | list) for value in state):
        for index, value in enumerate(state):
            yield from leaves(value, (*path, index))
    else:
        yield path_text(path), state


def path_text(path: Path) -> str:
    """A path as it is written in a trace: `logs[0]`, `quorum.leader`."""
    return "".join(_step_text(step) for step in path).removeprefix(".")


def parse_path(text: str) -> Path:
    """The fields and indexes of a written path; text that is no path raises LookupError."""
    path: list[str | int] = []
    position = 0
    while position < len(text):
        match = _STEP.match(text, position)
        if match is None or (text[position] == ".") != (position > 0 and match["field"] is not None):
            raise LookupError(f"{text!r} is no path")
        path.append(_parsed_step(match))
        position = match.end()
    return tuple(path)


def _parsed_step(match: re.Match[str]) -> str | int:
    if match["index"] is not None:
        return int(match["index"])
    return match["field"] if match["quoted"] is None else str(json.loads(match["quoted"]))


def _step_text(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    return f".{step}" if re.fullmatch(r"[^\W\d]\w*", step) else f"[{json.dumps(step)}]"


def _differences(path: Path, before: Json, after: Json) -> Iterator[tuple[Path, Json]]:
    if isinstance(before, dict) and isinstance(after, dict) and before.keys() == after.keys():
        for name in after:
            yield from _differences((*path, name), before[name], after[name])
    elif _are_arrays(before, after):
        for index, (old, new) in enumerate(zip(before, after, strict=True)):  # type: ignore[arg-type]
            yield from _differences((*path, index), old, new)
    elif not _is_same(before, after):
        yield path, after


def _are_arrays(before: Json, after: Json) -> bool:
    if not (isinstance(before, list) and isinstance(after, list) and len(before) == len(after)):
        return False
    return not (_may_be_set(before) and _may_be_set(after))


def _may_be_set(value: list[Json]) -> bool:
    numbers = [element for element in value if type(element) is int]
    return len(numbers) == len(value) and all(a < b for a, b in pairwise(numbers))


def _is_same(before: Json, after: Json) -> bool:
    """Equality that tells True from 1: Python's own does not."""
    if isinstance(before, list) and isinstance(after, list):
        return len(before) == len(after) and all(map(_is_same, before, after))
    if isinstance(before, dict) and isinstance(after, dict):
        return before.keys() == after.keys() and all(_is_same(before[name], after[name]) for name in before)
    return type(before) is type(after) and before == after


def _child(state: Json, step: str | int) -> Json:
    if isinstance(state, dict) and isinstance(step, str) and step in state:
        return state[step]
    if isinstance(state, list) and isinstance(step, int) and step < len(state):
        return state[step]
    raise LookupError(f"the state has no {step!r} there")


def _replaced(state: Json, path: Path, value: Json) -> Json:
    if not path:
        return value
    new_child = _replaced(_child(state, path[0]), path[1:], value)
    if isinstance(state, dict):
        return {name: new_child if name == path[0] else old for name, old in state.items()}
    assert isinstance(state, list)
    return [new_child if index == path[0] else old for index, old in enumerate(state)]
