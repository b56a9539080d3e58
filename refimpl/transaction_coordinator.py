"""The transaction coordinator of a broker, for the partitions of __transaction_state that the broker leads.

Requests and outcomes go in, effects come out; nothing is done here. What a transaction becomes is first appended to the
partition's log (`Append`) and taken over when `on_appended` says that the high watermark passed it. A decided
transaction is answered, its markers are sent (`SendMarkers`), and with the last one written it is completed. Failover
is `load`, from the records of the log: what is decided there is decided, and its markers are sent once more. The
coordinator epoch is the partition's leader epoch, so that leaders can refuse the markers of a former coordinator.

The owner hands each Append and SendMarkers back with its outcome, once; a Respond has the producer id and epoch, or for
a partition verified an error, as its body, and a request refused at once raises KafkaError. An epoch fence bumps the
epoch once, in version 2 too, where Kafka did it twice at first (KAFKA-19367).

Source: TransactionCoordinator, TransactionStateManager, TransactionMarkerChannelManager; KIP-98, KIP-360, KIP-890.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from hwmark.refimpl import transaction_metadata as states
from hwmark.refimpl.batches import ABORT, COMMIT, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, Batch, TopicPartition
from hwmark.refimpl.config import OFFSETS_TOPIC, TRANSACTIONS_TOPIC
from hwmark.refimpl.coordinator import APPEND_ERRORS, Append, Coordinator, Respond, partition_for
from hwmark.refimpl.errors import Error, KafkaError
from hwmark.refimpl.transaction_metadata import PREPARED, Producer, Transaction, TransactionMetadata

# What leaders answer to markers if there is a newer producer or coordinator.
SUPERSEDED = frozenset((Error.INVALID_PRODUCER_EPOCH, Error.TRANSACTION_COORDINATOR_FENCED))


class SendMarkers(NamedTuple):
    """Effect: send WriteTxnMarkers to the leader of the topic partitions; `result` is COMMIT or ABORT."""

    producer: Producer
    coordinator_epoch: int
    result: str
    topic_partitions: tuple[TopicPartition, ...]


Effects = list[Append | SendMarkers | Respond]
Errors = Any  # by partition
Partitions = Collection[TopicPartition]


@dataclass(slots=True)
class TransactionCoordinator(Coordinator):
    """One broker's coordinator; `producer_ids` is what is left, (next, end), of the block that the controller gave.

    `needs_producer_ids`: the owner is to ask for the next block, and to give it.
    """

    topic: ClassVar[str] = TRANSACTIONS_TOPIC
    producer_ids: tuple[int, int] = (0, 0)
    needs_producer_ids: bool = field(default=False, init=False)
    transactions: dict[str, TransactionMetadata] = field(default_factory=dict, init=False)
    retries: list[tuple[int, Append | SendMarkers]] = field(default_factory=list, init=False)
    check_at: int = field(default=0, init=False)

    def init_producer_id(
        self, to: Hashable, now: int, transactional_id: str | None, timeout: int, expected: tuple[int, int] | None
    ) -> Effects:
        """Give a producer its id and epoch and fence those before it; `expected` are those it has (KIP-360)."""
        if transactional_id is None:
            return [Respond(to, Error.NONE, (self._next_producer_id(), 0))]
        if transactional_id and not 0 < timeout <= self.config.transaction_timeout_max:
            raise KafkaError(Error.INVALID_TRANSACTION_TIMEOUT)
        metadata = self.find(transactional_id)
        if metadata is None:
            new = Transaction(self._next_producer_id(), timeout, last_update_timestamp=now)
            metadata = self.transactions[transactional_id] = TransactionMetadata(transactional_id, new)
        if metadata.pending is not None or metadata.current.state in PREPARED:
            raise KafkaError(Error.CONCURRENT_TRANSACTIONS)
        expected = expected if self.config.kip_360 else None
        if expected and not metadata.may_continue(*expected):
            raise KafkaError(Error.PRODUCER_FENCED)
        epoch = expected[1] if expected else None
        if metadata.current.state == "Ongoing":
            return self.fence(to, now, metadata.producer)
        if metadata.current.is_exhausted and epoch in (None, metadata.current.producer_epoch):
            metadata.prepare_rotation(self._next_producer_id(), timeout, epoch is not None, now)
        else:
            metadata.prepare_increment(timeout, epoch, now)
        return self._append(metadata, to)

    def add_partitions(
        self, to: Hashable, now: int, producer: Producer, partitions: Partitions, verify_only: bool = False
    ) -> Effects:
        """Partitions join the transaction, or a leader asks whether they have."""
        if verify_only:
            return [Respond(to, Error.NONE, self.verify_partitions(producer, partitions))]
        metadata = self._known(producer)
        # Comes first: after an overflow a producer knows its next id before the transaction is complete.
        if metadata.pending is not None or producer.producer_id == metadata.current.next_producer_id:
            raise KafkaError(Error.CONCURRENT_TRANSACTIONS)
        metadata.check(producer)
        if metadata.current.state == "Ongoing" and set(partitions) <= set(metadata.current.topic_partitions):
            return [Respond(to)]
        metadata.prepare_add_partitions(partitions, now)
        return self._append(metadata, to)

    def add_offsets(self, to: Hashable, now: int, producer: Producer, group_id: str) -> Effects:
        """The partition that keeps a group's offsets joins the transaction."""
        partition = partition_for(group_id, self.config.partition_count(OFFSETS_TOPIC))
        return self.add_partitions(to, now, producer, ((OFFSETS_TOPIC, partition),))

    def verify_partitions(self, producer: Producer, partitions: Partitions) -> Errors:
        """Which partitions are in the transaction: asked by a leader that is to append for it (KIP-890)."""
        metadata = self._known(producer)
        metadata.check(producer)
        joined = metadata.current.topic_partitions
        return {one: Error.NONE if one in joined else Error.TRANSACTION_ABORTABLE for one in partitions}

    def end_txn(self, to: Hashable, now: int, producer: Producer, result: str, version: int) -> Effects:
        """COMMIT or ABORT by a client of a transaction version; answers who the producer is in its next transaction."""
        metadata, end = self._known(producer), (COMMIT, ABORT).index(result)
        metadata.check_end(producer)
        current, version = metadata.current, version if self.config.kip_890 else 0
        if current.state == states.COMPLETED[end]:
            return [Respond(to, Error.NONE, (current.producer_id, current.producer_epoch))]
        if current.state == PREPARED[end] or metadata.pending is not None:
            raise KafkaError(Error.CONCURRENT_TRANSACTIONS)
        if current.state != "Ongoing":
            raise KafkaError(Error.INVALID_TXN_STATE, f"{result} of {current.state}")
        overflows = version >= states.VERSION_2 and current.is_exhausted
        next_producer_id = self._next_producer_id() if overflows else NO_PRODUCER_ID
        metadata.prepare_end(PREPARED[end], version, next_producer_id, now)
        return self._append(metadata, to)

    def fence(self, to: Hashable, now: int, producer: Producer) -> Effects:
        """Abort the ongoing transaction of a producer and fence it, unless it is fenced already."""
        metadata = self._known(producer)
        metadata.check(producer)
        metadata.prepare_fence()
        metadata.prepare_end("PrepareAbort", 0, NO_PRODUCER_ID, now)
        return self._append(metadata, to)

    def on_appended(self, append: Append, error: Error, base_offset: int, now: int) -> Effects:
        """Take over what is committed (NONE), or give it up with a coordinator's error; a completion is tried again."""
        ((transactional_id, value),) = append.records
        metadata, error = self.current(transactional_id, append.leader_epoch), APPEND_ERRORS.get(error, error)
        if metadata is None:
            return [*append.answer(Error.NOT_COORDINATOR)]
        if error is Error.COORDINATOR_NOT_AVAILABLE and metadata.current.state in PREPARED:
            self.retries.append((now + self.config.retry_backoff, append))
            return []
        if error is not Error.NONE:
            metadata.pending = None
            return [*append.answer(error)]
        is_fence = metadata.has_failed_epoch_fence
        metadata.complete()
        concurrent = append.answer(Error.CONCURRENT_TRANSACTIONS)
        answer = concurrent if is_fence else append.answer(Error.NONE, value.following_producer)
        return [*answer, *self._send_markers(metadata, now)]

    def on_markers(self, markers: SendMarkers, errors: Errors, now: int) -> Effects:
        """Leaders have answered for some partitions: errors are tried again, but by a coordinator that is superseded.

        A partition that is gone counts as written (NONE), a lost answer is an error.
        """
        metadata = self.current(markers.producer.transactional_id, markers.coordinator_epoch)
        if metadata is None or metadata.producer != markers.producer or metadata.current.state not in PREPARED:
            return []
        if metadata.pending is not None or not SUPERSEDED.isdisjoint(errors.values()):
            return []
        unwritten = tuple(one for one in metadata.current.topic_partitions if errors.get(one) is not Error.NONE)
        metadata.current = metadata.current._replace(topic_partitions=unwritten)
        failed = tuple(one for one in unwritten if one in errors)
        if failed:
            self.retries.append((now + self.config.retry_backoff, markers._replace(topic_partitions=failed)))
        return [] if unwritten else self._send_markers(metadata, now)

    def _send_markers(self, metadata: TransactionMetadata, now: int) -> Effects:
        """What a decided transaction needs: its markers, and its completion when it has no partitions (left)."""
        current = metadata.current
        if current.state not in PREPARED:
            return []
        if not current.topic_partitions:
            metadata.prepare_complete(now)
            return self._append(metadata)
        epoch = self.epochs[self.partition(metadata.transactional_id)]
        result = (COMMIT, ABORT)[PREPARED.index(current.state)]
        return [SendMarkers(metadata.producer, epoch, result, current.topic_partitions)]

    def next_deadline(self) -> int | None:
        """When to tick: something is tried again, or a transaction may last too long."""
        return min([time for time, _ in self.retries] + [self.check_at] * self.has_ongoing(), default=None)

    def tick(self, now: int) -> Effects:
        """Do what time asks for: try again what failed, and abort slow transactions."""
        due = [effect for time, effect in self.retries if time <= now and effect[1] in self.epochs.values()]
        self.retries = [retry for retry in self.retries if retry[0] > now]
        if self.check_at > now:
            return [*due]
        self.check_at = now + self.config.transaction_check_interval
        return [*due, *self.abort_timed_out(now)]

    def abort_timed_out(self, now: int) -> Effects:
        """Fence the producers of transactions that last too long, and abort these."""
        free = [one for one in self.transactions.values() if one.current.state == "Ongoing" and one.pending is None]
        slow = [one for one in free if one.current.start_timestamp + one.current.timeout_ms < now]
        return [effect for one in slow for effect in self.fence(None, now, one.producer)]

    def has_ongoing(self) -> bool:
        """Whether time may be needed to end a transaction."""
        return any(one.current.state == "Ongoing" for one in self.transactions.values())

    def load(self, partition: int, batches: Iterable[Batch], leader_epoch: int, now: int) -> Effects:
        """Lead a partition from what its log holds, and complete what is decided there.

        The last epoch is not in the log, so a retry of InitProducerId across a failover is fenced.
        """
        self.unload(partition)
        self.epochs[partition], effects = leader_epoch, Effects()
        records: list[Any] = [record for batch in batches for record in batch.records]
        for key, value in {str(record.key): record.value for record in records}.items():
            metadata = TransactionMetadata(key, value._replace(last_producer_epoch=NO_PRODUCER_EPOCH))
            self.transactions[key] = metadata
            effects += self._send_markers(metadata, now)
        return effects

    def unload(self, partition: int) -> Effects:
        """Forget a partition that another broker leads now, or this one in another epoch; outcomes to come say so."""
        self.epochs.pop(partition, None)
        self.transactions = {id: one for id, one in self.transactions.items() if self.partition(id) != partition}
        return []

    def find(self, transactional_id: str) -> TransactionMetadata | None:
        """What is known of a transactional id, also for DescribeTransactions; None if nothing."""
        if not transactional_id:
            raise KafkaError(Error.INVALID_REQUEST, "no transactional id")
        self.check_coordinator(transactional_id)
        return self.transactions.get(transactional_id)

    def current(self, transactional_id: str, coordinator_epoch: int) -> TransactionMetadata | None:
        """What an effect of that epoch was about, unless the partition is led no longer, or in another epoch."""
        is_led = self.epochs.get(self.partition(transactional_id)) == coordinator_epoch
        return self.transactions.get(transactional_id) if is_led else None

    def _known(self, producer: Producer) -> TransactionMetadata:
        metadata = self.find(producer.transactional_id)
        if metadata is None:
            raise KafkaError(Error.INVALID_PRODUCER_ID_MAPPING)
        return metadata

    def _append(self, metadata: TransactionMetadata, to: Hashable = None) -> Effects:
        """The record of the pending transition."""
        return [self.append(metadata.transactional_id, ((metadata.transactional_id, metadata.pending),), to)]

    def give_producer_ids(self, block: tuple[int, int]) -> None:
        """Producer ids from the controller: (first, end)."""
        self.producer_ids, self.needs_producer_ids = block, False

    def _next_producer_id(self) -> int:
        following, end = self.producer_ids
        self.needs_producer_ids |= following == end
        if following == end:
            raise KafkaError(Error.COORDINATOR_LOAD_IN_PROGRESS, "no producer ids left")
        self.producer_ids = (following + 1, end)
        return following
