"""One event of each topic, made by all of ringlog: its webhooks, its consumers, a real broker."""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec

from cli.simulator.plan import Plan, Wish
from consumers.database import migrate
from consumers.process import consume
from runtime.kafka import make_producer, start_within
from runtime.settings import Settings
from schemas.event import ENDED, Record, headers_of
from schemas.topics import CATALOGUE
from tests.edge import BEARER, OPS_BEARER, Edge, eventually, records_of, running
from tests.unit.consumers.recordings.sound_server import WAV, serving

NUMBER, OWN_NUMBER = "+14155550199", "+18005550100"
AGENT = "-OmNNf485Na8Bw82RSfz"
SESSION, RECORDED_SESSION, FOREIGN_SESSION = "-OA1XVnwRGpaameIakJb", "-OA1XVnwRGpaameIakJc", "-OA1XVnwRGpaameIakJd"

BEGAN_US = 1_769_851_800_000_000  # 2026-01-31T09:30:00Z
CALL = {
    "session_id": SESSION,
    "agent_id": AGENT,
    "call_id": "call123",
    "ts": 1769851800.886249,
    "duration": 300,
    "chars_used": 1024,
    "call_status": "user-ended",
    "error_message": None,
    "chat": json.dumps([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]),
    "function_calls": [{"name": "check_status", "params": {"order_id": 6689}}],
    "cost_breakdown": [
        {"type": "stt", "provider": "millis", "credit": 0.0043},
        {"type": "llm", "provider": "openai", "credit": 0.0125, "prompt_tokens": 812},
    ],
    "voip": {"provider": "twilio", "from": NUMBER, "to": OWN_NUMBER},
    "recording": {"recording_url": "https://recordings.example/recording123"},
    "metadata": {"campaign": "spring"},
    "agent_config": {"llm": {"max_tokens": 300}, "tools": [{"name": "orders", "header": {"X-Key": "a secret"}}]},
}

# What another program wrote into our topic: the consumers give it up.
FOREIGN = {"session_id": FOREIGN_SESSION, "note": "written by another program"}


def odd_bodies() -> Iterator[bytes]:
    """Every odd shape of an end of call that the simulator knows."""
    plan = Plan(Wish(400, 0, 0.2, 0.6, 11), "http://127.0.0.1:8099")
    shapes = {call.shape: call for call in plan if call.books}
    return (step.content for call in shapes.values() for step in call.steps if step.webhook == "end-of-call")


async def play(settings: Settings, folder: Path) -> dict[str, list[Record]]:
    """The records of each topic, named as in the catalogue; of each the first is the plainest."""
    seconds = itertools.count(BEGAN_US, 1_000_000)
    async with serving() as sounds:
        settings = settings.model_copy(
            update={
                "own_numbers": [OWN_NUMBER],
                "database_url": f"sqlite:///{folder / 'books.db'}",
                "recording_private_hosts": [sounds.address],
                "dead_letter_share": 1.0,
            }
        )
        sounds.paths["/recording"] = WAV
        migrate(settings)
        async with running(settings, clock=lambda: next(seconds)) as edge:
            await _call(edge, sounds.url("/recording"))
        await _foreign(settings)
        return await _consumed(settings)


async def _call(edge: Edge, recording_url: str) -> None:
    facts = f"/callers/{NUMBER}/facts"
    assert (await edge.ops("PUT", facts, json={"customer_tier": "gold"}, headers=OPS_BEARER)).status == 200
    assert (await edge.ops("PUT", facts, json={"asked_for": None}, headers=OPS_BEARER)).status == 200
    query = {"session_id": SESSION, "agent_id": AGENT, "from": NUMBER, "to": OWN_NUMBER, "campaign": "spring"}
    assert (await edge.prefetch(query)).status == 200
    assert (await edge.end(json.dumps(CALL))).status == 200
    recorded = CALL | {"session_id": RECORDED_SESSION, "recording": {"recording_url": recording_url}}
    assert (await edge.end(json.dumps(recorded))).status == 200
    assert (await edge.end('{"chat": ["H')).status == 400
    for body in odd_bodies():
        assert (await edge.end(body)).status == 200
    assert (await edge.http.get(f"{edge.url}/webhooks/prefetch?session_id=a&x=1&x=2", headers=BEARER)).status == 200


async def _foreign(settings: Settings) -> None:
    headers = headers_of(ENDED, "0" * 32, BEGAN_US, FOREIGN_SESSION)
    producer = make_producer(settings)
    await start_within(producer)
    topic = f"{settings.topic_prefix}calls.ended"
    await producer.send_and_wait(topic, json.dumps(FOREIGN).encode(), headers=headers, partition=0)
    await producer.stop()


async def _consumed(settings: Settings) -> dict[str, list[Record]]:
    names = ("billing", "transcripts", "recordings", "calls")
    async with contextlib.AsyncExitStack() as stack:
        for name in names:
            await stack.enter_async_context(_consuming(settings, name))
        for topic in CATALOGUE:
            await eventually(lambda topic=topic: records_of(settings, topic), within_s=60)
    return {topic.name: await records_of(settings, topic) for topic in CATALOGUE}


@contextlib.asynccontextmanager
async def _consuming(settings: Settings, name: str) -> AsyncIterator[None]:
    stop = asyncio.Event()
    running = asyncio.create_task(consume(settings, name, stop))
    try:
        yield
    finally:
        stop.set()
        assert await running == 0


def sample(record: Record, prefix: str) -> dict[str, Any]:
    """A record as a document shows it; topics without the prefix of a test."""
    headers = {name: value.decode().removeprefix(prefix) for name, value in record.headers}
    value = None if record.value is None else msgspec.json.decode(record.value)
    return {"key": None if record.key is None else record.key.decode(), "headers": headers, "value": value}


# Of each topic the record that its documentation shows; dead letters are shown by one consumer's.
_SHOWN = {
    "calls.prefetch": SESSION,
    "calls.ended": SESSION,
    "calls.rejected": None,
    "callers.facts": None,
    "billing.charges": SESSION,
    "transcripts.ready": SESSION,
    "recordings.stored": RECORDED_SESSION,
    "dead-letters.billing": FOREIGN_SESSION,
}


def plainest(found: dict[str, list[Record]]) -> dict[str, Record]:
    return {
        topic: next(it for it in found[topic] if it.header("ce_subject") == session and it.value is not None)
        for topic, session in _SHOWN.items()
    }
