"""Does `hwmark models` say what there is, and is what there is not refused with the names that are known?"""

import json

import pytest
from hwmark.checkers.cli import main
from hwmark.spec.catalogue import find, find_properties, spelled
from hwmark.spec.errors import SpecError


def test_the_list_names_every_model_variant_bound_and_invariant(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    text = capsys.readouterr().out
    for word in ("replication:", "kip-320-first-try", "kip-320-noleso", "max_epoch=1", "weak-isr", "consumer-group:"):
        assert word in text
    assert text.count("(default)") == text.count("\n\n") + 1
    assert max(map(len, text.splitlines())) <= 110


def test_the_json_is_one_object_with_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["seconds"] >= 0
    for model in report["models"]:
        default = find(model["model"])
        assert default.variant == model["default"]
        assert [bound["name"] for bound in model["bounds"]] == [bound.name for bound in default.bounds]
        assert [each["name"] for each in model["invariants"]] == [spelled(name) for name in default.invariants]
        assert all(each["why"] for each in (*model["invariants"], *model["variants"], *model["bounds"]))


def test_the_changes_of_a_variant(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--diff", "kip-101"]) == 0
    text = capsys.readouterr().out
    assert "truncation_offset: truncation_offset -> end_offset_for_leader_epoch\n" in text
    assert "\n-def truncation_offset(" in text
    assert "\n+def end_offset_for_leader_epoch(" in text
    assert main(["models", "--diff", "replication/kip-101", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["model"], report["variant"], report["base"]) == ("replication", "kip-101", "truncate-to-hw")
    assert report["diff"] == text


@pytest.mark.parametrize(
    ("variant", "reason"),
    [
        ("kip-99", "there is no variant 'kip-99'; known are truncate-to-hw, kip-101,"),
        ("replica/kip-101", "there is no model 'replica'; known are replication, async-isr,"),
        ("async-isr/kip-101", "async-isr has no variant 'kip-101'; known are kip-497, current-isr-only"),
    ],
)
def test_an_unknown_variant_is_refused(variant: str, reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--diff", variant]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert reason in said.err


def test_an_unknown_bound_or_invariant_is_refused() -> None:
    with pytest.raises(SpecError, match="has no bound brokers; it has replicas, log_size, records, max_epoch"):
        find("replication").at(brokers=3)
    with pytest.raises(SpecError, match="the bound replicas is at least 1, not 0"):
        find("replication").at(replicas=0)
    with pytest.raises(SpecError, match="has no invariant 'isr'; known are weak-isr, strong-isr, prefix, hw-match"):
        find_properties(find("replication"), ["weak-isr", "isr"])


def test_invariants_are_found_as_the_command_line_spells_them() -> None:
    assert find_properties(find("replication"), ["weak-isr", "hw-match"]) == ("weak_isr", "hw_match")
