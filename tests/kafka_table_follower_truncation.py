"""Kafka's AbstractFetcherThreadTest and ReplicaFetcherThreadTest, asked of two replicas of a partition.

A round is what a fetcher's thread does in one: one request to truncate, if it starts with that, and one fetch with what
that leads to. The leader's high watermark stands still, as in Kafka's mock: a third member of the ISR never fetches.
"""

from __future__ import annotations

from typing import Any

from hwmark.refimpl import requests as rpc
from hwmark.refimpl.batches import Batch, EpochEndOffset, Record
from hwmark.refimpl.config import ClusterConfig
from hwmark.refimpl.errors import Error, KafkaError
from hwmark.refimpl.log import Log
from hwmark.refimpl.partition_change import NO_LEADER, PartitionRegistration
from hwmark.refimpl.replica import NEVER, Replica

DISAGREES: dict[str, str] = {}

HERE = ("topic", 0)
FOLLOWER, LEADER, ABSENT = 0, 1, 2
ROUNDS_MAX = 50


class CountingLog(Log):
    """A log that counts how often it was told to truncate."""

    truncations = 0

    def truncate_to(self, offset: int) -> None:
        self.truncations += 1
        Log.truncate_to(self, offset)


def batch(base: int, epoch: int, values: str) -> Batch:
    return Batch(
        base, base + len(values) - 1, epoch, tuple(Record(base + i, None, value) for i, value in enumerate(values))
    )


def log_of(state: dict[str, Any]) -> CountingLog:
    log = CountingLog()
    log.truncate_fully_and_start_at(state["start"])
    log.append_as_follower([batch(*fields) for fields in state["log"]])
    assert log.log_end_offset == state["end"]
    log.truncations = 0
    log.update_high_watermark(state["hw"])
    return log


def batches(log: Log) -> list[list[Any]]:
    """What a log holds, as the table writes it."""
    read = log.read(log.log_start_offset, log.log_end_offset)
    return [[b.base_offset, b.leader_epoch, "".join(str(record.value) for record in b.records)] for b in read]


def registration(leader: int, leader_epoch: int) -> PartitionRegistration:
    brokers = FOLLOWER, LEADER, ABSENT
    return PartitionRegistration(brokers, (LEADER, ABSENT), leader, leader_epoch)


class Fetcher:
    """A follower, its leader, and what goes wrong between them."""

    def __init__(self, row: dict[str, Any], follower: Replica, leader: Replica) -> None:
        self.row, self.follower, self.leader = row, follower, leader
        self.is_lost = "corrupted in transit" in row.get("note", "")  # batches have no bytes that could be corrupt
        self.has_failed = False
        fields = {"earliest_offset_error": rpc.EARLIEST, "first_latest_offset_error": rpc.LATEST}
        self.errors = {timestamp: Error[row[name]] for name, timestamp in fields.items() if name in row}

    @property
    def request(self) -> Any:
        """What the follower asks, if it is not fenced."""
        return self.follower.request if self.follower.ask_at < NEVER else None

    def follow(self, leader_epoch: int, fetch_offset: int | None = None) -> None:
        """Kafka's addPartitions: where the epoch is the old one, nothing changes."""
        is_known = self.follower.leader_epoch == leader_epoch
        self.follower.become(registration(LEADER, leader_epoch), 0)
        if is_known:
            return
        if self.row.get("force_truncation"):
            self.force_truncation()
        elif fetch_offset is not None and isinstance(self.follower.request, rpc.FetchRequest):
            self.follower.request = self.follower.request._replace(fetch_offset=fetch_offset)

    def force_truncation(self) -> None:
        """Truncating without a record, as Kafka's mock may be: it takes the latest epoch of an empty log for 0."""
        log = self.follower.log
        assert isinstance(log, CountingLog)
        log.assign_leader_epoch(0, log.log_end_offset)
        log.truncations = 0
        epoch = self.follower.leader_epoch
        self.follower.request = rpc.OffsetsForLeaderEpochRequest(HERE, 0, epoch)

    def ask(self, change_in_flight: int | None = None) -> None:
        """Take the follower's request to the leader, and the answer back."""
        request = self.follower.request
        assert request is not None
        answer = self.answer(request)
        if change_in_flight is not None:
            self.follower.log = CountingLog()
            self.follow(change_in_flight)
        if self.is_lost:
            self.is_lost = False
            return
        self.follower.handle_response(request, answer, 0)
        self.has_failed |= answer.error is Error.FENCED_LEADER_EPOCH and self.request is None

    def answer(self, request: Any) -> Any:
        handlers: dict[type, Any] = {
            rpc.FetchRequest: lambda fetch: self.leader.fetch(fetch, 0),
            rpc.ListOffsetsRequest: self.leader.list_offsets,
            rpc.OffsetsForLeaderEpochRequest: self.leader.offsets_for_leader_epoch,
        }
        try:
            if isinstance(request, rpc.ListOffsetsRequest) and request.timestamp in self.errors:
                raise KafkaError(self.errors.pop(request.timestamp))
            return handlers[type(request)](request)
        except KafkaError as refusal:
            return rpc.refusal(request, refusal.error)

    def round(self, change_in_flight: int | None = None) -> None:
        if isinstance(self.request, rpc.OffsetsForLeaderEpochRequest):
            self.ask(change_in_flight)
        if isinstance(self.request, rpc.FetchRequest):
            self.ask()
        while isinstance(self.request, rpc.ListOffsetsRequest):
            self.ask()

    def has_converged(self) -> bool:
        return batches(self.follower.log) == batches(self.leader.log)

    def truncate_on_fetch_response(self, epoch: int, end_offset: int) -> None:
        """The answer to what was asked when the partition was still followed."""
        if isinstance(self.follower.request, rpc.FetchRequest):
            self.asked = self.follower.request
        diverging = rpc.FetchResponse(diverging_epoch=EpochEndOffset(epoch, end_offset))
        self.follower.handle_response(self.asked, diverging, 0)

    def apply(self, step: Any) -> None:
        name, *arguments = [step] if isinstance(step, str) else step
        {
            "round": self.round,
            "round_with_follower_epoch_change_in_flight": self.round,
            "leader_epoch": lambda epoch: setattr(self.leader, "leader_epoch", epoch),
            "leader_reset": lambda state: setattr(self, "leader", leader_of(state, self.leader.config)),
            "add_partition": lambda offset, epoch: self.follow(epoch, offset),
            "remove_partition": lambda: self.follower.become(
                registration(NO_LEADER, self.follower.leader_epoch + 1), 0
            ),
            "truncate_on_fetch_response": self.truncate_on_fetch_response,
        }[name](*arguments)


def leader_of(state: dict[str, Any], config: ClusterConfig) -> Replica:
    """A leader as a table describes it; it has no epoch that only begins, as Kafka's mock has none."""
    leader = Replica(LEADER, HERE, config, log=log_of(state))
    epochs = dict(leader.log.leader_epochs)
    leader.become(registration(LEADER, state["leader_epoch"]), 0)
    leader.log.leader_epochs = epochs
    return leader


def run_fetcher(row: dict[str, Any]) -> None:
    leads = row.get("leader")
    config = ClusterConfig(
        kip_101="leader" not in row or leads is not None,
        kip_595=row["truncate_on_fetch"],
        replica_fetch_max_records=1,
    )
    follower = Replica(FOLLOWER, HERE, config, log=log_of(row["follower"]))
    if "follower_latest_epoch" in row and row["follower_latest_epoch"] is None:
        follower.log.leader_epochs = {}
    nothing = {"log": [], "leader_epoch": row["follower"]["leader_epoch"], "start": 0, "end": 0, "hw": 0}
    fetcher = Fetcher(row, follower, leader_of(leads or nothing, config))
    fetcher.follow(row.get("follower_epoch", row["follower"]["leader_epoch"]), row["fetch_offset"])
    play(row, fetcher)
    check(row["expect"], fetcher)


def play(row: dict[str, Any], fetcher: Fetcher) -> None:
    rounds = row.get("rounds", 0)
    for step in row.get("script", []):
        fetcher.apply(step)
    for _ in range(ROUNDS_MAX if rounds == "until equal" else rounds):
        if rounds == "until equal" and fetcher.has_converged():
            break
        if row.get("leader", True):
            fetcher.round()


def check(expect: dict[str, Any], fetcher: Fetcher) -> None:
    """Every field that is asserted, and none that is not understood."""
    follower, request = fetcher.follower, fetcher.request
    log = follower.log
    assert isinstance(log, CountingLog)
    states = {rpc.FetchRequest: "Fetching", rpc.OffsetsForLeaderEpochRequest: "Truncating", type(None): None}
    answers = {
        "truncate_to": lambda: log.log_end_offset,
        "truncation_completed": lambda: isinstance(request, rpc.FetchRequest),
        "ready_for_fetch": lambda: isinstance(request, rpc.FetchRequest),
        "fetches_epoch_again": lambda: isinstance(request, rpc.OffsetsForLeaderEpochRequest),
        "fetch_offset": lambda: getattr(request, "fetch_offset", None),
        "last_fetched_epoch": lambda: getattr(request, "last_fetched_epoch", None),
        "state": lambda: states[type(request)],
        "failed": lambda: fetcher.has_failed,
        "current_leader_epoch": lambda: getattr(request, "current_leader_epoch", None),
        "truncations": lambda: log.truncations,
        "converges": fetcher.has_converged,
    }
    has = {
        "log": batches(log),
        "start": log.log_start_offset,
        "end": log.log_end_offset,
        "hw": log.high_watermark,
    }
    for name, value in expect.items():
        if name == "follower":
            assert {part: has[part] for part in value} == value
        else:
            assert answers[name]() == value, name


def epoch_cache(asked: int, answer: list[int] | None, log_end_offset: int) -> dict[int, int]:
    """The epochs of a log that gives this answer: a later one than asked for begins there, if the log goes on."""
    if answer is None:
        return {}
    end, epoch = answer
    later = {} if epoch == asked and end == log_end_offset else {asked + 1: end}
    return {epoch: 0} | later


def run_truncation_decision(row: dict[str, Any]) -> None:
    """One answer of the leader.

    The row's mocks say of the follower's log what no one log is: its latest epoch as it asks, and as the answer comes,
    where the epoch ended that this is about.
    """
    reply, is_fetch = row["reply"], row["via"].startswith("diverging")
    latest, high_watermark = row["follower_latest_epoch"], row["high_watermark"]
    log = CountingLog()
    log.log_end_offset = row["log_end_offset"] or high_watermark + 1
    log.leader_epochs = {0 if latest is None else latest: 0}
    log.update_high_watermark(high_watermark)
    follower = Replica(FOLLOWER, HERE, ClusterConfig(kip_595=is_fetch), log=log)
    fetcher = Fetcher(row, follower, follower)
    fetcher.follow(10, row["fetch_offset"])
    request = follower.request
    assert request is not None
    known = row["follower_end_offset_for_epoch"].get(str(reply["epoch"]))
    log.leader_epochs = epoch_cache(reply["epoch"], known, log.log_end_offset)
    answer = EpochEndOffset(reply["epoch"], reply["end_offset"])
    if is_fetch:
        follower.handle_response(request, rpc.FetchResponse(diverging_epoch=answer), 0)
    else:
        follower.handle_response(request, rpc.Response(Error.NONE, answer), 0)
    check(row["expect"], fetcher)


def run(row: dict[str, Any], table: list[dict[str, Any]]) -> None:
    """Put both replicas into the row's states, take the steps, and see what the follower has come to."""
    {"fetcher": run_fetcher, "truncation_decision": run_truncation_decision}[row["kind"]](row)
