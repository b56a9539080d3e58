"""What the commands write, whoever reads it and however much of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

LOSSY = Path(__file__).parents[1] / "traces" / "recorded" / "lossy-k4-laststand-noelr-acksall.jsonl"
HWMARK = [sys.executable, "-m", "hwmark.checkers.cli"]


def test_a_reader_that_stops_reading_is_no_error() -> None:
    with subprocess.Popen(
        [*HWMARK, "history", str(LOSSY), "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""


def test_integers_of_any_size_are_written_exactly(tmp_path: Path) -> None:
    large, file = 10**40 + 1, tmp_path / "recording.jsonl"
    file.write_text(
        f'{{"process":0,"type":"invoke","f":"send","value":[["send",0,{large}]],"time":1}}\n'
        f'{{"process":0,"type":"ok","f":"send","value":[["send",0,[0,{large}]]],"time":2}}\n'
    )
    answer = subprocess.run([*HWMARK, "history", str(file), "--json"], capture_output=True, check=False)
    assert answer.stderr == b"" and answer.returncode == 1
    assert json.loads(answer.stdout)["anomalies"]["unseen"][0]["messages"] == {"0": [large]}
