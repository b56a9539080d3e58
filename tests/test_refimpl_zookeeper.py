"""ZooKeeper and its clients: versions, ephemeral nodes, watches, and what lost and repeated messages do to them."""

from __future__ import annotations

from typing import Any

import pytest
from hwmark.refimpl import zookeeper as zk
from hwmark.refimpl.config import ClusterConfig, Topic
from hwmark.refimpl.machine import Message, Tick
from hwmark.refimpl.zookeeper import CHECK, CREATE, CREATE_EPHEMERAL, DELETE, SET, Multi, Op, Read

TIMEOUT = 18_000
CONNECTED = zk.CONNECTED, zk.OK, None
Outcome = tuple[tuple[Any, ...], str, Any]


class Pair:
    """A server, and sessions of clients with it; messages arrive at once, unless a test holds them back."""

    def __init__(self, *names: str) -> None:
        topic = Topic("x", ((1, 2),))
        self.server = zk.ZooKeeper(ClusterConfig(topics=(topic,), zookeeper_session_timeout=TIMEOUT))
        self.clients = {name: zk.ZooKeeperClient(name, TIMEOUT) for name in names}
        self.outcomes: dict[str, list[Outcome]] = {name: [] for name in names}
        for name in names:
            self.settle(name)

    def deliver(self, messages: list[Any]) -> None:
        for message in messages:
            outcome = self.clients[message.destination].receive(message.body)
            self.outcomes[message.destination] += [outcome] if outcome else []

    def settle(self, name: str, now: int = 0) -> None:
        while requests := self.clients[name].send(now):
            for request in requests:
                self.deliver(self.server.step(request, now))

    def ask(self, name: str, operation: Read | Multi, now: int = 0) -> Outcome:
        self.clients[name].submit(operation, "asked")
        self.settle(name, now)
        (outcome,) = [one for one in self.outcomes[name] if one[0] == ("asked",)]
        self.outcomes[name] = [one for one in self.outcomes[name] if one[0] != ("asked",)]
        return outcome

    def watch(self, name: str, prefix: str) -> None:
        self.clients[name].submit(Read(prefix, True), "watched", prefix)
        self.settle(name)
        self.outcomes[name].clear()

    def watched(self, name: str) -> list[str]:
        """What was read again."""
        return [context[1] for context, *_ in self.outcomes[name] if context[0] == "watched"]


def multi(*ops: Op) -> Multi:
    return Multi(ops)


def test_a_transaction_is_carried_out_as_a_whole_or_names_what_it_failed_on() -> None:
    pair = Pair("a")
    assert pair.ask("a", multi(Op(CREATE, "/m", 1), Op(CREATE, "/n", 2)))[1] == zk.OK
    before = dict(pair.server.nodes)
    refused = {
        zk.BAD_VERSION: (Op(SET, "/m", 7, 0), Op(CHECK, "/n", version=1)),
        zk.NODE_EXISTS: (Op(DELETE, "/m", version=0), Op(CREATE, "/n", 3)),
        zk.NO_NODE: (Op(SET, "/m", 7), Op(SET, "/o", 7)),
    }
    for error, ops in refused.items():
        assert pair.ask("a", multi(*ops)) == (("asked",), error, ops[1].path)
        assert pair.server.nodes == before
    assert pair.ask("a", multi(Op(SET, "/m", 7, 0), Op(CHECK, "/n", version=0), Op(SET, "/m", 8, 1)))[1] == zk.OK
    assert pair.server.nodes["/m"] == before["/m"]._replace(value=8, version=2)
    zxid = pair.ask("a", multi(Op(DELETE, "/m", version=2), Op(CREATE, "/m", 9)))[2]
    assert pair.server.nodes["/m"] == zk.Node(9, 0, zxid)


def test_a_read_finds_the_nodes_that_begin_with_its_prefix_alone() -> None:
    pair = Pair("a")
    ((path, node),) = pair.ask("a", Read("/brokers/topics"))[2]
    assert path == zk.state_path(("x", 0)) and node.value.replicas == (1, 2)
    assert node.version == node.value.partition_epoch == node.value.leader_epoch == zk.NEW
    assert pair.ask("a", Read("/brokers/ids"))[2] == ()
    assert [path for path, _ in pair.ask("a", Read(zk.CONTROLLER))[2]] == [zk.CONTROLLER_EPOCH]


def test_ephemeral_nodes_go_with_their_session_and_pings_keep_it() -> None:
    pair = Pair("a", "b")
    pair.ask("a", multi(Op(CREATE_EPHEMERAL, "/e", 1)))
    pair.watch("b", "/e")
    for now in range(0, 3 * TIMEOUT, TIMEOUT // 3):
        pair.settle("a", now)
        pair.settle("b", now)
        pair.deliver(pair.server.step(Tick(), now))
    assert "/e" in pair.server.nodes
    last = 3 * TIMEOUT - TIMEOUT // 3
    assert pair.server.deadline() == last + TIMEOUT
    pair.settle("b", last + TIMEOUT // 2)
    pair.deliver(pair.server.step(Tick(), last + TIMEOUT))
    pair.settle("b", last + TIMEOUT)
    assert "/e" not in pair.server.nodes and pair.watched("b") == ["/e"]
    pair.settle("a", last + TIMEOUT)
    assert pair.outcomes["a"][-1] == CONNECTED and len(pair.server.sessions) == 2


def test_an_expired_session_writes_nothing_and_forgets_what_was_submitted() -> None:
    pair = Pair("a")
    pair.server.step(Tick(), TIMEOUT)
    pair.clients["a"].submit(multi(Op(CREATE, "/m", 1)), "lost")
    pair.settle("a", TIMEOUT)
    assert "/m" not in pair.server.nodes
    assert pair.outcomes["a"] == [CONNECTED, CONNECTED]
    assert pair.ask("a", Read("/m"), TIMEOUT)[1] == zk.OK


def test_a_repeated_request_is_carried_out_once_and_a_late_copy_not_at_all() -> None:
    pair = Pair("a")
    client = pair.clients["a"]
    client.submit(multi(Op(CREATE, "/m", 1)), "created")
    (request,) = client.send(0)
    pair.server.step(request, 0)  # the answer is lost
    assert client.send(1) == []
    assert client.send(TIMEOUT // 3) == [request]
    pair.deliver(pair.server.step(request, TIMEOUT // 3))
    assert pair.outcomes["a"][-1] == (("created",), zk.OK, pair.server.zxid)
    pair.ask("a", multi(Op(DELETE, "/m")))
    before = list(pair.outcomes["a"])
    pair.deliver(pair.server.step(request, TIMEOUT // 3))
    assert "/m" not in pair.server.nodes and pair.outcomes["a"] == before


def test_a_watch_fires_once_and_that_is_repeated_until_its_prefix_is_read_again() -> None:
    pair = Pair("a", "b")
    pair.watch("b", "/m")
    (request,) = _request(pair, "a", multi(Op(CREATE, "/m/1", 1), Op(CREATE, "/m/2", 1), Op(CREATE, "/other", 1)))
    push, answer = pair.server.step(request, 0)
    pair.deliver([answer])
    assert push.destination == "b" and push.body.fired == ("/m",)  # and is lost
    assert len(pair.server.step(_request(pair, "a", multi(Op(SET, "/m/1", 2)))[0], 0)) == 1
    assert pair.ask("b", Read("/nothing"))[2] == ()
    assert pair.watched("b") == ["/m"] and pair.server.sessions[pair.clients["b"].session].fired == ()
    pair.deliver([push])  # late after all: once too often
    pair.settle("b")
    assert pair.watched("b") == ["/m", "/m"]
    pair.clients["a"].is_asking, pair.clients["a"].queue = False, []
    pair.deliver(pair.server.step(_request(pair, "a", multi(Op(SET, "/m/1", 3)))[0], 0))
    pair.settle("b")
    assert pair.watched("b") == ["/m", "/m", "/m"]
    assert dict(pair.outcomes["b"][-1][2])["/m/1"].value == 3


def test_a_check_is_no_change() -> None:
    pair = Pair("a")
    pair.watch("a", zk.CONTROLLER_EPOCH)
    assert pair.ask("a", multi(Op(CHECK, zk.CONTROLLER_EPOCH, version=0)))[1] == zk.OK
    assert pair.watched("a") == []
    pair.ask("a", multi(Op(SET, zk.CONTROLLER_EPOCH, 1)))
    assert pair.watched("a") == [zk.CONTROLLER_EPOCH]


def test_a_former_session_says_nothing_any_more() -> None:
    pair = Pair("a")
    late = zk.ZooKeeperResponse(pair.clients["a"].session, fired=("/m",))
    pair.server.step(Tick(), TIMEOUT)
    pair.settle("a", TIMEOUT)
    session = pair.clients["a"].session
    assert session != late.session
    assert pair.clients["a"].receive(late) is None
    assert pair.clients["a"].session == session and pair.clients["a"].queue == []


def test_what_has_changed_is_read_before_anything_that_is_submitted_after_the_answer() -> None:
    pair = Pair("a")
    pair.watch("a", "/m")
    messages = pair.server.step(_request(pair, "a", multi(Op(CREATE, "/m", 1)))[0], 0)
    assert len(messages) == 1
    pair.deliver(messages)
    assert pair.outcomes["a"][-1][0] == ("asked",)
    assert pair.clients["a"].queue == [(Read("/m", True), ("watched", "/m"))]


@pytest.mark.parametrize("copies", [1, 2])
def test_a_repeated_connect_leaves_one_session_in_use(copies: int) -> None:
    pair = Pair()
    pair.clients["a"], pair.outcomes["a"] = zk.ZooKeeperClient("a", TIMEOUT), []
    (request,) = pair.clients["a"].send(0)
    for _ in range(copies):
        pair.deliver(pair.server.step(request, 0))
    assert pair.outcomes["a"] == [CONNECTED] and len(pair.server.sessions) == copies
    pair.settle("a", TIMEOUT // 3)
    pair.server.step(Tick(), TIMEOUT)
    assert list(pair.server.sessions) == [pair.clients["a"].session]


def _request(pair: Pair, name: str, operation: Read | Multi) -> list[Message]:
    pair.clients[name].submit(operation, "asked")
    return pair.clients[name].send(0)
