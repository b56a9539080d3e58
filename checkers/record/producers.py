"""Plain producers: many sends at a time, each by a logical process of its own.

A process has one open operation, so a fast producer acts for many: a send takes a number that is free, or a new one,
and gives it back when it is acknowledged or has failed. After an unknown outcome the number is used no more.

A client that is not answered for a while gives up, and the outcome is unknown; librdkafka keeps trying. If instead
librdkafka gives up (message.timeout.ms), it goes on under a new epoch, and sends again in it what may have been written
under the old one: even an idempotent producer then writes twice.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer
from hwmark.checkers.record.clients import name_of, served
from hwmark.checkers.record.outcomes import FAIL, INFO, of_delivery
from hwmark.checkers.record.run import Run
from hwmark.checkers.record.workload import Key

OPEN_MAX = 4000
"""Sends that a producer has under way; the next ones wait until the cluster answers."""
BURST = 200  # sends between two looks at what was answered
IDLE = 0.002  # s to wait for answers when nothing is due
FLUSH_SLACK, PURGED = 3.0, 2.0  # s
GIVEN_UP = "given up waiting"


class Send:
    """A send that is under way, until it is answered or given up."""

    __slots__ = ("begun", "is_over", "key", "process", "value")

    def __init__(self, process: int, key: bytes, value: int, begun: float) -> None:
        self.process, self.key, self.value, self.begun = process, key, value, begun
        self.is_over = False


class PlainProducer:
    """One producer and its sends; `run` is a thread's work."""

    def __init__(self, run: Run, number: int) -> None:
        self.context, self.number = run, number
        workload = run.workload
        self.acks, self.retries_are_off = workload.acks, workload.retries_are_off
        self.values, self.draw = workload.values(number), workload.generator("producer", number).random
        self.targets = [(key.topic, key.partition, run.json_names[key]) for key in workload.inputs]
        self.patience = workload.patience_ms / 1000
        self.free: list[int] = []
        self.waiting: deque[Send] = deque()
        self.open = self.sent = 0
        self.fatal: str | None = None
        self.producer = self._new()

    def _new(self) -> Producer:
        clients = self.context.clients._replace(on_error=self._complain)
        return clients.producer(self.context.workload)

    def run(self) -> None:
        """Send at the workload's rate until that is over, then wait for answers."""
        run, rate = self.context, self.context.workload.rate / self.context.workload.producers
        while not run.is_over:
            due = int(run.elapsed * rate) + 1
            count = min(due - self.sent, OPEN_MAX - self.open, BURST)
            for _ in range(count):
                self.send()
            self._serve(self.producer.poll, 0 if count == BURST else IDLE)
            self._give_up(time.monotonic() - self.patience)
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
        send, content = Send(process, key, value, time.monotonic()), b"%d" % value
        done = partial(self._done, send)
        try:  # compacted topics want a key; no two records share one
            self.producer.produce(topic, content, key=content, partition=partition, on_delivery=done)
        except (KafkaException, BufferError) as error:
            self._refused(send, "_QUEUE_FULL" if isinstance(error, BufferError) else name_of(error))
        else:
            self.open += 1
            self.waiting.append(send)

    def _refused(self, send: Send, error: str) -> None:
        """The client did not even take it."""
        self.context.writer.send_not_ok(send.process, FAIL, send.key, send.value, error)
        self.free.append(send.process)
        if error == "_FATAL":
            self.fatal = self.fatal or error

    def _done(self, send: Send, error: KafkaError | None, message: Any) -> None:
        """The delivery report of a send."""
        self.open -= 1
        if error is not None:
            self._complain(error)
        if send.is_over:
            return
        send.is_over = True
        if error is None:
            offset = message.offset()
            known = offset if offset is not None and offset >= 0 else None
            self.context.writer.send_ok(send.process, send.key, known, send.value)
            self.free.append(send.process)
            return
        name = error.name()
        outcome = of_delivery(name, acks=self.acks, retries_are_off=self.retries_are_off)
        self.context.writer.send_not_ok(send.process, outcome, send.key, send.value, name)
        if outcome != INFO:
            self.free.append(send.process)

    def _give_up(self, begun: float) -> None:
        """Wait no more for what was sent up to this time."""
        waiting = self.waiting
        while waiting and (waiting[0].is_over or waiting[0].begun <= begun):
            send = waiting.popleft()
            if not send.is_over:
                send.is_over = True
                self.context.writer.send_not_ok(send.process, INFO, send.key, send.value, GIVEN_UP)

    def _complain(self, error: KafkaError) -> None:
        if error.fatal() or error.name() == "_FATAL":
            self.fatal = self.fatal or error.name()
        self.context.take(f"producer {self.number}", error)

    def _replace(self) -> None:
        """Go on with a new producer, as new processes: the old one is good for nothing."""
        self._end_of_producer()
        self.context.crash(self.free.pop() if self.free else self.context.writer.process(), self.fatal or "_FATAL")
        self.free, self.open, self.fatal = [], 0, None
        self.producer = self._new()

    def end(self) -> None:
        """Wait until all sends are answered or have timed out; then what is left counts as unknown."""
        self._flush(self.patience + FLUSH_SLACK)
        self._end_of_producer()

    def _end_of_producer(self) -> None:
        """Nothing more is sent, and nothing more is waited for."""
        self._serve(self.producer.purge)
        self._flush(PURGED)
        self._give_up(time.monotonic())

    def _flush(self, seconds: float) -> None:
        """Wait so long for the answers that are still to come.

        Not by the client's `flush`: after a fatal error, which it will raise in the end, it goes on running callbacks,
        with that exception pending; then `with lock:` acquires the lock, fails, and never releases it. `poll` ends.
        """
        deadline = time.monotonic() + seconds
        while len(self.producer) and time.monotonic() < deadline:
            self._serve(self.producer.poll, IDLE)

    def _serve(self, call: Callable[..., Any], *arguments: Any) -> None:
        """Let the client's callbacks run; a fatal error is kept in mind."""
        try:
            served(call, *arguments)
        except KafkaException as error:
            self._complain(error.args[0])


def key_of(message: Any) -> Key:
    """A message's partition."""
    return Key(message.topic(), message.partition())
