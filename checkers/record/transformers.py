"""Consume, transform, produce: what a group's member polls, what it makes of it, and its offsets, in one transaction.

The pattern of KIP-447: offsets go with the member's generation, so one whose partitions have moved cannot commit them.
After an abort the records are read again. If nobody knows how a transaction ended, a new member goes on where the group
is. Members leave and join all the time.
"""

from __future__ import annotations

from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from hwmark.checkers.record.outcomes import FAIL, INFO, OK
from hwmark.checkers.record.producers import key_of
from hwmark.checkers.record.readers import Churn, Rebalances, group_of, leave, read_of
from hwmark.checkers.record.run import Run
from hwmark.checkers.record.transactions import GroupOffsets, Transactor, partition_of, sends_of
from hwmark.checkers.record.workload import Key, Transaction

BATCH_MAX = 100
WAIT, MORE, LAST = 0.2, 0.005, 0.05  # s for the first record, for one more, and for the last rebalance


class Transformer:
    """One member of the group and its transactional producer; `run` is a thread's work."""

    def __init__(self, run: Run, number: int) -> None:
        workload = run.workload
        self.context, self.transactor = run, Transactor(run, f"transformer-{number}")
        self.group, self.churn = group_of(workload, "transformers"), Churn(run, "transformer", number)
        self.values = workload.values(workload.producers + workload.transactional + number)
        self.draw = workload.generator("transformer", number)
        self.outputs, self.topics = workload.outputs, workload.input_topics
        self.batch: dict[Key, list[Any]] = {}
        self.rebalances = Rebalances(self._forget)
        self.consumer: Consumer | None = None
        self.process = -1

    def run(self) -> None:
        """Transform until the workload is over."""
        while not self.context.is_over:
            if self.consumer is None:
                self._join()
            try:
                self._poll()
            except KafkaException as error:
                self._complain(error.args[0])
                self._leave()
            if self.batch and self.transactor.is_ready():
                self._transform()
            if self.churn.is_due(self.rebalances.is_member):
                self._leave()
        self._leave()

    def _join(self) -> None:
        writer, keys = self.context.writer, [key.name for key in self.context.workload.inputs]
        self.process = writer.process()
        self.consumer = self.context.clients._replace(on_error=self._complain).consumer(self.group)
        writer.invoke(self.process, "subscribe", keys)
        self.consumer.subscribe(self.topics, **self.rebalances.callbacks())
        writer.complete(self.process, OK, "subscribe", keys)

    def _leave(self) -> None:
        """Leave the group; what is read meanwhile is for the next member."""
        if (consumer := self.consumer) is not None:
            leave(consumer, self.rebalances, lambda: consumer.poll(LAST))
        self.consumer = None
        self.batch.clear()
        self.rebalances.left()

    def _forget(self, partitions: list[TopicPartition]) -> None:
        """Drop what was read of partitions that are ours no more: the next owner reads it again."""
        for one in partitions:
            self.batch.pop(Key(one.topic, one.partition), None)

    def _poll(self) -> None:
        """Read some records; rebalances happen in between, one record at a time shows which came after."""
        assert self.consumer is not None
        count, wait = 0, WAIT
        while count < BATCH_MAX and (message := self.consumer.poll(wait)) is not None:
            if (error := message.error()) is not None:
                self._complain(error)
                break
            self.batch.setdefault(key_of(message), []).append(message)
            count, wait = count + 1, MORE
        if not self.batch and self.rebalances.keys:  # nothing that a transaction could tell of
            self.context.writer.invoke(self.process, "poll", [["poll"]])
            self.context.writer.complete(self.process, OK, "poll", [["poll", {}]], **self.rebalances.told())

    def _complain(self, error: KafkaError) -> None:
        self.context.take("a transformer", error)

    def _transform(self) -> None:
        """One transaction: each record read makes one that is written."""
        assert self.consumer is not None
        batch, self.batch = self.batch, {}
        positions = {key: messages[-1].offset() + 1 for key, messages in batch.items()}
        made = [(self.draw.choice(self.outputs), next(self.values)) for each in batch.values() for _ in each]
        transaction = Transaction(made, self.draw.random() * 100 < self.context.workload.abort_percent)
        group = ["send_offsets", self.group, {key.name: offset for key, offset in positions.items()}]
        writer, abort = self.context.writer, {"abort": True} if transaction.abort else {}
        writer.invoke(self.process, "txn", [["poll"], *sends_of(transaction), group], **abort)
        offers = GroupOffsets(
            [partition_of(key, offset) for key, offset in positions.items()], self.consumer.consumer_group_metadata()
        )
        ended = self.transactor.take(transaction, offers)
        value = [["poll", read_of(batch)], *sends_of(transaction, ended.offsets), group]
        more: dict[str, Any] = self.rebalances.told() | ({"error": ended.error} if ended.error else {})
        writer.complete(self.process, ended.outcome, "txn", value, **more)
        self._go_on(ended.outcome, batch, len(made))

    def _go_on(self, outcome: str, batch: dict[Key, list[Any]], count: int) -> None:
        if outcome == OK:
            self.context.writer.acknowledge(count)
        elif outcome == FAIL and self.transactor.producer is not None:
            self._rewind(batch)
        else:
            if outcome == INFO:
                self.process = -1
            self._leave()  # what is committed tells where to go on

    def _rewind(self, batch: dict[Key, list[Any]]) -> None:
        """Read the same records again, unless the partitions have gone, or go wrong: then start anew."""
        assert self.consumer is not None
        owned = {(one.topic, one.partition) for one in self.consumer.assignment()}
        try:
            for key, messages in batch.items():
                if key in owned:
                    self.consumer.seek(partition_of(key, messages[0].offset()))
        except KafkaException:
            self._leave()
