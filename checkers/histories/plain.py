"""The slow twin of the history checker: the definitions written out over dictionaries, one record at a time.

It takes records as parsed JSON and shares nothing with the columnar checker. Anomalies are reported as the sets of
facts that both must agree on; which operation stands as an example reader is free and left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

Record = dict[str, Any]
Message = tuple[str, Any]
Facts = dict[str, list[tuple[Any, ...]]]
# The values of a key, and the last position of each.
Order = tuple[list[Any], dict[Any, int]]


def check_plain(records: Iterable[Record]) -> Facts:
    """The anomalies of a history, each type as a sorted list of facts."""
    ops = _operations(records)
    looked_for = {
        "missing-from-final-read": _missing(ops),
        "lost-write": _lost(ops),
        "unseen": _unseen(ops),
        "inconsistent-offsets": _inconsistent(ops),
        "duplicate": _duplicates(ops),
        "G1a": _aborted_reads(ops),
        "no-writer-of-value": _phantoms(ops),
        "precommitted-read": _precommitted(ops),
    }
    looked_for |= _out_of_sequence(ops)
    return {name: sorted(facts, key=repr) for name, facts in looked_for.items() if facts}


def _operations(records: Iterable[Record]) -> list[Record]:
    """Completions in order, then invocations left open as info; each with the marks of its invocation."""
    opened: dict[int, Record] = {}
    completed: list[Record] = []
    for number, record in enumerate(records):
        if not isinstance(record["process"], int):
            continue
        op: Record = {"index": number} | record
        if op["type"] == "invoke":
            opened[op["process"]] = op
            continue
        invocation = opened.pop(op["process"])
        if op.get("value") is None and op["type"] != "ok":
            op["value"] = invocation["value"]
        completed.append({"final": invocation.get("final"), "invoked": invocation["index"]} | op)
    return completed + [{"invoked": o["index"], **o, "type": "info", "open": True} for o in opened.values()]


def _sends(op: Record) -> list[tuple[Message, int | None]]:
    """The messages that an operation sent, with their offsets."""
    if op["f"] not in ("send", "txn"):
        return []
    found = []
    for micro in op["value"]:
        if micro[0] == "send":
            offset, value = micro[2] if isinstance(micro[2], list) else (None, micro[2])
            found.append(((str(micro[1]), value), None if offset == -1 else offset))
    return found


def _reads(op: Record) -> list[tuple[Message, int | None]]:
    """The messages that an operation read, with their offsets."""
    if op["f"] not in ("poll", "txn"):
        return []
    polls = [micro[1] for micro in op["value"] if micro[0] == "poll" and len(micro) == 2]
    return [((k, v), None if o == -1 else o) for poll in polls for k, messages in poll.items() for o, v in messages]


def _is_raw(op: Record) -> bool:
    return op.get("final") == "read_uncommitted"


def _ok_read(ops: list[Record]) -> set[Message]:
    return {m for op in ops if op["type"] == "ok" and not _is_raw(op) for m, _ in _reads(op)}


def _acknowledged(ops: list[Record]) -> set[Message]:
    return {m for op in ops if op["type"] == "ok" for m, _ in _sends(op)}


def _writers(ops: list[Record]) -> dict[Message, Record]:
    """The last operation to complete that sent each message; one left open only if nothing else did."""
    ordered = [op for op in ops if op.get("open")] + [op for op in ops if not op.get("open")]
    return {m: op for op in ordered for m, _ in _sends(op)}


def _is_committed(op: Record, ok_read: set[Message]) -> bool:
    return op["type"] == "ok" or (op["type"] == "info" and any(m in ok_read for m, _ in _sends(op)))


def _log(ops: list[Record], raw: bool) -> dict[str, dict[int, set[Any]]]:
    """Per key: offset to the values seen there, with the closing raw read or without."""
    ok_read = _ok_read(ops)
    log: dict[str, dict[int, set[Any]]] = defaultdict(lambda: defaultdict(set))
    for op in ops:
        seen = [] if _is_raw(op) and not raw else _reads(op)
        for (key, value), offset in seen + (_sends(op) if _is_committed(op, ok_read) else []):
            if offset is not None:
                log[key][offset].add(value)
    return log


def _inconsistent(ops: list[Record]) -> list[tuple[Any, ...]]:
    order = {key: sorted(offsets) for key, offsets in _log(ops, raw=False).items()}
    return [
        (key, offset, order[key].index(offset) if offset in order.get(key, ()) else None, frozenset(values))
        for key, offsets in _log(ops, raw=True).items()
        for offset, values in offsets.items()
        if len(values) > 1
    ]


def _duplicates(ops: list[Record]) -> list[tuple[Any, ...]]:
    places: dict[Message, set[int]] = defaultdict(set)
    for key, offsets in _log(ops, raw=True).items():
        for offset, values in offsets.items():
            for value in values:
                places[key, value].add(offset)
    return [(*message, len(offsets), tuple(sorted(offsets))) for message, offsets in places.items() if len(offsets) > 1]


def _aborted_reads(ops: list[Record]) -> list[tuple[Any, ...]]:
    failed = {m for op in ops if op["type"] == "fail" for m, _ in _sends(op)}
    readers = [op for op in ops if op["type"] == "ok" and not _is_raw(op)]
    writer = _writers(ops)
    return [(*m, writer[m]["index"], op["index"]) for op in readers for m, _ in _reads(op) if m in failed]


def _phantoms(ops: list[Record]) -> list[tuple[Any, ...]]:
    writer = _writers(ops)
    reader = {m: op["index"] for op in ops[::-1] for m, _ in _reads(op) if m not in writer}
    return [(*message, index) for message, index in reader.items()]


def _lost(ops: list[Record]) -> list[tuple[Any, ...]]:
    ok_read, writer = _ok_read(ops), _writers(ops)
    lost = []
    for key, offsets in _log(ops, raw=False).items():
        order = [offsets[o] for o in sorted(offsets)]
        first, last = _appearances(order), _appearances(order[::-1])
        bound = max((first[v] for k, v in ok_read if k == key and v in first), default=-1)
        for value, from_the_end in last.items():
            if len(order) - 1 - from_the_end > bound or (key, value) in ok_read:
                continue
            if (key, value) in writer and _is_committed(writer[key, value], ok_read):
                lost.append((key, value, first[value], bound, writer[key, value]["index"]))
    return lost


def _appearances(order: list[set[Any]]) -> dict[Any, int]:
    """The first position of each value."""
    first: dict[Any, int] = {}
    for index, values in enumerate(order):
        for value in values:
            first.setdefault(value, index)
    return first


def _missing(ops: list[Record]) -> list[tuple[Any, ...]]:
    closing = [op for op in ops if op.get("final") == "read_committed" and op["f"] in ("poll", "txn")]
    if not closing or max(closing, key=lambda op: op["invoked"])["type"] != "ok":
        return []
    found = {m for op in closing if op["type"] == "ok" for m, _ in _reads(op)}
    return [(*m, _writers(ops)[m]["index"]) for m in _acknowledged(ops) - found]


def _unseen(ops: list[Record]) -> list[tuple[Any, ...]]:
    return list(_acknowledged(ops) - _ok_read(ops))


def _precommitted(ops: list[Record]) -> list[tuple[Any, ...]]:
    own = [(op, {m for m, _ in _sends(op)}) for op in ops if not _is_raw(op)]
    first = [(op, next((m for m, _ in _reads(op) if m in sent), None)) for op, sent in own]
    return [(*message, op["index"]) for op, message in first if message]


def _out_of_sequence(ops: list[Record]) -> Facts:
    """Skips and steps back, as (key, value, value after it, delta, values between, operations)."""
    order = _version_orders(ops)
    found: Facts = defaultdict(list)
    for op in ops:
        moved = {str(key) for entry in op.get("rebalance-log") or [] for key in entry["keys"]}
        reads = {key: values for key, values in _values_read(op).items() if key not in moved}
        for what, lists in (("poll", reads), ("send", _values_sent(op))):
            for key, values in lists.items():
                for pair in pairwise(values):
                    _judge(found, order, f"int-{what}-skip", f"int-nonmonotonic-{what}", key, pair, op)
    for process in {op["process"] for op in ops}:
        _follow(found, order, [op for op in ops if op["process"] == process and not op.get("open")])
    found.pop("send-skip", None)  # others send in between
    return found


def _follow(found: Facts, order: dict[str, Order], ops: list[Record]) -> None:
    """Walk the operations of one process with what it last read of, and sent to, each key."""
    last_read: dict[str, tuple[Record, list[Any]]] = {}
    last_sent: dict[str, tuple[Record, list[Any]]] = {}
    for op in ops:
        if op["f"] in ("assign", "subscribe") and op["type"] != "fail":
            named = {str(key) for key in op["value"]}
            last_read = {key: last for key, last in last_read.items() if key in named}
            last_sent = {key: last for key, last in last_sent.items() if key in named}
        for what, lists, last in (("poll", _values_read(op), last_read), ("send", _values_sent(op), last_sent)):
            if what == "send" and op["type"] == "fail":
                continue
            for key, values in lists.items():
                before, earlier = last.get(key, (op, []))
                if earlier and values:
                    pair = (earlier[-1], values[0])
                    _judge(found, order, f"{what}-skip", f"nonmonotonic-{what}", key, pair, before, op)
                if what == "send" or op["type"] == "ok":
                    last[key] = (op, values)


def _judge(
    found: Facts, order: dict[str, Order], skip: str, back: str, key: str, pair: tuple[Any, Any], *ops: Record
) -> None:
    """Note a pair of values that should be neighbours in the version order and are not."""
    values, position = order.get(key, ([], {}))
    if all(value in position for value in pair):
        low, high = (position[value] for value in pair)
        if high - low != 1:
            between = tuple(values[low + 1 : high])
            indices = tuple(op["index"] for op in ops)
            found[skip if high > low else back].append((key, *pair, high - low, between, indices))


def _version_orders(ops: list[Record]) -> dict[str, Order]:
    """Per key the values in the order of their offsets, of several at an offset the least."""
    orders: dict[str, Order] = {}
    for key, offsets in _log(ops, raw=False).items():
        values = [min(offsets[o], key=lambda value: (isinstance(value, str), value)) for o in sorted(offsets)]
        orders[key] = values, {value: index for index, value in enumerate(values)}
    return orders


def _values_read(op: Record) -> dict[str, list[Any]]:
    """Per key the values that an operation read, in order; nothing for the closing raw read."""
    read: dict[str, list[Any]] = {}
    if op["f"] in ("poll", "txn") and not _is_raw(op):
        for micro in op["value"]:
            if micro[0] == "poll" and len(micro) == 2:
                for key, messages in micro[1].items():
                    read.setdefault(key, []).extend(value for _, value in messages)
    return read


def _values_sent(op: Record) -> dict[str, list[Any]]:
    """Per key the values that an operation which completed sent, in order."""
    sent: dict[str, list[Any]] = defaultdict(list)
    for (key, value), _ in [] if op.get("open") else _sends(op):
        sent[key].append(value)
    return sent
