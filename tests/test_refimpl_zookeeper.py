"""ZooKeeper: versions, ephemeral nodes, watches, and what lost and repeated messages do to them."""

from __future__ import annotations

from typing import Any

import pytest
from hwmark.refimpl import zookeeper as zk
from hwmark.refimpl.config import ClusterConfig, Topic
from hwmark.refimpl.machine import ZOOKEEPER, Message, Tick
from hwmark.refimpl.zookeeper import CHECK, CREATE, DELETE, SET, Op

TIMEOUT = 18_000


class Server:
    """The server, and clients by their names: each has the session and the number of its last request."""

    def __init__(self, *names: str) -> None:
        topic = Topic("x", ((1, 2),))
        self.machine = zk.ZooKeeper(ClusterConfig(topics=(topic,), zookeeper_session_timeout=TIMEOUT))
        self.sessions = dict.fromkeys(names, 0)
        self.numbers = dict.fromkeys(names, 0)
        self.fired: list[str] = []
        for name in names:
            self.ask(name)

    def request(self, name: str, *ops: Op, paths: tuple[str, ...] = ()) -> Message:
        """The client's next request."""
        self.numbers[name] += 1
        body = zk.ZooKeeperRequest(self.sessions[name], paths, ops)
        return Message(name, ZOOKEEPER, self.numbers[name], body)

    def take(self, request: Message, now: int = 0) -> Any:
        """The answer; watches that fire are noted. A session's first answer says its number."""
        answers = self.step(request, now)
        assert len(answers) <= 1
        for message in answers:
            assert (message.destination, message.correlation) == (request.source, request.correlation)
            self.sessions[message.destination] = message.body.session
        return answers[0].body if answers else None

    def step(self, event: Any, now: int = 0) -> list[Any]:
        """What the server says, but for the watches that fire."""
        said: list[Any] = self.machine.step(event, now)
        fired = [one for one in said if one.correlation == 0]
        assert all(one.body == zk.ZooKeeperResponse(self.sessions[one.destination]) for one in fired)
        self.fired += [one.destination for one in fired]
        return [one for one in said if one not in fired]

    def ask(self, name: str, *ops: Op, paths: tuple[str, ...] = (), now: int = 0) -> Any:
        return self.take(self.request(name, *ops, paths=paths), now)

    def write(self, name: str, *ops: Op) -> bool:
        """Whether a transaction is carried out."""
        before = self.machine.zxid
        self.ask(name, *ops)
        return self.machine.zxid > before

    def read(self, name: str, *paths: str, now: int = 0) -> dict[str, zk.Node]:
        nodes: dict[str, zk.Node] = self.ask(name, paths=paths, now=now).nodes
        return nodes


def test_a_transaction_is_carried_out_as_a_whole_or_not_at_all() -> None:
    server = Server("a")
    assert server.write("a", Op(CREATE, "/m", value=1), Op(CREATE, "/n", value=2))
    before = dict(server.machine.nodes)
    for refused in (
        (Op(SET, "/m", 0, 7), Op(CHECK, "/n", 1)),
        (Op(DELETE, "/m", 0), Op(CREATE, "/n", value=3)),
        (Op(SET, "/m", 0, 7), Op(SET, "/o", 0, 7)),
    ):
        assert not server.write("a", *refused) and server.machine.nodes == before
    assert server.write("a", Op(SET, "/m", 0, 7), Op(CHECK, "/n", 0), Op(SET, "/m", 1, 8))
    assert server.machine.nodes["/m"] == before["/m"]._replace(value=8, version=2)
    assert server.write("a", Op(DELETE, "/m", 2), Op(CREATE, "/m", value=9))
    assert server.machine.nodes["/m"] == zk.Node(9, 0, server.machine.zxid, server.sessions["a"])


def test_a_request_reads_what_it_has_written() -> None:
    server = Server("a")
    assert server.ask("a", Op(CREATE, "/m", value=1), paths=("/m",)).nodes["/m"].value == 1
    assert server.ask("a", Op(SET, "/m", 7, 2), paths=("/m",)).nodes["/m"].value == 1
    assert server.fired == []


def test_a_read_finds_the_nodes_that_begin_with_its_paths_alone() -> None:
    server = Server("a")
    ((path, node),) = server.read("a", "/brokers/topics", "/brokers/ids").items()
    assert path == zk.state_path(("x", 0)) and node.value.replicas == (1, 2)
    assert node.version == node.value.partition_epoch == node.value.leader_epoch == zk.NEW
    assert server.read("a", "/brokers/ids") == {}
    assert list(server.read("a", zk.CONTROLLER)) == [zk.CONTROLLER_EPOCH]


def test_ephemeral_nodes_go_with_their_session_and_pings_keep_it() -> None:
    server = Server("a", "b")
    assert server.write("a", Op(CREATE, "/e", value=1))
    for now in range(0, 3 * TIMEOUT, TIMEOUT // 3):
        server.ask("a", now=now)
        server.read("b", "/e", now=now)
        server.step(Tick(), now)
    assert "/e" in server.machine.nodes
    last = 3 * TIMEOUT - TIMEOUT // 3
    assert server.machine.deadline() == last + TIMEOUT
    server.read("b", "/e", now=last + TIMEOUT // 2)
    server.step(Tick(), last + TIMEOUT)
    assert "/e" not in server.machine.nodes and server.fired == ["b"]
    former = server.sessions["a"]
    server.ask("a", now=last + TIMEOUT)
    assert server.sessions["a"] != former and len(server.machine.sessions) == 2


def test_an_expired_session_writes_nothing() -> None:
    server = Server("a")
    server.step(Tick(), TIMEOUT)
    answer = server.ask("a", Op(CREATE, "/m", value=1), paths=("/m",), now=TIMEOUT)
    assert answer.nodes == {} and "/m" not in server.machine.nodes
    assert server.write("a", Op(CREATE, "/m", value=1))


def test_a_repeated_request_is_carried_out_once_and_a_late_copy_not_at_all() -> None:
    server = Server("a")
    create = server.request("a", Op(CREATE, "/m", value=1), paths=("/m",))
    first = server.take(create)  # the answer is lost
    assert server.take(create) == first and first.nodes["/m"].version == 0
    assert server.write("a", Op(DELETE, "/m", 0))
    assert server.take(create) is None
    assert "/m" not in server.machine.nodes


def test_a_watch_fires_once_and_a_ping_reads_what_has_changed() -> None:
    server = Server("a", "b")
    server.read("b", "/m")
    server.write("a", Op(CREATE, "/m/1"), Op(CREATE, "/m/2"), Op(CREATE, "/other"))
    assert server.fired == ["b"]  # and is lost
    server.write("a", Op(SET, "/m/1", 0, 2))
    assert server.fired == ["b"]
    assert server.read("b", "/m", now=TIMEOUT // 3)["/m/1"].value == 2
    server.write("a", Op(SET, "/m/1", 1, 3))
    assert server.fired == ["b", "b"]


def test_what_changes_before_a_read_is_answered_is_told_all_the_same() -> None:
    server = Server("a", "b")
    read = server.request("b", paths=("/m",))
    assert server.take(read).nodes == {}
    server.write("a", Op(CREATE, "/m"))
    assert server.fired == ["b"]
    assert "/m" in server.take(read).nodes


def test_a_check_is_no_change() -> None:
    server = Server("a", "b")
    server.read("b", zk.CONTROLLER_EPOCH)
    assert server.write("a", Op(CHECK, zk.CONTROLLER_EPOCH, 0)) and server.fired == []
    assert server.write("a", Op(SET, zk.CONTROLLER_EPOCH, 0, 1)) and server.fired == ["b"]


@pytest.mark.parametrize("copies", [1, 2])
def test_a_repeated_connect_leaves_one_session_in_use(copies: int) -> None:
    server = Server()
    server.sessions["a"] = server.numbers["a"] = 0
    connect = server.request("a")
    for _ in range(copies):
        server.take(connect)
    assert len(server.machine.sessions) == copies
    server.ask("a", now=TIMEOUT // 3)
    server.step(Tick(), TIMEOUT)
    assert list(server.machine.sessions) == [server.sessions["a"]]
