"""Segments are read as the slow twin reads them, whole and damaged, however they are cut into pieces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hwmark.checkers.audit import plain, segments
from hwmark.checkers.audit.batches import Batches
from hwmark.checkers.audit.crc32c import crc32c, crc32c_by_tables
from hwmark.checkers.audit.layout import Fault, Stop
from hwmark.checkers.audit.records import UnreadableError, decompressed, fault_of, read_records
from hwmark.checkers.audit.segments import Segment, read_segment
from hypothesis import given
from hypothesis import strategies as st
from log_directories import TIMESTAMP, batch, marker, record

COMPRESSIONS = range(5)


def read(path: Path, data: bytes, base_offset: int = 0) -> Segment:
    path.write_bytes(data)
    return read_segment(path, 0, base_offset, lambda _: None)


def columns(segment: Segment) -> Batches:
    return Batches.of((0, piece) for piece in segment.pieces)


def test_crc_of_the_standard() -> None:
    for function in (crc32c, crc32c_by_tables):
        assert function(np.frombuffer(b"123456789", dtype=np.uint8), 0, 9) == 0xE3069283
    assert plain.crc32c(b"123456789") == 0xE3069283


@given(st.binary(max_size=200), st.integers(0, 20), st.integers(0, 20))
def test_crc_by_instruction_by_tables_and_bit_by_bit(data: bytes, start: int, spare: int) -> None:
    start, end = min(start, len(data)), max(len(data) - spare, min(start, len(data)))
    array = np.frombuffer(data, dtype=np.uint8)
    expected = plain.crc32c(data[start:end])
    assert crc32c(array, start, end) == crc32c_by_tables(array, start, end) == expected


@st.composite
def logs(draw: st.DrawFn) -> bytes:
    """Batches one after the other, of all sorts."""
    content, offset = [], draw(st.integers(0, 100))
    for _ in range(draw(st.integers(0, 6))):
        sort = draw(st.integers(0, 5))
        producer = (draw(st.integers(-1, 3)), draw(st.integers(0, 2)), draw(st.integers(-1, 9)))
        values = draw(st.lists(st.none() | st.binary(max_size=30), min_size=1, max_size=3))
        if sort == 5:
            content.append(marker(offset, 1, 0, draw(st.integers(0, 1))))
        else:
            kind: dict[str, Any] = {"compression": sort, "transactional": draw(st.booleans())}
            content.append(batch(offset, values, epoch=draw(st.integers(0, 3)), producer=producer, **kind))
        offset += len(values) + draw(st.integers(0, 1))
    return b"".join(content)


@st.composite
def damaged_logs(draw: st.DrawFn) -> bytes:
    """The same, with bits flipped, bytes cut out or put in, or an end that is missing or zeros."""
    data = bytearray(draw(logs()))
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, max(len(data) - 1, 0)))
        sort = draw(st.integers(0, 4))
        if sort == 0 and data:
            data[place] ^= 1 << draw(st.integers(0, 7))
        elif sort == 1:
            del data[place : place + draw(st.integers(1, 40))]
        elif sort == 2:
            data[place:place] = draw(st.binary(max_size=40))
        elif sort == 3:
            del data[place:]
        else:
            data += bytes(draw(st.integers(1, 80)))
    return bytes(data)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("segments") / "00000000000000000000.log"


def agree(segment: Segment, data: bytes) -> None:
    """The fast reader's answer is the twin's."""
    rows, damages = plain.walk(data, 0)
    found = columns(segment)
    for name in rows[0] if rows else ():
        if name != "is_sound":
            assert found[name].tolist() == [row[name] for row in rows], name
    assert len(found) == len(rows)
    assert [fault <= Fault.NOT_READ for fault in found["fault"].tolist()] == [row["is_sound"] for row in rows]
    assert [(damage.position, damage.end) for damage in segment.damages] == damages


@given(data=damaged_logs())
def test_agrees_with_the_twin(path: Path, data: bytes) -> None:
    agree(read(path, data), data)


@given(data=damaged_logs(), piece=st.integers(1, 200))
def test_agrees_when_read_in_small_pieces(path: Path, data: bytes, piece: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "PIECE_BYTES", piece)
        patch.setattr(segments, "ROWS", 1)
        agree(read(path, data), data)


@given(data=logs(), at=st.integers(0), bit=st.integers(0, 7))
def test_a_flipped_bit_under_the_crc_is_damage(path: Path, data: bytes, at: int, bit: int) -> None:
    rows, _ = plain.walk(data, 0)
    if not rows:
        return
    row = rows[at % len(rows)]
    place = row["position"] + 12 + 4 + at % (row["size"] - 16)  # the magic, the CRC, and what it covers
    broken = bytearray(data)
    broken[place] ^= 1 << bit
    (damage,) = read(path, bytes(broken)).damages
    assert (damage.position, damage.end) == (row["position"], row["position"] + row["size"])
    assert damage.reason == (Stop.MAGIC if place == row["position"] + 16 else Stop.CRC)


@given(
    values=st.lists(st.none() | st.binary(max_size=50), min_size=1, max_size=5),
    compression=st.sampled_from(COMPRESSIONS),
)
def test_records_come_back(path: Path, values: list[bytes | None], compression: int) -> None:
    segment = read(path, batch(7, values, compression=compression, keys=[b"k"] * len(values)))
    with path.open("rb") as file:
        found = read_records(file.fileno(), columns(segment)[0])
    assert [(r.offset, r.key, r.value) for r in found] == [(7 + i, b"k", value) for i, value in enumerate(values)]
    assert {r.timestamp for r in found} == {TIMESTAMP} and {r.headers for r in found} == {()}


def test_headers_come_back(path: Path) -> None:
    headers = ((b"one", b"1"), (b"none", None))
    segment = read(path, batch(0, [b"v"], content=record(0, None, b"v", headers)))
    with path.open("rb") as file:
        assert read_records(file.fileno(), columns(segment)[0])[0].headers == headers


@given(st.sampled_from([1, 2, 3, 4]), st.binary(max_size=40))
def test_what_is_not_compressed_is_refused_or_read(compression: int, data: bytes) -> None:
    try:
        assert isinstance(decompressed(data, compression), bytes)
    except UnreadableError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("compression", [5, 6, 7])
def test_an_unknown_compression(compression: int) -> None:
    with pytest.raises(UnreadableError, match=f"no compression {compression}"):
        decompressed(b"", compression)


@given(st.lists(st.integers(-1, 4), max_size=4), st.binary(max_size=6), st.integers(-1, 4), st.integers(0, 4))
def test_the_records_are_judged_as_the_twin_does(deltas: list[int], rest: bytes, count: int, last: int) -> None:
    content = b"".join(record(delta, None, b"v") for delta in deltas) + rest
    row = {"record_count": count, "last_offset_delta": last}
    assert (fault_of(content, row) == Fault.NONE) == plain.are_sound(content, count, last)


def test_a_file_that_becomes_shorter_is_an_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(batch(0) * 3)
    monkeypatch.setattr(segments, "PIECE_BYTES", 10)

    def cut(_: int) -> None:
        path.write_bytes(b"")

    with pytest.raises(OSError, match="became shorter"):
        read_segment(path, 0, 0, cut)
