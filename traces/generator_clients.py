"""What the clients of the simulated cluster do: send, poll, commit, abort, change their assignment, crash.

An operation is invoked, takes effect at one instant and completes. A transaction's records are appended at that
instant, and its markers some time later, perhaps after its commit was answered, as on real brokers. So the instants at
which operations take effect order them: whoever read a value took effect after its writer.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from hwmark.traces.generator_log import Batch, Fate

if TYPE_CHECKING:
    from hwmark.traces.generator_simulation import Simulation

VALUES_PER_POLL = 10
MICRO_OPERATIONS_MAX = 4
POLLED_MAX = 500
"""The most records that a poll returns of a partition, or a closing poll in all: Kafka's max.poll.records."""
LATENCY, THINKING, MARKER_DELAY, LATE = 4_000_000, 1_000_000, 3_000_000, 20_000_000
SHAPES = 1 << 10

REASSIGNS, CRASHES, MEANS_TO_ABORT, FAILS, UNKNOWN = 0.002, 0.0005, 0.04, 0.01, 0.002
REBALANCES = 0.001
"""Shares of operations."""
EXCUSED_BY_UNKNOWN = "processed-never"
"""An anomaly that a transaction of unknown outcome excuses, which may have been the group's: none is drawn then."""


class Client:
    """A thread of the test: a process at a time, and its open operation.

    `position` is where its consumer stands in each partition's visible records, `committed` where it stood after its
    last operation that committed: there a consumer begins again whose transaction aborts.
    """

    def __init__(self, simulation: Simulation, process: int, group: str | None) -> None:
        partitions = simulation.shape.partitions
        self.simulation, self.notation, self.random = simulation, simulation.notation, simulation.random
        self.process, self.group = process, group
        self.keys = [0] if group else list(range(partitions))
        self.position, self.committed = [0] * partitions, [0] * partitions
        self.is_fresh = True
        self.shapes = self._draw_shapes()
        self.shape: tuple[bool, ...] = ()
        self.function, self.outcome, self.commits, self.more = "", "ok", True, ""
        self.sends: list[tuple[int, int]] = []
        self.answers: list[str] = []
        self.acknowledged: list[str] = []

    def _draw_shapes(self) -> list[tuple[bool, ...]]:
        """Sequences of micro-operations, true for a poll: so many polls that each finds about ten values.

        Every process polls what all of them send: per value sent there are as many to be polled as there are processes.
        """
        if self.group:
            return [(True, False)]
        shape = self.simulation.shape
        polls = shape.processes / (shape.processes + VALUES_PER_POLL)
        lengths = [1 + int(self.random() * (MICRO_OPERATIONS_MAX if shape.transactional else 1)) for _ in range(SHAPES)]
        return [tuple([self.random() < polls for _ in range(length)]) for length in lengths]

    def invoke(self) -> None:
        """Begin the next operation, if there is room for one."""
        if not self.simulation.begin():
            return
        self.simulation.open += 1
        drawn = self.random()
        if self.is_fresh or drawn < REASSIGNS:
            self._assign()
        elif drawn < REASSIGNS + CRASHES:
            self._begin("crash", self.notation.plain(None), self._crash)
        else:
            self._invoke_data()

    def _begin(self, function: str, value: str, then: Callable[[], None], more: str = "") -> None:
        """Write an invocation, after which something happens."""
        self.function = function
        self.simulation.write("invoke", self.process, function, value, more)
        self.simulation.after(LATENCY, then)

    def _assign(self) -> None:
        """Take all partitions, or for a while all but one; a member of the group keeps its partition."""
        count = len(self.position)
        if self.group is None:
            leaves = not self.is_fresh and len(self.keys) == count > 1
            left_out = int(self.random() * count) if leaves else None
            self.keys = [key for key in range(count) if key != left_out]
        self.is_fresh = False
        self._begin("assign", self.notation.plain(self.keys), self._assigned)

    def _assigned(self) -> None:
        self.simulation.write("ok", self.process, "assign", self.notation.plain(self.keys))
        self._go_on()

    def _crash(self) -> None:
        self.simulation.write("info", self.process, "crash", self.notation.plain(None))
        self._replace()

    def _invoke_data(self) -> None:
        """Begin a send, a poll or a transaction; all its polls but the last find what is there now."""
        notation = self.notation
        self.shape = self.shapes[int(self.random() * len(self.shapes))]
        self.sends, self.answers = [], []
        texts = [notation.poll if is_poll else self._draw_send() for is_poll in self.shape]
        if self.group:
            texts.append(notation.send_offsets(self.group, {}))
        function = "poll" if not self.sends else "txn" if self.simulation.shape.transactional or self.group else "send"
        self._begin(function, notation.micro_operations(texts), self._take_effect, self._draw_outcome(function))
        for _ in range(sum(self.shape) - 1):
            self.answers.append(self._poll())

    def _draw_send(self) -> str:
        """Draw where the client sends its next value; the group produces elsewhere than where it consumes."""
        first = 1 if self.group and len(self.position) > 1 else 0
        key = first + int(self.random() * (len(self.position) - first))
        value = self.simulation.fresh_value()
        self.sends.append((key, value))
        return self.notation.send(key, value)

    def _draw_outcome(self, function: str) -> str:
        """Decide how the operation will end; the marks of its invocation."""
        self.outcome, self.commits, self.more = "ok", True, ""
        drawn = self.random()
        if drawn < UNKNOWN and not (function == "txn" and EXCUSED_BY_UNKNOWN in self.simulation.shape.anomalies):
            self.outcome, self.commits = "info", self.random() < 0.5
            self.more = self.notation.field("error", "_MSG_TIMED_OUT")
        elif drawn < UNKNOWN + FAILS:
            self.outcome, self.commits = "fail", False
            error = "INVALID_TXN_STATE" if function == "txn" else "NOT_ENOUGH_REPLICAS"
            self.more = self.notation.field("error", error)
        elif drawn < UNKNOWN + FAILS + MEANS_TO_ABORT and function == "txn":
            self.outcome, self.commits = "fail", False
            self.more = self.notation.field("error", "aborted")
            return self.notation.field("abort", True)
        elif drawn > 1 - REBALANCES and function != "send":
            self.more = self.notation.field("rebalance-log", [{"keys": self.keys}])
        return ""

    def _poll(self) -> str:
        """What a poll returns now, as text."""
        position, partitions, reads = self.position, self.simulation.partitions, []
        for key in self.keys:
            start, visible = position[key], partitions[key].visible
            if start < len(visible):
                records = visible[start : start + POLLED_MAX]
                position[key] = start + len(records)
                reads.append((key, self.notation.separator.join(records)))
        return self.notation.polled(reads)

    def _take_effect(self) -> None:
        """The operation's instant: its last poll is answered, its records are appended."""
        if len(self.answers) < sum(self.shape):
            self.answers.append(self._poll())
        if self.function == "txn":
            self._append_transaction()
        elif self.function == "send" and self.commits:
            self._append_alone()
        self.simulation.after(LATENCY, self._complete)

    def _append_transaction(self) -> None:
        """Append the transaction's records, partition by partition; their markers come later."""
        partitions = self.simulation.partitions
        batches: dict[int, Batch] = {}
        self.acknowledged = []
        for key, value in self.sends:
            if key not in batches:
                batches[key] = partitions[key].open_batch()
            self.acknowledged.append(self.notation.send(key, partitions[key].append(batches[key], value)))
        fate = Fate.COMMITTED if self.commits else Fate.ABORTED
        self.simulation.after(MARKER_DELAY, partial(self._mark, batches, fate))

    def _mark(self, batches: dict[int, Batch], fate: Fate) -> None:
        for key, batch in batches.items():
            self.simulation.partitions[key].mark(batch, fate)

    def _append_alone(self) -> None:
        """Append a record outside of transactions; one of unknown outcome late, perhaps after its client gave up."""
        ((key, value),) = self.sends
        append = self.simulation.partitions[key].append_alone
        if self.outcome == "info":
            self.simulation.after(LATE, partial(append, value))
        else:
            self.acknowledged = [self.notation.send(key, append(value))]

    def _complete(self) -> None:
        """Answer the operation; a transaction that fails, or whose end is unknown, still knows what it polled."""
        notation, is_ok = self.notation, self.outcome == "ok"
        sends = iter(self.acknowledged if is_ok else [notation.send(*message) for message in self.sends])
        answers = iter(self.answers if is_ok or self.function == "txn" else [notation.poll] * len(self.answers))
        texts = [next(answers) if is_poll else next(sends) for is_poll in self.shape]
        if self.group:
            texts.append(notation.send_offsets(self.group, self._offsets_processed()))
        value = notation.micro_operations(texts)
        self.simulation.write(self.outcome, self.process, self.function, value, self.more)
        if self.commits:
            self.committed = self.position[:]
        else:
            self.position = self.committed[:]
        if self.outcome == "info":
            self._replace()
        else:
            self._go_on()

    def _offsets_processed(self) -> dict[int, int]:
        """For each partition that the open operation read, the next offset to be read."""
        partitions = self.simulation.partitions
        moved = [key for key in self.keys if self.position[key] > self.committed[key]]
        return {key: partitions[key].offsets[self.position[key] - 1] + 1 for key in moved}

    def _replace(self) -> None:
        """Go on as another process, which goes on where this one had committed."""
        self.process += self.simulation.concurrency
        self.is_fresh = True
        self._go_on()

    def _go_on(self) -> None:
        self.simulation.open -= 1
        self.simulation.after(THINKING, self.invoke)
