"""The records of a batch: decompressed, and taken apart.

Compression is that of Kafka's clients: gzip, snappy in the framing of Java's snappy-java or bare, lz4 frames, zstd.
Source: Kafka's `DefaultRecord`, `ControlRecordType` and the package `common.compress`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import cramjam
import numpy as np
from hwmark.checkers.audit.layout import (
    BASE_TIMESTAMP,
    COMPRESSION_MASK,
    MAX_TIMESTAMP,
    RECORDS,
    TIMESTAMP_TYPE,
    Fault,
)
from hwmark.checkers.audit.walk import records_fault

NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)
COMPRESSIONS = ("none", "gzip", "snappy", "lz4", "zstd")
XERIAL = b"\x82SNAPPY\x00"
XERIAL_HEADER_BYTES = 16
LENGTH_BYTES = 4


class UnreadableError(ValueError):
    """Records that cannot be read though their batch's CRC is right; the message says why."""


class Record(NamedTuple):
    """A record; `headers` are names and values, `timestamp` is the broker's if the topic takes that (LogAppendTime)."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[bytes, bytes | None], ...]


def read_records(descriptor: int, batch: Any) -> list[Record]:
    """The records of a batch (a row of `Batches`) of an open segment file. Raises UnreadableError, OSError."""
    raw = os.pread(descriptor, int(batch["size"]), int(batch["position"]))
    data = decompressed(raw[RECORDS:], int(batch["attributes"]) & COMPRESSION_MASK)
    fault = fault_of(data, batch)
    if fault != Fault.NONE:
        raise UnreadableError(described(fault))
    base_timestamp = int.from_bytes(raw[BASE_TIMESTAMP:MAX_TIMESTAMP], "big", signed=True)
    records = list(_records(data, int(batch["base_offset"]), base_timestamp, int(batch["record_count"])))
    if batch["attributes"] & TIMESTAMP_TYPE:  # then a record's own is what the producer said, until the cleaner comes
        return [record._replace(timestamp=int(batch["max_timestamp"])) for record in records]
    return records


def fault_of(data: bytes, batch: Any) -> Fault:
    """What is wrong with the records, decompressed, of a batch."""
    bytes_ = np.frombuffer(data, dtype=np.uint8)
    return Fault(records_fault(bytes_, 0, len(data), int(batch["record_count"]), int(batch["last_offset_delta"])))


def described(fault: Fault) -> str:
    """What is wrong, in words."""
    return {
        Fault.VARINT: "a length in a record leads out of it",
        Fault.SIZE: "a record is longer or shorter than its parts",
        Fault.ORDER: "the offsets of the records do not rise, or leave the batch",
        Fault.COUNT: "there are more or fewer records than the header counts",
    }[fault]


def decompressed(data: bytes, compression: int) -> bytes:
    """The bytes of the records. Raises UnreadableError."""
    if compression >= len(COMPRESSIONS):
        raise UnreadableError(f"there is no compression {compression}")
    name = COMPRESSIONS[compression]
    try:
        match compression:
            case 0:
                return data
            case 1:
                return bytes(cramjam.gzip.decompress(data))
            case 2:
                return _unsnapped(data)
            case 3:
                return bytes(cramjam.lz4.decompress(data))
            case _:
                return bytes(cramjam.zstd.decompress(data))
    except cramjam.DecompressionError as error:
        raise UnreadableError(f"this is not {name}: {error}") from None


def _unsnapped(data: bytes) -> bytes:
    """Snappy: blocks with their lengths behind snappy-java's header, or one bare block."""
    if not data.startswith(XERIAL):
        return bytes(cramjam.snappy.decompress_raw(data))
    parts, place = [], XERIAL_HEADER_BYTES
    while place < len(data):
        size = int.from_bytes(data[place : place + LENGTH_BYTES], "big", signed=True)
        place += LENGTH_BYTES
        if size < 0 or size > len(data) - place:
            raise UnreadableError(f"a block of {size} bytes of snappy leads out of the batch")
        parts.append(bytes(cramjam.snappy.decompress_raw(data[place : place + size])))
        place += size
    return b"".join(parts)


def _records(data: bytes, first_offset: int, base_timestamp: int, count: int) -> Iterator[Record]:
    """Take apart what `records_fault` found sound."""
    place = 0
    for _ in range(count):
        _, place = _varint(data, place)
        timestamp, place = _varint(data, place + 1)
        delta, place = _varint(data, place)
        key, place = _bytes(data, place)
        value, place = _bytes(data, place)
        header_count, place = _varint(data, place)
        headers = []
        for _ in range(header_count):
            name, place = _bytes(data, place)
            content, place = _bytes(data, place)
            headers.append((name or b"", content))
        yield Record(first_offset + delta, base_timestamp + timestamp, key, value, tuple(headers))


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """The zig-zag number at a place, and where it ends."""
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value >> 1 ^ -(value & 1), place
        shift += 7


def _bytes(data: bytes, place: int) -> tuple[bytes | None, int]:
    """The bytes behind their length, None for a negative one, and where they end."""
    size, place = _varint(data, place)
    return (None, place) if size < 0 else (data[place : place + size], place + size)
