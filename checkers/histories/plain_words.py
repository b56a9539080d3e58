"""A report in the words of the plain twin and of the reference: sets of facts that can be compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from hwmark.checkers.histories.kinds import Anomaly
from hwmark.checkers.histories.plain import Facts
from hwmark.checkers.histories.sequences import SEQUENCE_TYPES


def facts(anomalies: Mapping[str, Iterable[Anomaly]]) -> Facts:
    """The facts of those types that the plain twin looks for too, sorted; types without any are left out."""
    found = {name: [WORDS[name](anomaly) for anomaly in anomalies.get(name, ())] for name in WORDS}
    found["unseen"] = [fact for entry in anomalies.get("unseen", ()) for fact in unseen_facts(entry)]
    return {name: sorted(told, key=repr) for name, told in found.items() if told}


def unseen_facts(entry: Anomaly) -> list[tuple[Any, ...]]:
    """The messages that an entry of type unseen names."""
    return [(str(key), value) for key, values in entry["messages"].items() for value in values]


def _sequence(anomaly: Anomaly) -> tuple[Any, ...]:
    """A skip or a step back."""
    ops = tuple(anomaly["ops"]) if "ops" in anomaly else (anomaly["op"],)
    return str(anomaly["key"]), *anomaly["values"], anomaly["delta"], tuple(anomaly.get("skipped", ())), ops


WORDS: dict[str, Callable[[Anomaly], tuple[Any, ...]]] = {
    "missing-from-final-read": lambda a: (str(a["key"]), a["value"], a["writer"]),
    "lost-write": lambda a: (str(a["key"]), a["value"], a["index"], a["max-read-index"], a["writer"]),
    "inconsistent-offsets": lambda a: (str(a["key"]), a["offset"], a["index"], frozenset(a["values"])),
    "duplicate": lambda a: (str(a["key"]), a["value"], a["count"], tuple(a["offsets"])),
    "G1a": lambda a: (str(a["key"]), a["value"], a["writer"], a["reader"]),
    "no-writer-of-value": lambda a: (str(a["key"]), a["value"], a["reader"]),
    "precommitted-read": lambda a: (str(a["key"]), a["value"], a["op"]),
    **dict.fromkeys(SEQUENCE_TYPES, _sequence),
}
