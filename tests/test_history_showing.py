"""The operations that are said to show an anomaly show it: alone, and (mostly) none can be spared."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

RECORDED = Path(__file__).parents[1] / "traces" / "recorded"
DATA = Path(__file__).parent / "data" / "histories"


def test_random_histories(shown: ModuleType) -> None:
    seen: Counter[str] = Counter()
    with gzip.open(DATA / "random-500.jsonl.gz", "rt") as lines:
        for case in map(json.loads, lines):
            if case["unique-writes"]:
                seen += shown.assert_shown(case["history"])
    assert seen.keys() >= {"lost-write", "inconsistent-offsets", "duplicate", "G1a"} and min(seen.values()) > 10


@pytest.mark.parametrize("name", ["lossy-k4-powerfail-acksall", "lossy-k3-laststand-acksall"])
def test_recordings(name: str, shown: ModuleType) -> None:
    records = [json.loads(line) for line in (RECORDED / f"{name}.jsonl").read_text().splitlines()]
    assert shown.assert_shown(records)["missing-from-final-read"] > 80
