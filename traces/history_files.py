"""The file of a history: where its bytes come from."""

from __future__ import annotations

import sys

from hwmark.traces.errors import BadInputError
from hwmark.traces.history import History
from hwmark.traces.history_records import parse_lines

STANDARD_INPUT = "standard input"


def read(path: str, *, lenient: bool = False) -> History:
    """The history in a file, or on standard input if `path` is "-"; raises BadInputError."""
    if path == "-":
        return parse_lines(sys.stdin.buffer, STANDARD_INPUT)
    try:
        with open(path, "rb") as lines:
            return parse_lines(lines, path)
    except OSError as error:
        reason = f"cannot be read: {error.strerror}; expected a history of JSON lines"
        raise BadInputError(path, None, reason) from error
