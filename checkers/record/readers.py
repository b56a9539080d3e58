"""Consumers that only read: some are assigned all partitions, others subscribe as members of a group."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition
from hwmark.checkers.record.clients import name_of
from hwmark.checkers.record.outcomes import FAIL, INFO, OK
from hwmark.checkers.record.run import Run, pause
from hwmark.checkers.record.workload import Key, Workload

BATCH_MAX, WAIT = 2000, 0.1  # records of a poll, and s to wait for them
AGAIN = 0.5  # s
LEAVE_TIMEOUT = 5.0  # s for a member's last rebalances

Read = dict[str, list[list[Any]]]


class Rebalances:
    """Which partitions came and went while an operation ran, and whether the group has taken its member in."""

    def __init__(self, on_lost: Callable[[list[TopicPartition]], None] = lambda partitions: None) -> None:
        self.keys: list[list[str]] = []
        self.is_member, self.served = False, 0
        self.on_lost = on_lost

    def callbacks(self) -> dict[str, Any]:
        """For Consumer.subscribe."""
        return {"on_assign": self._came, "on_revoke": self._went, "on_lost": self._went}

    def told(self) -> dict[str, Any]:
        """The fields of a record's completion, and begin anew."""
        keys, self.keys = self.keys, []
        return {"rebalance-log": [{"keys": each} for each in keys]} if keys else {}

    def left(self) -> None:
        """Forget the member: the next one is another."""
        self.keys, self.is_member = [], False

    def _came(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.is_member = True
        self._note(partitions)

    def _went(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.on_lost(partitions)
        self._note(partitions)

    def _note(self, partitions: list[TopicPartition]) -> None:
        self.served += 1
        self.keys.append([Key(one.topic, one.partition).name for one in partitions])


def leave(consumer: Consumer, rebalances: Rebalances, poll: Callable[[], object]) -> None:
    """Leave the group, serve what rebalances still wait, and close.

    One that waits while librdkafka closes is served by a callback that asks what nobody answers any more. It never
    returns, and stops all threads of Python, for it has the interpreter (librdkafka's issues 4041 and 4884).
    """
    with contextlib.suppress(KafkaException):
        consumer.unsubscribe()
        deadline, served = time.monotonic() + LEAVE_TIMEOUT, -1
        while (served < rebalances.served or consumer.assignment()) and time.monotonic() < deadline:
            served = rebalances.served
            poll()
    with contextlib.suppress(KafkaException):
        consumer.close()


class Churn:
    """When a member of a group is to leave it, for another one to join.

    Its time begins when the group has taken it in: a cluster that is slow would else see members that never join.
    """

    def __init__(self, run: Run, kind: str, number: int) -> None:
        workload = run.workload
        self.context, self.draw = run, workload.generator("churn", kind, number)
        self.mean = workload.churn * (workload.transformers if kind == "transformer" else workload.subscribers)
        self.at: float | None = None

    def is_due(self, is_member: bool) -> bool:
        """Whether it is time."""
        if not self.mean or not is_member:
            self.at = None
            return False
        if self.at is None:
            self.at = self.context.elapsed + self.draw.uniform(0.5, 1.5) * self.mean
        return self.context.elapsed >= self.at


class Reader:
    """One consumer that polls, by assign or by subscribe; `run` is a thread's work."""

    def __init__(self, run: Run, number: int, *, subscribes: bool) -> None:
        self.context, self.subscribes = run, subscribes
        kind = "subscribers" if subscribes else "readers"
        self.group = group_of(run.workload, kind if subscribes else f"{kind}-{number}")
        self.churn, self.rebalances = Churn(run, "subscriber", number), Rebalances()
        self.consumer: Consumer | None = None
        self.process = -1

    def run(self) -> None:
        """Poll until the workload is over."""
        while not self.context.is_over:
            if self.consumer is None:
                self._start()
            if not self._poll() or (self.subscribes and self.churn.is_due(self.rebalances.is_member)):
                self._close()
        self._close()

    def _start(self) -> None:
        writer, workload = self.context.writer, self.context.workload
        self.process, keys = writer.process(), [key.name for key in workload.keys]
        clients = self.context.clients._replace(on_error=lambda error: self.context.take("a consumer", error))
        self.consumer = clients.consumer(self.group, enable_auto_commit=self.subscribes)
        f = "subscribe" if self.subscribes else "assign"
        writer.invoke(self.process, f, keys)
        if self.subscribes:
            topics = workload.input_topics + workload.output_topics
            self.consumer.subscribe(topics, **self.rebalances.callbacks())
        else:
            self.consumer.assign([TopicPartition(key.topic, key.partition, 0) for key in workload.keys])
        writer.complete(self.process, OK, f, keys)

    def _close(self) -> None:
        if self.consumer is not None and self.subscribes:
            leave(self.consumer, self.rebalances, self._poll)
        elif self.consumer is not None:
            with contextlib.suppress(KafkaException):
                self.consumer.close()
        self.consumer = None
        self.rebalances.left()

    def _poll(self) -> bool:
        """Read what there is; False if the consumer is of no more use."""
        assert self.consumer is not None
        writer = self.context.writer
        writer.invoke(self.process, "poll", [["poll"]])
        try:
            messages = self.consumer.consume(BATCH_MAX, WAIT)
        except KafkaException as error:
            writer.complete(self.process, INFO, "poll", [["poll"]], error=name_of(error), **self.rebalances.told())
            return False
        read, errors = sorted_out(messages)
        if errors and not read:
            name = errors[0].name()
            writer.complete(self.process, FAIL, "poll", [["poll"]], error=name, **self.rebalances.told())
            self.context.take("a consumer", errors[0])
            pause(self.context, AGAIN)
        else:
            writer.complete(self.process, OK, "poll", [["poll", read]], **self.rebalances.told())
        return True


def group_of(workload: Workload, kind: str) -> str:
    """A consumer group's id."""
    return f"{workload.prefix}-{kind}"


def sorted_out(messages: Sequence[Any]) -> tuple[Read, list[Any]]:
    """Records by key as [offset, value], and errors."""
    read: Read = {}
    errors: list[Any] = []
    names: dict[tuple[str, int], list[list[Any]]] = {}
    for message in messages:
        error = message.error()
        if error is not None:
            errors.append(error)
            continue
        place = message.topic(), message.partition()
        into = names.get(place)
        if into is None:
            into = names[place] = read.setdefault(Key(*place).name, [])
        into.append([message.offset(), value_of(message)])
    return read, errors


def read_of(batch: Mapping[Key, Sequence[Any]]) -> Read:
    """Records as [offset, value] by key."""
    return {key.name: [[one.offset(), value_of(one)] for one in messages] for key, messages in batch.items()}


def value_of(message: Any) -> int | str:
    """A record's value; one that no recorder wrote is text."""
    value = message.value() or b""
    return int(value) if value.isdigit() else value.decode(errors="replace")
