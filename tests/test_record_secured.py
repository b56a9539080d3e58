"""`hwmark record` on a cluster that asks who is there: settings pass through, secrets are told to nobody."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from hwmark.checkers.cli import main
from hwmark.checkers.cluster.cluster import Cluster, create
from hwmark.checkers.cluster.distribution import resolve
from hwmark.traces.history import read_history

pytestmark = pytest.mark.cluster
ADMIN, MINE = "swordfish-of-admin", "swordfish-of-mine"
LOGIN = (
    "org.apache.kafka.common.security.plain.PlainLoginModule required "
    f'username="admin" password="{ADMIN}" user_admin="{ADMIN}" user_me="{MINE}";'
)
SETTINGS = {
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:SASL_PLAINTEXT",
    "inter.broker.listener.name": "PLAINTEXT",
    "sasl.enabled.mechanisms": "PLAIN",
    "sasl.mechanism.inter.broker.protocol": "PLAIN",
    "listener.name.plaintext.plain.sasl.jaas.config": LOGIN,
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:admin;User:ANONYMOUS",
    "min.insync.replicas": "2",
}


def settings(user: str, password: str) -> dict[str, str]:
    return {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.username": user,
        "sasl.password": password,
    }


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three brokers; only the controller's listener lets anybody in."""
    secured = create(tmp_path_factory.mktemp("secured") / "cluster", resolve("4.3.1"), settings=SETTINGS)
    waits = pytest.MonkeyPatch()
    waits.setattr(Cluster, "await_brokers", lambda self, brokers=None, timeout=0: None)
    with secured:
        secured.start()
        waits.undo()
        admin = AdminClient(
            {"bootstrap.servers": secured.bootstrap_servers, "log_level": 0, **settings("admin", ADMIN)}
        )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                if len(admin.list_topics(timeout=2).brokers) == 3:
                    break
            except KafkaException:
                time.sleep(0.2)
        yield secured


def config(folder: Path, user: str, password: str) -> str:
    file = folder / f"{user}.properties"
    file.write_text("".join(f"{name}={value}\n" for name, value in settings(user, password).items()))
    return str(file)


def test_who_is_known_may_record_and_no_secret_is_written(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "h.jsonl"
    options = ["--bootstrap-servers", cluster.bootstrap_servers, "--client-config", config(tmp_path, "admin", ADMIN)]
    assert main(["record", *options, "--seconds", "2", "-o", str(file)]) == 0
    assert read_history(file).configuration["client"] == sorted(settings("admin", ADMIN))
    told = capsys.readouterr()
    for text in (file.read_text(), told.out, told.err):
        assert "swordfish" not in text and "SASL_PLAINTEXT" not in text


def test_a_wrong_password_is_one_line(cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = config(tmp_path, "me", "swordfish-of-nobody")
    options = ["--bootstrap-servers", cluster.bootstrap_servers, "--client-config", wrong]
    assert main(["record", *options, "-o", str(tmp_path / "h.jsonl")]) == 2
    told = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("seed")]
    assert len(told) == 1 and "cannot be reached" in told[0] and "uthentication" in told[0]
    assert "swordfish" not in told[0]


def test_who_may_not_make_topics_is_told_so(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--bootstrap-servers", cluster.bootstrap_servers, "--client-config", config(tmp_path, "me", MINE)]
    assert main(["record", *options, "-o", str(tmp_path / "h.jsonl"), "--prefix", "p"]) == 2
    assert "hwmark: topic p-0 cannot be made: " in capsys.readouterr().err


def test_who_may_not_join_groups_has_a_history_all_the_same(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The workload ends with one line, and what was recorded is judged."""
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap_servers, "log_level": 0, **settings("admin", ADMIN)})
    allowed = [
        AclBinding(kind, name, pattern, "User:me", "*", operation, AclPermissionType.ALLOW)
        for kind, name, pattern, operation in (
            (ResourceType.TOPIC, "p-", ResourcePatternType.PREFIXED, AclOperation.ALL),
            (ResourceType.BROKER, "kafka-cluster", ResourcePatternType.LITERAL, AclOperation.IDEMPOTENT_WRITE),
        )
    ]
    for future in admin.create_acls(allowed).values():
        future.result()
    file = tmp_path / "h.jsonl"
    options = ["--bootstrap-servers", cluster.bootstrap_servers, "--client-config", config(tmp_path, "me", MINE)]
    options += ["--prefix", "p", "--transactional", "0", "--transformers", "0", "-o", str(file)]
    assert main(["record", *options, "--seconds", "30"]) == 3
    told = capsys.readouterr().err
    assert "GroupAuthorizationException" in told or "Group authorization failed" in told
    history = read_history(file)
    assert history.operations.completed_at.max() < 25e9 and history.counts()["ok"] > 0
