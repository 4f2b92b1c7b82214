"""The service on a real broker, over real HTTP: what it answers, and what then lies in the topics."""

import asyncio
import base64
import hashlib
import json
import logging
import time
from collections.abc import AsyncIterator

import msgspec
import pytest

from runtime.logs import configure_logs
from runtime.settings import Settings
from schemas.event import Record, decode_envelope
from schemas.partition import partition_of
from schemas.rejected import Rejected
from schemas.topics import CALLERS_FACTS, CALLS_ENDED, CALLS_PREFETCH, CALLS_REJECTED
from tests.conftest import PARTITIONS
from tests.edge import BEARER, OPS_BEARER, Edge, eventually, metric, records_of, running

NUMBER = "+15551234567"
EMPTY = {"metadata": {}, "extra_prompt": ""}


@pytest.fixture
async def edge(settings: Settings, topics: tuple[str, ...]) -> AsyncIterator[Edge]:
    async with running(settings) as edge:
        yield edge


async def rejected(settings: Settings) -> list[tuple[Rejected, Record]]:
    found = await records_of(settings, CALLS_REJECTED)
    return [(msgspec.json.decode(record.value or b"", type=Rejected), record) for record in found]


def call(session_id: str = "s-1", **members: object) -> bytes:
    voip = {"provider": "twilio", "from": NUMBER, "to": "+15557654321"}
    return json.dumps({"session_id": session_id, "agent_id": "-Om", "voip": voip, **members}).encode()


async def test_an_answered_end_of_call_lies_in_the_topic(edge: Edge, settings: Settings) -> None:
    before = time.time()
    response = await edge.end(call())
    assert response.status == 200
    assert response.content_type == "application/json"
    event_id = (await response.json())["event_id"]

    (record,) = await records_of(settings, CALLS_ENDED)
    assert record.header("ce_id") == event_id
    assert record.header("ce_specversion") == "1.0"
    assert record.header("ce_type") == "ringlog.call.ended"
    assert record.header("ce_source") == "/ringlog"
    assert record.header("ce_subject") == "s-1"
    assert record.header("content-type") == "application/json"
    envelope = decode_envelope(record.value or b"")
    caller = settings.identity().id_of_number(NUMBER)
    assert (envelope.event_id, envelope.session_id, envelope.agent_id) == (event_id, "s-1", "-Om")
    assert (envelope.caller.id, envelope.caller.kind, envelope.caller.number) == (caller, "phone", NUMBER)
    assert record.key == caller.encode()
    assert record.partition == partition_of(caller.encode(), PARTITIONS)
    assert before - 1 < record.appended_ms / 1000 < time.time() + 1


async def test_the_body_stays_as_it_was_sent_but_for_secrets(edge: Edge, settings: Settings) -> None:
    sent = (
        b'{"session_id":"s-1", "later": {"x" : [1, 2.50, 1E3]}, "duration": 12.500, "n": 12345678901234567890123,'
        b' "agent_config": {"temperature": 0.10, "tools": [{"header": {"X-Key": "hush-1"}, "webhook":'
        b' "https://example.com/?token=hush-2"}], "credentials": {"key": "hush-3"}, "max_tokens": 99}}'
    )
    assert (await edge.end(sent)).status == 200
    (record,) = await records_of(settings, CALLS_ENDED)
    body = bytes(decode_envelope(record.value or b"").body)
    assert b'"later":{"x" : [1, 2.50, 1E3]}' in body
    assert b'"duration":12.500' in body
    assert b'"n":12345678901234567890123' in body
    assert b'"temperature":0.10' in body
    assert b'"max_tokens":99' in body
    assert b"hush" not in (record.value or b"")
    assert body.count(b"[redacted]") == 3


async def test_an_agent_config_in_a_string_or_out_of_depth_is_redacted_whole(edge: Edge, settings: Settings) -> None:
    inside = json.dumps({"credentials": {"password": "hush"}})
    assert (await edge.end(call(agent_config=inside))).status == 200
    (record,) = await records_of(settings, CALLS_ENDED)
    assert json.loads(bytes(decode_envelope(record.value or b"").body))["agent_config"] == "[redacted]"
    assert b"hush" not in (record.value or b"")


async def test_the_same_body_is_the_same_event_and_another_body_is_another(edge: Edge) -> None:
    first, second, third = [await (await edge.end(body)).json() for body in (call(), call(), call(duration=3))]
    assert first == second != third


@pytest.mark.parametrize(
    ("body", "query", "session_id"),
    [
        ({"session_id": 42}, "", "42"),
        ({"call_id": "c-9"}, "", "c-9"),
        ({"session_id": None, "call_id": "c-9"}, "?session_id=from-url", "from-url"),
        ({"session_id": "s", "voip": None, "chat": "{broken", "duration": "long", "call_status": "new"}, "", "s"),
    ],
)
async def test_odd_bodies_are_accepted(
    edge: Edge, settings: Settings, body: dict[str, object], query: str, session_id: str
) -> None:
    assert (await edge.end(json.dumps(body), query=query)).status == 200
    (record,) = await records_of(settings, CALLS_ENDED)
    assert decode_envelope(record.value or b"").session_id == session_id


async def test_half_an_emoji_costs_no_call(edge: Edge, settings: Settings) -> None:
    sent = rb'{"session_id": "s-1", "chat": "cut \ud83d", "whole": "\ud83d\ude00", "metadata": {"a": "\udc00"}}'
    assert (await edge.end(sent)).status == 200
    (record,) = await records_of(settings, CALLS_ENDED)
    body = msgspec.json.decode(decode_envelope(record.value or b"").body)
    assert body["chat"] == "cut \ufffd"
    assert body["whole"] == "😀"
    assert body["metadata"] == {"a": "\ufffd"}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not-json"),
        (b"not json", "not-json"),
        (b'{"session_id": "s"', "not-json"),
        (b'{"session_id": "s\xff"}', "not-utf8"),
        (b"[1, 2]", "not-an-object"),
        (b"null", "not-an-object"),
        (b'"text"', "not-an-object"),
        (b'{"session_id": "s", "x": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", "too-deep"),
        (b'{"agent_id": "a", "session_id": "  "}', "no-session"),
        (b'{"session_id": "' + b"s" * 300 + b'"}', "session-too-long"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_bad_body_is_refused_with_a_sentence_and_kept(
    edge: Edge, settings: Settings, body: bytes, reason: str
) -> None:
    response = await edge.end(body)
    assert response.status == 400
    answer = await response.json()
    assert answer["reason"] == reason
    assert answer["error"].endswith(".")
    ((kept, record),) = await rejected(settings)
    assert (kept.webhook, kept.reason, kept.detail) == ("end-of-call", reason, answer["error"])
    assert (kept.bytes, kept.sha256, kept.whole) == (len(body), hashlib.sha256(body).hexdigest(), True)
    assert base64.b64decode(kept.head) == body
    assert record.key is None
    assert record.header("ce_type") == "ringlog.call.rejected"
    assert await records_of(settings, CALLS_ENDED) == []


async def test_a_body_over_the_limit_is_kept_by_its_head_size_and_hash(settings: Settings, topics: object) -> None:
    body = call(filler="x" * 200_000)
    async with running(settings.model_copy(update={"max_body_bytes": 100_000})) as edge:
        response = await edge.end(body)
        assert response.status == 413
        assert "RINGLOG_MAX_BODY_BYTES" in (await response.json())["error"]
        ((kept, _),) = await rejected(settings)
        assert (kept.reason, kept.bytes, kept.whole) == ("too-large", len(body), False)
        assert kept.sha256 == hashlib.sha256(body).hexdigest()
        head = base64.b64decode(kept.head)
        assert head.startswith(body[:30]) and 60_000 < len(head) <= 65_536 + 100
        assert (await edge.end(call())).status == 200


async def test_the_largest_bodies_go_through_or_are_kept(edge: Edge, settings: Settings) -> None:
    largest = settings.max_body_bytes
    whole = call(filler="")
    whole = whole.replace(b'"filler": ""', b'"filler": "' + b"x" * (largest - len(whole)) + b'"')
    assert len(whole) == largest
    assert (await edge.end(whole)).status == 200

    broken = b"x" * largest  # as base64 it would be larger than its topic takes
    assert (await edge.end(broken)).status == 400
    ((kept, _),) = await rejected(settings)
    assert (kept.reason, kept.bytes, kept.whole) == ("not-json", largest, False)

    # Redaction may make a body larger than a topic takes.
    grown = b'{"session_id":"s","agent_config":{"headers":[' + b'"",' * 2_000_000 + b'""]}}'
    response = await edge.end(grown)
    assert response.status == 413
    assert (await edge.end(call())).status == 200
    assert metric("ringlog_events_failed_total", topic=CALLS_ENDED.named(settings.topic_prefix)) in (None, 0)


async def test_a_large_broken_body_makes_no_prefetch_wait(edge: Edge) -> None:
    refused = asyncio.create_task(edge.end(b"token:x " * 500_000))
    slowest = 0.0
    while not refused.done():
        started = time.perf_counter()
        await edge.prefetch({"session_id": "s"})
        slowest = max(slowest, time.perf_counter() - started)
    assert (await refused).status == 400
    assert slowest < 1.0


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer wrong"},
        {"authorization": "Basic webhook-secret-of-the-tests"},
        {"authorization": "webhook-secret-of-the-tests"},
        {"x-api-key": "webhook-secret-of-the-tests"},
        {"authorization": "Bearer ops-secret-of-the-tests"},
    ],
)
async def test_without_the_credential_nothing_is_read_or_kept(
    edge: Edge, settings: Settings, headers: dict[str, str]
) -> None:
    for response in (await edge.end(call(), headers=headers), await edge.prefetch({"session_id": "s"}, headers)):
        assert response.status == 401
        assert response.headers["www-authenticate"] == "Bearer"
        answer = await response.json()
        assert answer["reason"] == "unauthorized"
        assert "webhook-secret" not in answer["error"]
    for topic in (CALLS_ENDED, CALLS_PREFETCH, CALLS_REJECTED):
        assert await records_of(settings, topic) == []


async def test_the_body_of_a_stranger_is_not_waited_for(edge: Edge) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.service.ports[0])
    writer.write(b"POST /webhooks/end-of-call HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n{")
    async with asyncio.timeout(5):
        assert b" 401 " in await reader.readline()
    writer.close()


async def test_a_body_that_ends_too_soon_is_kept(edge: Edge, settings: Settings) -> None:
    _reader, writer = await asyncio.open_connection("127.0.0.1", edge.service.ports[0])
    head = f"POST /webhooks/end-of-call HTTP/1.1\r\nhost: x\r\nauthorization: {BEARER['authorization']}\r\n"
    writer.write(head.encode() + b'content-length: 1000\r\n\r\n{"session_id": "s-1"')
    await writer.drain()
    await asyncio.sleep(0.1)
    writer.close()
    found = await eventually(lambda: rejected(settings))
    assert (found[0][0].reason, base64.b64decode(found[0][0].head)) == ("incomplete", b'{"session_id": "s-1"')


async def test_other_methods_and_paths_get_json(edge: Edge) -> None:
    for base, method, path, status in (
        (edge.url, "GET", "/webhooks/end-of-call", 405),
        (edge.url, "POST", "/webhooks/prefetch", 405),
        (edge.url, "GET", "/", 404),
        (edge.url, "GET", "/webhooks/prefetch/", 404),
        (edge.url, "POST", "/webhooks/end-of-call/", 404),
        (edge.url, "GET", "/metrics", 404),
        (edge.url, "GET", "/health/live", 404),
        (edge.url, "GET", "/callers/x/facts", 404),
        (edge.ops_url, "POST", "/metrics", 405),
        (edge.ops_url, "GET", "/webhooks/prefetch", 404),
        (edge.ops_url, "GET", "/metrics/", 404),
    ):
        async with edge.http.request(method, base + path, headers=BEARER, allow_redirects=False) as response:
            assert (response.status, response.content_type) == (status, "application/json"), path
            assert (await response.json())["error"]
            assert ("allow" in response.headers) == (status == 405)


async def test_what_is_not_http_gets_json_too(edge: Edge) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.service.ports[0])
    writer.write(b"what is this?\r\n\r\n")
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 400 ")
    head, body = answer.split(b"\r\n\r\n", 1)
    assert b"content-type: application/json" in head
    assert json.loads(body)["error"]


async def test_an_unknown_caller_gets_the_empty_answer_and_an_event(edge: Edge, settings: Settings) -> None:
    response = await edge.prefetch({"session_id": "s-1", "agent_id": "-Om", "from": NUMBER, "tier": "gold"})
    assert response.status == 200
    assert await response.json() == EMPTY
    found = await eventually(lambda: records_of(settings, CALLS_PREFETCH))
    (record,) = found
    envelope = decode_envelope(record.value or b"")
    assert record.header("ce_type") == "ringlog.call.prefetched"
    assert record.key == settings.identity().id_of_number(NUMBER).encode()
    assert msgspec.json.decode(envelope.body) == {
        "session_id": "s-1",
        "agent_id": "-Om",
        "from": NUMBER,
        "tier": "gold",
    }


async def test_a_plus_that_became_a_space_is_the_same_caller(edge: Edge, settings: Settings) -> None:
    url = f"{edge.url}/webhooks/prefetch?session_id=s&from=+15551234567"
    async with edge.http.get(url, headers=BEARER) as response:
        assert response.status == 200
    found = await eventually(lambda: records_of(settings, CALLS_PREFETCH))
    assert found[0].key == settings.identity().id_of_number(NUMBER).encode()


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("from=%2B15551234567", "no-session"),
        ("session_id=" + "s" * 300, "session-too-long"),
        ("session_id=s" + "&a=b" * 600, "too-large"),
    ],
)
async def test_an_odd_prefetch_is_answered_and_kept(edge: Edge, settings: Settings, query: str, reason: str) -> None:
    async with edge.http.get(f"{edge.url}/webhooks/prefetch?{query}", headers=BEARER) as response:
        assert response.status == 200
        assert await response.json() == EMPTY
    found = await eventually(lambda: rejected(settings))
    kept, _ = found[0]
    assert (kept.webhook, kept.reason) == ("prefetch", reason)
    assert NUMBER.encode() not in base64.b64decode(kept.head)
    assert b"15551234567" not in base64.b64decode(kept.head)


async def test_a_prefetch_is_answered_within_milliseconds(edge: Edge) -> None:
    await edge.prefetch({"session_id": "s"})
    seconds = []
    for n in range(100):
        started = time.perf_counter()
        await edge.prefetch({"session_id": f"s-{n}"})
        seconds.append(time.perf_counter() - started)
    assert sorted(seconds)[50] < 0.05


async def test_facts_are_set_and_deleted_by_number(edge: Edge, settings: Settings) -> None:
    path = f"/callers/{NUMBER}/facts"
    response = await edge.ops("PUT", path, headers=OPS_BEARER, data='{"tier": "gold", "balance": 12.5}')
    assert (response.status, await response.json()) == (200, {"written": 2})
    response = await edge.ops("DELETE", path + "?fact=tier", headers=OPS_BEARER)
    assert (response.status, await response.json()) == (200, {"deleted": 1})
    response = await edge.ops("GET", path, headers=OPS_BEARER)
    caller = settings.identity().id_of_number(NUMBER)
    assert (response.status, await response.json()) == (200, {"caller_id": caller, "facts": {}})

    records = await records_of(settings, CALLERS_FACTS)
    assert {record.partition for record in records} == {partition_of(caller.encode(), PARTITIONS)}
    assert [record.key for record in records] == [f"{caller}/{name}".encode() for name in ("tier", "balance", "tier")]
    values = [msgspec.json.decode(record.value)["value"] if record.value else None for record in records]
    assert values == ["gold", 12.5, None]


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
    ],
    ids=range(11),
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
    assert "ringlog_kafka_connected 1.0" in page
    assert "ringlog_events_waiting 0.0" in page


async def test_no_number_and_no_secret_in_logs_metrics_or_keys(
    settings: Settings, topics: object, capfd: pytest.CaptureFixture[str]
) -> None:
    configure_logs("service", "json", "debug")
    try:
        async with running(settings) as edge:
            await edge.end(call(agent_config={"headers": {"x": "hush"}}))
            await edge.end(b'{"from": "+15551234567", "token": "hush"')
            await edge.prefetch({"session_id": "s", "from": NUMBER})
            await edge.prefetch({"from": NUMBER})
            await edge.ops("PUT", f"/callers/{NUMBER}/facts", headers=OPS_BEARER, data='{"n": "hush"}')
            await edge.ops("PUT", f"/callers/{NUMBER}/facts", headers=OPS_BEARER, data="hush")
            logging.getLogger("uvicorn.error").error("a library quotes %s", NUMBER)
            page = await (await edge.ops("GET", "/metrics")).text()
    finally:
        logging.getLogger().handlers.clear()
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
