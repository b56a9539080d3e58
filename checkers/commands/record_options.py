"""What `hwmark record` can be asked for: its arguments, and what they come to. SpecError for what makes no sense."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwmark.checkers.commands.answers import at_least_one
from hwmark.checkers.commands.cluster import NEWEST, configure_versions
from hwmark.spec.errors import SpecError

if TYPE_CHECKING:
    from hwmark.checkers.cluster.recipes import Recipe
    from hwmark.checkers.record.clients import Clients
    from hwmark.checkers.record.workload import Workload

TOPIC = re.compile(r"[\w.-]{1,200}", re.ASCII)
SERVER = re.compile(r"(\w+://)?([^\s,:/@\[\]]+|\[[0-9a-fA-F:.]+(%\w+)?\]):(?P<port>\d{1,5})", re.ASCII)
PORT_MAX = 65_535


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.epilog = (
        "Without --bootstrap-servers it starts brokers on this machine, and stops them again. Ctrl-C ends the workload "
        "early: what was written is read and judged all the same. Exit status: 0 valid, 1 invalid, 2 unusable input, "
        "3 unknown, as something is missing from the history."
    )
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
        help="where it keeps its logs, which stay, for `hwmark audit` (default: a new folder, which stays if the "
        "history is not valid)",
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


# ------------------------------------------------------------ what they come to


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


def refuse_mixed(arguments: argparse.Namespace) -> None:
    """Options of its own cluster say nothing of another one."""
    if arguments.bootstrap_servers is None:
        if arguments.keep_topics:
            raise SpecError("--keep-topics is for --bootstrap-servers")
        return
    refuse_no_servers(arguments.bootstrap_servers)
    own = ("--version", arguments.version != NEWEST), ("--kafka-home", arguments.kafka_home), ("--set", arguments.set)
    more = ("--feature", arguments.feature), ("--recipe", arguments.recipe), ("--dir", arguments.dir)
    for option, given in (*own, *more, ("--brokers", arguments.brokers != 3)):
        if given:
            raise SpecError(f"{option} is for a cluster of its own, not for --bootstrap-servers")


def refuse_no_servers(text: str) -> None:
    """The client takes port 9092 where there is none, and the rest of a division where it is too large."""
    for server in text.split(","):
        found = SERVER.fullmatch(server.strip())
        if found is None or not 0 < int(found["port"]) <= PORT_MAX:
            what = "expected HOST:PORT, or several with commas between them"
            raise SpecError(f"--bootstrap-servers {text}: {what}" + (f", not {server!r}" if server != text else ""))


def recipes() -> Mapping[str, Recipe]:
    """All there are, by name."""
    from hwmark.checkers.cluster.recipes import RECIPES

    known: Mapping[str, Recipe] = RECIPES
    return known


def recipe_of(name: str | None) -> Recipe | None:
    """The recipe of this name, None for none. SpecError for one that there is not."""
    if name is None:
        return None
    known = recipes()
    if name not in known:
        raise SpecError(f"--recipe {name}: unknown; known are {', '.join(known)}")
    return known[name]


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


def clients_of(arguments: argparse.Namespace, workload: Workload) -> Clients:
    """The clients' settings. RecordingError for those that cannot be used."""
    from hwmark.checkers.record.clients import Clients, settings_of

    settings = settings_of(arguments.client, arguments.client_config)
    clients = Clients(arguments.bootstrap_servers or "", settings)
    clients.try_all(workload)
    return clients


def file_of(output: str | None, seed: int) -> Path:
    """Where the history goes; what is in that file is written over. SpecError if nothing can be written there."""
    if output is None:
        return unused(f"hwmark-{seed}", ".jsonl")
    file = Path(output)
    if not file.parent.is_dir() or file.is_dir():
        raise SpecError(f"--output {output}: expected a file in a folder that exists")
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        raise SpecError(f"--output {output}: not allowed to write there")
    return file


def unused(name: str, suffix: str = "") -> Path:
    """A path that nobody uses, with a number if need be."""
    paths = (Path(f"{name}{more}{suffix}") for more in ("", *(f"-{n}" for n in range(2, 10_000))))
    return next(path for path in paths if not path.exists())
