"""An operation in few words, as they fit on its bar: `send k0: 17 @ 42`, `poll k0: 12-17 @ 40-45`."""

from __future__ import annotations

from collections.abc import Collection
from itertools import groupby

from hwmark.traces.history import NO_OFFSET, Closing, Function, History, Outcome
from hwmark.traces.timeline import Message, key_name, messages_of, shown

GROUPS_MAX, LISTED_MAX = 3, 3
FEW = 100_000
OUTCOMES = {Outcome.OK: "ok", Outcome.FAIL: "failed", Outcome.INFO: "unknown"}
CLOSINGS = {Closing.NONE: "", Closing.READ_COMMITTED: "closing ", Closing.READ_UNCOMMITTED: "closing raw "}
NAMES = {Function.DEBUG: "debug"}


def heading(history: History, row: int) -> str:
    """Which operation it is and how it ended: `#184 txn, failed`."""
    operations = history.operations
    function, outcome = Function(int(operations.function[row])), Outcome(int(operations.outcome[row]))
    closing = CLOSINGS[Closing(int(operations.closing[row]))]
    return f"#{operations.index[row]} {closing}{NAMES.get(function, function.name.lower())}, {OUTCOMES[outcome]}"


def content(history: History, row: int, focus: Collection[Message]) -> list[str]:
    """What it sent and read, one text per partition; of what it read only the partitions that `focus` is about."""
    at, micro = messages_of(history, row), history.micro
    columns = (micro.is_send, micro.key, micro.value, micro.offset)
    rows = list(zip(*(column[at].tolist() for column in columns), strict=True))
    groups = [(kind, [(v, o) for _, _, v, o in group]) for kind, group in groupby(rows, key=lambda row: row[:2])]
    keys = {key for key, _ in focus}
    told = [group for group in groups if group[0][0] or group[0][1] in keys or not keys]
    told = sorted(told or groups, key=lambda group: group[0][1] not in keys)[:GROUPS_MAX]
    texts = [_group_text(history, is_send, key, messages, focus) for (is_send, key), messages in told]
    more = sum(len(messages) for _, messages in groups) - sum(len(messages) for _, messages in told)
    return [*texts, *([f"and {more:,} more"] if more > 0 else [])] or _without_messages(history, row)


def time_text(nanoseconds: int, last: int) -> str:
    """A time since the start; in nanoseconds where the recording, which ends at `last`, has but a few of them."""
    return f"{nanoseconds} ns" if last < FEW else f"{nanoseconds / 1e9:.3f} s"


def duration_text(nanoseconds: int) -> str:
    """How long something lasted."""
    if nanoseconds < FEW:
        return f"{nanoseconds} ns"
    return f"{nanoseconds / 1e6:.1f} ms" if nanoseconds < 1e8 else f"{nanoseconds / 1e9:.2f} s"


def _without_messages(history: History, row: int) -> list[str]:
    if history.operations.function[row] in (Function.POLL, Function.TXN):
        return ["nothing" if history.operations.outcome[row] == Outcome.OK else "nothing known"]
    return []


def _group_text(
    history: History, is_send: bool, key: int, messages: list[tuple[int, int]], focus: Collection[Message]
) -> str:
    """The messages of one partition that were sent, or read, one after the other."""
    numbers, offsets = [value for value, _ in messages], [offset for _, offset in messages if offset != NO_OFFSET]
    text = f"{'send' if is_send else 'poll'} {key_name(history.keys[key])}: {_values_text(history, numbers)}"
    if offsets:
        text += f" @ {_span(min(offsets), max(offsets))}"
    among = [] if len(numbers) <= LISTED_MAX else [n for n in dict.fromkeys(numbers) if (key, n) in focus]
    return text + (f" (with {', '.join(shown(history.value(n)) for n in among[:2])})" if among else "")


def _values_text(history: History, numbers: list[int]) -> str:
    """Values one after the other as a range, a few as a list, many by their first and last."""
    values = [history.value(number) for number in numbers]
    if len(values) > 1 and all(type(value) is int for value in values):
        first = values[0]
        if isinstance(first, int) and values == list(range(first, first + len(values))):
            return _span(first, first + len(values) - 1)
    if len(values) <= LISTED_MAX:
        return ", ".join(map(shown, values))
    return f"{len(values):,} values, {shown(values[0])} to {shown(values[-1])}"


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"
