"""Kafka's errors by their names and codes, those that can occur here, and whether a client may try again.

Source: org.apache.kafka.common.protocol.Errors and the exceptions' superclass RetriableException.
"""

from __future__ import annotations

from enum import Enum

RETRIABLE = frozenset((3, 6, 7, 14, 15, 16, 19, 20, 41, 51, 74, 75, 78, 88))


class Error(Enum):
    """An error of Kafka's protocol; its value is the code on the wire."""

    _value_: int
    UNKNOWN_SERVER_ERROR, NONE, REQUEST_TIMED_OUT, INVALID_REQUEST = -1, 0, 7, 42
    # Partitions.
    OFFSET_OUT_OF_RANGE, UNKNOWN_TOPIC_OR_PARTITION, NOT_LEADER_OR_FOLLOWER = 1, 3, 6
    NOT_ENOUGH_REPLICAS, NOT_ENOUGH_REPLICAS_AFTER_APPEND = 19, 20
    FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH, OFFSET_NOT_AVAILABLE = 74, 75, 78
    # Coordinators and groups.
    COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR = 14, 15, 16
    ILLEGAL_GENERATION, INCONSISTENT_GROUP_PROTOCOL, INVALID_GROUP_ID, UNKNOWN_MEMBER_ID = 22, 23, 24, 25
    INVALID_SESSION_TIMEOUT, REBALANCE_IN_PROGRESS, MEMBER_ID_REQUIRED = 26, 27, 79
    FENCED_INSTANCE_ID, UNSTABLE_OFFSET_COMMIT = 82, 88
    # Producers and transactions.
    OUT_OF_ORDER_SEQUENCE_NUMBER, INVALID_PRODUCER_EPOCH, INVALID_TXN_STATE = 45, 47, 48
    INVALID_PRODUCER_ID_MAPPING, INVALID_TRANSACTION_TIMEOUT, CONCURRENT_TRANSACTIONS = 49, 50, 51
    TRANSACTION_COORDINATOR_FENCED, PRODUCER_FENCED, TRANSACTION_ABORTABLE = 52, 90, 120
    # The controller.
    STALE_CONTROLLER_EPOCH, NOT_CONTROLLER, OPERATION_NOT_ATTEMPTED, STALE_BROKER_EPOCH = 11, 41, 55, 77
    INVALID_UPDATE_VERSION, INELIGIBLE_REPLICA, INVALID_REPLICA_ASSIGNMENT = 95, 107, 39

    @property
    def is_retriable(self) -> bool:
        """Whether a client may send the same request again."""
        return self.value in RETRIABLE


class KafkaError(Exception):
    """A request, or a step of a machine, was refused with an error of the protocol."""

    def __init__(self, error: Error, why: str = "") -> None:
        self.error = error
        super().__init__(f"{error.name}: {why}" if why else error.name)
