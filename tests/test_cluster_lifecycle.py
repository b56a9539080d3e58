"""Clusters that are left, lost, doubled or in the way: real processes that only sleep stand for brokers."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import psutil
import pytest
from hwmark.checkers import cli
from hwmark.checkers.cluster import cluster as clusters
from hwmark.checkers.cluster import ports
from hwmark.checkers.cluster.cluster import Cluster, create, load
from hwmark.checkers.cluster.distribution import Distribution
from hwmark.checkers.cluster.errors import ClusterError
from hwmark.checkers.cluster.java import Java
from hwmark.checkers.cluster.settings import properties
from hwmark.checkers.cluster.strays import MARK, lost_processes, remove_remains, strays
from hwmark.checkers.commands import record


@pytest.fixture
def cluster(tmp_path: Path, cluster_world: ModuleType) -> Iterator[Cluster]:
    """Three brokers and a controller, all down."""
    made: Cluster = cluster_world.cluster(tmp_path / "c")
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture(autouse=True)
def java(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is a Java, wherever the tests run."""
    monkeypatch.setattr(clusters, "find_java", lambda kafka: Java("java", 17))


def made_in(folder: Path, **more: int) -> Cluster:
    return create(folder, Distribution("4.3.1", folder / "libs", folder / "cache"), **more)


# ------------------------------------------------------------ what is left


def test_a_cluster_is_the_same_for_the_next_command(cluster: Cluster, cluster_world: ModuleType) -> None:
    cluster_world.start(cluster)
    cluster.struck, cluster.owner = [2], (os.getpid(), 1.5)
    cluster.save()
    again = load(cluster.folder)
    assert again == cluster
    again.stop()
    assert [node.state() for node in cluster.nodes] == ["down"] * 4


def test_a_running_cluster_is_not_started_over(cluster: Cluster, cluster_world: ModuleType) -> None:
    cluster_world.start(cluster, 1, 101)
    pids = ", ".join(str(process.pid) for process in strays(cluster.folder))
    assert len(pids.split()) == 2
    for start in (lambda: made_in(cluster.folder), cluster.start):
        with pytest.raises(ClusterError, match=rf"a cluster is running in {cluster.folder} \(pids {pids}\)"):
            start()
    assert cluster.node(1).state() == "up"


def test_processes_whose_file_is_gone_are_named_and_stopped(
    cluster: Cluster, cluster_world: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster_world.start(cluster, 1, 2)
    pids = sorted(process.pid for process in strays(cluster.folder))
    shutil.rmtree(cluster.folder)
    assert sorted(process.pid for process, folder in lost_processes() if folder == cluster.folder) == pids
    assert cli.main(["cluster", "status", "--dir", str(cluster.folder)]) == 2
    told = capsys.readouterr().err
    assert all(str(pid) in told for pid in pids) and told.count("\n") == 1
    assert cli.main(["cluster", "down", "--dir", str(cluster.folder)]) == 0
    told = capsys.readouterr().err
    assert all(str(pid) in told for pid in pids)
    assert strays(cluster.folder) == []
    assert cli.main(["cluster", "down", "--dir", str(cluster.folder)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_processes_whose_owner_has_ended_are_named(
    cluster: Cluster, cluster_world: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster_world.start(cluster, 1)
    began = psutil.Process().create_time()
    for owner, is_lost in ((None, False), ((os.getpid(), began), False), ((os.getpid(), began - 60), True)):
        cluster.owner = owner
        cluster.save()
        assert (cluster.folder in [folder for _, folder in lost_processes()]) == is_lost
    assert cli.main(["cluster", "status", "--dir", str(cluster.folder)]) == 0
    assert f"strays of {cluster.folder} (pids {cluster.node(1).pid}); stop them with" in capsys.readouterr().err
    cluster.leave()
    assert cluster.folder not in [folder for _, folder in lost_processes()]


def test_who_makes_a_cluster_is_to_stop_it(tmp_path: Path) -> None:
    assert made_in(tmp_path / "new").owner == (os.getpid(), psutil.Process().create_time())


def test_processes_that_the_file_does_not_know_are_stopped_too(cluster: Cluster, cluster_world: ModuleType) -> None:
    cluster_world.start(cluster, 1)
    cluster.node(1).pid = None  # as if the command was killed before it could write it down
    cluster.stop()
    assert strays(cluster.folder) == []


def test_remains_are_those_of_one_folder(cluster: Cluster, cluster_world: ModuleType) -> None:
    cluster_world.start(cluster, 1)
    assert remove_remains(cluster.folder.parent / "other") == ([], False)
    assert remove_remains(cluster.folder.parent) == ([], False)
    assert cluster.node(1).state() == "up"


def test_stopping_survives_that_the_folder_is_gone(cluster: Cluster, cluster_world: ModuleType) -> None:
    cluster_world.start(cluster, 1, 101)
    shutil.rmtree(cluster.folder)
    cluster.stop()
    assert [node.state() for node in cluster.nodes] == ["down"] * 4


def test_one_that_does_not_end_is_killed(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "STOP_TIMEOUT", 0.2)
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    node = cluster.node(1)
    node.start([sys.executable, "-c", deaf, f"{MARK}{cluster.folder}"])
    while not node.output.read_text():
        pass
    assert cluster.stop_nodes([node]) == [1]
    assert node.state() == "down"


def test_a_node_that_ended_is_named_with_its_last_words(cluster: Cluster) -> None:
    node = cluster.node(2)
    node.start([sys.executable, "-c", "raise SystemExit('12:00 ERROR the disk is on fire')"])
    process = node.process()
    if process is not None:
        process.wait(30)
    with pytest.raises(ClusterError, match="broker 2 ended: 12:00 ERROR the disk is on fire"):
        cluster.check_alive([node])


def test_a_start_that_fails_leaves_nothing_running(
    cluster: Cluster, cluster_world: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    for node in cluster.nodes:
        shutil.rmtree(node.folder)
    asleep = [sys.executable, "-c", cluster_world.SLEEPS, f"{MARK}{cluster.folder}"]
    monkeypatch.setattr(Distribution, "command", lambda *arguments, **options: asleep)
    monkeypatch.setattr(clusters, "archive_classes", lambda *arguments: None)

    def interrupted(cluster: Cluster) -> None:
        assert len(strays(cluster.folder)) == 4
        raise KeyboardInterrupt

    monkeypatch.setattr(Cluster, "await_brokers", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cluster.start()
    assert strays(cluster.folder) == []


def test_its_partitions_are_as_most_brokers_say(
    cluster: Cluster, cluster_world: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = cluster_world.seen(1, 1, 2, 3), cluster_world.seen(2, 2, 3)
    told = {1: {"a-b-10": old, "a-b-9": old}, 2: {"a-b-10": new, "a-b-9": old}, 3: {"a-b-10": new, "a-b-9": old}}
    monkeypatch.setattr(clusters, "views", lambda cluster: told)
    first, second = cluster.partitions()
    assert first == {"topic": "a-b", "partition": 9, "leader": 1, "isr": [1, 2, 3]}
    assert second == {"topic": "a-b", "partition": 10, "leader": 2, "isr": [2, 3]}


# ------------------------------------------------------------ folders


def test_what_is_no_clusters_is_not_removed(cluster: Cluster) -> None:
    (cluster.folder / "thesis.tex").touch()
    with pytest.raises(ClusterError, match=r"holds more than a cluster: thesis.tex"):
        made_in(cluster.folder)
    assert cluster.node(1).log_directory.is_dir()
    (cluster.folder / "thesis.tex").unlink()
    made_in(cluster.folder)
    assert not cluster.node(1).log_directory.exists()


def test_folders_that_do_not_fit(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "cluster.json").write_text("[]")
    for folder, reason in (
        (tmp_path / "full", "is not empty, and holds no cluster"),
        (tmp_path / "full" / "file", "file exists"),
        (tmp_path / "other", "is not what `hwmark cluster up` writes"),
    ):
        with pytest.raises(ClusterError, match=reason):
            made_in(folder)
    with pytest.raises(ClusterError, match="there is no cluster in"):
        load(tmp_path / "full" / "file")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": "4.3.1"}', '{"nodes": 1}', "\x00"])
def test_a_broken_file_is_one_line(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cluster.json").write_text(text)
    assert cli.main(["cluster", "status", "--dir", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"hwmark: {tmp_path}/cluster.json: is not what")


def test_two_do_not_start_in_one_folder(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    def while_it_starts(*arguments: object) -> None:
        with pytest.raises(ClusterError, match=f"another cluster is being started in {cluster.folder}"):
            load(cluster.folder).start()
        raise ClusterError("enough")

    monkeypatch.setattr(clusters, "archive_classes", while_it_starts)
    with pytest.raises(ClusterError, match="enough"):
        cluster.start()


def test_too_many_nodes_have_no_addresses(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="101 brokers: expected at most 100"):
        made_in(tmp_path / "c", brokers=101)
    assert not (tmp_path / "c").exists()


def test_a_command_that_is_not_there_is_one_line(cluster: Cluster) -> None:
    with pytest.raises(ClusterError, match="broker 1: /nowhere/java: no such file or directory"):
        cluster.node(1).start(["/nowhere/java"])


def test_one_broker_alone_can_have_transactions(tmp_path: Path, cluster_world: ModuleType) -> None:
    alone = cluster_world.cluster(tmp_path / "one", brokers=1)
    own = properties(alone.nodes[0], alone.nodes, {})
    assert own["transaction.state.log.min.isr"] == own["transaction.state.log.replication.factor"] == "1"
    assert properties(alone.nodes[0], alone.nodes, {"log.dirs": "/x"})["log.dirs"] == "/x"


@pytest.mark.parametrize(("names", "stays"), [("{}/broker-1/server.log", True), ("nothing", False)])
def test_a_recordings_folder_stays_if_an_error_names_a_log_in_it(names: str, stays: bool) -> None:
    with pytest.raises(ClusterError), record._folder(None) as folder:
        folder.mkdir()
        raise ClusterError(f"broker 1 ended (see {names.format(folder)})")
    assert folder.exists() == stays
    shutil.rmtree(folder.parent, ignore_errors=True)


def test_a_recordings_folder_goes_again() -> None:
    with record._folder(None) as folder:
        folder.mkdir()
    assert not folder.parent.exists()


# ------------------------------------------------------------ ports


def test_ports_lie_below_those_of_outgoing_connections(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ports, "EPHEMERAL", tmp_path / "range")
    (tmp_path / "range").write_text("20000\t60999\n")
    found = ports.free_ports(50)
    assert len(set(found)) == 50
    assert all(ports.LOWEST <= port < 20_000 for port in found)


def test_ports_that_are_taken_are_not_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ports, "EPHEMERAL", tmp_path / "range")
    with socket.socket() as taken:
        free = ports.free_ports(1)[0]
        taken.bind(("127.0.0.1", free))
        (tmp_path / "range").write_text(f"{free + 3}\t60999\n")
        monkeypatch.setattr(ports, "LOWEST", free)
        with pytest.raises(ClusterError, match="there are no 3 free ports"):
            ports.free_ports(3)  # free, free + 1 and free + 2 are all that is left
