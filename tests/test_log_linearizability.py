"""Partition logs judged: what was generated with a known verdict, each condition by itself, arrays, and bad input."""

from __future__ import annotations

import json
import random
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hwmark.checkers.linearizability.judgement import VERDICT_WORDS, Judgement
from hwmark.checkers.linearizability.log_columns import (
    Appends,
    Column,
    Fetches,
    ListOffsets,
    PartitionLog,
)
from hwmark.checkers.linearizability.log_gaps import COPY, UnfilledGapError, UnplacedAppendError, fill, fill_freely
from hwmark.checkers.linearizability.log_operations import check_operations, log_of_operations
from hwmark.checkers.linearizability.log_plain import is_explained, why_illegal
from hwmark.checkers.linearizability.log_rule import Mode, check_log
from hwmark.checkers.linearizability.log_sequences import Candidate
from hwmark.checkers.verdict import Holds, Unknown, Violated, verdict_name
from hwmark.traces.errors import BadInputError
from hwmark.traces.operations import OperationHistory, parse_operations, read_operations

DATA = sorted((Path(__file__).parent / "data" / "linearizability").glob("log_*.jsonl"))


def test_every_generated_log_is_judged_right() -> None:
    assert len(DATA) == 150
    for path in DATA:
        history = read_operations(path)
        judgement = check_operations(history)
        assert VERDICT_WORDS[verdict_name(judgement.verdict)] == history.expected, path.stem
        assert is_explained(history, Mode.LINEARIZABLE) == (history.expected == "linearizable"), path.stem
        if judgement.order is not None:
            assert why_illegal(history, Mode.LINEARIZABLE, judgement.order) is None, path.stem


Line = tuple[Any, ...]


def history_of(*lines: Line, **header: Any) -> OperationHistory:
    """A history of (f, input, output, call, return) and perhaps a process each."""
    rows = [(*line, f"p{i}")[:6] if len(line) == 5 else line for i, line in enumerate(lines)]
    f, given, output, call, returned, process = (list(column) for column in zip(*rows, strict=True))
    return OperationHistory("log", {"model": "partition-log"} | header, process, f, given, output, call, returned)


def judge(*lines: Line, mode: Mode = Mode.LINEARIZABLE, **header: Any) -> Judgement:
    """The judgement of such a history; the twin agrees."""
    history = history_of(*lines, **header)
    judgement = check_operations(history, mode)
    if not isinstance(judgement.verdict, Unknown):
        assert is_explained(history, mode) == isinstance(judgement.verdict, Holds)
    if judgement.order is not None:
        assert why_illegal(history, mode, judgement.order) is None
    return judgement


def append(value: Any, offset: int | None, call: int, returned: int | None, *process: str, **given: Any) -> Line:
    answer = None if offset is None else {"offset": offset}
    values = {"values": value} if isinstance(value, list) else {"value": value}
    return ("append", values | given, answer, call, returned, *process)


def fetch(records: list[list[Any]], start: int, end: int, call: int, returned: int, *process: str, **more: Any) -> Line:
    answer = {"next": end, "records": records, "hw": more.pop("hw", None)}
    return ("fetch", {"from": start} | more, answer, call, returned, *process)


def latest(result: int, call: int, returned: int, *process: str, committed: bool = False) -> Line:
    isolation = "read_committed" if committed else "read_uncommitted"
    return ("list-offsets", {"isolation": isolation}, result, call, returned, *process)


def marker(txn: int, commit: bool, offset: int | None, call: int) -> Line:
    return ("marker", {"txn": txn, "commit": commit}, None if offset is None else {"offset": offset}, call, None)


A = append("a", 0, 0, 1)
CONDITIONS: dict[str, tuple[str, tuple[int, ...], str, list[Line], dict[str, Any]]] = {
    "a length that is too old": (
        "real-time",
        (0, 1),
        "operation 0 (append of 'a' at offset 0) returned at 1, before operation 1 (read_uncommitted list-offsets, "
        "answered 0) was called at 2; yet the first shows that the log had reached length 1, and the second that it "
        "had not reached length 1 yet",
        [A, latest(0, 2, 3)],
        {},
    ),
    "C1: two acknowledgements": ("agreement", (1, 0), "offset 0 holds 'b'", [A, append("b", 0, 0, 1)], {}),
    "C1: a fetch": (
        "agreement",
        (0, 1),
        "offset 0 holds 'a'",
        [A, fetch([[0, "b"]], 0, 1, 2, 3), append("b", None, 0, None)],
        {},
    ),
    "C2: nobody appended it": ("no-phantom", (0,), "which nobody appended", [fetch([[0, "x"]], 0, 1, 2, 3)], {}),
    "C2: its append failed": (
        "no-phantom",
        (0, 1),
        "although operation 0 (append of 'a', failed) never happened",
        [("append", {"value": "a"}, {"failed": True}, 0, 1), fetch([[0, "a"]], 0, 1, 2, 3)],
        {},
    ),
    "C3: twice": (
        "no-duplicate",
        (0, 1),
        "'a' stands twice in the log, at offset 0",
        [A, fetch([[1, "a"]], 1, 2, 2, 3), append("b", None, 0, None)],
        {"duplicates": False},
    ),
    "C4: left out": (
        "fetch-shape",
        (0, 1),
        "left out offset 0, where operation 0 (append of 'a' at offset 0) stands",
        [A, fetch([], 0, 1, 2, 3)],
        {},
    ),
    "C4: out of order": (
        "fetch-shape",
        (2,),
        "not in order",
        [A, append("b", 1, 2, 3), fetch([[1, "b"], [0, "a"]], 0, 2, 4, 5)],
        {},
    ),
    "C5: a hole": (
        "sequence",
        (0, 1),
        "sequence number 1 before it is not in the log",
        [append(v, o, o, o, producer=7, epoch=0, sequence=s) for v, o, s in (("a", 0, 0), ("b", 1, 2))],
        {},
    ),
    "C5: an old epoch": (
        "sequence",
        (0, 1),
        "its epoch is older",
        [append(v, o, o, o, producer=7, epoch=e, sequence=0) for v, o, e in (("a", 0, 1), ("b", 1, 0))],
        {},
    ),
    "C5: DUPLICATE_SEQUENCE with another offset": (
        "no-duplicate",
        (0, 1),
        "stands twice",
        [append("a", o, o, o, producer=7, epoch=0, sequence=0) for o in (0, 1)],
        {},
    ),
    "C6: nothing fills the gap": (
        "gap",
        (0,),
        "operation 0 (append of 'a' at offset 1) shows that the log got past offset 0, but no append can stand there",
        [append("a", 1, 0, 1), ("append", {"value": "b"}, {"failed": True}, 0, 1)],
        {},
    ),
    "C6: what could fill it came too late": (
        "gap",
        (0,),
        "but none of the 1 appends of unknown outcome that nobody saw can stand there",
        [append("a", 1, 0, 1), append("b", None, 2, None)],
        {},
    ),
    "C6: a forced append finds no gap": (
        "gap",
        (1,),
        "is in the log, as later sequence numbers are, but finds no offset",
        [
            append("x", 0, 0, 9),
            append("a", None, 0, None, producer=7, epoch=0, sequence=0),
            append("b", 1, 0, 9, producer=7, epoch=0, sequence=1),
        ],
        {},
    ),
    "C7: data after the end": (
        "transaction",
        (1, 0),
        "after the end of its transaction",
        [append("a", 1, 0, 1, txn=0), marker(0, True, 0, 0)],
        {"transactions": ["commit"]},
    ),
    "C7: aborted data": (
        "transaction",
        (0, 1, 2),
        "of the aborted transaction 0",
        [
            append("a", 0, 0, 1, txn=0),
            marker(0, False, 1, 0),
            fetch([[0, "a"]], 0, 2, 2, 3, isolation="read_committed"),
        ],
        {"transactions": ["abort"]},
    ),
    "C7: two endings": (
        "transaction",
        (1, 2),
        "a transaction ends once",
        [append("a", 0, 0, 1, txn=0), marker(0, True, 1, 0), marker(0, True, 2, 0)],
        {"transactions": ["commit"]},
    ),
    "C7: another ending": (
        "transaction",
        (1, 2),
        "was answered, yet the log has",
        [append("a", 0, 0, 1, txn=0), ("end-txn", {"txn": 0, "commit": True}, {}, 1, 2), marker(0, False, 1, 1)],
        {"transactions": ["abort"]},
    ),
    "C7: a marker too late for the next epoch": (
        "real-time",
        (3, 4),
        "returned at 4, before",
        [
            append("a", 0, 0, 1, txn=0),
            ("end-txn", {"txn": 0, "commit": True, "producer": "t"}, {}, 1, 2),
            marker(0, True, 1, 1),
            ("init-producer-id", {"producer": "t"}, {}, 3, 4),
            latest(1, 5, 6),
        ],
        {"transactions": ["commit"]},
    ),
    "the last stable offset jumps": (
        "last-stable-offset",
        (2, 1),
        "offset 1 is inside a finished transaction",
        [append("a", 0, 0, 1, txn=0), marker(0, True, 1, 0), latest(1, 0, 9, committed=True)],
        {"transactions": ["commit"]},
    ),
    "past an undecided transaction": (
        "last-stable-offset",
        (0, 1),
        "where the undecided transaction 0 begins",
        [append("a", 0, 0, 1, txn=0), latest(1, 0, 9, committed=True)],
        {"transactions": ["undecided"]},
    ),
    "past its own high watermark": (
        "high-watermark",
        (1,),
        "beyond its high watermark",
        [A, fetch([[0, "a"]], 0, 1, 0, 9, hw=0)],
        {},
    ),
    "inside a batch": (
        "whole-batches",
        (1,),
        "length 1 is inside a batch",
        [append(["a", "b"], 0, 0, 9), latest(1, 0, 9)],
        {},
    ),
}


@pytest.mark.parametrize("case", CONDITIONS)
def test_each_condition_has_its_witness(case: str) -> None:
    condition, operations, sentence, lines, header = CONDITIONS[case]
    verdict = judge(*lines, **header).verdict
    assert isinstance(verdict, Violated)
    assert (verdict.name, verdict.witness.operations) == (condition, operations), verdict.witness.sentence
    assert sentence in verdict.witness.sentence


def test_weaker_modes_ask_for_less() -> None:
    old = [A, latest(0, 2, 3)]
    assert isinstance(judge(*old).verdict, Violated)
    assert isinstance(judge(*old, mode=Mode.SEQUENTIAL).verdict, Holds)
    own = [(*A, "p"), latest(0, 2, 3, "p")]
    for mode in (Mode.SESSIONS, Mode.SEQUENTIAL):
        verdict = judge(*own, mode=mode).verdict
        assert isinstance(verdict, Violated) and verdict.name == mode.value
        assert verdict.witness.operations == (0, 1)
        assert "showed its process that the log had reached length 1" in verdict.witness.sentence
    backwards = [latest(1, 0, 1, "p"), append("a", 0, 2, 3, "p")]
    assert isinstance(judge(*backwards, mode=Mode.SESSIONS).verdict, Holds)
    assert isinstance(judge(*backwards, mode=Mode.SEQUENTIAL).verdict, Violated)


def test_a_lagging_fetch_may_be_old_but_not_know_the_future() -> None:
    old = [A, fetch([], 0, 0, 2, 3, hw=0)]
    assert isinstance(judge(*old).verdict, Violated)
    assert isinstance(judge(*old, fetch="lagging").verdict, Holds)
    future = [append("a", 0, 5, 6), fetch([[0, "a"]], 0, 1, 2, 3)]
    assert isinstance(judge(*future, fetch="lagging").verdict, Violated)
    assert isinstance(judge(A, latest(0, 2, 3), fetch="lagging").verdict, Violated), "list-offsets is never old"


def test_a_complete_answer_ends_where_the_log_does() -> None:
    assert isinstance(judge(A, fetch([], 0, 0, 2, 3)).verdict, Holds), "it may have been cut short"
    assert isinstance(judge(A, fetch([], 0, 0, 2, 3, complete=True)).verdict, Violated)


def test_copies_need_a_producer_that_may_leave_them() -> None:
    twice = [A, fetch([[0, "a"], [1, "a"]], 0, 2, 2, 3)]
    judgement = judge(*twice, duplicates=True)
    assert isinstance(judgement.verdict, Holds) and judgement.order == (0, 0, 1)
    assert isinstance(judge(*twice).verdict, Violated)
    early = [append("a", 1, 5, 6), latest(1, 0, 1)]
    assert isinstance(judge(*early, duplicates=True).verdict, Violated), "no copy before the call"


def test_forced_appends_and_gaps_are_matched_together() -> None:
    """Two gaps, and two appends for the first of them: the forced one has to take it."""
    lines = [
        append("a", None, 0, None, producer=7, epoch=0, sequence=0),
        append("x", None, 0, None),
        append("b", 1, 0, 9, producer=7, epoch=0, sequence=1),
        append("c", 3, 0, 9, producer=7, epoch=0, sequence=2),
    ]
    judgement = judge(*lines)
    assert isinstance(judgement.verdict, Holds) and judgement.order == (0, 2, 1, 3)


def test_of_a_producers_unseen_appends_the_first_comes_first() -> None:
    """A forced append takes a gap from the first of two others, which then has to take it from the second."""
    lines = [
        append("a", None, 0, None, producer=1, epoch=0, sequence=0),
        append("b", None, 0, None, producer=1, epoch=0, sequence=1),
        append("c", 2, 0, 9, producer=1, epoch=1, sequence=0),
        append("x", None, 0, None, producer=2, epoch=0, sequence=0),
        append("y", 3, 0, 9, producer=2, epoch=0, sequence=1),
    ]
    judgement = judge(*lines)
    assert judgement.order is not None and sorted(judgement.order) == [0, 2, 3, 4]


def test_unseen_appends_of_several_epochs_are_tried_out() -> None:
    """The older epoch's was called later, but has to stand first."""
    lines = [
        append("x", 0, 0, 1),
        append("a", None, 5, None, producer=1, epoch=0, sequence=0),
        append("b", None, 0, None, producer=1, epoch=1, sequence=0),
        append("y", 3, 0, 9),
    ]
    assert judge(*lines).order == (0, 1, 2, 3)


def test_unseen_appends_of_one_producer_keep_their_order_in_time() -> None:
    early, late = latest(1, 0, 1), append("y", 2, 0, 9)

    def unseen(value: str, call: int, epoch: int, sequence: int) -> Line:
        return append(value, None, call, None, producer=1, epoch=epoch, sequence=sequence)

    old_epoch_too_late = judge(unseen("a", 5, 0, 0), unseen("b", 0, 1, 0), early, late)
    assert isinstance(old_epoch_too_late.verdict, Violated)
    free = append("z", None, 0, None)
    assert judge(unseen("a", 5, 0, 0), unseen("b", 0, 0, 1), free, early, late).order == (2, 3, 0, 4)
    for one, other in ((5, 0), (0, 5)):
        assert isinstance(judge(unseen("a", one, 0, 0), unseen("b", other, 0, 0), early).verdict, Holds)


def test_an_append_answered_without_an_offset_may_have_left_a_copy_before() -> None:
    lines = [("append", {"value": "a"}, {}, 0, 5), latest(1, 6, 7), fetch([[1, "a"]], 1, 2, 8, 9)]
    assert judge(*lines, duplicates=True).order == (0, 1, 0, 2)


def test_an_unanswered_end_of_a_transaction_may_never_have_come() -> None:
    ended = [append("a", 0, 0, 1, txn=0), marker(0, True, 1, 0), latest(2, 2, 3)]
    late = ("end-txn", {"txn": 0, "commit": True}, None, 5, None)
    assert isinstance(judge(*ended, late, transactions=["commit"]).verdict, Holds)
    answered = (*late[:2], {}, 5, 6)
    assert isinstance(judge(*ended, answered, transactions=["commit"]).verdict, Violated)


def test_clock_uncertainty_forgives_as_much() -> None:
    log = log_of_operations(history_of(A, latest(0, 5, 6)))
    assert isinstance(check_log(log, clock_uncertainty=1).verdict, Violated)
    assert isinstance(check_log(log, clock_uncertainty=2).verdict, Holds)


def test_unknown_markers_leave_what_depends_on_them_unknown() -> None:
    lines = [append("a", 0, 0, 1, txn=0), latest(1, 2, 3)]
    assert isinstance(judge(*lines, transactions=["unknown"]).verdict, Holds)
    depends = judge(*lines, latest(0, 2, 3, committed=True), transactions=["unknown"]).verdict
    assert isinstance(depends, Unknown) and "nobody recorded how 1 transaction ended" in depends.why
    never = judge(*lines, latest(0, -3, -2), latest(1, -9, -5, committed=True), transactions=["unknown"]).verdict
    assert isinstance(never, Violated)


def test_too_many_open_outcomes_are_unknown() -> None:
    lines = [append(i, None, 0, None, txn=0) for i in range(9)] + [append("z", 9, 0, 9)]
    judgement = judge(*lines, fetch([["x", 0]][:0], 0, 10, 20, 21), transactions=["undecided"])
    assert isinstance(judgement.verdict, Unknown) and "of unknown outcome" in judgement.verdict.why


def test_a_long_log_whose_markers_nobody_recorded_is_unknown() -> None:
    lines = [append(i, i, i, i, txn=i) for i in range(1500)]
    judgement = judge_alone(*lines, latest(700, 2000, 2001, committed=True))
    assert isinstance(judgement.verdict, Unknown) and "1500 appends and markers" in judgement.verdict.why


def judge_alone(*lines: Line) -> Judgement:
    """The judgement of a history too long for the twin."""
    return check_operations(history_of(*lines))


def arrays(values: int, fetches: int = 0) -> PartitionLog:
    """A quiet log of `values` appends, and fetches of two records each."""
    number = np.arange(values)
    rng = np.random.default_rng(values)
    end = np.sort(rng.integers(2, values + 1, fetches))
    offset = (end[:, None] - np.array([2, 1])).ravel()
    no = np.zeros(fetches, dtype=bool)
    return PartitionLog(
        operations=values + fetches,
        appends=Appends(number, 10 * number, 10 * number + 5, value=number, offset=number),
        fetches=Fetches(
            values + np.arange(fetches), 10 * end - 12, 10 * end, None, end - 2, end, end, no, no,
            2 * np.arange(fetches + 1), offset, offset.copy(),
        ),
    )  # fmt: skip


def changed(column: Column, row: int, value: int) -> Column:
    """A column with one other value."""
    column = column.copy()
    column[row] = value
    return column


def test_arrays_are_judged_directly() -> None:
    from dataclasses import replace

    log = arrays(50_000, 30_000)
    judgement = check_log(log)
    assert isinstance(judgement.verdict, Holds) and judgement.order is not None
    assert sorted(judgement.order) == list(range(80_000))
    assert check_log(log, with_order=False).order is None
    late = replace(log, appends=replace(log.appends, call=changed(log.appends.call, 700, 7_100)))
    verdict = check_log(late).verdict
    assert isinstance(verdict, Violated) and verdict.name == "real-time" and 700 in verdict.witness.operations
    other = replace(log, fetches=replace(log.fetches, value=changed(log.fetches.value, 999, 3)))
    verdict = check_log(other).verdict
    assert isinstance(verdict, Violated) and 50_499 in verdict.witness.operations


def test_values_may_be_any_numbers() -> None:
    from dataclasses import replace

    log = arrays(1000, 100)
    far = replace(
        log,
        appends=replace(log.appends, value=log.appends.value * 10**15 - 77),
        fetches=replace(log.fetches, value=log.fetches.value * 10**15 - 77),
    )
    assert check_log(far) == check_log(log)
    phantom = replace(far, fetches=replace(far.fetches, value=changed(far.fetches.value, 5, 1)))
    verdict = check_log(phantom).verdict
    assert isinstance(verdict, Violated) and verdict.name == "no-phantom"


def test_a_lone_offset_costs_nothing() -> None:
    far = judge_far(30_000_000, duplicates=False)
    assert isinstance(far, Violated) and "but all appends and markers together are 1" in far.witness.sentence
    assert isinstance(judge_far(30_000_000, duplicates=True), Unknown)


def judge_far(offset: int, *, duplicates: bool) -> Any:
    """The verdict on a single append, far away."""
    one = np.array([0])
    appends = Appends(one, one, one, value=one, offset=np.array([offset]))
    return check_log(PartitionLog(1, appends, duplicates=duplicates)).verdict


def test_misuse_is_refused() -> None:
    one = np.array([0, 1])
    twice = PartitionLog(2, Appends(one, one, one, value=np.array([5, 5]), offset=one))
    with pytest.raises(ValueError, match="operations 0 and 1 both append 5; expected distinct values"):
        check_log(twice)
    lists = ListOffsets(one, one, one, None, np.zeros(2, dtype=bool), np.zeros(2, dtype=np.int64))
    with pytest.raises(ValueError, match="expected a column `process`"):
        check_log(PartitionLog(2, list_offsets=lists), Mode.SESSIONS)


BAD_LINES = {
    '{"f": "pop", "input": {}, "output": null': "unknown f 'pop'; expected one of append, fetch",
    '{"f": "append", "input": 3, "output": null': "input 3; expected a JSON object",
    '{"f": "append", "input": {}, "output": null': "append of [null]; expected a value",
    '{"f": "append", "input": {"value": 1}, "output": {"offset": -1}': "output offset -1; expected a whole",
    '{"f": "append", "input": {"value": 1, "txn": 4}, "output": null': "txn 4; expected null or a number below 1",
    '{"f": "append", "input": {"value": 1, "sequence": "x"}, "output": null': 'input sequence "x"; expected a whole',
    '{"f": "fetch", "input": {"from": 0}, "output": {"next": 1, "records": [[0]]}': "records [[0]]; expected a list of",
    '{"f": "fetch", "input": {"from": 0, "isolation": "x"}, "output": {"next": 0, "records": []}': 'isolation "x"',
    '{"f": "list-offsets", "input": {}, "output": "far"': 'output offset "far"; expected a whole number',
    '{"f": "marker", "input": {"commit": true}, "output": null': "txn is missing; expected the transaction that ends",
    '{"f": "marker", "input": {"txn": 0}, "output": null': "commit null; expected true or false",
    '{"f": "append", "input": {"value": 1}, "output": 7': "output 7; expected a JSON object or null",
}


@pytest.mark.parametrize("line", BAD_LINES)
def test_bad_operations_are_refused_with_their_line(line: str) -> None:
    header = json.dumps({"model": "partition-log", "transactions": ["commit"]})
    data = f'{header}\n{line}, "process": 0, "call": 0, "return": 1}}\n'
    with pytest.raises(BadInputError) as error:
        check_operations(parse_operations(data.encode(), "log.jsonl"))
    assert str(error.value).startswith("log.jsonl:2: ") and BAD_LINES[line] in str(error.value)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"fetch": "slow"}, 'fetch "slow"; expected "fresh" or "lagging"'),
        ({"duplicates": 1}, "duplicates 1; expected true or false"),
        ({"transactions": ["perhaps"]}, "expected a list of commit, abort, undecided, unknown"),
    ],
)
def test_bad_headers_are_refused(header: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadInputError, match="log:1: ") as error:
        check_operations(history_of(A, **header))
    assert reason in str(error.value)


def test_two_batches_with_one_value_are_refused() -> None:
    with pytest.raises(BadInputError, match="both append 'a'"):
        check_operations(history_of(A, append("a", 1, 0, 1)))


def can_match(gaps: list[int], candidates: list[Candidate], copies_from: int) -> bool:
    """Whether the gaps can be filled, forced candidates all used: every way is tried."""
    choices = [*range(len(candidates)), *([COPY] * len(gaps))]
    for chosen in set(permutations(choices, len(gaps))):
        fits = all(
            gap >= copies_from if i == COPY else candidates[i].low <= gap < candidates[i].high
            for gap, i in zip(gaps, chosen, strict=True)
        )
        if fits and all(i in chosen for i, candidate in enumerate(candidates) if candidate.forced):
            return True
    return False


def test_filling_gaps_finds_a_matching_whenever_there_is_one() -> None:
    rng, found, none = random.Random(5), 0, 0
    for _ in range(400):
        gaps = sorted(rng.sample(range(7), rng.randint(0, 3)))
        candidates = []
        for i in range(rng.randint(0, 4)):
            low = rng.randint(0, 5)
            candidates.append(Candidate(i, low, rng.randint(low, 8), rng.random() < 0.4))
        copies_from = rng.choice((4, 9, 9))
        try:
            filler = fill(gaps, candidates, copies_from).tolist()
        except (UnfilledGapError, UnplacedAppendError):
            assert not can_match(gaps, candidates, copies_from)
            none += 1
            continue
        found += 1
        assert len(set(filler) - {COPY}) == len([i for i in filler if i != COPY])
        assert all(
            gap >= copies_from if i == COPY else candidates[i].low <= gap < candidates[i].high
            for gap, i in zip(gaps, filler, strict=True)
        )
        assert all(i in filler for i, candidate in enumerate(candidates) if candidate.forced)
    assert found > 80 and none > 80


def test_filling_freely_agrees_with_filling() -> None:
    rng = random.Random(6)
    for _ in range(300):
        gaps = sorted(rng.sample(range(7), rng.randint(0, 3)))
        low = [rng.randint(0, 6) for _ in range(rng.randint(0, 4))]
        copies_from = rng.choice((4, 9))
        candidates = [Candidate(i, at, 10) for i, at in enumerate(low)]
        try:
            freely = fill_freely(np.array(gaps), np.arange(len(low)), np.array(low, dtype=np.int64), copies_from)
        except UnfilledGapError:
            with pytest.raises(UnfilledGapError):
                fill(gaps, candidates, copies_from)
            continue
        fill(gaps, candidates, copies_from)
        assert all(
            gap >= copies_from if i == COPY else low[i] <= gap for gap, i in zip(gaps, freely.tolist(), strict=True)
        )
