"""Damage of every sort to one replica of a healthy cluster: below the high watermark of all, none goes unseen.

What goes unseen elsewhere is harmless, or nobody could know: above the high watermark a follower may have more or less
than another; of a compacted log anything may be gone that is superseded; a snapshot of producers with a wrong CRC, a
lower high watermark and a lower recovery point are what a broker finds again; the largest timestamp of a batch of a
compacted log is no record's.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hwmark.checkers.audit import layout
from hwmark.checkers.audit.batches import Batches
from hwmark.checkers.audit.findings import Weight
from hwmark.checkers.audit.segments import read_segment
from hypothesis import given
from hypothesis import strategies as st
from log_directories import report, resealed, unpacked

TOPICS = "plain-0", "idem-1", "txn-0", "zstd-0", "out-0"
COMPACTED = "compacted-0", "__transaction_state-0", "__consumer_offsets-0"
BROKERS = 1, 2, 3
Row = dict[str, Any]
FIELDS = {
    "base offset": (layout.BASE_OFFSET, 8),
    "leader epoch": (layout.LEADER_EPOCH, 4),
    "attributes": (layout.ATTRIBUTES, 2),
    "last offset delta": (layout.LAST_OFFSET_DELTA, 4),
    "max timestamp": (layout.MAX_TIMESTAMP, 8),
    "producer id": (layout.PRODUCER_ID, 8),
    "producer epoch": (layout.PRODUCER_EPOCH, 2),
    "base sequence": (layout.BASE_SEQUENCE, 4),
    "count": (layout.COUNT, 4),
}
KEPT = "leader epoch", "producer id", "producer epoch", "base sequence"


def changed(name: str, by: int) -> Callable[[bytes, Row], bytes]:
    """A field of a batch becomes another, and the CRC is right."""
    at, size = FIELDS[name]

    def change(content: bytes, row: Row) -> bytes:
        start, end = row["position"], row["position"] + row["size"]
        one = bytearray(content[start:end])
        number = (int.from_bytes(one[at : at + size], "big") + by) % 2 ** (8 * size)
        one[at : at + size] = number.to_bytes(size, "big")
        return content[:start] + (resealed(bytes(one)) if at >= layout.ATTRIBUTES else bytes(one)) + content[end:]

    return change


def dropped(content: bytes, row: Row) -> bytes:
    return content[: row["position"]] + content[row["position"] + row["size"] :]


def repeated(content: bytes, row: Row) -> bytes:
    end: int = row["position"] + row["size"]
    return content[:end] + content[row["position"] : end] + content[end:]


def cut(content: bytes, row: Row) -> bytes:
    return content[: row["position"] + row["size"] // 2]


def cut_in_the_middle(content: bytes, row: Row) -> bytes:
    return content[: row["position"] + 20] + content[row["position"] + row["size"] - 5 :]


def turned(content: bytes, row: Row) -> bytes:
    """A commit becomes an abort, or the other way round; what is no marker gets another record."""
    start, end = row["position"], row["position"] + row["size"]
    one = bytearray(content[start:end])
    place = one.find(struct.pack(">hh", 0, row["control_type"]), layout.RECORDS) + 3
    one[place if row["control_type"] in (layout.ABORT, layout.COMMIT) else -2] ^= 1
    return content[:start] + resealed(bytes(one)) + content[end:]


CHANGES = st.builds(changed, st.sampled_from(sorted(FIELDS)), st.sampled_from([1, -1, 2, 100]))
DAMAGES = st.one_of(CHANGES, st.sampled_from([dropped, repeated, cut, cut_in_the_middle, turned]))
OF_RECORDS = st.one_of(
    st.builds(changed, st.sampled_from(KEPT), st.sampled_from([1, -1, 2, 100])),
    st.sampled_from([repeated, cut, cut_in_the_middle]),
)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damaged")
    return unpacked("healthy-k4", folder)


def batches_of(folder: Path) -> list[tuple[Path, Row]]:
    """The batches with records of a replica, each with its file; of a compacted log those that are no markers."""
    found = []
    for path in sorted(folder.glob("*.log")):
        batches = Batches.of((0, piece) for piece in read_segment(path, 0, int(path.stem), lambda _: None).pieces)
        chosen = batches["record_count"] > 0
        if folder.name in COMPACTED:
            chosen &= batches["control_type"] == layout.NOT_CONTROL
        found += [(path, batches[int(row)]) for row in chosen.nonzero()[0]]
    return found


@cache
def committed(folders: tuple[Path, ...]) -> list[list[tuple[Path, Row]]]:
    """Of each replica the batches that all have, and know to be committed."""
    (partition,) = report(*folders).partitions
    end = min(replica["high_watermark"] for replica in partition["replicas"])
    start = max(replica["log_start"] for replica in partition["replicas"])
    held = [batches_of(folder) for folder in folders]
    common = set.intersection(*({row["base_offset"] for _, row in one} for one in held)) & set(range(start, end))
    return [[(path, row) for path, row in one if row["base_offset"] in common] for one in held]


def is_seen(cluster: Path, topic: str, broker: int, at: int, damage: Callable[[bytes, Row], bytes]) -> bool:
    """Whether the damage to one of these batches is a violation."""
    folders = tuple(cluster / f"broker-{number}" / topic for number in BROKERS)
    rows = committed(folders)[broker - 1]
    path, row = rows[at % len(rows)]
    content = path.read_bytes()
    path.write_bytes(damage(content, row))
    try:
        return bool(report(*folders, every_record=True).of_weight(Weight.VIOLATION))
    finally:
        path.write_bytes(content)


@given(st.sampled_from(TOPICS), st.sampled_from(BROKERS), st.integers(0), DAMAGES)
def test_any_damage_to_what_was_committed_is_seen(
    cluster: Path, topic: str, broker: int, at: int, damage: Callable[[bytes, Row], bytes]
) -> None:
    assert is_seen(cluster, topic, broker, at, damage)


@given(st.sampled_from(COMPACTED), st.sampled_from(BROKERS), st.integers(0), OF_RECORDS)
def test_records_of_compacted_logs_cannot_change(
    cluster: Path, topic: str, broker: int, at: int, damage: Callable[[bytes, Row], bytes]
) -> None:
    assert is_seen(cluster, topic, broker, at, damage)
