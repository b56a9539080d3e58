"""What a cluster runs on: which Java is found, where Kafka's jars come from, and what is said if that is nowhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hwmark.checkers import cli
from hwmark.checkers.cluster.cluster import create
from hwmark.checkers.cluster.distribution import of_home, resolve
from hwmark.checkers.cluster.errors import ClusterError
from hwmark.checkers.cluster.java import find_java

Program = Callable[[str, str], None]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Programs by name, and what they do as lines of a shell; there are no others but the usual ones."""
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()

    def make(name: str, does: str) -> None:
        path = tmp_path / "bin" / name
        path.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{does}\n")
        path.chmod(0o755)

    return make


@pytest.mark.parametrize(
    ("says", "kafka", "release"),
    [
        ('openjdk version "17.0.9" 2023-10-17', "4.3.1", 17),
        ('openjdk version "25" 2025-09-16', "4.3.1", 25),
        ('openjdk version "11.0.2" 2019-01-15', "3.9.2", 11),
    ],
)
def test_a_java_that_fits(program: Program, says: str, kafka: str, release: int) -> None:
    program("java", f"echo '{says}' >&2")
    assert find_java(kafka).release == release


@pytest.mark.parametrize(
    ("does", "kafka", "reason"),
    [
        ("echo 'version \"11.0.2\"' >&2", "4.3.1", "/bin/java is Java 11; Kafka 4.3.1 needs Java 17 or later"),
        ("echo 'version \"1.8.0_292\"' >&2", "3.9.2", "/bin/java is Java 8; Kafka 3.9.2 needs Java 11 or later"),
        ("echo hello >&2", "4.3.1", "/bin/java does not say which Java it is, but: hello"),
        ("true", "4.3.1", "/bin/java does not say which Java it is, but: nothing"),
        ("exit 3", "4.3.1", "/bin/java does not run: exit status 3"),
    ],
)
def test_a_java_that_does_not_fit(program: Program, does: str, kafka: str, reason: str) -> None:
    program("java", does)
    with pytest.raises(ClusterError, match=reason):
        find_java(kafka)


def test_no_java(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ClusterError, match=r"there is no java on the PATH; Kafka 4.3.1 needs Java 17 or later"):
        find_java("4.3.1")
    monkeypatch.setenv("JAVA_HOME", "/nowhere")
    with pytest.raises(ClusterError, match=r"/nowhere/bin/java \(from JAVA_HOME\) does not run: no such file"):
        find_java("4.3.1")


def test_jars_are_fetched_once(program: Program, tmp_path: Path) -> None:
    program(
        "mvn",
        f"echo x >> {tmp_path}/calls; grep -q '<version>4.3.1<' pom.xml && mkdir libs && touch libs/kafka_2.13.jar",
    )
    for _ in range(2):
        found = resolve("4.3.1")
    assert found.libs == tmp_path / "cache" / "hwmark" / "kafka" / "4.3.1" / "libs"
    assert [path.name for path in found.libs.iterdir()] == ["kafka_2.13.jar"]
    assert (tmp_path / "calls").read_text() == "x\n"


@pytest.mark.parametrize(
    ("does", "reason"),
    [
        (
            "printf '\\033[0m[ERROR] Could not find artifact -> [Help 1]\\n[ERROR] more\\n'; exit 1",
            "Could not find artifact",
        ),
        ("exit 1", "no reason given"),
        ("mkdir libs", "no reason given"),
    ],
)
def test_jars_that_cannot_be_fetched(program: Program, tmp_path: Path, does: str, reason: str) -> None:
    program("mvn", does)
    with pytest.raises(ClusterError, match=f"^Maven cannot fetch Kafka 4.3.1: {reason}$"):
        resolve("4.3.1")
    assert list((tmp_path / "cache" / "hwmark" / "kafka").iterdir()) == []


def test_neither_jars_nor_maven(program: Program, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["cluster", "up", "--dir", str(tmp_path / "c")]) == 2
    told = capsys.readouterr().err
    assert told.startswith("hwmark: Kafka 4.3.1 is not cached, and no mvn is on the PATH") and told.count("\n") == 1
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("version", ["4", "x", "../../4.3.1", "2.8.0", "3.2.3"])
def test_versions_that_are_none_or_too_old(version: str) -> None:
    with pytest.raises(ClusterError, match=f"--version {version}: expected"):
        resolve(version)


def test_a_distribution_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "libs").mkdir()
    with pytest.raises(ClusterError, match=rf"--kafka-home {tmp_path}: there is no libs/kafka_"):
        of_home(tmp_path)
    (tmp_path / "libs" / "kafka_2.13-4.3.1.jar").touch()
    assert (of_home(tmp_path).version, of_home(tmp_path).libs) == ("4.3.1", tmp_path / "libs")


@pytest.mark.cluster
def test_a_distribution_of_ones_own_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "libs").symlink_to(resolve("4.3.1").libs)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # nothing has been made for it yet
    with create(tmp_path / "c", of_home(tmp_path / "home"), brokers=1) as cluster:
        cluster.start()
        assert cluster.serve(cluster.brokers)
