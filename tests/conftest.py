"""Profiles as in the suite for users, and the random small models that several tests draw."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest
from hwmark.checkers.profiles import pytest_collection_modifyitems, pytest_configure

__all__ = ["pytest_collection_modifyitems", "pytest_configure"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """The folder whose tables `test_kafka_tables.py` asks."""
    parser.addoption("--kafka-tables", metavar="DIR", help="ask the rows of the tables in this folder instead")


@pytest.fixture(scope="session")
def small_models() -> ModuleType:
    """The module `small_models`."""
    return importlib.import_module("small_models")


@pytest.fixture(scope="session")
def cluster_world() -> ModuleType:
    """The module `cluster_world`: clusters of processes that only sleep."""
    return importlib.import_module("cluster_world")


@pytest.fixture(scope="session")
def shown() -> ModuleType:
    """The module `shown`: do the operations show what they are said to show?"""
    return importlib.import_module("shown")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the modules of random models."""
    return tmp_path_factory.mktemp("models")
