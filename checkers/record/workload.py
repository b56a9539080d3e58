"""What the clients of a recording do, and in which order; all that is drawn follows from the seed.

Each client draws from a generator of its own, so the same seed asks for the same operations, whatever the cluster
answers and however the clients' threads take turns. How many of them are asked for follows from rate and duration, as
far as the cluster keeps up; those of transformers also from what they have read.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple

SENDS_MAX = 4  # in a transaction
OUTPUT = "out"


class Workload(NamedTuple):
    """The options of a workload; rates are operations a second of all clients of a kind together.

    `patience_ms` is how long a client waits for the answer to a send; then its outcome counts as unknown, while
    librdkafka goes on trying for `message_timeout_ms`. `retries` None leaves them to the client if it is idempotent,
    and else means none: a producer that sends again what may have been written is known to write twice. `churn` is
    after how many seconds, on average, some member of a group leaves it and another one joins; 0 is never.
    """

    seed: int = 0
    seconds: float = 10.0
    rate: float = 200.0
    producers: int = 2
    idempotent: bool = True
    acks: str = "all"
    retries: int | None = None
    message_timeout_ms: int = 300_000
    patience_ms: int = 2000
    transactional: int = 1
    transaction_rate: float = 20.0
    transaction_timeout_ms: int = 10_000
    abort_percent: float = 10.0
    transformers: int = 2
    readers: int = 1
    subscribers: int = 1
    churn: float = 5.0
    topics: int = 1
    partitions: int = 3
    prefix: str = "hwmark"

    @property
    def input_topics(self) -> list[str]:
        """What producers write to."""
        return [f"{self.prefix}-{number}" for number in range(self.topics)]

    @property
    def output_topics(self) -> list[str]:
        """What transformers write to; none without any."""
        return [f"{self.prefix}-{OUTPUT}"] if self.transformers else []

    @property
    def inputs(self) -> list[Key]:
        """The partitions that producers write to."""
        return [Key(topic, partition) for topic in self.input_topics for partition in range(self.partitions)]

    @property
    def outputs(self) -> list[Key]:
        """The partitions that transformers write to."""
        return [Key(topic, partition) for topic in self.output_topics for partition in range(self.partitions)]

    @property
    def keys(self) -> list[Key]:
        """All partitions."""
        return self.inputs + self.outputs

    @property
    def retries_are_off(self) -> bool:
        """Whether producers send nothing again that may have been written."""
        return not self.idempotent and not self.retries

    @property
    def via(self) -> str:
        """How consumers get their partitions, as `hwmark history --via` has it."""
        return "subscribe" if self.subscribers or self.transformers else "assign"

    def values(self, client: int) -> Iterator[int]:
        """The values that a client sends, in order; no two clients share one. Clients count from 0."""
        clients, value = self.producers + self.transactional + self.transformers, client
        while True:
            yield value
            value += clients

    def generator(self, *client: object) -> random.Random:
        """What a client draws from."""
        return random.Random("/".join(map(str, (self.seed, *client))))

    def transactions(self, client: int) -> Iterator[Transaction]:
        """The transactions of a transactional producer."""
        draw, values, keys = self.generator("transactional", client), self.values(client), self.inputs
        while True:
            sends = [(draw.choice(keys), next(values)) for _ in range(draw.randint(1, SENDS_MAX))]
            yield Transaction(sends, draw.random() * 100 < self.abort_percent)


class Key(NamedTuple):
    """A topic's partition."""

    topic: str
    partition: int

    @property
    def name(self) -> str:
        """As the history has it."""
        return f"{self.topic}-{self.partition}"


class Transaction(NamedTuple):
    """What a transaction sends, and whether it is meant to abort."""

    sends: list[tuple[Key, int]]
    abort: bool
