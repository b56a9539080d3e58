"""KIP-320 with single rules taken out again, each once shipped, proposed or warned of: does anybody notice?

Every mutant changes one decision point of `kip-320`, and each breaks a promise. A known bug is labelled by its mutant
rather than by the old variant that had it: the shortest counterexample of a variant can be another of its bugs.
The numbered rules are those that the published model states (kafka-specification, module Kip320).
"""

from __future__ import annotations

from hwmark.spec.lang import NONE, contains, only
from hwmark.spec.replication import base
from hwmark.spec.replication.base import (
    Offset,
    Partition,
    ReplicaId,
    begin_epoch,
    is_following,
    max_epoch,
)
from hwmark.spec.replication.variants import end_of_last_match, has_reached_leader_epoch, kip_320, log_end_offset

# ---------------------------------------------------------------------------------------------- joining the ISR

noleso = kip_320.derive(
    "kip-320-noleso",
    why="KAFKA-7128: a follower joins the ISR at a high watermark that has not reached the leader epoch's start offset",
    may_join_isr=base.may_join_isr,
)


def names_leader(s: Partition, leader: ReplicaId, follower: ReplicaId) -> bool:
    """Whether a replica believes in this leader, in whatever epoch: what `is_following` meant before KIP-320."""
    return s.replicas[follower].leader == leader


def is_caught_up_in_any_epoch(s: Partition, leader: ReplicaId, follower: ReplicaId) -> bool:
    """Whether a follower has all below a high watermark that reached the leader's epoch; its own epoch is not asked."""
    return (
        names_leader(s, leader, follower)
        and s.replicas[leader].high_watermark <= len(s.logs[follower])
        and has_reached_leader_epoch(s, leader)
    )


expandepoch = kip_320.derive(
    "kip-320-expandepoch",
    why="rule 4 of KIP-320: a follower joins the ISR before it has acknowledged the leader's epoch",
    may_join_isr=is_caught_up_in_any_epoch,
)


def follows_with_any_log(s: Partition, leader: ReplicaId, follower: ReplicaId) -> bool:
    """Whether a follower is in the leader's epoch, once the high watermark has reached that; its log is not asked."""
    return is_following(s, leader, follower) and has_reached_leader_epoch(s, leader)


expandhw = kip_320.derive(
    "kip-320-expandhw",
    why="a follower joins the ISR below the high watermark",
    may_join_isr=follows_with_any_log,
)

# ---------------------------------------------------------------------------------------- fetching and counting


def has_replicated_in_any_epoch(s: Partition, leader: ReplicaId, follower: ReplicaId, offset: Offset) -> bool:
    """Whether a replica believes in this leader and has a record at the offset, in whatever epoch it is."""
    return names_leader(s, leader, follower) and offset < len(s.logs[follower])


hwepoch = kip_320.derive(
    "kip-320-hwepoch",
    why="rule 3 of KIP-320: the high watermark counts followers that have not acknowledged the leader's epoch",
    has_acknowledged=has_replicated_in_any_epoch,
)

fetchepoch = kip_320.derive(
    "kip-320-fetchepoch",
    why="KAFKA-6880: a fetch carries no leader epoch, so that a follower may replicate from a zombie",
    may_fetch=names_leader,
)

# --------------------------------------------------------------------------------------------------- truncation

truncunfenced = kip_320.derive(
    "kip-320-truncunfenced",
    why="rule 2 of KIP-320: a follower asks a leader that is in another epoch where to truncate",
    may_become_follower=base.may_become_follower,
)

notrunc = kip_320.derive(
    "kip-320-notrunc",
    why="no truncation: a follower fetches on from the end of its log, whatever it holds",
    truncation_offset=log_end_offset,
)


def end_of_last_match_with_a_new_leader(s: Partition, leader: ReplicaId, follower: ReplicaId) -> int:
    """As KIP-279 finds it where the leader's id is new; else the end of the follower's own log."""
    if s.replicas[follower].leader == leader:
        return len(s.logs[follower])
    return end_of_last_match(s, leader, follower)


sameleader = kip_320.derive(
    "kip-320-sameleader",
    why="KAFKA-7164: a follower that missed an epoch does not truncate if the leader's id is the one it knows",
    truncation_offset=end_of_last_match_with_a_new_leader,
)

hwtrunc = kip_320.derive(
    "kip-320-hwtrunc",
    why="a follower truncates to its own high watermark, as before KIP-101, with all of KIP-320's fencing",
    truncation_offset=base.truncation_offset,
)

# ----------------------------------------------------------------------------------------------------- election


def controller_elect_unclean_leader(s: Partition, leader: ReplicaId) -> bool:
    """With no leader left, the controller elects a replica outside the ISR, and the ISR is that replica alone.

    Kafka does so only when the ISR is dead (unclean.leader.election.enable); deaths are not modelled.
    """
    if s.next_leader_epoch > max_epoch or s.quorum.leader != NONE or contains(s.quorum.isr, leader):
        return False
    begin_epoch(s, leader, only(leader))
    return True


unclean = kip_320.derive(
    "kip-320-unclean",
    why="unclean election: with no leader, a replica outside the ISR is elected, and others truncate to its log",
    adds=(controller_elect_unclean_leader,),
)

MUTANTS = (
    noleso, truncunfenced, hwepoch, fetchepoch, expandepoch, expandhw, unclean, notrunc, sameleader, hwtrunc,
)  # fmt: skip
"""In the order of the published table."""
