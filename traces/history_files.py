"""The file of a history: compressed or not, JSON or EDN, a record on each line or one list of records.

What it is shows in its first bytes, never in its name; standard input may be any of these too. A file is read a piece
at a time, and only a list of records is held in memory as a whole.
"""

from __future__ import annotations

import gc
import gzip
import io
import os
import re
import stat
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from typing import IO, Any, BinaryIO, NamedTuple

from hwmark.traces.errors import BadInputError
from hwmark.traces.history import History
from hwmark.traces.history_blocks import take_lines, take_records
from hwmark.traces.history_columns import Columns
from hwmark.traces.history_edn import decode_edn, is_blank
from hwmark.traces.history_edn_text import MAY_NEED_RESTORING, restored
from hwmark.traces.history_lines import MalformedError, decode
from hwmark.traces.history_lists import Element, NotAListError, elements_of
from hwmark.traces.history_pieces import PIECE_BYTES, Piece, pieces_of, take_pieces
from hwmark.traces.history_records import Parser

STANDARD_INPUT = "standard input"
EXPECTED_FILE = "expected a history, JSON lines or EDN"

BLOCK_BYTES = 1 << 18
ELEMENTS = 1000

Take = Callable[[Parser, Sequence[bytes], Sequence[int]], None]
See = Callable[[Sequence[Any], Sequence[int]], None]

_BLANK = rb"(?:[\s,]|;[^\n]*\n)*"
_LIST_START = re.compile(_BLANK + rb"[\[(]")
_EDN_START = re.compile(rb"[\s,]*;|" + _BLANK + rb"(?:[#(]|\{[\s,]*:|\[" + _BLANK + rb"(?:[#;(]|\{[\s,]*:))")
_GZIP = b"\x1f\x8b"


def read(path: str, *, lenient: bool = False) -> History:
    """The history in a file, or on standard input if `path` is "-"; raises BadInputError."""
    if path == "-":
        return read_stream(sys.stdin.buffer, STANDARD_INPUT, lenient=lenient)
    try:
        with open(path, "rb") as stream:
            if not lenient and (pieces := _pieces(stream)):
                return _read_pieces(path, pieces)
            return read_stream(stream, path, lenient=lenient)
    except OSError as error:
        raise BadInputError(path, None, f"cannot be read: {error.strerror}; {EXPECTED_FILE}") from error


def _pieces(stream: BinaryIO) -> list[Piece]:
    """The pieces of a large file of JSON lines; none for any other."""
    status = os.fstat(stream.fileno())
    if not stat.S_ISREG(status.st_mode) or status.st_size < 2 * PIECE_BYTES:
        return []
    start = stream.read(BLOCK_BYTES)
    stream.seek(0)
    is_packed, layout = start.startswith(_GZIP), _layout_of(start)
    pieces = [] if is_packed or layout.is_edn or layout.is_list else pieces_of(stream, status.st_size)
    return pieces if len(pieces) > 1 else []


def _read_pieces(path: str, pieces: Sequence[Piece]) -> History:
    """The history in a file, its pieces read at once."""
    parser = Parser(path)
    with _no_garbage_collection():
        return parser.history(take_pieces(parser, path, pieces))


def read_stream(stream: IO[bytes], file: str, *, lenient: bool = False) -> History:
    """The history in a stream of bytes, which `file` names in errors; raises BadInputError."""
    parser = Parser(file, lenient=lenient)
    with _no_garbage_collection():
        return parser.history(_take_all(parser, Source(stream)))


def scan_stream(stream: IO[bytes], file: str, see: See) -> None:
    """Check the history in a stream as `read_stream` does, and show its records, but keep none of them.

    `see` gets the records of a block, which are part of a history up to there, and the lines in which they begin.
    """

    def take_json(parser: Parser, texts: Sequence[bytes], numbers: Sequence[int]) -> None:
        _take_each(parser, texts, numbers, decode, show)

    def take_edn(parser: Parser, texts: Sequence[bytes], numbers: Sequence[int]) -> None:
        _take_each(parser, texts, numbers, _decode_edn_record, show, is_blank)

    def show(parser: Parser, records: Sequence[Any], lines: Sequence[int]) -> None:
        take_records(parser, records, lines)
        scanner.forget()
        see(records, lines)

    scanner = _Scanner(file)
    with _no_garbage_collection():
        scanner.history(_take_all(scanner, Source(stream), take_json, take_edn))


class _Scanner(Parser):
    """A parser that does not keep what it takes, but for the operations that are under way."""

    operations = 0

    def forget(self) -> None:
        """Let go of all that was taken."""
        self.operations += len(self.columns)
        self.columns = Columns()
        self.faults.clear()

    def _refuse_nothing(self, lines: int) -> None:
        if not self.operations:
            super()._refuse_nothing(lines)


def _take_all(parser: Parser, source: Source, take_json: Take = take_lines, take_edn: Take | None = None) -> int:
    """Take all records; returns the number of lines."""
    blocks = source.blocks()
    start = list(islice(blocks, 1))
    layout = _layout_of(b"".join(chain.from_iterable(start)))
    blocks = chain(start, blocks)
    take = (take_edn or _take_edn) if layout.is_edn else take_json
    if layout.is_list:
        text = b"".join(chain.from_iterable(blocks))
        return _take_list(parser, text, source, take, is_edn=layout.is_edn)
    number = 0
    for lines in blocks:
        if source.cut_off and not lines[-1].endswith(b"\n"):
            lines.pop()
        take(parser, lines, range(number + 1, number + 1 + len(lines)))
        number += len(lines)
    if source.cut_off:
        number += 1
        parser.take_undecodable(number, source.cut_off)
    return number


class _Layout(NamedTuple):
    """What a file is: EDN or JSON, one list of records or one on each line."""

    is_edn: bool
    is_list: bool


def _layout_of(start: bytes) -> _Layout:
    """What a file is that starts so: EDN has keywords, tags, comments and lists in round brackets."""
    return _Layout(
        is_edn=_EDN_START.match(start) is not None,
        is_list=_LIST_START.match(start) is not None,
    )


def _take_list(parser: Parser, text: bytes, source: Source, take: Take, *, is_edn: bool) -> int:
    """Take the records of one list; returns the number of lines."""
    elements = elements_of(text, is_edn=is_edn)
    problem = None
    while True:
        block: list[Element] = []
        try:
            block.extend(islice(elements, ELEMENTS))  # keeps what came before an error
        except NotAListError as error:
            problem = error
        if not block:
            break
        # The newline tells that an element is not cut off.
        take(parser, [element.text + b"\n" for element in block], [element.line for element in block])
    lines = text.count(b"\n") + (not text.endswith(b"\n"))
    if source.cut_off:
        parser.take_undecodable(lines, source.cut_off)
    elif problem is not None:
        parser.take_undecodable(problem.line, str(problem))
    return lines


def _take_edn(parser: Parser, texts: Sequence[bytes], numbers: Sequence[int]) -> None:
    """Take the records that pieces of EDN on lines with these numbers hold; comments and empty lines are none."""
    _take_each(parser, texts, numbers, _decode_edn_record, take_records, is_blank)


def _decode_edn_record(text: bytes) -> Any:
    """The record that a piece of EDN holds."""
    record = decode_edn(text)
    return restored(record) if any(mark in text for mark in MAY_NEED_RESTORING) else record


def _take_each(
    parser: Parser,
    texts: Sequence[bytes],
    numbers: Sequence[int],
    decode_one: Callable[[bytes], Any],
    take: Callable[[Parser, Sequence[Any], Sequence[int]], None],
    is_none: Callable[[bytes], bool] = lambda text: False,
) -> None:
    """Decode pieces of text one by one, and take what they hold as a block."""
    records: list[Any] = []
    lines: list[int] = []
    for text, number in zip(texts, numbers, strict=True):
        if is_none(text):
            continue
        try:
            records.append(decode_one(text))
            lines.append(number)
        except MalformedError as error:
            take(parser, records, lines)
            records, lines = [], []
            parser.take_undecodable(number, str(error))
    take(parser, records, lines)


class Source:
    """The lines of a stream of bytes, compressed or not, in blocks.

    `cut_off` says, once the lines are at their end, why that is not the end of what was compressed.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        start = stream.read(2)
        whole = io.BufferedReader(_Rejoined(start, stream), BLOCK_BYTES)
        self._unpacked = _Unpacked(whole) if start == _GZIP else None
        self._stream = io.BufferedReader(self._unpacked, BLOCK_BYTES) if self._unpacked else whole

    @property
    def cut_off(self) -> str | None:
        """Why compressed data ended before its end."""
        return self._unpacked.cut_off if self._unpacked else None

    def blocks(self) -> Iterator[list[bytes]]:
        """The lines, some hundred at a time."""
        while lines := self._stream.readlines(BLOCK_BYTES):
            yield lines


class _Rejoined(io.RawIOBase):
    """A stream of which the beginning has been read already."""

    def __init__(self, start: bytes, rest: IO[bytes]) -> None:
        self._start, self._rest = start, rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._start or self._rest.read(len(buffer))
        self._start = b""
        buffer[: len(data)] = data
        return len(data)


class _Unpacked(io.RawIOBase):
    """What a gzip stream holds, up to where it can be read."""

    def __init__(self, packed: IO[bytes]) -> None:
        self._unpacking = gzip.GzipFile(fileobj=packed)
        self.cut_off: str | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self.cut_off:
            return 0
        try:
            data = self._unpacking.read1(len(buffer))  # of several reads, the last one's error would lose the first
            buffer[: len(data)] = data
            return len(data)
        except EOFError:
            self.cut_off = "the gzip data is cut off here; expected a complete file"
        except (gzip.BadGzipFile, zlib.error) as error:
            self.cut_off = f"the gzip data is damaged here ({error}); expected a complete file"
        return 0


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Records are no cycles, and there are many: looking for cycles among them would take a fifth of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
