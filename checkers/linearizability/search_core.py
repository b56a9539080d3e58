"""Why there is no order: the fewest operations found that have none, and a sentence on them.

An operation matters or is set free: a free one may take effect whenever it likes, as often as it likes (or at most
once, where that would lead to ever new states), or not at all. Setting free only allows more orders, so operations that
have no order while all others are free are a reason by themselves. Free operations that were over before any that
matters was called come before those, so that only the state that they led to is free. Greedy, deterministic: larger
stretches are set free first, the earliest first, as long as there is still no order; a trial that would take too long
sets nothing free.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from hwmark.checkers.linearizability import plain
from hwmark.checkers.linearizability.encode import encode
from hwmark.checkers.linearizability.search_outcome import Outcome, Stopwatch
from hwmark.checkers.linearizability.search_parts import Part
from hwmark.traces.operations import OperationHistory

TRIAL_LIMIT = 10_000
TRIAL_LIMIT_LEAST = 100
WORK_LIMIT = 2_000_000
WINDOW_AT_FIRST = 16
GROWTH = 4
SHOWN = 60
TOLD = 4


def least_core(part: Part, stuck_at: int, engine: str) -> tuple[list[int], bool]:
    """Positions of operations that have no order even if all others are free, and whether those are so endlessly.

    The operations that return until `stuck_at` are known to have none.
    """
    endless = part.model.finite or (part.model.name == "kv-append" and engine == "compiled")
    trials = _Trials(part, engine, endless)
    core = _window(part, stuck_at, trials)
    size = len(core)
    while size > 1:
        size = (size + 1) // 2
        core = _thinned(core, size, trials)
    while len(thinner := _thinned(core, 1, trials)) < len(core):
        core = thinner
    return core, endless


def _window(part: Part, stuck_at: int, trials: _Trials) -> list[int]:
    """The last operations called until the search got stuck, as few as have no order, else all later ones too."""
    called = sum(call <= stuck_at for call in part.call)
    for end in sorted({called, len(part)}):
        size = WINDOW_AT_FIRST
        while size < GROWTH * called:
            window = list(range(max(0, called - size), end))
            if trials.has_no_order(window):
                return window
            size *= GROWTH
    return list(range(len(part)))


def _thinned(core: list[int], size: int, trials: _Trials) -> list[int]:
    """The core without those of its stretches of this size that do not matter, the earliest first."""
    start = 0
    while start < len(core):
        thinner = core[:start] + core[start + size :]
        if thinner and trials.has_no_order(thinner):
            core = thinner
        else:
            start += size
    return core


class _Trials:
    """Searches with some operations free; once they have taken too long together, nothing is tried any more."""

    def __init__(self, part: Part, engine: str, endless: bool) -> None:
        self.part, self.engine, self.endless = part, engine, endless
        self.step_cost = 1 if endless else len(part)  # ever new states are as large as what led to them
        self.limit = max(TRIAL_LIMIT_LEAST, TRIAL_LIMIT // self.step_cost)
        self.work = 0

    def has_no_order(self, kept: list[int]) -> bool:
        """Whether it is certain that these operations have no order, all others free."""
        if self.work > WORK_LIMIT:
            return False
        trial = self.part.binding_only(kept, self.endless)
        outcome = self.search(trial)
        self.work += len(self.part) + outcome.configurations * self.step_cost
        return outcome.linearizable is False

    def search(self, trial: Part) -> Outcome:
        """By the engine that judged the whole part."""
        encoding = encode(trial) if self.engine == "compiled" else None
        if encoding is None:
            return plain.search(trial, self.limit, Stopwatch(None))
        from hwmark.checkers.linearizability import search_compiled

        return search_compiled.search(encoding, self.limit, Stopwatch(None), partials=False)


def sentence(history: OperationHistory, operations: Sequence[int], endless: bool) -> str:
    """What is wrong with these operations, in words; it names them if they are few."""
    described = ": " + "; ".join(describe(history, i) for i in operations) if len(operations) <= TOLD else ""
    how_often = "whenever and as often as it likes" if endless else "whenever it likes"
    others = f", even if every other operation takes effect {how_often} or not at all"
    if len(operations) == len(history):
        others = ""
    if len(operations) == 1:
        return f"This operation is impossible{others}{described}"
    return f"These {len(operations)} operations have no legal order{others}{described}"


def describe(history: OperationHistory, i: int) -> str:
    """One operation in words: who, what, the answer and when."""
    asked = "" if history.input[i] is None else f" {_shown(history.input[i])}"
    who = f"process {history.process[i]}: {history.f[i]}{asked}"
    if history.returned[i] is None:
        return f"{who}, outcome unknown (from {history.call[i]})"
    return f"{who} -> {_shown(history.output[i])} ({history.call[i]} to {history.returned[i]})"


def _shown(value: Any) -> str:
    """A value as JSON, a long one by its end, which tells more of a text that grows."""
    text = orjson.dumps(value).decode()
    return text if len(text) <= SHOWN else "..." + text[-SHOWN:]
