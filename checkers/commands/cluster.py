"""`hwmark cluster`: real brokers on this machine, started, looked at, faulted and stopped."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwmark.checkers.commands.answers import at_least_one, print_json
from hwmark.checkers.verdict import EXIT_HOLDS
from hwmark.spec.errors import SpecError

if TYPE_CHECKING:
    from hwmark.checkers.cluster.cluster import Cluster

NEWEST = "4.3.1"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of each thing that can be done."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="WHAT")
    up = verbs.add_parser("up", help="start a cluster, and leave it running until `hwmark cluster down`")
    configure_versions(up)
    up.add_argument("--brokers", type=at_least_one, default=3, metavar="N", help="how many brokers (default: 3)")
    up.add_argument("--controllers", type=at_least_one, default=1, metavar="N", help="how many (default: 1)")
    up.add_argument(
        "--network",
        action="store_true",
        help="give it a network of its own, so that links can be cut (needs Linux and root)",
    )
    status = verbs.add_parser("status", help="say which nodes are up, and who leads what")
    down = verbs.add_parser("down", help="stop the cluster; its log directories stay, for `hwmark audit`")
    down.add_argument("--kill", action="store_true", help="by kill -9, as a power cut does")
    for verb in (up, status, down):
        configure_place(verb)


def configure_versions(parser: argparse._ActionsContainer) -> None:
    """Declare which Kafka, and how it is set."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--version", default=NEWEST, metavar="V", help=f"a version of Kafka (default: {NEWEST})")
    which.add_argument("--kafka-home", metavar="DIR", help="an existing distribution instead")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a property of all nodes: min.insync.replicas=2; may be repeated",
    )
    parser.add_argument(
        "--feature",
        action="append",
        default=[],
        metavar="NAME=LEVEL",
        help="a feature to format with, instead of the version's level: eligible.leader.replicas.version=0",
    )


def configure_place(parser: argparse.ArgumentParser) -> None:
    """Declare where the cluster is, and how to answer."""
    parser.add_argument("--dir", metavar="DIR", help="the cluster's folder (default: one of the user's own)")
    parser.add_argument("--json", action="store_true", help="print one JSON object on standard output instead of text")


def run(arguments: argparse.Namespace) -> int:
    """Do it, and say how the cluster is."""
    started = time.perf_counter()
    cluster = {"up": _up, "status": _status, "down": _down}[arguments.verb](arguments)
    report = describe(cluster) | {"seconds": round(time.perf_counter() - started, 6)}
    if arguments.json:
        print_json(report)
    else:
        _print(cluster, report)
    return EXIT_HOLDS


def folder_of(arguments: argparse.Namespace) -> Path:
    """The folder that is meant."""
    from hwmark.checkers.cluster.cluster import default_folder

    return Path(arguments.dir) if arguments.dir else default_folder()


def create_cluster(arguments: argparse.Namespace, folder: Path, **more: Any) -> Cluster:
    """A cluster as the arguments of `configure_versions` say, still to be started."""
    from hwmark.checkers.cluster.cluster import create
    from hwmark.checkers.cluster.distribution import of_home, resolve

    distribution = of_home(arguments.kafka_home) if arguments.kafka_home else resolve(arguments.version)
    settings, features = pairs("--set", arguments.set), pairs("--feature", arguments.feature)
    wrong = [name for name, level in features.items() if not level.isdecimal()]
    if wrong:
        raise SpecError(f"--feature {wrong[0]}={features[wrong[0]]}: expected a level, a whole number from 0 on")
    levels = {name: int(level) for name, level in features.items()}
    return create(folder, distribution, settings=settings, features=levels, **more)


def pairs(option: str, texts: list[str]) -> dict[str, str]:
    """NAME=VALUE, by name; the last one counts. SpecError for what is none."""
    found = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not name.strip():
            raise SpecError(f"{option} {text}: expected NAME=VALUE")
        found[name.strip()] = value.strip()
    return found


def describe(cluster: Cluster) -> dict[str, Any]:
    """The cluster as a JSON object."""
    nodes = [
        {
            "id": node.id,
            "role": node.role,
            "state": node.state(),
            "address": node.address,
            "pid": node.pid if node.process() else None,
            "log_directory": str(node.log_directory),
        }
        for node in cluster.nodes
    ]
    return {
        "folder": str(cluster.folder),
        "version": cluster.distribution.version,
        "bootstrap_servers": cluster.bootstrap_servers,
        "network": cluster.network is not None,
        "nodes": nodes,
        "partitions": cluster.partitions(),
    }


def _up(arguments: argparse.Namespace) -> Cluster:
    cluster = create_cluster(
        arguments,
        folder_of(arguments),
        brokers=arguments.brokers,
        controllers=arguments.controllers,
        has_network=arguments.network,
    )
    cluster.start()
    return cluster


def _status(arguments: argparse.Namespace) -> Cluster:
    from hwmark.checkers.cluster.cluster import load

    return load(folder_of(arguments))


def _down(arguments: argparse.Namespace) -> Cluster:
    cluster = _status(arguments)
    cluster.stop(signal.SIGKILL if arguments.kill else signal.SIGTERM)
    return cluster


def _print(cluster: Cluster, report: dict[str, Any]) -> None:
    print(f"Kafka {report['version']} in {report['folder']}", file=sys.stderr)
    for node in report["nodes"]:
        pid = f" (pid {node['pid']})" if node["pid"] else ""
        print(f"  {node['role']} {node['id']}: {node['state']}, {node['address']}{pid}", file=sys.stderr)
    for one in report["partitions"]:
        leader = one["leader"] if one["leader"] is not None else "nobody"
        print(f"  {one['topic']}-{one['partition']}: leader {leader}, ISR {one['isr']}", file=sys.stderr)
    if any(node["state"] != "down" for node in report["nodes"]):
        print(cluster.bootstrap_servers)
