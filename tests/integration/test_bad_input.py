"""What the service refuses, with which words, and what it keeps of it."""

import asyncio
import base64
import hashlib
import json
import time

import msgspec
import pytest

from runtime.settings import Settings
from schemas.event import Record
from schemas.rejected import Rejected
from schemas.topics import CALLS_ENDED, CALLS_PREFETCH, CALLS_REJECTED
from tests.edge import BEARER, EMPTY, NUMBER, Edge, call, eventually, metric, records_of, running


async def rejected(settings: Settings) -> list[tuple[Rejected, Record]]:
    found = await records_of(settings, CALLS_REJECTED)
    return [(msgspec.json.decode(record.value or b"", type=Rejected), record) for record in found]


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
    whole = whole.replace(b'"filler":""', b'"filler":"' + b"x" * (largest - len(whole)) + b'"')
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


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"token:x " * 500_000, 400),
        (b'{"session_id":"s","agent_config":[' + b'"a?",' * 1_600_000 + b'""]}', 200),
        (b'{"session_id":"s","agent_config":["' + b"?" * 8_000_000 + b'"]}', 200),
        (b'{"session_id":"s","metadata":{"a":"' + rb"\n" * 3_900_000 + rb"\ud800" + b'"}}', 200),
        (b'{"session_id":"s","metadata":{"a":"' + rb"\ud800" * 1_300_000 + b'"}}', 200),
    ],
    ids=["broken", "strings", "questions", "escapes", "surrogates"],
)
async def test_a_large_body_makes_no_prefetch_wait(edge: Edge, body: bytes, status: int) -> None:
    ended = asyncio.create_task(edge.end(body))
    slowest = 0.0
    while not ended.done():
        started = time.perf_counter()
        await edge.prefetch({"session_id": "s"})
        slowest = max(slowest, time.perf_counter() - started)
    assert (await ended).status == status
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
