"""How recordings end: with answers that never come, clusters that are gone, interrupts, and pictures without room."""

from __future__ import annotations

import json
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from hwmark.checkers.histories import check
from hwmark.checkers.record import closing, producers, recorder, topics
from hwmark.checkers.record.clients import Clients
from hwmark.checkers.record.closing import _ends_told
from hwmark.checkers.record.errors import RecordingError
from hwmark.checkers.record.judgement import judge
from hwmark.checkers.record.progress import Progress
from hwmark.checkers.record.run import Run
from hwmark.checkers.record.transactions import TransactionalProducer
from hwmark.checkers.record.transformers import Transformer
from hwmark.checkers.record.workload import Key, Workload
from hwmark.checkers.record.writer import Writer
from hwmark.checkers.verdict import Unknown
from hwmark.traces.history import read_history

NOWHERE = "127.0.0.1:1"  # tcpmux: nobody listens
PLAIN = Workload(seconds=0.3, rate=100, producers=1, transactional=0, transformers=0, subscribers=0, patience_ms=50)


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody will answer."""
    for module, name in (
        (closing, "FENCE_TIMEOUT"), (closing, "SYNC_TIMEOUT"), (topics, "ASK_TIMEOUT"), (producers, "FLUSH_SLACK"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, 0.2)


def records(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


# ------------------------------------------------------------ interrupts, and clusters that are gone


def test_a_cluster_that_is_gone_is_told_in_the_history(tmp_path: Path) -> None:
    outcome = recorder.run(Clients(NOWHERE), PLAIN, None, tmp_path / "h.jsonl")
    assert outcome.incomplete == closing.GONE and not outcome.is_stopped and outcome.operations > 20
    assert records(outcome.file)[-1]["value"] == {"complete": False, "why": closing.GONE}
    assert isinstance(check(read_history(outcome.file)).verdict(), Unknown)


class Interrupting:
    """Presses Ctrl-C when the recording does one of these things; the workload itself is ""."""

    def __init__(self, *when: str) -> None:
        self.when, self.seen = list(when), [""]

    def __call__(self, run: Run, doing: str) -> None:
        self.seen += [doing] if doing != self.seen[-1] else []
        if self.when and doing == self.when[0] and run.writer.counts["invoke"] > 5:
            self.when.pop(0)
            raise KeyboardInterrupt


def test_an_interrupt_ends_the_workload_and_not_the_recording(tmp_path: Path) -> None:
    watch = Interrupting("")
    outcome = recorder.run(Clients(NOWHERE), PLAIN._replace(seconds=600.0), None, tmp_path / "h.jsonl", watch=watch)
    assert outcome.is_stopped and outcome.incomplete == closing.GONE
    assert watch.seen[:2] == ["", recorder.STOPPING] and "waiting for the replicas" in watch.seen


def test_a_second_interrupt_ends_it_and_what_was_recorded_is_in_the_file(tmp_path: Path) -> None:
    file, watch = tmp_path / "h.jsonl", Interrupting("", "waiting for the replicas")
    with pytest.raises(KeyboardInterrupt):
        recorder.run(Clients(NOWHERE), PLAIN._replace(seconds=600.0), None, file, watch=watch)
    sends = [record["type"] for record in records(file) if record["f"] == "send"]
    assert sends.count("invoke") == sends.count("info") > 0
    assert read_history(file).incomplete == "the recording ended before them"


def test_what_a_client_raises_in_a_thread_is_told_and_what_was_recorded_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(self: object) -> None:
        raise KafkaException(KafkaError(KafkaError._INVALID_ARG, "swordfish is\nnothing"))

    monkeypatch.setattr(producers.PlainProducer, "run", run)
    clients = Clients(NOWHERE, {"sasl.password": "swordfish"})
    outcome = recorder.run(clients, PLAIN, None, tmp_path / "h.jsonl")
    assert outcome.problem == "*** is nothing" and outcome.incomplete


def test_a_bug_in_a_thread_is_raised_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producers.PlainProducer, "run", lambda self: [][0])
    with pytest.raises(IndexError):
        recorder.run(Clients(NOWHERE), PLAIN, None, tmp_path / "h.jsonl")
    assert records(tmp_path / "h.jsonl")[-1]["f"] == "closing-reads"


def test_without_a_terminal_each_thing_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(PLAIN, Clients(NOWHERE), Writer(tmp_path / "h.jsonl", {}))
    with Progress() as progress:
        for doing in ("", "", "reading", "reading", "done"):
            progress(run, doing)
    run.writer.close()
    assert capsys.readouterr().err == "reading\ndone\n"


# ------------------------------------------------------------ transactions without an answer


class Answers:
    """A transactional producer whose calls raise what they are told to, once each."""

    def __init__(self, **errors: KafkaError) -> None:
        self.errors, self.calls = errors, []  # type: tuple[dict[str, KafkaError], list[str]]

    def _call(self, name: str) -> int:
        self.calls.append(name)
        if name in self.errors:
            raise KafkaException(self.errors.pop(name))
        return 0

    def begin_transaction(self) -> None:
        self._call("begin")

    def produce(self, topic: str, value: bytes, partition: int, on_delivery: object) -> None:
        self._call("produce")

    def flush(self, timeout: float) -> int:
        return self._call("flush")

    def send_offsets_to_transaction(self, positions: list[TopicPartition], metadata: str, timeout: float) -> None:
        self._call(f"{metadata}: {[(p.topic, p.partition, p.offset) for p in positions]}")

    def commit_transaction(self, timeout: float) -> None:
        self._call("commit")

    def abort_transaction(self, timeout: float) -> None:
        self._call("abort")


def error(*, fatal: bool = False, retriable: bool = False, abortable: bool = False) -> KafkaError:
    return KafkaError(KafkaError._TIMED_OUT, "", fatal, retriable, abortable)


@pytest.mark.parametrize(
    ("errors", "outcome", "calls", "is_kept"),
    [
        ({}, "ok", ["commit"], True),
        ({"flush": error()}, "fail", ["abort"], True),
        ({"flush": error(fatal=True)}, "fail", [], False),
        ({"flush": error(), "abort": error()}, "fail", ["abort"], False),
        ({"commit": error()}, "info", ["commit"], False),
        ({"commit": error(fatal=True)}, "info", ["commit"], False),
        ({"commit": error(retriable=True)}, "ok", ["commit", "commit"], True),
        ({"commit": error(abortable=True)}, "fail", ["commit", "abort"], True),
        ({"commit": error(abortable=True), "abort": error()}, "info", ["commit", "abort"], False),
    ],
)
def test_a_transaction_has_failed_only_if_it_cannot_be_committed(
    tmp_path: Path, errors: dict[str, KafkaError], outcome: str, calls: list[str], is_kept: bool
) -> None:
    """What is not known to be aborted once its commit was asked for is unknown, and its process does nothing more."""
    workload = Workload(abort_percent=0)
    run = Run(workload, Clients(NOWHERE), Writer(tmp_path / "h.jsonl", {}))
    client, producer = TransactionalProducer(run, 0), Answers(**errors)
    client.transactor.producer = producer
    process = client.process
    client.take(next(client.transactions))
    run.writer.close()
    assert records(run.writer.file)[-1]["type"] == outcome
    assert [call for call in producer.calls if call in ("commit", "abort")] == calls
    assert (client.transactor.producer is producer) == is_kept
    assert (client.process == process) == (outcome != "info")


class Reads:
    """A member of a group; what it has read is committed by transactions only, so it has no `commit`."""

    def __init__(self) -> None:
        self.sought: list[tuple[str, int, int]] = []

    def consumer_group_metadata(self) -> str:
        return "offsets"

    def assignment(self) -> list[TopicPartition]:
        return [TopicPartition("p-0", 1)]

    def seek(self, to: TopicPartition) -> None:
        self.sought.append((to.topic, to.partition, to.offset))


class Message(NamedTuple):
    at: int

    def offset(self) -> int:
        return self.at

    def value(self) -> bytes:
        return b"7"


@pytest.mark.parametrize("aborts", [False, True])
def test_what_was_read_is_committed_with_what_was_made_of_it(tmp_path: Path, aborts: bool) -> None:
    """After an abort the same records are read again, of the partitions that are still its own."""
    run = Run(Workload(prefix="p", abort_percent=100 * aborts), Clients(NOWHERE), Writer(tmp_path / "h.jsonl", {}))
    transformer, producer, consumer = Transformer(run, 0), Answers(), Reads()
    transformer.transactor.producer, transformer.consumer = producer, consumer  # type: ignore[assignment]
    transformer.batch = {Key("p-0", 1): [Message(4), Message(6)], Key("p-0", 2): [Message(9)]}
    transformer._transform()
    run.writer.close()
    ended = "abort" if aborts else "commit"
    offsets = "offsets: [('p-0', 1, 7), ('p-0', 2, 10)]"
    assert producer.calls == ["begin", "produce", "produce", "produce", "flush", offsets, ended]
    assert consumer.sought == ([("p-0", 1, 4)] if aborts else [])
    told = records(run.writer.file)[-1]
    assert told["type"] == ("fail" if aborts else "ok")
    assert told["value"][0] == ["poll", {"p-0-1": [[4, 7], [6, 7]], "p-0-2": [[9, 7]]}]
    assert told["value"][-1] == ["send_offsets", "p-transformers", {"p-0-1": 7, "p-0-2": 10}]


# ------------------------------------------------------------ the end of a partition


class End(NamedTuple):
    """What a consumer says at the end of a partition."""

    at: int
    code: int = KafkaError._PARTITION_EOF

    def error(self) -> KafkaError:
        return KafkaError(self.code)

    def topic(self) -> str:
        return "t"

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self.at


def test_a_partition_is_read_when_it_ends_at_or_behind_the_end_that_was_told() -> None:
    """An earlier end is that of a replica which does not know the rest yet."""
    key = Key("t", 0)
    assert _ends_told([End(9)], {key: 10}) == []
    assert _ends_told([End(10)], {key: 10}) == _ends_told([End(11)], {key: 10}) == [key]
    assert _ends_told([End(10, KafkaError._TRANSPORT)], {key: 10}) == []
    assert _ends_told([End(10)], {}) == []


# ------------------------------------------------------------ the rest


def test_a_verdict_stands_without_its_pictures(tmp_path: Path) -> None:
    """A disk that was full when the recording ended is full when it is judged."""
    writer = Writer(tmp_path / "h.jsonl", recorder.configuration(Workload()))
    writer.invoke_send(0, b'"hwmark-0-0"', 1)
    writer.send_ok(0, b'"hwmark-0-0"', 0, 1)
    writer.invoke(1, "poll", [["poll"]], final="read_committed")
    writer.complete(1, "ok", "poll", [["poll", {}]], final="read_committed")
    writer.note("closing-reads", {"complete": True, "why": None}, process="recorder")
    writer.close()
    assert [picture.suffix for picture in judge(writer.file).pictures] == [".svg", ".html"]
    for picture in (tmp_path / "h.svg", tmp_path / "h.html"):
        picture.unlink()
    (tmp_path / "h.html").symlink_to("/dev/full")
    judged = judge(writer.file)
    assert judged.status == 1 and judged.pictures == [tmp_path / "h.svg"]
    assert judged.not_drawn == f"{tmp_path / 'h.html'}: no space left on device"


def test_more_partitions_than_clients_can_ask_for_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    known = SimpleNamespace(topics={}, brokers={})
    monkeypatch.setattr(topics, "connect", lambda clients: known)
    with pytest.raises(RecordingError, match=r"topics cannot be made: .*num_partitions"):
        topics.create(Clients(NOWHERE), ["t"], 10**9, 1, {})


def test_only_topics_that_were_made_are_deleted_when_another_one_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else may have a topic of that name that the clients do not see."""
    refused, deleted = KafkaException(KafkaError(KafkaError.TOPIC_ALREADY_EXISTS)), []
    futures: dict[str, Future[None]] = {name: Future() for name in ("p-0", "p-1", "p-2", "p-3")}
    for name, future in futures.items():
        future.set_result(None) if name in ("p-0", "p-2") else future.set_exception(refused)
    admin = SimpleNamespace(create_topics=lambda wanted, **timeouts: futures)
    monkeypatch.setattr(Clients, "admin", lambda self: admin)
    monkeypatch.setattr(topics, "connect", lambda clients: SimpleNamespace(topics={}, brokers={}))
    monkeypatch.setattr(topics, "delete", lambda clients, names: deleted.extend(names))
    with pytest.raises(RecordingError, match=r"topic p-1 cannot be made"):
        topics.create(Clients(NOWHERE), list(futures), 1, 1, {})
    assert deleted == ["p-0", "p-2"]
