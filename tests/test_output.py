"""What the commands write, whoever reads it and however much of it."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device")
@pytest.mark.parametrize("command", [["history", "--json"], ["linearizable", "--json"], ["history"]])
def test_output_without_room_gets_one_line(command: list[str]) -> None:
    with open("/dev/full", "w") as full:
        answer = subprocess.run(
            [*HWMARK, *command, str(LOSSY)],
            stdout=full,
            stderr=subprocess.PIPE if "--json" in command else full,
            check=False,
        )
    assert answer.returncode == 2
    assert answer.stderr in (None, b"hwmark: the answer cannot be written: no space left on device\n")


def test_closed_streams_are_no_errors() -> None:
    for closed, status in (("<&-", 2), (">&-", 1), ("2>&-", 1)):
        file = "-" if closed == "<&-" else str(LOSSY)
        for command in ("history", "linearizable"):
            shell = shlex.join([*HWMARK, command, file, "--json"]) + " " + closed
            answer = subprocess.run(shell, shell=True, capture_output=True, check=False)
            assert answer.returncode == status and b"Traceback" not in answer.stderr


def test_a_pipe_among_files_is_refused_where_it_would_be_read_twice(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for command in (["linearizable", str(pipe)], ["draw", str(pipe), "-o", str(tmp_path / "picture.dot")]):
        answer = subprocess.run([*HWMARK, *command], capture_output=True, check=False)
        assert answer.returncode == 2 and answer.stderr.count(b"\n") == 1
        assert b"a pipe can be read only once; expected a file" in answer.stderr
