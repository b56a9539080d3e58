"""Does the picture show what happened, legibly, whatever the names, with and without an installed Graphviz?"""

from __future__ import annotations

import itertools
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hwmark.checkers.cli import main
from hwmark.traces.canvas import RED, text_width, wrapped
from hwmark.traces.diagram import trace_dot
from hwmark.traces.errors import BadInputError
from hwmark.traces.lane_box import HIGH_WATERMARK, epoch_colour
from hwmark.traces.lanes import Scene
from hwmark.traces.promise import broken_promise
from hwmark.traces.render import render
from hwmark.traces.rows import SHARED, Arrow, arrows_of, rows_of
from hwmark.traces.trace import Lanes, Step, Trace, read_trace, step_between, write_trace
from hwmark.traces.words import action_words
from hypothesis import given
from hypothesis import strategies as st

DATA = Path(__file__).parent / "data"
TWO_REPLICAS = DATA / "truncate-to-hw-two-replicas.ndjson"
THREE_REPLICAS = DATA / "kip-320-first-try-three-replicas.ndjson"
KNOWN = sorted((Path(__file__).parents[1] / "traces" / "known").glob("replication-*.ndjson"))
RENDERERS = ["in-process", pytest.param("dot", marks=pytest.mark.skipif(not shutil.which("dot"), reason="no dot"))]
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(params=RENDERERS)
def renderer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Draws with this renderer alone."""
    found = {"dot": shutil.which("dot")} if request.param == "dot" else {}
    monkeypatch.setattr(shutil, "which", found.get)
    return str(request.param)


def texts(svg: bytes) -> list[str]:
    return [(node.text or "").replace("\xa0", " ") for node in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def commit_trace() -> Trace:
    """Two resource managers: no logs, no leader, an enum per lane and two shared fields."""
    first = {"votes": ["WORKING", "WORKING"], "decision": "PENDING", "prepared": []}
    second = {"votes": ["PREPARED", "WORKING"], "decision": "PENDING", "prepared": [0]}
    third = {"votes": ["PREPARED", "WORKING"], "decision": "COMMIT", "prepared": [0]}
    steps = (
        step_between(first, second, "resource_manager_prepare", {"rm": 0}),
        step_between(second, third, "manager_commit", {}),
    )
    return Trace(
        model="two-phase-commit",
        variant=None,
        bounds={"resource_managers": 2},
        initial=first,
        steps=steps,
        property="agreement",
        witness={"one": 0, "other": 1},
        lanes=Lanes("resource manager", 2, ("votes",), ("one", "other", "rm")),
    )


# ---------------------------------------------------------------------------------------------- words


LANES = Lanes("replica", 3, (), ("leader", "follower", "replica", "client_id"))


@pytest.mark.parametrize(
    ("action", "arguments", "words"),
    [
        ("leader_write", {"leader": 0}, "leader r0 writes"),
        ("leader_expand_isr", {"leader": 0, "follower": 1}, "leader r0 expands ISR (follower r1)"),
        ("controller_elect_leader", {"leader": 2}, "controller elects leader r2"),
        ("replica_become_follower", {"replica": 1, "epoch": 1}, "replica r1 becomes follower (epoch 1)"),
        ("follower_fetch_from_leader", {"follower": 2, "leader": 0}, "follower r2 fetches from leader r0"),
        ("client_reply", {"client_id": 1, "index": 1}, "client r1 replies (index 1)"),
        ("replica_crash", {"which": 1}, "replica crashes (which 1)"),
        ("stutter", {}, "stutter"),
    ],
)
def test_an_action_reads_as_a_sentence(action: str, arguments: dict[str, int], words: str) -> None:
    assert action_words(Step(action, dict(arguments), {}), LANES) == words


def test_the_kind_of_a_lane_is_an_actor() -> None:
    lanes = Lanes("resource manager", 3, (), None)
    step = Step("resource_manager_prepare", {"rm": 2}, {})
    assert action_words(step, lanes) == "resource manager rm2 prepares"


def test_rows_tell_what_was_written_and_dropped() -> None:
    words = [row.words for row in rows_of(Scene.of(read_trace(THREE_REPLICAS)))]
    assert words == [
        "initially",
        "controller elects leader r0",
        "controller elects leader r1",
        "controller elects leader r0",
        "replica r1 becomes leader (epoch 1)",
        "replica r0 becomes leader (epoch 2)",
        "leader r0 writes record 0 of epoch 2",
        "leader r0 shrinks ISR (follower r1)",
        "replica r2 becomes follower (epoch 0)",
        "follower r2 replicates record 0 of epoch 2 (leader r0)",
        "leader r0 increments high watermark",
        "replica r2 becomes follower (epoch 1)",
        "follower r2 truncates (leader r1), dropping record 0 of epoch 2",
    ]


def test_the_caption_says_which_promise_broke_and_where() -> None:
    broken = broken_promise(read_trace(TWO_REPLICAS))
    assert broken is not None
    assert broken.sentence == (
        "strong-isr fails: r0 has record 0 of epoch 1 at offset 0 below its high watermark 1, "
        "r1 (in the ISR) has nothing there"
    )
    assert (broken.lanes, broken.offset) == ((0, 1), 0)
    generic = broken_promise(commit_trace())
    assert generic is not None and generic.sentence == "agreement fails for one rm0, other rm1"
    assert broken_promise(replace(commit_trace(), property=None)) is None


# ---------------------------------------------------------------------------------------------- rows and arrows


def test_a_row_shows_the_lanes_that_changed_and_the_last_row_all() -> None:
    rows = rows_of(Scene.of(read_trace(TWO_REPLICAS)))
    assert [sorted(row.views) for row in rows] == [[0, 1], [], [], [0], [0], [1], [0], [1], [0], [0, 1]]
    assert [sorted(row.changed) for row in rows[1:]] == [[], [], [0], [0], [1], [0], [1], [0], [1]]
    assert rows[2].shared == ("leader r0, epoch 1", "ISR {r0}")


def test_arrows_lead_from_a_request_to_who_takes_it_and_from_who_was_read() -> None:
    scene = Scene.of(read_trace(TWO_REPLICAS))
    assert arrows_of(scene, rows_of(scene)) == [
        Arrow(2, SHARED, 3, 0),
        Arrow(1, SHARED, 5, 1),
        Arrow(6, 1, 6, 0),
        Arrow(6, 0, 6, SHARED),
        Arrow(7, 0, 7, 1),
        Arrow(2, SHARED, 9, 1),
    ]


def test_a_request_like_an_earlier_one_is_told_apart_by_its_epoch() -> None:
    scene = Scene.of(read_trace(THREE_REPLICAS))
    assert scene.states[3]["requests"][0] == scene.states[3]["requests"][2]  # type: ignore[index,call-overload]
    arrows = {
        (arrow.from_row, arrow.to_row) for arrow in arrows_of(scene, rows_of(scene)) if arrow.from_column == SHARED
    }
    assert arrows == {(2, 4), (3, 5), (1, 8), (2, 11)}


def test_a_lane_with_many_fields_shows_those_that_changed() -> None:
    first = {"clients": [dict.fromkeys("abcdef", 0)], "box": []}
    second = {"clients": [dict.fromkeys("abcdef", 0) | {"c": 7}], "box": [{"to": 0}]}
    third = {"clients": second["clients"], "box": []}
    steps = (step_between(first, second, "client_go", {}), step_between(second, third, "client_stop", {}))
    rows = rows_of(Scene.of(commit_like(first, steps)))
    assert [row.views[0].others for row in (rows[0], rows[1])] == [{}, {"c": 7}]
    assert [row.shared for row in rows[1:]] == [("+ box: {to: 0}",), ("- box: {to: 0}",)]


def commit_like(initial: dict[str, object], steps: tuple[Step, ...]) -> Trace:
    lanes = Lanes("client", 1, ("clients",), ())
    return Trace(model="m", variant=None, bounds={}, initial=initial, steps=steps, lanes=lanes)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------- the picture


@pytest.mark.parametrize("path", [TWO_REPLICAS, THREE_REPLICAS], ids=lambda path: path.stem)
def test_the_picture_holds_every_row_lane_and_the_caption(path: Path, renderer: str) -> None:
    trace = read_trace(path)
    drawn = " ".join(texts(render(trace_dot(trace), "svg")))
    broken = broken_promise(trace)
    assert broken is not None
    for sentence in [*(row.words for row in rows_of(Scene.of(trace))), broken.sentence, "controller", "replica r1"]:
        assert sentence in drawn
    assert drawn.count("HW 1") == 2 and "none" in drawn


def test_what_broke_is_red_in_the_last_row_alone() -> None:
    dot = trace_dot(read_trace(TWO_REPLICAS))
    red = [line for line in dot.splitlines() if f'color="{RED}"' in line and "penwidth=2.5" in line]
    _legend, kept, missing = red
    assert "solid" in kept and epoch_colour(1) in kept
    assert "dashed" in missing and "fillcolor=none" in missing
    sound = trace_dot(replace(read_trace(TWO_REPLICAS), property=None, witness=None))
    assert RED not in sound


def test_lanes_that_a_property_names_are_red_where_there_is_no_offset() -> None:
    dot = trace_dot(commit_trace())
    assert sum(f'color="{RED}"' in line and "penwidth=2 " in line for line in dot.splitlines()) == 2


def test_records_are_coloured_by_epoch() -> None:
    assert len({epoch_colour(epoch) for epoch in range(8)}) == 8
    trace = read_trace(THREE_REPLICAS)
    dot = trace_dot(trace)
    assert epoch_colour(2) in dot and epoch_colour(1) not in dot
    assert "record of epoch 2" in dot


@pytest.mark.parametrize("path", [TWO_REPLICAS, THREE_REPLICAS], ids=lambda path: path.stem)
def test_the_picture_is_legible(path: Path) -> None:
    """No text lies over another, none is tiny, and the whole fits a page's width."""
    placed = list(text_places(trace_dot(read_trace(path))))
    assert len(placed) > 60
    for (one, a), (other, b) in itertools.combinations(placed, 2):
        apart = a[0] >= b[2] or b[0] >= a[2] or a[1] >= b[3] or b[1] >= a[3]
        assert apart, f"{one!r} lies over {other!r}"
    widest = max(right for _, (_, _, right, _) in placed)
    assert widest * 96 / 72 < (1120 if path == TWO_REPLICAS else 1410)


def text_places(dot: str) -> Iterator[tuple[str, tuple[float, float, float, float]]]:
    """Every text with its left, top, right and bottom in points, half a point of margin taken off."""
    for line in dot.splitlines():
        if "shape=plaintext" in line:
            attribute = dict(re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|[^\s\]]+)', line))
            x, y = map(float, attribute["pos"].strip('"').split(","))
            width, height = 72 * float(attribute["width"]) - 1, 72 * float(attribute["height"]) - 1
            assert float(attribute["fontsize"]) >= 8.5
            yield attribute["label"], (x - width / 2, -y - height / 2, x + width / 2, -y + height / 2)


HOSTILE = [
    '<b>&amp;"quoted"</b>',
    "<<i>html</i>>",
    "back\\slash\\n\\l",
    "]; evil [",
    "日本語",
    "\x00\x1b",
    "&lt;script&gt;",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_any_name_is_drawn_as_it_is(name: str, renderer: str) -> None:
    trace = commit_trace()
    steps = (trace.steps[0], replace(trace.steps[1], action=name))
    drawn = texts(render(trace_dot(replace(trace, model=name, property=name, steps=steps)), "svg"))
    shown = re.sub(r"[\x00-\x1f]", "\ufffd", name)
    assert f"{shown}: {shown} fails after 2 steps" in drawn
    assert f"{shown} fails for one rm0, other rm1" in drawn
    assert shown in drawn


@given(st.lists(st.text(st.characters(min_codepoint=33, max_codepoint=0x3000), min_size=1, max_size=12), max_size=9))
def test_wrapped_lines_fit_and_lose_no_word(words: list[str]) -> None:
    words = " ".join(words).split()
    lines = wrapped(" ".join(words), 100, 10)
    assert " ".join(lines).split() == words
    assert all(text_width(line, 10) <= 100 or len(line.split()) == 1 for line in lines)
    assert all(text_width(f"{line} {following.split()[0]}", 10) > 100 for line, following in itertools.pairwise(lines))


def test_bold_text_is_wider() -> None:
    assert text_width("high watermark", 10) == pytest.approx(68.35)
    assert text_width("high watermark", 10, bold=True) > text_width("high watermark", 10)


def test_the_high_watermark_stands_right_of_what_is_committed() -> None:
    dot = trace_dot(read_trace(TWO_REPLICAS))
    row = max(y for _, y in places(dot, epoch_colour(1)))
    (record,) = [x for x, y in places(dot, epoch_colour(1)) if y == row]
    of_leader, of_follower = sorted(x for x, y in places(dot, HIGH_WATERMARK) if abs(y - row) < 1)
    assert record < of_leader < record + 30
    (missing,) = [x for x, y in places(dot, "none") if abs(y - row) < 1 and x > of_leader]
    assert missing - 30 < of_follower < missing


def places(dot: str, fill: str) -> list[tuple[float, float]]:
    """The middles of the boxes with this fill, in points from the top left."""
    lines = [line for line in dot.splitlines() if f'fillcolor="{fill}"' in line or f"fillcolor={fill}" in line]
    found = [re.search(r'pos="([-\d.]+),([-\d.]+)"', line) for line in lines]
    return [(float(place[1]), -float(place[2])) for place in found if place]


def test_the_same_trace_gives_the_same_source() -> None:
    assert trace_dot(read_trace(THREE_REPLICAS)) == trace_dot(read_trace(THREE_REPLICAS))


def test_a_trace_without_lanes_is_drawn(renderer: str) -> None:
    trace = Trace(model="counter", variant=None, bounds={}, initial={"n": 0}, steps=(Step("tick", {}, {"n": 1}),))
    drawn = texts(render(trace_dot(trace), "svg"))
    assert {"tick", "n: 0", "n: 1", "shared"} <= set(drawn)


@pytest.mark.parametrize("path", KNOWN, ids=lambda path: path.stem)
def test_known_pictures_are_current(path: Path) -> None:
    drawn = render(trace_dot(read_trace(path)), "svg")
    assert texts(path.with_suffix(".svg").read_bytes()) == texts(drawn)


# ---------------------------------------------------------------------------------------------- rendering


def test_tables_are_refused_where_they_would_vanish(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(BadInputError, match="needs `dot`"):
        render("digraph { a [label=<<b>x</b>>] }", "svg")


def test_a_crash_of_the_renderer_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(BadInputError, match="drawing in-process failed") as refused:
        render("digraph { a [", "svg")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("number", range(40))
def test_no_picture_crashes_the_renderer_in_process(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphviz's WebAssembly build crashed on one in two hundred pictures whose labels broke lines."""
    monkeypatch.setattr(shutil, "which", lambda name: None)
    trace = commit_trace()
    renamed = replace(trace, model="m" * number, property=None, steps=trace.steps * (number % 5))
    assert "two" not in texts(render(trace_dot(renamed), "svg"))


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(BadInputError, match="svg, dot, png"):
        render("digraph {}", "pdf")


# ---------------------------------------------------------------------------------------------- the command


def test_draw_writes_each_form(tmp_path: Path, renderer: str) -> None:
    for suffix in ("svg", "dot", "html"):
        assert main(["draw", str(TWO_REPLICAS), "-o", str(tmp_path / f"picture.{suffix}")]) == 0
    assert "strong-isr fails after 9 steps" in texts((tmp_path / "picture.svg").read_bytes())[0]
    assert (tmp_path / "picture.dot").read_text() == trace_dot(read_trace(TWO_REPLICAS))
    page = (tmp_path / "picture.html").read_text()
    assert page.startswith("<!DOCTYPE html>") and page.count("<svg") == 1 and "<?xml" not in page
    assert not re.search(r"(?:src|href)\s*=|<script|<link", page)


def test_draw_escapes_the_page_title(tmp_path: Path) -> None:
    (tmp_path / "<script>.ndjson").write_bytes(TWO_REPLICAS.read_bytes())
    assert main(["draw", str(tmp_path / "<script>.ndjson"), "-o", str(tmp_path / "p.html")]) == 0
    assert "<title>&lt;script&gt;.ndjson</title>" in (tmp_path / "p.html").read_text()


@pytest.mark.skipif(not (shutil.which("rsvg-convert") or shutil.which("dot")), reason="no rasteriser")
def test_draw_writes_png_where_there_is_a_rasteriser(tmp_path: Path) -> None:
    assert main(["draw", str(TWO_REPLICAS), "-o", str(tmp_path / "picture.png")]) == 0
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line with which a command refuses its input."""
    assert main(list(arguments)) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    return captured.err


def test_draw_refuses_what_it_cannot_draw(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace, good = str(TWO_REPLICAS), str(tmp_path / "p.svg")
    assert ".svg, .dot, .html, .png" in refusal(capsys, "draw", trace, "-o", str(tmp_path / "p.pdf"))
    assert "no such file" in refusal(capsys, "draw", str(tmp_path / "nowhere"), "-o", good)
    assert "is a directory" in refusal(capsys, "draw", str(tmp_path), "-o", good)
    assert "no such file" in refusal(capsys, "draw", trace, "-o", str(tmp_path / "no" / "p.svg"))
    (tmp_path / "broken").write_bytes(TWO_REPLICAS.read_bytes()[:-20])
    assert "broken:10: not JSON" in refusal(capsys, "draw", str(tmp_path / "broken"), "-o", good)
    assert not (tmp_path / "p.svg").exists()


def test_draw_says_that_png_needs_a_rasteriser(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "rsvg-convert" in refusal(capsys, "draw", str(TWO_REPLICAS), "-o", str(tmp_path / "p.png"))


def test_draw_takes_a_file_without_a_header_for_a_history(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "history").write_text('{"process": 0}\n')
    assert "history:1:" in refusal(capsys, "draw", str(tmp_path / "history"), "-o", str(tmp_path / "p.svg"))


def test_draw_draws_lanes_written_by_hand(tmp_path: Path) -> None:
    write_trace(tmp_path / "trace", commit_trace())
    assert main(["draw", str(tmp_path / "trace"), "-o", str(tmp_path / "p.svg")]) == 0
    assert "resource manager rm0 prepares" in texts((tmp_path / "p.svg").read_bytes())
