"""One pass over the bytes of a segment: the header of each batch becomes a row, and all of it is checked on the way.

Compiled. The CRC is that of `crc32c`; records that are not compressed are walked over too, as their bytes are in the
cache anyway. `plain` is the slow twin.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from hwmark.checkers.audit import layout
from hwmark.checkers.audit.crc32c import crc32c
from hwmark.checkers.explore.intrinsics import jit

BASE_OFFSET, LENGTH, LEADER_EPOCH, MAGIC, CRC = (
    layout.BASE_OFFSET, layout.LENGTH, layout.LEADER_EPOCH, layout.MAGIC, layout.CRC)  # fmt: skip
ATTRIBUTES, LAST_OFFSET_DELTA, MAX_TIMESTAMP = (
    layout.ATTRIBUTES, layout.LAST_OFFSET_DELTA, layout.MAX_TIMESTAMP)  # fmt: skip
PRODUCER_ID, PRODUCER_EPOCH, BASE_SEQUENCE, COUNT, RECORDS = (
    layout.PRODUCER_ID, layout.PRODUCER_EPOCH, layout.BASE_SEQUENCE, layout.COUNT, layout.RECORDS)  # fmt: skip
BEFORE_LENGTH, HEADER_BYTES, LENGTH_MIN, MAGIC_V2 = (
    layout.BEFORE_LENGTH, layout.HEADER_BYTES, layout.LENGTH_MIN, layout.MAGIC_V2)  # fmt: skip
COMPRESSION_MASK, CONTROL = layout.COMPRESSION_MASK, layout.CONTROL
NOT_CONTROL, CONTROL_EMPTY = layout.NOT_CONTROL, layout.CONTROL_EMPTY
END, FULL, BAD_LENGTH, BAD_MAGIC, BAD_CRC = (int(stop) for stop in layout.Stop)
NONE, NOT_READ, VARINT, SIZE, ORDER, WRONG_COUNT = (int(fault) for fault in layout.Fault)
MALFORMED = -(2**62)
"""What no varint of a sound record is."""
VARINT_BYTES_MAX = 10


@jit
def int16_at(data: Any, place: int) -> Any:
    """The big-endian signed number of two bytes."""
    return np.int16(np.uint16(data[place]) << np.uint16(8) | np.uint16(data[place + 1]))


@jit
def uint32_at(data: Any, place: int) -> Any:
    """The big-endian unsigned number of four bytes."""
    return (
        np.uint32(data[place]) << np.uint32(24)
        | np.uint32(data[place + 1]) << np.uint32(16)
        | np.uint32(data[place + 2]) << np.uint32(8)
        | np.uint32(data[place + 3])
    )


@jit
def int32_at(data: Any, place: int) -> Any:
    """The big-endian signed number of four bytes."""
    return np.int32(uint32_at(data, place))


@jit
def int64_at(data: Any, place: int) -> Any:
    """The big-endian signed number of eight bytes."""
    return np.int64(np.uint64(uint32_at(data, place)) << np.uint64(32) | np.uint64(uint32_at(data, place + 4)))


@jit
def varint(data: Any, place: int, end: int) -> Any:
    """The zig-zag number at a place and where it ends; MALFORMED if it does not end before `end`."""
    value = np.uint64(0)
    shift = np.uint64(0)
    for i in range(VARINT_BYTES_MAX):
        if place + i >= end:
            break
        byte = np.uint64(data[place + i])
        value |= (byte & np.uint64(127)) << shift
        if byte < np.uint64(128):
            return np.int64(value >> np.uint64(1)) ^ -np.int64(value & np.uint64(1)), place + i + 1
        shift += np.uint64(7)
    return np.int64(MALFORMED), place


@jit
def after_bytes(data: Any, place: int, end: int, may_be_null: bool) -> int:
    """Where the bytes with their length before them end, -1 if they do not end in time."""
    size, place = varint(data, place, end)
    if size == -1 and may_be_null:
        return int(place)
    if size < 0 or size > end - place:
        return -1
    return int(place + size)


@jit
def record_fault(data: Any, place: int, end: int) -> Any:
    """What is wrong with the record in data[place:end], behind its length, and its offset delta."""
    _, place = varint(data, place + 1, end)
    delta, place = varint(data, place, end)
    if delta == MALFORMED:
        return VARINT, delta
    place = after_bytes(data, place, end, True)
    if place < 0:
        return VARINT, delta
    place = after_bytes(data, place, end, True)
    if place < 0:
        return VARINT, delta
    headers, place = varint(data, place, end)
    if headers < 0:
        return VARINT, delta
    for _ in range(headers):
        place = after_bytes(data, place, end, False)
        if place < 0:
            return VARINT, delta
        place = after_bytes(data, place, end, True)
        if place < 0:
            return VARINT, delta
    return NONE if place == end else SIZE, delta


@jit
def records_fault(data: Any, place: int, end: int, count: int, last_offset_delta: int) -> int:
    """What is wrong with the `count` records in data[place:end]."""
    last = -1
    for _ in range(count):
        if place >= end:
            return WRONG_COUNT
        size, place = varint(data, place, end)
        if size < 1 or size > end - place:
            return VARINT
        fault, delta = record_fault(data, place, place + size)
        if fault != NONE:
            return int(fault)
        if delta <= last or delta > last_offset_delta:
            return ORDER
        last = delta
        place += size
    return NONE if place == end else WRONG_COUNT


@jit
def control_type(data: Any, place: int, end: int, count: int) -> int:
    """The type in the key of the first record of a control batch."""
    if count == 0:
        return CONTROL_EMPTY
    _, place = varint(data, place, end)
    _, place = varint(data, place + 1, end)
    _, place = varint(data, place, end)
    size, place = varint(data, place, end)
    return int(int16_at(data, place + 2)) if size >= 4 and place + 4 <= end else CONTROL_EMPTY


@jit
def batch_stop(data: Any, start: int, limit: int) -> int:
    """Why there is no whole and sound batch at a place: END if only bytes are missing, FULL if there is one."""
    if start + MAGIC >= limit:
        return END
    if data[start + MAGIC] != MAGIC_V2:
        return BAD_MAGIC
    length = int32_at(data, start + LENGTH)
    if length < LENGTH_MIN:
        return BAD_LENGTH
    if start + BEFORE_LENGTH + length > limit:
        return END
    computed = crc32c(data, start + ATTRIBUTES, start + BEFORE_LENGTH + length)
    return FULL if computed == uint32_at(data, start + CRC) else BAD_CRC


@jit
def walk(data: Any, limit: int, rows: Any, file_position: int) -> Any:
    """Walk over data[:limit] and fill rows: how many, where it ended, and why (`layout.Stop`).

    `rows` are `batches.Columns` with room; `file_position` is where data[0] lies in its file.
    """
    start, filled = 0, 0
    while True:
        stop = batch_stop(data, start, limit)
        if stop != FULL or filled == len(rows.size):
            return filled, start, stop
        end = start + BEFORE_LENGTH + int32_at(data, start + LENGTH)
        attributes, count = int16_at(data, start + ATTRIBUTES), int32_at(data, start + COUNT)
        last_offset_delta = int32_at(data, start + LAST_OFFSET_DELTA)
        is_control = attributes & CONTROL != 0
        rows.base_offset[filled] = int64_at(data, start + BASE_OFFSET)
        rows.max_timestamp[filled] = int64_at(data, start + MAX_TIMESTAMP)
        rows.producer_id[filled] = int64_at(data, start + PRODUCER_ID)
        rows.position[filled] = file_position + start
        rows.size[filled] = end - start
        rows.leader_epoch[filled] = int32_at(data, start + LEADER_EPOCH)
        rows.crc[filled] = uint32_at(data, start + CRC)
        rows.last_offset_delta[filled] = last_offset_delta
        rows.base_sequence[filled] = int32_at(data, start + BASE_SEQUENCE)
        rows.record_count[filled] = count
        rows.attributes[filled] = attributes
        rows.producer_epoch[filled] = int16_at(data, start + PRODUCER_EPOCH)
        rows.control_type[filled] = control_type(data, start + RECORDS, end, count) if is_control else NOT_CONTROL
        if attributes & COMPRESSION_MASK:
            rows.fault[filled] = NOT_READ if count else NONE
        else:
            rows.fault[filled] = records_fault(data, start + RECORDS, end, count, last_offset_delta)
        filled += 1
        start = end


@jit
def next_sound(data: Any, start: int, limit: int, lowest: int, highest: int) -> int:
    """The first place from `start` on where a whole and sound batch begins, -1 if there is none before `limit`.

    Its base offset is to lie in [lowest, highest]: a message may hold a batch of another log.
    """
    for place in range(start, limit - HEADER_BYTES + 1):
        if (
            data[place + MAGIC] == MAGIC_V2
            and lowest <= int64_at(data, place + BASE_OFFSET) <= highest
            and batch_stop(data, place, limit) == FULL
        ):
            return place
    return -1
