"""A release with a Kafka that is secured, and with one that is away when it is installed."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.helm.release import Release
from tests.sources.secure_kafka import PASSWORD, USER

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(600)]


def without_most_consumers(kafka: dict[str, Any]) -> dict[str, Any]:
    """Enough to see that each kind of process gets in, and not more pods than two cores start soon."""
    return {"service": {"replicas": 1}, "consumers": {"calls": None, "transcripts": None}, "kafka": kafka}


def goes_through(release: Release, kafka: dict[str, Any]) -> None:
    release.secret("kafka-ca", {"ca.crt": release.outside.kafka.authority.certificate.read_text()})
    release.install(without_most_consumers(kafka))
    release.test()
    calls = release.call(20)
    assert calls.failed == []
    release.wait_until_kept(calls)
    release.uninstall()


def test_a_kafka_with_sasl_and_tls(new_release: Callable[..., Release]) -> None:
    release = new_release()
    release.secret("kafka-user", {"username": USER, "password": PASSWORD})
    kafka = {
        "bootstrapServers": release.outside.kafka.sasl,
        "tls": {"enabled": True, "ca": {"name": "kafka-ca"}},
        "sasl": {"mechanism": "SCRAM-SHA-512", "name": "kafka-user"},
    }
    goes_through(release, kafka)


def test_a_kafka_with_certificates(new_release: Callable[..., Release]) -> None:
    release = new_release()
    client = release.outside.kafka.client
    release.secret("kafka-client", {"tls.crt": client.certificate.read_text(), "tls.key": client.key.read_text()})
    kafka = {
        "bootstrapServers": release.outside.kafka.mtls,
        "tls": {"enabled": True, "ca": {"name": "kafka-ca"}, "client": {"name": "kafka-client"}},
    }
    goes_through(release, kafka)


def test_calls_are_accepted_though_kafka_is_away_at_the_install(
    new_release: Callable[..., Release], measured: Callable[[str, str], None]
) -> None:
    release = new_release()
    broker = release.outside.kafka.broker
    broker.stop()
    try:
        began = time.monotonic()
        release.install({"consumers": {"calls": None, "transcripts": None}}, "--wait=false")
        release.wait_until_ready("statefulset/ringlog")
        measured("from helm install without Kafka to servers that are ready", f"{time.monotonic() - began:.1f} s")
        calls = release.call(40)
        assert calls.failed == []
        assert len(calls.accepted) == 40
    finally:
        broker.restart()
    release.wait_until_kept(calls, within_s=120)
    release.test()
    release.uninstall()
