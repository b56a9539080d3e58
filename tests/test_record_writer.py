"""The history on its way to disk: in order under threads, whole lines, and what remains of it when the disk is full."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest
from hwmark.checkers.record.writer import Writer
from hwmark.traces.history import Outcome, read_history

THREADS, OPERATIONS = 8, 400


def lines_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_index_and_time_rise_from_line_to_line_whatever_the_threads_do(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "h.jsonl", {"seed": 1})
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def act(client: int) -> None:
        process = writer.process()
        for n in range(OPERATIONS):
            value = n * THREADS + client
            if client % 2:
                writer.invoke(process, "txn", [["send", "t-0", value]])
                writer.complete(process, "ok", "txn", [["send", "t-0", [value, value]]])
            else:
                writer.invoke_send(process, b'"t-0"', value)
                writer.send_ok(process, b'"t-0"', value, value)

    threads = [threading.Thread(target=act, args=(client,)) for client in range(THREADS)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
        writer.close()
    records = lines_of(tmp_path / "h.jsonl")
    assert [record["index"] for record in records] == list(range(2 * THREADS * OPERATIONS + 1))
    times = [record["time"] for record in records]
    assert times == sorted(times)
    history = read_history(tmp_path / "h.jsonl")
    assert history.counts() == {"invoke": THREADS * OPERATIONS, "ok": THREADS * OPERATIONS, "fail": 0, "info": 0}
    assert writer.counts["invoke"] == writer.counts["ok"] == THREADS * OPERATIONS
    assert writer.acknowledged == THREADS // 2 * OPERATIONS


def test_the_short_ways_write_what_the_general_ones_do(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "h.jsonl", {})
    key, value = b'"t-0"', 7
    writer.invoke_send(3, key, value)
    writer.invoke(3, "send", [["send", "t-0", 7]])
    writer.send_ok(3, key, 5, value)
    writer.complete(3, "ok", "send", [["send", "t-0", [5, 7]]])
    writer.send_ok(3, key, None, value)
    writer.complete(3, "ok", "send", [["send", "t-0", [None, 7]]])
    writer.send_not_ok(3, "info", key, value, "_MSG_TIMED_OUT")
    writer.complete(3, "info", "send", [["send", "t-0", 7]], error="_MSG_TIMED_OUT")
    writer.close()
    told = [{k: v for k, v in r.items() if k not in ("index", "time")} for r in lines_of(tmp_path / "h.jsonl")[1:]]
    assert told[::2] == told[1::2] != []


def test_the_first_line_is_the_configuration(tmp_path: Path) -> None:
    Writer(tmp_path / "h.jsonl", {"acks": "all"}).close()
    first = lines_of(tmp_path / "h.jsonl")[0]
    assert first | {"time": 0} == {
        "index": 0, "time": 0, "type": "info", "process": "nemesis", "f": "config", "value": {"acks": "all"}
    }  # fmt: skip


def test_a_file_that_cannot_be_written_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Writer(tmp_path / "no" / "h.jsonl", {})
    with pytest.raises(OSError, match="No space left"):
        Writer("/dev/full", {})


FILLS_A_DISK = """
import resource, sys
from hwmark.checkers.record.writer import Writer
writer = Writer(sys.argv[1], {"closing_reads": ["read_committed"]})
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
value = 0
while writer.failure is None:
    writer.invoke_send(value, b'"t-0"', value)
    writer.send_ok(value, b'"t-0"', value, value)
    value += 1
writer.close()
print(value, writer.failure.filename, writer.failure.strerror)
"""


def test_what_was_written_before_the_disk_was_full_can_be_used(tmp_path: Path) -> None:
    """A real limit of the operating system, in a process of its own: the piece that does not fit is cut at a line."""
    file = tmp_path / "h.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FILLS_A_DISK), str(file)], capture_output=True, text=True, check=True
    )
    assert str(file) in done.stdout and "too large" in done.stdout.lower()
    content = file.read_bytes()
    assert 10_000 < len(content) <= 20_000 and content.endswith(b"\n")
    history = read_history(file)
    assert set(history.operations.outcome.tolist()) <= {Outcome.OK, Outcome.INFO}
    assert history.incomplete == "the recording ended before them"


def test_a_disk_that_fills_up_in_the_middle_of_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The torn line goes, all before it stays, nothing comes after it."""
    writer = Writer(tmp_path / "h.jsonl", {})
    import os

    write, room = os.write, [100]

    def fill(descriptor: int, data: Any) -> int:
        if not room[0]:
            raise OSError(28, "No space left on device")
        count = write(descriptor, bytes(data)[: room[0]])
        room[0] -= count
        return count

    monkeypatch.setattr(os, "write", fill)
    for value in range(3):
        writer.invoke_send(value, b'"t-0"', value)
    writer.close()
    monkeypatch.undo()
    assert writer.failure is not None
    assert [record["index"] for record in lines_of(tmp_path / "h.jsonl")] == [0, 1]
