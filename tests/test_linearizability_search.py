"""What the searches must not get wrong, history by history: traps for shortcuts, limits, what counterexamples say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hwmark.checkers.linearizability import search_compiled, search_loop
from hwmark.checkers.linearizability.encode import STATE_BITS, encode
from hwmark.checkers.linearizability.judgement import Counterexample
from hwmark.checkers.linearizability.models import MODELS, Model, Operation
from hwmark.checkers.linearizability.replay import why_illegal
from hwmark.checkers.linearizability.search import Engine, check_operations, search_part
from hwmark.checkers.linearizability.search_outcome import Stopwatch
from hwmark.checkers.linearizability.search_parts import parts_of
from hwmark.checkers.verdict import Holds, Unknown, Violated
from hwmark.traces.operations import OperationHistory

Row = tuple[str, Any, Any, int, int | None]
"""f, input, output, call, return."""

ENGINES: tuple[Engine, ...] = ("plain", "compiled")


def history_of(model: str, rows: Sequence[Row], **header: Any) -> OperationHistory:
    """One process for each operation."""
    columns: list[list[Any]] = [list(column) for column in zip(*rows, strict=True)] if rows else [[]] * 5
    return OperationHistory("test.jsonl", {"model": model} | header, list(range(len(rows))), *columns)


def is_linearizable(history: OperationHistory, engine: Engine) -> bool:
    """The verdict; an order has to replay."""
    judgement = check_operations(history, engine=engine)
    if isinstance(judgement.verdict, Holds):
        assert judgement.order is not None
        assert why_illegal(history, MODELS[history.model](), judgement.order) is None
    assert not isinstance(judgement.verdict, Unknown)
    return isinstance(judgement.verdict, Holds)


TRAPS: dict[str, tuple[bool, str, list[Row]]] = {
    "a write that changes nothing now is needed later": (
        True,
        "register",
        [("write", 0, "ok", 0, 10), ("write", 1, "ok", 2, 3), ("read", None, 0, 5, 6)],
    ),
    "the same operations lead to two states": (
        True,
        "register",
        [("write", 1, "ok", 0, 9), ("write", 2, "ok", 0, 9), ("read", None, 1, 10, 11), ("write", 0, "ok", 0, 20)],
    ),
    "a return at the moment of a call does not precede it": (
        True,
        "register",
        [("write", 1, "ok", 0, 5), ("read", None, 0, 5, 6), ("read", None, 1, 7, 8)],
    ),
    "a return before a call does": (False, "register", [("write", 1, "ok", 0, 5), ("read", None, 0, 6, 7)]),
    "an unknown write may happen late": (
        True,
        "register",
        [("write", 1, None, 0, None), ("read", None, 0, 5, 6), ("read", None, 1, 7, 8)],
    ),
    "but once": (
        False,
        "register",
        [("write", 1, None, 0, None), ("read", None, 1, 1, 2), ("write", 2, "ok", 3, 4), ("read", None, 1, 5, 6),
         ("write", 2, "ok", 7, 8), ("read", None, 1, 9, 10)],
    ),
    "and not before its call": (False, "register", [("read", None, 1, 0, 1), ("write", 1, None, 2, None)]),
    "of equal unknown writes the later may be needed, too": (
        True,
        "register",
        [("write", 1, None, 0, None), ("write", 1, None, 4, None), ("read", None, 1, 1, 2), ("write", 2, "ok", 3, 4),
         ("read", None, 1, 5, 6)],
    ),
    "it never happens": (True, "register", [("write", 1, None, 0, None), ("read", None, 0, 1, 2)]),
    "two keys do not order each other": (
        True,
        "kv",
        [("put", ["x", 1], "ok", 0, 9), ("get", ["x"], 1, 1, 2), ("put", ["y", 1], "ok", 0, 9),
         ("get", ["y"], None, 3, 4)],
    ),
    "one key may fail alone": (
        False,
        "kv",
        [("put", ["x", 1], "ok", 0, 1), ("get", ["y"], None, 0, 1), ("get", ["x"], None, 2, 3)],
    ),
    "elements alone are fine, a read of the whole is not": (
        False,
        "set",
        [("add", 1, "ok", 0, 9), ("add", 2, "ok", 0, 9), ("read", None, [1], 1, 2), ("read", None, [2], 3, 4)],
    ),
    "what nobody got may stand anywhere": (
        True,
        "kv-append",
        [("append", ["k", "a"], "ok", 0, 9), ("get", ["k"], "b", 1, 2), ("append", ["k", "b"], "ok", 0, 3)],
    ),
    "appends apart make the same text": (
        True,
        "kv-append",
        [("append", ["k", "ab"], None, 0, None), ("append", ["k", "a"], "ok", 0, 9), ("append", ["k", "b"], "ok", 0, 9),
         ("get", ["k"], "abab", 1, 2)],
    ),
    "a put starts again": (
        True,
        "kv-append",
        [("append", ["k", "z"], "ok", 0, 1), ("put", ["k", "a"], "ok", 2, 3), ("get", ["k"], "a", 4, 5)],
    ),
    "the queue is first in, first out": (
        False,
        "queue",
        [("enqueue", 1, "ok", 0, 1), ("enqueue", 2, "ok", 2, 3), ("dequeue", None, 2, 4, 5)],
    ),
    "an unknown dequeue takes somebody's value": (
        True,
        "queue",
        [("enqueue", 1, "ok", 0, 1), ("enqueue", 2, "ok", 2, 3), ("dequeue", None, None, 2, None),
         ("dequeue", None, 2, 4, 5)],
    ),
    "a mutex is held by one": (False, "mutex", [("acquire", None, "ok", 0, 1), ("acquire", None, "ok", 2, 3)]),
    "unless somebody released it": (
        True,
        "mutex",
        [("acquire", None, "ok", 0, 1), ("release", None, None, 0, None), ("acquire", None, "ok", 2, 3)],
    ),
    "an unknown transaction is overwritten in part": (
        True,
        "multi-register",
        [("txn", [["write", "x", 1], ["write", "y", 1]], None, 0, None),
         ("txn", [["write", "x", 2]], [["write", "x", 2]], 0, 5),
         ("txn", [["read", "x", None], ["read", "y", None]], [["read", "x", 2], ["read", "y", 1]], 6, 7)],
    ),
    "an unknown element is added before another": (
        True,
        "set",
        [("add", 1, None, 0, None), ("add", 2, "ok", 0, 5), ("read", None, [1, 2], 6, 7)],
    ),
    "two unknown elements are read at once": (
        True,
        "set",
        [("add", 2, None, 0, None), ("add", 1, None, 0, None), ("read", None, [1, 2], 6, 7)],
    ),
    "nothing happened": (True, "register", []),
}  # fmt: skip


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", TRAPS)
def test_trap(name: str, engine: Engine) -> None:
    expected, model, rows = TRAPS[name]
    init = {"init": 0} if model == "register" else {}
    assert is_linearizable(history_of(model, rows, **init), engine) is expected


@pytest.mark.parametrize("winners", [1, 2])
def test_more_than_64_operations_open_at_once_in_a_mutex(winners: int) -> None:
    rows: list[Row] = [("acquire", None, "ok" if i >= 200 - winners else "fail", 0, 10) for i in range(200)]
    assert is_linearizable(history_of("mutex", rows), "compiled") is (winners == 1)
    if winners == 1:
        assert is_linearizable(history_of("mutex", rows), "plain")


def test_a_configuration_is_as_small_as_what_is_open_at_a_time() -> None:
    rows: list[Row] = [("write", i % 5, "ok", 10 * i, 10 * i + 25) for i in range(1000)]
    encoding = encode(parts_of(history_of("register", rows), MODELS["register"]())[0])
    assert encoding is not None
    links = np.empty((2, len(rows) + 1), np.int64)
    assert search_loop.prepare(encoding.operations, encoding.returns, encoding.groups, links) == 3


@pytest.mark.parametrize("last", ["right", "wrong"])
def test_more_than_64_appends_open_at_once(last: str) -> None:
    letters = [chr(0x4E00 + i) for i in range(150)]
    text = "".join(reversed(letters))
    rows: list[Row] = [("append", ["k", letter], "ok", 0, 1000) for letter in letters]
    rows += [("get", ["k"], text[:size], 2 * size, 2 * size + 1) for size in range(0, 151, 10)]
    if last == "wrong":
        rows.append(("get", ["k"], text[:149], 400, 401))
    assert is_linearizable(history_of("kv-append", rows), "compiled") is (last == "right")


def test_more_than_64_unknown_writes() -> None:
    rows: list[Row] = [("write", i, None, 0, None) for i in range(1, 131)]
    seen: list[Row] = [("read", None, i, i, i) for i in range(130, 0, -1)]
    seen = [("read", None, 131 - row[2], row[3], row[4]) for row in seen]
    assert is_linearizable(history_of("register", rows + seen, init=0), "compiled")
    again: Row = ("read", None, 7, 500, 501)
    assert not is_linearizable(history_of("register", [*rows, *seen, again], init=0), "compiled")


def test_a_set_of_more_elements_than_bits_is_for_the_plain_search() -> None:
    rows: list[Row] = [("add", i, "ok", i, i) for i in range(STATE_BITS + 1)]
    rows.append(("read", None, list(range(STATE_BITS + 1)), 100, 101))
    history = history_of("set", rows)
    assert encode(parts_of(history, MODELS["set"]())[0]) is None
    assert is_linearizable(history, "auto")
    with pytest.raises(ValueError, match="for the plain search only"):
        check_operations(history, engine="compiled")
    assert is_linearizable(
        history_of("set", [*rows[:-2], ("read", None, list(range(STATE_BITS)), 100, 101)]), "compiled"
    )


def test_queues_grow_beyond_the_first_arrays() -> None:
    rows: list[Row] = [("enqueue", i % 7, "ok", 2 * i, 2 * i + 1) for i in range(300)]
    rows += [("dequeue", None, i % 7, 1000 + 2 * i, 1001 + 2 * i) for i in range(300)]
    history = history_of("queue", rows, init=[5] * 40)
    drained: list[Row] = [("dequeue", None, 5, 900 + i, 900 + i) for i in range(40)]
    assert not is_linearizable(history, "compiled")
    assert is_linearizable(history_of("queue", rows + drained, init=[5] * 40), "compiled")


def hard_history(size: int) -> OperationHistory:
    """Every subset of the writes is a configuration, and nothing explains the last read."""
    rows: list[Row] = [("write", i, "ok", 0, 10) for i in range(size)]
    return history_of("register", [*rows, ("read", None, "never written", 0, 10)])


@pytest.mark.parametrize("engine", ENGINES)
def test_out_of_budget_is_unknown_and_says_so(engine: Engine) -> None:
    judgement = check_operations(hard_history(12), engine=engine, limit=1000)
    assert isinstance(judgement.verdict, Unknown) and judgement.order is None
    assert "1,000 configurations were looked at" in judgement.verdict.why
    assert isinstance(check_operations(hard_history(5), engine=engine, limit=1000).verdict, Violated)


@pytest.mark.parametrize("engine", ENGINES)
def test_out_of_time_is_unknown_and_says_so(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_compiled, "CHUNK", 256)
    judgement = check_operations(hard_history(40), engine=engine, seconds=1e-9)
    assert isinstance(judgement.verdict, Unknown) and "time limit of 1e-09 s" in judgement.verdict.why


def test_one_part_without_order_decides_whatever_the_others_are() -> None:
    hard: list[Row] = [("put", ["x", i], "ok", 0, 10) for i in range(30)] + [("get", ["x"], "never", 0, 10)]
    bad: Row = ("get", ["y"], "never", 0, 10)
    assert isinstance(check_operations(history_of("kv", hard), limit=500).verdict, Unknown)
    assert isinstance(check_operations(history_of("kv", [*hard, bad]), limit=500).verdict, Violated)


def test_growing_and_going_on_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    part = parts_of(hard_history(9), MODELS["register"]())[0]
    encoding = encode(part)
    assert encoding is not None
    whole = search_compiled.search(encoding, 10**6, Stopwatch(None))
    assert whole.linearizable is False and whole.configurations > 2 * search_compiled.ROWS_AT_FIRST
    monkeypatch.setattr(search_compiled, "ROWS_AT_FIRST", 4)
    monkeypatch.setattr(search_compiled, "CHUNK", 7)
    assert search_compiled.search(encoding, 10**6, Stopwatch(1e9)) == whole


def test_small_histories_are_left_to_the_plain_search() -> None:
    part = parts_of(hard_history(4), MODELS["register"]())[0]
    assert search_part(part, "auto", 10**6, Stopwatch(None))[0] == "plain"
    part = parts_of(hard_history(14), MODELS["register"]())[0]
    assert search_part(part, "auto", 10**6, Stopwatch(None))[0] == "compiled"


def counterexample(history: OperationHistory, engine: Engine) -> Counterexample:
    verdict = check_operations(history, engine=engine).verdict
    assert isinstance(verdict, Violated)
    return verdict.witness


NOISE: list[Row] = [("write", i % 5, "ok", 10 * i, 10 * i + 3) for i in range(30)]
NOISE += [("read", None, i % 5, 10 * i + 4, 10 * i + 5) for i in range(30)]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_least_operations_are_found_in_the_midst_of_others(engine: Engine) -> None:
    stale: list[Row] = [
        ("write", "old", "ok", 100, 101),
        ("write", "new", "ok", 106, 107),
        ("read", None, "old", 108, 109),
    ]
    found = counterexample(history_of("register", NOISE + stale), engine)
    assert [([*NOISE, *stale])[i][1:3] for i in found.operations] == [("new", "ok"), (None, "old")]
    assert found.window == (106, 109)
    assert found.sentence == (
        "These 2 operations have no legal order, even if every other operation takes effect whenever and as often as "
        'it likes or not at all: process 61: write "new" -> "ok" (106 to 107); process 62: read -> "old" (108 to 109)'
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_a_read_before_the_write_shows_both(engine: Engine) -> None:
    early: list[Row] = [("read", None, "x", 20, 21), ("write", "x", "ok", 150, 151)]
    found = counterexample(history_of("register", NOISE + early), engine)
    assert [([*NOISE, *early])[i][0] for i in found.operations] == ["read", "write"]


@pytest.mark.parametrize("engine", ENGINES)
def test_an_answer_that_nothing_explains_stands_alone(engine: Engine) -> None:
    found = counterexample(history_of("register", [*NOISE, ("read", None, "x", 20, 21)]), engine)
    assert found.operations == (len(NOISE),)
    assert found.sentence.startswith("This operation is impossible, even if every other operation")
    assert found.longest_partials and all(len(set(order)) == len(order) for order in found.longest_partials)


def test_without_explanation_the_part_is_shown_whole() -> None:
    history = history_of("kv", [("put", ["x", 1], "ok", 0, 1), ("get", ["y"], 5, 0, 1), ("get", ["y"], None, 2, 3)])
    verdict = check_operations(history, explain=False).verdict
    assert isinstance(verdict, Violated) and verdict.witness.operations == (1, 2)


class Counter(Model):
    """A model as a user writes it."""

    def initial(self, init: Any, part: Any) -> int:
        return 0

    def step(self, state: int, operation: Operation) -> list[int]:
        if operation.f == "increment":
            return [state + 1]
        return [state] if not operation.known or operation.output == state else []


def test_a_model_of_ones_own() -> None:
    rows: list[Row] = [("increment", None, "ok", 0, 9), ("increment", None, None, 0, None), ("get", None, 2, 1, 2)]
    history = history_of("counter", rows)
    judgement = check_operations(history, Counter(), engine="auto")
    assert isinstance(judgement.verdict, Holds) and judgement.order is not None
    assert why_illegal(history, Counter(), judgement.order) is None
    history = history_of("counter", [*rows, ("get", None, 0, 1, 2), ("get", None, 3, 10, 11)])
    judgement = check_operations(history, Counter())
    assert isinstance(judgement.verdict, Violated)
    assert "takes effect whenever it likes or not at all" in judgement.verdict.witness.sentence


def test_a_replay_refuses_what_is_no_explanation() -> None:
    history = history_of("register", [("write", 1, "ok", 0, 1), ("read", None, 1, 2, 3), ("write", 2, None, 0, None)])
    register = MODELS["register"]()
    assert why_illegal(history, register, (0, 1)) is None and why_illegal(history, register, (0, 1, 2)) is None
    assert why_illegal(history, register, (0, 0, 1)) == "an operation happens twice"
    assert why_illegal(history, register, (0,)) == "operation 1 is missing"
    assert why_illegal(history, register, (0,), complete=False) is None
    assert (
        why_illegal(history, register, (1, 0))
        == "operation 0 returned before operation 1 was called, but stands after it"
    )
    assert why_illegal(history, register, (0, 2, 1)) == "operation 1 is impossible after those before it"
