"""The plain twin of the exhaustive engine: the same answers in the fewest lines, for tests to compare with."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from hwmark.checkers.replay import DEADLOCK, OUT_OF_RANGE
from hwmark.spec.errors import RangeError
from hwmark.spec.instance import Instance

__all__ = ["DEADLOCK", "OUT_OF_RANGE", "PlainExploration", "explore_plainly"]


@dataclass(frozen=True)
class PlainExploration:
    """What a plain search found. `path` leads to the least state of the first violation, empty where there is none."""

    distinct: int
    generated: int
    depth: int
    violated: str | None
    path: tuple[bytes, ...]
    coverage: dict[str, int]
    reached: frozenset[str]


def explore_plainly(
    instance: Instance, invariants: Sequence[str] | None = None, *, deadlock: bool = False
) -> PlainExploration:
    """Breadth-first search over whole levels, stopping after the first level with a violation."""
    checked = instance.model.standing if invariants is None else tuple(invariants)
    names = (OUT_OF_RANGE, DEADLOCK, *checked, OUT_OF_RANGE)
    parents: dict[bytes, bytes | None] = {}
    following: list[bytes] = []
    failing: list[tuple[int, bytes, bytes | None]] = []
    coverage: dict[str, int] = dict.fromkeys(instance.model.actions, 0)
    reached: set[str] = set()
    wanted = instance.model.sometimes

    def meet(row: bytes, parent: bytes | None) -> None:
        if row in parents:
            return
        within = False
        try:
            within = instance.within(row)
            failed = (number for number, name in enumerate(checked, 2) if instance.witness(name, row) is not None)
            failing.extend((number, row, parent) for number in itertools.islice(failed, 1))
            reached.update(name for name in wanted if instance.instance_of(name, row) is not None)
        except RangeError:
            failing.append((len(names) - 1, row, parent))
        if within:
            parents[row] = parent
            following.append(row)

    for row in instance.initial():
        meet(row, None)
    generated, depth = len(instance.initial()), int(bool(following))
    while following and not failing:
        level, following = following, []
        wanted = tuple(name for name in wanted if name not in reached)
        for row in level:
            try:
                steps = list(instance.successors(row))
            except RangeError:
                failing.append((0, row, parents[row]))
                continue
            if deadlock and not steps:
                failing.append((1, row, parents[row]))
            generated += len(steps)
            for step in steps:
                coverage[step.action] += 1
                meet(step.row, row)
        depth += bool(following)
    number, *last = min(failing, key=lambda each: each[:2]) if failing else (None, None, None)
    path = _path(parents, *last)
    return PlainExploration(
        len(parents), generated, len(path) or depth, None if number is None else names[number], path, coverage,
        frozenset(reached),
    )  # fmt: skip


def _path(parents: dict[bytes, bytes | None], row: bytes | None, parent: bytes | None) -> tuple[bytes, ...]:
    path = [] if row is None else [row]
    while parent is not None:
        path.append(parent)
        parent = parents[parent]
    return tuple(reversed(path))
