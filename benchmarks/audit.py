"""How fast log directories are audited, beside what was promised: 150 MB a second and core.

usage: python benchmarks/audit.py [--gigabytes N] [--folder DIR]

The logs are generated: one partition of an idempotent topic, a hundred producers in turn, in segments of 256 MB; in
batches of one small record, of some kilobytes, and of a megabyte. Each measurement is a process of its own, the whole
`hwmark audit DIR --json` from its start to its end, once to warm the page cache and Numba's and then measured, with one
thread and with one for each processor. MB are millions of bytes. The logs are removed at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from hwmark.checkers.audit import layout
from hwmark.checkers.audit.crc32c import crc32c
from hwmark.checkers.explore.intrinsics import jit
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

SEGMENT_BYTES = 256_000_000
PRODUCERS = 100
TARGET = 150
SIZES = {
    "small: 1 record of 100 bytes": (1, 100),
    "some kB: 16 of 1,000": (16, 1_000),
    "large: 1,000 of 1,000": (1_000, 1_000),
}


@dataclass
class Measured:
    """Seconds on the clock and of the processor, the peak memory in gigabytes, and the answer."""

    seconds: float
    processor: float
    gigabytes: float
    answer: dict[str, Any]


def varint(number: int) -> bytes:
    """A number as records have it, zig-zag."""
    value = number << 1 ^ number >> 63
    written = bytearray()
    while value > 127:
        written.append(value & 127 | 128)
        value >>= 7
    written.append(value)
    return bytes(written)


def template(records: int, size: int) -> bytes:
    """A batch of so many records of so many bytes, its CRC and its producer's fields still to be written."""
    content = bytearray()
    for delta in range(records):
        body = b"\0" + varint(0) + varint(delta) + varint(-1) + varint(size) + os.urandom(size) + varint(0)
        content += varint(len(body)) + body
    batch = bytearray(layout.HEADER_BYTES) + content
    fields = {
        layout.LENGTH: (len(batch) - layout.BEFORE_LENGTH, 4),
        layout.MAGIC: (layout.MAGIC_V2, 1),
        layout.LAST_OFFSET_DELTA: (records - 1, 4),
        layout.BASE_TIMESTAMP: (1_700_000_000_000, 8),
        layout.MAX_TIMESTAMP: (1_700_000_000_000, 8),
        layout.COUNT: (records, 4),
    }
    for place, (number, width) in fields.items():
        batch[place : place + width] = number.to_bytes(width, "big")
    return bytes(batch)


@jit
def number(data: Any, place: int, width: int, value: int) -> None:
    """Write a big-endian number."""
    for i in range(width):
        data[place + i] = value >> 8 * (width - 1 - i) & 255


@jit
def complete(data: Any, size: int, count: int, first: int, records: int) -> None:
    """Number the batches in an array from a batch on, and give each a producer, a sequence and a CRC."""
    for i in range(count):
        start, batch = i * size, first + i
        number(data, start + layout.BASE_OFFSET, 8, batch * records)
        number(data, start + layout.PRODUCER_ID, 8, batch % PRODUCERS)
        number(data, start + layout.BASE_SEQUENCE, 4, batch // PRODUCERS * records % layout.SEQUENCES)
        number(data, start + layout.CRC, 4, crc32c(data, start + layout.ATTRIBUTES, start + size))


def generate(folder: Path, records: int, size: int, total: int) -> None:
    """A broker's log directory with one partition of so many bytes."""
    partition = folder / "measured-0"
    partition.mkdir(parents=True)
    (folder / "meta.properties").write_text("version=1\nnode.id=1\ncluster.id=generated\n")
    (partition / "leader-epoch-checkpoint").write_text("0\n1\n0 0\n")
    one = np.frombuffer(template(records, size), dtype=np.uint8)
    batches = total // len(one)
    each = max(SEGMENT_BYTES // len(one), 1)
    for first in range(0, batches, each):
        count = min(each, batches - first)
        data: NDArray[np.uint8] = np.tile(one, count)
        complete(data, len(one), count, first, records)
        data.tofile(partition / f"{first * records:020}.log")
    (folder / "replication-offset-checkpoint").write_text(f"0\n1\nmeasured 0 {batches * records}\n")


def measure(folder: Path, workers: int) -> Measured:
    """One audit, a process from its start to its end."""
    command = [sys.executable, "-m", "hwmark.checkers.cli", "audit", str(folder), "--json", "--workers", str(workers)]
    started = time.perf_counter()
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - started
        if process.returncode:
            raise SystemExit(f"{' '.join(command)}: exit status {process.returncode}")
        out.seek(0)
        return Measured(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e6, json.loads(out.read()))


def main() -> None:
    """Generate, measure, print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    total = int(arguments.gigabytes * 1e9)
    table = Table(title=f"hwmark audit, promised: {TARGET} MB a second and core")
    for name in ("batches of", "threads", "batches", "MB", "s", "MB/s", "MB/s and core", "GB of memory"):
        table.add_column(name, justify="left" if name == "batches of" else "right", no_wrap=name == "batches of")
    scratch = Path(tempfile.mkdtemp(dir=arguments.folder))
    try:
        for what, (records, size) in SIZES.items():
            folder = scratch / "log"
            # In a process of its own: who is started inherits the peak memory of who starts it.
            process = get_context("spawn").Process(target=generate, args=(folder, records, size, total))
            process.start()
            process.join()
            measure(folder, 1)
            for workers in sorted({1, os.cpu_count() or 1}):
                measured = measure(folder, workers)
                megabytes = measured.answer["bytes"] / 1e6
                row = f"{megabytes:,.0f}", f"{measured.seconds:.2f}", f"{megabytes / measured.seconds:,.0f}"
                core = f"{megabytes / measured.processor:,.0f}"
                batches = f"{measured.answer['batches']:,}"
                table.add_row(what, str(workers), batches, *row, core, f"{measured.gigabytes:.2f}")
            shutil.rmtree(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
