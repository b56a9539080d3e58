"""One record of a history as JSON text: its value, exactly, or why there is none."""

from __future__ import annotations

import json
from typing import Any

import orjson

EXPECTED_RECORD = "expected a JSON object with process, type, f, value and time"
DEPTH_MAX = 100
_ANY_DIGIT = bytes.maketrans(b"123456789", b"000000000")


class MalformedError(ValueError):
    """A record that is not of the format; the message says what is wrong and what was expected."""


def decode(line: bytes) -> Any:
    """The JSON value of a line; raises MalformedError."""
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise MalformedError(_why_undecodable(line, error)) from None
    # orjson takes an integer beyond 64 bits for a fraction, and two of them could become one.
    try:
        return json.loads(line) if has_long_number(line) else value
    except RecursionError:  # of Python's own reader, which goes less deep
        raise MalformedError(f"values are nested too deeply; {EXPECTED_RECORD}") from None


def has_long_number(text: bytes) -> bool:
    """Whether there are nineteen digits somewhere, which may be an integer beyond 64 bits."""
    return b"0" * 19 in text.translate(_ANY_DIGIT)


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


def is_deep(value: Any, depth: int = DEPTH_MAX) -> bool:
    """Whether lists and objects are nested so deeply that showing the value could exhaust Python's stack."""
    entries = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return depth < 0 or any(is_deep(entry, depth - 1) for entry in entries)


def exact_text(value: Any) -> bytes:
    """A JSON value as text; raises RecursionError for one that is nested too deeply."""
    try:
        return orjson.dumps(value)
    except TypeError:  # an integer beyond 64 bits, or lists in lists beyond 254
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def text_of(value: Any) -> str:
    """A JSON value as text to be shown."""
    try:
        return exact_text(value).decode()
    except RecursionError:
        return f"a deeply nested {json_type(value)}"


def shown(value: Any, width: int = 60) -> str:
    """A value as JSON, cut to what fits on a line."""
    text = text_of(value)
    return text if len(text) <= width else text[: width - 3] + "..."


def json_type(value: Any) -> str:
    """What JSON calls the type of a parsed value."""
    names = {dict: "JSON object", list: "list", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")
