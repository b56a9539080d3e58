"""The transaction coordinator of a broker, for the partitions of __transaction_state that the broker leads.

Requests and outcomes go in, effects come out; nothing is done here. What a transaction becomes is first appended to the
partition's log (`Append`) and taken over when `on_appended` says that the high watermark passed it. A decided
transaction is answered, its markers are sent (`SendMarkers`), and with the last one written it is completed. Failover
is `load`, from the records of the log: what is decided there is decided, and its markers are sent once more. The
coordinator epoch is the partition's leader epoch, so that leaders can refuse the markers of a former coordinator.

The owner hands each Append and SendMarkers back with its outcome, once; a Respond has the `context` of its request, and
a request refused at once raises KafkaError. An epoch fence bumps the epoch once, in version 2 too, where Kafka did it
twice at first (KAFKA-19367).

Source: TransactionCoordinator, TransactionStateManager, TransactionMarkerChannelManager; KIP-98, KIP-360, KIP-890.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from hwmark.refimpl import transaction_metadata as states
from hwmark.refimpl.batches import ABORT, COMMIT, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, Record, TopicPartition
from hwmark.refimpl.coordinator import APPEND_ERRORS
from hwmark.refimpl.coordinator import partition_for as partition_for
from hwmark.refimpl.errors import Error, KafkaError
from hwmark.refimpl.transaction_metadata import PREPARED, Producer, Transaction, TransactionMetadata

COORDINATOR_ERRORS = APPEND_ERRORS | {Error.REQUEST_TIMED_OUT: Error.COORDINATOR_NOT_AVAILABLE}
LOADING = -1
# What leaders answer to markers if there is a newer producer or coordinator.
SUPERSEDED = frozenset((Error.INVALID_PRODUCER_EPOCH, Error.TRANSACTION_COORDINATOR_FENCED))


class Append(NamedTuple):
    """Append a record (value None: a tombstone) to a partition of __transaction_state with acks=all.

    In another leader epoch the outcome is NOT_LEADER_OR_FOLLOWER. `context` is the request that waits, if one does.
    """

    partition: int
    coordinator_epoch: int
    key: str
    value: Transaction | None
    context: Hashable


class SendMarkers(NamedTuple):
    """Send WriteTxnMarkers to the leaders of the topic partitions; `result` is COMMIT or ABORT."""

    partition: int
    coordinator_epoch: int
    producer: Producer
    result: str
    topic_partitions: tuple[TopicPartition, ...]


class Respond(NamedTuple):
    """The answer to a request."""

    context: Hashable
    error: Error
    producer_id: int = NO_PRODUCER_ID
    producer_epoch: int = NO_PRODUCER_EPOCH


Effects = list[Append | SendMarkers | Respond]
Errors = dict[TopicPartition, Error]
Partitions = Collection[TopicPartition]


@dataclass(slots=True)
class TransactionCoordinator:
    """One broker's coordinator: of partitions with an epoch in `epochs`, LOADING while their log is being read.

    Durations are in ms. `producer_ids` is what is left, (next, end), of the block that the controller gave; the owner
    replaces it in time. `kip_360`: a producer may go on by naming its epoch; `kip_890`: version 2 is supported.
    """

    producer_ids: tuple[int, int]
    partition_count: int = 50
    kip_360: bool = True
    kip_890: bool = True
    transaction_timeout_max: int = 900_000
    transactional_id_expiration: int = 604_800_000
    epochs: dict[int, int] = field(default_factory=dict)
    transactions: dict[str, TransactionMetadata] = field(default_factory=dict)
    retries: list[Append | SendMarkers] = field(default_factory=list)

    def init_producer_id(
        self, context: Hashable, transactional_id: str | None, timeout: int, expected: tuple[int, int] | None, now: int
    ) -> Effects:
        """Give a producer its id and epoch and fence those before it; `expected` are those it has (KIP-360)."""
        if transactional_id is None:
            return [Respond(context, Error.NONE, self._next_producer_id(), 0)]
        if transactional_id and not 0 < timeout <= self.transaction_timeout_max:
            raise KafkaError(Error.INVALID_TRANSACTION_TIMEOUT)
        metadata = self.find(transactional_id)
        if metadata is None:
            new = Transaction(self._next_producer_id(), timeout, last_update_timestamp=now)
            metadata = self.transactions[transactional_id] = TransactionMetadata(transactional_id, new)
        if metadata.pending is not None or metadata.current.state in PREPARED:
            raise KafkaError(Error.CONCURRENT_TRANSACTIONS)
        epoch = None
        if expected is not None and self.kip_360:
            if not metadata.may_continue(*expected):
                raise KafkaError(Error.PRODUCER_FENCED)
            epoch = expected[1]
        if metadata.current.state == "Ongoing":
            return self.fence(context, metadata.producer, now)
        if metadata.current.is_exhausted and epoch in (None, metadata.current.producer_epoch):
            metadata.prepare_rotation(self._next_producer_id(), timeout, epoch is not None, now)
        else:
            metadata.prepare_increment(timeout, epoch, now)
        return self._append(metadata, context)

    def add_partitions(self, context: Hashable, producer: Producer, partitions: Partitions, now: int) -> Effects:
        """Partitions join the transaction: AddPartitionsToTxn, and AddOffsetsToTxn for that of a group's offsets."""
        metadata = self._known(producer)
        # Comes first: after an overflow a producer knows its next id before the transaction is complete.
        if metadata.pending is not None or producer.producer_id == metadata.current.next_producer_id:
            raise KafkaError(Error.CONCURRENT_TRANSACTIONS)
        metadata.check(producer)
        if metadata.current.state == "Ongoing" and set(partitions) <= set(metadata.current.topic_partitions):
            return [Respond(context, Error.NONE)]
        metadata.prepare_add_partitions(partitions, now)
        return self._append(metadata, context)

    def verify_partitions(self, producer: Producer, partitions: Partitions) -> Errors:
        """Which partitions are in the transaction: asked by a leader that is to append for it (KIP-890)."""
        metadata = self._known(producer)
        metadata.check(producer)
        joined = metadata.current.topic_partitions
        return {one: Error.NONE if one in joined else Error.TRANSACTION_ABORTABLE for one in partitions}

    def end_txn(
        self, context: Hashable, producer: Producer, result: str, version: int, now: int, is_from_client: bool = True
    ) -> Effects:
        """COMMIT or ABORT by a client of a transaction version; answers who the producer is in its next transaction."""
        metadata, end = self._known(producer), (COMMIT, ABORT).index(result)
        metadata.check_end(producer, is_from_client)
        current, is_fence = metadata.current, metadata.pending_state == "PrepareEpochFence"
        if current.state == states.COMPLETED[end]:
            return [Respond(context, Error.NONE, current.producer_id, current.producer_epoch)]
        if current.state == PREPARED[end] or (metadata.pending is not None and not is_fence):
            raise KafkaError(Error.CONCURRENT_TRANSACTIONS)
        if current.state != "Ongoing":
            raise KafkaError(Error.INVALID_TXN_STATE, f"{result} of {current.state}")
        if is_fence:
            metadata.pending, metadata.has_failed_epoch_fence = None, True
            epoch = producer.producer_epoch
            metadata.current = current._replace(producer_epoch=epoch, last_producer_epoch=NO_PRODUCER_EPOCH)
        version = version if self.kip_890 else 0
        overflows = version >= states.VERSION_2 and current.is_exhausted
        next_producer_id = self._next_producer_id() if overflows else NO_PRODUCER_ID
        metadata.prepare_end(PREPARED[end], version, next_producer_id, now)
        return self._append(metadata, context)

    def fence(self, context: Hashable, producer: Producer, now: int) -> Effects:
        """Abort the ongoing transaction of a producer and fence it, unless it is fenced already."""
        metadata = self._known(producer)
        metadata.check(producer)
        fenced = producer._replace(producer_epoch=metadata.prepare_fence().producer_epoch)
        return self.end_txn(context, fenced, ABORT, 0, now, is_from_client=False)

    def on_appended(self, append: Append, error: Error, now: int) -> Effects:
        """Take over what is committed (NONE), or give it up with a coordinator's error; a completion is tried again."""
        metadata, error = self._current(append, append.key), COORDINATOR_ERRORS.get(error, error)
        if metadata is None:
            return _respond(append, Error.NOT_COORDINATOR if error is Error.NONE else error)
        if error is Error.COORDINATOR_NOT_AVAILABLE and metadata.current.state in PREPARED:
            self.retries.append(append)
            return []
        if error is not Error.NONE:
            metadata.pending = None
            return _respond(append, error)
        if append.value is None:
            del self.transactions[append.key]
            return []
        is_fence = metadata.has_failed_epoch_fence
        metadata.complete()
        markers = self._send_markers(metadata, now) if metadata.current.state in PREPARED else []
        if is_fence:
            return _respond(append, Error.CONCURRENT_TRANSACTIONS) + markers
        return _respond(append, Error.NONE, *append.value.following_producer) + markers

    def on_markers(self, markers: SendMarkers, errors: Errors, now: int) -> Effects:
        """Leaders have answered for some partitions: errors are tried again, but by a coordinator that is superseded.

        A partition that is gone counts as written (NONE), a lost answer is an error.
        """
        metadata = self._current(markers, markers.producer.transactional_id)
        if metadata is None or metadata.producer != markers.producer or metadata.current.state not in PREPARED:
            return []
        if metadata.pending is not None or not SUPERSEDED.isdisjoint(errors.values()):
            return []
        unwritten = tuple(one for one in metadata.current.topic_partitions if errors.get(one) is not Error.NONE)
        metadata.current = metadata.current._replace(topic_partitions=unwritten)
        failed = tuple(one for one in unwritten if one in errors)
        if failed:
            self.retries.append(markers._replace(topic_partitions=failed))
        return [] if unwritten else self._send_markers(metadata, now)

    def _send_markers(self, metadata: TransactionMetadata, now: int) -> Effects:
        """What a decided transaction needs: its markers, and its completion when it has no partitions (left)."""
        current = metadata.current
        if not current.topic_partitions:
            metadata.prepare_complete(now)
            return self._append(metadata)
        partition = partition_for(metadata.transactional_id, self.partition_count)
        result = (COMMIT, ABORT)[PREPARED.index(current.state)]
        return [SendMarkers(partition, self.epochs[partition], metadata.producer, result, current.topic_partitions)]

    def tick(self, now: int) -> Effects:
        """Do what time asks for: try again what failed, abort slow transactions, forget unused ids."""
        retries, self.retries = self.retries, []
        return [*retries, *self.abort_timed_out(now), *self.remove_expired(now)]

    def abort_timed_out(self, now: int) -> Effects:
        """Fence the producers of transactions that last too long, and abort these."""
        ongoing = [one for one in self.transactions.values() if one.current.state == "Ongoing" and one.pending is None]
        slow = [one for one in ongoing if one.current.start_timestamp + one.current.timeout_ms < now]
        return [effect for one in slow for effect in self.fence(None, one.producer, now)]

    def remove_expired(self, now: int) -> Effects:
        """Forget transactional ids that were not used for long."""
        effects, horizon = Effects(), now - self.transactional_id_expiration
        for one in self.transactions.values():
            is_unused = one.current.state in states.EXPIRABLE and one.current.last_update_timestamp <= horizon
            if is_unused and one.pending is None:
                one.prepare_dead()
                effects += self._append(one)
        return effects

    def begin_load(self, partition: int) -> None:
        """The broker leads a partition but has not read its log yet: clients shall wait."""
        self.unload(partition)
        self.epochs[partition] = LOADING

    def load(self, partition: int, coordinator_epoch: int, records: Iterable[Record], now: int) -> Effects:
        """Lead a partition from what its log holds, and complete what is decided there.

        The last epoch is not in the log, so a retry of InitProducerId across a failover is fenced.
        """
        self.unload(partition)
        self.epochs[partition], effects = coordinator_epoch, Effects()
        for key, value in {str(record.key): record.value for record in records}.items():
            if isinstance(value, Transaction):
                metadata = TransactionMetadata(key, value._replace(last_producer_epoch=NO_PRODUCER_EPOCH))
                self.transactions[key] = metadata
                effects += self._send_markers(metadata, now) if value.state in PREPARED else []
        return effects

    def unload(self, partition: int) -> None:
        """Forget a partition that another broker leads now."""
        self.epochs.pop(partition, None)
        self.retries = [one for one in self.retries if one.partition != partition]
        for gone in [one for one in self.transactions if partition_for(one, self.partition_count) == partition]:
            del self.transactions[gone]

    def find(self, transactional_id: str) -> TransactionMetadata | None:
        """What is known of a transactional id, also for DescribeTransactions; None if nothing."""
        if not transactional_id:
            raise KafkaError(Error.INVALID_REQUEST, "no transactional id")
        epoch = self.epochs.get(partition_for(transactional_id, self.partition_count))
        if epoch is None or epoch == LOADING:
            raise KafkaError(Error.NOT_COORDINATOR if epoch is None else Error.COORDINATOR_LOAD_IN_PROGRESS)
        return self.transactions.get(transactional_id)

    def _known(self, producer: Producer) -> TransactionMetadata:
        metadata = self.find(producer.transactional_id)
        if metadata is None:
            raise KafkaError(Error.INVALID_PRODUCER_ID_MAPPING)
        return metadata

    def _current(self, effect: Append | SendMarkers, transactional_id: str) -> TransactionMetadata | None:
        """The metadata that an effect is about, if its partition is led in the same epoch still."""
        is_led = self.epochs.get(effect.partition) == effect.coordinator_epoch
        return self.transactions.get(transactional_id) if is_led else None

    def _append(self, metadata: TransactionMetadata, context: Hashable = None) -> Effects:
        """The record of the pending transition."""
        partition = partition_for(metadata.transactional_id, self.partition_count)
        value = metadata.pending if metadata.pending_state != "Dead" else None
        return [Append(partition, self.epochs[partition], metadata.transactional_id, value, context)]

    def _next_producer_id(self) -> int:
        following, end = self.producer_ids
        if following == end:
            raise KafkaError(Error.COORDINATOR_LOAD_IN_PROGRESS, "no producer ids left")
        self.producer_ids = (following + 1, end)
        return following


def _respond(append: Append, error: Error, *producer: int) -> Effects:
    return [] if append.context is None else [Respond(append.context, error, *producer)]
