"""What every run of a cluster has to keep, looked at after each action: only at what the action changed.

The promises are about what is committed: below the high watermark of a leader. What was committed once is remembered
here, beside the cluster, and compared with whatever a broker, a producer or a consumer says later. They hold whatever
befalls the network and the processes; a disk that loses records, or an unclean election, ends those about loss.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hwmark.checkers.simulation.cluster import (
    ADMIN,
    Action,
    Cluster,
    ClusterSetup,
    Crash,
    Invoke,
    Returned,
    Start,
    WipeDisk,
)
from hwmark.refimpl.batches import NO_SEQUENCE, SEQUENCE_MAX, Batch, TopicPartition
from hwmark.refimpl.broker import Broker
from hwmark.refimpl.consumer import Consumer, PollResult
from hwmark.refimpl.errors import Error
from hwmark.refimpl.log import Log
from hwmark.refimpl.machine import Address, address
from hwmark.refimpl.producer import Send
from hwmark.refimpl.replica import Replica

NO_MACHINE_FAILS = "whatever happens, no machine fails"
ONE_CONTROLLER = "one controller per controller epoch"
ONE_LEADER = "one leader per leader epoch"
HIGH_WATERMARK_RISES = "the high watermark only rises within a leader epoch"
LEADER_COMPLETE = "a leader has every record committed before its epoch"
LOGS_AGREE = "logs agree below the high watermark"
ISR_COMPLETE = "whoever is in the ISR has every committed record"
SEQUENCES = "a producer epoch has no duplicate and no gap"
ACKNOWLEDGED = "what is acknowledged by all is committed"
ENOUGH_COPIES = "what is acknowledged by all has been on min.insync.replicas brokers"
READS_COMMITTED = "consumers read what is committed"
ONE_OWNER = "one owner per partition and generation"
GIVEN_UP_FIRST = "a member gives a partition up before another of its generation gets it"


class BrokenPromiseError(AssertionError):
    """A run broke a promise; `witness` says where, for people and pictures."""

    def __init__(self, promise: str, why: str, **witness: Any) -> None:
        super().__init__(f"{promise}: {why}")
        self.promise, self.why, self.witness = promise, why, witness


class Entry(NamedTuple):
    """What one offset of a partition holds."""

    leader_epoch: int
    key: Any
    value: Any
    producer_id: int
    producer_epoch: int
    control: str | None


@dataclass(slots=True)
class Committed:
    """One partition's records, as far as a leader's high watermark ever came; a producer's last epoch and sequence."""

    entries: dict[int, Entry] = field(default_factory=dict)
    end: int = 0
    leaders: dict[int, Address] = field(default_factory=dict)  # of each leader epoch
    ends: dict[int, int] = field(default_factory=dict)  # as far as each leader epoch committed
    producers: dict[int, tuple[int, int]] = field(default_factory=dict)
    reached: dict[Address, int] = field(default_factory=dict)  # the end of each log at its longest
    min_isr: int = 1 << 31  # the least that any leader had to ask for


class Seen(NamedTuple):
    """What was looked at of a replica after its broker's last step."""

    leader_epoch: int
    is_leader: bool
    high_watermark: int
    log_end_offset: int


@dataclass
class Promises:
    """Checks a run as it goes: `observe` after every action. Raises BrokenPromiseError."""

    cluster: Cluster
    setup: ClusterSetup
    may_lose: bool = False
    committed: dict[TopicPartition, Committed] = field(default_factory=dict)
    seen: dict[tuple[Address, TopicPartition], Seen] = field(default_factory=dict)
    controllers: dict[int, Address] = field(default_factory=dict)
    owners: dict[tuple[str, int, TopicPartition], Address] = field(default_factory=dict)
    memberships: dict[Address, tuple[Any, ...]] = field(default_factory=dict)
    sends: dict[tuple[Address, int], Send] = field(default_factory=dict)
    truncations: int = 0

    def __post_init__(self) -> None:
        """What the configuration says about loss."""
        config = self.setup.config
        self.may_lose |= config.unclean_leader_election
        self.compacted = {topic.name for topic in config.topics if topic.is_compacted}
        producers = enumerate(self.setup.producers, 1)
        self.with_all_acks = {f"producer-{i}" for i, producer in producers if producer.acks == -1}

    def observe(self, action: Action, returned: list[Returned]) -> None:
        """Look at what an action has changed."""
        kind, stepped = type(action), self.cluster.stepped
        if stepped is not None:
            self._see(stepped)
        elif kind is Start:
            for name in self.cluster.machines:
                self._see(name)
        elif isinstance(action, Crash):
            self.memberships.pop(action.machine, None)
            self.seen = {key: seen for key, seen in self.seen.items() if key[0] != action.machine}
            self.may_lose |= not (action.keeps_unflushed or self.setup.config.flushes_every_append)
        elif kind is WipeDisk:
            self.may_lose = True
        if isinstance(action, Invoke) and type(action.operation) is Send:
            self.sends[action.machine, action.number] = action.operation
        for one in returned:
            self._see_outcome(one)

    def _see(self, name: Address) -> None:
        machine = self.cluster.machines[name]
        if type(machine) is Broker:
            self._see_broker(machine)
        elif type(machine) is Consumer:
            self._see_member(machine)

    # ------------------------------------------------------------ brokers

    def _see_broker(self, broker: Broker) -> None:
        controller = broker.controller
        if controller.is_active:
            other = self.controllers.setdefault(controller.controller_epoch, broker.name)
            if other != broker.name:
                why = f"{other} and {broker.name} are controllers of epoch {controller.controller_epoch}"
                raise BrokenPromiseError(ONE_CONTROLLER, why, machine=broker.name)
        for topic_partition, replica in broker.replicas.items():
            log, key = replica.log, (broker.name, topic_partition)
            after = Seen(replica.leader_epoch, replica.is_leader, log.high_watermark, log.log_end_offset)
            before = self.seen.get(key)
            if after != before:
                self.seen[key] = after
                self._see_replica(broker.name, replica, before, after)

    def _see_replica(self, name: Address, replica: Replica, before: Seen | None, after: Seen) -> None:
        topic_partition = replica.topic_partition
        committed = self.committed.setdefault(topic_partition, Committed())
        is_known = before is not None and before[:2] == after[:2]
        committed.reached[name] = max(committed.reached.get(name, 0), after.log_end_offset)
        committed.min_isr = min(committed.min_isr, replica.min_isr) if after.is_leader else committed.min_isr
        if after.is_leader and not is_known:
            self._see_new_leader(name, replica, committed)
        if before and is_known and after.is_leader and after.high_watermark < before.high_watermark:
            why = f"{name} sets it back from {before.high_watermark} to {after.high_watermark}"
            raise _broken(HIGH_WATERMARK_RISES, why, name, topic_partition, after.high_watermark)
        self.truncations += before is not None and after.log_end_offset < before.log_end_offset
        is_longer = before and is_known and after.log_end_offset >= before.log_end_offset
        first = before.high_watermark if before and is_longer else 0
        self._compare(LOGS_AGREE, name, replica, first, min(after.high_watermark, committed.end))
        if after.is_leader and after.high_watermark > committed.end:
            self._commit(name, replica, committed)

    def _see_new_leader(self, name: Address, replica: Replica, committed: Committed) -> None:
        other = committed.leaders.setdefault(replica.leader_epoch, name)
        if other != name:
            why = f"{other} and {name} lead epoch {replica.leader_epoch}"
            raise _broken(ONE_LEADER, why, name, replica.topic_partition, replica.log.log_end_offset)
        before = max([end for epoch, end in committed.ends.items() if epoch < replica.leader_epoch], default=0)
        self._compare(LEADER_COMPLETE, name, replica, 0, before)
        if self.may_lose:
            committed.end = 0
            self._commit(name, replica, committed)

    def _compare(self, promise: str, name: Address, replica: Replica, first: int, limit: int) -> None:
        """Compare the offsets [first, limit) of a log with what was committed there."""
        if first >= limit or self.may_lose:
            return
        log, known = replica.log, self.committed[replica.topic_partition].entries
        expected = first = max(first, log.log_start_offset)
        is_compacted = replica.topic_partition[0] in self.compacted
        for offset, entry in entries_of(log, first, limit):
            if (offset != expected and not is_compacted) or known.get(offset, entry) != entry:
                missing = offset if offset == expected else expected
                why = f"{name} has {_words(entry)} at {offset}, where {_words(known.get(missing))} was committed"
                raise _broken(promise, why, name, replica.topic_partition, missing)
            expected = offset + 1
        if (log.log_end_offset if is_compacted else expected) < limit:
            why = f"{name} ends at {expected}, where {_words(known.get(expected))} was committed"
            raise _broken(promise, why, name, replica.topic_partition, expected)

    def _commit(self, name: Address, replica: Replica, committed: Committed) -> None:
        """Remember what the leader has committed now; everybody in its ISR must have it."""
        log, first, end = replica.log, committed.end, replica.log.high_watermark
        for batch in log.batches[log.index_of(first) :]:
            if batch.last_offset >= end:
                break
            if batch.base_offset >= first:
                self._see_sequence(name, replica, batch, committed)
        committed.entries.update(entries_of(log, first, end))
        committed.end = committed.ends[replica.leader_epoch] = end
        for member in () if self.may_lose else replica.isr:
            theirs = self._log_of(address(member), replica)
            if theirs is not None and theirs.log_end_offset < end:
                why = f"{address(member)} ends at {theirs.log_end_offset}, {name} has committed up to {end}"
                raise _broken(ISR_COMPLETE, why, address(member), replica.topic_partition, theirs.log_end_offset)

    def _log_of(self, name: Address, leader: Replica) -> Log | None:
        """The log of a member of the leader's ISR, unless it knows a newer leader, or has been told to leave."""
        machine, here = self.cluster.machines.get(name), leader.topic_partition
        if not isinstance(machine, Broker):
            log: Log | None = self.cluster.disks[name].logs.get(here)
            return log
        replica = machine.replicas.get(here)
        return replica.log if replica and replica.leader_epoch == leader.leader_epoch else None

    def _see_sequence(self, name: Address, replica: Replica, batch: Batch, committed: Committed) -> None:
        """The batches of a producer epoch are numbered without a gap, from 0; an older epoch is over."""
        if batch.producer_id < 0 or (batch.base_sequence == NO_SEQUENCE and batch.control is None):
            return
        epoch, last = committed.producers.get(batch.producer_id, (-1, -1))
        is_new = batch.producer_epoch > epoch
        if batch.control is not None:
            if is_new:
                committed.producers[batch.producer_id] = batch.producer_epoch, -1
            return
        expected = 0 if is_new else (last + 1) % (SEQUENCE_MAX + 1)
        is_right = batch.base_sequence == expected and batch.producer_epoch >= epoch
        if not is_right and not self.may_lose and replica.log.log_start_offset == 0:
            who = f"producer {batch.producer_id} writes sequence {batch.base_sequence} of epoch {batch.producer_epoch}"
            why = f"{who} at {batch.base_offset}, where {expected} of {max(epoch, batch.producer_epoch)} comes next"
            raise _broken(SEQUENCES, why, name, replica.topic_partition, batch.base_offset)
        committed.producers[batch.producer_id] = batch.producer_epoch, batch.last_sequence

    # ------------------------------------------------------------ clients

    def _see_outcome(self, returned: Returned) -> None:
        if self.may_lose or returned.machine == ADMIN or returned.outcome.error is not Error.NONE:
            return
        send = self.sends.pop((returned.machine, returned.number), None)
        value = returned.outcome.value
        if send is not None and returned.machine in self.with_all_acks:
            topic_partition, offset = value
            self._see_record(ACKNOWLEDGED, returned.machine, topic_partition, offset, send.key, send.value)
            self._see_copies(returned.machine, *value)
        elif isinstance(value, PollResult):
            for record in value.records:
                self._see_record(READS_COMMITTED, returned.machine, *record)

    def _see_record(
        self, promise: str, name: Address, topic_partition: TopicPartition, offset: int, key: Any, value: Any
    ) -> None:
        committed = self.committed.get(topic_partition)
        entry = committed.entries.get(offset) if committed else None
        if offset >= 0 and (entry is None or (entry.key, entry.value) != (key, value)):
            why = f"{name} is told that {value!r} is at {offset}, where {_words(entry)} is committed"
            raise _broken(promise, why, name, topic_partition, offset)

    def _see_copies(self, name: Address, topic_partition: TopicPartition, offset: int) -> None:
        """Not only the leader has a record that is acknowledged by all, whatever the ISR has become since."""
        committed = self.committed[topic_partition]
        copies = sum(end > offset for end in committed.reached.values())
        if copies < committed.min_isr:
            why = f"{name} is told of offset {offset}, which has been on {copies} brokers of {committed.min_isr}"
            raise _broken(ENOUGH_COPIES, why, name, topic_partition, offset)

    def _see_member(self, consumer: Consumer) -> None:
        """Within a generation nobody reads what another member does, or has not given up yet."""
        who = consumer.group_metadata
        if who.generation < 0 or self.may_lose:  # a group that was lost counts from 1 again
            return
        state, before = (who.generation, *consumer.positions), self.memberships.get(consumer.name, (0,))
        if state == before:
            return
        self.memberships[consumer.name] = state
        for topic_partition in sorted(set(before[1:]) - set(state[1:])):
            other = self.owners.get((who.group_id, who.generation, topic_partition), consumer.name)
            if other != consumer.name:
                why = f"{other} has got it in generation {who.generation} already, {consumer.name} gives it up now"
                raise _broken(GIVEN_UP_FIRST, why, consumer.name, topic_partition, -1)
        for topic_partition in consumer.positions:
            other = self.owners.setdefault((who.group_id, who.generation, topic_partition), consumer.name)
            if other != consumer.name:
                why = f"{other} and {consumer.name} both own it in generation {who.generation}"
                raise _broken(ONE_OWNER, why, consumer.name, topic_partition, -1)


def entries_of(log: Log, first: int, limit: int) -> Iterator[tuple[int, Entry]]:
    """The offsets [first, limit) of a log, as far as it has them."""
    for batch in log.batches[log.index_of(first) :]:
        if batch.base_offset >= limit:
            return
        for offset, key, value in batch.records:
            if first <= offset < limit:
                yield offset, Entry(batch.leader_epoch, key, value, *batch[4:6], batch.control)


def _words(entry: Entry | None) -> str:
    return "nothing" if entry is None else f"{entry.control or repr(entry.value)} of leader epoch {entry.leader_epoch}"


def _broken(promise: str, why: str, name: Address, topic_partition: TopicPartition, offset: int) -> BrokenPromiseError:
    topic, partition = topic_partition
    where = f"{topic}-{partition}"
    return BrokenPromiseError(promise, f"{where}: {why}", machine=name, partition=where, offset=offset)
