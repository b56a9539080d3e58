"""`hwmark cluster`: real brokers on this machine, started, looked at, faulted and stopped."""

from __future__ import annotations

import argparse
import secrets
import signal
import sys
import time
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from hwmark.checkers.commands.answers import at_least_one, print_json
from hwmark.checkers.verdict import EXIT_HOLDS, EXIT_UNKNOWN
from hwmark.spec.errors import SpecError

if TYPE_CHECKING:
    from hwmark.checkers.cluster.cluster import Cluster

NEWEST = "4.3.1"
SEEDS = 2**31


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
    fault = verbs.add_parser("fault", help="make the cluster suffer: processes, links, disks; or undo it")
    _configure_fault(fault)
    for verb in (up, status, down, fault):
        configure_place(verb)


def _configure_fault(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "kind",
        metavar="KIND",
        help="kill, terminate, pause, resume, restart, partition, one-way, isolate, unplug, heal, lose-unflushed, "
        "truncate, wipe; await a condition; restore all",
    )
    parser.add_argument(
        "targets",
        nargs="*",
        metavar="TARGET",
        help="node ids, any, controller, leader:TOPIC-0, follower:TOPIC-0, followers:TOPIC-0, isr-last:TOPIC-0, "
        "brokers, controllers, down, paused, struck (by the last fault), rest; for await: moved, alone, ahead, in-sync",
    )
    parser.add_argument(
        "--others",
        nargs="+",
        default=[],
        metavar="WHOM",
        help="the far side of a cut (default: all other nodes), or the partitions of a disk (default: all)",
    )
    parser.add_argument(
        "--amount",
        type=float,
        metavar="X",
        help="lose-unflushed: the share of it that is lost; truncate: how many records; await: seconds at most",
    )
    parser.add_argument("--torn", action="store_true", help="let the disk keep a part of the first batch that is lost")
    parser.add_argument(
        "--seed", type=_seed, metavar="N", help="what is left open is drawn from it (default: a new one, printed first)"
    )


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 on, not {text!r}")
    return int(text)


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
    report, status = {"up": _up, "status": _status, "down": _down, "fault": _fault}[arguments.verb](arguments)
    report |= {"strays": _strays(), "seconds": round(time.perf_counter() - started, 6)}
    if arguments.json:
        print_json(report)
    else:
        _print(report)
    return status


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


def _up(arguments: argparse.Namespace) -> tuple[dict[str, Any], int]:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)  # what was started is stopped again, as at an interrupt from the keyboard
    cluster = create_cluster(
        arguments,
        folder_of(arguments),
        brokers=arguments.brokers,
        controllers=arguments.controllers,
        has_network=arguments.network,
    )
    cluster.start()
    cluster.leave()
    return describe(cluster), EXIT_HOLDS


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _status(arguments: argparse.Namespace) -> tuple[dict[str, Any], int]:
    from hwmark.checkers.cluster.cluster import load

    return describe(load(folder_of(arguments))), EXIT_HOLDS


def _down(arguments: argparse.Namespace) -> tuple[dict[str, Any], int]:
    from hwmark.checkers.cluster.cluster import load
    from hwmark.checkers.cluster.errors import ClusterError
    from hwmark.checkers.cluster.strays import remove_remains

    folder = folder_of(arguments)
    try:
        cluster = load(folder)
    except ClusterError:  # its file is gone or broken; its processes may live
        pids, had_network = remove_remains(folder)
        if not pids and not had_network:
            raise
        report = {"folder": str(folder.resolve()), "nodes": [], "partitions": [], "network": had_network}
        return report | {"stopped": pids}, EXIT_HOLDS
    cluster.stop(signal.SIGKILL if arguments.kill else signal.SIGTERM)
    return describe(cluster), EXIT_HOLDS


def _fault(arguments: argparse.Namespace) -> tuple[dict[str, Any], int]:
    from hwmark.checkers.cluster.cluster import load
    from hwmark.checkers.cluster.faults import Fault, apply, refuse

    targets, others = tuple(arguments.targets), tuple(arguments.others)
    fault = Fault(arguments.kind, targets, others, arguments.amount, arguments.torn)
    refuse(fault)
    cluster = load(folder_of(arguments))
    seed = secrets.randbelow(SEEDS) if arguments.seed is None else arguments.seed
    print(f"seed {seed}", file=sys.stderr, flush=True)
    done = apply(cluster, fault, Random(seed))
    status = EXIT_HOLDS if done.get("met", True) else EXIT_UNKNOWN
    return describe(cluster) | {"done": done, "seed": seed}, status


def _strays() -> list[dict[str, Any]]:
    """The processes of clusters that an earlier command should have stopped."""
    from hwmark.checkers.cluster.strays import lost_processes

    return [{"pid": process.pid, "folder": str(folder)} for process, folder in lost_processes()]


def _print(report: dict[str, Any]) -> None:
    if "done" in report:
        print(_told(report["done"]), file=sys.stderr)
    if "stopped" in report:
        network = ", and removed its network" if report["network"] else ""
        print(
            f"stopped what was left in {report['folder']}: pids {_listed(report['stopped'])}{network}", file=sys.stderr
        )
    else:
        _print_cluster(report)
    for folder in sorted({stray["folder"] for stray in report["strays"]}):
        pids = ", ".join(str(stray["pid"]) for stray in report["strays"] if stray["folder"] == folder)
        print(f"strays of {folder} (pids {pids}); stop them with `hwmark cluster down --dir {folder}`", file=sys.stderr)


def _print_cluster(report: dict[str, Any]) -> None:
    print(f"Kafka {report['version']} in {report['folder']}", file=sys.stderr)
    for node in report["nodes"]:
        pid = f" (pid {node['pid']})" if node["pid"] else ""
        print(f"  {node['role']} {node['id']}: {node['state']}, {node['address']}{pid}", file=sys.stderr)
    for one in report["partitions"]:
        leader = one["leader"] if one["leader"] is not None else "nobody"
        print(f"  {one['topic']}-{one['partition']}: leader {leader}, ISR {one['isr']}", file=sys.stderr)
    if any(node["state"] != "down" for node in report["nodes"]):
        print(report["bootstrap_servers"])


def _told(done: dict[str, Any]) -> str:
    """What a fault did, for people: whom it hit in the first line, and each log that was cut in one of its own."""
    hidden = {"fault", "lost", "wiped"} | ({"nodes"} if done["fault"] in ("await", "restore") else set())
    plain = [f"{name} {_listed(value)}" for name, value in done.items() if name not in hidden]
    lines = [f"{done['fault']}: {', '.join(plain)}"]
    for one in done.get("lost", ()):
        torn = f", {one['torn']} bytes left of a torn batch" if one["torn"] else ""
        lines.append(
            f"  broker {one['node']} lost {one['partition']} from offset {one['end']} to {one['was'] - 1}{torn}"
        )
    lines += [f"  broker {one['node']} lost {_listed(one['partitions'])}" for one in done.get("wiped", ())]
    return "\n".join(lines)


def _listed(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)
