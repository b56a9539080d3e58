"""A cluster's run as a trace, and a trace taken again by the cluster.

The trace's states are {"now": ms, "setup": {...}, "machines": {name: view}, "network": {id: view}, "returned": [...]},
the last being the outcomes of calls in this step; its steps are the actions with their arguments by name. The setup and
the actions say everything: whoever has them has the run. The rest is what the run looked like, and is compared when it
is taken again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, get_type_hints

from hwmark.checkers.simulation.cluster import ACTIONS, Action, Cluster, ClusterSetup, NotEnabledError, Returned
from hwmark.checkers.simulation.encoding import decode, encode, require
from hwmark.checkers.simulation.views import View, machine_view, message_view, network_view
from hwmark.traces.changes import Json, changes_between, value_at
from hwmark.traces.errors import BadInputError
from hwmark.traces.trace import State, Step, Trace

MODEL = "refimpl"
_HINTS = {kind: get_type_hints(kind) for kind in (ClusterSetup, *ACTIONS.values())}


class TraceRecorder:
    """A cluster whose steps are written down. Only the machines that a step can have changed are viewed again."""

    def __init__(self, cluster: Cluster, *, seed: int | None = None) -> None:
        self.cluster, self.seed = cluster, seed
        self.initial = self.state = state_of(cluster)
        self.steps: list[Step] = []

    def apply(self, action: Action) -> Step:
        """Let an action happen; the step it was."""
        last_id = self.cluster.last_id
        returned = self.cluster.apply(action)
        after = self._state_after(action, last_id, returned)
        step = Step(type(action).__name__, fields_of(action), changes_between(*differing(self.state, after)))
        self.state = after
        self.steps.append(step)
        return step

    def trace(self, *, violated: str | None = None, witness: Mapping[str, Any] | None = None) -> Trace:
        """The run so far; with `violated`, a counterexample of that property, and where it fails."""
        return Trace(
            model=MODEL,
            variant=None,
            bounds={},
            initial=self.initial,
            steps=tuple(self.steps),
            property=violated,
            witness=None if witness is None else {name: encode(value) for name, value in witness.items()},
            seed=self.seed,
        )

    def _state_after(self, action: Action, last_id: int, returned: list[Returned]) -> State:
        cluster, before = self.cluster, self.state
        name = cluster.stepped or getattr(action, "machine", None)
        changed = [name] if name is not None else [*cluster.clock_offsets]
        views = {name: machine_view(cluster, name) for name in changed}
        machines, network = before["machines"], before["network"]
        assert isinstance(machines, dict) and isinstance(network, dict)
        in_flight = {id: network[id] for id in map(str, cluster.in_flight) if id in network}
        sent = range(last_id + 1, cluster.last_id + 1)
        in_flight |= {str(id): message_view(cluster.in_flight[id]) for id in sent}
        outcomes: list[Json] = [fields_of(one) for one in returned]
        told: State = {"machines": {**machines, **views}, "network": in_flight, "returned": outcomes}
        return {**before, "now": cluster.now, **told}


def export_run(
    setup: ClusterSetup,
    actions: Iterable[Action],
    *,
    seed: int | None = None,
    violated: str | None = None,
    witness: Mapping[str, Any] | None = None,
) -> Trace:
    """The trace of these actions from the beginning. NotEnabledError if one of them is impossible.

    An action at which a machine fails is the last step, without changes; whoever takes the trace again sees it fail.
    """
    recorder = TraceRecorder(Cluster(setup), seed=seed)
    for action in actions:
        try:
            recorder.apply(action)
        except NotEnabledError:
            raise
        except Exception:
            recorder.steps.append(Step(type(action).__name__, fields_of(action), {}))
            break
    return recorder.trace(violated=violated, witness=witness)


def state_of(cluster: Cluster) -> State:
    """The whole state of a cluster as JSON."""
    machines: View = {name: machine_view(cluster, name) for name in cluster.clock_offsets}
    assert isinstance(cluster.setup, ClusterSetup)
    setup = fields_of(cluster.setup)
    network = network_view(cluster)
    return {"now": cluster.now, "setup": setup, "machines": machines, "network": network, "returned": []}


def differing(before: Json, after: Json) -> tuple[Json, Json]:
    """Both without the fields that are equal: to compare is fast, to tell all differences is not."""
    if not (isinstance(before, dict) and isinstance(after, dict) and before.keys() == after.keys()):
        return before, after
    names = [name for name in after if before[name] is not after[name] and before[name] != after[name]]
    pairs = {name: differing(before[name], after[name]) for name in names}
    return {name: old for name, (old, _) in pairs.items()}, {name: new for name, (_, new) in pairs.items()}


def actions_of(trace: Trace, file: str = "trace") -> list[Action]:
    """The actions of a trace. BadInputError with file and line for what is none."""
    return [read_action(step, file, line) for line, step in enumerate(trace.steps, 2)]


def fields_of(value: Action | Returned | ClusterSetup) -> dict[str, Json]:
    """The fields as JSON, by name."""
    return {name: encode(each) for name, each in zip(value._fields, value, strict=True)}


def read_action(step: Step, file: str, line: int) -> Action:
    """The action of a step in that line of a file."""
    kind: Any = ACTIONS.get(step.action)
    try:
        if kind is None:
            raise ValueError(f"there is no action {step.action!r}; there are {', '.join(ACTIONS)}")
        if step.arguments.keys() != set(kind._fields):
            raise ValueError(f"{step.action} takes {', '.join(kind._fields)}")
        values = {name: decode(value) for name, value in step.arguments.items()}
        for name, value in values.items():
            require(value, _HINTS[kind][name], name)
    except ValueError as error:
        raise BadInputError(file, line, str(error)) from error
    action: Action = kind(**values)
    return action


def read_setup(trace: Trace, file: str) -> ClusterSetup:
    """The setup that a trace begins with. BadInputError if there is none."""
    encoded = trace.initial.get("setup")
    try:
        if not isinstance(encoded, dict) or encoded.keys() != set(ClusterSetup._fields):
            raise ValueError(f"expected an object with {', '.join(ClusterSetup._fields)}")
        values = {name: decode(value) for name, value in encoded.items()}
        for name, value in values.items():
            require(value, _HINTS[ClusterSetup][name], name)
    except ValueError as error:
        raise BadInputError(file, 1, f"initial.setup: {error}") from error
    return ClusterSetup(**values)


def verify_run(trace: Trace, file: str = "trace") -> str | None:
    """Take every action of a trace again; where the cluster does otherwise, or None if it never does.

    Unusable setups and arguments raise BadInputError with the line of `file`.
    """
    setup, actions = read_setup(trace, file), actions_of(trace, file)
    try:
        recorder = TraceRecorder(Cluster(setup))
    except (LookupError, TypeError, ValueError) as error:
        raise BadInputError(file, 1, f"initial.setup: no cluster can be built from it: {error!r}") from error
    if recorder.initial != trace.initial:
        return f"it does not begin in the initial state: {_difference(recorder.initial, trace.initial)}"
    for number, (action, step) in enumerate(zip(actions, trace.steps, strict=True), 1):
        mismatch = _verify_step(recorder, action, step)
        if mismatch is not None:
            return f"step {number}: {mismatch}"
    return None


def _verify_step(recorder: TraceRecorder, action: Action, step: Step) -> str | None:
    try:
        taken = recorder.apply(action)
    except NotEnabledError as error:
        return f"{step.action} is not enabled: {error}"
    except Exception as error:  # whatever a machine does of an action that it was never given
        return f"{step.action} fails: {error!r}"
    if taken.changes == step.changes:
        return None
    return f"{step.action} leads to another state: {_difference(taken.changes, step.changes)}"


def _difference(ours: dict[str, Json], theirs: dict[str, Json]) -> str:
    """The first place where two objects differ."""
    path, value = next(iter(changes_between(theirs, ours).items()))
    try:
        return f"{path} is {value}, not {value_at(theirs, path)}" if path else f"it has {ours}, not {theirs}"
    except LookupError:
        return f"{path} is {value}"
