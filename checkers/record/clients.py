"""The settings of the clients: the user's (addresses, TLS, SASL, whatever librdkafka knows) and the recorder's own.

The user's settings are passed on and told to nobody: histories do not have them, and messages have them blacked out.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient
from hwmark.checkers.record.errors import RecordingError
from hwmark.checkers.record.workload import Workload
from hwmark.traces.errors import BadInputError

OPTION_OF = {
    "bootstrap.servers": "--bootstrap-servers",
    "metadata.broker.list": "--bootstrap-servers",
    "acks": "--acks",
    "request.required.acks": "--acks",
    "enable.idempotence": "--no-idempotence",
    "retries": "--retries",
    "message.send.max.retries": "--retries",
    "message.timeout.ms": "--message-timeout",
    "delivery.timeout.ms": "--message-timeout",
    "transaction.timeout.ms": "--transaction-timeout",
    "transactional.id": "--prefix",
    "group.id": "--prefix",
}
"""Settings that options of the recorder decide."""
OWN = (
    "isolation.level", "enable.auto.offset.store", "enable.auto.commit", "auto.offset.reset", "enable.partition.eof",
    "log_level", "logger", "error_cb", "stats_cb", "on_delivery", "check.crcs",
)  # fmt: skip
"""Settings that the recorder decides."""
FILE = re.compile(r"ssl\.(key|certificate|ca|crl|keystore)\.location")
"""Settings that name a file; librdkafka does not say which one it did not find."""
BLACK = "***"
PUBLIC_MIN = 4  # characters; shorter texts are no secrets, and stand in many words
ONE_AT_A_TIME = "max.in.flight.requests.per.connection"
SESSION_TIMEOUT_MS = 6000
SOCKET_TIMEOUT_MAX_MS = 300_000  # librdkafka's
CONSUMER_ONLY = ("group.protocol", "session.timeout.ms", "partition.assignment.strategy", "heartbeat.interval.ms")

QUIET = logging.Logger("librdkafka")
"""Who is told by librdkafka what errors say as well: nobody."""
QUIET.addHandler(logging.NullHandler())

STATE = re.compile(r" \(after \d+ms in state .*\)$")
OnError = Callable[[KafkaError], None]


class Clients(NamedTuple):
    """How to reach a cluster, and what to tell of what its clients complain about."""

    bootstrap_servers: str
    settings: Mapping[str, str] = {}
    on_error: OnError = lambda error: None

    def common(self, *, consumes: bool = False) -> dict[str, Any]:
        """What all clients are given."""
        given = {name: value for name, value in self.settings.items() if consumes or name not in CONSUMER_ONLY}
        return {
            "logger": QUIET,
            "topic.metadata.refresh.interval.ms": 1000,
            "reconnect.backoff.max.ms": 1000,
            **given,
            "bootstrap.servers": self.bootstrap_servers,
            "error_cb": self.on_error,
        }

    def admin(self) -> AdminClient:
        """A client that asks about the cluster."""
        with self.told():
            return AdminClient(self.common())

    def producer(self, workload: Workload) -> Producer:
        """A plain producer, idempotent or not.

        librdkafka bumps an idempotent producer's epoch by itself when a message has timed out, or when a request that
        follows a failed one is out of sequence. What may have been written under the old epoch is then sent again under
        the new one, where no broker can know it: even an idempotent producer writes twice. So there is one request at a
        time, and a fatal error, after which the producer is replaced, where there would be a gap.
        """
        retries = {} if workload.retries is None and workload.idempotent else {"retries": workload.retries or 0}
        more = {"acks": workload.acks, "enable.idempotence": workload.idempotent, **retries}
        once = {"enable.gapless.guarantee": True, ONE_AT_A_TIME: 1} if workload.idempotent else {}
        with self.told():
            return Producer(once | self.common() | {"message.timeout.ms": workload.message_timeout_ms, **more})

    def transactional_producer(self, workload: Workload, id: str) -> Producer:
        """A transactional producer."""
        timeout = workload.transaction_timeout_ms
        more: dict[str, Any] = {"transactional.id": id, "transaction.timeout.ms": timeout}
        # A request that nobody answers holds up calls, whatever timeout they have.
        answer = min(max(1000, timeout // 2), SOCKET_TIMEOUT_MAX_MS)
        more["socket.timeout.ms"], more["request.timeout.ms"] = answer, max(900, answer - 500)
        message = min(workload.message_timeout_ms, timeout)  # librdkafka refuses more
        with self.told():
            return Producer({ONE_AT_A_TIME: 1} | self.common() | {"message.timeout.ms": message, **more})

    def consumer(self, group: str, **more: Any) -> Consumer:
        """A consumer, read_committed unless said otherwise; `more` are settings with underscores for dots."""
        own: dict[str, Any] = {
            "group.id": group,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
        common = self.common(consumes=True)
        if common.get("group.protocol", "classic").lower() == "classic":
            own["session.timeout.ms"] = common.pop("session.timeout.ms", SESSION_TIMEOUT_MS)
        own |= {name.replace("_", "."): value for name, value in more.items()}
        with self.told():
            return Consumer(common | own)

    def try_all(self, workload: Workload) -> None:
        """Make a client of each kind, to hear what settings cannot be used. RecordingError for those."""
        self.admin()
        self.producer(workload)
        self.transactional_producer(workload, "none")
        self.consumer("none").close()

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """RecordingError, without any secret, for what librdkafka has to say about settings."""
        try:
            yield
        except KafkaException as error:
            raise RecordingError(f"unusable settings of the clients: {self.public(words_of(error))}") from None

    def public(self, text: str) -> str:
        """A text with the values of the user's settings blacked out."""
        for value in sorted(self.settings.values(), key=len, reverse=True):
            text = text.replace(value, BLACK) if len(value) >= PUBLIC_MIN else text
        return text


def words_of(error: Exception | KafkaError) -> str:
    """What an error says, in one line, without the client's own state."""
    inner = error.args[0] if isinstance(error, KafkaException) else error
    return STATE.sub("", " ".join((inner.str() if isinstance(inner, KafkaError) else str(inner)).split()))


def name_of(error: KafkaException | KafkaError) -> str:
    """An error's name, without what it says: that may have addresses in it."""
    inner = error.args[0] if isinstance(error, KafkaException) else error
    return inner.name() if isinstance(inner, KafkaError) else type(error).__name__


def served(call: Callable[..., Any], *arguments: Any) -> Any:
    """Make a call that runs callbacks. KafkaException if the client has met a fatal error.

    It comes out of whichever call is made next, and if a callback ran after it, as a SystemError.
    """
    try:
        return call(*arguments)
    except SystemError as error:
        if isinstance(error.__cause__, KafkaException):
            raise error.__cause__ from None
        raise


def settings_of(texts: list[str], file: str | None) -> dict[str, str]:
    """The user's settings, from a file of NAME=VALUE lines and from options, which count more.

    BadInputError for an unusable line; RecordingError for an option that is none, or that is the recorder's own.
    """
    found: dict[str, str] = {}
    for place, text in [*(_lines(file) if file else ()), *(("--client", text) for text in texts)]:
        name, separator, value = (part.strip() for part in text.partition("="))
        reason = None if separator and name else "expected NAME=VALUE"
        if name in OPTION_OF:
            reason = f"{name} is not set here; see {OPTION_OF[name]}"
        elif name in OWN:
            reason = f"{name} is the recorder's own"
        elif FILE.fullmatch(name) and not os.access(value, os.R_OK):
            reason = f"{name} is no file that can be read"
        if reason and isinstance(place, int):
            raise BadInputError(str(file), place, reason)
        if reason:
            raise RecordingError(f"{place} {name}: {reason}")
        found[name] = value
    return found


def _lines(file: str) -> Iterator[tuple[int, str]]:
    """The lines of a properties file that say something, counted from 1."""
    try:
        text = Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise BadInputError(file, None, (error.strerror or str(error)).lower()) from None
    except UnicodeDecodeError as error:
        raise BadInputError(file, None, f"byte {error.start} is not UTF-8; expected lines of NAME=VALUE") from None
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith(("#", "!")):
            yield number, line
