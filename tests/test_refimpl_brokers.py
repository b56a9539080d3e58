"""Three brokers and ZooKeeper, through a failover and a transaction, in a network without delay."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from hwmark.refimpl import requests as rpc
from hwmark.refimpl.batches import ABORT, COMMIT, Producer
from hwmark.refimpl.broker import Broker, Disk
from hwmark.refimpl.config import ClusterConfig
from hwmark.refimpl.errors import Error
from hwmark.refimpl.machine import ZOOKEEPER, Message, Tick, earliest
from hwmark.refimpl.transaction_coordinator import PRODUCER_IDS_PER_EPOCH
from hwmark.refimpl.zookeeper import ZooKeeper
from three_replicas import ALL, HERE, THERE, TOPICS, TRANSACTIONS, batch, values


class Cluster:
    """A network without delay: messages are delivered in order as long as there are any, then time goes on."""

    def __init__(self, **config: Any) -> None:
        self.config = ClusterConfig(topics=TOPICS, min_insync_replicas=2, **config)
        self.machines: dict[str, Any] = {ZOOKEEPER: ZooKeeper(self.config)}
        self.network: deque[Message] = deque()
        self.answers: dict[int, Any] = {}
        self.now = self.asked = 0
        self.kinds: set[type] = set()
        for id in ALL:
            self.start(id)
        self.settle()

    def start(self, id: int, disk: Disk | None = None) -> None:
        broker = self.machines[f"broker-{id}"] = Broker(id, self.config, disk or Disk())
        self.network += broker.step(Tick(), self.now)

    def crash(self, id: int) -> Disk:
        disk: Disk = self.machines.pop(f"broker-{id}").disk
        self.network = deque(message for message in self.network if message.destination != f"broker-{id}")
        for here, log in disk.logs.items():
            log.recover(disk.high_watermarks.get(here, 0), False)
        return disk

    def settle(self) -> None:
        """Deliver all; a cluster that has nothing to do falls silent."""
        for _ in range(2_000):
            if not self.network:
                return
            message = self.network.popleft()
            if message.source != message.destination:
                self.kinds.add(type(message.body))
            if message.destination == "admin":
                self.answers[message.correlation] = message.body
            elif message.destination in self.machines:
                self.network += self.machines[message.destination].step(message, self.now)
        raise AssertionError("the network does not fall silent")

    def run(self, until: int) -> None:
        while True:
            due = earliest(*[machine.deadline() for machine in self.machines.values()])
            if due is None or due > until:
                self.now = until
                return
            self.now = max(due, self.now)
            for machine in list(self.machines.values()):
                deadline = machine.deadline()
                if deadline is not None and deadline <= self.now:
                    self.network += machine.step(Tick(), self.now)
                    assert machine.deadline() is None or machine.deadline() > self.now
            self.settle()

    def ask(self, id: int, body: Any) -> Any:
        self.asked += 1
        self.network.append(Message("admin", f"broker-{id}", self.asked, body))
        self.settle()
        return self.answers.get(self.asked)

    def leader(self, here: tuple[str, int]) -> int:
        leaders = [one.broker_id for one in self.brokers() if here in one.replicas and one.replicas[here].is_leader]
        assert len(leaders) == 1
        return leaders[0]

    def brokers(self) -> list[Broker]:
        return [machine for machine in self.machines.values() if isinstance(machine, Broker)]


@pytest.mark.parametrize("config", [{}, {"kip_497": False}, {"kip_595": False}, {"kip_966": True}])
def test_what_is_acknowledged_survives_the_leaders_crash(config: dict[str, bool]) -> None:
    cluster = Cluster(**config)
    cluster.run(1_000)
    assert cluster.leader(HERE) == 1 and cluster.leader(THERE) == 2
    assert cluster.ask(1, rpc.ProduceRequest(HERE, batch("a"))).error is Error.NONE
    disk = cluster.crash(1)
    cluster.run(60_000)
    leader = cluster.leader(HERE)
    assert cluster.machines[f"broker-{leader}"].replicas[HERE].isr == (2, 3)
    assert cluster.ask(leader, rpc.ProduceRequest(HERE, batch("b"))).error is Error.NONE
    cluster.start(1, disk)
    cluster.run(120_000)
    assert set(cluster.machines[f"broker-{leader}"].replicas[HERE].isr) == {1, 2, 3}
    assert [values(broker) for broker in cluster.brokers()] == [["a", "b"]] * 3
    assert {broker.replicas[HERE].log.high_watermark for broker in cluster.brokers()} == {2}
    assert cluster.config.kip_497 or rpc.AlterPartitionRequest not in cluster.kinds  # it asks ZooKeeper itself


def test_who_may_have_lost_its_tail_is_not_elected_without_the_others() -> None:
    """KIP-966: after a crash nobody knows what was flushed."""
    cluster = Cluster(kip_966=True)
    cluster.run(1_000)
    disks = {}
    for id in (3, 2, 1):
        disks[id] = cluster.crash(id)
        cluster.run(cluster.now + 40_000)
    cluster.start(2, disks[2])
    cluster.run(cluster.now + 40_000)
    assert not cluster.machines["broker-2"].replicas[HERE].is_leader
    cluster.start(1, disks[1])
    cluster.run(cluster.now + 40_000)
    assert cluster.leader(HERE) == 1


def init_producer_id(cluster: Cluster, transactional_id: str, timeout: int = 60_000) -> Producer:
    request = rpc.InitProducerIdRequest(transactional_id, timeout)
    while (found := cluster.ask(2, request)).error is Error.COORDINATOR_LOAD_IN_PROGRESS:
        cluster.run(cluster.now + 100)
    return Producer(transactional_id, *found.value)


def test_producer_ids_come_from_the_broker_epoch() -> None:
    cluster = Cluster()
    cluster.run(1_000)
    epoch = cluster.machines["broker-2"].controller.broker_epoch
    first = epoch * PRODUCER_IDS_PER_EPOCH + 1
    assert [init_producer_id(cluster, name).producer_id for name in "ab"] == [first, first + 1]


def test_a_transaction_that_lasts_too_long_is_aborted() -> None:
    cluster = Cluster()
    cluster.run(1_000)
    producer = init_producer_id(cluster, "t", 1_000)
    assert cluster.ask(2, rpc.AddPartitionsToTxnRequest(producer, (HERE,))).error is Error.NONE
    cluster.run(40_000)
    assert [batch.control for batch in cluster.machines["broker-3"].replicas[HERE].log.batches] == [ABORT]


def test_a_transaction_is_decided_on_every_broker() -> None:
    cluster = Cluster()
    cluster.run(1_000)
    coordinator = cluster.ask(1, rpc.FindCoordinatorRequest("t", True)).value
    assert coordinator == cluster.leader(TRANSACTIONS) == 2
    producer = init_producer_id(cluster, "t")
    data = batch("a", producer_id=producer.producer_id, producer_epoch=0, base_sequence=0, is_transactional=True)
    refused = cluster.ask(1, rpc.ProduceRequest(HERE, data, transactional_id="t"))
    assert refused.error is Error.TRANSACTION_ABORTABLE
    assert cluster.ask(2, rpc.AddPartitionsToTxnRequest(producer, (HERE, THERE))).error is Error.NONE
    for leader, here in ((1, HERE), (2, THERE)):
        assert cluster.ask(leader, rpc.ProduceRequest(here, data, transactional_id="t")).error is Error.NONE
    assert cluster.machines["broker-1"].replicas[HERE].log.last_stable_offset == 0
    assert cluster.ask(2, rpc.EndTxnRequest(producer, COMMIT, 1)).error is Error.NONE
    cluster.run(5_000)
    for broker in cluster.brokers():
        assert values(broker) == values(broker, THERE) == ["a", values(broker)[1]]
        assert broker.replicas[HERE].log.batches[1].control == COMMIT
        assert broker.replicas[HERE].log.last_stable_offset == broker.replicas[THERE].log.last_stable_offset == 2
