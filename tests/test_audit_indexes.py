"""Indexes by offset and by time: readers begin where they say, so none may lead too far."""

from __future__ import annotations

import struct
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from log_directories import Broker, batch, kinds, only, report

TIMES = 5, 9, 7, 12
FIRST = 40
LOG = [batch(FIRST + 2 * number, [b"a", b"b"], timestamp=time) for number, time in enumerate(TIMES)]
STARTS = [sum(map(len, LOG[:number])) for number in range(len(LOG))]
SOUND = [(3, STARTS[1]), (5, STARTS[2]), (7, STARTS[3])]
SOUND_TIMES = [(5, 1), (9, 3), (12, 7)]


def written(
    folder: Path,
    offsets: list[tuple[int, int]] = SOUND,
    times: list[tuple[int, int]] = SOUND_TIMES,
    *,
    clean: bool = True,
    flushed: int = 0,
) -> Path:
    """A log of two segments with the first one's indexes."""
    checkpoint = {"recovery-point-offset-checkpoint": flushed}
    partition = Broker(folder, clean=clean).partition(
        {FIRST: b"".join(LOG), FIRST + 8: b""}, epochs=[(0, FIRST)], **checkpoint
    )
    (partition / f"{FIRST:020}.index").write_bytes(b"".join(struct.pack(">ii", *entry) for entry in offsets))
    (partition / f"{FIRST:020}.timeindex").write_bytes(b"".join(struct.pack(">qi", *entry) for entry in times))
    return folder


def test_sound_indexes(tmp_path: Path) -> None:
    assert kinds(written(tmp_path)) == set()


@pytest.mark.parametrize(
    ("offsets", "why"),
    [
        ([(1, STARTS[1])], "lies behind its offset"),
        ([(3, STARTS[1] + 1)], "no batch begins"),
        ([(3, 10**6)], "no batch begins"),
        ([(3, -1)], "no batch begins"),
        ([(5, STARTS[1]), (5, STARTS[2])], "not above that of the entry before"),
        ([(8, STARTS[3])], "beyond the end"),
    ],
)
def test_an_index_that_misleads(tmp_path: Path, offsets: list[tuple[int, int]], why: str) -> None:
    finding = only(written(tmp_path, offsets), "index-misleads")
    assert why in finding.sentence and finding.file is not None and finding.position is not None


@pytest.mark.parametrize(
    ("times", "why"),
    [
        ([(5, 5)], "have a later timestamp"),
        ([(8, 1)], "so late a timestamp"),
        ([(9, 3), (9, 3)], "goes back"),
        ([(9, 5), (12, 3)], "so late a timestamp"),
        ([(12, 8)], "beyond the end"),
    ],
)
def test_an_index_by_time_that_misleads(tmp_path: Path, times: list[tuple[int, int]], why: str) -> None:
    sentences = [finding.sentence for finding in report(written(tmp_path, times=times)).findings]
    assert sum(why in sentence for sentence in sentences) == 1


@pytest.mark.parametrize("clean", [True, False])
def test_an_index_whose_log_is_missing(tmp_path: Path, clean: bool) -> None:
    folder = written(tmp_path, clean=clean)
    (folder / "broker-1" / "t-0" / f"{FIRST:020}.log").unlink()
    assert kinds(folder) == {"bad-file" if clean else "left-out"}


def test_of_damage_the_log_tells(tmp_path: Path) -> None:
    path = written(tmp_path) / "broker-1" / "t-0" / f"{FIRST:020}.log"
    path.write_bytes(path.read_bytes()[: STARTS[1]] + b"\xff" * len(LOG[1]) + b"".join(LOG[2:]))
    assert kinds(tmp_path) == {"corrupt-batch"}


def test_what_a_broker_writes_anew_may_be_wrong(tmp_path: Path) -> None:
    wrong = [(1, STARTS[1])]
    assert kinds(written(tmp_path / "killed", wrong, clean=False)) == set()
    assert kinds(written(tmp_path / "flushed", wrong, clean=False, flushed=FIRST + 8)) == {"index-misleads"}


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from([*STARTS, 1, 10**6]))))
def test_an_index_is_sound_if_it_may_be_asked_for_any_offset(
    tmp_path_factory: pytest.TempPathFactory, offsets: list[tuple[int, int]]
) -> None:
    """As Kafka asks it: the last entry that is not above the offset tells where to begin."""
    folder = written(tmp_path_factory.mktemp("asked"), offsets)
    rising = all(one < other for (one, _), (other, _) in pairwise(offsets))
    inside = all(offset < 8 and position in STARTS for offset, position in offsets)
    found = True
    for wanted in range(8) if rising and inside else ():
        position = max(((offset, place) for offset, place in offsets if offset <= wanted), default=(0, 0))[1]
        found &= position <= STARTS[wanted // 2]
    expected = set() if rising and inside and found else {"index-misleads"}
    assert kinds(folder) == expected
