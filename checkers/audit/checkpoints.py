"""The small files beside the logs: checkpoints, properties, indexes of aborted transactions, producer snapshots.

Sources: Kafka's `CheckpointFile`, `OffsetCheckpointFile`, `LeaderEpochCheckpointFile`, `MetaProperties`,
`PartitionMetadataFile`, `AbortedTxn`, `ProducerStateManager`. What is not as it should be raises BadFileError: a log
directory may be damaged, so that is a finding and does not end an audit.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from hwmark.checkers.audit.crc32c import crc32c
from numpy.typing import NDArray

Partition = tuple[str, int]

HIGH_WATERMARKS = "replication-offset-checkpoint"
RECOVERY_POINTS = "recovery-point-offset-checkpoint"
LOG_STARTS = "log-start-offset-checkpoint"
CLEANER_OFFSETS = "cleaner-offset-checkpoint"
LEADER_EPOCHS = "leader-epoch-checkpoint"
META_PROPERTIES = "meta.properties"
PARTITION_METADATA = "partition.metadata"
CLEAN_SHUTDOWN = ".kafka_cleanshutdown"
LOCK = ".lock"

ABORTED = np.dtype(
    [("version", ">i2"), ("producer_id", ">i8"), ("first_offset", ">i8"), ("last_offset", ">i8"), ("stable", ">i8")]
)
"""An entry of a .txnindex file; `stable` is the last stable offset when the transaction was aborted."""
PRODUCER = np.dtype(
    [
        ("producer_id", ">i8"),
        ("epoch", ">i2"),
        ("last_sequence", ">i4"),
        ("last_offset", ">i8"),
        ("offset_delta", ">i4"),
        ("timestamp", ">i8"),
        ("coordinator_epoch", ">i4"),
        ("transaction_start", ">i8"),
    ]
)
"""An entry of a .snapshot file."""
LARGEST = 2**63 - 1
SNAPSHOT_VERSION = 1
SNAPSHOT_HEADER_BYTES = 10
SNAPSHOT_CRC_FROM = 6


class BadFileError(ValueError):
    """A file of a log directory that is not as Kafka writes it; the message says what and where."""


class Epoch(NamedTuple):
    """A leader epoch and the first offset that its leader wrote, or would have written."""

    leader_epoch: int
    start_offset: int


class ProducerSnapshot(NamedTuple):
    """What a broker knew of the producers of a partition when its log ended at `offset`."""

    offset: int
    producers: NDArray[np.void]


def read_offsets(path: Path) -> dict[Partition, int]:
    """A checkpoint of one offset for each partition; nothing if there is no file. Raises BadFileError, OSError."""
    found: dict[Partition, int] = {}
    for line, text in _entries(path):
        topic, _, rest = text.partition(" ")
        numbers = rest.split(" ")
        if len(numbers) != 2 or not topic:
            raise BadFileError(f"line {line}: expected a topic, a partition and an offset, not {text!r}")
        found[topic, _number(line, numbers[0])] = _number(line, numbers[1])
    return found


def read_epochs(path: Path) -> list[Epoch]:
    """A leader-epoch-checkpoint, in its own order. Raises BadFileError, OSError."""
    found = []
    for line, text in _entries(path):
        numbers = text.split(" ")
        if len(numbers) != 2:
            raise BadFileError(f"line {line}: expected a leader epoch and an offset, not {text!r}")
        found.append(Epoch(_number(line, numbers[0]), _number(line, numbers[1])))
    return found


def _entries(path: Path) -> list[tuple[int, str]]:
    """The entries of a checkpoint file with their line numbers: after its version and how many there are."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    try:
        lines = content.decode().splitlines()
    except UnicodeDecodeError as error:
        raise BadFileError(f"byte {error.start}: this is not text") from None
    if not lines:  # created, and never written to
        return []
    if lines[0].strip() != "0":
        raise BadFileError(f"line 1: expected the version 0, not {lines[0]!r}")
    count = _number(2, lines[1]) if len(lines) > 1 else -1
    entries = [(number, line) for number, line in enumerate(lines[2:], start=3) if line.strip()]
    if count != len(entries):
        raise BadFileError(f"line 2: {count} entries are announced, and there are {len(entries)}")
    return entries


def _number(line: int, text: str) -> int:
    """The number in a field."""
    try:
        number = int(text)
    except ValueError:
        number = LARGEST + 1
    if not -LARGEST <= number <= LARGEST:
        raise BadFileError(f"line {line}: expected a number of 64 bits, not {text!r}")
    return number


def read_properties(path: Path) -> dict[str, str]:
    """A file of Java properties as Kafka writes them, one in a line. Raises BadFileError, OSError."""
    try:
        lines = path.read_text().splitlines()
    except UnicodeDecodeError as error:
        raise BadFileError(f"byte {error.start}: this is not text") from None
    pairs = (line.partition("=") for line in lines if line.strip() and not line.startswith(("#", "!")))
    return {name.strip(): value.strip() for name, _, value in pairs}


def read_topic_id(path: Path) -> str | None:
    """The topic id of a partition.metadata file, None if there is no file. Raises BadFileError, OSError."""
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise BadFileError(f"byte {error.start}: this is not text") from None
    named = dict(line.split(": ", 1) for line in lines if ": " in line)
    if named.get("version") != "0" or "topic_id" not in named:
        raise BadFileError("expected a line 'version: 0' and a line 'topic_id: ID'")
    return named["topic_id"]


def read_aborted(path: Path) -> NDArray[np.void]:
    """The entries of a .txnindex file, none if there is no file. Raises BadFileError, OSError."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        content = b""
    if extra := len(content) % ABORTED.itemsize:
        raise BadFileError(f"byte {len(content) - extra}: the last entry has {extra} bytes of {ABORTED.itemsize}")
    entries = np.frombuffer(content, dtype=ABORTED)
    for number in np.flatnonzero(entries["version"] != 0)[:1]:
        version = entries["version"][number]
        raise BadFileError(f"byte {number * ABORTED.itemsize}: the entry's version is {version}, expected 0")
    return entries


def read_snapshot(path: Path) -> ProducerSnapshot:
    """A .snapshot file. Raises BadFileError, OSError."""
    content = path.read_bytes()
    if len(content) < SNAPSHOT_HEADER_BYTES:
        raise BadFileError(f"it has {len(content)} bytes, fewer than its header")
    version = int.from_bytes(content[:2], "big", signed=True)
    if version != SNAPSHOT_VERSION:
        raise BadFileError(f"byte 0: the version is {version}, expected {SNAPSHOT_VERSION}")
    stored = int.from_bytes(content[2:SNAPSHOT_CRC_FROM], "big")
    computed = int(crc32c(np.frombuffer(content, dtype=np.uint8), SNAPSHOT_CRC_FROM, len(content)))
    if stored != computed:
        raise BadFileError(f"byte 2: the CRC is {stored:08x}, that of the content {computed:08x}")
    count = int.from_bytes(content[SNAPSHOT_CRC_FROM:SNAPSHOT_HEADER_BYTES], "big", signed=True)
    if count * PRODUCER.itemsize != len(content) - SNAPSHOT_HEADER_BYTES:
        raise BadFileError(f"byte {SNAPSHOT_CRC_FROM}: {count} entries do not fill the rest of the file")
    return ProducerSnapshot(int(path.stem), np.frombuffer(content, dtype=PRODUCER, offset=SNAPSHOT_HEADER_BYTES))
