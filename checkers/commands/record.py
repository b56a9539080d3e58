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
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from hwmark.checkers.commands.answers import at_least_one
from hwmark.checkers.commands.cluster import NEWEST, configure_versions, create_cluster, pairs
from hwmark.checkers.verdict import EXIT_HOLDS, EXIT_UNKNOWN, EXIT_VIOLATED, StoppedError
from hwmark.spec.errors import SpecError

if TYPE_CHECKING:
    from hwmark.checkers.cluster.cluster import Cluster
    from hwmark.checkers.cluster.recipes import Recipe
    from hwmark.checkers.record.clients import Clients
    from hwmark.checkers.record.nemesis import Nemesis
    from hwmark.checkers.record.recorder import Outcome
    from hwmark.checkers.record.workload import Workload

SEEDS = 2**31
SETTINGS = {"transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000"}
"""Properties of its own cluster, besides what depends on its size, unless a recipe or --set says otherwise."""
SECRET = re.compile("password|secret|jaas|key|token|credential", re.IGNORECASE)
TOPIC = re.compile(r"[\w.-]{1,200}", re.ASCII)


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--seed", type=_whole, metavar="N", help="what is drawn follows from it (default: a new one)")
    parser.add_argument("-o", "--output", metavar="FILE", help="the history (default: hwmark-SEED.jsonl, a new file)")
    _configure_cluster(parser)
    _configure_workload(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object on standard output instead of text")


def _configure_cluster(parser: argparse.ArgumentParser) -> None:
    both = parser.add_argument_group("of the clients")
    other = parser.add_argument_group("of another cluster")
    other.add_argument(
        "--bootstrap-servers",
        metavar="HOST:PORT,...",
        help="record there; only topics of its own are written to, and no fault is injected (default: start a cluster)",
    )
    both.add_argument(
        "--client",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of librdkafka for all clients: security.protocol=SASL_SSL; may be repeated",
    )
    both.add_argument("--client-config", metavar="FILE", help="a file with such settings, one a line; secrets go here")
    other.add_argument("--keep-topics", action="store_true", help="do not delete the topics at the end")
    own = parser.add_argument_group("of its own cluster")
    configure_versions(own)
    own.add_argument("--brokers", type=at_least_one, default=3, metavar="N", help="how many (default: 3)")
    own.add_argument("--recipe", metavar="R", help="settings, workload and faults that show something; `list` has them")
    own.add_argument(
        "--dir",
        metavar="DIR",
        help="where it keeps its logs, which stay, for `hwmark audit` (default: a new folder, which stays unless the "
        "history is valid)",
    )


def _configure_workload(parser: argparse.ArgumentParser) -> None:
    from hwmark.checkers.record.workload import Workload

    group = parser.add_argument_group("of the workload")
    defaults = Workload()._asdict()

    def add(option: str, field: str, kind: Any, metavar: str, what: str, shown: object = None) -> None:
        told = defaults[field] if shown is None else shown
        told = f"{told:g}" if isinstance(told, float) else told
        group.add_argument(option, dest=field, type=kind, metavar=metavar, help=f"{what} (default: {told})")

    add("--seconds", "seconds", _positive, "S", "how long", "10, or what the recipe needs")
    add("--rate", "rate", _positive, "N", "plain sends a second, of all producers together")
    add("--producers", "producers", _whole, "N", "plain producers")
    group.add_argument("--acks", choices=("all", "1", "0"), help="of plain producers (default: all)")
    group.add_argument(
        "--no-idempotence", dest="idempotent", action="store_false", default=None, help="implied by --acks 1 and 0"
    )
    add("--retries", "retries", _whole, "N", "of plain producers", "0 without idempotence, else the client's")
    add("--patience", "patience_ms", at_least_one, "MS", "after which the outcome of a send counts as unknown")
    add("--message-timeout", "message_timeout_ms", at_least_one, "MS", "after which librdkafka gives a message up")
    add("--transactional", "transactional", _whole, "N", "transactional producers")
    add("--transaction-rate", "transaction_rate", _positive, "N", "transactions a second, of all of them together")
    add("--transaction-timeout", "transaction_timeout_ms", at_least_one, "MS", "of all transactions")
    add("--abort-percent", "abort_percent", _percent, "P", "how many transactions are meant to abort")
    add("--transformers", "transformers", _whole, "N", "members of a group that consume, transform and produce")
    add("--readers", "readers", _whole, "N", "consumers that are assigned all partitions")
    add("--subscribers", "subscribers", _whole, "N", "consumers that subscribe")
    add("--churn", "churn", _not_negative, "S", "after which, on average, a member leaves its group; 0: never")
    add("--topics", "topics", at_least_one, "N", "topics")
    add("--partitions", "partitions", at_least_one, "N", "partitions of each")
    group.add_argument("--replicas", type=at_least_one, metavar="N", help="of each (default: 3, or as many as brokers)")
    group.add_argument(
        "--topic-config",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of the topics: min.insync.replicas=2; may be repeated",
    )
    group.add_argument("--prefix", metavar="P", help="of topics, groups and transactional ids (default: hwmark-SEED)")


def run(arguments: argparse.Namespace) -> int:
    """Record, and judge what was recorded."""
    started = time.perf_counter()
    if arguments.recipe == "list":
        return _list_recipes()
    _refuse_mixed(arguments)
    recipe = _recipe(arguments.recipe)
    seed = secrets.randbelow(SEEDS) if arguments.seed is None else arguments.seed
    workload = workload_of(arguments, recipe, seed)
    clients = _clients(arguments)
    file = _file(arguments.output, seed)
    print(f"seed {seed}", file=sys.stderr, flush=True)
    with _terminated_as_interrupted():
        if arguments.bootstrap_servers:
            outcome = _record_there(arguments, clients, workload, file)
            status = _answer(arguments, outcome, recipe, seed, started)
        else:
            with _folder(arguments.dir) as folder:
                outcome = _record_here(arguments, clients, recipe, workload, file, folder)
                status = _answer(arguments, outcome, recipe, seed, started)
                if arguments.dir is None and status != EXIT_HOLDS:
                    kept = f"{file.with_suffix('')}-logs"
                    shutil.rmtree(kept, ignore_errors=True)
                    shutil.copytree(folder, kept)
                    print(f"the brokers' logs: {kept}", file=sys.stderr)
    return status


# ------------------------------------------------------------ what was asked for


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 on, not {text!r}")
    return int(text)


def _not_negative(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise argparse.ArgumentTypeError(f"expected a number from 0 on, not {text!r}")
    return value


def _positive(text: str) -> float:
    value = _not_negative(text)
    if not value:
        raise argparse.ArgumentTypeError(f"expected a number above 0, not {text!r}")
    return value


def _percent(text: str) -> float:
    value = _not_negative(text)
    if value > 100:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 100, not {text!r}")
    return value


def _refuse_mixed(arguments: argparse.Namespace) -> None:
    """Options of its own cluster say nothing of another one."""
    if not arguments.bootstrap_servers:
        if arguments.keep_topics:
            raise SpecError("--keep-topics is for --bootstrap-servers")
        return
    own = ("--version", arguments.version != NEWEST), ("--kafka-home", arguments.kafka_home), ("--set", arguments.set)
    more = ("--feature", arguments.feature), ("--recipe", arguments.recipe), ("--dir", arguments.dir)
    for option, given in (*own, *more, ("--brokers", arguments.brokers != 3)):
        if given:
            raise SpecError(f"{option} is for a cluster of its own, not for --bootstrap-servers")


def _recipes() -> Mapping[str, Recipe]:
    from hwmark.checkers.cluster.recipes import RECIPES

    known: Mapping[str, Recipe] = RECIPES
    return known


def _recipe(name: str | None) -> Recipe | None:
    if name is None:
        return None
    recipes = _recipes()
    if name not in recipes:
        raise SpecError(f"--recipe {name}: unknown; known are {', '.join(recipes)}")
    return recipes[name]


def _list_recipes() -> int:
    for recipe in _recipes().values():
        print(f"{recipe.name:16} {recipe.why}")
    return EXIT_HOLDS


def workload_of(arguments: argparse.Namespace, recipe: Recipe | None, seed: int) -> Workload:
    """The workload: what the user said, what the recipe needs, and defaults. SpecError if it makes no sense."""
    from hwmark.checkers.record.workload import Workload

    given = {name: vars(arguments)[name] for name in Workload._fields if vars(arguments).get(name) is not None}
    if recipe is not None:
        given = {"seconds": recipe.seconds} | dict(recipe.workload) | given
    if given.get("acks", "all") != "all":
        given.setdefault("idempotent", False)
    prefix = arguments.prefix or (f"hwmark-{seed}" if arguments.bootstrap_servers else "hwmark")
    workload = Workload(**given | {"seed": seed, "prefix": prefix})
    if not TOPIC.fullmatch(prefix) or prefix.strip(".") == "":
        raise SpecError(
            f"--prefix {prefix}: expected up to 200 of the letters, digits, '.', '_' and '-' of topic names"
        )
    if workload.idempotent and workload.acks != "all":
        raise SpecError(f"--acks {workload.acks}: idempotent producers wait for all replicas; add --no-idempotence")
    if not workload.producers + workload.transactional:
        raise SpecError("--producers 0 and --transactional 0: nobody would write anything")
    if not workload.readers + workload.subscribers + workload.transformers:
        raise SpecError("--readers 0, --subscribers 0 and --transformers 0: nobody would read anything")
    return workload


def _clients(arguments: argparse.Namespace) -> Clients:
    """The clients' settings."""
    from hwmark.checkers.record.clients import Clients, settings_of

    settings = settings_of(arguments.client, arguments.client_config)
    clients = Clients(arguments.bootstrap_servers or "", settings)
    clients.admin()  # it says what settings cannot be used
    return clients


def _file(output: str | None, seed: int) -> Path:
    """Where the history goes. SpecError if there is no such folder."""
    if output is not None:
        file = Path(output)
        if not file.parent.is_dir() or file.is_dir():
            raise SpecError(f"--output {output}: expected a file in a folder that exists")
        return file
    names = (Path(f"hwmark-{seed}{more}.jsonl") for more in ("", *(f"-{n}" for n in range(2, 10_000))))
    return next(name for name in names if not name.exists())


# ------------------------------------------------------------ recording


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Take SIGTERM for Ctrl-C: nothing that was started may stay."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


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
                print(f"hwmark: not deleted: {', '.join(left)}", file=sys.stderr)


def _record_here(
    arguments: argparse.Namespace,
    clients: Clients,
    recipe: Recipe | None,
    workload: Workload,
    file: Path,
    folder: Path,
) -> Outcome:
    """Record on a cluster of its own, which is stopped again."""
    in_sync = dict.fromkeys(("min.insync.replicas", "transaction.state.log.min.isr"), str(min(2, arguments.brokers)))
    settings = SETTINGS | in_sync | dict(recipe.settings if recipe else {}) | pairs("--set", arguments.set)
    features = {name: str(level) for name, level in (recipe.features if recipe else {}).items()}
    features |= pairs("--feature", arguments.feature)
    listed = {"set": [f"{n}={v}" for n, v in settings.items()], "feature": [f"{n}={v}" for n, v in features.items()]}
    asked = argparse.Namespace(**vars(arguments) | listed)
    network = recipe is not None and recipe.needs_network
    _say("starting the cluster")
    with create_cluster(asked, folder, brokers=arguments.brokers, has_network=network) as cluster:
        cluster.start()
        nemesis = _nemesis(cluster, recipe, workload) if recipe else None
        public = {name: value for name, value in settings.items() if not SECRET.search(name)}
        about = {
            "ver": cluster.distribution.version,
            "min_isr": public["min.insync.replicas"],
            "unclean": public.get("unclean.leader.election.enable", "false"),
            "nemesis": recipe.name if recipe else "",
            "brokers": arguments.brokers,
            "settings": public,
            "features": features,
        }
        there = clients._replace(bootstrap_servers=cluster.bootstrap_servers)
        _make_topics(arguments, there, workload)
        return _record(arguments, there, workload, nemesis, file, about)


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

    if outcome.problem:
        _say(f"hwmark: {outcome.problem}")
    judged = judge(outcome.file)
    status = judged.status
    if outcome.problem and status != EXIT_VIOLATED:
        status = EXIT_UNKNOWN
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
        judged.print_json(more)
    else:
        _say(judged.text)
        _say(f"{outcome.operations:,} operations in {outcome.seconds:.1f} s: {rate:,.0f} a second")
        for picture in judged.pictures:
            _say(f"drew {picture}")
    return status
