"""One thing that happened, as it lies in a topic: a CloudEvent in Kafka's binary mode.

Attributes are `ce_*` headers, the value is JSON: our envelope and, in `body`, what the provider sent.
"""

import functools
import hashlib
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Annotated

import msgspec

from schemas.answered import Answered
from schemas.caller import Caller, Direction
from schemas.end_of_call import MAX_TIMESTAMP_S

Headers = Sequence[tuple[str, bytes]]

SOURCE = b"/ringlog"

PREFETCHED = "ringlog.call.prefetched"
ENDED = "ringlog.call.ended"
RECOVERED = (
    "ringlog.call.recovered"  # no event's type: what the id of an ended call is made from that no webhook brought
)
REJECTED = "ringlog.call.rejected"
CALLER_FACT = "ringlog.caller.fact"
CHARGED = "ringlog.billing.charged"
TRANSCRIBED = "ringlog.transcript.ready"
RECORDED = "ringlog.recording.stored"

_ID_BYTES = 16

_SPEC_VERSION = "ce_specversion", b"1.0"
_FROM_US = "ce_source", SOURCE
_JSON = "content-type", b"application/json"

_EPOCH = date(1970, 1, 1)


# It becomes a header, a key in a database and part of a file's name; the provider's have 36 characters.
MAX_SESSION_ID_CHARACTERS = 256

# What a foreign record may say beyond it is no time, and could not be written as one.
ReceivedAt = Annotated[
    int, msgspec.Meta(ge=0, le=MAX_TIMESTAMP_S * 1_000_000, description="Microseconds since the epoch.")
]


DECIDED_BY = (
    "Why the direction is this one: own-number, both-own, neither-own, from-by-default, no-numbers; null in events that"
    " are older than this member. Other words may come."
)


class Envelope(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The value of an event in `calls.prefetch` and `calls.ended`.

    Readers must expect `sealed` in the place of `body` one day. `recovered`: no webhook brought the body, it was asked
    of the provider's API; `received_at` is when. `answered` is for `calls.prefetch` alone.
    """

    event_id: str
    received_at: ReceivedAt
    session_id: str
    agent_id: str | None
    caller: Caller
    direction: Direction
    decided_by: Annotated[str | None, msgspec.Meta(description=DECIDED_BY)] = None
    recovered: bool = False
    answered: Answered | None = None
    body: msgspec.Raw


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A record as a consumer gets it: where it lies and its bytes. `appended_ms` is the broker's clock."""

    topic: str
    partition: int
    offset: int
    appended_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers

    def header(self, name: str) -> str | None:
        """The last header of that name, as text."""
        for found, value in reversed(self.headers):
            if found == name:
                return value.decode(errors="replace")
        return None

    @property
    def event_type(self) -> str | None:
        return self.header("ce_type")


def event_id(kind: str, session_id: str, received: bytes) -> str:
    """A hash of kind, session and the bytes received: the same delivery twice is the same event."""
    digest = hashlib.blake2b(digest_size=_ID_BYTES)
    digest.update(f"{kind}\0{session_id}\0".encode(errors="surrogatepass"))
    digest.update(received)
    return digest.hexdigest()


def headers_of(event_type: str, id_: str, time_us: int, subject: str | None = None) -> list[tuple[str, bytes]]:
    """CloudEvents 1.0 attributes. `subject` is the session, when there is one."""
    headers = [
        _SPEC_VERSION,
        ("ce_id", id_.encode()),
        _FROM_US,
        _of_type(event_type),
        ("ce_time", rfc3339(time_us).encode()),
        _JSON,
    ]
    if subject is not None:
        headers.append(("ce_subject", subject.encode(errors="replace")))
    return headers


@functools.lru_cache(maxsize=64)  # of ours there are a dozen
def _of_type(event_type: str) -> tuple[str, bytes]:
    return "ce_type", event_type.encode()


def rfc3339(time_us: int) -> str:
    """`2026-01-31T09:30:00.000001Z`"""
    seconds, micros = divmod(time_us, 1_000_000)
    return f"{_second(seconds)}.{micros:06d}Z"


@functools.lru_cache(maxsize=1024)  # each event of a second has it
def _second(seconds: int) -> str:
    days, second = divmod(seconds, 86_400)
    return f"{_date(days)}T{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}"


@functools.lru_cache(maxsize=1024)  # and the last calls of callers are within some years
def _date(days: int) -> str:
    return (_EPOCH + timedelta(days)).isoformat()


_envelopes = msgspec.json.Decoder(Envelope)


def decode_envelope(value: bytes) -> Envelope:
    """Raises `msgspec.DecodeError`, `UnicodeDecodeError` or `RecursionError`."""
    return _envelopes.decode(value)


def ordering(envelope: Envelope, appended_ms: int) -> tuple[bool, int, str]:
    """By which revisions of a session are ordered: whether a webhook brought it, when it was received, the id.

    So what the provider's API says never outranks a webhook, however late it was asked. A time of receipt later than
    the broker's own time of append comes from a wrong clock, and is cut to it.
    """
    return not envelope.recovered, min(envelope.received_at, appended_ms * 1000 + 999), envelope.event_id
