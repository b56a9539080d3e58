"""The simulation behind generated histories: clients of a correct Kafka, event by event.

Time is in nanoseconds. Events happen one after the other, and each is written down as it happens, so an operation's
effect lies between its two lines. The closing reads find everything, at either isolation level, and take exactly the
lines that are left.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from hwmark.traces.errors import BadInputError
from hwmark.traces.generator_clients import LATENCY, POLLED_MAX, Client
from hwmark.traces.generator_log import Messages, PartitionLog
from hwmark.traces.generator_notation import Notation

if TYPE_CHECKING:
    from hwmark.traces.generator_anomalies import Episode, Planted

FAULTS = 10
EPISODE_LINES = 30
EPISODE_PROCESSES = 5
CLOSING_PROCESSES = 2
ROOM_TO_RUN = 60
RECORDS_FIRST = 15
"""Lines per partition until it has some records, without which there is little to plant."""
FORGET_EVERY = 1 << 12
CLOSING_POLL_TIME = 1_000_000


@dataclass(frozen=True)
class Shape:
    """What history to generate.

    `lines` in all; `transactional`: transactions of one to four micro-operations instead of single sends and polls;
    `anomalies` to plant, one instance for each mention; `group`: a consumer group whose one member consumes
    partition 0, transforms, produces and commits its offsets in transactions; `notation` is `jsonl` or `edn`.
    """

    lines: int
    transactional: bool = False
    anomalies: Sequence[str] = ()
    seed: int = 0
    partitions: int = 3
    processes: int = 5
    group: str | None = None
    notation: str = "jsonl"

    def lines_min(self) -> int:
        """The least number of lines with room for a history of this shape."""
        to_plant = EPISODE_LINES * len(self.anomalies) + (RECORDS_FIRST * self.partitions if self.anomalies else 0)
        return ROOM_TO_RUN + 4 * self.processes + self.partitions + to_plant


class Simulation:
    """One run; `steps` runs it, and `written` grows by its lines, for whoever runs it to take away."""

    def __init__(self, shape: Shape, notation: Notation, episodes: Sequence[tuple[str, Episode]]) -> None:
        if shape.lines < shape.lines_min():
            raise BadInputError("--lines", None, f"{shape.lines} have no room; expected at least {shape.lines_min()}")
        self.shape, self.notation = shape, notation
        self.random = random.Random(shape.seed).random
        self.now = self.time = self.lines = self.open = self.scheduled = 0
        self.value = 1
        self.written: list[str] = []
        self.planted: list[Planted] = []
        self.events: list[tuple[int, int, Callable[[], object]]] = []
        self.concurrency = shape.processes + CLOSING_PROCESSES + EPISODE_PROCESSES * len(shape.anomalies)
        self.next_process = shape.processes
        self.next_forgetting = FORGET_EVERY
        self.next_fault, self.is_faulty = shape.lines // FAULTS, False
        self.episodes = self._draw_places(episodes)
        self.partitions = [PartitionLog(key, notation) for key in range(shape.partitions)]
        groups = [shape.group, *[None] * (shape.processes - 1)]
        self.clients = [Client(self, process, group) for process, group in enumerate(groups)]

    def _draw_places(self, episodes: Sequence[tuple[str, Episode]]) -> deque[tuple[int, str, Episode]]:
        """The episodes in order, each with the line from which on it may begin: somewhere in the middle."""
        drawn = [(int(self.shape.lines * (0.3 + 0.4 * self.random())), *named) for named in episodes]
        return deque(sorted(drawn, key=lambda place: place[0]))

    def steps(self) -> Iterator[None]:
        """Run: the configuration, the clients until the lines run out, what is left to plant, the closing reads."""
        self._configure()
        for client in self.clients:
            self.after(LATENCY, client.invoke)
        events = self.events
        while events:
            self.now, _, act = heappop(events)
            act()
            yield
        while self.episodes:
            self._plant()
        yield from self._close()

    def after(self, bound: int, act: Callable[[], object]) -> None:
        """Let something happen within this many nanoseconds."""
        self.scheduled += 1
        heappush(self.events, (self.now + int(self.random() * bound), self.scheduled, act))

    def write(self, kind: str, process: int | str, function: str, value: str, more: str = "") -> int:
        """Write a line, later than the one before; its index."""
        self.time = time = self.now if self.now > self.time else self.time + 1
        index = self.lines
        self.written.append(self.notation.line(index, kind, process, function, value, time, more))
        self.lines = index + 1
        return index

    def fresh_process(self) -> int:
        """A process of no client, for an episode or a closing read."""
        self.next_process += 1
        return self.next_process - 1

    def fresh_value(self) -> int:
        """A value that was never sent."""
        self.value += 1
        return self.value - 1

    def begin(self) -> bool:
        """Whether a client may begin another operation; at times something else happens first.

        After it and all that is open, the episodes and the closing reads must have room.
        """
        to_close = 4 * (self.value // POLLED_MAX) + 6 * len(self.planted) + ROOM_TO_RUN // 2
        reserved = EPISODE_LINES * len(self.episodes) + to_close
        if self.lines + self.open + reserved >= self.shape.lines:
            return False
        if self.episodes and self.lines >= self.episodes[0][0]:
            self._plant()
        if self.lines >= self.next_fault:
            self._strike()
        if self.lines >= self.next_forgetting:
            self._forget()
        return True

    def _configure(self) -> None:
        """Write what the history is, as recorders write what they recorded."""
        shape = self.shape
        configuration = {
            "generator": "hwmark",
            "lines": shape.lines,
            "txn": shape.transactional,
            "parts": shape.partitions,
            "processes": shape.processes,
            "concurrency": self.concurrency,
            "group": shape.group,
            "seed": shape.seed,
            "anomalies": list(shape.anomalies),
        }
        self.write("info", "nemesis", "config", self.notation.plain(configuration))

    def _strike(self) -> None:
        """Kill a broker, or start it again; the simulated cluster loses nothing by it."""
        self.is_faulty = not self.is_faulty
        self.write("info", "nemesis", "kill" if self.is_faulty else "start", self.notation.plain([1]))
        self.next_fault += self.shape.lines // FAULTS

    def _plant(self) -> None:
        """Play the next episode, unless no partition is fit for it now."""
        from hwmark.traces.generator_anomalies import play

        _, name, episode = self.episodes[0]
        is_last_chance = not self.events
        planted = play(name, episode, self)
        if planted is not None:
            self.planted.append(planted)
            self.episodes.popleft()
        elif is_last_chance:
            raise BadInputError("--lines", None, f"{self.shape.lines} have no place for {name}; expected more")

    def _forget(self) -> None:
        """Forget the records that every consumer has passed."""
        self.next_forgetting = self.lines + FORGET_EVERY
        for key, partition in enumerate(self.partitions):
            passed = partition.forget(min(client.committed[key] for client in self.clients))
            for client in self.clients:
                client.committed[key] -= passed
                client.position[key] -= passed

    def _close(self) -> Iterator[None]:
        """The complete reads of everything: committed records first, each stretch by a process of its own, then raw."""
        committed = stretches([partition.closing_committed() for partition in self.partitions])
        raw = [(key, *partition.closing_raw()) for key, partition in enumerate(self.partitions)]
        left = self.shape.lines - self.lines
        if left % 2:
            self.write("info", "nemesis", "heal", self.notation.plain(None))
        polls = left // 2 - len(committed) - 1
        for stretch in committed:
            share = polls // 2 // len(committed)
            yield from self._closing_read("read_committed", stretch, share)
            polls -= share
        yield from self._closing_read("read_uncommitted", raw, polls)

    def _closing_read(self, isolation: str, messages: list[tuple[int, *Messages]], polls: int) -> Iterator[None]:
        """One process reads messages of several partitions in so many polls, the last of which is empty."""
        process, more = self.fresh_process(), self.notation.field("final", isolation)
        everything = self.notation.plain(list(range(len(self.partitions))))
        self.write("invoke", process, "assign", everything, more)
        self.write("ok", process, "assign", everything, more)
        asked = self.notation.micro_operations([self.notation.poll])
        for reads in self._cut(messages, polls - 1):
            self.now += CLOSING_POLL_TIME
            self.write("invoke", process, "poll", asked, more)
            answer = self.notation.micro_operations([self.notation.polled(reads)])
            self.write("ok", process, "poll", answer, more)
            yield

    def _cut(self, messages: list[tuple[int, *Messages]], polls: int) -> Iterator[list[tuple[int, str]]]:
        """What each of so many polls returns of the messages, and an empty poll."""
        ends = np.cumsum([len(offsets) for _, offsets, _ in messages])
        bounds = np.linspace(0, ends[-1], polls + 1).astype(int).tolist()
        for start, end in pairwise(bounds):
            reads = []
            for (key, offsets, values), last in zip(messages, ends.tolist(), strict=True):
                first = last - len(offsets)
                part = slice(max(start - first, 0), max(end - first, 0))
                if len(offsets[part]):
                    pairs = zip(offsets[part].tolist(), values[part].tolist(), strict=True)
                    reads.append((key, self.notation.separator.join([self.notation.record(*pair) for pair in pairs])))
            yield reads
        yield []


def stretches(parts: list[list[Messages]]) -> list[list[tuple[int, *Messages]]]:
    """The n-th part of each partition, for every n: a partition without records vanished has one part."""
    count = max(map(len, parts))
    return [[(key, *split[n]) for key, split in enumerate(parts) if n < len(split)] for n in range(count)]
