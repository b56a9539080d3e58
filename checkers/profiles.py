"""What both suites, this package's and the project's own, share: how long they run, and what runs only in depth.

The profiles are `quick`, by default, and `--hypothesis-profile=deep`, which the tests marked `deep` need.
"""

from __future__ import annotations

import sys

import pytest
from hypothesis import HealthCheck, settings

COMMON = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", COMMON, max_examples=50, stateful_step_count=20)
settings.register_profile("deep", COMMON, max_examples=2000, stateful_step_count=30)
settings.load_profile("quick")


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line("markers", "deep: large bounds; runs with --hypothesis-profile=deep only")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what is marked `deep` in any other profile; a second call changes nothing."""
    if config.getoption("--hypothesis-profile") == "deep":
        return
    skip = pytest.mark.skip(reason="needs --hypothesis-profile=deep")
    for item in items:
        if item.get_closest_marker("deep") and not item.get_closest_marker("skip"):
            item.add_marker(skip)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the clusters that were observed have been through, if there were any."""
    coverage = sys.modules.get("hwmark.checkers.simulation.coverage")
    if coverage is not None and coverage.SESSION.steps:
        terminalreporter.section("what the clusters have been through")
        terminalreporter.write_line(coverage.SESSION.text())
