"""Replicas of a partition, compared: below the high watermark of both, two replicas have the same records.

Followers copy batches as they are, so that header, size and CRC tell whether two batches are equal (that each CRC is
right has been checked). Above the high watermark of either, a difference is what followers truncate later.

The cleaner of each broker works on its own. Of logs that it has been in, what both have is compared record by record; a
record that only one has must have been superseded: a later one has its key, it was a tombstone, or it was aborted.

How far brokers know that records are committed is written down every five seconds only
(`replica.high.watermark.checkpoint.interval.ms`), so the last records before a kill are not compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from hwmark.checkers.audit import quick
from hwmark.checkers.audit.batches import Batches
from hwmark.checkers.audit.checks import Mask, Rows, damaged_offsets
from hwmark.checkers.audit.findings import DIFFER, IDS_DIFFER, TAILS_DIFFER, Finding
from hwmark.checkers.audit.layout import CONTROL
from hwmark.checkers.audit.producers import Producers, aborted
from hwmark.checkers.audit.records import Record
from hwmark.checkers.audit.replica import Replica, records_of
from hwmark.checkers.audit.segments import next_offset

COMPARED = ("base_offset", "size", "leader_epoch", "crc", "last_offset_delta")
KEPT = ("leader_epoch", "producer_id", "producer_epoch", "base_sequence")
"""Columns that the cleaner leaves as they are while a record is left."""
Span = tuple[int, int]


@dataclass(frozen=True)
class _Pair:
    """Two replicas, and the offsets that both have: from `start` on, committed up to `committed`, there up to `end`."""

    one: Replica
    other: Replica
    start: int
    committed: int
    end: int


def compare(replicas: list[Replica], *, is_thinned: bool) -> list[Finding]:
    """How the replicas of a partition differ."""
    found: list[Finding] = []
    differing: dict[tuple[str, Span, str], list[_Pair]] = {}
    for one, other in combinations(replicas, 2):
        if None not in (one.topic_id, other.topic_id) and one.topic_id != other.topic_id:
            sentence = f"{one.broker} has topic id {one.topic_id}, {other.broker} has {other.topic_id}"
            found.append(other.finding(IDS_DIFFER, sentence, file=other.path / "partition.metadata"))
            continue
        pair = _Pair(one, other, max(one.log_start, other.log_start), _committed(one, other), _end(one, other))
        try:
            for kind, span, what in _differences_thinned(pair) if is_thinned else _differences(pair):
                differing.setdefault((kind, span, what), []).append(pair)
        except _UnreadableBatchError as error:
            found.append(error.finding)
    return found + [_told(kind, span, what, pairs) for (kind, span, what), pairs in differing.items()]


def compared_below(replicas: list[Replica]) -> int | None:
    """The offset below which at least two replicas were compared, None if there are no two."""
    return max((_committed(one, other) for one, other in combinations(replicas, 2)), default=None)


def _committed(one: Replica, other: Replica) -> int:
    """Up to where both brokers know that records are committed, and have them."""
    marks = (one.high_watermark or 0, other.high_watermark or 0)
    return min(*marks, _end(one, other))


def _end(one: Replica, other: Replica) -> int:
    return min(one.log_end, other.log_end)


def _told(kind: str, span: Span, what: str, pairs: list[_Pair]) -> Finding:
    """One finding for all pairs that differ in the same place, about the replica that all of them have."""
    brokers = {replica.broker: replica for pair in pairs for replica in (pair.one, pair.other)}
    common = set.intersection(*({pair.one.broker, pair.other.broker} for pair in pairs))
    named = sorted(brokers)
    odd = min(common) if common else named[0]
    others = " and ".join(name for name in named if name != odd)
    where = f"at offset {span[0]:,}" if span[0] == span[1] else f"at offsets {span[0]:,} to {span[1]:,}"
    limit = f"the high watermark {max(pair.committed for pair in pairs):,}"
    below = f"below {limit}" if kind == DIFFER else f"above {limit}"
    what = what or "; ".join(_held(brokers[name], span[0]) for name in named)
    subject = f"{odd} and {others} differ from each other" if len(common) != 1 else f"{odd} differs from {others}"
    return brokers[odd].finding(kind, f"{subject} {where}, {below}: {what}", **_place(brokers[odd], span))


def _place(replica: Replica, span: Span) -> dict[str, object]:
    """Where a span of offsets lies in a replica."""
    row = int(np.searchsorted(replica.batches["base_offset"], span[0], side="right")) - 1
    return replica.at(max(row, 0)) | {"offsets": span} if len(replica.batches) else {"offsets": span}


def _differences(pair: _Pair) -> Iterator[tuple[str, Span, str]]:
    """Stretches of offsets whose batches are not the same."""
    one, other = _within(pair.one, pair), _within(pair.other, pair)
    alone = one[~_in(one, other)], other[~_in(other, one)]
    spans = np.concatenate([np.stack([each["base_offset"], next_offset(each)], axis=1) for each in alone])
    damaged = [damaged_offsets(replica, damage) for replica in (pair.one, pair.other) for damage in replica.damages]
    spans = spans[~np.array([any(a < e and s <= b for a, b in damaged) for s, e in spans.tolist()], dtype=bool)]
    for first, end in _joined(spans):
        if first < pair.committed:
            yield DIFFER, (first, min(end, pair.committed) - 1), ""
        if end > pair.committed:
            yield TAILS_DIFFER, (max(first, pair.committed), end - 1), ""


def _held(replica: Replica, offset: int) -> str:
    """What a replica has at an offset, in words."""
    row = int(np.searchsorted(replica.batches["base_offset"], offset, side="right")) - 1
    if row < 0 or next_offset(replica.batches[row]) <= offset:
        return f"{replica.broker} has nothing"
    batch = replica.batches[row]
    return f"{replica.broker} has epoch {batch['leader_epoch']}, CRC {batch['crc']:08x}"


def _within(replica: Replica, pair: _Pair) -> Batches:
    """The batches in the range of offsets that both have."""
    batches = replica.batches
    chosen: Batches = batches[(next_offset(batches) > pair.start) & (batches["base_offset"] < pair.end)]
    return chosen


def _in(batches: Batches, others: Batches) -> Mask:
    """For each batch whether the others have it too."""
    if not len(others):
        return np.zeros(len(batches), dtype=bool)
    at = np.minimum(np.searchsorted(others["base_offset"], batches["base_offset"]), len(others) - 1)
    same = np.ones(len(batches), dtype=bool)
    for name in COMPARED:
        same &= others[name][at] == batches[name]
    return same


def _joined(spans: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> list[Span]:
    """Spans [first, end) that touch or overlap, as one."""
    found: list[Span] = []
    for first, end in sorted(spans.tolist()):
        if found and first <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((first, end))
    return found


class _UnreadableBatchError(Exception):
    """Records that are needed for a comparison cannot be read."""

    def __init__(self, finding: Finding) -> None:
        self.finding = finding


def _read(replica: Replica, chosen: Mask) -> Iterator[tuple[int, Record]]:
    """The records of chosen batches that are no control batches, with the batch's row."""
    for row, records in records_of(replica, chosen & (replica.batches["attributes"] & CONTROL == 0)):
        if isinstance(records, Finding):
            raise _UnreadableBatchError(records)
        for record in records:
            yield row, record


def _differences_thinned(pair: _Pair) -> Iterator[tuple[str, Span, str]]:
    """Records of which two cleaned logs have different ones, or that one lacks without a reason."""
    one, other = pair.one, pair.other
    unlike_one, unlike_other = ~_in(one.batches, other.batches), ~_in(other.batches, one.batches)
    if not (unlike_one.any() or unlike_other.any()):
        return
    of_one = _by_offset(one, unlike_one, pair)
    of_other = _by_offset(other, unlike_other, pair)
    unequal = {offset for offset in of_one.keys() & of_other.keys() if of_one[offset][1:] != of_other[offset][1:]}
    for span in _as_spans(unequal):
        yield DIFFER, span, "the records are others"
    last = _LastOffsets(one, other)
    for holder, alone in ((one, of_one.keys() - of_other.keys()), (other, of_other.keys() - of_one.keys())):
        if alone:
            records = of_one if holder is one else of_other
            gone = aborted(holder)
            lost = {
                offset
                for offset in alone
                if not gone[records[offset][0]] and last.must_survive(offset, records[offset][-1])
            }
            for span in _as_spans(lost):
                yield DIFFER, span, f"only {holder.broker} has the last record of a key"
    yield from _outcomes(pair)


def _outcomes(pair: _Pair) -> Iterator[tuple[str, Span, str]]:
    """Batches that both have, and whose transaction ended in one as it did not in the other.

    The cleaner takes a marker only when nothing is left of its transaction.
    """
    (offset, ended), (other_offset, other_ended) = (_ended(replica, pair) for replica in (pair.one, pair.other))
    _, at, other_at = np.intersect1d(offset, other_offset, assume_unique=True, return_indices=True)
    unlike = ended[at] != other_ended[other_at]
    for span in _as_spans(set(offset[at][unlike].tolist())):
        yield DIFFER, span, "the transaction did not end in both with the same marker"


def _ended(replica: Replica, pair: _Pair) -> tuple[Rows, Rows]:
    """The base offsets of batches in transactions, and of each the committed marker: its offset and whether it aborts.

    Both in one number, -1 where there is none.
    """
    if not replica.suspicions & quick.TRANSACTIONS:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    producers = Producers(replica, is_thinned=True)
    base, of_marker = producers.batch["base_offset"], producers.marker
    held = producers.in_transaction & (base >= pair.start) & (base < pair.committed)
    ended = np.where(of_marker >= 0, 2 * base[of_marker] + producers.batch["control_type"][of_marker], -1)
    first, order = np.unique(base[held], return_index=True)
    return first, np.where(ended < 2 * pair.committed, ended, -1)[held][order]


def _by_offset(replica: Replica, chosen: Mask, pair: _Pair) -> dict[int, tuple[Any, ...]]:
    """The committed records of chosen batches by offset: the batch's row, what the cleaner keeps of it, the record."""
    kept = [replica.batches[name] for name in KEPT]
    in_range = (replica.batches["base_offset"] < pair.committed) & (next_offset(replica.batches) > pair.start)
    return {
        record.offset: (row, *(int(column[row]) for column in kept), record)
        for row, record in _read(replica, chosen & in_range)
        if pair.start <= record.offset < pair.committed
    }


class _LastOffsets:
    """The last offset of each key in either of two replicas, read when first asked for.

    What was aborted supersedes nothing: no cleaner takes a record for it.
    """

    def __init__(self, one: Replica, other: Replica) -> None:
        self._replicas = one, other
        self._last: dict[bytes | None, int] | None = None

    def must_survive(self, offset: int, record: Record) -> bool:
        """Whether no cleaner may have taken the record: it is its key's last and no tombstone."""
        if record.value is None:
            return False
        if self._last is None:
            self._last = {}
            for replica in self._replicas:
                for _, held in _read(replica, ~aborted(replica)):
                    self._last[held.key] = max(held.offset, self._last.get(held.key, -1))
        return record.key is None or self._last.get(record.key, -1) <= offset


def _as_spans(offsets: set[int]) -> list[Span]:
    """Offsets as spans [first, last]."""
    rows = np.array(sorted(offsets), dtype=np.int64)
    if not len(rows):
        return []
    cuts = np.flatnonzero(np.diff(rows) > 1) + 1
    return [(int(run[0]), int(run[-1])) for run in np.split(rows, cuts)]
