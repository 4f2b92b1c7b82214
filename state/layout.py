"""Where things lie in a store, and the seal by which a reader knows that it reads what was written."""

import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

# What a reader must know to read a store: the databases, the seals, and the shape of a profile. Not the rules by which
# profiles come about (`state.fold.FOLD_VERSION`): while a new fold version builds its own store, the old one is served.
STORE_FORMAT = 1

# One environment, four databases; a transaction spans all of them.
PROFILES = b"profiles"  # caller -> sealed profile
SESSIONS = b"sessions"  # hash of the session id -> sealed session
CALLS = b"calls"  # caller -> hashes of its sessions (several values a key)
META = b"meta"  # what the store is, and how far it has read

ABOUT_KEY = b"about"
FORMAT_KEY = b"format"
_POSITION = b"position/"

DATA_FILE = "data.mdb"

# Written by a reader that found damage: it can't repair the store, and the builder may not come across the page.
DAMAGE_MARK = "damaged"

_SEAL_BYTES = 4

# What CRC-32 comes to over anything that is followed by its own CRC-32, whatever it is.
_RESIDUE = 0x2144DF1C

# LMDB needn't write pages that were freed before their commit, so a sound file may end a little early.
_UNWRITTEN_PAGES = 8


class Damaged(Exception):
    """The store does not hold what was written into it."""


class UnknownFormat(Exception):
    """Another version of ringlog wrote the store, in a way that this one can't read."""


class About(msgspec.Struct, array_like=True, frozen=True):
    """`lineage` names the topics it was built from. Until `caught_up` its profiles are halves, and none is served.

    `seen_at_ms`: when it last was at the ends of its topics, or last read from them.
    """

    lineage: str
    caught_up: bool
    seen_at_ms: int


def seal(key: bytes, content: bytes) -> bytes:
    """With a checksum of key and content: LMDB has none, and a flipped bit would be somebody's money."""
    return content + zlib.crc32(content, zlib.crc32(key)).to_bytes(_SEAL_BYTES, "little")


def unseal(key: bytes, sealed: bytes | memoryview) -> bytes | memoryview:
    """Raises `Damaged`."""
    if zlib.crc32(sealed, zlib.crc32(key)) != _RESIDUE:
        raise Damaged("a value does not match its checksum")
    return sealed[:-_SEAL_BYTES]


def check_format(stored: bytes | None) -> None:
    """Of what `META` has under `FORMAT_KEY`. Raises `UnknownFormat` and `Damaged`."""
    found = None if stored is None else bytes(unseal(FORMAT_KEY, stored)).decode()
    if found != str(STORE_FORMAT):
        raise UnknownFormat(f"its format is {found}, and this version of ringlog reads format {STORE_FORMAT}")


def position_key(topic: str, partition: int) -> bytes:
    return _POSITION + f"{topic}/{partition}".encode()


def positions_of(items: Iterable[tuple[bytes, bytes]]) -> dict[tuple[str, int], int]:
    """From the items of `META`: catalogue's topic and partition -> the next offset. Raises `Damaged`."""
    positions = {}
    for key, value in items:
        if key.startswith(_POSITION):
            offset = int(bytes(unseal(key, value)))
            topic, _, partition = key.removeprefix(_POSITION).decode().rpartition("/")
            positions[topic, int(partition)] = offset
    return positions


def check_length(env: Any, path: Path) -> int:
    """How many bytes its data file lacks at the end. Raises `Damaged` when these were once written.

    A page beyond the end of the file would kill the process that reads it.
    """
    page: int = env.stat()["psize"]
    missing: int = (env.info()["last_pgno"] + 1) * page - (path / DATA_FILE).stat().st_size
    if missing > _UNWRITTEN_PAGES * page:
        raise Damaged(f"{missing} bytes at its end are missing")
    return max(0, missing)
