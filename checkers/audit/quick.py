"""One compiled pass over the columns that says which of the checks may find something: in a sound log, none.

The checks themselves (`checks`, `producers`) are NumPy over whole columns, sort, and know every excuse; for logs of
many small batches even that takes longer than reading them. What a pass here suspects, they look at; what it does not
suspect, they would not find. A test holds the two to each other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from hwmark.checkers.audit import layout
from hwmark.checkers.explore.intrinsics import jit

NOT_CONTROL, CONTROL, TRANSACTIONAL, DELETE_HORIZON = (
    layout.NOT_CONTROL,
    layout.CONTROL,
    layout.TRANSACTIONAL,
    layout.DELETE_HORIZON,
)
NOT_READ, NO_SEQUENCE, NO_LEADER_EPOCH, SEQUENCES = (
    int(layout.Fault.NOT_READ),
    layout.NO_SEQUENCE,
    layout.NO_LEADER_EPOCH,
    layout.SEQUENCES,
)

OFFSETS, RECORDS, EPOCHS, THINNED, SEQUENCES_BREAK, TRANSACTIONS = (1 << bit for bit in range(6))
"""What a pass may suspect: bits."""
FREE = -1
CAPACITY = 1 << 10
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


@jit
def suspicions(
    base_offset: Any,
    last_offset_delta: Any,
    count: Any,
    segment: Any,
    bases: Any,
    epoch: Any,
    fault: Any,
    attributes: Any,
) -> int:
    """Bits for batches in the order of the log; `bases` are the first offsets of the segments, as their names say."""
    found, expected, highest, before = 0, bases[0] if len(bases) else 0, NO_LEADER_EPOCH, -1
    for i in range(len(base_offset)):
        if base_offset[i] != expected or last_offset_delta[i] < 0:
            found |= OFFSETS
        if segment[i] != before and base_offset[i] != bases[segment[i]]:
            found |= OFFSETS
        before = segment[i]
        expected = base_offset[i] + last_offset_delta[i] + 1
        if count[i] > last_offset_delta[i] + 1 or fault[i] > NOT_READ:
            found |= RECORDS
        if count[i] <= last_offset_delta[i] or attributes[i] & DELETE_HORIZON:
            found |= THINNED
        if epoch[i] < highest:
            found |= EPOCHS
        highest = max(highest, epoch[i])
    if len(bases) and bases[-1] != expected and before != len(bases) - 1:
        found |= OFFSETS
    return found


@jit
def place_of(keys: Any, key: int) -> int:
    """Where a key is in an open hash table, or the free place where it belongs."""
    mask = len(keys) - 1
    place = int((np.uint64(key) * MULTIPLIER) >> np.uint64(32)) & mask
    while keys[place] not in (FREE, key):
        place = place + 1 & mask
    return place


@jit
def larger(keys: Any, held: Any) -> Any:
    """The table with twice the places."""
    new_keys = np.full(2 * len(keys), FREE, dtype=np.int64)
    new_held = np.zeros((2 * len(keys), 3), dtype=np.int64)
    for i in range(len(keys)):
        if keys[i] != FREE:
            place = place_of(new_keys, keys[i])
            new_keys[place] = keys[i]
            new_held[place] = held[i]
    return new_keys, new_held


@jit
def producer_suspicions(
    producer_id: Any, producer_epoch: Any, base_sequence: Any, last_offset_delta: Any, attributes: Any
) -> int:
    """Bits for the producers of batches in the order of the log."""
    keys = np.full(CAPACITY, FREE, dtype=np.int64)
    # Of each producer: the highest epoch, the epoch of the last data, the sequence that comes next.
    held = np.zeros((CAPACITY, 3), dtype=np.int64)
    found, filled = 0, 0
    for i in range(len(producer_id)):
        if producer_id[i] < 0:
            continue
        if attributes[i] & (CONTROL | TRANSACTIONAL):
            found |= TRANSACTIONS
        place = place_of(keys, producer_id[i])
        if keys[place] == FREE:
            keys[place] = producer_id[i]
            held[place, 0], held[place, 1], held[place, 2] = producer_epoch[i], FREE, 0
            filled += 1
        if producer_epoch[i] < held[place, 0]:
            found |= SEQUENCES_BREAK
        held[place, 0] = max(held[place, 0], producer_epoch[i])
        if base_sequence[i] > NO_SEQUENCE:
            expected = held[place, 2] if producer_epoch[i] == held[place, 1] else 0
            if base_sequence[i] != expected:
                found |= SEQUENCES_BREAK
            held[place, 1] = producer_epoch[i]
            held[place, 2] = (np.int64(base_sequence[i]) + last_offset_delta[i] + 1) % SEQUENCES
        if 2 * filled > len(keys):
            keys, held = larger(keys, held)
    return found
