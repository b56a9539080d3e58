"""Runs that are drawn from a seed: the same in every process, taken again as traces, and judged alike from files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hwmark.checkers.cli import main
from hwmark.checkers.histories import check
from hwmark.checkers.linearizability.log_history import check_history
from hwmark.checkers.simulation.cluster import Cluster, Crash, Deliver
from hwmark.checkers.simulation.export import actions_of, export_run, verify_run
from hwmark.checkers.simulation.plan import FAULTS, NEVER_ROLLED, Focus, draw_plan
from hwmark.checkers.simulation.promises import LEADER_COMPLETE, BrokenPromiseError
from hwmark.checkers.simulation.run import Run, run_seed
from hwmark.checkers.simulation.schedule import NetworkConfig
from hwmark.checkers.verdict import Violated
from hwmark.refimpl import requests as rpc
from hwmark.refimpl.batches import TopicPartition
from hwmark.refimpl.config import TRANSACTIONS_TOPIC
from hwmark.refimpl.errors import Error
from hwmark.refimpl.log import Log
from hwmark.refimpl.partition_change import PartitionRegistration
from hwmark.refimpl.zookeeper import CONTROLLER_EPOCH
from hwmark.traces.trace import read_trace, write_trace

SHORT = Focus(durations=(800,), transactions=1.0, transforms=1.0, fault_counts=(5,), fault_intervals=(150,))
DIGEST = """
import hashlib, json, sys
from hwmark.checkers.simulation.plan import Focus, draw_plan
from hwmark.checkers.simulation.run import Run
for seed in map(int, sys.argv[1:]):
    run = Run(draw_plan(seed, Focus(durations=(800,), transactions=1.0, transforms=1.0, fault_counts=(5,))))
    run.go()
    print(hashlib.sha256(repr((run.schedule.actions, run.recorder.records, run.failure)).encode()).hexdigest())
"""


def a_run(seed: int, focus: Focus = SHORT) -> Run:
    run = Run(draw_plan(seed, focus))
    run.go()
    return run


@pytest.fixture(scope="module")
def run() -> Run:
    return a_run(3)


def test_the_same_seed_is_the_same_run(run: Run) -> None:
    again = a_run(3)
    assert again.plan == run.plan and again.schedule.actions == run.schedule.actions
    assert again.recorder.records == run.recorder.records
    assert again.cluster.frozen() == run.cluster.frozen()
    assert a_run(4).schedule.actions != run.schedule.actions


def test_the_same_seed_is_the_same_run_in_every_process() -> None:
    digests = {of_process(hash_seed) for hash_seed in ("0", "4711")}
    assert len(digests) == 1 and len(set(digests.pop().split())) == 2


def of_process(hash_seed: str) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-c", DIGEST, "1", "2"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def test_to_keep_the_actions_changes_nothing(run: Run) -> None:
    other = Run(draw_plan(3, SHORT), keeps_actions=False)
    other.go()
    assert other.recorder.records == run.recorder.records and other.schedule.actions is None


def test_the_actions_alone_lead_to_the_same_cluster(run: Run) -> None:
    cluster = Cluster(run.plan.setup)
    for action in run.schedule.actions or []:
        cluster.apply(action)
    cluster.now = run.cluster.now
    assert cluster.frozen() == run.cluster.frozen()


def test_the_trace_of_a_run_is_taken_again(tmp_path: Path, run: Run) -> None:
    write_trace(tmp_path / "run.ndjson", export_run(run.plan.setup, run.schedule.actions or [], seed=run.plan.seed))
    trace = read_trace(tmp_path / "run.ndjson")
    assert trace.seed == 3 and actions_of(trace) == run.schedule.actions and verify_run(trace) is None


# ------------------------------------------------------------ the history


@pytest.mark.parametrize(("acks", "is_lossy"), [(-1, 0.0), (0, 0.0), (1, 1.0)])
def test_a_history_in_a_file_is_judged_as_the_run_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], acks: int, is_lossy: float
) -> None:
    """The faults of lossy clusters are to show: a verdict that is always good would be no test."""
    focus = SHORT._replace(acks=(acks,), idempotent=1.0, lossy=is_lossy, faults=("power cut", "new disk", "isolate"))
    seen = Counter[bool]()
    for seed in range(12):
        run = a_run(seed, focus)
        history, file = run.recorder.history(), tmp_path / f"{seed}.jsonl"
        file.write_text("".join(json.dumps(record) + "\n" for record in run.recorder.records))
        report = check(history, via="subscribe")
        status = main(["history", "--via", "subscribe", "--json", str(file)])
        answer = json.loads(capsys.readouterr().out)
        assert answer["error_types"] == report.error_types and status == (not report.valid)
        verdicts = [judgement.verdict for judgement in check_history(history).values()]
        is_violated = any(isinstance(verdict, Violated) for verdict in verdicts)
        assert main(["linearizable", "--json", str(file)]) == is_violated
        capsys.readouterr()
        seen[not report.valid or is_violated] += 1
        assert acks != -1 or is_lossy or run.failure is None
    assert seen[False] if acks == -1 else seen[True]


# ------------------------------------------------------------ what plans lead to


@pytest.mark.parametrize("seed", range(3))
def test_applications_that_die_while_they_commit_transform_every_record_once(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Whoever does not know how a transaction ended must not go on where it began."""
    run = Run(draw_plan(seed, SHORT._replace(durations=(2_000,), latencies=(2,), fault_counts=(0,), transformers=(1,))))
    [(_, producer)], apply, crashed = run.plan.transformers, run.schedule.apply, list[int]()

    def applying(action: Any) -> None:
        message = run.cluster.in_flight[action.message] if isinstance(action, Deliver) else None
        apply(action)
        is_end = message is not None and isinstance(message.body, rpc.EndTxnRequest) and message.source == producer
        if is_end and len(crashed) < 5:
            crashed.append(run.cluster.now)
            run.schedule.plan(run.cluster.now, lambda: run.stage.crash_client(producer))

    monkeypatch.setattr(run.schedule, "apply", applying)
    assert run.go() is None
    assert crashed


def test_a_healed_network_is_fast() -> None:
    plan = draw_plan(0, SHORT._replace(fault_counts=(0,)))
    run = Run(plan._replace(network=NetworkConfig(400, 500), duration=0))
    run.go()
    sent = set(run.cluster.in_flight)
    run.schedule.invoke("broker-1", rpc.MetadataRequest())
    asked = max(set(run.cluster.in_flight) - sent)
    run.schedule.run_until(lambda: asked not in run.cluster.in_flight, time=run.cluster.now + 10)
    assert asked not in run.cluster.in_flight


def test_an_idempotent_producer_has_one_batch_in_flight_where_snapshots_would_forget_the_others() -> None:
    plans = [draw_plan(seed, SHORT._replace(acks=(-1,), idempotent=1.0)) for seed in range(40)]
    in_flight: dict[bool, set[int]] = {False: set(), True: set()}
    for plan in plans:
        rolls = plan.setup.config.segment_records < NEVER_ROLLED
        in_flight[rolls] |= {one.max_in_flight for one in plan.setup.producers if one.transactional_id is None}
        assert all(one.enable_idempotence for one in plan.setup.producers)
    assert in_flight == {False: {1, 5}, True: {1}}


def test_a_leader_that_lost_committed_records_of_a_compacted_log_is_found() -> None:
    """Compaction takes records away, but never the end of the log."""
    run = Run(draw_plan(1, SHORT._replace(transforms=0.0, fault_counts=(0,), brokers=(3,), lossy=0.0)))
    run.go()
    assert run.failure is None
    ends = {here: known.end for here, known in run.promises.committed.items() if here[0] == TRANSACTIONS_TOPIC}
    here = max(ends, key=lambda one: ends[one])
    assert run.promises.committed[here].end > 0
    leader = next(one for one in run.brokers() if here in one.replicas and one.replicas[here].is_leader)
    for broker in run.brokers():
        broker.replicas[here].log.truncate_fully_and_start_at(0)
    run.schedule.apply(Crash(leader.name, True, run.cluster.now))
    with pytest.raises(BrokenPromiseError, match=LEADER_COMPLETE):
        run.schedule.run_until(time=run.cluster.now + 10_000)


def test_lossy_clusters_alone_lose_records() -> None:
    plans = [draw_plan(seed) for seed in range(200)]
    lossy = [plan for plan in plans if plan.setup.config.unclean_leader_election]
    assert 5 < len(lossy) < 40
    assert {fault for plan in lossy for fault in plan.faults} == set(FAULTS)
    for plan in plans:
        is_harmless = plan.setup.config.flushes_every_append or "power cut" not in plan.faults
        assert plan in lossy or (is_harmless and "new disk" not in plan.faults)


LOSSY = SHORT._replace(
    brokers=(2,), acks=(-1,), min_insync_replicas=(1,), transactions=0.0, readers=(3,), durations=(8_000,), lossy=1.0
)


def test_consumers_of_lossy_clusters_detect_truncations() -> None:
    """KIP-320: nowhere else does what was read disappear."""
    apart = LOSSY._replace(fault_intervals=(1_000,), fault_lengths=(900,), nemeses=2, faults=("new disk", "crash"))
    all_runs = [a_run(seed, apart) for seed in range(10)]
    assert [run.failure for run in all_runs] == [None] * 10
    assert any(positions_went_back(run) for run in all_runs)


def positions_went_back(run: Run) -> bool:
    """Whether a consumer learnt from a leader that its position is beyond the end of what they have in common."""
    cluster = Cluster(run.plan.setup)
    for action in run.schedule.actions or []:
        message = cluster.in_flight[action.message] if isinstance(action, Deliver) else None
        reader: Any = cluster.machines.get(message.destination) if message else None
        if message and reader and getattr(message.body, "diverging_epoch", None) is not None:
            before = {here: position.offset for here, position in getattr(reader, "positions", {}).items()}
            cluster.apply(action)
            if any(reader.positions[here].offset < offset for here, offset in before.items()):
                return True
        else:
            cluster.apply(action)
    return False


HAPPENINGS = {
    "a leader changed": 0.3,
    "an ISR shrank": 0.3,
    "an ISR grew": 0.1,
    "a log was truncated": 0.1,
    "another controller": 0.15,
    "replicas moved": 0.08,
    "a batch came twice": 0.25,
    "a transaction was committed": 0.35,
    "a transaction was aborted": 0.35,
    "a record was transformed": 0.15,
    "a producer was fenced": 0.05,
    "a group rebalanced": 0.25,
}
"""In how many of the runs at least; about half of what was counted in 300."""


@pytest.mark.deep
def test_what_plans_can_lead_to_happens_often_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    happened: set[str] = set()
    watch_logs(monkeypatch, happened)
    counts, seeds = Counter[str](), 100
    for seed in range(seeds):
        happened.clear()
        run = run_seed(seed)
        assert run.failure is None, f"seed {seed}: {run.failure}"
        counts.update(happened | what_happened(run))
    rare = {what: counts[what] / seeds for what, share in HAPPENINGS.items() if counts[what] / seeds < share}
    assert not rare


def watch_logs(monkeypatch: pytest.MonkeyPatch, happened: set[str]) -> None:
    """Truncations and duplicates leave no trace in a cluster."""
    append, truncate = Log.append_as_leader, Log.truncate_to

    def appending(self: Log, *arguments: Any) -> Any:
        end = self.log_end_offset
        batch = append(self, *arguments)
        happened.update({"a batch came twice"} if self.log_end_offset == end else ())
        return batch

    def truncating(self: Log, *arguments: Any) -> None:
        end = self.log_end_offset
        truncate(self, *arguments)
        happened.update({"a log was truncated"} if self.log_end_offset < end else ())

    monkeypatch.setattr(Log, "append_as_leader", appending)
    monkeypatch.setattr(Log, "truncate_to", truncating)


def what_happened(run: Run) -> set[str]:
    """From the first and last states, the history, and the registrations that brokers were told of."""
    closing, ops = run.applications.closing, {(one["f"], one["type"]) for one in run.recorder.records}
    happened = {
        "another controller": run.cluster.machines["zookeeper"].nodes[CONTROLLER_EPOCH].value > 1,  # type: ignore[attr-defined]
        "a transaction was committed": ("txn", "ok") in ops,
        "a transaction was aborted": ("txn", "fail") in ops,
        "a record was transformed": not run.applications.origins.keys().isdisjoint(closing["read_committed"]),
        "a group rebalanced": any(one.get("rebalance-log") for one in run.recorder.records),
    } | dict.fromkeys(of_messages(run), True)
    return {what for what, is_so in happened.items() if is_so}


def of_messages(run: Run) -> set[str]:
    """What the messages of a run show; it is taken again for them."""
    cluster, happened = Cluster(run.plan.setup), set[str]()
    known: dict[TopicPartition, PartitionRegistration] = {}
    for action in run.schedule.actions or []:
        body = cluster.in_flight[action.message].body if isinstance(action, Deliver) else None
        if isinstance(body, rpc.LeaderAndIsrRequest):
            for here, now in body.partitions:
                happened |= of_registrations(known.get(here, now), now)
                known[here] = max(now, known.get(here, now), key=lambda one: one.partition_epoch)
        elif getattr(body, "error", None) is Error.PRODUCER_FENCED:
            happened.add("a producer was fenced")
        cluster.apply(action)
    return happened


def of_registrations(before: PartitionRegistration, after: PartitionRegistration) -> set[str]:
    """What has changed, if the second is the newer one."""
    if after.partition_epoch <= before.partition_epoch:
        return set()
    happened = {
        "a leader changed": after.leader != before.leader,
        "an ISR shrank": len(after.isr) < len(before.isr),
        "an ISR grew": len(after.isr) > len(before.isr),
        "replicas moved": after.replicas != before.replicas,
    }
    return {what for what, is_so in happened.items() if is_so}
