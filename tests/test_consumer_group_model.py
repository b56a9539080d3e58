"""The KIP-848 model against its published counts, its broken variants, and the scenarios that it is about."""

from __future__ import annotations

from typing import Any

import pytest
from hwmark.checkers.explore.plain import OUT_OF_RANGE, explore_plainly
from hwmark.spec.consumer_group import kip_848
from hwmark.spec.consumer_group.mutants import (
    acknowledges_before_revoking,
    ignores_partition_epochs,
    ignores_topic_partitions,
)
from hwmark.spec.consumer_group.state import (
    Client,
    Group,
    GroupStatus,
    Partitions,
    partition_count,
)
from hwmark.spec.instance import Instance
from hwmark.spec.lang import contains, insert
from hwmark.spec.model import Model


def at(model: Model, clients: int, perturbations: int, topics: int = 1, partitions: int = 1) -> Instance:
    return model.at(clients=clients, topics=topics, partitions=partitions, perturbations=perturbations)


# --------------------------------------------------------------------------------------------------- counts


@pytest.mark.parametrize(
    ("clients", "perturbations", "counts"), [(1, 0, (17, 22, 9)), (1, 1, (388, 708, 20)), (2, 0, (4009, 9511, 26))]
)
def test_published_counts(clients: int, perturbations: int, counts: tuple[int, int, int]) -> None:
    found = explore_plainly(at(kip_848, clients, perturbations))
    assert (found.distinct, found.generated, found.depth, found.violated) == (*counts, None)


def test_every_action_fires_and_everything_desired_can_happen() -> None:
    found = explore_plainly(at(kip_848, 1, 1))
    assert min(found.coverage.values()) > 0
    assert found.reached == set(kip_848.sometimes) - {"a_member_is_fenced"}  # takes two clients, or two perturbations


# ------------------------------------------------------------------------------- every invariant can be violated


def assign_on_top(s: Group, choice: int) -> None:
    """An assignor that leaves the previous assignment in place, and gives all to the first member."""
    s.target.epoch = s.group_epoch
    s.target.members = s.member_ids
    for partition in range(partition_count):
        s.target.partitions[0] = insert(s.target.partitions[0], partition)
        s.target.partitions[s.next_member_id - 1] = insert(s.target.partitions[s.next_member_id - 1], partition)


def say_stable(s: Group) -> None:
    """A group that is called stable whatever its members are."""
    s.group_status = GroupStatus.STABLE


def release_at_once(s: Group, before: Partitions, after: Partitions, member_epoch: int) -> None:
    """Partition epochs that are dropped where they should be set."""
    for partition in range(partition_count):
        if contains(before, partition):
            s.partition_epochs[partition] = 0


@pytest.mark.parametrize(
    ("model", "invariant", "length"),
    [
        (ignores_partition_epochs, "no_double_assignment", 9),
        (ignores_partition_epochs, "valid_partition_epoch", 11),
        (ignores_topic_partitions, "valid_member_epoch", 13),
        (acknowledges_before_revoking, "valid_member_epoch", 13),
        (kip_848.derive("assigns-on-top", why="test", assign=assign_on_top), "legal_target_assignment", 5),
        (kip_848.derive("says-stable", why="test", update_group_status=say_stable), "valid_stable_group_state", 5),
        (
            kip_848.derive("releases-at-once", why="test", set_partition_epochs=release_at_once),
            "valid_partition_epoch",
            3,
        ),
    ],
    ids=lambda value: value.variant if isinstance(value, Model) else None,
)
def test_a_broken_rule_is_noticed(model: Model, invariant: str, length: int) -> None:
    found = explore_plainly(at(model, 2, 0), [invariant])
    assert (found.violated, len(found.path)) == (invariant, length)


def reconnect(s: Group, client: Client) -> None:
    """A client that makes a connection for every heartbeat."""
    client.connection_id = s.next_connection_id
    s.next_connection_id += 1


def test_a_number_that_outgrows_its_range_is_an_error() -> None:
    found = explore_plainly(at(kip_848.derive("reconnects", why="test", connect=reconnect), 1, 0))
    assert found.violated == OUT_OF_RANGE


# ------------------------------------------------------------------------------------------------- scenarios


class Scenario:
    """A run, one named action at a time."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        (self.row,) = instance.initial()

    @property
    def state(self) -> Any:
        return self.instance.to_json(self.row)

    def may(self, action: str, **arguments: int) -> bool:
        return self.instance.step(action, self.row, arguments) is not None

    def do(self, action: str, **arguments: int) -> Any:
        after = self.instance.step(action, self.row, arguments)
        assert after is not None, f"{action} is disabled"
        self.row = after
        return self.state

    def heartbeat(self, client: int, choice: int = 0, subscribed: int = 1) -> Any:
        """A client's heartbeat, its handling and the response, with nothing else in flight."""
        self.do("client_send_heartbeat", client_id=client, subscribed=subscribed)
        self.do("coordinator_receive_heartbeat", index=0, choice=choice)
        return self.do("client_receive_success", index=0)

    def join(self, client: int, choice: int) -> Any:
        """A client's heartbeats up to where it has what is its own."""
        self.heartbeat(client, choice)
        if self.may("client_complete_reconciliation", client_id=client):
            self.do("client_complete_reconciliation", client_id=client)
            self.heartbeat(client)
        return self.state


def test_a_lone_client_gets_everything_and_the_group_falls_silent() -> None:
    run = Scenario(at(kip_848, 1, 0, topics=2, partitions=2))
    run.heartbeat(0, subscribed=0b11)
    run.do("client_complete_reconciliation", client_id=0)
    state = run.heartbeat(0, subscribed=0b11)
    assert state["group_status"] == "STABLE"
    assert state["clients"][0]["assignment"] == state["members"][0]["assigned"] == [0, 1, 2, 3]
    assert list(run.instance.successors(run.row)) == []


def test_a_partition_changes_hands_only_once_its_owner_has_revoked_it() -> None:
    run = Scenario(at(kip_848, 2, 0))
    assert run.join(0, choice=0)["clients"][0]["assignment"] == [0]
    newcomer = run.join(1, choice=1)
    assert newcomer["clients"][1]["assignment"] == []
    assert [member["status"] for member in newcomer["members"]] == ["STABLE", "UNRELEASED_PARTITIONS"]
    revoking = run.heartbeat(0)
    assert revoking["clients"][0]["assignment"] == [0]
    assert [member["status"] for member in revoking["members"]] == ["UNREVOKED_PARTITIONS", "UNRELEASED_PARTITIONS"]
    assert run.heartbeat(1)["members"][1]["assigned"] == []
    run.do("client_complete_reconciliation", client_id=0)
    assert run.heartbeat(0)["partition_epochs"] == [0]
    run.heartbeat(1)
    state = run.do("client_complete_reconciliation", client_id=1)
    assert [client["assignment"] for client in state["clients"]] == [[], [0]]
    assert run.heartbeat(1)["group_status"] == "STABLE"


def test_the_assignor_may_split_partitions_in_every_way() -> None:
    run = Scenario(at(kip_848, 2, 0, partitions=2))
    run.join(0, choice=0)
    run.do("client_send_heartbeat", client_id=1, subscribed=1)
    assert not run.may("coordinator_receive_heartbeat", index=1, choice=0)
    targets = [
        run.instance.to_json(step.row)["target"]["partitions"]
        for step in run.instance.successors(run.row)
        if step.action == "coordinator_receive_heartbeat"
    ]
    assert targets == [[[0, 1], []], [[1], [0]], [[0], [1]], [[], [0, 1]]]


def test_a_topic_without_a_subscriber_holds_up_the_group() -> None:
    run = Scenario(at(kip_848, 1, 1, topics=2))
    run.do("client_send_heartbeat", client_id=0, subscribed=0b01)
    assert list(run.instance.successors(run.row)) == []


def test_an_expired_member_joins_again_as_another() -> None:
    run = Scenario(at(kip_848, 1, 1))
    run.join(0, choice=0)
    expired = run.do("coordinator_expire_live_member", member_id=0)
    assert (expired["group_status"], expired["partition_epochs"]) == ("EMPTY", [0])
    run.do("client_send_heartbeat", client_id=0, subscribed=1)
    run.do("coordinator_reject_heartbeat", index=0)
    fenced = run.do("client_receive_error", index=0)["clients"][0]
    assert (fenced["status"], fenced["assignment"], fenced["member_id"]) == ("JOINING", [], None)
    again = run.join(0, choice=1)
    assert (again["group_status"], again["clients"][0]["member_id"], again["group_epoch"]) == ("STABLE", 1, 3)


def test_what_a_crashed_client_sent_is_not_answered() -> None:
    run = Scenario(at(kip_848, 1, 1))
    run.heartbeat(0)
    run.do("client_send_heartbeat", client_id=0, subscribed=1)
    run.do("client_crash", client_id=0)
    state = run.do("coordinator_receive_heartbeat", index=0, choice=0)
    assert (state["requests"], state["responses"]) == ([], [])
