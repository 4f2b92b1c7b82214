"""Events as the fold reads them: one typed decode each, and the lenient way for those of an odd shape.

Nothing here that is read holds a cycle, so the collector need not look at any of it (`gc=False`): a batch has a hundred
thousand objects.
"""

from typing import Annotated, Any

import msgspec

from schemas.check import is_check
from schemas.end_of_call import MAX_DURATION_S, MAX_TIMESTAMP_S, EndOfCall, decode_end_of_call
from schemas.event import ReceivedAt, decode_envelope
from schemas.facts import CallerFact, FactError, check_fact, parse_fact_key
from schemas.lenient import NULL, UNREADABLE, nests_deeper
from schemas.money import MoneyError
from schemas.session_metadata import remembered
from schemas.status import KNOWN, OTHER
from state.profile import EMPTY_MAP
from state.session import Prefetch, Revision, session_key

# A caller's id is a hash of 32 characters; this is what an LMDB key can hold of any other, whatever its alphabet.
MAX_CALLER_ID_LENGTH = 100

# An answer carries the remembered metadata: more than this is not remembered (the event keeps it).
MAX_METADATA_BYTES = 16 * 1024  # as JSON

# Decoders give up on nesting at a depth that depends on who calls them. This is far from it: what is remembered in
# one process can be read in another.
MAX_METADATA_DEPTH = 32

MAX_AGENT_ID_LENGTH = 256

# A million credits for one call is a mistake of the sender's. The bill has it; in a profile it is an unknown cost,
# and so ten million calls of one caller can be added up in the 64 bits of a stored integer.
MAX_CALL_MICROS = 10**12

_NO_METADATA = bytes(EMPTY_MAP)


class Unreadable(ValueError):
    """An event that is not what its topic promises."""


class _Unusual(ValueError):
    """A price for which a float might say something else than its text."""


class Announced(msgspec.Struct, frozen=True, gc=False):
    """Of a session, named by its key, that it was announced."""

    session: bytes
    prefetch: Prefetch


class Ended(msgspec.Struct, frozen=True, gc=False):
    """Of a session, named by its key. `cost_error`: why the cost, which counts as unknown, could not be read."""

    session: bytes
    revision: Revision
    cost_error: str | None = None


class Fact(msgspec.Struct, frozen=True, gc=False):
    """A value of None deletes. `error`: why the record, which counts as a deletion, could not be read."""

    caller: bytes
    name: str
    value: Any
    error: str | None = None


class _Caller(msgspec.Struct, gc=False):
    id: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_CALLER_ID_LENGTH)]


class _Price(msgspec.Struct, gc=False):
    credit: float | None = None


class _Body(msgspec.Struct, gc=False):
    """The members of `EndOfCall` that a profile is made of."""

    ts: float | None = None
    duration: float | None = None
    call_status: str | None = None
    metadata: msgspec.Raw = NULL
    cost_breakdown: list[_Price] | None = None


class _Known(msgspec.Struct, gc=False):
    """What is read of every envelope."""

    event_id: str
    received_at: ReceivedAt
    session_id: Annotated[str, msgspec.Meta(min_length=1)]
    caller: _Caller


class _Prefetched(_Known, gc=False):
    body: msgspec.Raw  # one day it may be sealed: then there is none, and this is not the version that can read it


class _Ended(_Known, gc=False):
    body: _Body
    agent_id: str | None = None
    recovered: bool = False


_prefetched = msgspec.json.Decoder(_Prefetched).decode
_ended = msgspec.json.Decoder(_Ended).decode
_head = msgspec.json.Decoder(_Known).decode
_fact = msgspec.json.Decoder(CallerFact).decode
_json = msgspec.json.Decoder().decode
_msgpack = msgspec.msgpack.Encoder()


def read_prefetched(value: bytes | None, appended_ms: int) -> Announced | None:
    """None: a check, which was no call. Raises `Unreadable`."""
    try:
        event = _prefetched(value or b"")
    except UNREADABLE as error:
        raise Unreadable(str(error)) from None
    if is_check(event.session_id):
        return None
    announced = Prefetch(_received_at(event, appended_ms), event.event_id, event.caller.id)
    return Announced(session_key(event.session_id), announced)


def read_ended(value: bytes | None, appended_ms: int) -> Ended | None:
    """None: a check, which was no call. Raises `Unreadable`."""
    try:
        event = _ended(value or b"")
        prices = event.body.cost_breakdown
        cost = None if prices is None else _total(prices)
    except (*UNREADABLE, _Unusual):
        return _read_leniently(value or b"", appended_ms)
    if is_check(event.session_id):
        return None
    body = event.body
    ts, duration, status = body.ts, body.duration, body.call_status
    agent, metadata = event.agent_id, body.metadata
    return Ended(
        session_key(event.session_id),
        Revision(
            _received_at(event, appended_ms),
            event.event_id,
            event.caller.id,
            agent if agent is None or len(agent) <= MAX_AGENT_ID_LENGTH else None,
            status if status is None or status in KNOWN else OTHER,
            None if ts is None or not 0 < ts < MAX_TIMESTAMP_S else round(ts * 1_000_000),
            None if duration is None or not 0 <= duration < MAX_DURATION_S else round(duration * 1000),
            cost,
            _NO_METADATA if metadata is NULL else _metadata(metadata),
            event.recovered,
        ),
    )


def read_fact(key: bytes | None, value: bytes | None) -> Fact:
    """Raises `Unreadable` when the key is no fact's.

    The newest record of a key decides, even one that can't be read: compaction leaves no other.
    """
    try:
        caller_id, fact = parse_fact_key(key or b"")
    except ValueError as error:
        raise Unreadable(str(error)) from None
    if len(caller_id) > MAX_CALLER_ID_LENGTH:
        raise Unreadable("the caller's id in the key is too long")
    caller = caller_id.encode()
    if value is None:
        return Fact(caller, fact, None)
    try:
        said = _fact(value).value
        check_fact(fact, said)
        _packed(said)
    except (*UNREADABLE, FactError, Unreadable) as error:
        return Fact(caller, fact, None, str(error))
    return Fact(caller, fact, said)


def _received_at(event: _Known, appended_ms: int) -> int:
    """As `schemas.event.ordering` has it."""
    return min(event.received_at, appended_ms * 1000 + 999)


def _read_leniently(value: bytes, appended_ms: int) -> Ended | None:
    try:
        head = _head(value)
        envelope = decode_envelope(value)
        body = decode_end_of_call(envelope.body)
    except UNREADABLE as error:
        raise Unreadable(str(error)) from None
    if is_check(head.session_id):
        return None
    cost, cost_error = _lenient_cost(body)
    revision = Revision(
        _received_at(head, appended_ms),
        head.event_id,
        head.caller.id,
        None if envelope.agent_id is None or len(envelope.agent_id) > MAX_AGENT_ID_LENGTH else envelope.agent_id,
        body.status.value,
        body.started_at_us,
        body.duration_ms,
        cost,
        _metadata(body.metadata),
        envelope.recovered,
    )
    return Ended(session_key(head.session_id), revision, cost_error)


def _lenient_cost(body: EndOfCall) -> tuple[int | None, str | None]:
    try:
        cost = body.cost()
        return (None if cost is None else _bounded(cost.total_micros)), None
    except MoneyError as error:
        return None, str(error)


def _total(prices: list[_Price]) -> int | None:
    """As `schemas.cost.cost_of` has it, without the names, for prices as they usually are. Raises `_Unusual`.

    Below a million credits a float is off by less than 0.0005 micro-credits. So its nearest integer is that of the
    decimal text too, unless the text is near the middle between two.
    """
    total = 0
    for price in prices:
        credit = price.credit
        if credit is None:
            return None
        micros = credit * 1_000_000
        if not -MAX_CALL_MICROS < micros < MAX_CALL_MICROS:
            raise _Unusual
        nearest = round(micros)
        if not -0.499 < micros - nearest < 0.499:
            raise _Unusual
        total += nearest
    if not -MAX_CALL_MICROS <= total <= MAX_CALL_MICROS:
        raise _Unusual
    return total


def _bounded(micros: int) -> int:
    if abs(micros) > MAX_CALL_MICROS:
        raise MoneyError("the call's cost is out of range for a profile")
    return micros


def _metadata(raw: msgspec.Raw) -> bytes:
    """The session's own metadata as a MessagePack map; empty when it is none, or more than is remembered."""
    if raw is NULL or len(raw) > MAX_METADATA_BYTES:
        return _NO_METADATA
    try:
        value = _json(raw)
        return _packed(remembered(value)) if isinstance(value, dict) else _NO_METADATA
    except (*UNREADABLE, Unreadable):
        return _NO_METADATA


def _packed(value: Any) -> bytes:
    """As MessagePack. Raises `Unreadable` for what could not be read back: deep nesting, integers beyond 64 bits."""
    if nests_deeper(value, MAX_METADATA_DEPTH):
        raise Unreadable("it is nested too deep")
    try:
        return _msgpack.encode(value)
    except OverflowError:
        raise Unreadable("it holds an integer of more than 64 bits") from None
