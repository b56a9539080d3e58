"""Processes of clusters, found by what they carry on their command lines: those of a command that was killed, too."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Iterable
from pathlib import Path

import psutil
from hwmark.checkers.cluster.errors import ClusterError
from hwmark.checkers.cluster.network import Network

FILE = "cluster.json"  # in a cluster's folder: what it consists of
STOP_TIMEOUT = 10.0  # s
CLOCK_STEP = 1.0  # by how much the time of a process's beginning, in s, may seem to change
MARK = "-Dhwmark.cluster="
"""The property on a process's command line that says to which cluster, by its folder, it belongs."""


def strays(folder: Path | None = None) -> list[psutil.Process]:
    """The processes of clusters, of all folders or of one, that live."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        marks = [word.removeprefix(MARK) for word in process.info["cmdline"] or () if word.startswith(MARK)]
        if marks and (folder is None or marks[0] == str(folder)):
            found.append(process)
    return found


def living(pid: int, began: float) -> psutil.Process | None:
    """The process of this pid that began then, in s since the epoch, if it lives."""
    try:
        process = psutil.Process(pid)
        is_same = abs(process.create_time() - began) < CLOCK_STEP
        return process if is_same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def folder_of(stray: psutil.Process) -> Path:
    """The folder of the cluster that a process of `strays` belongs to."""
    marks = [word for word in stray.info["cmdline"] if word.startswith(MARK)]
    return Path(marks[0].removeprefix(MARK))


def stop_processes(processes: Iterable[psutil.Process], number: signal.Signals, timeout: float) -> list[psutil.Process]:
    """Send a signal that ends them to all of them, paused ones too, and wait. Those that had to be killed after all."""
    processes = list(processes)
    for process in processes:
        for each in (number, signal.SIGCONT):
            with contextlib.suppress(psutil.NoSuchProcess):
                _signal(process, each)
    late: list[psutil.Process] = psutil.wait_procs(processes, timeout)[1]
    for process in late:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(late, timeout)
    return late


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.AccessDenied:
        raise ClusterError(f"process {process.pid} is somebody else's, and cannot be stopped") from None


def remove_remains(folder: Path) -> tuple[list[int], bool]:
    """Stop the processes of a cluster in this folder whose file is gone, and remove its network.

    Their pids, and whether there was a network.
    """
    folder = folder.resolve()
    living = strays(folder)
    stop_processes(living, signal.SIGKILL, STOP_TIMEOUT)
    has_network = Network(folder).exists()
    if has_network:
        Network(folder).delete()
    return [process.pid for process in living], has_network


def refuse_strays(folder: Path) -> None:
    """ClusterError, with their pids, if processes of a cluster in this folder live."""
    if living := strays(folder):
        pids = ", ".join(str(process.pid) for process in living)
        raise ClusterError(
            f"a cluster is running in {folder} (pids {pids}); stop it with `hwmark cluster down --dir {folder}`"
        )


def lost_processes() -> list[tuple[psutil.Process, Path]]:
    """The processes of clusters that nobody left running on purpose, each with its folder.

    Their folder holds no cluster any more, or one whose owner, the command that was to stop it, has ended.
    """
    return [(process, folder) for process in strays() if _is_lost(folder := folder_of(process))]


def _is_lost(folder: Path) -> bool:
    try:
        owner = json.loads((folder / FILE).read_text())["owner"]
        return owner is not None and living(*owner) is None
    except (OSError, ValueError, LookupError, TypeError):
        return True
