"""Records of the internal topics in every version, against Kafka's message definitions."""

from __future__ import annotations

import struct

import pytest
from hwmark.checkers.audit.internal import (
    GroupOffset,
    MalformedError,
    TransactionState,
    TransactionStatus,
    group_offset,
    transaction_state,
)
from hwmark.checkers.audit.records import Record, UnreadableError, decompressed
from hypothesis import given
from hypothesis import strategies as st

OFFSET_KEY = struct.pack(">hh", 1, 1) + b"g" + struct.pack(">h", 1) + b"t" + struct.pack(">i", 3)
TRANSACTION_KEY = struct.pack(">hh", 0, 1) + b"x"
META = struct.pack(">h", 1) + b"m"


def record(key: bytes | None, value: bytes | None) -> Record:
    return Record(9, 77, key, value, ())


@pytest.mark.parametrize(
    ("value", "epoch"),
    [
        (struct.pack(">hq", 0, 42) + META + struct.pack(">q", 5), -1),
        (struct.pack(">hq", 1, 42) + META + struct.pack(">qq", 5, 6), -1),
        (struct.pack(">hq", 2, 42) + META + struct.pack(">q", 5), -1),
        (struct.pack(">hqi", 3, 42, 8) + META + struct.pack(">q", 5), 8),
        (struct.pack(">hqi", 4, 42, 8) + b"\x02m" + struct.pack(">q", 5) + b"\0", 8),
    ],
)
@pytest.mark.parametrize("version", [0, 1])
def test_committed_offsets(version: int, value: bytes, epoch: int) -> None:
    key = struct.pack(">h", version) + OFFSET_KEY[2:]
    assert group_offset(record(key, value)) == GroupOffset("g", "t", 3, 42, epoch, 5)


def test_a_deleted_offset_and_other_records_of_groups() -> None:
    assert group_offset(record(OFFSET_KEY, None)) == GroupOffset("g", "t", 3, None, -1, 77)
    for version in (2, 3, 15, 99):
        assert group_offset(record(struct.pack(">hh", version, 1) + b"g", b"")) is None


OLD = struct.pack(">hqhibi", 0, 7, 2, 60_000, 1, 1) + b"\0\1t" + struct.pack(">iiiqq", 2, 0, 5, 11, 10)
# Version 1 has compact strings and arrays, and tagged fields in its partitions and at the end.
NEW = struct.pack(">hqhib", 1, 7, 2, 60_000, 1) + b"\x02\x02t\x03" + struct.pack(">ii", 0, 5) + b"\1\7\2ab"
NEW += struct.pack(">qq", 11, 10) + b"\0"


@pytest.mark.parametrize("value", [OLD, NEW])
def test_transactions(value: bytes) -> None:
    expected = TransactionState("x", 7, 2, TransactionStatus.ONGOING, frozenset({("t", 0), ("t", 5)}), 11)
    assert transaction_state(record(TRANSACTION_KEY, value)) == expected


@pytest.mark.parametrize(
    "nothing", [struct.pack(">hqhibi", 0, 7, 2, 1, 4, -1), struct.pack(">hqhib", 1, 7, 2, 1, 4) + b"\0"]
)
def test_a_transaction_without_partitions(nothing: bytes) -> None:
    found = transaction_state(record(TRANSACTION_KEY, nothing + struct.pack(">qq", 11, -1) + b"\0"))
    assert found is not None and found.partitions == frozenset() and found.status is TransactionStatus.COMPLETE_COMMIT


def test_a_forgotten_transactional_id() -> None:
    assert transaction_state(record(TRANSACTION_KEY, None)) is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"\0\1\0\1x", OLD),
        (TRANSACTION_KEY, b"\0\2"),
        (TRANSACTION_KEY, OLD[:16] + b"\x08" + OLD[17:]),
        (b"", OLD),
        (None, OLD),
    ],
)
def test_transactions_that_are_not_understood(key: bytes | None, value: bytes) -> None:
    with pytest.raises(MalformedError):
        transaction_state(record(key, value))


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(key: bytes, value: bytes) -> None:
    for read in (group_offset, transaction_state):
        for one, other in ((key, value), (OFFSET_KEY, value), (TRANSACTION_KEY, value), (key, None)):
            try:
                read(record(one, other))
            except MalformedError as error:
                assert "\n" not in str(error)


@given(st.integers(0, 60))
def test_a_value_that_is_cut_is_refused(kept: int) -> None:
    for value in (OLD, NEW):
        if kept < len(value) - 9:  # what comes after the last change of the transaction is not read
            with pytest.raises(MalformedError):
                transaction_state(record(TRANSACTION_KEY, value[:kept]))


@pytest.mark.parametrize("size", [-4, -1, 5, 2**31 - 1])
def test_blocks_of_snappy_that_lead_out_of_the_batch(size: int) -> None:
    framed = b"\x82SNAPPY\0" + struct.pack(">iii", 1, 1, size) + b"\1\0a"
    with pytest.raises(UnreadableError, match=f"block of {size} bytes"):
        decompressed(framed, 2)
