"""Does the picture of a cluster's run show what happened: who sent what to whom, what changed, and what is broken?"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from random import Random
from xml.etree import ElementTree

import pytest
from hwmark.checkers.cli import main
from hwmark.traces.canvas import INK, RED
from hwmark.traces.changes import Json
from hwmark.traces.errors import BadInputError
from hwmark.traces.lane_box import HIGH_WATERMARK, epoch_colour
from hwmark.traces.render import render
from hwmark.traces.run import Event, Run, is_run
from hwmark.traces.run_box import CELL_HEIGHT, CELL_WIDTH, FAILURE
from hwmark.traces.run_changes import Note
from hwmark.traces.run_end import end_boxes
from hwmark.traces.run_picture import COPY, DOWN, PAUSED, UNDER_WAY, run_dot
from hwmark.traces.run_rows import Choice, Fold, arrows_of, folded, is_quiet, rows_of
from hwmark.traces.run_words import broken_sentence
from hwmark.traces.text import trace_text
from hwmark.traces.trace import Step, Trace, write_trace
from run_examples import RunWriter, lost_record, message, partition, replica

ONE = [0, 0, 10]

RENDERERS = ["in-process", pytest.param("dot", marks=pytest.mark.skipif(not shutil.which("dot"), reason="no dot"))]
SVG = "{http://www.w3.org/2000/svg}"


@cache
def lost() -> Run:
    return Run.of(lost_record())


def texts(svg: bytes) -> list[str]:
    return [(node.text or "").replace("\xa0", " ") for node in ElementTree.fromstring(svg).iter(f"{SVG}text")]


# -------------------------------------------------------------------------------------------- rows, arrows


def test_quiet_steps_are_folded_and_counted() -> None:
    rows = rows_of(lost())
    folds = [row for row in rows if isinstance(row, Fold)]
    assert [fold.words for fold in folds] == ["18 steps: 9 Fetch, 9 FetchResponse"]
    assert len(rows) - 1 + folded(rows) == len(lost().events)
    assert [event.number for row in rows for event in (row.events if isinstance(row, Fold) else [row])] == list(
        range(1, 42)
    )


def test_every_step_is_drawn_if_that_is_wanted() -> None:
    assert rows_of(lost(), Choice(everything=True)) == list(lost().events)


def test_some_steps_are_drawn_if_only_they_are_wanted() -> None:
    before, *drawn, after = rows_of(lost(), Choice(first=26, last=28))
    assert isinstance(before, Fold) and isinstance(after, Fold)
    assert (len(before.events), drawn, len(after.events)) == (25, list(lost().events[25:28]), 13)


def test_the_last_step_is_drawn_even_if_it_is_quiet() -> None:
    trace = lost_record()
    run = Run.of(replace(trace, steps=trace.steps[:25]))
    assert is_quiet(run.events[-1])
    assert rows_of(run)[-1] is run.events[-1]


def retries(*, has_news: bool) -> Run:
    """A producer that asks four times in vain; with news the broker becomes a leader after the second time."""
    writer = RunWriter.of("broker-1", "producer-1")
    for at in range(4):
        ask = [message("producer-1", "broker-1", "InitProducerId", "", at)]
        answer = [message("broker-1", "producer-1", "InitProducerId", "NOT_COORDINATOR", at, answer=True)]
        [id] = writer.step("Tick", 10 * at, machine="producer-1", sent=ask)
        [id] = writer.step("Deliver", 10 * at + 1, message=id, sent=answer)
        writer.step("Deliver", 10 * at + 2, message=id)
        if has_news and at == 1:
            writer.step("Tick", 15, machine="broker-1", views={"broker-1": partition(role="leader")})
    writer.step("Pause", 50, machine="broker-1")
    return Run.of(writer.trace())


def test_what_is_tried_again_in_vain_is_folded_until_there_are_news() -> None:
    def drawn(run: Run) -> list[int]:
        return [row.number for row in rows_of(run) if isinstance(row, Event)]

    assert drawn(retries(has_news=False)) == [1, 2, 3, 13]
    assert drawn(retries(has_news=True)) == [1, 2, 3, 7, 8, 9, 10, 14]


def test_replication_of_internal_topics_is_folded_but_not_what_their_leader_is_told() -> None:
    writer = RunWriter.of("broker-1", "broker-2")
    told = {"partitions": {"__transaction_state-0": replica()}}
    writer.step("Tick", 1, machine="broker-1", views={"broker-1": told})
    for kind in ("Fetch", "WriteTxnMarkers"):
        for at in range(2):
            ids = writer.step("Tick", 1, machine="broker-2", sent=[message("broker-2", "broker-1", kind, "", at)])
            told = {"partitions": {"__transaction_state-0": replica(log=[ONE] * writer.messages)}}
            writer.step("Deliver", 1, message=ids[0], views={"broker-1": told})
    _, fetches, *rest = rows_of(Run.of(writer.trace()))
    assert isinstance(fetches, Fold) and len(fetches.events) == 4
    assert [row.number for row in rest if isinstance(row, Event)] == [6, 7, 8, 9]


def test_a_new_leader_of_an_internal_topic_is_no_mere_replication() -> None:
    writer = RunWriter.of("broker-1", "broker-2")
    for leader_epoch in (1, 2):
        [id] = writer.step("Tick", 1, machine="broker-2", sent=[message("broker-2", "broker-1", "Fetch", "")])
        told = {"partitions": {"__transaction_state-0": replica(leader_epoch=leader_epoch)}}
        writer.step("Deliver", 1, message=id, views={"broker-1": told})
    writer.step("Pause", 2, machine="broker-1")
    assert [row.number for row in rows_of(Run.of(writer.trace())) if isinstance(row, Event)] == [2, 4, 5]


def test_a_loss_is_drawn_if_records_are_lost_or_if_it_is_alone() -> None:
    def drawn(*texts: str) -> list[int]:
        writer = RunWriter.of("broker-1", "broker-2")
        sent = [message("broker-1", "broker-2", "Fetch", text, n, answer=True) for n, text in enumerate(texts)]
        for id in writer.step("Pause", 1, machine="broker-1", sent=sent):
            writer.step("Drop", 2, message=id)
        writer.step("Resume", 3, machine="broker-1")
        return [row.number for row in rows_of(Run.of(writer.trace())) if isinstance(row, Event)]

    assert drawn("batches=[]", "batches=[]") == [1, 4]
    assert drawn("batches=[]", "batches=[(value=1)]", "batches=[]") == [1, 2, 3, 4, 5]
    assert drawn("batches=[]", "", "batches=[(value=1)]") == [1, 4, 5]


def test_an_arrow_leads_from_the_row_that_sent_a_message_even_if_it_is_folded() -> None:
    rows = rows_of(lost())
    numbers = [f"{row.number}" if isinstance(row, Event) else "fold" for row in rows]
    arrows = {
        (arrow.flight.name, None if arrow.from_row is None else numbers[arrow.from_row], numbers[arrow.to_row or 0])
        for arrow in arrows_of(lost(), rows)
    }
    assert {
        ("Produce", "26", "28"),
        ("Produce", "27", "33"),
        ("Fetch", "fold", "29"),
        ("FetchResponse", "29", "31"),
    } <= arrows
    assert not any(end == "fold" for _, _, end in arrows)


# --------------------------------------------------------------------------------------------- the picture


@pytest.mark.parametrize("found", RENDERERS)
def test_the_picture_tells_the_story(found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", {"dot": shutil.which("dot")}.get if found == "dot" else {}.get)
    shown = texts(render(run_dot(lost_record()), "svg"))
    for text in (
        "Broken after 41 steps: acknowledged-records-survive",
        "zookeeper", "broker-1", "broker-2", "producer-1", "consumer-1",
        "becomes the CONTROLLER", "LEADER, epoch 0", "LEADER, epoch 1", "ISR {1,2}", "follower, epoch 0",
        "18 steps: 9 Fetch, 9 FetchResponse", "lost: FetchResponse: [17]", "SENT TWICE by the network",
        "call 1: ok [x-0, 0]", "PAUSED", "RESUMES", "RESTARTS", "POWER LOSS, what was not", "flushed is gone",
        "call 1: OFFSET_OUT_OF_RANGE", "20,000", "41", "at the end", "none", "end 0→1",
        "Broken: acknowledged-records-survive (partition x-0, offset 0, value 17, machine broker-2)",
    ):  # fmt: skip
        assert text in shown, text


def edges(dot: str) -> list[dict[str, str]]:
    return [dict(re.findall(r'(\w+)="?([^"\s\]]+)', line)) for line in dot.splitlines() if "->" in line]


def test_requests_are_solid_responses_dashed_and_what_is_lost_is_red() -> None:
    def styles(name: str) -> set[tuple[str, str]]:
        sent = [message("producer-1", "broker-1", "Produce", "x", 1)]
        writer = RunWriter.of("broker-1", "producer-1")
        [id] = writer.step("Invoke", 1, machine="producer-1", number=1, operation="o", sent=sent)
        if name == "lost":
            writer.step("Drop", 2, message=id)
        else:
            back = [message("broker-1", "producer-1", "Produce", "y", 1, answer=True)]
            [id] = writer.step("Deliver", 2, message=id, sent=back)
            writer.step("Deliver", 3, message=id)
        drawn = edges(run_dot(writer.trace()))[2 + (name != "lost") + 0 :]
        return {(edge["style"], edge["color"]) for edge in drawn if edge["color"] != "#b8c2cc"}

    assert styles("delivered") == {("solid", "#44525f"), ("dashed", "#44525f")}
    assert ("solid", RED) in styles("lost")


def nodes(dot: str) -> Iterator[dict[str, str]]:
    for line in dot.splitlines():
        attributes = dict(re.findall(r'(\w+)="?([^"\]]*?)"?(?=[\s\]])', line))
        if "pos" in attributes:
            yield attributes


def boxes(dot: str) -> Iterator[tuple[float, float, float, float]]:
    """Middle, top, width and height of every box of the picture that has a border."""
    for node in nodes(dot):
        if node.get("penwidth", "0") != "0":
            x, y = (float(part) for part in node["pos"].split(","))
            width, height = float(node["width"]) * 72, float(node["height"]) * 72
            yield x, -y - height / 2, width, height


def looks(trace: Trace) -> list[tuple[str | None, ...]]:
    """Fill, border and style of everything in the picture that has a border."""
    names = ("fillcolor", "color", "style", "penwidth")
    return [tuple(node.get(name) for name in names) for node in nodes(run_dot(trace)) if "color" in node]


@pytest.mark.parametrize("everything", [False, True])
def test_nothing_lies_upon_another_thing_of_the_same_lane(everything: bool) -> None:
    dot = run_dot(lost_record(), Choice(everything))
    places = sorted(box for box in boxes(dot) if box[3] > CELL_HEIGHT + 0.5 or box[2] > 60)
    assert len(places) > 15
    for x in {box[0] for box in places}:
        lane = sorted(box[1:] for box in places if box[0] == x)
        for (top, _, height), (next_top, _, _) in pairwise(lane):
            assert top + height <= next_top + 0.2


def test_machines_of_which_nothing_is_drawn_have_no_lane() -> None:
    writer = RunWriter.of("zookeeper", "broker-1", "broker-2")
    writer.step("Pause", 1, machine="broker-1")
    shown = texts(render(run_dot(writer.trace()), "svg"))
    assert "broker-1" in shown and "broker-2" not in shown
    assert any("Nothing happened on zookeeper, broker-2." in text for text in shown)


def test_a_run_without_steps_can_be_drawn() -> None:
    assert "A run of 0 steps" in texts(render(run_dot(RunWriter.of("broker-1").trace()), "svg"))


def test_texts_that_look_like_markup_are_shown_as_they_are() -> None:
    writer = RunWriter.of("broker-1", "producer-1")
    text = 'a\\nb <b>"&amp;"</b> \x00'
    [id] = writer.step(
        "Invoke",
        1,
        machine="producer-1",
        number=1,
        operation=text,
        sent=[message("producer-1", "broker-1", "Produce", text)],
    )
    writer.step("Deliver", 2, message=id)
    shown = texts(render(run_dot(writer.trace()), "svg"))
    assert any('Produce: a\\nb <b>"&amp;"</b>' in line for line in shown)


def test_more_records_than_there_is_room_for_are_counted() -> None:
    writer = RunWriter.of("broker-1")
    log = [[offset, 0, offset] for offset in range(100)]
    writer.step("Tick", 1, machine="broker-1", views={"broker-1": partition(log=log)})
    shown = texts(render(run_dot(writer.trace()), "svg"))
    assert "93 more" in shown
    assert {"@0", "@2", "@96", "@99"} <= set(shown)
    assert not {"@3", "@50", "@91"} & set(shown)


def test_records_that_came_that_went_and_that_are_missing_look_different() -> None:
    writer = RunWriter.of("broker-1")
    writer.step("Tick", 1, machine="broker-1", views={"broker-1": partition(log=[ONE])})
    writer.step("Tick", 2, machine="broker-1", views={"broker-1": partition()})
    there, gone = (epoch_colour(0), INK, "filled,solid", "0.8"), ("white", RED, "filled,dashed", "1.2")
    assert looks(writer.trace()).count(there) == 2  # the legend's and the log's
    assert looks(writer.trace()).count(gone) == 1
    broken = writer.trace(property="p", witness={"partition": "x-0", "offset": 0})
    assert looks(broken).count(("white", RED, "filled,dashed", "2.5")) == 1
    writer.step("Tick", 3, machine="broker-1", views={"broker-1": partition(log=[ONE])})
    broken = writer.trace(property="p", witness={"partition": "x-0", "offset": 0})
    assert looks(broken).count((epoch_colour(0), RED, "filled,solid", "2.5")) == 1


@pytest.mark.parametrize("mark", [0, 1])
def test_the_high_watermark_stands_in_the_log(mark: int) -> None:
    writer = RunWriter.of("broker-1")
    writer.step("Tick", 1, machine="broker-1", views={"broker-1": partition(log=[ONE], high_watermark=mark)})
    shown = list(nodes(run_dot(writer.trace())))
    *_, bar = (float(node["pos"].split(",")[0]) for node in shown if node.get("fillcolor") == HIGH_WATERMARK)
    *_, cell = (float(node["pos"].split(",")[0]) for node in shown if node.get("fillcolor") == epoch_colour(0))
    assert bar - cell == (CELL_WIDTH / 2 if mark else -CELL_WIDTH / 2)


def test_an_outcome_that_is_an_error_is_red() -> None:
    def fills(outcome: str) -> set[str | None]:
        writer = RunWriter.of("producer-1")
        writer.step("Tick", 1, returned=[{"machine": "producer-1", "number": 1, "outcome": outcome}])
        return {look[0] for look in looks(writer.trace())}

    assert FAILURE[0] in fills("REQUEST_TIMED_OUT")
    assert FAILURE[0] not in fills("fine")


def test_what_is_lost_and_what_is_sent_twice_have_colours_of_their_own() -> None:
    writer = RunWriter.of("broker-1", "producer-1")
    sent = [message("producer-1", "broker-1", "Produce", "x", 1)]
    [id] = writer.step("Invoke", 1, machine="producer-1", number=1, operation="o", sent=sent)
    [copied] = writer.step("Duplicate", 2, message=id, sent=sent)
    writer.step("Drop", 3, message=id)
    writer.step("Deliver", 4, message=copied)
    colours = [edge["color"] for edge in edges(run_dot(writer.trace()))]
    assert colours.count(COPY.colour) == 2  # the legend's, too
    assert colours.count(RED) == 4  # and the two strokes of a cross


def test_the_time_is_told_where_it_went_on() -> None:
    writer = RunWriter.of("broker-1")
    for at in (1234, 1234, 1250):
        writer.step("Pause", at, machine="broker-1")
    shown = texts(render(run_dot(writer.trace()), "svg"))
    assert (shown.count("1,234"), shown.count("1,250")) == (1, 1)


# ------------------------------------------------------------------------------------------------ the end


def test_the_witness_marks_machine_and_offset() -> None:
    ends = end_boxes(lost())
    assert list(ends) == ["broker-1", "broker-2"]
    assert [box.is_witness for box in ends.values()] == [False, True]
    assert ends["broker-2"].broken == {("x-0", 0)}


def test_a_witness_that_has_no_logs_has_its_heading_marked() -> None:
    writer = RunWriter.of("broker-1", "consumer-1")
    writer.step("Pause", 1, machine="consumer-1")
    writer.step("Pause", 2, machine="broker-1")
    heading = ("white", RED, "rounded,filled,solid", "2")
    assert looks(writer.trace(property="p", witness={"machine": "consumer-1"})).count(heading) == 1
    assert looks(writer.trace()).count(heading) == 0


def test_the_records_around_the_witness_are_shown() -> None:
    writer = RunWriter.of("broker-1")
    log = [[offset, 0, f"v{offset}"] for offset in range(100) if offset != 50]
    writer.step("Tick", 1, machine="broker-1", views={"broker-1": partition(log=log)})
    dot = run_dot(writer.trace(property="p", witness={"machine": "broker-1", "partition": "x-0", "offset": 50}))
    shown = texts(render(dot, "svg"))
    place = shown.index("at the end")
    assert {"v47", "none", "v53"} <= set(shown[place:])
    assert "v99" not in shown[place:]


def test_internal_topics_stand_at_the_end_only_if_they_are_named() -> None:
    writer = RunWriter.of("broker-1")
    views = {"partitions": {"__consumer_offsets-0": replica(log=[ONE])}}
    writer.step("Tick", 1, machine="broker-1", views={"broker-1": views})
    assert end_boxes(Run.of(writer.trace())) == {}
    [box] = end_boxes(Run.of(writer.trace(property="p", witness={"partition": "__consumer_offsets-0"}))).values()
    assert box.items[0] == Note("__consumer_offsets-0", is_heading=True)


@pytest.mark.parametrize(
    ("witness", "sentence"),
    [
        (None, "Broken: one leader"),
        ({"why": "two of epoch 3"}, "Broken: one leader - two of epoch 3"),
        ({"why": "two", "machine": "broker-1", "offset": 3}, "Broken: one leader - two (machine broker-1, offset 3)"),
    ],
)
def test_what_is_broken_in_a_sentence(witness: dict[str, Json] | None, sentence: str) -> None:
    assert broken_sentence(RunWriter.of("broker-1").trace(property="one leader", witness=witness)) == sentence


def test_a_run_of_the_reference_implementation_is_drawn() -> None:
    from hwmark.checkers.simulation.cluster import Cluster, ClusterSetup, Crash
    from hwmark.checkers.simulation.export import export_run
    from hwmark.checkers.simulation.schedule import TimedSchedule
    from hwmark.refimpl.config import ClusterConfig, Topic
    from hwmark.refimpl.producer import ProducerConfig, Send

    setup = ClusterSetup(ClusterConfig(topics=(Topic("x", ((1, 2, 3),)),)), (ProducerConfig(),))
    schedule = TimedSchedule(Cluster(setup), Random(1))
    schedule.run_until(time=500)
    schedule.invoke("producer-1", Send("x", None, 17))
    assert schedule.run_until(lambda: bool(schedule.returned), time=5_000)
    schedule.apply(Crash("broker-1", True, schedule.cluster.now))
    assert schedule.actions is not None
    schedule.run_until(time=30_000)
    trace = export_run(setup, schedule.actions)
    run = Run.of(trace)
    assert len(rows_of(run)) < len(run.events) / 2
    shown = texts(render(run_dot(trace), "svg"))
    told = {
        "call 1: ok [x-0, 0]",
        "LEADER, epoch 0",
        "LEADER, epoch 1",
        "CRASH",
    }
    assert told <= set(shown)
    assert [text for text in shown if re.fullmatch(r"Produce: x-0 \[17\] producer \d+/0 sequence 0( …)?", text)]


# -------------------------------------------------------------------------------------- text, command line


def test_the_text_has_every_step_and_what_became_of_it() -> None:
    text = trace_text(lost_record())
    for lines in (
        "26   1010  producer-1  call 1: Send(topic=x, key=none, value=17)\n"
        "                         -> Produce to broker-1\n",
        "28   1014  broker-1    <- Produce from producer-1: x-0 batch=[17] acks=1\n"
        "                         x-0: + 17@0/0, end 0→1\n"
        "                         -> ProduceResponse to producer-1\n",
        "31   1019              LOST\n"
        "                         x  FetchResponse from broker-1 to broker-2: batches=[(base_offset=0 ",
        "                         x-0: - 17@0/0, end 1→0\n",
        "30   1018  producer-1  <- ProduceResponse from broker-1: NONE base_offset=0\n"
        "                         call 1: ok [x-0, 0]\n",
        "7       7  broker-2    <- LeaderAndIsr from broker-1: x-0 leader=1 epoch=0 isr=[1,2]\n"
        "                         x-0: follower, epoch 0, ISR {1,2}\n",
    ):
        assert lines in text
    assert len(re.findall(r"^\d+ ", text, re.MULTILINE)) == 41
    assert text.endswith("offset 0, value 17, machine broker-2)\n")


def run_file(folder: Path) -> str:
    path = folder / "run.jsonl"
    write_trace(path, lost_record())
    return str(path)


@pytest.mark.parametrize("suffix", ["svg", "dot", "html"])
def test_the_command_draws_a_run(suffix: str, tmp_path: Path) -> None:
    picture = tmp_path / f"run.{suffix}"
    assert main(["draw", run_file(tmp_path), "-o", str(picture)]) == 0
    assert "POWER" in picture.read_text()


def test_the_command_draws_all_steps_or_some(tmp_path: Path) -> None:
    drawn = {}
    for name, options in {"folded": [], "all": ["--all"], "some": ["--steps", "26-28"]}.items():
        picture = tmp_path / f"{name}.dot"
        assert main(["draw", run_file(tmp_path), "-o", str(picture), *options]) == 0
        drawn[name] = picture.read_text().count("->")
    assert drawn["some"] < drawn["folded"] < drawn["all"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--steps", "x"], "--steps: 'x' is no range of steps; expected one as 100-200 or 100-"),
        (["--steps", "9-8"], "--steps: '9-8' is no range of steps; expected one as 100-200 or 100-"),
        (["--steps", "1000-"], "--steps: there is no step 1000 in "),
        (["--steps", ""], "--steps: '' is no range of steps; expected one as 100-200 or 100-"),
        (["--as", "story"], "is a trace; expected a history"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    options: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["draw", run_file(tmp_path), "-o", str(tmp_path / "run.svg"), *options]) == 2
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--all"], ["--steps", "1-2"]])
def test_options_for_runs_are_refused_for_other_files(
    option: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = Path(__file__).parent / "data" / "truncate-to-hw-two-replicas.ndjson"
    assert main(["draw", str(known), "-o", str(tmp_path / "x.svg"), *option]) == 2
    assert "expected a cluster's run" in capsys.readouterr().err


def test_a_broken_run_is_refused_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = lost_record()
    path = tmp_path / "run.jsonl"
    write_trace(path, replace(trace, steps=(*trace.steps, Step("Tick", {}, {"network": 7}))))
    assert main(["draw", str(path), "-o", str(tmp_path / "x.svg")]) == 2
    assert f"{path}:43: no run of a cluster: network: expected an object, not 7" in capsys.readouterr().err


def test_a_formal_models_trace_is_no_run() -> None:
    assert is_run(lost_record())
    assert not is_run(replace(lost_record(), model="replication"))


@pytest.mark.skipif(not shutil.which("rsvg-convert"), reason="no rasteriser")
def test_a_picture_too_high_for_a_png_is_refused() -> None:
    writer = RunWriter.of("broker-1")
    for at in range(800):
        writer.step("Pause", at, machine="broker-1")
    with pytest.raises(BadInputError, match=r"png: .*larger than .*; svg and html have no such limit"):
        render(run_dot(writer.trace()), "png")


def test_a_machine_that_stands_still_has_a_band_until_it_goes_on() -> None:
    writer = RunWriter.of("broker-1", "broker-2")
    actions = ["Pause", "Resume", "Crash", "Restart", "Pause", "Crash"]
    for at, action in enumerate(actions):
        more = {"keeps_unflushed": True} if action == "Crash" else {}
        writer.step(action, at, machine="broker-1", **more)
    bands = [edge["color"] for edge in edges(run_dot(writer.trace())) if edge["penwidth"] == "9"]
    assert bands == [PAUSED.colour, DOWN.colour, PAUSED.colour, DOWN.colour]


def test_a_long_picture_names_its_lanes_again() -> None:
    writer = RunWriter.of("broker-1")
    for at in range(60):
        writer.step("Pause", at, machine="broker-1")
    assert texts(render(run_dot(writer.trace()), "svg")).count("broker-1") == 2


def test_what_is_still_under_way_is_drawn_unless_nobody_asks_about_it() -> None:
    def colours(kind: str) -> list[str]:
        writer = RunWriter.of("broker-1", "producer-1")
        ask = [message("producer-1", "broker-1", kind, "x")]
        writer.step("Invoke", 1, machine="producer-1", number=1, operation="o", sent=ask)
        return [edge["color"] for edge in edges(run_dot(writer.trace()))]

    assert colours("Produce").count(UNDER_WAY.colour) == 2  # the legend's and its own
    assert colours("Fetch").count(UNDER_WAY.colour) == 0


def test_a_message_to_oneself_is_an_arrow_too() -> None:
    writer = RunWriter.of("broker-1")
    [id] = writer.step("Tick", 1, machine="broker-1", sent=[message("broker-1", "broker-1", "LeaderAndIsr", "x")])
    writer.step("Deliver", 2, message=id)
    requests = [
        edge for edge in edges(run_dot(writer.trace())) if edge["style"] == "solid" and edge["color"] == "#44525f"
    ]
    assert len(requests) == 2  # the legend's and its own


def test_the_legend_tells_only_of_what_is_drawn() -> None:
    writer = RunWriter.of("broker-1")
    writer.step("Tick", 1, machine="broker-1", views={"broker-1": {"controller": True}})
    shown = texts(render(run_dot(writer.trace()), "svg"))
    assert {"request", "response"} <= set(shown)
    assert not {"lost on its way, at the cross", "duplicate", "fault", "high watermark"} & set(shown)
