"""Kafka's jars: of an existing distribution, or resolved by Maven from Maven Central once and cached.

With them is cached what makes brokers start fast: the files that formatting a log directory leaves, one set for each
choice of features, and an archive of the loaded classes (AppCDS), which the JVM maps instead of loading them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from hwmark.checkers.cluster.errors import ClusterError
from hwmark.checkers.cluster.java import Java
from hwmark.checkers.cluster.ports import free_ports
from hwmark.checkers.cluster.strays import MARK

VERSION = re.compile(r"\d+\.\d+\.\d+(-[\w.]+)?")
CORE_JAR = re.compile(rf"kafka_[\d.]+-({VERSION.pattern})\.jar")
OLDEST = (3, 3)  # from which on brokers without ZooKeeper are for production (KIP-833)
SCALA = "2.13"
SLF4J = "1.7.36"
DECORATION = re.compile(r"\x1b\[[\d;]*m| -> \[Help \d+\]")  # of what Maven prints
MAVEN_TIMEOUT = 600.0
FORMAT_TIMEOUT = START_TIMEOUT = 60.0
# Small heaps, one thread for garbage, no optimising compiler: three brokers start within seconds on two cores.
JVM_OPTIONS = (
    "-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Xlog:cds=off",
    "-Xlog:cds+dynamic=off", "-Djava.awt.headless=true", "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS", "-Dorg.slf4j.simpleLogger.defaultLogLevel=info",
)  # fmt: skip

POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>hwmark</groupId><artifactId>cluster</artifactId><version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_{scala}</artifactId><version>{version}</version>
      <exclusions>
        <exclusion><groupId>org.apache.kafka</groupId><artifactId>kafka-tools-api</artifactId></exclusion>
      </exclusions>
    </dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>{slf4j}</version></dependency>
  </dependencies>
</project>
"""


class Distribution(NamedTuple):
    """A version of Kafka: the folder of its jars, and one for what is derived from them."""

    version: str
    libs: Path
    cache: Path

    def command(self, java: Java, main: str, *arguments: str, options: tuple[str, ...] = ()) -> list[str]:
        """How to run a class of Kafka's."""
        return [java.path, *JVM_OPTIONS, *options, "-cp", f"{self.libs}/*", main, *arguments]

    def class_archive(self, java: Java) -> Path:
        """Where the archive of the loaded classes is, if it has been made: it fits one Java and these jars only."""
        return self.cache / f"classes-{_digest(java.path, str(java.release), str(self.libs))}.jsa"


def cache_folder() -> Path:
    """Where jars are kept: $XDG_CACHE_HOME/hwmark/kafka."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hwmark" / "kafka"


def resolve(version: str) -> Distribution:
    """The jars of a version, from the cache or else from Maven Central. ClusterError if neither has them."""
    if not VERSION.fullmatch(version):
        raise ClusterError(f"--version {version}: expected a version of Kafka such as 4.3.1")
    if tuple(map(int, version.split(".")[:2])) < OLDEST:
        raise ClusterError(f"--version {version}: expected 3.3.0 or later: those before need ZooKeeper")
    folder = cache_folder() / version
    if not (folder / "libs").is_dir():
        _download(version, folder)
    return Distribution(version, folder / "libs", folder)


def of_home(home: str | Path) -> Distribution:
    """An existing distribution, as it is unpacked. ClusterError if it is none."""
    libs = Path(home).resolve() / "libs"
    found = [match[1] for jar in sorted(libs.glob("kafka_*.jar")) if (match := CORE_JAR.fullmatch(jar.name))]
    if not found:
        raise ClusterError(f"--kafka-home {home}: there is no libs/kafka_{SCALA}-VERSION.jar in it")
    return Distribution(found[0], libs, cache_folder() / f"{found[0]}-{_digest(str(libs))}")


def formatted(distribution: Distribution, java: Java, features: Mapping[str, int]) -> Path:
    """A folder with what formatting leaves in a log directory besides meta.properties, made by Kafka's own tool once.

    `features` are levels by name, where they are not to be those of the version.
    """
    levels = [f"{name}={level}" for name, level in sorted(features.items())]
    folder = distribution.cache / f"formatted-{_digest(*levels)}"
    if not folder.is_dir():
        distribution.cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=distribution.cache) as scratch:
            _format(distribution, java, levels, Path(scratch))
            _move(Path(scratch, "data"), folder)
    return folder


def archive_classes(distribution: Distribution, java: Java) -> None:
    """Make the archive of loaded classes, once: a node starts, and leaves it when it stops. Without one all works, too.

    Seconds that every later start saves: half of the time that three brokers need.
    """
    archive = distribution.class_archive(java)
    if archive.exists():
        return
    template = formatted(distribution, java, {})
    with tempfile.TemporaryDirectory(dir=distribution.cache) as name:
        scratch = Path(name)
        shutil.copytree(template, scratch / "data")
        (scratch / "data" / "meta.properties").write_text("version=1\nnode.id=1\ncluster.id=A\n")
        settings, (controller, broker) = scratch / "node.properties", free_ports(2)
        settings.write_text(
            f"process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n"
            f"listeners=CONTROLLER://127.0.0.1:{controller},PLAINTEXT://127.0.0.1:{broker}\ncontroller.listener.names=CONTROLLER\n"
            f"listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\nlog.dirs={scratch / 'data'}\n"
        )
        options = (f"{MARK}{scratch}", f"-XX:ArchiveClassesAtExit={scratch / 'classes'}")
        command = distribution.command(java, "kafka.Kafka", str(settings), options=options)
        with (scratch / "output").open("wb") as output:
            process = subprocess.Popen(command, cwd=scratch, stdout=output, stderr=output, start_new_session=True)
            try:
                _await_words(process, scratch / "output", "Kafka Server started", START_TIMEOUT)
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(START_TIMEOUT)
            finally:
                process.kill()
                process.wait()
        if (scratch / "classes").exists():
            (scratch / "classes").replace(archive)


def _await_words(process: subprocess.Popen[bytes], output: Path, words: str, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while process.poll() is None and time.monotonic() < deadline and words not in output.read_text(errors="replace"):
        time.sleep(0.05)


def _format(distribution: Distribution, java: Java, levels: list[str], scratch: Path) -> None:
    settings = scratch / "node.properties"
    settings.write_text(
        "process.roles=controller\nnode.id=1\ncontroller.quorum.voters=1@localhost:1\nlisteners=CONTROLLER://:1\n"
        f"controller.listener.names=CONTROLLER\nlog.dirs={scratch / 'data'}\n"
    )
    arguments = ["format", "-t", "AAAAAAAAAAAAAAAAAAAAAA", "-c", str(settings)]
    for level in levels:
        arguments += ["--feature", level]
    done = _run(distribution.command(java, "kafka.tools.StorageTool", *arguments), FORMAT_TIMEOUT, scratch)
    if done.returncode:
        raise ClusterError(f"Kafka {distribution.version} cannot format a log directory: {_last_line(done)}")
    (scratch / "data" / "meta.properties").unlink()


def _download(version: str, folder: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise ClusterError(
            f"Kafka {version} is not cached, and no mvn is on the PATH to fetch it; install Maven, or give --kafka-home"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        Path(scratch, "pom.xml").write_text(POM.format(scala=SCALA, version=version, slf4j=SLF4J))
        goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory=libs"]
        done = _run([maven, "-q", "-B", "-Dstyle.color=never", *goal], MAVEN_TIMEOUT, Path(scratch))
        if done.returncode or not list(Path(scratch, "libs").glob("kafka_*.jar")):
            raise ClusterError(f"Maven cannot fetch Kafka {version}: {_last_line(done)}")
        folder.mkdir(exist_ok=True)
        _move(Path(scratch, "libs"), folder / "libs")


def _run(command: list[str], timeout: float, folder: Path) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        raise ClusterError(f"{command[0]} has not come to an end within {timeout:.0f} s") from None
    except OSError as error:
        raise ClusterError(f"{command[0]}: {(error.strerror or str(error)).lower()}") from None


def _move(source: Path, target: Path) -> None:
    """Put a finished folder into its place; another process may have been first, which is as good."""
    try:
        source.rename(target)
    except OSError:
        if not target.is_dir():
            raise


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    """The line of the output that says most: the first error, or else the last line."""
    lines = [line.strip() for line in DECORATION.sub("", done.stdout + done.stderr).splitlines() if line.strip()]
    errors = [line for line in lines if "ERROR" in line or "Exception" in line]
    return (errors or lines[-1:] or ["no reason given"])[0].removeprefix("[ERROR] ")


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]
