"""A bounded load of webhooks. Everything is in the ledger before it is sent."""

import asyncio
import json
import random
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import aiohttp
from yarl import URL

from tests.faults.instance import SECRET, Instance
from tests.faults.ledger import Ledger
from tests.faults.provider import PREFETCHED, Message, Provider

# Longer than any fault: an answer that comes late is still an answer.
ANSWER_DEADLINE_S = 90.0
_BEARER = {"authorization": f"Bearer {SECRET}"}
_BEFORE_RETRY_S = 0.1
_BETWEEN_PREFETCHES_S = 0.05
_BROKEN_SHARE = 0.02


class Load:
    """`async with Load(...)`: calls end for as long as the block lasts; when it is left, all is answered or given up.

    Each worker sends one end of call after the other. When its instance can't be reached it goes to the next one. Of
    what was refused or got no answer it sends a half again until it is accepted, as a client that retries would, and
    gives the other half up, as the provider may.
    """

    def __init__(
        self,
        ledger: Ledger,
        instances: Sequence[Instance],
        seed: int,
        *,
        workers: int = 6,
        pause_s: float = 0.03,
        limit: int = 20_000,
    ) -> None:
        self._ledger = ledger
        self._instances = instances
        self._provider = Provider(seed)
        self._dice = random.Random(seed)
        self._workers = workers
        self._pause_s = pause_s
        self._left = limit
        self._over = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(
            headers=_BEARER,
            timeout=aiohttp.ClientTimeout(ANSWER_DEADLINE_S),
            connector=aiohttp.TCPConnector(limit=0),
        )
        self._tasks = [asyncio.create_task(self._end_calls()) for _ in range(self._workers)]
        self._tasks.append(asyncio.create_task(self._begin_calls()))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        try:
            await asyncio.gather(*self._tasks)
        finally:
            for task in self._tasks:
                task.cancel()
            await self._http.close()

    async def send(self, count: int) -> None:
        """So many ends of call beside the others, all at once."""
        messages = [self._provider.end_of_call() for _ in range(count)]
        await asyncio.gather(*(self._send(message, self._instances[0]) for message in messages))

    async def _end_calls(self) -> None:
        at = 0
        while not self._over.is_set() and self._left > 0:
            self._left -= 1
            broken = self._dice.random() < _BROKEN_SHARE
            message = self._provider.broken() if broken else self._provider.end_of_call()
            insists = self._dice.random() < 0.5
            while True:
                status = await self._send(message, self._instances[at % len(self._instances)])
                if status is None:
                    at += 1
                if status == message.status or not insists or self._over.is_set():
                    break
                await asyncio.sleep(_BEFORE_RETRY_S)
            await asyncio.sleep(self._pause_s)

    async def _begin_calls(self) -> None:
        at = 0
        while not self._over.is_set():
            if await self._send(self._provider.prefetch(), self._instances[at % len(self._instances)]) is None:
                at += 1
            await asyncio.sleep(_BETWEEN_PREFETCHES_S)

    async def _send(self, message: Message, instance: Instance) -> int | None:
        attempt = self._ledger.write(message, instance.name)
        try:
            async with self._request(message, instance) as response:
                answer = json.loads(await response.read())
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            self._ledger.unknown(attempt, repr(error))
            return None
        self._ledger.answered(attempt, response.status, answer.get("event_id"), response.headers.get("retry-after"))
        return response.status

    def _request(self, message: Message, instance: Instance) -> "aiohttp.client._RequestContextManager":
        if message.topic == PREFETCHED:
            query = message.content.decode()
            return self._http.get(URL(f"{instance.url}/webhooks/prefetch?{query}", encoded=True))
        return self._http.post(f"{instance.url}/webhooks/end-of-call", data=message.content)
