"""A call of a check on its way: through the two webhooks, and back out of the topics."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import aiohttp
import msgspec

from cli.simulator.call import Step
from cli.simulator.delivery import Target, prefetch_answer
from consumers.log_reader import LogReader
from runtime.kafka import KafkaUnavailable
from runtime.settings import Settings
from schemas.check import CHECK_AGENT, CHECK_SESSION, check_body
from schemas.event import Record
from schemas.topics import CALLS_ENDED, CALLS_PREFETCH

_POLL_S = 0.2

# A service that was installed a moment ago may be ready before every proxy of the cluster leads to it.
_REACHED_WITHIN_S = 10.0

# Asks, and returns whether the answer is good, and what it said.
Ask = Callable[[aiohttp.ClientSession], Awaitable[tuple[bool, str]]]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """`what` was looked at, whether it is `good`, what it `said`, and how long it took, where that says something."""

    what: str
    good: bool
    said: str
    seconds: float | None = None


class RoundTrip:
    """One call of a check. `run` returns what was found, in the order in which it was looked at."""

    def __init__(self, settings: Settings, target: Target, patience_s: float) -> None:
        """`patience_s`: how long the topics may take to have the call, after it was accepted.

        Who can't be connected to is tried again for so long, too, and for ten seconds at the most.
        """
        self._settings = settings
        self._target = target
        self._patience_s = patience_s
        self.session_id = CHECK_SESSION + secrets.token_hex(8)
        self._event_id = ""

    async def run(self) -> list[Finding]:
        """Raises `SettingsError` for connections that can't work."""
        topics = [topic.named(self._settings.topic_prefix) for topic in (CALLS_PREFETCH, CALLS_ENDED)]
        async with AsyncExitStack() as stack:
            readers: dict[str, LogReader | KafkaUnavailable] = {}
            for topic in topics:  # before the call is sent: it is behind what is there now
                readers[topic] = await _opened(stack, self._settings, topic)
            findings = [await self._timed("prefetch", self._prefetch), await self._timed("end of call", self._end)]
            if all(finding.good for finding in findings):
                findings += await asyncio.gather(*(self._look(topic, readers[topic]) for topic in topics))
        return findings

    async def _timed(self, what: str, ask: Ask) -> Finding:
        until = time.perf_counter() + min(self._patience_s, _REACHED_WITHIN_S)
        while True:
            began = time.perf_counter()
            try:
                async with self._target.open() as http:
                    good, said = await ask(http)
            except aiohttp.ClientConnectorError as error:  # nothing was sent
                if time.perf_counter() < until:
                    await asyncio.sleep(_POLL_S)
                    continue
                good, said = False, self._no_answer(error)
            except (aiohttp.ClientError, TimeoutError) as error:
                good, said = False, self._no_answer(error)
            return Finding(what=what, good=good, said=said, seconds=time.perf_counter() - began)

    def _no_answer(self, error: Exception) -> str:
        return f"{self._target.base} gave no answer: {str(error) or type(error).__name__}"

    async def _prefetch(self, http: aiohttp.ClientSession) -> tuple[bool, str]:
        query = f"session_id={self.session_id}&agent_id={CHECK_AGENT}".encode()
        status, body = await self._target.send(http, Step(webhook="prefetch", content=query))
        if status != 200:
            return False, _refusal(status, body)
        if prefetch_answer(body) is None:
            return False, "200, but no metadata and extra_prompt as the provider expects them"
        return True, "answered"

    async def _end(self, http: aiohttp.ClientSession) -> tuple[bool, str]:
        body = check_body(self.session_id, int(time.time()))
        status, answer = await self._target.send(http, Step(webhook="end-of-call", content=body))
        if status != 200:
            return False, _refusal(status, answer)
        try:
            self._event_id = str(msgspec.json.decode(answer)["event_id"])
        except (msgspec.DecodeError, TypeError, KeyError):
            return False, "200, but no event_id: this is no ringlog"
        return True, f"accepted as event {self._event_id}"

    async def _look(self, topic: str, reader: LogReader | KafkaUnavailable) -> Finding:
        if isinstance(reader, KafkaUnavailable):
            return Finding(what=topic, good=False, said=str(reader))
        began = time.perf_counter()
        try:
            record = await self._found(reader, began + self._patience_s)
        except KafkaUnavailable as error:
            return Finding(what=topic, good=False, said=str(error))
        if record is None:
            said = f"not there within {self._patience_s:g} s; does the service use this Kafka and this topic prefix?"
            return Finding(what=topic, good=False, said=f"{said} It may wait in the service's spool.")
        place = f"partition {record.partition}, offset {record.offset}"
        return Finding(what=topic, good=True, said=place, seconds=time.perf_counter() - began)

    async def _found(self, reader: LogReader, until: float) -> Record | None:
        while time.perf_counter() < until:
            await reader.measure()
            async for records in reader.read(dict(reader.ends)):
                for record in records:
                    if record.header("ce_subject") == self.session_id:
                        return record
            await asyncio.sleep(_POLL_S)
        return None


async def _opened(stack: AsyncExitStack, settings: Settings, topic: str) -> LogReader | KafkaUnavailable:
    """A reader that begins at the topic's end, or why there is none: the webhooks are worth a look all the same."""
    try:
        reader = await stack.enter_async_context(LogReader(settings, topic))
    except KafkaUnavailable as error:
        return error
    reader.at = dict(reader.ends)
    return reader


def _refusal(status: int, body: bytes) -> str:
    return f"status {status}: {body[:200].decode(errors='replace')}"
