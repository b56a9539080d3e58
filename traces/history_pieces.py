"""A large file of JSON lines, read by several processes at once.

The file is cut at ends of lines. Each piece but the first is read by a process of its own, which finds out from the
lines before the piece which operations are under way there, and counts everything from its own beginning. The
pieces are then put together in order. Whenever a piece does not fit to what came before - its process met a mistake, or
an operation under way that it could not know of - its lines are read again where they belong, after those before it: so
the outcome, and the words for a mistake, are always those of reading the file from beginning to end.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from multiprocessing.connection import Connection
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import orjson
from hwmark.traces.errors import BadInputError
from hwmark.traces.history import NO_ERROR, Fault, Key
from hwmark.traces.history_blocks import take_lines
from hwmark.traces.history_columns import extend
from hwmark.traces.history_records import Invocation, Parser

PIECE_BYTES = 1 << 23  # of less, starting a process takes more than it saves
LOOK_BACK_BYTES = 1 << 20
BLOCK_BYTES = 1 << 18


class Piece(NamedTuple):
    """A part of a file, from one byte up to another."""

    start: int
    end: int


@dataclass
class PieceRead:
    """What a process read in its piece, all rows and places counted from its beginning, lines from that of the file.

    `assumed` are the operations that it took to be under way at its beginning, `open` those at its end, and `processes`
    those that occur in it. `before` is the time and index of the record before it, `after` those of its last one.
    """

    lines: int
    records: int
    assumed: dict[int, Invocation]
    open: dict[int, Invocation]
    processes: set[int]
    before: tuple[int, int]
    after: tuple[int, int]
    keys: list[Key]
    groups: list[str]
    errors: list[str]
    faults: list[Fault]
    configuration: dict[str, Any]


def pieces_of(stream: BinaryIO, size: int) -> list[Piece]:
    """How to cut a file of some size at ends of lines; one piece if it is not worth while."""
    can_fork = "fork" in multiprocessing.get_all_start_methods()
    count = (
        min(len(os.sched_getaffinity(0)), size // PIECE_BYTES) if can_fork and hasattr(os, "sched_getaffinity") else 1
    )
    cuts = [0]
    for number in range(1, count):
        stream.seek(size * number // count)
        stream.readline()
        cuts.append(max(stream.tell(), cuts[-1]))
    stream.seek(0)
    return [Piece(start, end) for start, end in zip(cuts, [*cuts[1:], size], strict=True) if start < end]


def take_pieces(parser: Parser, path: str, pieces: Sequence[Piece]) -> int:
    """Take the records of all pieces; returns the number of lines."""
    with _readers(path, pieces[1:]) as connections:
        number = _take_piece(parser, path, pieces[0], 0)
        for piece, connection in zip(pieces[1:], connections, strict=True):
            read = _receive(connection)
            columns = _receive_columns(parser, connection) if read and fits(parser, read) else []
            if read and columns:
                join(parser, read, columns)
                number += read.lines
            else:
                number = _take_piece(parser, path, piece, number)
    return number


def _take_piece(parser: Parser, path: str, piece: Piece, number: int) -> int:
    """Take the lines of a piece, `number` being how many there are before; returns how many there are then."""
    for lines in _blocks(path, piece):
        take_lines(parser, lines, range(number + 1, number + 1 + len(lines)))
        number += len(lines)
    return number


def _blocks(path: str, piece: Piece) -> Iterator[list[bytes]]:
    """The lines of a piece, some hundred at a time."""
    with open(path, "rb") as stream:
        stream.seek(piece.start)
        left = piece.end - piece.start
        while left > 0 and (data := stream.read(min(BLOCK_BYTES, left))):
            data += b"" if data.endswith(b"\n") else stream.readline()
            yield BytesIO(data).readlines()
            left -= len(data)


@contextmanager
def _readers(path: str, pieces: Sequence[Piece]) -> Iterator[list[Connection]]:
    """A process for each piece, and the connection over which it tells what it read."""
    context = multiprocessing.get_context("fork")
    connections, processes = [], []
    for piece in pieces:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_read, args=(path, piece, sender), daemon=True)
        process.start()
        sender.close()
        connections.append(receiver)
        processes.append(process)
    try:
        yield connections
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _read(path: str, piece: Piece, sender: Connection) -> None:
    """Read a piece and send what it holds: a `PieceRead` and then its columns, or None."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for the process that started this one
    read, columns = read_piece(path, piece)
    try:
        sender.send(read)
    except RecursionError:  # something is nested too deeply to be sent; whoever waits hears the end, and reads it
        return
    for column in columns:
        sender.send_bytes(column)


def read_piece(path: str, piece: Piece) -> tuple[PieceRead | None, list[memoryview]]:
    """What a piece of a file holds, and its columns; None if it does not read as a part of a history."""
    parser = Parser(path)
    try:
        number = _count_lines(path, piece.start)
        assumed = _look_back(parser, path, piece.start, number)
        before = parser.time, parser.index
        lines = _take_piece(parser, path, piece, number) - number
    except (BadInputError, OSError, LookupError, TypeError, ValueError):
        return None, []
    if parser.columns.value_ids is not None:
        return None, []
    columns = parser.columns
    begun = {invocation.record["process"] for invocation in parser.open.values() if invocation.place >= 0}
    read = PieceRead(
        lines=lines,
        records=parser.records,
        assumed=assumed,
        open=parser.open,
        processes=begun.union(columns.operations["process"]),
        before=before,
        after=(parser.time, parser.index),
        keys=columns.key_ids.names,
        groups=list(columns.group_ids),
        errors=list(columns.error_ids),
        faults=parser.faults,
        configuration=parser.configuration,
    )
    return read, [memoryview(column).cast("B") if column else memoryview(b"") for column in _all_columns(parser)]


def _count_lines(path: str, end: int) -> int:
    """How many lines there are before a byte of a file."""
    count = 0
    with open(path, "rb") as stream:
        while end > 0 and (data := stream.read(min(BLOCK_BYTES, end))):
            count += data.count(b"\n")
            end -= len(data)
    return count


def _look_back(parser: Parser, path: str, start: int, number: int) -> dict[int, Invocation]:
    """Leave a parser as if it had taken the lines before a piece, as far as they are near; returns what is open."""
    with open(path, "rb") as stream:
        stream.seek(max(0, start - LOOK_BACK_BYTES))
        lines = BytesIO(stream.read(min(start, LOOK_BACK_BYTES))).readlines()
    complete = lines[1:] if start > LOOK_BACK_BYTES else lines
    settled: set[int] = set()
    place = 0
    for back, line in enumerate(reversed(complete)):
        record = orjson.loads(line)
        if back == 0:
            parser.time, parser.index = record["time"], record.get("index", number - 1)
        process = record["process"]
        if process.__class__ is not int:
            continue
        place -= 1
        if process not in settled and record["type"] == "invoke":
            parser.open[process] = Invocation(number - back, place, record)
        settled.add(process)
    parser.first_time = parser.time
    return dict(parser.open)


def _receive(connection: Connection) -> PieceRead | None:
    """What the process of a piece tells, None if it could not read it."""
    try:
        read: PieceRead | None = connection.recv()
    except (EOFError, OSError):
        return None
    return read


def _receive_columns(parser: Parser, connection: Connection) -> list[bytes]:
    """All columns of a piece; none if its process ended before it had sent them."""
    try:
        return [connection.recv_bytes() for _ in _all_columns(parser)]
    except (EOFError, OSError):
        return []


def fits(parser: Parser, read: PieceRead) -> bool:
    """Whether what a piece took for granted is so."""
    before = {process: parser.open[process].line for process in read.processes if process in parser.open}
    assumed = {process: i.line for process, i in read.assumed.items() if process in read.processes}
    return parser.columns.value_ids is None and before == assumed and (parser.time, parser.index) == read.before


def join(parser: Parser, read: PieceRead, sent_columns: Sequence[bytes | memoryview]) -> None:
    """Add what a piece holds after what there is."""
    columns, sent = parser.columns, iter(sent_columns)
    row, place = len(columns), parser.records
    key = np.array([columns.key_ids[name] for name in read.keys], dtype=np.int32)
    group = np.array([columns.group_ids.setdefault(n, len(columns.group_ids)) for n in read.groups], dtype=np.int32)
    # NO_ERROR, which is -1, finds itself at the end.
    error = np.array([*map(columns.error, read.errors), NO_ERROR], dtype=np.int32)
    moved = {"invoked": place, "completed": place}
    for name, column in columns.operations.items():
        entries = _next(sent, column)
        extend(column, error[entries] if name == "error" else entries + moved.get(name, 0))
    for name, column in columns.messages.items():
        entries = _next(sent, column)
        extend(column, key[entries] if name == "key" else entries + row if name == "operation" else entries)
    for operations, keys in columns.tables.values():
        extend(operations, _next(sent, operations) + row)
        extend(keys, key[_next(sent, keys)])
    operations, groups, keys, offsets = columns.group_offsets
    extend(operations, _next(sent, operations) + row)
    extend(groups, group[_next(sent, groups)])
    extend(keys, key[_next(sent, keys)])
    extend(offsets, _next(sent, offsets))
    _join_rest(parser, read)


def _join_rest(parser: Parser, read: PieceRead) -> None:
    """Leave the parser as after the last record of a piece."""
    for process in read.processes:
        parser.open.pop(process, None)
    for process in read.processes & read.open.keys():
        invocation = read.open[process]
        parser.open[process] = invocation._replace(place=invocation.place + parser.records)
    parser.records += read.records
    parser.time, parser.index = read.after
    parser.faults += read.faults
    parser.configuration = read.configuration or parser.configuration


def _all_columns(parser: Parser) -> Iterator[Any]:
    """Every growing column, in the order in which they are sent and received."""
    columns = parser.columns
    yield from columns.operations.values()
    yield from columns.messages.values()
    for table in columns.tables.values():
        yield from table
    yield from columns.group_offsets


def _next(sent: Iterator[bytes | memoryview], like: Any) -> Any:
    """The next column that was sent, with the type of the one it belongs to."""
    return np.frombuffer(next(sent), dtype=like.typecode)
