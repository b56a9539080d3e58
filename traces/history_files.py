"""The file of a history: compressed or not, JSON or EDN, a record on each line or one list of records.

What it is shows in its first bytes, never in its name; standard input may be any of these too. A file is read a piece
at a time, and only a list of records is held in memory as a whole.
"""

from __future__ import annotations

import gc
import gzip
import io
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from hwmark.traces.errors import BadInputError
from hwmark.traces.history import History
from hwmark.traces.history_blocks import take_lines
from hwmark.traces.history_records import Parser

STANDARD_INPUT = "standard input"
EXPECTED_FILE = "expected a history of JSON lines"

_GZIP = b"\x1f\x8b"
BLOCK_BYTES = 1 << 18


def read(path: str, *, lenient: bool = False) -> History:
    """The history in a file, or on standard input if `path` is "-"; raises BadInputError."""
    if path == "-":
        return read_stream(sys.stdin.buffer, STANDARD_INPUT, lenient=lenient)
    try:
        with open(path, "rb") as stream:
            return read_stream(stream, path, lenient=lenient)
    except OSError as error:
        raise BadInputError(path, None, f"cannot be read: {error.strerror}; {EXPECTED_FILE}") from error


def read_stream(stream: IO[bytes], file: str, *, lenient: bool = False) -> History:
    """The history in a stream of bytes, which `file` names in errors; raises BadInputError."""
    parser = Parser(file, lenient=lenient)
    with _no_garbage_collection():
        source = Source(stream)
        lines = _take_json_lines(parser, source)
        if source.cut_off:
            lines += 1
            parser.take_undecodable(lines, source.cut_off)
        return parser.history(lines)


def _take_json_lines(parser: Parser, source: Source) -> int:
    """Take a record from each line; returns the number of lines."""
    number = 0
    for lines in source.blocks():
        take_lines(parser, lines, range(number + 1, number + 1 + len(lines)))
        number += len(lines)
    return number


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
        """The lines, some hundred at a time; a last one that the end of compressed data cuts off is not among them."""
        while lines := self._stream.readlines(BLOCK_BYTES):
            if self.cut_off and not lines[-1].endswith(b"\n"):
                lines.pop()
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
            return self._unpacking.readinto(buffer)
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
