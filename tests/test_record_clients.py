"""The user's settings, and what clients do without a cluster: nothing is lost, nothing secret is told."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from hwmark.checkers.cli import main
from hwmark.checkers.commands.record_options import refuse_no_servers, unused
from hwmark.checkers.histories import check
from hwmark.checkers.record import topics
from hwmark.checkers.record.clients import Clients, settings_of
from hwmark.checkers.record.errors import RecordingError
from hwmark.checkers.record.producers import GIVEN_UP, PlainProducer
from hwmark.checkers.record.recorder import configuration
from hwmark.checkers.record.run import Run
from hwmark.checkers.record.workload import Workload
from hwmark.checkers.record.writer import Writer
from hwmark.checkers.verdict import Unknown
from hwmark.traces.errors import BadInputError
from hwmark.traces.history import read_history

NOWHERE = "127.0.0.1:1"  # tcpmux: nobody listens


def test_settings_come_from_a_file_and_from_options_which_count_more(tmp_path: Path) -> None:
    file = tmp_path / "client.properties"
    file.write_text("# mine\n\nsasl.username = me\nsasl.password=a=b\n")
    told = settings_of(["sasl.username=you"], str(file))
    assert told == {"sasl.username": "you", "sasl.password": "a=b"}


@pytest.mark.parametrize("line", ["nonsense", "=x", "group.id=mine", "acks=0", "isolation.level=read_uncommitted"])
def test_an_unusable_setting_is_told_with_its_line(tmp_path: Path, line: str) -> None:
    file = tmp_path / "client.properties"
    file.write_text(f"\n{line}\n")
    with pytest.raises(BadInputError, match=r"client.properties:2: "):
        settings_of([], str(file))
    with pytest.raises(RecordingError, match=r"^--client"):
        settings_of([line], None)


def test_a_settings_file_that_is_not_there_or_no_text_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no such file"):
        settings_of([], str(tmp_path / "no"))
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(BadInputError, match="byte 0 is not UTF-8"):
        settings_of([], str(tmp_path / "bytes"))


def test_a_setting_that_librdkafka_does_not_know_is_one_line() -> None:
    with pytest.raises(RecordingError, match=r"settings of the clients: .*no.such"):
        Clients(NOWHERE, {"no.such": "x"}).admin()


def test_secrets_are_blacked_out() -> None:
    clients = Clients(NOWHERE, {"sasl.password": "swordfish", "security.protocol": "swordfish-2"})
    assert clients.public("wrong: swordfish-2, swordfish") == "wrong: ***, ***"
    with pytest.raises(RecordingError) as told:
        clients.admin()
    assert "swordfish" not in str(told.value)


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith(("seed ", "starting "))]
    assert len(lines) == 1 and lines[0].startswith("hwmark")
    return lines[0]


def test_unreachable_servers_are_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(topics, "CONNECT_TIMEOUT", 1.0)
    assert main(["record", "--bootstrap-servers", NOWHERE, "-o", str(tmp_path / "h.jsonl")]) == 2
    assert f"{NOWHERE} cannot be reached" in one_line(capsys)
    assert not (tmp_path / "h.jsonl").exists()


class Answering:
    """Whoever listens on a port of this machine, and is no Kafka: it answers with this, or not at all."""

    def __init__(self, answer: bytes | None) -> None:
        self.answer, self.socket = answer, socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.socket.getsockname()[1]}"
        self.kept: list[socket.socket] = []
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self.socket.accept()
                self.kept.append(peer)
                if self.answer is not None:
                    peer.recv(100)
                    peer.sendall(self.answer)
                    peer.close()


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "what answers there is no Kafka"),
        (b"", "what closes the connection is no Kafka"),
        (None, "no answer within 2 s"),
    ],
)
def test_who_listens_there_and_is_no_kafka_is_told(
    answer: bytes | None, why: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topics, "CONNECT_TIMEOUT", 2.0)
    listening = Answering(answer)
    assert main(["record", "--bootstrap-servers", listening.address]) == 2
    listening.socket.close()
    assert f"{listening.address} cannot be reached: {why}" in one_line(capsys)


def test_a_name_that_cannot_be_resolved_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["record", "--bootstrap-servers", "no-such-host.invalid:9092"]) == 2
    told = one_line(capsys)
    assert "Failed to resolve 'no-such-host.invalid:9092'" in told and "in state" not in told


@pytest.mark.parametrize(
    "servers",
    ["", ",", "garbage", ":::", "127.0.0.1", "a b:1", "a:0", "a:65536", "a:b", "::1:9092", "me:secret@a:1", "a:1,,b:1"],
)
def test_servers_without_a_port_or_with_none_that_there_is_are_refused(
    servers: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The client would take 9092, or the rest of a division, and an empty list would start a cluster."""
    assert main(["record", "--bootstrap-servers", servers]) == 2
    assert f"--bootstrap-servers {servers}: expected HOST:PORT" in one_line(capsys)


@pytest.mark.parametrize("servers", ["a:1", "a-b.c_d:65535,10.0.0.1:1", "[::1]:9092", "[fe80::1%eth0]:1, SSL://a:2"])
def test_servers_as_clients_know_them_are_taken(servers: str) -> None:
    refuse_no_servers(servers)


def test_a_setting_that_only_one_kind_of_client_refuses_is_told_before_anything_starts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["record", "--client", "partition.assignment.strategy=swordfish"]) == 2
    told = one_line(capsys)
    assert "unusable settings of the clients" in told and "swordfish" not in told


def test_a_file_of_keys_that_is_not_there_is_told() -> None:
    with pytest.raises(RecordingError, match=r"ssl.key.location is no file that can be read"):
        settings_of(["ssl.key.location=/no/such/key"], None)


def test_a_file_that_nobody_uses_gets_a_number(tmp_path: Path) -> None:
    assert unused(str(tmp_path / "h"), ".jsonl").name == "h.jsonl"
    (tmp_path / "h.jsonl").touch()
    (tmp_path / "h-2.jsonl").touch()
    assert unused(str(tmp_path / "h"), ".jsonl").name == "h-3.jsonl"


@pytest.mark.parametrize(
    "options",
    [
        ["--bootstrap-servers", NOWHERE, "--recipe", "mixed"],
        ["--bootstrap-servers", NOWHERE, "--set", "a=b"],
        ["--bootstrap-servers", NOWHERE, "--dir", "x"],
        ["--bootstrap-servers", NOWHERE, "--client", "nonsense"],
        ["--bootstrap-servers", NOWHERE, "--client-config", "/no/such/file"],
        ["--keep-topics"],
        ["--client", "a=b"],
        ["--client", "acks=1"],
        ["--acks", "1", "--producers", "0", "--transactional", "0"],
        ["--output", "/no/such/folder/h.jsonl"],
        ["--output", "/"],
        ["--recipe", "no-such"],
        ["--transaction-timeout", "1"],
        ["--prefix", "a b"],
        ["--version", "four"],
    ],
)
def test_unusable_options_are_one_line(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["record", *options]) == 2
    told = one_line(capsys)
    assert any(
        option.lstrip("-").replace("-", ".") in told.replace("-", ".")
        for option in options
        if option not in ("--bootstrap-servers", NOWHERE)
    )


@pytest.mark.parametrize("options", [["--rate", "0"], ["--seconds", "x"], ["--abort-percent", "101"], ["--acks", "2"]])
def test_unusable_numbers_are_one_line(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["record", *options])
    assert ended.value.code == 2
    assert options[0] in one_line(capsys)


# ------------------------------------------------------------ a producer that reaches nobody


@pytest.fixture
def run(tmp_path: Path) -> Run:
    workload = Workload(seconds=0.5, rate=100, producers=1, patience_ms=100)
    return Run(workload, Clients(NOWHERE), Writer(tmp_path / "h.jsonl", configuration(workload)))


def records(run: Run) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.writer.file.read_text().splitlines()]


def test_sends_that_nobody_answers_are_given_up_and_their_processes_end(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hwmark.checkers.record.producers.FLUSH_SLACK", 0.0)
    PlainProducer(run, 0).run()
    run.writer.close()
    told = [record for record in records(run) if record["f"] == "send"]
    begun = [record["process"] for record in told if record["type"] == "invoke"]
    ended = [record for record in told if record["type"] != "invoke"]
    assert len(begun) == len(set(begun)) == len(ended) >= 40
    assert {record["type"] for record in ended} == {"info"}
    assert {record["error"] for record in ended} >= {GIVEN_UP}


def test_sends_that_the_client_gives_up_end_their_processes_too(tmp_path: Path) -> None:
    """What has timed out may have been written by an earlier attempt, for all that the recorder knows."""
    workload = Workload(seconds=0.5, rate=100, producers=1, idempotent=False, message_timeout_ms=20)
    run = Run(workload, Clients(NOWHERE), Writer(tmp_path / "h.jsonl", configuration(workload)))
    PlainProducer(run, 0).run()
    run.writer.close()
    told = [record for record in records(run) if record["f"] == "send"]
    begun = [record["process"] for record in told if record["type"] == "invoke"]
    assert len(begun) == len(set(begun)) >= 40
    assert {(record["type"], record.get("error")) for record in told} == {("invoke", None), ("info", "_MSG_TIMED_OUT")}


def test_a_history_without_its_closing_reads_is_unknown_not_valid(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, key = run.writer, b'"hwmark-0-0"'
    writer.invoke_send(0, key, 1)
    writer.send_ok(0, key, 0, 1)
    writer.note("closing-reads", {"complete": False, "why": "the cluster is gone"}, process="recorder")
    writer.close()
    report = check(read_history(writer.file))
    assert isinstance(report.verdict(), Unknown) and report.faults == 0 and not report.anomalies
    assert main(["history", str(writer.file), "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["valid"] is None
    assert main(["history", str(writer.file)]) == 3
    assert "unknown: the closing reads are not complete: the cluster is gone" in capsys.readouterr().err


def test_a_history_with_its_closing_reads_misses_what_they_lack(run: Run) -> None:
    writer, key, level = run.writer, b'"hwmark-0-0"', {"final": "read_committed"}
    writer.invoke_send(0, key, 1)
    writer.send_ok(0, key, 0, 1)
    writer.invoke(1, "poll", [["poll"]], **level)
    writer.complete(1, "ok", "poll", [["poll", {}]], **level)
    writer.note("closing-reads", {"complete": True, "why": None}, process="recorder")
    writer.close()
    assert {"missing-from-final-read", "unseen"} <= set(check(read_history(writer.file)).bad_error_types)


def test_how_consumers_subscribed_is_taken_from_the_recording(run: Run) -> None:
    run.writer.invoke_send(0, b'"hwmark-0-0"', 1)
    run.writer.close()
    history = read_history(run.writer.file)
    assert history.via == "subscribe"
    assert "poll-skip" in check(history).allowed and "poll-skip" not in check(history, via="assign").allowed
