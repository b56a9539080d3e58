"""The exhaustive search of small clusters: against a plain search by clusters' own copies, and against itself."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any

import pytest
from hwmark.checkers.simulation.cluster import ADMIN, Action, Cluster, Crash, Deliver, Drop, Invoke, Restart
from hwmark.checkers.simulation.exhaustive import CRASH, RESTART, Numbers, Scenario, Space, count_schedules, search
from hwmark.checkers.simulation.hosts import Host
from hwmark.checkers.simulation.scenarios import ONE, SCENARIOS, TWO, scenario, small
from hwmark.checkers.simulation.small_cluster import check_host, check_state, explore, settled
from hwmark.checkers.simulation.values import freeze
from hypothesis import given
from hypothesis import strategies as st

PRODUCER = "producer-1"
WITHOUT_TIME = (
    scenario("a record", small(), {PRODUCER: (ONE,)}),
    scenario("a crash", small(), {PRODUCER: (ONE, TWO)}, (CRASH, 1)),
    scenario("a follower's crash", small(), {PRODUCER: (ONE, TWO)}, (CRASH, 2), drops=1),
    scenario("a restart", small(), {PRODUCER: (ONE,)}, (CRASH, 1), (RESTART, 1)),
    scenario("lost messages", small(), {PRODUCER: (ONE, TWO)}, drops=2),
    scenario("three replicas", small(3), {PRODUCER: (ONE,)}, (CRASH, 2), drops=1),
)


class Plain:
    """A state of the plain search: the cluster, and how far scripts, faults and drops have come."""

    def __init__(self, one: Scenario, cluster: Cluster, outcomes: dict[str, tuple[Any, ...]], called: dict[str, int],
                 faults: int, drops: int) -> None:  # fmt: skip
        self.scenario, self.cluster, self.outcomes, self.called = one, cluster, outcomes, called
        self.faults, self.drops = faults, drops

    def key(self) -> Hashable:
        """Equal for equal states."""
        return self.cluster.frozen(), freeze(self.outcomes), freeze(self.called), self.faults, self.drops

    def following(self) -> Iterator[Plain]:
        """The states that one action leads to."""
        cluster, now = self.cluster, self.cluster.now
        for id in cluster.heads():
            yield self._after(Deliver(id, now))
            if self.drops:
                yield self._after(Drop(id, now), drops=self.drops - 1)
        for name, script in self.scenario.scripts:
            called = self.called.get(name, 0)
            if called < len(script) and len(self.outcomes.get(name, ())) == called:
                following = self.called | {name: called + 1}
                yield self._after(Invoke(name, 1_000 + called, script[called], now), called=following)
        if self.faults < len(self.scenario.faults):
            what, name = self.scenario.faults[self.faults]
            if (what == RESTART) != (name in cluster.machines):
                action: Action = Restart(name, now) if what == RESTART else Crash(name, what == CRASH, now)
                yield self._after(action, faults=self.faults + 1)

    def _after(self, action: Action, **changes: Any) -> Plain:
        cluster, outcomes = self.cluster.fork(), self.outcomes
        for returned in cluster.apply(action):
            assert returned.machine != ADMIN
            outcomes = outcomes | {returned.machine: (*outcomes.get(returned.machine, ()), returned.outcome)}
        fields = {"called": self.called, "faults": self.faults, "drops": self.drops} | changes
        return Plain(self.scenario, cluster, outcomes, **fields)


def plain_search(one: Scenario) -> tuple[int, int, int]:
    """How many states, transitions and ends there are."""
    first = Plain(one, settled(one.setup, one.warm_up), {}, {}, 0, one.drops)
    seen, todo, transitions, ends = {first.key()}, [first], 0, 0
    while todo:
        following = [*todo.pop().following()]
        transitions += len(following)
        ends += not following
        for state in following:
            if (key := state.key()) not in seen:
                seen.add(key)
                todo.append(state)
    return len(seen), transitions, ends


@pytest.mark.parametrize("one", WITHOUT_TIME, ids=lambda one: one.name)
def test_the_search_agrees_with_a_plain_one(one: Scenario) -> None:
    """Tables of hosts' steps are as good as whole clusters, where no time passes."""
    space = Space(one, settled(one.setup, one.warm_up), check_host)
    result = search(space, check_state, is_reduced=False)
    assert (result.states, result.transitions, result.ends) == plain_search(one)


@pytest.mark.parametrize("name", ["one record", "two records, lost messages", "the leader dies", "the partition moves"])
def test_the_reduced_search_agrees_with_the_full_one(name: str) -> None:
    """Sleep sets leave out transitions, and no state."""
    reduced, full = explore(SCENARIOS[name]), explore(SCENARIOS[name], is_reduced=False)
    assert (reduced.states, reduced.ends) == (full.states, full.ends)
    assert reduced.transitions < full.transitions


class Rules:
    """Instead of a cluster: each rule (variable, value, other, new) sets another variable where one has a value."""

    def __init__(self, rules: list[tuple[int, int, int, int]]) -> None:
        self.scenario, self.rules, self.initial = Scenario("rules", small()), rules, (0, 0, 0)
        self.hosts, self.computed = Numbers(), 0
        self.dependent = [sum(1 << i for i, other in enumerate(rules) if self.collide(one, other)) for one in rules]

    def collide(self, one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> bool:
        return one[2] in (other[0], other[2]) or other[2] == one[0]

    def transitions(self, state: tuple[int, ...]) -> list[int]:
        return [i for i, (read, value, to, new) in enumerate(self.rules) if state[read] == value and state[to] != new]

    def follow(self, state: tuple[int, ...], transition: int) -> tuple[tuple[int, ...], None]:
        _, _, to, new = self.rules[transition]
        return (*state[:to], new, *state[to + 1 :]), None

    def check(self, state: tuple[int, ...], check: Any) -> str | None:
        return check(state)  # type: ignore[no-any-return]

    def event(self, state: tuple[int, ...], transition: int) -> int:
        return transition


variables, values = st.integers(0, 2), st.integers(0, 2)


@given(st.lists(st.tuples(variables, values, variables, values), min_size=3, max_size=8))
def test_the_reduced_search_finds_every_state_of_rules_at_its_depth(rules: list[tuple[int, int, int, int]]) -> None:
    """Also where a state is met again by a transition after which less is asleep."""
    space: Any = Rules(rules)
    met: set[Any] = {space.initial}
    full, reduced = [search(space, lambda state: met.add(state), is_reduced=is_reduced) for is_reduced in (False, True)]
    assert (reduced.states, reduced.ends) == (full.states, full.ends) == (len(met), full.ends)
    for wanted in met - {space.initial}:
        assert depth_of(space, wanted, is_reduced=True) == depth_of(space, wanted, is_reduced=False)


def depth_of(space: Any, wanted: Any, *, is_reduced: bool) -> int:
    """After how many transitions a search finds a state."""
    result = search(space, lambda state: "here" if state == wanted else None, is_reduced=is_reduced)
    assert result.broken is not None
    return len(result.broken[1])


def test_interleavings_are_counted() -> None:
    """By going through all of them, one by one."""
    one = scenario("a record", small(), {PRODUCER: (ONE,)}, drops=1)
    space = Space(one, settled(one.setup, one.warm_up), check_host)

    def count(state: tuple[int, ...]) -> int:
        transitions = space.transitions(state)
        return sum(count(space.follow(state, each)[0]) for each in transitions) if transitions else 1

    assert count_schedules(space) == count(space.initial) == 5


def test_a_limit_is_no_success() -> None:
    """Who stopped early has not seen every state."""
    result = explore(SCENARIOS["the leader dies"], max_states=100)
    assert not result.is_complete


def test_the_shortest_interleaving_is_told() -> None:
    """The check of a state ends the search, with the events that lead there."""
    one = SCENARIOS["one record"]
    space = Space(one, settled(one.setup, one.warm_up), check_host)
    result = search(space, lambda hosts: "acknowledged" if hosts[PRODUCER].outcomes else None)
    assert result.broken is not None
    why, events = result.broken
    assert why == "acknowledged"
    assert events[0].what == "call"
    assert (events[-1].host, events[-1].what) == (PRODUCER, "deliver")
    assert len(events) == 5


def test_what_a_step_does_to_a_host_is_checked() -> None:
    """As is every state; whatever a check says ends the search."""
    one = SCENARIOS["one record"]

    def check(before: Host, after: Host) -> str | None:
        return "called" if after.called > before.called else None

    result = search(Space(one, settled(one.setup, one.warm_up), check), check_state)
    assert result.broken is not None and result.broken[0] == "called"
    assert [event.what for event in result.broken[1]] == ["call"]
