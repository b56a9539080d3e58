"""A trial of a cluster: machines with applications and promises, then an end to all faults, and what is judged of it.

Who chooses what happens before the end is a Run, by a seed, or a state machine of Hypothesis.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

from hwmark.checkers.histories import check
from hwmark.checkers.linearizability.log_history import check_history
from hwmark.checkers.simulation.cluster import Restart, Resume
from hwmark.checkers.simulation.export import export_run
from hwmark.checkers.simulation.operations import Applications
from hwmark.checkers.simulation.plan import Plan
from hwmark.checkers.simulation.promises import BrokenPromiseError, Promises
from hwmark.checkers.simulation.recorder import Recorder, key_of
from hwmark.checkers.simulation.schedule import NetworkConfig, TimedSchedule
from hwmark.checkers.simulation.stage import ObservedCluster, Script, Stage
from hwmark.checkers.verdict import Violated
from hwmark.refimpl.batches import TopicPartition
from hwmark.refimpl.broker import Broker
from hwmark.refimpl.consumer import Assign
from hwmark.refimpl.log import Log
from hwmark.refimpl.machine import Address
from hwmark.traces.trace import write_trace

FOLDER = Path(".hypothesis", "hwmark")
"""Where the runs of failures are saved, beside Hypothesis's own examples."""

RECOVERS = "a healed cluster answers everybody and decides every transaction"
EXACTLY_ONCE = "every input record is transformed exactly once"
SETTLE_TIME = 60_000
"""How long a healed cluster may take, in ms."""

NOTHING_TO_SEE = "empty-transaction-graph"  # a trial in which nothing was sent proves nothing, but breaks nothing

# What a history shows by rights if its producers ask for less than acks=all with idempotence.
LOSSES = (
    "inconsistent-offsets",
    "lost-write",
    "torn-transaction",
    "missing-from-final-read",
    "unseen",
    "nonmonotonic-poll",
    "poll-skip",
    "int-poll-skip",
)
REPEATS = (
    "duplicate",
    "nonmonotonic-send",
    "int-nonmonotonic-send",
    "int-send-skip",
    "nonmonotonic-poll",
    "int-nonmonotonic-poll",
    "poll-skip",
    "int-poll-skip",
)

# And if, before KIP-890, a coordinator may be out of touch without knowing: it says of its memory that the partitions
# are in the transaction, and the new one takes the commit for that of the transaction before, sent again.
ZOMBIES = ("lost-write", "missing-from-final-read", "torn-transaction", "unseen")
OUT_OF_TOUCH = frozenset(("pause", "partition", "isolate", "one-way"))

# And what besides if a disk or an unclean election lost records: offsets are used again, what was read and lost is sent
# again, and commits are records, too.
LOST_LOGS = (
    *LOSSES,
    "duplicate",
    "nonmonotonic-send",
    "int-nonmonotonic-send",
    "int-send-skip",
    "processed-twice",
    "processed-never",
    "group-offset-back",
)


@dataclass
class Failure:
    """What a trial broke: the checker that found it, the promise, why, and where for pictures."""

    checker: str
    promise: str
    why: str
    witness: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.checker}: {self.promise}: {self.why}"

    @classmethod
    def of(cls, broken: BrokenPromiseError) -> Failure:
        """A promise that was broken while the trial went on."""
        return cls("promises", broken.promise, broken.why, broken.witness)


class Trial:
    """A cluster from its beginning; `forgives` are the anomalies that its history may show by rights."""

    def __init__(self, plan: Plan, *, keeps_actions: bool = True) -> None:
        self.plan = plan
        self.cluster = ObservedCluster(plan.setup)
        self.promises = self.cluster.promises = Promises(self.cluster, plan.setup)
        network = Random(f"network of {plan.seed}")
        self.schedule = TimedSchedule(self.cluster, network, plan.network, keeps_actions=keeps_actions)
        self.stage = Stage(self.schedule)
        self.recorder = Recorder({"acks": "all" if plan.acks == -1 else str(plan.acks), "seed": plan.seed})
        self.applications = Applications(self.stage, self.recorder)
        may_be_out_of_touch = not plan.faults or not OUT_OF_TOUCH.isdisjoint(plan.faults)
        is_transactional = any(producer.transactional_id for producer in plan.setup.producers)
        has_zombies = is_transactional and not plan.setup.config.kip_890 and may_be_out_of_touch
        self.forgives: tuple[str, ...] = ZOMBIES if has_zombies else ()

    @property
    def steps(self) -> int:
        """How many actions there were."""
        return self.schedule.steps

    def brokers(self) -> list[Broker]:
        """Those that are up."""
        return [machine for machine in self.cluster.machines.values() if isinstance(machine, Broker)]

    def up(self) -> list[Address]:
        """The brokers that take part."""
        return [broker.name for broker in self.brokers() if broker.name not in self.cluster.paused]

    def leaders(self) -> dict[TopicPartition, Log]:
        """The logs of those who lead, or believe to."""
        replicas = [replica for broker in self.brokers() for replica in broker.replicas.values()]
        return {replica.topic_partition: replica.log for replica in replicas if replica.is_leader}

    def await_leaders(self) -> None:
        """Let time pass until every partition has a leader, or as long as that may take."""
        self.schedule.run_until(self._has_leaders, time=self.stage.now + SETTLE_TIME)

    def _has_leaders(self) -> bool:
        return {*self.plan.all_partitions} <= self.leaders().keys()

    def save(self, failure: Failure, folder: Path, name: str) -> str:
        """Save the run as a trace under a name that begins so; how to look at it."""
        actions = self.schedule.actions or []
        seed, witness = self.plan.seed, failure.witness or None
        trace = export_run(self.plan.setup, actions, seed=seed, violated=failure.promise, witness=witness)
        file = folder / f"{name}-{sha256(repr(actions).encode()).hexdigest()[:8]}.ndjson"
        folder.mkdir(parents=True, exist_ok=True)
        write_trace(file, trace)
        return f"Its run:\nhwmark replay {file}\nhwmark draw {file} -o {file.with_suffix('.svg')}"

    # ------------------------------------------------------------ the end

    def recover(self) -> None:
        """All faults end; everybody gets an answer, and nothing stays undecided. Raises BrokenPromiseError."""
        cluster, schedule = self.cluster, self.schedule
        schedule.network = NetworkConfig()
        schedule.heal()
        for name in sorted(cluster.paused):
            schedule.apply(Resume(name, self.stage.now))
        for name in self.plan.setup.servers:
            if name not in cluster.machines:
                schedule.apply(Restart(name, self.stage.now))
        if self.promises.may_lose:
            self._give_up()
        self._wait_for(lambda: not self.stage.running and self._undecided() is None)

    def _give_up(self) -> None:
        """End the transactional producers that wait long. Who coordinates them may have lost their last epochs: it has
        its markers refused then, and says for ever that the transaction is being completed.
        """
        setup = self.plan.setup
        if not self.schedule.run_until(lambda: not self.stage.running, time=self.stage.now + SETTLE_TIME // 4):
            for number, producer in enumerate(setup.producers, 1):
                if producer.transactional_id is not None and f"producer-{number}" in self.cluster.machines:
                    self.stage.crash_client(f"producer-{number}")

    def read_all(self) -> None:
        """The closing reads, uncommitted and committed. Raises BrokenPromiseError."""
        for consumer, isolation in zip(self.plan.closers, ("read_uncommitted", "read_committed"), strict=True):
            self.stage.start(self._close(consumer, isolation))
        self._wait_for(lambda: not self.stage.running)

    def judge(self) -> Failure | None:
        """What the recorded history shows."""
        return self._judge_history() or self._judge_transformation()

    def _wait_for(self, is_done: Callable[[], bool]) -> None:
        end = self.stage.now + SETTLE_TIME
        while not is_done():
            if self.stage.now >= end:
                why = self._undecided() or f"{self.stage.running} applications have had no answer"
                raise BrokenPromiseError(RECOVERS, f"{why}, {SETTLE_TIME} ms after all faults ended")
            self.schedule.run_until(time=self.stage.now + 200)

    def _undecided(self) -> str | None:
        """A partition without a leader, or whose log has an end that is not replicated, or not decided.

        Where logs may lose records, a marker may be lost, or what the coordinator knew: such a transaction hangs until
        an administrator aborts it (KIP-664).
        """
        logs = self.leaders()
        for partition in self.plan.all_partitions:
            name, log = key_of(partition), logs.get(partition)
            if log is None:
                return f"{name} has no leader"
            if log.high_watermark < log.log_end_offset:
                return f"{name} is replicated up to {log.high_watermark} of {log.log_end_offset}"
            if log.last_stable_offset < log.log_end_offset and not self.promises.may_lose:
                return f"{name} is stable up to {log.last_stable_offset} of {log.log_end_offset}"
        return None

    def _close(self, consumer: Address, isolation: str) -> Script:
        """Read every partition from its beginning to its end."""
        partitions = self.plan.partitions
        yield from self.applications.subscribe(consumer, "assign", Assign(partitions), partitions)
        while not self._has_read_all(consumer):
            yield from self.applications.poll(consumer, 100, final=isolation)

    def _has_read_all(self, consumer: Address) -> bool:
        ends = {partition: log.last_stable_offset for partition, log in self.leaders().items()}
        machine: Any = self.cluster.machines[consumer]
        return all(
            machine.positions[partition].offset >= ends.get(partition, 1 << 62) for partition in self.plan.partitions
        )

    def _judge_history(self) -> Failure | None:
        history = self.recorder.history()
        senders = [self.plan.setup.producer(name) for name in self.plan.senders]
        allow = self.forgives + (REPEATS if not all(sender.enable_idempotence for sender in senders) else ())
        allow += LOST_LOGS if self.promises.may_lose else LOSSES if self.plan.acks != -1 else ()
        report = check(history, allow=(*allow, NOTHING_TO_SEE), via="subscribe")
        for name in report.bad_error_types:
            anomaly = report.anomalies[name][0]
            return Failure("history", name, str(anomaly), {})
        if not allow:
            for key, judgement in check_history(history).items():
                if isinstance(judgement.verdict, Violated):
                    promise = f"the log of {key} is linearizable"
                    return Failure("linearizability", promise, str(judgement), {"partition": key})
        return None

    def _judge_transformation(self) -> Failure | None:
        """No input has two results, as long as its offset stays its own."""
        if self.promises.may_lose:
            return None
        results: dict[tuple[TopicPartition, int], int] = {}
        origins = self.applications.origins
        for value in self.applications.closing.get("read_committed", ()):
            if value in origins and results.setdefault(origins[value], value) != value:
                partition, offset = origins[value]
                why = f"{results[origins[value]]} and {value} are both results of {key_of(partition)}, offset {offset}"
                return Failure("history", EXACTLY_ONCE, why, {"partition": key_of(partition), "offset": offset})
        return None
