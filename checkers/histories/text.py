"""A judged history in words for the people who run the cluster."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from itertools import groupby
from typing import Any

from hwmark.checkers.histories.kinds import (
    ABORTED_VISIBLE,
    DUPLICATE,
    G1A,
    INCONSISTENT_OFFSETS,
    KINDS,
    LOST_WRITE,
    MISSING,
    TORN,
    UNSEEN,
    Anomaly,
    Kind,
)
from hwmark.checkers.histories.report import NOT_IMPLEMENTED, HistoryReport
from hwmark.traces.history import CLOSING_READS, Fault, History, Outcome

LISTED_MAX = 40
EXAMPLES_MAX, EXAMPLES_MIN, EXAMPLES_IN_ALL = 8, 2, 32
FAULTS_MAX = 24


def describe(history: History, report: HistoryReport) -> str:
    """The whole report as text: verdict, what was recorded, every anomaly by partition, what was not looked for."""
    lines = [_headline(report), "", *_recorded(history, report)]
    for name in sorted(report.anomalies, key=lambda name: name in report.allowed):
        lines += ["", *_anomaly(name, report)]
    return "\n".join([*lines, "", *_coverage(report)])


def _headline(report: HistoryReport) -> str:
    """The verdict in one line."""
    if report.bad_error_types:
        missing, total = len(report.anomalies.get(MISSING, [])), sum(report.acknowledged.values())
        are = "is" if missing == 1 else "are"
        worst = f"; {missing:,} of {total:,} acknowledged values {are} missing at the end" if missing else ""
        return f"{report.file}: INVALID: {', '.join(report.bad_error_types)}{worst}"
    if report.incomplete is not None:
        return f"{report.file}: unknown: the closing reads are not complete: {report.incomplete}"
    excused = f" (allowed: {', '.join(report.error_types)})" if report.error_types else ""
    return f"{report.file}: valid{excused}: {'no anomaly' if not excused else 'nothing else'} among those looked for"


def _recorded(history: History, report: HistoryReport) -> list[str]:
    """What the recording holds."""
    ops = report.ops
    last = int(max(history.operations.completed_at.max(), history.operations.invoked_at.max()))
    aborts = int(((history.operations.means_to_abort == 1) & (history.operations.outcome == Outcome.FAIL)).sum())
    on_purpose = f" ({aborts:,} aborted on purpose)" if aborts else ""
    counts = f"{ops['ok']:,} ok, {ops['fail']:,} failed{on_purpose}, {ops['info']:,} of unknown outcome"
    total = sum(report.acknowledged.values())
    lines = [
        *field("recorded", f"{counted(ops['invoke'], 'operation')} in {seconds(last)}: {counts}"),
        *field(
            "promised", f"{counted(total, 'value')} acknowledged in {counted(len(report.acknowledged), 'partition')}"
        ),
    ]
    if report.info_txn_causes:
        lines += field("unknown after", _cut(report.info_txn_causes))
    lag = report.worst_realtime_lag
    if lag and lag["lag"]:
        lines += field("worst lag", f"process {lag['process']}, by {seconds(lag['lag'])} at {seconds(lag['time'])}")
    if report.unacknowledged_present:
        unasked = counted(report.unacknowledged_present, "value")
        lines += field("also found", f"{unasked} in the closing read whose send was never acknowledged")
    if history.dropped:
        line, reason = history.dropped[0]
        lines += field("left out", f"{counted(len(history.dropped), 'line')}, first line {line}: {reason}")
    faults = [fault for fault in history.faults if fault.what != CLOSING_READS]
    if faults:
        lines += field("faults", _faults(faults))
    if history.configuration:
        settings = (f"{k} {v}" for k, v in history.configuration.items() if v != "" and not isinstance(v, dict | list))
        lines += field("setup", ", ".join(settings))
    return lines


def _cut(texts: list[str]) -> str:
    """The first few texts, and how many more there were."""
    more = len(texts) - EXAMPLES_MAX
    return "; ".join(texts[:EXAMPLES_MAX]) + (f"; and {more:,} more" if more > 0 else "")


def _faults(faults: list[Fault]) -> str:
    """The first faults with their times, and how many more there were."""
    told = [f"{seconds(f.time)} {f.what}{_argument(f)}" for f in faults[:FAULTS_MAX]]
    more = len(faults) - FAULTS_MAX
    return "; ".join(told) + (f"; and {counted(more, 'more fault')}" if more > 0 else "")


def _argument(fault: Fault) -> str:
    """What a fault was done to, as recorded."""
    return "" if fault.value is None else f" {json.dumps(fault.value)}"


def _coverage(report: HistoryReport) -> list[str]:
    """Which anomalies were looked for, and which were not and why."""
    lines = field("looked for", ", ".join(report.checked))
    by_reason: dict[str, list[str]] = defaultdict(list)
    for name, reason in report.not_checked.items():
        by_reason[reason].append(name)
    for reason, names in sorted(by_reason.items(), key=lambda item: item[0] == NOT_IMPLEMENTED):
        lines += field("not looked for", f"{', '.join(names)}: {reason}")
    return lines


def _examples_max(report: HistoryReport) -> int:
    """How many instances, or partitions, of each type are told: fewer where there are many types."""
    return max(EXAMPLES_MIN, min(EXAMPLES_MAX, EXAMPLES_IN_ALL // max(1, len(report.anomalies))))


# The most telling instances first: the longest jumps, the shortest cycles. Others stay in the order of the log.
_FIRST: dict[str, Callable[[Anomaly], int]] = {
    **dict.fromkeys(("int-poll-skip", "int-send-skip", "poll-skip"), lambda a: -a["delta"]),
    **dict.fromkeys(
        ("int-nonmonotonic-poll", "int-nonmonotonic-send", "nonmonotonic-poll", "nonmonotonic-send"),
        lambda a: a["delta"],
    ),
    **dict.fromkeys((name for name, kind in KINDS.items() if "cycle" in kind.shown_by), lambda a: len(a["cycle"])),
    DUPLICATE: lambda a: -a["count"],
    ABORTED_VISIBLE: lambda a: -a["reads"],
    TORN: lambda a: -len(a["lost"]),
}


def most_telling(name: str, instances: list[Anomaly]) -> list[Anomaly]:
    """The instances in the order in which they are told."""
    return sorted(instances, key=_FIRST[name]) if name in _FIRST else instances


def _anomaly(name: str, report: HistoryReport) -> list[str]:
    """One type of anomaly: its count, its sentence, its partitions."""
    instances = most_telling(name, report.anomalies[name])
    excused = " (allowed)" if name in report.allowed else ""
    count = sum(instances[0]["unseen"].values()) if name == UNSEEN else len(instances)
    details = _DETAILS.get(name, partial(_sentences, KINDS[name]))
    return [f"  {name}, {counted(count, 'time')}{excused}: {KINDS[name].meaning}", *details(instances, report)]


def _missing(instances: list[Anomaly], report: HistoryReport) -> list[str]:
    """Missing values per partition, with their offsets, writers and times."""
    told = []
    for key, lost in _by_key(instances):
        total = report.acknowledged.get(str(key), 0)
        missing = f"{len(lost):,} of {total:,} acknowledged values {'is' if len(lost) == 1 else 'are'} missing"
        told.append([*item(f"partition {key}: {missing}: {compact(_values(lost))}"), *_story(lost)])
    return _partitions(told, report)


def _lost(instances: list[Anomaly], report: HistoryReport) -> list[str]:
    """Lost values per partition, told again only where they are not just the missing ones."""
    told = []
    missing = _missing_per_key(report)
    for key, lost in _by_key(instances):
        values = _values(lost)
        if set(values) == missing.get(str(key)):
            told.append(item(f"partition {key}: {_same(values)}"))
        else:
            values_told = f"partition {key}: {counted(len(values), 'value')}: {compact(values)}"
            told.append([*item(values_told), *_story(lost)])
    return _partitions(told, report)


def _same(values: list[Any]) -> str:
    """Values that were told already."""
    return f"the {'value' if len(values) == 1 else f'{len(values):,} values'} that the closing read misses"


def _partitions(told: list[list[str]], report: HistoryReport) -> list[str]:
    """The lines of the first partitions, and how many more there were."""
    few = _examples_max(report)
    more = len(told) - few
    lines = [line for lines in told[:few] for line in lines]
    return lines + item(f"and {counted(more, 'more partition')} (--json lists all)") if more > 0 else lines


def _story(lost: list[Anomaly]) -> list[str]:
    """Where lost values were, who had sent them, and when."""
    return item(f"{_where(lost)}; {_who(lost)}; {_when(lost)}", indent=6)


def _values(instances: list[Anomaly]) -> list[Any]:
    """The values of instances that have one each."""
    return [a["value"] for a in instances]


def _missing_per_key(report: HistoryReport) -> dict[str, set[Any]]:
    """The values missing from the closing read."""
    return {str(key): set(_values(lost)) for key, lost in _by_key(report.anomalies.get(MISSING, []))}


def _where(lost: list[Anomaly]) -> str:
    """The offsets that the lost values had, as far as known."""
    offsets = [a["offset"] for a in lost if a["offset"] is not None]
    if not offsets:
        return "offset unknown" if len(lost) == 1 else "offsets unknown"
    return f"at offset{'s' if len(offsets) > 1 else ''} {compact(offsets)}"


def _who(lost: list[Anomaly]) -> str:
    """The processes that had sent the lost values."""
    counts = Counter(a["process"] for a in lost)
    named = [f"process {process} ({count})" for process, count in sorted(counts.most_common(EXAMPLES_MAX))]
    more = len(counts) - EXAMPLES_MAX
    return (
        "sent by " + ", ".join(named) + (f" and {counted(more, 'more process', 'more processes')}" if more > 0 else "")
    )


def _when(lost: list[Anomaly]) -> str:
    """The span of time in which the lost values were acknowledged."""
    times = [a["time"] for a in lost if a["time"] is not None]
    if not times:
        return "never acknowledged"
    first, last = seconds(min(times)), seconds(max(times))
    return f"acknowledged at {first}" if first == last else f"acknowledged from {first} to {last}"


def _unseen(instances: list[Anomaly], report: HistoryReport) -> list[str]:
    """Values that nobody saw, per partition."""
    lines = []
    missing = _missing_per_key(report)
    for key, values in sorted(instances[0]["messages"].items(), key=lambda item: _number_first(item[0])):
        is_same = set(values) == missing.get(key)
        told = _same(values) if is_same else f"{counted(len(values), 'value')}: {compact(values)}"
        lines.append(item(f"partition {key}: {told}"))
    return _partitions(lines, report)


def _conflicts(instances: list[Anomaly], report: HistoryReport) -> list[str]:
    """Offsets with several values, per partition, with an example."""
    lines = []
    for key, found in _by_key(instances):
        example = found[0]
        values = " and ".join(str(v) for v in example["values"])
        offsets = compact([a["offset"] for a in found])
        places = f"{counted(len(found), 'offset')}: {offsets}; offset {example['offset']} held {values}"
        lines.append(item(f"partition {key}: {places}"))
    return _partitions(lines, report)


def _duplicates(instances: list[Anomaly], report: HistoryReport) -> list[str]:
    """Values with their several offsets."""
    return _examples(
        [
            f"partition {a['key']}: value {a['value']} at the {a['count']} offsets {compact(a['offsets'])}"
            for a in instances
        ],
        report,
    )


def _aborted_reads(instances: list[Anomaly], report: HistoryReport) -> list[str]:
    """Values that had failed, with who read them and when."""
    sentences = []
    for a in instances:
        place = f" (offset {a['offset']})" if a["offset"] is not None else ""
        read = f"read at {seconds(a['time'])} by operation {a['reader']}"
        told = f"operation {a['writer']} had reported that it failed"
        sentences.append(f"partition {a['key']}: value {a['value']}{place}, {read}; {told}")
    return _examples(sentences, report)


def _sentences(kind: Kind, instances: list[Anomaly], report: HistoryReport) -> list[str]:
    """A sentence per instance."""
    return _examples([kind.sentence(_shortened(a)) for a in instances[: _examples_max(report)]], report, len(instances))


def _shortened(anomaly: Anomaly) -> Anomaly:
    """An instance with no more skipped values than fit into a sentence."""
    skipped = anomaly.get("skipped", [])
    if len(skipped) <= EXAMPLES_MAX:
        return anomaly
    more = anomaly["delta"] - 1 - EXAMPLES_MAX
    return anomaly | {"skipped": f"[{', '.join(map(str, skipped[:EXAMPLES_MAX]))}] and {counted(more, 'more value')}"}


_DETAILS: dict[str, Callable[[list[Anomaly], HistoryReport], list[str]]] = {
    MISSING: _missing,
    LOST_WRITE: _lost,
    UNSEEN: _unseen,
    INCONSISTENT_OFFSETS: _conflicts,
    DUPLICATE: _duplicates,
    G1A: _aborted_reads,
}


def _examples(sentences: list[str], report: HistoryReport, of: int | None = None) -> list[str]:
    """The first few sentences, and how many more there were."""
    few = _examples_max(report)
    lines = [line for sentence in sentences[:few] for line in item(sentence)]
    more = (of or len(sentences)) - few
    return lines + item(f"and {more:,} more (--json lists all)") if more > 0 else lines


def _by_key(instances: list[Anomaly]) -> list[tuple[Any, list[Anomaly]]]:
    """The instances of each key, in order of the keys and otherwise as given."""
    ordered = sorted(instances, key=lambda a: _number_first(a["key"]))
    return [(key, list(group)) for key, group in groupby(ordered, key=lambda a: a["key"])]


def _number_first(key: int | str) -> tuple[bool, int, str]:
    """Sorts partition 2 before 10 and both before any name."""
    is_name = isinstance(key, str) and not key.isdecimal()
    return is_name, 0 if is_name else int(key), str(key)


def compact(values: Iterable[int | str]) -> str:
    """A sorted list with runs of integers drawn together: "17-21, 40"; cut at LISTED_MAX runs."""
    numbers = sorted({v for v in values if isinstance(v, int)})
    parts = [f"{low}" if low == high else f"{low}-{high}" for low, high in _runs(numbers)]
    parts += sorted({v for v in values if isinstance(v, str)})
    more = len(parts) - LISTED_MAX
    return ", ".join(parts[:LISTED_MAX]) + (f" and {more:,} more (--json lists all)" if more > 0 else "")


def _runs(numbers: list[int]) -> list[tuple[int, int]]:
    """The runs of consecutive integers, each with its first and last."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1] = runs[-1][0], number
        else:
            runs.append((number, number))
    return runs


def counted(count: int, noun: str, nouns: str | None = None) -> str:
    """A number with its noun, in the plural where it needs it."""
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"


def seconds(nanoseconds: int) -> str:
    """A time since the start, in seconds."""
    return f"{nanoseconds / 1e9:.2f} s"


def field(name: str, text: str) -> list[str]:
    """A named line of the overview."""
    return _wrapped(text, f"  {name:<15}", " " * 17)


def item(text: str, indent: int = 4) -> list[str]:
    """A line of details."""
    return _wrapped(text, " " * indent, " " * (indent + 2))


def _wrapped(text: str, first: str, following: str) -> list[str]:
    """Text broken to the terminal's width, but never at a hyphen."""
    width = max(60, min(140, shutil.get_terminal_size((120, 24)).columns))
    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=following, break_long_words=False, break_on_hyphens=False
    )
