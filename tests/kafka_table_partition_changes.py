"""Kafka's PartitionChangeBuilderTest, asked of refimpl's partition changes."""

from __future__ import annotations

from typing import Any

from hwmark.refimpl import partition_change as pc

ALL_KNOWN = "the last known leader alone is remembered, not all who were eligible once"
DISAGREES = {
    "testEligibleLeaderReplicas_IsrAddNewMemberNotInELR.3": ALL_KNOWN,
    "testEligibleLeaderReplicas_RemoveUncleanShutdownReplicasFromElr.3": ALL_KNOWN,
    "testEligibleLeaderReplicas_ElrCanBeElected.2": ALL_KNOWN,
    "testEligibleLeaderReplicas_IsrCanShrinkToZero.2": ALL_KNOWN,
}


def run(row: dict[str, Any], table: list[dict[str, Any]]) -> None:
    """Ask the row's operation and compare the answer."""
    {
        "build": run_build,
        "electLeader": run_election,
        "epochBump": run_bump,
        "epochBumpIsrOnly": run_bump,
        "reassignmentReplicas": run_reassignment,
        "reassignmentRevert": run_revert,
    }[row["op"]](row, row["expect"])


def run_build(row: dict[str, Any], expect: dict[str, Any]) -> None:
    """The change, and the registration with the change merged in."""
    partition, merged = registration(row), builder(row).build(target_of(row))
    if expect["record"] is None:
        assert merged == partition
        return
    is_bumped = merged.leader_epoch > partition.leader_epoch
    before, after = partition._asdict(), merged._asdict()
    given = {name: after[name] for name in after if not name.endswith("_epoch") and after[name] != before[name]}
    given |= {"leader": merged.leader} if is_bumped else {}
    asked = tuples(expect["record"])
    assert ({name: given.get(name) for name in asked} if expect.get("partial") else given) == asked
    assert is_bumped == expect["leader_epoch_bump"]
    assert {name: after[name] for name in expect.get("merged", {})} == tuples(expect.get("merged", {}))
    assert merged.leader_epoch == partition.leader_epoch + expect["leader_epoch_bump"]
    assert merged.partition_epoch == partition.partition_epoch + 1


def run_election(row: dict[str, Any], expect: dict[str, Any]) -> None:
    """The elected leader alone."""
    assert builder(row).elect_leader(target_of(row)) == (expect["node"], expect["unclean"])


def run_bump(row: dict[str, Any], expect: dict[str, Any]) -> None:
    """Whether the leader epoch is bumped though the leader stays; for the ISR's sake alone if all replicas stay."""
    target = target_of(row)
    if row["op"] == "epochBumpIsrOnly":
        target = target._replace(replicas=registration(row).replicas)
    merged = builder(row).bump_epochs(target)
    assert merged.leader_epoch - registration(row).leader_epoch == expect["leader_epoch_bump"]
    if expect["leader_epoch_bump"]:
        assert target.leader == expect["leader"]


def run_reassignment(row: dict[str, Any], expect: dict[str, Any]) -> None:
    """The lists that begin a reassignment."""
    target = pc.start_reassignment(registration(row), tuple(row["target"]["assignment"]))
    assert (target.removing, target.adding, target.replicas) == tuple(
        tuple(expect[name]) for name in ("removing", "adding", "replicas")
    )


def run_revert(row: dict[str, Any], expect: dict[str, Any]) -> None:
    """The lists that take a reassignment back."""
    target, is_unclean = pc.revert_reassignment(registration(row))
    assert (target.replicas, target.isr) == (tuple(expect["replicas"]), tuple(expect["isr"]))
    assert is_unclean == expect.get("unclean", False)


def registration(row: dict[str, Any]) -> pc.PartitionRegistration:
    """The partition before the change."""
    return pc.PartitionRegistration(**tuples(row["partition"]))


def target_of(row: dict[str, Any]) -> pc.PartitionRegistration:
    """The partition as the row asks for it."""
    asked = {name: value for name, value in row.get("target", {}).items() if name != "unclean_shutdown"}
    return registration(row)._replace(**tuples(asked))


def builder(row: dict[str, Any]) -> pc.PartitionChangeBuilder:
    """The builder under the rules of the row's metadata version."""
    version = version_number(row["metadata_version"])
    return pc.PartitionChangeBuilder(
        registration(row),
        lambda broker: is_acceptable(row["acceptable"], broker),
        row["min_isr"],
        row["election"],
        unclean_shutdown=tuple(row.get("target", {}).get("unclean_shutdown", ())),
        eligible_leader_replicas=row["elr_enabled"],
        unclean_recovery=pc.RECOVERING if version >= (3, 2) else row["partition"]["recovery"],
        bump_on_isr_shrink=version < (3, 6),
    )


def version_number(metadata_version: str) -> tuple[int, ...]:
    """3.7-IV2 is version (3, 7)."""
    return tuple(int(number) for number in metadata_version.split("-")[0].split("."))


def is_acceptable(acceptable: dict[str, Any], broker: int) -> bool:
    """Whether the row lets the broker lead."""
    ((rule, brokers),) = acceptable.items()
    return {
        "all": lambda: True,
        "none": lambda: False,
        "only": lambda: broker in brokers,
        "all_except": lambda: broker not in brokers,
    }[rule]()


def tuples(fields: dict[str, Any]) -> dict[str, Any]:
    """JSON's lists as tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
