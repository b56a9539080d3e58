"""What observed clusters have been through: kinds of requests, errors that were answered, actions, rules and steps.

A promise that holds since nothing happened is worth nothing; so whoever runs many trials looks here at what never did.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from hwmark.checkers.simulation.cluster import ACTIONS, Returned
from hwmark.refimpl import requests
from hwmark.refimpl.errors import Error

NEVER_ANSWERED = {
    Error.UNKNOWN_SERVER_ERROR: "a machine that fails is a bug, no answer",
}
"""The errors that no machine of the reference implementation answers with, and why."""

REQUESTS = frozenset(name for name in vars(requests) if name.endswith("Request") and not name.startswith("Follower"))
"""The kinds of requests that there are, ZooKeeper's apart."""


@dataclass
class Coverage:
    """Counts: `bodies` of delivered messages by class and error, `actions`, and the `rules` of state machines."""

    bodies: Counter[tuple[type, Any]] = field(default_factory=Counter)
    parts: Counter[Error] = field(default_factory=Counter)  # errors about one partition of several
    actions: Counter[type] = field(default_factory=Counter)
    rules: Counter[str] = field(default_factory=Counter)

    def see(self, body: Any) -> None:
        """A message was delivered."""
        self.bodies[type(body), getattr(body, "error", None)] += 1
        if type(body) is requests.Response and type(body.value) in (dict, tuple):
            values = body.value.values() if type(body.value) is dict else [one[1] for one in body.value if _is_row(one)]
            self.parts.update([error for error in values if type(error) is Error])

    def see_outcome(self, returned: Returned) -> None:
        """A client answered a call."""
        self.bodies[Returned, getattr(returned.outcome, "error", None)] += 1

    def add(self, other: Coverage) -> None:
        """What another process has seen."""
        for name, counts in vars(self).items():
            counts.update(getattr(other, name))

    def clear(self) -> None:
        """Begin anew."""
        for counts in vars(self).values():
            counts.clear()

    @property
    def steps(self) -> int:
        """How many actions there were."""
        return self.actions.total()

    @property
    def requests(self) -> Counter[str]:
        """The requests that were delivered, by their names."""
        counts: Counter[str] = Counter()
        for (kind, _), count in self.bodies.items():
            counts[kind.__name__] += count if kind.__name__ in REQUESTS else 0
        return +counts

    @property
    def errors(self) -> Counter[Error]:
        """The errors of responses, or of calls."""
        counts = self.parts.copy()
        for (_, error), count in self.bodies.items():
            if type(error) is Error:
                counts[error] += count
        return counts

    def missing(self) -> list[str]:
        """What could have occurred, and did not: requests, errors and actions."""
        requests = sorted(REQUESTS - self.requests.keys())
        errors = sorted(error.name for error in Error if error not in self.errors and error not in NEVER_ANSWERED)
        return [*requests, *errors, *sorted(ACTIONS.keys() - {kind.__name__ for kind in self.actions})]

    def text(self) -> str:
        """The counts, for people; the rarest come first."""
        tables = {
            "requests": self.requests,
            "errors": Counter({error.name: count for error, count in self.errors.items()}),
            "actions": Counter({kind.__name__: count for kind, count in self.actions.items()}),
            "rules": self.rules,
        }
        lines = [f"{self.steps:,} steps of observed clusters"]
        for name, counts in tables.items():
            lines.append(f"{name}: " + ", ".join(f"{one} {count:,}" for one, count in reversed(counts.most_common())))
        return "\n".join([*lines, "never: " + (", ".join(self.missing()) or "nothing")])


def _is_row(value: Any) -> bool:
    """Whether this is an OffsetFetch's answer about one partition."""
    return type(value) is tuple and len(value) == 3


SESSION = Coverage()
"""Of all observed clusters of this process, and of those that were told of."""
