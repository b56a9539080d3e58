"""What happens to the disk of a broker that is down: its tail lost as in a power cut, a log cut short, all of it gone.

Modelled is the loss of a tail of each log, down to the recovery point at most: what a broker has not flushed, the
operating system may not have written. Not modelled: lost or garbled pages in the middle, and the metadata log, which
brokers can fetch again.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Collection
from pathlib import Path
from random import Random

from hwmark.checkers.cluster.errors import ClusterError
from hwmark.checkers.cluster.logs import (
    CLEAN_SHUTDOWN,
    Batch,
    Cut,
    batches,
    cut,
    partition_folders,
    recovery_points,
    segments,
)


def lose_unflushed(
    log_directory: Path,
    rng: Random,
    *,
    share: float | None = None,
    partitions: Collection[str] | None = None,
    torn: bool = False,
) -> list[Cut]:
    """Lose the batches at the end of each log that were not flushed: this share of them, or one that is drawn."""
    points, cuts = recovery_points(log_directory), []
    for name, folder in chosen(log_directory, partitions).items():
        whole = all_batches(folder)
        unflushed = sum(batch.end > points.get(name, 0) for batch in whole)
        lost = rng.randint(0, unflushed) if share is None else math.ceil(share * unflushed)
        if lost:
            cuts.append(_cut(folder, whole, len(whole) - lost, rng, torn))
    if cuts:
        (log_directory / CLEAN_SHUTDOWN).unlink(missing_ok=True)  # the logs need recovery now
    return cuts


def truncate(
    log_directory: Path,
    rng: Random,
    *,
    records: int | None = None,
    partitions: Collection[str] | None = None,
    torn: bool = False,
) -> list[Cut]:
    """Cut logs short, flushed or not: by so many offsets or the few more that end a batch, or at a batch drawn."""
    cuts = []
    for folder in chosen(log_directory, partitions).values():
        if whole := all_batches(folder):
            end = whole[-1].end - (records or 0)
            keep = rng.randrange(len(whole)) if records is None else sum(batch.end <= end for batch in whole)
            cuts.append(_cut(folder, whole, keep, rng, torn))
    if cuts:
        (log_directory / CLEAN_SHUTDOWN).unlink(missing_ok=True)
    return cuts


def wipe(log_directory: Path) -> list[str]:
    """Remove all that is on the disk. The names of the partitions that were there."""
    names = list(partition_folders(log_directory))
    shutil.rmtree(log_directory)
    return names


def chosen(log_directory: Path, partitions: Collection[str] | None) -> dict[str, Path]:
    """The logs of these partitions, or of all. ClusterError if one is not there."""
    known = partition_folders(log_directory)
    if partitions is None:
        return known
    for name in partitions:
        if name not in known:
            raise ClusterError(f"{log_directory}: there is no partition {name}")
    return {name: known[name] for name in sorted(partitions)}


def all_batches(folder: Path) -> list[Batch]:
    """The batches of a log, the oldest first."""
    return [batch for segment in segments(folder) for batch in batches(segment)]


def _cut(folder: Path, whole: list[Batch], keep: int, rng: Random, torn: bool) -> Cut:
    return cut(folder, keep, rng.randrange(1, whole[keep].size) if torn else 0)
