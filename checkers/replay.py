"""Runs of a model as traces: made from the rows that an engine found, and verified by taking every step again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hwmark.spec import layout
from hwmark.spec.catalogue import find, spelled
from hwmark.spec.lang import Domain
from hwmark.spec.model import Instance, Model, Step
from hwmark.traces import trace as traces
from hwmark.traces.changes import Json
from hwmark.traces.trace import Lanes, Trace


def trace_of(
    instance: Instance,
    initial: bytes,
    steps: Iterable[Step],
    *,
    engine: str,
    violated: str | None = None,
    witness: Mapping[str, Json] | None = None,
) -> Trace:
    """The trace of a run; with `violated`, a counterexample of that property of the model."""
    actions = {action.name: action for action in instance.actions}
    before, found = instance.to_json(initial), []
    for step in steps:
        after = instance.to_json(step.row)
        found.append(traces.step_between(before, after, step.action, actions[step.action].show(step.arguments)))
        before = after
    return Trace(
        model=instance.model.family,
        variant=instance.model.variant,
        bounds=instance.bounds,
        property=None if violated is None else spelled(violated),
        witness=None if witness is None else dict(witness),
        engine=engine,
        initial=instance.to_json(initial),
        steps=tuple(found),
        lanes=lanes_of(instance),
    )


def lanes_of(instance: Instance) -> Lanes | None:
    """The domain that pictures give a lane to each value of, with the arrays and the arguments that it indexes."""
    name = instance.model.lanes
    if name is None:
        return None
    arrays = {
        field.name: field.type.index
        for field in instance.state.fields
        if isinstance(field.type, layout.Table) and _is_in(field.type.index, name)
    }
    counts = {index.high + 1 for index in arrays.values()}
    if len(counts) != 1:
        return None
    asked = [domain for each in (*instance.actions, *instance.properties.values()) for domain in each.domain]
    arguments = sorted({argument for argument, kind in asked if _is_in(kind, name)})
    return Lanes(name, counts.pop(), tuple(arrays), tuple(arguments))


def _is_in(kind: layout.Scalar, domain: str) -> bool:
    return isinstance(kind.domain, Domain) and kind.domain.name == domain


def verify(trace: Trace, model: Model | None = None) -> str | None:
    """Take every step of a trace in its model; where the model does otherwise, or None if it never does.

    The model is the one that the trace names, unless another is given. Raises SpecError for a model, variant or bound
    that there is not.
    """
    instance = (model or find(trace.model, trace.variant)).at(**trace.bounds)
    actions = {action.name: action for action in instance.actions}
    try:
        rows = [instance.from_json(state) for state in trace.states()]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        return f"its states are not states of {instance}: {error}"
    if rows[0] not in instance.initial():
        return "it does not begin in an initial state"
    for number, (step, before, after) in enumerate(zip(trace.steps, rows, rows[1:], strict=False), 1):
        if step.action not in actions:
            return f"step {number}: {trace.variant} has no action {step.action}"
        domain = dict(actions[step.action].domain)
        if set(step.arguments) != set(domain):
            return f"step {number}: {step.action} takes {', '.join(domain) or 'no arguments'}"
        row = instance.step(step.action, before, {name: domain[name].read(step.arguments[name]) for name in domain})
        if row is None:
            return f"step {number}: {step.action} is not enabled"
        if row != after:
            return f"step {number}: {step.action} leads to another state"
    return _verify_violation(instance, trace, rows[-1])


def _verify_violation(instance: Instance, trace: Trace, last: bytes) -> str | None:
    name = (trace.property or "").replace("-", "_")
    if name not in instance.model.invariants:
        return None
    return f"{trace.property} holds in the last state" if instance.witness(name, last) is None else None
