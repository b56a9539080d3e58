"""A history that is one list: a JSON array of records, or an EDN vector or list of them, in any layout."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from hwmark.traces.history_lines import MalformedError

_JSON_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\](){}]', re.DOTALL)
_EDN_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|;[^\n]*|\\.|[\[\](){}]', re.DOTALL)
_EDN_BETWEEN = re.compile(rb"(?:[\s,]|;[^\n]*(?:\n|$))*")
_JSON_BLANK = re.compile(rb"\s*")
_JSON_SEPARATOR = re.compile(rb"\s*,\s*")
_CUT_OFF = "the list of records is cut off; expected it to end with a closing bracket"


class Element(NamedTuple):
    """The text of one record of a list, and the line at which it begins."""

    text: bytes
    line: int


class NotAListError(MalformedError):
    """A list that does not go on after its elements so far, at a line."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line


def elements_of(text: bytes, *, is_edn: bool) -> Iterator[Element]:
    """The elements of the list that a text is; raises NotAListError where it is none."""
    start = _begin(text, is_edn)
    line, counted, depth = 1, 0, 0
    for token in (_EDN_TOKEN if is_edn else _JSON_TOKEN).finditer(text, start):
        kind = token.group()
        if kind in (b"[", b"{", b"("):
            depth += 1
        elif kind in (b"]", b"}", b")"):
            depth -= 1
            if depth > 0:
                continue
            if depth < 0:
                line += text.count(b"\n", counted, token.start())
                _check_end(text, start, token.start(), line, is_edn)
                return
            first = _skip_separator(text, start, counted == 0, is_edn)
            if first is None:
                raise NotAListError(line, "no comma after this record; expected one between two records")
            line += text.count(b"\n", counted, first)
            counted = first
            yield Element(text[first : token.end()], line)
            start = token.end()
    raise NotAListError(line + text.count(b"\n", counted, len(text.rstrip())), _CUT_OFF)


def _begin(text: bytes, is_edn: bool) -> int:
    """Where the elements begin: after the opening bracket."""
    return _end_of(_EDN_BETWEEN if is_edn else _JSON_BLANK, text, 0) + 1


def _skip_separator(text: bytes, start: int, is_first: bool, is_edn: bool) -> int | None:
    """Where the next element begins; None if JSON's comma is missing."""
    if is_edn or is_first:
        return _end_of(_EDN_BETWEEN if is_edn else _JSON_BLANK, text, start)
    separator = _JSON_SEPARATOR.match(text, start)
    return separator.end() if separator else None


def _end_of(blank: re.Pattern[bytes], text: bytes, start: int) -> int:
    """Where white space ends, which may be none."""
    match = blank.match(text, start)
    return match.end() if match else start


def _check_end(text: bytes, start: int, end: int, line: int, is_edn: bool) -> None:
    """Refuse what is no record before the end of the list, and anything after it."""
    for rest, where in ((text[start:end], "in the list"), (text[end + 1 :], "after the list")):
        blank = _EDN_BETWEEN.fullmatch(rest) is not None if is_edn else not rest.strip()
        if not blank:
            shown = rest.strip()[:60].decode(errors="replace")
            raise NotAListError(line, f"{shown!r} {where}; expected nothing but records in one list")
