"""Bounded model checking: is there a run of 1, 2, 3, ... states that ends in a violation?

One solver keeps everything learnt from shorter runs, and the first run found is a shortest one. It is believed only
after CPython has taken every step of it again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import z3
from hwmark.checkers.explore.plain import OUT_OF_RANGE
from hwmark.checkers.prove import values
from hwmark.checkers.prove.numbers import z3_truth
from hwmark.checkers.prove.reordering import swaps
from hwmark.checkers.prove.symmetry import proved, symmetric_domains
from hwmark.checkers.prove.transition import value_of
from hwmark.checkers.prove.unrolling import Frame, Unrolling
from hwmark.checkers.replay import trace_of
from hwmark.checkers.verdict import Holds, Unknown, Violated
from hwmark.spec.errors import RangeError
from hwmark.spec.instance import Action, Arguments, Instance, Step
from hwmark.spec.layout import leaves
from hwmark.traces.changes import Json
from hwmark.traces.trace import Trace

DEPTH_DEFAULT = 20
"""States of the longest run looked at if nobody says otherwise."""

ORDERED_FROM = 10
"""The depth at which it begins to pay to look for steps that can change places."""


class DisagreementError(Exception):
    """Z3 and CPython interpret a model differently: a mistake in hwmark, not in the model."""


@dataclass(frozen=True)
class Proof:
    """What bounded model checking found. `depth` counts states: of the counterexample, or of all runs excluded."""

    instance: Instance
    invariant: str
    verdict: Holds | Violated[Trace] | Unknown
    depth: int
    symmetric: tuple[str, ...]
    seconds: float
    error: str | None = None
    method: str = "bmc"

    @property
    def trace(self) -> Trace | None:
        """The shortest counterexample, if there is one."""
        return self.verdict.witness if isinstance(self.verdict, Violated) else None


def bounded_model_check(
    instance: Instance,
    invariant: str,
    *,
    depth_max: int = DEPTH_DEFAULT,
    seconds_max: float | None = None,
    progress: Callable[[int, float], None] = lambda depth, seconds: None,
) -> Proof:
    """Look for a shortest run of at most `depth_max` states that violates the invariant or leaves a range.

    Holds only where no run is longer than those excluded. `progress` is told each depth before it is looked at, and the
    seconds spent until then. Raises RangeError where already an initial state is out of range.
    """
    check = _Check(instance, invariant, seconds_max)
    verdict, depth = check.run(depth_max, progress)
    return Proof(instance, invariant, verdict, depth, check.symmetric_names, check.seconds, check.error)


class _Check:
    """One check in progress."""

    def __init__(self, instance: Instance, invariant: str, seconds_max: float | None) -> None:
        self.instance, self.invariant, self.seconds_max = instance, invariant, seconds_max
        self.started = time.perf_counter()
        self.error: str | None = None
        asked = (invariant, *([instance.model.constraint] if instance.model.constraint else []))
        symmetric = [each for each in symmetric_domains(instance) if proved(instance, each, asked)]
        self.symmetric_names = tuple(each.name for each in symmetric)
        self.solver = z3.SolverFor("QF_FD")
        self.unrolling = Unrolling(instance, self.solver, invariant, symmetric)

    @property
    def seconds(self) -> float:
        """Wall-clock time since the start."""
        return time.perf_counter() - self.started

    def run(
        self, depth_max: int, progress: Callable[[int, float], None]
    ) -> tuple[Holds | Violated[Trace] | Unknown, int]:
        """The verdict, and the depth that it is about."""
        if not self.begin():
            return Holds(), 0
        for depth in range(1, depth_max + 1):
            progress(depth, self.seconds)
            answer = self.ask(self.unrolling.frames[-1], depth)
            if answer == z3.sat:
                return self.violated(self.solver.model()), depth
            if answer == z3.unknown:
                return Unknown(f"stopped after {self.seconds:.0f} s at depth {depth}"), depth - 1
            if not self.solver.unsat_core():
                return Holds(), depth - 1
            if depth < depth_max:
                self.unrolling.advance()
            if depth + 1 == ORDERED_FROM:
                self.unrolling.use_order(swaps(self.instance))
        return Unknown(f"no violation in runs of up to {depth_max} states; longer ones were not looked at"), depth_max

    def begin(self) -> bool:
        """Find the initial states; whether there is any."""
        error = self.unrolling.init.goes_wrong
        if error is not False and self.solver.check(z3_truth(error)) == z3.sat:
            self.initial(self.unrolling.init.decoded(self.solver.model()))
            raise DisagreementError(f"{self.instance}: init leaves a range in Z3 only")
        self.unrolling.begin()
        return bool(self.solver.check() == z3.sat)

    def ask(self, frame: Frame, depth: int) -> z3.CheckSatResult:
        """Whether a run of this many states can end badly."""
        bad = z3.Bool(f"bad@{depth}")
        self.solver.add(z3.Implies(bad, z3_truth(frame.bad)))
        if self.seconds_max is not None:
            left = self.seconds_max - self.seconds
            if left <= 0:
                return z3.unknown
            self.solver.set("timeout", max(1, int(left * 1000)))
        answer = self.solver.check(bad)
        if answer == z3.unsat:
            self.solver.add(z3.Not(bad))
        return answer

    # ------------------------------------------------------------------------------------- counterexamples

    def violated(self, model: z3.ModelRef) -> Violated[Trace]:
        """The run that Z3 chose, taken again by CPython."""
        initial = self.initial(self.unrolling.init.decoded(model))
        row, steps = initial, []
        for frame in self.unrolling.frames[:-1]:
            self.agree(model, frame, row)
            step = self.step(model, frame, row)
            steps.append(step)
            row = step.row
        last = self.unrolling.frames[-1]
        self.agree(model, last, row)
        name, witness = self.witness(model, last, row)
        trace = trace_of(self.instance, initial, steps, engine="bmc", violated=name, witness=witness)
        return Violated(name, trace)

    def initial(self, arguments: Arguments) -> bytes:
        """The initial state of these arguments."""
        buffer = bytearray(self.instance.row_size)
        self.instance.call(self.instance.model.init, buffer, arguments)
        return bytes(buffer)

    def step(self, model: z3.ModelRef, frame: Frame, row: bytes) -> Step:
        """The step that Z3 chose, taken by CPython."""
        question = frame.choice.questions[value_of(model, frame.choice.taken)]
        arguments = question.decoded(model)
        after = self.instance.step(question.action.name, row, arguments)
        if after is None:
            raise DisagreementError(f"{self.instance}: {question.action.name}({arguments}) is enabled in Z3 only")
        return Step(question.action.name, arguments, after)

    def agree(self, model: z3.ModelRef, frame: Frame, row: bytes) -> None:
        """Z3 and CPython must be in the same state."""
        chosen = [value_of(model, number) for number in values.scalars(frame.state)]
        kinds = leaves(self.instance.state)
        stored = [int.from_bytes(row[at : at + kind.size], "little") + kind.low for at, kind in kinds]
        if chosen != stored:
            shown = self.instance.to_json(row)
            raise DisagreementError(f"{self.instance}: Z3 reached another state than CPython, which is in {shown}")

    def witness(self, model: z3.ModelRef, frame: Frame, row: bytes) -> tuple[str, dict[str, Json]]:
        """What fails in the last state, and the arguments that show it, confirmed by CPython."""
        instance, asked = self.instance, frame.asked
        arguments = asked.decoded(model)
        if _is_true(model, frame.error):
            return OUT_OF_RANGE, self.out_of_range(model, frame, row)
        if instance.call(asked.action.name, bytearray(row), arguments):
            raise DisagreementError(f"{instance}: {asked.action.name}({arguments}) fails in Z3 only")
        return self.invariant, asked.action.show(arguments)

    def out_of_range(self, model: z3.ModelRef, frame: Frame, row: bytes) -> dict[str, Json]:
        """The call that leaves a range, with its arguments; its message is kept."""
        taken = frame.choice.questions[value_of(model, frame.choice.taken)]
        suspects: list[tuple[Action, Arguments]] = [(each.action, each.decoded(model)) for each in (frame.asked, taken)]
        constraint = self.instance.model.constraint
        if constraint:
            action = self.instance.properties[constraint]
            suspects += [(action, arguments) for arguments in action.choices()]
        for action, arguments in suspects:
            try:
                self.instance.call(action.name, bytearray(row), arguments)
            except RangeError as error:
                self.error = str(error)
                return {"action": action.name, **action.show(arguments)}
        raise DisagreementError(f"{self.instance}: a range is left in Z3 only")


def _is_true(model: z3.ModelRef, truth: object) -> bool:
    return bool(z3.is_true(model.eval(z3_truth(truth), model_completion=True)))
