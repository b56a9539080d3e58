"""What every linearizability checker answers, whatever its method."""

from __future__ import annotations

from dataclasses import dataclass

from hwmark.checkers.verdict import Verdict

VERDICT_WORDS = {"holds": "linearizable", "violated": "not-linearizable", "unknown": "unknown"}


@dataclass(frozen=True)
class Counterexample:
    """Why no order of the operations explains what was seen.

    `operations` is the smallest set found that shows it, by number (their place in the file, from 0); `sentence` says
    in words what is wrong with them. `longest_partials` are the longest orders that do work before one gets stuck, and
    `window` is the stretch of time (from, to) in which it gets stuck; a checker whose witness needs neither leaves
    them empty.
    """

    sentence: str
    operations: tuple[int, ...]
    longest_partials: tuple[tuple[int, ...], ...] = ()
    window: tuple[int, int] | None = None


@dataclass(frozen=True)
class Judgement:
    """The verdict on one history of `operations` operations.

    Where it holds, `order` is a legal order of them by number, which a test replays against the model; operations of
    unknown outcome that did not happen are left out of it.
    """

    verdict: Verdict[Counterexample]
    operations: int
    order: tuple[int, ...] | None = None
