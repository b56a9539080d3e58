"""An explanation in words for the people who run the cluster."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hwmark.checkers.histories.text import counted, field, item

CONTRADICTIONS_MAX, OUTCOMES_MAX = 6, 12
EITHER = "either"


def describe_explanation(explanation: dict[str, Any]) -> str:
    """What cannot be explained together, and what became of operations of unknown outcome."""
    return "\n".join([*_contradictions(explanation), *_outcomes(explanation)])


def _contradictions(explanation: dict[str, Any]) -> list[str]:
    """Operations that cannot be explained together, and the anomalies that can."""
    found = explanation["contradictions"]
    lines = [f"  not explicable, {counted(len(found), 'time')}: operations that no log can agree with"] if found else []
    for one in found[:CONTRADICTIONS_MAX]:
        lines += item(f"{one['anomaly']}: {one['sentence']}")
    more = len(found) - CONTRADICTIONS_MAX
    lines += item(f"and {more} more (--json lists all)") if more > 0 else []
    for name, what in (
        (
            "consistent",
            "explicable, as far as single operations go: what they say of the log does not contradict itself",
        ),
        ("undecided", "not decided: the solver reached its limit"),
    ):
        types = Counter(answer["anomaly"] for answer in explanation[name])
        lines += item(f"{', '.join(types)}: {what}") if types else []
    left_out = explanation["anomalies_left_out"]
    return lines + (
        item(f"not asked about: {counted(left_out, 'further anomaly', 'further anomalies')}") if left_out else []
    )


def _outcomes(explanation: dict[str, Any]) -> list[str]:
    """What became of operations of unknown outcome: first those that have no choice."""
    outcomes = explanation["outcomes"]
    if not outcomes:
        return []
    total = len(outcomes) + explanation["outcomes_left_out"]
    counts = Counter(one["outcome"] for one in outcomes)
    told = ", ".join(f"{number} {outcome}" for outcome, number in sorted(counts.items()))
    lines = ["", f"  unknown outcomes, {counted(total, 'operation')}: {told}"]
    forced = [one for one in outcomes if one["outcome"] != EITHER]
    for one in forced[:OUTCOMES_MAX]:
        lines += item(one["sentence"])
    more = len(forced) - OUTCOMES_MAX
    lines += item(f"and {more} more (--json lists all)") if more > 0 else []
    either = [str(one["operation"]) for one in outcomes if one["outcome"] == EITHER]
    lines += field("either", f"operation{'s' if len(either) > 1 else ''} {', '.join(either)}") if either else []
    left_out = explanation["outcomes_left_out"]
    return lines + (item(f"not asked about: {counted(left_out, 'further operation')}") if left_out else [])
