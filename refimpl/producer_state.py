"""What a partition remembers of a producer: duplicates, gaps, fenced epochs and open transactions (KIP-98, KIP-890).

A transaction is verified with a guard, the offset where the producer's part of the log ends when its coordinator is
asked: the answer is out of date as soon as the producer, or a marker, has written more. A first batch that the
coordinator has not confirmed yet must not be overtaken by the next one: a producer of whom nothing is known begins its
transaction with sequence 0. (Kafka remembers which sequence was asked about first, and makes up guards.)

Not modelled: the expiry of idle producers and of verifications, the metric of transactions that hang.

Source: org.apache.kafka.storage.internals.log.ProducerStateManager, ProducerAppendInfo, ProducerStateEntry and
VerificationStateEntry.
"""

from __future__ import annotations

from typing import NamedTuple

from hwmark.refimpl.batches import NO_PRODUCER_EPOCH, NO_SEQUENCE, SEQUENCE_MAX, Batch
from hwmark.refimpl.errors import Error, KafkaError

BATCHES_TO_RETAIN = 5
NO_GUARD = -1


class CompletedTxn(NamedTuple):
    """A transaction, from its first record to its marker, and the last stable offset once that is replicated."""

    producer_id: int
    first_offset: int
    last_offset: int
    last_stable_offset: int
    is_aborted: bool


class ProducerStateEntry(NamedTuple):
    """The newest state of a producer id: its epoch, where its open transaction began, its last five batches.

    `end_offset` is where the last batch, or marker, ends that was written with the id.
    """

    producer_id: int
    producer_epoch: int = NO_PRODUCER_EPOCH
    coordinator_epoch: int = -1
    end_offset: int = 0
    current_txn_first_offset: int | None = None
    batches: tuple[Batch, ...] = ()

    def find_duplicate(self, batch: Batch) -> Batch | None:
        """The batch that was written with the same epoch and sequence numbers; a coordinator's have none."""
        sent = batch.producer_epoch, batch.base_sequence, batch.last_sequence
        known = [each for each in self.batches if (each.producer_epoch, each.base_sequence, each.last_sequence) == sent]
        return known[0] if known and batch.base_sequence != NO_SEQUENCE else None

    def check(self, batch: Batch) -> None:
        """Validate what a leader is to append. KafkaError says what is wrong."""
        if batch.producer_epoch < self.producer_epoch:
            raise KafkaError(Error.INVALID_PRODUCER_EPOCH, f"{batch.producer_epoch} < {self.producer_epoch}")
        if batch.control is not None and batch.coordinator_epoch < self.coordinator_epoch:
            raise KafkaError(Error.TRANSACTION_COORDINATOR_FENCED, f"epoch {batch.coordinator_epoch} is old")
        if batch.base_sequence != NO_SEQUENCE:
            self._check_sequence(batch)
        if self.current_txn_first_offset is not None and not batch.is_transactional:
            raise KafkaError(Error.INVALID_TXN_STATE, f"producer {batch.producer_id} has a transaction open")

    def _check_sequence(self, batch: Batch) -> None:
        """The next sequence number, or 0 in a new epoch; any outside transactions if nothing is known (any more)."""
        known = [each.last_sequence for each in self.batches if each.producer_epoch == batch.producer_epoch]
        expected = (known[-1] + 1) % (SEQUENCE_MAX + 1) if known else 0
        is_any_right = self.producer_epoch == NO_PRODUCER_EPOCH and not batch.is_transactional
        if batch.base_sequence != expected and not is_any_right:
            raise KafkaError(Error.OUT_OF_ORDER_SEQUENCE_NUMBER, f"{batch.base_sequence}, not {expected}")

    def append(self, batch: Batch) -> ProducerStateEntry:
        """The state after a batch, or after the marker that ends the transaction."""
        known = self._replace(producer_epoch=batch.producer_epoch, end_offset=batch.next_offset)
        if batch.control is not None:
            return known._replace(coordinator_epoch=batch.coordinator_epoch, current_txn_first_offset=None)
        begun = self.current_txn_first_offset
        first_offset = batch.base_offset if begun is None and batch.is_transactional else begun
        batches = (*self.batches, batch)[-BATCHES_TO_RETAIN:]
        return known._replace(current_txn_first_offset=first_offset, batches=batches)

    @property
    def guard(self) -> int:
        """What to begin a transaction with, once its coordinator knows of it; NO_GUARD if one is open."""
        return self.end_offset if self.current_txn_first_offset is None else NO_GUARD

    def is_verified(self, batch: Batch, guard: int) -> bool:
        """Whether the batch begins no transaction without the coordinator's knowledge, by the guard of the question."""
        return not batch.is_transactional or batch.control is not None or self.guard in (NO_GUARD, guard)
