"""A picture as a page is opened in headless Chromium, where that is installed, and looked at."""

from __future__ import annotations

import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import pytest
from hwmark.checkers.cli import main

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1500,1700",
)  # fmt: skip
KNOWN = Path(__file__).parent.parent / "traces" / "known"
RECORDED = Path(__file__).parent.parent / "traces" / "recorded"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


def chromium(profile: Path, *arguments: str) -> str:
    assert CHROMIUM is not None
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def colours(png: bytes) -> set[bytes]:
    """The pixels of a screenshot, each once: 8-bit RGB or RGBA, as the filters leave a row's first ones."""
    at, data, channels = 8, b"", 3
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        kind, body = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        channels = {2: 3, 6: 4}[body[9]] if kind == b"IHDR" else channels
        data += body if kind == b"IDAT" else b""
        at += 12 + length
    raw = zlib.decompress(data)
    return {raw[index : index + channels] for index in range(1, len(raw) - channels, channels)}


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (KNOWN / "replication-kip-101.ndjson", "strong-isr fails"),
        (RECORDED / "lossy-k4-ack1-part.jsonl", "missing at the end"),
    ],
    ids=["trace", "history"],
)
def test_a_page_shows_its_picture(source: Path, said: str, tmp_path: Path) -> None:
    page, shot = tmp_path / "page.html", tmp_path / "shot.png"
    assert main(["draw", str(source), "-o", str(page)]) == 0
    assert said in chromium(tmp_path / "profile", "--dump-dom", page.as_uri())
    chromium(tmp_path / "profile", f"--screenshot={shot}", page.as_uri())
    assert len(colours(shot.read_bytes())) > 20  # a blank page has one or two
