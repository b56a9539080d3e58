"""What keeps a cluster from being started or used, told in one line."""

from __future__ import annotations

from hwmark.spec.errors import SpecError


class ClusterError(SpecError):
    """A cluster cannot be started, reached or faulted as asked; `hwmark` prints it as one line, exit status 2."""
