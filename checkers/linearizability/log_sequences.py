"""Idempotent producers: sequence numbers without hole or repeat, epochs that only grow (condition C5).

Along the offsets of a log the batches of one producer and epoch carry the sequence numbers 0, 1, 2, .. (a batch of k
records takes k of them), and an epoch never returns once a later one has begun. So an append of unknown outcome that
nobody saw *must* be in the log if a later sequence number of its epoch was seen, between the two batches around it; and
it *may* be there only where its predecessors are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import accumulate, groupby

import numpy as np
from hwmark.checkers.linearizability.log_columns import NONE, Column
from hwmark.checkers.linearizability.log_content import Content
from hwmark.checkers.linearizability.log_words import ContradictionError, describe


@dataclass(frozen=True)
class Candidate:
    """An append that nobody saw and that may stand at one offset of [low, high), or must (`forced`).

    Candidates of one `run` (None: of no producer's sequence) keep among themselves the order of `rank`, the epoch and
    the sequence number, and of each epoch the first ones come before any other is used.
    """

    append: int
    low: int
    high: int
    forced: bool = False
    run: tuple[int, int] | None = None
    rank: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Sequences:
    """The idempotent batches in the log by producer, then offset; `key` numbers producer and epoch together."""

    producer: Column
    key: Column
    sequence: Column
    size: Column
    start: Column
    append: Column
    epochs: int

    def expected(self) -> Column:
        """The sequence number that each batch should have."""
        expected = np.zeros(len(self.key), dtype=np.int64)
        same = self.key[1:] == self.key[:-1]
        expected[1:][same] = (self.sequence + self.size)[:-1][same]
        return expected


def read_sequences(content: Content) -> Sequences | None:
    """The idempotent producers' batches, None if there are none; raises ContradictionError."""
    appends = content.log.appends
    if appends.sequence is None or appends.producer is None or appends.epoch is None:
        return None
    rows = np.flatnonzero(appends.sequence[content.append] != NONE)
    append, start = content.append[rows], content.start[rows]
    order = np.argsort(appends.producer[append], kind="stable")
    append, start = append[order], start[order]
    epochs = int(appends.epoch.max(initial=0)) + 1
    producer = appends.producer[append]
    key = producer * epochs + appends.epoch[append]
    sequences = Sequences(producer, key, appends.sequence[append], content.records.size[append], start, append, epochs)
    old = np.flatnonzero((producer[1:] == producer[:-1]) & (key[1:] < key[:-1]))
    if len(old):
        _refuse(content, sequences, int(old[0]) + 1, "its epoch is older than that of the batch before it")
    repeated = np.flatnonzero(sequences.sequence < sequences.expected())
    if len(repeated):
        row = int(repeated[0])
        why = f"sequence number {sequences.expected()[row]} had to come, not {sequences.sequence[row]}"
        _refuse(content, sequences, row, why)
    return sequences


def _refuse(content: Content, sequences: Sequences, row: int, why: str) -> None:
    """A batch that could not follow the one before it of its producer."""
    log = content.log
    pair = [int(log.appends.operation[sequences.append[r]]) for r in (row - 1, row) if r >= 0]
    sentence = f"{describe(log, pair[-1])} stands at offset {log.shown(sequences.start[row])}, but {why}"
    raise ContradictionError("sequence", sentence, pair)


def candidates_in_sequence(content: Content, sequences: Sequences, unseen: Column, low: Column) -> list[Candidate]:
    """Where the unseen idempotent appends may and must stand; `low` is the least offset of each for other reasons.

    Raises ContradictionError if a sequence number is missing that nobody of unknown outcome sent. An epoch whose times
    contradict the order of epochs is left out: a case for trying out. Of several with one number, the earliest stands.
    """
    appends = content.log.appends
    assert appends.producer is not None and appends.epoch is not None and appends.sequence is not None
    numbers = (appends.producer[unseen] * sequences.epochs + appends.epoch[unseen]).tolist()
    by_low = np.argsort(low, kind="stable")[::-1].tolist()
    sequence_of = appends.sequence[unseen].tolist()
    free = {(numbers[i], sequence_of[i]): i for i in by_low}
    forced = _forced(content, sequences, free)
    found: list[Candidate] = []
    for (key, sequence), i in sorted(free.items()):
        placed = forced.get((key, sequence)) or _after_the_last(content, sequences, free, key, sequence)
        if placed is not None:
            run, is_forced = placed
            start, end = _around(content, sequences, key // sequences.epochs, run)
            append = int(unseen[i])
            rank = (key, sequence)
            found.append(
                Candidate(append, max(start, int(low[i])), end, is_forced, (key // sequences.epochs, run), rank)
            )
    return _in_growing_order(found)


def _forced(
    content: Content, sequences: Sequences, free: dict[tuple[int, int], int]
) -> dict[tuple[int, int], tuple[int, bool]]:
    """The unseen appends that a later sequence number forces, each with its run: the batch that they stand before."""
    forced: dict[tuple[int, int], tuple[int, bool]] = {}
    expected = sequences.expected()
    for row in np.flatnonzero(sequences.sequence > expected).tolist():
        key = int(sequences.key[row])
        for sequence in range(int(expected[row]), int(sequences.sequence[row])):
            if (key, sequence) not in free:
                _refuse(content, sequences, row, f"sequence number {sequence} before it is not in the log")
            forced[key, sequence] = row, True
    return forced


def _after_the_last(
    content: Content, sequences: Sequences, free: dict[tuple[int, int], int], key: int, sequence: int
) -> tuple[int, bool] | None:
    """The run of an append that comes after all that was seen of its epoch, if all between may be there."""
    left, right = np.searchsorted(sequences.key, [key, key + 1]).tolist()
    expected = int(sequences.sequence[right - 1] + sequences.size[right - 1]) if right > left else 0
    if sequence < expected or any((key, s) not in free for s in range(sequence - 1, expected - 1, -1)):
        return None
    return right, False


def _around(content: Content, sequences: Sequences, producer: int, run: int) -> tuple[int, int]:
    """The offsets between the batches of a producer around a run."""
    start, end = 0, content.length
    if run > 0 and sequences.producer[run - 1] == producer:
        start = int(sequences.start[run - 1] + sequences.size[run - 1])
    if run < len(sequences.producer) and sequences.producer[run] == producer:
        end = int(sequences.start[run])
    return start, end


def _in_growing_order(candidates: list[Candidate]) -> list[Candidate]:
    """Raise each `low` to those before it in its epoch; leave out of a run an epoch that times put after a later one.

    Forced appends are of the last epoch of their run, so none of them is left out.
    """

    def epoch_of(candidate: Candidate) -> tuple[tuple[int, int], int]:
        assert candidate.run is not None
        return candidate.run, candidate.rank[0]

    candidates = sorted(candidates, key=lambda c: (epoch_of(c), c.rank))
    epochs = []
    for (run, _), members in groupby(candidates, key=epoch_of):
        raised = list(accumulate(members, lambda before, c: replace(c, low=max(before.low, c.low))))
        epochs.append((run, raised))
    kept: list[Candidate] = []
    for run, members_raised in reversed(epochs):
        if not kept or kept[-1].run != run or members_raised[-1].low <= kept[-1].low:
            kept.extend(reversed(members_raised))
    return kept[::-1]
