"""What was found in a history, which anomalies count against it, and which were looked for at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hwmark.checkers.verdict import Holds, Verdict, Violated

Anomaly = dict[str, Any]

LOST_WRITE = "lost-write"
MISSING = "missing-from-final-read"
DUPLICATE = "duplicate"
INCONSISTENT_OFFSETS = "inconsistent-offsets"
G1A = "G1a"
UNSEEN = "unseen"

CHECKED = {
    MISSING: "an acknowledged value that the complete closing read does not contain",
    LOST_WRITE: "a committed value that nobody ever read, although readers got past its offset",
    UNSEEN: "an acknowledged value that no reader had seen when the recording ended",
    INCONSISTENT_OFFSETS: "different values were seen at one offset of a partition",
    DUPLICATE: "one value was seen at several offsets of a partition",
    G1A: "a reader was handed a value of a failed (aborted) operation",
}
NOT_CHECKED_YET = (
    "G0",
    "G0-process",
    "G0-realtime",
    "G1c",
    "G1c-process",
    "G1c-realtime",
    "PL-1-cycle-exists",
    "PL-2-cycle-exists",
    "cycle-search-timeout",
    "empty-transaction-graph",
    "int-nonmonotonic-poll",
    "int-nonmonotonic-send",
    "int-poll-skip",
    "int-send-skip",
    "nonmonotonic-poll",
    "nonmonotonic-send",
    "poll-skip",
    "precommitted-read",
    "strong-PL-1-cycle-exists",
    "strong-PL-2-cycle-exists",
)
KNOWN = (*CHECKED, *NOT_CHECKED_YET)
NO_CLOSING_READ = "the recording has no complete closing read (polls marked final: read_committed)"
NOT_IMPLEMENTED = "this version does not look for it"

ALLOWED_ALWAYS = frozenset(
    {"int-send-skip", "G0", "G0-process", "G0-realtime", "PL-1-cycle-exists", "strong-PL-1-cycle-exists"}
)
ALLOWED_VIA_SUBSCRIBE = frozenset({"poll-skip", "nonmonotonic-poll"})
ALLOWED_WITH_WW = frozenset({"G1c", "G1c-process", "G1c-realtime", "PL-2-cycle-exists", "strong-PL-2-cycle-exists"})


@dataclass(frozen=True)
class HistoryReport:
    """The judgement on one history.

    `anomalies` maps each type found to all of its instances as plain data; `allowed` are the types that do not count
    against it; `checked` are the types looked for, `not_checked` the others with the reason. `ops` counts client
    operations, `acknowledged` the acknowledged values per key, and `unacknowledged_present` the values of the closing
    read whose send was never acknowledged.
    """

    file: str
    anomalies: Mapping[str, list[Anomaly]]
    allowed: frozenset[str]
    checked: tuple[str, ...]
    not_checked: Mapping[str, str]
    ops: Mapping[str, int]
    ignored: int
    faults: int
    acknowledged: Mapping[str, int]
    unacknowledged_present: int

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
        """Whether nothing found counts against the history."""
        return not self.bad_error_types

    def verdict(self) -> Verdict[Mapping[str, list[Anomaly]]]:
        """The judgement as every engine gives it, bounded by the anomalies that were looked for."""
        if self.valid:
            return Holds(bounded_by="the anomalies " + ", ".join(self.checked))
        return Violated(", ".join(self.bad_error_types), self.anomalies)

    def to_json(self) -> dict[str, Any]:
        """The report as plain data, for JSON and for pictures."""
        return {
            "file": self.file,
            "valid": self.valid,
            "error_types": self.error_types,
            "bad_error_types": self.bad_error_types,
            "anomalies": dict(self.anomalies),
            "checked": list(self.checked),
            "not_checked": dict(self.not_checked),
            "ops": dict(self.ops),
            "ignored": self.ignored,
            "faults": self.faults,
            "acknowledged": dict(self.acknowledged),
            "unacknowledged_present": self.unacknowledged_present,
        }


def allowed_types(allow: frozenset[str], via: str, ww_deps: bool) -> frozenset[str]:
    """The anomaly types that do not count: those never meant to, those the options excuse, those the user allows."""
    allowed = ALLOWED_ALWAYS | allow
    if via == "subscribe":
        allowed |= ALLOWED_VIA_SUBSCRIBE
    return allowed | ALLOWED_WITH_WW if ww_deps else allowed
