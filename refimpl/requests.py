"""What brokers and clients ask of each other, and the answers; a refusal is an answer's error alone.

Data requests are about one partition. Offsets, epochs and ids of -1 are not given, times are in ms, `max_records`
stands for bytes. Requests to a coordinator have the arguments of its method. Source: org.apache.kafka.common.requests.
"""

# ruff: noqa: D101
from __future__ import annotations

from typing import Any, NamedTuple

from hwmark.refimpl.batches import Batch, EpochEndOffset, Producer, TopicPartition
from hwmark.refimpl.errors import Error
from hwmark.refimpl.group_coordinator import Assignments, Commits, ConsumerGroupMetadata, Protocols
from hwmark.refimpl.partition_change import BrokerIds, PartitionRegistration

LATEST, EARLIEST = -1, -2  # timestamps that ListOffsets knows
CONSUMER = -1  # the replica id of one that is no replica


class FetchRequest(NamedTuple):
    topic_partition: TopicPartition
    fetch_offset: int
    current_leader_epoch: int = -1
    last_fetched_epoch: int = -1
    replica_id: int = CONSUMER
    max_records: int = 2**31
    is_read_committed: bool = False
    max_wait: int = 0  # for a record


class FetchResponse(NamedTuple):
    error: Error = Error.NONE
    batches: list[Batch] | tuple[()] = ()
    high_watermark: int = -1
    last_stable_offset: int = -1
    log_start_offset: int = -1
    diverging_epoch: EpochEndOffset | None = None  # where the leader's log leaves the epoch that was fetched last
    aborted: tuple[tuple[int, int], ...] = ()  # transactions, if they are not to be read: producer id, first offset


class ListOffsetsRequest(NamedTuple):  # value: the offset
    topic_partition: TopicPartition
    timestamp: int
    current_leader_epoch: int = -1
    replica_id: int = CONSUMER
    is_read_committed: bool = False


class OffsetsForLeaderEpochRequest(NamedTuple):  # value: EpochEndOffset
    topic_partition: TopicPartition
    leader_epoch: int
    current_leader_epoch: int = -1


class AlterPartitionRequest(NamedTuple):  # value: partition epoch and ISR
    topic_partition: TopicPartition
    broker_id: int
    leader_epoch: int
    partition_epoch: int
    isr: BrokerIds


class Response(NamedTuple):
    """The answer to any request that has no response of its own; its `value` is said there."""

    error: Error = Error.NONE
    value: Any = None


class ProduceRequest(NamedTuple):  # value: the base offset; acks 0 gets no answer
    topic_partition: TopicPartition
    batch: Batch
    acks: int = -1
    transactional_id: str | None = None


class DeleteRecordsRequest(NamedTuple):  # value: the leader's log start offset
    topic_partition: TopicPartition
    offset: int


class MetadataRequest(NamedTuple):  # value: (partition, registration) of each
    topics: tuple[str, ...] | None = None  # None: all


class FindCoordinatorRequest(NamedTuple):  # value: a broker id
    key: str
    is_transaction: bool = False


class InitProducerIdRequest(NamedTuple):  # value: (producer id, epoch)
    transactional_id: str | None
    transaction_timeout: int = 60_000
    expected: tuple[int, int] | None = None  # KIP-360


class AddPartitionsToTxnRequest(NamedTuple):  # value: errors by partition if `verify_only` (KIP-890)
    producer: Producer
    topic_partitions: tuple[TopicPartition, ...]
    verify_only: bool = False


class AddOffsetsToTxnRequest(NamedTuple):
    producer: Producer
    group_id: str


class TxnOffsetCommitRequest(NamedTuple):
    who: ConsumerGroupMetadata
    commits: Commits
    producer: Producer


class EndTxnRequest(NamedTuple):  # value: (producer id, epoch) of the next transaction
    producer: Producer
    result: str
    version: int


class WriteTxnMarkersRequest(NamedTuple):
    topic_partition: TopicPartition
    producer_id: int
    producer_epoch: int
    coordinator_epoch: int
    result: str


class JoinGroupRequest(NamedTuple):  # value: JoinGroupResponse
    who: ConsumerGroupMetadata
    protocols: Protocols
    session_timeout: int = 45_000
    rebalance_timeout: int = 300_000


class SyncGroupRequest(NamedTuple):  # value: the assignment
    who: ConsumerGroupMetadata
    assignments: Assignments = ()


class HeartbeatRequest(NamedTuple):
    who: ConsumerGroupMetadata


class LeaveGroupRequest(NamedTuple):
    who: ConsumerGroupMetadata


class OffsetCommitRequest(NamedTuple):
    who: ConsumerGroupMetadata
    commits: Commits


class OffsetFetchRequest(NamedTuple):  # value: (partition, error, OffsetAndMetadata) of each
    who: ConsumerGroupMetadata
    topic_partitions: tuple[TopicPartition, ...]
    require_stable: bool = False


class LeaderAndIsrRequest(NamedTuple):
    """The controller says what partitions are like; of others all stays as it was.

    One request for three of Kafka's: who leads, and who follows (LeaderAndIsr); what brokers answer Metadata with
    (UpdateMetadata); who is no replica any more, and deletes its log (StopReplica).
    """

    controller_id: int
    controller_epoch: int
    broker_epoch: int
    partitions: tuple[tuple[TopicPartition, PartitionRegistration], ...]


class AlterPartitionReassignmentsRequest(NamedTuple):  # to the controller
    topic_partition: TopicPartition
    replicas: BrokerIds | None  # None: take a reassignment back


class ElectLeadersRequest(NamedTuple):  # to the controller
    topic_partition: TopicPartition
    election: str  # PREFERRED or UNCLEAN


FollowerRequest = FetchRequest | OffsetsForLeaderEpochRequest | ListOffsetsRequest


def refusal(request: Any, error: Error) -> Any:
    """The answer to a request that is refused."""
    return FetchResponse(error) if isinstance(request, FetchRequest) else Response(error)
