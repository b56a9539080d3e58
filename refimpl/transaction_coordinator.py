"""The transaction coordinator of a broker, for the partitions of __transaction_state that the broker leads.

Requests and outcomes go in, effects come out; nothing is done here. What a transaction becomes is first appended to the
partition's log (`Append`) and taken over when `on_appended` says that the high watermark passed it. A decided
transaction is answered, its markers are sent (`SendMarkers`), and with the last one written it is completed. Failover
is `load`, from the records of the log: what is decided there is decided, and its markers are sent once more. The
coordinator epoch is the partition's leader epoch, so that leaders can refuse the markers of a former coordinator.

The owner hands each Append and SendMarkers back with its outcome, once; a Respond has the `context` of its request.
An epoch fence bumps the epoch once, in version 2 too, where Kafka did it twice at first (KAFKA-19367).

Source: TransactionCoordinator, TransactionStateManager, TransactionMarkerChannelManager; KIP-98, KIP-360, KIP-890.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, wraps
from typing import Concatenate, NamedTuple, ParamSpec

from hwmark.refimpl import transaction_metadata as states
from hwmark.refimpl.batches import ABORT, COMMIT, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, Record, TopicPartition
from hwmark.refimpl.errors import Error, KafkaError
from hwmark.refimpl.transaction_metadata import PREPARED, Producer, TransactionMetadata, TransitMetadata

# What a failed append to the transaction log means to a client; other errors stay as they are.
COORDINATOR_ERRORS = {
    Error.UNKNOWN_TOPIC_OR_PARTITION: Error.COORDINATOR_NOT_AVAILABLE,
    Error.NOT_ENOUGH_REPLICAS: Error.COORDINATOR_NOT_AVAILABLE,
    Error.NOT_ENOUGH_REPLICAS_AFTER_APPEND: Error.COORDINATOR_NOT_AVAILABLE,
    Error.REQUEST_TIMED_OUT: Error.COORDINATOR_NOT_AVAILABLE,
    Error.NOT_LEADER_OR_FOLLOWER: Error.NOT_COORDINATOR,
}


class Append(NamedTuple):
    """Append a record (value None: a tombstone) to a partition of __transaction_state with acks=all.

    In another leader epoch the outcome is NOT_LEADER_OR_FOLLOWER. `context` is the request that waits, if one does.
    """

    partition: int
    coordinator_epoch: int
    key: str
    value: TransitMetadata | None
    context: Hashable
    is_fence: bool


class SendMarkers(NamedTuple):
    """Send WriteTxnMarkers to the leaders of the topic partitions; `result` is COMMIT or ABORT."""

    partition: int
    coordinator_epoch: int
    producer: Producer
    result: str
    topic_partitions: tuple[TopicPartition, ...]


class Respond(NamedTuple):
    """The answer to a request; `errors` are those of verified partitions."""

    context: Hashable
    error: Error
    producer_id: int = NO_PRODUCER_ID
    producer_epoch: int = NO_PRODUCER_EPOCH
    errors: tuple[tuple[TopicPartition, Error], ...] = ()


Effects = list[Append | SendMarkers | Respond]
P = ParamSpec("P")
Handler = Callable[Concatenate["TransactionCoordinator", Hashable, P], Effects]


def answers(handler: Handler[P]) -> Handler[P]:
    """A handler of requests whose refusals are answers."""

    @wraps(handler)
    def handle(self: TransactionCoordinator, context: Hashable, /, *args: P.args, **kwargs: P.kwargs) -> Effects:
        try:
            return handler(self, context, *args, **kwargs)
        except KafkaError as refusal:
            return _respond(context, refusal.error)

    return handle


def _respond(context: Hashable, error: Error, producer_id: int = -1, producer_epoch: int = -1) -> Effects:
    return [] if context is None else [Respond(context, error, producer_id, producer_epoch)]


@cache
def partition_for(transactional_id: str, partition_count: int) -> int:
    """The partition of __transaction_state that keeps a transactional id: by the absolute value of Java's hash."""
    code = 0
    for unit in memoryview(transactional_id.encode("utf-16-le")).cast("H"):
        code = (31 * code + unit) % 2**32
    return min(code, 2**32 - code) % 2**31 % partition_count


@dataclass(slots=True)
class TransactionCoordinator:
    """One broker's coordinator: of partitions with an epoch in `epochs`; the log of those `loading` is being read.

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
    loading: list[int] = field(default_factory=list)
    transactions: dict[str, TransactionMetadata] = field(default_factory=dict)
    retries: list[Append | SendMarkers] = field(default_factory=list)

    @answers
    def init_producer_id(
        self, context: Hashable, transactional_id: str | None, timeout: int, expected: tuple[int, int] | None, now: int
    ) -> Effects:
        """Give a producer its id and epoch and fence those before it; `expected` are those it has (KIP-360)."""
        if transactional_id is None:
            return _respond(context, Error.NONE, self._next_producer_id(), 0)
        if transactional_id and not 0 < timeout <= self.transaction_timeout_max:
            raise KafkaError(Error.INVALID_TRANSACTION_TIMEOUT)
        expected = expected if self.kip_360 else None
        metadata = self._find(transactional_id)
        if metadata is None:
            metadata = TransactionMetadata(transactional_id, self._next_producer_id(), timeout)
            metadata.last_update_timestamp = now
            self.transactions[transactional_id] = metadata
        if metadata.pending_state is not None or metadata.state in PREPARED:
            raise KafkaError(Error.CONCURRENT_TRANSACTIONS)
        if expected is not None and not metadata.may_continue(*expected):
            raise KafkaError(Error.PRODUCER_FENCED)
        if metadata.state == "Ongoing":
            return self._fence(context, metadata, now)
        expected_epoch = None if expected is None else expected[1]
        if metadata.is_exhausted and expected_epoch in (None, metadata.producer_epoch):
            transit = metadata.prepare_rotation(self._next_producer_id(), timeout, expected is not None, now)
        else:
            transit = metadata.prepare_increment(timeout, expected_epoch, now)
        return self._append(metadata, transit, context)

    @answers
    def add_partitions(
        self, context: Hashable, producer: Producer, partitions: Iterable[TopicPartition], now: int
    ) -> Effects:
        """Partitions join the transaction: AddPartitionsToTxn, and AddOffsetsToTxn for that of a group's offsets."""
        metadata = self._find_known(producer)
        # Comes first: after an overflow a producer knows its next id before the transaction is complete.
        if metadata.pending_state is not None or producer.producer_id == metadata.next_producer_id:
            raise KafkaError(Error.CONCURRENT_TRANSACTIONS)
        metadata.check(producer)
        if metadata.state == "Ongoing" and set(partitions) <= set(metadata.topic_partitions):
            return _respond(context, Error.NONE)
        return self._append(metadata, metadata.prepare_add_partitions(partitions, now), context)

    @answers
    def verify_partitions(self, context: Hashable, producer: Producer, partitions: Iterable[TopicPartition]) -> Effects:
        """Tell a leader that is to append for a transaction which partitions are in it (KIP-890)."""
        metadata = self._find_known(producer)
        metadata.check(producer)
        joined = metadata.topic_partitions
        errors = tuple((one, Error.NONE if one in joined else Error.TRANSACTION_ABORTABLE) for one in partitions)
        return [Respond(context, Error.NONE, errors=errors)]

    @answers
    def end_txn(self, context: Hashable, producer: Producer, result: str, version: int | None, now: int) -> Effects:
        """COMMIT or ABORT by a client of a transaction version; answers who the producer is in its next transaction.

        Version None is the coordinator's own abort, of a transaction whose producer it is about to fence.
        """
        metadata, end = self._find_known(producer), (COMMIT, ABORT).index(result)
        metadata.check_end(producer, is_from_client=version is not None)
        is_fence = metadata.pending_state == "PrepareEpochFence"
        if metadata.state == states.COMPLETED[end]:
            return _respond(context, Error.NONE, metadata.producer_id, metadata.producer_epoch)
        if metadata.state == PREPARED[end] or (metadata.pending_state is not None and not is_fence):
            raise KafkaError(Error.CONCURRENT_TRANSACTIONS)
        if metadata.state != "Ongoing":
            raise KafkaError(Error.INVALID_TXN_STATE, f"{result} of {metadata.state}")
        if is_fence:
            metadata.pending_state = None
            metadata.producer_epoch, metadata.last_producer_epoch = producer.producer_epoch, NO_PRODUCER_EPOCH
        version = version if version is not None and self.kip_890 else 0
        overflows = version >= states.VERSION_2 and metadata.is_exhausted
        next_producer_id = self._next_producer_id() if overflows else NO_PRODUCER_ID
        return self._append(
            metadata, metadata.prepare_end(PREPARED[end], version, next_producer_id, now), context, is_fence
        )

    def describe(self, transactional_id: str) -> TransactionMetadata:
        """What is known of a transactional id (DescribeTransactions); LookupError if nothing, or if it expires."""
        metadata = self._find(transactional_id)
        if metadata is None or metadata.state == "Dead":
            raise LookupError(f"there is no transactional id {transactional_id}")
        return metadata

    def on_appended(self, append: Append, error: Error, now: int) -> Effects:
        """A record is committed (NONE), or appending it has failed."""
        return self.finish(append, COORDINATOR_ERRORS.get(error, error), now)

    def finish(self, append: Append, error: Error, now: int) -> Effects:
        """Take a transition over, or give it up with a coordinator's error; a completion is tried again instead."""
        metadata = self._current(append, append.key)
        if metadata is None:
            return _respond(append.context, Error.NOT_COORDINATOR if error is Error.NONE else error)
        if error is Error.COORDINATOR_NOT_AVAILABLE and metadata.state in PREPARED:
            self.retries.append(append)
            return []
        if error is not Error.NONE:
            metadata.pending_state = None
            metadata.has_failed_epoch_fence |= append.is_fence
            return _respond(append.context, error)
        if append.value is None:
            del self.transactions[append.key]
            return []
        metadata.complete(append.value)
        markers = self._send_markers(metadata, now) if metadata.state in PREPARED else []
        if append.is_fence:
            return _respond(append.context, Error.CONCURRENT_TRANSACTIONS) + markers
        return _respond(append.context, Error.NONE, *metadata.following_producer) + markers

    def on_markers(self, markers: SendMarkers, errors: Mapping[TopicPartition, Error], now: int) -> Effects:
        """Leaders have answered for some partitions; one that is gone counts as written, a lost answer is an error.

        INVALID_PRODUCER_EPOCH and TRANSACTION_COORDINATOR_FENCED end the sending, for there is a newer producer or
        coordinator; all other errors are tried again.
        """
        metadata = self._current(markers, markers.producer.transactional_id)
        if metadata is None or metadata.producer != markers.producer or metadata.state not in PREPARED:
            return []
        if {Error.INVALID_PRODUCER_EPOCH, Error.TRANSACTION_COORDINATOR_FENCED} & set(errors.values()):
            return []
        unwritten = tuple(one for one in metadata.topic_partitions if errors.get(one) is not Error.NONE)
        metadata.topic_partitions = unwritten
        failed = tuple(one for one in unwritten if one in errors)
        self.retries += [markers._replace(topic_partitions=failed)] if failed else []
        return [] if unwritten or metadata.pending_state else self._append(metadata, metadata.prepare_complete(now))

    def _send_markers(self, metadata: TransactionMetadata, now: int) -> Effects:
        """What a decided transaction needs: its markers, or its completion if it has no partitions."""
        if not metadata.topic_partitions:
            return self._append(metadata, metadata.prepare_complete(now))
        partition = partition_for(metadata.transactional_id, self.partition_count)
        result = (COMMIT, ABORT)[PREPARED.index(metadata.state)]
        return [SendMarkers(partition, self.epochs[partition], metadata.producer, result, metadata.topic_partitions)]

    def tick(self, now: int) -> Effects:
        """Do what time asks for: try again what failed, abort slow transactions, forget unused ids."""
        retries, self.retries = self.retries, []
        return [*retries, *self.abort_timed_out(now), *self.remove_expired(now)]

    def abort_timed_out(self, now: int) -> Effects:
        """Fence the producers of transactions that last too long, and abort these."""
        slow = (one for one in self._idle("Ongoing") if one.start_timestamp + one.timeout_ms < now)
        return [effect for metadata in slow for effect in self.abort(None, metadata.producer, now)]

    @answers
    def abort(self, context: Hashable, producer: Producer, now: int) -> Effects:
        """Abort a producer's ongoing transaction, unless the producer is fenced already."""
        metadata = self._find_known(producer)
        metadata.check(producer)
        return self._fence(context, metadata, now)

    def _fence(self, context: Hashable, metadata: TransactionMetadata, now: int) -> Effects:
        fenced = metadata.prepare_fence()
        return self.end_txn(context, metadata.producer._replace(producer_epoch=fenced.producer_epoch), ABORT, None, now)

    def remove_expired(self, now: int) -> Effects:
        """Forget transactional ids that were not used for long."""
        horizon, effects = now - self.transactional_id_expiration, Effects()
        for metadata in self._idle(*states.EXPIRABLE):
            if metadata.last_update_timestamp <= horizon:
                metadata.prepare_dead()
                effects += self._append(metadata, None)
        return effects

    def _idle(self, *these: states.State) -> list[TransactionMetadata]:
        """The transactional ids in some states, with no transition on its way."""
        return [one for one in self.transactions.values() if one.state in these and one.pending_state is None]

    def begin_load(self, partition: int) -> None:
        """The broker leads a partition but has not read its log yet: clients shall wait."""
        self.unload(partition)
        self.loading.append(partition)

    def load(self, partition: int, coordinator_epoch: int, records: Iterable[Record], now: int) -> Effects:
        """Lead a partition from what its log holds, and complete what is decided there.

        The last epoch is not in the log, so a retry of InitProducerId across a failover is fenced.
        """
        self.unload(partition)
        self.epochs[partition] = coordinator_epoch
        latest = {str(record.key): record.value for record in records}
        logged = {key: value for key, value in latest.items() if isinstance(value, TransitMetadata)}
        effects = Effects()
        for key, value in logged.items():
            metadata = TransactionMetadata(key, **value._replace(last_producer_epoch=NO_PRODUCER_EPOCH)._asdict())
            self.transactions[key] = metadata
            effects += self._send_markers(metadata, now) if metadata.state in PREPARED else []
        return effects

    def unload(self, partition: int) -> None:
        """Forget a partition that another broker leads now."""
        self.epochs.pop(partition, None)
        self.loading = [one for one in self.loading if one != partition]
        self.retries = [one for one in self.retries if one.partition != partition]
        for gone in [one for one in self.transactions if partition_for(one, self.partition_count) == partition]:
            del self.transactions[gone]

    def _append(
        self,
        metadata: TransactionMetadata,
        value: TransitMetadata | None,
        context: Hashable = None,
        fence: bool = False,
    ) -> Effects:
        partition = partition_for(metadata.transactional_id, self.partition_count)
        return [Append(partition, self.epochs[partition], metadata.transactional_id, value, context, fence)]

    def _next_producer_id(self) -> int:
        following, end = self.producer_ids
        if following == end:
            raise KafkaError(Error.COORDINATOR_LOAD_IN_PROGRESS, "no producer ids left")
        self.producer_ids = (following + 1, end)
        return following

    def _current(self, effect: Append | SendMarkers, transactional_id: str) -> TransactionMetadata | None:
        """The metadata that an effect is about, if its partition is led in the same epoch still."""
        is_led = self.epochs.get(effect.partition) == effect.coordinator_epoch
        return self.transactions.get(transactional_id) if is_led else None

    def _find(self, transactional_id: str) -> TransactionMetadata | None:
        if not transactional_id:
            raise KafkaError(Error.INVALID_REQUEST, "no transactional id")
        partition = partition_for(transactional_id, self.partition_count)
        if partition in self.loading:
            raise KafkaError(Error.COORDINATOR_LOAD_IN_PROGRESS)
        if partition not in self.epochs:
            raise KafkaError(Error.NOT_COORDINATOR)
        return self.transactions.get(transactional_id)

    def _find_known(self, producer: Producer) -> TransactionMetadata:
        metadata = self._find(producer.transactional_id)
        if metadata is None:
            raise KafkaError(Error.INVALID_PRODUCER_ID_MAPPING)
        return metadata
