"""Compaction: keep the newest record of each key, every offset where it is, and what producers and readers need.

Source: kafka.log.LogCleaner, MemoryRecords.filterTo. Cleaning starts from the log's first batch each time. Not
modelled: the time when tombstones and markers may go (KIP-534): both stay.
"""

from __future__ import annotations

from bisect import bisect_right

from hwmark.refimpl.batches import Batch
from hwmark.refimpl.log import Log


def compact(log: Log) -> int:
    """Clean the segments before the active one and before the last stable offset; the first offset not cleaned.

    A batch without records stays if it is the last one, or its producer's last: it has the sequence number to go on.
    """
    clean_point = log.segments[bisect_right(log.segments, log.last_stable_offset) - 1]
    dirty = log.batches[: log.index_of(clean_point)]
    data = [batch for batch in dirty if batch.control is None and not _is_aborted(log, batch)]
    newest = {record.key: record.offset for batch in data for record in batch.records if record.key is not None}
    offsets = {*newest.values(), *[batch.base_offset for batch in dirty if batch.control is not None]}
    last = {clean_point - 1, *[e.batches[-1].last_offset for e in log.producer_states.producers.values() if e.batches]}
    cleaned = [b._replace(records=tuple([record for record in b.records if record.offset in offsets])) for b in dirty]
    log.batches[: len(dirty)] = [batch for batch in cleaned if batch.records or batch.last_offset in last]
    return clean_point


def _is_aborted(log: Log, batch: Batch) -> bool:
    """Whether a batch lies between the first record and the marker of its producer's aborted transaction."""
    aborted = log.aborted_in(batch.base_offset, batch.next_offset)
    return any(txn.producer_id == batch.producer_id for txn in aborted)
