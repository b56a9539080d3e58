"""Kafka's tests of its assignors, asked of refimpl's."""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

from hwmark.refimpl.assignors import ASSIGNORS, Assignment, Racks, Subscription, previous_owners
from hwmark.refimpl.batches import TopicPartition

Row = dict[str, Any]

KEEPS = (
    "each keeps up to its share rounded up, and one of those with more is chosen when loads are balanced: another "
    "member than Kafka's gives up its partition, as many move"
)
DISAGREES = {
    "sticky.testAddRemoveTwoConsumersTwoTopics.3": "what is free goes to the least loaded, not around in turns: "
    "another assignment, that is balanced and moves nothing either",
    "sticky.testMaxQuotaConsumerMoreThanNumExpectedMaxCapacityMembers.1": KEEPS,
    "cooperative-sticky.testMaxQuotaConsumerMoreThanNumExpectedMaxCapacityMembers.1": KEEPS,
}

FOLLOW_UPS_MAX = 4

# What others refer to and the table leaves out, as Kafka's StickyAssignorTest says it.
MULTIPLE_GENERATIONS = {
    "test": "testAssignmentWithMultipleGenerations2",
    "assignor": "sticky",
    "topics": {"topic": 4, "topic2": 4, "topic3": 4},
}
LEFT_OUT = [
    {
        **MULTIPLE_GENERATIONS,
        "id": "sticky.testAssignmentWithMultipleGenerations2.1",
        "members": {f"consumer{i}": {"topics": ["topic", "topic2", "topic3"]} for i in (1, 2, 3)},
    },
    {
        **MULTIPLE_GENERATIONS,
        "id": "sticky.testAssignmentWithMultipleGenerations2.5",
        "members": {
            "consumer2": {"topics": ["topic", "topic2", "topic3"], "owned": "result of row 4", "generation": 1}
        },
    },
]


def run(row: Row, table: list[Row]) -> None:
    """Assign, rebalance until nothing is revoked, and compare."""
    members, topics, racks = subscriptions(row, table), row["topics"], racks_of(row)
    first = ASSIGNORS[row["assignor"]](topics, members, racks)
    final = settled(row, members, first)
    expect = row["expect"]
    assignment = final if expect.get("stage") == "final" else first
    check_assignment(row, assignment)
    check_transfers(row, members, racks)
    if "rack_mismatches" in expect:
        assert rack_mismatches(members, racks, first) == expect["rack_mismatches"]
    for promise in expect.get("properties", ()):
        PROPERTIES[promise](topics, members, first if promise == "no_partition_twice" else final)
    for member, wanted in expect.get("contains", {}).items():
        assert set(parsed(row, table, member, wanted)) <= set(assignment[member])
    for member, wanted in expect.get("subset_of", {}).items():
        assert set(assignment[member]) <= set(parsed(row, table, member, wanted))
    if "also" in row:
        said = re.fullmatch(r"(\w+) gets at least one partition (\w+) had in row (\d+)", row["also"])
        assert said is not None
        assert set(assignment[said[1]]) & set(result_of(row, table, int(said[3]))[said[2]])


def check_assignment(row: Row, assignment: Assignment) -> None:
    """The exact lists of the members named, and what is said about sizes."""
    expect = row["expect"]
    assert set(assignment) == set(row["members"])
    kind = list if row.get("ordered") else sorted
    for member, wanted in expect.get("assignment", {}).items():
        assert kind(assignment[member]) == kind(map(partition_named, wanted))
    sizes = {member: len(partitions) for member, partitions in assignment.items()}
    for rule, wanted in expect.get("sizes", {}).items():
        if rule == "multiset":
            assert sorted(sizes.values()) == sorted(wanted)
        elif rule == "each_min":
            assert min(sizes.values()) >= wanted
        elif rule == "each_max":
            assert max(sizes.values()) <= wanted
        else:
            assert sizes[rule] == wanted
    if "per_topic_each" in expect:
        for partitions in assignment.values():
            assert Counter(topic for topic, _ in partitions) == dict.fromkeys(row["topics"], expect["per_topic_each"])
    if "total" in expect:
        assert sum(sizes.values()) == expect["total"]


def check_transfers(row: Row, members: dict[str, Subscription], racks: Racks) -> None:
    """The partitions that move between members in the first call."""
    wanted = row["expect"].get("transferring")
    if wanted is None:
        return
    previous, assignment = previous_owners(members), ASSIGNORS["sticky"](row["topics"], members, racks)
    transferring = {p: m for m, some in assignment.items() for p in some if previous.get(p, m) != m}
    if "count" in wanted:
        assert len(transferring) == wanted["count"]
    else:
        assert transferring == {partition_named(name): member for name, member in wanted.items()}


def settled(row: Row, members: dict[str, Subscription], assignment: Assignment) -> Assignment:
    """The assignment after the rebalances that cooperation needs; eager assignors need none."""
    if row["assignor"] != "cooperative-sticky":
        return assignment
    for _ in range(FOLLOW_UPS_MAX + 1):
        given = {member: set(partitions) for member, partitions in assignment.items()}
        revoked = {p for member in members for p in members[member].owned if p not in given[member]}
        added = {p for member in members for p in given[member] - set(members[member].owned)}
        assert not revoked & added
        if not revoked:
            return assignment
        members = {m: members[m]._replace(owned=tuple(assignment[m]), generation=1) for m in members}
        assignment = ASSIGNORS[row["assignor"]](row["topics"], members, racks_of(row))
    raise AssertionError("still revoking")


# ---------------------------------------------------------------- properties


def no_partition_twice(topics: dict[str, int], members: dict[str, Subscription], assignment: Assignment) -> None:
    """Nobody shares a partition."""
    partitions = [partition for some in assignment.values() for partition in some]
    assert len(partitions) == len(set(partitions))


def valid(topics: dict[str, int], members: dict[str, Subscription], assignment: Assignment) -> None:
    """Only to subscribers, all that exist, and none twice."""
    no_partition_twice(topics, members, assignment)
    for member, partitions in assignment.items():
        assert {topic for topic, _ in partitions} <= set(members[member].topics)
    wanted = {topic for member in members.values() for topic in member.topics}
    assert sum(map(len, assignment.values())) == sum(topics.get(topic, 0) for topic in wanted)


def balanced(topics: dict[str, int], members: dict[str, Subscription], assignment: Assignment) -> None:
    """Who has two more than another shares no topic with it that could move."""
    for more in assignment.values():
        for member, less in assignment.items():
            if len(more) > len(less) + 1:
                assert not {topic for topic, _ in more} & set(members[member].topics)


def fully_balanced(topics: dict[str, int], members: dict[str, Subscription], assignment: Assignment) -> None:
    """Sizes differ by one at most."""
    sizes = [len(partitions) for partitions in assignment.values()]
    assert max(sizes) - min(sizes) <= 1


def sticky(topics: dict[str, int], members: dict[str, Subscription], assignment: Assignment) -> None:
    """No two members swap partitions of a topic."""
    owner = {p: member for member, subscription in members.items() for p in subscription.owned}
    moves = {(p[0], owner[p], m) for m, some in assignment.items() for p in some if owner.get(p, m) != m}
    assert not any((topic, new, old) in moves for topic, old, new in moves)


PROPERTIES = {check.__name__: check for check in (no_partition_twice, valid, balanced, fully_balanced, sticky)}


def rack_mismatches(members: dict[str, Subscription], racks: Racks, assignment: Assignment) -> int:
    """How many partitions went to a member that has no replica in its rack."""
    return sum(
        bool(members[member].rack) and members[member].rack not in racks.get(partition, ())
        for member, partitions in assignment.items()
        for partition in partitions
    )


# ---------------------------------------------------------------- reading a row


def subscriptions(row: Row, table: list[Row]) -> dict[str, Subscription]:
    """The members' subscriptions."""
    return {
        member: Subscription(
            tuple(said["topics"]),
            () if row.get("owned_ignored") else tuple(parsed(row, table, member, said.get("owned", []))),
            said.get("generation", -1),
            said.get("instance"),
            said.get("rack"),
        )
        for member, said in row["members"].items()
    }


def parsed(row: Row, table: list[Row], member: str, partitions: str | list[str]) -> list[TopicPartition]:
    """Partitions by name, or what the member got in an earlier row."""
    if isinstance(partitions, list):
        return list(map(partition_named, partitions))
    return result_of(row, table, int(partitions.rsplit(" ", 1)[1])).get(member, [])


def result_of(row: Row, table: list[Row], index: int) -> Assignment:
    """What the row of the same test with that index was settled with; both sticky assignors have the same tests."""
    same = [other for other in table + own_table() + LEFT_OUT if other["id"].endswith(f".{row['test']}.{index}")]
    earlier = {**min(same, key=lambda other: other["assignor"] != row["assignor"]), "assignor": row["assignor"]}
    members = subscriptions(earlier, table)
    first = ASSIGNORS[earlier["assignor"]](earlier["topics"], members, racks_of(earlier))
    return settled(earlier, members, first)


@cache
def own_table() -> list[Row]:
    """The rows that are here, for what rows of another folder refer to."""
    file = Path(__file__).parent / "data" / "kafka-tables" / "assignors.json"
    return list(json.loads(file.read_text())["rows"])


def partition_named(name: str) -> TopicPartition:
    """t1-0 is partition 0 of t1."""
    topic, index = name.rsplit("-", 1)
    return topic, int(index)


def racks_of(row: Row) -> Racks:
    """The racks with a replica of each partition."""
    return {
        (topic, index): frozenset(some)
        for topic, partitions in row.get("partition_racks", {}).items()
        for index, some in enumerate(partitions)
    }
