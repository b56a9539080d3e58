"""What the controller knows of the cluster, and what it decides from that alone: changes to write, news to tell.

A decision is the partitions that change, by their names; all go by `partition_change`.

Source: kafka.controller (KafkaController, PartitionStateMachine, ControllerBrokerRequestBatch), and what became of them
in ReplicationControlManager.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from hwmark.refimpl import partition_change as changing
from hwmark.refimpl import requests as rpc
from hwmark.refimpl.batches import TopicPartition
from hwmark.refimpl.config import ClusterConfig
from hwmark.refimpl.errors import Error, KafkaError
from hwmark.refimpl.partition_change import NO_LEADER, ONLINE, PREFERRED, UNCLEAN, BrokerIds
from hwmark.refimpl.partition_change import PartitionRegistration as Partition
from hwmark.refimpl.zookeeper import BROKER_EPOCHS, Nodes, state_path

Partitions = dict[TopicPartition, Partition]
NOT_AVAILABLE = {PREFERRED: Error.PREFERRED_LEADER_NOT_AVAILABLE, UNCLEAN: Error.ELIGIBLE_LEADERS_NOT_AVAILABLE}


class ClusterImage(NamedTuple):
    """The partitions, and the registrations of the brokers that live as far as the partitions know.

    Those that are just `back` may have lost what they had not flushed.
    """

    config: ClusterConfig
    partitions: Partitions
    live: dict[int, int]
    back: BrokerIds = ()

    @staticmethod
    def of(config: ClusterConfig, nodes: Nodes) -> ClusterImage:
        """What was read of /brokers."""
        partitions = {tp: nodes[state_path(tp)].value for tp in config.assignment()}
        return ClusterImage(config, partitions, dict(nodes[BROKER_EPOCHS].value))

    def change_brokers(self, live: dict[int, int]) -> Partitions:
        """Make leaders and ISRs live, if anybody is; all live replicas are a partition's first ISR."""
        changes, back = Partitions(), tuple([id for id in live if id not in self.live])
        changed = self._replace(live=live, back=back)
        for tp, old in self.partitions.items():
            isr = tuple([id for id in (old.isr if old.leader_epoch >= 0 else old.replicas) if id in live])
            changes |= changed.change(tp, old._replace(isr=isr))
        return changes

    def decide(self, request: Any) -> Partitions:
        """Do what is asked of the controller; KafkaError if it cannot be."""
        old = self.partitions.get(request.topic_partition)
        if old is None:
            raise KafkaError(Error.UNKNOWN_TOPIC_OR_PARTITION)
        if isinstance(request, rpc.AlterPartitionRequest):
            return self.alter_partition(old, *request)
        if isinstance(request, rpc.ElectLeadersRequest):
            return self.elect_leader(old, *request)
        return self.reassign(old, *request)

    def alter_partition(
        self, old: Partition, here: TopicPartition, leader: int, leader_epoch: int, partition_epoch: int, isr: BrokerIds
    ) -> Partitions:
        """A leader wants another ISR; if it is so already, the answer was lost. Before KIP-497 it writes it itself."""
        is_later = leader_epoch > old.leader_epoch or partition_epoch > old.partition_epoch
        refuse_if(is_later, Error.NOT_CONTROLLER)  # the leader knows of another one
        refuse_if(leader_epoch < old.leader_epoch, Error.FENCED_LEADER_EPOCH)
        refuse_if(leader != old.leader, Error.INVALID_REQUEST)
        if sorted(isr) == sorted(old.isr):
            return {}
        refuse_if(partition_epoch < old.partition_epoch, Error.INVALID_UPDATE_VERSION)
        refuse_if(leader not in isr or len({*isr}) < len(isr) or not {*isr} <= {*old.replicas}, Error.INVALID_REQUEST)
        if not self.config.kip_497:
            return {here: old._replace(isr=isr, partition_epoch=partition_epoch + 1)}
        refuse_if(not {*isr} <= {*self.live}, Error.INELIGIBLE_REPLICA)
        return self.change(here, old._replace(isr=isr), by_leader=True)

    def elect_leader(self, old: Partition, here: TopicPartition, election: str) -> Partitions:
        """Elect the PREFERRED leader, or an UNCLEAN one where there is none."""
        is_needed = old.leader != old.replicas[0] if election == PREFERRED else old.leader == NO_LEADER
        refuse_if(not is_needed, Error.ELECTION_NOT_NEEDED)
        changes = self.change(here, old, election)
        refuse_if(here not in changes or changes[here].leader == old.leader, NOT_AVAILABLE[election])
        return changes

    def reassign(self, old: Partition, here: TopicPartition, replicas: BrokerIds | None) -> Partitions:
        """Move a partition to other replicas, or (None) back."""
        if replicas is not None:
            added, is_set = set(replicas) - set(old.replicas), len(set(replicas)) == len(replicas) > 0
            refuse_if(not is_set or not added <= set(self.live), Error.INVALID_REPLICA_ASSIGNMENT)
            return self.change(here, changing.start_reassignment(old, replicas))
        refuse_if(not old.adding and not old.removing, Error.NO_REASSIGNMENT_IN_PROGRESS)
        target, is_unclean = changing.revert_reassignment(old)
        refuse_if(is_unclean and not self.config.unclean_leader_election, Error.INVALID_REPLICA_ASSIGNMENT)
        return self.change(here, target)

    def change(
        self, here: TopicPartition, target: Partition, election: str = "", by_leader: bool = False
    ) -> Partitions:
        """The partition on its target; who has not asked for that learns it by a leader epoch."""
        config, old = self.config, self.partitions[here]
        election = election or (UNCLEAN if config.unclean_leader_election else ONLINE)
        rules = self.live.__contains__, config.min_insync_replicas, election, self.back, config.kip_966
        builder = changing.PartitionChangeBuilder(old, *rules, leader_recovery=False, always_bump=not by_leader)
        new = builder.build(target)
        return {here: new} if new != old else {}

    def news(self, told: ClusterImage, to: int, head: tuple[int, int, int]) -> list[Any]:
        """The requests from a controller, with that head, that bring a broker from what it was told to here."""
        before, led = told.partitions, self.partitions.items()
        states = tuple([(tp, now) for tp, now in led if now.leader_epoch >= 0 and now != before.get(tp)])
        epochs = {tp: was.leader_epoch for tp, was in before.items() if to in was.replicas}
        mine = tuple([(tp, now) for tp, now in states if to in now.replicas and epochs.get(tp) != now.leader_epoch])
        gone = tuple([tp for tp, now in states if to not in now.replicas and (tp in epochs or tp not in before)])
        requests: list[Any] = [rpc.LeaderAndIsrRequest(*head, mine)] if mine else []
        requests.append(rpc.UpdateMetadataRequest(*head, states))
        return [*requests, rpc.StopReplicaRequest(*head, gone)] if gone else requests


def refuse_if(applies: bool, error: Error) -> None:
    """Refuse a request for a reason."""
    if applies:
        raise KafkaError(error)
