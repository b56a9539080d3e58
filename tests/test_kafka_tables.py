"""Facts from Apache Kafka's own unit tests, asked of the reference implementation: one test per row.

Each table has an adapter `kafka_table_<name>.py` beside this file: `run(row, table)` puts a row to refimpl's own
interfaces and asserts what Kafka answers; `DISAGREES` names the rows that are answered otherwise, each with its reason.
`pytest tests/test_kafka_tables.py --kafka-tables DIR` asks the rows of other tables of the same schema.
"""

from __future__ import annotations

import importlib
import json
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

HERE = Path(__file__).parent
OWN = HERE / "data" / "kafka-tables"
ADAPTERS = sorted(path.stem.removeprefix("kafka_table_") for path in HERE.glob("kafka_table_*.py"))
DISAGREE_MAX = 0.05

Row = dict[str, Any]


@cache
def adapter(name: str) -> ModuleType:
    """The module that puts the rows of a table to refimpl."""
    return importlib.import_module(f"kafka_table_{name}")


def tables(folder: Path) -> dict[str, list[Row]]:
    """The rows of every table in a folder that has an adapter."""
    files = {name: folder / f"{name}.json" for name in ADAPTERS}
    return {name: json.loads(file.read_text())["rows"] for name, file in files.items() if file.exists()}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test per row of the folder asked for."""
    if "row" in metafunc.fixturenames:
        asked = tables(Path(metafunc.config.getoption("--kafka-tables") or OWN))
        rows = [(name, row, table) for name, table in asked.items() for row in table]
        metafunc.parametrize(("name", "row", "table"), rows, ids=[f"{name}-{row['id']}" for name, row, _ in rows])


def test_answers_as_kafka_does(name: str, row: Row, table: list[Row]) -> None:
    reason = adapter(name).DISAGREES.get(row["id"])
    if reason is None:
        adapter(name).run(row, table)
        return
    with pytest.raises(AssertionError):
        adapter(name).run(row, table)
    pytest.xfail(reason)


@pytest.mark.parametrize("name", ADAPTERS)
def test_hardly_any_row_disagrees(name: str) -> None:
    known = {row["id"] for row in tables(OWN)[name]}
    disagrees = adapter(name).DISAGREES
    assert set(disagrees) <= known and len(disagrees) <= DISAGREE_MAX * len(known)
