"""The internal listener of the service: facts, health, metrics; and what none of our outputs may hold."""

import json
import logging

import msgspec
import pytest

from runtime.logs import configure_logs
from runtime.settings import Settings
from schemas.partition import partition_of
from schemas.topics import CALLERS_FACTS, CALLS_ENDED, CALLS_PREFETCH, CALLS_REJECTED
from tests.conftest import PARTITIONS
from tests.edge import BEARER, NUMBER, OPS_BEARER, Edge, call, records_of, running
from tests.logging_restored import logs_restored


async def test_facts_are_set_and_deleted_by_number(edge: Edge, settings: Settings) -> None:
    path = f"/callers/{NUMBER}/facts"
    response = await edge.ops("PUT", path, headers=OPS_BEARER, data='{"tier": "gold", "balance": 12.5}')
    assert (response.status, await response.json()) == (200, {"written": 2})
    response = await edge.ops("DELETE", path + "?fact=tier", headers=OPS_BEARER)
    assert (response.status, await response.json()) == (200, {"deleted": 1})
    caller = settings.identity().id_of_number(NUMBER)
    records = await records_of(settings, CALLERS_FACTS)
    assert {record.partition for record in records} == {partition_of(caller.encode(), PARTITIONS)}
    assert [record.key for record in records] == [f"{caller}/{name}".encode() for name in ("tier", "balance", "tier")]
    values = [msgspec.json.decode(record.value)["value"] if record.value else None for record in records]
    assert values == ["gold", 12.5, None]


async def test_without_a_state_store_nobody_is_told_that_there_are_no_facts(edge: Edge) -> None:
    for method in ("GET", "DELETE"):
        response = await edge.ops(method, f"/callers/{NUMBER}/facts", headers=OPS_BEARER)
        assert (response.status, response.headers["retry-after"]) == (503, "2")


@pytest.mark.parametrize(
    ("number", "body", "says"),
    [
        ("anonymous", b"{}", "phone number"),
        ("12", b"{}", "phone number"),
        (NUMBER, b"[]", "JSON object"),
        (NUMBER, b"{", "JSON object"),
        (NUMBER, b"\xff", "JSON object"),
        (NUMBER, b'{"a":' * 50_000, "JSON object"),
        (NUMBER, b'{"a/b": 1}', "slash"),
        (NUMBER, b'{"": 1}', "name"),
        (NUMBER, b'{"a": "' + b"x" * 9000 + b'"}', "8192"),
        (NUMBER, b'{"a": 123456789012345678901234567890}', "2**64"),
        (NUMBER, json.dumps({f"f{n}": n for n in range(201)}).encode(), "200"),
        (NUMBER, b'{"ringlog_calls": 1}', "computed"),
        (NUMBER, b'{"a": ' + b"[" * 40 + b"]" * 40 + b"}", "deeper than 32"),
    ],
    ids=range(13),
)
async def test_a_wrong_fact_is_refused_with_a_sentence(
    edge: Edge, settings: Settings, number: str, body: bytes, says: str
) -> None:
    response = await edge.ops("PUT", f"/callers/{number}/facts", headers=OPS_BEARER, data=body)
    assert response.status == 400
    assert says in (await response.json())["error"]
    assert await records_of(settings, CALLERS_FACTS) == []


async def test_facts_need_their_own_key(edge: Edge) -> None:
    for method in ("GET", "PUT", "DELETE"):
        for headers in ({}, BEARER):
            response = await edge.ops(method, f"/callers/{NUMBER}/facts", headers=headers)
            assert response.status == 401
            assert "RINGLOG_OPS_KEY" in (await response.json())["error"]
    response = await edge.ops("PUT", f"/callers/{NUMBER}/facts", headers=OPS_BEARER, data=b"x" * 2_000_000)
    assert response.status == 413


async def test_without_an_ops_key_there_are_no_facts(settings: Settings, topics: object) -> None:
    async with running(settings.model_copy(update={"ops_key": None})) as edge:
        assert (await edge.ops("GET", f"/callers/{NUMBER}/facts", headers=OPS_BEARER)).status == 404


async def test_health_and_metrics_tell_what_is(edge: Edge) -> None:
    assert (await (await edge.ops("GET", "/health/live")).json()) == {"live": True}
    ready = await edge.ops("GET", "/health/ready")
    state = await ready.json()
    # No state yet: for a while it is waited for, and then calls are answered as from unknown callers.
    assert (ready.status, state["ready"], state["kafka"]) == (503, False, "connected")
    await edge.end(call())
    page = await (await edge.ops("GET", "/metrics")).text()
    assert 'ringlog_requests_total{status="200",webhook="end-of-call"}' in page


async def test_what_alarms_is_counted_from_zero(edge: Edge) -> None:
    """To Prometheus a series that begins with 1 has not increased: the first call that is lost would alarm nobody."""
    page = await (await edge.ops("GET", "/metrics")).text()
    for series in (
        'ringlog_requests_total{status="503",webhook="end-of-call"}',
        'ringlog_requests_total{status="401",webhook="end-of-call"}',
        'ringlog_requests_total{status="401",webhook="prefetch"}',
        'ringlog_rejected_total{reason="not-json",webhook="end-of-call"}',
        'ringlog_events_dropped_total{topic="calls.prefetch"}',
    ):
        assert series in page
    assert "ringlog_kafka_connected 1.0" in page
    assert "ringlog_events_waiting 0.0" in page


async def test_no_number_and_no_secret_in_logs_metrics_or_keys(
    settings: Settings, topics: object, capfd: pytest.CaptureFixture[str]
) -> None:
    with logs_restored():
        configure_logs("service", "json", "debug")
        async with running(settings) as edge:
            await edge.end(call(agent_config={"headers": {"x": "hush"}}))
            await edge.end(b'{"from": "+15551234567", "token": "hush"')
            await edge.prefetch({"session_id": "s", "from": NUMBER})
            await edge.prefetch({"from": NUMBER})
            await edge.ops("PUT", f"/callers/{NUMBER}/facts", headers=OPS_BEARER, data='{"n": "hush"}')
            await edge.ops("PUT", f"/callers/{NUMBER}/facts", headers=OPS_BEARER, data="hush")
            logging.getLogger("uvicorn.error").error("a library quotes %s", NUMBER)
            page = await (await edge.ops("GET", "/metrics")).text()
    said = capfd.readouterr().err
    assert '"event": "durable"' in said and '"session_id": "s-1"' in said
    assert "a library quotes [number]" in said
    keys = [
        record.key or b""
        for topic in (CALLS_ENDED, CALLS_PREFETCH, CALLERS_FACTS, CALLS_REJECTED)
        for record in await records_of(settings, topic)
    ]
    assert len(keys) == 5
    for text in (said, page, b" ".join(keys).decode()):
        for never in ("5551234567", "hush", "webhook-secret", "ops-secret", "identity-key"):
            assert never not in text
