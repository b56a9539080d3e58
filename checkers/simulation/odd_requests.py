"""Requests that no client sends, or not now: of zombies, of strangers, with epochs that are over or still to come.

Each is made for a broker as it is, and None if there is nothing to make it of. What they ask for must be refused, or
must be harmless to all promises: it may fence a producer, or take a member out of its group.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hwmark.refimpl import requests as rpc
from hwmark.refimpl.assignors import Subscription
from hwmark.refimpl.batches import ABORT, COMMIT, Batch, Producer, Record, TopicPartition
from hwmark.refimpl.broker import Broker
from hwmark.refimpl.group_coordinator import ConsumerGroupMetadata, GroupMetadata, Member, OffsetAndMetadata
from hwmark.refimpl.partition_change import PREFERRED, PartitionRegistration
from hwmark.refimpl.producer_state import ProducerStateEntry
from hwmark.refimpl.replica import Replica

NOWHERE: TopicPartition = ("nowhere", 0)
ODD = "odd"  # a transactional id that no producer has
RECORD = (Record(0, None, "forged"),)
FAR = 1_000  # more than any producer sends in a run

Maker = Callable[[Broker], Any]


def odd_requests(*themes: dict[str, Maker]) -> dict[str, Maker]:
    """All requests of some themes."""
    return {name: maker for theme in themes for name, maker in theme.items()}


def _led(broker: Broker) -> Replica | None:
    """A partition of the applications that the broker leads, the one with the longest log."""
    led = [one for here, one in broker.replicas.items() if one.is_leader and not here[0].startswith("__")]
    return max(led, key=lambda one: (one.log.log_end_offset, one.topic_partition), default=None)


def _of_led(make: Callable[[Replica], Any]) -> Maker:
    """A request about a partition that the broker leads."""

    def maker(broker: Broker) -> Any:
        replica = _led(broker)
        return None if replica is None else make(replica)

    return maker


# ------------------------------------------------------------------ replication

REPLICATION: dict[str, Maker] = {
    "fetch from nowhere": lambda _: rpc.FetchRequest(NOWHERE, 0),
    "fetch beyond the end": _of_led(lambda r: rpc.FetchRequest(r.topic_partition, r.log.log_end_offset + FAR)),
    "fetch as no replica": _of_led(lambda r: rpc.FetchRequest(r.topic_partition, 0, replica_id=99)),
    "fetch in the epoch before": _of_led(lambda r: rpc.FetchRequest(r.topic_partition, 0, max(0, r.leader_epoch - 1))),
    "fetch in a coming epoch": _of_led(lambda r: rpc.FetchRequest(r.topic_partition, 0, r.leader_epoch + FAR)),
    "list the latest offset": _of_led(lambda r: rpc.ListOffsetsRequest(r.topic_partition, rpc.LATEST)),
    "list the stable offset": _of_led(
        lambda r: rpc.ListOffsetsRequest(r.topic_partition, rpc.LATEST, is_read_committed=True)
    ),
    "list the earliest offset": _of_led(lambda r: rpc.ListOffsetsRequest(r.topic_partition, rpc.EARLIEST)),
    "ask for the end of an epoch": _of_led(lambda r: rpc.OffsetsForLeaderEpochRequest(r.topic_partition, 0)),
}


# ------------------------------------------------------------------ producers and transactions


def _of_producer(make: Callable[[Replica, ProducerStateEntry], Any]) -> Maker:
    """A request about a producer that has written to a partition that the broker leads; one that has had epochs."""

    def maker(broker: Broker) -> Any:
        replica = _led(broker)
        known = replica.log.producers.values() if replica else ()
        oldest = max(known, key=lambda one: (one.coordinator_epoch, one.producer_epoch, one.producer_id), default=None)
        return make(replica, oldest) if replica and oldest else None

    return maker


def _produce(replica: Replica, producer: ProducerStateEntry, *, epoch: int, sequence: int) -> Any:
    batch = Batch(0, 0, -1, RECORD, producer.producer_id, epoch, sequence)
    return rpc.ProduceRequest(replica.topic_partition, batch) if epoch >= 0 else None


def _mark(replica: Replica, producer: ProducerStateEntry, *, epoch: int, coordinator_epoch: int) -> Any:
    if epoch < 0 or coordinator_epoch < 0:
        return None
    identity = producer.producer_id, epoch, coordinator_epoch
    return rpc.WriteTxnMarkersRequest(replica.topic_partition, *identity, ABORT)


def _verify_nobody(broker: Broker) -> Any:
    """Before KIP-890 the batch would be taken."""
    replica = _led(broker)
    if replica is None or not broker.config.kip_890:
        return None
    batch = Batch(0, 0, -1, RECORD, 1_000_000, 0, 0, True)
    return rpc.ProduceRequest(replica.topic_partition, batch, transactional_id="nobody")


def _odd_producer(broker: Broker) -> Producer:
    metadata = broker.transactions.transactions.get(ODD)
    return metadata.producer if metadata else Producer(ODD, 0, 0)


TRANSACTIONS: dict[str, Maker] = {
    "produce after a gap": _of_producer(lambda r, p: _produce(r, p, epoch=p.producer_epoch, sequence=FAR)),
    "produce in the epoch before": _of_producer(lambda r, p: _produce(r, p, epoch=p.producer_epoch - 1, sequence=0)),
    "mark in the epoch before": _of_producer(
        lambda r, p: _mark(r, p, epoch=p.producer_epoch - 1, coordinator_epoch=p.coordinator_epoch)
    ),
    "mark as the coordinator before": _of_producer(
        lambda r, p: _mark(r, p, epoch=p.producer_epoch, coordinator_epoch=p.coordinator_epoch - 1)
    ),
    "produce in a transaction of nobody": _verify_nobody,
    "take a producer id": lambda _: rpc.InitProducerIdRequest(None),
    "initialize": lambda _: rpc.InitProducerIdRequest(ODD, 1_000),
    "initialize without time": lambda _: rpc.InitProducerIdRequest(ODD, 0),
    "go on as another": lambda b: rpc.InitProducerIdRequest(ODD, 1_000, (_odd_producer(b).producer_id + FAR, 0)),
    "add a partition": lambda b: rpc.AddPartitionsToTxnRequest(_odd_producer(b), (("x", 0),)),
    "add a partition as nobody": lambda _: rpc.AddPartitionsToTxnRequest(Producer("nobody", 0, 0), (("x", 0),)),
    "add a group's offsets": lambda b: rpc.AddOffsetsToTxnRequest(_odd_producer(b), "odd"),
    "commit": lambda b: rpc.EndTxnRequest(_odd_producer(b), COMMIT, 0),
    "abort": lambda b: rpc.EndTxnRequest(_odd_producer(b), ABORT, 0),
    "abort in a coming epoch": lambda b: rpc.EndTxnRequest(
        _odd_producer(b)._replace(producer_epoch=_odd_producer(b).producer_epoch + FAR), ABORT, 0
    ),
    "verify": lambda b: rpc.AddPartitionsToTxnRequest(_odd_producer(b), (("y", 0),), verify_only=True),
    "fetch offsets of transactions": lambda _: rpc.OffsetFetchRequest(
        ConsumerGroupMetadata("others"), (("x", 0),), True
    ),
    "find the coordinator": lambda _: rpc.FindCoordinatorRequest(ODD, True),
}


# ------------------------------------------------------------------ groups

PROTOCOL = (("range", Subscription(("x",))),)


def _of_group(make: Callable[[GroupMetadata], Any]) -> Maker:
    """A request about a group that the broker coordinates."""

    def maker(broker: Broker) -> Any:
        groups = broker.groups.groups
        return make(groups[min(groups)]) if groups else None

    return maker


def _of_member(make: Callable[[GroupMetadata, Member], Any]) -> Maker:
    """A request about the first member of a group."""
    return _of_group(lambda group: make(group, group.members[min(group.members)]) if group.members else None)


def _who(group: GroupMetadata, member: Member, generation: int = 0) -> ConsumerGroupMetadata:
    """The member, so many generations later."""
    return ConsumerGroupMetadata(group.group_id, group.generation + generation, member.member_id, member.instance)


def _nobody(group: GroupMetadata) -> ConsumerGroupMetadata:
    return ConsumerGroupMetadata(group.group_id, group.generation, "nobody")


COMMIT_TO_START = ((NOWHERE, OffsetAndMetadata(0)),)
GROUPS: dict[str, Maker] = {
    "join": _of_group(lambda g: rpc.JoinGroupRequest(ConsumerGroupMetadata(g.group_id), PROTOCOL, 500, 500)),
    "join as nobody": _of_group(lambda g: rpc.JoinGroupRequest(_nobody(g), PROTOCOL, 500, 500)),
    "join with a protocol of one's own": _of_group(
        lambda g: rpc.JoinGroupRequest(ConsumerGroupMetadata(g.group_id), (("own", None),), 500, 500)
    ),
    "sync in a coming generation": _of_member(lambda g, m: rpc.SyncGroupRequest(_who(g, m, FAR))),
    "heartbeat in the generation before": _of_member(lambda g, m: rpc.HeartbeatRequest(_who(g, m, -1))),
    "heartbeat as nobody": _of_group(lambda g: rpc.HeartbeatRequest(_nobody(g))),
    "heartbeat as another instance": _of_member(
        lambda g, m: rpc.HeartbeatRequest(_who(g, m)._replace(member_id="nobody")) if m.instance else None
    ),
    "leave as nobody": _of_group(lambda g: rpc.LeaveGroupRequest(_nobody(g))),
    "remove a member": _of_member(lambda g, m: rpc.LeaveGroupRequest(_who(g, m))),
    "commit as nobody": _of_group(lambda g: rpc.OffsetCommitRequest(_nobody(g), COMMIT_TO_START)),
    "commit in the generation before": _of_member(
        lambda g, m: rpc.OffsetCommitRequest(_who(g, m, -1), COMMIT_TO_START)
    ),
    "commit for another group": lambda _: rpc.OffsetCommitRequest(ConsumerGroupMetadata("other"), COMMIT_TO_START),
    "fetch stable offsets": _of_group(
        lambda g: rpc.OffsetFetchRequest(ConsumerGroupMetadata(g.group_id), (("x", 0),), True)
    ),
}


# ------------------------------------------------------------------ the controller


def _of_registration(make: Callable[[TopicPartition, PartitionRegistration], Any]) -> Maker:
    """A request about a partition, as the broker's metadata show it."""

    def maker(broker: Broker) -> Any:
        known = broker.partitions
        here = min(known, default=None)
        return None if here is None else make(here, known[here])

    return maker


def _alter(**changes: Callable[[PartitionRegistration], Any]) -> Maker:
    """A change of the ISR to the leader alone, but for some fields; before KIP-497 nobody could ask for that."""

    def alter(here: TopicPartition, partition: PartitionRegistration) -> Any:
        epochs = partition.leader_epoch, partition.partition_epoch
        request = rpc.AlterPartitionRequest(here, partition.leader, *epochs, (partition.leader,))
        return request._replace(**{name: change(partition) for name, change in changes.items()})

    return lambda broker: _of_registration(alter)(broker) if broker.config.kip_497 else None


def _from_controller(broker: Broker, controller: int = 0, incarnation: int = 0) -> tuple[int, int, int]:
    """Controller id, its epoch and the broker's, both changed by so much."""
    return broker.controller_id, broker.controller_epoch + controller, broker.controller.broker_epoch + incarnation


CONTROLLER: dict[str, Maker] = {
    "alter nowhere": _alter(topic_partition=lambda _: NOWHERE),
    "alter in the epoch before": _alter(leader_epoch=lambda p: p.leader_epoch - 1),
    "alter in a coming epoch": _alter(leader_epoch=lambda p: p.leader_epoch + FAR),
    "alter the version before": _alter(partition_epoch=lambda p: p.partition_epoch - 1),
    "alter as no leader": _alter(broker_id=lambda _: 99),
    "alter to nobody": _alter(isr=lambda _: ()),
    "reassign to nobody": _of_registration(lambda h, _: rpc.AlterPartitionReassignmentsRequest(h, ())),
    "reassign to a stranger": _of_registration(lambda h, _: rpc.AlterPartitionReassignmentsRequest(h, (99,))),
    "reassign nowhere": lambda _: rpc.AlterPartitionReassignmentsRequest(NOWHERE, (1,)),
    "take a reassignment back": _of_registration(lambda h, _: rpc.AlterPartitionReassignmentsRequest(h, None)),
    "elect the preferred leader": _of_registration(lambda h, _: rpc.ElectLeadersRequest(h, PREFERRED)),
    "lead as the controller before said": lambda b: rpc.LeaderAndIsrRequest(*_from_controller(b, -1), ()),
    "learn what a former incarnation was to": lambda b: (
        rpc.LeaderAndIsrRequest(*_from_controller(b, 0, -1), ()) if b.config.kip_380 else None
    ),
    "ask for metadata": lambda _: rpc.MetadataRequest(("x",)),
}
