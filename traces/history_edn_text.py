"""One record of a history as a line of EDN, as Jepsen 0.3 writes `history.edn` and reads it.

A record is a map: the names of its fields, its type, its f, its micro-operations and a process such as `:nemesis` are
keywords, keys that are integers are integers, everything else is what JSON says. A name that no keyword can have stays
a string. Jepsen's checker (`jepsen.tests.kafka`) knows sends and polls only and takes every poll for what a client did,
so three things are written in a way that it passes over:

- `["send_offsets", group, {key: offset}]` leaves the micro-operations for a field of the record, `:send-offsets
  [[place group {key offset}] ...]`, which tells where it stood;
- a poll of a closing read with `read_uncommitted`, which is raw evidence of the log, has the f `:poll-uncommitted`;
  so Jepsen's checker does not know what nobody else saw;
- the offset -1, which is Kafka's word for an unknown one, is `nil`.

`restored` undoes the first two; the third means the same to hwmark. Most records are written by a few substitutions in
their JSON text (`_edn_of_common`), all others value by value (`edn_value`), with the same outcome.
"""

from __future__ import annotations

import re
from typing import Any

import orjson
from hwmark.traces.history import NO_OFFSET
from hwmark.traces.history_columns import INT64_MAX, plain_key
from hwmark.traces.history_lines import has_long_number, is_deep

Record = dict[str, Any]

DATA_FUNCTIONS = ("send", "poll", "txn")
GROUP_OFFSETS = "send-offsets"
UNCOMMITTED_POLL = "poll-uncommitted"
MAY_NEED_RESTORING = (GROUP_OFFSETS.encode(), UNCOMMITTED_POLL.encode())

_FIRST_FIELDS = ("index", "time", "type", "process", "f", "value")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_?.*+!-]*")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_TO_ESCAPE = re.compile(r'["\\\x00-\x1f]')

# Text without a backslash, so that a string is what stands between two quotes.
_STRING = re.compile(rb'"[^"]*"')
_SEPARATORS = b":,[]{} "
_UNCOMMON = (b"\\", b"[-1,", b'"send_offsets"')
_UNCOMMON_KEY = re.compile(rb'\["send",(?!-?\d{1,18},|"[^"]*[^"\d-][^"]*",)')
_NEXT_NUMBER_KEY = re.compile(rb',"(0|-?[1-9]\d{0,17})":')
_FIRST_NUMBER_KEY = re.compile(rb'\{"(0|-?[1-9]\d{0,17})":')
_NEXT_TEXT_KEY = re.compile(rb',("[^"]*"):')
_FIRST_TEXT_KEY = re.compile(rb'\{("[^"]*"):')
_COMMA_HERE = b"\1"


def edn_line(record: Record, index: int) -> bytes:
    """A record of the format as a line of EDN; `index` is its position, which it has if it tells no other."""
    if len(record) == len(_FIRST_FIELDS) and record["f"] in DATA_FUNCTIONS and record["process"].__class__ is int:
        value = _edn_of_common(record["value"]) if "index" in record else None
        if value is not None:
            return b"{:index %d, :time %d, :type :%b, :process %d, :f :%b, :value %b}\n" % (
                record["index"],
                record["time"],
                record["type"].encode(),
                record["process"],
                record["f"].encode(),
                value,
            )
    return edn_line_by_value(record, index)


def edn_line_by_value(record: Record, index: int) -> bytes:
    """The same line for any record, put together value by value; raises RecursionError for a deeply nested one."""
    if is_deep(record):
        raise RecursionError
    record = Record(index=index) | record
    is_client = record["process"].__class__ is int
    fields = {name: record[name] for name in _FIRST_FIELDS if name in record}
    fields |= {name: value for name, value in record.items() if name not in fields}
    texts = {name: edn_value(value) for name, value in fields.items()}
    texts |= {name: edn_name(record[name]) for name in ("type", "process", "f") if record[name].__class__ is str}
    if is_client:
        texts |= _client_texts(record)
    if record.get("rebalance-log"):
        texts["rebalance-log"] = _rebalance_log(record["rebalance-log"])
    return ("{" + ", ".join(f"{edn_name(name)} {text}" for name, text in texts.items()) + "}\n").encode()


def _client_texts(record: Record) -> dict[str, str]:
    """The fields of an operation that its f gives a meaning."""
    function, value = record["f"], record.get("value")
    if function in ("assign", "subscribe") and value.__class__ is list:
        return {"value": _keys(value)}
    if function not in DATA_FUNCTIONS or value is None:
        return {}
    micros = [(place, micro) for place, micro in enumerate(value) if micro[0] == "send_offsets"]
    texts = {"value": _vector([_micro_operation(micro) for micro in value if micro[0] != "send_offsets"])}
    if micros:
        texts[GROUP_OFFSETS] = _vector([_group_offsets(place, micro) for place, micro in micros])
    if function == "poll" and record.get("final") == "read_uncommitted":
        texts["f"] = f":{UNCOMMITTED_POLL}"
    return texts


def restored(record: Any) -> Any:
    """A record read from EDN as it was before `edn_line` wrote it."""
    if record.__class__ is not dict or record.get("process").__class__ is not int:
        return record
    if record.get("f") == UNCOMMITTED_POLL:
        record["f"] = "poll"
    if _are_group_offsets(record.get(GROUP_OFFSETS)) and record.get("value").__class__ is list:
        for place, group, offsets in record.pop(GROUP_OFFSETS):
            record["value"].insert(place, ["send_offsets", group, offsets])
    return record


def _are_group_offsets(entries: Any) -> bool:
    """Whether a field is one that `edn_line` writes; any other of this name is carried along."""
    return entries.__class__ is list and all(
        entry.__class__ is list and len(entry) == 3 and entry[0].__class__ is int for entry in entries
    )


def _edn_of_common(value: Any) -> bytes | None:
    """Micro-operations as EDN; None if there is anything in them that needs more than substitutions."""
    try:
        text = orjson.dumps(value)
    except TypeError:  # an integer beyond 64 bits
        return None
    if value is None or any(mark in text for mark in _UNCOMMON) or _UNCOMMON_KEY.search(text):
        return None
    strings = b"".join(_STRING.findall(text))
    if len(strings.translate(None, _SEPARATORS)) < len(strings) or has_long_number(text):
        return None
    text = text.replace(b'["send",', b"[:send,").replace(b'["poll"', b"[:poll").replace(b"[null,", b"[nil,")
    if b'":' in text:
        text = _FIRST_NUMBER_KEY.sub(rb"{\1 ", _NEXT_NUMBER_KEY.sub(_COMMA_HERE + rb"\1 ", text))
    if b'":' in text:
        text = _FIRST_TEXT_KEY.sub(rb"{\1 ", _NEXT_TEXT_KEY.sub(_COMMA_HERE + rb"\1 ", text))
    return text.replace(b",", b" ").replace(_COMMA_HERE, b", ")


def edn_value(value: Any) -> str:
    """Any JSON value as EDN; the keys of its objects are strings."""
    if value.__class__ is str:
        return _string(value)
    if value.__class__ is list:
        return _vector([edn_value(member) for member in value])
    if value.__class__ is dict:
        return _map([(_string(key), edn_value(held)) for key, held in value.items()])
    if value.__class__ is int:
        return f"{value}" if abs(value) <= INT64_MAX else f"{value}N"
    return "nil" if value is None else orjson.dumps(value).decode()


def edn_name(name: str) -> str:
    """A keyword, or a string if no keyword can be called so."""
    return f":{name}" if _NAME.fullmatch(name) else _string(name)


def _string(text: str) -> str:
    """A string on one line."""
    return '"' + _TO_ESCAPE.sub(lambda found: _ESCAPES.get(found[0], f"\\u{ord(found[0]):04x}"), text) + '"'


def _vector(texts: list[str]) -> str:
    return f"[{' '.join(texts)}]"


def _map(entries: list[tuple[str, str]]) -> str:
    return "{" + ", ".join([f"{key} {value}" for key, value in entries]) + "}"


def _keys(keys: list[Any]) -> str:
    """Keys, each as a send and a poll have it."""
    return _vector([edn_value(plain_key(key)) for key in keys])


def _micro_operation(micro: list[Any]) -> str:
    """A send or a poll."""
    if micro[0] == "send":
        _, key, sent = micro
        payload = _message(sent) if sent.__class__ is list else edn_value(sent)
        return f"[:send {edn_value(plain_key(key))} {payload}]"
    if len(micro) == 1:
        return "[:poll]"
    reads = [
        (edn_value(plain_key(key)), _vector([_message(message) for message in read])) for key, read in micro[1].items()
    ]
    return f"[:poll {_map(reads)}]"


def _message(message: list[Any]) -> str:
    """An offset and a value."""
    offset, value = message
    return f"[{'nil' if offset in (None, NO_OFFSET) else offset} {edn_value(value)}]"


def _group_offsets(place: int, micro: list[Any]) -> str:
    """What stood at some place of the micro-operations: the offsets committed for a group."""
    _, group, offsets = micro
    entries = [(edn_value(plain_key(key)), edn_value(offset)) for key, offset in offsets.items()]
    return f"[{place} {_string(group)} {_map(entries)}]"


def _rebalance_log(log: Any) -> str:
    """What was assigned and revoked; one of another shape is any value."""
    if log.__class__ is not list or not all(entry.__class__ is dict for entry in log):
        return edn_value(log)
    return _vector([_map([(edn_name(name), _of_rebalance(name, held)) for name, held in e.items()]) for e in log])


def _of_rebalance(name: str, held: Any) -> str:
    """One field of an entry of the rebalance log."""
    if name == "keys" and held.__class__ is list:
        return _keys(held)
    return edn_name(held) if name == "type" and held.__class__ is str else edn_value(held)
