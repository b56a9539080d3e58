"""Does an order of operations stand up? It is replayed against the model; this is how a test trusts the searches."""

from __future__ import annotations

from collections.abc import Sequence

from hwmark.checkers.linearizability.models import Model
from hwmark.checkers.linearizability.search_parts import Part, parts_of
from hwmark.traces.operations import OperationHistory


def why_illegal(history: OperationHistory, model: Model, order: Sequence[int], complete: bool = True) -> str | None:
    """Why an order (numbers of operations) does not explain the history, None if it does.

    It has to name every operation that returned (unless it need not be `complete`), none twice, an operation that
    returned before another's call before that one, and each part of it has to be possible in the model.
    """
    if len(set(order)) != len(order):
        return "an operation happens twice"
    missing = [i for i, returned in enumerate(history.returned) if returned is not None and i not in set(order)]
    if missing and complete:
        return f"operation {missing[0]} is missing"
    if why := _why_out_of_time(history, order):
        return why
    place = {i: at for at, i in enumerate(order)}
    for part in parts_of(history, model):
        if why := _why_impossible(part, place):
            return why
    return None


def _why_out_of_time(history: OperationHistory, order: Sequence[int]) -> str | None:
    """The first operation that stands after one that was called when it had returned."""
    latest = None
    for i in order:
        returned = history.returned[i]
        if latest is not None and returned is not None and returned < history.call[latest]:
            return f"operation {i} returned before operation {latest} was called, but stands after it"
        if latest is None or history.call[i] > history.call[latest]:
            latest = i
    return None


def _why_impossible(part: Part, place: dict[int, int]) -> str | None:
    """The first operation of a part that is possible in no state that those before it may have led to."""
    states = {part.initial}
    for i in sorted((i for i in range(len(part)) if part.numbers[i] in place), key=lambda i: place[part.numbers[i]]):
        states = {following for state in states for following in part.model.step(state, part.operations[i])}
        if not states:
            return f"operation {part.numbers[i]} is impossible after those before it"
    return None
