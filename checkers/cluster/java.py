"""The Java that brokers run on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from hwmark.checkers.cluster.errors import ClusterError

VERSION = re.compile(r'version "(?:1\.)?(\d+)')
TIMEOUT = 30.0


class Java(NamedTuple):
    """An executable, and the feature release that it says it is."""

    path: str
    release: int


def release_needed(kafka: str) -> int:
    """The oldest Java that a version of Kafka's brokers runs on (KIP-1013: 17 from 4.0 on; 11 is in use before)."""
    return 17 if int(kafka.split(".", 1)[0]) >= 4 else 11


def find_java(kafka: str) -> Java:
    """The Java of JAVA_HOME, or else of the PATH. ClusterError if there is none, or one that is too old for Kafka."""
    home, needed = os.environ.get("JAVA_HOME"), release_needed(kafka)
    path = str(Path(home, "bin", "java")) if home else shutil.which("java")
    if path is None:
        raise ClusterError(f"there is no java on the PATH; Kafka {kafka} needs Java {needed} or later")
    try:
        told = subprocess.run([path, "-version"], capture_output=True, text=True, timeout=TIMEOUT, check=True).stderr
    except (OSError, subprocess.SubprocessError) as error:
        where = " (from JAVA_HOME)" if home else ""
        raise ClusterError(f"{path}{where} does not run: {_reason(error)}") from None
    found = VERSION.search(told)
    if found is None:
        said = told.strip().partition("\n")[0] or "nothing"
        raise ClusterError(f"{path} does not say which Java it is, but: {said}")
    java = Java(path, int(found[1]))
    if java.release < needed:
        raise ClusterError(f"{path} is Java {java.release}; Kafka {kafka} needs Java {needed} or later")
    return java


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        return f"exit status {error.returncode}"
    if isinstance(error, subprocess.TimeoutExpired):
        return f"no answer within {error.timeout:.0f} s"
    return ((error.strerror if isinstance(error, OSError) else None) or str(error)).lower()
