"""One endpoint, and several ways to make its event durable: nothing else differs between these servers.

A POST's body is read and decoded, as little of it as tells whose call it was; key and headers are made; then the event
is published as `BENCH_WAY` says, and answered. GET is for the bench itself: how the journal is, and a profile.
"""

import asyncio
import functools
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import msgspec
from starlette.types import Receive, Scope, Send

from bench.apps.sampler import Sampler
from runtime.kafka import make_producer, start_within, stop_within
from runtime.settings import Settings, load_settings
from schemas.event import ENDED, headers_of
from schemas.topics import CALLS_ENDED
from service.journal import Entry, Journal
from service.journal.backlog import hash_of, partition_of

Publish = Callable[[Entry], Awaitable[Any]]
State = Callable[[], dict[str, Any]]


class _Voip(msgspec.Struct):
    from_: str = msgspec.field(name="from")


class _Call(msgspec.Struct):
    session_id: str
    voip: _Voip


_decode = msgspec.json.Decoder(_Call).decode


async def _published_nowhere(_: Entry) -> None:
    pass


@asynccontextmanager
async def bare(_settings: Settings) -> AsyncIterator[tuple[Publish, State]]:
    yield _published_nowhere, dict


@asynccontextmanager
async def group_commit(settings: Settings) -> AsyncIterator[tuple[Publish, State]]:
    """ringlog's own journal."""
    journal, stop = Journal(settings, (CALLS_ENDED,)), asyncio.Event()
    running = asyncio.create_task(journal.run(stop))
    yield journal.publish, lambda: {"connected": journal.is_connected, **journal.reasons()}
    stop.set()
    await running


@asynccontextmanager
async def send_and_wait(settings: Settings, *, by_key: bool = False) -> AsyncIterator[tuple[Publish, State]]:
    """aiokafka's own way, with the journal's producer. `by_key`: its partitioner, in Python, chooses the partition, as
    everywhere where nobody does it better; else it is given, found as the journal finds it."""
    producer = make_producer(settings)
    await start_within(producer)
    topic = CALLS_ENDED.named(settings.topic_prefix)
    partitions = len(await producer.partitions_for(topic))

    async def publish(entry: Entry) -> None:
        partition = None if by_key else partition_of(hash_of(entry.partition_by), partitions)
        await producer.send_and_wait(topic, entry.value, entry.key, partition, headers=entry.headers)

    yield publish, lambda: {"connected": True}
    await stop_within(producer)


WAYS: dict[str, Callable[[Settings], AbstractAsyncContextManager[tuple[Publish, State]]]] = {
    "bare": bare,
    "group commit": group_commit,
    "send_and_wait": send_and_wait,
    "send_and_wait by key": functools.partial(send_and_wait, by_key=True),
}


class Endpoint:
    def __init__(self, way: str) -> None:
        self._way = WAYS[way]
        self._publish: Publish = _published_nowhere
        self._state: State = dict
        self._sampler = Sampler()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["method"] == "POST":
            await self._end_of_call(receive, send)
        else:
            await _answer(send, msgspec.json.encode(self._look(scope["path"])))

    async def _end_of_call(self, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message["body"]
            more = message["more_body"]
        call = _decode(body)
        key = call.voip.from_.encode()
        headers = headers_of(ENDED, call.session_id, time.time_ns() // 1000, call.session_id)
        await self._publish(Entry(CALLS_ENDED, key, key, body, headers))
        await _answer(send, b"{}")

    def _look(self, path: str) -> Any:
        if path == "/profile/start":
            self._sampler.start()
        elif path == "/profile":
            return self._sampler.stop()
        return self._state()

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        async with self._way(load_settings()) as (self._publish, self._state):
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})


async def _answer(send: Send, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


app = Endpoint(os.environ["BENCH_WAY"])
