"""Delivers calls as the provider would, only more patiently: what was refused is sent again for a while."""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec
from yarl import URL

from cli.simulator.call import Call, Step
from cli.simulator.tally import Tally

# Deliveries under way at a time. A provider with as many calls ending in one moment is a large one.
CONCURRENCY = 64

# How long one delivery is tried: a process that was killed is back within seconds, a broker within a minute.
PATIENCE_S = 90.0
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0

# Longer than the service's own deadlines: it shall say 503, not we.
_ANSWER_WITHIN_S = 30.0

_PATHS = {"prefetch": "/webhooks/prefetch", "end-of-call": "/webhooks/end-of-call"}


class DeliveryError(ValueError):
    """Nothing can be delivered; the text is one sentence that says why and what to do."""


def _no_url(said: str) -> DeliveryError:
    return DeliveryError(f"{said!r} is no URL of a ringlog: write it as http://127.0.0.1:8080.")


class Target:
    """The webhooks of a ringlog: `url` is the base of its public listener, `key` the secret that `header` carries.

    Raises `DeliveryError` for what is no URL.
    """

    def __init__(self, url: str, key: str, header: str = "authorization") -> None:
        base = url.rstrip("/").removesuffix("/webhooks")
        try:
            parts = urlsplit(base)
            port = parts.port
        except ValueError:
            raise _no_url(url) from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise _no_url(url)
        self._urls = {webhook: base + path for webhook, path in _PATHS.items()}
        self._headers = {header: f"Bearer {key}", "content-type": "application/json"}
        self.base = base
        self.host = parts.hostname
        self.port = port or (443 if parts.scheme == "https" else 80)

    def open(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=_ANSWER_WITHIN_S),
            connector=aiohttp.TCPConnector(limit=0),
        )

    async def send(self, http: aiohttp.ClientSession, step: Step) -> tuple[int, bytes]:
        """The answer's status and body. Raises `aiohttp.ClientError` and `TimeoutError`."""
        url = self._urls[step.webhook]
        if step.webhook == "prefetch":
            # As it is: a plus that the plan left alone must arrive as one.
            request = http.get(URL(f"{url}?{step.content.decode()}", encoded=True), allow_redirects=False)
        else:
            request = http.post(url, data=step.content, allow_redirects=False)
        async with request as answer:
            return answer.status, await answer.read()


class Delivery:
    """Delivers to `target`. What belongs to one session goes one after the other, the sessions side by side."""

    def __init__(
        self, target: Target, http: aiohttp.ClientSession, tally: Tally, patience_s: float = PATIENCE_S
    ) -> None:
        self._target = target
        self._http = http
        self._tally = tally
        self._patience_s = patience_s
        self._late: list[Call] = []

    async def all(self, calls: Iterable[Call], rate: float, done: Callable[[], None]) -> None:
        """`rate` is calls a second; 0: as fast as answers come. Raises `DeliveryError` when the key is refused."""
        started = time.monotonic()
        try:
            await self._spread(calls, rate, late=False, done=done)
            await self._spread(self._late, 0, late=True, done=lambda: None)
        except* DeliveryError as group:
            raise _first(group) from None
        finally:
            self._tally.seconds = time.monotonic() - started

    async def _spread(self, calls: Iterable[Call], rate: float, *, late: bool, done: Callable[[], None]) -> None:
        free = asyncio.Semaphore(CONCURRENCY)
        started = time.monotonic()

        async def one(call: Call) -> None:
            try:
                await self._deliver(call, late=late)
            finally:
                free.release()
            done()

        async with asyncio.TaskGroup() as group:
            for number, call in enumerate(calls):
                if rate and (pause := started + number / rate - time.monotonic()) > 0:
                    await asyncio.sleep(pause)
                await free.acquire()
                group.create_task(one(call))

    async def _deliver(self, call: Call, *, late: bool) -> None:
        for step in call.steps:
            if step.late is not late:
                continue
            outcomes = await asyncio.gather(*(self._patiently(call, step) for _ in range(step.copies)))
            if not all(outcomes):
                return  # what follows would overtake what is missing
        if not late:
            self._tally.lost += call.lost
            self._tally.calls += not (call.lost or any(step.broken for step in call.steps))
            if any(step.late for step in call.steps):
                self._late.append(call)

    async def _patiently(self, call: Call, step: Step) -> bool:
        """Whether the step was answered as it should be."""
        deadline = time.monotonic() + self._patience_s
        pause = _FIRST_PAUSE_S
        while True:
            began = time.perf_counter()
            try:
                status, body = await self._target.send(self._http, step)
            except (aiohttp.ClientError, TimeoutError) as error:
                trouble = f"{type(error).__name__} {error}".strip()
            else:
                if status < 500:
                    return self._judge(call, step, status, body, time.perf_counter() - began)
                trouble = f"status {status}"
            if time.monotonic() + pause > deadline:
                self._tally.fail(call.session_id, f"{step.webhook} was not accepted: {trouble}")
                return False
            self._tally.retries += 1
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_S)

    def _judge(self, call: Call, step: Step, status: int, body: bytes, seconds: float) -> bool:
        if status in (401, 403):
            raise DeliveryError(
                f"{self._target.base} refuses the key ({status}); give one of its RINGLOG_WEBHOOK_KEYS as --key."
            )
        if step.broken:
            if status == 400:
                self._tally.rejected += 1
                return True
            self._tally.fail(call.session_id, f"a broken body ({call.shape}) was answered {status}, not 400")
            return False
        if not 200 <= status < 300:
            said = body[:200].decode(errors="replace")
            self._tally.fail(call.session_id, f"{step.webhook} ({call.shape}) was answered {status}: {said}")
            return False
        self._tally.answered(step.webhook, seconds)
        if step.webhook == "prefetch" and prefetch_answer(body) is None:
            self._tally.fail(call.session_id, f"prefetch ({call.shape}) was answered with no metadata and extra_prompt")
            return False
        return True


class PrefetchAnswer(msgspec.Struct):
    """Source: the provider's webhook page."""

    metadata: dict[str, Any]
    extra_prompt: str


def prefetch_answer(body: bytes) -> PrefetchAnswer | None:
    """None when it is not what the provider expects."""
    try:
        return msgspec.json.decode(body, type=PrefetchAnswer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _first(group: BaseExceptionGroup[DeliveryError]) -> DeliveryError:
    error = group.exceptions[0]
    return error if isinstance(error, DeliveryError) else _first(error)
