"""What was found in a history, which anomalies count against it, and which were looked for at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hwmark.checkers.histories.kinds import KINDS, Anomaly
from hwmark.checkers.verdict import Holds, Unknown, Verdict, Violated

NO_CLOSING_READ = "the recording has no complete closing read (polls marked final: read_committed)"
INCOMPLETE = "the closing reads are not complete: what nobody has read may be there"
WITHOUT_WW_DEPS = "only with --ww-deps does one write depend on another"
NOT_IMPLEMENTED = "this version does not look for it"

ALLOWED_ALWAYS = frozenset(
    {"int-send-skip", "G0", "G0-process", "G0-realtime", "PL-1-cycle-exists", "strong-PL-1-cycle-exists"}
)
ALLOWED_VIA_SUBSCRIBE = frozenset({"poll-skip", "nonmonotonic-poll"})
OF_WRITES_ALONE = ("G0", "G0-realtime", "PL-1-cycle-exists", "strong-PL-1-cycle-exists")
ALLOWED_WITH_WW = frozenset({"G1c", "G1c-process", "G1c-realtime", "PL-2-cycle-exists", "strong-PL-2-cycle-exists"})


@dataclass(frozen=True)
class HistoryReport:
    """The judgement on one history.

    `anomalies` maps each type found to all of its instances as plain data; `allowed` are the types that do not count
    against it; `checked` are the types looked for, `not_checked` the others with the reason. `ops` counts client
    operations, `acknowledged` the acknowledged values per key, and `unacknowledged_present` the values of the closing
    read whose send was never acknowledged. `worst_realtime_lag`, `consume_counts` and `info_txn_causes` (the errors of
    sends, polls and transactions of unknown outcome) inform and do not count. `incomplete` says why the closing reads
    that were promised are not complete: what was not found may be there.
    """

    file: str
    anomalies: Mapping[str, list[Anomaly]]
    allowed: frozenset[str]
    checked: tuple[str, ...]
    not_checked: Mapping[str, str]
    ops: Mapping[str, int]
    faults: int
    acknowledged: Mapping[str, int]
    unacknowledged_present: int
    worst_realtime_lag: Mapping[str, Any] | None
    consume_counts: Mapping[str, Any]
    info_txn_causes: list[str]
    incomplete: str | None = None

    @property
    def error_types(self) -> list[str]:
        """The types found."""
        return sorted(self.anomalies)

    @property
    def bad_error_types(self) -> list[str]:
        """The types found that count against the history."""
        return [name for name in self.error_types if name not in self.allowed]

    @property
    def valid(self) -> bool:
        """Whether nothing found counts against the history, and nothing is missing from it that was promised."""
        return not self.bad_error_types and self.incomplete is None

    def verdict(self) -> Verdict[Mapping[str, list[Anomaly]]]:
        """The judgement as every engine gives it, bounded by the anomalies that were looked for."""
        if not self.bad_error_types and self.incomplete is not None:
            return Unknown(f"the closing reads are not complete: {self.incomplete}")
        if self.valid:
            return Holds(bounded_by="the anomalies " + ", ".join(self.checked))
        return Violated(", ".join(self.bad_error_types), self.anomalies)

    def to_json(self) -> dict[str, Any]:
        """The report as plain data, for JSON and for pictures."""
        told = {name: [KINDS[name].told(a) for a in instances] for name, instances in self.anomalies.items()}
        return self.summary() | {"anomalies": told}

    def summary(self) -> dict[str, Any]:
        """The fields of `to_json`, of the anomalies only how many there are of each type."""
        return {
            "file": self.file,
            "valid": None if self.incomplete is not None and not self.bad_error_types else self.valid,
            "error_types": self.error_types,
            "bad_error_types": self.bad_error_types,
            "anomalies": {name: len(instances) for name, instances in self.anomalies.items()},
            "checked": list(self.checked),
            "not_checked": dict(self.not_checked),
            "ops": dict(self.ops),
            "faults": self.faults,
            "acknowledged": dict(self.acknowledged),
            "unacknowledged_present": self.unacknowledged_present,
            "worst_realtime_lag": self.worst_realtime_lag,
            "consume_counts": self.consume_counts,
            "info_txn_causes": self.info_txn_causes,
            "incomplete": self.incomplete,
        }


@dataclass(frozen=True)
class Options:
    """How a history is judged.

    `allow` names anomaly types that shall not count against it; `via` is how its consumers got their partitions
    (`assign` or `subscribe`); `ww_deps` makes cycles count write-write dependencies; `compat` adds the reference's
    quirks.
    """

    allow: frozenset[str] = frozenset()
    via: str = "assign"
    ww_deps: bool = False
    compat: bool = False

    def allowed(self) -> frozenset[str]:
        """The types that do not count: those never meant to, those the options excuse, those the user allows."""
        allowed = ALLOWED_ALWAYS | self.allow
        if self.via == "subscribe":
            allowed |= ALLOWED_VIA_SUBSCRIBE
        return allowed | ALLOWED_WITH_WW if self.ww_deps else allowed
