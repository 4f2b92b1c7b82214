"""The service on a real broker, over real HTTP: what it answers, and what then lies in the topics."""

import json
import time

import msgspec
import pytest

from runtime.settings import Settings
from schemas.event import decode_envelope
from schemas.partition import partition_of
from schemas.topics import CALLS_ENDED, CALLS_PREFETCH
from tests.conftest import PARTITIONS
from tests.edge import BEARER, EMPTY, NUMBER, Edge, call, eventually, records_of


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


@pytest.mark.parametrize("sent", [" 15551234567", 15551234567, "+1 555 123 4567", " 1 (555) 123-4567"])
async def test_a_number_of_the_body_may_be_written_in_any_way(edge: Edge, settings: Settings, sent: object) -> None:
    assert (await edge.end(call(voip={"from": sent}))).status == 200
    (record,) = await records_of(settings, CALLS_ENDED)
    assert record.key == settings.identity().id_of_number(NUMBER).encode()


async def test_a_prefetch_is_answered_within_milliseconds(edge: Edge) -> None:
    await edge.prefetch({"session_id": "s"})
    seconds = []
    for n in range(100):
        started = time.perf_counter()
        await edge.prefetch({"session_id": f"s-{n}"})
        seconds.append(time.perf_counter() - started)
    assert sorted(seconds)[50] < 0.05
