"""Dense numbers for pairs of a group and an integer, however large the integers are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
SPARSE = 4
SMALL = 1 << 16


class Numbering:
    """The distinct pairs (group, number) of two columns, numbered from 0 in sorted order.

    `of` has each row's number (int32); `group` and `number` say, per number, which pair it is. Pairs that lie densely,
    as the offsets of a partition do, are marked in a table; others are sorted.
    """

    of: NDArray[np.int32]
    group: NDArray[np.int32]
    number: Rows

    def __init__(self, group: NDArray[Any], number: Rows, groups: int) -> None:
        if not len(number):
            self.of, self.group, self.number = np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.int64)
            return
        least, greatest = int(number.min()), int(number.max())
        if (greatest - least + 1) * groups <= SPARSE * len(number) + SMALL:
            # As in most recordings, there is room for the whole span in every group.
            width = np.full(groups, greatest - least + 1)
            self._mark(group, number, np.full(groups, least), width)
            return
        low, high = _bounds(group, number, groups)
        # As floats: the widest spans overflow 64 bits, and only their magnitude matters.
        width = np.where(low <= high, high.astype(float) - low.astype(float) + 1, 0.0)
        if width.sum() <= SPARSE * len(number) + SMALL:
            self._mark(group, number, np.where(width > 0, low, 0), width.astype(np.int64))
        else:
            self._sort(group, number)

    def __len__(self) -> int:
        return len(self.number)

    def _mark(self, group: NDArray[Any], number: Rows, low: Rows, width: Rows) -> None:
        """Number the pairs by marking each in a table of all that there could be."""
        start = np.cumsum(width) - width
        slot = number + (start - low)[group]
        marked = np.zeros(int(width.sum()), dtype=bool)
        marked[slot] = True
        rank = np.cumsum(marked, dtype=np.int32)
        rank -= 1
        self.of = rank[slot]
        present = np.flatnonzero(marked)
        sizes = np.diff(np.searchsorted(present, start + width), prepend=0)
        self.group = np.repeat(np.arange(len(width), dtype=np.int32), sizes)
        self.number = present - start[self.group] + low[self.group]

    def _sort(self, group: NDArray[Any], number: Rows) -> None:
        """Number the pairs by sorting them."""
        numbers, rank = np.unique(number, return_inverse=True)
        pairs, of = np.unique(group.astype(np.int64) * len(numbers) + rank.reshape(-1), return_inverse=True)
        self.of = of.reshape(-1).astype(np.int32)
        self.group = (pairs // len(numbers)).astype(np.int32)
        self.number = numbers[pairs % len(numbers)]


def _bounds(group: NDArray[Any], number: Rows, groups: int) -> tuple[Rows, Rows]:
    """The least and the greatest number of each group; of one without rows, the first is greater than the second."""
    limits = np.iinfo(np.int64)
    low, high = np.full(groups, limits.max), np.full(groups, limits.min)
    np.minimum.at(low, group, number)
    np.maximum.at(high, group, number)
    return low, high
