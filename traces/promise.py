"""Which promise a counterexample breaks and where, in one sentence and as places in the logs."""

from __future__ import annotations

from dataclasses import dataclass

from hwmark.traces.lanes import LaneView, Record, Scene
from hwmark.traces.trace import State, Trace
from hwmark.traces.words import lane_arguments, member, record_text, witness_text


@dataclass(frozen=True)
class BrokenPromise:
    """The promise broke at `offset` of the logs of `lanes`; an offset of None and no lanes where that is unknown."""

    sentence: str
    lanes: tuple[int, ...] = ()
    offset: int | None = None


def broken_promise(trace: Trace) -> BrokenPromise | None:
    """What the last state of a counterexample breaks; None if the trace is no counterexample."""
    if trace.property is None:
        return None
    scene, witness = Scene.of(trace), trace.witness or {}
    places = tuple(dict.fromkeys(lane_arguments(witness, scene.lanes).values()))
    offset = witness.get("offset")
    if scene.logs and places and isinstance(offset, int):
        return BrokenPromise(f"{trace.property} fails: {_sentence(scene, places, offset)}", places, offset)
    where = f" for {witness_text(witness, scene.lanes)}" if witness else " in the last state"
    return BrokenPromise(f"{trace.property} fails{where}", places)


def record_at(log: list[Record] | None, offset: int) -> Record | None:
    """The record at an offset of a log; None beyond its end."""
    return log[offset] if log is not None and 0 <= offset < len(log) else None


def _sentence(scene: Scene, places: tuple[int, ...], offset: int) -> str:
    views = [scene.view(-1, index) for index in places]
    mark = views[0].high_watermark
    below = f" below its high watermark {mark}" if mark is not None and offset < mark else ""
    clauses = [f"{member(scene.lanes, places[0])} has {_found(views[0], offset)} at offset {offset}{below}"]
    for index, view in zip(places[1:], views[1:], strict=True):
        who = f"{member(scene.lanes, index)}{_in_isr(scene.states[-1], index)}"
        clauses.append(f"{who} has {_found(view, offset)} there")
    return ", ".join(clauses)


def _found(view: LaneView, offset: int) -> str:
    record = record_at(view.log, offset)
    return "nothing" if record is None else record_text(record)


def _in_isr(state: State, index: int) -> str:
    isrs = [value["isr"] for value in state.values() if isinstance(value, dict) and "isr" in value]
    return " (in the ISR)" if any(isinstance(isr, list) and index in isr for isr in isrs) else ""
