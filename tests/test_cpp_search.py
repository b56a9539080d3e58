"""The hand-written C++ search, which the benchmarks compare with, explores the published state spaces exactly."""

import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PUBLISHED = json.loads((ROOT / "tests" / "data" / "replication.json").read_text())
BOUNDS = ("replicas", "log_size", "records", "max_epoch")
LARGE = 200_000  # states; above, the row is for the deep profile


def _name(row: dict[str, Any]) -> str:
    words = [row["variant"], *(str(row[bound]) for bound in BOUNDS), row.get("invariant", "")]
    return "-".join(filter(None, [*words, "symmetry" if row.get("symmetry") else ""]))


def _row(row: dict[str, Any]) -> Any:
    marks = [pytest.mark.deep] if row.get("distinct", 0) > LARGE else []
    return pytest.param(row, id=_name(row), marks=marks)


@pytest.fixture
def cpp(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    module = importlib.import_module("cpp")
    if not any(map(shutil.which, module.COMPILERS)):
        pytest.skip("no C++ compiler")
    assert module.build() is not None
    return module


@pytest.mark.parametrize("row", [_row(row) for row in PUBLISHED["counts"]])
def test_counts_are_the_published_ones(cpp: Any, row: dict[str, Any]) -> None:
    run = cpp.search(row["variant"], *(row[bound] for bound in BOUNDS), symmetry=row["symmetry"])
    assert (run.distinct, run.generated, run.depth) == (row["distinct"], row["generated"], row["depth"])


@pytest.mark.parametrize("row", [_row(row) for row in PUBLISHED["violations"] + PUBLISHED["holds"]])
def test_invariants_fail_first_where_published_or_hold(cpp: Any, row: dict[str, Any]) -> None:
    run = cpp.search(row["variant"], *(row[bound] for bound in BOUNDS))
    depths = {"weak-isr": run.weak_isr_depth, "strong-isr": run.strong_isr_depth}
    assert depths[row["invariant"]] == row.get("states")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("kip-99", 2, 2, 2, 1), "unknown variant 'kip-99'; known: truncate-to-hw, kip-101"),
        (("kip-320", 5, 2, 2, 1), "REPLICAS must be 1 to 4, not '5'"),
        (("kip-320", 4, 4, 8, 5), "a state of these bounds takes 220 bits of 128"),
    ],
)
def test_bad_bounds_are_refused_with_the_reason(cpp: Any, arguments: tuple[Any, ...], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        cpp.search(*arguments)


def test_without_a_compiler_the_search_is_skipped_with_a_word(
    cpp: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    cpp._compile.cache_clear()
    try:
        assert cpp.build() is None
        assert "no C++ compiler" in capsys.readouterr().err
        with pytest.raises(RuntimeError, match="no C\\+\\+ compiler"):
            cpp.search("kip-320", 2, 1, 1, 0)
    finally:
        cpp._compile.cache_clear()
