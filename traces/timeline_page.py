"""A history as one HTML page: its anomalies, its whole timeline, and the logs of its partitions, to look around in.

The page needs no network and no server. It holds the recording as columns, each of the smallest type that holds its
numbers, compressed together; its scripts (`page/*.js`) draw only what is in view, so it stays usable however long the
recording is. Everything else is `facts`: names, faults, and the first anomalies of each type.
"""

from __future__ import annotations

import base64
import gzip
import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from hwmark.traces.history import NOT_COMPLETED, Function, History, Outcome, Value
from hwmark.traces.history_picture import draw_history, setup_text, summary_lines
from hwmark.traces.history_story import fault_in_words, is_note, verdict_of
from hwmark.traces.render import render
from hwmark.traces.timeline import (
    NO_ANOMALY,
    Relation,
    Report,
    Witness,
    concerned,
    in_one_process,
    sentence_of,
    steps_of,
    witness_of,
)
from numpy.typing import NDArray

FOLDER = Path(__file__).with_name("page")
SCRIPTS = ("data", "words", "axis", "witness", "drawing", "overview", "log", "panels", "main")
ANOMALIES_MAX, MESSAGES_MAX, OPERATIONS_MAX = 2000, 8, 64
EXACT = 2**53
"""Up to here a JavaScript number is exact."""


def timeline_page(
    history: History, report: Report, around: str | None = None, meanings: Mapping[str, str] | None = None
) -> bytes:
    """The page; it opens at `around`, which is as for `hwmark.traces.timeline.witness_of`.

    `report` is a judged history as plain data (`HistoryReport.to_json`), `meanings` a sentence for each type of
    anomaly. Raises BadInputError if there is nothing at `around`.
    """
    witness = witness_of(history, report, around)
    columns, packed = _packed(_columns(history))
    facts = _facts(history, report, meanings or {}) | {"columns": columns, "start": _start(history, witness, around)}
    parts = {
        "title": html.escape(f"{Path(history.file).name}: {verdict_of(report)}"),
        "verdict": verdict_of(report).lower(),
        "summary": "".join(f"<p>{html.escape(line)}</p>" for line in (*summary_lines(report), setup_text(history))),
        "story": _story(history, report),
        "style": (FOLDER / "page.css").read_text(),
        "facts": orjson.dumps(facts).decode().replace("<", "\\u003c"),
        "packed": packed,
        "script": "\n".join((FOLDER / f"{name}.js").read_text() for name in SCRIPTS),
    }
    page = (FOLDER / "page.html").read_text()
    for name, text in parts.items():  # none but the page's own text holds a marker: all else is escaped
        page = page.replace(f"<!--{name}-->", text)
    return page.encode(errors="replace")


def _start(history: History, witness: Witness, around: str | None) -> str:
    """The fragment of the address at which the page opens, empty for the first anomaly."""
    if around is None:
        return ""
    if witness.name is not None and int(witness.name.rpartition("/")[2]) < ANOMALIES_MAX:
        return f"anomaly={witness.name}"
    return f"op={history.operations.index[witness.rows[0]]}" if witness.rows else ""


def _story(history: History, report: Report) -> str:
    """The story of the worst partition, where anything is wrong."""
    if not report["anomalies"]:
        return ""
    svg = render(draw_history(history, report), "svg")
    picture = svg[svg.index(b"<svg") :].decode()
    return f"<details><summary>The worst partition's story, as a table</summary>{picture}</details>"


def _facts(history: History, report: Report, meanings: Mapping[str, str]) -> dict[str, Any]:
    """What the page knows besides the columns."""
    numbers = _value_numbers(history)
    counts = {name: len(found) for name, found in report["anomalies"].items()}
    bad = sorted(counts, key=lambda name: name not in report["bad_error_types"])
    return {
        "keys": [str(key) for key in history.keys],
        "numeric": [isinstance(key, int) for key in history.keys],
        "values": None if history.values is None else list(map(str, history.values)),
        "groups": history.groups,
        "errors": history.errors,
        "functions": [function.name.lower() for function in Function],
        "outcomes": [outcome.name.lower() for outcome in Outcome],
        "faults": [[fault.time, fault_in_words(fault, 0)[:200], is_note(fault)] for fault in history.faults],
        "nothing": NO_ANOMALY,
        "anomalies": [
            {
                "name": name,
                "meaning": meanings.get(name, ""),
                "count": counts[name],
                "counts": name in report["bad_error_types"],
                "instances": [_instance(history, a, name, numbers) for a in report["anomalies"][name][:ANOMALIES_MAX]],
            }
            for name in bad
        ],
    }


def _value_numbers(history: History) -> dict[tuple[type, Value], int] | None:
    """The number of each value, None where integers stand for themselves."""
    if history.values is None:
        return None
    return {(value.__class__, value): number for number, value in enumerate(history.values)}


def _instance(
    history: History, anomaly: Mapping[str, Any], name: str, numbers: Mapping[tuple[type, Value], int] | None
) -> dict[str, Any]:
    """An anomaly as the page needs it: operations by index, messages by key position and value number."""
    positions = {str(key): position for position, key in enumerate(history.keys)}
    messages: list[list[Value]] = []
    for key, value in concerned(anomaly):
        number = value if numbers is None else numbers.get((value.__class__, value))
        if str(key) in positions and number is not None and len(messages) < MESSAGES_MAX:
            messages.append([positions[str(key)], _exact(number)])
    return {
        "sentence": sentence_of(anomaly, name)[:1000],
        "operations": list(anomaly.get("operations", []))[:OPERATIONS_MAX],
        "messages": messages,
        "steps": [_related(history, relation) for relation in steps_of(history, anomaly)],
        "sequence": [_related(history, relation) for relation in in_one_process(history, anomaly)],
    }


def _exact(number: Value) -> Value:
    """A number as JavaScript reads it exactly: beyond what a double holds as text."""
    return number if isinstance(number, int) and abs(number) < EXACT else str(number)


def _related(history: History, relation: Relation) -> list[Any]:
    """A relation by the indices of its operations."""
    index = history.operations.index
    return [int(index[relation.source]), int(index[relation.target]), relation.kind, relation.words]


def _columns(history: History) -> dict[str, NDArray[Any]]:
    """The recording as columns of numbers; `message` is where the messages of each operation begin."""
    operations, micro = history.operations, history.micro
    rows = np.arange(len(operations) + 1)
    return {
        "index": operations.index,
        "line": operations.line,
        "invoked": operations.invoked,
        "completed": np.where(operations.completed == NOT_COMPLETED, -1, operations.completed),
        "invokedAt": operations.invoked_at,
        "completedAt": operations.completed_at,
        "process": operations.process,
        "func": operations.function,
        "outcome": operations.outcome,
        "closing": operations.closing,
        "aborts": operations.means_to_abort,
        "error": operations.error,
        "message": np.searchsorted(micro.operation, rows),
        "isSend": micro.is_send.astype(np.int8),
        "key": micro.key,
        "value": micro.value,
        "offset": micro.offset,
        "assignedOperation": history.assigned.operation,
        "assignedKey": history.assigned.key,
        "groupOperation": history.group_offsets.operation,
        "group": history.group_offsets.group,
        "groupKey": history.group_offsets.key,
        "groupOffset": history.group_offsets.offset,
    }


def _packed(columns: Mapping[str, NDArray[Any]]) -> tuple[list[list[Any]], str]:
    """Each column's name, type, place and length among the bytes, and the bytes, compressed, as text."""
    placed, pieces, place = [], [], 0
    for name, column in columns.items():
        kind = _smallest(column)
        piece = column.astype(f"<{kind}").tobytes()
        piece += bytes(-len(piece) % 8)  # typed arrays begin at multiples of their size
        placed.append([name, kind, place, len(column)])
        pieces.append(piece)
        place += len(piece)
    # A compressed file's header has a time, which would make every page another.
    return placed, base64.b64encode(gzip.compress(b"".join(pieces), 4, mtime=0)).decode()


def _smallest(column: NDArray[Any]) -> str:
    """The smallest type that holds the column exactly and that JavaScript has an array for."""
    low, high = (int(column.min()), int(column.max())) if len(column) else (0, 0)
    for kind, limit in (("i1", 2**7), ("i2", 2**15), ("i4", 2**31), ("f8", EXACT)):
        if -limit <= low and high < limit:
            return kind
    return "i8"
