"""One record of a history as EDN text, the way Jepsen writes `history.edn`: a map, tagged as an operation or plain.

EDN becomes what JSON would have said: keywords, characters and symbols are their names, the keys of maps their text,
sets and lists are lists, tagged literals what they tag, an `#inst` its time in ISO 8601. The library for EDN takes a
millisecond a record; so text of the common shape is rewritten as JSON by a few substitutions. They may misjudge text
that they were not made for, but never silently: where a word is taken wrongly for the key of a map or for none, the
result is not JSON, and the library takes over.
"""

from __future__ import annotations

import math
import re
from datetime import date
from decimal import Decimal
from fractions import Fraction
from functools import cache
from itertools import chain
from typing import Any

import orjson
from hwmark.traces.history_lines import MalformedError, has_long_number

EXPECTED_RECORD = "expected an EDN map with :process, :type, :f, :value and :time"

_OPERATION = b"#jepsen.history.Op"
# While text is rewritten, a string is STRING_HERE and the colon after the key of a map is COLON_HERE.
_STRING_HERE, _COLON_HERE = b"\0", b"\1"
_STRING = re.compile(rb'"(?:[^"\\\x00-\x1f]|\\["\\nrtu])*"')
_UNCOMMON = b"\"\\;#^@()'`"
# Each begins with a letter or two that occur seldom, which makes the search fast.
_KEY_OF_MAP = re.compile(
    rb":(?:(?<=\{:)|(?<=, :))([A-Za-z][\w?.*+!/-]*) "
    rb"|:(type|f|value|time|process|index|error|final|abort) (?=[^\]} ])"
)
_NUMBER_KEY_OF_POLL = re.compile(rb"([\]{],? ?)(-?\d+) (?=\[)")
_STRING_KEY_OF_POLL = re.compile(rb"([\]{],? ?)\0 (?=\[)")
_KEYWORD_KEY_OF_POLL = re.compile(rb":(?<=\] :)([A-Za-z][\w?.*+!/-]*) (?=\[)")
_NIL = re.compile(rb"(?<=[\[{ ,\x01])nil(?=[\]} ,])")
_KEYWORD = re.compile(rb":([A-Za-z][\w?.*+!/-]*)(?=[\]} ,])")
_TAG = re.compile(r"#([A-Za-z][\w.*+!\-?$%&=:<>/]*)")
_COMMENT_OR_NOTHING = re.compile(rb"[\s,]*(;[^\n]*)?\s*")


def is_blank(line: bytes) -> bool:
    """Whether a line has nothing but white space (commas too) and a comment."""
    return _COMMENT_OR_NOTHING.fullmatch(line) is not None


def decode_edn(text: bytes) -> Any:
    """The JSON value that a piece of EDN stands for; raises MalformedError."""
    rewritten = as_json(text)
    if rewritten is not None:
        try:
            return orjson.loads(rewritten)
        except orjson.JSONDecodeError:
            pass
    return decode_by_library(text)


def as_json(text: bytes) -> bytes | None:
    """EDN of the common shape as JSON, or as something that is not JSON; None if the shape is another at first sight.

    The common shape has no comment, set, list or tag but that of an operation, and no large number.
    """
    if _STRING_HERE in text or _COLON_HERE in text:
        return None
    text = text.strip().removeprefix(_OPERATION).lstrip()
    strings: list[bytes] = []
    if b'"' in text:
        strings = _STRING.findall(text)
        text = _STRING.sub(_STRING_HERE, text)
    if b"null" in text or len(text.translate(None, _UNCOMMON)) < len(text) or has_long_number(text):
        return None
    text = _rewrite(text)
    return _put_back(strings, text) if strings and text else text


def _rewrite(text: bytes) -> bytes:
    """Put quotes, colons and commas where JSON has them; empty if that would lose something."""
    if b"\n" in text or b"  " in text:
        text = b" ".join(text.split())
    text = _KEY_OF_MAP.sub(rb'"\1\2"' + _COLON_HERE, text)
    text, numbers = _NUMBER_KEY_OF_POLL.subn(rb'\1"\2"' + _COLON_HERE, text)
    if _STRING_HERE in text:
        text, texts = _STRING_KEY_OF_POLL.subn(rb"\1" + _STRING_HERE + _COLON_HERE, text)
        if numbers and texts:  # of which two may be the same for JSON, which then forgets one
            return b""
    text = _KEYWORD_KEY_OF_POLL.sub(rb'"\1"' + _COLON_HERE, text)
    if b"nil" in text:
        text = _NIL.sub(b"null", text)
    text = _KEYWORD.sub(rb'"\1"', text)
    return text.replace(b", ", b" ").replace(b" ", b",").replace(_COLON_HERE, b":")


def _put_back(strings: list[bytes], text: bytes) -> bytes:
    """Put strings where they were."""
    between = text.split(_STRING_HERE)
    return b"".join(chain.from_iterable(zip(between, [*strings, b""], strict=True)))


def decode_by_library(text: bytes) -> Any:
    """The JSON value that any EDN stands for; raises MalformedError."""
    import edn_format

    try:
        words = text.decode()
    except UnicodeDecodeError as error:
        raise MalformedError(f"byte {error.start + 1} is not UTF-8 text; {EXPECTED_RECORD}") from None
    for tag in set(_TAG.findall(words)) - {"inst", "uuid"}:
        edn_format.add_tag(tag, _tagged)
    try:
        forms = list(_library_parser().parse(words, lexer=_library_lexer().clone()))
    except Exception as error:  # the library raises whatever its grammar, a tag or a number runs into
        raise MalformedError(_why_undecodable(error)) from None
    if len(forms) != 1:
        raise MalformedError(f"{len(forms)} EDN forms; {EXPECTED_RECORD}, one")
    try:
        return _json_value(forms[0])
    except RecursionError:
        raise MalformedError(f"values are nested too deeply; {EXPECTED_RECORD}") from None


@cache
def _library_parser() -> Any:
    """The library's parser; making its tables takes longer than a hundred records, and it makes them every time."""
    from edn_format import edn_parse

    return edn_parse.ply.yacc.yacc(module=edn_parse, debug=False, write_tables=False)


@cache
def _library_lexer() -> Any:
    """The library's lexer, to be cloned."""
    from edn_format import edn_lex

    return edn_lex.lex()


def _tagged(value: Any) -> Any:
    """What a tagged literal stands for."""
    return value


def _why_undecodable(error: Exception) -> str:
    """Say in plain words why text is no EDN."""
    if isinstance(error, RecursionError):
        return f"values are nested too deeply; {EXPECTED_RECORD}"
    if "EOF" in str(error):
        return f"the EDN is cut off; {EXPECTED_RECORD}, complete"
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return f"not EDN ({first}); {EXPECTED_RECORD}"


def _json_value(value: Any) -> Any:
    """A value of the library as JSON would have it."""
    import edn_format

    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, edn_format.Keyword | edn_format.Symbol):
        return value.name
    if isinstance(value, str):
        return _text(str(value))
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, edn_format.ImmutableDict):
        return _json_object(value)
    if isinstance(value, frozenset):
        return sorted((_json_value(member) for member in value), key=repr)
    if isinstance(value, edn_format.ImmutableList | tuple | list):
        return [_json_value(member) for member in value]
    if isinstance(value, Decimal) and Decimal(float(value)) == value:
        return float(value)
    if isinstance(value, Fraction) and value.denominator == 1:
        return value.numerator
    if isinstance(value, edn_format.MetadataValue):
        return _json_value(value.value)
    return value.isoformat() if isinstance(value, date) else str(value)


def _json_object(value: Any) -> dict[str, Any]:
    """A map as a JSON object; two keys of one text would be one key."""
    items = [(_key_text(_json_value(key)), _json_value(entry)) for key, entry in value.items()]
    whole = dict(items)
    if len(whole) < len(items):
        raise MalformedError("a map has two keys of the same text; expected different ones")
    return whole


def _key_text(key: Any) -> str:
    """The key of a map as JSON has to write it."""
    if isinstance(key, str):
        return key
    try:
        return orjson.dumps(key).decode()
    except TypeError:  # an integer beyond 64 bits
        return str(key)


def _text(text: str) -> str:
    """Text of which no character is written as two halves."""
    try:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except UnicodeDecodeError:
        raise MalformedError("a string has half a character (a lone surrogate); expected Unicode text") from None
