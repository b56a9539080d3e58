"""What both coordinators have in common: which partition keeps a key, and what a failed append means to a client.

Source: GroupMetadataManager, TransactionStateManager, Utils.abs of Java's String.hashCode.
"""

from __future__ import annotations

from functools import cache

from hwmark.refimpl.errors import Error

UNAVAILABLE = Error.UNKNOWN_TOPIC_OR_PARTITION, Error.NOT_ENOUGH_REPLICAS, Error.NOT_ENOUGH_REPLICAS_AFTER_APPEND
# Other errors stay as they are.
APPEND_ERRORS = dict.fromkeys(UNAVAILABLE, Error.COORDINATOR_NOT_AVAILABLE)
APPEND_ERRORS[Error.NOT_LEADER_OR_FOLLOWER] = Error.NOT_COORDINATOR


@cache
def partition_for(key: str, partition_count: int) -> int:
    """The partition of the coordinator's topic that keeps a group or a transactional id."""
    code = 0
    for unit in memoryview(key.encode("utf-16-le")).cast("H"):
        code = (31 * code + unit) % 2**32
    return min(code, 2**32 - code) % 2**31 % partition_count
