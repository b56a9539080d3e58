"""The log of one partition replica: batches, and what is derived from them.

Offsets called ends or limits are exclusive. A segment is no more than an offset where `roll` began one, and the
producers as they were there, which Kafka keeps in a snapshot; compaction spares the active one.

Leader epochs, each with the first offset that was written in it, let replicas find out where their logs parted
(KIP-101, KIP-279). Compaction keeps the newest record of each key, every offset where it is, and what producers and
readers need.

Simpler than in Kafka: records below the log start offset are deleted at once, not with their segments; tombstones and
markers stay (KIP-534). Not modelled: bytes and positions (a read counts offsets), retention by time or size, a
transaction index per segment, snapshots and checkpoints that are torn or stray, tiered storage, failing disks.

Source: kafka.log.UnifiedLog, LocalLog, LogLoader, LogCleaner, LeaderEpochFileCache, ProducerStateManager.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from hwmark.refimpl.batches import ABORT, NO_PRODUCER_ID, UNDEFINED, Batch, EpochEndOffset, Record
from hwmark.refimpl.errors import Error, KafkaError
from hwmark.refimpl.producer_state import CompletedTxn, ProducerStateEntry

Producers = dict[int, ProducerStateEntry]
_last_offset = attrgetter("last_offset")


@dataclass(slots=True)
class Log:
    """Batches by increasing offsets, with gaps where compaction or a lost tail took some out.

    What is below `recovery_point` survives any crash. `segments` has the producers as they were where each begins,
    `leader_epochs` the first offset of each, `completed` the transactions by their markers.
    """

    log_start_offset: int = 0
    log_end_offset: int = 0
    high_watermark: int = 0
    recovery_point: int = 0
    batches: list[Batch] = field(default_factory=list)
    segments: dict[int, Producers] = field(default_factory=dict)
    leader_epochs: dict[int, int] = field(default_factory=dict)
    producers: Producers = field(default_factory=dict)
    completed: list[CompletedTxn] = field(default_factory=list)

    def append_as_leader(self, batch: Batch, leader_epoch: int) -> Batch:
        """Write a batch at the end, with offsets and leader epoch assigned; one that repeats is answered, not written.

        KafkaError INVALID_PRODUCER_EPOCH, OUT_OF_ORDER_SEQUENCE_NUMBER, INVALID_TXN_STATE or, for a marker,
        TRANSACTION_COORDINATOR_FENCED.
        """
        producer, base = self.producer(batch.producer_id), self.log_end_offset
        if duplicate := producer.find_duplicate(batch):
            return duplicate
        producer.check(batch)
        records = tuple([Record(base + i, key, value) for i, (_, key, value) in enumerate(batch.records)])
        last = base + batch.last_offset - batch.base_offset
        written = Batch(base, last, leader_epoch, records, *batch[4:])
        self.append_as_follower([written])
        return written

    def append_as_follower(self, batches: Sequence[Batch]) -> None:
        """Write what the leader wrote, gaps included; ValueError if a batch begins before the end of the log."""
        for batch in batches:
            if batch.base_offset < self.log_end_offset:
                raise ValueError(f"{batch.base_offset} is less than the end {self.log_end_offset}")
            self.update_producer(batch)
            self.assign_leader_epoch(batch.leader_epoch, batch.base_offset)
            self.batches.append(batch)
            self.log_end_offset = batch.next_offset

    def read(self, offset: int, limit: int, max_records: int = 2**31) -> list[Batch]:
        """Whole batches below the limit, from the one that has the offset; at least one if there is any.

        KafkaError OFFSET_OUT_OF_RANGE outside [log start offset, log end offset].
        """
        if not self.log_start_offset <= offset <= self.log_end_offset:
            raise KafkaError(Error.OFFSET_OUT_OF_RANGE, f"{offset} in [{self.log_start_offset}, {self.log_end_offset}]")
        first, end = self.index_of(offset), self.index_of(limit)
        return self.batches[first : min(end, max(first + 1, self.index_of(offset + max_records)))]

    def index_of(self, offset: int) -> int:
        """The index of the first batch that ends at the offset or later."""
        return bisect_left(self.batches, offset, key=_last_offset)

    def roll(self) -> None:
        """Begin a new segment, and keep what is known of each producer, with its last batch only."""
        newest = {id: entry._replace(batches=entry.batches[-1:]) for id, entry in self.producers.items()}
        self.segments[self.log_end_offset] = newest

    @property
    def active_segment(self) -> int:
        """Where the last segment begins."""
        return max(self.segments, default=self.log_start_offset)

    def flush(self) -> None:
        """Everything written so far survives a crash."""
        self.recovery_point = self.log_end_offset

    # Leader epochs

    @property
    def latest_epoch(self) -> int:
        """The leader epoch that began last."""
        return max(self.leader_epochs, default=-1)

    def assign_leader_epoch(self, epoch: int, start_offset: int) -> None:
        """Begin an epoch, unless it has begun; those that contradict the new one go."""
        if epoch == self.latest_epoch and self.leader_epochs[epoch] <= start_offset:
            return
        older = {known: start for known, start in self.leader_epochs.items() if known < epoch and start < start_offset}
        self.leader_epochs = older | {epoch: start_offset}

    def end_offset_for_epoch(self, epoch: int) -> EpochEndOffset:
        """The largest leader epoch up to the requested one, and where it ends here; UNDEFINED if that is not known.

        Below the first epoch known, the answer is where that one begins: what came before has been deleted.
        """
        if not 0 <= epoch <= self.latest_epoch:
            return UNDEFINED
        known = max([each for each in self.leader_epochs if each <= epoch], default=epoch)
        later = [start for each, start in self.leader_epochs.items() if each > epoch]
        return EpochEndOffset(known, min(later, default=self.log_end_offset))

    # Producers and transactions

    def producer(self, producer_id: int) -> ProducerStateEntry:
        """What is known of a producer, perhaps nothing."""
        return self.producers.get(producer_id) or ProducerStateEntry(producer_id)

    def update_producer(self, batch: Batch) -> None:
        """Take a batch into what is known of its producer, and of the transaction that it ends."""
        if batch.producer_id == NO_PRODUCER_ID:
            return
        known = self.producer(batch.producer_id)
        self.producers[batch.producer_id] = known.append(batch)
        if batch.control is not None and known.current_txn_first_offset is not None:
            ends = batch.base_offset, min(self.ongoing, default=batch.next_offset)
            is_aborted = batch.control == ABORT
            self.completed.append(CompletedTxn(batch.producer_id, known.current_txn_first_offset, *ends, is_aborted))

    def aborted_in(self, offset: int, limit: int) -> list[CompletedTxn]:
        """The aborted transactions with records or a marker in [offset, limit)."""
        not_before = self.completed[bisect_left(self.completed, offset, key=_last_offset) :]
        return [txn for txn in not_before if txn.is_aborted and txn.first_offset < limit]

    @property
    def ongoing(self) -> list[int]:
        """Where each open transaction begins."""
        begun = [entry.current_txn_first_offset for entry in self.producers.values()]
        return [offset for offset in begun if offset is not None]

    @property
    def unstable(self) -> list[int]:
        """Where each transaction begins that is open, or whose marker is not replicated yet."""
        unreplicated = self.completed[bisect_left(self.completed, self.high_watermark, key=_last_offset) :]
        return [*self.ongoing, *[txn.first_offset for txn in unreplicated]]

    @property
    def last_stable_offset(self) -> int:
        """Below it every transaction is decided, and its marker replicated; from log start offset to high watermark."""
        return max(self.log_start_offset, min([self.high_watermark, *self.unstable]))

    # The ends of the log

    def update_high_watermark(self, offset: int) -> None:
        """Set the high watermark, within the log: a new leader's, or a follower's, which may go back."""
        self.high_watermark = max(self.log_start_offset, min(offset, self.log_end_offset))

    def maybe_increment_log_start_offset(self, offset: int) -> None:
        """Delete the records below an offset, where the leader epoch begins now that it lies in.

        KafkaError OFFSET_OUT_OF_RANGE above the high watermark.
        """
        if not 0 <= offset <= self.high_watermark:
            raise KafkaError(Error.OFFSET_OUT_OF_RANGE, f"{offset} is not in [0, {self.high_watermark}]")
        if offset <= self.log_start_offset:
            return
        self.log_start_offset, self.recovery_point = offset, max(self.recovery_point, offset)
        current = max([epoch for epoch, start in self.leader_epochs.items() if start <= offset], default=-1)
        self.leader_epochs = {e: max(start, offset) for e, start in self.leader_epochs.items() if e >= current}
        self.segments = {base: producers for base, producers in self.segments.items() if base > offset}
        del self.batches[: self.index_of(offset)]
        del self.completed[: bisect_left(self.completed, offset, key=_last_offset)]

    def truncate_to(self, offset: int) -> None:
        """Cut the log off at an offset, with the whole batch it lies in; at the end, only an epoch without records."""
        end = min(offset, self.log_end_offset)
        self.leader_epochs = {epoch: start for epoch, start in self.leader_epochs.items() if start < end}
        if end == self.log_end_offset:
            return
        del self.batches[self.index_of(end) :]
        self.segments = {base: producers for base, producers in self.segments.items() if base <= end}
        self.log_end_offset, self.recovery_point = end, min(end, self.recovery_point)
        self.log_start_offset = min(end, self.log_start_offset)
        self.update_high_watermark(self.high_watermark)
        self._reload_producers()

    def truncate_fully_and_start_at(self, offset: int) -> None:
        """Empty the log; the next offset is the one given."""
        self.truncate_to(-1)
        self.log_start_offset = self.log_end_offset = self.high_watermark = self.recovery_point = offset

    def recover(self, high_watermark: int = 0, keeps_unflushed: bool = False) -> None:
        """Open the log after a crash: what only memory knew is rebuilt from the batches.

        `high_watermark` is the one that was checkpointed, which may be old. The log start offset's checkpoint is taken
        to be new, which Kafka does not promise.
        """
        self.truncate_to(self.log_end_offset if keeps_unflushed else self.recovery_point)
        self.update_high_watermark(high_watermark)
        self._reload_producers()
        self.flush()

    def _reload_producers(self) -> None:
        """Go back to the producers of the last segment's beginning, and replay what was written since."""
        since = self.active_segment
        self.producers = dict(self.segments.get(since, {}))
        del self.completed[bisect_left(self.completed, since, key=_last_offset) :]
        for batch in self.batches[self.index_of(since) :]:
            self.update_producer(batch)

    # Compaction

    def compact(self) -> None:
        """Clean the segments before the active one and before the last stable offset.

        A batch without records stays if it is the last one, or its producer's last: it has the sequence number to go
        on. Cleaning starts from the log's first batch each time.
        """
        stable = self.last_stable_offset
        clean_point = max([base for base in self.segments if base <= stable], default=self.log_start_offset)
        dirty = self.batches[: self.index_of(clean_point)]
        data = [batch for batch in dirty if batch.control is None and not self._is_aborted(batch)]
        newest = {record.key: record.offset for batch in data for record in batch.records if record.key is not None}
        kept = {*newest.values(), *[batch.base_offset for batch in dirty if batch.control is not None]}
        last = {clean_point - 1, *[one.batches[-1].last_offset for one in self.producers.values() if one.batches]}
        cleaned = [b._replace(records=tuple([record for record in b.records if record.offset in kept])) for b in dirty]
        self.batches[: len(dirty)] = [batch for batch in cleaned if batch.records or batch.last_offset in last]

    def _is_aborted(self, batch: Batch) -> bool:
        """Whether a batch lies between the first record and the marker of its producer's aborted transaction."""
        aborted = self.aborted_in(batch.base_offset, batch.next_offset)
        return any(txn.producer_id == batch.producer_id for txn in aborted)
