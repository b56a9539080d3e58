"""What one replica's log shows by itself: damage, offsets, leader epochs, checkpoints.

What is left out because healthy clusters show it too: a batch that a kill cut off at the end of a log; gaps that the
cleaner made; epochs in the checkpoint that no batch has yet (a new leader writes its epoch down before its first
batch), or that lie below the log's start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from hwmark.checkers.audit import quick
from hwmark.checkers.audit.checkpoints import LEADER_EPOCHS
from hwmark.checkers.audit.findings import (
    BEYOND_LOG,
    CORRUPT_BATCH,
    COUNT_DISAGREES,
    EPOCH_AHEAD,
    EPOCH_DISAGREES,
    EPOCH_GOES_BACK,
    NO_EPOCHS,
    OFFSET_GAP,
    OFFSET_GOES_BACK,
    OLD_FORMAT,
    TORN_BATCH,
    UNREADABLE,
    Finding,
)
from hwmark.checkers.audit.layout import NO_LEADER_EPOCH, Fault, Stop
from hwmark.checkers.audit.old_formats import is_old_message
from hwmark.checkers.audit.records import described
from hwmark.checkers.audit.replica import Replica
from hwmark.checkers.audit.segments import Damage, next_offset
from numpy.typing import NDArray

Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]
ZEROS_MIN = 16
"""So many zeros at a file's end were never written; fewer may be the end of a message."""


def check_log(replica: Replica) -> list[Finding]:
    """Everything that one replica's batches and checkpoints show."""
    found = list(replica.found)
    for check in CHECKS:
        found += check(replica)
    return found


def damages(replica: Replica) -> Iterator[Finding]:
    """Stretches of the log that are no sound batches."""
    for damage in replica.damages:
        segment = replica.segments[damage.segment]
        kind, sentence = _damage(replica, damage)
        lowest, highest = damaged_offsets(replica, damage)
        offsets = (lowest, highest) if highest >= lowest else None
        yield replica.finding(kind, sentence, offsets=offsets, file=segment.path, position=damage.position)


def _damage(replica: Replica, damage: Damage) -> tuple[str, str]:
    """The kind of a damage, and the sentence about it."""
    size = damage.end - damage.position
    is_last = damage.segment == len(replica.segments) - 1 and damage.is_tail
    if is_last and not replica.directory.clean and not _was_committed(replica):
        if damage.zeros_from <= damage.position:
            return TORN_BATCH, f"the log ends in {size:,} zeros, as after a loss of power; a broker cuts them off"
        if damage.reason != Stop.MAGIC and damage.end - damage.zeros_from >= ZEROS_MIN:
            return (
                TORN_BATCH,
                f"the last batch ends in {damage.end - damage.zeros_from:,} zeros: it was not all written",
            )
        if damage.reason == Stop.END:
            whole = f" of {damage.size:,}" if damage.size is not None else ""
            return TORN_BATCH, f"the last batch has {size:,} bytes{whole}: it was not all written"
    if damage.reason == Stop.MAGIC and is_old_message(replica.segments[damage.segment].path, damage.position):
        return OLD_FORMAT, "messages in a format from before v2 begin here; they are not supported and not read"
    what = {
        Stop.CRC: "the CRC is not that of the batch",
        Stop.MAGIC: "this is no message format of Kafka",
        Stop.LENGTH: "the batch's length cannot be one",
        Stop.END: "the batch is longer than what is left of the file",
        Stop.FULL: "",
    }[damage.reason]
    if damage.zeros_from <= damage.position and damage.is_tail:
        what = "there are only zeros"
    after = "and nothing sound follows" if damage.is_tail else "then the log goes on"
    return CORRUPT_BATCH, f"{what}: {size:,} bytes are no sound batch, {after}"


def _was_committed(replica: Replica) -> bool:
    """Whether the broker knows that more was committed than its log has."""
    return replica.high_watermark is not None and replica.high_watermark > replica.log_end


def damaged_offsets(replica: Replica, damage: Damage) -> tuple[int, int]:
    """The first and the last offset that a damage may have held; none if the last lies below the first."""
    before, after = _around(replica, damage)
    first = int(next_offset(replica.batches[before])) if before >= 0 else replica.segments[0].base_offset
    if after < len(replica.batches):
        return first, int(replica.batches["base_offset"][after]) - 1
    return first, max(first, damage.offset if damage.offset is not None and damage.offset < 2**62 else first)


def _around(replica: Replica, damage: Damage) -> tuple[int, int]:
    """The rows of the last batch before a damage and the first one after it."""
    segment, position = replica.batches["segment"], replica.batches["position"]
    low, high = np.searchsorted(segment, [damage.segment, damage.segment + 1])
    at = int(low) + int(np.searchsorted(position[low:high], damage.position))
    return at - 1, at


def damage_before(replica: Replica) -> Mask:
    """For each batch, and for the log's end, whether a damage lies right before it."""
    found = np.zeros(len(replica.batches) + 1, dtype=bool)
    for damage in replica.damages:
        found[_around(replica, damage)[1]] = True
    return found


def offsets(replica: Replica) -> Iterator[Finding]:
    """Batches that begin too early or too late."""
    batches = replica.batches
    if not len(batches) or not replica.suspicions & quick.OFFSETS:
        return
    ends = next_offset(batches)
    bases = np.array([segment.base_offset for segment in replica.segments])[batches["segment"]]
    begins = np.diff(batches["segment"], prepend=-1) > 0
    expected = np.append(replica.segments[0].base_offset, ends[:-1])
    expected = np.where(begins, np.maximum(expected, bases), expected)
    wrong = np.flatnonzero((batches["base_offset"] < expected) | (batches["last_offset_delta"] < 0))
    for row in wrong.tolist():
        base = int(batches["base_offset"][row])
        sentence = f"the batch begins at offset {base:,}, though offsets up to {expected[row] - 1:,} came before"
        yield replica.finding(OFFSET_GOES_BACK, sentence, **replica.at(row))
    # A segment begins where its file's name says, unless the cleaner took what was there.
    before = np.append(replica.segments[0].base_offset, ends[:-1])
    late = (batches["base_offset"] > before) & ~damage_before(replica)[:-1]
    for row in np.flatnonzero(late).tolist():
        first, after = int(before[row]), int(batches["base_offset"][row])
        sentence = f"offsets {first:,} to {after - 1:,} are missing before this batch"
        yield replica.finding(OFFSET_GAP, sentence, **replica.at(row) | {"offsets": (first, after - 1)})
    yield from _empty_segments(replica)


def _empty_segments(replica: Replica) -> Iterator[Finding]:
    """The last segment is empty, and begins beyond the end of the one before it."""
    last = replica.segments[-1]
    end = int(next_offset(replica.batches[-1]))
    if last.count == 0 and not last.damages and last.base_offset > end and not damage_before(replica)[-1]:
        sentence = f"offsets {end:,} to {last.base_offset - 1:,} are missing: the last segment begins behind them"
        yield replica.finding(OFFSET_GAP, sentence, offsets=(end, last.base_offset - 1), file=last.path, position=0)


def records(replica: Replica) -> Iterator[Finding]:
    """Batches whose CRC is right and whose records cannot be: a broker or a client wrote them so."""
    batches = replica.batches
    if not replica.suspicions & quick.RECORDS:
        return
    for row in np.flatnonzero(batches["record_count"] > batches["last_offset_delta"] + 1).tolist():
        count, room = int(batches["record_count"][row]), int(batches["last_offset_delta"][row]) + 1
        sentence = f"the batch counts {count:,} records and has offsets for {room:,}"
        yield replica.finding(COUNT_DISAGREES, sentence, **replica.at(row))
    for row in np.flatnonzero(batches["fault"] > Fault.NOT_READ).tolist():
        sentence = described(Fault(int(batches["fault"][row])))
        yield replica.finding(UNREADABLE, sentence, **replica.at(row))


def epochs_in_order(replica: Replica) -> Iterator[Finding]:
    """Leader epochs that go back along the log."""
    if not replica.suspicions & quick.EPOCHS:
        return
    epoch = replica.batches["leader_epoch"]
    highest = np.maximum.accumulate(epoch)
    back = epoch < highest
    for first, end in stretches(back, epoch):
        sentence = f"leader epoch {epoch[first]} comes after leader epoch {highest[first]}"
        yield replica.finding(EPOCH_GOES_BACK, sentence, **_over(replica, first, end))


def epochs_as_checkpointed(replica: Replica) -> Iterator[Finding]:
    """Leader epochs that differ from those of leader-epoch-checkpoint, and a checkpoint that goes back itself."""
    if replica.epochs is None:
        if len(replica.batches) and not (replica.path / LEADER_EPOCHS).exists():
            yield replica.finding(NO_EPOCHS, "there is no leader-epoch-checkpoint", file=replica.path)
        return
    entries = np.array(replica.epochs, dtype=np.int64).reshape(-1, 2)
    steps = np.diff(entries, axis=0) <= 0
    if steps.any():
        row = int(np.flatnonzero(steps.any(axis=1))[0])
        one, other = replica.epochs[row], replica.epochs[row + 1]
        sentence = f"epoch {other[0]} from offset {other[1]:,} follows epoch {one[0]} from {one[1]:,} in the checkpoint"
        yield replica.finding(EPOCH_DISAGREES, sentence, file=replica.path / LEADER_EPOCHS)
        return
    yield from _epochs_of_batches(replica, entries[:, 0], entries[:, 1])
    for epoch, start in replica.epochs:
        if start > replica.log_end:
            sentence = f"leader epoch {epoch} begins at offset {start:,}, and the log ends before {replica.log_end:,}"
            file = replica.path / LEADER_EPOCHS
            yield replica.finding(EPOCH_AHEAD, sentence, offsets=(replica.log_end, start), file=file)


def _epochs_of_batches(replica: Replica, epochs: Rows, starts: Rows) -> Iterator[Finding]:
    """Batches of another epoch than the checkpoint has."""
    batches = replica.batches
    start = replica.log_start
    if len(starts) and not replica.directory.clean:
        start = max(start, int(starts[0]))  # the log's start may have moved on after it was written down last
    at = np.searchsorted(starts, batches["base_offset"], side="right") - 1
    known = np.where(at >= 0, epochs[at], NO_LEADER_EPOCH) if len(epochs) else np.full(len(batches), NO_LEADER_EPOCH)
    wrong = (batches["base_offset"] >= start) & (known != batches["leader_epoch"])
    for first, end in stretches(wrong, batches["leader_epoch"], known):
        has = f"has {known[first]} there" if known[first] != NO_LEADER_EPOCH else "has none there"
        sentence = f"the batches are of leader epoch {batches['leader_epoch'][first]}, and the checkpoint {has}"
        yield replica.finding(EPOCH_DISAGREES, sentence, **_over(replica, first, end))


def checkpoints(replica: Replica) -> Iterator[Finding]:
    """Checkpointed offsets that the log does not reach."""
    directory, end = replica.directory, replica.log_end
    known = (
        ("high watermark", "replication-offset-checkpoint", directory.high_watermarks),
        ("recovery point", "recovery-point-offset-checkpoint", directory.recovery_points),
        ("log start", "log-start-offset-checkpoint", directory.log_starts),
    )
    for what, name, of_partition in known:
        offset = of_partition.get(replica.partition, 0)
        if offset > end:
            sentence = f"the {what} is {offset:,}, and the log ends before offset {end:,}"
            yield replica.finding(BEYOND_LOG, sentence, offsets=(end, offset - 1), file=directory.path / name)


def stretches(wrong: Mask, *columns: NDArray[np.generic]) -> list[tuple[int, int]]:
    """Runs [first, end) of wrong rows within which the columns do not change."""
    rows = np.flatnonzero(wrong)
    if not len(rows):
        return []
    apart = np.diff(rows) > 1
    for column in columns:
        apart |= column[rows[1:]] != column[rows[:-1]]
    cuts = np.flatnonzero(apart) + 1
    return [(int(run[0]), int(run[-1]) + 1) for run in np.split(rows, cuts)]


def _over(replica: Replica, first: int, end: int) -> dict[str, object]:
    """Where the batches [first, end) lie."""
    offsets = int(replica.batches["base_offset"][first]), int(next_offset(replica.batches[end - 1])) - 1
    return replica.at(first) | {"offsets": offsets}


CHECKS: tuple[Callable[[Replica], Iterator[Finding]], ...] = (
    damages,
    offsets,
    records,
    epochs_in_order,
    epochs_as_checkpointed,
    checkpoints,
)
