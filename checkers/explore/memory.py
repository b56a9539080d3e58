"""Memory that is reserved whole and paid for as it is touched, and how much of it there is."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np

NO_RESERVE = 0x4000
"""Linux's MAP_NORESERVE, which the standard library does not name."""


class Reserved:
    """Zeroed bytes at a fixed address; only pages that were written to occupy memory."""

    def __init__(self, size: int) -> None:
        self.size = max(size, mmap.PAGESIZE)
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NO_RESERVE
        self._map = mmap.mmap(-1, self.size, flags=flags)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            self._map.madvise(mmap.MADV_HUGEPAGE)
        self._view = np.frombuffer(self._map, np.uint8)
        self.address = int(self._view.ctypes.data)

    def release(self, start: int, stop: int) -> None:
        """Give back the pages wholly inside these bytes; they read as zero afterwards."""
        start = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
        stop = stop // mmap.PAGESIZE * mmap.PAGESIZE
        if stop > start:
            self._map.madvise(mmap.MADV_DONTNEED, start, stop - start)

    def rows(self, row_bytes: int, start: int, stop: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
        """The rows [start, stop), without a copy, as an array of shape (stop - start, row_bytes)."""
        return self._view[start * row_bytes : stop * row_bytes].reshape(-1, row_bytes)


def available() -> int:
    """Bytes that can be used without driving the machine, or the control group this process is in, out of memory."""
    machine = next(
        int(line.split()[1]) * 1024
        for line in Path("/proc/meminfo").read_text().splitlines()
        if line.startswith("MemAvailable")
    )
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    try:
        return min(machine, int(limit.read_text()) - int(used.read_text()))
    except (OSError, ValueError):
        return machine
