"""KIP-848 with single rules taken out: what each of them is for.

The rules are why a partition can change hands while its group goes on. No mutant lacks the fencing of member epochs:
without `should_fence` every invariant still holds at 2 clients and 1 perturbation, since whoever lost a membership
is unknown by then, and only a client that leaves, and gives everything up, lags behind in epochs.
"""

from __future__ import annotations

from hwmark.spec.consumer_group.client import has_news
from hwmark.spec.consumer_group.protocol import kip_848
from hwmark.spec.consumer_group.state import JOIN_GROUP_MEMBER_EPOCH, Client, Group, Member, Partitions
from hwmark.spec.lang import NONE


def free_or_not(s: Group, wanted: Partitions) -> Partitions:
    """Every wanted partition, whoever owns it: the partition epochs are not asked."""
    return wanted


ignores_partition_epochs = kip_848.derive(
    "kip-848-ignores-partition-epochs",
    why="the coordinator hands out a partition that another member still owns",
    free_partitions=free_or_not,
)


def no_wait(member: Member) -> bool:
    """The next heartbeat counts as the end of a revocation, whatever the member says that it has."""
    return True


ignores_topic_partitions = kip_848.derive(
    "kip-848-ignores-topic-partitions",
    why="the coordinator takes a partition to be revoked at the member's next heartbeat",
    has_revoked=no_wait,
)


def target_to_send(client: Client) -> int:
    """What the client is about to have, in place of what it has."""
    return client.target_assignment if has_news(client) else NONE


acknowledges_before_revoking = kip_848.derive(
    "kip-848-acknowledges-before-revoking",
    why="a client tells the coordinator of its target assignment before it has reconciled",
    topic_partitions_to_send=target_to_send,
)


def keep_partitions(client: Client) -> None:
    """A fenced client forgets its membership alone."""
    client.member_id = NONE
    client.member_epoch = JOIN_GROUP_MEMBER_EPOCH


fenced_keeps_partitions = kip_848.derive(
    "kip-848-fenced-keeps-partitions",
    why="a fenced client joins again with the partitions that it had",
    give_up_membership=keep_partitions,
)

MUTANTS = (
    ignores_partition_epochs,
    ignores_topic_partitions,
    acknowledges_before_revoking,
    fenced_keeps_partitions,
)
