"""ZooKeeper and its clients: versions, ephemeral nodes, watches, and what lost and repeated messages do to them."""

from __future__ import annotations

from typing import Any

import pytest
from hwmark.refimpl import zookeeper as zk
from hwmark.refimpl.config import ClusterConfig, Topic
from hwmark.refimpl.machine import Tick
from hwmark.refimpl.zookeeper import CHECK, CREATE, DELETE, SET, Multi, Op, Read

TIMEOUT = 18_000


class Pair:
    """A server, and sessions of clients with it; messages arrive at once, unless a test holds them back."""

    def __init__(self, *names: str) -> None:
        topic = Topic("x", ((1, 2),))
        self.server = zk.ZooKeeper(ClusterConfig(topics=(topic,), zookeeper_session_timeout=TIMEOUT))
        self.clients = {name: zk.ZooKeeperClient(name, TIMEOUT) for name in names}
        self.news: dict[str, list[Any]] = {name: [] for name in names}
        for name in names:
            self.send(name)

    def deliver(self, messages: list[Any]) -> None:
        for message in messages:
            self.news[message.destination].append(self.clients[message.destination].receive(message.body))

    def send(self, name: str, operation: Read | Multi | None = None, now: int = 0) -> None:
        for request in self.clients[name].send(operation, now):
            self.deliver(self.server.step(request, now))

    def write(self, name: str, *ops: Op, now: int = 0) -> bool:
        """Whether a transaction is carried out."""
        self.send(name, Multi(ops), now)
        return self.news[name][-1] == Multi(ops)

    def read(self, name: str, *prefixes: str, now: int = 0) -> dict[str, zk.Node]:
        self.send(name, Read(prefixes), now)
        assert self.news[name][-1] == Read(prefixes) and self.clients[name].watches == prefixes
        return self.clients[name].nodes


def multi(*ops: Op) -> Multi:
    return Multi(ops)


def test_a_transaction_is_carried_out_as_a_whole_or_not_at_all() -> None:
    pair = Pair("a")
    assert pair.write("a", Op(CREATE, "/m", value=1), Op(CREATE, "/n", value=2))
    before = dict(pair.server.nodes)
    for refused in (
        (Op(SET, "/m", 0, 7), Op(CHECK, "/n", 1)),
        (Op(DELETE, "/m", 0), Op(CREATE, "/n", value=3)),
        (Op(SET, "/m", 0, 7), Op(SET, "/o", 0, 7)),
    ):
        assert not pair.write("a", *refused) and pair.server.nodes == before
    assert pair.write("a", Op(SET, "/m", 0, 7), Op(CHECK, "/n", 0), Op(SET, "/m", 1, 8))
    assert pair.server.nodes["/m"] == before["/m"]._replace(value=8, version=2)
    assert pair.write("a", Op(DELETE, "/m", 2), Op(CREATE, "/m", value=9))
    session = pair.clients["a"].session
    assert pair.server.nodes["/m"] == zk.Node(9, 0, pair.server.zxid, session)


def test_a_read_finds_the_nodes_that_begin_with_its_prefixes_alone() -> None:
    pair = Pair("a")
    ((path, node),) = pair.read("a", "/brokers/topics", "/brokers/ids").items()
    assert path == zk.state_path(("x", 0)) and node.value.replicas == (1, 2)
    assert node.version == node.value.partition_epoch == node.value.leader_epoch == zk.NEW
    assert pair.read("a", "/brokers/ids") == {}
    assert list(pair.read("a", zk.CONTROLLER)) == [zk.CONTROLLER_EPOCH]


def test_ephemeral_nodes_go_with_their_session_and_pings_keep_it() -> None:
    pair = Pair("a", "b")
    assert pair.write("a", Op(CREATE, "/e", value=1))
    pair.read("b", "/e")
    for now in range(0, 3 * TIMEOUT, TIMEOUT // 3):
        pair.send("a", now=now)
        pair.send("b", now=now)
        pair.deliver(pair.server.step(Tick(), now))
    assert "/e" in pair.server.nodes
    last = 3 * TIMEOUT - TIMEOUT // 3
    assert pair.server.deadline() == last + TIMEOUT
    pair.send("b", now=last + TIMEOUT // 2)
    pair.deliver(pair.server.step(Tick(), last + TIMEOUT))
    assert "/e" not in pair.server.nodes and pair.clients["b"].watches == ()
    pair.send("a", now=last + TIMEOUT)
    assert pair.news["a"][-1] == zk.CONNECTED and len(pair.server.sessions) == 2


def test_an_expired_session_writes_nothing() -> None:
    pair = Pair("a")
    pair.server.step(Tick(), TIMEOUT)
    assert not pair.write("a", Op(CREATE, "/m", value=1), now=TIMEOUT)
    assert "/m" not in pair.server.nodes
    assert pair.news["a"] == [zk.CONNECTED, zk.CONNECTED]
    assert pair.read("a", "/m", now=TIMEOUT) == {}


def test_a_repeated_request_is_carried_out_once_and_a_late_copy_not_at_all() -> None:
    pair = Pair("a")
    client, create = pair.clients["a"], multi(Op(CREATE, "/m", value=1))
    (request,) = client.send(create, 0)
    pair.server.step(request, 0)  # the answer is lost
    assert client.send(None, 1) == client.send(create, 1) == []
    assert client.send(None, TIMEOUT // 3) == [request]
    pair.deliver(pair.server.step(request, TIMEOUT // 3))
    assert pair.news["a"][-1] == create
    assert pair.write("a", Op(DELETE, "/m", 0))
    pair.deliver(pair.server.step(request, TIMEOUT // 3))
    assert "/m" not in pair.server.nodes and pair.news["a"][-1] is None


def test_a_watch_fires_once_and_that_is_repeated_until_the_session_reads_again() -> None:
    pair = Pair("a", "b")
    pair.read("b", "/m")
    (request,) = pair.clients["a"].send(multi(Op(CREATE, "/m/1"), Op(CREATE, "/m/2"), Op(CREATE, "/other")), 0)
    push, answer = pair.server.step(request, 0)
    assert push.destination == "b" and not push.body.watches  # and is lost
    pair.deliver([answer])
    (request,) = pair.clients["a"].send(multi(Op(SET, "/m/1", 0, 2)), 0)
    (answer,) = pair.server.step(request, 0)
    pair.deliver([answer])
    assert pair.clients["b"].watches == ("/m",)
    pair.send("b", now=TIMEOUT // 3)  # a ping
    assert pair.clients["b"].watches == ()
    assert pair.read("b", "/m", now=TIMEOUT // 3)["/m/1"].value == 2
    pair.deliver([push])  # late after all: once too often
    assert pair.clients["b"].watches == ()
    pair.read("b", "/m", now=TIMEOUT // 3)
    assert pair.write("a", Op(SET, "/m/1", 1, 3)) and pair.clients["b"].watches == ()


def test_what_changes_before_a_read_is_answered_is_read_again() -> None:
    pair = Pair("a", "b")
    (read,) = pair.clients["b"].send(Read(("/m",)), 0)
    pair.server.step(read, 0)  # the answer is lost, and then the push is
    (create,) = pair.clients["a"].send(multi(Op(CREATE, "/m")), 0)
    pair.server.step(create, 0)
    pair.deliver(pair.server.step(read, 0))
    assert pair.clients["b"].nodes == {} and pair.clients["b"].watches == ()


def test_a_check_is_no_change() -> None:
    pair = Pair("a")
    pair.read("a", zk.CONTROLLER_EPOCH)
    assert pair.write("a", Op(CHECK, zk.CONTROLLER_EPOCH, 0)) and pair.clients["a"].watches
    assert pair.write("a", Op(SET, zk.CONTROLLER_EPOCH, 0, 1)) and not pair.clients["a"].watches


def test_a_former_session_says_nothing_any_more() -> None:
    pair = Pair("a")
    late = zk.ZooKeeperResponse(pair.clients["a"].session)
    pair.server.step(Tick(), TIMEOUT)
    pair.send("a", now=TIMEOUT)
    session = pair.clients["a"].session
    assert session != late.session
    pair.read("a", "/m", now=TIMEOUT)
    assert pair.clients["a"].receive(late) is None
    assert pair.clients["a"].session == session and pair.clients["a"].watches == ("/m",)


@pytest.mark.parametrize("copies", [1, 2])
def test_a_repeated_connect_leaves_one_session_in_use(copies: int) -> None:
    pair = Pair()
    pair.clients["a"], pair.news["a"] = zk.ZooKeeperClient("a", TIMEOUT), []
    (request,) = pair.clients["a"].send(None, 0)
    for _ in range(copies):
        pair.deliver(pair.server.step(request, 0))
    assert pair.news["a"] == [zk.CONNECTED, None][:copies] and len(pair.server.sessions) == copies
    pair.send("a", now=TIMEOUT // 3)
    pair.server.step(Tick(), TIMEOUT)
    assert list(pair.server.sessions) == [pair.clients["a"].session]
