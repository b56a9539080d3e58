"""Who of a consumer group reads which partition: Kafka's range, roundrobin, sticky and cooperative-sticky assignors.

The member that leads the group computes this from all subscriptions. Where Kafka's answer hangs on the order of a hash
map, names decide here. Kafka has two sticky algorithms, one for equal subscriptions (everybody has a quota) and one for
others (loads are balanced afterwards); they are one here, with an endless quota for the others. It gives what is free
to the least loaded, where Kafka deals equal subscriptions out in turns. When it balances, Kafka searches a rack without
effect, prefers claims of earlier generations, and takes all moves back if they did not help; here each move brings two
loads closer. A partition that two members claim in one generation is nobody's; Kafka forgets that if subscriptions
differ.

Source: RangeAssignor, RoundRobinAssignor, AbstractStickyAssignor, CooperativeStickyAssignor of Kafka's clients; KIP-54
(sticky), KIP-345 (static members), KIP-429 (cooperative), KIP-792 (generations), KIP-881 (racks).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain, cycle
from typing import NamedTuple

from .batches import TopicPartition

NO_GENERATION = -1
CONTESTED = ""  # instead of a member's id

Assignment = dict[str, list[TopicPartition]]
Owners = dict[TopicPartition, str]


class Subscription(NamedTuple):
    """What a member says when it joins; `owned` is what it was assigned in `generation`."""

    topics: tuple[str, ...]
    owned: tuple[TopicPartition, ...] = ()
    generation: int = NO_GENERATION
    instance: str | None = None
    rack: str | None = None


Members = Mapping[str, Subscription]


class Racks(NamedTuple):
    """In which racks the replicas are."""

    replicas: Mapping[TopicPartition, frozenset[str]] = {}

    def are_useful(self, members: Iterable[Subscription], partitions: Iterable[TopicPartition]) -> bool:
        """Whether a member is in a rack that has replicas, and not all partitions are in the same racks."""
        racks = [self.replicas.get(partition, frozenset()) for partition in partitions]
        everywhere = frozenset[str]().union(*racks)
        return any(member.rack in everywhere for member in members) and any(some != everywhere for some in racks)

    def allow(self, member: Subscription, partition: TopicPartition) -> bool:
        """Whether the partition does not read across racks as far as is known."""
        return not self.replicas or not member.rack or member.rack in self.replicas.get(partition, ())


NO_RACKS = Racks()


@dataclass(slots=True)
class Placement:
    """Who has a partition, in the order of assignment; room is for `low` each, and one more for `extra` members."""

    low: int
    extra: int
    owner: Owners = field(default_factory=dict)
    size: Counter[str] = field(default_factory=Counter)

    def may_take(self, member: str, partition: TopicPartition) -> bool:
        """Whether the partition is free and the member has room for it."""
        return partition not in self.owner and self.size[member] < self.low + (self.extra > 0)

    def put(self, member: str, partition: TopicPartition) -> None:
        """The member gets the partition; who had it before loses it."""
        if partition in self.owner:
            self.size[self.owner.pop(partition)] -= 1
        self.owner[partition] = member
        self.size[member] += 1
        self.extra -= self.size[member] == self.low + 1


def partitions_of(topics: Mapping[str, int], members: Members) -> dict[str, list[TopicPartition]]:
    """The partitions of each topic that exists and that somebody subscribed to."""
    wanted = {topic for member in members.values() for topic in member.topics}
    return {topic: [(topic, i) for i in range(topics[topic])] for topic in sorted(wanted) if topics.get(topic)}


def in_order(members: Members) -> list[str]:
    """Static members by their instance, then the others by their ids."""
    return sorted(members, key=lambda member: (members[member].instance is None, members[member].instance or member))


def by_member(owner: Owners, members: Members) -> Assignment:
    """Each member's partitions."""
    assignment: Assignment = {member: [] for member in members}
    for partition, member in owner.items():
        assignment[member].append(partition)
    return assignment


def assign_range(topics: Mapping[str, int], members: Members, racks: Racks = NO_RACKS) -> Assignment:
    """Consecutive partitions of each topic, one range a member; within racks first, if that helps any topic.

    Then topics with the same members and as many partitions stay together: who gets an index gets it of all.
    """
    partitions, is_near = partitions_of(topics, members), False
    placements: dict[str, Placement] = {}
    alike: dict[tuple[tuple[str, ...], int], list[str]] = {}
    for topic, some in partitions.items():
        readers = tuple(member for member in in_order(members) if topic in members[member].topics)
        placements[topic] = Placement(*divmod(len(some), len(readers)))
        alike.setdefault((readers, len(some)), []).append(topic)
        is_near |= racks.are_useful([members[reader] for reader in readers], some)

    def take(together: list[str], turns: Iterable[tuple[str, int]], racks: Racks) -> None:
        for member, i in turns:
            fits = all(racks.allow(members[member], (topic, i)) for topic in together)
            if fits and all(placements[topic].may_take(member, (topic, i)) for topic in together):
                for topic in together:
                    placements[topic].put(member, (topic, i))

    for (readers, count), together in alike.items():
        turns = [(reader, i) for reader in readers for i in range(count)]
        if is_near:
            take(together, turns, racks)
        for topic in together:
            take([topic], turns, NO_RACKS)
    owner = {p: member for placement in placements.values() for p, member in sorted(placement.owner.items())}
    return by_member(owner, members)


def assign_round_robin(topics: Mapping[str, int], members: Members, racks: Racks = NO_RACKS) -> Assignment:
    """One partition after the other to the next member in turn that subscribed to its topic; racks play no part."""
    turn = cycle(in_order(members))
    partitions = chain(*partitions_of(topics, members).values())
    return by_member({p: next(m for m in turn if p[0] in members[m].topics) for p in partitions}, members)


def assign_sticky(topics: Mapping[str, int], members: Members, racks: Racks = NO_RACKS) -> Assignment:
    """Balanced, with as few moves as that needs; members have given up all they had (the eager protocol)."""
    return sticky_assignment(topics, members, racks)[0]


def assign_cooperative_sticky(topics: Mapping[str, int], members: Members, racks: Racks = NO_RACKS) -> Assignment:
    """The sticky assignment, but for what another member has yet to give up: that is for the next rebalance."""
    assignment, transferring = sticky_assignment(topics, members, racks)
    return {member: [p for p in partitions if p not in transferring] for member, partitions in assignment.items()}


def sticky_assignment(topics: Mapping[str, int], members: Members, racks: Racks) -> tuple[Assignment, Owners]:
    """The sticky assignment, and the new owners of the partitions that another member had."""
    readers = {topic: [m for m in sorted(members) if topic in members[m].topics] for topic in topics}
    some = partitions_of(topics, members)
    partitions = [p for topic in sorted(some, key=lambda t: (len(readers[t]), t)) for p in some[topic]]
    racks = racks if racks.are_useful(members.values(), partitions) else NO_RACKS
    is_equal = len({frozenset(member.topics) for member in members.values()}) == 1
    room = divmod(len(partitions), len(members)) if is_equal else (len(partitions), 0)
    sticky = Sticky(*room, members=members, racks=racks, readers=readers, is_equal=is_equal)
    previous = previous_owners(set(partitions), members)
    sticky.keep(previous)
    fresh = [partition for partition in partitions if partition not in sticky.owner]
    sticky.fill(fresh)
    sticky.balance(fresh)
    sticky.balance(partitions)
    transferring = {p: member for p, member in sticky.owner.items() if previous.get(p, member) != member}
    return by_member(sticky.owner, members), transferring


def previous_owners(partitions: Collection[TopicPartition], members: Members) -> Owners:
    """Who had a partition in the newest generation that it is claimed in."""
    claims: dict[TopicPartition, list[tuple[int, str]]] = {}
    for member in sorted(members):
        for partition in members[member].owned:
            if partition in partitions:
                claims.setdefault(partition, []).append((members[member].generation, member))
    newest = {p: [member for generation, member in some if generation == max(some)[0]] for p, some in claims.items()}
    return {partition: some[0] if len(some) == 1 else CONTESTED for partition, some in newest.items()}


@dataclass(slots=True, kw_only=True)
class Sticky(Placement):
    """Members keep what they had, then the least loaded get the rest, then loads are balanced."""

    members: Members
    racks: Racks
    readers: Mapping[str, list[str]]
    is_equal: bool

    def keep(self, previous: Owners) -> None:
        """Each member keeps what it had, as far as there is room, it is subscribed and in the rack."""
        by_index = sorted(previous, key=lambda p: (p[1], p[0])) if self.is_equal else list(previous)
        for partition in sorted(by_index, key=lambda p: previous[p], reverse=True):
            member = previous[partition]
            is_able = member in self.readers[partition[0]] and self.racks.allow(self.members[member], partition)
            if is_able and self.may_take(member, partition):
                self.put(member, partition)

    def fill(self, fresh: list[TopicPartition]) -> None:
        """Each partition goes to the least loaded of those in its rack, then the rest to the least loaded of all."""
        for racks in (self.racks, NO_RACKS):
            for p in fresh:
                able = [m for m in self.readers[p[0]] if self.may_take(m, p) and racks.allow(self.members[m], p)]
                if able:
                    self.put(min(able, key=self.load), p)

    def load(self, member: str) -> tuple[int, str]:
        """The order in which members get more."""
        return self.size[member], member

    def balance(self, partitions: list[TopicPartition]) -> None:
        """Move partitions from members that have two more than another could have."""
        home, is_moving = dict(self.owner), True
        while is_moving:
            is_moving = False
            for partition in partitions:
                member = min(self.readers[partition[0]], key=self.load)
                if self.size[self.owner[partition]] > self.size[member] + 1:
                    self.move(partition, member, home)
                    is_moving = True

    def move(self, partition: TopicPartition, member: str, home: Owners) -> None:
        """Move a partition; if one of its topic went the other way before, both go home: no two members swap."""
        for other in sorted(self.owner):
            if other[0] == partition[0] and home[other] == member and self.owner[other] == home[partition] != member:
                self.put(member, other)
                self.put(home[partition], partition)
                return
        self.put(member, partition)


ASSIGNORS: dict[str, Callable[..., Assignment]] = {
    "range": assign_range,
    "roundrobin": assign_round_robin,
    "sticky": assign_sticky,
    "cooperative-sticky": assign_cooperative_sticky,
}
