"""The .txnindex files held against the log: what it aborted, from where to where, and how far all was decided then.

A reader of committed records leaves out what is listed, and stops looking at an entry that says that everything before
the end of what it reads was decided. So an entry too few, or one with too large a last stable offset, shows it aborted
records. A broker writes an entry when it appends the marker; followers append several batches at once, so that the
entry's last stable offset may already know of transactions that began behind the marker. Source: Kafka's
`TransactionIndex`, `ProducerStateManager`, `UnifiedLog`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from hwmark.checkers.audit import quick
from hwmark.checkers.audit.checkpoints import ABORTED, LARGEST
from hwmark.checkers.audit.findings import INDEX_AHEAD, INDEX_BEHIND, INDEX_DISAGREES, Finding
from hwmark.checkers.audit.layout import ABORT, COMMIT
from hwmark.checkers.audit.producers import Producers
from hwmark.checkers.audit.replica import Replica

Key = tuple[int, int]
"""A producer id, and the offset of the marker."""


class Aborted(NamedTuple):
    """An aborted transaction of the log: its first offset, the last stable offset after it, its marker's row."""

    first_offset: int
    stable: int
    row: int


class _Log(NamedTuple):
    """What a log shows of its transactions: the aborted, the commit markers, and where transactions begin."""

    aborted: dict[Key, Aborted]
    commits: set[Key]
    begins: set[int]


def aborted_index(producers: Producers) -> Iterator[Finding]:
    """Aborted transactions that the .txnindex files lack, have in excess, or describe as others."""
    replica = producers.replica
    log = transactions_of(producers) if replica.suspicions & quick.TRANSACTIONS else _Log({}, set(), set())
    of_segment: dict[int, dict[Key, Aborted]] = defaultdict(dict)
    for key, one in log.aborted.items():
        of_segment[int(replica.batches["segment"][one.row])][key] = one
    known_from = _known_from(producers)
    for number, entries in enumerate(replica.aborted):
        if entries is not None:
            listed = {(int(e["producer_id"]), int(e["last_offset"])): (place, e) for place, e in enumerate(entries)}
            yield from _missing(replica, number, of_segment[number], listed)
            for key, (place, entry) in listed.items() if not replica.damages else ():
                said = _said(replica, number, key, entry, log, known_from)
                if said is not None:
                    file = replica.segments[number].path.with_suffix(".txnindex")
                    offsets = int(entry["first_offset"]), key[1]
                    yield replica.finding(*said, offsets=offsets, file=file, position=place * ABORTED.itemsize)


def _known_from(producers: Producers) -> int:
    """Whence on all that was ever appended is still there: the cleaner leaves only the last segment alone."""
    replica = producers.replica
    if producers.is_thinned:
        return replica.segments[-1].base_offset if replica.segments else 0
    return int(replica.batches["base_offset"][0]) if len(replica.batches) else replica.log_end


def _missing(
    replica: Replica, number: int, of_log: dict[Key, Aborted], listed: dict[Key, tuple[int, Any]]
) -> Iterator[Finding]:
    """Aborted transactions of a segment that its .txnindex lacks."""
    at_end = max((marker for _, marker in listed), default=-1)
    for (producer, marker), (first, _, row) in of_log.items():
        if (producer, marker) not in listed:
            kind = INDEX_BEHIND if replica.is_rebuilt(number) and marker > at_end else INDEX_DISAGREES
            sentence = f"the transaction of producer {producer} that begins at {first:,} is not listed"
            yield replica.finding(kind, sentence, **replica.at(row))


def _said(replica: Replica, number: int, key: Key, entry: Any, log: _Log, known_from: int) -> tuple[str, str] | None:
    """The kind and the sentence of what an entry says and the log does not bear out, None if all is well."""
    (producer, marker), first, stable = key, int(entry["first_offset"]), int(entry["stable"])
    one = log.aborted.get(key)
    if key in log.commits:
        return INDEX_DISAGREES, f"producer {producer} commits at offset {marker:,} of the log"
    if one is None and marker >= replica.log_end and replica.is_rebuilt(number):
        return INDEX_AHEAD, f"the log ends before producer {producer} aborts, at offset {marker:,}"
    if 0 <= first < known_from:  # it may be right of records that are gone
        return None
    if one is None:
        return INDEX_DISAGREES, f"producer {producer} aborts no transaction at offset {marker:,} of the log"
    if one.first_offset != first:
        return INDEX_DISAGREES, f"the aborted transaction of producer {producer} begins at {one.first_offset:,}"
    is_later = one.stable == marker + 1 and stable > marker and stable in log.begins
    if stable == one.stable or is_later or 0 <= stable < known_from:
        return None
    sentence = f"when producer {producer} aborted at {marker:,}, all before {one.stable:,} was decided, not {stable:,}"
    return INDEX_DISAGREES, sentence


def transactions_of(producers: Producers) -> _Log:
    """What a log shows of its transactions."""
    batch, base = producers.batch, producers.batch["base_offset"]
    rows = np.flatnonzero(producers.in_transaction)
    begins = rows[np.unique(producers.transaction[rows], return_index=True)[1]]
    first, marker = base[begins], producers.marker[begins]
    end = np.where(marker >= 0, base[marker], LARGEST) if len(begins) else first
    aborts = np.flatnonzero((marker >= 0) & (batch["control_type"][marker] == ABORT)) if len(begins) else begins
    # Of the transactions in the order of their beginnings, the first that ends after a marker is open at it.
    order = np.argsort(first)
    is_open = np.searchsorted(np.maximum.accumulate(end[order]), end[aborts], side="right")
    stable = np.minimum(np.append(first[order], LARGEST)[is_open], end[aborts] + 1)
    found = zip(aborts.tolist(), stable.tolist(), strict=True)
    commits = np.flatnonzero(batch["control_type"] == COMMIT)
    return _Log(
        {
            (int(producers.producer[begins[at]]), int(end[at])): Aborted(
                int(first[at]), decided, int(producers.row[marker[at]])
            )
            for at, decided in found
        },
        set(zip(producers.producer[commits].tolist(), base[commits].tolist(), strict=True)),
        set(first.tolist()),
    )
