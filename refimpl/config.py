"""What a cluster is made of, as data: versions by their KIPs, settings by Kafka's names, topics and clients."""

from __future__ import annotations

from typing import NamedTuple

from hwmark.refimpl.batches import TopicPartition
from hwmark.refimpl.partition_change import BrokerIds

OFFSETS_TOPIC, TRANSACTIONS_TOPIC = "__consumer_offsets", "__transaction_state"


class Topic(NamedTuple):
    """A topic: the replicas of each of its partitions, the preferred leader first."""

    name: str
    assignment: tuple[BrokerIds, ...]
    is_compacted: bool = False


class ClusterConfig(NamedTuple):
    """The same for all machines of a cluster; times in ms. The flags are off where a version is older than the KIP."""

    brokers: BrokerIds = (1, 2, 3)
    topics: tuple[Topic, ...] = ()  # the internal ones too
    kip_101: bool = True  # a follower asks where its last epoch ended; before, it truncated to its high watermark
    kip_279: bool = True  # the answer says which epoch it is about
    kip_320: bool = True  # leader epochs in every fetch; consumers detect truncation
    kip_360: bool = True  # a producer goes on after an error by naming its epoch
    kip_380: bool = True  # broker epochs fence requests to and of a former incarnation of a broker
    kip_429: bool = True  # cooperative rebalances can be chosen
    kip_447: bool = True  # transactional commits are fenced by generation, undecided offsets are not fetched
    kip_497: bool = True  # leaders ask the controller to change the ISR; before, they wrote it to ZooKeeper
    kip_595: bool = True  # a fetch says from which epoch it goes on
    kip_890: bool = True  # transactions are verified, and each end of one bumps the epoch
    kip_966: bool = False  # eligible leader replicas; the high watermark waits for min.insync.replicas
    min_insync_replicas: int = 1
    unclean_leader_election: bool = False
    flushes_every_append: bool = False  # log.flush.interval.messages=1; else only what was flushed outlives a power cut
    replica_lag_time_max: int = 30_000
    replica_fetch_wait_max: int = 500
    replica_fetch_max_records: int = 2**31
    high_watermark_checkpoint_interval: int = 5_000
    zookeeper_session_timeout: int = 18_000
    request_timeout: int = 30_000
    retry_backoff: int = 100
    segment_records: int = 2**31  # a log rolls when its active segment spans that many offsets
    transaction_timeout_max: int = 900_000
    offsets_retention: int = 604_800_000

    def partition_count(self, topic: str) -> int:
        """How many partitions a topic has; one that is not configured has one."""
        return next((len(one.assignment) for one in self.topics if one.name == topic), 1)

    def assignment(self) -> dict[TopicPartition, BrokerIds]:
        """The replicas of every partition."""
        return {(topic.name, i): replicas for topic in self.topics for i, replicas in enumerate(topic.assignment)}
