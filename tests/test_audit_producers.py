"""What the columnar checks of producers find is what the slow twin finds that follows every producer by itself."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from hwmark.checkers.audit import plain, quick
from hwmark.checkers.audit.aborted_index import transactions_of
from hwmark.checkers.audit.batches import DTYPES, Batches, Columns
from hwmark.checkers.audit.checks import epochs_in_order, offsets, records
from hwmark.checkers.audit.directories import LogDirectory
from hwmark.checkers.audit.layout import ABORT, COMMIT, CONTROL, NOT_CONTROL, SEQUENCES, TRANSACTIONAL
from hwmark.checkers.audit.producers import Producers
from hwmark.checkers.audit.replica import Replica
from hwmark.checkers.audit.segments import Segment
from hypothesis import given
from hypothesis import strategies as st

PATH = Path("nowhere")


def replica(rows: list[dict[str, Any]], bases: tuple[int, ...] = (0,)) -> Replica:
    """A replica with these batches, without files."""
    columns = Columns._make(
        np.array([row.get(name, 0) for row in rows], dtype=dtype)
        for name, dtype in zip(Columns._fields, DTYPES, strict=True)
    )
    directory = LogDirectory(PATH, "broker 1", None, True, {}, {}, {}, {}, {})
    numbers = np.array([row.get("segment", 0) for row in rows])
    of_segment = [[i for i, n in enumerate(numbers) if n == number] for number in range(len(bases))]
    pieces = [Columns._make(column[chosen] for column in columns) for chosen in of_segment]
    held = [Segment(PATH, base, 0, [piece], []) for base, piece in zip(bases, pieces, strict=True)]
    batches = Batches.of(enumerate(pieces))
    return Replica(directory, ("t", 0), PATH, held, batches, [], [], None, [None] * len(held), [], [])


@st.composite
def producing(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Batches of a few producers: mostly in sequence, now and then not; markers, and transactions left open."""
    rows: list[dict[str, Any]] = []
    nexts: dict[tuple[int, int], int] = {}
    epochs: dict[int, int] = {}
    offset = 0
    for _ in range(draw(st.integers(0, 25))):
        number = draw(st.integers(-1, 3))
        epoch = max(epochs.get(number, 0) + draw(st.sampled_from([0, 0, 0, 0, 0, 1, -1])), 0)
        epochs[number] = max(epochs.get(number, 0), epoch)
        delta = draw(st.integers(0, 3))
        row = {"base_offset": offset, "producer_id": number, "producer_epoch": epoch, "last_offset_delta": delta}
        row |= {"record_count": delta + 1, "max_timestamp": 0, "base_sequence": -1, "control_type": NOT_CONTROL}
        row["attributes"] = draw(st.sampled_from([0, TRANSACTIONAL]))
        if draw(st.integers(0, 4)) == 0:
            row |= {"attributes": TRANSACTIONAL | CONTROL, "control_type": draw(st.sampled_from([ABORT, COMMIT]))}
        else:
            expected = nexts.get((number, epoch), draw(st.sampled_from([0, 0, 0, SEQUENCES - 2])))
            sequence = (expected + draw(st.sampled_from([0, 0, 0, 0, 1, -1, 2]))) % SEQUENCES
            row["base_sequence"] = draw(st.sampled_from([sequence, sequence, sequence, -1]))
            nexts[number, epoch] = (sequence + delta + 1) % SEQUENCES
        rows.append(row)
        offset += delta + 1
    return rows


def starts(found: Any) -> list[int]:
    return sorted(finding.offsets[0] for finding in found)


@given(producing())
def test_agrees_with_the_twin(rows: list[dict[str, Any]]) -> None:
    log, twin = replica(rows), plain.producing(rows)
    found = Producers(log, is_thinned=False)
    kinds = Counter(finding.kind for finding in found.sequences())
    assert kinds["sequence-gap"] == len(twin.gaps) and kinds["sequence-repeat"] == len(twin.repeats)
    assert starts(found.sequences()) == sorted(twin.gaps + twin.repeats)
    assert starts(found.epochs()) == sorted(twin.epochs_back)
    assert starts(found.first_sequences()) == sorted(twin.late)
    assert len(list(found.replaced_transactions())) == len(twin.replaced)
    assert {one.producer_id for one in found.open_transactions()} == {number for number, _ in twin.open}
    held = transactions_of(found).aborted.items()
    aborted = {(number, one.first_offset, marker) for (number, marker), one in held}
    assert aborted == twin.aborted


@given(producing())
def test_the_quick_pass_suspects_what_the_checks_find(rows: list[dict[str, Any]]) -> None:
    log = replica(rows)
    twin = plain.producing(rows)
    breaks = twin.gaps + twin.repeats + twin.epochs_back + twin.late
    assert bool(log.suspicions & quick.SEQUENCES_BREAK) == bool(breaks)
    has_transactions = any(row["producer_id"] >= 0 and row["attributes"] for row in rows)
    assert bool(log.suspicions & quick.TRANSACTIONS) == has_transactions


def test_a_thousand_producers_and_more() -> None:
    def row(i: int, producer: int, sequence: int) -> dict[str, Any]:
        return {
            "base_offset": i,
            "producer_id": producer,
            "base_sequence": sequence,
            "record_count": 1,
            "control_type": -1,
        }

    ids = [number * 7919 % 5003 for number in range(5003)]
    rows = [row(i, ids[i % 5003], i // 5003) for i in range(3 * 5003)]
    assert replica(rows).suspicions == 0
    rows[-1]["base_sequence"] = 7
    assert replica(rows).suspicions == quick.SEQUENCES_BREAK
    (finding,) = Producers(replica(rows), is_thinned=False).findings()
    assert finding.kind == "sequence-gap" and "sequence 7 instead of 2" in finding.sentence


@st.composite
def headers(draw: st.DrawFn) -> tuple[list[dict[str, Any]], tuple[int, ...]]:
    """Batches in segments: mostly one after the other."""
    rows, bases, offset, epoch = [], [0], 0, 0
    for _ in range(draw(st.integers(0, 12))):
        if draw(st.integers(0, 3)) == 0:
            bases.append(offset + draw(st.sampled_from([0, 0, 0, 1, -1])))
        offset = max(offset + draw(st.sampled_from([0, 0, 0, 0, 0, 1, -1])), 0)
        epoch = max(epoch + draw(st.sampled_from([0, 0, 0, 1, -1])), -1)
        delta = draw(st.integers(0, 2))
        count = delta + 1 + draw(st.sampled_from([0, 0, 0, 0, 1, -1]))
        row = {"base_offset": offset, "last_offset_delta": delta, "record_count": count, "leader_epoch": epoch}
        row |= {"segment": len(bases) - 1, "producer_id": -1, "fault": draw(st.sampled_from([0, 0, 0, 1, 2]))}
        rows.append(row)
        offset += delta + 1
    if draw(st.integers(0, 3)) == 0:
        bases.append(offset + draw(st.sampled_from([0, 1])))
    return rows, tuple(bases)


@given(headers())
def test_the_quick_pass_suspects_offsets_records_and_epochs(log: tuple[list[dict[str, Any]], tuple[int, ...]]) -> None:
    rows, bases = log
    suspected = replica(rows, bases).suspicions
    everything = replica(rows, bases)
    everything.__dict__["suspicions"] = -1
    for check, bit in ((offsets, quick.OFFSETS), (records, quick.RECORDS), (epochs_in_order, quick.EPOCHS)):
        found = list(check(everything)) if rows else []
        if found:
            assert suspected & bit, check.__name__
        elif bit != quick.OFFSETS and not any(row["leader_epoch"] == -1 for row in rows):
            assert not suspected & bit, check.__name__


@given(headers())
def test_offsets_are_judged_as_if_one_looked_at_each(log: tuple[list[dict[str, Any]], tuple[int, ...]]) -> None:
    rows, bases = log
    expected: list[tuple[str, int]] = []
    end = bases[0]
    for i, row in enumerate(rows):
        is_first = i == 0 or row["segment"] != rows[i - 1]["segment"]
        low = max(end, bases[row["segment"]]) if is_first else end
        if row["base_offset"] < low:
            expected.append(("offset-goes-back", row["base_offset"]))
        if row["base_offset"] > end:
            expected.append(("offset-gap", end))
        end = row["base_offset"] + row["last_offset_delta"] + 1
    if rows and rows[-1]["segment"] != len(bases) - 1 and bases[-1] > end:
        expected.append(("offset-gap", end))
    found = [(finding.kind, finding.offsets[0]) for finding in offsets(replica(rows, bases)) if finding.offsets]
    assert sorted(found) == sorted(expected)


def test_nobody_suspects_the_sequence_that_wraps_around() -> None:
    deltas = SEQUENCES - 2, 0, 0
    sequences = 0, SEQUENCES - 1, 0
    rows: list[dict[str, Any]] = []
    for delta, sequence in zip(deltas, sequences, strict=True):
        offset = rows[-1]["base_offset"] + rows[-1]["last_offset_delta"] + 1 if rows else 0
        row = {"base_offset": offset, "producer_id": 5, "base_sequence": sequence, "last_offset_delta": delta}
        row |= {"producer_epoch": 0, "attributes": 0, "record_count": delta + 1, "control_type": NOT_CONTROL}
        rows.append(row)
    assert replica(rows).suspicions == 0 and plain.producing(rows) == plain.Producing()
    rows[-1]["base_sequence"] = 1
    assert replica(rows).suspicions == quick.SEQUENCES_BREAK
    assert [finding.kind for finding in Producers(replica(rows), is_thinned=False).findings()] == ["sequence-gap"]
