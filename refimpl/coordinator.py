"""What both coordinators have in common: their topic's partitions, of which a broker leads some, and their effects.

The coordinator of a group or of a transactional id is who leads the partition that its hash says. It knows only what is
replicated there: what it decides is appended first (`Append`), and counts when the high watermark passed it.

Source: GroupMetadataManager, TransactionStateManager, Utils.abs of Java's String.hashCode.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar, NamedTuple

from hwmark.refimpl.batches import NO_SEQUENCE, NOBODY, Batch, Producer, Record, TopicPartition
from hwmark.refimpl.config import ClusterConfig
from hwmark.refimpl.errors import Error, KafkaError

# What a failed append means to a client; other errors stay as they are.
UNAVAILABLE = Error.UNKNOWN_TOPIC_OR_PARTITION, Error.NOT_ENOUGH_REPLICAS, Error.NOT_ENOUGH_REPLICAS_AFTER_APPEND
APPEND_ERRORS = dict.fromkeys((*UNAVAILABLE, Error.REQUEST_TIMED_OUT), Error.COORDINATOR_NOT_AVAILABLE)
APPEND_ERRORS |= dict.fromkeys((Error.NOT_LEADER_OR_FOLLOWER, Error.FENCED_LEADER_EPOCH), Error.NOT_COORDINATOR)
LOADING = -1

Records = tuple[tuple[Any, Any], ...]  # key and value


class Respond(NamedTuple):
    """Effect: answer the request `to`, which is whatever came with it."""

    to: Any
    error: Error = Error.NONE
    body: Hashable = None


class Append(NamedTuple):
    """Effect: append (key, value) records with acks=all, as the leader of that epoch; a value of None is a tombstone.

    The owner hands it back to `on_appended` with its outcome, once: NOT_LEADER_OR_FOLLOWER in another leader epoch.
    The request `to` is answered then, if one waits. For a producer's transaction it is to be verified first (KIP-890).
    """

    topic_partition: TopicPartition
    leader_epoch: int
    records: Records
    to: Hashable | None = None
    producer: Producer = NOBODY

    def answer(self, error: Error = Error.NONE, body: Hashable = None) -> list[Respond]:
        """The answer to the request, if one waits."""
        return [] if self.to is None else [Respond(self.to, error, body)]

    def batch(self, now: int) -> Batch:
        """The records as a batch, whose offsets count from 0."""
        records = tuple([Record(offset, key, value) for offset, (key, value) in enumerate(self.records)])
        producer = *self.producer[1:], NO_SEQUENCE, self.producer != NOBODY
        return Batch(0, len(records) - 1, self.leader_epoch, records, *producer, timestamp=now)


@cache
def partition_for(key: str, partition_count: int) -> int:
    """The partition of the coordinator's topic that keeps a group or a transactional id."""
    code = 0
    for unit in memoryview(key.encode("utf-16-le")).cast("H"):
        code = (31 * code + unit) % 2**32
    return min(code, 2**32 - code) % 2**31 % partition_count


@dataclass(slots=True)
class Coordinator:
    """A broker's part in its topic: `epochs` of the partitions that it leads, LOADING while a log is being read."""

    topic: ClassVar[str]
    config: ClusterConfig
    epochs: dict[int, int] = field(default_factory=dict, init=False)

    def partition(self, key: str) -> int:
        """The partition that keeps a group or a transactional id."""
        return partition_for(key, self.config.partition_count(self.topic))

    def check_coordinator(self, key: str) -> None:
        """Refuse a request for what another broker coordinates, or this one does not know yet."""
        epoch = self.epochs.get(self.partition(key))
        if epoch is None or epoch == LOADING:
            raise KafkaError(Error.NOT_COORDINATOR if epoch is None else Error.COORDINATOR_LOAD_IN_PROGRESS, key)

    def append(self, key: str, records: Records, to: Hashable | None = None, producer: Producer = NOBODY) -> Append:
        """An append to the partition that keeps a group or a transactional id."""
        partition = self.partition(key)
        return Append((self.topic, partition), self.epochs[partition], records, to, producer)
