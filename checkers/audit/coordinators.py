"""What the coordinators wrote down, held against the partitions: transactions without a marker, offsets beyond a log.

A coordinator calls a transaction complete only after every partition has its marker, and a partition's records come
only after the coordinator wrote down that the partition takes part (since KIP-890 brokers see to that). So where a
transaction is open in the best copy of its partition, though its coordinator's later word is that it is over or that
the partition has no part in it, the marker was lost, or the transaction hangs. The best copy of a partition is the one
with the last leader epoch and, of those, the longest; where not all brokers' directories are given a better one may be
missing, so that the coordinator's word counts only if it is later than the records, by their timestamps.
"""

from __future__ import annotations

from collections.abc import Iterable

from hwmark.checkers.audit.checkpoints import Partition
from hwmark.checkers.audit.findings import GROUP_BEYOND, OPEN, UNKNOWN_RECORD, WITHOUT_MARKER, Finding
from hwmark.checkers.audit.internal import (
    CONSUMER_OFFSETS,
    TRANSACTION_STATE,
    GroupOffset,
    MalformedError,
    TransactionState,
    TransactionStatus,
    group_offset,
    transaction_state,
)
from hwmark.checkers.audit.layout import NOT_CONTROL
from hwmark.checkers.audit.producers import OpenTransaction, aborted
from hwmark.checkers.audit.records import Record
from hwmark.checkers.audit.replica import Replica, records_of

IN_PROGRESS = (
    TransactionStatus.ONGOING,
    TransactionStatus.PREPARE_COMMIT,
    TransactionStatus.PREPARE_ABORT,
    TransactionStatus.PREPARE_EPOCH_FENCE,
)


def best_copy(replicas: Iterable[Replica]) -> Replica:
    """The replica that would have led on: the last leader epoch and, of those, the longest log."""
    return max(replicas, key=lambda replica: (replica.last_epoch, replica.log_end))


class Coordinators:
    """What transaction and group coordinators wrote down last, from the best copies of their topics."""

    def __init__(self) -> None:
        self.transactions: dict[int, TransactionState] = {}
        self.offsets: dict[tuple[str, str, int], tuple[GroupOffset, Replica]] = {}
        self.ends: dict[Partition, int] = {}
        self.open: list[OpenTransaction] = []

    def learn(self, replica: Replica) -> list[Finding]:
        """Read a partition of an internal topic."""
        topic, _ = replica.partition
        if topic not in (CONSUMER_OFFSETS, TRANSACTION_STATE):
            return []
        found: list[Finding] = []
        for row, records in records_of(replica, (replica.batches["control_type"] == NOT_CONTROL) & ~aborted(replica)):
            if isinstance(records, Finding):
                found.append(records)
                continue
            for record in records:
                try:
                    self._learn_record(topic, record, replica)
                except MalformedError as error:
                    sentence = f"the record at offset {record.offset:,} is not understood: {error}"
                    found.append(replica.finding(UNKNOWN_RECORD, sentence, **replica.at(row)))
        return found

    def _learn_record(self, topic: str, record: Record, replica: Replica) -> None:
        if topic == TRANSACTION_STATE:
            state = transaction_state(record)
            if state is not None:
                self.transactions[state.producer_id] = state
        else:
            offset = group_offset(record)
            if offset is not None:
                self.offsets[offset.group, offset.topic, offset.partition] = (offset, replica)

    def findings(self) -> list[Finding]:
        """What the partitions do not bear out; ask when all of them have been read."""
        return [self._transaction(one) for one in self.open] + list(self._group_offsets())

    def _transaction(self, one: OpenTransaction) -> Finding:
        """A transaction that no marker ends."""
        state = self.transactions.get(one.producer_id)
        who = f"the transaction of producer {one.producer_id}, epoch {one.producer_epoch},"
        where = one.replica.at(one.row)
        first = where["offsets"][0]  # type: ignore[index]
        where["offsets"] = first, one.last_offset
        contradiction = None if state is None or state.timestamp < one.max_timestamp else _contradiction(one, state)
        if state is not None and contradiction is not None:
            sentence = f"{who} has no marker, and of {state.transactional_id} its coordinator says: {contradiction}"
            return one.replica.finding(WITHOUT_MARKER, sentence, **where)
        return one.replica.finding(OPEN, f"{who} is open at the end of the log", **where)

    def _group_offsets(self) -> Iterable[Finding]:
        """Committed offsets that no replica's log reaches."""
        for offset, replica in self.offsets.values():
            end = self.ends.get((offset.topic, offset.partition))
            if end is None or offset.offset is None or offset.offset <= end:
                continue
            sentence = (
                f"group {offset.group} committed offset {offset.offset:,} of {offset.topic}-{offset.partition}, "
                f"and every replica ends before offset {end:,}"
            )
            offsets = (end, offset.offset - 1)
            yield Finding(GROUP_BEYOND, sentence, replica.broker, offset.topic, offset.partition, offsets, replica.path)


def _contradiction(one: OpenTransaction, state: TransactionState) -> str | None:
    """What the coordinator says that a transaction without a marker cannot be, None if all is well."""
    if state.producer_epoch < one.producer_epoch:
        return None
    name = state.status.name.lower().replace("_", " ")
    if state.status not in IN_PROGRESS:
        return f"epoch {state.producer_epoch}, {name}"
    if one.replica.partition not in state.partitions:
        return f"epoch {state.producer_epoch}, {name}, and this partition has no part in it"
    return None
