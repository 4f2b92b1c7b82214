"""What says that there is a snapshot, and all about it: a small object beside the large one, written last."""

import hashlib
import struct
import sys
from typing import Any

import msgspec

from state.fold import FOLD_VERSION
from state.layout import STORE_FORMAT, About

FORMAT = 1

# LMDB's file is that of a machine: the order of its bytes, and the bits of its addresses.
MACHINE = f"{sys.byteorder}-{struct.calcsize('P') * 8}"

# A block is compressed by itself, so that none is larger in memory than this, whatever the size of the store; large
# enough that a request for each doesn't count, and that compression finds what repeats.
BLOCK_BYTES = 4 * 1024 * 1024

# What zstd may add to a block that can't be compressed is far less.
_LARGEST_COMPRESSED = BLOCK_BYTES + BLOCK_BYTES // 16


class BadSnapshot(Exception):
    """It is torn, was changed, or is of no use here. The text says why."""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """`bytes` and `sha256` are those of the data file as it was copied, `blocks` the sizes of its compressed blocks.

    `positions` by `<catalogue's topic>/<partition>`; `lineage` and `seen_at_ms` are those of `state.layout.About`.
    """

    name: str
    taken_at_ms: int
    fold_version: int
    store_format: int
    machine: str
    lineage: str
    seen_at_ms: int
    positions: dict[str, int]
    profiles: int
    bytes: int
    sha256: str
    blocks: list[int]

    @property
    def compressed_bytes(self) -> int:
        return sum(self.blocks)

    @property
    def about(self) -> About:
        """Of the store that it becomes: nobody is served before it has caught up."""
        return About(self.lineage, False, self.seen_at_ms)

    @property
    def offsets(self) -> dict[tuple[str, int], int]:
        """By catalogue's topic and partition."""
        split = ((place.rpartition("/"), offset) for place, offset in self.positions.items())
        return {(topic, int(number)): offset for (topic, _, number), offset in split}


class _Sealed(msgspec.Struct):
    """This outer shape never changes: whatever comes in it can be told from what was spoilt."""

    format: int
    sha256: str
    snapshot: msgspec.Raw


def encoded(snapshot: Snapshot) -> bytes:
    content = msgspec.json.encode(snapshot)
    return msgspec.json.encode(_Sealed(FORMAT, hashlib.sha256(content).hexdigest(), msgspec.Raw(content))) + b"\n"


def decoded(name: str, content: bytes) -> Snapshot:
    """Raises `BadSnapshot`."""
    try:
        sealed = msgspec.json.decode(content, type=_Sealed)
        if hashlib.sha256(sealed.snapshot).hexdigest() != sealed.sha256:
            raise BadSnapshot("its manifest does not match its checksum")
        if sealed.format != FORMAT:
            raise BadSnapshot(f"its format is {sealed.format}, and this version of ringlog reads {FORMAT}")
        snapshot = msgspec.json.decode(sealed.snapshot, type=Snapshot)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadSnapshot(f"its manifest can't be read ({error})") from None
    _check(name, snapshot)
    return snapshot


def _check(name: str, snapshot: Snapshot) -> None:
    """Raises `BadSnapshot`."""
    wrong: dict[str, Any] = {
        "name": snapshot.name != name,
        "blocks": len(snapshot.blocks) != -(-snapshot.bytes // BLOCK_BYTES),
        "sizes": not all(0 < size <= _LARGEST_COMPRESSED for size in snapshot.blocks),
    }
    if any(wrong.values()):
        raise BadSnapshot(
            f"its manifest contradicts itself ({', '.join(what for what, is_so in wrong.items() if is_so)})"
        )


def unreadable_here(snapshot: Snapshot) -> str | None:
    """Why this version of ringlog, on this machine, can't go on with it: a sentence, or None."""
    if snapshot.fold_version != FOLD_VERSION:
        return f"it follows the rules of fold version {snapshot.fold_version}, not {FOLD_VERSION}"
    if snapshot.store_format != STORE_FORMAT:
        return f"its store has format {snapshot.store_format}, not {STORE_FORMAT}"
    if snapshot.machine != MACHINE:
        return f"it is of another kind of machine ({snapshot.machine}, and this one is {MACHINE})"
    return None
