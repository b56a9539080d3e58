"""Kafka's errors by their names and codes, and whether a client may try again.

Source: org.apache.kafka.common.protocol.Errors and the exceptions' superclass RetriableException.
"""

from __future__ import annotations

from enum import Enum


class Error(Enum):
    """An error code of Kafka's protocol: (code, retriable)."""

    NONE = (0, False)
    OFFSET_OUT_OF_RANGE = (1, False)
    UNKNOWN_TOPIC_OR_PARTITION = (3, True)
    LEADER_NOT_AVAILABLE = (5, True)
    NOT_LEADER_OR_FOLLOWER = (6, True)
    REQUEST_TIMED_OUT = (7, True)
    REPLICA_NOT_AVAILABLE = (9, True)
    STALE_CONTROLLER_EPOCH = (11, False)
    COORDINATOR_LOAD_IN_PROGRESS = (14, True)
    COORDINATOR_NOT_AVAILABLE = (15, True)
    NOT_COORDINATOR = (16, True)
    NOT_ENOUGH_REPLICAS = (19, True)
    NOT_ENOUGH_REPLICAS_AFTER_APPEND = (20, True)
    INVALID_REQUIRED_ACKS = (21, False)
    ILLEGAL_GENERATION = (22, False)
    INCONSISTENT_GROUP_PROTOCOL = (23, False)
    UNKNOWN_MEMBER_ID = (25, False)
    INVALID_SESSION_TIMEOUT = (26, False)
    REBALANCE_IN_PROGRESS = (27, False)
    NOT_CONTROLLER = (41, True)
    INVALID_REQUEST = (42, False)
    OUT_OF_ORDER_SEQUENCE_NUMBER = (45, False)
    DUPLICATE_SEQUENCE_NUMBER = (46, False)
    INVALID_PRODUCER_EPOCH = (47, False)
    INVALID_TXN_STATE = (48, False)
    INVALID_PRODUCER_ID_MAPPING = (49, False)
    INVALID_TRANSACTION_TIMEOUT = (50, False)
    CONCURRENT_TRANSACTIONS = (51, True)
    TRANSACTION_COORDINATOR_FENCED = (52, False)
    OPERATION_NOT_ATTEMPTED = (55, False)
    UNKNOWN_PRODUCER_ID = (59, False)
    FENCED_LEADER_EPOCH = (74, True)
    UNKNOWN_LEADER_EPOCH = (75, True)
    STALE_BROKER_EPOCH = (77, False)
    OFFSET_NOT_AVAILABLE = (78, True)
    MEMBER_ID_REQUIRED = (79, False)
    FENCED_INSTANCE_ID = (82, False)
    UNSTABLE_OFFSET_COMMIT = (88, True)
    PRODUCER_FENCED = (90, False)
    INVALID_UPDATE_VERSION = (95, False)
    INELIGIBLE_REPLICA = (107, False)
    NEW_LEADER_ELECTED = (108, False)
    TRANSACTION_ABORTABLE = (120, False)
    NETWORK_EXCEPTION = (13, True)
    UNKNOWN_SERVER_ERROR = (-1, False)

    @property
    def code(self) -> int:
        """The number on the wire."""
        return self.value[0]

    @property
    def is_retriable(self) -> bool:
        """Whether a client may send the same request again."""
        return self.value[1]


class KafkaError(Exception):
    """A request, or a step of a machine, was refused with an error of the protocol."""

    def __init__(self, error: Error, why: str = "") -> None:
        self.error = error
        super().__init__(f"{error.name}: {why}" if why else error.name)
