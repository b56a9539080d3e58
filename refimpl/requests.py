"""What brokers and clients ask of the leader of one partition, and its answers; a refusal is an answer's error alone.

Offsets, epochs and ids of -1 are not given. `max_records` stands for bytes. Source: org.apache.kafka.common.requests.
"""

# ruff: noqa: D101
from __future__ import annotations

from typing import NamedTuple

from hwmark.refimpl.batches import Batch, TopicPartition
from hwmark.refimpl.errors import Error
from hwmark.refimpl.leader_epochs import UNDEFINED, EpochEndOffset

LATEST, EARLIEST = -1, -2  # timestamps that ListOffsets knows
CONSUMER = -1  # the replica id of one that is no replica


class FetchRequest(NamedTuple):
    topic_partition: TopicPartition
    fetch_offset: int
    current_leader_epoch: int = -1
    last_fetched_epoch: int = -1
    replica_id: int = CONSUMER
    log_start_offset: int = -1
    max_records: int = 2**31
    is_read_committed: bool = False


class FetchResponse(NamedTuple):
    error: Error = Error.NONE
    batches: list[Batch] | tuple[()] = ()
    high_watermark: int = -1
    last_stable_offset: int = -1
    log_start_offset: int = -1
    diverging_epoch: EpochEndOffset | None = None  # where the leader's log leaves the epoch that was fetched last
    aborted: list[tuple[int, int]] | None = None


class ListOffsetsRequest(NamedTuple):
    topic_partition: TopicPartition
    timestamp: int
    current_leader_epoch: int = -1
    replica_id: int = CONSUMER
    is_read_committed: bool = False


class ListOffsetsResponse(NamedTuple):
    error: Error = Error.NONE
    offset: int = -1
    leader_epoch: int = -1


class OffsetsForLeaderEpochRequest(NamedTuple):
    topic_partition: TopicPartition
    leader_epoch: int
    current_leader_epoch: int = -1


class OffsetsForLeaderEpochResponse(NamedTuple):
    error: Error = Error.NONE
    end_offset: EpochEndOffset = UNDEFINED


class AlterPartitionRequest(NamedTuple):
    topic_partition: TopicPartition
    broker_id: int
    leader_epoch: int
    partition_epoch: int
    isr: tuple[int, ...]


class AlterPartitionResponse(NamedTuple):
    error: Error = Error.NONE
    partition_epoch: int = -1
    isr: tuple[int, ...] = ()


FollowerRequest = FetchRequest | OffsetsForLeaderEpochRequest | ListOffsetsRequest
FollowerResponse = FetchResponse | OffsetsForLeaderEpochResponse | ListOffsetsResponse
