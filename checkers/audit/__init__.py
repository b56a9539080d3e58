"""Audit: what the log directories of stopped brokers say about the promises of Kafka.

Each replica of each partition is read and checked by itself (`checks`, `producers`), the replicas of a partition are
compared (`compare`), and what the coordinators wrote down is held against the partitions (`coordinators`). What each
kind of finding means, and which of them healthy clusters show too, is in `findings`.

Not read: snapshots of the cluster's metadata, and what lies in tiered storage. Whether a topic is compacted is not in
the directories of its log, so it is inferred: from the names of the internal topics, from the cleaner's own checkpoint,
and from batches with fewer records than offsets. From a compacted log anything may be missing that a later record
supersedes, so that there the replicas tell what was lost, or nobody does.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby

import numpy as np
from hwmark.checkers.audit.aborted_index import aborted_index
from hwmark.checkers.audit.checkpoints import Partition
from hwmark.checkers.audit.checks import check_log
from hwmark.checkers.audit.compare import compare, compared_below
from hwmark.checkers.audit.coordinators import Coordinators, best_copy
from hwmark.checkers.audit.directories import LogDirectory, find_log_directories
from hwmark.checkers.audit.findings import BAD_FILE, KINDS, LEFT_OUT, OFFSET_GAP, Finding
from hwmark.checkers.audit.indexes import indexes
from hwmark.checkers.audit.internal import COMPACTED, METADATA_LOG
from hwmark.checkers.audit.layout import Fault
from hwmark.checkers.audit.locate import Wanted
from hwmark.checkers.audit.producers import EXPIRATION_MS, Producers
from hwmark.checkers.audit.replica import Replica, read_replica, records_of
from hwmark.checkers.audit.report import AuditReport

__all__ = ["KINDS", "AuditReport", "Finding", "Wanted", "audit", "bytes_of", "find_log_directories"]

AHEAD = 2
"""How many replicas for each worker are read before they are asked for."""


def bytes_of(directories: list[LogDirectory]) -> int:
    """How many bytes of log there are."""
    folders = (folder for directory in directories for folder in directory.partitions.values())
    return sum(file.stat().st_size for folder in folders for file in folder.iterdir() if ".log" in file.suffixes[:1])


def audit(
    directories: list[LogDirectory],
    *,
    wanted: Wanted | None = None,
    every_record: bool = False,
    expiration_ms: int = EXPIRATION_MS,
    workers: int | None = None,
    read: Callable[[int], None] = lambda _: None,
) -> AuditReport:
    """Audit log directories.

    `wanted` are values to look for, `every_record` takes compressed records apart too, `expiration_ms` is the cluster's
    `producer.id.expiration.ms`; `read` is told, by several threads, how many bytes were done. Raises OSError.
    """
    run = _Audit(AuditReport(directories), wanted, every_record, expiration_ms)
    for directory in directories:
        run.of_directory(directory)
    for partition, replicas in groupby(_replicas(directories, workers, read), key=lambda replica: replica.partition):
        run.of_partition(partition, list(replicas))
    return run.ended()


def _replicas(directories: list[LogDirectory], workers: int | None, read: Callable[[int], None]) -> Iterator[Replica]:
    """All replicas, those of a partition one after the other, read by several threads a little ahead."""
    jobs = sorted(
        ((partition, number) for number, directory in enumerate(directories) for partition in directory.partitions),
    )
    workers = workers or _processors()
    waiting: deque[Future[Replica]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for partition, number in jobs:
                waiting.append(pool.submit(read_replica, directories[number], partition, read))
                if len(waiting) > AHEAD * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Audit:
    """An audit on its way: partition by partition."""

    def __init__(self, report: AuditReport, wanted: Wanted | None, every_record: bool, expiration_ms: int) -> None:
        self.report, self.wanted = report, wanted
        self.every_record, self.expiration_ms = every_record, expiration_ms
        self.coordinators = Coordinators()
        self.cleaned_topics = {topic for directory in report.directories for topic, _ in directory.cleaned}
        self.cleaned_topics |= set(COMPACTED)

    def of_directory(self, directory: LogDirectory) -> None:
        """What is wrong with a log directory's own files."""
        self.report.findings += [
            Finding(BAD_FILE, reason, directory.broker, file=path) for path, reason in directory.bad
        ]
        self.report.findings += [
            Finding(LEFT_OUT, "not read: it is no partition, or on its way out or in", directory.broker, file=path)
            for path in directory.left_out
        ]

    def of_partition(self, partition: Partition, replicas: list[Replica]) -> None:
        """Check the replicas of a partition."""
        topic, number = partition
        if any(replica.is_cleaned for replica in replicas):
            self.cleaned_topics.add(topic)
        is_thinned = topic in self.cleaned_topics
        found: list[Finding] = []
        best = best_copy(replicas)
        for replica in replicas:
            found += check_log(replica)
            producers = Producers(replica, is_thinned=is_thinned, expiration_ms=self.expiration_ms)
            found += producers.findings()
            found += [*aborted_index(producers), *indexes(replica)]
            if replica is best:
                self.coordinators.open += producers.open_transactions()
            found += _compressed_records(replica) if self.every_record else []
            found += self.wanted.look(replica) if self.wanted else []
        if topic != METADATA_LOG:
            found += compare(replicas, is_thinned=is_thinned)
        found += self.coordinators.learn(best)
        self.coordinators.ends[partition] = max(replica.log_end for replica in replicas)
        self.report.findings += found
        self._count(topic, number, is_thinned, replicas)

    def _count(self, topic: str, number: int, is_thinned: bool, replicas: list[Replica]) -> None:
        """The partition's entry in the report, and the totals."""
        told = [
            {
                "broker": replica.broker,
                "log_start": replica.log_start,
                "log_end": replica.log_end,
                "high_watermark": replica.high_watermark,
                "leader_epoch": replica.last_epoch,
                "segments": len(replica.segments),
                "batches": len(replica.batches),
                "records": int(np.maximum(replica.batches["record_count"], 0).sum()),
                "bytes": sum(segment.size for segment in replica.segments),
            }
            for replica in replicas
        ]
        below = compared_below(replicas) if topic != METADATA_LOG else None
        entry = {"topic": topic, "partition": number, "cleaned": is_thinned, "compared_below": below, "replicas": told}
        self.report.partitions.append(entry)
        self.report.bytes += sum(one["bytes"] for one in told)  # type: ignore[misc]
        self.report.batches += sum(one["batches"] for one in told)  # type: ignore[misc]
        self.report.records += sum(one["records"] for one in told)  # type: ignore[misc]
        if not self.every_record:
            unread = sum(int((replica.batches["fault"] == Fault.NOT_READ).sum()) for replica in replicas)
            self.report.compressed_batches_unread += unread

    def ended(self) -> AuditReport:
        """The report, when all partitions are done."""
        report = self.report
        report.findings += self.coordinators.findings()
        report.findings = [
            finding
            for finding in dict.fromkeys(report.findings)
            if finding.kind != OFFSET_GAP or finding.topic not in self.cleaned_topics
        ]
        if self.wanted is not None:
            report.located, report.located_sentences = self.wanted.values, self.wanted.sentences()
        return report


def _compressed_records(replica: Replica) -> list[Finding]:
    """The compressed batches whose records cannot be taken apart."""
    compressed = replica.batches["fault"] == Fault.NOT_READ
    return [records for _, records in records_of(replica, compressed) if isinstance(records, Finding)]
