"""What our user knows of a caller, written to `callers.facts`; over HTTP for a CRM, which can't compute our keys."""

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from runtime.clock import Clock
from runtime.ops import json_response
from schemas.caller import CallerIdentity
from schemas.event import CALLER_FACT, event_id, headers_of
from schemas.facts import MAX_FACTS, CallerFact, FactError, check_fact, fact_key
from schemas.topics import CALLERS_FACTS
from service.auth import Keys
from service.journal import Entry, Journal, NotDurable
from state.reader import ProfileReader

MAX_REQUEST_BYTES = 1024 * 1024  # two hundred facts of eight kilobytes are more than that, and more than anyone sends

_LATER = {"retry-after": "2"}


class _StateAway(ConnectionError):
    """There is no state store to ask, or it has not caught up."""


class FactBook:
    """Sets and deletes facts by phone number; each is one record, durable when the call returns."""

    def __init__(self, journal: Journal, identity: CallerIdentity, clock: Clock) -> None:
        self._journal = journal
        self._identity = identity
        self._clock = clock

    def caller_id(self, number: str) -> str:
        """Raises `FactError` when it is no phone number."""
        e164 = self._identity.e164(number.strip())
        if e164 is None:
            raise FactError("this is no phone number: write it as E.164, such as +15551234567")
        return self._identity.id_of_number(e164)

    async def write(self, number: str, facts: Mapping[str, Any]) -> int:
        """Sets each fact, or deletes it where the value is None. How many. Raises `FactError`, `NotDurable`."""
        caller_id = self.caller_id(number)
        kept = sum(value is not None for value in facts.values())
        if kept > MAX_FACTS:
            raise FactError(f"{kept} facts are too many for one caller: at most {MAX_FACTS}")
        for name, value in facts.items():
            check_fact(name, value)
        entries = [self._entry(caller_id, name, value) for name, value in facts.items()]
        await asyncio.gather(*(self._journal.publish(entry) for entry in entries))
        return len(entries)

    def _entry(self, caller_id: str, name: str, value: Any) -> Entry:
        now = self._clock()
        key = fact_key(caller_id, name)
        content = b"" if value is None else msgspec.json.encode(value)
        # The time is part of the id: to set a fact back to what it was is another event.
        id_ = event_id(CALLER_FACT, f"{caller_id}/{name}/{now}", content)
        encoded = None
        if value is not None:
            fact = CallerFact(event_id=id_, received_at=now, caller_id=caller_id, fact=name, value=value)
            encoded = msgspec.json.encode(fact)
        return Entry(CALLERS_FACTS, caller_id.encode(), key, encoded, headers_of(CALLER_FACT, id_, now))


def fact_routes(book: FactBook, reader: ProfileReader, keys: Keys) -> list[BaseRoute]:
    """`PUT`, `GET` and `DELETE /callers/{number}/facts`, behind `RINGLOG_OPS_KEY`."""

    async def facts(request: Request) -> Response:
        if not keys.admits(request.scope["headers"]):
            return Response(keys.refusal, 401, {"www-authenticate": "Bearer"}, media_type="application/json")
        number = request.path_params["number"]
        try:
            if request.method == "PUT":
                answer = await _put(book, reader, number, request)
            elif request.method == "DELETE":
                answer = await _delete(book, reader, number, request.query_params.get("fact"))
            else:
                answer = _get(book, reader, number)
        except FactError as error:
            answer = json_response({"error": str(error)}, 400)
        except _StateAway:
            answer = json_response({"error": "What is known of callers is not there yet; try again."}, 503, _LATER)
        except NotDurable as error:
            answer = json_response({"error": f"The facts could not be made durable: {error}."}, 503, _LATER)
        return answer

    return [Route("/callers/{number}/facts", facts, methods=["GET", "PUT", "DELETE"])]


async def _put(book: FactBook, reader: ProfileReader, number: str, request: Request) -> Response:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_REQUEST_BYTES:
            return json_response({"error": f"The body is larger than {MAX_REQUEST_BYTES} bytes."}, 413)
    try:
        facts = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise FactError('the body must be a JSON object of facts, such as {"tier": "gold"}') from None
    if reader.available:
        known = _known(reader, book.caller_id(number)).keys() - {name for name, value in facts.items() if value is None}
        if len(known | facts.keys()) > MAX_FACTS:
            raise FactError(f"with these the caller would have more than {MAX_FACTS} facts")
    return json_response({"written": await book.write(number, facts)})


def _get(book: FactBook, reader: ProfileReader, number: str) -> Response:
    caller_id = book.caller_id(number)
    return json_response({"caller_id": caller_id, "facts": _known(reader, caller_id)})


async def _delete(book: FactBook, reader: ProfileReader, number: str, fact: str | None) -> Response:
    """Without a name: all that the state has seen. A fact written a moment ago may not be among them."""
    caller_id = book.caller_id(number)
    names = [fact] if fact is not None else _known(reader, caller_id)
    return json_response({"deleted": await book.write(number, dict.fromkeys(names))})


def _known(reader: ProfileReader, caller_id: str) -> dict[str, Any]:
    """Raises `_StateAway`: no state is not the same as no facts."""
    if not reader.available:
        raise _StateAway
    profile = reader.get(caller_id)
    return profile.facts if profile else {}
