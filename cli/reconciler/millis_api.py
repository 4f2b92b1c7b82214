"""The provider's REST API, as far as it tells of calls. Source: provider facts, REST API."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from typing import Self
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from consumers.backoff import Backoff
from runtime.settings import SettingsError, missing
from schemas.lenient import NULL, UNREADABLE, mend_surrogates

PAGE_CALLS = 100  # the most that it gives at once

# A call with an hour of talk has some hundred kilobytes; a page has a hundred calls.
ANSWER_DEADLINE_S = 60.0
MAX_ANSWER_BYTES = 256 * 1024 * 1024

TRIES = 5  # of one request: some fifteen seconds of trouble are waited for
MAX_RETRY_AFTER_S = 60.0


class ApiUnavailable(ConnectionError):
    """The API did not answer as it should, however often it was asked; one sentence."""


class CallRefused(ValueError):
    """The API does not give this one call, and would not the next time; the text says what it said."""


class Stopped(Exception):
    """We were told to stop while we waited."""


class _Page(msgspec.Struct):
    """The cursor is sent back as it came: as a float it would be another number."""

    histories: list[msgspec.Raw] | None = None
    next_cursor: msgspec.Raw = NULL


_page = msgspec.json.Decoder(_Page)


class MillisApi:
    """Bounded in rate: `rate` requests a second. Use it as a context manager.

    Its methods raise `ApiUnavailable` when it does not answer, `SettingsError` when it refuses the key, and `Stopped`.
    """

    def __init__(self, url: str, key: str | None, rate: float, stop: asyncio.Event) -> None:
        """Raises `SettingsError` without a key."""
        if not key:
            raise missing("MILLIS_API_KEY", "the provider's private key is needed to ask it for calls")
        self._base = url.rstrip("/")
        self._key = key
        self._pause_s = 1 / rate
        self._stop = stop
        self._next_at = 0.0

    async def __aenter__(self) -> Self:
        # No scheme word before the key: so the provider wants it.
        self._http = aiohttp.ClientSession(
            headers={"authorization": self._key}, timeout=aiohttp.ClientTimeout(total=ANSWER_DEADLINE_S)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()

    async def call(self, session_id: str) -> bytes | None:
        """What is known of one call, as JSON; None when the API does not know it. Raises `CallRefused`, too."""
        return await self._get(f"/call-logs/{quote(session_id, safe='')}", {})

    async def calls(self, since_us: int, until_us: int) -> AsyncIterator[list[bytes]]:
        """Pages of calls that began in this time, each call as JSON, perhaps shortened."""
        cursor = b""
        query = {"limit": str(PAGE_CALLS), "start_time": _seconds(since_us), "end_time": _seconds(until_us)}
        while True:
            try:
                answer = await self._get("/call-logs", query | ({"start_after_ts": _text(cursor)} if cursor else {}))
            except CallRefused as error:
                raise ApiUnavailable(f"The provider's list of calls can't be had ({error}).") from None
            page = _decoded(answer or b"{}")
            yield [bytes(call) for call in page.histories or ()]
            following = bytes(page.next_cursor)
            if following in (b"null", b'""', cursor):
                return  # a cursor that stands still would be asked for ever
            cursor = following

    async def _get(self, path: str, query: Mapping[str, str]) -> bytes | None:
        """The body of a 200; None for a 404."""
        url = URL(self._base + path, encoded=True).with_query(query)
        backoff = Backoff(first_s=1.0)
        said = ""
        for _ in range(TRIES):
            await self._turn()
            try:
                async with self._http.get(url, allow_redirects=False) as answer:
                    if answer.status == 200:
                        return await _body(answer)
                    if answer.status == 404:
                        return None
                    self._judge(answer.status)
                    said = f"status {answer.status}"
                    self._wait_as_told(answer.headers.get("retry-after", ""))
            except (aiohttp.ClientError, TimeoutError) as error:
                said = str(error) or type(error).__name__
            await backoff.wait(self._stop)
        raise ApiUnavailable(f"The provider's API at {self._base} can't be asked ({said}).")

    def _judge(self, status: int) -> None:
        """Returns for what may pass."""
        if status in (401, 403):
            raise SettingsError(f"RINGLOG_MILLIS_API_KEY is wrong: {self._base} refuses it ({status}).")
        if status < 500 and status != 429:
            raise CallRefused(f"status {status}")

    async def _turn(self) -> None:
        """Waits until the next request may be made. Raises `Stopped`."""
        now = time.monotonic()
        pause = max(0.0, self._next_at - now)
        self._next_at = now + pause + self._pause_s
        if pause:
            with contextlib.suppress(TimeoutError):  # the usual end of a wait
                await asyncio.wait_for(self._stop.wait(), pause)
        if self._stop.is_set():
            raise Stopped

    def _wait_as_told(self, retry_after: str) -> None:
        if retry_after.isdecimal():
            self._next_at = time.monotonic() + min(float(retry_after), MAX_RETRY_AFTER_S)


def _decoded(answer: bytes) -> _Page:
    """Raises `ApiUnavailable`."""
    try:
        return _page.decode(answer)
    except UNREADABLE as error:
        mended = mend_surrogates(answer)  # half an emoji in one call must not cost the others of its page
        if mended != answer:
            return _decoded(mended)
        raise ApiUnavailable(f"The provider's list of calls can't be read: {error}.") from None


def _text(cursor: bytes) -> str:
    """A number as it was written, a text without its quotes."""
    return msgspec.json.decode(cursor, type=str) if cursor.startswith(b'"') else cursor.decode()


async def _body(answer: aiohttp.ClientResponse) -> bytes:
    parts, size = [], 0
    async for part in answer.content.iter_any():
        parts.append(part)
        size += len(part)
        if size > MAX_ANSWER_BYTES:
            raise ApiUnavailable(f"The provider's API answered with more than {MAX_ANSWER_BYTES} bytes.")
    return b"".join(parts)


def _seconds(time_us: int) -> str:
    return f"{time_us / 1_000_000:.6f}"
