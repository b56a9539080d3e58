"""How fast linearizability is judged: the general search on Porcupine's and Knossos' data, and the rule for logs.

usage: python benchmarks/linearizability.py [--rounds N] [--data FOLDER] [--large]

One table from one run; each figure is the median of its rounds, compilation not counted. The data are not part of the
project: `--data` is the folder that holds `porcupine/` and `knossos/`; rows without data are left out. A partition log
of 1 million operations (`--large`: 10 million, too) is generated as arrays, half appends and half fresh fetches.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from hwmark.checkers.linearizability import search_compiled
from hwmark.checkers.linearizability.encode import Encoding, encode
from hwmark.checkers.linearizability.log_columns import Appends, Fetches, PartitionLog
from hwmark.checkers.linearizability.log_rule import check_log
from hwmark.checkers.linearizability.models import MODELS
from hwmark.checkers.linearizability.search import LIMIT, check_operations
from hwmark.checkers.linearizability.search_outcome import Outcome, Stopwatch
from hwmark.checkers.linearizability.search_parts import Part, parts_of
from hwmark.checkers.verdict import Holds
from hwmark.traces.operations import OperationHistory, read_operations
from rich.console import Console
from rich.table import Table

DATA = Path(__file__).parents[2] / "shared" / "data" / "third-party"
GROUPS = {
    "etcd, cas-register": "porcupine/etcd_*.jsonl",
    "memstress, cas-register": "knossos/*memstress*.jsonl",
    "key-value store, kv-append": "porcupine/kv_c*.jsonl",
}
OPEN_AT_ONCE = 10


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--large", action="store_true", help="a partition log of 10 million operations, too")
    arguments = parser.parse_args()
    console = Console()
    console.print(searches(arguments.data, arguments.rounds))
    console.print(logs([1_000_000, 10_000_000] if arguments.large else [1_000_000], arguments.rounds))


def searches(data: Path, rounds: int) -> Table:
    """The general search, step by step; the verdicts have to be those of the files."""
    table = Table("data", "files", "operations", "configurations", "read", "divide", "encode", "search", "and explain")
    for name, pattern in GROUPS.items():
        files = sorted(data.glob(pattern))
        if not files:
            continue
        histories = [read_operations(file) for file in files]
        parts = [parts_of(history, MODELS[history.model]()) for history in histories]
        encodings = [[encoded(part) for part in of_file] for of_file in parts]
        outcomes = [[searched(encoding) for encoding in of_file] for of_file in encodings]
        for history, of_file in zip(histories, outcomes, strict=True):
            expected = history.expected == "linearizable"
            assert all(outcome.linearizable for outcome in of_file) is expected, history.file
        steps: list[Callable[[], object]] = [
            lambda files=files: [read_operations(file) for file in files],
            lambda histories=histories: [parts_of(history, MODELS[history.model]()) for history in histories],
            lambda parts=parts: [encoded(part) for of_file in parts for part in of_file],
            lambda encodings=encodings: [searched(encoding) for of_file in encodings for encoding in of_file],
            lambda histories=histories: [explained(history) for history in histories],
        ]
        table.add_row(
            name,
            f"{len(files)}",
            f"{sum(map(len, histories)):,}",
            f"{sum(outcome.configurations for of_file in outcomes for outcome in of_file):,}",
            *(f"{1e3 * median_seconds(step, rounds):,.1f} ms" for step in steps),
        )
    return table


def encoded(part: Part) -> Encoding:
    """The arrays of a part that has some."""
    encoding = encode(part)
    assert encoding is not None
    return encoding


def searched(encoding: Encoding) -> Outcome:
    """The verdict alone, without partial orders."""
    return search_compiled.search(encoding, LIMIT, Stopwatch(None), partials=False)


def explained(history: OperationHistory) -> None:
    """All that a user gets."""
    check_operations(history, engine="compiled")


def logs(sizes: list[int], rounds: int) -> Table:
    """The linear rule, on arrays in memory."""
    table = Table("partition log", "verdict alone", "with an order")
    for size in sizes:
        log = partition_log(size)
        assert isinstance(check_log(log, with_order=False).verdict, Holds)
        seconds = [
            median_seconds(lambda log=log, order=order: check_log(log, with_order=order), rounds)  # type: ignore[misc]
            for order in (False, True)
        ]
        table.add_row(f"{size:,} operations", *(f"{each:.3f} s" for each in seconds))
    return table


def partition_log(size: int) -> PartitionLog:
    """Appends of one record and fresh fetches of one record by turns, about ten of each open at a time."""
    rng = np.random.default_rng(0)
    count = size // 2
    offset = np.arange(count)
    moment = 10 * offset
    before, after = rng.integers(1, 5 * OPEN_AT_ONCE, (2, size))
    appends = Appends(2 * offset, moment - before[::2], moment + after[::2], None, value=offset, offset=offset)
    fetches = Fetches(
        2 * offset + 1,
        moment + 5 - before[1::2],
        moment + 5 + after[1::2],
        None,
        start=offset,
        next=offset + 1,
        high_watermark=offset + 1,
        read_committed=np.zeros(count, np.bool_),
        lagging=np.zeros(count, np.bool_),
        first=np.arange(count + 1),
        value=offset,
        offset=offset,
    )
    return PartitionLog(size, appends, fetches)


def median_seconds(run: Callable[[], object], rounds: int) -> float:
    """The median of the rounds."""
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
