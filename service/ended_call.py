"""An ended call as an event, made of the bytes that the provider sent: by its webhook, or by its API."""

from typing import NamedTuple
from urllib.parse import parse_qs

import msgspec

from runtime.clock import Clock
from runtime.logs import logger
from schemas.caller import CallerIdentity
from schemas.end_of_call import CallHead, head_of, identifier, phone_number
from schemas.event import ENDED, MAX_SESSION_ID_CHARACTERS, RECOVERED, Envelope, event_id, headers_of
from schemas.lenient import UNREADABLE, Members, members_of, mend_surrogates
from schemas.redaction import REDACTED, redact_agent_config
from schemas.topics import CALLS_ENDED
from service.journal import Entry
from service.session import SESSION_TOO_LONG

_REDACTED_WHOLE = msgspec.Raw(msgspec.json.encode(REDACTED))


class Unacceptable(ValueError):
    """A body that is no end of call: a word for programs, a sentence for people, the status of the answer."""

    def __init__(self, reason: str, sentence: str, status: int = 400) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.status = status


class Ended(NamedTuple):
    """An event, ready to be published, and the names by which a log line knows it."""

    entry: Entry
    id: str
    session_id: str


class EndedCalls:
    """Makes events of bodies, in any thread: decided once, here, are the session, the caller and what is a secret."""

    def __init__(self, identity: CallerIdentity, clock: Clock, max_event_bytes: int) -> None:
        self._identity = identity
        self._clock = clock
        self._max_event_bytes = max_event_bytes
        self._log = logger("service.ended_call")

    def event(self, received: bytes, query: bytes = b"", *, recovered: bool = False) -> Ended:
        """`query` is that of the webhook's URL; `recovered`: no webhook brought it. Raises `Unacceptable`."""
        members, call = _read(received)
        session_id = _session_id(call, query)
        if session_id is None:
            raise Unacceptable("no-session", "There is no session_id: an end of call must name its session.")
        if len(session_id) > MAX_SESSION_ID_CHARACTERS:
            raise Unacceptable("session-too-long", SESSION_TOO_LONG)
        voip_from, voip_to = (phone_number(call.voip.from_), phone_number(call.voip.to)) if call.voip else (None, None)
        caller, direction, decided_by = self._identity.identify(session_id, voip_from, voip_to, call.metadata_map)
        self._redact(members, session_id)
        id_ = event_id(RECOVERED if recovered else ENDED, session_id, received)
        now = self._clock()
        envelope = Envelope(
            event_id=id_,
            received_at=now,
            session_id=session_id,
            agent_id=identifier(call.agent_id),
            caller=caller,
            direction=direction,
            decided_by=decided_by,
            recovered=recovered,
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
