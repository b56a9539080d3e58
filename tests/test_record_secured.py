"""`hwmark record` on somebody else's cluster, which asks who is there: what is refused, told, and kept secret.

One broker with an authorizer, and with listeners of all kinds.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hwmark.checkers.cli import main
from hwmark.checkers.record import topics
from hwmark.traces.history import read_history
from secured_world import (
    ADMIN,
    ALL,
    CREATE,
    GROUP,
    ID,
    MINE,
    READ,
    TOPIC,
    WRITE,
    Secured,
    credentials,
    properties,
    secured,
)

pytestmark = pytest.mark.cluster
PLAIN_ONLY = ("--transactional", "0", "--transformers", "0", "--subscribers", "0")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    with secured(tmp_path_factory.mktemp("secured")) as cluster:
        yield cluster


def topics_of(cluster: Secured) -> set[str]:
    return {name for name in cluster.admin().list_topics(timeout=30).topics if not name.startswith("__")}


def record(address: str, *options: object) -> int:
    return main(["record", "--bootstrap-servers", address, *map(str, options)])


def answer(capsys: pytest.CaptureFixture[str], address: str, *options: object) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    status = record(address, *options, "--json")
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return status, told


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    told = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("seed ")]
    assert len(told) == 1 and "swordfish" not in told[0]
    return told[0]


# ------------------------------------------------------------ who is let in


def test_who_is_known_may_record_and_no_secret_is_written(
    cluster: Secured, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """TLS and SASL in one; clients of all kinds."""
    known = credentials("admin", ADMIN, "SASL_SSL") | {"ssl.ca.location": str(cluster.certificate)}
    file, options = tmp_path / "h.jsonl", ("--client-config", properties(tmp_path / "admin", known))
    assert record(cluster.at("BOTH"), *options, "--seconds", 2, "-o", file) == 0
    assert read_history(file).configuration["client"] == sorted(known)
    told = capsys.readouterr()
    for text in (file.read_text(), told.out, told.err):
        assert not [value for value in known.values() if value in text and value != "PLAIN"]
        assert cluster.at("BOTH") not in text
    assert topics_of(cluster) == set()


def test_a_wrong_password_is_one_line(cluster: Secured, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = properties(tmp_path / "wrong", credentials("me", "swordfish-of-nobody"))
    assert record(cluster.at("SASL"), "--client-config", wrong) == 2
    told = one_line(capsys)
    assert "cannot be reached" in told and "Authentication failed" in told


@pytest.mark.parametrize(
    ("listener", "protocol", "why"),
    [
        ("TLS", "SSL", "certificate verify failed"),
        ("TLS", "PLAINTEXT", "its listener wants another security.protocol"),
        ("SASL", "SSL", "SSL handshake failed"),
        ("SASL", "PLAINTEXT", "its listener wants another security.protocol"),
    ],
)
def test_a_wrong_protocol_or_an_unknown_certificate_is_one_line(
    cluster: Secured,
    listener: str,
    protocol: str,
    why: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(topics, "CONNECT_TIMEOUT", 2.0)
    assert record(cluster.at(listener), "--client", f"security.protocol={protocol}") == 2
    told = one_line(capsys)
    assert "cannot be reached" in told and why in told


# ------------------------------------------------------------ who may do what


def test_who_may_not_make_topics_is_told_so(
    cluster: Secured, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = properties(tmp_path / "me", credentials("me", MINE))
    assert record(cluster.at("SASL"), "--client-config", mine, "--prefix", "none") == 2
    assert one_line(capsys) == "hwmark: topic none-0 cannot be made: Authorization failed."


@pytest.mark.parametrize(
    ("missing", "status", "options", "why"),
    [
        (WRITE, 3, PLAIN_ONLY, "Cluster authorization failed"),  # who may write nowhere gets no producer id
        (WRITE, 3, (*PLAIN_ONLY, "--no-idempotence"), "producer 0: Broker: Topic authorization failed"),
        (READ, 3, PLAIN_ONLY, "a consumer: Fetch from broker 1 failed: Broker: Topic authorization failed"),
        (GROUP, 3, ("--transformers", "0"), "Group authorization failed"),
        (ID, 2, (), "-transactional-0: no transactions: "),
    ],
)
def test_a_right_that_is_missing_ends_the_recording_and_what_was_recorded_is_judged(
    cluster: Secured,
    missing: object,
    status: int,
    options: tuple[str, ...],
    why: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    prefix = f"no-{missing}".replace("AclOperation.", "").replace("ResourceType.", "")
    rights = {CREATE: TOPIC, READ: TOPIC, WRITE: TOPIC}
    for operation, kind in rights.items():
        if operation != missing:
            cluster.allow(prefix, kind, operation)
    for kind in {GROUP, ID} - {missing}:
        cluster.allow(prefix, kind, ALL)
    file, mine = tmp_path / "h.jsonl", properties(tmp_path / "me", credentials("me", MINE))
    more = (*options, "--prefix", prefix, "--producers", 1, "--seconds", 300, "-o", file)
    assert record(cluster.at("SASL"), "--client-config", mine, *more) == status
    told = capsys.readouterr().err
    assert file.exists() == (status == 3)
    if file.exists():
        assert f"{file}: " in told and read_history(file).operations.completed_at.max() < 300e9
    left = topics_of(cluster)
    for name in left:
        cluster.delete(name)
    assert sum(why in line for line in told.splitlines()) == 1 and "Traceback" not in told
    assert left and all(f"{name} (TOPIC_AUTHORIZATION_FAILED)" in told for name in left), told


# ------------------------------------------------------------ topics, seeds, interrupts


def test_its_topics_are_its_own_and_go_again(
    cluster: Secured, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same seed asks for the same: each client's operations are the same ones, as far as both runs got."""
    common = ("--seconds", 1.5, "--seed", 9, "--prefix", "mine", "--transformers", 0, "--subscribers", 0)
    files = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    assert answer(capsys, cluster.bootstrap_servers, *common, "-o", files[0])[0] == 0
    assert topics_of(cluster) == set()
    assert answer(capsys, cluster.bootstrap_servers, *common, "-o", files[1], "--keep-topics")[0] == 0
    assert topics_of(cluster) == {"mine-0"}
    for one, other in zip(*map(asked, files), strict=True):
        both = min(len(one), len(other))
        assert both > 5 and one[:both] == other[:both]
    assert record(cluster.bootstrap_servers, "--prefix", "mine") == 2
    assert "topic mine-0 exists" in one_line(capsys)
    cluster.delete("mine-0")


def asked(file: Path) -> list[list[Any]]:
    """What each of three clients asked for."""
    clients: list[list[Any]] = [[], [], []]
    for told in map(json.loads, file.read_text().splitlines()):
        if told["type"] == "invoke" and told["f"] in ("send", "txn"):
            clients[told["value"][0][2] % 3].append((told["value"], told.get("abort")))
    return clients


def test_a_wrong_setting_of_a_topic_is_one_line_and_leaves_no_topic(
    cluster: Secured, capsys: pytest.CaptureFixture[str]
) -> None:
    assert record(cluster.bootstrap_servers, "--topic-config", "no.such=1", "--prefix", "q") == 2
    assert "topic q-0 cannot be made" in one_line(capsys)
    assert record(cluster.bootstrap_servers, "--replicas", "9", "--prefix", "q") == 2
    assert "topic q-0 cannot be made" in one_line(capsys)
    assert topics_of(cluster) == set()


def test_producers_that_meet_a_fatal_error_are_replaced(
    cluster: Secured, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A refused record leaves a gap that an idempotent producer cannot go over, again and again, to the very end.

    Who took the history's lock while the client had an exception pending would never have given it back.
    """
    file, options = tmp_path / "h.jsonl", ("--topic-config", "max.message.bytes=60", *PLAIN_ONLY)
    status, told = answer(capsys, cluster.bootstrap_servers, *options, "--seconds", 2, "-o", file)
    assert (status, told["valid"], told["problem"]) == (0, True, None)
    ended = Counter((r["f"], r["type"], r.get("error")) for r in map(json.loads, file.read_text().splitlines()))
    assert ended["send", "fail", "MSG_SIZE_TOO_LARGE"] > 2 < ended["crash", "info", "_GAPLESS_GUARANTEE"]
    assert ended["send", "ok", None] == 0


def test_an_interrupt_ends_the_workload_and_still_reads_everything(cluster: Secured, tmp_path: Path) -> None:
    file = tmp_path / "h.jsonl"
    command = [sys.executable, "-m", "hwmark.checkers.cli", "record", "--bootstrap-servers", cluster.bootstrap_servers]
    command += ["--seconds", "600", "-o", str(file), "--json", "--subscribers", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ)
    while not file.exists() or file.stat().st_size < 20_000:
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate()
    told = json.loads(out)
    assert (process.returncode, told["valid"], told["stopped"]) == (0, True, True)
    assert read_history(file).incomplete is None
    assert topics_of(cluster) == set()
