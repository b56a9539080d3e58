"""The records of a history file, parsed into the columns of `hwmark.traces.history`.

Whatever is not a history is refused with its line, what is wrong there and what was expected; nothing is skipped.
An offset of -1 is Kafka's own word for an unknown offset (a producer that does not wait for acknowledgements gets it).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import Any

import numpy as np
import orjson
from hwmark.traces.errors import BadInputError
from hwmark.traces.history import (
    NO_ERROR,
    NO_OFFSET,
    NO_TIME,
    NOT_COMPLETED,
    Closing,
    Fault,
    Function,
    GroupOffsets,
    History,
    Key,
    MicroOperations,
    OperationKeys,
    Operations,
    Outcome,
    Value,
)
from numpy.typing import NDArray

FUNCTIONS = {
    "send": Function.SEND,
    "poll": Function.POLL,
    "txn": Function.TXN,
    "assign": Function.ASSIGN,
    "subscribe": Function.SUBSCRIBE,
    "crash": Function.CRASH,
    "debug-topic-partitions": Function.DEBUG,
}
DATA_FUNCTIONS = ("send", "poll", "txn")
OUTCOMES = {"ok": Outcome.OK, "fail": Outcome.FAIL, "info": Outcome.INFO}
CLOSINGS = {
    None: Closing.NONE,
    "read_committed": Closing.READ_COMMITTED,
    "read_uncommitted": Closing.READ_UNCOMMITTED,
}
OFFSET_MAX = 2**63 - 1
SCALARS = (int, str, float, bool)
EXPECTED_RECORD = "expected a JSON object with process, type, f, value and time"


class MalformedError(ValueError):
    """A record that is not of the format; the message says what is wrong and what was expected."""


def parse_file(file: str) -> History:
    """The history in `file`; raises BadInputError."""
    try:
        with open(file, "rb") as lines:
            return parse_lines(lines, file)
    except OSError as error:
        raise BadInputError(
            file, None, f"cannot be read: {error.strerror}; expected a history of JSON lines"
        ) from error


def parse_lines(lines: Iterable[bytes], file: str) -> History:
    """The history that the lines hold, one record each; `file` names them in errors."""
    parser, number, line = _Parser(), 0, b"\n"
    for number, line in enumerate(lines, 1):
        try:
            parser.take(_decode(line), number)
        except MalformedError as error:
            raise BadInputError(file, number, str(error)) from None
    if number == 0:
        raise BadInputError(file, 1, f"the file is empty; {EXPECTED_RECORD} on each line")
    history = parser.history(file, number)
    if not len(history.operations):
        raise BadInputError(file, number, "no operation of any client up to here; expected at least one")
    return history


def _decode(line: bytes) -> Any:
    """The JSON value of a line."""
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise MalformedError(_why_undecodable(line, error)) from None


def _why_undecodable(line: bytes, error: orjson.JSONDecodeError) -> str:
    """Say in plain words why a line is no JSON."""
    if not line.strip():
        return f"the line is empty; {EXPECTED_RECORD}"
    try:
        line.decode()
    except UnicodeDecodeError as undecodable:
        return f"byte {undecodable.start + 1} is not UTF-8 text; {EXPECTED_RECORD}"
    if not line.endswith(b"\n"):
        return f"the last line is cut off; {EXPECTED_RECORD}, complete"
    return f"not JSON ({error.msg}, column {error.colno}); {EXPECTED_RECORD}"


class _Parser:
    """Takes records one by one and grows the columns."""

    def __init__(self) -> None:
        self.operations = {name: array(kind) for name, kind in _OPERATION_COLUMNS}
        self.operation, self.is_send, self.offset = array("i"), array("b"), array("q")
        self.key, self.value = array("i"), array("q")
        self.tables = {name: (array("i"), array("i")) for name in ("assigned", "rebalanced", "empty_reads")}
        self.group_offsets = array("i"), array("i"), array("i"), array("q")
        self.key_ids = _KeyIds()
        self.value_ids: dict[tuple[type, Value], int] = {}
        self.group_ids: dict[str, int] = {}
        self.error_ids: dict[str, int] = {}
        self.open: dict[int, tuple[int, int, dict[str, Any]]] = {}
        self.records = 0
        self.faults: list[Fault] = []
        self.configuration: dict[str, Any] = {}
        self.time = 0
        self.index = 0

    def take(self, record: Any, line: int) -> None:
        """Take the record of one line."""
        if record.__class__ is not dict:
            raise MalformedError(f"a {_json_type(record)} instead of an operation; {EXPECTED_RECORD}")
        try:
            process, kind, function, time = record["process"], record["type"], record["f"], record["time"]
        except KeyError as missing:
            raise MalformedError(f"the field {missing.args[0]!r} is missing; {EXPECTED_RECORD}") from None
        if function.__class__ is not str or kind.__class__ is not str:
            raise MalformedError(f"type {_shown(kind)}, f {_shown(function)}; expected two names")
        self._take_order(time, record.get("index", line - 1))
        if process.__class__ is not int:
            self._take_fault(process, function, record)
        elif abs(process) > OFFSET_MAX:
            raise MalformedError(f"process {process} does not fit into 64 bits; expected a smaller number")
        elif kind == "invoke":
            self._invoke(process, function, record, line)
        elif kind in OUTCOMES:
            self._complete(process, function, OUTCOMES[kind], record, line)
        else:
            raise MalformedError(f"unknown type {kind!r}; expected invoke, ok, fail or info")

    def _take_order(self, time: Any, index: Any) -> None:
        """Refuse a record that is out of order, by time or by index."""
        if time.__class__ is not int or index.__class__ is not int:
            raise MalformedError(
                f"time {_shown(time)}, index {_shown(index)}; expected nanoseconds and a position, as integers"
            )
        if time > OFFSET_MAX or index > OFFSET_MAX:
            raise MalformedError(f"time {time} or index {index} does not fit into 64 bits; expected a smaller number")
        if time < self.time:
            raise MalformedError(f"time {time} lies before the previous {self.time}; expected records in order of time")
        if index < self.index:
            raise MalformedError(f"index {index} follows {self.index}; expected records in order of their index")
        self.time, self.index = time, index

    def _take_fault(self, process: Any, function: Any, record: dict[str, Any]) -> None:
        """Keep what the nemesis did; its line `config` describes the cluster."""
        if process.__class__ is not str:
            raise MalformedError(f"process {_shown(process)}; expected an integer, or a name such as nemesis")
        value = record.get("value")
        if function == "config" and isinstance(value, dict):
            self.configuration = value
        else:
            self.faults.append(Fault(record["time"], function, value))

    def _invoke(self, process: int, function: Any, record: dict[str, Any], line: int) -> None:
        """Open an operation."""
        if process in self.open:
            before, _, opened = self.open[process]
            raise MalformedError(
                f"process {process} starts a {function} while its {opened['f']} of line {before} is open; "
                "expected the completion of that first"
            )
        if function in DATA_FUNCTIONS:
            _check_invoked(function, record.get("value"))
        if record.get("abort", False).__class__ is not bool:
            raise MalformedError(f"abort is {_shown(record['abort'])}; expected true or false")
        self.open[process] = line, self._place(), record

    def _place(self) -> int:
        """The place of the next client record among all."""
        self.records += 1
        return self.records - 1

    def _complete(self, process: int, function: Any, outcome: Outcome, record: dict[str, Any], line: int) -> None:
        """Close the process's open operation."""
        if process not in self.open:
            raise MalformedError(
                f"process {process} completes a {function} that it never invoked; expected an invoke before"
            )
        before, invoked, invocation = self.open.pop(process)
        if invocation["f"] != function:
            raise MalformedError(
                f"process {process} completes a {function}, but its open operation of line {before} is a "
                f"{invocation['f']}; expected the completion of that"
            )
        self._operation(record, invocation, outcome, (invoked, self._place()), record["time"], line)

    def _operation(
        self,
        record: dict[str, Any],
        invocation: dict[str, Any],
        outcome: Outcome,
        places: tuple[int, int],
        completed_at: int,
        line: int,
    ) -> None:
        """Add the row of a finished (or abandoned) operation, and those of its micro-operations."""
        function = record["f"]
        columns = self.operations
        row = len(columns["index"])
        columns["index"].append(record.get("index", line - 1))
        columns["line"].append(line)
        columns["invoked"].append(places[0])
        columns["completed"].append(places[1])
        columns["process"].append(record["process"])
        columns["function"].append(FUNCTIONS.get(function, Function.OTHER))
        columns["outcome"].append(outcome)
        columns["closing"].append(_closing(record, invocation))
        columns["means_to_abort"].append(invocation.get("abort", False))
        columns["error"].append(self._error(record.get("error")))
        columns["invoked_at"].append(invocation["time"])
        columns["completed_at"].append(completed_at)
        if function in DATA_FUNCTIONS:
            value = record.get("value")
            known = value is not None or outcome is Outcome.OK
            self._micro_operations(row, function, value if known else invocation["value"])
            self._rebalance_log(row, record.get("rebalance-log"))
        elif function in ("assign", "subscribe") and completed_at != NO_TIME:
            self._keys("assigned", row, record.get("value"), f"the value of an {function}")

    def _error(self, error: Any) -> int:
        """The position of an error's text."""
        if error is None:
            return NO_ERROR
        text = error if isinstance(error, str) else orjson.dumps(error).decode()
        return self.error_ids.setdefault(text, len(self.error_ids))

    def _rebalance_log(self, row: int, log: Any) -> None:
        """Add the keys that a rebalance log names."""
        if log is None:
            return
        if log.__class__ is not list or not all(entry.__class__ is dict for entry in log):
            raise MalformedError(f"the rebalance-log is {_shown(log)}; expected a list of objects with keys")
        for entry in log:
            self._keys("rebalanced", row, entry.get("keys", []), "a rebalance-log's keys")

    def _keys(self, table: str, row: int, keys: Any, what: str) -> None:
        """Add the keys of an operation to a table."""
        if keys.__class__ is not list:
            raise MalformedError(f"{what} is {_shown(keys)}; expected a list of keys")
        operation, key = self.tables[table]
        for name in keys:
            operation.append(row)
            key.append(self._key(name))

    def _micro_operations(self, row: int, function: str, value: Any) -> None:
        """Add the messages that an operation sent and read."""
        for micro in _micro_operations(function, value):
            if micro[0] == "send_offsets":
                self._group_offsets(row, micro[1], micro[2])
            elif micro[0] == "send":
                payload = micro[2]
                if payload.__class__ is list:
                    self._message(row, 1, self._key(micro[1]), payload, "a send")
                else:
                    self._message(row, 1, self._key(micro[1]), (None, payload), "a send")
            elif len(micro) == 2:
                self._poll(row, micro[1])

    def _poll(self, row: int, messages: Any) -> None:
        """Add the messages that one poll returned."""
        if messages.__class__ is not dict:
            what = _json_type(messages)
            raise MalformedError(f"a poll returned a {what}; expected an object of key: [[offset, value], ...]")
        for name, read in messages.items():
            if read.__class__ is not list:
                what = _json_type(read)
                raise MalformedError(f"a poll of key {name} returned a {what}; expected [[offset, value], ...]")
            key = self.key_ids[name]
            if not read:
                self._keys("empty_reads", row, [name], "a poll")
            for message in read:
                self._message(row, 0, key, message, "a poll")

    def _group_offsets(self, row: int, group: Any, offsets: Any) -> None:
        """Add the offsets that a transaction committed for a consumer group."""
        if group.__class__ is not str or offsets.__class__ is not dict:
            shown = f"{_shown(group)}, {_shown(offsets)}"
            raise MalformedError(f"send_offsets has {shown}; expected a group's name and an object of key: offset")
        for name, offset in offsets.items():
            if offset.__class__ is not int or not 0 <= offset <= OFFSET_MAX:
                raise MalformedError(f"send_offsets has offset {_shown(offset)}; expected a number from 0")
            group_id = self.group_ids.setdefault(group, len(self.group_ids))
            for column, entry in zip(self.group_offsets, (row, group_id, self.key_ids[name], offset), strict=True):
                column.append(entry)

    def _key(self, key: Any) -> int:
        """The position of a key as a send writes it."""
        if key.__class__ not in SCALARS:
            raise MalformedError(f"key {key!r} is a {_json_type(key)}; expected a number, a string or a boolean")
        # A boolean or a fraction as the text that a poll's object has; True itself would be found as 1.
        return self.key_ids[key if key.__class__ in (int, str) else orjson.dumps(key).decode()]

    def _message(self, row: int, is_send: int, key: int, message: Any, whose: str) -> None:
        """Add one message with its offset."""
        if message.__class__ not in (list, tuple) or len(message) != 2:
            raise MalformedError(f"{whose} has {_shown(message)}; expected a pair [offset, value]")
        offset, value = message
        if offset is None:
            offset = NO_OFFSET
        elif offset.__class__ is not int or not -is_send <= offset <= OFFSET_MAX:
            raise MalformedError(f"{whose} has offset {_shown(offset)}; expected a number from 0, or null if unknown")
        if value.__class__ not in SCALARS:
            raise MalformedError(f"{whose} has the value {_shown(value)}; expected a number, a string or a boolean")
        self.operation.append(row)
        self.is_send.append(is_send)
        self.key.append(key)
        self.value.append(self.value_ids.setdefault((value.__class__, value), len(self.value_ids)))
        self.offset.append(offset)

    def history(self, file: str, lines: int) -> History:
        """The columns as arrays, the operations that are still open last."""
        for line, invoked, invocation in self.open.values():
            try:
                self._operation(invocation, invocation, Outcome.INFO, (invoked, NOT_COMPLETED), NO_TIME, line)
            except MalformedError as error:
                raise BadInputError(file, line, str(error)) from None
        number, values = self._values()
        is_send = _column(self.is_send).astype(bool)
        return History(
            file=file,
            operations=Operations(**{name: _column(column) for name, column in self.operations.items()}),
            micro=MicroOperations(_column(self.operation), is_send, _column(self.key), number, _column(self.offset)),
            **{name: OperationKeys(*map(_column, columns)) for name, columns in self.tables.items()},
            group_offsets=GroupOffsets(*map(_column, self.group_offsets)),
            keys=self.key_ids.names,
            values=values,
            groups=list(self.group_ids),
            errors=list(self.error_ids),
            faults=self.faults,
            configuration=self.configuration,
            lines=lines,
            dropped=[],
        )

    def _values(self) -> tuple[NDArray[np.int64], list[Value] | None]:
        """The column of values and what its numbers stand for; integers of 64 bits stand for themselves."""
        values = [value for _, value in self.value_ids]
        number = _column(self.value)
        if all(v.__class__ is int and -OFFSET_MAX <= v <= OFFSET_MAX for v in values):
            return np.array(values, dtype=np.int64)[number], None
        return number, values


_OPERATION_COLUMNS = [
    ("index", "q"),
    ("line", "q"),
    ("invoked", "q"),
    ("completed", "q"),
    ("process", "q"),
    ("function", "b"),
    ("outcome", "b"),
    ("closing", "b"),
    ("means_to_abort", "b"),
    ("error", "i"),
    ("invoked_at", "q"),
    ("completed_at", "q"),
]


def _column(grown: array[int]) -> NDArray[Any]:
    """An array over the bytes of a grown column."""
    return np.frombuffer(grown, dtype=grown.typecode) if grown else np.empty(0, dtype=grown.typecode)


class _KeyIds(dict[Key, int]):
    """Positions of keys in `names`; the text "3", which a JSON object needs, and the number 3 are one key."""

    def __init__(self) -> None:
        self.names: list[Key] = []

    def __missing__(self, key: Key) -> int:
        name = int(key) if isinstance(key, str) and _is_integer(key) else key
        if name not in self:
            self[name] = len(self.names)
            self.names.append(name)
        self[key] = self[name]
        return self[name]


def _is_integer(text: str) -> bool:
    """Whether a string is how JSON writes an integer of 64 bits."""
    digits = text.removeprefix("-")
    is_number = digits.isascii() and digits.isdigit() and len(digits) < 20
    return is_number and str(int(text)) == text


def _closing(record: dict[str, Any], invocation: dict[str, Any]) -> Closing:
    """The closing read that an operation belongs to, marked on either of its records."""
    mark = record.get("final", invocation.get("final"))
    try:
        return CLOSINGS[mark]
    except (KeyError, TypeError):
        raise MalformedError(f'final is {_shown(mark)}; expected "read_committed" or "read_uncommitted"') from None


def _micro_operations(function: str, value: Any) -> list[Any]:
    """The micro-operations of a `send`, `poll` or `txn`, each one's shape checked."""
    if value.__class__ is not list:
        raise MalformedError(f"the value of a {function} is {_shown(value)}; expected a list of micro-operations")
    for micro in value:
        kind = micro[0] if micro.__class__ is list and micro else None
        if kind == "send" and function != "poll" and len(micro) == 3:
            continue
        if kind == "poll" and function != "send" and len(micro) <= 2:
            continue
        if kind == "send_offsets" and function == "txn" and len(micro) == 3:
            continue
        allowed = {
            "send": '["send", key, value]',
            "poll": '["poll"]',
            "txn": '["send", key, value], ["poll"] or ["send_offsets", group, {key: offset}]',
        }
        raise MalformedError(f"a {function} has the micro-operation {_shown(micro)}; expected {allowed[function]}")
    return value


def _check_invoked(function: str, value: Any) -> None:
    """Refuse an invocation that already knows its answer."""
    for micro in _micro_operations(function, value):
        if (micro[0] == "poll" and len(micro) == 2) or (micro[0] == "send" and micro[2].__class__ is list):
            raise MalformedError(
                f'an invocation has {_shown(micro)}; expected ["send", key, value] or ["poll"], no answer yet'
            )


def _json_type(value: Any) -> str:
    """What JSON calls the type of a parsed value."""
    names = {dict: "JSON object", list: "list", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")


def _shown(value: Any, width: int = 60) -> str:
    """A value as JSON, cut to what fits on a line."""
    text = orjson.dumps(value).decode()
    return text if len(text) <= width else text[: width - 3] + "..."
