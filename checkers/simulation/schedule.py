"""One run of a cluster in simulated time: messages take a drawn while, machines tick at their deadlines.

Connections keep their order unless a message is drawn to be reordered. What is scheduled for the same time happens in
the order in which it was scheduled, so the seed alone decides. Source of the faults: Jepsen's nemeses.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from heapq import heappop, heappush
from random import Random
from typing import Any, NamedTuple

from hwmark.checkers.simulation.cluster import (
    Action,
    Cluster,
    Deliver,
    Drop,
    Duplicate,
    Invoke,
    NotEnabledError,
    Resume,
    Returned,
    Start,
    StepClock,
    Tick,
)
from hwmark.refimpl.machine import Address


class NetworkConfig(NamedTuple):
    """How messages travel: latencies in ms (both ends included), probabilities per message.

    What is sent across a partition is lost, or with `holds_partitioned` waits until it heals.
    """

    latency_min: int = 1
    latency_max: int = 5
    drop: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    holds_partitioned: bool = False

    @property
    def is_faulty(self) -> bool:
        """Whether messages are lost, doubled or overtaken."""
        return self.drop + self.duplicate + self.reorder > 0


RELIABLE = NetworkConfig()


class TimedSchedule:
    """Drives a cluster from its beginning. Every action goes through `apply`, a driver's own ones too.

    `on_return` is told what calls return; `actions` is the run so far, if it is to be kept.
    """

    def __init__(
        self, cluster: Cluster, rng: Random, network: NetworkConfig = RELIABLE, *, keeps_actions: bool = True
    ) -> None:
        self.cluster, self.rng, self.network = cluster, rng, network
        self.actions: list[Action] | None = [] if keeps_actions else None
        self.returned: list[Returned] = []
        self.on_return: Callable[[Returned], Any] = self.returned.append
        self.blocked: set[tuple[Address, Address]] = set()
        self.steps = self.calls = self._number = 0
        self._agenda: list[
            tuple[int, int, int | Address | Callable[[], Any]]
        ] = []  # a message, a machine's Tick, a plan
        self._alarms: dict[Address, int] = {}  # when each machine is looked after next
        self._arrivals: dict[tuple[Address, Address], int] = {}
        self._held: list[int] = []  # by partitions
        self._waiting: list[int] = []  # for paused machines
        self.apply(Start())

    def apply(self, action: Action) -> None:
        """Let an action happen, now or at its later time, and schedule what follows from it."""
        cluster = self.cluster
        next_id = cluster.last_id + 1
        if self.actions is not None:
            self.actions.append(action)  # before it happens: an action that breaks a promise is part of the run
        try:
            returned = cluster.apply(action)
        except NotEnabledError:
            if self.actions is not None:
                self.actions.pop()
            raise
        self.steps += 1
        for id in range(next_id, cluster.last_id + 1):
            self._send(id)
        if cluster.stepped is None:
            self._follow(action)
        else:  # whoever wants a Tick at once after one has to let time pass
            self._set_alarm(cluster.stepped, cluster.now + 1 if type(action) is Tick else 0)
        for one in returned:
            self.on_return(one)

    def invoke(self, machine: Address, operation: Any) -> int:
        """Call a client, or ask a server as the admin; the number of the call."""
        self.calls += 1
        self.apply(Invoke(machine, self.calls, operation, self.cluster.now))
        return self.calls

    def plan(self, time: int, what: Callable[[], Any]) -> None:
        """Have something done at a time."""
        self._push(time, what)

    def run_until(
        self, condition: Callable[[], bool] | None = None, *, time: int | None = None, steps: int | None = None
    ) -> bool:
        """Go on until the condition holds, everything up to `time` happened, or so many steps; whether it holds."""
        agenda = self._agenda
        steps_max = None if steps is None else self.steps + steps
        while condition is None or not condition():
            if time is not None and (not agenda or agenda[0][0] > time):
                self.cluster.now = max(self.cluster.now, time)
                return False
            if not agenda or self.steps == steps_max:
                return False
            at, _, what = heappop(agenda)
            self._happen(at, what)
        return True

    def block(self, source: Address, destination: Address) -> None:
        """Nothing gets from the one to the other any more."""
        self.blocked.add((source, destination))

    def unblock(self, source: Address, destination: Address) -> None:
        """What was held between the two goes on."""
        self.blocked.discard((source, destination))
        held, self._held = self._held, []
        self._travel_again(held)

    def partition(self, one_side: Collection[Address], other_side: Collection[Address]) -> None:
        """Nothing gets from one side to the other, nor back."""
        for one in one_side:
            for other in other_side:
                self.blocked |= {(one, other), (other, one)}

    def isolate(self, machine: Address) -> None:
        """The machine reaches nobody, and nobody it."""
        self.partition([machine], [name for name in self.cluster.clock_offsets if name != machine])

    def heal(self) -> None:
        """All reach all; what was held goes on."""
        self.blocked.clear()
        held, self._held = self._held, []
        self._travel_again(held)

    def _happen(self, time: int, what: int | Address | Callable[[], Any]) -> None:
        """What was scheduled for a time happens now, if it still can."""
        cluster = self.cluster
        if time > cluster.now:
            cluster.now = time
        if type(what) is int:
            self._arrive(what)
        elif type(what) is str:
            if self._alarms.get(what) == time:
                self._ring(what)
        else:
            what()  # type: ignore[operator]

    def _arrive(self, id: int) -> None:
        cluster = self.cluster
        message = cluster.in_flight.get(id)
        if message is None:
            return  # lost meanwhile
        if self.blocked and (message.source, message.destination) in self.blocked:
            if self.network.holds_partitioned:
                self._held.append(id)
            else:
                self.apply(Drop(id, cluster.now))
        elif message.destination in cluster.paused:
            self._waiting.append(id)
        else:
            self.apply(Deliver(id, cluster.now))

    def _ring(self, name: Address) -> None:
        """Tick a machine whose alarm rings, unless it wants that later by now."""
        cluster = self.cluster
        del self._alarms[name]
        if name not in cluster.machines or name in cluster.paused:
            return
        deadline = cluster.deadline(name)
        if deadline is not None and deadline <= cluster.now:
            self.apply(Tick(name, cluster.now))
        else:
            self._set_alarm(name)

    def _set_alarm(self, name: Address, earliest: int = 0) -> None:
        """Look after the machine at its deadline at the latest."""
        deadline = self.cluster.deadline(name)
        if deadline is not None:
            time = max(deadline, earliest, self.cluster.now)
            if time < self._alarms.get(name, time + 1):
                self._alarms[name] = time
                self._push(time, name)

    def _send(self, id: int) -> None:
        """Draw when a new message arrives, and what befalls it."""
        network, message = self.network, self.cluster.in_flight[id]
        fate = self.rng.random() if network.is_faulty else 1.0
        latencies = network.latency_max - network.latency_min + 1
        time = self.cluster.now + network.latency_min + int(self.rng.random() * latencies)
        if fate < network.drop:
            self._push(time, partial(self._lose, id))
        elif fate < network.drop + network.reorder:
            self._push(time, id)
        else:
            connection = (message.source, message.destination)
            self._arrivals[connection] = time = max(time, self._arrivals.get(connection, 0))
            if fate < network.drop + network.reorder + network.duplicate:
                self._push(time, partial(self._double, id))
            self._push(time, id)

    def _lose(self, id: int) -> None:
        if id in self.cluster.in_flight:
            self.apply(Drop(id, self.cluster.now))

    def _double(self, id: int) -> None:
        if id in self.cluster.in_flight:
            self.apply(Duplicate(id, self.cluster.now))

    def _follow(self, action: Action) -> None:
        """Set the alarms that an action asks for that is no machine's step, or more than one."""
        if isinstance(action, Start):
            for name in self.cluster.machines:
                self._set_alarm(name)
        elif isinstance(action, StepClock):
            self._set_alarm(action.machine)
        elif isinstance(action, Resume):
            waiting, self._waiting = self._waiting, []
            self._travel_again(waiting)
            self._set_alarm(action.machine)

    def _travel_again(self, messages: list[int]) -> None:
        for id in messages:
            self._push(self.cluster.now, id)

    def _push(self, time: int, what: int | Address | Callable[[], Any]) -> None:
        self._number += 1
        heappush(self._agenda, (time, self._number, what))
