"""The assignors on random groups: everything assigned once, to subscribers, in balance, and with few moves."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, pairwise, product

from hwmark.refimpl.assignors import ASSIGNORS, NO_RACKS, Assignment, Racks, Subscription, previous_owners
from hwmark.refimpl.batches import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

Topics = dict[str, int]
Group = dict[str, Subscription]

NAMES = ("a", "b", "c", "d", "e")
TOPICS = st.dictionaries(st.sampled_from(("t1", "t2", "t3")), st.integers(0, 5), min_size=1)
STICKY = ("sticky", "cooperative-sticky")
FOLLOW_UPS_MAX = 4


TOPIC_SETS = [topics for size in (1, 2, 3) for topics in combinations(("t1", "t2", "t3"), size)]
MEMBERS = [
    Subscription(topics, instance=instance, rack=rack)
    for topics, instance, rack in product(TOPIC_SETS, (None, "static"), (None, "x", "y", "z"))
]


def groups(is_equal: bool = False) -> st.SearchStrategy[Group]:
    """Members that own nothing, with any subscriptions or with equal ones."""
    group = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(MEMBERS), min_size=1)
    equal = st.tuples(group, st.sampled_from(TOPIC_SETS)).map(
        lambda drawn: {name: member._replace(topics=drawn[1]) for name, member in drawn[0].items()}
    )
    return (equal if is_equal else st.one_of(equal, group)).map(
        lambda group: {name: member._replace(instance=member.instance and f"i{name}") for name, member in group.items()}
    )


def racks_of(number: int) -> Racks:
    """Each partition's replicas are in one to three of three racks, by a digit of the number; 0 knows of no racks."""
    where = [frozenset(rack for bit, rack in enumerate("xyz") if (digit + 1) >> bit & 1) for digit in range(7)]
    partitions = [(topic, i) for topic in ("t1", "t2", "t3") for i in range(5)]
    return {p: where[number // 7**at % 7] for at, p in enumerate(partitions)} if number else NO_RACKS


RACKS = st.integers(0, 7**15 - 1).map(racks_of)


def owning(group: Group, assignment: Assignment, generation: int = 1) -> Group:
    """The members as they join again, with what they were assigned."""
    return {
        name: member._replace(owned=tuple(assignment.get(name, ())), generation=generation)
        for name, member in group.items()
    }


def owners(assignment: Assignment) -> dict[TopicPartition, str]:
    """Who has each partition; nobody shares one."""
    pairs = [(partition, name) for name, partitions in assignment.items() for partition in partitions]
    assert len(pairs) == len(dict(pairs))
    return dict(pairs)


def with_transfers(topics: Topics, group: Group) -> tuple[Assignment, dict[TopicPartition, str]]:
    """The sticky assignment, and the new owners of what somebody else had."""
    assignment, previous = ASSIGNORS["sticky"](topics, group), previous_owners(group)
    return assignment, {p: name for p, name in owners(assignment).items() if previous.get(p, name) != name}


def settled(topics: Topics, group: Group, racks: Racks = NO_RACKS) -> Assignment:
    """What cooperative rebalances lead to; none of them gives what another member still has."""
    for _ in range(FOLLOW_UPS_MAX):
        assignment = ASSIGNORS["cooperative-sticky"](topics, group, racks)
        new, claimed = owners(assignment), {p: name for name in group for p in group[name].owned}
        assert all(claimed.get(partition, name) == name for partition, name in new.items())
        if set(claimed) & {(t, i) for t in topics for i in range(topics[t])} <= set(new):
            return assignment
        group = owning(group, assignment)
    raise AssertionError("still revoking")


def assigned(name: str, topics: Topics, group: Group, racks: Racks = NO_RACKS) -> Assignment:
    """The assignment of one of the four, settled."""
    return settled(topics, group, racks) if name == "cooperative-sticky" else ASSIGNORS[name](topics, group, racks)


def check_complete(topics: Topics, group: Group, assignment: Assignment) -> None:
    """Every partition of a subscribed topic is assigned once, to a subscriber."""
    wanted = {topic for member in group.values() for topic in member.topics}
    assert set(owners(assignment)) == {(t, i) for t in wanted & set(topics) for i in range(topics[t])}
    assert set(assignment) == set(group)
    for name, partitions in assignment.items():
        assert {topic for topic, _ in partitions} <= set(group[name].topics)


def check_balanced(group: Group, assignment: Assignment) -> None:
    """No partition could go to a subscriber that has two less."""
    for partitions in assignment.values():
        for topic, _ in partitions:
            assert all(len(partitions) <= len(assignment[other]) + 1 for other in group if topic in group[other].topics)


@given(TOPICS, groups(), RACKS)
def test_every_partition_has_one_subscriber(topics: Topics, group: Group, racks: Racks) -> None:
    for name in ASSIGNORS:
        check_complete(topics, group, assigned(name, topics, group, racks))


@given(TOPICS, groups(), RACKS)
def test_the_order_of_members_does_not_matter(topics: Topics, group: Group, racks: Racks) -> None:
    for assign in ASSIGNORS.values():
        backwards = assign(dict(reversed(topics.items())), dict(reversed(group.items())), racks)
        assert backwards == assign(topics, group, racks)


@given(TOPICS, groups(), RACKS)
def test_ranges_divide_each_topic(topics: Topics, group: Group, racks: Racks) -> None:
    sizes = Counter((name, topic) for (topic, _), name in owners(ASSIGNORS["range"](topics, group, racks)).items())
    for topic in topics:
        of_topic = [sizes[name, topic] for name in group if topic in group[name].topics]
        assert not of_topic or max(of_topic) - min(of_topic) <= 1


@given(TOPICS, groups())
def test_ranges_are_consecutive_without_racks(topics: Topics, group: Group) -> None:
    for partitions in ASSIGNORS["range"](topics, group).values():
        for (topic, i), (other, j) in pairwise(partitions):
            assert topic < other or j == i + 1


@given(st.integers(1, 5), groups(is_equal=True), RACKS)
def test_ranges_of_alike_topics_stay_together(count: int, group: Group, racks: Racks) -> None:
    topics = dict.fromkeys(next(iter(group.values())).topics, count)
    alike = {(topic, i): racks.get(("t1", i), frozenset()) for topic, i in racks}
    owner = owners(ASSIGNORS["range"](topics, group, alike))
    for i in range(count):
        assert len({owner[topic, i] for topic in topics}) == 1


@given(TOPICS, groups(is_equal=True))
def test_round_robin_balances_equal_subscriptions(topics: Topics, group: Group) -> None:
    check_balanced(group, ASSIGNORS["roundrobin"](topics, group))


@given(TOPICS, groups(), TOPICS, groups(), RACKS)
def test_sticky_is_complete_and_balanced_after_any_change(
    before: Topics, old: Group, topics: Topics, group: Group, racks: Racks
) -> None:
    for name in STICKY:
        assignment = assigned(name, topics, owning(group, assigned(name, before, old)), racks)
        check_complete(topics, group, assignment)
        check_balanced(group, assignment)


@given(TOPICS, groups())
def test_sticky_moves_nothing_if_nothing_changes(topics: Topics, group: Group) -> None:
    for name in STICKY:
        assignment = assigned(name, topics, group)
        assert owners(ASSIGNORS[name](topics, owning(group, assignment))) == owners(assignment)


@given(TOPICS, groups(), st.sampled_from(NAMES))
def test_who_stays_keeps_all_when_another_leaves(topics: Topics, group: Group, leaver: str) -> None:
    assignment = ASSIGNORS["sticky"](topics, group)
    rest = {name: member for name, member in group.items() if name != leaver}
    if rest and len({member.topics for member in rest.values()}) == 1 == len({m.topics for m in group.values()}):
        after = ASSIGNORS["sticky"](topics, owning(rest, assignment))
        assert all(set(assignment[name]) <= set(after[name]) for name in rest)


@given(TOPICS, groups(is_equal=True), groups(is_equal=True))
def test_sticky_moves_no_more_than_quotas_need(topics: Topics, old: Group, group: Group) -> None:
    before = owners(ASSIGNORS["sticky"](topics, old))
    assignment, transferring = with_transfers(topics, owning(group, ASSIGNORS["sticky"](topics, old)))
    sizes = Counter(name for (topic, _), name in before.items() if name in group and topic in group[name].topics)
    low, extra = divmod(sum(map(len, assignment.values())), len(group))
    over = sorted((max(0, sizes[name] - low) for name in group), reverse=True)
    assert len(transferring) == sum(over) - sum(size > 0 for size in over[:extra])


@given(TOPICS, groups(), groups())
def test_no_two_members_swap_partitions_of_a_topic(topics: Topics, old: Group, group: Group) -> None:
    before = owners(ASSIGNORS["sticky"](topics, old))
    after = owners(ASSIGNORS["sticky"](topics, owning(group, ASSIGNORS["sticky"](topics, old))))
    moves = {(p[0], before[p], name) for p, name in after.items() if before.get(p, name) != name}
    assert not any((topic, new, old_owner) in moves for topic, old_owner, new in moves)


def test_the_newer_claim_holds_and_equal_claims_hold_for_nobody() -> None:
    a, b = Subscription(("t",), (("t", 0),), 4), Subscription(("t",), (("t", 0), ("t", 1)), 5)
    assert with_transfers({"t": 2}, {"a": a, "b": b}) == (
        {"a": [("t", 1)], "b": [("t", 0)]},
        {("t", 1): "a"},
    )
    both = {"a": a._replace(generation=5), "b": b}
    assert with_transfers({"t": 2}, both)[1] == {("t", 0): "a"}
    assert ASSIGNORS["cooperative-sticky"]({"t": 2}, both) == {"a": [], "b": [("t", 1)]}


def test_a_partition_goes_to_the_rack_of_its_replica() -> None:
    group = {name: Subscription(("t",), rack=rack) for name, rack in (("a", "x"), ("b", "y"))}
    racks = {("t", 0): frozenset("y"), ("t", 1): frozenset("x")}
    for name in ("range", *STICKY):
        assert ASSIGNORS[name]({"t": 2}, group, racks) == {"a": [("t", 1)], "b": [("t", 0)]}
        assert ASSIGNORS[name]({"t": 2}, group) == {"a": [("t", 0)], "b": [("t", 1)]}


def partitions_named(names: str) -> tuple[TopicPartition, ...]:
    """t0 u1 are partition 0 of t and partition 1 of u."""
    return tuple((name[0], int(name[1:])) for name in names.split())


def check_example(name: str, group: dict[str, tuple[str, str, str]], where: str, expected: dict[str, str]) -> None:
    """Members are (topics, owned, rack); `where` says per partition in which racks it is, as in t0:xy."""
    replicas = {(p[0], int(p[1])): frozenset(p[3:]) for p in where.split()}
    topics = Counter(topic for topic, _ in replicas)
    members = {
        member: Subscription(tuple(subscribed), partitions_named(owned), 1, None, rack or None)
        for member, (subscribed, owned, rack) in group.items()
    }
    assignment = ASSIGNORS[name](topics, members, replicas)
    assert {member: set(partitions) for member, partitions in assignment.items()} == {
        member: set(partitions_named(partitions)) for member, partitions in expected.items()
    }


def test_a_member_without_a_rack_keeps_what_it_had() -> None:
    check_example("sticky", {"a": ("tu", "t0", ""), "b": ("tu", "", "y")}, "t0:y u0:yz", {"a": "t0", "b": "u0"})


def test_balancing_moves_fresh_partitions_first() -> None:
    group = {"a": ("tu", "t0 u0", ""), "b": ("tu", "", "y"), "c": ("t", "", "y")}
    check_example("sticky", group, "t0:z u0:xy u1:y u2:xz", {"a": "u0", "b": "u1 u2", "c": "t0"})


def test_static_members_come_first() -> None:
    group = {
        "a": Subscription(("t",)),
        "b": Subscription(("t",), instance="z"),
        "c": Subscription(("t",), instance="y"),
    }
    for name in ("range", "roundrobin"):
        assert ASSIGNORS[name]({"t": 3}, group) == {"a": [("t", 2)], "b": [("t", 1)], "c": [("t", 0)]}
