"""The log of one partition replica: batches, and what is derived from them.

Source: kafka.log.UnifiedLog, LocalLog and LogLoader. Segments are base offsets only (`roll` begins one): snapshots of
the producers, deletion and compaction (`log_cleaner`) go by them. Not modelled: bytes and positions, retention by time
or size, tiered storage, failing disks. Offsets called ends or limits are exclusive.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import NamedTuple

from hwmark.refimpl.batches import NO_PRODUCER_ID, Batch, Record
from hwmark.refimpl.errors import Error, KafkaError
from hwmark.refimpl.leader_epochs import EpochEndOffset, LeaderEpochCache
from hwmark.refimpl.producer_state import CLIENT, NO_GUARD, REPLICATION, ProducerStates

LOG_END, HIGH_WATERMARK, TXN_COMMITTED = "log_end", "high_watermark", "txn_committed"
_last_offset = attrgetter("last_offset")


class AppendInfo(NamedTuple):
    """Where a batch was written, or where the one is that it repeats."""

    first_offset: int
    last_offset: int
    is_duplicate: bool = False


class FetchData(NamedTuple):
    """What was read; for read_committed also (producer id, first offset) of the aborted transactions in it."""

    batches: list[Batch]
    aborted: list[tuple[int, int]] | None = None


class AbortedTxn(NamedTuple):
    """An aborted transaction, from its first record to its marker, and the last stable offset once it was decided."""

    producer_id: int
    first_offset: int
    last_offset: int
    last_stable_offset: int


@dataclass(slots=True)
class TransactionIndex:
    """What a read_committed consumer has to leave out: aborted transactions by the offsets of their markers."""

    aborted: list[AbortedTxn] = field(default_factory=list)

    def append(self, txn: AbortedTxn) -> None:
        """Add a transaction whose marker was written; ValueError if a later one is there already."""
        if self.aborted and self.aborted[-1].last_offset >= txn.last_offset:
            raise ValueError(f"{txn} does not end after {self.aborted[-1]}")
        self.aborted.append(txn)

    def collect(self, fetch_offset: int, upper_bound_offset: int) -> tuple[list[AbortedTxn], bool]:
        """The transactions with records in [fetch_offset, upper_bound_offset); whether later ones cannot have any."""
        found: list[AbortedTxn] = []
        for txn in self.aborted[bisect_left(self.aborted, fetch_offset, key=_last_offset) :]:
            if txn.first_offset < upper_bound_offset:
                found.append(txn)
            if txn.last_stable_offset >= upper_bound_offset:
                return found, True
        return found, False

    def truncate_to(self, offset: int) -> None:
        """Drop the transactions whose markers are at the offset or later."""
        del self.aborted[bisect_left(self.aborted, offset, key=_last_offset) :]


@dataclass(slots=True)
class Log:
    """Batches by increasing offsets, with gaps where compaction or a lost tail took some out.

    What is below `recovery_point` survives any crash.
    """

    log_start_offset: int = 0
    log_end_offset: int = 0
    high_watermark: int = 0
    recovery_point: int = 0
    batches: list[Batch] = field(default_factory=list)
    segments: list[int] = field(default_factory=lambda: [0])
    leader_epochs: LeaderEpochCache = field(default_factory=LeaderEpochCache)
    producer_states: ProducerStates = field(default_factory=ProducerStates)
    transaction_index: TransactionIndex = field(default_factory=TransactionIndex)

    def append_as_leader(
        self, batch: Batch, leader_epoch: int, origin: str = CLIENT, verification_guard: int = NO_GUARD
    ) -> AppendInfo:
        """Write a batch at the end, with offsets and leader epoch assigned; one that repeats is answered, not written.

        KafkaError INVALID_PRODUCER_EPOCH, OUT_OF_ORDER_SEQUENCE_NUMBER, INVALID_TXN_STATE or, for a marker,
        TRANSACTION_COORDINATOR_FENCED.
        """
        entry = self.producer_states.producers.get(batch.producer_id) if origin == CLIENT else None
        if entry and (duplicate := entry.find_duplicate(batch)):
            return AppendInfo(duplicate.first_offset, duplicate.last_offset, is_duplicate=True)
        if not self.producer_states.is_verified(batch, verification_guard):
            raise KafkaError(Error.INVALID_TXN_STATE, "the batch is not part of an ongoing transaction")
        base = self.log_end_offset
        records = tuple([Record(base + i, key, value) for i, (_, key, value) in enumerate(batch.records)])
        last = base + batch.last_offset - batch.base_offset
        self._append(Batch(base, last, leader_epoch, records, *batch[4:]), origin)
        return AppendInfo(base, last)

    def append_as_follower(self, batches: Sequence[Batch]) -> None:
        """Write what the leader wrote, gaps included; ValueError if a batch begins before the end of the log."""
        for batch in batches:
            if batch.base_offset < self.log_end_offset:
                raise ValueError(f"{batch.base_offset} is less than the end {self.log_end_offset}")
            self._append(batch, REPLICATION)

    def roll(self) -> None:
        """Begin a new segment; the producers are kept as they are at its beginning."""
        if self.log_end_offset > self.segments[-1]:
            self.segments.append(self.log_end_offset)
            self.producer_states.take_snapshot()

    def flush(self) -> None:
        """Everything written so far survives a crash."""
        self.recovery_point = self.log_end_offset

    def read(self, offset: int, isolation: str, max_records: int = 2**31) -> FetchData:
        """Whole batches below the isolation's limit, from the one that has the offset; at least one if there is any.

        KafkaError OFFSET_OUT_OF_RANGE outside [log start offset, log end offset].
        """
        if not self.log_start_offset <= offset <= self.log_end_offset:
            raise KafkaError(Error.OFFSET_OUT_OF_RANGE, f"{offset} in [{self.log_start_offset}, {self.log_end_offset}]")
        first = end = self.index_of(offset)
        limit, count = self.log_end_offset, 0
        if isolation != LOG_END:
            limit = self.high_watermark if isolation == HIGH_WATERMARK else self.last_stable_offset
        while end < len(self.batches) and self.batches[end].last_offset < limit:
            count += len(self.batches[end].records)
            if count > max_records and end > first:
                break
            end += 1
        batches = self.batches[first:end]
        if isolation != TXN_COMMITTED:
            return FetchData(batches)
        found = self.transaction_index.collect(offset, batches[-1].next_offset)[0] if batches else []
        return FetchData(batches, [(txn.producer_id, txn.first_offset) for txn in found])

    def end_offset_for_epoch(self, leader_epoch: int) -> EpochEndOffset:
        """The largest leader epoch up to the given one and where it ends here; (-1, -1) if that is not known."""
        return self.leader_epochs.end_offset_for(leader_epoch, self.log_end_offset)

    @property
    def last_stable_offset(self) -> int:
        """Below it every transaction is decided, and its marker replicated; at most the high watermark."""
        unstable = self.first_unstable_offset
        return self.high_watermark if unstable is None else min(unstable, self.high_watermark)

    @property
    def first_unstable_offset(self) -> int | None:
        """Where the oldest transaction begins that is open or not replicated to its end, as far as not deleted."""
        first = self.producer_states.first_unstable_offset
        return None if first is None else max(first, self.log_start_offset)

    def update_high_watermark(self, offset: int) -> int:
        """Set the high watermark, within the log: a new leader's, or a follower's, which may go back."""
        self.high_watermark = max(self.log_start_offset, min(offset, self.log_end_offset))
        self.producer_states.on_high_watermark_updated(self.high_watermark)
        return self.high_watermark

    def maybe_increment_high_watermark(self, offset: int) -> bool:
        """Raise a leader's high watermark; whether it rose. ValueError beyond the log end offset."""
        if offset > self.log_end_offset:
            raise ValueError(f"high watermark {offset} exceeds the log end offset {self.log_end_offset}")
        return offset > self.high_watermark and self.update_high_watermark(offset) == offset

    def maybe_increment_log_start_offset(self, offset: int) -> None:
        """Hide the records below an offset. KafkaError OFFSET_OUT_OF_RANGE above the high watermark."""
        if not 0 <= offset <= self.high_watermark:
            raise KafkaError(Error.OFFSET_OUT_OF_RANGE, f"{offset} is not in [0, {self.high_watermark}]")
        if offset > self.log_start_offset:
            self.log_start_offset = offset
            self.recovery_point = max(self.recovery_point, offset)
            self.leader_epochs.truncate_from_start(offset)

    def delete_records(self, offset: int) -> int:
        """The low watermark after DeleteRecords; -1 asks for everything that is replicated."""
        self.maybe_increment_log_start_offset(self.high_watermark if offset == -1 else offset)
        return self.log_start_offset

    def delete_old_segments(self) -> None:
        """Remove the segments that end at or before the log start offset; never the last one."""
        del self.segments[: max(0, bisect_right(self.segments, self.log_start_offset) - 1)]
        base = self.segments[0]
        del self.batches[: self.index_of(base)]
        self.producer_states.delete_snapshots_before(base)
        self.transaction_index = TransactionIndex(self.transaction_index.collect(base, self.log_end_offset)[0])

    def truncate_to(self, offset: int, now: int = 0) -> bool:
        """Cut the log off at an offset, with the whole batch it lies in; whether there was anything to cut.

        An epoch that begins at the end, and has no record, goes even then. ValueError if negative.
        """
        if offset < 0:
            raise ValueError(f"cannot truncate to {offset}")
        end = self.log_end_offset
        if offset < self.segments[0]:
            self.truncate_fully_and_start_at(offset)
        else:
            self._cut(min(offset, end), now)
            self.update_high_watermark(self.high_watermark)
        return offset < end

    def truncate_fully_and_start_at(self, offset: int, log_start_offset: int | None = None) -> None:
        """Empty the log; the next offset is the one given."""
        self.batches, self.segments = [], [offset]
        self.log_end_offset = self.recovery_point = offset
        self.log_start_offset = offset if log_start_offset is None else log_start_offset
        self.leader_epochs = LeaderEpochCache()
        self.producer_states.truncate_fully_and_start_at(offset)
        self.transaction_index = TransactionIndex()
        self.update_high_watermark(offset)

    def recover(self, high_watermark: int = 0, keeps_unflushed: bool = False, now: int = 0) -> None:
        """Open the log after a crash: what only memory knew is rebuilt from the batches and a producers' snapshot.

        `high_watermark` is the one that was checkpointed, which may be old. The log start offset's checkpoint is taken
        to be new, which Kafka does not promise.
        """
        self.producer_states = ProducerStates(self.producer_states.verification_enabled, self.producer_states.snapshots)
        self._cut(self.log_end_offset if keeps_unflushed else self.recovery_point, now)
        self.flush()
        self.update_high_watermark(high_watermark)

    def _append(self, batch: Batch, origin: str) -> None:
        if batch.producer_id != NO_PRODUCER_ID:
            self._update_producer(batch, origin)
        self.leader_epochs.assign(batch.leader_epoch, batch.base_offset)
        self.batches.append(batch)
        self.log_end_offset = self.producer_states.map_end_offset = batch.last_offset + 1

    def _update_producer(self, batch: Batch, origin: str) -> None:
        """Validate a batch and take it into what is known of its producer and of the transaction that it ends."""
        states = self.producer_states
        if completed := states.append(batch, origin):
            if completed.is_aborted:
                self.transaction_index.append(AbortedTxn(*completed[:3], states.last_stable_offset(completed)))
            states.complete_txn(completed)

    def index_of(self, offset: int) -> int:
        """The index of the first batch that ends at the offset or later."""
        return bisect_left(self.batches, offset, key=_last_offset)

    def _cut(self, offset: int, now: int) -> None:
        """Drop what is at the offset or later; what only memory knows follows, from the newest snapshot before it."""
        del self.batches[self.index_of(offset) :]
        del self.segments[bisect_right(self.segments, offset) :]
        self.log_end_offset = offset
        self.log_start_offset = min(offset, self.log_start_offset)
        self.recovery_point = min(offset, self.recovery_point)
        self.leader_epochs.truncate_from_end(offset)
        states = self.producer_states
        states.truncate_and_reload(self.log_start_offset, self.log_end_offset, now)
        self.transaction_index.truncate_to(states.map_end_offset)
        for batch in self.batches[self.index_of(states.map_end_offset) :]:
            if batch.producer_id != NO_PRODUCER_ID:
                self._update_producer(batch, REPLICATION)
        states.map_end_offset = self.log_end_offset
