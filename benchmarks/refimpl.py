"""How many steps a second clusters of the reference implementation make, and what their checking costs.

    python benchmarks/refimpl.py [--seconds 5] [--rounds 3]

Rows: the bare cluster under a steady load and with faults; whole runs from seeds with applications, faults, promises,
the closing reads and the history's checkers; the exhaustive search. The median of the rounds, on one process.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from random import Random

from hwmark.checkers.simulation.cluster import Cluster, ClusterSetup
from hwmark.checkers.simulation.plan import draw_plan
from hwmark.checkers.simulation.run import Run
from hwmark.checkers.simulation.scenarios import SCENARIOS
from hwmark.checkers.simulation.schedule import NetworkConfig, TimedSchedule
from hwmark.checkers.simulation.small_cluster import explore
from hwmark.refimpl.config import ClusterConfig, Topic
from hwmark.refimpl.consumer import Assign, ConsumerConfig, Poll
from hwmark.refimpl.producer import ProducerConfig, Send

BROKERS = (1, 2, 3)
CALM, LOSSY = NetworkConfig(), NetworkConfig(1, 10, drop=0.01, duplicate=0.01, reorder=0.01)


def steady_load(seconds: float, network: NetworkConfig = CALM) -> tuple[int, float]:
    """Three brokers, a partition on each, a producer with acks=all and a consumer: (steps, seconds)."""
    topic = Topic("x", tuple((*BROKERS[i:], *BROKERS[:i]) for i in range(3)))
    setup = ClusterSetup(
        ClusterConfig(topics=(topic,), request_timeout=1_000), (ProducerConfig(),), (ConsumerConfig(),)
    )
    schedule = TimedSchedule(Cluster(setup), Random(1), network, keeps_actions=False)
    schedule.run_until(time=2_000)
    partitions = tuple(("x", i) for i in range(3))
    schedule.invoke("consumer-1", Assign(partitions))
    schedule.on_return = lambda returned: None
    value, begin, first = 0, time.perf_counter(), schedule.steps
    while time.perf_counter() - begin < seconds:
        for _ in range(10):
            value += 1
            schedule.invoke("producer-1", Send("x", None, value, value % 3))
        schedule.invoke("consumer-1", Poll(10))
        schedule.run_until(time=schedule.cluster.now + 20)
    return schedule.steps - first, time.perf_counter() - begin


def whole_runs(seconds: float) -> tuple[int, float]:
    """Runs from seeds 0, 1, ... with everything that is checked of them."""
    begin, steps, seed = time.perf_counter(), 0, 0
    while time.perf_counter() - begin < seconds:
        run = Run(draw_plan(seed))
        if run.go() is not None:
            raise SystemExit(f"seed {seed} fails: {run.failure}")
        steps, seed = steps + run.steps, seed + 1
    return steps, time.perf_counter() - begin


def exhaustive(name: str) -> tuple[int, float]:
    """Transitions of a scenario's reduced search."""
    begin = time.perf_counter()
    return explore(SCENARIOS[name]).transitions, time.perf_counter() - begin


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rows: list[tuple[str, Callable[[], tuple[int, float]]]] = [
        ("steady load, steps", lambda: steady_load(options.seconds)),
        ("lossy network, steps", lambda: steady_load(options.seconds, LOSSY)),
        ("whole runs, all checks, steps", lambda: whole_runs(options.seconds)),
        ("exhaustive, transitions", lambda: exhaustive("the leader of three replicas dies")),
    ]
    print(f"{'':32} {'steps':>10} {'a second':>10}")
    for name, measure in rows:
        measured = [measure() for _ in range(options.rounds)]
        rate = statistics.median(steps / seconds for steps, seconds in measured)
        print(f"{name:32} {measured[-1][0]:10,} {rate:10,.0f}")


if __name__ == "__main__":
    main()
