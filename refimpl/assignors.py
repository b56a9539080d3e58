"""Who of a consumer group reads which partition: Kafka's range, roundrobin, sticky and cooperative-sticky assignors.

The member that leads the group computes this from all subscriptions. Where Kafka's answer hangs on the order of a hash
map, names decide here. Kafka has two sticky algorithms, one for equal subscriptions (nobody keeps more than its share)
and one for others (loads are balanced afterwards); they are one here, which always balances, and knows no shares for
the others. It gives what is free to the least loaded, where Kafka deals equal subscriptions out in turns. Each move
brings two loads closer; Kafka searches a rack without effect, prefers claims of earlier generations, sends partitions
home rather than let two members swap some of a topic, and takes all moves back if they did not help. A partition that
two members claim in one generation is nobody's; Kafka forgets that if subscriptions differ. Racks count if any are
known, for sticky if they differ; Kafka asks for members in them too.

Source: RangeAssignor, RoundRobinAssignor, AbstractStickyAssignor, CooperativeStickyAssignor of Kafka's clients; KIP-54
(sticky), KIP-345 (static members), KIP-429 (cooperative), KIP-792 (generations), KIP-881 (racks).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import cycle, product
from typing import Any, NamedTuple

from .batches import TopicPartition

Assignment = dict[str, list[TopicPartition]]
Owners = dict[TopicPartition, str]
Racks = Mapping[TopicPartition, frozenset[str]]  # where the replicas are
NO_RACKS: Racks = {}


class Subscription(NamedTuple):
    """What a member says when it joins; `owned` is what it was assigned in `generation`."""

    topics: tuple[str, ...]
    owned: tuple[TopicPartition, ...] = ()
    generation: int = -1
    instance: str | None = None
    rack: str | None = None


Members = Mapping[str, Subscription]


def in_order(members: Members) -> list[str]:
    """Static members by their instance, then the others by their ids."""
    return sorted(members, key=lambda member: (members[member].instance is None, members[member].instance or member))


def readers_of(topics: Mapping[str, int], members: Members) -> dict[str, list[str]]:
    """Who subscribed to each topic that exists, for those that somebody did; `topics` counts partitions."""
    readers = {topic: [id for id in in_order(members) if topic in members[id].topics] for topic in sorted(topics)}
    return {topic: some for topic, some in readers.items() if some}


def load(owner: Mapping[Any, str], member: str) -> int:
    """How many partitions a member has so far."""
    return [*owner.values()].count(member)


def lightest(owner: Owners, members: Iterable[str]) -> str:
    """Who gets more first."""
    return min(members, key=lambda member: (load(owner, member), member))


def is_near(partition: TopicPartition, member: Subscription, racks: Racks) -> bool:
    """Whether a replica is in the member's rack, as far as is known."""
    return not racks or not member.rack or member.rack in racks.get(partition, ())


def by_member(owner: Owners, members: Members) -> Assignment:
    """Each member's partitions, in the order of assignment."""
    return {member: [partition for partition, its in owner.items() if its == member] for member in members}


def assign_range(topics: Mapping[str, int], members: Members, racks: Racks = NO_RACKS) -> Assignment:
    """Consecutive partitions of each topic, one range a member; within racks first.

    Topics with the same members and as many partitions stay together: who gets an index gets it of all.
    """
    alike: dict[tuple[tuple[str, ...], int], list[str]] = {}
    for topic, some in readers_of(topics, members).items():
        alike.setdefault((tuple(some), topics[topic]), []).append(topic)
    owner: Owners = {}
    for (readers, count), together in alike.items():
        placed, (low, extra) = dict[int, str](), divmod(count, len(readers))
        for near, reader, i in product((racks, NO_RACKS), readers, range(count)):
            quota = low + (sum(load(placed, other) > low for other in readers) < extra)
            may_take = i not in placed and load(placed, reader) < quota
            if may_take and all(is_near((topic, i), members[reader], near) for topic in together):
                placed[i] = reader
        owner |= {(topic, i): reader for topic in together for i, reader in placed.items()}
    return by_member(dict(sorted(owner.items())), members)


def assign_round_robin(topics: Mapping[str, int], members: Members, racks: Racks = NO_RACKS) -> Assignment:
    """One partition after the other to the next member in turn that subscribed to its topic; racks play no part."""
    turn, readers = cycle(in_order(members)), readers_of(topics, members)
    partitions = [(topic, i) for topic in readers for i in range(topics[topic])]
    return by_member({p: next(id for id in turn if id in readers[p[0]]) for p in partitions}, members)


def assign_sticky(topics: Mapping[str, int], members: Members, racks: Racks = NO_RACKS) -> Assignment:
    """Balanced, with as few moves as that needs; members have given up all they had (the eager protocol).

    Members keep what they had up to their share, then the least loaded get the rest, within racks first; then loads are
    balanced, by what changes hands anyway first.
    """
    readers, previous, owner = readers_of(topics, members), previous_owners(members), Owners()
    partitions = [(topic, i) for topic in sorted(readers, key=lambda t: len(readers[t])) for i in range(topics[topic])]
    near = racks if len({racks.get(partition) for partition in partitions}) > 1 else NO_RACKS
    is_equal = len({frozenset(member.topics) for member in members.values()}) == 1
    share = len(partitions) / len(members) if is_equal else len(partitions)
    offers = [(p, [previous[p]], near) for p in sorted(previous.keys() & partitions, key=lambda p: (p[1], p[0]))]
    offers += [(p, readers[p[0]], where) for where, p in product((near, NO_RACKS), partitions)]
    for p, whom, where in offers:
        able = [id for id in readers[p[0]] if id in whom and load(owner, id) < share and is_near(p, members[id], where)]
        if able and p not in owner:
            owner[p] = lightest(owner, able)
    partitions.sort(key=lambda p: previous.get(p) == owner[p])

    def excess(p: TopicPartition) -> int:
        return load(owner, owner[p]) - load(owner, lightest(owner, readers[p[0]]))

    while heavy := [p for p in partitions if excess(p) > 1]:
        owner[heavy[0]] = lightest(owner, readers[heavy[0][0]])
    return by_member(owner, members)


def assign_cooperative_sticky(topics: Mapping[str, int], members: Members, racks: Racks = NO_RACKS) -> Assignment:
    """The sticky assignment, but for what another member has yet to give up: that is for the next rebalance."""
    previous, assignment = previous_owners(members), assign_sticky(topics, members, racks)
    return {member: [p for p in its if previous.get(p, member) == member] for member, its in assignment.items()}


def previous_owners(members: Members) -> Owners:
    """Who had a partition in the newest generation that it is claimed in; "" if several members claim it there."""
    claims = sorted((members[id].generation, id, p) for id in members for p in members[id].owned)
    count = Counter((generation, p) for generation, _, p in claims)
    return {p: id if count[generation, p] == 1 else "" for generation, id, p in claims}


ASSIGNORS: dict[str, Callable[..., Assignment]] = {
    "range": assign_range,
    "roundrobin": assign_round_robin,
    "sticky": assign_sticky,
    "cooperative-sticky": assign_cooperative_sticky,
}
