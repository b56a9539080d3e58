"""The compiled search, the plain one and brute force agree on random small histories of every model.

Brute force tries every order of the operations against objects that compute their answers (the models only judge
answers), without parts, without remembering anything.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, combinations
from typing import Any

import pytest
from hwmark.checkers.linearizability.judgement import Judgement
from hwmark.checkers.linearizability.models import MODELS
from hwmark.checkers.linearizability.replay import why_illegal
from hwmark.checkers.linearizability.search import Engine, check_operations
from hwmark.checkers.verdict import Holds, Violated
from hwmark.traces.operations import OperationHistory

QUICK, DEEP = 300, 100_000
BOTH_LEAST = 4
OPERATIONS_MAX = 6
UNKNOWN_SHARE = 0.2
WRONG_SHARE = 0.5
CLOCK = 12
STRETCHES = (0, 1, 2, 5)
ENGINES: tuple[Engine, ...] = ("plain", "compiled")
VALUES = (0, 1, 2)
KEYS = ("x", "y")

WRONG_ANSWERS: dict[str, list[Any]] = {
    "contains": [True, False],
    "cas": ["ok", "fail"],
    "acquire": ["ok", "fail"],
    "release": ["ok", "fail"],
    "dequeue": [*VALUES, None],
    "get-any": [[0], [1, 2]],
    "get-all": [[0], [1, 2]],
}

Answers = list[tuple[Any, Any]]
"""The states that may follow, each with the answer given on the way."""


@dataclass(frozen=True)
class Object:
    """A sequential object: its first state, a random question for it, and its answers."""

    init: Any
    first: Any
    ask: Callable[[random.Random], tuple[str, Any]]
    answer: Callable[[Any, str, Any], Answers]


def _ask_register(rng: random.Random) -> tuple[str, Any]:
    return rng.choice([("read", None), ("write", rng.choice(VALUES))])


def _ask_cas(rng: random.Random) -> tuple[str, Any]:
    return rng.choice([_ask_register(rng), ("cas", [rng.choice(VALUES), rng.choice(VALUES)])])


def _register(state: Any, f: str, asked: Any) -> Answers:
    if f == "read":
        return [(state, state)]
    if f == "write":
        return [(asked, "ok")]
    return [(asked[1], "ok")] if state == asked[0] else [(state, "fail")]


def _ask_mutex(rng: random.Random) -> tuple[str, Any]:
    return rng.choice(["acquire", "release"]), None


def _mutex(state: Any, f: str, asked: Any) -> Answers:
    return [(not state, "ok")] if state == (f == "release") else [(state, "fail")]


def _ask_kv(rng: random.Random) -> tuple[str, Any]:
    key, old, new = rng.choice(KEYS), rng.choice(VALUES), rng.choice(VALUES)
    return rng.choice([("get", [key]), ("put", [key, new]), ("delete", [key]), ("cas", [key, old, new])])


def _kv(state: Any, f: str, asked: Any) -> Answers:
    values = dict(state)
    question = {"get": "read", "put": "write", "delete": "write", "cas": "cas"}[f]
    arguments = {"put": asked[-1], "cas": asked[1:]}.get(f)
    [(values[asked[0]], answer)] = _register(values.get(asked[0]), question, arguments)
    return [(tuple(sorted(values.items())), answer)]


def _ask_kv_append(rng: random.Random) -> tuple[str, Any]:
    key, text = rng.choice(KEYS), rng.choice(["a", "b", "ab", ""])
    return rng.choice([("get", [key]), ("get", [key]), ("put", [key, text]), ("append", [key, text])])


def _kv_append(state: Any, f: str, asked: Any) -> Answers:
    texts = dict(state)
    if f == "get":
        return [(state, texts.get(asked[0], "a"))]
    texts[asked[0]] = asked[1] if f == "put" else texts.get(asked[0], "a") + asked[1]
    return [(tuple(sorted(texts.items())), "ok")]


def _ask_set(rng: random.Random) -> tuple[str, Any]:
    element = rng.choice(VALUES)
    return rng.choice([("add", element), ("remove", element), ("contains", element), ("read", None)])


def _ask_element(rng: random.Random) -> tuple[str, Any]:
    return rng.choice(["add", "remove", "contains"]), rng.choice(VALUES)


def _set(state: Any, f: str, asked: Any) -> Answers:
    if f == "read":
        return [(state, sorted(state))]
    if f == "contains":
        return [(state, asked in state)]
    return [(state | {asked} if f == "add" else state - {asked}, "ok")]


def _ask_queue(rng: random.Random) -> tuple[str, Any]:
    return rng.choice([("enqueue", rng.choice(VALUES)), ("dequeue", None)])


def _queue(state: Any, f: str, asked: Any) -> Answers:
    if f == "enqueue":
        return [((*state, asked), "ok")]
    return [(state[1:], state[0] if state else None)]


def _ask_transaction(rng: random.Random) -> tuple[str, Any]:
    micros = [[rng.choice(["read", "write"]), rng.choice(KEYS), None] for _ in range(rng.randint(1, 3))]
    return "txn", [[f, key, rng.choice(VALUES) if f == "write" else None] for f, key, _ in micros]


def _transaction(state: Any, f: str, asked: Any) -> Answers:
    registers, answer = dict(state), []
    for kind, key, value in asked:
        if kind == "write":
            registers[key] = value
        answer.append([kind, key, registers.get(key)])
    return [(tuple(sorted(registers.items())), answer)]


def _ask_nondeterministic(rng: random.Random) -> tuple[str, Any]:
    return rng.choice([("put-any", rng.sample(VALUES, rng.randint(0, 3))), ("get-any", None), ("get-all", None)])


def _subsets(values: Any) -> Iterator[tuple[Any, ...]]:
    return chain.from_iterable(combinations(sorted(values), size) for size in range(len(values) + 1))


def _nondeterministic(state: Any, f: str, asked: Any) -> Answers:
    if f == "put-any":
        return [(kept, "ok") for kept in _subsets(asked)]
    return [(state, list(shown)) for shown in _subsets(state)] if f == "get-any" else [(state, list(state))]


OBJECTS = {
    "register": Object(0, 0, _ask_register, _register),
    "cas-register": Object(0, 0, _ask_cas, _register),
    "mutex": Object(False, False, _ask_mutex, _mutex),
    "kv": Object({"x": 1}, (("x", 1),), _ask_kv, _kv),
    "kv-append": Object("a", (), _ask_kv_append, _kv_append),
    "set": Object([1], frozenset([1]), _ask_set, _set),
    "set by element": Object([1], frozenset([1]), _ask_element, _set),
    "queue": Object([1, 0], (1, 0), _ask_queue, _queue),
    "multi-register": Object({"x": 0}, (("x", 0),), _ask_transaction, _transaction),
    "nondet-register": Object([1], (1,), _ask_nondeterministic, _nondeterministic),
}


def random_history(name: str, rng: random.Random, operations_max: int = OPERATIONS_MAX) -> OperationHistory:
    """A legal history (operations take effect one by one, within their intervals), perhaps with an answer changed.

    Operations of unknown outcome may have happened or not.
    """
    what = OBJECTS[name]
    state, rows, answers = what.first, [], []
    for now in sorted(rng.randrange(CLOCK) for _ in range(rng.randint(1, operations_max))):
        f, asked = what.ask(rng)
        following, answer = rng.choice(what.answer(state, f, asked))
        unknown = rng.random() < UNKNOWN_SHARE
        state = state if unknown and rng.random() < 0.5 else following
        answers.append((f, answer))
        call, returned = now - rng.choice(STRETCHES), now + rng.choice(STRETCHES)
        rows.append((f, asked, None if unknown else answer, call, None if unknown else returned))
    rows = [_perhaps_wrong(row, answers, rng) for row in rows]
    rng.shuffle(rows)
    columns = [list(column) for column in zip(*rows, strict=True)]
    header = {"model": name.split()[0], "init": what.init}
    return OperationHistory("random.jsonl", header, list(range(len(rows))), *columns)


def _perhaps_wrong(row: tuple[Any, ...], answers: list[Any], rng: random.Random) -> tuple[Any, ...]:
    """Now and then an operation gets the answer that another of its kind got."""
    f, asked, answer, call, returned = row
    if returned is None or rng.random() > WRONG_SHARE:
        return row
    if f == "txn":
        others: list[Any] = [[[kind, x, y if kind == "write" else rng.choice(VALUES)] for kind, x, y in asked]]
    else:
        others = [other for g, other in answers if g == f] + WRONG_ANSWERS.get(f, [])
        others += list(VALUES) if isinstance(answer, int) and not isinstance(answer, bool) else []
    return f, asked, answer if not others else rng.choice(others), call, returned


@dataclass(frozen=True)
class Item:
    """An operation for brute force: whether its answer counts, whether it has to happen, and when it may.

    `free` operations may happen at any time, those `before` only until the first that is not free has happened.
    """

    f: str
    asked: Any
    answer: Any
    known: bool
    call: int
    returned: int | None
    free: bool = False
    before: bool = False


def items_of(history: OperationHistory) -> list[Item]:
    columns = (history.f, history.input, history.output, history.call, history.returned)
    return [
        Item(f, x, y, returned is not None, call, returned) for f, x, y, call, returned in zip(*columns, strict=True)
    ]


def has_order(items: list[Item], what: Object, forget: bool = True) -> bool:
    """Try all orders; with `forget` really all, else none from where one was tried."""
    tried = set()

    def continues(remaining: frozenset[int], state: Any, begun: bool) -> bool:
        deadlines = [until for i in remaining if (until := items[i].returned) is not None]
        if not deadlines:
            return True
        if not forget and (remaining, state, begun) in tried:
            return False
        tried.add((remaining, state, begun))
        for i in remaining:
            item = items[i]
            if not begun if item.before else item.free or item.call <= min(deadlines):
                for following, answer in what.answer(state, item.f, item.asked):
                    fits = not item.known or answer == item.answer
                    if fits and continues(remaining - {i}, following, begun or not item.free):
                        return True
        return False

    return continues(frozenset(range(len(items))), what.first, False)


def at_will(history: OperationHistory, kept: set[int], times: int) -> list[Item]:
    """The operations of which those that are not kept may happen so many times, each at any time or never.

    Those that were over before any that is kept was called come before all of them.
    """
    start = min(history.call[i] for i in kept)
    items = items_of(history)
    relaxed = [items[i] for i in kept]
    for i in set(range(len(items))) - kept:
        over = history.returned[i] is not None and history.returned[i] < start
        relaxed += [replace(items[i], returned=None, free=True, before=over)] * times
    return relaxed


def agree(name: str, seed: int) -> bool:
    """Check all searches on one random history against brute force, and what they show for it; the verdict."""
    history = random_history(name, random.Random(seed))
    expected = has_order(items_of(history), OBJECTS[name])
    for engine in ENGINES[:1] if name == "nondet-register" else ENGINES:
        judgement = check_operations(history, engine=engine)
        assert isinstance(judgement.verdict, Holds if expected else Violated), (name, seed, engine)
        check_shown(name, history, judgement, (name, seed, engine))
    return expected


def check_shown(name: str, history: OperationHistory, judgement: Judgement, where: tuple[Any, ...]) -> None:
    """An order replays; so do partial orders, and the core has no order even if what is left out happens at will."""
    model = MODELS[history.model]()
    if isinstance(judgement.verdict, Holds):
        assert judgement.order is not None
        assert why_illegal(history, model, judgement.order) is None, where
        return
    assert isinstance(judgement.verdict, Violated)
    counterexample = judgement.verdict.witness
    assert counterexample.longest_partials, where
    for partial in counterexample.longest_partials:
        assert why_illegal(history, model, partial, complete=False) is None, where
    assert counterexample.operations
    times = 2 if "as often as it likes" in counterexample.sentence else 1
    relaxed = at_will(history, set(counterexample.operations), times)
    assert not has_order(relaxed, OBJECTS[name], forget=False), where


@pytest.mark.parametrize("name", OBJECTS)
def test_searches_agree_with_brute_force(name: str) -> None:
    verdicts = [agree(name, seed) for seed in range(QUICK)]
    assert BOTH_LEAST <= sum(verdicts) <= QUICK - BOTH_LEAST


@pytest.mark.deep
@pytest.mark.parametrize("name", OBJECTS)
def test_searches_agree_with_brute_force_in_depth(name: str) -> None:
    for seed in range(QUICK, DEEP):
        agree(name, seed)
