"""What our user knows of a caller: one record a fact, so that compaction can't eat a half of it."""

from typing import Any

import msgspec

from schemas.lenient import nests_deeper
from schemas.session_metadata import COMPUTED_PREFIX

MAX_FACT_NAME_LENGTH = 128
MAX_FACT_BYTES = 8 * 1024  # of one value as JSON: an answer carries all facts of a caller
MAX_FACT_DEPTH = 32  # far from where decoders give up, which depends on who calls them
MAX_FACTS = 200  # of one caller


class CallerFact(msgspec.Struct, frozen=True, kw_only=True):
    """The value of a record in `callers.facts`. A record without a value (a tombstone) deletes the fact."""

    event_id: str
    received_at: int
    caller_id: str
    fact: str
    value: Any


class FactError(ValueError):
    """A fact that can't be kept; the text says why."""


def check_fact(name: str, value: Any) -> None:
    """Raises `FactError`."""
    if not name or len(name) > MAX_FACT_NAME_LENGTH or not name.isprintable() or "/" in name:
        raise FactError(
            f"the fact's name {name[:40]!r} must have 1 to {MAX_FACT_NAME_LENGTH} printable characters and no slash"
        )
    if name.startswith(COMPUTED_PREFIX):
        raise FactError(f"the fact {name!r} can't be kept: names with {COMPUTED_PREFIX} are computed")
    if nests_deeper(value, MAX_FACT_DEPTH):
        raise FactError(f"the fact {name!r} can't be kept: it nests deeper than {MAX_FACT_DEPTH}")
    try:
        size = len(msgspec.json.encode(value))
        msgspec.msgpack.encode(value)  # as the state keeps it, which knows no integers of more than 64 bits
    except (TypeError, ValueError, UnicodeEncodeError, OverflowError, RecursionError) as error:
        raise FactError(f"the fact {name!r} can't be kept: {error}") from None
    if size > MAX_FACT_BYTES:
        raise FactError(f"the fact {name!r} has {size} bytes as JSON; at most {MAX_FACT_BYTES} are kept")


def fact_key(caller_id: str, fact: str) -> bytes:
    return f"{caller_id}/{fact}".encode()


def parse_fact_key(key: bytes) -> tuple[str, str]:
    """`(caller_id, fact)`. Raises `ValueError` when it is no fact's key."""
    try:
        caller_id, _, fact = key.decode().partition("/")
    except UnicodeDecodeError:
        caller_id, fact = "", ""
    if not caller_id or not fact:
        # Not the key itself, which goes into logs: what somebody else writes there may be a phone number.
        raise ValueError(f"a key of {len(key)} bytes is no fact's: expected <caller>/<fact>")
    return caller_id, fact
