"""The three interpretations of a specification agree: called by CPython, translated to Z3, compiled to machine code.

On random states of every model - any canonical row, reachable or not, and rows that random walks reach - and random
arguments each action and each property must leave a range in all of them or in none, give the same answer, and lead to
the same row. One model, `workshop`, is there only to use every construct of the language, and to leave ranges often.
"""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Annotated

import pytest
import z3
from hwmark.checkers.compiler import compile_instance
from hwmark.checkers.prove import numbers, values
from hwmark.checkers.prove.numbers import Number
from hwmark.checkers.prove.symbolic import Outcome, run
from hwmark.spec.catalogue import families
from hwmark.spec.errors import RangeError
from hwmark.spec.instance import Action, Arguments, Instance
from hwmark.spec.lang import (
    NONE,
    Array,
    Bag,
    Bound,
    Capacity,
    Domain,
    Messages,
    Optional,
    Range,
    Seq,
    SetOf,
    Struct,
    append,
    contains,
    copy,
    difference,
    discard,
    everything,
    has_message,
    insert,
    intersection,
    is_subset,
    only,
    remove,
    send,
    size,
    truncate,
    union,
)
from hwmark.spec.layout import Record, Scalar, Sequence, Table, Type, leaves
from hwmark.spec.model import Model
from hwmark.spec.terms import Function
from hwmark.spec.views import SequenceView, read_scalar, view, write_scalar
from hypothesis import given, settings
from hypothesis import strategies as st

# --------------------------------------------------------------------------------- a model of every construct

workers = Bound("workers", 3, why="workers")
WorkerId = Annotated[int, Domain("worker", workers)]
Small = Annotated[int, Range(0, 5)]
Signed = Annotated[int, Range(-3, 4)]


class Color(IntEnum):
    RED = 0
    GREEN = 1
    BLUE = 2


class Tool(Struct):
    sharp: bool
    weight: Signed


class Bench(Struct):
    tool: Tool
    owner: Optional[WorkerId]
    helpers: SetOf[WorkerId]
    shelf: Annotated[Seq[Tool], Capacity(2)]


class Note(Struct):
    to: Optional[WorkerId]
    text: Annotated[int, Range(0, 2)]


class Workshop(Struct):
    benches: Array[WorkerId, Bench]
    paint: Array[WorkerId, Array[Color, Small]]
    belt: Annotated[Seq[Tool], Capacity(3)]
    weights: Annotated[Seq[Signed], Capacity(3)]
    board: Annotated[Messages[Note], Capacity(3)]
    heap: Annotated[Bag[Note], Capacity(3)]
    color: Color
    best: Optional[WorkerId]
    present: SetOf[WorkerId]
    small: Small
    far: Annotated[int, Range(100, 103)]
    below: Annotated[int, Range(-9, -6)]
    open: bool


def init(s: Workshop, best: Optional[WorkerId], far: Annotated[int, Range(100, 103)]) -> bool:
    s.best = best
    s.far = far
    s.weights = s.weights
    return best != 1


def arithmetic(s: Workshop, by: Signed, of: Small) -> bool:
    number = s.small * by - s.below
    number += of // 2 + of % 3 - (-by)
    s.far = min(max(number, 100), s.far + by, 103 + of)
    s.small = 5 if number > 20 else max(number, 0) % 4 if number >= 0 else of
    return -3 < by <= of != 2


def assign_without_looking(s: Workshop, to: WorkerId, value: Signed, color: Color) -> None:
    s.small = value
    s.paint[to][color] += value
    s.below -= 1
    s.color = color + 1


def sets(s: Workshop, worker: Optional[WorkerId]) -> bool:
    bench = s.benches[0]
    bench.helpers = difference(union(s.present, bench.helpers), only(1))
    if is_subset(intersection(s.present, everything(workers)), bench.helpers) and worker != NONE:
        bench.helpers = insert(bench.helpers, worker)
        return contains(s.present, worker)
    s.present = remove(s.present, worker)
    s.small = size(s.present) + size(insert(bench.helpers, 2))
    return True


def first_owned(s: Workshop, owner: Optional[WorkerId]) -> int:
    for worker in range(workers):
        if s.benches[worker].owner == owner:
            return worker
    return NONE


def return_early(s: Workshop, owner: Optional[WorkerId]) -> bool:
    found = first_owned(s, owner)
    if found == NONE:
        s.best = NONE
        if s.open:
            return False
    elif s.benches[found].tool.sharp:
        s.benches[found].tool.sharp = False
        return True
    else:
        s.best = found
    s.open = not s.open
    return s.small > 0


def return_from_a_loop(s: Workshop, limit: Small) -> int:
    total = 0
    for index in range(len(s.weights) - 1, -1, -1):
        weight = s.weights[index]
        if weight == 4:
            s.weights[index] = -3
            return 0
        total += weight
        if total > limit:
            truncate(s.weights, index)
            return limit + 1
        s.best = NONE
    append(s.weights, total)
    return total


def loop_between(s: Workshop, start: Small, stop: Signed) -> bool:
    last = NONE
    for step in range(start, stop + 1):
        last = step
        if step == 3:
            s.open = True
        for inner in range(step, start, -1):
            s.small = inner
            if inner == 2:
                return True
    for step in range(stop):
        last = max(last, step)
    s.best = last
    return last != 2


def give(bench: Bench, tool: Tool, weight: int) -> bool:
    if len(bench.shelf) == 2:
        return False
    append(bench.shelf, tool)
    bench.tool.weight += weight
    bench.shelf[len(bench.shelf) - 1].weight = weight
    return True


def pass_places(s: Workshop, one: WorkerId, other: WorkerId, weight: Signed) -> bool:
    if one == other or (give(s.benches[one], s.belt[0], weight) and not give(s.benches[other], s.belt[1], 1)):
        return give(s.benches[0], Tool(sharp=s.open, weight=weight + 1), weight)
    return give(s.benches[one], Tool(weight=1, sharp=True), -weight)


def records_of_ones_own(s: Workshop, worker: WorkerId, index: Small) -> bool:
    tool = copy(s.benches[worker].tool)
    tool.weight += 1
    made = Tool(weight=tool.weight - index, sharp=tool.sharp)
    for other in range(workers):
        bench = s.benches[other]
        if bench.tool == made or tool != bench.tool:
            bench.tool = tool
            mine = copy(bench)
            mine.owner = other
            s.benches[worker] = mine
        made.sharp = not made.sharp
    s.belt[index] = made
    return s.benches[worker] != s.benches[2]


def belts(s: Workshop, length: Signed, index: Small) -> bool:
    append(s.belt, s.belt[index])
    truncate(s.belt, length)
    s.belt[0].weight = len(s.belt) + index
    return len(s.belt) < 3


def cut(s: Workshop, length: Signed) -> None:
    truncate(s.weights, length)


def post(s: Workshop, to: Optional[WorkerId], text: Annotated[int, Range(0, 2)]) -> bool:
    send(s.board, Note(to=to, text=text))
    send(s.board, Note(to=to, text=text))
    return len(s.board) > 1


def either_end(s: Workshop, index: Small) -> None:
    s.small = s.paint[index][Color.RED] if index < workers else s.paint[index - workers][Color.BLUE]


def messages(s: Workshop, to: Optional[WorkerId], text: Small, index: Signed) -> bool:
    if not has_message(s.board, Note(to=to, text=text)):
        send(s.board, Note(text=text, to=to))
    if text != 1:
        send(s.heap, Note(to=to, text=text))
        send(s.heap, s.board[0])
    note = s.board[index]
    if note.text == s.heap[index].text:
        discard(s.heap, index)
    discard(s.board, index)
    return s.heap != s.heap or len(s.board) <= len(s.heap)


def write(s: Workshop, value: Small) -> bool:
    s.small = value
    return value > 2


def short_circuits(s: Workshop, value: Small, worker: Optional[WorkerId]) -> bool:
    both = s.open and write(s, value) and s.weights[value] > 0
    one = both or write(s, value - 1) or s.weights[0] < 0
    late = s.weights[worker] if one and worker >= 0 else 0
    s.open = any(s.benches[each].tool.weight < late for each in range(worker, value) if each != 1 or s.open)
    s.far = 100 + sum(contains(s.present, each) for each in range(value) if each > worker)
    return all(write(s, s.small - each) or s.open for each in range(value))


def reuse_names(s: Workshop, worker: WorkerId, times: Small) -> None:
    index = times
    for index in range(times):
        place = s.benches[index].tool
        if place.sharp:
            index = 7
        place.weight = index - 3
    s.small = index


def property_of_all(s: Workshop, worker: WorkerId, index: Small) -> bool:
    bench = s.benches[worker]
    return (
        bench.owner != worker
        or index >= len(s.belt)
        or s.belt[index] == bench.tool
        or any(s.belt[each].weight < s.belt[index].weight for each in range(index))
        or s.weights[index] * 2 > index
    )


def property_of_messages(s: Workshop, index: Small) -> bool:
    if len(s.board) < 2:
        return True
    return s.board[0] != s.board[1] and (s.board[index].to <= s.board[2].to or not has_message(s.heap, s.board[index]))


workshop = Model.of(
    "workshop",
    "workshop",
    why="it uses every construct of the language",
    state=Workshop,
    bounds=(workers,),
    init=init,
    actions=(
        arithmetic, assign_without_looking, sets, return_early, return_from_a_loop, loop_between, pass_places,
        records_of_ones_own, belts, cut, post, either_end, messages, short_circuits, reuse_names,
    ),
    invariants=(property_of_all, property_of_messages),
)  # fmt: skip

# ------------------------------------------------------------------------------------------- interpretations


@dataclass(frozen=True)
class Answer:
    """What a function does on a row: answer, with the row after for an enabled action, or leave a range (where)."""

    truth: bool = False
    row: bytes | None = None
    failed: bool = False
    line: int | None = None


Interpretation = Callable[[Action, bytes, Arguments, list[bool]], Answer]
"""Runs a function on a row with arguments; which scalars of the row are `known` matters to the translation alone."""


def called(instance: Instance, action: Action, row: bytes, arguments: Arguments) -> Answer:
    """The reference."""
    buffer = bytearray(row)
    try:
        answer = instance.call(action.name, buffer, arguments)
    except RangeError as error:
        return Answer(failed=True, line=int(str(error).split(": in ")[0].rsplit(":", 1)[1]))
    truth = bool(answer) or (answer is None and action.name not in instance.properties)
    return Answer(truth, bytes(buffer) if truth and action.name not in instance.properties else None)


@functools.cache
def compiled(instance: Instance) -> Interpretation:
    """The machine code."""
    code = compile_instance(instance, single=True)

    def answer(action: Action, row: bytes, arguments: Arguments, known: list[bool]) -> Answer:
        after, truth, site = code.run(action.name, row, arguments)
        if site is not None:
            return Answer(failed=True)
        return Answer(truth, after if truth and action in instance.actions else None)

    return answer


@functools.cache
def translated(instance: Instance) -> Interpretation:
    """The formulas, with the row and the arguments substituted; what is `known` is constant from the start."""
    variables = list(values.scalars(values.variables(instance.state, "s")))

    def answer(action: Action, row: bytes, arguments: Arguments, known: list[bool]) -> Answer:
        given = [*(read_scalar(kind, bytearray(row), at) for at, kind in leaves(instance.state)), *arguments.values()]
        free = [*variables, *(numbers.variable(name, kind.low, kind.high) for name, kind in action.domain)]
        mixed = [
            numbers.constant(value) if constant else each
            for value, constant, each in zip(given, [*known, *[False] * 9], free, strict=False)
        ]
        state = values.of_numbers(instance.state, mixed[: len(variables)])
        names = dict(zip(arguments, mixed[len(variables) :], strict=True))
        outcome = run(instance, action.name, state, names)
        pairs = [pair for each, value in zip(mixed, given, strict=True) for pair in substitution(each, value)]
        return decoded(instance, action, outcome, pairs)

    return answer


def substitution(number: Number, value: int) -> Iterator[tuple[z3.ExprRef, z3.ExprRef]]:
    """The variable of a number that is one, with its value."""
    if number.value is not None:
        assert number.value == value
    elif number.is_truth:
        yield number.truth, z3.BoolVal(bool(value))
    else:
        yield number.bits, z3.BitVecVal(value, number.bits.size())


def decoded(instance: Instance, action: Action, outcome: Outcome, pairs: list[tuple[z3.ExprRef, z3.ExprRef]]) -> Answer:
    """The outcome once every variable has its value."""
    found = [numbers.number_of(each.condition) for each in outcome.errors]
    found += [numbers.number_of(outcome.truth), *values.scalars(outcome.state)]
    bits = [each.bits for each in found]
    packed = z3.simplify(z3.substitute(z3.Concat(*bits, z3.BitVecVal(0, 1)), *pairs))
    assert z3.is_bv_value(packed), "something is not decided by the row and the arguments"
    whole, plain = packed.as_long() >> 1, []
    for each in reversed(found):
        width = numbers.width_of(each.low, each.high)
        value, whole = whole & ((1 << width) - 1), whole >> width
        plain.append(value - (1 << width) if each.low < 0 and value >> (width - 1) else value)
    plain.reverse()
    lines = [error.line for error, happens in zip(outcome.errors, plain, strict=False) if happens]
    if lines:
        return Answer(failed=True, line=lines[0])
    truth, *state = plain[len(outcome.errors) :]
    is_enabled = bool(truth) and action.name not in instance.properties
    return Answer(bool(truth), row_of(instance, state) if is_enabled else None)


def row_of(instance: Instance, scalars: list[int]) -> bytes:
    row = bytearray(instance.row_size)
    for (at, kind), value in zip(leaves(instance.state), scalars, strict=True):
        write_scalar(kind, row, at, value, kind.kind)
    return bytes(row)


# ----------------------------------------------------------------------------------------------- random states


class Entropy(random.Random):
    """Choices from a seed."""

    def below(self, count: int) -> int:
        return self.randrange(count)

    def chance(self, per_cent: int) -> bool:
        return self.randrange(100) < per_cent


def fill(kind: Type, row: bytearray, at: int, entropy: Entropy) -> None:
    """Any canonical value of a type."""
    match kind:
        case Scalar():
            write_scalar(kind, row, at, kind.low + entropy.below(kind.high - kind.low + 1), "any")
        case Record():
            for field in kind.fields:
                fill(field.type, row, at + field.offset, entropy)
        case Table():
            for index in range(kind.count):
                fill(kind.element, row, at + index * kind.stride, entropy)
        case Sequence():
            fill_sequence(kind, row, at, entropy)


def fill_sequence(kind: Sequence, row: bytearray, at: int, entropy: Entropy) -> None:
    sequence = SequenceView(kind, row, at)
    for _ in range(entropy.below(kind.capacity + 1)):
        buffer = bytearray(kind.element.size)
        fill(kind.element, buffer, 0, entropy)
        if kind.kind == "seq":
            sequence.append(view(kind.element, buffer, 0))
        else:
            sequence.send(view(kind.element, buffer, 0))


def any_row(instance: Instance, entropy: Entropy) -> bytes:
    row = bytearray(instance.row_size)
    fill(instance.state, row, 0, entropy)
    return bytes(row)


def walked_row(instance: Instance, entropy: Entropy) -> bytes:
    """Where a random walk from an initial state comes to, until an action leaves a range."""
    initial = instance.initial()
    row = initial[entropy.below(len(initial))]
    for _ in range(entropy.below(12)):
        following = successors(instance, row)
        if not following:
            break
        row = following[entropy.below(len(following))]
    return row


@functools.lru_cache(maxsize=4096)
def successors(instance: Instance, row: bytes) -> list[bytes]:
    try:
        return [step.row for step in instance.successors(row)]
    except RangeError:
        return []


def any_arguments(action: Action, entropy: Entropy) -> Arguments:
    return {name: kind.low + entropy.below(kind.high - kind.low + 1) for name, kind in action.domain}


# -------------------------------------------------------------------------------------------------- agreement

SMALL = {"replication": {"replicas": 3, "log_size": 2, "records": 2, "max_epoch": 1}}

MODELS = {
    model.title: model for model in (workshop, *(each for f in families().values() for each in f.variants.values()))
}


@functools.cache
def instance_of(title: str) -> Instance:
    return MODELS[title].at(**SMALL.get(MODELS[title].family, {}))


@functools.cache
def asked_of(title: str) -> list[Action]:
    """The actions and properties of a model; of a variant only those that it does not share with its base."""
    model, instance = MODELS[title], instance_of(title)
    asked = [*instance.actions, *instance.properties.values()]
    if model.base is None:
        return asked
    base = instance_of(model.base.title)
    return [each for each in asked if meaning(instance, each.name) != meaning(base, each.name)]


def meaning(instance: Instance, name: str) -> dict[str, Function]:
    """The terms of a function and of all that it calls."""
    if name not in instance.model.functions:
        return {}
    found, todo = {}, [instance.terms(name)]
    while todo:
        function = todo.pop()
        found[function.name] = function
        called_names = re.findall(r"Call\(function='(\w+)'", repr(function.body))
        todo += [instance.program.functions[each] for each in called_names if each not in found]
    return found


@pytest.mark.parametrize("interpretation", [translated, compiled])
@pytest.mark.parametrize("title", MODELS)
@settings(deadline=None)
@given(seed=st.integers(min_value=0, max_value=2**32 - 1))
def test_every_interpretation_agrees_with_the_call(
    title: str, interpretation: Callable[[Instance], Interpretation], seed: int
) -> None:
    instance, entropy = instance_of(title), Entropy(seed)
    row = (walked_row if entropy.chance(50) else any_row)(instance, entropy)
    share = 50 * entropy.below(3)
    known = [entropy.chance(share) for _ in leaves(instance.state)]
    for action in asked_of(title):
        arguments = any_arguments(action, entropy)
        answer = interpretation(instance)(action, row, arguments, known)
        expected = called(instance, action, row, arguments)
        if interpretation is compiled:
            expected = replace(expected, line=None)
        assert answer == expected, (action.name, instance.to_json(row), arguments)


@pytest.mark.parametrize("title", MODELS)
def test_the_translation_begins_where_the_model_does(title: str) -> None:
    instance = instance_of(title)
    nothing, known = bytes(instance.row_size), [True for _ in leaves(instance.state)]
    for arguments in instance.init.choices():
        answer = translated(instance)(instance.init, nothing, arguments, known)
        assert answer == called(instance, instance.init, nothing, arguments)
