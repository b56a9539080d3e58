"""Does `hwmark bugs --refimpl` say what found a mutant, and by its exit status whether all were?"""

from __future__ import annotations

import json

import pytest
from hwmark.checkers.cli import main
from hwmark.checkers.simulation import all_mutants
from hwmark.checkers.simulation.mutants import Mutant

ACKS = "acks-all-is-acks-one"
HARMLESS = Mutant(
    "harmless", "Nothing is wrong.", where="log.Log.assign_leader_epoch", old="known < epoch", new="epoch > known"
)


def test_what_found_a_mutant_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bugs", "--refimpl", "--workers", "1", ACKS]) == 0
    told = capsys.readouterr()
    assert told.out.startswith(f"{ACKS} ") and "promises: what is acknowledged by all is committed" in told.out
    assert "1 of 1 found" in told.err


def test_the_json_has_what_the_contract_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bugs", "--refimpl", ACKS, ACKS, "--json", "--workers", "1"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["found"] == report["total"] == 1 and report["seconds"] > 0
    (mutant,) = report["mutants"]
    assert (mutant["name"], mutant["found"], mutant["checker"]) == (ACKS, True, "promises")
    assert mutant["examples"] >= 1 and mutant["steps"] > 1


def test_a_mutant_that_is_not_found_is_exit_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(all_mutants, "MUTANTS", {"harmless": HARMLESS})
    assert main(["bugs", "--refimpl", "--examples", "1", "--json"]) == 1
    (mutant,) = json.loads(capsys.readouterr().out)["mutants"]
    assert mutant["found"] is False and mutant["checker"] is mutant["examples"] is mutant["steps"] is None
    assert main(["bugs", "--refimpl", "--examples", "1"]) == 1
    assert "NOT FOUND: Nothing is wrong." in capsys.readouterr().out


def test_what_is_unknown_is_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bugs", "--refimpl", "no-such"]) == 2
    refusal = capsys.readouterr().err
    assert refusal.startswith("hwmark: there is no mutant 'no-such'; known are ") and ACKS in refusal
    assert refusal.count("\n") == 1
    assert main(["bugs"]) == 2
    assert capsys.readouterr().err == (
        "hwmark: bugs: only those of the reference implementation can be looked for so far; add --refimpl\n"
    )


def test_a_stale_mutant_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(all_mutants, "MUTANTS", {"harmless": HARMLESS._replace(old="no such text")})
    assert main(["bugs", "--refimpl"]) == 2
    assert "has 'no such text' 0 times" in capsys.readouterr().err
