"""The records of a history, taken one by one into the columns of `hwmark.traces.history`.

Whatever is not a history is refused with its line, what is wrong there and what was expected; nothing is skipped. This
is the plain reader: it words every error, and `hwmark.traces.history_blocks` must read exactly what it reads.

A lenient reader leaves out what would be refused, so that the rest is a history. An operation whose completion is left
out stays open, its outcome unknown; with an invocation goes its completion; and where another history begins, all the
rest is left out.

An offset of -1 is Kafka's own word for an unknown offset (a producer that does not wait for acknowledgements gets it).
After `info` a process should not act again in Jepsen; real recordings do not all obey, and nothing depends on it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from hwmark.traces.errors import BadInputError
from hwmark.traces.history import (
    NO_ERROR,
    NO_OFFSET,
    NO_TIME,
    NOT_COMPLETED,
    Closing,
    Fault,
    Function,
    History,
    Key,
    Outcome,
)
from hwmark.traces.history_columns import INT64_MAX, Columns, Evidence, key_name
from hwmark.traces.history_lines import (
    DEPTH_MAX,
    EXPECTED_RECORD,
    MalformedError,
    decode,
    is_deep,
    json_type,
    shown,
    text_of,
)

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
SCALARS = (int, str, float, bool)

Record = dict[str, Any]


class OtherHistoryError(MalformedError):
    """A record with which the history starts again from its beginning."""


class Invocation(NamedTuple):
    """An operation that is under way: its line, its place among all client records, its record."""

    line: int
    place: int
    record: Record


def parse_lines(lines: Iterable[bytes], file: str, *, lenient: bool = False) -> History:
    """The history that lines of JSON hold, one record each; `file` names them in errors. Raises BadInputError."""
    parser, number = Parser(file, lenient=lenient), 0
    for number, line in enumerate(lines, 1):
        parser.take_line(line, number)
    return parser.history(number)


class Parser:
    """Takes records one by one and grows the columns."""

    def __init__(self, file: str, *, lenient: bool = False) -> None:
        self.file, self.lenient = file, lenient
        self.columns = Columns()
        self.open: dict[int, Invocation] = {}
        self.records = 0
        self.faults: list[Fault] = []
        self.configuration: dict[str, Any] = {}
        self.first_time: int | None = None
        self.time = 0
        self.index = 0
        self.dropped: list[tuple[int, str]] = []
        self.abandoned: list[Invocation] = []
        self.without_invocation: dict[int, int] = {}
        self.last_undecodable = 0
        self.other_history: str | None = None

    def take_line(self, line: bytes, number: int) -> None:
        """Take the record that a line of JSON holds."""
        try:
            record = decode(line)
        except MalformedError as error:
            self.take_undecodable(number, str(error))
        else:
            self.take(record, number)

    def take_undecodable(self, line: int, reason: str) -> None:
        """Refuse a line that holds no value, or leave it out."""
        self._refuse(line, reason)
        self.last_undecodable = line

    def take(self, record: Any, line: int) -> None:
        """Take the record of one line; if lenient, leave out one that is not of the format."""
        if self.other_history is not None:
            self.dropped.append((line, self.other_history))
            return
        try:
            self._take(record, line)
        except MalformedError as error:
            self._refuse(line, str(error))
            self._leave_out(record, line)
            if isinstance(error, OtherHistoryError) and record.get("index", 0) == 0:
                self.other_history = f"belongs to the history that begins at line {line}"

    def _refuse(self, line: int, reason: str) -> None:
        """Raise BadInputError, or only note it if lenient."""
        if not self.lenient:
            raise BadInputError(self.file, line, reason)
        self.dropped.append((line, reason))

    def _leave_out(self, record: Any, line: int) -> None:
        """Leave out a record: an operation that it belongs to has an unknown outcome, one that it starts is no more."""
        process = record.get("process") if record.__class__ is dict else None
        if process.__class__ is not int:
            return
        if process in self.open:
            self.abandoned.append(self.open.pop(process))
        if record.get("type") == "invoke":
            self.without_invocation[process] = line

    def _take(self, record: Any, line: int) -> None:
        """Take a record; raises MalformedError, and has changed nothing then."""
        if record.__class__ is not dict:
            raise MalformedError(f"a {json_type(record)} instead of an operation; {EXPECTED_RECORD}")
        try:
            process, kind, function, time = record["process"], record["type"], record["f"], record["time"]
        except KeyError as missing:
            raise MalformedError(f"the field {missing.args[0]!r} is missing; {EXPECTED_RECORD}") from None
        if function.__class__ is not str or kind.__class__ is not str:
            raise MalformedError(f"type {shown(kind)}, f {shown(function)}; expected two names")
        index = record.get("index", line - 1)
        self._check_order(time, index, has_index="index" in record)
        if process.__class__ is not int:
            self.take_fault(process, function, record)
        else:
            self._take_operation(process, kind, function, record, line)
        self.first_time = time if self.first_time is None else self.first_time
        self.time, self.index = time, index

    def _check_order(self, time: Any, index: Any, *, has_index: bool) -> None:
        """Refuse a record that is out of order, by time or by index."""
        if time.__class__ is not int or index.__class__ is not int:
            raise MalformedError(
                f"time {shown(time)}, index {shown(index)}; expected nanoseconds and a position, as integers"
            )
        if time > INT64_MAX or index > INT64_MAX:
            raise MalformedError(f"time {time} or index {index} does not fit into 64 bits; expected a smaller number")
        if has_index and index == 0 < self.index:
            raise OtherHistoryError(
                f"index 0 follows {self.index}: another history begins here; expected one history in a file"
            )
        if time < 0 and self.first_time is None:
            raise MalformedError(f"time {time} lies before the start; expected nanoseconds from 0 on")
        if time < self.time:
            before = f"time {time} lies before the previous {self.time}"
            if self.first_time is not None and time <= self.first_time < self.time:
                raise OtherHistoryError(f"{before}: another history begins here; expected one history in a file")
            raise MalformedError(f"{before}; expected records in order of time")
        if index < self.index:
            raise MalformedError(f"index {index} follows {self.index}; expected records in order of their index")

    def take_fault(self, process: Any, function: str, record: Record) -> None:
        """Keep what the nemesis did; its line `config` describes the cluster."""
        if process.__class__ is not str:
            raise MalformedError(f"process {shown(process)}; expected an integer, or a name such as nemesis")
        value = record.get("value")
        if is_deep(value):
            raise MalformedError(f"the value of a {function} is nested too deeply; expected at most {DEPTH_MAX} levels")
        if function == "config" and isinstance(value, dict):
            self.configuration = value
        else:
            self.faults.append(Fault(record["time"], function, value))

    def _take_operation(self, process: int, kind: str, function: str, record: Record, line: int) -> None:
        """Take one of the two records of a client's operation."""
        if abs(process) > INT64_MAX:
            raise MalformedError(f"process {process} does not fit into 64 bits; expected a smaller number")
        if kind != "invoke" and kind not in OUTCOMES:
            raise MalformedError(f"unknown type {kind!r}; expected invoke, ok, fail or info")
        if function not in FUNCTIONS:
            raise MalformedError(f"unknown f {function!r}; expected {', '.join(FUNCTIONS)}")
        if kind == "invoke":
            self._invoke(process, function, record, line)
        else:
            self._complete(process, function, OUTCOMES[kind], record, line)

    def _invoke(self, process: int, function: str, record: Record, line: int) -> None:
        """Open an operation; if lenient, the outcome of one that is still open is unknown."""
        if not self.lenient:
            self._check_idle(process, function)
        if function in DATA_FUNCTIONS:
            _check_invoked(function, record.get("value"))
        if record.get("abort", False).__class__ is not bool:
            raise MalformedError(f"abort is {shown(record['abort'])}; expected true or false")
        if process in self.open:
            before = self.open.pop(process)
            reason = f"process {process} starts a {function} in line {line} while this {before.record['f']} is open"
            self.dropped.append((before.line, f"{reason}; its outcome counts as unknown"))
            self.abandoned.append(before)
        self.without_invocation.pop(process, None)
        self.open[process] = Invocation(line, self._place(), record)

    def _check_idle(self, process: int, function: str) -> None:
        """Refuse a second open operation of a process."""
        if process in self.open:
            before = self.open[process]
            raise MalformedError(
                f"process {process} starts a {function} while its {before.record['f']} of line {before.line} is open; "
                "expected the completion of that first"
            )

    def _place(self) -> int:
        """The place of the next client record among all."""
        self.records += 1
        return self.records - 1

    def _complete(self, process: int, function: str, outcome: Outcome, record: Record, line: int) -> None:
        """Close the process's open operation."""
        invocation = self._invocation(process, function)
        if self.last_undecodable > invocation.line:
            _check_same_sends(invocation, record)
        row = operation_row(record, invocation, outcome, record["time"], line)
        evidence = _evidence(record, invocation.record, outcome, completed=True)
        del self.open[process]
        row |= {"completed": self._place(), "error": self.error(record.get("error"))}
        self.columns.add(row, evidence)

    def _invocation(self, process: int, function: str) -> Invocation:
        """The open operation that a record completes."""
        if process in self.without_invocation:
            line = self.without_invocation.pop(process)
            raise MalformedError(f"its invocation in line {line} was left out; expected both")
        if process not in self.open:
            raise MalformedError(
                f"process {process} completes a {function} that it never invoked; expected an invoke before"
            )
        invocation = self.open[process]
        opened = invocation.record["f"]
        if opened != function:
            raise MalformedError(
                f"process {process} completes a {function}, but its open operation of line {invocation.line} is a "
                f"{opened}; expected the completion of that"
            )
        return invocation

    def error(self, error: Any) -> int:
        """The position of an error's text."""
        if error is None:
            return NO_ERROR
        return self.columns.error(error if isinstance(error, str) else text_of(error))

    def history(self, lines: int) -> History:
        """All that was read, the operations that are still open last."""
        for invocation in sorted([*self.open.values(), *self.abandoned], key=lambda i: i.line):
            record, line = invocation.record, invocation.line
            try:
                evidence = _evidence(record, record, Outcome.INFO, completed=False)
                row = operation_row(record, invocation, Outcome.INFO, NO_TIME, line)
            except MalformedError as error:
                self._refuse(line, str(error))
                continue
            row |= {"completed": NOT_COMPLETED, "error": self.error(record.get("error"))}
            self.columns.add(row, evidence)
        self._refuse_nothing(lines)
        return History(
            file=self.file,
            **self.columns.finished(),
            faults=self.faults,
            configuration=self.configuration,
            lines=lines,
            dropped=sorted(self.dropped),
        )

    def _refuse_nothing(self, lines: int) -> None:
        """Refuse a history without any operation, lenient or not."""
        if len(self.columns):
            return
        if lines == 0:
            raise BadInputError(self.file, 1, f"the file is empty; {EXPECTED_RECORD} on each line")
        reason = "no operation of any client up to here; expected at least one"
        if self.dropped:
            line, first = min(self.dropped)
            reason += f" (left out {len(self.dropped)}, the first at line {line}: {first})"
        raise BadInputError(self.file, lines, reason)


def operation_row(
    record: Record, invocation: Invocation, outcome: Outcome, completed_at: int, line: int
) -> dict[str, int]:
    """The row of an operation, but for the place of its completion and its error."""
    return {
        "index": record.get("index", line - 1),
        "line": line,
        "invoked": invocation.place,
        "process": record["process"],
        "function": FUNCTIONS[record["f"]],
        "outcome": outcome,
        "closing": _closing(record, invocation.record),
        "means_to_abort": invocation.record.get("abort", False),
        "invoked_at": invocation.record["time"],
        "completed_at": completed_at,
    }


def _closing(record: Record, invocation: Record) -> Closing:
    """The closing read that an operation belongs to, marked on either of its records."""
    mark = record.get("final", invocation.get("final"))
    try:
        return CLOSINGS[mark]
    except (KeyError, TypeError):
        raise MalformedError(f'final is {shown(mark)}; expected "read_committed" or "read_uncommitted"') from None


def _evidence(record: Record, invocation: Record, outcome: Outcome, *, completed: bool) -> Evidence:
    """What an operation sent, read, was assigned and committed."""
    evidence, function = Evidence(), record["f"]
    if function in DATA_FUNCTIONS:
        value = record.get("value")
        known = value is not None or outcome is Outcome.OK
        _add_micro_operations(evidence, function, value if known else invocation["value"])
        add_rebalance_log(evidence, record.get("rebalance-log"))
    elif function in ("assign", "subscribe") and completed:
        add_keys(evidence, "assigned", record.get("value"), f"the value of an {function}")
    return evidence


def add_rebalance_log(evidence: Evidence, log: Any) -> None:
    """Add the keys that a rebalance log names."""
    if log is None:
        return
    if log.__class__ is not list or not all(entry.__class__ is dict for entry in log):
        raise MalformedError(f"the rebalance-log is {shown(log)}; expected a list of objects with keys")
    for entry in log:
        add_keys(evidence, "rebalanced", entry.get("keys", []), "a rebalance-log's keys")


def add_keys(evidence: Evidence, table: str, keys: Any, what: str) -> None:
    """Add the keys of an operation to a table."""
    if keys.__class__ is not list:
        raise MalformedError(f"{what} is {shown(keys)}; expected a list of keys")
    evidence.keys += [(table, _key(key)) for key in keys]


def _add_micro_operations(evidence: Evidence, function: str, value: Any) -> None:
    """Add the messages that an operation sent and read."""
    for micro in _micro_operations(function, value):
        if micro[0] == "send_offsets":
            add_group_offsets(evidence, micro[1], micro[2])
        elif micro[0] == "send":
            payload = micro[2] if micro[2].__class__ is list else [None, micro[2]]
            _add_message(evidence, True, _key(micro[1]), payload)
        elif len(micro) == 2:
            _add_poll(evidence, micro[1])


def _add_poll(evidence: Evidence, messages: Any) -> None:
    """Add the messages that one poll returned."""
    if messages.__class__ is not dict:
        what = json_type(messages)
        raise MalformedError(f"a poll returned a {what}; expected an object of key: [[offset, value], ...]")
    for key, read in messages.items():
        if read.__class__ is not list:
            what = json_type(read)
            raise MalformedError(f"a poll of key {key} returned a {what}; expected [[offset, value], ...]")
        if not read:
            evidence.keys.append(("empty_reads", key))
        for message in read:
            _add_message(evidence, False, key, message)


def add_group_offsets(evidence: Evidence, group: Any, offsets: Any) -> None:
    """Add the offsets that a transaction committed for a consumer group."""
    if group.__class__ is not str or offsets.__class__ is not dict:
        raise MalformedError(
            f"send_offsets has {shown(group)}, {shown(offsets)}; expected a group's name and an object of key: offset"
        )
    for key, offset in offsets.items():
        if offset.__class__ is not int or not 0 <= offset <= INT64_MAX:
            raise MalformedError(f"send_offsets has offset {shown(offset)}; expected a number from 0")
        evidence.group_offsets.append((group, key, offset))


def _key(key: Any) -> Key:
    """A key as a send writes it."""
    if key.__class__ not in SCALARS:
        raise MalformedError(f"key {shown(key)} is a {json_type(key)}; expected a number, a string or a boolean")
    return key_name(key)


def _add_message(evidence: Evidence, is_send: bool, key: Key, message: Any) -> None:
    """Add one message with its offset."""
    whose = "a send" if is_send else "a poll"
    if message.__class__ is not list or len(message) != 2:
        raise MalformedError(f"{whose} has {shown(message)}; expected a pair [offset, value]")
    offset, value = message
    if offset is None:
        offset = NO_OFFSET
    elif offset.__class__ is not int or not -is_send <= offset <= INT64_MAX:
        raise MalformedError(f"{whose} has offset {shown(offset)}; expected a number from 0, or null if unknown")
    if value.__class__ not in SCALARS:
        raise MalformedError(f"{whose} has the value {shown(value)}; expected a number, a string or a boolean")
    evidence.messages.append((is_send, key, offset, value))


def _micro_operations(function: str, value: Any) -> list[Any]:
    """The micro-operations of a `send`, `poll` or `txn`, each one's shape checked."""
    if value.__class__ is not list:
        raise MalformedError(f"the value of a {function} is {shown(value)}; expected a list of micro-operations")
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
        raise MalformedError(f"a {function} has the micro-operation {shown(micro)}; expected {allowed[function]}")
    return value


def _check_invoked(function: str, value: Any) -> None:
    """Refuse an invocation that already knows its answer."""
    for micro in _micro_operations(function, value):
        if (micro[0] == "poll" and len(micro) == 2) or (micro[0] == "send" and micro[2].__class__ is list):
            raise MalformedError(
                f'an invocation has {shown(micro)}; expected ["send", key, value] or ["poll"], no answer yet'
            )


def _check_same_sends(invocation: Invocation, record: Record) -> None:
    """Refuse a completion that sent other messages than its invocation, between which lines could not be read.

    The process may have completed that operation and begun another in them.
    """
    function, value = record["f"], record.get("value")
    if function not in ("send", "txn") or value is None:
        return
    if _sends(function, invocation.record["value"]) != _sends(function, value):
        raise MalformedError(
            f"its sends are not those of its invocation in line {invocation.line}; expected the completion of that"
        )


def _sends(function: str, value: Any) -> list[Any]:
    """Keys and values that micro-operations send, as text."""
    sends = [micro for micro in _micro_operations(function, value) if micro[0] == "send"]
    return [text_of([key, value[-1:] if value.__class__ is list else [value]]) for _, key, value in sends]
