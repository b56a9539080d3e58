"""Partition changes on random registrations: who may lead, when epochs rise, what reassignment leaves behind."""

from __future__ import annotations

from hwmark.refimpl.partition_change import (
    NO_LEADER,
    ONLINE,
    PREFERRED,
    RECOVERED,
    RECOVERING,
    UNCLEAN,
    PartitionChangeBuilder,
    PartitionRegistration,
    revert_reassignment,
    start_reassignment,
)
from hypothesis import assume, given
from hypothesis import strategies as st

BROKERS = st.sets(st.integers(1, 6), max_size=6)


@st.composite
def partitions(draw: st.DrawFn, has_elr: bool) -> PartitionRegistration:
    """A registration at rest: the leader is in the ISR, the ELR is used only with a small ISR."""
    replicas = tuple(draw(st.permutations(range(1, 7))))[: draw(st.integers(1, 5))]
    isr = tuple(draw(st.permutations(replicas)))[: draw(st.integers(0 if has_elr else 1, len(replicas)))]
    others = [replica for replica in replicas if replica not in isr]
    elr = tuple(sorted(draw(st.sets(st.sampled_from(others))) if has_elr and others else ()))
    leader = draw(st.sampled_from((*isr, NO_LEADER)))
    last = (draw(st.sampled_from(replicas)),) if has_elr and not isr else ()
    return PartitionRegistration(replicas, isr, leader, 7, 9, elr=elr, last_known_elr=last)


@st.composite
def builders(draw: st.DrawFn) -> PartitionChangeBuilder:
    """A builder with any set of live brokers."""
    has_elr, live = draw(st.booleans()), draw(BROKERS)
    partition = draw(partitions(has_elr=has_elr))
    return PartitionChangeBuilder(
        partition,
        live.__contains__,
        draw(st.integers(1, 3)),
        draw(st.sampled_from((ONLINE, PREFERRED, UNCLEAN))),
        has_elr,
        tuple(draw(BROKERS)),
        bump_on_isr_shrink=draw(st.booleans()),
    )


@st.composite
def asked(draw: st.DrawFn) -> tuple[PartitionChangeBuilder, PartitionRegistration]:
    """A builder and a smaller or larger ISR that is asked of it."""
    builder = draw(builders())
    partition = builder.partition
    isr = draw(st.permutations(partition.replicas))[: draw(st.integers(0, len(partition.replicas)))]
    return builder, partition._replace(isr=tuple(isr))


@given(asked())
def test_a_new_leader_is_live_and_in_the_isr(case: tuple[PartitionChangeBuilder, PartitionRegistration]) -> None:
    builder, target = case
    after = builder.build(target)
    if after.leader not in (NO_LEADER, builder.partition.leader):
        assert builder.may_lead(after.leader) and after.leader in after.isr


@given(asked())
def test_only_an_unclean_leader_is_unknown_to_the_isr_and_the_elr(
    case: tuple[PartitionChangeBuilder, PartitionRegistration],
) -> None:
    builder, target = case
    after = builder.build(target)
    known = {*target.isr, *builder.partition.isr, *builder.partition.elr, builder.partition.leader, NO_LEADER}
    if after.leader not in known:
        assert after.isr == (after.leader,) and after.recovery == RECOVERING
        assert builder.election == UNCLEAN or builder.partition.last_known_elr == (after.leader,)


@given(asked())
def test_the_elr_has_all_committed_records(case: tuple[PartitionChangeBuilder, PartitionRegistration]) -> None:
    builder, target = case
    after = builder.build(target)
    assert not set(after.elr) & set(after.isr)
    assert set(after.elr) <= {*builder.partition.elr, *builder.partition.isr}
    if builder.eligible_leader_replicas:
        assert not set(after.elr) & set(builder.unclean_shutdown) and set(after.elr) <= set(after.replicas)
    else:
        assert after.elr == () and after.isr


@given(asked())
def test_after_a_change_only_an_elr_that_is_no_longer_needed_changes(
    case: tuple[PartitionChangeBuilder, PartitionRegistration],
) -> None:
    builder, target = case
    assume(target.isr or not any(map(builder.may_lead, builder.partition.isr)))  # nobody drops all of a live ISR
    after = builder.build(target)
    again = builder._replace(partition=after).build(after)
    last = {"elr": after.elr, "last_known_elr": after.last_known_elr, "partition_epoch": after.partition_epoch}
    assert again._replace(**last) == after
    assert again == after or len(after.isr) >= min(builder.min_isr, len(after.replicas))


@given(asked())
def test_epochs_rise_together(case: tuple[PartitionChangeBuilder, PartitionRegistration]) -> None:
    builder, target = case
    before, after = builder.partition, builder.build(target)
    assert after.partition_epoch - before.partition_epoch == (after != before)
    assert (after.leader_epoch > before.leader_epoch) >= (after.leader != before.leader)
    assert after.leader_epoch - before.leader_epoch <= after.partition_epoch - before.partition_epoch
    if builder.bump_on_isr_shrink and not set(before.isr) <= set(after.isr):
        assert after.leader_epoch > before.leader_epoch


@given(asked())
def test_a_leader_that_may_go_on_does_so(case: tuple[PartitionChangeBuilder, PartitionRegistration]) -> None:
    builder, target = case
    assume(builder.election != PREFERRED)
    leader = builder.partition.leader
    if leader in target.isr and builder.may_lead(leader):
        assert builder.build(target).leader == leader


@given(partitions(has_elr=False), st.permutations(range(1, 7)), st.integers(1, 5))
def test_a_reassignment_completes_or_is_taken_back(
    partition: PartitionRegistration, order: list[int], size: int
) -> None:
    wanted = tuple(order[:size])
    builder = PartitionChangeBuilder(partition, lambda _: True, 1)
    moving = builder.build(start_reassignment(partition, wanted))
    assume(moving.adding)  # else it is complete at once, or will be without new replicas
    assert set(moving.replicas) == {*partition.replicas, *wanted}
    reverted, is_unclean = revert_reassignment(moving)
    assert set(reverted.replicas) == set(partition.replicas) and not is_unclean
    done = builder._replace(partition=moving).build(moving._replace(isr=moving.replicas))
    assert (done.replicas, set(done.isr), done.adding, done.removing) == (wanted, set(wanted), (), ())
    assert done.leader in wanted
    assert (done.leader_epoch > moving.leader_epoch) >= (not set(moving.replicas) <= set(wanted))


def test_taking_back_is_unclean_if_only_new_replicas_are_in_the_isr() -> None:
    partition = PartitionRegistration((3, 1, 2), (3,), 3, adding=(3,))
    assert revert_reassignment(partition) == (partition._replace(replicas=(1, 2), isr=(1,), adding=()), True)


def test_a_last_known_leader_that_is_down_is_not_elected() -> None:
    partition = PartitionRegistration((1, 2), (), NO_LEADER, last_known_elr=(1,))
    builder = PartitionChangeBuilder(partition, lambda broker: broker == 2, 1, eligible_leader_replicas=True)
    assert builder.build(partition) == partition
    led = partition._replace(isr=(1,), leader=1, last_known_elr=(), recovery=RECOVERING)
    led = led._replace(leader_epoch=1, partition_epoch=1)
    assert builder._replace(may_lead=lambda broker: broker == 1).build(partition) == led


def test_the_leader_reports_its_recovery() -> None:
    partition = PartitionRegistration((1, 2), (1,), 1, 4, 5, recovery=RECOVERING)
    after = PartitionChangeBuilder(partition, lambda _: True, 1).build(partition._replace(recovery=RECOVERED))
    assert after == partition._replace(recovery=RECOVERED, partition_epoch=6)


def test_a_second_reassignment_forgets_no_replica_that_was_being_added() -> None:
    moving = PartitionRegistration((1, 2, 3, 4), (1, 2), 1, adding=(4,), removing=(1,))
    again = start_reassignment(moving, (1, 2, 3))
    assert again == moving._replace(removing=(4,))
    assert revert_reassignment(again)[0].replicas == (1, 2, 3)
