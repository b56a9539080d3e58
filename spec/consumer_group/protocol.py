"""The consumer group protocol of KIP-848: clients heartbeat, the group coordinator assigns and reconciles.

Members join and are assigned partitions. A partition changes hands without a stop of the world: its owner revokes it
and tells the coordinator, which only then may give it to another. Member epochs fence who is behind; partition epochs
say which partitions somebody still holds.

Clients are interchangeable: nothing orders them, and the assignor's choice, which can be any legal one, is not theirs.

Not modelled: the records consumed and the offsets committed, the coordinator's log and failover, lost messages, rack
awareness; see `client` and `coordinator` for the rest.

Source: KIP-848; Vanlightly/kafka-tlaplus, groupprotocol, version 2, which leaves the assignor's choice open too. Its
counts (distinct, generated, depth) with 1 topic of 1 partition: 2 clients without perturbation 4,009 / 9,511 / 26;
1 client with one perturbation 388 / 708 / 20, without 17 / 22 / 9.
"""

from __future__ import annotations

from hwmark.spec.consumer_group.client import (
    client_complete_leave,
    client_complete_reconciliation,
    client_crash,
    client_receive_error,
    client_receive_success,
    client_send_heartbeat,
    client_start_leave,
    start_client,
)
from hwmark.spec.consumer_group.coordinator import (
    coordinator_expire_dead_member,
    coordinator_expire_live_member,
    coordinator_receive_heartbeat,
    coordinator_receive_leave,
    coordinator_reject_heartbeat,
)
from hwmark.spec.consumer_group.properties import (
    a_member_is_fenced,
    a_member_is_unknown,
    a_member_leaves,
    a_partition_moves_between_members,
    every_partition_is_consumed,
    group_converges,
    legal_target_assignment,
    no_double_assignment,
    valid_member_epoch,
    valid_partition_epoch,
    valid_stable_group_state,
)
from hwmark.spec.consumer_group.state import Group, clients, partitions, perturbations, topics
from hwmark.spec.model import Model


def init(s: Group) -> None:
    """Every client is about to join a group without members."""
    for client_id in range(clients):
        start_client(s.clients[client_id])


kip_848 = Model.of(
    "consumer-group",
    "kip-848",
    why="partitions change hands one by one, each only once its owner has revoked it",
    state=Group,
    bounds=(clients, topics, partitions, perturbations),
    init=init,
    actions=(
        client_send_heartbeat,
        client_receive_error,
        client_receive_success,
        client_complete_reconciliation,
        client_start_leave,
        client_complete_leave,
        client_crash,
        coordinator_receive_heartbeat,
        coordinator_receive_leave,
        coordinator_reject_heartbeat,
        coordinator_expire_live_member,
        coordinator_expire_dead_member,
    ),
    invariants=(
        legal_target_assignment,
        no_double_assignment,
        valid_partition_epoch,
        valid_member_epoch,
        valid_stable_group_state,
    ),
    sometimes=(
        group_converges,
        every_partition_is_consumed,
        a_partition_moves_between_members,
        a_member_is_fenced,
        a_member_is_unknown,
        a_member_leaves,
    ),
    lanes="client",
)
