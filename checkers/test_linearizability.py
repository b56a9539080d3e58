"""Linearizability of small histories that everybody can follow, and of the recorded partition logs of real clusters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hwmark.checkers.linearizability.log_history import check_history
from hwmark.checkers.linearizability.models import MODELS
from hwmark.checkers.linearizability.replay import why_illegal
from hwmark.checkers.linearizability.search import check_operations
from hwmark.checkers.verdict import Holds, Violated
from hwmark.traces.history import read_history
from hwmark.traces.operations import OperationHistory

RECORDED = Path(__file__).parents[1] / "traces" / "recorded"

HISTORIES: dict[str, tuple[bool, str, Any, list[tuple[str, Any, Any, int, int | None]]]] = {
    "a read during a write sees either value": (
        True,
        "register",
        0,
        [("write", 1, "ok", 0, 10), ("read", None, 1, 2, 3), ("read", None, 1, 4, 5)],
    ),
    "a value that was seen is not unseen": (
        False,
        "register",
        0,
        [("write", 1, "ok", 0, 10), ("read", None, 1, 2, 3), ("read", None, 0, 4, 5)],
    ),
    "a write that timed out may yet happen": (
        True,
        "register",
        0,
        [("write", 1, None, 0, None), ("read", None, 0, 5, 6), ("read", None, 1, 7, 8)],
    ),
    "of two who compare and set one wins": (
        False,
        "cas-register",
        0,
        [("cas", [0, 1], "ok", 0, 5), ("cas", [0, 2], "ok", 0, 5), ("read", None, 2, 6, 7)],
    ),
    "a lock is held once": (False, "mutex", False, [("acquire", None, "ok", 0, 1), ("acquire", None, "ok", 2, 3)]),
    "what was enqueued first comes out first": (
        False,
        "queue",
        [],
        [("enqueue", "a", "ok", 0, 1), ("enqueue", "b", "ok", 2, 3), ("dequeue", None, "b", 4, 5)],
    ),
    "an element that was added is there": (False, "set", [], [("add", 7, "ok", 0, 1), ("read", None, [], 2, 3)]),
    "keys are objects of their own": (
        True,
        "kv",
        {"x": 1},
        [("get", ["x"], 1, 0, 1), ("put", ["y", 2], "ok", 2, 3), ("get", ["y"], 2, 4, 5), ("get", ["x"], 1, 6, 7)],
    ),
    "appends are read in one order": (
        False,
        "kv-append",
        "",
        [("append", ["k", "a"], "ok", 0, 9), ("append", ["k", "b"], "ok", 0, 9), ("get", ["k"], "ab", 10, 11),
         ("get", ["k"], "ba", 12, 13)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HISTORIES)
def test_history_is_judged(name: str) -> None:
    expected, model, init, rows = HISTORIES[name]
    columns: list[list[Any]] = [list(column) for column in zip(*rows, strict=True)]
    history = OperationHistory(name, {"model": model, "init": init}, list(range(len(rows))), *columns)
    judgement = check_operations(history)
    if expected:
        assert isinstance(judgement.verdict, Holds) and judgement.order is not None
        assert why_illegal(history, MODELS[model](), judgement.order) is None
    else:
        assert isinstance(judgement.verdict, Violated) and judgement.verdict.witness.operations


@pytest.mark.parametrize("name", ["valid-k4-kill-acksall", "valid-k4-shorttimeout", "valid-k4-laststand-elr-acksall"])
def test_the_logs_of_clusters_that_lost_nothing_are_linearizable(name: str) -> None:
    judgements = check_history(read_history(RECORDED / f"{name}.jsonl"))
    assert judgements and all(isinstance(judgement.verdict, Holds) for judgement in judgements.values())


@pytest.mark.parametrize("name", ["lossy-k4-laststand-noelr-acksall", "lossy-k3-laststand-acksall", "lossy-k3-unclean"])
def test_the_logs_of_clusters_that_lost_records_are_not(name: str) -> None:
    judgements = check_history(read_history(RECORDED / f"{name}.jsonl"))
    assert any(isinstance(judgement.verdict, Violated) for judgement in judgements.values())
