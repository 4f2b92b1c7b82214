"""Ended calls, as the service writes them, put into the topic beforehand."""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import Any

import msgspec

from bench.calls import AGENTS, OWN_NUMBER, call_of
from runtime.kafka import make_producer, start_within, stop_within
from runtime.settings import Settings
from schemas.caller import Caller
from schemas.event import ENDED, Envelope, Record, event_id, headers_of
from schemas.partition import partition_of
from schemas.topics import CALLS_ENDED

_AT_ONCE = 1000  # events on their way to Kafka
_HOUR_US = 3_600_000_000

_PUSH_DIGITS = "-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"  # in ASCII order
_FIRST_ENDED_MS = 1_764_000_000_000
_BETWEEN_ENDS_MS = 20  # a busy company: four million calls a day


def whole_calls(count: int, dice: Random) -> Iterator[dict[str, Any]]:
    """Bodies of 3.4 kB: 24 turns, a function call, three cost items."""
    return (call_of(f"+1555{number:07d}", number, dice) for number in range(count))


def small_calls(count: int, dice: Random) -> Iterator[dict[str, Any]]:
    """Bodies of 0.3 kB: a cost, and hardly anything else."""
    for number in range(count):
        duration_s = dice.randint(1, 900)
        yield {
            "session_id": push_id(_begun_ms(number, duration_s), dice),
            "agent_id": AGENTS[number % len(AGENTS)],
            "duration": duration_s,
            "call_status": "user-ended",
            "cost_breakdown": [
                {"type": type_, "provider": "millis", "credit": round(dice.random() / 20, 4)}
                for type_ in ("stt", "tts")
            ],
            "voip": {"from": f"+1555{number % 50_000:07d}", "to": OWN_NUMBER},
        }


def short_calls(count: int, dice: Random, callers: int = 50_000) -> Iterator[dict[str, Any]]:
    """Bodies of 0.2 kB, so that an event has 400 bytes: what a profile is made of, and no more."""
    for number in range(count):
        duration_s = dice.randint(1, 900)
        yield {
            "session_id": push_id(_begun_ms(number, duration_s), dice),
            "duration": duration_s,
            "call_status": "user-ended",
            "cost_breakdown": [{"type": "llm", "credit": round(dice.random() / 20, 4)}],
            "voip": {"from": f"+1555{dice.randrange(callers):07d}"},
        }


def push_id(at_ms: int, dice: Random) -> str:
    """As the provider's ids are: eight characters of time, twelve of chance."""
    time_ = ""
    for _ in range(8):
        at_ms, digit = divmod(at_ms, len(_PUSH_DIGITS))
        time_ = _PUSH_DIGITS[digit] + time_
    return time_ + "".join(dice.choices(_PUSH_DIGITS, k=12))


def _begun_ms(number: int, duration_s: int) -> int:
    """Calls end one after the other, and began when they began."""
    return _FIRST_ENDED_MS + number * _BETWEEN_ENDS_MS - duration_s * 1000


def hashed(number: str) -> str:
    """A caller's id for those who only read what they are given; the service has its own."""
    return hashlib.blake2b(number.encode(), digest_size=16).hexdigest()


async def put(settings: Settings, bodies: Iterable[dict[str, Any]], id_of_number: Callable[[str], str] = hashed) -> int:
    """Into `calls.ended`, by caller; how many bytes their values have together."""
    producer = make_producer(settings)
    await start_within(producer)
    topic = CALLS_ENDED.named(settings.topic_prefix)
    received_at = time.time_ns() // 1000 - _HOUR_US  # never later than the broker's time of append
    size = 0
    try:
        partitions = len(await producer.partitions_for(topic))
        sent = []
        for place, body in enumerate(bodies):
            key, value, headers = _event(_envelope(body, id_of_number, received_at + place))
            partition = partition_of(key, partitions)
            sent.append(await producer.send(topic, value, key, partition=partition, headers=headers))
            size += len(value)
            if len(sent) == _AT_ONCE:
                for one in sent:
                    await one
                sent.clear()
        for one in sent:
            await one
    finally:
        await stop_within(producer)
    return size


def records(bodies: Iterable[dict[str, Any]]) -> Iterator[Record]:
    """As a consumer gets them, of one partition."""
    now = time.time_ns() // 1000
    for place, body in enumerate(bodies):
        key, value, headers = _event(_envelope(body, hashed, now + place))
        yield Record(
            topic=CALLS_ENDED.name,
            partition=0,
            offset=place,
            appended_ms=(now + _HOUR_US) // 1000,
            key=key,
            value=value,
            headers=tuple(headers),
        )


def _event(envelope: Envelope) -> tuple[bytes, bytes, list[tuple[str, bytes]]]:
    """Key, value and headers."""
    headers = headers_of(ENDED, envelope.event_id, envelope.received_at, envelope.session_id)
    return envelope.caller.id.encode(), msgspec.json.encode(envelope), headers


def _envelope(body: dict[str, Any], id_of_number: Callable[[str], str], received_at: int) -> Envelope:
    raw, session_id, number = msgspec.json.encode(body), body["session_id"], body["voip"]["from"]
    return Envelope(
        event_id=event_id(ENDED, session_id, raw),
        received_at=received_at,
        session_id=session_id,
        agent_id=body.get("agent_id"),
        caller=Caller(id_of_number(number), "phone", number),
        direction="inbound",
        body=msgspec.Raw(raw),
    )
