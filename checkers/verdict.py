"""What every engine answers: it holds, it is violated, or nobody knows, and why. Unknown never passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

Witness = TypeVar("Witness", covariant=True)

EXIT_HOLDS, EXIT_VIOLATED, EXIT_BAD_INPUT, EXIT_UNKNOWN = 0, 1, 2, 3


class StoppedError(Exception):
    """The answer is unknown, as whoever looked for it was stopped; the message says by what."""


@dataclass(frozen=True)
class Holds:
    """The property holds; `bounded_by` says up to where that was looked at, None if everywhere."""

    bounded_by: str | None = None


@dataclass(frozen=True)
class Violated(Generic[Witness]):
    """The property `name` fails, and `witness` (a trace, a set of operations) shows it."""

    name: str
    witness: Witness


@dataclass(frozen=True)
class Unknown:
    """The question was not decided: a limit was reached or somebody stopped it; `why` says which."""

    why: str


Verdict = Holds | Violated[Witness] | Unknown


def verdict_name(verdict: Holds | Violated[object] | Unknown) -> str:
    """The verdict's word in JSON: holds, violated or unknown."""
    return type(verdict).__name__.lower()


def exit_status(verdict: Holds | Violated[object] | Unknown) -> int:
    """The process's exit status for a verdict: 0 holds, 1 violated, 3 unknown."""
    match verdict:
        case Holds():
            return EXIT_HOLDS
        case Violated():
            return EXIT_VIOLATED
        case Unknown():
            return EXIT_UNKNOWN
