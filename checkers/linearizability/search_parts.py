"""What the search is given: one object's operations, in the order of their calls."""

from __future__ import annotations

from collections.abc import Collection, Hashable
from dataclasses import dataclass, replace
from typing import Any

import orjson
from hwmark.checkers.linearizability.models import Model, Operation, State
from hwmark.traces.operations import OperationHistory


@dataclass(frozen=True)
class Part:
    """The operations on one object, by call; `numbers` are their numbers in the history, `labels` tell equal ones.

    `returned` is None for an operation that may happen at any time from its call on, or never. Those at the positions
    `free` may happen whenever they like, at most once or, if `endless`, as often as they like; those of them in
    `before`, however, before all that are not free.
    """

    model: Model
    initial: State
    numbers: list[int]
    labels: list[int]
    operations: list[Operation]
    call: list[int]
    returned: list[int | None]
    free: frozenset[int] = frozenset()
    before: frozenset[int] = frozenset()
    endless: bool = False

    def __len__(self) -> int:
        return len(self.numbers)

    def binding_only(self, kept: Collection[int], endless: bool) -> Part:
        """The part in which all but the positions `kept` are free: if there is no order now, there was none before.

        What only reads is left out instead, as nothing needs it. Of equal endless operations one is enough, and if all
        of them were over before the first of those kept was called, it comes before.
        """
        kept = set(kept)
        others = [i for i in range(len(self)) if i not in kept and not self.model.is_read(self.operations[i])]
        start, before = min(self.call[i] for i in kept), set[int]()
        if endless:
            late = {self.labels[i] for i in others if (until := self.returned[i]) is None or until >= start}
            others = list({self.labels[i]: i for i in others}.values())
            before = {i for i in others if self.labels[i] not in late}
        chosen = sorted(kept.union(others))
        return replace(
            self,
            numbers=[self.numbers[i] for i in chosen],
            labels=[self.labels[i] for i in chosen],
            operations=[self.operations[i] for i in chosen],
            call=[self.call[i] for i in chosen],
            returned=[self.returned[i] for i in chosen],
            free=frozenset(place for place, i in enumerate(chosen) if i not in kept),
            before=frozenset(place for place, i in enumerate(chosen) if i in before),
            endless=endless,
        )


def parts_of(history: OperationHistory, model: Model) -> list[Part]:
    """The independent parts of a history, by first operation; raises BadInputError for what the model does not know.

    Operations of unknown outcome that only read are left out: whether they happened makes no difference.
    """
    labels, operations = _labels(history)
    _refuse_malformed(history, model, labels, operations)
    parts: list[Hashable] = [None] * len(operations)
    if model.is_divisible(operations):
        parts = [model.part(operation) for operation in operations]
    idle = [not operation.known and model.is_read(operation) for operation in operations]
    members: dict[Hashable, list[int]] = {}
    for i in sorted(range(len(history)), key=history.call.__getitem__):
        if not idle[labels[i]]:
            members.setdefault(parts[labels[i]], []).append(i)
    return [
        Part(
            model,
            _initial(history, model, part),
            numbers,
            [labels[i] for i in numbers],
            [operations[labels[i]] for i in numbers],
            [history.call[i] for i in numbers],
            [history.returned[i] for i in numbers],
        )
        for part, numbers in members.items()
    ] or [Part(model, _initial(history, model, None), [], [], [], [], [])]


def _labels(history: OperationHistory) -> tuple[list[int], list[Operation]]:
    """A number for each operation, the same for equal ones, and what each number means."""
    numbers: dict[bytes, int] = {}
    labels: list[int] = []
    operations: list[Operation] = []
    for f, asked, answer, returned in zip(history.f, history.input, history.output, history.returned, strict=True):
        spelling = orjson.dumps((f, asked, answer, returned is None))
        label = numbers.setdefault(spelling, len(numbers))
        if label == len(operations):
            operations.append(Operation(f, asked, answer, returned is not None))
        labels.append(label)
    return labels, operations


def _refuse_malformed(history: OperationHistory, model: Model, labels: list[int], operations: list[Operation]) -> None:
    """Raise BadInputError for the first operation that the model does not know."""
    for label, operation in enumerate(operations):
        if why := model.why_malformed(operation):
            raise history.bad(labels.index(label), why)


def _initial(history: OperationHistory, model: Model, part: Hashable) -> State:
    """The first state of a part, from the header."""
    init: Any = history.header.get("init", model.default_init)
    try:
        return model.initial(init, part)
    except ValueError as error:
        raise history.bad(None, str(error)) from None
