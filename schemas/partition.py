"""Which partition a key belongs to: Kafka's own rule, so that a producer in any language agrees with ours."""

import struct

_M = 0x5BD1E995
_MASK = 0xFFFFFFFF


def partition_of(key: bytes, partitions: int) -> int:
    """As the Java client's default partitioner: murmur2 of the key, its sign bit cleared, modulo."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def murmur2(data: bytes) -> int:
    """MurmurHash2, 32 bits, with Kafka's seed. Unsigned."""
    length = len(data)
    h = 0x9747B28C ^ length
    whole = length & ~3
    for word in struct.unpack_from(f"<{length // 4}I", data):
        k = word * _M & _MASK
        k = (k ^ (k >> 24)) * _M & _MASK
        h = (h * _M & _MASK) ^ k
    if whole < length:
        h = (h ^ int.from_bytes(data[whole:], "little")) * _M & _MASK
    h = (h ^ (h >> 13)) * _M & _MASK
    return h ^ (h >> 15)
