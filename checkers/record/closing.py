"""The closing reads: each partition from its beginning to its end, at both isolation levels.

First the cluster settles: transactions have ended (the last stable offset is the high watermark), replicas are in sync,
and ends no longer move. Then a read is complete if every partition said "end of partition" at or behind the end offset
that the cluster told, nothing was deleted at its beginning, and the ends are the same afterwards. If not, the history
says why, and what it lacks is unknown, not lost.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from hwmark.checkers.record.clients import name_of
from hwmark.checkers.record.outcomes import INFO, NOT_ALLOWED, OK
from hwmark.checkers.record.readers import group_of, sorted_out
from hwmark.checkers.record.run import Run
from hwmark.checkers.record.topics import Offsets, are_in_sync, offsets
from hwmark.checkers.record.transactions import fence, names_of
from hwmark.checkers.record.workload import Key, Workload

ISOLATIONS = ("read_committed", "read_uncommitted")
FENCE_TIMEOUT = 10.0
SYNC_TIMEOUT = 20.0
SETTLE_TIMEOUT = 30.0  # s beyond the transactions' own
STABLE = 1.0  # s for which ends do not move
STALL = 20.0  # s without a record after which a read is given up
BATCH_MAX, WAIT = 5000, 0.2
POLL = 0.2
GONE = "the cluster does not answer"

Say = Callable[[str], None]


class IncompleteError(Exception):
    """A closing read cannot be complete; the message says why."""


def closing_reads(run: Run, say: Say) -> str | None:
    """Do them and record them; why they are not complete, None if they are."""
    why = None
    try:
        ends = settle(run, say)
        for isolation in ISOLATIONS:
            say(f"reading all of it, {isolation}")
            read_all(run, isolation, ends)
        if moved := _moved(ends, offsets(run.clients.admin(), run.workload.keys)):
            raise IncompleteError(moved)
    except IncompleteError as error:
        why = str(error)
    except KafkaException as error:
        why = f"{GONE} ({name_of(error)})"
    run.writer.note("closing-reads", {"complete": why is None, "why": why}, process="recorder")
    return why


def settle(run: Run, say: Say) -> dict[Key, Offsets]:
    """Wait until nothing is open, and nothing moves any more: the ends. IncompleteError if that never comes."""
    begun, admin = time.monotonic(), run.clients.admin()
    say("ending what transactions are open")
    fence(run, names_of(run), begun + FENCE_TIMEOUT)
    say("waiting for the replicas")
    if not _await_sync(admin, run, time.monotonic() + SYNC_TIMEOUT):
        raise IncompleteError(GONE)
    deadline = time.monotonic() + run.workload.transaction_timeout_ms / 1000 + SETTLE_TIMEOUT
    last: dict[Key, Offsets] = {}
    since, why = time.monotonic(), GONE
    while time.monotonic() < deadline:
        try:
            now = offsets(admin, run.workload.keys)
        except KafkaException as error:
            why = f"{GONE} ({name_of(error)})"
            time.sleep(POLL)
            continue
        why = "offsets still move"
        if now != last:
            last, since = now, time.monotonic()
        hanging = [key.name for key, at in now.items() if at.stable < at.end]
        if hanging:
            say(f"waiting for transactions on {', '.join(hanging)}")
            why = f"transactions on {', '.join(hanging)} do not end"
        elif time.monotonic() - since >= STABLE:
            _require_beginnings(now)
            return now
        time.sleep(POLL)
    raise IncompleteError(why)


def _require_beginnings(ends: Mapping[Key, Offsets]) -> None:
    for key, at in ends.items():
        if at.start > 0:
            raise IncompleteError(f"{key.name}: what lies before offset {at.start} has been deleted")


def _await_sync(admin: AdminClient, run: Run, deadline: float) -> bool:
    """Wait for the replicas, which raise the high watermark; not for ever, some may be gone for good.

    Whether anybody answered at all.
    """
    is_answered = False
    while time.monotonic() < deadline:
        with contextlib.suppress(KafkaException):
            if are_in_sync(admin, run.workload.keys):
                return True
            is_answered = True
        time.sleep(POLL)
    return is_answered


def _moved(before: Mapping[Key, Offsets], after: Mapping[Key, Offsets]) -> str | None:
    moved = [key.name for key in before if before[key] != after.get(key)]
    return f"{', '.join(moved)}: the end moved during the closing reads" if moved else None


def read_all(run: Run, isolation: str, ends: Mapping[Key, Offsets]) -> None:
    """One read of everything. IncompleteError if some partition does not come to its end."""
    writer, keys, process = run.writer, run.workload.keys, run.writer.process()
    consumer = run.clients.consumer(
        group_of(run.workload, "closing"), isolation_level=isolation, enable_partition_eof=True
    )
    try:
        writer.invoke(process, "assign", [key.name for key in keys], final=isolation)
        consumer.assign([TopicPartition(key.topic, key.partition, 0) for key in keys])
        writer.complete(process, OK, "assign", [key.name for key in keys], final=isolation)
        _read_on(run, consumer, process, isolation, {key: ends[key].end for key in keys})
    finally:
        consumer.close()


def _read_on(run: Run, consumer: Consumer, process: int, isolation: str, missing: dict[Key, int]) -> None:
    """Poll until no partition is missing."""
    writer, last, complaint = run.writer, time.monotonic(), ""
    while missing:
        writer.invoke(process, "poll", [["poll"]], final=isolation)
        messages = consumer.consume(BATCH_MAX, WAIT)
        read, errors = sorted_out(messages)
        ended = _ends_told(messages, missing)
        complaint = next((e.name() for e in errors if e.code() != KafkaError._PARTITION_EOF), complaint)
        last = time.monotonic() if read or ended else last
        for key in ended:
            del missing[key]
        is_stuck = complaint in NOT_ALLOWED or time.monotonic() - last > STALL or writer.failure is not None
        if missing and is_stuck:
            writer.complete(process, INFO, "poll", [["poll", read]], error="incomplete", final=isolation)
            why = f"{', '.join(key.name for key in missing)}: not read to the end"
            raise IncompleteError(f"{why} ({complaint})" if complaint else why)
        writer.complete(process, OK, "poll", [["poll", read]], final=isolation)


def _ends_told(messages: Sequence[Any], missing: Mapping[Key, int]) -> list[Key]:
    """The partitions that are at their end now."""
    ended = []
    for message in messages:
        error = message.error()
        if error is not None and error.code() == KafkaError._PARTITION_EOF:
            key = Key(message.topic(), message.partition())
            if key in missing and message.offset() >= missing[key]:
                ended.append(key)
    return ended


def groups_of(workload: Workload) -> list[str]:
    """The consumer groups of a recording, by which a cluster may remember it."""
    kinds = ["transformers", "subscribers", "closing", *(f"readers-{number}" for number in range(workload.readers))]
    return [group_of(workload, kind) for kind in kinds]
