"""What both suites, this package's and the project's own, share: how long they run, and what runs only sometimes.

The profiles are `quick`, by default, and `--hypothesis-profile=deep`, which the tests marked `deep` need. Both suites
may run in several processes of pytest-xdist.
"""

from __future__ import annotations

import pickle
import shutil
import sys
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

COMMON = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", COMMON, max_examples=50, stateful_step_count=20)
settings.register_profile("deep", COMMON, max_examples=2000, stateful_step_count=30)
settings.load_profile("quick")

NEEDED = (("Java", "java"), ("Maven", "mvn"))
"""What starts real brokers, and the programs that show it is here."""

COVERAGE = "hwmark.checkers.simulation.coverage"


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers."""
    config.addinivalue_line("markers", "deep: large bounds; runs with --hypothesis-profile=deep only")
    config.addinivalue_line("markers", "cluster: starts real brokers; runs where Java and Maven are")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what is marked `deep` in any other profile, and `cluster` without brokers; a second call changes nothing."""
    if hasattr(config, "workerinput"):
        items.sort(key=_rank)
    missing = [name for name, program in NEEDED if shutil.which(program) is None]
    if missing:
        _skip(items, "cluster", f"needs {' and '.join(missing)}")
    if config.getoption("--hypothesis-profile") == "deep":
        return
    _skip(items, "deep", "needs --hypothesis-profile=deep")


def _rank(item: pytest.Item) -> int:
    """What several processes begin with: what takes long, so that none waits for another in the end.

    One of them has all clusters before it, one after the other; while it waits for brokers the others compute, and take
    what it has not come to from its end.
    """
    return 0 if item.get_closest_marker("cluster") else 1 if item.get_closest_marker("deep") else 2


def _skip(items: list[pytest.Item], marker: str, reason: str) -> None:
    for item in items:
        if item.get_closest_marker(marker) and not item.get_closest_marker("skip"):
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """One of several processes says what the clusters have been through that it observed."""
    told: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    coverage = sys.modules.get(COVERAGE)
    if told is not None and coverage is not None:
        told[COVERAGE] = pickle.dumps(coverage.SESSION)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """The first process takes that to what it knows."""
    told = getattr(node, "workeroutput", {}).get(COVERAGE)  # a process that died has told nothing
    if told is not None:
        seen = pickle.loads(told)
        sys.modules[COVERAGE].SESSION.add(seen)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the clusters that were observed have been through, if there were any."""
    coverage = sys.modules.get(COVERAGE)
    if coverage is not None and coverage.SESSION.steps:
        terminalreporter.section("what the clusters have been through")
        terminalreporter.write_line(coverage.SESSION.text())
