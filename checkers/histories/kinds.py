"""Every type of anomaly: what it means, how one instance of it reads, and which operations show it.

Names are those of Jepsen's Kafka workload checker and of Elle, as far as they have them. An instance is plain data
(`Anomaly`); its sentence is a template over its fields, and the fields that hold operations are named here, so that
text, JSON and pictures tell the same story.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Anomaly = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """A type of anomaly.

    `meaning` is the type in a sentence, `instance` one of it (a template over its fields), `shown_by` the fields that
    hold the operations that together show it: indices of records, one or a list.
    """

    meaning: str
    instance: str
    shown_by: tuple[str, ...]

    def sentence(self, anomaly: Anomaly) -> str:
        """What happened, of one instance."""
        return self.instance.format_map(anomaly)

    def operations(self, anomaly: Anomaly) -> list[int]:
        """The smallest set of operations that shows one instance, by index, in order."""
        found: set[int] = set()
        for field in self.shown_by:
            held = anomaly.get(field)
            found.update(held if isinstance(held, list) else [] if held is None else [held])
        return sorted(found)

    def told(self, anomaly: Anomaly) -> Anomaly:
        """One instance with its sentence and the operations that show it."""
        return anomaly | {"sentence": self.sentence(anomaly), "operations": self.operations(anomaly)}


MISSING = "missing-from-final-read"
LOST_WRITE = "lost-write"
UNSEEN = "unseen"
INCONSISTENT_OFFSETS = "inconsistent-offsets"
DUPLICATE = "duplicate"
G1A = "G1a"
NO_WRITER = "no-writer-of-value"
TORN = "torn-transaction"
ABORTED_VISIBLE = "aborted-visible"
PROCESSED_TWICE = "processed-twice"
PROCESSED_NEVER = "processed-never"
GROUP_OFFSET_BACK = "group-offset-back"
PRECOMMITTED = "precommitted-read"

# Sentences of cycles: witnesses tell theirs, step by step.
_CYCLE = "{story}"
_CIRCLE = "{scc-size} operations depend on each other in a circle, which {not} rules out; for example {cycle}"

KINDS: dict[str, Kind] = {
    MISSING: Kind(
        "an acknowledged value that the complete closing read does not contain",
        "value {value} of key {key}, acknowledged to operation {writer}, is not in the closing read",
        ("writer", "closing"),
    ),
    LOST_WRITE: Kind(
        "a committed value that nobody ever read, although readers got past its offset",
        "value {value} of key {key}, committed by operation {writer}, was never read, though operation {max-read} read "
        "on past its place",
        ("operations",),
    ),
    UNSEEN: Kind(
        "an acknowledged value that no reader had seen when the recording ended",
        "{count} acknowledged values had been seen by no reader when the recording ended",
        ("operations",),
    ),
    INCONSISTENT_OFFSETS: Kind(
        "different values were seen at one offset of a partition",
        "offset {offset} of key {key} held value {values[0]} and value {values[1]}",
        ("operations",),
    ),
    DUPLICATE: Kind(
        "one value was seen at several offsets of a partition",
        "value {value} of key {key} was seen at {count} offsets, {offsets[0]} and {offsets[1]} among them",
        ("operations",),
    ),
    G1A: Kind(
        "a reader was handed a value of a failed (aborted) operation",
        "operation {reader} read value {value} of key {key}, which operation {writer} sent and reported as failed",
        ("writer", "reader"),
    ),
    NO_WRITER: Kind(
        "a value was read that nobody is recorded as sending",
        "operation {reader} read value {value} of key {key}, and no operation of the recording ever sent it",
        ("reader",),
    ),
    PRECOMMITTED: Kind(
        "an operation read what it had itself only just sent",
        "operation {op} read value {value} of key {key}, which it had itself sent and not yet committed",
        ("op",),
    ),
    "int-poll-skip": Kind(
        "the polls of one operation passed over values of the log",
        "operation {op} read value {values[1]} of key {key} right after {values[0]}, passing over {skipped}",
        ("op",),
    ),
    "int-nonmonotonic-poll": Kind(
        "the polls of one operation went back in the log, or stood still",
        "operation {op} read value {values[1]} of key {key} right after {values[0]}: a step of {delta} in the log",
        ("op",),
    ),
    "int-send-skip": Kind(
        "between two sends of one operation lie values of others",
        "operation {op} sent value {values[1]} to key {key} right after {values[0]}; between them lies {skipped}",
        ("op",),
    ),
    "int-nonmonotonic-send": Kind(
        "the sends of one operation stand in the log in another order",
        "operation {op} sent value {values[1]} to key {key} right after {values[0]}: a step of {delta} in the log",
        ("op",),
    ),
    "poll-skip": Kind(
        "a consumer's next poll passed over values of the log",
        "operation {ops[1]} read value {values[1]} of key {key}, though its process had only got to {values[0]}, in "
        "operation {ops[0]}: it passed over {skipped}",
        ("ops",),
    ),
    "nonmonotonic-poll": Kind(
        "a consumer's next poll went back in the log, or stood still",
        "operation {ops[1]} read value {values[1]} of key {key}, though its process had got to {values[0]}, in "
        "operation {ops[0]}: a step of {delta} in the log",
        ("ops",),
    ),
    "nonmonotonic-send": Kind(
        "a process's later send stands earlier in the log",
        "operation {ops[1]} sent value {values[1]} to key {key} after {values[0]}, which its process had sent in "
        "operation {ops[0]}: a step of {delta} in the log",
        ("ops",),
    ),
    "G0": Kind(
        "a cycle of writes: each operation wrote a value before the next one's",
        _CYCLE,
        ("cycle",),
    ),
    "G1c": Kind(
        "a cycle of reads and writes: each operation depends on the one before",
        _CYCLE,
        ("cycle",),
    ),
    "G0-realtime": Kind(
        "a cycle of writes, given which operations ended before others began",
        _CYCLE,
        ("cycle",),
    ),
    "G1c-realtime": Kind(
        "a cycle of reads and writes, given which operations ended before others began",
        _CYCLE,
        ("cycle",),
    ),
    "PL-1-cycle-exists": Kind(
        "operations that depend on each other through writes alone",
        _CIRCLE,
        ("cycle",),
    ),
    "PL-2-cycle-exists": Kind(
        "operations that depend on each other through reads and writes",
        _CIRCLE,
        ("cycle",),
    ),
    "strong-PL-1-cycle-exists": Kind(
        "operations that depend on each other through writes and real time",
        _CIRCLE,
        ("cycle",),
    ),
    "strong-PL-2-cycle-exists": Kind(
        "operations that depend on each other through reads, writes and real time",
        _CIRCLE,
        ("cycle",),
    ),
    "empty-transaction-graph": Kind(
        "no two operations are related, so that nothing could be checked",
        "no operation read what another sent, and none began after another had been acknowledged",
        (),
    ),
    TORN: Kind(
        "a committed transaction of which a complete read has one part and lacks another",
        "the closing read has value {present[0][value]} of key {present[0][key]} and lacks value {lost[0][value]} of "
        "key {lost[0][key]}, which operation {writer} sent in one transaction",
        ("writer", "closing"),
    ),
    ABORTED_VISIBLE: Kind(
        "a value that certainly was not committed, handed to a reader that G1a does not look at",
        "operation {reader} was handed value {value} of key {key}, which operation {writer} sent and never committed",
        ("writer", "reader"),
    ),
    PROCESSED_TWICE: Kind(
        "two committed transactions of a group processed the same record",
        "group {group} processed value {value} of key {key} (offset {offset}) in transaction {processed_by[0]} and "
        "again in transaction {processed_by[1]}, and both committed",
        ("operations",),
    ),
    PROCESSED_NEVER: Kind(
        "a group committed an offset past a record that it had not processed",
        "operation {writer} committed offset {committed} of key {key} for group {group}, but no transaction of the "
        "group had processed value {value} at offset {offset}",
        ("operations",),
    ),
    GROUP_OFFSET_BACK: Kind(
        "a group's committed offset went back, after a later one had been acknowledged",
        "operation {writer} committed offset {committed} of key {key} for group {group}, after operation {before} had "
        "committed {previous}",
        ("operations",),
    ),
}

NEVER_GENERATED = {
    "G0-process": "there are no process edges in this checker, as in the reference",
    "G1c-process": "there are no process edges in this checker, as in the reference",
    "cycle-search-timeout": "the search for cycles has no time limit here",
}
KNOWN = (*KINDS, *NEVER_GENERATED)
