"""Faults without Kafka: who is meant, what is refused, and what happens to processes and disks."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from threading import Event
from types import ModuleType
from typing import ClassVar

import pytest
from hwmark.checkers.cluster import conditions, targets
from hwmark.checkers.cluster.cluster import Cluster, load
from hwmark.checkers.cluster.distribution import Distribution
from hwmark.checkers.cluster.errors import ClusterError
from hwmark.checkers.cluster.faults import KINDS, Fault, apply, refuse, why_not
from hwmark.checkers.cluster.logs import Batch
from hwmark.checkers.cluster.network import Network
from hwmark.checkers.cluster.strays import MARK
from hwmark.checkers.cluster.targets import active_controller, resolve
from hwmark.checkers.cluster.views import View, agreed, of_topics


@pytest.fixture
def cluster(tmp_path: Path, cluster_world: ModuleType) -> Iterator[Cluster]:
    """Three brokers and a controller, all down."""
    made: Cluster = cluster_world.cluster(tmp_path / "c")
    with made:
        yield made


def ids(cluster: Cluster, *names: str, seed: int = 0, topics: tuple[str, ...] = ()) -> list[int]:
    return [node.id for node in resolve(cluster, names, Random(seed), list(topics))]


def told(monkeypatch: pytest.MonkeyPatch, **views: View) -> None:
    """Let brokers b1, b2, ... say this."""
    answers = {int(name[1:]): view for name, view in views.items()}
    for module in (targets, conditions):
        monkeypatch.setattr(module, "views", lambda cluster: answers)


# ------------------------------------------------------------ who is meant


def test_nodes_are_meant_by_id_and_by_group(cluster: Cluster) -> None:
    assert ids(cluster, "2", "101", "2") == [2, 101]
    assert ids(cluster, "brokers", "controllers") == [1, 2, 3, 101]
    assert ids(cluster, "controller") == [101]


def test_states_are_groups(cluster: Cluster, cluster_world: ModuleType) -> None:
    cluster_world.start(cluster, 1, 2)
    cluster.node(2).pause()
    assert (ids(cluster, "down"), ids(cluster, "paused")) == ([3, 101], [2])
    assert {ids(cluster, "any", seed=seed)[0] for seed in range(10)} == {1}
    with pytest.raises(ClusterError, match="no broker is up that could be drawn"):
        ids(cluster, "any", "any")


def test_any_is_drawn_from_the_seed_and_never_twice(cluster: Cluster, cluster_world: ModuleType) -> None:
    cluster_world.start(cluster)
    drawn = [tuple(ids(cluster, "any", "any", seed=seed)) for seed in range(40)]
    assert set(drawn) == {(a, b) for a in (1, 2, 3) for b in (1, 2, 3) if a != b}
    assert tuple(ids(cluster, "any", "any", seed=7)) == drawn[7]


def test_roles_are_those_of_a_partition(
    cluster: Cluster, cluster_world: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster_world.start(cluster)
    seen = cluster_world.seen
    told(monkeypatch, b1={"a-0": seen(2, 1, 2, 3), "a-1": seen(3, 3), "b-0": seen(1, 1)})
    assert ids(cluster, "leader", topics=("b", "a")) == [1]
    assert ids(cluster, "leader") == [2]
    assert ids(cluster, "leader:a-1", "followers:a-1") == [3, 1, 2]
    assert ids(cluster, "isr-last:a-1") == [3]
    assert {ids(cluster, "follower:a-0", seed=seed)[0] for seed in range(10)} == {1, 3}


def test_followers_that_are_down_are_not_meant(
    cluster: Cluster, cluster_world: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster_world.start(cluster, 2, 3)
    told(monkeypatch, b2={"a-0": cluster_world.seen(2, 2, 3)})
    assert ids(cluster, "followers:a-0") == [3]


def test_the_last_fault_is_remembered(cluster: Cluster, cluster_world: ModuleType) -> None:
    cluster_world.start(cluster)
    apply(cluster, Fault("kill", ("2",)), Random(0))
    apply(cluster, Fault("wipe", ("2",)), Random(0))
    again = load(cluster.folder)
    assert (ids(again, "struck"), ids(again, "rest")) == ([2], [1, 3])


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("7", "there is no node 7; known are 1, 2, 3, 101"),
        ("leaders", "'leaders' names no node; known are a node's id, any, controller"),
        ("leader:a", "'a' names no partition; expected TOPIC-NUMBER"),
        ("leader:b-0", "there is no partition b-0"),
        ("leader:a-0", "a-0 has no leader"),
        ("isr-last:a-0", r"a-0 has no last replica in sync: its ISR is \[1, 2\]"),
        ("any", "no broker is up that could be drawn"),
    ],
)
def test_whom_it_cannot_mean(
    cluster: Cluster, cluster_world: ModuleType, monkeypatch: pytest.MonkeyPatch, name: str, reason: str
) -> None:
    told(monkeypatch, b1={"a-0": cluster_world.seen(None, 1, 2)})
    with pytest.raises(ClusterError, match=reason):
        ids(cluster, name)


def test_nobody_answers(cluster: Cluster) -> None:
    with pytest.raises(ClusterError, match="no broker answers that could say who leads"):
        ids(cluster, "leader:a-0")


def test_the_active_controller_is_the_one_of_the_latest_epoch(tmp_path: Path, cluster_world: ModuleType) -> None:
    with cluster_world.cluster(tmp_path / "c3", controllers=3) as cluster:
        with pytest.raises(ClusterError, match="no node knows which controller is active"):
            active_controller(cluster)
        cluster_world.start(cluster)
        for id, state in ((1, (4, 102)), (2, (5, 103)), (3, (6, -1)), (101, (3, 101))):
            folder = cluster.node(id).log_directory / "__cluster_metadata-0"
            folder.mkdir()
            (folder / "quorum-state").write_text(json.dumps({"leaderEpoch": state[0], "leaderId": state[1]}))
        assert active_controller(cluster).id == 103


# ------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault("burn"), "'burn' is no fault; known are kill, terminate"),
        (Fault("kill"), "kill: say whom it is to hit"),
        (Fault("kill", ("1",), others=("2",)), "kill takes no others"),
        (Fault("wipe", ("1",), others=("a-0",)), "wipe takes no others"),
        (Fault("kill", ("1",), amount=1), "kill takes no amount"),
        (Fault("wipe", ("1",), torn=True), "wipe tears no batch"),
        (Fault("lose-unflushed", ("1",), amount=1.5), "lose-unflushed: expected a share above 0 and up to 1, not 1.5"),
        (Fault("lose-unflushed", ("1",), amount=0), "lose-unflushed: expected a share"),
        (Fault("truncate", ("1",), amount=0.5), "truncate: expected a whole number of records from 1 on, not 0.5"),
        (Fault("truncate", ("1",), amount=float("inf")), "truncate: expected a whole number of records"),
        (Fault("await", ("in-sync",), amount=float("nan")), "await: expected seconds above 0, not nan"),
        (Fault("await", ("peace",)), "await: expected one of moved, alone, ahead, in-sync"),
        (Fault("await", ("moved", "alone")), "await: expected one of"),
        (Fault("restore", ("1",)), "restore takes no targets"),
    ],
)
def test_what_is_not_well_said_is_refused(fault: Fault, reason: str) -> None:
    with pytest.raises(ClusterError, match=reason):
        refuse(fault)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault("kill", ("1", "3")), "kill: broker 3 is down"),
        (Fault("pause", ("2",)), "pause: broker 2 is paused"),
        (Fault("truncate", ("1",)), "truncate: broker 1 is up"),
        (Fault("lose-unflushed", ("2",)), "lose-unflushed: broker 2 is paused"),
        (Fault("wipe", ("101",)), "wipe: controller 101 is no broker"),
        (Fault("truncate", ("3",), ("a-0",)), "there is no partition a-0"),
        (Fault("truncate", ("3",), ("a",)), "'a' names no partition"),
        (Fault("truncate", ("3",)), "truncate: there is no record to cut off"),
    ],
)
def test_what_cannot_happen_now_is_refused_before_anything_does(
    cluster: Cluster, cluster_world: ModuleType, fault: Fault, reason: str
) -> None:
    cluster_world.start(cluster, 1, 2)
    cluster.node(2).pause()
    with pytest.raises(ClusterError, match=reason):
        apply(cluster, fault, Random(0))
    assert [node.state() for node in cluster.nodes] == ["up", "paused", "down", "down"]
    assert cluster.struck == []


def test_links_take_a_network(cluster: Cluster) -> None:
    for kind, how in KINDS.items():
        reason = why_not(cluster, kind)
        assert (reason is not None) == how.on_links
        assert reason is None or reason.startswith(f"{kind}: the cluster has no network of its own")
    with pytest.raises(ClusterError, match="no network of its own"):
        apply(cluster, Fault("isolate", ("1",)), Random(0))


# ------------------------------------------------------------ what happens


def test_processes_are_paused_resumed_and_killed(cluster: Cluster, cluster_world: ModuleType) -> None:
    cluster_world.start(cluster)
    assert apply(cluster, Fault("pause", ("1", "2")), Random(0)) == {"fault": "pause", "nodes": [1, 2]}
    assert [node.state() for node in cluster.brokers] == ["paused", "paused", "up"]
    assert apply(cluster, Fault("resume"), Random(0))["nodes"] == [1, 2]
    assert [node.state() for node in cluster.brokers] == ["up", "up", "up"]
    assert apply(cluster, Fault("kill", ("brokers",)), Random(0))["nodes"] == [1, 2, 3]
    assert [node.state() for node in cluster.nodes] == ["down", "down", "down", "up"]
    apply(cluster, Fault("pause", ("controller",)), Random(0))
    assert apply(cluster, Fault("terminate", ("controller",)), Random(0))["killed"] == []
    assert cluster.controllers[0].state() == "down"


@pytest.fixture
def restartable(cluster: Cluster, cluster_world: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Its nodes only sleep when they are started again, too."""
    asleep = [sys.executable, "-c", cluster_world.SLEEPS, f"{MARK}{cluster.folder}"]
    monkeypatch.setattr(Distribution, "command", lambda *arguments, **options: asleep)
    told(monkeypatch)
    return cluster


def stopped() -> Event:
    """Nobody waits for nodes that only sleep."""
    stop = Event()
    stop.set()
    return stop


def test_nodes_are_started_again(restartable: Cluster, cluster_world: ModuleType) -> None:
    cluster = restartable
    cluster_world.start(cluster, 1, 2)
    before = [node.pid for node in cluster.nodes]
    done = apply(cluster, Fault("restart", ("1", "3")), Random(0), stop=stopped())
    assert done == {"fault": "restart", "nodes": [1, 3], "serving": False}
    assert [node.state() for node in cluster.nodes] == ["up", "up", "up", "down"]
    assert [node.pid == pid for node, pid in zip(cluster.nodes, before, strict=True)] == [False, True, False, True]


def test_all_is_restored(restartable: Cluster, cluster_world: ModuleType) -> None:
    cluster = restartable
    cluster.network = Cuts(cluster.folder)
    Cuts.healed.clear()
    cluster_world.start(cluster, 1, 2)
    cluster.node(2).pause()
    done = apply(cluster, Fault("restore"), Random(0), stop=stopped())
    assert done == {"fault": "restore", "nodes": [], "resumed": [2], "restarted": [3, 101], "met": False}
    assert [node.state() for node in cluster.nodes] == ["up"] * 4
    assert Cuts.healed == [1, 2, 3, 101]


def test_a_new_disk_is_formatted_for_the_same_node(cluster: Cluster) -> None:
    data = cluster.node(1).log_directory
    before = (data / "meta.properties").read_text()
    (data / "a-0").mkdir()
    done = apply(cluster, Fault("wipe", ("1",)), Random(0))
    assert done["wiped"] == [{"node": 1, "partitions": ["a-0"]}]
    assert sorted(path.name for path in data.iterdir()) == ["bootstrap.checkpoint", "meta.properties"]
    after = (data / "meta.properties").read_text()
    assert [a == b for a, b in zip(before.splitlines(), after.splitlines(), strict=True)] == [True] * 3 + [False]


class Cuts(Network):
    """A network that only tells what would be cut."""

    cuts: ClassVar[list[tuple[list[int], list[int]]]] = []
    healed: ClassVar[list[int]] = []

    def cut(self, sources: object, destinations: object) -> None:
        self.cuts.append((list(sources), list(destinations)))  # type: ignore[call-overload]

    def heal(self, nodes: Iterable[int]) -> None:
        self.healed.extend(nodes)

    def command(self, node: int, command: list[str]) -> list[str]:
        return command

    def delete(self) -> None:
        """Nothing is there."""


@pytest.mark.parametrize(
    ("fault", "cuts"),
    [
        (Fault("partition", ("1",)), [([1], [2, 3, 101]), ([2, 3, 101], [1])]),
        (Fault("partition", ("1", "2"), ("3",)), [([1, 2], [3]), ([3], [1, 2])]),
        (Fault("one-way", ("1",), ("2", "3")), [([1], [2, 3])]),
        (
            Fault("isolate", ("1", "2")),
            [([1], [3, 101, 2]), ([3, 101, 2], [1]), ([2], [3, 101, 1]), ([3, 101, 1], [2])],
        ),
    ],
)
def test_links_are_cut(cluster: Cluster, fault: Fault, cuts: list[tuple[list[int], list[int]]]) -> None:
    Cuts.cuts.clear()
    cluster.network = Cuts(cluster.folder)
    apply(cluster, fault, Random(0))
    assert Cuts.cuts == cuts


def test_nobody_is_cut_off_from_himself(cluster: Cluster) -> None:
    cluster.network = Cuts(cluster.folder)
    for fault, reason in (
        (Fault("partition", ("1", "2"), ("2",)), "node 2 is on both sides"),
        (Fault("partition", ("brokers", "controllers")), "nobody on one of the sides"),
        (Fault("isolate", ("paused",)), "nobody on one of the sides"),
    ):
        with pytest.raises(ClusterError, match=reason):
            apply(cluster, fault, Random(0))


# ------------------------------------------------------------ what is seen, and waited for


def test_the_cut_off_are_outvoted(cluster_world: ModuleType) -> None:
    seen = cluster_world.seen
    old, new = {"a-0": seen(1, 1, 2, 3)}, {"a-0": seen(2, 2, 3)}
    assert agreed({1: old, 2: new, 3: new}) == new
    assert agreed({1: old, 2: new}) == old, "of as many the lower id is believed"
    assert agreed({}) == {}


def test_topics_are_kafkas_own_or_not(cluster_world: ModuleType) -> None:
    view = {name: cluster_world.seen(1) for name in ("__consumer_offsets-0", "a-0", "a-1", "a-b-0")}
    assert list(of_topics(view, [])) == ["a-0", "a-1", "a-b-0"]
    assert list(of_topics(view, ["a"])) == ["a-0", "a-1"]


def test_moved_is_what_one_of_the_others_says(
    cluster: Cluster, cluster_world: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, cluster.struck = cluster_world.seen, [1]
    old, new = {"a-0": seen(1, 1, 2, 3)}, {"a-0": seen(2, 2, 3)}
    for views, expected in (
        ({"b1": old, "b2": old}, False),
        ({"b1": new, "b2": old}, False),
        ({"b1": old, "b2": old, "b3": new}, True),
        ({"b2": {"a-0": seen(2), "a-1": seen(None)}}, False),
        ({"b2": {}}, False),
    ):
        told(monkeypatch, **views)
        assert conditions.is_moved(cluster, ["a"]) == expected


def test_alone_is_an_isr_of_one(cluster: Cluster, cluster_world: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = cluster_world.seen
    for view, expected in (
        ({"a-0": seen(1, 1), "a-1": seen(2, 2)}, True),
        ({"a-0": seen(1, 1, 2)}, False),
        ({}, False),
    ):
        told(monkeypatch, b1=view)
        assert conditions.is_alone(cluster, ["a"]) == expected


def test_in_sync_is_what_all_agree_on(
    cluster: Cluster, cluster_world: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = cluster_world.seen
    cluster_world.start(cluster)
    full, moved, shrunk = ({"a-0": seen(*one)} for one in ((1, 1, 2, 3), (2, 1, 2, 3), (1, 1, 2)))
    for views, expected in (
        ({"b1": full, "b2": full, "b3": full}, True),
        ({"b1": full, "b2": full}, False),
        ({"b1": full, "b2": full, "b3": moved}, False),
        ({"b1": shrunk, "b2": shrunk, "b3": shrunk}, False),
    ):
        told(monkeypatch, **views)
        assert conditions.is_in_sync(cluster, []) == expected
    told(monkeypatch, b1=full, b2=full, b3=full)
    cluster.node(101).pause()
    assert not conditions.is_in_sync(cluster, [])


@pytest.mark.parametrize(
    ("before", "grown", "expected"),
    [
        ((5, 5, 5), (15, 5, 5), True),
        ((5, 5, 5), (14, 5, 5), False),
        ((90, 5, 5), (91, 5, 5), False),  # in the lead, but by what may be under way to the others
        ((5, 5, 5), (30, 6, 5), False),  # a follower still fetches
        ((0, 0, 0), (0, 0, 20), True),
    ],
)
def test_ahead_is_a_log_that_grows_alone(
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
    before: tuple[int, ...],
    grown: tuple[int, ...],
    expected: bool,
) -> None:
    ends = [before, grown]

    def logs(folder: Path) -> list[Batch]:
        broker = int(folder.parent.parent.name.removeprefix("broker-"))
        return [Batch(folder, 0, 1, base, base + 1) for base in range(ends[0][broker - 1])]

    for broker in cluster.brokers:
        for name in ("a-0", "b-0", "__consumer_offsets-0"):
            (broker.log_directory / name).mkdir()
    monkeypatch.setattr(conditions, "last_batches", logs)
    monkeypatch.setattr(conditions.time, "sleep", lambda seconds: ends.pop(0))
    assert conditions.is_ahead(cluster, ["a"]) == expected


def test_ahead_takes_a_replica_to_be_ahead_of(cluster: Cluster) -> None:
    (cluster.node(1).log_directory / "a-0").mkdir()
    assert not conditions.is_ahead(cluster, [])


def test_waiting_ends_with_its_time_or_when_told(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    told(monkeypatch)
    done = apply(cluster, Fault("await", ("in-sync",), amount=0.01), Random(0))
    assert (done["condition"], done["met"]) == ("in-sync", False)
    stop = Event()
    stop.set()
    assert apply(cluster, Fault("await", ("in-sync",), amount=1e6), Random(0), stop=stop)["met"] is False
