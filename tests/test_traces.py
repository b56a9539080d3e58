"""Does the trace keep every state through its file, and is a broken file told in one line?"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hwmark.checkers.cli import main
from hwmark.traces.changes import apply_changes, changes_between, leaves, value_at
from hwmark.traces.errors import BadInputError
from hwmark.traces.text import trace_text
from hwmark.traces.trace import Lanes, Trace, is_trace, read_trace, step_between, write_trace
from hwmark.traces.words import value_text
from hypothesis import given
from hypothesis import strategies as st

scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=4) | st.sampled_from(["a", "isr"])
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "x.y"]), inner, max_size=2),
    max_leaves=10,
)
like_states = st.fixed_dictionaries({"a": st.lists(values, min_size=2, max_size=2), "": values, '"[0]': values})
states = like_states | st.dictionaries(st.text(max_size=3), values, max_size=4)


def as_text(value: object) -> str:
    """JSON tells true from 1, which Python's == does not."""
    return json.dumps(value)


@given(states, states)
def test_the_changes_lead_from_one_state_to_the_other(before: dict[str, Any], after: dict[str, Any]) -> None:
    untouched = as_text(before)
    assert json.loads(as_text(apply_changes(before, changes_between(before, after)))) == after
    assert as_text(apply_changes(before, changes_between(before, after))) == as_text(ordered_like(before, after))
    assert as_text(before) == untouched


def ordered_like(before: Any, after: Any) -> Any:
    """`after`, with the fields of objects in the order of `before` where both have the same fields."""
    if isinstance(before, dict) and isinstance(after, dict) and before.keys() == after.keys():
        return {name: ordered_like(before[name], after[name]) for name in before}
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return [ordered_like(old, new) for old, new in zip(before, after, strict=True)]
    return after


@given(states)
def test_every_change_is_told_at_its_own_path(state: dict[str, Any]) -> None:
    assert changes_between(state, json.loads(as_text(state))) == {}
    for path, value in leaves(state):
        assert value_at(state, path) == value


def test_a_change_goes_down_to_the_scalar_but_sets_and_resized_sequences_are_whole() -> None:
    before = {"logs": [[{"id": 0}], []], "isr": [0, 1], "votes": ["yes", None], "flag": False}
    after = {"logs": [[{"id": 1}], [{"id": 0}]], "isr": [0, 2], "votes": ["yes", "no"], "flag": 0}
    assert changes_between(before, after) == {
        "logs[0][0].id": 1,
        "logs[1]": [{"id": 0}],
        "isr": [0, 2],
        "votes[1]": "no",
        "flag": 0,
    }


@pytest.mark.parametrize("path", ["logs[2]", "none", "logs.0", "logs[0].id", ".isr", "isr.", "a b", "isr[-1]", "[0]"])
def test_a_path_that_is_not_there_is_refused(path: str) -> None:
    with pytest.raises(LookupError):
        apply_changes({"logs": [[], []], "isr": [0]}, {path: 1})


def small_trace() -> Trace:
    before = {"votes": [None, None], "decided": False}
    between = {"votes": [None, "yes"], "decided": False}
    after = {"votes": ["no", "yes"], "decided": True}
    return Trace(
        model="commit",
        variant=None,
        bounds={"managers": 2},
        initial=before,
        steps=(step_between(before, between, "vote", {"m": 1}), step_between(between, after, "decide", {"why": None})),
        property="consistent",
        witness={"m": 1},
        engine="explore",
        lanes=Lanes("m", 2, ("votes",)),
    )


def test_a_file_gives_back_the_trace(tmp_path: Path) -> None:
    write_trace(tmp_path / "trace", small_trace())
    assert read_trace(tmp_path / "trace") == small_trace()
    assert is_trace(tmp_path / "trace")
    assert [state["decided"] for state in small_trace().states()] == [False, False, True]


def broken(tmp_path: Path, line: int, **changes: Any) -> Path:
    """The small trace's file with fields of one line replaced; ... takes a field away."""
    write_trace(tmp_path / "trace", small_trace())
    lines = [json.loads(text) for text in (tmp_path / "trace").read_text().splitlines()]
    lines[line - 1] = {k: v for k, v in (lines[line - 1] | changes).items() if v is not ...}
    (tmp_path / "trace").write_text("".join(json.dumps(one) + "\n" for one in lines))
    return tmp_path / "trace"


@pytest.mark.parametrize(
    ("line", "changes", "reason"),
    [
        (1, {"format": "else"}, "not a trace"),
        (1, {"version": 2}, "trace version 2"),
        (1, {"initial": ...}, "'initial' is missing"),
        (1, {"initial": []}, "'initial' must be an object"),
        (1, {"seed": True}, "'seed' must be an integer or null"),
        (1, {"bounds": {"managers": "2"}}, "'bounds.managers' must be an integer"),
        (1, {"colour": 1}, "unknown field 'colour'"),
        (1, {"lanes": {"name": "m", "count": 3, "arrays": ["votes"]}}, "no array 'votes' of 3"),
        (1, {"lanes": {"name": "m"}}, "'count' is missing"),
        (2, {"step": 2}, "step 2 where step 1"),
        (2, {"action": None}, "'action' must be a string"),
        (3, {"changes": {"votes[2]": 1}}, "changes of step 2 do not fit"),
        (3, {"changes": {"": 1}}, "no object"),
        (3, {"arguments": ...}, "'arguments' is missing"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: int, changes: dict[str, Any], reason: str) -> None:
    path = broken(tmp_path, line, **changes)
    with pytest.raises(BadInputError, match=reason) as refusal:
        read_trace(path)
    assert str(refusal.value).startswith(f"{path}:{line}: ")


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        (b"", 1, "empty"),
        (b"\n\n", 1, "empty"),
        (b"\xff\xfe", 1, "not JSON"),
        (b"[]\n", 1, "expected a JSON object"),
    ],
)
def test_a_file_that_is_no_trace_is_refused(tmp_path: Path, content: bytes, line: int, reason: str) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(BadInputError, match=reason) as refusal:
        read_trace(tmp_path / "file")
    assert refusal.value.line == line


def test_a_truncated_last_line_and_an_empty_line_are_refused(tmp_path: Path) -> None:
    write_trace(tmp_path / "trace", small_trace())
    whole = (tmp_path / "trace").read_bytes()
    for content, line in [(whole[:-10], 3), (whole + b"\n", 4), (whole.replace(b'\n{"step":2', b'\n\n{"step":2'), 3)]:
        (tmp_path / "trace").write_bytes(content)
        with pytest.raises(BadInputError, match="not JSON") as refusal:
            read_trace(tmp_path / "trace")
        assert refusal.value.line == line


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no such file"):
        read_trace(tmp_path / "nowhere")


# ---------------------------------------------------------------------------------------------- as text


@given(values, values)
def test_different_values_read_differently(one: Any, other: Any) -> None:
    assert (value_text(one) == value_text(other)) == (as_text(one) == as_text(other))


@given(like_states, st.lists(like_states, max_size=4))
def test_the_text_holds_all_that_the_file_holds(first: dict[str, Any], rest: list[dict[str, Any]]) -> None:
    states = [first, *rest]
    steps = [step_between(a, b, f"act_{n}", {"x": n}) for n, (a, b) in enumerate(pairwise(states))]
    trace = Trace(model="m", variant="v", bounds={"b": 3}, initial=first, steps=tuple(steps), seed=17)
    header, body = trace_text(trace).split("\n\n", 1)
    assert {"model     m", "variant   v", "bounds    b=3", "seed      17"} <= set(header.splitlines())
    told = ["0  initial state", *(f"{path} {value_text(value)}" for path, value in leaves(first))]
    for number, (step, before) in enumerate(zip(steps, trace.states(), strict=False), 1):
        told.append(f"{number} act_{number - 1}(x={number - 1})")
        told += [f"{at} {value_text(value_at(before, at))} -> {value_text(new)}" for at, new in step.changes.items()]
        told += [] if step.changes else ["(nothing changed)"]
    assert body.split() == " ".join(told).split()


def test_the_text_is_aligned() -> None:
    assert trace_text(small_trace()).split("\n\n")[1] == (
        "0  initial state\n"
        "     votes    [none, none]\n"
        "     decided  false\n"
        "1  vote(m=1)\n"
        "     votes[1]  none  -> yes\n"
        "2  decide(why=none)\n"
        "     votes[0]  none  -> no\n"
        "     decided   false -> true\n"
        "consistent fails for m1\n"
    )


# ---------------------------------------------------------------------------------------------- the command

KNOWN = Path(__file__).parent / "data" / "truncate-to-hw-two-replicas.ndjson"


def test_replay_prints_the_trace_and_asks_the_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(KNOWN)]) == 0
    captured = capsys.readouterr()
    assert captured.out == trace_text(read_trace(KNOWN))
    assert "the model takes the same steps" in captured.err


def test_replay_prints_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(KNOWN), "--json"]) == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert captured.out.count("\n") == 1 and captured.err == ""
    assert (report["verified"], report["mismatch"], report["model"]) == (True, None, "replication")
    assert [step["action"] for step in report["steps"]] == [step.action for step in read_trace(KNOWN).steps]
    assert report["seconds"] >= 0


def test_replay_finds_steps_that_the_model_does_not_take(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "trace").write_bytes(KNOWN.read_bytes().replace(b'"next_record":1', b'"next_record":0'))
    assert main(["replay", str(tmp_path / "trace")]) == 1
    assert "not a run of the model: step 4" in capsys.readouterr().err
    assert main(["replay", str(tmp_path / "trace"), "--no-verify"]) == 0
    assert main(["replay", str(tmp_path / "trace"), "--json"]) == 1
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["verified"] is False and "step 4" in report["mismatch"]


def test_replay_refuses_what_is_no_trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cut").write_bytes(KNOWN.read_bytes()[:-9])
    for name, reason in [("cut", "cut:10: not JSON"), ("nowhere", "no such file")]:
        assert main(["replay", str(tmp_path / name)]) == 2
        captured = capsys.readouterr()
        assert reason in captured.err and captured.err.count("\n") == 1 and captured.out == ""
