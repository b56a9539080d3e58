"""What a partition remembers of its producers: duplicates, gaps, fenced epochs and open transactions (KIP-98, KIP-890).

Source: org.apache.kafka.storage.internals.log.ProducerStateManager, ProducerAppendInfo, ProducerStateEntry and
VerificationStateEntry. Entries never change, so a snapshot is a tuple of them; the file of one that was torn is None.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from hwmark.refimpl.batches import ABORT, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, SEQUENCE_MAX, Batch
from hwmark.refimpl.errors import Error, KafkaError

CLIENT, REPLICATION, COORDINATOR = "client", "replication", "coordinator"
BATCHES_TO_RETAIN = 5
PRODUCER_ID_EXPIRATION_MS = 86_400_000
LATE_TRANSACTION_MS = 300_000
NO_GUARD = 0


class BatchMetadata(NamedTuple):
    """What is kept of a batch to recognise it when it is sent again."""

    first_sequence: int = NO_SEQUENCE
    last_sequence: int = NO_SEQUENCE
    first_offset: int = -1
    last_offset: int = -1


NO_BATCH = BatchMetadata()


class CompletedTxn(NamedTuple):
    """A transaction whose marker, at `last_offset`, is being written."""

    producer_id: int
    first_offset: int
    last_offset: int
    is_aborted: bool


class VerificationStateEntry(NamedTuple):
    """A transaction that the coordinator is being asked about before its first append (KIP-890)."""

    timestamp: int
    guard: int
    lowest_sequence: int
    epoch: int


class ProducerStateEntry(NamedTuple):
    """The newest state of a producer id: its epoch, its last five batches, and where its open transaction began."""

    producer_id: int
    producer_epoch: int = NO_PRODUCER_EPOCH
    coordinator_epoch: int = -1
    last_timestamp: int = -1
    current_txn_first_offset: int | None = None
    batches: tuple[BatchMetadata, ...] = ()

    @property
    def last_batch(self) -> BatchMetadata:
        """The newest batch of the epoch, or NO_BATCH."""
        return self.batches[-1] if self.batches else NO_BATCH

    def find_duplicate(self, batch: Batch) -> BatchMetadata | None:
        """The batch that was written with the same epoch and sequence numbers."""
        if batch.producer_epoch == self.producer_epoch:
            for known in self.batches:
                if known.first_sequence == batch.base_sequence and known.last_sequence == batch.last_sequence:
                    return known
        return None


Snapshots = dict[int, tuple[ProducerStateEntry, ...] | None]


@dataclass(slots=True)
class ProducerStates:
    """The producers of one partition, up to `map_end_offset` (exclusive, like the offsets of snapshots).

    `ongoing` maps the first offset of each open transaction to its producer; `unreplicated` that of each completed one
    to its marker's offset, until the high watermark has passed it.
    """

    verification_enabled: bool = False
    snapshots: Snapshots = field(default_factory=dict)
    producers: dict[int, ProducerStateEntry] = field(default_factory=dict)
    ongoing: dict[int, int] = field(default_factory=dict)
    unreplicated: dict[int, int] = field(default_factory=dict)
    verifications: dict[int, VerificationStateEntry] = field(default_factory=dict)
    guards: int = NO_GUARD
    map_end_offset: int = 0

    def append(self, batch: Batch, origin: str) -> CompletedTxn | None:
        """Validate a batch and take it in; the transaction that it ends has to be completed then.

        Replicas take what a leader has checked, a coordinator counts no sequence. ValueError without a producer id.
        """
        if batch.producer_id == NO_PRODUCER_ID:
            raise ValueError("a batch without a producer id has no producer state")
        producer_id, completed = batch.producer_id, None
        entry = self.producers.get(producer_id) or ProducerStateEntry(producer_id)
        self._check(batch, entry, origin)
        first_offset, coordinator_epoch = entry.current_txn_first_offset, entry.coordinator_epoch
        batches = entry.batches if entry.producer_epoch == batch.producer_epoch else ()
        if batch.control is not None:
            if first_offset is not None:
                completed = CompletedTxn(producer_id, first_offset, batch.base_offset, batch.control == ABORT)
            first_offset, coordinator_epoch = None, batch.coordinator_epoch
        else:
            if first_offset is None and batch.is_transactional:
                first_offset = batch.base_offset
                self.ongoing[first_offset] = producer_id
            metadata = BatchMetadata(batch.base_sequence, batch.last_sequence, batch.base_offset, batch.last_offset)
            batches = (*batches, metadata)[-BATCHES_TO_RETAIN:]
        state = batch.producer_epoch, coordinator_epoch, batch.timestamp, first_offset, batches
        self.producers[producer_id] = ProducerStateEntry(producer_id, *state)
        if batch.is_transactional:
            self.verifications.pop(producer_id, None)
        return completed

    def _check(self, batch: Batch, entry: ProducerStateEntry, origin: str) -> None:
        if batch.producer_epoch < entry.producer_epoch and origin != REPLICATION:
            raise KafkaError(Error.INVALID_PRODUCER_EPOCH, f"{batch.producer_epoch} < {entry.producer_epoch}")
        if batch.control is not None:
            if batch.coordinator_epoch < entry.coordinator_epoch and origin != REPLICATION:
                raise KafkaError(Error.TRANSACTION_COORDINATOR_FENCED, f"epoch {batch.coordinator_epoch} is old")
            return
        if origin == CLIENT:
            self._check_sequence(batch, entry)
        if entry.current_txn_first_offset is not None and not batch.is_transactional:
            raise KafkaError(Error.INVALID_TXN_STATE, f"producer {batch.producer_id} has a transaction open")

    def _check_sequence(self, batch: Batch, entry: ProducerStateEntry) -> None:
        """The next sequence number, or 0 in a new epoch; any from a producer of whom nothing is known (any more)."""
        first, verification, expected = batch.base_sequence, self.verifications.get(batch.producer_id), 0
        if verification is not None and first > verification.lowest_sequence:
            raise KafkaError(Error.OUT_OF_ORDER_SEQUENCE_NUMBER, f"{first} comes before one that waits for its retry")
        if entry.producer_epoch == batch.producer_epoch:
            expected = (entry.last_batch.last_sequence + 1) % (SEQUENCE_MAX + 1)
        if entry.producer_epoch != NO_PRODUCER_EPOCH and first != expected:
            raise KafkaError(Error.OUT_OF_ORDER_SEQUENCE_NUMBER, f"{first} where {expected} comes next")

    def last_stable_offset(self, completed: CompletedTxn) -> int:
        """The last stable offset once this transaction is completed and its marker replicated."""
        others = [first for first, producer_id in self.ongoing.items() if producer_id != completed.producer_id]
        return min(others, default=completed.last_offset + 1)

    def complete_txn(self, completed: CompletedTxn) -> None:
        """The transaction is decided; it stays unstable until its marker is replicated. ValueError if never begun."""
        if self.ongoing.pop(completed.first_offset, None) is None:
            raise ValueError(f"{completed} was not started")
        self.unreplicated[completed.first_offset] = completed.last_offset

    def on_high_watermark_updated(self, high_watermark: int) -> None:
        """Completed transactions whose markers are below the high watermark are stable."""
        if self.unreplicated:
            self.unreplicated = {first: last for first, last in self.unreplicated.items() if last >= high_watermark}

    @property
    def first_unstable_offset(self) -> int | None:
        """Where the oldest transaction begins that is open, or whose marker is not replicated yet."""
        return min((*self.ongoing, *self.unreplicated), default=None) if self.ongoing or self.unreplicated else None

    def has_late_transaction(self, now: int, timeout_max: int) -> bool:
        """Whether the oldest open transaction has outlasted every timeout, and some: it hangs (a metric)."""
        first, horizon = min(self.ongoing, default=None), now - timeout_max - LATE_TRANSACTION_MS
        return first is not None and self.producers[self.ongoing[first]].last_timestamp < horizon

    def has_ongoing_transaction(self, producer_id: int) -> bool:
        """Whether the producer has written to a transaction that is not completed."""
        entry = self.producers.get(producer_id)
        return entry is not None and entry.current_txn_first_offset is not None

    def maybe_start_transaction_verification(self, batch: Batch, now: int) -> int:
        """Remember that the coordinator is asked about a transaction, and which sequence comes first.

        The guard to append with once it has said that the transaction is open (KIP-890); NO_GUARD if that is known.
        """
        if self.has_ongoing_transaction(batch.producer_id):
            return NO_GUARD
        entry, asked = self.verifications.get(batch.producer_id), (batch.base_sequence, batch.producer_epoch)
        if entry is None:
            self.guards += 1
            entry = VerificationStateEntry(now, self.guards, *asked)
        elif (-batch.producer_epoch, batch.base_sequence) < (-entry.epoch, entry.lowest_sequence):
            entry = VerificationStateEntry(entry.timestamp, entry.guard, *asked)
        self.verifications[batch.producer_id] = entry
        return entry.guard

    def is_verified(self, batch: Batch, guard: int) -> bool:
        """Whether the batch begins no transaction without the coordinator's knowledge, by the guard of the question."""
        if not self.verification_enabled or not batch.is_transactional or batch.control is not None:
            return True
        entry = self.verifications.get(batch.producer_id)
        return self.has_ongoing_transaction(batch.producer_id) or (entry is not None and entry.guard == guard)

    def remove_expired(self, now: int) -> None:
        """Forget producers and verifications that were idle too long; an open transaction keeps its producer."""
        horizon, open_ones = now - PRODUCER_ID_EXPIRATION_MS, self.ongoing.values()
        producers, verifications = self.producers.items(), self.verifications.items()
        self.producers = {id: entry for id, entry in producers if entry.last_timestamp > horizon or id in open_ones}
        self.verifications = {id: entry for id, entry in verifications if entry.timestamp > horizon}

    def take_snapshot(self) -> None:
        """Keep the producers as they are at the end offset, each with its last batch only."""
        if self.map_end_offset > max(self.snapshots, default=0):
            entries = self.producers.values()
            self.snapshots[self.map_end_offset] = tuple([e._replace(batches=e.batches[-1:]) for e in entries])

    def delete_snapshots_before(self, offset: int) -> None:
        """Snapshots below the offset go."""
        self.snapshots = {end: kept for end, kept in self.snapshots.items() if end >= offset}

    def truncate_and_reload(self, log_start_offset: int, log_end_offset: int, now: int) -> None:
        """Go back to the newest snapshot within the offsets; the log then replays its batches from `map_end_offset`."""
        within = range(log_start_offset + 1, log_end_offset + 1)
        snapshots: Snapshots = {end: kept for end, kept in self.snapshots.items() if end in within and kept is not None}
        if log_end_offset != self.map_end_offset:
            self.truncate_fully_and_start_at(max(snapshots, default=log_start_offset))
            self.producers = {entry.producer_id: entry for entry in snapshots.get(self.map_end_offset) or ()}
            first_offsets = {id: entry.current_txn_first_offset for id, entry in self.producers.items()}
            self.ongoing.update({first: id for id, first in first_offsets.items() if first is not None})
            self.remove_expired(now)
        self.snapshots = snapshots

    def truncate_fully_and_start_at(self, offset: int) -> None:
        """Forget everything, snapshots too."""
        self.snapshots, self.producers, self.ongoing, self.unreplicated = {}, {}, {}, {}
        self.map_end_offset = offset
