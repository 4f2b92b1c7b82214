"""The end-of-call webhook: a body comes in, and is durable before we say so."""

import asyncio
import time
from typing import NamedTuple

from starlette.types import Receive, Scope, Send

from runtime.logs import logger
from runtime.metrics import REQUEST_SECONDS, REQUESTS
from service.auth import Keys
from service.body import BodyIncomplete, BodyTooLarge, read_body
from service.ended_call import EndedCalls, Unacceptable
from service.journal import Journal, NotDurable
from service.quarantine import Quarantine
from service.responses import CLOSE, error_body, send_json

WEBHOOK = "end-of-call"

RETRY_AFTER_S = 2  # a broker that was restarted takes about as long

# What is larger is read in a thread: 8 MiB may be millions of strings to be searched for secrets, which takes seconds,
# and a prefetch can't wait for that. A usual body has some kilobytes, and going to a thread would cost it more than the
# reading; of this size, one of the worst takes ten milliseconds.
MAX_INLINE_BYTES = 64 * 1024


class Answer(NamedTuple):
    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()


_UNAVAILABLE = Answer(
    503,
    error_body("The event could not be made durable; send it again.", "unavailable"),
    ((b"retry-after", b"%d" % RETRY_AFTER_S),),
)


class EndOfCallWebhook:
    """A plain ASGI callable: 200 with the event's id once it is durable, and never before."""

    def __init__(
        self,
        keys: Keys,
        ended_calls: EndedCalls,
        journal: Journal,
        quarantine: Quarantine,
        *,
        max_body_bytes: int,
    ) -> None:
        self._keys = keys
        self._ended_calls = ended_calls
        self._journal = journal
        self._quarantine = quarantine
        self._max_body_bytes = max_body_bytes
        self._log = logger("service.end_of_call")
        self._seconds = REQUEST_SECONDS.labels(WEBHOOK)
        self._ok = REQUESTS.labels(WEBHOOK, "200")
        for status in (
            "401",
            "503",
        ):  # there from the start: to Prometheus a series that begins with 1 has not increased
            REQUESTS.labels(WEBHOOK, status)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        if not self._keys.admits(scope["headers"]):
            REQUESTS.labels(WEBHOOK, "401").inc()
            await send_json(send, 401, self._keys.refusal, self._keys.challenge)
            return
        try:
            answer = await self._accept(scope, receive)
        except NotDurable as error:
            self._log.error("a rejected webhook is not durable", reason=str(error))
            answer = _UNAVAILABLE
        if answer.status == 200:
            self._ok.inc()
        else:
            REQUESTS.labels(WEBHOOK, str(answer.status)).inc()
        self._seconds.observe(time.perf_counter() - started)
        await send_json(send, answer.status, answer.body, answer.headers)

    async def _accept(self, scope: Scope, receive: Receive) -> Answer:
        try:
            received = await read_body(receive, self._max_body_bytes)
        except BodyTooLarge as error:
            sentence = f"The body is larger than {self._max_body_bytes} bytes (RINGLOG_MAX_BODY_BYTES)."
            await self._quarantine.keep_head(WEBHOOK, "too-large", sentence, error)
            return Answer(413, error_body(sentence, "too-large"), CLOSE)
        except BodyIncomplete as error:
            sentence = "The body did not arrive whole."
            await self._quarantine.keep(WEBHOOK, "incomplete", sentence, error.received)
            return Answer(408, error_body(sentence, "incomplete"), CLOSE)
        try:
            if len(received) <= MAX_INLINE_BYTES:
                event = self._ended_calls.event(received, scope["query_string"])
            else:
                event = await asyncio.to_thread(self._ended_calls.event, received, scope["query_string"])
        except Unacceptable as error:
            await self._quarantine.keep(WEBHOOK, error.reason, str(error), received)
            return Answer(error.status, error_body(str(error), error.reason))
        try:
            await self._journal.publish(event.entry)
        except NotDurable as error:
            self._log.error("not durable", reason=str(error), session_id=event.session_id, event_id=event.id)
            return _UNAVAILABLE
        self._log.debug("durable", session_id=event.session_id, event_id=event.id)
        return Answer(200, b'{"event_id":"%s"}' % event.id.encode())
