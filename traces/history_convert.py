"""A history written anew in another notation, a block of records at a time.

Every record is checked as `read_history` checks it before it is written, so what is written is a history. Memory does
not grow with the file's length, unless the file is one list of records, which is held as a whole.

From EDN to JSON everything becomes what `hwmark.traces.history_edn` says: keywords and characters are strings, sets
and lists are lists, tagged literals what they tag. From JSON to EDN and back nothing is lost but how a key was written
(`true` or `"true"`, `3` or `"3"`).
"""

from __future__ import annotations

import gzip
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any, BinaryIO

from hwmark.traces.errors import BadInputError
from hwmark.traces.history_edn_text import edn_line
from hwmark.traces.history_elle import Elle
from hwmark.traces.history_files import EXPECTED_FILE, STANDARD_INPUT, scan_stream
from hwmark.traces.history_lines import DEPTH_MAX, exact_text, is_deep

Record = dict[str, Any]
NOTATIONS = ("edn", "jsonl")


class Lines:
    """The lines of a history in a notation."""

    def __init__(self, notation: str) -> None:
        self._line: Callable[[Record, int], bytes] = edn_line if notation == "edn" else _json_line

    def lines(self, records: Sequence[Record], numbers: Sequence[int]) -> list[bytes]:
        """The lines for records that stand in lines with these numbers."""
        line = self._line
        return [line(record, number - 1) for record, number in zip(records, numbers, strict=True)]

    def rest(self) -> list[bytes]:
        """What is left to write at the end."""
        return []


def _json_line(record: Record, index: int) -> bytes:
    """A record as a line of JSON; it keeps its fields as they are."""
    return exact_text(record) + b"\n"


def convert(source: str, output: str, *, notation: str, elle: str | None = None) -> int:
    """Write the history in the file `source` to the file `output`; returns the number of lines written.

    `notation` is one of NOTATIONS; `elle`, if given, is one of `hwmark.traces.history_elle.SHAPES`. "-" is standard
    input or output, and the name of a compressed file ends in .gz. Raises BadInputError for what is no history and for
    a file that cannot be read or written; no file is left or changed then.
    """
    writer = Lines(notation) if elle is None else Elle(elle, notation)
    written = 0

    def write(lines: list[bytes]) -> None:
        nonlocal written
        written += len(lines)
        with _telling(output, "written"):
            file.write(b"".join(lines))

    def see(records: Sequence[Record], numbers: Sequence[int]) -> None:
        try:
            write(writer.lines(records, numbers))
        except RecursionError:
            deep = next(number for record, number in zip(records, numbers, strict=True) if is_deep(record))
            why = f"values are nested too deeply to be written; expected at most {DEPTH_MAX} levels"
            raise BadInputError(name, deep, why) from None

    with _telling(output, "written"), _opened_source(source) as (stream, name), _opened_output(output) as file:
        with _telling(name, "read"):
            scan_stream(stream, name, see)
        write(writer.rest())
    return written


@contextmanager
def _opened_source(path: str) -> Iterator[tuple[IO[bytes], str]]:
    """The stream to read, and its name in errors."""
    if path == "-":
        yield sys.stdin.buffer, STANDARD_INPUT
        return
    with _telling(path, "read", f"; {EXPECTED_FILE}"):
        stream = open(path, "rb")  # noqa: SIM115
    with stream:
        yield stream, path


@contextmanager
def _opened_output(path: str) -> Iterator[BinaryIO]:
    """The file to write, which appears under its name when it is complete."""
    if path == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    is_special = os.path.exists(path) and not os.path.isfile(path)  # /dev/null or a pipe is not to be replaced
    part = path if is_special else f"{path}.part"
    with _telling(path, "written"):
        plain = open(part, "wb")  # noqa: SIM115
    try:
        with plain, _packed(plain) if path.endswith(".gz") else _as_it_is(plain) as file:
            yield file
        if not is_special:
            os.replace(part, path)
    except BaseException:
        if not is_special:
            with suppress(OSError):
                os.unlink(part)
        raise


@contextmanager
def _packed(plain: BinaryIO) -> Iterator[BinaryIO]:
    """A compressed file, with neither name nor time in it: equal histories are equal files."""
    with gzip.GzipFile("", "wb", compresslevel=1, fileobj=plain, mtime=0) as packed:
        yield packed  # type: ignore[misc]


@contextmanager
def _as_it_is(plain: BinaryIO) -> Iterator[BinaryIO]:
    yield plain


@contextmanager
def _telling(path: str, what: str, more: str = "") -> Iterator[None]:
    """Turn the system's refusal of a file into bad input."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise BadInputError(path, None, f"cannot be {what}: {why}{more}") from None
