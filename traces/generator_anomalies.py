"""Anomalies to plant in a generated history: each an episode, a few operations of processes of its own.

An episode happens between two events of the simulation, on partitions that have no undecided transaction, and goes
wrong in one way. Some types cannot be had alone; `IMPLIED` says what comes with them. Where a misplaced record would
make every reader of the partition look wrong, the episode leaves the record's offset unknown or shows it to the closing
read_uncommitted read only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hwmark.traces.errors import BadInputError
from hwmark.traces.generator_log import PartitionLog

if TYPE_CHECKING:
    from hwmark.traces.generator_simulation import Simulation

OPERATION_TIME = 100_000
VISIBLE_MIN = 3
"""How many records of a partition, the last ones, an episode may need."""
ERRORS = {"fail": "NOT_ENOUGH_REPLICAS", "info": "_MSG_TIMED_OUT"}


@dataclass(frozen=True)
class Planted:
    """One planted anomaly: its type, the keys where it is, and the operations that show it (indices of records)."""

    name: str
    keys: tuple[int, ...]
    operations: tuple[int, ...]


@dataclass
class Stage:
    """Where an episode plays: two partitions of the simulation (one twice, if there is no other).

    `shown_by` collects the operations that show the anomaly.
    """

    simulation: Simulation
    here: PartitionLog
    there: PartitionLog
    shown_by: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.notation = self.simulation.notation
        self.value = self.simulation.fresh_value
        self.process = self.simulation.fresh_process
        self.first_value = self.simulation.value

    def _write(self, kind: str, process: int, function: str, micros: tuple[str, ...], more: str) -> int:
        self.simulation.now = max(self.simulation.now, self.simulation.time + OPERATION_TIME)
        return self.simulation.write(kind, process, function, self.notation.micro_operations(micros), more)

    def invoke(self, process: int, function: str, *micros: str, aborts: bool = False) -> None:
        """Begin an operation."""
        self._write("invoke", process, function, micros, self.notation.field("abort", True) if aborts else "")

    def complete(self, process: int, function: str, *micros: str, kind: str = "ok") -> None:
        """End an operation that shows the anomaly."""
        more = "" if kind == "ok" else self.notation.field("error", ERRORS[kind])
        self.shown_by.append(self._write(kind, process, function, micros, more))

    def send(self, partition: PartitionLog, payload: int | str) -> str:
        """A send, of a value or of an acknowledged record."""
        return self.notation.send(partition.key, payload)

    def polled(self, partition: PartitionLog, *records: str) -> str:
        """A poll that returned records of a partition."""
        return self.notation.polled([(partition.key, self.notation.separator.join(records))])

    def sends(self, value: int, payload: int | str, partition: PartitionLog, process: int | None = None) -> None:
        """A whole send of one value, acknowledged with a payload."""
        process = self.process() if process is None else process
        self.invoke(process, "send", self.send(partition, value))
        self.complete(process, "send", self.send(partition, payload))

    def polls(self, *records: str, process: int | None = None) -> None:
        """A whole poll that returns these records."""
        process = self.process() if process is None else process
        self.invoke(process, "poll", self.notation.poll)
        self.complete(process, "poll", self.polled(self.here, *records))


Episode = Callable[[Stage], None]


def lost_write(stage: Stage) -> None:
    """An acknowledged record is nowhere to be found; the next one is there."""
    value, after = stage.value(), stage.value()
    stage.sends(value, stage.notation.record(stage.here.lose(), value), stage.here)
    stage.sends(after, stage.here.append_alone(after), stage.here)
    stage.shown_by.pop()


def vanished(stage: Stage) -> None:
    """An acknowledged record is read, and is gone when the recording ends; the closing read changes hands there."""
    value, offset = stage.value(), stage.here.end
    record = stage.here.append_alone(value)
    stage.sends(value, record, stage.here)
    stage.polls(record)
    stage.here.vanish(offset)


def unseen(stage: Stage) -> None:
    """A send is acknowledged without an offset, and its record never appears."""
    value = stage.value()
    stage.sends(value, stage.notation.record(None, value), stage.here)


def duplicate(stage: Stage) -> None:
    """A retry appends a record again, where read_uncommitted alone finds the copy."""
    value = stage.value()
    record = stage.here.append_alone(value)
    stage.sends(value, record, stage.here)
    stage.here.append_copy(value)
    stage.polls(record)


def inconsistent_offsets(stage: Stage) -> None:
    """The closing read_uncommitted read finds at a record's offset another, whose sender never got an answer."""
    value, other, offset = stage.value(), stage.value(), stage.here.end
    process = stage.process()
    stage.invoke(process, "send", stage.send(stage.here, other))
    stage.complete(process, "send", stage.send(stage.here, other), kind="info")
    stage.sends(value, stage.here.append_alone(value), stage.here)
    stage.here.compete(offset, other)


def aborted_read(stage: Stage) -> None:
    """A reader is handed what a failed send sent, at an unknown offset."""
    value, process = stage.value(), stage.process()
    stage.invoke(process, "send", stage.send(stage.here, value))
    stage.complete(process, "send", stage.send(stage.here, value), kind="fail")
    stage.polls(stage.notation.record(None, value))


def aborted_visible(stage: Stage) -> None:
    """A transaction that meant to abort, and got no answer, is committed for everybody to see."""
    value, process = stage.value(), stage.process()
    stage.invoke(process, "txn", stage.send(stage.here, value), aborts=True)
    record = stage.here.append_alone(value)
    stage.complete(process, "txn", stage.send(stage.here, value), kind="info")
    stage.polls(record)


def nobody_sent(stage: Stage) -> None:
    """A record appears that nobody sent."""
    stage.polls(stage.here.append_alone(stage.value()))


def precommitted_read(stage: Stage) -> None:
    """A transaction reads its own record."""
    value, process = stage.value(), stage.process()
    stage.invoke(process, "txn", stage.send(stage.here, value), stage.notation.poll)
    record = stage.here.append_alone(value)
    stage.complete(process, "txn", stage.send(stage.here, record), stage.polled(stage.here, record))


def poll_skips_within(stage: Stage) -> None:
    """A poll passes over a record."""
    first, _, third = stage.here.visible[-3:]
    stage.polls(first, third)


def poll_goes_back_within(stage: Stage) -> None:
    """A poll returns two records in the wrong order."""
    first, second = stage.here.visible[-2:]
    stage.polls(second, first)


def poll_skips(stage: Stage) -> None:
    """A consumer's second poll begins beyond where its first one ended."""
    (first, _, third), process = stage.here.visible[-3:], stage.process()
    stage.polls(first, process=process)
    stage.polls(third, process=process)


def poll_goes_back(stage: Stage) -> None:
    """A consumer's second poll begins before where its first one ended."""
    (first, second), process = stage.here.visible[-2:], stage.process()
    stage.polls(second, process=process)
    stage.polls(first, process=process)


def send_skips_within(stage: Stage) -> None:
    """Another's record lies between two of one transaction."""
    before, between, after, process = stage.value(), stage.value(), stage.value(), stage.process()
    stage.invoke(process, "txn", stage.send(stage.here, before), stage.send(stage.here, after))
    first = stage.here.append_alone(before)
    stage.sends(between, stage.here.append_alone(between), stage.here)
    stage.shown_by.pop()
    second = stage.here.append_alone(after)
    stage.complete(process, "txn", stage.send(stage.here, first), stage.send(stage.here, second))


def sends_go_back_within(stage: Stage) -> None:
    """Two records of one transaction lie in the log in the wrong order."""
    value, later, process = stage.value(), stage.value(), stage.process()
    stage.invoke(process, "txn", stage.send(stage.here, value), stage.send(stage.here, later))
    second = stage.here.append_alone(later)
    first = stage.here.append_alone(value)
    stage.complete(process, "txn", stage.send(stage.here, first), stage.send(stage.here, second))


def _sends_go_back(stage: Stage, process: int, later_process: int) -> None:
    """Two sends, one after the other, lie in the log in the wrong order."""
    value, later = stage.value(), stage.value()
    second = stage.here.append_alone(later)
    stage.sends(value, stage.here.append_alone(value), stage.here, process)
    stage.sends(later, second, stage.here, later_process)


def sends_go_back(stage: Stage) -> None:
    """A process's second send lies before its first one."""
    process = stage.process()
    _sends_go_back(stage, process, process)


def writes_against_time(stage: Stage) -> None:
    """A send lies before another process's, which had ended when it began."""
    _sends_go_back(stage, stage.process(), stage.process())


def write_cycle(stage: Stage) -> None:
    """Two transactions each wrote before the other: each in one partition."""
    one, other = stage.process(), stage.process()
    values = [stage.value() for _ in range(4)]
    for process, (here, there) in ((one, values[:2]), (other, values[2:])):
        stage.invoke(process, "txn", stage.send(stage.here, here), stage.send(stage.there, there))
    first_here, second_here = stage.here.append_alone(values[0]), stage.here.append_alone(values[2])
    first_there, second_there = stage.there.append_alone(values[3]), stage.there.append_alone(values[1])
    stage.complete(one, "txn", stage.send(stage.here, first_here), stage.send(stage.there, second_there))
    stage.complete(other, "txn", stage.send(stage.here, second_here), stage.send(stage.there, first_there))


def read_cycle(stage: Stage) -> None:
    """Two transactions each read what the other wrote."""
    one, other, here, there = stage.process(), stage.process(), stage.value(), stage.value()
    stage.invoke(one, "txn", stage.send(stage.here, here), stage.notation.poll)
    stage.invoke(other, "txn", stage.send(stage.there, there), stage.notation.poll)
    mine, yours = stage.here.append_alone(here), stage.there.append_alone(there)
    stage.complete(one, "txn", stage.send(stage.here, mine), stage.polled(stage.there, yours))
    stage.complete(other, "txn", stage.send(stage.there, yours), stage.polled(stage.here, mine))


def read_from_the_future(stage: Stage) -> None:
    """A record is read before its send began."""
    value = stage.value()
    record = stage.here.append_alone(value)
    stage.polls(record)
    stage.sends(value, record, stage.here)


def torn_transaction(stage: Stage) -> None:
    """Of a transaction that was never answered one record is there and the other is not."""
    here, there, process = stage.value(), stage.value(), stage.process()
    sends = stage.send(stage.here, here), stage.send(stage.there, there)
    stage.invoke(process, "txn", *sends)
    stage.here.append_alone(here)
    stage.complete(process, "txn", *sends, kind="info")


def _commits(stage: Stage, offset: int, *read: str) -> None:
    """A new member of the episode's group commits an offset, in a transaction that also polls and sends."""
    process, value, group = stage.process(), stage.value(), f"planted-{stage.first_value}"
    polls = [stage.notation.poll] if read else []
    stage.invoke(process, "txn", *polls, stage.send(stage.there, value), stage.notation.send_offsets(group, {}))
    produced = stage.send(stage.there, stage.there.append_alone(value))
    polled = [stage.polled(stage.here, *read)] if read else []
    stage.complete(process, "txn", *polled, produced, stage.notation.send_offsets(group, {stage.here.key: offset}))


def _processes(stage: Stage, place: int) -> None:
    """A new member of the episode's group processes one of the visible records."""
    _commits(stage, stage.here.offsets[place] + 1, stage.here.visible[place])


def processed_twice(stage: Stage) -> None:
    """Two members of a group process one record, and both commit."""
    place = len(stage.here.visible) - 1
    _processes(stage, place)
    _processes(stage, place)


def processed_never(stage: Stage) -> None:
    """A group's second member begins one record too late."""
    place = len(stage.here.visible) - 1
    _processes(stage, place - 2)
    _processes(stage, place)


def group_offset_back(stage: Stage) -> None:
    """A group's second member commits an offset before the one that the first had committed."""
    place = len(stage.here.visible) - 1
    _processes(stage, place)
    _commits(stage, stage.here.offsets[place])


EPISODES: dict[str, Episode] = {
    "lost-write": lost_write,
    "missing-from-final-read": vanished,
    "unseen": unseen,
    "duplicate": duplicate,
    "inconsistent-offsets": inconsistent_offsets,
    "G1a": aborted_read,
    "aborted-visible": aborted_visible,
    "no-writer-of-value": nobody_sent,
    "precommitted-read": precommitted_read,
    "int-poll-skip": poll_skips_within,
    "int-nonmonotonic-poll": poll_goes_back_within,
    "int-send-skip": send_skips_within,
    "int-nonmonotonic-send": sends_go_back_within,
    "poll-skip": poll_skips,
    "nonmonotonic-poll": poll_goes_back,
    "nonmonotonic-send": sends_go_back,
    "G0": write_cycle,
    "G1c": read_cycle,
    "G0-realtime": writes_against_time,
    "G1c-realtime": read_from_the_future,
    "PL-1-cycle-exists": write_cycle,
    "PL-2-cycle-exists": read_cycle,
    "strong-PL-1-cycle-exists": writes_against_time,
    "strong-PL-2-cycle-exists": read_from_the_future,
    "torn-transaction": torn_transaction,
    "processed-twice": processed_twice,
    "processed-never": processed_never,
    "group-offset-back": group_offset_back,
}

ONLY_WITH_WW = frozenset({"G0", "PL-1-cycle-exists", "G0-realtime", "strong-PL-1-cycle-exists"})
"""Types that only `hwmark history --ww-deps` looks for."""

IMPLIED: dict[str, frozenset[str]] = {
    "lost-write": frozenset({"missing-from-final-read", "unseen", "int-poll-skip", "poll-skip"}),
    "unseen": frozenset({"missing-from-final-read"}),
    "int-send-skip": frozenset({"G0", "PL-1-cycle-exists"}),
    "nonmonotonic-send": frozenset({"G0-realtime", "strong-PL-1-cycle-exists"}),
    "G0": frozenset({"PL-1-cycle-exists", "int-send-skip"}),
    "G1c": frozenset({"PL-2-cycle-exists"}),
    "G0-realtime": frozenset({"strong-PL-1-cycle-exists"}),
    "G1c-realtime": frozenset({"strong-PL-2-cycle-exists"}),
    "PL-1-cycle-exists": frozenset({"G0", "int-send-skip"}),
    "PL-2-cycle-exists": frozenset({"G1c"}),
    "strong-PL-1-cycle-exists": frozenset({"G0-realtime"}),
    "strong-PL-2-cycle-exists": frozenset({"G1c-realtime"}),
}
"""What may come with what.

Whoever reads past a lost record passes over its place, within a poll or between two. What was never seen is missing in
the end. A record between two of a transaction makes a cycle of writes, and in a single partition there is no other;
sends in the wrong order contradict real time.
"""


def episode(name: str) -> Episode:
    """The episode that plants a type of anomaly; raises BadInputError if there is none."""
    if name not in EPISODES:
        raise BadInputError("--anomaly", None, f"{name!r} cannot be planted; known are {', '.join(sorted(EPISODES))}")
    return EPISODES[name]


def play(name: str, episode: Episode, simulation: Simulation) -> Planted | None:
    """Let an episode happen now; None, and nothing happens, if no partition is fit for it."""
    # Not where the simulation's group consumes, if there is another: it would be drawn in.
    apart = simulation.partitions[1:] if simulation.shape.group else simulation.partitions
    candidates = apart or simulation.partitions
    fit = [p for p in candidates if p.is_stable() and len(p.visible) >= VISIBLE_MIN]
    if len(fit) < min(2, len(candidates)):
        return None
    here = fit[int(simulation.random() * len(fit))]
    there = next((p for p in fit if p is not here), here)
    stage = Stage(simulation, here, there)
    episode(stage)
    return Planted(name, tuple(dict.fromkeys((here.key, there.key))), tuple(stage.shown_by))
