"""Topics with three replicas, and what their logs hold."""

from __future__ import annotations

from typing import Any

from hwmark.refimpl.batches import Batch, Record, TopicPartition
from hwmark.refimpl.broker import Broker
from hwmark.refimpl.config import OFFSETS_TOPIC, TRANSACTIONS_TOPIC, Topic

HERE, THERE, OFFSETS, TRANSACTIONS = ("x", 0), ("x", 1), (OFFSETS_TOPIC, 0), (TRANSACTIONS_TOPIC, 0)
ALL = (1, 2, 3)
TOPICS = (
    Topic("x", (ALL, (2, 3, 1))),
    Topic(OFFSETS_TOPIC, (ALL,), is_compacted=True),
    Topic(TRANSACTIONS_TOPIC, ((2, 3, 1),), is_compacted=True),
)


def batch(*values: str, **producer: Any) -> Batch:
    """A batch of records with their values for keys."""
    return Batch(0, len(values) - 1, -1, tuple(Record(i, value, value) for i, value in enumerate(values)), **producer)


def values(broker: Broker, here: TopicPartition = HERE) -> list[Any]:
    """What a broker's log of a partition holds."""
    return [record.value for batch in broker.replicas[here].log.batches for record in batch.records]
