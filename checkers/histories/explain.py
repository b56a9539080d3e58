"""Why a history cannot be explained, and what became of its operations of unknown outcome: asked of Z3.

What a few operations say is put together (`explain_facts`), one literal per operation, for a slice of the history at a
time (`explain_slice`). If no log and no choice of outcomes agrees with all of them, Z3's unsatisfiable core is made
smaller until no operation can be left out: these cannot be explained together, in the words of the fewest facts of
theirs. If there is an explanation, each operation of unknown outcome is asked about: whether it can have committed, and
whether it can have not.

Limits are counts of Z3's steps, not seconds: the same history gets the same answer on any machine. What was not
decided is said so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import z3
from hwmark.checkers.histories.evidence import NOWHERE, Evidence
from hwmark.checkers.histories.explain_facts import Facts
from hwmark.checkers.histories.explain_slice import Surroundings, slice_around
from hwmark.checkers.histories.kinds import KINDS, Anomaly
from hwmark.checkers.histories.report import HistoryReport
from hwmark.checkers.histories.showing import span
from hwmark.traces.history import Function, History, Outcome

STEPS_MAX = 2_000_000
PER_TYPE_MAX, OUTCOMES_MAX = 2, 64

COMMITTED, NOT_COMMITTED, EITHER = "committed", "not committed", "either"
CONTRADICTION, UNDECIDED = "contradiction", "undecided"


@dataclass(frozen=True)
class Contradiction:
    """Operations (rows) that cannot be explained together; `unknown` are those of unknown outcome among them."""

    operations: list[int]
    unknown: list[int]
    facts: list[str]


@dataclass(frozen=True)
class Fate:
    """What became of an operation of unknown outcome, and the operations (rows) and facts that leave no choice."""

    operation: int
    outcome: str
    operations: list[int] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)


class UndecidedError(Exception):
    """Z3 reached its limit."""


class Puzzle:
    """The facts of a slice as a question to Z3."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.context = facts.log.context
        self.solver = z3.Solver(ctx=self.context)
        self.solver.set("rlimit", STEPS_MAX)
        self.solver.set("core.minimize", True)
        self.solver.add(*facts.axioms())
        self.operations = sorted({operation for fact in facts.facts for operation in fact.by})
        for number, fact in enumerate(facts.facts):
            self.solver.add(z3.Implies(self._fact(number), fact.claim))
            self.solver.add(z3.Implies(self._all(map(self._operation, sorted(fact.by))), self._fact(number)))

    def _operation(self, operation: int) -> z3.BoolRef:
        return z3.Bool(f"operation{operation}", self.context)

    def _fact(self, number: int) -> z3.BoolRef:
        return z3.Bool(f"fact{number}", self.context)

    def _all(self, literals: Iterable[z3.BoolRef]) -> z3.BoolRef:
        several = list(literals)
        return several[0] if len(several) == 1 else z3.And(z3.BoolVal(True, self.context), *several)

    def contradiction(self, *also: z3.BoolRef, among: set[int] | None = None) -> Contradiction | None:
        """The least operations, of all or among some, that cannot be explained together, given also some outcome.

        None if all can be. Raises UndecidedError.
        """
        literals = [self._operation(o) for o in self.operations if among is None or o in among]
        core = self._least(literals, also)
        if core is None:
            return None
        names = {str(literal) for literal in core}
        operations = [operation for operation in self.operations if f"operation{operation}" in names]
        facts = self._facts_of(operations, also)
        return Contradiction(operations, sorted(self.facts.unknown & set(operations)), facts)

    def _facts_of(self, operations: list[int], also: tuple[z3.BoolRef, ...]) -> list[str]:
        """The fewest facts of some operations that contradict each other."""
        own = [n for n, fact in enumerate(self.facts.facts) if fact.by <= set(operations)]
        core = self._least([self._fact(number) for number in own], also) or []
        names = {str(literal) for literal in core}
        return [self.facts.facts[number].words for number in own if f"fact{number}" in names]

    def _least(self, literals: list[z3.BoolRef], also: tuple[z3.BoolRef, ...]) -> list[z3.BoolRef] | None:
        """Literals that cannot hold together, none of which can be left out; None if all can hold."""
        core = self._core(literals, also)
        for literal in core or []:
            rest = [other for other in core or [] if not other.eq(literal)]
            if len(rest) < len(core or []) and (smaller := self._core(rest, also)) is not None:
                core = smaller
        return core

    def _core(self, literals: list[z3.BoolRef], also: tuple[z3.BoolRef, ...]) -> list[z3.BoolRef] | None:
        """Some of the literals that cannot hold together, in their order; None if all can hold."""
        answer = self.solver.check(*literals, *also)
        if answer == z3.unknown:
            raise UndecidedError
        if answer == z3.sat:
            return None
        names = {str(literal) for literal in self.solver.unsat_core()}
        return [literal for literal in literals if str(literal) in names]

    def fate(self, operation: int) -> Fate:
        """What became of an operation of unknown outcome."""
        committed = self.facts.log.committed(operation)
        try:
            if self.contradiction() is not None:
                return Fate(operation, CONTRADICTION)
            for outcome, opposite in ((COMMITTED, z3.Not(committed)), (NOT_COMMITTED, committed)):
                found = self.contradiction(opposite)
                if found is not None:
                    return Fate(operation, outcome, found.operations, found.facts)
        except UndecidedError:
            return Fate(operation, UNDECIDED)
        return Fate(operation, EITHER)


def explain(history: History, report: HistoryReport, via: str = "assign") -> dict[str, Any]:
    """The explanation of a judged history as plain data.

    `contradictions`, `consistent` and `undecided` are the anomalies asked about: the most telling of each type. A
    contradiction is told in the words of the operations that show the anomaly, if these suffice. `outcomes` are what
    became of operations of unknown outcome. What was left out is counted in `anomalies_left_out` and
    `outcomes_left_out`.
    """
    surroundings = Surroundings(Evidence(history))
    told = _Told(history)
    # In the order of kinds, which begins with losses: of equal explanations the first is told.
    bad = [name for name in report.anomalies if name in report.bad_error_types]
    asked = [(name, anomaly) for name in bad for anomaly in _telling(name, report)]
    answers = [_of_anomaly(surroundings, told, name, anomaly, via) for name, anomaly in asked]
    unknown = _unknown_operations(surroundings.evidence)
    return {
        "contradictions": _distinct(answer for kind, answer in answers if kind == CONTRADICTION),
        "consistent": [answer for kind, answer in answers if kind == "consistent"],
        "undecided": [answer for kind, answer in answers if kind == UNDECIDED],
        "anomalies_left_out": sum(len(report.anomalies[name]) for name in report.bad_error_types) - len(asked),
        "outcomes": [_outcome(surroundings, told, operation, via) for operation in unknown[:OUTCOMES_MAX]],
        "outcomes_left_out": max(0, len(unknown) - OUTCOMES_MAX),
    }


class _Told:
    """Operations between their rows and the indices that reports have."""

    def __init__(self, history: History) -> None:
        self.index = history.operations.index
        self.order = np.argsort(self.index, kind="stable")

    def row(self, index: int) -> int:
        """The row of an index."""
        return int(self.order[np.searchsorted(self.index, index, sorter=self.order)])

    def indices(self, rows: Iterable[int]) -> list[int]:
        """The indices of rows, in order."""
        return sorted(int(self.index[row]) for row in rows)


def _telling(name: str, report: HistoryReport) -> list[Anomaly]:
    """The instances of a type that are asked about."""
    from hwmark.checkers.histories.text import most_telling

    return most_telling(name, report.anomalies[name])[:PER_TYPE_MAX]


def _of_anomaly(
    surroundings: Surroundings, told: _Told, name: str, anomaly: Anomaly, via: str
) -> tuple[str, dict[str, Any]]:
    """Whether the operations around an anomaly can be explained."""
    kind = KINDS[name]
    answer = {"anomaly": name, "about": kind.sentence(anomaly)}
    focus = list(dict.fromkeys(_messages(surroundings.evidence, anomaly)))
    shown_by = set(map(told.row, kind.operations(anomaly)))
    puzzle = Puzzle(Facts(surroundings, slice_around(surroundings, focus, shown_by), via))
    try:
        found = puzzle.contradiction(among=shown_by) or puzzle.contradiction()
    except UndecidedError:
        return UNDECIDED, answer
    if found is None:
        return "consistent", answer
    operations, unknown = told.indices(found.operations), told.indices(found.unknown)
    more = {"operations": operations, "unknown": unknown, "facts": found.facts}
    return CONTRADICTION, answer | more | {"sentence": _sentence(found.facts, unknown)}


def _sentence(facts: Sequence[str], unknown: Sequence[int]) -> str:
    """A contradiction in a sentence."""
    if not unknown:
        return "; ".join(facts) + ": these cannot all be true"
    which = f"operation{'s' if len(unknown) > 1 else ''} {', '.join(map(str, unknown))}"
    return "; ".join(facts) + f": no choice of outcome for the unknown {which} explains this"


def _distinct(answers: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The answers without those that name the same operations and facts again."""
    found: dict[str, dict[str, Any]] = {}
    for answer in answers:
        found.setdefault(answer["sentence"], answer)
    return list(found.values())


def _messages(evidence: Evidence, told: Any) -> Iterator[int]:
    """The messages that an anomaly is about: wherever it names a key, and one or several values."""
    if isinstance(told, list):
        for part in told:
            yield from _messages(evidence, part)
    if not isinstance(told, Mapping):
        return
    named = [told[name] for name in ("value", "value'") if name in told] + list(told.get("values", []))
    for value in named if "key" in told else []:
        yield from _message(evidence, told["key"], value)
    for key, values in told.get("messages", {}).items():
        for value in values[:PER_TYPE_MAX]:
            yield from _message(evidence, key, value)
    for part in ("steps", "present", "lost"):
        yield from _messages(evidence, told.get(part, []))


def _message(evidence: Evidence, key: Any, value: Any) -> Iterator[int]:
    """The number of a message, if there is one."""
    history = evidence.history
    keys = [position for position, name in enumerate(history.keys) if str(name) == str(key)]
    if history.values is None:
        numbers = [value]
    else:
        numbers = [n for n, v in enumerate(history.values) if type(v) is type(value) and v == value]
    if keys and numbers:
        is_it = (evidence.message_key == keys[0]) & (evidence.message_value == numbers[0])
        yield from np.flatnonzero(is_it).tolist()


def _unknown_operations(evidence: Evidence) -> list[int]:
    """The operations of unknown outcome that sent something."""
    operations, micro = evidence.history.operations, evidence.history.micro
    sends = np.zeros(len(operations), dtype=bool)
    sends[micro.operation[evidence.is_send]] = True
    data = operations.function <= Function.TXN
    found: list[int] = np.flatnonzero(sends & data & (operations.outcome == Outcome.INFO)).tolist()
    return found


def _outcome(surroundings: Surroundings, told: _Told, operation: int, via: str) -> dict[str, Any]:
    """What became of an operation of unknown outcome."""
    evidence = surroundings.evidence
    low, high = span(evidence.history.micro.operation, operation)
    focus = dict.fromkeys(evidence.message[low:high][evidence.is_send[low:high]].tolist())
    own = [message for message in focus if evidence.writer[message] == operation or evidence.writer[message] == NOWHERE]
    fate = Puzzle(Facts(surroundings, slice_around(surroundings, own, [operation]), via)).fate(operation)
    index = int(told.index[operation])
    return {
        "operation": index,
        "outcome": fate.outcome,
        "operations": told.indices(fate.operations),
        "facts": fate.facts,
        "sentence": f"operation {index}: {_WORDS[fate.outcome]}" + (": " + "; ".join(fate.facts) if fate.facts else ""),
    }


_WORDS = {
    COMMITTED: "must have committed",
    NOT_COMMITTED: "cannot have committed",
    EITHER: "may have committed or not",
    CONTRADICTION: "is among operations that cannot be explained",
    UNDECIDED: f"not decided within {STEPS_MAX:,} steps of the solver",
}
