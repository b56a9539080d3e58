"""What one replica's log shows of its producers: sequences, transactions, and the files that sum them up.

A broker takes a producer's next batch only if it continues the sequence, or begins a new epoch at 0 (Kafka's
`ProducerAppendInfo`); a producer it knows nothing of may begin anywhere. It forgets producers after
`producer.id.expiration.ms`, a day unless configured. The cleaner removes batches, so in a log that it has been in only
repeats and epochs are looked at; the same holds across damaged bytes and missing offsets. What coordinators write to
the internal topics for producers is in no sequence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from hwmark.checkers.audit import quick
from hwmark.checkers.audit.batches import Batches
from hwmark.checkers.audit.checks import Mask, Rows, damage_before
from hwmark.checkers.audit.findings import (
    FORGOTTEN,
    INDEX_BEHIND,
    INDEX_DISAGREES,
    PRODUCER_EPOCH_BACK,
    SEQUENCE_GAP,
    SEQUENCE_REPEAT,
    SNAPSHOT_DISAGREES,
    STARTS_LATE,
    WITHOUT_MARKER,
    Finding,
)
from hwmark.checkers.audit.internal import INTERNAL
from hwmark.checkers.audit.layout import ABORT, COMMIT, NO_SEQUENCE, NOT_CONTROL, SEQUENCES, TRANSACTIONAL
from hwmark.checkers.audit.replica import Replica
from hwmark.checkers.audit.segments import next_offset

EXPIRATION_MS = 86_400_000
"""Kafka's default for `producer.id.expiration.ms`."""


@dataclass(frozen=True)
class OpenTransaction:
    """A transaction that no marker ends: its first batch (a row), and what all of its batches say of it."""

    replica: Replica
    row: int
    producer_id: int
    producer_epoch: int
    last_offset: int
    max_timestamp: int


class Producers:
    """The batches of one replica, producer by producer.

    The columns have one row per batch with a producer, sorted by producer id and then in the order of the log; `row`
    is the batch's row in the replica.
    """

    def __init__(self, replica: Replica, *, is_thinned: bool, expiration_ms: int = EXPIRATION_MS) -> None:
        self.replica, self.is_thinned, self.expiration_ms = replica, is_thinned, expiration_ms
        self.is_internal = replica.partition[0] in INTERNAL

    @cached_property
    def row(self) -> Rows:
        """The rows of batches with a producer."""
        producer = self.replica.batches["producer_id"]
        rows = np.flatnonzero(producer >= 0)
        sorted_rows: Rows = rows[np.argsort(producer[rows], kind="stable")]
        return sorted_rows

    @cached_property
    def batch(self) -> Batches:
        """The batches with a producer."""
        batches: Batches = self.replica.batches[self.row]
        return batches

    @cached_property
    def producer(self) -> Rows:
        """Their producers."""
        producer: Rows = self.batch["producer_id"]
        return producer

    @cached_property
    def is_marker(self) -> Mask:
        """Whether a batch ends a transaction."""
        is_marker: Mask = (self.batch["control_type"] == ABORT) | (self.batch["control_type"] == COMMIT)
        return is_marker

    @cached_property
    def in_transaction(self) -> Mask:
        """Whether a batch holds records of a transaction."""
        is_data = (self.batch["control_type"] == NOT_CONTROL) & (self.batch["record_count"] > 0)
        in_transaction: Mask = is_data & (self.batch["attributes"] & TRANSACTIONAL != 0)
        return in_transaction

    @cached_property
    def breaks(self) -> Rows:
        """How many damages or missing stretches lie before each batch."""
        breaks = np.cumsum(_breaks(self.replica), dtype=np.int64)
        return breaks[self.row]

    def findings(self) -> list[Finding]:
        """Everything about producers but the transactions that are open at the end."""
        found = [*self.snapshots()]
        if self.replica.suspicions & quick.SEQUENCES_BREAK:
            found += [*self.sequences(), *self.epochs(), *self.first_sequences()]
        if self.replica.suspicions & quick.TRANSACTIONS:
            found += self.replaced_transactions()
        return [*found, *self.aborted_index()]

    def sequences(self) -> Iterator[Finding]:
        """Batches that do not continue their producer's sequence."""
        if self.is_internal:
            return
        rows = np.flatnonzero(self.batch["base_sequence"] > NO_SEQUENCE)
        batch, before = self.batch[rows[1:]], self.batch[rows[:-1]]
        expected = (before["base_sequence"].astype(np.int64) + before["last_offset_delta"] + 1) % SEQUENCES
        newer = batch["producer_epoch"] > before["producer_epoch"]
        expected = np.where(newer, 0, expected)
        same = (batch["producer_id"] == before["producer_id"]) & (batch["producer_epoch"] >= before["producer_epoch"])
        for at in np.flatnonzero(same & (batch["base_sequence"] != expected)).tolist():
            one, other = int(rows[at]), int(rows[at + 1])
            yield from self._broken(one, other, int(expected[at]), bool(newer[at]))

    def _broken(self, before: int, at: int, expected: int, is_new_epoch: bool) -> Iterator[Finding]:
        """What the sequence's break between two batches of a producer is."""
        batch, sequence = self.batch[at], int(self.batch["base_sequence"][at])
        forward = (sequence - expected) % SEQUENCES
        is_gap = is_new_epoch or forward < SEQUENCES // 2
        if is_gap and (self.is_thinned or self.breaks[before] != self.breaks[at]):
            return
        who = f"producer {batch['producer_id']}, epoch {batch['producer_epoch']}"
        pause = int(batch["max_timestamp"]) - int(self.batch["max_timestamp"][before])
        if pause > self.expiration_ms:
            sentence = f"{who} goes on with sequence {sequence:,} instead of {expected:,}, {pause // 1000:,} s later"
            yield self._finding(FORGOTTEN, sentence, at)
        elif is_gap:
            yield self._finding(SEQUENCE_GAP, f"{who} goes on with sequence {sequence:,} instead of {expected:,}", at)
        else:
            wrote = f"had written up to sequence {(expected - 1) % SEQUENCES:,}"
            yield self._finding(SEQUENCE_REPEAT, f"{who} {wrote}, and writes from {sequence:,} on once more", at)

    def _finding(self, kind: str, sentence: str, at: int) -> Finding:
        return self.replica.finding(kind, sentence, **self.replica.at(int(self.row[at])))

    def epochs(self) -> Iterator[Finding]:
        """Batches of an older producer epoch after a batch or a marker of a newer."""
        if not len(self.row):
            return
        group = np.cumsum(np.diff(self.producer, prepend=self.producer[0]) != 0)
        together = group * 2**17 + self.batch["producer_epoch"]
        highest = np.maximum.accumulate(together)
        pause = np.diff(self.batch["max_timestamp"], prepend=0)
        for at in np.flatnonzero((together < highest) & (pause <= self.expiration_ms)).tolist():
            epoch, newest = int(self.batch["producer_epoch"][at]), int(highest[at] - group[at] * 2**17)
            sentence = f"producer {self.producer[at]} writes with epoch {epoch} after it had epoch {newest}"
            yield self._finding(PRODUCER_EPOCH_BACK, sentence, at)

    def first_sequences(self) -> Iterator[Finding]:
        """Producers whose first batch in a whole log has not sequence 0."""
        if self.is_internal or self.is_thinned or self.replica.log_start > 0:
            return
        rows = np.flatnonzero(self.batch["base_sequence"] > NO_SEQUENCE)
        first = rows[np.diff(self.producer[rows], prepend=-1) != 0]
        for at in first[(self.batch["base_sequence"][first] > 0) & (self.breaks[first] == 0)].tolist():
            sentence = (
                f"the first sequence of producer {self.producer[at]} is {self.batch['base_sequence'][at]:,}, not 0"
            )
            yield self._finding(STARTS_LATE, sentence, at)

    @cached_property
    def _transaction(self) -> Rows:
        """For each batch the number of its transaction: markers end one, and a producer begins one."""
        begins = np.diff(self.producer, prepend=-1) != 0
        after_marker = np.append(False, self.is_marker[:-1])
        return np.cumsum(begins | after_marker)

    def replaced_transactions(self) -> Iterator[Finding]:
        """Transactions in which the producer epoch changes: the older one was never ended here."""
        rows = np.flatnonzero(self.in_transaction)
        transaction, epoch = self._transaction[rows], self.batch["producer_epoch"][rows]
        same = (np.diff(transaction) == 0) & (np.diff(epoch) > 0) & (np.diff(self.breaks[rows]) == 0)
        for at in np.flatnonzero(same).tolist():
            began = self.replica.at(int(self.row[rows[at + 1]]))["offsets"]
            sentence = (
                f"the transaction of producer {self.producer[rows[at]]}, epoch {epoch[at]}, was not ended before epoch "
                f"{epoch[at + 1]} began one at offset {began[0]:,}"  # type: ignore[index]
            )
            yield self._finding(WITHOUT_MARKER, sentence, int(rows[at]))

    def open_transactions(self) -> list[OpenTransaction]:
        """The transactions that no marker ends."""
        if not self.replica.suspicions & quick.TRANSACTIONS:
            return []
        transaction = self._transaction
        ended = np.zeros(int(transaction[-1]) + 1 if len(transaction) else 0, dtype=bool)
        ended[transaction[self.is_marker]] = True
        rows = np.flatnonzero(self.in_transaction & ~ended[transaction]) if len(transaction) else transaction
        found = []
        for run in np.split(rows, np.flatnonzero(np.diff(transaction[rows])) + 1) if len(rows) else []:
            batch = self.batch[run]
            newest = batch["producer_epoch"] == batch["producer_epoch"][-1]
            found.append(
                OpenTransaction(
                    self.replica,
                    int(self.row[run[newest][0]]),
                    int(batch["producer_id"][-1]),
                    int(batch["producer_epoch"][-1]),
                    int(next_offset(batch[-1])) - 1,
                    int(batch["max_timestamp"].max()),
                )
            )
        return found

    def aborted_index(self) -> Iterator[Finding]:
        """Aborted transactions that the .txnindex files lack, have in excess, or have from another offset on."""
        expected = self._aborted() if self.replica.suspicions & quick.TRANSACTIONS else {}
        last = len(self.replica.segments) - 1
        for number, entries in enumerate(self.replica.aborted):
            if entries is None:
                continue
            of_log = {key: row for key, row in expected.items() if self.replica.batches["segment"][row[1]] == number}
            of_index = {(int(e["producer_id"]), int(e["last_offset"])): int(e["first_offset"]) for e in entries}
            at_end = max((offset for _, offset in of_index), default=-1)
            for (producer, marker), (first, row) in of_log.items():
                if (producer, marker) not in of_index:
                    is_behind = number == last and not self.replica.directory.clean and marker > at_end
                    kind = INDEX_BEHIND if is_behind else INDEX_DISAGREES
                    sentence = f"the transaction of producer {producer} that begins at {first:,} is not listed"
                    yield self.replica.finding(kind, sentence, **self.replica.at(row))
            yield from self._excess(number, of_index, of_log)

    def _excess(
        self, number: int, of_index: dict[tuple[int, int], int], of_log: dict[tuple[int, int], tuple[int, int]]
    ) -> Iterator[Finding]:
        """Entries of one .txnindex that the log does not bear out; those of records that are gone may be right."""
        batches, file = self.replica.batches, self.replica.segments[number].path.with_suffix(".txnindex")
        start = int(batches["base_offset"][0]) if len(batches) else self.replica.log_end
        for place, ((producer, marker), first) in enumerate(of_index.items()):
            has = of_log.get((producer, marker))
            if (has is not None and has[0] == first) or first < start or self.is_thinned or self.replica.damages:
                continue
            if has is None:
                sentence = f"producer {producer} aborts no transaction at offset {marker:,} of the log"
            else:
                sentence = f"the aborted transaction of producer {producer} begins at {has[0]:,}, not at {first:,}"
            yield self.replica.finding(
                INDEX_DISAGREES, sentence, offsets=(first, marker), file=file, position=place * 34
            )

    def _aborted(self) -> dict[tuple[int, int], tuple[int, int]]:
        """Aborted transactions by producer and marker's offset: the first offset, and the marker's row."""
        transaction = self._transaction
        rows = np.flatnonzero(self.in_transaction)
        numbers, firsts = np.unique(transaction[rows], return_index=True)
        first_offset = dict(zip(numbers.tolist(), self.batch["base_offset"][rows[firsts]].tolist(), strict=True))
        aborts = np.flatnonzero(self.batch["control_type"] == ABORT)
        return {
            (int(self.producer[at]), int(self.batch["base_offset"][at])): (
                first_offset[int(transaction[at])],
                int(self.row[at]),
            )
            for at in aborts.tolist()
            if int(transaction[at]) in first_offset
        }

    def aborted_rows(self) -> set[int]:
        """The rows, in the replica, of batches whose transaction was aborted."""
        if not self.replica.suspicions & quick.TRANSACTIONS:
            return set()
        transaction = self._transaction
        aborted = np.isin(transaction, transaction[self.batch["control_type"] == ABORT])
        return set(self.row[aborted & self.in_transaction].tolist())

    def snapshots(self) -> Iterator[Finding]:
        """Producers whose last batch before a snapshot is another in the log than in the snapshot."""
        batches, end = self.replica.batches, next_offset(self.replica.batches)
        for offset, producers in self.replica.snapshots:
            file = self.replica.path / f"{offset:020}.snapshot"
            for entry in producers:
                last = int(entry["last_offset"])
                row = int(np.searchsorted(end, last + 1))
                if self.is_thinned or self.replica.damages or not self.replica.log_start <= last < self.replica.log_end:
                    continue
                sequence = (int(batches["base_sequence"][row]) + int(batches["last_offset_delta"][row])) % SEQUENCES
                is_coordinators = batches["base_sequence"][row] == NO_SEQUENCE
                is_same = (
                    batches["producer_id"][row] == entry["producer_id"]
                    and end[row] == last + 1
                    and (is_coordinators or sequence == entry["last_sequence"])
                )
                if not is_same:
                    sentence = f"the last batch of producer {entry['producer_id']} does not end at offset {last:,}"
                    sentence += f" with sequence {entry['last_sequence']:,}, as the snapshot says"
                    yield self.replica.finding(SNAPSHOT_DISAGREES, sentence, offsets=(last, last), file=file)


def _breaks(replica: Replica) -> Mask:
    """For each batch, whether damage or missing offsets lie right before it."""
    end = next_offset(replica.batches)
    apart = np.append(False, replica.batches["base_offset"][1:] > end[:-1]) if len(end) else np.zeros(0, dtype=bool)
    return apart | damage_before(replica)[:-1]
