"""Runs of a model as traces: made from the rows that an engine found, and verified by taking every step again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hwmark.spec import layout
from hwmark.spec.catalogue import find, spelled
from hwmark.spec.errors import RangeError
from hwmark.spec.instance import Instance, Step
from hwmark.spec.lang import Domain
from hwmark.traces import trace as traces
from hwmark.traces.changes import Json
from hwmark.traces.trace import Lanes, Trace

OUT_OF_RANGE, DEADLOCK = "out-of-range", "deadlock"
"""What a run can show besides a broken invariant."""


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


def verify(trace: Trace) -> str | None:
    """Take every step of a trace in its model; where the model does otherwise, or None if it never does.

    Raises SpecError for a model, variant or bound that there is not.
    """
    return verify_run(find(trace.model, trace.variant).at(**trace.bounds), trace)


def verify_run(instance: Instance, trace: Trace) -> str | None:
    """Take every step of a trace in this instance; where it does otherwise, or None if it never does."""
    try:
        rows = [instance.from_json(state) for state in trace.states()]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        return f"its states are not states of {instance}: {error}"
    if rows[0] not in instance.initial():
        return "it does not begin in an initial state"
    for number, (step, before, after) in enumerate(zip(trace.steps, rows, rows[1:], strict=False), 1):
        mismatch = _verify_step(instance, step, before, after)
        if mismatch is not None:
            return f"step {number}: {mismatch}"
    return _verify_violation(instance, trace, rows[-1])


def _verify_step(instance: Instance, step: traces.Step, before: bytes, after: bytes) -> str | None:
    domain = next((dict(action.domain) for action in instance.actions if action.name == step.action), None)
    if domain is None:
        return f"{instance.model.variant} has no action {step.action}"
    if set(step.arguments) != set(domain):
        return f"{step.action} takes {', '.join(domain) or 'no arguments'}"
    try:
        row = instance.step(step.action, before, {name: domain[name].read(step.arguments[name]) for name in domain})
    except (IndexError, TypeError, ValueError) as error:
        return f"{step.action} is impossible: {error}"
    if row is None:
        return f"{step.action} is not enabled"
    return None if row == after else f"{step.action} leads to another state"


def _verify_violation(instance: Instance, trace: Trace, last: bytes) -> str | None:
    """Whether the last state shows what the trace is a counterexample of."""
    name = (trace.property or "").replace("-", "_")
    try:
        if name == DEADLOCK:
            return "something is enabled in the last state" if list(instance.successors(last)) else None
        if name in instance.model.invariants:
            return f"{trace.property} holds in the last state" if instance.witness(name, last) is None else None
    except RangeError as error:
        return f"the last state leaves a range: {error}"
    if name == OUT_OF_RANGE.replace("-", "_") and first_range_error(instance, last) is None:
        return "nothing leaves a range in the last state"
    return None


def first_range_error(
    instance: Instance, row: bytes, invariants: Iterable[str] | None = None
) -> tuple[str, dict[str, Json]] | None:
    """The message of the first range check that fails in a state, and the action or property with its arguments.

    Of the invariants only those named are asked, by default all.
    """
    model = instance.model
    names = (
        *(model.invariants if invariants is None else invariants),
        *model.sometimes,
        *filter(None, [model.constraint]),
    )
    for asked in (*instance.actions, *(instance.properties[name] for name in names)):
        for arguments in asked.choices():
            try:
                instance.call(asked.name, bytearray(row), arguments)
            except RangeError as error:
                return str(error), {"action": asked.name, **asked.show(arguments)}
    return None
