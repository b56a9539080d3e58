"""Requests that wait at a partition's leader: each knows what it is answered, once the time for that has come.

Source: kafka.server.DelayedProduce, DelayedFetch, DelayedDeleteRecords. What waits in the groups' coordinator is there.
"""

from __future__ import annotations

from typing import NamedTuple

from hwmark.refimpl import requests as rpc
from hwmark.refimpl.batches import Batch, TopicPartition
from hwmark.refimpl.coordinators import AppendTo
from hwmark.refimpl.errors import Error, KafkaError
from hwmark.refimpl.machine import Message
from hwmark.refimpl.replica import Replica


class Markers(NamedTuple):
    """A WriteTxnMarkers, and the outcomes of its partitions so far."""

    message: Message
    errors: dict[TopicPartition, Error]


class DelayedProduce(NamedTuple):
    """A batch on its way into the log of a leader (of `leader_epoch`, unless -1) and, with acks=all, of the ISR.

    A transactional id is to be verified first (KIP-890). The offsets are -1 until it is appended.
    """

    waiter: Message | Markers | AppendTo
    topic_partition: TopicPartition
    batch: Batch
    timeout: int
    acks: int = -1
    transactional_id: str | None = None
    leader_epoch: int = -1
    base_offset: int = -1
    last_offset: int = -1

    def outcome(self, replica: Replica, is_late: bool) -> Error | None:
        """None while it has to wait."""
        return replica.acknowledgement(self.last_offset) or (Error.REQUEST_TIMED_OUT if is_late else None)


class DelayedFetch(NamedTuple):
    """A fetch without news, as long as what is `readable` for it stays the same."""

    waiter: Message
    readable: tuple[int, int, int]

    def outcome(self, replica: Replica, is_late: bool) -> rpc.FetchResponse | None:
        """None while it has to wait."""
        request = self.waiter.body
        if replica.readable(request) == self.readable and not is_late:
            return None
        try:
            return replica.answer(request)
        except KafkaError as refusal:
            return rpc.FetchResponse(refusal.error)


class DelayedDeleteRecords(NamedTuple):
    """Records are gone when the log start offset of every replica is there."""

    waiter: Message
    offset: int

    def outcome(self, replica: Replica, is_late: bool) -> rpc.Response | None:
        """None while it has to wait; the low watermark."""
        if not replica.is_leader:
            return rpc.Response(Error.NOT_LEADER_OR_FOLLOWER)
        error = Error.NONE if replica.low_watermark >= self.offset else Error.REQUEST_TIMED_OUT
        return rpc.Response(error, replica.low_watermark) if is_late or error is Error.NONE else None


Delayed = DelayedProduce | DelayedFetch | DelayedDeleteRecords
