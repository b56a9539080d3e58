"""The slow twins of the compiled walk and of the columnar checks of producers: byte by byte, batch by batch.

Nothing here is shared with the fast ones but the layout's constants; tests hold the two to each other.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from hwmark.checkers.audit import layout

HEADER = struct.Struct(">qiiBIhiqqqhii")
"""Base offset, length, leader epoch, magic, CRC, attributes, last offset delta, two timestamps, producer id and epoch,
base sequence, record count."""
POLYNOMIAL = 0x82F63B78
Row = dict[str, Any]


def crc32c(data: bytes) -> int:
    """CRC-32C, bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (POLYNOMIAL if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def batch_at(data: bytes, place: int) -> Row | None:
    """The batch that begins at a place, None if there is no whole and sound one."""
    if len(data) - place < HEADER.size:
        return None
    fields = HEADER.unpack_from(data, place)
    base_offset, length, leader_epoch, magic, crc, attributes, delta, _, timestamp, producer, epoch, sequence, count = (
        fields
    )
    end = place + layout.BEFORE_LENGTH + length
    if magic != layout.MAGIC_V2 or length < layout.LENGTH_MIN or end > len(data):
        return None
    if crc32c(data[place + layout.ATTRIBUTES : end]) != crc:
        return None
    row = {"base_offset": base_offset, "max_timestamp": timestamp, "producer_id": producer, "position": place}
    row |= {"size": end - place, "leader_epoch": leader_epoch, "crc": crc, "last_offset_delta": delta}
    row |= {"base_sequence": sequence, "record_count": count, "attributes": attributes, "producer_epoch": epoch}
    content = data[place + layout.RECORDS : end]
    row["control_type"] = _control_type(content, count) if attributes & layout.CONTROL else layout.NOT_CONTROL
    row["is_sound"] = bool(attributes & layout.COMPRESSION_MASK) or are_sound(content, count, delta)
    return row


def _control_type(content: bytes, count: int) -> int:
    """The type in the key of a control record."""
    if not count:
        return layout.CONTROL_EMPTY
    _, place = _varint(content, 0)
    _, place = _varint(content, place + 1)
    _, place = _varint(content, place)
    _, place = _varint(content, place)
    return int.from_bytes(content[place + 2 : place + 4], "big", signed=True)


def are_sound(content: bytes, count: int, last_offset_delta: int) -> bool:
    """Whether these are so many whole records whose offsets rise and stay in the batch."""
    try:
        deltas = list(_deltas(content))
    except (IndexError, ValueError):
        return False
    rising = all(a < b for a, b in pairwise(deltas))
    return len(deltas) == max(count, 0) and rising and all(0 <= delta <= last_offset_delta for delta in deltas)


def _deltas(content: bytes) -> Iterator[int]:
    """The offset deltas of records that fill the content."""
    place = 0
    while place < len(content):
        size, place = _varint(content, place)
        record = content[place : place + size]
        if size < 1 or len(record) < size:
            raise ValueError("the record leads out of the batch")
        _, within = _varint(record, 1)
        delta, within = _varint(record, within)
        within = _after_bytes(record, _after_bytes(record, within))
        headers, within = _varint(record, within)
        if headers < 0:
            raise ValueError("a negative count")
        for _ in range(headers):
            within = _after_bytes(record, _after_bytes(record, within, may_be_null=False))
        if within != size:
            raise ValueError("the parts do not fill the record")
        yield delta
        place += size


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = 0
    for i in range(10):
        value |= (data[place + i] & 127) << 7 * i
        if data[place + i] < 128:
            value &= 2**64 - 1
            return value >> 1 ^ -(value & 1), place + i + 1
    raise ValueError("a number does not end")


def _after_bytes(data: bytes, place: int, *, may_be_null: bool = True) -> int:
    size, place = _varint(data, place)
    if size == -1 and may_be_null:
        return place
    if size < 0 or place + size > len(data):
        raise ValueError("bytes lead out of the record")
    return place + size


def walk(data: bytes, base_offset: int) -> tuple[list[Row], list[tuple[int, int]]]:
    """The batches of a segment, and the stretches [from, to) that are none."""
    rows: list[Row] = []
    damages: list[tuple[int, int]] = []
    place = 0
    while place < len(data):
        row = batch_at(data, place)
        if row is None:
            lowest = rows[-1]["base_offset"] + rows[-1]["last_offset_delta"] + 1 if rows else base_offset
            following = place + 1
            while following < len(data):
                found = batch_at(data, following)
                if found is not None and lowest <= found["base_offset"] <= base_offset + 2**31:
                    break
                following += 1
            damages.append((place, following))
            place = following
        else:
            rows.append(row)
            place += row["size"]
    return rows, damages


@dataclass
class _Producer:
    """What is known of a producer so far."""

    epoch: int = -1
    data_epoch: int | None = None
    sequence: int = 0
    transaction: int | None = None
    transaction_epoch: int = -1


@dataclass
class Producing:
    """What batches show of their producers: base offsets by kind, transactions open at the end and aborted.

    `aborted` are (producer id, first offset, offset of the marker), `open` (producer id, first offset).
    """

    gaps: list[int] = field(default_factory=list)
    repeats: list[int] = field(default_factory=list)
    epochs_back: list[int] = field(default_factory=list)
    late: list[int] = field(default_factory=list)
    replaced: list[int] = field(default_factory=list)
    aborted: set[tuple[int, int, int]] = field(default_factory=set)
    open: set[tuple[int, int]] = field(default_factory=set)


def producing(rows: list[Row]) -> Producing:
    """Follow every producer through a log, as a broker does, and note what no broker would have taken."""
    found, producers = Producing(), dict[int, _Producer]()
    for row in rows:
        if row["producer_id"] >= 0:
            _follow(found, producers.setdefault(row["producer_id"], _Producer()), row)
    found.open = {(number, one.transaction) for number, one in producers.items() if one.transaction is not None}
    return found


def _follow(found: Producing, one: _Producer, row: Row) -> None:
    """One more batch of a producer."""
    offset, epoch = row["base_offset"], row["producer_epoch"]
    if epoch < one.epoch:
        found.epochs_back.append(offset)
    one.epoch = max(one.epoch, epoch)
    if row["base_sequence"] >= 0:
        _follow_sequence(found, one, row)
    if row["control_type"] in (layout.ABORT, layout.COMMIT):
        if one.transaction is not None and row["control_type"] == layout.ABORT:
            found.aborted.add((row["producer_id"], one.transaction, offset))
        one.transaction = None
    elif (
        row["attributes"] & layout.TRANSACTIONAL and row["record_count"] > 0 and not row["attributes"] & layout.CONTROL
    ):
        if one.transaction is None:
            one.transaction = offset
        elif epoch > one.transaction_epoch:
            found.replaced.append(offset)
        one.transaction_epoch = epoch


def _follow_sequence(found: Producing, one: _Producer, row: Row) -> None:
    """The sequence numbers of one more batch."""
    offset, epoch, sequence = row["base_offset"], row["producer_epoch"], row["base_sequence"]
    if one.data_epoch is None:
        if sequence:
            found.late.append(offset)
    elif epoch > one.data_epoch and sequence:
        found.gaps.append(offset)
    elif epoch == one.data_epoch and sequence != one.sequence:
        ahead = (sequence - one.sequence) % layout.SEQUENCES < layout.SEQUENCES // 2
        (found.gaps if ahead else found.repeats).append(offset)
    one.data_epoch = epoch
    one.sequence = (sequence + row["last_offset_delta"] + 1) % layout.SEQUENCES
