"""What real clusters are known to do under faults: when they keep what they acknowledged, and when they lose it.

Each test records a cluster of its own, so all of them may run at once. Which values are gone, and how often a group has
processed one, is found twice: by the checker, and plainly, from the records.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Set
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hwmark.checkers.cli import main
from hwmark.checkers.cluster import faults
from hwmark.checkers.cluster.acts import Asked
from hwmark.checkers.cluster.cluster import Cluster, create
from hwmark.checkers.cluster.distribution import resolve
from hwmark.checkers.cluster.network import why_not
from hwmark.checkers.cluster.recipes import RECIPES
from hwmark.checkers.record.transactions import Ended, GroupOffsets, Transactor
from hwmark.checkers.record.transformers import Transformer
from hwmark.checkers.record.workload import Transaction
from recordings import Recording, Value, record

pytestmark = pytest.mark.cluster
OLD, NEW = "3.9.2", "4.3.1"
EACH_VERSION = pytest.mark.parametrize("version", [OLD, NEW])
FIRST_OLD = pytest.mark.parametrize("version", [OLD, pytest.param(NEW, marks=pytest.mark.deep)])
FIRST_NEW = pytest.mark.parametrize("version", [NEW, pytest.param(OLD, marks=pytest.mark.deep)])
ONE_ROUND = 4.0  # s, the fewest: of the faults that a recipe waits for; it goes on until they are done
PROCESSES, LINKS = {"kill", "terminate", "pause"}, {"isolate", "partition", "one-way", "unplug"}

PLAIN = ("--transactional", 0, "--transformers", 0)
"""Where logs are cut off, those of coordinators are too: transactions may hang then, and no read is complete."""

LOSSES = {"missing-from-final-read", "lost-write", "unseen", "inconsistent-offsets", "nonmonotonic-send"}
"""What acknowledged data that is gone looks like, and what lies in its place."""
READERS = {"poll-skip", "int-poll-skip", "nonmonotonic-poll", "int-nonmonotonic-poll"}
"""What a reader sees whose log is cut off behind it, or of which another reader saw another end."""
AGAIN = {"duplicate"}
"""What comes of sending again what the next leader does not know."""


@pytest.fixture
def links() -> None:
    """Skips what has to cut links where this machine cannot."""
    if reason := why_not():
        pytest.skip(f"no links can be cut here: {reason}")


def lossy(capsys: pytest.CaptureFixture[str], folder: Path, *options: object) -> Recording:
    """A recording that is to lose something; who asks waits long, for what is not acknowledged cannot be lost."""
    patient = (*options, "--seed", 1, "--patience", 10_000)
    return record(capsys, folder, *patient, seconds=ONE_ROUND, enough=lambda recording: recording.lost > 0)


def assert_lost(recording: Recording, more: Set[str] = frozenset()) -> None:
    """Plain sends that were acknowledged are gone, and nothing happened but that and what comes of it."""
    assert recording.status == 1 and recording.told["valid"] is False and recording.is_complete
    assert recording.lost > 0 and recording.lost == len(recording.gone)
    assert set(recording.told["error_types"]) <= LOSSES | READERS | more
    assert {recording.acknowledged[value]["f"] for value in recording.gone} == {"send"}


def assert_kept(recording: Recording, acknowledged: int = 500) -> None:
    """Everything is as it was promised, and enough of it for that to mean something."""
    assert recording.told["bad_error_types"] == [] and recording.told["linearizable"] == "linearizable"
    assert recording.status == 0 and recording.told["valid"] is True and recording.is_complete
    assert not recording.gone and set(recording.final.values()) == {1}
    assert len(recording.acknowledged) >= acknowledged


# ------------------------------------------------------------ acknowledged by all that are in sync


def seed_of(recipe: str, seconds: float) -> int:
    """The first seed whose schedule kills a leader, and cuts links too if the recipe can."""
    for seed in count(1):
        steps = RECIPES[recipe].schedule(Random(f"{seed}/schedule"), seconds)
        kinds = {step.fault.kind for step in steps}
        kills = any(step.fault.kind == "kill" and "leader" in step.fault.targets for step in steps)
        if kills and (kinds & LINKS or not RECIPES[recipe].needs_network):
            return seed
    raise AssertionError


@EACH_VERSION
def test_acks_all_keeps_everything(version: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two replicas in sync, brokers killed and links cut, and a group that processes all the while."""
    recipe, seconds = "kills" if why_not() else "mixed", 12.0
    options = ("--version", version, "--recipe", recipe, "--seed", seed_of(recipe, seconds), "--transformers", 3)
    run = record(capsys, tmp_path, *options, seconds=seconds, enough=lambda run: len(run.processed) > 50)
    assert_kept(run)
    assert set(run.processed.values()) == {1}
    assert PROCESSES & run.faults.keys() and (LINKS & run.faults.keys() or recipe == "kills")
    assert max(run.leader_epochs().values()) > 1
    assert main(["audit", str(run.logs), "--json"]) == 0, capsys.readouterr().out


# ------------------------------------------------------------ what loses acknowledged data


@FIRST_NEW
def test_acks_1_loses_what_a_leader_that_is_cut_off_acknowledges(
    version: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], links: None
) -> None:
    """Plain sends alone: transactions wait for all replicas in sync, and none is lost or torn."""
    run = lossy(capsys, tmp_path, "--version", version, "--recipe", "ack1-partition")
    assert run.faults["isolate"] >= 1
    assert_lost(run)


@FIRST_OLD
def test_an_unclean_election_loses_what_the_old_leader_still_holds(
    version: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its disk, as it is before it is told to truncate, has the values; afterwards no replica does."""
    disks = tmp_path / "disks"
    monkeypatch.setitem(faults.KINDS, "restart", before_the_last(disks, faults.KINDS["restart"]))
    run = lossy(capsys, tmp_path, "--version", version, "--recipe", "unclean", *PLAIN)
    assert run.faults["kill"] >= 2
    assert_lost(run, AGAIN)
    (old,) = disks.iterdir()
    others = [broker for broker in run.logs.glob("broker-*") if broker.name != old.name]
    _, held = holders(capsys, run, [old, *others])
    assert held == {value: {old.name.replace("-", " ")} for value in run.gone}
    status, held = holders(capsys, run, [run.logs])
    assert status == 0 and held == {value: set() for value in run.gone}


def before_the_last(disks: Path, restart: faults.Kind) -> faults.Kind:
    """Restarts, but the disks of those that the last fault struck are copied before they start again."""

    def copied(asked: Asked) -> dict[str, Any]:
        for node in asked.nodes:
            if node.id in asked.cluster.struck:
                shutil.rmtree(disks, ignore_errors=True)
                shutil.copytree(node.log_directory, disks / node.folder.name / "data")
        return restart.act(asked)

    return restart._replace(act=copied)


def holders(
    capsys: pytest.CaptureFixture[str], run: Recording, directories: list[Path]
) -> tuple[int, dict[Value, set[str]]]:
    """The exit status of an audit, and at which brokers it finds each value that is gone."""
    status = main(["audit", *map(str, directories), "--history", str(run.file), "--json"])
    found = json.loads(capsys.readouterr().out)["located"]
    held = {(f"{v['topic']}-{v['partition']}", v["value"]): {at["broker"] for at in v["held"]} for v in found}
    return status, {value: held[value] for value in run.gone}


LAST = ("--recipe", "last-replica")
WITHOUT_ELR = ("--feature", "eligible.leader.replicas.version=0")


@pytest.mark.parametrize(("version", "features"), [("3.9.2", ()), ("4.3.1", WITHOUT_ELR)])
def test_the_last_replica_in_sync_leads_without_what_it_had_not_flushed(
    version: str, features: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = lossy(capsys, tmp_path, "--version", version, *features, *LAST, *PLAIN)
    assert run.faults["lose-unflushed"] >= 1
    assert_lost(run, AGAIN)


def test_eligible_leader_replicas_keep_what_the_last_one_in_sync_loses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = record(capsys, tmp_path, "--version", "4.3.1", *LAST, "--seed", 1, seconds=ONE_ROUND)
    assert run.faults["lose-unflushed"] >= 1
    assert_kept(run, acknowledged=100)


# ------------------------------------------------------------ a group that processes exactly once

TOGETHER = ("--transformers", 3, "--subscribers", 2, "--churn", 0.5, "--abort-percent", 30, "--seed", 1)


def is_busy(recording: Recording) -> bool:
    """Whether members came and went, and got something done."""
    return len(recording.members) >= 6 and recording.moves >= 8 and len(recording.processed) >= 200


@FIRST_NEW
def test_a_group_processes_once_while_its_coordinators_restart(
    version: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each broker in turn, so each coordinator too, of groups and of transactions."""
    options = ("--version", version, "--recipe", "rolling", *TOGETHER)
    run = record(capsys, tmp_path, *options, seconds=ONE_ROUND, enough=is_busy)
    assert run.faults["terminate"] >= 3
    assert_kept(run)
    assert set(run.processed.values()) == {1}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("groups") / "cluster"
    with create(folder, resolve("4.3.1"), settings={"min.insync.replicas": "2"}) as cluster:
        cluster.start()
        yield cluster


def test_a_group_that_forgets_its_offsets_processes_twice(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Transactions that commit no offsets: whoever takes over begins where the group was before them."""
    take = Transactor.take

    def without(self: Transactor, transaction: Transaction, group: GroupOffsets | None = None) -> Ended:
        return take(self, transaction)

    monkeypatch.setattr(Transactor, "take", without)
    there = ("--bootstrap-servers", cluster.bootstrap_servers)
    run = record(capsys, tmp_path, *there, *TOGETHER, seconds=4.0, enough=is_busy)
    assert run.status == 1 and "processed-twice" in run.told["bad_error_types"]
    assert set(run.told["error_types"]) <= {"processed-twice", "group-offset-back"} | READERS
    assert max(run.processed.values()) > 1


def test_a_group_that_does_not_read_again_what_it_aborted_never_processes_it(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Transformer, "_rewind", lambda self, batch: None)
    there = ("--bootstrap-servers", cluster.bootstrap_servers)
    run = record(capsys, tmp_path, *there, *TOGETHER, seconds=4.0, enough=is_busy)
    assert run.status == 1 and run.told["bad_error_types"] == ["processed-never"]
    never = {(each["key"], each["value"]) for each in run.told["anomalies"]["processed-never"]}
    assert never <= run.final.keys() and not never & run.processed.keys()
