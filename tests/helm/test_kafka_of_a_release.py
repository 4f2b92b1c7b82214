"""A release with a Kafka that is secured, and with one that is away when it is installed."""

from collections.abc import Callable
from typing import Any

import pytest

from schemas.topics import CALLS_ENDED
from tests.helm.release import Release
from tests.helm.waiting import eventually
from tests.sources.secure_kafka import PASSWORD, USER

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(600)]

BILLED = "SELECT count(DISTINCT session_id) FROM billing_entries"


def without_most_consumers(kafka: dict[str, Any]) -> dict[str, Any]:
    """Enough to see that each kind of process gets in, and not more pods than two cores start soon."""
    return {"service": {"replicas": 1}, "consumers": {"calls": None, "transcripts": None}, "kafka": kafka}


def goes_through(release: Release, kafka: dict[str, Any]) -> None:
    release.secret("kafka-ca", {"ca.crt": release.outside.kafka.authority.certificate.read_text()})
    release.install(without_most_consumers(kafka))
    release.test()
    calls = release.call(20)
    assert calls.failed == []
    eventually(lambda: release.outside.rows(release.database, BILLED) == [(20,)])
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


def test_calls_are_accepted_though_kafka_is_away_at_the_install(new_release: Callable[..., Release]) -> None:
    release = new_release()
    broker = release.outside.kafka.broker
    broker.stop()
    try:
        release.install({"consumers": {"calls": None, "transcripts": None}}, "--wait=false")
        release.kubectl("rollout", "status", "statefulset/ringlog", "--timeout=120s")
        calls = release.call(40)
        assert calls.failed == []
        assert len(calls.accepted) == 40
    finally:
        broker.restart()
    eventually(lambda: release.outside.rows(release.database, BILLED) == [(40,)], within_s=120)
    kept = release.outside.records(release.prefix, CALLS_ENDED)
    assert {record.header("ce_subject") for record in kept} == set(calls.accepted)
    release.test()
    release.uninstall()
