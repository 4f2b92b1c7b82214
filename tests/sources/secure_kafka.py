"""The embedded Kafka as a cluster elsewhere is reached: from other machines, with TLS and every kind of SASL."""

import random
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from runtime.local_kafka import ConsoleProgress, LocalKafka
from runtime.local_kafka.cache import cache_directory
from runtime.local_kafka.jars import distribution_directory, ensure_jars
from runtime.local_kafka.java import environment, find_java
from runtime.local_kafka.jvm import java_command
from tests.sources.certificates import Authority, Certificate

USER, PASSWORD = "ringlog", "password-of-the-tests"

_LOOPBACK = "127.0.0.1"
_MODULES = "org.apache.kafka.common.security"


@dataclass(frozen=True)
class SecureKafka:
    """`loopback` is for the test itself, without anything; the others listen on the host that was asked for.

    `plaintext`: without anything; `sasl`: TLS, and PLAIN, SCRAM or OAUTHBEARER (of any unsigned token); `mtls`: TLS
    with a certificate of the client, which `client` is.
    """

    broker: LocalKafka
    loopback: str
    plaintext: str
    sasl: str
    mtls: str
    authority: Authority
    client: Certificate


@contextmanager
def secure_kafka(folder: Path, host: str = _LOOPBACK) -> Iterator[SecureKafka]:
    """A broker that is ready. Raises `LocalKafkaError`, and `Unavailable` without openssl."""
    authority = Authority(folder / "certificates")
    server = authority.sign("kafka", [host])
    loopback, controller = _free_ports(_LOOPBACK, 2)
    plaintext, sasl, mtls = _free_ports(host, 3)
    listeners = {
        "PLAINTEXT": (_LOOPBACK, loopback),
        "OUTSIDE": (host, plaintext),
        "SASL": (host, sasl),
        "MTLS": (host, mtls),
    }
    properties = {
        "listeners": _listed(listeners | {"CONTROLLER": (_LOOPBACK, controller)}),
        "advertised.listeners": _listed(listeners),
        "listener.security.protocol.map": (
            "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,OUTSIDE:PLAINTEXT,SASL:SASL_SSL,MTLS:SSL"
        ),
        "controller.quorum.voters": f"1@{_LOOPBACK}:{controller}",
        **_tls("sasl", authority, server),
        **_tls("mtls", authority, server),
        "listener.name.mtls.ssl.client.auth": "required",
        **_SASL,
    }
    with LocalKafka(folder / "kafka", port=loopback, properties=properties) as broker:
        _allow_scram(broker.bootstrap_servers)
        yield SecureKafka(
            broker=broker,
            loopback=broker.bootstrap_servers,
            plaintext=f"{host}:{plaintext}",
            sasl=f"{host}:{sasl}",
            mtls=f"{host}:{mtls}",
            authority=authority,
            client=authority.sign("client"),
        )


_SASL = {
    "listener.name.sasl.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
    "listener.name.sasl.plain.sasl.jaas.config": (
        f'{_MODULES}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
    ),
    **{
        f"listener.name.sasl.scram-sha-{bits}.sasl.jaas.config": f"{_MODULES}.scram.ScramLoginModule required;"
        for bits in (256, 512)
    },
    "listener.name.sasl.oauthbearer.sasl.jaas.config": (
        f'{_MODULES}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";'
    ),
}


def _tls(listener: str, authority: Authority, server: Certificate) -> dict[str, str]:
    prefix = f"listener.name.{listener}.ssl"
    return {
        f"{prefix}.keystore.type": "PEM",
        f"{prefix}.keystore.location": str(server.both),
        f"{prefix}.truststore.type": "PEM",
        f"{prefix}.truststore.location": str(authority.certificate),
    }


def _allow_scram(bootstrap: str) -> None:
    """The credentials lie in the cluster's own log, and only its tools write them; one of a user at a time."""
    classpath = ensure_jars(distribution_directory(cache_directory()), ConsoleProgress())
    user = ["--alter", "--entity-type", "users", "--entity-name", USER]
    for bits in (256, 512):
        added = ["--add-config", f"SCRAM-SHA-{bits}=[password={PASSWORD}]"]
        command = java_command(
            find_java(), classpath, "kafka.admin.ConfigCommand", "--bootstrap-server", bootstrap, *user, *added
        )
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment(), timeout=60)
        if done.returncode:
            raise RuntimeError(f"the SCRAM credentials could not be written: {done.stdout}{done.stderr[-500:]}")


def _listed(listeners: dict[str, tuple[str, int]]) -> str:
    return ",".join(f"{name}://{host}:{port}" for name, (host, port) in listeners.items())


def _free_ports(host: str, count: int) -> list[int]:
    """Below Linux's ephemeral range: no client's own end takes one while the broker is down."""
    draw = random.SystemRandom()
    found: set[int] = set()
    while len(found) < count:
        port = draw.randint(20_000, 31_999)
        with socket.socket() as probe, suppress(OSError):
            probe.bind((host, port))
            found.add(port)
    return sorted(found)
