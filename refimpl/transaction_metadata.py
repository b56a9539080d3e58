"""What the coordinator knows of a transactional id: a transaction's eight states, and its transitions in two steps.

`prepare_...` answers what shall be written to the transaction log and makes it pending; `complete` takes it over when
the log has it. In between no other transition may be prepared, so the log and the coordinator never part.

An epoch begins with a new incarnation of the producer (InitProducerId), with fencing one, and in version 2 of the
protocol with each end of a transaction, so that no late record slips into the next transaction.

Not modelled: ids are kept for ever, so that none is Dead; the abort of a transaction without partitions, which finished
versions of KIP-890 accept.
Source: TransactionMetadata, TransactionState, TransactionLog; KIP-98, KIP-360 (a producer goes on), KIP-890.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from hwmark.refimpl.batches import NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_TIMESTAMP, TopicPartition
from hwmark.refimpl.errors import Error, KafkaError

PREPARED, COMPLETED = ("PrepareCommit", "PrepareAbort"), ("CompleteCommit", "CompleteAbort")
EXPIRABLE = ("Empty", *COMPLETED)
VALID_PREVIOUS_STATES = {  # a state's place is its id in the log
    "Empty": EXPIRABLE,
    "Ongoing": ("Ongoing", *EXPIRABLE),
    "PrepareCommit": ("Ongoing",),
    "PrepareAbort": ("Ongoing", "PrepareEpochFence"),
    "CompleteCommit": ("PrepareCommit",),
    "CompleteAbort": ("PrepareAbort",),
    "Dead": EXPIRABLE,
    "PrepareEpochFence": ("Ongoing",),
}

VERSION_2 = 2  # of the transaction protocol, KIP-890
PRODUCER_EPOCH_MAX = 2**15 - 1  # given to no client: it stays for fencing the last


class Producer(NamedTuple):
    """Who sends a request within a transaction."""

    transactional_id: str
    producer_id: int
    producer_epoch: int


NOBODY = Producer("", NO_PRODUCER_ID, NO_PRODUCER_EPOCH)


class IllegalTransitionError(ValueError):
    """A transition that the coordinator must never attempt (IllegalStateException in Kafka)."""


class Transaction(NamedTuple):
    """A producer and its latest transaction, as a record of the log says (TransactionLogValue, TxnTransitMetadata).

    `previous_producer_id` is that before a rotation, `next_producer_id` the one that follows when an end of transaction
    has used the greatest epoch. Partitions are sorted, times in ms.
    """

    producer_id: int
    timeout_ms: int
    previous_producer_id: int = NO_PRODUCER_ID
    next_producer_id: int = NO_PRODUCER_ID
    producer_epoch: int = NO_PRODUCER_EPOCH
    last_producer_epoch: int = NO_PRODUCER_EPOCH
    state: str = "Empty"
    topic_partitions: tuple[TopicPartition, ...] = ()
    start_timestamp: int = NO_TIMESTAMP
    last_update_timestamp: int = NO_TIMESTAMP
    transaction_version: int = 0

    @property
    def is_exhausted(self) -> bool:
        """Whether the next epoch has to come with a new producer id."""
        return self.producer_epoch >= PRODUCER_EPOCH_MAX - 1

    @property
    def following_producer(self) -> tuple[int, int]:
        """The producer id and epoch after the transaction that is decided."""
        overflowed = self.transaction_version >= VERSION_2 and self.next_producer_id != NO_PRODUCER_ID
        return (self.next_producer_id, 0) if overflowed else (self.producer_id, self.producer_epoch)


@dataclass(slots=True)
class TransactionMetadata:
    """A transactional id; `has_failed_epoch_fence`: the current epoch was to fence, and is not in the log (yet)."""

    transactional_id: str
    current: Transaction
    pending: Transaction | None = None
    has_failed_epoch_fence: bool = False

    @property
    def producer(self) -> Producer:
        """Who may send requests now."""
        return Producer(self.transactional_id, self.current.producer_id, self.current.producer_epoch)

    def may_continue(self, producer_id: int, producer_epoch: int) -> bool:
        """Whether a producer that names its id and epoch is not fenced by the id (KIP-360)."""
        current = self.current
        is_retry = producer_id == current.previous_producer_id and producer_epoch >= PRODUCER_EPOCH_MAX - 1
        return current.producer_epoch == NO_PRODUCER_EPOCH or producer_id == current.producer_id or is_retry

    def check(self, producer: Producer) -> None:
        """Refuse a request of another producer id or epoch, and all until the last transaction is complete."""
        if producer.producer_id != self.current.producer_id:
            raise KafkaError(Error.INVALID_PRODUCER_ID_MAPPING)
        if producer.producer_epoch != self.current.producer_epoch:
            raise KafkaError(Error.PRODUCER_FENCED)
        if self.current.state in PREPARED:
            raise KafkaError(Error.CONCURRENT_TRANSACTIONS)

    def check_end(self, producer: Producer) -> None:
        """Refuse a fenced producer's end of transaction; what was ended by version 2 is retried one epoch behind."""
        current = self.current
        bumps = current.transaction_version >= VERSION_2 and current.state in PREPARED + COMPLETED
        behind = current.producer_epoch - producer.producer_epoch
        overflowed = behind == 1 - PRODUCER_EPOCH_MAX and producer.producer_id == current.previous_producer_id
        is_retry = bumps and overflowed and current.state in COMPLETED
        if producer.producer_id != current.producer_id and not is_retry:
            raise KafkaError(Error.INVALID_PRODUCER_ID_MAPPING)
        if behind != bumps and not is_retry:
            raise KafkaError(Error.PRODUCER_FENCED)

    def prepare_fence(self) -> Transaction:
        """Fence the producer of an ongoing transaction, to be aborted next; a failed fence does not bump again.

        (With the greatest epoch Kafka refuses to try again, for ever.)
        """
        epoch = self.current.producer_epoch + (not self.has_failed_epoch_fence)
        if epoch > PRODUCER_EPOCH_MAX:
            raise IllegalTransitionError("there is no epoch left to fence with")
        return self.prepare("PrepareEpochFence", producer_epoch=epoch, last_producer_epoch=NO_PRODUCER_EPOCH)

    def prepare_increment(self, timeout_ms: int, expected_epoch: int | None, now: int) -> Transaction:
        """Begin the producer's next epoch; one that names its current epoch goes on, with the last one it retries."""
        current = self.current.producer_epoch
        is_new = expected_epoch is None or current == NO_PRODUCER_EPOCH
        if not is_new and expected_epoch not in (current, self.current.last_producer_epoch):
            raise KafkaError(Error.PRODUCER_FENCED)
        is_retry = not is_new and expected_epoch != current
        if self.current.is_exhausted and not is_retry:
            raise IllegalTransitionError(f"no more epochs for producer id {self.current.producer_id}")
        epoch, last = current + (not is_retry), NO_PRODUCER_EPOCH if is_new else expected_epoch
        return self._prepare_empty(timeout_ms, now, producer_epoch=epoch, last_producer_epoch=last)

    def prepare_rotation(self, producer_id: int, timeout_ms: int, record_last: bool, now: int) -> Transaction:
        """Go on with another producer id; the last epoch is recorded for a producer that named it and may retry."""
        last = self.current.producer_epoch if record_last else NO_PRODUCER_EPOCH
        return self._prepare_empty(timeout_ms, now, producer_id=producer_id, producer_epoch=0, last_producer_epoch=last)

    def prepare_add_partitions(self, partitions: Iterable[TopicPartition], now: int) -> Transaction:
        """Add partitions; with the first the transaction starts."""
        start = now if self.current.state in EXPIRABLE else self.current.start_timestamp
        union = tuple(sorted({*self.current.topic_partitions, *partitions}))
        return self.prepare("Ongoing", topic_partitions=union, start_timestamp=start, last_update_timestamp=now)

    def prepare_end(self, state: str, version: int, next_producer_id: int, now: int) -> Transaction:
        """Decide the transaction: PrepareCommit or PrepareAbort; version 2 bumps the epoch.

        With the abort a fence gets into the log.
        """
        if self.pending is not None and self.pending.state == "PrepareEpochFence":
            epoch, self.pending, self.has_failed_epoch_fence = self.pending.producer_epoch, None, True
            self.current = self.current._replace(producer_epoch=epoch, last_producer_epoch=NO_PRODUCER_EPOCH)
        epoch = self.current.producer_epoch
        bump = {"producer_epoch": epoch + 1, "last_producer_epoch": epoch} if version >= VERSION_2 else {}
        changes = bump | {"transaction_version": version, "next_producer_id": next_producer_id}
        return self.prepare(state, last_update_timestamp=now, **changes)

    def prepare_complete(self, now: int) -> Transaction:
        """What to log when the last marker is written."""
        (producer_id, epoch), version = self.current.following_producer, self.current.transaction_version
        bump = {"last_producer_epoch": self.current.producer_epoch} if version >= VERSION_2 else {}
        changes = bump | {"producer_id": producer_id, "producer_epoch": epoch, "transaction_version": version}
        state = COMPLETED[PREPARED.index(self.current.state)]
        return self.prepare(state, topic_partitions=(), last_update_timestamp=now, **changes)

    def _prepare_empty(self, timeout_ms: int, now: int, **changes: Any) -> Transaction:
        return self.prepare("Empty", timeout_ms=timeout_ms, topic_partitions=(), last_update_timestamp=now, **changes)

    def prepare(self, state: str, **changes: Any) -> Transaction:
        """Make a transition pending; IllegalTransitionError if another one is, or if there is no such transition."""
        if self.pending is not None or self.current.state not in VALID_PREVIOUS_STATES[state]:
            raise IllegalTransitionError(f"{self} may not become {state}")
        reset = {"previous_producer_id": self.current.producer_id, "next_producer_id": NO_PRODUCER_ID}
        changes = reset | {"transaction_version": 0} | changes
        self.pending = self.current._replace(state=state, **changes)
        return self.pending

    def complete(self) -> None:
        """The log has what is pending."""
        if self.pending is None or self.pending.state == "PrepareEpochFence":
            raise IllegalTransitionError(f"{self} has nothing to complete")
        self.current, self.pending, self.has_failed_epoch_fence = self.pending, None, False
