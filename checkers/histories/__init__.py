"""Judging recorded histories: which promises of Kafka a real cluster broke, and for which messages.

The anomalies and the verdict are those of Jepsen's Kafka workload checker (jepsen 0.3, `jepsen.tests.kafka`), computed
on columns. Two extensions: the closing `read_uncommitted` read is evidence of the log but nobody's read, and
`missing-from-final-read` holds acknowledged values against the complete closing `read_committed` read.

Looked for so far: missing-from-final-read, lost-write, unseen, inconsistent-offsets, duplicate, G1a. Not yet: cycles
(G0, G1c), skipped and nonmonotonic polls and sends, precommitted reads, and therefore the atomicity of transactions.
`hwmark.checkers.histories.plain` is the slow twin that follows the definitions word by word.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from hwmark.checkers.histories.aborted_reads import aborted_reads
from hwmark.checkers.histories.evidence import Evidence
from hwmark.checkers.histories.log_conflicts import duplicates, inconsistent_offsets
from hwmark.checkers.histories.losses import (
    has_closing_read,
    in_closing_read,
    lost_writes,
    missing_from_closing_read,
    unseen,
)
from hwmark.checkers.histories.report import (
    CHECKED,
    DUPLICATE,
    G1A,
    INCONSISTENT_OFFSETS,
    LOST_WRITE,
    MISSING,
    NO_CLOSING_READ,
    NOT_CHECKED_YET,
    NOT_IMPLEMENTED,
    UNSEEN,
    Anomaly,
    HistoryReport,
    allowed_types,
)
from hwmark.traces.history import History

__all__ = ["Anomaly", "HistoryReport", "check"]

CHECKS = {
    MISSING: missing_from_closing_read,
    LOST_WRITE: lost_writes,
    UNSEEN: unseen,
    INCONSISTENT_OFFSETS: inconsistent_offsets,
    DUPLICATE: duplicates,
    G1A: aborted_reads,
}


def check(history: History, *, allow: Iterable[str] = (), via: str = "assign", ww_deps: bool = False) -> HistoryReport:
    """Look for every anomaly and judge the history.

    `allow` names anomaly types that shall not count against it; `via` is how its consumers got their partitions
    (`assign` or `subscribe`); `ww_deps` says that cycles were to count write-write dependencies. The latter two excuse
    types of `report.NOT_CHECKED_YET` only.
    """
    evidence = Evidence(history)
    not_checked = dict.fromkeys(NOT_CHECKED_YET, NOT_IMPLEMENTED)
    if not has_closing_read(evidence):
        not_checked[MISSING] = NO_CLOSING_READ
    checked = tuple(name for name in CHECKED if name not in not_checked)
    found = {name: CHECKS[name](evidence) for name in checked}
    return HistoryReport(
        file=history.file,
        anomalies={name: instances for name, instances in found.items() if instances},
        allowed=allowed_types(frozenset(allow), via, ww_deps),
        checked=checked,
        not_checked=not_checked,
        ops=history.counts(),
        ignored=history.ignored(),
        faults=len(history.faults),
        acknowledged=_acknowledged_per_key(evidence),
        unacknowledged_present=int((in_closing_read(evidence) & ~evidence.acknowledged).sum()),
    )


def _acknowledged_per_key(evidence: Evidence) -> dict[str, int]:
    """How many values of each key were acknowledged."""
    counts = np.bincount(evidence.message_key[evidence.acknowledged], minlength=len(evidence.history.keys))
    return {str(key): int(count) for key, count in zip(evidence.history.keys, counts, strict=True)}
