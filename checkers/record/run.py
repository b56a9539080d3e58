"""What the threads of a recording share: the workload, the clients, the history, and when to end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import orjson
from confluent_kafka import KafkaError, KafkaException
from hwmark.checkers.record.clients import Clients, words_of
from hwmark.checkers.record.errors import RecordingError
from hwmark.checkers.record.outcomes import NOT_ALLOWED
from hwmark.checkers.record.workload import Key, Workload
from hwmark.checkers.record.writer import Writer


@dataclass
class Run:
    """A recording under way.

    While `faults_are_due` the workload goes on beyond its time: a round of faults that was begun is finished.
    `problem` is the first thing, in words, that makes it useless to go on; `bug` an exception that nobody foresaw.
    """

    workload: Workload
    clients: Clients
    writer: Writer
    stop: threading.Event = field(default_factory=threading.Event)
    began: float = field(default_factory=time.monotonic)
    faults_are_due: bool = False
    problem: str | None = None
    bug: BaseException | None = None
    json_names: dict[Key, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.json_names = {key: orjson.dumps(key.name) for key in self.workload.keys}

    @property
    def is_over(self) -> bool:
        """Whether nothing new shall begin."""
        return self.stop.is_set() or (self.elapsed >= self.workload.seconds and not self.faults_are_due)

    @property
    def elapsed(self) -> float:
        """Seconds since the workload began."""
        return time.monotonic() - self.began

    def give_up(self, problem: str) -> None:
        """End the workload because of this."""
        self.problem = self.problem or problem
        self.stop.set()

    def take(self, what: str, error: KafkaError) -> None:
        """Look at an error that somebody met: what no patience helps against ends the workload."""
        if error.name() in NOT_ALLOWED:
            self.give_up(f"{what}: {self.clients.public(words_of(error))}")

    def guarded(self, work: Callable[[], None]) -> Callable[[], None]:
        """The same, but what it raises ends the workload; what comes from the clients is no bug."""

        def guard() -> None:
            try:
                work()
            except (KafkaException, RecordingError) as error:
                self.give_up(self.clients.public(words_of(error)))
            except BaseException as error:
                self.bug = self.bug or error
                self.stop.set()

        return guard

    def crash(self, process: int, error: str) -> None:
        """A client of this process came to its end."""
        self.writer.invoke(process, "crash", None)
        self.writer.complete(process, "info", "crash", None, error=error)


def pause(run: Run, seconds: float) -> None:
    """Wait so long, or until nothing new shall begin."""
    rest = run.workload.seconds - run.elapsed
    run.stop.wait(max(0.0, seconds if run.faults_are_due else min(seconds, rest)))
