"""Two stores at the same positions: which of their rows differ."""

from collections.abc import Iterator, Mapping, Set
from typing import Any

import msgspec

from state.dump import described
from state.layout import Damaged, seal, unseal
from state.profile import ProfileRow
from state.view import DATABASES, Row

# By caller: the names of facts of which nothing can be said.
Unknown = Mapping[bytes, Set[str]]

_PLACE = {name: place for place, name in enumerate(DATABASES)}

_decode_row = msgspec.msgpack.Decoder(ProfileRow).decode
_encode = msgspec.msgpack.Encoder().encode


class Difference(msgspec.Struct, frozen=True):
    """What the two say of one row, as in a dump; None: one has no such row. A value that is damaged is said so."""

    database: str
    key: str  # a caller's id, or the hash of a session's in hex
    live: dict[str, Any] | None
    rebuilt: dict[str, Any] | None


def differences(live: Iterator[Row], rebuilt: Iterator[Row], unknown: Unknown) -> Iterator[Difference | None]:
    """One for each row that differs, None for each that doesn't: whoever waits sees how far it is.

    Both must be sorted, as views and stores give them. `unknown` facts may say anything, in either of the two.
    """
    for one, other in _paired(live, rebuilt):
        if one == other or _same_but_for(one, other, unknown):
            yield None
        else:
            yield _difference(one, other)


def _paired(live: Iterator[Row], rebuilt: Iterator[Row]) -> Iterator[tuple[Row | None, Row | None]]:
    one, other = next(live, None), next(rebuilt, None)
    while one is not None or other is not None:
        if other is None or (one is not None and _order(one) < _order(other)):
            yield one, None
            one = next(live, None)
        elif one is None or _order(other) < _order(one):
            yield None, other
            other = next(rebuilt, None)
        else:
            yield one, other
            one, other = next(live, None), next(rebuilt, None)


def _order(row: Row) -> tuple[int, bytes, bytes]:
    database, key, value = row
    return _PLACE[database], key, value if database == "calls" else b""


def _same_but_for(one: Row | None, other: Row | None, unknown: Unknown) -> bool:
    database, caller, _ = one or other or ("", b"", b"")
    names = unknown.get(caller)
    if database != "profiles" or not names:
        return False
    try:
        return _without(one, names) == _without(other, names)
    except (Damaged, msgspec.DecodeError):
        return False


def _without(row: Row | None, names: Set[str]) -> bytes | None:
    """The profile as it would be without these facts; None when nothing would be left of it."""
    if row is None:
        return None
    _, caller, sealed = row
    profile = _decode_row(unseal(caller, sealed))
    for name in names:
        profile.set_fact(name, None)
    if profile.is_empty:
        return None
    return seal(caller, _encode(profile))


def _difference(one: Row | None, other: Row | None) -> Difference:
    database, key, _ = one or other or ("", b"", b"")
    name = key.hex() if database == "sessions" else key.decode(errors="backslashreplace")
    return Difference(database, name, _said(one), _said(other))


def _said(row: Row | None) -> dict[str, Any] | None:
    if row is None:
        return None
    try:
        return described(row)
    except Damaged as error:
        return {"database": row[0], "damaged": str(error)}
