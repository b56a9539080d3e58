"""The hot loop: expand blocks of states, and insert their successors into one shared table, a batch at a time.

An insertion touches two cold cache lines, its table slot and the row that the slot names. One after the other they
would be waited for; so the successors of many states are gathered first, then all their slots are asked for, then all
the rows, and only then is anything compared. Whole rows are compared: no two states can be taken for one.

The table is an array of 64-bit slots: a tag (the upper half of the row's hash) above the row's number + 1; zero is
empty. A row's home is `tag * size >> 32`, so that homes are in the order of the tags, and the table grows by one
sequential pass (`move_slots`) that needs no row. Slots follow their home without wrapping round: `SLACK` slots lie
beyond the last home.

Threads share the table by compare-and-swap, claim blocks from one counter, and write new rows to chunks of their own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from hwmark.checkers.explore.intrinsics import (
    add_word,
    call2,
    call3,
    call4,
    jit,
    prefetch,
    put_word,
    swap_word,
    word_at,
)

SLACK = 1 << 16
"""Slots beyond the last home."""

# Numbers shared by the workers: places in the array `shared`, 64 bits each.
CURSOR, BLOCKS, STOP, DISTINCT, ROOM, NEXT_ROW = range(6)
SHARED_SIZE = 8

# Numbers of one worker: places in its array `own`.
(GENERATED, FILLED, CHUNK_NEXT, CHUNK_END, SEGMENT_START, SEGMENTS, VIOLATED, FAULT, DEADLOCK, INSERTED,
 SEEN) = range(11)  # fmt: skip
OWN_SIZE = 16

# Addresses and constants of a search: places in the array `plan`.
(EXPAND, VIOLATES, REACHES, WITHIN, CANONICAL, ARENA, TABLE, TABLE_SIZE, ROW_BYTES, SUCCESSORS_MAX, BATCH_ROWS, WANTED,
 FIND_DEADLOCK, INVARIANTS, CHUNK_ROWS) = range(15)  # fmt: skip
PLAN_SIZE = 16

# Rows that a worker keeps: places in its buffer `worst`; the scratch is two rows.
SCRATCH_ROW, FAULT_ROW, DEADLOCK_ROW, WORST_ROWS = 1, 3, 4, 5


@jit
def row_hash(address: int, row_bytes: int) -> Any:
    """A 64-bit hash of a row of 8-byte words."""
    value = np.uint64(0x9E3779B97F4A7C15)
    for offset in range(0, row_bytes, 8):
        value = (value ^ word_at(address + offset)) * np.uint64(0xD6E8FEB86659FD93)
        value ^= value >> np.uint64(32)
    value *= np.uint64(0xD6E8FEB86659FD93)
    return value ^ (value >> np.uint64(29))


@jit
def copy_row(target: int, source: int, row_bytes: int) -> None:
    """Copy one row."""
    for offset in range(0, row_bytes, 8):
        put_word(target + offset, word_at(source + offset))


@jit
def compare_rows(left: int, right: int, row_bytes: int) -> int:
    """-1, 0 or 1: the order of two rows, word by word."""
    for offset in range(0, row_bytes, 8):
        a, b = word_at(left + offset), word_at(right + offset)
        if a != b:
            return -1 if a < b else 1
    return 0


@jit
def equal_rows(left: int, right: int, row_bytes: int) -> bool:
    """Whether two rows are equal."""
    for offset in range(0, row_bytes, 8):  # noqa: SIM110  Numba has no all()
        if word_at(left + offset) != word_at(right + offset):
            return False
    return True


@jit
def next_row(plan: Any, own: Any, segments: Any, shared: int) -> int:
    """The number of the next free row of this worker's chunk, claiming a new chunk when it is full."""
    if own[CHUNK_NEXT] == own[CHUNK_END]:
        close_segment(own, segments)
        own[CHUNK_NEXT] = add_word(shared + 8 * NEXT_ROW, plan[CHUNK_ROWS])
        own[CHUNK_END] = own[CHUNK_NEXT] + plan[CHUNK_ROWS]
        own[SEGMENT_START] = own[CHUNK_NEXT]
    return int(own[CHUNK_NEXT])


@jit
def close_segment(own: Any, segments: Any) -> None:
    """Note the rows [start, stop) that this worker has filled since the last time."""
    if own[CHUNK_NEXT] > own[SEGMENT_START]:
        segments[own[SEGMENTS], 0] = own[SEGMENT_START]
        segments[own[SEGMENTS], 1] = own[CHUNK_NEXT]
        own[SEGMENTS] += 1
        own[SEGMENT_START] = own[CHUNK_NEXT]


@jit
def judge(row: int, plan: Any, own: Any, worst: int, fault: int) -> None:
    """Check a new state: keep the least violating row of the first invariant that fails; note what it reaches.

    A range check that fails before an invariant does counts as one more invariant, after all others.
    """
    failed = call2(plan[VIOLATES], row, fault)
    if word_at(fault) != np.uint64(0):
        failed = -1
    reached = call3(plan[REACHES], row, plan[WANTED], fault) if plan[WANTED] != 0 else 0
    if word_at(fault) != np.uint64(0):
        failed, reached = (plan[INVARIANTS] if failed < 0 else failed), 0
        put_word(fault, np.uint64(0))
    if failed >= 0:
        best = own[VIOLATED]
        if best < 0 or failed < best or (failed == best and compare_rows(row, worst, plan[ROW_BYTES]) < 0):
            own[VIOLATED] = failed
            copy_row(worst, row, plan[ROW_BYTES])
    own[SEEN] |= reached


@jit
def insert_batch(
    plan: Any, own: Any, tags: Any, slots: Any, segments: Any, batch: int, worst: int, shared: int, fault: int
) -> None:
    """Insert the rows gathered in the batch that are new, and judge them."""
    row_bytes, table, arena = plan[ROW_BYTES], plan[TABLE], plan[ARENA]
    size = np.uint64(plan[TABLE_SIZE])
    count = own[FILLED]
    own[FILLED] = 0
    if plan[WITHIN] != 0:
        count = keep_within(plan, own, batch, count, worst, fault)
    for i in range(count):
        row = batch + i * row_bytes
        if plan[CANONICAL] != 0:
            call2(plan[CANONICAL], row, worst + SCRATCH_ROW * row_bytes)
        tag = row_hash(row, row_bytes) >> np.uint64(32)
        slot = table + np.int64((tag * size) >> np.uint64(32)) * 8
        tags[i], slots[i] = tag, slot
        prefetch(slot)
    for i in range(count):
        slot, tag = slots[i], tags[i]
        entry = word_at(slot)
        while entry != np.uint64(0) and entry >> np.uint64(32) != tag:
            slot += 8
            entry = word_at(slot)
        slots[i] = slot
        if entry != np.uint64(0):
            prefetch(arena + (np.int64(entry & np.uint64(0xFFFFFFFF)) - 1) * row_bytes)
    before = own[INSERTED]
    for i in range(count):
        row, slot, tag = batch + i * row_bytes, slots[i], tags[i]
        while True:
            entry = word_at(slot)
            if entry == np.uint64(0):
                number = next_row(plan, own, segments, shared)
                place = arena + number * row_bytes
                copy_row(place, row, row_bytes)
                if swap_word(slot, np.uint64(0), (tag << np.uint64(32)) | np.uint64(number + 1)):
                    own[CHUNK_NEXT] += 1
                    own[INSERTED] += 1
                    judge(place, plan, own, worst, fault)
                    break
            elif entry >> np.uint64(32) == tag and equal_rows(
                arena + (np.int64(entry & np.uint64(0xFFFFFFFF)) - 1) * row_bytes, row, row_bytes
            ):
                break
            else:
                slot += 8
    add_word(shared + 8 * DISTINCT, own[INSERTED] - before)


@jit
def keep_within(plan: Any, own: Any, batch: int, count: int, worst: int, fault: int) -> int:
    """Judge the rows outside the constraint and drop them; how many are left."""
    row_bytes, kept = plan[ROW_BYTES], 0
    for i in range(count):
        row = batch + i * row_bytes
        if call2(plan[WITHIN], row, fault) != 0 and word_at(fault) == np.uint64(0):
            if kept != i:
                copy_row(batch + kept * row_bytes, row, row_bytes)
            kept += 1
        else:
            if plan[CANONICAL] != 0:
                call2(plan[CANONICAL], row, worst + SCRATCH_ROW * row_bytes)
            judge(row, plan, own, worst, fault)
    return kept


@jit
def note_least(own: Any, place: int, row: int, least: int, row_bytes: int) -> None:
    """Keep the least of the rows noted."""
    if own[place] == 0 or compare_rows(row, least, row_bytes) < 0:
        own[place] = 1
        copy_row(least, row, row_bytes)


@jit
def work(
    plan: Any, own: Any, starts: Any, stops: Any, tags: Any, slots: Any, segments: Any, batch: int, worst: int,
    coverage: int, shared: int, fault: int,
) -> None:  # fmt: skip
    """Expand blocks until none is left, somebody stops the search, or there is no room for another block.

    A batch that is not empty on entry (the initial states) is inserted first. `worst` has room for `WORST_ROWS` rows.
    """
    row_bytes, arena = plan[ROW_BYTES], plan[ARENA]
    while True:
        if own[FILLED] > 0:
            insert_batch(plan, own, tags, slots, segments, batch, worst, shared, fault)
        if word_at(shared + 8 * STOP) != np.uint64(0):
            break
        if np.int64(word_at(shared + 8 * DISTINCT)) > np.int64(word_at(shared + 8 * ROOM)):
            break
        block = add_word(shared + 8 * CURSOR, 1)
        if block >= np.int64(word_at(shared + 8 * BLOCKS)):
            break
        for number in range(starts[block], stops[block]):
            filled = own[FILLED]
            row = arena + number * row_bytes
            count = call4(plan[EXPAND], row, batch + filled * row_bytes, coverage, fault)
            if word_at(fault) != np.uint64(0):
                note_least(own, FAULT, row, worst + FAULT_ROW * row_bytes, row_bytes)
                put_word(fault, np.uint64(0))
                continue
            own[GENERATED] += count
            own[FILLED] = filled + count
            if count == 0 and plan[FIND_DEADLOCK] != 0:
                note_least(own, DEADLOCK, row, worst + DEADLOCK_ROW * row_bytes, row_bytes)
            if own[FILLED] + plan[SUCCESSORS_MAX] >= plan[BATCH_ROWS]:
                insert_batch(plan, own, tags, slots, segments, batch, worst, shared, fault)


@jit
def move_slots(old: int, first: int, last: int, new: int, new_size: int) -> None:
    """Insert the old slots [first, last) into a larger table, where other threads insert others."""
    size = np.uint64(new_size)
    for index in range(first, last):
        entry = word_at(old + 8 * index)
        if entry != np.uint64(0):
            slot = new + np.int64(((entry >> np.uint64(32)) * size) >> np.uint64(32)) * 8
            while word_at(slot) != np.uint64(0) or not swap_word(slot, np.uint64(0), entry):
                slot += 8


@jit
def least_predecessor(
    plan: Any, starts: Any, stops: Any, target: int, batch: int, scratch: int, coverage: int, fault: int
) -> int:
    """The number of the least row, among these segments, that has the target as a successor; -1 if none has."""
    row_bytes, arena, found = plan[ROW_BYTES], plan[ARENA], -1
    for segment in range(len(starts)):
        for number in range(starts[segment], stops[segment]):
            row = arena + number * row_bytes
            if found >= 0 and compare_rows(row, arena + found * row_bytes, row_bytes) >= 0:
                continue
            count = call4(plan[EXPAND], row, batch, coverage, fault)
            put_word(fault, np.uint64(0))
            for i in range(count):
                successor = batch + i * row_bytes
                if plan[CANONICAL] != 0:
                    call2(plan[CANONICAL], successor, scratch)
                if equal_rows(successor, target, row_bytes):
                    found = number
                    break
    return found
