"""Ports of this machine."""

from __future__ import annotations

import contextlib
import random
import socket
from pathlib import Path

from hwmark.checkers.cluster.errors import ClusterError

EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
LOWEST, USUAL_EPHEMERAL = 10_000, 32_768
TRIES = 1_000


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses; they are all different.

    They lie below those that outgoing connections are given: else one of these could take the port of a broker that
    is down, which then could not come back. ClusterError if there are none.
    """
    highest = _ephemeral() - 1
    with contextlib.ExitStack() as stack:
        if highest - LOWEST + 1 < count:
            return [_bound(stack, 0) for _ in range(count)]
        found: list[int] = []
        for _ in range(TRIES):
            if len(found) == count:
                return found
            with contextlib.suppress(OSError):
                found.append(_bound(stack, random.randint(LOWEST, highest)))
    raise ClusterError(f"there are no {count} free ports between {LOWEST} and {highest}")


def listens(host: str, port: int) -> bool:
    """Whether somebody accepts connections there."""
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def _ephemeral() -> int:
    """The first port that outgoing connections are given."""
    try:
        return int(EPHEMERAL.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return USUAL_EPHEMERAL


def _bound(stack: contextlib.ExitStack, port: int) -> int:
    bound = stack.enter_context(socket.socket())
    bound.bind(("127.0.0.1", port))
    found: int = bound.getsockname()[1]
    return found
