"""The layout of a record batch on disk (message format v2).

Source: Kafka's `DefaultRecordBatch` and `DefaultRecord`. Numbers are big-endian. The CRC (CRC-32C) covers everything
from the attributes to the batch's end; the base offset, the length, the leader epoch and the magic before it are only
guarded by what surrounds them.
"""

from __future__ import annotations

from enum import IntEnum

# Where a batch's fields begin, in bytes from its own beginning.
BASE_OFFSET, LENGTH, LEADER_EPOCH, MAGIC, CRC, ATTRIBUTES, LAST_OFFSET_DELTA = 0, 8, 12, 16, 17, 21, 23
BASE_TIMESTAMP, MAX_TIMESTAMP, PRODUCER_ID, PRODUCER_EPOCH, BASE_SEQUENCE, COUNT, RECORDS = 27, 35, 43, 51, 53, 57, 61

BEFORE_LENGTH = 12
"""What the length field does not count."""
HEADER_BYTES = RECORDS
LENGTH_MIN = HEADER_BYTES - BEFORE_LENGTH
MAGIC_V2 = 2

# Bits of the attributes.
COMPRESSION_MASK, TIMESTAMP_TYPE, TRANSACTIONAL, CONTROL, DELETE_HORIZON = 7, 8, 16, 32, 64

NO_PRODUCER_ID, NO_SEQUENCE, NO_LEADER_EPOCH = -1, -1, -1
SEQUENCES = 2**31
"""After the largest sequence number comes 0 again."""

ABORT, COMMIT = 0, 1
"""Types of control records that end a transaction."""
NOT_CONTROL, CONTROL_EMPTY = -1, -2
"""Columns of batches that are no control batches, and of those whose record was cleaned away."""


class Stop(IntEnum):
    """Why a walk over batches ended where it did."""

    END = 0
    """All bytes are used up, or those left begin a batch that more bytes may complete."""
    FULL = 1
    """There is no room for more rows."""
    LENGTH = 2
    """The length field cannot be one."""
    MAGIC = 3
    """This is no message format, or one from before v2."""
    CRC = 4
    """The CRC is not that of the batch's bytes."""


class Fault(IntEnum):
    """What is wrong with the records inside a batch whose CRC is right."""

    NONE = 0
    NOT_READ = 1
    """They are compressed; `records` reads them."""
    VARINT = 2
    """A number does not end, or a length is negative or leads out of the record."""
    SIZE = 3
    """A record's parts are longer or shorter than the record."""
    ORDER = 4
    """Offsets within the batch do not rise, or leave it."""
    COUNT = 5
    """There are more or fewer records than the header counts."""
