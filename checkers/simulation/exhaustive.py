"""Every interleaving of a small cluster: exact states, each machine's steps computed once, sleep sets.

A state of the cluster is what each host is, what is on its way to it, and the faults that are left. A step depends on
one host and one event, so it is computed once and looked up ever after, by numbers that stand for the hosts and
messages that have been met. The search is over tuples of such numbers; states are compared whole, no two are confused.

Connections keep their order. Time passes for a host by its own Ticks only, of which a scenario allows so many: messages
may take as long as they like, and clocks drift apart. Two transitions at different hosts commute; the reduced search
keeps a sleep set per state (Godefroid, "Partial-Order Methods for the Verification of Concurrent Systems", 1996, with
its state matching), which leaves out transitions, and no state. Crashes and restarts commute with nothing, as messages
are lost by them; drops not with each other, as they share a budget.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from hwmark.checkers.simulation import hosts
from hwmark.checkers.simulation.cluster import ADMIN, Cluster, ClusterSetup
from hwmark.checkers.simulation.hosts import Host
from hwmark.checkers.simulation.values import copy_of, freeze
from hwmark.refimpl.machine import Address, Message


class Scenario(NamedTuple):
    """What the clients of a cluster do, and what may befall it.

    The calls of the `warm_up` return before it begins. `scripts` are a client's calls, one after the other (ADMIN's are
    (server, request)); `ticks` says how often a host's deadline may come. The `faults`, (CRASH, POWER_CUT or RESTART,
    host), happen in this order, at any time; so many messages may be dropped.
    """

    name: str
    setup: ClusterSetup
    warm_up: tuple[tuple[Address, Any], ...] = ()
    scripts: tuple[tuple[Address, tuple[Any, ...]], ...] = ()
    ticks: tuple[tuple[Address, int], ...] = ()
    faults: tuple[tuple[str, Address], ...] = ()
    drops: int = 0


State = tuple[int, ...]  # hosts, their inboxes, the faults that have happened, the drops that are left
FAULTS, DROPS = -2, -1  # their places
CRASH, POWER_CUT, RESTART = "crash", "power cut", "restart"
# A transition's place at its host: a source whose message arrives, or is dropped, or one of these.
TICK, CALL, FAULT = range(3)

HostCheck = Callable[[Host, Host], str | None]
StateCheck = Callable[[dict[Address, Host]], str | None]


class Event(NamedTuple):
    """One step of an interleaving, for people and for replaying it."""

    host: Address
    what: str  # deliver, drop, tick, call, or a fault
    detail: Any = None  # the message, or the call


@dataclass
class Result:
    """What a search found: `hosts` of all machines together, `steps` computed of them, `ends` states without successor.

    `broken` is why, and the events that lead there; a search that is not complete ended before it saw every state.
    """

    scenario: str
    states: int = 0
    transitions: int = 0
    hosts: int = 0
    steps: int = 0
    ends: int = 0
    is_complete: bool = True
    broken: tuple[str, list[Event]] | None = None


class Numbers:
    """Values by numbers, and back."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._known: dict[Any, int] = {}

    def of(self, value: Any, key: Any) -> int:
        """The number of a value; the same for equal keys."""
        number = self._known.get(key)
        if number is None:
            number = self._known[key] = len(self.values)
            self.values.append(value)
        return number


class Space:
    """The transitions of a scenario, from a cluster as it is when the scenario begins."""

    def __init__(self, scenario: Scenario, cluster: Cluster, check_host: HostCheck) -> None:
        self.scenario, self.check_host = scenario, check_host
        self.names = [*cluster.clock_offsets, ADMIN]
        self.count = len(self.names)
        self.width = 2 * self.count + 3
        self.scripts = [dict(scenario.scripts).get(name, ()) for name in self.names]
        self.hosts, self.messages, self.inboxes = Numbers(), Numbers(), Numbers()
        self._steps: dict[tuple[int, int], tuple[int, tuple[tuple[int, int], ...], str | None]] = {}
        self._pushed: dict[tuple[int, int], int] = {}
        self._popped: dict[tuple[int, int], tuple[int, int]] = {}
        self._checked: dict[State, str | None] = {}
        self._possible: dict[tuple[int, int, int, bool], tuple[int, ...]] = {}
        self.dependent = self._dependencies()
        self.initial = self._initial(cluster)

    @property
    def computed(self) -> int:
        """How many steps of machines have been computed."""
        return len(self._steps)

    def transitions(self, state: State) -> list[int]:
        """What may happen next."""
        count, faults, drops = self.count, state[FAULTS], state[DROPS]
        found: list[int] = []
        for host in range(count):
            key = state[host], state[count + host], faults, drops > 0
            possible = self._possible.get(key)
            if possible is None:
                possible = self._possible[key] = tuple(self._at_host(host, *key))
            found += possible
        return found

    def follow(self, state: State, transition: int) -> tuple[State, str | None]:
        """The state after a transition, and the host's promise that it breaks."""
        host, place = divmod(transition, self.width)
        count, following = self.count, list(state)
        event = -1 - place
        if place < 2 * count:
            inbox, event = self._pop(state[count + host], place % count)
            following[count + host] = inbox
            if place >= count:
                following[DROPS] -= 1
                return tuple(following), None
        elif place == 2 * count + FAULT:
            event -= state[FAULTS]
            if self.scenario.faults[state[FAULTS]][0] != RESTART:
                following[count + host] = self.inboxes.of((), ())
            following[FAULTS] += 1
        number, sends, broken = self._step(host, state[host], event)
        following[host] = number
        for destination, message in sends:
            inbox = following[count + destination]
            pushed = self._pushed.get((inbox, message))
            following[count + destination] = pushed if pushed is not None else self._push(inbox, message)
        return tuple(following), broken

    def hosts_of(self, state: State) -> dict[Address, Host]:
        """The hosts of a state, by their names."""
        return {name: self.hosts.values[state[i]] for i, name in enumerate(self.names)}

    def check(self, state: State, check: StateCheck) -> str | None:
        """What the check says of the hosts of a state; of the same hosts it says the same."""
        here = state[: self.count]
        if here not in self._checked:
            self._checked[here] = check(self.hosts_of(state))
        return self._checked[here]

    def event(self, state: State, transition: int) -> Event:
        """The transition in words."""
        host, place = divmod(transition, self.width)
        if place < 2 * self.count:
            message = self.messages.values[self._pop(state[self.count + host], place % self.count)[1]]
            return Event(self.names[host], "deliver" if place < self.count else "drop", message)
        if place == 2 * self.count + FAULT:
            return Event(self.names[host], self.scenario.faults[state[FAULTS]][0])
        if place == 2 * self.count + TICK:
            return Event(self.names[host], "tick")
        return Event(self.names[host], "call", self.scripts[host][self.hosts.values[state[host]].called])

    def _at_host(self, host: int, number: int, inbox: int, faults: int, may_drop: bool) -> Iterator[int]:
        """The transitions at one host."""
        name, first, here = self.names[host], host * self.width, self.hosts.values[number]
        for source, _ in self.inboxes.values[inbox]:
            yield first + source
            if may_drop:
                yield first + self.count + source
        first += 2 * self.count
        is_up = here.machine is not None
        if is_up and here.ticks > 0 and here.machine.deadline() is not None:
            yield first + TICK
        if (is_up or name == ADMIN) and here.called < len(self.scripts[host]) and here.has_returned():
            yield first + CALL
        fault, victim = self.scenario.faults[faults] if faults < len(self.scenario.faults) else ("", "")
        if victim == name and (fault == RESTART) != is_up:
            yield first + FAULT

    def _step(self, host: int, number: int, event: int) -> tuple[int, tuple[tuple[int, int], ...], str | None]:
        """What an event, a message or -1 - its place (- that of a fault), does to a host; looked up if it is known."""
        known = self._steps.get((number, event))
        if known is None:
            before = self.hosts.values[number]
            after, sent = self._react(host, before, event)
            index = self.names.index
            sends = tuple([(index(message.destination), self._message(message)) for message in sent])
            broken = self.check_host(before, after)
            known = self._steps[number, event] = self._host(host, after), sends, broken
        return known

    def _react(self, host: int, before: Host, event: int) -> tuple[Host, list[Message]]:
        what = -1 - event - 2 * self.count
        if event >= 0:
            return hosts.deliver(before, self.messages.values[event])
        if what == TICK:
            return hosts.tick(before)
        if what == CALL:
            return hosts.call(before, self.scripts[host][before.called])
        fault, name = self.scenario.faults[what - FAULT]
        if fault == RESTART:
            return hosts.restart(before, self.scenario.setup, name)
        return hosts.crash(before, keeps_unflushed=fault == CRASH)

    def _pop(self, inbox: int, source: int) -> tuple[int, int]:
        """The inbox without the first message of a source, and that."""
        popped = self._popped.get((inbox, source))
        if popped is None:
            queues = dict(self.inboxes.values[inbox])
            first, *others = queues.pop(source)
            if others:
                queues[source] = tuple(others)
            popped = self._popped[inbox, source] = self._inbox(queues), first
        return popped

    def _push(self, inbox: int, message: int) -> int:
        """The inbox with one more message behind the others of its source."""
        queues = dict(self.inboxes.values[inbox])
        source = self.names.index(self.messages.values[message].source)
        queues[source] = (*queues.get(source, ()), message)
        self._pushed[inbox, message] = pushed = self._inbox(queues)
        return pushed

    def _inbox(self, queues: dict[int, tuple[int, ...]]) -> int:
        content = tuple(sorted(queues.items()))
        return self.inboxes.of(content, content)

    def _host(self, index: int, host: Host) -> int:
        return self.hosts.of(host, (index, freeze(host)))

    def _message(self, message: Message) -> int:
        return self.messages.of(message, freeze(message))

    def _initial(self, cluster: Cluster) -> State:
        ticks = dict(self.scenario.ticks)
        state = []
        for i, name in enumerate(self.names):
            incarnation, machine = cluster.incarnations.get(name, 0), copy_of(cluster.machines.get(name))
            clock = 0 if name == ADMIN else cluster.clock(name)
            state.append(self._host(i, Host(machine, None, incarnation, clock, ticks.get(name, 0))))
        inboxes = [self._inbox({})] * self.count
        for message in cluster.in_flight.values():
            to = self.names.index(message.destination)
            inboxes[to] = self._push(inboxes[to], self._message(message))
        return (*state, *inboxes, 0, self.scenario.drops)

    def _dependencies(self) -> list[int]:
        """For each transition, as a set of bits, those that do not commute with it."""
        count, width = self.count, self.width
        numbers = range(count * width)
        drops = sum(1 << t for t in numbers if count <= t % width < 2 * count)
        faults = sum(1 << t for t in numbers if t % width - 2 * count == FAULT)
        dependent = []
        for t in numbers:
            mask = ((1 << width) - 1) << (t // width * width) | faults
            mask |= drops if drops >> t & 1 else 0
            dependent.append((1 << (count * width)) - 1 if faults >> t & 1 else mask)
        return dependent


def search(space: Space, check: StateCheck, *, is_reduced: bool = True, max_states: int | None = None) -> Result:
    """Visit every state of the space, breadth first; it ends at the first one that breaks a promise.

    The reduced search visits the same states by fewer transitions, at the same depths. `check` sees the hosts of each
    state. With `max_states` the search may end before it is complete.
    """
    result = Result(space.scenario.name)
    parents: dict[State, tuple[State, int] | None] = {space.initial: None}
    sleeps = {space.initial: 0}
    queue = deque([(space.initial, 0, space.transitions(space.initial))])
    while queue and result.broken is None:
        if max_states is not None and len(sleeps) >= max_states:
            result.is_complete = False
            break
        state, sleep, todo = queue.popleft()
        result.ends += not todo and not sleep
        for transition in todo:
            following, broken = space.follow(state, transition)
            result.transitions += 1
            inherited = sleep & ~space.dependent[transition]
            sleep |= is_reduced << transition
            known = sleeps.get(following)
            if known is None:
                parents[following], sleeps[following] = (state, transition), inherited
                queue.append((following, inherited, _awake(space.transitions(following), inherited)))
                broken = broken or space.check(following, check)
            elif known & ~inherited:  # what slept here before, and does not now
                sleeps[following] = known & inherited
                queue.append((following, inherited, _awake(space.transitions(following), ~(known & ~inherited))))
            if broken:
                result.broken = broken, _path(space, {**parents, following: (state, transition)}, following)
                break
    result.states, result.hosts, result.steps = len(sleeps), len(space.hosts.values), space.computed
    return result


def count_schedules(space: Space) -> int:
    """How many maximal interleavings a space has, whose states are finite and repeat on none of them.

    ValueError if one comes back to a state.
    """
    counts: dict[State, int] = {}
    path = {space.initial: [space.follow(space.initial, t)[0] for t in space.transitions(space.initial)]}
    while path:
        state, todo = next(reversed(path.items()))
        if todo and todo[-1] in counts:
            counts[state] = counts.get(state, 0) + counts[todo.pop()]
        elif todo and todo[-1] in path:
            raise ValueError("a schedule comes back to a state, so that there is no end of schedules")
        elif todo:
            path[todo[-1]] = [space.follow(todo[-1], t)[0] for t in space.transitions(todo[-1])]
        else:
            counts.setdefault(state, 1)
            del path[state]
    return counts[space.initial]


def _awake(transitions: list[int], sleep: int) -> list[int]:
    return [transition for transition in transitions if not sleep >> transition & 1]


def _path(space: Space, parents: dict[State, tuple[State, int] | None], state: State) -> list[Event]:
    """The events that lead to a state."""
    events: list[Event] = []
    while step := parents[state]:
        state, transition = step
        events.append(space.event(state, transition))
    return events[::-1]
