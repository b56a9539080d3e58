"""Compiled models are kept for later processes, and a cache that cannot be used changes nothing but the time."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest
from hwmark.checkers.compiler import machine
from hwmark.checkers.explore import explore
from hwmark.spec.two_phase_commit import two_phase_commit


def count() -> int:
    return explore(two_phase_commit.at(resource_managers=3)).distinct


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "hwmark"


def test_a_model_is_compiled_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert count() == 288
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setattr(machine, "_compile", lambda text: pytest.fail("compiled again"))
    assert count() == 288


@pytest.mark.parametrize("damage", [b"", b"no machine code", None])
def test_a_damaged_file_is_compiled_anew(cache: Path, damage: bytes | None) -> None:
    count()
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] if damage is None else damage)
    assert count() == 288
    assert file.read_bytes() == whole


@pytest.mark.parametrize("long", [1, 200])
def test_modules_that_differ_only_at_their_end_are_kept_apart(cache: Path, long: int) -> None:
    before = "".join(f'define i64 @"f{number}"(i64 %x) {{ ret i64 %x }}\n' for number in range(long))
    for answer in (1, 2):
        engine = machine.machine_code(before + f'define i64 @"answer"() {{ ret i64 {answer} }}')
        assert ctypes.CFUNCTYPE(ctypes.c_int64)(engine.get_function_address("answer"))() == answer
    assert len(list(cache.iterdir())) == 2


def test_without_a_place_to_keep_it_a_model_is_compiled_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert count() == 288


def test_a_full_cache_drops_what_is_old(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "KEPT_MAX", 4)
    for managers in range(1, 8):
        explore(two_phase_commit.at(resource_managers=managers))
        assert len(list(cache.iterdir())) <= 4
