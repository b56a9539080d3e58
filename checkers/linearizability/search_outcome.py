"""What a search found out about one part, and the time that it may take."""

from __future__ import annotations

import time
from dataclasses import dataclass

PARTIALS_MAX = 3
"""How many of the longest orders are kept."""


@dataclass(frozen=True)
class Outcome:
    """Whether there is a legal order (None: not decided, and `why`), after how many configurations.

    `order` and `partials` (the longest orders that work) are by number; the operations that return until `stuck_at`
    already have no order.
    """

    linearizable: bool | None
    configurations: int
    order: tuple[int, ...] = ()
    partials: tuple[tuple[int, ...], ...] = ()
    stuck_at: int = 0
    why: str = ""


class Stopwatch:
    """The user's limit on seconds, looked at now and then; None is no limit."""

    def __init__(self, seconds: float | None) -> None:
        self.deadline = None if seconds is None else time.monotonic() + seconds
        self.seconds = seconds

    def is_over(self) -> bool:
        """Whether the time is over."""
        return self.deadline is not None and time.monotonic() >= self.deadline

    def why_not(self, configurations: int) -> str:
        """Why a search gave up after so many configurations."""
        if self.is_over():
            return f"the time limit of {self.seconds:g} s was reached after {configurations:,} configurations"
        return f"{configurations:,} configurations were looked at, the most that are allowed"
