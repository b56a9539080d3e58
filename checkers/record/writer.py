"""The history, written to disk while it happens: one JSON object a line, in order of index and time.

Any thread may write. A record gets its index and its time under one lock, so both rise from line to line; bytes go to
the file in large pieces, by a thread of its own, and memory stays flat. What is in the file ends with a whole line at
all times but while a piece is being written; after a failure, such as a full disk, the torn line is cut off.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

PERIOD = 0.1  # s between pieces
PENDING_MAX = 8 * 2**20  # bytes; who writes more waits for the disk

_INVOKE = b'{"index":%d,"type":"invoke","process":%d,"f":"send","value":[["send",%b,%d]],"time":%d}\n'
_OK = b'{"index":%d,"type":"ok","process":%d,"f":"send","value":[["send",%b,[%b,%d]]],"time":%d}\n'
_NOT_OK = b'{"index":%d,"type":"%b","process":%d,"f":"send","value":[["send",%b,%d]],"time":%d,"error":"%b"}\n'


class Writer:
    """A history's file. `counts` has how many records of each type clients wrote, `acknowledged` how many values.

    OSError if the file cannot be written at the beginning; later on `failure` says why no more is written.
    """

    def __init__(self, file: str | Path, configuration: dict[str, Any]) -> None:
        self.file = Path(file)
        self.failure: OSError | None = None
        self.counts: Counter[str] = Counter()
        self.acknowledged = self.faults = 0
        self._descriptor = os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        self._begun, self._index, self._processes = time.monotonic_ns(), 0, 0
        self._pending: list[bytes] = []
        self._pending_bytes = self._whole = 0
        self._lock, self._disk = threading.Lock(), threading.Lock()
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._write_on, name="history", daemon=True)
        self.note("config", configuration)
        self._drain()
        if self.failure:
            os.close(self._descriptor)
            raise self.failure
        self._thread.start()

    def process(self) -> int:
        """A number that no process has had."""
        with self._lock:
            self._processes += 1
            return self._processes - 1

    # ------------------------------------------------------------ records

    def note(self, what: str, value: Any, process: str = "nemesis") -> None:
        """What no client did: a fault, or something that the recorder says of itself."""
        self._write({"type": "info", "process": process, "f": what, "value": value})

    def invoke(self, process: int, f: str, value: Any, **more: Any) -> None:
        """An operation begins."""
        self._write({"type": "invoke", "process": process, "f": f, "value": value, **more})

    def complete(self, process: int, outcome: str, f: str, value: Any, **more: Any) -> None:
        """A process's operation ends: ok, fail or info."""
        self._write({"type": outcome, "process": process, "f": f, "value": value, **more})

    def _write(self, record: dict[str, Any]) -> None:
        body = orjson.dumps(record)[1:]
        with self._lock:
            self._index += 1
            if type(record["process"]) is int:
                self.counts[record["type"]] += 1
            head = b'{"index":%d,"time":%d,' % (self._index - 1, time.monotonic_ns() - self._begun)
            self._add(head + body + b"\n")
        self._hold_back()

    def acknowledge(self, values: int) -> None:
        """Count values that a transaction committed."""
        with self._lock:
            self.acknowledged += values

    # The records of plain sends, of which there are many: the same as above, spelled out. `key` is JSON.

    def invoke_send(self, process: int, key: bytes, value: int) -> None:
        """A send begins."""
        with self._lock:
            index = self._index
            self._index = index + 1
            self.counts["invoke"] += 1
            self._add(_INVOKE % (index, process, key, value, time.monotonic_ns() - self._begun))
        self._hold_back()

    def send_ok(self, process: int, key: bytes, offset: int | None, value: int) -> None:
        """A send was acknowledged, at an offset if that is known."""
        at = b"null" if offset is None else b"%d" % offset
        with self._lock:
            index = self._index
            self._index = index + 1
            self.counts["ok"] += 1
            self.acknowledged += 1
            self._add(_OK % (index, process, key, at, value, time.monotonic_ns() - self._begun))

    def send_not_ok(self, process: int, outcome: str, key: bytes, value: int, error: str) -> None:
        """A send failed, or its outcome is unknown."""
        with self._lock:
            index, self._index = self._index, self._index + 1
            self.counts[outcome] += 1
            now = time.monotonic_ns() - self._begun
            self._add(_NOT_OK % (index, outcome.encode(), process, key, value, now, error.encode()))

    # ------------------------------------------------------------ the file

    def _add(self, line: bytes) -> None:
        if self.failure is None:
            self._pending.append(line)
            self._pending_bytes += len(line)

    def _hold_back(self) -> None:
        if self._pending_bytes > PENDING_MAX:
            self._drain()

    def close(self) -> None:
        """Write what is left; no records after that."""
        if not self._is_closed.is_set():
            self._is_closed.set()
            self._thread.join()
            self._drain()
            os.close(self._descriptor)
            self._descriptor = -1

    def _write_on(self) -> None:
        while not self._is_closed.wait(PERIOD):
            self._drain()

    def _drain(self) -> None:
        with self._disk:
            with self._lock:
                lines, self._pending, self._pending_bytes = self._pending, [], 0
            if lines and self.failure is None:
                self._put(b"".join(lines))

    def _put(self, piece: bytes) -> None:
        """Write whole lines; if that fails, what is left of them ends with a whole line."""
        written, view = 0, memoryview(piece)
        try:
            while written < len(piece):
                written += os.write(self._descriptor, view[written:])
            self._whole += written
        except OSError as failure:
            failure.filename = str(self.file)
            self.failure = failure
            self._whole += piece.rfind(b"\n", 0, written) + 1
            with suppress(OSError):  # of what is no file
                os.ftruncate(self._descriptor, self._whole)
