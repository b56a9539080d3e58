"""The counterexamples that the README shows are found again, to the letter, and are runs of their models."""

from __future__ import annotations

from importlib.resources import as_file, files

import pytest
from hwmark.checkers.known import KNOWN, RUN, Known
from hwmark.checkers.replay import verify
from hwmark.checkers.simulation.export import verify_run
from hwmark.traces.trace import read_trace


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.name)
def test_a_known_counterexample_is_found_again(known: Known) -> None:
    trace = known.find()
    assert len(trace.steps) + 1 == known.states
    with as_file(files("hwmark.traces") / "known" / f"{known.name}.ndjson") as kept:
        assert read_trace(kept) == trace
    assert verify(trace) is None


def test_the_run_that_the_readme_shows_is_one_of_the_reference_implementation() -> None:
    """It is written anew when the implementation changes its messages."""
    with as_file(files("hwmark.traces") / "known" / f"{RUN}.ndjson") as kept:
        assert verify_run(read_trace(kept)) is None
