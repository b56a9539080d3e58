"""A trace as aligned text: the whole content of its file, of every step only what changed."""

from __future__ import annotations

from collections.abc import Iterator

from hwmark.traces.changes import Json, leaves, value_at
from hwmark.traces.trace import State, Step, Trace, header_of
from hwmark.traces.words import arguments_text, value_text

OLD_VALUE_WIDTH_MAX = 24
"""Columns kept for the old value, so that arrows line up; a longer value pushes its own arrow aside, uncut."""


def trace_text(trace: Trace) -> str:
    """The trace for people, nothing left out: header, initial state, and per step `path  old -> new`."""
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
        yield f"{number:<2} {step.action}({arguments_text(step.arguments)})"
        for path, old, new in row:
            yield f"     {path:<{width}}  {old:<{old_width}} -> {new}"
        if not row:
            yield "     (nothing changed)"


def _rows(before: State, step: Step) -> list[tuple[str, str, str]]:
    def old(path: str) -> Json:
        return value_at(before, path)

    return [(path or "(state)", value_text(old(path)), value_text(new)) for path, new in step.changes.items()]


def _end(trace: Trace) -> Iterator[str]:
    if trace.property is not None:
        where = f" for {arguments_text(trace.witness)}" if trace.witness else ""
        yield f"{trace.property} fails in the last state{where}"
