"""A history as Elle's transactions, which `elle-cli` and Elle's own checkers read: as far as they can say it.

Elle knows nothing of partitions and offsets. Each of its models can say a part of what a Kafka history says:

- `rw-register`: every message is a register of its own, `[key value]`, that its send writes and whoever polls it reads.
  That keeps who read whom: aborted reads (G1a), circular information flow (G1c), also in real time. It loses the order
  within a partition, and so everything about offsets, skips, duplicates and losses. A history that this finds nothing
  in obeys read committed, no more: Kafka promises no more to those who poll.
- `list-append`: every partition is a list that sends append to and each complete closing read (`"final":
  "read_committed"`) reads as a whole, which takes it to be begun where its first poll was and done at the end of the
  history. That keeps the log's order and what is missing from it: an acknowledged value that the closing read lacks is a
  cycle in real time (G-single-realtime), a value twice `duplicate-elements`, an aborted one G1a. It loses all other
  polls, because a poll begins anywhere and reads no whole list. Kafka does not isolate writes: G0 is no fault of it.

Both lose what the nemesis did, assignments, group offsets, errors, reads of operations that failed or whose outcome is
unknown, and closing reads with `read_uncommitted`. An operation that wrote nothing and failed says nothing at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hwmark.traces.history_columns import plain_key
from hwmark.traces.history_edn_text import DATA_FUNCTIONS, edn_value
from hwmark.traces.history_lines import text_of

Record = dict[str, Any]
Micros = list[list[Any]]

SHAPES = ("rw-register", "list-append")


class Elle:
    """The lines of a history in one of SHAPES and a notation; an operation under way remembers what it writes."""

    def __init__(self, shape: str, notation: str) -> None:
        self._is_list = shape == "list-append"
        self._line = _edn_line if notation == "edn" else _json_line
        self._writes: dict[int, Micros] = {}
        self._closing: dict[int, dict[Any, list[Any]]] = {}
        self._incomplete: set[int] = set()
        self._last = (0, 0)

    def lines(self, records: Sequence[Record], numbers: Sequence[int]) -> list[bytes]:
        """The lines for records that stand in lines with these numbers."""
        lines: list[bytes] = []
        for record, number in zip(records, numbers, strict=True):
            index = record.get("index", number - 1)
            self._last = index, record["time"]
            if record["process"].__class__ is int:
                lines += self._of_client(record, index)
        return lines

    def rest(self) -> list[bytes]:
        """The closing reads, which are done only now."""
        index, time = self._last
        complete = {process: log for process, log in self._closing.items() if process not in self._incomplete}
        return [
            self._written(index + place, time, process, "ok", [["r", key, read] for key, read in log.items()])
            for place, (process, log) in enumerate(complete.items(), 1)
        ]

    def _of_client(self, record: Record, index: int) -> list[bytes]:
        """The lines for one record of a client."""
        final = record.get("final")
        if final == "read_committed" and self._is_list:
            return self._of_closing_read(record, index)
        if record["f"] not in DATA_FUNCTIONS or final == "read_uncommitted":
            return []
        micros = self._micros(record)
        return [self._written(index, record["time"], record["process"], record["type"], micros)]

    def _micros(self, record: Record) -> Micros:
        """What a record's transaction writes and, if it was committed, reads."""
        process, kind, value = record["process"], record["type"], record.get("value")
        if value is None:
            return self._writes.pop(process, [])
        micros = [said for micro in value for said in self._said(micro, is_ok=kind == "ok")]
        if kind == "invoke":
            self._writes[process] = micros
        else:
            self._writes.pop(process, None)
        return micros

    def _said(self, micro: list[Any], *, is_ok: bool) -> Micros:
        """What Elle is told of a micro-operation."""
        if micro[0] == "send":
            key, value = plain_key(micro[1]), micro[2][1] if micro[2].__class__ is list else micro[2]
            return [["append", key, value] if self._is_list else ["w", [key, value], value]]
        if micro[0] != "poll" or not is_ok or self._is_list or len(micro) == 1:
            return []
        return [["r", [plain_key(key), value], value] for key, read in micro[1].items() for _, value in read]

    def _of_closing_read(self, record: Record, index: int) -> list[bytes]:
        """Note what a closing read found; it begins with its first record."""
        process, value = record["process"], record.get("value")
        begins = process not in self._closing
        log = self._closing.setdefault(process, {})
        if record["type"] == "ok" and record["f"] in ("assign", "subscribe"):
            for key in value:
                log.setdefault(plain_key(key), [])
        elif record["type"] in ("fail", "info"):
            self._incomplete.add(process)
        elif record["type"] == "ok":
            for micro in value:
                for key, read in micro[1].items() if len(micro) == 2 else ():
                    log.setdefault(plain_key(key), []).extend(value for _, value in read)
        return [self._written(index, record["time"], process, "invoke", [])] if begins else []

    def _written(self, index: int, time: int, process: int, kind: str, micros: Micros) -> bytes:
        return self._line(index, time, process, kind, micros)


def _edn_line(index: int, time: int, process: int, kind: str, micros: Micros) -> bytes:
    """A transaction as a line of EDN."""
    texts = [f"[:{f} {edn_value(key)} {edn_value(value)}]" for f, key, value in micros]
    return (
        f"{{:index {index}, :time {time}, :type :{kind}, :process {process}, :f :txn, :value [{' '.join(texts)}]}}\n"
    ).encode()


def _json_line(index: int, time: int, process: int, kind: str, micros: Micros) -> bytes:
    """A transaction as a line of JSON."""
    record = {"index": index, "time": time, "type": kind, "process": process, "f": "txn", "value": micros}
    return text_of(record).encode() + b"\n"
