"""The two notations of a generated history: JSON lines as the recordings have them, and Jepsen's EDN.

Records and micro-operations are written as text once, when they come about, and only joined afterwards: a record that
five consumers read is formatted once. Both notations put the fields in the same order.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Protocol


class Notation(Protocol):
    """How each part of a line is written; `polled` takes pairs of a key and its records, already joined."""

    separator: str
    poll: str

    def record(self, offset: int | None, value: int) -> str:
        """A message with its offset, None if unknown."""

    def send(self, key: int, payload: int | str) -> str:
        """A send of a value, or of an acknowledged record."""

    def polled(self, reads: Iterable[tuple[int, str]]) -> str:
        """A poll with its answer."""

    def send_offsets(self, group: str, offsets: dict[int, int]) -> str:
        """The commit of a group's offsets."""

    def micro_operations(self, texts: Iterable[str]) -> str:
        """The value of a data operation."""

    def plain(self, value: Any) -> str:
        """Any other value."""

    def field(self, name: str, value: Any) -> str:
        """A further field, to stand at the end of a line."""

    def line(self, index: int, kind: str, process: int | str, function: str, value: str, time: int, more: str) -> str:
        """A whole line; `more` are its further fields."""


class JsonLines:
    """JSON lines, spaced as the recorders' are."""

    separator = ", "
    poll = '["poll"]'

    def record(self, offset: int | None, value: int) -> str:
        """See Notation."""
        return f"[{'null' if offset is None else offset}, {value}]"

    def send(self, key: int, payload: int | str) -> str:
        """See Notation."""
        return f'["send", {key}, {payload}]'

    def polled(self, reads: Iterable[tuple[int, str]]) -> str:
        """See Notation."""
        return '["poll", {' + ", ".join([f'"{key}": [{records}]' for key, records in reads]) + "}]"

    def send_offsets(self, group: str, offsets: dict[int, int]) -> str:
        """See Notation."""
        return json.dumps(["send_offsets", group, offsets])

    def micro_operations(self, texts: Iterable[str]) -> str:
        """See Notation."""
        return f"[{', '.join(texts)}]"

    def plain(self, value: Any) -> str:
        """See Notation."""
        return json.dumps(value)

    def field(self, name: str, value: Any) -> str:
        """See Notation."""
        return f', "{name}": {json.dumps(value)}'

    def line(self, index: int, kind: str, process: int | str, function: str, value: str, time: int, more: str) -> str:
        """See Notation."""
        who = process if process.__class__ is int else f'"{process}"'
        return (
            f'{{"index": {index}, "type": "{kind}", "process": {who}, "f": "{function}", "value": {value}, '
            f'"time": {time}{more}}}\n'
        )


class Edn:
    """Clojure's EDN, a map per line: names are keywords, texts are strings."""

    separator = " "
    poll = "[:poll]"

    def record(self, offset: int | None, value: int) -> str:
        """See Notation."""
        return f"[{'nil' if offset is None else offset} {value}]"

    def send(self, key: int, payload: int | str) -> str:
        """See Notation."""
        return f"[:send {key} {payload}]"

    def polled(self, reads: Iterable[tuple[int, str]]) -> str:
        """See Notation."""
        return "[:poll {" + ", ".join([f"{key} [{records}]" for key, records in reads]) + "}]"

    def send_offsets(self, group: str, offsets: dict[int, int]) -> str:
        """See Notation."""
        return f"[:send_offsets {self.plain(group)} {self.plain(offsets)}]"

    def micro_operations(self, texts: Iterable[str]) -> str:
        """See Notation."""
        return f"[{' '.join(texts)}]"

    def plain(self, value: Any) -> str:
        """See Notation; the names in a map are keywords."""
        if isinstance(value, dict):
            names = {name: f":{name}" if isinstance(name, str) else str(name) for name in value}
            return "{" + ", ".join(f"{names[name]} {self.plain(held)}" for name, held in value.items()) + "}"
        if isinstance(value, list):
            return f"[{' '.join(map(self.plain, value))}]"
        return "nil" if value is None else json.dumps(value)

    def field(self, name: str, value: Any) -> str:
        """See Notation."""
        return f", :{name} {self.plain(value)}"

    def line(self, index: int, kind: str, process: int | str, function: str, value: str, time: int, more: str) -> str:
        """See Notation."""
        who = process if process.__class__ is int else f":{process}"
        return (
            f"{{:index {index}, :type :{kind}, :process {who}, :f :{function}, :value {value}, :time {time}{more}}}\n"
        )


NOTATIONS: dict[str, type[JsonLines] | type[Edn]] = {"jsonl": JsonLines, "edn": Edn}
