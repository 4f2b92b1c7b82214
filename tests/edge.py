"""The service as a test talks to it: the real one, on free ports, in the test's own loop."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp
import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from runtime.clock import Clock, system_clock
from runtime.kafka import make_consumer, record_of, start_within, stop_within
from runtime.metrics import REGISTRY
from runtime.settings import Settings
from schemas.event import Record
from schemas.topics import Topic
from service.app import TOPICS, Service

T = TypeVar("T")

BEARER = {"authorization": "Bearer webhook-secret-of-the-tests"}
OPS_BEARER = {"authorization": "Bearer ops-secret-of-the-tests"}

NUMBER = "+15551234567"
EMPTY = {"metadata": {}, "extra_prompt": ""}


@dataclass
class Edge:
    service: Service
    http: aiohttp.ClientSession
    task: "asyncio.Task[None]"
    stopping: asyncio.Event

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.service.ports[0]}"

    @property
    def ops_url(self) -> str:
        return f"http://127.0.0.1:{self.service.ports[1]}"

    async def end(self, body: Any, headers: Mapping[str, str] = BEARER, query: str = "") -> aiohttp.ClientResponse:
        """An end of call; the answer has been read."""
        url = f"{self.url}/webhooks/end-of-call{query}"
        async with self.http.post(url, data=body, headers=headers) as response:
            await response.read()
            return response

    async def prefetch(
        self, parameters: Mapping[str, str], headers: Mapping[str, str] = BEARER
    ) -> aiohttp.ClientResponse:
        url = f"{self.url}/webhooks/prefetch"
        async with self.http.get(url, params=parameters, headers=headers) as response:
            await response.read()
            return response

    async def ops(self, method: str, path: str, **options: Any) -> aiohttp.ClientResponse:
        async with self.http.request(method, self.ops_url + path, **options) as response:
            await response.read()
            return response

    async def kafka_is(self, connected: bool, within_s: float = 20.0) -> None:
        async with asyncio.timeout(within_s):
            while metric("ringlog_kafka_connected") != connected:
                if self.task.done():
                    await self.task
                await asyncio.sleep(0.02)

    async def stop(self) -> None:
        self.stopping.set()
        await self.task


@asynccontextmanager
async def running(settings: Settings, *, connected: bool = True, clock: Clock = system_clock) -> AsyncIterator[Edge]:
    """Stopped afterwards, if the test hasn't. `connected` waits for Kafka."""
    stopping = asyncio.Event()
    service = Service(settings, clock)
    task = asyncio.create_task(service.run(stopping))
    async with aiohttp.ClientSession() as http:
        edge = Edge(service, http, task, stopping)
        try:
            async with asyncio.timeout(10):
                while not all(service.ports):
                    if task.done():
                        await task
                    await asyncio.sleep(0.01)
            if connected:
                await edge.kafka_is(True)
                async with _ends(settings, [topic.named(settings.topic_prefix) for topic in TOPICS]):
                    pass
            yield edge
        finally:
            await edge.stop()


async def records_of(settings: Settings, topic: Topic) -> list[Record]:
    """All that lies in a topic now, a partition after the other."""
    async with _ends(settings, [topic.named(settings.topic_prefix)]) as (consumer, ends):
        found: list[Record] = []
        for partition, end in ends.items():
            consumer.seek(partition, 0)
            while await consumer.position(partition) < end:
                for messages in (await consumer.getmany(partition, timeout_ms=500)).values():
                    found += [record_of(message) for message in messages]
        return found


@asynccontextmanager
async def _ends(
    settings: Settings, names: list[str]
) -> AsyncIterator[tuple[AIOKafkaConsumer, dict[TopicPartition, int]]]:
    """A consumer of all partitions and where each ends. It waits for their leaders, which on a busy machine may take
    seconds after their topic was made."""
    consumer = make_consumer(settings)
    await start_within(consumer)
    try:
        metadata = await consumer._client.fetch_all_metadata()
        partitions = [
            TopicPartition(name, number) for name in names for number in sorted(metadata.partitions_for_topic(name))
        ]
        consumer.assign(partitions)
        yield consumer, await consumer.end_offsets(partitions)
    finally:
        await stop_within(consumer)


async def eventually(read: Callable[[], Awaitable[list[T]]], within_s: float = 10.0) -> list[T]:
    """What `read` finds, once it finds something."""
    async with asyncio.timeout(within_s):
        while not (found := await read()):  # noqa: ASYNC110 - what is waited for happens in Kafka
            await asyncio.sleep(0.05)
    return found


def call(session_id: str = "s-1", **members: object) -> bytes:
    """The body of an end of call from `NUMBER`."""
    voip = {"provider": "twilio", "from": NUMBER, "to": "+15557654321"}
    return msgspec.json.encode({"session_id": session_id, "agent_id": "-Om", "voip": voip, **members})


def metric(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)
