"""How fast operations of a real cluster are recorded, and what that costs the recorder.

usage: python benchmarks/record.py [--seconds S] [--rate N] [--version V] [--folder DIR]

One table from one run. `hwmark record` asks one cluster of three brokers on this machine for plain sends at a steady
rate, with a consumer that reads them all, once for each kind of acknowledgement. What limits is shown by columns beside
each other: operations that were asked for and done, the processor's seconds of the recorder for each operation (its own
threads and librdkafka's), those of the brokers, and the recorder's memory after a third of the time and at the end. The
last row is the recorder alone: records of sends written as fast as one thread can, without any cluster.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import psutil
from hwmark.checkers.cluster.cluster import Cluster, create
from hwmark.checkers.cluster.distribution import resolve
from hwmark.checkers.record import topics
from hwmark.checkers.record.clients import Clients
from hwmark.checkers.record.recorder import run as record
from hwmark.checkers.record.run import Run
from hwmark.checkers.record.workload import Workload
from hwmark.checkers.record.writer import Writer
from rich.console import Console
from rich.table import Table

ALONE = 1_000_000
MEGABYTE = 2**20


class Measured(NamedTuple):
    """A row; seconds of the processor, megabytes."""

    what: str
    operations: int
    acknowledged: int
    seconds: float
    own: float
    brokers: float
    early: float
    late: float
    file: int


class Watch:
    """Looks at the recorder's memory while the workload runs, and at its processor's seconds at its end."""

    def __init__(self, cluster: Cluster) -> None:
        self.process, self.cluster = psutil.Process(), cluster
        self.early = self.late = self.own = self.brokers = 0.0
        self.begun = self.seconds()

    def seconds(self) -> tuple[float, float]:
        """Of this process, and of all nodes."""
        nodes = [process for node in self.cluster.nodes if (process := node.process())]
        return sum(self.process.cpu_times()[:2]), sum(sum(each.cpu_times()[:2]) for each in nodes)

    def __call__(self, run: Run, doing: str) -> None:
        """Look once more."""
        if doing:
            return
        memory = self.process.memory_info().rss / MEGABYTE
        if run.elapsed < run.workload.seconds / 3:
            self.early = memory
        self.late = memory
        self.own, self.brokers = (now - before for now, before in zip(self.seconds(), self.begun, strict=True))


def measure(cluster: Cluster, workload: Workload, what: str, file: Path) -> Measured:
    """Record once on topics of its own."""
    clients = Clients(cluster.bootstrap_servers)
    topics.create(clients, workload.input_topics, workload.partitions, None, {})
    watch = Watch(cluster)
    outcome = record(clients, workload, None, file, watch=watch)
    assert outcome.incomplete is None and outcome.problem is None, outcome
    size = file.stat().st_size
    file.unlink()
    topics.delete(clients, workload.input_topics)
    return Measured(
        what, outcome.operations, outcome.acknowledged, outcome.seconds, watch.own, watch.brokers, watch.early,
        watch.late, size,
    )  # fmt: skip


def alone(file: Path) -> Measured:
    """The records of many sends, without anybody who sends."""
    process, began, before = psutil.Process(), time.perf_counter(), time.process_time()
    writer = Writer(file, {})
    early = process.memory_info().rss / MEGABYTE
    for value in range(ALONE):
        writer.invoke_send(0, b'"hwmark-0-0"', value)
        writer.send_ok(0, b'"hwmark-0-0"', value, value)
    late = process.memory_info().rss / MEGABYTE
    writer.close()
    seconds, own, size = time.perf_counter() - began, time.process_time() - before, file.stat().st_size
    file.unlink()
    return Measured("records alone, no cluster", ALONE, ALONE, seconds, own, 0.0, early, late, size)


def table(rows: list[Measured]) -> Table:
    """All of them."""
    shown = Table(
        "", "operations", "a second", "acknowledged", "us each", "brokers, us each", "MB after 1/3", "MB", "file"
    )
    for row in rows:
        shown.add_row(
            row.what,
            f"{row.operations:,}",
            f"{row.operations / row.seconds:,.0f}",
            f"{row.acknowledged:,}",
            f"{row.own / row.operations * 1e6:.1f}",
            f"{row.brokers / row.operations * 1e6:.1f}",
            f"{row.early:.0f}",
            f"{row.late:.0f}",
            f"{row.file / MEGABYTE:.0f} MB",
        )
    return shown


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=10_000.0)
    parser.add_argument("--version", default="4.3.1")
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    plain = Workload(
        seconds=arguments.seconds, rate=arguments.rate, transactional=0, transformers=0, subscribers=0, readers=1
    )
    kinds = [
        ("acks=all, idempotent", plain._replace(prefix="all")),
        ("acks=1", plain._replace(prefix="one", acks="1", idempotent=False)),
        ("acks=0", plain._replace(prefix="none", acks="0", idempotent=False)),
        ("acks=all, idempotent, nobody reads", plain._replace(prefix="unread", readers=0)),
    ]
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        file = Path(folder, "history.jsonl")
        rows = [alone(file)]
        settings = {"min.insync.replicas": "2"}
        with create(Path(folder, "cluster"), resolve(arguments.version), settings=settings) as cluster:
            cluster.start()
            for what, workload in kinds:
                rows.insert(-1, measure(cluster, workload, what, file))
                Console(stderr=True).print(rows[-2])
    Console(width=140).print(table(rows))


if __name__ == "__main__":
    main()
