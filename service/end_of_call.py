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
from service.responses import CLOSE, FAILED_HERE, error_body, send_json

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

_FAILED = Answer(500, error_body(FAILED_HERE, "failed"))


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
        for status in ("401", "500", "503"):
            REQUESTS.labels(WEBHOOK, status)  # from the start: to Prometheus one that begins with 1 has not increased

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
        except Exception:
            self._log.exception("an end of call failed before its body was there, or could not be kept")
            answer = _FAILED
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
            return await self._make_durable(received, scope["query_string"])
        except NotDurable:
            raise
        except Exception as error:
            # Ours is the mistake, and the provider may not send it again: the body is kept, to be looked at.
            self._log.exception("an end of call failed")
            return await self._keep_failed(received, error)

    async def _make_durable(self, received: bytes, query: bytes) -> Answer:
        try:
            if len(received) <= MAX_INLINE_BYTES:
                event = self._ended_calls.event(received, query)
            else:
                event = await asyncio.to_thread(self._ended_calls.event, received, query)
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

    async def _keep_failed(self, received: bytes, error: Exception) -> Answer:
        """500, whether the body can be kept or not: to send it again is right either way."""
        detail = f"Accepting it failed ({type(error).__name__}); the service's log has more."
        try:
            await self._quarantine.keep(WEBHOOK, "failed", detail, received)
        except NotDurable as not_kept:
            self._log.error("the body of an end of call that failed is not durable", reason=str(not_kept))
        return _FAILED
