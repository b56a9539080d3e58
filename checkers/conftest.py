"""Profiles of the suite: `quick` by default, `--hypothesis-profile=deep` for the large bounds."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("quick", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("deep", max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("quick")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--history",
        action="append",
        default=[],
        metavar="FILE",
        help="judge this recorded history too (may be repeated)",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "deep: large bounds; runs with --hypothesis-profile=deep only")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--hypothesis-profile") == "deep":
        return
    skip = pytest.mark.skip(reason="needs --hypothesis-profile=deep")
    for item in items:
        if item.get_closest_marker("deep"):
            item.add_marker(skip)
