"""One process of a cluster, a broker or a controller, known by its pid and the time at which that began."""

from __future__ import annotations

import signal
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
from hwmark.checkers.cluster.errors import ClusterError
from hwmark.checkers.cluster.strays import living

BROKER, CONTROLLER = "broker", "controller"
UP, PAUSED, DOWN = "up", "paused", "down"
PAUSE_TIMEOUT, POLL = 5.0, 0.01  # s


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
        return None if self.pid is None else living(self.pid, self.began)

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
        try:
            with self.output.open("ab") as output:
                process = subprocess.Popen(
                    command,
                    cwd=self.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
        except OSError as error:
            raise ClusterError(f"{self.name}: {error.filename}: {(error.strerror or str(error)).lower()}") from None
        self.pid, self.began = process.pid, psutil.Process(process.pid).create_time()

    def pause(self) -> None:
        """Stop its process where it is (SIGSTOP). ClusterError if it is down."""
        self._send(signal.SIGSTOP)
        self._await(PAUSED)

    def resume(self) -> None:
        """Let its process go on. ClusterError if it is down."""
        self._send(signal.SIGCONT)
        self._await(UP)

    def _send(self, number: signal.Signals) -> None:
        process = self.process()
        if process is None:
            raise ClusterError(f"{self.name} is down")
        process.send_signal(number)

    def _await(self, state: str) -> None:
        deadline = time.monotonic() + PAUSE_TIMEOUT
        while self.state() not in (state, DOWN) and time.monotonic() < deadline:
            time.sleep(POLL)

    def last_words(self) -> str:
        """The line of its output that tells best why it ended."""
        lines = self.output.read_text(errors="replace").splitlines() if self.output.exists() else []
        said = [line.strip() for line in lines if not line.lstrip().startswith("at ")]  # no frames of a stack
        told = [line for line in said if " ERROR " in line or "Exception" in line]
        return (told or said or ["it said nothing"])[-1][:300]

    def to_json(self) -> dict[str, Any]:
        """For the cluster's file."""
        return asdict(self) | {"folder": str(self.folder)}

    @classmethod
    def from_json(cls, known: dict[str, Any]) -> Node:
        """As it was written."""
        return cls(**known | {"folder": Path(known["folder"])})
