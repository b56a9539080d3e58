"""What applications do with their clients, as scripts that record what they did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from hwmark.checkers.simulation.cluster import Restart
from hwmark.checkers.simulation.recorder import Record, Recorder, key_of
from hwmark.checkers.simulation.stage import Ask, Script, Stage
from hwmark.checkers.simulation.values import copy_of
from hwmark.refimpl.batches import TopicPartition
from hwmark.refimpl.consumer import Poll, PollResult, Seek
from hwmark.refimpl.errors import Error
from hwmark.refimpl.group_coordinator import OffsetAndMetadata
from hwmark.refimpl.machine import Address
from hwmark.refimpl.producer import (
    AbortTransaction,
    BeginTransaction,
    CommitTransaction,
    InitTransactions,
    Send,
    SendOffsets,
)

Outgoing = tuple[TopicPartition, Any]  # where to, and the value


@dataclass(eq=False)
class Transaction:
    """A transaction that is done call by call, by one incarnation of its producer.

    It is "new" until its producer has an epoch, then "open", and at last "over". What it sends is written into the
    record of its invocation when it ends: it was not known before.
    """

    producer: Address
    state: str = "new"
    invoked: Record = field(default_factory=dict)
    records: list[Outgoing] = field(default_factory=list)
    responses: list[Any] = field(default_factory=list)

    def has_begun(self) -> Script:
        """Wait until it is clear whether it begins."""
        while self.state == "new":
            yield 5


class Applications:
    """The users of a cluster's clients; values are drawn from one counter, so that none is sent twice.

    `origins` says which input (partition, offset) a value was made of; `closing` are the values of the closing reads.
    """

    def __init__(self, stage: Stage, recorder: Recorder) -> None:
        self.stage, self.recorder = stage, recorder
        self.values = count(1)
        self.origins: dict[int, tuple[TopicPartition, int]] = {}
        self.closing: dict[str, list[Any]] = {}

    def send(self, producer: Address, user: str, partition: TopicPartition, *, key: Any = None) -> Script:
        """Send a record to a partition, or to that of its key; a producer's users send several at a time."""
        return self._record_send(producer, user, (partition, next(self.values)), key, is_free=key is not None)

    def send_sticky(self, producer: Address, user: str, partition: TopicPartition) -> Script:
        """Send a record wherever the producer likes; to this partition if it does not know any yet."""
        return self._record_send(producer, user, (partition, next(self.values)), None, is_free=True)

    def _record_send(self, producer: Address, user: str, record: Outgoing, key: Any, *, is_free: bool) -> Script:
        partition, value = record
        send = Send(partition[0], key, value, partition[1])
        foreseen = self._foresee(producer, send._replace(partition=None)) if is_free else None
        if foreseen is not None:
            record, send = (foreseen, value), send._replace(partition=None)
        self._invoke(user, "send", _sends([record]))
        response = yield Ask(producer, send)
        outcome = "info" if response is None or response.value is True else "fail"
        outcome = "ok" if response is not None and response.error is Error.NONE else outcome
        self._complete(user, outcome, "send", _sends([record], [response]))

    def _foresee(self, producer: Address, send: Send) -> TopicPartition | None:
        """The partition that the producer is about to choose, as a copy of it tells; None if there is no producer."""
        machine: Any = self.stage.schedule.cluster.machines.get(producer)
        return None if machine is None else (send.topic, copy_of(machine)._partition(send))

    def transaction(self, producer: Address, partitions: Sequence[TopicPartition], *, commits: bool) -> Script:
        """A transaction that sends a record to each partition."""
        if not (yield from self._initialize(producer)):
            return
        records = [(partition, next(self.values)) for partition in partitions]
        self._invoke(producer, "txn", _sends(records), **({} if commits else {"abort": True}))
        yield from self._transact(producer, records, [], commits, [])

    def begin(self, transaction: Transaction) -> Script:
        """Begin a transaction, once its producer has an epoch; it is to be ended by `end`, or `lose` if that dies."""
        producer = transaction.producer
        is_ready = yield from self._initialize(producer)
        if is_ready and transaction.state == "new":
            transaction.state, transaction.invoked = "open", self._invoke(producer, "txn", [])
            yield Ask(producer, BeginTransaction())
        else:
            transaction.state = "over"

    def send_in(self, transaction: Transaction, partition: TopicPartition) -> Script:
        """Send a record as part of a transaction."""
        yield from transaction.has_begun()
        if transaction.state != "open":
            return
        record, place = (partition, next(self.values)), len(transaction.records)
        transaction.records.append(record)
        transaction.responses.append(None)
        transaction.responses[place] = yield Ask(transaction.producer, self._send(record))

    def send_offsets_in(self, transaction: Transaction, offers: SendOffsets) -> Script:
        """Send offsets as part of a transaction; no history knows of them."""
        yield from transaction.has_begun()
        if transaction.state == "open":
            yield Ask(transaction.producer, offers)

    def end(self, transaction: Transaction, *, commits: bool) -> Script:
        """Commit or abort a transaction."""
        yield from transaction.has_begun()
        if transaction.state != "open":
            return
        transaction.state, producer = "over", transaction.producer
        if not commits:
            transaction.invoked["abort"] = True
        ended = yield Ask(producer, CommitTransaction() if commits else AbortTransaction())
        outcome = yield from self._outcome(producer, ended, commits)
        self._complete_transaction(transaction, outcome)

    def lose(self, transaction: Transaction) -> None:
        """The producer died before it ended the transaction."""
        if transaction.state == "open":
            self._complete_transaction(transaction, "info")
        transaction.state = "over"

    def _complete_transaction(self, transaction: Transaction, outcome: str) -> None:
        transaction.invoked["value"] = _sends(transaction.records)
        self._complete(transaction.producer, outcome, "txn", _sends(transaction.records, transaction.responses))

    def call(self, client: Address, operation: Any) -> Script:
        """A call that no history knows of."""
        yield Ask(client, operation)

    def transform(
        self, consumer: Address, producer: Address, output: Sequence[TopicPartition], *, timeout: int, commits: bool
    ) -> Script:
        """Consume, transform, produce: the records of one Poll, their results and their offsets in one transaction.

        After an abort they are read again; if nobody knows how it ended, a new consumer goes on where the group is.
        """
        response = yield Ask(consumer, Poll(timeout))
        if response is None or response.error is not Error.NONE or not response.value.records:
            return
        polled = response.value.records
        positions: dict[TopicPartition, int] = {}
        for partition, offset, _, _ in polled:
            positions[partition] = offset + 1
        if (yield from self._initialize(producer)):
            records = []
            for i, (partition, offset, _, _) in enumerate(polled):
                records.append((output[i % len(output)], next(self.values)))
                self.origins[records[-1][1]] = partition, offset
            machine: Any = self.stage.schedule.cluster.machines.get(consumer)
            who = machine and machine.group_metadata
            group = ["send_offsets", who.group_id, {key_of(p): o for p, o in positions.items()}] if who else None
            if group:
                value = [["poll"], *_sends(records), group]
                self._invoke(producer, "txn", value, **({} if commits else {"abort": True}))
                polls = [["poll", _read(polled)]]
                offers = [SendOffsets(tuple([(p, OffsetAndMetadata(o)) for p, o in positions.items()]), who)]
                outcome = yield from self._transact(producer, records, offers, commits, polls, [group])
                if outcome == "info" and consumer in self.stage.schedule.cluster.machines:
                    self.stage.crash_client(consumer)  # what is committed tells where to go on
                if outcome != "fail":
                    return
        first: dict[TopicPartition, int] = {}
        for partition, offset, _, _ in polled:
            first.setdefault(partition, offset)
        yield [Ask(consumer, Seek(partition, offset)) for partition, offset in first.items()]

    def poll_unrecorded(self, consumer: Address, timeout: int) -> Script:
        """One Poll that reads uncommitted: what it shows is nothing that a history promises."""
        yield Ask(consumer, Poll(timeout))

    def poll(self, consumer: Address, timeout: int, **more: Any) -> Script:
        """One Poll."""
        self._invoke(consumer, "poll", [["poll"]], **more)
        response = yield Ask(consumer, Poll(timeout))
        if response is None:
            self._complete(consumer, "info", "poll", [["poll"]], **more)
        elif response.error is not Error.NONE:
            self._complete(consumer, "fail", "poll", [["poll"]], error=response.error.name, **more)
        else:
            result: PollResult = response.value
            if result.rebalances:
                more["rebalance-log"] = [{"keys": [key_of(one) for one in keys]} for _, keys in result.rebalances]
            if "final" in more:
                self.closing.setdefault(more["final"], []).extend([value for *_, value in result.records])
            self._complete(consumer, "ok", "poll", [["poll", _read(result.records)]], **more)

    def subscribe(self, consumer: Address, f: str, operation: Any, keys: Sequence[TopicPartition]) -> Script:
        """Assign or Subscribe."""
        self._invoke(consumer, f, [key_of(key) for key in keys])
        response = yield Ask(consumer, operation)
        outcome = "info" if response is None else "ok" if response.error is Error.NONE else "fail"
        self._complete(consumer, outcome, f, [key_of(key) for key in keys])

    def _initialize(self, producer: Address) -> Any:
        """Give the producer an epoch, as a new process if the last one came to an end; whether it has one."""
        machines: dict[Address, Any] = self.stage.schedule.cluster.machines
        machine = machines.get(producer)
        if machine is not None and machine.state == "FATAL_ERROR":
            self.stage.crash_client(producer)
        if producer not in machines:
            self.stage.schedule.apply(Restart(producer, self.stage.now))
        if machines[producer].state == "UNINITIALIZED":
            response = yield Ask(producer, InitTransactions())
            return response is not None and response.error is Error.NONE
        return bool(machines[producer].state == "READY")

    def _transact(
        self,
        producer: Address,
        records: list[Outgoing],
        offers: list[SendOffsets],
        commits: bool,
        polls: list[Any],
        groups: Sequence[Any] = (),
    ) -> Any:
        """Begin, send, end, and record how it ended, which is also returned: ok, fail or info."""
        asks = [BeginTransaction(), *map(self._send, records), *offers]
        asks.append(CommitTransaction() if commits else AbortTransaction())
        outcomes = yield [Ask(producer, operation) for operation in asks]
        outcome = yield from self._outcome(producer, outcomes[-1], commits)
        sent = _sends(records, outcomes[1 : 1 + len(records)])
        errors = [each.error.name for each in outcomes if each is not None and each.error is not Error.NONE]
        more = {"error": errors[0]} if errors else {}
        self._complete(producer, outcome, "txn", [*polls, *sent, *groups], **more)
        return outcome

    def _outcome(self, producer: Address, end: Any, commits: bool) -> Any:
        """How a transaction ended, by the answer to its end; one that can be aborted only, is."""
        is_over = end is not None and end.error is Error.NONE
        machine: Any = self.stage.schedule.cluster.machines.get(producer)
        if end is not None and not is_over and machine is not None and machine.state == "ABORTABLE_ERROR":
            aborted = yield Ask(producer, AbortTransaction())
            return "fail" if aborted is not None and aborted.error is Error.NONE else "info"
        return "info" if not is_over else "ok" if commits else "fail"

    def _send(self, record: Outgoing) -> Send:
        (topic, partition), value = record
        return Send(topic, None, value, partition)

    def _invoke(self, user: str, f: str, value: Any, **more: Any) -> Record:
        return self.recorder.invoke(self.stage.now, user, f, value, **more)

    def _complete(self, user: str, outcome: str, f: str, value: Any, **more: Any) -> None:
        self.recorder.complete(self.stage.now, user, outcome, f, value, **more)


def _sends(records: Sequence[Outgoing], outcomes: Sequence[Any] | None = None) -> list[Any]:
    """Micro-operations; an acknowledged record has its offset, unless it was acknowledged unseen (acks=0)."""
    sends: list[Any] = []
    for i, (partition, value) in enumerate(records):
        response: Any = outcomes[i] if outcomes else None
        is_known = response is not None and response.error is Error.NONE
        offset = response.value[1] if is_known and response.value[1] >= 0 else None
        sends.append(["send", key_of(partition), [offset, value] if is_known else value])
    return sends


def _read(records: Sequence[Any]) -> dict[str, list[list[Any]]]:
    read: dict[str, list[list[Any]]] = {}
    for partition, offset, _, value in records:
        read.setdefault(key_of(partition), []).append([offset, value])
    return read
