"""Puts the rows of group_states.json to GroupMetadata: operations on a new group, then what is asked of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from hwmark.refimpl.batches import NO_PRODUCER_ID, TopicPartition
from hwmark.refimpl.coordinator import Respond
from hwmark.refimpl.errors import KafkaError
from hwmark.refimpl.group_metadata import (
    COMPLETING_REBALANCE,
    CONSUMER,
    DEAD,
    EMPTY,
    NOT_REPLICATED,
    PREPARING_REBALANCE,
    STABLE,
    VALID_PREVIOUS_STATES,
    CommitRecord,
    ConsumerGroupMetadata,
    GroupMetadata,
    IllegalStateError,
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
        f"{group}.{test}": "the coordinator selects a protocol for members only, and adds no instance that is there"
        for group in "GC"
        for test in ("testSelectProtocolRaisesIfNoMembers.1", "testCannotAddStaticMemberIfAlreadyPresent.2")
    }
    | {"C.testValidateOffsetCommit.10": "the coordinator keeps no group that is dead, and so asks none"}
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
        parked = PARKED_JOIN if asked.get("awaitingJoin") else None
        self.group.join(
            Member(asked["member"], asked.get("instance"), 10_000, 60_000, asked["protocolType"], protocols, parked)
        )

    def remove(self, member_id: str) -> None:
        self.answers += self.group.remove(member_id)

    def initNextGeneration(self) -> None:  # noqa: N802
        self.group.init_next_generation(self.now)

    def updateMember(self, member_id: str, protocols: list[str], rebalance: int, session: int) -> None:  # noqa: N802
        member = self.group.members[member_id]
        named = tuple((name, b"") for name in protocols)
        member.update(Member(member_id, member.instance, session, rebalance, member.protocol_type, named))

    def awaitSync(self, member_id: str) -> None:  # noqa: N802
        self.group.members[member_id].parked = PARKED_SYNC

    def replaceStaticMember(self, instance: str, old_id: str, new_id: str) -> None:  # noqa: N802
        self.answers += self.group.replace_static_member(old_id, new_id)

    def addPendingMember(self, member_id: str) -> None:  # noqa: N802
        self.group.pending_members[member_id] = self.now + 10_000

    def addPendingSyncMember(self, member_id: str) -> None:  # noqa: N802
        self.group.pending_sync_members[member_id] = None

    def removePendingSyncMember(self, member_id: str) -> None:  # noqa: N802
        del self.group.pending_sync_members[member_id]

    def maybeElectNewJoinedLeader(self) -> bool:  # noqa: N802
        return self.group.maybe_elect_new_joined_leader()

    def sleep(self, duration: int) -> None:
        self.now += duration

    def prepareOffsetCommit(self, partition: str, offset: int) -> None:  # noqa: N802
        self.group.prepare_offset(NO_PRODUCER_ID, topic_partition(partition), OffsetAndMetadata(offset))

    def onOffsetCommitAppend(self, partition: str, offset: int, batch: int) -> None:  # noqa: N802
        self.onTxnOffsetCommitAppend(NO_PRODUCER_ID, partition, offset, batch)

    def failPendingOffsetWrite(self, partition: str, offset: int) -> None:  # noqa: N802
        self.onTxnOffsetCommitAppend(NO_PRODUCER_ID, partition, offset, NOT_REPLICATED)

    def prepareTxnOffsetCommit(self, producer_id: int, partition: str, offset: int) -> None:  # noqa: N802
        self.group.prepare_offset(producer_id, topic_partition(partition), OffsetAndMetadata(offset))

    def onTxnOffsetCommitAppend(self, producer_id: int, partition: str, offset: int, batch: int) -> None:  # noqa: N802
        commit = CommitRecord(batch, OffsetAndMetadata(offset))
        self.group.on_offset_append(producer_id, topic_partition(partition), commit)

    def failPendingTxnOffsetCommit(self, producer_id: int, partition: str) -> None:  # noqa: N802
        tp = topic_partition(partition)
        commit = self.group.pending_offsets[producer_id, tp]._replace(batch_offset=NOT_REPLICATED)
        self.group.on_offset_append(producer_id, tp, commit)

    def completePendingTxnOffsetCommit(self, producer_id: int, is_commit: bool) -> None:  # noqa: N802
        self.group.complete_pending_txn_offsets(producer_id, is_commit)

    # ------------------------------------------------------------ questions

    def validateOffsetCommit(self, who: dict[str, Any]) -> None:  # noqa: N802
        asks = ConsumerGroupMetadata("groupId", who["generation"], who["member"], who["instance"])
        self.group.validate_offset_commit(asks, who["transactional"])

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
        self.group.offsets[("other", 0)] = CommitRecord(0, committed)
        now = asked["now"] if isinstance(asked["now"], int) else self.group.state_timestamp + asked["retentionMs"]
        name = {committed.commit_timestamp: "commitTimestamp", self.group.state_timestamp: "stateTimestamp"}[base]
        return {"base": name, "expired": self.group.remove_expired_offsets(now, asked["retentionMs"]) != []}

    def removeExpiredOffsets(self, retention: int) -> dict[str, int]:  # noqa: N802
        offsets = dict(self.group.offsets)
        expired = self.group.remove_expired_offsets(self.now, retention)
        return {f"{topic}-{number}": offsets[topic, number].position.offset for topic, number in expired}

    def subscribedTopics(self) -> list[str] | None:  # noqa: N802
        topics = self.group.subscribed_topics
        return None if topics is None else sorted(topics)

    def pendingTxnOffset(self, producer_id: int, partition: str) -> dict[str, int | None] | None:  # noqa: N802
        commit = self.group.pending_offsets.get((producer_id, topic_partition(partition)))
        if commit is None:
            return None
        batch = None if commit.batch_offset == NOT_REPLICATED else commit.batch_offset
        return {"offset": commit.position.offset, "commitRecordOffset": batch}

    def pendingOffset(self, partition: str) -> int | None:  # noqa: N802
        commit = self.group.pending_offsets.get((NO_PRODUCER_ID, topic_partition(partition)))
        return None if commit is None else commit.position.offset

    def offset(self, partition: str) -> int | None:
        commit = self.group.offsets.get(topic_partition(partition))
        return None if commit is None else commit.position.offset

    def syncResponseError(self, member_id: str) -> str:  # noqa: N802
        return next(answer.error.name for answer in self.answers if answer.to == PARKED_SYNC)


GETTERS: dict[str, Callable[..., Any]] = {
    "state": lambda group: group.state,
    "generation": lambda group: group.generation,
    "protocolName": lambda group: group.protocol,
    "canRebalance": lambda group: group.state in VALID_PREVIOUS_STATES[PREPARING_REBALANCE],
    "selectProtocol": GroupMetadata.select_protocol,
    "supportsProtocols": GroupMetadata.supports_protocols,
    "usesConsumerGroupProtocol": lambda group: group.protocol_type == CONSUMER,
    "rebalanceTimeoutMs": GroupMetadata.rebalance_timeout,
    "memberSessionTimeoutMs": lambda group, member_id: group.members[member_id].session_timeout,
    "hasMember": lambda group, member_id: member_id in group.members,
    "isPendingMember": lambda group, member_id: member_id in group.pending_members,
    "pendingSyncMembers": lambda group: list(group.pending_sync_members),
    "isLeader": lambda group, member_id: group.leader == member_id,
    "hasStaticMember": lambda group, instance: instance in group.static_members,
    "staticMemberId": lambda group, instance: group.static_members.get(instance),
    "isSubscribedToTopic": GroupMetadata.is_subscribed_to,
    "hasOffsets": GroupMetadata.has_offsets,
    "hasPendingFromProducer": lambda group, producer_id: producer_id in [id for id, _ in group.pending_offsets],
    "hasPendingForPartition": lambda group, partition: group.has_pending_offset(topic_partition(partition)),
}


def topic_partition(name: str) -> TopicPartition:
    """foo-0 as a topic partition."""
    topic, number = name.rsplit("-", 1)
    return topic, int(number)


def exception_class(refusal: Exception) -> str:
    """The Java class by which Kafka refuses the same."""
    if isinstance(refusal, KafkaError):
        return "".join(word.capitalize() for word in refusal.error.name.split("_")) + "Exception"
    return "IllegalStateException" if isinstance(refusal, IllegalStateError) else "IllegalArgumentException"


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
