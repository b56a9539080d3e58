"""The test data of Porcupine and Knossos: every verdict, by both searches, and whatever is shown for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hwmark.checkers.linearizability.encode import encode
from hwmark.checkers.linearizability.judgement import VERDICT_WORDS
from hwmark.checkers.linearizability.models import MODELS
from hwmark.checkers.linearizability.replay import why_illegal
from hwmark.checkers.linearizability.search import Engine, check_operations
from hwmark.checkers.linearizability.search_parts import parts_of
from hwmark.checkers.verdict import Holds, Unknown, Violated, verdict_name
from hwmark.traces.operations import read_operations

THIRD_PARTY = Path(__file__).parents[2] / "shared" / "data" / "third-party"
FILES = sorted([*THIRD_PARTY.glob("porcupine/*.jsonl"), *THIRD_PARTY.glob("knossos/*.jsonl")])

if not FILES:
    pytest.skip("the data of Porcupine and Knossos is not here", allow_module_level=True)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
@pytest.mark.parametrize("engine", ["auto", "compiled"])
def test_verdict_and_what_is_shown_for_it(file: Path, engine: Engine) -> None:
    history = read_operations(file)
    model = MODELS[history.model]()
    if engine == "compiled" and encode(parts_of(history, model)[0]) is None:
        pytest.skip("a model for the plain search only")
    judgement = check_operations(history, engine=engine)
    assert VERDICT_WORDS[verdict_name(judgement.verdict)] == history.expected
    assert judgement.operations == len(history)
    match judgement.verdict:
        case Holds():
            assert judgement.order is not None and why_illegal(history, model, judgement.order) is None
        case Violated(witness=witness):
            for partial in witness.longest_partials:
                assert why_illegal(history, model, partial, complete=False) is None
            start, end = witness.window or (0, -1)
            assert all(start <= history.call[i] <= (history.returned[i] or end) <= end for i in witness.operations)
        case Unknown(why=why):
            pytest.fail(why)
