"""Named schedules of faults, each with the settings and the workload under which it shows something.

A schedule is drawn from a seed before the workload begins, so the same seed asks for the same faults. Its steps come
one after the other, none before its time, and each as long after the one before as it says. Where a fault has to wait
for what the cluster makes of the last one, a step waits for that (`await`). So a recipe does the same on slow machines
and on fast ones, where it only takes less time. The last step restores the cluster.

Source: KIP-101 and KIP-279 (what a leader that was cut off has is truncated), KIP-106 (unclean election), KIP-966 (the
last replica standing, eligible leader replicas).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from random import Random
from types import MappingProxyType
from typing import Any, NamedTuple

from hwmark.checkers.cluster.faults import Fault

LEAD_IN = 3.0  # s of undisturbed work before the first fault
JITTER = 1.0  # s by which the seed may put a fault off
LOST_SHARE = 0.5  # of what is not flushed, where a power cut is to show

AHEAD, ALONE = Fault("await", ("ahead",)), Fault("await", ("alone",))
MOVED, IN_SYNC = Fault("await", ("moved",)), Fault("await", ("in-sync",))
HEAL, RESUME, RESTART, RESTORE = Fault("heal"), Fault("resume"), Fault("restart"), Fault("restore")


class Step(NamedTuple):
    """A fault, and when it is due: `at` in s since the workload began, and `after` in s since the last one was done."""

    at: float
    fault: Fault
    after: float = 0.0


class Recipe(NamedTuple):
    """What is done to a cluster, `why` it is worth it, and what that takes.

    `settings` are properties of all nodes, `features` levels to format with, `workload` the fields of the workload
    that differ from its defaults. `seconds` is how long the workload has to last for one round of the faults.
    """

    name: str
    why: str
    schedule: Callable[[Random, float], list[Step]]
    settings: Mapping[str, str] = MappingProxyType({})
    features: Mapping[str, int] = MappingProxyType({})
    workload: Mapping[str, Any] = MappingProxyType({})
    needs_network: bool = False
    loses: bool = False
    seconds: float = 20.0


def rounds(*faults: Fault, every: float) -> Callable[[Random, float], list[Step]]:
    """A schedule: these faults in this order, once at least, and again each so many seconds while there is time."""

    def schedule(rng: Random, seconds: float) -> list[Step]:
        steps: list[Step] = []
        at = min(LEAD_IN, seconds / 4)
        while not steps or at + every <= seconds:
            begin = at + rng.uniform(0, min(JITTER, seconds / 8))
            steps += [Step(round(begin, 3), fault) for fault in faults]
            at += every
        return [*steps, Step(seconds, RESTORE)]

    return schedule


def mixed_schedule(rng: Random, seconds: float) -> list[Step]:
    """Faults of all kinds but the disk's, drawn one after the other, each undone after some seconds."""
    return _drawn(rng, seconds, [*PROCESSES, *LINKS])


def kills_schedule(rng: Random, seconds: float) -> list[Step]:
    """The same without those of links, for machines that cannot cut any."""
    return _drawn(rng, seconds, PROCESSES)


# What may happen, and what undoes it.
PROCESSES = [
    (Fault("kill", ("leader",)), RESTART),
    (Fault("kill", ("any",)), RESTART),
    (Fault("kill", ("any", "any")), RESTART),
    (Fault("kill", ("controller",)), RESTART),
    (Fault("terminate", ("any",)), RESTART),
    (Fault("pause", ("leader",)), RESUME),
    (Fault("pause", ("any",)), RESUME),
    (Fault("pause", ("controller",)), RESUME),
]
LINKS = [
    (Fault("isolate", ("leader",)), HEAL),
    (Fault("isolate", ("any",)), HEAL),
    (Fault("isolate", ("controller",)), HEAL),
    (Fault("partition", ("any",), ("controller",)), HEAL),
    (Fault("partition", ("leader",), ("follower",)), HEAL),
    (Fault("one-way", ("any",)), HEAL),
    (Fault("one-way", ("leader",), ("followers",)), HEAL),
    (Fault("unplug", ("any",)), HEAL),
]
HOLD, PAUSE_BETWEEN = (0.5, 3.5), (0.0, 1.5)  # s, shortest and longest
RECOVERY = {"restart": 3.0, "resume": 1.0, "heal": 1.0}  # s that are planned for what undoes a fault, about
CATCH_UP = 8.0  # s after which the next fault comes, whether or not all replicas are in sync again


def _drawn(rng: Random, seconds: float, choices: list[tuple[Fault, Fault]]) -> list[Step]:
    """Faults that are held, however late they come: the plan is for how many of them there is time."""
    steps: list[Step] = []
    at = min(LEAD_IN, seconds / 4)
    for fault, undo in _shuffled(rng, choices):
        hold = round(rng.uniform(*HOLD), 3)
        undone = round(at + hold, 3)
        end = undone + RECOVERY[undo.kind]
        if steps and end > seconds:
            break
        steps += [Step(at, fault), Step(undone, undo, hold), Step(undone, IN_SYNC._replace(amount=CATCH_UP))]
        at = round(end + rng.uniform(*PAUSE_BETWEEN), 3)
    return [*steps, Step(max(seconds, steps[-1].at), RESTORE)]


def _shuffled(rng: Random, choices: list[tuple[Fault, Fault]]) -> Iterator[tuple[Fault, Fault]]:
    """All of them in some order, and then again: short schedules have different faults."""
    while True:
        yield from rng.sample(choices, len(choices))


PLAIN_ACKS_1: Mapping[str, Any] = MappingProxyType({"acks": "1", "idempotent": False})
ACKS_ALL: Mapping[str, Any] = MappingProxyType({"acks": "all"})
SAFE = MappingProxyType({"min.insync.replicas": "2", "unclean.leader.election.enable": "false"})

ALL = (
    Recipe(
        "ack1-partition",
        "with acks=1 a leader that is cut off from the others goes on acknowledging what the next leader never sees",
        rounds(Fault("isolate", ("leader",)), AHEAD, MOVED, HEAL, IN_SYNC, every=12),
        workload=PLAIN_ACKS_1,
        needs_network=True,
        loses=True,
    ),
    Recipe(
        "ack1-kill",
        "with acks=1 a leader acknowledges what its paused followers have not fetched, and is killed",
        rounds(
            Fault("pause", ("followers",)),
            AHEAD._replace(amount=2.0),
            Fault("kill", ("leader",)),
            RESUME,
            MOVED,
            RESTART,
            IN_SYNC,
            every=16,
        ),
        # The followers must still be in the ISR when the leader dies.
        settings=MappingProxyType({"broker.session.timeout.ms": "4000", "replica.lag.time.max.ms": "8000"}),
        workload=PLAIN_ACKS_1,
        loses=True,
    ),
    Recipe(
        "unclean",
        "with unclean election a replica that has missed what the last one in sync acknowledged becomes the leader",
        rounds(
            Fault("kill", ("followers",)),
            ALONE,
            AHEAD,
            Fault("kill", ("isr-last",)),
            Fault("restart", ("rest",)),
            MOVED,
            RESTART,
            IN_SYNC,
            every=22,
        ),
        settings=MappingProxyType({"min.insync.replicas": "1", "unclean.leader.election.enable": "true"}),
        workload=ACKS_ALL,
        loses=True,
        seconds=25.0,
    ),
    Recipe(
        "last-replica",
        "the last replica in sync loses what it has not flushed, and still leads; eligible leader replicas prevent it",
        rounds(
            Fault("terminate", ("followers",)),
            ALONE,
            Fault("kill", ("isr-last",)),
            Fault("lose-unflushed", ("struck",), amount=LOST_SHARE),
            Fault("restart", ("struck",)),
            Fault("restart", ("rest",)),
            IN_SYNC,
            every=22,
        ),
        settings=SAFE,
        workload=ACKS_ALL,
        loses=True,
        seconds=25.0,
    ),
    Recipe(
        "power-fail",
        "all brokers lose their power at once, and with it what none of them has flushed",
        rounds(
            Fault("kill", ("brokers",)),
            Fault("lose-unflushed", ("brokers",), amount=LOST_SHARE),
            RESTART,
            IN_SYNC,
            every=16,
        ),
        settings=SAFE,
        workload=ACKS_ALL,
        loses=True,
    ),
    Recipe(
        "rolling",
        "a rolling restart, as for an upgrade: each broker is stopped properly, and started when it has stopped",
        rounds(
            *(fault for id in "123" for fault in (Fault("terminate", (id,)), RESTART, IN_SYNC)),
            every=20,
        ),
        settings=SAFE,
        workload=ACKS_ALL,
    ),
    Recipe(
        "mixed",
        "processes killed, stopped and paused, links cut: with acks=all and two replicas in sync nothing is lost",
        mixed_schedule,
        settings=SAFE,
        workload=ACKS_ALL,
        needs_network=True,
        seconds=30.0,
    ),
    Recipe(
        "kills",
        "as mixed, without the links, for machines that cannot cut any",
        kills_schedule,
        settings=SAFE,
        workload=ACKS_ALL,
        seconds=30.0,
    ),
)
RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in ALL}
