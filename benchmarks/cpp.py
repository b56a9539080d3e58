"""The hand-written C++ search of the replication family: compile `replication_search.cpp`, run it, read its result.

Compiled with -O2, as C++ usually ships; -O3 -march=native measured 2 % faster, no more. The binary lives in a
temporary directory of this process, so that it always matches the source beside this file.
"""

import functools
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

COMPILERS = ("g++", "clang++", "c++")
FLAGS = ("-std=c++17", "-O2")
SOURCE = Path(__file__).with_name("replication_search.cpp")


class CppRun(NamedTuple):
    """One finished search; depths count the states of a shortest path, None where nothing is violated."""

    distinct: int
    generated: int
    depth: int
    seconds: float
    """Of the search itself, without starting the process."""
    weak_isr_depth: int | None
    strong_isr_depth: int | None


def build() -> Path | None:
    """The compiled search; None, with a word on standard error, where it cannot be compiled."""
    binary, reason = _compile()
    if binary is None:
        print(f"C++ search skipped: {reason}", file=sys.stderr)
    return binary


def search(variant: str, replicas: int, log_size: int, records: int, max_epoch: int, symmetry: bool = False) -> CppRun:
    """Search one variant to the end, on one thread.

    ValueError: unknown variant, or bounds that do not fit (the reason names them). RuntimeError: no binary (`build`),
    or the search ended early (out of memory).
    """
    binary, reason = _compile()
    if binary is None:
        raise RuntimeError(reason)
    bounds = [str(bound) for bound in (replicas, log_size, records, max_epoch)]
    command = [str(binary), variant, *bounds, *(["symmetry"] if symmetry else [])]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 2:
        raise ValueError(done.stderr.strip())
    if done.returncode:
        raise RuntimeError(f"the C++ search ended with status {done.returncode}: {done.stderr.strip()}")
    result = json.loads(done.stdout)
    return CppRun(**{field: result[field] for field in CppRun._fields})


@functools.cache
def _compile() -> tuple[Path | None, str]:
    """The binary, or None and why there is none."""
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        return None, f"no C++ compiler ({', '.join(COMPILERS)}) on the PATH"
    binary = Path(_directory().name) / "replication_search"
    done = subprocess.run([compiler, *FLAGS, "-o", str(binary), str(SOURCE)], capture_output=True, text=True)
    if done.returncode:
        return None, f"{compiler} refuses {SOURCE.name}:\n{done.stderr.strip()}"
    return binary, ""


@functools.cache
def _directory() -> tempfile.TemporaryDirectory[str]:
    """Kept until the process ends, then removed."""
    return tempfile.TemporaryDirectory(prefix="hwmark-benchmarks-")
