"""The log of one partition replica: batches, and what is derived from them.

Source: kafka.log.UnifiedLog, LocalLog and LogLoader. Segments are base offsets only (`roll` begins one): snapshots of
the producers, deletion and compaction (`log_cleaner`) go by them. Not modelled: bytes and positions (a read counts
offsets), retention by time or size, a transaction index per segment, tiered storage, failing disks. Offsets called ends
or limits are exclusive.
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
from hwmark.refimpl.producer_state import CLIENT, CompletedTxn, ProducerStates

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


@dataclass(slots=True)
class Log:
    """Batches by increasing offsets, with gaps where compaction or a lost tail took some out.

    What is below `recovery_point` survives any crash. `aborted` is the index of the aborted transactions.
    """

    log_start_offset: int = 0
    log_end_offset: int = 0
    high_watermark: int = 0
    recovery_point: int = 0
    batches: list[Batch] = field(default_factory=list)
    segments: list[int] = field(default_factory=lambda: [0])
    leader_epochs: LeaderEpochCache = field(default_factory=LeaderEpochCache)
    producer_states: ProducerStates = field(default_factory=ProducerStates)
    aborted: list[CompletedTxn] = field(default_factory=list)

    def append_as_leader(self, batch: Batch, leader_epoch: int, origin: str = CLIENT) -> AppendInfo:
        """Write a batch at the end, with offsets and leader epoch assigned; one that repeats is answered, not written.

        KafkaError INVALID_PRODUCER_EPOCH, OUT_OF_ORDER_SEQUENCE_NUMBER, INVALID_TXN_STATE or, for a marker,
        TRANSACTION_COORDINATOR_FENCED.
        """
        base, duplicate = self.log_end_offset, self.producer_states.entry(batch.producer_id).find_duplicate(batch)
        if duplicate and origin == CLIENT:
            return AppendInfo(duplicate.base_offset, duplicate.last_offset, is_duplicate=True)
        self.producer_states.check(batch, origin)
        records = tuple([Record(base + i, key, value) for i, (_, key, value) in enumerate(batch.records)])
        last = base + batch.last_offset - batch.base_offset
        self.append_as_follower([Batch(base, last, leader_epoch, records, *batch[4:])])
        return AppendInfo(base, last)

    def append_as_follower(self, batches: Sequence[Batch]) -> None:
        """Write what the leader wrote, gaps included; ValueError if a batch begins before the end of the log."""
        for batch in batches:
            if batch.base_offset < self.log_end_offset:
                raise ValueError(f"{batch.base_offset} is less than the end {self.log_end_offset}")
            self._update_producer(batch)
            self.leader_epochs.assign(batch.leader_epoch, batch.base_offset)
            self.batches.append(batch)
            self.log_end_offset = batch.next_offset

    def _update_producer(self, batch: Batch) -> None:
        """Take a batch into what is known of its producer and of the transaction that it ends."""
        completed = self.producer_states.append(batch) if batch.producer_id != NO_PRODUCER_ID else None
        if completed and completed.is_aborted:
            self.aborted.append(completed)
        self.producer_states.map_end_offset = batch.next_offset

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
        limits = {LOG_END: self.log_end_offset, HIGH_WATERMARK: self.high_watermark}
        first, end = self.index_of(offset), self.index_of(limits.get(isolation, self.last_stable_offset))
        batches = self.batches[first : min(end, max(first + 1, self.index_of(offset + max_records)))]
        if isolation != TXN_COMMITTED:
            return FetchData(batches)
        aborted = self.aborted_in(offset, batches[-1].next_offset) if batches else []
        return FetchData(batches, [(txn.producer_id, txn.first_offset) for txn in aborted])

    def aborted_in(self, offset: int, limit: int) -> list[CompletedTxn]:
        """The aborted transactions with records or a marker in [offset, limit)."""
        not_before = self.aborted[bisect_left(self.aborted, offset, key=_last_offset) :]
        return [txn for txn in not_before if txn.first_offset < limit]

    def index_of(self, offset: int) -> int:
        """The index of the first batch that ends at the offset or later."""
        return bisect_left(self.batches, offset, key=_last_offset)

    def end_offset_for_epoch(self, leader_epoch: int) -> EpochEndOffset:
        """The largest leader epoch up to the given one and where it ends here; (-1, -1) if that is not known."""
        return self.leader_epochs.end_offset_for(leader_epoch, self.log_end_offset)

    @property
    def last_stable_offset(self) -> int:
        """Below it every transaction is decided, and its marker replicated; from log start offset to high watermark."""
        return max(self.log_start_offset, min([self.high_watermark, *self.producer_states.unstable]))

    def update_high_watermark(self, offset: int) -> None:
        """Set the high watermark, within the log: a new leader's, or a follower's, which may go back."""
        self.high_watermark = max(self.log_start_offset, min(offset, self.log_end_offset))
        self.producer_states.on_high_watermark_updated(self.high_watermark)

    def maybe_increment_log_start_offset(self, offset: int) -> None:
        """Hide the records below an offset, and delete the segments that end there, but never the last one.

        KafkaError OFFSET_OUT_OF_RANGE above the high watermark.
        """
        if not 0 <= offset <= self.high_watermark:
            raise KafkaError(Error.OFFSET_OUT_OF_RANGE, f"{offset} is not in [0, {self.high_watermark}]")
        if offset > self.log_start_offset:
            self.log_start_offset, self.recovery_point = offset, max(self.recovery_point, offset)
            self.leader_epochs.truncate_from_start(offset)
            del self.segments[: bisect_right(self.segments, offset) - 1]
            del self.batches[: self.index_of(self.segments[0])]
            self.producer_states.delete_snapshots_before(self.segments[0])
            self.aborted = self.aborted_in(self.segments[0], self.log_end_offset)

    def truncate_to(self, offset: int, now: int = 0) -> None:
        """Cut the log off at an offset, with the whole batch it lies in; beyond the end, only an epoch without records.

        What is derived follows: the producers from the newest snapshot before it.
        """
        offset = min(offset, self.log_end_offset)
        if offset < self.segments[0]:
            return self.truncate_fully_and_start_at(offset)
        del self.batches[self.index_of(offset) :]
        del self.segments[bisect_right(self.segments, offset) :]
        self.log_end_offset, self.recovery_point = offset, min(offset, self.recovery_point)
        self.log_start_offset = min(offset, self.log_start_offset)
        self.leader_epochs.truncate_from_end(offset)
        self._reload_producers(now)
        self.update_high_watermark(self.high_watermark)

    def _reload_producers(self, now: int) -> None:
        self.producer_states.truncate_and_reload(self.log_start_offset, self.log_end_offset, now)
        known_end = self.producer_states.map_end_offset
        del self.aborted[bisect_left(self.aborted, known_end, key=_last_offset) :]
        for batch in self.batches[self.index_of(known_end) :]:
            self._update_producer(batch)
        self.producer_states.map_end_offset = self.log_end_offset

    def truncate_fully_and_start_at(self, offset: int, log_start_offset: int | None = None) -> None:
        """Empty the log; the next offset is the one given."""
        self.batches, self.segments, self.leader_epochs, self.aborted = [], [offset], LeaderEpochCache(), []
        self.log_end_offset = self.recovery_point = self.high_watermark = offset
        self.log_start_offset = offset if log_start_offset is None else log_start_offset
        self.producer_states.truncate_fully_and_start_at(offset)

    def recover(self, high_watermark: int = 0, keeps_unflushed: bool = False, now: int = 0) -> None:
        """Open the log after a crash: what only memory knew is rebuilt from the batches and a producers' snapshot.

        `high_watermark` is the one that was checkpointed, which may be old. The log start offset's checkpoint is taken
        to be new, which Kafka does not promise.
        """
        self.producer_states = ProducerStates(self.producer_states.snapshots)
        self.high_watermark = high_watermark
        self.truncate_to(self.log_end_offset if keeps_unflushed else self.recovery_point, now)
        self.flush()
