"""One process of a cluster, a broker or a controller, known by its pid and the time at which that began."""

from __future__ import annotations

import signal
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
from hwmark.checkers.cluster.errors import ClusterError

MARK = "-Dhwmark.cluster="
"""The property on a process's command line that says to which cluster, by its folder, it belongs."""

BROKER, CONTROLLER = "broker", "controller"
UP, PAUSED, DOWN = "up", "paused", "down"
CLOCK_STEP = 1.0  # by how much the time of a process's beginning, in s, may seem to change


@dataclass
class Node:
    """A node and, if it is running, its process. `host` and `port` are its listener's; `folder` has all its files."""

    id: int
    role: str
    host: str
    port: int
    folder: Path
    pid: int | None = None
    began: float = 0.0

    @property
    def address(self) -> str:
        """What its listener is reached at."""
        return f"{self.host}:{self.port}"

    @property
    def log_directory(self) -> Path:
        """Its `log.dirs`."""
        return self.folder / "data"

    @property
    def output(self) -> Path:
        """What its process prints."""
        return self.folder / "server.log"

    @property
    def name(self) -> str:
        """As people call it: "broker 1"."""
        return f"{self.role} {self.id}"

    def process(self) -> psutil.Process | None:
        """Its process, if it lives."""
        if self.pid is None:
            return None
        try:
            process = psutil.Process(self.pid)
            is_same = abs(process.create_time() - self.began) < CLOCK_STEP
            return process if is_same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None

    def state(self) -> str:
        """Up, paused or down."""
        process = self.process()
        if process is None:
            return DOWN
        return PAUSED if process.status() == psutil.STATUS_STOPPED else UP

    def start(self, command: list[str]) -> None:
        """Start its process, in a session of its own, so that an interrupt from the keyboard does not reach it."""
        if self.process() is not None:
            raise ClusterError(f"{self.name} is {self.state()} already")
        with self.output.open("ab") as output:
            process = subprocess.Popen(
                command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        self.pid, self.began = process.pid, psutil.Process(process.pid).create_time()

    def send(self, number: signal.Signals) -> None:
        """Send a signal. ClusterError if the node is down."""
        process = self.process()
        if process is None:
            raise ClusterError(f"{self.name} is down")
        process.send_signal(number)

    def stop(self, number: signal.Signals, timeout: float) -> None:
        """Send a signal that ends it, if it lives, and wait; after so many seconds it is killed."""
        process = self.process()
        if process is None:
            return
        process.send_signal(signal.SIGCONT)
        process.send_signal(number)
        try:
            process.wait(timeout)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(timeout)

    def last_words(self) -> str:
        """The line of its output that tells best why it ended."""
        lines = self.output.read_text(errors="replace").splitlines() if self.output.exists() else []
        told = [line for line in lines if " ERROR " in line or "Exception" in line]
        return (told or lines or ["it said nothing"])[-1].strip()[:300]

    def to_json(self) -> dict[str, Any]:
        """For the cluster's file."""
        return asdict(self) | {"folder": str(self.folder)}

    @classmethod
    def from_json(cls, known: dict[str, Any]) -> Node:
        """As it was written."""
        return cls(**known | {"folder": Path(known["folder"])})


def strays(folder: Path | None = None) -> list[psutil.Process]:
    """The processes of clusters, of all folders or of one, that live."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        marks = [word.removeprefix(MARK) for word in process.info["cmdline"] or () if word.startswith(MARK)]
        if marks and (folder is None or marks[0] == str(folder)):
            found.append(process)
    return found
