"""What a partition remembers of its producers: duplicates, gaps, fenced epochs and open transactions (KIP-98, KIP-890).

Source: org.apache.kafka.storage.internals.log.ProducerStateManager, ProducerAppendInfo, ProducerStateEntry and
VerificationStateEntry. Entries never change, so a snapshot is a dict of them. Not modelled: snapshot files that are
torn or stray, the expiry of verifications, the metric of transactions that hang.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from hwmark.refimpl.batches import ABORT, NO_PRODUCER_EPOCH, SEQUENCE_MAX, Batch
from hwmark.refimpl.errors import Error, KafkaError

CLIENT, COORDINATOR = "client", "coordinator"
BATCHES_TO_RETAIN = 5
PRODUCER_ID_EXPIRATION_MS = 86_400_000
NO_GUARD = 0


class CompletedTxn(NamedTuple):
    """A transaction, from its first record to its marker, and the last stable offset once that is replicated."""

    producer_id: int
    first_offset: int
    last_offset: int
    last_stable_offset: int
    is_aborted: bool


class VerificationStateEntry(NamedTuple):
    """A transaction that the coordinator is being asked about before its first append (KIP-890)."""

    guard: int
    epoch: int
    lowest_sequence: int


class ProducerStateEntry(NamedTuple):
    """The newest state of a producer id: its epoch, the last five batches of that, where its open transaction began."""

    producer_id: int
    producer_epoch: int = NO_PRODUCER_EPOCH
    coordinator_epoch: int = -1
    last_timestamp: int = -1
    current_txn_first_offset: int | None = None
    batches: tuple[Batch, ...] = ()

    def find_duplicate(self, batch: Batch) -> Batch | None:
        """The batch that was written with the same epoch and sequence numbers."""
        sent = batch.producer_epoch, batch.base_sequence, batch.last_sequence
        known = [each for each in self.batches if (each.producer_epoch, each.base_sequence, each.last_sequence) == sent]
        return known[0] if known else None


@dataclass(slots=True)
class ProducerStates:
    """The producers of one partition, up to `map_end_offset` (exclusive, like the offsets of snapshots).

    `unreplicated` are the transactions whose markers the high watermark has not passed yet.
    """

    snapshots: dict[int, dict[int, ProducerStateEntry]] = field(default_factory=dict)
    producers: dict[int, ProducerStateEntry] = field(default_factory=dict)
    unreplicated: list[CompletedTxn] = field(default_factory=list)
    verifications: dict[int, VerificationStateEntry] = field(default_factory=dict)
    guards: int = NO_GUARD
    map_end_offset: int = 0

    def entry(self, producer_id: int) -> ProducerStateEntry:
        """What is known of a producer, perhaps nothing."""
        return self.producers.get(producer_id) or ProducerStateEntry(producer_id)

    def append(self, batch: Batch) -> CompletedTxn | None:
        """Take a valid batch in; the transaction that it ends is unstable until its marker is replicated."""
        producer_id, entry = batch.producer_id, self.entry(batch.producer_id)
        batches = entry.batches if entry.producer_epoch == batch.producer_epoch else ()
        begun, first_offset, coordinator_epoch = entry.current_txn_first_offset, None, batch.coordinator_epoch
        if batch.control is None:
            first_offset = batch.base_offset if begun is None and batch.is_transactional else begun
            batches, coordinator_epoch = (*batches, batch)[-BATCHES_TO_RETAIN:], entry.coordinator_epoch
        state = batch.producer_epoch, coordinator_epoch, batch.timestamp, first_offset, batches
        self.producers[producer_id] = ProducerStateEntry(producer_id, *state)
        if batch.is_transactional:
            self.verifications.pop(producer_id, None)
        if batch.control is None or begun is None:
            return None
        stable = min(self.ongoing, default=batch.next_offset)
        self.unreplicated.append(CompletedTxn(producer_id, begun, batch.base_offset, stable, batch.control == ABORT))
        return self.unreplicated[-1]

    def check(self, batch: Batch, origin: str) -> None:
        """Validate what a leader is to append; a coordinator counts no sequence. KafkaError says what is wrong."""
        entry = self.entry(batch.producer_id)
        if batch.producer_epoch < entry.producer_epoch:
            raise KafkaError(Error.INVALID_PRODUCER_EPOCH, f"{batch.producer_epoch} < {entry.producer_epoch}")
        if batch.control is not None and batch.coordinator_epoch < entry.coordinator_epoch:
            raise KafkaError(Error.TRANSACTION_COORDINATOR_FENCED, f"epoch {batch.coordinator_epoch} is old")
        if batch.control is None and origin == CLIENT:
            self._check_sequence(batch, entry)
        if entry.current_txn_first_offset is not None and not batch.is_transactional:
            raise KafkaError(Error.INVALID_TXN_STATE, f"producer {batch.producer_id} has a transaction open")

    def _check_sequence(self, batch: Batch, entry: ProducerStateEntry) -> None:
        """The next sequence number, or 0 in a new epoch; any from a producer of whom nothing is known (any more)."""
        first, verification = batch.base_sequence, self.verifications.get(batch.producer_id)
        known = [each.last_sequence for each in entry.batches if each.producer_epoch == batch.producer_epoch]
        expected = (known[-1] + 1) % (SEQUENCE_MAX + 1) if known else 0
        is_early = verification is not None and first > verification.lowest_sequence
        if is_early or (entry.producer_epoch != NO_PRODUCER_EPOCH and first != expected):
            raise KafkaError(Error.OUT_OF_ORDER_SEQUENCE_NUMBER, f"{first} where {expected} comes next")

    @property
    def ongoing(self) -> list[int]:
        """Where each open transaction begins."""
        entries = self.producers.values()
        return [entry.current_txn_first_offset for entry in entries if entry.current_txn_first_offset is not None]

    @property
    def unstable(self) -> list[int]:
        """Where each transaction begins that is open, or whose marker is not replicated yet."""
        return [*self.ongoing, *[txn.first_offset for txn in self.unreplicated]]

    def on_high_watermark_updated(self, high_watermark: int) -> None:
        """Completed transactions whose markers are below the high watermark are stable."""
        self.unreplicated = [txn for txn in self.unreplicated if txn.last_offset >= high_watermark]

    def maybe_start_transaction_verification(self, batch: Batch) -> int:
        """Remember that the coordinator is asked about a transaction, and which sequence comes first.

        The guard to append with once it has said that the transaction is open (KIP-890); NO_GUARD if that is known.
        """
        if self.entry(batch.producer_id).current_txn_first_offset is not None:
            return NO_GUARD
        asked = VerificationStateEntry(self.guards + 1, batch.producer_epoch, batch.base_sequence)
        known = self.verifications.get(batch.producer_id, asked)
        first = min(known, asked, key=lambda entry: (-entry.epoch, entry.lowest_sequence))
        self.verifications[batch.producer_id] = first._replace(guard=known.guard)
        self.guards = max(self.guards, known.guard)
        return known.guard

    def is_verified(self, batch: Batch, guard: int) -> bool:
        """Whether the batch begins no transaction without the coordinator's knowledge, by the guard of the question."""
        begun, asked = self.entry(batch.producer_id).current_txn_first_offset, self.verifications.get(batch.producer_id)
        begins = batch.is_transactional and batch.control is None and begun is None
        return not begins or (asked is not None and asked.guard == guard)

    def remove_expired(self, now: int) -> None:
        """Forget producers that were idle too long; an open transaction keeps its producer."""
        horizon, old = now - PRODUCER_ID_EXPIRATION_MS, self.producers.values()
        kept = [entry for entry in old if entry.last_timestamp > horizon or entry.current_txn_first_offset is not None]
        self.producers = {entry.producer_id: entry for entry in kept}

    def take_snapshot(self) -> None:
        """Keep the producers as they are at the end offset, each with its last batch only."""
        if self.map_end_offset > max(self.snapshots, default=0):
            newest = {id: entry._replace(batches=entry.batches[-1:]) for id, entry in self.producers.items()}
            self.snapshots[self.map_end_offset] = newest

    def delete_snapshots_before(self, offset: int) -> None:
        """Snapshots below the offset go."""
        self.snapshots = {end: entries for end, entries in self.snapshots.items() if end >= offset}

    def truncate_and_reload(self, log_start_offset: int, log_end_offset: int, now: int) -> None:
        """Go back to the newest snapshot within the offsets; the log then replays its batches from `map_end_offset`."""
        self.snapshots = {end: kept for end, kept in self.snapshots.items() if log_start_offset < end <= log_end_offset}
        if log_end_offset != self.map_end_offset:
            self.map_end_offset = max(self.snapshots, default=log_start_offset)
            self.producers, self.unreplicated = dict(self.snapshots.get(self.map_end_offset, {})), []
            self.remove_expired(now)

    def truncate_fully_and_start_at(self, offset: int) -> None:
        """Forget everything, snapshots too."""
        self.snapshots, self.producers, self.unreplicated, self.map_end_offset = {}, {}, [], offset
