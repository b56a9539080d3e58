"""What the coordinator knows of a transactional id: a transaction's eight states, and its transitions in two steps.

`prepare_...` answers what shall be written to the transaction log and marks it pending; `complete` takes it over when
the log has it. In between no other transition may be prepared, so the log and the coordinator never part.

An epoch begins with a new incarnation of the producer (InitProducerId), with fencing one, and in version 2 of the
protocol with each end of a transaction (KIP-890), so that no late record slips into the next transaction.

Not modelled: the abort of a transaction without partitions, which finished versions of KIP-890 accept.
Source: TransactionMetadata, TransactionState, TransactionLog; KIP-98, KIP-360 (a producer goes on), KIP-890.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

from hwmark.refimpl.batches import NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_TIMESTAMP, TopicPartition
from hwmark.refimpl.errors import Error, KafkaError

State = Literal[
    "Empty", "Ongoing", "PrepareCommit", "PrepareAbort", "CompleteCommit", "CompleteAbort", "Dead", "PrepareEpochFence"
]
STATES: tuple[State, ...] = get_args(State)  # a state's place here is its id in the log
PREPARED: tuple[State, ...] = ("PrepareCommit", "PrepareAbort")
COMPLETED: tuple[State, ...] = ("CompleteCommit", "CompleteAbort")
EXPIRABLE: tuple[State, ...] = ("Empty", *COMPLETED)
VALID_PREVIOUS_STATES: dict[State, tuple[State, ...]] = {
    "Empty": EXPIRABLE,
    "Ongoing": ("Ongoing", *EXPIRABLE),
    "PrepareCommit": ("Ongoing",),
    "PrepareAbort": ("Ongoing", "PrepareEpochFence"),
    "CompleteCommit": ("PrepareCommit",),
    "CompleteAbort": ("PrepareAbort",),
    "Dead": EXPIRABLE,
    "PrepareEpochFence": ("Ongoing",),
}
# What a completed transition takes over, and what it does besides where the end of a transaction bumps the epoch.
TAKEN: dict[State, tuple[str, ...]] = {
    "Empty": ("producer_id", "previous_producer_id", "producer_epoch", "last_producer_epoch", "timeout_ms"),
    "Ongoing": ("start_timestamp", "topic_partitions"),
}
BUMP_TAKEN = ("producer_id", "previous_producer_id", "next_producer_id", "producer_epoch", "last_producer_epoch")
ALWAYS_TAKEN = ("state", "topic_partitions", "transaction_version", "last_update_timestamp")

VERSION_2 = 2  # of the transaction protocol, KIP-890
PRODUCER_EPOCH_MAX = 2**15 - 1  # given to no client: it stays for fencing the last


class Producer(NamedTuple):
    """Who sends a request within a transaction."""

    transactional_id: str
    producer_id: int
    producer_epoch: int


class IllegalTransitionError(ValueError):
    """A transition that the coordinator must never attempt (IllegalStateException in Kafka)."""


class TransitMetadata(NamedTuple):
    """A transition's target, and the value of its record in the log (TxnTransitMetadata, TransactionLogValue)."""

    producer_id: int
    previous_producer_id: int
    next_producer_id: int
    producer_epoch: int
    last_producer_epoch: int
    timeout_ms: int
    state: State
    topic_partitions: tuple[TopicPartition, ...]
    start_timestamp: int
    last_update_timestamp: int
    transaction_version: int


@dataclass(slots=True)
class TransactionMetadata:
    """A transactional id's producer and its latest transaction; partitions are sorted.

    `previous_producer_id` is that before a rotation, `next_producer_id` the one that follows when an end of transaction
    has used the greatest epoch.
    """

    transactional_id: str
    producer_id: int
    timeout_ms: int
    previous_producer_id: int = NO_PRODUCER_ID
    next_producer_id: int = NO_PRODUCER_ID
    producer_epoch: int = NO_PRODUCER_EPOCH
    last_producer_epoch: int = NO_PRODUCER_EPOCH
    state: State = "Empty"
    topic_partitions: tuple[TopicPartition, ...] = ()
    start_timestamp: int = NO_TIMESTAMP
    last_update_timestamp: int = NO_TIMESTAMP
    transaction_version: int = 0
    pending_state: State | None = None
    has_failed_epoch_fence: bool = False

    @property
    def producer(self) -> Producer:
        """Who may send requests now."""
        return Producer(self.transactional_id, self.producer_id, self.producer_epoch)

    @property
    def following_producer(self) -> tuple[int, int]:
        """The producer id and epoch after the transaction that is decided."""
        has_next = self.transaction_version >= VERSION_2 and self.next_producer_id != NO_PRODUCER_ID
        return (self.next_producer_id, 0) if has_next else (self.producer_id, self.producer_epoch)

    @property
    def is_exhausted(self) -> bool:
        """Whether the next epoch has to come with a new producer id."""
        return self.producer_epoch >= PRODUCER_EPOCH_MAX - 1

    def may_continue(self, producer_id: int, producer_epoch: int) -> bool:
        """Whether a producer that names its id and epoch is not fenced by the id (KIP-360)."""
        is_retried_rotation = producer_id == self.previous_producer_id and producer_epoch >= PRODUCER_EPOCH_MAX - 1
        return self.producer_epoch == NO_PRODUCER_EPOCH or producer_id == self.producer_id or is_retried_rotation

    def check(self, producer: Producer) -> None:
        """Refuse a request of another producer id or epoch, and all until the last transaction is complete."""
        if producer.producer_id != self.producer_id:
            raise KafkaError(Error.INVALID_PRODUCER_ID_MAPPING)
        if producer.producer_epoch != self.producer_epoch:
            raise KafkaError(Error.PRODUCER_FENCED)
        if self.state in PREPARED:
            raise KafkaError(Error.CONCURRENT_TRANSACTIONS)

    def check_end(self, producer: Producer, is_from_client: bool) -> None:
        """Refuse a fenced producer's end of transaction; what was ended by version 2 is retried one epoch behind."""
        bumps = self.transaction_version >= VERSION_2 and self.pending_state != "PrepareEpochFence"
        behind = self.producer_epoch - producer.producer_epoch
        overflowed = behind == 1 - PRODUCER_EPOCH_MAX and producer.producer_id == self.previous_producer_id
        if producer.producer_id != self.producer_id and not (bumps and overflowed):
            raise KafkaError(Error.INVALID_PRODUCER_ID_MAPPING)
        if bumps and self.state in PREPARED + COMPLETED:
            is_valid = behind == 1 or (overflowed and self.state in COMPLETED)
        else:
            is_valid = behind == 0 if bumps or is_from_client else behind <= 0
        if not is_valid:
            raise KafkaError(Error.PRODUCER_FENCED)

    def prepare_fence(self) -> TransitMetadata:
        """Fence the producer of an ongoing transaction, to be aborted next.

        A failed try is not bumped again. (With the greatest epoch Kafka refuses to try again, for ever.)
        """
        epoch = self.producer_epoch + (not self.has_failed_epoch_fence)
        if epoch > PRODUCER_EPOCH_MAX:
            raise IllegalTransitionError("there is no epoch left to fence with")
        return self._prepare("PrepareEpochFence", producer_epoch=epoch, last_producer_epoch=NO_PRODUCER_EPOCH)

    def prepare_increment(self, timeout_ms: int, expected_epoch: int | None, now: int) -> TransitMetadata:
        """Begin the producer's next epoch; one that names its current epoch goes on, with the last one it retries."""
        epoch, last_epoch = self.producer_epoch + 1, NO_PRODUCER_EPOCH
        if expected_epoch is not None and self.producer_epoch != NO_PRODUCER_EPOCH:
            if expected_epoch not in (self.producer_epoch, self.last_producer_epoch):
                raise KafkaError(Error.PRODUCER_FENCED)
            epoch, last_epoch = self.producer_epoch + (expected_epoch == self.producer_epoch), expected_epoch
        if epoch > self.producer_epoch and self.is_exhausted:
            raise IllegalTransitionError(f"no more epochs for producer id {self.producer_id}")
        return self._prepare_empty(self.producer_id, epoch, last_epoch, timeout_ms, now)

    def prepare_rotation(self, producer_id: int, timeout_ms: int, record_last: bool, now: int) -> TransitMetadata:
        """Go on with another producer id; the last epoch is recorded for a producer that named it and may retry."""
        return self._prepare_empty(producer_id, 0, self.producer_epoch if record_last else -1, timeout_ms, now)

    def prepare_add_partitions(self, partitions: Iterable[TopicPartition], now: int) -> TransitMetadata:
        """Add partitions; with the first the transaction starts."""
        start = now if self.state in EXPIRABLE else self.start_timestamp
        union = tuple(sorted({*self.topic_partitions, *partitions}))
        return self._prepare("Ongoing", topic_partitions=union, start_timestamp=start, last_update_timestamp=now)

    def prepare_end(self, state: State, transaction_version: int, next_producer_id: int, now: int) -> TransitMetadata:
        """Decide the transaction: PrepareCommit or PrepareAbort; version 2 bumps the epoch."""
        changes = {"next_producer_id": next_producer_id, "transaction_version": transaction_version}
        if transaction_version >= VERSION_2:
            changes |= {"producer_epoch": self.producer_epoch + 1, "last_producer_epoch": self.producer_epoch}
        return self._prepare(state, last_update_timestamp=now, **changes)

    def prepare_complete(self, now: int) -> TransitMetadata:
        """What to log when the last marker is written."""
        producer_id, epoch = self.following_producer
        ids = {"producer_id": producer_id, "producer_epoch": epoch, "last_producer_epoch": self.producer_epoch}
        changes = ids | {"transaction_version": self.transaction_version, "last_update_timestamp": now}
        return self._prepare(COMPLETED[PREPARED.index(self.state)], topic_partitions=(), **changes)

    def prepare_dead(self) -> TransitMetadata:
        """Forget an id that was not used for long: the log gets a tombstone."""
        return self._prepare("Dead", topic_partitions=())

    def _prepare_empty(self, producer_id: int, epoch: int, last_epoch: int, timeout: int, now: int) -> TransitMetadata:
        ids = {"producer_id": producer_id, "producer_epoch": epoch, "last_producer_epoch": last_epoch}
        times = {"timeout_ms": timeout, "start_timestamp": NO_TIMESTAMP, "last_update_timestamp": now}
        return self._prepare("Empty", topic_partitions=(), **ids, **times)

    def _prepare(self, state: State, **changes: Any) -> TransitMetadata:
        if self.pending_state is not None or self.state not in VALID_PREVIOUS_STATES[state]:
            raise IllegalTransitionError(f"{self.state}, pending {self.pending_state}, may not become {state}")
        kept = {name: getattr(self, name) for name in TransitMetadata._fields}
        ids = {"previous_producer_id": self.producer_id, "next_producer_id": NO_PRODUCER_ID}
        transit = TransitMetadata(**kept | ids | {"state": state, "transaction_version": 0} | changes)
        if transit.producer_id < 0 or (transit.producer_epoch < 0 and state != "Dead"):
            raise ValueError(f"illegal producer id {transit.producer_id} or epoch {transit.producer_epoch}")
        self.pending_state = state
        return transit

    def complete(self, transit: TransitMetadata) -> None:
        """Take over a transition that is in the log; IllegalTransitionError unless it was prepared from here."""
        if self.pending_state != transit.state or not self._may_complete(transit):
            raise IllegalTransitionError(f"{self} may not complete {transit}")
        bumped = transit.transaction_version >= VERSION_2
        for name in ALWAYS_TAKEN + TAKEN.get(transit.state, ()) + (BUMP_TAKEN if bumped else ()):
            setattr(self, name, getattr(transit, name))
        self.pending_state, self.has_failed_epoch_fence = None, False

    def _may_complete(self, transit: TransitMetadata) -> bool:
        if transit.state == "Empty":
            is_rotated = transit.producer_epoch == 0 and transit.producer_id != self.producer_id
            return is_rotated or transit.producer_epoch in (self.producer_epoch, self.producer_epoch + 1)
        if transit.timeout_ms != self.timeout_ms or not self._is_same_producer(transit):
            return False
        if transit.state == "Ongoing":
            return set(self.topic_partitions) <= set(transit.topic_partitions)
        if transit.state in PREPARED:
            return self.topic_partitions == transit.topic_partitions and self.start_timestamp == transit.start_timestamp
        return transit.state in COMPLETED and transit.start_timestamp != NO_TIMESTAMP

    def _is_same_producer(self, transit: TransitMetadata) -> bool:
        """Whether the producer is the one that the transition was prepared for; a bump says who it was before."""
        bumped = transit.state in PREPARED or (transit.state in COMPLETED and transit.producer_epoch == 0)
        prepared_for = (transit.producer_id, transit.producer_epoch)
        if transit.transaction_version >= VERSION_2 and bumped:
            prepared_for = (transit.previous_producer_id, transit.last_producer_epoch)
        return prepared_for == (self.producer_id, self.producer_epoch)
