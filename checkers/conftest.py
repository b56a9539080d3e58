"""The suite for users: profiles (see `profiles`), and `--history FILE` for recordings of their own."""

from __future__ import annotations

import pytest
from hwmark.checkers.profiles import (
    pytest_collection_modifyitems,
    pytest_configure,
    pytest_sessionfinish,
    pytest_terminal_summary,
    pytest_testnodedown,
)

__all__ = [
    "pytest_addoption",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_sessionfinish",
    "pytest_terminal_summary",
    "pytest_testnodedown",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--history",
        action="append",
        default=[],
        metavar="FILE",
        help="judge this recorded history too (may be repeated)",
    )
