"""What both suites, this package's and the project's own, share: how long they run, and what runs only in depth.

The profiles are `quick`, by default, and `--hypothesis-profile=deep`, which the tests marked `deep` need.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("quick", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("deep", max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
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
