"""The page of a history in headless Chromium: does it open, show its witness, and stay small however much it holds?"""

from __future__ import annotations

import base64
import gzip
import html
import json
import re
import shutil
import struct
import subprocess
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hwmark.checkers.cli import main
from hwmark.traces.history import NO_TIME, History, read_history
from hwmark.traces.history_records import parse_lines
from hwmark.traces.timeline_page import FOLDER, SCRIPTS, timeline_page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1500,1200",
    "--virtual-time-budget=60000",
)  # fmt: skip
RECORDED = Path(__file__).parent.parent / "traces" / "recorded"
POWERFAIL = RECORDED / "lossy-k4-powerfail-acksall.jsonl"
ELEMENTS_MAX = 6000

in_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("profile")


@pytest.fixture(scope="module")
def powerfail(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawn(POWERFAIL, tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def hundred_thousand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("large")
    history = folder / "large.jsonl"
    planted = ["--anomaly", "G1a", "poll-skip", "G1c"]
    arguments = ["generate", "history", "--lines", "100000", "--txn", "--processes", "10", "-o", str(history)]
    assert main([*arguments, *planted]) == 0
    return drawn(history, folder)


def drawn(history: Path, folder: Path) -> Path:
    page = folder / f"{history.stem}.html"
    assert main(["draw", str(history), "-o", str(page)]) == 0
    return page


def chromium(profile: Path, *arguments: str) -> str:
    assert CHROMIUM is not None
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout


def opened(page: Path, profile: Path, fragment: str = "") -> str:
    """What the page has made of itself, its data and scripts taken out; a failure of any script fails here."""
    dom = chromium(profile, "--dump-dom", page.as_uri() + (f"#{fragment}" if fragment else ""))
    dom = re.sub(r"<script.*?</script>", "", dom, flags=re.DOTALL)
    error = re.search(r'data-error="([^"]*)"', dom)
    assert error is None, html.unescape(error[1]) if error else ""
    assert 'data-state="ready"' in dom
    assert dom.count("<") / 2 < ELEMENTS_MAX
    return dom


def text_of(dom: str, identity: str) -> str:
    """The text within the element with this id."""
    start = re.search(rf'<(\w+)[^>]*\bid="{identity}"[^>]*>', dom)
    assert start is not None, identity
    depth, at = 1, start.end()
    for tag in re.finditer(rf"<(/?){start[1]}\b[^>]*>", dom[at:]):
        depth += -1 if tag[1] else 1
        if depth == 0:
            return html.unescape(re.sub(r"<[^>]*>", " ", dom[at : at + tag.start()]))
    raise AssertionError(f"{identity} is not closed")


def bars(dom: str) -> dict[int, set[str]]:
    """The bars drawn: the classes of each operation, by index."""
    found = re.findall(r'<a class="(bar[^"]*)" href="[^"]*" data-op="(\d+)"', dom)
    return {int(index): set(classes.split()) for classes, index in found}


def facts_of(page: bytes) -> dict[str, Any]:
    found = re.search(rb'<script type="application/json" id="facts">(.*?)</script>', page, flags=re.DOTALL)
    assert found is not None
    return dict(json.loads(found[1]))


# ---------------------------------------------------------------------------------------------- what it holds


def columns_of(page: bytes) -> dict[str, np.ndarray[Any, Any]]:
    packed = re.search(rb'<script type="text/plain" id="packed">(.*?)</script>', page, flags=re.DOTALL)
    assert packed is not None
    raw = gzip.decompress(base64.b64decode(packed[1]))
    return {
        name: np.frombuffer(raw, f"<{kind}", length, place) for name, kind, place, length in facts_of(page)["columns"]
    }


def page_of(history: History) -> bytes:
    return timeline_page(
        history, {"anomalies": {}, "valid": True, "bad_error_types": [], "error_types": [], "acknowledged": {}}
    )


@pytest.mark.parametrize("path", sorted(RECORDED.glob("*.jsonl")), ids=lambda path: path.stem)
def test_the_page_holds_the_whole_recording(path: Path) -> None:
    history = read_history(path)
    columns = columns_of(page_of(history))
    operations, micro = history.operations, history.micro
    for name, column in (
        ("index", operations.index),
        ("process", operations.process),
        ("completedAt", operations.completed_at),
    ):
        assert columns[name].tolist() == column.tolist()
    for name, column in (
        ("key", micro.key),
        ("value", micro.value),
        ("offset", micro.offset),
        ("isSend", micro.is_send),
    ):
        assert columns[name].astype(np.int64).tolist() == column.tolist()
    lengths = np.diff(columns["message"]).tolist()
    assert lengths == np.bincount(micro.operation, minlength=len(operations)).tolist()
    assert columns["completed"].min() == (
        -1 if (operations.completed_at == NO_TIME).any() else columns["completed"].min()
    )


def test_numbers_too_large_for_a_double_stay_exact() -> None:
    large = 2**53 + 1
    records: list[dict[str, Any]] = [
        {"process": 0, "type": "invoke", "f": "send", "value": [["send", 0, large]], "time": 0},
        {"process": 0, "type": "ok", "f": "send", "value": [["send", 0, [large + 2, large]]], "time": 1},
    ]
    columns = columns_of(page_of(parse_lines([json.dumps(r).encode() + b"\n" for r in records], "large.jsonl")))
    assert (columns["value"].tolist(), columns["offset"].tolist()) == ([large], [large + 2])


@in_browser
def test_the_largest_numbers_are_shown_exactly(tmp_path: Path, profile: Path) -> None:
    large, late = 2**62 + 1, 1_700_000_000_000_000_000
    records: list[dict[str, Any]] = [
        {"process": large, "type": "invoke", "f": "send", "value": [["send", large, large]], "time": late},
        {"process": large, "type": "fail", "f": "send", "value": [["send", large, large]], "time": late + 1000},
        {"process": 1, "type": "invoke", "f": "poll", "value": [["poll"]], "time": late + 2000},
        {
            "process": 1,
            "type": "ok",
            "f": "poll",
            "value": [["poll", {str(large): [[large, large]]}]],
            "time": late + 3000,
        },
    ]
    history = tmp_path / "large.jsonl"
    history.write_text("".join(json.dumps(record) + "\n" for record in records))
    page = drawn(history, tmp_path)
    for axis in ("order", "time"):
        dom = opened(page, profile, f"anomaly=G1a/0&axis={axis}")
        assert sum("witness" in classes for classes in bars(dom).values()) == 2
        assert f"{large} {large} process {large} (#1) read, though its send failed" in " ".join(
            text_of(dom, "log").split()
        )
        assert f"A sent {large} to k{large}, which B read" in text_of(dom, "relations")


def test_the_page_is_complete_and_the_same_again(powerfail: Path, tmp_path: Path) -> None:
    page = powerfail.read_bytes()
    assert drawn(POWERFAIL, tmp_path).read_bytes() == page
    assert page.startswith(b"<!DOCTYPE html>") and not re.search(rb"<!--[a-z]+-->", page)
    assert not re.search(
        rb"https?://(?!www\.w3\.org/(?:2000/svg|1999/xlink))|<link|\bimport\b|\bfetch\(|<script[^>]*\ssrc", page
    )
    assert {path.stem for path in FOLDER.glob("*.js")} == set(SCRIPTS)


def test_texts_of_a_history_cannot_break_out_of_the_page(tmp_path: Path) -> None:
    evil = "</script><script>document.title='broken'</script><!--"
    records = [
        {"process": evil, "type": "info", "f": evil, "value": evil, "time": 0},
        {"process": 0, "type": "invoke", "f": "send", "value": [["send", evil, evil]], "time": 1},
        {"process": 0, "type": "fail", "f": "send", "value": [["send", evil, evil]], "error": evil, "time": 2},
        {"process": 1, "type": "invoke", "f": "poll", "value": [["poll"]], "time": 3},
        {"process": 1, "type": "ok", "f": "poll", "value": [["poll", {evil: [[0, evil]]}]], "time": 4},
    ]
    history = tmp_path / "<b>&.jsonl"
    history.write_text("".join(json.dumps(record) + "\n" for record in records))
    page = drawn(history, tmp_path).read_bytes()
    assert page.count(b"</script>") == 3 and evil.encode() not in page
    assert facts_of(page)["keys"] == [evil]


# ---------------------------------------------------------------------------------------------- what it shows


@in_browser
def test_it_opens_at_the_first_anomaly(powerfail: Path, profile: Path) -> None:
    dom = opened(powerfail, profile)
    first = facts_of(powerfail.read_bytes())["anomalies"][0]
    assert first["instances"][0]["sentence"] in text_of(dom, "sentence")
    shown = bars(dom)
    assert {index for index, classes in shown.items() if "witness" in classes} == set(
        first["instances"][0]["operations"]
    )
    assert len(shown) > 10
    assert "missing at the end" in dom  # the story of the loss
    assert re.search(r'<tr class="wrong concerned"><td>44</td><td>97</td>', dom)
    assert "brokers 1, 2, 3 killed" in text_of(dom, "faults")
    assert "acknowledged" in text_of(dom, "record") and "line 237" in text_of(dom, "record")


@in_browser
def test_what_lies_between_a_witness_s_operations_is_cut(powerfail: Path, profile: Path) -> None:
    dom = opened(powerfail, profile)
    place = r'<rect[^>]*\bx="([\d.]+)" y="[\d.]+" width="([\d.]+)"'
    (cut,) = re.findall(place.replace("<rect", '<rect class="cut"'), dom)
    assert float(cut[1]) < 100  # of more than a thousand
    positions = re.findall(rf'data-op="(\d+)".*?{place}', dom)
    left = {int(index): float(x) for index, x, _ in positions}
    assert left[236] < float(cut[0]) < float(cut[0]) + float(cut[1]) <= left[661] < left[663]
    assert re.search(r">\d+ more<", dom) and "click to open the cut" in dom


@in_browser
@pytest.mark.parametrize("axis", ["order", "time"])
def test_each_type_of_anomaly_is_found_by_its_address(powerfail: Path, profile: Path, axis: str) -> None:
    kinds = facts_of(powerfail.read_bytes())["anomalies"]
    for kind in kinds if axis == "order" else kinds[:2]:
        number = len(kind["instances"]) - 1
        dom = opened(powerfail, profile, f"anomaly={kind['name']}/{number}&axis={axis}")
        assert f"{kind['name']} ({number + 1:,} of {kind['count']:,})" in text_of(dom, "sentence")
        witness = {index for index, classes in bars(dom).items() if "witness" in classes}
        assert witness == set(kind["instances"][number]["operations"])
        assert text_of(dom, "anomalies").count(kind["instances"][0]["sentence"][:30]) >= 1
        current = re.findall(r'<a href="([^"]*)" aria-current="true"', dom)
        assert current in ([f"#anomaly={kind['name']}/{number}"], [])  # further ones are listed on demand


@in_browser
def test_an_operation_is_found_by_its_index_and_its_values_by_search(powerfail: Path, profile: Path) -> None:
    dom = opened(powerfail, profile, "op=234&q=90")
    assert bars(dom)[234] >= {"fail", "chosen"}
    record = text_of(dom, "record")
    assert "txn of process 4" in record and "failed" in record and "sent k0 90 unknown" in " ".join(record.split())
    found = " ".join(text_of(dom, "results").split())
    assert "value 90 of k0, sent by process 4 (#234)" in found
    assert "value 90 of k0 at offset 41 read by process 7 (#570)" in found
    missing = opened(powerfail, profile, "op=999999&q=nothing-like-it")
    assert "No operation has the index 999999" in text_of(missing, "sentence")
    assert "No value and no operation is nothing-like-it" in text_of(missing, "results")


@in_browser
def test_the_log_is_found_by_its_offset(powerfail: Path, profile: Path) -> None:
    log = " ".join(text_of(opened(powerfail, profile, "key=0&offset=41"), "log").split())
    assert "41 90 process 4 (#234) read, though its send failed" in log
    assert "48 108 process 1 (#242) contested, not in the closing read" in log
    assert "43 98 process 0 (#222) acknowledged" in log


@in_browser
def test_a_valid_recording_opens_where_something_happened(tmp_path: Path, profile: Path) -> None:
    page = drawn(RECORDED / "valid-k4-shorttimeout.jsonl", tmp_path)
    dom = opened(page, profile)
    assert "None of the anomalies looked for was found." in text_of(dom, "sentence")
    assert len(bars(dom)) > 5 and "broker 1 cut off" in text_of(dom, "faults")


@in_browser
def test_a_hundred_thousand_lines_stay_usable(hundred_thousand: Path, profile: Path) -> None:
    assert hundred_thousand.stat().st_size < 10_000_000
    facts = facts_of(hundred_thousand.read_bytes())
    kinds = {kind["name"]: kind["instances"][0]["operations"] for kind in facts["anomalies"]}
    assert {"G1a", "poll-skip", "G1c"} <= set(kinds)
    for name in ("G1a", "G1c"):
        shown = bars(opened(hundred_thousand, profile, f"anomaly={name}/0"))
        assert {index for index, classes in shown.items() if "witness" in classes} == set(kinds[name])
        assert 5 < len(shown) <= 500
    dom = opened(hundred_thousand, profile, "view=all&axis=time")
    assert "too many for a bar each" in text_of(dom, "view")
    assert len(bars(dom)) < 30 and re.search(r'<path class="ok" d="M', dom)


@in_browser
def test_it_is_drawn_in_light_and_in_dark(powerfail: Path, profile: Path, tmp_path: Path) -> None:
    light, dark = tmp_path / "light.png", tmp_path / "dark.png"
    chromium(profile, f"--screenshot={light}", powerfail.as_uri())
    chromium(profile, f"--screenshot={dark}", "--blink-settings=preferredColorScheme=0", powerfail.as_uri())
    assert brightness(light.read_bytes()) > 200 and brightness(dark.read_bytes()) < 80


def brightness(png: bytes) -> float:
    """How bright a screenshot's first pixel is, from 0 to 255: every filter of rows leaves that one as it is."""
    at, data = 8, b""
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        data += png[at + 8 : at + 8 + length] if png[at + 4 : at + 8] == b"IDAT" else b""
        at += 12 + length
    return sum(zlib.decompress(data)[1:4]) / 3


@in_browser
def test_a_page_opens_where_it_was_drawn_around(profile: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    for around, said in (("G1a/2", "G1a (3 of 3)"), ("G1a", "G1a (1 of 3)"), ("234", "Operation 234")):
        assert main(["draw", str(POWERFAIL), "-o", str(page), "--around", around]) == 0
        assert said in text_of(opened(page, profile), "sentence")
    assert main(["draw", str(POWERFAIL), "-o", str(page), "--around", "G1a/3"]) == 2


READER = """<script>
const wait = () => new Promise((done) => setTimeout(done, 50));
const note = (name, value) => { document.body.dataset[name] = value; };
const inView = () => document.querySelectorAll("a.bar").length;
const press = (key) => document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
const chosenOne = () => document.querySelector("a.bar.chosen").dataset.op;
(async () => {
  while (document.documentElement.dataset.state !== "ready") await wait();
  note("opened", inView());
  document.querySelector("[data-do=in]").click();
  note("closer", inView());
  press("-");
  note("again", inView());
  document.querySelector("rect.cut").dispatchEvent(new MouseEvent("click", { bubbles: true }));
  note("cuts", document.querySelectorAll("rect.cut").length);
  press("0");
  note("all", inView());
  press("n");
  await wait();
  note("next", document.getElementById("sentence").textContent);
  press(".");
  await wait();
  note("later", chosenOne());
  press(",");
  await wait();
  note("earlier", chosenOne());
  document.getElementById("search").q.value = "90";
  document.getElementById("search").requestSubmit();
  note("found", document.querySelectorAll("#results li").length);
  document.querySelector("#results a[href='#op=234']").click();
  await wait();
  note("record", document.getElementById("record").textContent);
})().catch((error) => note("broken", error));
</script></body>"""


@in_browser
def test_buttons_keys_and_clicks_do_what_they_say(powerfail: Path, profile: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(powerfail.read_text().replace("</body>", READER))
    dom = opened(page, profile)
    body = re.search(r"<body([^>]*)>", dom)
    assert body is not None
    noted = {name: html.unescape(value) for name, value in re.findall(r'data-([a-z]+)="([^"]*)"', body[1])}
    assert "broken" not in noted, noted
    assert int(noted["closer"]) < int(noted["opened"]) <= int(noted["again"]) < int(noted["all"]) == 331
    assert noted["cuts"] == "0"
    instances = facts_of(powerfail.read_bytes())["anomalies"][0]["instances"]
    assert instances[1]["sentence"] in noted["next"]
    first = instances[1]["operations"][0]
    history = read_history(POWERFAIL)
    index, process = history.operations.index.tolist(), history.operations.process.tolist()
    following = next(i for i, p in zip(index, process, strict=True) if i > first and p == process[index.index(first)])
    assert (noted["later"], noted["earlier"]) == (str(following), str(first))
    assert int(noted["found"]) > 3 and "txn of process 4" in noted["record"]
