"""The general search: is there a legal order of the operations on any object with a sequential model?

The history is divided into independent parts where the model allows it. Each is searched by the plain search first, up
to a few configurations, so that a small history costs no compilation; then by the compiled one, where the model can be
encoded. Every limit is a number of configurations, so that the same history gets the same answer everywhere; only a
limit in seconds, where the user sets one, may turn an answer into Unknown.
"""

from __future__ import annotations

from typing import Literal

from hwmark.checkers.linearizability import plain
from hwmark.checkers.linearizability.encode import encode
from hwmark.checkers.linearizability.judgement import Counterexample, Judgement
from hwmark.checkers.linearizability.models import MODELS, Model
from hwmark.checkers.linearizability.search_outcome import Outcome, Stopwatch
from hwmark.checkers.linearizability.search_parts import Part, parts_of
from hwmark.checkers.verdict import Holds, Unknown, Violated
from hwmark.traces.operations import OperationHistory

Engine = Literal["auto", "plain", "compiled"]

LIMIT = 10_000_000
PLAIN_FIRST = 1000
NAME = "linearizability"


def check_operations(
    history: OperationHistory,
    model: Model | None = None,
    *,
    engine: Engine = "auto",
    limit: int = LIMIT,
    seconds: float | None = None,
    explain: bool = True,
) -> Judgement:
    """Judge a history against a sequential model, by default the one that its header names.

    At most `limit` configurations are looked at in each part, for at most `seconds`. Without `explain` a counterexample
    is all operations of the part that has no order, not the least. Raises BadInputError for an operation or a first
    state that the model does not know, and ValueError for `engine` "compiled" with a model that has to be plain.
    """
    stopwatch = Stopwatch(seconds)
    undecided: list[str] = []
    orders: list[tuple[int, ...]] = []
    for part in parts_of(history, model or _model(history)):
        searched_by, outcome = search_part(part, engine, limit, stopwatch)
        if outcome.linearizable is False:
            return _violated(history, part, outcome, searched_by, explain)
        orders.append(outcome.order)
        if outcome.linearizable is None:
            undecided.append(outcome.why)
    if undecided:
        return Judgement(Unknown(undecided[0]), len(history))
    return Judgement(Holds(), len(history), order=_together(history, orders))


def search_part(part: Part, engine: Engine, limit: int, stopwatch: Stopwatch) -> tuple[Engine, Outcome]:
    """The outcome for one part, and the engine that found it."""
    outcome = None
    if engine != "compiled":
        outcome = plain.search(part, limit if engine == "plain" else min(limit, PLAIN_FIRST), stopwatch)
        if engine == "plain" or outcome.linearizable is not None or limit <= PLAIN_FIRST:
            return "plain", outcome
    encoding = encode(part)
    if encoding is None:
        if engine == "compiled":
            raise ValueError(f"model {part.model.name!r} with these operations is for the plain search only")
        return "plain", plain.search(part, limit, stopwatch)
    from hwmark.checkers.linearizability import search_compiled

    return "compiled", search_compiled.search(encoding, limit, stopwatch)


def _model(history: OperationHistory) -> Model:
    """The model that the header names."""
    if history.model not in MODELS:
        raise history.bad(None, f"unknown model {history.model!r}; expected one of {', '.join(MODELS)}")
    return MODELS[history.model]()


def _violated(history: OperationHistory, part: Part, outcome: Outcome, engine: Engine, explain: bool) -> Judgement:
    """The judgement on a history one part of which has no order."""
    from hwmark.checkers.linearizability.search_core import least_core, sentence

    core, endless = least_core(part, outcome.stuck_at, engine) if explain else (list(range(len(part))), False)
    operations = tuple(part.numbers[i] for i in core)
    ends = [returned for i in core if (returned := part.returned[i]) is not None]
    counterexample = Counterexample(
        sentence(history, operations, endless),
        operations,
        outcome.partials,
        (min(part.call[i] for i in core), max([*ends, *(part.call[i] for i in core)])),
    )
    return Judgement(Violated(NAME, counterexample), len(history))


def _together(history: OperationHistory, orders: list[tuple[int, ...]]) -> tuple[int, ...]:
    """One order of all parts: each operation at the first instant at which its part's order lets it take effect.

    That instant is the latest call so far in the order of its part; it is not after the operation's own return, so an
    operation that returned before another's call comes before it, whatever their parts.
    """
    if len(orders) == 1:
        return orders[0]
    instants: list[tuple[int, int]] = []
    for order in orders:
        now = None
        for i in order:
            now = history.call[i] if now is None else max(now, history.call[i])
            instants.append((now, i))
    instants.sort(key=lambda instant: instant[0])
    return tuple(i for _, i in instants)
