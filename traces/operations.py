"""Operations on one shared object: who called what, when it was called and answered, and what the answer was.

An operation file is JSON lines. The first is the header `{"name", "model", "expected", "init", ...}`: only `model` is
required, `init` is the object's first state and `expected` the known verdict, whatever else there is are options of the
model. Every further line is one operation `{"process", "f", "input", "output", "call", "return"}`. Times are whole
numbers of any unit on one clock; intervals are closed, x precedes y iff `return` of x < `call` of y. `"return": null`
is an operation of unknown outcome: it may have taken effect at any time from its call on, or never; its process may go
on with another operation. The lines may stand in any order; operations are numbered from 0 by their place in the file.

Plain or gzip; the name "-" is standard input. What `f`, `input` and `output` may be is the model's business, not read
here.
"""

from __future__ import annotations

import gzip
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from hwmark.traces.errors import BadInputError

STANDARD_INPUT = "-"
GZIP_MAGIC = b"\x1f\x8b"
TIME_MAX = 2**63 - 1
FIELDS = ("process", "f", "input", "output", "call", "return")
EXPECTED_HEADER = 'expected a header like {"name": "run-1", "model": "register", "init": null}'
EXPECTED_OPERATION = "expected a JSON object with process, f, input, output, call and return"
VERDICTS = ("linearizable", "not-linearizable", "unknown")


@dataclass(frozen=True)
class OperationHistory:
    """The operations of one file, a list per field; operation i is item i of each and stands in line i + 2.

    `call` and `returned` are times; `returned` is None where the outcome is unknown. `header` is the first line.
    """

    file: str
    header: dict[str, Any]
    process: list[int | str]
    f: list[str]
    input: list[Any]
    output: list[Any]
    call: list[int]
    returned: list[int | None]

    def __len__(self) -> int:
        return len(self.call)

    @property
    def model(self) -> str:
        """The model's name in the header."""
        return str(self.header["model"])

    @property
    def expected(self) -> str | None:
        """The verdict that the header announces, None if it does not."""
        expected: str | None = self.header.get("expected")
        return expected

    def bad(self, operation: int | None, reason: str) -> BadInputError:
        """The error that blames one operation, or the header (None); `reason` ends with what was expected."""
        return BadInputError(self.file, 1 if operation is None else operation + 2, reason)


def read_operations(path: str | Path) -> OperationHistory:
    """Read the operation file at `path`, or on standard input for "-".

    Raises BadInputError, with file and line, for a file that cannot be read or is no such file.
    """
    name = "standard input" if str(path) == STANDARD_INPUT else str(path)
    return parse_operations(_read_bytes(path, name), name)


def _read_bytes(path: str | Path, name: str) -> bytes:
    """What a file or standard input holds, unpacked if it is gzip; raises BadInputError."""
    try:
        data = sys.stdin.buffer.read() if path == STANDARD_INPUT else Path(path).read_bytes()
        return gzip.decompress(data) if data.startswith(GZIP_MAGIC) else data
    except (OSError, EOFError, zlib.error) as error:
        why = (getattr(error, "strerror", None) or str(error)).lower()
        raise BadInputError(name, None, f"cannot be read: {why}; expected operations as JSON lines") from None


def parse_operations(data: bytes, file: str) -> OperationHistory:
    """The operations that JSON lines hold; `file` names them in errors."""
    lines = data.splitlines()
    if not lines:
        raise BadInputError(file, 1, f"the file is empty; {EXPECTED_HEADER}")
    header = _header(_decode(lines[0], file, 1, EXPECTED_HEADER), file)
    try:
        records = list(map(orjson.loads, lines[1:]))
        columns = [[record[field] for record in records] for field in FIELDS]
    except (orjson.JSONDecodeError, KeyError, TypeError, IndexError):
        raise _first_broken_line(lines, file) from None
    if any(len(record) != len(FIELDS) for record in records):
        raise _first_broken_line(lines, file)
    history = OperationHistory(file, header, *columns)
    _check_types(history)
    _check_intervals(history)
    return history


def _decode(line: bytes, file: str, number: int, expected: str) -> Any:
    """The JSON value of a line; raises BadInputError."""
    if not line.strip():
        raise BadInputError(file, number, f"the line is empty; {expected}")
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        why = "the line is cut off or not JSON" if error.pos >= len(line) else f"not JSON (column {error.colno})"
        raise BadInputError(file, number, f"{why}: {error.msg}; {expected}") from None


def _header(record: Any, file: str) -> dict[str, Any]:
    """Check the first line."""
    if not isinstance(record, dict) or "model" not in record:
        raise BadInputError(file, 1, f"no header: {shown(record)}; {EXPECTED_HEADER}")
    if not isinstance(record["model"], str):
        raise BadInputError(file, 1, f"model {shown(record['model'])}; expected a name")
    if record.get("expected") not in (None, *VERDICTS):
        raise BadInputError(file, 1, f"expected {shown(record['expected'])}; expected one of {', '.join(VERDICTS)}")
    return record


def _first_broken_line(lines: list[bytes], file: str) -> BadInputError:
    """What is wrong with the first line after the header that is no operation."""
    for number, line in enumerate(lines[1:], 2):
        try:
            record = _decode(line, file, number, EXPECTED_OPERATION)
        except BadInputError as error:
            return error
        if reason := _why_no_operation(record):
            return BadInputError(file, number, f"{reason}; {EXPECTED_OPERATION}")
    raise AssertionError("no line is broken")


def _why_no_operation(record: Any) -> str | None:
    """Why a JSON value has not the fields of an operation, None if it has."""
    if not isinstance(record, dict):
        return f"{shown(record)} instead of an operation"
    if "model" in record and "call" not in record:
        return "a second header: several histories in one file"
    missing = [field for field in FIELDS if field not in record]
    unknown = [field for field in record if field not in FIELDS]
    if missing:
        return f"the field {missing[0]!r} is missing"
    return f"unknown field {unknown[0]!r}" if unknown else None


def _check_types(history: OperationHistory) -> None:
    """Refuse a process, an f or a time of another type than it has to be."""
    for field, values, types, expected in (
        ("process", history.process, {int, str}, "a whole number or a name"),
        ("f", history.f, {str}, "a name"),
        ("call", history.call, {int}, "a whole number"),
        ("return", history.returned, {int, type(None)}, "a whole number, or null for an unknown outcome"),
    ):
        if set(map(type, values)) - types:
            i, value = next((i, value) for i, value in enumerate(values) if type(value) not in types)
            raise history.bad(i, f"{field} {shown(value)}; expected {expected}")


def _check_intervals(history: OperationHistory) -> None:
    """Refuse times beyond 64 bits, a return before its call, and two answered operations of one process at once."""
    order: Any = range(len(history))
    if history.call != sorted(history.call):
        order = sorted(order, key=history.call.__getitem__)
    busy: dict[int | str, tuple[int, int]] = {}
    for i in order:
        process, call, returned = history.process[i], history.call[i], history.returned[i]
        until, other = busy.get(process, (call, i))
        if call < until:
            raise history.bad(
                max(i, other),
                f"process {process!r} calls at {call} while its operation in line {other + 2} lasts until {until}; "
                "expected one operation of a process at a time",
            )
        if returned is not None:
            busy[process] = (returned, i)
            if returned < call:
                raise history.bad(i, f"return {returned} is before call {call}; expected it at or after the call")
        if not -TIME_MAX <= call <= (returned or call) <= TIME_MAX:
            raise history.bad(i, f"call {call}, return {returned}; expected times within 64 bits")


def shown(value: Any) -> str:
    """A JSON value, short enough for one line."""
    text = orjson.dumps(value).decode()
    return text if len(text) <= 60 else text[:57] + "..."
