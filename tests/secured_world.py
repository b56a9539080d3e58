"""A real broker that asks who is there: listeners with TLS, with SASL, with both, and an authorizer."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from hwmark.checkers.cluster.cluster import Cluster, create
from hwmark.checkers.cluster.distribution import resolve
from hwmark.checkers.cluster.node import BROKER, Node
from hwmark.checkers.cluster.ports import free_ports

ADMIN, MINE, STORE = "swordfish-of-admin", "swordfish-of-mine", "swordfish-of-store"
LOGIN = (
    "org.apache.kafka.common.security.plain.PlainLoginModule required "
    f'username="admin" password="{ADMIN}" user_admin="{ADMIN}" user_me="{MINE}";'
)
PROTOCOLS = {"SASL": "SASL_PLAINTEXT", "TLS": "SSL", "BOTH": "SASL_SSL"}
SETTINGS = {
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,"
    + ",".join(f"{name}:{protocol}" for name, protocol in PROTOCOLS.items()),
    "inter.broker.listener.name": "PLAINTEXT",
    "sasl.enabled.mechanisms": "PLAIN",
    "listener.name.sasl.plain.sasl.jaas.config": LOGIN,
    "listener.name.both.plain.sasl.jaas.config": LOGIN,
    "ssl.keystore.type": "PKCS12",
    "ssl.keystore.password": STORE,
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:admin;User:ANONYMOUS",
}

TOPIC, GROUP, ID = ResourceType.TOPIC, ResourceType.GROUP, ResourceType.TRANSACTIONAL_ID
CREATE, READ, WRITE, ALL = AclOperation.CREATE, AclOperation.READ, AclOperation.WRITE, AclOperation.ALL


class Secured(Cluster):
    """One broker; besides the plain listener, where anybody may do anything, it has those of `PROTOCOLS`."""

    ports: Mapping[str, int] = {}
    certificate: Path = Path()

    def format(self, node: Node) -> None:
        """A broker's further listeners are no settings: the controller has none of them."""
        super().format(node)
        if node.role == BROKER:
            told = [f"PLAINTEXT://{node.address}", *(f"{name}://{self.at(name)}" for name in PROTOCOLS)]
            with (node.folder / "server.properties").open("a") as file:
                file.writelines(f"{name}={','.join(told)}\n" for name in ("listeners", "advertised.listeners"))

    def at(self, listener: str) -> str:
        """Where one of its listeners is."""
        return f"127.0.0.1:{self.ports[listener]}"

    def admin(self) -> AdminClient:
        """A client that may do anything."""
        return AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})

    def allow(self, prefix: str, kind: ResourceType, operation: AclOperation) -> None:
        """Let `me` do this to what has a name with this prefix."""
        pattern = ResourcePatternType.PREFIXED
        rule = AclBinding(kind, prefix, pattern, "User:me", "*", operation, AclPermissionType.ALLOW)
        admin = self.admin()  # what it was asked for ends with it
        for future in admin.create_acls([rule]).values():
            future.result()

    def delete(self, topic: str) -> None:
        """Delete somebody's topic."""
        admin = self.admin()
        admin.delete_topics([topic])[topic].result()


@contextmanager
def secured(folder: Path) -> Iterator[Secured]:
    """One that runs."""
    folder.mkdir(parents=True, exist_ok=True)
    store, certificate = folder / "store.p12", folder / "certificate.pem"
    plain = create(folder / "cluster", resolve("4.3.1"), brokers=1, settings=SETTINGS)
    keytool = Path(plain.java.path).with_name("keytool")
    common = ["-keystore", str(store), "-storepass", STORE, "-alias", "broker"]
    _run(
        keytool, "-genkeypair", *common, "-storetype", "PKCS12", "-keyalg", "EC", "-dname", "CN=127.0.0.1",
        "-ext", "san=ip:127.0.0.1", "-validity", "2",
    )  # fmt: skip
    _run(keytool, "-exportcert", *common, "-rfc", "-file", str(certificate))
    cluster = Secured(**vars(plain))
    cluster.settings = SETTINGS | {"ssl.keystore.location": str(store)}
    cluster.ports = dict(zip(PROTOCOLS, free_ports(len(PROTOCOLS)), strict=True))
    cluster.certificate = certificate
    with cluster:
        cluster.start()
        yield cluster


def _run(*command: object) -> None:
    subprocess.run([str(part) for part in command], check=True, capture_output=True)


def credentials(user: str, password: str, protocol: str = "SASL_PLAINTEXT") -> dict[str, str]:
    """A client's settings."""
    return {
        "security.protocol": protocol,
        "sasl.mechanism": "PLAIN",
        "sasl.username": user,
        "sasl.password": password,
    }


def properties(file: Path, settings: Mapping[str, str]) -> str:
    """A file of client settings."""
    file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    return str(file)
