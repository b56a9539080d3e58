"""Brokers' log directories: which folders are some, whose they are, and which partitions they hold.

A log directory is a folder with meta.properties or with a checkpoint of high watermarks; a broker may have several. A
folder of one partition alone is taken with the checkpoints beside it, as far as there are any.

Left out, and told: partitions on their way out or in (`-delete`, `-future`, `-stray`), and folders with logs whose name
is no partition's. Source: Kafka's `LocalLog`, `LogManager`, `UnifiedLog`.
"""

from __future__ import annotations

import fcntl
import re
import struct
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from hwmark.checkers.audit.checkpoints import (
    CLEAN_SHUTDOWN,
    CLEANER_OFFSETS,
    HIGH_WATERMARKS,
    LOCK,
    LOG_STARTS,
    META_PROPERTIES,
    RECOVERY_POINTS,
    BadFileError,
    Partition,
    read_offsets,
    read_properties,
)
from hwmark.checkers.audit.internal import METADATA_LOG
from hwmark.traces.errors import BadInputError

PARTITION_NAME = re.compile(r"(.+)-(\d{1,10})")
SEGMENT_NAME = re.compile(r"\d{20}\.log(\.swap)?")
CONTROLLER = "controller"
FLOCK = "hhqqi4x"
"""Linux's `struct flock` on 64 bits: type, whence, start, length, process."""


@dataclass(frozen=True)
class LogDirectory:
    """A log directory: whose it is, what its checkpoints say, and where its partitions are.

    Its `broker` is a controller if it has nothing but the cluster's metadata, and none of a broker's checkpoints.
    `clean` is whether the broker was shut down in order, None where nothing can tell. `bad` are the files that cannot
    be understood with the reason, `left_out` the folders that are not audited.
    """

    path: Path
    broker: str
    cluster: str | None
    clean: bool | None
    high_watermarks: dict[Partition, int]
    recovery_points: dict[Partition, int]
    log_starts: dict[Partition, int]
    cleaned: dict[Partition, int]
    partitions: dict[Partition, Path]
    bad: list[tuple[Path, str]] = field(default_factory=list)
    left_out: list[Path] = field(default_factory=list)


def find_log_directories(paths: Iterable[str], *, running: bool = False) -> list[LogDirectory]:
    """The log directories that are given, or lie in the folders that are given.

    With `running` they may belong to a broker that runs. Raises BadInputError.
    """
    found: dict[Path, LogDirectory] = {}
    for name in paths:
        for directory in _in(name):
            resolved = directory.path.resolve()
            if resolved in found and not found[resolved].partitions.keys().isdisjoint(directory.partitions):
                raise BadInputError(str(directory.path), None, "this directory is given twice; expected it once")
            if not running:
                _refuse_held(directory.path)
            found[resolved if resolved not in found else Path(name).resolve()] = directory
    _refuse_mixture(list(found.values()))
    return list(found.values())


def _in(name: str) -> list[LogDirectory]:
    """The log directories at a path or in the folder there."""
    path = Path(name)
    try:
        if not path.is_dir():
            raise BadInputError(name, None, "there is no such folder" if not path.exists() else "this is no folder")
        if _is_log_directory(path):
            return [_read(path, _folders(path))]
        if PARTITION_NAME.fullmatch(path.resolve().name) and _has_segments(path):
            return [_read(path.resolve().parent, [path])]
        inside = [folder for folder in _folders(path) if _is_log_directory(folder)]
        if not inside:
            inside = [folder for outer in _folders(path) for folder in _folders(outer) if _is_log_directory(folder)]
        if not inside and any(map(_has_segments, _folders(path))):
            return [_read(path, _folders(path))]
    except OSError as error:
        raise BadInputError(str(error.filename or name), None, (error.strerror or str(error)).lower()) from None
    if not inside:
        reason = f"no broker's log directory is here; expected a folder with {META_PROPERTIES}, or of a partition"
        raise BadInputError(name, None, reason)
    return [_read(folder, _folders(folder)) for folder in inside]


def _folders(path: Path) -> list[Path]:
    return sorted(child for child in path.iterdir() if child.is_dir())


def _is_log_directory(path: Path) -> bool:
    return (path / META_PROPERTIES).exists() or (path / HIGH_WATERMARKS).exists()


def _has_segments(path: Path) -> bool:
    return any(SEGMENT_NAME.fullmatch(child.name) for child in path.iterdir())


def _read(path: Path, folders: list[Path]) -> LogDirectory:
    """What the files of a log directory say; only these of its folders count."""
    bad: list[tuple[Path, str]] = []

    def offsets(name: str) -> dict[Partition, int]:
        try:
            return read_offsets(path / name)
        except BadFileError as error:
            bad.append((path / name, str(error)))
            return {}

    properties: dict[str, str] = {}
    has_properties = (path / META_PROPERTIES).exists()
    try:
        properties = read_properties(path / META_PROPERTIES) if has_properties else {}
    except BadFileError as error:
        bad.append((path / META_PROPERTIES, str(error)))
    partitions, left_out = {}, []
    for folder in folders:
        named = PARTITION_NAME.fullmatch(folder.resolve().name)
        if named:
            partitions[named[1], int(named[2])] = folder
        elif _has_segments(folder):
            left_out.append(folder)
    identity, role = properties.get("node.id", properties.get("broker.id")), "broker"
    if {topic for topic, _ in partitions} == {METADATA_LOG} and not (path / HIGH_WATERMARKS).exists():
        role = CONTROLLER
    return LogDirectory(
        path=path,
        broker=f"{role} {identity}" if identity is not None else f"{role} in {path.name}",
        cluster=properties.get("cluster.id"),
        clean=(path / CLEAN_SHUTDOWN).exists() if has_properties else None,
        high_watermarks=offsets(HIGH_WATERMARKS),
        recovery_points=offsets(RECOVERY_POINTS),
        log_starts=offsets(LOG_STARTS),
        cleaned=offsets(CLEANER_OFFSETS),
        partitions=partitions,
        bad=bad,
        left_out=left_out,
    )


def _refuse_held(path: Path) -> None:
    """Raise BadInputError if a running broker holds the directory's lock."""
    try:
        with (path / LOCK).open("rb") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = _holder(file.fileno())
                by = f" (process {holder})" if holder > 0 else ""
                reason = f"a running broker{by} holds this directory; stop it first, or say --running"
                raise BadInputError(str(path), None, reason) from None
    except FileNotFoundError:
        return
    except OSError as error:
        raise BadInputError(str(path / LOCK), None, (error.strerror or str(error)).lower()) from None


def _holder(descriptor: int) -> int:
    """The process that holds a file's lock, 0 where nobody can tell."""
    if sys.platform != "linux":
        return 0
    asked = struct.pack(FLOCK, fcntl.F_RDLCK, 0, 0, 0, 0)
    return int(struct.unpack(FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))[4])


def _refuse_mixture(directories: list[LogDirectory]) -> None:
    """Raise BadInputError for directories of several clusters, or two copies of one broker's partition."""
    clusters: dict[str, LogDirectory] = {}
    held: dict[tuple[str, Partition], LogDirectory] = {}
    for directory in directories:
        if directory.cluster is not None:
            clusters.setdefault(directory.cluster, directory)
        if len(clusters) > 1:
            (one, first), (other, second) = clusters.items()
            reason = f"this is of cluster {other}, and {first.path} of cluster {one}; expected one cluster"
            raise BadInputError(str(second.path), None, reason)
        for partition in directory.partitions:
            before = held.setdefault((directory.broker, partition), directory)
            if before is not directory:
                name = "-".join(map(str, partition))
                reason = f"{directory.broker} has {name} here and in {before.path}; expected one copy"
                raise BadInputError(str(directory.path), None, reason)
