"""Kafka's LeaderEpochFileCacheTest, asked of a log that has leader epochs and no records."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from hwmark.refimpl.errors import KafkaError
from hwmark.refimpl.log import Log

DISAGREES = {
    "shouldNotResetEpochHistoryTailIfUndefinedPassed.1": "nobody truncates a log to an offset that is not known",
}
END = 1_000
OPERATIONS = "assign", "truncateFromEnd", "truncateFromStart", "clear", "reload"

Entry = list[int]  # an epoch and its first offset


def apply(log: Log, operation: list[Any]) -> Log:
    """The log after an operation of a row; loading the cache from a checkpoint assigns every entry of it again."""
    name, *arguments = operation
    changed = Log(log_end_offset=END, high_watermark=END) if name in ("clear", "reload") else log
    {
        "assign": changed.assign_leader_epoch,
        "truncateFromEnd": changed.truncate_to,
        "truncateFromStart": changed.maybe_increment_log_start_offset,
        "clear": lambda: None,
        "reload": lambda: [changed.assign_leader_epoch(*entry) for entry in entries(log)],
    }[name](*arguments)
    return changed


def entries(log: Log) -> list[Entry]:
    return [[epoch, start_offset] for epoch, start_offset in log.leader_epochs.items()]


def latest_epoch(log: Log) -> int | None:
    return log.latest_epoch if log.leader_epochs else None


def previous_entry(log: Log, epoch: int | None = None) -> Entry | None:
    epoch = latest_epoch(log) if epoch is None else epoch
    return None if epoch is None else next((entry for entry in reversed(entries(log)) if entry[0] < epoch), None)


def next_entry(log: Log, epoch: int) -> Entry | None:
    return next((entry for entry in entries(log) if entry[0] > epoch), None)


def epoch_for_offset(log: Log, offset: int) -> int | None:
    return epoch_of(next((entry for entry in reversed(entries(log)) if entry[1] <= offset), None))


def epoch_entry(log: Log, epoch: int) -> Entry | None:
    return next((entry for entry in entries(log) if entry[0] == epoch), None)


def epoch_of(entry: Entry | None) -> int | None:
    return entry[0] if entry else None


def end_offset_for(log: Log, epoch: int, log_end_offset: int) -> Entry:
    log.log_end_offset = log_end_offset
    return list(log.end_offset_for_epoch(epoch))


def answer(log: Log, query: list[Any]) -> Any:
    """What the log says, as the tables write it."""
    name, *arguments = query
    arguments = [latest_epoch(log) if argument == "latestEpoch" else argument for argument in arguments]
    if name in OPERATIONS:
        apply(log, query)
        return "no_error"
    return {
        "latestEpoch": lambda: latest_epoch(log),
        "previousEpoch": lambda *epoch: epoch_of(previous_entry(log, *epoch)),
        "previousEntry": lambda *epoch: previous_entry(log, *epoch),
        "nextEpoch": lambda epoch: epoch_of(next_entry(log, epoch)),
        "epochEntry": lambda epoch: epoch_entry(log, epoch),
        "epochForOffset": lambda offset: epoch_for_offset(log, offset),
        "endOffsetFor": lambda epoch, log_end_offset: end_offset_for(log, epoch, log_end_offset),
        "entries": lambda: entries(log),
        "checkpoint": lambda: entries(log),
        "entry": lambda index: entries(log)[index],
        "entryStartOffset": lambda index: entries(log)[index][1],
        "size": lambda: len(log.leader_epochs),
    }[name](*arguments)


def run(row: dict[str, Any], table: list[dict[str, Any]]) -> None:
    """Apply the row's operations to an empty log and ask its question; what a log refuses changes nothing."""
    log = Log(log_end_offset=END, high_watermark=END)
    for operation in row["ops"]:
        with suppress(KafkaError):
            log = apply(log, operation)
    assert answer(log, row["query"]) == row["expect"]
