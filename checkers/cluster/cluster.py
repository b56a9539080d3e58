"""A cluster of real brokers on this machine: started, looked at, stopped.

All of it is in one folder: what it consists of (`cluster.json`), and for each node its properties, its output and its
log directory. So one command can start it and another one stop it. Nothing of it outlives `stop`, and what was left
behind by a command that was killed is found by its processes, which carry the folder's name on their command lines.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
from hwmark.checkers.cluster.distribution import Distribution, archive_classes, formatted
from hwmark.checkers.cluster.errors import ClusterError
from hwmark.checkers.cluster.java import Java, find_java
from hwmark.checkers.cluster.network import Network, why_not
from hwmark.checkers.cluster.node import BROKER, CONTROLLER, DOWN, UP, Node
from hwmark.checkers.cluster.ports import free_ports, listens
from hwmark.checkers.cluster.settings import properties, random_id, write_properties
from hwmark.checkers.cluster.strays import FILE, MARK, STOP_TIMEOUT, refuse_strays, stop_processes, strays
from hwmark.checkers.cluster.views import agreed, views

FIRST_CONTROLLER = 101  # brokers count from 1
NODES_MAX = 100  # of each role: ids are the last part of addresses, and 254 is this machine's
PORT = 9092  # of every node, where each has an address of its own
START_TIMEOUT = 60.0  # s
POLL = 0.05  # s between looks


def default_folder() -> Path:
    """Where `hwmark cluster` keeps its cluster: $XDG_STATE_HOME/hwmark/cluster."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "hwmark" / "cluster"


@dataclass
class Cluster:
    """Nodes with their settings; a context manager that stops them at its end."""

    folder: Path
    distribution: Distribution
    java: Java
    nodes: list[Node]
    settings: dict[str, str] = field(default_factory=dict)
    features: dict[str, int] = field(default_factory=dict)
    id: str = field(default_factory=random_id)
    network: Network | None = None  # of its own, with links that can be cut
    struck: list[int] = field(default_factory=list)  # whom the last fault hit, by id
    owner: tuple[int, float] | None = None  # the process that is to stop it: its pid, and when it began

    @property
    def brokers(self) -> list[Node]:
        """The brokers, by id."""
        return [node for node in self.nodes if node.role == BROKER]

    @property
    def controllers(self) -> list[Node]:
        """The controllers of the quorum, by id."""
        return [node for node in self.nodes if node.role == CONTROLLER]

    @property
    def bootstrap_servers(self) -> str:
        """What clients connect to."""
        return ",".join(broker.address for broker in self.brokers)

    def node(self, id: int) -> Node:
        """A node by its id. ClusterError if there is none."""
        for node in self.nodes:
            if node.id == id:
                return node
        raise ClusterError(f"there is no node {id}; known are {', '.join(str(node.id) for node in self.nodes)}")

    # ------------------------------------------------------------ starting and stopping

    def start(self) -> None:
        """Format and start all nodes, and wait until the brokers serve. ClusterError, with all of them stopped."""
        with _alone_in(self.folder):
            refuse_strays(self.folder)
            archive_classes(self.distribution, self.java)
            try:
                if self.network is not None:
                    self.network.create(node.id for node in self.nodes)
                for node in self.nodes:
                    self.format(node)
                for node in (*self.controllers, *self.brokers):
                    self.start_node(node)
                self.await_brokers()
            except BaseException:
                self.stop(signal.SIGKILL)
                raise

    def format(self, node: Node) -> None:
        """Give a node an empty log directory, as on a new disk, and its properties."""
        template = formatted(self.distribution, self.java, self.features)
        meta = {"version": "1", "cluster.id": self.id, "node.id": str(node.id), "directory.id": random_id()}
        try:
            node.folder.mkdir(parents=True, exist_ok=True)
            shutil.copytree(template, node.log_directory)
            write_properties(node.log_directory / "meta.properties", meta)
            write_properties(node.folder / "server.properties", properties(node, self.nodes, self.settings))
        except (OSError, shutil.Error) as error:
            raise ClusterError(f"{node.folder}: cannot be written: {error.strerror or error}") from None

    def start_node(self, node: Node) -> None:
        """Start a node that is down; it goes on with its log directory."""
        archive = self.distribution.class_archive(self.java)
        options = [f"{MARK}{self.folder}"]
        if archive.exists():
            options.append(f"-XX:SharedArchiveFile={archive}")
        arguments = "kafka.Kafka", str(node.folder / "server.properties")
        command = self.distribution.command(self.java, *arguments, options=tuple(options))
        node.start(command if self.network is None else self.network.command(node.id, command))
        self.save()

    def await_brokers(self, brokers: Iterable[Node] | None = None, timeout: float = START_TIMEOUT) -> None:
        """Wait until these brokers serve, or all. ClusterError if one of them or a controller ended, or time is up."""
        expected, deadline = list(self.brokers if brokers is None else brokers), time.monotonic() + timeout
        while not self.serve(expected):
            self.check_alive((*self.controllers, *expected))
            if time.monotonic() > deadline:
                names = ", ".join(broker.name for broker in expected)
                raise ClusterError(f"{names} did not come up within {timeout:.0f} s; see {expected[0].output}")
            time.sleep(POLL)

    def serve(self, brokers: list[Node]) -> bool:
        """Whether these listen, and the controller counts them among the live ones."""
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        if not brokers:
            return True
        if not all(broker.state() == UP and listens(broker.host, broker.port) for broker in brokers):
            return False
        admin = AdminClient({"bootstrap.servers": brokers[0].address, "log_level": 0})
        try:
            return {broker.id for broker in brokers} <= admin.list_topics(timeout=1).brokers.keys()
        except KafkaException:
            return False

    def check_alive(self, nodes: Iterable[Node]) -> None:
        """ClusterError, with what it said last, for a node that ended."""
        for node in nodes:
            if node.state() == DOWN:
                raise ClusterError(f"{node.name} ended: {node.last_words()} (see {node.output})")

    def stop_nodes(self, nodes: Iterable[Node], how: signal.Signals = signal.SIGTERM) -> list[int]:
        """Stop nodes, all at once, and wait. The ids of those that took too long, and were killed in the end."""
        living = {node.id: process for node in nodes if (process := node.process()) is not None}
        late = stop_processes(living.values(), how, STOP_TIMEOUT)
        return [id for id, process in living.items() if process in late]

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop all nodes, brokers first, and whatever else of it lives; the folder stays."""
        for group in (self.brokers, self.controllers):
            self.stop_nodes(group, how)
        stop_processes(strays(self.folder), signal.SIGKILL, STOP_TIMEOUT)
        if self.network is not None:
            self.network.delete()
        if self.folder.is_dir():
            self.save()

    def leave(self) -> None:
        """Let it run on when this process has ended; another command will stop it."""
        self.owner = None
        self.save()

    def partitions(self) -> list[dict[str, Any]]:
        """Who leads and who is in the ISR, by topic and partition, as most brokers say; none if none answers."""
        found = []
        for name, seen in agreed(views(self)).items():
            topic, _, id = name.rpartition("-")
            found.append({"topic": topic, "partition": int(id), "leader": seen.leader, "isr": list(seen.isr)})
        return sorted(found, key=itemgetter("topic", "partition"))

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop(signal.SIGTERM if error is None else signal.SIGKILL)

    # ------------------------------------------------------------ its file

    def save(self) -> None:
        """Write what it consists of, for the next command."""
        known: dict[str, Any] = {
            "version": self.distribution.version,
            "libs": str(self.distribution.libs),
            "cache": str(self.distribution.cache),
            "id": self.id,
            "settings": self.settings,
            "features": self.features,
            "java": list(self.java),
            "has_network": self.network is not None,
            "struck": self.struck,
            "owner": self.owner,
            "nodes": [node.to_json() for node in self.nodes],
        }
        scratch = self.folder / (FILE + ".new")
        try:
            scratch.write_text(json.dumps(known, indent=1) + "\n")
            scratch.replace(self.folder / FILE)
        except OSError as error:
            raise ClusterError(f"{self.folder / FILE}: cannot be written: {error.strerror}") from None


def create(
    folder: Path,
    distribution: Distribution,
    *,
    brokers: int = 3,
    controllers: int = 1,
    settings: Mapping[str, str] | None = None,
    features: Mapping[str, int] | None = None,
    has_network: bool = False,
) -> Cluster:
    """A cluster that is still to be started, in an empty folder. What an earlier one left there is removed.

    With a network of its own, links can be cut. ClusterError if this machine has no fitting Java or allows no such
    network, if the folder holds anything else, or if processes of a cluster in it live.
    """
    java, folder = find_java(distribution.version), folder.resolve()
    for count, role in ((brokers, BROKER), (controllers, CONTROLLER)):
        if count > NODES_MAX:
            raise ClusterError(f"{count} {role}s: expected at most {NODES_MAX}")
    refuse_strays(folder)
    if has_network and (reason := why_not()):
        raise ClusterError(f"no links can be cut here: {reason}")
    _clear(folder)
    roles = [(i, BROKER) for i in range(1, brokers + 1)]
    roles += [(i, CONTROLLER) for i in range(FIRST_CONTROLLER, FIRST_CONTROLLER + controllers)]
    network = Network(folder) if has_network else None
    ports = [PORT] * len(roles) if network else free_ports(len(roles))
    nodes = [
        Node(id, role, network.address(id) if network else "127.0.0.1", port, folder / f"{role}-{id}")
        for (id, role), port in zip(roles, ports, strict=True)
    ]
    owner = os.getpid(), psutil.Process().create_time()
    cluster = Cluster(
        folder, distribution, java, nodes, dict(settings or {}), dict(features or {}), network=network, owner=owner
    )
    cluster.save()
    return cluster


def load(folder: Path) -> Cluster:
    """The cluster that an earlier command left in a folder. ClusterError if there is none."""
    folder = folder.resolve()
    try:
        known = json.loads((folder / FILE).read_text())
        return Cluster(
            folder,
            Distribution(known["version"], Path(known["libs"]), Path(known["cache"])),
            Java(str(known["java"][0]), int(known["java"][1])),
            [Node.from_json(node) for node in known["nodes"]],
            known["settings"],
            known["features"],
            known["id"],
            Network(folder) if known["has_network"] else None,
            known["struck"],
            known["owner"] and (int(known["owner"][0]), float(known["owner"][1])),
        )
    except (FileNotFoundError, NotADirectoryError):
        refuse_strays(folder)
        raise ClusterError(f"there is no cluster in {folder}; start one with `hwmark cluster up`") from None
    except (ValueError, LookupError, TypeError) as error:
        raise ClusterError(f"{folder / FILE}: is not what `hwmark cluster up` writes: {error!r}") from None


def _clear(folder: Path) -> None:
    """Make a folder empty of an earlier cluster. ClusterError if it holds anything else."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = {path.name for path in folder.iterdir()}
    except OSError as error:
        raise ClusterError(f"{folder}: {(error.strerror or str(error)).lower()}") from None
    if not found:
        return
    if FILE not in found:
        raise ClusterError(f"{folder} is not empty, and holds no cluster")
    earlier = load(folder)
    own = {FILE, FILE + ".new", *(node.folder.name for node in earlier.nodes)}
    if other := sorted(found - own):
        raise ClusterError(f"{folder} holds more than a cluster: {other[0]}; give a folder of its own")
    if earlier.network is not None:
        earlier.network.delete()
    for name in sorted(found, key=lambda name: name == FILE):  # the file last: until then it can be tried again
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Nobody else starts a cluster in this folder meanwhile. ClusterError if somebody does."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise ClusterError(f"{folder}: {(error.strerror or str(error)).lower()}") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise ClusterError(f"another cluster is being started in {folder}") from None
    finally:
        os.close(handle)
