"""The coordinators that a broker hosts: of transactions and of groups, for the internal partitions that it leads.

They decide; this component gives them their logs, their clients and their time. The Broker hands in what happened and
does the effects that come back:

    Reply       answer a request
    AppendTo    append to the own replica with acks=all and the origin COORDINATOR, and call `on_appended` once, when
                the high watermark passed it or it failed: NOT_LEADER_OR_FOLLOWER if the replica does not lead in that
                leader epoch (any more). With a `transactional_id` it is a client's, to be verified first (KIP-890)
    AskBroker   send a request to a broker, itself perhaps, and call `on_response` once

Outcomes of appends come in the order of the log, and before `on_high_watermark` of the same step. `send_markers` ends
every step that called anything here or changed the metadata; a marker that has no leader waits for one there. Markers
to be written, also those in __consumer_offsets, are the Broker's (WriteTxnMarkers), and so is FindCoordinator.

Both coordinators load a partition when the high watermark covers what its log held at the election, for what a new
leader has may yet be lost; until then they are loading. Kafka loads up to the log end offset at once.

Source: KafkaApis, TransactionMarkerChannelManager, TransactionStateManager, GroupMetadataManager, RPCProducerIdManager.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hwmark.refimpl.batches import Batch, TopicPartition
from hwmark.refimpl.config import ClusterConfig
from hwmark.refimpl.errors import Error
from hwmark.refimpl.log import Log
from hwmark.refimpl.machine import Address, Message
from hwmark.refimpl.partition_change import PartitionRegistration
from hwmark.refimpl.requests import Response


class Reply(NamedTuple):
    """Effect: answer the request of that correlation id."""

    destination: Address
    correlation: int
    body: Response


class AppendTo(NamedTuple):
    """Effect: append a batch as the leader of that epoch; its offsets count from 0."""

    topic_partition: TopicPartition
    leader_epoch: int
    batch: Batch
    context: Hashable
    transactional_id: str | None = None


class AskBroker(NamedTuple):
    """Effect: send a request to a broker."""

    broker_id: int
    body: Any
    context: Hashable


Effects = list[Reply | AppendTo | AskBroker]


@dataclass(slots=True)
class Coordinators:
    """The coordinators of one broker, in memory only: a restarted broker loads them from its logs.

    `needs_producer_ids`: ask the controller for a block, and give it to `give_producer_ids`.
    """

    config: ClusterConfig
    needs_producer_ids: bool = field(default=False, init=False)

    def coordinator_partition(self, key: str, is_transaction: bool) -> TopicPartition:
        """The partition whose leader coordinates a transactional id, or a group (FindCoordinator)."""
        raise NotImplementedError

    def give_producer_ids(self, block: tuple[int, int]) -> None:
        """Producer ids from the controller: (first, end)."""
        raise NotImplementedError

    def handle(self, message: Message, now: int) -> Effects:
        """A request of a client; of a broker, AddPartitionsToTxn with `verify_only`. It is answered once, or parked."""
        raise NotImplementedError

    def on_leader(self, topic_partition: TopicPartition, log: Log, leader_epoch: int, now: int) -> Effects:
        """The broker leads a partition in a new epoch; nothing happens unless the partition is an internal one."""
        raise NotImplementedError

    def on_follower(self, topic_partition: TopicPartition, now: int) -> Effects:
        """The broker does not lead the partition (any more); what waited is refused."""
        raise NotImplementedError

    def on_high_watermark(self, topic_partition: TopicPartition, log: Log, now: int) -> Effects:
        """The high watermark of a partition that the broker leads has moved."""
        raise NotImplementedError

    def on_appended(self, context: Hashable, error: Error, base_offset: int, now: int) -> Effects:
        """An AppendTo is replicated (NONE) at that offset, or has failed (offset -1)."""
        raise NotImplementedError

    def on_response(self, context: Hashable, response: Response | None, now: int) -> Effects:
        """An AskBroker is answered, or nobody did in time (None)."""
        raise NotImplementedError

    def send_markers(self, partitions: Mapping[TopicPartition, PartitionRegistration]) -> Effects:
        """WriteTxnMarkers to the leaders, as far as the broker's metadata (UpdateMetadata) knows them."""
        raise NotImplementedError

    def tick(self, now: int) -> Effects:
        """Do what is due; harmless before."""
        raise NotImplementedError

    def deadline(self) -> int | None:
        """When to tick."""
        raise NotImplementedError
