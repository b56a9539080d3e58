"""A partition log as it is specified, written out, and every order of the operations tried: the twin of the fast rule.

The log is a tuple of entries. An operation is possible on some logs and leads to another (see `Specification.step`):

- append puts its batch at the end and answers the offset there. An idempotent producer's next batch has the next
  sequence number of its epoch (0 in a new one); a batch that is there already is answered with the offset that it has.
  Nothing is appended to a transaction after its marker.
- a marker is appended once per transaction. EndTxn comes before it. InitProducerId comes after the markers of what its
  transactional id had ended, by an answered request, before it was called.
- list-offsets answers the length, or the last stable offset: that of the first data of a transaction without a marker.
- fetch answers data from an offset up to `next`, at most the length or the last stable offset; read_committed leaves
  out aborted data. A fresh answer has the length as its high watermark; a lagging one is that of a log that once was.

Only what was answered, or was seen, has to take effect. Producers that are not idempotent may append further copies
where that is allowed. No log needs to be longer than what anybody speaks of and the batch there, so all this is finite.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from hwmark.checkers.linearizability.log_rule import Mode
from hwmark.traces.operations import OperationHistory


class Entry(NamedTuple):
    """What stands at one offset: a record of the batch of append `append`, or, with `append` None, a marker."""

    append: int | None
    place: int
    value: Any
    transaction: int | None
    commits: bool = False


Log = tuple[Entry, ...]
UNKNOWN_MARKERS = (True, False)


class Specification:
    """The operations of a file, and what each may do to a log. Those beyond the file's are markers nobody recorded."""

    def __init__(self, history: OperationHistory) -> None:
        header = history.header
        self.f, self.input, self.output = list(history.f), list(history.input), list(history.output)
        self.call: list[float] = list(history.call)
        self.returned = list(history.returned)
        self.process: list[Any] = list(history.process)
        self.duplicates = bool(header.get("duplicates", False))
        self.lagging = header.get("fetch", "fresh") == "lagging"
        self.recorded = len(self.f)
        self._add_unknown_markers(header.get("transactions", []))
        self.count = len(self.f)
        self.reads = [f in ("fetch", "list-offsets") for f in self.f]
        self.failed = [isinstance(o, dict) and o.get("failed", False) for o in self.output]
        self.length_max = self._length_max()

    def _add_unknown_markers(self, decisions: list[str]) -> None:
        """A marker of either kind for each transaction of which nothing is known."""
        marked = {i["txn"] for f, i in zip(self.f, self.input, strict=True) if f == "marker"}
        for x, decision in enumerate(decisions):
            for commits in UNKNOWN_MARKERS if decision == "unknown" and x not in marked else ():
                self.f.append("marker")
                self.input.append({"txn": x, "commit": commits})
                self.output.append(None)
                self.call.append(float("-inf"))
                self.returned.append(None)
                self.process.append(None)

    def values(self, i: int) -> list[Any]:
        """The values of an append."""
        given = self.input[i]
        values: list[Any] = given["values"] if "values" in given else [given["value"]]
        return values

    def offset(self, i: int) -> int | None:
        """The offset that an append or marker was answered."""
        output = self.output[i]
        return output.get("offset") if isinstance(output, dict) else None

    def _length_max(self) -> int:
        """The greatest length that anybody speaks of, with room for a batch that ends behind it, and for all that was
        answered without an offset.
        """
        longest = 0
        room = max((len(self.values(i)) for i, f in enumerate(self.f) if f == "append"), default=1) - 1
        for i, f in enumerate(self.f):
            size = len(self.values(i)) if f == "append" else 1
            if f in ("append", "marker") and not self.failed[i]:
                offset = self.offset(i)
                longest = max(longest, 0 if offset is None else offset + size)
                room += size if offset is None and (f == "marker" or self.returned[i] is not None) else 0
            elif f == "list-offsets" and self.output[i] is not None:
                longest = max(longest, self.output[i])
            elif f == "fetch" and self.output[i]:
                seen = [self._end_of(record) for record in self.output[i]["records"]]
                longest = max(longest, self.output[i]["next"], self.output[i].get("hw") or 0, *seen, 0)
        numbered = [i for i, given in enumerate(self.input) if given.get("sequence") is not None]
        forced = sum(len(self.values(i)) for i in numbered if self.offset(i) is None)
        return longest + room + (forced if self._some_without_offset() else 0)

    def _some_without_offset(self) -> bool:
        """Whether some append was answered without an offset: others, of earlier numbers, may have to come before."""
        appends = [i for i, f in enumerate(self.f) if f == "append" and not self.failed[i]]
        return any(self.returned[i] is not None and self.offset(i) is None for i in appends)

    def _end_of(self, record: list[Any]) -> int:
        """The end of the batch that a fetched record belongs to."""
        for i, f in enumerate(self.f):
            if f == "append" and record[1] in self.values(i):
                return int(record[0]) - self.values(i).index(record[1]) + len(self.values(i))
        return int(record[0]) + 1

    @cached_property
    def must_happen(self) -> list[bool]:
        """Per operation: whether it was answered, or where it stands is known."""
        sure = []
        for i, f in enumerate(self.f):
            known = f in ("append", "marker") and self.offset(i) is not None
            answered = self.returned[i] is not None and (self.output[i] is not None or f in ("end-txn", "append"))
            sure.append(not self.failed[i] and (known or answered))
        return sure

    def may_repeat(self, i: int) -> bool:
        """Whether an append may leave further copies."""
        is_plain = self.input[i].get("sequence") is None and self.input[i].get("txn") is None
        return self.duplicates and self.f[i] == "append" and is_plain and not self.failed[i]

    def step(self, log: Log, i: int) -> Log | None:
        """The log after operation i, None if i is impossible on it."""
        if self.failed[i]:
            return None
        if self.f[i] == "append":
            return self._append(log, i)
        if self.f[i] == "marker":
            return self._marker(log, i)
        return log if self._is_possible(log, i) else None

    def entries(self, i: int) -> Log:
        """The entries of an append."""
        transaction = self.input[i].get("txn")
        return tuple(Entry(i, k, value, transaction) for k, value in enumerate(self.values(i)))

    def _append(self, log: Log, i: int) -> Log | None:
        """An append, or the answer to a retry of one."""
        given, offset = self.input[i], self.offset(i)
        if given.get("sequence") is not None:
            batches = [e for e in log if e.append is not None and e.place == 0]
            mine = [e for e in batches if self._producer(e) == given.get("producer")]
            for entry in mine:
                assert entry.append is not None
                same = all(self.input[entry.append].get(k) == given.get(k) for k in ("epoch", "sequence", "txn"))
                if same and self.values(entry.append) == self.values(i):
                    return log if offset in (None, log.index(entry)) else None
            if not self._is_next(mine, given):
                return None
        if given.get("txn") is not None and marker_of(log, given["txn"]) is not None:
            return None
        return log + self.entries(i) if offset in (None, len(log)) else None

    def _producer(self, entry: Entry) -> Any:
        """The idempotent producer of an entry."""
        assert entry.append is not None
        given = self.input[entry.append]
        return given.get("producer") if given.get("sequence") is not None else object()

    def _is_next(self, mine: list[Entry], given: dict[str, Any]) -> bool:
        """Whether a batch has the sequence number that comes next after a producer's others."""
        epochs = [self.input[e.append].get("epoch") or 0 for e in mine if e.append is not None]
        epoch, current = given.get("epoch") or 0, max(epochs, default=-1)
        if epoch < current:
            return False
        before = [e for e, of in zip(mine, epochs, strict=True) if of == epoch]
        return bool(given["sequence"] == sum(len(self.values(e.append)) for e in before if e.append is not None))

    def _marker(self, log: Log, i: int) -> Log | None:
        """A marker: one per transaction, of the kind that was promised."""
        x, commits = self.input[i]["txn"], self.input[i]["commit"]
        if marker_of(log, x) is not None or self.offset(i) not in (None, len(log)):
            return None
        ends = [e for e in range(self.count) if self.f[e] == "end-txn" and self.input[e]["txn"] == x]
        promised = [e for e in ends if not self.failed[e] and self.returned[e] is not None]
        if any(self.input[e]["commit"] != commits for e in promised):
            return None
        same = [e for e in ends if self.input[e]["commit"] == commits]
        if commits and same and all(self.failed[e] for e in same):
            return None
        return (*log, Entry(None, 0, None, x, commits))

    def _is_possible(self, log: Log, i: int) -> bool:
        """Whether an operation that changes nothing may be answered so."""
        given, output = self.input[i], self.output[i]
        if self.f[i] == "list-offsets":
            committed = given.get("isolation") == "read_committed"
            return bool(output == (last_stable_offset(log) if committed else len(log)))
        if self.f[i] == "fetch":
            return self._may_fetch(log, given, output)
        if self.f[i] == "end-txn":
            return i != self.first_end.get(given["txn"]) or marker_of(log, given["txn"]) is None
        return all(marker_of(log, x) is not None for x in self.ended_before[i])

    @cached_property
    def first_end(self) -> dict[int, int]:
        """Per transaction the first request to end it that may have done so."""
        ends = [i for i in range(self.count) if self.f[i] == "end-txn" and not self.failed[i]]
        return {self.input[i]["txn"]: i for i in sorted(ends, key=lambda i: (self.call[i], i), reverse=True)}

    @cached_property
    def ended_before(self) -> dict[int, list[int]]:
        """Per InitProducerId the transactions whose end had been answered, to the same producer, before its call."""
        return {
            i: [
                self.input[e]["txn"]
                for e in range(self.count)
                if self.f[e] == "end-txn" and not self.failed[e] and self._precedes(e, i)
                and self.input[e].get("producer") == self.input[i].get("producer")
            ]
            for i in range(self.count)
            if self.f[i] == "init-producer-id"
        }  # fmt: skip

    def _precedes(self, i: int, j: int) -> bool:
        """Whether i returned before j was called."""
        returned = self.returned[i]
        return returned is not None and returned < self.call[j]

    def _may_fetch(self, log: Log, given: dict[str, Any], answer: dict[str, Any]) -> bool:
        """Whether a fetch on this log may be answered so."""
        watermark, fresh = answer.get("hw"), given.get("fresh", not self.lagging)
        if watermark is not None:
            if watermark > len(log) or (fresh and watermark != len(log)):
                return False
            if watermark < len(log) and log[watermark].place > 0:
                return False
            log = log[:watermark]
        committed = given.get("isolation") == "read_committed"
        end = last_stable_offset(log) if committed else len(log)
        if answer["next"] > end or (fresh and given.get("complete") and answer["next"] != end):
            return False
        passed = range(given["from"], answer["next"])
        visible = [
            [o, log[o].value] for o in passed if log[o].append is not None and not (committed and aborted(log, o))
        ]
        return bool(visible == answer["records"] and given["from"] <= answer["next"])

    @cached_property
    def evidence(self) -> dict[int, set[Any]]:
        """Per offset the values that somebody was told to be there."""
        evidence: dict[int, set[Any]] = {}
        for i, f in enumerate(self.f):
            told: list[Any] = []
            offset = self.offset(i) if f == "append" and not self.failed[i] else None
            if offset is not None:
                told = list(enumerate(self.values(i), offset))
            elif f == "fetch" and self.must_happen[i]:
                told = self.output[i]["records"]
            for place, value in told:
                evidence.setdefault(place, set()).add(value)
        return evidence

    def may_become(self, log: Log, new_from: int) -> bool:
        """Whether a log is not longer than anybody speaks of, and nobody was told something else of its new entries."""
        if len(log) > self.length_max:
            return False
        new = range(new_from, len(log))
        return all(self.evidence[o] == {log[o].value} for o in new if o in self.evidence)

    def order_before(self, mode: Mode) -> list[int]:
        """Per operation the set (as bits) of those that have to take effect before it."""
        before = [0] * self.count
        rank = {i: (self.call[i], _or_never(self.returned[i]), i) for i in range(self.count)}
        for i in range(self.count):
            for j in range(self.count):
                same = self.process[i] == self.process[j] and self.process[i] is not None
                earlier = self._precedes(j, i) if mode is Mode.LINEARIZABLE else same and rank[j] < rank[i]
                if earlier and self.must_happen[j] and self.returned[j] is not None:
                    before[i] |= 1 << j
        return before


def _or_never(time: int | None) -> float:
    """A return that sorts."""
    return float("inf") if time is None else time


def marker_of(log: Log, transaction: int) -> Entry | None:
    """The marker of a transaction, None if it is undecided."""
    return next((e for e in log if e.append is None and e.transaction == transaction), None)


def last_stable_offset(log: Log) -> int:
    """The offset of the first data of an undecided transaction, else the length."""
    for offset, entry in enumerate(log):
        if entry.append is not None and entry.transaction is not None and marker_of(log, entry.transaction) is None:
            return offset
    return len(log)


def aborted(log: Log, offset: int) -> bool:
    """Whether the data at an offset is of an aborted transaction."""
    transaction = log[offset].transaction
    marker = None if transaction is None else marker_of(log, transaction)
    return marker is not None and not marker.commits


def is_explained(history: OperationHistory, mode: Mode) -> bool:
    """Whether some order of the operations explains them; every order is tried."""
    specification = Specification(history)
    if mode is Mode.SESSIONS:
        logs = _reachable(
            specification, [f in ("append", "marker") for f in specification.f], [0] * specification.count
        )
        return any(_sessions_hold(specification, log) for log in logs)
    everybody = [True] * specification.count
    return next(_reachable(specification, everybody, specification.order_before(mode)), None) is not None


def _reachable(specification: Specification, takes_part: list[bool], before: Sequence[int]) -> Iterator[Log]:
    """The logs after all operations of a kind that must take effect, in every order that `before` allows."""
    active = [i for i in range(specification.count) if takes_part[i] and _may_happen(specification, i)]
    copied = [i for i in active if specification.may_repeat(i)]
    goal = sum(1 << i for i in active if specification.must_happen[i])
    waiting: list[tuple[int, Log]] = [(0, ())]
    seen = set(waiting)
    while waiting:
        done, log = waiting.pop()
        if done & goal == goal:
            yield log
        following = []
        for i in active:
            if not done >> i & 1 and before[i] & ~done == 0:
                after = specification.step(log, i)
                if after is not None:
                    following.append((done | 1 << i, after))
        following += [(done, log + specification.entries(i)) for i in copied if before[i] & ~done == 0]
        for state in following:
            if state not in seen and specification.may_become(state[1], len(log)):
                seen.add(state)
                waiting.append(state)


def _may_happen(specification: Specification, i: int) -> bool:
    """Whether an operation can take effect: what failed and reads without an answer have none."""
    asked = specification.must_happen[i] or specification.f[i] in ("append", "marker", "end-txn")
    return asked and not specification.failed[i]


def _sessions_hold(specification: Specification, log: Log) -> bool:
    """Whether each process could have read what it did, never going back, from this final log."""
    lengths = [n for n in range(len(log) + 1) if n == len(log) or log[n].place == 0]
    by_process: dict[Any, list[int]] = {}
    rank = {i: (specification.call[i], _or_never(specification.returned[i]), i) for i in range(specification.count)}
    for i in sorted(rank, key=rank.__getitem__):
        by_process.setdefault(specification.process[i], []).append(i)
    for operations in by_process.values():
        shown = 0
        for i in operations:
            if not specification.must_happen[i] or specification.f[i] == "end-txn":
                continue
            least = shown if specification.reads[i] else 0
            needed = next((n for n in lengths if n >= least and _was_possible(specification, log, n, i)), None)
            if needed is None:
                return False
            shown = max(shown, needed) if specification.returned[i] is not None else shown
    return True


def _was_possible(specification: Specification, log: Log, length: int, i: int) -> bool:
    """Whether an operation had taken effect, or could have, when the log had this length."""
    if specification.f[i] == "marker":
        return marker_of(log[:length], specification.input[i]["txn"]) is not None
    if specification.f[i] == "append":
        return _has_batch(specification, log[:length], i)
    return specification.step(log[:length], i) is not None


def _has_batch(specification: Specification, log: Log, i: int) -> bool:
    """Whether an append's batch is in the log, where its producer was told."""
    offset, values = specification.offset(i), specification.values(i)
    places = [o for o in range(len(log)) if [e.value for e in log[o : o + len(values)]] == values]
    return bool(places) if offset is None else offset in places


def why_illegal(history: OperationHistory, mode: Mode, order: Sequence[int]) -> str | None:
    """Why an order, as the rule gives it, does not explain the history, None if it does.

    The operations are replayed in that order. What was answered has to be there, and after whatever the mode puts
    before it; an operation stands there several times only if it may leave copies.
    """
    specification = Specification(history)
    log: Log = ()
    done = 0
    before = specification.order_before(mode)
    if mode is Mode.SESSIONS:
        before = _session_order(specification)
    for i in order:
        if before[i] & ~done:
            return f"operation {i} stands before one that has to come before it"
        after = specification.step(log, i)
        is_copy = after is None or done >> i & 1
        if is_copy and not specification.may_repeat(i):
            return f"operation {i} is impossible or repeated on a log of length {len(log)}"
        log = log + specification.entries(i) if is_copy or after is None else after
        done |= 0 if is_copy else 1 << i
    missing = [i for i in range(specification.recorded) if specification.must_happen[i] and not done >> i & 1]
    return f"operation {missing[0]} is missing" if missing else None


def _session_order(specification: Specification) -> list[int]:
    """What comes before each read: its process's earlier reads and acknowledged appends."""
    before = specification.order_before(Mode.SEQUENTIAL)
    ends = sum(1 << i for i in range(specification.count) if specification.f[i] == "end-txn")
    return [b & ~ends if is_read else 0 for b, is_read in zip(before, specification.reads, strict=True)]
