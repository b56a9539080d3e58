"""A lenient reader leaves out what is wrong, says so line by line, and keeps only what is sound."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hwmark.traces.errors import BadInputError
from hwmark.traces.history import History, Outcome
from hwmark.traces.history_blocks import take_lines
from hwmark.traces.history_files import read_stream
from hwmark.traces.history_records import Parser, parse_lines

UNREADABLE = "{oops}"


def invoke(process: int, sent: int, **changed: Any) -> dict[str, Any]:
    return {"process": process, "type": "invoke", "f": "send", "value": [["send", 0, sent]]} | changed


def ok(process: int, sent: int, **changed: Any) -> dict[str, Any]:
    return invoke(process, sent) | {"type": "ok", "value": [["send", 0, [sent, sent]]]} | changed


def read(*records: dict[str, Any] | str) -> History:
    """What both readers keep of records; they take a time each unless they have one."""
    timed = [r if isinstance(r, str) else json.dumps({"time": n} | r) for n, r in enumerate(records)]
    content = "".join(f"{line}\n" for line in timed).encode()
    with pytest.raises(BadInputError):
        read_stream(io.BytesIO(content), "history")
    history = read_stream(io.BytesIO(content), "history", lenient=True)
    plain = parse_lines(content.splitlines(keepends=True), "history", lenient=True)
    assert kept(history) == kept(plain) and history.dropped == plain.dropped
    for size in (1, 2, 3):
        blocks = in_blocks(content.splitlines(keepends=True), size)
        assert kept(blocks) == kept(plain) and blocks.dropped == plain.dropped
    return history


def in_blocks(content: list[bytes], size: int) -> History:
    parser = Parser("history", lenient=True)
    for start in range(0, len(content), size):
        block = content[start : start + size]
        take_lines(parser, block, range(start + 1, start + 1 + len(block)))
    return parser.history(len(content))


def kept(history: History) -> list[tuple[int, Outcome, list[int]]]:
    """Line, outcome and values of every operation."""
    micro, operations = history.micro, history.operations
    return [
        (line, Outcome(outcome), micro.value[micro.operation == row].tolist())
        for row, (line, outcome) in enumerate(zip(operations.line.tolist(), operations.outcome.tolist(), strict=True))
    ]


def lines(history: History) -> list[int]:
    return [line for line, _ in history.dropped]


FIRST = invoke(0, 1), ok(0, 1)
KEPT = (2, Outcome.OK, [1])


def test_completion_left_out_leaves_its_operation_open() -> None:
    history = read(*FIRST, invoke(1, 2), ok(1, 2, value=3), invoke(1, 4), ok(1, 4))
    assert kept(history) == [KEPT, (6, Outcome.OK, [4]), (3, Outcome.INFO, [2])]
    assert lines(history) == [4] and "value of a send is 3" in history.dropped[0][1]


def test_invocation_left_out_takes_its_completion_along() -> None:
    history = read(*FIRST, invoke(1, 2, value=3), ok(1, 2), invoke(1, 4), ok(1, 4))
    assert kept(history) == [KEPT, (6, Outcome.OK, [4])]
    assert lines(history) == [3, 4] and "its invocation in line 3 was left out" in history.dropped[1][1]


def test_completion_without_invocation_is_left_out() -> None:
    history = read(*FIRST, ok(1, 2))
    assert kept(history) == [KEPT] and lines(history) == [3]


def test_first_of_two_open_operations_has_an_unknown_outcome() -> None:
    history = read(*FIRST, invoke(1, 2), invoke(1, 3), ok(1, 3))
    assert kept(history) == [KEPT, (5, Outcome.OK, [3]), (3, Outcome.INFO, [2])]
    assert history.dropped == [
        (3, "process 1 starts a send in line 4 while this send is open; its outcome counts as unknown")
    ]


def test_unreadable_completion_leaves_its_operation_open() -> None:
    history = read(*FIRST, invoke(1, 2), UNREADABLE, invoke(1, 3), ok(1, 3))
    assert kept(history) == [KEPT, (6, Outcome.OK, [3]), (3, Outcome.INFO, [2])]
    assert lines(history) == [3, 4]


def test_completion_of_an_unreadable_invocation_completes_no_other_operation() -> None:
    """Lines 4 and 5 were `ok` of the first operation and `invoke` of the second."""
    history = read(*FIRST, invoke(1, 2), UNREADABLE, UNREADABLE, ok(1, 3), invoke(1, 4), ok(1, 4))
    assert kept(history) == [KEPT, (8, Outcome.OK, [4]), (3, Outcome.INFO, [2])]
    assert lines(history) == [4, 5, 6] and "sends are not those of its invocation in line 3" in history.dropped[2][1]


def test_completion_after_unreadable_lines_completes_its_own_operation() -> None:
    history = read(*FIRST, invoke(1, 2), UNREADABLE, ok(1, 2))
    assert kept(history) == [KEPT, (5, Outcome.OK, [2])] and lines(history) == [4]


def test_record_with_an_earlier_time_is_left_out() -> None:
    history = read(*FIRST, invoke(1, 2, time=7), ok(1, 2, time=5), invoke(1, 4, time=6), ok(1, 4, time=8))
    assert kept(history) == [KEPT, (3, Outcome.INFO, [2])]
    assert lines(history) == [4, 5, 6]


@pytest.mark.parametrize("index", [True, False])
def test_another_history_is_left_out_to_its_end(index: bool) -> None:
    """Its records would complete the operations of this one."""
    one = [*FIRST, invoke(1, 2)]
    two = [invoke(0, 5), ok(0, 5), invoke(0, 6), ok(1, 2), ok(0, 6), invoke(2, 7), ok(2, 7)]
    records = [
        record | {"time": n} | ({"index": n} if index else {}) for part in (one, two) for n, record in enumerate(part)
    ]
    history = read(*records)
    assert kept(history) == [KEPT, (3, Outcome.INFO, [2])]
    assert lines(history) == list(range(4, 11))
    assert "another history begins here" in history.dropped[0][1]
    assert {reason for _, reason in history.dropped[1:]} == {"belongs to the history that begins at line 4"}


def test_open_operation_that_sent_no_value_is_left_out() -> None:
    history = read(*FIRST, invoke(1, 2, value=[["send", None, 2]]))
    assert kept(history) == [KEPT] and lines(history) == [3]


def test_cut_last_line_is_left_out() -> None:
    content = "".join(json.dumps({"time": n} | r) + "\n" for n, r in enumerate(FIRST)).encode()
    history = read_stream(io.BytesIO(content + b'{"process": 1, "ty'), "history", lenient=True)
    assert kept(history) == [KEPT] and lines(history) == [3]


def test_nothing_that_remains_is_refused() -> None:
    content = f"{UNREADABLE}\n{UNREADABLE}\n".encode()
    with pytest.raises(
        BadInputError, match=r"no operation of any client .* \(left out 2, the first at line 1: not JSON"
    ):
        read_stream(io.BytesIO(content), "history", lenient=True)
