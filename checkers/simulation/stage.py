"""Applications on a cluster: scripts that call clients and wait, several at a time, in simulated time.

A script is a generator. It yields how many ms to sleep, or an Ask, or a list of them, and is sent the outcomes: one
response for each Ask, or None if the client is down, or went down before it answered.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, NamedTuple

from hwmark.checkers.simulation.cluster import (
    ADMIN,
    Action,
    Cluster,
    Crash,
    Deliver,
    NotEnabledError,
    Returned,
    Setup,
)
from hwmark.checkers.simulation.coverage import SESSION
from hwmark.checkers.simulation.promises import NO_MACHINE_FAILS, BrokenPromiseError, Promises
from hwmark.checkers.simulation.schedule import TimedSchedule
from hwmark.refimpl.machine import Address


class Ask(NamedTuple):
    """A call of a client, or a request of the admin to a server."""

    machine: Address
    operation: Any


Script = Generator[Ask | list[Ask] | int, Any, None]


class ObservedCluster(Cluster):
    """A cluster whose promises are looked at after each action; what happens is counted."""

    __slots__ = ("coverage", "promises")

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.promises: Promises | None = None
        self.coverage = SESSION

    def apply(self, action: Action) -> list[Returned]:
        """Let an action happen. Raises BrokenPromiseError."""
        message = self.in_flight.get(action.message) if type(action) is Deliver else None
        try:
            returned = super().apply(action)
        except NotEnabledError:
            raise
        except Exception as error:
            name = message.destination if message else getattr(action, "machine", None)
            raise BrokenPromiseError(NO_MACHINE_FAILS, f"{name}: {error!r}", machine=name) from error
        self.coverage.actions[type(action)] += 1
        if message is not None:
            self.coverage.see(message.body)
        for one in returned:
            self.coverage.see_outcome(one)
        if self.promises is not None:
            self.promises.observe(action, returned)
        return returned


class Waiting:
    """A script, and the outcomes that it waits for."""

    __slots__ = ("is_list", "missing", "outcomes", "script")

    def __init__(self, script: Script, count: int, *, is_list: bool) -> None:
        self.script, self.is_list, self.missing = script, is_list, count
        self.outcomes: list[Any] = [None] * count


class Stage:
    """Runs scripts on a schedule. What calls return is taken up within the same instant, after the action is over."""

    def __init__(self, schedule: TimedSchedule) -> None:
        self.schedule = schedule
        self.running = 0
        self._waiting: dict[tuple[Address, int], tuple[Waiting, int]] = {}
        self._held: dict[Address, list[tuple[Ask, Waiting, int]]] = {}  # calls of clients that stand still
        schedule.on_return = self._take

    @property
    def now(self) -> int:
        """The time in ms."""
        return self.schedule.cluster.now

    def start(self, script: Script) -> None:
        """Begin a script at once."""
        self.running += 1
        self._advance(script, None)

    def crash_client(self, machine: Address) -> None:
        """The client's process dies: whoever waits for it learns nothing."""
        self.schedule.apply(Crash(machine, True, self.now))
        for key in [key for key in self._waiting if key[0] == machine]:
            self._answer(key, None)

    def _advance(self, script: Script, outcome: Any) -> None:
        try:
            wanted = script.send(outcome)
        except StopIteration:
            self.running -= 1
            return
        if isinstance(wanted, int):
            self.schedule.plan(self.now + wanted, lambda: self._advance(script, None))
            return
        asks = wanted if isinstance(wanted, list) else [wanted]
        waiting = Waiting(script, len(asks), is_list=isinstance(wanted, list))
        if not asks:
            self.schedule.plan(self.now, lambda: self._advance(script, []))
        for place, ask in enumerate(asks):
            self._ask(ask, waiting, place)

    def _ask(self, ask: Ask, waiting: Waiting, place: int) -> None:
        """Make the call; a process that stands still makes it when it goes on, after those that it was to make."""
        cluster = self.schedule.cluster
        is_client = ask.machine in cluster.clients
        if is_client and (ask.machine in cluster.paused or ask.machine in self._held):
            if ask.machine not in self._held:
                self._hold(ask.machine)
            self._held.setdefault(ask.machine, []).append((ask, waiting, place))
            return
        key = (ask.machine if is_client else ADMIN), self.schedule.calls + 1
        self._waiting[key] = waiting, place
        if is_client and ask.machine not in cluster.machines:
            self._answer(key, None)
        else:
            self.schedule.invoke(*ask)

    def _hold(self, machine: Address) -> None:
        """Look again soon whether a client goes on."""
        self.schedule.plan(self.now + 10, lambda: self._go_on(machine))

    def _go_on(self, machine: Address) -> None:
        """Make the calls of a client that stood still, in their order."""
        if machine in self.schedule.cluster.paused:
            self._hold(machine)
            return
        for ask, waiting, place in self._held.pop(machine):
            self._ask(ask, waiting, place)

    def _take(self, returned: Returned) -> None:
        self._answer((returned.machine, returned.number), returned.outcome)

    def _answer(self, key: tuple[Address, int], outcome: Any) -> None:
        waiting, place = self._waiting.pop(key, (None, 0))
        if waiting is None:
            return
        waiting.outcomes[place] = outcome
        waiting.missing -= 1
        if not waiting.missing:
            outcome = waiting.outcomes if waiting.is_list else waiting.outcomes[0]
            self.schedule.plan(self.now, lambda: self._advance(waiting.script, outcome))
