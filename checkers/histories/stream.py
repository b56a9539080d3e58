"""A report as JSON piece by piece: millions of anomalies never lie in memory as one text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import orjson
from hwmark.checkers.histories.kinds import KINDS, Anomaly
from hwmark.checkers.histories.report import HistoryReport

PIECE = 4096


def report_pieces(report: HistoryReport, more: Mapping[str, Any]) -> Iterator[bytes]:
    """One JSON object: the report's `to_json` and the fields of `more`."""
    for number, (name, value) in enumerate((report.summary() | dict(more)).items()):
        yield (b"," if number else b"{") + orjson.dumps(name) + b":"
        yield from _anomalies(report) if name == "anomalies" else [_json(value)]
    yield b"}"


def _anomalies(report: HistoryReport) -> Iterator[bytes]:
    """Every instance of every type."""
    yield b"{"
    for number, (name, instances) in enumerate(report.anomalies.items()):
        yield (b"," if number else b"") + orjson.dumps(name) + b":["
        yield from _joined(KINDS[name].told(instance) for instance in instances)
        yield b"]"
    yield b"}"


def _joined(instances: Iterable[Anomaly]) -> Iterator[bytes]:
    """Instances with commas between, many in each piece."""
    rest, comma = iter(instances), b""
    while piece := list(islice(rest, PIECE)):
        yield comma + _json(piece)[1:-1]
        comma = b","


def _json(value: Any) -> bytes:
    """A value as JSON, integers beyond 64 bits included, which orjson does not write."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
