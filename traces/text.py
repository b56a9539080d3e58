"""A trace as aligned text: the whole content of its file, of every step only what changed."""

from __future__ import annotations

from collections.abc import Iterator

from hwmark.traces.changes import Json, leaves, value_at
from hwmark.traces.promise import broken_promise
from hwmark.traces.run import is_run
from hwmark.traces.trace import State, Step, Trace, header_of
from hwmark.traces.words import arguments_text, value_text

OLD_VALUE_WIDTH_MAX, LINE_MAX = 24, 120
"""Columns kept for the old value, so that arrows line up; a longer old value pushes its own arrow aside, uncut. And how
long a line may be before the new value gets a line of its own, however long."""


def trace_text(trace: Trace) -> str:
    """The trace for people, nothing left out: header, initial state, and per step `path  old -> new`."""
    if is_run(trace):
        from hwmark.traces.run_text import run_text

        return run_text(trace)
    return "\n".join([*_header(trace), "", *_initial(trace), *_steps(trace), *_end(trace)]) + "\n"


def _header(trace: Trace) -> Iterator[str]:
    for name, value in header_of(trace).items():
        if name not in ("format", "version", "initial"):
            yield f"{name:<9} {arguments_text(value) if isinstance(value, dict) else value_text(value)}"


def _initial(trace: Trace) -> Iterator[str]:
    yield "0  initial state"
    width = max((len(path) for path, _ in leaves(trace.initial)), default=0)
    for path, value in leaves(trace.initial):
        yield f"     {path:<{width}}  {value_text(value)}"


def _steps(trace: Trace) -> Iterator[str]:
    rows = [_rows(state, step) for state, step in zip(trace.states(), trace.steps, strict=False)]
    width = max((len(path) for row in rows for path, _, _ in row), default=0)
    old_width = max((len(old) for row in rows for _, old, _ in row if len(old) <= OLD_VALUE_WIDTH_MAX), default=0)
    for number, (step, row) in enumerate(zip(trace.steps, rows, strict=True), 1):
        yield f"{number:<3}{step.action}({arguments_text(step.arguments)})"
        for path, old, new in row:
            yield from _change(f"     {path:<{width}}  ", old, new, old_width)
        if not row:
            yield "     (nothing changed)"


def _change(path: str, old: str, new: str, old_width: int) -> Iterator[str]:
    """One change on a line, or, too long for that, the new value under the old one."""
    if len(path) + len(old) + len(new) <= LINE_MAX:
        yield f"{path}{old:<{old_width}} -> {new}"
    else:
        yield f"{path}{old}"
        yield f"{'-> ':>{len(path)}}{new}"


def _rows(before: State, step: Step) -> list[tuple[str, str, str]]:
    def old(path: str) -> Json:
        return value_at(before, path)

    return [(path or "(state)", value_text(old(path)), value_text(new)) for path, new in step.changes.items()]


def _end(trace: Trace) -> Iterator[str]:
    broken = broken_promise(trace)
    if broken is not None:
        yield broken.sentence
