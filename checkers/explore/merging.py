"""Sorting, uniting and subtracting rows at machine speed: the inner loops of the search on disk.

Rows are in the order of their 64-bit hashes, and rows of one hash in their own order (`compare_rows`): any total order
would do, and the table of the hot loop is nearly in this one already, because a row's home is in the order of its tag.
Hashes only order: rows are equal where all their words are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from hwmark.checkers.explore.intrinsics import jit, prefetch, put_word, word_at
from hwmark.checkers.explore.loop import compare_rows, copy_row, equal_rows, row_hash

AHEAD = 16
"""Rows asked for before they are copied."""


@jit
def row_named(entry: Any, arena: int, row_bytes: int) -> int:
    """The address of the row that a slot of the table names."""
    return int(arena + (np.int64(entry & np.uint64(0xFFFFFFFF)) - 1) * row_bytes)


@jit
def comes_after(left: int, left_hash: Any, right: int, right_hash: Any, row_bytes: int) -> bool:
    """Whether the left row comes after the right one."""
    if left_hash != right_hash:
        return bool(left_hash > right_hash)
    return bool(compare_rows(left, right, row_bytes) > 0)


@jit
def entry_after(left: Any, right: Any, arena: int, row_bytes: int) -> bool:
    """Whether the row of the left slot comes after that of the right one; the tags mostly decide."""
    left_tag, right_tag = left >> np.uint64(32), right >> np.uint64(32)
    if left_tag != right_tag:
        return bool(left_tag > right_tag)
    a, b = row_named(left, arena, row_bytes), row_named(right, arena, row_bytes)
    return bool(comes_after(a, row_hash(a, row_bytes), b, row_hash(b, row_bytes), row_bytes))


@jit
def sort_table(table: int, slots: int, arena: int, row_bytes: int) -> int:
    """Move the slots in use to the front, in the order of their rows, which is near; how many there are."""
    count = 0
    for index in range(slots):
        entry = word_at(table + 8 * index)
        if entry == np.uint64(0):
            continue
        place = table + 8 * count
        while place > table and entry_after(word_at(place - 8), entry, arena, row_bytes):
            put_word(place, word_at(place - 8))
            place -= 8
        put_word(place, entry)
        count += 1
    return count


@jit
def gather(entries: Any, arena: int, row_bytes: int, target: int) -> None:
    """Copy the rows that the slots name, one after the other."""
    for index in range(len(entries)):
        if index + AHEAD < len(entries):
            prefetch(row_named(entries[index + AHEAD], arena, row_bytes))
        copy_row(target + index * row_bytes, row_named(entries[index], arena, row_bytes), row_bytes)


@jit
def hash_rows(rows: int, step: int, row_bytes: int, hashes: Any) -> None:
    """The hashes of every `step`-th row, as many as there is room for."""
    for index in range(len(hashes)):
        hashes[index] = row_hash(rows + index * step * row_bytes, row_bytes)


@jit
def unite(rows: int, starts: Any, stops: Any, row_bytes: int, target: int, hashes: Any) -> int:
    """Merge sorted stretches [start, stop) of rows into one without duplicates: its length and hashes."""
    heads = np.zeros(len(starts), np.uint64)
    for each in range(len(starts)):
        if starts[each] < stops[each]:
            heads[each] = row_hash(rows + starts[each] * row_bytes, row_bytes)
    count = 0
    while True:
        least = -1
        for each in range(len(starts)):
            if starts[each] < stops[each] and (
                least < 0
                or comes_after(
                    rows + starts[least] * row_bytes,
                    heads[least],
                    rows + starts[each] * row_bytes,
                    heads[each],
                    row_bytes,
                )
            ):
                least = each
        if least < 0:
            return count
        row, last = rows + starts[least] * row_bytes, target + (count - 1) * row_bytes
        if count == 0 or hashes[count - 1] != heads[least] or not equal_rows(row, last, row_bytes):
            copy_row(target + count * row_bytes, row, row_bytes)
            hashes[count] = heads[least]
            count += 1
        starts[least] += 1
        if starts[least] < stops[least]:
            heads[least] = row_hash(row + row_bytes, row_bytes)


@jit
def strike(
    rows: int, hashes: Any, first: int, last: int, seen: int, seen_count: int, row_bytes: int, fresh: Any
) -> None:
    """Mark those of the sorted rows [first, last) that are among the sorted rows seen as not fresh."""
    for index in range(seen_count):
        row = seen + index * row_bytes
        value = row_hash(row, row_bytes)
        while first < last and hashes[first] < value:
            first += 1
        if first == last:
            return
        candidate = first
        while candidate < last and hashes[candidate] == value:
            if equal_rows(rows + candidate * row_bytes, row, row_bytes):
                fresh[candidate] = False
            candidate += 1
