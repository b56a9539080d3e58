"""The partition log against a naive list, and what Kafka's tables leave out: crashes, truncation, compaction."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest
from hwmark.refimpl.batches import ABORT, COMMIT, SEQUENCE_MAX, Batch, Record
from hwmark.refimpl.errors import Error, KafkaError
from hwmark.refimpl.log import Log
from hwmark.refimpl.producer_state import NO_GUARD, ProducerStateEntry
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule


def data(*pairs: tuple[object, object], **producer: int | bool) -> Batch:
    """A batch as a client sends it."""
    return Batch(0, len(pairs) - 1, -1, tuple(Record(i, *pair) for i, pair in enumerate(pairs)), **producer)


def plain(count: int) -> Batch:
    return data(*[(None, i) for i in range(count)])


def sequenced(producer_id: int, sequence: int, count: int = 1, epoch: int = 0, is_transactional: bool = False) -> Batch:
    producer = {"producer_id": producer_id, "producer_epoch": epoch, "base_sequence": sequence, "timestamp": 1}
    return plain(count)._replace(is_transactional=is_transactional, **producer)


def marker(producer_id: int, control: str, epoch: int = 0, coordinator_epoch: int = 0) -> Batch:
    record = Record(0, control, coordinator_epoch)
    return Batch(0, 0, -1, (record,), producer_id, epoch, -1, True, control, coordinator_epoch, 1)


def offsets(batches: list[Batch], since: int = 0) -> list[int]:
    return [record.offset for batch in batches for record in batch.records if record.offset >= since]


def appended(log: Log, batch: Batch, leader_epoch: int = 0) -> tuple[int, int]:
    """The offsets of a batch that was written."""
    end = log.log_end_offset
    written = log.append_as_leader(batch, leader_epoch)
    assert end <= written.base_offset and log.log_end_offset == written.next_offset
    return written.base_offset, written.last_offset


def repeated(log: Log, batch: Batch) -> tuple[int, int]:
    """The offsets of a batch that had been written before."""
    before = copy.deepcopy(log)
    known = log.append_as_leader(batch, 0)
    assert log == before and known in log.batches
    return known.base_offset, known.last_offset


def refused(error: Error, log: Log, batch: Batch) -> None:
    """The append is refused, and the log is as it was."""
    before = copy.deepcopy(log)
    with pytest.raises(KafkaError) as refusal:
        log.append_as_leader(batch, 0)
    assert refusal.value.error is error and log == before


# A log against a list of batches


@dataclass
class ListOfBatches:
    """What a log is: (base offset, last offset) of each batch, where each epoch began, and the offsets around them."""

    batches: list[tuple[int, int]] = field(default_factory=list)
    begins: dict[int, int] = field(default_factory=dict)
    start: int = 0
    end: int = 0
    high_watermark: int = 0
    flushed: int = 0

    def begin(self, epoch: int, offset: int) -> None:
        """An epoch without a record gives way to the next one."""
        if epoch not in self.begins:
            self.begins = {other: begin for other, begin in self.begins.items() if begin < offset} | {epoch: offset}

    def append(self, base: int, count: int, epoch: int) -> None:
        self.batches.append((base, base + count - 1))
        self.begin(epoch, base)
        self.end = base + count

    def cut(self, offset: int) -> None:
        self.end = min(self.end, offset)
        self.batches = [batch for batch in self.batches if batch[1] < self.end]
        self.begins = {epoch: begin for epoch, begin in self.epochs() if begin < self.end}
        self.start, self.flushed = min(self.start, self.end), min(self.flushed, self.end)
        self.high_watermark = min(self.high_watermark, self.end)

    def epochs(self) -> list[tuple[int, int]]:
        """Each epoch's first offset; that of the epoch at the log start offset is the log start offset."""
        older = [epoch for epoch, begin in self.begins.items() if begin <= self.start]
        return [(epoch, max(begin, self.start)) for epoch, begin in self.begins.items() if epoch not in older[:-1]]

    def end_offset_for(self, epoch: int) -> tuple[int, int]:
        known = self.epochs()
        if epoch == max((epoch for epoch, _ in known), default=None):
            return epoch, self.end
        larger = [begin for other, begin in known if other > epoch]
        return (max((e for e, _ in known if e <= epoch), default=epoch), larger[0]) if larger else (-1, -1)

    def offsets(self, since: int, limit: int) -> list[int]:
        whole = [batch for batch in self.batches if batch[1] < limit]
        return [offset for base, last in whole for offset in range(max(base, since), last + 1)]


class LogAgainstList(RuleBasedStateMachine):
    """Everything that happens to a replica's log; reads and epoch look-ups agree with the list's."""

    def __init__(self) -> None:
        super().__init__()
        self.log, self.list, self.epoch = Log(), ListOfBatches(), 0

    @rule(count=st.integers(1, 3), bump=st.integers(0, 2))
    def append_as_leader(self, count: int, bump: int) -> None:
        self.epoch += bump
        base = self.list.end
        assert appended(self.log, plain(count), self.epoch) == (base, base + count - 1)
        self.list.append(base, count, self.epoch)

    @rule()
    def become_leader(self) -> None:
        """A new leader's epoch begins before its first record does."""
        self.epoch += 1
        self.log.assign_leader_epoch(self.epoch, self.log.log_end_offset)
        self.list.begins = dict(self.list.epochs())
        self.list.begin(self.epoch, self.list.end)

    @rule(gap=st.integers(0, 2), count=st.integers(1, 3), bump=st.integers(0, 2))
    def append_as_follower(self, gap: int, count: int, bump: int) -> None:
        self.epoch += bump
        base = self.list.end + gap
        records = tuple(Record(base + i, None, i) for i in range(count))
        self.log.append_as_follower([Batch(base, base + count - 1, self.epoch, records)])
        self.list.append(base, count, self.epoch)

    @rule(offset=st.integers(0, 9))
    def raise_high_watermark(self, offset: int) -> None:
        self.log.update_high_watermark(max(offset, self.log.high_watermark))
        self.list.high_watermark = max(min(offset, self.list.end), self.list.high_watermark)

    @rule(offset=st.integers(-2, 9))
    def delete_records(self, offset: int) -> None:
        if not 0 <= offset <= self.list.high_watermark:
            with pytest.raises(KafkaError, match="OFFSET_OUT_OF_RANGE"):
                self.log.maybe_increment_log_start_offset(offset)
            return
        self.list.start = max(offset, self.list.start)
        self.list.flushed = max(self.list.flushed, self.list.start)
        self.log.maybe_increment_log_start_offset(offset)

    @rule()
    def roll(self) -> None:
        self.log.roll()

    @rule()
    def flush(self) -> None:
        self.log.flush()
        self.list.flushed = self.list.end

    @rule(offset=st.integers(0, 9))
    def truncate(self, offset: int) -> None:
        self.log.truncate_to(offset)
        self.list.cut(offset)

    @rule(offset=st.integers(0, 9))
    def start_over(self, offset: int) -> None:
        self.log.truncate_fully_and_start_at(offset)
        self.list = ListOfBatches([], {}, offset, offset, offset, offset)

    @rule(keeps_unflushed=st.booleans(), high_watermark=st.integers(0, 9))
    def crash(self, keeps_unflushed: bool, high_watermark: int) -> None:
        self.log.recover(high_watermark, keeps_unflushed)
        self.list.cut(self.list.end if keeps_unflushed else self.list.flushed)
        self.list.flushed = self.list.end
        self.list.high_watermark = max(self.list.start, min(high_watermark, self.list.end))

    @invariant()
    def offsets_agree(self) -> None:
        log, model = self.log, self.list
        assert (log.log_start_offset, log.log_end_offset) == (model.start, model.end)
        assert (log.high_watermark, log.recovery_point) == (model.high_watermark, model.flushed)
        assert log.last_stable_offset == log.high_watermark

    @invariant()
    def segments_lie_in_the_log(self) -> None:
        segments = list(self.log.segments)
        assert segments == sorted(segments)
        assert all(self.log.log_start_offset <= base <= self.log.log_end_offset for base in segments)

    @invariant()
    def reads_agree(self) -> None:
        for since in range(self.list.start, self.list.end + 1):
            assert offsets(self.log.read(since, self.list.end), since) == self.list.offsets(since, self.list.end)
            committed = self.list.offsets(since, self.list.high_watermark)
            assert offsets(self.log.read(since, self.list.high_watermark), since) == committed
        for outside in (self.list.start - 1, self.list.end + 1):
            with pytest.raises(KafkaError, match="OFFSET_OUT_OF_RANGE"):
                self.log.read(outside, self.list.end)

    @invariant()
    def epochs_agree(self) -> None:
        assert list(self.log.leader_epochs.items()) == self.list.epochs()
        for epoch in range(self.epoch + 2):
            assert self.log.end_offset_for_epoch(epoch) == self.list.end_offset_for(epoch)


TestLogAgainstList = LogAgainstList.TestCase


def test_reads_whole_batches_and_at_least_one() -> None:
    log = Log()
    for _ in range(3):
        log.append_as_leader(plain(2), 0)
    assert [offsets(log.read(1, 6, max_records=count)) for count in (0, 1, 2, 3)] == [
        [0, 1],
        [0, 1],
        [0, 1],
        [0, 1, 2, 3],
    ]


def test_a_follower_refuses_what_it_has_and_what_is_out_of_order() -> None:
    leader, follower = Log(), Log()
    for _ in range(2):
        leader.append_as_leader(plain(2), 0)
    first, second = leader.batches
    for batches in ([first], [second, second]):
        follower.append_as_follower(batches[:1])
        with pytest.raises(ValueError, match="less than the end"):
            follower.append_as_follower(batches[1:] or batches)
    assert follower.batches == [first, second]


def test_a_log_cut_off_below_its_start_is_empty() -> None:
    log = Log()
    for _ in range(3):
        log.append_as_leader(plain(1), 0)
    log.update_high_watermark(3)
    log.maybe_increment_log_start_offset(2)
    log.truncate_to(1)
    assert (log.log_start_offset, log.high_watermark, log.log_end_offset) == (1, 1, 1)
    assert log.leader_epochs == {} and log.read(1, 1) == []


# Idempotent producers


def test_the_last_five_batches_are_recognised_in_any_order() -> None:
    log = Log()
    for sequence in range(6):
        assert appended(log, sequenced(1, sequence)) == (sequence, sequence)
    for sequence in (5, 1, 3, 2, 4):
        assert repeated(log, sequenced(1, sequence)) == (sequence, sequence)
    refused(Error.OUT_OF_ORDER_SEQUENCE_NUMBER, log, sequenced(1, 0))
    refused(Error.OUT_OF_ORDER_SEQUENCE_NUMBER, log, sequenced(1, 7))
    assert log.log_end_offset == 6


def test_sequence_numbers_wrap() -> None:
    log = Log()
    log.append_as_leader(sequenced(1, SEQUENCE_MAX - 1, count=3), 0)
    refused(Error.OUT_OF_ORDER_SEQUENCE_NUMBER, log, sequenced(1, SEQUENCE_MAX))
    assert appended(log, sequenced(1, 1)) == (3, 3)


def test_a_new_epoch_begins_with_sequence_zero_and_fences_the_old_one() -> None:
    log = Log()
    log.append_as_leader(sequenced(1, 0), 0)
    refused(Error.OUT_OF_ORDER_SEQUENCE_NUMBER, log, sequenced(1, 1, epoch=1))
    log.append_as_leader(sequenced(1, 0, epoch=1), 0)
    refused(Error.INVALID_PRODUCER_EPOCH, log, sequenced(1, 1))


def test_a_snapshot_remembers_one_batch_of_each_producer() -> None:
    """After a restart from a snapshot, only the last of the batches in flight is known to be a duplicate."""
    log = Log()
    for sequence in range(3):
        log.append_as_leader(sequenced(1, sequence), 0)
    log.roll()
    log.recover(keeps_unflushed=True)
    assert repeated(log, sequenced(1, 2)) == (2, 2)
    refused(Error.OUT_OF_ORDER_SEQUENCE_NUMBER, log, sequenced(1, 1))


def test_a_lost_snapshot_is_passed_over() -> None:
    log = Log()
    for sequence in range(3):
        log.append_as_leader(sequenced(1, sequence), 0)
        log.roll()
    del log.segments[3]
    log.recover(keeps_unflushed=True)
    assert [batch.base_offset for batch in log.producers[1].batches] == [1, 2]


def test_deleted_records_leave_their_producer_known_until_a_restart() -> None:
    log = Log()
    log.append_as_leader(sequenced(1, 0), 0)
    log.append_as_leader(plain(1), 0)
    log.update_high_watermark(2)
    log.maybe_increment_log_start_offset(1)
    refused(Error.OUT_OF_ORDER_SEQUENCE_NUMBER, log, sequenced(1, 7))
    log.flush()
    log.recover()
    assert appended(log, sequenced(1, 7)) == (2, 2)


def test_any_sequence_is_taken_from_a_producer_of_whom_nothing_is_known() -> None:
    log = Log()
    for sequence in (5, 6):
        log.append_as_leader(sequenced(1, sequence), 0)
    assert [batch.base_sequence for batch in log.producers[1].batches] == [5, 6]


def test_a_transaction_of_an_unknown_producer_begins_with_sequence_zero() -> None:
    """A batch that is verified does not overtake the one before, which is not verified yet."""
    log = Log()
    refused(Error.OUT_OF_ORDER_SEQUENCE_NUMBER, log, sequenced(1, 1, is_transactional=True))
    for sequence in (0, 1):
        assert appended(log, sequenced(1, sequence, is_transactional=True)) == (sequence, sequence)


def test_batches_without_sequence_numbers_are_never_repeated() -> None:
    """A group coordinator's, for a producer that commits offsets; and markers."""
    log = Log()
    written = [sequenced(1, -1, is_transactional=True)] * 2 + [marker(1, COMMIT)] * 2
    assert [appended(log, batch) for batch in written] == [(offset, offset) for offset in range(4)]


# Transactions


def test_a_transaction_begins_only_with_the_guard_that_was_given_out() -> None:
    log, first = Log(), sequenced(1, 0, is_transactional=True)
    assert not log.producer(1).is_verified(first, NO_GUARD)
    stale = log.producer(1).guard
    assert log.producer(1).is_verified(first, stale)
    for _ in range(2):  # also where there is no transaction to end
        log.append_as_leader(marker(1, ABORT), 0)
        assert not log.producer(1).is_verified(first, stale)
        guard = log.producer(1).guard
        assert guard != stale and log.producer(1).is_verified(first, guard)
        stale = guard
    log.append_as_leader(first, 0)
    second = sequenced(1, 1, is_transactional=True)
    assert log.producer(1).guard == NO_GUARD
    assert log.producer(1).is_verified(second, NO_GUARD) and log.producer(1).is_verified(second, guard)


def test_a_marker_fences_its_producer_and_older_coordinators() -> None:
    log = Log()
    log.append_as_leader(sequenced(1, 0, is_transactional=True), 0)
    log.append_as_leader(marker(1, ABORT, epoch=1, coordinator_epoch=2), 0)
    refused(Error.INVALID_PRODUCER_EPOCH, log, sequenced(1, 1, is_transactional=True))
    refused(Error.TRANSACTION_COORDINATOR_FENCED, log, marker(1, ABORT, epoch=1, coordinator_epoch=1))


@dataclass
class Workload:
    """Producers that write to a log as leader, each with its sequence numbers and its transaction's values."""

    log: Log = field(default_factory=Log)
    sequences: dict[int, int] = field(default_factory=dict)
    open: dict[int, list[int]] = field(default_factory=dict)
    aborted: set[int] = field(default_factory=set)
    markers: dict[int, tuple[int, int]] = field(default_factory=dict)
    clock: int = 0

    def step(self, producer_id: int, kind: str, key: int, is_tombstone: bool) -> None:
        """One append: `plain` from nobody, `idempotent` or `txn` data, or the end of a transaction."""
        self.clock += 1
        base = self.log.log_end_offset
        if kind in (COMMIT, ABORT):
            opened = self.open.pop(producer_id, None)
            self.log.append_as_leader(marker(producer_id, kind), 0)
            if opened:
                self.markers[opened[0]] = opened[0], base
                self.aborted |= set(opened) if kind == ABORT else set()
        elif kind == "roll":
            self.log.roll()
        else:
            self.write(producer_id, kind, (key, None if is_tombstone else self.clock))

    def write(self, producer_id: int, kind: str, record: tuple[int, int | None]) -> None:
        is_transactional = kind == "txn" or producer_id in self.open
        batch = data(record, record)
        if kind != "plain":
            sequence = self.sequences.get(producer_id, 0)
            self.sequences[producer_id] = sequence + 2
            batch = sequenced(producer_id, sequence, 2)._replace(
                records=batch.records, is_transactional=is_transactional, timestamp=self.clock
            )
            if is_transactional:
                self.open.setdefault(producer_id, []).extend((self.log.log_end_offset, self.log.log_end_offset + 1))
        self.log.append_as_leader(batch, 0)

    def last_stable_offset(self) -> int:
        """By definition, from what was written."""
        decided = [first for first, end in self.markers.values() if end >= self.log.high_watermark]
        return min([*decided, *(opened[0] for opened in self.open.values()), self.log.high_watermark])


STEPS = st.lists(
    st.tuples(
        st.integers(1, 3),
        st.sampled_from(["plain", "idempotent", "txn", "txn", COMMIT, ABORT, "roll"]),
        st.integers(0, 3),
        st.booleans(),
    ),
    min_size=1,
    max_size=25,
)


def written(steps: Iterable[tuple[int, str, int, bool]]) -> Workload:
    workload = Workload()
    for step in steps:
        workload.step(*step)
    return workload


def read_committed(log: Log, since: int) -> list[Record]:
    """The records that a consumer shows: it leaves out a producer's from an aborted transaction's first offset on."""
    batches = log.read(since, log.last_stable_offset)
    aborted = log.aborted_in(since, batches[-1].next_offset) if batches else []
    pending, leaving_out, shown = sorted(aborted, key=lambda txn: txn.first_offset), set(), []
    for batch in batches:
        while pending and pending[0].first_offset <= batch.last_offset:
            leaving_out.add(pending.pop(0).producer_id)
        if batch.control == ABORT:
            leaving_out.discard(batch.producer_id)
        elif batch.control is None and not (batch.is_transactional and batch.producer_id in leaving_out):
            shown += [record for record in batch.records if record.offset >= since]
    return shown


def derived(log: Log) -> tuple[object, ...]:
    """What a log knows beyond its batches, as far as a snapshot keeps it."""
    producers = {key: last_only(entry) for key, entry in log.producers.items()}
    return producers, log.ongoing, log.completed, log.log_end_offset


def last_sent(entry: ProducerStateEntry) -> tuple[int, int, int]:
    """By what a batch is known when it is sent again, and how that is answered."""
    return entry.batches[-1].base_sequence, entry.batches[-1].last_sequence, entry.batches[-1].last_offset


def last_only(entry: ProducerStateEntry) -> ProducerStateEntry:
    return entry._replace(batches=entry.batches[-1:])


@given(STEPS, st.data())
def test_committed_reads_agree_with_what_was_committed(
    steps: list[tuple[int, str, int, bool]], draw: st.DataObject
) -> None:
    workload = written(steps)
    log = workload.log
    for high_watermark in sorted(draw.draw(st.lists(st.integers(0, log.log_end_offset), max_size=3))):
        batch_ends = [0, *(batch.next_offset for batch in log.batches)]
        log.update_high_watermark(max(end for end in batch_ends if end <= high_watermark))
        assert log.last_stable_offset == workload.last_stable_offset()
        for since in range(log.last_stable_offset + 1):
            shown = [record.offset for record in read_committed(log, since)]
            data_below = [r.offset for b in log.batches if b.control is None for r in b.records]
            stable = [offset for offset in data_below if since <= offset < log.last_stable_offset]
            assert shown == [offset for offset in stable if offset not in workload.aborted]


@given(STEPS)
def test_replicas_know_what_their_leader_knows(steps: list[tuple[int, str, int, bool]]) -> None:
    leader, follower = written(steps).log, Log()
    follower.append_as_follower(leader.batches)
    assert derived(follower) == derived(leader)
    assert follower.producers == leader.producers


@given(STEPS, st.data())
def test_truncation_forgets_what_the_records_told(steps: list[tuple[int, str, int, bool]], draw: st.DataObject) -> None:
    log = written(steps).log
    offset = draw.draw(st.integers(0, log.log_end_offset))
    prefix = Log()
    prefix.append_as_follower([batch for batch in log.batches if batch.last_offset < offset])
    prefix.log_end_offset = offset
    log.truncate_to(offset)
    assert log.batches == prefix.batches and derived(log) == derived(prefix)


@given(STEPS, st.booleans(), st.data())
def test_a_crash_loses_no_more_than_the_unflushed_tail(
    steps: list[tuple[int, str, int, bool]], keeps_unflushed: bool, draw: st.DataObject
) -> None:
    flushed = draw.draw(st.integers(0, len(steps)))
    workload = written(steps[:flushed])
    workload.log.flush()
    expected = copy.deepcopy(workload.log)
    for step in steps[flushed:]:
        workload.step(*step)
    if keeps_unflushed:
        expected = copy.deepcopy(workload.log)
    workload.log.recover(keeps_unflushed=keeps_unflushed)
    assert workload.log.batches == expected.batches and derived(workload.log) == derived(expected)


# Compaction


def test_the_newest_record_of_each_key_stays_where_it_is() -> None:
    log = Log()
    for pairs in ([("a", 1), ("b", 1)], [("a", 2)], [(None, 0)], [("c", 1), ("a", 3)]):
        log.append_as_leader(data(*pairs), 0)
    log.roll()
    log.append_as_leader(data(("b", 2)), 0)
    log.update_high_watermark(log.log_end_offset)
    log.compact()
    assert [record[:2] for batch in log.batches for record in batch.records] == [(1, "b"), (4, "c"), (5, "a"), (6, "b")]
    assert [(batch.base_offset, batch.last_offset) for batch in log.batches] == [(0, 1), (4, 5), (6, 6)]
    assert offsets(log.read(2, 7)) == [4, 5, 6]


def test_nothing_is_cleaned_from_the_last_stable_offset_on_or_in_the_active_segment() -> None:
    log = Log()
    log.append_as_leader(data(("a", 1)), 0)
    log.roll()
    log.append_as_leader(sequenced(1, 0, is_transactional=True), 0)
    log.append_as_leader(data(("a", 2)), 0)
    log.roll()
    log.append_as_leader(data(("a", 3)), 0)
    before = list(log.batches)
    log.compact()
    log.update_high_watermark(4)
    log.compact()
    assert log.batches == before


def test_tombstones_and_markers_stay() -> None:
    """An aborted transaction's data go, but for its producer's last batch, which stays empty."""
    log = Log()
    log.append_as_leader(data(("a", 1)), 0)
    log.append_as_leader(data(("a", None)), 0)
    log.append_as_leader(sequenced(1, 0, 2, is_transactional=True), 0)
    log.append_as_leader(marker(1, ABORT), 0)
    log.append_as_leader(sequenced(1, 2, is_transactional=True)._replace(records=(Record(0, "b", 1),)), 0)
    log.append_as_leader(marker(1, COMMIT), 0)
    log.roll()
    log.update_high_watermark(log.log_end_offset)
    for _ in range(2):
        log.compact()
        assert [(batch.base_offset, len(batch.records)) for batch in log.batches] == [(1, 1), (4, 1), (5, 1), (6, 1)]
        assert [txn.is_aborted for txn in log.completed] == [True, False]


def test_the_last_cleaned_batch_stays_without_its_records() -> None:
    log = Log()
    for batch in (data(("a", 1)), plain(2)):
        log.append_as_leader(batch, 0)
    log.roll()
    log.update_high_watermark(3)
    log.compact()
    assert [(batch.base_offset, batch.last_offset, len(batch.records)) for batch in log.batches] == [
        (0, 0, 1),
        (1, 2, 0),
    ]


def test_an_aborted_record_hides_no_older_one() -> None:
    log = Log()
    log.append_as_leader(data(("a", 1), ("b", 1)), 0)
    for producer_id, key in ((1, "a"), (2, "b")):
        log.append_as_leader(sequenced(producer_id, 0, is_transactional=True)._replace(records=(Record(0, key, 2),)), 0)
    for producer_id in (1, 2):
        log.append_as_leader(marker(producer_id, ABORT), 0)
    log.roll()
    log.update_high_watermark(log.log_end_offset)
    log.compact()
    assert table(read_committed(log, 0)) == {"a": 1, "b": 1}


def test_deleted_records_take_their_segments_and_transactions() -> None:
    log = Log()
    for producer_id in (1, 2, 3):
        log.append_as_leader(sequenced(producer_id, 0, is_transactional=True), 0)
        log.append_as_leader(marker(producer_id, ABORT), 0)
        log.roll()
    log.update_high_watermark(6)
    log.maybe_increment_log_start_offset(5)
    assert list(log.segments) == [6]
    assert [txn.producer_id for txn in log.completed] == [3]
    assert [batch.base_offset for batch in log.batches] == [5]


def test_a_producers_last_batch_stays_without_its_records() -> None:
    log = Log()
    log.append_as_leader(sequenced(1, 0)._replace(records=(Record(0, "a", 1),)), 0)
    log.append_as_leader(data(("a", 2)), 0)
    log.roll()
    log.update_high_watermark(2)
    log.compact()
    assert [(batch.base_offset, len(batch.records)) for batch in log.batches] == [(0, 0), (1, 1)]
    log.segments.clear()
    log.recover(keeps_unflushed=True)
    assert log.append_as_leader(sequenced(1, 0), 0).base_offset == 0 and log.log_end_offset == 2


def table(records: Iterable[Record]) -> dict[object, object]:
    """The values by key, as a reader of a compacted topic builds them."""
    newest = {record.key: record.value for record in records}
    return {key: value for key, value in newest.items() if value is not None}


@given(STEPS)
def test_compaction_changes_no_table_and_forgets_no_producer(steps: list[tuple[int, str, int, bool]]) -> None:
    ends = [(1, ABORT, 0, False), (2, COMMIT, 0, False), (3, ABORT, 0, False), (1, "roll", 0, False)]
    log = written([*steps, *ends, (1, "txn", 0, False)]).log
    log.update_high_watermark(log.log_end_offset)
    before = copy.deepcopy(log)
    for _ in range(2):
        log.compact()
        clean_point = max(base for base in log.segments if base <= log.last_stable_offset)
        shown, expected = read_committed(log, 0), read_committed(before, 0)
        assert set(shown) <= set(expected) and table(shown) == table(expected)
        below = [record.key for record in shown if record.offset < clean_point]
        assert len(below) == len(set(below))
        assert log.batches[log.index_of(clean_point) :] == before.batches[before.index_of(clean_point) :]
        assert log.last_stable_offset == before.last_stable_offset
    log.segments.clear()
    log.recover(high_watermark=log.log_end_offset, keeps_unflushed=True)
    assert read_committed(log, 0) == shown and log.last_stable_offset == before.last_stable_offset
    assert log.ongoing == before.ongoing
    for producer_id, entry in before.producers.items():
        if entry.batches:
            assert last_sent(log.producers[producer_id]) == last_sent(entry)
