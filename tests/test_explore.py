"""The exhaustive engine against its plain twin, with workers and with symmetry; and what it reports."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import ModuleType
from typing import NoReturn

import numpy as np
import pytest
from hwmark.checkers.compiler import compile_instance
from hwmark.checkers.explore import Exploration, engine, explore, loop
from hwmark.checkers.explore.plain import PlainExploration, explore_plainly
from hwmark.checkers.replay import verify_run
from hwmark.checkers.verdict import Holds, Unknown, Violated
from hwmark.spec.catalogue import find
from hwmark.spec.instance import Instance
from hypothesis import given
from hypothesis import strategies as st

SEARCHED_MAX = 250
"""Random models with more states than this are not searched: the plain twin has to finish."""

seeds = st.integers(0, 2**32 - 1)


def assert_agree(fast: Exploration, plain: PlainExploration) -> None:
    violated = fast.verdict.name if isinstance(fast.verdict, Violated) else None
    assert violated == plain.violated
    assert (fast.distinct, fast.generated, fast.depth) == (plain.distinct, plain.generated, plain.depth)
    assert fast.reached == plain.reached or violated == "out-of-range"
    assert fast.coverage == plain.coverage or violated == "out-of-range"


def assert_is_a_run(instance: Instance, exploration: Exploration) -> None:
    """Take every step of the counterexample, and see in its last state what it claims."""
    trace = exploration.trace
    assert trace is not None
    rows = [instance.from_json(state) for state in trace.states()]
    assert rows[0] in instance.initial()
    actions = {action.name: dict(action.domain) for action in instance.actions}
    for step, before, after in zip(trace.steps, rows, rows[1:], strict=False):
        arguments = {name: actions[step.action][name].read(value) for name, value in step.arguments.items()}
        assert instance.step(step.action, before, arguments) == after
    if trace.property is not None and trace.property.replace("-", "_") in instance.model.invariants:
        assert instance.witness(trace.property.replace("-", "_"), rows[-1]) is not None


@given(seed=seeds, deadlock=st.booleans())
def test_a_random_model_is_searched_as_plainly(
    seed: int, deadlock: bool, small_models: ModuleType, folder: Path
) -> None:
    dice = Random(seed)
    instance = small_models.draw(dice, folder, careful=dice.random() < 0.6)
    one = explore(instance, deadlock=deadlock, max_states=SEARCHED_MAX)
    if isinstance(one.verdict, Unknown):
        return
    plain = explore_plainly(instance, deadlock=deadlock)
    assert_agree(one, plain)
    two = explore(instance, deadlock=deadlock, workers=2)
    assert two.trace == one.trace
    assert_agree(two, plain)
    if one.trace is not None:
        assert_is_a_run(instance, one)


def reachable(instance: Instance) -> set[bytes]:
    seen = {row for row in instance.initial() if instance.within(row)}
    waiting = list(seen)
    while waiting:
        for step in instance.successors(waiting.pop()):
            if step.row not in seen and instance.within(step.row):
                seen.add(step.row)
                waiting.append(step.row)
    return seen


@given(seed=seeds)
def test_symmetry_counts_one_state_of_each_orbit(seed: int, small_models: ModuleType, folder: Path) -> None:
    dice = Random(seed)
    n = dice.choice((2, 3))
    instance = small_models.draw(dice, folder, symmetric=True, n=n, top=1)
    asked = dice.choice(([], None))
    full = explore(instance, asked, max_states=SEARCHED_MAX)
    if isinstance(full.verdict, Unknown):
        return
    reduced = explore(instance, asked, symmetry=True)
    assert (reduced.warnings, type(reduced.verdict)) == ((), type(full.verdict))
    assert reduced.depth == full.depth
    if reduced.trace is not None:
        assert_is_a_run(instance, reduced)
    else:
        orbits = {small_models.orbit(instance, row, {"id": n, "slot": 2}) for row in reachable(instance)}
        assert (reduced.verdict, reduced.distinct) == (Holds(), len(orbits))


# ------------------------------------------------------------------------------- models written for one purpose

MAIL = """
from __future__ import annotations
from typing import Annotated
from hwmark.spec.lang import Bag, Capacity, Domain, Struct, send
from hwmark.spec.model import Model
Id = Annotated[int, Domain("id", 3, symmetric=True)]
class Letter(Struct):
    sender: Id
class State(Struct):
    sent: Annotated[Bag[Letter], Capacity(3)]
def init(s: State): pass
def post(s: State, sender: Id) -> bool:
    if len(s.sent) == 3: return False
    send(s.sent, Letter(sender=sender))
    return True
model = Model.of("mail", "mail", why="test", state=State, bounds=(), init=init, actions=(post,))
"""

TALLY = """
from __future__ import annotations
from enum import IntEnum
from typing import Annotated
from hwmark.spec.lang import Array, Bound, Domain, Optional, Range, SetOf, Struct, contains, insert
from hwmark.spec.model import Model
top = Bound("top", 3)
Id = Annotated[int, Domain("id", 3, symmetric=True)]
class State(Struct):
    count: Annotated[int, Range(0, top)]
    other: Annotated[int, Range(0, 200)]
    seen: SetOf[Id]
    last: Optional[Id]
def init(s: State): pass
def step(s: State, by: Annotated[int, Range(1, 2)]):
    s.other += 1
    s.count += by
def bump(s: State) -> bool:
    if s.count == top: return False
    s.count += 1
    return True
def see(s: State, who: Id) -> bool:
    if contains(s.seen, who): return False
    s.seen = insert(s.seen, who)
    s.last = who
    return True
def rest(s: State) -> bool:
    return s.count == top
def never(s: State) -> bool:
    s.count = 1
    return s.other > 100
def favour(s: State, who: Id) -> bool:
    return contains(s.seen, who) and who == 0
def favour_late(s: State) -> bool:
    if s.last != 0 or s.seen != 5: return False
    s.count = top
    return True
def small(s: State) -> bool: return s.count < 2
def fine(s: State) -> bool: return True
def all_seen(s: State) -> bool: return s.seen == 7
def far(s: State) -> bool: return s.other == 200
def divides(s: State, index: Annotated[int, Range(0, 3)]) -> bool:
    return s.count <= only_small(index)
def only_small(index: Annotated[int, Range(0, 2)]) -> int: return 3
def low(s: State) -> bool: return s.count < 3
def nobody(s: State) -> bool: return False
def unseen_zero(s: State) -> bool: return not (contains(s.seen, 0) and s.last == 0)
def faulty(s: State) -> bool:
    return s.count < 2 or only_small(s.count) == 3
def clean(s: State) -> bool: return s.count == 0
def unseen(s: State) -> bool: return s.seen == 0
def jump(s: State) -> bool:
    if s.count != 0: return False
    s.count = 2
    return True
def one(s: State) -> bool:
    return s.count == 1 or s.count > 1 and only_small(s.count + 1) == 2
def late(s: State) -> bool:
    return s.count > 2 and only_small(s.count) == 2
model = Model.of("tally", "tally", why="test", state=State, bounds=(top,), init=init, {parts})
"""


@pytest.fixture
def tally(small_models: ModuleType, folder: Path) -> Callable[..., Instance]:
    return lambda parts, **bounds: small_models.load(TALLY.replace("{parts}", parts), folder).at(**bounds)


def line_of(text: str) -> int:
    return next(number for number, line in enumerate(TALLY.splitlines(), 1) if text in line)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_write_outside_a_range_is_a_violation_with_its_trace(tally: Callable[..., Instance], workers: int) -> None:
    exploration = explore(tally("actions=(step,), invariants=(fine,)"), workers=workers)
    assert isinstance(exploration.verdict, Violated)
    assert exploration.verdict.name == "out-of-range"
    assert exploration.depth == 2  # 0, 2; then 2 + 2 leaves 0..3
    assert exploration.trace is not None and len(exploration.trace.steps) == 1
    assert exploration.trace.witness == {"action": "step", "by": 2}
    assert exploration.error is not None
    assert re.match(
        rf"tally/tally: \S+\.py:{line_of('s.count += by')}: in step\(by=2\): State.count = 4 is outside 0..3$",
        exploration.error,
    )
    assert verify_in(exploration) is None


def verify_in(exploration: Exploration) -> str | None:
    assert exploration.trace is not None
    return verify_run(exploration.instance, exploration.trace)


@pytest.mark.parametrize(
    ("parts", "depth", "name"),
    [
        ("actions=(rest,), invariants=(divides,)", 1, "only_small(index)"),
        ("actions=(bump,), invariants=(faulty,)", 4, "only_small(s.count)"),
        ("actions=(bump,), constraint=faulty", 4, "only_small(s.count)"),
        ("actions=(bump,), sometimes=(late,)", 4, "only_small(s.count) == 2"),
    ],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_property_that_leaves_a_range_is_a_violation(
    tally: Callable[..., Instance], parts: str, depth: int, name: str, workers: int
) -> None:
    instance = tally(parts)
    exploration = explore(instance, workers=workers)
    plain = explore_plainly(instance)
    assert (plain.violated, plain.depth) == ("out-of-range", depth)
    assert exploration.depth == depth
    assert isinstance(exploration.verdict, Violated)
    assert exploration.verdict.name == "out-of-range"
    assert exploration.error is not None and f":{line_of(name)}: " in exploration.error
    assert verify_in(exploration) is None


@pytest.mark.parametrize("workers", [1, 2])
def test_of_states_that_violate_the_least_is_shown(tally: Callable[..., Instance], workers: int) -> None:
    instance = tally("actions=(see,), invariants=(unseen,)")
    exploration, plain = explore(instance, workers=workers), explore_plainly(instance)
    assert exploration.trace is not None
    assert [instance.from_json(state) for state in exploration.trace.states()] == list(plain.path)


@pytest.mark.parametrize("seen", [(1, 2), (2, 1)])
def test_of_what_the_workers_noted_the_least_is_shown(tally: Callable[..., Instance], seen: tuple[int, int]) -> None:
    instance = tally("actions=(see,), invariants=(unseen,)")
    search = engine.Search(compile_instance(instance), 2, 1 << 26)
    states = {step.arguments["who"] + 1: step.row for step in instance.successors(instance.initial()[0])}
    for worker, who in zip(search.team, seen, strict=True):
        worker.own[loop.VIOLATED] = 0
        worker.worst[: instance.row_size] = np.frombuffer(states[who], np.uint8)
    assert search._finding(0) == engine.Finding("unseen", states[1], 1)


@pytest.mark.parametrize("slots", [64, 1000])
def test_a_table_that_grows_piece_by_piece_loses_nothing(slots: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "MOVED_SLOTS", slots)
    sizes = engine.Sizes(block_rows=2, chunk_rows=4, batch_bytes=1, table_slots=16)
    search = engine.Search(compile_instance(find("two-phase-commit").at(resource_managers=5)), 2, 1 << 26, sizes=sizes)
    assert search.run() is None
    assert (search.distinct, search.table_size > 8 * slots) == (8832, True)


def test_a_deadlock_is_found_on_request(tally: Callable[..., Instance]) -> None:
    instance = tally("actions=(see,)")
    assert explore(instance).verdict == Holds()
    found = explore(instance, deadlock=True)
    assert isinstance(found.verdict, Violated)
    assert (found.verdict.name, found.depth) == ("deadlock", 4)
    assert verify_in(found) is None


def test_what_never_happens_is_told(tally: Callable[..., Instance]) -> None:
    exploration = explore(tally("actions=(see, rest, never), sometimes=(all_seen, far)"))
    assert exploration.verdict == Holds()
    assert exploration.never_fired == ("rest", "never")
    assert exploration.never_true == ("far",)
    assert exploration.coverage == {"see": 3 + 3 * 2 + 6 * 1, "rest": 0, "never": 0}


@pytest.mark.parametrize("actions", ["bump, jump", "jump, bump"])
def test_what_a_level_reaches_is_asked_of_all_of_it(tally: Callable[..., Instance], actions: str) -> None:
    """The property is true of one state of the second level, and leaves a range in the other."""
    instance = tally(f"actions=({actions}), sometimes=(one,)")
    exploration, plain = explore(instance), explore_plainly(instance)
    assert isinstance(exploration.verdict, Violated)
    assert (exploration.verdict.name, exploration.depth) == (plain.violated, plain.depth) == ("out-of-range", 2)


def test_what_one_worker_reached_no_other_is_asked(
    tally: Callable[..., Instance], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The workers take turns: the second reaches the property, which leaves a range where the first would ask it."""
    original, calls, first = engine.Worker.work, Counter[int](), list[int]()

    def work(worker: engine.Worker, starts: engine.Longs, stops: engine.Longs, shared: engine.Longs) -> None:
        first[:] = first or [id(worker)]
        if not shared[loop.STOP]:
            calls[id(worker)] += 1
            if calls[id(worker)] % 2 == (id(worker) == first[0]):
                original(worker, starts, stops, shared)

    monkeypatch.setattr(engine.Worker, "work", work)
    exploration = explore(tally("actions=(bump,), sometimes=(one,)"), workers=2)
    assert (exploration.verdict, exploration.reached) == (Holds(), {"one"})
    assert len(calls) == 2


def test_a_disabled_action_leaves_no_trace_of_its_writes(tally: Callable[..., Instance]) -> None:
    exploration = explore(tally("actions=(never, see), invariants=(clean,)"))
    assert (exploration.verdict, exploration.distinct) == (Holds(), 13)


def test_a_model_without_initial_states_has_none(tally: Callable[..., Instance]) -> None:
    instance = tally("actions=(see,), constraint=nobody")
    exploration, plain = explore(instance), explore_plainly(instance)
    assert (exploration.distinct, exploration.depth) == (plain.distinct, plain.depth) == (0, 0)
    assert explore(instance, symmetry=True).distinct == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_a_limit_gives_unknown_with_what_was_found(workers: int) -> None:
    exploration = explore(find("two-phase-commit").at(), workers=workers, max_states=100)
    assert isinstance(exploration.verdict, Unknown)
    assert 100 <= exploration.distinct < 288


def test_an_interrupt_stops_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers who are not told would go on to the end of the level, however long that takes."""
    interrupted, told = threading.Event(), list[bool]()

    def work(worker: engine.Worker, starts: object, stops: object, shared: engine.Longs) -> None:
        if interrupted.wait(0 if shared[loop.STOP] else 60):
            told.append(any(shared[loop.STOP] or time.sleep(0.01) for _ in range(1000)))

    def wait(*_: object, **__: object) -> NoReturn:
        interrupted.set()
        raise KeyboardInterrupt

    monkeypatch.setattr(engine.Worker, "work", work)
    monkeypatch.setattr(engine, "wait", wait)
    exploration = explore(find("two-phase-commit").at(), workers=2)
    assert exploration.verdict == Unknown("stopped by the user")
    assert told == [True, True]


@pytest.mark.parametrize(
    ("parts", "what"),
    [
        ("actions=(see, favour), sometimes=(all_seen,)", "favour"),
        ("actions=(see,), invariants=(unseen_zero,)", "unseen_zero"),
        ("actions=(see, favour_late), invariants=(low,)", "favour_late"),
        ("actions=(see,), constraint=unseen_zero", "unseen_zero"),
    ],
)
def test_a_broken_symmetry_is_never_a_pass(tally: Callable[..., Instance], parts: str, what: str) -> None:
    exploration = explore(tally(parts), symmetry=True)
    assert exploration.warnings and what in exploration.warnings[0]
    assert not isinstance(exploration.verdict, Holds)


def test_a_bag_whose_letters_are_renamed_is_in_order_again(small_models: ModuleType, folder: Path) -> None:
    """Renamed and not sorted, the letters of 0, 0 and 1 are never those of 0, 1 and 1."""
    instance = small_models.load(MAIL, folder).at()
    assert explore(instance).distinct == 1 + 3 + 6 + 10
    assert explore(instance, symmetry=True).distinct == 1 + 1 + 2 + 3  # how many letters each sender has


def test_an_honest_symmetry_has_no_warning(tally: Callable[..., Instance]) -> None:
    exploration = explore(tally("actions=(see,), invariants=(fine,), sometimes=(all_seen,)"), symmetry=True)
    assert (exploration.warnings, exploration.verdict) == ((), Holds())
    assert (exploration.distinct, explore(tally("actions=(see,)")).distinct) == (4, 13)
