"""What a client's error says about what it had asked for: certainly not written (fail), or nobody knows (info).

A wrong "fail" accuses a cluster of showing what was aborted; a wrong "info" only weakens a check. So "fail" is what
cannot have been written, and all else is "info":

1. What `produce()` itself refuses never left the client.
2. Some answers are about the record alone: a broker that refuses it refuses it each time.
3. Other answers mean "not written" by the attempt that they answer. They are certain only if no earlier attempt can
   have been written. librdkafka sends again, uncounted, what was answered with NOT_LEADER_FOR_PARTITION or
   UNKNOWN_TOPIC_OR_PART. With acks=all that is no "not written": a leader that has appended a batch, and loses its
   leadership while it waits for its followers, answers so too (kafka.server.DelayedProduce), and the batch may have
   been replicated. With acks 0 or 1 it is answered before anything is appended. So these are certain only with acks
   0 or 1, and without retries.
4. Timeouts, lost connections, NOT_ENOUGH_REPLICAS_AFTER_APPEND, storage errors (an append may have failed in its
   midst) and all that is said about sequence numbers leave it open.

Sources: librdkafka's rd_kafka_handle_Produce_error and rd_kafka_err_action; Kafka's ReplicaManager, DelayedProduce.
"""

from __future__ import annotations

OK, FAIL, INFO = "ok", "fail", "info"

REFUSED_FOR_ITSELF = frozenset(
    {
        "MSG_SIZE_TOO_LARGE",
        "RECORD_LIST_TOO_LARGE",
        "INVALID_RECORD",
        "INVALID_TIMESTAMP",
        "UNSUPPORTED_FOR_MESSAGE_FORMAT",
        "INVALID_REQUIRED_ACKS",
    }
)
REFUSED_ON_ARRIVAL = frozenset(
    {
        "NOT_LEADER_FOR_PARTITION",
        "LEADER_NOT_AVAILABLE",
        "UNKNOWN_TOPIC_OR_PART",
        "TOPIC_AUTHORIZATION_FAILED",
        "CLUSTER_AUTHORIZATION_FAILED",
        "INVALID_MSG",
        "POLICY_VIOLATION",
        "_UNKNOWN_TOPIC",
        "_UNKNOWN_PARTITION",
    }
)
NOT_ALLOWED = frozenset(
    {
        "TOPIC_AUTHORIZATION_FAILED",
        "GROUP_AUTHORIZATION_FAILED",
        "CLUSTER_AUTHORIZATION_FAILED",
        "TRANSACTIONAL_ID_AUTHORIZATION_FAILED",
        "SASL_AUTHENTICATION_FAILED",
        "_AUTHENTICATION",
    }
)
"""Errors that no patience helps against."""


def of_delivery(error: str, *, acks: str, retries_are_off: bool) -> str:
    """The outcome of a send whose delivery report has this error."""
    if error in REFUSED_FOR_ITSELF:
        return FAIL
    is_only_attempt = retries_are_off and acks in ("0", "1")
    return FAIL if is_only_attempt and error in REFUSED_ON_ARRIVAL else INFO
