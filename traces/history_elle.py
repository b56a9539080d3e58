"""A history as transactions of Elle, which `elle-cli` and Elle's own checkers read: as far as they can say it.

Elle knows nothing of partitions and offsets. Each of its models can say a part of what a Kafka history says:

- `rw-register`: every message is a register of its own, `[key value]`, which its send writes and whoever polls it
  reads. That keeps who read whom: aborted reads (G1a) and circular information flow (G1c), also in real time. It loses
  the order within a partition, and with it offsets, skips, duplicates and losses. Check it as read-committed, or as
  strict-serializable for real time too: with one write to a register there is nothing else to be found.
- `list-append`: every partition is a list to which each send appends, in a transaction of its own that takes as long as
  the whole one, because Kafka does not isolate writes. Each complete closing read (`"final": "read_committed"`) reads
  all lists; it begins with its first record and is done at the end of the history. That keeps the order of the log, and
  what is missing: an acknowledged value that the closing read lacks, or that came before one acknowledged earlier, is
  a cycle in real time (G0-realtime), a value twice is `duplicate-elements`, an aborted one G1a. It loses all other
  polls, since a poll begins anywhere and reads no whole list, and which sends belong together. Check it as
  strict-serializable.

Both lose what the nemesis did, assignments, group offsets, errors, offsets, reads of operations that failed or whose
outcome is unknown, and closing reads with `read_uncommitted`. The field `operation` of a transaction is the index that
its record has in the history. The closing reads of `list-append` are held in memory until they are done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hwmark.traces.history_columns import plain_key
from hwmark.traces.history_edn_text import DATA_FUNCTIONS, edn_value
from hwmark.traces.history_lines import exact_text

Record = dict[str, Any]
Micros = list[list[Any]]

SHAPES = ("rw-register", "list-append")
# The sends of one operation are under way at once, so each but the first has a process of its own.
_PROCESSES = 1 << 32


class Elle:
    """The lines of a history in one of SHAPES and a notation; an operation under way remembers what it writes."""

    def __init__(self, shape: str, notation: str) -> None:
        self._is_list = shape == "list-append"
        self._line: Callable[..., bytes] = _edn_line if notation == "edn" else _json_line
        self._lines: list[bytes] = []
        self._written = 0
        self._writes: dict[int, Micros] = {}
        self._closing: dict[int, dict[Any, list[Any]]] = {}
        self._incomplete: set[int] = set()
        self._operation = self._time = 0

    def lines(self, records: Sequence[Record], numbers: Sequence[int]) -> list[bytes]:
        """The lines for records that stand in lines with these numbers."""
        for record, number in zip(records, numbers, strict=True):
            self._operation, self._time = record.get("index", number - 1), record["time"]
            if record["process"].__class__ is int:
                self._take(record)
        return self._taken()

    def rest(self) -> list[bytes]:
        """The closing reads, which are done only now."""
        for process, log in self._closing.items():
            if process not in self._incomplete:
                self._write(process, "ok", [["r", key, read] for key, read in log.items()])
        return self._taken()

    def _taken(self) -> list[bytes]:
        """The lines since this was asked the last time."""
        lines, self._lines = self._lines, []
        return lines

    def _take(self, record: Record) -> None:
        """Write what one record of a client says."""
        final, process, kind = record.get("final"), record["process"], record["type"]
        if final == "read_committed" and self._is_list:
            self._take_closing_read(record)
        elif record["f"] in DATA_FUNCTIONS and final != "read_uncommitted":
            micros = self._micros(record)
            if not self._is_list:
                self._write(process, kind, micros)
            for place, micro in enumerate(micros if self._is_list else ()):
                self._write(process + place * _PROCESSES, kind, [micro])

    def _micros(self, record: Record) -> Micros:
        """What a record's transaction writes and, if it was committed, reads."""
        process, kind, value = record["process"], record["type"], record.get("value")
        writes = self._writes.pop(process, [])
        if value is None:
            return writes
        micros = [said for micro in value for said in self._said(micro, is_ok=kind == "ok")]
        if kind == "invoke":
            self._writes[process] = micros
        return micros

    def _said(self, micro: list[Any], *, is_ok: bool) -> Micros:
        """What Elle is told of a micro-operation."""
        if micro[0] == "send":
            key, value = plain_key(micro[1]), micro[2][1] if micro[2].__class__ is list else micro[2]
            return [["append", key, value] if self._is_list else ["w", [key, value], value]]
        if micro[0] != "poll" or not is_ok or self._is_list or len(micro) == 1:
            return []
        return [["r", [plain_key(key), value], value] for key, read in micro[1].items() for _, value in read]

    def _take_closing_read(self, record: Record) -> None:
        """Note what a closing read found; it begins with its first record."""
        process, kind = record["process"], record["type"]
        if process not in self._closing:
            self._closing[process] = {}
            self._write(process, "invoke", [])
        if kind == "ok":
            self._closing_read(self._closing[process], record)
        elif kind != "invoke":
            self._incomplete.add(process)

    def _closing_read(self, log: dict[Any, list[Any]], record: Record) -> None:
        """Add what one operation of a closing read found."""
        value = record.get("value") or []
        if record["f"] in ("assign", "subscribe"):
            for key in value:
                log.setdefault(plain_key(key), [])
        elif record["f"] in DATA_FUNCTIONS:
            for micro in value:
                for key, read in micro[1].items() if micro[0] == "poll" and len(micro) == 2 else ():
                    log.setdefault(plain_key(key), []).extend(value for _, value in read)

    def _write(self, process: int, kind: str, micros: Micros) -> None:
        self._lines.append(self._line(self._written, self._time, kind, process, micros, self._operation))
        self._written += 1


def _edn_line(index: int, time: int, kind: str, process: int, micros: Micros, operation: int) -> bytes:
    """A transaction as a line of EDN."""
    value = " ".join([f"[:{f} {edn_value(key)} {edn_value(value)}]" for f, key, value in micros])
    return (
        f"{{:index {index}, :time {time}, :type :{kind}, :process {process}, :f :txn, :value [{value}], "
        f":operation {operation}}}\n"
    ).encode()


def _json_line(index: int, time: int, kind: str, process: int, micros: Micros, operation: int) -> bytes:
    """A transaction as a line of JSON."""
    fields = {"index": index, "time": time, "type": kind, "process": process, "f": "txn", "value": micros}
    return exact_text(fields | {"operation": operation}) + b"\n"
