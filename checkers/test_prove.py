"""What Z3 finds in the models, and what it must not claim: shortest counterexamples, and no verdict without a proof."""

from __future__ import annotations

import json
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any

import pytest
from hwmark.checkers import cli
from hwmark.checkers.explore import explore
from hwmark.checkers.explore.plain import OUT_OF_RANGE, explore_plainly
from hwmark.checkers.prove.bmc import DisagreementError, Proof, bounded_model_check
from hwmark.checkers.prove.reordering import swaps
from hwmark.checkers.prove.symmetry import proved, symmetric_domains
from hwmark.checkers.replay import verify
from hwmark.checkers.verdict import Holds, Unknown, Violated
from hwmark.spec.catalogue import find
from hwmark.spec.errors import RangeError
from hwmark.spec.instance import Instance
from hwmark.spec.lang import Array, Bound, Domain, Optional, Range, Struct
from hwmark.spec.model import Model
from hwmark.traces.trace import read_trace

PUBLISHED = json.loads((Path(__file__).parents[1] / "tests" / "data" / "replication.json").read_text())
BOUNDS = ("replicas", "log_size", "records", "max_epoch")
QUICK = 10
"""States of the longest counterexample that is looked for in the quick profile."""


def is_deep(row: dict[str, Any]) -> bool:
    return bool(row["states"] > QUICK)


def cases() -> list[Any]:
    return [
        pytest.param(
            row["variant"],
            {name: row[name] for name in BOUNDS},
            row["invariant"].replace("-", "_"),
            row["states"],
            id="-".join(str(value) for value in row.values()),
            marks=[pytest.mark.deep] if is_deep(row) else [],
        )
        for row in PUBLISHED["violations"]
    ]


def assert_counterexample(proof: Proof, name: str, states: int) -> None:
    assert isinstance(proof.verdict, Violated)
    assert (proof.verdict.name, proof.depth) == (name, states)
    assert proof.trace is not None
    assert len(list(proof.trace.states())) == states


# ------------------------------------------------------------------------------------------- known violations


@pytest.mark.parametrize(("variant", "bounds", "invariant", "states"), cases())
def test_a_counterexample_is_as_short_as_the_published_one(
    variant: str, bounds: dict[str, int], invariant: str, states: int
) -> None:
    proof = bounded_model_check(find("replication", variant).at(**bounds), invariant)
    assert_counterexample(proof, invariant, states)
    assert proof.trace is not None
    assert verify(proof.trace) is None
    assert set(proof.trace.witness or ()) == {"leader", "follower", "offset"}


def test_a_counterexample_is_found_where_there_are_too_many_states_to_explore() -> None:
    proof = bounded_model_check(find("replication", "truncate-to-hw").at(replicas=5), "strong_isr")
    assert_counterexample(proof, "strong_isr", 11)
    assert proof.trace is not None
    assert verify(proof.trace) is None


def test_a_bound_is_no_proof() -> None:
    proof = bounded_model_check(find("two-phase-commit").at(), "nobody_commits_what_another_aborts", depth_max=6)
    assert isinstance(proof.verdict, Unknown)
    assert (proof.depth, proof.trace) == (6, None)


def test_a_counterexample_beyond_the_bound_is_not_found() -> None:
    instance = find("replication", "truncate-to-hw").at(replicas=2, log_size=1, records=1)
    assert bounded_model_check(instance, "weak_isr", depth_max=8).verdict == Unknown(
        "no violation in runs of up to 8 states; longer ones were not looked at"
    )
    assert_counterexample(bounded_model_check(instance, "weak_isr", depth_max=9), "weak_isr", 9)


def test_time_that_runs_out_is_no_proof() -> None:
    proof = bounded_model_check(find("replication", "kip-320").at(), "weak_isr", seconds_max=1)
    assert isinstance(proof.verdict, Unknown)
    assert "stopped" in proof.verdict.why


# -------------------------------------------------------------------------------------- a small model of tickets

desks = Bound("desks", 3, why="desks")
tickets = Bound("tickets", 4, least=0, why="tickets")
DeskId = Annotated[int, Domain("desk", desks, symmetric=True)]


class Desk(IntEnum):
    IDLE = 0
    BUSY = 1


class Office(Struct):
    desks: Array[DeskId, Desk]
    last: Optional[DeskId]
    served: Annotated[int, Range(0, tickets)]


def opening(s: Office) -> None:
    """Nobody is served yet."""


def desk_serve(s: Office, desk: DeskId) -> bool:
    """An idle desk takes the next ticket."""
    if s.desks[desk] == Desk.BUSY or s.served == tickets:
        return False
    s.desks[desk] = Desk.BUSY
    s.last = desk
    s.served += 1
    return True


def desk_rest(s: Office, desk: DeskId) -> bool:
    """A desk rests while tickets are left."""
    if s.desks[desk] == Desk.IDLE or s.served == tickets:
        return False
    s.desks[desk] = Desk.IDLE
    return True


def desk_serve_without_looking(s: Office, desk: DeskId) -> bool:
    """A desk takes a ticket that may not exist."""
    if s.desks[desk] == Desk.BUSY:
        return False
    s.desks[desk] = Desk.BUSY
    s.served += 1
    return True


def tickets_are_left(s: Office) -> bool:
    return s.served < tickets


def the_last_desk_never_serves(s: Office, desk: DeskId) -> bool:
    return desk != 2 or s.desks[desk] == Desk.IDLE


def nobody_is_served_twice(s: Office) -> bool:
    return s.served <= tickets


def few_are_served(s: Office) -> bool:
    return s.served < 2


office = Model.of(
    "office",
    "office",
    why="desks that serve",
    state=Office,
    bounds=(desks, tickets),
    init=opening,
    actions=(desk_serve, desk_rest),
    invariants=(tickets_are_left, the_last_desk_never_serves, nobody_is_served_twice),
)
careless = office.derive("careless", why="nobody looks at the tickets", desk_serve=desk_serve_without_looking)
constrained = Model.of(
    "office",
    "constrained",
    why="successors outside the constraint are checked, and not explored",
    state=Office,
    bounds=(desks, tickets),
    init=opening,
    actions=(desk_serve, desk_rest),
    invariants=(tickets_are_left, nobody_is_served_twice),
    constraint=few_are_served,
)


def plain_depth(instance: Instance, invariant: str) -> int:
    return len(explore_plainly(instance, [invariant]).path)


@pytest.mark.parametrize("invariant", ["tickets_are_left", "the_last_desk_never_serves"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_counterexample_is_as_short_as_the_plain_search_finds(invariant: str, count: int) -> None:
    instance = office.at(tickets=count)
    assert_counterexample(bounded_model_check(instance, invariant), invariant, plain_depth(instance, invariant))


def test_a_first_state_can_violate() -> None:
    assert_counterexample(bounded_model_check(office.at(tickets=0), "tickets_are_left"), "tickets_are_left", 1)


def test_a_value_out_of_range_is_a_violation() -> None:
    instance = careless.at(tickets=2)
    proof = bounded_model_check(instance, "nobody_is_served_twice")
    assert_counterexample(proof, OUT_OF_RANGE, plain_depth(instance, "nobody_is_served_twice"))
    assert proof.trace is not None
    assert (proof.trace.witness or {})["action"] == "desk_serve"
    assert proof.error is not None
    assert f"{Path(__file__).name}:" in proof.error


def test_a_state_outside_the_constraint_is_checked_and_not_left() -> None:
    assert_counterexample(bounded_model_check(constrained.at(tickets=2), "tickets_are_left"), "tickets_are_left", 3)
    proof = bounded_model_check(constrained.at(tickets=3), "tickets_are_left", depth_max=12)
    assert isinstance(proof.verdict, Unknown)


def test_where_every_run_has_ended_the_invariant_holds() -> None:
    proof = bounded_model_check(office.at(desks=3, tickets=1), "nobody_is_served_twice")
    assert (proof.verdict, proof.depth) == (Holds(), 2)


# ------------------------------------------------------------------------------------------------- symmetry


def test_a_symmetry_is_used_only_where_it_is_proved() -> None:
    instance = office.at()
    (desk,) = symmetric_domains(instance)
    assert proved(instance, desk, ["tickets_are_left"])
    assert not proved(instance, desk, ["the_last_desk_never_serves"])
    assert bounded_model_check(instance, "tickets_are_left").symmetric == ("desk",)
    assert bounded_model_check(instance, "the_last_desk_never_serves").symmetric == ()


def desk_serve_in_turn(s: Office, desk: DeskId) -> bool:
    """Only the desk after the last one may serve."""
    if desk != s.last + 1 or s.served == tickets:
        return False
    s.last = desk
    s.served += 1
    return True


def desk_zero_opens(s: Office) -> None:
    """One desk has served already."""
    s.last = 0


@pytest.mark.parametrize("change", [{"desk_serve": desk_serve_in_turn}, {"opening": desk_zero_opens}])
def test_an_action_or_a_first_state_can_break_a_symmetry(change: dict[str, Any]) -> None:
    instance = office.derive("broken", why="desks are told apart", **change).at()
    (desk,) = symmetric_domains(instance)
    assert not proved(instance, desk, ["tickets_are_left"])


# -------------------------------------------------------------------------------------------------- reordering


def test_steps_change_places_only_where_that_is_proved() -> None:
    instance = find("replication", "truncate-to-hw").at()
    names = [action.name for action in instance.actions]
    found = {(names[each.first], names[each.second]): each.apart for each in swaps(instance)}
    assert found["leader_write", "controller_elect_leader"] is False
    assert found["replica_become_follower", "replica_become_leader"] is True
    assert ("replica_become_leader", "controller_elect_leader") not in found
    assert ("leader_increment_high_watermark", "replica_become_leader") not in found
    assert list(swaps(constrained.at())) == []


@pytest.mark.parametrize(
    ("variant", "bounds", "invariant"),
    [
        ("truncate-to-hw", {"replicas": 2, "log_size": 1, "records": 1}, "weak_isr"),
        ("truncate-to-hw", {"replicas": 2, "log_size": 1, "records": 1}, "strong_isr"),
        ("truncate-to-hw", {}, "strong_isr"),
        ("kip-320-notrunc", {"replicas": 2}, "weak_isr"),
        ("kip-320-notrunc", {"replicas": 2}, "prefix"),
        ("kip-320-expandhw", {"replicas": 2}, "weak_isr"),
    ],
)
def test_orders_that_are_left_out_lose_no_counterexample(
    variant: str, bounds: dict[str, int], invariant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = find("replication", variant).at(**bounds)
    monkeypatch.setattr("hwmark.checkers.prove.bmc.ORDERED_FROM", 2)
    assert_counterexample(bounded_model_check(instance, invariant), invariant, explore(instance, [invariant]).depth)


# --------------------------------------------------------------------------------------- when Z3 and CPython differ


def test_a_run_that_cpython_does_not_confirm_is_no_counterexample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Instance, "step", lambda *_: None)
    with pytest.raises(DisagreementError, match="enabled in Z3 only"):
        bounded_model_check(office.at(tickets=2), "tickets_are_left")


def test_a_state_that_cpython_does_not_reach_is_no_counterexample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Instance, "step", lambda self, name, row, arguments: row)
    with pytest.raises(DisagreementError, match="another state"):
        bounded_model_check(office.at(tickets=2), "tickets_are_left")


def opening_too_late(s: Office) -> None:
    """More tickets than there are."""
    s.served = tickets + 1


def test_a_first_state_out_of_range_is_told() -> None:
    instance = office.derive("late", why="too late", opening=opening_too_late).at()
    with pytest.raises(RangeError, match="served"):
        bounded_model_check(instance, "tickets_are_left")


# --------------------------------------------------------------------------------------------------- command

PROVE = ["prove", "replication", "--variant", "truncate-to-hw", "--bound", "replicas=2"]
SMALL = [*PROVE, "--bound", "log_size=1", "--bound", "records=1", "--invariant", "weak-isr"]


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    status = cli.main([*arguments, "--json"])
    report = json.loads(capsys.readouterr().out)
    assert isinstance(report, dict)
    return status, report


def test_the_command_reports_a_violation(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "found.ndjson"
    status, report = answer(capsys, *SMALL, "--trace", str(file))
    assert status == 1
    assert report["bounds"] == {"replicas": 2, "log_size": 1, "records": 1, "max_epoch": 1}
    told = [report[name] for name in ("model", "variant", "invariant", "method", "verdict", "violated", "depth")]
    assert told == ["replication", "truncate-to-hw", "weak-isr", "bmc", "violated", "weak-isr", 9]
    assert len(report["trace"]) == 9
    trace = read_trace(file)
    assert (trace.property, trace.engine, len(trace.steps)) == ("weak-isr", "bmc", 8)
    assert cli.main(["replay", str(file)]) == 0


def test_the_command_never_takes_unknown_for_success(capsys: pytest.CaptureFixture[str]) -> None:
    status, report = answer(capsys, *SMALL, "--depth", "5")
    assert (status, report["verdict"], report["depth"], report["trace"]) == (3, "unknown", 5, None)
    assert "5 states" in report["why"]
    assert cli.main([*SMALL, "--depth", "5"]) == 3
    assert "unknown" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([*SMALL, "--method", "induction"], "comes later"),
        ([*PROVE, "--invariant", "no-such"], "weak-isr"),
        ([*SMALL, "--trace", "/no/such/folder/t"], "/no/such/folder"),
        (["prove", "no-such", "--invariant", "x"], "replication"),
    ],
)
def test_bad_input_gets_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], told: str) -> None:
    assert cli.main(arguments) == 2
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("flaw", [["--depth", "0"], ["--timeout", "soon"], ["--method", "magic"]])
def test_an_option_that_makes_no_sense_is_refused(capsys: pytest.CaptureFixture[str], flaw: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main([*SMALL, *flaw])
    assert stopped.value.code == 2
    assert flaw[0] in capsys.readouterr().err
