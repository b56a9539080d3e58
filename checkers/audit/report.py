"""The report of an audit: totals, partitions, findings, the verdict, as data and as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hwmark.checkers.audit.directories import CONTROLLER, LogDirectory
from hwmark.checkers.audit.findings import KINDS, Finding, Weight
from hwmark.checkers.verdict import Holds, Unknown, Verdict, Violated

LISTED = 10
"""So many findings of a kind are told in the text: violations of each partition, remarks of all."""


@dataclass
class AuditReport:
    """What an audit saw and found.

    `partitions` are plain data: topic, partition, whether the cleaner was in it, the offset below which replicas were
    compared, and its replicas with their offsets and counts. `located` is None unless a history was given.
    """

    directories: list[LogDirectory]
    partitions: list[dict[str, Any]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    located: list[dict[str, Any]] | None = None
    located_sentences: list[str] = field(default_factory=list)
    bytes: int = 0
    batches: int = 0
    records: int = 0
    compressed_batches_unread: int = 0

    @property
    def brokers(self) -> list[str]:
        """The names of those whose directories these are."""
        return sorted({one.broker for one in self.directories} - set(self.controllers))

    @property
    def controllers(self) -> list[str]:
        """The names of those that are controllers alone."""
        return sorted({one.broker for one in self.directories if one.broker.startswith(CONTROLLER)})

    def of_weight(self, weight: Weight) -> list[Finding]:
        """The findings of a weight."""
        return [finding for finding in self.findings if finding.weight == weight]

    def verdict(self) -> Verdict[list[Finding]]:
        """Violated by any violation; unknown if something could not be looked at."""
        if violations := self.of_weight(Weight.VIOLATION):
            return Violated(", ".join(sorted({finding.kind for finding in violations})), violations)
        if unknown := self.of_weight(Weight.UNKNOWN):
            return Unknown(f"{unknown[0].file}: {unknown[0].sentence}")
        return Holds(bounded_by="what the directories hold")

    def to_json(self) -> dict[str, Any]:
        """The report as plain data."""
        verdict = self.verdict()
        valid = None if isinstance(verdict, Unknown) else isinstance(verdict, Holds)
        return {
            "directories": [
                {"path": str(one.path), "broker": one.broker, "clean_shutdown": one.clean} for one in self.directories
            ],
            "brokers": self.brokers,
            "controllers": self.controllers,
            "verdict": type(verdict).__name__.lower(),
            "valid": valid,
            "why": verdict.why if isinstance(verdict, Unknown) else None,
            "kinds": dict(sorted(Counter(finding.kind for finding in self.findings).items())),
            "findings": [finding.to_json() for finding in self.findings],
            "partitions": self.partitions,
            "located": self.located,
            "bytes": self.bytes,
            "batches": self.batches,
            "records": self.records,
            "compressed_batches_unread": self.compressed_batches_unread,
        }

    def text(self, seconds: float) -> list[str]:
        """What people read: findings by partition, then the totals and the verdict."""
        return [*self._findings(), *self._located(), *self._totals(seconds), self._last_line()]

    def _findings(self) -> Iterator[str]:
        place = None
        told: Counter[tuple[Any, ...]] = Counter()
        for finding in sorted(self.findings, key=_by_place):
            here = finding.topic, finding.partition
            counted = (finding.kind,) if finding.weight == Weight.REMARK else (*here, finding.kind)
            told[counted] += 1
            if told[counted] > LISTED + 1:
                continue
            if here != place:
                yield f"{finding.topic}-{finding.partition}" if finding.topic is not None else "log directories"
                place = here
            more = f"{finding.kind}: more of them, which --json lists"
            yield f"  {_line(finding) if told[counted] <= LISTED else more}"

    def _located(self) -> Iterator[str]:
        if self.located is None:
            return
        if not self.located:
            yield "the history misses no value, and has none in two places"
            return
        held = sum(bool(value["held"]) for value in self.located)
        yield f"of {len(self.located):,} values that the history misses or has in two places, {held:,} are in a log:"
        for sentence in self.located_sentences[:LISTED]:
            yield f"  {sentence}"
        if len(self.located) > LISTED:
            yield f"  and {len(self.located) - LISTED:,} more, which --json lists"

    def _totals(self, seconds: float) -> Iterator[str]:
        nodes = [_many(len(self.brokers), "broker")]
        nodes += [_many(len(self.controllers), "controller")] if self.controllers else []
        replicas = sum(len(partition["replicas"]) for partition in self.partitions)
        megabytes = self.bytes / 1e6
        yield (
            f"{', '.join(nodes)}, {_many(len(self.partitions), 'partition')}, {_many(replicas, 'replica')}: "
            f"{_many(self.batches, 'batch', 'batches')}, {_many(self.records, 'record')}, {megabytes:,.1f} MB, "
            f"{megabytes / max(seconds, 1e-9):,.0f} MB/s"
        )
        if uncompared := sum(map(_is_uncompared, self.partitions)):
            partitions = _many(uncompared, "partition")
            yield f"the replicas of {partitions} were not compared: no common high watermark is known"
        if self.compressed_batches_unread:
            unread = _many(self.compressed_batches_unread, "compressed batch", "compressed batches")
            yield f"every CRC was checked; the records in {unread} were not taken apart, which --records does"

    def _last_line(self) -> str:
        counts = Counter(finding.kind for finding in self.findings)
        by_weight = {
            weight: ", ".join(f"{kind} {n:,}" for kind, n in sorted(counts.items()) if KINDS[kind].weight == weight)
            for weight in Weight
        }
        remarks = f" (remarks: {by_weight[Weight.REMARK]})" if by_weight[Weight.REMARK] else ""
        match self.verdict():
            case Violated():
                return f"violated: {by_weight[Weight.VIOLATION]}{remarks}"
            case Unknown(why):
                return f"unknown: {why}{remarks}"
            case _:
                return f"no violation in the logs{remarks}"


def _is_uncompared(partition: dict[str, Any]) -> bool:
    """Whether there are replicas with common offsets of which none was compared."""
    start = max((one["log_start"] for one in partition["replicas"]), default=0)
    ends = sorted(one["log_end"] for one in partition["replicas"])[-2:]
    below = partition["compared_below"]
    return len(ends) == 2 and ends[0] > start and below is not None and below <= start


def _by_place(finding: Finding) -> tuple[Any, ...]:
    """Findings of no partition first, then by partition, weight and offset."""
    weights = list(Weight)
    topic, partition = finding.topic or "", finding.partition if finding.partition is not None else -1
    return topic, partition, weights.index(finding.weight), finding.offsets or (-1, -1), finding.kind, finding.sentence


def _line(finding: Finding) -> str:
    """A finding in one line."""
    at = f" (offset {finding.offsets[0]:,} to {finding.offsets[1]:,})" if finding.offsets else ""
    file = (
        f" [{finding.file}" + (f":{finding.position}" if finding.position is not None else "") + "]"
        if finding.file
        else ""
    )
    broker = f"{finding.broker}: " if finding.broker else ""
    return f"{finding.kind}: {broker}{finding.sentence}{at}{file}"


def _many(number: int, one: str, several: str | None = None) -> str:
    """A number with its noun."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"
