"""Whether the operations that are said to show an anomaly show it: alone, and (mostly) none can be spared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container
from typing import Any

import orjson
from hwmark.checkers.histories import HistoryReport, check
from hwmark.checkers.histories.kinds import KINDS, Anomaly
from hwmark.traces.history_records import parse_lines

Record = dict[str, Any]

# What one instance of each type is about. Left out: types that are about everything that was recorded (unseen) ...
ABOUT = {
    "missing-from-final-read": ("key", "value"),
    "lost-write": ("key", "value"),
    "inconsistent-offsets": ("key", "offset"),
    "duplicate": ("key", "value"),
    "G1a": ("key", "value", "reader"),
    "no-writer-of-value": ("key", "value"),
    "torn-transaction": ("writer",),
    "aborted-visible": ("key", "value"),
    "processed-twice": ("group", "key", "value", "offset"),
    "processed-never": ("group", "key", "value", "offset"),
    "group-offset-back": ("group", "key", "writer"),
}
# ... Some of the others are shown in part by what is absent, and less of a recording lacks more; and a lost write names
# the reader that got furthest, for whom another, named for another reason, may stand.
SOME_CAN_BE_SPARED = {
    "missing-from-final-read",
    "no-writer-of-value",
    "lost-write",
    "torn-transaction",
    "processed-never",
}


def judge(records: list[Record]) -> HistoryReport:
    return check(parse_lines([orjson.dumps(record) + b"\n" for record in records], "history"))


def records_of(records: list[Record], operations: list[int]) -> list[Record]:
    """The completions with these indices and their invocations."""
    kept: list[Record] = []
    opened: dict[Any, Record] = {}
    for record in records:
        if record["type"] == "invoke":
            opened[record["process"]] = record
        elif isinstance(record["process"], int):
            invocation = opened.pop(record["process"])
            kept += [invocation, record] if record["index"] in operations else []
    return sorted(kept + [r for r in opened.values() if r["index"] in operations], key=lambda r: r["index"])


def shows(records: list[Record], operations: list[int], name: str, instance: Anomaly) -> bool:
    """Whether these operations alone have the anomaly."""
    kept = records_of(records, operations)
    if not kept:
        return False
    return any(all(a[f] == instance[f] for f in ABOUT[name]) for a in judge(kept).anomalies.get(name, []))


def assert_shown(records: list[Record], types: Container[str] = ABOUT) -> Counter[str]:
    """Every instance is shown by its operations, and by no fewer; how many there were of each type."""
    seen: Counter[str] = Counter()
    for name, instances in judge(records).anomalies.items():
        for instance in instances if name in types else []:
            operations = KINDS[name].operations(instance)
            assert shows(records, operations, name, instance), (name, instance)
            for spared in operations if name not in SOME_CAN_BE_SPARED else []:
                rest = [operation for operation in operations if operation != spared]
                assert not shows(records, rest, name, instance), (name, instance, spared)
            seen[name] += 1
    return seen
