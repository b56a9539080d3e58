"""A history read by several processes, piece by piece, is the one read from beginning to end, mistakes included."""

from __future__ import annotations

import os
import random
from dataclasses import fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hwmark.traces import history_pieces
from hwmark.traces.errors import BadInputError
from hwmark.traces.generator import Shape, write_generated
from hwmark.traces.history import History, read_history
from hwmark.traces.history_pieces import Piece, fits, join, read_piece
from hwmark.traces.history_records import Parser, parse_lines

RECORDED = sorted((Path(__file__).parents[1] / "traces" / "recorded").glob("*.jsonl"))


def from_beginning_to_end(file: Path) -> History | str:
    try:
        with file.open("rb") as lines:
            return parse_lines(lines, str(file))
    except BadInputError as error:
        return str(error)


def in_pieces(file: Path, cuts: list[int]) -> tuple[History | str, int]:
    """What is read with cuts near these bytes, without any process; and how many pieces fitted."""
    parser, number, fitted = Parser(str(file)), 0, 0
    content = file.read_bytes()
    ends = sorted({content.find(b"\n", cut) + 1 or len(content) for cut in [*cuts, len(content)]} | {0})
    try:
        for start, end in pairwise(ends):
            read, columns = read_piece(str(file), Piece(start, end))
            if read is not None and start > 0 and fits(parser, read):
                join(parser, read, columns)
                fitted += 1
                number += read.lines
            else:
                number = history_pieces._take_piece(parser, str(file), Piece(start, end), number)
        return parser.history(number), fitted
    except BadInputError as error:
        return str(error), fitted


def assert_same(one: Any, other: Any) -> None:
    """Require the same columns, of the same types, and the same words."""
    assert type(one) is type(other), (one, other)
    if isinstance(one, np.ndarray):
        assert one.dtype == other.dtype and one.tolist() == other.tolist()
    elif is_dataclass(one):
        for field in fields(one):
            assert_same(getattr(one, field.name), getattr(other, field.name))
    else:
        assert repr(one) == repr(other)


def generated(folder: Path, seed: int) -> Path:
    file = folder / f"{seed}.jsonl"
    write_generated(str(file), Shape(lines=400, transactional=True, seed=seed, group="g"))
    return file


def broken(file: Path, rng: random.Random) -> Path:
    """A file with one thing wrong, or only unusual, somewhere."""
    lines = file.read_text().splitlines()
    at = rng.randrange(1, len(lines) - 1)
    match rng.randrange(6):
        case 0:
            del lines[at]
        case 1:
            lines.insert(at, lines[at])
        case 2:
            lines[at], lines[at + 1] = lines[at + 1], lines[at]
        case 3:
            lines[at] = lines[at][:-1]
        case 4:
            lines[at] = lines[at].replace('"send", 0', '"send", "a name"')
        case _:
            lines[at] = lines[at].replace(", ", ",")
    other = file.with_suffix(".broken.jsonl")
    other.write_text("\n".join(lines) + "\n")
    return other


@pytest.mark.parametrize("seed", range(12))
def test_pieces_make_the_same_history(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng, file = random.Random(seed), generated(tmp_path, seed)
    expected, size, most = from_beginning_to_end(file), file.stat().st_size, 0
    assert isinstance(expected, History)
    for look_back in (1 << 20, 3000, 300):
        monkeypatch.setattr(history_pieces, "LOOK_BACK_BYTES", look_back)
        read, fitted = in_pieces(file, [rng.randrange(size) for _ in range(rng.randint(1, 5))])
        assert_same(read, expected)
        most = max(most, fitted)
    assert most


@pytest.mark.parametrize("seed", range(40))
def test_pieces_meet_the_same_mistakes(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    file = broken(generated(tmp_path, seed % 4), rng)
    read, _ = in_pieces(file, [rng.randrange(file.stat().st_size) for _ in range(3)])
    assert_same(read, from_beginning_to_end(file))


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_recordings_in_pieces(path: Path) -> None:
    size = path.stat().st_size
    read, fitted = in_pieces(path, [size // 3, size // 2])
    assert_same(read, from_beginning_to_end(path))
    assert fitted


needs_fork = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="pieces are read on Linux only")


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three processors, and pieces of any size."""
    monkeypatch.setattr(history_pieces, "PIECE_BYTES", 1000)
    monkeypatch.setattr("hwmark.traces.history_files.PIECE_BYTES", 1000)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})


@needs_fork
@pytest.mark.usefixtures("small_pieces")
def test_processes_read_the_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, joined = generated(tmp_path, 1), []

    def counting_join(*arguments: Any) -> None:
        joined.append(arguments)
        join(*arguments)

    monkeypatch.setattr(history_pieces, "join", counting_join)
    assert_same(read_history(file), from_beginning_to_end(file))
    assert len(joined) == 2
    rng = random.Random(0)
    for _ in range(8):
        other = broken(file, rng)
        try:
            read: History | str = read_history(other)
        except BadInputError as error:
            read = str(error)
        assert_same(read, from_beginning_to_end(other))


@needs_fork
@pytest.mark.usefixtures("small_pieces")
def test_a_process_that_dies_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = generated(tmp_path, 2)
    monkeypatch.setattr(history_pieces, "_read", lambda *_: os._exit(1))
    assert_same(read_history(file), from_beginning_to_end(file))


SENT = '{"process":%d,"type":"%s","f":"send","value":[["send",0,%s]],"time":%d}\n'


def test_an_operation_left_open_long_before_is_not_begun_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "open.jsonl"
    begun, last = SENT % (0, "invoke", 1, 5), SENT % (1, "ok", "[0,2]", 7)
    file.write_text(begun + SENT % (1, "invoke", 2, 6) + last + SENT % (0, "invoke", 3, 8))
    monkeypatch.setattr(history_pieces, "LOOK_BACK_BYTES", 2 * len(last))
    read, _ = in_pieces(file, [file.stat().st_size - len(begun) - 1])
    assert "is open" in str(read)
    assert_same(read, from_beginning_to_end(file))


def test_time_runs_on_from_piece_to_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "back.jsonl"
    file.write_text(
        SENT % (0, "invoke", 1, 5) + SENT % (0, "ok", "[0,1]", 6) + SENT % (1, "invoke", 2, 3) + SENT % (1, "ok", 2, 7)
    )
    monkeypatch.setattr(history_pieces, "LOOK_BACK_BYTES", 1)  # no line is so short
    read, _ = in_pieces(file, [len(SENT % (0, "invoke", 1, 5)) + 3])
    assert "time 3" in str(read)
    assert_same(read, from_beginning_to_end(file))


def test_a_configuration_may_stand_in_any_piece(tmp_path: Path) -> None:
    config = '{"process":"nemesis","type":"info","f":"config","value":{"acks":1},"time":7}\n'
    file = tmp_path / "late.jsonl"
    file.write_text(SENT % (0, "invoke", 1, 5) + SENT % (0, "ok", "[0,1]", 6) + config)
    read, fitted = in_pieces(file, [file.stat().st_size - len(config) - 1])
    assert_same(read, from_beginning_to_end(file))
    assert fitted and isinstance(read, History) and read.configuration == {"acks": 1}
