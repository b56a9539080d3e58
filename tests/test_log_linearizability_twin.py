"""The linear rule for partition logs agrees with every order tried, on random histories and on broken ones."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hwmark.checkers.linearizability.log_operations import check_operations
from hwmark.checkers.linearizability.log_plain import (
    Entry,
    Log,
    is_explained,
    last_stable_offset,
    why_illegal,
)
from hwmark.checkers.linearizability.log_rule import Mode
from hwmark.checkers.verdict import Holds, Unknown, Violated
from hwmark.traces.operations import OperationHistory

Operation = dict[str, Any]
QUICK, DEEP = 250, 100_000

KINDS = ("raw", "duplicates", "transactions", "producers", "batches", "control")


class Run:
    """A random run of a log: operations take effect one after the other, each somewhere inside its interval."""

    def __init__(self, rng: random.Random, kind: str, lagging: bool) -> None:
        self.rng, self.kind, self.lagging = rng, kind, lagging
        self.log: Log = ()
        self.operations: list[Operation] = []
        self.clock = 0
        self.has_transactions = kind in ("transactions", "control")
        self.transactions = rng.randint(1, 2) if self.has_transactions else 0
        self.ended: dict[int, bool] = {}
        self.epoch, self.sequence = [0, 0], [0, 0]
        self.next_value = 0
        self.copied: list[int] = []
        for _ in range(rng.randint(2, 6)):
            self.clock += rng.randint(1, 3)
            rng.choice(self.moves())()
            if kind == "duplicates" and rng.random() < 0.25:
                self.copy()
        if self.has_transactions and rng.random() < 0.1:
            self.forget_a_marker()

    def moves(self) -> list[Callable[[], None]]:
        """What may happen next, more likely things several times."""
        moves = [self.append] * 5 + [self.fetch] * 3 + [self.list_offsets] * 2
        if self.has_transactions:
            moves += [self.marker] * 2
        if self.kind == "control":
            moves += [self.end_txn] * 2 + [self.init_producer_id] * 2
        return moves

    def record(self, f: str, given: Any, output: Any, *, unknown: bool = False) -> Operation:
        """Add an operation around the present moment, by a process that is free or one of its own."""
        call = self.clock - self.rng.randint(0, 6)
        returned = None if unknown else self.clock + self.rng.randint(0, 6)
        busy = {o["process"] for o in self.operations if o["return"] is not None and o["return"] > call}
        free = [p for p in range(3) if p not in busy] or [10 + len(self.operations)]
        operation = {"process": self.rng.choice(free), "f": f, "input": given, "output": output}
        self.operations.append(operation | {"call": call, "return": returned})
        return self.operations[-1]

    def append(self) -> None:
        """An append: answered, of unknown outcome (and there or not), failed, answered without offset, or a retry."""
        rng = self.rng
        size = rng.choice((1, 1, 2, 3)) if self.kind == "batches" else 1
        values = list(range(self.next_value, self.next_value + size))
        self.next_value += size
        open_transactions = [x for x in range(self.transactions) if x not in self.ended]
        x = rng.choice([None, *open_transactions, *open_transactions])
        given: Operation = {"values": values} if size > 1 else {"value": values[0]}
        given["txn"] = x
        if self.kind == "producers" or (self.kind == "batches" and rng.random() < 0.5):
            self.number(given, size)
        fate = rng.random()
        offset = len(self.log)
        if fate < 0.6 or (fate >= 0.9 and rng.random() < 0.5):
            self.write(given, values)
            operation = self.record("append", given, {"offset": offset})
            if rng.random() < 0.1:
                operation["output"] = {}
        elif fate < 0.9:
            operation = self.record("append", given, None, unknown=True)
            if rng.random() < 0.6:
                self.write(given, values)
            elif "sequence" in given:
                self.give_up(given, size)
        else:
            self.record("append", given, {"failed": True})
            if "sequence" in given:
                self.give_up(given, size)
            return
        if "sequence" in given and rng.random() < 0.3 and len(self.log) > offset:
            self.clock += 1
            answer = rng.choice(({"offset": offset}, {"offset": offset}, None, {}))
            self.record("append", given, answer, unknown=answer is None)

    def number(self, given: Operation, size: int) -> None:
        """The next sequence number of a producer, now and then in a new epoch."""
        p = self.rng.randrange(2)
        if self.rng.random() < 0.15:
            self.epoch[p], self.sequence[p] = self.epoch[p] + 1, 0
        given |= {"producer": p, "epoch": self.epoch[p], "sequence": self.sequence[p]}
        self.sequence[p] += size

    def give_up(self, given: Operation, size: int) -> None:
        """What is not in the log takes no sequence number: the producer goes on in a new epoch, or with the number."""
        p = given["producer"]
        if self.rng.random() < 0.7:
            self.epoch[p], self.sequence[p] = self.epoch[p] + 1, 0
        else:
            self.sequence[p] -= size

    def write(self, given: Operation, values: list[int]) -> None:
        """Put a batch at the end of the log."""
        append = len(self.operations)
        self.log += tuple(Entry(append, k, value, given.get("txn")) for k, value in enumerate(values))
        self.copied.append(values[0])

    def copy(self) -> None:
        """A delayed retry of a producer that is not idempotent."""
        if self.copied and len(self.log) < 5:
            self.log += (Entry(0, 0, self.rng.choice(self.copied), None),)

    def marker(self) -> None:
        """The end of a transaction."""
        undecided = [x for x in range(self.transactions) if x not in self.ended]
        if undecided:
            x, commits = self.rng.choice(undecided), self.rng.random() < 0.6
            self.end(x, commits)

    def end(self, x: int, commits: bool) -> None:
        """Write a marker; now and then nobody recorded where."""
        self.ended[x] = commits
        output = {"offset": len(self.log)} if self.rng.random() < 0.85 else None
        self.log += (Entry(None, 0, None, x, commits),)
        self.record("marker", {"txn": x, "commit": commits}, output, unknown=True)

    def end_txn(self) -> None:
        """A request to end a transaction, and mostly its marker, or one that fails."""
        undecided = [x for x in range(self.transactions) if x not in self.ended]
        if not undecided:
            return
        x, commits, fate = self.rng.choice(undecided), self.rng.random() < 0.6, self.rng.random()
        given = {"txn": x, "commit": commits, "producer": x % 2}
        output = {"failed": True} if fate < 0.15 else {}
        self.record("end-txn", given, output, unknown=0.15 < fate < 0.3)
        if fate > 0.3 and self.rng.random() < 0.8:
            self.clock += 1
            self.end(x, commits)

    def init_producer_id(self) -> None:
        """A new epoch of a transactional id, not before what it ended is written."""
        producer = self.rng.randrange(2)
        ends = [o["input"] for o in self.operations if o["f"] == "end-txn"]
        if all(e["txn"] in self.ended for e in ends if e["producer"] == producer):
            self.record("init-producer-id", {"producer": producer}, {})

    def isolation(self) -> str:
        """An isolation level."""
        return self.rng.choice(("read_uncommitted", "read_committed" if self.has_transactions else "read_uncommitted"))

    def fetch(self) -> None:
        """A fetch of the log, or of a shorter one where answers may lag."""
        rng, isolation = self.rng, self.isolation()
        ends = [n for n in range(len(self.log) + 1) if n == len(self.log) or self.log[n].place == 0]
        fresh = not self.lagging or rng.random() < 0.2
        log = self.log if fresh else self.log[: rng.choice(ends)]
        end = last_stable_offset(log) if isolation == "read_committed" else len(log)
        complete = rng.random() < 0.2
        until = end if complete or rng.random() < 0.6 else rng.randint(0, end)
        start = rng.randint(0, until)
        given = {"from": start, "isolation": isolation, "fresh": fresh, "complete": complete}
        gone = {x for x, commits in self.ended.items() if not commits and isolation == "read_committed"}
        data = [[o, log[o].value] for o in range(start, until) if log[o].append is not None]
        records = [record for record in data if log[record[0]].transaction not in gone]
        watermark = len(log) if rng.random() < 0.6 else None
        self.record("fetch", given, {"next": until, "hw": watermark, "records": records})

    def list_offsets(self) -> None:
        """The latest offset."""
        isolation = self.isolation()
        end = last_stable_offset(self.log) if isolation == "read_committed" else len(self.log)
        self.record("list-offsets", {"isolation": isolation}, end)

    def forget_a_marker(self) -> None:
        """Lose what was recorded of a marker."""
        markers = [o for o in self.operations if o["f"] == "marker"]
        if markers:
            self.operations.remove(self.rng.choice(markers))

    def history(self) -> OperationHistory:
        """The operations as a file has them."""
        marked = {o["input"]["txn"] for o in self.operations if o["f"] == "marker"}
        decisions = [
            "commit" if x in marked else "unknown" if x in self.ended else "undecided" for x in range(self.transactions)
        ]
        header = {"model": "partition-log", "duplicates": self.kind == "duplicates", "transactions": decisions}
        header["fetch"] = "lagging" if self.lagging else "fresh"
        columns = [
            [o[field] for o in self.operations] for field in ("process", "f", "input", "output", "call", "return")
        ]
        return OperationHistory("random", header, *columns)


Mutation = Callable[[random.Random, list[Operation]], bool]


def pick(rng: random.Random, operations: list[Operation], *fs: str, known: bool = True) -> Operation | None:
    """A random operation of these kinds, with an answer if `known`."""
    some = [o for o in operations if o["f"] in fs and (o["output"] or not known or o["output"] == 0)]
    return rng.choice(some) if some else None


def shift_time(rng: random.Random, operations: list[Operation]) -> bool:
    operation = rng.choice(operations)
    by = rng.choice((-10, -6, -3, 3, 6, 10))
    operation["call"] += by
    if operation["return"] is not None:
        operation["return"] += by
    return True


def open_gap(rng: random.Random, operations: list[Operation]) -> bool:
    """From some offset on everything that was acknowledged stands one further."""
    operation = pick(rng, operations, "append")
    if operation is None or "offset" not in operation["output"]:
        return False
    operation["output"] = {"offset": operation["output"]["offset"] + 1}
    return True


def same_offset(rng: random.Random, operations: list[Operation]) -> bool:
    placed = [o for o in operations if o["f"] == "append" and o["output"] and "offset" in o["output"]]
    if len(placed) < 2:
        return False
    one, other = rng.sample(placed, 2)
    one["output"] = dict(other["output"])
    return True


def repeat_value(rng: random.Random, operations: list[Operation]) -> bool:
    """A fetch shows a value of another offset."""
    seen = [r for o in operations if o["f"] == "fetch" for r in o["output"]["records"]]
    values = [v for o in operations if o["f"] == "append" for v in o["input"].get("values", [o["input"].get("value")])]
    if not seen or len(values) < 2:
        return False
    rng.choice(seen)[1] = rng.choice(values)
    return True


def phantom(rng: random.Random, operations: list[Operation]) -> bool:
    seen = [r for o in operations if o["f"] == "fetch" for r in o["output"]["records"]]
    if not seen:
        return False
    rng.choice(seen)[1] = 99
    return True


def hole(rng: random.Random, operations: list[Operation]) -> bool:
    """A fetch leaves out a record, or takes one more offset."""
    full = [o["output"]["records"] for o in operations if o["f"] == "fetch" and o["output"]["records"]]
    if not full:
        return False
    records = rng.choice(full)
    del records[rng.randrange(len(records))]
    return True


def disorder(rng: random.Random, operations: list[Operation]) -> bool:
    full = [o["output"]["records"] for o in operations if o["f"] == "fetch" and len(o["output"]["records"]) > 1]
    if not full:
        return False
    rng.choice(full).reverse()
    return True


def move_next(rng: random.Random, operations: list[Operation]) -> bool:
    operation = pick(rng, operations, "fetch")
    if operation is None:
        return False
    operation["output"]["next"] = max(0, operation["output"]["next"] + rng.choice((-1, 1)))
    return True


def move_stable_offset(rng: random.Random, operations: list[Operation]) -> bool:
    lists = [o for o in operations if o["f"] == "list-offsets" and o["input"]["isolation"] == "read_committed"]
    if not lists:
        return False
    operation = rng.choice(lists)
    operation["output"] = max(0, operation["output"] + rng.choice((-1, 1)))
    return True


def move_watermark(rng: random.Random, operations: list[Operation]) -> bool:
    """A fetch's high watermark, or the latest offset."""
    operation = pick(rng, operations, "fetch", "list-offsets")
    if operation is None:
        return False
    by = rng.choice((-1, 1))
    if operation["f"] == "list-offsets":
        operation["output"] = max(0, operation["output"] + by)
    else:
        operation["output"]["hw"] = max(0, (operation["output"]["hw"] or 0) + by)
    return True


def move_marker(rng: random.Random, operations: list[Operation]) -> bool:
    """A marker changes places with whatever stands beside it."""
    operation = pick(rng, operations, "marker")
    if operation is None:
        return False
    at = operation["output"]["offset"]
    to = max(0, at + rng.choice((-1, 1)))
    for other in operations:
        if other["f"] in ("append", "marker") and other["output"] and other["output"].get("offset") == to:
            other["output"] = {"offset": at}
    operation["output"] = {"offset": to}
    return True


def other_ending(rng: random.Random, operations: list[Operation]) -> bool:
    operation = pick(rng, operations, "marker", "end-txn", known=False)
    if operation is None:
        return False
    operation["input"] = operation["input"] | {"commit": not operation["input"]["commit"]}
    return True


def no_ending(rng: random.Random, operations: list[Operation]) -> bool:
    """EndTxn is answered, and the log has no marker for it."""
    operation = pick(rng, operations, "marker", known=False)
    if operation is None:
        return False
    operations.remove(operation)
    return True


def other_sequence(rng: random.Random, operations: list[Operation]) -> bool:
    numbered = [o for o in operations if o["input"].get("sequence") is not None]
    if not numbered:
        return False
    operation = rng.choice(numbered)
    sequence = max(0, operation["input"]["sequence"] + rng.choice((-1, 1)))
    change_everywhere(operations, operation, {"sequence": sequence})
    return True


def other_epoch(rng: random.Random, operations: list[Operation]) -> bool:
    numbered = [o for o in operations if o["input"].get("sequence") is not None]
    if not numbered:
        return False
    operation = rng.choice(numbered)
    change_everywhere(operations, operation, {"epoch": max(0, operation["input"]["epoch"] + rng.choice((-1, 1)))})
    return True


def change_everywhere(operations: list[Operation], operation: Operation, change: Operation) -> None:
    """Change the input of an append and of its retries: a value belongs to one batch."""
    value = operation["input"].get("value"), operation["input"].get("values")
    for other in operations:
        if other["f"] == "append" and (other["input"].get("value"), other["input"].get("values")) == value:
            other["input"] = other["input"] | change


def other_answer_to_a_retry(rng: random.Random, operations: list[Operation]) -> bool:
    """A retry is told another offset than the original: DUPLICATE_SEQUENCE has to give the same."""
    values = Counter(str(o["input"]) for o in operations if o["f"] == "append")
    retries = [o for o in operations if o["f"] == "append" and values[str(o["input"])] > 1 and o["output"]]
    if not retries or "offset" not in retries[-1]["output"]:
        return False
    retries[-1]["output"] = {"offset": retries[-1]["output"]["offset"] + 1}
    return True


def fail_after_all(rng: random.Random, operations: list[Operation]) -> bool:
    operation = pick(rng, operations, "append", known=False)
    if operation is None:
        return False
    operation["output"] = {"failed": True}
    operation["return"] = operation["call"] if operation["return"] is None else operation["return"]
    return True


MUTATIONS: dict[str, tuple[Mutation, tuple[str, ...]]] = {
    "time": (shift_time, KINDS),
    "gap": (open_gap, KINDS),
    "agreement": (same_offset, KINDS),
    "duplicate": (repeat_value, KINDS),
    "phantom": (phantom, KINDS),
    "hole": (hole, KINDS),
    "disorder": (disorder, KINDS),
    "next": (move_next, KINDS),
    "watermark": (move_watermark, KINDS),
    "failed": (fail_after_all, KINDS),
    "stable offset": (move_stable_offset, ("transactions", "control")),
    "marker order": (move_marker, ("transactions", "control")),
    "ending": (other_ending, ("control",)),
    "no ending": (no_ending, ("control",)),
    "sequence": (other_sequence, ("producers", "batches")),
    "epoch": (other_epoch, ("producers", "batches")),
    "retry": (other_answer_to_a_retry, ("producers",)),
}


def random_history(rng: random.Random, kind: str, lagging: bool) -> tuple[str | None, OperationHistory]:
    """A history, half of the time with a mutation, and that mutation's name."""
    run = Run(rng, kind, lagging)
    if not run.operations:
        return random_history(rng, kind, lagging)
    history = run.history()
    if rng.random() < 0.5:
        return None, history
    names = [name for name, (_, kinds) in MUTATIONS.items() if kind in kinds]
    name = rng.choice(names)
    return (name if MUTATIONS[name][0](rng, run.operations) else None), run_again(run, history)


def run_again(run: Run, before: OperationHistory) -> OperationHistory:
    """The mutated operations under the header that they had before."""
    after = run.history()
    return OperationHistory(
        "random", before.header, after.process, after.f, after.input, after.output, after.call, after.returned
    )


def disagreement(history: OperationHistory, mode: Mode, counts: Counter[str]) -> str | None:
    """What is wrong with the rule's judgement of a history, None if nothing is."""
    judgement, explained = check_operations(history, mode), is_explained(history, mode)
    match judgement.verdict:
        case Unknown(why):
            depends_on_markers = "unknown" in history.header["transactions"]
            counts["unknown" if depends_on_markers else "limit"] += 1
            return None if depends_on_markers or "may be at" in why else f"unknown: {why}"
        case Holds():
            assert judgement.order is not None
            return (
                why_illegal(history, mode, judgement.order) if explained else "the rule has an order, and there is none"
            )
        case Violated(name, witness):
            counts["violated"] += 1
            counts[name] += 1
            if not witness.operations or not witness.sentence:
                return "no witness"
            return f"there is an order, but {witness.sentence}" if explained else None


def compare(kind: str, lagging: bool, mode: Mode, histories: int, seed: int) -> tuple[Counter[str], Counter[str]]:
    """Compare many histories; returns how many had which verdict, and which mutations made one that is violated."""
    rng = random.Random(f"{seed} {kind} {lagging} {mode.value}")
    counts: Counter[str] = Counter()
    caught: Counter[str] = Counter()
    for number in range(histories):
        mutation, history = random_history(rng, kind, lagging)
        before = counts["violated"]
        wrong = disagreement(history, mode, counts)
        assert wrong is None, f"seed {seed}, history {number}, {mutation}: {wrong}\n{told(history)}"
        if counts["violated"] > before and mutation is not None:
            caught[mutation] += 1
    return counts, caught


def told(history: OperationHistory) -> str:
    """A history as lines to read."""
    rows = zip(history.process, history.f, history.input, history.output, history.call, history.returned, strict=True)
    return "\n".join([str(history.header), *(f"{i}: {row}" for i, row in enumerate(rows))])


MODES = [
    pytest.param(kind, lagging, mode, id=f"{kind}-{'lagging' if lagging else 'fresh'}-{mode.value}")
    for kind in KINDS
    for lagging in (False, True)
    for mode in Mode
]


@pytest.mark.parametrize(("kind", "lagging", "mode"), MODES)
def test_agrees_with_every_order_tried(kind: str, lagging: bool, mode: Mode) -> None:
    counts, _ = compare(kind, lagging, mode, QUICK, seed=1)
    assert QUICK // 50 < counts["violated"] < QUICK * 2 // 3
    assert counts["unknown"] < QUICK // 10 and counts["limit"] <= 1


@pytest.mark.deep
@pytest.mark.parametrize(("kind", "lagging", "mode"), MODES)
def test_agrees_with_every_order_tried_in_depth(kind: str, lagging: bool, mode: Mode) -> None:
    """As many for each mode and way of fetching, in equal parts over the kinds of log."""
    histories = DEEP // len(KINDS)
    counts, caught = compare(kind, lagging, mode, histories, seed=2)
    assert histories // 50 < counts["violated"] < histories * 2 // 3
    assert counts["limit"] <= histories // 200
    assert {name for name, (_, kinds) in MUTATIONS.items() if kind in kinds} - {"time"} <= set(caught)


@pytest.mark.parametrize("name", MUTATIONS)
def test_every_mutation_is_caught(name: str) -> None:
    """Some history holds before it is broken in this way, and not after."""
    mutate, kinds = MUTATIONS[name]
    rng = random.Random(name)
    for _ in range(3000):
        run = Run(rng, rng.choice(kinds), lagging=rng.random() < 0.3)
        before = run.history()
        if not isinstance(check_operations(before).verdict, Holds) or not mutate(rng, run.operations):
            continue
        after = run_again(run, before)
        if isinstance(check_operations(after).verdict, Violated):
            assert not is_explained(after, Mode.LINEARIZABLE)
            return
    pytest.fail(f"no history broken by {name!r} was caught")
