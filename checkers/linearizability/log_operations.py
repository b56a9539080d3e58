"""A partition log's operations as an operation file has them (model `partition-log`), read into columns.

The header may say `duplicates` (producers that are not idempotent may leave copies), `fetch` ("fresh", or "lagging":
answers may be those of a shorter log) and `transactions`, a list by number of how each ended ("commit", "abort",
"undecided": there is no marker, "unknown"); a transaction that it does not name is unknown unless its marker is there.
Inputs and outputs, optional fields in brackets; an output of null is an unknown outcome, and `{"failed": true}` says
that it certainly did not happen:

    append            {"value" or "values", ["txn"], ["producer", "epoch", "sequence"]}  {"offset"}
    fetch             {"from", "isolation", ["fresh", "complete"]}  {"next", ["hw"], "records": [[offset, value], ..]}
    list-offsets      {"isolation"}                           the offset
    marker            {"txn", "commit"}                       {"offset"}
    end-txn           {"txn", "commit", ["producer"]}         {}
    init-producer-id  {"producer"}                            {}

`complete` says that an answer goes up to the very end of what it may see; else it may be cut short, even to nothing,
and only its high watermark says how long the log was. Values and producers are anything; the call of a marker is that
of the EndTxn that it answers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
from hwmark.checkers.linearizability.judgement import Judgement
from hwmark.checkers.linearizability.log_columns import (
    NEVER,
    NONE,
    Appends,
    Column,
    Decision,
    EndTxns,
    Fetches,
    InitProducerIds,
    ListOffsets,
    Markers,
    PartitionLog,
)
from hwmark.checkers.linearizability.log_rule import Mode, check_log
from hwmark.traces.operations import OperationHistory, shown

MODEL = "partition-log"
DECISIONS = {
    "commit": Decision.COMMITTED,
    "abort": Decision.ABORTED,
    "undecided": Decision.UNDECIDED,
    "unknown": Decision.UNKNOWN,
}
ISOLATIONS = {"read_uncommitted": False, "read_committed": True}
OFFSET_MAX = 2**62


def check_operations(
    history: OperationHistory, mode: Mode = Mode.LINEARIZABLE, *, clock_uncertainty: int = 0
) -> Judgement:
    """Judge the operations of a file; raises BadInputError for what is no partition log."""
    log = log_of_operations(history)
    try:
        return check_log(log, mode, clock_uncertainty=clock_uncertainty)
    except ValueError as unusable:
        raise history.bad(None, str(unusable)) from None


def log_of_operations(history: OperationHistory) -> PartitionLog:
    """The columns of an operation file; raises BadInputError."""
    reader = _Reader(history)
    for operation in range(len(history)):
        reader.take(operation)
    return reader.log()


class _Reader:
    """Grows the tables, a list of rows each."""

    def __init__(self, history: OperationHistory) -> None:
        self.history = history
        self.lagging, self.duplicates, self.decisions = self._header()
        self.numbers: dict[str, dict[bytes, int]] = {"value": {}, "process": {}, "producer": {}, "txn": {}}
        self.names: dict[int, Any] = {}
        self.rows: dict[str, list[tuple[Any, ...]]] = {f: [] for f in _TAKERS}
        self.values: list[list[int]] = []
        self.records: list[list[tuple[int, int]]] = []
        self.operation = 0

    def _header(self) -> tuple[bool, bool, list[Decision]]:
        """What the header says of the whole file."""
        header = self.history.header
        fetch, duplicates = header.get("fetch", "fresh"), header.get("duplicates", False)
        transactions = header.get("transactions", [])
        if fetch not in ("fresh", "lagging"):
            raise self.history.bad(None, f'fetch {shown(fetch)}; expected "fresh" or "lagging"')
        if not isinstance(duplicates, bool):
            raise self.history.bad(None, f"duplicates {shown(duplicates)}; expected true or false")
        if not isinstance(transactions, list) or not all(isinstance(t, str) and t in DECISIONS for t in transactions):
            expected = f"expected a list of {', '.join(DECISIONS)}"
            raise self.history.bad(None, f"transactions {shown(transactions)}; {expected}")
        return fetch == "lagging", duplicates, [DECISIONS[t] for t in transactions]

    def bad(self, reason: str) -> Exception:
        """The error that blames the operation being read."""
        return self.history.bad(self.operation, reason)

    def take(self, operation: int) -> None:
        """Take one operation."""
        self.operation = operation
        f = self.history.f[operation]
        if f not in _TAKERS:
            raise self.bad(f"unknown f {f!r}; expected one of {', '.join(_TAKERS)}")
        given, answer = self.history.input[operation], self.history.output[operation]
        if not isinstance(given, dict):
            raise self.bad(f"input {shown(given)}; expected a JSON object")
        _TAKERS[f](self, given, answer)

    def add(self, f: str, *row: Any) -> None:
        """Add a row with what all tables share."""
        history, operation = self.history, self.operation
        returned = history.returned[operation]
        process = self.number("process", history.process[operation])
        self.rows[f].append(
            (operation, history.call[operation], NEVER if returned is None else returned, process, *row)
        )

    def number(self, kind: str, name: Any) -> int:
        """The number of a value, process, producer or transaction, in order of appearance."""
        numbers = self.numbers[kind]
        return numbers.setdefault(orjson.dumps(name, option=orjson.OPT_SORT_KEYS), len(numbers))

    def value(self, value: Any) -> int:
        """The number of a value."""
        number = self.number("value", value)
        self.names[number] = value
        return number

    def transaction(self, name: Any) -> int:
        """The number of a transaction: its own if the header lists transactions, NONE for null."""
        if name is None:
            return NONE
        if not self.decisions:
            return self.number("txn", name)
        if type(name) is not int or not 0 <= name < len(self.decisions):
            raise self.bad(
                f"txn {shown(name)}; expected null or a number below {len(self.decisions)}, as in the header"
            )
        return name

    def offset(self, owner: Any, field: str, what: str, *, optional: bool = False) -> int:
        """An offset in an input or output."""
        offset = owner.get(field) if isinstance(owner, dict) else owner
        if optional and offset is None:
            return NONE
        if type(offset) is not int or not 0 <= offset < OFFSET_MAX:
            raise self.bad(f"{what} {field} {shown(offset)}; expected a whole number from 0")
        return offset

    def answer(self, answer: Any) -> dict[str, Any] | None:
        """An output that is an object; None for an unknown outcome."""
        if answer is not None and not isinstance(answer, dict):
            raise self.bad(f"output {shown(answer)}; expected a JSON object or null")
        return answer

    def isolation(self, given: dict[str, Any]) -> bool:
        """Whether a read is read_committed."""
        isolation = given.get("isolation", "read_uncommitted")
        if isolation not in ISOLATIONS:
            raise self.bad(f"isolation {shown(isolation)}; expected one of {', '.join(ISOLATIONS)}")
        return ISOLATIONS[isolation]

    def flag(self, given: dict[str, Any], field: str, *, otherwise: bool | None = None) -> bool:
        """A truth value in an input or output."""
        flag = given.get(field, otherwise)
        if not isinstance(flag, bool):
            raise self.bad(f"{field} {shown(flag)}; expected true or false")
        return flag

    def append(self, given: dict[str, Any], output: Any) -> None:
        """Take an append."""
        answer = self.answer(output)
        values = given["values"] if "values" in given else [given.get("value")]
        if not isinstance(values, list) or not values or None in values:
            raise self.bad(f"append of {shown(values)}; expected a value, or a list of values that is not empty")
        producer, epoch, sequence = self._producer(given)
        failed = self.flag(answer or {}, "failed", otherwise=False)
        offset = self.offset(answer, "offset", "output", optional=True) if answer else NONE
        self.values.append([self.value(value) for value in values])
        self.add("append", offset, self.transaction(given.get("txn")), producer, epoch, sequence, failed)

    def _producer(self, given: dict[str, Any]) -> tuple[int, int, int]:
        """An idempotent producer, its epoch and the batch's sequence number; NONE thrice if it is not idempotent."""
        if given.get("sequence") is None:
            return NONE, NONE, NONE
        sequence = self.offset(given, "sequence", "input")
        epoch = self.offset(given, "epoch", "input", optional=True)
        return self.number("producer", given.get("producer")), max(epoch, 0), sequence

    def fetch(self, given: dict[str, Any], output: Any) -> None:
        """Take a fetch; one without an answer shows nothing."""
        answer = self.answer(output)
        if answer is None or self.flag(answer, "failed", otherwise=False):
            return
        start, end = self.offset(given, "from", "input"), self.offset(answer, "next", "output")
        watermark = self.offset(answer, "hw", "output", optional=True)
        records = answer.get("records")
        if not isinstance(records, list) or not all(isinstance(r, list) and len(r) == 2 for r in records):
            raise self.bad(f"records {shown(records)}; expected a list of [offset, value]")
        self.records.append([(self.offset(o, "offset", "record"), self.value(v)) for o, v in records])
        lagging = not self.flag(given, "fresh", otherwise=not self.lagging)
        complete = self.flag(given, "complete", otherwise=False)
        self.add("fetch", start, end, watermark, self.isolation(given), lagging, complete)

    def list_offsets(self, given: dict[str, Any], output: Any) -> None:
        """Take a question for the latest offset; one without an answer shows nothing."""
        if output is not None:
            self.add("list-offsets", self.isolation(given), self.offset(output, "offset", "output"))

    def marker(self, given: dict[str, Any], output: Any) -> None:
        """Take a control record."""
        answer = self.answer(output)
        offset = self.offset(answer, "offset", "output", optional=True) if answer else NONE
        self.add("marker", self._required_transaction(given), self.flag(given, "commit"), offset)

    def end_txn(self, given: dict[str, Any], output: Any) -> None:
        """Take a request to end a transaction."""
        failed = self.flag(self.answer(output) or {}, "failed", otherwise=False)
        producer = self.number("producer", given.get("producer"))
        self.add("end-txn", self._required_transaction(given), self.flag(given, "commit"), failed, producer)

    def init_producer_id(self, given: dict[str, Any], output: Any) -> None:
        """Take a new epoch of a producer; one without an answer shows nothing."""
        answer = self.answer(output)
        if answer is not None and not self.flag(answer, "failed", otherwise=False):
            self.add("init-producer-id", self.number("producer", given.get("producer")))

    def _required_transaction(self, given: dict[str, Any]) -> int:
        """The transaction that something ends."""
        if given.get("txn") is None:
            raise self.bad("txn is missing; expected the transaction that ends")
        return self.transaction(given["txn"])

    def log(self) -> PartitionLog:
        """The tables."""
        first = np.cumsum([0, *map(len, self.records)])
        offset, value = _columns([record for records in self.records for record in records], 2)
        start, end, watermark, committed, lagging, complete = self._table("fetch", 6)
        read_committed, result = self._table("list-offsets", 2)
        transaction, commits, at = self._table("marker", 3)
        ended, ends_commit, end_failed, ended_by = self._table("end-txn", 4)
        (renewed,) = self._table("init-producer-id", 1)
        return PartitionLog(
            operations=len(self.history),
            appends=self._appends(),
            fetches=Fetches(
                *self._shared("fetch"),
                start=start,
                next=end,
                high_watermark=watermark,
                read_committed=committed == 1,
                lagging=lagging == 1,
                first=first,
                offset=offset,
                value=value,
                complete=complete == 1 if complete.any() else None,
            ),
            list_offsets=ListOffsets(*self._shared("list-offsets"), read_committed == 1, result),
            markers=Markers(*self._shared("marker"), transaction, commits == 1, at),
            end_txns=EndTxns(*self._shared("end-txn"), ended, ends_commit == 1, end_failed == 1, ended_by),
            init_producer_ids=InitProducerIds(*self._shared("init-producer-id"), renewed),
            duplicates=self.duplicates,
            decisions=np.array(self.decisions, dtype=np.int64),
            names=self.names,
        )

    def _appends(self) -> Appends:
        """The table of appends, its optional columns only where some row has them."""
        offset, transaction, producer, epoch, sequence, failed = self._table("append", 6)
        single = all(len(values) == 1 for values in self.values)
        numbered = bool((sequence != NONE).any())
        return Appends(
            *self._shared("append"),
            value=np.array([value for values in self.values for value in values], dtype=np.int64),
            offset=offset,
            first=None if single else np.cumsum([0, *map(len, self.values)]),
            transaction=transaction if (transaction != NONE).any() else None,
            producer=producer if numbered else None,
            epoch=epoch if numbered else None,
            sequence=sequence if numbered else None,
            failed=failed == 1 if failed.any() else None,
        )

    def _shared(self, f: str) -> tuple[Column, Column, Column, Column]:
        """Operation, call, return and process of each row of a table."""
        operation, call, returned, process = _columns([row[:4] for row in self.rows[f]], 4)
        return operation, call, returned, process

    def _table(self, f: str, width: int) -> list[Column]:
        """The other columns of a table."""
        return _columns([row[4:] for row in self.rows[f]], width)


def _columns(rows: list[tuple[Any, ...]], width: int) -> list[Column]:
    """Rows turned into columns."""
    return list(np.array(rows, dtype=np.int64).reshape(-1, width).T.copy())


_TAKERS = {
    "append": _Reader.append,
    "fetch": _Reader.fetch,
    "list-offsets": _Reader.list_offsets,
    "marker": _Reader.marker,
    "end-txn": _Reader.end_txn,
    "init-producer-id": _Reader.init_producer_id,
}
