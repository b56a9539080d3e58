"""Judging recorded histories: which promises of Kafka a real cluster broke, and for which messages.

The anomalies and the verdict are those of Jepsen's Kafka workload checker (jepsen 0.3, `jepsen.tests.kafka`), computed
on columns, and those that hwmark adds; `hwmark.checkers.histories.kinds` has them all. The closing `read_uncommitted`
read is evidence of the log but nobody's read. `hwmark.checkers.histories.plain` is the slow twin that follows the
definitions word by word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from hwmark.checkers.histories.aborted_reads import aborted_reads, values_nobody_sent
from hwmark.checkers.histories.compat import ADDED, NOT_IN_REFERENCE, unpromised
from hwmark.checkers.histories.consumption import consume_counts
from hwmark.checkers.histories.cycles import CYCLE_TYPES, cycles
from hwmark.checkers.histories.evidence import Evidence
from hwmark.checkers.histories.group_offsets import GROUP_TYPES, group_anomalies
from hwmark.checkers.histories.kinds import (
    ABORTED_VISIBLE,
    DUPLICATE,
    G1A,
    INCONSISTENT_OFFSETS,
    KINDS,
    LOST_WRITE,
    MISSING,
    NEVER_GENERATED,
    NO_WRITER,
    PRECOMMITTED,
    TORN,
    UNSEEN,
    Anomaly,
)
from hwmark.checkers.histories.log_conflicts import duplicates, inconsistent_offsets
from hwmark.checkers.histories.losses import (
    has_closing_read,
    in_closing_read,
    lost_writes,
    missing_from_closing_read,
    unseen,
)
from hwmark.checkers.histories.precommitted import precommitted_reads
from hwmark.checkers.histories.realtime_lag import RealtimeLag
from hwmark.checkers.histories.report import (
    INCOMPLETE,
    NO_CLOSING_READ,
    NOT_IMPLEMENTED,
    OF_WRITES_ALONE,
    WITHOUT_WW_DEPS,
    HistoryReport,
    Options,
)
from hwmark.checkers.histories.sequences import SEQUENCE_TYPES, out_of_sequence
from hwmark.checkers.histories.transactions import aborted_visible, torn_transactions
from hwmark.traces.history import CLOSING_READS, NO_ERROR, Function, History, Outcome

__all__ = ["Anomaly", "HistoryReport", "Options", "check"]

Found = dict[str, list[Anomaly]]

# One type each.
CHECKS: dict[str, Callable[[Evidence], list[Anomaly]]] = {
    MISSING: missing_from_closing_read,
    LOST_WRITE: lost_writes,
    INCONSISTENT_OFFSETS: inconsistent_offsets,
    DUPLICATE: duplicates,
    G1A: aborted_reads,
    TORN: torn_transactions,
    ABORTED_VISIBLE: aborted_visible,
    NO_WRITER: values_nobody_sent,
    PRECOMMITTED: precommitted_reads,
}
# Several types at once: the types that are looked for, and how.
JOINT_CHECKS: list[tuple[tuple[str, ...], Callable[[Evidence, Options], Found]]] = [
    (SEQUENCE_TYPES, out_of_sequence),
    (CYCLE_TYPES, cycles),
    (GROUP_TYPES, lambda evidence, _: group_anomalies(evidence)),
    ((UNSEEN,), lambda evidence, options: {UNSEEN: unseen(evidence, options.compat and unpromised(evidence))}),
]


def check(
    history: History,
    *,
    allow: Iterable[str] = (),
    via: str | None = None,
    ww_deps: bool = False,
    compat: bool = False,
) -> HistoryReport:
    """Look for every anomaly and judge the history; options as in `Options`, `via` None as it says itself."""
    options = Options(frozenset(allow), via or history.via, ww_deps, compat)
    evidence = Evidence(history)
    found, not_checked = _look_for_all(evidence, options)
    return HistoryReport(
        file=history.file,
        anomalies={name: found[name] for name in KINDS if found.get(name)},
        allowed=options.allowed(),
        checked=tuple(name for name in KINDS if name not in not_checked),
        not_checked=not_checked,
        ops=history.counts(),
        faults=sum(fault.what != CLOSING_READS for fault in history.faults),
        acknowledged=_acknowledged_per_key(evidence),
        unacknowledged_present=int((in_closing_read(evidence) & ~evidence.acknowledged).sum()),
        worst_realtime_lag=RealtimeLag(evidence, compat=compat).worst(),
        consume_counts=consume_counts(evidence),
        info_txn_causes=_info_txn_causes(history),
        incomplete=history.incomplete,
    )


def _look_for_all(evidence: Evidence, options: Options) -> tuple[Found, dict[str, str]]:
    """What every check found, and the types that none looked for with the reason."""
    not_checked = dict(NEVER_GENERATED)
    if not has_closing_read(evidence):
        not_checked |= dict.fromkeys((MISSING, TORN), NO_CLOSING_READ)
    if evidence.history.incomplete is not None:
        not_checked |= dict.fromkeys((MISSING, TORN, UNSEEN, "empty-transaction-graph"), INCOMPLETE)
    if not options.ww_deps:
        not_checked |= dict.fromkeys(OF_WRITES_ALONE, WITHOUT_WW_DEPS)
    if options.compat:
        not_checked |= dict.fromkeys(ADDED, NOT_IN_REFERENCE)
    found = {name: look(evidence) for name, look in CHECKS.items() if name not in not_checked}
    for names, look_for in JOINT_CHECKS:
        if not not_checked.keys() >= set(names):
            found |= {name: [] for name in names} | look_for(evidence, options)
    found = {name: instances for name, instances in found.items() if name not in not_checked}
    return found, not_checked | {name: NOT_IMPLEMENTED for name in KINDS if name not in found | not_checked}


def _info_txn_causes(history: History) -> list[str]:
    """The distinct errors of data operations of unknown outcome."""
    operations = history.operations
    judged = (operations.outcome == Outcome.INFO) & (operations.function <= Function.TXN)
    causes = np.unique(operations.error[judged & (operations.error != NO_ERROR)])
    return sorted(history.errors[cause] for cause in causes)


def _acknowledged_per_key(evidence: Evidence) -> dict[str, int]:
    """How many values of each key were acknowledged."""
    counts = np.bincount(evidence.message_key[evidence.acknowledged], minlength=len(evidence.history.keys))
    return {str(key): int(count) for key, count in zip(evidence.history.keys, counts, strict=True)}
