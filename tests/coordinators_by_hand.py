"""A broker of which the coordinators, and what it does for them, are real: logs and messages are the test's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from hwmark.refimpl import requests as rpc
from hwmark.refimpl.batches import Batch, TopicPartition
from hwmark.refimpl.broker import Broker
from hwmark.refimpl.config import OFFSETS_TOPIC, TRANSACTIONS_TOPIC, ClusterConfig
from hwmark.refimpl.coordinator import Append, Respond
from hwmark.refimpl.errors import Error, KafkaError
from hwmark.refimpl.log import Log
from hwmark.refimpl.machine import Asked, Message, earliest
from hwmark.refimpl.replica import Replica
from hwmark.refimpl.transaction_coordinator import SendMarkers


class Marker(NamedTuple):
    """A WriteTxnMarkers request to a leader, and what it comes from."""

    leader: int
    request: rpc.WriteTxnMarkersRequest
    markers: SendMarkers


Effects = list[Respond | Append | Marker]


class Coordinators(Broker):
    """Each method returns what is to be done; `partitions` are the broker's metadata."""

    def __init__(self, config: ClusterConfig) -> None:
        super().__init__(1, config)
        self.wanted: Effects = []
        self.marked: dict[TopicPartition, int] = {}  # up to where markers are acknowledged

    def handle(self, message: Message, now: int) -> Any:
        try:
            super().handle(message, now)
        except KafkaError as refusal:
            self.wanted.append(Respond((message.source, message.correlation), refusal.error))
        return self._take()

    def on_leader(self, here: TopicPartition, log: Log, leader_epoch: int, now: int) -> Effects:
        replica = self.replicas[here] = Replica(1, here, self.config, log)
        replica.is_leader, replica.leader_epoch = True, leader_epoch
        replica.leader_epoch_start_offset = self.marked[here] = log.log_end_offset
        return self.on_high_watermark(here, now)

    def on_follower(self, here: TopicPartition, now: int) -> Effects:
        if here in self.replicas:
            self.replicas[here].is_leader = False
        return self.on_high_watermark(here, now)

    def on_high_watermark(self, here: TopicPartition, now: int) -> Effects:
        """The log is replicated so far, and markers in it are acknowledged."""
        if here[0] in (OFFSETS_TOPIC, TRANSACTIONS_TOPIC) and here in self.replicas:
            self.lead_coordinator(self.replicas[here], now)
            log, marked = self.replicas[here].log, self.marked[here]
            self.marked[here] = max(marked, log.high_watermark)
            for batch in log.batches[log.index_of(marked) : log.index_of(self.marked[here])]:
                self.on_marker(here, batch)
        return self._take()

    def on_appended(self, append: Append, error: Error, base_offset: int, now: int) -> Effects:
        self.answer(append, rpc.Response(error, base_offset), now)
        return self._take()

    def on_marker(self, here: TopicPartition, batch: Batch) -> None:
        if batch.control is not None:
            request = rpc.WriteTxnMarkersRequest(here, batch.producer_id, 0, 0, batch.control)
            self.answer(Message("", "", 0, request), rpc.Response(), 0)
            self.effects.clear()

    def on_response(self, marker: Marker, response: rpc.Response | None, now: int) -> Effects:
        """A leader has answered, or nobody did in time (None)."""
        asked = Asked("", marker.request, marker.markers, 0)
        self.on_answered(asked, response or rpc.Response(Error.REQUEST_TIMED_OUT), now)
        return self._take()

    def time_passes(self, now: int) -> Effects:
        self.perform(self.transactions.tick(now), now)
        self.perform(self.groups.tick(now), now)
        return self._take()

    def deadline(self) -> int | None:
        return earliest(self.transactions.next_deadline(), self.groups.next_deadline())

    def perform(self, effects: Iterable[Respond | Append | SendMarkers], now: int) -> None:
        for effect in effects:
            if isinstance(effect, SendMarkers):
                super().perform([effect], now)
            else:
                self.wanted.append(effect)

    def ask(self, broker_id: int, body: Any, context: Any, now: int) -> None:
        known = self.partitions.get(body.topic_partition)
        if known is not None and known.leader == broker_id:
            self.wanted.append(Marker(broker_id, body, context))
        else:  # it asks itself
            refused = rpc.Response(Error.NOT_LEADER_OR_FOLLOWER)
            self.on_answered(Asked("", body, context, 0), refused, now)

    def _take(self) -> Effects:
        wanted, self.wanted = self.wanted, []
        return wanted
