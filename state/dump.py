"""A store as text: a line of JSON a row, sorted. Equal stores give equal lines, and other stores other ones."""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from state.layout import Damaged, positions_of, unseal
from state.profile import Profile
from state.session import Prefetch, Revision, Session
from state.view import POSITIONS, Row

_decode_profile = msgspec.msgpack.Decoder(Profile).decode
_decode_session = msgspec.msgpack.Decoder(Session).decode
_decode_map = msgspec.msgpack.Decoder(dict[str, Any]).decode

_encode = msgspec.json.Encoder().encode


def described(row: Row) -> dict[str, Any]:
    """The row, readable: times in microseconds since the epoch, money in micro-credits, keys of sessions in hex.

    Raises `Damaged` when the value is not what was written.
    """
    database, key, value = row
    try:
        return {"database": database} | _READ[database](key, value)
    except (msgspec.DecodeError, ValueError, TypeError) as error:
        raise Damaged(str(error)) from error


def lines_of(rows: Iterable[Row]) -> Iterator[bytes]:
    """A line of JSON a row, without its end. Raises as `described`."""
    for row in rows:
        yield _encode(described(row))


def digest_of(rows: Iterable[Row]) -> str:
    """The sha256 of the lines, each with its end: what `sha256sum` says of a dump. Raises as `described`."""
    digest = hashlib.sha256()
    for line in lines_of(rows):
        digest.update(line + b"\n")
    return digest.hexdigest()


def described_session(session: Session) -> dict[str, Any]:
    return {
        "prefetch": None if session.prefetch is None else _members(session.prefetch),
        "revisions": [
            _members(revision) | {"metadata": _decode_map(revision.metadata)} for revision in session.revisions
        ],
    }


def described_profile(profile: Profile) -> dict[str, Any]:
    first, last = profile.first_session, profile.last_session
    return _members(profile) | {
        "first_session": None if first is None else first.hex(),
        "last_session": None if last is None else last.hex(),
    }


def _profile(caller: bytes, sealed: bytes) -> dict[str, Any]:
    return {"caller": _text(caller)} | described_profile(_decode_profile(unseal(caller, sealed)))


def _session(key: bytes, sealed: bytes) -> dict[str, Any]:
    return {"session": key.hex()} | described_session(_decode_session(unseal(key, sealed)))


def _call(caller: bytes, session: bytes) -> dict[str, Any]:
    return {"caller": _text(caller), "session": session.hex()}


def _position(key: bytes, sealed: bytes) -> dict[str, Any]:
    ((topic, partition), offset) = next(iter(positions_of([(key, sealed)]).items()))
    return {"topic": topic, "partition": partition, "next_offset": offset}


_READ = {"profiles": _profile, "sessions": _session, "calls": _call, POSITIONS: _position}


def _members(struct: Profile | Prefetch | Revision) -> dict[str, Any]:
    return {name: getattr(struct, name) for name in struct.__struct_fields__}


def _text(key: bytes) -> str:
    return key.decode(errors="backslashreplace")
