"""Who of a consumer group reads which partition: Kafka's range, roundrobin, sticky and cooperative-sticky assignors.

The member that leads the group computes this from all subscriptions. Where Kafka's answer hangs on the order of a hash
map, names decide here. Kafka has two sticky algorithms, one for equal subscriptions (everybody has a quota) and one for
others (loads are balanced afterwards); they are one here, with an endless quota for the others. It gives what is free
to the least loaded, where Kafka deals equal subscriptions out in turns. When it balances, each move brings two loads
closer; Kafka searches a rack without effect, prefers claims of earlier generations, sends partitions home rather than
let two members swap some of a topic, and takes all moves back if they did not help. A partition that two members claim
in one generation is nobody's; Kafka forgets that if subscriptions differ. Racks count if any are known, for sticky if
they differ; Kafka asks for members in them too.

Source: RangeAssignor, RoundRobinAssignor, AbstractStickyAssignor, CooperativeStickyAssignor of Kafka's clients; KIP-54
(sticky), KIP-345 (static members), KIP-429 (cooperative), KIP-792 (generations), KIP-881 (racks).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import cycle, product
from typing import NamedTuple

from .batches import TopicPartition

NO_GENERATION = -1
CONTESTED = ""  # instead of a member's id

Assignment = dict[str, list[TopicPartition]]
Owners = dict[TopicPartition, str]
Topics = Mapping[str, int]  # partitions of each
Readers = Mapping[str, tuple[str, ...]]  # members by topic
Racks = Mapping[TopicPartition, frozenset[str]]  # where the replicas are
NO_RACKS: Racks = {}


class Subscription(NamedTuple):
    """What a member says when it joins; `owned` is what it was assigned in `generation`."""

    topics: tuple[str, ...]
    owned: tuple[TopicPartition, ...] = ()
    generation: int = NO_GENERATION
    instance: str | None = None
    rack: str | None = None


Members = Mapping[str, Subscription]


@dataclass(slots=True)
class Placement:
    """Who has a partition; room is for `low` each, and one more for `extra` members."""

    members: Members
    low: int
    extra: int
    owner: Owners = field(default_factory=dict)
    size: Counter[str] = field(default_factory=Counter)

    def may_take(self, member: str, partition: TopicPartition, racks: Racks) -> bool:
        """Whether the partition is free and as far as is known in the member's rack, and the member has room for it."""
        has_room = partition not in self.owner and self.size[member] < self.low + (self.extra > 0)
        rack = self.members[member].rack
        return has_room and (not racks or not rack or rack in racks.get(partition, ()))

    def put(self, member: str, partition: TopicPartition) -> None:
        """The member gets the partition; who had it before loses it."""
        if partition in self.owner:
            self.size[self.owner.pop(partition)] -= 1
        self.owner[partition] = member
        self.size[member] += 1
        self.extra -= self.size[member] == self.low + 1

    def least_loaded(self, members: Iterable[str]) -> str:
        """Who gets more first."""
        return min(members, key=lambda member: (self.size[member], member))

    def balance(self, partitions: Iterable[TopicPartition], readers: Readers) -> None:
        """Move partitions from members that have two more than another could have."""

        def is_heavy(p: TopicPartition) -> bool:
            return self.size[self.owner[p]] > self.size[self.least_loaded(readers[p[0]])] + 1

        while partition := next(filter(is_heavy, partitions), None):
            self.put(self.least_loaded(readers[partition[0]]), partition)


def in_order(members: Members) -> list[str]:
    """Static members by their instance, then the others by their ids."""
    return sorted(members, key=lambda member: (members[member].instance is None, members[member].instance or member))


def readers_of(topics: Topics, members: Members) -> Readers:
    """Who subscribed to each topic that exists, for those that somebody did."""
    readers = {topic: tuple(id for id in in_order(members) if topic in members[id].topics) for topic in sorted(topics)}
    return {topic: some for topic, some in readers.items() if some and topics[topic]}


def by_member(owner: Owners, members: Members) -> Assignment:
    """Each member's partitions, in the order of assignment."""
    return {member: [partition for partition, its in owner.items() if its == member] for member in members}


def assign_range(topics: Topics, members: Members, racks: Racks = NO_RACKS) -> Assignment:
    """Consecutive partitions of each topic, one range a member; within racks first.

    There topics with the same members and as many partitions stay together: who gets an index gets it of all.
    """
    alike: dict[tuple[tuple[str, ...], int], list[str]] = {}
    for topic, readers in readers_of(topics, members).items():
        alike.setdefault((readers, topics[topic]), []).append(topic)
    owner: Owners = {}
    for (readers, count), together in alike.items():
        placements = {topic: Placement(members, *divmod(count, len(readers))) for topic in together}
        for some, near in [(together, racks), *[([topic], NO_RACKS) for topic in together]]:
            for reader, i in product(readers, range(count)):
                if all(placements[topic].may_take(reader, (topic, i), near) for topic in some):
                    for topic in some:
                        placements[topic].put(reader, (topic, i))
        owner |= {p: reader for placement in placements.values() for p, reader in placement.owner.items()}
    return by_member(dict(sorted(owner.items())), members)


def assign_round_robin(topics: Topics, members: Members, racks: Racks = NO_RACKS) -> Assignment:
    """One partition after the other to the next member in turn that subscribed to its topic; racks play no part."""
    turn, readers = cycle(in_order(members)), readers_of(topics, members)
    partitions = [(topic, i) for topic in readers for i in range(topics[topic])]
    return by_member({p: next(id for id in turn if id in readers[p[0]]) for p in partitions}, members)


def assign_sticky(topics: Topics, members: Members, racks: Racks = NO_RACKS) -> Assignment:
    """Balanced, with as few moves as that needs; members have given up all they had (the eager protocol)."""
    return sticky_assignment(topics, members, racks)[0]


def assign_cooperative_sticky(topics: Topics, members: Members, racks: Racks = NO_RACKS) -> Assignment:
    """The sticky assignment, but for what another member has yet to give up: that is for the next rebalance."""
    assignment, transferring = sticky_assignment(topics, members, racks)
    return {member: [p for p in partitions if p not in transferring] for member, partitions in assignment.items()}


def sticky_assignment(topics: Topics, members: Members, racks: Racks) -> tuple[Assignment, Owners]:
    """The sticky assignment, and the new owners of the partitions that another member had.

    Members keep what they had if there is room, then the least loaded get the rest, within racks first; then loads are
    balanced, fresh partitions first.
    """
    readers = readers_of(topics, members)
    partitions = [(topic, i) for topic in sorted(readers, key=lambda t: len(readers[t])) for i in range(topics[topic])]
    near = racks if len({racks.get(partition) for partition in partitions}) > 1 else NO_RACKS
    is_equal = len({frozenset(member.topics) for member in members.values()}) == 1
    placement = Placement(members, *(divmod(len(partitions), len(members)) if is_equal else (len(partitions), 0)))
    previous = previous_owners(partitions, members)
    for p in sorted(sorted(previous, key=lambda p: (p[1], p[0])), key=lambda p: previous[p], reverse=True):
        if previous[p] in readers[p[0]] and placement.may_take(previous[p], p, near):
            placement.put(previous[p], p)
    fresh = [partition for partition in partitions if partition not in placement.owner]
    for where, p in product((near, NO_RACKS), fresh):
        if able := [id for id in readers[p[0]] if placement.may_take(id, p, where)]:
            placement.put(placement.least_loaded(able), p)
    placement.balance(fresh, readers)
    placement.balance(partitions, readers)
    transferring = {p: id for p, id in placement.owner.items() if previous.get(p, id) != id}
    return by_member(placement.owner, members), transferring


def previous_owners(partitions: Collection[TopicPartition], members: Members) -> Owners:
    """Who had a partition in the newest generation that it is claimed in, if one member alone claims it."""
    claims = sorted((members[id].generation, id, p) for id in members for p in members[id].owned if p in partitions)
    count = Counter((generation, p) for generation, _, p in claims)
    return {p: id if count[generation, p] == 1 else CONTESTED for generation, id, p in claims}


ASSIGNORS: dict[str, Callable[..., Assignment]] = {
    "range": assign_range,
    "roundrobin": assign_round_robin,
    "sticky": assign_sticky,
    "cooperative-sticky": assign_cooperative_sticky,
}
