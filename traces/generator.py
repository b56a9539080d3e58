"""Histories made by a simulated, correct Kafka: as long as wanted, valid, and with chosen anomalies planted.

A history is drawn from one seeded `random.Random`: the same shape and seed give the same bytes. It is written while it
is simulated; what stays in memory is eight bytes per offset, for the complete closing reads.

What clients do follows Jepsen's Kafka workload (jepsen 0.3, `jepsen.tests.kafka`): every process sends to random
partitions and polls all that it is assigned, in transactions of one to four micro-operations or one by one; some
operations fail or are never answered, some transactions are meant to abort, assignments change, the nemesis strikes.
Sends are so much more frequent than polls that a poll finds about ten values. Not modelled: transactions whose records
interleave within a partition, because a valid history shows no `int-send-skip` and, under --ww-deps, no cycle.
"""

from __future__ import annotations

import gzip
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from hwmark.traces.errors import BadInputError
from hwmark.traces.generator_anomalies import Planted, episode
from hwmark.traces.generator_notation import NOTATIONS
from hwmark.traces.generator_simulation import Shape, Simulation

__all__ = ["Planted", "Shape", "history_chunks", "write_generated"]

CHUNK = 1 << 12


@dataclass
class Generated:
    """What was generated: how many lines, and what was planted where."""

    lines: int
    planted: list[Planted]


def history_chunks(shape: Shape, generated: Generated | None = None) -> Iterator[bytes]:
    """The lines of a history in chunks of some thousand; `generated`, if given, is filled in the end.

    Raises BadInputError for an anomaly that cannot be planted and for a length that has no room for a history.
    """
    episodes = [(name, episode(name)) for name in shape.anomalies]
    simulation = Simulation(shape, NOTATIONS[shape.notation](), episodes)
    for _ in simulation.steps():
        if len(simulation.written) >= CHUNK:
            yield "".join(simulation.written).encode()
            simulation.written.clear()
    yield "".join(simulation.written).encode()
    if generated is not None:
        generated.lines, generated.planted = simulation.lines, simulation.planted


def write_generated(path: str, shape: Shape) -> Generated:
    """Write a history to a file, compressed if its name ends in .gz; "-" is standard output.

    Raises BadInputError as `history_chunks` does, and for a file that cannot be written.
    """
    generated = Generated(0, [])
    chunks = history_chunks(shape, generated)
    first = next(chunks)
    try:
        with _opened(path) as file:
            file.write(first)
            for chunk in chunks:
                file.write(chunk)
    except OSError as error:
        raise BadInputError(path, None, f"cannot be written: {(error.strerror or str(error)).lower()}") from None
    return generated


@contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    """A file to write; a compressed one has neither name nor time in it, so that equal histories are equal files."""
    if path == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with open(path, "wb") as plain:
        if path.endswith(".gz"):
            with gzip.GzipFile("", "wb", compresslevel=1, fileobj=plain, mtime=0) as compressed:
                yield compressed  # type: ignore[misc]
        else:
            yield plain
