"""How fast histories are judged, beside what was promised: generated, transactional, about ten values per poll.

usage: python benchmarks/histories.py [--rounds N] [--large] [--folder DIR]

One table from one run. Each measurement is a process of its own: the whole `hwmark history FILE --json`, the time from
its start to its end; and one that reads and checks, with the seconds and the peak memory after each. Contestants take
turns, so that a noisy machine is noisy to all; each figure is the median of its rounds, after one run to warm Numba's
cache; where the processor's seconds are far below the clock's, others were at work. `--large` adds 10 million lines
(2.5 GB of file), once. The files are kept in the folder and used again.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from dataclasses import astuple, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

HERE = Path(__file__)
SEED = 1
LONE_OFFSET = 30_000_000
TARGETS: dict[int, tuple[float, float | None]] = {100_000: (1, None), 1_000_000: (8, 1.5), 10_000_000: (80, 10)}
"""Seconds and gigabytes by number of lines."""
Figures = tuple[float, float, float]
RULE_TARGETS = {1_000_000: 0.2, 10_000_000: 2.0}


@dataclass
class Measured:
    """A run: seconds on the clock and of the processor, and the peak memory in gigabytes."""

    seconds: float
    processor: float
    gigabytes: float


@dataclass
class Contestant:
    """Something measured in rounds: `run` gives one or more named measurements."""

    what: str
    by: dict[str, str]
    run: Callable[[], dict[str, Measured]]
    rounds: dict[str, list[Measured]] = field(default_factory=dict)

    def take_turn(self) -> None:
        """Run once more."""
        for name, measured in self.run().items():
            self.rounds.setdefault(name, []).append(measured)

    def median(self, name: str) -> Measured:
        """The median of what was measured so far."""
        return Measured(*(statistics.median(figures) for figures in zip(*map(astuple, self.rounds[name]), strict=True)))


def whole(command: list[str]) -> tuple[Measured, bytes]:
    """A process from its start to its end, and what it printed."""
    started = time.perf_counter()
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - started
        if process.returncode not in (0, 1):
            raise SystemExit(f"{' '.join(command)}: exit status {process.returncode}")
        out.seek(0)
        return Measured(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e6), out.read()


def apart(what: str, subject: str) -> dict[str, Measured]:
    """What another process of this file measures inside."""
    _, out = whole([sys.executable, str(HERE), "--measure", what, subject])
    return {name: Measured(*figures) for name, figures in json.loads(out).items()}


def file_with(folder: Path, lines: int) -> Path:
    """The generated history of so many lines, from the folder or new."""
    file = folder / f"history-{lines}-{SEED}.jsonl"
    if not file.exists():
        partial = file.with_suffix(".partial")
        command = [sys.executable, "-m", "hwmark.checkers.cli", "generate", "history", "--txn", "--seed", str(SEED)]
        measured, _ = whole([*command, "--lines", str(lines), "-o", str(partial)])
        partial.rename(file)
        rate = lines / measured.seconds
        print(f"generated {lines:,} lines: {rate:,.0f} a second, peak {measured.gigabytes:.2f} GB", file=sys.stderr)
    return file


def file_with_lone_offset(folder: Path, lines: int) -> Path:
    """The same history, and at its end one more record at an offset far beyond all others."""
    file, original = folder / f"history-{lines}-{SEED}-lone.jsonl", file_with(folder, lines)
    shutil.copyfile(original, file)
    with original.open("rb") as lines_of_it:
        (line,) = deque(lines_of_it, maxlen=1)
    last = json.loads(line)
    same = {"process": last["process"] + 1, "f": "send", "time": last["time"] + 1}
    records = [
        {"index": lines, "type": "invoke", "value": [["send", 0, -1]]} | same,
        {"index": lines + 1, "type": "ok", "value": [["send", 0, [LONE_OFFSET, -1]]]} | same,
    ]
    with file.open("a") as appended:
        appended.writelines(json.dumps(record) + "\n" for record in records)
    return file


def judging(title: str, file: Path) -> list[Contestant]:
    """The whole command on a file, and its parts."""
    command = [sys.executable, "-m", "hwmark.checkers.cli", "history", str(file), "--json"]
    return [
        Contestant(title, {"whole": "whole process"}, lambda: {"whole": whole(command)[0]}),
        Contestant(title, {"parse": "parse", "check": "check"}, lambda: apart("history", str(file))),
    ]


def contest(contestants: list[Contestant], rounds: int) -> None:
    """Every contestant in turn."""
    for _ in range(rounds):
        for each in contestants:
            each.take_turn()


def rows(
    table: Table, contestants: list[Contestant], target: tuple[float | None, float | None], base: float | None = None
) -> None:
    """One group of rows; only a whole process, or the last of it, has a target."""
    for each in contestants:
        for name, by in each.by.items():
            found = each.median(name)
            seconds, gigabytes = target if name in ("whole", "rule") else (None, None)
            table.add_row(
                each.what,
                by,
                f"{found.seconds:.3f}",
                f"{found.processor:.3f}",
                f"{seconds:g}" if seconds else "-",
                verdict(found.seconds, seconds),
                f"{found.gigabytes:.2f}",
                f"{gigabytes:g}" if gigabytes else "-",
                f"{found.seconds / base:.2f}" if base else "-",
            )
    table.add_section()


def verdict(seconds: float, target: float | None) -> str:
    """How a figure stands to its target."""
    return "-" if target is None else "met" if seconds <= target else f"{seconds / target:.1f} times over"


def measure(what: str, subject: str) -> None:
    """The inside of a process that measures its own parts: prints JSON, name to seconds and gigabytes."""
    figures = {"history": measure_history, "plain": measure_plain, "rule": measure_rule}[what](subject)
    print(json.dumps(figures))


def timed(act: Callable[[], object]) -> Figures:
    """Seconds of a call, by the clock and of the processor, and the peak memory of the process after it."""
    started, processor = time.perf_counter(), time.process_time()
    act()
    seconds, processor = time.perf_counter() - started, time.process_time() - processor
    return seconds, processor, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def measure_history(file: str) -> dict[str, Figures]:
    """Parse and check, imports not counted."""
    from hwmark.checkers.histories import check
    from hwmark.traces import history_files
    from hwmark.traces.history import read_history

    assert history_files
    read = []
    parse = timed(lambda: read.append(read_history(file)))
    return {"parse": parse, "check": timed(lambda: check(read[0]))}


def measure_plain(file: str) -> dict[str, Figures]:
    """The plain twin, which takes parsed JSON."""
    from hwmark.checkers.histories.plain import check_plain

    records: list[dict[str, object]] = []
    parse = timed(lambda: records.extend(map(json.loads, Path(file).read_bytes().splitlines())))
    return {"parse": parse, "check": timed(lambda: check_plain(records))}


def measure_rule(operations: str) -> dict[str, Figures]:
    """The linear rule for partition logs, from arrays, compiled before."""
    from hwmark.checkers.linearizability.log_rule import check_log
    from partition_logs import partition_log

    if check_log(partition_log(3000)).verdict.__class__.__name__ != "Holds":
        raise SystemExit("the partition log of the benchmark is not linearizable")
    log = partition_log(int(operations))
    verdict_alone = timed(lambda: check_log(log, with_order=False))
    return {"rule": verdict_alone, "order": timed(lambda: check_log(log))}


def small(table: Table, folder: Path, rounds: int) -> None:
    """What was promised of 100,000 lines and of a million; a lone offset; the plain twin."""
    groups = {lines: judging(f"{lines:,} lines", file_with(folder, lines)) for lines in (100_000, 1_000_000)}
    lone = judging("100,000 lines, a lone offset", file_with_lone_offset(folder, 100_000))
    ten = file_with(folder, 10_000)
    few = [
        *judging("10,000 lines", ten),
        Contestant("10,000 lines", {"parse": "json", "check": "plain twin"}, lambda: apart("plain", str(ten))),
    ]
    few[0].run()
    contest([*few, *groups[100_000], *lone, *groups[1_000_000]], rounds)
    rows(table, few, (None, None), few[1].median("check").seconds)
    for lines, contestants in groups.items():
        rows(table, contestants, TARGETS[lines])
    rows(table, lone[:1], (None, None), groups[100_000][0].median("whole").seconds)


def rules(table: Table, sizes: list[int], rounds: int) -> None:
    """The linear rule for partition logs."""
    by = {"rule": "linear rule", "order": "and an order"}
    contestants = {size: Contestant(f"partition log, {size:,} operations", by, rule_of(size)) for size in sizes}
    contest(list(contestants.values()), rounds)
    for size, contestant in contestants.items():
        rows(table, [contestant], (RULE_TARGETS[size], None))


def rule_of(size: int) -> Callable[[], dict[str, Measured]]:
    """The measurement of one size."""
    return lambda: apart("rule", str(size))


def main() -> None:
    """Print the table, or, inside of a measuring process, the measurements."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "hwmark-benchmark")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        return measure(*arguments.measure)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    columns = ("what", "by", "median s", "CPU s", "target s", "", "peak GB", "target GB", "ratio")
    table = Table(*columns, title=f"judging histories, median of {arguments.rounds} rounds")
    small(table, arguments.folder, arguments.rounds)
    if arguments.large:
        large = judging("10,000,000 lines", file_with(arguments.folder, 10_000_000))
        contest(large, 1)
        rows(table, large, TARGETS[10_000_000])
    rules(table, [1_000_000, 10_000_000] if arguments.large else [1_000_000], arguments.rounds)
    Console(width=140).print(table)
    print("ratio: of 10,000 lines to hwmark's check, of the lone offset to the same file without")


if __name__ == "__main__":
    main()
