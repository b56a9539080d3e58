"""How the controller changes a partition: elect a leader, bump its epoch, keep the eligible leaders, move its replicas.

A caller says what it wants as a registration (`partition._replace(isr=...)`); the builder answers the change that gets
there, with a leader who may lead, or None if nothing changes.

Not modelled: log directories (KIP-858). Kafka logs that the last known leader is down and elects it all the same; here
it has to be up, as KIP-966 says.

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

    def merge(self, change: PartitionChange) -> PartitionRegistration:
        """The registration after a change; a change that names a leader, even the same, begins a leader epoch."""
        changed = {name: value for name, value in change._asdict().items() if value is not None}
        leader_epoch = self.leader_epoch + (change.leader is not None)
        return self._replace(leader_epoch=leader_epoch, partition_epoch=self.partition_epoch + 1, **changed)


class PartitionChange(NamedTuple):
    """The fields that change; None stands for no change."""

    replicas: BrokerIds | None = None
    isr: BrokerIds | None = None
    leader: int | None = None
    adding: BrokerIds | None = None
    removing: BrokerIds | None = None
    elr: BrokerIds | None = None
    last_known_elr: BrokerIds | None = None
    recovery: str | None = None


class PartitionChangeBuilder(NamedTuple):
    """Who may lead, and the rules: what depends on the topic's configuration and the cluster's version.

    `may_lead` says which brokers are up; `unclean_shutdown` names those that may have lost their unflushed records.
    """

    partition: PartitionRegistration
    may_lead: Callable[[int], bool]
    min_isr: int
    election: str = ONLINE
    unclean_shutdown: BrokerIds = ()
    eligible_leader_replicas: bool = False  # KIP-966
    use_last_known_leader: bool = True  # with the former: last_known_elr holds the last leader alone
    leader_recovery: bool = True  # KIP-704, since 3.2
    bump_on_isr_shrink: bool = False  # before 3.6 (KAFKA-15021)

    def build(self, target: PartitionRegistration) -> PartitionChange | None:
        """The change that gets to the target (its replicas, isr, adding, removing, recovery), None if there is none."""
        target = complete_reassignment(target)
        if self.eligible_leader_replicas:
            target = self.populate_elr(target)
        target = self.install_leader(target)
        if not self.eligible_leader_replicas:
            target = self.forget_elr(target)._replace(isr=target.isr or self.partition.isr)
        elif self.use_last_known_leader:
            target = self.remember_last_leader(target)
        return self.difference(target)

    def elect_leader(self, target: PartitionRegistration) -> tuple[int, bool]:
        """The leader, or NO_LEADER, and whether it is unclean: not in the ISR nor, where that is empty, in the ELR.

        A leader that may go on does so, unless the preferred replica is asked for and may lead.
        """
        eligible = target.isr or target.elr
        preferred = target.replicas[:1] if self.election == PREFERRED else ()
        for replica in (*preferred, target.leader, *target.replicas):
            if replica in eligible and self.may_lead(replica):
                return replica, False
        for replica in self.unclean_candidates(target):
            if self.may_lead(replica):
                return replica, True
        return NO_LEADER, False

    def unclean_candidates(self, target: PartitionRegistration) -> BrokerIds:
        """The last known leader, if it is all that is known; then any replica, if the election is UNCLEAN."""
        has_last_leader = self.eligible_leader_replicas and self.use_last_known_leader
        has_last_leader &= not (target.isr or target.elr) and len(target.last_known_elr) == 1
        last_leader = target.last_known_elr if has_last_leader else ()
        return last_leader + (target.replicas if self.election == UNCLEAN else ())

    def install_leader(self, target: PartitionRegistration) -> PartitionRegistration:
        """The target with its leader: alone in the ISR if it was not there; after an unclean election it recovers."""
        leader, is_unclean = self.elect_leader(target)
        if is_unclean:
            recovery = RECOVERING if self.leader_recovery else target.recovery
            return self.forget_elr(target)._replace(leader=leader, isr=(leader,), recovery=recovery)
        if leader in target.elr:
            return target._replace(leader=leader, isr=(leader,), elr=without(target.elr, (leader,)))
        return target._replace(leader=leader)

    def populate_elr(self, target: PartitionRegistration) -> PartitionRegistration:
        """Whoever leaves an ISR below its minimum stays eligible, unless it is no replica any more: the high watermark
        stands still meanwhile. As many replicas as are left after a reassignment are enough.
        """
        if len(target.isr) >= min(self.min_isr, len(target.replicas)):
            return self.forget_elr(target)
        remaining = {*target.elr, *self.partition.isr} & {*target.replicas}
        candidates = without(tuple(sorted(remaining)), target.isr)
        elr = without(candidates, self.unclean_shutdown)
        if self.use_last_known_leader:
            return target._replace(elr=elr)
        known = tuple(sorted({*candidates, *target.last_known_elr}))
        return target._replace(elr=elr, last_known_elr=without(known, target.isr + elr))

    def forget_elr(self, target: PartitionRegistration) -> PartitionRegistration:
        """No eligible leaders; the last known ones go too, unless it is the last known leader that is kept there."""
        return target._replace(elr=(), last_known_elr=target.last_known_elr if self.use_last_known_leader else ())

    def remember_last_leader(self, target: PartitionRegistration) -> PartitionRegistration:
        """The leader that leaves an empty ISR behind is remembered until there is a leader again."""
        is_emptied = bool(self.partition.isr) and not target.isr
        if is_emptied and self.partition.last_known_elr != (self.partition.leader,):
            return target._replace(last_known_elr=(self.partition.leader,))
        return target if target.leader == NO_LEADER else target._replace(last_known_elr=())

    def difference(self, target: PartitionRegistration) -> PartitionChange | None:
        """The fields of the target that differ, and the leader if its epoch has to be bumped: so a replica that leaves
        the partition learns it, and brokers of old versions that the ISR shrank.
        """
        old, new = self.partition._asdict(), target._asdict()
        changed = {name: new[name] for name in PartitionChange._fields if new[name] != old[name]}
        gone, shrunk = without(self.partition.replicas, target.replicas), without(self.partition.isr, target.isr)
        if gone or (shrunk and self.bump_on_isr_shrink):
            changed["leader"] = target.leader
        return PartitionChange(**changed) if changed else None


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

    Then the first replica is put there. Raises ValueError if no replica remains.
    """
    replicas, isr = without(partition.replicas, partition.adding), without(partition.isr, partition.adding)
    if not replicas:
        raise ValueError("invalid replica assignment: all replicas are being added")
    return partition._replace(replicas=replicas, isr=isr or replicas[:1], adding=(), removing=()), not isr


def without(brokers: BrokerIds, others: BrokerIds) -> BrokerIds:
    """The brokers that are not among the others, in their order."""
    return tuple(broker for broker in brokers if broker not in others)
