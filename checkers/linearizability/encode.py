"""From a part of a history to the integers that the compiled search works on.

Each model has an encoder, which turns distinct operations into instructions of the search and the first state into an
integer; it answers None where they do not fit, and then the plain search has to do.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hwmark.checkers.linearizability.models import MODELS, Operation, as_register
from hwmark.checkers.linearizability.search_parts import Part
from hwmark.traces.operations import TIME_MAX
from numpy.typing import NDArray

# The instructions of the compiled search, as `search_loop` has them; not imported, to do without Numba here.
MASKED, DIFFERS, FOLLOW, ENQUEUE, DEQUEUE = range(5)
ANY, ELSEWHERE = -1, 0
BEFORE_ALL = -1
ALL_BITS = -1
STATE_BITS = 62
# Columns of the search's operations.
AFTER, GROUP = 8, 10
COLUMNS = 11

Instruction = tuple[int, int, int, int, int]
"""Kind, read mask, read, write mask, write."""


@dataclass
class Program:
    """Instructions for distinct operations, in their order, and the first state.

    `edges` are the edges (name, target) of each state, for models that follow edges; `queued` the values of the first
    state, for queues.
    """

    instructions: list[Instruction]
    initial: int
    edges: list[list[tuple[int, int]]] = field(default_factory=list)
    queued: list[int] = field(default_factory=list)


@dataclass
class Encoding:
    """The columns of the search's operations (see `search_loop`), and the numbers of its rows in the history."""

    operations: NDArray[np.int64]
    returns: NDArray[np.int64]
    groups: NDArray[np.int64]
    numbers: list[int]
    return_times: NDArray[np.int64]
    program: Program


class _Ids(dict[Any, int]):
    """Numbers values in the order in which they are met."""

    def __missing__(self, value: Any) -> int:
        self[value] = len(self)
        return self[value]


def read(value: int) -> Instruction:
    """Possible if the state is this."""
    return MASKED, ALL_BITS, value, 0, 0


def write(value: int) -> Instruction:
    """The state is this from now on."""
    return MASKED, 0, 0, ALL_BITS, value


def compare_and_set(old: int, new: int, failed: bool) -> Instruction:
    """The state becomes `new` if it is `old`; if it failed, it was not."""
    return (DIFFERS, ALL_BITS, old, 0, 0) if failed else (MASKED, ALL_BITS, old, ALL_BITS, new)


IMPOSSIBLE_INSTRUCTION: Instruction = (DIFFERS, 0, 0, 0, 0)


def encode_register(operations: Sequence[Operation], initial: Any) -> Program:
    """A state is the number of the value. A cas of unknown outcome either succeeds or might as well never happen."""
    ids = _Ids()
    first = ids[initial]
    instructions = []
    for f, asked, answer, _ in operations:
        if f == "read":
            instructions.append(read(ids[answer]))
        elif f == "write":
            instructions.append(write(ids[asked]))
        else:
            instructions.append(compare_and_set(ids[asked[0]], ids[asked[1]], answer == "fail"))
    return Program(instructions, first)


def encode_key_value(operations: Sequence[Operation], initial: Any) -> Program:
    """One key is a register."""
    return encode_register([as_register(operation) for operation in operations], initial)


def encode_mutex(operations: Sequence[Operation], initial: Any) -> Program:
    """Acquiring is a cas from free to held; one that failed is a cas that did."""
    return Program(
        [
            compare_and_set(int(operation.f == "release"), int(operation.f == "acquire"), operation.output == "fail")
            for operation in operations
        ],
        int(initial),
    )


def encode_set(operations: Sequence[Operation], initial: Any) -> Program | None:
    """A state has a bit for each element."""
    ids = _Ids()
    first = sum(1 << ids[element] for element in initial)
    instructions: list[Instruction] = []
    for f, element, answer, _ in operations:
        if f == "read":
            bits = sum(1 << ids[member] for member in set(answer))
            instructions.append(read(bits) if len(set(answer)) == len(answer) else IMPOSSIBLE_INSTRUCTION)
        else:
            bit = 1 << ids[element]
            if f == "contains":
                instructions.append((MASKED, bit, bit if answer else 0, 0, 0))
            else:
                instructions.append((MASKED, 0, 0, bit, bit if f == "add" else 0))
    return Program(instructions, first) if len(ids) <= STATE_BITS else None


def encode_queue(operations: Sequence[Operation], initial: Any) -> Program:
    """A state is a node that stands for what is queued."""
    ids = _Ids()
    queued = [ids[value] for value in initial]
    instructions: list[Instruction] = []
    for f, asked, answer, known in operations:
        if f == "enqueue":
            instructions.append((ENQUEUE, 0, 0, 0, ids[asked]))
        elif known and answer is None:
            instructions.append(read(0))
        else:
            instructions.append((DEQUEUE, 0, ids[answer] if known else ANY, 0, 0))
    return Program(instructions, 0, queued=queued)


def encode_multi_register(operations: Sequence[Operation], initial: Any) -> Program | None:
    """A state has a field of bits for each register; a transaction is one masked test and change."""
    names, values = _Ids(), _Ids()
    assert values[None] == 0
    for micros in [operation.output or operation.input for operation in operations]:
        for _, name, value in micros:
            names[name.lstrip(":")], values[value]
    for name, value in initial:
        names[name], values[value]
    bits = max(1, (len(values) - 1).bit_length())
    if bits * len(names) > STATE_BITS:
        return None
    first = sum(values[value] << bits * names[name] for name, value in initial)
    return Program([_transaction(operation, names, values, bits) for operation in operations], first)


def _transaction(operation: Operation, names: _Ids, values: _Ids, bits: int) -> Instruction:
    """Reads of the transaction's own writes are settled here."""
    reads: dict[int, int] = {}
    writes: dict[int, int] = {}
    for f, name, value in operation.output if operation.known else operation.input:
        register, number = names[name.lstrip(":")], values[value]
        if f.endswith("write"):
            writes[register] = number
        elif operation.known:
            if writes.get(register, number) != number or (
                register not in writes and reads.get(register, number) != number
            ):
                return IMPOSSIBLE_INSTRUCTION
            if register not in writes:
                reads[register] = number
    field_of = (1 << bits) - 1
    read_mask, write_mask = (sum(field_of << bits * register for register in chosen) for chosen in (reads, writes))
    read_bits, write_bits = (
        sum(number << bits * register for register, number in chosen.items()) for chosen in (reads, writes)
    )
    return MASKED, read_mask, read_bits, write_mask, write_bits


def encode_key_value_append(operations: Sequence[Operation], initial: Any) -> Program:
    """A state is a text that begins one of the texts that were got; all other texts are one state, ELSEWHERE.

    Nobody got a text that is elsewhere, and appending to it leads nowhere else; only a put leads back.
    """
    got = sorted({operation.output for operation in operations if operation.f == "get"})
    appended = _Ids()
    for operation in operations:
        if operation.f == "append":
            appended[operation.input[1]]
    starts = [initial, *(operation.input[1] for operation in operations if operation.f == "put")]
    nodes, edges = _texts_on_the_way(starts, got, appended)
    instructions: list[Instruction] = []
    for f, asked, answer, _ in operations:
        if f == "get":
            instructions.append(read(nodes[answer]) if answer in nodes else IMPOSSIBLE_INSTRUCTION)
        elif f == "put":
            instructions.append(write(nodes.get(asked[1], ELSEWHERE)))
        else:
            instructions.append((FOLLOW, 0, appended[asked[1]], 0, 0))
    return Program(instructions, nodes.get(initial, ELSEWHERE), edges)


def _texts_on_the_way(
    starts: Iterable[str], got: list[str], appended: dict[str, int]
) -> tuple[dict[str, int], list[list[tuple[int, int]]]]:
    """The texts from which appending may lead to one of those got (sorted), numbered from 1, and the edges of each."""
    lengths = sorted(set(map(len, appended)))
    nodes: dict[str, int] = {}
    edges: list[list[tuple[int, int]]] = [[]]
    waiting = [start for start in starts if _begins_one(start, got)]
    while waiting:
        text = waiting.pop()
        if text in nodes:
            continue
        nodes[text] = len(edges)
        edges.append([])
        waiting.extend(longer for longer, _ in _longer(text, got, appended, lengths))
    for text, node in nodes.items():
        edges[node] = [(name, nodes[longer]) for longer, name in _longer(text, got, appended, lengths)]
    return nodes, edges


def _begins_one(text: str, got: list[str]) -> bool:
    """Whether a text begins one of the sorted ones."""
    at = bisect_left(got, text)
    return at < len(got) and got[at].startswith(text)


def _longer(text: str, got: list[str], appended: dict[str, int], lengths: list[int]) -> Iterable[tuple[str, int]]:
    """The texts that appending once to `text` leads to and that begin one of those got, each with what is appended."""
    first, last = _beginning(text, got)
    for length in lengths:
        at, end = first, len(text) + length
        while at < last:
            longer = got[at][:end]
            if len(longer) == end and longer[len(text) :] in appended:
                yield longer, appended[longer[len(text) :]]
            at = _beginning(longer, got, at, last)[1] if len(longer) == end else at + 1


def _beginning(text: str, got: list[str], first: int = 0, last: int | None = None) -> tuple[int, int]:
    """Where those of the sorted texts are that begin with `text`."""
    size = len(text)
    first = bisect_left(got, text, first, last)
    return first, bisect_right(got, text, first, last, key=lambda other: other[:size])


ENCODERS: dict[str, Callable[[Sequence[Operation], Any], Program | None]] = {
    "register": encode_register,
    "cas-register": encode_register,
    "mutex": encode_mutex,
    "kv": encode_key_value,
    "kv-append": encode_key_value_append,
    "set": encode_set,
    "queue": encode_queue,
    "multi-register": encode_multi_register,
}


def encode(part: Part) -> Encoding | None:
    """The part as arrays, None if the compiled search cannot take it."""
    if type(part.model) is not MODELS.get(part.model.name) or part.model.name not in ENCODERS:
        return None
    distinct = {label: row for row, label in enumerate(dict.fromkeys(part.labels))}
    meaning = dict(zip(part.labels, part.operations, strict=True))
    program = ENCODERS[part.model.name]([meaning[label] for label in distinct], part.initial)
    if program is None:
        return None
    return _timed(part, program, np.array([distinct[label] for label in part.labels], np.int64))


def _timed(part: Part, program: Program, row: NDArray[np.int64]) -> Encoding:
    """Put the operations into the search's order: what must happen by call, the others by equality and call."""
    instructions = _with_effects(np.array(program.instructions, np.int64).reshape(-1, 5))
    call = np.array(part.call, np.int64)
    returned = np.array([TIME_MAX if time is None else time for time in part.returned], np.int64)
    optional = np.array([time is None for time in part.returned], np.bool_)
    endless, before = np.zeros((2, len(call)), np.bool_)
    if part.free:
        free = list(part.free)
        call[free], optional[free] = -TIME_MAX, True
        endless[free] = part.endless
        before[list(part.before)] = True
    must, may = np.flatnonzero(~optional), np.flatnonzero(optional)
    if len(may):
        may = may[np.lexsort((call[may], row[may], ~endless[may]))]
    by_return = np.argsort(returned[must], kind="stable")
    positions = np.concatenate((must, may))
    times = returned[must][by_return]
    operations = np.zeros((len(positions), COLUMNS), np.int64)
    operations[:, :AFTER] = instructions[row[positions]]
    operations[:, AFTER] = np.searchsorted(times, call[positions], "left")
    operations[len(must) :, AFTER][endless[may]] = BEFORE_ALL
    groups = _groups(row[may], endless[may], before[may], len(must), operations)
    return Encoding(operations, by_return, groups, [part.numbers[i] for i in positions.tolist()], times, program)


def _with_effects(instructions: NDArray[np.int64]) -> NDArray[np.int64]:
    """The instructions with three more columns: whether they leave every state as it is, the bits used and changed."""
    kind, read_mask, read_bits, write_mask, write_bits = instructions.T
    unchanged = (write_mask & ~read_mask == 0) & (read_bits & write_mask == write_bits)
    is_read = ((kind == MASKED) & unchanged) | (kind == DIFFERS)
    whole = (kind != MASKED) & (kind != DIFFERS)
    return np.column_stack(
        (instructions, is_read, np.where(whole, ALL_BITS, read_mask), np.where(whole, ALL_BITS, write_mask))
    )


def _groups(
    row: NDArray[np.int64],
    endless: NDArray[np.bool_],
    before: NDArray[np.bool_],
    first: int,
    operations: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Groups (start, end, endless, before) of equal neighbours among the optional operations, who learn their group."""
    if not len(row):
        return np.zeros((0, 4), np.int64)
    begins = np.ones(len(row), np.bool_)
    begins[1:] = (row[1:] != row[:-1]) | (endless[1:] != endless[:-1])
    operations[first:, GROUP] = np.cumsum(begins) - 1
    start = np.flatnonzero(begins)
    end = np.append(start[1:], len(row))
    return np.column_stack((start + first, end + first, endless[start], before[start]))
