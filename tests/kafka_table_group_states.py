"""Puts the rows of group_states.json to GroupMetadata: operations on a new group, then what is asked of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from hwmark.refimpl.batches import NOBODY, Producer, TopicPartition
from hwmark.refimpl.config import OFFSETS_TOPIC
from hwmark.refimpl.coordinator import Append, Respond
from hwmark.refimpl.errors import KafkaError
from hwmark.refimpl.group_coordinator import (
    COMPLETING_REBALANCE,
    DEAD,
    EMPTY,
    NOT_REPLICATED,
    PREPARING_REBALANCE,
    STABLE,
    VALID_PREVIOUS_STATES,
    ConsumerGroupMetadata,
    GroupMetadata,
    Member,
    OffsetAndMetadata,
)

NO_STRANGERS = "the coordinator gives out new ids, and expects SyncGroup of the members: there is nothing to refuse"
DISAGREES = (
    {
        f"{test}.1": NO_STRANGERS
        for test in (
            "G.testCannotAddPendingMemberIfStable",
            "G.testCannotAddPendingSyncOfUnknownMember",
            "C.testCannotAddPendingMemberIfStable",
            "C.testCannotAddPendingSyncOfUnknownMember",
        )
    }
    | {
        f"{group}.{test}": reason
        for group in "GC"
        for test, reason in (
            ("testCannotAddStaticMemberIfAlreadyPresent.2", "the coordinator adds no instance that is there"),
            ("testNewGenerationClearsPendingSyncMembers.2", "members owe their SyncGroup as soon as they have joined"),
        )
    }
    | {
        "C.testValidateOffsetCommit.10": "the coordinator keeps no group that is dead, and so asks none",
        "G.testSupportsProtocols.6": "all groups are of consumers: there is no other protocol type",
    }
)

WAY_TO = {
    EMPTY: [],
    PREPARING_REBALANCE: [PREPARING_REBALANCE],
    COMPLETING_REBALANCE: [PREPARING_REBALANCE, COMPLETING_REBALANCE],
    STABLE: [PREPARING_REBALANCE, COMPLETING_REBALANCE, STABLE],
    DEAD: [DEAD],
}
START, PARKED_JOIN, PARKED_SYNC = 1_000, "a parked JoinGroup", "a parked SyncGroup"


class Subscription(NamedTuple):
    """A consumer's metadata."""

    topics: tuple[str, ...]


class Asked:
    """A group, the clock, and the answers given so far."""

    def __init__(self) -> None:
        self.now = START
        self.group = GroupMetadata("groupId", START)
        self.answers: list[Respond] = []

    # ------------------------------------------------------------ operations

    def transition(self, *states: str) -> None:
        for state in WAY_TO[states[0]] if len(states) == 2 else ():
            self.group.transition_to(state, self.now)
        self.group.transition_to(states[-1], self.now)

    def add(self, asked: dict[str, Any]) -> None:
        topics = asked.get("subscribedTopics")
        metadata = b"" if topics is None else Subscription(tuple(topics))
        protocols = tuple((name, metadata) for name in asked["protocols"])
        self.group.join(Member(asked["member"], asked.get("instance"), 10_000, 60_000, protocols), PARKED_JOIN)
        if not asked.get("awaitingJoin"):
            del self.group.parked[asked["member"]]

    def remove(self, member_id: str) -> None:
        self.answers += self.group.remove(member_id)

    def initNextGeneration(self) -> None:  # noqa: N802
        self.group.init_next_generation(self.now)

    def updateMember(self, member_id: str, protocols: list[str], rebalance: int, session: int) -> None:  # noqa: N802
        member = self.group.members[member_id]
        named = tuple((name, b"") for name in protocols)
        self.group.join(Member(member_id, member.instance, session, rebalance, named), PARKED_JOIN)

    def awaitSync(self, member_id: str) -> None:  # noqa: N802
        self.group.park(member_id, PARKED_SYNC)

    def replaceStaticMember(self, instance: str, old_id: str, new_id: str) -> None:  # noqa: N802
        protocols = self.group.members[old_id].protocols
        self.answers += self.group.replace_static_member(old_id, Member(new_id, instance, 10_000, 60_000, protocols))

    def addPendingMember(self, member_id: str) -> None:  # noqa: N802
        self.group.deadlines[member_id] = self.now + 10_000

    def addPendingSyncMember(self, member_id: str) -> None:  # noqa: N802
        self.group.deadlines[member_id] = self.now + 10_000

    def removePendingSyncMember(self, member_id: str) -> None:  # noqa: N802
        self.group.park(member_id, PARKED_SYNC)

    def maybeElectNewJoinedLeader(self) -> bool:  # noqa: N802
        return self.group.maybe_elect_new_joined_leader()

    def sleep(self, duration: int) -> None:
        self.now += duration

    def prepareOffsetCommit(self, partition: str, offset: int) -> None:  # noqa: N802
        self.group.in_flight.append(append_of(NOBODY, partition, offset))

    def onOffsetCommitAppend(self, partition: str, offset: int, batch: int) -> None:  # noqa: N802
        self.onTxnOffsetCommitAppend(NOBODY.producer_id, partition, offset, batch)

    def failPendingOffsetWrite(self, partition: str, offset: int) -> None:  # noqa: N802
        self.group.in_flight.remove(append_of(NOBODY, partition, offset))

    def prepareTxnOffsetCommit(self, producer_id: int, partition: str, offset: int) -> None:  # noqa: N802
        self.group.in_flight.append(append_of(producer_of(producer_id), partition, offset))

    def onTxnOffsetCommitAppend(self, producer_id: int, partition: str, offset: int, batch: int) -> None:  # noqa: N802
        self.group.in_flight.remove(append_of(producer_of(producer_id), partition, offset))
        commit = OffsetAndMetadata(offset, record_offset=batch)
        self.group.put_offset(producer_id, topic_partition(partition), commit)

    def failPendingTxnOffsetCommit(self, producer_id: int, partition: str) -> None:  # noqa: N802
        self.group.in_flight.remove(self.in_flight(producer_id, partition)[0])

    def completePendingTxnOffsetCommit(self, producer_id: int, is_commit: bool) -> None:  # noqa: N802
        self.group.complete_pending_txn_offsets(producer_id, is_commit)

    # ------------------------------------------------------------ questions

    def validateOffsetCommit(self, who: dict[str, Any]) -> None:  # noqa: N802
        asks = ConsumerGroupMetadata("groupId", who["generation"], who["member"], who["instance"])
        self.group.validate_offset_commit(asks, who["transactional"], self.now)

    def validateOffsetDelete(self) -> str:  # noqa: N802
        return self.deletion(self.group.may_delete(offsets_only=True))

    def validateDeleteGroup(self) -> str:  # noqa: N802
        return self.deletion(self.group.may_delete())

    def deletion(self, may_delete: bool) -> str:
        """A group that is dead is not known to its coordinator any more."""
        refusal = "GroupIdNotFoundException" if self.group.state == DEAD else "GroupNotEmptyException"
        return "ok" if may_delete else refusal

    def offsetExpirationCondition(self, asked: dict[str, Any]) -> dict[str, Any] | None:  # noqa: N802
        committed = OffsetAndMetadata(15_000, commit_timestamp=asked["commitTimestamp"])
        base = self.group.expiration_base(committed)
        if base is None:
            return None
        self.group.offsets[("other", 0)] = committed
        now = asked["now"] if isinstance(asked["now"], int) else self.group.state_timestamp + asked["retentionMs"]
        name = {committed.commit_timestamp: "commitTimestamp", self.group.state_timestamp: "stateTimestamp"}[base]
        return {"base": name, "expired": self.group.expired_offsets(now, asked["retentionMs"]) != []}

    def removeExpiredOffsets(self, retention: int) -> dict[str, int]:  # noqa: N802
        expired = self.group.expired_offsets(self.now, retention)
        return {f"{topic}-{number}": self.group.offsets[topic, number].offset for topic, number in expired}

    def subscribedTopics(self) -> list[str] | None:  # noqa: N802
        topics = self.group.subscribed_topics()
        return None if topics is None else sorted(topics)

    def in_flight(self, producer_id: int, partition: str) -> list[Append]:
        """What was prepared for a partition, the latest last."""
        key = "groupId", topic_partition(partition)
        return [
            append
            for append in self.group.in_flight
            if append.records[0][0] == key and append.producer.producer_id == producer_id
        ]

    def pendingTxnOffset(self, producer_id: int, partition: str) -> dict[str, int | None] | None:  # noqa: N802
        commit = self.group.pending_offsets.get((producer_id, topic_partition(partition)))
        for append in self.in_flight(producer_id, partition):
            commit = append.records[0][1]
        if commit is None:
            return None
        batch = None if commit.record_offset == NOT_REPLICATED else commit.record_offset
        return {"offset": commit.offset, "commitRecordOffset": batch}

    def pendingOffset(self, partition: str) -> int | None:  # noqa: N802
        offsets = [append.records[0][1].offset for append in self.in_flight(NOBODY.producer_id, partition)]
        return offsets[-1] if offsets else None

    def offset(self, partition: str) -> int | None:
        commit = self.group.offsets.get(topic_partition(partition))
        return None if commit is None else commit.offset

    def syncResponseError(self, member_id: str) -> str:  # noqa: N802
        return next(answer.error.name for answer in self.answers if answer.to == PARKED_SYNC)


GETTERS: dict[str, Callable[..., Any]] = {
    "state": lambda group: group.state,
    "generation": lambda group: group.generation,
    "protocolName": lambda group: group.protocol,
    "canRebalance": lambda group: group.state in VALID_PREVIOUS_STATES[PREPARING_REBALANCE],
    "selectProtocol": GroupMetadata.select_protocol,
    "supportsProtocols": lambda group, _, protocols: any(map(group.is_supported_by_all, protocols)),
    "usesConsumerGroupProtocol": lambda group: group.leader is not None,
    "rebalanceTimeoutMs": lambda group: group.rebalance_deadline() - group.state_timestamp,
    "memberSessionTimeoutMs": lambda group, member_id: group.members[member_id].session_timeout,
    "hasMember": lambda group, member_id: member_id in group.members,
    "isPendingMember": lambda group, member_id: member_id in group.deadlines.keys() - group.members.keys(),
    "pendingSyncMembers": lambda group: [member_id for member_id in group.deadlines if member_id in group.members],
    "isLeader": lambda group, member_id: group.leader == member_id,
    "hasStaticMember": lambda group, instance: instance in group.static_members(),
    "staticMemberId": lambda group, instance: group.static_members().get(instance),
    "isSubscribedToTopic": lambda group, topic: topic in (group.subscribed_topics() or ()),
    "hasOffsets": GroupMetadata.has_offsets,
    "hasPendingFromProducer": lambda group, producer_id: (
        producer_id in [id for id, _ in group.pending_offsets] + [one.producer.producer_id for one in group.in_flight]
    ),
    "hasPendingForPartition": lambda group, partition: group.has_pending_offset(topic_partition(partition)),
}


def topic_partition(name: str) -> TopicPartition:
    """foo-0 as a topic partition."""
    topic, number = name.rsplit("-", 1)
    return topic, int(number)


def producer_of(producer_id: int) -> Producer:
    """Somebody with the id; nobody has none."""
    return NOBODY._replace(producer_id=producer_id)


def append_of(producer: Producer, partition: str, offset: int) -> Append:
    """The commit of an offset, on its way to the log."""
    records = ((("groupId", topic_partition(partition)), OffsetAndMetadata(offset)),)
    return Append((OFFSETS_TOPIC, 0), 0, records, producer=producer)


def exception_class(refusal: Exception) -> str:
    """The Java class by which Kafka refuses the same."""
    if isinstance(refusal, KafkaError):
        return "".join(word.capitalize() for word in refusal.error.name.split("_")) + "Exception"
    return "IllegalStateException" if isinstance(refusal, ValueError) else "IllegalArgumentException"


def answer(asked: Asked, query: list[Any]) -> Any:
    """What the group answers: a value, ok for an operation that went well, or the exception's class."""
    name, *arguments = query
    try:
        if name in GETTERS:
            return GETTERS[name](asked.group, *arguments)
        value = getattr(asked, name)(*arguments)
    except (KafkaError, ValueError, KeyError) as refusal:
        return exception_class(refusal)
    is_operation = value is None and name.startswith(("transition", "add", "replace", "validate"))
    return "ok" if is_operation else value


def run(row: dict[str, Any], table: list[dict[str, Any]]) -> None:
    """Asserts that the group answers as Kafka's does."""
    asked = Asked()
    for name, *arguments in row["ops"]:
        getattr(asked, name)(*arguments)
    found, expected = answer(asked, row["query"]), row["expect"]
    if isinstance(expected, dict) and "one_of" in expected:
        assert found in expected["one_of"]
    else:
        assert found == expected
