"""How an event lies in the spool: sealed, so that whoever reads it knows that it is what was written.

A frame is magic, length, checksum, content. It lies in one piece in the data file, wherever LMDB puts it, so that
`service.journal.salvage` finds it without LMDB. Small, because the process that checks a spool imports it.
"""

import struct
import zlib

import msgspec

from service.journal.spool_errors import SpoolDamaged

# None of these bytes occurs in UTF-8: nothing that is text holds what looks like a frame.
MAGIC = bytes.fromhex("f8fec0fac1fdfbf9")

_HEADER = struct.Struct(">8sII")  # magic, CRC-32 of the key and of what follows here, bytes of the content
_SUMMED_FROM = 12
HEADER_BYTES = _HEADER.size

# Several times the largest event that Kafka takes from us: a length beyond it was never written.
MAX_CONTENT_BYTES = 64 * 1024 * 1024

_KEY = struct.Struct(">QI")


class SealedEvent(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    """`hash` is the murmur2 of `partition_by`, `topic` the catalogue's name. `refused_at` is in microseconds since the
    epoch, 0 while it waits."""

    seq: int
    hash: int
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
    frame = bytearray(_HEADER.pack(MAGIC, 0, len(content)) + content)
    frame[len(MAGIC) : _SUMMED_FROM] = _checksum(key_of(event), frame).to_bytes(4, "big")
    return bytes(frame)


def unseal(frame: bytes | memoryview) -> SealedEvent:
    """Raises `SpoolDamaged`."""
    try:
        event = _decode(frame[HEADER_BYTES:])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SpoolDamaged(f"an event can't be read: {error}") from error
    check(key_of(event), frame)
    return event


def check(key: bytes, frame: bytes | memoryview) -> None:
    """Without decoding it: whether it is what was sealed, and lies under the key under which it was put. Raises
    `SpoolDamaged`."""
    if len(frame) < HEADER_BYTES or _HEADER.unpack_from(frame) != (
        MAGIC,
        _checksum(key, frame),
        len(frame) - HEADER_BYTES,
    ):
        raise SpoolDamaged("an event does not match its checksum")


def length_of_frame(header: bytes) -> int | None:
    """Of the frame that begins with these `HEADER_BYTES`, all of it. None when none begins there."""
    if len(header) < HEADER_BYTES:
        return None
    magic, _, length = _HEADER.unpack_from(header)
    return HEADER_BYTES + length if magic == MAGIC and length <= MAX_CONTENT_BYTES else None


def key_of(event: SealedEvent) -> bytes:
    """Sequence number, hash of what decides the partition, topic: what waits is known without reading values."""
    return _KEY.pack(event.seq, event.hash) + event.topic.encode()


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


def _checksum(key: bytes, frame: bytes | bytearray | memoryview) -> int:
    return zlib.crc32(frame[_SUMMED_FROM:], zlib.crc32(key))
