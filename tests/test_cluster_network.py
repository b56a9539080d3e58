"""Networks of namespaces: what is left of one, and real packets, which arrive where no cut is in their way."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from random import Random
from types import ModuleType

import pytest
from hwmark.checkers.cluster import network
from hwmark.checkers.cluster.cluster import Cluster
from hwmark.checkers.cluster.errors import ClusterError
from hwmark.checkers.cluster.faults import Fault, apply
from hwmark.checkers.cluster.network import Network
from hwmark.checkers.cluster.strays import remove_remains

pytestmark = pytest.mark.skipif(network.why_not() is not None, reason=str(network.why_not()))

NODES, CLIENT, PORT = (1, 2, 3, 101), 254, 9000
Pairs = set[tuple[int, int]]
"""Who hears whom: the sender first."""

ALL: Pairs = set(permutations((*NODES, CLIENT), 2))
OPENED = """
import socket, sys
opened, back = socket.socket(type=int(sys.argv[1])), socket.socket(fileno=int(sys.argv[2]))
opened.bind((sys.argv[3], int(sys.argv[4])))
socket.send_fds(back, [b"-"], [opened.fileno()])
"""


def opened(made: Network, node: int, kind: socket.SocketKind) -> socket.socket:
    """A socket at a node: it stays there, whoever uses it."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        arguments = map(str, (int(kind), theirs.fileno(), made.address(node), PORT))
        command = [sys.executable, "-c", OPENED, *arguments]
        command = command if node == CLIENT else made.command(node, command)
        subprocess.run(command, pass_fds=[theirs.fileno()], check=True)
        return socket.socket(fileno=socket.recv_fds(ours, 1, 1)[1][0])


class Ether:
    """Sockets at all nodes, and one for the clients."""

    def __init__(self, made: Network) -> None:
        self.made = made
        self.sockets = {node: opened(made, node, socket.SOCK_DGRAM) for node in (*NODES, CLIENT)}
        for one in self.sockets.values():
            one.setblocking(False)

    def heard(self, expected: Pairs) -> Pairs:
        """Who hears whom, once these have, or after a while: all say it again and again."""
        heard, deadline = self._round(), time.monotonic() + 20
        while not expected <= heard and time.monotonic() < deadline:
            heard |= self._round()
        return heard | self._round()

    def _round(self) -> Pairs:
        for source, destination in ALL:
            try:
                self.sockets[source].sendto(b"%d" % source, (self.made.address(destination), PORT))
            except OSError:
                assert source != CLIENT, "clients are not told either"
        time.sleep(0.05)
        return {(int(word), node) for node in self.sockets for word in self._words(node)}

    def _words(self, node: int) -> Iterator[bytes]:
        while True:
            try:
                yield self.sockets[node].recv(10)
            except BlockingIOError:
                return

    def flush(self) -> None:
        """Forget what was said before."""
        for node in self.sockets:
            list(self._words(node))


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory, cluster_world: ModuleType) -> Iterator[tuple[Cluster, Ether]]:
    """A cluster whose nodes are down, and its network."""
    cluster: Cluster = cluster_world.cluster(tmp_path_factory.mktemp("network") / "c")
    cluster.network = Network(cluster.folder)
    with cluster:
        cluster.network.create(NODES)
        ether = Ether(cluster.network)
        yield cluster, ether
        for one in ether.sockets.values():
            one.close()


def both_ways(some: tuple[int, ...], others: tuple[int, ...]) -> Pairs:
    return {pair for one in some for other in others for pair in ((one, other), (other, one))}


@pytest.mark.parametrize(
    ("fault", "silent"),
    [
        (Fault("partition", ("1",)), both_ways((1,), (2, 3, 101))),
        (Fault("partition", ("1", "2"), ("3", "101")), both_ways((1, 2), (3, 101))),
        (Fault("one-way", ("1",)), {(1, 2), (1, 3), (1, 101)}),
        (Fault("one-way", ("1", "2"), ("3",)), {(1, 3), (2, 3)}),
        (Fault("isolate", ("1", "2")), both_ways((1,), (2, 3, 101)) | both_ways((2,), (3, 101))),
        (Fault("unplug", ("3",)), both_ways((3,), (1, 2, 101, CLIENT))),
    ],
    ids=lambda value: " ".join((value.kind, *value.targets)) if isinstance(value, Fault) else "",
)
def test_a_fault_cuts_these_links_and_no_others(joined: tuple[Cluster, Ether], fault: Fault, silent: Pairs) -> None:
    cluster, ether = joined
    assert ether.heard(ALL) == ALL
    for _ in range(2):  # what is cut can be cut again
        apply(cluster, fault, Random(0))
    ether.flush()
    assert ether.heard(ALL - silent) == ALL - silent
    apply(cluster, Fault("heal"), Random(0))
    assert ether.heard(ALL) == ALL


def test_one_node_is_healed_on_both_sides_of_its_cuts(joined: tuple[Cluster, Ether]) -> None:
    cluster, ether = joined
    apply(cluster, Fault("isolate", ("1", "2")), Random(0))
    apply(cluster, Fault("heal", ("1",)), Random(0))
    ether.flush()
    left = ALL - both_ways((2,), (3, 101))
    assert ether.heard(left) == left
    apply(cluster, Fault("heal"), Random(0))
    assert ether.heard(ALL) == ALL


def test_what_is_under_way_waits(joined: tuple[Cluster, Ether]) -> None:
    """Nobody is told of a cut: connections last, new ones are not refused, and all comes when it has ended."""
    cluster, ether = joined
    one, other = (opened(ether.made, node, socket.SOCK_STREAM) for node in (1, 2))
    other.listen()
    one.connect((ether.made.address(2), PORT))
    accepted, _ = other.accept()
    apply(cluster, Fault("partition", ("1",), ("2",)), Random(0))
    one.send(b"late")
    accepted.settimeout(0.5)
    with pytest.raises(TimeoutError):
        accepted.recv(4)
    new = opened(ether.made, 3, socket.SOCK_STREAM)
    apply(cluster, Fault("partition", ("3",), ("2",)), Random(0))
    new.settimeout(0.5)
    with pytest.raises(TimeoutError):
        new.connect((ether.made.address(2), PORT))
    apply(cluster, Fault("heal"), Random(0))
    accepted.settimeout(30)
    assert accepted.recv(4) == b"late"
    for each in (one, other, accepted, new):
        each.close()


# ------------------------------------------------------------ coming and going


def test_what_is_left_of_a_network_is_removed_and_made_anew(tmp_path: Path) -> None:
    made = Network(tmp_path)
    try:
        made.create([1, 2])
        kept = subprocess.Popen(made.command(1, ["sleep", "600"]))  # somebody is still in it
        assert made.exists()
        made.create([1, 2, 101])
        made.partition([1], [2])
        kept.kill()
        kept.wait()
    finally:
        made.delete()
    assert not made.exists()
    made.delete()


def test_addresses_in_use_are_refused(tmp_path: Path) -> None:
    made, other = Network(tmp_path), f"hwt{os.getpid()}"
    subprocess.run(["ip", "link", "add", other, "type", "bridge"], check=True)
    try:
        subprocess.run(["ip", "address", "add", f"{made.address(7)}/28", "dev", other], check=True)
        subprocess.run(["ip", "link", "set", other, "up"], check=True)
        with pytest.raises(ClusterError, match=rf"the addresses {made.address(0)}/24 are in use here"):
            made.create([1])
        assert not made.exists()
    finally:
        subprocess.run(["ip", "link", "delete", other], check=True)


def test_the_network_of_a_folder_that_is_gone_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    Network(folder).create([1])
    assert remove_remains(folder) == ([], True)
    assert not Network(folder).exists()
