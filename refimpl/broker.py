"""A broker: it leads and follows partitions, answers clients and followers, and does what controllers say.

What a request means to a partition is the Replica's affair, and what it has to wait for the ReplicaManager's; here all
is routed, to them or to the parts with contracts of their own: the coordinators, and the controller, which is active on
one broker only.

Not modelled: quotas, fetch sessions, fetching from followers, failing disks, controlled shutdown, deleted topics.

Source: kafka.server.KafkaApis, KafkaServer, MetadataCache.
"""

from __future__ import annotations

from collections.abc import Callable
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
        if self.coordinators.needs_producer_ids:
            self.provide_producer_ids(now)
        effects, self.effects = self.effects, []
        return effects

    def receive(self, message: Message, now: int) -> None:
        """Route a message; a request that is refused is answered with the error."""
        kind, is_own = type(message.body), message.correlation % 2 == 0
        if message.source == ZOOKEEPER or kind in REQUESTS or (kind in RESPONSES and not is_own):
            self.effects += self.controller.step(message, now)
        elif kind in RESPONSES:
            if asked := self.outbox.answered(message):
                self.on_answered(asked, message.body, now)
        elif kind in HANDLERS:
            try:
                answer = HANDLERS[kind](self, message, now)
            except KafkaError as refusal:
                answer = rpc.refusal(message.body, refusal.error)
            if answer is not None:
                self.reply(message, answer)
        else:
            self.perform(self.coordinators.handle(message, now), now)

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

    def handle_leader_and_isr(self, message: Message, now: int) -> Any:
        """Lead and follow."""
        for here, partition in message.body.partitions if self.is_news(message) else ():
            if self.broker_id in partition.replicas:
                self.become(here, partition, now)
        return rpc.Response()

    def become(self, here: TopicPartition, partition: PartitionRegistration, now: int) -> None:
        """Lead or follow a partition as its registration says."""
        if here not in self.replicas:
            log = self.disk.logs.setdefault(here, Log())
            log.producer_states.verification_enabled = self.config.kip_890
            self.replicas[here] = Replica(self.broker_id, here, self.config, log)
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

    def handle_stop_replica(self, message: Message, now: int) -> Any:
        """Cease to be a replica of partitions, and delete their logs."""
        for here in message.body.topic_partitions if self.is_news(message) else ():
            if here in self.replicas:
                self.replicas[here].is_leader, self.replicas[here].request = False, None
                self.perform(self.coordinators.on_follower(here, now), now)
                self.settle(here, now)
            for kept in (self.replicas, self.asked, self.waiting, self.disk.logs, self.disk.high_watermarks):
                kept.pop(here, None)
            self.timers.pop(("touch", here), None)
        return rpc.Response()

    def handle_update_metadata(self, message: Message, now: int) -> Any:
        """Learn who leads what."""
        if self.is_news(message):
            self.live_brokers = message.body.live_brokers
            self.partitions.update(message.body.partitions)
        return rpc.Response()

    # What clients, followers and coordinators ask

    def handle_produce(self, message: Message, now: int) -> Any:
        """Append; with acks=all the answer waits for the ISR."""
        acks = message.body.acks
        if acks not in (-1, 0, 1):
            raise KafkaError(Error.INVALID_REQUIRED_ACKS, str(acks))
        self.append(message.body, message if acks else None, now)

    def handle_write_txn_markers(self, message: Message, now: int) -> Any:
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

    def handle_list_offsets(self, message: Message, now: int) -> Any:
        """Where a log starts or ends."""
        return self.replica(message.body.topic_partition).list_offsets(message.body)

    def handle_offsets_for_leader_epoch(self, message: Message, now: int) -> Any:
        """Where an epoch ended."""
        return self.replica(message.body.topic_partition).offsets_for_leader_epoch(message.body)

    def handle_delete_records(self, message: Message, now: int) -> Any:
        """Delete, and wait for the followers."""
        here, offset, timeout = message.body
        offset = self.replica(here).delete_records(offset)
        self.wait(Delayed(message, message.body, now + timeout, "deleted", offset))

    def handle_metadata(self, message: Message, now: int) -> Any:
        """Who is there, and who leads what."""
        topics, live = message.body.topics, self.live_brokers
        partitions = [
            (here, one if one.leader in live else one._replace(leader=NO_LEADER))
            for here, one in self.partitions.items()
            if topics is None or here[0] in topics
        ]
        return rpc.MetadataResponse(live, self.controller_id, tuple(partitions))

    def handle_find_coordinator(self, message: Message, now: int) -> Any:
        """Who coordinates a group or a transactional id."""
        coordinator = self.coordinator(*message.body)
        return rpc.Response(Error.COORDINATOR_NOT_AVAILABLE if coordinator == NO_LEADER else Error.NONE, coordinator)


# Each returns the answer, None if it comes later or never.
HANDLERS: dict[type, Callable[[Broker, Message, int], Any]] = {
    rpc.ProduceRequest: Broker.handle_produce,
    rpc.FetchRequest: Broker.handle_fetch,
    rpc.ListOffsetsRequest: Broker.handle_list_offsets,
    rpc.OffsetsForLeaderEpochRequest: Broker.handle_offsets_for_leader_epoch,
    rpc.MetadataRequest: Broker.handle_metadata,
    rpc.DeleteRecordsRequest: Broker.handle_delete_records,
    rpc.FindCoordinatorRequest: Broker.handle_find_coordinator,
    rpc.WriteTxnMarkersRequest: Broker.handle_write_txn_markers,
    rpc.LeaderAndIsrRequest: Broker.handle_leader_and_isr,
    rpc.StopReplicaRequest: Broker.handle_stop_replica,
    rpc.UpdateMetadataRequest: Broker.handle_update_metadata,
}
RESPONSES = rpc.Response, rpc.FetchResponse
