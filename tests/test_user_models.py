"""A model in a user's own file is checked, and its trace replayed, as those that come along are."""

from __future__ import annotations

from pathlib import Path

import pytest
from hwmark.checkers.cli import main

IMPATIENT = """
from hwmark.spec.two_phase_commit import Decision, Transaction, two_phase_commit


def commit_without_asking(s: Transaction) -> bool:
    if s.decision != Decision.PENDING:
        return False
    s.decision = Decision.COMMIT
    s.commit_sent = True
    return True


impatient = two_phase_commit.derive("impatient", why="no questions", manager_commit=commit_without_asking)
"""


@pytest.fixture
def impatient(tmp_path: Path) -> Path:
    path = tmp_path / "impatient.py"
    path.write_text(IMPATIENT)
    return path


def test_the_model_that_a_file_defines_last_is_checked(impatient: Path, tmp_path: Path) -> None:
    trace = str(tmp_path / "trace.ndjson")
    assert main(["check", str(impatient), "--bound", "resource_managers=2", "--trace", trace]) == 1
    assert main(["replay", trace]) == 2  # the trace's variant is not among those that come along
    assert main(["replay", trace, "--spec", str(impatient)]) == 0


def test_another_model_of_the_file_is_checked_by_its_variant(impatient: Path) -> None:
    assert main(["check", str(impatient), "--variant", "two-phase-commit"]) == 0


@pytest.mark.parametrize(
    ("content", "arguments", "said"),
    [
        (None, [], "there is no such file"),
        ("x = 1", [], "defines no model"),
        ("import nothing_of_that_name", [], "cannot be imported: ModuleNotFoundError"),
        (IMPATIENT, ["--variant", "patient"], "it has two-phase-commit, impatient"),
    ],
)
def test_a_file_without_the_model_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, arguments: list[str], said: str
) -> None:
    path = tmp_path / "model.py"
    if content is not None:
        path.write_text(content)
    assert main(["check", str(path), *arguments]) == 2
    line = capsys.readouterr().err
    assert said in line
    assert line.count("\n") == 1
