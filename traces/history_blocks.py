"""The records of a history, taken a block at a time into the same columns as one by one, and several times faster.

A block is some hundred records: few enough for their objects to stay in the processor's cache, many enough to pay for
the array operations. Lists are taken apart by functions written in C, tested as wholes, and put together as arrays.
Whatever is out of the ordinary - an error or only an unusual type - leaves the columns untouched and sends the block to
`hwmark.traces.history_records`, which takes it record by record and knows the words for what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain, compress
from operator import itemgetter
from typing import Any

import numpy as np
import orjson
from hwmark.traces.history import Function, Outcome
from hwmark.traces.history_columns import INT64_MAX, Evidence, extend
from hwmark.traces.history_lines import is_deep
from hwmark.traces.history_messages import SURPRISES, Messages, check_invoked, has_fraction, require, require_types
from hwmark.traces.history_records import (
    CLOSINGS,
    FUNCTIONS,
    OUTCOMES,
    Invocation,
    Parser,
    Record,
    add_group_offsets,
    add_keys,
    add_rebalance_log,
)
from numpy.typing import NDArray

_INVOKE = -1
_TYPES = {"invoke": _INVOKE} | {name: int(outcome) for name, outcome in OUTCOMES.items()}
_FUNCTIONS = {name: int(function) for name, function in FUNCTIONS.items()}
_FIELDS = itemgetter("process", "type", "f", "value", "time", "index")
_FIELDS_BUT_INDEX = itemgetter("process", "type", "f", "value", "time")

Ints = NDArray[np.int64]


def take_lines(parser: Parser, lines: Sequence[bytes], numbers: Sequence[int]) -> None:
    """Take the records that lines of JSON with these numbers hold."""
    _take(parser, lines, numbers, decode=orjson.loads, take_alone=parser.take_line)


def take_records(parser: Parser, records: Sequence[Any], lines: Sequence[int]) -> None:
    """Take decoded records, which are exact, of the lines with these numbers."""
    _take(parser, records, lines, decode=None, take_alone=parser.take)


def _take(
    parser: Parser,
    things: Sequence[Any],
    numbers: Sequence[int],
    *,
    decode: Callable[[Any], Any] | None,
    take_alone: Callable[[Any, int], None],
) -> None:
    """Take things as a block or, if anything in it is unusual, each alone."""
    try:
        records = things if decode is None else list(map(decode, things))
        block = _Block(parser, records, np.array(numbers, dtype=np.int64))
    except SURPRISES:
        for thing, number in zip(things, numbers, strict=True):
            take_alone(thing, number)
    else:
        block.commit()


class _Block:
    """What a block of records adds to the columns: found out by the constructor, added by `commit`.

    The invocations of earlier blocks that its records may complete are put before them.
    """

    def __init__(self, parser: Parser, records: Sequence[Record], lines: Ints) -> None:
        self.parser = parser
        require(parser.other_history is None and records)
        require_types(records, dict)
        fields = self._fields_of(records, lines)
        fields = self._without_faults(records, fields)
        self.new = len(fields["process"])
        self.carried = _carried(parser, set(fields["process"]))
        self._take_columns(fields)
        self._pair()
        self._check_invocations()
        self._take_completions()

    def _fields_of(self, records: Sequence[Record], lines: Ints) -> dict[str, Any]:
        """The fields that every record has; those that must be in order are arrays."""
        sizes = set(map(len, records))
        try:
            process, kind, function, value, time, index = zip(*map(_FIELDS, records), strict=True)
            self.has_more = sizes != {6}
        except KeyError:
            process, kind, function, value, time = zip(*map(_FIELDS_BUT_INDEX, records), strict=True)
            index = tuple(r.get("index", line) for r, line in zip(records, (lines - 1).tolist(), strict=True))
            self.has_more = sizes != {5}
        times, indices = _in_order(time, self.parser.time), _in_order(index, self.parser.index)
        self.first_time, self.last_time, self.last_index = time[0], time[-1], index[-1]
        fields: dict[str, Any] = {"process": process, "type": kind, "function": function, "value": value}
        return fields | {"record": records, "time": times, "index": indices, "line": lines}

    def _without_faults(self, records: Sequence[Record], fields: dict[str, Any]) -> dict[str, Any]:
        """Set aside the records of the nemesis; returns the fields of clients."""
        self.faults: list[Record] = []
        if set(map(type, fields["process"])) == {int}:
            return fields
        require_types(fields["process"], int, str)
        require_types(chain(fields["type"], fields["function"]), str)
        is_client = [process.__class__ is int for process in fields["process"]]
        self.faults = [record for record, is_one in zip(records, is_client, strict=True) if not is_one]
        require(not any(is_deep(fault["value"]) or has_fraction(fault["value"]) for fault in self.faults))
        client = np.array(is_client, dtype=bool)
        return {
            name: column[client] if isinstance(column, np.ndarray) else list(compress(column, is_client))
            for name, column in fields.items()
        }

    def _take_columns(self, fields: dict[str, Any]) -> None:
        """The fields as columns, those of carried invocations first."""
        carried = [invocation.record for invocation in self.carried]
        self.has_more = self.has_more or not all(map(_has_no_more, carried))
        self.records = [*carried, *fields["record"]]
        self.values = [*(record["value"] for record in carried), *fields["value"]]
        self.process = _after([record["process"] for record in carried], np.array(fields["process"], dtype=np.int64))
        require((self.process >= -INT64_MAX).all())
        types, functions = [_TYPES[name] for name in fields["type"]], [_FUNCTIONS[name] for name in fields["function"]]
        self.type = np.array([_INVOKE for _ in carried] + types, dtype=np.int8)
        self.function = np.array([_FUNCTIONS[record["f"]] for record in carried] + functions, dtype=np.int8)
        self.time = _after([record["time"] for record in carried], fields["time"])
        self.index = _after([0 for _ in carried], fields["index"])
        self.line = _after([invocation.line for invocation in self.carried], fields["line"])
        self.place = _after([i.place for i in self.carried], self.parser.records + np.arange(self.new))

    def _pair(self) -> None:
        """Find the invocation of every completion: the record of the same process before it."""
        order = np.argsort(self.process, kind="stable")
        process, invokes = self.process[order], self.type[order] == _INVOKE
        begins, ends = np.ones(len(order), dtype=bool), np.ones(len(order), dtype=bool)
        begins[1:] = process[1:] != process[:-1]
        ends[:-1] = begins[1:]
        require(invokes[begins].all() and (begins[1:] | (invokes[1:] != invokes[:-1])).all())
        completes = np.flatnonzero(~invokes)
        by_place = np.argsort(order[completes])
        self.completions = order[completes][by_place]
        self.invocations = order[completes - 1][by_place]
        require((self.function[self.completions] == self.function[self.invocations]).all())
        self.still_open = np.sort(order[invokes & ends])

    def _check_invocations(self) -> None:
        """Require that no invocation knows its answer yet."""
        is_new = self.type == _INVOKE
        is_new[: len(self.carried)] = False
        for function in (Function.SEND, Function.POLL, Function.TXN):
            chosen = is_new & (self.function == function)
            if chosen.any():
                check_invoked(list(compress(self.values, chosen.tolist())), function)
        if self.has_more:
            require_types([record["abort"] for record in self.records if "abort" in record], bool)
            require(not any(has_fraction(record["error"]) for record in self.records if "error" in record))

    def _take_completions(self) -> None:
        """What the completed operations add."""
        completed = [self.records[position] for position in self.completions.tolist()]
        invoked = [self.records[position] for position in self.invocations.tolist()]
        nothing = [0] * len(completed)
        self.closing = self.means_to_abort = nothing
        self.errors: list[Any] | None = None
        self.evidence: list[tuple[int, Evidence]] = []
        if self.has_more:
            self.closing = [CLOSINGS[c.get("final", i.get("final"))] for c, i in zip(completed, invoked, strict=True)]
            self.means_to_abort = [i.get("abort", False) for i in invoked]
            self.errors = [c.get("error") for c in completed]
        self._take_data(completed, invoked)
        self._take_rare(completed)

    def _take_data(self, completed: list[Record], invoked: list[Record]) -> None:
        """What the completed sends, polls and transactions sent and read."""
        function, outcome = self.function[self.completions], self.type[self.completions]
        is_data = function <= Function.TXN
        rows = np.flatnonzero(is_data)
        values = [self.values[position] for position in self.completions[rows].tolist()]
        if None in values:
            known = (outcome[rows] == Outcome.OK).tolist()
            values = [
                invoked[row]["value"] if value is None and not is_known else value
                for value, is_known, row in zip(values, known, rows.tolist(), strict=True)
            ]
        self.messages = Messages(values, rows, function[rows])

    def _take_rare(self, completed: list[Record]) -> None:
        """What few operations have: assigned keys, rebalance logs, offsets of consumer groups."""
        function = self.function[self.completions]
        for row in np.flatnonzero((function == Function.ASSIGN) | (function == Function.SUBSCRIBE)).tolist():
            evidence = Evidence()
            add_keys(evidence, "assigned", completed[row]["value"], "")
            require(not has_fraction(completed[row]["value"]))
            self.evidence.append((row, evidence))
        if self.has_more:
            for row in np.flatnonzero(function <= Function.TXN).tolist():
                if "rebalance-log" in completed[row]:
                    evidence = Evidence()
                    add_rebalance_log(evidence, completed[row]["rebalance-log"])
                    require(not has_fraction(completed[row]["rebalance-log"]))
                    self.evidence.append((row, evidence))
        for row, group, offsets in self.messages.group_offsets:
            evidence = Evidence()
            add_group_offsets(evidence, group, offsets)
            self.evidence.append((row, evidence))

    def commit(self) -> None:
        """Add everything to the columns, and leave the parser as if it had taken each record."""
        parser, columns = self.parser, self.parser.columns
        base = len(columns)
        self._commit_operations()
        self.messages.commit(columns, base)
        for row, evidence in self.evidence:
            columns.add_evidence(base + row, evidence)
        for fault in self.faults:
            parser.take_fault(fault["process"], fault["f"], fault)
        self._commit_open()
        parser.records += self.new
        parser.first_time = self.first_time if parser.first_time is None else parser.first_time
        parser.time, parser.index = self.last_time, self.last_index

    def _commit_operations(self) -> None:
        """Add the rows of the completed operations."""
        completions, invocations = self.completions, self.invocations
        errors = [self.parser.error(error) for error in self.errors or [None] * len(completions)]
        rows: dict[str, Any] = {
            "index": self.index[completions],
            "line": self.line[completions],
            "invoked": self.place[invocations],
            "completed": self.place[completions],
            "process": self.process[completions],
            "function": self.function[completions],
            "outcome": self.type[completions],
            "closing": self.closing,
            "means_to_abort": self.means_to_abort,
            "error": errors,
            "invoked_at": self.time[invocations],
            "completed_at": self.time[completions],
        }
        for name, entries in rows.items():
            extend(self.parser.columns.operations[name], np.asarray(entries))

    def _commit_open(self) -> None:
        """Which operations are under way now."""
        parser = self.parser
        for invocation in self.carried:
            del parser.open[invocation.record["process"]]
        for position in self.still_open.tolist():
            record = self.records[position]
            invocation = Invocation(int(self.line[position]), int(self.place[position]), record)
            parser.open[record["process"]] = invocation


def _carried(parser: Parser, processes: set[Any]) -> list[Invocation]:
    """The open operations of some processes, in their order."""
    require(processes.isdisjoint(parser.without_invocation))
    carried = [parser.open[process] for process in processes if process in parser.open]
    require(all(invocation.line > parser.last_undecodable for invocation in carried))
    return sorted(carried)


def _in_order(numbers: Sequence[Any], before: int) -> Ints:
    """A column of integers that never goes backwards."""
    require_types(numbers, int)
    column = np.array(numbers, dtype=np.int64)
    require(column[0] >= before and (column[1:] >= column[:-1]).all())
    return column


def _after(before: list[int], column: Ints) -> Ints:
    """A column with a few entries put before it."""
    return np.concatenate([np.array(before, dtype=np.int64), column]) if before else column


def _has_no_more(record: Record) -> bool:
    """Whether a record has only the fields that every one has."""
    return len(record) == (6 if "index" in record else 5)
