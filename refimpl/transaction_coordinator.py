"""The transaction coordinator of a broker, for the partitions of __transaction_state that the broker leads.

Requests and outcomes go in, effects come out; nothing is done here. What a transaction becomes is first appended to the
partition's log (`Append`) and taken over when `on_appended` says that the high watermark passed it; until then nothing
else is appended for that id, so that the log and the coordinator never part. A decided transaction is answered, its
markers are sent (`SendMarkers`), and with the last one written it is completed. Failover is `load`, from the records of
the log: what is decided there is decided, and its markers are sent once more. The coordinator epoch is the partition's
leader epoch, so that leaders can refuse the markers of a former coordinator.

An epoch begins with a new incarnation of the producer (InitProducerId), with fencing one, and in version 2 of the
protocol with each end of a transaction, so that no late record slips into the next transaction. An epoch fence bumps
the epoch once, in version 2 too, where Kafka did it twice at first (KAFKA-19367).

The owner hands each Append and SendMarkers back with its outcome, once; a Respond to InitProducerId or EndTxn has the
producer id and epoch as its body, and a request refused at once raises KafkaError.

Not modelled: ids are kept for ever, so that none is Dead; the abort of a transaction without partitions, which finished
versions of KIP-890 accept; a fence that fails (it is tried again until the log has it, and who asked is told at once to
come again); intervals between looks for slow transactions; blocks of producer ids from the controller, as what is
unique in ZooKeeper already makes them unique. InitProducerId can be retried until something happens in the new epoch,
across a failover too: a record has the epoch that was named.
Source: TransactionCoordinator, TransactionMetadata, TransactionState, TransactionStateManager, TransactionLog,
TransactionMarkerChannelManager; KIP-98, KIP-360 (a producer goes on), KIP-890.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from hwmark.refimpl.batches import ABORT, COMMIT, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, Batch, Producer, TopicPartition
from hwmark.refimpl.config import OFFSETS_TOPIC, TRANSACTIONS_TOPIC
from hwmark.refimpl.coordinator import APPEND_ERRORS, Append, Coordinator, Respond, partition_for
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
PRODUCER_IDS_PER_EPOCH = 1_000_000
# What leaders answer to markers if there is a newer producer or coordinator.
SUPERSEDED = Error.INVALID_PRODUCER_EPOCH, Error.TRANSACTION_COORDINATOR_FENCED


class SendMarkers(NamedTuple):
    """Effect: send WriteTxnMarkers to the leader of the topic partition; `result` is COMMIT or ABORT."""

    producer: Producer
    coordinator_epoch: int
    result: str
    topic_partition: TopicPartition


Effects = list[Append | SendMarkers | Respond]
Partitions = Collection[TopicPartition]


class Transaction(NamedTuple):
    """A producer and its latest transaction, as a record of the log says (TransactionLogValue, TxnTransitMetadata).

    `previous_producer_id` is that before a rotation, `next_producer_id` the one that follows when an end of transaction
    has used the greatest epoch; `last_producer_epoch` is that which a producer named when it got its new one (KIP-360).
    Partitions are sorted (of a decided transaction those without a marker yet), times in ms.
    """

    producer: Producer
    timeout_ms: int
    topic_partitions: tuple[TopicPartition, ...] = ()
    start_timestamp: int = -1
    state: str = "Empty"
    last_update_timestamp: int = -1
    previous_producer_id: int = NO_PRODUCER_ID
    next_producer_id: int = NO_PRODUCER_ID
    last_producer_epoch: int = NO_PRODUCER_EPOCH
    transaction_version: int = 0

    @property
    def is_exhausted(self) -> bool:
        """Whether the next epoch has to come with a new producer id."""
        return self.producer.producer_epoch >= PRODUCER_EPOCH_MAX - 1

    @property
    def following_producer(self) -> Producer:
        """Who goes on: another id if the decision has used the greatest epoch."""
        if self.next_producer_id == NO_PRODUCER_ID:
            return self.producer
        return self.producer._replace(producer_id=self.next_producer_id, producer_epoch=0)

    @property
    def ending_producer(self) -> Producer:
        """Who ends the transaction, or has: a decision by version 2 bumps the epoch, and its retry is one behind."""
        if self.transaction_version < VERSION_2:
            return self.producer
        epoch = (self.producer.producer_epoch or PRODUCER_EPOCH_MAX) - 1  # 0 follows the greatest
        return self.producer._replace(producer_id=self.previous_producer_id, producer_epoch=epoch)

    def is_retry(self, expected: tuple[int, int] | None) -> bool:
        """Whether a producer that names its id and epoch has got the next ones already; KafkaError if it is fenced."""
        _, producer_id, epoch = self.producer
        if expected is None or expected == (producer_id, epoch) or epoch == NO_PRODUCER_EPOCH:
            return False
        if expected not in [(id, self.last_producer_epoch) for id in (producer_id, self.previous_producer_id)]:
            raise KafkaError(Error.PRODUCER_FENCED)
        return True

    def become(self, state: str, now: int, **changes: Any) -> Transaction:
        """The transaction after a transition, with what it keeps of the former; ValueError if there is none such."""
        if self.state not in VALID_PREVIOUS_STATES[state]:
            raise ValueError(f"{self} may not become {state}")
        kept = Transaction(self.producer, self.timeout_ms, self.topic_partitions, self.start_timestamp, state, now)
        return kept._replace(previous_producer_id=self.producer.producer_id, **changes)

    def initialize(self, now: int, timeout_ms: int, is_named: bool, new_id: int | None = None) -> Transaction:
        """The producer's next epoch, or the first of a new id; one that has named its epoch may retry."""
        name, producer_id, epoch = self.producer
        producer = Producer(name, producer_id, epoch + 1) if new_id is None else Producer(name, new_id, 0)
        last = epoch if is_named else NO_PRODUCER_EPOCH
        changes = {"timeout_ms": timeout_ms, "topic_partitions": (), "last_producer_epoch": last}
        return self.become("Empty", now, producer=producer, **changes)

    def add_partitions(self, now: int, partitions: Partitions) -> Transaction:
        """Add partitions; with the first the transaction starts."""
        start = now if self.state in EXPIRABLE else self.start_timestamp
        union = tuple(sorted({*self.topic_partitions, *partitions}))
        return self.become("Ongoing", now, topic_partitions=union, start_timestamp=start)

    def fence(self, now: int) -> Transaction:
        """Fence the producer of an ongoing transaction, to be aborted next."""
        producer = self.producer._replace(producer_epoch=self.producer.producer_epoch + 1)
        return self.become("PrepareEpochFence", now, producer=producer)

    def decide(self, now: int, state: str, version: int = 0, next_id: int = NO_PRODUCER_ID) -> Transaction:
        """PrepareCommit or PrepareAbort; version 2 bumps the epoch."""
        producer = self.producer._replace(producer_epoch=self.producer.producer_epoch + (version >= VERSION_2))
        return self.become(state, now, producer=producer, transaction_version=version, next_producer_id=next_id)

    def complete(self, now: int) -> Transaction:
        """What to log when the last marker is written."""
        state, version = COMPLETED[PREPARED.index(self.state)], self.transaction_version
        last = self.producer.producer_epoch if version >= VERSION_2 else NO_PRODUCER_EPOCH
        changes = {"topic_partitions": (), "last_producer_epoch": last, "transaction_version": version}
        return self.become(state, now, producer=self.following_producer, **changes)


@dataclass(slots=True)
class TransactionCoordinator(Coordinator):
    """One broker's coordinator; `broker_epoch` is for its owner to set, -1 while the broker is not registered.

    `transactions` are as the log has them, `pending` the ids that are being appended for, `retries` what failed and
    when to try it again.
    """

    topic: ClassVar[str] = TRANSACTIONS_TOPIC
    broker_epoch: int = -1
    producer_id_count: int = 0
    transactions: dict[str, Transaction] = field(default_factory=dict, init=False)
    pending: set[str] = field(default_factory=set, init=False)
    retries: list[tuple[int, Append | SendMarkers]] = field(default_factory=list, init=False)

    def init_producer_id(
        self, to: Hashable, now: int, transactional_id: str | None, timeout: int, expected: tuple[int, int] | None
    ) -> Effects:
        """Give a producer its id and epoch and fence those before it; `expected` are those it has (KIP-360)."""
        if transactional_id is None:
            return [Respond(to, Error.NONE, (self._next_producer_id(), 0))]
        if not 0 < timeout <= self.config.transaction_timeout_max:
            raise KafkaError(Error.INVALID_TRANSACTION_TIMEOUT)
        known = self.find(transactional_id)
        if transactional_id in self.pending or (known and known.state in PREPARED):
            raise KafkaError(Error.CONCURRENT_TRANSACTIONS)
        known = known or Transaction(Producer(transactional_id, self._next_producer_id(), NO_PRODUCER_EPOCH), timeout)
        expected = expected if self.config.kip_360 else None
        if known.is_retry(expected):
            return [Respond(to, Error.NONE, known.producer[1:])]
        if known.state == "Ongoing":
            return [Respond(to, Error.CONCURRENT_TRANSACTIONS), *self.fence(now, known.producer)]
        new_id = self._next_producer_id() if known.is_exhausted else None
        return self._append(known.initialize(now, timeout, expected is not None, new_id), to)

    def add_partitions(
        self, to: Hashable, now: int, producer: Producer, partitions: Partitions, verify_only: bool = False
    ) -> Effects:
        """Partitions join the transaction, or a leader that is to append for it asks whether they have (KIP-890)."""
        known, is_pending = self._known(producer), producer.transactional_id in self.pending
        if known.state in PREPARED or (is_pending and not verify_only):
            raise KafkaError(Error.CONCURRENT_TRANSACTIONS)
        if set(partitions) <= set(known.topic_partitions):
            return [Respond(to)]
        if verify_only:
            raise KafkaError(Error.TRANSACTION_ABORTABLE)
        return self._append(known.add_partitions(now, partitions), to)

    def add_offsets(self, to: Hashable, now: int, producer: Producer, group_id: str) -> Effects:
        """The partition that keeps a group's offsets joins the transaction."""
        partition = partition_for(group_id, self.config.partition_count(OFFSETS_TOPIC))
        return self.add_partitions(to, now, producer, ((OFFSETS_TOPIC, partition),))

    def end_txn(self, to: Hashable, now: int, producer: Producer, result: str, version: int) -> Effects:
        """COMMIT or ABORT by a client of a transaction version; answers who the producer is in its next transaction."""
        known, end = self._known(producer, is_end=True), (COMMIT, ABORT).index(result)
        if known.state == COMPLETED[end]:
            return [Respond(to, Error.NONE, known.producer[1:])]
        if known.state == PREPARED[end] or producer.transactional_id in self.pending:
            raise KafkaError(Error.CONCURRENT_TRANSACTIONS)
        if known.state != "Ongoing":
            raise KafkaError(Error.INVALID_TXN_STATE, f"{result} of {known.state}")
        next_id = self._next_producer_id() if version >= VERSION_2 and known.is_exhausted else NO_PRODUCER_ID
        return self._append(known.decide(now, PREPARED[end], version, next_id), to)

    def fence(self, now: int, producer: Producer) -> Effects:
        """Abort the ongoing transaction of a producer and fence it, unless it is fenced already."""
        return self._append(self._known(producer).fence(now).decide(now, "PrepareAbort"))

    def on_appended(self, append: Append, error: Error, base_offset: int, now: int) -> Effects:
        """Take over what is committed (NONE); what failed is refused, or tried again if nobody waits for it."""
        ((transactional_id, value),) = append.records
        if not self.is_current(transactional_id, append.leader_epoch):
            return [*append.answer(Error.NOT_COORDINATOR)]
        if error is not Error.NONE and append.to is None:
            self.retries.append((now + self.config.retry_backoff, append))
            return []
        self.pending.remove(transactional_id)
        if error is not Error.NONE:
            return [*append.answer(APPEND_ERRORS.get(error, error))]
        self.transactions[transactional_id] = value
        return [*append.answer(Error.NONE, value.following_producer[1:]), *self._send_markers(value, now)]

    def on_markers(self, markers: SendMarkers, error: Error, now: int) -> Effects:
        """A leader has answered: an error is tried again, but by a coordinator that is superseded.

        A partition that is gone counts as written (NONE), a lost answer is an error.
        """
        transactional_id = markers.producer.transactional_id
        if error in SUPERSEDED or not self.is_current(transactional_id, markers.coordinator_epoch):
            return []
        if error is not Error.NONE:
            self.retries.append((now + self.config.retry_backoff, markers))
            return []
        decided = self.transactions[transactional_id]
        unwritten = tuple([one for one in decided.topic_partitions if one != markers.topic_partition])
        marked = decided._replace(topic_partitions=unwritten)
        self.transactions[transactional_id] = marked
        return [] if unwritten else self._send_markers(marked, now)

    def _send_markers(self, known: Transaction, now: int) -> Effects:
        """What a decided transaction needs: its markers, and its completion when it has no partitions (left)."""
        if known.state not in PREPARED:
            return []
        if not known.topic_partitions:
            return self._append(known.complete(now))
        epoch = self.epochs[self.partition(known.producer.transactional_id)]
        result = (COMMIT, ABORT)[PREPARED.index(known.state)]
        return [SendMarkers(known.producer, epoch, result, one) for one in known.topic_partitions]

    def tick(self, now: int) -> Effects:
        """Do what time asks for: try again what failed, and abort slow transactions."""
        due = [effect for time, effect in self.retries if time <= now]
        self.retries = [(time, effect) for time, effect in self.retries if time > now]
        slow = [producer for time, producer in self._timeouts() if time <= now]
        return [*due, *[effect for producer in slow for effect in self.fence(now, producer)]]

    def next_deadline(self) -> int | None:
        """When to tick; None: not before something else happens."""
        return min([time for time, _ in [*self.retries, *self._timeouts()]], default=None)

    def _timeouts(self) -> list[tuple[int, Producer]]:
        """When the ongoing transactions have lasted too long."""
        free = [one for id, one in self.transactions.items() if one.state == "Ongoing" and id not in self.pending]
        return [(one.start_timestamp + one.timeout_ms + 1, one.producer) for one in free]

    def load(self, partition: int, batches: Collection[Batch], leader_epoch: int, now: int) -> Effects:
        """Lead a partition that is not loaded from what its log holds, and complete what is decided there."""
        self.epochs[partition] = leader_epoch
        loaded: dict[Any, Any] = {record.key: record.value for batch in batches for record in batch.records}
        self.transactions |= loaded
        return [effect for one in loaded.values() for effect in self._send_markers(one, now)]

    def unload(self, partition: int) -> Effects:
        """Forget a partition that another broker leads now, or this one in another epoch; outcomes to come say so."""
        self.epochs.pop(partition, None)
        self.transactions = {id: one for id, one in self.transactions.items() if self.partition(id) != partition}
        self.pending = {id for id in self.pending if self.partition(id) != partition}
        return []

    def find(self, transactional_id: str) -> Transaction | None:
        """What is known of a transactional id, also for DescribeTransactions; None if nothing."""
        if not transactional_id:
            raise KafkaError(Error.INVALID_REQUEST, "no transactional id")
        self.check_coordinator(transactional_id)
        return self.transactions.get(transactional_id)

    def _known(self, producer: Producer, is_end: bool = False) -> Transaction:
        """A producer's transaction; KafkaError if another producer id or epoch is to go on with it, or to end it."""
        known = self.find(producer.transactional_id)
        if known is None:
            raise KafkaError(Error.INVALID_PRODUCER_ID_MAPPING)
        expected = known.ending_producer if is_end else known.following_producer
        if producer.producer_id != expected.producer_id:
            raise KafkaError(Error.INVALID_PRODUCER_ID_MAPPING)
        if producer != expected:
            raise KafkaError(Error.PRODUCER_FENCED)
        return known

    def is_current(self, transactional_id: str, coordinator_epoch: int) -> bool:
        """Whether the partition is led, in the epoch of an effect whose outcome comes."""
        return self.epochs.get(self.partition(transactional_id)) == coordinator_epoch

    def _append(self, transaction: Transaction, to: Hashable = None) -> Effects:
        """What a transaction is to become."""
        transactional_id = transaction.producer.transactional_id
        self.pending.add(transactional_id)
        return [self.append(transactional_id, ((transactional_id, transaction),), to)]

    def _next_producer_id(self) -> int:
        """An id that nobody else gives: no other registration of any broker has this broker epoch."""
        if self.broker_epoch < 0:
            raise KafkaError(Error.COORDINATOR_LOAD_IN_PROGRESS, "the broker is not registered")
        self.producer_id_count += 1
        return self.broker_epoch * PRODUCER_IDS_PER_EPOCH + self.producer_id_count
