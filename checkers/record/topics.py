"""The topics of a recording: made by it, looked at by it, deleted by it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec  # type: ignore[attr-defined]
from hwmark.checkers.record.clients import Clients, name_of, words_of
from hwmark.checkers.record.errors import RecordingError
from hwmark.checkers.record.workload import Key, Workload

CONNECT_TIMEOUT, CREATE_TIMEOUT, DELETE_TIMEOUT, ASK_TIMEOUT = 10.0, 20.0, 10.0, 5.0  # s
TELLING = ("_AUTHENTICATION", "SASL_AUTHENTICATION_FAILED", "_SSL", "_RESOLVE", "_BAD_MSG")
"""Complaints that say what is wrong, and that no waiting helps against."""
REPLICAS = 3
CONNECT_TRY = 1.0  # s
POLL = 0.1


class Offsets(NamedTuple):
    """Where a partition's log starts, where it ends for read_committed readers, and where its high watermark is."""

    start: int
    stable: int
    end: int


def connect(clients: Clients) -> Any:
    """The cluster's metadata. RecordingError if it cannot be reached, with the complaint that tells most about it.

    Who does not listen may be starting, and is waited for; no waiting helps against a wrong password.
    """
    complaints: list[KafkaError] = []
    admin, deadline = clients._replace(on_error=complaints.append).admin(), time.monotonic() + CONNECT_TIMEOUT
    while True:
        try:
            return admin.list_topics(timeout=min(CONNECT_TRY, CONNECT_TIMEOUT))
        except KafkaException as error:
            admin.poll(0)  # complaints wait for somebody to listen
            names = [each.name() for each in complaints]
            is_hopeless = "_ALL_BROKERS_DOWN" in names and not set(TELLING).isdisjoint(names)
            if is_hopeless or time.monotonic() > deadline:
                why = clients.public(_why(error, complaints))
                raise RecordingError(f"{clients.bootstrap_servers} cannot be reached: {why}") from None


def _why(error: KafkaException, complaints: list[KafkaError]) -> str:
    """What is wrong, as far as anybody said so."""
    told = sorted(complaints, key=lambda each: (each.name() not in TELLING, each.name() == "_ALL_BROKERS_DOWN"))
    if told and told[0].name() in ("_BAD_MSG", "_ALL_BROKERS_DOWN"):
        what = "what answers there" if told[0].name() == "_BAD_MSG" else "what closes the connection"
        return f"{what} is no Kafka, or its listener wants another security.protocol"
    if not told and name_of(error) in ("_TRANSPORT", "_TIMED_OUT"):
        return f"no answer within {CONNECT_TIMEOUT:.0f} s"
    return words_of(told[0] if told else error)


def create(
    clients: Clients, names: Sequence[str], partitions: int, replicas: int | None, config: Mapping[str, str]
) -> None:
    """Make topics, and wait until each partition has a leader. RecordingError if one exists, or it is not allowed."""
    admin, known = clients.admin(), connect(clients)
    for name in names:
        if name in known.topics:
            raise RecordingError(f"topic {name} exists; nothing is written to it: choose another --prefix")
    count = replicas or min(REPLICAS, len(known.brokers))
    wanted = [NewTopic(name, partitions, count, config=dict(config)) for name in names]
    timeouts = {"operation_timeout": CREATE_TIMEOUT, "request_timeout": CREATE_TIMEOUT}
    try:
        futures = admin.create_topics(wanted, **timeouts)
    except ValueError as error:  # numbers that the client does not even ask for
        raise RecordingError(f"topics cannot be made: {error}") from None
    try:
        for name, future in futures.items():
            if (refusal := _refusal(future)) is not None:
                raise RecordingError(f"topic {name} cannot be made: {clients.public(words_of(refusal))}")
        _await_leaders(admin, names, partitions)
    except BaseException:
        delete(clients, [name for name, future in futures.items() if _refusal(future) is None])
        raise


def _refusal(future: Any) -> KafkaException | None:
    """Why a topic was not made; whoever else has one of this name keeps it."""
    try:
        future.result()
    except KafkaException as error:
        return error
    return None


def _await_leaders(admin: AdminClient, names: Sequence[str], partitions: int) -> None:
    deadline = time.monotonic() + CREATE_TIMEOUT
    while time.monotonic() < deadline:
        with contextlib.suppress(KafkaException):
            known = admin.list_topics(timeout=ASK_TIMEOUT).topics
            led = [one for name in names if name in known for one in known[name].partitions.values() if one.leader >= 0]
            if len(led) == len(names) * partitions:
                return
        time.sleep(POLL)
    raise RecordingError(f"the partitions of {', '.join(names)} have no leaders after {CREATE_TIMEOUT:.0f} s")


def delete(clients: Clients, names: Sequence[str], groups: Sequence[str] = ()) -> list[str]:
    """Delete topics and groups; what could not be deleted, in words."""
    admin, left = clients.admin(), []
    futures = dict(admin.delete_topics(list(names), request_timeout=DELETE_TIMEOUT)) if names else {}
    futures |= dict(admin.delete_consumer_groups(list(groups), request_timeout=DELETE_TIMEOUT)) if groups else {}
    for name, future in futures.items():
        try:
            future.result()
        except KafkaException as error:
            if name_of(error) not in ("GROUP_ID_NOT_FOUND", "UNKNOWN_TOPIC_OR_PART"):
                left.append(f"{name} ({name_of(error)})")
    return left


def offsets(admin: AdminClient, keys: Sequence[Key]) -> dict[Key, Offsets]:
    """Where the logs start and end now. KafkaException if somebody does not answer."""
    uncommitted, committed = IsolationLevel.READ_UNCOMMITTED, IsolationLevel.READ_COMMITTED
    specs: Any = OffsetSpec
    asked = [(specs.earliest(), uncommitted), (specs.latest(), committed), (specs.latest(), uncommitted)]
    futures = [
        admin.list_offsets(
            {TopicPartition(*key): spec for key in keys}, isolation_level=level, request_timeout=ASK_TIMEOUT
        )
        for spec, level in asked
    ]
    told = [{Key(p.topic, p.partition): future.result().offset for p, future in each.items()} for each in futures]
    return {key: Offsets(*(each[key] for each in told)) for key in keys}


def are_in_sync(admin: AdminClient, keys: Sequence[Key]) -> bool:
    """Whether all replicas of these partitions are in sync. KafkaException if nobody answers."""
    topics = admin.list_topics(timeout=ASK_TIMEOUT).topics
    known = [topics[key.topic].partitions.get(key.partition) for key in keys if key.topic in topics]
    return len(known) == len(keys) and all(p and len(p.isrs) == len(p.replicas) and p.leader >= 0 for p in known)


def require_transactions(clients: Clients, workload: Workload) -> None:
    """Give a producer of each kind its id, once. RecordingError if the cluster does not let it."""
    kinds = ("transactional-0", workload.transactional), ("transformer-0", workload.transformers)
    for name, count in kinds:
        if not count:
            continue
        try:
            clients.transactional_producer(workload, f"{workload.prefix}-{name}").init_transactions(CREATE_TIMEOUT)
        except KafkaException as error:
            raise RecordingError(
                f"{workload.prefix}-{name}: no transactions: {clients.public(words_of(error))}"
            ) from None
