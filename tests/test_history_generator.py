"""Generated histories are valid, typical and reproducible; what is planted is found, and nothing else."""

from __future__ import annotations

import gzip
import json
import statistics
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hwmark.checkers.cli import main
from hwmark.checkers.histories import HistoryReport, check
from hwmark.checkers.histories.kinds import KINDS
from hwmark.checkers.histories.plain import check_plain
from hwmark.checkers.linearizability.log_history import check_history
from hwmark.checkers.verdict import Holds
from hwmark.traces.errors import BadInputError
from hwmark.traces.generator import Shape, history_chunks, write_generated
from hwmark.traces.generator_anomalies import EPISODES, IMPLIED, ONLY_WITH_WW, Planted
from hwmark.traces.generator_notation import JsonLines
from hwmark.traces.generator_simulation import Simulation
from hwmark.traces.history import History, read_history

NOT_PLANTED = {"empty-transaction-graph"}
"""Types of a whole history, which no episode of it can show."""


def generated(folder: Path, **shape: Any) -> tuple[History, list[Planted]]:
    """A generated history, read back, and what was planted in it."""
    file = folder / "history.jsonl"
    planted = write_generated(str(file), Shape(**shape)).planted
    return read_history(file), planted


def records(**shape: Any) -> list[dict[str, Any]]:
    """The records of a generated history."""
    return [json.loads(line) for line in b"".join(history_chunks(Shape(**shape))).splitlines()]


def counts(report: HistoryReport) -> dict[str, int]:
    """How many anomalies of each type there are."""
    return {name: len(found) for name, found in report.anomalies.items()}


@pytest.mark.parametrize("transactional", [False, True])
@pytest.mark.parametrize("group", [None, "g"])
@pytest.mark.parametrize(("partitions", "processes", "seed"), [(3, 5, 0), (3, 5, 1), (1, 2, 2), (2, 1, 3), (7, 12, 4)])
def test_a_history_is_valid(
    tmp_path: Path, transactional: bool, group: str | None, partitions: int, processes: int, seed: int
) -> None:
    shape = dict(partitions=partitions, processes=processes, group=group, seed=seed)
    history, planted = generated(tmp_path, lines=2500, transactional=transactional, **shape)
    assert planted == []
    for ww_deps in (False, True):
        assert check(history, ww_deps=ww_deps).anomalies == {}, shape
    assert check_plain(records(lines=2500, transactional=transactional, **shape)) == {}, shape
    judged = check_history(history)
    assert len(judged) == partitions and all(isinstance(each.verdict, Holds) for each in judged.values()), shape


@pytest.mark.parametrize("name", EPISODES)
@pytest.mark.parametrize("transactional", [False, True])
def test_what_is_planted_is_found_and_nothing_else(tmp_path: Path, name: str, transactional: bool) -> None:
    for seed, (partitions, group) in enumerate([(3, None), (1, None), (5, "g")]):
        shape = dict(partitions=partitions, group=group, seed=seed)
        history, (planted,) = generated(tmp_path, lines=700, transactional=transactional, anomalies=(name,), **shape)
        report = check(history, ww_deps=name in ONLY_WITH_WW)
        found = counts(report)
        assert found.pop(name) == 1, shape
        assert found.keys() <= IMPLIED.get(name, frozenset()), shape
        closing_reads = set(history.operations.index[history.operations.closing > 0].tolist())
        shown = set(KINDS[name].operations(report.anomalies[name][0])) - closing_reads
        assert not shown or shown & set(planted.operations), shape
        assert 0.2 * history.lines < min(planted.operations) < 0.85 * history.lines


def test_every_type_can_be_planted() -> None:
    assert set(EPISODES) == set(KINDS) - NOT_PLANTED
    assert set(IMPLIED) | ONLY_WITH_WW | set().union(*IMPLIED.values()) <= set(EPISODES)


@pytest.mark.parametrize("name", ["lost-write", "unseen", "G1c", "G1c-realtime", "G1a"])
def test_implied_types_do_come_along(tmp_path: Path, name: str) -> None:
    history, _ = generated(tmp_path, lines=1500, anomalies=(name,))
    found = counts(check(history))
    assert found.keys() >= {name} | IMPLIED.get(name, frozenset()) - {"poll-skip", "int-poll-skip"}


def test_all_anomalies_at_once_and_one_of_them_twice(tmp_path: Path) -> None:
    names = (*EPISODES, "duplicate")
    history, planted = generated(tmp_path, lines=6000, transactional=True, anomalies=names)
    assert Counter(p.name for p in planted) == Counter(names)
    found = counts(check(history, ww_deps=True))
    assert found.keys() == set(EPISODES)
    assert found["duplicate"] == 2
    assert found["G1a"] == found["inconsistent-offsets"] == found["precommitted-read"] == 1


@pytest.mark.parametrize("lines", [*range(95, 105), 1001, 1002, 20_000])
@pytest.mark.parametrize("transactional", [False, True])
def test_a_history_has_as_many_lines_as_asked(lines: int, transactional: bool) -> None:
    found = records(lines=lines, transactional=transactional, seed=lines)
    assert len(found) == lines
    assert [r["index"] for r in found] == list(range(lines))
    times = [r["time"] for r in found]
    assert all(earlier < later for earlier, later in pairwise(times))
    assert found[0]["f"] == "config" and found[0]["process"] == "nemesis" and found[0]["value"]["lines"] == lines
    assert {r["final"] for r in found[-6:]} == {"read_uncommitted"} or lines < 200


@pytest.mark.parametrize("transactional", [False, True])
@pytest.mark.parametrize("processes", [1, 5, 20])
def test_a_poll_finds_about_ten_values(transactional: bool, processes: int) -> None:
    found = [
        sum(map(len, micro[1].values()))
        for r in records(lines=10_000, transactional=transactional, processes=processes)
        if r["type"] == "ok" and r["f"] in ("poll", "txn") and "final" not in r
        for micro in r["value"]
        if micro[0] == "poll"
    ]
    assert 8.5 < statistics.mean(found) < 11.5
    assert len(found) > 200


def test_a_transactional_history_is_typical() -> None:
    found = records(lines=30_000, transactional=True)
    ended = Counter((r["f"], r["type"]) for r in found if isinstance(r["process"], int))
    assert all(ended[which] > 0 for which in [("txn", "info"), ("txn", "fail"), ("poll", "fail"), ("crash", "info")])
    assert 0.9 < ended["txn", "ok"] / ended["txn", "invoke"] < 0.98
    assert {len(r["value"]) for r in found if r["f"] == "txn"} == {1, 2, 3, 4}
    assert sum(r.get("abort", False) for r in found) > 100
    assert sum("rebalance-log" in r for r in found) > 3
    assert sum(r["process"] == "nemesis" for r in found) >= 10
    assert {len(r["value"]) for r in found if r["f"] == "assign"} == {2, 3}
    opened, overlapping = 0, 0
    for r in found:
        opened += {"invoke": 1}.get(r["type"], -1) if isinstance(r["process"], int) else 0
        overlapping = max(overlapping, opened)
    assert overlapping == 5


def closing(found: list[dict[str, Any]], isolation: str) -> dict[str, list[tuple[int, int]]]:
    """The messages of a closing read: key to offsets and values."""
    read: dict[str, list[tuple[int, int]]] = {}
    for r in found:
        if r["type"] == "ok" and r["f"] == "poll" and r.get("final") == isolation:
            for key, messages in r["value"][0][1].items():
                read.setdefault(key, []).extend((offset, value) for offset, value in messages)
    return read


def test_the_closing_reads_are_complete() -> None:
    found = records(lines=20_000, transactional=True, seed=5)
    committed, raw = closing(found, "read_committed"), closing(found, "read_uncommitted")
    data = [r for r in found if r["f"] in ("send", "txn")]
    sent = {(str(m[1]), *m[2]) for r in data if r["type"] == "ok" for m in r["value"] if m[0] == "send"}
    failed = [r for r in data if r["type"] == "fail"]
    aborted = {(str(m[1]), m[2]) for r in failed if r["f"] == "txn" for m in r["value"] if m[0] == "send"}
    for key, messages in committed.items():
        offsets = [offset for offset, _ in messages]
        assert offsets == sorted(set(offsets))
        assert len(offsets) < offsets[-1] + 1, "markers occupy offsets"
        assert set(messages) < set(raw[key])
        assert {(o, v) for k, o, v in sent if k == key} <= set(messages)
        assert {v for k, v in aborted if k == key} <= {v for _, v in raw[key]} - {v for _, v in messages}
    assert all(r["value"] == [["poll", {}]] for r in found[-1:])


def test_a_group_processes_every_record_once() -> None:
    found = records(lines=20_000, group="g", seed=6)
    processed: list[int] = []
    position = 0
    for r in found:
        if r["type"] != "ok" or r["f"] != "txn":
            continue
        (_, read), send, (_, group, offsets) = r["value"]
        assert group == "g" and send[1] != 0 and offsets.keys() == read.keys() <= {"0"}
        if read:
            assert position <= read["0"][0][0] and offsets["0"] == read["0"][-1][0] + 1
            processed += [value for _, value in read["0"]]
            position = offsets["0"]
    assert len(processed) == len(set(processed)) > 1000


def test_equal_seeds_give_equal_bytes(tmp_path: Path) -> None:
    shape = dict(lines=3000, transactional=True, anomalies=("G1c", "duplicate"), group="g")
    first = b"".join(history_chunks(Shape(**shape, seed=1)))
    assert first == b"".join(history_chunks(Shape(**shape, seed=1)))
    assert first != b"".join(history_chunks(Shape(**shape, seed=2)))
    files = [tmp_path / "a.jsonl.gz", tmp_path / "b.jsonl.gz"]
    for file in files:
        write_generated(str(file), Shape(**shape, seed=1))
    assert files[0].read_bytes() == files[1].read_bytes()
    assert files[0].read_bytes()[3:8] == bytes(5), "neither a name nor a time"
    assert gzip.decompress(files[0].read_bytes()) == first


def test_edn_tells_the_same(tmp_path: Path) -> None:
    shape = dict(lines=2000, transactional=True, anomalies=("G1a", "processed-twice"), group="g", seed=3)
    read = []
    for notation in ("jsonl", "edn"):
        file = tmp_path / f"history.{notation}"
        write_generated(str(file), Shape(**shape, notation=notation))
        read.append(read_history(file))
    lines, edn = read
    for table in ("operations", "micro", "assigned", "rebalanced", "group_offsets"):
        columns, others = vars(getattr(lines, table)), vars(getattr(edn, table))
        assert all(np.array_equal(columns[name], others[name]) for name in columns), table
    assert lines.configuration == edn.configuration and lines.faults == edn.faults and lines.errors == edn.errors
    assert counts(check(lines)) == counts(check(edn)) == {"G1a": 1, "processed-twice": 1}


def test_what_consumers_have_passed_is_forgotten() -> None:
    simulation = Simulation(Shape(lines=60_000, transactional=True), JsonLines(), [])
    most = 0
    for _ in simulation.steps():
        most = max(most, *(len(partition.visible) for partition in simulation.partitions))
        simulation.written.clear()
    assert simulation.lines == 60_000
    assert most < 6000 < sum(partition.end for partition in simulation.partitions) / 10


def test_the_command_says_what_it_planted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "history.jsonl"
    command = ["generate", "history", "--lines", "800", "--txn", "--anomaly", "G1c", "--anomaly", "unseen"]
    assert main([*command, "--seed", "4", "-o", str(file)]) == 0
    out, err = capsys.readouterr()
    assert out == "" and err.splitlines()[0] == f"wrote 800 lines to {file}"
    assert sorted(line.split(":")[0] for line in err.splitlines()[1:]) == ["planted G1c", "planted unseen"]
    written = [json.loads(line) for line in file.read_text().splitlines()]
    (told,) = (line for line in err.splitlines() if line.startswith("planted unseen"))
    index = int(told.split("operations ")[1].split(",")[0])
    assert written[index]["f"] == "send" and written[index]["value"][0][2][0] is None
    assert main(["history", str(file)]) == 1
    assert "G1c" in capsys.readouterr().err


def test_standard_output_takes_the_history() -> None:
    command = [sys.executable, "-m", "hwmark.checkers.cli", "generate", "history", "--lines", "500", "-o", "-"]
    done = subprocess.run(command, capture_output=True, check=True)
    assert done.stdout == b"".join(history_chunks(Shape(lines=500)))
    assert done.stderr == b"wrote 500 lines to standard output\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--lines", "500", "--anomaly", "G2"], "--anomaly: 'G2' cannot be planted; known are G0, "),
        (["--lines", "500", "--anomaly", "empty-transaction-graph"], "--anomaly: 'empty-transaction-graph' cannot"),
        (["--lines", "20"], "--lines: 20 have no room; expected at least 83"),
        (["--lines", "100", "--anomaly", "G1c"], "--lines: 100 have no room; expected at least 158"),
    ],
)
def test_bad_options_get_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    file = tmp_path / "history.jsonl"
    assert main(["generate", "history", *arguments, "-o", str(file)]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"hwmark: {told}") and err.count("\n") == 1
    assert not file.exists()


@pytest.mark.parametrize(
    "arguments", [["--lines", "0"], ["--lines", "many"], ["--partitions", "-1"], ["--format", "xml"]]
)
def test_bad_numbers_get_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["generate", "history", "--lines", "500", "-o", "never.jsonl", *arguments])
    err = capsys.readouterr().err
    assert stopped.value.code == 2 and err.count("\n") == 1 and arguments[0] in err


def test_a_file_that_cannot_be_written_gets_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "nowhere" / "history.jsonl"
    assert main(["generate", "history", "--lines", "500", "-o", str(file)]) == 2
    assert capsys.readouterr().err == f"hwmark: {file}: cannot be written: no such file or directory\n"


def test_a_length_without_room_is_refused_before_anything_is_simulated() -> None:
    shape = Shape(lines=82)
    assert shape.lines_min() == 83
    with pytest.raises(BadInputError):
        next(history_chunks(shape))


@pytest.mark.parametrize("seed", [3, 46])
def test_no_transaction_of_unknown_outcome_excuses_what_is_planted(tmp_path: Path, seed: int) -> None:
    file = tmp_path / "planted.jsonl"
    write_generated(str(file), Shape(lines=300, transactional=True, seed=seed, anomalies=("processed-never",)))
    assert check(read_history(file)).error_types == ["processed-never"]
