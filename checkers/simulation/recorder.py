"""The history of a run, in memory, as if a test client had recorded it."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import orjson
from hwmark.refimpl.batches import TopicPartition
from hwmark.traces.history import History
from hwmark.traces.history_records import Parser

Record = dict[str, Any]


def key_of(topic_partition: TopicPartition) -> str:
    """The history's key of a partition."""
    return f"{topic_partition[0]}-{topic_partition[1]}"


class Recorder:
    """Operations as they are invoked and completed. A process has one open at most; `process` gives each user one."""

    def __init__(self, configuration: Record) -> None:
        self.records: list[Record] = []
        self._numbers: dict[str, int] = {}
        self._unused = count()
        self._note(0, type="info", process="nemesis", f="config", value=configuration)

    def process(self, user: str) -> int:
        """The number under which a user acts now."""
        if user not in self._numbers:
            self._numbers[user] = next(self._unused)
        return self._numbers[user]

    def invoke(self, time: int, user: str, f: str, value: Any, **more: Any) -> Record:
        """An operation begins; time in ms. The record may be completed by who learns later what the operation does."""
        return self._note(time, type="invoke", process=self.process(user), f=f, value=value, **more)

    def complete(self, time: int, user: str, outcome: str, f: str, value: Any, **more: Any) -> None:
        """The user's operation ends: ok, fail or info; after info the user acts under another number."""
        number = self.process(user)
        self._note(time, type=outcome, process=number, f=f, value=value, **more)
        if outcome == "info":
            del self._numbers[user]

    def fault(self, time: int, what: str, value: Any) -> None:
        """A fault that was injected."""
        self._note(time, type="info", process="nemesis", f=what, value=value)

    def history(self, file: str = "the run") -> History:
        """What was recorded, for the checkers."""
        parser = Parser(file)
        for line, record in enumerate(self.records, 1):
            parser.take(record, line)
        return parser.history(len(self.records))

    def write(self, file: str) -> None:
        """Write the history as JSON lines; OSError where that is impossible."""
        Path(file).write_bytes(b"".join(orjson.dumps(record) + b"\n" for record in self.records))

    def _note(self, time: int, **record: Any) -> Record:
        self.records.append({"index": len(self.records), "time": time * 1_000_000, **record})
        return self.records[-1]
