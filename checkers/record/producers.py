"""Plain producers: many sends at a time, each by a logical process of its own.

A process has one open operation, so a fast producer acts for many: a send takes a number that is free, or a new one,
and gives it back when it is acknowledged or has failed. After an unknown outcome the number is used no more.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from hwmark.checkers.record.clients import name_of
from hwmark.checkers.record.outcomes import FAIL, INFO, of_delivery
from hwmark.checkers.record.run import Run
from hwmark.checkers.record.workload import Key

OPEN_MAX = 4000
"""Sends that a producer has under way; the next ones wait until the cluster answers."""
BURST = 200  # sends between two looks at what was answered
IDLE = 0.002  # s to wait for answers when nothing is due
FLUSH_SLACK, PURGED = 5.0, 2.0  # s


class PlainProducer:
    """One producer and its sends; `run` is a thread's work."""

    def __init__(self, run: Run, number: int) -> None:
        self.context, self.number = run, number
        workload = run.workload
        self.acks, self.retries_are_off = workload.acks, workload.retries_are_off
        self.values, self.draw = workload.values(number), workload.generator("producer", number).random
        self.targets = [(key.topic, key.partition, run.json_names[key]) for key in workload.inputs]
        self.free: list[int] = []
        self.open = self.sent = 0
        self.fatal: str | None = None
        self.producer = self._new()

    def _new(self) -> Producer:
        clients = self.context.clients._replace(on_error=self._complain)
        return clients.producer(self.context.workload)

    def run(self) -> None:
        """Send at the workload's rate until that is over, then wait for answers."""
        run, rate = self.context, self.context.workload.rate / self.context.workload.producers
        total = int(rate * run.workload.seconds)
        while not run.is_over and self.sent < total:
            due = min(int(run.elapsed * rate) + 1, total)
            count = min(due - self.sent, OPEN_MAX - self.open, BURST)
            for _ in range(count):
                self.send()
            self.producer.poll(0 if count == BURST else IDLE)
            if self.fatal:
                self._replace()
        self.end()

    def send(self) -> None:
        """Begin the next send."""
        topic, partition, key = self.targets[int(self.draw() * len(self.targets))]
        value, writer = next(self.values), self.context.writer
        process = self.free.pop() if self.free else writer.process()
        self.sent += 1
        writer.invoke_send(process, key, value)
        done = partial(self._done, process, key, value)
        try:
            self.producer.produce(topic, b"%d" % value, partition=partition, on_delivery=done)
            self.open += 1
        except (KafkaException, BufferError) as error:
            name = "_QUEUE_FULL" if isinstance(error, BufferError) else name_of(error)
            writer.send_not_ok(process, FAIL, key, value, name)
            self.free.append(process)
            if name == "_FATAL":
                self.fatal = self.fatal or name

    def _done(self, process: int, key: bytes, value: int, error: KafkaError | None, message: Message) -> None:
        """The delivery report of a send."""
        self.open -= 1
        if error is None:
            offset = message.offset()
            self.context.writer.send_ok(process, key, offset if offset is not None and offset >= 0 else None, value)
            self.free.append(process)
            return
        name = error.name()
        outcome = of_delivery(name, acks=self.acks, retries_are_off=self.retries_are_off)
        self.context.writer.send_not_ok(process, outcome, key, value, name)
        if outcome != INFO:
            self.free.append(process)
        self._complain(error)

    def _complain(self, error: KafkaError) -> None:
        if error.fatal() or error.name() == "_FATAL":
            self.fatal = self.fatal or error.name()
        self.context.take(f"producer {self.number}", error)

    def _replace(self) -> None:
        """Go on with a new producer, as new processes: the old one is good for nothing."""
        self.producer.purge()
        self.producer.flush(PURGED)
        self.context.crash(self.free.pop() if self.free else self.context.writer.process(), self.fatal or "_FATAL")
        self.free, self.open, self.fatal = [], 0, None
        self.producer = self._new()

    def end(self) -> None:
        """Wait until all sends are answered or have timed out; then what is left counts as unknown."""
        self.producer.flush(self.context.workload.message_timeout_ms / 1000 + FLUSH_SLACK)
        self.producer.purge()
        self.producer.flush(PURGED)


def key_of(message: Any) -> Key:
    """A message's partition."""
    return Key(message.topic(), message.partition())
