"""A transactional producer, and how each of its transactions ended.

Only the answer to a commit says that a transaction is committed. It certainly is not if nobody asked for the commit,
or if an abort after it was acknowledged. A commit that is not answered is asked for again, as long as a transaction may
live; then its outcome is unknown, and a new producer with the same transactional id ends it one way or the other.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition
from hwmark.checkers.record.clients import name_of, served
from hwmark.checkers.record.outcomes import FAIL, INFO, OK
from hwmark.checkers.record.run import Run, pause
from hwmark.checkers.record.workload import Key, Transaction

CALL = 2.0  # s for a producer to get its epoch; it is tried again
ABORT = 4.0  # s for an abort at least
AGAIN = 0.2  # s


class GroupOffsets(NamedTuple):
    """What a transaction commits for a consumer group."""

    positions: list[TopicPartition]
    metadata: Any


class Ended(NamedTuple):
    """How a transaction ended; `offsets` are those of the values that were acknowledged."""

    outcome: str
    error: str | None
    offsets: dict[int, int | None]


class Transactor:
    """A producer with a transactional id; it is replaced when it is of no more use."""

    def __init__(self, run: Run, name: str) -> None:
        self.context, self.name = run, name
        self.id = f"{run.workload.prefix}-{name}"
        self.producer: Producer | None = None
        self.deadline = 0.0

    def is_ready(self) -> bool:
        """Give it an epoch, if need be; False if the workload ended first."""
        while self.producer is None and not self.context.is_over:
            try:
                self.begin_anew(CALL)
            except KafkaException as error:
                self.context.take(self.name, error.args[0])
                pause(self.context, AGAIN)
        return self.producer is not None

    def begin_anew(self, timeout: float) -> None:
        """A new producer, which ends what the one before has left open. KafkaException if the cluster does not."""
        clients = self.context.clients._replace(on_error=lambda error: self.context.take(self.name, error))
        producer = clients.transactional_producer(self.context.workload, self.id)
        producer.init_transactions(timeout)
        self.producer = producer

    def take(self, transaction: Transaction, group: GroupOffsets | None = None) -> Ended:
        """Do a transaction."""
        assert self.producer is not None
        offsets: dict[int, int | None] = {}
        self.deadline = time.monotonic() + self.context.workload.transaction_timeout_ms / 1000
        try:
            self._prepare(self.producer, transaction, group, offsets)
        except (KafkaException, BufferError) as error:
            return Ended(FAIL, self._abort(error), offsets)
        if transaction.abort:
            return Ended(FAIL, self._abort(None), offsets)
        return self._commit(self.producer, offsets)

    def _prepare(
        self, producer: Producer, transaction: Transaction, group: GroupOffsets | None, offsets: dict[int, int | None]
    ) -> None:
        """Everything before the end."""

        def note(error: KafkaError | None, message: Any) -> None:
            if error is None:
                offset = message.offset()
                offsets[int(message.value())] = offset if offset is not None and offset >= 0 else None

        producer.begin_transaction()
        for (topic, partition), value in transaction.sends:
            content = b"%d" % value
            producer.produce(topic, content, key=content, partition=partition, on_delivery=note)
        if served(producer.flush, self._rest()):
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        if group is not None:
            # One call with all the time there is: one that follows a call that timed out may never return.
            served(producer.send_offsets_to_transaction, group.positions, group.metadata, self._rest())

    def _rest(self) -> float:
        """Seconds that are left."""
        return max(0.1, self.deadline - time.monotonic())

    def _insist(self, call: Any) -> None:
        """Call, and call again as long as a transaction may live while the error is one that may pass."""
        while True:
            try:
                served(call)
                return
            except KafkaException as error:
                inner = error.args[0]
                if not inner.retriable() or inner.txn_requires_abort() or time.monotonic() > self.deadline:
                    raise
                time.sleep(AGAIN)

    def _commit(self, producer: Producer, offsets: dict[int, int | None]) -> Ended:
        try:
            self._insist(lambda: producer.commit_transaction(self._rest()))
            return Ended(OK, None, offsets)
        except KafkaException as error:
            inner, name = error.args[0], name_of(error)
            if inner.txn_requires_abort() and not inner.fatal():
                self._abort(error)
                return Ended(INFO if self.producer is None else FAIL, name, offsets)
            self._drop(error)
            return Ended(INFO, name, offsets)

    def _abort(self, cause: KafkaException | BufferError | None) -> str | None:
        """Abort; if that is impossible, the producer is dropped, and whoever comes next aborts. The first error."""
        inner = cause.args[0] if isinstance(cause, KafkaException) else None
        name = name_of(cause) if isinstance(cause, KafkaException) else "_QUEUE_FULL" if cause else None
        producer = self.producer
        if producer is None or (inner is not None and inner.fatal()):
            self._drop(cause)
            return name
        self.deadline = max(self.deadline, time.monotonic() + ABORT)
        try:
            self._insist(lambda: producer.abort_transaction(self._rest()))
        except KafkaException as error:
            self._drop(error)
            return name or name_of(error)
        if inner is not None:
            self.context.take(self.name, inner)
        return name

    def _drop(self, cause: KafkaException | BufferError | None) -> None:
        """Close the producer; it is of no more use."""
        if isinstance(cause, KafkaException):
            self.context.take(self.name, cause.args[0])
        self.producer = None


def sends_of(transaction: Transaction, offsets: dict[int, int | None] | None = None) -> list[Any]:
    """Micro-operations; what was acknowledged has its offset, null if that is unknown."""
    known = offsets or {}
    return [["send", key.name, [known[v], v] if v in known else v] for key, v in transaction.sends]


class TransactionalProducer:
    """A client that does one transaction after the other; `run` is a thread's work."""

    def __init__(self, run: Run, number: int) -> None:
        self.context, self.transactor = run, Transactor(run, f"transactional-{number}")
        self.transactions = run.workload.transactions(run.workload.producers + number)
        self.process = run.writer.process()

    def run(self) -> None:
        """Do transactions at the workload's rate until that is over."""
        run, done = self.context, 0
        rate = run.workload.transaction_rate / run.workload.transactional
        while not run.is_over and self.transactor.is_ready() and not run.is_over:
            self.take(next(self.transactions))
            done += 1
            pause(run, done / rate - run.elapsed)

    def take(self, transaction: Transaction) -> None:
        """Do one, and record it."""
        writer, abort = self.context.writer, {"abort": True} if transaction.abort else {}
        writer.invoke(self.process, "txn", sends_of(transaction), **abort)
        ended = self.transactor.take(transaction)
        more = {"error": ended.error} if ended.error else {}
        writer.complete(self.process, ended.outcome, "txn", sends_of(transaction, ended.offsets), **more)
        if ended.outcome == OK:
            writer.acknowledge(len(transaction.sends))
        if ended.outcome == INFO:
            self.process = writer.process()


def fence(run: Run, names: Sequence[str], deadline: float) -> None:
    """End what transactions of these names are still open, by taking over their ids; those left time out."""
    for name in names:
        transactor = Transactor(run, name)
        while transactor.producer is None and time.monotonic() < deadline:
            try:
                transactor.begin_anew(CALL)
            except KafkaException:
                time.sleep(AGAIN)


def names_of(run: Run) -> list[str]:
    """The names of all that have a transactional id."""
    workload = run.workload
    kinds = ("transactional", workload.transactional), ("transformer", workload.transformers)
    return [f"{kind}-{number}" for kind, count in kinds for number in range(count)]


def partition_of(key: Key, offset: int) -> TopicPartition:
    """A position."""
    return TopicPartition(key.topic, key.partition, offset)
