"""What both suites, this package's and the project's own, share: how long they run, and what runs only sometimes.

The profiles are `quick`, by default, and `--hypothesis-profile=deep`, which the tests marked `deep` need.
"""

from __future__ import annotations

import shutil
import sys

import pytest
from hypothesis import HealthCheck, settings

COMMON = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", COMMON, max_examples=50, stateful_step_count=20)
settings.register_profile("deep", COMMON, max_examples=2000, stateful_step_count=30)
settings.load_profile("quick")

NEEDED = (("Java", "java"), ("Maven", "mvn"))
"""What starts real brokers, and the programs that show it is here."""


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers."""
    config.addinivalue_line("markers", "deep: large bounds; runs with --hypothesis-profile=deep only")
    config.addinivalue_line("markers", "cluster: starts real brokers; runs where Java and Maven are")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what is marked `deep` in any other profile, and `cluster` without brokers; a second call changes nothing."""
    missing = [name for name, program in NEEDED if shutil.which(program) is None]
    if missing:
        _skip(items, "cluster", f"needs {' and '.join(missing)}")
    if config.getoption("--hypothesis-profile") == "deep":
        return
    _skip(items, "deep", "needs --hypothesis-profile=deep")


def _skip(items: list[pytest.Item], marker: str, reason: str) -> None:
    for item in items:
        if item.get_closest_marker(marker) and not item.get_closest_marker("skip"):
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the clusters that were observed have been through, if there were any."""
    coverage = sys.modules.get("hwmark.checkers.simulation.coverage")
    if coverage is not None and coverage.SESSION.steps:
        terminalreporter.section("what the clusters have been through")
        terminalreporter.write_line(coverage.SESSION.text())
