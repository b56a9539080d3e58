"""Compaction: keep the newest record of each key, every offset where it is, and what producers and readers need.

Source: kafka.log.LogCleaner (Cleaner, CleanedTransactionMetadata), MemoryRecords.filterTo; KIP-534 for the time when
tombstones and markers may go. Cleaning starts from the log's first batch each time, and the offset map never fills up.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field

from hwmark.refimpl.batches import ABORT, NO_TIMESTAMP, Batch
from hwmark.refimpl.log import AbortedTxn, Log

DELETE_RETENTION_MS = 86_400_000


@dataclass(slots=True)
class CleanedTransactions:
    """The producers that have a transaction open at one place of a log: one with `data`, one that will be `aborted`.

    `pending` are aborted transactions to come, the first one last.
    """

    pending: list[AbortedTxn]
    data: set[int] = field(default_factory=set)
    aborted: set[int] = field(default_factory=set)

    def may_discard(self, batch: Batch) -> bool:
        """Go on over a batch: aborted data may go, and a marker once its transaction has no batch left."""
        producer_id, has_data = batch.producer_id, batch.producer_id in self.data
        while self.pending and self.pending[-1].first_offset <= batch.last_offset:
            self.aborted.add(self.pending.pop().producer_id)
        if batch.control is None:
            self.data.update((producer_id,) if batch.is_transactional else ())
            return batch.is_transactional and producer_id in self.aborted
        self.data.discard(producer_id)
        self.aborted.difference_update((producer_id,) if batch.control == ABORT else ())
        return not has_data


def compact(log: Log, now: int, delete_retention_ms: int = DELETE_RETENTION_MS) -> int:
    """Clean the segments before the active one and before the last stable offset; the first offset not cleaned."""
    clean_point = log.segments[bisect_right(log.segments, log.last_stable_offset) - 1]
    end, known = log.index_of(clean_point), log.transaction_index.aborted
    transactions = CleanedTransactions(sorted(known, key=lambda txn: -txn.first_offset))
    dirty = [(batch, transactions.may_discard(batch)) for batch in log.batches[:end]]
    data = [batch for batch, may_discard in dirty if batch.control is None and not may_discard]
    latest = {record.key: record.offset for batch in data for record in batch.records}
    kept = []
    for batch, may_discard in dirty:
        cleaned = _clean(batch, may_discard, latest, now, now + delete_retention_ms)
        if cleaned.records or _is_last_of_producer(log, batch) or batch.next_offset == clean_point:
            kept.append(cleaned)
    log.batches[:end] = kept
    markers = {batch.base_offset for batch in kept if batch.control is not None}
    log.transaction_index.aborted = [t for t in known if t.last_offset in markers or t.last_offset >= clean_point]
    return clean_point


def _clean(batch: Batch, may_discard: bool, latest: dict[object, int], now: int, horizon: int) -> Batch:
    """What stays of a batch. Its tombstones, or its marker without data, get their time when they are first seen."""
    records, is_due = batch.records, NO_TIMESTAMP < batch.delete_horizon <= now
    if may_discard and (is_due or batch.control is None):
        records = ()
    elif batch.control is None:
        newest = (record for record in records if record.key is not None and latest[record.key] == record.offset)
        records = tuple([record for record in newest if record.value is not None or not is_due])
    if batch.delete_horizon == NO_TIMESTAMP and (may_discard or any(record.value is None for record in records)):
        return batch._replace(records=records, delete_horizon=horizon)
    return batch if len(records) == len(batch.records) else batch._replace(records=records)


def _is_last_of_producer(log: Log, batch: Batch) -> bool:
    """Whether a batch, even an empty one, has to keep its producer's last sequence number or epoch."""
    entry = log.producer_states.producers.get(batch.producer_id)
    if entry is not None and entry.batches:
        return batch.last_offset == entry.last_batch.last_offset
    return entry is not None and batch.control is not None and batch.producer_epoch == entry.producer_epoch
