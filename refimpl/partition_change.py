"""How the controller changes a partition: elect a leader, bump its epoch, keep the eligible leaders, move its replicas.

A caller says what it wants as a registration (`partition._replace(isr=...)`); the builder answers the one that comes of
it, with a leader who may lead and with its epochs.

Not modelled: log directories (KIP-858), remembering more than the leader of an ISR that has become empty. Kafka logs
that the last known leader is down and elects it all the same; here it has to be up, as KIP-966 says.

Source: PartitionRegistration, PartitionChangeBuilder, PartitionReassignmentReplicas and PartitionReassignmentRevert;
KIP-455 (reassignment), KIP-704 (leader recovery), KIP-966 (eligible leader replicas).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

NO_LEADER = -1
RECOVERED, RECOVERING = "RECOVERED", "RECOVERING"
# An election keeps the partition online; PREFERRED tries the first replica first, UNCLEAN takes any live one at last.
ONLINE, PREFERRED, UNCLEAN = "ONLINE", "PREFERRED", "UNCLEAN"

BrokerIds = tuple[int, ...]


class PartitionRegistration(NamedTuple):
    """What the controller knows of a partition."""

    replicas: BrokerIds
    isr: BrokerIds
    leader: int
    leader_epoch: int = 0
    partition_epoch: int = 0
    adding: BrokerIds = ()
    removing: BrokerIds = ()
    elr: BrokerIds = ()
    last_known_elr: BrokerIds = ()
    recovery: str = RECOVERED


class PartitionChangeBuilder(NamedTuple):
    """Who may lead, and the rules: what depends on the topic's configuration and the cluster's version.

    `may_lead` says which brokers are up; `unclean_shutdown` names those that may have lost their unflushed records.
    """

    partition: PartitionRegistration
    may_lead: Callable[[int], bool]
    min_isr: int
    election: str = ONLINE
    eligible_leader_replicas: bool = False  # KIP-966
    unclean_shutdown: BrokerIds = ()
    unclean_recovery: str = RECOVERING  # an unclean leader's, since 3.2 (KIP-704)
    bump_on_isr_shrink: bool = False  # before 3.6 (KAFKA-15021)
    always_bump: bool = False  # a change of the controller's own in ZooKeeper's style

    def build(self, target: PartitionRegistration) -> PartitionRegistration:
        """What comes of the target (its replicas, isr, adding, removing, recovery)."""
        target = self.install_leader(self.populate_elr(complete_reassignment(target)))
        if not self.eligible_leader_replicas and not target.isr:
            target = target._replace(isr=self.partition.isr)
        return self.bump_epochs(self.remember_last_leader(target))

    def elect_leader(self, target: PartitionRegistration) -> tuple[int, bool]:
        """The leader, or NO_LEADER, and whether it is unclean: not in the ISR nor, where that is empty, in the ELR.

        A leader that may go on does so, unless the preferred replica is asked for and may lead. After those who have
        all that is committed come the last known leader, if it is all that is known, and whoever lives, if UNCLEAN.
        """
        eligible, preferred = target.isr or target.elr, target.replicas[: self.election == PREFERRED]
        known = [replica for replica in (*preferred, target.leader, *target.replicas) if replica in eligible]
        last_leader = () if eligible else target.last_known_elr
        others = target.replicas if self.election == UNCLEAN else ()
        for replica in (*known, *last_leader, *others):
            if self.may_lead(replica):
                return replica, replica not in known
        return NO_LEADER, False

    def install_leader(self, target: PartitionRegistration) -> PartitionRegistration:
        """The target with its leader: alone in the ISR if it was not there; after an unclean election it recovers."""
        leader, is_unclean = self.elect_leader(target)
        if is_unclean:
            return forget_elr(target)._replace(leader=leader, isr=(leader,), recovery=self.unclean_recovery)
        isr = (leader,) if leader in target.elr else target.isr
        return target._replace(leader=leader, isr=isr, elr=without(target.elr, (leader,)))

    def populate_elr(self, target: PartitionRegistration) -> PartitionRegistration:
        """Whoever leaves an ISR below its minimum stays eligible, unless it is no replica any more: the high watermark
        stands still meanwhile. As many replicas as are left after a reassignment are enough.
        """
        if not self.eligible_leader_replicas or len(target.isr) >= min(self.min_isr, len(target.replicas)):
            return forget_elr(target)
        elr = {*target.elr, *self.partition.isr} & {*target.replicas} - {*target.isr, *self.unclean_shutdown}
        return target._replace(elr=tuple(sorted(elr)))

    def remember_last_leader(self, target: PartitionRegistration) -> PartitionRegistration:
        """The leader that leaves an empty ISR behind is remembered until there is a leader again."""
        if target.leader != NO_LEADER:
            return target._replace(last_known_elr=())
        is_emptied = self.partition.leader != NO_LEADER and not target.isr
        return target._replace(last_known_elr=(self.partition.leader,)) if is_emptied else target

    def bump_epochs(self, target: PartitionRegistration) -> PartitionRegistration:
        """The target with its epochs. A leader epoch begins with a leader; and under the same one if a replica leaves
        the partition, so that it learns it, or for brokers of old versions if the ISR shrinks.
        """
        old = self.partition
        if target == old:
            return old
        gone, shrunk = without(old.replicas, target.replicas), without(old.isr, target.isr)
        is_new = self.always_bump or target.leader != old.leader or gone or (shrunk and self.bump_on_isr_shrink)
        return target._replace(leader_epoch=old.leader_epoch + bool(is_new), partition_epoch=old.partition_epoch + 1)


def forget_elr(target: PartitionRegistration) -> PartitionRegistration:
    """The target without leaders that are eligible, or were known."""
    return target._replace(elr=(), last_known_elr=())


def start_reassignment(partition: PartitionRegistration, replicas: BrokerIds) -> PartitionRegistration:
    """The target that moves the partition: old and new replicas together until the new ones are in the ISR."""
    removing = tuple(sorted(without(partition.replicas, replicas)))
    adding = tuple(sorted(without(replicas, partition.replicas))) or partition.adding
    return partition._replace(replicas=replicas + removing, adding=adding, removing=removing or partition.removing)


def complete_reassignment(target: PartitionRegistration) -> PartitionRegistration:
    """The target without the replicas to remove, as soon as all others are in the ISR."""
    replicas, isr = without(target.replicas, target.removing), without(target.isr, target.removing)
    if not (target.adding or target.removing) or not (replicas and isr) or not set(replicas) <= set(isr):
        return target
    return target._replace(replicas=replicas, isr=isr, adding=(), removing=())


def revert_reassignment(partition: PartitionRegistration) -> tuple[PartitionRegistration, bool]:
    """The target that takes a reassignment back, and whether that is unclean: all in the ISR were to be added.

    Then the first replica is put there.
    """
    replicas, isr = without(partition.replicas, partition.adding), without(partition.isr, partition.adding)
    return partition._replace(replicas=replicas, isr=isr or replicas[:1], adding=(), removing=()), not isr


def without(brokers: BrokerIds, others: BrokerIds) -> BrokerIds:
    """The brokers that are not among the others, in their order."""
    return tuple(broker for broker in brokers if broker not in others)
