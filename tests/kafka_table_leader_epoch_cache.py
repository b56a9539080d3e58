"""Kafka's LeaderEpochFileCacheTest, asked of the leader-epoch cache."""

from __future__ import annotations

from typing import Any

from hwmark.refimpl.leader_epochs import EpochEntry, LeaderEpochCache

DISAGREES: dict[str, str] = {}


OPERATIONS = "assign", "truncateFromEnd", "truncateFromStart", "clear", "reload"


def apply(cache: LeaderEpochCache, operation: list[Any]) -> LeaderEpochCache:
    """The cache after an operation of a row; loading it from a checkpoint assigns every entry of it again."""
    name, *arguments = operation
    changed = LeaderEpochCache() if name in ("clear", "reload") else cache
    {
        "assign": changed.assign,
        "truncateFromEnd": changed.truncate_from_end,
        "truncateFromStart": changed.truncate_from_start,
        "clear": lambda: None,
        "reload": lambda: [changed.assign(*entry) for entry in cache.entries],
    }[name](*arguments)
    return changed


def latest_epoch(cache: LeaderEpochCache) -> int | None:
    return cache.entries[-1].epoch if cache.entries else None


def previous_entry(cache: LeaderEpochCache, epoch: int | None = None) -> EpochEntry | None:
    epoch = latest_epoch(cache) if epoch is None else epoch
    return None if epoch is None else next((entry for entry in reversed(cache.entries) if entry.epoch < epoch), None)


def next_entry(cache: LeaderEpochCache, epoch: int) -> EpochEntry | None:
    return next((entry for entry in cache.entries if entry.epoch > epoch), None)


def epoch_for_offset(cache: LeaderEpochCache, offset: int) -> int | None:
    return epoch_of(next((entry for entry in reversed(cache.entries) if entry.start_offset <= offset), None))


def epoch_entry(cache: LeaderEpochCache, epoch: int) -> EpochEntry | None:
    return next((entry for entry in cache.entries if entry.epoch == epoch), None)


def epoch_of(entry: EpochEntry | None) -> int | None:
    return entry.epoch if entry else None


def answer(cache: LeaderEpochCache, query: list[Any]) -> Any:
    """What the cache says, as the tables write it."""
    name, *arguments = query
    arguments = [latest_epoch(cache) if argument == "latestEpoch" else argument for argument in arguments]
    if name in OPERATIONS:
        apply(cache, query)
        return "no_error"
    return {
        "latestEpoch": lambda: latest_epoch(cache),
        "previousEpoch": lambda *epoch: epoch_of(previous_entry(cache, *epoch)),
        "previousEntry": lambda *epoch: previous_entry(cache, *epoch),
        "nextEpoch": lambda epoch: epoch_of(next_entry(cache, epoch)),
        "epochEntry": lambda epoch: epoch_entry(cache, epoch),
        "epochForOffset": lambda offset: epoch_for_offset(cache, offset),
        "endOffsetFor": cache.end_offset_for,
        "entries": lambda: cache.entries,
        "checkpoint": lambda: cache.entries,
        "entry": lambda index: cache.entries[index],
        "entryStartOffset": lambda index: cache.entries[index].start_offset,
        "size": lambda: len(cache.entries),
    }[name](*arguments)


def run(row: dict[str, Any], table: list[dict[str, Any]]) -> None:
    """Apply the row's operations to an empty cache and ask its question."""
    cache = LeaderEpochCache()
    for operation in row["ops"]:
        cache = apply(cache, operation)
    assert as_lists(answer(cache, row["query"])) == row["expect"]


def as_lists(value: Any) -> Any:
    """Tuples as JSON has them."""
    return [as_lists(item) for item in value] if isinstance(value, (list, tuple)) else value
