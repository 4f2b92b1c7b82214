"""Events as the fold reads them: one typed decode each, and the lenient way for those of an odd shape.

Nothing here that is read holds a cycle, so the collector need not look at any of it (`gc=False`): a batch has a hundred
thousand objects.
"""

from functools import lru_cache
from typing import Annotated, Any

import msgspec

from schemas.end_of_call import MAX_DURATION_S, MAX_TIMESTAMP_S, EndOfCall, decode_end_of_call
from schemas.event import ReceivedAt, decode_envelope
from schemas.facts import CallerFact, FactError, check_fact, parse_fact_key
from schemas.lenient import NULL, UNREADABLE, nests_deeper
from schemas.money import MoneyError, micros_of_json
from schemas.session_metadata import remembered
from schemas.status import KNOWN, OTHER
from state.profile import EMPTY_MAP
from state.session import Prefetch, Revision

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

_LITERAL_BYTES = 20  # a usual price; what is longer takes the slow way

_NO_METADATA = bytes(EMPTY_MAP)


class Unreadable(ValueError):
    """An event that is not what its topic promises."""


class Ended(msgspec.Struct, frozen=True, gc=False):
    """`cost_error`: why the cost, which counts as unknown, could not be read."""

    session_id: str
    revision: Revision
    cost_error: str | None = None


class _Caller(msgspec.Struct, gc=False):
    id: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_CALLER_ID_LENGTH)]


class _Price(msgspec.Struct, gc=False):
    credit: msgspec.Raw = NULL


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


_prefetched = msgspec.json.Decoder(_Prefetched)
_ended = msgspec.json.Decoder(_Ended)
_head = msgspec.json.Decoder(_Known)
_fact = msgspec.json.Decoder(CallerFact)
_json = msgspec.json.Decoder()
_msgpack = msgspec.msgpack.Encoder()


def read_prefetched(value: bytes | None, appended_ms: int) -> tuple[str, Prefetch]:
    """The session's id, and that it was announced. Raises `Unreadable`."""
    try:
        event = _prefetched.decode(value or b"")
    except UNREADABLE as error:
        raise Unreadable(str(error)) from None
    return event.session_id, Prefetch(_received_at(event, appended_ms), event.event_id, event.caller.id)


def read_ended(value: bytes | None, appended_ms: int) -> Ended:
    """Raises `Unreadable`."""
    try:
        event = _ended.decode(value or b"")
        cost = _total(event.body.cost_breakdown)
    except UNREADABLE:
        return _read_leniently(value or b"", appended_ms)
    except MoneyError as error:
        return _ended_of(event, appended_ms, None, str(error))
    return _ended_of(event, appended_ms, cost, None)


def read_fact(key: bytes | None, value: bytes | None) -> tuple[str, str, Any, str | None]:
    """`(caller_id, fact, value, error)`; a value of None deletes. Raises `Unreadable` when the key is no fact's.

    The newest record of a key decides, even one that can't be read: compaction leaves no other.
    """
    try:
        caller_id, fact = parse_fact_key(key or b"")
    except ValueError as error:
        raise Unreadable(str(error)) from None
    if len(caller_id) > MAX_CALLER_ID_LENGTH:
        raise Unreadable("the caller's id in the key is too long")
    if value is None:
        return caller_id, fact, None, None
    try:
        said = _fact.decode(value).value
        check_fact(fact, said)
        _packed(said)
    except (*UNREADABLE, FactError, Unreadable) as error:
        return caller_id, fact, None, str(error)
    return caller_id, fact, said, None


def _received_at(event: _Known, appended_ms: int) -> int:
    """As `schemas.event.ordering` has it."""
    return min(event.received_at, appended_ms * 1000 + 999)


def _ended_of(event: _Ended, appended_ms: int, cost: int | None, cost_error: str | None) -> Ended:
    body = event.body
    ts, duration, status = body.ts, body.duration, body.call_status
    agent, metadata = event.agent_id, body.metadata
    return Ended(
        event.session_id,
        Revision(
            _received_at(event, appended_ms),
            event.event_id,
            event.caller.id,
            agent if agent is None or len(agent) <= MAX_AGENT_ID_LENGTH else None,
            status if status is None or status in KNOWN else OTHER,
            round(ts * 1_000_000) if ts is not None and 0 < ts < MAX_TIMESTAMP_S else None,
            round(duration * 1000) if duration is not None and 0 <= duration < MAX_DURATION_S else None,
            cost,
            _NO_METADATA if metadata is NULL else _metadata(metadata),
            event.recovered,
        ),
        cost_error,
    )


def _read_leniently(value: bytes, appended_ms: int) -> Ended:
    try:
        head = _head.decode(value)
        envelope = decode_envelope(value)
        body = decode_end_of_call(envelope.body)
    except UNREADABLE as error:
        raise Unreadable(str(error)) from None
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
    return Ended(head.session_id, revision, cost_error)


def _lenient_cost(body: EndOfCall) -> tuple[int | None, str | None]:
    try:
        cost = body.cost()
        return (None if cost is None else _bounded(cost.total_micros)), None
    except MoneyError as error:
        return None, str(error)


def _total(prices: list[_Price] | None) -> int | None:
    """As `schemas.cost.cost_of` has it, without the names. Raises `MoneyError`."""
    if prices is None:
        return None
    total = 0
    for price in prices:
        micros = _micros(price.credit)
        if micros is None:
            return None
        total += micros
    return _bounded(total)


def _micros(credit: msgspec.Raw) -> int | None:
    """As `schemas.money.micros_of_json` has it. Raises `MoneyError`."""
    literal = bytes(credit)
    return _usual_micros(literal) if len(literal) <= _LITERAL_BYTES else micros_of_json(literal)


@lru_cache(maxsize=4096)  # prices are small numbers of few digits, and come again
def _usual_micros(literal: bytes) -> int | None:
    """The same, in a sixth of the time.

    Below a million credits a float is off by less than 0.0005 micro-credits. So its nearest integer is that of the
    decimal text too, unless the text is near the middle between two.
    """
    try:
        micros = float(literal) * 1_000_000
    except ValueError:
        return micros_of_json(literal)
    if -MAX_CALL_MICROS < micros < MAX_CALL_MICROS:
        nearest = round(micros)
        if -0.499 < micros - nearest < 0.499:
            return nearest
    return micros_of_json(literal)


def _bounded(micros: int) -> int:
    if abs(micros) > MAX_CALL_MICROS:
        raise MoneyError("the call's cost is out of range for a profile")
    return micros


def _metadata(raw: msgspec.Raw) -> bytes:
    """The session's own metadata as a MessagePack map; empty when it is none, or more than is remembered."""
    if raw is NULL or len(raw) > MAX_METADATA_BYTES:
        return _NO_METADATA
    try:
        value = _json.decode(raw)
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
