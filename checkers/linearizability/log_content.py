"""What stands at each offset of a log, from everybody's evidence together; and what of that contradicts itself.

Conditions C1 (agreement: one content per offset), C2 (no phantom: what was seen was appended) and C3 (no duplicate: a
record has one offset, unless its producer may leave copies). Where they fail no order of the operations helps.

Records are numbered through all batches; of a record that several requests offered (retries with one producer, epoch
and sequence), the first request's number stands for all.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from hwmark.checkers.linearizability.log_columns import NONE, Column, Flags, PartitionLog, column_or
from hwmark.checkers.linearizability.log_words import ContradictionError, describe

UNSEEN = -1
FIRST_MARKER = -2
COPIES_MAX = 1 << 20


class LimitReachedError(Exception):
    """The question is too large to be decided; the message says why."""


class Records:
    """The records that were offered: which append each belongs to, and which record a value is."""

    def __init__(self, log: PartitionLog) -> None:
        appends = log.appends
        self.log, self.appends, self.count = log, appends, len(appends.value)
        self.single = appends.first is None
        self._index_values(appends.value)
        self.representative: Column | None = None
        own = self.of_value(appends.value)
        if not np.array_equal(own, np.arange(self.count)):
            self.representative = own
            self._refuse_other_batches_with_the_same_value()

    def _index_values(self, values: Column) -> None:
        """Prepare the way from a value to the first record that has it: a table, or sorted if the values are sparse."""
        self.table: Column | None = None
        if not self.count or (values.min() >= 0 and values.max() < 8 * self.count + 1024):
            self.table = np.full(int(values.max()) + 1 if self.count else 0, NONE)
            self.table[values[::-1]] = np.arange(self.count)[::-1]
            return
        self.order = np.argsort(values, kind="stable")
        self.sorted = values[self.order]

    def of_value(self, values: Column) -> Column:
        """The record of each value, NONE for one that nobody appended."""
        if self.table is not None:
            if not len(values) or (values.min() >= 0 and values.max() < len(self.table)):
                return self.table[values]
            known = (values >= 0) & (values < len(self.table))
            return np.where(known, self.table[np.where(known, values, 0)] if len(self.table) else NONE, NONE)
        at = np.minimum(np.searchsorted(self.sorted, values), self.count - 1)
        return np.where(self.sorted[at] == values, self.order[at], NONE)

    @cached_property
    def size(self) -> Column:
        """Records per append."""
        return np.diff(self.appends.first) if self.appends.first is not None else column_or(None, len(self.appends), 1)

    @cached_property
    def _append(self) -> Column:
        """The append of each record, where batches have several."""
        return np.repeat(np.arange(len(self.appends)), self.size)

    def append_of(self, records: Column) -> Column:
        """The append that a record belongs to."""
        return records if self.single else self._append[records]

    def index_of(self, records: Column) -> Column:
        """A record's place in its batch."""
        if self.appends.first is None:
            return np.zeros_like(records)
        return records - self.appends.first[self._append[records]]

    def first_of(self, appends: Column) -> Column:
        """The first record of an append."""
        return appends if self.appends.first is None else self.appends.first[appends]

    def group_of(self, appends: Column) -> Column:
        """The append that stands for this one and its retries."""
        if self.representative is None:
            return appends
        return self.append_of(self.representative[self.first_of(appends)])

    @cached_property
    def failed(self) -> Flags:
        """Per append: whether it, and every retry of it, certainly never happened."""
        failed = self.appends.failed
        if failed is None:
            return np.zeros(len(self.appends), dtype=bool)
        if self.representative is None:
            return failed
        group = self.group_of(np.arange(len(self.appends)))
        happened = np.zeros(len(self.appends), dtype=bool)
        np.logical_or.at(happened, group, ~failed)
        return ~happened[group]

    @cached_property
    def may_repeat(self) -> Flags:
        """Per append: whether further copies of it may follow."""
        if not self.log.duplicates:
            return np.zeros(len(self.appends), dtype=bool)
        rows = len(self.appends)
        may: Flags = (column_or(self.appends.sequence, rows) == NONE) & (
            column_or(self.appends.transaction, rows) == NONE
        )
        return may & ~self.failed

    def _refuse_other_batches_with_the_same_value(self) -> None:
        """A value belongs to one batch: retries agree in producer, epoch, sequence and size."""
        assert self.representative is not None
        records = np.arange(self.count)
        again = records[self.representative != records]
        first, second = self.append_of(self.representative[again]), self.append_of(again)
        same = (self.size[first] == self.size[second]) & (column_or(self.appends.sequence, len(self.size))[first] >= 0)
        same &= self.index_of(self.representative[again]) == self.index_of(again)
        for name in ("producer", "epoch", "sequence", "transaction"):
            column = column_or(getattr(self.appends, name), len(self.size))
            same &= column[first] == column[second]
        if not same.all():
            row = int(np.flatnonzero(~same)[0])
            numbers = self.appends.operation[[first[row], second[row]]].tolist()
            value = self.log.label(int(self.appends.value[again[row]]))
            raise ValueError(
                f"operations {numbers[0]} and {numbers[1]} both append {value!r}; expected distinct values, or a retry "
                "with the same producer, epoch and sequence"
            )


@dataclass(frozen=True)
class Content:
    """The log as far as anybody saw it: `at[o]` is the record at offset o, UNSEEN, or FIRST_MARKER - row of a marker.

    `start` are the base offsets of the batches in it, in order, `append` the append at each.
    """

    log: PartitionLog
    records: Records
    at: Column
    start: Column
    append: Column

    @property
    def length(self) -> int:
        """The greatest length that any observation speaks of."""
        return len(self.at)

    @cached_property
    def gaps(self) -> Column:
        """Offsets of which nobody saw the content."""
        return np.flatnonzero(self.at == UNSEEN)

    @cached_property
    def is_placed(self) -> Flags:
        """Per append: whether it, or a retry of it, has a place."""
        placed = np.zeros(len(self.log.appends), dtype=bool)
        placed[self.append] = True
        if self.records.representative is not None:
            placed = placed[self.records.group_of(np.arange(len(placed)))]
        return placed

    def whole(self, lengths: Column) -> Column:
        """The shortest lengths, at or above these, at which no batch is cut in two."""
        return lengths if self.records.single else self.batch_end[lengths]

    @cached_property
    def batch_end(self) -> Column:
        """For each length 0..N (and N + 1) the shortest length, at or above, at which no batch is cut in two."""
        end = np.arange(self.length + 2)
        if not self.records.single:
            size = self.records.size[self.append]
            inside = np.repeat(self.start, size) + _counting(size) + 1
            end[inside] = np.repeat(self.start + size, size)
        return end

    @cached_property
    def batch_start(self) -> Column:
        """For each length the longest, at or below, at which no batch is cut in two."""
        whole = np.where(self.batch_end == np.arange(self.length + 2), np.arange(self.length + 2), 0)
        return np.maximum.accumulate(whole)


def _counting(sizes: Column) -> Column:
    """0, 1, .. size - 1 for each size, one after the other."""
    return np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)


def read_content(log: PartitionLog) -> Content:
    """Put together what everybody saw; raises ContradictionError, and LimitReachedError for a log too long to look at.

    Raises ValueError if two batches share a value.
    """
    records = Records(log)
    seen = records.of_value(log.fetches.value)
    _refuse_phantoms(log, records, seen)
    length = _longest(log, records, seen)
    _refuse_beyond_all_records(log, records, length)
    at = np.full(length, UNSEEN)
    _place_acknowledged(log, records, at)
    _place_markers(log, at)
    _place(log, at, log.fetches.offset, seen, None)
    if not records.single and len(seen):
        _complete_batches(log, records, at, seen)
    return _with_places(log, records, at)


def _refuse_phantoms(log: PartitionLog, records: Records, seen: Column) -> None:
    """C2: what was fetched was appended, and its append did not fail."""
    phantom = seen == NONE
    if log.appends.failed is not None and len(log.appends):
        phantom |= records.failed[records.append_of(np.maximum(seen, 0))]
    if not phantom.any():
        return
    row = int(np.flatnonzero(phantom)[0])
    reader, value = fetch_of(log, row), log.label(int(log.fetches.value[row]))
    shown = f"{describe(log, reader)} returned {value!r} at offset {log.shown(log.fetches.offset[row])}"
    if seen[row] == NONE:
        raise ContradictionError("no-phantom", f"{shown}, which nobody appended", (reader,))
    writer = int(log.appends.operation[records.append_of(seen[row : row + 1])[0]])
    raise ContradictionError(
        "no-phantom", f"{shown}, although {describe(log, writer)} never happened", (writer, reader)
    )


def fetch_of(log: PartitionLog, row: int) -> int:
    """The operation that returned a row of the fetched records."""
    return int(log.fetches.operation[np.searchsorted(log.fetches.first, row, side="right") - 1])


def _longest(log: PartitionLog, records: Records, seen: Column) -> int:
    """The greatest length that anything speaks of, whole batches included."""
    appends, fetches, offset = log.appends, log.fetches, log.fetches.offset
    ends = [fetches.next, fetches.high_watermark, log.list_offsets.result]
    lasts = [log.markers.offset, offset]
    acknowledged = _acknowledged(log)
    if records.single:
        lasts.append(appends.offset if len(acknowledged) == len(appends) else appends.offset[acknowledged])
    else:
        ends.append(appends.offset[acknowledged] + records.size[acknowledged])
        ends.append(offset - records.index_of(seen) + records.size[records.append_of(seen)])
    longest = [int(column.max(initial=0)) for column in ends]
    return max(longest + [int(column.max(initial=NONE)) + 1 for column in lasts])


def _acknowledged(log: PartitionLog) -> Column:
    """Rows of the appends with a known offset."""
    known = log.appends.offset != NONE
    if log.appends.failed is not None:
        known &= ~log.appends.failed
    return np.flatnonzero(known)


def _refuse_beyond_all_records(log: PartitionLog, records: Records, length: int) -> None:
    """C6 for logs that nothing could fill, before any array is as long as they are."""
    if log.duplicates:
        if length > COPIES_MAX + 16 * (len(log.appends) + log.operations):
            raise LimitReachedError(
                f"the log is said to reach length {length}; not looked at beyond {COPIES_MAX} copies"
            )
        return
    offered = records.count + len(log.markers) + len(log.unknown_transactions())
    if length <= offered:
        return
    shower = _shower_of(log, records, length)
    raise ContradictionError(
        "gap",
        f"{describe(log, shower)} shows that the log reached length {log.shown_length(length)}, "
        f"but all appends and markers together are {offered}",
        (shower,),
    )


def _shower_of(log: PartitionLog, records: Records, length: int) -> int:
    """An operation that speaks of at least this length."""
    tables = (
        (log.list_offsets.operation, log.list_offsets.result),
        (log.fetches.operation, np.maximum(log.fetches.next, log.fetches.high_watermark)),
        (log.markers.operation, log.markers.offset + 1),
        (log.appends.operation, np.where(log.appends.offset == NONE, 0, log.appends.offset + records.size)),
    )
    for operation, shown in tables:
        if (shown >= length).any():
            return int(operation[np.argmax(shown)])
    row = int(np.argmax(log.fetches.offset)) if len(log.fetches.offset) else 0
    return fetch_of(log, row) if len(log.fetches.offset) else NONE


def _place_acknowledged(log: PartitionLog, records: Records, at: Column) -> None:
    """Put the acknowledged batches where their producers were told; C1 among them."""
    rows = _acknowledged(log)
    offset, operation = log.appends.offset, log.appends.operation
    if len(rows) < len(offset):
        offset, operation = offset[rows], operation[rows]
    record = records.first_of(rows)
    if not records.single:
        size = records.size[rows]
        record, offset = np.repeat(record, size) + _counting(size), np.repeat(offset, size) + _counting(size)
        operation = np.repeat(operation, size)
    if records.representative is not None:
        record = records.representative[record]
    at[offset] = record
    _place(log, at, offset, record, operation)


def _place_markers(log: PartitionLog, at: Column) -> None:
    """Put the control records at their offsets."""
    rows = np.flatnonzero(log.markers.offset != NONE)
    _place(log, at, log.markers.offset[rows], FIRST_MARKER - rows, log.markers.operation[rows])


def _place(log: PartitionLog, at: Column, offset: Column, content: Column, operation: Column | None) -> None:
    """Put contents at offsets; C1: an offset has one content. `operation` None: the rows are those fetched."""
    different = np.flatnonzero(at[offset] != content)
    if not len(different):
        return
    new = different[at[offset[different]] == UNSEEN]
    at[offset[new]] = content[new]
    different = different[at[offset[different]] != content[different]]
    if not len(different):
        return
    row, place = int(different[0]), int(offset[different[0]])
    here = fetch_of(log, row) if operation is None else int(operation[row])
    other = _who_says(log, place, int(at[place]))
    mine, theirs = _content_words(log, int(content[row])), _content_words(log, int(at[place]))
    raise ContradictionError(
        "agreement",
        f"offset {log.shown(place)} holds {theirs} for {describe(log, other)}, and {mine} for {describe(log, here)}",
        (other, here),
    )


def _content_words(log: PartitionLog, content: int) -> str:
    """What stands at an offset, in words."""
    if content >= 0:
        return repr(log.label(int(log.appends.value[content])))
    row = FIRST_MARKER - content
    return (
        f"the {'commit' if log.markers.commits[row] else 'abort'} marker of transaction {log.markers.transaction[row]}"
    )


def _who_says(log: PartitionLog, offset: int, content: int) -> int:
    """An operation that shows this content at this offset."""
    if content < 0:
        return int(log.markers.operation[FIRST_MARKER - content])
    value = log.appends.value[content]
    fetched = np.flatnonzero((log.fetches.offset == offset) & (log.fetches.value == value))
    if len(fetched):
        return fetch_of(log, int(fetched[0]))
    records = Records(log)
    rows = np.flatnonzero(log.appends.value == value)
    appends = records.append_of(rows)
    told = appends[log.appends.offset[appends] + records.index_of(rows) == offset]
    return int(log.appends.operation[told[0] if len(told) else appends[0]])


def _complete_batches(log: PartitionLog, records: Records, at: Column, record: Column) -> None:
    """Where one record of a batch was fetched the whole batch stands."""
    offset = log.fetches.offset
    base, append = offset - records.index_of(record), records.append_of(record)
    if (base < 0).any():
        row = int(np.flatnonzero(base < 0)[0])
        reader = fetch_of(log, row)
        writer = int(log.appends.operation[append[row]])
        raise ContradictionError(
            "agreement",
            f"{describe(log, reader)} shows {log.label(int(log.fetches.value[row]))!r} at offset "
            f"{log.shown(offset[row])}: {describe(log, writer)} would begin before offset 0",
            (writer, reader),
        )
    batches = np.unique(np.stack([base, append]), axis=1)
    size = records.size[batches[1]]
    everywhere = np.repeat(batches[0], size) + _counting(size)
    every = np.repeat(records.first_of(batches[1]), size) + _counting(size)
    _place(log, at, everywhere, every, np.repeat(log.appends.operation[batches[1]], size))


def _with_places(log: PartitionLog, records: Records, at: Column) -> Content:
    """Find the batches in the log; C3: a record is there once, unless copies are allowed."""
    offset = np.flatnonzero(at >= 0)
    record = at[offset]
    place = np.full(records.count, NONE)
    place[record] = offset
    twice = place[record] != offset
    if twice.any():
        twice &= ~records.may_repeat[records.append_of(record)]
        if twice.any():
            _refuse_copy(log, records, offset, record, place, int(np.flatnonzero(twice)[0]))
    if not records.single:
        is_first = records.index_of(record) == 0
        offset, record = offset[is_first], record[is_first]
    return Content(log, records, at, offset, records.append_of(record))


def _refuse_copy(log: PartitionLog, records: Records, offset: Column, record: Column, place: Column, row: int) -> None:
    """A record stands at two offsets."""
    one, two = int(offset[row]), int(place[record[row]])
    writer = int(log.appends.operation[records.append_of(record[row : row + 1])[0]])
    showers = [_who_says(log, o, int(record[row])) for o in (one, two)]
    raise ContradictionError(
        "no-duplicate",
        f"{_content_words(log, int(record[row]))} stands twice in the log, at offset {log.shown(one)} for "
        f"{describe(log, showers[0])} and at offset {log.shown(two)} for {describe(log, showers[1])}",
        (writer, *showers),
    )
