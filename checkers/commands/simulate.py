"""`hwmark simulate`: clusters of the reference implementation under faults, everything drawn from a seed."""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from hwmark.checkers.commands.answers import at_least_one, keep, print_json, require_folder
from hwmark.checkers.verdict import EXIT_HOLDS, EXIT_UNKNOWN, EXIT_VIOLATED
from hwmark.spec.errors import SpecError

if TYPE_CHECKING:
    from hwmark.checkers.simulation.run import Run

T = TypeVar("T")
SEEDS = 2**31
WORDS = {"true": True, "on": True, "false": False, "off": False}


class Outcome(NamedTuple):
    """What became of a seed; all but seed and steps are None if every promise was kept."""

    seed: int
    steps: int
    checker: str | None = None
    promise: str | None = None
    why: str | None = None


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--seed", type=_seed, metavar="N", help="the first run's seed (default: a new one, printed first)"
    )
    parser.add_argument(
        "--runs", type=at_least_one, default=1, metavar="N", help="seeds one after the other (default: 1)"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a version or setting instead of what the seed draws: kip_966=on, min_insync_replicas=2; may be repeated",
    )
    parser.add_argument(
        "--trace", metavar="FILE", help="write the run, the first that broke a promise if one did, for replay and draw"
    )
    parser.add_argument("--history", metavar="FILE", help="write what its clients saw, for `hwmark history`")
    parser.add_argument("--workers", type=at_least_one, metavar="N", help="processes (default: as many as processors)")
    parser.add_argument("--json", action="store_true", help="print one JSON object on standard output instead of text")


def run(arguments: argparse.Namespace) -> int:
    """Run the seeds; whether one of them broke a promise is the exit status."""
    started = time.perf_counter()
    changes = _changes(arguments.set)
    _require_files(arguments.trace, arguments.history)
    seed = secrets.randbelow(SEEDS) if arguments.seed is None else arguments.seed
    print(f"seed {seed}", file=sys.stderr, flush=True)
    outcomes, is_complete = _simulate(range(seed, seed + arguments.runs), changes, arguments.workers)
    broken = [outcome for outcome in outcomes if outcome.promise is not None]
    kept = _keep(broken or outcomes[-1:], changes, arguments.trace, arguments.history)
    verdict, status = ("holds", EXIT_HOLDS) if is_complete else ("unknown", EXIT_UNKNOWN)
    if broken:
        verdict, status = "violated", EXIT_VIOLATED
    steps, seconds = sum(outcome.steps for outcome in outcomes), round(time.perf_counter() - started, 6)
    if arguments.json:
        failures = [outcome._asdict() for outcome in broken]
        report = {"seed": seed, "runs": len(outcomes), "steps": steps, "verdict": verdict, "failures": failures}
        print_json(report | {"kept": kept, "seconds": seconds})
    else:
        for outcome in broken:
            print(f"seed {outcome.seed}, {outcome.steps:,} steps: {outcome.checker}: {outcome.promise}: {outcome.why}")
        stopped = "" if is_complete else f"; stopped before all {arguments.runs} were over"
        told = f"{len(broken)} of {len(outcomes)} runs broke a promise, {steps:,} steps, {seconds:.1f} s{stopped}"
        print(told, file=sys.stderr)
    return status


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 on, not {text!r}")
    return int(text)


def _changes(settings: list[str]) -> dict[str, Any]:
    """Fields of a ClusterConfig by NAME=VALUE; SpecError for what is none."""
    from hwmark.refimpl.config import ClusterConfig

    defaults = {name: value for name, value in ClusterConfig()._asdict().items() if isinstance(value, int)}
    changes: dict[str, Any] = {}
    for setting in settings:
        name, _, text = setting.partition("=")
        if name not in defaults:
            raise SpecError(f"--set {setting}: there is no {name!r}; known are {', '.join(defaults)}")
        is_flag = isinstance(defaults[name], bool)
        value = WORDS.get(text.lower()) if is_flag else int(text) if text.isdecimal() and int(text) else None
        if value is None:
            expected = "on or off" if is_flag else "a whole number from 1 on"
            raise SpecError(f"--set {setting}: expected {expected}, not {text!r}")
        changes[name] = value
    return changes


def _require_files(trace: str | None, history: str | None) -> None:
    """Refuse, before anything happens, what cannot be written after it."""
    for option, file in (("--trace", trace), ("--history", history)):
        require_folder(option, file and Path(file).parent)
        if file and Path(file).is_dir():
            raise SpecError(f"{option} {file}: is a directory")
    if trace and history and Path(trace).resolve() == Path(history).resolve():
        raise SpecError(f"--history {history}: the trace is written there")


def _simulate(seeds: range, changes: Mapping[str, Any], workers: int | None) -> tuple[list[Outcome], bool]:
    """The outcomes in the order of their seeds, and whether these are all: somebody may stop it before."""
    from hwmark.checkers.simulation.processes import in_processes

    count = seeds.stop - seeds.start  # may be more than a len can be
    outcomes: list[Outcome] = []
    judged = in_processes(partial(_judge, changes=changes), seeds, min(workers or os.cpu_count() or 1, count))
    try:
        for _, outcome in _progress(judged, count):
            outcomes.append(outcome)
    except KeyboardInterrupt:
        return sorted(outcomes), False
    return sorted(outcomes), True


def _judge(seed: int, changes: Mapping[str, Any]) -> Outcome:
    run = _run(seed, changes)
    failure = run.failure
    if failure is None:
        return Outcome(seed, run.steps)
    return Outcome(seed, run.steps, failure.checker, failure.promise, failure.why)


def _run(seed: int, changes: Mapping[str, Any]) -> Run:
    from hwmark.checkers.simulation.run import run_seed

    return run_seed(seed, **changes)


def _keep(outcomes: list[Outcome], changes: Mapping[str, Any], trace: str | None, history: str | None) -> int | None:
    """Let the first of the runs happen once more, and write it down; its seed, None if there is nothing to write."""
    if not outcomes or (trace is None and history is None):
        return None
    from hwmark.checkers.simulation.export import export_run

    seed = outcomes[0].seed
    run = _run(seed, changes)
    if trace is not None:
        violated, witness = (run.failure.promise, run.failure.witness) if run.failure else (None, None)
        actions = run.schedule.actions or []
        keep(trace, export_run(run.plan.setup, actions, seed=seed, violated=violated, witness=witness or None))
    if history is not None:
        try:
            run.recorder.write(history)
        except OSError as error:
            raise SpecError(f"--history {history}: {(error.strerror or str(error)).lower()}") from None
    return seed


def _progress(outcomes: Iterator[T], total: int) -> Iterator[T]:
    """The outcomes, with a bar on a terminal."""
    if not sys.stderr.isatty() or total == 1:
        yield from outcomes
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(outcomes, "simulating", total, console=Console(stderr=True), transient=True)
