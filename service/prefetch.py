"""The prefetch webhook: answered from local state while the caller hears it ring."""

import time

import msgspec
from starlette.types import Receive, Scope, Send

from runtime.clock import Clock
from runtime.logs import logger
from runtime.metrics import ANSWERS, REQUEST_SECONDS, REQUESTS
from schemas.answered import FAILED_OPEN, KNOWN, NO_STATE, UNKNOWN, Answered, digest_of
from schemas.caller import CallerIdentity
from schemas.event import MAX_SESSION_ID_CHARACTERS, PREFETCHED, Envelope, event_id, headers_of
from schemas.prefetch import PrefetchQuery, QueryTooLarge, parse_prefetch
from schemas.topics import CALLS_PREFETCH
from service.answer import EMPTY, answer
from service.auth import Keys
from service.journal import Entry, Journal
from service.journal.backlog import hash_of
from service.prompts import Prompts
from service.quarantine import Quarantine
from service.responses import send_json
from service.session import SESSION_TOO_LONG
from state.reader import ProfileReader

WEBHOOK = "prefetch"

NO_SESSION = "There is no session_id in the query."


class PrefetchWebhook:
    """A plain ASGI callable. It waits for nothing: not for Kafka, not for a database, not for its own event."""

    def __init__(
        self,
        keys: Keys,
        identity: CallerIdentity,
        reader: ProfileReader,
        prompts: Prompts,
        journal: Journal,
        quarantine: Quarantine,
        clock: Clock,
    ) -> None:
        self._keys = keys
        self._identity = identity
        self._reader = reader
        self._prompts = prompts
        self._journal = journal
        self._quarantine = quarantine
        self._clock = clock
        self._log = logger("service.prefetch")
        self._seconds = REQUEST_SECONDS.labels(WEBHOOK)
        self._ok = REQUESTS.labels(WEBHOOK, "200")
        REQUESTS.labels(WEBHOOK, "401")  # there from the start, so that the first one is an increase
        self._known = ANSWERS.labels("known")
        self._unknown = ANSWERS.labels("unknown")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        if not self._keys.admits(scope["headers"]):
            REQUESTS.labels(WEBHOOK, "401").inc()
            await send_json(send, 401, self._keys.refusal, self._keys.challenge)
            return
        received: bytes = scope["query_string"]
        try:
            body, entry = self._answer(received, started)
        except Exception:
            # The caller must not pay for a mistake of ours; the webhook itself is kept, to be looked at.
            self._log.exception("a prefetch failed and was answered with nothing")
            ANSWERS.labels("failed-open").inc()
            await send_json(send, 200, EMPTY)
            self._ok.inc()
            self._quarantine.keep_soon(WEBHOOK, "failed", "Answering it failed.", received)
            return
        await send_json(send, 200, body)
        self._ok.inc()
        self._seconds.observe(time.perf_counter() - started)
        if entry is not None:
            self._journal.publish_soon(entry)

    def _answer(self, received: bytes, started: float) -> tuple[bytes, Entry | None]:
        try:
            query = parse_prefetch(received)
        except QueryTooLarge as error:
            self._quarantine.keep_soon(WEBHOOK, "too-large", str(error), received)
            return EMPTY, None
        session_id = (query.session_id or "").strip()
        caller, direction, decided_by = self._identity.identify(session_id, query.from_, query.to, query.metadata)
        key = caller.id.encode()
        body, answered = self._from_state(key, query.agent_id, started)
        if not session_id:
            self._quarantine.keep_soon(WEBHOOK, "no-session", NO_SESSION, received)
            return body, None
        if len(session_id) > MAX_SESSION_ID_CHARACTERS:
            self._quarantine.keep_soon(WEBHOOK, "session-too-long", SESSION_TOO_LONG, received)
            return body, None
        id_ = event_id(PREFETCHED, session_id, received)
        now = self._clock()
        envelope = Envelope(
            event_id=id_,
            received_at=now,
            session_id=session_id,
            agent_id=query.agent_id,
            caller=caller,
            direction=direction,
            decided_by=decided_by,
            answered=answered,
            body=_body(query),
        )
        value = msgspec.json.encode(envelope)
        return body, Entry(CALLS_PREFETCH, key, key, value, headers_of(PREFETCHED, id_, now, session_id))

    def _from_state(self, caller: bytes, agent_id: str | None, started: float) -> tuple[bytes, Answered]:
        """The answer, and what its event remembers of it. Never raises: a mistake of ours costs the caller nothing."""
        try:
            profile, seen = self._reader.look_up(caller, hash_of(caller))
            ended, facts = seen if seen is not None else (None, None)
            if profile is None:
                self._unknown.inc()
                outcome = NO_STATE if seen is None else UNKNOWN
                return EMPTY, Answered(
                    outcome=outcome, ended_offset=ended, facts_offset=facts, took_us=_us_since(started)
                )
            prompt = self._prompts.of(agent_id)
            body = answer(profile, prompt, agent_id)
            took_us = _us_since(started)
            self._known.inc()
            return body, Answered(
                outcome=KNOWN,
                digest=digest_of(body),
                template=prompt.name,
                template_digest=prompt.digest,
                ended_offset=ended,
                facts_offset=facts,
                took_us=took_us,
            )
        except Exception:
            self._log.exception("a prefetch failed and was answered with nothing")
            ANSWERS.labels("failed-open").inc()
            return EMPTY, Answered(outcome=FAILED_OPEN, took_us=_us_since(started))


def _us_since(started: float) -> int:
    return int((time.perf_counter() - started) * 1_000_000)


def _body(query: PrefetchQuery) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(query.parameters))
