"""A network of its own for a cluster: a namespace for each node, so that links can be cut, one way or both.

Every node has its own address on a bridge; clients on this machine reach them all. A cut is a rule of routing: a node
drops the packets of another one when they arrive. So whoever sends them learns nothing, and waits. This takes Linux,
`ip` and the right to make namespaces (root).

Source: ip-netns(8), ip-rule(8); Jepsen's nemesis drops packets where they arrive, too, with iptables.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hwmark.checkers.cluster.errors import ClusterError

CUTS = "186"  # the routing protocol that marks our own rules
FIRST, SECOND = "1", "2"  # in the order of rules: what is dropped, and what is the node's own
NAMESPACES = Path("/var/run/netns")
TIMEOUT = 10.0


def why_not() -> str | None:
    """What keeps this machine from having such networks; None if nothing does."""
    if not sys.platform.startswith("linux"):
        return "network namespaces are a feature of Linux"
    if os.geteuid() != 0:
        return "network namespaces take root"
    if shutil.which("ip") is None:
        return "there is no `ip` (of iproute2) on the PATH"
    name = f"hw-try-{os.getpid()}"
    try:
        _ip("netns", "add", name)
        try:
            _ip("-netns", name, "rule", "add", "blackhole", "protocol", CUTS)
        finally:
            _ip("netns", "delete", name)
    except ClusterError as error:
        return f"this machine allows no network namespaces, or no rules in them: {error}"
    return None


@dataclass(frozen=True)
class Network:
    """The network of the cluster in a folder; its names and addresses follow from that."""

    folder: Path

    @property
    def mark(self) -> str:
        """What its names have in common, short enough for interfaces."""
        return hashlib.sha256(str(self.folder).encode()).hexdigest()[:6]

    @property
    def bridge(self) -> str:
        """The interface that joins the nodes, and has this machine's own address."""
        return f"hwb{self.mark}"

    def namespace(self, node: int) -> str:
        """A node's namespace."""
        return f"hw{self.mark}-{node}"

    def address(self, node: int) -> str:
        """A node's address; this machine's has 254 for the node."""
        high, low = (int(self.mark[i : i + 2], 16) for i in (0, 2))
        return f"10.{high}.{low}.{node}"

    def command(self, node: int, command: list[str]) -> list[str]:
        """How to run something at a node; the process keeps its pid."""
        return ["ip", "netns", "exec", self.namespace(node), *command]

    # ------------------------------------------------------------ being there

    def create(self, nodes: Iterable[int]) -> None:
        """Make it, after what an earlier one of the same folder may have left. ClusterError if that is not allowed."""
        nodes = list(nodes)
        self.delete()
        self._refuse_taken()
        try:
            _ip("link", "add", self.bridge, "type", "bridge")
            _ip("address", "add", f"{self.address(254)}/24", "dev", self.bridge)
            _ip("link", "set", self.bridge, "up")
            for node in nodes:
                self._join(node)
        except ClusterError:
            self.delete()
            raise

    def _join(self, node: int) -> None:
        namespace, outside = self.namespace(node), f"hwv{self.mark}{node}"
        _ip("netns", "add", namespace)
        _ip("link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        _ip("link", "set", outside, "master", self.bridge, "up")
        self._at(node, "address", "add", f"{self.address(node)}/24", "dev", "eth0")
        for interface in ("lo", "eth0"):
            self._at(node, "link", "set", interface, "up")
        self._at(node, "rule", "add", "pref", SECOND, "lookup", "local")
        self._at(node, "rule", "delete", "pref", "0")  # it would come before any other

    def exists(self) -> bool:
        """Whether anything of it is there, left behind perhaps."""
        return bool(self._interfaces() or self._namespaces())

    def delete(self) -> None:
        """Remove whatever there is of it."""
        for name in self._namespaces():
            _ip("netns", "delete", name)
        for name in self._interfaces():  # a namespace that somebody is still in keeps its end of a link
            with contextlib.suppress(ClusterError):  # gone already with its other end
                _ip("link", "delete", name)
        if left := self._interfaces():
            raise ClusterError(f"the interface {left[0]} cannot be removed")

    def _interfaces(self) -> list[str]:
        return sorted(path.name for path in Path("/sys/class/net").glob(f"hw[bv]{self.mark}*"))

    def _namespaces(self) -> list[str]:
        return sorted(path.name for path in NAMESPACES.glob(f"hw{self.mark}-*"))

    def _refuse_taken(self) -> None:
        """ClusterError if this machine reaches others by the addresses that the nodes would have."""
        addresses = f"{self.address(0)}/24"
        if taken := _ip("-4", "route", "show", "root", addresses).strip():
            raise ClusterError(f"the addresses {addresses} are in use here ({taken.splitlines()[0].strip()})")

    # ------------------------------------------------------------ faults

    def cut(self, sources: Iterable[int], destinations: Iterable[int]) -> None:
        """What these nodes send to those is dropped; the other way it goes on."""
        sources = list(sources)
        for destination in destinations:
            for source in sources:
                cut = "from", self.address(source), "protocol", CUTS
                if source != destination and not self._at(destination, "rule", "show", *cut):
                    self._at(destination, "rule", "add", "pref", FIRST, *cut, "blackhole")

    def partition(self, some: Iterable[int], others: Iterable[int]) -> None:
        """The two groups do not reach each other; clients reach both."""
        some, others = list(some), list(others)
        self.cut(some, others)
        self.cut(others, some)

    def unplug(self, node: int) -> None:
        """Nobody reaches the node, clients neither."""
        self._at(node, "link", "set", "eth0", "down")

    def heal(self, nodes: Iterable[int]) -> None:
        """These nodes reach all, and all reach these, but those that are unplugged themselves."""
        nodes = list(nodes)
        others = {int(name.rpartition("-")[2]) for name in self._namespaces()} - set(nodes)
        for node in nodes:
            self._at(node, "link", "set", "eth0", "up")
            self._at(node, "rule", "flush", "protocol", CUTS)
            for other in others:
                self._at(other, "rule", "flush", "from", self.address(node), "protocol", CUTS)

    def _at(self, node: int, *arguments: str) -> str:
        return _ip("-netns", self.namespace(node), *arguments)


def _ip(*arguments: str) -> str:
    try:
        done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        raise ClusterError(f"ip {' '.join(arguments)}: {error}") from None
    if done.returncode:
        raise ClusterError(f"ip {' '.join(arguments)}: {done.stderr.strip() or 'failed'}")
    return done.stdout
