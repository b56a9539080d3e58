"""One host of a cluster by itself: a machine, its disk and clock, and the calls that its application makes in order.

Hosts meet in messages only; so what an event does to a host depends on nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from hwmark.checkers.simulation.cluster import ADMIN, Setup, by_incarnation, for_incarnation
from hwmark.checkers.simulation.values import copy_of
from hwmark.refimpl.machine import Address, Call, Event, Machine, Message, Return, Tick


@dataclass(slots=True)
class Host:
    """`machine` is None while it is down, and for the admin; `ticks` are left; `outcomes` those of the calls so far."""

    machine: Machine | None = None
    disk: Any = None
    incarnation: int = 0
    clock: int = 0
    ticks: int = 0
    called: int = 0
    outcomes: tuple[Any, ...] = ()

    def has_returned(self) -> bool:
        """Whether the last call has an outcome."""
        return self.called == len(self.outcomes)


def deliver(host: Host, message: Message) -> tuple[Host, list[Message]]:
    """The message arrives; it vanishes if the host is down, or another incarnation asked."""
    if message.destination == ADMIN:
        return replace(host, outcomes=(*host.outcomes, message.body)), []
    arrived = for_incarnation(message, host.incarnation)
    if arrived is None:
        return host, []
    return _react(host, arrived)


def tick(host: Host) -> tuple[Host, list[Message]]:
    """The host's clock comes to the machine's deadline."""
    deadline = host.machine.deadline() if host.machine is not None else None
    assert deadline is not None
    return _react(replace(host, ticks=host.ticks - 1, clock=max(host.clock, deadline)), Tick())


def call(host: Host, operation: Any) -> tuple[Host, list[Message]]:
    """The application makes its next call; the admin's is (server, request)."""
    host = replace(host, called=host.called + 1)
    if host.machine is None:
        server, request = operation
        return host, [Message(ADMIN, server, host.called, request)]
    return _react(host, Call(host.called, operation))


def crash(host: Host, keeps_unflushed: bool) -> tuple[Host, list[Message]]:
    """The machine is gone; its disk stays, without what was not flushed if the power was cut."""
    disk = copy_of(getattr(host.machine, "disk", None))
    if disk is not None:
        for topic_partition, log in disk.logs.items():
            log.recover(disk.high_watermarks.get(topic_partition, 0), keeps_unflushed)
    return replace(host, machine=None, disk=disk), []


def restart(host: Host, setup: Setup, name: Address) -> tuple[Host, list[Message]]:
    """A new machine with the disk, which gets its first Tick."""
    machine = setup.machine(name, copy_of(host.disk))
    return _react(replace(host, machine=machine, disk=None, incarnation=host.incarnation + 1), Tick())


def _react(host: Host, event: Event) -> tuple[Host, list[Message]]:
    if host.machine is None:
        return host, []
    host, sent = replace(host, machine=copy_of(host.machine)), []
    assert host.machine is not None
    for effect in host.machine.step(event, host.clock):
        if isinstance(effect, Return):
            host.outcomes = (*host.outcomes, effect.outcome)
        else:
            sent.append(by_incarnation(effect, host.incarnation))
    return host, sent
