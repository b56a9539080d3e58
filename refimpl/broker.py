"""A broker: it leads and follows partitions, answers clients and followers, and does what controllers say.

What a request means to a partition is the Replica's affair, and what it has to wait for the ReplicaManager's; here all
is routed, to them or to the parts with contracts of their own: the coordinators, and the controller, which is active on
one broker only.

Not modelled: quotas, fetch sessions, fetching from followers, failing disks, controlled shutdown, deleted topics.

Source: kafka.server.KafkaApis, KafkaServer, MetadataCache.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hwmark.refimpl import requests as rpc
from hwmark.refimpl.batches import Batch, Record, TopicPartition
from hwmark.refimpl.controller import REQUESTS
from hwmark.refimpl.errors import Error, KafkaError
from hwmark.refimpl.log import Log
from hwmark.refimpl.machine import ZOOKEEPER, Asked, Effects, Event, Message, earliest
from hwmark.refimpl.partition_change import NO_LEADER, PartitionRegistration
from hwmark.refimpl.replica import Replica
from hwmark.refimpl.replica_manager import Delayed, Marker, ReplicaManager

RESPONSES = rpc.Response, rpc.FetchResponse  # that a broker gets


@dataclass(slots=True)
class Broker(ReplicaManager):
    """A machine. A broker that starts again is a new one, with the disk of the former."""

    def step(self, event: Event, now: int) -> Effects:
        """Take a message or do what is due; then see to the partitions that this has touched."""
        if isinstance(event, Message):
            self.receive(event, now)
        else:
            self.tick(now)
        while self.touched:
            here = next(iter(self.touched))
            del self.touched[here]
            if here in self.replicas:
                self.settle(here, now)
        self.perform(self.coordinators.send_markers(self.partitions), now)
        if self.coordinators.transactions.needs_producer_ids:
            self.provide_producer_ids(now)
        effects, self.effects = self.effects, []
        return effects

    def receive(self, message: Message, now: int) -> None:
        """Route a message: an answer with an odd id is the controller's. What is refused is answered with the error."""
        kind = type(message.body)
        if message.source == ZOOKEEPER or kind in REQUESTS or (kind in RESPONSES and message.correlation % 2):
            self.effects += self.controller.step(message, now)
        elif kind in RESPONSES:
            if asked := self.outbox.answered(message):
                self.on_answered(asked, message.body, now)
        else:
            try:
                answer = self.handle(message, now)
            except KafkaError as refusal:
                answer = rpc.refusal(message.body, refusal.error)
            if answer is not None:
                self.reply(message, answer)

    def handle(self, message: Message, now: int) -> Any:
        """What a request is answered with; None if that comes later, or never."""
        match request := message.body:
            case rpc.FetchRequest():
                return self.handle_fetch(message, now)
            case rpc.ProduceRequest(acks=-1 | 0 | 1):
                self.append(request, message if request.acks else None, now)
            case rpc.ProduceRequest():
                return rpc.ProduceResponse(Error.INVALID_REQUIRED_ACKS)
            case rpc.ListOffsetsRequest(here):
                return self.replica(here).list_offsets(request)
            case rpc.OffsetsForLeaderEpochRequest(here):
                return self.replica(here).offsets_for_leader_epoch(request)
            case rpc.DeleteRecordsRequest(here, offset, timeout):
                self.wait(
                    Delayed(message, request, now + timeout, "deleted", self.replica(here).delete_records(offset))
                )
            case rpc.WriteTxnMarkersRequest():
                self.handle_write_txn_markers(message, now)
            case rpc.MetadataRequest(topics):
                return self.metadata(topics)
            case rpc.FindCoordinatorRequest(key, is_transaction):
                found = self.coordinator(key, is_transaction)
                return rpc.Response(Error.COORDINATOR_NOT_AVAILABLE if found == NO_LEADER else Error.NONE, found)
            case rpc.LeaderAndIsrRequest() | rpc.StopReplicaRequest() | rpc.UpdateMetadataRequest():
                if self.is_news(message):
                    self.obey(request, now)
                return rpc.Response()
            case _:
                self.perform(self.coordinators.handle(message, now), now)
        return None

    def on_answered(self, asked: Asked, response: Any | None, now: int) -> None:
        """Do what was to follow an answer, or its absence."""
        then, *arguments = asked.context
        getattr(self, then)(asked.body, response, *arguments, now)

    def tick(self, now: int) -> None:
        """Do what is due."""
        self.effects += self.controller.step(None, now)
        self.perform(self.coordinators.tick(now), now)
        for asked in self.outbox.expire(now):
            self.on_answered(asked, None, now)
        for timer in [timer for timer, time in self.timers.items() if time <= now]:
            del self.timers[timer]
            getattr(self, timer[0])(*timer[1:], now)

    def deadline(self) -> int | None:
        """When something is due."""
        timer = min(self.timers.values())
        return earliest(timer, self.outbox.deadline(), self.controller.deadline(), self.coordinators.deadline())

    # What the controller says

    def is_news(self, message: Message) -> bool:
        """Whether a controller says this for the first time: a late copy is acknowledged, no more.

        Refuse one that was replaced, and what is meant for a former incarnation of the broker (KIP-380): all is, as
        long as it is not registered.
        """
        request, broker_epoch = message.body, self.controller.broker_epoch
        if self.config.kip_380 and (broker_epoch == -1 or request.broker_epoch < broker_epoch):
            raise KafkaError(Error.STALE_BROKER_EPOCH, f"{request.broker_epoch} < {broker_epoch}")
        if request.controller_epoch < self.controller_epoch:
            raise KafkaError(Error.STALE_CONTROLLER_EPOCH, f"{request.controller_epoch} < {self.controller_epoch}")
        said = request.controller_epoch, message.correlation
        is_news = said > (self.controller_epoch, self.controller_correlation)
        if is_news:
            self.controller_id, (self.controller_epoch, self.controller_correlation) = request.controller_id, said
        return is_news

    def obey(self, request: Any, now: int) -> None:
        """Do what a controller says."""
        match request:
            case rpc.LeaderAndIsrRequest():
                for here, partition in request.partitions:
                    if self.broker_id in partition.replicas:
                        self.become(here, partition, now)
            case rpc.StopReplicaRequest():
                for here in request.topic_partitions:
                    self.stop(here, now)
            case rpc.UpdateMetadataRequest():
                self.live_brokers = request.live_brokers
                self.partitions.update(request.partitions)

    def become(self, here: TopicPartition, partition: PartitionRegistration, now: int) -> None:
        """Lead or follow a partition as its registration says."""
        if here not in self.replicas:
            self.replicas[here] = Replica(self.broker_id, here, self.config, self.disk.logs.setdefault(here, Log()))
        replica = self.replicas[here]
        was_leader, epoch = replica.is_leader, replica.leader_epoch
        replica.become(partition, now)
        self.touched[here] = None
        if replica.is_leader:
            self.asked.pop(here, None)
        if replica.is_leader and replica.leader_epoch != epoch:
            self.perform(self.coordinators.on_leader(here, replica.log, replica.leader_epoch, now), now)
        elif was_leader and not replica.is_leader:
            self.perform(self.coordinators.on_follower(here, now), now)

    def stop(self, here: TopicPartition, now: int) -> None:
        """Cease to be a replica of a partition, and delete its log."""
        if here in self.replicas:
            self.replicas[here].is_leader, self.replicas[here].request = False, None
            self.perform(self.coordinators.on_follower(here, now), now)
            self.settle(here, now)
        for kept in (self.replicas, self.asked, self.waiting, self.disk.logs, self.disk.high_watermarks):
            kept.pop(here, None)
        self.timers.pop(("touch", here), None)

    # What clients, followers and coordinators ask

    def handle_write_txn_markers(self, message: Message, now: int) -> None:
        """Append the control batches that end a transaction; each is replicated, or refused, before the answer."""
        producer_id, producer_epoch, epoch, result, partitions = message.body
        batch = Batch(0, 0, -1, (Record(0, result, epoch),), producer_id, producer_epoch, -1, True, result, epoch, now)
        errors: dict[TopicPartition, Error] = {}
        for here in partitions:
            request = rpc.ProduceRequest(here, batch, timeout=self.config.request_timeout)
            self.append(request, Marker(message, here, errors), now)

    def handle_fetch(self, message: Message, now: int) -> Any:
        """Answer with records, or wait for news."""
        request = message.body
        response = self.replica(request.topic_partition).fetch(request, now)
        if response.batches or response.diverging_epoch:
            self.touched[request.topic_partition] = None
            return response
        self.wait(Delayed(message, request, now + request.max_wait, "fetched", request))

    def metadata(self, topics: tuple[str, ...] | None) -> rpc.MetadataResponse:
        """Who is there, and who leads what."""
        partitions = [
            (here, one if one.leader in self.live_brokers else one._replace(leader=NO_LEADER))
            for here, one in self.partitions.items()
            if topics is None or here[0] in topics
        ]
        return rpc.MetadataResponse(self.live_brokers, self.controller_id, tuple(partitions))
