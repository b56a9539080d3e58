"""Writes brokers' log directories byte by byte, for the tests of the audit; and unpacks the recorded ones."""

from __future__ import annotations

import struct
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cramjam
from hwmark.checkers.audit import AuditReport, Finding, audit, find_log_directories, plain

RECORDED = Path(__file__).parent / "data" / "log-directories"
HEADER = struct.Struct(">qiiBIhiqqqhii")
TIMESTAMP = 1_700_000_000_000
TRANSACTIONAL, CONTROL = 16, 32
ABORT, COMMIT = 0, 1
CLUSTER = "a-test-cluster"
OWN: list[tuple[int, int]] = []


def unpacked(name: str, folder: Path) -> Path:
    """A recorded cluster's folder, with a log directory for each broker."""
    with tarfile.open(RECORDED / f"{name}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder / name


def varint(number: int) -> bytes:
    value = (number << 1 ^ number >> 63) & 2**64 - 1
    written = bytearray()
    while value > 127:
        written.append(value & 127 | 128)
        value >>= 7
    return bytes([*written, value])


def nullable(content: bytes | None) -> bytes:
    return varint(-1) if content is None else varint(len(content)) + content


def record(
    delta: int,
    key: bytes | None,
    value: bytes | None,
    headers: Sequence[tuple[bytes, bytes | None]] = (),
    time: int = 0,
) -> bytes:
    body = b"\0" + varint(time) + varint(delta) + nullable(key) + nullable(value) + varint(len(headers))
    body += b"".join(nullable(name) + nullable(content) for name, content in headers)
    return varint(len(body)) + body


def xerial(data: bytes) -> bytes:
    """Snappy as Java's clients frame it, in two blocks."""
    half = len(data) // 2
    blocks = [bytes(cramjam.snappy.compress_raw(part)) for part in (data[:half], data[half:])]
    framed = b"".join(len(block).to_bytes(4, "big") + block for block in blocks)
    return b"\x82SNAPPY\0" + (1).to_bytes(4, "big") + (1).to_bytes(4, "big") + framed


COMPRESS = {
    0: bytes,
    1: lambda data: bytes(cramjam.gzip.compress(data)),
    2: xerial,
    3: lambda data: bytes(cramjam.lz4.compress(data)),
    4: lambda data: bytes(cramjam.zstd.compress(data)),
}


def batch(
    offset: int,
    values: Iterable[bytes | None] = (b"value",),
    *,
    epoch: int = 0,
    producer: tuple[int, int, int] = (-1, -1, -1),
    transactional: bool = False,
    compression: int = 0,
    keys: Sequence[bytes | None] | None = None,
    deltas: Sequence[int] | None = None,
    last_delta: int | None = None,
    timestamp: int = TIMESTAMP,
    attributes: int = 0,
    content: bytes | None = None,
    count: int | None = None,
) -> bytes:
    """A batch; `producer` is its id, epoch and base sequence. `content` and `count` may be given against the values."""
    values = list(values)
    keys = keys or [None] * len(values)
    deltas = list(range(len(values))) if deltas is None else list(deltas)
    if content is None:
        records = zip(deltas, keys, values, strict=True)
        content = COMPRESS[compression](b"".join(record(delta, key, value) for delta, key, value in records))
    bits = attributes | compression | TRANSACTIONAL * transactional
    last = (len(values) - 1 if last_delta is None else last_delta) if values or last_delta is not None else 0
    number, producer_epoch, sequence = producer
    fields: list[Any] = [offset, HEADER.size - 12 + len(content), epoch, 2, 0, bits, last]
    fields += [timestamp, timestamp, number, producer_epoch, sequence, len(values) if count is None else count]
    fields[4] = plain.crc32c(HEADER.pack(*fields)[21:] + content)
    return HEADER.pack(*fields) + content


def marker(offset: int, producer_id: int, producer_epoch: int, kind: int, *, epoch: int = 0) -> bytes:
    """The control batch that ends a transaction."""
    producer = (producer_id, producer_epoch, -1)
    return batch(
        offset,
        [struct.pack(">hi", 0, 0)],
        keys=[struct.pack(">hh", 0, kind)],
        producer=producer,
        transactional=True,
        attributes=CONTROL,
        epoch=epoch,
    )


def resealed(data: bytes) -> bytes:
    """A batch with its CRC made right."""
    crc = plain.crc32c(data[21:])
    return data[:17] + crc.to_bytes(4, "big") + data[21:]


def epochs_of(segments: dict[int, bytes]) -> list[tuple[int, int]]:
    """The leader epochs of a log with the offset at which each begins."""
    rows = [row for base, content in sorted(segments.items()) for row in plain.walk(bytes(content), base)[0]]
    found: dict[int, int] = {}
    for row in rows:
        found.setdefault(row["leader_epoch"], row["base_offset"])
    return list(found.items())


def report(*folders: Path, **options: Any) -> AuditReport:
    """What an audit says of log directories, or of a folder with some."""
    return audit(find_log_directories(map(str, folders)), workers=1, **options)


def kinds(folder: Path, **options: Any) -> set[str]:
    """The kinds of all findings."""
    return {finding.kind for finding in report(folder, **options).findings}


def only(folder: Path, kind: str) -> Finding:
    """The one finding, of this kind."""
    (finding,) = report(folder).findings
    assert finding.kind == kind and finding.sentence and "\n" not in finding.sentence
    return finding


def data(offset: int, sequence: int, *, epoch: int = 0, n: int = 1, **more: Any) -> bytes:
    """A batch of producer 7."""
    return batch(offset, [b"v"] * n, producer=(7, epoch, sequence), **more)


def producing(folder: Path, *batches: bytes, **options: Any) -> set[str]:
    """The kinds of findings in a log of these batches."""
    Broker(folder).partition(batches)
    return kinds(folder, **options)


class Broker:
    """A broker's log directory that is being written."""

    def __init__(self, folder: Path, node: int = 1, *, clean: bool = True) -> None:
        self.folder = folder / f"broker-{node}"
        self.folder.mkdir(parents=True)
        (self.folder / "meta.properties").write_text(f"#\nversion=1\nnode.id={node}\ncluster.id={CLUSTER}\n")
        self._offsets: dict[str, dict[tuple[str, int], int]] = {}
        if clean:
            (self.folder / ".kafka_cleanshutdown").write_text('{"version":0}')

    def partition(
        self,
        segments: dict[int, bytes] | Iterable[bytes],
        *,
        topic: str = "t",
        number: int = 0,
        epochs: Sequence[tuple[int, int]] | None = OWN,
        high_watermark: int | None = None,
        topic_id: str | None = None,
        aborted: dict[int, Iterable[tuple[int, ...]]] | None = None,
        **checkpoints: int,
    ) -> Path:
        """Write a partition; `epochs` are the log's own.

        `aborted` are by segment producer id, first and last offset, and last stable offset if it is not the next one.
        """
        folder = self.folder / f"{topic}-{number}"
        folder.mkdir()
        if not isinstance(segments, dict):
            segments = {0: b"".join(segments)}
        for base, content in segments.items():
            (folder / f"{base:020}.log").write_bytes(content)
        for base, entries in (aborted or {}).items():
            packed = b"".join(struct.pack(">hqqqq", 0, *(*entry, entry[2] + 1)[:4]) for entry in entries)
            (folder / f"{base:020}.txnindex").write_bytes(packed)
        if epochs is OWN:
            epochs = epochs_of(segments)
        if epochs is not None:
            lines = "".join(f"{epoch} {start}\n" for epoch, start in epochs)
            (folder / "leader-epoch-checkpoint").write_text(f"0\n{len(epochs)}\n{lines}")
        if topic_id is not None:
            (folder / "partition.metadata").write_text(f"version: 0\ntopic_id: {topic_id}")
        if high_watermark is not None:
            checkpoints["replication-offset-checkpoint"] = high_watermark
        for name, offset in checkpoints.items():
            self.checkpoint(name, topic, number, offset)
        return folder

    def checkpoint(self, name: str, topic: str, number: int, offset: int) -> None:
        """Add an entry to a checkpoint of offsets."""
        held = self._offsets.setdefault(name, {})
        held[topic, number] = offset
        lines = "".join(f"{topic} {number} {offset}\n" for (topic, number), offset in held.items())
        (self.folder / name).write_text(f"0\n{len(held)}\n{lines}")
