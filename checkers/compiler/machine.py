"""Machine code from LLVM's text, kept in a cache, so that a later process need not compile the same model again.

The cache is `hwmark` in the user's cache folder (`XDG_CACHE_HOME`, or `~/.cache`). What cannot be kept there, or was
damaged there, is compiled anew; nothing depends on it.
"""

from __future__ import annotations

import functools
import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm

KEPT_MAX = 2000
"""Files that the cache may have; beyond, the older half is dropped."""

DIGEST_BYTES = 32


def target() -> Any:
    """A target machine for this processor; each execution engine takes over one of its own."""
    _initialize()
    features = llvm.get_host_cpu_features().flatten()
    triple = llvm.Target.from_default_triple()
    return triple.create_target_machine(cpu=llvm.get_host_cpu_name(), features=features, opt=3, jit=True)


@functools.cache
def _initialize() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


def machine_code(text: str) -> Any:
    """An execution engine with the functions of a module; it owns the memory of their code."""
    file = _folder() / f"{_key(text)}.o"
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target())
    engine.add_object_file(llvm.ObjectFileRef.from_data(_read(file) or _keep(file, _compile(text))))
    engine.finalize_object()
    return engine


def _compile(text: str) -> bytes:
    """The object file of a module."""
    module, machine = llvm.parse_assembly(text), target()
    module.verify()
    tuning = llvm.create_pipeline_tuning_options(speed_level=3)
    builder = llvm.create_pass_builder(machine, tuning)
    builder.getModulePassManager().run(module, builder)
    compiled: bytes = machine.emit_object(module)
    return compiled


def _key(text: str) -> str:
    """What the object file depends on."""
    machine = (llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten(), str(llvm.llvm_version_info))
    return hashlib.sha256("\n".join((*machine, text)).encode()).hexdigest()


def _folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hwmark"


def _read(file: Path) -> bytes | None:
    """The content of a cache file, which begins with its digest; None where there is none that is whole."""
    try:
        kept = file.read_bytes()
    except OSError:
        return None
    digest, content = kept[:DIGEST_BYTES], kept[DIGEST_BYTES:]
    return content if digest == hashlib.sha256(content).digest() else None


def _keep(file: Path, content: bytes) -> bytes:
    """Put the content into the cache if that can be done, whole or not at all; returns it."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as new:
            new.write(hashlib.sha256(content).digest() + content)
        Path(new.name).replace(file)
        _drop_old(file.parent)
    except OSError:
        pass
    return content


def _drop_old(folder: Path) -> None:
    kept = list(folder.iterdir())
    if len(kept) > KEPT_MAX:
        for file in sorted(kept, key=lambda each: each.stat().st_mtime)[: KEPT_MAX // 2]:
            file.unlink(missing_ok=True)
