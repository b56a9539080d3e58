"""The headers of batches as columns: one array for each field, one row for each batch, in the order of the log.

`Columns` is what the compiled walk fills; `Batches` is what the checks look at. A selection of batches copies only
the columns that somebody asks for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from hwmark.checkers.audit.layout import HEADER_BYTES
from numpy.typing import NDArray


class Columns(NamedTuple):
    """One array for each field.

    `position` is a batch's place in its segment's file, `size` its bytes, `control_type` a control record's type or
    NOT_CONTROL or CONTROL_EMPTY, `fault` what is wrong with its records (`layout.Fault`).
    """

    base_offset: NDArray[np.int64]
    max_timestamp: NDArray[np.int64]
    producer_id: NDArray[np.int64]
    position: NDArray[np.int64]
    size: NDArray[np.int32]
    leader_epoch: NDArray[np.int32]
    crc: NDArray[np.uint32]
    last_offset_delta: NDArray[np.int32]
    base_sequence: NDArray[np.int32]
    record_count: NDArray[np.int32]
    attributes: NDArray[np.int16]
    producer_epoch: NDArray[np.int16]
    control_type: NDArray[np.int16]
    fault: NDArray[np.int8]


DTYPES = ("i8", "i8", "i8", "i8", "i4", "i4", "u4", "i4", "i4", "i4", "i2", "i2", "i2", "i1")


def empty_columns(rows: int) -> Columns:
    """Columns with room for so many rows."""
    return Columns._make(np.empty(rows, dtype=dtype) for dtype in DTYPES)


def rows_at_most(size: int) -> int:
    """How many batches so many bytes can hold."""
    return size // HEADER_BYTES + 1


def first_rows(columns: Columns, count: int) -> Columns:
    """A copy of the first rows."""
    return Columns._make(column[:count].copy() for column in columns)


Row = Mapping[str, Any]


class Batches:
    """Batches, column by column: `batches["size"]` is a column, `batches[3]` a row of Python's numbers, `batches[mask]`
    a selection.

    Beside the fields of `Columns` there is the column `segment`, the number of the batch's segment.
    """

    def __init__(self, columns: Mapping[str, NDArray[Any]], chosen: Any = None) -> None:
        self._columns, self._chosen = columns, chosen
        self._selected: dict[str, NDArray[Any]] = {}

    @classmethod
    def of(cls, pieces: Iterable[tuple[int, Columns]]) -> Batches:
        """All batches of pieces, which come with their segments' numbers."""
        held = list(pieces) or [(0, empty_columns(0))]
        columns = {name: np.concatenate([getattr(piece, name) for _, piece in held]) for name in Columns._fields}
        counts = [len(piece.size) for _, piece in held]
        columns["segment"] = np.repeat(np.array([number for number, _ in held], dtype=np.int32), counts)
        return cls(columns)

    def __len__(self) -> int:
        return len(self["size"])

    def __getitem__(self, what: Any) -> Any:
        if isinstance(what, str):
            return self._column(what)
        if isinstance(what, (int, np.integer)):
            return {name: self._column(name)[what].item() for name in self._columns}
        return Batches(self._columns if self._chosen is None else {n: self._column(n) for n in self._columns}, what)

    def _column(self, name: str) -> NDArray[Any]:
        if self._chosen is None:
            return self._columns[name]
        if name not in self._selected:
            self._selected[name] = self._columns[name][self._chosen]
        return self._selected[name]
