"""A recording from its first operation to the end of its closing reads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hwmark.checkers.cluster.errors import ClusterError
from hwmark.checkers.record.clients import Clients
from hwmark.checkers.record.closing import ISOLATIONS, closing_reads
from hwmark.checkers.record.nemesis import Nemesis
from hwmark.checkers.record.producers import PlainProducer
from hwmark.checkers.record.readers import Reader
from hwmark.checkers.record.run import Run
from hwmark.checkers.record.transactions import TransactionalProducer
from hwmark.checkers.record.transformers import Transformer
from hwmark.checkers.record.workload import Workload
from hwmark.checkers.record.writer import Writer

LOOK = 0.1  # s between looks at how it goes
STOPPING = "stopping: all that was written is read first (press Ctrl-C again to end at once)"
END_SLACK = 6.0  # s beyond all timeouts for a client to end

Watch = Callable[[Run, str], None]


class Outcome(NamedTuple):
    """What came of a recording.

    `seconds` are those of the workload and `operations` what clients began in them. `incomplete` says why the closing
    reads are not complete, None if they are. `problem` is what ended the workload, and `is_stopped` whether somebody
    did.
    """

    file: Path
    seconds: float
    operations: int
    acknowledged: int
    faults: int
    incomplete: str | None
    problem: str | None
    is_stopped: bool


def run(
    clients: Clients,
    workload: Workload,
    nemesis: Nemesis | None,
    file: str | Path,
    about: Mapping[str, Any] | None = None,
    watch: Watch = lambda run, doing: None,
) -> Outcome:
    """Record a workload on topics that exist; `about` is what else the history shall say of itself.

    `watch` is called all the time with the recording and what it is doing. OSError if the file cannot be written.
    KeyboardInterrupt ends the workload; a second one is raised, and the file has what was written until then.
    """
    writer = Writer(file, configuration(workload) | dict(about or {}))
    context = Run(workload, clients, writer)
    is_stopped = False
    try:
        threads = _started(context, nemesis)
        try:
            _await_end(context, watch)
        except KeyboardInterrupt:
            is_stopped = True
            watch(context, STOPPING)
        seconds, operations = context.elapsed, writer.counts["invoke"]
        incomplete = _end(context, threads, nemesis, watch)
    finally:
        context.stop.set()
        writer.close()
    if context.bug is not None:
        raise context.bug
    problem = context.problem or _words(writer.failure)
    if problem is None and not writer.acknowledged and not is_stopped:
        problem = "nothing was acknowledged, so there is nothing that could have been lost"
    return Outcome(
        writer.file, seconds, operations, writer.acknowledged, writer.faults, incomplete, problem, is_stopped
    )


def configuration(workload: Workload) -> dict[str, Any]:
    """What a history says of the workload; it promises the closing reads that a complete one has."""
    told = {name: _whole(value) for name, value in workload._asdict().items() if value is not None}
    return told | {"via": workload.via, "closing_reads": list(ISOLATIONS)}


def _whole(value: Any) -> Any:
    """A number as an integer if it is one: readers of histories are faster without fractions."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _started(context: Run, nemesis: Nemesis | None) -> list[threading.Thread]:
    workload = context.workload
    clients: list[Any] = [PlainProducer(context, number) for number in range(workload.producers)]
    clients += [TransactionalProducer(context, number) for number in range(workload.transactional)]
    clients += [Transformer(context, number) for number in range(workload.transformers)]
    clients += [Reader(context, number, subscribes=False) for number in range(workload.readers)]
    clients += [Reader(context, number, subscribes=True) for number in range(workload.subscribers)]
    works = [client.run for client in clients]
    if nemesis is not None:
        works.append(lambda: nemesis.run(context))
    context.faults_are_due = nemesis is not None
    context.began = time.monotonic()
    threads = [threading.Thread(target=context.guarded(work), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    return threads


def _await_end(context: Run, watch: Watch) -> None:
    while not context.is_over:
        watch(context, "")
        context.stop.wait(LOOK)
        if context.writer.failure is not None:
            context.stop.set()


def _end(context: Run, threads: list[threading.Thread], nemesis: Nemesis | None, watch: Watch) -> str | None:
    """Wait for the clients, mend the cluster, read everything; why that is not complete, None if it is."""
    context.stop.set()
    workload = context.workload
    if nemesis is not None:
        threads[-1].join()
        watch(context, "ending the faults")
        try:
            nemesis.heal(context)
        except ClusterError as error:
            context.problem = context.problem or str(error)
    watch(context, "waiting for the last answers")
    deadline = time.monotonic() + (workload.patience_ms + workload.transaction_timeout_ms) / 1000
    for thread in threads:
        while thread.is_alive() and time.monotonic() < deadline + END_SLACK:
            watch(context, "waiting for the last answers")
            thread.join(LOOK)
    if context.writer.failure is not None:
        return _words(context.writer.failure)
    return closing_reads(context, lambda doing: watch(context, doing))


def _words(failure: OSError | None) -> str | None:
    return None if failure is None else f"{failure.filename}: {(failure.strerror or str(failure)).lower()}"
