"""The compiled search: operations are rows of integers, a state is one integer, a configuration one row of them.

The search is the one that `plain` writes out, with six things that make it fast:

- A configuration is the number of returns that it got past, the state, and which of the operations open there took
  effect: every operation that must happen has a slot (a bit) from its call to its return, slots are used again, and the
  row has as many words as there are slots at a time. So its size does not grow with the history.
- An operation that changes no state whatsoever takes effect as soon as it can, without any alternative: nothing that
  follows could miss it. (This would be wrong for a write that happens to leave the present state as it is: it may be
  needed later.)
- One that may never happen does so for a purpose: what comes right after it uses what it changed. (Else it might as
  well come later or, overwritten, not at all.) The configuration tells if it has served none yet.
- Of the states that nothing can be read in any more, those that nothing leads back from are left out while there are
  reads to come.
- Of equal operations that may never happen, the one that was called first is taken first. One that would change nothing
  is not taken at all.
- All that was found is kept in arrays, so that the search stops for the clock, or for larger arrays, and goes on.

What an operation does to a state is one of five instructions; the first covers registers, maps, locks and sets of bits.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

# Columns of an operation's row.
KIND, READ_MASK, READ, WRITE_MASK, WRITE, IS_READ, USES, CHANGES, AFTER, SLOT, GROUP = range(11)
# Instructions: change the bits of a mask if others are as they have to be; be, unchanged, another value than this;
# follow the state's edge of this name; put a value at the end of a queue; take one (ANY: whichever) from its head.
MASKED, DIFFERS, FOLLOW, ENQUEUE, DEQUEUE = range(5)
ANY = -1
ELSEWHERE = 0
IMPOSSIBLE = -1
# Columns of a group of equal operations that may never happen.
GROUP_START, GROUP_END, GROUP_IS_ENDLESS, GROUP_IS_BEFORE = range(4)
# Returns behind us while operations that come before all others still may happen: none, and what must happen waits.
NOT_BEGUN = -1
# Columns of a node of the queues: the queue without its last value, that value, the head, the queue without its head.
BEFORE_LAST, LAST, HEAD, TAIL = range(4)
EMPTY = 0
# Columns of a frame: the trail's length, the configuration's row, what is tried next.
TRAIL, ROW, CANDIDATE = range(3)
# Registers, which outlive a call of `run`.
PASSED, STATE, TRAIL_SIZE, FRAME_COUNT, ROW_COUNT, HAPPENED, LONGEST, FURTHEST, ENTERING, GOAL, NODE_COUNT = range(11)
READS_LEFT, NO_WAY_BACK, UNUSED = 11, 12, 13
REGISTERS = 14
# Columns of a configuration: the registers of these names, then the words.
ROW_PASSED, ROW_STATE, ROW_UNUSED, ROW_WORDS = range(4)
# What `run` answers.
NO_ORDER, ORDER, AT_LIMIT, AT_GOAL, WANTS_ROWS, WANTS_NODES = range(6)


class Arrays(NamedTuple):
    """Everything that a search keeps, each an array of int64 unless it says otherwise.

    `operations` has a row for each, those that must happen first, by call; `returns` are their positions, by return.
    `groups` are the equal ones that may never happen, `used` how many of each happened. `links` (next, previous) is a
    ring of those that must happen and did not yet; `happened` (int8) marks the others. `words` are the slots of the
    present configuration, `trail` what happened, in order, `frames` the configurations on the way, `rows` all that were
    seen and `index` (int32) where they stand. The edges of state s are `edges[edge_start[s]:edge_start[s + 1]]` (name,
    target). `nodes` are the queues, `node_index` (int32) where they stand.
    """

    operations: Any
    returns: Any
    groups: Any
    used: Any
    links: Any
    happened: Any
    words: Any
    trail: Any
    frames: Any
    rows: Any
    index: Any
    edge_start: Any
    edges: Any
    nodes: Any
    node_index: Any
    registers: Any


@njit(cache=True)
def mix(row: Any, width: int) -> Any:
    """A hash of the first `width` integers of a row."""
    h = np.uint64(0x9E3779B97F4A7C15)
    for j in range(width):
        h = (h ^ np.uint64(row[j])) * np.uint64(0xBF58476D1CE4E5B9)
        h ^= h >> np.uint64(29)
    return np.int64(h >> np.uint64(1))


@njit(cache=True)
def place(rows: Any, index: Any, row: Any, width: int) -> Any:
    """Where in the index a row stands (index holds its number) or belongs (index holds -1)."""
    at = mix(row, width) & (len(index) - 1)
    while index[at] >= 0:
        other = rows[index[at]]
        same = True
        for j in range(width):
            if other[j] != row[j]:
                same = False
                break
        if same:
            break
        at = (at + 1) & (len(index) - 1)
    return at


@njit(cache=True)
def rebuild(rows: Any, index: Any, first: int, count: int, width: int) -> None:
    """Enter rows first to count into an empty index."""
    for i in range(first, count):
        index[place(rows, index, rows[i], width)] = i


@njit(cache=True)
def enqueue(nodes: Any, node_index: Any, count: int, queue: int, value: int) -> tuple[int, int]:
    """The node of a queue with one more value, and how many nodes there are then.

    Equal queues are one node. A new node's tail is the tail's node with the same value more, down to one that exists.
    """
    row = np.empty(2, np.int64)
    row[1] = value
    result = before = -1
    while True:
        row[0] = queue
        at = place(nodes, node_index, row, 2)
        found = node_index[at]
        if found < 0:
            node_index[at] = count
            nodes[count, BEFORE_LAST], nodes[count, LAST] = queue, value
            nodes[count, HEAD] = value if queue == EMPTY else nodes[queue, HEAD]
            nodes[count, TAIL] = EMPTY
        node = count if found < 0 else found
        if before >= 0:
            nodes[before, TAIL] = node
        else:
            result = node
        if found >= 0:
            return result, count
        count += 1
        if queue == EMPTY:
            return result, count
        before, queue = node, nodes[queue, TAIL]


@njit(cache=True)
def prepare(operations: Any, returns: Any, groups: Any, links: Any) -> int:
    """Give every operation its slot and link those that must happen by call; returns how many slots there are."""
    must = len(returns)
    free = np.empty(must + 1, np.int64)
    free_count = slots = passed = 0
    for i in range(must + 1):
        links[0, i], links[1, i] = (i + 1) % (must + 1), (i + must) % (must + 1)
    for i in range(must):
        while passed < operations[i, AFTER]:
            free[free_count] = operations[returns[passed], SLOT]
            free_count += 1
            passed += 1
        if free_count == 0:
            free[0] = slots
            free_count = 1
            slots += 1
        free_count -= 1
        operations[i, SLOT] = free[free_count]
    for i in range(must, len(operations)):
        if not groups[operations[i, GROUP], GROUP_IS_ENDLESS]:
            operations[i, SLOT] = slots
            slots += 1
    return slots


@njit(cache=True)
def step(a: Any, operation: Any, state: int) -> Any:
    """The state after an operation, or IMPOSSIBLE."""
    kind = operation[KIND]
    if kind == MASKED:
        if state & operation[READ_MASK] != operation[READ]:
            return IMPOSSIBLE
        return (state & ~operation[WRITE_MASK]) | operation[WRITE]
    if kind == DIFFERS:
        return state if state & operation[READ_MASK] != operation[READ] else IMPOSSIBLE
    if kind == FOLLOW:
        for e in range(a.edge_start[state], a.edge_start[state + 1]):
            if a.edges[e, 0] == operation[READ]:
                return a.edges[e, 1]
        return IMPOSSIBLE if a.registers[NO_WAY_BACK] and a.registers[READS_LEFT] else ELSEWHERE
    if kind == ENQUEUE:
        result, a.registers[NODE_COUNT] = enqueue(
            a.nodes, a.node_index, a.registers[NODE_COUNT], state, operation[WRITE]
        )
        return result
    if operation[READ] == ANY:
        return a.nodes[state, TAIL]
    return a.nodes[state, TAIL] if state != EMPTY and a.nodes[state, HEAD] == operation[READ] else IMPOSSIBLE


@njit(cache=True, inline="always")
def happen(a: Any, i: int) -> None:
    """Operation i takes effect now."""
    slot = a.operations[i, SLOT]
    if i < len(a.returns):
        a.links[0, a.links[1, i]], a.links[1, a.links[0, i]] = a.links[0, i], a.links[1, i]
        a.happened[i] = 1
        a.registers[HAPPENED] += 1
        a.registers[READS_LEFT] -= a.operations[i, IS_READ]
        a.words[slot >> 6] |= np.int64(1) << (slot & 63)
    elif not a.groups[a.operations[i, GROUP], GROUP_IS_ENDLESS]:
        a.used[a.operations[i, GROUP]] += 1
        a.words[slot >> 6] |= np.int64(1) << (slot & 63)
    a.trail[a.registers[TRAIL_SIZE]] = i
    a.registers[TRAIL_SIZE] += 1


@njit(cache=True, inline="always")
def unhappen(a: Any) -> None:
    """The last operation that took effect did not; `words` are not brought back."""
    a.registers[TRAIL_SIZE] -= 1
    i = a.trail[a.registers[TRAIL_SIZE]]
    if i < len(a.returns):
        a.links[0, a.links[1, i]] = a.links[1, a.links[0, i]] = i
        a.happened[i] = 0
        a.registers[HAPPENED] -= 1
        a.registers[READS_LEFT] += a.operations[i, IS_READ]
    elif not a.groups[a.operations[i, GROUP], GROUP_IS_ENDLESS]:
        a.used[a.operations[i, GROUP]] -= 1


@njit(cache=True, inline="always")
def settle(a: Any) -> None:
    """What changes no state takes effect as soon as it can; then the returns of all that did are behind us."""
    must, passed, state = len(a.returns), a.registers[PASSED], a.registers[STATE]
    settled = passed == NOT_BEGUN
    while not settled:
        settled = True
        while passed < must and a.happened[a.returns[passed]]:
            slot = a.operations[a.returns[passed], SLOT]
            a.words[slot >> 6] &= ~(np.int64(1) << (slot & 63))
            passed += 1
        i = a.links[0, must]
        while i != must and a.operations[i, AFTER] <= passed:
            following = a.links[0, i]
            if a.operations[i, IS_READ] and step(a, a.operations[i], state) == state:
                happen(a, i)
                a.registers[UNUSED] = 0
                settled = False
            i = following
    a.registers[PASSED] = passed


@njit(cache=True, inline="always")
def enter(a: Any, row: Any) -> bool:
    """Look at the present configuration; false if it was seen. `row` is room for one."""
    row[ROW_PASSED], row[ROW_STATE], row[ROW_UNUSED] = a.registers[PASSED], a.registers[STATE], a.registers[UNUSED]
    row[ROW_WORDS:] = a.words
    at = place(a.rows, a.index, row, len(row))
    if a.index[at] >= 0:
        return False
    count, frame = a.registers[ROW_COUNT], a.registers[FRAME_COUNT]
    a.index[at] = count
    a.rows[count] = row
    a.frames[frame, TRAIL], a.frames[frame, ROW] = a.registers[TRAIL_SIZE], count
    a.frames[frame, CANDIDATE] = a.links[0, len(a.returns)]
    a.registers[ROW_COUNT] += 1
    a.registers[FRAME_COUNT] += 1
    a.registers[LONGEST] = max(a.registers[LONGEST], a.registers[HAPPENED])
    a.registers[FURTHEST] = max(a.registers[FURTHEST], a.registers[PASSED])
    return True


@njit(cache=True, inline="always")
def go_back(a: Any) -> None:
    """Back to the configuration of the last frame."""
    frame = a.frames[a.registers[FRAME_COUNT] - 1]
    while a.registers[TRAIL_SIZE] > frame[TRAIL]:
        unhappen(a)
    configuration = a.rows[frame[ROW]]
    a.registers[PASSED], a.registers[STATE] = configuration[ROW_PASSED], configuration[ROW_STATE]
    a.registers[UNUSED] = configuration[ROW_UNUSED]
    a.words[:] = configuration[ROW_WORDS:]


@njit(cache=True)
def is_in_vain(operations: Any, must: int, unused: int, i: int) -> Any:
    """Whether operation i, right after the one numbered `unused` (from 1, 0 for none), would leave that without use.

    Of two that may never happen and have nothing to do with each other, the one that stands first comes first.
    """
    if unused == 0:
        return False
    first, second = operations[unused - 1], operations[i]
    if second[USES] & first[CHANGES]:
        return False
    overwrites = first[CHANGES] & ~second[CHANGES] == 0
    is_apart = second[CHANGES] & (first[USES] | first[CHANGES]) == 0
    return overwrites or (is_apart and (i < must or i < unused - 1))


@njit(cache=True, inline="always")
def choose(a: Any) -> bool:
    """Let the next operation of the last frame take effect; false if none is left to try there."""
    must, passed, state = len(a.returns), a.registers[PASSED], a.registers[STATE]
    frame = a.frames[a.registers[FRAME_COUNT] - 1]
    candidate, chosen, next_state = frame[CANDIDATE], -1, IMPOSSIBLE
    while candidate < must and chosen < 0:
        i = candidate
        candidate = a.links[0, i] if a.operations[i, AFTER] <= passed else must
        may_happen = a.operations[i, AFTER] <= passed and not a.operations[i, IS_READ]
        if may_happen and not is_in_vain(a.operations, must, a.registers[UNUSED], i):
            next_state = step(a, a.operations[i], state)
            if next_state != IMPOSSIBLE:
                chosen = i
    while candidate < must + len(a.groups) and chosen < 0:
        group = candidate - must
        candidate += 1
        i = a.groups[group, GROUP_START] + a.used[group]
        if i == a.groups[group, GROUP_END] or is_in_vain(a.operations, must, a.registers[UNUSED], i):
            continue
        if passed == NOT_BEGUN if a.groups[group, GROUP_IS_BEFORE] else a.operations[i, AFTER] <= passed:
            next_state = step(a, a.operations[i], state)
            if next_state != IMPOSSIBLE and next_state != state:
                chosen = i
    begins = chosen < 0 and passed == NOT_BEGUN and candidate == must + len(a.groups)
    frame[CANDIDATE] = candidate + begins
    if begins:
        a.registers[PASSED] = 0
        a.registers[UNUSED] = 0
    if chosen >= 0:
        a.registers[UNUSED] = chosen + 1 if chosen >= must else 0
        happen(a, chosen)
        a.registers[STATE] = next_state
    return chosen >= 0 or begins


@njit(cache=True)
def run(a: Any, limit: int, queue_max: int) -> int:
    """Search on from where the registers are, until there is an answer or `limit` configurations.

    `queue_max` is how many values a queue may come to hold, 0 without queues.
    """
    row = np.empty(len(a.words) + ROW_WORDS, np.int64)
    while True:
        if a.registers[ROW_COUNT] >= limit:
            return AT_LIMIT
        if a.registers[ROW_COUNT] >= len(a.rows):
            return WANTS_ROWS
        if a.registers[NODE_COUNT] + queue_max >= len(a.nodes):
            return WANTS_NODES
        if a.registers[ENTERING]:
            settle(a)
            if a.registers[PASSED] == len(a.returns):
                return ORDER
            a.registers[ENTERING] = 0
            if enter(a, row) and a.registers[HAPPENED] == a.registers[GOAL]:
                return AT_GOAL
        if a.registers[FRAME_COUNT] == 0:
            return NO_ORDER
        go_back(a)
        if choose(a):
            a.registers[ENTERING] = 1
        else:
            a.registers[FRAME_COUNT] -= 1
