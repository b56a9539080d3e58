"""What one replica's log shows of its producers: sequences, transactions, and the snapshots that sum them up.

A broker takes a producer's next batch only if it continues the sequence, or begins a new epoch at 0 (Kafka's
`ProducerAppendInfo`); a producer it knows nothing of may begin anywhere. It forgets producers after
`producer.id.expiration.ms`, a day unless configured. Across missing offsets, which the cleaner leaves, and across
damaged bytes only repeats and epochs are looked at. What coordinators write to the internal topics for producers is in
no sequence.
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
    def marker(self) -> Rows:
        """For each batch with a producer the row, among them, of the marker that ends its transaction; -1 for none."""
        if not len(self.row):
            return self.row
        of_transaction = np.full(int(self.transaction[-1]) + 1, -1, dtype=np.int64)
        of_transaction[self.transaction[self.is_marker]] = np.flatnonzero(self.is_marker)
        marker: Rows = of_transaction[self.transaction]
        return marker

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
        return found

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
        if is_gap and self.breaks[before] != self.breaks[at]:
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
    def transaction(self) -> Rows:
        """For each batch the number of its transaction: markers end one, and a producer begins one."""
        begins = np.diff(self.producer, prepend=-1) != 0
        after_marker = np.append(False, self.is_marker[:-1])
        return np.cumsum(begins | after_marker)

    def replaced_transactions(self) -> Iterator[Finding]:
        """Transactions in which the producer epoch changes: the older one was never ended here."""
        rows = np.flatnonzero(self.in_transaction)
        transaction, epoch = self.transaction[rows], self.batch["producer_epoch"][rows]
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
        rows, transaction = np.flatnonzero(self.in_transaction & (self.marker < 0)), self.transaction
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


def aborted(replica: Replica) -> Mask:
    """For each batch whether it is of a transaction that was aborted."""
    found = np.zeros(len(replica.batches), dtype=bool)
    if replica.suspicions & quick.TRANSACTIONS:
        producers = Producers(replica, is_thinned=True)
        is_aborted = (producers.marker >= 0) & (producers.batch["control_type"][producers.marker] == ABORT)
        found[producers.row[is_aborted & producers.in_transaction]] = True
    return found


def _breaks(replica: Replica) -> Mask:
    """For each batch, whether damage or missing offsets lie right before it."""
    end = next_offset(replica.batches)
    apart = np.append(False, replica.batches["base_offset"][1:] > end[:-1]) if len(end) else np.zeros(0, dtype=bool)
    return apart | damage_before(replica)[:-1]
