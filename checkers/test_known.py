"""The counterexamples that the README shows are found again, to the letter, and are runs of their models."""

from __future__ import annotations

from importlib.resources import as_file, files

import pytest
from hwmark.checkers.known import KNOWN, Known
from hwmark.checkers.replay import verify
from hwmark.traces.trace import read_trace


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.name)
def test_a_known_counterexample_is_found_again(known: Known) -> None:
    trace = known.find()
    assert len(trace.steps) + 1 == known.states
    with as_file(files("hwmark.traces") / "known" / f"{known.name}.ndjson") as kept:
        assert read_trace(kept) == trace
    assert verify(trace) is None
