"""How an event lies in the spool: sealed, so that whoever reads it knows that it is what was written.

A frame is magic, length, checksum, content. It lies in one piece in the data file, wherever LMDB puts it, so that
`service.journal.salvage` finds it without LMDB. Small, because the process that checks a spool imports it.
"""

import struct
import zlib

import msgspec

from schemas.partition import murmur2
from service.journal.spool_errors import SpoolDamaged

# None of these bytes occurs in UTF-8: nothing that is text holds what looks like a frame.
MAGIC = bytes.fromhex("f8fec0fac1fdfbf9")

_HEADER = struct.Struct(">8sII")  # magic, bytes of the content, CRC-32 of length and content
HEADER_BYTES = _HEADER.size

# Several times the largest event that Kafka takes from us: a length beyond it was never written.
MAX_CONTENT_BYTES = 64 * 1024 * 1024

_KEY = struct.Struct(">QI")
_LENGTH = struct.Struct(">I")


class SealedEvent(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    """`topic` is the catalogue's name. `refused_at` is in microseconds since the epoch, 0 while it waits."""

    seq: int
    topic: str
    partition_by: bytes
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]
    reason: str = ""
    refused_at: int = 0


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(SealedEvent).decode


def seal(event: SealedEvent) -> bytes:
    content = _encode(event)
    return _HEADER.pack(MAGIC, len(content), _checksum(content)) + content


def unseal(frame: bytes | memoryview) -> SealedEvent:
    """Raises `SpoolDamaged`."""
    content = frame[HEADER_BYTES:]
    if len(frame) < HEADER_BYTES or _HEADER.unpack_from(frame) != (MAGIC, len(content), _checksum(content)):
        raise SpoolDamaged("an event does not match its checksum")
    try:
        return _decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SpoolDamaged(f"an event can't be read: {error}") from error


def length_of_frame(header: bytes) -> int | None:
    """Of the frame that begins with these `HEADER_BYTES`, all of it. None when none begins there."""
    if len(header) < HEADER_BYTES:
        return None
    magic, length, _ = _HEADER.unpack_from(header)
    return HEADER_BYTES + length if magic == MAGIC and length <= MAX_CONTENT_BYTES else None


def key_of(event: SealedEvent) -> bytes:
    """Sequence number, hash of what decides the partition, topic: what waits is known without reading values."""
    return _KEY.pack(event.seq, murmur2(event.partition_by)) + event.topic.encode()


def seq_key(seq: int) -> bytes:
    """With which the key of this number begins, and of no other."""
    return seq.to_bytes(8, "big")


def parts_of(key: bytes | memoryview) -> tuple[int, int, str]:
    """Sequence number, hash, topic. Raises `SpoolDamaged`."""
    try:
        seq, hash_ = _KEY.unpack_from(key)
        return seq, hash_, str(key[_KEY.size :], "utf-8")
    except (struct.error, UnicodeDecodeError) as error:
        raise SpoolDamaged(f"a key can't be read: {error}") from error


def _checksum(content: bytes | memoryview) -> int:
    return zlib.crc32(content, zlib.crc32(_LENGTH.pack(len(content))))
