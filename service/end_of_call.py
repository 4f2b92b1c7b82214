"""The end-of-call webhook: a body comes in, and is durable before we say so."""

import asyncio
import time
from typing import NamedTuple
from urllib.parse import parse_qs

import msgspec
from starlette.types import Receive, Scope, Send

from runtime.clock import Clock
from runtime.logs import logger
from runtime.metrics import REQUEST_SECONDS, REQUESTS
from schemas.caller import CallerIdentity
from schemas.end_of_call import CallHead, head_of, identifier, phone_number
from schemas.event import ENDED, MAX_SESSION_ID_CHARACTERS, Envelope, event_id, headers_of
from schemas.lenient import UNREADABLE, Members, members_of, mend_surrogates
from schemas.redaction import REDACTED, redact_agent_config
from schemas.topics import CALLS_ENDED
from service.auth import Keys
from service.body import BodyIncomplete, BodyTooLarge, read_body
from service.journal import Entry, Journal, NotDurable
from service.quarantine import Quarantine
from service.responses import CLOSE, error_body, send_json
from service.session import SESSION_TOO_LONG

WEBHOOK = "end-of-call"

RETRY_AFTER_S = 2  # a broker that was restarted takes about as long

# What is larger is read in a thread: 8 MiB may be millions of strings to be searched for secrets, which takes seconds,
# and a prefetch can't wait for that. A usual body has some kilobytes, and going to a thread would cost it more than the
# reading; of this size, one of the worst takes ten milliseconds.
MAX_INLINE_BYTES = 64 * 1024

_REDACTED_WHOLE = msgspec.Raw(msgspec.json.encode(REDACTED))


class Unacceptable(ValueError):
    """A body that is no end of call: a word for programs, a sentence for people, the status of the answer."""

    def __init__(self, reason: str, sentence: str, status: int = 400) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.status = status


class Answer(NamedTuple):
    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()


_UNAVAILABLE = Answer(
    503,
    error_body("The event could not be made durable; send it again.", "unavailable"),
    ((b"retry-after", b"%d" % RETRY_AFTER_S),),
)


class Ended(NamedTuple):
    """An event, ready to be published, and the names by which a log line knows it."""

    entry: Entry
    id: str
    session_id: str


class EndOfCallWebhook:
    """A plain ASGI callable: 200 with the event's id once it is durable, and never before."""

    def __init__(
        self,
        keys: Keys,
        identity: CallerIdentity,
        journal: Journal,
        quarantine: Quarantine,
        clock: Clock,
        *,
        max_body_bytes: int,
        max_event_bytes: int,
    ) -> None:
        self._keys = keys
        self._identity = identity
        self._journal = journal
        self._quarantine = quarantine
        self._clock = clock
        self._max_body_bytes = max_body_bytes
        self._max_event_bytes = max_event_bytes
        self._log = logger("service.end_of_call")
        self._seconds = REQUEST_SECONDS.labels(WEBHOOK)
        self._ok = REQUESTS.labels(WEBHOOK, "200")

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
                event = self._event(received, scope["query_string"])
            else:
                event = await asyncio.to_thread(self._event, received, scope["query_string"])
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

    def _event(self, received: bytes, query: bytes) -> Ended:
        """The event of a body; in any thread. Raises `Unacceptable`."""
        members, call = _read(received)
        session_id = _session_id(call, query)
        if session_id is None:
            raise Unacceptable("no-session", "There is no session_id: an end of call must name its session.")
        if len(session_id) > MAX_SESSION_ID_CHARACTERS:
            raise Unacceptable("session-too-long", SESSION_TOO_LONG)
        voip_from, voip_to = (phone_number(call.voip.from_), phone_number(call.voip.to)) if call.voip else (None, None)
        caller, direction, decided_by = self._identity.identify(session_id, voip_from, voip_to, call.metadata_map)
        self._redact(members, session_id)
        id_ = event_id(ENDED, session_id, received)
        now = self._clock()
        envelope = Envelope(
            event_id=id_,
            received_at=now,
            session_id=session_id,
            agent_id=identifier(call.agent_id),
            caller=caller,
            direction=direction,
            decided_by=decided_by,
            body=msgspec.Raw(msgspec.json.encode(members)),
        )
        value = msgspec.json.encode(envelope)
        if len(value) > self._max_event_bytes:
            raise Unacceptable("too-large", "The event would be too large for its topic.", 413)
        key = caller.id.encode()
        return Ended(Entry(CALLS_ENDED, key, key, value, headers_of(ENDED, id_, now, session_id)), id_, session_id)

    def _redact(self, members: Members, session_id: str) -> None:
        if (config := members.get("agent_config")) is None:
            return
        if bytes(config).startswith(b'"'):
            # JSON inside of a string, perhaps: nothing tells what in it is a secret.
            members["agent_config"] = _REDACTED_WHOLE
            return
        try:
            members["agent_config"] = redact_agent_config(config)
        except UNREADABLE:
            # What can't be read can't be redacted, and must not cost the call.
            self._log.warning("an agent_config could not be read and is redacted whole", session_id=session_id)
            members["agent_config"] = _REDACTED_WHOLE


def _read(received: bytes) -> tuple[Members, CallHead]:
    """The members, verbatim, and what we understand of them. Raises `Unacceptable`."""
    try:
        received.decode()  # msgspec doesn't look at bytes inside members that it leaves raw
    except UnicodeDecodeError as error:
        raise Unacceptable("not-utf8", f"The body is not UTF-8 (byte {error.start}).") from None
    try:
        members = members_of(received)
    except msgspec.ValidationError:
        raise Unacceptable("not-an-object", "The body is JSON, but not an object.") from None
    except msgspec.DecodeError as error:
        mended = mend_surrogates(received)
        if mended != received:
            return _read(mended)
        raise Unacceptable("not-json", f"The body is not JSON: {error}.") from None
    except RecursionError:
        raise Unacceptable("too-deep", "The body is nested too deep.") from None
    return members, head_of(members)


def _session_id(call: CallHead, query: bytes) -> str | None:
    """From the body; else from the URL, where a user may have put it; else the call's own id names the session."""
    found = identifier(call.session_id)
    if found is None and query:
        found = identifier(parse_qs(query.decode("latin-1")).get("session_id", [None])[0])
    return found or identifier(call.call_id)
