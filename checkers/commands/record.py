"""`hwmark record`: a history of a real cluster, its own or any other, and its verdict."""

from __future__ import annotations

import argparse
import contextlib
import re
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from hwmark.checkers.commands.cluster import create_cluster, pairs
from hwmark.checkers.commands.record_options import (
    clients_of,
    configure,
    file_of,
    recipe_of,
    recipes,
    refuse_mixed,
    unused,
    workload_of,
)
from hwmark.checkers.verdict import EXIT_HOLDS, EXIT_UNKNOWN, EXIT_VIOLATED, StoppedError

if TYPE_CHECKING:
    from hwmark.checkers.cluster.cluster import Cluster
    from hwmark.checkers.cluster.recipes import Recipe
    from hwmark.checkers.record.clients import Clients
    from hwmark.checkers.record.nemesis import Nemesis
    from hwmark.checkers.record.recorder import Outcome
    from hwmark.checkers.record.workload import Workload

__all__ = ["configure", "run"]

SEEDS = 2**31
SETTINGS = {"transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000"}
"""Properties of its own cluster, besides what depends on its size, unless a recipe or --set says otherwise."""
SECRET = re.compile("password|secret|jaas|key|token|credential", re.IGNORECASE)


def run(arguments: argparse.Namespace) -> int:
    """Record, and judge what was recorded."""
    started = time.perf_counter()
    if arguments.recipe == "list":
        return _list_recipes()
    refuse_mixed(arguments)
    recipe = recipe_of(arguments.recipe)
    seed = secrets.randbelow(SEEDS) if arguments.seed is None else arguments.seed
    workload = workload_of(arguments, recipe, seed)
    clients, file = clients_of(arguments, workload), file_of(arguments.output, seed)
    _say(f"seed {seed}")
    with _ended_as_interrupted():
        if arguments.bootstrap_servers:
            outcome = _record_there(arguments, clients, workload, file)
            return _answer(arguments, outcome, recipe, seed, started)
        with _folder(arguments.dir) as folder:
            outcome = _record_here(arguments, clients, recipe, workload, file, folder)
            status = _answer(arguments, outcome, recipe, seed, started)
            if arguments.dir is None and status != EXIT_HOLDS:
                _keep(folder, unused(f"{file.with_suffix('')}-logs"))
    return status


def _list_recipes() -> int:
    for recipe in recipes().values():
        print(f"{recipe.name:16} {recipe.why}")
    return EXIT_HOLDS


def _keep(folder: Path, kept: Path) -> None:
    """Keep the brokers' logs for an audit."""
    try:
        shutil.move(folder, kept)
        _say(f"the brokers' logs: {kept}")
    except OSError as error:  # the verdict stands
        shutil.rmtree(kept, ignore_errors=True)
        _say(f"hwmark: {kept}: the brokers' logs cannot be kept: {error.strerror or 'not all of them can be copied'}")


# ------------------------------------------------------------ recording


@contextlib.contextmanager
def _ended_as_interrupted() -> Iterator[None]:
    """Take SIGTERM, and the terminal's end, for Ctrl-C: nothing that was started may stay."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _folder(given: str | None) -> Iterator[Path]:
    """The cluster's folder: the one that was given, or one that is removed again, unless an error names it."""
    from hwmark.checkers.cluster.errors import ClusterError

    if given is not None:
        yield Path(given)
        return
    scratch, is_named = Path(tempfile.mkdtemp(prefix="hwmark-")), False
    try:
        yield scratch / "cluster"
    except ClusterError as error:
        is_named = f"{scratch}/" in str(error)
        raise
    finally:
        if not is_named:
            shutil.rmtree(scratch, ignore_errors=True)


def _record_there(arguments: argparse.Namespace, clients: Clients, workload: Workload, file: Path) -> Outcome:
    """Record on somebody else's cluster; the topics are deleted again."""
    from hwmark.checkers.record.closing import groups_of
    from hwmark.checkers.record.topics import connect, delete

    brokers = len(connect(clients).brokers)
    _make_topics(arguments, clients, workload)
    try:
        return _record(arguments, clients, workload, None, file, {"brokers": brokers})
    finally:
        if not arguments.keep_topics:
            left = delete(clients, workload.input_topics + workload.output_topics, groups_of(workload))
            if left:
                _say(f"hwmark: not deleted: {', '.join(left)}")


def _record_here(
    arguments: argparse.Namespace,
    clients: Clients,
    recipe: Recipe | None,
    workload: Workload,
    file: Path,
    folder: Path,
) -> Outcome:
    """Record on a cluster of its own, which is stopped again. ClusterError if nothing was recorded."""
    from hwmark.checkers.cluster.errors import ClusterError

    in_sync = dict.fromkeys(("min.insync.replicas", "transaction.state.log.min.isr"), str(min(2, arguments.brokers)))
    settings = SETTINGS | in_sync | dict(recipe.settings if recipe else {})
    features = recipe.features if recipe else {}
    has_network = recipe is not None and recipe.needs_network
    _say("starting the cluster")
    outcome = None
    try:
        with create_cluster(
            arguments, folder, settings=settings, features=features, brokers=arguments.brokers, has_network=has_network
        ) as cluster:
            cluster.start()
            nemesis = _nemesis(cluster, recipe, workload) if recipe else None
            about = _about(cluster, recipe, arguments.brokers)
            there = clients._replace(bootstrap_servers=cluster.bootstrap_servers)
            _make_topics(arguments, there, workload)
            outcome = _record(arguments, there, workload, nemesis, file, about)
            outcome = outcome._replace(problem=outcome.problem or _ended(cluster))
    except ClusterError as error:  # it cannot be stopped as it should be, as on a full disk
        if outcome is None:
            raise
        outcome = outcome._replace(problem=outcome.problem or str(error))
    return outcome


def _about(cluster: Cluster, recipe: Recipe | None, brokers: int) -> dict[str, Any]:
    """What a history says of its cluster."""
    public = {name: value for name, value in cluster.settings.items() if not SECRET.search(name)}
    return {
        "ver": cluster.distribution.version,
        "min_isr": public["min.insync.replicas"],
        "unclean": public.get("unclean.leader.election.enable", "false"),
        "nemesis": recipe.name if recipe else "",
        "brokers": brokers,
        "settings": public,
        "features": cluster.features,
    }


def _ended(cluster: Cluster) -> str | None:
    """Who ended though nobody stopped it, as after a disk that filled up."""
    from hwmark.checkers.cluster.node import DOWN

    ended = [f"{node.name} ended: {node.last_words()}" for node in cluster.nodes if node.state() == DOWN]
    return "; ".join(ended) or None


def _nemesis(cluster: Cluster, recipe: Recipe, workload: Workload) -> Nemesis:
    from hwmark.checkers.cluster.faults import apply
    from hwmark.checkers.record.nemesis import Nemesis

    steps = recipe.schedule(Random(f"{workload.seed}/schedule"), workload.seconds)
    return Nemesis(cluster, steps, workload.seed, apply)


def _make_topics(arguments: argparse.Namespace, clients: Clients, workload: Workload) -> None:
    from hwmark.checkers.record.topics import create

    topics, config = workload.input_topics + workload.output_topics, pairs("--topic-config", arguments.topic_config)
    create(clients, topics, workload.partitions, arguments.replicas, config)


def _record(
    arguments: argparse.Namespace,
    clients: Clients,
    workload: Workload,
    nemesis: Nemesis | None,
    file: Path,
    about: dict[str, Any],
) -> Outcome:
    """Record on topics that have been made."""
    from hwmark.checkers.record.progress import Progress
    from hwmark.checkers.record.recorder import run as record
    from hwmark.checkers.record.topics import require_transactions

    require_transactions(clients, workload)
    _say(f"recording to {file}")
    config = pairs("--topic-config", arguments.topic_config)
    public = {name: value for name, value in config.items() if not SECRET.search(name)}
    names = sorted(clients.settings)
    with Progress() as progress:
        try:
            return record(clients, workload, nemesis, file, about | {"topic": public, "client": names}, progress)
        except KeyboardInterrupt:
            raise StoppedError(f"{file} has what was recorded until then") from None


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


# ------------------------------------------------------------ the answer


def _answer(arguments: argparse.Namespace, outcome: Outcome, recipe: Recipe | None, seed: int, started: float) -> int:
    """The verdict of the recording, told; the exit status."""
    from hwmark.checkers.record.judgement import judge

    judged = judge(outcome.file)
    if judged.not_drawn:
        _say(f"hwmark: {judged.not_drawn}")
    status = judged.status
    is_unknown = bool(outcome.problem) and status != EXIT_VIOLATED
    status = EXIT_UNKNOWN if is_unknown else status
    rate = outcome.operations / outcome.seconds if outcome.seconds else 0.0
    if arguments.json:
        more = {
            "seed": seed,
            "recipe": recipe.name if recipe else None,
            "linearizable": judged.linearizable,
            "pictures": [str(picture) for picture in judged.pictures],
            "operations": outcome.operations,
            "workload_seconds": round(outcome.seconds, 3),
            "operations_per_second": round(rate, 1),
            "problem": outcome.problem,
            "stopped": outcome.is_stopped,
            "seconds": round(time.perf_counter() - started, 6),
        }
        judged.print_json(more | ({"valid": None} if is_unknown else {}))
    else:
        _say(judged.text)
        _say(f"{outcome.operations:,} operations in {outcome.seconds:.1f} s: {rate:,.0f} a second")
        for picture in judged.pictures:
            _say(f"drew {picture}")
    if outcome.problem:  # the last word
        _say(f"hwmark: {'unknown: ' if is_unknown else ''}{outcome.problem}")
    return status
