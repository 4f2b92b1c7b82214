"""The provider's REST API, as far as it tells of calls. Source: provider facts, REST API."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import Self
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from consumers.backoff import Backoff
from runtime.settings import SettingsError, missing

PAGE_CALLS = 100  # the most that it gives at once

# A call with an hour of talk has some hundred kilobytes; a page has a hundred calls.
ANSWER_DEADLINE_S = 60.0
MAX_ANSWER_BYTES = 256 * 1024 * 1024

TRIES = 6  # of one request: half a minute of trouble is waited for, then a person should know
MAX_RETRY_AFTER_S = 60.0


class ApiUnavailable(ConnectionError):
    """The API did not answer as it should, however often it was asked; one sentence."""


class _Page(msgspec.Struct):
    histories: list[msgspec.Raw] | None = None
    next_cursor: float | str | None = None


_page = msgspec.json.Decoder(_Page)


class MillisApi:
    """Bounded in rate: `rate` requests a second. Use it as a context manager.

    Raises `SettingsError` for a key that is missing or refused, `ApiUnavailable` when it does not answer.
    """

    def __init__(self, url: str, key: str | None, rate: float, stop: asyncio.Event) -> None:
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
        """What is known of one call, as JSON; None when the API does not know it."""
        return await self._get(f"/call-logs/{quote(session_id, safe='')}", {})

    async def calls(self, since_us: int, until_us: int) -> AsyncIterator[list[bytes]]:
        """Pages of calls that began in this time, each call as JSON."""
        cursor: float | str | None = None
        query = {"limit": str(PAGE_CALLS), "start_time": _seconds(since_us), "end_time": _seconds(until_us)}
        while not self._stop.is_set():
            answer = await self._get("/call-logs", query | ({} if cursor is None else {"start_after_ts": str(cursor)}))
            try:
                page = _page.decode(answer or b"{}")
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise ApiUnavailable(f"The provider's list of calls can't be read: {error}.") from None
            yield [bytes(call) for call in page.histories or ()]
            if page.next_cursor in (None, "", cursor) or not page.histories:
                return  # a cursor that stands still would be asked for ever
            cursor = page.next_cursor

    async def _get(self, path: str, query: Mapping[str, str]) -> bytes | None:
        """The body of a 200; None for a 404."""
        url = URL(self._base + path, encoded=True).with_query(query)
        backoff = Backoff(first_s=1.0)
        said = "it was stopped"
        for _ in range(TRIES):
            await self._turn()
            if self._stop.is_set():
                break
            try:
                async with self._http.get(url, allow_redirects=False) as answer:
                    if answer.status == 200:
                        return await _body(answer)
                    if answer.status == 404:
                        return None
                    if answer.status in (401, 403):
                        raise SettingsError(
                            f"RINGLOG_MILLIS_API_KEY is wrong: {self._base} refuses it ({answer.status})."
                        )
                    said = f"status {answer.status}"
                    if answer.status < 500 and answer.status != 429:
                        break  # it would say the same again
                    self._wait_as_told(answer.headers.get("retry-after", ""))
            except (aiohttp.ClientError, TimeoutError) as error:
                said = str(error) or type(error).__name__
            await backoff.wait(self._stop)
        raise ApiUnavailable(f"The provider's API at {self._base} can't be asked ({said}).")

    async def _turn(self) -> None:
        """Waits until the next request may be made."""
        now = time.monotonic()
        pause = self._next_at - now
        self._next_at = max(now, self._next_at) + self._pause_s
        if pause > 0:
            try:
                await asyncio.wait_for(self._stop.wait(), pause)
            except TimeoutError:
                return

    def _wait_as_told(self, retry_after: str) -> None:
        if retry_after.isdecimal():
            self._next_at = time.monotonic() + min(float(retry_after), MAX_RETRY_AFTER_S)


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
