"""Partition logs as arrays, linearizable by construction, for the benchmark of histories.

Two thirds of the operations append a record, the others are fetches of ten records: five consumers read everything,
which is the mixture of the generated histories. Appends take effect a thousand time units apart.
"""

from __future__ import annotations

import numpy as np
from hwmark.checkers.linearizability.log_columns import Appends, Fetches, PartitionLog

APART, CONSUMERS, FETCHED = 1000, 5, 10


def partition_log(operations: int, seed: int = 0) -> PartitionLog:
    """A log of so many operations (rounded down to whole fetches)."""
    random = np.random.default_rng(seed)
    fetches_each = operations // (CONSUMERS + FETCHED)
    end = fetches_each * FETCHED
    at = np.arange(end) * APART
    early, late = random.integers(0, 5 * APART, (2, end))
    process = np.arange(end) % CONSUMERS
    appends = Appends(np.arange(end), at - early, at + late, process, np.arange(end), np.arange(end))
    return PartitionLog(end + fetches_each * CONSUMERS, appends, _fetches(end, random))


def _fetches(end: int, random: np.random.Generator) -> Fetches:
    """What the consumers fetch, ten records at a time, each at some moment at which nothing more was there."""
    beyond = np.repeat(np.arange(FETCHED, end + 1, FETCHED), CONSUMERS)
    count = len(beyond)
    at = (beyond - 1) * APART + random.integers(0, APART, count)
    early, late = random.integers(0, 5 * APART, (2, count))
    records = ((beyond - FETCHED)[:, None] + np.arange(FETCHED)).reshape(-1)
    none = np.zeros(count, dtype=bool)
    return Fetches(
        operation=end + np.arange(count),
        call=at - early,
        returned=at + late,
        process=np.arange(count) % CONSUMERS,
        start=beyond - FETCHED,
        next=beyond,
        high_watermark=beyond,
        read_committed=none,
        lagging=none,
        first=np.arange(count + 1) * FETCHED,
        offset=records,
        value=records,
    )
