"""One attempt at a recording: its bytes, over as many connections as they take, all of one version."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing

from aiohttp import ClientResponse, hdrs

from consumers.recordings.failure import FetchFailed, Interrupted, as_failures
from consumers.recordings.guard import Refused
from consumers.recordings.pace import Pace
from consumers.recordings.sound import HEAD_BYTES, is_a_page
from consumers.recordings.version import total_of, version_of
from runtime.metrics import RECORDING_CONTINUATIONS

# Connections after the first. A server that ends each of them after some megabytes still gives a long recording.
MAX_CONTINUATIONS = 20

# Before each: a server that restarts is back within some of them.
PAUSE_S = 1.0

# Answers a request with these headers, redirects followed, each address judged. Raises `Refused` and `FetchFailed`.
Ask = Callable[[Mapping[str, str]], Awaitable[ClientResponse]]


class Download:
    """What broke off goes on where it ended, if the server has named a version and still has that one (`Range` with
    `If-Range`). Otherwise the attempt ends, and the next one begins anew.

    Whoever makes one closes it. `answer` is the first to what it `ask`s.
    """

    def __init__(self, ask: Ask, answer: ClientResponse, max_bytes: int, pace: Pace) -> None:
        self._ask = ask
        self._answer = answer
        self._max_bytes = max_bytes
        self._pace = pace
        self._version = version_of(answer)
        self._total: int | None = None  # unknown
        self._size = 0
        self._continuations = 0

    def close(self) -> None:
        self._answer.close()

    async def chunks(self) -> AsyncIterator[bytes]:
        """As they arrive. Raises `Refused` when there are too many, `FetchFailed` for all else that can go wrong, such
        as any answer but 200."""
        if self._answer.status != 200:
            raise FetchFailed(f"the server answered {self._answer.status}")
        self._expect(self._answer.content_length)
        said_type = self._answer.content_type
        async with aclosing(self._bytes()) as arriving:
            head = b""
            while len(head) < HEAD_BYTES and (chunk := await anext(arriving, b"")):
                head += chunk
            if not head:
                raise FetchFailed("the answer was empty")
            if is_a_page(head[:HEAD_BYTES], said_type):
                raise FetchFailed(f"the server sent a page, not sound ({said_type[:60]})")
            yield head
            async for chunk in arriving:
                yield chunk

    async def _bytes(self) -> AsyncGenerator[bytes, None]:
        while True:
            try:
                while chunk := await self._next():
                    yield chunk
                if self._total in (None, self._size):
                    return
                broken = Interrupted(f"{self._size} bytes arrived, {self._total} were announced")
            except Interrupted as error:
                broken = error
            await self._go_on(broken)

    async def _next(self) -> bytes:
        with as_failures(), self._pace.waiting():
            chunk = await self._answer.content.readany()
        self._pace.received(len(chunk))
        self._size += len(chunk)
        if self._size > self._max_bytes:
            raise self._too_large()
        if self._total is not None and self._size > self._total:
            raise FetchFailed(f"more bytes arrived than the {self._total} that were announced")
        return chunk

    async def _go_on(self, broken: FetchFailed) -> None:
        """Asks for what is missing. Raises `FetchFailed`, as it broke off, when that is not to be had."""
        version = self._version
        if version is None:
            raise broken
        rest: dict[str, str] = {hdrs.RANGE: f"bytes={self._size}-", hdrs.IF_RANGE: version.validator}
        while self._continuations < MAX_CONTINUATIONS:
            self._continuations += 1
            self.close()
            try:
                with self._pace.waiting():
                    await asyncio.sleep(PAUSE_S)
                    self._answer = await self._ask(rest)
            except Interrupted as error:
                broken = error
                continue
            self._pace.received(0)
            if self._answer.status < 500:
                self._expect(total_of(self._answer, version, self._size, self._total))
                RECORDING_CONTINUATIONS.inc()
                return
            broken = FetchFailed(f"the answer broke off, and to go on the server answered {self._answer.status}")
        raise broken

    def _expect(self, total: int | None) -> None:
        if self._answer.headers.get(hdrs.CONTENT_ENCODING, "identity").lower() != "identity":
            raise FetchFailed("the server compressed its answer unasked")
        if (total or 0) > self._max_bytes:
            raise self._too_large()
        self._total = total

    def _too_large(self) -> Refused:
        return Refused(f"the recording is larger than RINGLOG_RECORDING_MAX_BYTES, {self._max_bytes} bytes")
