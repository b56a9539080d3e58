"""What each operation of a slice says about the log, as formulas and in words.

The log of the slice is: for every message whether it is *present* (committed), and where (`at`, an offset); for every
operation of unknown outcome whether it *committed*. Each fact is a claim about these that one operation makes, or two
do together; a claim of nobody (a value was never sent) belongs to the recording itself. The facts:

- A sender that was acknowledged: the message is present, at the offset it was told. One that failed: it is not present.
  One of unknown outcome: all that it sent is present if it committed, else nothing; not if it meant to abort. It may
  take effect at any time after it was invoked, even after everybody has stopped looking.
- A reader: the message is present, there. The closing read_uncommitted read says only where. Nobody can have read what
  the same operation sent, and had not committed yet.
- A poll that returned two messages of a partition one right after the other: they lie in this order and nothing present
  lies between. The same of a process's next poll, unless its consumers subscribed or the partitions were assigned anew.
- A sender that sent two messages to a partition: they lie in this order.
- Real time: what was sent after something had been acknowledged or read lies behind it.
- The closing read_committed read: what it lacks is not present, or lies behind all it returned because its sender had
  not been acknowledged by then.

Not encoded: how far a reader should have got, cycles of operations that depend on each other, and the offsets of
consumer groups.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import z3
from hwmark.checkers.histories.explain_slice import Slice, Surroundings
from hwmark.checkers.histories.showing import span
from hwmark.traces.history import NO_OFFSET, Closing, Function, Outcome

BACK_MAX = 1000


class Log:
    """The unknowns of a slice."""

    def __init__(self) -> None:
        self.context = z3.Context()
        # Making a variable takes longer than looking it up, and the same few occur in every claim.
        self.present, self.at = cache(self._present), cache(self._at)

    def _present(self, message: int) -> z3.BoolRef:
        """Whether a message is in the log."""
        return z3.Bool(f"present{message}", self.context)

    def _at(self, message: int) -> z3.ArithRef:
        """Its offset, if it is."""
        return z3.Int(f"at{message}", self.context)

    def committed(self, operation: int) -> z3.BoolRef:
        """Whether an operation of unknown outcome committed."""
        return z3.Bool(f"committed{operation}", self.context)

    def ordered(self, before: int, after: int) -> z3.BoolRef:
        """Two messages lie in this order, if both are present."""
        both = z3.And(self.present(before), self.present(after))
        return z3.Implies(both, self.at(before) < self.at(after))

    def nothing_between(self, low: int, high: int, others: list[int]) -> z3.BoolRef:
        """Two messages lie in this order, and no present one between them."""
        first, last = self.at(low), self.at(high)
        beside = [z3.Or(z3.Not(self.present(m)), self.at(m) <= first, last <= self.at(m)) for m in others]
        return z3.And(first < last, *beside)


@dataclass(frozen=True)
class Fact:
    """A claim about the log, who makes it (rows of `history.operations`), and in words."""

    by: frozenset[int]
    claim: z3.BoolRef
    words: str


class Facts:
    """All facts of a slice; `via` is how its consumers got their partitions."""

    def __init__(self, surroundings: Surroundings, part: Slice, via: str = "assign") -> None:
        self.surroundings, self.part, self.via = surroundings, part, via
        self.evidence, self.history = surroundings.evidence, surroundings.history
        self.operations, self.micro = self.history.operations, self.history.micro
        self.log = Log()
        self.unknown: set[int] = set()
        # A partner of a message of the slice in a poll belongs to the log, though nothing else is asked about it.
        self.messages = dict.fromkeys(part.messages)
        self.facts = [f for find in _FINDERS for f in find(self)]

    def axioms(self) -> Iterator[z3.BoolRef]:
        """What holds of every log: offsets count from 0 and hold one message each."""
        messages, log = list(self.messages), self.log
        for number, one in enumerate(messages):
            yield log.at(one) >= 0
            for other in messages[:number]:
                if self.key(one) == self.key(other):
                    both = z3.And(log.present(one), log.present(other))
                    yield z3.Implies(both, log.at(one) != log.at(other))

    def key(self, message: int) -> int:
        """A message's key, by position."""
        return int(self.evidence.message_key[message])

    def name(self, operation: int) -> str:
        """An operation in words."""
        return f"operation {self.operations.index[operation]}"

    def told(self, message: int) -> str:
        """A message in words."""
        return f"value {self.evidence.value_of(message)} of key {self.evidence.key_of(message)}"

    def of_row(self, row: int) -> tuple[int, int, int]:
        """A micro-operation's operation, message and offset."""
        return int(self.micro.operation[row]), int(self.evidence.message[row]), int(self.micro.offset[row])

    def happened_before(self, one: int, other: int) -> bool:
        """Whether an operation was over before another began."""
        return bool(self.operations.completed[one] < self.operations.invoked[other])


def _at(offset: int) -> str:
    return f" at offset {offset}" if offset != NO_OFFSET else ""


def _sent(facts: Facts) -> Iterator[Fact]:
    """What the senders say."""
    log, senders = facts.log, _senders(facts)
    unknown: dict[int, list[tuple[int, int]]] = {}
    for message in facts.part.messages:
        rows = senders.get(message, [])
        if not rows:
            claim = z3.Not(log.present(message))
            yield Fact(frozenset(), claim, f"no operation of the recording sent {facts.told(message)}")
        if len({facts.of_row(row)[0] for row in rows}) != 1:
            continue
        operation, _, offset = facts.of_row(rows[-1])
        who, what, where = facts.name(operation), facts.told(message), _at(offset)
        match Outcome(int(facts.operations.outcome[operation])):
            case Outcome.OK:
                claim = z3.And(log.present(message), *([log.at(message) == offset] if where else []))
                yield Fact(frozenset({operation}), claim, f"{who} was acknowledged with {what}{where}")
            case Outcome.FAIL:
                yield Fact(frozenset({operation}), z3.Not(log.present(message)), f"{who} sent {what} and failed")
            case Outcome.INFO:
                unknown.setdefault(operation, []).append((message, offset))
    for operation, sent in unknown.items():
        yield from _sent_unknown(facts, operation, sent)


def _senders(facts: Facts) -> dict[int, list[int]]:
    """The rows that sent each message."""
    found: dict[int, list[int]] = {}
    for row in facts.part.sends:
        found.setdefault(facts.of_row(row)[1], []).append(row)
    return found


def _sent_unknown(facts: Facts, operation: int, sent: list[tuple[int, int]]) -> Iterator[Fact]:
    """What an operation of unknown outcome says: all or nothing."""
    log, who, by = facts.log, facts.name(operation), frozenset({operation})
    facts.unknown.add(operation)
    all_or_none = [log.present(message) == log.committed(operation) for message, _ in sent]
    what = " and ".join(facts.told(message) for message, _ in sent)
    together = ", all or nothing" if len(sent) > 1 else ""
    yield Fact(by, z3.And(*all_or_none), f"{who}, whose outcome is unknown, sent {what}{together}")
    for message, offset in sent:
        if offset != NO_OFFSET:
            claim = z3.Implies(log.present(message), log.at(message) == offset)
            yield Fact(by, claim, f"{who} was told offset {offset} for {facts.told(message)}")
    if facts.operations.means_to_abort[operation] == 1:
        yield Fact(by, z3.Not(log.committed(operation)), f"{who} meant to abort")


def _read(facts: Facts) -> Iterator[Fact]:
    """What the readers say."""
    log = facts.log
    for row in facts.part.reads:
        operation, message, offset = facts.of_row(row)
        is_raw = facts.evidence.closing[row] == Closing.READ_UNCOMMITTED
        claims = [] if is_raw else [log.present(message)]
        claims += _placed(facts, row)
        verb = "saw (uncommitted or not)" if is_raw else "read"
        words = f"{facts.name(operation)} {verb} {facts.told(message)}{_at(offset)}"
        if claims:
            yield Fact(frozenset({operation}), z3.And(*claims), words)
        if not is_raw and facts.evidence.writer[message] == operation:
            words += ", which it had itself sent and not yet committed"
            yield Fact(frozenset({operation}), z3.BoolVal(False, log.context), words)


def _polled_in_a_row(facts: Facts) -> Iterator[Fact]:
    """What polls say by returning two messages one right after the other."""
    log, seen = facts.log, set()
    wanted = set(facts.part.messages)
    for row in facts.part.reads:
        for low, high in _pairs(facts, row):
            (one, before, _), (other, after, _) = facts.of_row(low), facts.of_row(high)
            if (low, high) in seen:
                continue
            seen.add((low, high))
            facts.messages |= {before: None, after: None}
            others = sorted(m for m in wanted - {before, after} if facts.key(m) == facts.key(before))
            first = f"{facts.name(other)} read {facts.told(after)} right after {facts.told(before)}"
            words = first + (f", with which {facts.name(one)} had ended" if one != other else "")
            claims = [log.nothing_between(before, after, others), *_placed(facts, low), *_placed(facts, high)]
            yield Fact(frozenset({one, other}), z3.And(*claims), words)


def _placed(facts: Facts, row: int) -> list[z3.BoolRef]:
    """Where a read found its message, if it says so."""
    _, message, offset = facts.of_row(row)
    return [facts.log.at(message) == offset] if offset != NO_OFFSET else []


def _pairs(facts: Facts, row: int) -> Iterator[tuple[int, int]]:
    """A read with the one before and the one after it, of the same key, by the same operation or its process."""
    operation, message, _ = facts.of_row(row)
    if facts.evidence.closing[row] == Closing.READ_UNCOMMITTED:
        return
    rows = _rows_of(facts, operation, facts.key(message))
    at = int(np.searchsorted(rows, row))
    if not _is_rebalanced(facts, operation, facts.key(message)):
        yield from ((int(rows[i]), int(rows[i + 1])) for i in (at - 1, at) if 0 <= i < len(rows) - 1)
    if at == 0 and facts.via == "assign":
        before = _last_read_before(facts, operation, facts.key(message))
        if before is not None:
            yield before, row


def _rows_of(facts: Facts, operation: int, key: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The reads of a key by an operation, in order."""
    low, high = span(facts.micro.operation, operation)
    found: np.ndarray[tuple[int], np.dtype[np.int64]] = low + np.flatnonzero(
        ~facts.evidence.is_send[low:high] & (facts.micro.key[low:high] == key)
    )
    return found


def _is_rebalanced(facts: Facts, operation: int, key: int) -> bool:
    """Whether an operation's rebalance log names a key."""
    table = facts.history.rebalanced
    low, high = span(table.operation, operation)
    return bool((table.key[low:high] == key).any())


def _last_read_before(facts: Facts, operation: int, key: int) -> int | None:
    """The last read of a key by the acknowledged operations of a process before one, while the key stays assigned."""
    operations = facts.operations
    for earlier in facts.surroundings.before(operation, BACK_MAX):
        is_assign = operations.function[earlier] in (Function.ASSIGN, Function.SUBSCRIBE)
        if is_assign and operations.outcome[earlier] != Outcome.FAIL and not _is_assigned(facts, earlier, key):
            return None
        is_ok = operations.outcome[earlier] == Outcome.OK
        if is_ok and operations.function[earlier] in (Function.POLL, Function.TXN):
            rows = _rows_of(facts, earlier, key)
            if len(rows):
                return int(rows[-1])
            low, high = span(facts.history.empty_reads.operation, earlier)
            if (facts.history.empty_reads.key[low:high] == key).any():
                return None
    return None


def _is_assigned(facts: Facts, operation: int, key: int) -> bool:
    """Whether an assign or subscribe names a key."""
    table = facts.history.assigned
    low, high = span(table.operation, operation)
    return bool((table.key[low:high] == key).any())


def _sent_in_order(facts: Facts) -> Iterator[Fact]:
    """What operations say by sending two messages to a partition, one after the other."""
    last: dict[tuple[int, int], int] = {}
    for row in facts.part.sends:
        operation, message, _ = facts.of_row(row)
        place = operation, facts.key(message)
        if place in last and last[place] != message:
            words = f"{facts.name(operation)} sent {facts.told(message)} after {facts.told(last[place])}"
            yield Fact(frozenset({operation}), facts.log.ordered(last[place], message), words)
        last[place] = message


def _in_real_time(facts: Facts) -> Iterator[Fact]:
    """What was sent after something had been acknowledged or read."""
    log = facts.log
    sends = facts.part.sends
    told = [row for row in sends if facts.of_row(row)[2] != NO_OFFSET and facts.evidence.outcome[row] == Outcome.OK]
    for early in told + facts.part.reads:
        for late in facts.part.sends:
            (one, before, _), (other, after, _) = facts.of_row(early), facts.of_row(late)
            if facts.key(before) != facts.key(after) or not facts.happened_before(one, other):
                continue
            if before == after and early in sends:
                continue
            words = f"{facts.name(one)} was over before {facts.name(other)} sent {facts.told(after)}"
            claim = z3.Not(log.present(after)) if before == after else log.ordered(before, after)
            yield Fact(frozenset({one, other}), claim, words)


def _closed(facts: Facts) -> Iterator[Fact]:
    """What the closing read_committed read says of the messages that it lacks."""
    log, polls = facts.log, facts.surroundings.closing
    for message in facts.part.messages:
        if polls is None or not facts.surroundings.lacks(message):
            continue
        around, writer, end = polls.lacking(message), int(facts.evidence.writer[message]), polls.end(facts.key(message))
        behind = z3.Implies(log.present(message), log.at(message) > end)
        words = f"the closing read ({_names(facts, around)}) lacks {facts.told(message)}"
        yield Fact(frozenset(around), behind, words)
        if writer >= 0 and facts.operations.outcome[writer] == Outcome.OK and facts.happened_before(writer, polls.last):
            claim = z3.Not(log.present(message))
            words = (
                f"the closing read went on until after {facts.name(writer)} was over and lacks {facts.told(message)}"
            )
            yield Fact(frozenset({*around, polls.last, writer}), claim, words)


def _names(facts: Facts, operations: set[int]) -> str:
    """Several operations in words."""
    indices = sorted(int(facts.operations.index[operation]) for operation in operations)
    return f"operation{'s' if len(indices) > 1 else ''} {' and '.join(map(str, indices))}"


_FINDERS: list[Callable[[Facts], Iterator[Fact]]] = [
    _sent,
    _read,
    _polled_in_a_row,
    _sent_in_order,
    _in_real_time,
    _closed,
]
